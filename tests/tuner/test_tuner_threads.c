/* SPDX-License-Identifier: MIT */
/* A tuner between threads: answers from several at once while others change it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "tuner/tuner_test.h"

enum { READERS = 4, CALLS = 400, WRITERS = 2 };

/* cmocka's assertions belong to the main thread: others count what went wrong. */
struct shared {
    trueno_tuner *t;
    trueno_features *rows; /* [100] */
    double *tps;
    const char *path;
    const void *store; /* an export that has entries */
    size_t store_bytes;
    _Atomic int reading;
    _Atomic uint64_t wrong, runs, changed;
};

struct job {
    struct shared *s;
    int number;
};

static void check(struct shared *s, bool right)
{
    if (!right) s->wrong++;
}

static void *read_all(void *arg)
{
    static const char *const versions[] = {"1.0.0", "1.0.0-"};
    struct job *job = arg;
    struct shared *s = job->s;
    for (int i = 0; i < CALLS; i++) {
        trueno_features f = i % 2 ? cpu_run(1.1, 1 + i % 16) : gpu_run(7, 1 + i % 8);
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        trueno_pick pick = TRUENO_PICK_INIT;
        trueno_problem problem = TRUENO_PROBLEM_INIT;
        trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
        trueno_recommendation rec;
        char text[4096];
        size_t len;
        problem.rows = 16 * (size_t)(1 + (i * READERS + job->number) % 900); /* often a new one */
        problem.cols = 256;
        trueno_recommendation_init(&rec);
        check(s, trueno_tuner_recommend(s->t, &rec, &f, NULL) == TRUENO_OK);
        check(s, rec.throughput.predicted_tps > 0 &&
                     rec.throughput.predicted_tps <= rec.throughput.roofline_tps);
        check(s, strcmp(rec.model_version, versions[0]) == 0 ||
                     strncmp(rec.model_version, versions[1], 6) == 0);
        check(s, trueno_recommendation_format(text, sizeof text, &rec) > 300);
        check(s, trueno_tuner_observe(s->t, rec.kernel.ticket, 1000, 0) == TRUENO_OK);
        check(s, trueno_tuner_predict(s->t, &p, &f, NULL) == TRUENO_OK && p.predicted_tps > 0);
        check(s, trueno_tuner_plan(s->t, &pick, &problem) == TRUENO_OK && pick.variant != NULL);
        check(s, trueno_tuner_observe(s->t, pick.ticket, 1000 + (uint64_t)i, 0) == TRUENO_OK);
        check(s, trueno_tuner_explain(s->t, text, sizeof text, &len, &problem, NULL) == TRUENO_OK);
        check(s, trueno_tuner_get_stats(s->t, &stats) == TRUENO_OK && stats.contexts > 0);
        trueno_pass pass = TRUENO_PASS_INIT;
        pass.problem.kind = TRUENO_PROBLEM_PASS;
        pass.problem.rows = 1000;
        pass.problem.cols = 256;
        pass.problem.n_cols = 1 + (uint32_t)i % 2;
        pass.problem.threads = 4;
        check(s, trueno_tuner_begin_pass(s->t, &pass) == TRUENO_OK);
        check(s, pass.threads >= 1 && pass.threads <= 4);
        check(s, trueno_tuner_observe_drafts(s->t, 2, 1) == TRUENO_OK);
        check(s, trueno_tuner_end_pass(s->t, &pass, 1000 * pass.threads, 1) == TRUENO_OK);
    }
    s->reading--;
    return NULL;
}

/* The calls that are made by one thread at a time; two threads make them. */
static trueno_status change(struct shared *s, int what)
{
    static char bytes[WRITERS][1 << 20];
    trueno_features f = gpu_run(7, 1 + what % 4);
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
    trueno_tuner *copy;
    trueno_status status;
    size_t len;
    profile.n = 1;
    profile.points[0] = (trueno_machine_point){1 + (uint32_t)what % 8, 20, 50, 25};
    switch (what % 9) {
    case 0: return trueno_tuner_train(s->t, NULL, s->rows, s->tps, 20, NULL);
    case 1: return trueno_tuner_save(s->t, NULL);
    case 2: return trueno_tuner_import(s->t, NULL, s->store, s->store_bytes, NULL);
    case 3:
        return trueno_tuner_export(s->t, bytes[what & 1], sizeof bytes[0], &len,
                                   TRUENO_STORE_BINARY, NULL);
    case 4: return trueno_tuner_forget(s->t, NULL, NULL);
    case 5: return trueno_tuner_remember_profile(s->t, &profile, NULL);
    case 6:
        status = trueno_tuner_clone(s->t, &copy, NULL);
        trueno_tuner_free(copy);
        return status;
    case 7: return trueno_tuner_tick(s->t, 0);
    default:
        status = trueno_tuner_observe_run(s->t, &f, 150, NULL);
        s->runs += status == TRUENO_OK;
        return status;
    }
}

static void *change_all(void *arg)
{
    struct job *job = arg;
    struct shared *s = job->s;
    for (int i = 0; s->reading > 0 || i < 18; i++) {
        trueno_status status = change(s, 2 * i + job->number);
        check(s, status == TRUENO_OK || status == TRUENO_ERR_BUSY);
        s->changed += status == TRUENO_OK;
        if (status == TRUENO_ERR_BUSY) sched_yield();
    }
    return NULL;
}

static void test_threads(void **state)
{
    static trueno_features rows[100];
    static char bytes[1 << 20];
    double tps[100];
    char path[] = "/tmp/trueno-test-XXXXXX", lock[sizeof path + 5];
    struct shared s = {.rows = rows, .tps = tps, .path = path, .store = bytes};
    struct job jobs[READERS + WRITERS];
    pthread_t threads[READERS + WRITERS];
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_problem p = TRUENO_PROBLEM_INIT;
    const char *kernels[8];
    (void)state;
    sample_rows(rows, tps);
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    p.rows = 512;
    p.cols = 256;
    s.t = make_tuner(ctx, TRUENO_TUNER_LEARN);
    size_t n = kernels_tried(ctx, kernels, &p);
    play(s.t, &p, kernels[n - 1], 400);
    assert_int_equal(
        trueno_tuner_export(s.t, bytes, sizeof bytes, &s.store_bytes, TRUENO_STORE_BINARY, NULL),
        TRUENO_OK);
    trueno_tuner_free(s.t);

    o.mode = TRUENO_TUNER_LEARN;
    o.store_path = path;
    assert_int_equal(trueno_tuner_new(ctx, &s.t, &o, NULL), TRUENO_OK);
    s.reading = READERS;
    for (int i = 0; i < READERS + WRITERS; i++) {
        jobs[i] = (struct job){&s, i < READERS ? i : i - READERS};
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < READERS ? read_all : change_all, &jobs[i]), 0);
    }
    for (int i = 0; i < READERS + WRITERS; i++) pthread_join(threads[i], NULL);
    assert_int_equal(s.wrong, 0);
    assert_true(stats_of(s.t).runs == s.runs);
    assert_true(s.changed > 0);
    trueno_tuner_free(s.t);
    unlink(path);
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(lock);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_threads)};
    return cmocka_run_group_tests(tests, make_shared, free_shared);
}
