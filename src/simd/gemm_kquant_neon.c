/* SPDX-License-Identifier: MIT */
/* Q4_K, Q5_K and Q6_K kernels for NEON without dot products; the code is in
 * gemm_kquant_neon.h. */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include "gemm_kquant_neon.h"
#include "tables.h"

#define CPU TRUENO_CPU_NEON

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_k_neon_16x8", Q4_K, A8_256, TR_ROWS, 0, CPU, gemm_q4_k),
    TR_GEMM_ROW("gemm_q5_k_neon_16x8", Q5_K, A8_256, TR_ROWS, 0, CPU, gemm_q5_k),
    TR_GEMM_ROW("gemm_q6_k_neon_16x8", Q6_K, A8_256, TR_ROWS, 0, CPU, gemm_q6_k),
};
const struct tr_kernel_table tr_table_gemm_kquant_neon = {kernels,
                                                          sizeof kernels / sizeof *kernels};
