/* SPDX-License-Identifier: MIT */
/* Which kernels a session runs and on how many threads, by the word of a tuner, and what its stages
 * take.
 *
 * Products of one shape and type are one kind. For the number of tokens of a batch each kind has a
 * slot of the tuner's table (tuner/dispatch.h), looked up when that number changes. In mode LEARN a
 * pass takes the slots that nobody else has, to learn from them: each layer may then have another
 * kernel, and layers are compared with one another. All kernels of a slot give the same bits. Once
 * they are decided, whole passes are compared with others on fewer threads; meanwhile kernels stay
 * as they are. */
#ifndef TR_PLAN_H
#define TR_PLAN_H

#include "model/weights.h"
#include "tuner/dispatch.h"

/* What a layer does between two of its barriers; each is a unit whose time can be told. */
enum tr_stage {
    TR_STAGE_QKV,     /* norm, q, k, v, rotation, cache */
    TR_STAGE_ATTEND,  /* attention */
    TR_STAGE_O,       /* output of attention */
    TR_STAGE_GATE_UP, /* norm, gate, up, activation */
    TR_STAGE_DOWN,    /* down projection */
    TR_STAGE_OUTPUT,  /* final norm, logits */
    TR_STAGE_COUNT
};

/* Distinct products of a model; one with more runs the others by their own kernels. */
enum { TR_PLAN_KINDS = 24 };

struct tr_stage_time {
    uint64_t calls, ns;
};

struct tr_plan {
    trueno_tuner *tuner; /* NULL: every matrix' own kernel */
    bool profile;        /* times are kept */
    uint32_t n_kinds;
    trueno_problem kinds[TR_PLAN_KINDS];
    uint32_t calls[TR_PLAN_KINDS]; /* products of each kind in a pass */
    uint8_t output;                /* kind of the output matrix; TR_PLAN_KINDS: none */
    uint8_t *kind_of;              /* [n_layer][TR_STAGE_COUNT]; TR_PLAN_KINDS: none */
    trueno_pass pass; /* the running one; its problem but for the number of tokens is the model's */
    uint64_t began_ns; /* when it began, where the tuner wants to know */
    bool undecided;    /* kernels of the last pass that learned are being compared */
    struct tr_slot *slots[TR_PLAN_KINDS];
    bool taken[TR_PLAN_KINDS]; /* for the length of a pass, to learn from */
    uint32_t n, n_out,
        n_threads; /* tokens, logits and threads that the slots are of; 0: none yet */
    uint32_t arms[TR_STAGE_COUNT]; /* of the slots, that run or will run next */
    struct tr_stage_time times[TR_STAGE_COUNT];
    uint64_t passes, tokens, decoded, decode_ns;
};

struct tr_pass;

/* Finds the kinds of m's products. `tuner` may be NULL. ERR_NO_MEMORY. */
trueno_status tr_plan_init(struct tr_plan *plan, const trueno_model *m, trueno_tuner *tuner,
                           uint32_t n_threads, bool profile, trueno_error *err);
void tr_plan_free(struct tr_plan *plan, trueno_ctx *ctx);

/* The bytes that tr_plan_init allocates. */
uint64_t tr_plan_bytes(const trueno_model *m);

/* Before a pass of n tokens and n_out rows of logits: its threads (plan->pass.threads) and the
 * slots of its products. ERR_STRICT_MISS. Each success is followed by tr_plan_leave. */
trueno_status tr_plan_enter(struct tr_plan *plan, uint32_t n, uint32_t n_out, trueno_error *err);
/* whole: it was not cancelled. */
void tr_plan_leave(struct tr_plan *plan, bool whole);

/* By the clock that stages are measured with. */
uint64_t tr_plan_now(const struct tr_plan *plan);

/* Before a pass's first layer: sets p->by of its first stage and p->timed. */
void tr_plan_begin(struct tr_plan *plan, struct tr_pass *p);

/* Who multiplies in a stage of layer l: NULL: each matrix' own kernel. */
const struct tr_kernel *tr_plan_kernel(struct tr_plan *plan, enum tr_stage stage, uint32_t l);

/* The pass is done; `whole`: it was not cancelled, and counts. */
void tr_plan_end(struct tr_plan *plan, const struct tr_pass *p, bool whole);

/* A stage of layer l is done: what it took goes to the profile and to its slot. */
void tr_plan_clock(struct tr_plan *plan, struct tr_pass *p, enum tr_stage stage, uint32_t l);

#endif
