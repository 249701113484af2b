/* SPDX-License-Identifier: MIT */
/* Assertions of bricks: that right kernels pass and that wrong ones are caught and described. */
#include "brick_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simd/matrix_api.h"
#include "tuner/context.h"

static trueno_ctx *ctx;

/* ------------------------------------------------------------------- kernels */

/* Row 3 of the second column is one unit in the last place too far from zero. */
static void gemm_ulp(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    brick_reference_gemm(out, ldo, w, n_groups, act, k, nt);
    if (n_groups > 1 && nt > 1)
        out[ldo + 3] = nextafterf(out[ldo + 3], copysignf(INFINITY, out[ldo + 3]));
}

static void gemm_scaled(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                        size_t k, uint32_t nt)
{
    brick_reference_gemm(out, ldo, w, n_groups, act, k, nt);
    for (size_t c = 0; c < nt; c++)
        for (size_t r = 0; r < 16 * n_groups; r++) out[c * ldo + r] *= 1.01F;
}

static void gemm_nan(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    brick_reference_gemm(out, ldo, w, n_groups, act, k, nt);
    out[(nt - 1) * ldo] = NAN;
}

static void gemm_infinite(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    brick_reference_gemm(out, ldo, w, n_groups, act, k, nt);
    out[(nt - 1) * ldo + 7] = INFINITY;
}

static void gemm_nothing(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                         size_t k, uint32_t nt)
{
    (void)out, (void)ldo, (void)w, (void)n_groups, (void)act, (void)k, (void)nt;
}

/* ---------------------------------------------------------------- assertions */

struct seen {
    const struct brick_data *d;
    const float *want;
    size_t n_cols;
    int calls;
    bool answer;
};

/* Looks at what it is shown, then says what it is told to; the fault is at row 5, column 1. */
static bool custom(void *user, const trueno_brick_output *out, size_t *row, size_t *column)
{
    struct seen *s = user;
    s->calls++;
    assert_int_equal(out->struct_size, sizeof *out);
    assert_int_equal(out->rows, 37);
    assert_int_equal(out->cols, 512);
    assert_int_equal(out->n_cols, s->n_cols);
    assert_ptr_equal(out->x, s->d->x);
    assert_int_equal(out->ldx, s->d->io.ldx);
    for (size_t c = 0; c < out->n_cols; c++)
        assert_memory_equal(out->y + c * out->ldy, s->want + c * s->d->io.ldy, 37 * sizeof(float));
    *row = 5;
    *column = 1;
    return s->answer;
}

static bool no(void *user, const trueno_brick_output *out, size_t *row, size_t *column)
{
    (void)user, (void)out, (void)row, (void)column;
    return false;
}

/* All variants here are equivalent; each assertion is executed; y is neither needed nor written. */
static void test_verify(void **state)
{
    const struct tr_kernel *list[16];
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 9, 2);
    float *want = brick_reference(&d, 9);
    struct seen seen = {&d, want, 9, 0, true};
    size_t n = tr_candidates(list, 16, ctx, &d.problem);
    trueno_brick_io io = d.io;
    (void)state;
    io.y = NULL;
    io.ldy = 0;
    for (size_t i = 0; i < n; i++) {
        trueno_brick_config c = brick_config(&d, list[i]->name);
        trueno_brick_report r = TRUENO_BRICK_REPORT_INIT;
        trueno_error err = {TRUENO_OK, ""};
        trueno_brick *b = brick_new(ctx, &c);
        assert_int_equal(trueno_brick_verify(b, &r, &io, &err), TRUENO_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "no assertion"));
        assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
        for (size_t j = 0; j < n; j++)
            assert_int_equal(trueno_brick_assert_equiv(b, list[j]->name, j ? 0 : 1e-6, NULL),
                             TRUENO_OK);
        assert_int_equal(trueno_brick_assert_bounds(b, -1e4, 1e4, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_custom(b, "looks", custom, &seen, NULL), TRUENO_OK);
        if (trueno_brick_verify(b, &r, &io, &err) != TRUENO_OK) fail_msg("%s", err.message);
        assert_int_equal(r.n_assertions, n + 4);
        assert_int_equal(r.n_failed, 0);
        assert_int_equal(r.first_failed, n + 4);
        assert_string_equal(r.message, "");
        assert_int_equal(seen.calls, i + 1);
        trueno_brick_free(b);
    }
    for (size_t i = 0; i < 9 * d.io.ldy; i++) assert_true(d.y[i] == CANARY);
    free(want);
    brick_data_free(&d);
}

