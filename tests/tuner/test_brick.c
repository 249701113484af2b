/* SPDX-License-Identifier: MIT */
/* Bricks: that the kernel which was asked for runs and no other, that wrong kernels are caught,
 * that budgets and sums follow an injected clock. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <time.h>

#include "base/hooks.h"
#include "trueno/quantize.h"
#include "tuner/brick.h"
#include "tuner/context.h"
#include "tuner/random.h"

#define CANARY 12345.0F

static trueno_ctx *ctx;

static trueno_ctx *new_ctx(const char *cpu, const char *kernels)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *c;
    opt.cpu = cpu;
    opt.kernels = kernels;
    assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
    return c;
}

/* ----------------------------------------------------------------- products */

/* Weights, vectors and room for a product; y is 2 floats wider than it must be. */
struct data {
    trueno_problem problem;
    uint8_t *file;
    float *x, *y;
    trueno_pool *pool;
    trueno_matrix *w;
    trueno_brick_io io;
};

/* On [-1, 1). */
static float uniform(struct tr_random *r)
{
    return (float)(2 * tr_random_unit(r) - 1);
}

static struct data new_data(trueno_ctx *c, trueno_dtype type, size_t rows, size_t cols,
                            uint32_t n_cols, uint32_t threads)
{
    const trueno_problem p = TRUENO_PROBLEM_INIT;
    const trueno_brick_io io = TRUENO_BRICK_IO_INIT;
    struct data d = {.problem = p, .io = io};
    struct tr_random random;
    size_t n = rows * cols, ldx = cols + 3, ldy = rows + 2;
    float *weights = malloc(n * sizeof *weights);
    d.problem.type = type;
    d.problem.rows = rows;
    d.problem.cols = cols;
    d.problem.n_cols = n_cols;
    d.problem.threads = threads;
    d.file = malloc(rows * trueno_row_bytes(type, cols));
    d.x = malloc(n_cols * ldx * sizeof *d.x);
    d.y = malloc(n_cols * ldy * sizeof *d.y);
    assert_true(weights && d.file && d.x && d.y);
    tr_random_seed(&random, 7, 0);
    for (size_t i = 0; i < n; i++) weights[i] = uniform(&random);
    for (size_t i = 0; i < n_cols * ldx; i++) d.x[i] = uniform(&random);
    for (size_t i = 0; i < n_cols * ldy; i++) d.y[i] = CANARY;
    assert_int_equal(trueno_quantize(d.file, weights, type, n), TRUENO_OK);
    if (threads > 1) assert_int_equal(trueno_pool_new(c, &d.pool, threads, NULL), TRUENO_OK);
    assert_int_equal(trueno_matrix_new(c, &d.w, type, rows, cols, d.file, NULL, NULL), TRUENO_OK);
    d.io.weights = d.w;
    d.io.x = d.x;
    d.io.ldx = ldx;
    d.io.y = d.y;
    d.io.ldy = ldy;
    d.io.pool = d.pool;
    free(weights);
    return d;
}

static void free_data(struct data *d)
{
    trueno_matrix_free(d->w);
    trueno_pool_free(d->pool);
    free(d->file);
    free(d->x);
    free(d->y);
}

/* What trueno_matmul gives in a context that has nothing but the C reference. */
static float *reference(const struct data *d, size_t n_cols)
{
    trueno_ctx *ref = new_ctx("ref", NULL);
    const trueno_problem *p = &d->problem;
    trueno_matrix *w;
    float *y = malloc(n_cols * d->io.ldy * sizeof *y);
    assert_non_null(y);
    for (size_t i = 0; i < n_cols * d->io.ldy; i++) y[i] = CANARY;
    assert_int_equal(trueno_matrix_new(ref, &w, p->type, p->rows, p->cols, d->file, NULL, NULL),
                     TRUENO_OK);
    assert_int_equal(trueno_matmul(w, y, d->io.ldy, d->x, d->io.ldx, n_cols, NULL, NULL),
                     TRUENO_OK);
    trueno_matrix_free(w);
    trueno_ctx_free(ref);
    return y;
}

