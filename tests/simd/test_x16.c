/* SPDX-License-Identifier: MIT */
/* The packed weight layout: what goes in comes out byte for byte, and every quant stands where the
 * description in x16.h says. */
#include "simd_test.h"

#include <string.h>
#include <sys/mman.h>

#include "quant/quant.h"
#include "simd/x16.h"

/* Column counts of interest: one block, odd multiples of it, panels with and without a short one.
 */
static size_t lengths(size_t out[8], trueno_dtype t)
{
    size_t block = trueno_dtype_get_info(t)->block;
    size_t n = 0;
    static const size_t plain[] = {1, 2, 7, 32, 257, 300};
    static const size_t short_blocks[] = {32, 64, 96, 224, 256, 288, 480, 768};
    static const size_t k_blocks[] = {256, 512, 768, 1280};
    const size_t *list = block == 1 ? plain : block == 32 ? short_blocks : k_blocks;
    size_t count = block == 1 ? 6 : block == 32 ? 8 : 4;
    while (n < count) {
        out[n] = list[n];
        n++;
    }
    return n;
}

/* Memory whose last `size` bytes end at an unmapped page: one byte too many, read or written, ends
 * the test. */
enum { GUARDED = 1 << 20, PAGE = 4096 };

static uint8_t *guarded(uint8_t **base, size_t size)
{
    *base = mmap(NULL, GUARDED + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(*base != MAP_FAILED && size <= GUARDED);
    assert_int_equal(mprotect(*base + GUARDED, PAGE, PROT_NONE), 0);
    return *base + GUARDED - size;
}

static void round_trip(trueno_dtype t, size_t k, size_t n_rows, uint64_t seed)
{
    size_t row_bytes = trueno_row_bytes(t, k);
    size_t run_bytes = trueno_row_bytes(tr_x16_type(t), k);
    size_t group_bytes = tr_x16_group_bytes(t, k);
    uint8_t *rows_base, *group_base;
    /* any address: rows of a file need not be aligned */
    uint8_t *rows = guarded(&rows_base, n_rows * row_bytes);
    uint8_t *group = guarded(&group_base, group_bytes);
    uint8_t *back = test_alloc(run_bytes);
    float *decoded = test_alloc(k * sizeof *decoded);

    fill_random(rows, n_rows * row_bytes, seed);
    memset(group - 64, 0xa5, group_bytes + 64);
    tr_x16_pack(group, rows, row_bytes, n_rows, t, k);
    for (size_t i = 1; i <= 64; i++) assert_int_equal(*(group - i), 0xa5);

    for (size_t r = 0; r < n_rows; r++) {
        const uint8_t *expected = rows + r * row_bytes;
        tr_x16_unpack_row(back, group, r, t, k);
        if (tr_x16_type(t) != t) {
            tr_dequantize_row(decoded, expected, t, k);
            expected = (const uint8_t *)decoded;
        }
        assert_memory_equal(back, expected, run_bytes);
    }
    munmap(rows_base, GUARDED + PAGE);
    munmap(group_base, GUARDED + PAGE);
    free(back);
    free(decoded);
}

static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        size_t k[8];
        size_t n = lengths(k, test_types[i]);
        for (size_t j = 0; j < n; j++)
            for (size_t n_rows = 1; n_rows <= 16; n_rows++)
                round_trip(test_types[i], k[j], n_rows, 1000 * i + 10 * j + n_rows);
    }
}

/* kernels.md 3.1: bytes per 16 x 256 weights; Q6_K's scales stand in front of the group. */
static void test_group_bytes(void **state)
{
    static const struct {
        trueno_dtype t;
        size_t bytes;
    } want[] = {
        {TRUENO_TYPE_Q4_K, 2304}, {TRUENO_TYPE_Q5_K, 2816}, {TRUENO_TYPE_Q6_K, 3328 + 32 + 32},
        {TRUENO_TYPE_Q4_0, 2304}, {TRUENO_TYPE_Q5_0, 2816}, {TRUENO_TYPE_Q4_1, 2560},
        {TRUENO_TYPE_Q5_1, 3072}, {TRUENO_TYPE_Q8_0, 4352}, {TRUENO_TYPE_BF16, 8192},
        {TRUENO_TYPE_F16, 8192},  {TRUENO_TYPE_F32, 16384}, {TRUENO_TYPE_Q2_K, 16384},
    };
    (void)state;
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        assert_int_equal(tr_x16_group_bytes(want[i].t, 256), want[i].bytes);
    /* short panels: 3 blocks have 96 bytes of scales, padded to 128 */
    assert_int_equal(tr_x16_group_bytes(TRUENO_TYPE_Q4_0, 96), 128 + 3 * 256);
    assert_int_equal(tr_x16_group_bytes(TRUENO_TYPE_Q5_1, 352), 3072 + 2 * 128 + 3 * 320);
    assert_int_equal(tr_x16_group_bytes(TRUENO_TYPE_F16, 3), 128);
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        size_t k[8];
        size_t n = lengths(k, test_types[i]);
        for (size_t j = 0; j < n; j++)
            assert_int_equal(tr_x16_group_bytes(test_types[i], k[j]) % 64, 0);
    }
}