/* Verifies and tells which assertions failed, in n_failed and first_failed. */
static trueno_brick_report verify(trueno_brick *b, const trueno_brick_io *io)
{
    trueno_brick_report r = TRUENO_BRICK_REPORT_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_status status = trueno_brick_verify(b, &r, io, &err);
    assert_int_equal(status, r.n_failed ? TRUENO_ERR_ASSERTION : TRUENO_OK);
    if (r.n_failed && !strstr(err.message, r.message)) fail_msg("%s", err.message);
    return r;
}

static void expect_message(const trueno_brick_report *r, const char *word)
{
    if (!strstr(r->message, word)) fail_msg("'%s' is not in '%s'", word, r->message);
}

/* One unit in the last place of one number is found, and said. */
static void test_wrong_by_one_ulp(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    const struct tr_kernel wrong = brick_kernel(gemm_ulp, "gemm_wrong");
    trueno_brick *b = brick_of(ctx, &d, &wrong);
    float *want = brick_reference(&d, 4), is = want[d.io.ldy + 3];
    char values[80];
    (void)state;
    assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, 1e-6, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_assert_bounds(b, -1e4, 1e4, NULL), TRUENO_OK);
    trueno_brick_report r = verify(b, &d.io);
    assert_int_equal(r.n_assertions, 4);
    assert_int_equal(r.n_failed, 1);
    assert_int_equal(r.first_failed, 2);
    expect_message(&r, "assertion 2, equiv with gemm_q4_k_ref_16x8");
    expect_message(&r, "row 3, column 1: ");
    snprintf(values, sizeof values, "%.9g, not %.9g",
             (double)nextafterf(is, copysignf(INFINITY, is)), (double)is);
    expect_message(&r, values);
    trueno_brick_free(b);
    free(want);
    brick_data_free(&d);
}

static void test_wrong_kernels(void **state)
{
    static const struct {
        tr_gemm_fn fn;
        int failed, first;
    } cases[] = {
        {brick_reference_gemm, 0, 6}, {gemm_scaled, 2, 0}, {gemm_nan, 6, 0}, {gemm_nothing, 6, 0}};
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 32, 512, 9, 2);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tr_kernel k = brick_kernel(cases[i].fn, "gemm_wrong");
        trueno_brick *b = brick_of(ctx, &d, &k);
        /* 1 % is within 2 % and not within a thousandth of the largest */
        assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_equiv(b, NULL, 1e-3, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0.02, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_bounds(b, -INFINITY, INFINITY, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_bounds(b, -1e4, INFINITY, NULL), TRUENO_OK);
        trueno_brick_report r = verify(b, &d.io);
        assert_int_equal(r.n_assertions, 6);
        assert_int_equal(r.n_failed, cases[i].failed);
        assert_int_equal(r.first_failed, cases[i].first);
        trueno_brick_free(b);
    }
    brick_data_free(&d);
}

/* Halves the first of the vectors. */
static void pack_half(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    size_t n = (nt - 1) * ldx + k;
    float *copy = malloc(n * sizeof *copy);
    assert_non_null(copy);
    for (size_t i = 0; i < n; i++) copy[i] = i < k ? x[i] / 2 : x[i];
    tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, TR_ACT_A8_256)
        ->fn.quantize(tile, copy, ldx, k, nt);
    free(copy);
}

/* Activations that were packed wrong do not make the baseline wrong too. */
static void test_wrong_packing(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 32, 512, 2, 1);
    const struct tr_kernel right = brick_kernel(brick_reference_gemm, "gemm_right");
    struct tr_matrix *matrix = (struct tr_matrix *)(uintptr_t)tr_matrix_of(d.w);
    struct tr_kernel pack = *matrix->pack;
    trueno_brick *b = brick_of(ctx, &d, &right);
    (void)state;
    pack.fn.quantize = pack_half;
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
    assert_int_equal(verify(b, &d.io).n_failed, 0);
    matrix->pack = &pack;
    trueno_brick_report r = verify(b, &d.io);
    assert_int_equal(r.n_failed, 1);
    expect_message(&r, "row 0, column 0");
    trueno_brick_free(b);
    brick_data_free(&d);
}

