/* SPDX-License-Identifier: MIT */
/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 products with the int8 matrix multiply extension. Formulas:
 * docs/numerics.md. */
#if !defined(__ARM_FEATURE_MATMUL_INT8) || !defined(__ARM_FEATURE_DOTPROD)
#error "compile this file with -march=armv8.2-a+dotprod+i8mm"
#endif

#include "gemm_i8mm.h"
#include "gemm_legacy_neon.h"

/* usmmla takes the quants of B8 as they lie, w + 128. */
#define B8_ZERO_SHIFT 7

/* nb blocks of nt columns, from those that `a` points to. */
ALWAYS_INLINE void pair_blocks(struct pair_acts *x, struct block_acts a, size_t nb,
                               struct legacy_format f, int nt)
{
    const int shift = f.bytes ? B8_ZERO_SHIFT : f.zero_shift;
    pair_steps(x->q, a.q, 8 * nb, nt);
    for (size_t b = 0; b < nb; b++, a.a += nt, a.ns += nt, a.as += nt) {
        for (int p = 0; p < (nt + 1) / 2; p++) {
            x->a[b][p] = pair_floats(a.a, p, nt);
            if (f.min)
                x->as[b][p] = pair_floats(a.as, p, nt);
            else
                x->start[b][p] = vshlq_s32(pair_ints(a.ns, p, nt), vdupq_n_s32(shift));
        }
    }
}

/* 32 k in B8: t += quants . activations. */
ALWAYS_INLINE void pairs_b8(int_pairs t, const uint8_t *v, const int8x16_t (*acts)[COL_PAIRS],
                            int n_rows, int np)
{
    UNROLL
    for (int s = 0; s < 8; s += 2) {
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            const uint8_t *at = v + 64 * s + 16 * (r / 2);
            add_pairs(t[r], pair_rows(at, at + 64).rows[r % 2], acts[s / 2], np);
        }
    }
}

/* Block b of the panel, n_rows row pairs. d, m, v: of the first of them. */
ALWAYS_INLINE void legacy_pairs(float32x4_t (*y)[COL_PAIRS], const uint8_t *d, const uint8_t *m,
                                const uint8_t *v, const struct pair_acts *x, size_t b,
                                struct legacy_format f, int n_rows, int np)
{
    float32x4_t scale[ROW_PAIRS], min[ROW_PAIRS];
    int_pairs t;

    start_pairs(t, f.min ? NULL : x->start[b], n_rows, np);
    if (f.bytes)
        pairs_b8(t, v, x->q + 4 * b, n_rows, np);
    else
        pairs_n4(t, v, x->q + 4 * b, f.high, n_rows, np);
    pair_halves(scale, d, n_rows);
    if (f.min) pair_halves(min, m, n_rows);
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            float32x4_t da = vmulq_f32(scale[r], x->a[b][p]);
            y[r][p] = vfmaq_f32(y[r][p], da, vcvtq_f32_s32(t[r][p]));
            if (f.min) y[r][p] = vfmaq_f32(y[r][p], min[r], x->as[b][p]);
        }
    }
}

ALWAYS_INLINE size_t panel_bytes(size_t nb, struct legacy_format f)
{
    return tr_x16_scale_bytes(nb) * (f.min ? 2 : 1) + nb * f.block_bytes;
}

/* One panel of nb blocks and one row group. */
ALWAYS_INLINE void panel_pairs(float_pairs y, const uint8_t *panel, const struct pair_acts *x,
                               size_t nb, struct legacy_format f, int np)
{
    const int n_rows = ROW_PAIRS_OF(np);
    const uint8_t *d = panel, *m = d + tr_x16_scale_bytes(nb);
    const uint8_t *v = f.min ? m + tr_x16_scale_bytes(nb) : m;

    for (size_t b = 0; b < nb; b++, v += f.block_bytes, d += 32, m += 32) {
        for (int r = 0; r < ROW_PAIRS; r += n_rows)
            legacy_pairs(y + r, d + 4 * r, m + 4 * r, v + 8 * r, x, b, f, n_rows, np);
    }
}

