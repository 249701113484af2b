/* SPDX-License-Identifier: MIT */
/* C reference of the KV cache store: K into a panel's lane, V into its row. */
#include "quant/half.h"
#include "tables.h"

static void kv_store_f16_ref(void *k_cache, void *v_cache, const float *k, const float *v,
                             size_t pos, size_t head_dim)
{
    uint16_t *k_lane = (uint16_t *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    uint16_t *v_row = (uint16_t *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d++) k_lane[16 * d] = tr_f32_to_f16(k[d]);
    for (size_t d = 0; d < head_dim; d++) v_row[d] = tr_f32_to_f16(v[d]);
}

static void kv_store_f32_ref(void *k_cache, void *v_cache, const float *k, const float *v,
                             size_t pos, size_t head_dim)
{
    float *k_lane = (float *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    float *v_row = (float *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d++) k_lane[16 * d] = k[d];
    for (size_t d = 0; d < head_dim; d++) v_row[d] = v[d];
}

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("kv_store_f16_ref", KV_STORE, TRUENO_TYPE_F16, GENERIC, 0, kv_store,
                  kv_store_f16_ref),
    TR_KERNEL_ROW("kv_store_f32_ref", KV_STORE, TRUENO_TYPE_F32, GENERIC, 0, kv_store,
                  kv_store_f32_ref),
};

const struct tr_kernel_table tr_table_kv_ref = {kernels, sizeof kernels / sizeof *kernels};
