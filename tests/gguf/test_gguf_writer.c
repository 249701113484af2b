/* SPDX-License-Identifier: MIT */
/* The writer: files byte for byte as the format says, round trips, and failures that leave an older
 * file as it was. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gguf/harness.h"
#include "gguf/walk.h"

struct fixture {
    struct memory memory;
    trueno_ctx *ctx;
    trueno_gguf_writer *w;
    char *dir, *path;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->ctx = memory_ctx(&f->memory);
    f->dir = make_dir();
    f->path = path_in(f->dir, "out.gguf");
    assert_int_equal(trueno_gguf_writer_new(f->ctx, &f->w), TRUENO_OK);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    trueno_gguf_writer_free(f->w);
    trueno_ctx_free(f->ctx);
    assert_true(f->memory.live == 0);
    remove_dir(f->dir);
    free(f->path);
    free(f);
    return 0;
}

static void ok(trueno_status status)
{
    assert_int_equal(status, TRUENO_OK);
}

static void bad(trueno_status status)
{
    assert_int_equal(status, TRUENO_ERR_ARGUMENT);
}

static const uint8_t data[256] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};

/* The file of gb_sample through the writer. */
static void add_sample(trueno_gguf_writer *w)
{
    static const trueno_str tokens[3] = {{"a", 1}, {NULL, 0}, {"bcd", 3}};
    static const float scores[2] = {0.5f, -2.0f};
    const uint64_t ne[2] = {32, 2}, n = 5;
    ok(trueno_gguf_writer_str(w, "general.architecture", "llama", 5));
    ok(trueno_gguf_writer_u32(w, "llama.block_count", 7));
    ok(trueno_gguf_writer_bool(w, "add_bos", true));
    ok(trueno_gguf_writer_str_array(w, "tokens", tokens, 3));
    ok(trueno_gguf_writer_array(w, "scores", TRUENO_GGUF_F32, scores, 2));
    ok(trueno_gguf_writer_tensor(w, "token_embd.weight", TRUENO_TYPE_Q8_0, 2, ne));
    ok(trueno_gguf_writer_tensor(w, "output_norm.weight", TRUENO_TYPE_F32, 1, &n));
}

/* Data as in gb_sample, in pieces of `piece` bytes. */
static void add_data(trueno_gguf_writer *w, size_t piece)
{
    static const size_t begin[2] = {0, 96}, bytes[2] = {68, 20};
    uint8_t all[116];
    for (int i = 0; i < 116; i++) all[i] = (uint8_t)(i * 7 + 1);
    for (int t = 0; t < 2; t++) {
        for (size_t at = 0; at < bytes[t]; at += piece) {
            size_t n = bytes[t] - at < piece ? bytes[t] - at : piece;
            ok(trueno_gguf_writer_data(w, all + begin[t] + at, n, NULL));
        }
    }
}

/* What the writer must give: the sample with the key that it adds, zeros as padding, a pad at the
 * end. */
static struct gb expected_sample(void)
{
    struct gb b = {0}, s = {0};
    gb_sample(&s);
    const size_t table = 8 + 17 + 4 + 16 + 4 + 8 + 8 + 18 + 4 + 8 + 4 + 8;
    const size_t unpadded = 24 + (8 + 20 + 4 + 8 + 5) + (8 + 17 + 8) + (8 + 7 + 5) +
                            (8 + 6 + 4 + 12 + 24 + 4) + (8 + 6 + 4 + 12 + 8) + table;
    const size_t start = s.n - 116;
    gb_bytes(&b, s.data, unpadded - table);
    gb_poke(&b, 16, 6, 8);
    gb_kv_u32(&b, "general.quantization_version", 2);
    gb_bytes(&b, s.data + unpadded - table, table);
    gb_pad(&b, 32);
    gb_bytes(&b, s.data + start, 68);
    gb_fill(&b, 0, 28);
    gb_bytes(&b, s.data + start + 96, 20);
    gb_fill(&b, 0, 12);
    gb_free(&s);
    return b;
}

/* ------------------------------------------------------------------- bytes */

