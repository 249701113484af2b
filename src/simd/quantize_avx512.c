/* SPDX-License-Identifier: MIT */
/* Activation packing for AVX-512: the steps of quantize_ref.c in lanes, and the same bits. */
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "compile this file for AVX-512"
#endif

#include "gemm_zmm.h"
#include "quant/half.h"

#include <math.h>
#include <string.h>

ALWAYS_INLINE __m512 abs_lanes(__m512 x)
{
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0F), x);
}

/* Largest |x| of n floats, a multiple of 16; NaN if one is not finite. As integers the bits of |x|
 * grow with |x|, and infinity and NaN stand above all numbers. */
ALWAYS_INLINE float abs_max(const float *x, size_t n)
{
    __m512i max = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 16)
        max = _mm512_max_epi32(max, _mm512_castps_si512(abs_lanes(_mm512_loadu_ps(x + i))));
    float result = tr_float_from_bits((uint32_t)_mm512_reduce_max_epi32(max));
    return isfinite(result) ? result : NAN;
}

/* The first x[i] with |x[i]| = max. */
static float first_of(const float *x, float max)
{
    for (size_t i = 0;; i += 16) {
        __m512 a = abs_lanes(_mm512_loadu_ps(x + i));
        __mmask16 hit = _mm512_cmp_ps_mask(a, _mm512_set1_ps(max), _CMP_EQ_OQ);
        if (hit) return x[i + (size_t)__builtin_ctz(hit)];
    }
}

/* The first of those of n floats, a multiple of 16, that have the largest magnitude; NaN if one is
 * not finite. Only where both signs reach it is the first to be looked for. */
ALWAYS_INLINE float largest(const float *x, size_t n)
{
    __m512 max = _mm512_setzero_ps(), min = max, bad = max;
    for (size_t i = 0; i < n; i += 16) {
        __m512 e = _mm512_loadu_ps(x + i);
        max = _mm512_max_ps(max, e);
        min = _mm512_min_ps(min, e);
        bad = _mm512_fmadd_ps(e, _mm512_setzero_ps(), bad); /* NaN times 0, infinity times 0: NaN */
    }
    if (_mm512_cmp_ps_mask(bad, bad, _CMP_UNORD_Q)) return NAN;
    float up = _mm512_reduce_max_ps(max), down = -_mm512_reduce_min_ps(min);
    if (up == down) return first_of(x, up);
    return up > down ? up : -down;
}

/* Columns of one block before they are interleaved: words[c] are those of column c. */
#define BLOCK_WORDS 64
typedef int32_t word_block[TR_NT_MAX][BLOCK_WORDS];

/* rint(scale * x) of 64 elements as int8; dword i holds elements 4i .. 4i + 3. */
ALWAYS_INLINE __m512i round_64(const float *x, __m512 scale)
{
    /* packing leaves the words of the four sources next to one another in every lane */
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i q[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = _mm512_cvtps_epi32(_mm512_mul_ps(scale, _mm512_loadu_ps(x + 16 * i)));
    __m512i low = _mm512_packs_epi32(q[0], q[1]), high = _mm512_packs_epi32(q[2], q[3]);
    return _mm512_permutexvar_epi32(order, _mm512_packs_epi16(low, high));
}

/* The sum of 16 int8 of a 128-bit lane, in all its dwords. */
ALWAYS_INLINE __m512i sum_lanes(__m512i q)
{
    __m512i s = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1), q);
    s = _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_BADC));
    return _mm512_add_epi32(s, _mm512_shuffle_epi32(s, _MM_PERM_CDAB));
}

