/* SPDX-License-Identifier: MIT */
/* Intervals from rows that others had not seen: expected values by hand, from the definition of a
 * score and of the quantile (interval.h). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "tuner/regressor.h"
#include "tuner/runs.h"

enum { N = 40 };

/* A decode on a CPU that is predicted far enough below its roof. */
static trueno_features slow_run(void)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 1;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 20;
    f.gpu_compute_tflops = 1;
    f.sm_count = 2;
    return f;
}

struct held_out {
    const trueno_regressor *others[N];
    trueno_features f[N];
    double tps[N];
};

/* Row i was measured at exp(-(i + 1) / 100) of what `other` says. */
static struct held_out rows_of(const trueno_regressor *other)
{
    struct held_out h;
    for (int i = 0; i < N; i++) {
        h.others[i] = other;
        h.f[i] = slow_run();
        h.tps[i] = predict(other, &h.f[i]).predicted_tps * exp(-0.01 * (i + 1));
    }
    return h;
}

static void set(trueno_regressor *r, const struct held_out *h, size_t n)
{
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_regressor_set_scores(r, h->others, h->f, h->tps, n, &err) != TRUENO_OK)
        fail_msg("%s", err.message);
}

/* 40 scores: of a level of 0.9 the ceil(0.9 * 41) = 37th is the quantile. The uncertainty of what
 * is untrained is the same for all runs, so the interval is a factor of exp(0.37). */
static void test_quantile(void **state)
{
    (void)state;
    trueno_regressor *r = new_regressor();
    trueno_features f = slow_run();
    struct held_out h = rows_of(r);
    assert_true(predict(r, &f).level == 0);
    set(r, &h, N);
    trueno_prediction p = predict(r, &f);
    assert_true(p.level == 0.9);
    assert_true(fabs(p.lo / p.predicted_tps - exp(-0.37)) < 1e-9);
    assert_true(fabs(p.hi - fmin(p.predicted_tps * exp(0.37), p.roofline_tps)) < 1e-9);
    assert_true(p.confidence == 18.0 / N); /* exp(0.18) - 1 < 0.2 < exp(0.19) - 1 */

    set(r, &h, N); /* again: replaced, not added */
    assert_true(predict(r, &f).lo == p.lo && predict(r, &f).confidence == p.confidence);
    set(r, &h, 19); /* too few for a level */
    assert_true(predict(r, &f).level == 0 && predict(r, &f).confidence == 18.0 / 19);
    set(r, &h, 0);
    assert_true(predict(r, &f).level == 0 && predict(r, &f).confidence == 0);
    trueno_regressor_free(r);
}

/* Scores are of what the others predict; what r predicts does not change. */
static void test_others(void **state)
{
    (void)state;
    trueno_regressor *r = new_regressor(), *other = new_regressor();
    trueno_features f = slow_run();
    double before = predict(r, &f).predicted_tps;
    assert_true(tr_regressor_set_prior(other, -2, -2));
    assert_true(predict(other, &f).predicted_tps < 0.8 * before);
    struct held_out h = rows_of(other);
    set(r, &h, N);
    trueno_prediction p = predict(r, &f);
    assert_true(p.predicted_tps == before);
    assert_true(fabs(p.lo / p.predicted_tps - exp(-0.37)) < 1e-9);
    assert_true(predict(other, &f).level == 0);
    trueno_regressor_free(other);
    trueno_regressor_free(r);
}

