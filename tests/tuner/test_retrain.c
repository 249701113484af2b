/* SPDX-License-Identifier: MIT */
/* Collecting runs and feedback, and new models from them: better ones are used, others are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hooks.h"
#include "tuner/random.h"
#include "tuner/samples.h"
#include "tuner/tuner_impl.h"
#include "tuner/tuner_test.h"

/* ------------------------------------------------------------------------- bytes */

static trueno_features any_run(struct tr_random *random)
{
    trueno_features f = cpu_run(exp2(tr_random_unit(random) * 6 - 3), 1);
    f.batch_size = 1 + tr_random_below(random, 8);
    f.quant = (trueno_quant)((int)tr_random_below(random, TRUENO_QUANT_COUNT + 1) - 1);
    f.cpu_threads = 1 + tr_random_below(random, 16);
    f.phase = (trueno_phase)tr_random_below(random, 3);
    if (tr_random_below(random, 2)) f.weight_bytes_per_pass = 1e9 * tr_random_unit(random) + 1;
    if (tr_random_below(random, 2)) f.kv_bytes_per_token = 1 + tr_random_below(random, 100000);
    if (tr_random_below(random, 2)) f.flops_per_token = 1e9 * tr_random_unit(random) + 1;
    if (tr_random_below(random, 2)) f.cache_bytes = tr_random_below(random, 1000000);
    if (tr_random_below(random, 2)) f.gpu_mem_bw_gbs = 1 + 100 * tr_random_unit(random);
    if (tr_random_below(random, 2)) f.hidden_dim = 64 * (1 + tr_random_below(random, 100));
    return f;
}

static struct tr_sample any_sample(struct tr_random *random)
{
    struct tr_sample s = {.utc = 1000 + tr_random_below(random, 400)};
    bool run = tr_random_below(random, 4) > 0;
    s.tps = run ? 1 + 100 * tr_random_unit(random) : 0;
    s.predicted = run ? 1 + 100 * tr_random_unit(random) : 0;
    s.label = run ? (uint32_t)TRUENO_KERNEL_UNKNOWN : tr_random_below(random, 15);
    s.f = any_run(random);
    return s;
}

static void test_one_sample(void **state)
{
    struct tr_random random;
    uint8_t bytes[TR_SAMPLE_BYTES], again[TR_SAMPLE_BYTES];
    (void)state;
    tr_random_seed(&random, 1, 0);
    for (int i = 0; i < 2000; i++) {
        struct tr_sample s = any_sample(&random), t;
        float x[42], y[42];
        tr_sample_encode(bytes, &s);
        assert_true(tr_sample_decode(&t, bytes));
        assert_true(t.utc == s.utc && t.tps == s.tps && t.predicted == s.predicted);
        assert_int_equal(t.label, s.label);
        assert_true(t.f.weight_bytes_per_pass == s.f.weight_bytes_per_pass);
        assert_true(t.f.flops_per_token == s.f.flops_per_token);
        assert_true(t.f.kv_bytes_per_token == s.f.kv_bytes_per_token);
        assert_true(t.f.cache_bytes == s.f.cache_bytes && t.f.phase == s.f.phase);
        assert_int_equal(t.f.quant, s.f.quant);
        assert_int_equal(trueno_features_to_vector(x, &s.f, NULL), TRUENO_OK);
        assert_int_equal(trueno_features_to_vector(y, &t.f, NULL), TRUENO_OK);
        assert_memory_equal(x, y, sizeof x);
        tr_sample_encode(again, &t);
        assert_memory_equal(bytes, again, sizeof bytes);
        /* any bytes may be there */
        for (int k = 0; k < 20; k++)
            bytes[tr_random_below(&random, TR_SAMPLE_BYTES)] =
                (uint8_t)tr_random_below(&random, 256);
        if (!tr_sample_decode(&t, bytes)) continue;
        assert_true(t.tps >= 0 && isfinite(t.tps));
        assert_int_equal(trueno_features_validate(&t.f, NULL), TRUENO_OK);
    }
    struct tr_sample s = any_sample(&random), t, bad[7];
    s.tps = s.predicted = 5;
    s.label = TRUENO_KERNEL_UNKNOWN;
    for (int i = 0; i < 7; i++) bad[i] = s;
    bad[0].tps = (double)NAN;
    bad[1].tps = -1;
    bad[2].predicted = 0;
    bad[3].label = TRUENO_KERNEL_BATCHED_Q4K; /* neither run nor feedback */
    bad[4].tps = 0;                           /* feedback of no kernel */
    bad[5].f.batch_size = 0;
    bad[6].f.num_heads = 4; /* each is fine, both are not */
    bad[6].f.kv_heads = 3;
    for (int i = 0; i < 7; i++) {
        tr_sample_encode(bytes, &bad[i]);
        assert_false(tr_sample_decode(&t, bytes));
    }
}

