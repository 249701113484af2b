/* SPDX-License-Identifier: MIT */
/* The store in memory and as bytes: look-up, the laws of the join, both forms, hostile input. The
 * binary form is taken apart and put together here by the offsets of its description. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/hooks.h"
#include "simd/kernel.h"
#include "store_samples.h"
#include "tuner/random.h"

static trueno_ctx *ctx;

static struct tr_store *new_store(void)
{
    struct tr_store *s;
    assert_int_equal(tr_store_new(&s, ctx, NULL), TRUENO_OK);
    return s;
}

struct image {
    uint8_t *bytes;
    size_t n;
};

static struct image encode(const struct tr_store *s)
{
    struct image im;
    assert_int_equal(tr_store_encode(s, NULL, 0, &im.n, NULL), TRUENO_OK);
    im.bytes = malloc(im.n);
    size_t n;
    assert_int_equal(tr_store_encode(s, im.bytes, im.n, &n, NULL), TRUENO_OK);
    assert_int_equal(n, im.n);
    return im;
}

static bool same(const struct tr_store *a, const struct tr_store *b)
{
    struct image x = encode(a), y = encode(b);
    const bool equal = x.n == y.n && memcmp(x.bytes, y.bytes, x.n) == 0;
    free(x.bytes);
    free(y.bytes);
    return equal;
}

/* ------------------------------------------------------------------ in memory */

static void test_put_and_find(void **state)
{
    (void)state;
    struct tr_store *s = new_store();
    uint32_t a, b, index;
    struct tr_store_machine m = sample_machine("machine a");
    assert_int_equal(tr_store_put_machine(s, &a, &m, NULL), TRUENO_OK);
    m = sample_machine("machine b");
    assert_int_equal(tr_store_put_machine(s, &b, &m, NULL), TRUENO_OK);
    assert_int_equal(a, 0);
    assert_int_equal(b, 1);
    assert_int_equal(tr_store_n_machines(s), 2);
    assert_true(tr_store_find_machine(s, &index, "machine b") && index == 1);
    assert_false(tr_store_find_machine(s, &index, "machine c"));
    assert_string_equal(tr_store_machine_at(s, 1)->id, "machine b");
    assert_null(tr_store_machine_at(s, 2));

    /* more than one table of slots */
    enum { N = 200 };
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t k = 0; k < 2; k++) {
            struct tr_wisdom w = sample_wisdom(k, i);
            w.log_ratio = -0.001 * (i + 1) * (k + 1);
            assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
        }
    assert_int_equal(tr_store_n_entries(s), 2 * N);
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t k = 0; k < 2; k++) {
            const struct tr_wisdom *w = tr_store_find(s, k, sample_wisdom(k, i).context);
            assert_non_null(w);
            assert_true(w->machine == k && w->log_ratio == -0.001 * (i + 1) * (k + 1));
            assert_int_equal(w->generation, 1);
        }
    assert_null(tr_store_find(s, 0, sample_wisdom(0, N).context));
    assert_null(tr_store_find(s, 2, sample_wisdom(0, 0).context));
    assert_non_null(tr_store_at(s, 2 * N - 1));
    assert_null(tr_store_at(s, 2 * N));
    tr_store_free(s);
    tr_store_free(NULL);
}

/* Generation 0 is later than what is there; others are joined: (generation, effort, blocks, utc).
 */
