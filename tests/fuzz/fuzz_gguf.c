/* SPDX-License-Identifier: MIT */
/* Fuzz target: any bytes as a GGUF file. Opens them from a buffer and through a callback, walks all
 * of it, and demands that both agree; what opens whole must open as metadata too. Then the writer
 * copies the file, and the copy must show the same pairs and tensors. */
#include <string.h>

#include "gguf/walk.h"

struct source {
    const uint8_t *data;
    size_t size;
};

static size_t read_source(void *user, void *dst, uint64_t offset, size_t size_bytes)
{
    const struct source *s = user;
    walk_require(offset <= s->size && size_bytes <= s->size - offset); /* never asked for more */
    memcpy(dst, s->data + offset, size_bytes);
    return size_bytes;
}

static const char *after_label(const char *message)
{
    const char *colon = strstr(message, ": ");
    return colon ? colon : message;
}

static void add_tensor(trueno_gguf_writer *w, const trueno_gguf_tensor *t)
{
    char name[65] = "";
    memcpy(name, t->name.data, t->name.len);
    uint32_t n_dims = t->n_dims ? t->n_dims : 1;
    walk_require(trueno_gguf_writer_tensor(w, name, t->type, n_dims, t->ne) == TRUENO_OK);
}

static trueno_gguf_writer *copy(trueno_ctx *ctx, const trueno_gguf *g)
{
    trueno_gguf_writer *w = NULL;
    trueno_gguf_tensor t;
    walk_require(trueno_gguf_writer_new(ctx, &w) == TRUENO_OK);
    for (size_t i = 0; i < trueno_gguf_n_kv(g); i++)
        walk_require(trueno_gguf_writer_copy_kv(w, g, i) == TRUENO_OK);
    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++) {
        trueno_gguf_tensor_at(g, i, &t);
        add_tensor(w, &t);
    }
    walk_require(trueno_gguf_writer_begin(w, NULL, NULL) == TRUENO_OK);
    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++) {
        trueno_gguf_tensor_at(g, i, &t);
        walk_require(trueno_gguf_writer_data(w, trueno_gguf_tensor_data(g, i), (size_t)t.size_bytes,
                                             NULL) == TRUENO_OK);
    }
    walk_require(trueno_gguf_writer_finish(w, NULL) == TRUENO_OK);
    return w;
}

static void compare_copy(const trueno_gguf *g, const trueno_gguf *c)
{
    const size_t n_kv = trueno_gguf_n_kv(g), n = trueno_gguf_n_tensors(g);
    /* the writer may add the version of the quantisation */
    walk_require(trueno_gguf_n_kv(c) - n_kv <= 1 && trueno_gguf_n_tensors(c) == n);
    for (size_t i = 0; i < n_kv; i++) walk_require(walk_kv(g, i, 0) == walk_kv(c, i, 0));
    for (size_t i = 0; i < n; i++) {
        trueno_gguf_tensor a, b;
        trueno_gguf_tensor_at(g, i, &a);
        trueno_gguf_tensor_at(c, i, &b);
        walk_require(a.type == b.type && a.size_bytes == b.size_bytes);
        walk_require(memcmp(a.ne, b.ne, sizeof a.ne) == 0);
        walk_require(a.size_bytes == 0 ||
                     memcmp(trueno_gguf_tensor_data(g, i), trueno_gguf_tensor_data(c, i),
                            (size_t)a.size_bytes) == 0);
    }
}

static void check_copy(trueno_ctx *ctx, const trueno_gguf *g)
{
    size_t size = 0;
    trueno_gguf *c = NULL;
    trueno_gguf_writer *w = copy(ctx, g);
    const void *image = trueno_gguf_writer_buffer(w, &size);
    walk_require(trueno_gguf_open_buffer(ctx, &c, image, size, NULL, NULL) == TRUENO_OK);
    compare_copy(g, c);
    trueno_gguf_free(c);
    trueno_gguf_writer_free(w);
}

/* Opening takes at most a small multiple of the bytes. */
static void check_memory(trueno_ctx *ctx, size_t size)
{
    uint64_t peak;
    trueno_ctx_memory(ctx, NULL, &peak);
    walk_require(peak <= 40 * (uint64_t)size + 32768); /* three times opened */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    trueno_ctx *ctx = NULL;
    trueno_gguf *a = NULL, *b = NULL, *m = NULL;
    trueno_error err_a = {TRUENO_OK, ""}, err_b = {TRUENO_OK, ""};
    trueno_gguf_options meta = TRUENO_GGUF_OPTIONS_INIT;
    struct source src = {data, size};
    walk_require(trueno_ctx_new(&ctx, NULL, NULL) == TRUENO_OK);
    meta.metadata_only = true;
    trueno_status sa = trueno_gguf_open_buffer(ctx, &a, data, size, NULL, &err_a);
    trueno_status sb = trueno_gguf_open_reader(ctx, &b, read_source, &src, size, NULL, &err_b);
    trueno_status sm = trueno_gguf_open_buffer(ctx, &m, data, size, &meta, NULL);
    check_memory(ctx, size);
    walk_require(sa == sb && err_a.status == sa);
    walk_require(sa != TRUENO_ERR_NO_MEMORY && sa != TRUENO_ERR_IO);
    walk_require(!sa == !!a && !sb == !!b && !sm == !!m);
    walk_require(strcmp(after_label(err_a.message), after_label(err_b.message)) == 0);
    walk_require(!sa == !err_a.message[0]);
    if (!sa) {
        walk_require(!sm);
        walk_require(walk_gguf(a, true) == walk_gguf(b, true));
        check_copy(ctx, a);
    }
    if (!sm) walk_gguf(m, false);
    trueno_gguf_free(a);
    trueno_gguf_free(b);
    trueno_gguf_free(m);
    trueno_ctx_free(ctx);
    return 0;
}
