/* SPDX-License-Identifier: MIT */
/* The binary form of a store, taken apart and put together by the offsets of its description: its
 * layout, and what becomes of each kind of wrong file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <math.h>

#include "base/hooks.h"
#include "store_image.h"

/* The bytes are those of the description. */
static void test_layout(void **state)
{
    (void)state;
    struct image im = sample_image();
    assert_memory_equal(im.bytes, "TRUENOTW\1\0\0\0", 12);
    assert_int_equal(get32(&im, 12), 32 + 6 * 32);
    assert_int_equal(get64(&im, 16), im.n);
    assert_int_equal(get32(&im, 24), 6);
    struct image again = {malloc(im.n), im.n};
    memcpy(again.bytes, im.bytes, im.n);
    seal(&again);
    assert_memory_equal(again.bytes, im.bytes, im.n); /* the checksums are crc32's */
    for (uint32_t id = 1; id <= 4; id++) assert_int_equal(get32(&im, row_of(&im, id) + 4), 1);
    assert_int_equal(get32(&im, row_of(&im, 8) + 4), 0);
    assert_int_equal(get64(&im, row_of(&im, 2) + 16), 2 * 856);
    assert_int_equal(get64(&im, row_of(&im, 4) + 16), 6 * 104);
    assert_memory_equal(im.bytes + payload_of(&im, 8) + 8, "trees", 5);
    const size_t w = payload_of(&im, 4), names = payload_of(&im, 3);
    const struct tr_wisdom s = sample_wisdom(0, 0);
    assert_int_equal(get32(&im, w), 0);
    assert_int_equal(im.bytes[names], strlen(s.variant));
    assert_memory_equal(im.bytes + names + 1, s.variant, strlen(s.variant));
    assert_int_equal(get32(&im, w + 12), s.type);
    assert_int_equal(get32(&im, w + 44), s.threads);
    assert_memory_equal(im.bytes + w + 64, &s.half_width, 8);
    assert_int_equal(get32(&im, w + 92), 1);
    assert_string_equal((const char *)im.bytes + payload_of(&im, 2), "machine 0");
    free(im.bytes);
    free(again.bytes);
}

static void test_truncated(void **state)
{
    (void)state;
    struct image im = sample_image();
    for (size_t n = 0; n < im.n; n++) {
        const struct image cut = {im.bytes, n};
        expect(&cut, TRUENO_ERR_TRUNCATED);
    }
    expect(&im, TRUENO_OK);
    set(&im, 16, UINT64_C(4) << 30, 8); /* 4 GiB that are not there */
    seal(&im);
    expect(&im, TRUENO_ERR_TRUNCATED);
    free(im.bytes);
}

static void test_wrong_format_and_version(void **state)
{
    (void)state;
    struct image im = sample_image();
    im.bytes[7] = 'X';
    seal(&im);
    expect(&im, TRUENO_ERR_FORMAT);
    im.bytes[7] = 'W';
    set(&im, 8, 2, 2);
    expect(&im, TRUENO_ERR_VERSION); /* its header may be another one: no checksum is looked at */
    set(&im, 8, 0, 2);
    expect(&im, TRUENO_ERR_CORRUPT);
    set(&im, 8, 1, 2);
    set(&im, 10, 9, 2); /* a newer minor version is read */
    seal(&im);
    expect(&im, TRUENO_OK);
    set(&im, row_of(&im, 9), 77, 4); /* unknown: passed over, unless it is required */
    seal(&im);
    struct tr_store *s;
    struct tr_store_report report = {0};
    assert_int_equal(decode(&s, &im, &report), TRUENO_OK);
    assert_int_equal(report.unknown_sections, 1);
    tr_store_free(s);
    set(&im, row_of(&im, 77) + 4, 1, 4);
    seal(&im);
    expect(&im, TRUENO_ERR_VERSION);
    free(im.bytes);
}

