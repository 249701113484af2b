/* SPDX-License-Identifier: MIT */
/* Streaming detokeniser: what can be printed now, and the few bytes that must wait for the rest of
 * their character. */
#include "text/vocab.h"

#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "text/utf8.h"

static const char replacement[] = "\xEF\xBF\xBD"; /* U+FFFD */
enum { REPLACEMENT_LEN = 3 };

struct trueno_detokenizer {
    trueno_ctx *ctx;
    const trueno_tokenizer *t;
    trueno_detokenizer_options opt;
    struct tr_decode decode;
    char *bytes; /* what is held back, then the text of the token that is pushed */
    size_t n_held;
    char *text; /* what the last call returned */
    size_t cap; /* of a token's text: room of `bytes` without what is held back */
};

/* Room for a token of `len` bytes: every byte may become U+FFFD. */
static bool reserve(trueno_detokenizer *d, size_t len)
{
    if (len <= d->cap && d->text) return true;
    size_t cap = len < 64 ? 64 : len; /* a token has at most TR_VOCAB_TEXT_MAX bytes */
    char *bytes = tr_realloc(d->ctx, d->bytes, cap + TR_UTF8_HELD_MAX);
    if (!bytes) return false;
    d->bytes = bytes;
    char *text = tr_realloc(d->ctx, d->text, (cap + TR_UTF8_HELD_MAX) * REPLACEMENT_LEN + 1);
    if (!text) return false;
    d->text = text;
    d->cap = cap;
    return true;
}

trueno_status trueno_detokenizer_new(trueno_detokenizer **out, const trueno_tokenizer *t,
                                     const trueno_detokenizer_options *opt)
{
    static const trueno_detokenizer_options defaults = TRUENO_DETOKENIZER_OPTIONS_INIT;
    if (!out) return TRUENO_ERR_ARGUMENT;
    *out = NULL;
    if (!t || (opt && !TR_STRUCT_OK(opt))) return TRUENO_ERR_ARGUMENT;
    trueno_detokenizer *d = tr_calloc(t->ctx, 1, sizeof *d);
    if (!d) return TRUENO_ERR_NO_MEMORY;
    d->ctx = t->ctx;
    d->t = t;
    d->opt = opt ? *opt : defaults;
    tr_ctx_ref(d->ctx);
    if (!reserve(d, 0)) {
        trueno_detokenizer_free(d);
        return TRUENO_ERR_NO_MEMORY;
    }
    trueno_detokenizer_reset(d);
    *out = d;
    return TRUENO_OK;
}

void trueno_detokenizer_free(trueno_detokenizer *d)
{
    if (!d) return;
    trueno_ctx *ctx = d->ctx;
    tr_free(ctx, d->bytes);
    tr_free(ctx, d->text);
    tr_free(ctx, d);
    tr_ctx_unref(ctx);
}

void trueno_detokenizer_reset(trueno_detokenizer *d)
{
    if (!d) return;
    d->n_held = 0;
    d->text[0] = '\0';
    d->decode.with_special = d->opt.with_special;
    d->decode.drop_space = d->t->add_space_prefix && !d->opt.keep_space_prefix;
}

/* Moves `n` bytes of d->bytes to d->text, all but an unfinished character at the end; at the `end`
 * of the sequence that one too. */
static void print(trueno_detokenizer *d, size_t n, bool end, const char **text, size_t *len)
{
    size_t done = 0, used = 0;
    while (used < n) {
        enum tr_utf8 what;
        size_t part = tr_utf8_next(d->bytes + used, n - used, &what);
        if (what == TR_UTF8_CUT && !end) break;
        bool replace = what != TR_UTF8_CHAR && !d->opt.raw_bytes;
        size_t size = replace ? REPLACEMENT_LEN : part;
        memcpy(d->text + done, replace ? replacement : d->bytes + used, size);
        done += size;
        used += part;
    }
    d->n_held = n - used;
    memmove(d->bytes, d->bytes + used, d->n_held);
    d->text[done] = '\0';
    *text = d->text;
    *len = done;
}

trueno_status trueno_detokenizer_push(trueno_detokenizer *d, trueno_token id, const char **text,
                                      size_t *len)
{
    if (text) *text = "";
    if (len) *len = 0;
    if (!d || !text || !len || !tr_token_valid(d->t, id)) return TRUENO_ERR_ARGUMENT;
    if (!reserve(d, tr_token_str(d->t, id).len)) return TRUENO_ERR_NO_MEMORY;
    struct tr_text_sink out = {d->bytes + d->n_held, d->cap, 0};
    tr_decode_token(d->t, &d->decode, id, &out);
    print(d, d->n_held + out.n, false, text, len);
    return TRUENO_OK;
}

trueno_status trueno_detokenizer_flush(trueno_detokenizer *d, const char **text, size_t *len)
{
    if (text) *text = "";
    if (len) *len = 0;
    if (!d || !text || !len) return TRUENO_ERR_ARGUMENT;
    print(d, d->n_held, true, text, len);
    return TRUENO_OK;
}
