/* SPDX-License-Identifier: MIT */
/* Bandits: picks by hand for UCB1, posterior probabilities by integration for Thompson sampling,
 * algebra for what is reported. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "trueno/bandit.h"

#define V TRUENO_KERNEL_VECTORIZED_Q4K
#define B TRUENO_KERNEL_BATCHED_Q4K
#define G TRUENO_KERNEL_GENERIC

static trueno_ctx *ctx;
static const trueno_kernel pair[] = {V, B};

static trueno_bandit *new_bandit(trueno_bandit_policy policy, double c, uint64_t seed)
{
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    trueno_bandit *b;
    o.policy = policy;
    o.c = c;
    o.seed = seed;
    assert_int_equal(trueno_bandit_new(ctx, &b, &o, NULL), TRUENO_OK);
    return b;
}

static trueno_kernel pick(trueno_bandit *b, uint64_t context)
{
    trueno_kernel k = (trueno_kernel)99;
    assert_int_equal(trueno_bandit_select(b, &k, context, NULL), TRUENO_OK);
    return k;
}

static void reward(trueno_bandit *b, uint64_t context, trueno_kernel k, double r)
{
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_bandit_update(b, context, k, r, &err) != TRUENO_OK) fail_msg("%s", err.message);
}

static void announce(trueno_bandit *b, uint64_t context, const trueno_kernel *arms, size_t n)
{
    assert_int_equal(trueno_bandit_set_arms(b, context, arms, n, NULL), TRUENO_OK);
}

/* ------------------------------------------------------------------------ UCB1 */

/* V always brings 0.5 and B 0.9. With c = 1, after n picks of which B had k, V is picked where
 * 0.5 + sqrt(2 ln n / (n - k)) > 0.9 + sqrt(2 ln n / k):
 *   n  2: 1.677 2.077   3: 1.982 1.948   4: 1.677 2.077   5: 1.769 1.936   6: 1.839 1.846
 *   n  7: 1.895 1.782
 * With c = 0.5, the roots halved:
 *   n  2: 1.089 1.489   3: 1.241 1.424   4: 1.333 1.381   5: 1.397 1.349 */
static void test_ucb1_picks(void **state)
{
    static const trueno_kernel once[] = {V, B, B, V, B, B, B, V}, half[] = {V, B, B, B, B, V};
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_UCB1, 1, 1);
    announce(b, 7, pair, 2);
    for (size_t i = 0; i < sizeof once / sizeof once[0]; i++) {
        assert_int_equal(pick(b, 7), once[i]);
        reward(b, 7, once[i], once[i] == V ? 0.5 : 0.9);
    }
    trueno_bandit_free(b);
    b = new_bandit(TRUENO_BANDIT_UCB1, 0.5, 1);
    announce(b, 7, pair, 2);
    for (size_t i = 0; i < sizeof half / sizeof half[0]; i++) {
        assert_int_equal(pick(b, 7), half[i]);
        reward(b, 7, half[i], half[i] == V ? 0.5 : 0.9);
    }
    trueno_bandit_free(b);
}

/* UCB1 is what one gets without options. */
static void test_default_policy(void **state)
{
    trueno_bandit *b;
    (void)state;
    assert_int_equal(trueno_bandit_new(ctx, &b, NULL, NULL), TRUENO_OK);
    announce(b, 0, pair, 2);
    for (int i = 0; i < 3; i++) {
        trueno_kernel k = pick(b, 0);
        assert_int_equal(k, i == 0 ? V : B);
        reward(b, 0, k, k == V ? 0.5 : 0.9);
    }
    assert_int_equal(pick(b, 0), V);
    trueno_bandit_free(b);
}

