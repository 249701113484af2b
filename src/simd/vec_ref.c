/* SPDX-License-Identifier: MIT */
/* C reference of the elementwise and norm kernels: the specification of the SIMD versions. */
#include "math.h"
#include "tables.h"

static void rmsnorm_ref(float *y, const float *x, const float *w, size_t n, float eps)
{
    float p[32] = {0};
    float inv;

    for (size_t i = 0; i < n; i++) p[i % 32] = fmaf(x[i], x[i], p[i % 32]);
    for (size_t h = 16; h > 0; h /= 2) {
        for (size_t j = 0; j < h; j++) p[j] += p[j + h];
    }
    inv = 1.0F / sqrtf(p[0] / (float)n + eps);
    for (size_t i = 0; i < n; i++) y[i] = x[i] * inv * w[i];
}

static void swiglu_ref(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = tr_siluf(gate[i]) * up[i];
}

static void geglu_ref(float *y, const float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] = tr_geluf(gate[i]) * up[i];
}

/* Rotates the pair (*a, *b) in the plane. */
static inline void rotate(float *a, float *b, float cosine, float sine)
{
    float x = *a, y = *b;
    *a = x * cosine - y * sine;
    *b = x * sine + y * cosine;
}

static void rope_norm_ref(float *x, const float *cosine, const float *sine, size_t n_pairs)
{
    for (size_t i = 0; i < n_pairs; i++) rotate(&x[2 * i], &x[2 * i + 1], cosine[i], sine[i]);
}

static void rope_neox_ref(float *x, const float *cosine, const float *sine, size_t n_pairs)
{
    for (size_t i = 0; i < n_pairs; i++) rotate(&x[i], &x[i + n_pairs], cosine[i], sine[i]);
}

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("rmsnorm_ref", RMSNORM, TR_TYPE_NONE, RMSNORM, 0, rmsnorm, rmsnorm_ref),
    TR_KERNEL_ROW("swiglu_ref", SWIGLU, TR_TYPE_NONE, GENERIC, 0, glu, swiglu_ref),
    TR_KERNEL_ROW("geglu_ref", GEGLU, TR_TYPE_NONE, GENERIC, 0, glu, geglu_ref),
    TR_KERNEL_ROW("rope_norm_ref", ROPE_NORM, TR_TYPE_NONE, GENERIC, 0, rope, rope_norm_ref),
    TR_KERNEL_ROW("rope_neox_ref", ROPE_NEOX, TR_TYPE_NONE, GENERIC, 0, rope, rope_neox_ref),
};

const struct tr_kernel_table tr_table_vec_ref = {kernels, sizeof kernels / sizeof *kernels};
