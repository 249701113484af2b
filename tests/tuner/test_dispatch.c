/* SPDX-License-Identifier: MIT */
/* The table of choices: what runs, and what changes it. */
#include "tuner/dispatch_test.h"

/* Without evidence the static default runs, in every mode but STRICT. */
static void test_default(void **state)
{
    static const trueno_tuner_mode modes[] = {TRUENO_TUNER_OFF, TRUENO_TUNER_FROZEN,
                                              TRUENO_TUNER_LEARN};
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512);
    (void)state;
    for (int i = 0; i < 3; i++) {
        trueno_tuner *t = tuner(ctx, modes[i], NULL);
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_get_mode(t), modes[i]);
        assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
        assert_int_equal(tr_slot_pick(tr_tuner_slot(t, &p)), 0);
        assert_string_equal(tr_tuner_slot(t, &p)->arms[0]->name, default_of(ctx, &p));
        if (modes[i] == TRUENO_TUNER_LEARN) { /* may try others from the first call on */
            assert_int_equal(pick.source == TRUENO_CHOICE_EXPLORING,
                             strcmp(pick.variant, default_of(ctx, &p)) != 0);
        } else {
            assert_string_equal(pick.variant, default_of(ctx, &p));
            assert_int_equal(pick.source, TRUENO_CHOICE_DEFAULT);
            assert_int_equal(pick.ticket, 0);
        }
        trueno_tuner_free(t);
    }
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_STRICT, NULL);
    trueno_pick pick = TRUENO_PICK_INIT;
    assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_ERR_STRICT_MISS);
    assert_null(pick.variant);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* Observations change the choice, but only in LEARN, and only where the kernel is faster. */
static void test_learning(void **state)
{
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512), q = problem(528);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    const char *other = other_of(t, &p);
    (void)state;
    need_rivals(other);
    play(t, &p, other, 400);
    assert_int_equal(tr_slot_pick(tr_tuner_slot(t, &p)), 1);
    play(t, &q, NULL, 400); /* all alike: near ties stay with the default */
    assert_int_equal(tr_slot_pick(tr_tuner_slot(t, &q)), 0);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.contexts, 2);
    assert_int_equal(stats.pins, 1);
    assert_int_equal(stats.observations, 800);
    assert_in_range(stats.explored, 20, 700);
    assert_int_equal(stats.kernel_runs, 0);

    /* later the choice is audited, at a bounded cost; when the other one gets faster it is raced */
    assert_int_equal(stats.retunes, 0);
    play(t, &p, other, 3000);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_in_range(stats.audits, 1, 40);
    assert_true(stats.audit_excess_ns > 0 && stats.audit_excess_ns < 0.01 * 3400 * 100000);
    play(t, &p, NULL, 4000);
    play(t, &p, tr_tuner_slot(t, &p)->arms[0]->name, 16000);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_true(stats.retunes > 0);
    assert_int_equal(tr_slot_pick(tr_tuner_slot(t, &p)), 0);
    trueno_tuner_free(t);

    t = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    play(t, &p, other, 50);
    assert_string_equal(variant_of(t, &p), default_of(ctx, &p));
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* A pause keeps the choice and hands out no tickets. */
static void test_pause(void **state)
{
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    const char *other = other_of(t, &p);
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    (void)state;
    need_rivals(other);
    trueno_tuner_pause(t, true);
    play(t, &p, other, 300);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.observations, 0);
    trueno_tuner_pause(t, false);
    play(t, &p, other, 400);
    assert_int_equal(tr_slot_pick(tr_tuner_slot(t, &p)), 1);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

static void test_tickets(void **state)
{
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    trueno_pick pick = TRUENO_PICK_INIT;
    (void)state;
    need_rivals(other_of(t, &p));
    assert_int_equal(trueno_tuner_observe(t, 0, 5, 0), TRUENO_OK);
    assert_int_equal(trueno_tuner_observe(t, 12345, 5, 0), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
    assert_true(pick.ticket != 0);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket, 0, 0), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket + 200, 5, 0), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket + (1 << 8), 5, 0), TRUENO_ERR_ARGUMENT);
    for (int i = 0; i < TR_RING + 10; i++)
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, 5, 0), TRUENO_OK);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.dropped, 10);
    assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket, 5, 0), TRUENO_OK); /* room again */
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.dropped, 10);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* A full table gives the default; what is in it still works; no hit allocates. */
static void test_full_table(void **state)
{
    struct hooks h = {0};
    trueno_ctx_options co = hook_options(&h);
    trueno_ctx *ctx;
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    (void)state;
    assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    for (size_t i = 0; i < TR_MAX_SLOTS + 5; i++) {
        trueno_problem p = problem(16 + 16 * i);
        const char *variant = variant_of(t, &p);
        if (i >= TR_MAX_SLOTS) assert_string_equal(variant, default_of(ctx, &p));
    }
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.contexts, TR_MAX_SLOTS);
    assert_int_equal(stats.full, 5);
    size_t calls = atomic_load(&h.calls);
    for (size_t i = 0; i < TR_MAX_SLOTS; i++) {
        trueno_problem p = problem(16 + 16 * i);
        assert_non_null(variant_of(t, &p));
    }
    assert_int_equal(atomic_load(&h.calls), calls);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
    assert_int_equal(atomic_load(&h.blocks), 0);
}

