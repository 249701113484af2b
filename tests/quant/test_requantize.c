/* SPDX-License-Identifier: MIT */
/* trueno_quantize_gguf: which tensor becomes what, metadata, streaming, refusals, failures. What an
 * encoder makes of a row is the matter of test_quantize.c. */
#include "quant/quant_test.h"

#include "base/hooks.h"

#include <dirent.h>
#include <stdatomic.h>
#include <unistd.h>

/* ------------------------------------------------------------------ input files */

struct tensor {
    const char *name;
    trueno_dtype type;
    uint32_t n_dims;
    uint64_t ne[4];
};

static const struct tensor model[] = {
    {"token_embd.weight", TRUENO_TYPE_F32, 2, {256, 8, 1, 1}},
    {"blk.0.attn_q.weight", TRUENO_TYPE_F16, 2, {512, 4, 1, 1}},
    {"blk.0.attn_k.weight", TRUENO_TYPE_BF16, 2, {96, 4, 1, 1}},
    {"blk.0.attn_v.weight", TRUENO_TYPE_F32, 2, {40, 3, 1, 1}},
    {"blk.0.attn_norm.weight", TRUENO_TYPE_F32, 1, {256, 1, 1, 1}},
    {"one_row", TRUENO_TYPE_F32, 2, {256, 1, 1, 1}},
    {"experts", TRUENO_TYPE_F16, 3, {256, 2, 2, 1}},
    {"indices", TRUENO_TYPE_I32, 2, {32, 2, 1, 1}},
    {"output.weight", TRUENO_TYPE_F32, 2, {256, 5, 1, 1}},
};
enum { N_MODEL = sizeof model / sizeof *model };

static uint64_t elements(const struct tensor *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
}

/* Data of a tensor: uniform numbers in its type; integers count up. */
static uint8_t *tensor_data(const struct tensor *t, uint64_t seed)
{
    size_t n = elements(t);
    uint8_t *data = buffer(trueno_row_bytes(t->type, n));
    if (t->type == TRUENO_TYPE_I32) {
        for (uint32_t i = 0; i < n; i++) memcpy(data + 4 * i, &i, 4);
    } else {
        float *x = buffer(n * sizeof *x);
        fill(x, n, UNIFORM, seed);
        assert_int_equal(trueno_quantize(data, x, t->type, n), TRUENO_OK);
        free(x);
    }
    return data;
}

static void add_keys(trueno_gguf_writer *w)
{
    static const uint16_t numbers[3] = {1, 2, 65535};
    static const trueno_str words[2] = {{"a", 1}, {"", 0}};
    assert_int_equal(trueno_gguf_writer_str(w, "general.name", "toy", 3), TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_u32(w, "general.file_type", 77), TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_u32(w, "general.alignment", 64), TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_array(w, "toy.numbers", TRUENO_GGUF_U16, numbers, 3),
                     TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_str_array(w, "toy.words", words, 2), TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_f32(w, "toy.epsilon", 1e-5F), TRUENO_OK);
    assert_int_equal(trueno_gguf_writer_bool(w, "toy.flag", true), TRUENO_OK);
}

/* A file image with these tensors; the writer owns it. `data` NULL: made by tensor_data(). */
static trueno_gguf_writer *image(trueno_ctx *ctx, const struct tensor *tensors, size_t n,
                                 const void *data)
{
    trueno_gguf_writer *w;
    assert_int_equal(trueno_gguf_writer_new(ctx, &w), TRUENO_OK);
    add_keys(w);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(trueno_gguf_writer_tensor(w, tensors[i].name, tensors[i].type,
                                                   tensors[i].n_dims, tensors[i].ne),
                         TRUENO_OK);
    }
    assert_int_equal(trueno_gguf_writer_begin(w, NULL, NULL), TRUENO_OK);
    for (size_t i = 0; i < n; i++) {
        uint8_t *made = data ? NULL : tensor_data(&tensors[i], i);
        size_t size = trueno_row_bytes(tensors[i].type, elements(&tensors[i]));
        assert_int_equal(trueno_gguf_writer_data(w, data ? data : made, size, NULL), TRUENO_OK);
        free(made);
    }
    assert_int_equal(trueno_gguf_writer_finish(w, NULL), TRUENO_OK);
    return w;
}

