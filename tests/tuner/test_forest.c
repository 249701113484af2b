/* SPDX-License-Identifier: MIT */
/* Random forests against algebra: trees whose splits can be told by hand, noise of known size. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "tuner/forest.h"
#include "tuner/random.h"

static trueno_ctx *ctx;

static struct tr_forest_options options(uint32_t n_trees, uint32_t mtry)
{
    struct tr_forest_options o = {.n_trees = n_trees,
                                  .max_depth = 12,
                                  .min_leaf = 3,
                                  .mtry = mtry,
                                  .bootstrap = true,
                                  .seed = 1};
    return o;
}

static struct tr_forest *train(const struct tr_forest_data *d, const struct tr_forest_options *o)
{
    struct tr_forest *f;
    trueno_error err = {TRUENO_OK, ""};
    if (tr_forest_train(&f, ctx, d, o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return f;
}

static void expect_refused(const struct tr_forest_data *d, const struct tr_forest_options *o,
                           trueno_status want, const char *part)
{
    struct tr_forest *f = (void *)&want;
    trueno_error err = {TRUENO_OK, ""};
    assert_int_equal(tr_forest_train(&f, ctx, d, o, &err), want);
    assert_null(f);
    if (!strstr(err.message, part)) fail_msg("'%s' lacks '%s'", err.message, part);
}

/* One tree over all rows: a step becomes one split in the middle between its sides. */
static void test_one_tree(void **state)
{
    enum { N = 20 };
    float x[N][2];
    double y[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        x[i][0] = (float)(i % 3); /* tells nothing */
        x[i][1] = (float)i;
        y[i] = i < 12 ? -1.5 : 2.25;
    }
    struct tr_forest_data d = {.x = x[0], .n = N, .n_features = 2, .y = y};
    struct tr_forest_options o = options(1, 2);
    o.bootstrap = false;
    struct tr_forest *f = train(&d, &o);
    const void *nodes;
    size_t n;
    assert_int_equal(tr_forest_nodes(f, &nodes), 3 * 8); /* a split, two leaves */
    double spread = 1;
    float at[2] = {0, 11.5F};
    assert_true(tr_forest_predict(f, at, &spread) == -1.5);
    assert_true(spread == 0);
    at[1] = nextafterf(11.5F, 12);
    assert_true(tr_forest_predict(f, at, NULL) == 2.25);
    at[1] = -1e30F;
    assert_true(tr_forest_predict(f, at, NULL) == -1.5);
    assert_true(isnan(tr_forest_oob_error(f, &n)) && n == 0); /* every tree has seen every row */
    tr_forest_free(f);

    o.max_depth = 0; /* the mean */
    f = train(&d, &o);
    assert_true(fabs(tr_forest_predict(f, at, NULL) - (-1.5 * 12 + 2.25 * 8) / 20) <= 1e-6);
    tr_forest_free(f);
    o.max_depth = 12;
    o.min_leaf = 9; /* 11 and 9 rows are the nearest that is allowed to 12 and 8 */
    f = train(&d, &o);
    at[1] = 10.4F;
    assert_true(tr_forest_predict(f, at, NULL) == -1.5);
    at[1] = 10.6F;
    assert_true(fabs(tr_forest_predict(f, at, NULL) - (-1.5 + 8 * 2.25) / 9) <= 1e-6);
    tr_forest_free(f);
    o.min_leaf = 11;
    f = train(&d, &o);
    assert_int_equal(tr_forest_nodes(f, &nodes), 8);
    tr_forest_free(f);
}

