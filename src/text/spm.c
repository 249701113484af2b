/* SPDX-License-Identifier: MIT */
/* SentencePiece: characters merge by the scores of the tokens they make; what is left over becomes
 * bytes. Source: Kudo and Richardson, "SentencePiece" (2018), model type BPE. */
#include "text/vocab.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/utf8.h"

/* Order of finite scores as numbers: the higher the score, the lower the rank. */
static uint32_t rank_of(float score)
{
    uint32_t bits;
    score += 0.0f; /* -0 becomes 0 */
    memcpy(&bits, &score, sizeof bits);
    return bits >> 31 ? bits : ~(bits | 0x80000000u);
}

static trueno_status load_scores(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    static const char key[] = "tokenizer.ggml.scores";
    ptrdiff_t kv;
    uint64_t count;
    trueno_status status = tr_vocab_array(g, key, TRUENO_GGUF_F32, t->n_vocab, &kv, &count, err);
    if (status) return status;
    if (kv < 0) return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: missing", key);
    t->rank = tr_alloc(t->ctx, t->n_vocab * sizeof *t->rank);
    if (!t->rank) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the scores");
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        double score;
        if (trueno_gguf_elem_f64(g, (size_t)kv, i, &score) != TRUENO_OK || !isfinite(score))
            return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: element %u is not a finite number", key,
                           i);
        t->rank[i] = rank_of((float)score);
    }
    return TRUENO_OK;
}

static trueno_status load_bytes(trueno_tokenizer *t, trueno_error *err)
{
    int n_bytes = 0;
    for (int b = 0; b < 256; b++) t->byte_token[b] = TRUENO_TOKEN_NONE;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        if (t->kind[i] != TRUENO_TOKEN_BYTE) continue;
        trueno_str text = tr_token_str(t, (trueno_token)i);
        int value = tr_byte_token_value(text);
        if (value < 0)
            return tr_fail(err, TRUENO_ERR_CORRUPT,
                           "tokenizer.ggml.tokens: token %u is a byte, but its text is \"%.*s\" "
                           "and not <0x00> to <0xFF>",
                           i, TR_STR_ARGS(text));
        if (t->byte_token[value] != TRUENO_TOKEN_NONE) continue;
        t->byte_token[value] = (trueno_token)i;
        n_bytes++;
    }
    t->has_all_bytes = n_bytes == 256;
    if (!t->has_all_bytes && t->unk == TRUENO_TOKEN_NONE)
        return tr_fail(err, TRUENO_ERR_CORRUPT,
                       "tokenizer.ggml.tokens: %d of 256 byte tokens and no unknown token: some "
                       "text could not be encoded",
                       n_bytes);
    return TRUENO_OK;
}

/* Notes which bytes stand before a U+2581 inside a token: anywhere else text may be cut before a
 * space without changing the result, because no token reaches across. */
static void find_joins(trueno_tokenizer *t)
{
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        if (!(t->flags[i] & TR_TOKEN_MERGES)) continue;
        trueno_str text = tr_token_str(t, (trueno_token)i);
        for (size_t p = 1; p + TR_SPM_SPACE_LEN <= text.len; p++)
            if (memcmp(text.data + p, TR_SPM_SPACE, TR_SPM_SPACE_LEN) == 0)
                t->joins[(uint8_t)text.data[p - 1]] = true;
    }
}

trueno_status tr_spm_load(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    trueno_status status = load_scores(t, g, err);
    if (!status) status = load_bytes(t, err);
    if (!status) find_joins(t);
    return status;
}

/* ------------------------------------------------------------------------------ encode */

static bool spm_pair(const trueno_tokenizer *t, const char *text, const struct tr_symbol *l,
                     const struct tr_symbol *r, uint32_t *rank, trueno_token *id)
{
    *id = tr_vocab_find_piece(t, text + l->begin, (size_t)l->len + r->len);
    if (*id == TRUENO_TOKEN_NONE) return false;
    *rank = t->rank[*id];
    return true;
}

/* A character that is no token: its bytes if all of them are tokens, else the unknown token. A
 * space is the byte 0x20 again, so that it is a space when decoded. */
static void put_bytes(struct tr_encode *e, const char *text, size_t len)
{
    const trueno_token *byte_token = e->t->byte_token;
    if (len == TR_SPM_SPACE_LEN && memcmp(text, TR_SPM_SPACE, len) == 0 &&
        byte_token[' '] != TRUENO_TOKEN_NONE) {
        tr_encode_put(e, byte_token[' ']);
        return;
    }
    bool all = true;
    for (size_t i = 0; i < len; i++) all &= byte_token[(uint8_t)text[i]] != TRUENO_TOKEN_NONE;
    if (!all) tr_encode_put(e, e->t->unk);
    for (size_t i = 0; i < len && all; i++) tr_encode_put(e, byte_token[(uint8_t)text[i]]);
}

/* Merges and puts out what is in e->buffer. */
static bool finish_piece(struct tr_encode *e)
{
    if (e->n_buffer == 0) return true;
    if (!tr_merge_run(&e->merge, e->t, e->buffer, spm_pair)) return false;
    for (int32_t i = 0; i != TR_SYMBOL_END; i = e->merge.symbol[i].next) {
        const struct tr_symbol *s = &e->merge.symbol[i];
        if (s->id != TRUENO_TOKEN_NONE)
            tr_encode_put(e, s->id);
        else
            put_bytes(e, e->buffer + s->begin, s->len);
    }
    e->n_buffer = e->merge.n_symbols = 0;
    return true;
}

/* Appends one character; a space begins a new piece where no token can reach over it. */
static bool add_character(struct tr_encode *e, const char *c, size_t len)
{
    if (*c == ' ') {
        c = TR_SPM_SPACE;
        len = TR_SPM_SPACE_LEN;
    }
    bool space = len == TR_SPM_SPACE_LEN && memcmp(c, TR_SPM_SPACE, len) == 0;
    if (space && e->n_buffer && !e->t->joins[(uint8_t)e->buffer[e->n_buffer - 1]] &&
        !finish_piece(e))
        return false;
    trueno_token id = tr_vocab_find_piece(e->t, c, len);
    return tr_merge_add(&e->merge, (uint32_t)e->n_buffer, (uint32_t)len, id) &&
           tr_encode_append(e, c, len);
}

trueno_status tr_spm_encode(struct tr_encode *e, const char *text, size_t len, bool space,
                            trueno_error *err)
{
    bool ok = true;
    e->n_buffer = e->merge.n_symbols = 0;
    if (space) ok = add_character(e, " ", 1);
    for (size_t i = 0; i < len && ok;) {
        size_t n = tr_utf8_char(text + i, len - i);
        if (n == 0) n = 1; /* not UTF-8: a piece of its own */
        ok = add_character(e, text + i, n);
        i += n;
    }
    if (!ok || !finish_piece(e))
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory to encode %zu bytes", len);
    return TRUENO_OK;
}
