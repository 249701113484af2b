/* SPDX-License-Identifier: MIT */
/* What a table of feature vectors can teach: which columns vary, and which only follow others. */
#ifndef TR_COLUMNS_H
#define TR_COLUMNS_H

#include "trueno/features.h"

/* Rows of the features that a model looks at. */
struct tr_columns {
    const float *x; /* [n][n_features] */
    size_t n, n_features;
    const uint8_t *slot_of; /* [n_features] slots of the vector */
};

/* Bits by slot: columns with one value; columns that follow (|Pearson's r| > 0.98) one before them.
 */
void tr_columns_look(uint64_t *constant, uint64_t *collinear, const struct tr_columns *t);

struct tr_row {
    const float *x;
    size_t n;
};

/* How many rows differ. order: [n], scratch. */
size_t tr_columns_distinct(const struct tr_columns *t, struct tr_row *order);

#endif
