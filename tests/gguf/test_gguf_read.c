/* SPDX-License-Identifier: MIT */
/* Reading good files: every value type through every getter, all ways of opening, arguments. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf/harness.h"
#include "gguf/walk.h"

/* ---------------------------------------------------------- conversion table */

/* What the getters must say of one value, told apart by who accepts it. */
struct value {
    const char *key;
    uint32_t type;
    uint64_t bits; /* little-endian, as many bytes as the type has */
    bool u64_ok, i64_ok, f64_ok, bool_ok;
    uint64_t u64;
    int64_t i64;
    double f64;
};

static const struct value values[] = {
    {"u8", 0, 200, true, true, false, false, 200, 200, 0},
    {"i8+", 1, 127, true, true, false, false, 127, 127, 0},
    {"i8-", 1, 0x80, false, true, false, false, 0, -128, 0},
    {"u16", 2, 65535, true, true, false, false, 65535, 65535, 0},
    {"i16+", 3, 32767, true, true, false, false, 32767, 32767, 0},
    {"i16-", 3, 0xfffe, false, true, false, false, 0, -2, 0},
    {"u32", 4, 0xffffffff, true, true, false, false, 4294967295u, 4294967295, 0},
    {"i32+", 5, 1, true, true, false, false, 1, 1, 0},
    {"i32-", 5, 0x80000000, false, true, false, false, 0, INT32_MIN, 0},
    {"f32", 6, 0x40490fdb, false, false, true, false, 0, 0, 3.1415927410125732},
    {"f32-", 6, 0xc0000000, false, false, true, false, 0, 0, -2},
    {"true", 7, 1, false, false, false, true, 1, 0, 0},
    {"false", 7, 0, false, false, false, true, 0, 0, 0},
    {"u64", 10, INT64_MAX, true, true, false, false, INT64_MAX, INT64_MAX, 0},
    {"u64 large", 10, UINT64_MAX, true, false, false, false, UINT64_MAX, 0, 0},
    {"u64 2^63", 10, (uint64_t)1 << 63, true, false, false, false, (uint64_t)1 << 63, 0, 0},
    {"i64+", 11, 5, true, true, false, false, 5, 5, 0},
    {"i64-", 11, UINT64_MAX, false, true, false, false, 0, -1, 0},
    {"i64 min", 11, (uint64_t)1 << 63, false, true, false, false, 0, INT64_MIN, 0},
    {"f64", 12, 0x400921fb54442d18, false, false, true, false, 0, 0, 3.141592653589793},
};
enum { N_VALUES = sizeof values / sizeof values[0] };

static const uint8_t type_bytes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static void put_value(struct gb *b, const struct value *v)
{
    for (size_t i = 0; i < type_bytes[v->type]; i++) gb_u8(b, (uint8_t)(v->bits >> 8 * i));
}

/* All values as scalars, then all as arrays whose second element is the value, then a string and an
 * array of strings. */
static struct gb all_values(uint32_t version)
{
    struct gb b = {0};
    gb_header(&b, 0, 2 * N_VALUES + 2);
    gb_poke(&b, 4, version, 4);
    for (size_t i = 0; i < N_VALUES; i++) {
        gb_key(&b, values[i].key, values[i].type);
        put_value(&b, &values[i]);
    }
    for (size_t i = 0; i < N_VALUES; i++) {
        char key[32];
        snprintf(key, sizeof key, "array of %s", values[i].key);
        gb_array(&b, key, values[i].type, 2);
        put_value(&b, &(struct value){.type = values[i].type});
        put_value(&b, &values[i]);
    }
    gb_key(&b, "text", 8);
    gb_strn(&b, "a\0\xff", 3);
    gb_array(&b, "texts", 8, 4);
    gb_str(&b, "first");
    gb_str(&b, "");
    gb_strn(&b, "\0", 1);
    gb_str(&b, "last");
    return b;
}

static trueno_status expected(bool ok)
{
    return ok ? TRUENO_OK : TRUENO_ERR_CORRUPT;
}

