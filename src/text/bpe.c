/* SPDX-License-Identifier: MIT */
/* Byte-level BPE: the bytes of a piece merge in the order in which the pairs were learnt. Token
 * texts are written in an alphabet of 256 printable characters. Source: Radford et al., "Language
 * Models are Unsupervised Multitask Learners" (2019). */
#include "text/vocab.h"

#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"

/* Printable bytes stand for themselves, the other 68 follow from U+0100 on. */
static bool is_printable(uint32_t c)
{
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

/* Printable bytes below `b`. */
static uint32_t printable_below(uint32_t b)
{
    uint32_t n = b > 126 ? 94 : b > 33 ? b - 33 : 0;
    n += b > 172 ? 12 : b > 161 ? b - 161 : 0;
    return n + (b > 174 ? b - 174 : 0);
}

uint32_t tr_bpe_code_point(uint8_t byte)
{
    return is_printable(byte) ? byte : 0x100u + byte - printable_below(byte);
}

int tr_bpe_byte(uint32_t code_point)
{
    if (is_printable(code_point)) return (int)code_point;
    uint32_t k = code_point - 0x100;
    if (code_point < 0x100 || k >= 68) return -1;
    return k <= 32 ? (int)k : k <= 66 ? (int)k + 94 : 173;
}

/* A byte in the alphabet as UTF-8; returns 1 or 2 bytes. */
static size_t alphabet_utf8(uint8_t byte, char out[2])
{
    uint32_t c = tr_bpe_code_point(byte);
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 63));
    return 2;
}

/* -------------------------------------------------------------------------------- load */

static trueno_status load_bytes(trueno_tokenizer *t, trueno_error *err)
{
    t->has_all_bytes = true;
    for (int b = 0; b < 256; b++) {
        char text[2];
        size_t len = alphabet_utf8((uint8_t)b, text);
        t->byte_token[b] = tr_vocab_find_piece(t, text, len);
        if (t->byte_token[b] != TRUENO_TOKEN_NONE) continue;
        t->has_all_bytes = false;
        if (t->unk == TRUENO_TOKEN_NONE)
            return tr_fail(err, TRUENO_ERR_CORRUPT,
                           "tokenizer.ggml.tokens: no token for byte 0x%02X and no unknown token: "
                           "some text could not be encoded",
                           (unsigned)b);
    }
    return TRUENO_OK;
}

/* Enters one line "left right" of the merges. A line about texts that are no tokens can never
 * apply: it is counted and left out. `joined` has room for two tokens. */
static trueno_status add_merge(trueno_tokenizer *t, uint32_t rank, trueno_str line, char *joined,
                               uint32_t *n_unknown, trueno_error *err)
{
    const char *space = line.len > 1 ? memchr(line.data + 1, ' ', line.len - 1) : NULL;
    if (!space)
        return tr_fail(err, TRUENO_ERR_CORRUPT,
                       "tokenizer.ggml.merges: element %u, \"%.*s\", is not two texts with a space",
                       rank, TR_STR_ARGS(line));
    size_t n_left = (size_t)(space - line.data), n_right = line.len - n_left - 1;
    trueno_token left = tr_vocab_find_piece(t, line.data, n_left);
    trueno_token right = tr_vocab_find_piece(t, space + 1, n_right);
    trueno_token both = TRUENO_TOKEN_NONE;
    if (left != TRUENO_TOKEN_NONE && right != TRUENO_TOKEN_NONE) {
        memcpy(joined, line.data, n_left);
        memcpy(joined + n_left, space + 1, n_right);
        both = tr_vocab_find_piece(t, joined, n_left + n_right);
    }
    if (both == TRUENO_TOKEN_NONE) {
        ++*n_unknown;
        return TRUENO_OK;
    }
    uint64_t key = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
    if (!tr_pairmap_put(&t->merges, key, rank, (uint32_t)both))
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the merges");
    return TRUENO_OK;
}

