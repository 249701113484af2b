/* SPDX-License-Identifier: MIT */
/* Packed matrices, and how a product with one is cut: row groups among threads, a thread's groups
 * into blocks that stay in the L2 cache, columns into tiles that pass them one after the other. So
 * weights come from memory once. No cut goes along k, so none changes a result. */
#include "matrix.h"

#include <string.h>

#include "base/error.h"
#include "quant/quant.h"

static size_t n_groups_of(size_t rows)
{
    return rows / TR_ROWS + (rows % TR_ROWS != 0);
}

bool tr_matrix_bytes(uint64_t *bytes, trueno_dtype type, uint64_t rows, uint64_t cols)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    uint64_t bound, groups;

    *bytes = 0;
    if (!info || !info->can_run || cols % info->block != 0) return false;
    /* no group takes more than 64 bytes per column and 512 of headers */
    if (!tr_mul(&bound, cols, 64) || !tr_add(&bound, bound, 512) || bound > SIZE_MAX) return false;
    if (!tr_add(&groups, rows, TR_ROWS - 1)) return false;
    groups /= TR_ROWS;
    return tr_mul(bytes, groups, tr_x16_group_bytes(type, (size_t)cols)) && *bytes <= SIZE_MAX;
}

trueno_status tr_matrix_init(struct tr_matrix *w, void *data, trueno_dtype type, size_t rows,
                             size_t cols, const trueno_ctx *ctx, trueno_error *err)
{
    w->type = type;
    w->rows = rows;
    w->cols = cols;
    w->group_bytes = tr_x16_group_bytes(type, cols);
    w->tile_width = tr_tile_width(ctx);
    w->data = data;
    w->mapped = false;
    w->file = NULL;
    trueno_status status =
        tr_kernel_choose(&w->gemm, &w->wide, ctx, TR_OP_GEMM, tr_x16_type(type), TR_ACT_NONE, err);
    if (status != TRUENO_OK) return status;
    return tr_kernel_choose(&w->pack, NULL, ctx, TR_OP_QUANTIZE, TR_TYPE_NONE, w->gemm->act, err);
}

const struct tr_kernel *tr_matrix_kernel(const struct tr_matrix *w, size_t m, size_t ldy)
{
    const struct tr_gemm_shape shape = {m, ldy};
    return w->wide && w->wide->fits(&shape) ? w->wide : w->gemm;
}

bool tr_kernel_stands_in(const struct tr_kernel *k, const struct tr_matrix *w)
{
    return k->op == TR_OP_GEMM && !k->fits && k->dtype == w->gemm->dtype &&
           k->act == w->gemm->act && k->nt_max >= w->gemm->nt_max;
}

/* Row groups of at most `bytes` of weights: an even number, for kernels that take two at a time. */
static size_t groups_of(const struct tr_matrix *w, size_t bytes)
{
    size_t n = bytes / (w->group_bytes + 1) / 2 * 2;
    return n < 2 ? 2 : n;
}

void tr_matrix_set_mapped(struct tr_matrix *w, const void *file)
{
    w->data = NULL;
    w->wide = NULL; /* it takes all row groups at once */
    w->mapped = true;
    w->file = file;
}

size_t tr_matmul_scratch_bytes(const struct tr_matrix *w)
{
    if (w->mapped) return groups_of(w, TR_BLOCK_BYTES_MAX) * w->group_bytes;
    return w->wide ? w->wide->scratch_bytes : 0;
}

/* Packing reads 16 rows side by side, which is more than the CPU's own prefetching follows. */
static void prefetch_bytes(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) __builtin_prefetch(p + i);
}

/* Packs row groups [g0, g1) one after the other to `dst` from `rows`, which begin with row 16 *
 * g0. */
static void pack_groups(uint8_t *dst, const struct tr_matrix *w, const uint8_t *rows, size_t g0,
                        size_t g1)
{
    size_t row_bytes = trueno_row_bytes(w->type, w->cols);
    for (size_t g = g0; g < g1; g++, dst += w->group_bytes, rows += TR_ROWS * row_bytes) {
        size_t left = w->rows - TR_ROWS * g;
        if (g + 1 < g1) prefetch_bytes(rows + TR_ROWS * row_bytes, TR_ROWS * row_bytes);
        tr_x16_pack(dst, rows, row_bytes, left < TR_ROWS ? left : TR_ROWS, w->type, w->cols);
    }
}

