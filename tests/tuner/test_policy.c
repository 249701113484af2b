/* SPDX-License-Identifier: MIT */
/* Race and audit: what it does call by call where costs are exact, and its goals over replays of
 * noisy machines. */
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

static struct tr_policy *new_policy(uint32_t n_arms, uint32_t default_arm, uint64_t seed)
{
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    struct tr_policy *p = malloc(tr_policy_bytes(n_arms));
    assert_non_null(p);
    o.policy = TRUENO_BANDIT_AUDIT;
    o.seed = seed;
    tr_policy_init(p, &o, n_arms, default_arm, 1);
    return p;
}

/* ----------------------------------------------------------------- exact costs */

/* Runs n calls of arms that take exactly `ns`, and counts those of each. */
static void run_exact(struct tr_policy *p, const double *ns, uint64_t *count, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        uint32_t arm = tr_policy_select(p);
        assert_true(arm < p->n_arms);
        if (count) count[arm]++;
        tr_policy_observe(p, arm, ns[arm]);
    }
}

/* Calls until the race is over. */
static uint64_t race_exact(struct tr_policy *p, const double *ns)
{
    uint64_t n = 0;
    for (; p->phase == TR_POLICY_RACE; n++) {
        if (n > 1000) fail_msg("the race does not end");
        run_exact(p, ns, NULL, 1);
    }
    return n;
}

/* A turn there and back through the arms, in orders that differ. */
static void test_blocks(void **state)
{
    uint32_t seen[3] = {0};
    (void)state;
    for (uint64_t seed = 0; seed < 32; seed++) {
        struct tr_policy *p = new_policy(3, 0, seed);
        uint32_t arms[6], n[3] = {0};
        for (int i = 0; i < 6; i++) {
            arms[i] = tr_policy_select(p);
            assert_int_equal(tr_policy_select(p), arms[i]); /* nothing came: still the same */
            n[arms[i]]++;
            tr_policy_observe(p, arms[i], 100);
        }
        for (int i = 0; i < 3; i++) {
            assert_int_equal(arms[i], arms[5 - i]);
            assert_int_equal(n[i], 2);
        }
        seen[arms[0]]++;
        free(p);
    }
    assert_true(seen[0] > 3 && seen[1] > 3 && seen[2] > 3);
}

/* How long a race of two takes, and who wins it. */
static void test_race_of_two(void **state)
{
    static const struct {
        double ns[2];
        uint32_t default_arm, blocks, winner;
    } cases[] = {
        {{100, 900}, 0, 1, 0},    /* above 8x: one block is enough */
        {{100, 150}, 0, 2, 0},    /* above 1.3x */
        {{150, 100}, 0, 2, 1},    /* the default as well */
        {{100, 115}, 0, 4, 0},    /* above 1.1x */
        {{100, 107}, 0, 6, 0},    /* above 1.05x */
        {{100, 100}, 0, 10, 0},   /* cannot be better by 1.5 % */
        {{100, 100}, 1, 10, 1},   /* of equal arms the default wins, */
        {{100, 101}, 1, 25, 1},   /* and while the other one is not faster by 1.5 % */
        {{100, 102}, 1, 10, 0},   /* it is */
        {{100, 104.5}, 1, 10, 0}, /* not above 1.05x: the first look */
        {{100, 103.2}, 0, 6, 0},  /* a challenger that is behind leaves early */
        {{100, 102.2}, 0, 9, 0},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tr_policy *p = new_policy(2, cases[i].default_arm, i);
        uint64_t calls = race_exact(p, cases[i].ns);
        if (calls != 4 * cases[i].blocks || tr_policy_select(p) != cases[i].winner)
            fail_msg("case %zu: %d calls, arm %u", i, (int)calls, tr_policy_select(p));
        assert_int_equal(tr_policy_best(p), cases[i].winner);
        free(p);
    }
}

