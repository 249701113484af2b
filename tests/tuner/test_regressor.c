/* SPDX-License-Identifier: MIT */
/* Throughput: the roof holds whatever was learned, and what was learned is what predicts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "trueno/predict.h"
#include "tuner/regressor.h"
#include "tuner/ridge.h"
#include "tuner/run.h"
#include "tuner/runs.h"

static trueno_regressor *new_forest(uint32_t n_trees)
{
    trueno_regressor *r;
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, n_trees, NULL, NULL), TRUENO_OK);
    return r;
}

/* Trains r with a forest or a ridge. */
static trueno_train_report learn(trueno_regressor *r, bool forest, const trueno_features *rows,
                                 const double *tps, size_t n)
{
    trueno_train_report report = TRUENO_TRAIN_REPORT_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = forest ? trueno_regressor_train_random_forest(r, &report, rows, tps, n, &err)
                              : trueno_regressor_train(r, &report, rows, tps, n, &err);
    if (st != TRUENO_OK) fail_msg("%s", err.message);
    return report;
}

/* The rows of the specification: batches 1 to 8, 200 + 80 x batch tokens/s. */
static void specification_rows(trueno_features *rows, double *tps)
{
    for (int i = 0; i < 100; i++) {
        trueno_features f = TRUENO_FEATURES_INIT;
        f.model_params_b = 1.5;
        f.batch_size = 1 + i % 8;
        f.quant = TRUENO_QUANT_Q4_K;
        f.gpu_mem_bw_gbs = 1000;
        f.cuda_graphs = i % 8 == 0;
        rows[i] = f;
        tps[i] = 200 + 80 * f.batch_size;
    }
}

/* Its training must lower the error (the original's diverged): a forest to 5 % at each batch, a
 * linear model on average. */
static void test_specification(void **state)
{
    static trueno_features rows[100];
    double tps[100];
    (void)state;
    specification_rows(rows, tps);
    for (int forest = 0; forest < 2; forest++) {
        trueno_regressor *r = forest ? new_forest(100) : new_regressor();
        double before[8], mean = 0;
        for (int i = 0; i < 8; i++) before[i] = predict(r, &rows[i]).predicted_tps;
        trueno_train_report report = learn(r, forest, rows, tps, 100);
        for (int i = 0; i < 8; i++) {
            trueno_prediction p = predict(r, &rows[i]);
            assert_int_equal(p.source, forest ? TRUENO_SOURCE_FOREST : TRUENO_SOURCE_RIDGE);
            double wrong = fabs(p.predicted_tps / tps[i] - 1);
            assert_true(!forest || wrong <= 0.05);
            mean += wrong / 8;
            assert_true(fabs(before[i] / tps[i] - 1) > 0.2); /* so it did learn */
            assert_true(p.predicted_tps <= p.roofline_tps);
        }
        assert_true(mean <= 0.05); /* a line through a curve bends at no batch */
        assert_int_equal(report.n_rows, 100);
        assert_int_equal(report.n_used, 100);
        assert_int_equal(report.n_distinct, 8); /* few points, and it says so */
        assert_int_equal(report.n_held_out, 100);
        assert_true(report.mape > 0 && report.mape < 0.25);
        assert_true(report.constant & UINT64_C(1) << TRUENO_FEATURE_HIDDEN_DIM);
        assert_false(report.constant & UINT64_C(1) << TRUENO_FEATURE_BATCH_SIZE);
        /* resident tokens follow the batch */
        assert_true(report.collinear & UINT64_C(1) << TRUENO_FEATURE_KV_CACHE_TOKENS);
        trueno_regressor_free(r);
    }
}

