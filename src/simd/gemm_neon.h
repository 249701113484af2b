/* SPDX-License-Identifier: MIT */
/* What the integer gemm templates for NEON share: how four-byte steps are multiplied and summed.
 * Rows are lanes, so a vector of 16 rows (x16.h) is four registers of 4 rows, here called quads.
 *
 * Compiled with the dot product extension, sdot sums four products into int32 and takes the word of
 * a column from a lane of a register, so that the broadcast costs nothing. Otherwise smull and addp
 * sum two into int16 (at most 32512: a quant of 8 bits twice) and sadalp adds the pairs.
 *
 * Tiles of up to four columns take all quads at once, wider ones two: 16 sums in registers. */
#ifndef TR_GEMM_NEON_H
#define TR_GEMM_NEON_H

#include <arm_neon.h>

#include "act.h"
#include "x16.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#define QUADS 4
/* Quads that are computed together. */
#define QUADS_OF(nt) ((nt) <= 4 ? 4 : 2)

/* Most columns that the including file gives to these templates. */
#ifndef MAX_COLUMNS
#define MAX_COLUMNS TR_NT_MAX
#endif

/* call(n) with the constant n = nt, 1..MAX_COLUMNS. */
#define BY_COLUMNS(nt, call)                                                                       \
    if ((nt) < 1 || (nt) > MAX_COLUMNS) __builtin_unreachable();                                   \
    switch (nt) {                                                                                  \
    case 1: call(1); break;                                                                        \
    case 2: call(2); break;                                                                        \
    case 3: call(3); break;                                                                        \
    case 4: call(4); break;                                                                        \
    case 5: call(5); break;                                                                        \
    case 6: call(6); break;                                                                        \
    case 7: call(7); break;                                                                        \
    default: call(8); break;                                                                       \
    }

/* [quad][column]: 4 rows of one column. */
typedef int32x4_t int_tile[QUADS][TR_NT_MAX];
typedef float32x4_t float_tile[QUADS][TR_NT_MAX];

ALWAYS_INLINE void clear_ints(int_tile t, int quads, int nt)
{
    UNROLL
    for (int q = 0; q < quads; q++) {
        UNROLL
        for (int c = 0; c < nt; c++) t[q][c] = vdupq_n_s32(0);
    }
}

ALWAYS_INLINE void clear_floats(float_tile y, int nt)
{
    for (int q = 0; q < QUADS; q++) {
        for (int c = 0; c < nt; c++) y[q][c] = vdupq_n_f32(0.0F);
    }
}

ALWAYS_INLINE void store_floats(float *out, size_t ldo, float_tile y, int nt)
{
    for (int c = 0; c < nt; c++) {
        for (int q = 0; q < QUADS; q++) vst1q_f32(out + (size_t)c * ldo + 4 * q, y[q][c]);
    }
}

/* Four f16 as float. */
ALWAYS_INLINE float32x4_t load_halves(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

/* Bytes of scales of `quads` quads as int32. */
ALWAYS_INLINE void widen_u8(int32x4_t *out, const uint8_t *p, int quads)
{
    UNROLL
    for (int q = 0; q < quads; q += 2) {
        uint16x8_t w = vmovl_u8(vld1_u8(p + 4 * q));
        out[q] = vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(w)));
        out[q + 1] = vreinterpretq_s32_u32(vmovl_high_u16(w));
    }
}

ALWAYS_INLINE void widen_s8(int32x4_t *out, const uint8_t *p, int quads)
{
    UNROLL
    for (int q = 0; q < quads; q += 2) {
        int16x8_t w = vmovl_s8(vreinterpret_s8_u8(vld1_u8(p + 4 * q)));
        out[q] = vmovl_s16(vget_low_s16(w));
        out[q + 1] = vmovl_high_s16(w);
    }
}

#ifdef __ARM_FEATURE_DOTPROD

#define ADD_STEP(sum, quants, words, lane)                                                         \
    vdotq_laneq_s32(sum, quants, vreinterpretq_s8_s32(words), lane)

#else

ALWAYS_INLINE int32x4_t add_products(int32x4_t sum, int8x16_t quants, int8x16_t acts)
{
    int16x8_t low = vmull_s8(vget_low_s8(quants), vget_low_s8(acts));
    return vpadalq_s16(sum, vpaddq_s16(low, vmull_high_s8(quants, acts)));
}

#define ADD_STEP(sum, quants, words, lane)                                                         \
    add_products(sum, quants, vreinterpretq_s8_s32(vdupq_laneq_s32(words, lane)))

#endif

/* One step of up to four columns: sum[c] += quants . lane c of the words. */
ALWAYS_INLINE void add_step(int32x4_t *sum, int8x16_t quants, int32x4_t words, int width)
{
    sum[0] = ADD_STEP(sum[0], quants, words, 0);
    if (width > 1) sum[1] = ADD_STEP(sum[1], quants, words, 1);
    if (width > 2) sum[2] = ADD_STEP(sum[2], quants, words, 2);
    if (width > 3) sum[3] = ADD_STEP(sum[3], quants, words, 3);
}

/* Words of one step: of columns 0..3 and 4..7. Reads up to 3 words past the step; behind the last
 * one of a tile lie the other sections (act.h), 3 words a block or more. */
struct step_words {
    int32x4_t first, second;
};

ALWAYS_INLINE struct step_words load_words(const int32_t *aq, int nt)
{
    struct step_words w = {vld1q_s32(aq), vdupq_n_s32(0)};
    if (nt > 4) w.second = vld1q_s32(aq + 4);
    return w;
}

ALWAYS_INLINE void add_columns(int32x4_t *sum, uint8x16_t quants, struct step_words w, int nt)
{
    int8x16_t q = vreinterpretq_s8_u8(quants);
    add_step(sum, q, w.first, nt);
    if (nt > 4) add_step(sum + 4, q, w.second, nt - 4);
}

/* Quants with their bits under `mask` taken from H1 or H2 moved left by `shift`, right if negative.
 */
ALWAYS_INLINE uint8x16_t with_high_bits(uint8x16_t quants, uint8x16_t bits, int shift, uint8_t mask)
{
    return vbslq_u8(vdupq_n_u8(mask), vshlq_u8(bits, vdupq_n_s8((int8_t)shift)), quants);
}

ALWAYS_INLINE uint8x16_t low_nibbles(uint8x16_t x)
{
    return vandq_u8(x, vdupq_n_u8(15));
}

ALWAYS_INLINE uint8x16_t high_nibbles(uint8x16_t x)
{
    return vshrq_n_u8(x, 4);
}

/* 32 k in N4, with H1 if `high`: t += quants . activations. v: of the first quad; aq: words of the
 * 32 k. */
ALWAYS_INLINE void dot_n4(int_tile t, const uint8_t *v, const int32_t *aq, bool high, int quads,
                          int nt)
{
    UNROLL
    for (int h = 0; h < 4; h++) {
        struct step_words lower = load_words(aq + h * nt, nt);
        struct step_words upper = load_words(aq + (h + 4) * nt, nt);
        UNROLL
        for (int q = 0; q < quads; q++) {
            uint8x16_t x = vld1q_u8(v + 64 * h + 16 * q);
            uint8x16_t lo = low_nibbles(x), hi = high_nibbles(x);
            if (high) {
                uint8x16_t bits = vld1q_u8(v + 256 + 16 * q);
                lo = with_high_bits(lo, bits, 4 - h, 0x10);
                hi = with_high_bits(hi, bits, -h, 0x10);
            }
            add_columns(t[q], lo, lower, nt);
            add_columns(t[q], hi, upper, nt);
        }
    }
}

#endif
