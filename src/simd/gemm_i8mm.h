/* SPDX-License-Identifier: MIT */
/* What the gemm files for the int8 matrix multiply extension share. usmmla multiplies two rows of
 * eight quants with two columns of eight activations: twice the products of sdot, for sums that
 * hold [row 0 column 0, row 0 column 1, row 1 column 0, row 1 column 1]. So everything here comes
 * in pairs of rows and pairs of columns, and eight k are two steps, joined by zips.
 *
 * The zips of the weights serve all columns, those of the activations all row groups of a chunk:
 * from four columns on (Q6_K: six) there are fewer instructions than with sdot. With fewer columns
 * the templates of gemm_*_neon.h run.
 *
 * Of an odd number of columns the last pair is half empty: whatever stands in its second column
 * does not meet the first and is not stored. */
#ifndef TR_GEMM_I8MM_H
#define TR_GEMM_I8MM_H

#define MAX_COLUMNS 5 /* of gemm_*_neon.h */

#include "gemm_neon.h"
#include "tables.h"

#define CPU_I8MM  (TRUENO_CPU_NEON | TRUENO_CPU_DOTPROD | TRUENO_CPU_I8MM)
#define ROW_PAIRS 8
#define COL_PAIRS 4
/* Row groups that share one preparation of the activations. */
#define CHUNK 4

/* Row pairs that are computed together, beside np pairs of columns: 16 sums in registers. */
#define ROW_PAIRS_OF(np) ((np) <= 2 ? 8 : 4)

/* call(n) with the constant number of column pairs. */
#define BY_PAIRS(nt, call)                                                                         \
    switch (((nt) + 1) / 2) {                                                                      \
    case 2: call(2); break;                                                                        \
    case 3: call(3); break;                                                                        \
    default: call(4); break;                                                                       \
    }

typedef int32x4_t int_pairs[ROW_PAIRS][COL_PAIRS];
typedef float32x4_t float_pairs[ROW_PAIRS][COL_PAIRS];

/* Activations of one panel. Sections that a format has no use for are left alone. */
struct pair_acts {
    int8x16_t q[32][COL_PAIRS];     /* steps 2i and 2i + 1 of two columns */
    int32x4_t start[16][COL_PAIRS]; /* what sums begin with: the zero point */
    float32x4_t a[8][COL_PAIRS];    /* scales: of each block, or [0] of the panel */
    float32x4_t as[8][COL_PAIRS];   /* of each block */
    int8x16_t bs_low[COL_PAIRS];    /* eight sums of 32, = 128 high + low */
    int8x16_t bs_high[COL_PAIRS];
};

/* n steps of nt columns, n even. */
ALWAYS_INLINE void pair_steps(int8x16_t (*q)[COL_PAIRS], const int32_t *words, size_t n, int nt)
{
    for (size_t i = 0; i < n / 2; i++, words += 2 * nt) {
        struct step_words even = load_words(words, nt), odd = load_words(words + nt, nt);
        q[i][0] = vreinterpretq_s8_s32(vzip1q_s32(even.first, odd.first));
        q[i][1] = vreinterpretq_s8_s32(vzip2q_s32(even.first, odd.first));
        q[i][2] = vreinterpretq_s8_s32(vzip1q_s32(even.second, odd.second));
        q[i][3] = vreinterpretq_s8_s32(vzip2q_s32(even.second, odd.second));
    }
}

/* [x y x y] of the columns of pair p. */
ALWAYS_INLINE int32x4_t pair_ints(const int32_t *words, int p, int nt)
{
    int second = 2 * p + 1 < nt ? 2 * p + 1 : 2 * p;
    int32x2_t two = vset_lane_s32(words[second], vdup_n_s32(words[2 * p]), 1);
    return vcombine_s32(two, two);
}

ALWAYS_INLINE float32x4_t pair_floats(const float *x, int p, int nt)
{
    int second = 2 * p + 1 < nt ? 2 * p + 1 : 2 * p;
    float32x2_t two = vset_lane_f32(x[second], vdup_n_f32(x[2 * p]), 1);
    return vcombine_f32(two, two);
}

