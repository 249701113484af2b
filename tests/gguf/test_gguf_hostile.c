/* SPDX-License-Identifier: MIT */
/* Malformed headers and metadata pairs: cases 1 to 27 of the list of hostile inputs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/harness.h"
#include "gguf/walk.h"

/* ----------------------------------------------------------------- header */

static void case_01_empty_file(void **state)
{
    (void)state;
    struct gb b = {0};
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "magic");
}

static void case_02_one_to_23_bytes(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 0);
    for (size_t n = 1; n < 24; n++) {
        b.n = n;
        expect_open(&b, NULL, TRUENO_ERR_TRUNCATED, "header");
    }
    b.n = 24;
    expect_ok(&b);
}

static void case_03_magic_fugg(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 0);
    memcpy(b.data, "FUGG", 4);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "not a GGUF file");
}

static void case_04_magic_only(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_bytes(&b, "GGUF", 4);
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "version");
}

static void with_version(uint32_t version, trueno_status status, const char *word)
{
    struct gb b = {0};
    gb_header(&b, 0, 0);
    gb_poke(&b, 4, version, 4);
    expect_case("case_05_version", &b, status, word);
}

static void case_05_version_0(void **state)
{
    (void)state;
    with_version(0, TRUENO_ERR_CORRUPT, "version 0");
}

static void case_06_version_1(void **state)
{
    (void)state;
    with_version(1, TRUENO_ERR_UNSUPPORTED, "version 1");
}

static void case_07_version_4(void **state)
{
    (void)state;
    with_version(4, TRUENO_ERR_UNSUPPORTED, "version 4");
    with_version(0xffffffff, TRUENO_ERR_UNSUPPORTED, "version 4294967295");
}

static void case_08_big_endian(void **state)
{
    (void)state;
    with_version(0x03000000, TRUENO_ERR_UNSUPPORTED, "big-endian");
    with_version(0x02000000, TRUENO_ERR_UNSUPPORTED, "big-endian");
}

static void with_counts(uint64_t n_tensors, uint64_t n_kv, const char *word)
{
    struct gb b = {0};
    gb_header(&b, n_tensors, n_kv);
    expect_open(&b, NULL, TRUENO_ERR_TRUNCATED, word);
    gb_fill(&b, 0, 1000);
    expect_case("case_09_counts", &b, TRUENO_ERR_TRUNCATED, word);
}

static void case_09_n_tensors_max(void **state)
{
    (void)state;
    with_counts(UINT64_MAX, 0, "18446744073709551615 tensors");
}

static void case_10_n_kv_max(void **state)
{
    (void)state;
    with_counts(0, UINT64_MAX, "18446744073709551615 pairs");
}

static void case_11_n_tensors_2_32(void **state)
{
    (void)state;
    with_counts((uint64_t)1 << 32, 0, "4294967296 tensors");
}

static void case_12_old_magics(void **state)
{
    (void)state;
    static const char *const magics[] = {"lmgg", "tjgg", "algg", "fmgg", "ggml", "ggjt", "ggla"};
    for (size_t i = 0; i < sizeof magics / sizeof magics[0]; i++) {
        struct gb b = {0};
        gb_bytes(&b, magics[i], 4);
        gb_fill(&b, 1, 40);
        expect_fail(&b, TRUENO_ERR_UNSUPPORTED, "old format");
    }
}

/* ------------------------------------------------------------------ pairs */

static void case_13_key_length_max(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_u64(&b, UINT64_MAX);
    gb_fill(&b, 'k', 32);
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "pair 0: the name needs 18446744073709551615 bytes");
}

static void case_14_key_length_one_too_many(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_u64(&b, 33);
    gb_fill(&b, 'k', 32);
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "pair 0: the name needs 33 bytes");
}

static void case_15_empty_key(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_kv_u32(&b, "", 1);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "pair 0: the name is empty");
}

/* A file with one pair whose key has these bytes. */
static struct gb with_key(const void *key, size_t len)
{
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_strn(&b, key, len);
    gb_u32(&b, 4);
    gb_u32(&b, 7);
    return b;
}

static void case_16_key_bytes(void **state)
{
    (void)state;
    static const char bad[][4] = {"a\0b",
                                  "a\nb",
                                  "a\x1b"
                                  "b",
                                  "a\x7f"
                                  "b",
                                  "a\x80"
                                  "b",
                                  "\xc3\xa4"
                                  "b"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct gb b = with_key(bad[i], 3);
        expect_fail(&b, TRUENO_ERR_CORRUPT, "not printable ASCII");
    }
    struct gb good = with_key("General.My-Key_2", 16);
    expect_ok(&good);
    char *longest = malloc(65536);
    assert_non_null(longest);
    memset(longest, 'k', 65536);
    struct gb fits = with_key(longest, 65535), too_long = with_key(longest, 65536);
    expect_ok(&fits);
    expect_fail(&too_long, TRUENO_ERR_CORRUPT, "65536 bytes, the limit is 65535");
    free(longest);
}

