/* SPDX-License-Identifier: MIT */
/* The functions of math.h on 8 lanes: the operations of math.c in the same order. Only for files
 * that are compiled for AVX2 and FMA. */
#ifndef TR_VEC_AVX2_H
#define TR_VEC_AVX2_H

#include <immintrin.h>
#include <math.h>
#include <stdint.h>

#include "vec_math.h"

/* Mask of lanes 0..n-1, n <= 8, for maskload and maskstore. */
static inline __m256i first_lanes(size_t n)
{
    static const int32_t table[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(table + 8 - n));
}

static inline __m256 exp_lanes(__m256 x)
{
    __m256 one = _mm256_set1_ps(1.0F);
    __m256 n = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(TR_EXP_LOG2E)),
                               _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m256 r = _mm256_fnmadd_ps(n, _mm256_set1_ps(TR_EXP_LN2_HI), x);
    r = _mm256_fnmadd_ps(n, _mm256_set1_ps(TR_EXP_LN2_LO), r);
    __m256 p = _mm256_fmadd_ps(_mm256_set1_ps(TR_EXP_C6), r, _mm256_set1_ps(TR_EXP_C5));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(TR_EXP_C4));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(TR_EXP_C3));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(TR_EXP_C2));
    p = _mm256_fmadd_ps(p, r, one);
    p = _mm256_fmadd_ps(p, r, one);
    /* of NaN n becomes 0x80000000, of which the shift leaves nothing: p stays the NaN */
    __m256i exponent = _mm256_slli_epi32(_mm256_cvtps_epi32(n), 23);
    p = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(p), exponent));

    __m256 low = _mm256_cmp_ps(x, _mm256_set1_ps(TR_EXP_LO), _CMP_LT_OQ);
    __m256 high = _mm256_cmp_ps(x, _mm256_set1_ps(TR_EXP_HI), _CMP_GT_OQ);
    p = _mm256_andnot_ps(low, p);
    return _mm256_blendv_ps(p, _mm256_set1_ps(INFINITY), high);
}

/* x / (1 + exp(y)) */
static inline __m256 logistic_lanes(__m256 x, __m256 y)
{
    return _mm256_div_ps(x, _mm256_add_ps(_mm256_set1_ps(1.0F), exp_lanes(y)));
}

static inline __m256 silu_lanes(__m256 x)
{
    return logistic_lanes(x, _mm256_xor_ps(x, _mm256_set1_ps(-0.0F)));
}

static inline __m256 gelu_lanes(__m256 x)
{
    __m256 t = _mm256_fmadd_ps(_mm256_mul_ps(x, x), _mm256_set1_ps(TR_GELU_C3),
                               _mm256_set1_ps(TR_GELU_C1));
    return logistic_lanes(x, _mm256_mul_ps(x, t));
}

static inline __m256 softcap_lanes(__m256 x, __m256 cap)
{
    __m256 one = _mm256_set1_ps(1.0F);
    __m256 y = _mm256_div_ps(x, cap);
    __m256 e = _mm256_add_ps(exp_lanes(_mm256_add_ps(y, y)), one);
    return _mm256_mul_ps(cap, _mm256_sub_ps(one, _mm256_div_ps(_mm256_set1_ps(2.0F), e)));
}

/* The end of R32 order: p[i] holds partials 8i to 8i+7. */
static inline float r32_sum(const __m256 p[4])
{
    __m256 y = _mm256_add_ps(_mm256_add_ps(p[0], p[2]), _mm256_add_ps(p[1], p[3]));
    __m128 x = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    x = _mm_add_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
}

#endif
