/* SPDX-License-Identifier: MIT */
/* What a model file says of the work of a pass: exact sizes from the tensor table, geometry from
 * the keys (names: GGUF specification; `A` is general.architecture). */
#include "tuner/env.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "trueno/quantize.h"
#include "tuner/kinds.h"

enum { ARCH_MAX = 64, MAX_LAYERS = 4095 }; /* as slot 2 has room for */

/* A reader of keys. After the first error all calls do nothing. */
struct reader {
    const trueno_gguf *g;
    trueno_error *err;
    trueno_status status;
    char arch[ARCH_MAX]; /* "": the file names none that fits */
    char key[128];
};

/* -------------------------------------------------------------------------- keys */

static void read_arch(struct reader *r)
{
    trueno_str name = {NULL, 0};
    if (trueno_gguf_find(r->g, "general.architecture") < 0) return;
    r->status = trueno_gguf_get_str(r->g, "general.architecture", &name, r->err);
    if (r->status == TRUENO_OK && name.len > 0 && name.len < sizeof r->arch)
        memcpy(r->arch, name.data, name.len);
}

/* Looks a key up; the getters say in the error what is missing, which is none here. */
static bool find_key(struct reader *r, const char *suffix)
{
    snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return r->status == TRUENO_OK && trueno_gguf_find(r->g, r->key) >= 0;
}

/* TRUENO_UNSET if it is not there. */
static double read_whole(struct reader *r, const char *suffix)
{
    uint64_t v = 0;
    if (!find_key(r, suffix)) return TRUENO_UNSET;
    r->status = trueno_gguf_get_u64(r->g, r->key, &v, r->err);
    return r->status == TRUENO_OK ? (double)v : TRUENO_UNSET;
}

static double read_real(struct reader *r, const char *suffix)
{
    double v = 0;
    if (!find_key(r, suffix)) return TRUENO_UNSET;
    r->status = trueno_gguf_get_f64(r->g, r->key, &v, r->err);
    return r->status == TRUENO_OK ? v : TRUENO_UNSET;
}

/* A key that holds one number for all layers, or an array with one for each. */
struct per_layer {
    ptrdiff_t kv; /* -1: there is none */
    bool array;
};

static struct per_layer find_per_layer(struct reader *r, const char *suffix, uint32_t layers)
{
    struct per_layer key = {-1, false};
    trueno_gguf_kv kv;
    if (!find_key(r, suffix)) return key;
    key.kv = trueno_gguf_find(r->g, r->key);
    trueno_gguf_kv_at(r->g, (size_t)key.kv, &kv);
    key.array = kv.type == TRUENO_GGUF_ARRAY;
    if (key.array && kv.count < layers)
        r->status = tr_fail(r->err, TRUENO_ERR_CORRUPT, "key %s has %llu elements for %u layers",
                            r->key, (unsigned long long)kv.count, layers);
    return key;
}

static double of_layer(struct reader *r, const struct per_layer *key, uint32_t layer)
{
    uint64_t v = 0;
    if (r->status != TRUENO_OK || key->kv < 0) return TRUENO_UNSET;
    r->status = trueno_gguf_elem_u64(r->g, (size_t)key->kv, key->array ? layer : 0, &v);
    if (r->status == TRUENO_OK) return (double)v;
    trueno_gguf_kv kv;
    trueno_gguf_kv_at(r->g, (size_t)key->kv, &kv);
    tr_fail(r->err, r->status, "key %.*s: element %u is no unsigned integer", TR_STR_ARGS(kv.key),
            layer);
    return TRUENO_UNSET;
}

/* ---------------------------------------------------------------------- geometry */

