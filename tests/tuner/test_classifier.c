/* SPDX-License-Identifier: MIT */
/* Classifiers: rules from their table, forests that follow their labels, bytes that come back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/hooks.h"
#include "trueno/classifier.h"
#include "trueno/kernels.h"
#include "tuner/context.h"
#include "tuner/random.h"

static trueno_ctx *ctx;

/* The specification's features: the reference device, a GPU. */
static trueno_features gpu(uint32_t batch)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 1.5;
    f.batch_size = batch;
    f.quant = TRUENO_QUANT_Q4_K;
    return f;
}

static trueno_features cpu(uint32_t batch)
{
    trueno_features f = gpu(batch);
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 20;
    f.gpu_compute_tflops = 0.2;
    f.sm_count = 2;
    return f;
}

static trueno_kernel_choice choose(const trueno_classifier *c, const trueno_features *f)
{
    trueno_kernel_choice k = TRUENO_KERNEL_CHOICE_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_classifier_predict(c, &k, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    double sum = k.confidence, last = 1;
    for (uint32_t i = 0; i < k.n_alternatives; i++) {
        assert_true(k.alternatives[i].confidence >= 0 && k.alternatives[i].confidence <= last);
        assert_int_not_equal(k.alternatives[i].kernel, k.top_kernel);
        last = k.alternatives[i].confidence;
        if (k.source == TRUENO_CHOICE_FOREST) sum += last;
    }
    assert_true(k.confidence > 0 && sum <= 1 + 1e-12);
    assert_true(k.ticket == 0 && k.context == trueno_problem_context(&k.problem));
    return k;
}

static trueno_classifier *untrained(void)
{
    trueno_classifier *c;
    assert_int_equal(trueno_classifier_new(ctx, &c, NULL), TRUENO_OK);
    return c;
}

static trueno_class_report train(trueno_classifier *c, const trueno_features *rows,
                                 const uint32_t *labels, size_t n)
{
    trueno_class_report report = TRUENO_CLASS_REPORT_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_classifier_train(c, &report, rows, labels, n, &err) != TRUENO_OK)
        fail_msg("%s", err.message);
    return report;
}

/* ------------------------------------------------------------------------ rules */

static void test_rules(void **state)
{
    static const struct {
        trueno_quant quant;
        const char *few, *many;
    } table[] = {
        {TRUENO_QUANT_UNSET, "VectorizedQ4K", "BatchedQ4K"},
        {TRUENO_QUANT_Q4_K, "VectorizedQ4K", "BatchedQ4K"},
        {TRUENO_QUANT_Q5_K, "VectorizedQ5K", "BatchedQ5K"},
        {TRUENO_QUANT_Q6_K, "VectorizedQ6K", "BatchedQ6K"},
        {TRUENO_QUANT_Q8_0, "VectorizedQ8_0", "BatchedQ8_0"},
        {TRUENO_QUANT_Q4_0, "VectorizedQ4_0", "BatchedQ4_0"},
        {TRUENO_QUANT_Q4_1, "VectorizedQ4_1", "BatchedQ4_1"},
        {TRUENO_QUANT_Q5_0, "VectorizedQ5_0", "BatchedQ5_0"},
        {TRUENO_QUANT_Q5_1, "VectorizedQ5_1", "BatchedQ5_1"},
        {TRUENO_QUANT_F16, "VectorizedF16", "BatchedF16"},
        {TRUENO_QUANT_BF16, "VectorizedBF16", "BatchedBF16"},
        {TRUENO_QUANT_F32, "VectorizedF32", "BatchedF32"},
        {TRUENO_QUANT_Q2_K, "VectorizedF32", "BatchedF32"},
        {TRUENO_QUANT_Q3_K, "VectorizedF32", "BatchedF32"},
    };
    trueno_classifier *c = untrained();
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        for (uint32_t m = 1; m <= 9; m++) {
            const char *name = m <= 3 ? table[i].few : table[i].many;
            trueno_features f = gpu(m);
            f.quant = table[i].quant;
            trueno_kernel_choice k = choose(c, &f);
            assert_string_equal(trueno_kernel_name(k.top_kernel), name);
            assert_int_equal(k.source, TRUENO_CHOICE_RULES);
            assert_int_equal(k.problem.n_cols, m);
            assert_null(k.variant);
            assert_int_equal(k.n_alternatives, 1);
            assert_string_equal(trueno_kernel_name(k.alternatives[0].kernel),
                                m <= 3 ? table[i].many : table[i].few);

            f = cpu(m);
            f.quant = table[i].quant;
            k = choose(c, &f);
            assert_string_equal(trueno_kernel_name(k.top_kernel), name);
            assert_int_equal(k.n_alternatives, 0); /* nothing here is of the other family */
            const struct tr_kernel *rows[1];
            assert_true(tr_candidates(rows, 1, ctx, &k.problem) > 0);
            assert_string_equal(k.variant, rows[0]->name);
        }
    }
    trueno_classifier_free(c);
}