/* Missing rows: every byte of their lanes is zero. */
static void test_missing_rows_are_zero(void **state)
{
    (void)state;
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        trueno_dtype t = test_types[i];
        size_t k = 256, row_bytes = trueno_row_bytes(t, k);
        uint8_t *row = test_alloc(row_bytes);
        uint8_t *group = test_alloc(tr_x16_group_bytes(t, k));
        uint8_t *back = test_alloc(trueno_row_bytes(tr_x16_type(t), k));
        float *x = test_alloc(k * sizeof *x);
        fill_random(row, row_bytes, i);
        tr_x16_pack(group, row, row_bytes, 1, t, k);
        tr_x16_unpack_row(back, group, 15, t, k);
        tr_dequantize_row(x, back, tr_x16_type(t), k);
        for (size_t e = 0; e < k; e++) assert_true(x[e] == 0);
        free(row);
        free(group);
        free(back);
        free(x);
    }
}

/* The description, by hand: element e of row r of a Q4_K and a Q6_K panel whose scales are 1. */
static void test_places(void **state)
{
    size_t r = 5;
    uint8_t block[210];
    float x[256];
    uint8_t *group = test_alloc(tr_x16_group_bytes(TRUENO_TYPE_Q6_K, 256));
    (void)state;

    fill_random(block, 144, 3);
    memcpy(block, "\0\x3c\0\0", 4);                    /* d = 1, dmin = 0 */
    memcpy(block + 4, "\1\1\1\1\0\0\0\0\1\1\1\1", 12); /* sc = 1, m = 0 */
    tr_dequantize_row(x, block, TRUENO_TYPE_Q4_K, 256);
    tr_x16_pack(group, block, 0, r + 1, TRUENO_TYPE_Q4_K, 256);
    for (size_t e = 0; e < 256; e++) {
        size_t j = e / 32, s = e % 32 / 4;
        uint8_t byte = group[256 + 256 * j + 64 * (s % 4) + 4 * r + e % 4];
        assert_true((s < 4 ? byte & 15 : byte >> 4) == x[e]);
    }
    assert_int_equal(group[2 * r + 1], 0x3c);
    for (size_t i = 0; i < 12; i++)
        assert_int_equal(group[64 + 64 * (i / 4) + 4 * r + i % 4], block[4 + i]);

    fill_random(block, 192, 4);
    memset(block + 192, 1, 16);
    memcpy(block + 208, "\0\x3c", 2);
    tr_dequantize_row(x, block, TRUENO_TYPE_Q6_K, 256);
    tr_x16_pack(group, block, 0, r + 1, TRUENO_TYPE_Q6_K, 256);
    for (size_t e = 0; e < 256; e++) {
        size_t j = e / 32, s = e % 32 / 4, i = s % 4;
        const uint8_t *v = group + 64 + 256 + 384 * j + 4 * r + e % 4;
        int low = s < 4 ? v[64 * i] & 15 : v[64 * i] >> 4;
        int high = v[256 + 64 * (s / 4)] >> 2 * i & 3;
        assert_true((float)((low | high << 4) - 32) == x[e]);
    }
    fill_random(block + 192, 16, 5);
    tr_x16_pack(group, block, 0, r + 1, TRUENO_TYPE_Q6_K, 256);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(group[64 + 64 * (i / 4) + 4 * r + i % 4], block[192 + i]);
    free(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_group_bytes),
        cmocka_unit_test(test_missing_rows_are_zero),
        cmocka_unit_test(test_places),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