/* The same in double precision, for a share of what activations in int8 lose. */
static void check_against_double(const struct data *d, const float *y, size_t n_cols)
{
    const trueno_problem *p = &d->problem;
    size_t row_bytes = trueno_row_bytes(p->type, p->cols);
    float *w = malloc(p->cols * sizeof *w);
    double error = 0, size = 0;
    assert_non_null(w);
    for (size_t r = 0; r < p->rows; r++) {
        assert_int_equal(trueno_dequantize(w, d->file + r * row_bytes, p->type, p->cols),
                         TRUENO_OK);
        for (size_t c = 0; c < n_cols; c++) {
            double dot = 0;
            for (size_t k = 0; k < p->cols; k++) dot += w[k] * (double)d->x[c * d->io.ldx + k];
            error += (dot - (double)y[c * d->io.ldy + r]) * (dot - (double)y[c * d->io.ldy + r]);
            size += dot * dot;
        }
    }
    free(w);
    assert_true(error <= 1e-4 * size);
}

static trueno_brick_config config_of(const struct data *d, const char *variant)
{
    trueno_brick_config c = TRUENO_BRICK_CONFIG_INIT;
    c.variant = variant;
    c.problem = d->problem;
    return c;
}

static trueno_brick *new_brick(trueno_ctx *c, const trueno_brick_config *config)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_brick *b;
    if (trueno_brick_new(c, &b, config, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return b;
}

/* ------------------------------------------------------------------ kernels */

/* A product by the C reference of Q4_K, and what is done to it. */
static void reference_gemm(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                           size_t k, uint32_t nt)
{
    tr_kernel_find(0, TR_OP_GEMM, TRUENO_TYPE_Q4_K, TR_ACT_NONE)
        ->fn.gemm(out, ldo, w, n_groups, act, k, nt);
}

static int n_one, n_two;

static void gemm_one(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    n_one++;
    reference_gemm(out, ldo, w, n_groups, act, k, nt);
}

static void gemm_two(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    n_two++;
    reference_gemm(out, ldo, w, n_groups, act, k, nt);
}

/* Row 3 of the second column is one unit in the last place too far from zero. */
static void gemm_ulp(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    reference_gemm(out, ldo, w, n_groups, act, k, nt);
    if (n_groups > 1 && nt > 1)
        out[ldo + 3] = nextafterf(out[ldo + 3], copysignf(INFINITY, out[ldo + 3]));
}

static void gemm_scaled(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                        size_t k, uint32_t nt)
{
    reference_gemm(out, ldo, w, n_groups, act, k, nt);
    for (size_t c = 0; c < nt; c++)
        for (size_t r = 0; r < 16 * n_groups; r++) out[c * ldo + r] *= 1.01F;
}

static void gemm_nan(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                     size_t k, uint32_t nt)
{
    reference_gemm(out, ldo, w, n_groups, act, k, nt);
    out[(nt - 1) * ldo] = NAN;
}

static void gemm_nothing(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                         size_t k, uint32_t nt)
{
    (void)out, (void)ldo, (void)w, (void)n_groups, (void)act, (void)k, (void)nt;
}

static struct tr_kernel kernel_of(tr_gemm_fn fn, const char *name)
{
    struct tr_kernel k = *tr_kernel_find(0, TR_OP_GEMM, TRUENO_TYPE_Q4_K, TR_ACT_NONE);
    k.name = name;
    k.fn.gemm = fn;
    return k;
}

static trueno_brick *brick_of(const struct data *d, const struct tr_kernel *k)
{
    trueno_brick_config c = config_of(d, NULL);
    trueno_brick *b;
    assert_int_equal(tr_brick_new_with(ctx, &b, &c, k, NULL), TRUENO_OK);
    return b;
}

/* -------------------------------------------------------------------- clock */

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

/* ------------------------------------------------------------------ running */

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
        struct data d = new_data(ctx, types[i % 5], 37, 512, n, (uint32_t)(1 + i / 25));
        size_t bytes = n * d.io.ldy * sizeof *d.y;
        float *want = reference(&d, n);
        if (n < 10) check_against_double(&d, want, n);
        size_t n_kernels = tr_candidates(list, 16, ctx, &d.problem);
        assert_in_range(n_kernels, 1, 16);
        for (size_t j = 0; j < n_kernels; j++) {
            trueno_brick_config c = config_of(&d, list[j]->name);
            trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
            trueno_brick *b = new_brick(ctx, &c);
            for (size_t k = 0; k < n * d.io.ldy; k++) d.y[k] = CANARY;
            assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
            assert_memory_equal(d.y, want, bytes);
            assert_int_equal(r.tokens, n);
            assert_string_equal(trueno_brick_variant(b), list[j]->name);
            trueno_brick_free(b);
        }
        free(want);
        free_data(&d);
    }
}

