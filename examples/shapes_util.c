/* SPDX-License-Identifier: MIT */
/* Shapes of published models and of toys, and the tensors that a file of each architecture has. */
#include "shapes_util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LLAMA3 .rope = ROPE_LLAMA3, .n_ctx_orig = 8192

static const struct shape SHAPES[] = {
    {"tinyllama-1.1b", "llama", 32000, 2048, 5632, 22, 32, 4, 64, .n_ctx = 2048, .eps = 1e-5F,
     .rope_base = 10000},
    {"llama-3.2-3b", "llama", 128256, 3072, 8192, 28, 24, 8, 128, .n_ctx = 131072, .eps = 1e-5F,
     .rope_base = 500000, .rope_factor = 32, LLAMA3, .tied = true},
    {"llama-8b", "llama", 128256, 4096, 14336, 32, 32, 8, 128, .n_ctx = 131072, .eps = 1e-5F,
     .rope_base = 500000, .rope_factor = 8, LLAMA3},
    {"qwen2.5-0.5b", "qwen2", 151936, 896, 4864, 24, 14, 2, 64, .n_ctx = 32768, .eps = 1e-6F,
     .rope_base = 1000000, .tied = true},
    {"qwen3-0.6b", "qwen3", 151936, 1024, 3072, 28, 16, 8, 128, .n_ctx = 40960, .eps = 1e-6F,
     .rope_base = 1000000, .tied = true},
    {"gemma3-270m", "gemma3", 262144, 640, 2048, 18, 4, 1, 256, .n_ctx = 32768, .window = 512,
     .eps = 1e-6F, .rope_base = 1000000, .tied = true},
    {"gemma3-1b", "gemma3", 262144, 1152, 6912, 26, 4, 1, 256, .n_ctx = 32768, .window = 512,
     .eps = 1e-6F, .rope_base = 1000000, .tied = true},
    {"phi3-mini", "phi3", 32064, 3072, 8192, 32, 32, 32, 96, .n_ctx = 4096, .window = 2047,
     .eps = 1e-5F, .rope_base = 10000},

    {"smollm2-135m", "llama", 49152, 576, 1536, 30, 9, 3, 64, .n_ctx = 8192, .eps = 1e-5F,
     .rope_base = 100000, .tied = true},
    {"smollm2-360m", "llama", 49152, 960, 2560, 32, 15, 5, 64, .n_ctx = 8192, .eps = 1e-5F,
     .rope_base = 100000, .tied = true},
    {"smollm2-1.7b", "llama", 49152, 2048, 8192, 24, 32, 32, 64, .n_ctx = 8192, .eps = 1e-5F,
     .rope_base = 130000, .tied = true},
    {"llama-3.2-1b", "llama", 128256, 2048, 8192, 16, 32, 8, 64, .n_ctx = 131072, .eps = 1e-5F,
     .rope_base = 500000, .rope_factor = 32, LLAMA3, .tied = true},
    {"llama-2-7b", "llama", 32000, 4096, 11008, 32, 32, 32, 128, .n_ctx = 4096, .eps = 1e-5F,
     .rope_base = 10000},
    {"llama-2-13b", "llama", 32000, 5120, 13824, 40, 40, 40, 128, .n_ctx = 4096, .eps = 1e-5F,
     .rope_base = 10000},
    {"mistral-7b", "llama", 32768, 4096, 14336, 32, 32, 8, 128, .n_ctx = 32768, .eps = 1e-5F,
     .rope_base = 1000000},
    {"qwen2.5-1.5b", "qwen2", 151936, 1536, 8960, 28, 12, 2, 128, .n_ctx = 32768, .eps = 1e-6F,
     .rope_base = 1000000, .tied = true},
    {"qwen2.5-7b", "qwen2", 152064, 3584, 18944, 28, 28, 4, 128, .n_ctx = 32768, .eps = 1e-6F,
     .rope_base = 1000000},
    {"qwen2.5-32b", "qwen2", 152064, 5120, 27648, 64, 40, 8, 128, .n_ctx = 32768, .eps = 1e-6F,
     .rope_base = 1000000},
    {"qwen3-1.7b", "qwen3", 151936, 2048, 6144, 28, 16, 8, 128, .n_ctx = 40960, .eps = 1e-6F,
     .rope_base = 1000000, .tied = true},
    {"qwen3-8b", "qwen3", 151936, 4096, 12288, 36, 32, 8, 128, .n_ctx = 40960, .eps = 1e-6F,
     .rope_base = 1000000},
    {"gemma3-4b", "gemma3", 262144, 2560, 10240, 34, 8, 4, 256, .n_ctx = 131072, .window = 1024,
     .eps = 1e-6F, .rope_base = 1000000, .tied = true},
    {"phi4-14b", "phi3", 100352, 5120, 17920, 40, 40, 10, 128, .n_ctx = 16384, .eps = 1e-5F,
     .rope_base = 250000},

    /* Small enough to evaluate in double precision; weights large enough for every part to matter.
     */
    {"toy", "llama", 128, 192, 384, 3, 3, 1, 64, .n_ctx = 256, .eps = 1e-5F, .rope_base = 10000,
     .std = 0.08F},
    {"toy", "qwen2", 128, 256, 384, 3, 4, 2, 64, .n_ctx = 256, .eps = 1e-6F, .rope_base = 1000000,
     .std = 0.08F},
    {"toy", "qwen3", 128, 192, 384, 3, 4, 2, 128, .n_ctx = 256, .eps = 1e-6F, .rope_base = 1000000,
     .std = 0.08F},
    {"toy", "gemma3", 128, 192, 384, 13, 4, 2, 64, .n_ctx = 256, .window = 16, .eps = 1e-6F,
     .rope_base = 1000000, .tied = true, .std = 0.08F},
    {"toy", "phi3", 128, 256, 384, 3, 4, 2, 64, .n_ctx = 256, .window = 16, .eps = 1e-5F,
     .rope_base = 10000, .std = 0.08F},

    /* The same with all rows multiples of 256, so that K-quants are not replaced. */
    {"toy-256", "llama", 128, 256, 512, 3, 4, 2, 64, .n_ctx = 256, .eps = 1e-5F, .rope_base = 10000,
     .std = 0.08F},
    {"toy-256", "qwen2", 128, 256, 512, 3, 4, 2, 64, .n_ctx = 256, .eps = 1e-6F,
     .rope_base = 1000000, .std = 0.08F},
    {"toy-256", "qwen3", 128, 256, 512, 3, 4, 2, 128, .n_ctx = 256, .eps = 1e-6F,
     .rope_base = 1000000, .std = 0.08F},
    {"toy-256", "gemma3", 128, 256, 512, 13, 4, 2, 64, .n_ctx = 256, .window = 16, .eps = 1e-6F,
     .rope_base = 1000000, .tied = true, .std = 0.08F},
    {"toy-256", "phi3", 128, 256, 512, 3, 4, 2, 64, .n_ctx = 256, .window = 16, .eps = 1e-5F,
     .rope_base = 10000, .std = 0.08F},
};

