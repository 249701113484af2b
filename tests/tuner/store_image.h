/* SPDX-License-Identifier: MIT */
/* Stores and their bytes, for the tests of both. Included after cmocka.h. */
#ifndef TEST_STORE_IMAGE_H
#define TEST_STORE_IMAGE_H

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "store_samples.h"
#include "tuner/random.h"

static trueno_ctx *ctx;

static inline struct tr_store *new_store(void)
{
    struct tr_store *s;
    assert_int_equal(tr_store_new(&s, ctx, NULL), TRUENO_OK);
    return s;
}

struct image {
    uint8_t *bytes;
    size_t n;
};

static inline struct image encode(const struct tr_store *s)
{
    struct image im;
    assert_int_equal(tr_store_encode(s, NULL, 0, &im.n, NULL), TRUENO_OK);
    im.bytes = malloc(im.n);
    size_t n;
    assert_int_equal(tr_store_encode(s, im.bytes, im.n, &n, NULL), TRUENO_OK);
    assert_int_equal(n, im.n);
    return im;
}

static inline bool same(const struct tr_store *a, const struct tr_store *b)
{
    struct image x = encode(a), y = encode(b);
    const bool equal = x.n == y.n && memcmp(x.bytes, y.bytes, x.n) == 0;
    free(x.bytes);
    free(y.bytes);
    return equal;
}

static inline trueno_status decode(struct tr_store **out, const struct image *im,
                                   struct tr_store_report *report)
{
    /* a block of just that size, so that sanitizers see a byte too many */
    uint8_t *copy = malloc(im->n ? im->n : 1);
    if (im->n) memcpy(copy, im->bytes, im->n);
    trueno_error err = {TRUENO_OK, ""};
    trueno_status status = tr_store_read(ctx, out, copy, im->n, report, &err);
    assert_int_equal(err.status, status);
    assert_true((status == TRUENO_OK) == (*out != NULL));
    free(copy);
    return status;
}

static inline void expect(const struct image *im, trueno_status status)
{
    struct tr_store *s;
    struct tr_store_report report = {.n_entries = 77};
    assert_int_equal(decode(&s, im, &report), status);
    if (status != TRUENO_OK) assert_int_equal(report.n_entries, 77);
    tr_store_free(s);
}

static inline uint32_t get32(const struct image *im, size_t at)
{
    uint32_t x;
    memcpy(&x, im->bytes + at, 4);
    return x;
}

static inline uint64_t get64(const struct image *im, size_t at)
{
    uint64_t x;
    memcpy(&x, im->bytes + at, 8);
    return x;
}

static inline void set(struct image *im, size_t at, uint64_t x, size_t n)
{
    memcpy(im->bytes + at, &x, n);
}

/* Sets every checksum right, as an enemy would. Leaves alone what is outside. */
static inline void seal(struct image *im)
{
    const uint32_t head = get32(im, 12), n = get32(im, 24);
    for (uint32_t i = 0; i < n && 64 + 32 * (size_t)i <= im->n; i++) {
        const size_t row = 32 + 32 * (size_t)i;
        const uint64_t at = get64(im, row + 8), size = get64(im, row + 16);
        if (size <= im->n && at <= im->n - size)
            set(im, row + 24, crc32(0, im->bytes + at, (uInt)size), 4);
    }
    if (head < 32 || head > im->n) return;
    set(im, 28, 0, 4);
    set(im, 28, crc32(0, im->bytes, head), 4);
}

/* Where the row of a section is, and its payload. */
static inline size_t row_of(const struct image *im, uint32_t id)
{
    for (uint32_t i = 0; i < get32(im, 24); i++)
        if (get32(im, 32 + 32 * (size_t)i) == id) return 32 + 32 * (size_t)i;
    fail();
    return 0;
}

static inline size_t payload_of(const struct image *im, uint32_t id)
{
    return (size_t)get64(im, row_of(im, id) + 8);
}

static inline struct image sample_image(void)
{
    struct tr_store *s = new_store();
    fill_sample(s, 2, 3, 1);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_FOREST, "trees", 5, NULL), TRUENO_OK);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_LEDGER, "0123456789", 10, NULL), TRUENO_OK);
    struct image im = encode(s);
    tr_store_free(s);
    return im;
}

/* A store of few keys and few values, so that versions meet in every way. */
static inline struct tr_store *random_store(struct tr_random *r)
{
    struct tr_store *s = new_store();
    const uint32_t n_machines = 1 + tr_random_below(r, 3);
    for (uint32_t i = 0; i < n_machines; i++) {
        char id[16];
        uint32_t index;
        snprintf(id, sizeof id, "m%u", tr_random_below(r, 3));
        struct tr_store_machine m = sample_machine(id);
        m.generation = 1 + tr_random_below(r, 2);
        m.utc = tr_random_below(r, 2);
        m.quota = tr_random_below(r, 2);
        assert_int_equal(tr_store_put_machine(s, &index, &m, NULL), TRUENO_OK);
    }
    for (uint32_t i = 0; i < 12; i++) {
        const uint32_t machine = tr_random_below(r, (uint32_t)tr_store_n_machines(s));
        struct tr_wisdom w = sample_wisdom(machine, tr_random_below(r, 5));
        w.generation = 1 + tr_random_below(r, 2);
        w.effort = (uint8_t)tr_random_below(r, 2);
        w.blocks = tr_random_below(r, 2);
        w.utc = tr_random_below(r, 2);
        w.state = (uint8_t)tr_random_below(r, 3);
        w.log_ratio = tr_random_below(r, 2) ? -0.5 : 0.25;
        w.variant[0] = (char)('a' + tr_random_below(r, 2));
        w.reference[0] = (char)('a' + tr_random_below(r, 2));
        assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
    }
    for (int id = TR_SECTION_FIRST; id < TR_SECTION_END; id++)
        for (uint32_t k = tr_random_below(r, 3); k > 0; k--)
            assert_int_equal(tr_store_put_section(s, (enum tr_section)id, k % 2 ? "xy" : "ab",
                                                  1 + tr_random_below(r, 2), NULL),
                             TRUENO_OK);
    return s;
}

static inline int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL) == TRUENO_OK ? 0 : -1;
}

static inline int teardown(void **state)
{
    (void)state;
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    return now != 0;
}

#endif
