/* SPDX-License-Identifier: MIT */
/* KV cache store for NEON: kv_ref.c with the fcvtn conversion, the same bits. */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include <arm_neon.h>

#include "tables.h"

static inline uint16x8_t halves(const float *x)
{
    float16x4_t low = vcvt_f16_f32(vld1q_f32(x));
    return vreinterpretq_u16_f16(vcvt_high_f16_f32(low, vld1q_f32(x + 4)));
}

static void kv_store_f16_neon(void *k_cache, void *v_cache, const float *k, const float *v,
                              size_t pos, size_t head_dim)
{
    uint16_t *k_lane = (uint16_t *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    uint16_t *v_row = (uint16_t *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d += 8) {
        uint16_t h[8];
        vst1q_u16(h, halves(k + d));
        for (size_t i = 0; i < 8; i++) k_lane[16 * (d + i)] = h[i];
        vst1q_u16(v_row + d, halves(v + d));
    }
}

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("kv_store_f16_neon", KV_STORE, TRUENO_TYPE_F16, GENERIC, TRUENO_CPU_NEON,
                  kv_store, kv_store_f16_neon),
};
const struct tr_kernel_table tr_table_kv_neon = {kernels, sizeof kernels / sizeof *kernels};
