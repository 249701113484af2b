/* SPDX-License-Identifier: MIT */
/* Learning while running: least squares as algebra has them, one scale with the regressor, and the
 * roof stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/hooks.h"
#include "trueno/learner.h"
#include "tuner/residual.h"
#include "tuner/runs.h"

static trueno_learner *new_learner(const trueno_regressor *r)
{
    trueno_learner *l;
    assert_int_equal(trueno_learner_new(r, &l, NULL), TRUENO_OK);
    return l;
}

static trueno_prediction predict_l(const trueno_learner *l, const trueno_features *f)
{
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    assert_int_equal(trueno_learner_predict(l, &p, f, NULL), TRUENO_OK);
    return p;
}

static void observe(trueno_learner *l, const trueno_features *f, double tps)
{
    float x[TRUENO_FEATURE_DIM];
    trueno_error err = {TRUENO_OK, ""};
    assert_int_equal(trueno_features_to_vector(x, f, NULL), TRUENO_OK);
    if (trueno_learner_observe(l, x, tps, &err) != TRUENO_OK) fail_msg("%s", err.message);
}

static trueno_features specification_run(void)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 7;
    f.batch_size = 4;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    return f;
}

/* A regressor trained on random rows: a forest, a ridge, or nothing. */
static trueno_regressor *trained(int kind)
{
    trueno_regressor *r;
    struct rows rows = random_rows(300, 11, 0.1);
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 20, NULL, NULL), TRUENO_OK);
    trueno_status st = TRUENO_OK;
    if (kind == 1) st = trueno_regressor_train(r, NULL, rows.f, rows.tps, rows.n, NULL);
    if (kind == 2)
        st = trueno_regressor_train_random_forest(r, NULL, rows.f, rows.tps, rows.n, NULL);
    assert_int_equal(st, TRUENO_OK);
    free_rows(&rows);
    return r;
}

/* The example of the specification, on every kind of model: it ends within 3 % of the mean, and
 * nothing else passes its roof. */
static void test_specification(void **state)
{
    const double measured[] = {150, 155, 152, 158};
    trueno_features f = specification_run();
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        trueno_regressor *r = trained(kind);
        trueno_learner *l = new_learner(r);
        double before = predict_l(l, &f).predicted_tps, sum = 0;
        assert_true(before == predict(r, &f).predicted_tps && fabs(before / 153.75 - 1) > 0.2);
        for (int i = 0; i < 4; i++) observe(l, &f, measured[i]);
        assert_true(fabs(predict_l(l, &f).predicted_tps / 153.75 - 1) <= 0.03);
        assert_int_equal(trueno_learner_num_updates(l), 4);
        assert_false(trueno_learner_is_converging(l)); /* 4 are too few to say */
        assert_true(predict(r, &f).predicted_tps == before);

        struct tr_random random;
        tr_random_seed(&random, 12, 0);
        for (int i = 0; i < 100000; i++) {
            trueno_features g = random_run(&random);
            trueno_prediction p = predict_l(l, &g);
            assert_true(p.predicted_tps > 0 && p.predicted_tps <= p.roofline_tps);
            assert_true(p.lo > 0 && p.hi <= p.roofline_tps);
            sum += p.efficiency;
        }
        assert_true(sum > 0);
        trueno_learner_free(l);
        trueno_regressor_free(r);
    }
}

/* After it is applied both predict the same bits; a second time changes nothing. */
static void test_apply(void **state)
{
    struct tr_random random;
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        trueno_regressor *r = trained(kind), *once;
        trueno_learner *l = new_learner(r);
        tr_random_seed(&random, 13, 0);
        for (int i = 0; i < 50; i++) {
            trueno_features f = random_run(&random);
            observe(l, &f, predict(r, &f).predicted_tps * 0.6);
        }
        assert_int_equal(trueno_regressor_online_updates(r), 0);
        assert_int_equal(trueno_regressor_apply_learner(r, l, NULL), TRUENO_OK);
        assert_int_equal(trueno_regressor_online_updates(r), 50);
        assert_int_equal(trueno_regressor_clone(r, &once, NULL), TRUENO_OK);
        assert_int_equal(trueno_regressor_apply_learner(r, l, NULL), TRUENO_OK);
        trueno_learner *next = new_learner(r); /* continues from what was applied */
        assert_int_equal(trueno_learner_num_updates(next), 0);
        for (int i = 0; i < 1000; i++) {
            trueno_features f = random_run(&random);
            trueno_prediction p = predict(r, &f), q = predict_l(l, &f);
            trueno_prediction o = predict(once, &f), n = predict_l(next, &f);
            assert_memory_equal(&p, &q, sizeof p);
            assert_memory_equal(&p, &o, sizeof p);
            assert_memory_equal(&p, &n, sizeof p);
        }
        trueno_learner_free(next);
        trueno_learner_free(l);
        trueno_regressor_free(once);
        trueno_regressor_free(r);
    }
}

