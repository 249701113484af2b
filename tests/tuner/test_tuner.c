/* SPDX-License-Identifier: MIT */
/* The tuner's answers: recommendations and their panel, modes, copies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hooks.h"
#include "trueno/kernels.h"
#include "tuner/tuner_impl.h"
#include "tuner/tuner_test.h"

/* ------------------------------------------------------------- recommendations */

static void same_kernel(const trueno_kernel_choice *a, const trueno_kernel_choice *b)
{
    assert_int_equal(a->top_kernel, b->top_kernel);
    assert_true(a->confidence == b->confidence && a->context == b->context);
    assert_int_equal(a->source, b->source);
    assert_int_equal(a->n_alternatives, b->n_alternatives);
    for (uint32_t i = 0; i < a->n_alternatives; i++) {
        assert_int_equal(a->alternatives[i].kernel, b->alternatives[i].kernel);
        assert_true(a->alternatives[i].confidence == b->alternatives[i].confidence);
    }
    assert_true((a->variant == NULL) == (b->variant == NULL));
    if (a->variant) assert_string_equal(a->variant, b->variant);
}

static uint32_t tile_of(const char *variant)
{
    for (size_t i = 0; variant && i < trueno_registry_count(); i++)
        if (strcmp(trueno_registry_at(i)->name, variant) == 0)
            return trueno_registry_at(i)->tile_cols;
    return 0;
}

/* The parts of a recommendation are what regressor, classifier and advice say alone. */
static void check_parts(trueno_tuner *t, const trueno_regressor *r, const trueno_classifier *c,
                        const trueno_features *f)
{
    trueno_recommendation rec = recommend(t, f);
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_kernel_choice k = TRUENO_KERNEL_CHOICE_INIT;
    trueno_bottleneck b = TRUENO_BOTTLENECK_INIT;
    trueno_experiment e[8];
    size_t n;
    for (int i = 0; i < 8; i++) e[i] = (trueno_experiment)TRUENO_EXPERIMENT_INIT;

    assert_int_equal(trueno_regressor_predict(r, &p, f, NULL), TRUENO_OK);
    same_prediction(&rec.throughput, &p);
    assert_int_equal(trueno_classifier_predict(c, &k, f, NULL), TRUENO_OK);
    same_kernel(&rec.kernel, &k);
    assert_memory_equal(&rec.kernel.problem, &k.problem, sizeof k.problem);
    assert_int_equal(trueno_bottleneck_of(&b, f, NULL), TRUENO_OK);
    assert_int_equal(rec.bottleneck.kind, b.kind);
    assert_true(rec.bottleneck.memory == b.memory && rec.bottleneck.launch == b.launch);
    assert_string_equal(rec.bottleneck.explanation, b.explanation);
    assert_string_equal(rec.bottleneck.action, b.action);
    assert_int_equal(trueno_experiments_of(e, 8, &n, r, f, NULL), TRUENO_OK);
    assert_int_equal(rec.n_experiments, n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(rec.experiments[i].kind, e[i].kind);
        assert_true(rec.experiments[i].gain == e[i].gain && rec.experiments[i].to == e[i].to);
    }
    assert_true(rec.plan.decode_threads == (f->cpu_threads > 0 ? f->cpu_threads : 1));
    assert_true(rec.plan.prefill_threads == rec.plan.decode_threads);
    assert_int_equal(rec.plan.batch_tile, tile_of(k.variant));
    assert_true(rec.plan.draft == (f->draft_tokens > 0 ? f->draft_tokens : 0));
    double both = p.level > 0 && p.confidence < k.confidence ? p.confidence : k.confidence;
    assert_true(rec.confidence_overall == both);
    assert_string_equal(rec.model_version, trueno_tuner_version(t));
}

