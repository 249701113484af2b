/* SPDX-License-Identifier: MIT */
/* The thread pool: two gates (start of a run, end of a run), a barrier inside a run, and a ticket
 * counter. A gate is a counter that waiters watch, first spinning, then asleep on a futex. */
#include "base/thread.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"

enum {
    MAX_THREADS = 1024,
    LINE = 64,       /* bytes of a cache line: counters apart, so that they do not fight */
    SPIN_NS = 50000, /* then sleep */
    PAUSES = 64,     /* of the CPU, before the first yield: 1 to 4 us */
    STACK_BYTES = 1 << 20
};

/* `opened` counts up; `sleepers` tells the opener whether a wake-up call is worth a system call. */
struct gate {
    _Alignas(LINE) atomic_uint opened;
    atomic_uint sleepers;
};

/* The gate at the start of a run. A run may be on some threads alone, and the others must neither
 * be woken nor miss how many runs there were, however long they sleep: so the run's number and how
 * many threads it is on are one word, and sleepers are woken by groups of their tid. */
struct start {
    _Alignas(LINE) _Atomic uint64_t run; /* number << RUN_SHIFT | threads */
    atomic_uint opened;                  /* counts with it, for the futex */
    atomic_uint sleepers;
};
enum { RUN_SHIFT = 11 }; /* threads are at most MAX_THREADS */

struct worker {
    trueno_pool *pool;
    pthread_t thread;
    uint32_t tid;
};

/* Where a thread was when it last looked; one line each, written by that thread alone. */
struct place {
    _Alignas(LINE) atomic_int cpu;
};

struct trueno_pool {
    trueno_ctx *ctx;
    size_t size_bytes; /* of this allocation */
    uint32_t n_threads;
    uint32_t n_active;  /* threads of the running call */
    uint32_t n_workers; /* threads to join; n_threads - 1 except in a forked child */
    pid_t pid;          /* of the process that has the threads */
    bool yields;        /* more threads than CPUs */
    bool stop;
    tr_pool_fn fn; /* of the running call; published by `start` */
    void *arg;
    struct start start;
    struct gate end, barrier;
    _Alignas(LINE) atomic_uint running; /* workers that have not finished the call */
    _Alignas(LINE) atomic_uint arrived; /* threads at the barrier */
    _Alignas(LINE) atomic_size_t ticket;
    struct place *places; /* [n_threads], behind the workers */
    _Alignas(LINE) struct worker workers[];
};

/* A worker knows its pool and its number there; in any other pool a thread is the caller, 0. */
struct self {
    const trueno_pool *pool;
    uint32_t tid;
    uint32_t looks;     /* how often it has looked at others */
    uint64_t next_move; /* not before this time, in ns */
};
static __thread struct self self;

/* --------------------------------------------------------------------- gates */

static void cpu_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* True as soon as the gate was opened; false when the time to spin is over. A thread that has not
 * come after a few microseconds may be waiting for this very CPU, so the rest is yields: they cost
 * next to nothing when no one else is ready, and on a busy machine they are what lets it come. */
static bool gate_spin(struct gate *g, uint32_t seen, bool yields)
{
    for (int i = yields ? PAUSES : 0; i < PAUSES; i++) {
        if (atomic_load_explicit(&g->opened, memory_order_acquire) != seen) return true;
        cpu_pause();
    }
    const uint64_t limit = tr_now_ns() + SPIN_NS;
    do {
        if (atomic_load_explicit(&g->opened, memory_order_acquire) != seen) return true;
        sched_yield();
    } while (tr_now_ns() < limit);
    return false;
}

