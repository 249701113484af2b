/* SPDX-License-Identifier: MIT */
/* The C reference products against double precision. Level L3: dots of the decoded weights with the
 * decoded activations, where only float rounding is left; level L4: with the float activations,
 * where the error of int8 activations comes on top. */
#include "simd_test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "quant/quant.h"
#include "simd/act.h"
#include "simd/x16.h"

#define N_ROWS 32

/* Decoded activation i of column c of a packed tile. */
static double decoded(const void *tile, enum tr_act act, size_t k, uint32_t nt, size_t i, size_t c)
{
    int8_t q[4];
    const float *f = tile;
    struct tr_a8_256 a = tr_a8_256_view(tile, k, nt);
    struct tr_a8_32 b = tr_a8_32_view(tile, k, nt);
    if (act == TR_ACT_F32) return f[i * nt + c];
    memcpy(q, &a.q[i / 4 * nt + c], 4);
    return (act == TR_ACT_A8_256 ? a.a[i / 256 * nt + c] : b.a[i / 32 * nt + c]) * (double)q[i % 4];
}

struct product {
    trueno_dtype t;
    size_t k;
    uint32_t nt;
    float y[TR_NT_MAX * N_ROWS];      /* from the kernel */
    double exact[TR_NT_MAX * N_ROWS]; /* decoded weights, decoded activations */
    double ideal[TR_NT_MAX * N_ROWS]; /* decoded weights, float activations */
};

static void multiply(struct product *p, const uint8_t *rows, const float *x)
{
    const struct tr_kernel *gemm = tr_kernel_find(0, TR_OP_GEMM, p->t, TR_ACT_NONE);
    const struct tr_kernel *quantize = tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, gemm->act);
    size_t row_bytes = trueno_row_bytes(p->t, p->k), group_bytes = tr_x16_group_bytes(p->t, p->k);
    uint8_t *w = test_alloc(N_ROWS / 16 * group_bytes);
    void *tile = test_alloc(p->nt * tr_act_col_bytes(gemm->act, p->k));
    float *weights = test_alloc(p->k * sizeof *weights);

    for (size_t g = 0; g < N_ROWS / 16; g++)
        tr_x16_pack(w + g * group_bytes, rows + 16 * g * row_bytes, row_bytes, 16, p->t, p->k);
    quantize->fn.quantize(tile, x, p->k, p->k, p->nt);
    gemm->fn.gemm(p->y, N_ROWS, w, N_ROWS / 16, tile, p->k, p->nt);
    for (size_t r = 0; r < N_ROWS; r++) {
        tr_dequantize_row(weights, rows + r * row_bytes, p->t, p->k);
        for (size_t c = 0; c < p->nt; c++) {
            double exact = 0, ideal = 0;
            for (size_t i = 0; i < p->k; i++) {
                exact += weights[i] * decoded(tile, gemm->act, p->k, p->nt, i, c);
                ideal += weights[i] * (double)x[c * p->k + i];
            }
            p->exact[c * N_ROWS + r] = exact;
            p->ideal[c * N_ROWS + r] = ideal;
        }
    }
    free(w);
    free(tile);
    free(weights);
}

/* The types with kernels of their own: the first 11 of the list. */
#define N_RUN 11

/* A chain of k fma in float on random data walks away from the true sum: each step errs by up to
 * half an ulp of a partial sum of size sqrt(i), which adds up to a relative square error near 2^-48
 * k / 6. Quantised formats have a step only every 32 or 256 weights. */
static double l3_bound(const struct product *p)
{
    double walk = 0x1p-48 * (double)p->k / 2;
    return trueno_dtype_get_info(p->t)->is_quantized || walk < 1e-12 ? 1e-12 : walk;
}

static void check_nmse(const struct product *p, double l3, double l4)
{
    size_t n = (size_t)p->nt * N_ROWS;
    double exact = nmse(p->exact, p->y, n), ideal = nmse(p->ideal, p->y, n);
    if (!(exact <= l3) || !(ideal <= l4))
        fail_msg("%s k=%zu nt=%u: L3 %.2e L4 %.2e", trueno_dtype_get_info(p->t)->name, p->k, p->nt,
                 exact, ideal);
}