/* M counts drafts, and the tokens of prompts. */
static void test_columns_of_a_pass(void **state)
{
    trueno_classifier *c = untrained();
    trueno_features f = gpu(1);
    (void)state;
    f.draft_tokens = 2;
    assert_int_equal(choose(c, &f).top_kernel, TRUENO_KERNEL_VECTORIZED_Q4K);
    f.draft_tokens = 3;
    assert_int_equal(choose(c, &f).top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    f.draft_tokens = TRUENO_UNSET;
    f.prompt_tokens = 3;
    assert_int_equal(choose(c, &f).top_kernel, TRUENO_KERNEL_VECTORIZED_Q4K);
    f.prompt_tokens = 4;
    assert_int_equal(choose(c, &f).top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    f.generated_tokens = 5; /* decoding */
    assert_int_equal(choose(c, &f).top_kernel, TRUENO_KERNEL_VECTORIZED_Q4K);
    trueno_classifier_free(c);
}

/* Phi by Simpson's rule. */
static double normal(double z)
{
    double sum = 0, h = (z + 12) / 2000;
    for (int i = 0; i <= 2000; i++) {
        double x = -12 + i * h, weight = i == 0 || i == 2000 ? 1 : i % 2 ? 4 : 2;
        sum += weight * exp(-x * x / 2);
    }
    return sum * h / 3 / sqrt(2 * 3.14159265358979323846);
}

/* What the header says, per weight of the matrix: read and column in seconds. */
static double confidence(double read, double column, uint32_t m)
{
    double memory_v = ceil(m / 3.0) * read, compute_v = m * column;
    double compute_b = (m > 4 ? m : 4) * column;
    double t_v = (memory_v > compute_v ? memory_v + 0.2 * compute_v : compute_v + 0.2 * memory_v);
    double t_b = (read > compute_b ? read + 0.2 * compute_b : compute_b + 0.2 * read);
    double ratio = m <= 3 ? t_b / t_v : t_v / t_b;
    double p = normal((log(1.02) + log(ratio)) / sqrt(2 * 0.25 * 0.25));
    return p < 0.01 ? 0.01 : p > 0.99 ? 0.99 : p;
}

static void test_confidence_of_rules(void **state)
{
    trueno_classifier *c = untrained();
    double seen[65];
    (void)state;
    for (uint32_t m = 1; m <= 64; m++) {
        trueno_features f = gpu(m); /* 1000 GB/s, 100 TFLOPS */
        double want = confidence(0.5625 / 750e9, 2 / 45e12, m);
        seen[m] = choose(c, &f).confidence;
        assert_true(fabs(seen[m] - want) <= 1e-6);
        assert_true(seen[m] > 0 && seen[m] < 1);
        f = cpu(m);
        want = confidence(0.5625 / 17e9, 2 / 0.12e12, m);
        assert_true(fabs(choose(c, &f).confidence - want) <= 1e-6);
    }
    assert_true(seen[4] > seen[3] + 0.2 && seen[7] > seen[6]); /* another reading of the weights */
    trueno_classifier_free(c);
}

/* ---------------------------------------------------------------------- forests */

enum { SAMPLE = 100 };

/* The specification's rows: label 3 from four sequences on, else 2, or the other way round. */
static void sample(trueno_features *rows, uint32_t *labels, bool reversed)
{
    for (uint32_t i = 0; i < SAMPLE; i++) {
        uint32_t batch = 1 + i % 8;
        rows[i] = gpu(batch);
        labels[i] =
            (batch >= 4) != reversed ? TRUENO_KERNEL_BATCHED_Q4K : TRUENO_KERNEL_VECTORIZED_Q4K;
    }
}

static void test_specification(void **state)
{
    trueno_features rows[SAMPLE];
    uint32_t labels[SAMPLE];
    trueno_classifier *c;
    (void)state;
    for (int reversed = 0; reversed < 2; reversed++) {
        sample(rows, labels, reversed);
        assert_int_equal(trueno_classifier_with_random_forest(ctx, &c, 50, NULL, NULL), TRUENO_OK);
        assert_int_equal(choose(c, &rows[0]).source, TRUENO_CHOICE_RULES); /* not trained */
        trueno_class_report report = train(c, rows, labels, SAMPLE);
        assert_true(report.accuracy > 0.95 && report.accuracy <= 1);
        assert_int_equal(report.n_rows, SAMPLE);
        assert_int_equal(report.n_distinct, 8);
        assert_true(report.n_held_out > 95 && report.n_held_out <= 100);
        /* the batch varies, and with it the tokens in the cache; 8, 17, 18, 19 are not looked at */
        uint64_t varying = UINT64_C(1) << 10 | UINT64_C(1) << 13;
        uint64_t inert = UINT64_C(1) << 8 | UINT64_C(7) << 17;
        assert_true(report.constant == (((UINT64_C(1) << 42) - 1) & ~varying & ~inert));
        assert_true(report.collinear == UINT64_C(1) << 13);
        for (int i = 0; i < 8; i++) {
            trueno_kernel_choice k = choose(c, &rows[i]);
            assert_int_equal(k.source, TRUENO_CHOICE_FOREST);
            assert_int_equal(k.top_kernel, labels[i]);
            assert_true(k.confidence > 0.9 && k.confidence < 1);
            assert_null(k.variant);
        }
        trueno_classifier_free(c);
    }
}

/* One made without a forest learns as well, and a second training replaces the first. */
static void test_train_again(void **state)
{
    trueno_features rows[SAMPLE];
    uint32_t labels[SAMPLE];
    trueno_classifier *c = untrained();
    (void)state;
    for (int reversed = 0; reversed < 2; reversed++) {
        sample(rows, labels, reversed);
        train(c, rows, labels, SAMPLE);
        for (int i = 0; i < 8; i++) assert_int_equal(choose(c, &rows[i]).top_kernel, labels[i]);
    }
    trueno_classifier_free(c);
}

/* Rows of up to three sequences, 30 % of whose labels are the rare one, whatever the features. */
static void noise(trueno_features *rows, uint32_t *labels, size_t n, uint32_t rare, uint32_t often)
{
    struct tr_random random;
    tr_random_seed(&random, 4, 0);
    for (size_t i = 0; i < n; i++) {
        rows[i] = gpu(1 + tr_random_below(&random, 3));
        rows[i].seq_len = 1 + tr_random_below(&random, 4000);
        labels[i] = tr_random_unit(&random) < 0.3 ? rare : often;
    }
}

/* Where labels are noise, confidence is how often rows out of bag are right, whatever the votes. */
static void test_calibrated(void **state)
{
    enum { N = 600 };
    static trueno_features rows[N];
    static uint32_t labels[N];
    trueno_classifier *c;
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    double mean = 0, mean_share = 0, accuracy = 0;
    (void)state;
    noise(rows, labels, N, TRUENO_KERNEL_BATCHED_Q4K, TRUENO_KERNEL_TILED_Q4K);
    o.min_leaf = 1; /* each tree knows its rows by heart */
    for (int bootstrap = 0; bootstrap < 2; bootstrap++) {
        o.bootstrap = bootstrap;
        assert_int_equal(trueno_classifier_with_random_forest(ctx, &c, 30, &o, NULL), TRUENO_OK);
        trueno_class_report report = train(c, rows, labels, N);
        assert_int_equal(report.n_held_out > 0, bootstrap);
        assert_true(bootstrap ? report.accuracy > 0.5 && report.accuracy < 0.75
                              : isnan(report.accuracy));
        accuracy = report.accuracy;
        for (int i = 0; i < N; i++)
            *(bootstrap ? &mean : &mean_share) += choose(c, &rows[i]).confidence / N;
        trueno_classifier_free(c);
    }
    assert_true(fabs(mean - accuracy) < 0.05);
    assert_true(mean_share >
                accuracy + 0.1); /* not held out: the votes of trees that have seen the rows */
}

/* On the CPU one family of a pair runs for a number of columns; the other's votes are dropped. */
static void test_masked(void **state)
{
    enum { N = 100 };
    static trueno_features rows[N];
    static uint32_t labels[N];
    trueno_classifier *c = untrained();
    (void)state;
    noise(rows, labels, N, TRUENO_KERNEL_VECTORIZED_Q4K, TRUENO_KERNEL_BATCHED_Q4K);
    train(c, rows, labels, N);
    trueno_features g = gpu(1), f = cpu(1);
    g.seq_len = f.seq_len = 2000;
    trueno_kernel_choice k = choose(c, &g);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    k = choose(c, &f);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_VECTORIZED_Q4K);
    assert_int_equal(k.source, TRUENO_CHOICE_FOREST);
    assert_int_equal(k.n_alternatives, 0);
    assert_non_null(k.variant);
    f.batch_size = 4;
    k = choose(c, &f);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    assert_int_equal(k.source, TRUENO_CHOICE_FOREST);
    g.quant = TRUENO_QUANT_Q6_K; /* nothing that was learned computes these weights */
    k = choose(c, &g);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_VECTORIZED_Q6K);
    assert_int_equal(k.source, TRUENO_CHOICE_RULES);

    for (int i = 0; i < N; i++) labels[i] = TRUENO_KERNEL_BATCHED_Q4K;
    train(c, rows, labels, N);
    f.batch_size = 1;
    k = choose(c, &f);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_VECTORIZED_Q4K);
    assert_int_equal(k.source, TRUENO_CHOICE_RULES);
    g.quant = TRUENO_QUANT_Q4_K;
    k = choose(c, &g);
    assert_int_equal(k.top_kernel, TRUENO_KERNEL_BATCHED_Q4K);
    assert_int_equal(k.source, TRUENO_CHOICE_FOREST);
    assert_int_equal(k.n_alternatives, 0);
    trueno_classifier_free(c);
}