/* Most picks go to the better arm, and equal arms share them. */
static void test_shares(void **state)
{
    static const trueno_kernel four[] = {V, B, G, TRUENO_KERNEL_RMS_NORM};
    (void)state;
    for (int policy = TRUENO_BANDIT_UCB1; policy <= TRUENO_BANDIT_THOMPSON; policy++) {
        int n[64] = {0};
        trueno_bandit *b = new_bandit((trueno_bandit_policy)policy, 1, 1);
        announce(b, 1, four, 4);
        announce(b, 2, pair, 2);
        for (int i = 0; i < 4000; i++) {
            trueno_kernel k = pick(b, 1);
            n[k]++;
            reward(b, 1, k, 0.5);
        }
        for (int i = 0; i < 4; i++) {
            assert_true(n[four[i]] > 500);
            if (policy == TRUENO_BANDIT_UCB1) assert_int_equal(n[four[i]], 1000);
        }
        for (int i = 0; i < 1000; i++) {
            trueno_kernel k = pick(b, 2);
            n[32 + k]++;
            reward(b, 2, k, (k == B ? 0.8 : 0.2) + (i % 5 - 2) * 0.05);
        }
        assert_true(n[32 + B] > 900 && n[32 + V] > 0);
        assert_int_equal(trueno_bandit_best_kernel(b, 2), B);
        trueno_bandit_free(b);
    }
}

/* -------------------------------------------------------------------- Thompson */

/* Posterior of a mean: Student's t with nu degrees of freedom around m, scaled by s. */
struct student {
    double nu, m, s;
};

/* From rewards in two passes; prior: mean 0.5, kappa 2, alpha 2, beta 0.25^2 (2 - 1). */
static struct student posterior(const double *x, int n)
{
    double sum = 0, squares = 0;
    for (int i = 0; i < n; i++) sum += x[i];
    double mean = n ? sum / n : 0, kappa = 2 + n, alpha = 2 + n / 2.0;
    for (int i = 0; i < n; i++) squares += (x[i] - mean) * (x[i] - mean);
    double beta = 0.0625 + squares / 2 + 2 * n * (mean - 0.5) * (mean - 0.5) / (2 * kappa);
    return (struct student){2 * alpha, (2 * 0.5 + sum) / kappa, sqrt(beta / (alpha * kappa))};
}

static double density(const struct student *t, double x)
{
    double z = (x - t->m) / t->s;
    double log_norm = lgamma((t->nu + 1) / 2) - lgamma(t->nu / 2) - 0.5 * log(t->nu * acos(-1));
    return exp(log_norm - (t->nu + 1) / 2 * log1p(z * z / t->nu)) / t->s;
}

/* P(a > b): sum over x of a's density times b's distribution, by trapezoids. */
static double probability_above(const struct student *a, const struct student *b)
{
    const double from = -20, to = 20, dx = 1e-3;
    double below = 0, sum = 0;
    for (double x = from; x < to; x += dx) {
        below += (density(b, x) + density(b, x + dx)) / 2 * dx;
        sum += density(a, x + dx) * below * dx;
    }
    return sum;
}

static void test_thompson_posterior(void **state)
{
    static const struct {
        double v[6], b[6];
        int n_v, n_b;
    } cases[] = {
        {{0}, {0.9}, 0, 1},                                   /* only the prior */
        {{0.5, 0.6, 0.4}, {0.55, 0.65}, 3, 2},                /* near */
        {{0.5, 0.52, 0.48, 0.5}, {0.1, 1.1, 0.9, 0.4}, 4, 4}, /* same range, other variance */
        {{-3, -2.5, -3.5}, {-2, -2.9, -3.2, -2.6}, 3, 4},     /* far from the prior */
    };
    enum { N = 20000 };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int n = 0;
        trueno_bandit *b = new_bandit(TRUENO_BANDIT_THOMPSON, 1, i);
        announce(b, 5, pair, 2);
        for (int k = 0; k < cases[i].n_v; k++) reward(b, 5, V, cases[i].v[k]);
        for (int k = 0; k < cases[i].n_b; k++) reward(b, 5, B, cases[i].b[k]);
        for (int k = 0; k < N; k++) n += pick(b, 5) == V;
        struct student pv = posterior(cases[i].v, cases[i].n_v);
        struct student pb = posterior(cases[i].b, cases[i].n_b);
        double want = probability_above(&pv, &pb), got = (double)n / N;
        /* the standard error is at most 0.0035 */
        if (!(fabs(got - want) <= 0.015)) fail_msg("case %zu: %g, not %g", i, got, want);
        trueno_bandit_free(b);
    }
}

