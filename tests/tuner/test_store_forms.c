/* SPDX-License-Identifier: MIT */
/* A store in both of its forms: round trips, mutations, the largest one, no memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/hooks.h"
#include "store_image.h"

static void test_round_trips(void **state)
{
    (void)state;
    struct tr_random r;
    tr_random_seed(&r, 2, 0);
    for (int round = 0; round < 100; round++) {
        struct tr_store *s = round ? random_store(&r) : new_store(), *t;
        struct tr_store_report report = {0};
        struct image im = encode(s);
        assert_int_equal(decode(&t, &im, &report), TRUENO_OK);
        assert_true(same(s, t));
        assert_int_equal(report.n_entries, tr_store_n_entries(s));
        assert_int_equal(report.bad_entries + report.bad_sections + report.duplicates, 0);
        uint64_t before, after;
        assert_int_equal(tr_store_digest(s, &before, NULL), TRUENO_OK);
        assert_int_equal(tr_store_digest(t, &after, NULL), TRUENO_OK);
        assert_true(before == after && before != 0);
        tr_store_free(t);

        size_t n, m;
        assert_int_equal(tr_store_to_json(s, NULL, 0, &n, NULL), TRUENO_OK);
        char *text = malloc(n);
        assert_int_equal(tr_store_to_json(s, text, n, &m, NULL), TRUENO_OK);
        assert_int_equal(n, m);
        struct image json = {(uint8_t *)text, n};
        assert_int_equal(decode(&t, &json, NULL), TRUENO_OK);
        assert_true(same(s, t));
        if (tr_store_n_entries(s) > 0) {
            const struct tr_wisdom *w = tr_store_at(s, 0);
            const bool known = tr_store_find(t, w->machine, w->context) != NULL;
            assert_int_equal(tr_store_forget(t, w->machine, w->context, NULL),
                             known ? TRUENO_OK : TRUENO_ERR_NOT_FOUND);
        }
        tr_store_free(t);
        tr_store_free(s);
        free(text);
        free(im.bytes);
    }
    /* another content, another digest */
    struct tr_store *s = new_store();
    uint64_t empty, full;
    assert_int_equal(tr_store_digest(s, &empty, NULL), TRUENO_OK);
    fill_sample(s, 1, 1, 1);
    assert_int_equal(tr_store_digest(s, &full, NULL), TRUENO_OK);
    assert_true(empty != full);
    tr_store_free(s);
}

/* A buffer that is too small is not written to. */
static void test_small_buffers(void **state)
{
    (void)state;
    struct tr_store *s = new_store();
    fill_sample(s, 1, 1, 1);
    char buf[40];
    size_t n;
    memset(buf, 'x', sizeof buf);
    assert_int_equal(tr_store_encode(s, buf, sizeof buf, &n, NULL), TRUENO_OK);
    assert_true(n > sizeof buf);
    assert_int_equal(tr_store_to_json(s, buf, sizeof buf, &n, NULL), TRUENO_OK);
    assert_true(n > sizeof buf);
    for (size_t i = 0; i < sizeof buf; i++) assert_int_equal(buf[i], 'x');
    tr_store_free(s);
}

/* A store as large as it may be goes out and comes in, in both forms. */
static void test_full_store(void **state)
{
    (void)state;
    struct tr_store *s = new_store(), *t;
    const uint32_t n = TEST_ASAN ? 1000 : TR_STORE_MAX_ENTRIES;
    fill_sample(s, 1, n, 1);
    for (uint32_t i = 1; i < TR_STORE_MAX_MACHINES; i++) {
        char id[24];
        uint32_t index;
        snprintf(id, sizeof id, "machine %u", i);
        const struct tr_store_machine m = sample_machine(id);
        assert_int_equal(tr_store_put_machine(s, &index, &m, NULL), TRUENO_OK);
    }
    struct image im = encode(s),
                 json = {malloc(512 * (size_t)n + 200000), 512 * (size_t)n + 200000};
    assert_int_equal(decode(&t, &im, NULL), TRUENO_OK);
    assert_true(same(s, t));
    tr_store_free(t);
    size_t len;
    assert_int_equal(tr_store_to_json(s, (char *)json.bytes, json.n, &len, NULL), TRUENO_OK);
    assert_true(len <= json.n);
    json.n = len;
    assert_int_equal(decode(&t, &json, NULL), TRUENO_OK);
    assert_true(same(s, t));
    tr_store_free(t);
    free(json.bytes);
    free(im.bytes);
    tr_store_free(s);
}

/* What came out of a mutated file obeys the rules: it goes out and comes in again unchanged. */
static void expect_sound(const struct tr_store *s)
{
    struct image im = encode(s);
    struct tr_store_report report = {0};
    struct tr_store *t;
    assert_int_equal(decode(&t, &im, &report), TRUENO_OK);
    assert_int_equal(report.bad_entries + report.bad_machines + report.bad_sections, 0);
    assert_true(same(s, t));
    tr_store_free(t);
    free(im.bytes);
}

