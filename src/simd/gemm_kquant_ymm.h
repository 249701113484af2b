/* SPDX-License-Identifier: MIT */
/* Q4_K, Q5_K and Q6_K products in 256-bit registers, for AVX2 and AVX-VNNI: included once by the
 * file of each. Integers are exact and the float steps are those of gemm_kquant_ref.c, so the bits
 * are the reference's.
 *
 * Panels run along k; within a panel the column groups, within those the halves of 8 rows. Weights
 * are read from memory once and from the first-level cache again. */
#ifndef TR_GEMM_KQUANT_YMM_H
#define TR_GEMM_KQUANT_YMM_H

#include "gemm_ymm.h"

/* One tile's activations from a panel and a column on; words of one section are nt apart. */
struct panel_acts {
    const int32_t *q;
    const float *a;
    const int32_t *bs, *z16;
    size_t nt;
};

ALWAYS_INLINE struct panel_acts acts_at(const struct tr_a8_256 *v, size_t panel, size_t nt,
                                        size_t c)
{
    struct panel_acts a = {v->q + 64 * panel * nt + c, v->a + panel * nt + c,
                           v->bs + 4 * panel * nt + c, v->z16 + 16 * panel * nt + c, nt};
    return a;
}

/* ---------------------------------------------------------- Q4_K and Q5_K */

/* Scales of a panel by half. */
struct q45k_scales {
    __m256i sc[2][8];
    __m256i min_pairs[2][4]; /* int16 pairs: minimums 2j and 2j + 1 */
};

/* From the scale words: six bits of the first eight bytes of a row, and four of the last four with
 * two on top from the first eight. */
ALWAYS_INLINE void unpack_q45k_scales(struct q45k_scales *s, const uint8_t *words)
{
    const __m256i bits6 = _mm256_set1_epi8(63), top = _mm256_set1_epi8(0x30);

    for (int half = 0; half < 2; half++, words += 32) {
        __m256i a = load_bytes(words), b = load_bytes(words + 64), c = load_bytes(words + 128);
        __m256i a2 = _mm256_and_si256(_mm256_srli_epi16(a, 2), top);
        __m256i b2 = _mm256_and_si256(_mm256_srli_epi16(b, 2), top);
        __m256i sc[2] = {_mm256_and_si256(a, bits6), _mm256_or_si256(low_nibbles(c), a2)};
        __m256i m[2] = {_mm256_and_si256(b, bits6), _mm256_or_si256(high_nibbles(c), b2)};
        for (int j = 0; j < 8; j++) s->sc[half][j] = scales_u8(sc[j / 4], j % 4);
        for (int j = 0; j < 4; j++) s->min_pairs[half][j] = spread(m[j / 2], tr_spread_pair[j % 2]);
    }
}

/* One half of a panel and `width` columns. */
ALWAYS_INLINE void q45k_half(__m256 (*y)[2], const uint8_t *panel, const struct q45k_scales *s,
                             size_t half, const struct panel_acts *a, int width, bool high,
                             bool first)
{
    const size_t block_bytes = high ? 320 : 256;
    __m256i total[MAX_WIDTH];

    for (int c = 0; c < width; c++) total[c] = _mm256_setzero_si256();
    for (size_t j = 0; j < 8; j++) {
        if (first && half == 0) fetch_ahead(panel + 256 + block_bytes * j, block_bytes);
        dot_n4(total, panel + 256 + 32 * half + block_bytes * j, a->q + 8 * j * a->nt, a->nt, width,
               high, &s->sc[half][j]);
    }
    __m256 d = load_halves(panel + 16 * half), dmin = load_halves(panel + 32 + 16 * half);
    for (int c = 0; c < width; c++) {
        __m256i mins = _mm256_setzero_si256();
        for (size_t j = 0; j < 4; j++) {
            __m256i sums = _mm256_set1_epi32(a->bs[j * a->nt + (size_t)c]);
            mins = _mm256_add_epi32(mins, _mm256_madd_epi16(s->min_pairs[half][j], sums));
        }
        __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(total[c]));
        v = _mm256_fnmadd_ps(dmin, _mm256_cvtepi32_ps(mins), v);
        y[c][half] = _mm256_fmadd_ps(_mm256_set1_ps(a->a[c]), v, y[c][half]);
    }
}

ALWAYS_INLINE void q45k_columns(__m256 (*y)[2], const uint8_t *panel, const struct q45k_scales *s,
                                const struct panel_acts *a, int width, bool high, bool first)
{
    for (size_t half = 0; half < 2; half++) q45k_half(y, panel, s, half, a, width, high, first);
}