/* A section of n random samples out of a pool, so that some are in several. */
static size_t section_of(uint8_t *bytes, const struct tr_sample *pool, size_t n_pool, size_t n,
                         struct tr_random *random)
{
    size_t len = TR_SAMPLES_HEADER;
    tr_samples_init(bytes);
    for (size_t i = 0; i < n; i++)
        len = tr_samples_add(bytes, &pool[tr_random_below(random, (uint32_t)n_pool)]);
    tr_samples_set_trained(bytes, tr_random_below(random, 100));
    assert_true(tr_samples_ok(bytes, len));
    return len;
}

static void test_joins(void **state)
{
    enum { POOL = 900 };
    static uint8_t s[3][TR_SAMPLES_BYTES], x[TR_SAMPLES_BYTES], y[TR_SAMPLES_BYTES],
        z[TR_SAMPLES_BYTES];
    struct tr_sample *pool = malloc(POOL * sizeof *pool);
    struct tr_random random;
    (void)state;
    assert_non_null(pool);
    tr_random_seed(&random, 2, 0);
    for (int i = 0; i < POOL; i++) pool[i] = any_sample(&random);
    for (int round = 0; round < 60; round++) {
        size_t n[3], nx, ny, nz;
        uint32_t most = round % 2 ? 700 : 20;
        for (int i = 0; i < 3; i++)
            n[i] = section_of(s[i], pool, POOL, tr_random_below(&random, most), &random);
        nx = tr_samples_join(x, s[0], n[0], s[1], n[1]);
        ny = tr_samples_join(y, s[1], n[1], s[0], n[0]);
        assert_true(tr_samples_ok(x, nx) && nx == ny);
        assert_memory_equal(x, y, nx); /* commutative */
        nz = tr_samples_join(z, x, nx, s[2], n[2]);
        nx = tr_samples_join(x, s[1], n[1], s[2], n[2]);
        ny = tr_samples_join(y, s[0], n[0], x, nx);
        assert_int_equal(ny, nz);
        assert_memory_equal(y, z, nz); /* associative */
        nx = tr_samples_join(x, z, nz, s[0], n[0]);
        assert_int_equal(nx, nz);
        assert_memory_equal(x, z, nz); /* idempotent */
        size_t total = 0;
        for (int i = 0; i < 3; i++) total += tr_samples_count(s[i]);
        assert_true(tr_samples_count(z) <= total && tr_samples_count(z) <= TR_SAMPLES_MAX);
    }
    /* nothing but a section is one; what is none counts as empty */
    size_t n = section_of(s[0], pool, POOL, 30, &random);
    assert_false(tr_samples_ok(s[0], n - 1));
    assert_false(tr_samples_ok(s[0], 3));
    assert_int_equal(tr_samples_join(x, s[0], n - 1, s[0], n), n);
    assert_memory_equal(x, s[0], n);
    assert_int_equal(tr_samples_join(x, NULL, 0, s[0], n), n);
    memcpy(s[1], s[0], n);
    memcpy(s[1] + TR_SAMPLES_HEADER, s[0] + TR_SAMPLES_HEADER + TR_SAMPLE_BYTES, TR_SAMPLE_BYTES);
    assert_false(tr_samples_ok(s[1], n)); /* twice the same */
    s[0][0] = 2;
    assert_false(tr_samples_ok(s[0], n)); /* another version */
    free(pool);
}

