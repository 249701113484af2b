/* SPDX-License-Identifier: MIT */
/* Ridge regression in closed form: standardised columns, an intercept without penalty. */
#ifndef TR_RIDGE_H
#define TR_RIDGE_H

#include "trueno/base.h"

enum { TR_RIDGE_MAX_FEATURES = 42 };

struct tr_ridge {
    size_t n_features;
    double mean[TR_RIDGE_MAX_FEATURES];   /* of the columns */
    double weight[TR_RIDGE_MAX_FEATURES]; /* of column - mean; 0 for columns that do not vary */
    double intercept;
};

/* Minimises sum (y - intercept - w (x - mean))^2 + penalty * sum (w * deviation of the column)^2 *
 * rows over those rows of x [n][n_features] whose fold is not `without` (fold NULL: all).
 * Rows there must be one or more; penalty > 0. */
void tr_ridge_fit(struct tr_ridge *m, const float *x, const double *y, size_t n, size_t n_features,
                  const uint8_t *fold, uint8_t without, double penalty);

double tr_ridge_predict(const struct tr_ridge *m, const float *x);

#endif
