/* SPDX-License-Identifier: MIT */
/* Read bandwidth and peak rates: threads that start together, the reading loop, the choice of the
 * peak loop by CPU features. */
#include "probe_util.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum {
    MAX_PASSES = 9,
    READ_PASSES = 5,
    TRY_PASSES = 3,
    PEAK_PASSES = 9,
    SPIN_TURNS = 4096, /* before a waiting thread lets others run */
    LINE = 64
};

#define HUGE_PAGE  ((size_t)2 << 20)
#define MIN_BUFFER ((size_t)64 << 20)
#define MAX_BUFFER ((size_t)1 << 30)
#define PEAK_TURNS ((uint64_t)1 << 19)

/* A way to read: streams per thread, and how far ahead lines are asked for (0: not at all). */
struct way {
    unsigned streams;
    size_t ahead_bytes;
};

/* What all threads do, `passes` times. */
struct job {
    enum { JOB_FILL, JOB_READ, JOB_PEAK } kind;
    unsigned passes;
    struct way way;     /* of JOB_READ */
    probe_loop_fn loop; /* of JOB_PEAK */
};

struct worker {
    struct probe *probe;
    pthread_t thread;
    uint32_t index;
    uint64_t sum; /* of what was read, so that reading cannot be left out */
    double start[MAX_PASSES], end[MAX_PASSES]; /* seconds of the clock */
};

struct probe {
    uint32_t n_threads, features;
    struct worker *workers; /* [n_threads]; the first is the caller */
    char *map, *buffer;     /* `buffer` is the part of `map` that starts on a huge page */
    size_t map_bytes, buffer_bytes;
    struct way way;

    pthread_mutex_t lock; /* guards `job`, `turn` and `stop` */
    pthread_cond_t wake;
    struct job job;
    uint64_t turn; /* one more for each job */
    int stop;

    atomic_uint arrived, phase;

    cpu_set_t cpus; /* of the caller, when the probe was made */
    int one_each;   /* as many threads as CPUs */
};

/* ----------------------------------------------------------------------------- threads */

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Returns when all threads are here. */
static void meet(struct probe *p)
{
    unsigned phase = atomic_load(&p->phase);
    if (atomic_fetch_add(&p->arrived, 1) + 1 == p->n_threads) {
        atomic_store(&p->arrived, 0);
        atomic_store(&p->phase, phase + 1);
        return;
    }
    for (unsigned turn = 0; atomic_load(&p->phase) == phase; turn++)
        if (turn >= SPIN_TURNS) sched_yield();
}

/* Several vectors keep the sums short chains. Lines are asked for once each, by their address. */
typedef uint64_t vec __attribute__((vector_size(LINE)));

static inline __attribute__((always_inline)) uint64_t
read_streams(const char *part, size_t n_bytes, const unsigned streams, const size_t ahead)
{
    const size_t stream_bytes = n_bytes / streams / (4 * LINE) * (4 * LINE);
    vec a = {0}, b = {0};
    for (size_t at = 0; at < stream_bytes; at += 4 * LINE) {
        for (unsigned s = 0; s < streams; s++) {
            const char *line = part + s * stream_bytes + at;
            const vec *v = (const vec *)(const void *)line;
            for (unsigned i = 0; ahead > 0 && i < 4; i++)
                __builtin_prefetch(line + ahead + i * (size_t)LINE);
            a += v[0];
            b += v[1];
            a += v[2];
            b += v[3];
        }
    }
    uint64_t sum = 0;
    for (int i = 0; i < 8; i++) sum += a[i] + b[i];
    return sum;
}

static uint64_t read_part(const char *part, size_t n_bytes, struct way way)
{
    switch (way.streams) {
    case 1: return read_streams(part, n_bytes, 1, way.ahead_bytes);
    case 4: return read_streams(part, n_bytes, 4, way.ahead_bytes);
    default: return read_streams(part, n_bytes, 8, way.ahead_bytes);
    }
}

/* Some schedulers leave two busy threads on one CPU for seconds while another idles. Where every
 * CPU has its thread, there is no choice to get wrong: the i-th CPU for the i-th thread. */