/* ------------------------------------------------------------------ one test's room */

struct room {
    char dir[64], out[96];
    trueno_ctx *ctx;
    trueno_gguf_writer *source;
    trueno_gguf *in;
    atomic_int polls; /* of the cancel callback */
    int cancel_at;    /* the poll that says stop; 0: none */
    uint64_t reported, total;
    trueno_error err;
};

static bool on_cancel(void *user)
{
    struct room *r = user;
    int poll = atomic_fetch_add(&r->polls, 1) + 1;
    return r->cancel_at && poll >= r->cancel_at;
}

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    struct room *r = user;
    assert_string_equal(what, "quantize");
    assert_true(done >= r->reported && done <= total);
    r->reported = done;
    r->total = total;
}

static void enter(struct room *r, const struct tensor *tensors, size_t n, const void *data)
{
    memset(r, 0, sizeof *r);
    strcpy(r->dir, "/tmp/trueno-requantize-XXXXXX");
    assert_non_null(mkdtemp(r->dir));
    snprintf(r->out, sizeof r->out, "%s/out.gguf", r->dir);
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    opt.cancel = on_cancel;
    opt.cancel_user = r;
    assert_int_equal(trueno_ctx_new(&r->ctx, &opt, NULL), TRUENO_OK);
    r->source = image(r->ctx, tensors, n, data);
    size_t size;
    const void *bytes = trueno_gguf_writer_buffer(r->source, &size);
    assert_int_equal(trueno_gguf_open_buffer(r->ctx, &r->in, bytes, size, NULL, NULL), TRUENO_OK);
    atomic_store(&r->polls, 0);
}

static size_t files_in(const char *dir)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d)) n += e->d_name[0] != '.' || e->d_name[1];
    closedir(d);
    return n - 1; /* ".." */
}

static void leave(struct room *r)
{
    unlink(r->out);
    assert_int_equal(files_in(r->dir), 0); /* no temporary file is left */
    assert_int_equal(rmdir(r->dir), 0);
    trueno_gguf_free(r->in);
    trueno_gguf_writer_free(r->source);
    trueno_ctx_free(r->ctx);
}

static trueno_status convert(struct room *r, trueno_dtype type, const trueno_quantize_options *opt)
{
    memset(&r->err, 0, sizeof r->err);
    return trueno_quantize_gguf(r->in, r->out, type, opt, &r->err);
}

static trueno_gguf *open_out(struct room *r)
{
    trueno_gguf *g;
    trueno_status status = trueno_gguf_open(r->ctx, &g, r->out, NULL, &r->err);
    if (status != TRUENO_OK) fail_msg("%s", r->err.message);
    return g;
}

/* ------------------------------------------------------------- types and bytes */

/* Tensor i of `out` is tensor `t` of the input in type `to`: decoded and encoded as a whole, or
 * copied. */
static void check_tensor(const trueno_gguf *out, size_t i, const struct tensor *t, trueno_dtype to)
{
    trueno_gguf_tensor got;
    assert_int_equal(trueno_gguf_tensor_at(out, i, &got), TRUENO_OK);
    assert_int_equal(got.name.len, strlen(t->name));
    assert_memory_equal(got.name.data, t->name, got.name.len);
    if (got.type != to) {
        fail_msg("%s is %s and not %s", t->name, trueno_dtype_get_info(got.type)->name,
                 trueno_dtype_get_info(to)->name);
    }
    assert_int_equal(got.n_dims, t->n_dims);
    assert_memory_equal(got.ne, t->ne, sizeof got.ne);

    size_t n = elements(t), size = trueno_row_bytes(to, n);
    uint8_t *source = tensor_data(t, i), *want = source;
    if (to != t->type) {
        float *x = buffer(n * sizeof *x);
        want = buffer(size);
        assert_int_equal(trueno_dequantize(x, source, t->type, n), TRUENO_OK);
        assert_int_equal(trueno_quantize(want, x, to, n), TRUENO_OK);
        free(x);
        free(source);
    }
    assert_int_equal(got.size_bytes, size);
    assert_memory_equal(trueno_gguf_tensor_data(out, i), want, size);
    free(want);
}