/* Waits until the count is no longer `seen`. */
static void gate_wait(struct gate *g, uint32_t seen, bool yields)
{
    if (gate_spin(g, seen, yields)) return;
    /* Sequentially consistent with gate_open: either the opener sees the sleeper, or the sleeper
     * (the kernel compares before it sleeps) sees the new count. */
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->opened) == seen)
        syscall(SYS_futex, &g->opened, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_open(struct gate *g)
{
    atomic_fetch_add(&g->opened, 1);
    if (atomic_load(&g->sleepers))
        syscall(SYS_futex, &g->opened, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* -------------------------------------------------------------- start of a run */

/* The group of a worker, a bit of the futex: tids 1, 2 to 3, 4 to 7 and so on. */
static uint32_t group_of(uint32_t tid)
{
    return 1U << (31 - (uint32_t)__builtin_clz(tid));
}

/* Groups that have a worker among the first n threads. */
static uint32_t groups_below(uint32_t n)
{
    return n > 1 ? 2 * group_of(n - 1) - 1 : 0;
}

/* True if a run has begun since the one that was `seen`; `mine`: it is also on thread tid. */
static bool has_begun(const struct start *s, uint64_t *seen, uint32_t tid, bool *mine)
{
    const uint64_t run = atomic_load_explicit(&s->run, memory_order_acquire);
    if (run == *seen) return false;
    *seen = run;
    *mine = (run & ((1U << RUN_SHIFT) - 1)) > tid;
    return true;
}

/* Spins for a bounded time. True: a run on this thread has begun. */
static bool start_spin(const struct start *s, uint64_t *seen, uint32_t tid, bool yields)
{
    bool mine = false;
    for (int i = yields ? PAUSES : 0; i < PAUSES; i++) {
        if (has_begun(s, seen, tid, &mine) && mine) return true;
        cpu_pause();
    }
    const uint64_t limit = tr_now_ns() + SPIN_NS;
    do {
        if (has_begun(s, seen, tid, &mine) && mine) return true;
        sched_yield();
    } while (tr_now_ns() < limit);
    return false;
}

/* Waits until a run on this thread begins; *seen is then that run's word. */
static void start_wait(struct start *s, uint64_t *seen, uint32_t tid, bool yields)
{
    bool mine = false;
    if (start_spin(s, seen, tid, yields)) return;
    atomic_fetch_add(&s->sleepers, 1);
    for (;;) {
        /* `opened` is read before the run: if a run begins after that, the kernel sees the count
         * change and does not let this thread sleep */
        const uint32_t opened = atomic_load(&s->opened);
        if (has_begun(s, seen, tid, &mine) && mine) break;
        syscall(SYS_futex, &s->opened, FUTEX_WAIT_BITSET_PRIVATE, opened, NULL, NULL,
                group_of(tid));
    }
    atomic_fetch_sub(&s->sleepers, 1);
}

/* Begins a run on the first n threads. */
static void start_open(struct start *s, uint32_t n)
{
    const uint64_t number = (atomic_load_explicit(&s->run, memory_order_relaxed) >> RUN_SHIFT) + 1;
    atomic_store(&s->run, number << RUN_SHIFT | n);
    atomic_fetch_add(&s->opened, 1);
    if (n > 1 && atomic_load(&s->sleepers))
        syscall(SYS_futex, &s->opened, FUTEX_WAKE_BITSET_PRIVATE, INT_MAX, NULL, NULL,
                groups_below(n));
}

/* ------------------------------------------------------------------ placement */

/* Some schedulers leave two busy threads on one CPU for seconds while another idles, and then all
 * wait for these two. So threads publish where they are, each looks at one other at every meeting,
 * and of two on one CPU the worker with the higher number moves itself away: off the CPUs where the
 * others are, and free again at once. Nobody is pinned, and the host's thread is never moved. */

enum { MOVE_PAUSE_NS = 5000000 };

static void move_away(trueno_pool *pool)
{
    cpu_set_t allowed, free;
    if (sched_getaffinity(0, sizeof allowed, &allowed)) return;
    free = allowed;
    for (uint32_t i = 0; i < pool->n_active; i++) {
        int cpu = atomic_load_explicit(&pool->places[i].cpu, memory_order_relaxed);
        if (cpu >= 0 && cpu < CPU_SETSIZE) CPU_CLR((size_t)cpu, &free);
    }
    if (CPU_COUNT(&free) == 0 || sched_setaffinity(0, sizeof free, &free)) return;
    sched_setaffinity(0, sizeof allowed, &allowed);
}

static void look_around(trueno_pool *pool)
{
    const uint32_t tid = self.pool == pool ? self.tid : 0;
    if (pool->yields || pool->n_threads == 1) return;
    const int cpu = sched_getcpu();
    atomic_store_explicit(&pool->places[tid].cpu, cpu, memory_order_relaxed);
    if (tid == 0 || cpu < 0) return;
    const uint32_t other = self.looks++ % tid; /* one of those before this one */
    if (atomic_load_explicit(&pool->places[other].cpu, memory_order_relaxed) != cpu) return;
    const uint64_t now = tr_now_ns();
    if (now < self.next_move) return;
    self.next_move = now + MOVE_PAUSE_NS;
    move_away(pool);
}

/* ------------------------------------------------------------------- workers */

static void *worker_main(void *arg)
{
    const struct worker *w = arg;
    trueno_pool *pool = w->pool;
    char name[16]; /* the most that Linux takes */
    snprintf(name, sizeof name, "trueno-%u", (unsigned)w->tid);
    pthread_setname_np(pthread_self(), name);
    self.pool = pool;
    self.tid = w->tid;
    for (uint64_t seen = 0;;) {
        start_wait(&pool->start, &seen, w->tid, pool->yields);
        if (pool->stop) return NULL;
        look_around(pool);
        pool->fn(pool->arg, w->tid, pool->n_active);
        if (atomic_fetch_sub_explicit(&pool->running, 1, memory_order_acq_rel) == 1)
            gate_open(&pool->end);
    }
}

/* Starts up to `wanted` workers; fewer if the system refuses. The host's signal handlers must not
 * run on them, so they inherit a mask that blocks everything but the signals of a fault in their
 * own code, which cannot be put off. */
static void start_workers(trueno_pool *pool, uint32_t wanted)
{
    static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT};
    sigset_t block, before;
    pthread_attr_t attr;
    if (pthread_attr_init(&attr)) return;
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    sigfillset(&block);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++) sigdelset(&block, faults[i]);
    if (pthread_sigmask(SIG_SETMASK, &block, &before)) {
        pthread_attr_destroy(&attr);
        return;
    }
    while (pool->n_workers < wanted) {
        struct worker *w = &pool->workers[pool->n_workers];
        w->pool = pool;
        w->tid = pool->n_workers + 1;
        if (pthread_create(&w->thread, &attr, worker_main, w)) break;
        pool->n_workers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
}

/* In a child made by fork() there are no workers. The pool goes on with the caller alone. */
static void check_fork(trueno_pool *pool)
{
    const pid_t pid = getpid();
    if (pool->pid == pid) return;
    pool->pid = pid;
    pool->n_workers = 0;
    pool->n_threads = 1;
}

static uint32_t resolve_threads(uint32_t n_threads)
{
    const uint32_t n_cpus = trueno_cpu_count();
    if (n_threads) return n_threads;
    return n_cpus < MAX_THREADS ? n_cpus : MAX_THREADS;
}

/* Offset of the places: the next line after the workers. */
static size_t places_at(uint32_t n_threads)
{
    const size_t end = sizeof(trueno_pool) + (n_threads - 1) * sizeof(struct worker);
    return (end + LINE - 1) / LINE * LINE;
}

static size_t pool_size_bytes(uint32_t n_threads)
{
    return places_at(n_threads) + n_threads * sizeof(struct place);
}

uint64_t tr_pool_bytes(uint32_t n_threads)
{
    return tr_big_bytes(pool_size_bytes(resolve_threads(n_threads)));
}

trueno_status trueno_pool_new(trueno_ctx *ctx, trueno_pool **out, uint32_t n_threads,
                              trueno_error *err)
{
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_pool_new: out is NULL");
    *out = NULL;
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_pool_new: ctx is NULL");
    if (n_threads > MAX_THREADS)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "%u threads asked for, the limit is %d",
                       (unsigned)n_threads, MAX_THREADS);
    n_threads = resolve_threads(n_threads);
    const size_t size = pool_size_bytes(n_threads);
    trueno_pool *pool = tr_big_alloc(ctx, size); /* for its alignment */
    if (!pool)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a pool of %u threads",
                       (unsigned)n_threads);
    tr_ctx_ref(ctx);
    pool->ctx = ctx;
    pool->size_bytes = size;
    pool->pid = getpid();
    pool->yields = n_threads > trueno_cpu_count();
    pool->places = (struct place *)(void *)((uint8_t *)pool + places_at(n_threads));
    for (uint32_t i = 0; i < n_threads; i++) atomic_init(&pool->places[i].cpu, -1);
    start_workers(pool, n_threads - 1);
    pool->n_threads = pool->n_workers + 1;
    if (pool->n_threads < n_threads)
        tr_log(ctx, TRUENO_LOG_WARN, "the system gave %u of %u threads", (unsigned)pool->n_threads,
               (unsigned)n_threads);
    *out = pool;
    return TRUENO_OK;
}