static void case_17_value_type(void **state)
{
    (void)state;
    static const uint32_t types[] = {13, 99, 0xffffffff};
    for (size_t i = 0; i < 3; i++) {
        struct gb b = {0};
        gb_header(&b, 0, 1);
        gb_key(&b, "some.key", types[i]);
        gb_fill(&b, 0, 16);
        expect_fail(&b, TRUENO_ERR_CORRUPT, "pair 0 'some.key': a value of type");
    }
}

static void case_18_nested_arrays(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_key(&b, "deep", 9);
    for (int i = 0; i < 1000; i++) {
        gb_u32(&b, 9);
        gb_u64(&b, 1);
    }
    gb_u32(&b, 4);
    gb_u64(&b, 0);
    expect_fail(&b, TRUENO_ERR_UNSUPPORTED, "array of arrays");
    struct gb one = {0};
    gb_header(&one, 0, 1);
    gb_array(&one, "nested", 9, 1);
    gb_u32(&one, 4);
    gb_u64(&one, 0);
    expect_fail(&one, TRUENO_ERR_UNSUPPORTED, "'nested'");
}

static void with_count(uint32_t elem, uint64_t count)
{
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_array(&b, "list", elem, count);
    gb_fill(&b, 0, 64);
    expect_case("case_19_array_count", &b, TRUENO_ERR_TRUNCATED, "'list': an array of");
}

static void case_19_array_count(void **state)
{
    (void)state;
    static const uint64_t counts[] = {(uint64_t)1 << 63, (uint64_t)1 << 61, UINT64_MAX, 65};
    for (uint32_t elem = 0; elem <= 12; elem++)
        for (size_t i = 0; elem != 9 && i < 4; i++) with_count(elem, counts[i]);
    /* cap + 1, with all its bytes there */
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_array(&b, "list", 0, ((uint64_t)1 << 24) + 1);
    gb_fill(&b, 0, ((size_t)1 << 24) + 1);
    expect_open(&b, NULL, TRUENO_ERR_TOO_LARGE, "max_array_elements");
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.max_array_elements = ((uint64_t)1 << 24) + 1;
    trueno_gguf *g = NULL;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &g, b.data, b.n, &opt, NULL), TRUENO_OK);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

static void case_20_element_type(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_array(&b, "list", 13, 1);
    gb_fill(&b, 0, 16);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'list': elements of type 13");
}

static void case_21_string_length(void **state)
{
    (void)state;
    static const uint64_t lens[] = {UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63, 17};
    for (size_t i = 0; i < 4; i++) {
        struct gb b = {0};
        gb_header(&b, 0, 1);
        gb_key(&b, "text", 8);
        gb_u64(&b, lens[i]);
        gb_fill(&b, 'x', 16);
        expect_fail(&b, TRUENO_ERR_TRUNCATED, "pair 0 'text': a string needs");
    }
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_kv_str(&b, "text", "0123456789");
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.max_string_bytes = 9;
    expect_open(&b, &opt, TRUENO_ERR_TOO_LARGE, "max_string_bytes");
    opt.max_string_bytes = 10;
    expect_open(&b, &opt, TRUENO_OK, NULL);
    gb_free(&b);
}

static void case_22_string_in_array_too_long(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_array(&b, "tokens", 8, 4);
    gb_str(&b, "one");
    gb_str(&b, "two");
    gb_u64(&b, 30);
    gb_str(&b, "four");
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "'tokens': a string needs 30 bytes");
    /* the first k fit exactly, so the length of the next is missing */
    gb_header(&b, 0, 1);
    gb_array(&b, "tokens", 8, 2);
    gb_strn(&b, "0123456789", 10);
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "'tokens': the length of a string needs 8 bytes");
}

static void case_23_bool_2(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_key(&b, "flag", 7);
    gb_u8(&b, 2);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'flag': a bool of value 2");
    gb_header(&b, 0, 1);
    gb_array(&b, "flags", 7, 3);
    gb_bytes(&b, "\0\1\377", 3);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'flags': a bool of value 255");
}

static void case_24_duplicate_key(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 3);
    gb_kv_str(&b, "general.architecture", "llama");
    gb_kv_u32(&b, "other", 1);
    gb_kv_str(&b, "general.architecture", "qwen2");
    expect_fail(&b, TRUENO_ERR_CORRUPT, "pair 2 'general.architecture': the key is there twice");
}

static void case_25_cut_at_every_byte(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_sample(&b);
    size_t n = b.n;
    trueno_gguf_options meta = TRUENO_GGUF_OPTIONS_INIT;
    meta.metadata_only = true;
    const size_t data_bytes = 96 + 20; /* as in gb_sample */
    expect_open(&b, NULL, TRUENO_OK, NULL);
    for (b.n = 0; b.n < n; b.n++) expect_open(&b, NULL, TRUENO_ERR_TRUNCATED, NULL);
    /* metadata alone is complete once the table ends, somewhere in the last 32 bytes before data */
    for (b.n = 0; b.n + 31 < n - data_bytes; b.n++)
        expect_open(&b, &meta, TRUENO_ERR_TRUNCATED, NULL);
    for (b.n = n - data_bytes; b.n <= n; b.n++) expect_open(&b, &meta, TRUENO_OK, NULL);
    b.n = n;
    expect_ok(&b);
}

