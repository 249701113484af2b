/* SPDX-License-Identifier: MIT */
/* What a tuner learns of whole runs, and its bandits (trueno/tuner.h). */
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/regressor.h"
#include "tuner/tuner_impl.h"

#include <math.h>
#include <string.h>
#include <time.h>

void tr_accuracy_date(trueno_accuracy *a)
{
    time_t now = time(NULL);
    struct tm day;
    a->date[0] = 0;
    if (now == (time_t)-1 || !gmtime_r(&now, &day)) return;
    if (strftime(a->date, sizeof a->date, "%Y-%m-%d", &day) == 0) a->date[0] = 0;
}

static trueno_status null_argument(const char *what, trueno_error *err)
{
    return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: %s is NULL", what);
}

/* The regressor learns one run: a learner that began with it goes on learning, and its state is
 * applied. Under t->models, for writing. */
static trueno_status learn_run(trueno_tuner *t, const trueno_features *f, double tps,
                               trueno_error *err)
{
    trueno_prediction then = TRUENO_PREDICTION_INIT;
    struct tr_run run;
    trueno_status status = tr_regressor_predict(t->regressor, &then, &run, f, err);
    if (status == TRUENO_OK && !t->learner)
        status = trueno_learner_new(t->regressor, &t->learner, err);
    if (status == TRUENO_OK &&
        !tr_tuner_collect(t, f, tps, then.predicted_tps, TRUENO_KERNEL_UNKNOWN))
        tr_log(t->ctx, TRUENO_LOG_WARN, "tuner: no memory to keep a run for retraining");
    if (status == TRUENO_OK) status = trueno_regressor_observe(t->regressor, f, tps, err);
    uint64_t before = trueno_learner_num_updates(t->learner);
    if (status == TRUENO_OK) status = trueno_learner_observe_run(t->learner, f, tps, err);
    if (status == TRUENO_OK && trueno_learner_num_updates(t->learner) > before) {
        status = trueno_regressor_apply_learner(t->regressor, t->learner, err);
        tr_tuner_name_version(t);
    }
    return status;
}

/* Rates so far above a roof are wrong themselves. */
#define ABSURD 2

/* A run on a CPU that was faster than its bytes allow shows that the bandwidth kept for its number
 * of threads is too low, as memory on shared machines changes: it is raised to what the run needed.
 */
static void raise_roof(trueno_tuner *t, const trueno_features *f, double tps)
{
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_machine_point at;
    uint32_t threads = f->cpu_threads > 0 ? (uint32_t)f->cpu_threads : 1;
    if (f->vram_gb != 0 || trueno_tuner_predict(t, &p, f, NULL) != TRUENO_OK ||
        p.bound != TRUENO_BOUND_MEMORY || tps <= p.roofline_tps || tps > ABSURD * p.roofline_tps ||
        !tr_tuner_point(t, &at, threads))
        return;
    double was = at.read_gbs, needed = f->gpu_mem_bw_gbs * tps / p.roofline_tps;
    if (was >= needed || needed > ABSURD * was) return;
    at.read_gbs = needed;
    if (tr_tuner_put_point(t, &at, NULL) != TRUENO_OK) return; /* it is no fault of the run */
    tr_log(
        t->ctx, TRUENO_LOG_INFO,
        "tuner: a run reached %.1f tokens/s, above its roof of %.1f; memory reads %.1f GB/s with "
        "%u threads, not %.1f",
        tps, p.roofline_tps, needed, threads, was);
}

trueno_status trueno_tuner_observe_run(trueno_tuner *t, const trueno_features *f, double tps,
                                       trueno_error *err)
{
    if (!t || !f) return null_argument(t ? "f" : "t", err);
    if (!(isfinite(tps) && tps > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: a run of %g tokens/s", tps);
    trueno_status status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    if (tr_tuner_learns(t)) {
        pthread_rwlock_wrlock(&t->models);
        status = learn_run(t, f, tps, err);
        pthread_rwlock_unlock(&t->models);
        if (status == TRUENO_OK) raise_roof(t, f, tps);
    } else {
        status = trueno_features_validate(f, err);
    }
    if (status == TRUENO_OK) atomic_fetch_add(&t->n.runs, 1);
    tr_tuner_leave(t);
    return status;
}

trueno_status trueno_tuner_online_learner(trueno_tuner *t, trueno_learner **out, trueno_error *err)
{
    if (out) *out = NULL;
    if (!t || !out) return null_argument(t ? "out" : "t", err);
    pthread_rwlock_rdlock(&t->models);
    trueno_status status = trueno_learner_new(t->regressor, out, err);
    pthread_rwlock_unlock(&t->models);
    return status;
}

trueno_status trueno_tuner_apply_online_updates(trueno_tuner *t, const trueno_learner *learner,
                                                trueno_error *err)
{
    if (!t || !learner) return null_argument(t ? "learner" : "t", err);
    trueno_status status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    pthread_rwlock_wrlock(&t->models);
    status = trueno_regressor_apply_learner(t->regressor, learner, err);
    if (status == TRUENO_OK) {
        /* what t itself learned was replaced: it goes on from here */
        trueno_learner_free(t->learner);
        t->learner = NULL;
        tr_tuner_name_version(t);
    }
    pthread_rwlock_unlock(&t->models);
    tr_tuner_leave(t);
    return status;
}

trueno_status trueno_tuner_observe_drafts(trueno_tuner *t, uint64_t checked, uint64_t accepted)
{
    if (!t || accepted > checked) return TRUENO_ERR_ARGUMENT;
    if (!tr_tuner_learns(t)) return TRUENO_OK;
    atomic_fetch_add(&t->n.drafts_checked, checked);
    atomic_fetch_add(&t->n.drafts_accepted, accepted);
    return TRUENO_OK;
}

/* ----------------------------------------------------------------------- training */

/* FNV-1a over bytes. */
static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ p[i]) * UINT64_C(0x100000001b3);
    return h;
}

