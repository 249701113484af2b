/* SPDX-License-Identifier: MIT */
/* Malformed alignment and tensor tables: cases 28 to 53 of the list of hostile inputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/harness.h"
#include "trueno/quantize.h"

enum { F32 = 0, Q8_0 = 8, Q4_K = 12, I8 = 24, IQ1_M = 29 };

static const uint64_t no_limit = UINT64_MAX;

/* -------------------------------------------------------------- alignment */

/* One tensor of 4 bytes under this alignment. */
static struct gb with_alignment(uint32_t align, size_t pad)
{
    struct gb b = {0};
    gb_header(&b, 1, 1);
    gb_kv_u32(&b, "general.alignment", align);
    gb_tensor1(&b, "t", 1, F32, 0);
    gb_pad(&b, pad);
    gb_f32(&b, 1);
    return b;
}

static void case_28_alignment_0(void **state)
{
    (void)state;
    struct gb b = with_alignment(0, 32);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'general.alignment' is 0");
}

static void case_29_alignment_13(void **state)
{
    (void)state;
    struct gb b = with_alignment(13, 13);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'general.alignment' is 13, it must be a power of two");
}

static void case_30_alignment_huge(void **state)
{
    (void)state;
    static const uint32_t huge[] = {(uint32_t)1 << 31, 1 << 30, 1 << 21};
    for (size_t i = 0; i < 3; i++) {
        struct gb b = with_alignment(huge[i], 32);
        expect_fail(&b, TRUENO_ERR_UNSUPPORTED, "the limit is 1048576");
    }
    /* the largest that is allowed, in a file without room for it, and in one with */
    struct gb small = with_alignment(1 << 20, 32), large = with_alignment(1 << 20, 1 << 20);
    expect_fail(&small, TRUENO_ERR_TRUNCATED, "data: it would start at 1048576");
    expect_ok(&large);
}

static void case_31_alignment_type(void **state)
{
    (void)state;
    struct gb i32 = {0}, u64 = {0}, string = {0};
    gb_header(&i32, 0, 1);
    gb_key(&i32, "general.alignment", 5);
    gb_u32(&i32, 32);
    expect_fail(&i32, TRUENO_ERR_CORRUPT, "of type i32, it must be u32");
    gb_header(&u64, 0, 1);
    gb_key(&u64, "general.alignment", 10);
    gb_u64(&u64, 32);
    expect_fail(&u64, TRUENO_ERR_CORRUPT, "of type u64, it must be u32");
    gb_header(&string, 0, 1);
    gb_kv_str(&string, "general.alignment", "32");
    expect_fail(&string, TRUENO_ERR_CORRUPT, "of type string, it must be u32");
}

static void case_32_alignment_1_and_8(void **state)
{
    (void)state;
    static const uint32_t good[] = {1, 2, 8, 64};
    for (size_t i = 0; i < 4; i++) {
        struct gb b = with_alignment(good[i], good[i]);
        struct memory m = {0};
        trueno_ctx *ctx = memory_ctx(&m);
        trueno_gguf *g = open_good(ctx, &b);
        trueno_gguf_tensor t;
        assert_true(trueno_gguf_alignment(g) == good[i]);
        assert_int_equal(trueno_gguf_tensor_at(g, 0, &t), TRUENO_OK);
        assert_true(t.file_offset == b.n - 4);
        trueno_gguf_free(g);
        trueno_ctx_free(ctx);
        expect_ok(&b);
    }
}

/* ------------------------------------------------------------------ names */

/* A tensor of one F32 with this name, announced with a length that may be another. */
static struct gb with_name(const void *name, size_t len, uint64_t announced)
{
    struct gb b = {0};
    gb_header(&b, 1, 0);
    gb_u64(&b, announced);
    gb_bytes(&b, name, len);
    gb_u32(&b, 0);
    gb_u32(&b, F32);
    gb_u64(&b, 0);
    gb_pad(&b, 32);
    gb_f32(&b, 1);
    return b;
}

