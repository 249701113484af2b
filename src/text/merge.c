/* SPDX-License-Identifier: MIT */
/* Merging of neighbours: binary heap over pairs, linked list of symbols. */
#include "text/merge.h"

#include "base/mem.h"

/* Doubles an array of `elem_bytes` per element that is full. */
static bool grow(trueno_ctx *ctx, void **array, size_t *cap, size_t elem_bytes)
{
    if (*cap > SIZE_MAX / 2 / elem_bytes) return false;
    size_t more = *cap ? 2 * *cap : 64;
    void *p = tr_realloc(ctx, *array, more * elem_bytes);
    if (!p) return false;
    *array = p;
    *cap = more;
    return true;
}

bool tr_merge_add(struct tr_merge *m, uint32_t begin, uint32_t len, trueno_token id)
{
    size_t n = m->n_symbols;
    if (n >= INT32_MAX) return false;
    if (n == m->cap_symbols) {
        void *p = m->symbol;
        if (!grow(m->ctx, &p, &m->cap_symbols, sizeof(struct tr_symbol))) return false;
        m->symbol = p;
    }
    int32_t index = (int32_t)n;
    m->symbol[n] = (struct tr_symbol){begin, len, n ? index - 1 : TR_SYMBOL_END, TR_SYMBOL_END, id};
    if (n) m->symbol[n - 1].next = index;
    m->n_symbols++;
    return true;
}

static bool before(const struct tr_merge_item *a, const struct tr_merge_item *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->left < b->left;
}

static bool heap_push(struct tr_merge *m, struct tr_merge_item item)
{
    if (m->n_items == m->cap_items) {
        void *p = m->heap;
        if (!grow(m->ctx, &p, &m->cap_items, sizeof(struct tr_merge_item))) return false;
        m->heap = p;
    }
    size_t i = m->n_items++;
    while (i > 0 && before(&item, &m->heap[(i - 1) / 2])) {
        m->heap[i] = m->heap[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    m->heap[i] = item;
    return true;
}

/* Takes the first item out; the heap is not empty. */
static struct tr_merge_item heap_pop(struct tr_merge *m)
{
    struct tr_merge_item first = m->heap[0], last = m->heap[--m->n_items];
    size_t i = 0, child;
    while ((child = 2 * i + 1) < m->n_items) {
        if (child + 1 < m->n_items && before(&m->heap[child + 1], &m->heap[child])) child++;
        if (!before(&m->heap[child], &last)) break;
        m->heap[i] = m->heap[child];
        i = child;
    }
    m->heap[i] = last;
    return first;
}

/* Enters the pair of `left` and its right neighbour, if both are there and may merge. */
static bool enter_pair(struct tr_merge *m, const trueno_tokenizer *t, const char *text,
                       tr_pair_fn pair, int32_t left)
{
    if (left == TR_SYMBOL_END || m->symbol[left].next == TR_SYMBOL_END) return true;
    const struct tr_symbol *l = &m->symbol[left], *r = &m->symbol[l->next];
    struct tr_merge_item item = {.left = left, .len = l->len + r->len};
    if (!pair(t, text, l, r, &item.rank, &item.id)) return true;
    return heap_push(m, item);
}

/* Joins the pair of an item; returns false if one of the two has changed since it was entered.
 * Boundaries between symbols only vanish, so an equal total length means the same two. */
static bool join(struct tr_merge *m, const struct tr_merge_item *item)
{
    struct tr_symbol *l = &m->symbol[item->left];
    if (l->len == 0 || l->next == TR_SYMBOL_END) return false;
    struct tr_symbol *r = &m->symbol[l->next];
    if (l->len + r->len != item->len) return false;
    l->len = item->len;
    l->id = item->id;
    l->next = r->next;
    if (r->next != TR_SYMBOL_END) m->symbol[r->next].prev = item->left;
    r->len = 0;
    return true;
}

bool tr_merge_run(struct tr_merge *m, const trueno_tokenizer *t, const char *text, tr_pair_fn pair)
{
    m->n_items = 0;
    for (size_t i = 0; i + 1 < m->n_symbols; i++)
        if (!enter_pair(m, t, text, pair, (int32_t)i)) return false;
    while (m->n_items) {
        struct tr_merge_item item = heap_pop(m);
        if (!join(m, &item)) continue;
        if (!enter_pair(m, t, text, pair, m->symbol[item.left].prev)) return false;
        if (!enter_pair(m, t, text, pair, item.left)) return false;
    }
    return true;
}

void tr_merge_free(struct tr_merge *m)
{
    tr_free(m->ctx, m->symbol);
    tr_free(m->ctx, m->heap);
    *m = (struct tr_merge){.ctx = m->ctx};
}
