/* SPDX-License-Identifier: MIT */
/* Cuts a chunk into runs: stretches of positions (or of panels) that the same queries see. Inside
 * a run all those queries share every load of the cache, and no position outside a query's range
 * ever meets it. */
#ifndef TR_ATTN_RUN_H
#define TR_ATTN_RUN_H

#include "kernel.h"

struct ranges {
    uint32_t n_q;
    uint32_t lo[TR_ATTN_QUERIES], hi[TR_ATTN_QUERIES]; /* [lo, hi), empty if lo >= hi */
};

struct run {
    uint32_t begin, end;
    uint32_t n_q;
    uint8_t q[TR_ATTN_QUERIES]; /* who sees it, ascending */
};

/* The ranges of `a` in units of `unit` positions, rounded outwards. */
static inline struct ranges ranges_of(const struct tr_attn_args *a, uint32_t unit)
{
    struct ranges r = {.n_q = a->n_q};
    for (uint32_t i = 0; i < a->n_q; i++) {
        bool empty = a->lo[i] >= a->hi[i];
        r.lo[i] = a->lo[i] / unit;
        r.hi[i] = empty ? 0 : (a->hi[i] - 1) / unit + 1;
    }
    return r;
}

/* The first run at or after `from`; false if there is none. */
static inline bool next_run(struct run *r, const struct ranges *s, uint32_t from)
{
    r->begin = r->end = UINT32_MAX;
    r->n_q = 0;
    for (uint32_t i = 0; i < s->n_q; i++) {
        uint32_t lo = s->lo[i] > from ? s->lo[i] : from;
        if (lo < s->hi[i] && lo < r->begin) r->begin = lo;
    }
    if (r->begin == UINT32_MAX) return false;
    for (uint32_t i = 0; i < s->n_q; i++) {
        bool sees = s->lo[i] <= r->begin && r->begin < s->hi[i];
        bool will = r->begin < s->lo[i] && s->lo[i] < s->hi[i];
        uint32_t change = sees ? s->hi[i] : s->lo[i];
        if (sees) r->q[r->n_q++] = (uint8_t)i;
        if ((sees || will) && change < r->end) r->end = change;
    }
    return true;
}

#endif
