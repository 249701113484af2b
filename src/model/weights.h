/* SPDX-License-Identifier: MIT */
/* The weights of a model: which tensor of the file is which part of the network, each shape checked
 * once, all packed into one arena; or, of mapped weights, the matrices left in the file. */
#ifndef TR_WEIGHTS_H
#define TR_WEIGHTS_H

#include "model/hparams.h"
#include "simd/matrix.h"
#include "trueno/model.h"

/* One transformer block. Matrices are [rows = outputs, cols = inputs]; vectors are NULL where the
 * architecture or the file has none. */
struct tr_layer {
    const float *attn_norm, *ffn_norm;           /* [n_embd] */
    const float *q_norm, *k_norm;                /* [head_dim] */
    const float *post_attn_norm, *post_ffn_norm; /* [n_embd] */
    const float *q_bias, *k_bias, *v_bias;       /* as the rows of q, k, v */
    const float *o_bias;                         /* [n_embd] */
    struct tr_matrix q, k, v;                    /* [n_head(_kv) * head_dim, n_embd] */
    struct tr_matrix o;                          /* [n_embd, n_head * head_dim] */
    struct tr_matrix gate, up;                   /* [n_ff, n_embd] */
    struct tr_matrix down;                       /* [n_embd, n_ff] */
};

struct trueno_model {
    trueno_ctx *ctx; /* one reference */
    struct tr_hparams hp;
    struct tr_layer *layers;             /* [n_layer] */
    struct tr_matrix embd, output;       /* [n_vocab, n_embd]; the same data if tied */
    const float *output_norm;            /* [n_embd] */
    const float *output_bias;            /* [n_vocab] or NULL */
    const float *rope_freqs;             /* [n_rot / 2] or NULL: divisors of the frequencies */
    const float *rope_long, *rope_short; /* the same, by length of the context */
    void *arena;                         /* all of the above; NULL in a plan */
    size_t arena_bytes;
    bool mapped;       /* matrices stay in the file */
    trueno_gguf *file; /* then: one reference; NULL in a plan */
    trueno_model_info info;
};

/* One piece of the arena and where its bytes come from. */
struct tr_item {
    size_t tensor;             /* index in the file */
    uint64_t src_offset_bytes; /* within the tensor */
    uint64_t dst_offset_bytes; /* within the arena */
    struct tr_matrix *matrix;  /* this, or ... */
    const float **vector;      /* ... this is to be filled in */
    size_t n;                  /* elements of a vector */
};

struct tr_items {
    struct tr_item *items;
    size_t count, cap;
    uint64_t arena_bytes;
};

/* Finds and checks every tensor; fills in the shapes and kernels of m's matrices (their data stays
 * NULL) and m->info. m->hp, m->layers and m->mapped are set before. The caller frees list->items.
 */
trueno_status tr_weights_bind(trueno_model *m, struct tr_items *list, const trueno_gguf *g,
                              trueno_error *err);

/* Packs all items into m->arena (list->arena_bytes) with the threads of `pool`; mapped matrices are
 * only pointed to. */
trueno_status tr_weights_fill(trueno_model *m, const struct tr_items *list, const trueno_gguf *g,
                              trueno_pool *pool, bool check_finite, trueno_error *err);

#endif
