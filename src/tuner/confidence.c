/* SPDX-License-Identifier: MIT */
/* Shares of votes and what they are worth (confidence.h). */
#include "tuner/confidence.h"

#include <stdlib.h>

static int compare_votes(const void *a, const void *b)
{
    const struct tr_vote *p = a, *q = b;
    if (p->share != q->share) return p->share < q->share ? -1 : 1;
    return p->right - q->right;
}

struct group {
    double share;
    size_t n, right;
};

static double value(const struct group *g)
{
    return ((double)g->right + 1) / ((double)g->n + 2);
}

/* Pools the last groups while they descend; returns how many are left. */
static uint32_t pool(struct group *groups, uint32_t n)
{
    while (n > 1 && value(&groups[n - 1]) < value(&groups[n - 2])) {
        groups[n - 2].n += groups[n - 1].n;
        groups[n - 2].right += groups[n - 1].right;
        n--;
    }
    return n;
}

void tr_confidence_fit(struct tr_confidence *out, struct tr_vote *votes, size_t n)
{
    struct group groups[TR_CONFIDENCE_GROUPS];
    size_t full = (n + TR_CONFIDENCE_GROUPS - 1) / TR_CONFIDENCE_GROUPS;

    *out = (struct tr_confidence){0};
    if (n < TR_CONFIDENCE_MIN_ROWS) return;
    qsort(votes, n, sizeof *votes, compare_votes);
    uint32_t n_groups = 0;
    for (size_t i = 0; i < n; i++) {
        struct group *last = n_groups ? &groups[n_groups - 1] : NULL;
        if (!last || (last->n >= full && votes[i].share != votes[i - 1].share)) {
            n_groups = pool(groups, n_groups);
            last = &groups[n_groups++];
            *last = (struct group){votes[i].share, 0, 0};
        }
        last->n++;
        last->right += votes[i].right;
    }
    n_groups = pool(groups, n_groups);
    out->n = n_groups;
    for (uint32_t g = 0; g < n_groups; g++) {
        out->share[g] = groups[g].share;
        out->value[g] = value(&groups[g]);
    }
}

double tr_confidence_of(const struct tr_confidence *c, double share)
{
    uint32_t g = 0;
    if (c->n == 0) return share;
    while (g + 1 < c->n && c->share[g + 1] <= share) g++;
    return c->value[g];
}
