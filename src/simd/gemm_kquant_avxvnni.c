/* SPDX-License-Identifier: MIT */
/* Q4_K, Q5_K and Q6_K kernels for AVX-VNNI; the code is in gemm_kquant_ymm.h. */
#if !defined(__AVXVNNI__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c -mavxvnni"
#endif

#include "gemm_kquant_ymm.h"
#include "tables.h"

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX_VNNI)

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_k_avxvnni_16x8", Q4_K, A8_256, TR_ROWS, 0, CPU, gemm_q4_k),
    TR_GEMM_ROW("gemm_q5_k_avxvnni_16x8", Q5_K, A8_256, TR_ROWS, 0, CPU, gemm_q5_k),
    TR_GEMM_ROW("gemm_q6_k_avxvnni_16x8", Q6_K, A8_256, TR_ROWS, 0, CPU, gemm_q6_k),
};
const struct tr_kernel_table tr_table_gemm_kquant_avxvnni = {kernels,
                                                             sizeof kernels / sizeof *kernels};