/* Word j of eight columns, for j = 0..7, from eight words of each. */
ALWAYS_INLINE void transpose(__m256i v[8])
{
    __m256i a[8], b[8];
    UNROLL
    for (int i = 0; i < 8; i += 2) {
        a[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        b[i] = _mm256_unpacklo_epi64(a[i], a[i + 2]);
        b[i + 1] = _mm256_unpackhi_epi64(a[i], a[i + 2]);
        b[i + 2] = _mm256_unpacklo_epi64(a[i + 1], a[i + 3]);
        b[i + 3] = _mm256_unpackhi_epi64(a[i + 1], a[i + 3]);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2x128_si256(b[i], b[i + 4], 0x31);
    }
}

/* Writes the first n words (a multiple of 8) of nt columns, interleaved. */
ALWAYS_INLINE void store_columns(int32_t *out, word_block words, size_t n, size_t nt)
{
    const __mmask8 columns = (__mmask8)((1U << nt) - 1U);
    for (size_t i = 0; i < n; i += 8) {
        __m256i v[8];
        UNROLL
        for (int c = 0; c < 8; c++)
            v[c] = _mm256_load_si256((const __m256i *)(const void *)&words[c][i]);
        if (nt == 1) {
            _mm256_storeu_si256((__m256i *)(void *)(out + i), v[0]);
            continue;
        }
        transpose(v);
        UNROLL
        for (size_t j = 0; j < 8; j++) _mm256_mask_storeu_epi32(out + (i + j) * nt, columns, v[j]);
    }
}

/* Scale of a group whose largest number, with its sign, is `top`; its inverse is 0 if the group
 * counts as zero. */
ALWAYS_INLINE float scale_256(float *inverse, float top)
{
    *inverse = 0;
    if (isnan(top)) return NAN;
    if (!isfinite(-127.0F / top)) return 0;
    *inverse = -127.0F / top;
    return 1.0F / *inverse;
}

ALWAYS_INLINE float scale_32(float *inverse, float max)
{
    *inverse = 127.0F / max;
    if (isfinite(*inverse)) return max / 127.0F;
    *inverse = 0;
    return isnan(max) ? NAN : 0.0F;
}

/* 64 elements; those of a group that counts as zero or holds NaN are 0 whatever x is. */
ALWAYS_INLINE __m512i quantize_64(const float *x, float inverse)
{
    return inverse == 0 ? _mm512_setzero_si512() : round_64(x, _mm512_set1_ps(inverse));
}

/* From sums of 16 in ascending order: z16 = -32 x each; bs: sums of 32 as pairs of int16. */
ALWAYS_INLINE void store_sums(int32_t z16[16], int32_t bs[4], __m512i sums)
{
    _mm512_store_si512(z16, _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_slli_epi32(sums, 5)));
    /* dword 2i: the sum of 32 number i, and of its neighbour below it */
    sums = _mm512_add_epi32(sums, _mm512_shuffle_epi32(sums, _MM_PERM_CDAB));
    __m512i odd = _mm512_slli_epi32(_mm512_shuffle_epi32(sums, _MM_PERM_BADC), 16);
    __m512i pairs = _mm512_mask_blend_epi16(0xaaaaaaaa, sums, odd);
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    pairs = _mm512_permutexvar_epi32(first, pairs);
    _mm_store_si128((__m128i *)(void *)bs, _mm512_castsi512_si128(pairs));
}

/* 256 elements: words, -32 x sums of 16, and pairs of sums of 32; returns the scale. */
ALWAYS_INLINE float quantize_256(int32_t *words, int32_t *z16, int32_t bs[4], const float *x)
{
    float inverse, a = scale_256(&inverse, largest(x, 256));
    __m512i sums = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++) {
        /* dword 4j of the i-th goes to dword 4i + j */
        const __m512i place = _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
        __m512i q = quantize_64(x + 64 * i, inverse);
        _mm512_store_si512(words + 16 * i, q);
        sums = _mm512_mask_permutexvar_epi32(sums, (__mmask16)(0xf << 4 * i), place, sum_lanes(q));
    }
    store_sums(z16, bs, sums);
    return a;
}

static void quantize_a8_256_avx512(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_256 v = tr_a8_256_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_bs = (int32_t *)v.bs, *out_z16 = (int32_t *)v.z16;
    float *out_a = (float *)v.a;
    _Alignas(64) word_block words, z16;

    memset(words, 0, sizeof words);
    memset(z16, 0, sizeof z16);
    for (size_t b = 0; b < k / 256; b++) {
        for (size_t c = 0; c < nt; c++) {
            _Alignas(16) int32_t bs[4];
            out_a[b * nt + c] = quantize_256(words[c], z16[c], bs, x + c * ldx + 256 * b);
            for (size_t i = 0; i < 4; i++) out_bs[(4 * b + i) * nt + c] = bs[i];
        }
        store_columns(out_q + 64 * b * nt, words, 64, nt);
        store_columns(out_z16 + 16 * b * nt, z16, 16, nt);
    }
}

