/* SPDX-License-Identifier: MIT */
/* Files split into shards: good sets, and cases 79 to 84 of the list of hostile inputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gguf/harness.h"
#include "gguf/walk.h"

enum { N_SHARDS = 3 };

/* What a shard says of itself; each test spoils some of it. */
struct shard {
    uint32_t no, count, n_tensors; /* values of the keys */
    const char *architecture;      /* NULL: no such key */
    const char *tensor;
    uint32_t alignment; /* 0: no such key */
};

static void key_u16(struct gb *b, const char *key, uint32_t value)
{
    gb_key(b, key, 2);
    gb_u16(b, (uint16_t)value);
}

/* The data of the tensor is four bytes of value `no`. */
static struct gb build(const struct shard *s, uint8_t fill)
{
    struct gb b = {0};
    gb_header(&b, 1, 3 + (uint64_t)(s->architecture != NULL) + (s->alignment != 0));
    if (s->architecture) gb_kv_str(&b, "general.architecture", s->architecture);
    if (s->alignment) gb_kv_u32(&b, "general.alignment", s->alignment);
    key_u16(&b, "split.no", s->no);
    key_u16(&b, "split.count", s->count);
    gb_key(&b, "split.tensors.count", 5);
    gb_u32(&b, s->n_tensors);
    gb_tensor1(&b, s->tensor, 1, 0, 0);
    gb_pad(&b, s->alignment ? s->alignment : 32);
    gb_fill(&b, fill, 4);
    return b;
}

/* A directory with three shards that fit together. */
struct fixture {
    char *dir;
    struct memory memory;
    trueno_ctx *ctx;
    struct shard shards[N_SHARDS];
};

static const char *const names[N_SHARDS] = {"toy-00001-of-00003.gguf", "toy-00002-of-00003.gguf",
                                            "toy-00003-of-00003.gguf"};

static int set_up(void **state)
{
    static const char *const tensors[N_SHARDS] = {"a", "b", "c"};
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->dir = make_dir();
    f->ctx = memory_ctx(&f->memory);
    for (uint32_t i = 0; i < N_SHARDS; i++)
        f->shards[i] = (struct shard){i, N_SHARDS, N_SHARDS, i ? NULL : "llama", tensors[i], 0};
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    uint64_t now;
    trueno_ctx *fresh = memory_ctx(&(struct memory){0});
    uint64_t empty;
    trueno_ctx_memory(fresh, &empty, NULL);
    trueno_ctx_free(fresh);
    trueno_ctx_memory(f->ctx, &now, NULL);
    assert_true(now == empty);
    trueno_ctx_free(f->ctx);
    assert_true(f->memory.live == 0);
    remove_dir(f->dir);
    free(f);
    return 0;
}

static void write_shards(const struct fixture *f)
{
    for (uint8_t i = 0; i < N_SHARDS; i++) {
        struct gb b = build(&f->shards[i], i);
        char *path = path_in(f->dir, names[i]);
        write_file(path, b.data, b.n);
        free(path);
        gb_free(&b);
    }
}

static void expect_path(const struct fixture *f, const char *name, trueno_status status,
                        const char *word)
{
    char *path = path_in(f->dir, name);
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    for (int no_mmap = 0; no_mmap < 2; no_mmap++) {
        trueno_gguf *g = (trueno_gguf *)&opt;
        opt.no_mmap = no_mmap;
        trueno_status got = trueno_gguf_open(f->ctx, &g, path, &opt, &err);
        if (got != status) print_error("%s\n", err.message);
        assert_int_equal(got, status);
        if (got) assert_null(g);
        if (got && !strstr(err.message, word)) fail_msg("no '%s' in: %s", word, err.message);
        trueno_gguf_free(got ? NULL : g);
    }
    free(path);
}

static void expect_set(const struct fixture *f, trueno_status status, const char *word)
{
    write_shards(f);
    expect_path(f, names[0], status, word);
}

/* ---------------------------------------------------------------- good ones */

