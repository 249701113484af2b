/* SPDX-License-Identifier: MIT */
/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 kernels for AVX-VNNI; the code is in gemm_legacy_ymm.h. */
#if !defined(__AVXVNNI__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c -mavxvnni"
#endif

#include "gemm_legacy_ymm.h"
#include "tables.h"

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX_VNNI)
#define KERNEL(name, type, fn)                                                                     \
    {                                                                                              \
        name, TR_OP_GEMM, type, TR_ACT_A8_32, TR_NT_MAX, CPU,                                      \
        {                                                                                          \
            .gemm = fn                                                                             \
        }                                                                                          \
    }

static const struct tr_kernel kernels[] = {
    KERNEL("gemm_q4_0_avxvnni_16x8", TRUENO_TYPE_Q4_0, gemm_q4_0),
    KERNEL("gemm_q4_1_avxvnni_16x8", TRUENO_TYPE_Q4_1, gemm_q4_1),
    KERNEL("gemm_q5_0_avxvnni_16x8", TRUENO_TYPE_Q5_0, gemm_q5_0),
    KERNEL("gemm_q5_1_avxvnni_16x8", TRUENO_TYPE_Q5_1, gemm_q5_1),
    KERNEL("gemm_q8_0_avxvnni_16x8", TRUENO_TYPE_Q8_0, gemm_q8_0),
};
const struct tr_kernel_table tr_table_gemm_legacy_avxvnni = {kernels,
                                                             sizeof kernels / sizeof *kernels};
