/* SPDX-License-Identifier: MIT */
/* What must not happen, one test for each, through the public calls: training that diverges, two
 * scales, accuracies that nobody measured, calibration that changes nothing, labels that are not
 * followed, models that do not come back, features that saturate. More in test_defects_choice.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hooks.h"
#include "brick_test.h"
#include "trueno/kernels.h"
#include "tuner/random.h"
#include "tuner/tuner_impl.h"
#include "tuner/tuner_test.h"

static trueno_features rows[100];
static double tps[100];

/* Mean of |predicted / measured - 1| over the eight runs of the sample. */
static double sample_error(trueno_tuner *t)
{
    double sum = 0;
    for (int i = 0; i < 8; i++) sum += fabs(predict_by(t, &rows[i]).predicted_tps / tps[i] - 1);
    return sum / 8;
}

/* Error on rows that were held out, below 5 %, and each of the eight runs within 5 %. */
static void test_training_lowers_the_error(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_train_report report = TRUENO_TRAIN_REPORT_INIT;
    double before = sample_error(t);
    (void)state;
    assert_int_equal(trueno_tuner_train(t, &report, rows, tps, 100, NULL), TRUENO_OK);
    assert_int_equal(report.n_held_out, 100);
    assert_true(report.mape < 0.05 && report.mape < before / 4);
    for (int i = 0; i < 8; i++)
        assert_true(fabs(predict_by(t, &rows[i]).predicted_tps / tps[i] - 1) <= 0.05);
    trueno_tuner_free(t);
}

