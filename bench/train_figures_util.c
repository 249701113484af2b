/* SPDX-License-Identifier: MIT */
/* How good predictions are. */
#include "train_util.h"

#include <math.h>
#include <stdlib.h>

/* Pairs that are measured closer than this are not told apart. */
#define GAP 1.03

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double mape_of(const struct corpus *c, const struct judged *j)
{
    double sum = 0;
    for (size_t i = 0; i < c->n; i++) sum += fabs(j[i].predicted / c->tps[i] - 1);
    return sum / (double)c->n;
}

/* Share of pairs in the right order; one that is predicted equal counts half. NaN: no pairs. */
static double pairs_of(const struct corpus *c, const struct judged *j, const uint32_t *group,
                       const size_t *rows, size_t n)
{
    double right = 0, pairs = 0;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; k < n; k++) {
            size_t a = rows[i], b = rows[k];
            if (group[a] != group[b] || !(c->tps[a] > GAP * c->tps[b])) continue;
            pairs++;
            right += j[a].predicted > j[b].predicted   ? 1
                     : j[a].predicted < j[b].predicted ? 0
                                                       : 0.5;
        }
    }
    return pairs > 0 ? right / pairs : (double)NAN;
}

static size_t count_configs(const struct corpus *c, const size_t *rows, size_t n, char *seen)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        count += !seen[c->config[rows[i]]];
        seen[c->config[rows[i]]] = 1;
    }
    return count;
}

/* errors: [n] scratch */
static void errors_of(struct figures *out, const struct corpus *c, const struct judged *j,
                      const size_t *rows, double *errors)
{
    double sum = 0, bias = 0, held = 0, width = 0, n = (double)out->n;
    for (size_t i = 0; i < out->n; i++) {
        const struct judged *p = &j[rows[i]];
        double tps = c->tps[rows[i]];
        errors[i] = fabs(p->predicted / tps - 1);
        sum += errors[i];
        bias += log(p->predicted / tps);
        held += p->lo <= tps && tps <= p->hi;
        width += (p->hi - p->lo) / p->predicted;
    }
    qsort(errors, out->n, sizeof *errors, compare);
    out->mape = sum / n;
    out->median = (errors[(out->n - 1) / 2] + errors[out->n / 2]) / 2;
    out->p90 = errors[(9 * out->n + 9) / 10 - 1];
    out->bias = bias / n;
    out->coverage = held / n;
    out->width = width / n;
}

int figures_of(struct figures *out, const struct corpus *c, const struct judged *j,
               const uint32_t *group, trueno_phase phase)
{
    size_t *rows = malloc(c->n * sizeof *rows);
    double *errors = malloc(c->n * sizeof *errors);
    char *seen = calloc(c->n, 1);
    int rc = rows && errors && seen ? CLI_OK : cli_error("no memory for %zu rows", c->n);
    *out = (struct figures){0};
    for (size_t i = 0; i < c->n && !rc; i++)
        if (c->f[i].phase == phase) rows[out->n++] = i;
    if (!rc && out->n > 0) {
        out->n_configs = count_configs(c, rows, out->n, seen);
        out->pairs = pairs_of(c, j, group, rows, out->n);
        errors_of(out, c, j, rows, errors);
    }
    free(rows);
    free(errors);
    free(seen);
    return rc;
}
