/* SPDX-License-Identifier: MIT */
/* Decoding, the reference: the float32 that each format's formula gives. The order of the float
 * operations is part of the format (products of scales are rounded before they meet q), so that the
 * bits are those of every other reader. */
#include "quant/quant.h"

static void decode_f32(float *dst, const void *src, size_t n)
{
    memcpy(dst, src, n * sizeof *dst);
}

static void decode_f16(float *dst, const void *src, size_t n)
{
    const uint8_t *bytes = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, bytes + 2 * i, sizeof h);
        dst[i] = tr_f16_to_f32(h);
    }
}

static void decode_bf16(float *dst, const void *src, size_t n)
{
    const uint8_t *bytes = src;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, bytes + 2 * i, sizeof h);
        dst[i] = tr_bf16_to_f32(h);
    }
}

static void decode_q4_0(float *dst, const void *src, size_t n)
{
    const struct tr_block_q4_0 *b = src;
    for (; n > 0; n -= TR_QK, dst += TR_QK, b++) {
        float d = tr_f16_to_f32(b->d);
        for (int i = 0; i < TR_QK / 2; i++) {
            dst[i] = (float)((b->qs[i] & 15) - 8) * d;
            dst[i + 16] = (float)((b->qs[i] >> 4) - 8) * d;
        }
    }
}

static void decode_q4_1(float *dst, const void *src, size_t n)
{
    const struct tr_block_q4_1 *b = src;
    for (; n > 0; n -= TR_QK, dst += TR_QK, b++) {
        float d = tr_f16_to_f32(b->d);
        float m = tr_f16_to_f32(b->m);
        for (int i = 0; i < TR_QK / 2; i++) {
            dst[i] = (float)(b->qs[i] & 15) * d + m;
            dst[i + 16] = (float)(b->qs[i] >> 4) * d + m;
        }
    }
}

/* Weights i and i + 16 of a block with nibbles `qs` and fifth bits `qh`. */
static void unpack_q5(int *low, int *high, uint8_t qs, uint32_t qh, int i)
{
    *low = (qs & 15) | (int)((qh >> i & 1U) << 4);
    *high = (qs >> 4) | (int)((qh >> (i + 16) & 1U) << 4);
}

static void decode_q5_0(float *dst, const void *src, size_t n)
{
    const struct tr_block_q5_0 *b = src;
    for (; n > 0; n -= TR_QK, dst += TR_QK, b++) {
        float d = tr_f16_to_f32(b->d);
        uint32_t qh = b->qh;
        for (int i = 0; i < TR_QK / 2; i++) {
            int low, high;
            unpack_q5(&low, &high, b->qs[i], qh, i);
            dst[i] = (float)(low - 16) * d;
            dst[i + 16] = (float)(high - 16) * d;
        }
    }
}

static void decode_q5_1(float *dst, const void *src, size_t n)
{
    const struct tr_block_q5_1 *b = src;
    for (; n > 0; n -= TR_QK, dst += TR_QK, b++) {
        float d = tr_f16_to_f32(b->d);
        float m = tr_f16_to_f32(b->m);
        uint32_t qh = b->qh;
        for (int i = 0; i < TR_QK / 2; i++) {
            int low, high;
            unpack_q5(&low, &high, b->qs[i], qh, i);
            dst[i] = (float)low * d + m;
            dst[i + 16] = (float)high * d + m;
        }
    }
}

static void decode_q8_0(float *dst, const void *src, size_t n)
{
    const struct tr_block_q8_0 *b = src;
    for (; n > 0; n -= TR_QK, dst += TR_QK, b++) {
        float d = tr_f16_to_f32(b->d);
        for (int i = 0; i < TR_QK; i++) dst[i] = (float)b->qs[i] * d;
    }
}

