/* SPDX-License-Identifier: MIT */
/* The set of names: its hash against published results, and its work, counted in steps. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/harness.h"
#include "gguf/names.h"

/* CPython 3.11 and later hashes bytes with SipHash-1-3. hash() of these, under PYTHONHASHSEED=0
 * (key 0) and PYTHONHASHSEED=1 (key as its generator makes it). */
static void hash_as_in_cpython(void **state)
{
    (void)state;
    static const uint64_t key0[2] = {0, 0};
    static const uint64_t key1[2] = {0xaed66ce184be2329, 0xebe9bbf1f1499052};
    static const struct {
        const char *text;
        uint64_t hash0, hash1;
    } known[] = {
        {"a", 0x407448d2b89b1813, 0xd6300bc9f7cc0e73},
        {"general.architecture", 0xece9f884c10ab568, 0x1cad724e3ada5de9},
        {"12345678", 0x3489982430560a87, 0x06f07c60efe2bad9},
        {"0123456789abcde", 0x26f4d862282d8fcb, 0x40c734727b369b3c},
        {"blk.0.attn_q.weight", 0x3c25d18d28a94307, 0x90c577499b1b36cd},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        size_t n = strlen(known[i].text);
        assert_true(tr_siphash13(key0, known[i].text, n) == known[i].hash0);
        assert_true(tr_siphash13(key1, known[i].text, n) == known[i].hash1);
    }
}

/* Names of eight characters that count up. */
static trueno_str counted(const void *list, uint32_t index)
{
    return (trueno_str){(const char *)list + 8 * (size_t)index, 8};
}

static char *count_names(uint32_t n)
{
    char *text = malloc(8 * (size_t)n + 1);
    assert_non_null(text);
    for (uint32_t i = 0; i < n; i++) snprintf(text + 8 * (size_t)i, 9, "%08x", i);
    return text;
}

/* How far entries stand from where their hash sends them: one more than that is the number of
 * comparisons to find them. */
static uint64_t steps(const struct tr_names *s)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < s->n_slots; i++) {
        if (!s->slots[i]) continue;
        trueno_str name = s->name_at(s->list, s->slots[i] - 1);
        uint32_t home = (uint32_t)tr_siphash13(s->key, name.data, name.len) & (s->n_slots - 1);
        sum += 1 + ((i - home) & (s->n_slots - 1));
    }
    return sum;
}

/* Linear probing, half full at most: 1.5 steps per entry are expected (Knuth 6.4). */
static void work_is_linear(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    char *text = count_names(1 << 20);
    for (uint32_t n = 1 << 10; n <= 1 << 20; n <<= 5) {
        struct tr_names s;
        tr_names_init(&s, ctx, text, counted);
        for (uint32_t i = 0; i < n; i++) assert_int_equal(tr_names_add(&s, i), TRUENO_OK);
        assert_true(s.n_used == n && s.n_slots == 2 * n);
        assert_true(steps(&s) < 2 * (uint64_t)n);
        assert_int_equal(tr_names_add(&s, n / 2), TRUENO_ERR_CORRUPT);
        for (uint32_t i = 0; i < n; i += 101)
            assert_true(tr_names_find(&s, text + 8 * (size_t)i, 8) == (ptrdiff_t)i);
        assert_true(tr_names_find(&s, "zzzzzzzz", 8) == -1);
        assert_true(tr_names_find(&s, text, 7) == -1);
        assert_true(tr_names_find(&s, text, 0) == -1);
        tr_names_free(&s);
    }
    free(text);
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
}

/* Two sets order the same names differently, so a file cannot know where its names will go. */
static void each_set_has_its_own_key(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    char *text = count_names(1000);
    struct tr_names a, b;
    tr_names_init(&a, ctx, text, counted);
    tr_names_init(&b, ctx, text, counted);
    assert_true(tr_names_find(&a, "00000000", 8) == -1); /* empty */
    assert_true(tr_names_reserve(&a, 1000) && tr_names_reserve(&b, 1000));
    assert_int_equal(a.n_slots, 2048); /* at most half full */
    const uint64_t calls = m.calls;
    for (uint32_t i = 0; i < 1000; i++) {
        assert_int_equal(tr_names_add(&a, i), TRUENO_OK);
        assert_int_equal(tr_names_add(&b, i), TRUENO_OK);
    }
    assert_true(m.calls == calls); /* room was there */
    assert_int_equal(a.n_slots, b.n_slots);
    assert_int_not_equal(memcmp(a.slots, b.slots, a.n_slots * sizeof *a.slots), 0);
    assert_false(tr_names_reserve(&a, 1u << 30));
    tr_names_free(&a);
    tr_names_free(&b);
    free(text);
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hash_as_in_cpython),
        cmocka_unit_test(work_is_linear),
        cmocka_unit_test(each_set_has_its_own_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
