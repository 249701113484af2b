/* SPDX-License-Identifier: MIT */
/** @file bandit.h
 *  Trying kernels while running, and keeping to the best.
 *
 *  A bandit holds, for every context (choice.h; 0 if there is only one), the kernels that may stand
 * in for each other there, its arms. Select says which one to run, update says how good that was; a
 * reward is the better the higher it is. Rewards of one context are compared with each other alone:
 * ln(t_ref / t) with any fixed time t_ref is best; min(tps / 200, 1) is fine until it saturates,
 * where nothing can be learned any more.
 *
 *     trueno_bandit *b;
 *     trueno_kernel arms[] = {TRUENO_KERNEL_VECTORIZED_Q4K, TRUENO_KERNEL_BATCHED_Q4K}, k;
 *     trueno_bandit_new(ctx, &b, NULL, &err);
 *     trueno_bandit_set_arms(b, 0, arms, 2, &err);
 *     for (;;) {
 *         trueno_bandit_select(b, &k, 0, &err);
 *         trueno_bandit_update(b, 0, k, reward_of_running(k), &err);
 *     }
 *
 *  Policies
 *  - UCB1 (Auer, Cesa-Bianchi, Fischer 2002): every arm once, then the largest mean_i +
 * c sqrt(2 ln n / n_i). Made for rewards in [0, 1]; c = 1. Explores for ever.
 *  - THOMPSON (Thompson 1933): draws each arm's mean from its posterior and takes the largest. The
 * reward of an arm is normal, mean and variance unknown, their prior normal-inverse-gamma.
 *  - AUDIT: for rewards ln(t_ref / t), and machines whose speed swings. A race first: turns, in
 * which every arm runs twice, in some order and then back (two arms: A B B A). Only what arms
 * differ by within a turn counts, of an arm's two runs the better one. Arms that each of the first
 * turns says are clearly slower leave early (1 turn: 8x, 2: 1.3x, 4: 1.1x, 6: 1.05x); medians
 * decide the rest after 10, 15 or 25 turns. The first arm that was announced is the default, and
 * yields only to one that is faster by more than 1.5 % with 99.8 % confidence; at the end of the
 * race 95 % are enough, and so is a median of 3 % that is above 0 with 95 %. Then the winner runs
 * alone but for audits: now and then eight turns against another arm. At any time all audits
 * together have cost at most 0.6 % of the time (audit_share), and two runs. Where audits say again
 * and again that the other arm is faster by more than 2 %, there is a new race, on the same
 * account; where six or more prove together (mean less three standard errors) that it is faster by
 * more than 0.3 %, it takes over without one. In a race after a change twice the gain is asked for
 * during 10,000 rewards. Speed that changes for all arms alike changes nothing.
 *  - FIXED: the first arm that was announced.
 *
 *  A bandit belongs to one thread at a time.
 */
#ifndef TRUENO_BANDIT_H
#define TRUENO_BANDIT_H

#include "base.h"
#include "features.h"

#ifdef __cplusplus
extern "C" {
#endif

/** How arms are picked. Values are frozen. */
typedef enum trueno_bandit_policy {
    TRUENO_BANDIT_UCB1 = 0,
    TRUENO_BANDIT_THOMPSON = 1,
    TRUENO_BANDIT_AUDIT = 2,
    TRUENO_BANDIT_FIXED = 3
} trueno_bandit_policy;

/** Most contexts of a bandit. */
#define TRUENO_BANDIT_MAX_CONTEXTS 256

/** How a bandit picks. */
typedef struct trueno_bandit_options {
    size_t struct_size;
    trueno_bandit_policy policy; /**< how arms are picked */
    uint64_t seed;               /**< same seed and same rewards, same picks */
    double c;                    /**< UCB1: weight of what is not known; 0 or more */
    double kappa0;               /**< THOMPSON: rewards that the prior mean counts for; above 0 */
    double alpha0;               /**< THOMPSON: shape of the prior of the variance; above 1 */
    double mean0;                /**< THOMPSON: prior mean of a reward */
    double sd0; /**< THOMPSON: its prior standard deviation, the root of the variance's prior
                   mean; above 0 */
    double audit_share; /**< AUDIT: of the time that audits may lose, 0 (there are none) to 0.1 */
} trueno_bandit_options;

#define TRUENO_BANDIT_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(trueno_bandit_options), TRUENO_BANDIT_UCB1, 1, 1, 2, 2, 0.5, 0.25, 0.006            \
    }