/* Fewer columns than the batch: those and no others. */
static void test_fewer_columns(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 8, 1);
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *b = new_brick(ctx, &c);
    float *want = reference(&d, 3);
    (void)state;
    d.io.n_cols = 3;
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    assert_int_equal(r.tokens, 3);
    assert_memory_equal(d.y, want, 3 * d.io.ldy * sizeof *want);
    for (size_t i = 3 * d.io.ldy; i < 8 * d.io.ldy; i++) assert_true(d.y[i] == CANARY);
    free(want);
    trueno_brick_free(b);
    free_data(&d);
}

/* Changing the pick changes the function that runs, whatever the matrix would have chosen. */
static void test_pick_runs(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    const struct tr_kernel one = kernel_of(gemm_one, "one"), two = kernel_of(gemm_two, "two");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *a = brick_of(&d, &one), *b = brick_of(&d, &two);
    const struct tr_kernel *list[16];
    (void)state;
    n_one = n_two = 0;
    assert_int_equal(trueno_brick_run(a, &r, &d.io, NULL), TRUENO_OK);
    assert_true(n_one > 0 && n_two == 0);
    n_one = 0;
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    assert_true(n_one == 0 && n_two > 0);
    assert_string_equal(trueno_brick_variant(a), "one");
    trueno_brick_free(a);
    trueno_brick_free(b);
    size_t n = tr_candidates(list, 16, ctx, &d.problem);
    for (size_t i = 0; i < n; i++) {
        trueno_brick_config c = config_of(&d, list[i]->name);
        a = new_brick(ctx, &c);
        assert_true(a->kernel->fn.gemm == list[i]->fn.gemm);
        trueno_brick_free(a);
    }
    free_data(&d);
}

/* ------------------------------------------------------------------ choosing */

/* M = 1..3 is VectorizedQ4K, M >= 4 BatchedQ4K; the other one is refused, and which would do is
 * said. Without a variant the context's own choice runs. */
static void test_families(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 16, 256, 6, 1);
    trueno_brick_config c = config_of(&d, NULL);
    trueno_error err;
    (void)state;
    for (uint32_t m = 1; m <= 6; m++) {
        trueno_kernel right = m < 4 ? TRUENO_KERNEL_VECTORIZED_Q4K : TRUENO_KERNEL_BATCHED_Q4K;
        trueno_brick *b;
        c.batch_size = m;
        c.kernel = right;
        b = new_brick(ctx, &c);
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
    trueno_brick *b = new_brick(ctx, &c);
    trueno_brick_free(b);
    assert_null(trueno_brick_variant(NULL));
    assert_int_equal(trueno_brick_kernel(NULL), TRUENO_KERNEL_UNKNOWN);
    free_data(&d);
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
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 16, 256, 1, 1);
    trueno_brick_config c = config_of(&d, "gemm_q6_k_ref_16x8");
    trueno_ctx *ref = new_ctx("ref", NULL), *named = new_ctx(NULL, "gemm_q4_k_ref_16x8");
    trueno_ctx *wrong = new_ctx(NULL, "gemm_of_nobody");
    const struct tr_kernel *list[16];
    (void)state;
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "gemm_q4_k_ref_16x8");
    c.variant = "rmsnorm_ref";
    expect_refused(ctx, &c, TRUENO_ERR_UNSUPPORTED, "rmsnorm_ref");
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
    free_data(&d);
}