/* The widest of the layers; with experts what one token goes through. */
static double read_feed_forward(struct reader *r, uint32_t layers)
{
    const double used = read_whole(r, "expert_used_count");
    const double expert = read_whole(r, "expert_feed_forward_length");
    const double shared = read_whole(r, "expert_shared_feed_forward_length");
    struct per_layer key = find_per_layer(r, "feed_forward_length", layers);
    double widest = TRUENO_UNSET;
    for (uint32_t l = 0; l < layers; l++) {
        const double ff = of_layer(r, &key, l);
        if (ff > widest) widest = ff;
    }
    if (!(used > 0)) return widest;
    const double each = expert > 0 ? expert : widest;
    return each > 0 ? used * each + (shared > 0 ? shared : 0) : TRUENO_UNSET;
}

/* Heads of the layer that has most of them, and bytes of a token's keys and values over all layers.
 * A head's values are as long as its keys unless a key says more; by default both share the width.
 */
static void read_attention(struct reader *r, trueno_features *f, uint32_t layers)
{
    struct per_layer heads_key = find_per_layer(r, "attention.head_count", layers);
    struct per_layer kv_key = find_per_layer(r, "attention.head_count_kv", layers);
    const double key_len = read_whole(r, "attention.key_length");
    const double value_len = read_whole(r, "attention.value_length");
    double kv_heads_of_all = 0, split = TRUENO_UNSET;

    for (uint32_t l = 0; l < layers; l++) {
        const double heads = of_layer(r, &heads_key, l);
        double kv_heads = of_layer(r, &kv_key, l);
        if (kv_heads == TRUENO_UNSET) kv_heads = heads;
        if (kv_heads > 0) kv_heads_of_all += kv_heads;
        if (heads <= f->num_heads) continue;
        f->num_heads = heads;
        f->kv_heads = kv_heads;
    }
    if (f->num_heads > 0 && f->hidden_dim > 0) split = floor(f->hidden_dim / f->num_heads);
    f->head_dim = key_len > 0 ? key_len : split > 0 ? split : TRUENO_UNSET;
    const double values = value_len > 0 ? value_len : split > 0 ? split : f->head_dim;
    if (f->num_heads != TRUENO_UNSET && f->head_dim > 0)
        f->kv_bytes_per_token = 2 * kv_heads_of_all * (f->head_dim + values);
}

static void read_vocab(struct reader *r, trueno_features *f)
{
    const ptrdiff_t tokens = trueno_gguf_find(r->g, "tokenizer.ggml.tokens");
    const ptrdiff_t table = trueno_gguf_find_tensor(r->g, "token_embd.weight");
    trueno_gguf_kv kv;
    trueno_gguf_tensor t;
    f->vocab_size = read_whole(r, "vocab_size");
    if (tokens >= 0 && trueno_gguf_kv_at(r->g, (size_t)tokens, &kv) == TRUENO_OK &&
        kv.type == TRUENO_GGUF_ARRAY)
        f->vocab_size = (double)kv.count;
    else if (f->vocab_size == TRUENO_UNSET && table >= 0 &&
             trueno_gguf_tensor_at(r->g, (size_t)table, &t) == TRUENO_OK)
        f->vocab_size = (double)t.ne[1];
}

static void read_geometry(struct reader *r, trueno_features *f)
{
    read_arch(r);
    read_vocab(r, f);
    f->hidden_dim = read_whole(r, "embedding_length");
    f->rope_theta = read_real(r, "rope.freq_base");
    f->num_layers = read_whole(r, "block_count");
    if (f->num_layers > MAX_LAYERS)
        r->status = tr_fail(r->err, TRUENO_ERR_INVALID_FEATURE, "key %s is %.17g, at most %d",
                            r->key, f->num_layers, MAX_LAYERS);
    if (r->status != TRUENO_OK || !(f->num_layers > 0)) return;
    f->intermediate_dim = read_feed_forward(r, (uint32_t)f->num_layers);
    read_attention(r, f, (uint32_t)f->num_layers);
}

/* ------------------------------------------------------------------------- sizes */