static void file_is_byte_for_byte_right(void **state)
{
    struct fixture *f = *state;
    struct gb want = expected_sample();
    size_t n = 99;
    add_sample(f->w);
    assert_null(trueno_gguf_writer_buffer(f->w, &n));
    assert_int_equal(n, 0);
    ok(trueno_gguf_writer_begin(f->w, NULL, NULL));
    add_data(f->w, 1000);
    ok(trueno_gguf_writer_finish(f->w, NULL));
    const void *image = trueno_gguf_writer_buffer(f->w, &n);
    assert_int_equal(n, want.n);
    assert_memory_equal(image, want.data, n);
    /* in pieces, to a file, from another writer */
    trueno_gguf_writer *w = NULL;
    ok(trueno_gguf_writer_new(f->ctx, &w));
    add_sample(w);
    ok(trueno_gguf_writer_begin(w, f->path, NULL));
    add_data(w, 7);
    assert_null(read_whole(f->path, &n)); /* appears when it is complete */
    ok(trueno_gguf_writer_finish(w, NULL));
    assert_null(trueno_gguf_writer_buffer(w, &n));
    trueno_gguf_writer_free(w);
    uint8_t *file = read_whole(f->path, &n);
    assert_non_null(file);
    assert_int_equal(n, want.n);
    assert_memory_equal(file, want.data, n);
    assert_int_equal(count_files(f->dir), 1);
    free(file);
    gb_free(&want);
}

static void empty_file(void **state)
{
    struct fixture *f = *state;
    size_t n = 0;
    ok(trueno_gguf_writer_begin(f->w, NULL, NULL));
    ok(trueno_gguf_writer_finish(f->w, NULL));
    const uint8_t *image = trueno_gguf_writer_buffer(f->w, &n);
    struct gb want = {0};
    gb_header(&want, 0, 0);
    gb_pad(&want, 32);
    assert_int_equal(n, want.n);
    assert_memory_equal(image, want.data, n);
    gb_free(&want);
}

/* -------------------------------------------------------------- round trips */

static trueno_gguf *finished(struct fixture *f)
{
    size_t n = 0;
    trueno_gguf *g = NULL;
    trueno_error err = {TRUENO_OK, ""};
    ok(trueno_gguf_writer_finish(f->w, NULL));
    const void *image = trueno_gguf_writer_buffer(f->w, &n);
    if (trueno_gguf_open_buffer(f->ctx, &g, image, n, NULL, &err)) fail_msg("%s", err.message);
    return g;
}

static void scalars_and_arrays_come_back(void **state)
{
    struct fixture *f = *state;
    static const int16_t i16[3] = {-1, 0, INT16_MAX};
    static const uint64_t u64[2] = {UINT64_MAX, 1};
    static const double f64[2] = {-0.1, 1e300};
    static const bool flags[3] = {true, false, true};
    static const uint8_t u8[2] = {255, 0};
    ok(trueno_gguf_writer_u32(f->w, "u32", UINT32_MAX));
    ok(trueno_gguf_writer_i32(f->w, "i32", INT32_MIN));
    ok(trueno_gguf_writer_u64(f->w, "u64", UINT64_MAX));
    ok(trueno_gguf_writer_f32(f->w, "f32", 1e-5f));
    ok(trueno_gguf_writer_bool(f->w, "bool", false));
    ok(trueno_gguf_writer_str(f->w, "str", "x\0y", 3));
    ok(trueno_gguf_writer_str(f->w, "empty", NULL, 0));
    ok(trueno_gguf_writer_array(f->w, "i16s", TRUENO_GGUF_I16, i16, 3));
    ok(trueno_gguf_writer_array(f->w, "u64s", TRUENO_GGUF_U64, u64, 2));
    ok(trueno_gguf_writer_array(f->w, "f64s", TRUENO_GGUF_F64, f64, 2));
    ok(trueno_gguf_writer_array(f->w, "bools", TRUENO_GGUF_BOOL, flags, 3));
    ok(trueno_gguf_writer_array(f->w, "u8s", TRUENO_GGUF_U8, u8, 2));
    ok(trueno_gguf_writer_array(f->w, "none", TRUENO_GGUF_F32, NULL, 0));
    ok(trueno_gguf_writer_str_array(f->w, "no strings", NULL, 0));
    ok(trueno_gguf_writer_begin(f->w, NULL, NULL));
    trueno_gguf *g = finished(f);
    uint64_t u;
    int64_t i;
    double d;
    bool b = true;
    trueno_str s;
    ok(trueno_gguf_get_u64(g, "u32", &u, NULL));
    assert_true(u == UINT32_MAX);
    ok(trueno_gguf_get_i64(g, "i32", &i, NULL));
    assert_true(i == INT32_MIN);
    ok(trueno_gguf_get_u64(g, "u64", &u, NULL));
    assert_true(u == UINT64_MAX);
    ok(trueno_gguf_get_f64(g, "f32", &d, NULL));
    assert_true(d == (double)1e-5f);
    ok(trueno_gguf_get_bool(g, "bool", &b, NULL));
    assert_false(b);
    ok(trueno_gguf_get_str(g, "str", &s, NULL));
    assert_int_equal(s.len, 3);
    assert_memory_equal(s.data, "x\0y", 3);
    for (uint64_t k = 0; k < 3; k++) {
        ok(trueno_gguf_elem_i64(g, 7, k, &i));
        assert_true(i == i16[k]);
        ok(trueno_gguf_elem_bool(g, 10, k, &b));
        assert_true(b == flags[k]);
    }
    for (uint64_t k = 0; k < 2; k++) {
        ok(trueno_gguf_elem_u64(g, 8, k, &u));
        assert_true(u == u64[k]);
        ok(trueno_gguf_elem_f64(g, 9, k, &d));
        assert_true(d == f64[k]);
    }
    assert_int_equal(trueno_gguf_n_kv(g), 14);
    trueno_gguf_free(g);
}

