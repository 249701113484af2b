/* SPDX-License-Identifier: MIT */
/* Activation packing, C reference: floats to int8 with one scale per 32 or 256 elements, in the
 * tile order of act.h. The formulas stand there. */
#include <math.h>

#include "act.h"
#include "quant/half.h"
#include "tables.h"

/* Largest |x| of n elements, with the sign of the first that has it; NaN if any is not finite. */
static float signed_max(const float *x, size_t n)
{
    float best = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return NAN;
        if (fabsf(x[i]) > fabsf(best)) best = x[i];
    }
    return best;
}

/* Four int8 as they lie in memory, the first in the low byte. */
static int32_t pack4(const int8_t q[4])
{
    int32_t word;
    memcpy(&word, q, sizeof word);
    return word;
}

static int sum(const int8_t *q, size_t n)
{
    int s = 0;
    for (size_t i = 0; i < n; i++) s += q[i];
    return s;
}

/* q[i] = rint(scale * x[i]); all 0 if there is no scale. */
static void round_all(int8_t *q, const float *x, float scale, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        float v = scale == 0 ? 0.0F : rintf(scale * x[i]);
        q[i] = (int8_t)(v > 127.0F ? 127.0F : v);
    }
}

/* 256 elements; returns the scale. */
static float quantize_256(int8_t q[256], const float *x)
{
    float max = signed_max(x, 256);
    float inverse = -127.0F / max; /* of zero or a tiny number: infinite */
    bool usable = isfinite(inverse);
    round_all(q, x, usable ? inverse : 0.0F, 256);
    if (isnan(max)) return NAN;
    return usable ? 1.0F / inverse : 0.0F;
}

/* 32 elements; returns the scale. */
static float quantize_32(int8_t q[32], const float *x)
{
    float max = fabsf(signed_max(x, 32));
    float inverse = 127.0F / max;
    bool usable = isfinite(inverse);
    round_all(q, x, usable ? inverse : 0.0F, 32);
    if (isnan(max)) return NAN;
    return usable ? max / 127.0F : 0.0F;
}

static void quantize_a8_256_ref(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_256 v = tr_a8_256_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_bs = (int32_t *)v.bs, *out_z16 = (int32_t *)v.z16;
    float *out_a = (float *)v.a;

    for (size_t c = 0; c < nt; c++) {
        for (size_t b = 0; b < k / 256; b++) {
            int8_t q[256];
            out_a[b * nt + c] = quantize_256(q, x + c * ldx + 256 * b);
            for (size_t i = 0; i < 64; i++) out_q[(64 * b + i) * nt + c] = pack4(q + 4 * i);
            for (size_t i = 0; i < 16; i++)
                out_z16[(16 * b + i) * nt + c] = -32 * sum(q + 16 * i, 16);
            for (size_t i = 0; i < 4; i++) {
                uint32_t low = (uint32_t)sum(q + 64 * i, 32) & 0xffffU;
                uint32_t high = (uint32_t)sum(q + 64 * i + 32, 32) << 16;
                out_bs[(4 * b + i) * nt + c] = (int32_t)(high | low);
            }
        }
    }
}

static void quantize_a8_32_ref(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_32 v = tr_a8_32_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_ns = (int32_t *)v.ns;
    float *out_a = (float *)v.a, *out_as = (float *)v.as;

    for (size_t c = 0; c < nt; c++) {
        for (size_t b = 0; b < k / 32; b++) {
            int8_t q[32];
            float a = quantize_32(q, x + c * ldx + 32 * b);
            int s = sum(q, 32);
            for (size_t i = 0; i < 8; i++) out_q[(8 * b + i) * nt + c] = pack4(q + 4 * i);
            out_a[b * nt + c] = a;
            out_ns[b * nt + c] = -s;
            out_as[b * nt + c] = a * (float)s;
        }
    }
}

/* Infinity becomes NaN, so that a column which holds one ends as NaN in every format. */
static void quantize_f32_ref(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    float *f = tile;
    for (size_t i = 0; i < k; i++) {
        for (size_t c = 0; c < nt; c++) {
            float e = x[c * ldx + i];
            f[i * nt + c] = isfinite(e) ? e : NAN;
        }
    }
}

static const struct tr_kernel kernels[] = {
    TR_QUANTIZE_ROW("quantize_f32_ref", F32, TR_NT_MAX, 0, quantize_f32_ref),
    TR_QUANTIZE_ROW("quantize_a8_256_ref", A8_256, TR_NT_MAX, 0, quantize_a8_256_ref),
    TR_QUANTIZE_ROW("quantize_a8_32_ref", A8_32, TR_NT_MAX, 0, quantize_a8_32_ref),
};
const struct tr_kernel_table tr_table_quantize_ref = {kernels, sizeof kernels / sizeof *kernels};
