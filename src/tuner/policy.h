/* SPDX-License-Identifier: MIT */
/* How one context picks among its arms, which are numbered from 0: the policies of trueno/bandit.h
 * behind one interface. */
#ifndef TR_POLICY_H
#define TR_POLICY_H

#include "trueno/bandit.h"
#include "tuner/random.h"

enum { TR_POLICY_ARMS = 48, TR_RACE_BLOCKS = 25, TR_AUDIT_BLOCKS = 8 };

/* Most that may be asked for of the time that audits lose. */
#define TR_MAX_AUDIT_SHARE 0.1

enum tr_policy_phase { TR_POLICY_RACE, TR_POLICY_SERVE, TR_POLICY_AUDIT };

/* A block is one turn there and back through the arms that are compared; each runs twice in it. */
struct tr_arm {
    uint64_t n, n_explored; /* rewards; those when another arm was the best */
    double mean, m2;        /* of the rewards: mean, sum of squared deviations */
    /* of AUDIT: */
    uint64_t due;       /* number of rewards from which on it is audited */
    float gain;         /* ln(t_incumbent / t_arm) by the last comparisons; above 0: it is faster */
    float drift;        /* Page's sum over audits */
    float sum, squares; /* of the gains that audits found since the last choice */
    uint32_t n_audits;  /* how many these were */
    float first;        /* ln cost of the first of its calls in this block */
    float width;   /* half of the 95 % interval of that gain, of the race before the last choice */
    uint8_t raced; /* blocks behind it; 0: the arm was in no race */
    uint8_t n_blocks;
    bool compared;               /* in the blocks that run now */
    float block[TR_RACE_BLOCKS]; /* ln cost in each block of the last race or audit */
};

/* Plain data without pointers; tr_policy_bytes(n_arms) of it may be copied. */
struct tr_policy {
    trueno_bandit_options opt;
    struct tr_random random;
    uint32_t n_arms, default_arm;
    uint64_t n, n_explored; /* rewards; those of another arm than the best one then */
    /* of AUDIT: */
    enum tr_policy_phase phase;
    uint32_t incumbent, challenger; /* challenger: of the audit */
    uint32_t n_compared, step;      /* arms of a block; calls of it that are done */
    uint32_t n_blocks;              /* blocks of the race or audit that are done */
    uint8_t order[TR_POLICY_ARMS];  /* of the arms in a block */
    float eps;                      /* gain below which arms are equal, in this race */
    uint64_t next_due, last_flip;   /* numbers of rewards */
    uint64_t n_races, n_audits;
    uint64_t n_decided, n_inconclusive; /* races that ended; without proof that others are slower */
    double reference;                   /* cost of the incumbent's last call */
    double credit;                      /* cost that audits may still lose */
    double audit_excess;                /* cost that audits lost */
    double audit_var;                   /* variance of an audit's result */
    /* regret, in ln cost: of all blocks, its variance; calls outside of blocks since the race */
    double explored, explored_var;
    uint64_t n_served;
    struct tr_arm arms[];
};

size_t tr_policy_bytes(uint32_t n_arms);

/* p: tr_policy_bytes(n_arms), 1 <= n_arms <= TR_POLICY_ARMS. opt is in range. Policies of one seed
 * and other streams draw other numbers. */
void tr_policy_init(struct tr_policy *p, const trueno_bandit_options *opt, uint32_t n_arms,
                    uint32_t default_arm, uint64_t stream);

/* AUDIT: the arm is in use from now on without a race, as something measured before says so. */
void tr_policy_pin(struct tr_policy *p, uint32_t arm);

/* AUDIT, after a pin: what was measured before of an arm against the one in use, ln(t / t_arm).
 * Where that one is the default, others were further behind. They are audited as rarely as that
 * asks for, but are audited. */
void tr_policy_know(struct tr_policy *p, uint32_t arm, float gain);

/* AUDIT: races again. */
void tr_policy_race(struct tr_policy *p);

/* For a policy that was just made in place of `old`, with other arms: its arm knows the rewards of
 * the old one's, and they count as its own. */
void tr_policy_keep_arm(struct tr_policy *p, uint32_t arm, const struct tr_policy *old,
                        uint32_t old_arm);

/* The arm to run next. AUDIT: the same one until its update comes, so updates may get lost. */
uint32_t tr_policy_select(struct tr_policy *p);

/* AUDIT: the incumbent serves n calls that nobody measures, each counted as long as its last one.
 * False, and nothing is counted: a comparison runs, or becomes due within them. */
bool tr_policy_serve(struct tr_policy *p, uint64_t n);

/* What running an arm brought. Ignored if there is no such arm or the reward is not finite. AUDIT
 * takes rewards as -ln(cost), and calls that it did not ask for count as served time alone. */
void tr_policy_update(struct tr_policy *p, uint32_t arm, double reward);

/* The same from a time, > 0. */
void tr_policy_observe(struct tr_policy *p, uint32_t arm, double ns);

/* The arm in use (AUDIT), the first (FIXED), or the one of the highest mean; -1: no reward yet. */
int tr_policy_best(const struct tr_policy *p);

/* As in trueno/bandit.h. */
double tr_policy_exploration_rate(const struct tr_policy *p);
double tr_policy_regret(const struct tr_policy *p, double *upper95);

/* ------------------------------------------------------------------ of policy_audit.c */

uint32_t tr_audit_select(const struct tr_policy *p);
void tr_audit_update(struct tr_policy *p, uint32_t arm, double reward);
double tr_audit_regret(const struct tr_policy *p, double *upper95);

#endif
