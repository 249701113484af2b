/* SPDX-License-Identifier: MIT */
/* Norm, gate and rotation kernels for NEON: vec_ref.c in 4 lanes, the same bits. */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include "vec_neon.h"
#include "tables.h"

/* Sum of squares in R32 order: partials 4j to 4j+3 in p[j]. */
static float sum_of_squares(const float *x, size_t n)
{
    float32x4_t p[8];
    size_t i = 0;

    for (size_t j = 0; j < 8; j++) p[j] = vdupq_n_f32(0.0F);
    for (; i + 32 <= n; i += 32) {
        for (size_t j = 0; j < 8; j++) {
            float32x4_t v = vld1q_f32(x + i + 4 * j);
            p[j] = vfmaq_f32(p[j], v, v);
        }
    }
    for (size_t j = 0; j < 8 && i + 4 * j < n; j++) { /* 0 * 0 + p is p: p is never -0 */
        size_t rest = n - i - 4 * j;
        float32x4_t v = load_first(x + i + 4 * j, rest < 4 ? rest : 4);
        p[j] = vfmaq_f32(p[j], v, v);
    }
    return r32_sum(p);
}

static void rmsnorm_neon(float *y, const float *x, const float *w, size_t n, float eps)
{
    float inv = 1.0F / sqrtf(sum_of_squares(x, n) / (float)n + eps);
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vmulq_f32(vmulq_n_f32(vld1q_f32(x + i), inv), vld1q_f32(w + i)));
    for (; i < n; i++) y[i] = x[i] * inv * w[i];
}

static void swiglu_neon(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vmulq_f32(silu_lanes(vld1q_f32(gate + i)), vld1q_f32(up + i)));
    float32x4_t v = silu_lanes(load_first(gate + i, n - i));
    store_first(y + i, vmulq_f32(v, load_first(up + i, n - i)), n - i);
}

static void geglu_neon(float *y, const float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(y + i, vmulq_f32(gelu_lanes(vld1q_f32(gate + i)), vld1q_f32(up + i)));
    float32x4_t v = gelu_lanes(load_first(gate + i, n - i));
    store_first(y + i, vmulq_f32(v, load_first(up + i, n - i)), n - i);
}

/* Four pairs (a, b): a*cos - b*sin, a*sin + b*cos. */
static inline float32x4x2_t rotate_lanes(float32x4_t a, float32x4_t b, float32x4_t cosine,
                                         float32x4_t sine)
{
    float32x4x2_t r;
    r.val[0] = vsubq_f32(vmulq_f32(a, cosine), vmulq_f32(b, sine));
    r.val[1] = vaddq_f32(vmulq_f32(a, sine), vmulq_f32(b, cosine));
    return r;
}

/* One pair: the tail of a row. */
static inline void rotate(float *a, float *b, float cosine, float sine)
{
    float x = *a, y = *b;
    *a = x * cosine - y * sine;
    *b = x * sine + y * cosine;
}

static void rope_norm_neon(float *x, const float *cosine, const float *sine, size_t n_pairs)
{
    size_t i = 0;

    for (; i + 4 <= n_pairs; i += 4) {
        float32x4x2_t v = vld2q_f32(x + 2 * i);
        vst2q_f32(x + 2 * i,
                  rotate_lanes(v.val[0], v.val[1], vld1q_f32(cosine + i), vld1q_f32(sine + i)));
    }
    for (; i < n_pairs; i++) rotate(&x[2 * i], &x[2 * i + 1], cosine[i], sine[i]);
}

static void rope_neox_neon(float *x, const float *cosine, const float *sine, size_t n_pairs)
{
    float *y = x + n_pairs;
    size_t i = 0;

    for (; i + 4 <= n_pairs; i += 4) {
        float32x4x2_t v = rotate_lanes(vld1q_f32(x + i), vld1q_f32(y + i), vld1q_f32(cosine + i),
                                       vld1q_f32(sine + i));
        vst1q_f32(x + i, v.val[0]);
        vst1q_f32(y + i, v.val[1]);
    }
    for (; i < n_pairs; i++) rotate(&x[i], &y[i], cosine[i], sine[i]);
}

#define CPU TRUENO_CPU_NEON

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("rmsnorm_neon", RMSNORM, TR_TYPE_NONE, VECTOR_RMSNORM, CPU, rmsnorm,
                  rmsnorm_neon),
    TR_KERNEL_ROW("swiglu_neon", SWIGLU, TR_TYPE_NONE, GENERIC, CPU, glu, swiglu_neon),
    TR_KERNEL_ROW("geglu_neon", GEGLU, TR_TYPE_NONE, GENERIC, CPU, glu, geglu_neon),
    TR_KERNEL_ROW("rope_norm_neon", ROPE_NORM, TR_TYPE_NONE, GENERIC, CPU, rope, rope_norm_neon),
    TR_KERNEL_ROW("rope_neox_neon", ROPE_NEOX, TR_TYPE_NONE, GENERIC, CPU, rope, rope_neox_neon),
};
const struct tr_kernel_table tr_table_vec_neon = {kernels, sizeof kernels / sizeof *kernels};
