/* SPDX-License-Identifier: MIT */
/* C reference of the KV cache store: K into a panel's lane, V into its row. */
#include <math.h>

#include "kv_q8_0.h"
#include "quant/half.h"
#include "tables.h"

static void kv_store_f32_ref(void *k_cache, void *v_cache, const float *k, const float *v,
                             size_t pos, size_t head_dim)
{
    float *k_lane = (float *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    float *v_row = (float *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d++) k_lane[16 * d] = k[d];
    for (size_t d = 0; d < head_dim; d++) v_row[d] = v[d];
}

static void kv_store_f16_ref(void *k_cache, void *v_cache, const float *k, const float *v,
                             size_t pos, size_t head_dim)
{
    uint16_t *k_lane = (uint16_t *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    uint16_t *v_row = (uint16_t *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d++) k_lane[16 * d] = tr_f32_to_f16(k[d]);
    for (size_t d = 0; d < head_dim; d++) v_row[d] = tr_f32_to_f16(v[d]);
}

static void kv_store_bf16_ref(void *k_cache, void *v_cache, const float *k, const float *v,
                              size_t pos, size_t head_dim)
{
    uint16_t *k_lane = (uint16_t *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    uint16_t *v_row = (uint16_t *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d++) k_lane[16 * d] = tr_f32_to_bf16(k[d]);
    for (size_t d = 0; d < head_dim; d++) v_row[d] = tr_f32_to_bf16(v[d]);
}

/* 32 elements to q; returns the scale. */
static uint16_t quantize_block(int8_t q[32], const float *x)
{
    float max = 0.0F, inverse;
    uint16_t scale;

    for (size_t i = 0; i < 32; i++) {
        float size = fabsf(x[i]);
        if (!(size <= max)) max = size < INFINITY ? size : INFINITY; /* NaN too */
    }
    scale = q8_0_scale(max, &inverse);
    for (size_t i = 0; i < 32; i++) {
        float y = inverse > 0.0F ? rintf(x[i] * inverse) : 0.0F;
        q[i] = (int8_t)(y > 127.0F ? 127.0F : y < -127.0F ? -127.0F : y);
    }
    return scale;
}

static void kv_store_q8_0_ref(void *k_cache, void *v_cache, const float *k, const float *v,
                              size_t pos, size_t head_dim)
{
    struct q8_0_position at = q8_0_position(k_cache, v_cache, pos, head_dim);

    for (size_t b = 0; b < head_dim / 32; b++) {
        int8_t q[32];
        uint16_t scale = quantize_block(q, k + 32 * b);
        q8_0_put_key(&at, b, q, scale);
        scale = quantize_block(q, v + 32 * b);
        q8_0_put_value(&at, b, q, scale);
    }
}

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("kv_store_f32_ref", KV_STORE, TRUENO_TYPE_F32, GENERIC, 0, kv_store,
                  kv_store_f32_ref),
    TR_KERNEL_ROW("kv_store_f16_ref", KV_STORE, TRUENO_TYPE_F16, GENERIC, 0, kv_store,
                  kv_store_f16_ref),
    TR_KERNEL_ROW("kv_store_bf16_ref", KV_STORE, TRUENO_TYPE_BF16, GENERIC, 0, kv_store,
                  kv_store_bf16_ref),
    TR_KERNEL_ROW("kv_store_q8_0_ref", KV_STORE, TRUENO_TYPE_Q8_0, GENERIC, 0, kv_store,
                  kv_store_q8_0_ref),
};

const struct tr_kernel_table tr_table_kv_ref = {kernels, sizeof kernels / sizeof *kernels};