/* Rates that cannot be do not count, and what was observed is forgotten. */
static void test_what_counts(void **state)
{
    (void)state;
    trueno_regressor *r = new_regressor();
    struct held_out h = rows_of(r);
    trueno_features f = slow_run();
    double share;
    size_t n;
    set(r, &h, N);
    for (int i = 0; i < 30; i++)
        assert_int_equal(trueno_regressor_observe(r, &f, 0.01, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_coverage(r, &share, &n), TRUENO_OK);
    assert_int_equal(n, 30);
    for (int i = 20; i < N; i++) h.tps[i] = 2 * predict(r, &f).roofline_tps;
    set(r, &h, N);
    assert_int_equal(trueno_regressor_coverage(r, &share, &n), TRUENO_OK);
    assert_int_equal(n, 0);
    trueno_prediction p = predict(r, &f);
    assert_true(p.level == 0.9 && p.confidence == 18.0 / 20);
    assert_true(fabs(p.lo / p.predicted_tps - exp(-0.19)) < 1e-9); /* ceil(0.9 * 21) */
    trueno_regressor_free(r);
}

/* A group keeps 500 scores, from all of the rows. */
static void test_many(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    trueno_regressor *r = new_regressor();
    trueno_features *f = malloc(MANY * sizeof *f), one = slow_run();
    const trueno_regressor **others = malloc(MANY * sizeof *others);
    double *tps = malloc(MANY * sizeof *tps), predicted = predict(r, &one).predicted_tps;
    assert_true(f && others && tps);
    for (int i = 0; i < MANY; i++) {
        f[i] = one;
        others[i] = r;
        tps[i] = predicted * exp(-0.001 * (i + 1));
    }
    assert_int_equal(trueno_regressor_set_scores(r, others, f, tps, MANY, NULL), TRUENO_OK);
    assert_int_equal(r->interval.groups[0].n, 500);
    double d = -log(predict(r, &one).lo / predicted);
    assert_true(fabs(d - 1.8) < 0.01);
    free(f);
    free(others);
    free(tps);
    trueno_regressor_free(r);
}

static double lower(const trueno_regressor *r)
{
    trueno_features f = slow_run();
    return predict(r, &f).lo;
}

static void test_arguments(void **state)
{
    (void)state;
    trueno_regressor *r = new_regressor();
    trueno_error err = {TRUENO_OK, ""};
    struct held_out h = rows_of(r), wrong;
    set(r, &h, N);
    const double was = lower(r);
    const double bad[] = {0, -1, (double)NAN, (double)INFINITY};
#define STATUS(r, o, f, t) trueno_regressor_set_scores(r, o, f, t, N, &err)
    assert_int_equal(STATUS(NULL, h.others, h.f, h.tps), TRUENO_ERR_ARGUMENT);
    assert_int_equal(STATUS(r, NULL, h.f, h.tps), TRUENO_ERR_ARGUMENT);
    assert_int_equal(STATUS(r, h.others, NULL, h.tps), TRUENO_ERR_ARGUMENT);
    assert_int_equal(STATUS(r, h.others, h.f, NULL), TRUENO_ERR_ARGUMENT);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        wrong = h;
        wrong.tps[7] = bad[i];
        assert_int_equal(STATUS(r, wrong.others, wrong.f, wrong.tps), TRUENO_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "row 7"));
    }
    wrong = h;
    wrong.others[3] = NULL;
    assert_int_equal(STATUS(r, wrong.others, wrong.f, wrong.tps), TRUENO_ERR_ARGUMENT);
    wrong = h;
    wrong.f[5].batch_size = NAN;
    assert_int_equal(STATUS(r, wrong.others, wrong.f, wrong.tps), TRUENO_ERR_INVALID_FEATURE);
    assert_non_null(strstr(err.message, "row 5"));
    assert_non_null(strstr(err.message, "batch_size"));
    assert_int_equal(trueno_regressor_set_scores(r, h.others, h.f, h.tps, SIZE_MAX, &err),
                     TRUENO_ERR_NO_MEMORY);
    assert_true(lower(r) == was);
    trueno_regressor_free(r);
}

static void test_out_of_memory(void **state)
{
    (void)state;
    struct hooks hooks = {0};
    trueno_ctx_options opt = hook_options(&hooks);
    trueno_ctx *own;
    trueno_regressor *r;
    assert_int_equal(trueno_ctx_new(&own, &opt, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_new(own, &r, NULL), TRUENO_OK);
    struct held_out h = rows_of(r);
    const size_t held = atomic_load(&hooks.now_bytes);
    int failed = 0;
    for (trueno_status status = TRUENO_ERR_NO_MEMORY; status != TRUENO_OK; failed++) {
        hooks.fail_at = atomic_load(&hooks.calls) + 1 + (size_t)failed;
        status = trueno_regressor_set_scores(r, h.others, h.f, h.tps, N, NULL);
        hooks.fail_at = 0;
        assert_true(status == TRUENO_OK || status == TRUENO_ERR_NO_MEMORY);
        trueno_features f = slow_run();
        assert_true((predict(r, &f).level == 0.9) == (status == TRUENO_OK));
        assert_int_equal(atomic_load(&hooks.now_bytes), held);
    }
    assert_true(failed > 2);
    trueno_regressor_free(r);
    trueno_ctx_free(own);
    assert_int_equal(atomic_load(&hooks.blocks), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantile),    cmocka_unit_test(test_others),
        cmocka_unit_test(test_what_counts), cmocka_unit_test(test_many),
        cmocka_unit_test(test_arguments),   cmocka_unit_test(test_out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
