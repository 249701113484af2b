/* SPDX-License-Identifier: MIT */
/* Encoders of Q4_K, Q5_K and Q6_K: a scale search per group of 32 or 16 weights, then the scales
 * themselves as small integers times an f16, then the weights again with the scales as stored. */
#include "quant/encode.h"
#include "quant/search.h"

#include <math.h>

/* ------------------------------------------------------- Q4_K and Q5_K */

/* A block before packing. */
struct affine_block {
    uint16_t d, dmin;
    uint8_t sc[8], m[8];
    uint8_t q[TR_QKK];
};

/* An error counts more where the weight is large: weights far from zero carry the output. */
static void importance(float w[32], const float x[32])
{
    float sum = 0.0F;
    for (int i = 0; i < 32; i++) sum += x[i] * x[i];
    float rms = sqrtf(sum / 32.0F);
    for (int i = 0; i < 32; i++) w[i] = rms + fabsf(x[i]);
}

/* Eight numbers >= 0 as 6-bit multiples of one f16, given times `factor`. */
static bool store_scales(uint8_t out[8], uint16_t *unit, const float values[8], float factor)
{
    float max = 0.0F;
    for (int j = 0; j < 8; j++) max = values[j] > max ? values[j] : max;
    if (!tr_store_scale(unit, max / 63.0F * factor)) return false;

    float step = tr_f16_to_f32(*unit) / factor;
    float inverse = step > 0.0F ? 1.0F / step : 0.0F;
    for (int j = 0; j < 8; j++) {
        out[j] = (uint8_t)tr_round(tr_clamp(values[j] * inverse, 0.0F, 63.0F));
    }
    return true;
}

/* Tries the neighbours of the rounded scale and minimum of one group against the weights: rounding
 * both at once is not the best pair. */
static void refine_pair(uint8_t *sc, uint8_t *m, float d, float dmin, const float *x,
                        const float *w, float n_max)
{
    int best_sc = *sc, best_m = *m;
    float best = tr_code_error(x, w, 32, d * (float)*sc, -dmin * (float)*m, 0.0F, n_max);
    for (int i = *sc - 1; i <= *sc + 1; i++) {
        for (int j = *m - 1; j <= *m + 1; j++) {
            if (i < 0 || i > 63 || j < 0 || j > 63) continue;
            float error = tr_code_error(x, w, 32, d * (float)i, -dmin * (float)j, 0.0F, n_max);
            if (error < best) {
                best = error;
                best_sc = i;
                best_m = j;
            }
        }
    }
    *sc = (uint8_t)best_sc;
    *m = (uint8_t)best_m;
}

static void round_affine(struct affine_block *b, const float *x, int q_max)
{
    float d = tr_f16_to_f32(b->d);
    float dmin = tr_f16_to_f32(b->dmin);
    for (int e = 0; e < TR_QKK; e++) {
        float scale = d * (float)b->sc[e / 32];
        float min = dmin * (float)b->m[e / 32];
        float inverse = scale > 0.0F ? 1.0F / scale : 0.0F;
        b->q[e] = (uint8_t)tr_round(tr_clamp((x[e] + min) * inverse, 0.0F, (float)q_max));
    }
}

static bool encode_affine(struct affine_block *b, const float *x,
                          const struct tr_affine_search *how)
{
    float unit[TR_QKK], w[8][32], scales[8], mins[8];
    memset(b, 0, sizeof *b);
    float factor = tr_normalise(unit, x, TR_QKK);
    if (factor == 0.0F) return true;

    for (int j = 0; j < 8; j++) {
        importance(w[j], unit + 32 * j);
        tr_search_affine(&scales[j], &mins[j], unit + 32 * j, w[j], 32, how);
        mins[j] = -mins[j];
    }
    if (!store_scales(b->sc, &b->d, scales, factor)) return false;
    if (!store_scales(b->m, &b->dmin, mins, factor)) return false;
    float d = tr_f16_to_f32(b->d) / factor, dmin = tr_f16_to_f32(b->dmin) / factor;
    for (int j = 0; j < 8; j++) {
        refine_pair(&b->sc[j], &b->m[j], d, dmin, unit + 32 * j, w[j], (float)how->n_max);
    }
    round_affine(b, x, how->n_max);
    return true;
}

/* The inverse of tr_q4k_scale_min. */
static void pack_scales(uint8_t out[12], const uint8_t sc[8], const uint8_t m[8])
{
    for (int j = 0; j < 4; j++) {
        out[j] = (uint8_t)(sc[j] | (sc[j + 4] >> 4) << 6);
        out[j + 4] = (uint8_t)(m[j] | (m[j + 4] >> 4) << 6);
        out[j + 8] = (uint8_t)((sc[j + 4] & 15) | (m[j + 4] & 15) << 4);
    }
}

static void pack_nibbles(uint8_t qs[TR_QKK / 2], const uint8_t *q)
{
    for (int i = 0; i < TR_QKK / 2; i++) {
        int e = 64 * (i / 32) + i % 32;
        qs[i] = (uint8_t)((q[e] & 15) | (q[e + 32] & 15) << 4);
    }
}

