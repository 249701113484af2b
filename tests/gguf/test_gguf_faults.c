/* SPDX-License-Identifier: MIT */
/* Failures from outside: the N-th request for memory, the N-th call of a read callback. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/harness.h"
#include "gguf/walk.h"

/* A file that makes every table of the reader grow more than once. */
static struct gb busy_file(void)
{
    enum { N = 40 };
    struct gb b = {0};
    char name[32];
    gb_header(&b, N, N + 1);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "key.%d", i);
        gb_kv_str(&b, name, "value");
    }
    gb_array(&b, "tokens", 8, 5000);
    for (int i = 0; i < 5000; i++) gb_str(&b, "a token of 24 characters");
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "tensor.%d", i);
        gb_tensor1(&b, name, 8, 0, 32 * (uint64_t)i);
    }
    gb_pad(&b, 32);
    gb_fill(&b, 1, 32 * N);
    return b;
}

static trueno_status use(trueno_status status, trueno_gguf *g)
{
    if (!status) {
        assert_int_equal(trueno_gguf_n_kv(g), 41);
        assert_int_equal(trueno_gguf_n_tensors(g), 40);
        assert_int_equal(trueno_gguf_find_tensor(g, "tensor.39"), 39);
    }
    trueno_gguf_free(g);
    return status;
}

static trueno_status open_buffer(trueno_ctx *ctx, void *arg, trueno_error *err)
{
    struct gb *b = arg;
    trueno_gguf *g = NULL;
    trueno_status status = trueno_gguf_open_buffer(ctx, &g, b->data, b->n, NULL, err);
    return use(status, g);
}

static trueno_status open_reader(trueno_ctx *ctx, void *arg, trueno_error *err)
{
    struct gb *b = arg;
    struct bytes src = {.data = b->data, .n = b->n};
    trueno_gguf *g = NULL;
    trueno_status status = trueno_gguf_open_reader(ctx, &g, bytes_read, &src, b->n, NULL, err);
    return use(status, g);
}

static void no_memory_while_opening(void **state)
{
    (void)state;
    struct gb b = busy_file();
    fail_each_request(open_buffer, &b, 8);
    fail_each_request(open_reader, &b, 10);
    gb_free(&b);
}

/* Everything above a size fails, and goes on failing. */
static void *never(void *user, void *ptr, size_t size_bytes)
{
    (void)user;
    return size_bytes > 4096 ? NULL : realloc(ptr, size_bytes);
}

static void *never_alloc(void *user, size_t size_bytes)
{
    return never(user, NULL, size_bytes);
}

static void plain_free(void *user, void *ptr)
{
    (void)user;
    free(ptr);
}

static void no_memory_above_a_size(void **state)
{
    (void)state;
    struct gb b = busy_file();
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx = NULL;
    trueno_error err = {TRUENO_OK, ""};
    opt.allocator = (trueno_allocator){never_alloc, never, plain_free, NULL};
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    assert_int_equal(open_buffer(ctx, &b, &err), TRUENO_ERR_NO_MEMORY);
    assert_non_null(strstr(err.message, "'tokens': no memory"));
    assert_int_equal(open_reader(ctx, &b, &err), TRUENO_ERR_NO_MEMORY);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

/* ------------------------------------------------------------------ writer */

static trueno_status add_all(trueno_gguf_writer *w, const trueno_gguf *src)
{
    static const float floats[100] = {1, 2};
    static const trueno_str texts[2] = {{"one", 3}, {"two", 3}};
    trueno_status s = TRUENO_OK;
    const uint64_t ne[2] = {32, 3};
    char name[32];
    for (int i = 0; i < 20 && !s; i++) {
        snprintf(name, sizeof name, "key.u32.%d", i);
        s = trueno_gguf_writer_u32(w, name, 1);
    }
    if (!s) s = trueno_gguf_writer_str(w, "text", "text", 4);
    if (!s) s = trueno_gguf_writer_array(w, "floats", TRUENO_GGUF_F32, floats, 100);
    if (!s) s = trueno_gguf_writer_str_array(w, "texts", texts, 2);
    for (size_t i = 0; i < trueno_gguf_n_kv(src) && !s; i++)
        s = trueno_gguf_writer_copy_kv(w, src, i);
    for (int i = 0; i < 20 && !s; i++) {
        snprintf(name, sizeof name, "t%d", i);
        s = trueno_gguf_writer_tensor(w, name, TRUENO_TYPE_Q8_0, 2, ne);
    }
    return s;
}

struct write_args {
    const trueno_gguf *src;
    const char *path; /* NULL: in memory */
};

static trueno_status write_all(trueno_ctx *ctx, void *arg, trueno_error *err)
{
    static const uint8_t zeros[102];
    const struct write_args *a = arg;
    trueno_gguf_writer *w = NULL;
    err->status = TRUENO_ERR_NO_MEMORY; /* the calls that add have no message */
    trueno_status s = trueno_gguf_writer_new(ctx, &w);
    assert_true(!s == (w != NULL));
    if (!s) s = add_all(w, a->src);
    if (!s) s = trueno_gguf_writer_begin(w, a->path, err);
    for (int i = 0; i < 20 && !s; i++) s = trueno_gguf_writer_data(w, zeros, 102, err);
    if (!s) s = trueno_gguf_writer_finish(w, err);
    trueno_gguf_writer_free(w);
    return s;
}

static void no_memory_while_writing(void **state)
{
    (void)state;
    struct memory m = {0};
    struct gb b = busy_file();
    trueno_ctx *ctx = memory_ctx(&m);
    struct write_args a = {open_good(ctx, &b), NULL};
    char *dir = make_dir(), *path = path_in(dir, "out.gguf");
    size_t n;
    fail_each_request(write_all, &a, 10);
    a.path = path;
    fail_each_request(write_all, &a, 10);
    assert_int_equal(count_files(dir), 1);
    uint8_t *file = read_whole(path, &n);
    assert_non_null(file);
    free(file);
    trueno_gguf_free((trueno_gguf *)(uintptr_t)a.src);
    trueno_ctx_free(ctx);
    gb_free(&b);
    free(path);
    remove_dir(dir);
}

/* One writer, whose every call is repeated until it succeeds, with the first, second, ... request
 * failing: no failure may leave a trace in the file. */
struct repeat {
    struct memory *m;
    uint64_t k; /* the request that fails next; 0: none does */
};

static bool again(struct repeat *r, trueno_status status)
{
    r->m->fail_at = 0;
    if (status) assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
    if (status) r->k++;
    return status != TRUENO_OK;
}

static void arm(struct repeat *r)
{
    if (r->k) r->m->fail_at = r->m->calls + r->k;
}

static trueno_gguf_writer *build(trueno_ctx *ctx, struct memory *m, bool failing)
{
    trueno_gguf_writer *w = NULL;
    const uint64_t ne = 3;
    char name[32];
    struct repeat r = {m, 0};
    assert_int_equal(trueno_gguf_writer_new(ctx, &w), TRUENO_OK);
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "name.%d", i);
        r.k = failing;
        do arm(&r);
        while (again(&r, trueno_gguf_writer_str(w, name, "value", 5)));
        r.k = failing;
        do arm(&r);
        while (again(&r, trueno_gguf_writer_tensor(w, name, TRUENO_TYPE_I8, 1, &ne)));
    }
    r.k = failing;
    do arm(&r);
    while (again(&r, trueno_gguf_writer_begin(w, NULL, NULL)));
    assert_true(!failing || r.k > 2); /* head and image were refused in turn */
    for (int i = 0; i < 100; i++)
        assert_int_equal(trueno_gguf_writer_data(w, "abc", 3, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_finish(w, NULL), TRUENO_OK);
    return w;
}

