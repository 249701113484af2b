/* SPDX-License-Identifier: MIT */
/* Persistent thread pool. A run executes one function on all threads at once; inside it threads
 * meet at barriers. Waiting spins for a bounded time (about 50 us; after the first few, or when
 * there are more threads than CPUs, with yields), then sleeps. A worker that finds itself on the
 * CPU of another thread of the pool moves away; nobody is pinned.
 *
 *     static void work(void *arg, uint32_t tid, uint32_t n) { ...; tr_pool_barrier(pool); ... }
 *     tr_pool_run(pool, work, arg);
 *
 * Work is split by outputs, never along a sum, so results do not depend on the number of threads.
 */
#ifndef TR_THREAD_H
#define TR_THREAD_H

#include "trueno/kernels.h"

typedef void (*tr_pool_fn)(void *arg, uint32_t tid, uint32_t n_threads);

/* What trueno_pool_new(n_threads) adds to the context's memory counter. */
uint64_t tr_pool_bytes(uint32_t n_threads);

/* Runs fn on every thread of the pool, the caller as tid 0; returns when all are done. `pool` NULL:
 * on the caller alone. Not reentrant. */
void tr_pool_run(trueno_pool *pool, tr_pool_fn fn, void *arg);

/* The same on the first n_threads of them (0, or more than there are: all); the others stay asleep.
 */
void tr_pool_run_on(trueno_pool *pool, uint32_t n_threads, tr_pool_fn fn, void *arg);

/* All threads of the running call meet here; everything written before is visible after. `pool`
 * NULL: nothing. */
void tr_pool_barrier(trueno_pool *pool);

/* The next of `count` tickets of the running call, or `count` when they are gone: dynamic sharing
 * of work. Tickets start at 0 at the start of a run and after each tr_pool_barrier. `pool` NULL is
 * not allowed. */
size_t tr_pool_ticket(trueno_pool *pool, size_t count);

/* Units of work of one stage, shared by all threads of a run: seven eighths of them in contiguous
 * parts, as memory likes best; the rest by ticket, for who comes first, so that a thread that was
 * held up does not hold up the others. One stage between two barriers.
 *
 *     struct tr_share share = tr_share_of(pool, n_units, tid, n_threads);
 *     for (size_t u; tr_share_next(&share, &u);) ...
 *
 * `pool` NULL: all in contiguous parts. */
struct tr_share {
    trueno_pool *pool;
    size_t next, end;        /* own part */
    size_t by_ticket, count; /* [by_ticket, count) */
};
struct tr_share tr_share_of(trueno_pool *pool, size_t count, uint32_t tid, uint32_t n_threads);
bool tr_share_next(struct tr_share *share, size_t *unit);

/* The contiguous part of [0, n) that thread tid of n_threads owns, in multiples of `grain` (the
 * last part may be shorter). Parts differ by at most one grain. */
void tr_split(size_t *begin, size_t *end, size_t n, size_t grain, uint32_t tid, uint32_t n_threads);

#endif