static void decode_q2_k(float *dst, const void *src, size_t n)
{
    const struct tr_block_q2_k *b = src;
    for (; n > 0; n -= TR_QKK, dst += TR_QKK, b++) {
        float d = tr_f16_to_f32(b->d);
        float dmin = tr_f16_to_f32(b->dmin);
        for (int e = 0; e < TR_QKK; e++) {
            int sc = b->scales[e / 16];
            int q = b->qs[32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
            dst[e] = d * (float)(sc & 15) * (float)q - dmin * (float)(sc >> 4);
        }
    }
}

static void decode_q3_k(float *dst, const void *src, size_t n)
{
    const struct tr_block_q3_k *b = src;
    for (; n > 0; n -= TR_QKK, dst += TR_QKK, b++) {
        float d = tr_f16_to_f32(b->d);
        for (int e = 0; e < TR_QKK; e++) {
            float scale = d * (float)tr_q3k_scale(e / 16, b->scales);
            int q = b->qs[32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
            q |= (b->hmask[e % 32] >> e / 32 & 1) << 2;
            dst[e] = scale * (float)(q - 4);
        }
    }
}

static void decode_q4_k(float *dst, const void *src, size_t n)
{
    const struct tr_block_q4_k *b = src;
    for (; n > 0; n -= TR_QKK, dst += TR_QKK, b++) {
        float d = tr_f16_to_f32(b->d);
        float dmin = tr_f16_to_f32(b->dmin);
        for (int j = 0; j < 8; j++) {
            const uint8_t *qs = b->qs + 32 * (j / 2);
            int shift = 4 * (j % 2);
            uint8_t sc, m;
            tr_q4k_scale_min(j, b->scales, &sc, &m);
            float scale = d * (float)sc;
            float min = dmin * (float)m;
            for (int l = 0; l < 32; l++) {
                dst[32 * j + l] = scale * (float)(qs[l] >> shift & 15) - min;
            }
        }
    }
}

static void decode_q5_k(float *dst, const void *src, size_t n)
{
    const struct tr_block_q5_k *b = src;
    for (; n > 0; n -= TR_QKK, dst += TR_QKK, b++) {
        float d = tr_f16_to_f32(b->d);
        float dmin = tr_f16_to_f32(b->dmin);
        for (int j = 0; j < 8; j++) {
            const uint8_t *qs = b->qs + 32 * (j / 2);
            int shift = 4 * (j % 2);
            uint8_t sc, m;
            tr_q4k_scale_min(j, b->scales, &sc, &m);
            float scale = d * (float)sc;
            float min = dmin * (float)m;
            for (int l = 0; l < 32; l++) {
                int q = (qs[l] >> shift & 15) | (b->qh[l] >> j & 1) << 4;
                dst[32 * j + l] = scale * (float)q - min;
            }
        }
    }
}

static void decode_q6_k(float *dst, const void *src, size_t n)
{
    const struct tr_block_q6_k *b = src;
    for (; n > 0; n -= TR_QKK, dst += TR_QKK, b++) {
        float d = tr_f16_to_f32(b->d);
        for (int g = 0; g < 16; g++) { /* 16 weights under one scale */
            int half = g / 8, k = g % 8 / 2, first = 16 * (g % 2);
            const uint8_t *ql = b->ql + 64 * half + 32 * (k & 1) + first;
            const uint8_t *qh = b->qh + 32 * half + first;
            float scale = d * (float)b->scales[g];
            for (int l = 0; l < 16; l++) {
                int q = (ql[l] >> 4 * (k / 2) & 15) | (qh[l] >> 2 * k & 3) << 4;
                dst[16 * g + l] = scale * (float)(q - 32);
            }
        }
    }
}

void tr_dequantize_row(float *dst, const void *src, trueno_dtype type, size_t n)
{
    switch (type) {
    case TRUENO_TYPE_F32: decode_f32(dst, src, n); break;
    case TRUENO_TYPE_F16: decode_f16(dst, src, n); break;
    case TRUENO_TYPE_BF16: decode_bf16(dst, src, n); break;
    case TRUENO_TYPE_Q4_0: decode_q4_0(dst, src, n); break;
    case TRUENO_TYPE_Q4_1: decode_q4_1(dst, src, n); break;
    case TRUENO_TYPE_Q5_0: decode_q5_0(dst, src, n); break;
    case TRUENO_TYPE_Q5_1: decode_q5_1(dst, src, n); break;
    case TRUENO_TYPE_Q8_0: decode_q8_0(dst, src, n); break;
    case TRUENO_TYPE_Q2_K: decode_q2_k(dst, src, n); break;
    case TRUENO_TYPE_Q3_K: decode_q3_k(dst, src, n); break;
    case TRUENO_TYPE_Q4_K: decode_q4_k(dst, src, n); break;
    case TRUENO_TYPE_Q5_K: decode_q5_k(dst, src, n); break;
    case TRUENO_TYPE_Q6_K: decode_q6_k(dst, src, n); break;
    default: break; /* not reached: the caller checked can_dequantize */
    }
}
