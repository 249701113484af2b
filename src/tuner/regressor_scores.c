/* SPDX-License-Identifier: MIT */
/* Intervals from rows that the predicting model had not seen (trueno/predict.h). */
#include <math.h>

#include "base/error.h"
#include "base/mem.h"
#include "tuner/regressor.h"

void tr_regressor_fill_interval(trueno_regressor *r, const struct tr_times *times,
                                const double *scores, size_t n)
{
    for (uint32_t g = 0; g < TR_GROUPS; g++) {
        size_t count = 0, k = 0;
        for (size_t i = 0; i < n; i++) count += times[i].group == g && !isnan(scores[i]);
        for (size_t i = 0; i < n; i++) {
            if (times[i].group != g || isnan(scores[i])) continue;
            bool kept = count <= TR_SCORES || (k + 1) * TR_SCORES / count > k * TR_SCORES / count;
            if (kept) tr_interval_add(&r->interval, g, scores[i]);
            k++;
        }
        tr_interval_settle(&r->interval, g);
    }
}

/* What one row says: its times, its score (NaN: at or above the roof) and whether it was predicted
 * within 20 %. */
static trueno_status score_row(struct tr_times *times, double *score, bool *near,
                               const trueno_regressor *other, const trueno_features *f, double tps,
                               trueno_error *err)
{
    struct tr_run run;
    double u, measured;
    if (!other) return tr_fail(err, TRUENO_ERR_ARGUMENT, "no regressor predicts it");
    if (!(isfinite(tps) && tps > 0)) return tr_fail(err, TRUENO_ERR_ARGUMENT, "%g tokens/s", tps);
    trueno_status status = tr_run_of(&run, f, err);
    if (status != TRUENO_OK) return status;
    double predicted = tr_tps_of(&run.times, tr_regressor_look(other, &u, &run));
    bool possible = tr_f_of(&measured, &run.times, tps);
    *times = run.times;
    *score = possible ? fabs(log(tps / predicted)) / u : (double)NAN;
    *near = possible && fabs(predicted / tps - 1) <= 0.2;
    return TRUENO_OK;
}

trueno_status trueno_regressor_set_scores(trueno_regressor *r,
                                          const trueno_regressor *const *others,
                                          const trueno_features *rows, const double *tps, size_t n,
                                          trueno_error *err)
{
    if (!r || !others || !rows || !tps)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "scores: %s is NULL",
                       !r        ? "r"
                       : !others ? "others"
                       : !rows   ? "rows"
                                 : "tps");
    struct tr_times *times =
        n <= SIZE_MAX / sizeof *times ? tr_alloc(r->ctx, n * sizeof *times) : NULL;
    double *scores = times ? tr_alloc(r->ctx, n * sizeof *scores) : NULL;
    trueno_status status = TRUENO_OK;
    size_t near = 0, used = 0;
    if (!scores) status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "scores: no memory for %zu rows", n);
    for (size_t i = 0; i < n && status == TRUENO_OK; i++) {
        trueno_error why = {TRUENO_OK, ""};
        bool is_near = false;
        status = score_row(&times[i], &scores[i], &is_near, others[i], &rows[i], tps[i], &why);
        if (status != TRUENO_OK) {
            tr_fail(err, status, "scores: row %zu: %s", i, why.message);
            break;
        }
        near += is_near;
        used += isnan(scores[i]) ? 0 : 1;
    }
    if (status == TRUENO_OK) {
        tr_interval_reset(&r->interval);
        tr_regressor_fill_interval(r, times, scores, n);
        r->confidence = used ? (double)near / (double)used : 0;
    }
    tr_free(r->ctx, scores);
    tr_free(r->ctx, times);
    return status;
}
