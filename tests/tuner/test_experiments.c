/* SPDX-License-Identifier: MIT */
/* Changes that should pay, against the regressor that predicts them. */
#include "tuner/advice_test.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_and_drafts), cmocka_unit_test(test_compute_bound),
        cmocka_unit_test(test_context),          cmocka_unit_test(test_memory),
        cmocka_unit_test(test_learned),          cmocka_unit_test(test_arrays),
        cmocka_unit_test(test_format),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