const struct shape *shape_at(size_t index)
{
    return index < sizeof(SHAPES) / sizeof(SHAPES[0]) ? &SHAPES[index] : NULL;
}

const struct shape *shape_find(const char *name, const char *arch)
{
    const struct shape *s;
    for (size_t i = 0; (s = shape_at(i)) != NULL; i++)
        if (!strcmp(s->name, name) && (!arch || !strcmp(s->arch, arch))) return s;
    return NULL;
}

/* ----------------------------------------------------------------------------- tensors */

/* A growing list; a full one is never written to. */
struct list {
    struct shape_tensor *items;
    size_t n, cap;
};

#define NO_LAYER UINT32_MAX

enum { PER_LAYER = 16, OUTSIDE = 6 };

static void add(struct list *l, uint32_t layer, const char *name, enum tensor_fill fill,
                enum tensor_role role, uint64_t ne0, uint64_t ne1)
{
    if (l->n == l->cap) return;
    struct shape_tensor *t = &l->items[l->n++];
    *t = (struct shape_tensor){.fill = fill, .role = role, .ne = {ne0, ne1}};
    if (layer == NO_LAYER) {
        snprintf(t->name, sizeof(t->name), "%s", name);
    } else {
        t->layer = layer;
        snprintf(t->name, sizeof(t->name), "blk.%u.%s", layer, name);
    }
}