/* Untrained: the roof and the usual losses, said to be that. */
static void test_prior(void **state)
{
    trueno_regressor *r = new_regressor(), *forest = new_forest(10);
    trueno_features f = TRUENO_FEATURES_INIT;
    (void)state;
    f.model_params_b = 7;
    f.kv_bytes_per_token = 0;
    f.flops_per_token = 0;
    f.gpu_mem_bw_gbs = 1000;
    trueno_prediction p = predict(r, &f), q = predict(forest, &f);
    assert_memory_equal(&p, &q, sizeof p);
    assert_true(fabs(p.roofline_tps / 253.9682540 - 1) <= 1e-6);
    assert_true(fabs(p.efficiency - 0.75) <= 1e-9); /* no compute: the share of bandwidth alone */
    assert_true(fabs(p.predicted_tps / (0.75 * 253.9682540) - 1) <= 1e-6);
    assert_true(p.lo == p.predicted_tps / 2 && p.hi == p.roofline_tps);
    assert_true(p.level == 0 && p.confidence == 0 && p.ttft_ms == 0);
    assert_int_equal(p.source, TRUENO_SOURCE_PRIOR);
    assert_int_equal(p.bound, TRUENO_BOUND_MEMORY);
    assert_true(p.reference_hardware); /* compute and cores are not given */
    f.gpu_compute_tflops = 50;
    f.sm_count = 80;
    assert_false(predict(r, &f).reference_hardware);
    f.is_unified_memory = 1;
    assert_true(fabs(predict(r, &f).efficiency - 0.73) <= 1e-9);
    f.vram_gb = 0;
    assert_true(fabs(predict(r, &f).efficiency - 0.85) <= 1e-9);
    f.flops_per_token = 14e9;
    f.prompt_tokens = 512;
    p = predict(r, &f);
    assert_int_equal(p.bound, TRUENO_BOUND_COMPUTE);
    assert_true(fabs(p.ttft_ms / (512e3 / p.predicted_tps) - 1) <= 1e-9);
    /* Q8_0 is never faster than Q4_K, all else equal */
    trueno_features q8 = f;
    q8.prompt_tokens = TRUENO_UNSET;
    double q4 = predict(r, &q8).predicted_tps;
    q8.quant = TRUENO_QUANT_Q8_0;
    assert_true(predict(r, &q8).predicted_tps < q4);
    trueno_regressor_free(r);
    trueno_regressor_free(forest);
}

/* New rows are predicted about as well as the report says, better than by the prior, and the
 * interval holds about as many as it says. */
static void test_new_rows(void **state)
{
    struct rows seen = random_rows(1500, 1, 0.05), fresh = random_rows(1500, 2, 0.05);
    trueno_regressor *prior = new_regressor();
    (void)state;
    for (int forest = 0; forest < 2; forest++) {
        trueno_regressor *r = forest ? new_forest(40) : new_regressor();
        trueno_train_report report = learn(r, forest, seen.f, seen.tps, seen.n);
        double error = 0, prior_error = 0, held = 0, near = 0;
        for (size_t i = 0; i < fresh.n; i++) {
            trueno_prediction p = predict(r, &fresh.f[i]);
            double e = fabs(p.predicted_tps / fresh.tps[i] - 1);
            error += e / (double)fresh.n;
            near += e <= 0.2;
            prior_error += fabs(predict(prior, &fresh.f[i]).predicted_tps / fresh.tps[i] - 1) /
                           (double)fresh.n;
            held += p.lo <= fresh.tps[i] && fresh.tps[i] <= p.hi;
            assert_true(p.level == 0.9 && p.lo <= p.predicted_tps && p.predicted_tps <= p.hi);
            assert_true(p.confidence > 0);
        }
        assert_true(error < 0.5 * prior_error);
        assert_true(fabs(error / report.mape - 1) < 0.15);
        /* a forest's holds more: a third of the trees judged each row that was held out */
        held /= (double)fresh.n;
        assert_true(held > 0.87 && held < (forest ? 0.97 : 0.93));
        assert_true(fabs(near / (double)fresh.n - predict(r, &fresh.f[0]).confidence) < 0.05);
        assert_true(fabs(report.bias) < 0.02 && report.median_ape < report.mape);
        trueno_regressor_free(r);
    }
    trueno_regressor_free(prior);
    free_rows(&seen);
    free_rows(&fresh);
}

/* Trained on nonsense, the laws still hold: the roof, more bandwidth, more compute, fewer bits, and
 * features that cannot matter. */
static void test_laws(void **state)
{
    struct rows rows = random_rows(400, 3, 1.5);
    struct tr_random random;
    (void)state;
    for (int forest = 0; forest < 2; forest++) {
        trueno_regressor *r = forest ? new_forest(8) : new_regressor();
        learn(r, forest, rows.f, rows.tps, rows.n);
        tr_random_seed(&random, 4, 0);
        for (int i = 0; i < 30000; i++) {
            trueno_features f = random_run(&random), more = f;
            trueno_prediction p = predict(r, &f);
            assert_true(p.predicted_tps > 0 && p.predicted_tps <= p.roofline_tps);
            assert_true(p.hi <= p.roofline_tps && p.lo > 0);
            more.gpu_mem_bw_gbs *= 1.3;
            assert_true(predict(r, &more).predicted_tps >= p.predicted_tps * (1 - 1e-12));
            more = f;
            more.gpu_compute_tflops *= 1.3;
            assert_true(predict(r, &more).predicted_tps >= p.predicted_tps * (1 - 1e-12));
            more = f;
            trueno_features_set_quant(&more, f.quant);
            more.bits_per_weight *= 1.3;
            assert_true(predict(r, &more).predicted_tps <= p.predicted_tps * (1 + 1e-12));
            more = f;
            more.temperature = 7;
            more.top_k = 40;
            more.top_p = 0.5;
            more.rope_theta = 1e6;
            assert_true(predict(r, &more).predicted_tps == p.predicted_tps);
        }
        trueno_regressor_free(r);
    }
    free_rows(&rows);
}

