/* SPDX-License-Identifier: MIT */
/* Decoding: blocks worked out by hand, and bits that ggml gives for random blocks. */
#include "quant/quant_test.h"

#include "quant/golden_blocks.h"
#include "quant/quant.h"

enum { HALF = 0x3800, ONE = 0x3c00, MINUS_ONE = 0xbc00, QUARTER = 0x3400 }; /* f16 */

static void decode(float *dst, const void *block, trueno_dtype type, size_t n)
{
    assert_int_equal(trueno_dequantize(dst, block, type, n), TRUENO_OK);
}

/* ------------------------------------------------------------------ by hand */

static void test_plain_by_hand(void **state)
{
    (void)state;
    static const uint16_t f16[4] = {ONE, 0x0001, 0xfbff, 0x7c00};
    static const uint16_t bf16[2] = {0x3f80, 0xc2f7};
    float y[4];
    decode(y, f16, TRUENO_TYPE_F16, 4);
    assert_true(y[0] == 1.0F && y[1] == 0x1p-24F && y[2] == -65504.0F && isinf(y[3]));
    decode(y, bf16, TRUENO_TYPE_BF16, 2);
    assert_true(y[0] == 1.0F && y[1] == -123.5F);
}

static void test_blocks_of_32_by_hand(void **state)
{
    (void)state;
    float y[32];

    struct tr_block_q4_0 a = {.d = HALF, .qs = {[0] = 0x1f, [15] = 0x88}};
    decode(y, &a, TRUENO_TYPE_Q4_0, 32);
    assert_true(y[0] == 3.5F && y[16] == -3.5F && y[15] == 0.0F && y[31] == 0.0F && y[1] == -4.0F);

    struct tr_block_q4_1 b = {.d = QUARTER, .m = MINUS_ONE, .qs = {[5] = 0xa3}};
    decode(y, &b, TRUENO_TYPE_Q4_1, 32);
    assert_true(y[5] == -0.25F && y[21] == 1.5F && y[0] == -1.0F);

    struct tr_block_q5_0 c = {
        .d = ONE, .qh = 1U << 3 | 1U << 17 | 1U << 31, .qs = {[3] = 0x02, [1] = 0x50, [15] = 0xf0}};
    decode(y, &c, TRUENO_TYPE_Q5_0, 32);
    assert_true(y[3] == 2.0F && y[19] == -16.0F && y[1] == -16.0F && y[17] == 5.0F);
    assert_true(y[31] == 15.0F && y[15] == -16.0F);

    struct tr_block_q5_1 d = {.d = ONE, .m = HALF, .qh = 1U << 0 | 1U << 31, .qs = {[15] = 0xf7}};
    decode(y, &d, TRUENO_TYPE_Q5_1, 32);
    assert_true(y[0] == 16.5F && y[15] == 7.5F && y[31] == 31.5F && y[16] == 0.5F);

    struct tr_block_q8_0 e = {.d = HALF, .qs = {[0] = -128, [31] = 127}};
    decode(y, &e, TRUENO_TYPE_Q8_0, 32);
    assert_true(y[0] == -64.0F && y[31] == 63.5F && y[1] == 0.0F);
}

/* Scales 1, 2, ..: sc[1] = 2 and m[1] = 4 share bytes with sc[5] = 42 and m[5] = 51. */
static const uint8_t packed_scales[12] = {[1] = 2 | 0x80, [5] = 4 | 0xc0, [9] = 0x3a};

static void test_q4_k_q5_k_by_hand(void **state)
{
    (void)state;
    float y[256];
    uint8_t sc, m;
    tr_q4k_scale_min(1, packed_scales, &sc, &m);
    assert_true(sc == 2 && m == 4);
    tr_q4k_scale_min(5, packed_scales, &sc, &m);
    assert_true(sc == 42 && m == 51);

    struct tr_block_q4_k a = {.d = ONE, .dmin = HALF};
    memcpy(a.scales, packed_scales, 12);
    a.qs[7] = 0x95;      /* weights 7 and 39 */
    a.qs[64 + 7] = 0x9f; /* weights 135 and 167 */
    decode(y, &a, TRUENO_TYPE_Q4_K, 256);
    assert_true(y[7] == 0.0F && y[39] == 2 * 9 - 2.0F);
    assert_true(y[135] == 0.0F && y[167] == 42 * 9 - 25.5F && y[160] == -25.5F);

    struct tr_block_q5_k b = {.d = HALF, .dmin = MINUS_ONE};
    memcpy(b.scales, packed_scales, 12);
    b.qs[7] = 0x95;
    b.qs[64 + 7] = 0x9f;
    b.qh[7] = 1 << 5; /* weight 167 is 25 */
    b.qh[0] = 1 << 1; /* weight 32 is 16 */
    decode(y, &b, TRUENO_TYPE_Q5_K, 256);
    assert_true(y[39] == 9.0F + 4 && y[167] == 21 * 25 + 51.0F && y[32] == 16.0F + 4);
}

