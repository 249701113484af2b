/* SPDX-License-Identifier: MIT */
/* Bottlenecks from hand-made parts, experiments from what a regressor says. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/advice.h"

static trueno_ctx *ctx;

static void expect_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * fabs(want) + 1e-15)) fail_msg("%.17g, not %.17g", got, want);
}

static trueno_features gpu(double params_b, uint32_t batch)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = params_b;
    f.batch_size = batch;
    f.vram_gb = 80;
    f.gpu_mem_bw_gbs = 1000;
    f.gpu_compute_tflops = 100;
    return f;
}

static trueno_features cpu(double params_b, uint32_t batch, uint32_t threads)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = params_b;
    f.batch_size = batch;
    f.cpu_threads = threads;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 20;
    f.gpu_compute_tflops = 0.2;
    f.sm_count = 8;
    return f;
}

static trueno_bottleneck bottleneck(const trueno_features *f)
{
    trueno_bottleneck b = TRUENO_BOTTLENECK_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_bottleneck_of(&b, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return b;
}

/* ------------------------------------------------------------------- bottleneck */

/* Reading 10 ms, multiplying 2 ms, attention 1 ms, 50 layers of 15 launches of 2 us. */
static trueno_features by_hand(void)
{
    trueno_features f = gpu(8, 1);
    f.weight_bytes_per_pass = 0.01 * 750e9;
    f.flops_per_token = 0.002 * 45e12;
    f.kv_bytes_per_token = 0.001 * 750e9 / 2; /* one in the cache, one that is new */
    f.num_layers = 50;
    return f;
}

static void test_shares(void **state)
{
    trueno_features f = by_hand();
    (void)state;
    trueno_bottleneck b = bottleneck(&f);
    double total = 0.01 + 0.2 * 0.002 + 0.001 + 0.0015;
    expect_near(b.memory, 0.01 / total);
    expect_near(b.compute, 0.2 * 0.002 / total);
    expect_near(b.attention, 0.001 / total);
    expect_near(b.launch, 0.0015 / total);
    assert_true(b.other == 0 && !b.measured);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_MEMORY);
    assert_string_equal(b.explanation, "Of the predicted time 78 % reads weights, 3 % multiplies "
                                       "with them, 8 % is attention, 12 % launches kernels.");

    f.flops_per_token = 0.03 * 45e12;
    f.cuda_graphs = 1;
    b = bottleneck(&f);
    total = 0.03 + 0.2 * 0.01 + 0.001 + 0.000375;
    expect_near(b.memory, 0.2 * 0.01 / total);
    expect_near(b.compute, 0.03 / total);
    expect_near(b.launch, 0.000375 / total);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_COMPUTE);

    f = cpu(8, 1, 9);
    f.weight_bytes_per_pass = 0.17 * 17e9; /* 170 ms at 0.85 of 20 GB/s */
    f.flops_per_token = 0.1 * 0.12e12;     /* 100 ms at 0.6 of 0.2 Top/s */
    f.kv_bytes_per_token = 0;
    f.num_layers = 40; /* 200 barriers of 2.6 us */
    b = bottleneck(&f);
    total = 0.17 + 0.02 + 200 * 2.6e-6;
    expect_near(b.memory, 0.17 / total);
    expect_near(b.launch, 200 * 2.6e-6 / total);

    f.cache_bytes = f.weight_bytes_per_pass / 2; /* half of the weights stay in the cache */
    b = bottleneck(&f);
    total = 0.1 + 0.2 * 0.085 + 200 * 2.6e-6;
    expect_near(b.memory, 0.2 * 0.085 / total);
    expect_near(b.compute, 0.1 / total);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_COMPUTE);
    f.cache_bytes = TRUENO_UNSET;
    b = bottleneck(&f);
    total = 0.17 + 0.02 + 200 * 2.6e-6;
    assert_non_null(strstr(b.explanation, "waits at barriers"));
    f.cpu_threads = 1;
    assert_true(bottleneck(&f).launch == 0);
    f = gpu(8, 1);
    f.is_unified_memory = 1;
    f.weight_bytes_per_pass = 0.01 * 730e9;
    f.flops_per_token = f.kv_bytes_per_token = 0;
    f.num_layers = 100;
    b = bottleneck(&f);
    expect_near(b.memory, 0.01 / 0.013);
}