/* A whole panel and one column: both halves at once, so that a word of activations is spread once
 * and a line of weights is read in one go. */
ALWAYS_INLINE void q45k_column(__m256 *y, const uint8_t *panel, const struct q45k_scales *s,
                               const struct panel_acts *a, bool high)
{
    const size_t block_bytes = high ? 320 : 256;
    const int steps = high ? STEPS_5 : STEPS_4;
    __m256i total[2] = {_mm256_setzero_si256(), _mm256_setzero_si256()};

    for (size_t j = 0; j < 8; j++) {
        const uint8_t *v = panel + 256 + block_bytes * j;
        const int32_t *q = a->q + 8 * j;
        __m256i bits[2], sum[2];
        fetch_ahead(v, block_bytes);
        for (int i = 0; i < 2; i++)
            bits[i] = high ? load_bytes(v + 256 + 32 * i) : _mm256_setzero_si256();
        for (int h = 0; h < 4; h++) {
            __m256i lower = _mm256_set1_epi32(q[h]), upper = _mm256_set1_epi32(q[h + 4]);
            for (int i = 0; i < 2; i++) {
                __m256i x = load_bytes(v + 64 * h + 32 * i);
                __m256i lo = low_nibbles(x), hi = high_nibbles(x);
                if (high) lo = _mm256_or_si256(lo, high_bits(bits[i], 4 - h, 0x10));
                if (high) hi = _mm256_or_si256(hi, high_bits(bits[i], -h, 0x10));
                if (2 * h % steps == 0) sum[i] = _mm256_setzero_si256();
                sum[i] = add_step(add_step(sum[i], lo, lower), hi, upper);
                if (2 * (h + 1) % steps == 0) total[i] = add_scaled(total[i], sum[i], s->sc[i][j]);
            }
        }
    }
    for (int i = 0; i < 2; i++) {
        __m256i mins = _mm256_setzero_si256();
        for (size_t j = 0; j < 4; j++) {
            __m256i sums = _mm256_set1_epi32(a->bs[j]);
            mins = _mm256_add_epi32(mins, _mm256_madd_epi16(s->min_pairs[i][j], sums));
        }
        __m256 v = _mm256_mul_ps(load_halves(panel + 16 * i), _mm256_cvtepi32_ps(total[i]));
        v = _mm256_fnmadd_ps(load_halves(panel + 32 + 16 * i), _mm256_cvtepi32_ps(mins), v);
        y[i] = _mm256_fmadd_ps(_mm256_set1_ps(a->a[0]), v, y[i]);
    }
}

ALWAYS_INLINE void gemm_q45k(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                             const void *act, size_t k, uint32_t nt, bool high)
{
    const size_t panel_bytes = high ? 2816 : 2304;
    struct tr_a8_256 v = tr_a8_256_view(act, k, nt);
    struct widths cut = cut_columns(nt, MAX_WIDTH);
    struct tile_sums sums;
    struct q45k_scales s;

    for (size_t g = 0; g < n_groups; g++) {
        zero_sums(&sums, nt);
        for (size_t p = 0; p < k / 256; p++, w += panel_bytes) {
            fetch_ahead(w, 256);
            unpack_q45k_scales(&s, w + 64);
            if (nt == 1) {
                struct panel_acts a = acts_at(&v, p, 1, 0);
                q45k_column(sums.y[0], w, &s, &a, high);
                continue;
            }
            for (size_t i = 0; i < cut.n; i++) {
                __m256(*y)[2] = sums.y + cut.first[i];
                struct panel_acts a = acts_at(&v, p, nt, cut.first[i]);
                switch (cut.first[i + 1] - cut.first[i]) {
                case 2: q45k_columns(y, w, &s, &a, 2, high, i == 0); break;
                case 3: q45k_columns(y, w, &s, &a, 3, high, i == 0); break;
                default: q45k_columns(y, w, &s, &a, 4, high, i == 0); break;
                }
            }
        }
        store_sums(out + TR_ROWS * g, ldo, &sums, nt);
    }
}

static void gemm_q4_k(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                      size_t k, uint32_t nt)
{
    gemm_q45k(out, ldo, w, n_groups, act, k, nt, false);
}

static void gemm_q5_k(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                      size_t k, uint32_t nt)
{
    gemm_q45k(out, ldo, w, n_groups, act, k, nt, true);
}

/* ------------------------------------------------------------------- Q6_K */

struct q6k_scales {
    __m256i sc[2][16];
    __m256i pairs[2][8]; /* int16 pairs: scales 2j and 2j + 1; for the bias */
};

