/* SPDX-License-Identifier: MIT */
/* Options of a tuner, its counters, and the reports of its store: each does or counts something. */
#include "tuner/dispatch_test.h"

#include <time.h>

#include "tuner/tuner_runs.h"

/* -------------------------------------------------------------------------- options */

static void test_refused(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *t;
    const double bad[] = {-0.001, 0.11, (double)NAN, (double)INFINITY};
    (void)state;
    o.store_path = "";
    for (size_t i = 0; i < 4; i++) {
        o.audit_share = bad[i];
        assert_int_equal(trueno_tuner_new(ctx, &t, &o, &err), TRUENO_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "audit_share"));
        assert_null(t);
    }
    o.audit_share = 0.1;
    o.effort = (trueno_effort)3;
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "effort"));
    o.effort = TRUENO_EFFORT_RAPID;
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, &err), TRUENO_OK);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* PATIENT tries what the others leave out: with many columns kernels of half the rate; but never
 * the C reference. */
static void test_patient(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner *usual = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *patient;
    trueno_problem p = problem(512);
    const struct tr_kernel *all[64];
    (void)state;
    p.n_cols = 100;
    p.phase = TRUENO_PHASE_PREFILL;
    o.store_path = "";
    o.mode = TRUENO_TUNER_LEARN;
    o.effort = TRUENO_EFFORT_PATIENT;
    assert_int_equal(trueno_tuner_new(ctx, &patient, &o, NULL), TRUENO_OK);
    size_t n = 0, n_all = tr_candidates(all, 64, ctx, &p);
    for (size_t i = 0; i < n_all; i++) n += all[i]->cpu != 0 || all[0]->cpu == 0;
    uint32_t few = tr_tuner_slot(usual, &p)->n_arms, many = tr_tuner_slot(patient, &p)->n_arms;
    assert_int_equal(many, n < TR_MAX_ARMS ? n : TR_MAX_ARMS);
    trueno_tuner *copy;
    assert_int_equal(trueno_tuner_clone(patient, &copy, NULL), TRUENO_OK);
    assert_int_equal(tr_tuner_slot(copy, &p)->n_arms, many); /* copies have the options */
    trueno_tuner_free(copy);
    trueno_tuner_free(usual);
    trueno_tuner_free(patient);
    trueno_ctx_free(ctx);
    if (few == many) {
        print_message("skipped: this CPU has no kernels of different rates for Q4_K\n");
        skip();
    }
    assert_true(few < many);
}

/* A larger share of the time for audits is more credit. */
static void test_audit_share(void **state)
{
    trueno_ctx *ctx = context();
    int64_t credit[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
        trueno_problem p = problem(512);
        trueno_tuner *t;
        o.mode = TRUENO_TUNER_LEARN;
        o.store_path = "";
        o.audit_share = i == 0 ? 0 : 0.06;
        assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
        const char *other = other_of(t, &p);
        if (!other) {
            trueno_tuner_free(t);
            trueno_ctx_free(ctx);
            need_rivals(NULL);
            return;
        }
        play(t, &p, other, 300);
        credit[i] = stats_of(t).ledger_credit_ns;
        trueno_tuner_free(t);
    }
    if (!(credit[0] > 0 && credit[1] > 5 * credit[0]))
        fail_msg("%lld and %lld ns", (long long)credit[0], (long long)credit[1]);
    trueno_ctx_free(ctx);
}

/* A clock that goes on by 100 ms every time that it is read. */
static uint64_t read_fast(void *user)
{
    uint64_t *now = user;
    return *now += 100000000;
}

/* Calibrations keep to the budget by the tuner's clock; its effort counts where they have no
 * options. */
