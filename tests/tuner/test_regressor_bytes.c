/* SPDX-License-Identifier: MIT */
/* Regressors as bytes: what comes back predicts the same bits, and bytes that are wrong are an
 * error or harmless. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "trueno/learner.h"
#include "tuner/forest.h"
#include "tuner/regressor.h"
#include "tuner/runs.h"

enum {
    CRC_AT = 12,
    BODY_AT = 16,
    FOREST_BYTES_AT = 60, /* behind 24 of the header, 32 of options and the source */
    INTERCEPT_AT = 88 + 280 + 560,
    COVARIANCE_AT = INTERCEPT_AT + 8 + 16 + 43 * 8
};

struct bytes {
    uint8_t *p;
    size_t n;
};

static struct bytes export_of(const trueno_regressor *r)
{
    struct bytes b;
    size_t again;
    assert_int_equal(trueno_regressor_export(r, NULL, 0, &b.n, NULL), TRUENO_OK);
    b.p = malloc(b.n);
    assert_non_null(b.p);
    assert_int_equal(trueno_regressor_export(r, b.p, b.n, &again, NULL), TRUENO_OK);
    assert_int_equal(again, b.n);
    return b;
}

/* CRC-32 (ISO 3309), bit by bit. */
static uint32_t crc_of(const uint8_t *p, size_t n)
{
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) {
        crc ^= p[i];
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
    }
    return ~crc;
}

static uint64_t number(const uint8_t *p, int n)
{
    uint64_t v = 0;
    while (n-- > 0) v = v << 8 | p[n];
    return v;
}

static void put(uint8_t *p, uint64_t v, int n)
{
    for (int i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* Makes the checksum right again. */
static void seal(struct bytes b)
{
    put(b.p + CRC_AT, crc_of(b.p + BODY_AT, b.n - BODY_AT), 4);
}

static trueno_status import(trueno_regressor **r, const uint8_t *p, size_t n)
{
    *r = (trueno_regressor *)1;
    trueno_status st = trueno_regressor_import(ctx, r, p, n, NULL);
    if (st != TRUENO_OK) assert_null(*r);
    return st;
}

/* Knows all that one can know: nothing, a ridge or a forest, what running added, scores. */
static trueno_regressor *knowing(int kind, size_t n_observed)
{
    struct rows rows = random_rows(250, 31, 0.2);
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    trueno_regressor *r;
    trueno_learner *l;
    o.seed = 77;
    o.max_depth = 7;
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 8, &o, NULL), TRUENO_OK);
    trueno_status st = TRUENO_OK;
    assert_true(tr_regressor_set_prior(r, -0.3, 0.4)); /* counts where nothing is trained */
    if (kind == 1) st = trueno_regressor_train(r, NULL, rows.f, rows.tps, rows.n, NULL);
    if (kind == 2)
        st = trueno_regressor_train_random_forest(r, NULL, rows.f, rows.tps, rows.n, NULL);
    assert_int_equal(st, TRUENO_OK);
    assert_int_equal(trueno_learner_new(r, &l, NULL), TRUENO_OK);
    for (size_t i = 0; i < n_observed; i++) {
        const trueno_features *f = &rows.f[i % rows.n];
        double tps = rows.tps[i % rows.n] * (0.7 + 0.1 * (double)(i % 5));
        assert_int_equal(trueno_learner_observe_run(l, f, tps, NULL), TRUENO_OK);
        assert_int_equal(trueno_regressor_observe(r, f, tps, NULL), TRUENO_OK);
    }
    assert_int_equal(trueno_regressor_apply_learner(r, l, NULL), TRUENO_OK);
    trueno_learner_free(l);
    free_rows(&rows);
    return r;
}

static void assert_same(const trueno_regressor *a, const trueno_regressor *b)
{
    struct tr_random random;
    double share_a, share_b;
    size_t n_a, n_b;
    tr_random_seed(&random, 32, 0);
    for (int i = 0; i < 500; i++) {
        trueno_features f = random_run(&random);
        trueno_prediction p = predict(a, &f), q = predict(b, &f);
        assert_memory_equal(&p, &q, sizeof p);
    }
    assert_int_equal(trueno_regressor_online_updates(a), trueno_regressor_online_updates(b));
    assert_int_equal(trueno_regressor_coverage(a, &share_a, &n_a), TRUENO_OK);
    assert_int_equal(trueno_regressor_coverage(b, &share_b, &n_b), TRUENO_OK);
    assert_true(n_a == n_b && memcmp(&share_a, &share_b, sizeof share_a) == 0);
}

