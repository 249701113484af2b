/* SPDX-License-Identifier: MIT */
/* The kernel tables of this layer, one per file. registry.c lists them slowest first. */
#ifndef TR_TABLES_H
#define TR_TABLES_H

#include "kernel.h"

/* How weights are dealt out. Units are small enough to balance threads and large enough for the
 * memory's prefetchers; an L2 of 1 MiB has room for the current tile beside a block, and one of 512
 * KiB still holds the block. */
#define TR_UNIT_BYTES  (64U << 10)
#define TR_BLOCK_BYTES (384U << 10)

/* Rows of the tables. The family of a product is that of its weights' type.
 * gemm: `rows` weight rows share one pass over the activations, weights are fetched `ahead` bytes
 * before their use (0: the CPU's own prefetch). */
#define TR_GEMM_ROW(kernel, type, acts, rows, ahead, needs, function)                              \
    TR_GEMM_SPLIT_ROW(kernel, type, acts, rows, ahead, TR_UNIT_BYTES, TR_BLOCK_BYTES, needs,       \
                      function)

/* The same with another split. */
#define TR_GEMM_SPLIT_ROW(kernel, type, acts, rows, ahead, unit, block, needs, function)           \
    {                                                                                              \
        .name = kernel, .op = TR_OP_GEMM, .dtype = TRUENO_TYPE_##type, .act = TR_ACT_##acts,       \
        .family = TR_FAMILY_##type, .nt_max = TR_NT_MAX, .tile_rows = rows,                        \
        .prefetch_bytes = ahead, .unit_bytes = unit, .block_bytes = block, .cpu = needs, .fn = {   \
            .gemm = function                                                                       \
        }                                                                                          \
    }

#define TR_QUANTIZE_ROW(kernel, acts, best, needs, function)                                       \
    {                                                                                              \
        .name = kernel, .op = TR_OP_QUANTIZE, .dtype = TR_TYPE_NONE, .act = TR_ACT_##acts,         \
        .family = TR_FAMILY_GENERIC, .nt_max = TR_NT_MAX, .nt_best = best, .cpu = needs, .fn = {   \
            .quantize = function                                                                   \
        }                                                                                          \
    }

#define TR_KERNEL_ROW(kernel, operation, type, label, needs, member, function)                     \
    {                                                                                              \
        .name = kernel, .op = TR_OP_##operation, .dtype = type, .act = TR_ACT_NONE,                \
        .family = TR_FAMILY_##label, .cpu = needs, .fn = {                                         \
            .member = function                                                                     \
        }                                                                                          \
    }

extern const struct tr_kernel_table tr_table_quantize_ref, tr_table_gemm_kquant_ref,
    tr_table_gemm_legacy_ref, tr_table_gemm_float_ref;
extern const struct tr_kernel_table tr_table_vec_ref, tr_table_kv_ref, tr_table_attn_ref;
#if defined(TR_OPENBLAS)
extern const struct tr_kernel_table tr_table_gemm_openblas;
#endif

#if defined(__x86_64__)
extern const struct tr_kernel_table tr_table_quantize_avx2, tr_table_gemm_kquant_avx2,
    tr_table_gemm_legacy_avx2, tr_table_gemm_float_avx2;
extern const struct tr_kernel_table tr_table_gemm_kquant_avxvnni, tr_table_gemm_legacy_avxvnni;
extern const struct tr_kernel_table tr_table_quantize_avx512, tr_table_gemm_kquant_avx512,
    tr_table_gemm_legacy_avx512, tr_table_gemm_float_avx512;
extern const struct tr_kernel_table tr_table_vec_avx2, tr_table_vec_avx512;
extern const struct tr_kernel_table tr_table_kv_avx2;
extern const struct tr_kernel_table tr_table_attn_avx2, tr_table_attn_avx512;
#elif defined(__aarch64__)
extern const struct tr_kernel_table tr_table_quantize_neon, tr_table_gemm_kquant_neon,
    tr_table_gemm_legacy_neon, tr_table_gemm_float_neon;
extern const struct tr_kernel_table tr_table_gemm_kquant_dotprod, tr_table_gemm_legacy_dotprod;
extern const struct tr_kernel_table tr_table_gemm_kquant_i8mm, tr_table_gemm_legacy_i8mm;
extern const struct tr_kernel_table tr_table_vec_neon, tr_table_kv_neon, tr_table_attn_neon;
#endif

#endif
