/* SPDX-License-Identifier: MIT */
/* The store in memory: look-up, versions, the laws of the join. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <math.h>

#include "simd/kernel.h"
#include "store_image.h"

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

/* One entry more than there may be, alone and in a merge. */
static void test_one_entry_too_many(void **state)
{
    (void)state;
    struct tr_store *s = new_store(), *one = new_store();
    fill_sample(s, 1, TR_STORE_MAX_ENTRIES, 1);
    fill_sample(one, 1, 1, 1);
    const struct tr_wisdom more = sample_wisdom(0, TR_STORE_MAX_ENTRIES);
    assert_int_equal(tr_store_put(s, &more, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(tr_store_merge(s, one, NULL, NULL), TRUENO_OK); /* a key that is there */
    assert_int_equal(tr_store_put(one, &more, NULL), TRUENO_OK);
    assert_int_equal(tr_store_merge(s, one, NULL, NULL), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(tr_store_n_entries(s), TR_STORE_MAX_ENTRIES);
    assert_null(tr_store_find(s, 0, more.context));
    tr_store_free(one);
    tr_store_free(s);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_find),       cmocka_unit_test(test_versions),
        cmocka_unit_test(test_refusals),           cmocka_unit_test(test_sections),
        cmocka_unit_test(test_laws_of_the_join),   cmocka_unit_test(test_merge_report_and_limits),
        cmocka_unit_test(test_one_entry_too_many), cmocka_unit_test(test_review),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
