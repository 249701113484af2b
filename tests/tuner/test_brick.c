/* SPDX-License-Identifier: MIT */
/* Bricks: that the kernel which was asked for runs and no other, and that budgets and sums follow
 * an injected clock. */
#include "brick_test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/hooks.h"
#include "simd/matrix_api.h"
#include "tuner/context.h"

static trueno_ctx *ctx;

/* ------------------------------------------------------------------- kernels */

static int n_one, n_two;

static void gemm_one(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    n_one++;
    brick_reference_gemm(out, ldo, w, n_groups, act, k, nt);
}

static int n_wide;

static bool fits_all(const struct tr_gemm_shape *shape)
{
    (void)shape;
    return true;
}

static void gemm_wide(const struct tr_gemm_wide *a)
{
    (void)a;
    n_wide++;
}

static void gemm_two(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    n_two++;
    brick_reference_gemm(out, ldo, w, n_groups, act, k, nt);
}

/* --------------------------------------------------------------------- clock */

/* Each reading moves it by the next of the steps. */
struct clock {
    uint64_t now, steps[8];
    int n;
};

static uint64_t read_clock(void *user)
{
    struct clock *c = user;
    return c->now += c->steps[c->n++];
}

/* ------------------------------------------------------------------- running */

/* Every candidate for every type, with one thread and two: the bits of trueno_matmul with the C
 * reference, which are right, and nothing beside them is written. 520 columns are two passes. */
static void test_run(void **state)
{
    static const trueno_dtype types[] = {TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q6_K, TRUENO_TYPE_Q8_0,
                                         TRUENO_TYPE_F16, TRUENO_TYPE_F32};
    static const uint32_t counts[] = {1, 3, 4, 9, 520};
    const struct tr_kernel *list[16];
    (void)state;
    for (size_t i = 0; i < 5 * 5 * 2; i++) {
        uint32_t n = counts[i / 5 % 5];
        struct brick_data d = brick_data_new(ctx, types[i % 5], 37, 512, n, (uint32_t)(1 + i / 25));
        size_t bytes = n * d.io.ldy * sizeof *d.y;
        float *want = brick_reference(&d, n);
        if (n < 10) brick_check_double(&d, want, n);
        size_t n_kernels = tr_candidates(list, 16, ctx, &d.problem);
        assert_in_range(n_kernels, 1, 16);
        for (size_t j = 0; j < n_kernels; j++) {
            trueno_brick_config c = brick_config(&d, list[j]->name);
            trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
            trueno_brick *b = brick_new(ctx, &c);
            for (size_t k = 0; k < n * d.io.ldy; k++) d.y[k] = CANARY;
            assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
            assert_memory_equal(d.y, want, bytes);
            assert_int_equal(r.tokens, n);
            assert_string_equal(trueno_brick_variant(b), list[j]->name);
            trueno_brick_free(b);
        }
        free(want);
        brick_data_free(&d);
    }
}

/* Fewer columns than the batch: those and no others. */
static void test_fewer_columns(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 8, 1);
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *b = brick_new(ctx, &c);
    float *want = brick_reference(&d, 3);
    (void)state;
    d.io.n_cols = 3;
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    assert_int_equal(r.tokens, 3);
    assert_memory_equal(d.y, want, 3 * d.io.ldy * sizeof *want);
    for (size_t i = 3 * d.io.ldy; i < 8 * d.io.ldy; i++) assert_true(d.y[i] == CANARY);
    free(want);
    trueno_brick_free(b);
    brick_data_free(&d);
}

