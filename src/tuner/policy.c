/* SPDX-License-Identifier: MIT */
/* What all policies share, UCB1 and Thompson sampling. */
#include "tuner/policy.h"

#include <math.h>
#include <string.h>

#define Z95 1.6448536269514722 /* 95 % of a normal distribution are below */

size_t tr_policy_bytes(uint32_t n_arms)
{
    return sizeof(struct tr_policy) + n_arms * sizeof(struct tr_arm);
}

void tr_policy_init(struct tr_policy *p, const trueno_bandit_options *opt, uint32_t n_arms,
                    uint32_t default_arm, uint64_t stream)
{
    memset(p, 0, tr_policy_bytes(n_arms));
    p->opt = *opt;
    p->n_arms = n_arms;
    p->default_arm = p->incumbent = default_arm;
    tr_random_seed(&p->random, opt->seed, stream);
    tr_policy_race(p);
}

void tr_policy_keep_arm(struct tr_policy *p, uint32_t arm, const struct tr_policy *old,
                        uint32_t old_arm)
{
    const struct tr_arm *from = &old->arms[old_arm];
    struct tr_arm *to = &p->arms[arm];
    to->n = from->n;
    to->mean = from->mean;
    to->m2 = from->m2;
    to->n_explored = from->n_explored;
    p->n += from->n;
    p->n_explored += from->n_explored;
}

/* ------------------------------------------------------------------------ UCB1 */

static uint32_t select_ucb1(const struct tr_policy *p)
{
    uint32_t best = 0;
    double highest = -INFINITY;
    for (uint32_t i = 0; i < p->n_arms; i++) {
        const struct tr_arm *a = &p->arms[i];
        if (a->n == 0) return i;
        double bound = a->mean + p->opt.c * sqrt(2 * log((double)p->n) / (double)a->n);
        if (bound <= highest) continue;
        best = i;
        highest = bound;
    }
    return best;
}

/* -------------------------------------------------------------------- Thompson */

/* Standard normal: the polar method (Marsaglia, Bray 1964). */
static double draw_normal(struct tr_random *r)
{
    double u, s;
    do {
        u = 2 * tr_random_unit(r) - 1;
        double v = 2 * tr_random_unit(r) - 1;
        s = u * u + v * v;
    } while (s >= 1 || s == 0);
    return u * sqrt(-2 * log(s) / s);
}

/* Gamma of shape >= 1 and scale 1 (Marsaglia, Tsang 2000). */
static double draw_gamma(struct tr_random *r, double shape)
{
    const double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = draw_normal(r), v = 1 + c * x, u = 1 - tr_random_unit(r);
        if (v <= 0) continue;
        v = v * v * v;
        if (log(u) < 0.5 * x * x + d - d * v + d * log(v)) return d * v;
    }
}

/* A mean from the posterior of an arm: normal-inverse-gamma, conjugate to normal rewards (Murphy
 * 2007, "Conjugate Bayesian analysis of the Gaussian distribution", section 6). */
static double draw_mean(struct tr_policy *p, const struct tr_arm *a)
{
    const trueno_bandit_options *o = &p->opt;
    double n = (double)a->n, kappa = o->kappa0 + n, off = a->mean - o->mean0;
    double mean = o->mean0 + n / kappa * off;
    double beta =
        o->sd0 * o->sd0 * (o->alpha0 - 1) + a->m2 / 2 + o->kappa0 * n / (2 * kappa) * off * off;
    double variance = beta / draw_gamma(&p->random, o->alpha0 + n / 2);
    return mean + draw_normal(&p->random) * sqrt(variance / kappa);
}

static uint32_t select_thompson(struct tr_policy *p)
{
    uint32_t best = 0;
    double highest = -INFINITY;
    for (uint32_t i = 0; i < p->n_arms; i++) {
        double mean = draw_mean(p, &p->arms[i]);
        if (mean <= highest) continue;
        best = i;
        highest = mean;
    }
    return best;
}

/* ------------------------------------------------------------------- interface */

uint32_t tr_policy_select(struct tr_policy *p)
{
    switch (p->opt.policy) {
    case TRUENO_BANDIT_UCB1: return select_ucb1(p);
    case TRUENO_BANDIT_THOMPSON: return select_thompson(p);
    case TRUENO_BANDIT_AUDIT: return tr_audit_select(p);
    case TRUENO_BANDIT_FIXED: break;
    }
    return p->default_arm;
}

int tr_policy_best(const struct tr_policy *p)
{
    int best = -1;
    if (p->n == 0) return -1;
    if (p->opt.policy == TRUENO_BANDIT_AUDIT) return (int)p->incumbent;
    if (p->opt.policy == TRUENO_BANDIT_FIXED) return (int)p->default_arm;
    for (uint32_t i = 0; i < p->n_arms; i++)
        if (p->arms[i].n > 0 && (best < 0 || p->arms[i].mean > p->arms[best].mean)) best = (int)i;
    return best;
}

void tr_policy_update(struct tr_policy *p, uint32_t arm, double reward)
{
    if (arm >= p->n_arms || !isfinite(reward)) return;
    struct tr_arm *a = &p->arms[arm];
    bool explored = (int)arm != tr_policy_best(p);
    p->n_explored += explored;
    a->n_explored += explored;
    p->n++;
    a->n++;
    double off = reward - a->mean;
    a->mean += off / (double)a->n;
    a->m2 += off * (reward - a->mean);
    if (p->opt.policy == TRUENO_BANDIT_AUDIT) tr_audit_update(p, arm, reward);
}

void tr_policy_observe(struct tr_policy *p, uint32_t arm, double ns)
{
    if (ns > 0) tr_policy_update(p, arm, -log(ns));
}

double tr_policy_exploration_rate(const struct tr_policy *p)
{
    return p->n ? (double)p->n_explored / (double)p->n : 1;
}

/* Sums over the arms, each against the best; upper: every difference at its 95 % bound, by the
 * normal approximation. */
static double regret_of_means(const struct tr_policy *p, double *upper)
{
    const struct tr_arm *best = NULL;
    double sum = 0;
    for (uint32_t i = 0; i < p->n_arms; i++)
        if (p->arms[i].n > 0 && (!best || p->arms[i].mean > best->mean)) best = &p->arms[i];
    *upper = 0;
    for (uint32_t i = 0; i < p->n_arms; i++) {
        const struct tr_arm *a = &p->arms[i];
        if (a == best || a->n == 0) continue;
        double n = (double)a->n, m = (double)best->n, off = best->mean - a->mean;
        double variance = n > 1 && m > 1 ? a->m2 / n / (n - 1) + best->m2 / m / (m - 1) : INFINITY;
        sum += n * off;
        *upper += n * (off + Z95 * sqrt(variance));
    }
    return sum;
}

double tr_policy_regret(const struct tr_policy *p, double *upper95)
{
    uint32_t n_tried = 0;
    double unused;
    if (!upper95) upper95 = &unused;
    *upper95 = NAN;
    for (uint32_t i = 0; i < p->n_arms; i++) n_tried += p->arms[i].n > 0;
    if (n_tried < 2) return NAN;
    return p->opt.policy == TRUENO_BANDIT_AUDIT ? tr_audit_regret(p, upper95)
                                                : regret_of_means(p, upper95);
}
