/* SPDX-License-Identifier: MIT */
/* Inside of a session: one arena, cut up once, and the kernels chosen for the machine. */
#ifndef TR_SESSION_H
#define TR_SESSION_H

#include "model/plan.h"
#include "model/weights.h"

#include <stdatomic.h>

/* Shape of a session with all defaults filled in. */
struct tr_session_shape {
    uint32_t n_ctx;   /* as asked for */
    uint32_t ctx_pad; /* rounded up to whole K panels */
    uint32_t n_batch, n_logits, n_threads;
    trueno_dtype kv_type; /* F16, F32, BF16 or Q8_0 */
};

/* A unit of the feed-forward stage: rows of gate and up, and columns; of a batch that is one tile
 * (pass.h), rows. A block of K-quants is 256 rows. */
#define TR_FF_ROWS       256
#define TR_FF_COLS       64
#define TR_FF_ROWS_ALONE 64

/* Memory of one thread. N: columns of a tile, 8. */
struct tr_worker {
    float *x, *h;                /* [N][n_embd], where each thread has its own */
    float *row;                  /* [n_embd] */
    float *attn;                 /* attention: 2 x [TR_ATTN_QUERIES][head_dim] */
    float *gate, *up;            /* [TR_FF_COLS][TR_FF_ROWS], or fewer in smaller batches */
    uint8_t *tile;               /* TR_FF_ROWS rows of N columns, packed */
    uint8_t *acts[TR_ACT_COUNT]; /* N packed columns, by kind */
    uint8_t *scratch;            /* of products and of embedding rows */
};

/* Everything the forward pass reads and writes; T = tokens of the batch, all rows 64-byte aligned
 * only at their first element. */
struct tr_buffers {
    float *x;                    /* [T][n_embd] the residual stream */
    float *h;                    /* [T][n_embd] normed input of a branch */
    float *branch;               /* [T][n_embd] output of a branch */
    float *q;                    /* [T][max_head * head_dim] */
    float *k, *v;                /* [T][max_head_kv * head_dim] */
    float *att;                  /* [T][max_head * head_dim] */
    float *parts;                /* [chunks][max_head][2 + head_dim] attention of a single token */
    atomic_uint *chunks_done;    /* [max_head] of a single token, by the first of some heads */
    float *ff;                   /* [N][max_ff] input of the down projection, of one tile */
    uint8_t *acts[TR_ACT_COUNT]; /* packed activations, by kind; NULL where no matrix reads it */
    uint8_t *ff_acts;            /* those of the down projection */
    float *cos[2], *sin[2];      /* [T][n_rot / 2]; [1]: local layers */
    double *freq[2];             /* [n_rot / 2] */
    float *logits;               /* [n_logits][n_vocab] */
    struct tr_worker *workers;   /* [n_threads] */
    uint8_t *kv;                 /* KV cache: per layer K of all heads, then V of all heads */
    size_t kv_bytes, total_bytes;
};

struct trueno_session {
    trueno_ctx *ctx; /* one reference */
    const trueno_model *m;
    trueno_pool *pool;
    struct tr_session_shape shape;
    struct tr_buffers buf;
    void *arena;
    uint8_t **k_cache, **v_cache; /* [n_layer] -> [n_head_kv] caches (kernel.h) */
    size_t kv_head_bytes;         /* from one head's cache to the next */
    double rope_magnitude[2];
    uint32_t n_past, logits_first,
        logits_count; /* rows of logits: tokens first.. of the last eval */
    uint32_t last_n;  /* tokens of the last eval */
    bool busy;
    struct tr_plan plan;
    tr_rmsnorm_fn rmsnorm;
    tr_glu_fn glu;
    tr_rope_fn rope;
    tr_kv_store_fn kv_store;
    tr_attn_fn attention;
    tr_attn_merge_fn attn_merge;
    trueno_error error;
};

/* Fills in defaults and checks. */
trueno_status tr_session_shape_of(struct tr_session_shape *shape, const trueno_model *m,
                                  const trueno_session_options *opt, trueno_error *err);

/* Cuts the arena: pointers relative to `base` (NULL to plan) and sizes. False if it does not fit.
 */
bool tr_session_layout(struct tr_buffers *b, const trueno_model *m,
                       const struct tr_session_shape *shape, void *base);

/* The KV and compute parts of an estimate. */
trueno_status tr_session_estimate(trueno_estimate *out, const trueno_model *m,
                                  const trueno_session_options *opt, trueno_error *err);

/* One batch: tokens[n] at positions n_past.. ; logits of the last n_out of them go to rows
 * logits_row.. . True unless it was cancelled. Does not change n_past. */
bool tr_forward(trueno_session *s, const trueno_token *tokens, uint32_t n, uint32_t pos,
                uint32_t n_out, uint32_t logits_row);

#endif