static void test_refused_configs(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 16, 256, 1, 1);
    const trueno_brick_config good = config_of(&d, "gemm_q4_k_ref_16x8");
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
    b = new_brick(ctx, &c);
    trueno_brick_free(b);
    trueno_brick_free(NULL);
    free_data(&d);
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
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 2);
    struct data other = new_data(ctx, TRUENO_TYPE_Q4_K, 38, 512, 4, 1);
    struct data wide = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 256, 4, 1);
    struct data type = new_data(ctx, TRUENO_TYPE_Q5_K, 37, 512, 4, 1);
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
    struct tr_kernel floats = kernel_of(gemm_one, "floats");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *b = new_brick(ctx, &c);
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
    b = brick_of(&d, &floats);
    expect_io_refused(b, &d.io, "activations");
    trueno_brick_free(b);
    c.threads = 1;
    b = new_brick(ctx, &c);
    assert_int_equal(trueno_brick_assert_finite(b, NULL), TRUENO_OK);
    expect_io_refused(b, &d.io, "2 threads, not 1");
    trueno_brick_free(b);
    free_data(&d);
    free_data(&other);
    free_data(&wide);
    free_data(&type);
}

/* ------------------------------------------------------------ budgets and sums */

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
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    float *want = reference(&d, 4);
    (void)state;
    for (size_t i = 0; i < 2 * sizeof cases / sizeof *cases; i++) {
        bool enforced = i % 2 && i / 2 > 0;
        struct clock clock = {UINT64_C(5000000000), {3, 8000}, 0};
        trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
        trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
        trueno_error err = {TRUENO_OK, ""};
        c.budget_us_per_token = cases[i / 2].us;
        c.budget_tok_per_sec = cases[i / 2].tps;
        c.enforce_budget = enforced;
        c.clock_fn = read_clock;
        c.clock_user = &clock;
        trueno_brick *b = new_brick(ctx, &c);
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
    free_data(&d);
}

/* Runs of 1000, 500 and 3000 ns over 4, 4 and 2 columns. 37 rows of 512 are 3 row groups of 2
 * panels of 2304 bytes (x16.h). */
static void test_stats(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    struct clock clock = {0, {1, 1000, 10, 500, 10, 3000, 0, 0}, 0};
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick_report report = TRUENO_BRICK_REPORT_INIT;
    trueno_brick_profile p = TRUENO_BRICK_PROFILE_INIT;
    (void)state;
    c.clock_fn = read_clock;
    c.clock_user = &clock;
    trueno_brick *b = new_brick(ctx, &c);
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
    free_data(&d);
}

/* 520 columns read the weights twice. */
static void test_passes(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 16, 256, 520, 1);
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick_profile p = TRUENO_BRICK_PROFILE_INIT;
    trueno_brick *b = new_brick(ctx, &c);
    (void)state;
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_stats(b, &p, NULL), TRUENO_OK);
    assert_int_equal(p.weight_bytes, 2 * 2304);
    assert_int_equal(p.tokens, 520);
    trueno_brick_free(b);
    free_data(&d);
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
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 40, 1);
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *b = new_brick(ctx, &c);
    (void)state;
    uint64_t start = now_ns();
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    uint64_t end = now_ns();
    assert_true(r.ns > 0 && r.ns <= end - start);
    trueno_brick_free(b);
    free_data(&d);
}

/* ----------------------------------------------------------------- assertions */

struct seen {
    const struct data *d;
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
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 9, 2);
    float *want = reference(&d, 9);
    struct seen seen = {&d, want, 9, 0, true};
    size_t n = tr_candidates(list, 16, ctx, &d.problem);
    trueno_brick_io io = d.io;
    (void)state;
    io.y = NULL;
    io.ldy = 0;
    for (size_t i = 0; i < n; i++) {
        trueno_brick_config c = config_of(&d, list[i]->name);
        trueno_brick_report r = TRUENO_BRICK_REPORT_INIT;
        trueno_error err = {TRUENO_OK, ""};
        trueno_brick *b = new_brick(ctx, &c);
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
    free_data(&d);
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
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    const struct tr_kernel wrong = kernel_of(gemm_ulp, "gemm_wrong");
    trueno_brick *b = brick_of(&d, &wrong);
    float *want = reference(&d, 4), is = want[d.io.ldy + 3];
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
    free_data(&d);
}