uint64_t tr_data_hash(const trueno_features *rows, const double *tps, size_t n)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < n; i++) {
        float x[TRUENO_FEATURE_DIM] = {0};
        if (trueno_features_to_vector(x, &rows[i], NULL) == TRUENO_OK) h = hash(h, x, sizeof x);
        h = hash(h, &tps[i], sizeof tps[i]);
    }
    return h;
}

/* Models were replaced: what was learned on top of the old ones is gone. */
static void models_changed(trueno_tuner *t)
{
    trueno_learner_free(t->learner);
    t->learner = NULL;
    t->pretrained = false;
    t->mape = NAN;
    t->accuracy = (trueno_accuracy)TRUENO_ACCURACY_INIT;
    tr_tuner_name_version(t);
}

void tr_tuner_replace_regressor(trueno_tuner *t, trueno_regressor *r, double mape,
                                const trueno_accuracy *accuracy)
{
    trueno_regressor_free(t->regressor);
    t->regressor = r;
    models_changed(t);
    t->mape = mape;
    t->accuracy = *accuracy;
    tr_accuracy_date(&t->accuracy);
}

trueno_status tr_regressor_grow(trueno_regressor *r, trueno_train_report *report,
                                const trueno_features *rows, const double *tps, size_t n,
                                trueno_error *err)
{
    for (;;) {
        trueno_status status = trueno_regressor_train_random_forest(r, report, rows, tps, n, err);
        if (status != TRUENO_ERR_TOO_LARGE || r->forest_options.min_leaf > n) return status;
        r->forest_options.min_leaf = r->forest_options.min_leaf * 3 / 2 + 1;
    }
}

trueno_status trueno_tuner_train(trueno_tuner *t, trueno_train_report *report,
                                 const trueno_features *rows, const double *tps, size_t n,
                                 trueno_error *err)
{
    trueno_train_report own = TRUENO_TRAIN_REPORT_INIT;
    if (!t) return null_argument("t", err);
    if (!report) report = &own;
    trueno_regressor *trained = NULL; /* a copy, so that others may predict meanwhile */
    trueno_status status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    status = trueno_regressor_clone(t->regressor, &trained, err);
    if (status == TRUENO_OK) {
        trained->may_grow = true;
        trained->n_trees = 100;
        trained->forest_options = (trueno_forest_options)TRUENO_FOREST_OPTIONS_INIT;
        status = tr_regressor_grow(trained, report, rows, tps, n, err);
    }
    if (status == TRUENO_OK) {
        trueno_accuracy accuracy = TRUENO_ACCURACY_INIT;
        accuracy.n = report->n_held_out;
        accuracy.split = "out of bag";
        accuracy.data_hash = tr_data_hash(rows, tps, n);
        pthread_rwlock_wrlock(&t->models);
        tr_tuner_replace_regressor(t, trained, report->mape, &accuracy);
        pthread_rwlock_unlock(&t->models);
    } else {
        trueno_regressor_free(trained);
    }
    tr_tuner_leave(t);
    return status;
}

trueno_status trueno_tuner_set_models(trueno_tuner *t, const trueno_regressor *r,
                                      const trueno_classifier *c, trueno_error *err)
{
    trueno_regressor *new_r = NULL;
    trueno_classifier *new_c = NULL;
    if (!t) return null_argument("t", err);
    trueno_status status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    if (r) status = trueno_regressor_clone(r, &new_r, err);
    if (status == TRUENO_OK && c) status = tr_classifier_clone(t->ctx, &new_c, c, err);
    if (status == TRUENO_OK) {
        pthread_rwlock_wrlock(&t->models);
        if (new_r) {
            trueno_regressor_free(t->regressor);
            t->regressor = new_r;
            models_changed(t);
        }
        if (new_c) {
            trueno_classifier_free(t->classifier);
            t->classifier = new_c;
        }
        pthread_rwlock_unlock(&t->models);
    } else {
        trueno_regressor_free(new_r);
    }
    tr_tuner_leave(t);
    return status;
}

