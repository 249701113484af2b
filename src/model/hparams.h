/* SPDX-License-Identifier: MIT */
/* Hyper-parameters: what the metadata of a file says about its network, checked. Nothing after this
 * reads the file's keys again. Names of keys: GGUF specification; `A` is general.architecture. */
#ifndef TR_HPARAMS_H
#define TR_HPARAMS_H

#include "trueno/gguf.h"

enum tr_arch_id { TR_ARCH_LLAMA, TR_ARCH_QWEN2, TR_ARCH_QWEN3, TR_ARCH_GEMMA3, TR_ARCH_PHI3 };

/* How an architecture differs from the others; one row per architecture in hparams.c. */
struct tr_arch {
    const char *name; /* value of general.architecture */
    enum tr_arch_id id;
    bool rope_neox;       /* rotated pairs are (i, i + n_rot/2), else (2i, 2i + 1) */
    bool qk_norm;         /* RMS norm of each query and key head before RoPE */
    bool qkv_bias;        /* attn_q/k/v.bias must be there (elsewhere they are optional) */
    bool fused;           /* attn_qkv and ffn_up hold several matrices, one above the other */
    bool post_norms;      /* a norm after each branch, before the residual addition */
    bool geglu;           /* gelu_tanh(gate) * up, else silu(gate) * up */
    bool embd_scale;      /* token embeddings times sqrt(n_embd) */
    bool partial_rope;    /* n_rot may be smaller than the head */
    uint32_t swa_pattern; /* 0: no layer has a window by default; 1: all; n: all but every n-th */
};

enum tr_rope_scaling { TR_ROPE_NONE, TR_ROPE_LINEAR, TR_ROPE_YARN, TR_ROPE_LONGROPE };

struct tr_layer_hparams {
    uint32_t n_head, n_head_kv, n_ff;
    bool local; /* sliding window, and the local RoPE base where there are two */
};

struct tr_hparams {
    const struct tr_arch *arch;
    uint32_t n_vocab, n_ctx_train, n_embd, n_layer, head_dim, n_rot;
    struct tr_layer_hparams *layers; /* [n_layer], owned */
    uint32_t max_head, max_head_kv, max_ff;
    float eps;        /* of every RMS norm */
    float attn_scale; /* scores are multiplied by it */
    float embd_scale; /* 1 or sqrt(n_embd) */
    float attn_cap;   /* soft caps; 0: none */
    float final_cap;
    uint32_t window; /* keys that a local layer sees, the token itself included; 0: all */

    enum tr_rope_scaling rope_scaling;
    double rope_base, rope_base_local; /* global and local layers */
    double rope_factor;                /* positions are divided by it (global layers) */
    double rope_attn_factor;           /* cos and sin are multiplied by it */
    uint32_t rope_orig_ctx;
    double yarn_ext, yarn_attn, yarn_beta_fast, yarn_beta_slow;
};

/* Reads and checks everything. On success the caller frees with tr_hparams_free; on failure there
 * is nothing to free. */
trueno_status tr_hparams_read(struct tr_hparams *hp, const trueno_gguf *g, trueno_error *err);
void tr_hparams_free(struct tr_hparams *hp, trueno_ctx *ctx);

#endif