static void check_getters(const trueno_gguf *g, const struct value *v)
{
    uint64_t u = 99;
    int64_t s = 99;
    double f = 99;
    bool b = true;
    trueno_str t = {"x", 1};
    trueno_error err = {TRUENO_OK, ""};
    assert_int_equal(trueno_gguf_get_u64(g, v->key, &u, NULL), expected(v->u64_ok));
    assert_true(u == (v->u64_ok ? v->u64 : 0));
    assert_int_equal(trueno_gguf_get_i64(g, v->key, &s, NULL), expected(v->i64_ok));
    assert_true(s == v->i64);
    assert_int_equal(trueno_gguf_get_f64(g, v->key, &f, NULL), expected(v->f64_ok));
    assert_true(f == v->f64);
    assert_int_equal(trueno_gguf_get_bool(g, v->key, &b, NULL), expected(v->bool_ok));
    assert_true(b == (v->bool_ok && v->u64));
    assert_int_equal(trueno_gguf_get_str(g, v->key, &t, &err), TRUENO_ERR_CORRUPT);
    assert_true(t.len == 0 && !t.data);
    assert_int_equal(err.status, TRUENO_ERR_CORRUPT);
    assert_non_null(strstr(err.message, v->key));
}

static void check_elements(const trueno_gguf *g, size_t kv, uint64_t elem, const struct value *v)
{
    uint64_t u = 99;
    int64_t s = 99;
    double f = 99;
    bool b = true;
    trueno_str t = {"x", 1};
    assert_int_equal(trueno_gguf_elem_u64(g, kv, elem, &u), expected(v->u64_ok));
    assert_true(u == (v->u64_ok ? v->u64 : 0));
    assert_int_equal(trueno_gguf_elem_i64(g, kv, elem, &s), expected(v->i64_ok));
    assert_true(s == v->i64);
    assert_int_equal(trueno_gguf_elem_f64(g, kv, elem, &f), expected(v->f64_ok));
    assert_true(f == v->f64);
    assert_int_equal(trueno_gguf_elem_bool(g, kv, elem, &b), expected(v->bool_ok));
    assert_true(b == (v->bool_ok && v->u64));
    assert_int_equal(trueno_gguf_elem_str(g, kv, elem, &t), TRUENO_ERR_CORRUPT);
    assert_true(t.len == 0 && !t.data);
    assert_int_equal(trueno_gguf_elem_u64(g, kv, elem + 1, &u), TRUENO_ERR_ARGUMENT);
    assert_true(u == 0);
    assert_int_equal(trueno_gguf_elem_i64(g, kv, UINT64_MAX, &s), TRUENO_ERR_ARGUMENT);
}

static void all_types_through_all_getters(void **state)
{
    (void)state;
    for (uint32_t version = 2; version <= 3; version++) {
        struct memory m = {0};
        trueno_ctx *ctx = memory_ctx(&m);
        struct gb b = all_values(version);
        trueno_gguf *g = open_good(ctx, &b);
        assert_int_equal(trueno_gguf_version(g), version);
        assert_int_equal(trueno_gguf_n_kv(g), 2 * N_VALUES + 2);
        for (size_t i = 0; i < N_VALUES; i++) {
            trueno_gguf_kv kv;
            check_getters(g, &values[i]);
            check_elements(g, i, 0, &values[i]);
            check_elements(g, N_VALUES + i, 1, &values[i]);
            assert_int_equal(trueno_gguf_kv_at(g, N_VALUES + i, &kv), TRUENO_OK);
            assert_int_equal(kv.type, TRUENO_GGUF_ARRAY);
            assert_int_equal(kv.elem_type, values[i].type);
            assert_true(kv.count == 2);
            size_t n = type_bytes[values[i].type];
            const uint8_t *data = trueno_gguf_kv_data(g, N_VALUES + i);
            for (size_t k = 0; k < n; k++)
                assert_int_equal(data[n + k], (values[i].bits >> 8 * k) & 255);
        }
        trueno_gguf_free(g);
        trueno_ctx_free(ctx);
        expect_ok(&b); /* through a callback too */
    }
}

