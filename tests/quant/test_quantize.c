/* SPDX-License-Identifier: MIT */
/* Encoding: errors against published figures, ggml's, and the plain rules of the formats worked out
 * in double; awkward inputs. */
#include "quant/quant_test.h"

#include "quant/golden_blocks.h"

#include <float.h>

static const trueno_dtype encoded[] = {
    TRUENO_TYPE_F32,  TRUENO_TYPE_F16,  TRUENO_TYPE_BF16, TRUENO_TYPE_Q4_0,
    TRUENO_TYPE_Q4_1, TRUENO_TYPE_Q5_0, TRUENO_TYPE_Q5_1, TRUENO_TYPE_Q8_0,
    TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q5_K, TRUENO_TYPE_Q6_K,
};
enum { N_ENCODED = sizeof encoded / sizeof *encoded };

/* ------------------------------------------------------------------- errors */

/* sqrt(sum of squared errors) / n for x_i = 0.1 + 2 cos(i), n = 4096, of the reference codecs. */
static void test_published_errors(void **state)
{
    (void)state;
    static const struct {
        trueno_dtype type;
        double error, unit; /* unit: of the last published digit */
    } published[] = {
        {TRUENO_TYPE_Q4_0, 0.001121, 1e-6}, {TRUENO_TYPE_Q4_1, 0.001144, 1e-6},
        {TRUENO_TYPE_Q5_0, 0.000591, 1e-6}, {TRUENO_TYPE_Q5_1, 0.000556, 1e-6},
        {TRUENO_TYPE_Q8_0, 0.000074, 1e-6}, {TRUENO_TYPE_Q4_K, 0.000982, 1e-6},
        {TRUENO_TYPE_Q5_K, 0.000531, 1e-6}, {TRUENO_TYPE_Q6_K, 0.000261, 1e-6},
        {TRUENO_TYPE_F16, 0.000004, 1e-6},  {TRUENO_TYPE_BF16, 0.000036, 1e-6},
    };
    enum { N = 4096 };
    float *x = buffer(N * sizeof *x);
    fill(x, N, COSINE, 0);
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        double error = rmse(x, published[i].type, N) / sqrt(N);
        double limit = 1.02 * (published[i].error + published[i].unit / 2);
        if (!(error <= limit)) {
            fail_msg("%s: error %.7f, published %.6f",
                     trueno_dtype_get_info(published[i].type)->name, error, published[i].error);
        }
    }
    free(x);
}

static void test_errors_of_ggml(void **state)
{
    (void)state;
    float *x = buffer(GOLDEN_WEIGHTS * sizeof *x);
    for (int kind = 0; kind < DISTRIBUTIONS; kind++) {
        fill(x, GOLDEN_WEIGHTS, (enum distribution)kind, (uint64_t)kind + 1);
        for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) {
            if (goldens[i].rmse[kind] == 0.0) continue; /* no encoder */
            double error = rmse(x, goldens[i].type, GOLDEN_WEIGHTS);
            if (!(error <= 1.02 * goldens[i].rmse[kind])) {
                fail_msg("%s, distribution %d: RMSE %.4e, ggml has %.4e",
                         trueno_dtype_get_info(goldens[i].type)->name, kind, error,
                         goldens[i].rmse[kind]);
            }
        }
    }
    free(x);
}

/* Squared error of a block of 32 under the rule without a search, in double: the largest becomes
 * -levels / 2 (offset false), or minimum and maximum become the ends (offset true). */
static double plain_rule(const float *x, int levels, bool offset)
{
    double low = x[0], high = x[0];
    for (int i = 1; i < 32; i++) {
        if ((double)x[i] < low) low = (double)x[i];
        if ((double)x[i] > high) high = (double)x[i];
    }
    double peak = -low > high ? low : high;
    double d = offset ? (high - low) / (levels - 1) : peak / (-levels / 2);
    double zero = offset ? 0.0 : levels / 2;
    double sum = 0;
    for (int i = 0; i < 32; i++) {
        double m = offset ? low : 0.0;
        double q = d != 0 ? rint(((double)x[i] - m) / d + zero) : zero;
        q = fmin(q, levels - 1);
        sum += pow(d * (q - zero) + m - (double)x[i], 2);
    }
    return sum;
}

