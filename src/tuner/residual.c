/* SPDX-License-Identifier: MIT */
/* Recursive least squares (residual.h). */
#include "tuner/residual.h"

#include <math.h>
#include <string.h>

#define FORGET       0.999
#define GATE         3.0 /* standard deviations */
#define NOISE_START  (0.05 * 0.05)
#define NOISE_MIN    (0.01 * 0.01)
#define NOISE_MAX    1.0
#define NOISE_WEIGHT 10.0  /* observations that the start counts for */
#define NOISE_MEMORY 1000. /* and the most that are remembered: 1 / (1 - FORGET) */

double tr_residual_prior(size_t weight)
{
    trueno_feature_info info;
    if (weight == TRUENO_FEATURE_DIM) return 1 / NOISE_START;
    if (weight == TRUENO_FEATURE_BITS_PER_WEIGHT || weight == TRUENO_FEATURE_GPU_MEM_BW_GBS ||
        weight == TRUENO_FEATURE_GPU_COMPUTE_TFLOPS ||
        trueno_feature_info_get(&info, (trueno_feature)weight) != TRUENO_OK || info.inert)
        return 0;
    return 0.25 / NOISE_START;
}

void tr_residual_reset(struct tr_residual *r)
{
    memset(r, 0, sizeof *r);
    r->noise = NOISE_START;
    for (size_t i = 0; i < TR_WEIGHTS; i++) r->covariance[i][i] = tr_residual_prior(i);
}

static double at(const float x[TRUENO_FEATURE_DIM], size_t i)
{
    return i < TRUENO_FEATURE_DIM ? (double)x[i] : 1;
}

/* h = covariance x; returns x' h. */
static double spread_of(const struct tr_residual *r, const float x[TRUENO_FEATURE_DIM],
                        double h[TR_WEIGHTS])
{
    double variance = 0;
    for (size_t i = 0; i < TR_WEIGHTS; i++) {
        h[i] = 0;
        for (size_t k = 0; k < TR_WEIGHTS; k++) h[i] += r->covariance[i][k] * at(x, k);
        variance += h[i] * at(x, i);
    }
    return fmax(0, variance);
}

static double bounded(double f)
{
    return fmax(-TR_RESIDUAL_MAX, fmin(f, TR_RESIDUAL_MAX));
}

double tr_residual_predict(const struct tr_residual *r, const float x[TRUENO_FEATURE_DIM],
                           double *variance)
{
    double h[TR_WEIGHTS], f = 0;
    if (variance) *variance = r->noise * spread_of(r, x, h);
    if (r->n == 0) return 0;
    for (size_t i = 0; i < TR_WEIGHTS; i++) f += r->mean[i] * at(x, i);
    return bounded(f);
}

/* Lets what was learned fade, no further than to the prior: scaling a row and its column by the
 * same factor leaves a covariance one. */
static void forget(struct tr_residual *r)
{
    double scale[TR_WEIGHTS];
    for (size_t i = 0; i < TR_WEIGHTS; i++) {
        double prior = tr_residual_prior(i), variance = r->covariance[i][i] / FORGET;
        scale[i] = variance > prior ? sqrt(prior / variance) : 1;
    }
    for (size_t i = 0; i < TR_WEIGHTS; i++)
        for (size_t k = 0; k < TR_WEIGHTS; k++) r->covariance[i][k] *= scale[i] * scale[k] / FORGET;
}

void tr_residual_update(struct tr_residual *r, const float x[TRUENO_FEATURE_DIM], double target,
                        double slope)
{
    double h[TR_WEIGHTS], d = fmax(slope, 1e-6);

    forget(r);
    double e = bounded(target) - tr_residual_predict(r, x, NULL);
    double spread = spread_of(r, x, h), noise = 1 / (d * d);
    double off = fabs(e) / sqrt(r->noise * (spread + noise));
    double total = spread + (off > GATE ? noise * off / GATE : noise);
    for (size_t i = 0; i < TR_WEIGHTS; i++) {
        r->mean[i] += h[i] / total * e;
        for (size_t k = 0; k < TR_WEIGHTS; k++) r->covariance[i][k] -= h[i] * h[k] / total;
    }
    double ratio = fmin(off, GATE) * fmin(off, GATE);
    double memory = NOISE_WEIGHT + fmin((double)r->n, NOISE_MEMORY - NOISE_WEIGHT);
    r->noise += r->noise * (ratio - 1) / memory;
    r->noise = fmax(NOISE_MIN, fmin(r->noise, NOISE_MAX));
    r->n++;
}

/* Cholesky's decomposition exists. */
bool tr_residual_sound(const struct tr_residual *r)
{
    double l[TR_WEIGHTS][TR_WEIGHTS] = {{0}};
    for (size_t i = 0; i < TR_WEIGHTS; i++) {
        if (tr_residual_prior(i) == 0) continue;
        for (size_t k = 0; k <= i; k++) {
            double sum = r->covariance[i][k];
            if (tr_residual_prior(k) == 0) continue;
            for (size_t j = 0; j < k; j++) sum -= l[i][j] * l[k][j];
            if (i == k && !(sum > 0)) return false;
            l[i][k] = i == k ? sqrt(sum) : sum / l[k][k];
        }
    }
    return true;
}