#define T(name) TRUENO_TYPE_##name

/* Types asked for, and what each tensor of the model becomes. */
static const struct {
    trueno_dtype ask;
    bool pure;
    uint64_t file_type; /* llama.cpp's enum llama_ftype */
    trueno_dtype want[N_MODEL];
} expected[] = {
    {T(Q4_K),
     false,
     14,
     {T(Q6_K), T(Q4_K), T(Q5_0), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q6_K)}},
    {T(Q4_K),
     true,
     14,
     {T(Q4_K), T(Q4_K), T(Q5_0), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q4_K)}},
    {T(Q5_K),
     false,
     16,
     {T(Q6_K), T(Q5_K), T(Q5_1), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q6_K)}},
    {T(Q6_K),
     true,
     18,
     {T(Q6_K), T(Q6_K), T(Q8_0), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q6_K)}},
    {T(Q4_0),
     false,
     2,
     {T(Q4_0), T(Q4_0), T(Q4_0), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q4_0)}},
    {T(Q4_1),
     false,
     3,
     {T(Q4_1), T(Q4_1), T(Q4_1), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q4_1)}},
    {T(Q5_0),
     false,
     8,
     {T(Q5_0), T(Q5_0), T(Q5_0), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q5_0)}},
    {T(Q5_1),
     false,
     9,
     {T(Q5_1), T(Q5_1), T(Q5_1), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q5_1)}},
    {T(Q8_0),
     false,
     7,
     {T(Q8_0), T(Q8_0), T(Q8_0), T(F16), T(F32), T(F32), T(F16), T(I32), T(Q8_0)}},
    {T(F16), false, 1, {T(F16), T(F16), T(F16), T(F16), T(F32), T(F32), T(F16), T(I32), T(F16)}},
    {T(BF16),
     false,
     32,
     {T(BF16), T(BF16), T(BF16), T(BF16), T(F32), T(F32), T(F16), T(I32), T(BF16)}},
    {T(F32), false, 0, {T(F32), T(F32), T(F32), T(F32), T(F32), T(F32), T(F16), T(I32), T(F32)}},
};

static void check_keys(const trueno_gguf *g, uint64_t file_type, bool quantized)
{
    uint64_t number = 0;
    trueno_str text;
    double epsilon;
    assert_int_equal(trueno_gguf_get_u64(g, "general.file_type", &number, NULL), TRUENO_OK);
    assert_int_equal(number, file_type);
    trueno_status status = trueno_gguf_get_u64(g, "general.quantization_version", &number, NULL);
    assert_int_equal(status, quantized ? TRUENO_OK : TRUENO_ERR_NOT_FOUND);
    if (quantized) assert_int_equal(number, 2);
    assert_int_equal(trueno_gguf_find(g, "general.alignment"), -1);
    assert_int_equal(trueno_gguf_alignment(g), 32);
    assert_int_equal(trueno_gguf_get_str(g, "general.name", &text, NULL), TRUENO_OK);
    assert_true(text.len == 3 && memcmp(text.data, "toy", 3) == 0);
    assert_int_equal(trueno_gguf_get_f64(g, "toy.epsilon", &epsilon, NULL), TRUENO_OK);
    assert_true(epsilon == (double)1e-5F);
    ptrdiff_t numbers = trueno_gguf_find(g, "toy.numbers"),
              words = trueno_gguf_find(g, "toy.words");
    assert_true(numbers >= 0 && words >= 0);
    assert_int_equal(trueno_gguf_elem_u64(g, (size_t)numbers, 2, &number), TRUENO_OK);
    assert_int_equal(number, 65535);
    assert_int_equal(trueno_gguf_elem_str(g, (size_t)words, 0, &text), TRUENO_OK);
    assert_true(text.len == 1 && *text.data == 'a');
}

