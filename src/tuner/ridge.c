/* SPDX-License-Identifier: MIT */
/* Ridge regression by Cholesky's decomposition of the normal equations (ridge.h). */
#include "tuner/ridge.h"

#include <math.h>
#include <string.h>

/* Sums over the rows that count. */
struct moments {
    size_t n;
    double y;                                                    /* mean */
    double cross[TR_RIDGE_MAX_FEATURES];                         /* columns x y */
    double square[TR_RIDGE_MAX_FEATURES][TR_RIDGE_MAX_FEATURES]; /* columns x columns */
};

static bool counts(const uint8_t *fold, size_t i, uint8_t without)
{
    return !fold || fold[i] != without;
}

static void means(struct tr_ridge *m, struct moments *s, const float *x, const double *y, size_t n,
                  const uint8_t *fold, uint8_t without)
{
    for (size_t i = 0; i < n; i++) {
        if (!counts(fold, i, without)) continue;
        s->n++;
        s->y += y[i];
        for (size_t k = 0; k < m->n_features; k++) m->mean[k] += (double)x[i * m->n_features + k];
    }
    s->y /= (double)s->n;
    for (size_t k = 0; k < m->n_features; k++) m->mean[k] /= (double)s->n;
}

static void products(const struct tr_ridge *m, struct moments *s, const float *x, const double *y,
                     size_t n, const uint8_t *fold, uint8_t without)
{
    double c[TR_RIDGE_MAX_FEATURES];
    for (size_t i = 0; i < n; i++) {
        if (!counts(fold, i, without)) continue;
        for (size_t k = 0; k < m->n_features; k++)
            c[k] = (double)x[i * m->n_features + k] - m->mean[k];
        for (size_t k = 0; k < m->n_features; k++) {
            s->cross[k] += c[k] * (y[i] - s->y);
            for (size_t l = 0; l <= k; l++) s->square[k][l] += c[k] * c[l];
        }
    }
}

/* Solves square w = cross for the lower triangle of a positive definite matrix, in place. */
static void cholesky_solve(struct moments *s, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        for (size_t l = 0; l <= k; l++) {
            double sum = s->square[k][l];
            for (size_t i = 0; i < l; i++) sum -= s->square[k][i] * s->square[l][i];
            s->square[k][l] = k == l ? sqrt(sum) : sum / s->square[l][l];
        }
    }
    for (size_t k = 0; k < n; k++) {
        for (size_t i = 0; i < k; i++) s->cross[k] -= s->square[k][i] * s->cross[i];
        s->cross[k] /= s->square[k][k];
    }
    for (size_t k = n; k-- > 0;) {
        for (size_t i = k + 1; i < n; i++) s->cross[k] -= s->square[i][k] * s->cross[i];
        s->cross[k] /= s->square[k][k];
    }
}

void tr_ridge_fit(struct tr_ridge *m, const float *x, const double *y, size_t n, size_t n_features,
                  const uint8_t *fold, uint8_t without, double penalty)
{
    struct moments s;
    double scale[TR_RIDGE_MAX_FEATURES];

    memset(&s, 0, sizeof s);
    memset(m, 0, sizeof *m);
    m->n_features = n_features;
    means(m, &s, x, y, n, fold, without);
    products(m, &s, x, y, n, fold, without);
    for (size_t k = 0; k < n_features; k++) { /* to columns of variance 1 */
        double variance = s.square[k][k] / (double)s.n;
        scale[k] = variance > 1e-18 ? 1 / sqrt(variance) : 0;
    }
    for (size_t k = 0; k < n_features; k++) {
        s.cross[k] *= scale[k];
        for (size_t l = 0; l <= k; l++) s.square[k][l] *= scale[k] * scale[l];
        s.square[k][k] += penalty * (double)s.n; /* also where the column does not vary */
    }
    cholesky_solve(&s, n_features);
    for (size_t k = 0; k < n_features; k++) m->weight[k] = s.cross[k] * scale[k];
    m->intercept = s.y;
}

double tr_ridge_predict(const struct tr_ridge *m, const float *x)
{
    double y = m->intercept;
    for (size_t k = 0; k < m->n_features; k++) y += m->weight[k] * ((double)x[k] - m->mean[k]);
    return y;
}
