/* SPDX-License-Identifier: MIT */
/* What the GGUF tests share. */
#include "gguf/harness.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf/walk.h"

/* ----------------------------------------------------------------- memory */

static void *hook_realloc(void *user, void *ptr, size_t size_bytes)
{
    struct memory *m = user;
    m->calls++;
    if (size_bytes > m->largest) m->largest = size_bytes;
    if (m->calls == m->fail_at) return NULL;
    void *p = realloc(ptr, size_bytes ? size_bytes : 1);
    if (p && !ptr) m->live++;
    return p;
}

static void *hook_alloc(void *user, size_t size_bytes)
{
    return hook_realloc(user, NULL, size_bytes);
}

static void hook_free(void *user, void *ptr)
{
    struct memory *m = user;
    if (ptr) m->live--;
    free(ptr);
}

trueno_ctx *memory_ctx(struct memory *m)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx = NULL;
    opt.allocator = (trueno_allocator){hook_alloc, hook_realloc, hook_free, m};
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    return ctx;
}

/* The largest factors: 48 bytes kept for a pair of 14 bytes and up, three times that while the
 * table grows, and the metadata of a callback source twice. */
uint64_t memory_bound(uint64_t n)
{
    return 16 * n + 8192;
}

static void fail_request(action act, void *arg, uint64_t n, bool *reached)
{
    struct memory m = {0};
    trueno_error err = {TRUENO_OK, ""};
    uint64_t before, after;
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_ctx_memory(ctx, &before, NULL);
    m.fail_at = m.calls + n;
    trueno_status status = act(ctx, arg, &err);
    *reached = m.calls >= m.fail_at;
    trueno_ctx_memory(ctx, &after, NULL);
    assert_true(before == after);
    if (status) {
        assert_true(*reached);
        assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
        assert_int_equal(err.status, TRUENO_ERR_NO_MEMORY);
    }
    /* the same context works as soon as there is memory */
    m.fail_at = 0;
    assert_int_equal(act(ctx, arg, &err), TRUENO_OK);
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
}

/* A refused request may do no harm (a table that keeps unused room), so the end is not the first
 * success but the first run in which none was refused. */
void fail_each_request(action act, void *arg, size_t at_least)
{
    uint64_t n = 0;
    for (bool reached = true; reached;) fail_request(act, arg, ++n, &reached);
    print_message("%u requests failed in turn\n", (unsigned)n - 1);
    assert_true(n - 1 >= at_least);
}

/* ---------------------------------------------------------------- sources */

size_t bytes_read(void *user, void *dst, uint64_t offset, size_t size_bytes)
{
    struct bytes *b = user;
    b->calls++;
    b->total += size_bytes;
    size_t n = b->calls == b->fail_at ? b->give : size_bytes;
    if (offset > b->n) return 0;
    if (n > b->n - offset) n = (size_t)(b->n - offset);
    memcpy(dst, b->data + offset, n < size_bytes ? n : size_bytes);
    return n;
}

/* A message without the name of the source in front. */
static const char *after_label(const char *message)
{
    const char *colon = strstr(message, ": ");
    return colon ? colon : message;
}

struct outcome {
    trueno_status status;
    uint64_t walk;
    trueno_error err;
};

enum source { FROM_BUFFER, FROM_CALLBACK };

static struct outcome open_one(const uint8_t *data, size_t n, const trueno_gguf_options *opt,
                               enum source from)
{
    struct memory m = {0};
    struct bytes src = {.data = data, .n = n};
    struct outcome o = {.err = {TRUENO_OK, "untouched"}};
    trueno_ctx *ctx = memory_ctx(&m);
    uint64_t before, after, peak;
    trueno_ctx_memory(ctx, &before, NULL);
    m.largest = 0;
    trueno_gguf *g = (trueno_gguf *)&m; /* must be set to NULL on failure */
    if (from == FROM_BUFFER)
        o.status = trueno_gguf_open_buffer(ctx, &g, data, n, opt, &o.err);
    else
        o.status = trueno_gguf_open_reader(ctx, &g, bytes_read, &src, n, opt, &o.err);
    trueno_ctx_memory(ctx, NULL, &peak);
    assert_true(peak - before <= memory_bound(n));
    assert_true(m.largest <= memory_bound(n));
    if (o.status) {
        assert_null(g);
        assert_int_equal(o.err.status, o.status);
    } else {
        assert_string_equal(o.err.message, "untouched");
        o.walk = walk_gguf(g, !(opt && opt->metadata_only));
        trueno_gguf_free(g);
    }
    trueno_ctx_memory(ctx, &after, NULL);
    assert_true(after == before);
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
    return o;
}

void expect_open(const struct gb *b, const trueno_gguf_options *opt, trueno_status status,
                 const char *word)
{
    uint8_t *copy = malloc(b->n ? b->n : 1);
    assert_non_null(copy);
    if (b->n) memcpy(copy, b->data, b->n);
    struct outcome buffer = open_one(copy, b->n, opt, FROM_BUFFER);
    struct outcome callback = open_one(copy, b->n, opt, FROM_CALLBACK);
    free(copy);
    if (buffer.status != status) print_error("%s\n", buffer.err.message);
    assert_int_equal(buffer.status, status);
    assert_int_equal(callback.status, status);
    assert_true(buffer.walk == callback.walk);
    assert_string_equal(after_label(buffer.err.message), after_label(callback.err.message));
    if (word && !strstr(buffer.err.message, word))
        fail_msg("no '%s' in: %s", word, buffer.err.message);
}

static void keep_seed(const char *test, const struct gb *b)
{
    const char *dir = getenv("TRUENO_SEED_DIR");
    char path[4096];
    if (!dir || b->n >= 4096) return;
    uint64_t h = walk_add(0xcbf29ce484222325u, b->data, b->n);
    snprintf(path, sizeof path, "%s/%s-%04x.gguf", dir, test, (unsigned)(h & 0xffff));
    write_file(path, b->data, b->n);
}

void expect_case(const char *test, struct gb *b, trueno_status status, const char *word)
{
    keep_seed(test, b);
    expect_open(b, NULL, status, word);
    gb_free(b);
}

trueno_gguf *open_good(trueno_ctx *ctx, const struct gb *b)
{
    trueno_gguf *g = NULL;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_gguf_open_buffer(ctx, &g, b->data, b->n, NULL, &err)) fail_msg("%s", err.message);
    return g;
}

/* ------------------------------------------------------------------ files */

char *make_dir(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = path_in(base ? base : "/tmp", "trueno-test-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

char *path_in(const char *dir, const char *name)
{
    size_t n = strlen(dir) + strlen(name) + 2;
    char *path = malloc(n);
    assert_non_null(path);
    snprintf(path, n, "%s/%s", dir, name);
    return path;
}

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

void remove_dir(char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) {
        if (is_dot(e->d_name)) continue;
        char *path = path_in(dir, e->d_name);
        assert_int_equal(remove(path), 0);
        free(path);
    }
    closedir(d);
    assert_int_equal(rmdir(dir), 0);
    free(dir);
}

size_t count_files(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d));) n += !is_dot(e->d_name);
    closedir(d);
    return n;
}

void write_file(const char *path, const void *data, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fwrite(data, 1, n, f) == n);
    assert_int_equal(fclose(f), 0);
}

uint8_t *read_whole(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    long size = ftell(f);
    assert_true(size >= 0);
    rewind(f);
    uint8_t *data = malloc((size_t)size + 1);
    assert_non_null(data);
    assert_true(fread(data, 1, (size_t)size, f) == (size_t)size);
    fclose(f);
    *n = (size_t)size;
    return data;
}