static void test_thompson_seeds(void **state)
{
    trueno_bandit *a = new_bandit(TRUENO_BANDIT_THOMPSON, 1, 1), *c;
    trueno_bandit *same = new_bandit(TRUENO_BANDIT_THOMPSON, 1, 1);
    trueno_bandit *other = new_bandit(TRUENO_BANDIT_THOMPSON, 1, 2);
    int differ = 0, contexts = 0, n = 0;
    (void)state;
    assert_int_equal(trueno_bandit_with_thompson_sampling(ctx, &c, NULL), TRUENO_OK);
    announce(a, 1, pair, 2);
    announce(a, 2, pair, 2);
    announce(same, 1, pair, 2);
    announce(other, 1, pair, 2);
    announce(c, 1, pair, 2);
    for (int i = 0; i < 200; i++) {
        trueno_kernel k = pick(a, 1);
        n += k == V;
        assert_int_equal(pick(same, 1), k);
        assert_int_equal(pick(c, 1), k); /* the default seed is 1 */
        differ += pick(other, 1) != k;
        contexts += pick(a, 2) != k;
    }
    assert_true(n > 60 && n < 140);
    assert_true(differ > 60 && contexts > 60);
    n = 0;
    for (int i = 0; i < 200; i++) { /* a change of arms does not begin the numbers anew */
        trueno_kernel turned[] = {i % 2 ? V : B, i % 2 ? B : V};
        announce(a, 1, turned, 2);
        n += pick(a, 1) == turned[0];
    }
    assert_true(n > 60 && n < 140);
    trueno_bandit_free(a);
    trueno_bandit_free(same);
    trueno_bandit_free(other);
    trueno_bandit_free(c);
}

/* --------------------------------------------------------------------- reports */

static void test_reports(void **state)
{
    double upper = 0;
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_UCB1, 1, 1);
    announce(b, 3, pair, 2);
    for (int i = 0; i < 2; i++) { /* a context with arms, then one that is not there */
        assert_int_equal(trueno_bandit_best_kernel(b, i ? 4 : 3), TRUENO_KERNEL_UNKNOWN);
        assert_true(trueno_bandit_exploration_rate(b, i ? 4 : 3) == 1);
        upper = 0;
        assert_true(isnan(trueno_bandit_estimated_regret(b, i ? 4 : 3, &upper)) && isnan(upper));
    }
    reward(b, 3, V, 0.5); /* there was no best one: exploring */
    assert_int_equal(trueno_bandit_best_kernel(b, 3), V);
    assert_true(trueno_bandit_exploration_rate(b, 3) == 1);
    reward(b, 3, V, 0.7);
    assert_true(trueno_bandit_exploration_rate(b, 3) == 0.5);
    assert_true(isnan(trueno_bandit_estimated_regret(b, 3, &upper)) && isnan(upper));
    reward(b, 3, B, 0.8); /* exploring; and the best from now on */
    assert_int_equal(trueno_bandit_best_kernel(b, 3), B);
    assert_true(fabs(trueno_bandit_exploration_rate(b, 3) - 2.0 / 3) < 1e-12);
    assert_true(fabs(trueno_bandit_estimated_regret(b, 3, &upper) - 2 * 0.2) < 1e-12);
    assert_true(isinf(upper)); /* one reward has no variance */
    reward(b, 3, B, 1.0);
    assert_true(trueno_bandit_exploration_rate(b, 3) == 0.5);
    /* means 0.6 and 0.9, variances 0.02 and 0.02: of each mean 0.01 */
    assert_true(fabs(trueno_bandit_estimated_regret(b, 3, &upper) - 0.6) < 1e-12);
    assert_true(fabs(upper - (0.6 + 2 * 1.6448536 * sqrt(0.02))) < 1e-6);
    assert_true(fabs(trueno_bandit_estimated_regret(b, 3, NULL) - 0.6) < 1e-12);
    assert_int_equal(trueno_bandit_best_kernel(NULL, 3), TRUENO_KERNEL_UNKNOWN);
    assert_true(trueno_bandit_exploration_rate(NULL, 3) == 1);
    assert_true(isnan(trueno_bandit_estimated_regret(NULL, 3, &upper)) && isnan(upper));
    trueno_bandit_free(b);
}

