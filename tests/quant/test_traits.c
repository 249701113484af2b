/* SPDX-License-Identifier: MIT */
/* The traits table against the GGUF specification's list of types. */
#include "quant/quant_test.h"

#include <limits.h>

/* number, name, weights per block, bytes per block: GGUF specification and ggml's type list */
static const struct {
    int number;
    const char *name;
    uint32_t block, bytes;
} published[] = {
    {0, "F32", 1, 4},         {1, "F16", 1, 2},         {2, "Q4_0", 32, 18},
    {3, "Q4_1", 32, 20},      {6, "Q5_0", 32, 22},      {7, "Q5_1", 32, 24},
    {8, "Q8_0", 32, 34},      {9, "Q8_1", 32, 36},      {10, "Q2_K", 256, 84},
    {11, "Q3_K", 256, 110},   {12, "Q4_K", 256, 144},   {13, "Q5_K", 256, 176},
    {14, "Q6_K", 256, 210},   {15, "Q8_K", 256, 292},   {16, "IQ2_XXS", 256, 66},
    {17, "IQ2_XS", 256, 74},  {18, "IQ3_XXS", 256, 98}, {19, "IQ1_S", 256, 50},
    {20, "IQ4_NL", 32, 18},   {21, "IQ3_S", 256, 110},  {22, "IQ2_S", 256, 82},
    {23, "IQ4_XS", 256, 136}, {24, "I8", 1, 1},         {25, "I16", 1, 2},
    {26, "I32", 1, 4},        {27, "I64", 1, 8},        {28, "F64", 1, 8},
    {29, "IQ1_M", 256, 56},   {30, "BF16", 1, 2},       {34, "TQ1_0", 256, 54},
    {35, "TQ2_0", 256, 66},   {39, "MXFP4", 32, 17},    {40, "NVFP4", 64, 36},
    {41, "Q1_0", 128, 18},    {42, "Q2_0", 64, 18},
};
enum { N_PUBLISHED = sizeof published / sizeof *published };

static void test_published(void **state)
{
    (void)state;
    for (int i = 0; i < N_PUBLISHED; i++) {
        const trueno_dtype_info *info = trueno_dtype_get_info((trueno_dtype)published[i].number);
        assert_non_null(info);
        assert_string_equal(info->name, published[i].name);
        assert_int_equal(info->block, published[i].block);
        assert_int_equal(info->block_bytes, published[i].bytes);
        int plain = info->name[0] == 'F' || info->name[0] == 'B' ||
                    (info->name[0] == 'I' && info->name[1] != 'Q');
        assert_int_equal(info->is_quantized, !plain);
    }
}

static void test_unknown(void **state)
{
    (void)state;
    static const int removed[] = {4, 5, 31, 32, 33, 36, 37, 38};
    static const int outside[] = {-1, 43, 44, 97, 202, 1000, INT_MAX, INT_MIN};
    for (size_t i = 0; i < sizeof removed / sizeof *removed; i++) {
        assert_null(trueno_dtype_get_info((trueno_dtype)removed[i]));
    }
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        assert_null(trueno_dtype_get_info((trueno_dtype)outside[i]));
        assert_int_equal(trueno_row_bytes((trueno_dtype)outside[i], 256), 0);
    }
    int known = 0;
    for (int i = 0; i < TRUENO_TYPE_COUNT; i++) known += !!trueno_dtype_get_info((trueno_dtype)i);
    assert_int_equal(known, N_PUBLISHED);
}

/* What a type can do is what the functions do. */
static void test_abilities(void **state)
{
    (void)state;
    static const char run[] = " F32 F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K ";
    static const uint8_t zeros[292];
    float x[256] = {0};
    uint8_t block[1024];
    for (int i = 0; i < N_PUBLISHED; i++) {
        trueno_dtype type = (trueno_dtype)published[i].number;
        const trueno_dtype_info *info = trueno_dtype_get_info(type);
        char word[16];
        snprintf(word, sizeof word, " %s ", published[i].name);
        bool runs = strstr(run, word) != NULL;
        bool encodes = runs && type != TRUENO_TYPE_Q2_K && type != TRUENO_TYPE_Q3_K;
        assert_int_equal(info->can_run, runs);
        assert_int_equal(info->can_dequantize, runs);
        assert_int_equal(info->can_quantize, encodes);
        assert_int_equal(trueno_dequantize(x, zeros, type, info->block),
                         runs ? TRUENO_OK : TRUENO_ERR_UNSUPPORTED);
        assert_int_equal(trueno_quantize(block, x, type, info->block),
                         encodes ? TRUENO_OK : TRUENO_ERR_UNSUPPORTED);
    }
}

static void test_names(void **state)
{
    (void)state;
    trueno_dtype type;
    for (int i = 0; i < N_PUBLISHED; i++) {
        char lower[16] = {0};
        for (size_t k = 0; published[i].name[k]; k++) {
            char c = published[i].name[k];
            lower[k] = (char)(c >= 'A' && c <= 'Z' ? c + 32 : c);
        }
        assert_int_equal(trueno_dtype_from_name(&type, published[i].name), TRUENO_OK);
        assert_int_equal(type, published[i].number);
        assert_int_equal(trueno_dtype_from_name(&type, lower), TRUENO_OK);
        assert_int_equal(type, published[i].number);
    }
    static const char *const wrong[] = {"",     "Q4",   "Q4_K_M",      "q4_k ",
                                        "F322", "Q4_2", "\xc4\xb0\x38"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(trueno_dtype_from_name(&type, wrong[i]), TRUENO_ERR_NOT_FOUND);
        assert_int_equal(type, 0);
    }
    assert_int_equal(trueno_dtype_from_name(NULL, "F32"), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_dtype_from_name(&type, NULL), TRUENO_ERR_ARGUMENT);
}

static void test_row_bytes(void **state)
{
    (void)state;
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_Q4_K, 0), 0);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_Q4_K, 2048), 8 * 144);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_Q4_K, 2048 + 32), 0);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_Q5_0, 2048 + 32), 65 * 22);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_Q5_0, 33), 0);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_F32, 7), 28);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_I8, SIZE_MAX), SIZE_MAX);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_F16, SIZE_MAX / 2), SIZE_MAX - 1);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_F16, SIZE_MAX / 2 + 1), 0);
    assert_int_equal(trueno_row_bytes(TRUENO_TYPE_Q8_0, SIZE_MAX - 31), 0);
    assert_int_equal(trueno_row_bytes((trueno_dtype)4, 32), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published), cmocka_unit_test(test_unknown),
        cmocka_unit_test(test_abilities), cmocka_unit_test(test_names),
        cmocka_unit_test(test_row_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