static void failed_calls_can_be_repeated(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf_writer *plain = build(ctx, &m, false), *failing = build(ctx, &m, true);
    size_t n, n_failing;
    const void *image = trueno_gguf_writer_buffer(plain, &n);
    const void *image_failing = trueno_gguf_writer_buffer(failing, &n_failing);
    assert_int_equal(n, n_failing);
    assert_memory_equal(image, image_failing, n);
    trueno_gguf_writer_free(plain);
    trueno_gguf_writer_free(failing);
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
}

/* --------------------------------------------------------------- callback */

/* Each call in turn gives fewer bytes than asked for, or claims more. */
static void read_calls_that_fail(void **state)
{
    (void)state;
    static const size_t gives[] = {0, 1, 4096, SIZE_MAX};
    struct gb b = busy_file();
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    for (size_t k = 0; k < sizeof gives / sizeof gives[0]; k++) {
        uint64_t n = 0;
        trueno_status status = TRUENO_ERR_IO;
        while (status) {
            struct bytes src = {.data = b.data, .n = b.n, .fail_at = ++n, .give = gives[k]};
            trueno_gguf *g = (trueno_gguf *)&src;
            trueno_error err = {TRUENO_OK, ""};
            status = trueno_gguf_open_reader(ctx, &g, bytes_read, &src, b.n, NULL, &err);
            if (status) {
                assert_int_equal(status, TRUENO_ERR_IO);
                assert_null(g);
                assert_non_null(strstr(err.message, "reader: the callback gave"));
                continue;
            }
            /* then the calls that read tensor data */
            uint8_t out[32];
            src.fail_at = src.calls + 1;
            src.give = 31;
            assert_int_equal(trueno_gguf_tensor_read(g, 3, 0, out, 32, &err), TRUENO_ERR_IO);
            assert_int_equal(trueno_gguf_tensor_read(g, 3, 0, out, 32, &err), TRUENO_OK);
            assert_int_equal(out[31], 1);
            trueno_gguf_free(g);
        }
        assert_true(n > 2);
    }
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
    gb_free(&b);
}

/* The callback has less than it said: nothing is believed that was not read. */
static void size_that_lies(void **state)
{
    (void)state;
    static const uint64_t lies[] = {UINT64_MAX, (uint64_t)1 << 63, (uint64_t)1 << 40};
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_header(&b, 65536, 65536);
    gb_array(&b, "tokens", 8, 1 << 24);
    gb_str(&b, "x");
    gb_u64(&b, 16 << 20); /* a string that would fit into what is said to be left */
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        struct bytes src = {.data = b.data, .n = b.n};
        trueno_gguf *g = NULL;
        m.largest = 0;
        assert_int_equal(trueno_gguf_open_reader(ctx, &g, bytes_read, &src, lies[i], NULL, NULL),
                         TRUENO_ERR_IO);
        assert_true(m.largest <= (64 << 10) + 64); /* one chunk */
    }
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
    gb_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_memory_while_opening), cmocka_unit_test(no_memory_above_a_size),
        cmocka_unit_test(no_memory_while_writing), cmocka_unit_test(failed_calls_can_be_repeated),
        cmocka_unit_test(read_calls_that_fail),    cmocka_unit_test(size_that_lies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
