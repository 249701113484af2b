/* SPDX-License-Identifier: MIT */
/* Products with F32, F16 and BF16 weights for NEON: rows are lanes, one chain of fma per output
 * over k, as in gemm_float_ref.c. */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include "gemm_neon.h"
#include "tables.h"

/* Columns at once: 16 sums, four vectors of weights. */
#define FLOAT_WIDTH 4
/* With one or two columns, several row groups run side by side: a chain of fma waits for itself. */
#define GROUPS_OF(width) ((width) == 1 ? 4 : (width) == 2 ? 2 : 1)

/* Sums by column and quad of each group. */
typedef float32x4_t float_sums[FLOAT_WIDTH][QUADS * 4];

/* Weights of a group at element i; odd: i % 2. */
ALWAYS_INLINE void load_weights(float32x4_t x[QUADS], const uint8_t *w, size_t i, bool odd,
                                trueno_dtype type)
{
    UNROLL
    for (size_t q = 0; q < QUADS; q++) {
        if (type == TRUENO_TYPE_F16) {
            x[q] = load_halves(w + 32 * i + 8 * q);
        } else if (type == TRUENO_TYPE_BF16) {
            uint32x4_t pairs = vreinterpretq_u32_u8(vld1q_u8(w + 64 * (i / 2) + 16 * q));
            pairs = odd ? vandq_u32(pairs, vdupq_n_u32(0xffff0000U)) : vshlq_n_u32(pairs, 16);
            x[q] = vreinterpretq_f32_u32(pairs);
        } else {
            x[q] = vreinterpretq_f32_u8(vld1q_u8(w + 64 * i + 16 * q));
        }
    }
}

/* Adds element i of `width` columns and `groups` row groups. */
ALWAYS_INLINE void add_element(float_sums y, const uint8_t *w, size_t group_bytes, const float *act,
                               size_t i, bool odd, int width, size_t groups, trueno_dtype type)
{
    UNROLL
    for (size_t g = 0; g < groups; g++) {
        float32x4_t x[QUADS];
        load_weights(x, w + g * group_bytes, i, odd, type);
        UNROLL
        for (int c = 0; c < width; c++) {
            float32x4_t *sum = y[c] + QUADS * g;
            UNROLL
            for (size_t q = 0; q < QUADS; q++) sum[q] = vfmaq_n_f32(sum[q], x[q], act[c]);
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
        for (size_t q = 0; q < QUADS * groups; q++) y[c][q] = vdupq_n_f32(0.0F);
    }
    for (; i + 2 <= k; i += 2, act += 2 * nt) {
        add_element(y, w, group_bytes, act, i, false, width, groups, type);
        add_element(y, w, group_bytes, act + nt, i + 1, true, width, groups, type);
    }
    if (i < k) add_element(y, w, group_bytes, act, i, false, width, groups, type);
    for (int c = 0; c < width; c++) {
        float *o = out + (size_t)c * ldo;
        for (size_t q = 0; q < QUADS * groups; q++) vst1q_f32(o + 4 * q, y[c][q]);
    }
}

/* `width` columns of all row groups. */
ALWAYS_INLINE void all_groups(float *out, size_t ldo, const uint8_t *w, size_t group_bytes,
                              size_t n_groups, const float *act, size_t nt, size_t k, int width,
                              trueno_dtype type)
{
    const size_t many = GROUPS_OF(width);
    for (; n_groups >= many; n_groups -= many, w += many * group_bytes, out += many * TR_ROWS)
        float_columns(out, ldo, w, group_bytes, act, nt, k, width, many, type);
    for (; n_groups; n_groups--, w += group_bytes, out += TR_ROWS)
        float_columns(out, ldo, w, group_bytes, act, nt, k, width, 1, type);
}

ALWAYS_INLINE void gemm_float(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                              const float *act, size_t k, size_t nt, trueno_dtype type)
{
    const size_t group_bytes = type == TRUENO_TYPE_F32 ? 64 * k : 32 * (k + k % 2);
    const size_t n_parts = (nt + FLOAT_WIDTH - 1) / FLOAT_WIDTH;
    for (size_t part = 0; part < n_parts; part++) {
        size_t first = tr_tile(part, nt, n_parts);
        float *o = out + first * ldo;
        const float *a = act + first;
        switch (tr_tile(part + 1, nt, n_parts) - first) {
        case 1: all_groups(o, ldo, w, group_bytes, n_groups, a, nt, k, 1, type); break;
        case 2: all_groups(o, ldo, w, group_bytes, n_groups, a, nt, k, 2, type); break;
        case 3: all_groups(o, ldo, w, group_bytes, n_groups, a, nt, k, 3, type); break;
        default: all_groups(o, ldo, w, group_bytes, n_groups, a, nt, k, 4, type); break;
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

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_f32_neon_16x8", F32, F32, TR_ROWS, 0, TRUENO_CPU_NEON, gemm_f32),
    TR_GEMM_ROW("gemm_f16_neon_16x8", F16, F32, TR_ROWS, 0, TRUENO_CPU_NEON, gemm_f16),
    TR_GEMM_ROW("gemm_bf16_neon_16x8", BF16, F32, TR_ROWS, 0, TRUENO_CPU_NEON, gemm_bf16),
};
const struct tr_kernel_table tr_table_gemm_float_neon = {kernels, sizeof kernels / sizeof *kernels};
