/* SPDX-License-Identifier: MIT */
/* What holds a run back: shares by hand, classes, words, measured times. */
#include "tuner/advice_test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shares),  cmocka_unit_test(test_confidence),
        cmocka_unit_test(test_classes), cmocka_unit_test(test_cpu_advice),
        cmocka_unit_test(test_names),   cmocka_unit_test(test_measured),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
