/* SPDX-License-Identifier: MIT */
/* Intervals: a miss widens, a hit narrows, and coverage comes back after the machine has changed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/predict.h"
#include "tuner/interval.h"
#include "tuner/runs.h"

/* ln of half the interval, over u, of a group with a level. */
static double width(const struct tr_interval *v, uint32_t group)
{
    double level, factor = tr_interval_factor(&level, v, group, 0.01);
    assert_true(level == 0.9);
    return log(factor) / 0.01;
}

/* Scores 1 to 100: the 0.9 quantile of 101 is the 91st. a = 0.1. */
static void hundred(struct tr_interval *v, uint32_t group)
{
    tr_interval_reset(v);
    for (int i = 100; i >= 1; i--) tr_interval_add(v, group, i);
    tr_interval_settle(v, group);
    assert_true(fabs(width(v, group) - 91) <= 1e-9);
}

static void test_miss_widens(void **state)
{
    static struct tr_interval v;
    (void)state;
    /* a = 0.082: the 94th of 102 with the new one, which is the last */
    hundred(&v, 1);
    tr_interval_observe(&v, 1, false, 1000);
    assert_true(fabs(width(&v, 1) - 94) <= 1e-9);
    /* again, 0.064: of 103 the 97th; the same score as above, so it is a alone that widens */
    tr_interval_observe(&v, 1, false, 50);
    assert_true(fabs(width(&v, 1) - 96) <= 1e-9); /* 50 is there twice */
    /* five misses and a is below 0: everything */
    for (int i = 0; i < 4; i++) tr_interval_observe(&v, 1, false, 50);
    assert_true(isinf(width(&v, 1)));
    double level;
    assert_true(tr_interval_factor(&level, &v, 1, 0.02) == INFINITY && level == 0.9);
    /* hits bring it back: 0.002 each from -0.008 */
    for (int i = 0; i < 5; i++) tr_interval_observe(&v, 1, true, 50);
    assert_true(isinf(width(&v, 1)) || width(&v, 1) == 1000);
    for (int i = 0; i < 100; i++) tr_interval_observe(&v, 1, true, 50);
    assert_true(width(&v, 1) < 91);
}

static void test_hit_narrows(void **state)
{
    static struct tr_interval v;
    (void)state;
    /* a = 0.15 after 25 hits with scores that stand in for others: 126 scores, rank 108 of 127 */
    hundred(&v, 2);
    for (int i = 0; i < 25; i++) tr_interval_observe(&v, 2, true, 0.5);
    assert_true(fabs(width(&v, 2) - (108 - 25)) <= 1e-9);
    for (int i = 0; i < 2000; i++) tr_interval_observe(&v, 2, true, 7); /* a above 1 */
    assert_true(fabs(width(&v, 2) - 7) <= 1e-9);
    tr_interval_observe(&v, 2, false, 9);
    assert_true(fabs(width(&v, 2) - 7) <= 1e-9);
}

