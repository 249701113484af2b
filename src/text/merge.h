/* SPDX-License-Identifier: MIT */
/* Merging of neighbours, best pair first: what SentencePiece and byte-level BPE have in common. The
 * symbols of a piece form a linked list; a heap holds the pairs that could merge. O(n log n). */
#ifndef TR_MERGE_H
#define TR_MERGE_H

#include "trueno/tokenizer.h"

enum { TR_SYMBOL_END = -1 };

/* A run of bytes that is one character, one byte or one token. Neighbours by index. */
struct tr_symbol {
    uint32_t begin, len; /* in the piece's text; len 0: merged into its left neighbour */
    int32_t prev, next;  /* TR_SYMBOL_END at the ends; symbol 0 is always the first */
    trueno_token id;     /* TRUENO_TOKEN_NONE: this text is no token */
};

struct tr_merge_item {
    uint32_t rank; /* lower merges first, then the leftmost */
    int32_t left;
    uint32_t len;    /* of both symbols: the item is stale when theirs is another */
    trueno_token id; /* of the token they become */
};

/* Memory of one call; grows and is reused. Zero, then set ctx. */
struct tr_merge {
    trueno_ctx *ctx;
    struct tr_symbol *symbol;
    struct tr_merge_item *heap;
    size_t n_symbols, cap_symbols;
    size_t n_items, cap_items;
};

/* Tells whether two neighbours may merge, and if so with which rank into which token. */
typedef bool (*tr_pair_fn)(const trueno_tokenizer *t, const char *text, const struct tr_symbol *l,
                           const struct tr_symbol *r, uint32_t *rank, trueno_token *id);

/* Appends a symbol of `len` > 0 bytes to the list. n_symbols = 0 begins a new piece. False: no
 * memory. */
bool tr_merge_add(struct tr_merge *m, uint32_t begin, uint32_t len, trueno_token id);

/* Merges until no pair is left. Read the result from symbol 0 along `next`. False: no memory. */
bool tr_merge_run(struct tr_merge *m, const trueno_tokenizer *t, const char *text, tr_pair_fn pair);

void tr_merge_free(struct tr_merge *m);

#endif
