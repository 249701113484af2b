/* SPDX-License-Identifier: MIT */
/* What running adds to a model of f (run.h): a linear function of the vector, kept by recursive
 * least squares with a Gaussian prior (Plackett 1950; Ljung, "System Identification", 1999, 11.2).
 *
 * Old observations fade by 0.999 each. No weight becomes less certain than its prior, so what is
 * never seen does not wind up. An observation further off than three standard deviations counts as
 * if it were noisier by as much as it is further (Huber 1964), and the noise itself is estimated.
 * Covariances are kept in units of the noise, so where that turns out larger, weights are as much
 * less certain. The slots that cannot matter, or that act through the floor, have weight 0 for
 * ever. */
#ifndef TR_RESIDUAL_H
#define TR_RESIDUAL_H

#include "trueno/features.h"

enum { TR_WEIGHTS = TRUENO_FEATURE_DIM + 1 };

/* Largest magnitude of a target, and of what is added. */
#define TR_RESIDUAL_MAX 30.0

struct tr_residual {
    uint64_t n;                                /* updates */
    double noise;                              /* variance of ln(tokens/s) of one measurement */
    double mean[TR_WEIGHTS];                   /* of the slots; the last stands alone */
    double covariance[TR_WEIGHTS][TR_WEIGHTS]; /* of the weights over noise; symmetric */
};

/* The covariance's diagonal before anything was seen, and its bound; 0: the weight stays 0. */
double tr_residual_prior(size_t weight);

/* Nothing seen. */
void tr_residual_reset(struct tr_residual *r);

/* What to add to f, within TR_RESIDUAL_MAX; exactly 0 if nothing was seen. variance (may be NULL):
 * of it, without the noise of a measurement. */
double tr_residual_predict(const struct tr_residual *r, const float x[TRUENO_FEATURE_DIM],
                           double *variance);

/* Learns that `target` was to be added. slope: d ln(tokens/s) / df there, in (0, 1]: near the roof
 * it is small, and little can be told from a measurement. */
void tr_residual_update(struct tr_residual *r, const float x[TRUENO_FEATURE_DIM], double target,
                        double slope);

/* Whether its covariance is one (positive definite where it is not 0): from numbers that are not,
 * updates make anything. */
bool tr_residual_sound(const struct tr_residual *r);

#endif
