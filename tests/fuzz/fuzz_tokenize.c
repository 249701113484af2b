/* SPDX-License-Identifier: MIT */
/* Fuzz target: any bytes as text, through three small vocabularies (SPM, BPE with two passes of
 * expressions, BPE that takes whole pieces). Text survives encode and decode, at every cut. The
 * first byte chooses flags. */
#include "text/tiny_vocab.h"

enum { N_VOCABS = 3, MAX_TEXT = 4096 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static trueno_tokenizer *open_one(trueno_ctx *ctx, int which)
{
    struct tiny_vocab v;
    trueno_tokenizer *t;
    if (which == 0)
        tiny_spm(&v);
    else
        tiny_bpe(&v);
    if (which == 1) v.pre = "default";
    if (which == 2) v.pre = "tekken";
    tiny_str(&v, "\xFF", -1, which == 0 ? 1 : 4);
    tiny_str(&v, "a\xFF", -1, 4);
    tiny_str(&v, "ab ", -1, 4);
    tiny_str(&v, "b  c", -1, 4);
    tiny_str(&v, which == 0 ? "\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81" : "\n\n", -1, 4);
    if (tiny_open(ctx, &v, NULL, &t, NULL)) abort();
    tiny_free(&v);
    return t;
}

/* SPM writes spaces as U+2581, so that character itself comes back as a space. */
static bool same(const char *text, size_t len, const char *back, size_t len2, bool spm)
{
    size_t i = 0, k = 0;
    while (i < len && k < len2) {
        bool mark = spm && len - i >= 3 && memcmp(text + i, "\xE2\x96\x81", 3) == 0;
        if (back[k++] != (mark ? ' ' : text[i])) return false;
        i += mark ? 3 : 1;
    }
    return i == len && k == len2;
}

/* Streams ids; what comes out must be `back`. */
static void check_stream(const trueno_tokenizer *t, const trueno_token *ids, size_t n,
                         const char *back, size_t len2, bool special)
{
    trueno_detokenizer *d;
    trueno_detokenizer_options opt = TRUENO_DETOKENIZER_OPTIONS_INIT;
    opt.with_special = special;
    opt.raw_bytes = true;
    if (trueno_detokenizer_new(&d, t, &opt)) abort();
    size_t total = 0;
    for (size_t i = 0; i <= n; i++) {
        const char *piece;
        size_t len;
        trueno_status s = i < n ? trueno_detokenizer_push(d, ids[i], &piece, &len)
                                : trueno_detokenizer_flush(d, &piece, &len);
        if (s || len > len2 - total || memcmp(back + total, piece, len) != 0) abort();
        total += len;
        if (i < n && piece[len] != 0) abort();
    }
    if (total != len2) abort();
    trueno_detokenizer_free(d);
}

static void check(const trueno_tokenizer *t, const char *text, size_t len, bool parse, bool spm)
{
    static trueno_token ids[2 * MAX_TEXT + 8];
    static char back[8 * MAX_TEXT];
    size_t n, n2, len2;
    uint32_t flags = parse ? (uint32_t)TRUENO_ENCODE_PARSE : 0;
    if (trueno_encode(t, ids, 2 * MAX_TEXT + 8, &n, text, len, flags, NULL)) abort();
    if (n > 2 * len + 1) abort();
    if (trueno_encode(t, NULL, 0, &n2, text, len, flags, NULL) || n2 != n) abort();
    if (trueno_decode(t, back, sizeof back, &len2, ids, n, parse, NULL)) abort();
    if (len2 > sizeof back || !same(text, len, back, len2, spm)) abort();
    check_stream(t, ids, n, back, len2, parse);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static trueno_ctx *ctx;
    static trueno_tokenizer *t[N_VOCABS];
    if (!ctx && trueno_ctx_new(&ctx, NULL, NULL)) abort();
    for (int i = 0; i < N_VOCABS; i++)
        if (!t[i]) t[i] = open_one(ctx, i);
    if (size < 1 || size > MAX_TEXT) return 0;
    const char *text = (const char *)data + 1;
    for (int i = 0; i < N_VOCABS; i++) check(t[i], text, size - 1, data[0] & 1, i == 0);
    return 0;
}
