/* SPDX-License-Identifier: MIT */
/* What a tuner knows of its machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tuner/tuner_test.h"

static trueno_machine_profile profile_of(trueno_tuner *t)
{
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    assert_int_equal(trueno_tuner_profile(t, &p, NULL), TRUENO_OK);
    return p;
}

static void expect_point(const trueno_machine_point *p, uint32_t threads, double gbs, double int8,
                         double f32)
{
    assert_int_equal(p->threads, threads);
    assert_true(fabs(p->read_gbs - gbs) <= 1e-9 && fabs(p->int8_gmacs - int8) <= 1e-9);
    assert_true(fabs(p->f32_gmacs - f32) <= 1e-9);
}

static void remember(trueno_tuner *t, uint32_t threads, double gbs)
{
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    p.n = 1;
    p.points[0] = (trueno_machine_point){threads, gbs, 10 * gbs, 5 * gbs};
    assert_int_equal(trueno_tuner_remember_profile(t, &p, NULL), TRUENO_OK);
}

/* What a machine can do is kept by number of threads, and goes with the store. */
static void test_profile(void **state)
{
    static char bytes[1 << 16];
    size_t len;
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN), *u;
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    (void)state;
    p.n = 7;
    assert_int_equal(trueno_tuner_profile(t, &p, NULL), TRUENO_ERR_NOT_MEASURED);
    assert_int_equal(p.n, 0);
    p.n = 2;
    p.points[0] = (trueno_machine_point){4, 50, 200, 100};
    p.points[1] = (trueno_machine_point){1, 20, 60, 30};
    assert_int_equal(trueno_tuner_remember_profile(t, &p, NULL), TRUENO_OK);
    remember(t, 4, 55);
    p = profile_of(t);
    assert_int_equal(p.n, 2);
    expect_point(&p.points[0], 1, 20, 60, 30);
    expect_point(&p.points[1], 4, 55, 550, 275);

    assert_int_equal(trueno_tuner_clone(t, &u, NULL), TRUENO_OK);
    assert_int_equal(profile_of(u).n, 2);
    trueno_tuner_free(u);
    for (int format = 0; format < 2; format++) {
        u = make_tuner(ctx, TRUENO_TUNER_FROZEN);
        assert_int_equal(
            trueno_tuner_export(t, bytes, sizeof bytes, &len, (trueno_store_format)format, NULL),
            TRUENO_OK);
        assert_int_equal(trueno_tuner_import(u, NULL, bytes, len, NULL), TRUENO_OK);
        p = profile_of(u);
        assert_int_equal(p.n, 2);
        expect_point(&p.points[1], 4, 55, 550, 275);
        trueno_tuner_free(u);
    }
    for (uint32_t threads = 10; threads < 40; threads++) remember(t, threads, 60);
    assert_int_equal(profile_of(t).n, TRUENO_MACHINE_POINTS);
    remember(t, 4, 57); /* a known number of threads has room */
    p = profile_of(t);
    expect_point(&p.points[1], 4, 57, 570, 285);
    trueno_tuner_free(t);
}

static void test_profile_refused(void **state)
{
    static const trueno_tuner_mode modes[] = {TRUENO_TUNER_OFF, TRUENO_TUNER_STRICT};
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT, wrong = p;
    trueno_tuner *t;
    (void)state;
    for (int i = 0; i < 2; i++) {
        t = make_tuner(ctx, modes[i]);
        assert_int_equal(trueno_tuner_remember_profile(t, &p, NULL), TRUENO_ERR_READ_ONLY);
        assert_int_equal(trueno_tuner_profile(t, &p, NULL), TRUENO_ERR_NOT_MEASURED);
        trueno_tuner_free(t);
    }
    t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    wrong.struct_size = 8;
    assert_int_equal(trueno_tuner_profile(NULL, &p, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_profile(t, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_profile(t, &wrong, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_remember_profile(NULL, &p, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_remember_profile(t, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tuner_remember_profile(t, &wrong, NULL), TRUENO_ERR_ARGUMENT);
    p.n = TRUENO_MACHINE_POINTS + 1;
    assert_int_equal(trueno_tuner_remember_profile(t, &p, NULL), TRUENO_ERR_ARGUMENT);
    p.n = 1;
    p.points[0] = (trueno_machine_point){2, NAN, 1, 1};
    assert_int_not_equal(trueno_tuner_remember_profile(t, &p, NULL), TRUENO_OK);
    assert_int_equal(trueno_tuner_profile(t, &p, NULL), TRUENO_ERR_NOT_MEASURED);
    trueno_tuner_free(t);
}

/* A calibration leaves the numbers of threads that passes are tried with: all, half, one. */
static void test_calibration_measures_threads(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    trueno_problem p = TRUENO_PROBLEM_INIT;
    (void)state;
    p.rows = 64;
    p.cols = 256;
    p.threads = 2;
    o.problems = &p;
    o.n_problems = 1;
    /* a third of it is more than measuring takes, on whatever this runs */
    const uint32_t two = 2;
    trueno_machine_profile once = TRUENO_MACHINE_PROFILE_INIT;
    assert_int_equal(trueno_machine_measure(ctx, &once, &two, 1, 600000, NULL), TRUENO_OK);
    o.budget_ms = 10 * once.spent_ms + 1000;
    assert_int_equal(trueno_tuner_calibrate(t, &c, &o, NULL), TRUENO_OK);
    trueno_machine_profile found = profile_of(t);
    assert_int_equal(found.n, 2);
    assert_int_equal(found.points[0].threads, 1);
    assert_int_equal(found.points[1].threads, 2);
    assert_true(found.points[1].read_gbs == c.read_gbs && found.points[0].read_gbs > 0);
    trueno_tuner_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_profile_refused),
        cmocka_unit_test(test_calibration_measures_threads),
    };
    return cmocka_run_group_tests(tests, make_shared, free_shared);
}
