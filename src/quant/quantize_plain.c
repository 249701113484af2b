/* SPDX-License-Identifier: MIT */
/* Encoders of F16, BF16 and the formats with one scale per 32 weights. The scale is searched for
 * the least squared error, then stored as f16, and the integers are rounded with the stored scale:
 * they make up for what the f16 lost. */
#include "quant/encode.h"
#include "quant/search.h"

static const float equal_weights[TR_QK] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                           1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

bool tr_encode_f32(void *dst, const float *src, size_t n)
{
    memcpy(dst, src, n * sizeof *src);
    return true;
}

bool tr_encode_f16(void *dst, const float *src, size_t n)
{
    uint8_t *bytes = dst;
    bool fits = true;
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        fits &= tr_store_f16(&h, src[i]);
        memcpy(bytes + 2 * i, &h, sizeof h);
    }
    return fits;
}

bool tr_encode_bf16(void *dst, const float *src, size_t n)
{
    uint8_t *bytes = dst;
    bool fits = true;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = tr_f32_to_bf16(src[i]);
        fits &= (h & 0x7f80U) != 0x7f80U;
        memcpy(bytes + 2 * i, &h, sizeof h);
    }
    return fits;
}

/* One searched block: q with x = d * (q - zero) + m, and d, m as they will be read back. */
struct plain_block {
    uint16_t d, m;
    uint8_t q[TR_QK];
};

/* Rounds with the stored scale; a scale that is 0 in f16 leaves all q at `zero`. */
static void round_block(struct plain_block *b, const float *x, int zero, int q_max)
{
    float d = tr_f16_to_f32(b->d);
    float m = tr_f16_to_f32(b->m);
    float inverse = d != 0.0F ? 1.0F / d : 0.0F;
    for (int i = 0; i < TR_QK; i++) {
        float v = (x[i] - m) * inverse + (float)zero;
        b->q[i] = (uint8_t)tr_round(tr_clamp(v, 0.0F, (float)q_max));
    }
}

/* `zero` is the code of 0: 8 or 16. */
static bool search_symmetric(struct plain_block *b, const float *x, int zero)
{
    float unit[TR_QK];
    float scale = 0.0F;
    float factor = tr_normalise(unit, x, TR_QK);
    if (factor > 0.0F) scale = tr_search_symmetric(unit, equal_weights, TR_QK, zero);
    b->m = 0;
    if (!tr_store_scale(&b->d, scale * factor)) return false;
    round_block(b, x, zero, 2 * zero - 1);
    return true;
}

static bool search_affine(struct plain_block *b, const float *x, int q_max)
{
    const struct tr_affine_search how = {q_max, -1.0F, 20, true};
    float unit[TR_QK];
    float scale = 0.0F, min = 0.0F;
    float factor = tr_normalise(unit, x, TR_QK);
    if (factor > 0.0F) tr_search_affine(&scale, &min, unit, equal_weights, TR_QK, &how);
    if (!tr_store_scale(&b->d, scale * factor) || !tr_store_f16(&b->m, min * factor)) return false;
    round_block(b, x, 0, q_max);
    return true;
}

static void pack_nibbles(uint8_t qs[TR_QK / 2], const uint8_t *q)
{
    for (int i = 0; i < TR_QK / 2; i++) qs[i] = (uint8_t)((q[i] & 15) | (q[i + 16] & 15) << 4);
}

static uint32_t fifth_bits(const uint8_t *q)
{
    uint32_t bits = 0;
    for (int i = 0; i < TR_QK; i++) bits |= (uint32_t)(q[i] >> 4 & 1) << i;
    return bits;
}

bool tr_encode_q4_0(void *dst, const float *src, size_t n)
{
    struct tr_block_q4_0 *out = dst;
    for (; n > 0; n -= TR_QK, src += TR_QK, out++) {
        struct plain_block b;
        if (!search_symmetric(&b, src, 8)) return false;
        out->d = b.d;
        pack_nibbles(out->qs, b.q);
    }
    return true;
}

bool tr_encode_q4_1(void *dst, const float *src, size_t n)
{
    struct tr_block_q4_1 *out = dst;
    for (; n > 0; n -= TR_QK, src += TR_QK, out++) {
        struct plain_block b;
        if (!search_affine(&b, src, 15)) return false;
        out->d = b.d;
        out->m = b.m;
        pack_nibbles(out->qs, b.q);
    }
    return true;
}

bool tr_encode_q5_0(void *dst, const float *src, size_t n)
{
    struct tr_block_q5_0 *out = dst;
    for (; n > 0; n -= TR_QK, src += TR_QK, out++) {
        struct plain_block b;
        if (!search_symmetric(&b, src, 16)) return false;
        out->d = b.d;
        out->qh = fifth_bits(b.q);
        pack_nibbles(out->qs, b.q);
    }
    return true;
}

bool tr_encode_q5_1(void *dst, const float *src, size_t n)
{
    struct tr_block_q5_1 *out = dst;
    for (; n > 0; n -= TR_QK, src += TR_QK, out++) {
        struct plain_block b;
        if (!search_affine(&b, src, 31)) return false;
        out->d = b.d;
        out->m = b.m;
        out->qh = fifth_bits(b.q);
        pack_nibbles(out->qs, b.q);
    }
    return true;
}

/* 255 steps leave a search nothing to win: the largest magnitude becomes +-127. */
bool tr_encode_q8_0(void *dst, const float *src, size_t n)
{
    struct tr_block_q8_0 *out = dst;
    for (; n > 0; n -= TR_QK, src += TR_QK, out++) {
        float max = 0.0F;
        for (int i = 0; i < TR_QK; i++) {
            float magnitude = src[i] < 0.0F ? -src[i] : src[i];
            max = magnitude > max ? magnitude : max;
        }
        uint16_t half;
        if (!tr_store_scale(&half, max / 127.0F)) return false;
        float d = tr_f16_to_f32(half);
        float inverse = d != 0.0F ? 1.0F / d : 0.0F;
        out->d = half;
        for (int i = 0; i < TR_QK; i++) {
            out->qs[i] = (int8_t)tr_round(tr_clamp(src[i] * inverse, -127.0F, 127.0F));
        }
    }
    return true;
}
