/* SPDX-License-Identifier: MIT */
/* Products with F32, F16 and BF16 weights for AVX2: rows are lanes, one chain of fma per output
 * over k, as in gemm_float_ref.c. */
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c"
#endif

#include "gemm_ymm.h"
#include "tables.h"

/* Twelve sums, two vectors of weights, one activation: 15 registers. */
#define FLOAT_WIDTH 6
/* With one or two columns, two row groups run side by side: a chain of fma waits for itself. */
#define FLOAT_GROUPS 2

/* Sums by column and half of 8 rows. */
typedef __m256 float_sums[FLOAT_WIDTH][2 * FLOAT_GROUPS];

ALWAYS_INLINE __m256 load_bf16(const uint8_t *w, bool odd)
{
    __m256i pairs = load_bytes(w);
    pairs = odd ? _mm256_and_si256(pairs, _mm256_set1_epi32((int)0xffff0000U))
                : _mm256_slli_epi32(pairs, 16);
    return _mm256_castsi256_ps(pairs);
}

/* Weights of half h at element i of a group. */
ALWAYS_INLINE __m256 load_weights(const uint8_t *w, size_t i, size_t h, bool odd, trueno_dtype type)
{
    if (type == TRUENO_TYPE_F16) return load_halves(w + 32 * i + 16 * h);
    if (type == TRUENO_TYPE_BF16) return load_bf16(w + 64 * (i / 2) + 32 * h, odd);
    return _mm256_castsi256_ps(load_bytes(w + 64 * i + 32 * h));
}

/* Adds element i of `width` columns and `groups` row groups; odd: i % 2. */
ALWAYS_INLINE void add_element(float_sums y, const uint8_t *w, size_t group_bytes, const float *act,
                               size_t i, bool odd, int width, size_t groups, trueno_dtype type)
{
    for (size_t g = 0; g < groups; g++) {
        __m256 w0 = load_weights(w + g * group_bytes, i, 0, odd, type);
        __m256 w1 = load_weights(w + g * group_bytes, i, 1, odd, type);
        for (int c = 0; c < width; c++) {
            __m256 a = _mm256_set1_ps(act[c]);
            y[c][2 * g] = _mm256_fmadd_ps(w0, a, y[c][2 * g]);
            y[c][2 * g + 1] = _mm256_fmadd_ps(w1, a, y[c][2 * g + 1]);
        }
    }
}

/* `width` columns of `groups` row groups. */
ALWAYS_INLINE void float_columns(float *out, size_t ldo, const uint8_t *w, size_t group_bytes,
                                 const float *act, size_t nt, size_t k, int width, size_t groups,
                                 trueno_dtype type)
{
    float_sums y;
    size_t i = 0;

    for (int c = 0; c < width; c++) {
        for (size_t h = 0; h < 2 * groups; h++) y[c][h] = _mm256_setzero_ps();
    }
    for (; i + 2 <= k; i += 2, act += 2 * nt) {
        add_element(y, w, group_bytes, act, i, false, width, groups, type);
        add_element(y, w, group_bytes, act + nt, i + 1, true, width, groups, type);
    }
    if (i < k) add_element(y, w, group_bytes, act, i, false, width, groups, type);
    for (int c = 0; c < width; c++) {
        float *o = out + (size_t)c * ldo;
        for (size_t h = 0; h < 2 * groups; h++) _mm256_storeu_ps(o + 8 * h, y[c][h]);
    }
}

/* Few columns: all of them at once. */
ALWAYS_INLINE void gemm_few(float *out, size_t ldo, const uint8_t *w, size_t group_bytes,
                            size_t n_groups, const float *act, size_t k, int width,
                            trueno_dtype type)
{
    const size_t nt = (size_t)width;
    for (; n_groups >= 2; n_groups -= 2, w += 2 * group_bytes, out += 2 * TR_ROWS) {
        float_columns(out, ldo, w, group_bytes, act, nt, k, width, 2, type);
    }
    if (n_groups) float_columns(out, ldo, w, group_bytes, act, nt, k, width, 1, type);
}

ALWAYS_INLINE void gemm_many(float *out, size_t ldo, const uint8_t *w, size_t group_bytes,
                             size_t n_groups, const float *act, size_t k, size_t nt,
                             trueno_dtype type)
{
    struct widths cut = cut_columns(nt, FLOAT_WIDTH);
    for (size_t g = 0; g < n_groups; g++, w += group_bytes, out += TR_ROWS) {
        for (size_t i = 0; i < cut.n; i++) {
            float *o = out + cut.first[i] * ldo;
            const float *a = act + cut.first[i];
            switch (cut.first[i + 1] - cut.first[i]) {
            case 3: float_columns(o, ldo, w, 0, a, nt, k, 3, 1, type); break;
            case 4: float_columns(o, ldo, w, 0, a, nt, k, 4, 1, type); break;
            case 5: float_columns(o, ldo, w, 0, a, nt, k, 5, 1, type); break;
            default: float_columns(o, ldo, w, 0, a, nt, k, 6, 1, type); break;
            }
        }
    }
}

ALWAYS_INLINE void gemm_float(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                              const float *act, size_t k, uint32_t nt, trueno_dtype type)
{
    const size_t group_bytes = type == TRUENO_TYPE_F32 ? 64 * k : 32 * (k + k % 2);
    if (nt == 1)
        gemm_few(out, ldo, w, group_bytes, n_groups, act, k, 1, type);
    else if (nt == 2)
        gemm_few(out, ldo, w, group_bytes, n_groups, act, k, 2, type);
    else
        gemm_many(out, ldo, w, group_bytes, n_groups, act, k, nt, type);
}

#define FLOAT_KERNEL(name, type)                                                                   \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        gemm_float(out, ldo, w, n_groups, act, k, nt, type);                                       \
    }

FLOAT_KERNEL(gemm_f32, TRUENO_TYPE_F32)
FLOAT_KERNEL(gemm_f16, TRUENO_TYPE_F16)
FLOAT_KERNEL(gemm_bf16, TRUENO_TYPE_BF16)

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_f32_avx2_16x8", F32, F32, TR_ROWS, 0, CPU, gemm_f32),
    TR_GEMM_ROW("gemm_f16_avx2_16x8", F16, F32, TR_ROWS, 0, CPU, gemm_f16),
    TR_GEMM_ROW("gemm_bf16_avx2_16x8", BF16, F32, TR_ROWS, 0, CPU, gemm_bf16),
};
const struct tr_kernel_table tr_table_gemm_float_avx2 = {kernels, sizeof kernels / sizeof *kernels};
