/* SPDX-License-Identifier: MIT */
/* Learning while running: one scale with the regressor, and the roof stands. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "base/hooks.h"
#include "trueno/learner.h"
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

/* So near the roof that the time above it is lost in the noise, little is learned. */
static void test_near_roof(void **state)
{
    trueno_regressor *r = new_regressor();
    trueno_learner *l = new_learner(r);
    trueno_features f = specification_run();
    trueno_prediction p = predict_l(l, &f);
    (void)state;
    observe(l, &f, p.roofline_tps * (1 - 1e-5));
    assert_int_equal(trueno_learner_num_updates(l), 1);
    assert_true(fabs(predict_l(l, &f).predicted_tps / p.predicted_tps - 1) < 0.001);
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
        cmocka_unit_test(test_near_roof),     cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