/* The rows of the specification's example: batches 1 to 8, 200 + 80 x batch. */
static void test_specification(void **state)
{
    float x[100][3];
    double y[100];
    uint32_t labels[100];
    (void)state;
    for (int i = 0; i < 100; i++) {
        int batch = 1 + i % 8;
        x[i][0] = log2f(1 + (float)batch) / 16;
        x[i][1] = batch == 1;
        x[i][2] = 1.5F;
        y[i] = 200 + 80.0 * batch;
        labels[i] = batch >= 4 ? 3 : 2;
    }
    struct tr_forest_data d = {.x = x[0], .n = 100, .n_features = 3, .y = y};
    struct tr_forest_options o = options(100, 2);
    struct tr_forest *f = train(&d, &o);
    for (int i = 0; i < 8; i++)
        assert_true(fabs(tr_forest_predict(f, x[i], NULL) / y[i] - 1) <= 0.05);
    tr_forest_free(f);

    struct tr_forest_data c = {
        .x = x[0], .n = 100, .n_features = 3, .labels = labels, .n_classes = 4};
    f = train(&c, &o);
    for (int i = 0; i < 8; i++) {
        double p[4];
        tr_forest_classify(f, x[i], p);
        assert_true(p[labels[i]] > 0.9 && p[0] == 0 && p[1] == 0);
        assert_true(fabs(p[2] + p[3] - 1) <= 1e-6);
    }
    tr_forest_free(f);
}

/* Rows of uniform numbers; y is 3 x0 + (x1 > 0.5) and noise of the given size. */
struct noisy {
    float *x;
    double *y;
    size_t n;
};

static struct noisy noisy_rows(size_t n, double noise, uint64_t seed)
{
    struct noisy r = {malloc(n * 5 * sizeof(float)), malloc(n * sizeof(double)), n};
    struct tr_random random;
    assert_true(r.x && r.y);
    tr_random_seed(&random, seed, 0);
    for (size_t i = 0; i < n; i++) {
        float *x = r.x + 5 * i;
        for (int k = 0; k < 5; k++) x[k] = (float)tr_random_unit(&random);
        double e = 0; /* twelve uniform numbers: variance 1 */
        for (int k = 0; k < 12; k++) e += tr_random_unit(&random) - 0.5;
        r.y[i] = 3 * (double)x[0] + (x[1] > 0.5F) + noise * e;
    }
    return r;
}

static void free_rows(struct noisy *r)
{
    free(r->x);
    free(r->y);
}

static double error_on(const struct tr_forest *f, const struct noisy *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n; i++) {
        double e = tr_forest_predict(f, r->x + 5 * i, NULL) - r->y[i];
        sum += e * e;
    }
    return sum / (double)r->n;
}

/* The out-of-bag error is the error on new rows; it cannot be below the noise. */
static void test_out_of_bag(void **state)
{
    struct noisy seen = noisy_rows(2000, 0.2, 1), fresh = noisy_rows(2000, 0.2, 2);
    struct tr_forest_data d = {.x = seen.x, .n = seen.n, .n_features = 5, .y = seen.y};
    struct tr_forest_options o = options(60, 3);
    size_t n;
    (void)state;
    o.min_leaf = 10;
    struct tr_forest *f = train(&d, &o);
    double oob = tr_forest_oob_error(f, &n), held_out = error_on(f, &fresh);
    assert_int_equal(n, 2000); /* a row is in all of 60 samples once in 10^12 times */
    assert_true(oob > 0.9 * 0.04 && oob < 2 * 0.04); /* the variance of y is 1 */
    assert_true(fabs(oob / held_out - 1) <= 0.1);
    assert_true(error_on(f, &seen) < oob); /* the training error flatters */
    tr_forest_free(f);
    free_rows(&seen);
    free_rows(&fresh);
}

static void test_seeds(void **state)
{
    struct noisy r = noisy_rows(500, 0.1, 3);
    struct tr_forest_data d = {.x = r.x, .n = r.n, .n_features = 5, .y = r.y};
    struct tr_forest_options o = options(20, 2);
    const void *a, *b, *c;
    (void)state;
    struct tr_forest *first = train(&d, &o), *again = train(&d, &o);
    o.seed = 2;
    struct tr_forest *other = train(&d, &o);
    size_t n = tr_forest_nodes(first, &a), n_other = tr_forest_nodes(other, &c);
    assert_int_equal(tr_forest_nodes(again, &b), n);
    assert_memory_equal(a, b, n);
    assert_true(n_other != n || memcmp(a, c, n) != 0);
    tr_forest_free(first);
    tr_forest_free(again);
    tr_forest_free(other);
    free_rows(&r);
}