ALWAYS_INLINE void unpack_q6k_scales(struct q6k_scales *s, const uint8_t *words)
{
    UNROLL
    for (int half = 0; half < 2; half++) {
        UNROLL
        for (int j = 0; j < 16; j++)
            s->sc[half][j] = scales_i8(load_bytes(words + 64 * (j / 4) + 32 * half), j % 4);
        UNROLL
        for (int j = 0; j < 8; j++) {
            if (SUM_HOLDS_BIAS) continue;
            __m256i x = load_bytes(words + 64 * (j / 2) + 32 * half);
            x = spread(x, tr_spread_top_pair[j % 2]);
            s->pairs[half][j] = _mm256_srai_epi16(x, 8);
        }
    }
}

/* The 64 steps of a panel's half, unpacked: where two groups of columns use them. */
struct q6k_steps {
    __m256i x[64];
};

/* Step h of 16 k; upper: of steps 4..7. */
ALWAYS_INLINE __m256i q6k_step(const uint8_t *v, __m256i bits, int h, bool upper)
{
    __m256i x = load_bytes(v + 64 * h);
    x = upper ? high_nibbles(x) : low_nibbles(x);
    return _mm256_or_si256(x, high_bits(bits, 4 - 2 * h, 0x30));
}

ALWAYS_INLINE void unpack_q6k_steps(struct q6k_steps *steps, const uint8_t *panel, size_t half)
{
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *v = panel + 256 + 32 * half + 384 * j;
        __m256i low = load_bytes(v + 256), high = load_bytes(v + 320);
        if (half == 0) fetch_ahead(v, 384);
        for (int h = 0; h < 4; h++) {
            steps->x[8 * j + (size_t)h] = q6k_step(v, low, h, false);
            steps->x[8 * j + 4 + (size_t)h] = q6k_step(v, high, h, true);
        }
    }
}

/* 16 k: total[c] += sc * (quants . activations), with the bias if a sum can hold it. upper: steps
 * 4..7. steps: those of the 16 k, or NULL. */
ALWAYS_INLINE void q6k_block(__m256i *total, const uint8_t *v, const __m256i *steps, __m256i sc,
                             const int32_t *aq, const int32_t *z16, size_t nt, int width,
                             bool upper)
{
    __m256i bits = steps ? _mm256_setzero_si256() : load_bytes(v + 256 + (upper ? 64 : 0));
    __m256i sum[MAX_WIDTH];

    for (int h = 0; h < 4; h++, aq += nt) {
        __m256i x = steps ? steps[h] : q6k_step(v, bits, h, upper);
        for (int c = 0; c < width && h % STEPS_6 == 0; c++) {
            sum[c] = SUM_HOLDS_BIAS ? _mm256_set1_epi32(z16[c]) : _mm256_setzero_si256();
        }
        PIN_POINTER(aq);
        add_steps(sum, x, aq, width);
        for (int c = 0; c < width && (h + 1) % STEPS_6 == 0; c++) {
            total[c] = add_scaled(total[c], sum[c], sc);
        }
    }
}

/* The negative sums of 16 activations of all nt columns as int16 pairs 2j, 2j + 1: z16 / 32. */
ALWAYS_INLINE void q6k_sum_pairs_of(int32_t (*pairs)[TR_NT_MAX], const int32_t *z16, size_t nt)
{
    for (size_t j = 0; j < 8; j++, z16 += 2 * nt) {
        for (size_t c = 0; c < nt; c++) {
            uint32_t even = (uint32_t)z16[c] >> 5 & 0xffffU, odd = (uint32_t)z16[nt + c] << 11;
            pairs[j][c] = (int32_t)(even | odd);
        }
    }
}

ALWAYS_INLINE void q6k_sum_pairs(int32_t (*pairs)[TR_NT_MAX], const int32_t *z16, size_t nt)
{
    if (nt == TR_NT_MAX)
        q6k_sum_pairs_of(pairs, z16, TR_NT_MAX); /* a constant: in vectors */
    else
        q6k_sum_pairs_of(pairs, z16, nt);
}

/* total += 32 * sum over b of sc_b * (negative sum of 16 activations); pairs: of the first column
 */
ALWAYS_INLINE void q6k_add_bias(__m256i *total, const __m256i *scales, const int32_t *pairs,
                                int width)
{
    for (int c = 0; c < width; c++) {
        __m256i bias = _mm256_setzero_si256();
        PIN_POINTER(pairs);
        for (int j = 0; j < 8; j++) {
            __m256i pair = _mm256_set1_epi32(pairs[j * TR_NT_MAX + c]);
            bias = _mm256_add_epi32(bias, _mm256_madd_epi16(scales[j], pair));
        }
        total[c] = _mm256_add_epi32(total[c], _mm256_slli_epi32(bias, 5));
    }
}