/* Changing the pick changes the function that runs, whatever the matrix would have chosen. */
static void test_pick_runs(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    const struct tr_kernel one = brick_kernel(gemm_one, "one"), two = brick_kernel(gemm_two, "two");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *a = brick_of(ctx, &d, &one), *b = brick_of(ctx, &d, &two);
    struct tr_matrix *matrix = (struct tr_matrix *)(uintptr_t)tr_matrix_of(d.w);
    const struct tr_kernel *list[16];
    (void)state;
    n_one = n_two = 0;
    assert_int_equal(trueno_brick_run(a, &r, &d.io, NULL), TRUENO_OK);
    assert_true(n_one > 0 && n_two == 0);
    n_one = 0;
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    assert_true(n_one == 0 && n_two > 0);
    struct tr_kernel wide = two;
    wide.fits = fits_all;
    wide.fn.gemm_wide = gemm_wide;
    matrix->wide = &wide;
    assert_int_equal(trueno_brick_run(a, &r, &d.io, NULL), TRUENO_OK);
    assert_true(n_one > 0 && n_wide == 0);
    assert_int_equal(trueno_matmul(d.w, d.y, d.io.ldy, d.x, d.io.ldx, 4, NULL, NULL), TRUENO_OK);
    assert_int_equal(n_wide, 1); /* what the weights would have chosen */
    matrix->wide = NULL;
    assert_string_equal(trueno_brick_variant(a), "one");
    trueno_brick_free(a);
    trueno_brick_free(b);
    size_t n = tr_candidates(list, 16, ctx, &d.problem);
    for (size_t i = 0; i < n; i++) {
        trueno_brick_config c = brick_config(&d, list[i]->name);
        a = brick_new(ctx, &c);
        assert_true(a->kernel->fn.gemm == list[i]->fn.gemm);
        trueno_brick_free(a);
    }
    brick_data_free(&d);
}

/* ------------------------------------------------------------------ choosing */

/* M = 1..3 is VectorizedQ4K, M >= 4 BatchedQ4K; the other one is refused, and which would do is
 * said. Without a variant the context's own choice runs. */
static void test_families(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 16, 256, 6, 1);
    trueno_brick_config c = brick_config(&d, NULL);
    trueno_error err;
    (void)state;
    for (uint32_t m = 1; m <= 6; m++) {
        trueno_kernel right = m < 4 ? TRUENO_KERNEL_VECTORIZED_Q4K : TRUENO_KERNEL_BATCHED_Q4K;
        trueno_brick *b;
        c.batch_size = m;
        c.kernel = right;
        b = brick_new(ctx, &c);
        assert_int_equal(trueno_brick_kernel(b), right);
        assert_string_equal(trueno_brick_variant(b), trueno_matrix_kernel(d.w, m));
        trueno_brick_free(b);
        c.kernel = TRUENO_KERNEL_VECTORIZED_Q4K + TRUENO_KERNEL_BATCHED_Q4K - right;
        assert_int_equal(trueno_brick_new(ctx, &b, &c, &err), TRUENO_ERR_UNSUPPORTED);
        assert_null(b);
        assert_non_null(strstr(err.message, trueno_kernel_name(right)));
        assert_non_null(strstr(err.message, trueno_kernel_name(c.kernel)));
        assert_non_null(strstr(err.message, "gemm_q4_k_ref_16x8"));
    }
    c.batch_size = 0; /* of the problem: 6 */
    c.kernel = TRUENO_KERNEL_BATCHED_Q4K;
    trueno_brick *b = brick_new(ctx, &c);
    trueno_brick_free(b);
    assert_null(trueno_brick_variant(NULL));
    assert_int_equal(trueno_brick_kernel(NULL), TRUENO_KERNEL_UNKNOWN);
    brick_data_free(&d);
}

static void expect_refused(trueno_ctx *context, const trueno_brick_config *c, trueno_status want,
                           const char *word)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_brick *b = (void *)context;
    assert_int_equal(trueno_brick_new(context, &b, c, &err), want);
    assert_null(b);
    if (!strstr(err.message, word)) fail_msg("'%s' is not in '%s'", word, err.message);
    assert_int_equal(trueno_brick_new(context, &b, c, NULL), want);
}

