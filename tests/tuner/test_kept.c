/* SPDX-License-Identifier: MIT */
/* What a tuner knows outlives the process: choices and models, in files, exports and merges. */
#include "tuner/dispatch_test.h"

static char *temp_path(char path[64])
{
    int fd;
    snprintf(path, 64, "/tmp/trueno-test-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    return path;
}

/* What one process learned is what the next one runs, from its first call on. */
static void test_store(void **state)
{
    char path[64], lock[80];
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512);
    trueno_pick pick = TRUENO_PICK_INIT;
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, temp_path(path));
    const char *other = other_of(t, &p);
    (void)state;
    need_rivals(other);
    assert_int_equal(trueno_tuner_store_status(t), TRUENO_OK);
    play(t, &p, other, 400);
    assert_int_equal(trueno_tuner_save(t, NULL), TRUENO_OK);
    uint64_t digest = trueno_tuner_digest(t);
    trueno_tuner_free(t);

    t = tuner(ctx, TRUENO_TUNER_FROZEN, path);
    assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
    assert_string_equal(pick.variant, other);
    assert_int_equal(pick.source, TRUENO_CHOICE_MEASURED);
    assert_true(trueno_tuner_digest(t) == digest);
    trueno_tuner_free(t);

    t = tuner(ctx, TRUENO_TUNER_OFF, path); /* reads nothing */
    assert_string_equal(variant_of(t, &p), default_of(ctx, &p));
    trueno_tuner_free(t);

    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    o.mode = TRUENO_TUNER_STRICT;
    o.store_path = path;
    o.expect_digest = digest;
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
    assert_string_equal(variant_of(t, &p), other);
    trueno_tuner_free(t);
    o.expect_digest = digest + 1;
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_ERR_STRICT_MISS);
    assert_null(t);
    unlink(path);
    snprintf(lock, sizeof lock, "%s.lock", path);
    unlink(lock);
    trueno_ctx_free(ctx);
}

/* Exports carry choices to another tuner, in both formats and by merge; forgetting takes them back
 * and an older export does not revive them. */
static void test_exports(void **state)
{
    static char bytes[1 << 20];
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    const char *other = other_of(t, &p);
    size_t len = 0;
    (void)state;
    need_rivals(other);
    play(t, &p, other, 400);
    assert_int_equal(trueno_tuner_export(t, NULL, 0, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_in_range(len, 1, sizeof bytes);
    for (int format = 0; format < 2; format++) {
        u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
        assert_string_equal(variant_of(u, &p), default_of(ctx, &p));
        assert_int_equal(
            trueno_tuner_export(t, bytes, sizeof bytes, &len, (trueno_store_format)format, NULL),
            TRUENO_OK);
        assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
        assert_string_equal(variant_of(u, &p), other);
        assert_true(trueno_tuner_digest(u) == trueno_tuner_digest(t));
        assert_int_equal(trueno_tuner_import(u, NULL, bytes, len / 2, NULL) == TRUENO_OK, 0);
        assert_string_equal(variant_of(u, &p), other);
        assert_int_equal(trueno_tuner_forget(u, NULL, NULL), TRUENO_OK);
        assert_string_equal(variant_of(u, &p), default_of(ctx, &p));
        assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
        assert_string_equal(variant_of(u, &p), default_of(ctx, &p));
        trueno_tuner_free(u);
    }
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_merge(u, NULL, t, NULL), TRUENO_OK);
    assert_string_equal(variant_of(u, &p), other);
    trueno_tuner_free(u);
    assert_int_equal(trueno_tuner_clone(t, &u, NULL), TRUENO_OK);
    assert_string_equal(variant_of(u, &p), other);
    trueno_tuner_free(t);
    trueno_tuner_free(u);

    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    o.blob = bytes;
    o.blob_bytes = len;
    assert_int_equal(trueno_tuner_new(ctx, &u, &o, NULL), TRUENO_OK);
    assert_string_equal(variant_of(u, &p), other);
    assert_int_equal(trueno_tuner_save(u, NULL), TRUENO_OK); /* nowhere */
    trueno_tuner_free(u);
    u = tuner(ctx, TRUENO_TUNER_OFF, NULL);
    assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_ERR_READ_ONLY);
    trueno_tuner_free(u);
    trueno_ctx_free(ctx);
}