static void split_opens_all_shards(void **state)
{
    struct fixture *f = *state;
    f->shards[1].alignment = 64; /* each shard has its own */
    f->shards[2].architecture = "llama";
    write_shards(f);
    char *path = path_in(f->dir, names[0]);
    trueno_gguf *g = NULL;
    assert_int_equal(trueno_gguf_open(f->ctx, &g, path, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_n_shards(g), 3);
    assert_int_equal(trueno_gguf_n_tensors(g), 3);
    assert_int_equal(trueno_gguf_n_kv(g), 4);
    assert_int_equal(trueno_gguf_alignment(g), 32);
    uint64_t total = 0;
    for (size_t i = 0; i < 3; i++) {
        trueno_gguf_tensor t;
        assert_int_equal(trueno_gguf_tensor_at(g, i, &t), TRUENO_OK);
        assert_int_equal(t.shard, i);
        assert_int_equal(trueno_gguf_find_tensor(g, f->shards[i].tensor), i);
        assert_int_equal(*(const uint8_t *)trueno_gguf_tensor_data(g, i), i);
        total += t.file_offset + 4;
    }
    assert_int_equal(trueno_gguf_size_bytes(g), total);
    uint64_t mapped = walk_gguf(g, true);
    trueno_gguf_free(g);
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.no_mmap = true;
    assert_int_equal(trueno_gguf_open(f->ctx, &g, path, &opt, NULL), TRUENO_OK);
    assert_true(walk_gguf(g, true) == mapped);
    assert_null(trueno_gguf_tensor_data(g, 1));
    trueno_gguf_free(g);
    free(path);
}

static void split_explicit_list(void **state)
{
    struct fixture *f = *state;
    const char *paths[N_SHARDS];
    char *owned[N_SHARDS];
    static const char *const other[N_SHARDS] = {"x", "y.gguf", "z"};
    for (uint8_t i = 0; i < N_SHARDS; i++) {
        struct gb b = build(&f->shards[i], i);
        paths[i] = owned[i] = path_in(f->dir, other[i]);
        write_file(owned[i], b.data, b.n);
        gb_free(&b);
    }
    trueno_gguf *g = NULL;
    trueno_error err;
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, paths, 3, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_n_shards(g), 3);
    trueno_gguf_free(g);
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, paths, 2, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_null(g);
    assert_non_null(strstr(err.message, "'split.count' is 3, 2 paths"));
    paths[1] = owned[2];
    paths[2] = owned[1];
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, paths, 3, NULL, &err), TRUENO_ERR_CORRUPT);
    assert_non_null(strstr(err.message, "'split.no' is 2, it must be 1"));
    paths[1] = NULL;
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, paths, 3, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, paths, 0, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, NULL, 3, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, paths, SIZE_MAX, NULL, &err),
                     TRUENO_ERR_ARGUMENT);
    for (size_t i = 0; i < N_SHARDS; i++) free(owned[i]);
}

static void split_list_of_one_plain_file(void **state)
{
    struct fixture *f = *state;
    struct gb b = {0};
    gb_sample(&b);
    char *path = path_in(f->dir, "plain.gguf");
    const char *paths[1] = {path};
    trueno_gguf *g = NULL;
    write_file(path, b.data, b.n);
    assert_int_equal(trueno_gguf_open_split(f->ctx, &g, paths, 1, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_n_tensors(g), 2);
    trueno_gguf_free(g);
    free(path);
    gb_free(&b);
}

static void split_caps_count_over_all_shards(void **state)
{
    struct fixture *f = *state;
    write_shards(f);
    char *path = path_in(f->dir, names[0]);
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    trueno_gguf *g = NULL;
    trueno_error err;
    opt.max_tensors = 2;
    assert_int_equal(trueno_gguf_open(f->ctx, &g, path, &opt, &err), TRUENO_ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "max_tensors"));
    opt.max_tensors = 3;
    assert_int_equal(trueno_gguf_open(f->ctx, &g, path, &opt, &err), TRUENO_OK);
    trueno_gguf_free(g);
    free(path);
}

static trueno_status open_set(trueno_ctx *ctx, void *arg, trueno_error *err)
{
    trueno_gguf *g = NULL;
    trueno_status status = trueno_gguf_open(ctx, &g, arg, NULL, err);
    trueno_gguf_free(g);
    return status;
}

static void split_without_memory(void **state)
{
    struct fixture *f = *state;
    write_shards(f);
    char *path = path_in(f->dir, names[0]);
    fail_each_request(open_set, path, 15);
    free(path);
}

/* ------------------------------------------------------------------- cases */

static void case_79_split_count_65535(void **state)
{
    struct fixture *f = *state;
    f->shards[0].count = 65535;
    struct gb b = build(&f->shards[0], 0);
    char *path = path_in(f->dir, "toy-00001-of-65535.gguf");
    write_file(path, b.data, b.n);
    expect_path(f, "toy-00001-of-65535.gguf", TRUENO_ERR_UNSUPPORTED, "the limit is 1024");
    free(path);
    gb_free(&b);
    /* a count within the limit, and one file */
    f->shards[0].count = 1024;
    b = build(&f->shards[0], 0);
    path = path_in(f->dir, "toy-00001-of-01024.gguf");
    write_file(path, b.data, b.n);
    expect_path(f, "toy-00001-of-01024.gguf", TRUENO_ERR_IO, "toy-00002-of-01024.gguf");
    free(path);
    /* in memory there is nowhere to look for the others */
    expect_fail(&b, TRUENO_ERR_UNSUPPORTED, "the first of 1024 shards");
}