/* Only the last 500 count, each group for itself, and none is claimed from fewer than 20. */
static void test_scores(void **state)
{
    static struct tr_interval v;
    double level;
    (void)state;
    tr_interval_reset(&v);
    for (int i = 0; i < 19; i++) tr_interval_observe(&v, 0, true, 1);
    assert_true(tr_interval_factor(&level, &v, 0, 0.1) == 2 && level == 0);
    assert_int_equal(v.n_hits, 0); /* nothing was claimed */
    tr_interval_observe(&v, 0, false, 1);
    assert_true(fabs(tr_interval_factor(&level, &v, 0, 0.1) - exp(0.1)) <= 1e-12 && level == 0.9);
    for (uint32_t g = 1; g < TR_GROUPS; g++)
        assert_true(tr_interval_factor(&level, &v, g, 0.1) == 2 && level == 0);
    for (int i = 0; i < 500; i++) tr_interval_add(&v, 0, 3 + i % 2 * 1e-9);
    tr_interval_settle(&v, 0);
    assert_true(fabs(width(&v, 0) - 3) < 1e-6); /* no score of 1 is left: the least is 3 */
    v.groups[0].alpha = 0.999;
    tr_interval_settle(&v, 0);
    assert_true(fabs(width(&v, 0) - 3) < 1e-6);
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The quantile of any scores, equal ones among them, is what sorting says. */
static void test_quantile(void **state)
{
    static struct tr_interval v;
    struct tr_random random;
    double sorted[TR_SCORES];
    (void)state;
    tr_random_seed(&random, 20, 0);
    for (int t = 0; t < 3000; t++) {
        int n = 20 + (int)tr_random_below(&random, t % 2 ? 20 : 481);
        uint32_t n_different = 1 + tr_random_below(&random, t % 3 ? 10 : 10000);
        tr_interval_reset(&v);
        for (int i = 0; i < n; i++) {
            sorted[i] = tr_random_below(&random, n_different);
            tr_interval_add(&v, 3, sorted[i]);
        }
        v.groups[3].alpha = 0.1 + 0.8 * tr_random_unit(&random);
        tr_interval_settle(&v, 3);
        qsort(sorted, (size_t)n, sizeof *sorted, compare_doubles);
        int rank = (int)ceil((1 - v.groups[3].alpha) * (n + 1));
        assert_true(v.groups[3].q == sorted[rank - 1]);
    }
}

/* ------------------------------------------------------------------- through calls */

static bool held(const trueno_regressor *r, const trueno_features *f, double tps)
{
    trueno_prediction p = predict(r, f);
    assert_true(p.level == 0.9 && p.lo >= 0 && p.hi <= p.roofline_tps);
    return p.lo <= tps && tps <= p.hi;
}

static bool observe(trueno_regressor *r, const trueno_features *f, double tps)
{
    bool yes = held(r, f, tps);
    assert_int_equal(trueno_regressor_observe(r, f, tps, NULL), TRUENO_OK);
    return yes;
}

/* Decoding runs on a CPU, as one machine has them. */
static trueno_features machine_run(struct tr_random *random)
{
    trueno_features f = random_run(random);
    f.vram_gb = 0;
    f.prompt_tokens = TRUENO_UNSET;
    f.gpu_mem_bw_gbs = 50;
    f.gpu_compute_tflops = 1;
    f.sm_count = 8;
    return f;
}

/* Share of n runs at `speed` times the law's rate that the interval holds. */
static double coverage(trueno_regressor *r, bool observes, struct tr_random *random, int n,
                       double speed)
{
    trueno_regressor *prior = new_regressor();
    double yes = 0;
    for (int i = 0; i < n; i++) {
        trueno_features f = machine_run(random);
        double tps = true_rate(prior, &f, random, 0.2) * speed;
        yes += observes ? observe(r, &f, tps) : held(r, &f, tps);
    }
    trueno_regressor_free(prior);
    return yes / n;
}

/* Another process takes half of the machine: within 200 observations the interval holds 85 to 95 %
 * again; and when it leaves, 90 % of all that follow. */
static void test_load(void **state)
{
    struct rows rows = random_rows(1500, 21, 0.2);
    trueno_regressor *r = new_regressor();
    struct tr_random random;
    (void)state;
    for (uint64_t seed = 0; seed < 5; seed++) {
        double share;
        size_t n;
        assert_int_equal(trueno_regressor_train(r, NULL, rows.f, rows.tps, rows.n, NULL),
                         TRUENO_OK);
        assert_int_equal(trueno_regressor_coverage(r, &share, &n), TRUENO_OK);
        assert_true(n == 0 && isnan(share)); /* training observes nothing, and forgets what was */
        tr_random_seed(&random, 22, seed);
        assert_true(fabs(coverage(r, true, &random, 300, 1) - 0.9) <= 0.05);
        assert_true(coverage(r, false, &random, 300, 0.5) < 0.5); /* what it is without */
        assert_true(coverage(r, true, &random, 200, 0.5) >= 0.85);
        double after = coverage(r, true, &random, 500, 0.5);
        assert_true(fabs(after - 0.9) <= 0.05);
        assert_int_equal(trueno_regressor_coverage(r, &share, &n), TRUENO_OK);
        assert_true(n == 500 && fabs(share - after) <= 1e-9);
        assert_true(fabs(coverage(r, true, &random, 1000, 1) - 0.9) <= 0.05);
    }
    trueno_regressor_free(r);
    free_rows(&rows);
}

/* An untrained one has a level after 20 observations of its group, and not of others. */
static void test_from_nothing(void **state)
{
    trueno_regressor *r = new_regressor();
    struct tr_random random;
    double share;
    size_t n;
    (void)state;
    tr_random_seed(&random, 23, 0);
    trueno_features f = machine_run(&random);
    double at = predict(r, &f).predicted_tps;
    for (int i = 0; i < 20; i++) {
        assert_true(predict(r, &f).level == 0);
        assert_true(predict(r, &f).lo == predict(r, &f).predicted_tps / 2);
        assert_int_equal(trueno_regressor_observe(r, &f, at * (i % 2 ? 0.9 : 0.95), NULL),
                         TRUENO_OK);
    }
    trueno_prediction p = predict(r, &f);
    assert_true(p.level == 0.9 && p.predicted_tps == at); /* the interval alone */
    assert_true(fabs(p.lo / (0.9 * at) - 1) <= 1e-9);
    trueno_features gpu = f, prefill = f;
    gpu.vram_gb = 80;
    prefill.prompt_tokens = 64;
    assert_true(predict(r, &gpu).level == 0 && predict(r, &prefill).level == 0);
    /* misses without end: from 0 to the roof */
    for (int i = 0; i < 10; i++)
        assert_int_equal(trueno_regressor_observe(r, &f, at / 50 / (i + 1), NULL), TRUENO_OK);
    p = predict(r, &f);
    assert_true(p.lo == 0 && p.hi == p.roofline_tps && p.level == 0.9);
    assert_int_equal(trueno_regressor_coverage(r, &share, &n), TRUENO_OK);
    assert_true(n == 10 && share > 0 && share < 1); /* those before had no level */
    trueno_regressor_free(r);
}

static void test_refusals(void **state)
{
    trueno_regressor *r = new_regressor();
    struct tr_random random;
    trueno_features unknown = TRUENO_FEATURES_INIT;
    trueno_error err = {TRUENO_OK, ""};
    double share;
    size_t n;
    (void)state;
    tr_random_seed(&random, 24, 0);
    trueno_features f = machine_run(&random);
    double at = predict(r, &f).predicted_tps;
    const double bad[] = {NAN, INFINITY, 0, -1};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(trueno_regressor_observe(r, &f, bad[i], &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_observe(NULL, &f, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_observe(r, NULL, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_observe(r, &unknown, 1, NULL), TRUENO_ERR_INVALID_FEATURE);
    assert_int_equal(trueno_regressor_coverage(NULL, &share, &n), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_coverage(r, NULL, &n), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_coverage(r, &share, NULL), TRUENO_ERR_ARGUMENT);
    /* above the roof: a miss that is counted, and no score */
    for (int i = 0; i < 25; i++)
        assert_int_equal(trueno_regressor_observe(r, &f, at * 0.9, NULL), TRUENO_OK);
    trueno_prediction before = predict(r, &f);
    for (int i = 0; i < 5; i++)
        assert_int_equal(trueno_regressor_observe(r, &f, 2 * before.roofline_tps, NULL), TRUENO_OK);
    trueno_prediction after = predict(r, &f);
    assert_memory_equal(&before, &after, sizeof before);
    assert_int_equal(trueno_regressor_coverage(r, &share, &n), TRUENO_OK);
    assert_true(n == 10 && fabs(share - 0.5) <= 1e-12);
    trueno_regressor_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_miss_widens), cmocka_unit_test(test_hit_narrows),
        cmocka_unit_test(test_scores),      cmocka_unit_test(test_quantile),
        cmocka_unit_test(test_load),        cmocka_unit_test(test_from_nothing),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
