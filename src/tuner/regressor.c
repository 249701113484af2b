/* SPDX-License-Identifier: MIT */
/* Throughput: the time of the roof, the losses that are usual, and what was learned of them
 * (trueno/predict.h). */
#include "trueno/predict.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/forest.h"
#include "tuner/ridge.h"
#include "tuner/roofline.h"

enum { FOLDS = 5, MIN_ROWS = 10, MIN_SCORES = 20, MAX_LEARNED = TRUENO_FEATURE_DIM };

#define LEVEL 0.9
/* Uncertainty of ln(tps) that is always there, and that each slot outside its trained range adds.
 */
#define U_ALWAYS  0.02
#define U_OUTSIDE 0.05

struct trueno_regressor {
    trueno_ctx *ctx;
    bool may_grow; /* made with a forest */
    uint32_t n_trees;
    trueno_forest_options forest_options;

    trueno_source source;
    struct tr_ridge ridge;
    struct tr_forest *forest;
    float min[MAX_LEARNED], max[MAX_LEARNED]; /* of the rows that were learned */
    size_t n_scores;
    double quantile;   /* of |ln(measured / predicted)| / uncertainty over held-out rows */
    double confidence; /* share of them within 20 % */
};

/* ------------------------------------------------------------------- the prior */

/* What a run takes. */
struct times {
    struct tr_roofline roof;
    double excess; /* seconds above the floor, as is usual */
};

/* Shares of bandwidth and of peak that decoding and matrix products usually reach. Medians over
 * published runs of other engines for GPUs (GDDR 0.75, unified memory 0.73), a guess for CPUs and
 * for compute; what does not overlap is a fifth of the smaller side. */
static struct times times_of(const struct tr_roofline *roof, const tr_raw_values raw)
{
    bool cpu = raw[TRUENO_FEATURE_VRAM_GB] == 0;
    bool unified = !cpu && raw[TRUENO_FEATURE_IS_UNIFIED_MEMORY] == 1;
    double e_mem = cpu ? 0.85 : unified ? 0.73 : 0.75, e_cmp = cpu ? 0.60 : 0.45;
    struct times t = {.roof = *roof};
    t.excess = (1 / e_mem - 1) * roof->t_mem + (1 / e_cmp - 1) * roof->t_cmp +
               0.2 * fmin(roof->t_mem, roof->t_cmp);
    return t;
}

/* The features that are learned of: not what acts through the floor, nor what cannot matter. */
static size_t learned(float out[MAX_LEARNED], int slot_of[MAX_LEARNED],
                      const float x[TRUENO_FEATURE_DIM])
{
    size_t n = 0;
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        trueno_feature_info info;
        trueno_feature_info_get(&info, (trueno_feature)i);
        if (info.inert || i == TRUENO_FEATURE_BITS_PER_WEIGHT ||
            i == TRUENO_FEATURE_GPU_MEM_BW_GBS || i == TRUENO_FEATURE_GPU_COMPUTE_TFLOPS)
            continue;
        if (slot_of) slot_of[n] = i;
        out[n++] = x[i];
    }
    return n;
}

static trueno_status look_at(struct times *t, float x[MAX_LEARNED], const trueno_features *f,
                             trueno_error *err)
{
    struct tr_roofline roof;
    tr_raw_values raw;
    float all[TRUENO_FEATURE_DIM];
    trueno_status status = tr_roofline_of(&roof, f, err);
    if (status == TRUENO_OK) status = tr_features_resolve(raw, f, err);
    if (status == TRUENO_OK) status = trueno_features_to_vector(all, f, err);
    if (status != TRUENO_OK) return status;
    *t = times_of(&roof, raw);
    learned(x, NULL, all);
    return TRUENO_OK;
}

/* Tokens per second where the excess is exp(-f) of what is usual. */
static double tps_at(const struct times *t, double f)
{
    return t->roof.tokens / (t->roof.t_floor + t->excess * exp(-f));
}

/* The f of a measured rate; false if that is at or above the roof. */
static bool f_of(double *f, const struct times *t, double tps)
{
    double above = t->roof.tokens / tps - t->roof.t_floor;
    if (!(above > t->roof.t_floor * 1e-9)) return false;
    *f = log(t->excess / above);
    return true;
}

/* --------------------------------------------------------------------- the rows */

/* Rows that are learned, and what is predicted for each by what has not seen it. */
struct table {
    size_t n, n_features;
    float *x;      /* [n][n_features] */
    double *f;     /* [n] targets */
    double *tps;   /* [n] measured */
    double *other; /* [n] f by others; NaN: nobody */
    uint8_t *fold; /* [n] the same for equal rows */
    struct times *times;
    size_t n_distinct;
    uint64_t constant, collinear;
};

