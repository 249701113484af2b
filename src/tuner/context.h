/* SPDX-License-Identifier: MIT */
/* Contexts: problems whose measurements count for each other. */
#ifndef TR_CONTEXT_H
#define TR_CONTEXT_H

#include "simd/kernel.h"
#include "trueno/choice.h"

enum { TR_M_BUCKETS = 28 };

/* Bucket of m >= 1 vectors, 0 .. TR_M_BUCKETS - 1: 1 to 16 each for itself, then by upper edges
 * (choice.h). */
uint32_t tr_m_bucket(uint32_t m);
/* Most vectors of a bucket; UINT32_MAX for the last one. */
uint32_t tr_m_bucket_edge(uint32_t bucket);

/* The phase of a pass of so many tokens, and of its products: what makes one tile is decoding. */
static inline trueno_phase tr_phase_of(uint32_t n_tokens)
{
    return n_tokens <= TR_NT_MAX ? TRUENO_PHASE_DECODE : TRUENO_PHASE_PREFILL;
}

/* ERR_ARGUMENT, naming the field, if p is no problem. */
trueno_status tr_problem_check(const trueno_problem *p, trueno_error *err);

/* The product that takes most of a run's time: the feed-forward's, of the features' weight type,
 * with the columns of one pass. Features as resolved (features.h); threads from cpu_threads. */
trueno_status tr_problem_of(trueno_problem *out, const trueno_features *f, trueno_error *err);

/* The registry rows that may compute p, a product, in this context, all with the same bits, the
 * default (what runs if nobody chooses) first, then in the registry's order. Returns how many of
 * them there are; writes at most cap. 0: nothing here computes it. */
size_t tr_candidates(const struct tr_kernel **out, size_t cap, const trueno_ctx *ctx,
                     const trueno_problem *p);

/* What a pass with so many threads is called where a kernel would have its name: "threads-4". */
enum { TR_THREADS_NAME = 20 };
void tr_threads_name(char name[TR_THREADS_NAME], uint32_t threads);
/* And back; 0: it is no such name. */
uint32_t tr_threads_named(const char *name);

/* Family of a row that is used for m columns: of a pair the second from four columns on. */
trueno_kernel tr_family_of(const struct tr_kernel *k, uint32_t m);

#endif
