/* SPDX-License-Identifier: MIT */
/* Fits with rows held out: what is predicted for a row by a regressor that has not seen its group.
 */
#include "train_util.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MIN_ROWS = 10 }; /* that training needs */

void train_shuffle(size_t *order, size_t n, uint64_t *state)
{
    for (size_t i = 0; i < n; i++) order[i] = i;
    for (size_t i = n; i > 1; i--) {
        size_t k = train_random(state) % i, swap = order[i - 1];
        order[i - 1] = order[k];
        order[k] = swap;
    }
}

/* ---------------------------------------------------------------------------- fits */

static trueno_status fit(trueno_regressor *r, enum predictor kind, const trueno_features *f,
                         const double *tps, size_t n, trueno_error *err)
{
    if (kind == PREDICTOR_PRIOR) return TRUENO_OK;
    if (kind == PREDICTOR_RIDGE) return trueno_regressor_train(r, NULL, f, tps, n, err);
    return trueno_regressor_train_random_forest(r, NULL, f, tps, n, err);
}

int train_fit(const struct trainer *t, trueno_regressor **out, enum predictor kind,
              const size_t *rows, size_t n)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_forest_options options = TRUENO_FOREST_OPTIONS_INIT;
    trueno_features *f = malloc((n + 1) * sizeof *f);
    double *tps = malloc((n + 1) * sizeof *tps);
    trueno_status st = f && tps ? TRUENO_OK : TRUENO_ERR_NO_MEMORY;
    options.seed = t->seed;
    options.min_leaf = t->min_leaf;
    *out = NULL;
    for (size_t i = 0; i < n && !st; i++) {
        f[i] = t->c->f[rows[i]];
        tps[i] = t->c->tps[rows[i]];
    }
    if (!st) st = trueno_regressor_with_random_forest(t->ctx, out, t->n_trees, &options, &err);
    if (!st) st = fit(*out, kind, f, tps, n, &err);
    free(f);
    free(tps);
    if (!st) return CLI_OK;
    trueno_regressor_free(*out);
    *out = NULL;
    return cli_failed("training", st, err.message);
}

/* The rows of another group than g, or of that one. Returns how many. */
static size_t select_rows(size_t *out, const size_t *rows, size_t n, const uint32_t *group,
                          uint32_t g, bool same)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if ((group[rows[i]] == g) == same) out[count++] = rows[i];
    return count;
}

int train_folds(const struct trainer *t, struct folds *out, enum predictor kind, const size_t *rows,
                size_t n, const uint32_t *group, uint32_t n_groups)
{
    size_t *others = malloc((n + 1) * sizeof *others);
    *out = (struct folds){n_groups, calloc(n_groups, sizeof *out->r)};
    int rc = others && out->r ? CLI_OK : cli_error("no memory for folds");
    for (uint32_t g = 0; g < n_groups && !rc; g++) {
        size_t count = select_rows(others, rows, n, group, g, false);
        if (count == n) continue; /* nothing to predict */
        rc = train_fit(t, &out->r[g], kind, others, count);
    }
    free(others);
    return rc;
}

void folds_free(struct folds *f)
{
    for (uint32_t g = 0; g < f->n && f->r; g++) trueno_regressor_free(f->r[g]);
    free(f->r);
    *f = (struct folds){0, NULL};
}

/* ----------------------------------------------------------------------- intervals */

int train_set_scores(const struct trainer *t, trueno_regressor *r, const struct folds *by_model,
                     const size_t *rows, size_t n)
{
    const struct corpus *c = t->c;
    trueno_error err = {TRUENO_OK, ""};
    const trueno_regressor **others = malloc((n + 1) * sizeof *others);
    trueno_features *f = malloc((n + 1) * sizeof *f);
    double *tps = malloc((n + 1) * sizeof *tps);
    trueno_status st = others && f && tps ? TRUENO_OK : TRUENO_ERR_NO_MEMORY;
    for (size_t i = 0; i < n && !st; i++) {
        others[i] = by_model->r[c->by[BY_MODEL].of[rows[i]]];
        f[i] = c->f[rows[i]];
        tps[i] = c->tps[rows[i]];
    }
    if (!st) st = trueno_regressor_set_scores(r, others, f, tps, n, &err);
    free(others);
    free(f);
    free(tps);
    return st ? cli_failed("scores", st, err.message) : CLI_OK;
}

