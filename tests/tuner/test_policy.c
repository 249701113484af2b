/* SPDX-License-Identifier: MIT */
/* Race and audit, call by call where costs are exact, and single decisions where they are noisy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>

#include "tuner/replay.h"

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
        cmocka_unit_test(test_noise_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