static void case_80_split_numbers(void **state)
{
    struct fixture *f = *state;
    f->shards[1].no = 2;
    expect_set(f, TRUENO_ERR_CORRUPT, "'split.no' is 2, it must be 1");
    f->shards[1].no = 1;
    f->shards[0].count = 0;
    expect_set(f, TRUENO_ERR_CORRUPT, "'split.count' is 0");
    f->shards[0].count = N_SHARDS;
    f->shards[0].no = 3;
    expect_set(f, TRUENO_ERR_CORRUPT, "'split.no' is 3, 'split.count' is 3");
    f->shards[0].no = 0;
    f->shards[2].count = 4;
    expect_set(f, TRUENO_ERR_CORRUPT, "'split.count' is 4, it must be 3");
    f->shards[2].count = 3;
    /* the caller's mistake: not the first file */
    write_shards(f);
    expect_path(f, names[1], TRUENO_ERR_ARGUMENT, "this is shard 2 of 3");
    expect_path(f, names[0], TRUENO_OK, NULL);
}

static void case_81_shard_missing(void **state)
{
    struct fixture *f = *state;
    write_shards(f);
    char *path = path_in(f->dir, names[1]);
    assert_int_equal(remove(path), 0);
    expect_path(f, names[0], TRUENO_ERR_IO, "toy-00002-of-00003.gguf");
    write_file(path, "GGUF", 4);
    expect_path(f, names[0], TRUENO_ERR_TRUNCATED, "toy-00002-of-00003.gguf: header");
    free(path);
}

static void case_82_tensor_in_two_shards(void **state)
{
    struct fixture *f = *state;
    f->shards[2].tensor = "a";
    expect_set(f, TRUENO_ERR_CORRUPT, "tensor 0 'a': another tensor has this name");
}

static void case_83_shard_of_another_model(void **state)
{
    struct fixture *f = *state;
    f->shards[1].architecture = "qwen2";
    expect_set(f, TRUENO_ERR_CORRUPT, "'general.architecture' has another value");
    f->shards[1].architecture = NULL;
    f->shards[1].n_tensors = 4;
    expect_set(f, TRUENO_ERR_CORRUPT, "'split.tensors.count' has another value");
    for (size_t i = 0; i < N_SHARDS; i++) f->shards[i].n_tensors = 4;
    expect_set(f, TRUENO_ERR_CORRUPT, "'split.tensors.count' is 4, the shards have 3");
    /* a whole file in place of a shard */
    struct gb b = {0};
    gb_sample(&b);
    char *path = path_in(f->dir, names[2]);
    write_file(path, b.data, b.n);
    expect_path(f, names[0], TRUENO_ERR_CORRUPT, "no key 'split.no'");
    free(path);
    gb_free(&b);
}

static void case_84_names(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = {"toy.gguf", "a", "toy-00001-of-00004.gguf",
                                      "toy-0001-of-0003.gguf", "toy-00001-of-00003.gguf.bak"};
    struct gb b = build(&f->shards[0], 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char *path = path_in(f->dir, bad[i]);
        write_file(path, b.data, b.n);
        expect_path(f, bad[i], TRUENO_ERR_ARGUMENT, "must be named NAME-00001-of-00003.gguf");
        free(path);
    }
    gb_free(&b);
    /* a path shorter than what it should end in */
    char cwd[4096];
    trueno_gguf *g = NULL;
    trueno_error err;
    assert_non_null(getcwd(cwd, sizeof cwd));
    assert_int_equal(chdir(f->dir), 0);
    assert_int_equal(trueno_gguf_open(f->ctx, &g, "a", NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "must be named"));
    assert_int_equal(chdir(cwd), 0);
    /* a path longer than any buffer: a status, and a message that is cut */
    size_t n = 1 << 20;
    char *path = malloc(n + 1);
    assert_non_null(path);
    memset(path, 'x', n);
    strcpy(path + n - 23, names[0]);
    assert_int_equal(trueno_gguf_open(f->ctx, &g, path, NULL, &err), TRUENO_ERR_IO);
    assert_true(strlen(err.message) < TRUENO_ERROR_MAX);
    assert_int_equal(trueno_gguf_open(f->ctx, &g, "", NULL, &err), TRUENO_ERR_IO);
    free(path);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(split_opens_all_shards),
        CASE(split_explicit_list),
        CASE(split_list_of_one_plain_file),
        CASE(split_caps_count_over_all_shards),
        CASE(split_without_memory),
        CASE(case_79_split_count_65535),
        CASE(case_80_split_numbers),
        CASE(case_81_shard_missing),
        CASE(case_82_tensor_in_two_shards),
        CASE(case_83_shard_of_another_model),
        CASE(case_84_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
