/* SPDX-License-Identifier: MIT */
/* Collecting runs and feedback, and new models from them (trueno/retrain.h). */
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/classifier_impl.h"
#include "tuner/regressor.h"
#include "tuner/samples.h"
#include "tuner/tuner_impl.h"

#include <math.h>
#include <string.h>
#include <time.h>

/* The error must shrink by this factor, or the new regressor is no better. */
#define BETTER 0.97

enum {
    WANTED = 32,
    MIN_RUNS = 20,
    MIN_MODELS = 3,
    MIN_FEEDBACK = 10,
    MIN_OF_GROUP = 10,
    MAX_FOLDS = 8
};

/* -------------------------------------------------------------------- collecting */

static bool make_room(trueno_tuner *t)
{
    if (t->samples) return true;
    t->samples = tr_alloc(t->ctx, TR_SAMPLES_BYTES);
    if (!t->samples) return false;
    tr_samples_init(t->samples);
    t->samples_bytes = TR_SAMPLES_HEADER;
    return true;
}

bool tr_tuner_collect(trueno_tuner *t, const trueno_features *f, double tps, double predicted,
                      uint32_t label)
{
    const struct tr_sample s = {(int64_t)time(NULL), tps, predicted, label, *f};
    if (!make_room(t)) return false;
    t->samples_bytes = tr_samples_add(t->samples, &s);
    return true;
}

trueno_status tr_tuner_keep_samples(trueno_tuner *t, trueno_error *err)
{
    const void *old;
    size_t n;
    if (!t->samples) return TRUENO_OK;
    if (tr_store_section(t->store, &old, &n, TR_SECTION_LEDGER) && n == t->samples_bytes &&
        memcmp(old, t->samples, n) == 0)
        return TRUENO_OK;
    pthread_mutex_lock(&t->adding);
    trueno_status status =
        tr_store_put_section(t->store, TR_SECTION_LEDGER, t->samples, t->samples_bytes, err);
    pthread_mutex_unlock(&t->adding);
    return status;
}

trueno_status tr_tuner_recall_samples(trueno_tuner *t, trueno_error *err)
{
    const void *bytes;
    size_t n;
    if (!tr_store_section(t->store, &bytes, &n, TR_SECTION_LEDGER) || !tr_samples_ok(bytes, n))
        return TRUENO_OK;
    if (!make_room(t))
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "tuner: no memory for what was collected");
    memcpy(t->samples, bytes, n);
    t->samples_bytes = n;
    return TRUENO_OK;
}

trueno_status trueno_tuner_feedback(trueno_tuner *t, const trueno_features *f, uint32_t kernel,
                                    trueno_error *err)
{
    if (!t || !f) return tr_fail(err, TRUENO_ERR_ARGUMENT, "feedback: %s is NULL", t ? "f" : "t");
    if (kernel >= trueno_kernel_count() || kernel == TRUENO_KERNEL_UNKNOWN)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "feedback: %u is no kernel family",
                       (unsigned)kernel);
    trueno_status status = trueno_features_validate(f, err);
    if (status == TRUENO_OK) status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    if (tr_tuner_learns(t) && !tr_tuner_collect(t, f, 0, 0, kernel))
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "feedback: no memory to keep it");
    tr_tuner_leave(t);
    return status;
}

bool trueno_tuner_wants_retraining(trueno_tuner *t)
{
    size_t n_new = 0;
    if (!t || tr_tuner_enter(t, NULL) != TRUENO_OK) return false;
    const size_t n = t->samples ? tr_samples_count(t->samples) : 0;
    for (size_t i = 0; i < n; i++) {
        const uint8_t *at = tr_samples_at(t->samples, i);
        n_new += tr_sample_utc(at) > tr_samples_trained(t->samples);
    }
    tr_tuner_leave(t);
    return n_new >= WANTED;
}

/* ---------------------------------------------------------------------- training */