void trueno_pool_free(trueno_pool *pool)
{
    if (!pool) return;
    check_fork(pool);
    pool->stop = true;
    start_open(&pool->start, pool->n_workers + 1);
    for (uint32_t i = 0; i < pool->n_workers; i++) pthread_join(pool->workers[i].thread, NULL);
    trueno_ctx *ctx = pool->ctx;
    tr_big_free(ctx, pool, pool->size_bytes);
    tr_ctx_unref(ctx);
}

uint32_t trueno_pool_size(const trueno_pool *pool)
{
    return pool ? pool->n_threads : 1;
}

/* ---------------------------------------------------------------------- runs */

void tr_pool_run_on(trueno_pool *pool, uint32_t n_threads, tr_pool_fn fn, void *arg)
{
    if (!pool) {
        fn(arg, 0, 1);
        return;
    }
    check_fork(pool);
    const uint32_t n = n_threads > 0 && n_threads < pool->n_threads ? n_threads : pool->n_threads;
    atomic_store_explicit(&pool->ticket, 0, memory_order_relaxed);
    pool->n_active = n;
    if (n == 1) {
        fn(arg, 0, 1);
        return;
    }
    pool->fn = fn;
    pool->arg = arg;
    atomic_store_explicit(&pool->running, n - 1, memory_order_relaxed);
    const uint32_t ended = atomic_load_explicit(&pool->end.opened, memory_order_relaxed);
    look_around(pool);
    start_open(&pool->start, n);
    fn(arg, 0, n);
    gate_wait(&pool->end, ended, pool->yields);
}

