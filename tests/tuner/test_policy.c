/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tuner/replay.h"

enum { REPLAYS = 200, ARMS = 6 };

static struct tr_policy *new_policy(uint32_t n_arms, uint64_t seed)
{
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    struct tr_policy *p = malloc(tr_policy_bytes(n_arms));
    assert_non_null(p);
    o.policy = TRUENO_BANDIT_AUDIT;
    o.seed = seed;
    tr_policy_init(p, &o, n_arms, 0, 1);
    return p;
}

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

static void explore(void **state)
{
    (void)state;
    double sig[] = {0.01, 0.02, 0.03, 0.04}, dist[] = {0, 0.02, 0.15};
    for (int a = 0; a < 4; a++) for (int d = 0; d < 3; d++) {
        double conv[REPLAYS], reg[REPLAYS], rec[REPLAYS], aud[REPLAYS], mean = 0; uint64_t races = 0; double nraces=0;double calls=0;
        for (uint64_t seed = 0; seed < REPLAYS; seed++) {
            struct machine m = new_machine(seed, sig[a], dist[d]);
            struct tr_policy *p = new_policy(ARMS, seed);
            struct replay r = {.source = machine_source, .user = &m, .n_arms = ARMS, .truth = m.ratio};
            replay_begin(&r, p);
            conv[seed] = (double)replay_converge(&r, 2000);
            while (p->phase == TR_POLICY_RACE) replay_run(&r, 1);
            r.cost = r.best_cost = 0;
            replay_run(&r, 20000 + tr_random_below(&m.random, 1000));
            reg[seed] = replay_regret(&r); mean += reg[seed] / REPLAYS;
            aud[seed] = p->audit_excess / r.cost;
            races += p->n_races - 1; nraces = (double)p->n_audits; calls += (double)r.call;
            r.slow[p->incumbent] = 1.5;
            rec[seed] = (double)replay_converge(&r, 5000);
            free(p);
        }
        printf("sigma %.2f dist %.2f: conv p50 %4.0f p95 %4.0f max %4.0f | regret mean %.4f p95 %.4f max %.4f | audit p50 %.4f max %.4f n %g| recover p50 %4.0f p95 %4.0f max %4.0f | false %g per 1e5\n",
            sig[a], dist[d], quantile(conv, REPLAYS, .5), quantile(conv, REPLAYS, .95), quantile(conv, REPLAYS, 1), mean,
            quantile(reg, REPLAYS, .95), quantile(reg, REPLAYS, 1), quantile(aud, REPLAYS, .5), quantile(aud, REPLAYS, 1), nraces,
            quantile(rec, REPLAYS, .5), quantile(rec, REPLAYS, .95), quantile(rec, REPLAYS, 1), (double)races / calls * 1e5);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(explore)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