void tr_matrix_pack_groups(struct tr_matrix *w, const void *rows, size_t g0, size_t g1)
{
    pack_groups(w->data + g0 * w->group_bytes, w, rows, g0, g1);
}

void tr_matrix_row(float *dst, const struct tr_matrix *w, size_t r, void *scratch)
{
    if (w->mapped) {
        tr_dequantize_row(dst, w->file + r * trueno_row_bytes(w->type, w->cols), w->type, w->cols);
        return;
    }
    const uint8_t *group = w->data + r / TR_ROWS * w->group_bytes;
    tr_x16_unpack_row(scratch, group, r % TR_ROWS, w->type, w->cols);
    tr_dequantize_row(dst, scratch, tr_x16_type(w->type), w->cols);
}

void tr_act_pack_part(void *dst, const struct tr_matrix *w, const float *x, size_t ldx, size_t m,
                      uint32_t tid, uint32_t n_threads)
{
    size_t col_bytes = tr_act_col_bytes(w->pack->act, w->cols);
    size_t n_tiles = tr_n_tiles(m, w->tile_width), begin, end;

    tr_split(&begin, &end, n_tiles, 1, tid, n_threads);
    for (size_t t = begin; t < end; t++) {
        size_t c0 = tr_tile(t, m, n_tiles), c1 = tr_tile(t + 1, m, n_tiles);
        uint8_t *tile = (uint8_t *)dst + c0 * col_bytes;
        w->pack->fn.quantize(tile, x + c0 * ldx, ldx, w->cols, (uint32_t)(c1 - c0));
    }
}

/* ----------------------------------------------------------------------- cuts */

/* Activations that stay in the L2 cache beside the weights of a block, and columns that are enough
 * to use these often: more make units of work that are hard to share. */
#define BLOCK_ACT_BYTES ((size_t)384 << 10)
#define BLOCK_COLS      ((size_t)128)

size_t tr_block_cols(const struct tr_matrix *w)
{
    size_t fit = BLOCK_ACT_BYTES / tr_act_col_bytes(w->pack->act, w->cols);
    return fit < BLOCK_COLS ? fit : BLOCK_COLS;
}

struct tr_cut tr_cut_of(const struct tr_matrix *w, size_t groups, size_t m, size_t max_cols)
{
    struct tr_cut c = {.groups = groups,
                       .n_groups = n_groups_of(w->rows),
                       .n_tiles = tr_n_tiles(m, w->tile_width)};
    size_t tiles = max_cols > w->tile_width ? max_cols / w->tile_width : 1;
    size_t n_col_blocks = (c.n_tiles + tiles - 1) / tiles;
    c.tiles = (c.n_tiles + n_col_blocks - 1) / n_col_blocks;
    c.n_col_blocks = (c.n_tiles + c.tiles - 1) / c.tiles;
    c.n_units = (c.n_groups + groups - 1) / groups * c.n_col_blocks;
    return c;
}

struct tr_cut tr_matmul_cut(const struct tr_matrix *w, const struct tr_kernel *by, size_t m)
{
    size_t groups;
    if (by->fits) return tr_cut_of(w, 16, m, SIZE_MAX);
    groups = groups_of(w, by->block_bytes);
    if (m <= TR_NT_MAX && groups * w->group_bytes > by->unit_bytes)
        groups = by->unit_bytes / (w->group_bytes + 1) / 2 * 2 + 2;
    return tr_cut_of(w, groups, m, tr_block_cols(w));
}

struct tr_block tr_cut_block(const struct tr_cut *cut, size_t unit, size_t m)
{
    size_t g = unit / cut->n_col_blocks * cut->groups, t = unit % cut->n_col_blocks * cut->tiles;
    struct tr_block b = {g, g + cut->groups, t, t + cut->tiles, m, cut->n_tiles};
    if (b.g1 > cut->n_groups) b.g1 = cut->n_groups;
    if (b.t1 > cut->n_tiles) b.t1 = cut->n_tiles;
    return b;
}

/* ------------------------------------------------------------------- products */

