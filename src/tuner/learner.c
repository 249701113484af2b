/* SPDX-License-Identifier: MIT */
/* Learning while running: a regressor of its own, and how well it does (trueno/learner.h). */
#include "trueno/learner.h"

#include <math.h>

#include "base/error.h"
#include "base/mem.h"
#include "tuner/regressor.h"

enum { LOOK_BACK = 10 }; /* updates */

#define NEWEST     0.1
#define SMALL_LOSS 0.15

struct trueno_learner {
    trueno_regressor *r;
    uint64_t n_updates, n_above_roof;
    double sum;                   /* of losses, each fading by 1 - NEWEST */
    double losses[LOOK_BACK + 1]; /* the mean after update i at i % (LOOK_BACK + 1) */
};

trueno_status trueno_learner_new(const trueno_regressor *r, trueno_learner **out, trueno_error *err)
{
    if (out) *out = NULL;
    if (!r || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "learner: %s is NULL", r ? "out" : "r");
    trueno_regressor *copy;
    trueno_status status = trueno_regressor_clone(r, &copy, err);
    if (status != TRUENO_OK) return status;
    trueno_learner *l = tr_calloc(copy->ctx, 1, sizeof *l);
    if (!l) {
        trueno_regressor_free(copy);
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "learner: no memory");
    }
    l->r = copy;
    *out = l;
    return TRUENO_OK;
}

void trueno_learner_free(trueno_learner *l)
{
    if (!l) return;
    trueno_regressor *r = l->r;
    tr_free(r->ctx, l);
    trueno_regressor_free(r);
}

/* ---------------------------------------------------------------------- learning */

static void count_loss(trueno_learner *l, double loss)
{
    l->n_updates++;
    l->sum += NEWEST * (loss - l->sum);
    double weight = 1 - pow(1 - NEWEST, (double)l->n_updates);
    l->losses[l->n_updates % (LOOK_BACK + 1)] = l->sum / weight;
}

trueno_status trueno_learner_observe_run(trueno_learner *l, const trueno_features *f, double tps,
                                         trueno_error *err)
{
    struct tr_run run;
    double target, spread;

    if (!l) return tr_fail(err, TRUENO_ERR_ARGUMENT, "learner: l is NULL");
    if (!(isfinite(tps) && tps > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "learner: %g tokens/s", tps);
    trueno_status status = tr_run_of(&run, f, err);
    if (status != TRUENO_OK) return status;
    if (!tr_f_of(&target, &run.times, tps)) {
        l->n_above_roof++;
        return TRUENO_OK;
    }
    double trained = tr_regressor_trained_f(l->r, &run, &spread);
    double before = trained + tr_residual_predict(&l->r->online, run.vector, NULL);
    count_loss(l, fabs(log(tr_tps_of(&run.times, before) / tps)));
    tr_residual_update(&l->r->online, run.vector, target - trained, 1 - tps / run.times.roof.tps);
    return TRUENO_OK;
}

trueno_status trueno_learner_observe(trueno_learner *l, const float x[TRUENO_FEATURE_DIM],
                                     double tps, trueno_error *err)
{
    trueno_features f;
    if (!l || !x) return tr_fail(err, TRUENO_ERR_ARGUMENT, "learner: %s is NULL", l ? "x" : "l");
    trueno_status status = trueno_features_from_vector(&f, x, err);
    return status == TRUENO_OK ? trueno_learner_observe_run(l, &f, tps, err) : status;
}

/* ----------------------------------------------------------------------- telling */

uint64_t trueno_learner_num_updates(const trueno_learner *l)
{
    return l ? l->n_updates : 0;
}

uint64_t trueno_learner_num_above_roof(const trueno_learner *l)
{
    return l ? l->n_above_roof : 0;
}

/* The mean loss after update i, one of the last. */
static double loss_after(const trueno_learner *l, uint64_t i)
{
    return l->losses[i % (LOOK_BACK + 1)];
}

double trueno_learner_ema_loss(const trueno_learner *l)
{
    return l && l->n_updates > 0 ? loss_after(l, l->n_updates) : (double)NAN;
}

bool trueno_learner_is_converging(const trueno_learner *l)
{
    if (!l || l->n_updates < LOOK_BACK) return false;
    double now = loss_after(l, l->n_updates);
    if (now > SMALL_LOSS) return false;
    return l->n_updates == LOOK_BACK || now <= loss_after(l, l->n_updates - LOOK_BACK);
}

trueno_status trueno_learner_predict(const trueno_learner *l, trueno_prediction *out,
                                     const trueno_features *f, trueno_error *err)
{
    return trueno_regressor_predict(l ? l->r : NULL, out, f, err);
}

trueno_status trueno_regressor_apply_learner(trueno_regressor *r, const trueno_learner *l,
                                             trueno_error *err)
{
    if (!r || !l) return tr_fail(err, TRUENO_ERR_ARGUMENT, "learner: %s is NULL", r ? "l" : "r");
    if (!tr_regressor_same_trained(r, l->r))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "learner: was made from a regressor that was trained to something else");
    r->online = l->r->online;
    return TRUENO_OK;
}
