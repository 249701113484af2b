/* SPDX-License-Identifier: MIT */
/* The table of choices: what runs, what changes it, and what outlives the process. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hooks.h"
#include "trueno/kernels.h"
#include "tuner/tuner_impl.h"

/* A problem of one column, where arms of every width compete. */
static trueno_problem problem(size_t rows)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.rows = rows;
    p.cols = 2048;
    return p;
}

static trueno_tuner *tuner(trueno_ctx *ctx, trueno_tuner_mode mode, const char *path)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *t;
    o.mode = mode;
    o.store_path = path ? path : "";
    if (trueno_tuner_new(ctx, &t, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return t;
}

static trueno_ctx *context(void)
{
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    return ctx;
}

static const char *variant_of(trueno_tuner *t, const trueno_problem *p)
{
    trueno_pick pick = TRUENO_PICK_INIT;
    assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
    return pick.variant;
}

/* What would run without a tuner, and the first other arm; NULL: this machine has none. */
static const char *default_of(trueno_ctx *ctx, const trueno_problem *p)
{
    const struct tr_kernel *k;
    assert_int_equal(tr_kernel_choose(&k, NULL, ctx, TR_OP_GEMM, p->type, TR_ACT_NONE, NULL),
                     TRUENO_OK);
    return k->name;
}

static const char *other_of(trueno_tuner *t, const trueno_problem *p)
{
    struct tr_slot *s = tr_tuner_slot(t, p);
    return s->n_arms > 1 ? s->arms[1]->name : NULL;
}

/* Runs `n` calls; each takes 1000 ns, by the variant `fast` 800, with noise of some percent. */
static void play(trueno_tuner *t, const trueno_problem *p, const char *fast, int n)
{
    static uint32_t noise = 1;
    for (int i = 0; i < n; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
        noise = noise * 1664525U + 1013904223U;
        uint64_t ns = (fast && strcmp(pick.variant, fast) == 0 ? 80000 : 100000) + (noise >> 20);
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, ns), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
}

static void need_rivals(const char *other)
{
    if (other) return;
    print_message("skipped: this machine has one kernel for Q4_K\n");
    skip();
}

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
        assert_int_equal(trueno_tuner_import(u, bytes, len, NULL), TRUENO_OK);
        assert_string_equal(variant_of(u, &p), other);
        assert_true(trueno_tuner_digest(u) == trueno_tuner_digest(t));
        assert_int_equal(trueno_tuner_import(u, bytes, len / 2, NULL) == TRUENO_OK, 0);
        assert_string_equal(variant_of(u, &p), other);
        assert_int_equal(trueno_tuner_forget(u, NULL), TRUENO_OK);
        assert_string_equal(variant_of(u, &p), default_of(ctx, &p));
        assert_int_equal(trueno_tuner_import(u, bytes, len, NULL), TRUENO_OK);
        assert_string_equal(variant_of(u, &p), default_of(ctx, &p));
        trueno_tuner_free(u);
    }
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_merge(u, t, NULL), TRUENO_OK);
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
    assert_int_equal(trueno_tuner_import(u, bytes, len, NULL), TRUENO_ERR_READ_ONLY);
    trueno_tuner_free(u);
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
    assert_int_equal(trueno_tuner_import(u, bytes, len, NULL), TRUENO_OK);
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
    assert_int_equal(trueno_tuner_import(u, bytes, len, NULL), TRUENO_OK);
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
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, ns), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
    play(t, &q, other, 400);
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_merge(u, t, NULL), TRUENO_OK);
    assert_string_equal(variant_of(u, &p), other);
    assert_string_equal(variant_of(u, &q), other);
    trueno_tuner_free(u);
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
    assert_int_equal(trueno_tuner_observe(t, 0, 5), TRUENO_OK);
    assert_int_equal(trueno_tuner_observe(t, 12345, 5), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
    assert_true(pick.ticket != 0);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket, 0), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket + 200, 5), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket + (1 << 8), 5), TRUENO_ERR_ARGUMENT);
    for (int i = 0; i < TR_RING + 10; i++)
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, 5), TRUENO_OK);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.dropped, 10);
    assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    assert_int_equal(trueno_tuner_observe(t, pick.ticket, 5), TRUENO_OK); /* room again */
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
    assert_int_equal(trueno_tuner_forget(t, NULL), TRUENO_ERR_BUSY);
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
        assert_int_equal(trueno_tuner_merge(u, t, NULL), TRUENO_OK);
        same_predictions(t, u);
        trueno_tuner_free(u);

        /* another machine does not use them, but keeps them beside its own */
        trueno_tuner *back = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
        u = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
        snprintf(u->machine_id, sizeof u->machine_id, "another machine");
        assert_int_equal(trueno_tuner_merge(u, t, NULL), TRUENO_OK);
        assert_string_equal(trueno_tuner_version(u), "1.0.0");
        assert_int_equal(trueno_tuner_observe_run(u, &rows[0], 10, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_merge(back, u, NULL), TRUENO_OK);
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
        cmocka_unit_test(test_default),         cmocka_unit_test(test_learning),
        cmocka_unit_test(test_pause),           cmocka_unit_test(test_store),
        cmocka_unit_test(test_exports),         cmocka_unit_test(test_stale),
        cmocka_unit_test(test_tickets),         cmocka_unit_test(test_full_table),
        cmocka_unit_test(test_explain),         cmocka_unit_test(test_busy),
        cmocka_unit_test(test_no_memory),       cmocka_unit_test(test_roof_is_raised),
        cmocka_unit_test(test_models_are_kept), cmocka_unit_test(test_absurd_times),
        cmocka_unit_test(test_trains_its_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