/* Of more than there is room for the newest stay, whatever the order in which they come. */
static void test_newest(void **state)
{
    enum { N = TR_SAMPLES_MAX + 300 };
    uint8_t *bytes = malloc(TR_SAMPLES_BYTES); /* so that a sanitizer sees what is written behind */
    struct tr_random random;
    size_t len = 0;
    (void)state;
    assert_non_null(bytes);
    tr_random_seed(&random, 3, 0);
    struct tr_sample s = any_sample(&random);
    tr_samples_init(bytes);
    for (int i = 0; i < N; i++) {
        s.utc = 5000 + i * 5 % N; /* each of N seconds once */
        len = tr_samples_add(bytes, &s);
        assert_true(tr_samples_count(bytes) <= TR_SAMPLES_MAX);
    }
    assert_true(tr_samples_ok(bytes, len));
    assert_int_equal(tr_samples_count(bytes), TR_SAMPLES_MAX);
    for (size_t i = 0; i < TR_SAMPLES_MAX; i++)
        assert_int_equal(tr_sample_utc(tr_samples_at(bytes, i)), 5000 + N - 1 - (int64_t)i);
    free(bytes);
}

/* ---------------------------------------------------------------------- training */

/* A model of a kind, on a machine with so many threads. */
static trueno_features model_run(int model, double threads)
{
    trueno_features f = cpu_run(0.5 * (model + 1), 1);
    f.cpu_threads = threads;
    f.sm_count = 16;
    return f;
}

/* What such runs reach: the excess over the roof grows with the threads, which no prior knows. */
static double true_rate(trueno_tuner *prior, const trueno_features *f, double noise)
{
    trueno_prediction p = predict_by(prior, f);
    double above = 1 / p.predicted_tps - 1 / p.roofline_tps;
    return (1 + noise) / (1 / p.roofline_tps + above * (0.3 + 0.5 * f->cpu_threads));
}

/* Learns n runs of n_models models. */
static void observe(trueno_tuner *t, trueno_tuner *prior, int n, int n_models)
{
    for (int i = 0; i < n; i++) {
        trueno_features f = model_run(i % n_models, 1 + i / n_models % 12);
        double noise = 0.01 * (i * 7 % 11 - 5) / 5;
        assert_int_equal(trueno_tuner_observe_run(t, &f, true_rate(prior, &f, noise), NULL),
                         TRUENO_OK);
    }
}

static double error_on_others(trueno_tuner *t, trueno_tuner *prior)
{
    double sum = 0;
    for (int i = 0; i < 60; i++) {
        trueno_features f = model_run(10, 1 + i % 12);
        f.model_params_b = 1.2 + 0.01 * i;
        sum += fabs(predict_by(t, &f).predicted_tps / true_rate(prior, &f, 0) - 1);
    }
    return sum / 60;
}

static void test_regressor(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN),
                 *prior = make_tuner(ctx, TRUENO_TUNER_OFF);
    trueno_retraining r = TRUENO_RETRAINING_INIT;
    trueno_accuracy a = TRUENO_ACCURACY_INIT;
    trueno_error err = {TRUENO_OK, ""};
    double mape;
    (void)state;
    assert_int_equal(trueno_tuner_retrain(t, &r, &err), TRUENO_ERR_INSUFFICIENT_DATA);
    assert_non_null(strstr(err.message, "0 runs of 0 models"));
    observe(t, prior, 31, 2);
    assert_false(trueno_tuner_wants_retraining(t));
    observe(t, prior, 1, 2);
    assert_true(trueno_tuner_wants_retraining(t));
    assert_int_equal(trueno_tuner_retrain(t, &r, &err), TRUENO_ERR_INSUFFICIENT_DATA);
    assert_int_equal(r.n_runs, 0); /* empty on failure */
    observe(t, prior, 240, 5);
    double before = error_on_others(t, prior);
    assert_int_equal(trueno_tuner_retrain(t, &r, &err), TRUENO_OK);
    /* 31 and 1 runs of two models of five, all different but the repeated last one */
    assert_int_equal(r.n_models, 5);
    assert_true(r.n_runs > 240 && r.n_runs <= 272);
    assert_true(r.regressor && !r.classifier);
    assert_true(r.mape_after < 0.97 * r.mape_before);
    assert_true(isnan(r.accuracy_before) && r.n_feedback == 0);
    assert_true(error_on_others(t, prior) < before);
    trueno_features f = model_run(1, 3);
    assert_int_equal(predict_by(t, &f).source, TRUENO_SOURCE_FOREST);
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, &a), TRUENO_OK);
    assert_true(mape == r.mape_after && a.n == r.n_runs);
    assert_string_equal(a.split, "leave one model out");
    assert_false(trueno_tuner_wants_retraining(t));

    /* the next forest is no better than the one that predicted */
    trueno_regressor *kept = t->regressor;
    tr_samples_init(t->samples);
    t->samples_bytes = TR_SAMPLES_HEADER;
    observe(t, prior, 120, 5);
    assert_int_equal(trueno_tuner_retrain(t, &r, &err), TRUENO_OK);
    assert_int_equal(r.regressor, r.mape_after < 0.97 * r.mape_before);
    assert_int_equal(t->regressor == kept, !r.regressor);
    trueno_tuner_free(prior);
    trueno_tuner_free(t);
}