static void test_random_data(void **state)
{
    static struct product p;
    (void)state;
    for (size_t i = 0; i < N_RUN; i++) {
        size_t block = trueno_dtype_get_info(test_types[i])->block;
        size_t lengths[] = {block, 3 * block, 9 * block, 2048};
        for (size_t j = 0; j < 4; j++) {
            for (p.nt = 1; p.nt <= TR_NT_MAX; p.nt++) {
                p.t = test_types[i];
                p.k = lengths[j];
                uint8_t *rows = random_weights(p.t, N_ROWS, p.k, 7 * i + j);
                float *x = test_alloc(p.nt * p.k * sizeof *x);
                fill_uniform(x, p.nt * p.k, 100 + i);
                multiply(&p, rows, x);
                check_nmse(&p, l3_bound(&p), 1e-4);
                free(rows);
                free(x);
            }
        }
    }
}

/* Every quant and every small scale at its end, activations at +-127: the largest integers. */
static void extreme(trueno_dtype t, uint8_t byte, float x_even, float x_odd, double scale_d,
                    double scale_m)
{
    static struct product p;
    size_t k = 1024, bytes = N_ROWS * trueno_row_bytes(t, k);
    uint8_t *rows = test_alloc(bytes);
    float *x = test_alloc(2 * k * sizeof *x);
    const trueno_dtype_info *info = trueno_dtype_get_info(t);
    uint16_t d = tr_f32_to_f16((float)scale_d), m = tr_f32_to_f16((float)scale_m);

    memset(rows, byte, bytes);
    for (size_t b = 0; b < bytes; b += info->block_bytes) {
        uint8_t *block = rows + b;
        bool two = t == TRUENO_TYPE_Q4_1 || t == TRUENO_TYPE_Q5_1 || t == TRUENO_TYPE_Q4_K ||
                   t == TRUENO_TYPE_Q5_K;
        memcpy(block + (t == TRUENO_TYPE_Q6_K ? 208 : 0), &d, 2);
        if (two) memcpy(block + 2, &m, 2);
    }
    for (size_t i = 0; i < 2 * k; i++) x[i] = i % 2 ? x_odd : x_even;
    p.t = t;
    p.k = k;
    p.nt = 2;
    multiply(&p, rows, x);
    double size = 0;
    for (size_t i = 0; i < 2 * N_ROWS; i++) size += p.exact[i] * p.exact[i];
    if (size > 0)
        check_nmse(&p, 1e-10, 1e-10);
    else
        for (size_t i = 0; i < 2 * N_ROWS; i++) assert_true(p.y[i] == 0);
    free(rows);
    free(x);
}

static void test_extremes(void **state)
{
    static const uint8_t bytes[] = {0x00, 0x7f, 0x80, 0xff, 0xf0, 0x0f};
    (void)state;
    for (size_t i = 0; i < 8; i++) {
        for (size_t b = 0; b < sizeof bytes; b++) {
            extreme(test_types[i], bytes[b], 1, 1, 1, 0.5);
            extreme(test_types[i], bytes[b], -1, -1, 1, -0.5);
            extreme(test_types[i], bytes[b], 127, -127, -0.01, 0.001);
            extreme(test_types[i], bytes[b], 1e30F, 1e30F, 1, 0.25);
            extreme(test_types[i], bytes[b], 1e-30F, 1e-30F, 0x1p-24, 0x1p-20);
        }
    }
}

/* A NaN in a weight's scale stays in its row; one in a column stays in its column. */
static void test_nan_stays(void **state)
{
    static struct product p;
    (void)state;
    for (size_t i = 0; i < N_RUN; i++) {
        trueno_dtype t = test_types[i];
        size_t k = 512, row_bytes = trueno_row_bytes(t, k);
        uint8_t *rows = random_weights(t, N_ROWS, k, i);
        float *x = test_alloc(4 * k * sizeof *x);
        size_t at = t == TRUENO_TYPE_Q6_K ? 208 : 0;
        fill_uniform(x, 4 * k, i);
        memset(rows + 7 * row_bytes + at, 0xff, t == TRUENO_TYPE_F32 ? 4 : 2);
        x[1 * k + 300] = INFINITY;
        x[2 * k + 511] = NAN;
        p.t = t;
        p.k = k;
        p.nt = 4;
        multiply(&p, rows, x);
        for (size_t c = 0; c < 4; c++)
            for (size_t r = 0; r < N_ROWS; r++)
                assert_int_equal(isnan(p.y[c * N_ROWS + r]) != 0, r == 7 || c == 1 || c == 2);
        free(rows);
        free(x);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_data),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_nan_stays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