/* The search includes the plain rule, so it may lose only what the scale loses as f16. */
static void test_search_beats_plain_rule(void **state)
{
    (void)state;
    static const struct {
        trueno_dtype type;
        int levels;
        bool offset;
    } rules[] = {{TRUENO_TYPE_Q4_0, 16, false},
                 {TRUENO_TYPE_Q5_0, 32, false},
                 {TRUENO_TYPE_Q4_1, 16, true},
                 {TRUENO_TYPE_Q5_1, 32, true}};
    float x[32], y[32];
    uint8_t block[32];
    uint64_t seed = 7;
    for (int trial = 0; trial < 2000; trial++) {
        enum distribution kind = (enum distribution)(1 + trial % 3);
        float size = ldexpf(1.0F, trial % 14 - 8), shift = (float)(trial % 5) * 0.3F;
        for (size_t i = 0; i < 32; i++) x[i] = size * (next_float(kind, i, &seed) + shift);
        for (size_t k = 0; k < 4; k++) {
            double sum = 0, peak = 0;
            assert_int_equal(trueno_quantize(block, x, rules[k].type, 32), TRUENO_OK);
            assert_int_equal(trueno_dequantize(y, block, rules[k].type, 32), TRUENO_OK);
            for (int i = 0; i < 32; i++) {
                sum += pow((double)x[i] - (double)y[i], 2);
                peak = fmax(peak, fabs((double)x[i]));
            }
            /* f16 moves scale and minimum by at most 2^-11 each */
            double slack = sqrt(32) * peak * 0x1p-10;
            double limit = sqrt(plain_rule(x, rules[k].levels, rules[k].offset)) + slack;
            assert_true(sqrt(sum) <= limit);
        }
    }
}

/* -------------------------------------------------------------- exact cases */

static void test_exact_types(void **state)
{
    (void)state;
    enum { N = 1024 };
    float x[N];
    uint16_t h[N];
    fill(x, N, HEAVY, 5);
    assert_int_equal(trueno_quantize(h, x, TRUENO_TYPE_F16, N), TRUENO_OK);
    for (size_t i = 0; i < N; i++) assert_int_equal(h[i], tr_f32_to_f16(x[i]));
    assert_int_equal(trueno_quantize(h, x, TRUENO_TYPE_BF16, N), TRUENO_OK);
    for (size_t i = 0; i < N; i++) assert_int_equal(h[i], tr_f32_to_bf16(x[i]));
    float copy[N];
    assert_int_equal(trueno_quantize(copy, x, TRUENO_TYPE_F32, N), TRUENO_OK);
    assert_memory_equal(copy, x, sizeof x);
}

/* Numbers that a format can hold come back as they were: every code, steps that are powers of 2. */
static void test_lattices(void **state)
{
    (void)state;
    static const struct {
        trueno_dtype type;
        int low, high;
    } lattice[] = {
        {TRUENO_TYPE_Q4_0, -8, 7},   {TRUENO_TYPE_Q4_1, 3, 18},     {TRUENO_TYPE_Q5_0, -16, 15},
        {TRUENO_TYPE_Q5_1, -40, -9}, {TRUENO_TYPE_Q8_0, -127, 127}, {TRUENO_TYPE_Q4_K, 0, 15},
        {TRUENO_TYPE_Q5_K, 0, 31},   {TRUENO_TYPE_Q6_K, -32, 31},
    };
    float x[256], y[256];
    uint8_t block[512];
    for (size_t k = 0; k < sizeof lattice / sizeof *lattice; k++) {
        int low = lattice[k].low, high = lattice[k].high;
        uint64_t seed = k;
        for (int i = 0; i < 256; i++) {
            int q = low + (int)(next_u64(&seed) % (uint64_t)(high - low + 1));
            if (i % 16 == 0) q = i % 32 ? high : low; /* both ends in every group */
            if (lattice[k].type == TRUENO_TYPE_Q6_K && i % 16 == 1) q = low;
            x[i] = (float)q * 0.125F;
        }
        assert_int_equal(trueno_quantize(block, x, lattice[k].type, 256), TRUENO_OK);
        assert_int_equal(trueno_dequantize(y, block, lattice[k].type, 256), TRUENO_OK);
        for (int i = 0; i < 256; i++) {
            /* K-quants hold d = 0.125 / 63 or / 128 as f16, so to its precision */
            bool is_k = trueno_dtype_get_info(lattice[k].type)->block == 256;
            double slack = is_k ? fabs((double)x[i]) * 0x1p-11 : 0.0;
            if (!(fabs((double)x[i] - (double)y[i]) <= slack)) {
                fail_msg("%s: weight %d is %g, was %g",
                         trueno_dtype_get_info(lattice[k].type)->name, i, (double)y[i],
                         (double)x[i]);
            }
        }
    }
}