/* A baseline that leaves its output unwritten does not pass for one that agrees with a kernel that
 * does the same. */
static void test_unwritten(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 32, 512, 2, 1);
    const struct tr_kernel nothing = brick_kernel(gemm_nothing, "gemm_nothing");
    trueno_brick *b = brick_of(ctx, &d, &nothing);
    (void)state;
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
    b->assertions[0].baseline = &nothing;
    trueno_brick_report r = verify(b, &d.io);
    assert_int_equal(r.n_failed, 1);
    expect_message(&r, "row 0, column 0: nan, not nan");
    trueno_brick_free(b);
    brick_data_free(&d);
}

/* Bounds name the number outside them, on both sides; a custom assertion what it was told. */
static void test_messages(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    float *want = brick_reference(&d, 4), lo = 0, hi = 0;
    struct seen seen = {&d, want, 4, 0, false};
    size_t where = 0;
    char text[120];
    (void)state;
    for (size_t i = 0; i < 4 * d.io.ldy; i++) {
        if (i % d.io.ldy >= 37) continue;
        if (want[i] > hi) hi = want[where = i];
        if (want[i] < lo) lo = want[i];
    }
    trueno_brick *b = brick_new(ctx, &c);
    assert_int_equal(trueno_brick_assert_bounds(b, (double)lo, (double)hi, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_assert_bounds(b, (double)lo, (double)nextafterf(hi, 0), NULL),
                     TRUENO_OK);
    assert_int_equal(trueno_brick_assert_bounds(b, (double)nextafterf(lo, 0), (double)hi, NULL),
                     TRUENO_OK);
    trueno_brick_report r = verify(b, &d.io);
    assert_int_equal(r.n_failed, 2);
    assert_int_equal(r.first_failed, 1);
    snprintf(text, sizeof text, "row %zu, column %zu: %.9g", where % d.io.ldy, where / d.io.ldy,
             (double)hi);
    expect_message(&r, text);
    expect_message(&r, "assertion 1, bounds [");
    trueno_brick_free(b);

    b = brick_new(ctx, &c);
    assert_int_equal(trueno_brick_assert_custom(b, "sums\n", custom, &seen, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_assert_custom(b, "no", no, NULL, NULL), TRUENO_OK);
    r = verify(b, &d.io);
    assert_int_equal(r.n_failed, 2);
    snprintf(text, sizeof text, "assertion 0, sums\\x0a: row 5, column 1: %.9g",
             (double)want[d.io.ldy + 5]);
    assert_string_equal(r.message, text);
    trueno_brick_free(b);
    b = brick_new(ctx, &c);
    assert_int_equal(trueno_brick_assert_custom(b, "no", no, NULL, NULL), TRUENO_OK);
    r = verify(b, &d.io);
    assert_string_equal(r.message, "assertion 0, no");
    trueno_brick_free(b);
    free(want);
    brick_data_free(&d);
}

/* NaN on both sides is equal bit by bit, and within no tolerance; nor is anything within a
 * tolerance of infinity. */
static void test_not_finite(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_F32, 20, 64, 2, 1);
    trueno_brick_config c = brick_config(&d, "gemm_f32_ref_16x8");
    trueno_matrix *huge;
    (void)state;
    for (int i = 0; i < 2; i++) {
        trueno_brick *b = brick_new(ctx, &c);
        trueno_brick_io io = d.io;
        assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_equiv(b, NULL, 1, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_bounds(b, -INFINITY, INFINITY, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
        d.x[d.io.ldx + 2] = i ? 2 : NAN;
        if (i) { /* sums that overflow */
            for (size_t k = 0; k < 20 * 64; k++) memcpy(d.file + 4 * k, &(float){3e38F}, 4);
            for (size_t k = 0; k < 2 * d.io.ldx; k++) d.x[k] = 2;
        }
        assert_int_equal(trueno_matrix_new(ctx, &huge, TRUENO_TYPE_F32, 20, 64, d.file, NULL, NULL),
                         TRUENO_OK);
        io.weights = huge;
        trueno_brick_report r = verify(b, &io);
        assert_int_equal(r.first_failed, 1);
        assert_int_equal(r.n_failed, i ? 2 : 3); /* infinity is within infinite bounds */
        expect_message(&r, i ? "row 0, column 0: inf" : "row 0, column 1: nan");
        trueno_matrix_free(huge);
        trueno_brick_free(b);
    }
    brick_data_free(&d);
}

/* A baseline that overflowed does not allow everything else. */
static void test_infinite_baseline(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 32, 512, 2, 1);
    const struct tr_kernel right = brick_kernel(brick_reference_gemm, "gemm_right");
    const struct tr_kernel infinite = brick_kernel(gemm_infinite, "gemm_infinite");
    trueno_brick *b = brick_of(ctx, &d, &right);
    (void)state;
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, 1, NULL), TRUENO_OK);
    b->assertions[0].baseline = &infinite;
    trueno_brick_report r = verify(b, &d.io);
    assert_int_equal(r.n_failed, 1);
    expect_message(&r, "row 7, column 1: ");
    expect_message(&r, "not inf");
    trueno_brick_free(b);
    brick_data_free(&d);
}

