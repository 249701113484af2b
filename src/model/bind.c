/* SPDX-License-Identifier: MIT */
/* Names to tensors: what an architecture needs is looked up and its shape compared, once. */
#include "model/weights.h"

#include "base/error.h"
#include "base/mem.h"
#include "trueno/quantize.h"

#include <stdio.h>
#include <string.h>

/* State of one binding. Like the reader of hparams.c: after the first error all calls do nothing.
 */
struct binder {
    trueno_model *m;
    struct tr_items *list;
    const trueno_gguf *g;
    trueno_error *err;
    trueno_status status;
    char name[96];
};

static const char *layer_name(struct binder *b, uint32_t layer, const char *part)
{
    (void)snprintf(b->name, sizeof b->name, "blk.%u.%s", layer, part);
    return b->name;
}

static void add_item(struct binder *b, struct tr_item item, uint64_t bytes)
{
    struct tr_items *l = b->list;
    if (l->count == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct tr_item *grown = tr_realloc(b->m->ctx, l->items, cap * sizeof *grown);
        if (grown == NULL) {
            b->status = tr_fail(b->err, TRUENO_ERR_NO_MEMORY, "no memory for the tensor list");
            return;
        }
        l->items = grown;
        l->cap = cap;
    }
    item.dst_offset_bytes = l->arena_bytes;
    if (!tr_add(&l->arena_bytes, l->arena_bytes, bytes) ||
        !tr_align_up(&l->arena_bytes, l->arena_bytes, 64) || l->arena_bytes > SIZE_MAX / 2) {
        b->status = tr_fail(b->err, TRUENO_ERR_TOO_LARGE, "the weights do not fit in memory");
        return;
    }
    l->items[l->count++] = item;
}

/* Looks a tensor up and compares its shape with [ne0, ne1]. False if it is absent (and, if
 * required, that is an error) or wrong. */
