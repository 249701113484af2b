/* SPDX-License-Identifier: MIT */
/* Throughput: the time of the roof, the losses that are usual, and what was learned of them
 * (trueno/predict.h). */
#include "tuner/regressor.h"

#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/effects.h"

/* Uncertainty of ln(tps) that is always there, and that each slot outside its trained range adds.
 */
#define U_ALWAYS  0.02
#define U_OUTSIDE 0.05

/* ------------------------------------------------------------------- predicting */

double tr_regressor_trained_f(const trueno_regressor *r, const struct tr_run *run, double *spread)
{
    *spread = 0;
    if (r->source == TRUENO_SOURCE_RIDGE) return tr_ridge_predict(&r->ridge, run->x);
    if (r->source == TRUENO_SOURCE_FOREST) return tr_forest_predict(r->forest, run->x, spread);
    return run->times.group < 2 ? r->cpu_f[run->times.group] : 0;
}

double tr_regressor_prior(const trueno_regressor *r, uint32_t group)
{
    return group < 2 ? r->cpu_f[group] : 0;
}

bool tr_regressor_calibrated(const trueno_regressor *r)
{
    return r && r->source == TRUENO_SOURCE_PRIOR && (r->cpu_f[0] != 0 || r->cpu_f[1] != 0);
}

bool tr_regressor_set_prior(trueno_regressor *r, double decode_f, double prefill_f)
{
    if (r->source != TRUENO_SOURCE_PRIOR) return false;
    r->cpu_f[0] = decode_f;
    r->cpu_f[1] = prefill_f;
    tr_residual_reset(&r->online);
    return true;
}

double tr_uncertainty(const struct tr_times *t, double f, double spread, size_t n_outside)
{
    double efficiency = tr_tps_of(t, f) / t->roof.tps;
    return U_ALWAYS + spread * (1 - efficiency) + U_OUTSIDE * (double)n_outside;
}

/* Slots that are outside of what was trained; none where nothing was. */
static size_t outside(const trueno_regressor *r, const float *x)
{
    size_t n = 0;
    if (r->source == TRUENO_SOURCE_PRIOR) return 0;
    for (size_t k = 0; k < TR_LEARNED; k++) n += x[k] < r->min[k] || x[k] > r->max[k];
    return n;
}

double tr_regressor_look(const trueno_regressor *r, double *u, const struct tr_run *run)
{
    double spread, f = tr_regressor_trained_f(r, run, &spread);
    f += tr_residual_predict(&r->online, run->vector, NULL);
    *u = tr_uncertainty(&run->times, f, spread, outside(r, run->x));
    return f;
}

/* Fills a prediction in but for its features; returns its uncertainty. */
static double predict_run(const trueno_regressor *r, trueno_prediction *p, const struct tr_run *run)
{
    const struct tr_times *t = &run->times;
    double u, f = tr_regressor_look(r, &u, run);
    p->source = r->source;
    p->bound = t->roof.t_mem >= t->roof.t_cmp ? TRUENO_BOUND_MEMORY : TRUENO_BOUND_COMPUTE;
    p->roofline_tps = t->roof.tps;
    p->predicted_tps = tr_tps_of(t, f);
    p->efficiency = p->predicted_tps / p->roofline_tps;
    p->confidence = r->confidence;
    double factor = tr_interval_factor(&p->level, &r->interval, t->group, u);
    p->lo = p->predicted_tps / factor;
    p->hi = fmin(p->predicted_tps * factor, p->roofline_tps);
    return u;
}

static bool is_reference(const trueno_features *f)
{
    return f->gpu_mem_bw_gbs == TRUENO_UNSET || f->gpu_compute_tflops == TRUENO_UNSET ||
           f->sm_count == TRUENO_UNSET;
}