/* Both learn on, in every way, and stay the same: nothing that a regressor knows is left out. */
static void assert_same_later(trueno_regressor *a, trueno_regressor *b)
{
    struct rows rows = random_rows(60, 33, 0.5);
    trueno_regressor *both[2] = {a, b};
    trueno_learner *l;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(trueno_learner_new(both[i], &l, NULL), TRUENO_OK);
        for (size_t k = 0; k < rows.n; k++) {
            trueno_learner_observe_run(l, &rows.f[k], rows.tps[k], NULL);
            trueno_regressor_observe(both[i], &rows.f[k], rows.tps[k], NULL);
        }
        assert_int_equal(trueno_regressor_apply_learner(both[i], l, NULL), TRUENO_OK);
        trueno_learner_free(l);
    }
    assert_same(a, b);
    for (int i = 0; i < 2; i++)
        assert_int_equal(
            trueno_regressor_train_random_forest(both[i], NULL, rows.f, rows.tps, rows.n, NULL),
            TRUENO_OK);
    assert_same(a, b);
    free_rows(&rows);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        for (size_t n = 0; n <= 3000; n += 1500) { /* also rings that went round */
            trueno_regressor *r = knowing(kind, n), *back, *clone;
            struct bytes b = export_of(r);
            assert_int_equal(import(&back, b.p, b.n), TRUENO_OK);
            assert_int_equal(trueno_regressor_clone(r, &clone, NULL), TRUENO_OK);
            assert_same(r, back);
            assert_same(r, clone);
            struct bytes again = export_of(back), cloned = export_of(clone);
            assert_true(again.n == b.n && memcmp(again.p, b.p, b.n) == 0);
            assert_true(cloned.n == b.n && memcmp(cloned.p, b.p, b.n) == 0);
            trueno_learner *l; /* of one, fits the other */
            assert_int_equal(trueno_learner_new(r, &l, NULL), TRUENO_OK);
            assert_int_equal(trueno_regressor_apply_learner(back, l, NULL), TRUENO_OK);
            trueno_learner_free(l);
            assert_same_later(r, back);
            trueno_features f = TRUENO_FEATURES_INIT; /* a clone stands alone */
            f.model_params_b = 7;
            double tps = predict(clone, &f).predicted_tps;
            trueno_regressor_free(r);
            assert_true(predict(clone, &f).predicted_tps == tps);
            trueno_regressor_free(back);
            trueno_regressor_free(clone);
            free(b.p);
            free(again.p);
            free(cloned.p);
        }
    }
}

/* One that was made without a forest comes back so. */
static void test_plain(void **state)
{
    struct rows rows = random_rows(20, 34, 0.1);
    trueno_regressor *r = new_regressor(), *back;
    struct bytes b = export_of(r);
    (void)state;
    assert_int_equal(import(&back, b.p, b.n), TRUENO_OK);
    assert_int_equal(
        trueno_regressor_train_random_forest(back, NULL, rows.f, rows.tps, rows.n, NULL),
        TRUENO_ERR_ARGUMENT);
    trueno_regressor_free(back);
    trueno_regressor_free(r);
    free(b.p);
    free_rows(&rows);
}

static void test_layout(void **state)
{
    trueno_regressor *r = knowing(1, 0);
    struct bytes b = export_of(r);
    (void)state;
    assert_memory_equal(b.p, "TRUENORG", 8);
    assert_int_equal(number(b.p + 8, 4), 1);
    assert_int_equal(number(b.p + CRC_AT, 4), crc_of(b.p + BODY_AT, b.n - BODY_AT));
    assert_int_equal(number(b.p + 16, 8), b.n);
    assert_int_equal(number(b.p + 28, 4), 8); /* trees */
    assert_int_equal(number(b.p + 48, 8), 77);
    assert_int_equal(number(b.p + 56, 4), TRUENO_SOURCE_RIDGE);
    trueno_regressor_free(r);
    free(b.p);
}