static void copied_pairs_are_the_same(void **state)
{
    struct fixture *f = *state;
    struct gb b = {0};
    gb_header(&b, 0, 5);
    gb_kv_str(&b, "s", "text");
    gb_kv_u32(&b, "general.alignment", 64);
    gb_array(&b, "strings", 8, 3);
    gb_str(&b, "one");
    gb_str(&b, "");
    gb_str(&b, "three");
    gb_array(&b, "empty", 8, 0);
    gb_array(&b, "floats", 6, 1);
    gb_u32(&b, 0x7fc00123); /* a NaN with payload */
    const size_t table = b.n;
    trueno_gguf *src = open_good(f->ctx, &b);
    bad(trueno_gguf_writer_copy_kv(f->w, src, 5));
    bad(trueno_gguf_writer_copy_kv(f->w, NULL, 0));
    bad(trueno_gguf_writer_copy_kv(NULL, src, 0));
    for (size_t i = 0; i < 5; i++) ok(trueno_gguf_writer_copy_kv(f->w, src, i));
    bad(trueno_gguf_writer_copy_kv(f->w, src, 2)); /* there already */
    trueno_gguf_free(src);
    const uint64_t n = 4;
    ok(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_I8, 1, &n));
    ok(trueno_gguf_writer_tensor(f->w, "u", TRUENO_TYPE_I8, 1, &n));
    ok(trueno_gguf_writer_begin(f->w, NULL, NULL));
    ok(trueno_gguf_writer_data(f->w, data, 4, NULL));
    ok(trueno_gguf_writer_data(f->w, data, 4, NULL));
    trueno_gguf *g = finished(f);
    trueno_gguf_tensor t;
    size_t bytes;
    assert_int_equal(trueno_gguf_alignment(g), 64); /* the copied key counts */
    ok(trueno_gguf_tensor_at(g, 1, &t));
    assert_true(t.file_offset % 64 == 0);
    const uint8_t *image = trueno_gguf_writer_buffer(f->w, &bytes);
    assert_memory_equal(image + 24, b.data + 24, table - 24);
    trueno_gguf_free(g);
    gb_free(&b);
}