/* Six families that share the rows: four alternatives, most probable first. */
static void test_alternatives(void **state)
{
    enum { N = 400 };
    static trueno_features rows[N];
    static uint32_t labels[N];
    static const uint32_t families[] = {
        TRUENO_KERNEL_COALESCED_Q4K, TRUENO_KERNEL_TILED_Q4K,   TRUENO_KERNEL_GENERIC,
        TRUENO_KERNEL_DP4A_Q4K,      TRUENO_KERNEL_BATCHED_Q4K, TRUENO_KERNEL_DEQUANT_BLAS_GPU};
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    trueno_classifier *c;
    (void)state;
    o.max_depth = 0; /* one leaf: shares of all rows */
    assert_int_equal(trueno_classifier_with_random_forest(ctx, &c, 40, &o, NULL), TRUENO_OK);
    for (uint32_t i = 0; i < N; i++) { /* of 100: 40, 22, 16, 11, 7, 4 */
        uint32_t at = i % 100;
        uint32_t which = at < 40 ? 0 : at < 62 ? 1 : at < 78 ? 2 : at < 89 ? 3 : at < 96 ? 4 : 5;
        rows[i] = gpu(1 + i % 7);
        labels[i] = families[which];
    }
    train(c, rows, labels, N);
    trueno_kernel_choice k = choose(c, &rows[0]);
    assert_int_equal(k.top_kernel, families[0]);
    assert_true(fabs(k.confidence - 0.4) < 0.05);
    assert_int_equal(k.n_alternatives, 4);
    for (int i = 0; i < 4; i++) assert_int_equal(k.alternatives[i].kernel, families[i + 1]);
    assert_true(fabs(k.alternatives[0].confidence - 0.22) < 0.05);
    trueno_classifier_free(c);
}