/* Phi by Simpson's rule. */
static double normal(double z)
{
    double sum = 0, h = (z + 12) / 4000;
    for (int i = 0; i <= 4000; i++) {
        double x = -12 + i * h, weight = i == 0 || i == 4000 ? 1 : i % 2 ? 4 : 2;
        sum += weight * exp(-x * x / 2);
    }
    return sum * h / 3 / sqrt(2 * 3.14159265358979323846);
}

static double z(double a, double b)
{
    return log(a / b) / (0.25 * sqrt(2));
}

/* The probability that a rule with other numbers says the same. */
static void test_confidence(void **state)
{
    trueno_features f = by_hand();
    (void)state;
    f.flops_per_token = 0.009 * 45e12;
    trueno_bottleneck b = bottleneck(&f);
    double a = b.attention, l = b.launch;
    double not_attention = 1 - normal(z(a / (1 - a), 0.35 / 0.65));
    double not_launch = 1 - normal(z(l / (1 - l), 0.25 / 0.75));
    double want = not_attention * not_launch * normal(z(0.01, 0.009));
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_MEMORY);
    assert_true(fabs(b.confidence - want) <= 1e-6 && want > 0.4 && want < 0.7);

    f.kv_bytes_per_token *= 8;
    b = bottleneck(&f);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_ATTENTION);
    want = normal(z(b.attention / (1 - b.attention), 0.35 / 0.65));
    assert_true(fabs(b.confidence - want) <= 1e-6 && want > 0.5 && want < 0.9);
    f.kv_bytes_per_token *= 100;
    b = bottleneck(&f);
    assert_true(b.confidence == 0.99); /* no more than that */

    f = by_hand();
    f.num_layers = 200;
    f.kv_bytes_per_token *= 5; /* attention is not far from its threshold */
    b = bottleneck(&f);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_LAUNCH);
    a = b.attention;
    l = b.launch;
    want = (1 - normal(z(a / (1 - a), 0.35 / 0.65))) * normal(z(l / (1 - l), 0.25 / 0.75));
    assert_true(fabs(b.confidence - want) <= 1e-6);
}

static void expect_class(const trueno_features *f, trueno_bottleneck_class want)
{
    trueno_bottleneck b = bottleneck(f);
    if (b.kind != want)
        fail_msg("%s, not %s: %s", trueno_bottleneck_name(b.kind), trueno_bottleneck_name(want),
                 b.explanation);
    expect_near(b.memory + b.compute + b.attention + b.launch,
                want == TRUENO_BOTTLENECK_UNKNOWN ? 0 : 1);
    assert_true(strlen(b.explanation) > 20);
    assert_true((b.action[0] != 0) == (want != TRUENO_BOTTLENECK_UNKNOWN));
    assert_true(want == TRUENO_BOTTLENECK_UNKNOWN ? b.confidence == 0
                                                  : b.confidence > 0.2 && b.confidence < 1);
    if (f->vram_gb == 0) {
        assert_null(strstr(b.action, "CUDA"));
        assert_null(strstr(b.action, "raph"));
    }
}

