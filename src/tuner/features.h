/* SPDX-License-Identifier: MIT */
/* Features with their defaults filled in. */
#ifndef TR_FEATURES_H
#define TR_FEATURES_H

#include "trueno/features.h"

/* Raw values of all slots. Slots 0 to 7 may be TRUENO_UNSET: nothing tells the size of the model.
 */
typedef double tr_raw_values[TRUENO_FEATURE_DIM];

/* Fills in defaults and checks everything, as trueno_features_validate. */
trueno_status tr_features_resolve(tr_raw_values raw, const trueno_features *f, trueno_error *err);

/* The vector of resolved values. */
void tr_features_vector_of_raw(float x[TRUENO_FEATURE_DIM], const tr_raw_values raw);

#endif
