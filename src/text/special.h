/* SPDX-License-Identifier: MIT */
/* Finds special tokens in text: for every position the longest one that begins there, in one pass
 * from right to left. The automaton is that of Aho and Corasick (1975) over the tokens spelt
 * backwards, so the time is linear in the text however long the tokens are and however much they
 * overlap. */
#ifndef TR_SPECIAL_H
#define TR_SPECIAL_H

#include "text/pairmap.h"
#include "trueno/tokenizer.h"

/* Which tokens are looked for. */
enum tr_special_set {
    TR_SPECIAL_ALWAYS, /* user-defined tokens */
    TR_SPECIAL_ALL,    /* those, and control and unknown tokens */
    TR_SPECIAL_SETS
};

struct tr_special_state {
    uint32_t parent, depth;
    uint32_t fail;                       /* state of the longest proper suffix */
    uint32_t best[TR_SPECIAL_SETS];      /* state of the longest token found here; 0: none */
    trueno_token token[TR_SPECIAL_SETS]; /* that is spelt by the way here, or TRUENO_TOKEN_NONE */
    uint8_t byte;                        /* from the parent to here */
};

/* Zeroed: no tokens; set ctx and edges.ctx, edges.seed before the first add. */
struct tr_special {
    trueno_ctx *ctx;
    struct tr_special_state *state; /* state 0 is the root */
    uint32_t n_states, cap_states;
    struct tr_pairmap edges; /* (state, byte) -> state */
    uint64_t total_bytes;    /* of all tokens */
    bool any[TR_SPECIAL_SETS];
};

/* Most bytes of all special tokens together. */
enum { TR_SPECIAL_BYTES_MAX = 16 << 20 };

/* Adds a token; of two with the same text the first wins. Empty text is ignored. `always`: it is in
 * both sets. @return OK; ERR_TOO_LARGE; ERR_NO_MEMORY */
trueno_status tr_special_add(struct tr_special *s, trueno_str text, trueno_token id, bool always,
                             trueno_error *err);

/* To be called once, after the last add. @return OK; ERR_NO_MEMORY */
trueno_status tr_special_finish(struct tr_special *s, trueno_error *err);

/* at[i] = state of the longest token of the set that begins at text[i], or 0: its `depth` is the
 * length and its `token[set]` the id. */
void tr_special_find(const struct tr_special *s, enum tr_special_set set, const char *text,
                     size_t len, uint32_t *at);

void tr_special_free(struct tr_special *s);

#endif
