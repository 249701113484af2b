/* SPDX-License-Identifier: MIT */
/* Inside of a tokenizer. Built once by vocab.c, never changed afterwards. */
#ifndef TR_VOCAB_H
#define TR_VOCAB_H

#include "text/lookup.h"
#include "text/merge.h"
#include "text/pairmap.h"
#include "text/pretokenize.h"
#include "text/special.h"
#include "trueno/tokenizer.h"

enum tr_vocab_type { TR_VOCAB_SPM, TR_VOCAB_BPE };

/* Caps: what is beyond them is ERR_TOO_LARGE. */
enum {
    TR_VOCAB_TOKENS_MAX = 1 << 21,
    TR_VOCAB_MERGES_MAX = 1 << 22,
    TR_VOCAB_TEXT_MAX = 64 << 10, /* bytes of one token */
    TR_ENCODE_TEXT_MAX = 64 << 20 /* bytes of one call of trueno_encode */
};

enum tr_token_flag {
    TR_TOKEN_MERGES = 1 << 0, /* may come out of merging: not control, unknown or byte */
    TR_TOKEN_CUTS = 1 << 1,   /* found in text as a whole before merging */
    TR_TOKEN_ENDS = 1 << 2,   /* ends generation */
    TR_TOKEN_STRIPS = 1 << 3  /* white space after it is skipped where it is cut out */
};

/* The space of SPM vocabularies: U+2581. */
#define TR_SPM_SPACE "\xE2\x96\x81"
enum { TR_SPM_SPACE_LEN = 3 };

struct trueno_tokenizer {
    trueno_ctx *ctx;
    enum tr_vocab_type type;
    char pre[64];
    uint32_t n_vocab;

    /* Texts of all tokens in one block: token i is text[offset[i] .. offset[i + 1]). */
    char *text;
    uint32_t *offset;         /* [n_vocab + 1] */
    uint8_t *kind, *flags;    /* [n_vocab] */
    struct tr_lookup by_text; /* non-empty texts; the first of several wins */
    uint32_t longest;         /* bytes of the longest text */

    trueno_token bos, eos, eot, unk, pad;
    bool add_bos, add_eos, add_space_prefix;
    bool has_all_bytes;
    trueno_token byte_token[256]; /* token of one byte, or TRUENO_TOKEN_NONE */
    struct tr_special special;

    uint32_t *rank;  /* SPM [n_vocab]: by falling score */
    bool joins[256]; /* SPM: some token has this byte right before a U+2581 inside it */

    struct tr_pairmap merges; /* BPE: (left id, right id) -> rank, id */
    struct tr_pre split;      /* BPE */
};

static inline trueno_str tr_token_str(const trueno_tokenizer *t, trueno_token id)
{
    return (trueno_str){t->text + t->offset[id], t->offset[id + 1] - t->offset[id]};
}

static inline bool tr_token_valid(const trueno_tokenizer *t, trueno_token id)
{
    return id >= 0 && (uint32_t)id < t->n_vocab;
}

/* Token of this text that merging may give, or TRUENO_TOKEN_NONE. */
trueno_token tr_vocab_find_piece(const trueno_tokenizer *t, const char *text, size_t len);

/* vocab_keys.c: ids and switches from the file, after texts and kinds are known. */
trueno_status tr_vocab_load_keys(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err);

/* Index of array `key` with `want` elements of type `type` (want UINT64_MAX: any number), or -1 if
 * the key is absent. @return OK; ERR_CORRUPT */
trueno_status tr_vocab_array(const trueno_gguf *g, const char *key, trueno_gguf_type type,
                             uint64_t want, ptrdiff_t *kv, uint64_t *count, trueno_error *err);

/* spm.c and bpe.c: the parts of loading that only one type of vocabulary has. */
trueno_status tr_spm_load(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err);
trueno_status tr_bpe_load(trueno_tokenizer *t, const trueno_gguf *g, bool strict_pre,
                          trueno_error *err);

/* The byte that a BPE character stands for, -1 if it is not in that alphabet; and its code point.
 */
int tr_bpe_byte(uint32_t code_point);
uint32_t tr_bpe_code_point(uint8_t byte);

/* "<0xNN>" -> 0..255, anything else -1. */
int tr_byte_token_value(trueno_str text);

/* Memory and output of one call of trueno_encode. */
struct tr_encode {
    const trueno_tokenizer *t;
    trueno_token *ids;
    size_t cap, n; /* room, and ids so far (n may exceed cap) */
    struct tr_merge merge;
    char *buffer; /* escaped text of SPM, alphabet of BPE */
    size_t n_buffer, cap_buffer;
    pcre2_match_data *match;
};

static inline void tr_encode_put(struct tr_encode *e, trueno_token id)
{
    if (e->n < e->cap) e->ids[e->n] = id;
    e->n++;
}

/* Appends to e->buffer. False: no memory. */
bool tr_encode_append(struct tr_encode *e, const char *data, size_t len);

/* Encodes text without special tokens. `space`: a space goes before it. @return OK; ERR_NO_MEMORY;
 * ERR_TOO_LARGE */
trueno_status tr_spm_encode(struct tr_encode *e, const char *text, size_t len, bool space,
                            trueno_error *err);
trueno_status tr_bpe_encode(struct tr_encode *e, const char *text, size_t len, trueno_error *err);

/* Where decoded text goes: at most `cap` bytes are written, all are counted. */
struct tr_text_sink {
    char *text;
    size_t cap, n;
};

/* What decoding remembers between tokens: the next text begins with a space that encoding put there
 * and that must go. */
struct tr_decode {
    bool with_special;
    bool drop_space;
};

/* Text of a valid token, never longer than the token's own text. */
void tr_decode_token(const trueno_tokenizer *t, struct tr_decode *d, trueno_token id,
                     struct tr_text_sink *out);

#endif
