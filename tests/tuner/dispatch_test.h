/* SPDX-License-Identifier: MIT */
/* Problems, tuners and made-up measurements for tests of the table of choices. */
#ifndef DISPATCH_TEST_H
#define DISPATCH_TEST_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hooks.h"
#include "trueno/kernels.h"
#include "tuner/tuner_impl.h"

/* A problem of one column, where arms of every width compete. */
static inline trueno_problem problem(size_t rows)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.rows = rows;
    p.cols = 2048;
    return p;
}

static inline trueno_tuner *tuner(trueno_ctx *ctx, trueno_tuner_mode mode, const char *path)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *t;
    o.mode = mode;
    o.store_path = path ? path : "";
    if (trueno_tuner_new(ctx, &t, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return t;
}

static inline trueno_ctx *context(void)
{
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    return ctx;
}

static inline const char *variant_of(trueno_tuner *t, const trueno_problem *p)
{
    trueno_pick pick = TRUENO_PICK_INIT;
    assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
    return pick.variant;
}

/* What would run without a tuner, and the first other arm; NULL: this machine has none. */
static inline const char *default_of(trueno_ctx *ctx, const trueno_problem *p)
{
    const struct tr_kernel *k;
    assert_int_equal(tr_kernel_choose(&k, NULL, ctx, TR_OP_GEMM, p->type, TR_ACT_NONE, NULL),
                     TRUENO_OK);
    return k->name;
}

static inline const char *other_of(trueno_tuner *t, const trueno_problem *p)
{
    struct tr_slot *s = tr_tuner_slot(t, p);
    return s->n_arms > 1 ? s->arms[1]->name : NULL;
}

/* Runs `n` calls; each takes 1000 ns, by the variant `fast` 800, with noise of some percent. */
static inline void play(trueno_tuner *t, const trueno_problem *p, const char *fast, int n)
{
    static uint32_t noise = 1;
    for (int i = 0; i < n; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
        noise = noise * 1664525U + 1013904223U;
        uint64_t ns = (fast && strcmp(pick.variant, fast) == 0 ? 80000 : 100000) + (noise >> 20);
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, ns, 0), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
}

static inline void need_rivals(const char *other)
{
    if (other) return;
    print_message("skipped: this machine has one kernel for Q4_K\n");
    skip();
}

#endif