static void test_parts(void **state)
{
    static trueno_features rows[100];
    static uint32_t labels[100];
    double tps[100];
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_regressor *r;
    trueno_classifier *c;
    trueno_features fs[4] = {gpu_run(7, 4), cpu_run(1.1, 1), cpu_run(1.1, 8), gpu_run(0.5, 1)};
    (void)state;
    fs[1].draft_tokens = 3;
    fs[3].prompt_tokens = 512;
    sample_rows(rows, tps);
    for (uint32_t i = 0; i < 100; i++) {
        labels[i] = i % 8 < 4 ? 3 : 2; /* not what the rule says */
        tps[i] *= i < 50 ? 1 : 1.8;    /* nobody can be sure of that */
    }
    assert_int_equal(trueno_regressor_with_random_forest(ctx, &r, 10, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_classifier_new(ctx, &c, NULL), TRUENO_OK);
    for (int i = 0; i < 4; i++) check_parts(t, r, c, &fs[i]);

    assert_int_equal(trueno_regressor_train_random_forest(r, NULL, rows, tps, 100, NULL),
                     TRUENO_OK);
    assert_int_equal(trueno_classifier_train(c, NULL, rows, labels, 100, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(t, r, c, NULL), TRUENO_OK);
    for (int i = 0; i < 4; i++) check_parts(t, r, c, &fs[i]);
    assert_int_equal(recommend(t, &fs[0]).kernel.source, TRUENO_CHOICE_FOREST);
    assert_int_equal(recommend(t, &fs[0]).throughput.source, TRUENO_SOURCE_FOREST);
    trueno_recommendation rec = recommend(t, &rows[0]);
    assert_true(rec.confidence_overall < rec.kernel.confidence);
    assert_true(rec.n_experiments > 0); /* more sequences pay */
    trueno_regressor_free(r);
    trueno_classifier_free(c);
    trueno_tuner_free(t);
}

static void expect_empty(const trueno_recommendation *rec, size_t size)
{
    assert_int_equal(rec->struct_size, size);
    assert_true(rec->throughput.predicted_tps == 0 && rec->confidence_overall == 0);
    assert_int_equal(rec->throughput.struct_size, sizeof rec->throughput);
    assert_null(rec->kernel.variant);
    assert_int_equal(rec->kernel.top_kernel, TRUENO_KERNEL_UNKNOWN);
    assert_int_equal(rec->bottleneck.kind, TRUENO_BOTTLENECK_UNKNOWN);
    assert_int_equal(rec->n_experiments, 0);
    assert_int_equal(rec->plan.decode_threads, 0);
    assert_string_equal(rec->model_version, "");
}

static void test_refused(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 4), bad = f;
    trueno_recommendation rec = recommend(t, &f);
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    assert_int_equal(trueno_tuner_recommend(NULL, &rec, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_recommend(t, NULL, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_recommend(t, &rec, NULL, NULL), TRUENO_ERR_ARGUMENT);
    rec.struct_size = 8;
    assert_int_equal(trueno_tuner_recommend(t, &rec, &f, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "struct_size is 8"));
    for (int i = 0; i < 3; i++) {
        bad = f;
        if (i == 0) bad.batch_size = 0;
        if (i == 1) bad.gpu_mem_bw_gbs = NAN;
        if (i == 2) bad.model_params_b = TRUENO_UNSET;
        rec = recommend(t, &f);
        rec.struct_size = sizeof rec + 8; /* of a newer header */
        assert_int_equal(trueno_tuner_recommend(t, &rec, &bad, &err), TRUENO_ERR_INVALID_FEATURE);
        expect_empty(&rec, sizeof rec + 8);
        p.predicted_tps = 5;
        assert_int_equal(trueno_tuner_predict(t, &p, &bad, &err), TRUENO_ERR_INVALID_FEATURE);
        assert_true(p.predicted_tps == 0);
    }
    assert_int_equal(trueno_tuner_predict(NULL, &p, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_predict(t, NULL, &f, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_predict(t, &p, NULL, NULL), TRUENO_ERR_ARGUMENT);
    trueno_recommendation_init(NULL);
    trueno_tuner_free(t);
}

static void test_predict(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_OFF);
    trueno_regressor *r;
    (void)state;
    assert_int_equal(trueno_regressor_new(ctx, &r, NULL), TRUENO_OK);
    for (int batch = 1; batch <= 64; batch *= 4) {
        trueno_features f = gpu_run(7, batch);
        trueno_prediction p = TRUENO_PREDICTION_INIT, q = predict_by(t, &f);
        assert_int_equal(trueno_regressor_predict(r, &p, &f, NULL), TRUENO_OK);
        same_prediction(&p, &q);
        assert_true(q.predicted_tps > 0);
    }
    trueno_regressor_free(r);
    trueno_tuner_free(t);
}

/* Only STRICT refuses what it was not told, only LEARN wants to be told; what was measured outranks
 * the classifier in all but OFF. */
static void test_modes(void **state)
{
    static char bytes[1 << 20];
    size_t len;
    trueno_features f = cpu_run(1.1, 1), other = cpu_run(1.1, 2);
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_recommendation rec = recommend(t, &f);
    trueno_problem p = rec.kernel.problem;
    const char *kernels[8];
    (void)state;
    assert_true(rec.kernel.ticket == 0);
    trueno_tuner_free(t);
    if (kernels_tried(ctx, kernels, &p) < 2) {
        print_message("skipped: this machine has one kernel for Q4_K\n");
        skip();
    }
    assert_string_equal(rec.kernel.variant, kernels[0]);

    t = make_tuner(ctx, TRUENO_TUNER_LEARN);
    rec = recommend(t, &f);
    assert_true(rec.kernel.ticket != 0);
    assert_int_equal(trueno_tuner_observe(t, rec.kernel.ticket, 100000, 0), TRUENO_OK);
    assert_int_equal(trueno_tuner_tick(t, UINT64_MAX), TRUENO_OK); /* a budget that is no limit */
    assert_int_equal(stats_of(t).observations, 1);
    play(t, &p, kernels[1], 400);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    trueno_tuner_free(t);
    for (int mode = TRUENO_TUNER_OFF; mode <= TRUENO_TUNER_LEARN; mode++) {
        trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
        o.mode = (trueno_tuner_mode)mode;
        o.blob = bytes;
        o.blob_bytes = len;
        assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
        rec = recommend(t, &f);
        assert_string_equal(rec.kernel.variant, kernels[mode != TRUENO_TUNER_OFF]);
        assert_int_equal(rec.kernel.source,
                         mode == TRUENO_TUNER_OFF ? TRUENO_CHOICE_RULES : TRUENO_CHOICE_MEASURED);
        assert_int_equal(rec.plan.batch_tile, tile_of(rec.kernel.variant));
        trueno_status status = trueno_tuner_recommend(t, &rec, &other, NULL);
        if (mode == TRUENO_TUNER_STRICT) {
            assert_int_equal(status, TRUENO_ERR_STRICT_MISS);
            expect_empty(&rec, sizeof rec);
        } else {
            assert_int_equal(status, TRUENO_OK);
        }
        trueno_tuner_free(t);
    }
}

/* A context that is known costs no memory, in any mode. */
static void test_no_allocation(void **state)
{
    struct hooks h = {0};
    trueno_ctx_options co = hook_options(&h);
    trueno_features f = cpu_run(1.1, 1), g = gpu_run(7, 4);
    trueno_ctx *c;
    (void)state;
    assert_int_equal(trueno_ctx_new(&c, &co, NULL), TRUENO_OK);
    trueno_tuner *t = make_tuner(c, TRUENO_TUNER_LEARN);
    (void)recommend(t, &f);
    size_t calls = atomic_load(&h.calls);
    for (int i = 0; i < 100; i++) {
        trueno_recommendation rec = recommend(t, &f);
        (void)trueno_tuner_observe(t, rec.kernel.ticket, 5, 0);
        (void)trueno_tuner_tick(t, 0);
        (void)recommend(t, &g);
    }
    assert_int_equal(atomic_load(&h.calls), calls);
    trueno_tuner_free(t);
    trueno_ctx_free(c);
    assert_int_equal(atomic_load(&h.blocks), 0);
}

/* A full table in STRICT names no kernel. */
static void test_full_table_strict(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_STRICT);
    trueno_pick pick = TRUENO_PICK_INIT;
    (void)state;
    for (size_t i = 0; i < TR_MAX_SLOTS + 3; i++) {
        trueno_problem p = TRUENO_PROBLEM_INIT;
        p.rows = 16 + 16 * i;
        p.cols = 256;
        pick.variant = "?";
        assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_ERR_STRICT_MISS);
        assert_null(pick.variant);
    }
    assert_int_equal(stats_of(t).full, 3);
    trueno_tuner_free(t);
}

/* ----------------------------------------------------------------------- panel */

/* Every line is ended and has at most 80 characters; returns how many lines. */
static size_t check_lines(const char *text)
{
    size_t columns = 0, lines = 0;
    for (; *text; text++) {
        if (*text == '\n') {
            assert_true(columns > 0 && columns <= 80);
            lines++;
            columns = 0;
        } else if (((unsigned char)*text & 0xc0) != 0x80) {
            columns++;
        }
    }
    assert_int_equal(columns, 0);
    return lines;
}

/* Characters of the block elements U+2580 to U+25BF that follow each other. */
static size_t longest_bar(const char *text)
{
    size_t longest = 0, n = 0;
    for (; *text; text++) {
        if (strncmp(text, "\xe2\x96", 2) == 0) {
            n++;
            text += 2;
        } else {
            n = 0;
        }
        if (n > longest) longest = n;
    }
    return longest;
}

static void test_panel(void **state)
{
    static char text[16384], cut[16384];
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features fs[6] = {gpu_run(7, 4),  cpu_run(1.1, 1), gpu_run(1e-4, 65535),
                             cpu_run(70, 8), gpu_run(0.5, 1), gpu_run(405, 1)};
    (void)state;
    fs[2].gpu_mem_bw_gbs = 65535;
    fs[2].gpu_compute_tflops = 60000;
    fs[3].prompt_tokens = 4096;
    fs[4].draft_tokens = 200;
    for (int i = 0; i < 6; i++) {
        trueno_recommendation rec = recommend(t, &fs[i]);
        char value[64];
        size_t len = trueno_recommendation_format(NULL, 0, &rec);
        assert_in_range(len, 300, sizeof text - 1);
        assert_int_equal(trueno_recommendation_format(text, sizeof text, &rec), len);
        assert_int_equal(strlen(text), len);
        assert_true(check_lines(text) >= 8);
        assert_non_null(strstr(text, "1.0.0"));
        assert_non_null(strstr(text, trueno_kernel_name(rec.kernel.top_kernel)));
        if (rec.kernel.variant) assert_non_null(strstr(text, rec.kernel.variant));
        assert_int_equal(longest_bar(text), 40);
        snprintf(value, sizeof value, " %.1f ", rec.throughput.predicted_tps);
        if (i != 2) assert_non_null(strstr(text, value));
        snprintf(value, sizeof value, "\n  confidence   %.0f %%\n", 100 * rec.confidence_overall);
        assert_non_null(strstr(text, value));
        for (size_t cap = 1; cap < len + 3; cap += 7) {
            memset(cut, 'x', sizeof cut);
            assert_int_equal(trueno_recommendation_format(cut, cap, &rec), len);
            size_t kept = cap - 1 < len ? cap - 1 : len;
            assert_int_equal(strlen(cut), kept);
            assert_memory_equal(cut, text, kept);
            assert_true(cap >= sizeof cut || cut[cap] == 'x');
        }
    }
    assert_int_equal(trueno_recommendation_format(text, sizeof text, NULL), 0);
    assert_string_equal(text, "");
    trueno_tuner_free(t);
}

/* Whatever a recommendation holds, lines end in time, and long sentences come out whole. */
static void test_long_panel(void **state)
{
    static char text[16384];
    trueno_recommendation rec;
    size_t n = 0;
    (void)state;
    trueno_recommendation_init(&rec);
    rec.throughput.predicted_tps = rec.throughput.lo = rec.throughput.hi = 1e300;
    rec.throughput.roofline_tps = 1e300;
    rec.throughput.efficiency = NAN;
    for (size_t i = 0; i + 2 < sizeof rec.bottleneck.explanation; i += 2)
        memcpy(rec.bottleneck.explanation + i, "\xc3\xa9", 3); /* one word of 127 characters */
    memset(rec.bottleneck.action, 'w', sizeof rec.bottleneck.action - 1);
    for (size_t i = 5; i < sizeof rec.bottleneck.action; i += 6) rec.bottleneck.action[i] = ' ';
    rec.bottleneck.action[sizeof rec.bottleneck.action - 1] = 0;
    rec.n_experiments = SIZE_MAX; /* eight are there */
    for (int i = 0; i < 8; i++) {
        rec.experiments[i] = (trueno_experiment)TRUENO_EXPERIMENT_INIT;
        rec.experiments[i].gain = 3;
        memset(rec.experiments[i].text, 'a' + i, sizeof rec.experiments[i].text - 1);
    }
    assert_in_range(trueno_recommendation_format(text, sizeof text, &rec), 1, sizeof text - 1);
    check_lines(text);
    for (const char *s = text; *s; s++) n += (unsigned char)*s == 0xa9;
    assert_int_equal(n, 127);
    assert_non_null(strstr(text, "\xc3\xa9\n               \xc3\xa9")); /* below the value */
    n = 0;
    for (const char *s = text; *s; s++) n += *s == 'w';
    assert_true(n >= 133); /* 159 characters, less 26 blanks */
    assert_null(strstr(text, "wwwwww"));
    for (int i = 0; i < 8; i++) {
        n = 0;
        for (const char *s = text; *s; s++) n += *s == 'a' + i;
        assert_true(n >= 127);
    }
    rec.struct_size = 3;
    assert_int_equal(trueno_recommendation_format(text, sizeof text, &rec), 0);
}

/* --------------------------------------------------------------- life, statistics */

static void test_clone(void **state)
{
    static trueno_features rows[100];
    double tps[100], mape = 0, copied = 0;
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN), *u;
    trueno_features f = gpu_run(1.5, 4);
    (void)state;
    sample_rows(rows, tps);
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_OK);
    for (int i = 0; i < 3; i++)
        assert_int_equal(trueno_tuner_observe_run(t, &f, 300, NULL), TRUENO_OK);
    trueno_prediction before = predict_by(t, &f);
    assert_int_equal(trueno_tuner_clone(t, &u, NULL), TRUENO_OK);
    trueno_prediction copy = predict_by(u, &f);
    same_prediction(&before, &copy);
    assert_int_equal(trueno_tuner_get_mode(u), TRUENO_TUNER_LEARN);
    assert_string_equal(trueno_tuner_version(u), "1.0.0-online-3");
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_throughput_mape(u, &copied, NULL), TRUENO_OK);
    assert_true(mape == copied);
    for (int i = 0; i < 20; i++)
        assert_int_equal(trueno_tuner_observe_run(u, &f, 700, NULL), TRUENO_OK);
    copy = predict_by(t, &f);
    same_prediction(&before, &copy); /* they share nothing */
    assert_true(predict_by(u, &f).predicted_tps > before.predicted_tps);
    trueno_tuner_free(t);
    assert_true(predict_by(u, &f).predicted_tps > before.predicted_tps);
    assert_int_equal(trueno_tuner_save(u, NULL), TRUENO_OK); /* nowhere */

    t = u;
    assert_int_equal(trueno_tuner_clone(NULL, &u, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_clone(t, NULL, NULL), TRUENO_ERR_ARGUMENT);
    trueno_tuner_free(t);
    trueno_tuner_free(NULL);
    assert_string_equal(trueno_tuner_version(NULL), "");
    assert_int_equal(trueno_tuner_get_mode(NULL), TRUENO_TUNER_OFF);
}

