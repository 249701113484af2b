/* SPDX-License-Identifier: MIT */
/* Runs, and the scale on which they are learned (run.h). */
#include "tuner/run.h"

#include <math.h>

const uint8_t tr_learned_slots[TR_LEARNED] = {
    0,  1,  2,  3,  4,  5,  6,  7,  9,  10, 11, 12, 13, 14, 15, 16, 20, 21,
    22, 23, 24, 25, 26, 28, 29, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41,
};

/* Beyond this the time above the floor is nothing, or more than anybody waits for. */
#define F_MAX 40

static double excess_of(const struct tr_roofline *roof, struct tr_usual usual)
{
    return (1 / usual.mem - 1) * roof->t_mem + (1 / usual.cmp - 1) * roof->t_cmp +
           TR_OVERLAP * fmin(roof->t_mem, roof->t_cmp);
}

double tr_usual_excess_cpu(const struct tr_roofline *roof)
{
    return excess_of(roof, tr_usual_of_cpu());
}

trueno_status tr_times_of_raw(struct tr_times *out, const tr_raw_values raw,
                              const trueno_features *f, trueno_error *err)
{
    trueno_status status = tr_roofline_of_raw(&out->roof, raw, f, err);
    if (status != TRUENO_OK) return status;
    out->excess = excess_of(&out->roof, tr_usual_of(raw));
    uint32_t gpu = raw[TRUENO_FEATURE_VRAM_GB] != 0;
    out->group = 2 * gpu + (trueno_features_phase(f) == TRUENO_PHASE_PREFILL);
    return TRUENO_OK;
}

trueno_status tr_run_of(struct tr_run *out, const trueno_features *f, trueno_error *err)
{
    trueno_status status = tr_features_resolve(out->raw, f, err);
    if (status == TRUENO_OK) status = tr_times_of_raw(&out->times, out->raw, f, err);
    if (status != TRUENO_OK) return status;
    tr_features_vector_of_raw(out->vector, out->raw);
    for (size_t k = 0; k < TR_LEARNED; k++) out->x[k] = out->vector[tr_learned_slots[k]];
    return TRUENO_OK;
}

double tr_tps_of(const struct tr_times *t, double f)
{
    double bounded = fmax(-F_MAX, fmin(f, F_MAX));
    return fmin(t->roof.tokens / (t->roof.t_floor + t->excess * exp(-bounded)), t->roof.tps);
}

bool tr_f_of(double *f, const struct tr_times *t, double tps)
{
    double above = t->roof.tokens / tps - t->roof.t_floor;
    if (!(above > t->roof.t_floor * 1e-9)) return false;
    *f = log(t->excess / above);
    return true;
}
