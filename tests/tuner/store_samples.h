/* SPDX-License-Identifier: MIT */
/* Stores for tests. Inline functions: not every program uses all of them. */
#ifndef TEST_STORE_SAMPLES_H
#define TEST_STORE_SAMPLES_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tuner/store.h"

static inline struct tr_store_machine sample_machine(const char *id)
{
    struct tr_store_machine m = {.hard = "vendor 6/143/8; 2 cores", .quota = 1.5, .utc = 1000};
    snprintf(m.id, sizeof m.id, "%s", id);
    m.n_points = 2;
    m.points[0] = (struct tr_store_point){1, 12.5, 0.25, 0.0625};
    m.points[1] = (struct tr_store_point){2, 20, 0.5, 0.125};
    return m;
}

/* Entry number i of a machine: each i has its own context. Generation 0. */
static inline struct tr_wisdom sample_wisdom(uint32_t machine, uint32_t i)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    struct tr_wisdom w = {.machine = machine,
                          .variant = "gemm_q4_k_fast",
                          .reference = "gemm_q4_k_usual",
                          .version = UINT64_C(0xfedcba9876543210),
                          .log_ratio = -0.125,
                          .half_width = 0.03125,
                          .mde = 0.01,
                          .blocks = 10,
                          .effort = TR_EFFORT_NORMAL,
                          .state = TR_WISDOM_VERIFIED,
                          .utc = 1700000000};
    p.rows = 256 * ((size_t)i + 1);
    p.cols = 4096;
    p.threads = 4;
    p.n_cols = 1 + i % 20;
    if (tr_wisdom_set_problem(&w, &p, NULL) != TRUENO_OK) abort();
    return w;
}

/* n_machines machines "machine 0".., each with n_entries entries, put n_times. */
static inline void fill_sample(struct tr_store *s, uint32_t n_machines, uint32_t n_entries,
                               uint32_t n_times)
{
    for (uint32_t m = 0; m < n_machines; m++) {
        char id[24];
        uint32_t index;
        snprintf(id, sizeof id, "machine %u", m);
        const struct tr_store_machine machine = sample_machine(id);
        if (tr_store_put_machine(s, &index, &machine, NULL) != TRUENO_OK) abort();
        for (uint32_t i = 0; i < n_entries * n_times; i++) {
            const struct tr_wisdom w = sample_wisdom(index, i % n_entries);
            if (tr_store_put(s, &w, NULL) != TRUENO_OK) abort();
        }
    }
}

#endif