static void mutate(struct image *im, struct tr_random *r)
{
    for (uint32_t k = 1 + tr_random_below(r, 4); k > 0; k--) {
        const size_t at = tr_random_below(r, (uint32_t)im->n);
        const uint32_t kind = tr_random_below(r, 4);
        if (kind == 0) im->bytes[at] ^= (uint8_t)(1u << tr_random_below(r, 8));
        if (kind == 1) im->bytes[at] = tr_random_below(r, 2) ? 0xff : 0;
        if (kind == 2) im->bytes[at] = (uint8_t)tr_random_below(r, 256);
        if (kind == 3 && at + 8 <= im->n)
            set(im, at, tr_random_below(r, 2) ? UINT64_MAX : tr_random_below(r, 512), 8);
    }
}

static void test_mutations(void **state)
{
    (void)state;
    struct tr_random r;
    tr_random_seed(&r, 3, 0);
    struct tr_store *s = new_store();
    fill_sample(s, 1, 2, 1);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_FOREST, "trees", 5, NULL), TRUENO_OK);
    struct image im = encode(s);
    size_t n_json;
    char text[4000];
    assert_int_equal(tr_store_to_json(s, text, sizeof text, &n_json, NULL), TRUENO_OK);
    tr_store_free(s);
    uint8_t *bytes = malloc(sizeof text);
    uint32_t accepted = 0;
    const int rounds = TEST_ASAN ? 20000 : 100000;
    for (int i = 0; i < rounds; i++) {
        const bool json = i % 8 == 0;
        struct image m = {bytes, json ? n_json : im.n};
        memcpy(bytes, json ? (const uint8_t *)text : im.bytes, m.n);
        mutate(&m, &r);
        if (!json && i % 4) seal(&m); /* a checksum is no defence */
        if (i % 16 == 1) m.n = tr_random_below(&r, (uint32_t)m.n);
        struct tr_store *t;
        if (tr_store_read(ctx, &t, m.bytes, m.n, NULL, NULL) != TRUENO_OK) continue;
        if (accepted++ % 16 == 0) expect_sound(t);
        tr_store_free(t);
    }
    assert_true(accepted > (uint32_t)rounds / 10 && accepted < (uint32_t)rounds);
    free(bytes);
    free(im.bytes);
}

/* Every call at which memory can run out; a failed call leaves the store as it was. */
static trueno_status use_all(trueno_ctx *c, const struct image *im, const struct image *json)
{
    struct tr_store *s = NULL, *t = NULL;
    uint64_t digest;
    size_t n;
    uint32_t index;
    trueno_status st = tr_store_decode(c, &s, im->bytes, im->n, NULL, NULL);
    if (st == TRUENO_OK)
        st = tr_store_from_json(c, &t, (const char *)json->bytes, json->n, NULL, NULL);
    if (st == TRUENO_OK) {
        const struct tr_store_machine m = sample_machine("another");
        st = tr_store_put_machine(t, &index, &m, NULL);
        assert_int_equal(tr_store_n_machines(t), 2 + (st == TRUENO_OK));
    }
    for (uint32_t i = 10; st == TRUENO_OK && i < 40; i++) {
        const size_t before = tr_store_n_entries(t);
        const struct tr_wisdom w = sample_wisdom(index, i);
        st = tr_store_put(t, &w, NULL);
        assert_int_equal(tr_store_n_entries(t), before + (st == TRUENO_OK));
        assert_true((tr_store_find(t, index, w.context) != NULL) == (st == TRUENO_OK));
    }
    if (st == TRUENO_OK) st = tr_store_put_section(t, TR_SECTION_ROOF, "rafters", 7, NULL);
    if (st == TRUENO_OK) {
        st = tr_store_merge(s, t, NULL, NULL);
        assert_int_equal(tr_store_n_entries(s), st == TRUENO_OK ? 36 : 6);
        assert_int_equal(tr_store_n_machines(s), st == TRUENO_OK ? 3 : 2);
    }
    if (st == TRUENO_OK) st = tr_store_digest(s, &digest, NULL);
    if (st == TRUENO_OK) st = tr_store_to_json(s, NULL, 0, &n, NULL);
    tr_store_free(s);
    tr_store_free(t);
    return st;
}

static void test_no_memory(void **state)
{
    (void)state;
    struct image im = sample_image(), json;
    struct tr_store *s;
    assert_int_equal(decode(&s, &im, NULL), TRUENO_OK);
    assert_int_equal(tr_store_to_json(s, NULL, 0, &json.n, NULL), TRUENO_OK);
    json.bytes = malloc(json.n);
    assert_int_equal(tr_store_to_json(s, (char *)json.bytes, json.n, &json.n, NULL), TRUENO_OK);
    tr_store_free(s);
    int succeeded = 0;
    for (size_t call = 1; call < 100; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *c;
        assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
        h.fail_at = atomic_load(&h.calls) + call;
        trueno_status st = use_all(c, &im, &json);
        assert_true(st == TRUENO_OK || st == TRUENO_ERR_NO_MEMORY);
        succeeded += st == TRUENO_OK;
        trueno_ctx_free(c);
        assert_int_equal(atomic_load(&h.blocks), 0);
    }
    assert_true(succeeded > 5 && succeeded < 80);
    free(json.bytes);
    free(im.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_small_buffers),
        cmocka_unit_test(test_full_store),  cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