static bool table_alloc(struct table *t, struct tr_arena *arena, size_t n)
{
    if (n > SIZE_MAX / (MAX_LEARNED * sizeof *t->x + sizeof *t->times)) return false;
    t->x = tr_arena_alloc(arena, n * MAX_LEARNED * sizeof *t->x);
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
    float x[MAX_LEARNED], zeros[TRUENO_FEATURE_DIM] = {0};
    t->n_features = learned(x, NULL, zeros);
    for (size_t i = 0; i < n; i++) {
        trueno_error why = {TRUENO_OK, ""};
        if (!(isfinite(tps[i]) && tps[i] > 0))
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "training: row %zu has %g tokens/s", i,
                           tps[i]);
        trueno_status status = look_at(&t->times[t->n], x, &rows[i], &why);
        if (status != TRUENO_OK)
            return tr_fail(err, status, "training: row %zu: %s", i, why.message);
        if (!f_of(&t->f[t->n], &t->times[t->n], tps[i])) continue;
        memcpy(t->x + t->n * t->n_features, x, t->n_features * sizeof *x);
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
    size_t n, row;
};

static int compare_keys(const void *a, const void *b)
{
    const struct key *p = a, *q = b;
    int order = memcmp(p->x, q->x, p->n * sizeof *p->x);
    return order ? order : (p->row > q->row) - (p->row < q->row);
}

/* Numbers the different rows; folds by number. */
static trueno_status make_folds(struct table *t, trueno_ctx *ctx, trueno_error *err)
{
    struct key *keys = tr_alloc(ctx, t->n * sizeof *keys);
    if (!keys) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "training: no memory for %zu rows", t->n);
    for (size_t i = 0; i < t->n; i++)
        keys[i] = (struct key){t->x + i * t->n_features, t->n_features, i};
    qsort(keys, t->n, sizeof *keys, compare_keys);
    for (size_t i = 0; i < t->n; i++) {
        if (i == 0 || memcmp(keys[i].x, keys[i - 1].x, t->n_features * sizeof(float)) != 0)
            t->n_distinct++;
        t->fold[keys[i].row] = (uint8_t)((t->n_distinct - 1) % FOLDS);
    }
    tr_free(ctx, keys);
    return TRUENO_OK;
}

/* Pearson's r of two columns; 0 if one does not vary. */
static double correlation(const struct table *t, size_t a, size_t b)
{
    double sa = 0, sb = 0, aa = 0, bb = 0, ab = 0, n = (double)t->n;
    for (size_t i = 0; i < t->n; i++) {
        double x = (double)t->x[i * t->n_features + a], y = (double)t->x[i * t->n_features + b];
        sa += x;
        sb += y;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    double va = aa - sa * sa / n, vb = bb - sb * sb / n;
    return va > 1e-12 * n && vb > 1e-12 * n ? (ab - sa * sb / n) / sqrt(va * vb) : 0;
}

static void look_at_columns(struct table *t)
{
    int slot_of[MAX_LEARNED];
    float x[MAX_LEARNED], zeros[TRUENO_FEATURE_DIM] = {0};
    learned(x, slot_of, zeros);
    for (size_t k = 0; k < t->n_features; k++) {
        bool varies = false;
        for (size_t i = 1; i < t->n; i++) varies |= t->x[i * t->n_features + k] != t->x[k];
        if (!varies) t->constant |= (uint64_t)1 << slot_of[k];
        for (size_t l = 0; l < k && varies; l++)
            if (fabs(correlation(t, k, l)) > 0.98) t->collinear |= (uint64_t)1 << slot_of[k];
    }
}

/* ----------------------------------------------------------------------- scores */

static double outside(const trueno_regressor *r, const float *x, size_t n_features)
{
    double n = 0;
    for (size_t k = 0; k < n_features; k++) n += x[k] < r->min[k] || x[k] > r->max[k];
    return n;
}

/* What one may be wrong by in ln(tps), up to a factor: spread of the trees' f, slots outside. */
static double uncertainty(const struct times *t, double f, double spread, double n_outside)
{
    double efficiency = tps_at(t, f) / t->roof.tps;
    return U_ALWAYS + spread * (1 - efficiency) + U_OUTSIDE * n_outside;
}

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
        if (isnan(t->other[i])) continue;
        double spread = 0, log_ratio = log(tps_at(&t->times[i], t->other[i]) / t->tps[i]);
        if (r->forest) tr_forest_predict(r->forest, t->x + i * t->n_features, &spread);
        scores[n] = fabs(log_ratio) / uncertainty(&t->times[i], t->other[i], spread, 0);
        errors[n] = fabs(exp(log_ratio) - 1);
        near += errors[n] <= 0.2;
        sum += errors[n++];
        bias += log_ratio;
    }
    qsort(errors, n, sizeof *errors, compare_doubles);
    qsort(scores, n, sizeof *scores, compare_doubles);
    r->n_scores = n;
    if (n > 0) {
        /* the conformal quantile: of n + 1, so that a new row is among them */
        size_t at = (size_t)ceil(LEVEL * (double)(n + 1));
        r->quantile = at <= n ? scores[at - 1] : INFINITY;
        r->confidence = (double)near / (double)n;
    }
    report->n_held_out = n;
    report->mape = n ? sum / (double)n : NAN;
    report->median_ape = n ? errors[n / 2] : NAN;
    report->bias = n ? bias / (double)n : NAN;
}

/* --------------------------------------------------------------------- training */