/* What does not fit is refused, not replaced. */
static void test_not_replaced(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 16, 256, 1, 1);
    trueno_brick_config c = brick_config(&d, "gemm_q6_k_ref_16x8");
    trueno_ctx *ref = brick_ctx("ref", NULL), *named = brick_ctx(NULL, "gemm_q4_k_ref_16x8");
    trueno_ctx *wrong = brick_ctx(NULL, "gemm_of_nobody");
    const struct tr_kernel *list[16];
    (void)state;
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "gemm_q4_k_ref_16x8");
    c.variant = "rmsnorm_ref";
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED,
                   "brick: rmsnorm_ref does not compute 1 columns of Q4_K");
    c.variant = "gemm_of_nobody";
    expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "gemm_of_nobody");
    c.variant = NULL;
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "Unknown");
    c.kernel = TRUENO_KERNEL_RMS_NORM;
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "RmsNorm");
    c.kernel = TRUENO_KERNEL_DEQUANT_BLAS_GPU;
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "DequantBlasGpu");
    c.kernel = (trueno_kernel)47;
    expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "47");
    c.kernel = TRUENO_KERNEL_BATCHED_Q4K; /* right variant, wrong family */
    c.variant = "gemm_q4_k_ref_16x8";
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "VectorizedQ4K (gemm_q4_k_ref_16x8)");
    c.kernel = TRUENO_KERNEL_UNKNOWN;
    expect_refused(wrong, &c, TRUENO_ERR_ARGUMENT, "gemm_of_nobody");
    c.problem.type = TRUENO_TYPE_I32;
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "");
    c.problem.type = TRUENO_TYPE_Q4_K;
    size_t n = tr_candidates(list, 16, ctx, &d.problem);
    for (size_t i = 0; i < n; i++) { /* above the level, or not the one that the user named */
        if (!list[i]->cpu) continue;
        c.variant = list[i]->name;
        expect_refused(ref, &c, TRUENO_ERR_UNSUPPORTED, "what does: Vectorized");
        expect_refused(named, &c, TRUENO_ERR_UNSUPPORTED, "what does: Vectorized");
    }
    trueno_ctx_free(ref);
    trueno_ctx_free(named);
    trueno_ctx_free(wrong);
    brick_data_free(&d);
}

static void test_refused_configs(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 16, 256, 1, 1);
    const trueno_brick_config good = brick_config(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_config c = good;
    trueno_brick *b = NULL;
    (void)state;
    assert_int_equal(trueno_brick_new(ctx, NULL, &good, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_new(NULL, &b, &good, NULL), TRUENO_ERR_ARGUMENT);
    expect_refused(ctx, NULL, TRUENO_ERR_ARGUMENT, "config");
    c.struct_size = 8;
    expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "struct_size");
    c = good;
    c.problem.cols = 100;
    expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "cols is 100");
    c = good;
    c.problem.cols = (size_t)1 << 62; /* activations of 2^62 bytes */
    expect_refused(ctx, &c, TRUENO_ERR_NO_MEMORY, "");
    static const double no_budgets[] = {-1, NAN, INFINITY};
    for (int i = 0; i < 3; i++) {
        c = good;
        c.budget_us_per_token = no_budgets[i];
        expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "budget_us_per_token");
        c = good;
        c.budget_tok_per_sec = no_budgets[i];
        expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "budget_tok_per_sec");
    }
    c = good;
    c.enforce_budget = true;
    expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "no budget");
    c.budget_us_per_token = 10;
    c.budget_tok_per_sec = 200000; /* 5 us */
    expect_refused(ctx, &c, TRUENO_ERR_ARGUMENT, "contradict");
    c.budget_tok_per_sec = 100500; /* half a percent off */
    b = brick_new(ctx, &c);
    trueno_brick_free(b);
    trueno_brick_free(NULL);
    brick_data_free(&d);
}

static void expect_io_refused(trueno_brick *b, const trueno_brick_io *io, const char *word)
{
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick_report report = TRUENO_BRICK_REPORT_INIT;
    trueno_error err = {TRUENO_OK, ""};
    r.ns = r.tokens = 77;
    report.n_failed = 77;
    assert_int_equal(trueno_brick_run(b, &r, io, &err), TRUENO_ERR_ARGUMENT);
    if (!strstr(err.message, word)) fail_msg("'%s' is not in '%s'", word, err.message);
    assert_true(r.ns == 0 && r.tokens == 0 && !r.budget_met);
    bool about_y = io && (!io->y || io->ldy < b->problem.rows);
    assert_int_equal(trueno_brick_verify(b, &report, io, &err),
                     about_y ? TRUENO_OK : TRUENO_ERR_ARGUMENT);
    assert_int_equal(report.n_failed, 0);
}