static void case_33_tensor_name(void **state)
{
    (void)state;
    char name[65];
    memset(name, 'n', sizeof name);
    struct gb wraps = with_name("t", 1, UINT64_MAX), empty = with_name("", 0, 0);
    struct gb zero = with_name("a\0b", 3, 3), longest = with_name(name, 64, 64);
    struct gb too_long = with_name(name, 65, 65);
    expect_fail(&wraps, TRUENO_ERR_TRUNCATED, "tensor 0: the name needs 18446744073709551615");
    expect_fail(&empty, TRUENO_ERR_CORRUPT, "the name is empty");
    expect_fail(&zero, TRUENO_ERR_CORRUPT, "a zero byte in the name");
    expect_fail(&too_long, TRUENO_ERR_CORRUPT, "a name of 65 bytes, the limit is 64");
    expect_ok(&longest);
    /* any other byte may be in a name */
    struct gb bytes = with_name("\x01\xff %s\xc3", 6, 6);
    expect_ok(&bytes);
}

static void case_34_duplicate_tensor(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 2, 0);
    gb_tensor1(&b, "same", 1, F32, 0);
    gb_tensor1(&b, "same", 1, F32, 32);
    gb_pad(&b, 32);
    gb_fill(&b, 0, 64);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "tensor 1 'same': another tensor has this name");
}

/* ----------------------------------------------------------------- shapes */

/* One tensor at offset 0 with `bytes` bytes of data behind the table. */
static struct gb with_shape(uint32_t n_dims, const uint64_t *ne, uint32_t type, size_t bytes)
{
    struct gb b = {0};
    gb_header(&b, 1, 0);
    gb_tensor(&b, "t", n_dims, ne, type, 0);
    gb_pad(&b, 32);
    gb_fill(&b, 3, bytes);
    return b;
}

static void case_35_n_dims(void **state)
{
    (void)state;
    const uint64_t ne[5] = {1, 1, 1, 1, 1};
    struct gb five = with_shape(5, ne, F32, 4), none = with_shape(0, ne, F32, 4);
    expect_fail(&five, TRUENO_ERR_CORRUPT, "'t': 5 dimensions, the limit is 4");
    struct gb huge = with_shape(0, ne, F32, 4);
    gb_poke(&huge, 24 + 8 + 1, 0xffffffff, 4);
    expect_fail(&huge, TRUENO_ERR_CORRUPT, "4294967295 dimensions");
    /* none: one element */
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf *g = open_good(ctx, &none);
    trueno_gguf_tensor t;
    assert_int_equal(trueno_gguf_tensor_at(g, 0, &t), TRUENO_OK);
    assert_true(t.n_dims == 0 && t.size_bytes == 4 && t.ne[0] == 1 && t.ne[3] == 1);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    expect_ok(&none);
    /* a quantised one has not room for a single element */
    struct gb block = with_shape(0, ne, Q8_0, 34);
    expect_fail(&block, TRUENO_ERR_CORRUPT, "not a multiple of the block");
}

static void case_36_dim_0(void **state)
{
    (void)state;
    const uint64_t ne[2] = {0, 5};
    struct gb b = with_shape(2, ne, F32, 0);
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf *g = open_good(ctx, &b);
    trueno_gguf_tensor t;
    assert_int_equal(trueno_gguf_tensor_at(g, 0, &t), TRUENO_OK);
    assert_true(t.ne[0] == 0 && t.ne[1] == 5 && t.size_bytes == 0);
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 0, NULL, 0, NULL), TRUENO_OK);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    expect_ok(&b);
    /* the last dimension too, and a zero that would hide a product that wraps */
    const uint64_t last[2] = {32, 0}, hidden[4] = {0, INT64_MAX, INT64_MAX, INT64_MAX};
    b = with_shape(2, last, Q8_0, 0);
    expect_ok(&b);
    b = with_shape(4, hidden, F32, 0);
    expect_ok(&b);
}

/* Fails under the default options and when the cap on elements is as high as it goes. */
static void expect_bad_shape(uint32_t n_dims, const uint64_t *ne, uint32_t type,
                             trueno_status status, const char *word, trueno_status raised_status,
                             const char *raised_word)
{
    trueno_gguf_options raised = TRUENO_GGUF_OPTIONS_INIT;
    raised.max_tensor_elements = no_limit;
    struct gb b = with_shape(n_dims, ne, type, 64);
    expect_open(&b, &raised, raised_status, raised_word);
    expect_case("case_37_shape", &b, status, word);
}