/* Of several arms that equal the best one and beat the default, the first. */
static void test_first_of_equals(void **state)
{
    const double ns[] = {130, 120, 100.5, 100, 101};
    (void)state;
    struct tr_policy *p = new_policy(5, 0, 1);
    race_exact(p, ns);
    assert_int_equal(tr_policy_select(p), 2);
    /* gains as they are, also of those that left early */
    for (int i = 0; i < 5; i++)
        assert_true(fabs((double)p->arms[i].gain - log(100.5 / ns[i])) < 1e-5);
    free(p);
}

/* Calls that were not asked for, and numbers that are none, change no comparison. */
static void test_stray_updates(void **state)
{
    const double ns[] = {100, 103, 97, 140};
    (void)state;
    struct tr_policy *p = new_policy(4, 0, 7), *q = new_policy(4, 0, 7);
    for (int i = 0; i < 400; i++) {
        uint32_t arm = tr_policy_select(p);
        assert_int_equal(arm, tr_policy_select(q));
        tr_policy_observe(p, arm, ns[arm]);
        tr_policy_observe(q, (arm + 1) % 4, 1); /* a fine time, of another arm */
        tr_policy_observe(q, arm, ns[arm]);
        tr_policy_observe(q, 4, 1);
        tr_policy_observe(q, arm, -1);
        tr_policy_observe(q, arm, NAN);
        tr_policy_update(q, arm, INFINITY);
        if (p->phase == TR_POLICY_SERVE) break; /* from here on q has served more */
    }
    assert_int_equal(p->phase, TR_POLICY_SERVE);
    assert_int_equal(tr_policy_best(p), 2);
    assert_int_equal(tr_policy_best(q), 2);
    assert_int_equal(q->n, 2 * p->n);
    free(p);
    free(q);
}

/* Two arms, 100 and 105 ns: an audit costs 16 x 5 ns, so after 16 x 0.05 / 0.003 = 266 calls. */
static void test_audits(void **state)
{
    const double ns[] = {100, 105};
    uint64_t count[2] = {0};
    double upper;
    (void)state;
    struct tr_policy *p = new_policy(2, 0, 1);
    assert_int_equal(race_exact(p, ns), 24);
    /* the race: 12 calls of the slower arm */
    assert_true(fabs(tr_policy_regret(p, &upper) - 12 * log(1.05)) < 1e-4);
    assert_true(fabs(upper - 12 * log(1.05)) < 1e-4); /* no variance */
    run_exact(p, ns, count, 266);
    assert_int_equal(count[1], 0);
    run_exact(p, ns, count, 32);
    assert_int_equal(count[1], 16);
    assert_true(p->phase == TR_POLICY_SERVE && p->n_audits == 1);
    assert_true(fabs(p->audit_excess - 80) < 1e-3);
    assert_true(fabs(tr_policy_regret(p, NULL) - 28 * log(1.05)) < 1e-4);
    run_exact(p, ns, count, 266);
    assert_int_equal(count[1], 16);
    assert_true(fabs(tr_policy_exploration_rate(p) - 28.0 / (24 + 266 + 32 + 266)) < 1e-12);
    run_exact(p, ns, count, 100000);
    assert_true((double)count[1] * 5 < 0.003 * 100 * 100700);
    assert_true((double)count[1] * 5 > 0.002 * 100 * 100000);
    assert_int_equal(p->n_races, 1);
    free(p);
}

/* Calls that nobody measures count as those that are measured and take what the last one took; they
 * end where an audit is due, and in a comparison there are none. */
