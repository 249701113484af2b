/* SPDX-License-Identifier: MIT */
/* Builder of small random models. */
#include "model/toy.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const arch_names[] = {"llama", "qwen2", "qwen3", "gemma3", "phi3"};

const char *toy_arch(size_t index)
{
    return index < sizeof arch_names / sizeof arch_names[0] ? arch_names[index] : NULL;
}

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

struct toy toy_default(const char *arch)
{
    struct toy t = {.arch = arch,
                    .type = TRUENO_TYPE_F32,
                    .n_embd = 192,
                    .n_head = 4,
                    .n_head_kv = 2,
                    .head_dim = 48,
                    .n_ff = 384,
                    .n_layer = 3,
                    .n_vocab = 128,
                    .n_ctx = 512,
                    .seed = 1};
    if (is(arch, "qwen3")) t.head_dim = 64; /* not n_embd / n_head */
    if (is(arch, "gemma3")) {
        t.head_dim = 64;
        t.n_layer = 13;
        t.window = 16;
        t.tied = true;
    }
    if (is(arch, "phi3")) t.window = 16;
    return t;
}

/* -------------------------------------------------------------------- random */

struct rng {
    uint64_t state;
};

static uint64_t next(struct rng *r) /* splitmix64 */
{
    uint64_t z = (r->state += 0x9E3779B97F4A7C15U);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

static float normal(struct rng *r) /* sum of 12 uniforms */
{
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += (double)(next(r) >> 11) * 0x1p-53;
    return (float)sum;
}

void toy_tokens(trueno_token *tokens, size_t n, uint32_t n_vocab, uint32_t seed)
{
    struct rng r = {seed};
    for (size_t i = 0; i < n; i++) tokens[i] = (trueno_token)(next(&r) % n_vocab);
}

double toy_nmse(const float *a, const double *b, size_t n)
{
    double num = 0, den = 0;
    for (size_t i = 0; i < n; i++) {
        num += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        den += b[i] * b[i];
    }
    return num / den;
}

/* ---------------------------------------------------------------------- keys */

struct builder {
    const struct toy *t;
    trueno_gguf_writer *w;
    char key[96];
    struct tensor {
        char name[64];
        trueno_dtype type;
        uint64_t ne[2];
        float mean, sigma;
    } tensors[512];
    size_t n_tensors;
};

static bool dropped(const struct builder *b, const char *name)
{
    return b->t->drop_key != NULL && is(b->t->drop_key, name);
}

static const char *key(struct builder *b, const char *suffix)
{
    (void)snprintf(b->key, sizeof b->key, "%s.%s", b->t->arch, suffix);
    return b->key;
}

static void u32(struct builder *b, const char *suffix, uint32_t v)
{
    if (!dropped(b, suffix))
        assert_int_equal(trueno_gguf_writer_u32(b->w, key(b, suffix), v), TRUENO_OK);
}

static void f32(struct builder *b, const char *suffix, float v)
{
    if (!dropped(b, suffix))
        assert_int_equal(trueno_gguf_writer_f32(b->w, key(b, suffix), v), TRUENO_OK);
}

static void str(struct builder *b, const char *name, const char *v)
{
    if (!dropped(b, name))
        assert_int_equal(trueno_gguf_writer_str(b->w, name, v, strlen(v)), TRUENO_OK);
}

static void heads(struct builder *b, const char *suffix, uint32_t v)
{
    uint32_t all[64];
    if (!b->t->head_array) {
        u32(b, suffix, v);
        return;
    }
    for (uint32_t i = 0; i < b->t->n_layer; i++) all[i] = v;
    assert_int_equal(
        trueno_gguf_writer_array(b->w, key(b, suffix), TRUENO_GGUF_U32, all, b->t->n_layer),
        TRUENO_OK);
}

static void rope_keys(struct builder *b)
{
    const struct toy *t = b->t;
    f32(b, "rope.freq_base", is(t->arch, "gemma3") ? 1e6F : 10000.0F);
    if (t->rope == NULL || is(t->rope, "llama3")) return;
    str(b, key(b, "rope.scaling.type"), t->rope);
    if (!is(t->rope, "longrope")) f32(b, "rope.scaling.factor", 4.0F);
    if (is(t->rope, "longrope")) f32(b, "rope.scaling.attn_factor", 1.19F);
    if (!is(t->rope, "linear")) u32(b, "rope.scaling.original_context_length", 64);
}

static void keys(struct builder *b)
{
    const struct toy *t = b->t;
    str(b, "general.architecture", t->arch);
    u32(b, "context_length", t->n_ctx);
    u32(b, "embedding_length", t->n_embd);
    u32(b, "block_count", t->n_layer);
    u32(b, "feed_forward_length", t->n_ff);
    heads(b, "attention.head_count", t->n_head);
    heads(b, "attention.head_count_kv", t->n_head_kv);
    if (t->head_dim * t->n_head != t->n_embd) {
        u32(b, "attention.key_length", t->head_dim);
        u32(b, "attention.value_length", t->head_dim);
    }
    u32(b, "rope.dimension_count", t->head_dim);
    f32(b, "attention.layer_norm_rms_epsilon", 1e-5F);
    if (t->window > 0) u32(b, "attention.sliding_window", t->window);
    if (t->attn_cap > 0) f32(b, "attn_logit_softcapping", t->attn_cap);
    if (t->final_cap > 0) f32(b, "final_logit_softcapping", t->final_cap);
    u32(b, "vocab_size", t->n_vocab);
    rope_keys(b);
    str(b, "tokenizer.ggml.model", "no_vocab");
    if (t->extra_keys != NULL) t->extra_keys(b->w);
}

/* ------------------------------------------------------------------- tensors */

static void tensor(struct builder *b, const char *name, trueno_dtype type, uint64_t ne0,
                   uint64_t ne1, float mean, float sigma)
{
    const struct toy *t = b->t;
    if (t->drop_tensor != NULL && is(t->drop_tensor, name)) return;
    struct tensor *x = &b->tensors[b->n_tensors++];
    assert_true(b->n_tensors <= sizeof b->tensors / sizeof b->tensors[0]);
    *x = (struct tensor){.type = type, .ne = {ne0, ne1}, .mean = mean, .sigma = sigma};
    (void)snprintf(x->name, sizeof x->name, "%s", name);
    if (t->shape_tensor == NULL || !is(t->shape_tensor, name)) return;
    x->type = t->shape_type;
    memcpy(x->ne, t->shape, sizeof x->ne);
}

static void matrix(struct builder *b, const char *name, uint64_t cols, uint64_t rows)
{
    tensor(b, name, b->t->type, cols, rows, 0, 0.08F);
}

static void norm(struct builder *b, const char *name, uint64_t n)
{
    tensor(b, name, TRUENO_TYPE_F32, n, 1, 1, 0.2F);
}

static const char *blk(char name[64], uint32_t l, const char *part)
{
    (void)snprintf(name, 64, "blk.%u.%s", l, part);
    return name;
}

static void attention_tensors(struct builder *b, uint32_t l)
{
    const struct toy *t = b->t;
    uint64_t q = t->n_head * t->head_dim, kv = t->n_head_kv * t->head_dim;
    char n[64];
    norm(b, blk(n, l, "attn_norm.weight"), t->n_embd);
    if (is(t->arch, "phi3")) {
        matrix(b, blk(n, l, "attn_qkv.weight"), t->n_embd, q + 2 * kv);
    } else {
        matrix(b, blk(n, l, "attn_q.weight"), t->n_embd, q);
        matrix(b, blk(n, l, "attn_k.weight"), t->n_embd, kv);
        matrix(b, blk(n, l, "attn_v.weight"), t->n_embd, kv);
    }
    if (is(t->arch, "qwen2") || t->attn_bias) {
        tensor(b, blk(n, l, "attn_q.bias"), TRUENO_TYPE_F32, q, 1, 0, 0.3F);
        tensor(b, blk(n, l, "attn_k.bias"), TRUENO_TYPE_F32, kv, 1, 0, 0.3F);
        tensor(b, blk(n, l, "attn_v.bias"), TRUENO_TYPE_F32, kv, 1, 0, 0.3F);
    }
    if (t->attn_bias)
        tensor(b, blk(n, l, "attn_output.bias"), TRUENO_TYPE_F32, t->n_embd, 1, 0, 0.3F);
    if (is(t->arch, "qwen3") || is(t->arch, "gemma3")) {
        norm(b, blk(n, l, "attn_q_norm.weight"), t->head_dim);
        norm(b, blk(n, l, "attn_k_norm.weight"), t->head_dim);
    }
    matrix(b, blk(n, l, "attn_output.weight"), q, t->n_embd);
    if (is(t->arch, "gemma3")) norm(b, blk(n, l, "post_attention_norm.weight"), t->n_embd);
}

static void ffn_tensors(struct builder *b, uint32_t l)
{
    const struct toy *t = b->t;
    char n[64];
    norm(b, blk(n, l, "ffn_norm.weight"), t->n_embd);
    if (!is(t->arch, "phi3")) matrix(b, blk(n, l, "ffn_gate.weight"), t->n_embd, t->n_ff);
    matrix(b, blk(n, l, "ffn_up.weight"), t->n_embd, is(t->arch, "phi3") ? 2 * t->n_ff : t->n_ff);
    matrix(b, blk(n, l, "ffn_down.weight"), t->n_ff, t->n_embd);
    if (is(t->arch, "gemma3")) norm(b, blk(n, l, "post_ffw_norm.weight"), t->n_embd);
}

static void tensors(struct builder *b)
{
    const struct toy *t = b->t;
    uint64_t pairs = t->head_dim / 2;
    tensor(b, "token_embd.weight", t->type, t->n_embd, t->n_vocab, 0, 0.5F);
    norm(b, "output_norm.weight", t->n_embd);
    if (!t->tied) matrix(b, "output.weight", t->n_embd, t->n_vocab);
    if (t->rope != NULL && is(t->rope, "llama3"))
        tensor(b, "rope_freqs.weight", TRUENO_TYPE_F32, pairs, 1, 3, 0.4F);
    if (t->rope != NULL && is(t->rope, "longrope")) {
        tensor(b, "rope_factors_long.weight", TRUENO_TYPE_F32, pairs, 1, 6, 0.5F);
        tensor(b, "rope_factors_short.weight", TRUENO_TYPE_F32, pairs, 1, 1.2F, 0.02F);
    }
    for (uint32_t l = 0; l < t->n_layer; l++) {
        attention_tensors(b, l);
        ffn_tensors(b, l);
    }
    if (t->extra_tensor != NULL) tensor(b, t->extra_tensor, TRUENO_TYPE_F32, 8, 1, 0, 1);
}

static void write_data(struct builder *b)
{
    for (size_t i = 0; i < b->n_tensors; i++) {
        const struct tensor *x = &b->tensors[i];
        struct rng r = {b->t->seed * 1000003U + i};
        size_t n = (size_t)(x->ne[0] * x->ne[1]);
        size_t bytes = trueno_row_bytes(x->type, (size_t)x->ne[0]) * (size_t)x->ne[1];
        float *values = malloc(n * sizeof *values + 8);
        unsigned char *data = malloc(bytes + 8);
        assert_non_null(values);
        assert_non_null(data);
        for (size_t j = 0; j < n; j++) values[j] = x->mean + x->sigma * normal(&r);
        assert_int_equal(trueno_quantize(data, values, x->type, n), TRUENO_OK);
        if (b->t->nan_tensor != NULL && is(b->t->nan_tensor, x->name)) /* NaN as F32 and as F16 */
            memcpy(data, "\xff\x7e\xff\x7f", 4);
        assert_int_equal(trueno_gguf_writer_data(b->w, data, bytes, NULL), TRUENO_OK);
        free(values);
        free(data);
    }
}

trueno_gguf_writer *toy_build(trueno_ctx *ctx, const struct toy *t)
{
    struct builder *b = calloc(1, sizeof *b);
    assert_non_null(b);
    b->t = t;
    assert_int_equal(trueno_gguf_writer_new(ctx, &b->w), TRUENO_OK);
    keys(b);
    tensors(b);
    for (size_t i = 0; i < b->n_tensors; i++) {
        const struct tensor *x = &b->tensors[i];
        assert_int_equal(
            trueno_gguf_writer_tensor(b->w, x->name, x->type, x->ne[1] > 1 ? 2 : 1, x->ne),
            TRUENO_OK);
    }
    assert_int_equal(trueno_gguf_writer_begin(b->w, NULL, NULL), TRUENO_OK);
    write_data(b);
    assert_int_equal(trueno_gguf_writer_finish(b->w, NULL), TRUENO_OK);
    trueno_gguf_writer *w = b->w;
    free(b);
    return w;
}

trueno_gguf *toy_open(trueno_ctx *ctx, const struct toy *t, trueno_gguf_writer **w)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_gguf *g = NULL;
    size_t size;
    *w = toy_build(ctx, t);
    const void *data = trueno_gguf_writer_buffer(*w, &size);
    if (trueno_gguf_open_buffer(ctx, &g, data, size, NULL, &err) != TRUENO_OK)
        fail_msg("%s", err.message);
    return g;
}

trueno_model *toy_load(trueno_ctx *ctx, const struct toy *t)
{
    trueno_gguf_writer *w;
    trueno_gguf *g = toy_open(ctx, t, &w);
    trueno_error err = {TRUENO_OK, ""};
    trueno_model *m = NULL;
    if (trueno_model_load(&m, g, NULL, &err) != TRUENO_OK) fail_msg("%s", err.message);
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    return m;
}
