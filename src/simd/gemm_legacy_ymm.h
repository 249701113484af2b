/* SPDX-License-Identifier: MIT */
/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 products in 256-bit registers, for AVX2 and AVX-VNNI: included
 * once by the file of each. Integers are exact and the float steps are those of gemm_legacy_ref.c,
 * so the bits are the reference's.
 *
 * Panels run along k; within a panel the column groups, within those the halves of 8 rows. */
#ifndef TR_GEMM_LEGACY_YMM_H
#define TR_GEMM_LEGACY_YMM_H

#include "gemm_ymm.h"

/* What distinguishes the formats; constant where it is used. */
struct legacy_format {
    bool high;          /* N4 is followed by H1 */
    bool bytes;         /* B8 instead of N4 */
    bool min;           /* m follows d */
    int zero_shift;     /* the quant that stands for 0 is 1 << zero_shift; 0: there is m instead */
    size_t block_bytes; /* of quants, per 16 x 32 weights */
};

/* One tile's activations from a block and a column on; words of one section are nt apart. */
struct block_acts {
    const int32_t *q;
    const float *a;
    const int32_t *ns;
    const float *as;
    size_t nt;
};

ALWAYS_INLINE struct block_acts acts_at(const struct tr_a8_32 *v, size_t block, size_t nt, size_t c)
{
    struct block_acts a = {v->q + 8 * block * nt + c, v->a + block * nt + c, v->ns + block * nt + c,
                           v->as + block * nt + c, nt};
    return a;
}

/* 32 k of a half in B8: total[c] += quants . activations. */
ALWAYS_INLINE void dot_b8(__m256i *total, const uint8_t *v, const int32_t *aq, size_t nt, int width)
{
    for (size_t s = 0; s < 8; s++, aq += nt) {
        __m256i x = load_bytes(v + 64 * s);
        PIN_POINTER(aq);
        for (int c = 0; c < width; c++) {
            total[c] = add_step_b8(total[c], x, _mm256_set1_epi32(aq[c]));
        }
    }
}

/* One half of a panel of nb blocks and `width` columns. */
ALWAYS_INLINE void legacy_half(__m256 (*y)[2], const uint8_t *panel, size_t nb, size_t half,
                               struct block_acts a, int width, struct legacy_format f, bool first)
{
    const size_t scale_bytes = tr_x16_scale_bytes(nb);
    const uint8_t *d = panel + 16 * half, *m = d + scale_bytes;
    const uint8_t *v = panel + scale_bytes * (f.min ? 2 : 1) + 32 * half;
    __m256 sum[MAX_WIDTH];
    __m256i total[MAX_WIDTH];

    for (int c = 0; c < width; c++) sum[c] = y[c][half];
    for (size_t b = 0; b < nb; b++, v += f.block_bytes, d += 32, m += 32) {
        if (first && half == 0) fetch_ahead(v, f.block_bytes);
        for (int c = 0; c < width; c++) {
            total[c] = f.zero_shift ? _mm256_slli_epi32(_mm256_set1_epi32(a.ns[c]), f.zero_shift)
                                    : _mm256_setzero_si256();
        }
        if (f.bytes)
            dot_b8(total, v, a.q, a.nt, width);
        else
            dot_n4(total, v, a.q, a.nt, width, f.high, NULL);
        __m256 scale = load_halves(d);
        for (int c = 0; c < width; c++) {
            __m256 da = _mm256_mul_ps(scale, _mm256_set1_ps(a.a[c]));
            sum[c] = _mm256_fmadd_ps(da, _mm256_cvtepi32_ps(total[c]), sum[c]);
        }
        if (f.min) {
            __m256 min = load_halves(m);
            for (int c = 0; c < width; c++) {
                sum[c] = _mm256_fmadd_ps(min, _mm256_set1_ps(a.as[c]), sum[c]);
            }
        }
        a.q += 8 * a.nt;
        a.a += a.nt;
        a.ns += a.nt;
        a.as += a.nt;
    }
    for (int c = 0; c < width; c++) y[c][half] = sum[c];
}

ALWAYS_INLINE void legacy_columns(__m256 (*y)[2], const uint8_t *panel, size_t nb,
                                  const struct block_acts *a, int width, struct legacy_format f,
                                  bool first)
{
    for (size_t half = 0; half < 2; half++) legacy_half(y, panel, nb, half, *a, width, f, first);
}

ALWAYS_INLINE void gemm_legacy(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                               const void *act, size_t k, uint32_t nt, struct legacy_format f)
{
    const size_t n_blocks = k / 32;
    struct tr_a8_32 v = tr_a8_32_view(act, k, nt);
    struct widths cut = cut_columns(nt, MAX_WIDTH);
    struct tile_sums sums;

    for (size_t g = 0; g < n_groups; g++) {
        zero_sums(&sums, nt);
        for (size_t b = 0; b < n_blocks; b += 8) {
            size_t nb = n_blocks - b < 8 ? n_blocks - b : 8;
            fetch_ahead(w, tr_x16_scale_bytes(nb) * (f.min ? 2 : 1));
            for (size_t i = 0; i < cut.n; i++) {
                __m256(*y)[2] = sums.y + cut.first[i];
                struct block_acts a = acts_at(&v, b, nt, cut.first[i]);
                switch (cut.first[i + 1] - cut.first[i]) {
                case 1: legacy_columns(y, w, nb, &a, 1, f, i == 0); break;
                case 2: legacy_columns(y, w, nb, &a, 2, f, i == 0); break;
                case 3: legacy_columns(y, w, nb, &a, 3, f, i == 0); break;
                default: legacy_columns(y, w, nb, &a, 4, f, i == 0); break;
                }
            }
            w += tr_x16_scale_bytes(nb) * (f.min ? 2 : 1) + nb * f.block_bytes;
        }
        store_sums(out + TR_ROWS * g, ldo, &sums, nt);
    }
}

#define LEGACY_KERNEL(name, ...)                                                                   \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        const struct legacy_format f = __VA_ARGS__;                                                \
        gemm_legacy(out, ldo, w, n_groups, act, k, nt, f);                                         \
    }

#define B8_ZERO_SHIFT (SUM_HOLDS_BIAS ? 7 : 0) /* add_step_b8 */

LEGACY_KERNEL(gemm_q4_0, {.zero_shift = 3, .block_bytes = 256})
LEGACY_KERNEL(gemm_q4_1, {.min = true, .block_bytes = 256})
LEGACY_KERNEL(gemm_q5_0, {.high = true, .zero_shift = 4, .block_bytes = 320})
LEGACY_KERNEL(gemm_q5_1, {.high = true, .min = true, .block_bytes = 320})
LEGACY_KERNEL(gemm_q8_0, {.bytes = true, .zero_shift = B8_ZERO_SHIFT, .block_bytes = 512})

#endif
