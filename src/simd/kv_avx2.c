/* SPDX-License-Identifier: MIT */
/* KV cache store for AVX2: kv_ref.c with the F16C conversion, the same bits. */
#if !defined(__AVX2__) || !defined(__F16C__)
#error "this file must be compiled for AVX2 and F16C"
#endif

#include <immintrin.h>

#include "tables.h"

static inline __m128i halves(const float *x)
{
    return _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

static void kv_store_f16_avx2(void *k_cache, void *v_cache, const float *k, const float *v,
                              size_t pos, size_t head_dim)
{
    uint16_t *k_lane = (uint16_t *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    uint16_t *v_row = (uint16_t *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d += 8) {
        uint16_t h[8];
        _mm_storeu_si128((__m128i *)(void *)h, halves(k + d));
        for (size_t i = 0; i < 8; i++) k_lane[16 * (d + i)] = h[i];
        _mm_storeu_si128((__m128i *)(void *)(v_row + d), halves(v + d));
    }
}

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("kv_store_f16_avx2", KV_STORE, TRUENO_TYPE_F16, GENERIC, CPU, kv_store,
                  kv_store_f16_avx2),
};
const struct tr_kernel_table tr_table_kv_avx2 = {kernels, sizeof kernels / sizeof *kernels};
