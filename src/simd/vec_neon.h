/* SPDX-License-Identifier: MIT */
/* The functions of math.h on 4 lanes: the operations of math.c in the same order. Only for files
 * that are compiled for AArch64. */
#ifndef TR_VEC_NEON_H
#define TR_VEC_NEON_H

#include <arm_neon.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "vec_math.h"

/* n <= 4 floats and zeros behind them; n floats back. */
static inline float32x4_t load_first(const float *p, size_t n)
{
    float x[4] = {0};
    memcpy(x, p, n * sizeof *x);
    return vld1q_f32(x);
}

static inline void store_first(float *p, float32x4_t v, size_t n)
{
    float x[4];
    vst1q_f32(x, v);
    memcpy(p, x, n * sizeof *x);
}

static inline float32x4_t exp_lanes(float32x4_t x)
{
    float32x4_t one = vdupq_n_f32(1.0F);
    float32x4_t n = vrndnq_f32(vmulq_f32(x, vdupq_n_f32(TR_EXP_LOG2E)));
    float32x4_t r = vfmsq_f32(x, n, vdupq_n_f32(TR_EXP_LN2_HI));
    r = vfmsq_f32(r, n, vdupq_n_f32(TR_EXP_LN2_LO));
    float32x4_t p = vfmaq_f32(vdupq_n_f32(TR_EXP_C5), vdupq_n_f32(TR_EXP_C6), r);
    p = vfmaq_f32(vdupq_n_f32(TR_EXP_C4), p, r);
    p = vfmaq_f32(vdupq_n_f32(TR_EXP_C3), p, r);
    p = vfmaq_f32(vdupq_n_f32(TR_EXP_C2), p, r);
    p = vfmaq_f32(one, p, r);
    p = vfmaq_f32(one, p, r);
    /* of NaN n becomes 0: p stays the NaN */
    int32x4_t exponent = vshlq_n_s32(vcvtnq_s32_f32(n), 23);
    p = vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(p), exponent));

    uint32x4_t low = vcltq_f32(x, vdupq_n_f32(TR_EXP_LO));
    uint32x4_t high = vcgtq_f32(x, vdupq_n_f32(TR_EXP_HI));
    p = vbslq_f32(low, vdupq_n_f32(0.0F), p);
    return vbslq_f32(high, vdupq_n_f32(INFINITY), p);
}

/* x / (1 + exp(y)) */
static inline float32x4_t logistic_lanes(float32x4_t x, float32x4_t y)
{
    return vdivq_f32(x, vaddq_f32(vdupq_n_f32(1.0F), exp_lanes(y)));
}

static inline float32x4_t silu_lanes(float32x4_t x)
{
    return logistic_lanes(x, vnegq_f32(x));
}

static inline float32x4_t gelu_lanes(float32x4_t x)
{
    float32x4_t t = vfmaq_f32(vdupq_n_f32(TR_GELU_C1), vmulq_f32(x, x), vdupq_n_f32(TR_GELU_C3));
    return logistic_lanes(x, vmulq_f32(x, t));
}

static inline float32x4_t softcap_lanes(float32x4_t x, float32x4_t cap)
{
    float32x4_t one = vdupq_n_f32(1.0F);
    float32x4_t y = vdivq_f32(x, cap);
    float32x4_t e = vaddq_f32(exp_lanes(vaddq_f32(y, y)), one);
    return vmulq_f32(cap, vsubq_f32(one, vdivq_f32(vdupq_n_f32(2.0F), e)));
}

/* The end of R32 order: p[i] holds partials 4i to 4i+3. */
static inline float r32_sum(const float32x4_t p[8])
{
    float32x4_t a = vaddq_f32(vaddq_f32(p[0], p[4]), vaddq_f32(p[2], p[6]));
    float32x4_t b = vaddq_f32(vaddq_f32(p[1], p[5]), vaddq_f32(p[3], p[7]));
    float32x4_t y = vaddq_f32(a, b);
    float32x2_t x = vadd_f32(vget_low_f32(y), vget_high_f32(y));
    return vget_lane_f32(x, 0) + vget_lane_f32(x, 1);
}

#endif
