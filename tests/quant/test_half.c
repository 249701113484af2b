/* SPDX-License-Identifier: MIT */
/* Half floats against their definition in double precision, and against the processor. */
#include "quant/quant_test.h"

#if defined(__x86_64__)
#include <immintrin.h>
#define F16C __attribute__((target("f16c")))
static F16C uint16_t cpu_f32_to_f16(float f)
{
    return (uint16_t)_cvtss_sh(f, _MM_FROUND_TO_NEAREST_INT);
}
static F16C float cpu_f16_to_f32(uint16_t h)
{
    return _cvtsh_ss(h);
}
#elif defined(__aarch64__)
static uint16_t cpu_f32_to_f16(float f)
{
    __fp16 h = (__fp16)f; /* fcvt */
    uint16_t bits;
    memcpy(&bits, &h, sizeof bits);
    return bits;
}
static float cpu_f16_to_f32(uint16_t bits)
{
    __fp16 h;
    memcpy(&h, &bits, sizeof h);
    return (float)h;
}
#endif

/* The number that 16 bits stand for, by the definition of a binary format. */
static double meaning(unsigned h, int exponent_bits, int mantissa_bits)
{
    int bias = (1 << (exponent_bits - 1)) - 1;
    int exponent = (int)(h >> mantissa_bits) & ((1 << exponent_bits) - 1);
    int mantissa = (int)h & ((1 << mantissa_bits) - 1);
    double sign = h >> 15 ? -1.0 : 1.0;
    if (exponent == (1 << exponent_bits) - 1) return mantissa ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(mantissa, 1 - bias - mantissa_bits);
    return sign * ldexp((1 << mantissa_bits) + mantissa, exponent - bias - mantissa_bits);
}

static void same_number(double want, float got)
{
    if (isnan(want)) {
        assert_true(isnan(got));
    } else {
        assert_true(want == (double)got);
        assert_int_equal(!!signbit(want), !!signbit(got));
    }
}

static void test_widening_all(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        same_number(meaning(h, 5, 10), tr_f16_to_f32((uint16_t)h));
        same_number(meaning(h, 8, 7), tr_bf16_to_f32((uint16_t)h));
    }
}

static void test_round_trip_all(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 65536; h++) {
        unsigned f16 = tr_f32_to_f16(tr_f16_to_f32((uint16_t)h));
        unsigned bf16 = tr_f32_to_bf16(tr_bf16_to_f32((uint16_t)h));
        unsigned quiet_f16 = isnan(meaning(h, 5, 10)) ? 0x200U : 0;
        unsigned quiet_bf16 = isnan(meaning(h, 8, 7)) ? 0x40U : 0;
        assert_int_equal(f16, h | quiet_f16);
        assert_int_equal(bf16, h | quiet_bf16);
    }
}

typedef uint16_t (*narrow_fn)(float);

/* Between two neighbours `h` and `h + 1`: the middle goes to the even one, anything off the middle
 * to the nearer one. Rounding is monotone, so this decides every float. */
static void check_gap(narrow_fn narrow, unsigned h, double low, double high)
{
    for (unsigned sign = 0; sign < 2; sign++) {
        float middle = (float)(sign ? -(low + high) / 2 : (low + high) / 2);
        float away = sign ? -INFINITY : INFINITY;
        unsigned bits = sign << 15;
        assert_int_equal(narrow(middle), bits | (h + (h & 1)));
        assert_int_equal(narrow(nextafterf(middle, 0.0F)), bits | h);
        assert_int_equal(narrow(nextafterf(middle, away)), bits | (h + 1));
    }
}

static void test_narrowing_gaps(void **state)
{
    (void)state;
    for (unsigned h = 0; h < 0x7c00; h++) {
        double high = h == 0x7bff ? 65536.0 : meaning(h + 1, 5, 10);
        check_gap(tr_f32_to_f16, h, meaning(h, 5, 10), high);
    }
    for (unsigned h = 0; h < 0x7f7f; h++) {
        check_gap(tr_f32_to_bf16, h, meaning(h, 8, 7), meaning(h + 1, 8, 7));
    }
    /* the last gap of bf16 ends at 2^128, whose middle is a float below FLT_MAX */
    assert_int_equal(tr_f32_to_bf16(0x1.fefffep127F), 0x7f7f);
    assert_int_equal(tr_f32_to_bf16(0x1.ffp127F), 0x7f80);
    assert_int_equal(tr_f32_to_bf16(-0x1.fffffep127F), 0xff80);
}

static void test_special(void **state)
{
    (void)state;
    assert_int_equal(tr_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(tr_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(tr_f32_to_f16(1e30F), 0x7c00);
    assert_int_equal(tr_f32_to_f16(-0.0F), 0x8000);
    assert_int_equal(tr_f32_to_f16(0x1p-149F), 0);
    assert_int_equal(tr_f32_to_f16(tr_float_from_bits(0x7f800001)), 0x7e00);
    assert_int_equal(tr_f32_to_f16(tr_float_from_bits(0xffffffff)), 0xffff);
    assert_int_equal(tr_f32_to_bf16(tr_float_from_bits(0x7f800001)), 0x7fc0);
    assert_int_equal(tr_f32_to_bf16(tr_float_from_bits(0xff812345)), 0xffc1);
    assert_int_equal(tr_bits_from_float(tr_bf16_to_f32(0x7f81)), 0x7f810000);
}

/* The same bits as the instructions, NaN payloads included. */
static void test_cpu(void **state)
{
    (void)state;
#if defined(__x86_64__)
    if (!(trueno_cpu_features() & TRUENO_CPU_F16C)) {
        print_message("skipped: this CPU has no F16C\n");
        skip();
    }
#endif
#if defined(__x86_64__) || defined(__aarch64__)
    for (unsigned h = 0; h < 65536; h++) {
        uint32_t want = tr_bits_from_float(cpu_f16_to_f32((uint16_t)h));
        assert_int_equal(tr_bits_from_float(tr_f16_to_f32((uint16_t)h)), want);
    }
    for (uint64_t bits = 0; bits < (uint64_t)1 << 32; bits += 397) {
        float f = tr_float_from_bits((uint32_t)bits);
        if (tr_f32_to_f16(f) != cpu_f32_to_f16(f)) {
            fail_msg("float 0x%08x: f16 0x%04x, the CPU says 0x%04x", (unsigned)bits,
                     (unsigned)tr_f32_to_f16(f), (unsigned)cpu_f32_to_f16(f));
        }
    }
#else
    print_message("skipped: no instructions for half floats here\n");
    skip();
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_widening_all),
        cmocka_unit_test(test_round_trip_all),
        cmocka_unit_test(test_narrowing_gaps),
        cmocka_unit_test(test_special),
        cmocka_unit_test(test_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
