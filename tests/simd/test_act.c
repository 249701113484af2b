/* SPDX-License-Identifier: MIT */
/* Activation packing, C reference: layout, sums and rounding error, from the definition in act.h in
 * double precision. */
#include "simd_test.h"

#include <math.h>
#include <string.h>

#include "simd/act.h"

/* One packed column, taken out of its tile by the layout in act.h. */
struct column {
    int8_t q[1024];
    float a[32], as[32];
    int32_t ns[32], bs[16], z16[64];
};

static void pack(struct column *out, enum tr_act act, const float *x, size_t ldx, size_t k,
                 uint32_t nt)
{
    const struct tr_kernel *kernel = tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, act);
    size_t bytes = nt * tr_act_col_bytes(act, k);
    uint8_t *tile = test_alloc(bytes);
    const int32_t *word = (const int32_t *)(void *)tile;
    size_t group = act == TR_ACT_A8_256 ? 256 : 32;

    assert_non_null(kernel);
    kernel->fn.quantize(tile, x, ldx, k, nt);
    for (size_t i = 0; i < k / 4; i++)
        for (size_t c = 0; c < nt; c++) memcpy(out[c].q + 4 * i, &word[i * nt + c], 4);
    word += k / 4 * nt;
    for (size_t i = 0; i < k / group; i++)
        for (size_t c = 0; c < nt; c++) memcpy(&out[c].a[i], &word[i * nt + c], 4);
    word += k / group * nt;
    if (act == TR_ACT_A8_256) {
        for (size_t i = 0; i < k / 64; i++)
            for (size_t c = 0; c < nt; c++) out[c].bs[i] = word[i * nt + c];
        word += k / 64 * nt;
        for (size_t i = 0; i < k / 16; i++)
            for (size_t c = 0; c < nt; c++) out[c].z16[i] = word[i * nt + c];
        word += k / 16 * nt;
    } else {
        for (size_t i = 0; i < k / 32; i++)
            for (size_t c = 0; c < nt; c++) out[c].ns[i] = word[i * nt + c];
        word += k / 32 * nt;
        for (size_t i = 0; i < k / 32; i++)
            for (size_t c = 0; c < nt; c++) memcpy(&out[c].as[i], &word[i * nt + c], 4);
        word += k / 32 * nt;
    }
    assert_ptr_equal(word, tile + bytes);
    free(tile);
}

static int sum(const int8_t *q, size_t n)
{
    int s = 0;
    for (size_t i = 0; i < n; i++) s += q[i];
    return s;
}

static void check_sums(const struct column *v, enum tr_act act, size_t k)
{
    for (size_t i = 0; act == TR_ACT_A8_256 && i < k / 16; i++)
        assert_int_equal(v->z16[i], -32 * sum(v->q + 16 * i, 16));
    for (size_t i = 0; act == TR_ACT_A8_256 && i < k / 32; i++)
        assert_int_equal((int16_t)((uint32_t)v->bs[i / 2] >> 16 * (i % 2)), sum(v->q + 32 * i, 32));
    for (size_t i = 0; act == TR_ACT_A8_32 && i < k / 32; i++) {
        int s = sum(v->q + 32 * i, 32);
        assert_int_equal(v->ns[i], -s);
        assert_true(v->as[i] == v->a[i] * (float)s);
    }
}

/* Rounding error at most half a step, and the largest element at -127 or +-127. */
static void check_values(const struct column *v, enum tr_act act, const float *x, size_t k)
{
    size_t group = act == TR_ACT_A8_256 ? 256 : 32;
    for (size_t g = 0; g < k / group; g++) {
        double max = 0, a = v->a[g];
        size_t at = 0;
        for (size_t i = 0; i < group; i++) {
            double e = x[g * group + i];
            assert_true(fabs(e - a * v->q[g * group + i]) <= fabs(a) * 0.50001);
            if (fabs(e) > max) at = i;
            if (fabs(e) > max) max = fabs(e);
        }
        assert_true(fabs(fabs(a) * 127 - max) <= max * 3e-7);
        if (act == TR_ACT_A8_256)
            assert_int_equal(v->q[g * group + at], -127);
        else
            assert_true(a >= 0);
    }
}

static void test_random_columns(void **state)
{
    static const enum tr_act acts[] = {TR_ACT_A8_256, TR_ACT_A8_32};
    static struct column v[TR_NT_MAX];
    size_t k = 768, ldx = 800;
    float *x = test_alloc(TR_NT_MAX * ldx * sizeof *x);
    (void)state;
    fill_uniform(x, TR_NT_MAX * ldx, 1);
    for (size_t i = 0; i < 300; i++) x[i] *= 1e-3F;
    x[5] = -x[4];
    for (size_t i = 0; i < 2; i++) {
        for (uint32_t nt = 1; nt <= TR_NT_MAX; nt++) {
            pack(v, acts[i], x, ldx, k, nt);
            for (size_t c = 0; c < nt; c++) {
                check_sums(&v[c], acts[i], k);
                check_values(&v[c], acts[i], x + c * ldx, k);
            }
        }
    }
    free(x);
}

