/* SPDX-License-Identifier: MIT */
/* The pretrained regressor: its file, put together here by the layout of pretrained.h; what a tuner
 * says of it; importances. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "tuner/little_endian.h"
#include "tuner/pretrained.h"
#include "tuner/runs.h"
#include "tuner/tuner_impl.h"

enum {
    CRC_AT = 12,
    BYTES_AT = 16,
    N_AT = 32,
    MAPE_AT = 40,
    MACHINE_AT = 48,
    DATE_AT = 112,
    ROWS_AT = 128,
    HEADER = ROWS_AT + 42 * 16,
    REGRESSOR_CRC_AT = HEADER + 12
};

struct file {
    uint8_t *p;
    size_t n;
};

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

static void put(struct file f, size_t offset, uint64_t v, int n_bytes)
{
    uint8_t *at = f.p + offset;
    tr_put_int(&at, v, n_bytes);
    at = f.p + CRC_AT;
    tr_put_int(&at, crc_of(f.p + 16, f.n - 16), 4);
}

static void put_number(struct file f, size_t offset, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put(f, offset, bits, 8);
}

static double importance_of(int slot)
{
    return slot == 30 ? 0.5 : slot == 31 || slot == 5 ? 0.25 : 0;
}

/* Importances as above, each with an error of a hundredth; slot 0 is not identified. */
static struct file file_of(const trueno_regressor *r, double mape)
{
    struct file f;
    size_t len;
    assert_int_equal(trueno_regressor_export(r, NULL, 0, &len, NULL), TRUENO_OK);
    f.n = HEADER + len;
    f.p = calloc(1, f.n);
    assert_non_null(f.p);
    uint8_t *at = f.p + 8;
    memcpy(f.p, "TRUENOPT", 8);
    tr_put_int(&at, 2, 4);
    tr_put_int(&at, 0, 4);
    tr_put_int(&at, f.n, 8);
    tr_put_int(&at, UINT64_C(0x1122334455667788), 8);
    tr_put_int(&at, 77, 8);
    tr_put_f64(&at, mape);
    memcpy(at, "four cores", 10);
    at += 64;
    memcpy(at, "2026-01-31", 10);
    at += 16;
    for (int i = 0; i < 42; i++) {
        tr_put_f64(&at, importance_of(i));
        tr_put_f64(&at, i ? 0.01 : (double)NAN);
    }
    assert_int_equal(at - f.p, HEADER);
    assert_int_equal(trueno_regressor_export(r, at, len, &len, NULL), TRUENO_OK);
    put(f, 8, 2, 4); /* the checksum */
    return f;
}

/* A ridge of 40 random runs. */
static trueno_regressor *trained(void)
{
    struct rows rows = random_rows(40, 3, 0.05);
    trueno_regressor *r = new_regressor();
    assert_int_equal(trueno_regressor_train(r, NULL, rows.f, rows.tps, rows.n, NULL), TRUENO_OK);
    free_rows(&rows);
    return r;
}

static struct file small_file(double mape)
{
    trueno_regressor *r = trained();
    struct file f = file_of(r, mape);
    trueno_regressor_free(r);
    return f;
}

static trueno_tuner *new_tuner(void)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner *t;
    o.store_path = "";
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
    return t;
}

static trueno_tuner *pretrained_tuner(void)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *t;
    o.mode = TRUENO_TUNER_LEARN;
    o.store_path = "";
    if (trueno_tuner_with_pretrained(ctx, &t, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return t;
}

static double mape_of(const trueno_tuner *t, trueno_accuracy *detail)
{
    double mape;
    *detail = (trueno_accuracy)TRUENO_ACCURACY_INIT;
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, detail), TRUENO_OK);
    return mape;
}

/* ----------------------------------------------------------------------- the file */