static void test_options(void **state)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner *t = (trueno_tuner *)&o;
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    (void)state;
    assert_int_equal(trueno_tuner_new(NULL, &t, &o, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(t);
    assert_int_equal(trueno_tuner_new(ctx, NULL, &o, NULL), TRUENO_ERR_ARGUMENT);
    o.mode = (trueno_tuner_mode)4;
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_ERR_ARGUMENT);
    o.mode = TRUENO_TUNER_FROZEN;
    o.struct_size = 4;
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_ERR_ARGUMENT);
    o.struct_size = sizeof o;
    o.blob_bytes = 9;
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_ERR_ARGUMENT);
    o.blob = "not a store";
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
    assert_int_not_equal(trueno_tuner_store_status(t), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(t), "1.0.0");
    assert_int_equal(trueno_tuner_get_stats(NULL, &stats), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_get_stats(t, NULL), TRUENO_ERR_ARGUMENT);
    stats.struct_size = 9;
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_ERR_ARGUMENT);
    trueno_tuner_free(t);
    o.mode = TRUENO_TUNER_STRICT;
    assert_int_not_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
    assert_null(t);
}

/* The usual file: below XDG_CACHE_HOME if that is absolute, else below HOME, else nowhere. */
static void test_cache_path(void **state)
{
    char dir[] = "/tmp/trueno-test-XXXXXX", want[128], path[128];
    trueno_tuner *t;
    struct stat file;
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(setenv("XDG_CACHE_HOME", dir, 1) + setenv("HOME", "/home/nobody", 1), 0);
    snprintf(want, sizeof want, "%s/trueno/tuner.trw", dir);
    assert_int_equal(trueno_tuner_cache_path(path, sizeof path), TRUENO_OK);
    assert_string_equal(path, want);
    assert_int_equal(trueno_tuner_cache_path(path, strlen(want)), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_cache_path(NULL, 5), TRUENO_ERR_ARGUMENT);

    assert_int_equal(trueno_tuner_new(ctx, &t, NULL, NULL), TRUENO_OK); /* goes there */
    assert_int_equal(trueno_tuner_save(t, NULL), TRUENO_OK);
    trueno_tuner_free(t);
    assert_int_equal(stat(want, &file), 0);
    assert_int_equal(file.st_mode & 0777, 0600);
    unlink(want);
    snprintf(want, sizeof want, "%s/trueno/tuner.trw.lock", dir);
    unlink(want);
    snprintf(want, sizeof want, "%s/trueno", dir);
    assert_int_equal(rmdir(want) + rmdir(dir), 0);

    assert_int_equal(setenv("XDG_CACHE_HOME", "relative", 1), 0);
    assert_int_equal(trueno_tuner_cache_path(path, sizeof path), TRUENO_OK);
    assert_string_equal(path, "/home/nobody/.cache/trueno/tuner.trw");
    assert_int_equal(unsetenv("XDG_CACHE_HOME") + unsetenv("HOME"), 0);
    assert_int_equal(trueno_tuner_cache_path(path, sizeof path), TRUENO_ERR_NOT_FOUND);
    assert_string_equal(path, "");
    assert_int_equal(trueno_tuner_new(ctx, &t, NULL, NULL), TRUENO_OK); /* in memory */
    assert_int_equal(trueno_tuner_store_status(t), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(trueno_tuner_save(t, NULL), TRUENO_OK);
    trueno_tuner_free(t);
}

/* Who learns from a slot keeps it for long: forgetting and importing do not wait, the choice is
 * another one at once, and what the old one is measured at teaches nothing. */
static void test_taken_slots(void **state)
{
    static char bytes[1 << 20];
    size_t len;
    trueno_problem p = TRUENO_PROBLEM_INIT;
    const char *kernels[8];
    (void)state;
    p.rows = 512;
    p.cols = 2048;
    if (kernels_tried(ctx, kernels, &p) < 2) {
        print_message("skipped: this machine has one kernel for Q4_K\n");
        skip();
    }
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN);
    struct tr_slot *s = tr_tuner_slot(t, &p);
    play(t, &p, kernels[1], 400);
    assert_string_equal(tr_slot_kernel(s, tr_slot_pick(s))->name, kernels[1]);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    assert_true(tr_slot_take(s));
    uint32_t arm = tr_slot_next(s);
    uint64_t seen = stats_of(t).observations;
    assert_int_equal(arm, tr_slot_pick(s));
    assert_int_equal(trueno_tuner_import(t, NULL, bytes, len, NULL),
                     TRUENO_OK); /* the same choice */
    tr_slot_measured(s, arm, 1);
    assert_int_equal(stats_of(t).observations, seen);
    arm = tr_slot_next(s);
    assert_int_equal(trueno_tuner_forget(t, NULL, NULL), TRUENO_OK);
    assert_int_equal(tr_slot_pick(s), 0);
    tr_slot_measured(s, arm, 1);
    assert_int_equal(stats_of(t).observations, seen);
    for (int i = 0; i < 3; i++) tr_slot_measured(s, tr_slot_next(s), 100000); /* a new race */
    assert_int_equal(tr_slot_pick(s), 0);
    tr_slot_give(s);
    trueno_tuner_free(t);

    t = make_tuner(ctx, TRUENO_TUNER_LEARN);
    s = tr_tuner_slot(t, &p);
    assert_true(tr_slot_take(s));
    (void)tr_slot_next(s);
    assert_int_equal(trueno_tuner_import(t, NULL, bytes, len, NULL), TRUENO_OK);
    assert_string_equal(tr_slot_kernel(s, tr_slot_pick(s))->name, kernels[1]);
    for (int i = 0; i < 30; i++) { /* without a race */
        assert_int_equal(tr_slot_next(s), tr_slot_pick(s));
        tr_slot_measured(s, tr_slot_pick(s), 100000);
    }
    assert_string_equal(tr_slot_kernel(s, tr_slot_pick(s))->name, kernels[1]);
    tr_slot_give(s);
    trueno_tuner_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts),         cmocka_unit_test(test_refused),
        cmocka_unit_test(test_predict),       cmocka_unit_test(test_modes),
        cmocka_unit_test(test_no_allocation), cmocka_unit_test(test_full_table_strict),
        cmocka_unit_test(test_panel),         cmocka_unit_test(test_long_panel),
        cmocka_unit_test(test_clone),         cmocka_unit_test(test_options),
        cmocka_unit_test(test_taken_slots),   cmocka_unit_test(test_cache_path),
    };
    return cmocka_run_group_tests(tests, make_shared, free_shared);
}
