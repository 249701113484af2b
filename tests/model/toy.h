/* SPDX-License-Identifier: MIT */
/* Small random models of every architecture, built in memory, with one thing changed at will. */
#ifndef TR_TOY_H
#define TR_TOY_H

#include "trueno.h"

struct toy {
    const char *arch;
    trueno_dtype type; /* of all matrices */
    bool tied;
    uint32_t n_embd, n_head, n_head_kv, head_dim, n_ff, n_layer, n_vocab, n_ctx, window;
    uint32_t seed;
    const char *rope; /* NULL, "linear", "yarn", "llama3" or "longrope" */
    float attn_cap, final_cap;
    bool attn_bias;  /* also where the architecture does not demand it */
    bool head_array; /* head_count and head_count_kv as arrays, one value per layer */

    const char *drop_key;    /* left out, by suffix after "ARCH." or by whole name */
    const char *drop_tensor; /* left out */
    void (*extra_keys)(trueno_gguf_writer *w); /* called after the other keys */
    const char *shape_tensor;                  /* this tensor gets ... */
    uint64_t shape[2];                         /* ... this shape ... */
    trueno_dtype shape_type;                   /* ... and type */
    const char *extra_tensor;                  /* one more F32 tensor of 8 elements */
    const char *nan_tensor;                    /* its first bytes become a NaN */
};

/* The default toy of an architecture: GQA, 3 layers (gemma3: 13, so that there are two global
 * ones), F32. */
struct toy toy_default(const char *arch);

/* The five architectures; NULL past the end. */
const char *toy_arch(size_t index);

/* Writes the model and returns its bytes; the writer owns them and is freed by the caller. Fails
 * the running cmocka test if the writer fails. */
trueno_gguf_writer *toy_build(trueno_ctx *ctx, const struct toy *t);

/* The same, opened. Free in the order: gguf, writer. */
trueno_gguf *toy_open(trueno_ctx *ctx, const struct toy *t, trueno_gguf_writer **w);

/* The same, loaded; everything else is freed. */
trueno_model *toy_load(trueno_ctx *ctx, const struct toy *t);

/* n tokens that look random but are always the same. */
void toy_tokens(trueno_token *tokens, size_t n, uint32_t n_vocab, uint32_t seed);

/* NMSE = sum (a - b)^2 / sum b^2. */
double toy_nmse(const float *a, const double *b, size_t n);

#endif
