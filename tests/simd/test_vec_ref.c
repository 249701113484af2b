/* SPDX-License-Identifier: MIT */
/* Norm, gate, rotation and cache-store kernels, the reference and every other that this CPU runs:
 * against double precision, published half-float roundings and algebra. */
#include "simd_test.h"

#include <math.h>
#include <string.h>

#include "simd/kernel.h"

#define MAX_N 8200

static const size_t sizes[] = {1,   2,   3,   7,    8,    15,   16,   17,  31,  32,
                               33,  47,  48,  49,   63,   64,   65,   100, 255, 256,
                               257, 576, 896, 2047, 2048, 4097, 8192, 8199};
#define N_SIZES (sizeof sizes / sizeof *sizes)

/* The next kernel of the op and type that this CPU runs; NULL past the last. *i starts at 0. */
static const struct tr_kernel *next_kernel(size_t *i, enum tr_op op, trueno_dtype type)
{
    const struct tr_kernel *k;
    while ((k = tr_kernel_at((*i)++)) != NULL) {
        bool runs = (k->cpu & ~trueno_cpu_features()) == 0;
        if (k->op == op && k->dtype == type && runs) return k;
    }
    return NULL;
}

#define FOR_KERNELS(k, op, type)                                                                   \
    for (size_t k##_at = 0, k##_once = 1; k##_once; k##_once = 0)                                  \
        for (const struct tr_kernel *k; (k = next_kernel(&k##_at, op, type)) != NULL;)

/* ------------------------------------------------------------------ norm */

static void check_rmsnorm(tr_rmsnorm_fn f, size_t n, float eps)
{
    static float x[MAX_N], w[MAX_N], y[MAX_N];
    double squares = 0;

    fill_uniform(x, n, n);
    fill_uniform(w, n, n + 1);
    for (size_t i = 0; i < n; i++) squares += (double)x[i] * (double)x[i];
    double inv = 1.0 / sqrt(squares / (double)n + (double)eps);

    f(y, x, w, n, eps);
    for (size_t i = 0; i < n; i++) {
        double exact = (double)x[i] * inv * (double)w[i];
        assert_true(fabs(y[i] - exact) <= 1e-6 * fabs(exact));
    }
    f(x, x, w, n, eps); /* in place */
    assert_memory_equal(x, y, n * sizeof *x);
}

static void test_rmsnorm_matches_double(void **state)
{
    (void)state;
    FOR_KERNELS(k, TR_OP_RMSNORM, TR_TYPE_NONE)
    {
        for (size_t s = 0; s < N_SIZES; s++) {
            check_rmsnorm(k->fn.rmsnorm, sizes[s], 1e-5F);
            check_rmsnorm(k->fn.rmsnorm, sizes[s], 0.5F);
        }
    }
}

/* x[0]^2 = 2^24, and every `step`-th of the others, from x[1] on, is 1. A float sum then shows
 * which ones met 2^24 alone, and were lost, and which met it within a larger sum. eps takes 2^24 /
 * n away again, exactly: y[1] = 1 / sqrt((sum - 2^24) / n). */
static float norm_beside_2_24(tr_rmsnorm_fn f, size_t n, size_t step)
{
    static float x[MAX_N], w[MAX_N], y[MAX_N];
    for (size_t i = 0; i < n; i++) {
        x[i] = i % step == 1 % step ? 1.0F : 0.0F;
        w[i] = 1.0F;
    }
    x[0] = 4096.0F;
    f(y, x, w, n, -0x1p24F / (float)n);
    return y[1];
}

static void test_rmsnorm_sums_in_r32_order(void **state)
{
    (void)state;
    FOR_KERNELS(k, TR_OP_RMSNORM, TR_TYPE_NONE)
    {
        /* 63 ones in partial 0 are lost, 31 partials of 64 remain; of a sequential sum nothing
         * would remain, of an exact one 2047 */
        float y = norm_beside_2_24(k->fn.rmsnorm, 2048, 1);
        assert_true(y == 1.0F / sqrtf(1984.0F / 2048.0F));
        /* p[j] + p[j + h] with h = 16, 8, 4, 2, 1 brings 16 ones together before they meet 2^24;
         * adding neighbours first would lose the first pair */
        y = norm_beside_2_24(k->fn.rmsnorm, 32, 2);
        assert_true(y == 1.0F / sqrtf(16.0F / 32.0F));
    }
}

static void test_rmsnorm_special_values(void **state)
{
    (void)state;
    static float x[100], w[100], y[100];
    FOR_KERNELS(k, TR_OP_RMSNORM, TR_TYPE_NONE)
    {
        for (size_t i = 0; i < 100; i++) x[i] = 0.0F, w[i] = 2.0F;
        k->fn.rmsnorm(y, x, w, 100, 1e-6F);
        for (size_t i = 0; i < 100; i++) assert_true(y[i] == 0.0F);
        for (size_t at = 0; at < 100; at += 33) { /* one NaN and the row is NaN */
            fill_uniform(x, 100, at);
            x[at] = NAN;
            k->fn.rmsnorm(y, x, w, 100, 1e-6F);
            for (size_t i = 0; i < 100; i++) assert_true(isnan(y[i]));
        }
    }
}

/* ----------------------------------------------------------------- gates */

static double silu(double x)
{
    return x / (1.0 + exp(-x));
}

static double gelu(double x)
{
    double u = sqrt(2.0 / 3.14159265358979323846) * (x + 0.044715 * x * x * x);
    return x / (1.0 + exp(-2.0 * u));
}

static void check_glu(tr_glu_fn f, double (*exact)(double), size_t n)
{
    static float gate[MAX_N], up[MAX_N], y[MAX_N], copy[MAX_N];

    fill_uniform(gate, n, n);
    fill_uniform(up, n, n + 1);
    for (size_t i = 0; i < n; i++) gate[i] *= 5.0F;
    f(y, gate, up, n);
    for (size_t i = 0; i < n; i++) {
        double want = exact((double)gate[i]) * (double)up[i];
        assert_true(fabs(y[i] - want) <= 4e-6 * fabs(want)); /* gelu: 2u up to 19, test_math.c */
    }
    memcpy(copy, up, n * sizeof *up);
    f(copy, gate, copy, n); /* in place of either operand */
    assert_memory_equal(copy, y, n * sizeof *y);
    f(gate, gate, up, n);
    assert_memory_equal(gate, y, n * sizeof *y);
}

static void test_gates_match_double(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SIZES; s++) {
        FOR_KERNELS(k, TR_OP_SWIGLU, TR_TYPE_NONE)
        {
            check_glu(k->fn.glu, silu, sizes[s]);
        }
        FOR_KERNELS(k, TR_OP_GEGLU, TR_TYPE_NONE)
        {
            check_glu(k->fn.glu, gelu, sizes[s]);
        }
    }
}

static void check_glu_limits(tr_glu_fn f)
{
    static const float gate[9] = {INFINITY, 1e30F,     100.0F, 0.0F, -0.0F,
                                  -100.0F,  -INFINITY, -1e30F, NAN};
    static const float want[9] = {INFINITY, 1e30F, 100.0F, 0.0F, 0.0F, 0.0F, NAN, 0.0F, NAN};
    float up[40], y[40], x[40];
    for (size_t i = 0; i < 40; i++) {
        x[i] = gate[i % 9];
        up[i] = 1.0F;
    }
    f(y, x, up, 40);
    for (size_t i = 0; i < 40; i++)
        assert_true(isnan(want[i % 9]) ? isnan(y[i]) : y[i] == want[i % 9]);
}

static void test_gates_at_their_limits(void **state)
{
    (void)state;
    FOR_KERNELS(k, TR_OP_SWIGLU, TR_TYPE_NONE)
    {
        check_glu_limits(k->fn.glu);
    }
    FOR_KERNELS(k, TR_OP_GEGLU, TR_TYPE_NONE)
    {
        check_glu_limits(k->fn.glu);
    }
}

/* -------------------------------------------------------------- rotation */

/* Where the two elements of pair i of n stand. */
static size_t first_of(enum tr_op op, size_t i)
{
    return op == TR_OP_ROPE_NORM ? 2 * i : i;
}

static size_t second_of(enum tr_op op, size_t i, size_t n)
{
    return op == TR_OP_ROPE_NORM ? 2 * i + 1 : i + n;
}

static void check_rope(const struct tr_kernel *k, size_t n)
{
    static float x[2 * MAX_N], y[2 * MAX_N], cosine[MAX_N], sine[MAX_N];

    fill_uniform(x, 2 * n, n);
    memcpy(y, x, 2 * n * sizeof *x);
    for (size_t i = 0; i < n; i++) {
        cosine[i] = (float)cos((double)i + 1.0);
        sine[i] = (float)sin((double)i + 1.0);
    }
    k->fn.rope(y, cosine, sine, n);
    for (size_t i = 0; i < n; i++) {
        size_t at = first_of(k->op, i), bt = second_of(k->op, i, n);
        double a = x[at], b = x[bt], c = cosine[i], s = sine[i];
        double bound = 1.2e-7 * (fabs(a) + fabs(b));
        assert_true(fabs(y[at] - (a * c - b * s)) <= bound);
        assert_true(fabs(y[bt] - (a * s + b * c)) <= bound);
    }
}

static void test_rope_matches_double(void **state)
{
    (void)state;
    for (size_t n = 1; n < 80; n++) {
        FOR_KERNELS(k, TR_OP_ROPE_NORM, TR_TYPE_NONE)
        {
            check_rope(k, n);
        }
        FOR_KERNELS(k, TR_OP_ROPE_NEOX, TR_TYPE_NONE)
        {
            check_rope(k, n);
        }
    }
}

/* a*cos - b*sin with a = b, cos = sin is 0 if both products are rounded, and the rounding error of
 * one of them if fma is used. */
static void test_rope_rounds_its_products(void **state)
{
    (void)state;
    float cosine[11], sine[11], x[22];
    for (int op = TR_OP_ROPE_NORM; op <= TR_OP_ROPE_NEOX; op++) {
        FOR_KERNELS(k, (enum tr_op)op, TR_TYPE_NONE)
        {
            for (size_t i = 0; i < 22; i++) x[i] = 1.0F / 3.0F;
            for (size_t i = 0; i < 11; i++) cosine[i] = sine[i] = 0.1F;
            k->fn.rope(x, cosine, sine, 11);
            for (size_t i = 0; i < 11; i++) {
                assert_true(x[first_of(k->op, i)] == 0.0F);
                assert_true(x[second_of(k->op, i, 11)] == 2.0F * (1.0F / 3.0F * 0.1F));
            }
        }
    }
}

/* ----------------------------------------------------------- cache store */

/* Half floats by the rules of IEEE 754, and their shorter sisters: value and bits. */
struct half {
    float x;
    uint16_t bits;
};

static const struct half f16[8] = {
    {1.0F, 0x3c00},
    {-2.0F, 0xc000},
    {1.0F + 0x1p-11F, 0x3c00},     /* tie: to even, down */
    {1.0F + 3 * 0x1p-11F, 0x3c02}, /* tie: to even, up */
    {65504.0F, 0x7bff},            /* largest */
    {65520.0F, 0x7c00},            /* tie with 2^16: infinity */
    {0x1p-24F, 0x0001},            /* smallest */
    {-0x1p-25F, 0x8000},           /* tie with 0: to even */
};

static const struct half bf16[8] = {
    {1.0F, 0x3f80},
    {-2.0F, 0xc000},
    {1.0F + 0x1p-8F, 0x3f80},     /* tie: to even, down */
    {1.0F + 3 * 0x1p-8F, 0x3f82}, /* tie: to even, up */
    {0x1.fep+127F, 0x7f7f},       /* largest */
    {0x1.ffp+127F, 0x7f80},       /* tie with 2^128: infinity */
    {0x1p-133F, 0x0001},          /* smallest */
    {-0x1p-134F, 0x8000},         /* tie with 0: to even */
};

#define HEAD_DIM 24
#define N_CTX    48

/* The caches hold 0x77 in every byte before; position `pos` must be what was stored, the rest as
 * it was. */
static void check_store(const struct tr_kernel *k, size_t pos)
{
    const struct half *halves = k->dtype == TRUENO_TYPE_BF16 ? bf16 : f16;
    bool is_half = k->dtype != TRUENO_TYPE_F32;
    size_t width = is_half ? 2 : 4, bytes = N_CTX * HEAD_DIM * width;
    uint8_t *kc = test_alloc(bytes), *vc = test_alloc(bytes);
    uint8_t *kw = test_alloc(bytes), *vw = test_alloc(bytes);
    float key[HEAD_DIM], value[HEAD_DIM];

    memset(kw, 0x77, bytes);
    memset(vw, 0x77, bytes);
    memcpy(kc, kw, bytes);
    memcpy(vc, vw, bytes);
    for (size_t d = 0; d < HEAD_DIM; d++) {
        size_t i = d % 8, j = (d + 3) % 8;
        key[d] = halves[i].x;
        value[d] = halves[j].x;
        size_t k_at = (pos / 16 * HEAD_DIM + d) * 16 + pos % 16, v_at = pos * HEAD_DIM + d;
        memcpy(kw + k_at * width, is_half ? (const void *)&halves[i].bits : &halves[i].x, width);
        memcpy(vw + v_at * width, is_half ? (const void *)&halves[j].bits : &halves[j].x, width);
    }
    k->fn.kv_store(kc, vc, key, value, pos, HEAD_DIM);
    assert_memory_equal(kc, kw, bytes);
    assert_memory_equal(vc, vw, bytes);
    free(kc), free(vc), free(kw), free(vw);
}

/* Blocks of Q8_0 whose numbers come out by hand: x[i] = size * steps[i]. */
static const float steps[32] = {127,   -127, 0,   1,   -1, 2.5F, 3.5F,   -2.5F,  -3.5F, 0.5F,
                                -0.5F, 1.5,  126, 100, 64, -64,  63.75F, 12.25F, 7,     -9};
static const int8_t rounded[32] = {127, -127, 0,   1,   -1, 2,   4,  -2, -4, 0,
                                   0,   2,    126, 100, 64, -64, 64, 12, 7,  -9};
static const struct {
    float size;
    uint16_t scale;
    bool zeros; /* what q is then, whatever x was */
} blocks[8] = {
    {1.0F, 0x3c00, false},     {0x1p-3F, 0x3000, false},
    {0x1p+15F, 0x7800, false}, {0x1p-24F, 0x0001, false}, /* the smallest scale */
    {0x1p-26F, 0x0000, true},  {0.0F, 0x0000, true},
    {0x1p+16F, 0x7e00, true}, /* above f16: NaN */
    {INFINITY, 0x7e00, true}, /* 0 * infinity: NaN among them */
};
#define Q8_DIM 256

static void check_store_q8_0(const struct tr_kernel *k, size_t pos)
{
    size_t bytes = N_CTX * Q8_DIM / 32 * 34;
    uint8_t *kc = test_alloc(bytes), *vc = test_alloc(bytes);
    uint8_t *kw = test_alloc(bytes), *vw = test_alloc(bytes);
    uint8_t *row = vw + pos * Q8_DIM / 32 * 34;
    float key[Q8_DIM], value[Q8_DIM];

    memset(kw, 0x77, bytes);
    memset(vw, 0x77, bytes);
    memcpy(kc, kw, bytes);
    memcpy(vc, vw, bytes);
    for (size_t b = 0; b < 8; b++) {
        size_t kb = (b + pos) % 8, vb = (b + 3) % 8;
        uint8_t *panel = kw + (pos / 16 * 8 + b) * 544;
        memcpy(panel + pos % 16 * 2, &blocks[kb].scale, 2);
        memcpy(row + 2 * b, &blocks[vb].scale, 2);
        for (size_t i = 0; i < 32; i++) {
            key[32 * b + i] = blocks[kb].size * steps[i];
            value[32 * b + i] = blocks[vb].size * steps[i];
            panel[32 + 16 * i + pos % 16] = (uint8_t)(blocks[kb].zeros ? 0 : rounded[i]);
            row[16 + 32 * b + i] = (uint8_t)(blocks[vb].zeros ? 0 : rounded[i]);
        }
    }
    k->fn.kv_store(kc, vc, key, value, pos, Q8_DIM);
    assert_memory_equal(kc, kw, bytes);
    assert_memory_equal(vc, vw, bytes);
    free(kc), free(vc), free(kw), free(vw);
}

static void test_kv_store(void **state)
{
    static const trueno_dtype types[] = {TRUENO_TYPE_F32, TRUENO_TYPE_F16, TRUENO_TYPE_BF16};
    (void)state;
    for (size_t pos = 0; pos < N_CTX; pos++) {
        for (size_t t = 0; t < 3; t++) {
            FOR_KERNELS(k, TR_OP_KV_STORE, types[t])
            {
                check_store(k, pos);
            }
        }
        FOR_KERNELS(k, TR_OP_KV_STORE, TRUENO_TYPE_Q8_0)
        {
            check_store_q8_0(k, pos);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rmsnorm_matches_double),
        cmocka_unit_test(test_rmsnorm_sums_in_r32_order),
        cmocka_unit_test(test_rmsnorm_special_values),
        cmocka_unit_test(test_gates_match_double),
        cmocka_unit_test(test_gates_at_their_limits),
        cmocka_unit_test(test_rope_matches_double),
        cmocka_unit_test(test_rope_rounds_its_products),
        cmocka_unit_test(test_kv_store),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
