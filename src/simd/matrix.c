/* SPDX-License-Identifier: MIT */
/* Packed matrices, and how a product with one is cut: row groups among threads, a thread's groups
 * into blocks that stay in the L2 cache, columns into tiles that pass them one after the other. So
 * weights come from memory once. No cut goes along k, so none changes a result. */
#include "matrix.h"

#include <string.h>

#include "base/error.h"
#include "quant/quant.h"

/* Weights that stay in the L2 cache while all tiles of activations pass; an L2 of 1 MiB has room
 * for the current tile beside them, and one of 512 KiB still holds them. */
#define BLOCK_BYTES ((size_t)384 << 10)

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

/* Row groups whose weights make a block: an even number, for kernels that take two at a time. */
static size_t groups_per_block(const struct tr_matrix *w)
{
    size_t n = BLOCK_BYTES / (w->group_bytes + 1) / 2 * 2;
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
    if (w->mapped) return groups_per_block(w) * w->group_bytes;
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

void tr_act_pack_part(void *dst, const struct tr_kernel *pack, const float *x, size_t ldx, size_t k,
                      size_t m, uint32_t tid, uint32_t n_threads)
{
    size_t col_bytes = tr_act_col_bytes(pack->act, k);
    size_t n_tiles = tr_n_tiles(m), begin, end;

    tr_split(&begin, &end, n_tiles, 1, tid, n_threads);
    for (size_t t = begin; t < end; t++) {
        size_t c0 = tr_tile(t, m, n_tiles), c1 = tr_tile(t + 1, m, n_tiles);
        uint8_t *tile = (uint8_t *)dst + c0 * col_bytes;
        pack->fn.quantize(tile, x + c0 * ldx, ldx, k, (uint32_t)(c1 - c0));
    }
}

/* Row groups [g0, g1), packed at `data`, with one tile of nt columns. y is the first column of the
 * tile. */
static void multiply_tile(const struct tr_matrix *w, const uint8_t *data, float *y, size_t ldy,
                          const void *tile, uint32_t nt, size_t g0, size_t g1)
{
    size_t full = w->rows / TR_ROWS;

    if (g0 < full) {
        size_t n = (g1 < full ? g1 : full) - g0;
        w->gemm->fn.gemm(y + TR_ROWS * g0, ldy, data, n, tile, w->cols, nt);
    }
    if (g1 > full) { /* the last group has fewer rows than a kernel writes */
        float edge[TR_NT_MAX * TR_ROWS];
        data += (full - g0) * w->group_bytes;
        w->gemm->fn.gemm(edge, TR_ROWS, data, 1, tile, w->cols, nt);
        for (size_t c = 0; c < nt; c++) {
            float *column = y + c * ldy + TR_ROWS * full;
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
                          size_t ldy, const void *acts, size_t m, void *scratch, size_t g0,
                          size_t g1)
{
    size_t r0 = TR_ROWS * g0, r1 = TR_ROWS * g1 < w->rows ? TR_ROWS * g1 : w->rows;
    struct tr_gemm_wide a = {.out = y + r0,
                             .ldo = ldy,
                             .w = w->data + g0 * w->group_bytes,
                             .n_rows = r1 - r0,
                             .acts = acts,
                             .k = w->cols,
                             .n_cols = m,
                             .scratch = scratch};
    if (r0 < r1) kernel->fn.gemm_wide(&a);
}

void tr_matmul_part(const struct tr_matrix *w, float *y, size_t ldy, const void *acts, size_t m,
                    void *scratch, uint32_t tid, uint32_t n_threads)
{
    const struct tr_kernel *kernel = tr_matrix_kernel(w, m, ldy);
    size_t col_bytes = tr_act_col_bytes(w->gemm->act, w->cols);
    size_t n_tiles = tr_n_tiles(m), block = groups_per_block(w), begin, end;

    tr_split(&begin, &end, n_groups_of(w->rows), 1, tid, n_threads);
    if (kernel->fits) {
        multiply_wide(w, kernel, y, ldy, acts, m, scratch, begin, end);
        return;
    }
    for (size_t g = begin; g < end; g += block) {
        size_t g1 = end - g < block ? end : g + block;
        const uint8_t *data = packed_block(w, scratch, g, g1);
        for (size_t t = 0; t < n_tiles; t++) {
            size_t c0 = tr_tile(t, m, n_tiles), c1 = tr_tile(t + 1, m, n_tiles);
            multiply_tile(w, data, y + c0 * ldy, ldy, (const uint8_t *)acts + c0 * col_bytes,
                          (uint32_t)(c1 - c0), g, g1);
        }
    }
}
