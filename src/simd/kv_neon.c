/* SPDX-License-Identifier: MIT */
/* KV cache store for NEON: kv_ref.c with 4 conversions at a time, the same bits. F32 has nothing to
 * convert; Q8_0 is left to the reference. */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include <arm_neon.h>

#include "tables.h"

static inline uint16x4_t to_f16(float32x4_t x)
{
    return vreinterpret_u16_f16(vcvt_f16_f32(x));
}

static inline uint16x4_t to_bf16(float32x4_t x)
{
    uint32x4_t bits = vreinterpretq_u32_f32(x), high = vshrq_n_u32(bits, 16);
    uint32x4_t half = vaddq_u32(vandq_u32(high, vdupq_n_u32(1)), vdupq_n_u32(0x7fff));
    uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, half), 16);
    uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
    return vmovn_u32(vbslq_u32(vceqq_f32(x, x), rounded, quiet));
}

static inline __attribute__((always_inline)) void store_halves(void *k_cache, void *v_cache,
                                                               const float *k, const float *v,
                                                               size_t pos, size_t head_dim,
                                                               uint16x4_t (*narrow)(float32x4_t))
{
    uint16_t *k_lane = (uint16_t *)k_cache + pos / 16 * head_dim * 16 + pos % 16;
    uint16_t *v_row = (uint16_t *)v_cache + pos * head_dim;

    for (size_t d = 0; d < head_dim; d += 4) {
        uint16_t h[4];
        vst1_u16(h, narrow(vld1q_f32(k + d)));
        for (size_t i = 0; i < 4; i++) k_lane[16 * (d + i)] = h[i];
        vst1_u16(v_row + d, narrow(vld1q_f32(v + d)));
    }
}

static void kv_store_f16_neon(void *k_cache, void *v_cache, const float *k, const float *v,
                              size_t pos, size_t head_dim)
{
    store_halves(k_cache, v_cache, k, v, pos, head_dim, to_f16);
}

static void kv_store_bf16_neon(void *k_cache, void *v_cache, const float *k, const float *v,
                               size_t pos, size_t head_dim)
{
    store_halves(k_cache, v_cache, k, v, pos, head_dim, to_bf16);
}

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("kv_store_f16_neon", KV_STORE, TRUENO_TYPE_F16, GENERIC, TRUENO_CPU_NEON,
                  kv_store, kv_store_f16_neon),
    TR_KERNEL_ROW("kv_store_bf16_neon", KV_STORE, TRUENO_TYPE_BF16, GENERIC, TRUENO_CPU_NEON,
                  kv_store, kv_store_bf16_neon),
};
const struct tr_kernel_table tr_table_kv_neon = {kernels, sizeof kernels / sizeof *kernels};