/* Halves round to even: scale 1 (largest element -127 or 127), elements n + 1/2. */
static void test_ties(void **state)
{
    static struct column v[1];
    float x[256] = {0};
    (void)state;
    x[0] = -127;
    for (int i = 1; i < 127; i++) x[i] = (float)i - 64.5F;
    pack(v, TR_ACT_A8_256, x, 256, 256, 1);
    for (int i = 1; i < 127; i++) assert_int_equal(v->q[i], (int)nearbyint(x[i]));
    assert_int_equal(v->q[1], -64);
    assert_int_equal(v->q[2], -62);
    for (int i = 0; i < 256; i += 32) x[i] = 127;
    pack(v, TR_ACT_A8_32, x, 256, 256, 1);
    for (int i = 1; i < 127; i++)
        if (i % 32) assert_int_equal(v->q[i], (int)nearbyint(x[i]));
}

/* A8_256: the first of two equal magnitudes decides the sign of the scale. */
static void test_first_of_largest(void **state)
{
    static struct column v[1];
    float x[256] = {0};
    (void)state;
    x[100] = 2;
    x[200] = -2;
    pack(v, TR_ACT_A8_256, x, 256, 256, 1);
    assert_int_equal(v->q[100], -127);
    assert_int_equal(v->q[200], 127);
    assert_true(v->a[0] < 0);
}

/* Group 0 holds the special value, group 1 ones: it must not notice. */
static void special(float value, bool nan_scale, bool zero_scale)
{
    static const enum tr_act acts[] = {TR_ACT_A8_256, TR_ACT_A8_32};
    static struct column v[2];
    for (size_t i = 0; i < 2; i++) {
        size_t group = acts[i] == TR_ACT_A8_256 ? 256 : 32;
        float x[1024];
        for (size_t e = 0; e < 1024; e++) x[e] = 1;
        for (size_t e = 0; e < group; e++) x[e] = e % 3 == 1 ? value : 0;
        pack(v, acts[i], x, 512, 512, 2);
        check_sums(&v[1], acts[i], 512);
        for (size_t e = group; e < 1024; e++) assert_int_equal(abs(v[e / 512].q[e % 512]), 127);
        if (nan_scale) assert_true(isnan(v[0].a[0]));
        if (zero_scale) assert_true(v[0].a[0] == 0);
        if (!nan_scale && !zero_scale) {
            assert_true(isfinite(v[0].a[0]) && v[0].a[0] != 0);
            assert_int_equal(abs(v[0].q[1]), 127);
            continue;
        }
        for (size_t e = 0; e < group; e++) assert_int_equal(v[0].q[e], 0);
    }
}

static void test_special_values(void **state)
{
    (void)state;
    special(0, false, true);
    special(-0.0F, false, true);
    special(1e-45F, false, true);
    special(-3e-37F, false, true);
    special(4e-37F, false, false);
    special(1e30F, false, false);
    special(-3.4e38F, false, false);
    special(INFINITY, true, false);
    special(-INFINITY, true, false);
    special(NAN, true, false);
}

static void test_f32(void **state)
{
    const struct tr_kernel *kernel = tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, TR_ACT_F32);
    float x[2 * 10], tile[2 * 7];
    (void)state;
    fill_uniform(x, 20, 9);
    x[3] = INFINITY;
    x[4] = -0.0F;
    kernel->fn.quantize(tile, x, 10, 7, 2);
    for (size_t i = 0; i < 7; i++) {
        if (i != 3) assert_memory_equal(&tile[2 * i], &x[i], 4);
        assert_memory_equal(&tile[2 * i + 1], &x[10 + i], 4);
    }
    assert_true(isnan(tile[2 * 3]));
}

/* Parts put into a tile one by one make the tile that packing all at once makes. */
static void put_parts(enum tr_act act, size_t k, size_t part, uint32_t nt)
{
    const struct tr_kernel *kernel = tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, act);
    size_t bytes = nt * tr_act_col_bytes(act, k);
    float *x = test_alloc(nt * k * sizeof *x);
    uint8_t *want = test_alloc(bytes), *got = test_alloc(bytes), *tile = test_alloc(bytes);

    fill_uniform(x, nt * k, nt);
    kernel->fn.quantize(want, x, k, k, nt);
    memset(got, 0xa5, bytes);
    for (size_t k0 = 0, n; k0 < k; k0 += n) {
        n = k - k0 < part ? k - k0 : part;
        kernel->fn.quantize(tile, x + k0, k, n, nt);
        tr_act_put(act, got, k, k0, tile, n, nt);
    }
    assert_memory_equal(want, got, bytes);
    free(x);
    free(want);
    free(got);
    free(tile);
}

static void test_put(void **state)
{
    (void)state;
    for (uint32_t nt = 1; nt <= TR_NT_MAX; nt++) {
        put_parts(TR_ACT_A8_256, 1024, 256, nt);
        put_parts(TR_ACT_A8_256, 1280, 512, nt);
        put_parts(TR_ACT_A8_32, 1024, 256, nt);
        put_parts(TR_ACT_A8_32, 352, 256, nt);
        put_parts(TR_ACT_F32, 37, 8, nt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_columns),
        cmocka_unit_test(test_ties),
        cmocka_unit_test(test_first_of_largest),
        cmocka_unit_test(test_special_values),
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_put),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
