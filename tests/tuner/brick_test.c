/* SPDX-License-Identifier: MIT */
/* Shared parts of the tests of bricks (brick_test.h). */
#include "brick_test.h"

#include <math.h>
#include <stdlib.h>

#include "trueno/quantize.h"
#include "tuner/random.h"

trueno_ctx *brick_ctx(const char *cpu, const char *kernels)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *c;
    opt.cpu = cpu;
    opt.kernels = kernels;
    assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
    return c;
}

/* On [-1, 1). */
static float uniform(struct tr_random *r)
{
    return (float)(2 * tr_random_unit(r) - 1);
}

struct brick_data brick_data_new(trueno_ctx *c, trueno_dtype type, size_t rows, size_t cols,
                                 uint32_t n_cols, uint32_t threads)
{
    const trueno_problem p = TRUENO_PROBLEM_INIT;
    const trueno_brick_io io = TRUENO_BRICK_IO_INIT;
    struct brick_data d = {.problem = p, .io = io};
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

void brick_data_free(struct brick_data *d)
{
    trueno_matrix_free(d->w);
    trueno_pool_free(d->pool);
    free(d->file);
    free(d->x);
    free(d->y);
}

float *brick_reference(const struct brick_data *d, size_t n_cols)
{
    trueno_ctx *ref = brick_ctx("ref", NULL);
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

void brick_check_double(const struct brick_data *d, const float *y, size_t n_cols)
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

trueno_brick_config brick_config(const struct brick_data *d, const char *variant)
{
    trueno_brick_config c = TRUENO_BRICK_CONFIG_INIT;
    c.variant = variant;
    c.problem = d->problem;
    return c;
}

trueno_brick *brick_new(trueno_ctx *c, const trueno_brick_config *config)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_brick *b;
    if (trueno_brick_new(c, &b, config, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return b;
}

void brick_reference_gemm(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    tr_kernel_find(0, TR_OP_GEMM, TRUENO_TYPE_Q4_K, TR_ACT_NONE)
        ->fn.gemm(out, ldo, w, n_groups, act, k, nt);
}

struct tr_kernel brick_kernel(tr_gemm_fn fn, const char *name)
{
    struct tr_kernel k = *tr_kernel_find(0, TR_OP_GEMM, TRUENO_TYPE_Q4_K, TR_ACT_NONE);
    k.name = name;
    k.fn.gemm = fn;
    return k;
}

trueno_brick *brick_of(trueno_ctx *ctx, const struct brick_data *d, const struct tr_kernel *k)
{
    trueno_brick_config c = brick_config(d, NULL);
    trueno_brick *b;
    assert_int_equal(tr_brick_new_with(ctx, &b, &c, k, NULL), TRUENO_OK);
    return b;
}