static void test_refusals(void **state)
{
    trueno_regressor *r = knowing(2, 30), *none;
    struct bytes b = export_of(r);
    uint8_t *copy = malloc(b.n + 1);
    size_t n = 5;
    (void)state;
    assert_non_null(copy);
    memset(copy, 0x5a, b.n);
    assert_int_equal(trueno_regressor_export(r, copy, b.n - 1, &n, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(n, b.n);
    for (size_t i = 0; i < b.n; i++) assert_int_equal(copy[i], 0x5a);
    assert_int_equal(trueno_regressor_export(NULL, copy, b.n, &n, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(n, 0);
    assert_int_equal(trueno_regressor_export(r, copy, b.n, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_import(ctx, NULL, b.p, b.n, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_import(NULL, &none, b.p, b.n, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(import(&none, NULL, 3), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_clone(NULL, &none, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(none);
    assert_int_equal(trueno_regressor_clone(r, NULL, NULL), TRUENO_ERR_ARGUMENT);

    memcpy(copy, b.p, b.n);
    struct bytes c = {copy, b.n};
    copy[b.n] = 0;
    assert_int_equal(import(&none, copy, b.n + 1), TRUENO_ERR_CORRUPT);
    put(copy + 8, 2, 4);
    assert_int_equal(import(&none, copy, b.n), TRUENO_ERR_VERSION);
    put(copy + 8, 1, 4);
    copy[0] = 'X';
    assert_int_equal(import(&none, copy, b.n), TRUENO_ERR_FORMAT);
    copy[0] = 'T';
    put(copy + 16, UINT64_C(1) << 32, 8);
    assert_int_equal(import(&none, copy, b.n), TRUENO_ERR_TRUNCATED);
    put(copy + 16, b.n, 8);
    assert_int_equal(import(&none, copy, 0), TRUENO_ERR_TRUNCATED);
    for (size_t len = 0; len < b.n; len += len < 20000 ? 1 : 97)
        assert_int_equal(import(&none, copy, len), TRUENO_ERR_TRUNCATED);
    /* cut, and the length made to fit */
    for (size_t len = 8000; len < b.n; len += 501) {
        put(copy + 16, len, 8);
        seal((struct bytes){copy, len});
        trueno_status st = import(&none, copy, len);
        assert_true(st == TRUENO_ERR_CORRUPT || st == TRUENO_ERR_TRUNCATED);
        memcpy(copy, b.p, b.n);
    }
    seal(c);
    assert_memory_equal(copy, b.p, b.n);
    trueno_regressor_free(r);
    free(copy);
    free(b.p);
}

/* Whatever was read: predictions are numbers, and the roof stands. */
static void assert_harmless(const trueno_regressor *r)
{
    struct tr_random random;
    tr_random_seed(&random, 35, 0);
    for (int i = 0; i < 8; i++) {
        trueno_features f = random_run(&random);
        trueno_prediction p = predict(r, &f);
        assert_true(p.predicted_tps > 0 && p.predicted_tps <= p.roofline_tps);
        assert_true(p.lo >= 0 && p.lo <= p.hi && p.hi <= p.roofline_tps);
        assert_true(p.confidence >= 0 && p.confidence <= 1);
    }
}

/* Changed bytes: noticed by the checksum; with a right one refused or harmless. */
static void test_mutations(void **state)
{
    struct tr_random random;
    int accepted = 0, refused = 0;
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        trueno_regressor *r = knowing(kind, 40), *got;
        struct bytes b = export_of(r);
        tr_random_seed(&random, 36, (uint64_t)kind);
        for (int i = 0; i < 700; i++) {
            uint32_t where = tr_random_below(&random, (uint32_t)b.n);
            /* most of what is checked stands in front */
            if (i % 2) where = tr_random_below(&random, 1000);
            uint8_t was = b.p[where], crc[4];
            memcpy(crc, b.p + CRC_AT, 4);
            b.p[where] ^= (uint8_t)(1 + tr_random_below(&random, 255));
            assert_true(import(&got, b.p, b.n) != TRUENO_OK);
            seal(b);
            trueno_status st = import(&got, b.p, b.n);
            if (st == TRUENO_OK) {
                assert_harmless(got);
                trueno_learner *l;
                assert_int_equal(trueno_learner_new(got, &l, NULL), TRUENO_OK);
                trueno_features f = TRUENO_FEATURES_INIT;
                f.model_params_b = 7;
                for (int k = 1; k < 20; k++) {
                    f.batch_size = k;
                    assert_int_equal(trueno_learner_observe_run(l, &f, 100, NULL), TRUENO_OK);
                }
                assert_int_equal(trueno_regressor_apply_learner(got, l, NULL), TRUENO_OK);
                assert_harmless(got);
                trueno_learner_free(l);
            }
            trueno_regressor_free(got);
            accepted += st == TRUENO_OK;
            refused += st != TRUENO_OK;
            b.p[where] = was;
            memcpy(b.p + CRC_AT, crc, 4);
        }
        trueno_regressor_free(r);
        free(b.p);
    }
    assert_true(accepted > 100 && refused > 100); /* both happened */
}

/* Values that would not be noticed later. */
static void test_values(void **state)
{
    trueno_regressor *r = knowing(1, 0), *none;
    struct bytes b = export_of(r);
    double bad[] = {NAN, INFINITY, -1e300};
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        memcpy(b.p + INTERCEPT_AT, &bad[i], 8);
        seal(b);
        assert_int_equal(import(&none, b.p, b.n), TRUENO_ERR_CORRUPT);
    }
    bad[0] = 0.25;
    memcpy(b.p + INTERCEPT_AT, bad, 8);
    seal(b);
    assert_int_equal(import(&none, b.p, b.n), TRUENO_OK); /* it was the intercept */
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 7;
    assert_true(predict(none, &f).predicted_tps != predict(r, &f).predicted_tps);
    trueno_regressor_free(none);
    /* each within its bounds, but three cannot be correlated so */
    const double covariance[] = {100, 99, 100, 99, -99, 100};
    memcpy(b.p + COVARIANCE_AT, covariance, sizeof covariance);
    seal(b);
    assert_int_equal(import(&none, b.p, b.n), TRUENO_ERR_CORRUPT);
    put(b.p + COVARIANCE_AT + 4 * 8 + 7, 0x40, 1); /* 99 */
    seal(b);
    assert_int_equal(import(&none, b.p, b.n), TRUENO_OK);
    trueno_regressor_free(none);
    trueno_regressor_free(r);
    free(b.p);
}

/* A sound forest of more features than a regressor has would be asked beyond its vector. */
static void test_other_forest(void **state)
{
    enum { ROWS = 40 };
    static float x[ROWS][60];
    static double y[ROWS];
    trueno_regressor *r = knowing(2, 0), *none;
    struct bytes b = export_of(r), c;
    struct tr_forest *f;
    (void)state;
    for (int i = 0; i < ROWS; i++) x[i][59] = (float)(y[i] = i / 100.0);
    struct tr_forest_data data = {.x = x[0], .n = ROWS, .n_features = 60, .y = y};
    struct tr_forest_options o = {.n_trees = 3, .max_depth = 5, .min_leaf = 1, .mtry = 60};
    assert_int_equal(tr_forest_train(&f, ctx, &data, &o, NULL), TRUENO_OK);
    size_t front = b.n - (size_t)number(b.p + FOREST_BYTES_AT, 4);
    c.n = front + tr_forest_bytes(f);
    c.p = malloc(c.n);
    assert_non_null(c.p);
    memcpy(c.p, b.p, front);
    tr_forest_write(f, c.p + front);
    put(c.p + 16, c.n, 8);
    put(c.p + FOREST_BYTES_AT, tr_forest_bytes(f), 4);
    seal(c);
    assert_int_equal(import(&none, c.p, c.n), TRUENO_ERR_CORRUPT);
    tr_forest_free(f);
    trueno_regressor_free(r);
    free(b.p);
    free(c.p);
}

static void test_no_memory(void **state)
{
    trueno_regressor *r = knowing(2, 0);
    struct bytes b = export_of(r);
    int succeeded = 0;
    (void)state;
    for (size_t call = 1; call < 24; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *c;
        trueno_regressor *got, *clone = NULL;
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status st = trueno_regressor_import(c, &got, b.p, b.n, NULL);
        assert_int_equal(st, got ? TRUENO_OK : TRUENO_ERR_NO_MEMORY);
        if (got) {
            st = trueno_regressor_clone(got, &clone, NULL);
            assert_int_equal(st, clone ? TRUENO_OK : TRUENO_ERR_NO_MEMORY);
        }
        succeeded += st == TRUENO_OK;
        trueno_regressor_free(got);
        trueno_regressor_free(clone);
        trueno_ctx_free(c);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
    assert_true(succeeded > 5 && succeeded < 23);
    trueno_regressor_free(r);
    free(b.p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),   cmocka_unit_test(test_plain),
        cmocka_unit_test(test_layout),       cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_mutations),    cmocka_unit_test(test_values),
        cmocka_unit_test(test_other_forest), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