/* Two steps of a quad as two pairs of rows. */
struct quad_pairs {
    uint8x16_t rows[2];
};

ALWAYS_INLINE struct quad_pairs pair_vectors(uint8x16_t step0, uint8x16_t step1)
{
    uint32x4_t x = vreinterpretq_u32_u8(step0), y = vreinterpretq_u32_u8(step1);
    struct quad_pairs p = {
        {vreinterpretq_u8_u32(vzip1q_u32(x, y)), vreinterpretq_u8_u32(vzip2q_u32(x, y))}};
    return p;
}

ALWAYS_INLINE struct quad_pairs pair_rows(const uint8_t *step0, const uint8_t *step1)
{
    return pair_vectors(vld1q_u8(step0), vld1q_u8(step1));
}

/* H1 or H2 of a quad as two pairs of rows, the second step's `apart` bits lower: one shift then
 * serves both steps. */
ALWAYS_INLINE struct quad_pairs pair_bits(const uint8_t *p, int apart)
{
    uint8x16_t first = vld1q_u8(p), second = vshlq_u8(first, vdupq_n_s8((int8_t)-apart));
    return pair_vectors(first, second);
}

/* One row pair with all columns: sum += quants . activations of two steps. */
ALWAYS_INLINE void add_pairs(int32x4_t *sum, uint8x16_t quants, const int8x16_t *acts, int np)
{
    UNROLL
    for (int p = 0; p < np; p++) sum[p] = vusmmlaq_s32(sum[p], quants, acts[p]);
}

/* 32 k in N4, with H1 if `high`: t += quants . activations. v: of the first quad. */
ALWAYS_INLINE void pairs_n4(int_pairs t, const uint8_t *v, const int8x16_t (*acts)[COL_PAIRS],
                            bool high, int n_rows, int np)
{
    UNROLL
    for (int h = 0; h < 4; h += 2) {
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            const uint8_t *at = v + 64 * h + 16 * (r / 2), *bits_at = v + 256 + 16 * (r / 2);
            uint8x16_t x = pair_rows(at, at + 64).rows[r % 2];
            uint8x16_t lo = low_nibbles(x), hi = high_nibbles(x);
            if (high) {
                uint8x16_t bits = pair_bits(bits_at, 1).rows[r % 2];
                lo = with_high_bits(lo, bits, 4 - h, 0x10);
                hi = with_high_bits(hi, bits, -h, 0x10);
            }
            add_pairs(t[r], lo, acts[h / 2], np);
            add_pairs(t[r], hi, acts[h / 2 + 2], np);
        }
    }
}

ALWAYS_INLINE void start_pairs(int_pairs t, const int32x4_t *start, int n_rows, int np)
{
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int p = 0; p < np; p++) t[r][p] = start ? start[p] : vdupq_n_s32(0);
    }
}

/* f16 scales of row pairs as [r0 r0 r1 r1]. */
ALWAYS_INLINE void pair_halves(float32x4_t *out, const uint8_t *p, int n_rows)
{
    UNROLL
    for (int r = 0; r < n_rows; r += 2) {
        float32x4_t x = load_halves(p + 4 * r);
        out[r] = vzip1q_f32(x, x);
        out[r + 1] = vzip2q_f32(x, x);
    }
}

ALWAYS_INLINE void clear_pairs(float_pairs y)
{
    for (int r = 0; r < ROW_PAIRS; r++) {
        for (int p = 0; p < COL_PAIRS; p++) y[r][p] = vdupq_n_f32(0.0F);
    }
}

ALWAYS_INLINE void store_pairs(float *out, size_t ldo, float_pairs y, int nt)
{
    for (int c = 0; c < nt; c++) {
        for (int q = 0; q < QUADS; q++) {
            float32x4_t a = y[2 * q][c / 2], b = y[2 * q + 1][c / 2];
            float32x4_t rows = c % 2 ? vuzp2q_f32(a, b) : vuzp1q_f32(a, b);
            vst1q_f32(out + (size_t)c * ldo + 4 * q, rows);
        }
    }
}

#endif