static void test_clock(void **state)
{
    static const trueno_machine_point roof = {1, 20, 500, 100};
    static const double ms[] = {2000, 10000, 60000};
    trueno_ctx *ctx = context();
    trueno_problem p = problem(64);
    (void)state;
    for (int effort = 0; effort <= TRUENO_EFFORT_PATIENT; effort++) {
        for (int given = 0; given < 2; given++) {
            trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
            trueno_calibrate_options how = TRUENO_CALIBRATE_OPTIONS_INIT;
            trueno_calibration c = TRUENO_CALIBRATION_INIT;
            uint64_t now = 0;
            trueno_tuner *t;
            o.store_path = "";
            o.effort = given ? TRUENO_EFFORT_NORMAL : (trueno_effort)effort;
            o.clock_fn = read_fast;
            o.clock_user = &now;
            how.effort = (trueno_effort)effort;
            how.problems = &p;
            how.n_problems = 1;
            assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
            t->roof = &roof;
            assert_int_equal(trueno_tuner_calibrate(t, &c, given ? &how : NULL, NULL), TRUENO_OK);
            /* one context may be done before the end */
            if (!given || effort == 0) assert_true(c.duration_ms >= ms[effort]);
            assert_true(c.duration_ms <= ms[effort] + 1000);
            assert_true(now >= 1000000 * (uint64_t)c.duration_ms);
            trueno_tuner_free(t);
        }
    }
    trueno_ctx_free(ctx);
}

/* With little memory for weights they are read from a cache, and the calibration says so. */
static void test_scratch(void **state)
{
    static const trueno_machine_point roof = {1, 20, 500, 100};
    const uint64_t copy = (uint64_t)4096 * 4096 / 256 * 144;
    trueno_problem p = problem(4096);
    bool hot[2];
    uint64_t peak[2], now;
    (void)state;
    p.cols = 4096;
    for (int i = 0; i < 2; i++) {
        trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
        trueno_calibrate_options how = TRUENO_CALIBRATE_OPTIONS_INIT;
        trueno_calibration c = TRUENO_CALIBRATION_INIT;
        trueno_ctx *ctx = context();
        trueno_tuner *t;
        o.store_path = "";
        o.max_scratch_bytes = i == 0 ? 0 : copy;
        how.problems = &p;
        how.n_problems = 1;
        how.budget_ms = 20;
        assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
        t->roof = &roof;
        assert_int_equal(trueno_tuner_calibrate(t, &c, &how, NULL), TRUENO_OK);
        trueno_ctx_memory(ctx, &now, &peak[i]);
        hot[i] = c.hot;
        trueno_tuner_free(t);
        trueno_ctx_free(ctx);
    }
    if (trueno_cache_bytes() < copy) {
        print_message("skipped: no cache of this machine holds %llu bytes, or none is told\n",
                      (unsigned long long)copy);
        skip();
    }
    assert_true(!hot[0] && hot[1]);
    assert_true(peak[1] < peak[0] && peak[1] < 2 * copy + (8 << 20));
}

/* ------------------------------------------------------------------------- counters */

/* Races that were decided, those that were not clear, credit and regret. */
static void test_race_counters(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_problem p = problem(512), q = problem(528);
    const char *other = other_of(t, &p);
    (void)state;
    trueno_tuner_stats s = stats_of(t);
    assert_true(s.races == 0 && s.inconclusive == 0 && isnan(s.regret_upper));
    assert_true(isnan(s.coverage) && s.ledger_credit_ns == 0);
    need_rivals(other);
    play(t, &p, other, 400); /* clearly faster */
    s = stats_of(t);
    assert_true(s.races == 1 && s.inconclusive == 0);
    assert_true(s.ledger_credit_ns > 0);
    /* 0.6 % of all calls' time, in at most 64 calls' worth */
    assert_true(s.ledger_credit_ns <= 64 * 104096);
    assert_true(s.regret_upper > 0 && s.regret_upper < 0.5);
    /* others are 2 % faster in one turn and 2 % slower in the next: nobody can tell */
    int calls[8] = {0};
    for (int i = 0; i < 500; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_plan(t, &pick, &q), TRUENO_OK);
        const uint32_t arm = (uint32_t)(pick.ticket & 0xff);
        const int turn = calls[arm]++ / 2;
        uint64_t ns = arm == 0 ? 100000 : turn % 2 == 0 ? 98000 : 102000;
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, ns, 1), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
        if (stats_of(t).races == 2) break;
    }
    s = stats_of(t);
    assert_int_equal(s.races, 2);
    assert_int_equal(s.inconclusive, 1);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* Share of runs within their intervals; calibrations that could choose nothing. */