/* One informative feature among 63 that never change, one tried at a node: it is found. */
static void test_constant_features(void **state)
{
    enum { N = 64, F = 64 };
    static float x[N][F];
    double y[N];
    (void)state;
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < F; k++) x[i][k] = 7;
        x[i][41] = (float)i;
        y[i] = i / 16;
    }
    struct tr_forest_data d = {.x = x[0], .n = N, .n_features = F, .y = y};
    struct tr_forest_options o = options(5, 1);
    o.bootstrap = false;
    struct tr_forest *f = train(&d, &o);
    for (int i = 0; i < N; i++) assert_true(tr_forest_predict(f, x[i], NULL) == y[i]);
    tr_forest_free(f);

    for (int i = 0; i < N; i++) x[i][41] = 7; /* nothing tells rows apart: the mean, one leaf */
    f = train(&d, &o);
    assert_true(fabs(tr_forest_predict(f, x[0], NULL) - 1.5) <= 1e-6);
    tr_forest_free(f);
}

/* More different values than bins: still near, on either side of every cut. */
static void test_quantiles(void **state)
{
    enum { N = 5000 };
    float *x = malloc(N * sizeof *x);
    double *y = malloc(N * sizeof *y);
    (void)state;
    assert_true(x && y);
    for (int i = 0; i < N; i++) {
        x[i] = expf((float)i / 500); /* far from uniform: bins hold equally many rows */
        y[i] = i;
    }
    struct tr_forest_data d = {.x = x, .n = N, .n_features = 1, .y = y};
    struct tr_forest_options o = options(1, 1);
    o.bootstrap = false;
    struct tr_forest *f = train(&d, &o);
    for (int i = 0; i < N; i++)
        assert_true(fabs(tr_forest_predict(f, x + i, NULL) - i) <= 1.05 * N / 255);
    tr_forest_free(f);
    free(x);
    free(y);
}

/* Exchanges, all in one walk, are what predicting with exchanged features changes; of the first
 * trees alone, what it changes in a forest of those. */
static void test_exchange(void **state)
{
    enum { N = 600, K = 6, GROUPS = 4 };
    static const uint8_t group[K] = {0, 1, 1, 2, 3, 1}; /* three of them go together */
    float *x = malloc(N * K * sizeof *x);
    double *y = malloc(N * sizeof *y), change[GROUPS];
    struct tr_random random;
    (void)state;
    assert_true(x && y);
    tr_random_seed(&random, 8, 0);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < K; k++) x[i * K + k] = (float)tr_random_below(&random, 20);
        const float *r = x + i * K;
        y[i] =
            (double)(r[0] * r[1] + 3 * r[2] - r[4] * (r[5] > 10 ? 2 : 1)) + tr_random_unit(&random);
    }
    struct tr_forest_data d = {.x = x, .n = N, .n_features = K, .y = y};
    for (uint32_t n_trees = 1; n_trees <= 21; n_trees += 5) {
        struct tr_forest_options o = options(n_trees, 3), more = options(40, 3);
        struct tr_forest *f = train(&d, &o), *large = train(&d, &more);
        for (int i = 0; i < 200; i++) {
            const float *a = x + (size_t)tr_random_below(&random, N) * K;
            const float *b = x + (size_t)tr_random_below(&random, N) * K;
            for (int of = 0; of < 2; of++) {
                tr_forest_exchange(of ? large : f, change, GROUPS, n_trees, a, b, group);
                for (int g = 0; g < GROUPS; g++) {
                    float c[K];
                    for (int k = 0; k < K; k++) c[k] = group[k] == g ? b[k] : a[k];
                    double want = tr_forest_predict(f, c, NULL) - tr_forest_predict(f, a, NULL);
                    assert_true(fabs(change[g] - want) <= 1e-9 * 400);
                }
            }
        }
        tr_forest_free(f);
        tr_forest_free(large);
    }
    free(x);
    free(y);
}

