/* SPDX-License-Identifier: MIT */
/* Adaptive conformal intervals (interval.h). */
#include "tuner/interval.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define STEP 0.02

void tr_interval_reset(struct tr_interval *v)
{
    memset(v, 0, sizeof *v);
    for (int g = 0; g < TR_GROUPS; g++) {
        v->groups[g].alpha = 1 - TR_INTERVAL_LEVEL;
        v->groups[g].q = INFINITY;
    }
}

void tr_interval_add(struct tr_interval *v, uint32_t group, double score)
{
    struct tr_scores *s = &v->groups[group];
    s->score[s->next] = score;
    s->next = (s->next + 1) % TR_SCORES;
    if (s->n < TR_SCORES) s->n++;
}

/* The k-th smallest of v [n], from 0; changes their order. Hoare's FIND (CACM 4, 1961): a tenth of
 * the time of a sort, after every observation. */
static double select_nth(double *v, ptrdiff_t n, ptrdiff_t k)
{
    ptrdiff_t low = 0, high = n - 1;
    while (low < high) {
        double pivot = v[k];
        ptrdiff_t i = low, j = high;
        while (i <= j) {
            while (v[i] < pivot) i++;
            while (pivot < v[j]) j--;
            if (i > j) break;
            double swap = v[i];
            v[i++] = v[j];
            v[j--] = swap;
        }
        if (j < k) low = i;
        if (k < i) high = j;
    }
    return v[k];
}

void tr_interval_settle(struct tr_interval *v, uint32_t group)
{
    struct tr_scores *s = &v->groups[group];
    double copy[TR_SCORES];
    s->q = INFINITY; /* as the rank says where there are no scores, or a is 0 or less */
    /* of n + 1, so that a new row is among them */
    double rank = fmax(1, ceil((1 - s->alpha) * (s->n + 1)));
    if (rank > s->n) return;
    memcpy(copy, s->score, s->n * sizeof *copy);
    s->q = select_nth(copy, (ptrdiff_t)s->n, (ptrdiff_t)rank - 1);
}

double tr_interval_factor(double *level, const struct tr_interval *v, uint32_t group, double u)
{
    const struct tr_scores *s = &v->groups[group];
    *level = s->n >= TR_MIN_SCORES ? TR_INTERVAL_LEVEL : 0;
    return s->n >= TR_MIN_SCORES ? exp(s->q * u) : 2;
}

void tr_interval_observe(struct tr_interval *v, uint32_t group, bool held, double score)
{
    struct tr_scores *s = &v->groups[group];
    bool claimed = s->n >= TR_MIN_SCORES;
    if (claimed) {
        v->hit[v->next_hit] = held;
        v->next_hit = (v->next_hit + 1) % TR_SCORES;
        if (v->n_hits < TR_SCORES) v->n_hits++;
    }
    if (isnan(score)) return;
    if (claimed) s->alpha += STEP * (1 - TR_INTERVAL_LEVEL - (held ? 0 : 1));
    tr_interval_add(v, group, score);
    tr_interval_settle(v, group);
}
