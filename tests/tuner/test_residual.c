/* SPDX-License-Identifier: MIT */
/* What running adds: least squares as algebra has them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>

#include "tuner/random.h"
#include "tuner/residual.h"

/* One weight: what a Kalman filter of a constant does, by hand. */
static void test_one_weight(void **state)
{
    static struct tr_residual r;
    const float x[TRUENO_FEATURE_DIM] = {0};
    double variance, p = 400, mean = 0, noise = 0.0025; /* p: over the noise */
    (void)state;
    tr_residual_reset(&r);
    assert_true(tr_residual_predict(&r, x, &variance) == 0 && fabs(variance - 1) <= 1e-12);
    const double targets[] = {-0.5, -0.4, -0.6, -0.45, -0.55};
    for (int i = 0; i < 5; i++) {
        const double slope = 0.5 + 0.1 * i, measured = 1 / (slope * slope);
        tr_residual_update(&r, x, targets[i], slope);
        p = fmin(p / 0.999, 400);
        double off = (targets[i] - mean) * (targets[i] - mean) / (noise * (p + measured));
        assert_true(off < 9); /* none is beyond the gate here */
        mean += p / (p + measured) * (targets[i] - mean);
        p -= p * p / (p + measured);
        noise = fmax(1e-4, noise + noise * (off - 1) / (10 + i));
        assert_true(fabs(tr_residual_predict(&r, x, &variance) - mean) <= 1e-12);
        assert_true(fabs(variance - noise * p) <= 1e-12 && fabs(r.noise - noise) <= 1e-12);
    }
    assert_int_equal(r.n, 5);
}

/* Solves a x = b of n unknowns by elimination, in place. */
static void solve(double *a, double *b, int n)
{
    for (int k = 0; k < n; k++) {
        for (int i = k + 1; i < n; i++) {
            double q = a[i * n + k] / a[k * n + k];
            for (int j = k; j < n; j++) a[i * n + j] -= q * a[k * n + j];
            b[i] -= q * b[k];
        }
    }
    for (int k = n; k-- > 0;) {
        for (int j = k + 1; j < n; j++) b[k] -= a[k * n + j] * b[j];
        b[k] /= a[k * n + k];
    }
}

/* Of random vectors with weights 1 and 1/4 a priori: x . y */
static double kernel(const float *x, const float *y)
{
    double sum = 1;
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        bool none = i == 8 || i == 17 || i == 18 || i == 19 || i == 27 || i == 30 || i == 31;
        if (!none) sum += 0.25 * (double)x[i] * (double)y[i];
    }
    return sum;
}

/* All weights against the same problem solved at once in its dual form (Gaussian process with that
 * kernel; Rasmussen and Williams 2006, 2.2). Without the little that fades in 12 updates. */
static void test_batch(void **state)
{
    enum { N = 12 };
    static struct tr_residual r;
    float x[N][TRUENO_FEATURE_DIM], fresh[TRUENO_FEATURE_DIM];
    double y[N], gram[N * N], alpha[N];
    struct tr_random random;
    (void)state;
    tr_random_seed(&random, 18, 0);
    tr_residual_reset(&r);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < TRUENO_FEATURE_DIM; k++) x[i][k] = (float)tr_random_unit(&random);
        y[i] = 0.8 * (double)x[i][2] - (double)x[i][11] + (double)x[i][30];
        tr_residual_update(&r, x[i], y[i], 0.7);
    }
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < N; k++)
            gram[i * N + k] = kernel(x[i], x[k]) + (i == k ? 0.0025 / (0.7 * 0.7) : 0);
        alpha[i] = y[i];
    }
    solve(gram, alpha, N);
    for (int t = 0; t < 100; t++) {
        double want = 0;
        for (int k = 0; k < TRUENO_FEATURE_DIM; k++) fresh[k] = (float)tr_random_unit(&random);
        for (int i = 0; i < N; i++) want += alpha[i] * kernel(fresh, x[i]);
        assert_true(fabs(tr_residual_predict(&r, fresh, NULL) - want) <= 0.02);
    }
}

