/* SPDX-License-Identifier: MIT */
/* Set of names: finds which entry of somebody's list has a given name in O(1). The list keeps the
 * names, the set keeps only indices. The hash is keyed with random bits, so a file cannot choose
 * names that collide. */
#ifndef TR_NAMES_H
#define TR_NAMES_H

#include "trueno/gguf.h"

typedef trueno_str (*tr_name_at)(const void *list, uint32_t index);

/* Zeroed: a set without entries that tr_names_init may fill and tr_names_free may free. */
struct tr_names {
    trueno_ctx *ctx;
    const void *list;
    tr_name_at name_at;
    uint64_t key[2];
    uint32_t *slots; /* index + 1; 0: empty. Linear probing, at most half full */
    uint32_t n_slots, n_used;
};

/* `list` and `name_at` must work as long as the set lives. */
void tr_names_init(struct tr_names *s, trueno_ctx *ctx, const void *list, tr_name_at name_at);
void tr_names_free(struct tr_names *s);

/* Makes room for n entries in all (n < 2^30), so that adding them allocates nothing. False: no
 * memory. */
bool tr_names_reserve(struct tr_names *s, uint32_t n);

/* Adds entry `index` of the list. @return OK; ERR_CORRUPT (an entry of that name is there);
 * ERR_NO_MEMORY */
trueno_status tr_names_add(struct tr_names *s, uint32_t index);

/* Index of the entry with this name, or -1. */
ptrdiff_t tr_names_find(const struct tr_names *s, const char *name, size_t len);

/* A key that the author of a file cannot know. */
void tr_random_key(uint64_t key[2]);

/* The hash: SipHash-1-3 (Aumasson and Bernstein 2012, with fewer rounds) of `len` bytes. */
uint64_t tr_siphash13(const uint64_t key[2], const void *data, size_t len);

#endif