static bool find_tensor(struct binder *b, size_t *index, trueno_gguf_tensor *t, const char *name,
                        uint64_t ne0, uint64_t ne1, bool required)
{
    if (b->status != TRUENO_OK) return false;
    ptrdiff_t i = trueno_gguf_find_tensor(b->g, name);
    if (i < 0) {
        if (required)
            b->status = tr_fail(b->err, TRUENO_ERR_NOT_FOUND, "tensor %s is missing", name);
        return false;
    }
    *index = (size_t)i;
    (void)trueno_gguf_tensor_at(b->g, *index, t);
    if (t->ne[0] == ne0 && t->ne[1] == ne1 && t->ne[2] == 1 && t->ne[3] == 1) return true;
    b->status = tr_fail(b->err, TRUENO_ERR_CORRUPT,
                        "tensor %s has shape [%llu, %llu, %llu, %llu], expected [%llu, %llu]", name,
                        (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                        (unsigned long long)t->ne[2], (unsigned long long)t->ne[3],
                        (unsigned long long)ne0, (unsigned long long)ne1);
    return false;
}

static void bind_vector(struct binder *b, const float **out, const char *name, size_t n,
                        bool required)
{
    size_t index;
    trueno_gguf_tensor t;
    if (!find_tensor(b, &index, &t, name, n, 1, required)) return;
    if (t.type != TRUENO_TYPE_F32) {
        b->status = tr_fail(b->err, TRUENO_ERR_CORRUPT, "tensor %s has type %s, expected F32", name,
                            trueno_dtype_get_info(t.type)->name);
        return;
    }
    add_item(b, (struct tr_item){index, 0, 0, NULL, out, n}, 4 * (uint64_t)n);
}

/* Rows [row0, row0 + rows) of a tensor with `total` rows. */
static bool bind_rows(struct binder *b, struct tr_matrix *w, const char *name, size_t cols,
                      size_t total, size_t row0, size_t rows, bool required)
{
    size_t index;
    trueno_gguf_tensor t;
    uint64_t bytes = 0;
    if (!find_tensor(b, &index, &t, name, cols, total, required)) return false;
    if (!trueno_dtype_get_info(t.type)->can_run) {
        b->status = tr_fail(b->err, TRUENO_ERR_UNSUPPORTED, "tensor %s: no kernels for type %s",
                            name, trueno_dtype_get_info(t.type)->name);
        return false;
    }
    b->status = tr_matrix_init(w, NULL, t.type, rows, cols, b->m->ctx, b->err);
    if (b->status != TRUENO_OK) return false;
    if (!tr_matrix_bytes(&bytes, t.type, rows, cols)) {
        b->status = tr_fail(b->err, TRUENO_ERR_TOO_LARGE, "tensor %s is too large", name);
        return false;
    }
    if (b->m->mapped) {
        tr_matrix_set_mapped(w, NULL);
        bytes = 0;
    }
    uint64_t skip = (uint64_t)row0 * trueno_row_bytes(t.type, cols);
    add_item(b, (struct tr_item){index, skip, 0, w, NULL, 0}, bytes);
    return b->status == TRUENO_OK;
}

static void bind_matrix(struct binder *b, struct tr_matrix *w, const char *name, size_t cols,
                        size_t rows)
{
    (void)bind_rows(b, w, name, cols, rows, 0, rows, true);
}

/* A bias that the forward pass does not add would give silently wrong text. */
static void refuse_bias(struct binder *b, uint32_t layer, const char *part)
{
    if (b->status != TRUENO_OK || trueno_gguf_find_tensor(b->g, layer_name(b, layer, part)) < 0)
        return;
    b->status = tr_fail(b->err, TRUENO_ERR_UNSUPPORTED, "tensor %s is not supported", b->name);
}

static void bind_attention(struct binder *b, struct tr_layer *y, uint32_t l)
{
    const struct tr_hparams *hp = &b->m->hp;
    size_t n_embd = hp->n_embd;
    size_t q = (size_t)hp->layers[l].n_head * hp->head_dim;
    size_t kv = (size_t)hp->layers[l].n_head_kv * hp->head_dim;
    bool bias = hp->arch->qkv_bias;

    bind_vector(b, &y->attn_norm, layer_name(b, l, "attn_norm.weight"), n_embd, true);
    if (hp->arch->fused) {
        const char *name = layer_name(b, l, "attn_qkv.weight");
        (void)bind_rows(b, &y->q, name, n_embd, q + 2 * kv, 0, q, true);
        (void)bind_rows(b, &y->k, name, n_embd, q + 2 * kv, q, kv, true);
        (void)bind_rows(b, &y->v, name, n_embd, q + 2 * kv, q + kv, kv, true);
        refuse_bias(b, l, "attn_qkv.bias");
    } else {
        bind_matrix(b, &y->q, layer_name(b, l, "attn_q.weight"), n_embd, q);
        bind_matrix(b, &y->k, layer_name(b, l, "attn_k.weight"), n_embd, kv);
        bind_matrix(b, &y->v, layer_name(b, l, "attn_v.weight"), n_embd, kv);
        bind_vector(b, &y->q_bias, layer_name(b, l, "attn_q.bias"), q, bias);
        bind_vector(b, &y->k_bias, layer_name(b, l, "attn_k.bias"), kv, bias);
        bind_vector(b, &y->v_bias, layer_name(b, l, "attn_v.bias"), kv, bias);
    }
    if (hp->arch->qk_norm) {
        bind_vector(b, &y->q_norm, layer_name(b, l, "attn_q_norm.weight"), hp->head_dim, true);
        bind_vector(b, &y->k_norm, layer_name(b, l, "attn_k_norm.weight"), hp->head_dim, true);
    }
    bind_matrix(b, &y->o, layer_name(b, l, "attn_output.weight"), q, n_embd);
    bind_vector(b, &y->o_bias, layer_name(b, l, "attn_output.bias"), n_embd, false);
    if (hp->arch->post_norms)
        bind_vector(b, &y->post_attn_norm, layer_name(b, l, "post_attention_norm.weight"), n_embd,
                    true);
}

static void bind_ffn(struct binder *b, struct tr_layer *y, uint32_t l)
{
    const struct tr_hparams *hp = &b->m->hp;
    size_t n_embd = hp->n_embd, n_ff = hp->layers[l].n_ff;

    bind_vector(b, &y->ffn_norm, layer_name(b, l, "ffn_norm.weight"), n_embd, true);
    if (hp->arch->fused) {
        const char *name = layer_name(b, l, "ffn_up.weight");
        (void)bind_rows(b, &y->gate, name, n_embd, 2 * n_ff, 0, n_ff, true);
        (void)bind_rows(b, &y->up, name, n_embd, 2 * n_ff, n_ff, n_ff, true);
    } else {
        bind_matrix(b, &y->gate, layer_name(b, l, "ffn_gate.weight"), n_embd, n_ff);
        bind_matrix(b, &y->up, layer_name(b, l, "ffn_up.weight"), n_embd, n_ff);
    }
    bind_matrix(b, &y->down, layer_name(b, l, "ffn_down.weight"), n_ff, n_embd);
    if (hp->arch->post_norms)
        bind_vector(b, &y->post_ffn_norm, layer_name(b, l, "post_ffw_norm.weight"), n_embd, true);
    refuse_bias(b, l, "ffn_gate.bias");
    refuse_bias(b, l, "ffn_up.bias");
    refuse_bias(b, l, "ffn_down.bias");
}

static void bind_outer(struct binder *b)
{
    trueno_model *m = b->m;
    const struct tr_hparams *hp = &m->hp;
    size_t n_rot2 = hp->n_rot / 2;

    bind_matrix(b, &m->embd, "token_embd.weight", hp->n_embd, hp->n_vocab);
    bind_vector(b, &m->output_norm, "output_norm.weight", hp->n_embd, true);
    bool own =
        bind_rows(b, &m->output, "output.weight", hp->n_embd, hp->n_vocab, 0, hp->n_vocab, false);
    m->info.tied_embeddings = !own;
    if (!own) m->output = m->embd;
    bind_vector(b, &m->output_bias, "output.bias", hp->n_vocab, false);
    bind_vector(b, &m->rope_freqs, "rope_freqs.weight", n_rot2, false);
    bind_vector(b, &m->rope_long, "rope_factors_long.weight", n_rot2, false);
    bind_vector(b, &m->rope_short, "rope_factors_short.weight", n_rot2, false);
    if (b->status != TRUENO_OK || hp->rope_scaling != TR_ROPE_LONGROPE) return;
    const trueno_gguf *g = b->g;
    if (trueno_gguf_find_tensor(g, "rope_factors_long.weight") < 0 ||
        trueno_gguf_find_tensor(g, "rope_factors_short.weight") < 0)
        b->status = tr_fail(b->err, TRUENO_ERR_NOT_FOUND,
                            "tensors rope_factors_long.weight and rope_factors_short.weight are "
                            "missing, but %s.rope.scaling.type is longrope",
                            hp->arch->name);
}

/* Facts about the file as a whole. */
static void fill_info(trueno_model *m, const trueno_gguf *g)
{
    trueno_model_info *info = &m->info;
    const struct tr_hparams *hp = &m->hp;
    uint64_t by_type[TRUENO_TYPE_COUNT] = {0};
    trueno_str name = {NULL, 0};
    trueno_gguf_tensor t;
    size_t most = 0;

    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++) {
        (void)trueno_gguf_tensor_at(g, i, &t);
        info->n_params += t.ne[0] * t.ne[1] * t.ne[2] * t.ne[3];
        info->weight_bytes += t.size_bytes;
        by_type[t.type] += t.size_bytes;
    }
    for (size_t i = 1; i < TRUENO_TYPE_COUNT; i++)
        if (by_type[i] > by_type[most]) most = i;
    (void)snprintf(info->type, sizeof info->type, "%s",
                   trueno_dtype_get_info((trueno_dtype)most)->name);
    (void)snprintf(info->architecture, sizeof info->architecture, "%s", hp->arch->name);
    (void)trueno_gguf_get_str(g, "general.name", &name, NULL);
    if (name.data != NULL)
        (void)snprintf(info->name, sizeof info->name, "%.*s",
                       (int)(name.len < sizeof info->name ? name.len : sizeof info->name - 1),
                       name.data);
    info->n_vocab = hp->n_vocab;
    info->n_ctx_train = hp->n_ctx_train;
    info->n_embd = hp->n_embd;
    info->n_layer = hp->n_layer;
    info->n_head = hp->layers[0].n_head;
    info->n_head_kv = hp->layers[0].n_head_kv;
    info->n_ff = hp->layers[0].n_ff;
    info->head_dim = hp->head_dim;
    info->sliding_window = hp->window;
}

trueno_status tr_weights_bind(trueno_model *m, struct tr_items *list, const trueno_gguf *g,
                              trueno_error *err)
{
    struct binder b = {m, list, g, err, TRUENO_OK, {0}};
    bind_outer(&b);
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        bind_attention(&b, &m->layers[l], l);
        bind_ffn(&b, &m->layers[l], l);
    }
    if (b.status == TRUENO_OK) fill_info(m, g);
    return b.status;
}
