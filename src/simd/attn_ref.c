/* SPDX-License-Identifier: MIT */
/* C reference of attention over one chunk: one query after the other, one position after the
 * other. */
#include "math.h"
#include "quant/half.h"
#include "tables.h"

/* Element i of a cache of halves or floats. */
static float cache_at(const void *cache, size_t i, bool f16)
{
    return f16 ? tr_f16_to_f32(((const uint16_t *)cache)[i]) : ((const float *)cache)[i];
}

/* Score of query i at position p. */
static float score(const struct tr_attn_args *a, uint32_t i, size_t p, bool f16)
{
    const float *q = a->q[i];
    size_t lane = p / 16 * a->head_dim * 16 + p % 16;
    float s = 0.0F;

    for (size_t d = 0; d < a->head_dim; d++)
        s = fmaf(cache_at(a->k_cache, lane + 16 * d, f16), q[d], s);
    s *= a->scale;
    return a->cap > 0.0F ? tr_softcapf(s, a->cap) : s;
}

/* e[j] of position begin + j: scores, then exp(score - largest); sets max[i] and sum[i]. */
static void softmax(struct tr_attn_args *a, uint32_t i, float *e, bool f16)
{
    size_t begin = a->lo[i], n = a->hi[i] - begin;
    float max = -INFINITY;
    float sum[32] = {0};

    for (size_t j = 0; j < n; j++) {
        e[j] = score(a, i, begin + j, f16);
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

static void attention(struct tr_attn_args *a, bool f16)
{
    float e[TR_ATTN_CHUNK];

    for (uint32_t i = 0; i < a->n_q; i++) {
        float *out = a->out[i];

        for (size_t d = 0; d < a->head_dim; d++) out[d] = 0.0F;
        a->max[i] = -INFINITY;
        a->sum[i] = 0.0F;
        if (a->lo[i] >= a->hi[i]) continue;
        softmax(a, i, e, f16);
        for (size_t p = a->lo[i]; p < a->hi[i]; p++) {
            size_t row = p * a->head_dim;
            for (size_t d = 0; d < a->head_dim; d++)
                out[d] = fmaf(e[p - a->lo[i]], cache_at(a->v_cache, row + d, f16), out[d]);
        }
    }
}

static void attention_f16_ref(struct tr_attn_args *a)
{
    attention(a, true);
}

static void attention_f32_ref(struct tr_attn_args *a)
{
    attention(a, false);
}

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("attention_f16_ref", ATTENTION, TRUENO_TYPE_F16, ATTENTION, 0, attention,
                  attention_f16_ref),
    TR_KERNEL_ROW("attention_f32_ref", ATTENTION, TRUENO_TYPE_F32, ATTENTION, 0, attention,
                  attention_f32_ref),
};

const struct tr_kernel_table tr_table_attn_ref = {kernels, sizeof kernels / sizeof *kernels};