static void test_coverage_and_noise(void **state)
{
    static const trueno_machine_point roof = {1, 20, 500, 100};
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_features f = cpu_run(1.1, 1);
    trueno_prediction now = TRUENO_PREDICTION_INIT;
    trueno_calibrate_options how = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    (void)state;
    for (int i = 0; i < 60; i++) {
        assert_int_equal(trueno_tuner_predict(t, &now, &f, NULL), TRUENO_OK);
        double tps = now.predicted_tps * (i % 10 == 9 ? 0.3 : 1 + 0.002 * (i % 7 - 3));
        assert_int_equal(trueno_tuner_observe_run(t, &f, tps, NULL), TRUENO_OK);
    }
    trueno_tuner_stats s = stats_of(t);
    assert_true(s.coverage > 0.6 && s.coverage < 1);
    assert_int_equal(s.noisy, 0);
    trueno_problem p = problem(64);
    how.problems = &p;
    how.n_problems = 1;
    how.budget_ms = 1; /* too short for anything */
    t->roof = &roof;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &how, NULL), TRUENO_OK);
    assert_int_equal(stats_of(t).noisy, c.noisy);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* -------------------------------------------------------------------------- drafts */

/* How many drafts pay follows how many are accepted; what was told is counted in LEARN alone. */
static void test_drafts(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *frozen;
    trueno_features f = gpu_run(7, 1);
    (void)state;
    f.draft_tokens = 1;
    assert_int_equal(recommend(t, &f).plan.draft, 1); /* nobody told anything: as asked for */
    assert_int_equal(trueno_tuner_observe_drafts(t, 1000, 950), TRUENO_OK);
    trueno_recommendation good = recommend(t, &f);
    assert_int_equal(good.plan.draft, 8);
    assert_int_equal(trueno_tuner_observe_drafts(t, 1000000, 0), TRUENO_OK);
    trueno_recommendation bad = recommend(t, &f);
    assert_int_equal(bad.plan.draft, 0);
    bool found = false;
    for (size_t i = 0; i < good.n_experiments; i++)
        found |= good.experiments[i].kind == TRUENO_EXPERIMENT_DRAFT && good.experiments[i].to == 8;
    assert_true(found);
    for (size_t i = 0; i < bad.n_experiments; i++)
        assert_false(bad.experiments[i].kind == TRUENO_EXPERIMENT_DRAFT &&
                     bad.experiments[i].to > 1);
    trueno_tuner_stats s = stats_of(t);
    assert_true(s.drafts_checked == 1001000 && s.drafts_accepted == 950);
    f.phase = TRUENO_PHASE_PREFILL;
    f.prompt_tokens = 100;
    assert_int_equal(recommend(t, &f).plan.draft, 1); /* prompts have none; as asked for */
    assert_int_equal(trueno_tuner_observe_drafts(t, 3, 4), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_observe_drafts(NULL, 3, 3), TRUENO_ERR_ARGUMENT);
    frozen = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_observe_drafts(frozen, 10, 10), TRUENO_OK);
    assert_int_equal(stats_of(frozen).drafts_checked, 0);
    trueno_tuner_free(frozen);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* ------------------------------------------------------------------------- reports */

static struct tr_wisdom wisdom_for(trueno_tuner *t, uint32_t machine, size_t rows, const char *name)
{
    struct tr_wisdom w = {.reference = "none", .blocks = 10, .state = TR_WISDOM_VERIFIED};
    trueno_problem p = problem(rows);
    w.machine = machine;
    assert_int_equal(tr_wisdom_set_problem(&w, &p, NULL), TRUENO_OK);
    snprintf(w.variant, sizeof w.variant, "%s", name);
    w.version = t->kernels_version;
    return w;
}