static void tensors_of_all_shapes(void **state)
{
    struct fixture *f = *state;
    const uint64_t one[1] = {7}, four[4] = {32, 1, 2, 3}, none[2] = {0, 3};
    ok(trueno_gguf_writer_u32(f->w, "general.alignment", 8));
    ok(trueno_gguf_writer_tensor(f->w, "empty", TRUENO_TYPE_F32, 2, none));
    ok(trueno_gguf_writer_tensor(f->w, "one", TRUENO_TYPE_I8, 1, one));
    ok(trueno_gguf_writer_tensor(f->w, "empty too", TRUENO_TYPE_F32, 2, none));
    ok(trueno_gguf_writer_tensor(f->w, "four", TRUENO_TYPE_Q4_0, 4, four));
    ok(trueno_gguf_writer_tensor(f->w, "last", TRUENO_TYPE_F32, 2, none));
    ok(trueno_gguf_writer_begin(f->w, NULL, NULL));
    ok(trueno_gguf_writer_data(f->w, NULL, 0, NULL));
    ok(trueno_gguf_writer_data(f->w, data, 7, NULL));
    ok(trueno_gguf_writer_data(f->w, data, 6 * 18, NULL));
    trueno_gguf *g = finished(f);
    static const uint64_t bytes[5] = {0, 7, 0, 6 * 18, 0};
    uint64_t offset = 0;
    for (size_t i = 0; i < 5; i++) {
        trueno_gguf_tensor t;
        ok(trueno_gguf_tensor_at(g, i, &t));
        assert_true(t.size_bytes == bytes[i]);
        assert_true(i == 0 || t.file_offset == offset);
        offset = (t.file_offset + t.size_bytes + 7) / 8 * 8;
        if (bytes[i]) assert_memory_equal(trueno_gguf_tensor_data(g, i), data, bytes[i]);
    }
    assert_true(trueno_gguf_size_bytes(g) == offset);
    trueno_gguf_free(g);
}

/* ------------------------------------------------------------- wrong calls */

static void wrong_keys_and_values(void **state)
{
    struct fixture *f = *state;
    static const uint8_t no_bools[2] = {1, 2};
    static const trueno_str no_text[1] = {{NULL, 3}};
    char *longest = malloc(65537);
    assert_non_null(longest);
    memset(longest, 'k', 65536);
    longest[65536] = 0;
    bad(trueno_gguf_writer_u32(f->w, longest, 1));
    longest[65535] = 0;
    ok(trueno_gguf_writer_u32(f->w, longest, 1));
    free(longest);
    bad(trueno_gguf_writer_u32(f->w, "", 1));
    bad(trueno_gguf_writer_u32(f->w, "tab\t", 1));
    bad(trueno_gguf_writer_u32(f->w, "\xc3\xa4", 1));
    bad(trueno_gguf_writer_u32(f->w, NULL, 1));
    bad(trueno_gguf_writer_u32(NULL, "k", 1));
    bad(trueno_gguf_writer_str(f->w, "k", NULL, 1));
    bad(trueno_gguf_writer_str_array(f->w, "k", NULL, 1));
    bad(trueno_gguf_writer_str_array(f->w, "k", no_text, 1));
    bad(trueno_gguf_writer_array(f->w, "k", TRUENO_GGUF_BOOL, no_bools, 2));
    bad(trueno_gguf_writer_array(f->w, "k", TRUENO_GGUF_STRING, data, 1));
    bad(trueno_gguf_writer_array(f->w, "k", TRUENO_GGUF_ARRAY, data, 1));
    bad(trueno_gguf_writer_array(f->w, "k", (trueno_gguf_type)13, data, 1));
    bad(trueno_gguf_writer_array(f->w, "k", (trueno_gguf_type)-1, data, 1));
    bad(trueno_gguf_writer_array(f->w, "k", TRUENO_GGUF_U8, NULL, 1));
    assert_int_equal(trueno_gguf_writer_array(f->w, "k", TRUENO_GGUF_U64, data, UINT64_MAX / 4),
                     TRUENO_ERR_NO_MEMORY);
    bad(trueno_gguf_writer_u32(f->w, "general.alignment", 0));
    bad(trueno_gguf_writer_u32(f->w, "general.alignment", 24));
    bad(trueno_gguf_writer_u32(f->w, "general.alignment", 1 << 21));
    bad(trueno_gguf_writer_u64(f->w, "general.alignment", 32));
    bad(trueno_gguf_writer_str(f->w, "general.alignment", "32", 2));
    ok(trueno_gguf_writer_u32(f->w, "k", 1)); /* none of the failures left a trace */
    bad(trueno_gguf_writer_u32(f->w, "k", 1));
    bad(trueno_gguf_writer_bool(f->w, "k", true));
    ok(trueno_gguf_writer_begin(f->w, NULL, NULL));
    trueno_gguf *g = finished(f);
    assert_int_equal(trueno_gguf_n_kv(g), 2);
    trueno_gguf_free(g);
}

