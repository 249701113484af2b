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

/* Weights of 16 rows at one k, by half. */
struct weights {
    __m256 half[2];
};

ALWAYS_INLINE void add_column(__m256 (*y)[2], struct weights w, const float *act, int width)
{
    for (int c = 0; c < width; c++) {
        __m256 a = _mm256_set1_ps(act[c]);
        y[c][0] = _mm256_fmadd_ps(w.half[0], a, y[c][0]);
        y[c][1] = _mm256_fmadd_ps(w.half[1], a, y[c][1]);
    }
}

ALWAYS_INLINE struct weights load_bf16(const uint8_t *w, bool odd)
{
    struct weights x;
    for (int h = 0; h < 2; h++) {
        __m256i pair = load_bytes(w + 32 * h);
        pair = odd ? _mm256_and_si256(pair, _mm256_set1_epi32((int)0xffff0000U))
                   : _mm256_slli_epi32(pair, 16);
        x.half[h] = _mm256_castsi256_ps(pair);
    }
    return x;
}

ALWAYS_INLINE struct weights load_f32(const uint8_t *w)
{
    struct weights x = {
        {_mm256_castsi256_ps(load_bytes(w)), _mm256_castsi256_ps(load_bytes(w + 32))}};
    return x;
}

ALWAYS_INLINE struct weights load_f16(const uint8_t *w)
{
    struct weights x = {{load_halves(w), load_halves(w + 16)}};
    return x;
}

/* `width` columns of one row group. */
ALWAYS_INLINE void float_columns(float *out, size_t ldo, const uint8_t *w, const float *act,
                                 size_t nt, size_t k, int width, trueno_dtype type)
{
    __m256 y[FLOAT_WIDTH][2];
    for (int c = 0; c < width; c++) y[c][0] = y[c][1] = _mm256_setzero_ps();
    if (type == TRUENO_TYPE_BF16) {
        for (size_t i = 0; i < k / 2; i++, w += 64, act += 2 * nt) {
            add_column(y, load_bf16(w, false), act, width);
            add_column(y, load_bf16(w, true), act + nt, width);
        }
        if (k % 2) add_column(y, load_bf16(w, false), act, width);
    } else if (type == TRUENO_TYPE_F16) {
        for (size_t i = 0; i < k; i++) add_column(y, load_f16(w + 32 * i), act + i * nt, width);
    } else {
        for (size_t i = 0; i < k; i++) add_column(y, load_f32(w + 64 * i), act + i * nt, width);
    }
    for (int c = 0; c < width; c++) {
        _mm256_storeu_ps(out + (size_t)c * ldo, y[c][0]);
        _mm256_storeu_ps(out + (size_t)c * ldo + 8, y[c][1]);
    }
}

ALWAYS_INLINE void gemm_float(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                              const float *act, size_t k, uint32_t nt, trueno_dtype type)
{
    const size_t group_bytes = type == TRUENO_TYPE_F32 ? 64 * k : 32 * (k + k % 2);
    struct widths cut = cut_columns(nt, FLOAT_WIDTH);

    for (size_t g = 0; g < n_groups; g++, w += group_bytes, out += TR_ROWS) {
        for (size_t i = 0; i < cut.n; i++) {
            float *o = out + cut.first[i] * ldo;
            const float *a = act + cut.first[i];
            switch (cut.first[i + 1] - cut.first[i]) {
            case 1: float_columns(o, ldo, w, a, nt, k, 1, type); break;
            case 2: float_columns(o, ldo, w, a, nt, k, 2, type); break;
            case 3: float_columns(o, ldo, w, a, nt, k, 3, type); break;
            case 4: float_columns(o, ldo, w, a, nt, k, 4, type); break;
            case 5: float_columns(o, ldo, w, a, nt, k, 5, type); break;
            default: float_columns(o, ldo, w, a, nt, k, 6, type); break;
            }
        }
    }
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
#define KERNEL(name, type, fn)                                                                     \
    {                                                                                              \
        name, TR_OP_GEMM, type, TR_ACT_F32, TR_NT_MAX, CPU,                                        \
        {                                                                                          \
            .gemm = fn                                                                             \
        }                                                                                          \
    }

static const struct tr_kernel kernels[] = {
    KERNEL("gemm_f32_avx2_16x8", TRUENO_TYPE_F32, gemm_f32),
    KERNEL("gemm_f16_avx2_16x8", TRUENO_TYPE_F16, gemm_f16),
    KERNEL("gemm_bf16_avx2_16x8", TRUENO_TYPE_BF16, gemm_bf16),
};
const struct tr_kernel_table tr_table_gemm_float_avx2 = {kernels, sizeof kernels / sizeof *kernels};
