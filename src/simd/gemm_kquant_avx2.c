/* SPDX-License-Identifier: MIT */
/* Q4_K, Q5_K and Q6_K kernels for AVX2; the code is in gemm_kquant_ymm.h. */
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c"
#endif

#include "gemm_kquant_ymm.h"
#include "tables.h"

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

/* Larger units of work: fewer of them to share, longer runs through memory. */
#define BIG_UNITS(name, type, fn)                                                                  \
    TR_GEMM_SPLIT_ROW("gemm_" name "_avx2_16x8_u256k", type, A8_256, TR_ROWS, 0, 256U << 10,       \
                      TR_BLOCK_BYTES, CPU, fn)

static const struct tr_kernel kernels[] = {
    BIG_UNITS("q4_k", Q4_K, gemm_q4_k),
    BIG_UNITS("q5_k", Q5_K, gemm_q5_k),
    BIG_UNITS("q6_k", Q6_K, gemm_q6_k),
    TR_GEMM_ROW("gemm_q4_k_avx2_16x8", Q4_K, A8_256, TR_ROWS, 0, CPU, gemm_q4_k),
    TR_GEMM_ROW("gemm_q5_k_avx2_16x8", Q5_K, A8_256, TR_ROWS, 0, CPU, gemm_q5_k),
    TR_GEMM_ROW("gemm_q6_k_avx2_16x8", Q6_K, A8_256, TR_ROWS, 0, CPU, gemm_q6_k),
};
const struct tr_kernel_table tr_table_gemm_kquant_avx2 = {kernels,
                                                          sizeof kernels / sizeof *kernels};