static void test_q2_k_q3_k_q6_k_by_hand(void **state)
{
    (void)state;
    float y[256];

    /* weight 128 + 32 * 2 + 20 = 212: bits 4, 5 of qs[32 + 20], scale 13 */
    struct tr_block_q2_k a = {.d = ONE, .dmin = HALF};
    a.scales[13] = 0x7d;
    a.qs[52] = 2 << 4;
    decode(y, &a, TRUENO_TYPE_Q2_K, 256);
    assert_true(y[212] == 13 * 2 - 3.5F && y[213] == -3.5F && y[0] == 0.0F);

    /* the same weight, bit 2 in bit 6 of hmask[20]; scale 13: high nibble of byte 5, two bits of
     * byte 8 + 1 from bit 6 on */
    struct tr_block_q3_k b = {.d = HALF};
    b.scales[5] = 0xb0;
    b.scales[9] = 3 << 6;
    b.qs[52] = 2 << 4;
    b.hmask[20] = 1 << 6;
    decode(y, &b, TRUENO_TYPE_Q3_K, 256);
    assert_int_equal(tr_q3k_scale(13, b.scales), 0x3b - 32);
    assert_true(y[212] == 13.5F * 2 && y[213] == 13.5F * -4 && y[0] == -16.0F * -4);

    /* the same weight again: high nibble of ql[64 + 20], bits 4, 5 of qh[32 + 20] */
    struct tr_block_q6_k c = {.d = HALF};
    c.scales[13] = -128;
    c.ql[84] = 0xe0;
    c.qh[52] = 3 << 4;
    decode(y, &c, TRUENO_TYPE_Q6_K, 256);
    assert_true(y[212] == -64.0F * 30 && y[213] == -64.0F * -32 && y[84] == 0.0F);
}

/* ------------------------------------------------------------------- golden */

/* As golden_bytes() of tests/compare_ggml.py: random, f16 fields below 2 in magnitude. */
static uint8_t *golden_bytes(trueno_dtype type, size_t n_blocks)
{
    size_t fields[2] = {0, 0}; /* one of d and a second one */
    switch (type) {
    case TRUENO_TYPE_Q4_1:
    case TRUENO_TYPE_Q5_1:
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K: fields[1] = 2; break;
    case TRUENO_TYPE_Q2_K: fields[0] = 80, fields[1] = 82; break;
    case TRUENO_TYPE_Q3_K: fields[0] = fields[1] = 108; break;
    case TRUENO_TYPE_Q6_K: fields[0] = fields[1] = 208; break;
    default: break;
    }
    size_t size = trueno_dtype_get_info(type)->block_bytes;
    uint64_t seed = (uint64_t)type;
    uint8_t *data = buffer(n_blocks * size);
    for (size_t i = 0; i < n_blocks * size; i++) data[i] = (uint8_t)(next_u64(&seed) >> 56);
    for (size_t i = 0; i < n_blocks; i++) {
        data[i * size + fields[0] + 1] &= 0xbf;
        data[i * size + fields[1] + 1] &= 0xbf;
    }
    return data;
}

static void check_golden(const struct golden *g)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(g->type);
    size_t n = GOLDEN_BLOCKS * (size_t)info->block;
    uint8_t *data = golden_bytes(g->type, GOLDEN_BLOCKS);
    float *y = buffer(n * sizeof *y);
    decode(y, data, g->type, n);
    uint64_t hash = 0xcbf29ce484222325U;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = tr_bits_from_float(y[i]);
        hash = (hash ^ bits) * 0x100000001b3U;
    }
    /* the first weights one by one; their bytes are the same for any number of blocks */
    for (size_t i = 0; i < g->n; i++) {
        if (tr_bits_from_float(y[i]) != g->bits[i]) {
            fail_msg("%s: weight %zu is 0x%08x, ggml says 0x%08x", info->name, i,
                     (unsigned)tr_bits_from_float(y[i]), (unsigned)g->bits[i]);
        }
    }
    if (hash != g->hash) fail_msg("%s: the bits of later blocks differ from ggml's", info->name);
    free(data);
    free(y);
}

static void test_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof goldens / sizeof *goldens; i++) check_golden(&goldens[i]);
}

/* ------------------------------------------------------------------- bounds */

/* Any alignment; nothing is read or written past the end (sanitizers watch the buffers). */
static void test_bounds(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof goldens / sizeof *goldens; k++) {
        trueno_dtype type = goldens[k].type;
        size_t n = 3 * (size_t)trueno_dtype_get_info(type)->block;
        size_t size = trueno_row_bytes(type, n);
        uint8_t *data = golden_bytes(type, 3), *odd = buffer(size + 1);
        float *y = buffer((n + 1) * sizeof *y), *z = buffer(n * sizeof *z);
        memcpy(odd + 1, data, size);
        y[n] = 42.0F;
        decode(y, data, type, n);
        decode(z, odd + 1, type, n);
        assert_memory_equal(y, z, n * sizeof *y);
        assert_true(y[n] == 42.0F);
        decode(y, data, type, 0);
        free(data);
        free(odd);
        free(y);
        free(z);
    }
}

static void test_arguments(void **state)
{
    (void)state;
    float y[256];
    uint8_t data[256] = {0};
    assert_int_equal(trueno_dequantize(NULL, data, TRUENO_TYPE_Q8_0, 32), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_dequantize(y, NULL, TRUENO_TYPE_Q8_0, 32), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_dequantize(y, data, TRUENO_TYPE_Q8_0, 33), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_dequantize(y, data, TRUENO_TYPE_Q4_K, 128), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_dequantize(y, data, TRUENO_TYPE_F16, SIZE_MAX / 2),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_dequantize(y, data, (trueno_dtype)4, 32), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_dequantize(y, data, (trueno_dtype)16, 256), TRUENO_ERR_UNSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_by_hand),
        cmocka_unit_test(test_blocks_of_32_by_hand),
        cmocka_unit_test(test_q4_k_q5_k_by_hand),
        cmocka_unit_test(test_q2_k_q3_k_q6_k_by_hand),
        cmocka_unit_test(test_golden),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