/* ------------------------------------------------------------------------ bytes */

static uint8_t *bytes_of(const trueno_classifier *c, size_t *n)
{
    size_t again;
    assert_int_equal(trueno_classifier_export(c, NULL, 0, n, NULL), TRUENO_OK);
    uint8_t *p = malloc(*n);
    assert_non_null(p);
    memset(p, 0x5a, *n);
    assert_int_equal(trueno_classifier_export(c, p, *n - 1, &again, NULL), TRUENO_ERR_ARGUMENT);
    assert_true(again == *n && p[0] == 0x5a);
    assert_int_equal(trueno_classifier_export(c, p, *n, &again, NULL), TRUENO_OK);
    assert_int_equal(again, *n);
    return p;
}

static trueno_classifier *noisy(uint64_t seed, uint32_t n_trees)
{
    enum { N = 60 };
    static trueno_features rows[N];
    static uint32_t labels[N];
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    trueno_classifier *c;
    o.seed = seed;
    noise(rows, labels, N, TRUENO_KERNEL_BATCHED_Q4K, TRUENO_KERNEL_TILED_Q4K);
    assert_int_equal(trueno_classifier_with_random_forest(ctx, &c, n_trees, &o, NULL), TRUENO_OK);
    train(c, rows, labels, N);
    return c;
}