/* Each model is slower than predicted by a factor of its own. Forests that have seen a model know
 * it, and that is no merit; of others they are as wrong as before. */
static void test_models_apart(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN),
                 *prior = make_tuner(ctx, TRUENO_TUNER_OFF);
    static const double factors[] = {0.95, 0.55, 0.9, 0.5, 0.97, 0.6};
    trueno_retraining r = TRUENO_RETRAINING_INIT;
    (void)state;
    for (int i = 0; i < 120; i++) {
        trueno_features f = model_run(i % 6, 1 + i / 6);
        double predicted = predict_by(prior, &f).predicted_tps, tps = predicted * factors[i % 6];
        assert_true(tr_tuner_collect(t, &f, tps, predicted * 0.75, TRUENO_KERNEL_UNKNOWN));
    }
    assert_int_equal(trueno_tuner_retrain(t, &r, NULL), TRUENO_OK);
    assert_true(!r.regressor && r.mape_after > 0.15);
    trueno_tuner_free(prior);
    trueno_tuner_free(t);
}

/* Where a model's own factor is smaller than what is learned of all, the new regressor is used, and
 * its interval is as wide as unknown models need. */
static void test_interval(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN),
                 *prior = make_tuner(ctx, TRUENO_TUNER_OFF);
    static const double factors[] = {1, 0.86, 0.96, 0.84, 0.98, 0.88};
    trueno_retraining r = TRUENO_RETRAINING_INIT;
    (void)state;
    for (int i = 0; i < 240; i++) {
        trueno_features f = model_run(i % 6, 1 + i / 6 % 14);
        f.temperature = i / 84; /* so that no two are the same */
        double tps = true_rate(prior, &f, 0) * factors[i % 6];
        assert_true(tr_tuner_collect(t, &f, tps, predict_by(prior, &f).predicted_tps,
                                     TRUENO_KERNEL_UNKNOWN));
    }
    assert_int_equal(trueno_tuner_retrain(t, &r, NULL), TRUENO_OK);
    assert_true(r.regressor && r.mape_after > 0.03);
    trueno_features f = model_run(3, 6);
    trueno_prediction p = predict_by(t, &f);
    assert_true(p.level == 0.9 && log(p.predicted_tps / p.lo) > 1.2 * r.mape_after);
    trueno_tuner_free(prior);
    trueno_tuner_free(t);
}

/* What the present regressor was trained on must be among the runs, or it would be forgotten. */
static void test_covers(void **state)
{
    trueno_tuner *prior = make_tuner(ctx, TRUENO_TUNER_OFF);
    (void)state;
    for (int prefills = 9; prefills <= 10; prefills++) {
        trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
        trueno_retraining r = TRUENO_RETRAINING_INIT;
        trueno_tuner *t;
        o.mode = TRUENO_TUNER_LEARN;
        o.store_path = "";
        assert_int_equal(trueno_tuner_with_pretrained(ctx, &t, &o, NULL), TRUENO_OK);
        for (int i = 0; i < 80 + prefills; i++) {
            trueno_features f = model_run(i % 5, 1 + i / 5 % 12);
            if (i >= 80) f.prompt_tokens = 100; /* the pretrained one knows both phases */
            double tps = true_rate(prior, &f, 0);
            assert_true(tr_tuner_collect(t, &f, tps, tps * 3, TRUENO_KERNEL_UNKNOWN));
        }
        assert_int_equal(trueno_tuner_retrain(t, &r, NULL), TRUENO_OK);
        assert_true(r.mape_after < r.mape_before);
        assert_int_equal(r.regressor, prefills == 10);
        trueno_tuner_free(t);
    }
    trueno_tuner_free(prior);
}