/* 32 elements: words; returns the scale. */
ALWAYS_INLINE float quantize_32(int32_t *words, int32_t *sum, const float *x)
{
    float inverse, a = scale_32(&inverse, abs_max(x, 32));
    __m256i q = _mm256_setzero_si256();
    if (inverse != 0) {
        __m512 scale = _mm512_set1_ps(inverse);
        __m512i q0 = _mm512_cvtps_epi32(_mm512_mul_ps(scale, _mm512_loadu_ps(x)));
        __m512i q1 = _mm512_cvtps_epi32(_mm512_mul_ps(scale, _mm512_loadu_ps(x + 16)));
        q = _mm256_set_m128i(_mm512_cvtsepi32_epi8(q1), _mm512_cvtsepi32_epi8(q0));
    }
    _mm256_store_si256((__m256i *)(void *)words, q);
    __m512i s = sum_lanes(_mm512_castsi256_si512(q));
    *sum = _mm512_cvtsi512_si32(s) + _mm256_extract_epi32(_mm512_castsi512_si256(s), 4);
    return a;
}

static void quantize_a8_32_avx512(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_32 v = tr_a8_32_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_ns = (int32_t *)v.ns;
    float *out_a = (float *)v.a, *out_as = (float *)v.as;
    _Alignas(64) word_block words;

    memset(words, 0, sizeof words);
    for (size_t b0 = 0; b0 < k / 32; b0 += 8) {
        size_t nb = k / 32 - b0 < 8 ? k / 32 - b0 : 8;
        for (size_t c = 0; c < nt; c++) {
            for (size_t b = 0; b < nb; b++) {
                size_t at = (b0 + b) * nt + c;
                int32_t sum;
                float a = quantize_32(words[c] + 8 * b, &sum, x + c * ldx + 32 * (b0 + b));
                out_a[at] = a;
                out_ns[at] = -sum;
                out_as[at] = a * (float)sum;
            }
        }
        store_columns(out_q + 8 * b0 * nt, words, 8 * nb, nt);
    }
}

static void quantize_f32_avx512(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    float *out = tile;
    size_t i = 0;
    _Alignas(64) word_block words;

    memset(words, 0, sizeof words);
    for (; i + 16 <= k; i += 16) {
        for (size_t c = 0; c < nt; c++) {
            __m512 e = _mm512_loadu_ps(x + c * ldx + i);
            __mmask16 bad = _mm512_cmp_ps_mask(abs_lanes(e), _mm512_set1_ps(INFINITY), _CMP_NLT_UQ);
            _mm512_store_ps(words[c], _mm512_mask_mov_ps(e, bad, _mm512_set1_ps(NAN)));
        }
        store_columns((int32_t *)tile + i * nt, words, 16, nt);
    }
    for (; i < k; i++) {
        for (size_t c = 0; c < nt; c++) {
            float e = x[c * ldx + i];
            out[i * nt + c] = isfinite(e) ? e : NAN;
        }
    }
}

/* Two row groups x six columns: with a sum and a dot for each, 24 of the 32 registers. With eight
 * columns the sums go through memory, which cost the products a tenth of their speed on Zen 5. */
#define NT_BEST 6

static const struct tr_kernel kernels[] = {
    TR_QUANTIZE_ROW("quantize_f32_avx512", F32, NT_BEST, CPU_AVX512, quantize_f32_avx512),
    TR_QUANTIZE_ROW("quantize_a8_256_avx512", A8_256, NT_BEST, CPU_AVX512, quantize_a8_256_avx512),
    TR_QUANTIZE_ROW("quantize_a8_32_avx512", A8_32, NT_BEST, CPU_AVX512, quantize_a8_32_avx512),
};
const struct tr_kernel_table tr_table_quantize_avx512 = {kernels, sizeof kernels / sizeof *kernels};