/* n <= CHUNK row groups. */
ALWAYS_INLINE void legacy_chunk(float *out, size_t ldo, const uint8_t *w, size_t group_bytes,
                                size_t n, const void *act, size_t k, struct legacy_format f, int nt,
                                int np)
{
    const struct tr_a8_32 v = tr_a8_32_view(act, k, (size_t)nt);
    struct block_acts a = {v.q, v.a, v.ns, v.as};
    struct pair_acts x;
    float_pairs y[CHUNK];

    for (size_t g = 0; g < n; g++) clear_pairs(y[g]);
    for (size_t first = 0; first < k / 32; first += 8) {
        size_t nb = k / 32 - first < 8 ? k / 32 - first : 8;
        pair_blocks(&x, a, nb, f, nt);
        for (size_t g = 0; g < n; g++) panel_pairs(y[g], w + g * group_bytes, &x, nb, f, np);
        w += panel_bytes(nb, f);
        a.q += 64 * nt;
        a.a += 8 * nt;
        a.ns += 8 * nt;
        a.as += 8 * nt;
    }
    for (size_t g = 0; g < n; g++) store_pairs(out + TR_ROWS * g, ldo, y[g], nt);
}

ALWAYS_INLINE void gemm_pairs(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                              const void *act, size_t k, struct legacy_format f, int nt, int np)
{
    const size_t nb = k / 32;
    const size_t group_bytes = nb / 8 * panel_bytes(8, f) + (nb % 8 ? panel_bytes(nb % 8, f) : 0);
    for (size_t g = 0; g < n_groups; g += CHUNK) {
        size_t n = n_groups - g < CHUNK ? n_groups - g : CHUNK;
        legacy_chunk(out + TR_ROWS * g, ldo, w + g * group_bytes, group_bytes, n, act, k, f, nt,
                     np);
    }
}

#define PAIRS_CALL(n) gemm_pairs(out, ldo, w, n_groups, act, k, f, (int)nt, n)
#define PAIRS_KERNEL(name, min_columns, few, ...)                                                  \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        const struct legacy_format f = __VA_ARGS__;                                                \
        if (nt < (min_columns))                                                                    \
            few(out, ldo, w, n_groups, act, k, nt);                                                \
        else                                                                                       \
            BY_PAIRS(nt, PAIRS_CALL)                                                               \
    }

PAIRS_KERNEL(gemm_q4_0_i8mm, 4, gemm_q4_0, FORMAT_Q4_0)
PAIRS_KERNEL(gemm_q4_1_i8mm, 4, gemm_q4_1, FORMAT_Q4_1)
PAIRS_KERNEL(gemm_q5_0_i8mm, 4, gemm_q5_0, FORMAT_Q5_0)
PAIRS_KERNEL(gemm_q5_1_i8mm, 4, gemm_q5_1, FORMAT_Q5_1)
PAIRS_KERNEL(gemm_q8_0_i8mm, 4, gemm_q8_0, FORMAT_Q8_0)

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_0_i8mm_16x8", Q4_0, A8_32, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q4_0_i8mm),
    TR_GEMM_ROW("gemm_q4_1_i8mm_16x8", Q4_1, A8_32, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q4_1_i8mm),
    TR_GEMM_ROW("gemm_q5_0_i8mm_16x8", Q5_0, A8_32, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q5_0_i8mm),
    TR_GEMM_ROW("gemm_q5_1_i8mm_16x8", Q5_1, A8_32, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q5_1_i8mm),
    TR_GEMM_ROW("gemm_q8_0_i8mm_16x8", Q8_0, A8_32, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q8_0_i8mm),
};
const struct tr_kernel_table tr_table_gemm_legacy_i8mm = {kernels,
                                                          sizeof kernels / sizeof *kernels};