/* ---------------------------------------------------------------- adversarial */

/* Largest error over 256 weights, in units of the largest magnitude. */
static double worst(const float *x, trueno_dtype type)
{
    float y[256];
    uint8_t block[1024];
    double error = 0, peak = 0;
    assert_int_equal(trueno_quantize(block, x, type, 256), TRUENO_OK);
    assert_int_equal(trueno_dequantize(y, block, type, 256), TRUENO_OK);
    for (int i = 0; i < 256; i++) {
        double diff = fabs((double)x[i] - (double)y[i]);
        assert_true(isfinite(y[i]));
        error = fmax(error, diff);
        peak = fmax(peak, fabs((double)x[i]));
    }
    return peak > 0 ? error / peak : error;
}

/* One step of the coarsest format, 2 / 15 of the range, is as far as any weight may move. */
static const double one_step = 2.0 / 15;

static void test_zeros_and_constants(void **state)
{
    (void)state;
    static const float values[] = {1.0F, -1.0F, 0.37F, -0.37F, -65000.0F, 65000.0F};
    float x[256] = {0};
    for (int k = 0; k < N_ENCODED; k++) assert_true(worst(x, encoded[k]) == 0.0);
    for (int i = 0; i < 256; i++) x[i] = -0.0F;
    for (int k = 0; k < N_ENCODED; k++) assert_true(worst(x, encoded[k]) == 0.0);
    for (size_t v = 0; v < sizeof values / sizeof *values; v++) {
        for (int i = 0; i < 256; i++) x[i] = values[v];
        for (int k = 0; k < N_ENCODED; k++) {
            /* a constant is one code times a free scale: only its rounding remains */
            double limit = encoded[k] == TRUENO_TYPE_BF16 ? 0x1p-8 : 0x1p-10;
            double error = worst(x, encoded[k]);
            if (!(error <= limit)) {
                fail_msg("%s: constant %g is off by %g", trueno_dtype_get_info(encoded[k])->name,
                         (double)values[v], error);
            }
        }
    }
}

static void test_spikes_and_signs(void **state)
{
    (void)state;
    float x[256];
    uint64_t seed = 3;
    for (int kind = 0; kind < 5; kind++) {
        for (size_t i = 0; i < 256; i++) {
            float u = next_float(UNIFORM, i, &seed);
            switch (kind) {
            case 0: x[i] = i == 77 ? -100.0F : 0.0F; break;
            case 1: x[i] = i == 200 ? 1000.0F : u * 1e-3F; break;
            case 2: x[i] = -fabsf(u) - 0.01F; break;
            case 3: x[i] = i % 2 ? -1.0F : 1.0F; break;
            default: x[i] = ldexpf(u, (int)(i / 16) * 8 - 120); break; /* groups far apart */
            }
        }
        for (int k = 0; k < N_ENCODED; k++) assert_true(worst(x, encoded[k]) <= one_step);
    }
}

/* Down to 2^-24, the least f16, errors keep their proportion; below they are never larger than that
 * number or the weight. */
