/* SPDX-License-Identifier: MIT */
/* Calibration: it measures, keeps to its budget, chooses by what it measured, and changes nothing
 * where that did not help. Times are changed on their way by a function of the test. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trueno/kernels.h"
#include "tuner/bed.h"
#include "tuner/tuner_impl.h"

static const char *fast; /* the kernel that is fast; NULL: all alike */
static uint64_t call_ns; /* what the others take */
static uint64_t n_tampered;
static bool steady;
static const trueno_machine_point roof = {1, 20, 500, 100};

static uint64_t tamper(const struct tr_kernel *k, uint64_t ns)
{
    n_tampered++;
    assert_true(ns > 0);
    uint64_t noise = steady ? n_tampered % 7 * 100 : n_tampered % 5 * call_ns / 5;
    return (fast && strcmp(k->name, fast) == 0 ? call_ns / 2 : call_ns) + noise;
}

static trueno_problem problem(uint32_t n_cols)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.rows = 64;
    p.cols = 256;
    p.n_cols = n_cols;
    return p;
}

static trueno_tuner *tuner(trueno_ctx *ctx, trueno_tuner_mode mode)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner *t;
    o.mode = mode;
    o.store_path = "";
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
    t->tamper = tamper;
    t->roof = &roof;
    fast = NULL;
    call_ns = 1000000;
    n_tampered = 0;
    steady = true;
    return t;
}

static trueno_ctx *context(const trueno_ctx_options *o)
{
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, o, NULL), TRUENO_OK);
    return ctx;
}

/* A slowed default loses its place; the choice is kept, and only for its context. */
static void test_changes_the_pick(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_problem ps[2] = {problem(1), problem(2)}, other = problem(3);
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    struct tr_slot *s = tr_tuner_slot(t, &ps[0]);
    (void)state;
    o.problems = ps;
    o.n_problems = 2;
    if (s->n_arms < 2) {
        print_message("skipped: this machine has one kernel for Q4_K\n");
        trueno_tuner_free(t);
        trueno_ctx_free(ctx);
        skip();
    }
    fast = s->arms[1]->name;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    assert_int_equal(c.n_contexts, 2);
    assert_int_equal(c.n_changed, 2);
    assert_false(c.noisy);
    assert_false(c.partial);
    assert_true(c.read_gbs == roof.read_gbs && c.int8_gmacs == roof.int8_gmacs);
    assert_int_equal(c.n_measurements, n_tampered);
    assert_true(c.n_measurements > 50);
    assert_true(c.duration_ms > 0 && c.mde_pct < 1.5);
    trueno_machine machine = TRUENO_MACHINE_INIT;
    assert_int_equal(trueno_machine_get(ctx, &machine, NULL), TRUENO_OK);
    assert_string_equal(c.hardware_id, machine.id);
    assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
    assert_int_equal(stats.kernel_runs, n_tampered);
    for (int i = 0; i < 2; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_plan(t, &pick, &ps[i]), TRUENO_OK);
        assert_string_equal(pick.variant, fast);
        assert_int_equal(pick.source, TRUENO_CHOICE_MEASURED);
    }
    trueno_pick pick = TRUENO_PICK_INIT;
    assert_int_equal(trueno_tuner_plan(t, &pick, &other), TRUENO_OK);
    assert_int_equal(pick.source, TRUENO_CHOICE_DEFAULT);

    /* what was found is in the store */
    static char bytes[1 << 16];
    size_t len;
    assert_int_equal(trueno_tuner_export(t, bytes, sizeof bytes, &len, TRUENO_STORE_JSON, NULL),
                     TRUENO_OK);
    bytes[len] = 0;
    assert_non_null(strstr(bytes, fast));
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* The same times for all: the default stays. */
static void test_keeps_the_default(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN);
    trueno_problem p = problem(1);
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    (void)state;
    o.problems = &p;
    o.n_problems = 1;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    assert_int_equal(c.n_changed, 0);
    assert_int_equal(tr_slot_pick(tr_tuner_slot(t, &p)), 0);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* An unsteady machine is said to be noisy, and nothing is chosen on it. */
