/* SPDX-License-Identifier: MIT */
/* Weights that stay in the mapped file: the same logits as of packed ones, less memory by just the
 * matrices, an exact plan, and clear words where a file cannot be mapped. */
#include "model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { N = 50 };

static trueno_ctx *new_ctx(void)
{
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    return ctx;
}

static trueno_model *load(const trueno_gguf *g, trueno_weights_mode weights)
{
    trueno_model_options mo = TRUENO_MODEL_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_model *m = NULL;
    mo.weights = weights;
    if (trueno_model_load(&m, g, &mo, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return m;
}

/* Logits of N tokens, first in batches of 33, then one by one. */
static float *logits_of(const trueno_model *m, const struct toy *t, uint32_t n_threads)
{
    trueno_session_options so = TRUENO_SESSION_OPTIONS_INIT;
    trueno_session *s;
    trueno_token tokens[N];
    size_t row = t->n_vocab * sizeof(float);
    float *out = malloc(2 * N * row);
    assert_non_null(out);
    so.n_ctx = so.n_logits = N;
    so.n_batch = 33;
    so.n_threads = n_threads;
    assert_int_equal(trueno_session_new(&s, m, &so, NULL), TRUENO_OK);
    toy_tokens(tokens, N, t->n_vocab, 11);
    assert_int_equal(trueno_session_eval(s, tokens, N, TRUENO_LOGITS_ALL), TRUENO_OK);
    memcpy(out, trueno_session_logits(s, 0), N * row);
    assert_int_equal(trueno_session_rewind(s, 0), TRUENO_OK);
    for (size_t i = 0; i < N; i++) {
        assert_int_equal(trueno_session_eval(s, tokens + i, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
        memcpy(out + (N + i) * t->n_vocab, trueno_session_logits(s, -1), row);
    }
    trueno_session_free(s);
    return out;
}

static uint64_t held(trueno_ctx *ctx)
{
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    return now;
}

/* Bytes of the tensors with two dimensions. */
static uint64_t matrix_bytes(const trueno_gguf *g)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++) {
        trueno_gguf_tensor t;
        (void)trueno_gguf_tensor_at(g, i, &t);
        if (t.ne[1] > 1) sum += t.size_bytes;
    }
    return sum;
}

static void compare(const struct toy *t, uint32_t n_threads)
{
    trueno_ctx *ctx = new_ctx();
    trueno_gguf_writer *w;
    trueno_gguf *g = toy_open(ctx, t, &w);
    uint64_t matrices = matrix_bytes(g), before = held(ctx);
    trueno_model *packed = load(g, TRUENO_WEIGHTS_PACKED);
    uint64_t packed_bytes = held(ctx) - before;
    trueno_model *mapped = load(g, TRUENO_WEIGHTS_MAPPED);
    uint64_t mapped_bytes = held(ctx) - before - packed_bytes;
    trueno_gguf_free(g); /* the mapped model has its own hold */

    /* rows and columns are multiples of 16 and of a block: packing adds only headers of panels */
    assert_true(packed_bytes - mapped_bytes >= matrices * 97 / 100);
    assert_true(packed_bytes - mapped_bytes <= matrices * 125 / 100);
    float *want = logits_of(packed, t, n_threads), *got = logits_of(mapped, t, n_threads);
    if (memcmp(want, got, 2 * N * t->n_vocab * sizeof *want) != 0)
        fail_msg("%s, %s: other bits", t->arch, trueno_dtype_get_info(t->type)->name);
    free(want);
    free(got);
    trueno_model_free(packed);
    trueno_model_free(mapped);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
}

/* Every architecture: fused tensors of phi3 are mapped in slices, gemma3 has tied embeddings. */
static void same_bits_for_every_architecture(void **state)
{
    static const trueno_dtype types[] = {TRUENO_TYPE_Q8_0, TRUENO_TYPE_Q5_1, TRUENO_TYPE_F16};
    (void)state;
    for (size_t a = 0; toy_arch(a) != NULL; a++) {
        struct toy t = toy_default(toy_arch(a));
        t.type = types[a % 3];
        compare(&t, (uint32_t)(1 + a % 3));
        t.tied = !t.tied;
        compare(&t, 2);
    }
}

/* Every type, those that are decoded when packed among them. */
static void same_bits_for_every_type(void **state)
{
    static const trueno_dtype types[] = {TRUENO_TYPE_F32,  TRUENO_TYPE_BF16, TRUENO_TYPE_Q4_0,
                                         TRUENO_TYPE_Q4_1, TRUENO_TYPE_Q5_0, TRUENO_TYPE_Q4_K,
                                         TRUENO_TYPE_Q5_K, TRUENO_TYPE_Q6_K};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct toy t = toy_default("llama");
        t.type = types[i];
        t.n_embd = 256;
        t.head_dim = 64;
        t.n_ff = 512;
        t.n_vocab = 130; /* the last row group is short */
        compare(&t, 2);
    }
}

static void estimate_is_exact(void **state)
{
    (void)state;
    for (size_t a = 0; toy_arch(a) != NULL; a++) {
        struct toy t = toy_default(toy_arch(a));
        t.type = TRUENO_TYPE_Q4_0;
        trueno_ctx *ctx = new_ctx();
        trueno_gguf_writer *w;
        trueno_gguf *g = toy_open(ctx, &t, &w);
        trueno_model_options mo = TRUENO_MODEL_OPTIONS_INIT;
        trueno_session_options so = TRUENO_SESSION_OPTIONS_INIT;
        trueno_estimate e = TRUENO_ESTIMATE_INIT, plain = TRUENO_ESTIMATE_INIT;
        trueno_model *m;
        trueno_session *s;
        mo.weights = TRUENO_WEIGHTS_MAPPED;
        so.n_threads = (uint32_t)(1 + a % 3);
        assert_int_equal(trueno_model_estimate(&plain, g, &so, NULL), TRUENO_OK);
        assert_int_equal(trueno_model_estimate_with(&e, g, &mo, &so, NULL), TRUENO_OK);
        assert_true(e.weights_bytes < plain.weights_bytes);
        uint64_t before = held(ctx);
        assert_int_equal(trueno_model_load(&m, g, &mo, NULL), TRUENO_OK);
        uint64_t loaded = held(ctx);
        assert_int_equal(trueno_session_new(&s, m, &so, NULL), TRUENO_OK);
        assert_int_equal(loaded - before, e.weights_bytes);
        assert_int_equal(held(ctx) - loaded, e.kv_bytes + e.compute_bytes);
        assert_int_equal(e.total_bytes, e.weights_bytes + e.kv_bytes + e.compute_bytes);
        trueno_session_free(s);
        trueno_model_free(m);
        trueno_gguf_free(g);
        trueno_gguf_writer_free(w);
        trueno_ctx_free(ctx);
    }
}

/* -------------------------------------------------------------------- sources */

struct image {
    const uint8_t *data;
    size_t size;
};

static size_t read_image(void *user, void *dst, uint64_t offset, size_t size)
{
    const struct image *im = user;
    if (offset > im->size || size > im->size - offset) return 0;
    memcpy(dst, im->data + offset, size);
    return size;
}

static void refused(const trueno_gguf *g)
{
    trueno_model_options mo = TRUENO_MODEL_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_model *m = (void *)&err;
    mo.weights = TRUENO_WEIGHTS_MAPPED;
    assert_int_equal(trueno_model_load(&m, g, &mo, &err), TRUENO_ERR_ARGUMENT);
    assert_null(m);
    assert_non_null(strstr(err.message, "no_mmap"));
}

/* A file: mapped it runs, also when its name is gone; read on demand it is refused, as is a
 * callback. */
static void sources(void **state)
{
    struct toy t = toy_default("phi3");
    trueno_ctx *ctx = new_ctx();
    trueno_gguf_writer *w = toy_build(ctx, &t);
    struct image im;
    trueno_gguf_options go = TRUENO_GGUF_OPTIONS_INIT;
    trueno_gguf *g;
    char path[] = "/tmp/trueno-mapped-XXXXXX";
    int fd = mkstemp(path);
    (void)state;
    im.data = trueno_gguf_writer_buffer(w, &im.size);
    FILE *f = fdopen(fd, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(im.data, 1, im.size, f), im.size);
    assert_int_equal(fclose(f), 0);

    go.no_mmap = true;
    assert_int_equal(trueno_gguf_open(ctx, &g, path, &go, NULL), TRUENO_OK);
    refused(g);
    trueno_gguf_free(g);
    assert_int_equal(trueno_gguf_open_reader(ctx, &g, read_image, &im, im.size, NULL, NULL),
                     TRUENO_OK);
    refused(g);
    trueno_model *packed = load(g, TRUENO_WEIGHTS_PACKED);
    trueno_gguf_free(g);

    assert_int_equal(trueno_gguf_open(ctx, &g, path, NULL, NULL), TRUENO_OK);
    assert_int_equal(unlink(path), 0);
    trueno_model *mapped = load(g, TRUENO_WEIGHTS_MAPPED);
    trueno_gguf_free(g);
    float *want = logits_of(packed, &t, 2), *got = logits_of(mapped, &t, 2);
    assert_memory_equal(want, got, 2 * N * t.n_vocab * sizeof *want);
    free(want);
    free(got);
    trueno_model_free(packed);
    trueno_model_free(mapped);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
}

/* ---------------------------------------------------------------------- options */

/* NaN is found in weights that are not copied. */
static void check_tensors_reads_the_file(void **state)
{
    struct toy t = toy_default("llama");
    trueno_ctx *ctx = new_ctx();
    trueno_gguf_writer *w;
    trueno_model_options mo = TRUENO_MODEL_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_model *m;
    (void)state;
    t.nan_tensor = "blk.1.ffn_down.weight";
    trueno_gguf *g = toy_open(ctx, &t, &w);
    mo.weights = TRUENO_WEIGHTS_MAPPED;
    mo.check_tensors = true;
    assert_int_equal(trueno_model_load(&m, g, &mo, &err), TRUENO_ERR_NUMERIC);
    assert_non_null(strstr(err.message, t.nan_tensor));
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
}

/* Programs built before the option existed pass a smaller struct: what lies behind it is not
 * read. */
static void older_options(void **state)
{
    struct toy t = toy_default("llama");
    trueno_ctx *ctx = new_ctx();
    trueno_gguf_writer *w;
    trueno_gguf *g = toy_open(ctx, &t, &w);
    trueno_model_options mo = TRUENO_MODEL_OPTIONS_INIT;
    trueno_model *m;
    (void)state;
    mo.weights = (trueno_weights_mode)77;
    assert_int_equal(trueno_model_load(&m, g, &mo, NULL), TRUENO_ERR_ARGUMENT);
    mo.struct_size = offsetof(trueno_model_options, weights);
    assert_int_equal(trueno_model_load(&m, g, &mo, NULL), TRUENO_OK);
    trueno_model_free(m);
    mo.struct_size--;
    assert_int_equal(trueno_model_load(&m, g, &mo, NULL), TRUENO_ERR_ARGUMENT);
    mo.struct_size = sizeof mo + 4097;
    assert_int_equal(trueno_model_load(&m, g, &mo, NULL), TRUENO_ERR_ARGUMENT);
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_for_every_architecture),
        cmocka_unit_test(same_bits_for_every_type),
        cmocka_unit_test(estimate_is_exact),
        cmocka_unit_test(sources),
        cmocka_unit_test(check_tensors_reads_the_file),
        cmocka_unit_test(older_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
