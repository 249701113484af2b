/* SPDX-License-Identifier: MIT */
/* The table of contexts (trueno/bandit.h): each has a policy over its arms. */
#include "trueno/bandit.h"

#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/policy.h"

struct entry {
    uint64_t context;
    bool announced;
    uint8_t kernels[TR_POLICY_ARMS]; /* of the policy's arms */
    struct tr_policy *policy;
};

struct trueno_bandit {
    trueno_ctx *ctx;
    trueno_bandit_options opt;
    size_t n_entries;
    struct entry *entries[TRUENO_BANDIT_MAX_CONTEXTS];
};

/* ------------------------------------------------------------------- new, free */

static trueno_status check_options(const trueno_bandit_options *o, trueno_error *err)
{
    if (o->policy < TRUENO_BANDIT_UCB1 || o->policy > TRUENO_BANDIT_FIXED)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: policy %d is none", (int)o->policy);
    if (!(isfinite(o->c) && o->c >= 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: c is %g, must be 0 or more", o->c);
    if (!(isfinite(o->kappa0) && o->kappa0 > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: kappa0 is %g, must be above 0",
                       o->kappa0);
    if (!(isfinite(o->alpha0) && o->alpha0 > 1))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: alpha0 is %g, must be above 1",
                       o->alpha0);
    if (!isfinite(o->mean0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: mean0 is %g, must be finite", o->mean0);
    if (!(isfinite(o->sd0) && o->sd0 > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: sd0 is %g, must be above 0", o->sd0);
    if (!(o->audit_share >= 0 && o->audit_share <= TR_MAX_AUDIT_SHARE))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: audit_share is %g, must be 0 to %g",
                       o->audit_share, TR_MAX_AUDIT_SHARE);
    return TRUENO_OK;
}

trueno_status trueno_bandit_new(trueno_ctx *ctx, trueno_bandit **out,
                                const trueno_bandit_options *opt, trueno_error *err)
{
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    if (out) *out = NULL;
    if (!ctx || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: %s is NULL", !ctx ? "ctx" : "out");
    if (opt && !tr_struct_read(&o, sizeof o, opt, sizeof o))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "bandit: struct_size is %zu; use TRUENO_BANDIT_OPTIONS_INIT",
                       opt->struct_size);
    trueno_status status = check_options(&o, err);
    if (status != TRUENO_OK) return status;
    trueno_bandit *b = tr_calloc(ctx, 1, sizeof *b);
    if (!b) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "bandit: no memory");
    b->ctx = ctx;
    b->opt = o;
    tr_ctx_ref(ctx);
    *out = b;
    return TRUENO_OK;
}

trueno_status trueno_bandit_with_thompson_sampling(trueno_ctx *ctx, trueno_bandit **out,
                                                   trueno_error *err)
{
    trueno_bandit_options opt = TRUENO_BANDIT_OPTIONS_INIT;
    opt.policy = TRUENO_BANDIT_THOMPSON;
    return trueno_bandit_new(ctx, out, &opt, err);
}

void trueno_bandit_free(trueno_bandit *b)
{
    if (!b) return;
    trueno_ctx *ctx = b->ctx;
    for (size_t i = 0; i < b->n_entries; i++) {
        tr_free(ctx, b->entries[i]->policy);
        tr_free(ctx, b->entries[i]);
    }
    tr_free(ctx, b);
    tr_ctx_unref(ctx);
}

/* -------------------------------------------------------------------- contexts */

static struct entry *find(const trueno_bandit *b, uint64_t context)
{
    for (size_t i = 0; b && i < b->n_entries; i++)
        if (b->entries[i]->context == context) return b->entries[i];
    return NULL;
}

/* Number of the kernel's arm; -1: it is none. */
static int arm_of(const struct entry *e, trueno_kernel kernel)
{
    for (uint32_t i = 0; e && i < e->policy->n_arms; i++)
        if (e->kernels[i] == (uint32_t)kernel) return (int)i;
    return -1;
}

/* Gives a context these arms; it is made if it is not there. What arms know that stay is kept. */
static trueno_status put(trueno_bandit *b, struct entry **out, uint64_t context,
                         const uint8_t *kernels, uint32_t n, trueno_error *err)
{
    struct entry *old = find(b, context), *e = old;
    *out = NULL;
    if (!old && b->n_entries == TRUENO_BANDIT_MAX_CONTEXTS)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "bandit: there are %d contexts already",
                       TRUENO_BANDIT_MAX_CONTEXTS);
    struct tr_policy *p = tr_alloc(b->ctx, tr_policy_bytes(n));
    if (p && !old) e = tr_calloc(b->ctx, 1, sizeof *e);
    if (!p || !e) {
        tr_free(b->ctx, p);
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "bandit: no memory for %u arms", n);
    }
    tr_policy_init(p, &b->opt, n, 0, context);
    if (old) p->random = old->policy->random; /* or every set would begin with the same draws */
    for (uint32_t i = 0; i < n; i++) {
        int arm = arm_of(old, (trueno_kernel)kernels[i]);
        if (arm >= 0) tr_policy_keep_arm(p, i, old->policy, (uint32_t)arm);
    }
    if (old) tr_free(b->ctx, old->policy);
    if (!old) b->entries[b->n_entries++] = e;
    e->context = context;
    e->policy = p;
    memcpy(e->kernels, kernels, n);
    *out = e;
    return TRUENO_OK;
}

static trueno_status check_kernel(trueno_kernel kernel, trueno_error *err)
{
    if ((uint32_t)kernel < trueno_kernel_count() && kernel != TRUENO_KERNEL_UNKNOWN)
        return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: %d is no kernel that runs", (int)kernel);
}

trueno_status trueno_bandit_set_arms(trueno_bandit *b, uint64_t context, const trueno_kernel *arms,
                                     size_t n, trueno_error *err)
{
    uint8_t kernels[TR_POLICY_ARMS];
    if (!b || !arms || n == 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: %s",
                       !b      ? "b is NULL"
                       : !arms ? "arms is NULL"
                               : "no arms");
    for (size_t i = 0; i < n; i++) {
        trueno_status status = check_kernel(arms[i], err);
        if (status != TRUENO_OK) return status;
        for (size_t j = 0; j < i; j++)
            if (arms[j] == arms[i])
                return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: %s is named twice",
                               trueno_kernel_name(arms[i]));
        kernels[i] = (uint8_t)arms[i]; /* different ones, so there are fewer than TR_POLICY_ARMS */
    }
    struct entry *e = find(b, context);
    bool same = e && e->policy->n_arms == n && memcmp(e->kernels, kernels, n) == 0;
    trueno_status status = same ? TRUENO_OK : put(b, &e, context, kernels, (uint32_t)n, err);
    if (status == TRUENO_OK) e->announced = true;
    return status;
}

/* --------------------------------------------------------------------- picking */

trueno_status trueno_bandit_select(trueno_bandit *b, trueno_kernel *out, uint64_t context,
                                   trueno_error *err)
{
    if (out) *out = TRUENO_KERNEL_UNKNOWN;
    if (!b || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: %s is NULL", !b ? "b" : "out");
    struct entry *e = find(b, context);
    if (!e)
        return tr_fail(err, TRUENO_ERR_NOT_FOUND,
                       "bandit: context %#llx has no arms; trueno_bandit_set_arms announces them",
                       (unsigned long long)context);
    *out = (trueno_kernel)e->kernels[tr_policy_select(e->policy)];
    return TRUENO_OK;
}

/* The context with one more arm. */
static trueno_status add_arm(trueno_bandit *b, struct entry **e, uint64_t context,
                             trueno_kernel kernel, trueno_error *err)
{
    uint8_t kernels[TR_POLICY_ARMS];
    uint32_t n = *e ? (*e)->policy->n_arms : 0;
    if (n > 0 && (*e)->announced)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: %s is no arm of context %#llx",
                       trueno_kernel_name(kernel), (unsigned long long)context);
    if (n > 0) memcpy(kernels, (*e)->kernels, n);
    kernels[n] = (uint8_t)kernel;
    return put(b, e, context, kernels, n + 1, err);
}

trueno_status trueno_bandit_update(trueno_bandit *b, uint64_t context, trueno_kernel kernel,
                                   double reward, trueno_error *err)
{
    if (!b) return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: b is NULL");
    trueno_status status = check_kernel(kernel, err);
    if (status != TRUENO_OK) return status;
    if (!isfinite(reward))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bandit: the reward is %g", reward);
    struct entry *e = find(b, context);
    if (arm_of(e, kernel) < 0) status = add_arm(b, &e, context, kernel, err);
    if (status == TRUENO_OK) tr_policy_update(e->policy, (uint32_t)arm_of(e, kernel), reward);
    return status;
}

trueno_kernel trueno_bandit_best_kernel(const trueno_bandit *b, uint64_t context)
{
    const struct entry *e = find(b, context);
    int best = e ? tr_policy_best(e->policy) : -1;
    return best < 0 ? TRUENO_KERNEL_UNKNOWN : (trueno_kernel)e->kernels[best];
}

double trueno_bandit_exploration_rate(const trueno_bandit *b, uint64_t context)
{
    const struct entry *e = find(b, context);
    return e ? tr_policy_exploration_rate(e->policy) : 1;
}

double trueno_bandit_estimated_regret(const trueno_bandit *b, uint64_t context, double *upper95)
{
    const struct entry *e = find(b, context);
    if (upper95) *upper95 = NAN;
    return e ? tr_policy_regret(e->policy, upper95) : NAN;
}