/* Runs that the prior predicts exactly: nothing can be better. */
static void test_nothing_better(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN);
    trueno_retraining r = TRUENO_RETRAINING_INIT;
    (void)state;
    for (int i = 0; i < 60; i++) {
        trueno_features f = model_run(i % 4, 1 + i % 7);
        double tps = predict_by(t, &f).predicted_tps;
        assert_int_equal(trueno_tuner_observe_run(t, &f, tps, NULL), TRUENO_OK);
    }
    const char *version = trueno_tuner_version(t);
    assert_int_equal(trueno_tuner_retrain(t, &r, NULL), TRUENO_OK);
    assert_true(!r.regressor && r.mape_before < 1e-9 && r.mape_after >= 0);
    assert_string_equal(trueno_tuner_version(t), version);
    trueno_tuner_free(t);
}

/* Feedback against the rules trains a classifier that follows it; feedback that says what the rules
 * say changes nothing. */
static void test_classifier(void **state)
{
    (void)state;
    for (int against = 0; against < 2; against++) {
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN);
        trueno_retraining r = TRUENO_RETRAINING_INIT;
        for (int i = 0; i < 48; i++) {
            trueno_features f = gpu_run(1.5, 1 + i % 8);
            bool many = f.batch_size >= 4;
            uint32_t best =
                many != against ? TRUENO_KERNEL_BATCHED_Q4K : TRUENO_KERNEL_VECTORIZED_Q4K;
            assert_int_equal(trueno_tuner_feedback(t, &f, best, NULL), TRUENO_OK);
        }
        /* rows of one second that are equal are one */
        assert_in_range(tr_samples_count(t->samples), 8, 48);
        for (int i = 0; i < 8; i++) { /* so that there are enough */
            trueno_features f = gpu_run(1.5, 1 + i);
            f.temperature = 1;
            bool many = f.batch_size >= 4;
            assert_int_equal(trueno_tuner_feedback(t, &f,
                                                   many != against ? TRUENO_KERNEL_BATCHED_Q4K
                                                                   : TRUENO_KERNEL_VECTORIZED_Q4K,
                                                   NULL),
                             TRUENO_OK);
            f.top_k = 5;
            assert_int_equal(trueno_tuner_feedback(t, &f,
                                                   many != against ? TRUENO_KERNEL_BATCHED_Q4K
                                                                   : TRUENO_KERNEL_VECTORIZED_Q4K,
                                                   NULL),
                             TRUENO_OK);
        }
        assert_int_equal(trueno_tuner_retrain(t, &r, NULL), TRUENO_OK);
        assert_true(r.n_feedback >= 24 && r.n_runs == 0 && isnan(r.mape_after));
        assert_true(against ? r.accuracy_before == 0 : r.accuracy_before == 1);
        assert_int_equal(r.classifier, against);
        trueno_features f = gpu_run(1.5, 6);
        assert_int_equal(recommend(t, &f).kernel.top_kernel,
                         against ? TRUENO_KERNEL_VECTORIZED_Q4K : TRUENO_KERNEL_BATCHED_Q4K);
        assert_int_equal(recommend(t, &f).kernel.source,
                         against ? TRUENO_CHOICE_FOREST : TRUENO_CHOICE_RULES);
        trueno_tuner_free(t);
    }
}

/* ------------------------------------------------------------------------ keeping */

/* What one process collected the next one has; what two did comes together. */
static void test_kept(void **state)
{
    static char bytes[1 << 20];
    char path[] = "/tmp/trueno-test-XXXXXX", lock[sizeof path + 5];
    trueno_tuner *prior = make_tuner(ctx, TRUENO_TUNER_OFF), *t, *u;
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    size_t len;
    (void)state;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    o.mode = TRUENO_TUNER_LEARN;
    o.store_path = path;
    for (int process = 0; process < 4; process++) {
        assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
        assert_int_equal(t->samples ? tr_samples_count(t->samples) : 0, 9 * process);
        for (int i = 0; i < 9; i++) {
            trueno_features f = model_run(process, 1 + i);
            assert_int_equal(trueno_tuner_observe_run(t, &f, true_rate(prior, &f, 0), NULL),
                             TRUENO_OK);
        }
        assert_int_equal(trueno_tuner_wants_retraining(t), process == 3);
        assert_int_equal(trueno_tuner_save(t, NULL), TRUENO_OK);
        if (process < 3) trueno_tuner_free(t);
    }
    u = make_tuner(ctx, TRUENO_TUNER_LEARN);
    trueno_features f = model_run(9, 5);
    assert_int_equal(trueno_tuner_observe_run(u, &f, true_rate(prior, &f, 0), NULL), TRUENO_OK);
    for (int format = 0; format < 2; format++) {
        assert_int_equal(
            trueno_tuner_export(t, bytes, sizeof bytes, &len, (trueno_store_format)format, NULL),
            TRUENO_OK);
        assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
        assert_int_equal(tr_samples_count(u->samples), 37);
    }
    assert_int_equal(trueno_tuner_merge(t, NULL, u, NULL), TRUENO_OK);
    assert_int_equal(tr_samples_count(t->samples), 37);
    assert_int_equal(trueno_tuner_save(t, NULL), TRUENO_OK);
    trueno_tuner_free(u);
    assert_int_equal(trueno_tuner_clone(t, &u, NULL), TRUENO_OK);
    assert_int_equal(tr_samples_count(u->samples), 37);
    trueno_tuner_free(u);
    trueno_tuner_free(t);
    trueno_tuner_free(prior);
    unlink(path);
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(lock);
}