static void test_refused_io(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 2);
    struct brick_data other = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 38, 512, 4, 1);
    struct brick_data wide = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 256, 4, 1);
    struct brick_data type = brick_data_new(ctx, TRUENO_TYPE_Q5_K, 37, 512, 4, 1);
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    struct tr_kernel floats = brick_kernel(gemm_one, "floats");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *b = brick_new(ctx, &c);
    trueno_brick_io io = d.io;
    (void)state;
    assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_run(b, &r, &io, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_run(NULL, &r, &io, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_brick_run(b, NULL, &io, NULL), TRUENO_ERR_ARGUMENT);
    r.struct_size = 3;
    assert_int_equal(trueno_brick_run(b, &r, &io, NULL), TRUENO_ERR_ARGUMENT);
    expect_io_refused(b, NULL, "io");
    io.struct_size = 1;
    expect_io_refused(b, &io, "struct_size");
    io = d.io;
    io.weights = NULL;
    expect_io_refused(b, &io, "weights");
    io = d.io;
    io.x = NULL;
    expect_io_refused(b, &io, "x is NULL");
    io = d.io;
    io.y = NULL;
    expect_io_refused(b, &io, "y is NULL");
    io = d.io;
    io.ldx = 511;
    expect_io_refused(b, &io, "ldx 511");
    io = d.io;
    io.ldy = 36;
    expect_io_refused(b, &io, "ldy 36");
    io = d.io;
    io.n_cols = 5;
    expect_io_refused(b, &io, "5 vectors");
    io = d.io;
    io.pool = NULL;
    expect_io_refused(b, &io, "1 threads, not 2");
    io = d.io;
    io.weights = other.w;
    expect_io_refused(b, &io, "38 rows");
    io.weights = wide.w;
    expect_io_refused(b, &io, "of 256 ");
    io.weights = type.w;
    expect_io_refused(b, &io, "Q5_K");
    trueno_brick_free(b);
    floats.act = TR_ACT_F32;
    b = brick_of(ctx, &d, &floats);
    expect_io_refused(b, &d.io, "activations");
    trueno_brick_free(b);
    c.threads = 1;
    b = brick_new(ctx, &c);
    assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
    expect_io_refused(b, &d.io, "2 threads, not 1");
    trueno_brick_free(b);
    brick_data_free(&d);
    brick_data_free(&other);
    brick_data_free(&wide);
    brick_data_free(&type);
}

/* ---------------------------------------------------------- budgets and sums */

/* 8000 ns for 4 columns: 2 us per token, 500000 tokens per second. */
static void test_budget(void **state)
{
    static const struct {
        double us, tps;
        bool met;
        double utilization;
    } cases[] = {{0, 0, true, 0},     {4, 0, true, 0.5},      {2, 0, true, 1},
                 {1, 0, false, 2},    {0, 250000, true, 0.5}, {0, 1e6, false, 2},
                 {1, 1e6, false, 2},  {2, 500000, true, 1},   {2.01, 500000, true, 1},
                 {2, 495050, true, 1}};
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    float *want = brick_reference(&d, 4);
    (void)state;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        bool enforced = i % 2 && i / 2 > 0;
        struct clock clock = {UINT64_C(5000000000), {3, 8000}, 0};
        trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
        trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
        trueno_error err = {TRUENO_OK, ""};
        c.budget_us_per_token = cases[i / 2].us;
        c.budget_tok_per_sec = cases[i / 2].tps;
        c.enforce_budget = enforced;
        c.clock_fn = read_clock;
        c.clock_user = &clock;
        trueno_brick *b = brick_new(ctx, &c);
        memset(d.y, 0, 4 * d.io.ldy * sizeof *d.y);
        for (size_t k = 0; k < 4; k++) d.y[k * d.io.ldy + 37] = d.y[k * d.io.ldy + 38] = CANARY;
        assert_int_equal(trueno_brick_run(b, &r, &d.io, &err),
                         enforced && !cases[i / 2].met ? TRUENO_ERR_BUDGET_EXCEEDED : TRUENO_OK);
        assert_int_equal(clock.n, 2);
        assert_memory_equal(d.y, want, 4 * d.io.ldy * sizeof *d.y);
        assert_int_equal(r.ns, 8000);
        assert_int_equal(r.tokens, 4);
        assert_true(r.us_per_token == 2 && r.tokens_per_sec == 500000);
        assert_int_equal(r.budget_met, cases[i / 2].met);
        assert_true(fabs(r.budget_utilization - cases[i / 2].utilization) <= 1e-12);
        if (enforced && !cases[i / 2].met) assert_non_null(strstr(err.message, "2 us per token"));
        trueno_brick_free(b);
    }
    free(want);
    brick_data_free(&d);
}

/* Runs of 1000, 500 and 3000 ns over 4, 4 and 2 columns. 37 rows of 512 are 3 row groups of 2
 * panels of 2304 bytes (x16.h). */
