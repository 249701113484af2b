/* SPDX-License-Identifier: MIT */
/* The thread pool: runs, barriers, tickets, idle threads, refused threads, signals, fork. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/hooks.h"
#include "base/thread.h"

#if defined(__SANITIZE_THREAD__)
#define TEST_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_TSAN 1
#endif
#endif
#ifndef TEST_TSAN
#define TEST_TSAN 0
#endif

enum { MAX_N = 16 };
static const uint32_t pool_sizes[] = {1, 2, 3, 7};

static trueno_ctx *new_ctx(void)
{
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    return ctx;
}

static trueno_pool *new_pool(trueno_ctx *ctx, uint32_t n)
{
    trueno_pool *pool;
    assert_int_equal(trueno_pool_new(ctx, &pool, n, NULL), TRUENO_OK);
    assert_int_equal(trueno_pool_size(pool), n);
    return pool;
}

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void sleep_ms(long ms)
{
    struct timespec t = {0, ms * 1000000};
    while (nanosleep(&t, &t) && errno == EINTR) {
    }
}

/* --------------------------------------------------------------------- runs */

/* Plain ints on purpose: only the pool orders the accesses, and ThreadSanitizer watches. */
struct calls {
    int per_thread[MAX_N];
    uint32_t n_threads;
};

static void count_calls(void *arg, uint32_t tid, uint32_t n)
{
    struct calls *c = arg;
    c->per_thread[tid]++;
    if (tid == 0) c->n_threads = n;
}

static void test_every_thread_runs_once(void **state)
{
    (void)state;
    enum { RUNS = 2000 };
    trueno_ctx *ctx = new_ctx();
    for (size_t k = 0; k < 4; k++) {
        struct calls c = {{0}, 0};
        trueno_pool *pool = new_pool(ctx, pool_sizes[k]);
        for (int i = 1; i <= RUNS; i++) {
            tr_pool_run(pool, count_calls, &c);
            for (uint32_t t = 0; t < pool_sizes[k]; t++) assert_int_equal(c.per_thread[t], i);
        }
        assert_int_equal(c.n_threads, pool_sizes[k]);
        assert_int_equal(c.per_thread[pool_sizes[k]], 0);
        trueno_pool_free(pool);
    }
    struct calls c = {{0}, 0};
    tr_pool_run(NULL, count_calls, &c);
    assert_int_equal(c.per_thread[0], 1);
    assert_int_equal(c.n_threads, 1);
    tr_pool_barrier(NULL);
    assert_int_equal(trueno_pool_size(NULL), 1);
    trueno_pool_free(NULL);
    trueno_ctx_free(ctx);
}

/* Some threads run, the others do not, and all are there when they are needed again: at once, and
 * after so long a time that they sleep. */
struct some {
    trueno_pool *pool;
    int per_thread[MAX_N];
    int meetings;
    uint32_t n_threads;
};

static void count_and_meet(void *arg, uint32_t tid, uint32_t n)
{
    struct some *s = arg;
    s->per_thread[tid]++;
    tr_pool_barrier(s->pool);
    if (tid == n - 1) { /* the last one of this run writes, the others see it behind the barrier */
        s->meetings++;
        s->n_threads = n;
    }
    tr_pool_barrier(s->pool);
}

static void test_some_threads(void **state)
{
    (void)state;
    enum { RUNS = 3000, POOL = 7 };
    trueno_ctx *ctx = new_ctx();
    struct some s = {new_pool(ctx, POOL), {0}, 0, 0};
    int want[MAX_N] = {0};
    uint32_t seed = 1;
    for (int i = 1; i <= RUNS; i++) {
        seed = seed * 1664525U + 1013904223U;
        const uint32_t asked = (seed >> 20) % (POOL + 3); /* 0 and what is above: all */
        const uint32_t n = asked == 0 || asked > POOL ? POOL : asked;
        if (i % 500 == 0) sleep_ms(5); /* everybody sleeps */
        tr_pool_run_on(s.pool, asked, count_and_meet, &s);
        for (uint32_t t = 0; t < n; t++) want[t]++;
        assert_int_equal(s.n_threads, n);
        assert_int_equal(s.meetings, i);
        for (uint32_t t = 0; t < MAX_N; t++) assert_int_equal(s.per_thread[t], want[t]);
    }
    trueno_pool_free(s.pool);

    /* many runs without them, then one with them */
    s = (struct some){new_pool(ctx, POOL), {0}, 0, 0};
    for (int i = 0; i < RUNS; i++) tr_pool_run_on(s.pool, 2, count_and_meet, &s);
    tr_pool_run(s.pool, count_and_meet, &s);
    for (uint32_t t = 0; t < POOL; t++) assert_int_equal(s.per_thread[t], t < 2 ? RUNS + 1 : 1);
    trueno_pool_free(s.pool);
    s = (struct some){NULL, {0}, 0, 0};
    tr_pool_run_on(NULL, 3, count_and_meet, &s);
    assert_int_equal(s.n_threads, 1);
    trueno_ctx_free(ctx);
}