static void test_unmeasured(void **state)
{
    const double ns[] = {100, 105};
    uint64_t count[2] = {0};
    (void)state;
    struct tr_policy *p = new_policy(2, 0, 1), *q = new_policy(2, 0, 1);
    assert_false(tr_policy_serve(p, 1)); /* the race */
    race_exact(p, ns);
    race_exact(q, ns);
    run_exact(p, ns, NULL, 201);
    run_exact(q, ns, NULL, 1);
    assert_true(tr_policy_serve(q, 150));
    assert_true(tr_policy_serve(q, 50));
    assert_true(p->n == q->n && p->n_served == q->n_served && p->next_due == q->next_due);
    assert_true(p->arms[0].n == q->arms[0].n);
    assert_true(fabs(p->credit - q->credit) <= 1e-9 * p->credit);
    assert_false(tr_policy_serve(q, 100)); /* the audit is due after 266 */
    assert_true(p->n == q->n);
    assert_true(tr_policy_serve(q, 64));
    run_exact(q, ns, count, 1 + 32); /* the call at which it is due, and the audit */
    assert_int_equal(count[1], 16);
    assert_int_equal(q->n_audits, 1);
    for (int i = 0; i < 16; i++) { /* and again */
        run_exact(q, ns, count, 1);
        while (tr_policy_serve(q, 10)) continue;
    }
    while (q->phase != TR_POLICY_SERVE) run_exact(q, ns, count, 1);
    assert_true(q->n + 1 < q->next_due);
    tr_policy_race(q);
    assert_false(tr_policy_serve(q, 1)); /* another race */
    free(p);
    free(q);
}

/* An arm that is better by less than 1.5 % is missed knowingly, and is regret. */
static void test_missed_gain(void **state)
{
    const double ns[] = {101, 100};
    double gain = log(1.01), upper;
    (void)state;
    struct tr_policy *p = new_policy(2, 0, 1);
    race_exact(p, ns);
    run_exact(p, ns, NULL, 150);
    assert_int_equal(tr_policy_best(p), 0);
    assert_true(fabs(tr_policy_regret(p, &upper) - (150 - 50) * gain) < 1e-3);
    assert_true(fabs(upper - (150 - 50) * gain) < 1e-3);
    free(p);
}

/* An arm above 2x is not audited; what audits do not lose is saved up to 64 calls. */
static void test_far_arm(void **state)
{
    const double ns[] = {100, 100, 250};
    uint64_t count[3] = {0};
    (void)state;
    struct tr_policy *p = new_policy(3, 0, 1);
    race_exact(p, ns);
    run_exact(p, ns, count, 100000);
    assert_int_equal(count[2], 0);
    assert_true(count[1] > 100);
    assert_true(p->credit > 63 * 100 && p->credit <= 64 * 100 + 1e-6);
    free(p);
}

/* At any time the audits have lost no more than 0.6 % of the time and two calls, whatever the arms
 * turn out to be. */
static void test_ledger(void **state)
{
    static const double factors[] = {1.02, 1.3, 1.9, 5, 40};
    (void)state;
    for (size_t k = 0; k < sizeof factors / sizeof factors[0]; k++) {
        const double ns[] = {100, 100 * factors[k], 150 * factors[k]};
        double time = 0, lost = 0;
        struct tr_policy *p = new_policy(3, 0, 1);
        tr_policy_pin(p, 0); /* nothing is known of the others */
        for (int i = 0; i < 100000; i++) {
            uint32_t arm = tr_policy_select(p);
            time += ns[arm];
            lost += ns[arm] - 100;
            if (lost > 0.006 * time + 2 * ns[2])
                fail_msg("x%g, call %d: %g ns", factors[k], i, lost);
            tr_policy_observe(p, arm, ns[arm]);
        }
        assert_true(lost > 0); /* something was tried */
        assert_true(lost <= 0.006 * time);
        free(p);
    }
}

static void test_pin(void **state)
{
    const double ns[] = {100, 101, 102};
    uint64_t count[3] = {0};
    (void)state;
    struct tr_policy *p = new_policy(3, 0, 1);
    tr_policy_pin(p, 2);
    assert_int_equal(tr_policy_best(p), -1); /* no data */
    run_exact(p, ns, count, 150);
    assert_int_equal(count[2], 150);
    assert_int_equal(tr_policy_best(p), 2);
    assert_true(isnan(tr_policy_regret(p, NULL))); /* nothing else was tried */
    free(p);
}

