/* SPDX-License-Identifier: MIT */
/* Automaton of the special tokens. */
#include "text/special.h"

#include "base/error.h"
#include "base/mem.h"

static uint64_t edge_key(uint32_t state, uint8_t byte)
{
    return (uint64_t)state << 8 | byte;
}

/* The child of `state` along `byte`; UINT32_MAX if there is none. */
static uint32_t child_of(const struct tr_special *s, uint32_t state, uint8_t byte)
{
    const struct tr_pairmap_slot *edge = tr_pairmap_get(&s->edges, edge_key(state, byte));
    return edge ? edge->a : UINT32_MAX;
}

static bool new_state(struct tr_special *s, uint32_t parent, uint8_t byte, uint32_t *out)
{
    if (s->n_states == s->cap_states) {
        uint32_t cap = s->cap_states ? 2 * s->cap_states : 64;
        void *p = tr_realloc(s->ctx, s->state, cap * sizeof(struct tr_special_state));
        if (!p) return false;
        s->state = p;
        s->cap_states = cap;
    }
    uint32_t index = s->n_states;
    if (index && !tr_pairmap_put(&s->edges, edge_key(parent, byte), index, 0)) return false;
    s->state[index] = (struct tr_special_state){
        .parent = parent,
        .depth = index ? s->state[parent].depth + 1 : 0,
        .token = {TRUENO_TOKEN_NONE, TRUENO_TOKEN_NONE},
        .byte = byte,
    };
    s->n_states++;
    *out = index;
    return true;
}

trueno_status tr_special_add(struct tr_special *s, trueno_str text, trueno_token id, bool always,
                             trueno_error *err)
{
    uint32_t state = 0;
    if (text.len == 0) return TRUENO_OK;
    if (text.len > TR_SPECIAL_BYTES_MAX - s->total_bytes)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE,
                       "tokenizer.ggml.tokens: special tokens take more than %d bytes together",
                       TR_SPECIAL_BYTES_MAX);
    s->total_bytes += text.len;
    if (s->n_states == 0 && !new_state(s, 0, 0, &state)) goto no_memory;
    for (size_t i = text.len; i-- > 0;) {
        uint8_t byte = (uint8_t)text.data[i];
        uint32_t next = child_of(s, state, byte);
        if (next == UINT32_MAX && !new_state(s, state, byte, &next)) goto no_memory;
        state = next;
    }
    for (int set = always ? TR_SPECIAL_ALWAYS : TR_SPECIAL_ALL; set < TR_SPECIAL_SETS; set++) {
        struct tr_special_state *st = &s->state[state];
        if (st->token[set] == TRUENO_TOKEN_NONE) st->token[set] = id;
        st->best[set] = state;
        s->any[set] = true;
    }
    return TRUENO_OK;

no_memory:
    return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the special tokens");
}

/* Where the automaton goes from `state` with `byte`. */
static uint32_t step(const struct tr_special *s, uint32_t state, uint8_t byte)
{
    for (;;) {
        uint32_t next = child_of(s, state, byte);
        if (next != UINT32_MAX) return next;
        if (state == 0) return 0;
        state = s->state[state].fail;
    }
}

/* Failure link, and the tokens seen along it, of a state whose shallower states are done. */
static void link_state(struct tr_special *s, uint32_t index)
{
    struct tr_special_state *st = &s->state[index];
    st->fail = st->depth > 1 ? step(s, s->state[st->parent].fail, st->byte) : 0;
    for (int set = 0; set < TR_SPECIAL_SETS; set++)
        if (st->best[set] == 0) st->best[set] = s->state[st->fail].best[set];
}

/* States in order of depth (counting sort): first[d] becomes the end of depth d in `order`. */
static void sort_by_depth(const struct tr_special *s, uint32_t *order, uint32_t *first,
                          uint32_t n_depths)
{
    for (uint32_t i = 0; i < s->n_states; i++) first[s->state[i].depth + 1]++;
    for (uint32_t d = 0; d < n_depths; d++) first[d + 1] += first[d];
    for (uint32_t i = 0; i < s->n_states; i++) order[first[s->state[i].depth]++] = i;
}

trueno_status tr_special_finish(struct tr_special *s, trueno_error *err)
{
    uint32_t n_depths = 0;
    for (uint32_t i = 0; i < s->n_states; i++)
        if (s->state[i].depth >= n_depths) n_depths = s->state[i].depth + 1;
    if (n_depths == 0) return TRUENO_OK;
    uint32_t *order = tr_calloc(s->ctx, s->n_states, sizeof *order);
    uint32_t *first = tr_calloc(s->ctx, (size_t)n_depths + 1, sizeof *first);
    bool ok = order && first;
    if (ok) {
        sort_by_depth(s, order, first, n_depths);
        for (uint32_t i = 1; i < s->n_states; i++) link_state(s, order[i]);
    }
    tr_free(s->ctx, order);
    tr_free(s->ctx, first);
    if (!ok) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the special tokens");
    return TRUENO_OK;
}

void tr_special_find(const struct tr_special *s, enum tr_special_set set, const char *text,
                     size_t len, uint32_t *at)
{
    uint32_t state = 0;
    for (size_t i = len; i-- > 0;) {
        state = step(s, state, (uint8_t)text[i]);
        at[i] = s->state[state].best[set];
    }
}

void tr_special_free(struct tr_special *s)
{
    tr_free(s->ctx, s->state);
    tr_pairmap_free(&s->edges);
    *s = (struct tr_special){.ctx = s->ctx};
}