trueno_status tr_regressor_predict(const trueno_regressor *r, trueno_prediction *out,
                                   struct tr_run *run, const trueno_features *f, trueno_error *err)
{
    if (!r || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "prediction: %s is NULL", r ? "out" : "r");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "prediction: struct_size is %zu; use TRUENO_PREDICTION_INIT",
                       out->struct_size);
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    p.struct_size = out->struct_size;
    memcpy(out, &p, sizeof p);
    trueno_status status = tr_run_of(run, f, err);
    if (status != TRUENO_OK) return status;
    predict_run(r, &p, run);
    p.reference_hardware = is_reference(f);
    if (trueno_features_phase(f) == TRUENO_PHASE_PREFILL)
        p.ttft_ms = 1000 * run->times.roof.tokens / p.predicted_tps;
    memcpy(out, &p, sizeof p);
    return TRUENO_OK;
}

trueno_status trueno_regressor_predict(const trueno_regressor *r, trueno_prediction *out,
                                       const trueno_features *f, trueno_error *err)
{
    struct tr_run run;
    trueno_status status = tr_regressor_predict(r, out, &run, f, err);
    if (status == TRUENO_OK)
        tr_effects_of(out, r, &run, f, tr_residual_predict(&r->online, run.vector, NULL));
    return status;
}

/* -------------------------------------------------------------------- observing */

trueno_status trueno_regressor_observe(trueno_regressor *r, const trueno_features *f, double tps,
                                       trueno_error *err)
{
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    struct tr_run run;
    double f_measured;

    if (!r) return tr_fail(err, TRUENO_ERR_ARGUMENT, "observation: r is NULL");
    if (!(isfinite(tps) && tps > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "observation: %g tokens/s", tps);
    trueno_status status = tr_run_of(&run, f, err);
    if (status != TRUENO_OK) return status;
    double u = predict_run(r, &p, &run);
    bool held = p.lo <= tps && tps <= p.hi, possible = tr_f_of(&f_measured, &run.times, tps);
    tr_interval_observe(&r->interval, run.times.group, held,
                        possible ? fabs(log(tps / p.predicted_tps)) / u : (double)NAN);
    return TRUENO_OK;
}

trueno_status trueno_regressor_coverage(const trueno_regressor *r, double *share, size_t *n)
{
    size_t held = 0;
    if (share) *share = NAN;
    if (n) *n = 0;
    if (!r || !share || !n) return TRUENO_ERR_ARGUMENT;
    *n = r->interval.n_hits;
    for (size_t i = 0; i < *n; i++) held += r->interval.hit[i];
    if (*n > 0) *share = (double)held / (double)*n;
    return TRUENO_OK;
}

uint64_t trueno_regressor_online_updates(const trueno_regressor *r)
{
    return r ? r->online.n : 0;
}

/* --------------------------------------------------------------- making, freeing */

trueno_status tr_regressor_make(trueno_ctx *ctx, trueno_regressor **out, trueno_error *err)
{
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "regressor: out is NULL");
    *out = NULL;
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "regressor: ctx is NULL");
    trueno_regressor *r = tr_calloc(ctx, 1, sizeof *r);
    if (!r) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "regressor: no memory");
    r->ctx = ctx;
    tr_residual_reset(&r->online);
    tr_interval_reset(&r->interval);
    tr_ctx_ref(ctx);
    *out = r;
    return TRUENO_OK;
}

trueno_status trueno_regressor_new(trueno_ctx *ctx, trueno_regressor **out, trueno_error *err)
{
    return tr_regressor_make(ctx, out, err);
}

trueno_status trueno_regressor_with_random_forest(trueno_ctx *ctx, trueno_regressor **out,
                                                  uint32_t n_trees,
                                                  const trueno_forest_options *opt,
                                                  trueno_error *err)
{
    trueno_forest_options options;
    if (out) *out = NULL;
    trueno_status status = tr_forest_options_read(&options, opt, "regressor", err);
    if (status == TRUENO_OK) status = tr_regressor_make(ctx, out, err);
    if (status != TRUENO_OK) return status;
    (*out)->may_grow = true;
    (*out)->n_trees = n_trees;
    (*out)->forest_options = options;
    return TRUENO_OK;
}

void trueno_regressor_free(trueno_regressor *r)
{
    if (!r) return;
    trueno_ctx *ctx = r->ctx;
    tr_forest_free(r->forest);
    tr_free(ctx, r);
    tr_ctx_unref(ctx);
}