static void test_wrong_kernels(void **state)
{
    static const struct {
        tr_gemm_fn fn;
        int failed, first;
    } cases[] = {{gemm_one, 0, 6}, {gemm_scaled, 2, 0}, {gemm_nan, 6, 0}, {gemm_nothing, 6, 0}};
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 32, 512, 9, 2);
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct tr_kernel k = kernel_of(cases[i].fn, "gemm_wrong");
        trueno_brick *b = brick_of(&d, &k);
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
    free_data(&d);
}

/* A baseline that leaves its output unwritten does not pass for one that agrees with a kernel that
 * does the same. */
static void test_unwritten(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 32, 512, 2, 1);
    const struct tr_kernel nothing = kernel_of(gemm_nothing, "gemm_nothing");
    trueno_brick *b = brick_of(&d, &nothing);
    (void)state;
    assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
    b->assertions[0].baseline = &nothing;
    trueno_brick_report r = verify(b, &d.io);
    assert_int_equal(r.n_failed, 1);
    expect_message(&r, "row 0, column 0: nan, not nan");
    trueno_brick_free(b);
    free_data(&d);
}

/* Bounds name the number outside them, on both sides; a custom assertion what it was told. */
static void test_messages(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
    float *want = reference(&d, 4), lo = 0, hi = 0;
    struct seen seen = {&d, want, 4, 0, false};
    size_t where = 0;
    char text[120];
    (void)state;
    for (size_t i = 0; i < 4 * d.io.ldy; i++) {
        if (i % d.io.ldy >= 37) continue;
        if (want[i] > hi) hi = want[where = i];
        if (want[i] < lo) lo = want[i];
    }
    trueno_brick *b = new_brick(ctx, &c);
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

    b = new_brick(ctx, &c);
    assert_int_equal(trueno_brick_assert_custom(b, "sums\n", custom, &seen, NULL), TRUENO_OK);
    assert_int_equal(trueno_brick_assert_custom(b, "no", no, NULL, NULL), TRUENO_OK);
    r = verify(b, &d.io);
    assert_int_equal(r.n_failed, 2);
    snprintf(text, sizeof text, "assertion 0, sums\\x0a: row 5, column 1: %.9g",
             (double)want[d.io.ldy + 5]);
    assert_string_equal(r.message, text);
    trueno_brick_free(b);
    b = new_brick(ctx, &c);
    assert_int_equal(trueno_brick_assert_custom(b, "no", no, NULL, NULL), TRUENO_OK);
    r = verify(b, &d.io);
    assert_string_equal(r.message, "assertion 0, no");
    trueno_brick_free(b);
    free(want);
    free_data(&d);
}

/* NaN on both sides is equal bit by bit, and within no tolerance; nor is anything within a
 * tolerance of infinity. */
static void test_not_finite(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_F32, 20, 64, 2, 1);
    trueno_brick_config c = config_of(&d, "gemm_f32_ref_16x8");
    trueno_matrix *huge;
    (void)state;
    for (int i = 0; i < 2; i++) {
        trueno_brick *b = new_brick(ctx, &c);
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
    free_data(&d);
}

static void test_refused_assertions(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 2, 1);
    trueno_ctx *ref = new_ctx("ref", NULL);
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
    trueno_brick_report r = TRUENO_BRICK_REPORT_INIT;
    trueno_brick *b = new_brick(ref, &c);
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
    free_data(&d);
}

/* ------------------------------------------------------------------- memory */

/* Each failing allocation is reported and leaves nothing behind; a run allocates nothing. */
static void test_no_memory(void **state)
{
    struct data d = new_data(ctx, TRUENO_TYPE_Q4_K, 37, 512, 4, 1);
    trueno_brick_config c = config_of(&d, "gemm_q4_k_ref_16x8");
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
    free_data(&d);
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
        cmocka_unit_test(test_run),
        cmocka_unit_test(test_fewer_columns),
        cmocka_unit_test(test_pick_runs),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_not_replaced),
        cmocka_unit_test(test_refused_configs),
        cmocka_unit_test(test_refused_io),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_passes),
        cmocka_unit_test(test_system_clock),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_wrong_by_one_ulp),
        cmocka_unit_test(test_wrong_kernels),
        cmocka_unit_test(test_unwritten),
        cmocka_unit_test(test_messages),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_refused_assertions),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