/** Picks kernels and learns from it. */
typedef struct trueno_bandit trueno_bandit;

/** A bandit without contexts. opt NULL: defaults (UCB1). The caller owns *out.
 *  @return OK; ERR_ARGUMENT (NULL, struct_size, an option out of range); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_bandit_new(trueno_ctx *ctx, trueno_bandit **out,
                                           const trueno_bandit_options *opt, trueno_error *err);

/** The same with THOMPSON and defaults for the rest.
 *  @return as trueno_bandit_new */
TRUENO_API trueno_status trueno_bandit_with_thompson_sampling(trueno_ctx *ctx, trueno_bandit **out,
                                                              trueno_error *err);

/** Frees it; NULL is fine. */
TRUENO_API void trueno_bandit_free(trueno_bandit *b);

/** Announces the n different kernels that may be picked in a context, the default first. They must
 * be able to stand in for each other. What is known of those that were arms before stays; others
 * are forgotten, with their updates. If the set or its order changes, AUDIT races again; the same
 * arms again change nothing. From now on updates with other kernels are refused in this context.
 *  @return OK; ERR_ARGUMENT (NULL, n is 0, a kernel that is none, Unknown, or named twice);
 * ERR_TOO_LARGE: TRUENO_BANDIT_MAX_CONTEXTS others are there; ERR_NO_MEMORY. On failure nothing
 * changes */
TRUENO_API trueno_status trueno_bandit_set_arms(trueno_bandit *b, uint64_t context,
                                                const trueno_kernel *arms, size_t n,
                                                trueno_error *err);

/** The kernel to run next. AUDIT gives the same one until its reward comes.
 *  @return OK; ERR_ARGUMENT; ERR_NOT_FOUND: the context has no arms. *out is Unknown on failure */
TRUENO_API trueno_status trueno_bandit_select(trueno_bandit *b, trueno_kernel *out,
                                              uint64_t context, trueno_error *err);

/** Tells what running a kernel brought, whoever picked it. In a context whose arms were not
 * announced the kernel becomes one.
 *  @return OK; ERR_ARGUMENT: no such kernel, Unknown, not among those announced, or a reward that
 * is not finite; ERR_TOO_LARGE: TRUENO_BANDIT_MAX_CONTEXTS others are there; ERR_NO_MEMORY. On
 * failure nothing changes */
TRUENO_API trueno_status trueno_bandit_update(trueno_bandit *b, uint64_t context,
                                              trueno_kernel kernel, double reward,
                                              trueno_error *err);

/** The arm of the highest mean reward, the first of equals; AUDIT: the one in use; FIXED: the first
 * one. Unknown if there is no reward, no such context, or b is NULL. */
TRUENO_API trueno_kernel trueno_bandit_best_kernel(const trueno_bandit *b, uint64_t context);

/** Share of the updates whose kernel was not the best one just before, 0..1. 1 if there is no
 * update. */
TRUENO_API double trueno_bandit_exploration_rate(const trueno_bandit *b, uint64_t context);

/** What running other arms than the best has cost so far, in units of rewards summed over updates:
 * the sum of n_i (mean_best - mean_i) over the arms with rewards. AUDIT: differences within its
 * turns alone, and the updates outside of them at the gain that the audits say was missed. *upper95
 * (may be NULL): 95 % of such sums are not above it; infinite where an arm was run once. Both NaN,
 * "unknown", where fewer than two arms were tried: no regret was looked for. */
TRUENO_API double trueno_bandit_estimated_regret(const trueno_bandit *b, uint64_t context,
                                                 double *upper95);

#ifdef __cplusplus
}
#endif
#endif
