/* SPDX-License-Identifier: MIT */
/* The goals of race and audit over replays of noisy machines, made up and recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tuner/replay.h"

enum { REPLAYS = 200, ARMS = 6, STEADY = 10000 };

#define TRACES "tests/data/traces"

/* What the replays of one machine or trace came to. */
struct outcome {
    double converged[REPLAYS], recovered[REPLAYS], regret[REPLAYS], audits[REPLAYS];
    double calls, false_races;
};

/* One replay: convergence; then STEADY calls and some, so that the change comes at any time between
 * two audits; then whatever is in use becomes 1.5 times slower. */
static void replay_one(struct outcome *o, size_t i, struct replay *r, struct tr_policy *p)
{
    struct tr_random random;
    tr_random_seed(&random, i, 5);
    replay_begin(r, p);
    o->converged[i] = (double)replay_converge(r, 2000);
    while (p->phase == TR_POLICY_RACE) replay_run(r, 1);
    replay_reset(r);
    uint64_t steady = STEADY + tr_random_below(&random, 1000);
    for (uint64_t n = 0; n < steady; n++) {
        uint64_t races = p->n_races;
        uint32_t used = p->incumbent;
        replay_run(r, 1);
        /* a race is for nothing where no arm is better by what counts as a difference */
        for (uint32_t a = 0; a < r->n_arms && p->n_races > races; a++)
            if (r->truth[a] * 1.015 < r->truth[used]) races = p->n_races;
        o->false_races += (double)(p->n_races - races);
    }
    o->calls += (double)steady;
    o->regret[i] = replay_regret(r);
    o->audits[i] = p->audit_excess / r->ns;
    r->slow[p->incumbent] = 1.5;
    o->recovered[i] = (double)replay_converge(r, 5000);
}

static double mean(const double *values, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += values[i];
    return sum / (double)n;
}

static void expect_goals(const char *name, struct outcome *o, bool recovers)
{
    double converged = quantile(o->converged, REPLAYS, 0.95);
    double median = quantile(o->recovered, REPLAYS, 0.5);
    double recovered = quantile(o->recovered, REPLAYS, 0.95);
    double regret = mean(o->regret, REPLAYS), audits = quantile(o->audits, REPLAYS, 1);
    double false_rate = o->false_races / o->calls * 1e5;
    print_message("%s: converged after %.0f calls, regret %.2f %% (audits at most %.2f %%), "
                  "recovered after %.0f (%.0f), %.2f false races in 1e5 calls\n",
                  name, converged, 100 * regret, 100 * audits, recovered, median, false_rate);
    assert_true(converged <= 200);
    assert_true(regret <= 0.006);
    assert_true(audits <= 0.006);
    assert_true(!recovers || (recovered <= 750 && median <= 300));
    assert_true(false_rate <= 1);
}

/* Six arms: two within 3 % of the best, one between 3 and 5 %, the others up to 3.5 times slower;
 * any of them may be the default. */
static struct machine new_machine(uint64_t seed, double sigma, double disturbed)
{
    struct machine m = {.n_arms = ARMS, .sigma = sigma, .disturbed = disturbed, .swing = 1.7};
    tr_random_seed(&m.random, seed, 99);
    m.ratio[0] = 1;
    m.ratio[1] = 1 + 0.03 * tr_random_unit(&m.random);
    m.ratio[2] = 1.03 + 0.02 * tr_random_unit(&m.random);
    m.ratio[3] = 1.05 + 0.10 * tr_random_unit(&m.random);
    m.ratio[4] = 1.1 + 0.5 * tr_random_unit(&m.random);
    m.ratio[5] = 1.5 + 2 * tr_random_unit(&m.random);
    for (uint32_t i = ARMS; i > 1; i--) {
        uint32_t j = tr_random_below(&m.random, i);
        double ratio = m.ratio[i - 1];
        m.ratio[i - 1] = m.ratio[j];
        m.ratio[j] = ratio;
    }
    return m;
}

