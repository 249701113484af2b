/* SPDX-License-Identifier: MIT */
/* What single features do to a prediction: the same as predicting the run with that feature
 * exchanged, for every model, and nothing where models do not look. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "trueno/learner.h"
#include "tuner/runs.h"

/* The reference run of trueno/predict.h, field by field. */
static trueno_features reference_run(bool gpu, bool prefill)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 1.1;
    f.hidden_dim = 2048;
    f.num_layers = 22;
    f.num_heads = 32;
    f.intermediate_dim = 5632;
    f.vocab_size = 32000;
    f.kv_heads = 4;
    f.head_dim = 64;
    f.tie_embeddings = 0;
    f.batch_size = 1;
    f.seq_len = 512;
    f.context_len = 512;
    f.kv_cache_tokens = prefill ? 0 : 512;
    f.prompt_tokens = prefill ? 512 : 0;
    f.generated_tokens = prefill ? 0 : 128;
    f.phase = prefill ? TRUENO_PHASE_PREFILL : TRUENO_PHASE_DECODE;
    assert_int_equal(trueno_features_set_quant(&f, TRUENO_QUANT_Q4_K), TRUENO_OK);
    f.gpu_mem_bw_gbs = gpu ? 1000 : 50;
    f.gpu_compute_tflops = gpu ? 100 : 2;
    f.sm_count = gpu ? 128 : 4;
    f.tensor_cores = gpu ? 3 : 1;
    f.pcie_gen = gpu ? 4 : 0;
    f.vram_gb = gpu ? 24 : 0;
    f.cpu_threads = gpu ? 1 : 4;
    f.numa_nodes = 1;
    f.system_ram_gb = gpu ? 0 : 16;
    f.is_unified_memory = gpu ? 0 : 1;
    f.power_limit = 0;
    return f;
}

/* A run whose every feature differs from the reference's. */
static trueno_features other_run(bool gpu, bool prefill)
{
    trueno_features f = reference_run(gpu, prefill);
    f.model_params_b = 3.2;
    f.hidden_dim = 3072;
    f.num_layers = 28;
    f.num_heads = 24;
    f.intermediate_dim = 8192;
    f.vocab_size = 128256;
    f.kv_heads = 8;
    f.head_dim = 128;
    f.tie_embeddings = 1;
    f.batch_size = 4;
    f.seq_len = 1500;
    f.context_len = 2048;
    f.kv_cache_tokens = prefill ? 100 : 6000;
    f.prompt_tokens = prefill ? 300 : 0;
    f.draft_tokens = prefill ? 0 : 2;
    f.temperature = 1;
    f.top_k = 40;
    assert_int_equal(trueno_features_set_quant(&f, TRUENO_QUANT_Q6_K), TRUENO_OK);
    f.gpu_mem_bw_gbs = gpu ? 2000 : 90;
    f.gpu_compute_tflops = gpu ? 300 : 7;
    f.sm_count = gpu ? 80 : 16;
    f.cpu_threads = 16;
    f.system_ram_gb = 64;
    return f;
}

/* The run with one feature of the reference; false: it cannot be. */
static bool exchange(trueno_features *f, trueno_feature id, const trueno_features *ref)
{
    double value;
    if (id == TRUENO_FEATURE_BITS_PER_WEIGHT)
        return trueno_features_set_quant(f, ref->quant) == TRUENO_OK;
    assert_int_equal(trueno_features_get(&value, ref, id), TRUENO_OK);
    return trueno_features_set(f, id, value, NULL) == TRUENO_OK &&
           trueno_features_validate(f, NULL) == TRUENO_OK;
}

