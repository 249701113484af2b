/* SPDX-License-Identifier: MIT */
/* One run as the regressor sees it: T = T_floor + excess * exp(-f). Times above the floor are
 * learned on the scale of f, so that nothing learned crosses the roof. */
#ifndef TR_RUN_H
#define TR_RUN_H

#include "tuner/roofline.h"

enum {
    TR_LEARNED = 35, /* features that f may depend on */
    TR_GROUPS = 4    /* CPU or GPU x decode or prefill */
};

/* Slots of those features, rising: not what acts through the floor (bits, bandwidth, compute), nor
 * what cannot change the time of a kernel. */
extern const uint8_t tr_learned_slots[TR_LEARNED];

struct tr_times {
    struct tr_roofline roof;
    double excess;  /* seconds above the floor, as is usual; > 0 */
    uint32_t group; /* below TR_GROUPS */
};

struct tr_run {
    struct tr_times times;
    tr_raw_values raw;
    float vector[TRUENO_FEATURE_DIM];
    float x[TR_LEARNED];
};

/* ERR_INVALID_FEATURE as tr_roofline_of. */
trueno_status tr_run_of(struct tr_run *out, const trueno_features *f, trueno_error *err);

/* The times of values that were resolved from f, or changed since. ERR_INVALID_FEATURE. */
trueno_status tr_times_of_raw(struct tr_times *out, const tr_raw_values raw,
                              const trueno_features *f, trueno_error *err);

/* Seconds above the floor that a run on a CPU usually takes. */
double tr_usual_excess_cpu(const struct tr_roofline *roof);

/* Tokens per second where the excess is exp(-f) of what is usual; above 0, at most the roof. */
double tr_tps_of(const struct tr_times *t, double f);

/* The f of a measured rate; false if that is at or above the roof. */
bool tr_f_of(double *f, const struct tr_times *t, double tps);

#endif