static void test_seeds(void **state)
{
    trueno_classifier *a = noisy(1, 20), *b = noisy(1, 20), *c = noisy(2, 20);
    size_t n_a, n_b, n_c;
    uint8_t *p = bytes_of(a, &n_a), *q = bytes_of(b, &n_b), *r = bytes_of(c, &n_c);
    enum { OPTIONS_END = 16 + 28 }; /* the seed itself is among them */
    (void)state;
    assert_int_equal(n_a, n_b);
    assert_memory_equal(p, q, n_a);
    assert_true(n_c != n_a || memcmp(p + OPTIONS_END, r + OPTIONS_END, n_a - OPTIONS_END) != 0);
    free(p);
    free(q);
    free(r);
    trueno_classifier_free(a);
    trueno_classifier_free(b);
    trueno_classifier_free(c);
}

static void test_round_trip(void **state)
{
    trueno_classifier *all[] = {untrained(), noisy(5, 20)}, *back;
    (void)state;
    for (int i = 0; i < 2; i++) {
        size_t n, n_again;
        uint8_t *p = bytes_of(all[i], &n);
        assert_memory_equal(p, "TRKC\1\0\0\0", 8);
        assert_int_equal(p[8] | p[9] << 8 | p[10] << 16, n);
        if (i == 0) assert_int_equal(n, 48);
        assert_int_equal(trueno_classifier_import(ctx, &back, p, n, NULL), TRUENO_OK);
        for (uint32_t seq = 1; seq < 4000; seq += 37) {
            trueno_features f = gpu(1 + seq % 3);
            f.seq_len = seq;
            trueno_kernel_choice before = choose(all[i], &f), after = choose(back, &f);
            assert_memory_equal(&before, &after, sizeof before);
        }
        uint8_t *again = bytes_of(back, &n_again);
        assert_int_equal(n_again, n);
        assert_memory_equal(p, again, n);
        free(again);
        trueno_features rows[SAMPLE]; /* its options came along: it trains as the first does */
        uint32_t labels[SAMPLE];
        sample(rows, labels, true);
        labels[0] = labels[70] = TRUENO_KERNEL_GENERIC;
        train(all[i], rows, labels, SAMPLE);
        train(back, rows, labels, SAMPLE);
        free(p);
        p = bytes_of(all[i], &n);
        again = bytes_of(back, &n_again);
        assert_int_equal(n_again, n);
        assert_memory_equal(p, again, n);
        trueno_classifier_free(back);
        free(again);
        free(p);
        trueno_classifier_free(all[i]);
    }
}