void tr_pool_run(trueno_pool *pool, tr_pool_fn fn, void *arg)
{
    tr_pool_run_on(pool, 0, fn, arg);
}

void tr_pool_barrier(trueno_pool *pool)
{
    if (!pool) return;
    look_around(pool);
    const uint32_t seen = atomic_load_explicit(&pool->barrier.opened, memory_order_relaxed);
    const uint32_t before = atomic_fetch_add_explicit(&pool->arrived, 1, memory_order_acq_rel);
    if (before + 1 < pool->n_active) {
        gate_wait(&pool->barrier, seen, pool->yields);
        return;
    }
    atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&pool->ticket, 0, memory_order_relaxed);
    gate_open(&pool->barrier);
}

size_t tr_pool_ticket(trueno_pool *pool, size_t count)
{
    const size_t ticket = atomic_fetch_add_explicit(&pool->ticket, 1, memory_order_relaxed);
    return ticket < count ? ticket : count;
}

void tr_split(size_t *begin, size_t *end, size_t n, size_t grain, uint32_t tid, uint32_t n_threads)
{
    if (!grain) grain = 1;
    if (!n_threads) n_threads = 1;
    const size_t chunks = n / grain + (n % grain != 0);
    const size_t each = chunks / n_threads, more = chunks % n_threads;
    const size_t first = tid * each + (tid < more ? tid : more);
    const size_t last = first + each + (tid < more);
    *begin = first < chunks ? first * grain : n;
    *end = last < chunks ? last * grain : n;
}

struct tr_share tr_share_of(trueno_pool *pool, size_t count, uint32_t tid, uint32_t n_threads)
{
    struct tr_share s = {.pool = pool, .count = count, .by_ticket = count};
    if (pool != NULL && n_threads > 1) s.by_ticket = count * 7 / 8 / n_threads * n_threads;
    tr_split(&s.next, &s.end, s.by_ticket, 1, tid, n_threads);
    return s;
}

bool tr_share_next(struct tr_share *share, size_t *unit)
{
    if (share->next < share->end) {
        *unit = share->next++;
        return true;
    }
    if (share->by_ticket == share->count) return false;
    *unit = share->by_ticket + tr_pool_ticket(share->pool, share->count - share->by_ticket);
    return *unit < share->count;
}
