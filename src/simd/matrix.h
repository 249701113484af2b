/* SPDX-License-Identifier: MIT */
/* A packed weight matrix and the products with it, as one thread of a pool sees them. */
#ifndef TR_MATRIX_H
#define TR_MATRIX_H

#include "act.h"
#include "x16.h"

#include "base/thread.h"

struct tr_matrix {
    trueno_dtype type; /* as in the file; what runs is tr_x16_type(type) */
    size_t rows, cols;
    size_t group_bytes;
    uint32_t tile_width; /* of the context */
    uint8_t *data;       /* ceil(rows / 16) groups, 64-byte aligned; not owned */
    bool mapped;         /* instead: */
    const uint8_t *file; /* block rows, anywhere, packed block by block in each product */
    const struct tr_kernel *gemm, *pack; /* chosen for the context */
    const struct tr_kernel *wide;        /* takes over for shapes that fit it; or NULL */
};

/* Bytes of storage for a matrix, a multiple of 64. False if the size does not fit. */
bool tr_matrix_bytes(uint64_t *bytes, trueno_dtype type, uint64_t rows, uint64_t cols);

/* Fills in shape and the context's kernels; `data` (tr_matrix_bytes, 64-byte aligned) is packed by
 * tr_matrix_pack_groups. Fails as tr_kernel_choose. */
trueno_status tr_matrix_init(struct tr_matrix *w, void *data, trueno_dtype type, size_t rows,
                             size_t cols, const trueno_ctx *ctx, trueno_error *err);

/* Makes w a matrix whose rows stay where they are: `file` (may be set later) instead of `data`. Its
 * products have the same bits. */
void tr_matrix_set_mapped(struct tr_matrix *w, const void *file);

/* The kernel that computes a product with m columns, ldy floats apart, unless somebody chooses
 * another one: any that reads the same weights and activations may stand for it
 * (tr_kernel_stands_in).
 */
const struct tr_kernel *tr_matrix_kernel(const struct tr_matrix *w, size_t m, size_t ldy);

/* True if `k` may compute the tiles of w's products in the place of w->gemm. */
bool tr_kernel_stands_in(const struct tr_kernel *k, const struct tr_matrix *w);

/* Packs row groups [g0, g1) from `rows`, GGUF block rows beginning with row 16 * g0. */
void tr_matrix_pack_groups(struct tr_matrix *w, const void *rows, size_t g0, size_t g1);

/* Decodes row r into dst[cols]: the embedding look-up. `scratch`: trueno_row_bytes of the run type.
 */
void tr_matrix_row(float *dst, const struct tr_matrix *w, size_t r, void *scratch);

/* Packs columns of x (m of them, ldx floats apart) for w; this thread's share of the tiles.
 * dst: m * tr_act_col_bytes(). */
void tr_act_pack_part(void *dst, const struct tr_matrix *w, const float *x, size_t ldx, size_t m,
                      uint32_t tid, uint32_t n_threads);

/* Bytes of scratch that tr_matmul_part needs for each thread, a multiple of 64. */
size_t tr_matmul_scratch_bytes(const struct tr_matrix *w);

/* A product cut into blocks of row groups x tiles of columns: units of work that can be done in any
 * order by anyone. Unit u is the block u / n_col_blocks, u % n_col_blocks: so neighbours share
 * weights. */
struct tr_cut {
    size_t groups, n_groups; /* row groups of a block, of all */
    size_t tiles, n_tiles;   /* tiles of a block, of all */
    size_t n_col_blocks, n_units;
};

/* Blocks of `groups` row groups of w x at most max_cols of m columns (more if no tile is so small).
 */
struct tr_cut tr_cut_of(const struct tr_matrix *w, size_t groups, size_t m, size_t max_cols);

/* Columns whose activations stay in the L2 cache beside a block of w's weights. */
size_t tr_block_cols(const struct tr_matrix *w);

/* The cut that suits a product with m columns by the kernel `by`. */
struct tr_cut tr_matmul_cut(const struct tr_matrix *w, const struct tr_kernel *by, size_t m);

/* A block: row groups [g0, g1), tiles [t0, t1) of the n_tiles that the m columns make. */
struct tr_block {
    size_t g0, g1, t0, t1, m, n_tiles;
};
struct tr_block tr_cut_block(const struct tr_cut *cut, size_t unit, size_t m);

/* First column of tile t of the block's product. */
static inline size_t tr_block_col(const struct tr_block *b, size_t t)
{
    return tr_tile(t, b->m, b->n_tiles);
}

/* y[(c - c0) * ldy + r - 16 * b->g0] = w[r] . column c for rows r and columns c of the block, whose
 * first column is c0. by: tr_matrix_kernel, or one that stands in. acts: all m columns, written by
 * tr_act_pack_part. scratch: of this thread, 64-byte aligned. Writes no rows past the matrix' last.
 */
void tr_matmul_block(const struct tr_matrix *w, const struct tr_kernel *by, float *y, size_t ldy,
                     const void *acts, const struct tr_block *b, void *scratch);

/* y[c * ldy + r] = w[r] . column c, for this thread's share of the units (tr_share_of) of a product
 * with m columns. */
void tr_matmul_part(const struct tr_matrix *w, const struct tr_kernel *by, float *y, size_t ldy,
                    const void *acts, size_t m, void *scratch, trueno_pool *pool, uint32_t tid,
                    uint32_t n_threads);

#endif