/* Another model under it: what was learned does not fit, and training forgets what was applied. */
static void test_other_model(void **state)
{
    struct rows rows = random_rows(200, 14, 0.1);
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    for (int kind = 0; kind < 3; kind++) {
        trueno_regressor *r = trained(kind);
        trueno_learner *l = new_learner(r);
        for (size_t i = 0; i < 20; i++) observe(l, &rows.f[i], rows.tps[i]);
        assert_int_equal(trueno_regressor_apply_learner(r, l, NULL), TRUENO_OK);
        trueno_status st =
            kind == 2
                ? trueno_regressor_train_random_forest(r, NULL, rows.f, rows.tps, rows.n, NULL)
                : trueno_regressor_train(r, NULL, rows.f, rows.tps, rows.n, NULL);
        assert_int_equal(st, TRUENO_OK);
        assert_int_equal(trueno_regressor_online_updates(r), 0);
        assert_int_equal(trueno_regressor_apply_learner(r, l, &err), TRUENO_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "something else"));
        assert_int_equal(trueno_regressor_online_updates(r), 0);
        trueno_learner_free(l);
        trueno_regressor_free(r);
    }
    free_rows(&rows);
}

/* It learns: of a machine that follows another law than the model, new runs are predicted far
 * better than without it, and it says so. */
static void test_learns(void **state)
{
    struct rows rows = random_rows(1200, 15, 0.05);
    trueno_regressor *r = new_regressor();
    trueno_learner *l = new_learner(r);
    double error = 0, prior_error = 0;
    (void)state;
    assert_false(trueno_learner_is_converging(l));
    assert_true(isnan(trueno_learner_ema_loss(l)));
    for (size_t i = 0; i < 800; i++) observe(l, &rows.f[i], rows.tps[i]);
    for (size_t i = 800; i < rows.n; i++) {
        error += fabs(log(predict_l(l, &rows.f[i]).predicted_tps / rows.tps[i])) / 400;
        prior_error += fabs(log(predict(r, &rows.f[i]).predicted_tps / rows.tps[i])) / 400;
    }
    assert_true(error < 0.5 * prior_error && error < 0.1);
    assert_true(fabs(trueno_learner_ema_loss(l) - error) < 0.05);
    trueno_learner_free(l);
    trueno_regressor_free(r);
    free_rows(&rows);
}

/* The loss by its formula, and what convergence is. */
static void test_loss(void **state)
{
    trueno_regressor *r = new_regressor();
    trueno_learner *l = new_learner(r);
    trueno_features f = specification_run();
    double loss[60], ema[60], first = predict(r, &f).predicted_tps;
    bool was_not = false;
    (void)state;
    for (int i = 0; i < 60; i++) {
        double tps = i == 40 ? 75 : 150 + i % 3, sum = 0, weights = 0;
        loss[i] = fabs(log(predict_l(l, &f).predicted_tps / tps));
        if (i == 0) assert_true(loss[0] == fabs(log(first / 150)));
        observe(l, &f, tps);
        for (int k = 0; k <= i; k++) { /* the newest counts 0.1, each before it 0.9 of the next */
            sum += 0.1 * pow(0.9, i - k) * loss[k];
            weights += 0.1 * pow(0.9, i - k);
        }
        ema[i] = sum / weights;
        assert_true(fabs(trueno_learner_ema_loss(l) - ema[i]) <= 1e-6);
        bool yes = i >= 9 && ema[i] <= 0.15 && (i < 10 || ema[i] <= ema[i - 10]);
        assert_int_equal(trueno_learner_is_converging(l), yes);
        was_not |= i > 40 && !yes;
    }
    assert_true(was_not && trueno_learner_is_converging(l)); /* both happened */
    trueno_learner_free(l);
    trueno_regressor_free(r);
}

/* More bandwidth and compute or fewer bits never predict less, and what cannot matter does not. */
static void test_laws(void **state)
{
    struct rows rows = random_rows(300, 16, 1.5);
    trueno_regressor *r = trained(2);
    trueno_learner *l = new_learner(r);
    struct tr_random random;
    (void)state;
    for (size_t i = 0; i < rows.n; i++) observe(l, &rows.f[i], rows.tps[i]);
    tr_random_seed(&random, 17, 0);
    for (int i = 0; i < 20000; i++) {
        trueno_features f = random_run(&random), more = f;
        double tps = predict_l(l, &f).predicted_tps;
        more.gpu_mem_bw_gbs *= 1.3;
        assert_true(predict_l(l, &more).predicted_tps >= tps * (1 - 1e-12));
        more = f;
        more.gpu_compute_tflops *= 1.3;
        assert_true(predict_l(l, &more).predicted_tps >= tps * (1 - 1e-12));
        more = f;
        trueno_features_set_quant(&more, f.quant);
        more.bits_per_weight *= 1.3;
        assert_true(predict_l(l, &more).predicted_tps <= tps * (1 + 1e-12));
        more = f;
        more.temperature = 7;
        more.top_k = 40;
        more.top_p = 0.5;
        more.rope_theta = 1e6;
        assert_true(predict_l(l, &more).predicted_tps == tps);
    }
    trueno_learner_free(l);
    trueno_regressor_free(r);
    free_rows(&rows);
}

