/* SPDX-License-Identifier: MIT */
/* Tuners for tests of the tuner as a whole. Include cmocka before it. */
#ifndef TUNER_TEST_H
#define TUNER_TEST_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tuner/tuner_runs.h"

static inline trueno_ctx *make_context(void)
{
    trueno_ctx *c;
    assert_int_equal(trueno_ctx_new(&c, NULL, NULL), TRUENO_OK);
    return c;
}

/* One context for all tests of a file: cmocka_run_group_tests(tests, make_shared, free_shared). */
static trueno_ctx *ctx;

static inline int make_shared(void **state)
{
    (void)state;
    ctx = make_context();
    return 0;
}

static inline int free_shared(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

/* Without a file. */
static inline trueno_tuner *make_tuner(trueno_ctx *c, trueno_tuner_mode mode)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *t;
    o.mode = mode;
    o.store_path = "";
    if (trueno_tuner_new(c, &t, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return t;
}

static inline void same_prediction(const trueno_prediction *a, const trueno_prediction *b)
{
    assert_true(a->predicted_tps == b->predicted_tps && a->lo == b->lo && a->hi == b->hi);
    assert_true(a->level == b->level && a->roofline_tps == b->roofline_tps);
    assert_true(a->efficiency == b->efficiency && a->confidence == b->confidence);
    assert_true(a->ttft_ms == b->ttft_ms && a->source == b->source && a->bound == b->bound);
    assert_int_equal(a->reference_hardware, b->reference_hardware);
}

/* Kernels that the tuner would try for a problem, by what a learning one hands out; out[0] is the
 * default. Returns their number. */
static inline size_t kernels_tried(trueno_ctx *c, const char *out[8], const trueno_problem *p)
{
    trueno_tuner *t = make_tuner(c, TRUENO_TUNER_LEARN), *plain = make_tuner(c, TRUENO_TUNER_OFF);
    trueno_pick pick = TRUENO_PICK_INIT;
    size_t n = 1;
    assert_int_equal(trueno_tuner_plan(plain, &pick, p), TRUENO_OK);
    out[0] = pick.variant;
    for (int i = 0; i < 200; i++) {
        size_t k = 0;
        assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
        while (k < n && strcmp(out[k], pick.variant) != 0) k++;
        if (k == n && n < 8) out[n++] = pick.variant;
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, 100000, 0), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
    trueno_tuner_free(plain);
    trueno_tuner_free(t);
    return n;
}

/* Plays n calls of a problem: 100 us with noise of 4 %, by the variant `fast` 80 us. */
static inline void play(trueno_tuner *t, const trueno_problem *p, const char *fast, int n)
{
    uint32_t noise = 1;
    for (int i = 0; i < n; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
        noise = noise * 1664525U + 1013904223U;
        uint64_t ns = (strcmp(pick.variant, fast) == 0 ? 80000 : 100000) + (noise >> 20);
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, ns, 0), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
}

#endif