/* ------------------------------------------------------------------------ arms */

static void test_arms(void **state)
{
    static const trueno_kernel more[] = {G, B}, three[] = {V, B, G};
    trueno_kernel k = V;
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_UCB1, 0, 1); /* c = 0: the best mean */
    assert_int_equal(trueno_bandit_select(b, &k, 1, NULL), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(k, TRUENO_KERNEL_UNKNOWN);
    reward(b, 1, B, 0.5); /* not announced: becomes an arm */
    assert_int_equal(pick(b, 1), B);
    reward(b, 1, V, 0.9);
    assert_int_equal(pick(b, 1), V);
    reward(b, 1, V, 0.1);
    reward(b, 1, V, 0.2); /* 0.4 now */
    assert_int_equal(pick(b, 1), B);
    announce(b, 1, more, 2); /* B is still known, V is gone, G is new */
    assert_true(trueno_bandit_exploration_rate(b, 1) == 1);
    assert_int_equal(pick(b, 1), G);
    reward(b, 1, G, 0.45);
    assert_int_equal(pick(b, 1), B);
    announce(b, 1, more, 2); /* the same: nothing changes */
    assert_int_equal(trueno_bandit_best_kernel(b, 1), B);
    assert_true(fabs(trueno_bandit_estimated_regret(b, 1, NULL) - 0.05) < 1e-12);
    assert_int_equal(trueno_bandit_update(b, 1, V, 0.5, NULL), TRUENO_ERR_ARGUMENT);
    reward(b, 1, G, 0.35);
    reward(b, 1, B, 0.7);
    double upper = 0, before = trueno_bandit_estimated_regret(b, 1, &upper), after = 0;
    announce(b, 1, three, 3); /* V has to begin anew */
    assert_true(trueno_bandit_estimated_regret(b, 1, &after) == before && after == upper);
    assert_true(fabs(before - 2 * (0.6 - 0.4)) < 1e-12);
    assert_int_equal(pick(b, 1), V);
    reward(b, 1, V, 0.65);
    assert_int_equal(pick(b, 1), V);
    assert_int_equal(trueno_bandit_best_kernel(b, 2), TRUENO_KERNEL_UNKNOWN); /* another context */
    trueno_bandit_free(b);
}

/* Every family but Unknown can be an arm. */
static void test_all_kernels(void **state)
{
    trueno_kernel all[64];
    size_t n = 0;
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_UCB1, 0, 1);
    assert_int_equal(trueno_kernel_count(), 47);
    for (uint32_t i = 0; i < trueno_kernel_count(); i++)
        if (i != TRUENO_KERNEL_UNKNOWN) all[n++] = (trueno_kernel)i;
    for (size_t i = 0; i < n; i++) reward(b, 0, all[i], (double)(i * 7 % 46));
    announce(b, 1, all, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(pick(b, 1), all[i]);
        reward(b, 1, all[i], (double)(i * 7 % 46));
    }
    /* 7 i = 45 modulo 46 */
    assert_int_equal(trueno_bandit_best_kernel(b, 0), all[13]);
    assert_int_equal(pick(b, 1), all[13]);
    trueno_bandit_free(b);
}

static void test_fixed(void **state)
{
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_FIXED, 1, 1);
    announce(b, 0, pair, 2);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(pick(b, 0), V);
        reward(b, 0, V, 0.1);
        reward(b, 0, B, 0.9);
    }
    assert_int_equal(trueno_bandit_best_kernel(b, 0), V);
    trueno_bandit_free(b);
}