static void test_versions(void **state)
{
    (void)state;
    struct tr_store *s = new_store();
    uint32_t m;
    struct tr_store_machine machine = sample_machine("m");
    assert_int_equal(tr_store_put_machine(s, &m, &machine, NULL), TRUENO_OK);
    machine.quota = 7;
    assert_int_equal(tr_store_put_machine(s, &m, &machine, NULL), TRUENO_OK);
    assert_true(tr_store_machine_at(s, 0)->quota == 7);
    assert_int_equal(tr_store_machine_at(s, 0)->generation, 2);
    machine.generation = 1;
    machine.quota = 8;
    assert_int_equal(tr_store_put_machine(s, &m, &machine, NULL), TRUENO_OK);
    assert_true(tr_store_machine_at(s, 0)->quota == 7);

    struct tr_wisdom w = sample_wisdom(m, 1);
    const uint64_t key = w.context;
    w.generation = 5;
    w.utc = 1;
    assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
    /* each of these is greater in its field and smaller in all later ones */
    static const struct {
        uint32_t generation;
        uint8_t effort;
        uint32_t blocks;
        int64_t utc;
    } rows[] = {
        {5, 1, 10, 1000}, {5, 1, 10, 1001}, {5, 1, 11, 999}, {5, 2, 10, 998}, {6, 0, 9, 997}};
    for (size_t i = 0; i < 5; i++) {
        w.generation = rows[i].generation;
        w.effort = rows[i].effort;
        w.blocks = rows[i].blocks;
        w.utc = rows[i].utc;
        assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
        for (size_t k = 0; k < i; k++) { /* what lost once loses again */
            struct tr_wisdom old = w;
            old.generation = rows[k].generation;
            old.effort = rows[k].effort;
            old.blocks = rows[k].blocks;
            old.utc = rows[k].utc;
            assert_int_equal(tr_store_put(s, &old, NULL), TRUENO_OK);
            assert_true(tr_store_find(s, m, key)->utc == rows[i].utc);
        }
    }
    w.generation = 0;
    w.blocks = 1;
    assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
    assert_int_equal(tr_store_find(s, m, key)->generation, 7);
    assert_int_equal(tr_store_find(s, m, key)->blocks, 1);

    assert_int_equal(tr_store_forget(s, m, key, NULL), TRUENO_OK);
    assert_null(tr_store_find(s, m, key));
    assert_int_equal(tr_store_at(s, 0)->generation, 8);
    assert_int_equal(tr_store_forget(s, m, key, NULL), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(tr_store_forget(s, m, key + 1, NULL), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
    assert_int_equal(tr_store_find(s, m, key)->generation, 9);

    /* at the last generation a tombstone still wins */
    w.generation = TR_STORE_MAX_GENERATION;
    w.effort = TR_EFFORT_PATIENT;
    assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
    assert_int_equal(tr_store_forget(s, m, key, NULL), TRUENO_OK);
    assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
    assert_null(tr_store_find(s, m, key));
    tr_store_free(s);
}

static void refuse_entry(struct tr_store *s, const struct tr_wisdom *w, const char *word)
{
    trueno_error err = {TRUENO_OK, ""};
    struct image before = encode(s);
    assert_int_equal(tr_store_put(s, w, &err), TRUENO_ERR_ARGUMENT);
    if (!strstr(err.message, word)) fail_msg("'%s' lacks '%s'", err.message, word);
    struct image after = encode(s);
    assert_true(before.n == after.n && memcmp(before.bytes, after.bytes, before.n) == 0);
    free(before.bytes);
    free(after.bytes);
}

static void test_refusals(void **state)
{
    (void)state;
    struct tr_store *s = new_store();
    fill_sample(s, 1, 2, 1);
    const struct tr_wisdom good = sample_wisdom(0, 1);
#define REFUSE(field, value, word)                                                                 \
    do {                                                                                           \
        struct tr_wisdom w = good;                                                                 \
        w.field = value;                                                                           \
        refuse_entry(s, &w, word);                                                                 \
    } while (0)
    REFUSE(machine, 1, "machine");
    REFUSE(context, 0, "context");
    REFUSE(context, good.context ^ 1, "context");
    REFUSE(rows, good.rows + 1, "context");
    REFUSE(rows, UINT64_MAX, "context");
    REFUSE(n_cols, 0, "context");
    REFUSE(threads, 0, "context");
    REFUSE(type, (trueno_dtype)1000, "context");
    REFUSE(phase, TRUENO_PHASE_AUTO, "context");
    REFUSE(variant[0], '\0', "variant");
    REFUSE(variant[0], '\x1b', "variant");
    REFUSE(reference[1], '\x7f', "reference");
    REFUSE(log_ratio, (double)NAN, "log_ratio");
    REFUSE(log_ratio, 21, "log_ratio");
    REFUSE(half_width, -1, "half_width");
    REFUSE(half_width, (double)INFINITY, "half_width");
    REFUSE(mde, (double)NAN, "mde");
    REFUSE(effort, 3, "effort");
    REFUSE(state, 3, "state");
    REFUSE(utc, -1, "time");
    REFUSE(utc, INT64_MAX, "time");
    REFUSE(generation, TR_STORE_MAX_GENERATION + 1, "generation");
    struct tr_wisdom w = good;
    memset(w.variant, 'x', sizeof w.variant); /* no NUL */
    refuse_entry(s, &w, "variant");
    w = good;
    w.n_cols = 20; /* not an edge: its bucket's is 24 */
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.n_cols = 20;
    p.rows = p.cols = 256;
    assert_int_equal(tr_wisdom_set_problem(&w, &p, NULL), TRUENO_OK);
    assert_int_equal(w.n_cols, 24);
    assert_int_equal(w.context, trueno_problem_context(&p));
    w.n_cols = 20;
    refuse_entry(s, &w, "context");
    p.rows = 0;
    assert_int_equal(tr_wisdom_set_problem(&w, &p, NULL), TRUENO_ERR_ARGUMENT);

    static const double wrong[] = {(double)NAN, -1, 1e9};
    for (size_t i = 0; i < 7 * 3; i++) {
        struct tr_store_machine m = sample_machine("new");
        if (i / 3 == 0) m.quota = wrong[i % 3];
        if (i / 3 == 1) m.points[1].read_gbs = wrong[i % 3];
        if (i / 3 == 2) m.points[0].peak_dot = wrong[i % 3];
        if (i / 3 == 3) m.points[0].peak_fma = wrong[i % 3];
        if (i / 3 == 4) m.n_points = TR_STORE_POINTS + 1;
        if (i / 3 == 5) m.points[1].threads = i % 3 ? 0 : m.points[0].threads;
        if (i / 3 == 6) memset(i % 3 ? m.id : m.hard, 'x', i % 3 ? sizeof m.id : sizeof m.hard);
        uint32_t index = 9;
        assert_int_equal(tr_store_put_machine(s, &index, &m, NULL), TRUENO_ERR_ARGUMENT);
        assert_int_equal(index, 0);
    }
    assert_int_equal(tr_store_n_machines(s), 1);
    tr_store_free(s);
}

static void test_sections(void **state)
{
    (void)state;
    struct tr_store *s = new_store();
    const void *bytes;
    size_t n;
    assert_false(tr_store_section(s, &bytes, &n, TR_SECTION_FOREST));
    assert_int_equal(tr_store_put_section(s, TR_SECTION_FOREST, "oak", 3, NULL), TRUENO_OK);
    assert_true(tr_store_section(s, &bytes, &n, TR_SECTION_FOREST));
    assert_true(n == 3 && memcmp(bytes, "oak", 3) == 0);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_FOREST, "birch", 5, NULL), TRUENO_OK);
    assert_true(tr_store_section(s, &bytes, &n, TR_SECTION_FOREST) && n == 5);
    assert_false(tr_store_section(s, &bytes, &n, TR_SECTION_LEDGER));
    assert_int_equal(tr_store_put_section(s, TR_SECTION_LEDGER, NULL, 0, NULL), TRUENO_OK);
    assert_true(tr_store_section(s, &bytes, &n, TR_SECTION_LEDGER) && n == 0);
    assert_int_equal(tr_store_put_section(s, (enum tr_section)4, "x", 1, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(tr_store_put_section(s, (enum tr_section)10, "x", 1, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_ROOF, NULL, 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_ROOF, "x", TR_STORE_MAX_BYTES + 1, NULL),
                     TRUENO_ERR_TOO_LARGE);
    assert_false(tr_store_section(s, &bytes, &n, (enum tr_section)77));
    assert_true(bytes == NULL && n == 0);

    /* the later generation wins a join, on either side */
    struct tr_store *t = new_store();
    assert_int_equal(tr_store_put_section(t, TR_SECTION_FOREST, "zzz", 3, NULL), TRUENO_OK);
    assert_int_equal(tr_store_merge(t, s, NULL, NULL), TRUENO_OK);
    assert_true(tr_store_section(t, &bytes, &n, TR_SECTION_FOREST));
    assert_true(n == 5 && memcmp(bytes, "birch", 5) == 0);
    assert_true(same(s, t));
    tr_store_free(t);
    tr_store_free(s);
}

/* ----------------------------------------------------------------------- join */

/* A store of few keys and few values, so that versions meet in every way. */
static struct tr_store *random_store(struct tr_random *r)
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

static struct tr_store *joined(const struct tr_store *a, const struct tr_store *b)
{
    struct tr_store *s = new_store();
    assert_int_equal(tr_store_merge(s, a, NULL, NULL), TRUENO_OK);
    assert_int_equal(tr_store_merge(s, b, NULL, NULL), TRUENO_OK);
    return s;
}

/* Every key of `part` is in `whole`. */
static void expect_within(const struct tr_store *part, const struct tr_store *whole)
{
    for (size_t i = 0; i < tr_store_n_entries(part); i++) {
        const struct tr_wisdom *w = tr_store_at(part, i);
        uint32_t machine;
        bool found = false;
        assert_true(
            tr_store_find_machine(whole, &machine, tr_store_machine_at(part, w->machine)->id));
        for (size_t k = 0; k < tr_store_n_entries(whole); k++) {
            const struct tr_wisdom *v = tr_store_at(whole, k);
            found |=
                v->machine == machine && v->context == w->context && v->generation >= w->generation;
        }
        assert_true(found);
    }
}

static void test_laws_of_the_join(void **state)
{
    (void)state;
    struct tr_random r;
    tr_random_seed(&r, 1, 0);
    for (int round = 0; round < 300; round++) {
        struct tr_store *a = random_store(&r), *b = random_store(&r), *c = random_store(&r);
        struct tr_store *ab = joined(a, b), *ba = joined(b, a), *bc = joined(b, c);
        struct tr_store *ab_c = joined(ab, c), *a_bc = joined(a, bc), *aa = joined(a, a);
        assert_true(same(ab, ba) && same(ab_c, a_bc) && same(aa, a));
        expect_within(a, ab);
        expect_within(b, ab);
        assert_int_equal(tr_store_merge(ab, ab, NULL, NULL), TRUENO_OK);
        assert_true(same(ab, ba));
        struct tr_store *all[] = {a, b, c, ab, ba, bc, ab_c, a_bc, aa};
        for (size_t i = 0; i < 9; i++) tr_store_free(all[i]);
    }
}

static void test_merge_report_and_limits(void **state)
{
    (void)state;
    struct tr_store *a = new_store(), *b = new_store();
    fill_sample(a, 2, 10, 1);
    fill_sample(b, 1, 12, 2);
    struct tr_store_report report = {0};
    assert_int_equal(tr_store_merge(a, b, &report, NULL), TRUENO_OK);
    assert_int_equal(report.n_machines, 1);
    assert_int_equal(report.n_entries, 12);
    assert_int_equal(report.n_new, 2);
    assert_int_equal(report.n_replaced, 10);
    assert_int_equal(tr_store_n_entries(a), 22);

    /* machine 257 of two stores: nothing is changed */
    struct tr_store *many = new_store();
    fill_sample(many, TR_STORE_MAX_MACHINES, 1, 1);
    struct tr_store_machine m = sample_machine("one more");
    uint32_t index;
    assert_int_equal(tr_store_put_machine(many, &index, &m, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(tr_store_put_machine(b, &index, &m, NULL), TRUENO_OK);
    struct tr_store *copy = joined(many, many);
    assert_int_equal(tr_store_merge(many, b, NULL, NULL), TRUENO_ERR_TOO_LARGE);
    assert_true(same(many, copy));
    tr_store_free(copy);
    tr_store_free(many);
    tr_store_free(a);
    tr_store_free(b);
}

static void test_review(void **state)
{
    (void)state;
    struct tr_store *s = new_store();
    fill_sample(s, 2, 6, 1);
    /* on machine 0: entry 0 as it is, 1 of another build, 2 unknown, 3 forgotten */
    struct tr_wisdom w;
    for (uint32_t i = 0; i < 6; i++) {
        w = sample_wisdom(0, i);
        snprintf(w.variant, sizeof w.variant, "%s", i == 2 ? "gemm_nobody" : tr_kernel_at(0)->name);
        if (i == 1) w.version++;
        assert_int_equal(tr_store_put(s, &w, NULL), TRUENO_OK);
    }
    assert_int_equal(tr_store_forget(s, 0, sample_wisdom(0, 3).context, NULL), TRUENO_OK);
    struct tr_store_report report = {0};
    tr_store_review(&report, s, 0, w.version);
    assert_int_equal(report.usable, 3);
    assert_int_equal(report.stale, 1);
    assert_int_equal(report.unknown_variants, 1);
    assert_int_equal(report.forgotten, 1);
    assert_int_equal(report.foreign, 6);
    assert_int_equal(tr_wisdom_use_of(&w, 0, w.version), TR_WISDOM_USABLE);
    assert_int_equal(tr_wisdom_use_of(&w, 1, w.version), TR_WISDOM_FOREIGN);
    assert_int_equal(tr_wisdom_use_of(&w, 0, w.version + 1), TR_WISDOM_STALE);
    tr_store_free(s);
}

/* ------------------------------------------------------------------- as bytes */

static trueno_status decode(struct tr_store **out, const struct image *im,
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

static void expect(const struct image *im, trueno_status status)
{
    struct tr_store *s;
    struct tr_store_report report = {.n_entries = 77};
    assert_int_equal(decode(&s, im, &report), status);
    if (status != TRUENO_OK) assert_int_equal(report.n_entries, 77);
    tr_store_free(s);
}

static uint32_t get32(const struct image *im, size_t at)
{
    uint32_t x;
    memcpy(&x, im->bytes + at, 4);
    return x;
}

static uint64_t get64(const struct image *im, size_t at)
{
    uint64_t x;
    memcpy(&x, im->bytes + at, 8);
    return x;
}

static void set(struct image *im, size_t at, uint64_t x, size_t n)
{
    memcpy(im->bytes + at, &x, n);
}

/* Sets every checksum right, as an enemy would. Leaves alone what is outside. */
static void seal(struct image *im)
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
static size_t row_of(const struct image *im, uint32_t id)
{
    for (uint32_t i = 0; i < get32(im, 24); i++)
        if (get32(im, 32 + 32 * (size_t)i) == id) return 32 + 32 * (size_t)i;
    fail();
    return 0;
}

static size_t payload_of(const struct image *im, uint32_t id)
{
    return (size_t)get64(im, row_of(im, id) + 8);
}

static struct image sample_image(void)
{
    struct tr_store *s = new_store();
    fill_sample(s, 2, 3, 1);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_FOREST, "trees", 5, NULL), TRUENO_OK);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_LEDGER, "0123456789", 10, NULL), TRUENO_OK);
    struct image im = encode(s);
    tr_store_free(s);
    return im;
}

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
            assert_int_equal(tr_store_forget(t, w->machine, w->context, NULL),
                             tr_store_find(t, w->machine, w->context) ? TRUENO_OK
                                                                      : TRUENO_ERR_NOT_FOUND);
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

/* -------------------------------------------------------------- the table of inputs */

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

/* ------------------------------------------------------------------------ JSON */

static void expect_text(const char *text, trueno_status status)
{
    const struct image im = {(uint8_t *)(uintptr_t)text, strlen(text)};
    expect(&im, status);
}

#define HEAD "{\"format\":\"trueno-tuner-store\",\"version\":[1,0],"

static void test_json_refusals(void **state)
{
    (void)state;
    expect_text(HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[]}", TRUENO_OK);
    expect_text(" \r\n\t" HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[],\"new\":1}",
                TRUENO_OK);
    expect_text("{", TRUENO_ERR_FORMAT);
    expect_text("{}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[]} x", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"machines\":[],\"wisdom\":[],\"sections\":[]}",
                TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":{},\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[1],\"wisdom\":[],\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[[]],\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[NaN],\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text("{\"format\":\"another\",\"version\":[1,0],\"machines\":[],\"wisdom\":[],"
                "\"sections\":[]}",
                TRUENO_ERR_FORMAT);
    expect_text("{\"format\":\"trueno-tuner-store\",\"version\":[2,0]}", TRUENO_ERR_VERSION);
    expect_text("{\"format\":\"trueno-tuner-store\",\"version\":2}", TRUENO_ERR_FORMAT);
    expect_text("\xef\xbb\xbf" HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[]}",
                TRUENO_ERR_FORMAT);

    /* 16 levels, 17, and a million of them */
    for (size_t deep = 14; deep < 18; deep++) {
        char text[200] = HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[],\"x\":";
        for (size_t i = 0; i < deep; i++) strcat(text, "[");
        for (size_t i = 0; i < deep; i++) strcat(text, "]");
        strcat(text, "}");
        expect_text(text, deep < 16 ? TRUENO_OK : TRUENO_ERR_FORMAT);
    }
    struct image im = {malloc(4000000), 4000000};
    memset(im.bytes, '[', im.n);
    im.bytes[0] = '{';
    expect(&im, TRUENO_ERR_FORMAT);
    memset(im.bytes, ',', im.n); /* more values than a store can have */
    im.bytes[0] = '{';
    expect(&im, TRUENO_ERR_TOO_LARGE);
    free(im.bytes);
    /* brackets in a text are no levels */
    expect_text(HEAD
                "\"machines\":[],\"wisdom\":[],\"sections\":[],\"x\":\"[[[[[[[[[[[[[[[[[\\\"[\"}",
                TRUENO_OK);
}

/* `text` with its first `from` replaced. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void test_json_fields(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        trueno_status status;
        uint32_t bad_machines, bad_entries;
    } rows[] = {
        {"\"log_ratio\": -0.125", "\"log_ratio\": 1e5", TRUENO_OK, 0, 1},
        {"\"log_ratio\": -0.125", "\"log_ratio\": 1e999", TRUENO_ERR_FORMAT, 0, 0},
        {"\"log_ratio\": -0.125", "\"log_ratio\": 0", TRUENO_OK, 0, 0},
        {"\"log_ratio\": -0.125", "\"log_ratio\": \"x\"", TRUENO_ERR_FORMAT, 0, 0},
        {"\"log_ratio\": -0.125,", "", TRUENO_ERR_FORMAT, 0, 0},
        {"\"threads\": 4", "\"threads\": 4294967297", TRUENO_OK, 0, 1},
        {"\"threads\": 4", "\"threads\": -1", TRUENO_OK, 0, 1},
        {"\"threads\": 4", "\"threads\": 4.0", TRUENO_ERR_FORMAT, 0, 0},
        {"\"threads\": 4", "\"threads\": 5", TRUENO_OK, 0, 1}, /* not what the context is of */
        {"\"effort\": \"normal\"", "\"effort\": \"great\"", TRUENO_OK, 0, 1},
        {"\"state\": \"verified\"", "\"state\": null", TRUENO_ERR_FORMAT, 0, 0},
        {"\"type\": \"Q4_K\"", "\"type\": \"Q9\"", TRUENO_OK, 0, 1},
        {"\"phase\": \"decode\"", "\"phase\": \"auto\"", TRUENO_OK, 0, 1},
        {"\"version\": \"0x", "\"version\": \"1x", TRUENO_ERR_FORMAT, 0, 0},
        {"\"context\": \"0x", "\"context\": \"0xg", TRUENO_ERR_FORMAT, 0, 0},
        {"\"machine\": \"machine 0\"", "\"machine\": \"who\"", TRUENO_OK, 0, 1},
        {"\"generation\": 1", "\"generation\": 0", TRUENO_OK, 1, 1},
        {"\"quota\": 1.5", "\"quota\": -1", TRUENO_OK, 1, 1},
        {"\"quota\": 1.5", "\"quota\": []", TRUENO_ERR_FORMAT, 0, 0},
        {"\"points\": [", "\"points\": [[1,2,3],", TRUENO_ERR_FORMAT, 0, 0},
        {"\"points\": [", "\"points\": [[3,1,1,1],", TRUENO_OK, 1, 1},
        {"\"id\": \"machine", "\"id\": \"machine\\u00e9", TRUENO_OK, 1, 1},
        {"\"id\": \"machine", "\"id\": \"machine\\u0000", TRUENO_ERR_FORMAT, 0, 0},
        {"\"id\": \"machine",
         "\"id\": \"0123456789012345678901234567890123456789012345678901234567890123",
         TRUENO_ERR_TOO_LARGE, 0, 0},
        {"\"hex\": \"6f", "\"hex\": \"6", TRUENO_ERR_FORMAT, 0, 0},
        {"\"hex\": \"6f", "\"hex\": \"6z", TRUENO_ERR_FORMAT, 0, 0},
    };
    struct tr_store *s = new_store();
    fill_sample(s, 1, 1, 1);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_ROOF, "oak", 3, NULL), TRUENO_OK);
    char text[4000];
    size_t n;
    assert_int_equal(tr_store_to_json(s, text, sizeof text, &n, NULL), TRUENO_OK);
    assert_true(n < sizeof text);
    text[n] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *changed = replaced(text, rows[i].from, rows[i].to);
        struct tr_store_report report = {0};
        struct tr_store *t;
        trueno_status status = tr_store_from_json(ctx, &t, changed, strlen(changed), &report, NULL);
        if (status != rows[i].status) fail_msg("row %zu: %s", i, trueno_status_str(status));
        if (report.bad_machines != rows[i].bad_machines ||
            report.bad_entries != rows[i].bad_entries)
            fail_msg("row %zu: %u and %u dropped", i, report.bad_machines, report.bad_entries);
        tr_store_free(t);
        free(changed);
    }
    char *changed = replaced(text, "\"section\": \"roof\"", "\"section\": \"cellar\"");
    struct tr_store_report report = {0};
    struct tr_store *t;
    assert_int_equal(tr_store_from_json(ctx, &t, changed, strlen(changed), &report, NULL),
                     TRUENO_OK);
    assert_int_equal(report.unknown_sections, 1);
    tr_store_free(t);
    free(changed);
    /* cut anywhere */
    for (size_t i = 1; i < n; i++) {
        const struct image cut = {(uint8_t *)text, i};
        expect(&cut, TRUENO_ERR_FORMAT);
    }
    tr_store_free(s);
}

/* ------------------------------------------------------------------- mutations */

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

/* ---------------------------------------------------------------------- memory */

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

static int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL);
}

static int teardown(void **state)
{
    (void)state;
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    return now != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_find),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_sections),
        cmocka_unit_test(test_laws_of_the_join),
        cmocka_unit_test(test_merge_report_and_limits),
        cmocka_unit_test(test_review),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_small_buffers),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_wrong_format_and_version),
        cmocka_unit_test(test_corrupt),
        cmocka_unit_test(test_too_many_bytes),
        cmocka_unit_test(test_dropped_and_counted),
        cmocka_unit_test(test_longer_records),
        cmocka_unit_test(test_json_refusals),
        cmocka_unit_test(test_json_fields),
        cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_refusals_need_no_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