static void wrong_tensors(void **state)
{
    struct fixture *f = *state;
    const uint64_t ne[4] = {32, 1, 1, 1}, odd[1] = {33}, wraps[2] = {(uint64_t)1 << 62, 8};
    const uint64_t huge[1] = {(uint64_t)1 << 62}, negative[1] = {UINT64_MAX};
    char name[66];
    memset(name, 'n', 65);
    name[65] = 0;
    bad(trueno_gguf_writer_tensor(f->w, name, TRUENO_TYPE_F32, 1, ne));
    bad(trueno_gguf_writer_tensor(f->w, "", TRUENO_TYPE_F32, 1, ne));
    bad(trueno_gguf_writer_tensor(f->w, NULL, TRUENO_TYPE_F32, 1, ne));
    bad(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_F32, 0, ne));
    bad(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_F32, 5, ne));
    bad(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_F32, 1, NULL));
    bad(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_Q8_0, 1, odd));
    bad(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_F32, 2, wraps));
    bad(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_F32, 1, huge));
    bad(trueno_gguf_writer_tensor(f->w, "t", TRUENO_TYPE_I8, 1, negative));
    bad(trueno_gguf_writer_tensor(f->w, "t", (trueno_dtype)4, 1, ne));
    bad(trueno_gguf_writer_tensor(f->w, "t", (trueno_dtype)1000, 1, ne));
    bad(trueno_gguf_writer_tensor(f->w, "t", (trueno_dtype)-1, 1, ne));
    name[64] = 0;
    ok(trueno_gguf_writer_tensor(f->w, name, TRUENO_TYPE_F32, 4, ne));
    bad(trueno_gguf_writer_tensor(f->w, name, TRUENO_TYPE_F32, 1, ne));
    /* three that fit alone and not together */
    const uint64_t half[1] = {INT64_MAX};
    trueno_error err;
    ok(trueno_gguf_writer_tensor(f->w, "a", TRUENO_TYPE_I8, 1, half));
    ok(trueno_gguf_writer_tensor(f->w, "b", TRUENO_TYPE_I8, 1, half));
    ok(trueno_gguf_writer_tensor(f->w, "c", TRUENO_TYPE_I8, 1, half));
    bad(trueno_gguf_writer_begin(f->w, NULL, &err));
    assert_non_null(strstr(err.message, "do not fit 64 bits"));
}

static void wrong_order(void **state)
{
    struct fixture *f = *state;
    trueno_error err;
    bad(trueno_gguf_writer_data(f->w, data, 1, &err));
    assert_non_null(strstr(err.message, "has not begun"));
    bad(trueno_gguf_writer_finish(f->w, &err));
    add_sample(f->w);
    ok(trueno_gguf_writer_begin(f->w, NULL, NULL));
    bad(trueno_gguf_writer_begin(f->w, NULL, &err));
    bad(trueno_gguf_writer_u32(f->w, "late", 1));
    const uint64_t n = 1;
    bad(trueno_gguf_writer_tensor(f->w, "late", TRUENO_TYPE_F32, 1, &n));
    bad(trueno_gguf_writer_data(f->w, data, 69, &err));
    assert_non_null(strstr(err.message, "69 bytes for tensor 'token_embd.weight'"));
    bad(trueno_gguf_writer_data(f->w, NULL, 1, &err));
    ok(trueno_gguf_writer_data(f->w, data, 68, NULL));
    ok(trueno_gguf_writer_data(f->w, data, 19, NULL));
    bad(trueno_gguf_writer_finish(f->w, &err));
    assert_non_null(strstr(err.message, "tensor 1 of 2 lacks data"));
    ok(trueno_gguf_writer_data(f->w, data, 1, NULL));
    bad(trueno_gguf_writer_data(f->w, data, 1, &err));
    ok(trueno_gguf_writer_finish(f->w, NULL));
    bad(trueno_gguf_writer_finish(f->w, &err));
    bad(trueno_gguf_writer_data(f->w, data, 1, &err));
    bad(trueno_gguf_writer_u32(f->w, "late", 1));
    bad(trueno_gguf_writer_begin(NULL, NULL, &err));
    bad(trueno_gguf_writer_data(NULL, data, 1, &err));
    bad(trueno_gguf_writer_finish(NULL, &err));
    assert_null(trueno_gguf_writer_buffer(NULL, NULL));
    trueno_gguf_writer *w = NULL;
    bad(trueno_gguf_writer_new(NULL, &w));
    bad(trueno_gguf_writer_new(f->ctx, NULL));
    trueno_gguf_writer_free(NULL);
}

/* ------------------------------------------------------------------- disk */

