/* SPDX-License-Identifier: MIT */
/* Fuzz target: a vocabulary made from the input, then text through it. Two ways, by the first byte:
 * the rest is a whole GGUF file; or it is a list of records (kind, score, length, text) that a
 * vocabulary is built from, so that tokens and merges are valid enough to be used. */
#include "text/tiny_vocab.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Encodes and decodes; every token that comes out must be of the vocabulary, and decode the way
 * the stream does. */
static void use(const trueno_tokenizer *t, const char *text, size_t len)
{
    trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
    if (trueno_tokenizer_get_info(t, &info)) abort();
    for (uint32_t flags = 0; flags < 4; flags++) {
        size_t n, len2, total = 0;
        if (trueno_encode(t, NULL, 0, &n, text, len, flags, NULL)) abort();
        trueno_token *ids = malloc((n + 1) * sizeof *ids);
        if (!ids || trueno_encode(t, ids, n, &n, text, len, flags, NULL)) abort();
        for (size_t i = 0; i < n; i++)
            if (ids[i] < 0 || (uint32_t)ids[i] >= info.n_vocab) abort();
        if (trueno_decode(t, NULL, 0, &len2, ids, n, true, NULL)) abort();
        trueno_detokenizer *d;
        trueno_detokenizer_options opt = TRUENO_DETOKENIZER_OPTIONS_INIT;
        opt.with_special = opt.raw_bytes = true;
        if (trueno_detokenizer_new(&d, t, &opt)) abort();
        for (size_t i = 0; i <= n; i++) {
            const char *piece;
            size_t size;
            if (i < n ? trueno_detokenizer_push(d, ids[i], &piece, &size)
                      : trueno_detokenizer_flush(d, &piece, &size))
                abort();
            total += size;
        }
        if (total != len2) abort();
        trueno_detokenizer_free(d);
        free(ids);
    }
    for (uint32_t id = 0; id < info.n_vocab && id < 4096; id++) {
        trueno_str s = trueno_token_text(t, (trueno_token)id);
        trueno_token first = trueno_token_find(t, s.data, s.len);
        if (s.len && (first < 0 || first > (trueno_token)id)) abort();
        (void)trueno_token_is_end(t, (trueno_token)id);
    }
}

/* Adds the records to a small vocabulary: bits 0-2 of the first byte are the token's type, bit 3
 * makes a merge line of it, bits 4-7 its length. */
static void add_records(struct tiny_vocab *v, const uint8_t *data, size_t size)
{
    while (size >= 2) {
        size_t len = data[0] >> 4;
        if (len > size - 2) len = size - 2;
        char line[32];
        memcpy(line, data + 2, len);
        line[len] = 0;
        if (data[0] & 8)
            tiny_merge(v, line);
        else
            tiny_add(v, line, len, (float)data[1] - 128, data[0] & 7);
        data += 2 + len;
        size -= 2 + len;
    }
}

static void *build(trueno_ctx *ctx, const uint8_t *data, size_t size, size_t *image_size)
{
    static const char *const pres[] = {"gpt-2", "default", "llama-bpe", "deepseek-llm"};
    struct tiny_vocab v;
    if (data[0] & 2)
        tiny_spm(&v);
    else
        tiny_bpe(&v);
    if (!(data[0] & 2)) v.pre = pres[data[0] >> 2 & 3];
    add_records(&v, data + 1, size - 1);
    void *image = tiny_image(ctx, &v, image_size);
    tiny_free(&v);
    return image;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char sample[] = "hello  world <user>\xFF the <|im_end|> <s>12 \xC3\xA9 ab";
    trueno_ctx *ctx;
    trueno_tokenizer *t;
    trueno_error err;
    if (size < 1 || trueno_ctx_new(&ctx, NULL, NULL)) return 0;
    bool raw = data[0] & 1;
    size_t image_size = size - 1;
    void *image = raw ? malloc(size) : build(ctx, data, size, &image_size);
    if (raw && image) memcpy(image, data + 1, size - 1);
    if (image && tiny_open_image(ctx, image, image_size, NULL, &t, &err) == TRUENO_OK) {
        use(t, sample, sizeof sample - 1);
        use(t, (const char *)data, size < 512 ? size : 512);
        trueno_tokenizer_free(t);
    }
    free(image);
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    if (now) abort();
    trueno_ctx_free(ctx);
    return 0;
}