static trueno_status load_merges(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    static const char key[] = "tokenizer.ggml.merges";
    ptrdiff_t kv;
    uint64_t count;
    uint32_t n_unknown = 0;
    trueno_status status = tr_vocab_array(g, key, TRUENO_GGUF_STRING, UINT64_MAX, &kv, &count, err);
    if (status) return status;
    if (kv < 0) return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: missing", key);
    if (count > TR_VOCAB_MERGES_MAX)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "%s: %llu elements, at most %d", key,
                       (unsigned long long)count, TR_VOCAB_MERGES_MAX);
    t->merges.ctx = t->ctx;
    t->merges.seed = t->by_text.key[1];
    char *joined = tr_alloc(t->ctx, 2 * (size_t)t->longest);
    if (!joined) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the merges");
    for (uint32_t i = 0; i < count && !status; i++) {
        trueno_str line;
        status = trueno_gguf_elem_str(g, (size_t)kv, i, &line);
        if (!status) status = add_merge(t, i, line, joined, &n_unknown, err);
    }
    tr_free(t->ctx, joined);
    if (!status && n_unknown)
        tr_log(t->ctx, TRUENO_LOG_WARN, "%s: %u of %llu are about texts that are no tokens", key,
               n_unknown, (unsigned long long)count);
    return status;
}

trueno_status tr_bpe_load(trueno_tokenizer *t, const trueno_gguf *g, bool strict_pre,
                          trueno_error *err)
{
    static const char key[] = "tokenizer.ggml.pre";
    trueno_str pre = {"", 0};
    bool add_bos;
    trueno_status status = trueno_gguf_get_str(g, key, &pre, err);
    if (status == TRUENO_ERR_NOT_FOUND) {
        tr_log(t->ctx, TRUENO_LOG_WARN, "%s: missing, the default expressions are used", key);
    } else if (status) {
        return status;
    } else if (!tr_pre_known(pre, &add_bos)) {
        if (strict_pre)
            return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "%s is \"%.*s\": not known", key,
                           TR_STR_ARGS(pre));
        tr_log(t->ctx, TRUENO_LOG_WARN,
               "%s is \"%.*s\": not known, the default expressions are used", key,
               TR_STR_ARGS(pre));
    }
    status = load_bytes(t, err);
    if (!status) status = load_merges(t, g, err);
    if (!status) status = tr_pre_init(&t->split, t->ctx, pre, err);
    return status;
}

/* ------------------------------------------------------------------------------ encode */

static bool bpe_pair(const trueno_tokenizer *t, const char *text, const struct tr_symbol *l,
                     const struct tr_symbol *r, uint32_t *rank, trueno_token *id)
{
    (void)text;
    if (l->id < 0 || r->id < 0) return false;
    const struct tr_pairmap_slot *slot =
        tr_pairmap_get(&t->merges, (uint64_t)(uint32_t)l->id << 32 | (uint32_t)r->id);
    if (!slot) return false;
    *rank = slot->a;
    *id = (trueno_token)slot->b;
    return true;
}

/* Token of a whole piece, for vocabularies where that needs no merging. False: no memory. */
static bool find_whole(struct tr_encode *e, const char *piece, size_t len, trueno_token *id)
{
    *id = TRUENO_TOKEN_NONE;
    if (!e->t->split.ignore_merges || len > e->t->longest) return true;
    e->n_buffer = 0;
    for (size_t i = 0; i < len; i++) {
        char c[2];
        size_t n = alphabet_utf8((uint8_t)piece[i], c);
        if (!tr_encode_append(e, c, n)) return false;
    }
    *id = tr_vocab_find_piece(e->t, e->buffer, e->n_buffer);
    return true;
}

/* Encodes one piece. */
static trueno_status encode_piece(void *arg, const char *piece, size_t len, trueno_error *err)
{
    struct tr_encode *e = arg;
    trueno_token whole;
    bool ok = find_whole(e, piece, len, &whole);
    if (ok && whole != TRUENO_TOKEN_NONE) {
        tr_encode_put(e, whole);
        return TRUENO_OK;
    }
    e->merge.n_symbols = 0;
    for (size_t i = 0; i < len && ok; i++)
        ok = tr_merge_add(&e->merge, (uint32_t)i, 1, e->t->byte_token[(uint8_t)piece[i]]);
    if (!ok || !tr_merge_run(&e->merge, e->t, piece, bpe_pair))
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory to encode a piece of %zu bytes", len);
    for (int32_t i = 0; i != TR_SYMBOL_END; i = e->merge.symbol[i].next) {
        trueno_token id = e->merge.symbol[i].id;
        tr_encode_put(e, id != TRUENO_TOKEN_NONE ? id : e->t->unk);
    }
    return TRUENO_OK;
}

trueno_status tr_bpe_encode(struct tr_encode *e, const char *text, size_t len, trueno_error *err)
{
    if (!e->match) e->match = tr_pre_match_data(&e->t->split);
    if (!e->match) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the pre-tokenizer");
    return tr_pre_split(&e->t->split, e->match, text, len, encode_piece, e, err);
}
