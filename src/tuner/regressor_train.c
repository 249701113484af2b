/* SPDX-License-Identifier: MIT */
/* Training a regressor (trueno/predict.h): rows to targets, folds, models, held-out errors. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/columns.h"
#include "tuner/regressor.h"

enum { FOLDS = 5, MIN_ROWS = 10 };

/* --------------------------------------------------------------------- the rows */

/* Rows that are learned, and what is predicted for each by what has not seen it. */
struct table {
    size_t n;
    float *x;      /* [n][TR_LEARNED] */
    double *f;     /* [n] targets */
    double *tps;   /* [n] measured */
    double *other; /* [n] f by others; NaN: nobody */
    uint8_t *fold; /* [n] the same for equal rows */
    struct tr_times *times;
    size_t n_distinct;
};

static bool table_alloc(struct table *t, struct tr_arena *arena, size_t n)
{
    if (n > SIZE_MAX / (TR_LEARNED * sizeof *t->x + sizeof *t->times)) return false;
    t->x = tr_arena_alloc(arena, n * TR_LEARNED * sizeof *t->x);
    t->f = tr_arena_alloc(arena, n * sizeof *t->f);
    t->tps = tr_arena_alloc(arena, n * sizeof *t->tps);
    t->other = tr_arena_alloc(arena, n * sizeof *t->other);
    t->fold = tr_arena_alloc(arena, n);
    t->times = tr_arena_alloc(arena, n * sizeof *t->times);
    return t->x && t->f && t->tps && t->other && t->fold && t->times;
}

static trueno_status read_rows(struct table *t, const trueno_features *rows, const double *tps,
                               size_t n, trueno_error *err)
{
    struct tr_run run;
    for (size_t i = 0; i < n; i++) {
        trueno_error why = {TRUENO_OK, ""};
        if (!(isfinite(tps[i]) && tps[i] > 0))
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "training: row %zu has %g tokens/s", i,
                           tps[i]);
        trueno_status status = tr_run_of(&run, &rows[i], &why);
        if (status != TRUENO_OK)
            return tr_fail(err, status, "training: row %zu: %s", i, why.message);
        if (!tr_f_of(&t->f[t->n], &run.times, tps[i])) continue;
        memcpy(t->x + t->n * TR_LEARNED, run.x, sizeof run.x);
        t->times[t->n] = run.times;
        t->tps[t->n++] = tps[i];
    }
    if (t->n >= MIN_ROWS) return TRUENO_OK;
    return tr_fail(
        err, TRUENO_ERR_INSUFFICIENT_DATA,
        "training: %zu of %zu rows can be used, needs %d; %zu are at or above their roof", t->n, n,
        MIN_ROWS, n - t->n);
}

struct key {
    const float *x;
    size_t row;
};

static int compare_keys(const void *a, const void *b)
{
    const struct key *p = a, *q = b;
    int order = memcmp(p->x, q->x, TR_LEARNED * sizeof *p->x);
    return order ? order : (p->row > q->row) - (p->row < q->row);
}

/* Numbers the different rows; folds by number. */
static trueno_status make_folds(struct table *t, trueno_ctx *ctx, trueno_error *err)
{
    struct key *keys = tr_alloc(ctx, t->n * sizeof *keys);
    if (!keys) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "training: no memory for %zu rows", t->n);
    for (size_t i = 0; i < t->n; i++) keys[i] = (struct key){t->x + i * TR_LEARNED, i};
    qsort(keys, t->n, sizeof *keys, compare_keys);
    for (size_t i = 0; i < t->n; i++) {
        if (i == 0 || memcmp(keys[i].x, keys[i - 1].x, TR_LEARNED * sizeof(float)) != 0)
            t->n_distinct++;
        t->fold[keys[i].row] = (uint8_t)((t->n_distinct - 1) % FOLDS);
    }
    tr_free(ctx, keys);
    return TRUENO_OK;
}

/* ----------------------------------------------------------------------- scores */

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Errors on rows that were held out, and the scores of the interval. scratch: [2 n] */
static void judge(trueno_regressor *r, trueno_train_report *report, const struct table *t,
                  double *scratch)
{
    double *errors = scratch, *scores = scratch + t->n, sum = 0, bias = 0;
    size_t n = 0, near = 0;
    for (size_t i = 0; i < t->n; i++) {
        scores[i] = NAN;
        if (isnan(t->other[i])) continue;
        double spread = 0, log_ratio = log(tr_tps_of(&t->times[i], t->other[i]) / t->tps[i]);
        if (r->forest) tr_forest_predict(r->forest, t->x + i * TR_LEARNED, &spread);
        scores[i] = fabs(log_ratio) / tr_uncertainty(&t->times[i], t->other[i], spread, 0);
        errors[n] = fabs(exp(log_ratio) - 1);
        near += errors[n] <= 0.2;
        sum += errors[n++];
        bias += log_ratio;
    }
    qsort(errors, n, sizeof *errors, compare_doubles);
    tr_regressor_fill_interval(r, t->times, scores, t->n);
    r->confidence = n ? (double)near / (double)n : 0;
    report->n_held_out = n;
    report->mape = n ? sum / (double)n : (double)NAN;
    report->median_ape = n ? errors[n / 2] : (double)NAN;
    report->bias = n ? bias / (double)n : (double)NAN;
}

/* --------------------------------------------------------------------- training */

