/* SPDX-License-Identifier: MIT */
/* Hash table from a 64-bit key (two ids, or a state and a byte) to two 32-bit values. The hash is
 * keyed, so that a file cannot choose keys that collide. */
#ifndef TR_PAIRMAP_H
#define TR_PAIRMAP_H

#include "trueno/base.h"

struct tr_pairmap_slot {
    uint64_t key; /* + 1, so that 0 is an empty slot */
    uint32_t a, b;
};

/* Zeroed: empty; set ctx and seed before the first put. */
struct tr_pairmap {
    trueno_ctx *ctx;
    uint64_t seed;
    struct tr_pairmap_slot *slot; /* linear probing, at most 2/3 full */
    size_t n_slots, n_used;       /* n_slots is a power of two, or 0 */
};

/* Puts values under a key that is not UINT64_MAX; the first put of a key wins. Doubles when full.
 * False: no memory, the table is as before. */
bool tr_pairmap_put(struct tr_pairmap *m, uint64_t key, uint32_t a, uint32_t b);
void tr_pairmap_free(struct tr_pairmap *m);

/* Finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t tr_pairmap_hash(uint64_t seed, uint64_t key)
{
    uint64_t x = key + seed;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
}

/* The values under a key, or NULL. */
static inline const struct tr_pairmap_slot *tr_pairmap_get(const struct tr_pairmap *m, uint64_t key)
{
    if (!m->n_slots) return NULL;
    size_t mask = m->n_slots - 1;
    for (size_t i = (size_t)tr_pairmap_hash(m->seed, key) & mask;; i = (i + 1) & mask) {
        if (m->slot[i].key == key + 1) return &m->slot[i];
        if (m->slot[i].key == 0) return NULL;
    }
}

#endif