bool tr_encode_q4_k(void *dst, const float *src, size_t n)
{
    const struct tr_affine_search how = {15, -1.0F, 20, false};
    struct tr_block_q4_k *out = dst;
    for (; n > 0; n -= TR_QKK, src += TR_QKK, out++) {
        struct affine_block b;
        if (!encode_affine(&b, src, &how)) return false;
        out->d = b.d;
        out->dmin = b.dmin;
        pack_scales(out->scales, b.sc, b.m);
        pack_nibbles(out->qs, b.q);
    }
    return true;
}

bool tr_encode_q5_k(void *dst, const float *src, size_t n)
{
    const struct tr_affine_search how = {31, -0.5F, 15, false};
    struct tr_block_q5_k *out = dst;
    for (; n > 0; n -= TR_QKK, src += TR_QKK, out++) {
        struct affine_block b;
        if (!encode_affine(&b, src, &how)) return false;
        out->d = b.d;
        out->dmin = b.dmin;
        pack_scales(out->scales, b.sc, b.m);
        pack_nibbles(out->qs, b.q);
        memset(out->qh, 0, sizeof out->qh);
        for (int e = 0; e < TR_QKK; e++) {
            out->qh[e % 32] = (uint8_t)(out->qh[e % 32] | (b.q[e] >> 4) << e / 32);
        }
    }
    return true;
}

/* ---------------------------------------------------------------- Q6_K */

/* Signed scales of 16 groups as int8 multiples of one f16, given times `factor`. The largest
 * becomes -128, the end of int8 that reaches further. */
static bool store_signed_scales(int8_t out[16], uint16_t *unit, const float values[16],
                                float factor)
{
    float peak = 0.0F;
    for (int b = 0; b < 16; b++) peak = fabsf(values[b]) > fabsf(peak) ? values[b] : peak;
    if (!tr_store_scale(unit, peak / -128.0F * factor)) return false;

    float step = tr_f16_to_f32(*unit) / factor;
    float inverse = step != 0.0F ? 1.0F / step : 0.0F;
    for (int b = 0; b < 16; b++) {
        out[b] = (int8_t)tr_round(tr_clamp(values[b] * inverse, -128.0F, 127.0F));
    }
    return true;
}

/* Tries the neighbours of the rounded scale of one group against the weights. */
static int8_t refine_scale(int8_t sc, float d, const float *x, const float *w)
{
    int best_sc = sc;
    float best = tr_code_error(x, w, 16, d * (float)sc, 0.0F, -32.0F, 31.0F);
    for (int i = sc - 1; i <= sc + 1; i += 2) {
        if (i < -128 || i > 127) continue;
        float error = tr_code_error(x, w, 16, d * (float)i, 0.0F, -32.0F, 31.0F);
        if (error < best) {
            best = error;
            best_sc = i;
        }
    }
    return (int8_t)best_sc;
}

static void pack_q6(struct tr_block_q6_k *out, const uint8_t *q)
{
    for (int half = 0; half < 2; half++) {
        for (int l = 0; l < 32; l++) {
            const uint8_t *p = q + 128 * half + l;
            uint8_t *ql = out->ql + 64 * half + l;
            ql[0] = (uint8_t)((p[0] & 15) | (p[64] & 15) << 4);
            ql[32] = (uint8_t)((p[32] & 15) | (p[96] & 15) << 4);
            out->qh[32 * half + l] =
                (uint8_t)(p[0] >> 4 | p[32] >> 4 << 2 | p[64] >> 4 << 4 | p[96] >> 4 << 6);
        }
    }
}

static bool encode_q6_k_block(struct tr_block_q6_k *out, const float *x)
{
    float unit[TR_QKK], w[TR_QKK], scales[16] = {0};
    int8_t sc[16];
    uint8_t q[TR_QKK];
    uint16_t half;

    float factor = tr_normalise(unit, x, TR_QKK);
    for (int e = 0; e < TR_QKK; e++) w[e] = factor > 0.0F ? unit[e] * unit[e] : 0.0F;
    for (int b = 0; b < 16 && factor > 0.0F; b++) {
        scales[b] = tr_search_symmetric(unit + 16 * b, w + 16 * b, 16, 32);
    }
    if (!store_signed_scales(sc, &half, scales, factor > 0.0F ? factor : 1.0F)) return false;

    float d = tr_f16_to_f32(half);
    for (int b = 0; b < 16 && factor > 0.0F; b++) {
        sc[b] = refine_scale(sc[b], d / factor, unit + 16 * b, w + 16 * b);
    }
    for (int e = 0; e < TR_QKK; e++) {
        float scale = d * (float)sc[e / 16];
        float inverse = scale != 0.0F ? 1.0F / scale : 0.0F;
        q[e] = (uint8_t)(tr_round(tr_clamp(x[e] * inverse, -32.0F, 31.0F)) + 32.0F);
    }
    out->d = half;
    memcpy(out->scales, sc, sizeof sc);
    pack_q6(out, q);
    return true;
}

bool tr_encode_q6_k(void *dst, const float *src, size_t n)
{
    struct tr_block_q6_k *out = dst;
    for (; n > 0; n -= TR_QKK, src += TR_QKK, out++) {
        if (!encode_q6_k_block(out, src)) return false;
    }
    return true;
}
