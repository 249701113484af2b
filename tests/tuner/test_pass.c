/* SPDX-License-Identifier: MIT */
/* Threads of whole passes: what is compared, what is learned, who is told, and what is kept. */
#include "tuner/dispatch_test.h"

/* A pass of n tokens with up to so many threads. */
static trueno_pass a_pass(uint32_t n, uint32_t threads)
{
    trueno_pass pass = TRUENO_PASS_INIT;
    pass.problem.kind = TRUENO_PROBLEM_PASS;
    pass.problem.rows = (size_t)22 * 5632;
    pass.problem.cols = 2048;
    pass.problem.n_cols = n;
    pass.problem.threads = threads;
    pass.problem.phase = tr_phase_of(n);
    return pass;
}

/* Time of a pass of n tokens: with `best` threads a fifth less than with any other number; noise of
 * some percent. */
static uint64_t time_of(uint32_t threads, uint32_t best, uint32_t n)
{
    static uint32_t noise = 1;
    noise = noise * 1664525U + 1013904223U;
    return ((threads == best ? 800000 : 1000000) + (noise >> 17)) * n;
}

/* Plays passes and counts how often each number of threads was asked for. */
static void play_passes(trueno_tuner *t, uint32_t n, uint32_t threads, uint32_t best, int n_passes,
                        int asked[64])
{
    for (int i = 0; i < n_passes; i++) {
        trueno_pass pass = a_pass(n, threads);
        assert_int_equal(trueno_tuner_begin_pass(t, &pass), TRUENO_OK);
        assert_true(pass.ticket != 0);
        assert_in_range(pass.threads, 1, threads);
        assert_int_equal(pass.source == TRUENO_CHOICE_EXPLORING && !pass.compares, 0);
        if (asked) asked[pass.threads]++;
        assert_int_equal(trueno_tuner_end_pass(t, &pass, time_of(pass.threads, best, n), n),
                         TRUENO_OK);
        assert_true(pass.ticket == 0);
    }
}

static void put_point(trueno_tuner *t, uint32_t threads, double gbs, double gmacs)
{
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    p.n = 1;
    p.points[0] = (trueno_machine_point){threads, gbs, gmacs, gmacs / 4};
    assert_int_equal(trueno_tuner_remember_profile(t, &p, NULL), TRUENO_OK);
}

/* The numbers of threads that are ever asked for, as bits. */
static uint64_t tried(trueno_tuner *t, uint32_t n, uint32_t threads)
{
    int asked[64] = {0};
    uint64_t bits = 0;
    trueno_pass pass = a_pass(n, threads);
    for (int i = 0; i < 30; i++) {
        assert_int_equal(trueno_tuner_begin_pass(t, &pass), TRUENO_OK);
        asked[pass.threads]++;
        assert_int_equal(trueno_tuner_end_pass(t, &pass, 1000000, 0), TRUENO_OK);
    }
    for (int i = 0; i < 64; i++) bits |= (uint64_t)(asked[i] > 0) << i;
    return bits;
}

#define BIT(n) (UINT64_C(1) << (n))

/* Without measurements half the threads for decoding, and nothing for prompts; with them whatever
 * bandwidth and peak do not rule out. */
