/* SPDX-License-Identifier: MIT */
/* Laws that no training breaks, over a million random runs through the tuner: nothing exceeds its
 * roof, and more bandwidth, more compute or fewer bits never predict less. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/hooks.h"
#include "tuner/random.h"
#include "tuner/tuner_test.h"

#if TEST_ASAN
enum { RUNS = 20000 };
#else
enum { RUNS = 1000000 };
#endif

/* On a logarithmic scale. */
static double between(struct tr_random *random, double from, double to)
{
    return from * pow(to / from, tr_random_unit(random));
}

/* Anything that features may say, far beyond what was trained. */
static trueno_features any_run(struct tr_random *random)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = between(random, 1e-4, 16000);
    f.batch_size = floor(between(random, 1, 65535));
    if (tr_random_below(random, 2)) f.batch_size = 1 + tr_random_below(random, 16);
    f.quant = (trueno_quant)tr_random_below(random, TRUENO_QUANT_COUNT);
    f.gpu_mem_bw_gbs = between(random, 0.01, 30000);
    f.gpu_compute_tflops = between(random, 0.001, 30000);
    f.sm_count = floor(between(random, 1, 4095));
    f.vram_gb = tr_random_below(random, 2) ? floor(between(random, 1, 65535)) : 0;
    f.is_unified_memory = tr_random_below(random, 2);
    f.cpu_threads = floor(between(random, 1, 65535));
    f.tensor_cores = tr_random_below(random, 5);
    if (tr_random_below(random, 3) == 0) f.prompt_tokens = floor(between(random, 1, 100000));
    if (tr_random_below(random, 3) == 0) f.generated_tokens = floor(between(random, 1, 100000));
    if (tr_random_below(random, 3) == 0) f.draft_tokens = tr_random_below(random, 256);
    if (tr_random_below(random, 3) == 0) f.context_len = floor(between(random, 400000, 16777215));
    if (tr_random_below(random, 5) == 0) f.kv_bytes_per_token = 0;
    if (tr_random_below(random, 5) == 0) f.weight_bytes_per_pass = between(random, 1e3, 1e14);
    if (tr_random_below(random, 5) == 0) f.flops_per_token = between(random, 1e3, 1e14);
    if (tr_random_below(random, 4) == 0) {
        f.num_layers = 1 + tr_random_below(random, 4095);
        f.kv_heads = 1 + tr_random_below(random, 64);
        f.num_heads = f.kv_heads * (1 + tr_random_below(random, 16));
        f.head_dim = 1 + tr_random_below(random, 512);
    }
    return f;
}

/* Runs on all kinds of devices at rates that follow no law, but below their roofs. */
static void train_on_nonsense(trueno_tuner *t, int kind)
{
    enum { N = 300 };
    static trueno_features rows[N];
    static double tps[N];
    trueno_tuner *plain = make_tuner(ctx, TRUENO_TUNER_OFF);
    trueno_regressor *r;
    struct tr_random random;
    tr_random_seed(&random, 5, 0);
    for (int i = 0; i < N; i++) {
        rows[i] = any_run(&random);
        tps[i] = predict_by(plain, &rows[i]).roofline_tps * between(&random, 1e-3, 0.999);
    }
    trueno_tuner_free(plain);
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 10, NULL, NULL), TRUENO_OK);
    if (kind == 1) assert_int_equal(trueno_regressor_train(r, NULL, rows, tps, N, NULL), TRUENO_OK);
    if (kind == 2)
        assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, N, NULL),
                         TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(t, r, NULL, NULL), TRUENO_OK);
    trueno_regressor_free(r);
    for (int i = 0; kind == 3 && i < N; i++)
        assert_int_equal(trueno_tuner_observe_run(t, &rows[i], tps[i], NULL), TRUENO_OK);
}

static bool lawful(const trueno_prediction *p)
{
    return p->predicted_tps > 0 && p->predicted_tps <= p->roofline_tps &&
           isfinite(p->roofline_tps) && p->lo >= 0 && p->lo <= p->predicted_tps &&
           p->hi >= p->predicted_tps && p->hi <= p->roofline_tps;
}