static void strings(void **state)
{
    (void)state;
    static const trueno_str texts[] = {{"first", 5}, {"", 0}, {"\0", 1}, {"last", 4}};
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = all_values(3);
    trueno_gguf *g = open_good(ctx, &b);
    trueno_str s;
    trueno_error err;
    double f;
    assert_int_equal(trueno_gguf_get_str(g, "text", &s, NULL), TRUENO_OK);
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.data, "a\0\xff", 3);
    ptrdiff_t i = trueno_gguf_find(g, "texts");
    assert_true(i == 2 * N_VALUES + 1);
    for (size_t k = 0; k < 4; k++) {
        assert_int_equal(trueno_gguf_elem_str(g, (size_t)i, k, &s), TRUENO_OK);
        assert_int_equal(s.len, texts[k].len);
        assert_memory_equal(s.data, texts[k].data, s.len);
    }
    assert_int_equal(trueno_gguf_elem_str(g, (size_t)i, 4, &s), TRUENO_ERR_ARGUMENT);
    assert_null(trueno_gguf_kv_data(g, (size_t)i));
    assert_null(trueno_gguf_kv_data(g, trueno_gguf_n_kv(g)));
    /* wrong types, in words */
    assert_int_equal(trueno_gguf_get_str(g, "texts", &s, &err), TRUENO_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "key 'texts' is of type array, string is expected"));
    assert_int_equal(trueno_gguf_get_f64(g, "text", &f, &err), TRUENO_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "key 'text' is of type string, f32 or f64 is expected"));
    uint64_t u;
    assert_int_equal(trueno_gguf_get_u64(g, "i64 min", &u, &err), TRUENO_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is i64 -9223372036854775808, an integer >= 0"));
    int64_t n;
    assert_int_equal(trueno_gguf_get_i64(g, "u64 large", &n, &err), TRUENO_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "is u64 18446744073709551615"));
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

