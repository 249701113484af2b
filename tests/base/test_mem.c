/* SPDX-License-Identifier: MIT */
/* Counted memory: plain blocks, large arrays, arenas; with the C library and with hooks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/ctx.h"
#include "base/hooks.h"
#include "base/mem.h"

static trueno_ctx *new_ctx(struct hooks *h)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    if (h) opt = hook_options(h);
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    return ctx;
}

static uint64_t held(const trueno_ctx *ctx)
{
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    return now;
}

static uint64_t peak(const trueno_ctx *ctx)
{
    uint64_t most;
    trueno_ctx_memory(ctx, NULL, &most);
    return most;
}

static bool all_zero(const void *data, size_t size_bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < size_bytes; i++)
        if (p[i]) return false;
    return true;
}

static void use_blocks(trueno_ctx *ctx)
{
    unsigned char *a = tr_alloc(ctx, 100), *z = tr_calloc(ctx, 25, 8), *none = tr_alloc(ctx, 0);
    assert_non_null(a);
    assert_non_null(z);
    assert_non_null(none);
    assert_int_equal((uintptr_t)a % _Alignof(max_align_t), 0);
    assert_true(all_zero(z, 200));
    for (int i = 0; i < 100; i++) a[i] = (unsigned char)i;
    a = tr_realloc(ctx, a, 5000);
    for (int i = 0; i < 100; i++) assert_int_equal(a[i], i);
    a = tr_realloc(ctx, a, 10);
    for (int i = 0; i < 10; i++) assert_int_equal(a[i], i);
    a = tr_realloc(ctx, a, 0);
    assert_non_null(a);
    char *s = tr_strndup(ctx, "abcdef", 3), *e = tr_strndup(ctx, NULL, 0);
    assert_string_equal(s, "abc");
    assert_string_equal(e, "");
    assert_true(held(ctx) >= 200 + 4 + 1);
    tr_free(ctx, a);
    tr_free(ctx, z);
    tr_free(ctx, none);
    tr_free(ctx, s);
    tr_free(ctx, e);
    tr_free(ctx, NULL);
    assert_int_equal(held(ctx), 0);
    assert_true(peak(ctx) >= 5000 + 200);
    assert_true(peak(ctx) < 5000 + 200 + 1000);
}

static void test_blocks(void **state)
{
    (void)state;
    struct hooks h = {0};
    trueno_ctx *plain = new_ctx(NULL), *hooked = new_ctx(&h);
    use_blocks(plain);
    use_blocks(hooked);
    trueno_ctx_free(plain);
    trueno_ctx_free(hooked);
    assert_int_equal(h.blocks, 0);
}

/* The counter of the context and the hooks agree at every step. */
static void test_hooks_see_every_byte(void **state)
{
    (void)state;
    struct hooks h = {0};
    trueno_ctx *ctx = new_ctx(&h);
    const size_t own = h.now_bytes; /* the context itself */
    struct tr_arena arena = {.ctx = ctx};
    void *a = tr_alloc(ctx, 77);
    assert_int_equal(h.now_bytes - own, held(ctx));
    a = tr_realloc(ctx, a, 7777);
    assert_int_equal(h.now_bytes - own, held(ctx));
    void *b = tr_big_alloc(ctx, 12345);
    assert_int_equal(h.now_bytes - own, held(ctx));
    for (int i = 0; i < 1000; i++) assert_non_null(tr_arena_alloc(&arena, 100));
    assert_int_equal(h.now_bytes - own, held(ctx));
    assert_true(held(ctx) >= 7777 + 12345 + 100000);
    tr_arena_free(&arena);
    tr_big_free(ctx, b, 12345);
    tr_free(ctx, a);
    assert_int_equal(held(ctx), 0);
    assert_int_equal(h.now_bytes, own);
    trueno_ctx_free(ctx);
}