static void test_read(void **state)
{
    struct tr_pretrained out;
    struct file f = small_file(0.125);
    (void)state;
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, NULL), TRUENO_OK);
    assert_true(out.data_hash == UINT64_C(0x1122334455667788) && out.n_held_out == 77);
    assert_true(out.mape == 0.125);
    assert_string_equal(out.machine, "four cores");
    assert_string_equal(out.date, "2026-01-31");
    assert_ptr_equal(out.regressor, f.p + HEADER);
    assert_int_equal(out.regressor_bytes, f.n - HEADER);
    const uint32_t first[] = {30, 5, 31, 0, 1, 2, 3, 4, 6}; /* largest first, then by slot */
    for (size_t i = 0; i < 9; i++) assert_int_equal(out.importance[i].idx, first[i]);
    for (int i = 0; i < 42; i++) {
        const trueno_importance *row = &out.importance[i];
        assert_true(row->importance == importance_of((int)row->idx));
        assert_ptr_equal(row->name, trueno_feature_name((trueno_feature)row->idx));
        assert_true(row->idx ? row->std_error == 0.01 : isnan(row->std_error));
    }
    free(f.p);
}

/* Every cut, every changed byte, and values that cannot be though the checksum is right. */
static void test_refused(void **state)
{
    struct tr_pretrained out;
    struct file f = small_file(0.125);
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    for (size_t n = 0; n < f.n; n++) {
        uint8_t *cut = malloc(n + 1); /* so that a sanitizer sees what is read behind it */
        assert_non_null(cut);
        memcpy(cut, f.p, n);
        assert_int_equal(tr_pretrained_read(&out, cut, n, &err), TRUENO_ERR_TRUNCATED);
        assert_null(out.regressor);
        free(cut);
    }
    for (size_t i = 0; i < f.n; i++) {
        f.p[i] ^= 1;
        assert_int_not_equal(tr_pretrained_read(&out, f.p, f.n, &err), TRUENO_OK);
        assert_null(out.regressor);
        f.p[i] ^= 1;
    }
    f.p[0] = 'X';
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, &err), TRUENO_ERR_FORMAT);
    f.p[0] = 'T';
    put(f, 8, 3, 4);
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, &err), TRUENO_ERR_VERSION);
    put(f, 8, 2, 4);
    put(f, BYTES_AT, f.n - 1, 8);
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, &err), TRUENO_ERR_CORRUPT);
    put(f, BYTES_AT, UINT64_MAX, 8);
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, &err), TRUENO_ERR_TRUNCATED);
    put(f, BYTES_AT, f.n, 8);
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, &err), TRUENO_OK);
    free(f.p);
}

static void test_values_that_cannot_be(void **state)
{
    struct tr_pretrained out;
    struct file f = small_file(0.125);
    (void)state;
    const struct {
        size_t at;
        double v, good;
    } cases[] = {
        {MAPE_AT, (double)NAN, 0.1},       {MAPE_AT, -0.1, 0.1},
        {MAPE_AT, (double)INFINITY, 0.1},  {ROWS_AT, (double)NAN, 0},
        {ROWS_AT + 16, -0.01, 0},          {ROWS_AT + 41 * 16, 1.01, 0},
        {ROWS_AT + 8, -0.01, (double)NAN}, {ROWS_AT + 24, (double)INFINITY, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_number(f, cases[i].at, cases[i].v);
        assert_int_equal(tr_pretrained_read(&out, f.p, f.n, NULL), TRUENO_ERR_CORRUPT);
        put_number(f, cases[i].at, cases[i].good);
        assert_int_equal(tr_pretrained_read(&out, f.p, f.n, NULL), TRUENO_OK);
    }
    put(f, N_AT, 0, 8);
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, NULL), TRUENO_ERR_CORRUPT);
    put(f, N_AT, 1, 8);
    put(f, MACHINE_AT + 63, 'x', 1);
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, NULL), TRUENO_ERR_CORRUPT);
    put(f, MACHINE_AT + 63, 0, 1);
    put(f, DATE_AT + 10, 'x', 1);
    assert_int_equal(tr_pretrained_read(&out, f.p, f.n, NULL), TRUENO_ERR_CORRUPT);
    free(f.p);
}

static void test_too_large(void **state)
{
    struct tr_pretrained out;
    struct file f = small_file(0.125), large = {calloc(1, 300 * 1024 + 1), 300 * 1024 + 1};
    (void)state;
    assert_non_null(large.p);
    memcpy(large.p, f.p, HEADER);
    put(large, BYTES_AT, large.n, 8);
    assert_int_equal(tr_pretrained_read(&out, large.p, large.n, NULL), TRUENO_ERR_CORRUPT);
    large.n--;
    put(large, BYTES_AT, large.n, 8);
    assert_int_equal(tr_pretrained_read(&out, large.p, large.n, NULL), TRUENO_OK);
    free(large.p);
    free(f.p);
}