static void missing_keys_leave_the_default(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_sample(&b);
    trueno_gguf *g = open_good(ctx, &b);
    uint64_t u = 7;
    double f = 0.5;
    bool flag = true;
    trueno_str s = {"dflt", 4};
    trueno_error err = {TRUENO_OK, ""};
    assert_int_equal(trueno_gguf_get_u64(g, "llama.block_coun", &u, &err), TRUENO_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no key 'llama.block_coun'"));
    assert_int_equal(trueno_gguf_get_u64(g, "llama.block_count2", &u, NULL), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(trueno_gguf_get_f64(g, "", &f, NULL), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(trueno_gguf_get_bool(g, "no", &flag, NULL), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(trueno_gguf_get_str(g, "no", &s, NULL), TRUENO_ERR_NOT_FOUND);
    assert_true(u == 7 && f == 0.5 && flag && s.len == 4);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

/* ------------------------------------------------------------ ways of opening */

static uint64_t walk_path(trueno_ctx *ctx, const char *path, bool no_mmap, bool metadata_only)
{
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    trueno_gguf *g = NULL;
    trueno_error err = {TRUENO_OK, ""};
    opt.no_mmap = no_mmap;
    opt.metadata_only = metadata_only;
    if (trueno_gguf_open(ctx, &g, path, &opt, &err)) fail_msg("%s", err.message);
    assert_true(trueno_gguf_ctx(g) == ctx);
    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++)
        assert_true(!trueno_gguf_tensor_data(g, i) == (no_mmap || metadata_only));
    uint64_t h = walk_gguf(g, !metadata_only);
    trueno_gguf_free(g);
    return h;
}

static void all_sources_show_the_same(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_sample(&b);
    char *dir = make_dir(), *path = path_in(dir, "f.gguf");
    write_file(path, b.data, b.n);
    trueno_gguf *g = open_good(ctx, &b);
    uint64_t buffer = walk_gguf(g, true), meta = walk_gguf(g, false);
    trueno_gguf_free(g);
    assert_true(walk_path(ctx, path, false, false) == buffer);
    assert_true(walk_path(ctx, path, true, false) == buffer);
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    struct bytes src = {.data = b.data, .n = b.n};
    assert_int_equal(trueno_gguf_open_reader(ctx, &g, bytes_read, &src, b.n, &opt, NULL),
                     TRUENO_OK);
    assert_true(walk_gguf(g, true) == buffer);
    trueno_gguf_free(g);
    /* metadata alone: from all four, and from files that end where data starts */
    opt.metadata_only = true;
    assert_true(buffer != meta); /* else the walk would not see data */
    uint64_t path_meta = walk_path(ctx, path, false, true);
    assert_true(walk_path(ctx, path, true, true) == path_meta);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &g, b.data, b.n, &opt, NULL), TRUENO_OK);
    assert_true(walk_gguf(g, false) == path_meta && path_meta == meta);
    trueno_gguf_free(g);
    remove_dir(dir);
    free(path);
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
    gb_free(&b);
}

/* Metadata larger than the first chunk, so that the table moves while it is read. */
static void large_metadata_through_a_callback(void **state)
{
    (void)state;
    enum { N = 40000 };
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_header(&b, 1, 2);
    gb_kv_u32(&b, "first", 5);
    gb_array(&b, "tokens", 8, N);
    for (int i = 0; i < N; i++) {
        char text[24];
        snprintf(text, sizeof text, "token%d", i);
        gb_str(&b, text);
    }
    gb_tensor1(&b, "t", 1 << 20, 0, 0);
    gb_pad(&b, 32);
    gb_fill(&b, 9, (size_t)4 << 20);
    struct bytes src = {.data = b.data, .n = b.n};
    trueno_gguf *g = open_good(ctx, &b), *r = NULL;
    uint64_t before, now;
    trueno_ctx_memory(ctx, &before, NULL);
    assert_int_equal(trueno_gguf_open_reader(ctx, &r, bytes_read, &src, b.n, NULL, NULL),
                     TRUENO_OK);
    trueno_ctx_memory(ctx, &now, NULL);
    const uint64_t metadata = b.n - ((uint64_t)4 << 20);
    assert_true(src.total < 2 * metadata);                     /* tensor data is not fetched */
    assert_true(now - before < metadata + 8 * (N + 1) + 4096); /* nor kept */
    assert_true(walk_gguf(g, true) == walk_gguf(r, true));
    trueno_str s;
    assert_int_equal(trueno_gguf_elem_str(r, 1, 39999, &s), TRUENO_OK);
    assert_int_equal(s.len, 10);
    assert_memory_equal(s.data, "token39999", 10);
    trueno_gguf_free(r);
    /* the cap on what is copied */
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    trueno_error err;
    opt.max_metadata_bytes = metadata - 64;
    assert_int_equal(trueno_gguf_open_reader(ctx, &r, bytes_read, &src, b.n, &opt, &err),
                     TRUENO_ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "max_metadata_bytes"));
    opt.max_metadata_bytes = metadata;
    assert_int_equal(trueno_gguf_open_reader(ctx, &r, bytes_read, &src, b.n, &opt, NULL),
                     TRUENO_OK);
    trueno_gguf_free(r);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

/* Records of the largest size that the file's own numbers allow, in one word each. */
static void every_key_and_tensor_is_found(void **state)
{
    (void)state;
    enum { N = 3000 };
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    char name[32];
    gb_header(&b, N, N);
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "key.%d", i);
        gb_kv_u32(&b, name, (uint32_t)i);
    }
    for (int i = 0; i < N; i++) {
        snprintf(name, sizeof name, "blk.%d.weight", i);
        gb_tensor1(&b, name, 1, 0, 32 * (uint64_t)i);
    }
    gb_pad(&b, 32);
    gb_fill(&b, 0, 32 * N);
    trueno_gguf *g = open_good(ctx, &b);
    for (int i = 0; i < N; i++) {
        uint64_t x = 0;
        snprintf(name, sizeof name, "key.%d", i);
        assert_true(trueno_gguf_find(g, name) == i);
        assert_int_equal(trueno_gguf_get_u64(g, name, &x, NULL), TRUENO_OK);
        assert_true(x == (uint64_t)i);
        snprintf(name, sizeof name, "blk.%d.weight", i);
        assert_true(trueno_gguf_find_tensor(g, name) == i);
        assert_true(trueno_gguf_find(g, name) == -1);
    }
    assert_true(trueno_gguf_find_tensor(g, "blk.3000.weight") == -1);
    assert_true(trueno_gguf_find_tensor(g, "blk.1.weigh") == -1);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

/* ------------------------------------------------------------- tensor data */

static void parts_of_tensors(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_sample(&b);
    trueno_gguf *g = open_good(ctx, &b);
    trueno_gguf_tensor t;
    trueno_error err;
    uint8_t out[68];
    assert_int_equal(trueno_gguf_tensor_at(g, 0, &t), TRUENO_OK);
    assert_int_equal(t.name.len, 17);
    assert_memory_equal(t.name.data, "token_embd.weight", 17);
    assert_int_equal(t.type, TRUENO_TYPE_Q8_0);
    assert_true(t.n_dims == 2 && t.ne[0] == 32 && t.ne[1] == 2 && t.ne[2] == 1 && t.ne[3] == 1);
    assert_true(t.size_bytes == 68 && t.shard == 0);
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 0, out, 68, NULL), TRUENO_OK);
    for (int i = 0; i < 68; i++) assert_int_equal(out[i], (uint8_t)(i * 7 + 1));
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 67, out, 1, NULL), TRUENO_OK);
    assert_int_equal(out[0], (uint8_t)(67 * 7 + 1));
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 68, out, 0, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 67, out, 2, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 69, out, 0, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_tensor_read(g, 0, UINT64_MAX, out, 2, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 1, out, SIZE_MAX, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_tensor_read(g, 2, 0, out, 1, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_tensor_read(g, 0, 0, NULL, 1, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_tensor_read(NULL, 0, 0, out, 1, &err), TRUENO_ERR_ARGUMENT);
    assert_null(trueno_gguf_tensor_data(g, 2));
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

static void file_that_shrinks(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_sample(&b);
    char *dir = make_dir(), *path = path_in(dir, "f.gguf");
    for (int no_mmap = 0; no_mmap < 2; no_mmap++) {
        trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
        trueno_gguf *g = NULL;
        trueno_error err = {TRUENO_OK, ""};
        uint8_t out[20];
        opt.no_mmap = no_mmap;
        write_file(path, b.data, b.n);
        assert_int_equal(trueno_gguf_open(ctx, &g, path, &opt, NULL), TRUENO_OK);
        assert_int_equal(truncate(path, (long)b.n - 1), 0);
        assert_int_equal(trueno_gguf_tensor_read(g, 1, 0, out, 20, &err), TRUENO_ERR_TRUNCATED);
        assert_non_null(strstr(err.message, "f.gguf: "));
        assert_int_equal(trueno_gguf_tensor_read(g, 1, 0, out, 19, &err), TRUENO_OK);
        trueno_gguf_free(g);
    }
    remove_dir(dir);
    free(path);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

/* Metadata of a file whose data is not all there: what is there can be read. */
static void data_that_is_missing(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_sample(&b);
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    trueno_gguf *g = NULL;
    trueno_error err = {TRUENO_OK, ""};
    uint8_t out[20];
    opt.metadata_only = true;
    assert_int_equal(trueno_gguf_open_buffer(ctx, &g, b.data, b.n - 10, &opt, NULL), TRUENO_OK);
    assert_null(trueno_gguf_tensor_data(g, 1));
    assert_int_equal(trueno_gguf_tensor_read(g, 1, 0, out, 10, NULL), TRUENO_OK);
    assert_int_equal(out[9], (uint8_t)(105 * 7 + 1));
    assert_int_equal(trueno_gguf_tensor_read(g, 1, 0, out, 11, &err), TRUENO_ERR_TRUNCATED);
    assert_non_null(strstr(err.message, "11 bytes at offset"));
    assert_int_equal(trueno_gguf_tensor_read(g, 1, 19, out, 1, &err), TRUENO_ERR_TRUNCATED);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    gb_free(&b);
}

static void files_that_are_none(void **state)
{
    (void)state;
    static const char *const paths[] = {"/", "/dev/zero", "/dev/null", "/nonexistent/x.gguf"};
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        trueno_gguf *g = (trueno_gguf *)&m;
        trueno_error err = {TRUENO_OK, ""};
        assert_int_equal(trueno_gguf_open(ctx, &g, paths[i], NULL, &err), TRUENO_ERR_IO);
        assert_null(g);
        assert_non_null(strstr(err.message, paths[i]));
    }
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
}

/* -------------------------------------------------------------- arguments */

static void wrong_arguments(void **state)
{
    (void)state;
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    struct gb b = {0};
    gb_sample(&b);
    trueno_gguf *g = (trueno_gguf *)&m;
    trueno_error err;
    assert_int_equal(trueno_gguf_open(NULL, &g, "x", NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_null(g);
    assert_int_equal(trueno_gguf_open(ctx, NULL, "x", NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_open(ctx, &g, NULL, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_open_buffer(NULL, &g, b.data, b.n, NULL, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &g, NULL, 1, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &g, NULL, 0, NULL, NULL), TRUENO_ERR_TRUNCATED);
    assert_int_equal(trueno_gguf_open_reader(ctx, &g, NULL, NULL, 1, NULL, &err),
                     TRUENO_ERR_ARGUMENT);
    static const size_t sizes[] = {0, 4, sizeof(trueno_gguf_options) - 1, SIZE_MAX, 1 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
        opt.struct_size = sizes[i];
        assert_int_equal(trueno_gguf_open_buffer(ctx, &g, b.data, b.n, &opt, &err),
                         TRUENO_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "struct_size"));
    }
    trueno_gguf_free(NULL);
    assert_int_equal(trueno_gguf_n_kv(NULL), 0);
    assert_int_equal(trueno_gguf_n_tensors(NULL), 0);
    assert_int_equal(trueno_gguf_n_shards(NULL), 0);
    assert_int_equal(trueno_gguf_version(NULL), 0);
    assert_int_equal(trueno_gguf_find(NULL, "x"), -1);
    assert_int_equal(trueno_gguf_find_tensor(NULL, "x"), -1);
    assert_null(trueno_gguf_tensor_data(NULL, 0));
    assert_null(trueno_gguf_kv_data(NULL, 0));
    assert_null(trueno_gguf_ctx(NULL));
    g = open_good(ctx, &b);
    uint64_t u;
    assert_int_equal(trueno_gguf_get_u64(NULL, "x", &u, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_get_u64(g, NULL, &u, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_get_u64(g, "x", NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_elem_u64(NULL, 0, 0, &u), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_elem_u64(g, 0, 0, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_elem_u64(g, SIZE_MAX, 0, &u), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_kv_at(g, 0, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_tensor_at(g, 0, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_find(g, NULL), -1);
    trueno_ctx_free(ctx); /* before the object that was made from it */
    trueno_gguf_free(g);
    assert_true(m.live == 0);
    gb_free(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_types_through_all_getters),
        cmocka_unit_test(strings),
        cmocka_unit_test(missing_keys_leave_the_default),
        cmocka_unit_test(all_sources_show_the_same),
        cmocka_unit_test(large_metadata_through_a_callback),
        cmocka_unit_test(every_key_and_tensor_is_found),
        cmocka_unit_test(parts_of_tensors),
        cmocka_unit_test(file_that_shrinks),
        cmocka_unit_test(data_that_is_missing),
        cmocka_unit_test(files_that_are_none),
        cmocka_unit_test(wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