static void test_noisy(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_problem p = problem(1);
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    struct tr_slot *s = tr_tuner_slot(t, &p);
    (void)state;
    steady = false;
    fast = s->arms[s->n_arms - 1]->name;
    o.problems = &p;
    o.n_problems = 1;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    assert_true(c.noisy);
    assert_int_equal(c.n_changed, 0);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* Losses are fitted on every second context and judged on the others: kept where these agree,
 * dropped, and the change told with its sign, where they do not. */
static void test_losses(void **state)
{
    trueno_ctx *ctx = context(NULL);
    (void)state;
    for (int alike = 0; alike < 2; alike++) {
        trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN);
        trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
        trueno_calibration c = TRUENO_CALIBRATION_INIT;
        trueno_prediction before = TRUENO_PREDICTION_INIT, after = TRUENO_PREDICTION_INIT;
        trueno_features f = TRUENO_FEATURES_INIT;
        trueno_problem ps[4];
        double mape;
        f.model_params_b = 1.1;
        f.vram_gb = 0;
        f.gpu_mem_bw_gbs = 50;
        f.gpu_compute_tflops = 1;
        f.sm_count = 2;
        /* a call takes about call_ns, whatever its size: 100 ms for a kilobyte is a huge loss, and
         * the prior predicts the same for all; where the even contexts are alike and the odd ones
         * of another size, what is learned of the first is wrong for the others */
        call_ns = 100000000;
        for (size_t i = 0; i < 4; i++) {
            ps[i] = problem(1);
            ps[i].rows = alike || i % 2 == 0 ? 64 + 16 * (i / 2) : 4096 + 4096 * (i / 2);
            ps[i].cols = alike || i % 2 == 0 ? 256 : 16384;
        }
        o.problems = ps;
        o.n_problems = 4;
        assert_int_equal(trueno_tuner_predict(t, &before, &f, NULL), TRUENO_OK);
        assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
        assert_true(isfinite(c.local_mape) && isfinite(c.mape_before));
        assert_true(fabs(c.improvement_pct - 100 * (1 - c.local_mape / c.mape_before)) < 1e-9);
        assert_int_equal(trueno_tuner_predict(t, &after, &f, NULL), TRUENO_OK);
        trueno_status mape_status = trueno_tuner_throughput_mape(t, &mape, NULL);
        if (c.applied) {
            assert_true(c.improvement_pct > 0);
            assert_true(after.predicted_tps < before.predicted_tps);
            assert_string_equal(trueno_tuner_version(t), "1.0.0-calibrated");
            assert_int_equal(mape_status, TRUENO_OK);
            assert_true(mape == c.local_mape);
        } else {
            assert_true(after.predicted_tps == before.predicted_tps);
            assert_string_equal(trueno_tuner_version(t), "1.0.0");
            assert_int_equal(mape_status, TRUENO_ERR_NOT_MEASURED);
        }
        if (alike) assert_true(c.applied);
        trueno_tuner_free(t);
    }
    trueno_ctx_free(ctx);
}

/* On a noisy machine, and in a calibration that is cut short, what was proven before stays. */
static void test_proven_stays(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_problem p = problem(1);
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    (void)state;
    o.problems = &p;
    o.n_problems = 1;
    for (int mode = TRUENO_TUNER_FROZEN; mode <= TRUENO_TUNER_LEARN; mode += 2) {
        trueno_tuner *t = tuner(ctx, (trueno_tuner_mode)mode);
        struct tr_slot *s = tr_tuner_slot(t, &p);
        trueno_pick pick = TRUENO_PICK_INIT;
        if (s->n_arms < 2) {
            trueno_tuner_free(t);
            continue;
        }
        fast = s->arms[1]->name;
        assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
        /* the loser of the race is not handed out after it */
        assert_int_equal(trueno_tuner_plan(t, &pick, &p), TRUENO_OK);
        assert_string_equal(pick.variant, fast);
        steady = false;
        assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
        assert_true(c.noisy);
        assert_string_equal(s->arms[tr_slot_pick(s)]->name, fast);
        assert_true(s->policy->arms[0].raced > 0); /* and so does what proved it */
        steady = true;
        fast = NULL; /* no longer any difference: a tie does not change what is in use */
        assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
        assert_false(c.noisy);
        assert_string_equal(s->arms[tr_slot_pick(s)]->name, s->arms[1]->name);
        trueno_tuner_free(t);
    }
    trueno_ctx_free(ctx);
}