/* Every effect is that of the exchange, and none of those left out is larger than the least. */
static int check_effects(const trueno_regressor *r, const trueno_features *f,
                         const trueno_features *ref)
{
    trueno_prediction p = predict(r, f);
    double least = p.n_top_features == TRUENO_TOP_FEATURES
                       ? fabs(p.top_features[TRUENO_TOP_FEATURES - 1].effect)
                       : 0.005;
    int n_checked = 0;
    for (int id = 0; id < TRUENO_FEATURE_DIM; id++) {
        trueno_features g = *f;
        double listed = 0;
        if (id >= TRUENO_FEATURE_QUANT_Q4_K && id <= TRUENO_FEATURE_HAS_SCALES &&
            id != TRUENO_FEATURE_BITS_PER_WEIGHT)
            continue;
        for (uint32_t i = 0; i < p.n_top_features; i++)
            if ((int)p.top_features[i].feature == id) listed = p.top_features[i].effect;
        if (!exchange(&g, (trueno_feature)id, ref)) continue; /* it contradicts another feature */
        double want = log(p.predicted_tps / predict(r, &g).predicted_tps);
        if (listed != 0) {
            assert_true(fabs(listed - want) <= 1e-6 * fmax(1, fabs(want)));
            n_checked++;
        } else {
            assert_true(fabs(want) <= least * (1 + 1e-6));
        }
    }
    for (uint32_t i = 0; i < p.n_top_features; i++) {
        assert_true(fabs(p.top_features[i].effect) >= 0.005);
        for (uint32_t k = 0; k < i; k++) {
            assert_true(fabs(p.top_features[k].effect) >= fabs(p.top_features[i].effect));
            assert_true(p.top_features[k].feature != p.top_features[i].feature);
        }
    }
    return n_checked;
}

/* The prior: bytes, operations and nothing else. */
static void test_prior(void **state)
{
    trueno_regressor *r = new_regressor();
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        bool gpu = kind & 1, prefill = kind & 2;
        trueno_features f = other_run(gpu, prefill), ref = reference_run(gpu, prefill);
        assert_true(check_effects(r, &f, &ref) >= 4);
        trueno_prediction p = predict(r, &ref); /* nothing differs */
        assert_int_equal(p.n_top_features, 0);
        ref.gpu_mem_bw_gbs *= 2;
        ref.gpu_compute_tflops *= 2;
        p = predict(r, &ref);
        assert_in_range(p.n_top_features, 1, 2);
        for (uint32_t i = 0; i < p.n_top_features; i++) assert_true(p.top_features[i].effect > 0);
    }
    trueno_regressor_free(r);
}

/* Rows around the run and the reference, so that neither is outside of what was trained. */
static void train(trueno_regressor *r, bool forest, bool gpu, bool prefill)
{
    enum { N = 400 };
    trueno_features *rows = malloc(N * sizeof *rows);
    double *tps = malloc(N * sizeof *tps);
    trueno_regressor *prior = new_regressor();
    struct tr_random random;
    assert_true(rows && tps);
    tr_random_seed(&random, 5, 0);
    for (int i = 0; i < N; i++) {
        trueno_features a = reference_run(gpu, prefill), b = other_run(gpu, prefill);
        for (int id = 0; id < TRUENO_FEATURE_DIM; id++) {
            trueno_features changed = a;
            if (tr_random_below(&random, 2) && exchange(&changed, (trueno_feature)id, &b))
                a = changed;
        }
        rows[i] = i == 0 ? reference_run(gpu, prefill) : i == 1 ? b : a;
        tps[i] = true_rate(prior, &rows[i], &random, 0.02);
    }
    trueno_status status = forest
                               ? trueno_regressor_train_random_forest(r, NULL, rows, tps, N, NULL)
                               : trueno_regressor_train(r, NULL, rows, tps, N, NULL);
    assert_int_equal(status, TRUENO_OK);
    trueno_regressor_free(prior);
    free(rows);
    free(tps);
}

static void test_trained(void **state)
{
    (void)state;
    for (int kind = 0; kind < 8; kind++) {
        bool gpu = kind & 1, prefill = kind & 2, forest = kind & 4;
        trueno_regressor *r;
        trueno_features f = other_run(gpu, prefill), ref = reference_run(gpu, prefill);
        assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 30, NULL, NULL), TRUENO_OK);
        train(r, forest, gpu, prefill);
        assert_true(check_effects(r, &f, &ref) >= 4);
        /* the threads, by which the law goes, are among them on their own */
        trueno_features g = ref;
        g.cpu_threads = 16;
        trueno_prediction p = predict(r, &g);
        bool found = false;
        for (uint32_t i = 0; i < p.n_top_features; i++)
            found |= p.top_features[i].feature == TRUENO_FEATURE_CPU_THREADS &&
                     p.top_features[i].effect > 0.02;
        assert_true(found);
        /* what running adds belongs to no feature, and leaves their effects where they are */
        trueno_learner *l;
        assert_int_equal(trueno_learner_new(r, &l, NULL), TRUENO_OK);
        for (int i = 0; i < 20; i++)
            assert_int_equal(
                trueno_learner_observe_run(l, &f, 0.6 * predict(r, &f).predicted_tps, NULL),
                TRUENO_OK);
        assert_int_equal(trueno_regressor_apply_learner(r, l, NULL), TRUENO_OK);
        trueno_prediction q = predict(r, &ref);
        assert_int_equal(q.n_top_features, 0);
        trueno_learner_free(l);
        trueno_regressor_free(r);
    }
}

