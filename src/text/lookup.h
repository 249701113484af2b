/* SPDX-License-Identifier: MIT */
/* Token ids by text. Encoding asks for many texts that are no tokens; a slot keeps half of the hash
 * beside the id, so that such a question seldom touches the texts. The hash is keyed with random
 * bits, so that a file cannot choose texts that collide. */
#ifndef TR_LOOKUP_H
#define TR_LOOKUP_H

#include "trueno/tokenizer.h"

/* The texts themselves: token i is text[offset[i] .. offset[i + 1]). */
struct tr_lookup {
    const char *text;
    const uint32_t *offset;
    uint64_t key[2];
    uint64_t *slot; /* high half of the hash, id + 1; 0: empty. Linear probing, half full */
    size_t n_slots; /* a power of two */
};

/* Makes an empty table for up to n texts. False: no memory. */
bool tr_lookup_init(struct tr_lookup *l, trueno_ctx *ctx, const char *text, const uint32_t *offset,
                    uint32_t n);
void tr_lookup_free(struct tr_lookup *l, trueno_ctx *ctx);

/* Enters token `id` unless its text is there already. */
void tr_lookup_add(struct tr_lookup *l, trueno_token id);

/* The token of this text, or TRUENO_TOKEN_NONE. */
trueno_token tr_lookup_find(const struct tr_lookup *l, const char *text, size_t len);

#endif
