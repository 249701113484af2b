/* SPDX-License-Identifier: MIT */
/* Replays policies over traces: what every arm would have taken at every call.
 *
 * A trace is a text file: lines that begin with # are comments, every other line holds the ns of
 * arms 0, 1, ... measured back to back, so that a line shares one state of the machine. Arm 0 is
 * the default. */
#ifndef TEST_REPLAY_H
#define TEST_REPLAY_H

#include "tuner/policy.h"

struct trace {
    size_t n_rows, n_arms;
    double *ns; /* [n_rows][n_arms] */
};

/* Fails the test, naming file and line, if it cannot be read. */
void trace_read(struct trace *t, const char *path);
void trace_free(struct trace *t);

/* ns of all arms at a call, before what `slow` does. */
typedef void (*replay_source)(double *ns, void *user, uint64_t call);

/* The rows of a trace in pieces of 64 that follow each other, the pieces in random order: a block
 * bootstrap, which keeps what the machine did within a piece. */
struct bootstrap {
    const struct trace *trace;
    struct tr_random random;
    size_t at;
};
void bootstrap_source(double *ns, void *user, uint64_t call);

/* A made-up machine. Its whole speed swings between 1 and `swing` for spells of some hundred calls;
 * every call has log-normal noise of its own, and some are disturbed by up to a factor of two. */
struct machine {
    struct tr_random random;
    uint32_t n_arms;
    double ratio[TR_POLICY_ARMS]; /* true times of the arms */
    double sigma;                 /* of ln ns */
    double disturbed;             /* share of calls */
    double swing;
    bool slow_spell;
    uint64_t spell_end;
};
void machine_source(double *ns, void *user, uint64_t call);

double draw_normal(struct tr_random *r);

/* One run of a policy. */
struct replay {
    struct tr_policy *policy;
    replay_source source;
    void *user;
    uint32_t n_arms;
    const double *truth;         /* true times of the arms, up to a factor */
    double slow[TR_POLICY_ARMS]; /* times that each arm takes longer than that, 1 */
    uint64_t call;
    bool good[100]; /* of the last calls: the arm was within 3 % of the best */
    /* summed over calls: what they took; true times of the picks, of the best arm. Hiccups that hit
     * one arm's row and not another's are luck, not regret. */
    double ns, picked, best;
};

void replay_begin(struct replay *r, struct tr_policy *p);
void replay_run(struct replay *r, uint64_t n_calls);

/* Runs until 95 of the last 100 picks were within 3 % of the best, and at most `limit` calls.
 * Returns how many there were before the first of those 100, or `limit`. */
uint64_t replay_converge(struct replay *r, uint64_t limit);

/* Sets the sums to 0. */
void replay_reset(struct replay *r);

/* picked / best - 1. */
double replay_regret(const struct replay *r);

/* The value that `share` of the n values do not exceed; sorts them. */
double quantile(double *values, size_t n, double share);

/* A new policy of race and audit. free() it. */
struct tr_policy *new_policy(uint32_t n_arms, uint32_t default_arm, uint64_t seed);

#endif