/* A file of n pairs of 17 bytes; the keys count in base 64. */
static struct gb many_pairs(uint64_t n)
{
    struct gb b = {0};
    gb_header(&b, 0, n);
    for (uint64_t i = 0; i < n; i++) {
        const char key[4] = {(char)('0' + i % 64), (char)('0' + i / 64 % 64),
                             (char)('0' + i / 4096 % 64), (char)('0' + i / 262144)};
        gb_strn(&b, key, 4);
        gb_u32(&b, 0);
        gb_u8(&b, (uint8_t)i);
    }
    return b;
}

/* Work is counted, not timed: calls of the allocator grow with the logarithm of the file, bytes
 * read stay below twice its size, and test_gguf_names bounds the steps of the lookup. */
static void case_26_a_million_pairs(void **state)
{
    (void)state;
    struct gb b = many_pairs(1000000);
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    expect_open(&b, NULL, TRUENO_ERR_TOO_LARGE, "option max_keys");
    opt.max_keys = 1000000;
    struct memory m = {0};
    struct bytes src = {.data = b.data, .n = b.n};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf *g = NULL;
    uint64_t peak;
    assert_int_equal(trueno_gguf_open_reader(ctx, &g, bytes_read, &src, b.n, &opt, NULL),
                     TRUENO_OK);
    trueno_ctx_memory(ctx, NULL, &peak);
    assert_true(peak <= memory_bound(b.n));
    assert_true(m.calls < 100);
    assert_true(src.calls < 20);
    assert_true(src.total == b.n);
    assert_true(trueno_gguf_n_kv(g) == 1000000);
    assert_true(trueno_gguf_find(g, "0009") == -1);
    assert_true(trueno_gguf_find(g, "1000") == 1);
    assert_true(trueno_gguf_find(g, "0001") == 262144);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

/* The reader hands on what is in the file; whoever wants a finite number asks for one. */
static void case_27_floats_that_are_no_numbers(void **state)
{
    (void)state;
    static const char *const keys[] = {"llama.attention.layer_norm_rms_epsilon",
                                       "llama.rope.freq_base", "llama.rope.scaling.factor",
                                       "gemma2.final_logit_softcapping", "llama.attention.scale"};
    static const uint32_t bits[] = {0x7fc00000, 0x7f800000, 0xff800000, 0x00000001, 0x80000000};
    struct gb b = {0};
    gb_header(&b, 0, 5);
    for (size_t i = 0; i < 5; i++) {
        gb_key(&b, keys[i], 6);
        gb_u32(&b, bits[i]);
    }
    expect_open(&b, NULL, TRUENO_OK, NULL);
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf *g = open_good(ctx, &b);
    double x[5];
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(trueno_gguf_get_f64(g, keys[i], &x[i], NULL), TRUENO_OK);
    assert_true(isnan(x[0]) && isinf(x[1]) && x[1] > 0 && isinf(x[2]) && x[2] < 0);
    assert_true(x[3] == 0x1p-149 && x[4] == 0 && signbit(x[4]));
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    expect_ok(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_01_empty_file),
        cmocka_unit_test(case_02_one_to_23_bytes),
        cmocka_unit_test(case_03_magic_fugg),
        cmocka_unit_test(case_04_magic_only),
        cmocka_unit_test(case_05_version_0),
        cmocka_unit_test(case_06_version_1),
        cmocka_unit_test(case_07_version_4),
        cmocka_unit_test(case_08_big_endian),
        cmocka_unit_test(case_09_n_tensors_max),
        cmocka_unit_test(case_10_n_kv_max),
        cmocka_unit_test(case_11_n_tensors_2_32),
        cmocka_unit_test(case_12_old_magics),
        cmocka_unit_test(case_13_key_length_max),
        cmocka_unit_test(case_14_key_length_one_too_many),
        cmocka_unit_test(case_15_empty_key),
        cmocka_unit_test(case_16_key_bytes),
        cmocka_unit_test(case_17_value_type),
        cmocka_unit_test(case_18_nested_arrays),
        cmocka_unit_test(case_19_array_count),
        cmocka_unit_test(case_20_element_type),
        cmocka_unit_test(case_21_string_length),
        cmocka_unit_test(case_22_string_in_array_too_long),
        cmocka_unit_test(case_23_bool_2),
        cmocka_unit_test(case_24_duplicate_key),
        cmocka_unit_test(case_25_cut_at_every_byte),
        cmocka_unit_test(case_26_a_million_pairs),
        cmocka_unit_test(case_27_floats_that_are_no_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
