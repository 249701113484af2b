/* SPDX-License-Identifier: MIT */
/* Intervals that hold 90 % of what is measured, whatever changes: adaptive conformal inference
 * (Gibbs and Candes 2021, arXiv 2106.00170) for each kind of device and phase.
 *
 * A score is |ln(measured / predicted)| over the uncertainty u of the prediction. The interval is
 * predicted * exp(+-q u), with q the 1 - a quantile of the last scores. a starts at 0.1 and moves
 * by 0.02 (0.1 - miss): every miss lowers it, which widens the interval. */
#ifndef TR_INTERVAL_H
#define TR_INTERVAL_H

#include "tuner/run.h"

enum { TR_SCORES = 500, TR_MIN_SCORES = 20 };

#define TR_INTERVAL_LEVEL 0.9

struct tr_scores {
    uint32_t n, next; /* in use; where the next one goes */
    double alpha;     /* share of misses that is aimed at; 0 or less: everything is held */
    double q;         /* the quantile; INFINITY: everything is held */
    double score[TR_SCORES];
};

struct tr_interval {
    struct tr_scores groups[TR_GROUPS];
    uint32_t n_hits, next_hit;
    uint8_t hit[TR_SCORES]; /* of the last observations that an interval was claimed for */
};

/* No scores. */
void tr_interval_reset(struct tr_interval *v);

/* A score of a row that was held out; its group's quantile holds after tr_interval_settle. */
void tr_interval_add(struct tr_interval *v, uint32_t group, double score);
void tr_interval_settle(struct tr_interval *v, uint32_t group);

/* The interval is predicted / factor .. predicted * factor; the share that it is to hold is *level,
 * 0 and a factor of 2 where there are too few scores. */
double tr_interval_factor(double *level, const struct tr_interval *v, uint32_t group, double u);

/* What was measured: whether the interval held it, and its score (NaN: none). */
void tr_interval_observe(struct tr_interval *v, uint32_t group, bool held, double score);

#endif