/* Rewards as ln(t_ref / t): 40 calls of a race, then the faster arm alone. */
static void test_audit(void **state)
{
    int n = 0;
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_AUDIT, 1, 1);
    announce(b, 9, pair, 2);
    for (int i = 0; i < 140; i++) {
        trueno_kernel k = pick(b, 9);
        n += k == B;
        reward(b, 9, k, k == B ? log(1.04) : 0);
    }
    assert_int_equal(n, 20 + 100);
    assert_int_equal(trueno_bandit_best_kernel(b, 9), B);
    /* the race's calls of V; before it, V was the one in use */
    assert_true(fabs(trueno_bandit_estimated_regret(b, 9, NULL) - 20 * log(1.04)) < 1e-4);
    trueno_bandit_free(b);
}

/* Rewards of any size neither end in a loop nor outside of the arms. */
static void test_huge_rewards(void **state)
{
    static const double rewards[] = {1e308, -1e308, 0, 1e-308, 1e300, -5};
    (void)state;
    for (int policy = TRUENO_BANDIT_UCB1; policy <= TRUENO_BANDIT_FIXED; policy++) {
        trueno_bandit *b = new_bandit((trueno_bandit_policy)policy, 1, 1);
        announce(b, 0, pair, 2);
        for (int i = 0; i < 1000; i++) {
            trueno_kernel k = pick(b, 0);
            assert_true(k == V || k == B);
            reward(b, 0, k, rewards[i % 6]);
        }
        trueno_bandit_free(b);
    }
}

/* ---------------------------------------------------------------------- errors */

static void expect(trueno_status got, trueno_status want, const trueno_error *err, const char *part)
{
    if (got != want) fail_msg("%s, wanted %s", trueno_status_str(got), trueno_status_str(want));
    if (!strstr(err->message, part)) fail_msg("'%s' lacks '%s'", err->message, part);
    assert_int_equal(err->status, want);
}

static void expect_refused(trueno_bandit_options o, const char *part)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_bandit *b = (void *)&err;
    expect(trueno_bandit_new(ctx, &b, &o, &err), TRUENO_ERR_ARGUMENT, &err, part);
    assert_null(b);
}

static void test_options(void **state)
{
    const trueno_bandit_options good = TRUENO_BANDIT_OPTIONS_INIT;
    trueno_bandit_options o = good;
    trueno_error err = {TRUENO_OK, ""};
    trueno_bandit *b;
    (void)state;
    o.struct_size = 8;
    expect_refused(o, "struct_size");
    o = good, o.policy = (trueno_bandit_policy)4;
    expect_refused(o, "policy 4");
    o = good, o.c = -0.1;
    expect_refused(o, "c is -0.1");
    o.c = NAN;
    expect_refused(o, "c is");
    o = good, o.kappa0 = 0;
    expect_refused(o, "kappa0");
    o = good, o.alpha0 = 1;
    expect_refused(o, "alpha0");
    o = good, o.mean0 = INFINITY;
    expect_refused(o, "mean0");
    o = good, o.sd0 = 0;
    expect_refused(o, "sd0");
    o = good, o.audit_share = -0.001;
    expect_refused(o, "audit_share");
    o.audit_share = 0.11;
    expect_refused(o, "audit_share");
    o.audit_share = NAN;
    expect_refused(o, "audit_share");
    expect(trueno_bandit_new(NULL, &b, NULL, &err), TRUENO_ERR_ARGUMENT, &err, "ctx");
    assert_null(b);
    expect(trueno_bandit_new(ctx, NULL, NULL, &err), TRUENO_ERR_ARGUMENT, &err, "out");
    expect(trueno_bandit_with_thompson_sampling(ctx, NULL, &err), TRUENO_ERR_ARGUMENT, &err, "out");
    trueno_bandit_free(NULL);
}

