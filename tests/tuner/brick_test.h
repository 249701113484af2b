/* SPDX-License-Identifier: MIT */
/* What the tests of bricks share: a product to compute, and kernels that are in no registry. */
#ifndef BRICK_TEST_H
#define BRICK_TEST_H

/* cmocka wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tuner/brick.h"

#define CANARY 12345.0F

/* NULL: what there is. */
trueno_ctx *brick_ctx(const char *cpu, const char *kernels);

/* Weights, vectors and room for a product; y is 2 floats wider than it must be. */
struct brick_data {
    trueno_problem problem;
    uint8_t *file;
    float *x, *y;
    trueno_pool *pool;
    trueno_matrix *w;
    trueno_brick_io io;
};

/* Random weights and vectors; y is all CANARY. */
struct brick_data brick_data_new(trueno_ctx *c, trueno_dtype type, size_t rows, size_t cols,
                                 uint32_t n_cols, uint32_t threads);
void brick_data_free(struct brick_data *d);

/* What trueno_matmul gives in a context that has nothing but the C reference, laid out as y. The
 * caller frees it. */
float *brick_reference(const struct brick_data *d, size_t n_cols);

/* Fails if y is not the product, but for a share of what activations in int8 lose. */
void brick_check_double(const struct brick_data *d, const float *y, size_t n_cols);

trueno_brick_config brick_config(const struct brick_data *d, const char *variant);
trueno_brick *brick_new(trueno_ctx *c, const trueno_brick_config *config);

/* The C reference of Q4_K. */
void brick_reference_gemm(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt);

/* A kernel like it under another name, with another function. */
struct tr_kernel brick_kernel(tr_gemm_fn fn, const char *name);

/* A brick that computes with k. */
trueno_brick *brick_of(trueno_ctx *c, const struct brick_data *d, const struct tr_kernel *k);

#endif
