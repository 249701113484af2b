/* SPDX-License-Identifier: MIT */
/* Quants and kernel families: numbers and names. */
#include "tuner/kinds.h"

#include <string.h>

static const struct tr_quant_traits quants[TRUENO_QUANT_COUNT] = {
    [TRUENO_QUANT_Q4_0] = {TRUENO_TYPE_Q4_0, 0, 32, 4.5, 1},
    [TRUENO_QUANT_Q4_1] = {TRUENO_TYPE_Q4_1, 0, 32, 5.0, 2},
    [TRUENO_QUANT_Q4_K] = {TRUENO_TYPE_Q4_K, TRUENO_FEATURE_QUANT_Q4_K, 32, 4.5, 4},
    [TRUENO_QUANT_Q5_K] = {TRUENO_TYPE_Q5_K, TRUENO_FEATURE_QUANT_Q5_K, 32, 5.5, 4},
    [TRUENO_QUANT_Q6_K] = {TRUENO_TYPE_Q6_K, TRUENO_FEATURE_QUANT_Q6_K, 16, 6.5625, 3},
    [TRUENO_QUANT_Q8_0] = {TRUENO_TYPE_Q8_0, TRUENO_FEATURE_QUANT_Q8_0, 32, 8.5, 1},
    [TRUENO_QUANT_F16] = {TRUENO_TYPE_F16, TRUENO_FEATURE_QUANT_F16, 1, 16, 0},
    [TRUENO_QUANT_F32] = {TRUENO_TYPE_F32, TRUENO_FEATURE_QUANT_F32, 1, 32, 0},
    [TRUENO_QUANT_Q5_0] = {TRUENO_TYPE_Q5_0, 0, 32, 5.5, 1},
    [TRUENO_QUANT_Q5_1] = {TRUENO_TYPE_Q5_1, 0, 32, 6.0, 2},
    [TRUENO_QUANT_BF16] = {TRUENO_TYPE_BF16, 0, 1, 16, 0},
    [TRUENO_QUANT_Q2_K] = {TRUENO_TYPE_Q2_K, 0, 16, 2.625, 4},
    [TRUENO_QUANT_Q3_K] = {TRUENO_TYPE_Q3_K, 0, 16, 3.4375, 3},
};

static bool is_quant(trueno_quant quant)
{
    return (int)quant >= 0 && quant < TRUENO_QUANT_COUNT;
}

const struct tr_quant_traits *tr_quant_traits_of(trueno_quant quant)
{
    if (quant == TRUENO_QUANT_UNSET) quant = TRUENO_QUANT_Q4_K;
    return is_quant(quant) ? &quants[quant] : NULL;
}

const char *trueno_quant_name(trueno_quant quant)
{
    if (quant == TRUENO_QUANT_UNSET) return "unset";
    return is_quant(quant) ? trueno_dtype_get_info(quants[quant].dtype)->name : NULL;
}

trueno_status trueno_quant_dtype(trueno_dtype *out, trueno_quant quant)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    *out = is_quant(quant) ? quants[quant].dtype : TRUENO_TYPE_F32;
    return is_quant(quant) ? TRUENO_OK : TRUENO_ERR_NOT_FOUND;
}

trueno_status trueno_quant_from_dtype(trueno_quant *out, trueno_dtype type)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    *out = TRUENO_QUANT_UNSET;
    for (int i = 0; i < TRUENO_QUANT_COUNT; i++)
        if (quants[i].dtype == type) *out = (trueno_quant)i;
    return *out == TRUENO_QUANT_UNSET ? TRUENO_ERR_NOT_FOUND : TRUENO_OK;
}

/* By number; they are stored in tuning files and reported by applications. */
static const char *const families[] = {
    "TiledQ4K",
    "CoalescedQ4K",
    "VectorizedQ4K",
    "BatchedQ4K",
    "Dp4aQ4K",
    "FusedRmsNormQ4K",
    "CoalescedQ6K",
    "IncrementalAttention",
    "MultiWarpAttention",
    "BatchedAttention",
    "RmsNorm",
    "VectorizedRmsNorm",
    "BatchedRmsNorm",
    "FusedQKVHwDp4aQ4KGemv",
    "Generic",
    "Unknown",
    "VectorizedQ5K",
    "BatchedQ5K",
    "VectorizedQ6K",
    "BatchedQ6K",
    "VectorizedQ8_0",
    "BatchedQ8_0",
    "VectorizedQ4_0",
    "BatchedQ4_0",
    "VectorizedQ4_1",
    "BatchedQ4_1",
    "VectorizedQ5_0",
    "BatchedQ5_0",
    "VectorizedQ5_1",
    "BatchedQ5_1",
    "VectorizedF16",
    "BatchedF16",
    "VectorizedBF16",
    "BatchedBF16",
    "VectorizedF32",
    "BatchedF32",
    "DequantBlasCpu",
    "DequantBlasGpu",
    "TensorCoreQuant",
    "FlashDecodeCpu",
    "FlashPrefillCpu",
    "FlashAttentionGpu",
    "FlashDecodeSplitGpu",
    "FusedGateUpCpu",
    "FusedGateUpGpu",
    "FusedQkvCpu",
    "FusedNormQuantCpu",
};

uint32_t trueno_kernel_count(void)
{
    return sizeof families / sizeof *families;
}

const char *trueno_kernel_name(trueno_kernel kernel)
{
    return (uint32_t)kernel < trueno_kernel_count() ? families[kernel]
                                                    : families[TRUENO_KERNEL_UNKNOWN];
}

trueno_status trueno_kernel_from_name(trueno_kernel *out, const char *name)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    *out = TRUENO_KERNEL_UNKNOWN;
    for (uint32_t i = 0; name && i < trueno_kernel_count(); i++) {
        if (strcmp(families[i], name) != 0) continue;
        *out = (trueno_kernel)i;
        return TRUENO_OK;
    }
    return TRUENO_ERR_NOT_FOUND;
}
