/* SPDX-License-Identifier: MIT */
/* The one list of kernels, strung together from the tables of the files. */
#include <pthread.h>
#include <string.h>

#include "tables.h"
#include "trueno/kernels.h"
#include "trueno/quantize.h"

/* Slowest first: the last kernel that a CPU can run is the one that it uses. */
static const struct tr_kernel_table *const tables[] = {
    &tr_table_quantize_ref,
    &tr_table_gemm_kquant_ref,
    &tr_table_gemm_legacy_ref,
    &tr_table_gemm_float_ref,
    &tr_table_vec_ref,
    &tr_table_kv_ref,
    &tr_table_attn_ref,
#if defined(TR_OPENBLAS) /* not faster than our own for AVX2 or AVX-512 */
    &tr_table_gemm_openblas,
#endif
#if defined(__x86_64__)
    &tr_table_quantize_avx2,
    &tr_table_gemm_kquant_avx2,
    &tr_table_gemm_legacy_avx2,
    &tr_table_gemm_float_avx2,
    &tr_table_gemm_kquant_avxvnni,
    &tr_table_gemm_legacy_avxvnni,
    &tr_table_quantize_avx512,
    &tr_table_gemm_kquant_avx512,
    &tr_table_gemm_legacy_avx512,
    &tr_table_gemm_float_avx512,
    &tr_table_vec_avx2,
    &tr_table_vec_avx512,
    &tr_table_kv_avx2,
    &tr_table_attn_avx2,
    &tr_table_attn_avx512,
#elif defined(__aarch64__)
    &tr_table_quantize_neon,
    &tr_table_gemm_kquant_neon,
    &tr_table_gemm_legacy_neon,
    &tr_table_gemm_float_neon,
    &tr_table_gemm_kquant_dotprod,
    &tr_table_gemm_legacy_dotprod,
    &tr_table_gemm_kquant_i8mm,
    &tr_table_gemm_legacy_i8mm,
    &tr_table_vec_neon,
    &tr_table_kv_neon,
    &tr_table_attn_neon,
#endif
};

static const char *const op_names[TR_OP_COUNT] = {
    [TR_OP_GEMM] = "gemm",           [TR_OP_QUANTIZE] = "quantize",
    [TR_OP_RMSNORM] = "rmsnorm",     [TR_OP_SWIGLU] = "swiglu",
    [TR_OP_GEGLU] = "geglu",         [TR_OP_ROPE_NORM] = "rope_norm",
    [TR_OP_ROPE_NEOX] = "rope_neox", [TR_OP_KV_STORE] = "kv_store",
    [TR_OP_ATTENTION] = "attention", [TR_OP_ATTN_MERGE] = "attn_merge",
};

static const char *const family_names[TR_FAMILY_COUNT] = {
    [TR_FAMILY_Q4_K] = "VectorizedQ4K",
    [TR_FAMILY_RMSNORM] = "RmsNorm",
    [TR_FAMILY_VECTOR_RMSNORM] = "VectorizedRmsNorm",
    [TR_FAMILY_GENERIC] = "Generic",
    [TR_FAMILY_Q5_K] = "VectorizedQ5K",
    [TR_FAMILY_Q6_K] = "VectorizedQ6K",
    [TR_FAMILY_Q8_0] = "VectorizedQ8_0",
    [TR_FAMILY_Q4_0] = "VectorizedQ4_0",
    [TR_FAMILY_Q4_1] = "VectorizedQ4_1",
    [TR_FAMILY_Q5_0] = "VectorizedQ5_0",
    [TR_FAMILY_Q5_1] = "VectorizedQ5_1",
    [TR_FAMILY_F16] = "VectorizedF16",
    [TR_FAMILY_BF16] = "VectorizedBF16",
    [TR_FAMILY_F32] = "VectorizedF32",
    [TR_FAMILY_DEQUANT_BLAS] = "DequantBlasCpu",
    [TR_FAMILY_ATTENTION] = "FlashDecodeCpu",
};

const struct tr_kernel *tr_kernel_at(size_t index)
{
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) {
        if (index < tables[t]->count) return &tables[t]->kernels[index];
        index -= tables[t]->count;
    }
    return NULL;
}

const struct tr_kernel *tr_kernel_named(const char *name, size_t len)
{
    const struct tr_kernel *k;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++)
        if (strlen(k->name) == len && memcmp(k->name, name, len) == 0) return k;
    return NULL;
}

bool tr_kernel_serves(const struct tr_kernel *k, enum tr_op op, trueno_dtype type, enum tr_act act)
{
    return k->op == op && (op == TR_OP_QUANTIZE ? k->act == act : k->dtype == type);
}

const struct tr_kernel *tr_kernel_find(uint32_t features, enum tr_op op, trueno_dtype type,
                                       enum tr_act act)
{
    const struct tr_kernel *best = NULL;
    const struct tr_kernel *k;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        bool runs = k->numerics == TR_EXACT && (k->cpu & ~features) == 0;
        if (runs && tr_kernel_serves(k, op, type, act)) best = k;
    }
    return best;
}

/* What the public call hands out: written once, constant from then on. */
#define MAX_KERNELS 256
static pthread_once_t info_once = PTHREAD_ONCE_INIT;
static trueno_kernel_info info[MAX_KERNELS];

static void fill_info(void)
{
    const struct tr_kernel *k;
    for (size_t i = 0; i < MAX_KERNELS && (k = tr_kernel_at(i)) != NULL; i++) {
        const trueno_dtype_info *type = trueno_dtype_get_info(k->dtype);
        info[i].name = k->name;
        info[i].op = op_names[k->op];
        info[i].type = type ? type->name : "";
        info[i].numerics = k->numerics == TR_EXACT ? "exact" : "reordered";
        info[i].cpu_features = k->cpu;
        info[i].family = family_names[k->family];
        info[i].tile_rows = k->tile_rows;
        info[i].tile_cols = k->nt_max;
        info[i].prefetch_bytes = k->prefetch_bytes;
        info[i].unit_bytes = k->unit_bytes;
        info[i].block_bytes = k->block_bytes;
        info[i].version = TR_KERNELS_VERSION;
    }
}

size_t trueno_registry_count(void)
{
    size_t n = 0;
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++) n += tables[t]->count;
    return n < MAX_KERNELS ? n : MAX_KERNELS;
}

const trueno_kernel_info *trueno_registry_at(size_t index)
{
    if (index >= trueno_registry_count()) return NULL;
    pthread_once(&info_once, fill_info);
    return &info[index];
}
