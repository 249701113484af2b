/* SPDX-License-Identifier: MIT */
/* Read bandwidth and peak rates: passes of all threads, the reading loop, the choice of the peak
 * loop by CPU features. */
#include "tuner/probe.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cpu.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"

enum { MAX_PASSES = 9, READ_PASSES = 5, TRY_PASSES = 3, PEAK_PASSES = 9, LINE = 64 };

#define HUGE_PAGE ((size_t)2 << 20)
/* Of the buffer, in bytes; the middle one where nobody knows how large the cache is. */
#define MIN_BUFFER   ((size_t)64 << 20)
#define USUAL_BUFFER ((size_t)256 << 20)
#define MAX_BUFFER   ((size_t)1 << 30)
#define PEAK_TURNS   ((uint64_t)1 << 19)

/* A way to read: streams per thread, and how far ahead lines are asked for (0: not at all). */
struct way {
    unsigned streams;
    size_t ahead_bytes;
};

/* What all threads do in a pass. */
struct job {
    enum { JOB_FILL, JOB_READ, JOB_PEAK } kind;
    struct way way;        /* of JOB_READ */
    tr_probe_loop_fn loop; /* of JOB_PEAK */
};

/* One thread's part of a pass; a cache line each, so that nobody waits for another's. */
struct part {
    _Alignas(LINE) uint64_t start, end; /* ns */
    uint64_t sum;                       /* of what was read, so that reading cannot be left out */
};

struct trueno_probe {
    trueno_ctx *ctx;
    trueno_pool *pool;
    uint32_t n_threads;
    struct part *parts; /* [n_threads] */
    char *buffer;
    size_t buffer_bytes;
    struct way way;
    uint64_t deadline; /* 0: none */
    struct job job;    /* of the running pass */
};

/* ----------------------------------------------------------------------------- passes */

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

/* Bytes of the buffer that each thread reads: whole huge pages if there are enough. */
static size_t share_bytes(const trueno_probe *p)
{
    size_t pages = p->buffer_bytes / p->n_threads / HUGE_PAGE;
    return pages ? pages * HUGE_PAGE : p->buffer_bytes / p->n_threads / LINE * LINE;
}

/* Waking up takes as long as some passes do: the clock starts when all are there. */
static void work(void *arg, uint32_t tid, uint32_t n_threads)
{
    trueno_probe *p = arg;
    struct part *part = &p->parts[tid];
    const size_t share = share_bytes(p);
    char *mine = p->buffer + tid * share;
    (void)n_threads;
    tr_pool_barrier(p->pool);
    part->start = tr_now_ns();
    if (p->job.kind == JOB_FILL) memset(mine, 1, share);
    if (p->job.kind == JOB_READ) part->sum += read_part(mine, share, p->job.way);
    if (p->job.kind == JOB_PEAK) p->job.loop(PEAK_TURNS);
    part->end = tr_now_ns();
}

/* Seconds from the first thread's start to the last one's end: on a busy machine some run later. */
static double pass_seconds(const trueno_probe *p)
{
    uint64_t start = p->parts[0].start, end = p->parts[0].end;
    for (uint32_t i = 1; i < p->n_threads; i++) {
        if (p->parts[i].start < start) start = p->parts[i].start;
        if (p->parts[i].end > end) end = p->parts[i].end;
    }
    return end > start ? (double)(end - start) * 1e-9 : 1e-9;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static bool is_late(const trueno_probe *p)
{
    return p->deadline != 0 && tr_now_ns() >= p->deadline;
}

/* Median seconds of up to `passes` passes, at least one. */
static trueno_status run(trueno_probe *p, double *out, struct job job, unsigned passes,
                         trueno_error *err)
{
    double seconds[MAX_PASSES];
    unsigned n = 0;
    *out = 0;
    p->job = job;
    do {
        if (tr_cancelled(p->ctx)) return tr_fail(err, TRUENO_ERR_CANCELLED, "probe: cancelled");
        tr_pool_run(p->pool, work, p);
        seconds[n++] = pass_seconds(p);
    } while (n < passes && !is_late(p));
    qsort(seconds, n, sizeof(seconds[0]), compare);
    *out = seconds[n / 2];
    return TRUENO_OK;
}

/* ---------------------------------------------------------------------------- read rate */

static size_t buffer_bytes(void)
{
    const uint64_t limit = tr_memory_limit() / 4;
    const size_t cache = trueno_cache_bytes();
    size_t want = USUAL_BUFFER;
    if (cache > 0) want = cache < MAX_BUFFER / 8 ? 8 * cache : MAX_BUFFER;
    if (want < MIN_BUFFER) want = MIN_BUFFER;
    return limit > 0 && want > limit ? (size_t)limit : want;
}

/* Keeps the way with the best median. */
static trueno_status choose_way(trueno_probe *p, trueno_error *err)
{
    static const unsigned streams[] = {1, 4, 8};
    static const size_t ahead[] = {0, 2048, 4096};
    double best_seconds = 1e30, seconds;
    p->way = (struct way){4, 2048};
    for (unsigned i = 0; i < 9 && !is_late(p); i++) {
        struct way way = {streams[i / 3], ahead[i % 3]};
        struct job job = {.kind = JOB_READ, .way = way};
        trueno_status status = run(p, &seconds, job, TRY_PASSES, err);
        if (status != TRUENO_OK) return status;
        if (seconds >= best_seconds) continue;
        best_seconds = seconds;
        p->way = way;
    }
    return TRUENO_OK;
}

static trueno_status check(const trueno_probe *p, double *out, trueno_error *err)
{
    if (out) *out = 0;
    if (p && out) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_ARGUMENT, "probe: %s is NULL", p ? "the result" : "p");
}

