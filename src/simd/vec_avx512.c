/* SPDX-License-Identifier: MIT */
/* Norm and gate kernels for AVX-512: vec_ref.c in 16 lanes, the same bits. */
#if !defined(__AVX512F__) || !defined(__AVX512DQ__)
#error "this file must be compiled for AVX-512"
#endif

#include "vec_avx512.h"
#include "tables.h"

/* Sum of squares in R32 order: partials 0-15 in a, 16-31 in b. */
static float sum_of_squares(const float *x, size_t n)
{
    __m512 a = _mm512_setzero_ps(), b = _mm512_setzero_ps();
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        __m512 u = _mm512_loadu_ps(x + i), v = _mm512_loadu_ps(x + i + 16);
        a = _mm512_fmadd_ps(u, u, a);
        b = _mm512_fmadd_ps(v, v, b);
    }
    if (i + 16 <= n) {
        __m512 u = _mm512_loadu_ps(x + i);
        __mmask16 m = first_lanes(n - i - 16);
        __m512 v = _mm512_maskz_loadu_ps(m, x + i + 16);
        a = _mm512_fmadd_ps(u, u, a);
        b = _mm512_mask3_fmadd_ps(v, v, b, m);
    } else {
        __mmask16 m = first_lanes(n - i);
        __m512 u = _mm512_maskz_loadu_ps(m, x + i);
        a = _mm512_mask3_fmadd_ps(u, u, a, m);
    }
    return r32_sum(a, b);
}

static void rmsnorm_avx512(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m512 inv = _mm512_set1_ps(1.0F / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        __m512 v = _mm512_mul_ps(_mm512_loadu_ps(x + i), inv);
        _mm512_storeu_ps(y + i, _mm512_mul_ps(v, _mm512_loadu_ps(w + i)));
    }
    __mmask16 m = first_lanes(n - i);
    __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(m, x + i), inv);
    _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, w + i)));
}

static void swiglu_avx512(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        __m512 v = silu_lanes(_mm512_loadu_ps(gate + i));
        _mm512_storeu_ps(y + i, _mm512_mul_ps(v, _mm512_loadu_ps(up + i)));
    }
    __mmask16 m = first_lanes(n - i);
    __m512 v = silu_lanes(_mm512_maskz_loadu_ps(m, gate + i));
    _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, up + i)));
}

static void geglu_avx512(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        __m512 v = gelu_lanes(_mm512_loadu_ps(gate + i));
        _mm512_storeu_ps(y + i, _mm512_mul_ps(v, _mm512_loadu_ps(up + i)));
    }
    __mmask16 m = first_lanes(n - i);
    __m512 v = gelu_lanes(_mm512_maskz_loadu_ps(m, gate + i));
    _mm512_mask_storeu_ps(y + i, m, _mm512_mul_ps(v, _mm512_maskz_loadu_ps(m, up + i)));
}

#define CPU                                                                                        \
    (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX512F |                     \
     TRUENO_CPU_AVX512BW | TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ)

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("rmsnorm_avx512", RMSNORM, TR_TYPE_NONE, VECTOR_RMSNORM, CPU, rmsnorm,
                  rmsnorm_avx512),
    TR_KERNEL_ROW("swiglu_avx512", SWIGLU, TR_TYPE_NONE, GENERIC, CPU, glu, swiglu_avx512),
    TR_KERNEL_ROW("geglu_avx512", GEGLU, TR_TYPE_NONE, GENERIC, CPU, glu, geglu_avx512),
};
const struct tr_kernel_table tr_table_vec_avx512 = {kernels, sizeof kernels / sizeof *kernels};
