/* SPDX-License-Identifier: MIT */
/* KV cache store for AVX2: kv_ref.c with 8 conversions at a time, the same bits. F32 has nothing to
 * convert. */
#if !defined(__AVX2__) || !defined(__F16C__)
#error "this file must be compiled for AVX2 and F16C"
#endif

#include <immintrin.h>
#include <math.h>

#include "kv_q8_0.h"
#include "tables.h"

static inline __m128i to_f16(__m256 x)
{
    return _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static inline __m128i to_bf16(__m256 x)
{
    __m256i bits = _mm256_castps_si256(x), high = _mm256_srli_epi32(bits, 16);
    __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
    __m256i half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
    __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
    __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    __m256i y = _mm256_blendv_epi8(rounded, quiet, nan);
    return _mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
}

static inline __attribute__((always_inline)) void store_halves(void *k_cache, void *v_cache,
                                                               const float *k, const float *v,
                                                               size_t pos, size_t head_dim,
                                                               __m128i (*narrow)(__m256))
{
    uint16_t *k_lane = (uint16_t *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    uint16_t *v_row = (uint16_t *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d += 8) {
        uint16_t h[8];
        _mm_storeu_si128((__m128i *)(void *)h, narrow(_mm256_loadu_ps(k + d)));
        for (size_t i = 0; i < 8; i++) k_lane[16 * (d + i)] = h[i];
        _mm_storeu_si128((__m128i *)(void *)(v_row + d), narrow(_mm256_loadu_ps(v + d)));
    }
}

static void kv_store_f16_avx2(void *k_cache, void *v_cache, const float *k, const float *v,
                              size_t pos, size_t head_dim)
{
    store_halves(k_cache, v_cache, k, v, pos, head_dim, to_f16);
}

static void kv_store_bf16_avx2(void *k_cache, void *v_cache, const float *k, const float *v,
                               size_t pos, size_t head_dim)
{
    store_halves(k_cache, v_cache, k, v, pos, head_dim, to_bf16);
}

/* Largest of 32 magnitudes; infinity if one is not finite. As integers magnitudes keep their order,
 * and NaN lies above infinity. */
static inline float largest(const __m256 x[4])
{
    const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
    __m256i y = _mm256_setzero_si256();
    for (size_t i = 0; i < 4; i++)
        y = _mm256_max_epu32(y, _mm256_and_si256(_mm256_castps_si256(x[i]), magnitude));
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
    m = _mm_min_epu32(m, _mm_set1_epi32(0x7f800000));
    return tr_float_from_bits((uint32_t)_mm_cvtsi128_si32(m));
}

static inline __m256i quants(__m256 x, __m256 inverse)
{
    __m256 y =
        _mm256_round_ps(_mm256_mul_ps(x, inverse), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    y = _mm256_min_ps(_mm256_max_ps(y, _mm256_set1_ps(-127.0F)), _mm256_set1_ps(127.0F));
    return _mm256_cvtps_epi32(y);
}

/* 32 elements to q; returns the scale. */
static inline uint16_t quantize_block(int8_t q[32], const float *from)
{
    __m256 x[4] = {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8), _mm256_loadu_ps(from + 16),
                   _mm256_loadu_ps(from + 24)};
    float inverse;
    uint16_t scale = q8_0_scale(largest(x), &inverse);
    __m256i y = _mm256_setzero_si256();

    if (inverse > 0.0F) {
        __m256 by = _mm256_set1_ps(inverse);
        __m256i a = _mm256_packs_epi32(quants(x[0], by), quants(x[1], by));
        __m256i b = _mm256_packs_epi32(quants(x[2], by), quants(x[3], by));
        y = _mm256_permutevar8x32_epi32(_mm256_packs_epi16(a, b),
                                        _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    }
    _mm256_storeu_si256((__m256i *)(void *)q, y);
    return scale;
}

static void kv_store_q8_0_avx2(void *k_cache, void *v_cache, const float *k, const float *v,
                               size_t pos, size_t head_dim)
{
    struct q8_0_position at = q8_0_position(k_cache, v_cache, pos, head_dim);

    for (size_t b = 0; b < head_dim / 32; b++) {
        int8_t q[32];
        uint16_t scale = quantize_block(q, k + 32 * b);
        q8_0_put_key(&at, b, q, scale);
        scale = quantize_block(q, v + 32 * b);
        q8_0_put_value(&at, b, q, scale);
    }
}

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("kv_store_f16_avx2", KV_STORE, TRUENO_TYPE_F16, GENERIC, CPU, kv_store,
                  kv_store_f16_avx2),
    TR_KERNEL_ROW("kv_store_bf16_avx2", KV_STORE, TRUENO_TYPE_BF16, GENERIC, CPU, kv_store,
                  kv_store_bf16_avx2),
    TR_KERNEL_ROW("kv_store_q8_0_avx2", KV_STORE, TRUENO_TYPE_Q8_0, GENERIC, CPU, kv_store,
                  kv_store_q8_0_avx2),
};
const struct tr_kernel_table tr_table_kv_avx2 = {kernels, sizeof kernels / sizeof *kernels};