trueno_status tr_classifier_clone(trueno_ctx *ctx, trueno_classifier **out,
                                  const trueno_classifier *c, trueno_error *err)
{
    size_t len = 0;
    *out = NULL;
    trueno_status status = trueno_classifier_export(c, NULL, 0, &len, err);
    void *bytes = status == TRUENO_OK ? tr_alloc(ctx, len) : NULL;
    if (status == TRUENO_OK && !bytes)
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "classifier: no memory for a copy");
    if (status == TRUENO_OK) status = trueno_classifier_export(c, bytes, len, &len, err);
    if (status == TRUENO_OK) status = trueno_classifier_import(ctx, out, bytes, len, err);
    tr_free(ctx, bytes);
    return status;
}

trueno_status trueno_tuner_throughput_mape(const trueno_tuner *t, double *mape,
                                           trueno_accuracy *detail)
{
    if (mape) *mape = NAN;
    if (!t || !mape || (detail && !TR_STRUCT_OK(detail))) return TRUENO_ERR_ARGUMENT;
    pthread_rwlock_t *models = (pthread_rwlock_t *)&t->models; /* what a lock changes is not t */
    pthread_rwlock_rdlock(models);
    trueno_accuracy a = t->accuracy;
    *mape = t->mape;
    pthread_rwlock_unlock(models);
    if (detail) {
        a.struct_size = detail->struct_size;
        memcpy(detail, &a, sizeof a);
    }
    return isnan(*mape) ? TRUENO_ERR_NOT_MEASURED : TRUENO_OK;
}

/* ------------------------------------------------------------------------ bandits */

trueno_status trueno_tuner_kernel_bandit(const trueno_tuner *t, trueno_bandit **out,
                                         const trueno_bandit_options *opt, trueno_error *err)
{
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    if (out) *out = NULL;
    if (!t || !out) return null_argument(t ? "out" : "t", err);
    o.seed = t->seed;
    return trueno_bandit_new(t->ctx, out, opt ? opt : &o, err);
}

/* The different families of the choice: what a bandit may pick. */
static size_t families_of(trueno_kernel out[5], const trueno_kernel_choice *c)
{
    size_t n = 0;
    out[n++] = c->top_kernel;
    for (uint32_t i = 0; i < c->n_alternatives && n < 5; i++) {
        if (c->variant && !c->alternatives[i].variant) continue; /* cannot run here */
        out[n++] = c->alternatives[i].kernel;
    }
    return n;
}

/* Moves `k` to the top of the choice. */
static void put_first(trueno_kernel_choice *c, trueno_kernel k)
{
    for (uint32_t i = 0; i < c->n_alternatives; i++) {
        if (c->alternatives[i].kernel != k) continue;
        trueno_alternative was = {c->top_kernel, c->variant, c->confidence};
        c->top_kernel = k;
        c->variant = c->alternatives[i].variant;
        c->confidence = c->alternatives[i].confidence;
        c->alternatives[i] = was;
        return;
    }
}

/* No half results. */
static trueno_status forget_choice(trueno_kernel_choice *c, trueno_status status)
{
    trueno_kernel_choice none = TRUENO_KERNEL_CHOICE_INIT;
    if (!c || !TR_STRUCT_OK(c)) return status;
    none.struct_size = c->struct_size;
    memcpy(c, &none, sizeof none);
    return status;
}

trueno_status trueno_tuner_recommend_kernel_with_exploration(trueno_tuner *t,
                                                             trueno_kernel_choice *out,
                                                             const trueno_features *f,
                                                             trueno_bandit *bandit, double explore,
                                                             trueno_error *err)
{
    trueno_kernel arms[5], picked = TRUENO_KERNEL_UNKNOWN;
    if (!t || !bandit) return null_argument(t ? "bandit" : "t", err);
    if (!(explore >= 0 && explore <= 1))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: exploration of %g, not 0 to 1", explore);
    pthread_rwlock_rdlock(&t->models);
    trueno_status status = trueno_classifier_predict(t->classifier, out, f, err);
    pthread_rwlock_unlock(&t->models);
    if (status == TRUENO_OK)
        status = trueno_bandit_set_arms(bandit, out->context, arms, families_of(arms, out), err);
    if (status != TRUENO_OK) return forget_choice(out, status);

    pthread_mutex_lock(&t->adding); /* of the random numbers */
    bool exploring = tr_random_unit(&t->random) < explore;
    pthread_mutex_unlock(&t->adding);
    trueno_kernel best = trueno_bandit_best_kernel(bandit, out->context);
    if (exploring)
        status = trueno_bandit_select(bandit, &picked, out->context, err);
    else
        picked = best == TRUENO_KERNEL_UNKNOWN ? out->top_kernel : best;
    if (status != TRUENO_OK) return forget_choice(out, status);
    if (picked != out->top_kernel) put_first(out, picked);
    if (best != TRUENO_KERNEL_UNKNOWN || exploring)
        out->source = picked == best ? TRUENO_CHOICE_MEASURED : TRUENO_CHOICE_EXPLORING;
    return status;
}