/* A feature that never varied says nothing, however far the run is from the reference there. */
static void test_constant(void **state)
{
    struct rows rows = random_rows(300, 9, 0.02);
    trueno_regressor *r;
    (void)state;
    for (size_t i = 0; i < rows.n; i++) rows.f[i].cpu_threads = 2;
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 30, NULL, NULL), TRUENO_OK);
    for (int forest = 0; forest < 2; forest++) {
        trueno_status status =
            forest ? trueno_regressor_train_random_forest(r, NULL, rows.f, rows.tps, rows.n, NULL)
                   : trueno_regressor_train(r, NULL, rows.f, rows.tps, rows.n, NULL);
        assert_int_equal(status, TRUENO_OK);
        for (size_t i = 0; i < 50; i++) {
            trueno_features f = rows.f[i];
            trueno_prediction p = predict(r, &f);
            assert_true(p.n_top_features > 0);
            for (uint32_t k = 0; k < p.n_top_features; k++) {
                trueno_feature_info info;
                trueno_feature_info_get(&info, p.top_features[k].feature);
                assert_false(info.inert);
                assert_int_not_equal(p.top_features[k].feature, TRUENO_FEATURE_CPU_THREADS);
            }
        }
    }
    trueno_regressor_free(r);
    free_rows(&rows);
}

/* Where the reference is outside of what was trained, the nearest value inside takes its place: a
 * line is not followed to where nobody measured. */
static void test_outside(void **state)
{
    struct rows rows = random_rows(300, 9, 0.02);
    trueno_regressor *r = new_regressor();
    (void)state;
    for (size_t i = 0; i < rows.n; i++) {
        trueno_regressor *prior = new_regressor();
        struct tr_random random;
        tr_random_seed(&random, i, 0);
        rows.f[i].cpu_threads = 8 + (double)(i % 9);
        rows.f[i].vram_gb = 0; /* the reference has 4 threads */
        rows.tps[i] = true_rate(prior, &rows.f[i], &random, 0.02);
        trueno_regressor_free(prior);
    }
    assert_int_equal(trueno_regressor_train(r, NULL, rows.f, rows.tps, rows.n, NULL), TRUENO_OK);
    bool found = false;
    for (size_t i = 0; i < rows.n; i++) {
        trueno_features f = rows.f[i], g = rows.f[i];
        g.cpu_threads = 8;
        trueno_prediction p = predict(r, &f);
        double want = log(p.predicted_tps / predict(r, &g).predicted_tps);
        for (uint32_t k = 0; k < p.n_top_features; k++) {
            if (p.top_features[k].feature != TRUENO_FEATURE_CPU_THREADS) continue;
            assert_true(fabs(p.top_features[k].effect - want) < 1e-6);
            found = true;
        }
    }
    assert_true(found);
    trueno_regressor_free(r);
    free_rows(&rows);
}

/* Exact bytes change as the features that they stand for. */
static void test_exact_bytes(void **state)
{
    trueno_regressor *r = new_regressor();
    trueno_features f = other_run(false, false);
    (void)state;
    f.kv_cache_tokens = 0;
    f.batch_size = 1;
    f.draft_tokens = 0;
    f.flops_per_token = 1; /* memory alone */
    f.weight_bytes_per_pass = 5e9;
    f.kv_bytes_per_token = 0;
    trueno_prediction p = predict(r, &f);
    double params = 0, bits = 0;
    for (uint32_t i = 0; i < p.n_top_features; i++) {
        if (p.top_features[i].feature == TRUENO_FEATURE_MODEL_PARAMS_B)
            params = p.top_features[i].effect;
        if (p.top_features[i].feature == TRUENO_FEATURE_BITS_PER_WEIGHT)
            bits = p.top_features[i].effect;
    }
    /* rates go as 1 / bytes */
    assert_true(fabs(params - log(1.1 / 3.2)) < 1e-6);
    assert_true(fabs(bits - log(4.5 / 6.5625)) < 1e-6);
    trueno_regressor_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prior),       cmocka_unit_test(test_trained),
        cmocka_unit_test(test_constant),    cmocka_unit_test(test_outside),
        cmocka_unit_test(test_exact_bytes),
    };
    return cmocka_run_group_tests_name("effects", tests, setup, teardown);
}