static void case_37_dim_2_63(void **state)
{
    (void)state;
    const uint64_t ne[2] = {(uint64_t)1 << 63, UINT64_MAX};
    expect_bad_shape(1, ne, I8, TRUENO_ERR_CORRUPT, "'t': a dimension of 2^63 or more",
                     TRUENO_ERR_CORRUPT, "2^63");
    expect_bad_shape(1, ne + 1, I8, TRUENO_ERR_CORRUPT, "2^63", TRUENO_ERR_CORRUPT, "2^63");
}

static void case_38_product_wraps(void **state)
{
    (void)state;
    const uint64_t a[2] = {(uint64_t)1 << 32, (uint64_t)1 << 32};
    const uint64_t b[2] = {(uint64_t)1 << 63, 2};
    const uint64_t c[4] = {(uint64_t)1 << 62, 2, 2, 1};
    expect_bad_shape(2, a, F32, TRUENO_ERR_CORRUPT, "the product of the dimensions",
                     TRUENO_ERR_CORRUPT, "the product of the dimensions");
    expect_bad_shape(2, b, F32, TRUENO_ERR_CORRUPT, "2^63", TRUENO_ERR_CORRUPT, "2^63");
    expect_bad_shape(4, c, I8, TRUENO_ERR_CORRUPT, "product", TRUENO_ERR_CORRUPT, "product");
}

static void case_39_bytes_wrap(void **state)
{
    (void)state;
    const uint64_t ne[1] = {(uint64_t)1 << 62};
    expect_bad_shape(1, ne, F32, TRUENO_ERR_CORRUPT, "does not fit 64 bits", TRUENO_ERR_CORRUPT,
                     "does not fit 64 bits");
    /* one that fits 64 bits, but no memory: the cap, with the name of its option */
    const uint64_t large[1] = {((uint64_t)1 << 48) + 1};
    expect_bad_shape(1, large, I8, TRUENO_ERR_TOO_LARGE, "max_tensor_elements",
                     TRUENO_ERR_TRUNCATED, "281474976710657 bytes of data");
}

static void case_40_padding_wraps(void **state)
{
    (void)state;
    /* 5 x 3689348814741910317 = 2^64 - 31: rounded up to 32 it would be 0 */
    const uint64_t ne[2] = {5, 3689348814741910317u};
    expect_bad_shape(2, ne, I8, TRUENO_ERR_TOO_LARGE, "max_tensor_elements", TRUENO_ERR_TRUNCATED,
                     "18446744073709551585 bytes");
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.max_tensor_elements = no_limit;
    opt.metadata_only = true;
    struct gb b = with_shape(2, ne, I8, 64);
    expect_open(&b, &opt, TRUENO_ERR_CORRUPT, "18446744073709551585 bytes");
    gb_free(&b);
}

static void case_41_sum_wraps(void **state)
{
    (void)state;
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.max_tensor_elements = no_limit;
    struct gb b = {0};
    gb_header(&b, 2, 0);
    gb_tensor1(&b, "a", INT64_MAX, I8, 0);
    gb_tensor1(&b, "b", INT64_MAX, I8, (uint64_t)1 << 63);
    gb_pad(&b, 32);
    gb_fill(&b, 0, 64);
    expect_open(&b, &opt, TRUENO_ERR_TRUNCATED, "'a'");
    opt.metadata_only = true;
    expect_open(&b, &opt, TRUENO_ERR_CORRUPT, "tensor 1 'b'");
    expect_fail(&b, TRUENO_ERR_TOO_LARGE, "max_tensor_elements");
}

static void case_42_partial_block(void **state)
{
    (void)state;
    const uint64_t k[2] = {255, 256}, q8[2] = {31, 32};
    struct gb a = with_shape(2, k, Q4_K, 40000), b = with_shape(2, q8, Q8_0, 2000);
    expect_open(&a, NULL, TRUENO_ERR_CORRUPT, "type 12 (Q4_K, blocks of 256), 255 x 256");
    gb_free(&a);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "not a multiple of the block: type 8 (Q8_0, blocks of 32)");
}