/* Runs are learned before and after losses were fitted. */
static void test_between_runs(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_LEARN);
    trueno_problem ps[4];
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    trueno_features f = TRUENO_FEATURES_INIT;
    (void)state;
    f.model_params_b = 1.1;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 50;
    f.gpu_compute_tflops = 1;
    f.sm_count = 2;
    for (size_t i = 0; i < 4; i++) {
        ps[i] = problem(1);
        ps[i].rows = 64 + 16 * i;
    }
    o.problems = ps;
    o.n_problems = 4;
    assert_int_equal(trueno_tuner_observe_run(t, &f, 20, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    assert_true(c.applied);
    assert_string_equal(trueno_tuner_version(t), "1.0.0-calibrated");
    assert_int_equal(trueno_tuner_observe_run(t, &f, 20, NULL), TRUENO_OK);
    assert_string_equal(trueno_tuner_version(t), "1.0.0-online-1");
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* Contexts that cannot be measured are left out, and the first one that can tells the noise. */
static void test_left_out(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_problem ps[2] = {problem(1), problem(2)};
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    struct tr_slot *s = tr_tuner_slot(t, &ps[0]);
    (void)state;
    o.problems = ps;
    o.n_problems = 2;
    ps[1].type = TRUENO_TYPE_Q2_K; /* runs, though nobody here encodes it */
    assert_true(tr_slot_hold(s));
    steady = false;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    assert_int_equal(c.n_contexts, 1);
    assert_true(c.partial && c.noisy && c.mde_pct > 1.5);
    o.n_problems = 1;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    assert_true(c.n_contexts == 0 && c.noisy);
    tr_slot_give(s);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

static bool cancel_now(void *user)
{
    return *(bool *)user;
}

/* A cancelled calibration keeps what it has; a budget that is over is partial. */
static void test_budget(void **state)
{
    static bool cancel;
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    trueno_problem ps[40];
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    (void)state;
    co.cancel = cancel_now;
    co.cancel_user = &cancel;
    trueno_ctx *ctx = context(&co);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_FROZEN);
    t->roof = NULL; /* measured */
    for (size_t i = 0; i < 40; i++) {
        ps[i] = problem(1);
        ps[i].rows = 4096 + 16 * i;
        ps[i].cols = 4096;
    }
    o.problems = ps;
    o.n_problems = 40;
    o.budget_ms = 1;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    assert_true(c.partial);
    assert_true(c.n_contexts < 40);
    assert_true(c.read_gbs > 0 && isfinite(c.read_gbs) && c.read_gbs != roof.read_gbs);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

static void test_refused(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_tuner *t = tuner(ctx, TRUENO_TUNER_OFF);
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    trueno_problem ps[2] = {problem(1), problem(1)};
    (void)state;
    assert_int_equal(trueno_tuner_calibrate(t, &c, NULL, NULL), TRUENO_ERR_READ_ONLY);
    trueno_tuner_free(t);
    t = tuner(ctx, TRUENO_TUNER_FROZEN);
    o.effort = (trueno_effort)3;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_ERR_ARGUMENT);
    o.effort = TRUENO_EFFORT_RAPID;
    o.n_problems = 2;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_ERR_ARGUMENT);
    o.problems = ps;
    ps[1].threads = 3;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_ERR_ARGUMENT);
    ps[1].threads = 1;
    ps[1].cols = 7;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(n_tampered, 0);
    assert_int_equal(c.n_measurements, 0);
    trueno_tuner_free(t);
    trueno_ctx_free(ctx);
}

/* The bed's product is the kernel's: each call runs the one that is named. */
static int n_called;
static void count_calls(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                        size_t k, uint32_t nt)
{
    (void)out, (void)ldo, (void)w, (void)act, (void)k, (void)nt;
    n_called += (int)n_groups;
}

static void test_bed(void **state)
{
    trueno_ctx *ctx = context(NULL);
    trueno_problem p = problem(3);
    const struct tr_kernel *k;
    struct tr_bed *bed;
    (void)state;
    p.rows = 40; /* three groups, the last one not full */
    assert_int_equal(tr_candidates(&k, 1, ctx, &p) > 0, 1);
    assert_int_equal(tr_bed_new(&bed, ctx, &p, NULL, 1 << 20, NULL), TRUENO_OK);
    struct tr_kernel fake = *k;
    fake.fn.gemm = count_calls;
    n_called = 0;
    const struct tr_clock clock = {NULL, NULL};
    assert_true(tr_bed_time(bed, &fake, &clock) >= 1);
    assert_int_equal(n_called, 3);
    assert_true(tr_bed_bytes(bed) >= 48 * 144);
    /* as many copies as fit, and one at least */
    assert_in_range(tr_bed_ring_bytes(bed), (1 << 20) - tr_bed_bytes(bed), 1 << 20);
    tr_bed_free(bed);
    assert_int_equal(tr_bed_new(&bed, ctx, &p, NULL, 1, NULL), TRUENO_OK);
    assert_int_equal(tr_bed_ring_bytes(bed), tr_bed_bytes(bed));
    tr_bed_free(bed);
    p.type = TRUENO_TYPE_COUNT;
    assert_int_not_equal(tr_bed_new(&bed, ctx, &p, NULL, 0, NULL), TRUENO_OK);
    assert_null(bed);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes_the_pick),
        cmocka_unit_test(test_keeps_the_default),
        cmocka_unit_test(test_noisy),
        cmocka_unit_test(test_losses),
        cmocka_unit_test(test_budget),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_bed),
        cmocka_unit_test(test_proven_stays),
        cmocka_unit_test(test_between_runs),
        cmocka_unit_test(test_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