static void test_arms(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    (void)state;
    t->cpus = 0;
    assert_true(tried(t, 1, 8) == (BIT(8) | BIT(4)));
    assert_true(tried(t, 1, 7) == (BIT(7) | BIT(4)));
    assert_true(tried(t, 1, 2) == (BIT(2) | BIT(1)));
    assert_true(tried(t, 1, 1) == BIT(1));
    assert_true(tried(t, 512, 8) == BIT(8));
    trueno_pass two = a_pass(1, 2); /* half of them and one are the same */
    assert_int_equal(tr_tuner_slot(t, &two.problem)->n_arms, 2);
    trueno_tuner_free(t);

    t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    t->cpus = 6;
    put_point(t, 8, 40, 800);
    put_point(t, 6, 42, 790); /* two of the eight share a core */
    put_point(t, 4, 39, 400);
    put_point(t, 1, 20, 100);
    assert_true(tried(t, 1, 8) == (BIT(8) | BIT(6) | BIT(4)));
    assert_true(tried(t, 512, 8) == (BIT(8) | BIT(6)));
    put_point(t, 1, 30, 100);
    assert_true(tried(t, 2, 8) == (BIT(8) | BIT(6) | BIT(4) | BIT(1)));
    assert_true(tried(t, 300, 4) == BIT(4));
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* The faster number is found, used, told in words, stored and recommended; kinds of passes do not
 * mix. */
static void test_learns(void **state)
{
    static char text[1 << 20];
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    trueno_pass pass = a_pass(1, 8);
    trueno_pick pick = TRUENO_PICK_INIT;
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    trueno_store_report report = TRUENO_STORE_REPORT_INIT;
    int asked[64] = {0};
    size_t len;
    (void)state;
    t->cpus = 0;
    play_passes(t, 1, 8, 4, 120, NULL);
    play_passes(t, 1, 8, 4, 100, asked);
    assert_int_equal(asked[4], 100);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.pins, 1);
    assert_int_equal(stats.races, 1);
    assert_int_equal(stats.observations, 220);
    assert_int_equal(trueno_tuner_plan(t, &pick, &pass.problem), TRUENO_OK);
    assert_int_equal(pick.threads, 4);
    assert_null(pick.variant);
    assert_int_equal(pick.source, TRUENO_CHOICE_MEASURED);
    assert_true(pick.ticket != 0);
    assert_int_equal(trueno_tuner_explain(t, text, sizeof text, &len, &pass.problem, NULL),
                     TRUENO_OK);
    assert_non_null(strstr(text, "pass over Q4_K"));
    assert_non_null(strstr(text, "threads-4: measured on this machine"));
    assert_non_null(strstr(text, "threads-8 (default)"));

    for (int format = 0; format < 2; format++) {
        u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
        u->cpus = 0;
        assert_int_equal(
            trueno_tuner_export(t, text, sizeof text - 1, &len, (trueno_store_format)format, NULL),
            TRUENO_OK);
        text[len] = 0;
        if (format == TRUENO_STORE_JSON) assert_non_null(strstr(text, "\"kind\": \"pass\""));
        assert_int_equal(trueno_tuner_import(u, &report, text, len, NULL), TRUENO_OK);
        assert_true(report.entries == 1 && report.added == 1 && report.usable == 1);
        assert_int_equal(trueno_tuner_begin_pass(u, &pass), TRUENO_OK);
        assert_int_equal(pass.threads, 4);
        assert_int_equal(pass.source, TRUENO_CHOICE_MEASURED);
        assert_true(pass.ticket == 0 && !pass.compares); /* FROZEN wants to know nothing */
        assert_int_equal(trueno_tuner_end_pass(u, &pass, 5, 1), TRUENO_OK);
        pass.problem.n_cols = 2;
        assert_int_equal(trueno_tuner_begin_pass(u, &pass), TRUENO_OK);
        assert_int_equal(pass.threads, 8);
        pass.problem.n_cols = 1;
        assert_int_equal(trueno_tuner_forget(u, &pass.problem, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_begin_pass(u, &pass), TRUENO_OK);
        assert_int_equal(pass.threads, 8);
        trueno_tuner_free(u);
    }
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* The recommendation names the threads of the passes that a session of that model makes. */
static void test_plan(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_problem p = TRUENO_PROBLEM_INIT;
    trueno_recommendation rec;
    (void)state;
    t->cpus = 0;
    f.model_params_b = 1.1;
    f.hidden_dim = 2048;
    f.num_layers = 22;
    f.num_heads = 32;
    f.kv_heads = 4;
    f.head_dim = 64;
    f.intermediate_dim = 5632;
    f.vocab_size = 32000;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 40;
    f.gpu_compute_tflops = 1.6;
    f.sm_count = 8;
    f.cpu_threads = 8;
    assert_int_equal(trueno_problem_of_pass(&p, &f, 1, NULL), TRUENO_OK);
    trueno_pass pass = a_pass(1, 8);
    assert_true(trueno_problem_context(&p) == trueno_problem_context(&pass.problem));
    p.kind = TRUENO_PROBLEM_PRODUCT; /* of the same numbers */
    assert_true(trueno_problem_context(&p) != trueno_problem_context(&pass.problem));
    p.kind = (trueno_problem_kind)2;
    assert_true(trueno_problem_context(&p) == 0);
    trueno_recommendation_init(&rec);
    assert_int_equal(trueno_tuner_recommend(t, &rec, &f, NULL), TRUENO_OK);
    assert_true(rec.plan.decode_threads == 8 && rec.plan.prefill_threads == 8);
    play_passes(t, 1, 8, 4, 120, NULL);
    put_point(t, 8, 40, 800);
    put_point(t, 4, 40, 750);
    play_passes(t, 300, 8, 4, 120, NULL);
    assert_int_equal(trueno_tuner_recommend(t, &rec, &f, NULL), TRUENO_OK);
    assert_true(rec.plan.decode_threads == 4 && rec.plan.prefill_threads == 8);
    f.prompt_tokens = 300;
    f.phase = TRUENO_PHASE_DECODE;
    assert_int_equal(trueno_tuner_recommend(t, &rec, &f, NULL), TRUENO_OK);
    assert_true(rec.plan.decode_threads == 4 && rec.plan.prefill_threads == 4);
    f.draft_tokens = 3; /* passes of four tokens were not measured */
    assert_int_equal(trueno_tuner_recommend(t, &rec, &f, NULL), TRUENO_OK);
    assert_true(rec.plan.decode_threads == 8);

    assert_int_equal(trueno_problem_of_pass(NULL, &f, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_problem_of_pass(&p, NULL, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_problem_of_pass(&p, &f, 0, NULL), TRUENO_ERR_ARGUMENT);
    trueno_features unknown = TRUENO_FEATURES_INIT;
    assert_int_equal(trueno_problem_of_pass(&p, &unknown, 1, NULL), TRUENO_ERR_INVALID_FEATURE);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* Times are for the same work: a bucket's passes differ in length, and the longer are no slower. */
static void test_tokens_count(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    uint32_t lengths[] = {260, 380, 300, 384, 270};
    (void)state;
    t->cpus = 0;
    put_point(t, 8, 40, 800);
    put_point(t, 4, 40, 750);
    for (size_t i = 0; i < 300; i++) {
        trueno_pass pass = a_pass(lengths[i % 5], 8);
        assert_int_equal(trueno_tuner_begin_pass(t, &pass), TRUENO_OK);
        assert_int_equal(trueno_tuner_end_pass(t, &pass, time_of(pass.threads, 4, lengths[i % 5]),
                                               lengths[i % 5]),
                         TRUENO_OK);
    }
    trueno_pass pass = a_pass(300, 8);
    assert_int_equal(tr_tuner_threads(t, &pass.problem), 4);
    /* the same for products, by the columns of a call */
    trueno_problem p = problem(512);
    p.n_cols = 300;
    p.phase = TRUENO_PHASE_PREFILL;
    struct tr_slot *s = tr_tuner_slot(t, &p);
    assert_true(tr_slot_cost(s, 1000, 192) == 2000 && tr_slot_cost(s, 1000, 0) == 1000);
    assert_true(tr_slot_cost(s, 1000, 384) == 1000);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* A pass is somebody's until it ends: others get the choice. What is no whole pass teaches nothing,
 * and tickets are used up. */
static void test_tickets(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    trueno_pass a = a_pass(1, 8), b = a_pass(1, 8), other = a_pass(2, 8), copy;
    (void)state;
    t->cpus = 0;
    assert_int_equal(trueno_tuner_begin_pass(t, &a), TRUENO_OK);
    assert_int_equal(trueno_tuner_begin_pass(t, &b), TRUENO_OK);
    assert_true(a.ticket != 0 && b.ticket == 0 && b.threads == 8 && !b.compares);
    assert_int_equal(trueno_tuner_begin_pass(t, &other), TRUENO_OK);
    assert_true(other.ticket != 0);
    assert_int_equal(trueno_tuner_end_pass(t, &b, 5, 1), TRUENO_OK); /* nothing */
    copy = a;
    assert_int_equal(trueno_tuner_end_pass(t, &a, 0, 1), TRUENO_OK); /* cancelled */
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.observations, 0);
    uint32_t threads = copy.threads;
    assert_int_equal(trueno_tuner_end_pass(t, &copy, 5, 1), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_begin_pass(t, &a), TRUENO_OK);
    assert_int_equal(a.threads, threads); /* what was not measured is asked for again */
    assert_int_equal(trueno_tuner_end_pass(t, &copy, 5, 1), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_end_pass(t, &a, 5, 1), TRUENO_OK);
    assert_int_equal(trueno_tuner_end_pass(t, &other, 5, 2), TRUENO_OK);
    for (uint64_t garbage = 1; garbage; garbage <<= 1) {
        copy.ticket = garbage;
        assert_int_equal(trueno_tuner_end_pass(t, &copy, 5, 1), TRUENO_ERR_ARGUMENT);
    }
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.observations, 2);

    trueno_tuner_pause(t, true);
    assert_int_equal(trueno_tuner_begin_pass(t, &a), TRUENO_OK);
    assert_true(a.ticket == 0 && a.threads == 8);
    a.problem.kind = TRUENO_PROBLEM_PRODUCT;
    assert_int_equal(trueno_tuner_begin_pass(t, &a), TRUENO_ERR_ARGUMENT);
    a = a_pass(0, 8);
    assert_int_equal(trueno_tuner_begin_pass(t, &a), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_begin_pass(NULL, &b), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_begin_pass(t, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_end_pass(t, NULL, 1, 1), TRUENO_ERR_ARGUMENT);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* STRICT runs a pass that is not stored with all threads; OFF always. */
static void test_modes(void **state)
{
    static char bytes[1 << 18];
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_pass known = a_pass(1, 8), unknown = a_pass(3, 8);
    size_t len;
    (void)state;
    t->cpus = 0;
    play_passes(t, 1, 8, 4, 120, NULL);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    o.blob = bytes;
    o.blob_bytes = len;
    o.mode = TRUENO_TUNER_STRICT;
    assert_int_equal(trueno_tuner_new(ctx, &u, &o, NULL), TRUENO_OK);
    u->cpus = 0;
    assert_int_equal(trueno_tuner_begin_pass(u, &known), TRUENO_OK);
    assert_int_equal(trueno_tuner_begin_pass(u, &unknown), TRUENO_OK);
    assert_true(known.threads == 4 && unknown.threads == 8);
    trueno_pick pick = TRUENO_PICK_INIT;
    assert_int_equal(trueno_tuner_plan(u, &pick, &unknown.problem), TRUENO_OK);
    assert_int_equal(pick.threads, 8);
    trueno_tuner_free(u);
    u = tuner(ctx, TRUENO_TUNER_OFF, NULL);
    assert_int_equal(trueno_tuner_begin_pass(u, &known), TRUENO_OK);
    assert_int_equal(known.threads, 8);
    trueno_tuner_free(u);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* A store that names threads in another way, or more than may run, decides nothing. */
static void test_names(void **state)
{
    static const char *const bad[] = {
        "threads-0", "threads-04", "threads- 4",   "threads-4 ", "threads-+4",
        "threads-",  "threads",    "threads-1025", "Threads-4",  "threads-99999999999999999999"};
    trueno_ctx *ctx = context();
    trueno_pass pass = a_pass(1, 8);
    (void)state;
    assert_int_equal(tr_threads_named("threads-1"), 1);
    assert_int_equal(tr_threads_named("threads-1024"), 1024);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(tr_threads_named(bad[i]), 0);
    const char *const names[] = {"threads-4", "threads-16", "threads-04", "gemm_q4_k_ref"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
        struct tr_wisdom w = {.reference = "threads-8", .blocks = 10, .state = TR_WISDOM_VERIFIED};
        t->cpus = 0;
        assert_int_equal(tr_tuner_machine(t, &w.machine, NULL), TRUENO_OK);
        assert_int_equal(tr_wisdom_set_problem(&w, &pass.problem, NULL), TRUENO_OK);
        snprintf(w.variant, sizeof w.variant, "%s", names[i]);
        w.version = t->kernels_version;
        assert_int_equal(tr_store_put(t->store, &w, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_begin_pass(t, &pass), TRUENO_OK);
        assert_int_equal(pass.threads, i == 0 ? 4 : 8);
        trueno_tuner_free(t);
    }
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arms),    cmocka_unit_test(test_learns),
        cmocka_unit_test(test_plan),    cmocka_unit_test(test_tokens_count),
        cmocka_unit_test(test_tickets), cmocka_unit_test(test_modes),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests_name("pass", tests, NULL, NULL);
}