static void test_types(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof expected / sizeof *expected; k++) {
        struct room r;
        enter(&r, model, N_MODEL, NULL);
        trueno_quantize_options opt = TRUENO_QUANTIZE_OPTIONS_INIT;
        opt.n_threads = 2;
        opt.pure = expected[k].pure;
        assert_int_equal(convert(&r, expected[k].ask, &opt), TRUENO_OK);
        trueno_gguf *out = open_out(&r);
        assert_int_equal(trueno_gguf_n_tensors(out), N_MODEL);
        for (size_t i = 0; i < N_MODEL; i++) check_tensor(out, i, &model[i], expected[k].want[i]);
        check_keys(out, expected[k].file_type,
                   trueno_dtype_get_info(expected[k].ask)->is_quantized);
        trueno_gguf_free(out);
        leave(&r);
    }
}

/* --------------------------------------------------------------------- streaming */

struct bytes {
    const uint8_t *data;
    size_t size;
};

static size_t read_bytes(void *user, void *dst, uint64_t offset, size_t size_bytes)
{
    const struct bytes *b = user;
    if (offset >= b->size) return 0;
    size_t n = b->size - offset < size_bytes ? b->size - (size_t)offset : size_bytes;
    memcpy(dst, b->data + offset, n);
    return n;
}

static uint8_t *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    uint8_t *data = buffer(*size);
    assert_int_equal(fread(data, 1, *size, f), *size);
    fclose(f);
    return data;
}

/* More weights than one filling of the buffers, and an odd rest: the same file for every number of
 * threads and every kind of source. */
static void test_threads_and_sources(void **state)
{
    (void)state;
    static const struct tensor big[] = {
        {"big", TRUENO_TYPE_F16, 2, {32, 70001, 1, 1}},
        {"copied", TRUENO_TYPE_F32, 1, {1100000, 1, 1, 1}},
    };
    struct room r;
    enter(&r, big, 2, NULL);
    trueno_quantize_options opt = TRUENO_QUANTIZE_OPTIONS_INIT;
    opt.n_threads = 1;
    assert_int_equal(convert(&r, TRUENO_TYPE_Q8_0, &opt), TRUENO_OK);
    trueno_gguf *out = open_out(&r);
    check_tensor(out, 0, &big[0], TRUENO_TYPE_Q8_0);
    check_tensor(out, 1, &big[1], TRUENO_TYPE_F32);
    trueno_gguf_free(out);
    size_t size, again;
    uint8_t *first = read_file(r.out, &size);
    for (uint32_t threads = 2; threads <= 5; threads += 3) {
        opt.n_threads = threads;
        assert_int_equal(convert(&r, TRUENO_TYPE_Q8_0, &opt), TRUENO_OK);
        uint8_t *other = read_file(r.out, &again);
        assert_int_equal(size, again);
        assert_memory_equal(first, other, size);
        free(other);
    }

    struct bytes b;
    b.data = trueno_gguf_writer_buffer(r.source, &b.size);
    trueno_gguf_free(r.in);
    assert_int_equal(trueno_gguf_open_reader(r.ctx, &r.in, read_bytes, &b, b.size, NULL, NULL),
                     TRUENO_OK);
    assert_null(trueno_gguf_tensor_data(r.in, 0));
    assert_int_equal(convert(&r, TRUENO_TYPE_Q8_0, &opt), TRUENO_OK);
    uint8_t *other = read_file(r.out, &again);
    assert_int_equal(size, again);
    assert_memory_equal(first, other, size);
    free(other);
    free(first);
    leave(&r);
}