/* What was collected, taken apart. */
struct rows {
    size_t n_runs, n_feedback, n_models;
    trueno_features *runs; /* [n_runs] */
    double *tps, *predicted;
    uint32_t *model; /* [n_runs] number of the model, from 0 */
    trueno_features *feedback;
    uint32_t *labels;
};

static bool same_model(const trueno_features *a, const trueno_features *b)
{
    return a->model_params_b == b->model_params_b && a->hidden_dim == b->hidden_dim &&
           a->num_layers == b->num_layers && a->quant == b->quant &&
           a->weight_bytes_per_pass == b->weight_bytes_per_pass;
}

static bool allocate(struct rows *r, struct tr_arena *arena, size_t n)
{
    r->runs = tr_arena_alloc(arena, (n + 1) * sizeof *r->runs);
    r->feedback = tr_arena_alloc(arena, (n + 1) * sizeof *r->feedback);
    r->tps = tr_arena_alloc(arena, (n + 1) * sizeof *r->tps);
    r->predicted = tr_arena_alloc(arena, (n + 1) * sizeof *r->predicted);
    r->model = tr_arena_alloc(arena, (n + 1) * sizeof *r->model);
    r->labels = tr_arena_alloc(arena, (n + 1) * sizeof *r->labels);
    return r->runs && r->feedback && r->tps && r->predicted && r->model && r->labels;
}

static void take_run(struct rows *r, const struct tr_sample *s)
{
    size_t k = 0;
    while (k < r->n_runs && !same_model(&r->runs[k], &s->f)) k++;
    r->model[r->n_runs] = k < r->n_runs ? r->model[k] : (uint32_t)r->n_models++;
    r->runs[r->n_runs] = s->f;
    r->tps[r->n_runs] = s->tps;
    r->predicted[r->n_runs++] = s->predicted;
}

/* Oldest first. */
static void take_apart(struct rows *r, const void *samples)
{
    for (size_t i = tr_samples_count(samples); i-- > 0;) {
        struct tr_sample s;
        if (!tr_sample_decode(&s, tr_samples_at(samples, i))) continue;
        if (s.tps > 0) {
            take_run(r, &s);
        } else {
            r->feedback[r->n_feedback] = s.f;
            r->labels[r->n_feedback++] = s.label;
        }
    }
}

/* A forest from the runs whose fold is not `without`. */
static trueno_status grow_without(trueno_regressor **out, trueno_ctx *ctx, const struct rows *r,
                                  uint32_t n_folds, uint32_t without, trueno_features *f,
                                  double *tps, trueno_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_runs; i++) {
        if (r->model[i] % n_folds == without) continue;
        f[n] = r->runs[i];
        tps[n++] = r->tps[i];
    }
    trueno_status status = trueno_regressor_with_random_forest(ctx, out, 100, NULL, err);
    if (status == TRUENO_OK) status = tr_regressor_grow(*out, NULL, f, tps, n, err);
    return status;
}

/* Whether there are runs of all that the present regressor was trained on: phases on CPU and GPU.
 */
static bool covers(const struct rows *r, const trueno_regressor *present)
{
    size_t n[TR_GROUPS] = {0};
    for (size_t i = 0; i < r->n_runs; i++) {
        struct tr_run run;
        if (tr_run_of(&run, &r->runs[i], NULL) == TRUENO_OK) n[run.times.group]++;
    }
    for (uint32_t g = 0; g < TR_GROUPS; g++)
        if (present->source != TRUENO_SOURCE_PRIOR && present->interval.groups[g].n > 0 &&
            n[g] < MIN_OF_GROUP)
            return false;
    return true;
}

/* The mean error of runs that were predicted without their models. NaN: a fold has too few others.
 */
static trueno_status held_out_error(double *error, const trueno_regressor **others,
                                    const struct rows *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n_runs; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        struct tr_run run;
        trueno_status status = tr_regressor_predict(others[i], &p, &run, &r->runs[i], NULL);
        if (status != TRUENO_OK) return status;
        sum += fabs(p.predicted_tps / r->tps[i] - 1);
    }
    *error = sum / (double)r->n_runs;
    return TRUENO_OK;
}