static void case_43_types_that_are_none(void **state)
{
    (void)state;
    static const uint32_t removed[] = {4, 5, 31, 32, 33, 36, 37, 38};
    static const uint32_t unknown[] = {43, 44, 96, 100, 1000, 0x7fffffff, 0x80000000, 0xffffffff};
    static const uint32_t private[] = {97, 99, 133, 158, 202, 399};
    const uint64_t ne[1] = {256};
    for (size_t i = 0; i < sizeof removed / 4; i++) {
        struct gb b = with_shape(1, ne, removed[i], 1024);
        expect_fail(&b, TRUENO_ERR_CORRUPT, "'t': a type that was removed from GGUF");
    }
    for (size_t i = 0; i < sizeof unknown / 4; i++) {
        struct gb b = with_shape(1, ne, unknown[i], 1024);
        expect_fail(&b, TRUENO_ERR_CORRUPT, "'t': a type that GGUF does not define");
    }
    for (size_t i = 0; i < sizeof private / 4; i++) {
        struct gb b = with_shape(1, ne, private[i], 1024);
        expect_fail(&b, TRUENO_ERR_UNSUPPORTED, "ik_llama.cpp");
    }
}

/* The file is listed, its size is right, and who wants numbers from it is told "unsupported". */
static void case_44_known_type_not_ours(void **state)
{
    (void)state;
    const uint64_t ne[1] = {512};
    struct gb b = with_shape(1, ne, IQ1_M, 112);
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf *g = open_good(ctx, &b);
    trueno_gguf_tensor t;
    assert_int_equal(trueno_gguf_tensor_at(g, 0, &t), TRUENO_OK);
    assert_true(t.size_bytes == 112);
    const trueno_dtype_info *info = trueno_dtype_get_info(t.type);
    assert_non_null(info);
    assert_false(info->can_run);
    float out[512];
    assert_int_equal(trueno_dequantize(out, trueno_gguf_tensor_data(g, 0), t.type, 512),
                     TRUENO_ERR_UNSUPPORTED);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    expect_ok(&b);
}

/* ---------------------------------------------------------------- offsets */

/* Two F32 tensors with n elements each at these offsets, and `bytes` bytes of data. */
static struct gb with_offsets(uint64_t n, uint64_t first, uint64_t second, size_t bytes)
{
    struct gb b = {0};
    gb_header(&b, 2, 0);
    gb_tensor1(&b, "first", n, F32, first);
    gb_tensor1(&b, "second", n, F32, second);
    gb_pad(&b, 32);
    for (size_t i = 0; i < bytes; i++) gb_u8(&b, (uint8_t)(i + 1));
    return b;
}

static void case_45_offset_misaligned(void **state)
{
    (void)state;
    struct gb b = with_offsets(2, 0, 33, 64);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'second': offset 33 is not a multiple");
    b = with_offsets(2, 8, 32, 64);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'first': offset 8 is not a multiple");
}

static void case_46_offset_past_the_end(void **state)
{
    (void)state;
    struct gb b = with_offsets(2, 0, 96, 64);
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "'second': 8 bytes of data at offset 96 of 64");
    b = with_offsets(2, 0, 64, 64); /* starts exactly at the end */
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "'second'");
}

static void case_47_offset_plus_size_wraps(void **state)
{
    (void)state;
    struct gb b = with_offsets(16, 0, UINT64_MAX - 31, 128);
    trueno_gguf_options meta = TRUENO_GGUF_OPTIONS_INIT;
    meta.metadata_only = true;
    expect_open(&b, &meta, TRUENO_ERR_CORRUPT, "'second'");
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "'second'");
}

static void case_48_one_byte_short(void **state)
{
    (void)state;
    struct gb b = with_offsets(3, 0, 32, 43);
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "'second': 12 bytes of data at offset 32 of 43");
    b = with_offsets(3, 0, 32, 44);
    expect_ok(&b);
}

static void case_49_overlap(void **state)
{
    (void)state;
    struct gb b = with_offsets(9, 0, 32, 96);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'second': its data overlaps that of 'first'");
    b = with_offsets(9, 32, 0, 96);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'first': its data overlaps that of 'second'");
    b = with_offsets(1, 32, 32, 96); /* the same place */
    expect_fail(&b, TRUENO_ERR_CORRUPT, "overlaps");
    gb_header(&b, 2, 0); /* by one byte */
    gb_tensor1(&b, "first", 33, I8, 0);
    gb_tensor1(&b, "second", 1, I8, 32);
    gb_pad(&b, 32);
    gb_fill(&b, 0, 64);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'second': its data overlaps that of 'first'");
    /* one that lies inside of another, but not of its neighbour in the order of offsets */
    gb_header(&b, 3, 0);
    gb_tensor1(&b, "large", 64, F32, 0);
    gb_tensor1(&b, "small", 1, F32, 32);
    gb_tensor1(&b, "later", 1, F32, 128);
    gb_pad(&b, 32);
    gb_fill(&b, 0, 256);
    expect_fail(&b, TRUENO_ERR_CORRUPT, "'small': its data overlaps that of 'large'");
    /* without bytes nothing overlaps */
    gb_header(&b, 3, 0);
    gb_tensor1(&b, "large", 64, F32, 0);
    gb_tensor1(&b, "empty", 0, F32, 32);
    gb_tensor1(&b, "empty too", 0, F32, 0);
    gb_pad(&b, 32);
    gb_fill(&b, 0, 256);
    expect_ok(&b);
}