static void fix_checksum(uint8_t *p, size_t n)
{
    uLong crc = crc32(crc32(0, p, 12), p + 16, (uInt)(n - 16));
    for (int i = 0; i < 4; i++) p[12 + i] = (uint8_t)(crc >> 8 * i);
}

/* Bytes that fail, and bytes whose checksum was made right again: refused or harmless. */
static void test_hostile(void **state)
{
    trueno_classifier *c = noisy(1, 3), *back;
    struct tr_random random;
    trueno_features f = gpu(2);
    size_t n, accepted = 0;
    uint8_t *p = bytes_of(c, &n);
    (void)state;
    for (size_t i = 0; i < n; i++) {
        uint8_t *cut = malloc(i ? i : 1);
        assert_non_null(cut);
        memcpy(cut, p, i);
        assert_int_equal(trueno_classifier_import(ctx, &back, cut, i, NULL), TRUENO_ERR_TRUNCATED);
        assert_null(back);
        if (i >= 16) { /* the same, announced as it is */
            for (int k = 0; k < 4; k++) cut[8 + k] = (uint8_t)(i >> 8 * k);
            fix_checksum(cut, i);
            assert_int_equal(trueno_classifier_import(ctx, &back, cut, i, NULL),
                             TRUENO_ERR_CORRUPT);
        }
        free(cut);
    }
    tr_random_seed(&random, 11, 0);
    for (int trial = 0; trial < 10000; trial++) {
        uint32_t at = tr_random_below(&random, (uint32_t)n);
        uint8_t old = p[at], change = (uint8_t)(1 + tr_random_below(&random, 255));
        p[at] ^= change;
        assert_int_not_equal(trueno_classifier_import(ctx, &back, p, n, NULL), TRUENO_OK);
        fix_checksum(p, n);
        if (trueno_classifier_import(ctx, &back, p, n, NULL) == TRUENO_OK) {
            accepted++;
            choose(back, &f);
            trueno_classifier_free(back);
        }
        p[at] = old;
        fix_checksum(p, n);
    }
    assert_true(accepted > 100 && accepted < 9000);

    uint8_t *more = malloc(n + 1); /* a third class, of which the forest knows nothing */
    assert_non_null(more);
    memcpy(more, p, 50);
    memcpy(more + 51, p + 50, n - 50);
    assert_int_equal(p[44], 2);
    more[44] = 3;
    more[50] = TRUENO_KERNEL_GENERIC;
    for (int k = 0; k < 4; k++) more[8 + k] = (uint8_t)((n + 1) >> 8 * k);
    fix_checksum(more, n + 1);
    assert_int_equal(trueno_classifier_import(ctx, &back, more, n + 1, NULL), TRUENO_ERR_CORRUPT);
    free(more);

    p[0] = 't';
    assert_int_equal(trueno_classifier_import(ctx, &back, p, n, NULL), TRUENO_ERR_FORMAT);
    p[0] = 'T';
    p[4] = 2;
    assert_int_equal(trueno_classifier_import(ctx, &back, p, n, NULL), TRUENO_ERR_VERSION);
    p[4] = 1;
    p = realloc(p, n + 1);
    assert_non_null(p);
    p[n] = 0;
    assert_int_equal(trueno_classifier_import(ctx, &back, p, n + 1, NULL), TRUENO_ERR_CORRUPT);
    free(p);
    trueno_classifier_free(c);
}

