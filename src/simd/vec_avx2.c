/* SPDX-License-Identifier: MIT */
/* Norm, gate and rotation kernels for AVX2: vec_ref.c in 8 lanes, the same bits. */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "this file must be compiled for AVX2 and FMA"
#endif

#include "vec_avx2.h"
#include "tables.h"

/* Sum of squares in R32 order: partials 8j to 8j+7 in p[j]. */
static float sum_of_squares(const float *x, size_t n)
{
    __m256 p[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                   _mm256_setzero_ps()};
    size_t i = 0;

    for (; i + 32 <= n; i += 32) {
        for (size_t j = 0; j < 4; j++) {
            __m256 v = _mm256_loadu_ps(x + i + 8 * j);
            p[j] = _mm256_fmadd_ps(v, v, p[j]);
        }
    }
    for (size_t j = 0; j < 4 && i + 8 * j < n; j++) { /* 0 * 0 + p is p: p is never -0 */
        size_t rest = n - i - 8 * j;
        __m256 v = _mm256_maskload_ps(x + i + 8 * j, first_lanes(rest < 8 ? rest : 8));
        p[j] = _mm256_fmadd_ps(v, v, p[j]);
    }
    return r32_sum(p);
}

static void rmsnorm_avx2(float *y, const float *x, const float *w, size_t n, float eps)
{
    __m256 inv = _mm256_set1_ps(1.0F / sqrtf(sum_of_squares(x, n) / (float)n + eps));
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 v = _mm256_mul_ps(_mm256_loadu_ps(x + i), inv);
        _mm256_storeu_ps(y + i, _mm256_mul_ps(v, _mm256_loadu_ps(w + i)));
    }
    __m256i m = first_lanes(n - i);
    __m256 v = _mm256_mul_ps(_mm256_maskload_ps(x + i, m), inv);
    _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(v, _mm256_maskload_ps(w + i, m)));
}

static void swiglu_avx2(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 v = silu_lanes(_mm256_loadu_ps(gate + i));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(v, _mm256_loadu_ps(up + i)));
    }
    __m256i m = first_lanes(n - i);
    __m256 v = silu_lanes(_mm256_maskload_ps(gate + i, m));
    _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(v, _mm256_maskload_ps(up + i, m)));
}

static void geglu_avx2(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8) {
        __m256 v = gelu_lanes(_mm256_loadu_ps(gate + i));
        _mm256_storeu_ps(y + i, _mm256_mul_ps(v, _mm256_loadu_ps(up + i)));
    }
    __m256i m = first_lanes(n - i);
    __m256 v = gelu_lanes(_mm256_maskload_ps(gate + i, m));
    _mm256_maskstore_ps(y + i, m, _mm256_mul_ps(v, _mm256_maskload_ps(up + i, m)));
}

/* One pair: the tail of a row. */
static inline void rotate(float *a, float *b, float cosine, float sine)
{
    float x = *a, y = *b;
    *a = x * cosine - y * sine;
    *b = x * sine + y * cosine;
}

/* Four pairs (a, b) at a time: even lanes a*cos - b*sin, odd lanes b*cos + a*sin. */
static void rope_norm_avx2(float *x, const float *cosine, const float *sine, size_t n_pairs)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    size_t i = 0;

    for (; i + 4 <= n_pairs; i += 4) {
        __m256 c = _mm256_castps128_ps256(_mm_loadu_ps(cosine + i));
        __m256 s = _mm256_castps128_ps256(_mm_loadu_ps(sine + i));
        __m256 v = _mm256_loadu_ps(x + 2 * i);
        __m256 swapped = _mm256_permute_ps(v, 0xb1);
        v = _mm256_addsub_ps(_mm256_mul_ps(v, _mm256_permutevar8x32_ps(c, twice)),
                             _mm256_mul_ps(swapped, _mm256_permutevar8x32_ps(s, twice)));
        _mm256_storeu_ps(x + 2 * i, v);
    }
    for (; i < n_pairs; i++) rotate(&x[2 * i], &x[2 * i + 1], cosine[i], sine[i]);
}

static void rope_neox_avx2(float *x, const float *cosine, const float *sine, size_t n_pairs)
{
    float *y = x + n_pairs;
    size_t i = 0;

    for (; i + 8 <= n_pairs; i += 8) {
        __m256 c = _mm256_loadu_ps(cosine + i), s = _mm256_loadu_ps(sine + i);
        __m256 a = _mm256_loadu_ps(x + i), b = _mm256_loadu_ps(y + i);
        __m256 u = _mm256_sub_ps(_mm256_mul_ps(a, c), _mm256_mul_ps(b, s));
        __m256 v = _mm256_add_ps(_mm256_mul_ps(a, s), _mm256_mul_ps(b, c));
        _mm256_storeu_ps(x + i, u);
        _mm256_storeu_ps(y + i, v);
    }
    for (; i < n_pairs; i++) rotate(&x[i], &y[i], cosine[i], sine[i]);
}

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("rmsnorm_avx2", RMSNORM, TR_TYPE_NONE, VECTOR_RMSNORM, CPU, rmsnorm,
                  rmsnorm_avx2),
    TR_KERNEL_ROW("swiglu_avx2", SWIGLU, TR_TYPE_NONE, GENERIC, CPU, glu, swiglu_avx2),
    TR_KERNEL_ROW("geglu_avx2", GEGLU, TR_TYPE_NONE, GENERIC, CPU, glu, geglu_avx2),
    TR_KERNEL_ROW("rope_norm_avx2", ROPE_NORM, TR_TYPE_NONE, GENERIC, CPU, rope, rope_norm_avx2),
    TR_KERNEL_ROW("rope_neox_avx2", ROPE_NEOX, TR_TYPE_NONE, GENERIC, CPU, rope, rope_neox_avx2),
};
const struct tr_kernel_table tr_table_vec_avx2 = {kernels, sizeof kernels / sizeof *kernels};