static void test_explain(void **state)
{
    static char text[8192];
    trueno_ctx *ctx = context();
    trueno_problem p = problem(512), bad = problem(0);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    const char *other = other_of(t, &p);
    size_t len, need;
    (void)state;
    need_rivals(other);
    play(t, &p, other, 400);
    assert_int_equal(trueno_tuner_explain(t, NULL, 0, &need, &p, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_explain(t, text, sizeof text, &len, &p, NULL), TRUENO_OK);
    assert_int_equal(len, strlen(text));
    assert_int_equal(len, need);
    assert_non_null(strstr(text, other));
    assert_non_null(strstr(text, "measured on this machine"));
    assert_non_null(strstr(text, "400 calls"));
    assert_int_equal(trueno_tuner_explain(t, text, 10, &len, &p, NULL), TRUENO_OK);
    assert_int_equal(strlen(text), 9);
    assert_int_equal(trueno_tuner_explain(t, text, 10, &len, &bad, NULL), TRUENO_ERR_ARGUMENT);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

static void test_busy(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    size_t len;
    (void)state;
    assert_int_equal(tr_tuner_enter(t, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_ERR_BUSY);
    assert_int_equal(trueno_tuner_save(t, NULL), TRUENO_ERR_BUSY);
    assert_int_equal(trueno_tuner_forget(t, NULL, NULL), TRUENO_ERR_BUSY);
    assert_int_equal(trueno_tuner_clone(t, &u, NULL), TRUENO_ERR_BUSY);
    assert_int_equal(trueno_tuner_export(t, NULL, 0, &len, TRUENO_STORE_JSON, NULL),
                     TRUENO_ERR_BUSY);
    tr_tuner_leave(t);
    assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* Every allocation of a tuner's life may fail, and nothing is lost. */
static void test_no_memory(void **state)
{
    trueno_problem p = problem(512);
    bool done = false;
    (void)state;
    for (size_t fail = 2; !done; fail++) {
        struct hooks h = {.fail_at = 0};
        trueno_ctx_options co = hook_options(&h);
        trueno_ctx *ctx;
        trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
        trueno_tuner *t = NULL;
        o.mode = TRUENO_TUNER_LEARN;
        o.store_path = "";
        assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
        h.fail_at = fail;
        trueno_status status = trueno_tuner_new(ctx, &t, &o, NULL);
        if (status == TRUENO_OK) {
            trueno_pick pick = TRUENO_PICK_INIT;
            /* without memory for a policy nothing is learned */
            assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
            assert_non_null(pick.variant);
            done = atomic_load(&h.calls) < fail;
        } else {
            assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
            assert_null(t);
        }
        trueno_tuner_free(t);
        trueno_ctx_free(ctx);
        assert_int_equal(atomic_load(&h.blocks), 0);
        assert_true(fail < 1000);
    }
}

/* A run above its roof proves the bandwidth wrong that was kept for its threads; one below does
 * not, nor does one on a GPU, nor any in FROZEN. */
static void test_roof_is_raised(void **state)
{
    trueno_ctx *ctx = context();
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT, got = TRUENO_MACHINE_PROFILE_INIT;
    trueno_features f = TRUENO_FEATURES_INIT;
    (void)state;
    profile.n = 2;
    profile.points[0] = (trueno_machine_point){1, 20, 500, 100};
    profile.points[1] = (trueno_machine_point){2, 40, 1000, 200};
    f.model_params_b = 1;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 40;
    f.gpu_compute_tflops = 2;
    f.sm_count = 2;
    f.cpu_threads = 2;
    f.kv_bytes_per_token = 0;
    double roof = 40e9 / (1e9 * 0.5625);
    for (int mode = TRUENO_TUNER_FROZEN; mode <= TRUENO_TUNER_LEARN; mode += 2) {
        trueno_tuner *t = tuner(ctx, (trueno_tuner_mode)mode, NULL);
        assert_int_equal(trueno_tuner_remember_profile(t, &profile, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_observe_run(t, &f, roof * 0.9, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_profile(t, &got, NULL), TRUENO_OK);
        assert_true(got.points[1].read_gbs == 40);
        assert_int_equal(trueno_tuner_observe_run(t, &f, roof * 1.25, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_profile(t, &got, NULL), TRUENO_OK);
        bool learns = mode == TRUENO_TUNER_LEARN;
        assert_true(fabs(got.points[1].read_gbs - (learns ? 50 : 40)) < 1e-9);
        assert_true(got.points[0].read_gbs == 20 && fabs(got.points[1].int8_gmacs - 1000) < 1e-9);
        trueno_tuner_free(t);
    }
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_default),        cmocka_unit_test(test_learning),
        cmocka_unit_test(test_pause),          cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_full_table),     cmocka_unit_test(test_explain),
        cmocka_unit_test(test_busy),           cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_roof_is_raised),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