static void test_refusals(void **state)
{
    struct noisy r = noisy_rows(50, 0.1, 4);
    uint32_t labels[50] = {0};
    struct tr_forest_data d = {.x = r.x, .n = 50, .n_features = 5, .y = r.y}, bad;
    struct tr_forest_options o = options(5, 2), wrong;
    (void)state;
#define OPTION(field, value, part)                                                                 \
    wrong = o;                                                                                     \
    wrong.field = value;                                                                           \
    expect_refused(&d, &wrong, TRUENO_ERR_ARGUMENT, part)
    OPTION(n_trees, 0, "n_trees is 0, must be 1 to 1000");
    OPTION(n_trees, 1001, "n_trees");
    OPTION(max_depth, 32, "max_depth");
    OPTION(min_leaf, 0, "min_leaf");
    OPTION(mtry, 0, "mtry");
    OPTION(mtry, 6, "mtry is 6, must be 1 to 5");
#define DATA(field, value, part)                                                                   \
    bad = d;                                                                                       \
    bad.field = value;                                                                             \
    expect_refused(&bad, &o, TRUENO_ERR_ARGUMENT, part)
    DATA(n, 9, "rows is 9");
    DATA(n_features, 0, "n_features");
    DATA(n_features, 65, "n_features");
    DATA(y, NULL, "either targets or labels");
    DATA(labels, labels, "either targets or labels");
    bad = d;
    bad.y = NULL;
    bad.labels = labels;
    bad.n_classes = 65;
    expect_refused(&bad, &o, TRUENO_ERR_ARGUMENT, "64 classes");
    bad.n_classes = 3;
    labels[7] = 3;
    expect_refused(&bad, &o, TRUENO_ERR_ARGUMENT, "label of row 7 is 3 of 3 classes");
    r.y[3] = NAN;
    expect_refused(&d, &o, TRUENO_ERR_ARGUMENT, "target of row 3");
    r.y[3] = 2e6;
    expect_refused(&d, &o, TRUENO_ERR_ARGUMENT, "target of row 3");
    r.y[3] = 0;
    r.x[5 * 9 + 2] = INFINITY;
    expect_refused(&d, &o, TRUENO_ERR_ARGUMENT, "feature 2 of row 9");
    free_rows(&r);

    r = noisy_rows(5000, 1, 5); /* a leaf for almost every row of every tree */
    struct tr_forest_data large = {.x = r.x, .n = r.n, .n_features = 5, .y = r.y};
    o = options(100, 5);
    o.max_depth = 31;
    o.min_leaf = 1;
    expect_refused(&large, &o, TRUENO_ERR_TOO_LARGE, "min_leaf");
    free_rows(&r);
}

/* Every allocation may fail: an error, and nothing is kept. */
static void test_no_memory(void **state)
{
    struct noisy r = noisy_rows(60, 0.1, 6);
    uint32_t labels[60];
    struct tr_forest_options o = options(3, 2);
    int succeeded = 0;
    (void)state;
    for (int i = 0; i < 60; i++) labels[i] = r.y[i] > 1.5;
    for (int kind = 0; kind < 2; kind++) {
        struct tr_forest_data d = {.x = r.x, .n = 60, .n_features = 5};
        if (kind == 0) d.y = r.y;
        if (kind == 1) d.labels = labels;
        d.n_classes = kind == 1 ? 2 : 0;
        for (size_t call = 1; call < 40; call++) {
            struct hooks h = {0};
            trueno_ctx_options opt = hook_options(&h);
            struct tr_forest *f;
            trueno_ctx *c;
            assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
            h.fail_at = atomic_load(&h.calls) + call;
            trueno_status st = tr_forest_train(&f, c, &d, &o, NULL);
            assert_true(st == TRUENO_OK ? f != NULL : st == TRUENO_ERR_NO_MEMORY && f == NULL);
            succeeded += st == TRUENO_OK;
            tr_forest_free(f);
            trueno_ctx_free(c);
            assert_int_equal(atomic_load(&h.blocks), 0);
        }
    }
    assert_true(succeeded > 10 && succeeded < 80);
    free_rows(&r);
}

static int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL);
}

static int teardown(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_tree),          cmocka_unit_test(test_specification),
        cmocka_unit_test(test_out_of_bag),        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_constant_features), cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_refusals),          cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_exchange),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
