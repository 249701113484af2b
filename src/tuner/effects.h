/* SPDX-License-Identifier: MIT */
/* What single features do to a prediction (trueno/predict.h). */
#ifndef TR_EFFECTS_H
#define TR_EFFECTS_H

#include "tuner/regressor.h"

/* Fills top_features in, of a run of f that r predicts at `tps`. added: what running added to f of
 * the run. */
void tr_effects_of(trueno_prediction *p, const trueno_regressor *r, const struct tr_run *run,
                   const trueno_features *f, double added);

#endif
