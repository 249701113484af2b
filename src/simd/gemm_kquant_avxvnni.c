/* SPDX-License-Identifier: MIT */
/* Q4_K, Q5_K and Q6_K kernels for AVX-VNNI; the code is in gemm_kquant_ymm.h. */
#if !defined(__AVXVNNI__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c -mavxvnni"
#endif

#include "gemm_kquant_ymm.h"
#include "tables.h"

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX_VNNI)
#define KERNEL(name, type, fn)                                                                     \
    {                                                                                              \
        name, TR_OP_GEMM, type, TR_ACT_A8_256, TR_NT_MAX, CPU,                                     \
        {                                                                                          \
            .gemm = fn                                                                             \
        }                                                                                          \
    }

static const struct tr_kernel kernels[] = {
    KERNEL("gemm_q4_k_avxvnni_16x8", TRUENO_TYPE_Q4_K, gemm_q4_k),
    KERNEL("gemm_q5_k_avxvnni_16x8", TRUENO_TYPE_Q5_K, gemm_q5_k),
    KERNEL("gemm_q6_k_avxvnni_16x8", TRUENO_TYPE_Q6_K, gemm_q6_k),
};
const struct tr_kernel_table tr_table_gemm_kquant_avxvnni = {kernels,
                                                             sizeof kernels / sizeof *kernels};