/* f of every row by a fit without its fold. False if there is only one different row. */
static bool ridge_folds(struct table *t, double penalty)
{
    struct tr_ridge m;
    if (t->n_distinct < 2) return false;
    for (uint8_t fold = 0; fold < FOLDS && fold < t->n_distinct; fold++) {
        tr_ridge_fit(&m, t->x, t->f, t->n, TR_LEARNED, t->fold, fold, penalty);
        for (size_t i = 0; i < t->n; i++)
            if (t->fold[i] == fold) t->other[i] = tr_ridge_predict(&m, t->x + i * TR_LEARNED);
    }
    return true;
}

static double squared_error(const struct table *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->n; i++) sum += (t->other[i] - t->f[i]) * (t->other[i] - t->f[i]);
    return sum;
}

static void fit_ridge(struct tr_ridge *m, struct table *t)
{
    double best = 1, best_error = INFINITY;
    for (double penalty = 1e-6; penalty < 20; penalty *= 10) {
        if (!ridge_folds(t, penalty) || !(squared_error(t) < best_error)) continue;
        best = penalty;
        best_error = squared_error(t);
    }
    for (size_t i = 0; i < t->n; i++) t->other[i] = NAN;
    ridge_folds(t, best);
    tr_ridge_fit(m, t->x, t->f, t->n, TR_LEARNED, NULL, 0, best);
}

static trueno_status grow(const trueno_regressor *r, struct tr_forest **out, struct table *t,
                          trueno_error *err)
{
    const trueno_forest_options *o = &r->forest_options;
    struct tr_forest_options options = {.n_trees = r->n_trees,
                                        .max_depth = o->max_depth,
                                        .min_leaf = o->min_leaf,
                                        .mtry = o->mtry ? o->mtry : 14,
                                        .bootstrap = o->bootstrap,
                                        .seed = o->seed};
    struct tr_forest_data data = {
        .x = t->x, .n = t->n, .n_features = TR_LEARNED, .y = t->f, .oob = t->other};
    return tr_forest_train(out, r->ctx, &data, &options, err);
}

static trueno_status check_call(const trueno_regressor *r, const trueno_train_report *report,
                                const trueno_features *rows, const double *tps, trueno_error *err)
{
    if (!r || !rows || !tps)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "training: %s is NULL",
                       !r      ? "r"
                       : !rows ? "rows"
                               : "tps");
    if (report && !TR_STRUCT_OK(report))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "training: struct_size of the report is %zu; use TRUENO_TRAIN_REPORT_INIT",
                       report->struct_size);
    return TRUENO_OK;
}

/* Puts what was learned in the place of what was there. */
static void adopt(trueno_regressor *r, trueno_source source, const struct tr_ridge *ridge,
                  struct tr_forest *forest, const struct table *t)
{
    tr_forest_free(r->forest);
    r->source = source;
    r->ridge = *ridge;
    r->forest = forest;
    r->confidence = 0;
    tr_residual_reset(&r->online);
    tr_interval_reset(&r->interval);
    for (size_t k = 0; k < TR_LEARNED; k++) {
        r->min[k] = r->max[k] = t->x[k];
        for (size_t i = 1; i < t->n; i++) {
            float x = t->x[i * TR_LEARNED + k];
            if (x < r->min[k]) r->min[k] = x;
            if (x > r->max[k]) r->max[k] = x;
        }
    }
}

static trueno_status train(trueno_regressor *r, trueno_train_report *report,
                           const trueno_features *rows, const double *tps, size_t n,
                           trueno_source source, trueno_error *err)
{
    trueno_train_report unused = TRUENO_TRAIN_REPORT_INIT;
    struct tr_ridge ridge = {0};
    struct tr_forest *forest = NULL;
    trueno_status status = check_call(r, report, rows, tps, err);
    if (status != TRUENO_OK) return status;

    struct tr_arena arena = {.ctx = r->ctx};
    struct table t = {0};
    double *scratch =
        table_alloc(&t, &arena, n) ? tr_arena_alloc(&arena, 2 * n * sizeof *scratch) : NULL;
    if (!scratch)
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "training: no memory for %zu rows", n);
    if (status == TRUENO_OK) status = read_rows(&t, rows, tps, n, err);
    if (status == TRUENO_OK) status = make_folds(&t, r->ctx, err);
    if (status == TRUENO_OK && source == TRUENO_SOURCE_FOREST)
        status = grow(r, &forest, &t, err);
    else if (status == TRUENO_OK)
        fit_ridge(&ridge, &t);
    if (status == TRUENO_OK) {
        if (!report) report = &unused;
        struct tr_columns columns = {t.x, t.n, TR_LEARNED, tr_learned_slots};
        tr_columns_look(&report->constant, &report->collinear, &columns);
        adopt(r, source, &ridge, forest, &t);
        report->n_rows = n;
        report->n_used = t.n;
        report->n_distinct = t.n_distinct;
        judge(r, report, &t, scratch);
    }
    tr_arena_free(&arena);
    return status;
}

trueno_status trueno_regressor_train(trueno_regressor *r, trueno_train_report *report,
                                     const trueno_features *rows, const double *tps, size_t n,
                                     trueno_error *err)
{
    return train(r, report, rows, tps, n, TRUENO_SOURCE_RIDGE, err);
}

trueno_status trueno_regressor_train_random_forest(trueno_regressor *r, trueno_train_report *report,
                                                   const trueno_features *rows, const double *tps,
                                                   size_t n, trueno_error *err)
{
    if (r && !r->may_grow)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "training: made without a forest; use trueno_regressor_with_random_forest");
    return train(r, report, rows, tps, n, TRUENO_SOURCE_FOREST, err);
}