/* f is of every feature but those that act through the floor, and those that cannot matter. */
static void test_learned_slots(void **state)
{
    int n = 0;
    (void)state;
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        trueno_feature_info info;
        assert_int_equal(trueno_feature_info_get(&info, (trueno_feature)i), TRUENO_OK);
        if (info.inert || i == 27 || i == 30 || i == 31) continue;
        assert_true(n < TR_LEARNED && tr_learned_slots[n] == i);
        n++;
    }
    assert_int_equal(n, TR_LEARNED);
}

/* Failing leaves what was learned; rates above the roof teach nothing. */
static void test_refusals(void **state)
{
    static trueno_features rows[100];
    double tps[100];
    trueno_error err = {TRUENO_OK, ""};
    trueno_train_report report = TRUENO_TRAIN_REPORT_INIT;
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_regressor *r = new_forest(5), *plain = new_regressor(), *none;
    (void)state;
    specification_rows(rows, tps);
    learn(r, true, rows, tps, 100);
    double before = predict(r, &rows[3]).predicted_tps;

    assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, 9, &err),
                     TRUENO_ERR_INSUFFICIENT_DATA);
    assert_non_null(strstr(err.message, "9 of 9 rows"));
    assert_int_equal(trueno_regressor_train(r, NULL, rows, tps, 0, NULL),
                     TRUENO_ERR_INSUFFICIENT_DATA);
    assert_int_equal(trueno_regressor_train(r, NULL, rows, tps, SIZE_MAX / 160, NULL),
                     TRUENO_ERR_NO_MEMORY);
    double high[100];
    for (int i = 0; i < 100; i++) high[i] = i < 95 ? 1e7 : tps[i];
    assert_int_equal(trueno_regressor_train(r, NULL, rows, high, 100, &err),
                     TRUENO_ERR_INSUFFICIENT_DATA);
    assert_non_null(strstr(err.message, "95 are at or above their roof"));
    high[0] = NAN;
    assert_int_equal(trueno_regressor_train(r, NULL, rows, high, 100, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "row 0 has nan"));
    rows[42].batch_size = 0;
    assert_int_equal(trueno_regressor_train(r, NULL, rows, tps, 100, &err),
                     TRUENO_ERR_INVALID_FEATURE);
    assert_non_null(strstr(err.message, "row 42: batch_size is 0"));
    rows[42].batch_size = 3;
    assert_true(predict(r, &rows[3]).predicted_tps == before);

    assert_int_equal(trueno_regressor_train_random_forest(plain, NULL, rows, tps, 100, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_train(plain, NULL, NULL, tps, 100, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_train(NULL, NULL, rows, tps, 100, NULL), TRUENO_ERR_ARGUMENT);
    report.struct_size = 4;
    assert_int_equal(trueno_regressor_train(plain, &report, rows, tps, 100, &err),
                     TRUENO_ERR_ARGUMENT);
    p.struct_size = 4;
    assert_int_equal(trueno_regressor_predict(plain, &p, rows, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_regressor_predict(plain, NULL, rows, NULL), TRUENO_ERR_ARGUMENT);
    trueno_prediction fine = TRUENO_PREDICTION_INIT;
    trueno_features unknown = TRUENO_FEATURES_INIT;
    assert_int_equal(trueno_regressor_predict(plain, &fine, &unknown, &err),
                     TRUENO_ERR_INVALID_FEATURE);
    assert_int_equal(trueno_regressor_new(NULL, &none, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(none);
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    o.struct_size = 1;
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &none, 5, &o, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_null(none);
    trueno_regressor_free(r);
    trueno_regressor_free(plain);
    trueno_regressor_free(NULL);
}

/* Same seed, same predictions, bit for bit; another seed, others. */
static void test_seeds(void **state)
{
    struct rows rows = random_rows(200, 5, 0.1);
    double got[3];
    (void)state;
    for (int i = 0; i < 3; i++) {
        trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
        trueno_regressor *r;
        o.seed = i < 2 ? 7 : 8;
        assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 10, &o, NULL), TRUENO_OK);
        learn(r, true, rows.f, rows.tps, rows.n);
        got[i] = predict(r, &rows.f[0]).predicted_tps;
        trueno_regressor_free(r);
    }
    assert_true(got[0] == got[1] && got[0] != got[2]);
    free_rows(&rows);
}

/* Trees that have all seen every row leave no row to judge by, and nothing is claimed. */
static void test_nothing_held_out(void **state)
{
    struct rows rows = random_rows(200, 8, 0.1);
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    trueno_regressor *r;
    (void)state;
    o.bootstrap = false;
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 10, &o, NULL), TRUENO_OK);
    trueno_train_report report = learn(r, true, rows.f, rows.tps, rows.n);
    assert_int_equal(report.n_held_out, 0);
    assert_true(isnan(report.mape) && isnan(report.median_ape) && isnan(report.bias));
    trueno_prediction p = predict(r, &rows.f[0]);
    assert_int_equal(p.source, TRUENO_SOURCE_FOREST);
    assert_true(p.level == 0 && p.confidence == 0 && p.lo == p.predicted_tps / 2);
    trueno_regressor_free(r);
    free_rows(&rows);
}

