/* SPDX-License-Identifier: MIT */
/* Experiments where it was measured how many drafts are accepted. */
#ifndef TR_EXPERIMENTS_H
#define TR_EXPERIMENTS_H

#include "trueno/advice.h"

/* Probability that a draft is accepted, and its interval. */
struct tr_acceptance {
    double p, lo, hi; /* 90 % between lo and hi */
};

/* From `accepted` of `checked` drafts; of none: the guess of trueno/advice.h. A beta distribution
 * whose prior is that guess, as much as two drafts. */
struct tr_acceptance tr_acceptance_of(uint64_t checked, uint64_t accepted);

/* As trueno_experiments_of. draft: the number of drafts that is expected to be fastest when
 * decoding, else as the features say. */
trueno_status tr_experiments_of(trueno_experiment *out, size_t cap, size_t *n, uint32_t *draft,
                                const trueno_regressor *r, const trueno_features *f,
                                const struct tr_acceptance *acceptance, trueno_error *err);

#endif
