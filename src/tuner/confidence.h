/* SPDX-License-Identifier: MIT */
/* What a share of votes is worth: the share of held-out rows with such votes that were right. */
#ifndef TR_CONFIDENCE_H
#define TR_CONFIDENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TR_CONFIDENCE_GROUPS = 8, TR_CONFIDENCE_MIN_ROWS = 20 };

/* Groups by ascending share. No group: a share is worth itself. */
struct tr_confidence {
    uint32_t n;
    double share[TR_CONFIDENCE_GROUPS]; /* the least of a group */
    double value[TR_CONFIDENCE_GROUPS]; /* never descending, inside (0, 1) */
};

/* A held-out row: the share of the class that most trees named, and whether that was right. */
struct tr_vote {
    double share;
    bool right;
};

/* Sorts the votes by share and cuts them where n / 8 rows are full and the share changes; the value
 * of a group is (right + 1) / (rows + 2) (Laplace's rule of succession); neighbours that descend
 * are pooled (isotonic regression: Ayer et al. 1955). Fewer than TR_CONFIDENCE_MIN_ROWS: no group.
 */
void tr_confidence_fit(struct tr_confidence *out, struct tr_vote *votes, size_t n);

double tr_confidence_of(const struct tr_confidence *c, double share);

#endif
