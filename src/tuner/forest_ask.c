/* SPDX-License-Identifier: MIT */
/* Asking random forests (forest.h). */
#include "tuner/forest_impl.h"

#include <math.h>

enum { LEAF = TR_FOREST_LEAF };

/* Trees that are walked together: what a step of one waits for, those of the others do not. */
enum { TOGETHER = 8 };

/* Where x goes from a node; a leaf stays. Without branches, which would be guessed wrongly half of
 * the time and cost more than the rest. */
static uint32_t step(const struct tr_forest_node *nodes, uint32_t at, const float *x)
{
    const struct tr_forest_node node = nodes[at];
    const uint32_t inner = -(uint32_t)(node.feature != LEAF); /* all bits or none */
    const uint32_t left = -(uint32_t)(x[node.feature & inner] <= node.value);
    const uint32_t next = ((at + 1) & left) | (node.right & ~left);
    return (next & inner) | (at & ~inner);
}

/* Leaves of n <= TOGETHER trees from `first` on. */
static void find_leaves(uint32_t leaves[TOGETHER], const struct tr_forest *f, uint32_t first,
                        uint32_t n, const float *x)
{
    uint32_t moved = 1;
    for (uint32_t k = 0; k < TOGETHER; k++) leaves[k] = f->roots[first + (k < n ? k : 0)];
    while (moved) {
        moved = 0;
        for (uint32_t k = 0; k < TOGETHER; k++) {
            uint32_t next = step(f->nodes, leaves[k], x);
            moved |= next ^ leaves[k];
            leaves[k] = next;
        }
    }
}

/* Values of all trees' leaves. */
static void leaf_values(float values[TR_FOREST_MAX_TREES], const struct tr_forest *f,
                        const float *x)
{
    uint32_t leaves[TOGETHER];
    for (uint32_t tree = 0; tree < f->n_trees; tree += TOGETHER) {
        uint32_t n = f->n_trees - tree < TOGETHER ? f->n_trees - tree : TOGETHER;
        find_leaves(leaves, f, tree, n, x);
        for (uint32_t k = 0; k < n; k++) values[tree + k] = f->nodes[leaves[k]].value;
    }
}

double tr_forest_predict(const struct tr_forest *f, const float *x, double *spread)
{
    float values[TR_FOREST_MAX_TREES]; /* a walk costs much more than a number */
    double sum = 0, squares = 0;
    leaf_values(values, f, x);
    for (uint32_t tree = 0; tree < f->n_trees; tree++) sum += (double)values[tree];
    double mean = sum / f->n_trees;
    for (uint32_t tree = 0; tree < f->n_trees && spread; tree++) {
        double e = (double)values[tree] - mean;
        squares += e * e;
    }
    if (spread) *spread = sqrt(squares / f->n_trees);
    return mean;
}

/* A walk that leaves the way of x where `other`, in one group of features, goes elsewhere. */
struct detour {
    uint32_t at;
    uint8_t group, tree; /* of those that are walked together */
};
enum { DETOURS = TOGETHER * TR_FOREST_MAX_DEPTH };

/* Leaves of n <= TOGETHER trees from `first` on, and the detours off their ways: of a group the
 * first one counts, as all behind it is on another way. */
static uint32_t find_detours(struct detour detours[DETOURS + 1], uint32_t leaves[TOGETHER],
                             const struct tr_forest *f, uint32_t first, uint32_t n, const float *x,
                             const float *other, const uint8_t *group_of)
{
    uint64_t seen[TOGETHER] = {0};
    uint32_t n_detours = 0, moved = 1;
    for (uint32_t k = 0; k < n; k++) leaves[k] = f->roots[first + k];
    while (moved) {
        moved = 0;
        for (uint32_t k = 0; k < n; k++) {
            const struct tr_forest_node node = f->nodes[leaves[k]];
            const uint32_t inner = -(uint32_t)(node.feature != LEAF);
            const uint32_t feature = node.feature & inner;
            const bool left = x[feature] <= node.value, other_left = other[feature] <= node.value;
            const uint64_t bit = (uint64_t)1 << group_of[feature];
            const uint32_t next = left ? leaves[k] + 1 : node.right;
            /* always written, and counted if it is one: no branch to be guessed */
            detours[n_detours] = (struct detour){other_left ? leaves[k] + 1 : node.right,
                                                 group_of[feature], (uint8_t)k};
            n_detours += (inner & 1) & (left != other_left) & !(seen[k] & bit);
            seen[k] |= left != other_left ? bit : 0;
            moved |= inner;
            leaves[k] = (next & inner) | (leaves[k] & ~inner);
        }
    }
    return n_detours;
}

/* Walks n <= TOGETHER detours to their leaves. */
static void walk_detours(struct detour *d, uint32_t n, const struct tr_forest_node *nodes,
                         const float *x, const float *other, const uint8_t *group_of)
{
    uint32_t moved = 1;
    while (moved) {
        moved = 0;
        for (uint32_t k = 0; k < n; k++) {
            const struct tr_forest_node node = nodes[d[k].at];
            const uint32_t inner = -(uint32_t)(node.feature != LEAF);
            const uint32_t feature = node.feature & inner;
            const float *from = group_of[feature] == d[k].group ? other : x;
            const uint32_t next = from[feature] <= node.value ? d[k].at + 1 : node.right;
            moved |= inner;
            d[k].at = (next & inner) | (d[k].at & ~inner);
        }
    }
}

void tr_forest_exchange(const struct tr_forest *f, double *change, uint32_t n_groups,
                        uint32_t max_trees, const float *x, const float *other,
                        const uint8_t *group_of)
{
    struct detour detours[DETOURS + 1];
    uint32_t leaves[TOGETHER];
    const uint32_t n_trees = max_trees < f->n_trees ? max_trees : f->n_trees;
    for (uint32_t g = 0; g < n_groups; g++) change[g] = 0;
    for (uint32_t tree = 0; tree < n_trees; tree += TOGETHER) {
        uint32_t n = n_trees - tree < TOGETHER ? n_trees - tree : TOGETHER;
        uint32_t n_detours = find_detours(detours, leaves, f, tree, n, x, other, group_of);
        for (uint32_t i = 0; i < n_detours; i += TOGETHER)
            walk_detours(detours + i, n_detours - i < TOGETHER ? n_detours - i : TOGETHER, f->nodes,
                         x, other, group_of);
        for (uint32_t i = 0; i < n_detours; i++)
            change[detours[i].group] += (double)f->nodes[detours[i].at].value -
                                        (double)f->nodes[leaves[detours[i].tree]].value;
    }
    for (uint32_t g = 0; g < n_groups; g++) change[g] /= n_trees;
}

void tr_forest_classify(const struct tr_forest *f, const float *x, double *p)
{
    float values[TR_FOREST_MAX_TREES];
    leaf_values(values, f, x);
    for (uint32_t c = 0; c < f->n_classes; c++) p[c] = 0;
    for (uint32_t tree = 0; tree < f->n_trees; tree++) {
        const float *shares = f->shares + (size_t)values[tree] * f->n_classes;
        for (uint32_t c = 0; c < f->n_classes; c++) p[c] += (double)shares[c];
    }
    for (uint32_t c = 0; c < f->n_classes; c++) p[c] /= f->n_trees;
}
