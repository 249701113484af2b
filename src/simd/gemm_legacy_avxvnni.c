/* SPDX-License-Identifier: MIT */
/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 kernels for AVX-VNNI; the code is in gemm_legacy_ymm.h. */
#if !defined(__AVXVNNI__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c -mavxvnni"
#endif

#include "gemm_legacy_ymm.h"
#include "tables.h"

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX_VNNI)

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_0_avxvnni_16x8", Q4_0, A8_32, TR_ROWS, 0, CPU, gemm_q4_0),
    TR_GEMM_ROW("gemm_q4_1_avxvnni_16x8", Q4_1, A8_32, TR_ROWS, 0, CPU, gemm_q4_1),
    TR_GEMM_ROW("gemm_q5_0_avxvnni_16x8", Q5_0, A8_32, TR_ROWS, 0, CPU, gemm_q5_0),
    TR_GEMM_ROW("gemm_q5_1_avxvnni_16x8", Q5_1, A8_32, TR_ROWS, 0, CPU, gemm_q5_1),
    TR_GEMM_ROW("gemm_q8_0_avxvnni_16x8", Q8_0, A8_32, TR_ROWS, 0, CPU, gemm_q8_0),
};
const struct tr_kernel_table tr_table_gemm_legacy_avxvnni = {kernels,
                                                             sizeof kernels / sizeof *kernels};
