/* SPDX-License-Identifier: MIT */
/* Small vocabularies for tests and fuzz targets: described in memory, written as GGUF through the
 * public writer, opened through the public reader. Every part can be left out or spoilt. */
#ifndef TINY_VOCAB_H
#define TINY_VOCAB_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/tokenizer.h"

/* An array key: as described, left out, or written with another count or element type. */
struct tiny_array {
    bool absent;
    int delta;             /* elements more or fewer than there are tokens or merges */
    trueno_gguf_type type; /* of the elements, if `retype` */
    bool retype;
};

struct tiny_vocab {
    const char *model, *pre; /* NULL: no key */
    trueno_str *token, *merge;
    float *score;
    int32_t *type;
    size_t n, n_merges, cap;
    struct tiny_array tokens, scores, types, merges;
    /* more keys: written by the test */
    void (*extra)(trueno_gguf_writer *w, void *arg);
    void *arg;
};

static inline trueno_str tiny_copy(const void *data, size_t len)
{
    char *p = malloc(len + 1);
    if (!p) exit(2);
    if (len) memcpy(p, data, len);
    return (trueno_str){p, len};
}

static inline void tiny_add(struct tiny_vocab *v, const void *text, size_t len, float score,
                            int32_t type)
{
    if (v->n == v->cap) {
        v->cap = v->cap ? 2 * v->cap : 1024;
        v->token = realloc(v->token, v->cap * sizeof *v->token);
        v->score = realloc(v->score, v->cap * sizeof *v->score);
        v->type = realloc(v->type, v->cap * sizeof *v->type);
        if (!v->token || !v->score || !v->type) exit(2);
    }
    v->token[v->n] = tiny_copy(text, len);
    v->score[v->n] = score;
    v->type[v->n++] = type;
}

static inline void tiny_str(struct tiny_vocab *v, const char *text, float score, int32_t type)
{
    tiny_add(v, text, strlen(text), score, type);
}

static inline void tiny_merge(struct tiny_vocab *v, const char *line)
{
    v->merge = realloc(v->merge, (v->n_merges + 1) * sizeof *v->merge);
    if (!v->merge) exit(2);
    v->merge[v->n_merges++] = tiny_copy(line, strlen(line));
}

/* Frees the texts, not the struct. */
static inline void tiny_free(struct tiny_vocab *v)
{
    for (size_t i = 0; i < v->n; i++) free((void *)(uintptr_t)v->token[i].data);
    for (size_t i = 0; i < v->n_merges; i++) free((void *)(uintptr_t)v->merge[i].data);
    free(v->token);
    free(v->merge);
    free(v->score);
    free(v->type);
    *v = (struct tiny_vocab){0};
}

enum { TINY_SPM_BYTES = 3, TINY_SPM_SPACE = 3 + 256 };

/* SPM: <unk> <s> </s>, 256 bytes from id 3, U+2581 at 259, a to z, some words, and the user-defined
 * <user>. */
static inline void tiny_spm(struct tiny_vocab *v)
{
    static const char *const words[] = {"he",
                                        "ll",
                                        "hell",
                                        "hello",
                                        "\xE2\x96\x81h",
                                        "\xE2\x96\x81hello",
                                        "wor",
                                        "ld",
                                        "world",
                                        "or",
                                        "\xE2\x96\x81\xE2\x96\x81",
                                        "\xC3\xA9",
                                        "th",
                                        "the"};
    *v = (struct tiny_vocab){.model = "llama", .pre = "default"};
    tiny_str(v, "<unk>", 0, 2);
    tiny_str(v, "<s>", 0, 3);
    tiny_str(v, "</s>", 0, 3);
    for (unsigned b = 0; b < 256; b++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", b);
        tiny_str(v, text, 0, 6);
    }
    tiny_str(v, "\xE2\x96\x81", -100, 1);
    for (char c = 'a'; c <= 'z'; c++) tiny_add(v, &c, 1, -101 - (float)(c - 'a'), 1);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        tiny_str(v, words[i], -1 - (float)i, 1);
    tiny_str(v, "<user>", 0, 4);
}

/* A byte in the printable alphabet of BPE, NUL-terminated: written from the definition (the 68
 * bytes that do not print follow from U+0100 in order), not from the library. */
static inline void tiny_alphabet(unsigned byte, char out[4])
{
    unsigned c = 0x100, code = byte;
    for (unsigned b = 0; b <= byte; b++) {
        bool prints = (b > 32 && b < 127) || (b > 160 && b != 173);
        code = prints ? b : c++;
    }
    out[0] = (char)(code < 0x80 ? code : 0xC0 | code >> 6);
    out[1] = (char)(code < 0x80 ? 0 : 0x80 | (code & 63));
    out[2] = 0;
}

/* BPE: 256 bytes from id 0, some words, control tokens <|im_start|> and <|im_end|>, the
 * user-defined <user>. */
