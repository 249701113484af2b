/* SPDX-License-Identifier: MIT */
/* Growing of the pair table. */
#include "text/pairmap.h"

#include "base/mem.h"

static struct tr_pairmap_slot *free_slot(const struct tr_pairmap *m, uint64_t key)
{
    size_t mask = m->n_slots - 1;
    size_t i = (size_t)tr_pairmap_hash(m->seed, key) & mask;
    while (m->slot[i].key) i = (i + 1) & mask;
    return &m->slot[i];
}

static bool grow(struct tr_pairmap *m)
{
    struct tr_pairmap old = *m;
    if (old.n_slots > SIZE_MAX / 4 / sizeof(struct tr_pairmap_slot)) return false;
    m->n_slots = old.n_slots ? 2 * old.n_slots : 256;
    m->slot = tr_calloc(m->ctx, m->n_slots, sizeof(struct tr_pairmap_slot));
    if (!m->slot) {
        *m = old;
        return false;
    }
    for (size_t i = 0; i < old.n_slots; i++)
        if (old.slot[i].key) *free_slot(m, old.slot[i].key - 1) = old.slot[i];
    tr_free(m->ctx, old.slot);
    return true;
}

bool tr_pairmap_put(struct tr_pairmap *m, uint64_t key, uint32_t a, uint32_t b)
{
    if (tr_pairmap_get(m, key)) return true;
    if (m->n_used >= m->n_slots / 3 * 2 && !grow(m)) return false;
    *free_slot(m, key) = (struct tr_pairmap_slot){key + 1, a, b};
    m->n_used++;
    return true;
}

void tr_pairmap_free(struct tr_pairmap *m)
{
    tr_free(m->ctx, m->slot);
    m->slot = NULL;
    m->n_slots = m->n_used = 0;
}