/* How often the thread of this name has gone to sleep; -1: no such thread, or nobody tells. */
static long sleeps_of(const char *name)
{
    DIR *dir = opendir("/proc/self/task");
    long sleeps = -1;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        char path[300], line[128];
        bool found = false;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", e->d_name);
        FILE *f = fopen(path, "r");
        if (f && fgets(line, sizeof line, f)) found = strncmp(line, name, strlen(name)) == 0;
        if (f) fclose(f);
        if (!found) continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", e->d_name);
        f = fopen(path, "r");
        while (f && fgets(line, sizeof line, f))
            sscanf(line, "voluntary_ctxt_switches: %ld", &sleeps);
        if (f) fclose(f);
    }
    if (dir) closedir(dir);
    return sleeps;
}

/* Threads that a run is not on sleep through it. */
static void test_unneeded_threads_sleep(void **state)
{
    (void)state;
    trueno_ctx *ctx = new_ctx();
    struct some s = {new_pool(ctx, 7), {0}, 0, 0};
    tr_pool_run(s.pool, count_and_meet, &s);
    sleep_ms(20); /* the spinning after a run */
    const long idle = sleeps_of("trueno-6"), busy = sleeps_of("trueno-1");
    for (int i = 0; i < 50; i++) {
        tr_pool_run_on(s.pool, 2, count_and_meet, &s);
        sleep_ms(2);
    }
    const long idle_after = sleeps_of("trueno-6"), busy_after = sleeps_of("trueno-1");
    trueno_pool_free(s.pool);
    trueno_ctx_free(ctx);
    if (idle < 0 || busy < 0) {
        print_message("skipped: /proc does not tell how often a thread sleeps\n");
        skip();
    }
    assert_int_equal(idle_after, idle);
    assert_true(busy_after > busy);
}

