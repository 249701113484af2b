/* SPDX-License-Identifier: MIT */
/* Attention over one chunk for NEON: attn_ref.c with 4 positions (scores) or 4 elements (values) in
 * the lanes and up to 4 queries to a load; the same bits. */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include "tables.h"
#include "vec_neon.h"

typedef float32x4_t vec;
#define LANES      4
#define MAX_NQ     4
#define PANELS(nq) ((nq) <= 2 ? 2U : 1U)
#define ROWS(nq)   ((nq) <= 2 ? 8U : 4U)

static inline vec vec_zero(void)
{
    return vdupq_n_f32(0.0F);
}

static inline vec vec_set1(float x)
{
    return vdupq_n_f32(x);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return vfmaq_f32(c, a, b);
}

static inline vec vec_load(const float *p, unsigned n)
{
    (void)n;
    return vld1q_f32(p);
}

static inline void vec_store(float *p, vec v, unsigned n)
{
    (void)n;
    vst1q_f32(p, v);
}

static inline vec vec_mul(vec a, vec b)
{
    return vmulq_f32(a, b);
}

static inline vec vec_add(vec a, vec b)
{
    return vaddq_f32(a, b);
}

static inline vec vec_f16(const uint16_t *p, unsigned n)
{
    (void)n;
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}

static inline vec vec_bf16(const uint16_t *p, unsigned n)
{
    (void)n;
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}

static inline vec vec_i8(const uint8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    int16x8_t wide = vmovl_s8(vreinterpret_s8_s32(vdup_n_s32(four)));
    return vcvtq_f32_s32(vmovl_s16(vget_low_s16(wide)));
}

static inline vec vec_scales(const uint8_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p)));
}

static inline vec vec_scale(const uint8_t *p)
{
    uint16_t half;
    memcpy(&half, p, sizeof half);
    return vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(half)));
}

#include "attn_tile.h"

/* Mask of those of the lanes at..at+3 that lie in [begin, end). */
static inline uint32x4_t visible(uint32_t at, uint32_t begin, uint32_t end)
{
    const uint32x4_t i = {at, at + 1, at + 2, at + 3};
    return vandq_u32(vcgeq_u32(i, vdupq_n_u32(begin)), vcltq_u32(i, vdupq_n_u32(end)));
}

static INLINE float scores(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], uint32_t begin,
                           uint32_t end)
{
    float32x4_t cap = vdupq_n_f32(a->cap), max = vdupq_n_f32(-INFINITY);

    for (uint32_t at = begin / 4 * 4; at < end; at += 4) {
        float32x4_t s = vmulq_n_f32(vld1q_f32(e + at), a->scale);
        if (a->cap > 0.0F) s = softcap_lanes(s, cap);
        vst1q_f32(e + at, s);
        /* a NaN is not greater and leaves max alone */
        max = vbslq_f32(vandq_u32(visible(at, begin, end), vcgtq_f32(s, max)), s, max);
    }
    return vmaxvq_f32(max);
}

static INLINE float exponentials(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], float max,
                                 uint32_t begin, uint32_t end)
{
    const float32x4_t top = vdupq_n_f32(max);
    float32x4_t sum[8];
    (void)a;

    for (size_t j = 0; j < 8; j++) sum[j] = vdupq_n_f32(0.0F);
    for (uint32_t at = begin / 4 * 4; at < end; at += 4) {
        float32x4_t x = exp_lanes(vsubq_f32(vld1q_f32(e + at), top));
        float32x4_t *part = &sum[at / 4 % 8];
        vst1q_f32(e + at, x);
        *part = vaddq_f32(*part, vbslq_f32(visible(at, begin, end), x, vdupq_n_f32(0.0F)));
    }
    return r32_sum(sum);
}

#define CPU TRUENO_CPU_NEON

static const struct tr_kernel kernels[] = {TR_ATTN_ROWS("neon", CPU)};
const struct tr_kernel_table tr_table_attn_neon = {kernels, sizeof kernels / sizeof *kernels};
