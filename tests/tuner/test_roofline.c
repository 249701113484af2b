/* SPDX-License-Identifier: MIT */
/* The roofline against worked examples and by its laws over random runs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tuner/random.h"
#include "tuner/roofline.h"

static struct tr_roofline roof(const trueno_features *f)
{
    struct tr_roofline r;
    trueno_error err = {TRUENO_OK, ""};
    if (tr_roofline_of(&r, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return r;
}

static void expect_tps(const trueno_features *f, double tps)
{
    double got = roof(f).tps;
    if (!(fabs(got / tps - 1) <= 1e-6)) fail_msg("%.6f tokens/s, not %.6f", got, tps);
}

/* 7 B weights at 1000 GB/s and 100 TFLOPS, nothing but weights. */
static trueno_features example(void)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 7;
    f.gpu_mem_bw_gbs = 1000;
    f.gpu_compute_tflops = 100;
    f.kv_bytes_per_token = 0;
    f.flops_per_token = 14e9;
    return f;
}

static void test_worked_examples(void **state)
{
    trueno_features f = example();
    (void)state;
    expect_tps(&f, 253.9682540); /* Q4_K: 144 bytes for 256 weights */
    f.bits_per_weight = 4;
    expect_tps(&f, 285.7142857); /* bandwidth / (weights x bytes per weight) */
    f = example();
    f.batch_size = 4;
    expect_tps(&f, 1015.8730159);
    f = example();
    f.prompt_tokens = 512;
    expect_tps(&f, 7142.8571429); /* limited by arithmetic */
    f = example();
    trueno_features_set_quant(&f, TRUENO_QUANT_Q8_0);
    expect_tps(&f, 134.4537815);
    f = example();
    f.draft_tokens = 3; /* four tokens for one pass over the weights */
    expect_tps(&f, 1015.8730159);
    f = example();
    f.cache_bytes = 7e9 * 0.5625 / 4; /* a quarter is there */
    expect_tps(&f, 338.6243386);
    f.cache_bytes = 4e9; /* all of it: arithmetic is what is left */
    expect_tps(&f, 7142.8571429);
}

/* By hand for a small geometry: bytes and operations without side fields. */
static void test_geometry(void **state)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    (void)state;
    f.model_params_b = 0.001;
    f.hidden_dim = 64;
    f.vocab_size = 1000;
    f.num_layers = 2;
    f.num_heads = 4;
    f.kv_heads = 2;
    f.head_dim = 16;
    f.batch_size = 3;
    f.seq_len = 10; /* 10 tokens of each sequence are resident, and one is written */
    struct tr_roofline r = roof(&f);
    assert_true(r.tokens == 3);
    assert_true(fabs(r.weight_bytes - 562500) <= 1e-3);
    assert_true(r.kv_bytes == (30 + 3) * 2 * 2 * 2 * 2 * 16.0);
    assert_true(fabs(r.matmul_flops - 2 * 3 * (1e6 - 64000)) <= 1e-3);
    assert_true(r.attention_flops == 4.0 * 4 * 16 * 2 * 3 * 10);
    f.tie_embeddings = 1; /* the table is the output matrix */
    assert_true(fabs(roof(&f).matmul_flops - 6e6) <= 1e-3);
    f.seq_len = TRUENO_UNSET;
    f.prompt_tokens = 4; /* the tokens attend to 1, 2, 3 and 4 */
    r = roof(&f);
    assert_true(r.tokens == 12);
    assert_true(r.kv_bytes == 12 * 2 * 2 * 2 * 2 * 16.0);
    /* the last token of each sequence alone gives logits */
    assert_true(fabs(r.matmul_flops - 2 * (12 * (1e6 - 64000) + 3 * 64000)) <= 1e-3);
    f.tie_embeddings = 0;
    assert_true(fabs(roof(&f).matmul_flops - 2 * (12 * (1e6 - 128000) + 3 * 64000)) <= 1e-3);
    assert_true(r.attention_flops == 4.0 * 4 * 16 * 2 * 3 * 10);
    f.seq_len = f.context_len = 6; /* two were there before: 3, 4, 5 and 6 */
    assert_true(roof(&f).attention_flops == 4.0 * 4 * 16 * 2 * 3 * 18);
}

static void test_laws(void **state)
{
    struct tr_random random;
    (void)state;
    tr_random_seed(&random, 1, 0);
    for (int i = 0; i < 100000; i++) {
        trueno_features f = TRUENO_FEATURES_INIT;
        f.model_params_b = exp2(tr_random_unit(&random) * 20 - 10);
        f.batch_size = 1 + tr_random_below(&random, 64);
        f.quant = (trueno_quant)tr_random_below(&random, TRUENO_QUANT_COUNT);
        f.gpu_mem_bw_gbs = exp2(tr_random_unit(&random) * 10 + 3);
        f.gpu_compute_tflops = exp2(tr_random_unit(&random) * 10);
        if (i % 3 == 0) f.prompt_tokens = 1 + tr_random_below(&random, 4096);
        if (i % 3 == 1) f.kv_cache_tokens = tr_random_below(&random, 100000);
        struct tr_roofline r = roof(&f);
        trueno_features more = f;
        assert_true(r.tps > 0 && isfinite(r.tps));
        more.gpu_mem_bw_gbs *= 1.5;
        assert_true(roof(&more).tps >= r.tps);
        more = f;
        more.gpu_compute_tflops *= 1.5;
        assert_true(roof(&more).tps >= r.tps);
        more = f;
        more.bits_per_weight = 1.2 * r.weight_bytes * 8 / (f.model_params_b * 1e9);
        assert_true(roof(&more).tps <= r.tps);
        /* one sequence cannot be faster than the weights can be read */
        double alone = f.gpu_mem_bw_gbs * 1e9 / r.weight_bytes;
        if (!(f.prompt_tokens > 0)) assert_true(r.tps / f.batch_size <= alone * (1 + 1e-12));
    }
}

static void test_refusals(void **state)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_error err = {TRUENO_OK, ""};
    struct tr_roofline r = {.tps = 1};
    (void)state;
    assert_int_equal(tr_roofline_of(&r, &f, &err), TRUENO_ERR_INVALID_FEATURE);
    assert_non_null(strstr(err.message, "model_params_b is not given"));
    assert_true(r.tps == 0);
    f = example();
    f.batch_size = 0;
    assert_int_equal(tr_roofline_of(&r, &f, NULL), TRUENO_ERR_INVALID_FEATURE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worked_examples),
        cmocka_unit_test(test_geometry),
        cmocka_unit_test(test_laws),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