/* prior, ridge, forest, online learner */
static void test_roof(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN);
        struct tr_random random;
        size_t broken = 0;
        train_on_nonsense(t, kind);
        tr_random_seed(&random, 6, 0);
        for (int i = 0; i < RUNS / 4; i++) {
            trueno_features f = any_run(&random);
            trueno_prediction p = predict_by(t, &f);
            broken += !lawful(&p);
        }
        assert_int_equal(broken, 0);
        trueno_tuner_free(t);
    }
}

/* Rates of one run after another may differ in their last bits. */
static bool not_less(double a, double b)
{
    return a >= b * (1 - 1e-12);
}

static void test_monotone(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN);
        struct tr_random random;
        size_t broken[3] = {0}, moved[3] = {0};
        train_on_nonsense(t, kind);
        tr_random_seed(&random, 7, 0);
        for (int i = 0; i < RUNS / 20; i++) {
            trueno_features f = any_run(&random), more = f;
            double rate = predict_by(t, &f).predicted_tps, then[3];
            more.gpu_mem_bw_gbs *= 1 + tr_random_unit(&random);
            then[0] = predict_by(t, &more).predicted_tps;
            more = f;
            more.gpu_compute_tflops *= 1 + tr_random_unit(&random);
            then[1] = predict_by(t, &more).predicted_tps;
            more = f;
            assert_int_equal(trueno_features_set_quant(&more, f.quant), TRUENO_OK);
            more.bits_per_weight *= 0.8 + 0.2 * tr_random_unit(&random);
            then[2] = predict_by(t, &more).predicted_tps;
            for (int k = 0; k < 3; k++) {
                broken[k] += !not_less(then[k], rate);
                moved[k] += then[k] > rate;
            }
        }
        for (int k = 0; k < 3; k++) {
            assert_int_equal(broken[k], 0);
            assert_true(moved[k] > RUNS / 100);
        }
        trueno_tuner_free(t);
    }
}

/* Decoding Q8_0 is not predicted faster than Q4_K, all else equal, by what knows the rates of
 * both types in truth, or one of them, or nothing. */
static void test_more_bits_are_not_faster(void **state)
{
    enum { N = 400 };
    static trueno_features rows[N];
    static double tps[N];
    struct tr_random random;
    trueno_regressor *r;
    (void)state;
    tr_random_seed(&random, 8, 0);
    for (int kind = 0; kind < 3; kind++) { /* prior, Q4_K alone, both */
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
        for (int i = 0; i < N; i++) {
            rows[i] = cpu_run(between(&random, 0.1, 70), 1 + tr_random_below(&random, 8));
            rows[i].gpu_mem_bw_gbs = between(&random, 10, 200);
            if (kind == 2 && i % 2) rows[i].quant = TRUENO_QUANT_Q8_0;
            tps[i] = predict_by(t, &rows[i]).roofline_tps * 0.7;
        }
        assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 20, NULL, NULL), TRUENO_OK);
        if (kind > 0)
            assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, N, NULL),
                             TRUENO_OK);
        assert_int_equal(trueno_tuner_set_models(t, r, NULL, NULL), TRUENO_OK);
        trueno_regressor_free(r);
        for (int i = 0; i < RUNS / 50; i++) {
            trueno_features f = any_run(&random), g;
            if (kind > 0) f = cpu_run(between(&random, 0.1, 70), 1 + tr_random_below(&random, 8));
            f.prompt_tokens = TRUENO_UNSET;
            f.weight_bytes_per_pass = TRUENO_UNSET;
            f.quant = TRUENO_QUANT_Q4_K;
            g = f;
            g.quant = TRUENO_QUANT_Q8_0;
            double q4 = predict_by(t, &f).predicted_tps, q8 = predict_by(t, &g).predicted_tps;
            if (!not_less(q4, q8)) fail_msg("kind %d: Q8_0 %g, Q4_K %g", kind, q8, q4);
        }
        trueno_tuner_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roof),
        cmocka_unit_test(test_monotone),
        cmocka_unit_test(test_more_bits_are_not_faster),
    };
    return cmocka_run_group_tests(tests, make_shared, free_shared);
}