static void test_refused_assertions(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 2, 1);
    trueno_ctx *ref = brick_ctx("ref", NULL);
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_report r = TRUENO_BRICK_REPORT_INIT;
    trueno_brick *b = brick_new(ref, &c);
    const struct tr_kernel *list[16];
    trueno_error err;
    static const char long_name[] = "a name of an assertion that takes forty-eight ch";
    (void)state;
    assert_int_equal(trueno_brick_assert_equiv(NULL, NULL, 0, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, -1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, NAN, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, INFINITY, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_equiv(b, "nobody", 0, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "nobody"));
    assert_int_equal(trueno_brick_assert_equiv(b, "gemm_q8_0_ref_16x8", 0, &err),
                     TRUENO_ERR_UNSUPPORTED);
    size_t n = tr_candidates(list, 16, ctx, &d.problem);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(trueno_brick_assert_equiv(b, list[i]->name, 0, NULL),
                         list[i]->cpu ? TRUENO_ERR_UNSUPPORTED : TRUENO_OK);
    assert_int_equal(trueno_brick_assert_bounds(NULL, 0, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_bounds(b, 1, 0, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_bounds(b, NAN, 0, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_bounds(b, 0, NAN, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_finite(NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_custom(NULL, "no", no, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_custom(b, NULL, no, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_custom(b, "", no, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_assert_custom(b, "no", NULL, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(strlen(long_name), 48);
    assert_int_equal(trueno_brick_assert_custom(b, long_name, no, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(b->n_assertions, 1); /* the C reference among the candidates */
    assert_int_equal(trueno_brick_assert_custom(b, long_name + 1, no, NULL, NULL), TRUENO_OK);
    for (int i = 2; i < TRUENO_BRICK_MAX_ASSERTIONS; i++)
        assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(trueno_brick_assert_bounds(b, 0, 1, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(trueno_brick_assert_custom(b, "no", no, NULL, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(trueno_brick_verify(NULL, &r, &d.io, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_verify(b, NULL, &d.io, NULL), TRUENO_ERR_ARGUMENT);
    r = verify(b, &d.io);
    assert_int_equal(r.n_assertions, TRUENO_BRICK_MAX_ASSERTIONS);
    assert_int_equal(r.n_failed, 1);
    r.struct_size = 0;
    assert_int_equal(trueno_brick_verify(b, &r, &d.io, NULL), TRUENO_ERR_ARGUMENT);
    trueno_brick_free(b);
    trueno_ctx_free(ref);
    brick_data_free(&d);
}

static int setup(void **state)
{
    (void)state;
    return (int)trueno_ctx_new(&ctx, NULL, NULL);
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
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_wrong_by_one_ulp),
        cmocka_unit_test(test_wrong_kernels),
        cmocka_unit_test(test_wrong_packing),
        cmocka_unit_test(test_unwritten),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_infinite_baseline),
        cmocka_unit_test(test_refused_assertions),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