static void test_refusals(void **state)
{
    trueno_regressor *r = new_regressor();
    trueno_learner *l = new_learner(r), *none = l;
    trueno_features f = specification_run();
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_error err = {TRUENO_OK, ""};
    float x[TRUENO_FEATURE_DIM];
    const double bad[] = {NAN, INFINITY, -INFINITY, 0, -3};
    (void)state;
    assert_int_equal(trueno_features_to_vector(x, &f, NULL), TRUENO_OK);
    double before = predict_l(l, &f).predicted_tps;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(trueno_learner_observe(l, x, bad[i], &err), TRUENO_ERR_ARGUMENT);
        assert_int_equal(trueno_learner_observe_run(l, &f, bad[i], NULL), TRUENO_ERR_ARGUMENT);
    }
    assert_int_equal(trueno_learner_observe(l, NULL, 100, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_learner_observe(NULL, x, 100, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_learner_observe_run(NULL, &f, 100, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_learner_observe_run(l, NULL, 100, NULL), TRUENO_ERR_ARGUMENT);
    x[TRUENO_FEATURE_BATCH_SIZE] = NAN;
    assert_int_equal(trueno_learner_observe(l, x, 100, NULL), TRUENO_ERR_INVALID_FEATURE);
    assert_int_equal(trueno_features_to_vector(x, &f, NULL), TRUENO_OK);
    x[TRUENO_FEATURE_MODEL_PARAMS_B] = 0;
    assert_int_equal(trueno_learner_observe(l, x, 100, NULL), TRUENO_ERR_INVALID_FEATURE);
    /* above the roof: counted, not learned */
    assert_int_equal(trueno_learner_observe_run(l, &f, 5000, NULL), TRUENO_OK);
    assert_int_equal(trueno_learner_num_above_roof(l), 1);
    assert_int_equal(trueno_learner_num_updates(l), 0);
    assert_true(isnan(trueno_learner_ema_loss(l)));
    assert_true(predict_l(l, &f).predicted_tps == before);

    assert_int_equal(trueno_learner_predict(NULL, &p, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_apply_learner(NULL, l, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_apply_learner(r, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_learner_new(NULL, &none, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(none);
    assert_int_equal(trueno_learner_new(r, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_learner_num_updates(NULL), 0);
    assert_int_equal(trueno_learner_num_above_roof(NULL), 0);
    assert_int_equal(trueno_regressor_online_updates(NULL), 0);
    assert_false(trueno_learner_is_converging(NULL));
    assert_true(isnan(trueno_learner_ema_loss(NULL)));
    trueno_learner_free(NULL);
    trueno_learner_free(l);
    trueno_regressor_free(r);
}

/* Exact bytes count where they are given: with twice the weights the same rate is twice as good. */
static void test_side_fields(void **state)
{
    trueno_regressor *r = new_regressor();
    trueno_learner *a = new_learner(r), *b = new_learner(r);
    trueno_features f = specification_run(), exact = f;
    (void)state;
    exact.weight_bytes_per_pass = 8e9;
    observe(a, &exact, 300); /* the vector does not know them */
    assert_int_equal(trueno_learner_observe_run(b, &exact, 300, NULL), TRUENO_OK);
    assert_true(predict_l(b, &exact).predicted_tps > 1.2 * predict_l(a, &exact).predicted_tps);
    assert_true(fabs(predict_l(b, &exact).predicted_tps / 300 - 1) < 0.05);
    trueno_learner_free(a);
    trueno_learner_free(b);
    trueno_regressor_free(r);
}

/* --------------------------------------------------------------- least squares */

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
}

static void test_no_memory(void **state)
{
    struct rows rows = random_rows(60, 19, 0.1);
    int succeeded = 0;
    (void)state;
    for (size_t call = 1; call < 20; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *c;
        trueno_regressor *r;
        trueno_learner *l = NULL;
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        assert_int_equal(trueno_regressor_with_random_forest(c, &r, 3, NULL, NULL), TRUENO_OK);
        assert_int_equal(
            trueno_regressor_train_random_forest(r, NULL, rows.f, rows.tps, rows.n, NULL),
            TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status st = trueno_learner_new(r, &l, NULL);
        assert_int_equal(st, l ? TRUENO_OK : TRUENO_ERR_NO_MEMORY);
        succeeded += st == TRUENO_OK;
        size_t calls = atomic_load(&h.calls);
        if (l) observe(l, &rows.f[0], rows.tps[0]);
        assert_int_equal(atomic_load(&h.calls), calls); /* observing allocates nothing */
        trueno_regressor_free(r);
        trueno_learner_free(l);
        trueno_ctx_free(c);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
    assert_true(succeeded > 5 && succeeded < 19);
    free_rows(&rows);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specification), cmocka_unit_test(test_apply),
        cmocka_unit_test(test_other_model),   cmocka_unit_test(test_learns),
        cmocka_unit_test(test_loss),          cmocka_unit_test(test_laws),
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_side_fields),
        cmocka_unit_test(test_one_weight),    cmocka_unit_test(test_batch),
        cmocka_unit_test(test_gate),          cmocka_unit_test(test_bounded),
        cmocka_unit_test(test_sound),         cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