static void test_arguments(void **state)
{
    static const trueno_kernel twice[] = {V, B, V}, unknown[] = {V, TRUENO_KERNEL_UNKNOWN};
    static const double not_numbers[] = {NAN, INFINITY, -INFINITY};
    trueno_error err = {TRUENO_OK, ""};
    trueno_kernel k = V;
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_UCB1, 1, 1);
    expect(trueno_bandit_set_arms(NULL, 0, pair, 2, &err), TRUENO_ERR_ARGUMENT, &err, "b is NULL");
    expect(trueno_bandit_set_arms(b, 0, NULL, 2, &err), TRUENO_ERR_ARGUMENT, &err, "arms is NULL");
    expect(trueno_bandit_set_arms(b, 0, pair, 0, &err), TRUENO_ERR_ARGUMENT, &err, "no arms");
    expect(trueno_bandit_set_arms(b, 0, twice, 3, &err), TRUENO_ERR_ARGUMENT, &err,
           "VectorizedQ4K is named twice");
    expect(trueno_bandit_set_arms(b, 0, unknown, 2, &err), TRUENO_ERR_ARGUMENT, &err, "15");
    expect(trueno_bandit_select(NULL, &k, 0, &err), TRUENO_ERR_ARGUMENT, &err, "b is NULL");
    assert_int_equal(k, TRUENO_KERNEL_UNKNOWN);
    expect(trueno_bandit_select(b, NULL, 0, &err), TRUENO_ERR_ARGUMENT, &err, "out is NULL");
    expect(trueno_bandit_select(b, &k, 0x1f, &err), TRUENO_ERR_NOT_FOUND, &err, "0x1f");
    expect(trueno_bandit_update(NULL, 0, V, 1, &err), TRUENO_ERR_ARGUMENT, &err, "b is NULL");
    expect(trueno_bandit_update(b, 0, (trueno_kernel)47, 1, &err), TRUENO_ERR_ARGUMENT, &err, "47");
    expect(trueno_bandit_update(b, 0, (trueno_kernel)-1, 1, &err), TRUENO_ERR_ARGUMENT, &err, "-1");
    expect(trueno_bandit_update(b, 0, TRUENO_KERNEL_UNKNOWN, 1, &err), TRUENO_ERR_ARGUMENT, &err,
           "15");
    for (int i = 0; i < 3; i++)
        expect(trueno_bandit_update(b, 0, V, not_numbers[i], &err), TRUENO_ERR_ARGUMENT, &err,
               "reward");
    /* nothing of that was learned */
    assert_int_equal(trueno_bandit_select(b, &k, 0, NULL), TRUENO_ERR_NOT_FOUND);
    announce(b, 0, pair, 2);
    expect(trueno_bandit_update(b, 0, G, 1, &err), TRUENO_ERR_ARGUMENT, &err,
           "Generic is no arm of context 0");
    assert_true(trueno_bandit_exploration_rate(b, 0) == 1);
    trueno_bandit_free(b);
}

static void test_full_table(void **state)
{
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    trueno_bandit *b = new_bandit(TRUENO_BANDIT_UCB1, 1, 1);
    for (uint64_t i = 0; i < TRUENO_BANDIT_MAX_CONTEXTS; i++)
        reward(b, i << 40, i % 2 ? V : B, 0.5);
    expect(trueno_bandit_update(b, 1, V, 0.5, &err), TRUENO_ERR_TOO_LARGE, &err, "256");
    expect(trueno_bandit_set_arms(b, 1, pair, 2, &err), TRUENO_ERR_TOO_LARGE, &err, "256");
    announce(b, 0, pair, 2); /* those that are there work on */
    reward(b, 255ULL << 40, B, 0.9);
    assert_int_equal(trueno_bandit_best_kernel(b, 255ULL << 40), B);
    assert_int_equal(trueno_bandit_best_kernel(b, 254ULL << 40), B);
    assert_int_equal(trueno_bandit_best_kernel(b, 253ULL << 40), V);
    trueno_bandit_free(b);
}

