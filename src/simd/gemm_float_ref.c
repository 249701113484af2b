/* SPDX-License-Identifier: MIT */
/* Matrix products with F32, F16 and BF16 weights, C reference: weights are widened exactly, then
 * one chain of fma per output over k. */
#include <math.h>
#include <string.h>

#include "act.h"
#include "quant/half.h"
#include "tables.h"
#include "x16.h"

/* Weight i of row r of a packed group. */
typedef float (*weight_fn)(const uint8_t *group, size_t i, size_t r);

static float weight_f32(const uint8_t *group, size_t i, size_t r)
{
    float w;
    memcpy(&w, group + 64 * i + 4 * r, sizeof w);
    return w;
}

static float weight_f16(const uint8_t *group, size_t i, size_t r)
{
    uint16_t bits;
    memcpy(&bits, group + 32 * i + 2 * r, sizeof bits);
    return tr_f16_to_f32(bits);
}

static float weight_bf16(const uint8_t *group, size_t i, size_t r)
{
    uint16_t bits;
    memcpy(&bits, group + 64 * (i / 2) + 4 * r + 2 * (i % 2), sizeof bits);
    return tr_bf16_to_f32(bits);
}

static void gemm(float *out, size_t ldo, const uint8_t *w, size_t group_bytes, size_t n_groups,
                 const float *act, size_t k, uint32_t nt, weight_fn weight)
{
    for (size_t g = 0; g < n_groups; g++, w += group_bytes) {
        float y[TR_NT_MAX][TR_ROWS] = {{0}};
        for (size_t i = 0; i < k; i++) {
            for (size_t r = 0; r < TR_ROWS; r++) {
                float x = weight(w, i, r);
                for (size_t c = 0; c < nt; c++) y[c][r] = fmaf(x, act[i * nt + c], y[c][r]);
            }
        }
        for (size_t c = 0; c < nt; c++) memcpy(out + c * ldo + TR_ROWS * g, y[c], sizeof y[c]);
    }
}

static void gemm_f32_ref(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                         size_t k, uint32_t nt)
{
    size_t group_bytes = tr_x16_group_bytes(TRUENO_TYPE_F32, k);
    gemm(out, ldo, w, group_bytes, n_groups, act, k, nt, weight_f32);
}

static void gemm_f16_ref(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                         size_t k, uint32_t nt)
{
    size_t group_bytes = tr_x16_group_bytes(TRUENO_TYPE_F16, k);
    gemm(out, ldo, w, group_bytes, n_groups, act, k, nt, weight_f16);
}

static void gemm_bf16_ref(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    size_t group_bytes = tr_x16_group_bytes(TRUENO_TYPE_BF16, k);
    gemm(out, ldo, w, group_bytes, n_groups, act, k, nt, weight_bf16);
}

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_f32_ref_16x8", F32, F32, TR_ROWS, 0, 0, gemm_f32_ref),
    TR_GEMM_ROW("gemm_f16_ref_16x8", F16, F32, TR_ROWS, 0, 0, gemm_f16_ref),
    TR_GEMM_ROW("gemm_bf16_ref_16x8", BF16, F32, TR_ROWS, 0, 0, gemm_bf16_ref),
};
const struct tr_kernel_table tr_table_gemm_float_ref = {kernels, sizeof kernels / sizeof *kernels};