/* The older file is there, unchanged and alone. */
static void expect_old(const struct fixture *f)
{
    size_t n = 0;
    uint8_t *file = read_whole(f->path, &n);
    assert_non_null(file);
    assert_int_equal(n, 3);
    assert_memory_equal(file, "old", 3);
    assert_int_equal(count_files(f->dir), 1);
    free(file);
}

static void file_given_up(void **state)
{
    struct fixture *f = *state;
    write_file(f->path, "old", 3);
    add_sample(f->w);
    ok(trueno_gguf_writer_begin(f->w, f->path, NULL));
    ok(trueno_gguf_writer_data(f->w, data, 68, NULL));
    assert_int_equal(count_files(f->dir), 2);
    bad(trueno_gguf_writer_finish(f->w, NULL));
    trueno_gguf_writer_free(f->w);
    f->w = NULL;
    expect_old(f);
}

static void nowhere_to_write(void **state)
{
    struct fixture *f = *state;
    trueno_error err = {TRUENO_OK, ""};
    char *missing = path_in(f->dir, "no/such/dir.gguf");
    add_sample(f->w);
    assert_int_equal(trueno_gguf_writer_begin(f->w, missing, &err), TRUENO_ERR_IO);
    assert_non_null(strstr(err.message, "no/such/dir.gguf"));
    assert_int_equal(trueno_gguf_writer_begin(f->w, f->dir, &err), TRUENO_ERR_IO);
    /* the writer is as it was */
    ok(trueno_gguf_writer_begin(f->w, f->path, NULL));
    add_data(f->w, 16);
    ok(trueno_gguf_writer_finish(f->w, NULL));
    assert_int_equal(count_files(f->dir), 1);
    free(missing);
}

/* A file may not grow above `limit` bytes: in `begin`, in the data, or in the padding. */
static void limited(struct fixture *f, rlim_t limit)
{
    trueno_gguf_writer *w = NULL;
    struct rlimit old;
    uint8_t block[4096] = {0};
    const uint64_t n = 1 << 20;
    trueno_error err = {TRUENO_OK, ""};
    trueno_status status;
    ok(trueno_gguf_writer_new(f->ctx, &w));
    ok(trueno_gguf_writer_tensor(w, "t", TRUENO_TYPE_I8, 1, &n));
    write_file(f->path, "old", 3);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit new = {limit, old.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &new), 0);
    status = trueno_gguf_writer_begin(w, f->path, &err);
    for (int i = 0; i < 256 && !status; i++)
        status = trueno_gguf_writer_data(w, block, sizeof block, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_int_equal(status, TRUENO_ERR_IO);
    assert_int_equal(err.status, TRUENO_ERR_IO);
    assert_non_null(strstr(err.message, "out.gguf"));
    expect_old(f);
    assert_int_not_equal(trueno_gguf_writer_finish(w, &err), TRUENO_OK);
    assert_int_not_equal(trueno_gguf_writer_data(w, block, 1, &err), TRUENO_OK);
    trueno_gguf_writer_free(w);
    expect_old(f);
}

static void disk_full(void **state)
{
    struct fixture *f = *state;
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    limited(f, 10);
    limited(f, 4096);
    limited(f, 1 << 19);
    signal(SIGXFSZ, old);
}

/* The name became a directory while the file was written, so the rename fails. */
static void rename_fails(void **state)
{
    struct fixture *f = *state;
    trueno_error err = {TRUENO_OK, ""};
    add_sample(f->w);
    ok(trueno_gguf_writer_begin(f->w, f->path, NULL));
    add_data(f->w, 100);
    assert_int_equal(mkdir(f->path, 0700), 0);
    assert_int_equal(trueno_gguf_writer_finish(f->w, &err), TRUENO_ERR_IO);
    assert_int_equal(count_files(f->dir), 1);
    bad(trueno_gguf_writer_finish(f->w, &err));
    assert_non_null(strstr(err.message, "failed before"));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(file_is_byte_for_byte_right),
        CASE(empty_file),
        CASE(scalars_and_arrays_come_back),
        CASE(copied_pairs_are_the_same),
        CASE(tensors_of_all_shapes),
        CASE(wrong_keys_and_values),
        CASE(wrong_tensors),
        CASE(wrong_order),
        CASE(file_given_up),
        CASE(nowhere_to_write),
        CASE(disk_full),
        CASE(rename_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