/* What was measured is not measured again: a process that begins with a stored choice audits the
 * others as rarely as what is known of them asks for, but it does. */
static void test_knows_the_others(void **state)
{
    static char bytes[1 << 20];
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    trueno_tuner_stats s = TRUENO_TUNER_STATS_INIT;
    const char *first = default_of(ctx, &p);
    size_t len;
    (void)state;
    need_rivals(other_of(t, &p));
    play(t, &p, first, 400); /* the default is the fastest, by a fifth */
    assert_string_equal(variant_of(t, &p), first);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    trueno_tuner_free(t);
    u = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
    /* an audit costs 16 x 0.2 calls, so there is one in about a thousand */
    play(u, &p, first, 700);
    assert_int_equal(trueno_tuner_get_stats(u, &s), TRUENO_OK);
    assert_int_equal(s.explored, 0);
    play(u, &p, first, 3000);
    assert_int_equal(trueno_tuner_get_stats(u, &s), TRUENO_OK);
    assert_in_range(s.explored, 16, 200);
    trueno_tuner_free(u);

    /* whatever a store says, an arm is audited some time */
    struct tr_policy *policy = malloc(tr_policy_bytes(3));
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    assert_non_null(policy);
    o.policy = TRUENO_BANDIT_AUDIT;
    tr_policy_init(policy, &o, 3, 0, 1);
    tr_policy_pin(policy, 1);
    tr_policy_know(policy, 0, -20);
    assert_true(policy->next_due < 10000);
    assert_true(policy->arms[0].gain == -0.5F && policy->arms[2].gain == 0); /* nobody knows it */
    tr_policy_know(policy, 7, -1);
    tr_policy_know(policy, 1, -1); /* the one in use */
    assert_true(policy->arms[1].gain == 0);
    free(policy);
    trueno_ctx_free(ctx);
}

/* A store of another build or machine decides nothing. */
static void test_stale(void **state)
{
    static char bytes[1 << 20];
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    const char *other = other_of(t, &p);
    size_t len;
    (void)state;
    need_rivals(other);
    t->kernels_version ^= 1;
    play(t, &p, other, 400);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    trueno_tuner_free(t);
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
    assert_string_equal(variant_of(u, &p), default_of(ctx, &p));
    assert_int_equal(trueno_tuner_get_stats(u, &stats), TRUENO_OK);
    assert_int_equal(stats.stored_stale, 1);
    trueno_tuner_free(u);

    t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    snprintf(t->machine_id, sizeof t->machine_id, "another machine");
    play(t, &p, other, 400);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    trueno_tuner_free(t);
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
    assert_string_equal(variant_of(u, &p), default_of(ctx, &p));
    trueno_tuner_free(u);
    trueno_ctx_free(ctx);
}

/* Times that no store would take are no reason to keep nothing. */
static void test_absurd_times(void **state)
{
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512), q = problem(528);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    const char *other = other_of(t, &p);
    (void)state;
    need_rivals(other);
    for (int i = 0; i < 100; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
        uint64_t ns = strcmp(pick.variant, other) == 0 ? 1 : UINT64_MAX;
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, ns, 0), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
    play(t, &q, other, 400);
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_merge(u, NULL, t, NULL), TRUENO_OK);
    assert_string_equal(variant_of(u, &p), other);
    assert_string_equal(variant_of(u, &q), other);
    trueno_tuner_free(u);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

static trueno_features a_run(double billions)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = billions;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 40;
    f.gpu_compute_tflops = 2;
    f.sm_count = 2;
    f.cpu_threads = 2;
    return f;
}

static void same_predictions(trueno_tuner *t, trueno_tuner *u)
{
    for (double billions = 0.25; billions < 10; billions *= 1.5) {
        trueno_features f = a_run(billions);
        trueno_prediction p = TRUENO_PREDICTION_INIT, q = TRUENO_PREDICTION_INIT;
        assert_int_equal(trueno_tuner_predict(t, &p, &f, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_predict(u, &q, &f, NULL), TRUENO_OK);
        assert_memory_equal(&p, &q, sizeof p);
    }
    assert_string_equal(trueno_tuner_version(t), trueno_tuner_version(u));
    double mape, other;
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, NULL),
                     trueno_tuner_throughput_mape(u, &other, NULL));
    assert_true(mape == other || (isnan(mape) && isnan(other)));
}