static void test_refused(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN), *frozen, *off;
    trueno_retraining r = TRUENO_RETRAINING_INIT;
    trueno_features f = cpu_run(1, 1), bad = f;
    (void)state;
    bad.batch_size = 0;
    assert_int_equal(trueno_tuner_feedback(NULL, &f, 2, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_feedback(t, NULL, 2, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_feedback(t, &f, 15, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_feedback(t, &f, 47, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_feedback(t, &bad, 2, NULL), TRUENO_ERR_INVALID_FEATURE);
    assert_null(t->samples);
    assert_int_equal(trueno_tuner_retrain(NULL, &r, NULL), TRUENO_ERR_ARGUMENT);
    r.struct_size = 1;
    assert_int_equal(trueno_tuner_retrain(t, &r, NULL), TRUENO_ERR_ARGUMENT);
    assert_false(trueno_tuner_wants_retraining(NULL));
    frozen = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    assert_int_equal(trueno_tuner_feedback(frozen, &f, 2, NULL), TRUENO_OK);
    assert_null(frozen->samples); /* other modes keep nothing */
    off = make_tuner(ctx, TRUENO_TUNER_OFF);
    assert_int_equal(trueno_tuner_retrain(off, NULL, NULL), TRUENO_ERR_READ_ONLY);
    trueno_tuner_free(off);
    trueno_tuner_free(frozen);
    trueno_tuner_free(t);
}

/* Without memory nothing changes. */
static void test_no_memory(void **state)
{
    struct hooks hooks = {0};
    trueno_ctx_options options = hook_options(&hooks);
    trueno_ctx *own;
    assert_int_equal(trueno_ctx_new(&own, &options, NULL), TRUENO_OK);
    trueno_tuner *t = make_tuner(own, TRUENO_TUNER_LEARN),
                 *prior = make_tuner(own, TRUENO_TUNER_OFF);
    trueno_retraining r = TRUENO_RETRAINING_INIT;
    trueno_status status = TRUENO_ERR_NO_MEMORY;
    (void)state;
    observe(t, prior, 40, 4);
    trueno_features f = model_run(2, 6);
    for (int i = 0; i < 20; i++) {
        trueno_features g = gpu_run(1.5, 1 + i % 8);
        g.temperature = i;
        assert_int_equal(trueno_tuner_feedback(t, &g, 2, NULL), TRUENO_OK);
    }
    trueno_prediction before = predict_by(t, &f), now;
    int n_failed = 0;
    for (size_t n = 1; status != TRUENO_OK; n += 1 + n / 20) {
        hooks.fail_at = atomic_load(&hooks.calls) + n;
        status = trueno_tuner_retrain(t, &r, NULL);
        hooks.fail_at = 0;
        if (status == TRUENO_OK) break;
        assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
        now = predict_by(t, &f);
        same_prediction(&before, &now);
        n_failed++;
    }
    assert_true(n_failed > 5);
    trueno_tuner_free(prior);
    trueno_tuner_free(t);
    trueno_ctx_free(own);
    assert_int_equal(atomic_load(&hooks.blocks), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_newest),       cmocka_unit_test(test_covers),
        cmocka_unit_test(test_models_apart), cmocka_unit_test(test_interval),
        cmocka_unit_test(test_one_sample),   cmocka_unit_test(test_joins),
        cmocka_unit_test(test_regressor),    cmocka_unit_test(test_nothing_better),
        cmocka_unit_test(test_classifier),   cmocka_unit_test(test_kept),
        cmocka_unit_test(test_refused),      cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests_name("retrain", tests, make_shared, free_shared);
}
