/* SPDX-License-Identifier: MIT */
/* Activation packing for AVX-512: the steps of quantize_ref.c in lanes, and the same bits. */
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512DQ__)
#error "compile this file for AVX-512"
#endif

#include "gemm_zmm.h"

#include <math.h>
#include <string.h>

ALWAYS_INLINE __m512 abs_lanes(__m512 x)
{
    return _mm512_andnot_ps(_mm512_set1_ps(-0.0F), x);
}

/* 16 rounded products as int8, in four words. */
ALWAYS_INLINE __m128i round_16(const float *x, __m512 scale)
{
    __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(scale, _mm512_loadu_ps(x)));
    return _mm512_cvtsepi32_epi8(q);
}

/* Four sums of four bytes each, added up: the sum of 16 int8. */
ALWAYS_INLINE int32_t sum_16(__m128i q)
{
    __m128i ones = _mm_set1_epi8(1);
    __m128i s = _mm_dpbusd_epi32(_mm_setzero_si128(), ones, q);
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
    s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1));
    return _mm_cvtsi128_si32(s);
}

/* Largest |x| of n floats, a multiple of 16; NaN if one is not finite. */
ALWAYS_INLINE float abs_max(const float *x, size_t n)
{
    const __m512 inf = _mm512_set1_ps(INFINITY);
    __m512 max = _mm512_setzero_ps();
    __mmask16 bad = 0;
    for (size_t i = 0; i < n; i += 16) {
        __m512 a = abs_lanes(_mm512_loadu_ps(x + i));
        bad |= _mm512_cmp_ps_mask(a, inf, _CMP_NLT_UQ);
        max = _mm512_max_ps(max, a);
    }
    return bad ? NAN : _mm512_reduce_max_ps(max);
}

/* The first x[i] with |x[i]| = max. */
ALWAYS_INLINE float first_of(const float *x, float max)
{
    for (size_t i = 0;; i += 16) {
        __m512 a = abs_lanes(_mm512_loadu_ps(x + i));
        __mmask16 hit = _mm512_cmp_ps_mask(a, _mm512_set1_ps(max), _CMP_EQ_OQ);
        if (hit) return x[i + (size_t)__builtin_ctz(hit)];
    }
}

/* Writes n words to every nt-th place. */
ALWAYS_INLINE void store_words(int32_t *out, const int32_t *words, size_t n, size_t nt)
{
    for (size_t i = 0; i < n; i++) out[i * nt] = words[i];
}

static void quantize_a8_256_avx512(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_256 v = tr_a8_256_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_bs = (int32_t *)v.bs, *out_z16 = (int32_t *)v.z16;
    float *out_a = (float *)v.a;

    for (size_t c = 0; c < nt; c++) {
        for (size_t b = 0; b < k / 256; b++) {
            const float *in = x + c * ldx + 256 * b;
            float max = abs_max(in, 256);
            float inverse = -127.0F / max; /* sign of the largest element follows */
            _Alignas(64) int32_t words[64];
            int32_t sums[16];

            if (!isfinite(inverse)) { /* NaN, zero or tiny */
                inverse = 0;
                out_a[b * nt + c] = isnan(max) ? NAN : 0.0F;
            } else {
                inverse = -127.0F / first_of(in, max);
                out_a[b * nt + c] = 1.0F / inverse;
            }
            for (size_t i = 0; i < 16; i++) {
                __m128i q = _mm_setzero_si128();
                if (inverse != 0) q = round_16(in + 16 * i, _mm512_set1_ps(inverse));
                _mm_store_si128((__m128i *)(void *)(words + 4 * i), q);
                sums[i] = sum_16(q);
                out_z16[(16 * b + i) * nt + c] = -32 * sums[i];
            }
            store_words(out_q + 64 * b * nt + c, words, 64, nt);
            for (size_t i = 0; i < 4; i++) {
                uint32_t low = (uint32_t)(sums[4 * i] + sums[4 * i + 1]) & 0xffffU;
                uint32_t high = (uint32_t)(sums[4 * i + 2] + sums[4 * i + 3]) << 16;
                out_bs[(4 * b + i) * nt + c] = (int32_t)(high | low);
            }
        }
    }
}

static void quantize_a8_32_avx512(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_32 v = tr_a8_32_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_ns = (int32_t *)v.ns;
    float *out_a = (float *)v.a, *out_as = (float *)v.as;

    for (size_t c = 0; c < nt; c++) {
        for (size_t b = 0; b < k / 32; b++) {
            const float *in = x + c * ldx + 32 * b;
            float max = abs_max(in, 32), inverse = 127.0F / max, a = max / 127.0F;
            _Alignas(16) int32_t words[8] = {0};
            int32_t sum = 0;

            if (isfinite(inverse)) {
                __m512 scale = _mm512_set1_ps(inverse);
                __m128i q0 = round_16(in, scale), q1 = round_16(in + 16, scale);
                _mm_store_si128((__m128i *)(void *)words, q0);
                _mm_store_si128((__m128i *)(void *)(words + 4), q1);
                sum = sum_16(q0) + sum_16(q1);
            } else {
                a = isnan(max) ? NAN : 0.0F;
            }
            store_words(out_q + 8 * b * nt + c, words, 8, nt);
            out_a[b * nt + c] = a;
            out_ns[b * nt + c] = -sum;
            out_as[b * nt + c] = a * (float)sum;
        }
    }
}

static const struct tr_kernel kernels[] = {
    {"quantize_a8_256_avx512",
     TR_OP_QUANTIZE,
     TR_TYPE_NONE,
     TR_ACT_A8_256,
     TR_NT_MAX,
     CPU_AVX512,
     {.quantize = quantize_a8_256_avx512}},
    {"quantize_a8_32_avx512",
     TR_OP_QUANTIZE,
     TR_TYPE_NONE,
     TR_ACT_A8_32,
     TR_NT_MAX,
     CPU_AVX512,
     {.quantize = quantize_a8_32_avx512}},
};
const struct tr_kernel_table tr_table_quantize_avx512 = {kernels, sizeof kernels / sizeof *kernels};