/* What is known of the others is known in relation to the arm that is in use. */
static void test_pin_after_race(void **state)
{
    const double ns[] = {100, 105, 500};
    (void)state;
    struct tr_policy *p = new_policy(3, 0, 1);
    race_exact(p, ns);
    tr_policy_pin(p, 1);
    for (int i = 0; i < 3; i++)
        assert_true(fabs((double)p->arms[i].gain - log(105 / ns[i])) < 1e-5);
    free(p);
}

/* What slows all arms alike changes nothing. What slows the one in use starts a race once two
 * audits have said so, however much it is, without arms that are four times slower. */
static void test_drift(void **state)
{
    double ns[] = {100, 105, 500};
    uint64_t count[3] = {0};
    (void)state;
    struct tr_policy *p = new_policy(3, 0, 1);
    race_exact(p, ns);
    for (int i = 0; i < 1000; i++) {
        for (int a = 0; a < 3; a++) ns[a] *= i % 2 ? 1.7 : 1 / 1.7;
        run_exact(p, ns, NULL, 37);
    }
    assert_int_equal(p->n_races, 1);
    assert_true(p->n_audits > 100);
    while (p->phase != TR_POLICY_SERVE) run_exact(p, ns, NULL, 1);
    uint64_t audits = p->n_audits;
    ns[0] *= 3;
    while (p->n_races == 1) {
        if (p->n > 50000) fail_msg("not found");
        run_exact(p, ns, count, 1);
    }
    assert_int_equal(p->n_audits, audits + 2);
    while (p->phase == TR_POLICY_RACE) run_exact(p, ns, count, 1);
    assert_int_equal(tr_policy_best(p), 1);
    assert_int_equal(count[2], 0);
    assert_true(p->credit <= 64 * p->reference);
    free(p);
}

/* At the end of a race 95 % are enough, and a bound above no gain for an arm that is 3 % faster in
 * the median. Blocks say `gain`, but those of every n-th `other`. */
static uint32_t winner_of_mixed(double gain, double other, uint32_t n)
{
    struct tr_policy *p = new_policy(2, 0, 1);
    for (int i = 0; p->phase == TR_POLICY_RACE && i < 200; i++) {
        uint32_t arm = tr_policy_select(p);
        double said = p->n_blocks % n == 0 ? other : gain;
        tr_policy_update(p, arm, arm == 1 ? said : 0);
    }
    assert_int_equal(p->n, 100);
    uint32_t best = (uint32_t)tr_policy_best(p);
    free(p);
    return best;
}

static void test_last_look(void **state)
{
    (void)state;
    assert_int_equal(winner_of_mixed(0.04, 0.01, 3), 1); /* nine of 25 blocks: no bound of 1.5 % */
    assert_int_equal(winner_of_mixed(0.04, -0.01, 3), 0);
    assert_int_equal(winner_of_mixed(0.02, 0.01, 3), 0);
    assert_int_equal(winner_of_mixed(0.02, 0.01, 4), 1); /* seven */
}

/* Noise of 15 % a call: no arm of three equal ones is raced again because of it, and few take over.
 */
static void test_noise_alone(void **state)
{
    uint64_t races = 0, calls = 0, flips = 0;
    (void)state;
    for (uint64_t i = 0; i < 40; i++) {
        struct machine m = {.n_arms = 3, .sigma = 0.15, .disturbed = 0.1, .swing = 1.7};
        struct replay r = {.source = machine_source, .user = &m, .n_arms = 3, .truth = m.ratio};
        struct tr_policy *p = new_policy(3, 0, i);
        m.ratio[0] = m.ratio[1] = m.ratio[2] = 1;
        tr_random_seed(&m.random, i, 97);
        replay_begin(&r, p);
        replay_run(&r, 20000);
        races += p->n_races - 1;
        flips += p->incumbent != 0;
        calls += p->n;
        free(p);
    }
    if (!(races * 100000 <= calls)) fail_msg("%d races in %d calls", (int)races, (int)calls);
    if (flips > 4) fail_msg("%d of 40 processes changed for nothing", (int)flips);
}