static void test_sizes_that_wrap(void **state)
{
    (void)state;
    struct hooks h = {.max_size = 1 << 20};
    trueno_ctx *ctx = new_ctx(&h);
    const size_t calls = h.calls;
    assert_null(tr_calloc(ctx, SIZE_MAX / 2, 3));
    assert_null(tr_calloc(ctx, (size_t)1 << 33, (size_t)1 << 31));
    assert_null(tr_strndup(ctx, "x", SIZE_MAX));
    for (size_t i = 0; i < 5; i++) {
        assert_null(tr_alloc(ctx, SIZE_MAX - i));
        assert_null(tr_big_alloc(ctx, SIZE_MAX - i));
    }
    assert_int_equal(tr_big_bytes(SIZE_MAX - 100), 0);
    struct tr_arena arena = {.ctx = ctx};
    assert_null(tr_arena_alloc(&arena, SIZE_MAX - 3));
    assert_int_equal(h.calls, calls); /* found before anything was asked for */
    assert_null(tr_arena_alloc(&arena, SIZE_MAX / 2));
    assert_null(tr_big_alloc(ctx, SIZE_MAX / 2));
    assert_int_equal(held(ctx), 0);
    assert_int_equal(peak(ctx), 0);
    trueno_ctx_free(ctx);
    ctx = new_ctx(NULL); /* also where mmap has to refuse */
    assert_null(tr_big_alloc(ctx, (size_t)1 << 50));
    assert_null(tr_big_alloc(ctx, SIZE_MAX - 4096 - 64));
    assert_int_equal(held(ctx), 0);
    trueno_ctx_free(ctx);
}

static void test_failed_realloc_keeps_the_block(void **state)
{
    (void)state;
    struct hooks h = {.max_size = 4096};
    trueno_ctx *ctx = new_ctx(&h);
    char *a = tr_strndup(ctx, "still here", 10);
    const uint64_t before = held(ctx);
    assert_null(tr_realloc(ctx, a, 100000));
    assert_null(tr_realloc(ctx, a, SIZE_MAX - 8));
    assert_string_equal(a, "still here");
    assert_int_equal(held(ctx), before);
    tr_free(ctx, a);
    trueno_ctx_free(ctx);
    assert_int_equal(h.blocks, 0);
}

static void use_big(trueno_ctx *ctx, size_t size_bytes)
{
    const uint64_t before = held(ctx);
    unsigned char *p = tr_big_alloc(ctx, size_bytes);
    assert_non_null(p);
    assert_int_equal((uintptr_t)p % 64, 0);
    assert_true(tr_big_bytes(size_bytes) >= size_bytes);
    assert_int_equal(held(ctx) - before, tr_big_bytes(size_bytes));
    assert_true(all_zero(p, size_bytes));
    memset(p, 0xff, size_bytes);
    tr_big_free(ctx, p, size_bytes);
    assert_int_equal(held(ctx), before);
}

static void test_big_arrays(void **state)
{
    (void)state;
    static const size_t sizes[] = {
        0, 1, 63, 64, 4032, 4096, 1000000, (2 << 20), (2 << 20) - 64, (2 << 20) + 1, 5000000};
    struct hooks h = {0};
    trueno_ctx *plain = new_ctx(NULL), *hooked = new_ctx(&h);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        use_big(plain, sizes[i]);
        use_big(hooked, sizes[i]);
    }
    tr_big_free(plain, NULL, 5);
    trueno_ctx_free(plain);
    trueno_ctx_free(hooked);
    assert_int_equal(h.blocks, 0);
}

static size_t mapped_pages(void)
{
    size_t pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    if (!f || fscanf(f, "%zu", &pages) != 1) fail_msg("cannot read /proc/self/statm");
    fclose(f);
    return pages;
}

/* Mappings of 2 MiB and more start on a huge page, and giving them back leaves nothing mapped. */
static void test_big_mappings(void **state)
{
    (void)state;
    enum { SIZE = 9 << 20, ROUNDS = 2000 };
    if (TEST_ASAN) skip(); /* there large arrays come from malloc */
    trueno_ctx *ctx = new_ctx(NULL);
    char *p = tr_big_alloc(ctx, SIZE);
    const uintptr_t misaligned = (uintptr_t)p % (2 << 20);
    tr_big_free(ctx, p, SIZE);
    assert_int_equal(misaligned, 0);
    const size_t before = mapped_pages();
    for (int i = 0; i < ROUNDS; i++) {
        p = tr_big_alloc(ctx, SIZE);
        assert_non_null(p);
        tr_big_free(ctx, p, SIZE);
    }
    assert_true(mapped_pages() < before + (SIZE / 4096) * 10);
    trueno_ctx_free(ctx);
}

