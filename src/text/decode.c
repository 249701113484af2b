/* SPDX-License-Identifier: MIT */
/* Ids to text: the inverse of encode. Every space that encode put before a text is dropped again.
 */
#include "text/vocab.h"

#include <string.h>

#include "base/error.h"
#include "text/utf8.h"

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return -1;
}

int tr_byte_token_value(trueno_str text)
{
    if (text.len != 6 || memcmp(text.data, "<0x", 3) != 0 || text.data[5] != '>') return -1;
    int high = hex_digit(text.data[3]), low = hex_digit(text.data[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

static void put(struct tr_text_sink *out, const char *data, size_t len)
{
    if (out->n < out->cap)
        memcpy(out->text + out->n, data, len < out->cap - out->n ? len : out->cap - out->n);
    out->n += len;
}

/* Text of SPM: U+2581 becomes a space. */
static void put_spm(struct tr_text_sink *out, trueno_str text)
{
    for (size_t i = 0; i < text.len;) {
        bool space = text.len - i >= TR_SPM_SPACE_LEN &&
                     memcmp(text.data + i, TR_SPM_SPACE, TR_SPM_SPACE_LEN) == 0;
        put(out, space ? " " : text.data + i, 1);
        i += space ? TR_SPM_SPACE_LEN : 1;
    }
}

/* Text of BPE: characters of the alphabet become their bytes, others stay. */
static void put_bpe(struct tr_text_sink *out, trueno_str text)
{
    for (size_t i = 0; i < text.len;) {
        const uint8_t *p = (const uint8_t *)text.data + i;
        size_t n = tr_utf8_char(text.data + i, text.len - i);
        int byte = -1;
        if (n == 1) byte = tr_bpe_byte(p[0]);
        if (n == 2) byte = tr_bpe_byte((p[0] & 31u) << 6 | (p[1] & 63u));
        if (n == 0) n = 1;
        const char c = (char)byte;
        put(out, byte >= 0 ? &c : text.data + i, byte >= 0 ? 1 : n);
        i += n;
    }
}

/* Text that came out of merging, or one byte. The first character goes if it is the space that
 * encode put there. */
static void put_merged(const trueno_tokenizer *t, struct tr_decode *d, trueno_token id,
                       struct tr_text_sink *out)
{
    trueno_str text = tr_token_str(t, id);
    int byte = t->kind[id] == TRUENO_TOKEN_BYTE ? tr_byte_token_value(text) : -1;
    const char raw = (char)byte;
    if (byte >= 0) text = (trueno_str){&raw, 1};
    if (d->drop_space && text.len) {
        bool escaped = text.len >= TR_SPM_SPACE_LEN && t->type == TR_VOCAB_SPM &&
                       memcmp(text.data, TR_SPM_SPACE, TR_SPM_SPACE_LEN) == 0;
        size_t skip = escaped ? TR_SPM_SPACE_LEN : text.data[0] == ' ';
        text = (trueno_str){text.data + skip, text.len - skip};
        d->drop_space = false;
    }
    if (byte >= 0)
        put(out, text.data, text.len);
    else if (t->type == TR_VOCAB_SPM)
        put_spm(out, text);
    else
        put_bpe(out, text);
}

void tr_decode_token(const trueno_tokenizer *t, struct tr_decode *d, trueno_token id,
                     struct tr_text_sink *out)
{
    trueno_str text = tr_token_str(t, id);
    uint8_t kind = t->kind[id];
    bool hidden = kind == TRUENO_TOKEN_CONTROL || kind == TRUENO_TOKEN_UNKNOWN;
    if (!(t->flags[id] & TR_TOKEN_CUTS)) {
        put_merged(t, d, id, out);
        return;
    }
    if (kind == TRUENO_TOKEN_USER_DEFINED && t->type == TR_VOCAB_SPM)
        put_spm(out, text);
    else if (!hidden || d->with_special)
        put(out, text.data, text.len);
    /* encode puts a space after a token that it cut out; an unknown token also stands for text that
     * could not be encoded, unless every byte can be */
    d->drop_space = t->add_space_prefix && (kind != TRUENO_TOKEN_UNKNOWN || t->has_all_bytes);
}

trueno_status trueno_decode(const trueno_tokenizer *t, char *text, size_t cap, size_t *len,
                            const trueno_token *ids, size_t n, bool with_special, trueno_error *err)
{
    if (!len) return tr_fail(err, TRUENO_ERR_ARGUMENT, "decode: len is NULL");
    *len = 0;
    if (!t) return tr_fail(err, TRUENO_ERR_ARGUMENT, "decode: the tokenizer is NULL");
    if (!text && cap)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "decode: text is NULL, cap %zu", cap);
    if (!ids && n) return tr_fail(err, TRUENO_ERR_ARGUMENT, "decode: ids is NULL, n %zu", n);
    struct tr_text_sink out = {text, cap, 0};
    struct tr_decode d = {with_special, t->add_space_prefix};
    for (size_t i = 0; i < n; i++) {
        if (!tr_token_valid(t, ids[i]))
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "decode: id %ld at index %zu, must be 0 to %u",
                           (long)ids[i], i, t->n_vocab - 1);
        tr_decode_token(t, &d, ids[i], &out);
    }
    *len = out.n;
    return TRUENO_OK;
}