/* The gate: far from what is known, one outlier moves it by little; many of them do. */
static void test_gate(void **state)
{
    static struct tr_residual r;
    const float x[TRUENO_FEATURE_DIM] = {0};
    (void)state;
    tr_residual_reset(&r);
    for (int i = 0; i < 50; i++) tr_residual_update(&r, x, i % 2 ? 0.05 : -0.05, 1);
    tr_residual_update(&r, x, 5, 1);
    /* ungated: 5 / 51 or more; at the gate: 3 deviations of about 0.05 by the same gain */
    assert_true(fabs(tr_residual_predict(&r, x, NULL)) < 0.02);
    /* of a mean over 350 these would be 300 */
    for (int i = 0; i < 300; i++) tr_residual_update(&r, x, 1, 1);
    assert_true(fabs(tr_residual_predict(&r, x, NULL) - 300. / 350) < 0.05);
    /* a target that cannot be told from others so near the roof teaches nothing */
    tr_residual_reset(&r);
    tr_residual_update(&r, x, 20, 1e-9);
    assert_true(fabs(tr_residual_predict(&r, x, NULL)) < 1e-6);
}

/* However near the roof and however wrong the measurements, the covariance stays one. */
static void test_sound(void **state)
{
    static struct tr_residual r;
    float x[TRUENO_FEATURE_DIM];
    struct tr_random random;
    (void)state;
    tr_random_seed(&random, 20, 0);
    tr_residual_reset(&r);
    assert_true(tr_residual_sound(&r));
    for (int i = 0; i < 20000; i++) {
        for (int k = 0; k < TRUENO_FEATURE_DIM; k++)
            x[k] = tr_random_below(&random, 2) ? (float)tr_random_unit(&random) : i % 3 ? 0 : 1;
        double slope = exp2(-20 * tr_random_unit(&random));
        tr_residual_update(&r, x, 60 * tr_random_unit(&random) - 30, i % 2 ? 1 : slope);
        assert_true(i % 500 || tr_residual_sound(&r));
    }
    for (size_t i = 0; i < TR_WEIGHTS; i++) {
        assert_true(isfinite(r.mean[i]));
        for (size_t k = 0; k < i; k++) assert_true(r.covariance[i][k] == r.covariance[k][i]);
    }
    r.covariance[1][0] = r.covariance[0][1] = 2 * tr_residual_prior(0);
    assert_false(tr_residual_sound(&r));
}

/* The same run for ever: nothing winds up, and it still learns something new. */
static void test_bounded(void **state)
{
    static struct tr_residual r;
    float x[TRUENO_FEATURE_DIM] = {0}, other[TRUENO_FEATURE_DIM] = {0};
    double variance;
    (void)state;
    x[3] = 0.5F;
    other[12] = 1;
    tr_residual_reset(&r);
    for (int i = 0; i < 30000; i++) {
        tr_residual_update(&r, x, 1, 1);
        for (size_t k = 0; k < TR_WEIGHTS && i % 1000 == 0; k++)
            assert_true(r.covariance[k][k] >= 0 &&
                        r.covariance[k][k] <= tr_residual_prior(k) * (1 + 1e-12));
    }
    assert_true(fabs(tr_residual_predict(&r, x, &variance) - 1) < 1e-3);
    assert_true(variance > 0 && variance < 1e-4 && tr_residual_sound(&r));
    tr_residual_predict(&r, other, &variance);
    assert_true(variance / r.noise > 96 && variance / r.noise < 501);
    for (int i = 0; i < 20; i++) tr_residual_update(&r, other, -1, 1);
    assert_true(fabs(tr_residual_predict(&r, other, NULL) + 1) < 0.05);
    for (int i = 0; i < 5000; i++) tr_residual_update(&r, other, 1e300, 1);
    assert_true(isfinite(tr_residual_predict(&r, other, NULL)));
    assert_true(fabs(tr_residual_predict(&r, other, NULL)) <= TR_RESIDUAL_MAX);
    /* nor does a line drawn on */
    tr_residual_reset(&r);
    for (int i = 0; i < 50; i++) {
        x[3] = i % 2 ? 0 : 0.25F;
        tr_residual_update(&r, x, i % 2 ? 0 : 20, 1);
    }
    x[3] = 1; /* 80 */
    assert_true(tr_residual_predict(&r, x, NULL) == TR_RESIDUAL_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_weight), cmocka_unit_test(test_batch),
        cmocka_unit_test(test_gate),       cmocka_unit_test(test_sound),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
