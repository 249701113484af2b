/* SPDX-License-Identifier: MIT */
/* Inside of a regressor: f = what was trained + what running added. */
#ifndef TR_REGRESSOR_H
#define TR_REGRESSOR_H

#include "trueno/predict.h"
#include "tuner/forest.h"
#include "tuner/interval.h"
#include "tuner/residual.h"
#include "tuner/ridge.h"

struct trueno_regressor {
    trueno_ctx *ctx;
    bool may_grow; /* made with a forest */
    uint32_t n_trees;
    trueno_forest_options forest_options;

    trueno_source source;
    double cpu_f[2]; /* f of a CPU's decode and prefill while nothing is trained: measured losses */
    struct tr_ridge ridge;
    struct tr_forest *forest;
    float min[TR_LEARNED], max[TR_LEARNED]; /* of the rows that were learned */
    double confidence;                      /* share of held-out rows within 20 % */
    struct tr_residual online;
    struct tr_interval interval;
};

/* Makes one that knows nothing. */
trueno_status tr_regressor_make(trueno_ctx *ctx, trueno_regressor **out, trueno_error *err);

/* As trueno_regressor_predict, but without top_features, which cost more than all the rest. The
 * run is told as well. */
trueno_status tr_regressor_predict(const trueno_regressor *r, trueno_prediction *out,
                                   struct tr_run *run, const trueno_features *f, trueno_error *err);

/* The f that was trained, without what running added. spread: deviation of the trees. */
double tr_regressor_trained_f(const trueno_regressor *r, const struct tr_run *run, double *spread);

/* Trains a forest, with the smallest leaves at which it has no more nodes than a forest may have.
 * As trueno_regressor_train_random_forest. */
trueno_status tr_regressor_grow(trueno_regressor *r, trueno_train_report *report,
                                const trueno_features *rows, const double *tps, size_t n,
                                trueno_error *err);

/* f of decoding (0) or prefilling (1) on a CPU while nothing is trained. */
double tr_regressor_prior(const trueno_regressor *r, uint32_t group);
bool tr_regressor_calibrated(const trueno_regressor *r); /* they were set, and count */
/* Sets both; what running added is gone. False, and nothing changes: something was trained. */
bool tr_regressor_set_prior(trueno_regressor *r, double decode_f, double prefill_f);

/* f of a run with what running added, and how uncertain the prediction is. */
double tr_regressor_look(const trueno_regressor *r, double *u, const struct tr_run *run);

/* Adds the scores [n] of rows that were held out (NaN: none) to the groups of the interval, by the
 * groups of times [n]: evenly over the rows where a group has more than it keeps. */
void tr_regressor_fill_interval(trueno_regressor *r, const struct tr_times *times,
                                const double *scores, size_t n);

/* What one may be wrong by in ln(tokens/s), up to a factor: always something, the spread of the
 * trees' f, and slots outside the trained range. */
double tr_uncertainty(const struct tr_times *t, double f, double spread, size_t n_outside);

/* Whether both were trained to the same f, so that what running adds to one fits the other. */
bool tr_regressor_same_trained(const trueno_regressor *a, const trueno_regressor *b);

#endif
