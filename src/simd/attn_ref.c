/* SPDX-License-Identifier: MIT */
/* C reference of attention over one chunk: one query after the other, one position after the
 * other; and of merging chunks. */
#include <string.h>

#include "math.h"
#include "quant/half.h"
#include "tables.h"

/* Element i of a cache without blocks. */
static float plain_at(const void *cache, size_t i, trueno_dtype type)
{
    if (type == TRUENO_TYPE_F16) return tr_f16_to_f32(((const uint16_t *)cache)[i]);
    if (type == TRUENO_TYPE_BF16) return tr_bf16_to_f32(((const uint16_t *)cache)[i]);
    return ((const float *)cache)[i];
}

static float scale_at(const uint8_t *scales, size_t i)
{
    uint16_t half;
    memcpy(&half, scales + 2 * i, sizeof half);
    return tr_f16_to_f32(half);
}

/* Element d of the key of position p. */
static float key_at(const struct tr_attn_args *a, size_t p, size_t d, trueno_dtype type)
{
    if (type != TRUENO_TYPE_Q8_0)
        return plain_at(a->k_cache, (p / 16 * a->head_dim + d) * 16 + p % 16, type);
    const uint8_t *block =
        (const uint8_t *)a->k_cache + (p / 16 * (a->head_dim / 32) + d / 32) * (2 * 16 + 32 * 16);
    const int8_t *q = (const int8_t *)block + 2 * 16;
    return scale_at(block, p % 16) * (float)q[d % 32 * 16 + p % 16];
}

/* Element d of the value of position p. */
static float value_at(const struct tr_attn_args *a, size_t p, size_t d, trueno_dtype type)
{
    if (type != TRUENO_TYPE_Q8_0) return plain_at(a->v_cache, p * a->head_dim + d, type);
    const uint8_t *row = (const uint8_t *)a->v_cache + p * (a->head_dim / 32 * 2 + a->head_dim);
    const int8_t *q = (const int8_t *)row + a->head_dim / 32 * 2;
    return scale_at(row, d / 32) * (float)q[d];
}

/* Score of query i at position p. */
static float score(const struct tr_attn_args *a, uint32_t i, size_t p, trueno_dtype type)
{
    const float *q = a->q[i];
    float s = 0.0F;

    for (size_t d = 0; d < a->head_dim; d++) s = fmaf(key_at(a, p, d, type), q[d], s);
    s *= a->scale;
    return a->cap > 0.0F ? tr_softcapf(s, a->cap) : s;
}

/* e[j] of position begin + j: scores, then exp(score - largest); sets max[i] and sum[i]. */
static void softmax(struct tr_attn_args *a, uint32_t i, float *e, trueno_dtype type)
{
    size_t begin = a->lo[i], n = a->hi[i] - begin;
    float max = -INFINITY;
    float sum[32] = {0};

    for (size_t j = 0; j < n; j++) {
        e[j] = score(a, i, begin + j, type);
        if (e[j] > max) max = e[j];
    }
    max += 0.0F; /* -0 to +0: the largest of several zeros has one sign in any order */
    for (size_t j = 0; j < n; j++) {
        e[j] = tr_expf(e[j] - max);
        sum[(begin + j) % 32] += e[j];
    }
    for (size_t h = 16; h > 0; h /= 2) {
        for (size_t j = 0; j < h; j++) sum[j] += sum[j + h];
    }
    a->max[i] = max;
    a->sum[i] = sum[0];
}

static void attention(struct tr_attn_args *a, trueno_dtype type)
{
    float e[TR_ATTN_CHUNK];

    for (uint32_t i = 0; i < a->n_q; i++) {
        float *out = a->out[i];

        for (size_t d = 0; d < a->head_dim; d++) out[d] = 0.0F;
        a->max[i] = -INFINITY;
        a->sum[i] = 0.0F;
        if (a->lo[i] >= a->hi[i]) continue;
        softmax(a, i, e, type);
        for (size_t p = a->lo[i]; p < a->hi[i]; p++) {
            for (size_t d = 0; d < a->head_dim; d++)
                out[d] = fmaf(e[p - a->lo[i]], value_at(a, p, d, type), out[d]);
        }
    }
}

static void attention_f32_ref(struct tr_attn_args *a)
{
    attention(a, TRUENO_TYPE_F32);
}

static void attention_f16_ref(struct tr_attn_args *a)
{
    attention(a, TRUENO_TYPE_F16);
}

static void attention_bf16_ref(struct tr_attn_args *a)
{
    attention(a, TRUENO_TYPE_BF16);
}

static void attention_q8_0_ref(struct tr_attn_args *a)
{
    attention(a, TRUENO_TYPE_Q8_0);
}

static void attn_merge_ref(float *max, float *sum, float *acc, const struct tr_attn_args *a)
{
    size_t n = a->head_dim;

    for (uint32_t i = 0; i < a->n_q; i++, acc += n) {
        const float *out = a->out[i];
        if (a->lo[i] >= a->hi[i]) continue;
        if (sum[i] == 0.0F) {
            max[i] = a->max[i];
            sum[i] = a->sum[i];
            memcpy(acc, out, n * sizeof *acc);
        } else if (a->max[i] > max[i]) {
            float r = tr_expf(max[i] - a->max[i]);
            max[i] = a->max[i];
            sum[i] = sum[i] * r + a->sum[i];
            for (size_t d = 0; d < n; d++) acc[d] = acc[d] * r + out[d];
        } else {
            float r = tr_expf(a->max[i] - max[i]);
            sum[i] = sum[i] + a->sum[i] * r;
            for (size_t d = 0; d < n; d++) acc[d] = acc[d] + out[d] * r;
        }
    }
}

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("attention_f32_ref", ATTENTION, TRUENO_TYPE_F32, ATTENTION, 0, attention,
                  attention_f32_ref),
    TR_KERNEL_ROW("attention_f16_ref", ATTENTION, TRUENO_TYPE_F16, ATTENTION, 0, attention,
                  attention_f16_ref),
    TR_KERNEL_ROW("attention_bf16_ref", ATTENTION, TRUENO_TYPE_BF16, ATTENTION, 0, attention,
                  attention_bf16_ref),
    TR_KERNEL_ROW("attention_q8_0_ref", ATTENTION, TRUENO_TYPE_Q8_0, ATTENTION, 0, attention,
                  attention_q8_0_ref),
    TR_KERNEL_ROW("attn_merge_ref", ATTN_MERGE, TR_TYPE_NONE, ATTENTION, 0, attn_merge,
                  attn_merge_ref),
};

const struct tr_kernel_table tr_table_attn_ref = {kernels, sizeof kernels / sizeof *kernels};