/* A store with an entry of each kind; known: rows of one that the target has too. */
static void fill_store(trueno_tuner *t)
{
    struct tr_store_machine foreign = {.id = "another machine"};
    trueno_problem p = problem(16);
    const char *runs = default_of(t->ctx, &p);
    uint32_t here, there;
    assert_int_equal(tr_tuner_machine(t, &here, NULL), TRUENO_OK);
    assert_int_equal(tr_store_put_machine(t->store, &there, &foreign, NULL), TRUENO_OK);
    struct tr_wisdom all[6] = {
        wisdom_for(t, here, 16, runs),   wisdom_for(t, here, 32, runs),
        wisdom_for(t, here, 48, runs),   wisdom_for(t, there, 64, runs),
        wisdom_for(t, here, 80, "gone"), wisdom_for(t, here, 96, runs),
    };
    all[2].version ^= 1;
    for (int i = 0; i < 6; i++) assert_int_equal(tr_store_put(t->store, &all[i], NULL), TRUENO_OK);
    assert_int_equal(tr_store_forget(t->store, here, all[5].context, NULL), TRUENO_OK);
}

static void check_report(const trueno_store_report *r, uint32_t added, uint32_t replaced)
{
    assert_int_equal(r->entries, 6);
    assert_int_equal(r->added, added);
    assert_int_equal(r->replaced, replaced);
    assert_true(r->dropped == 0 && r->usable == 2 && r->foreign == 1 && r->stale == 1);
    assert_true(r->unknown == 1 && r->forgotten == 1);
}