/* Real models in realistic use reach every class, on both kinds of device. */
static void test_classes(void **state)
{
    trueno_features f = gpu(7, 1);
    (void)state;
    expect_class(&f, TRUENO_BOTTLENECK_MEMORY);
    f.prompt_tokens = 2048;
    expect_class(&f, TRUENO_BOTTLENECK_COMPUTE);
    f = gpu(8, 32);
    f.seq_len = 16384;
    expect_class(&f, TRUENO_BOTTLENECK_ATTENTION);
    f = gpu(0.5, 1);
    expect_class(&f, TRUENO_BOTTLENECK_LAUNCH);
    assert_non_null(strstr(bottleneck(&f).action, "CUDA graphs"));
    f.cuda_graphs = 1;
    assert_null(strstr(bottleneck(&f).action, "graphs"));

    f = cpu(1.1, 1, 2);
    expect_class(&f, TRUENO_BOTTLENECK_MEMORY);
    f.prompt_tokens = 128;
    expect_class(&f, TRUENO_BOTTLENECK_COMPUTE);
    f = cpu(8, 8, 8);
    f.seq_len = 16384;
    f.gpu_compute_tflops = 2;
    expect_class(&f, TRUENO_BOTTLENECK_ATTENTION);
    f = cpu(0.135, 1, 64);
    f.gpu_mem_bw_gbs = 300;
    f.gpu_compute_tflops = 10;
    f.sm_count = 64;
    expect_class(&f, TRUENO_BOTTLENECK_LAUNCH);
    assert_non_null(strstr(bottleneck(&f).action, "ewer threads"));
    f.cpu_threads = 4;
    f.gpu_mem_bw_gbs = 60; /* of four threads */
    expect_class(&f, TRUENO_BOTTLENECK_MEMORY);

    f = gpu(7, 1);
    f.model_params_b = TRUENO_UNSET;
    expect_class(&f, TRUENO_BOTTLENECK_UNKNOWN);
    f = cpu(7, 1, 2);
    f.gpu_mem_bw_gbs = f.gpu_compute_tflops = f.sm_count = TRUENO_UNSET;
    expect_class(&f, TRUENO_BOTTLENECK_UNKNOWN);
    f = cpu(7, 1, 2);
    f.gpu_compute_tflops = TRUENO_UNSET;
    expect_class(&f, TRUENO_BOTTLENECK_UNKNOWN);
    f = cpu(7, 1, 2);
    f.sm_count = TRUENO_UNSET; /* changes no share */
    expect_class(&f, TRUENO_BOTTLENECK_MEMORY);
}

/* Whatever a CPU does. */
static void test_cpu_advice(void **state)
{
    static const double sizes[] = {0.135, 1.1, 8, 70}, seqs[] = {1, 1000, 100000};
    unsigned seen = 0;
    (void)state;
    for (int i = 0; i < 4 * 3 * 4 * 4; i++) {
        trueno_features f = cpu(sizes[i % 4], 1U << 2 * (i / 12 % 4), 1U << 2 * (i / 48));
        trueno_stage_times t = TRUENO_STAGE_TIMES_INIT;
        f.seq_len = seqs[i / 4 % 3];
        trueno_bottleneck b = bottleneck(&f);
        t.total = 1;
        t.launch = 0.5 * (i % 2);
        for (int measured = 0; measured < 2; measured++) {
            assert_null(strstr(b.action, "CUDA"));
            assert_null(strstr(b.action, "raph"));
            assert_null(strstr(b.action, "tensor"));
            assert_null(strstr(b.explanation, "launches"));
            seen |= 1U << b.kind;
            assert_int_equal(trueno_bottleneck_from_times(&b, &t, &f, NULL), TRUENO_OK);
        }
    }
    assert_int_equal(seen & 0x1a, 0x1a); /* memory, attention and launch, at least */
}

static void test_names(void **state)
{
    static const char *const names[] = {"unknown", "memory", "compute", "attention", "launch"};
    (void)state;
    for (int i = 0; i < 5; i++)
        assert_string_equal(trueno_bottleneck_name((trueno_bottleneck_class)i), names[i]);
    assert_string_equal(trueno_bottleneck_name((trueno_bottleneck_class)5), "unknown");
    assert_string_equal(trueno_bottleneck_name((trueno_bottleneck_class)-1), "unknown");
}

