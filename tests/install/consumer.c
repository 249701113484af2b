/* SPDX-License-Identifier: MIT */
/* A program of somebody else: proves that headers and library fit together. Exits 0 if all is well,
 * else with the number of what is not. */
#include <stdio.h>
#include <string.h>
#include <trueno.h>

int main(void)
{
    if (strcmp(trueno_version(), TRUENO_VERSION) != 0) return 1;

    trueno_ctx_options options = TRUENO_CTX_OPTIONS_INIT;
    options.cpu = "ref";
    trueno_ctx *ctx;
    trueno_error err;
    if (trueno_ctx_new(&ctx, &options, &err) != TRUENO_OK) return 2;
    if (trueno_registry_count() == 0) return 3;

    /* Reaches the reader, the tokenizer (and with it PCRE2), the model and a thread. */
    trueno_gguf *file;
    if (trueno_gguf_open(ctx, &file, "/nonexistent.gguf", NULL, &err) != TRUENO_ERR_IO) return 4;
    trueno_tokenizer *tokenizer;
    if (trueno_tokenizer_new(&tokenizer, NULL, NULL, &err) != TRUENO_ERR_ARGUMENT) return 5;
    trueno_model *model;
    if (trueno_model_load(&model, NULL, NULL, &err) != TRUENO_ERR_ARGUMENT) return 6;
    trueno_pool *pool;
    if (trueno_pool_new(ctx, &pool, 2, &err) != TRUENO_OK) return 7;

    printf("trueno %s, %u threads\n", trueno_version(), (unsigned)trueno_pool_size(pool));
    trueno_pool_free(pool);
    trueno_ctx_free(ctx);
    return 0;
}