static void test_stats(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    struct clock clock = {0, {1, 1000, 10, 500, 10, 3000, 0, 0}, 0};
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick_report report = TRUENO_BRICK_REPORT_INIT;
    trueno_brick_profile p = TRUENO_BRICK_PROFILE_INIT;
    (void)state;
    c.clock_fn = read_clock;
    c.clock_user = &clock;
    trueno_brick *b = brick_new(ctx, &c);
    p.runs = p.min_ns = 9;
    assert_int_equal(trueno_brick_stats(b, &p, NULL), TRUENO_OK);
    assert_true(p.runs == 0 && p.tokens == 0 && p.min_ns == 0 && p.max_ns == 0 &&
                p.tokens_per_sec == 0 && p.weight_bytes == 0 && p.gb_per_sec == 0);
    for (int i = 0; i < 3; i++) {
        d.io.n_cols = i == 2 ? 2 : 0;
        assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    }
    assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_verify(b, &report, &d.io, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_stats(b, &p, NULL), TRUENO_OK);
    assert_int_equal(p.runs, 3);
    assert_int_equal(p.tokens, 10);
    assert_int_equal(p.total_ns, 4500);
    assert_int_equal(p.min_ns, 500);
    assert_int_equal(p.max_ns, 3000);
    assert_true(fabs(p.tokens_per_sec / (10 / 4.5e-6) - 1) <= 1e-12);
    assert_int_equal(p.weight_bytes, 3 * 3 * 2 * 2304);
    assert_true(fabs(p.gb_per_sec / (3 * 3 * 2 * 2304 / 4500.0) - 1) <= 1e-12);
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK); /* the clock stands still */
    assert_true(r.ns == 0 && r.us_per_token == 0 && r.tokens_per_sec == 0);
    assert_int_equal(trueno_brick_stats(NULL, &p, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(p.runs, 0);
    assert_int_equal(trueno_brick_stats(b, NULL, NULL), TRUENO_ERR_ARGUMENT);
    p.struct_size = 0;
    assert_int_equal(trueno_brick_stats(b, &p, NULL), TRUENO_ERR_ARGUMENT);
    trueno_brick_free(b);
    brick_data_free(&d);
}

/* 520 columns read the weights twice. */
static void test_passes(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 16, 256, 520, 1);
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick_profile p = TRUENO_BRICK_PROFILE_INIT;
    trueno_brick *b = brick_new(ctx, &c);
    (void)state;
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_stats(b, &p, NULL), TRUENO_OK);
    assert_int_equal(p.weight_bytes, 2 * 2304);
    assert_int_equal(p.tokens, 520);
    trueno_brick_free(b);
    brick_data_free(&d);
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The clock that is used where none is given: what lies within cannot take longer. */
static void test_system_clock(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 40, 1);
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *b = brick_new(ctx, &c);
    (void)state;
    uint64_t start = now_ns();
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    uint64_t end = now_ns();
    assert_true(r.ns > 0 && r.ns <= end - start);
    trueno_brick_free(b);
    brick_data_free(&d);
}

/* -------------------------------------------------------------------- memory */

/* Each failing allocation is reported and leaves nothing behind; a run allocates nothing. */
static void test_no_memory(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    trueno_brick_config c = brick_config(&d, "gemm_q4_k_ref_16x8");
    int succeeded = 0;
    (void)state;
    for (size_t call = 1; call < 6; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
        trueno_brick_report report = TRUENO_BRICK_REPORT_INIT;
        trueno_ctx *hooked;
        trueno_brick *b = NULL;
        assert_int_equal(trueno_ctx_new(&hooked, &opt, NULL), TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status status = trueno_brick_new(hooked, &b, &c, NULL);
        if (status == TRUENO_OK) {
            assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
            size_t calls = atomic_load(&h.calls);
            assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
            assert_int_equal(atomic_load(&h.calls), calls);
            status = trueno_brick_verify(b, &report, &d.io, NULL);
            assert_int_equal(report.n_assertions, status == TRUENO_OK);
        }
        assert_true(status == TRUENO_OK || status == TRUENO_ERR_NO_MEMORY);
        succeeded += status == TRUENO_OK;
        trueno_ctx_free(hooked); /* the brick holds on to it */
        trueno_brick_free(b);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
    assert_int_equal(succeeded, 2); /* a brick, its activations, what is verified */
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
        cmocka_unit_test(test_run),          cmocka_unit_test(test_fewer_columns),
        cmocka_unit_test(test_pick_runs),    cmocka_unit_test(test_families),
        cmocka_unit_test(test_not_replaced), cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_refused_io),   cmocka_unit_test(test_budget),
        cmocka_unit_test(test_stats),        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_system_clock), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
