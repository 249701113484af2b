/* SPDX-License-Identifier: MIT */
/* Inside of a forest, for growing and asking (forest.c) and for files (forest_bytes.c). */
#ifndef TR_FOREST_IMPL_H
#define TR_FOREST_IMPL_H

#include "tuner/forest.h"

enum { TR_FOREST_LEAF = 0xffff, TR_FOREST_MAX_DEPTH = 31 };

/* x[feature] <= value goes to the next node, others to node `right`. A leaf's value is its mean, or
 * the number of its distribution: leaves are numbered in the order of their nodes. */
struct tr_forest_node {
    float value;
    uint16_t right, feature;
};

struct tr_forest {
    trueno_ctx *ctx;
    uint32_t n_features, n_trees, n_classes; /* 0 classes: regression */
    uint32_t n_nodes, n_leaves;              /* leaves of classes; regression: 0 */
    uint32_t *roots;                         /* [n_trees] */
    struct tr_forest_node *nodes;            /* [n_nodes] */
    float *shares;                           /* classes: [n_leaves][n_classes] */
    double oob_error;
    size_t n_oob;
};

#endif