/* Row groups [g0, g1), packed at `data`, with one tile of nt columns. y: first row and column. */
static void multiply_tile(const struct tr_matrix *w, const struct tr_kernel *by,
                          const uint8_t *data, float *y, size_t ldy, const void *tile, uint32_t nt,
                          size_t g0, size_t g1)
{
    size_t full = w->rows / TR_ROWS;

    if (g0 < full) {
        size_t n = (g1 < full ? g1 : full) - g0;
        by->fn.gemm(y, ldy, data, n, tile, w->cols, nt);
    }
    if (g1 > full) { /* the last group has fewer rows than a kernel writes */
        float edge[TR_NT_MAX * TR_ROWS];
        data += (full - g0) * w->group_bytes;
        by->fn.gemm(edge, TR_ROWS, data, 1, tile, w->cols, nt);
        for (size_t c = 0; c < nt; c++) {
            float *column = y + c * ldy + TR_ROWS * (full - g0);
            memcpy(column, edge + TR_ROWS * c, (w->rows - TR_ROWS * full) * sizeof *column);
        }
    }
}

/* Row groups [g0, g1) packed: where they are, or in scratch. */
static const uint8_t *packed_block(const struct tr_matrix *w, void *scratch, size_t g0, size_t g1)
{
    if (!w->mapped) return w->data + g0 * w->group_bytes;
    pack_groups(scratch, w, w->file + g0 * TR_ROWS * trueno_row_bytes(w->type, w->cols), g0, g1);
    return scratch;
}

/* All columns in one call. */
static void multiply_wide(const struct tr_matrix *w, const struct tr_kernel *kernel, float *y,
                          size_t ldy, const void *acts, const struct tr_block *b, void *scratch)
{
    size_t r0 = TR_ROWS * b->g0, r1 = TR_ROWS * b->g1 < w->rows ? TR_ROWS * b->g1 : w->rows;
    struct tr_gemm_wide a = {.out = y,
                             .ldo = ldy,
                             .w = w->data + b->g0 * w->group_bytes,
                             .n_rows = r1 - r0,
                             .acts = acts,
                             .k = w->cols,
                             .n_cols = b->m,
                             .tile_width = w->tile_width,
                             .scratch = scratch};
    if (r0 < r1) kernel->fn.gemm_wide(&a);
}

void tr_matmul_block(const struct tr_matrix *w, const struct tr_kernel *by, float *y, size_t ldy,
                     const void *acts, const struct tr_block *b, void *scratch)
{
    size_t col_bytes = tr_act_col_bytes(w->gemm->act, w->cols);

    if (by->fits && b->t0 == 0 && b->t1 == b->n_tiles) {
        multiply_wide(w, by, y, ldy, acts, b, scratch);
        return;
    }
    if (by->fits) by = w->gemm;
    size_t n = groups_of(w, by->block_bytes), first = tr_block_col(b, b->t0);
    for (size_t g = b->g0; g < b->g1; g += n) {
        size_t g1 = b->g1 - g < n ? b->g1 : g + n;
        const uint8_t *data = packed_block(w, scratch, g, g1);
        for (size_t t = b->t0; t < b->t1; t++) {
            size_t c0 = tr_block_col(b, t), c1 = tr_block_col(b, t + 1);
            multiply_tile(w, by, data, y + (c0 - first) * ldy + (g - b->g0) * TR_ROWS, ldy,
                          (const uint8_t *)acts + c0 * col_bytes, (uint32_t)(c1 - c0), g, g1);
        }
    }
}

void tr_matmul_part(const struct tr_matrix *w, const struct tr_kernel *by, float *y, size_t ldy,
                    const void *acts, size_t m, void *scratch, trueno_pool *pool, uint32_t tid,
                    uint32_t n_threads)
{
    struct tr_cut cut = tr_matmul_cut(w, by, m);
    struct tr_share share = tr_share_of(pool, cut.n_units, tid, n_threads);
    for (size_t u; tr_share_next(&share, &u);) {
        struct tr_block b = tr_cut_block(&cut, u, m);
        tr_matmul_block(w, by, y + tr_block_col(&b, b.t0) * ldy + TR_ROWS * b.g0, ldy, acts, &b,
                        scratch);
    }
}