/* ---------------------------------------------------------------------- the tuner */

/* What is said of the accuracy is what the file says; the regressor is the file's. */
static void test_use(void **state)
{
    trueno_accuracy a;
    trueno_regressor *r = trained();
    struct tr_random random;
    (void)state;
    tr_random_seed(&random, 9, 0);
    trueno_features run = random_run(&random);
    for (int k = 0; k < 2; k++) {
        const double mape = k ? 0.25 : 0.125;
        struct file f = file_of(r, mape);
        trueno_tuner *t = new_tuner();
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        assert_int_equal(tr_tuner_use_pretrained(t, f.p, f.n, NULL), TRUENO_OK);
        assert_true(mape_of(t, &a) == mape);
        assert_int_equal(a.n, 77);
        assert_string_equal(a.split, "leave one model out");
        assert_string_equal(a.machine, "four cores");
        assert_string_equal(a.date, "2026-01-31");
        assert_true(a.data_hash == UINT64_C(0x1122334455667788));
        assert_string_equal(trueno_tuner_version(t), "1.0.0-pretrained");
        assert_int_equal(trueno_tuner_predict(t, &p, &run, NULL), TRUENO_OK);
        assert_true(p.predicted_tps == predict(r, &run).predicted_tps);
        assert_int_equal(p.source, TRUENO_SOURCE_RIDGE);
        trueno_tuner_free(t);
        free(f.p);
    }
    trueno_regressor_free(r);
}

/* A regressor that is none: nothing changes. */
static void test_use_refused(void **state)
{
    struct file f = small_file(0.125);
    trueno_tuner *t = new_tuner();
    double mape;
    (void)state;
    put(f, REGRESSOR_CRC_AT, 0, 4);
    assert_int_equal(tr_tuner_use_pretrained(t, f.p, f.n, NULL), TRUENO_ERR_CORRUPT);
    assert_int_equal(tr_tuner_use_pretrained(t, f.p, 100, NULL), TRUENO_ERR_TRUNCATED);
    assert_string_equal(trueno_tuner_version(t), "1.0.0");
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, NULL), TRUENO_ERR_NOT_MEASURED);
    trueno_tuner_free(t);
    free(f.p);
}

/* A run like those of the corpus. */
static trueno_features cpu_run(void)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 0.6;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 25;
    f.gpu_compute_tflops = 0.8;
    f.sm_count = 2;
    f.cpu_threads = 2;
    return f;
}

