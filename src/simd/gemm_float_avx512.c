/* SPDX-License-Identifier: MIT */
/* Matrix products with F32, F16 and BF16 weights for AVX-512: lanes are rows, one chain of fma over
 * k per output. Few columns leave the latency of a chain open, so they take several row groups at
 * once. Formulas: docs/numerics.md. */
#if !defined(__AVX512F__) || !defined(__F16C__)
#error "compile this file for AVX-512"
#endif

#include "gemm_zmm.h"

/* Weights are fetched so far ahead, in each of the row groups of a pass. */
#define AHEAD_FLOAT (AHEAD / 4)

/* Row groups at once: chains enough for two units of latency four, where registers allow. */
ALWAYS_INLINE int float_groups(int nt)
{
    return nt <= 4 ? 4 : 2;
}

/* Weights of elements i and i + 1, i even; of i alone if `last`. */
ALWAYS_INLINE void load_weights(__m512 w[2], const uint8_t *group, size_t i, trueno_dtype t,
                                bool last)
{
    w[1] = _mm512_setzero_ps();
    if (t == TRUENO_TYPE_F32) {
        w[0] = _mm512_load_ps((const void *)(group + 64 * i));
        if (!last) w[1] = _mm512_load_ps((const void *)(group + 64 * i + 64));
    } else if (t == TRUENO_TYPE_F16) {
        w[0] = load_halves(group + 32 * i);
        w[1] = load_halves(group + 32 * i + 32);
    } else {
        __m512i pair = load_vector(group + 32 * i), high = _mm512_set1_epi32((int)0xffff0000U);
        w[0] = _mm512_castsi512_ps(_mm512_slli_epi32(pair, 16));
        w[1] = _mm512_castsi512_ps(_mm512_and_si512(pair, high));
    }
}

/* y[g][c] += element `half` of row group g's pair x that of column c. */
ALWAYS_INLINE void add_element(__m512 y[4][TR_NT_MAX], __m512 w[4][2], int half, const float *x,
                               int n_groups, int nt)
{
    UNROLL
    for (int c = 0; c < nt; c++) {
        __m512 a = _mm512_set1_ps(x[c]);
        UNROLL
        for (int g = 0; g < n_groups; g++) y[g][c] = _mm512_fmadd_ps(w[g][half], a, y[g][c]);
    }
}

/* Elements i and i + 1; i alone if `last`. x: activations of element i. */
ALWAYS_INLINE void add_pair(__m512 y[4][TR_NT_MAX], const uint8_t *w, size_t group_bytes, size_t i,
                            const float *x, trueno_dtype t, int n_groups, int nt, bool last)
{
    __m512 e[4][2];
    UNROLL
    for (int g = 0; g < n_groups; g++) {
        const uint8_t *group = w + (size_t)g * group_bytes;
        const size_t bytes = t == TRUENO_TYPE_F32 ? 64 : 32; /* of one element of 16 rows */
        prefetch(group + bytes * i + AHEAD_FLOAT, 2 * bytes);
        load_weights(e[g], group, i, t, last);
    }
    add_element(y, e, 0, x, n_groups, nt);
    if (!last) add_element(y, e, 1, x + nt, n_groups, nt);
}

/* n_groups <= 4 row groups from w on. */
ALWAYS_INLINE void multiply(float *out, size_t ldo, const uint8_t *w, size_t group_bytes,
                            const float *x, size_t k, trueno_dtype t, int n_groups, int nt)
{
    __m512 y[4][TR_NT_MAX];
    size_t i = 0;
    UNROLL
    for (int g = 0; g < n_groups; g++) {
        UNROLL
        for (int c = 0; c < nt; c++) y[g][c] = _mm512_setzero_ps();
    }
    for (; i + 2 <= k; i += 2)
        add_pair(y, w, group_bytes, i, x + i * (size_t)nt, t, n_groups, nt, false);
    if (i < k) add_pair(y, w, group_bytes, i, x + i * (size_t)nt, t, n_groups, nt, true);
    UNROLL
    for (int g = 0; g < n_groups; g++) {
        UNROLL
        for (int c = 0; c < nt; c++) _mm512_storeu_ps(out + (size_t)c * ldo + TR_ROWS * g, y[g][c]);
    }
}

ALWAYS_INLINE void gemm(float *out, size_t ldo, const uint8_t *w, size_t n_groups, const float *x,
                        size_t k, trueno_dtype t, int nt)
{
    size_t group_bytes = t == TRUENO_TYPE_F32 ? 64 * k : 32 * (k + k % 2);
    const size_t step = (size_t)float_groups(nt);
    size_t g = 0;
    for (; g + step <= n_groups; g += step)
        multiply(out + TR_ROWS * g, ldo, w + g * group_bytes, group_bytes, x, k, t,
                 float_groups(nt), nt);
    for (; g < n_groups; g++)
        multiply(out + TR_ROWS * g, ldo, w + g * group_bytes, group_bytes, x, k, t, 1, nt);
}

#define KERNEL(name, type)                                                                         \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        const trueno_dtype t = type;                                                               \
        BY_COLUMNS(nt, CALL)                                                                       \
    }
#define CALL(n) gemm(out, ldo, w, n_groups, act, k, t, n)

KERNEL(gemm_f32_avx512, TRUENO_TYPE_F32)
KERNEL(gemm_f16_avx512, TRUENO_TYPE_F16)
KERNEL(gemm_bf16_avx512, TRUENO_TYPE_BF16)

#define FLOAT_ROW(name, type, fn)                                                                  \
    TR_GEMM_ROW("gemm_" name "_avx512_16x8", type, F32, 2 * TR_ROWS, AHEAD_FLOAT, CPU_AVX512, fn)

static const struct tr_kernel kernels[] = {
    FLOAT_ROW("f32", F32, gemm_f32_avx512),
    FLOAT_ROW("f16", F16, gemm_f16_avx512),
    FLOAT_ROW("bf16", BF16, gemm_bf16_avx512),
};
const struct tr_kernel_table tr_table_gemm_float_avx512 = {kernels,
                                                           sizeof kernels / sizeof *kernels};
