/* SPDX-License-Identifier: MIT */
/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 kernels for NEON with dot products; the code is in
 * gemm_legacy_neon.h. */
#if !defined(__ARM_FEATURE_DOTPROD)
#error "compile this file with -march=armv8.2-a+dotprod"
#endif

#include "gemm_legacy_neon.h"
#include "tables.h"

#define CPU (TRUENO_CPU_NEON | TRUENO_CPU_DOTPROD)

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_0_dotprod_16x8", Q4_0, A8_32, TR_ROWS, 0, CPU, gemm_q4_0),
    TR_GEMM_ROW("gemm_q4_1_dotprod_16x8", Q4_1, A8_32, TR_ROWS, 0, CPU, gemm_q4_1),
    TR_GEMM_ROW("gemm_q5_0_dotprod_16x8", Q5_0, A8_32, TR_ROWS, 0, CPU, gemm_q5_0),
    TR_GEMM_ROW("gemm_q5_1_dotprod_16x8", Q5_1, A8_32, TR_ROWS, 0, CPU, gemm_q5_1),
    TR_GEMM_ROW("gemm_q8_0_dotprod_16x8", Q8_0, A8_32, TR_ROWS, 0, CPU, gemm_q8_0),
};
const struct tr_kernel_table tr_table_gemm_legacy_dotprod = {kernels,
                                                             sizeof kernels / sizeof *kernels};
