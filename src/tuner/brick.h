/* SPDX-License-Identifier: MIT */
/* Inside of a brick (trueno/brick.h): what runs, and the list of its assertions. */
#ifndef TR_BRICK_H
#define TR_BRICK_H

#include "base/clock.h"
#include "simd/kernel.h"
#include "trueno/brick.h"

enum tr_assertion_kind {
    TR_ASSERT_EQUIV,
    TR_ASSERT_BOUNDS,
    TR_ASSERT_FINITE,
    TR_ASSERT_CUSTOM,
};

struct tr_assertion {
    enum tr_assertion_kind kind;
    const struct tr_kernel *baseline; /* EQUIV, with tol */
    double tol;
    double lo, hi; /* BOUNDS */
    char name[48]; /* CUSTOM, with fn and user */
    trueno_brick_check_fn fn;
    void *user;
};

struct trueno_brick {
    trueno_ctx *ctx;
    const struct tr_kernel *kernel;
    trueno_problem problem; /* n_cols is the most of a run */
    double budget_us;       /* per column; 0: none */
    bool enforce_budget;
    struct tr_clock clock;
    uint8_t *acts; /* packed, of min(problem.n_cols, TR_MATMUL_COLS) columns */
    trueno_brick_profile profile;
    uint32_t n_assertions;
    struct tr_assertion assertions[TRUENO_BRICK_MAX_ASSERTIONS];
};

/* As trueno_brick_new, but `kernel` computes, whoever it is: a row of the registry, or one that a
 * test made. It reads what the registry's kernels of the problem's type read, tiles of up to
 * TR_NT_MAX columns. Kernel, variant and the family's fit are not looked at. */
trueno_status tr_brick_new_with(trueno_ctx *ctx, trueno_brick **out,
                                const trueno_brick_config *config, const struct tr_kernel *kernel,
                                trueno_error *err);

/* Checks what a run is given, `io->y` apart, and tells its columns. */
trueno_status tr_brick_check(size_t *n_cols, const trueno_brick *b, const trueno_brick_io *io,
                             trueno_error *err);

/* y[c * ldy + r] for n_cols columns of io->x with `gemm`; `pack` packs them, NULL: the context's
 * choice for the weights. */
void tr_brick_compute(const trueno_brick *b, float *y, size_t ldy, const trueno_brick_io *io,
                      size_t n_cols, const struct tr_kernel *gemm, const struct tr_kernel *pack);

#endif
