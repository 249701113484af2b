/* SPDX-License-Identifier: MIT */
/* A test bed of one problem: times single products whose weights come from memory. Each call takes
 * the next one of a ring of copies that no cache holds; activations stay in the cache, as they do
 * in a model. */
#ifndef TR_BED_H
#define TR_BED_H

#include "base/clock.h"
#include "base/thread.h"
#include "simd/kernel.h"
#include "trueno/choice.h"

struct tr_bed;

/* Packs random weights of the problem with all threads of the pool (p->threads of them).
 * ring_bytes: of all copies together, at most, but there is one at least. ERR_ARGUMENT;
 * ERR_UNSUPPORTED (weights that cannot be encoded or run); ERR_NO_MEMORY. */
trueno_status tr_bed_new(struct tr_bed **out, trueno_ctx *ctx, const trueno_problem *p,
                         trueno_pool *pool, uint64_t ring_bytes, trueno_error *err);
void tr_bed_free(struct tr_bed *b);

/* Nanoseconds, by that clock, of one product by a kernel that may compute the problem
 * (tr_candidates); 1 or more. */
uint64_t tr_bed_time(struct tr_bed *b, const struct tr_kernel *k, const struct tr_clock *clock);

/* Bytes of weights that one product reads, and of all copies. */
uint64_t tr_bed_bytes(const struct tr_bed *b);
uint64_t tr_bed_ring_bytes(const struct tr_bed *b);

#endif
