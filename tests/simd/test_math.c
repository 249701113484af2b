/* SPDX-License-Identifier: MIT */
/* The scalar float functions against double precision, at their limits, and with infinities and
 * NaN. */
#include "simd_test.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "quant/half.h"
#include "simd/math.h"

/* Every STEP-th float is tried: a prime, so that all low mantissa bits occur. */
#define STEP 251U

/* Smallest and largest x with a finite normal exp: ln 2^-126 = -87.3365447505..., ln 2^128 =
 * 88.7228391116... */
#define EXP_FIRST (-0x1.5d589ep+6F) /* -87.33654022... */
#define EXP_LAST  0x1.62e42ep+6F    /* 88.72283172... */

/* Distance of y from `exact` in units of the last place of a float near `exact`. */
static double error_ulps(float y, double exact)
{
    int e;
    frexp(exact, &e);
    return fabs((double)y - exact) / ldexp(1.0, e - 24);
}

static void check_exp_between(uint32_t first, uint32_t last, uint32_t step, double *worst)
{
    for (uint64_t b = first; b <= last; b += step) {
        float x = tr_float_from_bits((uint32_t)b);
        double err = error_ulps(tr_expf(x), exp((double)x));
        if (!(err <= *worst)) *worst = err;
    }
}

static void test_exp_is_within_one_ulp(void **state)
{
    (void)state;
    double worst = 0;
    check_exp_between(0, tr_bits_from_float(EXP_LAST), STEP, &worst);
    check_exp_between(0x80000000U, tr_bits_from_float(EXP_FIRST), STEP, &worst);
    assert_true(worst <= 1.0);
}

/* Around (n + 1/2) ln 2 the reduction goes from one n to the next. */
static void test_exp_where_the_reduction_switches(void **state)
{
    (void)state;
    double worst = 0;
    for (int n = -126; n < 128; n++) {
        uint32_t at = tr_bits_from_float((float)((n + 0.5) * 0.693147180559945309));
        uint32_t first = at - 500, last = at + 500;
        if (last > tr_bits_from_float(EXP_FIRST)) last = tr_bits_from_float(EXP_FIRST);
        check_exp_between(first, last, 1, &worst);
    }
    assert_true(worst <= 1.0);
}

static void test_exp_values(void **state)
{
    (void)state;
    /* e^x from a table, rounded to 10 digits */
    static const struct {
        float x;
        double y;
    } table[] = {
        {1.0F, 2.718281828},   {2.0F, 7.389056099},   {5.0F, 148.4131591}, {10.0F, 22026.46579},
        {-1.0F, 0.3678794412}, {-2.0F, 0.1353352832}, {0.5F, 1.648721271}, {-0.5F, 0.6065306597},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        double err = fabs(tr_expf(table[i].x) / table[i].y - 1.0);
        assert_true(err <= 1.3e-7);
    }
    assert_true(tr_expf(0.0F) == 1.0F);
    assert_true(tr_expf(-0.0F) == 1.0F);
    assert_true(tr_expf(FLT_MIN) == 1.0F);
    assert_true(tr_expf(-1e-45F) == 1.0F);
}

static void test_exp_limits(void **state)
{
    (void)state;
    assert_true(tr_expf(EXP_FIRST) >= FLT_MIN);
    assert_int_equal(tr_bits_from_float(tr_expf(nextafterf(EXP_FIRST, -100))), 0);
    assert_int_equal(tr_bits_from_float(tr_expf(-1e30F)), 0);
    assert_int_equal(tr_bits_from_float(tr_expf(-INFINITY)), 0);
    assert_true(tr_expf(EXP_LAST) <= FLT_MAX);
    assert_true(tr_expf(nextafterf(EXP_LAST, 100)) == INFINITY);
    assert_true(tr_expf(1e30F) == INFINITY);
    assert_true(tr_expf(INFINITY) == INFINITY);
}

/* What softmax relies on: no exponential of a non-positive number exceeds 1. */
static void test_exp_of_negative_is_at_most_one(void **state)
{
    (void)state;
    size_t above = 0;
    for (uint64_t b = 0x80000000U; b <= 0xff800000U; b += STEP) {
        float y = tr_expf(tr_float_from_bits((uint32_t)b));
        above += !(y >= 0.0F && y <= 1.0F);
    }
    assert_int_equal(above, 0);
}