/* The ridge against its own normal equations: the gradient vanishes. */
static void test_ridge(void **state)
{
    enum { N = 60, F = 4 };
    float x[N][F];
    double y[N];
    struct tr_random random;
    struct tr_ridge m;
    (void)state;
    tr_random_seed(&random, 6, 0);
    for (int i = 0; i < N; i++) {
        for (int k = 0; k < F - 1; k++) x[i][k] = (float)tr_random_unit(&random);
        x[i][F - 1] = 3; /* never varies */
        y[i] = 2 - 4 * (double)x[i][0] + 0.5 * (double)x[i][2];
    }
    tr_ridge_fit(&m, x[0], y, N, F, NULL, 0, 1e-12);
    assert_true(fabs(m.weight[0] + 4) <= 1e-6 && fabs(m.weight[1]) <= 1e-6);
    assert_true(fabs(m.weight[2] - 0.5) <= 1e-6 && m.weight[3] == 0);
    for (int i = 0; i < N; i++) assert_true(fabs(tr_ridge_predict(&m, x[i]) - y[i]) <= 1e-6);

    const double penalty = 0.3;
    tr_ridge_fit(&m, x[0], y, N, F, NULL, 0, penalty);
    for (int k = 0; k < F - 1; k++) {
        double gradient = 0, variance = 0;
        for (int i = 0; i < N; i++) {
            double c = (double)x[i][k] - m.mean[k];
            gradient += c * (y[i] - tr_ridge_predict(&m, x[i]));
            variance += c * c / N;
        }
        assert_true(fabs(gradient - penalty * N * variance * m.weight[k]) <= 1e-9);
    }
}

static void test_no_memory(void **state)
{
    struct rows rows = random_rows(60, 7, 0.1);
    int succeeded = 0;
    (void)state;
    for (size_t call = 1; call < 40; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *c;
        trueno_regressor *r;
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status st = trueno_regressor_with_random_forest(c, &r, 3, NULL, NULL);
        if (st == TRUENO_OK)
            st = trueno_regressor_train_random_forest(r, NULL, rows.f, rows.tps, rows.n, NULL);
        assert_true(st == TRUENO_OK || st == TRUENO_ERR_NO_MEMORY);
        succeeded += st == TRUENO_OK;
        trueno_regressor_free(r);
        trueno_ctx_free(c);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
    assert_true(succeeded > 5 && succeeded < 39);
    free_rows(&rows);
}

/* Measured losses shift the prior of CPU runs on the scale of f, by phase, and nothing else; a
 * trained regressor does not take them. */
static void test_measured_losses(void **state)
{
    trueno_regressor *r;
    struct tr_run run;
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_prediction p = TRUENO_PREDICTION_INIT, gpu = TRUENO_PREDICTION_INIT;
    (void)state;
    assert_int_equal(trueno_regressor_new(ctx, &r, NULL), TRUENO_OK);
    f.model_params_b = 1.1;
    assert_int_equal(trueno_regressor_predict(r, &gpu, &f, NULL), TRUENO_OK);
    assert_true(tr_regressor_set_prior(r, 0.7, -0.5));
    assert_int_equal(trueno_regressor_predict(r, &p, &f, NULL), TRUENO_OK);
    assert_true(p.predicted_tps == gpu.predicted_tps);
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 50;
    f.gpu_compute_tflops = 1;
    f.sm_count = 2;
    for (int prefill = 0; prefill < 2; prefill++) {
        if (prefill) f.prompt_tokens = 512;
        assert_int_equal(tr_run_of(&run, &f, NULL), TRUENO_OK);
        assert_int_equal(trueno_regressor_predict(r, &p, &f, NULL), TRUENO_OK);
        double want = run.times.roof.tokens /
                      (run.times.roof.t_floor + run.times.excess * exp(prefill ? 0.5 : -0.7));
        assert_true(fabs(p.predicted_tps / want - 1) < 1e-12);
    }
    trueno_regressor_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specification),   cmocka_unit_test(test_prior),
        cmocka_unit_test(test_new_rows),        cmocka_unit_test(test_laws),
        cmocka_unit_test(test_learned_slots),   cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_seeds),           cmocka_unit_test(test_ridge),
        cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_nothing_held_out),
        cmocka_unit_test(test_measured_losses),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