/* Learner and tuner predict the same before and after it is applied, far below the roof. */
static void test_one_scale(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 4);
    trueno_learner *l;
    float x[TRUENO_FEATURE_DIM];
    (void)state;
    assert_int_equal(trueno_features_to_vector(x, &f, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_online_learner(t, &l, NULL), TRUENO_OK);
    for (int i = 0; i < 5; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT, q = predict_by(t, &f);
        assert_int_equal(trueno_learner_predict(l, &p, &f, NULL), TRUENO_OK);
        assert_true(p.predicted_tps == q.predicted_tps);
        if (i > 0) assert_true(fabs(q.predicted_tps / 150 - 1) < 0.1 && q.efficiency < 0.5);
        assert_int_equal(trueno_learner_observe(l, x, 150, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_apply_online_updates(t, l, NULL), TRUENO_OK);
    }
    trueno_learner_free(l);
    trueno_tuner_free(t);
}

/* Not measured without data, and another figure for other data. */
static void test_mape_is_measured(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    double mape[2], noisy[100];
    trueno_accuracy a[2] = {TRUENO_ACCURACY_INIT, TRUENO_ACCURACY_INIT};
    (void)state;
    assert_int_equal(trueno_tuner_throughput_mape(t, mape, NULL), TRUENO_ERR_NOT_MEASURED);
    assert_true(isnan(mape[0]));
    for (int i = 0; i < 100; i++) noisy[i] = tps[i] * (i % 3 == 0 ? 0.6 : 1.2);
    for (int i = 0; i < 2; i++) {
        size_t n = i ? 100 : 60;
        assert_int_equal(trueno_tuner_train(t, NULL, rows, i ? noisy : tps, n, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_throughput_mape(t, &mape[i], &a[i]), TRUENO_OK);
        assert_int_equal(a[i].n, n);
    }
    assert_true(mape[1] > 0.15 && mape[1] > 3 * mape[0]);
    assert_true(a[0].data_hash != a[1].data_hash);
    trueno_tuner_free(t);
}

static const char *slow;

static uint64_t slow_clock(const struct tr_kernel *k, uint64_t ns)
{
    static uint64_t n;
    (void)ns;
    return (slow && strcmp(k->name, slow) == 0 ? 2000000 : 1000000) + n++ % 7 * 100;
}

static trueno_calibration calibrate(trueno_tuner *t, const trueno_problem *p, size_t n)
{
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    trueno_error err = {TRUENO_OK, ""};
    o.problems = p;
    o.n_problems = n;
    if (trueno_tuner_calibrate(t, &c, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return c;
}

/* A clock that slows one kernel changes the choice, by runs that are counted. */
static void test_calibration_measures(void **state)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    const char *kernels[8];
    (void)state;
    p.rows = 64;
    p.cols = 256;
    if (kernels_tried(ctx, kernels, &p) < 2) {
        print_message("skipped: this machine has one kernel for Q4_K\n");
        skip();
    }
    for (int slows = 0; slows < 2; slows++) {
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
        trueno_pick pick = TRUENO_PICK_INIT;
        t->tamper = slow_clock;
        slow = slows ? kernels[0] : NULL;
        trueno_calibration c = calibrate(t, &p, 1);
        assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
        assert_int_equal(strcmp(pick.variant, kernels[0]) != 0, slows);
        assert_int_equal(c.n_changed, slows);
        assert_true(c.n_measurements > 0 && stats_of(t).kernel_runs == c.n_measurements);
        trueno_tuner_free(t);
    }
}

/* What made predictions worse is told with its sign, and not used. */
static void test_no_improvement_is_told(void **state)
{
    trueno_problem p[4];
    bool worse = false;
    (void)state;
    slow = NULL;
    for (double large = 1024; large < 40000 && !worse; large *= 1.4) {
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
        static const trueno_machine_point roof = {1, 20, 500, 100};
        trueno_features f = cpu_run(1.1, 1);
        t->tamper = slow_clock;
        t->roof = &roof;
        for (size_t i = 0; i < 4; i++) { /* what fits the small ones is wrong for the large */
            p[i] = (trueno_problem)TRUENO_PROBLEM_INIT;
            p[i].rows = i % 2 ? (size_t)large / 16 * 16 : 64;
            p[i].cols = i % 2 ? 8192 : 256;
        }
        trueno_prediction before = predict_by(t, &f);
        trueno_calibration c = calibrate(t, p, 4);
        trueno_prediction after = predict_by(t, &f);
        assert_true(fabs(c.improvement_pct - 100 * (1 - c.local_mape / c.mape_before)) < 1e-9);
        if (c.improvement_pct < 0) {
            assert_false(c.applied);
            same_prediction(&before, &after);
            assert_string_equal(trueno_tuner_version(t), "1.0.0");
            worse = true;
        }
        trueno_tuner_free(t);
    }
    assert_true(worse);
}

static void test_machines_differ(void **state)
{
    trueno_machine a = TRUENO_MACHINE_INIT, b = TRUENO_MACHINE_INIT;
    trueno_ctx *ref = brick_ctx("ref", NULL);
    (void)state;
    assert_int_equal(trueno_machine_get(ctx, &a, NULL), TRUENO_OK);
    assert_int_equal(trueno_machine_get(ref, &b, NULL), TRUENO_OK);
    if (a.cpu_features != b.cpu_features) assert_string_not_equal(a.id, b.id);
    trueno_ctx_free(ref);
}

/* A classifier follows its labels, against the rule; an untrained forest says the prior. */
static void test_labels_are_followed(void **state)
{
    static uint32_t labels[100];
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN), *u;
    trueno_classifier *c;
    trueno_class_report report = TRUENO_CLASS_REPORT_INIT;
    trueno_regressor *r;
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    (void)state;
    assert_int_equal(predict_by(t, &rows[0]).source, TRUENO_SOURCE_PRIOR);
    assert_int_equal(recommend(t, &rows[0]).kernel.source, TRUENO_CHOICE_RULES);
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 100, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_predict(r, &p, &rows[0], NULL), TRUENO_OK);
    assert_true(p.predicted_tps == predict_by(t, &rows[0]).predicted_tps);
    for (uint32_t i = 0; i < 100; i++) labels[i] = i % 8 < 3 ? 3 : 2;
    assert_int_equal(trueno_classifier_with_random_forest(ctx, &c, 50, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_classifier_train(c, &report, rows, labels, 100, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_clone(t, &u, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(u, NULL, c, NULL), TRUENO_OK);
    for (uint32_t i = 0; i < 8; i++) {
        assert_int_equal(recommend(u, &rows[i]).kernel.top_kernel, labels[i]);
        assert_int_equal(recommend(t, &rows[i]).kernel.top_kernel, i < 3 ? 2 : 3); /* the rule */
    }
    trueno_regressor_free(r);
    trueno_classifier_free(c);
    trueno_tuner_free(t);
    trueno_tuner_free(u);
}

/* The classifier of the specification is right in more than 95 % of the rows it had not seen. */
static void test_classifier_accuracy(void **state)
{
    static uint32_t labels[100];
    trueno_classifier *c;
    trueno_class_report report = TRUENO_CLASS_REPORT_INIT;
    (void)state;
    for (int i = 0; i < 100; i++) labels[i] = rows[i].batch_size >= 4 ? 3 : 2;
    assert_int_equal(trueno_classifier_with_random_forest(ctx, &c, 50, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_classifier_train(c, &report, rows, labels, 100, NULL), TRUENO_OK);
    assert_int_equal(report.n_held_out, 100);
    assert_true(report.accuracy > 0.95);
    trueno_classifier_free(c);
}

static size_t train_and_export(char *bytes, size_t cap, uint64_t seed)
{
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    trueno_regressor *r;
    size_t len;
    o.seed = seed;
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 100, &o, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, 100, NULL),
                     TRUENO_OK);
    assert_int_equal(trueno_regressor_export(r, bytes, cap, &len, NULL), TRUENO_OK);
    trueno_regressor_free(r);
    return len;
}

/* Same seed, same bytes; a forest and what was learned on it come back to the bit. */
static void test_models_come_back(void **state)
{
    static char a[1 << 20], b[1 << 20];
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN), *u = make_tuner(ctx, TRUENO_TUNER_OFF);
    trueno_features f = gpu_run(7, 4);
    trueno_regressor *r;
    (void)state;
    size_t n = train_and_export(a, sizeof a, 5), m = train_and_export(b, sizeof b, 5);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    m = train_and_export(b, sizeof b, 6);
    assert_true(n != m || memcmp(a, b, n) != 0);
    assert_int_equal(trueno_regressor_import(ctx, &r, a, n, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(t, r, NULL, NULL), TRUENO_OK);
    trueno_regressor_free(r);
    for (int i = 0; i < 12; i++)
        assert_int_equal(trueno_tuner_observe_run(t, &f, 150 + i, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(t), "1.0.0-online-12");
    assert_int_equal(trueno_regressor_export(t->regressor, a, sizeof a, &n, NULL), TRUENO_OK);
    assert_int_equal(trueno_regressor_import(ctx, &r, a, n, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(u, r, NULL, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(u), "1.0.0-online-12");
    for (int i = 0; i < 8; i++) {
        trueno_prediction p = predict_by(t, &rows[i]), q = predict_by(u, &rows[i]);
        same_prediction(&p, &q);
        assert_int_equal(p.source, TRUENO_SOURCE_FOREST);
    }
    trueno_regressor_free(r);
    trueno_tuner_free(t);
    trueno_tuner_free(u);
}

/* Unset is Q4_K; NaN and no sequences are errors. */
static void test_defaults_and_errors(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 1), unset = f;
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    (void)state;
    unset.quant = TRUENO_QUANT_UNSET;
    assert_true(predict_by(t, &f).predicted_tps == predict_by(t, &unset).predicted_tps);
    f.kv_cache_tokens = 0;
    f.kv_bytes_per_token = 0;
    assert_true(fabs(predict_by(t, &f).roofline_tps / (1000e9 / (7e9 * 0.5625)) - 1) < 1e-9);
    for (int i = 0; i < 2; i++) {
        unset = f;
        if (i) unset.batch_size = 0;
        if (!i) unset.seq_len = NAN;
        assert_int_equal(trueno_tuner_predict(t, &p, &unset, NULL), TRUENO_ERR_INVALID_FEATURE);
    }
    trueno_tuner_free(t);
}

/* A length of 4 GiB, wherever it stands, makes nobody allocate it. */
static void test_lengths_are_not_believed(void **state)
{
    static char bytes[1 << 20], bad[1 << 20];
    struct hooks h = {0};
    trueno_ctx_options co = hook_options(&h);
    trueno_ctx *c;
    trueno_regressor *r;
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
    size_t len, model_len = train_and_export(bad, sizeof bad, 1);
    (void)state;
    assert_int_equal(trueno_ctx_new(&c, &co, NULL), TRUENO_OK);
    trueno_tuner *t = make_tuner(c, TRUENO_TUNER_FROZEN);
    profile.n = 1;
    profile.points[0] = (trueno_machine_point){1, 10, 10, 10};
    assert_int_equal(trueno_tuner_remember_profile(t, &profile, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    h.max_size = sizeof bytes;
    for (size_t at = 0; at + 4 <= len; at++) {
        char was[4];
        memcpy(was, bytes + at, 4);
        memset(bytes + at, 0xff, 4);
        trueno_status status = trueno_tuner_import(t, NULL, bytes, len, NULL);
        assert_int_not_equal(status, TRUENO_ERR_NO_MEMORY);
        memcpy(bytes + at, was, 4);
    }
    assert_int_equal(trueno_tuner_import(t, NULL, bytes, len, NULL), TRUENO_OK);
    for (size_t at = 0; at < 400 && at + 4 <= model_len; at++) {
        char was[4];
        memcpy(was, bad + at, 4);
        memset(bad + at, 0xff, 4);
        trueno_status status = trueno_regressor_import(c, &r, bad, model_len, NULL);
        assert_true(status != TRUENO_OK && status != TRUENO_ERR_NO_MEMORY);
        assert_null(r);
        memcpy(bad + at, was, 4);
    }
    trueno_tuner_free(t);
    trueno_ctx_free(c);
    assert_int_equal(atomic_load(&h.blocks), 0);
}

/* Large machines, models and batches each change the answer, and nothing stops at 10,000. */
static void test_nothing_saturates(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    (void)state;
    trueno_features f = gpu_run(7, 1), g;
    f.gpu_mem_bw_gbs = 3350;
    g = f;
    g.gpu_mem_bw_gbs = 4800; /* H200 */
    assert_true(predict_by(t, &g).predicted_tps > 1.3 * predict_by(t, &f).predicted_tps);
    f = g;
    f.gpu_mem_bw_gbs = 8000; /* B200 */
    assert_true(predict_by(t, &f).predicted_tps > 1.5 * predict_by(t, &g).predicted_tps);
    f = gpu_run(405, 1);
    g = gpu_run(70, 1);
    assert_true(predict_by(t, &g).predicted_tps > 4 * predict_by(t, &f).predicted_tps);
    f = gpu_run(1.5, 4096);
    g = gpu_run(1.5, 2048);
    f.seq_len = g.seq_len = 16;
    f.gpu_mem_bw_gbs = g.gpu_mem_bw_gbs = 8000;
    f.gpu_compute_tflops = g.gpu_compute_tflops = 2000;
    assert_true(predict_by(t, &f).predicted_tps != predict_by(t, &g).predicted_tps);
    assert_true(predict_by(t, &f).predicted_tps > 20000);
    g = f;
    g.gpu_compute_tflops = 1000;
    assert_true(predict_by(t, &f).predicted_tps > 1.5 * predict_by(t, &g).predicted_tps);
    trueno_tuner_free(t);
}

/* All five classes come out of recommendations. */
static void test_all_bottlenecks(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f[4] = {gpu_run(7, 1), gpu_run(7, 1), gpu_run(8, 32), gpu_run(0.5, 1)};
    trueno_bottleneck b = TRUENO_BOTTLENECK_INIT;
    static const trueno_bottleneck_class kinds[] = {
        TRUENO_BOTTLENECK_MEMORY, TRUENO_BOTTLENECK_COMPUTE, TRUENO_BOTTLENECK_ATTENTION,
        TRUENO_BOTTLENECK_LAUNCH};
    (void)state;
    f[1].prompt_tokens = 2048;
    f[2].seq_len = 16384;
    for (int i = 0; i < 4; i++) assert_int_equal(recommend(t, &f[i]).bottleneck.kind, kinds[i]);
    /* a prediction needs the size of the model, and then something tells */
    f[0].model_params_b = TRUENO_UNSET;
    assert_int_equal(trueno_bottleneck_of(&b, &f[0], NULL), TRUENO_OK);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_UNKNOWN);
    trueno_tuner_free(t);
}

static bool names_graphs(const trueno_recommendation *rec)
{
    static char text[16384];
    trueno_recommendation_format(text, sizeof text, rec);
    return strstr(text, "raphs") != NULL || strstr(text, "CUDA") != NULL;
}

/* Whatever a CPU runs, nobody tells it of CUDA graphs; a GPU is told. */
static void test_no_graphs_on_a_cpu(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_OFF);
    struct tr_random random;
    trueno_features gpu = gpu_run(0.5, 1);
    bool launches = false;
    (void)state;
    trueno_recommendation rec = recommend(t, &gpu);
    assert_true(names_graphs(&rec));
    tr_random_seed(&random, 3, 0);
    for (int i = 0; i < 1000; i++) {
        trueno_features f = cpu_run(exp2(tr_random_unit(&random) * 9 - 4), 1);
        f.cpu_threads = 1 + tr_random_below(&random, 128);
        f.sm_count = f.cpu_threads;
        f.gpu_mem_bw_gbs = exp2(4 + 6 * tr_random_unit(&random));
        if (i % 3 == 0) f.prompt_tokens = 512;
        rec = recommend(t, &f);
        assert_false(names_graphs(&rec));
        launches |= rec.bottleneck.kind == TRUENO_BOTTLENECK_LAUNCH;
    }
    assert_true(launches);
    trueno_tuner_free(t);
}

static int set_up(void **state)
{
    sample_rows(rows, tps);
    return make_shared(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_training_lowers_the_error),
        cmocka_unit_test(test_one_scale),
        cmocka_unit_test(test_mape_is_measured),
        cmocka_unit_test(test_calibration_measures),
        cmocka_unit_test(test_no_improvement_is_told),
        cmocka_unit_test(test_machines_differ),
        cmocka_unit_test(test_labels_are_followed),
        cmocka_unit_test(test_classifier_accuracy),
        cmocka_unit_test(test_models_come_back),
        cmocka_unit_test(test_defaults_and_errors),
        cmocka_unit_test(test_lengths_are_not_believed),
        cmocka_unit_test(test_nothing_saturates),
        cmocka_unit_test(test_all_bottlenecks),
        cmocka_unit_test(test_no_graphs_on_a_cpu),
    };
    return cmocka_run_group_tests(tests, set_up, free_shared);
}
