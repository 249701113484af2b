/* SPDX-License-Identifier: MIT */
/* The functions of math.h on 16 lanes: the operations of math.c in the same order. Only for files
 * that are compiled for AVX-512. */
#ifndef TR_VEC_AVX512_H
#define TR_VEC_AVX512_H

#include <immintrin.h>
#include <math.h>

#include "vec_math.h"

/* Mask of lanes 0..n-1, n <= 16. */
static inline __mmask16 first_lanes(size_t n)
{
    return (__mmask16)((1U << n) - 1U);
}

/* exp(x) of lanes that are not above TR_EXP_HI. */
static inline __m512 exp_low_lanes(__m512 x)
{
    __m512 one = _mm512_set1_ps(1.0F);
    __m512i i = _mm512_cvtps_epi32(_mm512_mul_ps(x, _mm512_set1_ps(TR_EXP_LOG2E)));
    __m512 n = _mm512_cvtepi32_ps(i);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(TR_EXP_LN2_HI), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(TR_EXP_LN2_LO), r);
    __m512 p = _mm512_fmadd_ps(_mm512_set1_ps(TR_EXP_C6), r, _mm512_set1_ps(TR_EXP_C5));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(TR_EXP_C4));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(TR_EXP_C3));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(TR_EXP_C2));
    p = _mm512_fmadd_ps(p, r, one);
    p = _mm512_fmadd_ps(p, r, one);
    /* a NaN is not less than anything, and has come through the arithmetic */
    __mmask16 normal = _mm512_cmp_ps_mask(x, _mm512_set1_ps(TR_EXP_LO), _CMP_NLT_UQ);
    i = _mm512_add_epi32(_mm512_castps_si512(p), _mm512_slli_epi32(i, 23));
    return _mm512_castsi512_ps(_mm512_maskz_mov_epi32(normal, i));
}

static inline __m512 exp_lanes(__m512 x)
{
    __mmask16 high = _mm512_cmp_ps_mask(x, _mm512_set1_ps(TR_EXP_HI), _CMP_GT_OQ);
    return _mm512_mask_mov_ps(exp_low_lanes(x), high, _mm512_set1_ps(INFINITY));
}

/* x / (1 + exp(y)) */
static inline __m512 logistic_lanes(__m512 x, __m512 y)
{
    return _mm512_div_ps(x, _mm512_add_ps(_mm512_set1_ps(1.0F), exp_lanes(y)));
}

static inline __m512 silu_lanes(__m512 x)
{
    return logistic_lanes(x, _mm512_xor_ps(x, _mm512_set1_ps(-0.0F)));
}

static inline __m512 gelu_lanes(__m512 x)
{
    __m512 t = _mm512_fmadd_ps(_mm512_mul_ps(x, x), _mm512_set1_ps(TR_GELU_C3),
                               _mm512_set1_ps(TR_GELU_C1));
    return logistic_lanes(x, _mm512_mul_ps(x, t));
}

static inline __m512 softcap_lanes(__m512 x, __m512 cap)
{
    __m512 one = _mm512_set1_ps(1.0F);
    __m512 y = _mm512_div_ps(x, cap);
    __m512 e = _mm512_add_ps(exp_lanes(_mm512_add_ps(y, y)), one);
    return _mm512_mul_ps(cap, _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.0F), e)));
}

/* The end of R32 order: 32 partials, of which b holds 16 to 31, to one sum. */
static inline float r32_sum(__m512 a, __m512 b)
{
    a = _mm512_add_ps(a, b);
    __m256 y = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    x = _mm_add_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
}

#endif
