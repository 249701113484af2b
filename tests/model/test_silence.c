/* SPDX-License-Identifier: MIT */
/* The library prints nothing: with file descriptors 1 and 2 caught, a tour through the whole API,
 * wrong calls and broken files included, leaves both empty. */
#include "model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void open_broken(trueno_ctx *ctx, const unsigned char *data, size_t size)
{
    unsigned char *copy = malloc(size);
    for (size_t i = 0; i < size; i += 1 + size / 500) {
        trueno_gguf *g;
        trueno_model *m;
        memcpy(copy, data, size);
        copy[i] ^= 0x55;
        if (trueno_gguf_open_buffer(ctx, &g, copy, i % 3 ? size : i, NULL, NULL) != TRUENO_OK)
            continue;
        if (trueno_model_load(&m, g, NULL, NULL) == TRUENO_OK) trueno_model_free(m);
        trueno_gguf_free(g);
    }
    free(copy);
}

static void compute(trueno_ctx *ctx, const struct toy *t)
{
    trueno_model *m = toy_load(ctx, t);
    trueno_session *s = NULL;
    trueno_sampler *sampler = NULL;
    trueno_token tokens[20], chosen;
    toy_tokens(tokens, 20, t->n_vocab, 1);
    (void)trueno_session_new(&s, m, NULL, NULL);
    (void)trueno_session_eval(s, tokens, 20, TRUENO_LOGITS_LAST);
    (void)trueno_session_eval(s, tokens, 0, TRUENO_LOGITS_ALL);
    (void)trueno_sampler_new(ctx, &sampler, t->n_vocab, NULL, NULL);
    (void)trueno_sampler_sample(sampler, &chosen, trueno_session_logits(s, -1));
    trueno_sampler_free(sampler);
    trueno_session_free(s);
    trueno_model_free(m);
}

static void tour(trueno_ctx *ctx)
{
    trueno_error err;
    trueno_gguf *g;
    size_t size, n;
    const char *name;
    char text[256];
    const trueno_chat_message hello = {"user", "Hello"};
    for (size_t a = 0; toy_arch(a) != NULL; a++) {
        struct toy t = toy_default(toy_arch(a));
        trueno_gguf_writer *w = toy_build(ctx, &t);
        const unsigned char *data = trueno_gguf_writer_buffer(w, &size);
        if (a == 0) open_broken(ctx, data, size);
        trueno_gguf_writer_free(w);
        compute(ctx, &t);
    }
    (void)trueno_gguf_open(ctx, &g, "/nonexistent/file.gguf", NULL, &err);
    (void)trueno_gguf_open(ctx, &g, "/", NULL, &err);
    (void)trueno_chat_detect(&name, "<|im_start|>", 12);
    (void)trueno_chat_apply(text, sizeof text, &n, "chatml", &hello, 1, true, &err);
    (void)trueno_chat_apply(text, sizeof text, &n, "no such", &hello, 1, true, &err);
}

static void nothing_reaches_the_standard_streams(void **state)
{
    (void)state;
    FILE *caught = tmpfile();
    assert_non_null(caught);
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx, *wrong;
    fflush(NULL);
    int out = dup(1), err = dup(2);
    dup2(fileno(caught), 1);
    dup2(fileno(caught), 2);
    trueno_status st = trueno_ctx_new(&ctx, NULL, NULL);
    if (st == TRUENO_OK) tour(ctx);
    trueno_ctx_free(ctx);
    co.cpu = "no such level";
    trueno_status st_wrong = trueno_ctx_new(&wrong, &co, NULL);
    fflush(NULL);
    dup2(out, 1);
    dup2(err, 2);
    close(out);
    close(err);
    assert_int_equal(st, TRUENO_OK);
    assert_int_equal(st_wrong, TRUENO_ERR_ARGUMENT);
    assert_int_equal(lseek(fileno(caught), 0, SEEK_END), 0);
    fclose(caught);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_reaches_the_standard_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