static void test_arena(void **state)
{
    (void)state;
    enum { N = 5000 };
    static unsigned char *items[N];
    static size_t sizes[N];
    struct hooks h = {0};
    trueno_ctx *ctx = new_ctx(&h);
    struct tr_arena arena = {.ctx = ctx};
    uint32_t seed = 1;
    for (size_t i = 0; i < N; i++) {
        seed = seed * 1664525u + 1013904223u;
        sizes[i] = seed >> 24;
        if (i % 500 == 499) sizes[i] = 3000000;
        items[i] = tr_arena_alloc(&arena, sizes[i]);
        assert_non_null(items[i]);
        assert_int_equal((uintptr_t)items[i] % 16, 0);
        memset(items[i], (int)(i & 255), sizes[i]);
    }
    for (size_t i = 0; i < N; i++) /* disjoint: nobody wrote over another */
        for (size_t k = 0; k<sizes[i]; k += sizes[i]> 1000 ? 4096 : 1)
            assert_int_equal(items[i][k], i & 255);
    assert_true(h.calls < 50); /* by chunks, not one by one */
    assert_true(tr_arena_alloc(&arena, 0) != tr_arena_alloc(&arena, 0));
    tr_arena_free(&arena);
    assert_int_equal(held(ctx), 0);
    assert_non_null(tr_arena_alloc(&arena, 3)); /* usable again */
    tr_arena_free(&arena);
    tr_arena_free(&arena);
    trueno_ctx_free(ctx);
    assert_int_equal(h.blocks, 0);
}

/* Every N-th call failing: what was held before is intact and nothing is lost. */
static void test_failing_at_every_call(void **state)
{
    (void)state;
    for (size_t n = 2;; n++) {
        struct hooks h = {.fail_at = n};
        trueno_ctx *ctx = new_ctx(&h);
        struct tr_arena arena = {.ctx = ctx};
        void *a = tr_alloc(ctx, 10);
        void *b = a ? tr_realloc(ctx, a, 1000) : NULL;
        if (b) a = b;
        void *c = tr_calloc(ctx, 3, 30), *d = tr_big_alloc(ctx, 3000000);
        void *e = tr_strndup(ctx, "x", 1), *g = tr_arena_alloc(&arena, 10000);
        const bool done = b && c && d && e && g;
        tr_free(ctx, a);
        tr_free(ctx, c);
        tr_free(ctx, e);
        tr_big_free(ctx, d, 3000000);
        tr_arena_free(&arena);
        assert_int_equal(held(ctx), 0);
        trueno_ctx_free(ctx);
        assert_int_equal(h.blocks, 0);
        if (done) {
            assert_int_equal(n, 8); /* the context and six more */
            return;
        }
    }
}

static void *hammer(void *arg)
{
    trueno_ctx *ctx = arg;
    for (size_t i = 1; i <= 5000; i++) {
        void *p = tr_alloc(ctx, i);
        p = tr_realloc(ctx, p, i * 2);
        tr_free(ctx, p);
    }
    return NULL;
}

static void test_counters_with_threads(void **state)
{
    (void)state;
    struct hooks h = {0};
    trueno_ctx *ctx = new_ctx(&h);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) assert_int_equal(pthread_create(&threads[i], NULL, hammer, ctx), 0);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    assert_int_equal(held(ctx), 0);
    assert_true(peak(ctx) >= 10000);
    assert_true(peak(ctx) < 100000);
    trueno_ctx_free(ctx);
    assert_int_equal(h.blocks, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_hooks_see_every_byte),
        cmocka_unit_test(test_sizes_that_wrap),
        cmocka_unit_test(test_failed_realloc_keeps_the_block),
        cmocka_unit_test(test_big_arrays),
        cmocka_unit_test(test_big_mappings),
        cmocka_unit_test(test_arena),
        cmocka_unit_test(test_failing_at_every_call),
        cmocka_unit_test(test_counters_with_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
