/* SPDX-License-Identifier: MIT */
/* One forward pass as its threads see it.
 *
 * A batch that makes one tile of columns (up to 8 tokens; decoding is one) is short work: every
 * thread keeps the residual stream, the norms and the packed activations for itself, the same bits
 * in each, and threads meet only where they need each other's outputs: five barriers a layer.
 * Larger batches share these too, split by tokens, which takes three more. */
#ifndef TR_PASS_H
#define TR_PASS_H

#include "model/session.h"

#include <stdatomic.h>

struct tr_pass {
    trueno_session *s;
    const trueno_model *m;
    const struct tr_buffers *b;
    const trueno_token *tokens;
    uint32_t n, pos, n_out, logits_row;
    bool alone;       /* one tile: each thread computes what all need for itself */
    atomic_bool stop; /* cancelled: set by thread 0 before a barrier, read by all after it */
    /* Who multiplies in a stage, NULL: each matrix' own kernel. Set by thread 0 before the barrier
     * that the stage begins with. */
    const struct tr_kernel *by[TR_STAGE_COUNT];
    bool timed;        /* thread 0 reads the clock at the barriers of stages */
    uint64_t began_ns; /* when the pass began, for a profile */
    uint64_t since_ns; /* when the current stage began; thread 0's */
};

/* A thread of the pass. x, h, acts: its own, or those that all share. */
struct tr_thread {
    struct tr_pass *p;
    uint32_t tid, n_threads;
    struct tr_worker w; /* memory of this thread */
    float *x, *h;
    uint8_t *const *acts;
};

/* Attention of layer l over the cache, for all tokens of the batch: att [T][H][D]. */
void tr_attend(const struct tr_thread *t, uint32_t l);

#endif