static void test_arguments(void **state)
{
    (void)state;
    trueno_ctx *ctx = new_ctx();
    trueno_pool *pool = (trueno_pool *)&ctx;
    trueno_error err;
    assert_int_equal(trueno_pool_new(ctx, &pool, 1025, &err), TRUENO_ERR_ARGUMENT);
    assert_null(pool);
    assert_non_null(strstr(err.message, "1025"));
    assert_int_equal(trueno_pool_new(ctx, NULL, 1, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_pool_new(NULL, &pool, 1, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_pool_new(ctx, &pool, 0, &err), TRUENO_OK);
    assert_int_equal(trueno_pool_size(pool), trueno_cpu_count());
    trueno_ctx_free(ctx); /* the pool has its own reference */
    trueno_pool_free(pool);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct hooks h = {.fail_at = 2};
    const trueno_ctx_options opt = hook_options(&h);
    trueno_ctx *ctx;
    trueno_pool *pool;
    trueno_error err;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    assert_int_equal(trueno_pool_new(ctx, &pool, 3, &err), TRUENO_ERR_NO_MEMORY);
    assert_null(pool);
    h.fail_at = 0;
    pool = new_pool(ctx, 3);
    trueno_pool_free(pool);
    trueno_ctx_free(ctx);
    assert_int_equal(h.blocks, 0);
}

/* ----------------------------------------------------------------- barriers */

struct meeting {
    trueno_pool *pool;
    int rounds;
    int round_of[MAX_N]; /* written by its thread before the barrier, read by all after it */
    int errors[MAX_N];
};

static void meet(void *arg, uint32_t tid, uint32_t n)
{
    struct meeting *m = arg;
    for (int round = 1; round <= m->rounds; round++) {
        m->round_of[tid] = round;
        tr_pool_barrier(m->pool);
        for (uint32_t t = 0; t < n; t++) m->errors[tid] += m->round_of[t] != round;
        tr_pool_barrier(m->pool);
    }
}

static void test_barriers(void **state)
{
    (void)state;
    trueno_ctx *ctx = new_ctx();
    for (size_t k = 0; k < 4; k++) {
        /* two barriers a round: 100000 in all */
        struct meeting m = {.rounds = TEST_TSAN && pool_sizes[k] > 3 ? 5000 : 50000};
        m.pool = new_pool(ctx, pool_sizes[k]);
        tr_pool_run(m.pool, meet, &m);
        for (uint32_t t = 0; t < pool_sizes[k]; t++) {
            assert_int_equal(m.errors[t], 0);
            assert_int_equal(m.round_of[t], m.rounds);
        }
        trueno_pool_free(m.pool);
    }
    trueno_ctx_free(ctx);
}

/* One thread comes so late that the others have gone to sleep. */
static void meet_late(void *arg, uint32_t tid, uint32_t n)
{
    struct meeting *m = arg;
    for (int round = 1; round <= m->rounds; round++) {
        if ((uint32_t)round % n == tid) sleep_ms(2);
        m->round_of[tid] = round;
        tr_pool_barrier(m->pool);
        for (uint32_t t = 0; t < n; t++) m->errors[tid] += m->round_of[t] != round;
        tr_pool_barrier(m->pool);
    }
}

static void test_barriers_with_sleepers(void **state)
{
    (void)state;
    trueno_ctx *ctx = new_ctx();
    for (size_t k = 0; k < 4; k++) {
        struct meeting m = {.rounds = 50};
        m.pool = new_pool(ctx, pool_sizes[k]);
        for (int i = 0; i < 3; i++) {
            tr_pool_run(m.pool, meet_late, &m);
            sleep_ms(1); /* the workers fall asleep between runs */
        }
        for (uint32_t t = 0; t < pool_sizes[k]; t++) assert_int_equal(m.errors[t], 0);
        trueno_pool_free(m.pool);
    }
    trueno_ctx_free(ctx);
}

/* ------------------------------------------------------------------ tickets */

enum { N_TICKETS = 997, PHASES = 50 };

struct shop {
    trueno_pool *pool;
    unsigned char sold[PHASES][N_TICKETS]; /* plain: a ticket belongs to one thread */
    int bad[MAX_N];
};

static void sell(void *arg, uint32_t tid, uint32_t n)
{
    struct shop *s = arg;
    (void)n;
    for (int phase = 0; phase < PHASES; phase++) {
        size_t t;
        while ((t = tr_pool_ticket(s->pool, N_TICKETS)) < N_TICKETS) s->sold[phase][t]++;
        s->bad[tid] += t != N_TICKETS;
        tr_pool_barrier(s->pool);
    }
}

static void test_tickets(void **state)
{
    (void)state;
    static struct shop s;
    trueno_ctx *ctx = new_ctx();
    for (size_t k = 0; k < 4; k++) {
        s = (struct shop){.pool = new_pool(ctx, pool_sizes[k])};
        for (int run = 1; run <= 3; run++) {
            tr_pool_run(s.pool, sell, &s);
            for (int phase = 0; phase < PHASES; phase++)
                for (int t = 0; t < N_TICKETS; t++) assert_int_equal(s.sold[phase][t], run);
        }
        for (uint32_t t = 0; t < pool_sizes[k]; t++) assert_int_equal(s.bad[t], 0);
        trueno_pool_free(s.pool);
    }
    trueno_ctx_free(ctx);
}

/* ------------------------------------------------------------------- shares */

enum { N_COUNTS = 6 };
static const size_t counts[N_COUNTS] = {0, 1, 7, 16, 100, N_TICKETS};

struct work {
    trueno_pool *pool;
    unsigned char done[N_COUNTS][N_TICKETS]; /* plain: a unit belongs to one thread */
};

static void take_share(struct work *w, size_t phase, uint32_t tid, uint32_t n)
{
    struct tr_share share = tr_share_of(w->pool, counts[phase], tid, n);
    for (size_t u; tr_share_next(&share, &u);) w->done[phase][u]++;
}

static void take_shares(void *arg, uint32_t tid, uint32_t n)
{
    struct work *w = arg;
    for (size_t phase = 0; phase < N_COUNTS; phase++) {
        take_share(w, phase, tid, n);
        tr_pool_barrier(w->pool);
    }
}

/* Every unit is done once: by the threads of a pool, and, without a pool, by any number of calls.
 */
static void test_shares(void **state)
{
    (void)state;
    static struct work w;
    trueno_ctx *ctx = new_ctx();
    for (size_t k = 0; k < 8; k++) {
        uint32_t n = k < 4 ? pool_sizes[k] : (uint32_t)k;
        w = (struct work){.pool = k < 4 ? new_pool(ctx, n) : NULL};
        if (w.pool) tr_pool_run(w.pool, take_shares, &w);
        for (uint32_t tid = 0; !w.pool && tid < n; tid++)
            for (size_t phase = 0; phase < N_COUNTS; phase++) take_share(&w, phase, tid, n);
        for (size_t phase = 0; phase < N_COUNTS; phase++)
            for (size_t u = 0; u < N_TICKETS; u++)
                assert_int_equal(w.done[phase][u], u < counts[phase]);
        trueno_pool_free(w.pool);
    }
    trueno_ctx_free(ctx);
}

/* ----------------------------------------------------------------- tr_split */

static void test_split(void **state)
{
    (void)state;
    static const size_t ns[] = {0, 1, 7, 16, 63, 64, 65, 1000, SIZE_MAX, SIZE_MAX - 5};
    static const size_t grains[] = {1, 3, 16, 64, 1000, SIZE_MAX};
    for (size_t i = 0; i < 10; i++)
        for (size_t g = 0; g < 6; g++)
            for (uint32_t threads = 1; threads <= 70; threads += 3) {
                size_t at = 0, least = SIZE_MAX, most = 0, begin, end;
                for (uint32_t t = 0; t < threads; t++) {
                    tr_split(&begin, &end, ns[i], grains[g], t, threads);
                    assert_int_equal(begin, at); /* no gap, no overlap */
                    assert_true(begin <= end && end <= ns[i]);
                    if (begin < end) assert_int_equal(begin % grains[g], 0);
                    const size_t part = end - begin;
                    const size_t chunks = part / grains[g] + (part % grains[g] != 0);
                    if (chunks < least) least = chunks;
                    if (chunks > most) most = chunks;
                    at = end;
                }
                assert_int_equal(at, ns[i]);
                assert_true(most - least <= 1);
            }
    size_t begin, end;
    tr_split(&begin, &end, 10, 0, 0, 0); /* 0 counts as 1 */
    assert_int_equal(begin, 0);
    assert_int_equal(end, 10);
}

/* -------------------------------------------------------------- the machine */

static void test_idle_threads_sleep(void **state)
{
    (void)state;
    trueno_ctx *ctx = new_ctx();
    trueno_pool *pool = new_pool(ctx, 7);
    struct calls c = {{0}, 0};
    tr_pool_run(pool, count_calls, &c);
    sleep_ms(20); /* the spinning after a run */
    const double before = cpu_seconds();
    sleep_ms(200);
    const double used = cpu_seconds() - before;
    trueno_pool_free(pool);
    trueno_ctx_free(ctx);
    if (used > 0.01) fail_msg("7 idle threads used %.1f ms of CPU in 200 ms", used * 1e3);
}

/* Waiting for a thread that works long does not burn the other CPUs: 6 threads wait 100 ms. */
static void nap(void *arg, uint32_t tid, uint32_t n)
{
    (void)n;
    if (tid == 1) sleep_ms(100);
    tr_pool_barrier(arg);
}

static void test_waiting_threads_sleep(void **state)
{
    (void)state;
    trueno_ctx *ctx = new_ctx();
    trueno_pool *pool = new_pool(ctx, 7);
    const double before = cpu_seconds();
    tr_pool_run(pool, nap, pool);
    const double used = cpu_seconds() - before;
    trueno_pool_free(pool);
    trueno_ctx_free(ctx);
    if (used > 0.03) fail_msg("waiting used %.1f ms of CPU in 100 ms", used * 1e3);
}

static void on_signal(int sig)
{
    (void)sig;
}

struct masks {
    sigset_t of[MAX_N];
};

static void read_mask(void *arg, uint32_t tid, uint32_t n)
{
    struct masks *m = arg;
    (void)n;
    pthread_sigmask(SIG_SETMASK, NULL, &m->of[tid]);
}

static void test_workers_leave_signals_to_the_host(void **state)
{
    (void)state;
    static const int blocked[] = {SIGINT, SIGTERM, SIGALRM, SIGUSR1, SIGCHLD, SIGPROF, SIGPIPE};
    static const int open[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
    struct masks m;
    trueno_ctx *ctx = new_ctx();
    trueno_pool *pool = new_pool(ctx, 3);
    tr_pool_run(pool, read_mask, &m);
    for (size_t i = 0; i < 7; i++) {
        assert_int_equal(sigismember(&m.of[0], blocked[i]), 0); /* ours is as it was */
        assert_int_equal(sigismember(&m.of[1], blocked[i]), 1);
        assert_int_equal(sigismember(&m.of[2], blocked[i]), 1);
    }
    for (size_t i = 0; i < 4; i++) assert_int_equal(sigismember(&m.of[1], open[i]), 0);
    trueno_pool_free(pool);
    trueno_ctx_free(ctx);
}

/* A storm of signals to the caller's thread must not disturb a run. */
static void test_signals_during_a_run(void **state)
{
    (void)state;
    struct sigaction action = {.sa_handler = on_signal}, before;
    const struct timeval every = {0, 500}, never = {0, 0};
    struct itimerval on = {every, every}, off = {never, never};
    sigaction(SIGALRM, &action, &before);
    setitimer(ITIMER_REAL, &on, NULL);
    trueno_ctx *ctx = new_ctx();
    struct meeting m = {.rounds = 30};
    m.pool = new_pool(ctx, 3);
    tr_pool_run(m.pool, meet_late, &m);
    trueno_pool_free(m.pool);
    trueno_ctx_free(ctx);
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &before, NULL);
    for (int t = 0; t < 3; t++) assert_int_equal(m.errors[t], 0);
}

/* Runs `test` in a child, which says with its exit status what happened: 0 well, 2 not possible
 * here, other values tell the failed check. */
static int in_child(int (*test)(trueno_pool *pool), trueno_pool *pool)
{
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) {
        alarm(60);
        _exit(test(pool));
    }
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

/* RLIMIT_NPROC counts the processes and threads of a user and does not bind root, so root becomes a
 * user who owns nothing else: this process and 2 threads fit. */
static int run_short_of_threads(trueno_pool *unused)
{
    (void)unused;
    const struct rlimit limit = {3, 3};
    const bool root = geteuid() == 0;
    if (root && setresuid(54321, 54321, 54321)) return 2;
    if (setrlimit(RLIMIT_NPROC, &limit)) return 2;
    trueno_ctx *ctx;
    trueno_pool *pool;
    struct calls c = {{0}, 0};
    if (trueno_ctx_new(&ctx, NULL, NULL)) return 3;
    if (trueno_pool_new(ctx, &pool, 7, NULL)) return 4;
    const uint32_t n = trueno_pool_size(pool);
    if (n == 7) return 2;
    if (n < 1 || (root && n > 3)) return 5;
    tr_pool_run(pool, count_calls, &c);
    if (c.n_threads != n) return 6;
    for (uint32_t t = 0; t < 7; t++)
        if (c.per_thread[t] != (t < n)) return 7;
    struct meeting m = {.pool = pool, .rounds = 1000};
    tr_pool_run(pool, meet, &m);
    for (uint32_t t = 0; t < n; t++)
        if (m.errors[t]) return 8;
    trueno_pool_free(pool);
    trueno_ctx_free(ctx);
    return 0;
}

static void test_refused_threads_make_a_smaller_pool(void **state)
{
    (void)state;
    if (TEST_TSAN) skip(); /* the sanitizer itself needs a thread in the child */
    const int rc = in_child(run_short_of_threads, NULL);
    if (rc == 2) skip(); /* the limit does not bind here */
    assert_int_equal(rc, 0);
}

static int run_after_fork(trueno_pool *pool)
{
    struct calls c = {{0}, 0};
    tr_pool_run(pool, count_calls, &c);
    if (c.per_thread[0] != 1 || c.per_thread[1] != 0 || c.n_threads != 1) return 3;
    struct meeting m = {.pool = pool, .rounds = 10};
    tr_pool_run(pool, meet, &m);
    trueno_pool_free(pool);
    return 0;
}

static void test_pool_in_a_forked_child(void **state)
{
    (void)state;
    trueno_ctx *ctx = new_ctx();
    trueno_pool *pool = new_pool(ctx, 3);
    struct calls c = {{0}, 0};
    tr_pool_run(pool, count_calls, &c);
    assert_int_equal(in_child(run_after_fork, pool), 0);
    tr_pool_run(pool, count_calls, &c); /* the parent's threads are there as before */
    for (int t = 0; t < 3; t++) assert_int_equal(c.per_thread[t], 2);
    trueno_pool_free(pool);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused_threads_make_a_smaller_pool),
        cmocka_unit_test(test_every_thread_runs_once),
        cmocka_unit_test(test_some_threads),
        cmocka_unit_test(test_unneeded_threads_sleep),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_barriers_with_sleepers),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_idle_threads_sleep),
        cmocka_unit_test(test_waiting_threads_sleep),
        cmocka_unit_test(test_workers_leave_signals_to_the_host),
        cmocka_unit_test(test_signals_during_a_run),
        cmocka_unit_test(test_pool_in_a_forked_child),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
