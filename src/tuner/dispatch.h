/* SPDX-License-Identifier: MIT */
/* What runs for which problem: a table of contexts that any thread reads without a lock, and how
 * measurements of one context change its entry.
 *
 * A slot is one context: the kernels that compete for it (its arms, the default first), the one
 * that runs, and the policy that compares them. Slots are added and never removed while the tuner
 * lives. To learn, a thread takes a slot: only the taker calls next and measured, others read the
 * pick. */
#ifndef TR_DISPATCH_H
#define TR_DISPATCH_H

#include "trueno/tuner.h"
#include "tuner/context.h"

enum { TR_MAX_ARMS = 8, TR_MAX_SLOTS = 1024 };

struct tr_slot;

/* The context that the tuner was made with. */
const trueno_ctx *tr_tuner_ctx(const trueno_tuner *t);

/* The slot of a problem, added if it is new. NULL: the table is full, or nothing computes p. */
struct tr_slot *tr_tuner_slot(trueno_tuner *t, const trueno_problem *p);

/* True if observations may change choices now: the mode is LEARN, and the tuner is not paused. */
bool tr_tuner_learns(const trueno_tuner *t);

/* The arm that runs. */
uint32_t tr_slot_pick(const struct tr_slot *slot);
const struct tr_kernel *tr_slot_kernel(const struct tr_slot *slot, uint32_t arm);

/* Takes the slot to learn from; false: there is nothing to choose, or somebody has it. */
bool tr_slot_take(struct tr_slot *slot);
void tr_slot_give(struct tr_slot *slot);

/* Whether its arms are being compared for the first time, or anew. By who has taken it. */
bool tr_slot_races(const struct tr_slot *slot);

/* Threads of a pass as chosen so far. */
uint32_t tr_tuner_threads(trueno_tuner *t, const trueno_problem *pass);

/* Counts n calls of the choice that nobody measures; false: they are to be measured, as something
 * is compared or is about to be. By who has taken it. */
bool tr_slot_serve(struct tr_slot *slot, uint64_t n);

/* In mode STRICT: there are several arms, and the store does not say which one runs. */
bool tr_slot_misses(const struct tr_slot *slot);

/* The arm that is to be run now: the pick, or one that is being compared with it. Each call is
 * followed by one of measured, before the next call. */
uint32_t tr_slot_next(struct tr_slot *slot);
void tr_slot_measured(struct tr_slot *slot, uint32_t arm, uint64_t cost);

/* What a call of so many columns (0: those of the context) that took ns would take for the most
 * columns of the slot's context: costs of one context are for the same work. */
uint64_t tr_slot_cost(const struct tr_slot *slot, uint64_t ns, uint64_t columns);

/* The clock by which sessions measure. */
uint64_t tr_tuner_now(const trueno_tuner *t);

#endif
