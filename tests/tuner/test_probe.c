/* SPDX-License-Identifier: MIT */
/* Probes and profiles: no speed is judged, only that there is one, that budgets and cancelling
 * hold, and that nothing is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <string.h>

#include "base/hooks.h"
#include "trueno/machine.h"

static trueno_ctx *ctx;

static trueno_ctx *new_ctx(const char *cpu)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *made;
    opt.cpu = cpu;
    assert_int_equal(trueno_ctx_new(&made, &opt, NULL), TRUENO_OK);
    return made;
}

static bool sane(double v)
{
    return v > 1e-3 && v < 1e7; /* any machine, any sanitizer: not bytes, not seconds */
}

static void test_probe(void **state)
{
    trueno_probe *p = NULL;
    double gbs = -1, int8 = -1, f32 = -1;
    (void)state;
    assert_int_equal(trueno_probe_new(ctx, &p, 2, NULL), TRUENO_OK);
    assert_int_equal(trueno_probe_read_gbs(p, &gbs, NULL), TRUENO_OK);
    assert_int_equal(trueno_probe_peak_gmacs(p, TRUENO_PROBE_INT8, &int8, NULL), TRUENO_OK);
    assert_int_equal(trueno_probe_peak_gmacs(p, TRUENO_PROBE_F32, &f32, NULL), TRUENO_OK);
    assert_true(sane(gbs));
    const char *by_int8 = trueno_probe_instruction(p, TRUENO_PROBE_INT8);
    const char *by_f32 = trueno_probe_instruction(p, TRUENO_PROBE_F32);
    assert_true(by_int8[0] ? sane(int8) : int8 == 0);
    assert_true(by_f32[0] ? sane(f32) : f32 == 0);
    const uint32_t cpu = trueno_ctx_cpu_features(ctx);
    if (cpu & (TRUENO_CPU_AVX2 | TRUENO_CPU_NEON)) assert_true(by_int8[0] && by_f32[0]);
    if (cpu & TRUENO_CPU_AVX512_VNNI) assert_string_equal(by_int8, "vpdpbusd zmm");

    assert_int_equal(trueno_probe_read_gbs(NULL, &gbs, NULL), TRUENO_ERR_ARGUMENT);
    assert_true(gbs == 0);
    assert_int_equal(trueno_probe_read_gbs(p, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_probe_peak_gmacs(p, (trueno_probe_op)2, &f32, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_true(f32 == 0);
    assert_string_equal(trueno_probe_instruction(NULL, TRUENO_PROBE_F32), "");
    assert_string_equal(trueno_probe_instruction(p, (trueno_probe_op)2), "");
    trueno_probe_free(p);
    trueno_probe_free(NULL);
    assert_int_equal(trueno_probe_new(ctx, &p, 1025, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(p);
    assert_int_equal(trueno_probe_new(NULL, &p, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_probe_new(ctx, NULL, 1, NULL), TRUENO_ERR_ARGUMENT);
}

static trueno_machine_profile filled(void)
{
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    p.n = p.spent_ms = 7;
    memset(p.points, 1, sizeof p.points);
    return p;
}

/* One point, for a second one is begun after the end of the budget. */
static void test_measure(void **state)
{
    const uint32_t threads[17] = {1, 2};
    const trueno_machine_profile unset = TRUENO_MACHINE_PROFILE_INIT;
    trueno_machine_profile p = filled();
    trueno_ctx *ref = new_ctx("ref");
    (void)state;
    assert_int_equal(trueno_machine_measure(ctx, &p, threads, 2, 1, NULL), TRUENO_OK);
    assert_int_equal(p.n, 1);
    assert_int_equal(p.points[0].threads, 1);
    assert_true(sane(p.points[0].read_gbs));
    if (trueno_ctx_cpu_features(ctx) & (TRUENO_CPU_AVX2 | TRUENO_CPU_NEON))
        assert_true(sane(p.points[0].int8_gmacs) && sane(p.points[0].f32_gmacs));
    assert_int_equal(p.points[1].threads, 0);
    assert_true(p.spent_ms >= 1);

    p = filled(); /* all CPUs; a context without instructions has no peaks */
    assert_int_equal(trueno_machine_measure(ref, &p, NULL, 0, 1, NULL), TRUENO_OK);
    assert_int_equal(p.n, 1);
    assert_int_equal(p.points[0].threads, trueno_cpu_count());
    assert_true(sane(p.points[0].read_gbs));
    assert_true(p.points[0].int8_gmacs == 0 && p.points[0].f32_gmacs == 0);
    trueno_ctx_free(ref);

    const struct {
        trueno_ctx *ctx;
        const uint32_t *threads;
        size_t n;
        uint32_t ms;
    } bad[] = {
        {NULL, threads, 1, 1}, {ctx, NULL, 1, 1}, {ctx, threads, 17, 1}, {ctx, threads, 1, 0}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        p = filled();
        assert_int_equal(
            trueno_machine_measure(bad[i].ctx, &p, bad[i].threads, bad[i].n, bad[i].ms, NULL),
            TRUENO_ERR_ARGUMENT);
        assert_memory_equal(&p, &unset, sizeof p);
    }
    assert_int_equal(trueno_machine_measure(ctx, NULL, threads, 1, 1, NULL), TRUENO_ERR_ARGUMENT);
    p.struct_size = 8;
    assert_int_equal(trueno_machine_measure(ctx, &p, threads, 1, 1, NULL), TRUENO_ERR_ARGUMENT);
}

/* Both numbers of threads, with time enough; in a debugger or under an emulator there may be too
 * little, and then it says so. */
static void test_measure_all(void **state)
{
    const uint32_t threads[] = {1, 2};
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    (void)state;
    assert_int_equal(trueno_machine_measure(ctx, &p, threads, 2, 3000, NULL), TRUENO_OK);
    assert_true(p.n >= 1 && p.n <= 2);
    if (p.n == 1) skip();
    assert_int_equal(p.points[0].threads, 1);
    assert_int_equal(p.points[1].threads, 2);
    assert_true(sane(p.points[1].read_gbs));
}

static bool now(void *user)
{
    int *polls = user;
    return --*polls < 0;
}

/* Whenever the host says so, nothing is left behind. */
static void test_cancel(void **state)
{
    int polls = 0;
    (void)state;
    for (int at = 0; at < 4; at++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *c;
        opt.cancel = now;
        opt.cancel_user = &polls;
        polls = at; /* 0: while filling; then while trying ways, or reading */
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        trueno_machine_profile p = filled(), unset = TRUENO_MACHINE_PROFILE_INIT;
        trueno_status s = trueno_machine_measure(c, &p, NULL, 0, 1, NULL);
        if (at < 2) assert_int_equal(s, TRUENO_ERR_CANCELLED);
        if (s != TRUENO_OK) assert_memory_equal(&p, &unset, sizeof p);
        trueno_ctx_free(c);
        assert_int_equal(h.blocks, 0);
    }
}

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t at = 1;; at++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *c;
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        trueno_machine_profile p = filled(), unset = TRUENO_MACHINE_PROFILE_INIT;
        h.fail_at = h.calls + at;
        trueno_status s = trueno_machine_measure(c, &p, NULL, 0, 1, NULL);
        h.fail_at = 0;
        trueno_ctx_free(c);
        assert_int_equal(h.blocks, 0);
        if (s == TRUENO_OK) {
            assert_true(at > 4); /* probe, pool, parts, buffer */
            return;
        }
        assert_int_equal(s, TRUENO_ERR_NO_MEMORY);
        assert_memory_equal(&p, &unset, sizeof p);
    }
}

int main(void)
{
    if (trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),       cmocka_unit_test(test_measure),
        cmocka_unit_test(test_measure_all), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_no_memory),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    trueno_ctx_free(ctx);
    return rc;
}
