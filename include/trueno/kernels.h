/* SPDX-License-Identifier: MIT */
/** @file kernels.h
 *  The compute kernels, usable without a model: the registry of what there is, and matrix products
 * with packed weights.
 *
 *  Numerics (class E, "exact"): integer sums are exact and the few float steps follow one fixed
 * order, so every kernel of one weight format gives the same bits as the C reference, on every
 * instruction set, for any number of columns at once and any number of threads. Formulas:
 * docs/numerics.md.
 */
#ifndef TRUENO_KERNELS_H
#define TRUENO_KERNELS_H

#include "base.h"
#include "gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* -------------------------------------------------------------- registry */

/** One registered kernel. Static storage. */
typedef struct trueno_kernel_info {
    const char *name;        /**< unique and stable, e.g. "gemm_q4_k_avx512_16x8" */
    const char *op;          /**< "gemm", "quantize", "attention", "rmsnorm", ... */
    const char *type;        /**< weight or cache format, "" if the op has none */
    const char *numerics;    /**< "exact" or "reordered" */
    uint32_t cpu_features;   /**< every bit that it needs; 0: C reference */
    const char *family;      /**< label of what it does, e.g. "VectorizedQ4K"; "Generic" if none */
    uint32_t tile_rows;      /**< gemm: weight rows of one pass over tile_cols columns; else 0 */
    uint32_t tile_cols;      /**< gemm, quantize: most columns per call; else 0 */
    uint32_t prefetch_bytes; /**< gemm: how far ahead weights are fetched; 0: left to the CPU */
    uint32_t unit_bytes; /**< gemm: weights that a thread takes at a time while each is used once */
    uint32_t block_bytes; /**< gemm: weights that stay in a cache while many columns pass */
    uint64_t version;     /**< of all kernels of this build: a hash of sources, compiler and flags;
                             what was measured with another version need not hold */
} trueno_kernel_info;

/** Number of kernels in the registry of this build. */
TRUENO_API size_t trueno_registry_count(void);
/** The kernel at `index`; NULL past the end. Slowest first within one op and type: a context uses
 * the last one whose features it has and whose numerics it allows, unless another is named in
 * trueno_ctx_options.kernels or TRUENO_KERNEL. */
TRUENO_API const trueno_kernel_info *trueno_registry_at(size_t index);

/* -------------------------------------------------------------- matrices */

/** Threads that compute together. One call uses a pool at a time. */
typedef struct trueno_pool trueno_pool;

/** Starts `n_threads - 1` threads (0: trueno_cpu_count()); the caller's thread is the last one. If
 * the system refuses a thread, the pool is smaller. Idle threads sleep. They block all signals but
 * those of a fault, so the host's handlers do not run on them. One that finds itself on the CPU of
 * another thread of the pool leaves it by narrowing its own affinity mask for a moment; the
 * caller's mask is never touched. In a child made by fork() while the
 * pool was idle it works on with the caller's thread alone. @return OK; ERR_ARGUMENT (>
 * 1024); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_pool_new(trueno_ctx *ctx, trueno_pool **out, uint32_t n_threads,
                                         trueno_error *err);
TRUENO_API void trueno_pool_free(trueno_pool *pool);
/** Threads that compute, the caller's included. */
TRUENO_API uint32_t trueno_pool_size(const trueno_pool *pool);

/** A weight matrix [rows, cols], packed for this machine's kernels. Immutable, shareable between
 * threads. */
typedef struct trueno_matrix trueno_matrix;

/** Packs `rows` rows of `cols` weights (GGUF block rows, trueno_row_bytes(type, cols) each, no gap)
 * into the layout the kernels read. `data` is not needed afterwards. `pool` NULL: this thread
 * alone.
 *  @return OK; ERR_ARGUMENT (shape, cols not a multiple of the block); ERR_UNSUPPORTED (type);
 * ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_matrix_new(trueno_ctx *ctx, trueno_matrix **out, trueno_dtype type,
                                           size_t rows, size_t cols, const void *data,
                                           trueno_pool *pool, trueno_error *err);
TRUENO_API void trueno_matrix_free(trueno_matrix *w);
/** Name of the kernel that multiplies with `n_cols` vectors (kernels of the registry). Static
 * storage; NULL for NULL. */
TRUENO_API const char *trueno_matrix_kernel(const trueno_matrix *w, size_t n_cols);

/** y[m][r] = sum over k of w[r][k] * x[m][k], for m < n_cols vectors.
 *  x: n_cols vectors of `cols` floats, `ldx` floats apart; y: n_cols vectors of `rows` floats,
 * `ldy` floats apart. Quantised weights see the activations as int8 with one float32 scale per 32
 * or 256 elements (docs/numerics.md). A column that holds NaN or infinity comes out as NaN.
 *  @return OK; ERR_ARGUMENT (NULL, ldx < cols, ldy < rows); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_matmul(const trueno_matrix *w, float *y, size_t ldy, const float *x,
                                       size_t ldx, size_t n_cols, trueno_pool *pool,
                                       trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
