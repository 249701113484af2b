/* SPDX-License-Identifier: MIT */
/* Hash table of token texts. */
#include "text/lookup.h"

#include <string.h>

#include "base/mem.h"
#include "gguf/names.h"

bool tr_lookup_init(struct tr_lookup *l, trueno_ctx *ctx, const char *text, const uint32_t *offset,
                    uint32_t n)
{
    size_t n_slots = 16;
    while (n_slots / 2 < n) n_slots *= 2;
    *l = (struct tr_lookup){.text = text, .offset = offset, .n_slots = n_slots};
    tr_random_key(l->key);
    l->slot = tr_calloc(ctx, n_slots, sizeof *l->slot);
    return l->slot != NULL;
}

void tr_lookup_free(struct tr_lookup *l, trueno_ctx *ctx)
{
    tr_free(ctx, l->slot);
    *l = (struct tr_lookup){0};
}

/* The slot of this text, or the empty one where it belongs. `tag` is the high half of its hash. */
static uint64_t *find_slot(const struct tr_lookup *l, const char *text, size_t len, uint64_t *tag)
{
    uint64_t hash = tr_siphash13(l->key, text, len);
    size_t mask = l->n_slots - 1;
    *tag = hash & 0xFFFFFFFF00000000u;
    for (size_t i = (size_t)hash & mask;; i = (i + 1) & mask) {
        uint64_t slot = l->slot[i];
        if (slot == 0) return &l->slot[i];
        if ((slot & 0xFFFFFFFF00000000u) != *tag) continue;
        const uint32_t *at = l->offset + ((uint32_t)slot - 1);
        if (at[1] - at[0] == len && memcmp(l->text + at[0], text, len) == 0) return &l->slot[i];
    }
}

void tr_lookup_add(struct tr_lookup *l, trueno_token id)
{
    uint64_t tag;
    const uint32_t *at = l->offset + id;
    uint64_t *slot = find_slot(l, l->text + at[0], at[1] - at[0], &tag);
    if (*slot == 0) *slot = tag | ((uint32_t)id + 1);
}

trueno_token tr_lookup_find(const struct tr_lookup *l, const char *text, size_t len)
{
    uint64_t tag;
    if (l->n_slots == 0) return TRUENO_TOKEN_NONE;
    return (trueno_token)(uint32_t)*find_slot(l, text, len, &tag) - 1;
}
