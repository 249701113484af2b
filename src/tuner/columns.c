/* SPDX-License-Identifier: MIT */
/* Columns of tables (columns.h). */
#include "tuner/columns.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Pearson's r of two columns; 0 if one does not vary. Means are taken off first, so that what
 * varies little counts fully. */
static double correlation(const struct tr_columns *t, size_t a, size_t b)
{
    double mean_a = 0, mean_b = 0, aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < t->n; i++) {
        mean_a += (double)t->x[i * t->n_features + a] / (double)t->n;
        mean_b += (double)t->x[i * t->n_features + b] / (double)t->n;
    }
    for (size_t i = 0; i < t->n; i++) {
        double x = (double)t->x[i * t->n_features + a] - mean_a;
        double y = (double)t->x[i * t->n_features + b] - mean_b;
        aa += x * x;
        bb += y * y;
        ab += x * y;
    }
    return aa > 0 && bb > 0 ? ab / sqrt(aa * bb) : 0;
}

static bool varies(const struct tr_columns *t, size_t k)
{
    for (size_t i = 1; i < t->n; i++)
        if (t->x[i * t->n_features + k] != t->x[k]) return true;
    return false;
}

void tr_columns_look(uint64_t *constant, uint64_t *collinear, const struct tr_columns *t)
{
    *constant = *collinear = 0;
    for (size_t k = 0; k < t->n_features; k++) {
        uint64_t bit = (uint64_t)1 << t->slot_of[k];
        if (!varies(t, k)) {
            *constant |= bit;
            continue;
        }
        for (size_t l = 0; l < k; l++)
            if (!(*constant >> t->slot_of[l] & 1) && fabs(correlation(t, k, l)) > 0.98)
                *collinear |= bit;
    }
}

static int compare_rows(const void *a, const void *b)
{
    const struct tr_row *p = a, *q = b;
    return memcmp(p->x, q->x, p->n * sizeof *p->x);
}

size_t tr_columns_distinct(const struct tr_columns *t, struct tr_row *order)
{
    size_t n_distinct = t->n > 0;
    for (size_t i = 0; i < t->n; i++)
        order[i] = (struct tr_row){t->x + i * t->n_features, t->n_features};
    qsort(order, t->n, sizeof *order, compare_rows);
    for (size_t i = 1; i < t->n; i++) n_distinct += compare_rows(&order[i - 1], &order[i]) != 0;
    return n_distinct;
}