static void test_reports(void **state)
{
    static char bytes[1 << 18];
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN, NULL), *u;
    trueno_store_report r = TRUENO_STORE_REPORT_INIT;
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_features f = cpu_run(1.1, 1);
    uint32_t here;
    size_t len;
    (void)state;
    fill_store(t);
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(tr_tuner_machine(u, &here, NULL), TRUENO_OK);
    struct tr_wisdom old = wisdom_for(u, here, 16, "old");
    old.blocks = 5; /* less evidence than the other's */
    assert_int_equal(tr_store_put(u->store, &old, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_import(u, &r, bytes, len, NULL), TRUENO_OK);
    check_report(&r, 5, 1);
    assert_false(r.models);
    assert_int_equal(trueno_tuner_merge(u, &r, t, NULL), TRUENO_OK); /* again: nothing is new */
    check_report(&r, 0, 0);
    trueno_tuner_free(u);

    o.blob = bytes;
    o.blob_bytes = len;
    assert_int_equal(trueno_tuner_new(ctx, &u, &o, NULL), TRUENO_OK);
    trueno_tuner_stats s = stats_of(u);
    check_report(&s.store, 0, 0);
    trueno_tuner_free(u);

    /* broken bytes: a report that says nothing, and the wrong size is refused */
    u = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    assert_int_equal(trueno_tuner_import(u, &r, bytes, len / 2, NULL), TRUENO_ERR_TRUNCATED);
    assert_int_equal(r.entries, 0);
    r.struct_size = 3;
    assert_int_equal(trueno_tuner_import(u, &r, bytes, len, NULL), TRUENO_ERR_ARGUMENT);
    r = (trueno_store_report)TRUENO_STORE_REPORT_INIT;

    /* models that learned come along */
    assert_int_equal(trueno_tuner_observe_run(u, &f, 20, NULL), TRUENO_OK);
    t->mode = TRUENO_TUNER_LEARN;
    assert_int_equal(trueno_tuner_merge(t, &r, u, NULL), TRUENO_OK);
    assert_true(r.models);
    assert_string_equal(trueno_tuner_version(t), "1.0.0-online-1");
    trueno_tuner_free(u);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* One context is forgotten, the others stay. */
static void test_forget_one(void **state)
{
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_problem p = problem(512), q = problem(528), none = problem(512);
    const char *other = other_of(t, &p);
    (void)state;
    need_rivals(other);
    play(t, &p, other, 400);
    play(t, &q, other, 400);
    trueno_tuner_pause(t, true); /* the choice, not what is tried */
    none.n_cols = 0;
    assert_int_equal(trueno_tuner_forget(t, &none, NULL), TRUENO_ERR_ARGUMENT);
    assert_string_equal(variant_of(t, &p), other);
    assert_int_equal(trueno_tuner_forget(t, &p, NULL), TRUENO_OK);
    assert_string_equal(variant_of(t, &p), default_of(ctx, &p));
    assert_string_equal(variant_of(t, &q), other);
    assert_int_equal(trueno_tuner_forget(t, NULL, NULL), TRUENO_OK);
    assert_string_equal(variant_of(t, &q), default_of(ctx, &q));
    trueno_tuner_free(t);

    /* the same in what is stored */
    t = tuner(ctx, TRUENO_TUNER_LEARN, NULL);
    trueno_tuner *u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL), *v;
    play(t, &p, other, 400);
    play(t, &q, other, 400);
    assert_int_equal(trueno_tuner_merge(u, NULL, t, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_forget(u, &p, NULL), TRUENO_OK);
    v = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_merge(v, NULL, u, NULL), TRUENO_OK);
    assert_string_equal(variant_of(v, &p), default_of(ctx, &p));
    assert_string_equal(variant_of(v, &q), other);
    trueno_tuner_free(v);
    trueno_tuner_free(u);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* ------------------------------------------------------------------- day of accuracy */

/* The day in UTC; *other: that of a minute ago, as tests run at midnight too. */
static void today(char day[11], char before[11])
{
    time_t now = time(NULL), then = now - 60;
    struct tm tm;
    assert_non_null(gmtime_r(&now, &tm));
    snprintf(day, 11, "%04u-%02u-%02u", (unsigned)(tm.tm_year + 1900) % 10000,
             (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100);
    assert_non_null(gmtime_r(&then, &tm));
    snprintf(before, 11, "%04u-%02u-%02u", (unsigned)(tm.tm_year + 1900) % 10000,
             (unsigned)(tm.tm_mon + 1) % 100, (unsigned)tm.tm_mday % 100);
}

static void test_date(void **state)
{
    static trueno_features rows[100];
    static char bytes[1 << 20];
    double tps[100], mape;
    char day[11], before[11];
    trueno_ctx *ctx = context();
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN, NULL), *u;
    trueno_accuracy a = TRUENO_ACCURACY_INIT, b = TRUENO_ACCURACY_INIT;
    size_t len;
    (void)state;
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, &a), TRUENO_ERR_NOT_MEASURED);
    assert_string_equal(a.date, "");
    sample_rows(rows, tps);
    assert_int_equal(trueno_tuner_train(t, NULL, rows, tps, 100, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_throughput_mape(t, &mape, &a), TRUENO_OK);
    today(day, before);
    assert_true(strcmp(a.date, day) == 0 || strcmp(a.date, before) == 0);
    /* it is kept */
    snprintf(t->accuracy.date, sizeof t->accuracy.date, "2001-02-03");
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    u = tuner(ctx, TRUENO_TUNER_FROZEN, NULL);
    assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_throughput_mape(u, &mape, &b), TRUENO_OK);
    assert_string_equal(b.date, "2001-02-03");
    assert_true(a.n == b.n && a.data_hash == b.data_hash);
    trueno_tuner_free(u);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),       cmocka_unit_test(test_patient),
        cmocka_unit_test(test_clock),         cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_race_counters), cmocka_unit_test(test_coverage_and_noise),
        cmocka_unit_test(test_drafts),        cmocka_unit_test(test_reports),
        cmocka_unit_test(test_audit_share),   cmocka_unit_test(test_forget_one),
        cmocka_unit_test(test_date),
    };
    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