static double error_at_the_time(const struct rows *r)
{
    double sum = 0;
    for (size_t i = 0; i < r->n_runs; i++) sum += fabs(r->predicted[i] / r->tps[i] - 1);
    return sum / (double)r->n_runs;
}

/* The regressor of all runs, with the scores that its folds earned. */
static trueno_status grow_all(trueno_regressor **out, trueno_ctx *ctx, const struct rows *r,
                              const trueno_regressor *const *others, trueno_error *err)
{
    trueno_status status = trueno_regressor_with_random_forest(ctx, out, 100, NULL, err);
    if (status == TRUENO_OK)
        status = tr_regressor_grow(*out, NULL, r->runs, r->tps, r->n_runs, err);
    if (status == TRUENO_OK)
        status = trueno_regressor_set_scores(*out, others, r->runs, r->tps, r->n_runs, err);
    return status;
}

/* A new regressor if it is better, else NULL; also where too few runs can be used. */
static trueno_status retrain_regressor(trueno_regressor **out, trueno_retraining *found,
                                       const trueno_tuner *t, const struct rows *r,
                                       struct tr_arena *arena, trueno_error *err)
{
    trueno_ctx *ctx = t->ctx;
    trueno_regressor *folds[MAX_FOLDS] = {NULL};
    const uint32_t n_folds = r->n_models < MAX_FOLDS ? (uint32_t)r->n_models : MAX_FOLDS;
    const trueno_regressor **others = tr_arena_alloc(arena, r->n_runs * sizeof(void *));
    trueno_features *f = tr_arena_alloc(arena, r->n_runs * sizeof *f);
    double *tps = tr_arena_alloc(arena, r->n_runs * sizeof *tps);
    trueno_status status = TRUENO_OK;
    *out = NULL;
    if (!others || !f || !tps)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "retraining: no memory for %zu runs", r->n_runs);
    for (uint32_t k = 0; k < n_folds && status == TRUENO_OK; k++)
        status = grow_without(&folds[k], ctx, r, n_folds, k, f, tps, err);
    for (size_t i = 0; i < r->n_runs; i++) others[i] = folds[r->model[i] % n_folds];
    found->mape_before = error_at_the_time(r);
    if (status == TRUENO_OK) status = held_out_error(&found->mape_after, others, r);
    if (status == TRUENO_OK && found->mape_after < BETTER * found->mape_before &&
        covers(r, t->regressor))
        status = grow_all(out, ctx, r, others, err);
    if (status != TRUENO_OK) {
        trueno_regressor_free(*out);
        *out = NULL;
    }
    for (uint32_t k = 0; k < n_folds; k++) trueno_regressor_free(folds[k]);
    if (status != TRUENO_ERR_INSUFFICIENT_DATA) return status;
    found->mape_before = found->mape_after = NAN; /* runs above their roofs teach nothing */
    return TRUENO_OK;
}

/* Share of the feedback that the classifier names. */
static double accuracy_of(const trueno_classifier *c, const struct rows *r)
{
    size_t right = 0;
    for (size_t i = 0; i < r->n_feedback; i++) {
        trueno_kernel_choice choice = TRUENO_KERNEL_CHOICE_INIT;
        if (trueno_classifier_predict(c, &choice, &r->feedback[i], NULL) == TRUENO_OK)
            right += (uint32_t)choice.top_kernel == r->labels[i];
    }
    return (double)right / (double)r->n_feedback;
}

static trueno_status retrain_classifier(trueno_classifier **out, trueno_retraining *found,
                                        const trueno_tuner *t, const struct rows *r,
                                        trueno_error *err)
{
    trueno_class_report report = TRUENO_CLASS_REPORT_INIT;
    *out = NULL;
    trueno_status status = trueno_classifier_with_random_forest(t->ctx, out, 50, NULL, err);
    if (status == TRUENO_OK)
        status = trueno_classifier_train(*out, &report, r->feedback, r->labels, r->n_feedback, err);
    if (status == TRUENO_OK) {
        found->accuracy_before = accuracy_of(t->classifier, r);
        found->accuracy_after = report.accuracy;
        if (report.accuracy > found->accuracy_before) return TRUENO_OK;
    }
    trueno_classifier_free(*out);
    *out = NULL;
    return status;
}