static inline void tiny_bpe(struct tiny_vocab *v)
{
    static const char *const merges[] = {
        "h e",  "l l", "he ll",  "hell o", "\xC4\xA0 hello",    "o r",
        "w or", "l d", "wor ld", "1 2",    "\xC4\xA0 \xC4\xA0", "\xC3\x83 \xC2\xA9",
        "t h",  "th e"};
    *v = (struct tiny_vocab){.model = "gpt2", .pre = "gpt-2"};
    for (unsigned b = 0; b < 256; b++) {
        char text[4];
        tiny_alphabet(b, text);
        tiny_str(v, text, 0, 1);
    }
    for (size_t i = 0; i < sizeof merges / sizeof merges[0]; i++) {
        char joined[32], *to = joined;
        for (const char *p = merges[i]; *p; p++)
            if (*p != ' ') *to++ = *p;
        tiny_add(v, joined, (size_t)(to - joined), 0, 1);
        tiny_merge(v, merges[i]);
    }
    tiny_str(v, "<|im_start|>", 0, 3);
    tiny_str(v, "<|im_end|>", 0, 3);
    tiny_str(v, "<user>", 0, 4);
}

/* Writes `count` elements of some numbers, as `type` says or as its own. */
static inline trueno_status tiny_numbers(trueno_gguf_writer *w, const char *key, const void *data,
                                         size_t n, trueno_gguf_type type,
                                         const struct tiny_array *how)
{
    if (how->absent) return TRUENO_OK;
    size_t count = (size_t)((long)n + how->delta);
    char *copy = calloc(count + n + 1, 8);
    if (!copy) exit(2);
    if (n) memcpy(copy, data, n * 4);
    trueno_status status =
        trueno_gguf_writer_array(w, key, how->retype ? how->type : type, copy, count);
    free(copy);
    return status;
}

static inline trueno_status tiny_strings(trueno_gguf_writer *w, const char *key,
                                         const trueno_str *data, size_t n,
                                         const struct tiny_array *how)
{
    static const uint32_t zeros[8];
    if (how->absent) return TRUENO_OK;
    if (how->retype) return trueno_gguf_writer_array(w, key, how->type, zeros, 8);
    return trueno_gguf_writer_str_array(w, key, data, (size_t)((long)n + how->delta));
}

/* The file of a vocabulary; free() it. NULL and 0 if the writer failed. */
static inline void *tiny_image(trueno_ctx *ctx, const struct tiny_vocab *v, size_t *size_bytes)
{
    trueno_gguf_writer *w = NULL;
    void *image = NULL;
    *size_bytes = 0;
    trueno_status s = trueno_gguf_writer_new(ctx, &w);
    if (!s && v->model)
        s = trueno_gguf_writer_str(w, "tokenizer.ggml.model", v->model, strlen(v->model));
    if (!s && v->pre) s = trueno_gguf_writer_str(w, "tokenizer.ggml.pre", v->pre, strlen(v->pre));
    if (!s) s = tiny_strings(w, "tokenizer.ggml.tokens", v->token, v->n, &v->tokens);
    if (!s)
        s = tiny_numbers(w, "tokenizer.ggml.scores", v->score, v->n, TRUENO_GGUF_F32, &v->scores);
    if (!s)
        s = tiny_numbers(w, "tokenizer.ggml.token_type", v->type, v->n, TRUENO_GGUF_I32, &v->types);
    if (!s && v->n_merges)
        s = tiny_strings(w, "tokenizer.ggml.merges", v->merge, v->n_merges, &v->merges);
    if (!s && v->extra) v->extra(w, v->arg);
    if (!s) s = trueno_gguf_writer_begin(w, NULL, NULL);
    if (!s) s = trueno_gguf_writer_finish(w, NULL);
    const void *bytes = s ? NULL : trueno_gguf_writer_buffer(w, size_bytes);
    if (bytes && (image = malloc(*size_bytes + 1)) != NULL) memcpy(image, bytes, *size_bytes);
    trueno_gguf_writer_free(w);
    return image;
}

/* Opens a vocabulary file in memory; the image may be freed afterwards. */
static inline trueno_status tiny_open_image(trueno_ctx *ctx, const void *image, size_t size_bytes,
                                            const trueno_tokenizer_options *opt,
                                            trueno_tokenizer **out, trueno_error *err)
{
    trueno_gguf *g = NULL;
    *out = NULL;
    trueno_status s = trueno_gguf_open_buffer(ctx, &g, image, size_bytes, NULL, err);
    if (!s) s = trueno_tokenizer_new(out, g, opt, err);
    trueno_gguf_free(g);
    return s;
}

static inline trueno_status tiny_open(trueno_ctx *ctx, const struct tiny_vocab *v,
                                      const trueno_tokenizer_options *opt, trueno_tokenizer **out,
                                      trueno_error *err)
{
    size_t size_bytes;
    void *image = tiny_image(ctx, v, &size_bytes);
    *out = NULL;
    if (!image) return TRUENO_ERR_NO_MEMORY;
    trueno_status s = tiny_open_image(ctx, image, size_bytes, opt, out, err);
    free(image);
    return s;
}

#endif