/* f of every row by a fit without its fold. False if there is only one different row. */
static bool ridge_folds(struct table *t, double penalty)
{
    struct tr_ridge m;
    if (t->n_distinct < 2) return false;
    for (uint8_t fold = 0; fold < FOLDS && fold < t->n_distinct; fold++) {
        tr_ridge_fit(&m, t->x, t->f, t->n, t->n_features, t->fold, fold, penalty);
        for (size_t i = 0; i < t->n; i++)
            if (t->fold[i] == fold) t->other[i] = tr_ridge_predict(&m, t->x + i * t->n_features);
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
    tr_ridge_fit(m, t->x, t->f, t->n, t->n_features, NULL, 0, best);
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
        .x = t->x, .n = t->n, .n_features = t->n_features, .y = t->f, .oob = t->other};
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
    r->n_scores = 0;
    r->quantile = INFINITY;
    r->confidence = 0;
    for (size_t k = 0; k < t->n_features; k++) {
        r->min[k] = r->max[k] = t->x[k];
        for (size_t i = 1; i < t->n; i++) {
            float x = t->x[i * t->n_features + k];
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
        look_at_columns(&t);
        adopt(r, source, &ridge, forest, &t);
        report->n_rows = n;
        report->n_used = t.n;
        report->n_distinct = t.n_distinct;
        report->constant = t.constant;
        report->collinear = t.collinear;
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

/* ------------------------------------------------------------------- predicting */

static bool is_reference(const trueno_features *f)
{
    return f->gpu_mem_bw_gbs == TRUENO_UNSET || f->gpu_compute_tflops == TRUENO_UNSET ||
           f->sm_count == TRUENO_UNSET;
}

trueno_status trueno_regressor_predict(const trueno_regressor *r, trueno_prediction *out,
                                       const trueno_features *f, trueno_error *err)
{
    struct times t;
    float x[MAX_LEARNED], zeros[TRUENO_FEATURE_DIM] = {0}, unused[MAX_LEARNED];
    double learned_f = 0, spread = 0, u;

    if (!r || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "prediction: %s is NULL", r ? "out" : "r");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "prediction: struct_size is %zu; use TRUENO_PREDICTION_INIT",
                       out->struct_size);
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    p.struct_size = out->struct_size;
    memcpy(out, &p, sizeof p);
    trueno_status status = look_at(&t, x, f, err);
    if (status != TRUENO_OK) return status;

    if (r->source == TRUENO_SOURCE_RIDGE) learned_f = tr_ridge_predict(&r->ridge, x);
    if (r->source == TRUENO_SOURCE_FOREST) learned_f = tr_forest_predict(r->forest, x, &spread);
    p.source = r->source;
    p.bound = t.roof.t_mem >= t.roof.t_cmp ? TRUENO_BOUND_MEMORY : TRUENO_BOUND_COMPUTE;
    p.roofline_tps = t.roof.tps;
    p.predicted_tps = fmin(tps_at(&t, learned_f), t.roof.tps);
    p.efficiency = p.predicted_tps / p.roofline_tps;
    p.confidence = r->confidence;
    p.reference_hardware = is_reference(f);
    if (trueno_features_phase(f) == TRUENO_PHASE_PREFILL)
        p.ttft_ms = 1000 * t.roof.tokens / p.predicted_tps;
    double factor = 2;
    if (r->n_scores >= MIN_SCORES) {
        u = uncertainty(&t, learned_f, spread, outside(r, x, learned(unused, NULL, zeros)));
        factor = exp(r->quantile * u);
        p.level = LEVEL;
    }
    p.lo = p.predicted_tps / factor;
    p.hi = fmin(p.predicted_tps * factor, p.roofline_tps);
    memcpy(out, &p, sizeof p);
    return TRUENO_OK;
}

/* --------------------------------------------------------------- making, freeing */

static trueno_status make(trueno_ctx *ctx, trueno_regressor **out, trueno_error *err)
{
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "regressor: out is NULL");
    *out = NULL;
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "regressor: ctx is NULL");
    trueno_regressor *r = tr_calloc(ctx, 1, sizeof *r);
    if (!r) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "regressor: no memory");
    r->ctx = ctx;
    r->quantile = INFINITY;
    tr_ctx_ref(ctx);
    *out = r;
    return TRUENO_OK;
}

trueno_status trueno_regressor_new(trueno_ctx *ctx, trueno_regressor **out, trueno_error *err)
{
    return make(ctx, out, err);
}

trueno_status trueno_regressor_with_random_forest(trueno_ctx *ctx, trueno_regressor **out,
                                                  uint32_t n_trees,
                                                  const trueno_forest_options *opt,
                                                  trueno_error *err)
{
    trueno_forest_options options = TRUENO_FOREST_OPTIONS_INIT;
    if (out) *out = NULL;
    if (opt && !tr_struct_read(&options, sizeof options, opt, sizeof options))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "regressor: struct_size is %zu; use TRUENO_FOREST_OPTIONS_INIT",
                       opt->struct_size);
    trueno_status status = make(ctx, out, err);
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