static void pin(const struct worker *w)
{
    const struct probe *p = w->probe;
    cpu_set_t one;
    uint32_t index = 0;
    if (!p->one_each) return;
    for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &p->cpus) || index++ != w->index) continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof(one), &one);
        return;
    }
}

/* Bytes of the buffer that each thread reads: whole huge pages if there are enough. */
static size_t share_bytes(const struct probe *p)
{
    size_t pages = p->buffer_bytes / p->n_threads / HUGE_PAGE;
    return pages ? pages * HUGE_PAGE : p->buffer_bytes / p->n_threads / LINE * LINE;
}

/* One thread's part of all passes. A slow thread may still be on its way out of the last one when
 * the next job is there, so each works on a copy of its job. */
static void work(struct worker *w, struct job job)
{
    struct probe *p = w->probe;
    const size_t share = share_bytes(p);
    char *part = p->buffer + w->index * share;
    for (unsigned pass = 0; pass < job.passes; pass++) {
        meet(p);
        w->start[pass] = now();
        if (job.kind == JOB_FILL) memset(part, 1, share);
        if (job.kind == JOB_READ) w->sum += read_part(part, share, job.way);
        if (job.kind == JOB_PEAK) job.loop(PEAK_TURNS);
        w->end[pass] = now();
    }
    meet(p);
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    struct probe *p = w->probe;
    pin(w);
    for (uint64_t seen = 0;; seen++) {
        pthread_mutex_lock(&p->lock);
        while (p->turn == seen && !p->stop) pthread_cond_wait(&p->wake, &p->lock);
        int stop = p->stop;
        struct job job = p->job;
        pthread_mutex_unlock(&p->lock);
        if (stop) return NULL;
        work(w, job);
    }
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* From the first thread's start to the last one's end: on a busy machine some run later. */
static double pass_seconds(const struct probe *p, unsigned pass)
{
    double start = p->workers[0].start[pass], end = p->workers[0].end[pass];
    for (uint32_t i = 1; i < p->n_threads; i++) {
        const struct worker *w = &p->workers[i];
        if (w->start[pass] < start) start = w->start[pass];
        if (w->end[pass] > end) end = w->end[pass];
    }
    return end - start;
}

/* @return median seconds of a pass */
static double run(struct probe *p, struct job job)
{
    pthread_mutex_lock(&p->lock);
    p->job = job;
    p->turn++;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    pin(&p->workers[0]);
    work(&p->workers[0], job);
    if (p->one_each) sched_setaffinity(0, sizeof(p->cpus), &p->cpus);
    double seconds[MAX_PASSES];
    for (unsigned i = 0; i < job.passes; i++) seconds[i] = pass_seconds(p, i);
    qsort(seconds, job.passes, sizeof(seconds[0]), compare);
    return seconds[job.passes / 2];
}

/* ---------------------------------------------------------------------------- read rate */

/* "32768K" of sysfs, which knows what this CPU shares; sysconf may count the whole package. */
size_t probe_cache_bytes(void)
{
    static const char path[] = "/sys/devices/system/cpu/cpu0/cache/index3/size";
    FILE *f = fopen(path, "r");
    unsigned long kib = 0;
    if (f && fscanf(f, "%luK", &kib) != 1) kib = 0;
    if (f) fclose(f);
    if (kib > 0 && kib < (1UL << 22)) return (size_t)kib << 10;
    long bytes = sysconf(_SC_LEVEL3_CACHE_SIZE);
    return bytes > 0 ? (size_t)bytes : (size_t)32 << 20;
}

static int map_buffer(struct probe *p)
{
    size_t want = 8 * probe_cache_bytes();
    if (want < MIN_BUFFER) want = MIN_BUFFER;
    if (want > MAX_BUFFER) want = MAX_BUFFER;
    p->buffer_bytes = want;
    p->map_bytes = want + HUGE_PAGE;
    p->map = mmap(NULL, p->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p->map == MAP_FAILED) {
        p->map = NULL;
        return -1;
    }
    size_t past = (size_t)(uintptr_t)p->map % HUGE_PAGE;
    p->buffer = p->map + (past ? HUGE_PAGE - past : 0);
    madvise(p->buffer, p->buffer_bytes, MADV_HUGEPAGE); /* a hint: small pages are slower */
    return 0;
}

/* Keeps the way with the best median. */
static void choose_way(struct probe *p)
{
    static const unsigned streams[] = {1, 4, 8};
    static const size_t ahead[] = {0, 2048, 4096};
    struct way best = {1, 0};
    double best_seconds = 1e30;
    for (unsigned i = 0; i < 9; i++) {
        p->way = (struct way){streams[i / 3], ahead[i % 3]};
        struct job job = {.kind = JOB_READ, .passes = TRY_PASSES, .way = p->way};
        double seconds = run(p, job);
        if (seconds >= best_seconds) continue;
        best_seconds = seconds;
        best = p->way;
    }
    p->way = best;
}

double probe_read_gbs(struct probe *p)
{
    struct job job = {.kind = JOB_READ, .passes = READ_PASSES, .way = p->way};
    return (double)share_bytes(p) * p->n_threads / run(p, job) * 1e-9;
}

/* ---------------------------------------------------------------------------- peak rate */

/* Later entries are faster. */
static const struct probe_loops *const all_loops[] = {
#if defined(__x86_64__)
    &probe_loops_avx2,
    &probe_loops_avxvnni,
    &probe_loops_avx512,
#elif defined(__aarch64__)
    &probe_loops_neon,
    &probe_loops_dotprod,
    &probe_loops_i8mm,
#else
    &(const struct probe_loops){NULL, 0},
#endif
};

static const struct probe_loop *find_loop(uint32_t features, enum probe_op op)
{
    const struct probe_loop *best = NULL;
    for (size_t i = 0; i < sizeof(all_loops) / sizeof(all_loops[0]); i++) {
        for (size_t k = 0; k < all_loops[i]->count; k++) {
            const struct probe_loop *l = &all_loops[i]->loops[k];
            if (l->op == op && !(l->cpu_features & ~features)) best = l;
        }
    }
    return best;
}

const char *probe_instruction(const struct probe *p, enum probe_op op)
{
    const struct probe_loop *l = find_loop(p->features, op);
    return l ? l->instruction : "";
}

double probe_peak_gmacs(struct probe *p, enum probe_op op)
{
    const struct probe_loop *l = find_loop(p->features, op);
    if (!l) return 0;
    struct job job = {.kind = JOB_PEAK, .passes = PEAK_PASSES, .loop = l->run};
    double turns = (double)PEAK_TURNS * p->n_threads;
    return turns * l->macs / run(p, job) * 1e-9;
}

/* ------------------------------------------------------------------------- begin and end */

struct probe *probe_new(uint32_t n_threads, uint32_t cpu_features)
{
    struct probe *p = calloc(1, sizeof(*p));
    if (!p) return NULL;
    p->features = cpu_features;
    if (sched_getaffinity(0, sizeof(p->cpus), &p->cpus) == 0)
        p->one_each = (uint32_t)CPU_COUNT(&p->cpus) == n_threads;
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->wake, NULL);
    p->workers = calloc(n_threads ? n_threads : 1, sizeof(*p->workers));
    if (!p->workers || map_buffer(p) != 0) {
        probe_free(p);
        errno = ENOMEM;
        return NULL;
    }
    for (p->n_threads = 0; p->n_threads < n_threads || p->n_threads == 0; p->n_threads++) {
        struct worker *w = &p->workers[p->n_threads];
        *w = (struct worker){.probe = p, .index = p->n_threads};
        int error = w->index ? pthread_create(&w->thread, NULL, thread_main, w) : 0;
        if (!error) continue;
        probe_free(p);
        errno = error;
        return NULL;
    }
    run(p, (struct job){.kind = JOB_FILL, .passes = 1});
    choose_way(p);
    return p;
}

void probe_free(struct probe *p)
{
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->stop = 1;
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 1; i < p->n_threads; i++) pthread_join(p->workers[i].thread, NULL);
    if (p->map) munmap(p->map, p->map_bytes);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p->workers);
    free(p);
}
