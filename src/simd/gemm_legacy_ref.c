/* SPDX-License-Identifier: MIT */
/* Matrix products with weights in blocks of 32 (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0), C reference: the
 * specification that the SIMD kernels meet bit for bit. Formulas: docs/numerics.md. */
#include "gemm_ref.h"

/* What distinguishes the formats. */
struct format {
    bool high;      /* N4 is followed by H1 */
    bool bytes;     /* B8 instead of N4 */
    bool min;       /* m follows d */
    int32_t zero;   /* quant that stands for weight 0, where there is no m */
    size_t vectors; /* bytes of quants per 16 x 32 weights */
};

static void take_quants(tr_quants q, const uint8_t *v, const struct format *f)
{
    if (f->bytes) {
        tr_ref_b8(q, v);
        return;
    }
    tr_ref_n4(q, v);
    if (f->high) tr_ref_h1(q, v + 256);
}

/* Adds block b of a panel to the sums; `block` is its number in the row. */
static void add_block(tr_tile_sums y, const uint8_t *d, const uint8_t *m, const uint8_t *vectors,
                      const struct format *f, const struct tr_a8_32 *a, size_t block, size_t nt)
{
    tr_quants q;
    take_quants(q, vectors, f);
    for (size_t c = 0; c < nt; c++) {
        int8_t x[32];
        size_t at = block * nt + c;
        tr_ref_acts(x, a->q + 8 * block * nt + c, nt);
        for (size_t r = 0; r < TR_ROWS; r++) {
            int32_t t = tr_ref_dot(q[r], x, 32) + f->zero * a->ns[at];
            y[c][r] = fmaf(tr_ref_half(d, r) * a->a[at], (float)t, y[c][r]);
            if (f->min) y[c][r] = fmaf(tr_ref_half(m, r), a->as[at], y[c][r]);
        }
    }
}

static void gemm(float *out, size_t ldo, const uint8_t *w, size_t n_groups, const void *act,
                 size_t k, uint32_t nt, const struct format *f)
{
    struct tr_a8_32 a = tr_a8_32_view(act, k, nt);
    size_t n_blocks = k / 32;
    for (size_t g = 0; g < n_groups; g++) {
        tr_tile_sums y = {{0}};
        for (size_t first = 0; first < n_blocks; first += 8) {
            size_t nb = n_blocks - first < 8 ? n_blocks - first : 8;
            const uint8_t *d = w;
            const uint8_t *m = d + tr_x16_scale_bytes(nb);
            w = f->min ? m + tr_x16_scale_bytes(nb) : m;
            for (size_t b = 0; b < nb; b++, w += f->vectors)
                add_block(y, d + 32 * b, m + 32 * b, w, f, &a, first + b, nt);
        }
        tr_ref_store(out + TR_ROWS * g, ldo, y, nt);
    }
}

#define KERNEL(name, ...)                                                                          \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        static const struct format f = __VA_ARGS__;                                                \
        gemm(out, ldo, w, n_groups, act, k, nt, &f);                                               \
    }

KERNEL(gemm_q4_0_ref, {.zero = 8, .vectors = 256})
KERNEL(gemm_q4_1_ref, {.min = true, .vectors = 256})
KERNEL(gemm_q5_0_ref, {.high = true, .zero = 16, .vectors = 320})
KERNEL(gemm_q5_1_ref, {.high = true, .min = true, .vectors = 320})
KERNEL(gemm_q8_0_ref, {.bytes = true, .zero = 128, .vectors = 512})

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_0_ref_16x8", Q4_0, A8_32, TR_ROWS, 0, 0, gemm_q4_0_ref),
    TR_GEMM_ROW("gemm_q4_1_ref_16x8", Q4_1, A8_32, TR_ROWS, 0, 0, gemm_q4_1_ref),
    TR_GEMM_ROW("gemm_q5_0_ref_16x8", Q5_0, A8_32, TR_ROWS, 0, 0, gemm_q5_0_ref),
    TR_GEMM_ROW("gemm_q5_1_ref_16x8", Q5_1, A8_32, TR_ROWS, 0, 0, gemm_q5_1_ref),
    TR_GEMM_ROW("gemm_q8_0_ref_16x8", Q8_0, A8_32, TR_ROWS, 0, 0, gemm_q8_0_ref),
};
const struct tr_kernel_table tr_table_gemm_legacy_ref = {kernels, sizeof kernels / sizeof *kernels};