/* Sums over the tensors of a file. */
struct sizes {
    double weights;                          /* of all tensors */
    double matrix_weights, matrix_bytes;     /* of the matrices that passes multiply with */
    double token_weights, token_bytes;       /* of these, what one token uses */
    double bytes_of_type[TRUENO_TYPE_COUNT]; /* of these matrices */
};

static bool ends_with(trueno_str name, const char *end)
{
    const size_t n = strlen(end);
    return name.len >= n && memcmp(name.data + name.len - n, end, n) == 0;
}

static bool is_named(trueno_str name, const char *text)
{
    return name.len == strlen(text) && ends_with(name, text);
}

/* Tables are looked up, a row for each token; one that is the output matrix too is multiplied. */
static bool is_matrix(const trueno_gguf_tensor *t, bool tied)
{
    if (t->n_dims < 2 || t->ne[1] < 2 || !ends_with(t->name, ".weight")) return false;
    if (is_named(t->name, "token_embd.weight")) return tied;
    return !is_named(t->name, "position_embd.weight") && !is_named(t->name, "token_types.weight") &&
           !is_named(t->name, "per_layer_token_embd.weight");
}

static struct sizes sum_tensors(const trueno_gguf *g, bool tied, double expert_share)
{
    struct sizes s = {0};
    trueno_gguf_tensor t;
    for (size_t i = 0; trueno_gguf_tensor_at(g, i, &t) == TRUENO_OK; i++) {
        const double n = (double)t.ne[0] * (double)t.ne[1] * (double)t.ne[2] * (double)t.ne[3];
        const double share = ends_with(t.name, "_exps.weight") ? expert_share : 1;
        s.weights += n;
        if (!is_matrix(&t, tied)) continue;
        s.matrix_weights += n;
        s.matrix_bytes += (double)t.size_bytes;
        s.token_weights += share * n;
        s.token_bytes += share * (double)t.size_bytes;
        s.bytes_of_type[t.type] += (double)t.size_bytes;
    }
    return s;
}

static trueno_status set_quant(trueno_features *f, const struct sizes *s, trueno_error *err)
{
    trueno_quant quant;
    int most = 0;
    for (int i = 1; i < TRUENO_TYPE_COUNT; i++)
        if (s->bytes_of_type[i] > s->bytes_of_type[most]) most = i;
    if (s->matrix_weights <= 0)
        return tr_fail(err, TRUENO_ERR_NOT_FOUND, "the file has no weight matrices");
    if (trueno_quant_from_dtype(&quant, (trueno_dtype)most) != TRUENO_OK)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "most weights are %s, which has no kernels",
                       trueno_dtype_get_info((trueno_dtype)most)->name);
    trueno_features_set_quant(f, quant);
    const double nominal = f->bits_per_weight, mean = 8 * s->matrix_bytes / s->matrix_weights;
    if (mean >= 0.8 * nominal && mean <= 1.6 * nominal) f->bits_per_weight = mean;
    return TRUENO_OK;
}

trueno_status tr_env_model(trueno_features *f, const trueno_gguf *g, trueno_error *err)
{
    struct reader r = {.g = g, .err = err, .status = TRUENO_OK};
    read_geometry(&r, f);
    const double experts = read_whole(&r, "expert_count");
    const double used = read_whole(&r, "expert_used_count");
    if (r.status != TRUENO_OK) return r.status;

    const bool tied = trueno_gguf_find_tensor(g, "token_embd.weight") >= 0 &&
                      trueno_gguf_find_tensor(g, "output.weight") < 0;
    const bool sparse = used > 0 && used < experts;
    const struct sizes s = sum_tensors(g, tied, sparse ? used / experts : 1);
    f->model_params_b = s.weights / 1e9;
    f->tie_embeddings = tied;
    f->weight_bytes_per_pass = s.token_bytes;
    /* of a dense model the operations follow from its geometry, attention and all */
    if (sparse) f->flops_per_token = 2 * s.token_weights;
    return set_quant(f, &s, err);
}