/* Whether each of the models among rows[n] can be held out: enough rows are of others. */
static bool has_folds(const struct trainer *t, const size_t *rows, size_t n)
{
    const struct train_ids *models = &t->c->by[BY_MODEL];
    for (uint32_t g = 0; g < models->n; g++) {
        size_t count = 0;
        for (size_t i = 0; i < n; i++) count += models->of[rows[i]] == g;
        if (n - count < MIN_ROWS) return false;
    }
    return true;
}

/* Fits to rows[n], with an interval from models held out among them. Where that cannot be, the
 * interval that training makes stays. */
static int fit_with_interval(const struct trainer *t, trueno_regressor **out, enum predictor kind,
                             const size_t *rows, size_t n)
{
    const struct train_ids *models = &t->c->by[BY_MODEL];
    struct folds folds = {0, NULL};
    int rc = train_fit(t, out, kind, rows, n);
    if (rc || !has_folds(t, rows, n)) return rc;
    rc = train_folds(t, &folds, kind, rows, n, models->of, models->n);
    if (!rc) rc = train_set_scores(t, *out, &folds, rows, n);
    folds_free(&folds);
    return rc;
}

static int judge_rows(const struct trainer *t, struct judged *out, const trueno_regressor *r,
                      const size_t *rows, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        trueno_error err = {TRUENO_OK, ""};
        trueno_status st = trueno_regressor_predict(r, &p, &t->c->f[rows[i]], &err);
        if (st) return cli_failed("prediction", st, err.message);
        out[rows[i]] = (struct judged){p.predicted_tps, p.lo, p.hi};
    }
    return CLI_OK;
}

int train_judge(const struct trainer *t, struct judged *out, enum predictor kind,
                const uint32_t *group, uint32_t n_groups)
{
    size_t n = t->c->n;
    size_t *all = malloc(3 * n * sizeof *all), *others = all + n, *own = others + n;
    if (!all) return cli_error("no memory for %zu rows", n);
    int rc = CLI_OK;
    for (size_t i = 0; i < n; i++) all[i] = i;
    for (uint32_t g = 0; g < n_groups && !rc; g++) {
        trueno_regressor *r = NULL;
        size_t n_others = select_rows(others, all, n, group, g, false);
        size_t n_own = select_rows(own, all, n, group, g, true);
        rc = fit_with_interval(t, &r, kind, others, n_others);
        if (!rc) rc = judge_rows(t, out, r, own, n_own);
        trueno_regressor_free(r);
        cli_progress(NULL, "held out", g + 1, n_groups);
    }
    free(all);
    return rc;
}

/* ---------------------------------------------------------------------------- size */

int train_choose_leaf(struct trainer *t)
{
    enum { SCORES_BYTES = 8 * 500 * 2 }; /* of decode and prefill, more than training may keep */
    size_t n = t->c->n, len = 0;
    trueno_forest_options options = TRUENO_FOREST_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = TRUENO_ERR_TOO_LARGE;
    for (uint32_t leaf = 3; leaf <= n && st == TRUENO_ERR_TOO_LARGE; leaf++) {
        trueno_regressor *r = NULL;
        options.seed = t->seed;
        options.min_leaf = t->min_leaf = leaf;
        st = trueno_regressor_with_random_forest(t->ctx, &r, t->n_trees, &options, &err);
        if (!st) st = fit(r, PREDICTOR_FOREST, t->c->f, t->c->tps, n, &err);
        if (!st) st = trueno_regressor_export(r, NULL, 0, &len, &err);
        if (!st && len + SCORES_BYTES > TRAIN_FILE_MAX - TRAIN_FILE_HEADER)
            st = TRUENO_ERR_TOO_LARGE;
        trueno_regressor_free(r);
    }
    return st ? cli_failed("training", st, err.message) : CLI_OK;
}