/* --------------------------------------------------------------------- refusals */

static void expect_untrained(trueno_classifier *c, const trueno_features *rows,
                             const uint32_t *labels, size_t n, trueno_status want, const char *part)
{
    trueno_class_report report = TRUENO_CLASS_REPORT_INIT;
    trueno_error err = {TRUENO_OK, ""};
    report.n_rows = 7;
    assert_int_equal(trueno_classifier_train(c, &report, rows, labels, n, &err), want);
    assert_int_equal(report.n_rows, 0);
    if (!strstr(err.message, part)) fail_msg("'%s' lacks '%s'", err.message, part);
}

static void test_refused_training(void **state)
{
    trueno_features rows[SAMPLE];
    uint32_t labels[SAMPLE];
    trueno_classifier *c = untrained(), *none;
    trueno_class_report report = TRUENO_CLASS_REPORT_INIT;
    (void)state;
    sample(rows, labels, true);
    train(c, rows, labels, SAMPLE);
    expect_untrained(NULL, rows, labels, SAMPLE, TRUENO_ERR_ARGUMENT, "c is NULL");
    expect_untrained(c, NULL, labels, SAMPLE, TRUENO_ERR_ARGUMENT, "rows is NULL");
    expect_untrained(c, rows, NULL, SAMPLE, TRUENO_ERR_ARGUMENT, "labels is NULL");
    expect_untrained(c, rows, labels, 9, TRUENO_ERR_INSUFFICIENT_DATA, "9 rows, needs 10");
    labels[5] = 47;
    expect_untrained(c, rows, labels, SAMPLE, TRUENO_ERR_ARGUMENT, "label 47 of row 5");
    labels[5] = UINT32_MAX;
    expect_untrained(c, rows, labels, SAMPLE, TRUENO_ERR_ARGUMENT, "row 5");
    labels[5] = TRUENO_KERNEL_UNKNOWN;
    expect_untrained(c, rows, labels, SAMPLE, TRUENO_ERR_ARGUMENT, "label 15 of row 5");
    labels[5] = 46;
    rows[8].batch_size = NAN;
    expect_untrained(c, rows, labels, SAMPLE, TRUENO_ERR_INVALID_FEATURE, "row 8: batch_size");
    report.struct_size = 8;
    assert_int_equal(trueno_classifier_train(c, &report, rows, labels, SAMPLE, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(choose(c, &rows[0]).top_kernel, TRUENO_KERNEL_BATCHED_Q4K); /* stays */
    trueno_classifier_free(c);

    rows[8].batch_size = 1;
    assert_int_equal(trueno_classifier_with_random_forest(ctx, &none, 0, NULL, NULL), TRUENO_OK);
    expect_untrained(none, rows, labels, SAMPLE, TRUENO_ERR_ARGUMENT, "n_trees is 0");
    trueno_classifier_free(none);
}

static void test_refused_arguments(void **state)
{
    trueno_classifier *c = untrained(), *none = c;
    trueno_kernel_choice k = TRUENO_KERNEL_CHOICE_INIT, fresh = TRUENO_KERNEL_CHOICE_INIT;
    trueno_forest_options o = TRUENO_FOREST_OPTIONS_INIT;
    trueno_features f = gpu(2);
    size_t n;
    (void)state;
    assert_int_equal(trueno_classifier_new(NULL, &none, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(none);
    assert_int_equal(trueno_classifier_new(ctx, NULL, NULL), TRUENO_ERR_ARGUMENT);
    o.struct_size = 1;
    none = c;
    assert_int_equal(trueno_classifier_with_random_forest(ctx, &none, 5, &o, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_null(none);
    trueno_classifier_free(NULL);

    assert_int_equal(trueno_classifier_predict(NULL, &k, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_classifier_predict(c, NULL, &f, NULL), TRUENO_ERR_ARGUMENT);
    k = choose(c, &f);
    assert_int_equal(trueno_classifier_predict(c, &k, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_memory_equal(&k, &fresh, sizeof k);
    k = choose(c, &f);
    f.batch_size = 0;
    assert_int_equal(trueno_classifier_predict(c, &k, &f, NULL), TRUENO_ERR_INVALID_FEATURE);
    assert_memory_equal(&k, &fresh, sizeof k);
    f = gpu(2);
    f.model_params_b = TRUENO_UNSET;
    assert_int_equal(trueno_classifier_predict(c, &k, &f, NULL), TRUENO_ERR_INVALID_FEATURE);
    f = cpu(2);
    f.gpu_mem_bw_gbs = TRUENO_UNSET; /* a CPU has no default */
    assert_int_equal(trueno_classifier_predict(c, &k, &f, NULL), TRUENO_ERR_INVALID_FEATURE);
    k.struct_size = 8;
    assert_int_equal(trueno_classifier_predict(c, &k, &f, NULL), TRUENO_ERR_ARGUMENT);

    assert_int_equal(trueno_classifier_export(NULL, NULL, 0, &n, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(n, 0);
    assert_int_equal(trueno_classifier_export(c, NULL, 0, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_classifier_import(NULL, &none, &f, 8, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_classifier_import(ctx, NULL, &f, 8, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_classifier_import(ctx, &none, NULL, 8, NULL), TRUENO_ERR_ARGUMENT);
    trueno_classifier_free(c);
}

/* Every allocation may fail: an error, what was learned stays, and nothing is kept. */
static void test_no_memory(void **state)
{
    trueno_features rows[SAMPLE];
    uint32_t labels[SAMPLE];
    trueno_classifier *trained = noisy(1, 3);
    size_t n, succeeded = 0, call;
    uint8_t *p = bytes_of(trained, &n);
    (void)state;
    sample(rows, labels, true);
    for (call = 1; succeeded < 5 && call < 200; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_classifier *c = NULL, *back = NULL;
        trueno_ctx *mine;
        assert_int_equal(trueno_ctx_new(&mine, &opt, NULL), TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status st = trueno_classifier_import(mine, &back, p, n, NULL);
        assert_true(st == TRUENO_OK ? back != NULL : st == TRUENO_ERR_NO_MEMORY && !back);
        if (st == TRUENO_OK) st = trueno_classifier_new(mine, &c, NULL);
        if (st == TRUENO_OK) st = trueno_classifier_train(c, NULL, rows, labels, SAMPLE, NULL);
        assert_true(st == TRUENO_OK || st == TRUENO_ERR_NO_MEMORY);
        if (c)
            assert_int_equal(choose(c, &rows[0]).source,
                             st == TRUENO_OK ? TRUENO_CHOICE_FOREST : TRUENO_CHOICE_RULES);
        succeeded += st == TRUENO_OK;
        trueno_classifier_free(c);
        trueno_classifier_free(back);
        trueno_ctx_free(mine);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
    assert_true(succeeded == 5 && call > 15);
    free(p);
    trueno_classifier_free(trained);
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
        cmocka_unit_test(test_rules),
        cmocka_unit_test(test_columns_of_a_pass),
        cmocka_unit_test(test_confidence_of_rules),
        cmocka_unit_test(test_specification),
        cmocka_unit_test(test_train_again),
        cmocka_unit_test(test_calibrated),
        cmocka_unit_test(test_masked),
        cmocka_unit_test(test_alternatives),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_hostile),
        cmocka_unit_test(test_refused_training),
        cmocka_unit_test(test_refused_arguments),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