/* steps: NULL for the only group of columns, which fetches ahead. */
ALWAYS_INLINE void q6k_half(__m256 (*y)[2], const uint8_t *panel, const __m256i *steps,
                            const struct q6k_scales *s, __m256 d, size_t half,
                            const struct panel_acts *a, const int32_t *pairs, int width)
{
    const size_t nt = a->nt;
    __m256i total[MAX_WIDTH];

    for (int c = 0; c < width; c++) total[c] = _mm256_setzero_si256();
    for (size_t j = 0; j < 8; j++) {
        const uint8_t *v = panel + 256 + 32 * half + 384 * j;
        const int32_t *aq = a->q + 8 * j * nt, *z16 = a->z16 + 2 * j * nt;
        const __m256i *low = steps ? steps + 8 * j : NULL, *high = steps ? low + 4 : NULL;
        if (!steps && half == 0) fetch_ahead(v, 384);
        q6k_block(total, v, low, s->sc[half][2 * j], aq, z16, nt, width, false);
        q6k_block(total, v, high, s->sc[half][2 * j + 1], aq + 4 * nt, z16 + nt, nt, width, true);
    }
    if (!SUM_HOLDS_BIAS) q6k_add_bias(total, s->pairs[half], pairs, width);
    for (int c = 0; c < width; c++) {
        __m256 v = _mm256_mul_ps(d, _mm256_cvtepi32_ps(total[c]));
        y[c][half] = _mm256_fmadd_ps(_mm256_set1_ps(a->a[c]), v, y[c][half]);
    }
}

/* d: f16 of the panel's rows. */
ALWAYS_INLINE void q6k_columns(__m256 (*y)[2], const uint8_t *panel, const struct q6k_steps *steps,
                               const struct q6k_scales *s, const uint8_t *d,
                               const struct panel_acts *a, const int32_t *pairs, int width)
{
    for (size_t half = 0; half < 2; half++)
        q6k_half(y, panel, steps ? steps[half].x : NULL, s, load_halves(d + 16 * half), half, a,
                 pairs, width);
}

static void gemm_q6_k(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                      size_t k, uint32_t nt)
{
    const size_t n_panels = k / 256;
    struct tr_a8_256 v = tr_a8_256_view(act, k, nt);
    struct widths cut = cut_columns(nt, MAX_WIDTH);
    const uint8_t *panel = w;
    struct tile_sums sums;
    struct q6k_scales s;
    struct q6k_steps steps[2];
    int32_t pairs[8][TR_NT_MAX];

    for (size_t g = 0; g < n_groups; g++) {
        const uint8_t *d = panel;
        panel += tr_x16_scale_bytes(n_panels);
        zero_sums(&sums, nt);
        for (size_t p = 0; p < n_panels; p++, panel += 3328, d += 32) {
            fetch_ahead(panel, 256);
            unpack_q6k_scales(&s, panel);
            if (!SUM_HOLDS_BIAS) q6k_sum_pairs(pairs, v.z16 + 16 * p * nt, nt);
            for (size_t half = 0; half < 2 && cut.n > 1; half++)
                unpack_q6k_steps(&steps[half], panel, half);
            for (size_t i = 0; i < cut.n; i++) {
                __m256(*y)[2] = sums.y + cut.first[i];
                struct panel_acts a = acts_at(&v, p, nt, cut.first[i]);
                const int32_t *pc = &pairs[0][cut.first[i]];
                int width = (int)(cut.first[i + 1] - cut.first[i]);
                switch (cut.n > 1 ? 10 + width : width) { /* 5 columns are 3 and 2 */
                case 1: q6k_columns(y, panel, NULL, &s, d, &a, pc, 1); break;
                case 2: q6k_columns(y, panel, NULL, &s, d, &a, pc, 2); break;
                case 3: q6k_columns(y, panel, NULL, &s, d, &a, pc, 3); break;
                case 4: q6k_columns(y, panel, NULL, &s, d, &a, pc, 4); break;
                case 12: q6k_columns(y, panel, steps, &s, d, &a, pc, 2); break;
                case 13: q6k_columns(y, panel, steps, &s, d, &a, pc, 3); break;
                default: q6k_columns(y, panel, steps, &s, d, &a, pc, 4); break;
                }
            }
        }
        store_sums(out + TR_ROWS * g, ldo, &sums, nt);
    }
}

#endif