static void test_shipped(void **state)
{
    trueno_tuner *t = pretrained_tuner(), *plain = new_tuner(), *copy;
    trueno_prediction p = TRUENO_PREDICTION_INIT, q = p;
    trueno_features f = cpu_run();
    trueno_accuracy a, b;
    (void)state;
    assert_string_equal(trueno_tuner_version(t), "1.0.0-pretrained");
    assert_int_equal(trueno_tuner_get_mode(t), TRUENO_TUNER_LEARN);
    assert_int_equal(trueno_tuner_predict(t, &p, &f, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_predict(plain, &q, &f, NULL), TRUENO_OK);
    assert_int_equal(p.source, TRUENO_SOURCE_FOREST);
    assert_true(p.predicted_tps != q.predicted_tps && p.roofline_tps == q.roofline_tps);
    assert_true(p.level == 0.9 && p.confidence > 0);
    const double mape = mape_of(t, &a);
    assert_true(mape > 0 && a.n > 20 && a.data_hash != 0 && a.machine[0] != 0);
    assert_int_equal(strlen(a.date), 10);

    assert_int_equal(trueno_tuner_clone(t, &copy, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(copy), "1.0.0-pretrained");
    assert_true(mape_of(copy, &b) == mape && b.n == a.n);
    trueno_tuner_free(copy);
    trueno_tuner_free(plain);
    trueno_tuner_free(t);
}

/* Learning goes on from it; what replaces it takes its name and its accuracy away. */
static void test_goes_on(void **state)
{
    trueno_tuner *t = pretrained_tuner();
    trueno_features f = cpu_run();
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_regressor *r = trained();
    double mape;
    (void)state;
    assert_int_equal(trueno_tuner_predict(t, &p, &f, NULL), TRUENO_OK);
    const double before = p.predicted_tps;
    assert_int_equal(trueno_tuner_observe_run(t, &f, 0.5 * before, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(t), "1.0.0-online-1");
    assert_int_equal(trueno_tuner_predict(t, &p, &f, NULL), TRUENO_OK);
    assert_true(p.predicted_tps < before);
    assert_int_equal(trueno_tuner_set_models(t, r, NULL, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(t), "1.0.0");
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, NULL), TRUENO_ERR_NOT_MEASURED);
    trueno_regressor_free(r);
    trueno_tuner_free(t);
}

static void test_arguments(void **state)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner *t = (trueno_tuner *)&o;
    (void)state;
    assert_int_equal(trueno_tuner_with_pretrained(ctx, NULL, &o, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_with_pretrained(NULL, &t, &o, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(t);
    o.struct_size = 3;
    assert_int_equal(trueno_tuner_with_pretrained(ctx, &t, &o, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(t);
}

static void test_out_of_memory(void **state)
{
    struct hooks h = {0};
    trueno_ctx_options opt = hook_options(&h);
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_ctx *own;
    trueno_tuner *t;
    int failed = 0;
    (void)state;
    o.store_path = "";
    assert_int_equal(trueno_ctx_new(&own, &opt, NULL), TRUENO_OK);
    const size_t held = atomic_load(&h.blocks);
    for (trueno_status status = TRUENO_ERR_NO_MEMORY; status != TRUENO_OK; failed++) {
        h.fail_at = atomic_load(&h.calls) + 1 + (size_t)failed;
        status = trueno_tuner_with_pretrained(own, &t, &o, NULL);
        h.fail_at = 0;
        assert_true(status == TRUENO_OK || status == TRUENO_ERR_NO_MEMORY);
        assert_true((t != NULL) == (status == TRUENO_OK));
        if (!t) assert_int_equal(atomic_load(&h.blocks), held);
    }
    assert_true(failed > 5);
    trueno_tuner_free(t);
    trueno_ctx_free(own);
    assert_int_equal(atomic_load(&h.blocks), 0);
}

/* -------------------------------------------------------------------- importances */

static void test_importance(void **state)
{
    const trueno_importance *rows = NULL, *again = NULL;
    double sum = 0;
    uint64_t seen = 0;
    (void)state;
    assert_int_equal(trueno_pretrained_feature_importance(NULL), 0);
    assert_int_equal(trueno_pretrained_feature_importance(&rows), 42);
    assert_int_equal(trueno_pretrained_feature_importance(&again), 42);
    assert_ptr_equal(rows, again);
    for (int i = 0; i < 42; i++) {
        trueno_feature_info info;
        assert_true(rows[i].idx < 42);
        seen |= (uint64_t)1 << rows[i].idx;
        sum += rows[i].importance;
        assert_true(i == 0 || rows[i].importance <= rows[i - 1].importance);
        assert_string_equal(rows[i].name, trueno_feature_name((trueno_feature)rows[i].idx));
        assert_int_equal(trueno_feature_info_get(&info, (trueno_feature)rows[i].idx), TRUENO_OK);
        if (info.inert || isnan(rows[i].std_error)) assert_true(rows[i].importance == 0);
        if (rows[i].idx == 30) assert_string_equal(rows[i].name, "gpu_mem_bw_gbs");
        if (rows[i].idx == 31) assert_string_equal(rows[i].name, "gpu_compute_tflops");
    }
    assert_true(seen == ((uint64_t)1 << 42) - 1);
    assert_true(fabs(sum - 1) < 1e-9);
}

/* The bytes in the library are the file. */
static void test_embedded(void **state)
{
    struct tr_pretrained out;
    (void)state;
    assert_int_equal((uintptr_t)tr_pretrained_file % 16, 0);
    assert_int_equal(tr_pretrained_read(&out, tr_pretrained_file, tr_pretrained_file_bytes, NULL),
                     TRUENO_OK);
    assert_true(tr_pretrained_file_bytes <= 300 * 1024);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),       cmocka_unit_test(test_refused),
        cmocka_unit_test(test_too_large),  cmocka_unit_test(test_values_that_cannot_be),
        cmocka_unit_test(test_use),        cmocka_unit_test(test_use_refused),
        cmocka_unit_test(test_shipped),    cmocka_unit_test(test_goes_on),
        cmocka_unit_test(test_arguments),  cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_importance), cmocka_unit_test(test_embedded),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
