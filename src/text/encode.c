/* SPDX-License-Identifier: MIT */
/* Text to ids: special tokens are cut out, what lies between is merged, BOS and EOS are added. */
#include "text/vocab.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"

bool tr_encode_append(struct tr_encode *e, const char *data, size_t len)
{
    if (len > e->cap_buffer - e->n_buffer) {
        size_t cap = e->cap_buffer ? 2 * e->cap_buffer : 256;
        while (cap - e->n_buffer < len) cap *= 2; /* at most three times TR_ENCODE_TEXT_MAX */
        char *p = tr_realloc(e->t->ctx, e->buffer, cap);
        if (!p) return false;
        e->buffer = p;
        e->cap_buffer = cap;
    }
    memcpy(e->buffer + e->n_buffer, data, len);
    e->n_buffer += len;
    return true;
}

/* Text between special tokens. */
static trueno_status encode_fragment(struct tr_encode *e, const char *text, size_t len,
                                     trueno_error *err)
{
    if (len == 0) return TRUENO_OK;
    if (e->t->type == TR_VOCAB_BPE) return tr_bpe_encode(e, text, len, err);
    /* a fragment always begins the text or follows a special token */
    return tr_spm_encode(e, text, len, e->t->add_space_prefix, err);
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Cuts at special tokens, the longest of those that begin leftmost. `at` is what tr_special_find
 * says about every position. */
static trueno_status encode_cut(struct tr_encode *e, enum tr_special_set set, const char *text,
                                size_t len, const uint32_t *at, trueno_error *err)
{
    size_t begin = 0;
    for (size_t i = 0; i < len;) {
        if (at[i] == 0) {
            i++;
            continue;
        }
        const struct tr_special_state *found = &e->t->special.state[at[i]];
        trueno_status status = encode_fragment(e, text + begin, i - begin, err);
        if (status) return status;
        tr_encode_put(e, found->token[set]);
        i += found->depth;
        if (e->t->flags[found->token[set]] & TR_TOKEN_STRIPS)
            while (i < len && is_space(text[i])) i++;
        begin = i;
    }
    return encode_fragment(e, text + begin, len - begin, err);
}

static trueno_status encode_text(struct tr_encode *e, const char *text, size_t len, bool parse,
                                 trueno_error *err)
{
    enum tr_special_set set = parse ? TR_SPECIAL_ALL : TR_SPECIAL_ALWAYS;
    if (!e->t->special.any[set] || len == 0) return encode_fragment(e, text, len, err);
    uint32_t *at = tr_alloc(e->t->ctx, len * sizeof *at);
    if (!at) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory to encode %zu bytes", len);
    tr_special_find(&e->t->special, set, text, len, at);
    trueno_status status = encode_cut(e, set, text, len, at, err);
    tr_free(e->t->ctx, at);
    return status;
}

trueno_status trueno_encode(const trueno_tokenizer *t, trueno_token *ids, size_t cap, size_t *n,
                            const char *text, size_t len, uint32_t flags, trueno_error *err)
{
    if (!n) return tr_fail(err, TRUENO_ERR_ARGUMENT, "encode: n is NULL");
    *n = 0;
    if (!t) return tr_fail(err, TRUENO_ERR_ARGUMENT, "encode: the tokenizer is NULL");
    if (!ids && cap) return tr_fail(err, TRUENO_ERR_ARGUMENT, "encode: ids is NULL, cap %zu", cap);
    if (!text && len)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "encode: text is NULL, len %zu", len);
    if (flags & ~(uint32_t)(TRUENO_ENCODE_SPECIAL | TRUENO_ENCODE_PARSE))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "encode: unknown flags 0x%X", (unsigned)flags);
    if (len > TR_ENCODE_TEXT_MAX)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "encode: %zu bytes of text, at most %d", len,
                       TR_ENCODE_TEXT_MAX);
    struct tr_encode e = {.t = t, .ids = ids, .cap = cap, .merge.ctx = t->ctx};
    if (flags & TRUENO_ENCODE_SPECIAL && t->add_bos) tr_encode_put(&e, t->bos);
    trueno_status status = encode_text(&e, text, len, (flags & TRUENO_ENCODE_PARSE) != 0, err);
    if (flags & TRUENO_ENCODE_SPECIAL && t->add_eos) tr_encode_put(&e, t->eos);
    tr_merge_free(&e.merge);
    tr_free(t->ctx, e.buffer);
    pcre2_match_data_free(e.match);
    if (!status) *n = e.n;
    return status;
}