/* Noise of 1 and 2 % a call; few and many calls disturbed. */
static void test_goals(void **state)
{
    static const double machines[][2] = {{0.01, 0.02}, {0.02, 0.05}, {0.02, 0.15}};
    struct outcome *o = malloc(sizeof *o);
    (void)state;
    assert_non_null(o);
    for (size_t k = 0; k < sizeof machines / sizeof machines[0]; k++) {
        char name[64];
        o->calls = o->false_races = 0;
        for (size_t i = 0; i < REPLAYS; i++) {
            struct machine m = new_machine(i, machines[k][0], machines[k][1]);
            struct replay r = {
                .source = machine_source, .user = &m, .n_arms = ARMS, .truth = m.ratio};
            struct tr_policy *p = new_policy(ARMS, 0, i);
            replay_one(o, i, &r, p);
            free(p);
        }
        snprintf(name, sizeof name, "noise %g %%, %g %% disturbed", 100 * machines[k][0],
                 100 * machines[k][1]);
        expect_goals(name, o, true);
    }
    free(o);
}

/* ---------------------------------------------------------------------- traces */

/* Medians of the arms' times in relation to the first one's, line by line. */
static void truth_of(double *truth, const struct trace *t)
{
    double *logs = malloc(t->n_rows * sizeof *logs);
    assert_non_null(logs);
    for (size_t a = 0; a < t->n_arms; a++) {
        for (size_t i = 0; i < t->n_rows; i++)
            logs[i] = log(t->ns[i * t->n_arms + a] / t->ns[i * t->n_arms]);
        truth[a] = exp(quantile(logs, t->n_rows, 0.5));
    }
    free(logs);
}

static void replay_trace(const char *path)
{
    double truth[TR_POLICY_ARMS], sorted[TR_POLICY_ARMS];
    struct trace t;
    struct outcome *o = calloc(1, sizeof *o);
    assert_non_null(o);
    trace_read(&t, path);
    truth_of(truth, &t);
    memcpy(sorted, truth, t.n_arms * sizeof *truth);
    quantile(sorted, t.n_arms, 0);
    for (size_t i = 0; i < REPLAYS; i++) {
        struct bootstrap b = {.trace = &t};
        struct replay r = {
            .source = bootstrap_source, .user = &b, .n_arms = (uint32_t)t.n_arms, .truth = truth};
        struct tr_policy *p = new_policy(r.n_arms, 0, i);
        tr_random_seed(&b.random, i, 98);
        replay_one(o, i, &r, p);
        free(p);
    }
    expect_goals(path, o, sorted[1] <= 1.05 * sorted[0]);
    trace_free(&t);
    free(o);
}

/* A trace that is written here, as trueno-bench traces does. */
static void test_trace_file(void **state)
{
    char path[] = "/tmp/trueno-trace-XXXXXX";
    struct machine m = {.n_arms = 3, .sigma = 0.02, .disturbed = 0.05, .swing = 1.7};
    (void)state;
    m.ratio[0] = 1.08;
    m.ratio[1] = 1;
    m.ratio[2] = 1.04;
    tr_random_seed(&m.random, 1, 1);
    int fd = mkstemp(path);
    FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
    assert_non_null(f);
    fputs("# a comment\n#\n", f);
    for (uint64_t i = 0; i < 2000; i++) {
        double ns[3];
        machine_source(ns, &m, i);
        fprintf(f, "%.0f %.0f %.0f\n", ns[0], ns[1], ns[2]);
    }
    fclose(f);
    struct trace t;
    trace_read(&t, path);
    assert_true(t.n_rows == 2000 && t.n_arms == 3);
    trace_free(&t);
    replay_trace(path);
    remove(path);
}

/* All that were recorded. */
static void test_recorded_traces(void **state)
{
    DIR *dir = opendir(TRACES);
    (void)state;
    if (!dir) skip();
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char path[512];
        const char *end = strrchr(e->d_name, '.');
        if (!end || strcmp(end, ".txt") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", TRACES, e->d_name);
        replay_trace(path);
    }
    closedir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_goals),
        cmocka_unit_test(test_trace_file),
        cmocka_unit_test(test_recorded_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
