/* SPDX-License-Identifier: MIT */
/* What the gemm templates for 256-bit registers share: how four-byte steps are multiplied and
 * summed. Rows are lanes, so a vector of 16 rows (x16.h) is read as two halves of 8.
 *
 * Compiled for AVX-VNNI, vpdpbusd sums four products into int32. Otherwise vpmaddubsw sums two into
 * int16, which holds few steps: 8 of quants up to 15 (30480), 4 up to 31 (31496), 2 up to 63
 * (32004); vpmaddwd then widens, and scales at once. STEPS_n says how many steps of n-bit quants a
 * sum may take before it must be flushed.
 *
 * Columns come in groups of at most MAX_WIDTH: what 16 registers hold. */
#ifndef TR_GEMM_YMM_H
#define TR_GEMM_YMM_H

#include <immintrin.h>

#include "act.h"
#include "spread.h"
#include "x16.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#define MAX_WIDTH 4

#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Keeps a sum or a pointer as it is written. GCC would reorder integer additions until all products
 * of a block are alive at once, give each word of the activations a pointer of its own, and spill
 * both: 35 % of the speed. */
#define PIN(vector)          __asm__("" : "+x"(vector))
#define PIN_POINTER(pointer) __asm__("" : "+r"(pointer))

ALWAYS_INLINE __m256i load_bytes(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

ALWAYS_INLINE __m128i load_16_bytes(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* How far ahead of their use weights are fetched, in bytes (measured on Zen 5). */
#define AHEAD 7168

/* Brings the lines of `bytes` bytes that will be used AHEAD bytes after p to the cache; nothing
 * faults past the end of the weights. Who walks a block first asks for the same block further on:
 * DRAM is slower than one stream of halves suggests to the hardware. */
ALWAYS_INLINE void fetch_ahead(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + AHEAD + i, _MM_HINT_T0);
}

/* Eight f16 as float. */
ALWAYS_INLINE __m256 load_halves(const uint8_t *p)
{
    return _mm256_cvtph_ps(load_16_bytes(p));
}

/* spread.h */
ALWAYS_INLINE __m256i spread(__m256i words, const tr_spread order)
{
    __m128i o = _mm_load_si128((const __m128i *)(const void *)order);
    return _mm256_shuffle_epi8(words, _mm256_broadcastsi128_si256(o));
}

#ifdef __AVXVNNI__

enum { STEPS_4 = 8, STEPS_5 = 8, STEPS_6 = 4 };
enum { SUM_HOLDS_BIAS = 1 }; /* a sum may begin with -zero * (sum of activations) */

/* Adds the products of one step: 8 rows x 4 unsigned quants, the same 4 activations in each dword.
 */
ALWAYS_INLINE __m256i add_step(__m256i sum, __m256i quants, __m256i acts)
{
    return _mm256_dpbusd_avx_epi32(sum, quants, acts);
}

/* The same for 8-bit quants stored as w + 128; the bias stays in. */
ALWAYS_INLINE __m256i add_step_b8(__m256i total, __m256i quants, __m256i acts)
{
    return _mm256_dpbusd_avx_epi32(total, quants, acts);
}

/* Byte j of each dword as a scale, as add_scaled wants it. */
ALWAYS_INLINE __m256i scales_u8(__m256i words, int j)
{
    return spread(words, tr_spread_u32[j]);
}

ALWAYS_INLINE __m256i scales_i8(__m256i words, int j)
{
    return _mm256_srai_epi32(spread(words, tr_spread_top32[j]), 24);
}

/* total + scale * sum, and total + sum. */
ALWAYS_INLINE __m256i add_scaled(__m256i total, __m256i sum, __m256i scale)
{
    return _mm256_add_epi32(total, _mm256_mullo_epi32(sum, scale));
}

ALWAYS_INLINE __m256i add_sum(__m256i total, __m256i sum)
{
    return _mm256_add_epi32(total, sum);
}

#else

enum { STEPS_4 = 8, STEPS_5 = 4, STEPS_6 = 2 };
enum { SUM_HOLDS_BIAS = 0 };

ALWAYS_INLINE __m256i add_step(__m256i sum, __m256i quants, __m256i acts)
{
    sum = _mm256_add_epi16(sum, _mm256_maddubs_epi16(quants, acts));
    PIN(sum);
    return sum;
}

/* |w| times the activation with the sign of w; two products reach 32512, so they are widened at
 * once. No bias is left. */
ALWAYS_INLINE __m256i add_step_b8(__m256i total, __m256i quants, __m256i acts)
{
    __m256i w = _mm256_xor_si256(quants, _mm256_set1_epi8(-128));
    __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(acts, w));
    total = _mm256_add_epi32(total, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    PIN(total);
    return total;
}

ALWAYS_INLINE __m256i scales_u8(__m256i words, int j)
{
    return spread(words, tr_spread_u16[j]);
}

ALWAYS_INLINE __m256i scales_i8(__m256i words, int j)
{
    return _mm256_srai_epi16(spread(words, tr_spread_top16[j]), 8);
}

ALWAYS_INLINE __m256i add_scaled(__m256i total, __m256i sum, __m256i scale)
{
    return _mm256_add_epi32(total, _mm256_madd_epi16(sum, scale));
}

ALWAYS_INLINE __m256i add_sum(__m256i total, __m256i sum)
{
    return _mm256_add_epi32(total, _mm256_madd_epi16(sum, _mm256_set1_epi16(1)));
}

#endif

/* Low and high nibbles. */
ALWAYS_INLINE __m256i low_nibbles(__m256i x)
{
    return _mm256_and_si256(x, _mm256_set1_epi8(15));
}

ALWAYS_INLINE __m256i high_nibbles(__m256i x)
{
    return low_nibbles(_mm256_srli_epi16(x, 4));
}

/* Bits of H1 or H2 moved left by `shift` (right if negative) to where `mask` keeps them. Shifts
 * cross bytes; the mask drops what came over. */
ALWAYS_INLINE __m256i high_bits(__m256i bits, int shift, char mask)
{
    __m256i moved = shift >= 0 ? _mm256_slli_epi16(bits, shift) : _mm256_srli_epi16(bits, -shift);
    return _mm256_and_si256(moved, _mm256_set1_epi8(mask));
}

/* One step of `width` columns: sum[c] += quants . the c-th word. */
ALWAYS_INLINE void add_steps(__m256i *sum, __m256i quants, const int32_t *words, int width)
{
    for (int c = 0; c < width; c++) sum[c] = add_step(sum[c], quants, _mm256_set1_epi32(words[c]));
}

/* 32 k of a half in N4, with H1 if `high`: total[c] += quants . activations, times *scale if there
 * is one. aq: words of the 32 k. */
ALWAYS_INLINE void dot_n4(__m256i *total, const uint8_t *v, const int32_t *aq, size_t nt, int width,
                          bool high, const __m256i *scale)
{
    const int steps = high ? STEPS_5 : STEPS_4;
    const bool through = SUM_HOLDS_BIAS && !scale; /* the sum itself is the total */
    const int32_t *upper = aq + 4 * nt;
    __m256i bits = high ? load_bytes(v + 256) : _mm256_setzero_si256();
    __m256i sum[MAX_WIDTH];

    for (int h = 0; h < 4; h++, aq += nt, upper += nt) {
        __m256i x = load_bytes(v + 64 * h);
        __m256i lo = low_nibbles(x), hi = high_nibbles(x);
        if (high) lo = _mm256_or_si256(lo, high_bits(bits, 4 - h, 0x10));
        if (high) hi = _mm256_or_si256(hi, high_bits(bits, -h, 0x10));
        for (int c = 0; c < width && 2 * h % steps == 0; c++) {
            sum[c] = through ? total[c] : _mm256_setzero_si256();
        }
        PIN_POINTER(aq);
        PIN_POINTER(upper);
        add_steps(sum, lo, aq, width);
        add_steps(sum, hi, upper, width);
        for (int c = 0; c < width && 2 * (h + 1) % steps == 0; c++) {
            if (through)
                total[c] = sum[c];
            else
                total[c] = scale ? add_scaled(total[c], sum[c], *scale) : add_sum(total[c], sum[c]);
        }
    }
}

/* Results of one row group. */
struct tile_sums {
    __m256 y[TR_NT_MAX][2]; /* [column][half] */
};

ALWAYS_INLINE void zero_sums(struct tile_sums *s, size_t nt)
{
    for (size_t c = 0; c < nt; c++) s->y[c][0] = s->y[c][1] = _mm256_setzero_ps();
}

ALWAYS_INLINE void store_sums(float *out, size_t ldo, const struct tile_sums *s, size_t nt)
{
    for (size_t c = 0; c < nt; c++) {
        _mm256_storeu_ps(out + c * ldo, s->y[c][0]);
        _mm256_storeu_ps(out + c * ldo + 8, s->y[c][1]);
    }
}

/* nt columns cut into groups whose widths differ by at most one; group i begins at first[i]. */
struct widths {
    size_t n;
    size_t first[TR_NT_MAX + 1];
};

ALWAYS_INLINE struct widths cut_columns(size_t nt, size_t max_width)
{
    struct widths w;
    w.n = (nt + max_width - 1) / max_width;
    for (size_t i = 0; i <= w.n; i++) w.first[i] = tr_tile(i, nt, w.n);
    return w;
}

#endif