trueno_status trueno_probe_read_gbs(trueno_probe *p, double *gbs, trueno_error *err)
{
    double seconds;
    trueno_status status = check(p, gbs, err);
    if (status != TRUENO_OK) return status;
    struct job job = {.kind = JOB_READ, .way = p->way};
    status = run(p, &seconds, job, READ_PASSES, err);
    if (status == TRUENO_OK) *gbs = (double)share_bytes(p) * p->n_threads / seconds * 1e-9;
    return status;
}

/* ---------------------------------------------------------------------------- peak rate */

/* Later entries are faster. */
static const struct tr_probe_loops *const all_loops[] = {
#if defined(__x86_64__)
    &tr_probe_loops_avx2,
    &tr_probe_loops_avxvnni,
    &tr_probe_loops_avx512,
#elif defined(__aarch64__)
    &tr_probe_loops_neon,
    &tr_probe_loops_dotprod,
    &tr_probe_loops_i8mm,
#else
    &(const struct tr_probe_loops){NULL, 0},
#endif
};

static const struct tr_probe_loop *find_loop(uint32_t features, trueno_probe_op op)
{
    const struct tr_probe_loop *best = NULL;
    for (size_t i = 0; i < sizeof(all_loops) / sizeof(all_loops[0]); i++) {
        for (size_t k = 0; k < all_loops[i]->count; k++) {
            const struct tr_probe_loop *l = &all_loops[i]->loops[k];
            if (l->op == op && !(l->cpu_features & ~features)) best = l;
        }
    }
    return best;
}

const char *trueno_probe_instruction(const trueno_probe *p, trueno_probe_op op)
{
    const struct tr_probe_loop *l = p ? find_loop(trueno_ctx_cpu_features(p->ctx), op) : NULL;
    return l ? l->instruction : "";
}

trueno_status trueno_probe_peak_gmacs(trueno_probe *p, trueno_probe_op op, double *gmacs,
                                      trueno_error *err)
{
    double seconds;
    trueno_status status = check(p, gmacs, err);
    if (status != TRUENO_OK) return status;
    if (op != TRUENO_PROBE_INT8 && op != TRUENO_PROBE_F32)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "probe: op %d is none", (int)op);
    const struct tr_probe_loop *l = find_loop(trueno_ctx_cpu_features(p->ctx), op);
    if (!l) return TRUENO_OK;
    struct job job = {.kind = JOB_PEAK, .loop = l->run};
    status = run(p, &seconds, job, PEAK_PASSES, err);
    if (status != TRUENO_OK) return status;
    *gmacs = (double)PEAK_TURNS * p->n_threads * l->macs / seconds * 1e-9;
    return TRUENO_OK;
}

/* ------------------------------------------------------------------------- begin and end */

static trueno_status get_ready(trueno_probe *p, uint32_t n_threads, trueno_error *err)
{
    double unused;
    trueno_status status = trueno_pool_new(p->ctx, &p->pool, n_threads, err);
    if (status != TRUENO_OK) return status;
    p->n_threads = trueno_pool_size(p->pool);
    if (n_threads > p->n_threads)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "probe: the system gave %u of %u threads",
                       (unsigned)p->n_threads, (unsigned)n_threads);
    p->buffer_bytes = buffer_bytes();
    p->parts = tr_big_alloc(p->ctx, p->n_threads * sizeof(*p->parts)); /* for its alignment */
    p->buffer = tr_big_alloc(p->ctx, p->buffer_bytes);
    if (!p->parts || !p->buffer)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "probe: no memory for a buffer of %zu bytes",
                       p->buffer_bytes);
    status = run(p, &unused, (struct job){.kind = JOB_FILL}, 1, err);
    return status == TRUENO_OK ? choose_way(p, err) : status;
}

trueno_status tr_probe_new_until(trueno_ctx *ctx, trueno_probe **out, uint32_t n_threads,
                                 uint64_t deadline, trueno_error *err)
{
    if (out) *out = NULL;
    if (!ctx || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "probe: %s is NULL", ctx ? "out" : "ctx");
    trueno_probe *p = tr_calloc(ctx, 1, sizeof(*p));
    if (!p) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a probe");
    tr_ctx_ref(ctx);
    p->ctx = ctx;
    p->deadline = deadline;
    trueno_status status = get_ready(p, n_threads, err);
    if (status == TRUENO_OK)
        *out = p;
    else
        trueno_probe_free(p);
    return status;
}

trueno_status trueno_probe_new(trueno_ctx *ctx, trueno_probe **out, uint32_t n_threads,
                               trueno_error *err)
{
    return tr_probe_new_until(ctx, out, n_threads, 0, err);
}

void trueno_probe_free(trueno_probe *p)
{
    if (!p) return;
    trueno_ctx *ctx = p->ctx;
    trueno_pool_free(p->pool);
    tr_big_free(ctx, p->buffer, p->buffer_bytes);
    tr_big_free(ctx, p->parts, p->n_threads * sizeof(*p->parts));
    tr_free(ctx, p);
    tr_ctx_unref(ctx);
}