/* Memory that runs out at any call: nothing changes, nothing leaks. */
static void test_no_memory(void **state)
{
    int succeeded = 0;
    (void)state;
    for (size_t call = 1; call < 12; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *c;
        trueno_bandit *b = NULL;
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status st = trueno_bandit_new(c, &b, NULL, NULL);
        if (st == TRUENO_OK) st = trueno_bandit_update(b, 1, V, 0.5, NULL);
        if (st == TRUENO_OK) st = trueno_bandit_update(b, 1, B, 0.6, NULL);
        if (st != TRUENO_OK && trueno_bandit_best_kernel(b, 1) == V)
            assert_int_equal(trueno_bandit_update(b, 1, V, 0.5, NULL), TRUENO_OK);
        if (st == TRUENO_OK) st = trueno_bandit_set_arms(b, 2, pair, 2, NULL);
        assert_true(st == TRUENO_OK || st == TRUENO_ERR_NO_MEMORY);
        if (st == TRUENO_OK) assert_int_equal(trueno_bandit_best_kernel(b, 1), B);
        succeeded += st == TRUENO_OK;
        trueno_ctx_free(c); /* the bandit holds on to it */
        trueno_bandit_free(b);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
    assert_true(succeeded > 2 && succeeded < 11);
}

static int setup(void **state)
{
    (void)state;
    return (int)trueno_ctx_new(&ctx, NULL, NULL);
}

static int teardown(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

/* The other arm takes 5 % longer, so an audit of 16 calls loses 16 x 0.05 of a call; audits of it
 * get half of the share: one every 16 x 0.05 / (share / 2) calls, but 160 at least. Share 0: none.
 */
static void test_audit_share(void **state)
{
    static const double shares[] = {0, 0.0006, 0.006, 0.1};
    enum { CALLS = 100000 };
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
        trueno_bandit *b;
        int count = 0;
        o.policy = TRUENO_BANDIT_AUDIT;
        o.audit_share = shares[i];
        assert_int_equal(trueno_bandit_new(ctx, &b, &o, NULL), TRUENO_OK);
        announce(b, 0, pair, 2);
        for (int call = -200; call < CALLS; call++) { /* the race is over by call 0 */
            trueno_kernel k = pick(b, 0);
            count += call >= 0 && k == B;
            reward(b, 0, k, k == V ? 0 : -log(1.05));
        }
        double spacing = shares[i] > 0 ? fmax(160, 16 * 0.05 / (shares[i] / 2)) : INFINITY;
        double audits = CALLS / (spacing + 32);
        assert_true(count >= 16 * floor(0.9 * audits) && count <= 16 * ceil(1.1 * audits));
        assert_true(0.05 * count <= fmax(shares[i], 0) * CALLS);
        trueno_bandit_free(b);
    }
    /* nor if the other one is a little faster, so that audits gain time */
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    trueno_bandit *b;
    o.policy = TRUENO_BANDIT_AUDIT;
    o.audit_share = 0;
    assert_int_equal(trueno_bandit_new(ctx, &b, &o, NULL), TRUENO_OK);
    announce(b, 0, pair, 2);
    for (int call = -200; call < 5000; call++) {
        trueno_kernel k = pick(b, 0);
        assert_true(call < 0 || k == V);
        reward(b, 0, k, k == V ? 0 : -log(0.99));
    }
    trueno_bandit_free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ucb1_picks),     cmocka_unit_test(test_default_policy),
        cmocka_unit_test(test_shares),         cmocka_unit_test(test_thompson_posterior),
        cmocka_unit_test(test_thompson_seeds), cmocka_unit_test(test_reports),
        cmocka_unit_test(test_arms),           cmocka_unit_test(test_all_kernels),
        cmocka_unit_test(test_fixed),          cmocka_unit_test(test_audit),
        cmocka_unit_test(test_huge_rewards),   cmocka_unit_test(test_options),
        cmocka_unit_test(test_arguments),      cmocka_unit_test(test_full_table),
        cmocka_unit_test(test_no_memory),      cmocka_unit_test(test_audit_share),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