/* What models learned comes back with the file, version and accuracy as they were; of another
 * machine it does not, and a tuner that learned nothing keeps nothing. */
static void test_models_are_kept(void **state)
{
    char path[64], lock[80];
    trueno_ctx *ctx = context();
    (void)state;
    for (int kind = 0; kind < 3; kind++) { /* online, pretrained and online, trained */
        trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
        trueno_tuner *t, *u;
        trueno_features rows[40];
        double tps[40];
        o.mode = TRUENO_TUNER_LEARN;
        o.store_path = temp_path(path);
        assert_int_equal(
            (kind == 1 ? trueno_tuner_with_pretrained : trueno_tuner_new)(ctx, &t, &o, NULL),
            TRUENO_OK);
        size_t len, more;
        assert_int_equal(trueno_tuner_export(t, NULL, 0, &len, TRUENO_STORE_BINARY, NULL),
                         TRUENO_ERR_ARGUMENT);
        assert_true(len < 2000);
        for (int i = 0; i < 40; i++) {
            rows[i] = a_run(0.5 + 0.1 * i);
            tps[i] = 40 / rows[i].model_params_b * (1 + 0.01 * (i % 3));
        }
        if (kind == 2)
            assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 40, NULL), TRUENO_OK);
        for (int i = 0; i < 5 && kind < 2; i++)
            assert_int_equal(trueno_tuner_observe_run(t, &rows[i], tps[i], NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_save(t, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_export(t, NULL, 0, &more, TRUENO_STORE_BINARY, NULL),
                         TRUENO_ERR_ARGUMENT);
        assert_true(more > len + 1000);

        o.mode = TRUENO_TUNER_FROZEN;
        if (kind == 0) { /* learned on top of no model: the one that comes along knows more */
            assert_int_equal(trueno_tuner_with_pretrained(ctx, &u, &o, NULL), TRUENO_OK);
            assert_string_equal(trueno_tuner_version(u), "1.0.0-pretrained");
            trueno_tuner_free(u);
        }
        assert_int_equal(
            (kind == 0 ? trueno_tuner_new : trueno_tuner_with_pretrained)(ctx, &u, &o, NULL),
            TRUENO_OK);
        same_predictions(t, u);
        assert_true(trueno_tuner_digest(t) == trueno_tuner_digest(u));
        trueno_tuner_free(u);

        u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL); /* the same by merging */
        assert_int_equal(trueno_tuner_merge(u, NULL, t, NULL), TRUENO_OK);
        same_predictions(t, u);
        trueno_tuner_free(u);

        /* another machine does not use them, but keeps them beside its own */
        trueno_tuner *back = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
        u = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
        snprintf(u->machine_id, sizeof u->machine_id, "another machine");
        assert_int_equal(trueno_tuner_merge(u, NULL, t, NULL), TRUENO_OK);
        assert_string_equal(trueno_tuner_version(u), "1.0.0");
        assert_int_equal(trueno_tuner_observe_run(u, &rows[0], 10, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_merge(back, NULL, u, NULL), TRUENO_OK);
        same_predictions(t, back);
        trueno_tuner_free(back);
        trueno_tuner_free(u);
        trueno_tuner_free(t);
        unlink(path);
        snprintf(lock, sizeof lock, "%s.lock", path);
        unlink(lock);
    }
    trueno_ctx_free(ctx);
}

/* A tuner trains its own forest, whatever models it was given before. */
static void test_trains_its_own(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN, NULL), *u;
    trueno_regressor *plain;
    trueno_features rows[40];
    double tps[40];
    (void)state;
    for (int i = 0; i < 40; i++) {
        rows[i] = a_run(0.5 + 0.1 * i);
        tps[i] = 40 / rows[i].model_params_b;
    }
    assert_int_equal(trueno_regressor_new(ctx, &plain, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_set_models(t, plain, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 40, NULL), TRUENO_OK);
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_train(u, NULL, rows, tps, 40, NULL), TRUENO_OK);
    same_predictions(t, u);
    trueno_regressor_free(plain);
    trueno_tuner_free(t);
    trueno_tuner_free(u);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store),
        cmocka_unit_test(test_exports),
        cmocka_unit_test(test_knows_the_others),
        cmocka_unit_test(test_stale),
        cmocka_unit_test(test_models_are_kept),
        cmocka_unit_test(test_absurd_times),
        cmocka_unit_test(test_trains_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