static void test_corrupt(void **state)
{
    (void)state;
    struct image good = sample_image();
    uint8_t *keep = malloc(good.n);
    memcpy(keep, good.bytes, good.n);
#define CASE(status, ...)                                                                          \
    do {                                                                                           \
        memcpy(good.bytes, keep, good.n);                                                          \
        __VA_ARGS__;                                                                               \
        expect(&good, status);                                                                     \
    } while (0)
    /* every byte of the header and its table counts, and every one of the required sections */
    for (size_t i = 12; i < 32 + 6 * 32; i++) {
        memcpy(good.bytes, keep, good.n);
        good.bytes[i] ^= 0x10;
        struct tr_store *s;
        trueno_status status = decode(&s, &good, NULL);
        assert_true(status == TRUENO_ERR_CORRUPT || (i < 16 && status == TRUENO_ERR_TRUNCATED));
    }
    for (uint32_t id = 1; id <= 4; id++)
        CASE(TRUENO_ERR_CORRUPT, good.bytes[payload_of(&good, id)] ^= 1);
    /* with checksums that are right */
    CASE(TRUENO_ERR_CORRUPT, set(&good, 16, good.n - 1, 8), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, 12, 64, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, 12, 31, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, 8) + 8, good.n - 12, 8), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, 8) + 8, 100, 8), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, 8) + 8, good.n, 8), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, 8) + 8, UINT64_MAX - 4, 8), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, 8) + 16, UINT64_MAX, 8), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, 8) + 8, payload_of(&good, 4), 8),
         seal(&good));                                                         /* overlap */
    CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, 9), 8, 4), seal(&good)); /* twice */
    for (uint32_t id = 1; id <= 4; id++)                                       /* missing */
        CASE(TRUENO_ERR_CORRUPT, set(&good, row_of(&good, id), 77, 4),
             set(&good, row_of(&good, 77) + 4, 0, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 1), 3, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 1) + 4, 855, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 1) + 4, UINT32_MAX, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 1) + 8, 5, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 1) + 12, 0, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 1) + 16, 1000, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 1) + 16, 1, 4), seal(&good));
    CASE(TRUENO_ERR_CORRUPT, set(&good, payload_of(&good, 3), 63, 1), seal(&good));
    /* limits */
    CASE(TRUENO_ERR_TOO_LARGE, set(&good, 24, 33, 4), seal(&good));
    CASE(TRUENO_ERR_TOO_LARGE, set(&good, payload_of(&good, 1), 257, 4), seal(&good));
    CASE(TRUENO_ERR_TOO_LARGE, set(&good, payload_of(&good, 1) + 8, 65537, 4), seal(&good));
    CASE(TRUENO_ERR_TOO_LARGE, set(&good, payload_of(&good, 1) + 16, UINT32_MAX, 4), seal(&good));
    CASE(TRUENO_ERR_TOO_LARGE, set(&good, payload_of(&good, 3), 64, 1), seal(&good));
    CASE(TRUENO_OK, seal(&good));
    free(keep);
    free(good.bytes);
}

/* Too many bytes are refused before anything of them is read. */
static void test_too_many_bytes(void **state)
{
    (void)state;
    struct image im = sample_image();
    im.bytes = realloc(im.bytes, TR_STORE_MAX_BYTES + 1);
    memset(im.bytes + im.n, 0, TR_STORE_MAX_BYTES + 1 - im.n);
    im.n = TR_STORE_MAX_BYTES + 1;
    expect(&im, TRUENO_ERR_TOO_LARGE);
    set(&im, 8, 2, 2);
    expect(&im, TRUENO_ERR_VERSION); /* a newer one may be larger */
    free(im.bytes);
}

static void test_dropped_and_counted(void **state)
{
    (void)state;
    static const double nan = (double)NAN;
    uint64_t nan_bits, inf_bits = UINT64_C(0x7ff0000000000000);
    memcpy(&nan_bits, &nan, 8);
    struct image im = sample_image();
    const size_t w = payload_of(&im, 4), m = payload_of(&im, 2);
    struct tr_store *s;
    struct tr_store_report report = {0};
    set(&im, row_of(&im, 8) + 24, 12345, 4); /* the forest's checksum alone */
    set(&im, w + 56, nan_bits, 8);
    set(&im, w + 104 + 64, inf_bits, 8);
    set(&im, w + 2 * 104 + 97, 9, 1);
    set(&im, w + 3 * 104 + 4, 99, 4); /* a name that is not there */
    set(&im, row_of(&im, 4) + 24, crc32(0, im.bytes + w, 6 * 104), 4);
    set(&im, 28, 0, 4);
    set(&im, 28, crc32(0, im.bytes, get32(&im, 12)), 4);
    assert_int_equal(decode(&s, &im, &report), TRUENO_OK);
    assert_int_equal(report.bad_entries, 4);
    assert_int_equal(report.bad_sections, 1);
    assert_int_equal(report.n_entries, 6);
    assert_int_equal(tr_store_n_entries(s), 2);
    const void *bytes;
    size_t n;
    assert_false(tr_store_section(s, &bytes, &n, TR_SECTION_FOREST));
    assert_true(tr_store_section(s, &bytes, &n, TR_SECTION_LEDGER));
    tr_store_free(s);

    /* a NUL does not make another name of one */
    struct image cut = sample_image();
    memset(&report, 0, sizeof report);
    set(&cut, payload_of(&cut, 3) + 5, 0, 1);
    seal(&cut);
    assert_int_equal(decode(&s, &cut, &report), TRUENO_OK);
    assert_int_equal(report.bad_entries, 6);
    tr_store_free(s);
    free(cut.bytes);

    /* a bad machine takes its entries along; one entry twice counts once */
    memset(&report, 0, sizeof report);
    set(&im, m + 320, nan_bits, 8);
    memcpy(im.bytes + w + 4 * 104, im.bytes + w + 5 * 104, 104);
    seal(&im);
    assert_int_equal(decode(&s, &im, &report), TRUENO_OK);
    assert_int_equal(report.bad_machines, 1);
    assert_int_equal(tr_store_n_machines(s), 1);
    assert_int_equal(tr_store_n_entries(s), 1);
    assert_int_equal(report.bad_entries, 4);
    assert_int_equal(report.duplicates, 1);
    tr_store_free(s);
    free(im.bytes);
}

