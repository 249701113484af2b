/* SPDX-License-Identifier: MIT */
/* What a tuner learns of whole runs: training, models put into it, learners, bandits, and what it
 * says of its accuracy. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hooks.h"
#include "tuner/regressor.h"
#include "tuner/tuner_impl.h"
#include "tuner/tuner_test.h"

static trueno_features rows[100];
static double tps[100];

/* -------------------------------------------------------------------- training */

static void test_train(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_train_report report = TRUENO_TRAIN_REPORT_INIT;
    trueno_accuracy a = TRUENO_ACCURACY_INIT, b = TRUENO_ACCURACY_INIT;
    trueno_regressor *r;
    double mape = 0, before = 0, after = 0;
    (void)state;
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, &a), TRUENO_ERR_NOT_MEASURED);
    assert_true(isnan(mape) && a.n == 0 && a.split == NULL && a.data_hash == 0);
    for (int i = 0; i < 8; i++) before += fabs(predict_by(t, &rows[i]).predicted_tps / tps[i] - 1);
    assert_int_equal(trueno_tuner_train(t, &report, rows, tps, 100, NULL), TRUENO_OK);
    for (int i = 0; i < 8; i++) after += fabs(predict_by(t, &rows[i]).predicted_tps / tps[i] - 1);
    assert_true(before / 8 > 0.2 && after / 8 < 0.05);
    assert_int_equal(report.n_rows, 100);

    /* it is the forest of 100 trees that a regressor alone would be */
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 100, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, 100, NULL),
                     TRUENO_OK);
    trueno_prediction p = TRUENO_PREDICTION_INIT, q = predict_by(t, &rows[3]);
    assert_int_equal(trueno_regressor_predict(r, &p, &rows[3], NULL), TRUENO_OK);
    same_prediction(&p, &q);
    trueno_regressor_free(r);

    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, &a), TRUENO_OK);
    assert_true(mape == report.mape && mape > 0 && a.n == report.n_held_out);
    assert_non_null(a.split);
    assert_true(a.data_hash != 0);
    tps[17] += 1;
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_OK);
    tps[17] -= 1;
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, &b), TRUENO_OK);
    assert_true(b.data_hash != a.data_hash && mape != report.mape);
    trueno_tuner_free(t);
}

