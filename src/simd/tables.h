/* SPDX-License-Identifier: MIT */
/* The kernel tables of this layer, one per file. registry.c lists them slowest first. */
#ifndef TR_TABLES_H
#define TR_TABLES_H

#include "kernel.h"

extern const struct tr_kernel_table tr_table_quantize_ref, tr_table_gemm_kquant_ref,
    tr_table_gemm_legacy_ref, tr_table_gemm_float_ref;
extern const struct tr_kernel_table tr_table_vec_ref, tr_table_kv_ref, tr_table_attn_ref;

#if defined(__x86_64__)
extern const struct tr_kernel_table tr_table_quantize_avx2, tr_table_gemm_kquant_avx2,
    tr_table_gemm_legacy_avx2, tr_table_gemm_float_avx2;
extern const struct tr_kernel_table tr_table_gemm_kquant_avxvnni, tr_table_gemm_legacy_avxvnni;
extern const struct tr_kernel_table tr_table_quantize_avx512, tr_table_gemm_kquant_avx512,
    tr_table_gemm_legacy_avx512, tr_table_gemm_float_avx512;
extern const struct tr_kernel_table tr_table_vec_avx2, tr_table_vec_avx512;
extern const struct tr_kernel_table tr_table_kv_avx2;
extern const struct tr_kernel_table tr_table_attn_avx2, tr_table_attn_avx512;
#endif

#endif