/* Puts what is better in the place of what is there. */
static void use_models(trueno_tuner *t, trueno_retraining *found, trueno_regressor *r,
                       trueno_classifier *c, const struct rows *rows)
{
    trueno_accuracy accuracy = TRUENO_ACCURACY_INIT;
    found->regressor = r != NULL;
    found->classifier = c != NULL;
    accuracy.n = rows->n_runs;
    accuracy.split = "leave one model out";
    accuracy.data_hash = tr_data_hash(rows->runs, rows->tps, rows->n_runs);
    pthread_rwlock_wrlock(&t->models);
    if (r) tr_tuner_replace_regressor(t, r, found->mape_after, &accuracy);
    if (c) {
        trueno_classifier_free(t->classifier);
        t->classifier = c;
    }
    pthread_rwlock_unlock(&t->models);
    tr_samples_set_trained(t->samples, (int64_t)time(NULL));
}

static trueno_status retrain(trueno_tuner *t, trueno_retraining *found, trueno_error *err)
{
    struct tr_arena arena = {.ctx = t->ctx};
    struct rows rows = {0};
    trueno_regressor *r = NULL;
    trueno_classifier *c = NULL;
    const size_t n = t->samples ? tr_samples_count(t->samples) : 0;
    trueno_status status = TRUENO_OK;
    if (!allocate(&rows, &arena, n))
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "retraining: no memory for %zu rows", n);
    if (status == TRUENO_OK && n > 0) take_apart(&rows, t->samples);
    found->n_runs = rows.n_runs;
    found->n_models = rows.n_models;
    found->n_feedback = rows.n_feedback;
    bool runs = rows.n_runs >= MIN_RUNS && rows.n_models >= MIN_MODELS;
    bool feedback = rows.n_feedback >= MIN_FEEDBACK;
    if (status == TRUENO_OK && !runs && !feedback)
        status = tr_fail(err, TRUENO_ERR_INSUFFICIENT_DATA,
                         "retraining: %zu runs of %zu models and %zu rows of feedback; needs %d "
                         "runs of %d models, or %d rows",
                         rows.n_runs, rows.n_models, rows.n_feedback, MIN_RUNS, MIN_MODELS,
                         MIN_FEEDBACK);
    if (status == TRUENO_OK && runs) status = retrain_regressor(&r, found, t, &rows, &arena, err);
    if (status == TRUENO_OK && feedback) status = retrain_classifier(&c, found, t, &rows, err);
    if (status == TRUENO_OK) {
        use_models(t, found, r, c, &rows);
    } else {
        trueno_regressor_free(r);
    }
    tr_arena_free(&arena);
    return status;
}

trueno_status trueno_tuner_retrain(trueno_tuner *t, trueno_retraining *out, trueno_error *err)
{
    trueno_retraining found = TRUENO_RETRAINING_INIT;
    found.mape_before = found.mape_after = found.accuracy_before = found.accuracy_after = NAN;
    if (!t) return tr_fail(err, TRUENO_ERR_ARGUMENT, "retraining: t is NULL");
    if (out && !TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "retraining: struct_size is %zu; use TRUENO_RETRAINING_INIT",
                       out->struct_size);
    if (out) {
        found.struct_size = out->struct_size;
        memcpy(out, &found, sizeof found);
    }
    if (t->mode == TRUENO_TUNER_OFF || t->mode == TRUENO_TUNER_STRICT)
        return tr_fail(err, TRUENO_ERR_READ_ONLY, "retraining: the tuner's mode changes nothing");
    trueno_status status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    status = retrain(t, &found, err);
    tr_tuner_leave(t);
    if (status == TRUENO_OK && out) memcpy(out, &found, sizeof found);
    return status;
}