/* Memory is two buffers, not a tensor. */
static void test_memory(void **state)
{
    (void)state;
    static const struct tensor big[] = {{"big", TRUENO_TYPE_F32, 2, {256, 40000, 1, 1}}};
    struct room r;
    enter(&r, big, 1, NULL);
    uint64_t before, peak;
    size_t size;
    const void *bytes = trueno_gguf_writer_buffer(r.source, &size);
    trueno_ctx *fresh;
    trueno_gguf *in;
    assert_int_equal(trueno_ctx_new(&fresh, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_open_buffer(fresh, &in, bytes, size, NULL, NULL), TRUENO_OK);
    trueno_ctx_memory(fresh, &before, NULL);
    assert_int_equal(trueno_quantize_gguf(in, r.out, TRUENO_TYPE_F16, NULL, NULL), TRUENO_OK);
    trueno_ctx_memory(fresh, NULL, &peak);
    assert_true(peak - before < 10 << 20);
    trueno_gguf_free(in);
    trueno_ctx_free(fresh);
    leave(&r);
}

/* ---------------------------------------------------------------------- refusals */

static void test_quantised_source(void **state)
{
    (void)state;
    static const struct tensor t[] = {{"w", TRUENO_TYPE_Q8_0, 2, {256, 4, 1, 1}}};
    struct room r;
    enter(&r, t, 1, NULL);
    trueno_quantize_options opt = TRUENO_QUANTIZE_OPTIONS_INIT;
    assert_int_equal(convert(&r, TRUENO_TYPE_Q4_K, &opt), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(r.err.message, "'w'"));
    assert_non_null(strstr(r.err.message, "allow_requantize"));
    assert_int_equal(access(r.out, F_OK), -1);
    /* the same type is a copy, and needs no leave */
    assert_int_equal(convert(&r, TRUENO_TYPE_Q8_0, &opt), TRUENO_OK);
    opt.allow_requantize = true;
    assert_int_equal(convert(&r, TRUENO_TYPE_Q4_K, &opt), TRUENO_OK);
    trueno_gguf *out = open_out(&r);
    trueno_gguf_tensor got;
    assert_int_equal(trueno_gguf_tensor_at(out, 0, &got), TRUENO_OK);
    assert_int_equal(got.type, TRUENO_TYPE_Q4_K);
    trueno_gguf_free(out);
    leave(&r);
}

static void test_unsupported_source(void **state)
{
    (void)state;
    static const uint8_t data[4 * 136];
    static const struct tensor iq4_xs[] = {{"w", (trueno_dtype)23, 2, {256, 4, 1, 1}}};
    struct room r;
    enter(&r, iq4_xs, 1, data);
    trueno_quantize_options opt = TRUENO_QUANTIZE_OPTIONS_INIT;
    opt.allow_requantize = true;
    assert_int_equal(convert(&r, TRUENO_TYPE_Q4_K, &opt), TRUENO_ERR_UNSUPPORTED);
    assert_non_null(strstr(r.err.message, "IQ4_XS"));
    assert_int_equal(access(r.out, F_OK), -1);
    leave(&r);
}

/* NaN, and numbers too large for the type: the tensor is named, an older file stays. */
static void test_numeric(void **state)
{
    (void)state;
    static const struct tensor t[] = {{"blk.7.w", TRUENO_TYPE_F32, 2, {256, 4, 1, 1}}};
    static const struct {
        float value;
        trueno_dtype type;
    } bad[] = {{NAN, TRUENO_TYPE_Q4_K}, {INFINITY, TRUENO_TYPE_Q8_0},  {1e30F, TRUENO_TYPE_Q4_0},
               {1e6F, TRUENO_TYPE_F16}, {-INFINITY, TRUENO_TYPE_BF16}, {3.4e38F, TRUENO_TYPE_BF16}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        static float x[1024];
        fill(x, 1024, UNIFORM, 1);
        x[777] = bad[k].value;
        struct room r;
        enter(&r, t, 1, x);
        FILE *f = fopen(r.out, "w");
        assert_true(f && fputs("old", f) >= 0 && fclose(f) == 0);
        assert_int_equal(convert(&r, bad[k].type, NULL), TRUENO_ERR_NUMERIC);
        assert_int_equal(r.err.status, TRUENO_ERR_NUMERIC);
        assert_non_null(strstr(r.err.message, "blk.7.w"));
        size_t size;
        uint8_t *old = read_file(r.out, &size);
        assert_true(size == 3 && memcmp(old, "old", 3) == 0);
        free(old);
        leave(&r);
    }
}

static void test_arguments(void **state)
{
    (void)state;
    struct room r;
    enter(&r, model, N_MODEL, NULL);
    trueno_quantize_options opt = TRUENO_QUANTIZE_OPTIONS_INIT;
    trueno_error *err = &r.err;
    const trueno_dtype q4_k = TRUENO_TYPE_Q4_K;
    assert_int_equal(trueno_quantize_gguf(NULL, r.out, q4_k, &opt, err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize_gguf(r.in, NULL, q4_k, &opt, err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize_gguf(r.in, "", q4_k, &opt, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(convert(&r, TRUENO_TYPE_Q2_K, &opt), TRUENO_ERR_UNSUPPORTED);
    assert_int_equal(convert(&r, TRUENO_TYPE_I8, &opt), TRUENO_ERR_UNSUPPORTED);
    assert_int_equal(convert(&r, (trueno_dtype)1000, &opt), TRUENO_ERR_ARGUMENT);
    opt.struct_size = 3;
    assert_int_equal(convert(&r, q4_k, &opt), TRUENO_ERR_ARGUMENT);
    opt.struct_size = sizeof opt;
    opt.n_threads = 100000;
    assert_int_equal(convert(&r, q4_k, &opt), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_quantize_gguf(r.in, "/nonexistent/x.gguf", q4_k, NULL, err),
                     TRUENO_ERR_IO);
    assert_int_equal(files_in(r.dir), 0);
    leave(&r);
}

/* ---------------------------------------------------------------------- failures */

static void test_cancel_and_progress(void **state)
{
    (void)state;
    for (int at = 1; at <= N_MODEL; at++) {
        struct room r;
        enter(&r, model, N_MODEL, NULL);
        r.cancel_at = at;
        assert_int_equal(convert(&r, TRUENO_TYPE_Q4_K, NULL), TRUENO_ERR_CANCELLED);
        assert_int_equal(files_in(r.dir), 0);
        leave(&r);
    }

    struct room r;
    enter(&r, model, N_MODEL, NULL);
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    opt.progress = on_progress;
    opt.progress_user = &r;
    trueno_ctx *watched;
    trueno_gguf *in;
    size_t size;
    const void *bytes = trueno_gguf_writer_buffer(r.source, &size);
    assert_int_equal(trueno_ctx_new(&watched, &opt, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_open_buffer(watched, &in, bytes, size, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_quantize_gguf(in, r.out, TRUENO_TYPE_Q4_0, NULL, NULL), TRUENO_OK);
    uint64_t sum = 0;
    for (size_t i = 0; i < N_MODEL; i++) {
        sum += trueno_row_bytes(model[i].type, elements(&model[i]));
    }
    assert_int_equal(r.total, sum);
    assert_int_equal(r.reported, sum);
    trueno_gguf_free(in);
    trueno_ctx_free(watched);
    leave(&r);
}

/* Memory runs out at every single request in turn: a status, nothing leaked, no file. */
static void test_no_memory(void **state)
{
    (void)state;
    struct room r;
    enter(&r, model, N_MODEL, NULL);
    size_t size;
    const void *bytes = trueno_gguf_writer_buffer(r.source, &size);
    struct hooks h = {0};
    trueno_ctx_options opt = hook_options(&h);
    trueno_quantize_options two = TRUENO_QUANTIZE_OPTIONS_INIT;
    two.n_threads = 2;
    trueno_ctx *ctx;
    trueno_gguf *in;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &in, bytes, size, NULL, NULL), TRUENO_OK);
    size_t held = h.blocks, failures = 0;
    trueno_status status;
    do {
        h.fail_at = h.calls + ++failures;
        status = trueno_quantize_gguf(in, r.out, TRUENO_TYPE_Q4_K, &two, NULL);
        assert_true(status == TRUENO_OK || status == TRUENO_ERR_NO_MEMORY);
        assert_int_equal(h.blocks, held);
        assert_int_equal(files_in(r.dir), status == TRUENO_OK);
    } while (status != TRUENO_OK);
    assert_true(failures > N_MODEL);
    trueno_gguf_free(in);
    trueno_ctx_free(ctx);
    leave(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_types),
        cmocka_unit_test(test_threads_and_sources),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_quantised_source),
        cmocka_unit_test(test_unsupported_source),
        cmocka_unit_test(test_numeric),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_cancel_and_progress),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