static void case_50_gaps_and_order(void **state)
{
    (void)state;
    struct gb gap = with_offsets(2, 32, 128, 136), order = with_offsets(2, 128, 0, 136);
    expect_ok(&gap);
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf *g = open_good(ctx, &order);
    const uint8_t *first = trueno_gguf_tensor_data(g, 0), *second = trueno_gguf_tensor_data(g, 1);
    assert_true(first == second + 128);
    assert_int_equal(first[0], 129); /* data[i] = i + 1 */
    assert_int_equal(second[0], 1);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    expect_ok(&order);
    /* many, in falling order: the sort has work to do */
    enum { N = 500 };
    struct gb b = {0};
    gb_header(&b, N, 0);
    for (uint64_t i = 0; i < N; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", (int)i);
        gb_tensor1(&b, name, 8, F32, 32 * ((i * 199) % N)); /* 199 has no factor of 500 */
    }
    gb_pad(&b, 32);
    gb_fill(&b, 0, 32 * N);
    expect_open(&b, NULL, TRUENO_OK, NULL);
    /* nine elements instead of eight in the first reach into its neighbour */
    gb_poke(&b, 24 + 8 + 2 + 4, 9, 8);
    expect_open(&b, NULL, TRUENO_ERR_CORRUPT, "overlaps that of 't0'");
    gb_free(&b);
}

static void case_51_no_data_at_all(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 1, 0);
    gb_tensor1(&b, "t", 1, F32, 0);
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "data: it would start at 64, the file has 57 bytes");
    gb_header(&b, 1, 0);
    gb_tensor1(&b, "t", 0, F32, 0); /* needs no byte, but the start must be there */
    expect_fail(&b, TRUENO_ERR_TRUNCATED, "data: it would start at 64");
}

static void case_52_bytes_after_the_end(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_sample(&b);
    gb_fill(&b, 0xee, 1000);
    expect_ok(&b);
}

static void case_53_no_tensors(void **state)
{
    (void)state;
    struct gb b = {0};
    gb_header(&b, 0, 1);
    gb_kv_str(&b, "general.architecture", "llama");
    expect_ok(&b);
    gb_header(&b, 0, 0);
    expect_ok(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_28_alignment_0),
        cmocka_unit_test(case_29_alignment_13),
        cmocka_unit_test(case_30_alignment_huge),
        cmocka_unit_test(case_31_alignment_type),
        cmocka_unit_test(case_32_alignment_1_and_8),
        cmocka_unit_test(case_33_tensor_name),
        cmocka_unit_test(case_34_duplicate_tensor),
        cmocka_unit_test(case_35_n_dims),
        cmocka_unit_test(case_36_dim_0),
        cmocka_unit_test(case_37_dim_2_63),
        cmocka_unit_test(case_38_product_wraps),
        cmocka_unit_test(case_39_bytes_wrap),
        cmocka_unit_test(case_40_padding_wraps),
        cmocka_unit_test(case_41_sum_wraps),
        cmocka_unit_test(case_42_partial_block),
        cmocka_unit_test(case_43_types_that_are_none),
        cmocka_unit_test(case_44_known_type_not_ours),
        cmocka_unit_test(case_45_offset_misaligned),
        cmocka_unit_test(case_46_offset_past_the_end),
        cmocka_unit_test(case_47_offset_plus_size_wraps),
        cmocka_unit_test(case_48_one_byte_short),
        cmocka_unit_test(case_49_overlap),
        cmocka_unit_test(case_50_gaps_and_order),
        cmocka_unit_test(case_51_no_data_at_all),
        cmocka_unit_test(case_52_bytes_after_the_end),
        cmocka_unit_test(case_53_no_tensors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