static trueno_bottleneck measured(double matmul, double attention, double launch, double total,
                                  const trueno_features *f)
{
    trueno_bottleneck b = TRUENO_BOTTLENECK_INIT;
    trueno_stage_times t = TRUENO_STAGE_TIMES_INIT;
    trueno_error err = {TRUENO_OK, ""};
    t.matmul = matmul;
    t.attention = attention;
    t.launch = launch;
    t.total = total;
    if (trueno_bottleneck_from_times(&b, &t, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    assert_true(b.measured);
    expect_near(b.memory + b.compute + b.attention + b.launch + b.other, 1);
    return b;
}

static void test_measured(void **state)
{
    trueno_features f = by_hand(); /* products: 10 ms of reading, 0.4 ms of multiplying */
    (void)state;
    trueno_bottleneck b = measured(5.2, 1, 0.5, 10, &f);
    expect_near(b.memory, 0.5);
    expect_near(b.compute, 0.02);
    expect_near(b.attention, 0.1);
    expect_near(b.launch, 0.05);
    expect_near(b.other, 0.33);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_MEMORY);
    assert_true(b.confidence > 0.98);
    assert_string_equal(b.explanation,
                        "Of the measured time 50 % reads weights, 2 % multiplies with them, 10 % "
                        "is attention, 5 % launches kernels, 33 % is other.");
    assert_int_equal(measured(5, 3.6, 1, 10, &f).kind, TRUENO_BOTTLENECK_ATTENTION);
    assert_int_equal(measured(5, 3.4, 1, 10, &f).kind, TRUENO_BOTTLENECK_MEMORY);
    assert_int_equal(measured(5, 1, 2.6, 10, &f).kind, TRUENO_BOTTLENECK_LAUNCH);
    assert_int_equal(measured(5, 1, 2.4, 10, &f).kind, TRUENO_BOTTLENECK_MEMORY);
    assert_true(measured(5, 3.6, 1, 10, &f).confidence < measured(3, 6, 1, 10, &f).confidence);
    measured(5, 1, 1, 6.95, &f); /* clocks differ by less than 1 % */

    f.model_params_b = f.weight_bytes_per_pass = TRUENO_UNSET;
    b = measured(5, 1, 1, 10, &f);
    assert_int_equal(b.kind, TRUENO_BOTTLENECK_UNKNOWN);
    assert_true(b.memory == 0 && b.compute == 0 && b.confidence == 0);
    expect_near(b.other, 0.8);
    assert_int_equal(measured(2, 7, 1, 10, &f).kind, TRUENO_BOTTLENECK_ATTENTION);
    assert_int_equal(measured(2, 2, 5, 10, &f).kind, TRUENO_BOTTLENECK_LAUNCH);
}

static void test_refused(void **state)
{
    trueno_features f = gpu(7, 1);
    trueno_bottleneck b = TRUENO_BOTTLENECK_INIT, fresh = TRUENO_BOTTLENECK_INIT;
    trueno_stage_times good = TRUENO_STAGE_TIMES_INIT, t;
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    assert_int_equal(trueno_bottleneck_of(NULL, &f, NULL), TRUENO_ERR_ARGUMENT);
    b = bottleneck(&f);
    assert_int_equal(trueno_bottleneck_of(&b, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_memory_equal(&b, &fresh, sizeof b);
    f.batch_size = NAN;
    assert_int_equal(trueno_bottleneck_of(&b, &f, &err), TRUENO_ERR_INVALID_FEATURE);
    assert_non_null(strstr(err.message, "batch_size"));
    f = gpu(7, 1);
    f.struct_size = 8;
    assert_int_equal(trueno_bottleneck_of(&b, &f, &err), TRUENO_ERR_ARGUMENT);
    f = cpu(7, 1, 1);
    f.cuda_graphs = 1;
    assert_int_equal(trueno_bottleneck_of(&b, &f, &err), TRUENO_ERR_INVALID_FEATURE);
    f = gpu(7, 1);
    b.struct_size = 8;
    assert_int_equal(trueno_bottleneck_of(&b, &f, NULL), TRUENO_ERR_ARGUMENT);
    b = fresh;

    good.matmul = good.attention = good.launch = 1;
    good.total = 4;
    assert_int_equal(trueno_bottleneck_from_times(&b, &good, &f, NULL), TRUENO_OK);
    assert_int_equal(trueno_bottleneck_from_times(&b, NULL, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_memory_equal(&b, &fresh, sizeof b);
    assert_int_equal(trueno_bottleneck_from_times(&b, &good, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_bottleneck_from_times(NULL, &good, &f, NULL), TRUENO_ERR_ARGUMENT);
#define BAD(field, value)                                                                          \
    t = good;                                                                                      \
    t.field = value;                                                                               \
    assert_int_equal(trueno_bottleneck_from_times(&b, &t, &f, NULL), TRUENO_ERR_ARGUMENT)
    BAD(struct_size, 8);
    BAD(matmul, -1);
    BAD(matmul, NAN);
    BAD(attention, -1e-9);
    BAD(launch, NAN);
    BAD(launch, INFINITY);
    BAD(total, 0);
    BAD(total, NAN);
    BAD(total, INFINITY);
    BAD(total, 2.9);
}

/* ------------------------------------------------------------------ experiments */

enum { CAP = 8 };

static double rate(const trueno_regressor *r, const trueno_features *f)
{
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    assert_int_equal(trueno_regressor_predict(r, &p, f, NULL), TRUENO_OK);
    return p.predicted_tps;
}

static size_t experiments(trueno_experiment e[CAP], const trueno_regressor *r,
                          const trueno_features *f)
{
    trueno_error err = {TRUENO_OK, ""};
    size_t n = 99;
    for (int i = 0; i < CAP; i++) e[i] = (trueno_experiment)TRUENO_EXPERIMENT_INIT;
    if (trueno_experiments_of(e, CAP, &n, r, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    assert_true(n < CAP);
    for (size_t i = 0; i < n; i++) {
        assert_true(e[i].gain_lo > 1.015 && e[i].gain_lo <= e[i].gain);
        assert_true(e[i].gain <= e[i].gain_hi);
        assert_true(i == 0 || e[i].gain <= e[i - 1].gain);
        assert_true(e[i].from != e[i].to && strlen(e[i].text) > 10);
        for (size_t j = 0; j < i; j++) assert_int_not_equal(e[i].kind, e[j].kind);
    }
    return n;
}

static const trueno_experiment *find(const trueno_experiment *e, size_t n,
                                     trueno_experiment_kind kind)
{
    for (size_t i = 0; i < n; i++)
        if (e[i].kind == kind) return &e[i];
    return NULL;
}

static trueno_regressor *untrained(void)
{
    trueno_regressor *r;
    assert_int_equal(trueno_regressor_new(ctx, &r, NULL), TRUENO_OK);
    return r;
}

/* What the prior says: intervals of a factor two, whose errors have correlation 0.9. */
static void test_batch_and_drafts(void **state)
{
    trueno_regressor *r = untrained();
    trueno_features f = gpu(7, 4), g = f;
    trueno_experiment list[CAP];
    const double w = log(2) * sqrt(2 - 2 * 0.9);
    (void)state;
    size_t n = experiments(list, r, &f);
    const trueno_experiment *e = find(list, n, TRUENO_EXPERIMENT_BATCH);
    assert_non_null(e);
    assert_true(e->from == 4 && e->to == 16);
    g.batch_size = 16;
    double gain = rate(r, &g) / rate(r, &f);
    expect_near(e->gain, gain);
    expect_near(e->gain_lo, gain * exp(-w));
    expect_near(e->gain_hi, gain * exp(w));
    assert_string_equal(e->text, "advance 16 sequences at once instead of 4");

    f.batch_size = 1;
    f.draft_tokens = 0;
    n = experiments(list, r, &f);
    e = find(list, n, TRUENO_EXPERIMENT_DRAFT);
    assert_non_null(e);
    g = f;
    g.draft_tokens = e->to;
    /* of L drafts each accepted by 0.7: 1 + 0.7 + ... + 0.7^L tokens, of the 1 + L in the rate */
    double tokens[3] = {0}, p[3] = {0.5, 0.7, 0.85};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k <= (int)e->to; k++) tokens[i] += pow(p[i], k) / (1 + e->to);
    gain = rate(r, &g) / rate(r, &f);
    expect_near(e->gain, gain * tokens[1]);
    expect_near(e->gain_lo, gain * tokens[0] * exp(-w));
    expect_near(e->gain_hi, gain * tokens[2] * exp(w));
    trueno_regressor_free(r);
}

/* Bandwidth is enough and compute is not: more at once does not pay, fewer drafts do. */
static void test_compute_bound(void **state)
{
    trueno_regressor *r = untrained();
    trueno_features f = cpu(7, 64, 2);
    trueno_experiment list[CAP];
    (void)state;
    f.draft_tokens = 8;
    size_t n = experiments(list, r, &f);
    assert_int_equal(n, 1);
    assert_int_equal(list[0].kind, TRUENO_EXPERIMENT_DRAFT);
    assert_true(list[0].from == 8 && list[0].to == 0);
    f.draft_tokens = TRUENO_UNSET;
    f.batch_size = 1;
    f.prompt_tokens = 512;
    assert_int_equal(experiments(list, r, &f), 0);
    trueno_regressor_free(r);
}

static void test_context(void **state)
{
    trueno_regressor *r = untrained();
    trueno_features f = gpu(8, 32);
    trueno_experiment list[CAP];
    (void)state;
    f.seq_len = 100001;
    f.cuda_graphs = 1;
    size_t n = experiments(list, r, &f);
    const trueno_experiment *e = find(list, n, TRUENO_EXPERIMENT_CONTEXT);
    assert_non_null(e);
    assert_true(e->from == 100001 && e->to == 50000);
    assert_true(e->gain > 1.8 && e->gain < 2);
    f.kv_cache_tokens = 32 * 100001.0; /* given, it halves with the sequences */
    f.context_len = 131072;
    n = experiments(list, r, &f);
    const trueno_experiment *again = find(list, n, TRUENO_EXPERIMENT_CONTEXT);
    assert_non_null(again);
    assert_true(fabs(again->gain - 1.95) < 0.1);
    trueno_regressor_free(r);
}

/* Sequences whose keys and values do not fit are not proposed. */
static void test_memory(void **state)
{
    trueno_regressor *r = untrained();
    trueno_features f = gpu(8, 1);
    trueno_experiment list[CAP];
    double weights = 8 * 4.5 / 8 / 1.073741824; /* GiB */
    double cache = 2.0 * 2 * 32 * 8 * 128 * 8192 / (1 << 30);
    (void)state;
    f.seq_len = 8192; /* 1 GiB of keys and values a sequence */
    assert_true(cache == 1);
    static const double rooms[] = {1.5, 2.5, 4.5}, to[] = {0, 2, 4};
    for (int i = 0; i < 3; i++) {
        f.vram_gb = weights + rooms[i] * cache;
        size_t n = experiments(list, r, &f);
        const trueno_experiment *e = find(list, n, TRUENO_EXPERIMENT_BATCH);
        assert_true(to[i] == 0 ? e == NULL : e && e->to == to[i]);
    }
    f = cpu(8, 1, 2);
    f.seq_len = 8192;
    f.gpu_compute_tflops = 2;
    f.system_ram_gb = weights + 2.5 * cache;
    size_t n = experiments(list, r, &f);
    const trueno_experiment *e = find(list, n, TRUENO_EXPERIMENT_BATCH);
    assert_true(e && e->to == 2);
    trueno_regressor_free(r);
}

/* Rows whose rate depends on graphs (GPU) and threads, not on the roof. */
static trueno_regressor *learn(bool on_gpu)
{
    enum { N = 300 };
    static trueno_features rows[N];
    static double tps[N];
    trueno_regressor *r;
    trueno_error err = {TRUENO_OK, ""};
    for (uint32_t i = 0; i < N; i++) {
        uint32_t batch = 1 + i % 3, threads = 1U << i / 3 % 4;
        rows[i] = on_gpu ? gpu(1.5, batch) : cpu(1.5, batch, threads);
        if (on_gpu) rows[i].cuda_graphs = i / 12 % 2;
        if (on_gpu) rows[i].cpu_threads = threads;
        double unit = on_gpu ? 100 + 100 * rows[i].cuda_graphs : 3;
        unit *= threads == 4 ? 4 : 1;
        tps[i] = unit * batch;
    }
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 40, NULL, NULL), TRUENO_OK);
    if (trueno_regressor_train_random_forest(r, NULL, rows, tps, N, &err) != TRUENO_OK)
        fail_msg("%s", err.message);
    return r;
}

static void test_learned(void **state)
{
    trueno_experiment list[CAP];
    trueno_regressor *r = learn(true);
    trueno_features f = gpu(1.5, 1);
    (void)state;
    f.sm_count = 8;
    f.cpu_threads = 2;
    f.cuda_graphs = 0;
    size_t n = experiments(list, r, &f);
    const trueno_experiment *e = find(list, n, TRUENO_EXPERIMENT_CUDA_GRAPHS);
    assert_non_null(e);
    assert_true(e->from == 0 && e->to == 1 && fabs(e->gain - 2) < 0.1);
    assert_null(find(list, n, TRUENO_EXPERIMENT_THREADS)); /* of the host */
    f.cuda_graphs = 1;
    n = experiments(list, r, &f);
    assert_null(find(list, n, TRUENO_EXPERIMENT_CUDA_GRAPHS)); /* the present state */
    trueno_regressor_free(r);

    r = learn(false);
    static const uint32_t from[] = {8, 2, 4}; /* four are best */
    for (int i = 0; i < 3; i++) {
        f = cpu(1.5, 1, from[i]);
        n = experiments(list, r, &f);
        e = find(list, n, TRUENO_EXPERIMENT_THREADS);
        assert_null(find(list, n, TRUENO_EXPERIMENT_CUDA_GRAPHS));
        assert_true(i == 2 ? e == NULL : e && e->to == 4 && e->gain > 3);
    }
    f = cpu(1.5, 1, 2);
    f.sm_count = 3; /* not more threads than cores */
    n = experiments(list, r, &f);
    e = find(list, n, TRUENO_EXPERIMENT_THREADS);
    assert_true(!e || e->to <= 3);
    trueno_regressor_free(r);
}

/* Arrays that are too short, or of a later version of the struct. */
static void test_arrays(void **state)
{
    struct {
        trueno_experiment e;
        char more[24];
    } large[3];
    trueno_regressor *r = untrained();
    trueno_features f = gpu(7, 1);
    trueno_experiment list[CAP];
    size_t n;
    (void)state;
    assert_true(experiments(list, r, &f) >= 2);
    memset(large, 0x5a, sizeof large);
    for (int i = 0; i < 3; i++) {
        large[i].e = (trueno_experiment)TRUENO_EXPERIMENT_INIT;
        large[i].e.struct_size = sizeof large[i];
    }
    assert_int_equal(trueno_experiments_of(&large[0].e, 2, &n, r, &f, NULL), TRUENO_OK);
    assert_int_equal(n, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(large[i].e.struct_size, sizeof large[i]);
        assert_true(large[i].e.gain == list[i].gain && large[i].more[0] == 0x5a);
    }
    assert_true(large[2].e.gain == 0);
    assert_int_equal(trueno_experiments_of(NULL, 0, &n, r, &f, NULL), TRUENO_OK);
    assert_int_equal(n, 0);

    assert_int_equal(trueno_experiments_of(list, CAP, NULL, r, &f, NULL), TRUENO_ERR_ARGUMENT);
    n = 5;
    assert_int_equal(trueno_experiments_of(NULL, 1, &n, r, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(n, 0);
    assert_int_equal(trueno_experiments_of(list, CAP, &n, NULL, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_experiments_of(list, CAP, &n, r, NULL, NULL), TRUENO_ERR_ARGUMENT);
    list[0].struct_size = 8;
    assert_int_equal(trueno_experiments_of(list, CAP, &n, r, &f, NULL), TRUENO_ERR_ARGUMENT);
    list[0].struct_size = sizeof list[0];
    f.batch_size = -3;
    n = 5;
    assert_int_equal(trueno_experiments_of(list, CAP, &n, r, &f, NULL), TRUENO_ERR_INVALID_FEATURE);
    assert_int_equal(n, 0);
    trueno_regressor_free(r);
}

static void test_format(void **state)
{
    static const char want[] = "do it: +25 % tokens/s (-1 % to +40 %)";
    trueno_experiment e = TRUENO_EXPERIMENT_INIT;
    char buf[64];
    (void)state;
    e.gain = 1.25;
    e.gain_lo = 0.99;
    e.gain_hi = 1.4;
    snprintf(e.text, sizeof e.text, "do it");
    assert_int_equal(trueno_experiment_format(buf, sizeof buf, &e), strlen(want));
    assert_string_equal(buf, want);
    assert_int_equal(trueno_experiment_format(buf, 6, &e), strlen(want));
    assert_string_equal(buf, "do it");
    assert_int_equal(trueno_experiment_format(NULL, 0, &e), strlen(want));
    assert_int_equal(trueno_experiment_format(buf, sizeof buf, NULL), 0);
    assert_string_equal(buf, "");
    memset(e.text, 'x', sizeof e.text); /* no NUL: what is read ends with the field */
    char long_buf[256];
    assert_int_equal(trueno_experiment_format(long_buf, sizeof long_buf, &e),
                     strlen(want) - 5 + sizeof e.text - 1);
    e.struct_size = 8;
    assert_int_equal(trueno_experiment_format(buf, sizeof buf, &e), 0);
}

static int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL);
}

static int teardown(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),        cmocka_unit_test(test_confidence),
        cmocka_unit_test(test_classes),       cmocka_unit_test(test_cpu_advice),
        cmocka_unit_test(test_names),         cmocka_unit_test(test_measured),
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_batch_and_drafts),
        cmocka_unit_test(test_compute_bound), cmocka_unit_test(test_context),
        cmocka_unit_test(test_memory),        cmocka_unit_test(test_learned),
        cmocka_unit_test(test_arrays),        cmocka_unit_test(test_format),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
