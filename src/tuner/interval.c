/* SPDX-License-Identifier: MIT */
/* Adaptive conformal intervals (interval.h). */
#include "tuner/interval.h"

#include <math.h>
#include <stdlib.h>
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

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

void tr_interval_settle(struct tr_interval *v, uint32_t group)
{
    struct tr_scores *s = &v->groups[group];
    double sorted[TR_SCORES];
    s->q = INFINITY;
    if (s->n == 0 || s->alpha <= 0) return;
    memcpy(sorted, s->score, s->n * sizeof *sorted);
    qsort(sorted, s->n, sizeof *sorted, compare_doubles);
    /* of n + 1, so that a new row is among them */
    double rank = ceil((1 - s->alpha) * (s->n + 1));
    if (rank <= s->n) s->q = sorted[rank < 1 ? 0 : (size_t)rank - 1];
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