/* Records and META that a newer minor version made longer. */
static void test_longer_records(void **state)
{
    (void)state;
    struct image im = sample_image(), longer = {calloc(1, 8192), 0};
    const struct {
        uint32_t id;
        size_t n, record, to;
    } parts[] = {{1, 1, 24, 40}, {2, 2, 856, 900}, {3, 1, 0, 0}, {4, 6, 104, 120}};
    size_t at = 32 + 4 * 32;
    memcpy(longer.bytes, im.bytes, at);
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *from = im.bytes + payload_of(&im, parts[i].id);
        const size_t row = 32 + 32 * i;
        size_t size = (size_t)get64(&im, row_of(&im, parts[i].id) + 16);
        if (parts[i].record == 0) memcpy(longer.bytes + at, from, size);
        for (size_t k = 0; parts[i].record && k < parts[i].n; k++)
            memcpy(longer.bytes + at + k * parts[i].to, from + k * parts[i].record,
                   parts[i].record);
        if (parts[i].record) size = parts[i].n * parts[i].to;
        set(&longer, row, parts[i].id, 4);
        set(&longer, row + 4, 1, 4);
        set(&longer, row + 8, at, 8);
        set(&longer, row + 16, size, 8);
        at += size;
    }
    longer.n = at;
    set(&longer, 12, 32 + 4 * 32, 4);
    set(&longer, 16, at, 8);
    set(&longer, 24, 4, 4);
    set(&longer, payload_of(&longer, 1) + 4, 900, 4);
    set(&longer, payload_of(&longer, 1) + 12, 120, 4);
    seal(&longer);
    struct tr_store *s, *t = new_store();
    assert_int_equal(decode(&s, &longer, NULL), TRUENO_OK);
    fill_sample(t, 2, 3, 1);
    assert_true(same(s, t));
    tr_store_free(s);
    tr_store_free(t);
    free(longer.bytes);
    free(im.bytes);
}

/* Nothing is allocated for a file that is refused by its header. */
static void test_refusals_need_no_memory(void **state)
{
    (void)state;
    struct hooks h = {0};
    trueno_ctx_options opt = hook_options(&h);
    trueno_ctx *c;
    struct tr_store *s;
    assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
    const size_t calls = atomic_load(&h.calls);
    struct image im = sample_image();
    set(&im, payload_of(&im, 1) + 8, 65536, 4); /* within the limit, but not in the file */
    set(&im, payload_of(&im, 1) + 16, 131072, 4);
    seal(&im);
    assert_int_equal(tr_store_decode(c, &s, im.bytes, im.n, NULL, NULL), TRUENO_ERR_CORRUPT);
    set(&im, 16, UINT64_C(4) << 30, 8);
    seal(&im);
    assert_int_equal(tr_store_decode(c, &s, im.bytes, im.n, NULL, NULL), TRUENO_ERR_TRUNCATED);
    assert_int_equal(atomic_load(&h.calls), calls);
    trueno_ctx_free(c);
    free(im.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_wrong_format_and_version),
        cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_too_many_bytes),
        cmocka_unit_test(test_dropped_and_counted),
        cmocka_unit_test(test_longer_records),
        cmocka_unit_test(test_refusals_need_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