static void add_attention(struct list *l, const struct shape *s, uint32_t i)
{
    uint64_t e = s->n_embd, q = (uint64_t)s->n_head * s->head_dim;
    uint64_t kv = (uint64_t)s->n_head_kv * s->head_dim;
    add(l, i, "attn_norm.weight", FILL_NORM, ROLE_OTHER, e, 1);
    if (!strcmp(s->arch, "phi3")) {
        add(l, i, "attn_qkv.weight", FILL_MATRIX, ROLE_QKV, e, q + 2 * kv);
    } else {
        add(l, i, "attn_q.weight", FILL_MATRIX, ROLE_OTHER, e, q);
        add(l, i, "attn_k.weight", FILL_MATRIX, ROLE_OTHER, e, kv);
        add(l, i, "attn_v.weight", FILL_MATRIX, ROLE_VALUE_OR_DOWN, e, kv);
    }
    if (!strcmp(s->arch, "qwen2")) {
        add(l, i, "attn_q.bias", FILL_BIAS, ROLE_OTHER, q, 1);
        add(l, i, "attn_k.bias", FILL_BIAS, ROLE_OTHER, kv, 1);
        add(l, i, "attn_v.bias", FILL_BIAS, ROLE_OTHER, kv, 1);
    }
    if (!strcmp(s->arch, "qwen3") || !strcmp(s->arch, "gemma3")) {
        add(l, i, "attn_q_norm.weight", FILL_NORM, ROLE_OTHER, s->head_dim, 1);
        add(l, i, "attn_k_norm.weight", FILL_NORM, ROLE_OTHER, s->head_dim, 1);
    }
    add(l, i, "attn_output.weight", FILL_MATRIX, ROLE_OTHER, q, e);
}

static void add_feed_forward(struct list *l, const struct shape *s, uint32_t i)
{
    bool gemma = !strcmp(s->arch, "gemma3"), phi = !strcmp(s->arch, "phi3");
    if (gemma) add(l, i, "post_attention_norm.weight", FILL_NORM, ROLE_OTHER, s->n_embd, 1);
    add(l, i, "ffn_norm.weight", FILL_NORM, ROLE_OTHER, s->n_embd, 1);
    if (!phi) add(l, i, "ffn_gate.weight", FILL_MATRIX, ROLE_OTHER, s->n_embd, s->n_ff);
    add(l, i, "ffn_up.weight", FILL_MATRIX, ROLE_OTHER, s->n_embd, (phi ? 2ULL : 1ULL) * s->n_ff);
    add(l, i, "ffn_down.weight", FILL_MATRIX, ROLE_VALUE_OR_DOWN, s->n_ff, s->n_embd);
    if (gemma) add(l, i, "post_ffw_norm.weight", FILL_NORM, ROLE_OTHER, s->n_embd, 1);
}

struct shape_tensor *shape_tensors(const struct shape *s, size_t *n)
{
    struct list l = {NULL, 0, (size_t)s->n_layer * PER_LAYER + OUTSIDE};
    l.items = calloc(l.cap, sizeof(*l.items));
    if (!l.items) return NULL;
    enum tensor_role embedding = s->tied ? ROLE_OUTPUT : ROLE_OTHER;
    add(&l, NO_LAYER, "token_embd.weight", FILL_MATRIX, embedding, s->n_embd, s->n_vocab);
    if (s->rope == ROPE_LLAMA3)
        add(&l, NO_LAYER, "rope_freqs.weight", FILL_ROPE, ROLE_OTHER, s->head_dim / 2, 1);
    if (s->rope == ROPE_LONGROPE) {
        add(&l, NO_LAYER, "rope_factors_long.weight", FILL_LONG, ROLE_OTHER, s->head_dim / 2, 1);
        add(&l, NO_LAYER, "rope_factors_short.weight", FILL_SHORT, ROLE_OTHER, s->head_dim / 2, 1);
    }
    for (uint32_t i = 0; i < s->n_layer; i++) {
        add_attention(&l, s, i);
        add_feed_forward(&l, s, i);
    }
    add(&l, NO_LAYER, "output_norm.weight", FILL_NORM, ROLE_OTHER, s->n_embd, 1);
    if (!s->tied)
        add(&l, NO_LAYER, "output.weight", FILL_MATRIX, ROLE_OUTPUT, s->n_embd, s->n_vocab);
    *n = l.n;
    return l.items;
}

/* -------------------------------------------------------------------------------- rope */

void shape_rope_factors(const struct shape *s, enum tensor_fill fill, float *out)
{
    for (uint32_t i = 0; i < s->head_dim / 2; i++) {
        if (fill != FILL_ROPE) { /* made up: smooth, from 1 to 1.5 and from 1 to 1 + factor */
            double x = 2.0 * i / s->head_dim;
            out[i] = (float)(1 + (fill == FILL_SHORT ? 0.5 * x : s->rope_factor * x));
            continue;
        }
        /* Llama 3.1: low frequencies are stretched, high ones kept, with a ramp between */
        const double pi = 3.14159265358979323846, low = 1, high = 4;
        double wavelength = 2 * pi * pow(s->rope_base, 2.0 * i / s->head_dim);
        double turns = s->n_ctx_orig / wavelength, smooth = (turns - low) / (high - low);
        if (turns > high)
            out[i] = 1;
        else if (turns < low)
            out[i] = s->rope_factor;
        else
            out[i] = (float)(1 / ((1 - smooth) / s->rope_factor + smooth));
    }
}