/* What was learned stays if training fails. */
static void test_train_refused(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_accuracy a = TRUENO_ACCURACY_INIT;
    double mape, again;
    (void)state;
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, NULL), TRUENO_OK);
    trueno_prediction before = predict_by(t, &rows[2]);
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 9, NULL), TRUENO_ERR_INSUFFICIENT_DATA);
    assert_int_equal(trueno_tuner_train(t, NULL, NULL, tps, 100, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_train(t, NULL, rows, NULL, 100, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_train(NULL, NULL, rows, tps, 100, NULL), TRUENO_ERR_ARGUMENT);
    tps[50] = NAN;
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_ERR_ARGUMENT);
    tps[50] = tps[42];
    assert_int_equal(tr_tuner_enter(t, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_ERR_BUSY);
    assert_int_equal(trueno_tuner_set_models(t, NULL, NULL, NULL), TRUENO_ERR_BUSY);
    assert_int_equal(trueno_tuner_observe_run(t, rows, 300, NULL), TRUENO_ERR_BUSY);
    tr_tuner_leave(t);
    trueno_prediction after = predict_by(t, &rows[2]);
    same_prediction(&before, &after);
    assert_int_equal(trueno_tuner_throughput_mape(t, &again, NULL), TRUENO_OK);
    assert_true(mape == again);

    again = 1;
    assert_int_equal(trueno_tuner_throughput_mape(NULL, &again, &a), TRUENO_ERR_ARGUMENT);
    assert_true(isnan(again));
    assert_int_equal(trueno_tuner_throughput_mape(t, NULL, &a), TRUENO_ERR_ARGUMENT);
    a.struct_size = 2;
    assert_int_equal(trueno_tuner_throughput_mape(t, &again, &a), TRUENO_ERR_ARGUMENT);
    trueno_tuner_free(t);
}

/* ---------------------------------------------------------------------- models */

static void test_set_models(void **state)
{
    static uint32_t labels[100];
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_prediction p = TRUENO_PREDICTION_INIT, q;
    trueno_regressor *r;
    trueno_classifier *c;
    double mape;
    (void)state;
    for (uint32_t i = 0; i < 100; i++) labels[i] = i % 8 < 4 ? 3 : 2; /* against the rule */
    assert_int_equal(trueno_regressor_new(ctx, &r, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_train(r, NULL, rows, tps, 100, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_predict(r, &p, &rows[5], NULL), TRUENO_OK);
    assert_int_equal(trueno_classifier_new(ctx, &c, NULL), TRUENO_OK);
    assert_int_equal(trueno_classifier_train(c, NULL, rows, labels, 100, NULL), TRUENO_OK);

    assert_int_equal(trueno_tuner_set_models(t, NULL, c, NULL), TRUENO_OK);
    assert_int_equal(recommend(t, &rows[0]).kernel.top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    assert_int_equal(predict_by(t, &rows[5]).source, TRUENO_SOURCE_PRIOR);
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(t, r, NULL, NULL), TRUENO_OK);
    trueno_regressor_free(r);
    trueno_classifier_free(c);
    q = predict_by(t, &rows[5]);
    same_prediction(&p, &q);
    assert_int_equal(recommend(t, &rows[0]).kernel.top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    assert_int_equal(recommend(t, &rows[7]).kernel.top_kernel, TRUENO_KERNEL_VECTORIZED_Q4K);
    /* nobody knows how good the new one is */
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, NULL), TRUENO_ERR_NOT_MEASURED);
    assert_int_equal(trueno_tuner_set_models(t, NULL, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(NULL, NULL, NULL, NULL), TRUENO_ERR_ARGUMENT);
    q = predict_by(t, &rows[5]);
    same_prediction(&p, &q);
    trueno_tuner_free(t);
}

/* ---------------------------------------------------------------- while running */

static void observe(trueno_learner *l, const trueno_features *f, double rate)
{
    float x[TRUENO_FEATURE_DIM];
    assert_int_equal(trueno_features_to_vector(x, f, NULL), TRUENO_OK);
    assert_int_equal(trueno_learner_observe(l, x, rate, NULL), TRUENO_OK);
}

static void test_learner(void **state)
{
    static const double measured[] = {150, 155, 152, 158};
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 4);
    trueno_learner *l, *more, *foreign;
    trueno_prediction p = TRUENO_PREDICTION_INIT, before = predict_by(t, &f), now;
    (void)state;
    assert_int_equal(trueno_tuner_online_learner(t, &l, NULL), TRUENO_OK);
    assert_int_equal(trueno_learner_predict(l, &p, &f, NULL), TRUENO_OK);
    same_prediction(&p, &before);
    for (int i = 0; i < 4; i++) observe(l, &f, measured[i]);
    now = predict_by(t, &f);
    same_prediction(&now, &before); /* not yet */
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(trueno_tuner_apply_online_updates(t, l, NULL), TRUENO_OK);
        assert_int_equal(trueno_learner_predict(l, &p, &f, NULL), TRUENO_OK);
        now = predict_by(t, &f);
        assert_true(now.predicted_tps == p.predicted_tps);
        assert_true(fabs(now.predicted_tps / 153.75 - 1) <= 0.03);
        assert_string_equal(trueno_tuner_version(t), "1.0.0-online-4");
    }
    /* another one goes on from there */
    assert_int_equal(trueno_tuner_online_learner(t, &more, NULL), TRUENO_OK);
    for (int i = 0; i < 3; i++) observe(more, &f, 170);
    assert_int_equal(trueno_tuner_apply_online_updates(t, more, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(t), "1.0.0-online-7");
    assert_true(predict_by(t, &f).predicted_tps > now.predicted_tps);
    assert_string_equal(recommend(t, &f).model_version, "1.0.0-online-7");

    /* one of another model is refused, and changes nothing */
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(t), "1.0.0");
    now = predict_by(t, &f);
    assert_int_equal(trueno_tuner_apply_online_updates(t, l, NULL), TRUENO_ERR_ARGUMENT);
    p = predict_by(t, &f);
    same_prediction(&now, &p);
    assert_int_equal(trueno_tuner_apply_online_updates(t, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_apply_online_updates(NULL, l, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_online_learner(t, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_online_learner(NULL, &foreign, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(tr_tuner_enter(t, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_apply_online_updates(t, l, NULL), TRUENO_ERR_BUSY);
    tr_tuner_leave(t);
    trueno_learner_free(l);
    trueno_learner_free(more);
    trueno_tuner_free(t);
}

/* In LEARN a run teaches at once; elsewhere it is counted. */
static void test_observe_run(void **state)
{
    static const trueno_tuner_mode modes[] = {TRUENO_TUNER_OFF, TRUENO_TUNER_FROZEN,
                                              TRUENO_TUNER_STRICT, TRUENO_TUNER_LEARN};
    trueno_features f = gpu_run(7, 4), bad = f;
    (void)state;
    bad.batch_size = 0;
    for (int i = 0; i < 4; i++) {
        trueno_tuner *t = make_tuner(ctx, modes[i]);
        trueno_prediction before = predict_by(t, &f), after;
        bool learns = modes[i] == TRUENO_TUNER_LEARN;
        trueno_tuner_pause(t, true);
        assert_int_equal(trueno_tuner_observe_run(t, &f, 153, NULL), TRUENO_OK);
        after = predict_by(t, &f);
        same_prediction(&before, &after);
        trueno_tuner_pause(t, false);
        for (int k = 0; k < 4; k++)
            assert_int_equal(trueno_tuner_observe_run(t, &f, 153, NULL), TRUENO_OK);
        after = predict_by(t, &f);
        if (!learns) same_prediction(&before, &after);
        if (learns) assert_true(fabs(after.predicted_tps / 153 - 1) <= 0.03);
        assert_string_equal(trueno_tuner_version(t), learns ? "1.0.0-online-4" : "1.0.0");
        assert_int_equal(stats_of(t).runs, 5);
        assert_int_equal(trueno_tuner_observe_run(t, &bad, 153, NULL), TRUENO_ERR_INVALID_FEATURE);
        assert_int_equal(trueno_tuner_observe_run(t, &f, 0, NULL), TRUENO_ERR_ARGUMENT);
        assert_int_equal(trueno_tuner_observe_run(t, &f, NAN, NULL), TRUENO_ERR_ARGUMENT);
        assert_int_equal(trueno_tuner_observe_run(t, &f, INFINITY, NULL), TRUENO_ERR_ARGUMENT);
        assert_int_equal(trueno_tuner_observe_run(t, NULL, 1, NULL), TRUENO_ERR_ARGUMENT);
        assert_int_equal(trueno_tuner_observe_run(NULL, &f, 1, NULL), TRUENO_ERR_ARGUMENT);
        assert_int_equal(stats_of(t).runs, 5);
        trueno_tuner_free(t);
    }
}

/* Runs that a tuner learned widen and narrow its interval: from 20 on it has a level. */
static void test_interval(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN);
    trueno_features f = gpu_run(7, 4);
    (void)state;
    for (int i = 0; i < 25; i++)
        assert_int_equal(trueno_tuner_observe_run(t, &f, 150 + i % 5, NULL), TRUENO_OK);
    trueno_prediction p = predict_by(t, &f);
    assert_true(p.level == 0.9 && p.lo < p.predicted_tps && p.hi > p.predicted_tps);
    trueno_tuner_free(t);
}

/* A tuner that gets the models of another one back has its version and its predictions. */
static void test_reload(void **state)
{
    static char bytes[1 << 20];
    trueno_features fs[2] = {gpu_run(7, 4), cpu_run(1.1, 1)};
    size_t len;
    (void)state;
    for (int kind = 0; kind < 3; kind++) { /* calibrated, trained, online */
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN), *u;
        trueno_regressor *r;
        if (kind == 0) assert_true(tr_regressor_set_prior(t->regressor, -0.5, 0.25));
        if (kind == 0) tr_tuner_name_version(t);
        if (kind > 0)
            assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_OK);
        for (int i = 0; kind == 2 && i < 6; i++)
            assert_int_equal(trueno_tuner_observe_run(t, &fs[0], 160, NULL), TRUENO_OK);
        assert_string_equal(trueno_tuner_version(t), kind == 0   ? "1.0.0-calibrated"
                                                     : kind == 1 ? "1.0.0"
                                                                 : "1.0.0-online-6");
        assert_int_equal(trueno_regressor_export(t->regressor, bytes, sizeof bytes, &len, NULL),
                         TRUENO_OK);
        assert_int_equal(trueno_regressor_import(ctx, &r, bytes, len, NULL), TRUENO_OK);
        u = make_tuner(ctx, TRUENO_TUNER_FROZEN);
        assert_int_equal(trueno_tuner_set_models(u, r, NULL, NULL), TRUENO_OK);
        assert_string_equal(trueno_tuner_version(u), trueno_tuner_version(t));
        for (int i = 0; i < 2; i++) {
            trueno_prediction p = predict_by(t, &fs[i]), q = predict_by(u, &fs[i]);
            same_prediction(&p, &q);
        }
        trueno_regressor_free(r);
        trueno_tuner_free(u);
        trueno_tuner_free(t);
    }
}

/* --------------------------------------------------------------------- bandits */

/* The tuner's bandit is a bandit of these options, UCB1 if there are none. */
static void test_bandit(void **state)
{
    static const trueno_kernel arms[] = {TRUENO_KERNEL_VECTORIZED_Q4K, TRUENO_KERNEL_BATCHED_Q4K,
                                         TRUENO_KERNEL_TILED_Q4K};
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    (void)state;
    o.seed = 99;
    for (int i = 0; i < 2; i++) {
        trueno_bandit *a, *b;
        size_t differ = 0;
        o.policy = i == 0 ? TRUENO_BANDIT_UCB1 : TRUENO_BANDIT_THOMPSON;
        assert_int_equal(trueno_tuner_kernel_bandit(t, &a, i == 0 ? NULL : &o, NULL), TRUENO_OK);
        assert_int_equal(trueno_bandit_new(ctx, &b, &o, NULL), TRUENO_OK);
        assert_int_equal(trueno_bandit_set_arms(a, 0, arms, 3, NULL), TRUENO_OK);
        assert_int_equal(trueno_bandit_set_arms(b, 0, arms, 3, NULL), TRUENO_OK);
        for (int k = 0; k < 200; k++) {
            trueno_kernel x, y;
            assert_int_equal(trueno_bandit_select(a, &x, 0, NULL), TRUENO_OK);
            assert_int_equal(trueno_bandit_select(b, &y, 0, NULL), TRUENO_OK);
            differ += x != y;
            assert_int_equal(trueno_bandit_update(a, 0, x, 0.1 * (double)x, NULL), TRUENO_OK);
            assert_int_equal(trueno_bandit_update(b, 0, y, 0.1 * (double)y, NULL), TRUENO_OK);
        }
        assert_int_equal(differ, 0);
        trueno_bandit_free(a);
        trueno_bandit_free(b);
    }
    trueno_bandit *none;
    o.c = -1;
    assert_int_equal(trueno_tuner_kernel_bandit(t, &none, &o, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(none);
    assert_int_equal(trueno_tuner_kernel_bandit(NULL, &none, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_kernel_bandit(t, NULL, NULL, NULL), TRUENO_ERR_ARGUMENT);
    trueno_tuner_free(t);
}

static trueno_kernel_choice explore(trueno_tuner *t, trueno_bandit *b, const trueno_features *f,
                                    double share)
{
    trueno_kernel_choice k = TRUENO_KERNEL_CHOICE_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_tuner_recommend_kernel_with_exploration(t, &k, f, b, share, &err) != TRUENO_OK)
        fail_msg("%s", err.message);
    return k;
}

/* Without data the classifier decides, then what the bandit learned; exploring asks its policy. */
static void test_exploration(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 4);
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    trueno_bandit *b;
    int tried = 0;
    (void)state;
    assert_int_equal(trueno_tuner_kernel_bandit(t, &b, NULL, NULL), TRUENO_OK);
    trueno_kernel_choice k = explore(t, b, &f, 0);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    assert_int_equal(k.source, TRUENO_CHOICE_RULES);
    /* the arms are those that fit: another one is refused */
    assert_int_equal(trueno_bandit_update(b, k.context, TRUENO_KERNEL_BATCHED_Q6K, 1, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_bandit_update(b, k.context, TRUENO_KERNEL_BATCHED_Q4K, 0.2, NULL),
                     TRUENO_OK);
    assert_int_equal(trueno_bandit_update(b, k.context, TRUENO_KERNEL_VECTORIZED_Q4K, 0.9, NULL),
                     TRUENO_OK);
    k = explore(t, b, &f, 0);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_VECTORIZED_Q4K);
    assert_int_equal(k.source, TRUENO_CHOICE_MEASURED);
    assert_int_equal(k.n_alternatives, 1);
    assert_int_equal(k.alternatives[0].kernel, TRUENO_KERNEL_BATCHED_Q4K);
    trueno_bandit_free(b);

    /* FIXED always wants its first arm, the classifier's, and so tells the shares */
    o.policy = TRUENO_BANDIT_FIXED;
    assert_int_equal(trueno_tuner_kernel_bandit(t, &b, &o, NULL), TRUENO_OK);
    assert_int_equal(explore(t, b, &f, 1).source, TRUENO_CHOICE_EXPLORING);
    assert_int_equal(explore(t, b, &f, 0).source, TRUENO_CHOICE_RULES);
    for (int i = 0; i < 4000; i++)
        tried += explore(t, b, &f, 0.2).source == TRUENO_CHOICE_EXPLORING;
    assert_in_range(tried, 700, 900); /* 800, standard deviation 25 */
    trueno_bandit_free(b);
    trueno_tuner_free(t);
}

/* The specification's loop finds the better kernel. */
static void test_exploration_loop(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 4);
    trueno_bandit *b;
    int good = 0;
    (void)state;
    assert_int_equal(trueno_tuner_kernel_bandit(t, &b, NULL, NULL), TRUENO_OK);
    for (int i = 0; i < 400; i++) {
        trueno_kernel_choice k = explore(t, b, &f, 0.2);
        bool best = k.top_kernel == TRUENO_KERNEL_VECTORIZED_Q4K;
        good += i >= 200 && best;
        assert_int_equal(trueno_bandit_update(b, k.context, k.top_kernel, best ? 0.9 : 0.3, NULL),
                         TRUENO_OK);
        if (i == 399) assert_int_equal(trueno_bandit_best_kernel(b, k.context), 2);
    }
    assert_true(good > 180);
    trueno_bandit_free(b);
    trueno_tuner_free(t);
}

static void test_exploration_refused(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 4), bad = f;
    trueno_bandit *b;
    trueno_kernel_choice k = TRUENO_KERNEL_CHOICE_INIT;
    (void)state;
#define CALL(tuner, out, run, bandit, share)                                                       \
    trueno_tuner_recommend_kernel_with_exploration(tuner, out, run, bandit, share, NULL)
    assert_int_equal(trueno_tuner_kernel_bandit(t, &b, NULL, NULL), TRUENO_OK);
    assert_int_equal(CALL(NULL, &k, &f, b, 0.2), TRUENO_ERR_ARGUMENT);
    assert_int_equal(CALL(t, NULL, &f, b, 0.2), TRUENO_ERR_ARGUMENT);
    assert_int_equal(CALL(t, &k, NULL, b, 0.2), TRUENO_ERR_ARGUMENT);
    assert_int_equal(CALL(t, &k, &f, NULL, 0.2), TRUENO_ERR_ARGUMENT);
    assert_int_equal(CALL(t, &k, &f, b, -0.1), TRUENO_ERR_ARGUMENT);
    assert_int_equal(CALL(t, &k, &f, b, 1.1), TRUENO_ERR_ARGUMENT);
    assert_int_equal(CALL(t, &k, &f, b, NAN), TRUENO_ERR_ARGUMENT);
    bad.num_layers = NAN;
    assert_int_equal(CALL(t, &k, &bad, b, 0.2), TRUENO_ERR_INVALID_FEATURE);
    for (uint64_t i = 1; i <= TRUENO_BANDIT_MAX_CONTEXTS; i++)
        assert_int_equal(trueno_bandit_update(b, i, TRUENO_KERNEL_GENERIC, 1, NULL), TRUENO_OK);
    assert_int_equal(CALL(t, &k, &f, b, 0.2), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_UNKNOWN);
    assert_true(k.context == 0 && k.n_alternatives == 0 && k.struct_size == sizeof k);
#undef CALL
    trueno_bandit_free(b);
    trueno_tuner_free(t);
}

/* ---------------------------------------------------------------------- memory */

/* Every call, one after the other, until one fails. */
static trueno_status use_all(trueno_ctx *c, const trueno_regressor *r, const trueno_classifier *k)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
    trueno_kernel_choice choice = TRUENO_KERNEL_CHOICE_INIT;
    trueno_features f = cpu_run(1.1, 1);
    trueno_recommendation rec;
    trueno_tuner *t = NULL, *u = NULL;
    trueno_learner *l = NULL;
    trueno_bandit *b = NULL;
    trueno_recommendation_init(&rec);
    o.mode = TRUENO_TUNER_LEARN;
    o.store_path = "";
    profile.n = 1;
    profile.points[0] = (trueno_machine_point){1, 10, 10, 10};
    trueno_status s = trueno_tuner_new(c, &t, &o, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_recommend(t, &rec, &f, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_observe_run(t, &f, 5, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_set_models(t, r, k, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_online_learner(t, &l, NULL);
    if (s == TRUENO_OK) s = trueno_learner_observe_run(l, &f, 5, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_apply_online_updates(t, l, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_remember_profile(t, &profile, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_clone(t, &u, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_train(t, NULL, rows, tps, 12, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_merge(t, NULL, u, NULL);
    if (s == TRUENO_OK) s = trueno_tuner_kernel_bandit(t, &b, NULL, NULL);
    if (s == TRUENO_OK)
        s = trueno_tuner_recommend_kernel_with_exploration(t, &choice, &f, b, 0.5, NULL);
    trueno_bandit_free(b);
    trueno_learner_free(l);
    trueno_tuner_free(u);
    trueno_tuner_free(t);
    return s;
}

static void test_no_memory(void **state)
{
    static uint32_t labels[12];
    trueno_regressor *r;
    trueno_classifier *k;
    size_t succeeded = 0;
    (void)state;
    for (uint32_t i = 0; i < 12; i++) labels[i] = i % 8 < 4 ? 3 : 2;
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 3, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, 12, NULL), TRUENO_OK);
    assert_int_equal(trueno_classifier_with_random_forest(ctx, &k, 3, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_classifier_train(k, NULL, rows, labels, 12, NULL), TRUENO_OK);
    for (size_t call = 1; succeeded == 0; call++) {
        struct hooks h = {0};
        trueno_ctx_options co = hook_options(&h);
        trueno_ctx *c;
        assert_int_equal(trueno_ctx_new(&c, &co, NULL), TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status s = use_all(c, r, k);
        assert_true(s == TRUENO_OK || s == TRUENO_ERR_NO_MEMORY);
        succeeded += s == TRUENO_OK && atomic_load(&h.calls) < h.fail_at;
        trueno_ctx_free(c);
        assert_int_equal(atomic_load(&h.blocks), 0);
        assert_true(call < 1000);
    }
    trueno_regressor_free(r);
    trueno_classifier_free(k);
}

/* What cannot be copied leaves the models that are there. */
static void test_set_models_no_memory(void **state)
{
    struct hooks h = {0};
    trueno_ctx_options co = hook_options(&h);
    trueno_ctx *c;
    trueno_regressor *r;
    (void)state;
    assert_int_equal(trueno_ctx_new(&c, &co, NULL), TRUENO_OK);
    trueno_tuner *t = make_tuner(c, TRUENO_TUNER_FROZEN);
    trueno_prediction before = predict_by(t, &rows[1]), after;
    assert_int_equal(trueno_regressor_with_random_forest(c, &r, 3, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, 100, NULL),
                     TRUENO_OK);
    h.fail_at = atomic_load(&h.calls) + 1;
    assert_int_equal(trueno_tuner_set_models(t, r, NULL, NULL), TRUENO_ERR_NO_MEMORY);
    after = predict_by(t, &rows[1]);
    same_prediction(&before, &after);
    h.fail_at = 0;
    assert_int_equal(trueno_tuner_set_models(t, r, NULL, NULL), TRUENO_OK);
    assert_int_equal(predict_by(t, &rows[1]).source, TRUENO_SOURCE_FOREST);
    trueno_regressor_free(r);
    trueno_tuner_free(t);
    trueno_ctx_free(c);
    assert_int_equal(atomic_load(&h.blocks), 0);
}

static int set_up(void **state)
{
    sample_rows(rows, tps);
    return make_shared(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_train),
        cmocka_unit_test(test_train_refused),
        cmocka_unit_test(test_set_models),
        cmocka_unit_test(test_learner),
        cmocka_unit_test(test_observe_run),
        cmocka_unit_test(test_interval),
        cmocka_unit_test(test_reload),
        cmocka_unit_test(test_bandit),
        cmocka_unit_test(test_exploration),
        cmocka_unit_test(test_exploration_loop),
        cmocka_unit_test(test_exploration_refused),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_set_models_no_memory),
    };
    return cmocka_run_group_tests(tests, set_up, free_shared);
}