/* NaN of either sign, quiet or signalling, with any payload. */
static void test_nan(void **state)
{
    (void)state;
    static const uint32_t nans[] = {0x7fc00000U, 0xffc00000U, 0x7f800001U, 0xff800001U,
                                    0x7fffffffU, 0xffffffffU, 0x7fc12345U};
    for (size_t i = 0; i < sizeof nans / sizeof *nans; i++) {
        float x = tr_float_from_bits(nans[i]);
        assert_true(isnan(tr_expf(x)));
        assert_true(isnan(tr_siluf(x)));
        assert_true(isnan(tr_geluf(x)));
        assert_true(isnan(tr_softcapf(x, 30.0F)));
    }
}

static double silu(double x)
{
    return x / (1.0 + exp(-x));
}

/* The other form of the same function: tanh(u) instead of exp(-2u). Cancels below -4. */
static double gelu_by_tanh(double x)
{
    double u = sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    return 0.5 * x * (1.0 + tanh(u));
}

static double gelu_by_exp(double x)
{
    double u = sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(-2.0 * u));
}

static void test_silu(void **state)
{
    (void)state;
    double worst = 0;
    for (int i = -80000; i <= 80000; i++) {
        float x = (float)i * 1.0001e-3F;
        double err = error_ulps(tr_siluf(x), silu((double)x));
        if (i && !(err <= worst)) worst = err;
    }
    assert_true(worst <= 3.0); /* exp 1, sum and division 1/2 each, across a power of two */
    assert_true(tr_siluf(0.0F) == 0.0F);
    assert_true(tr_siluf(1e30F) == 1e30F);
    assert_true(tr_siluf(INFINITY) == INFINITY);
    assert_true(tr_siluf(-100.0F) == 0.0F && signbit(tr_siluf(-100.0F)));
    assert_true(tr_siluf(-1e30F) == 0.0F);
}

static void test_gelu(void **state)
{
    (void)state;
    for (int i = -9000; i <= 20000; i++) {
        float x = (float)i * 1.0001e-3F;
        double exact = gelu_by_exp((double)x), err = fabs(tr_geluf(x) - exact);
        double two_u = 1.6 * fabs(x) * (1.0 + 0.045 * x * x);
        /* 2u has at most four roundings of 2^-24 on the way (x^2, C3, fma, product), which the
         * exponential multiplies by 2u; 3e-7 as for silu */
        assert_true(err <= fabs(exact) * (3e-7 + 4 * 0x1p-24 * two_u));
        if (i > -3000) assert_true(fabs(tr_geluf(x) - gelu_by_tanh((double)x)) <= 1e-6);
    }
    assert_true(tr_geluf(0.0F) == 0.0F);
    assert_true(tr_geluf(1e30F) == 1e30F);
    assert_true(tr_geluf(INFINITY) == INFINITY);
    assert_true(tr_geluf(-20.0F) == 0.0F);
    assert_true(tr_geluf(-1e30F) == 0.0F);
}

static void test_softcap(void **state)
{
    (void)state;
    static const float caps[] = {1.0F, 30.0F, 50.0F, 0.1F};
    for (size_t c = 0; c < sizeof caps / sizeof *caps; c++) {
        float cap = caps[c];
        for (int i = -4000; i <= 4000; i++) {
            float x = (float)i * 2.5e-3F * cap;
            double exact = (double)cap * tanh((double)x / (double)cap);
            double y = tr_softcapf(x, cap);
            assert_true(fabs(y - exact) <= 3e-7 * (double)cap);
            assert_true(fabs(y) <= (double)cap);
        }
        assert_true(tr_softcapf(INFINITY, cap) == cap);
        assert_true(tr_softcapf(-INFINITY, cap) == -cap);
        assert_true(tr_softcapf(1e30F, cap) == cap);
        assert_true(tr_softcapf(0.0F, cap) == 0.0F);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_exp_is_within_one_ulp),
        cmocka_unit_test(test_exp_where_the_reduction_switches),
        cmocka_unit_test(test_exp_values),
        cmocka_unit_test(test_exp_limits),
        cmocka_unit_test(test_exp_of_negative_is_at_most_one),
        cmocka_unit_test(test_nan),
        cmocka_unit_test(test_silu),
        cmocka_unit_test(test_gelu),
        cmocka_unit_test(test_softcap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