static void test_tiny(void **state)
{
    (void)state;
    float x[256], y[256];
    uint8_t block[1024];
    uint64_t seed = 4;
    for (int e = -149; e <= -10; e++) {
        for (size_t i = 0; i < 256; i++) x[i] = ldexpf(next_float(UNIFORM, i, &seed), e);
        for (int k = 0; k < N_ENCODED; k++) {
            double peak = ldexp(1.0, e);
            assert_int_equal(trueno_quantize(block, x, encoded[k], 256), TRUENO_OK);
            assert_int_equal(trueno_dequantize(y, block, encoded[k], 256), TRUENO_OK);
            for (int i = 0; i < 256; i++) {
                double diff = fabs((double)x[i] - (double)y[i]);
                assert_true(diff <= one_step * peak + fmin(peak, 0x1p-24));
            }
        }
    }
}

/* ERR_NUMERIC, not an infinite scale. Below the limit all is well. */
static void test_huge(void **state)
{
    (void)state;
    float x[256];
    uint8_t block[1024];
    for (int k = 0; k < N_ENCODED; k++) {
        for (int i = 0; i < 256; i++) x[i] = i == 100 ? 1e30F : 1.0F;
        bool wide = encoded[k] == TRUENO_TYPE_F32 || encoded[k] == TRUENO_TYPE_BF16;
        assert_int_equal(trueno_quantize(block, x, encoded[k], 256),
                         wide ? TRUENO_OK : TRUENO_ERR_NUMERIC);
        x[100] = FLT_MAX;
        x[101] = -FLT_MAX;
        assert_int_equal(trueno_quantize(block, x, encoded[k], 256),
                         encoded[k] == TRUENO_TYPE_F32 ? TRUENO_OK : TRUENO_ERR_NUMERIC);
        x[100] = 65504.0F;
        x[101] = -65504.0F;
        assert_true(worst(x, encoded[k]) <= one_step);
    }
}

static void test_not_finite(void **state)
{
    (void)state;
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    float x[512] = {0};
    uint8_t block[2048];
    for (int k = 0; k < N_ENCODED; k++) {
        for (size_t at = 0; at < 512; at += 73) {
            x[at] = bad[at % 4];
            assert_int_equal(trueno_quantize(block, x, encoded[k], 512), TRUENO_ERR_NUMERIC);
            x[at] = 0.0F;
        }
    }
}

/* --------------------------------------------------------------------- call */

/* The same bytes for a row at once, block by block, at odd addresses and again. */
static void test_deterministic(void **state)
{
    (void)state;
    enum { N = 1024 };
    float x[N];
    fill(x, N, BELL, 11);
    for (int k = 0; k < N_ENCODED; k++) {
        size_t size = trueno_row_bytes(encoded[k], N), part = trueno_row_bytes(encoded[k], 256);
        uint8_t *a = buffer(size), *b = buffer(size + 1);
        assert_int_equal(trueno_quantize(a, x, encoded[k], N), TRUENO_OK);
        for (size_t i = 0; i < 4; i++) {
            assert_int_equal(trueno_quantize(b + 1 + i * part, x + 256 * i, encoded[k], 256),
                             TRUENO_OK);
        }
        assert_memory_equal(a, b + 1, size);
        free(a);
        free(b);
    }
}

static void test_arguments(void **state)
{
    (void)state;
    float x[256] = {0};
    uint8_t block[1024];
    assert_int_equal(trueno_quantize(NULL, x, TRUENO_TYPE_Q8_0, 32), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize(block, NULL, TRUENO_TYPE_Q8_0, 32), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize(block, x, TRUENO_TYPE_Q8_0, 31), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize(block, x, TRUENO_TYPE_Q6_K, 32), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize(block, x, TRUENO_TYPE_F16, SIZE_MAX), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize(block, x, (trueno_dtype)99, 32), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize(block, x, TRUENO_TYPE_Q2_K, 256), TRUENO_ERR_UNSUPPORTED);
    assert_int_equal(trueno_quantize(block, x, TRUENO_TYPE_Q4_K, 0), TRUENO_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_errors),
        cmocka_unit_test(test_errors_of_ggml),
        cmocka_unit_test(test_search_beats_plain_rule),
        cmocka_unit_test(test_exact_types),
        cmocka_unit_test(test_lattices),
        cmocka_unit_test(test_zeros_and_constants),
        cmocka_unit_test(test_spikes_and_signs),
        cmocka_unit_test(test_tiny),
        cmocka_unit_test(test_huge),
        cmocka_unit_test(test_not_finite),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