/* In a race soon after a change of arms a gain below 3 % is not enough for another one; later it
 * is.
 */
static void test_hysteresis(void **state)
{
    double ns[] = {100, 90};
    (void)state;
    struct tr_policy *p = new_policy(2, 0, 1);
    assert_true(p->eps == 0.015F);
    race_exact(p, ns);
    assert_int_equal(tr_policy_best(p), 1);
    tr_policy_race(p);
    assert_true(p->eps == 0.03F);
    ns[0] = 90 * exp(-0.02);
    race_exact(p, ns);
    assert_int_equal(tr_policy_best(p), 1);
    ns[0] = 100;
    run_exact(p, ns, NULL, 10000);
    ns[0] = 90 * exp(-0.02);
    tr_policy_race(p);
    assert_true(p->eps == 0.015F);
    race_exact(p, ns);
    assert_int_equal(tr_policy_best(p), 0);
    free(p);
}

/* An arm that is 1 % faster, too little for a race, takes over when audits have proven it: the
 * sixth does, as nothing varies here. 0.2 % is not worth a change, nor is nothing. */
static void test_proven(void **state)
{
    static const double others[] = {99, 99.8, 100, 101};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        const double ns[] = {100, others[i]};
        struct tr_policy *p = new_policy(2, 0, 1);
        race_exact(p, ns);
        assert_int_equal(tr_policy_best(p), 0);
        while (p->n_audits < 5) run_exact(p, ns, NULL, 1);
        assert_int_equal(tr_policy_best(p), 0);
        while (p->n_audits < 6) run_exact(p, ns, NULL, 1);
        assert_int_equal(tr_policy_best(p), i == 0);
        assert_int_equal(p->phase, TR_POLICY_SERVE);
        assert_int_equal(p->n_races, 1);
        if (i == 0) { /* the other one is known to be behind, and stays there */
            assert_true(fabs((double)p->arms[0].gain + log(100.0 / 99)) < 1e-4);
            assert_true(p->arms[0].n_audits == 0 && p->arms[1].n_audits == 0);
            assert_true(p->last_flip == p->n);
        }
        run_exact(p, ns, NULL, 50000);
        assert_int_equal(tr_policy_best(p), i == 0);
        free(p);
    }
}

static void test_one_arm(void **state)
{
    const double ns[] = {100};
    uint64_t count[1] = {0};
    (void)state;
    struct tr_policy *p = new_policy(1, 0, 1);
    run_exact(p, ns, count, 1000);
    assert_int_equal(count[0], 1000);
    assert_int_equal(p->n_audits, 0);
    free(p);
}

/* -------------------------------------------------------------------- replays */

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
        cmocka_unit_test(test_blocks),          cmocka_unit_test(test_race_of_two),
        cmocka_unit_test(test_first_of_equals), cmocka_unit_test(test_stray_updates),
        cmocka_unit_test(test_audits),          cmocka_unit_test(test_unmeasured),
        cmocka_unit_test(test_missed_gain),     cmocka_unit_test(test_far_arm),
        cmocka_unit_test(test_ledger),          cmocka_unit_test(test_pin),
        cmocka_unit_test(test_hysteresis),      cmocka_unit_test(test_proven),
        cmocka_unit_test(test_one_arm),         cmocka_unit_test(test_pin_after_race),
        cmocka_unit_test(test_drift),           cmocka_unit_test(test_last_look),
        cmocka_unit_test(test_noise_alone),     cmocka_unit_test(test_goals),
        cmocka_unit_test(test_trace_file),      cmocka_unit_test(test_recorded_traces),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
