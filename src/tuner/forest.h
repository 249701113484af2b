/* SPDX-License-Identifier: MIT */
/* Random forests (Breiman 2001): regression and classification with binary splits on numbers.
 *
 * Each tree is grown on a bootstrap sample. At a node, mtry features that differ within it are
 * drawn; the split that lowers the squared error (regression) or the Gini impurity (classes) most
 * is taken. Values are first put into at most 255 quantile bins. Targets are fixed-point numbers
 * of 2^-20, so sums of them are integers and a seed gives the same bytes whatever the order of
 * work; of equal splits the lower feature wins, then the lower bin. */
#ifndef TR_FOREST_H
#define TR_FOREST_H

#include "trueno/predict.h"

enum {
    TR_FOREST_MAX_FEATURES = 64,
    TR_FOREST_MAX_CLASSES = 64,
    TR_FOREST_MAX_TREES = 1000,
    TR_FOREST_MAX_NODES = 36864, /* of all trees */
    TR_FOREST_MIN_ROWS = 10
};

/* Largest magnitude of a target. */
#define TR_FOREST_MAX_TARGET 0x1p20

struct tr_forest_options {
    uint32_t n_trees;   /* 1..TR_FOREST_MAX_TREES */
    uint32_t max_depth; /* splits from the root to a leaf, at most; 0..31 */
    uint32_t min_leaf;  /* rows in a leaf, at least; 1.. */
    uint32_t mtry;      /* features tried at a node; 1..n_features */
    bool bootstrap;     /* false: every tree sees every row, and there is no out-of-bag error */
    uint64_t seed;
};

/* Options of a caller, or the defaults for NULL. ERR_ARGUMENT: the wrong struct_size; `who` begins
 * the message. */
trueno_status tr_forest_options_read(trueno_forest_options *out, const trueno_forest_options *opt,
                                     const char *who, trueno_error *err);

/* What a forest is grown from. */
struct tr_forest_data {
    const float *x; /* [n][n_features], finite */
    size_t n, n_features;
    const double *y;        /* regression: [n] targets within TR_FOREST_MAX_TARGET; else NULL */
    const uint32_t *labels; /* classes: [n], below n_classes; else NULL */
    uint32_t n_classes;
    double *oob; /* receives what trees that have not seen a row predict for it, NaN if all have:
                    [n], of classes [n][n_classes]; or NULL */
};

struct tr_forest;

/* Grows a forest. `cancel` of the context is polled between trees.
 * ERR_ARGUMENT: options or data out of range, or not finite; ERR_TOO_LARGE: more nodes than
 * TR_FOREST_MAX_NODES, the message names options that help; ERR_NO_MEMORY; ERR_CANCELLED. */
trueno_status tr_forest_train(struct tr_forest **out, trueno_ctx *ctx,
                              const struct tr_forest_data *data,
                              const struct tr_forest_options *opt, trueno_error *err);

void tr_forest_free(struct tr_forest *f);

/* Regression: the mean of the trees. spread (may be NULL): their standard deviation. */
double tr_forest_predict(const struct tr_forest *f, const float *x, double *spread);

/* Regression: by how much the mean of the first max_trees trees would change with one group of
 * features at a time taken from `other`: change [n_groups], which has at most 64. group_of
 * [features] is below n_groups. */
void tr_forest_exchange(const struct tr_forest *f, double *change, uint32_t n_groups,
                        uint32_t max_trees, const float *x, const float *other,
                        const uint8_t *group_of);

/* Classes: p [n_classes], the mean of the trees' leaf distributions. */
void tr_forest_classify(const struct tr_forest *f, const float *x, double *p);

/* Error on rows that a tree has not seen, each predicted by those trees alone: mean squared error,
 * or the share of wrong classes. n: how many rows that were; error is NaN if it is 0. */
double tr_forest_oob_error(const struct tr_forest *f, size_t *n);

/* What a forest is asked with: x [features]; classes that p receives, 0 of a regression. */
uint32_t tr_forest_features(const struct tr_forest *f);
uint32_t tr_forest_classes(const struct tr_forest *f);

/* Bytes that make up the model, for comparisons. */
size_t tr_forest_nodes(const struct tr_forest *f, const void **bytes);

/* In a file: little-endian, no padding, the same bytes on every machine; forest_bytes.c tells the
 * layout. A forest that was read predicts what the written one does, to the bit. */
size_t tr_forest_bytes(const struct tr_forest *f);
/* Writes tr_forest_bytes(f) bytes. */
void tr_forest_write(const struct tr_forest *f, uint8_t *out);
/* Reads the forest that the n bytes at p are; any bytes may be there. The caller checks that it is
 * a forest of its features and classes (above).
 * ERR_TRUNCATED; ERR_CORRUPT: it is none, or bytes follow; ERR_NO_MEMORY. *out is then NULL. */
trueno_status tr_forest_read(struct tr_forest **out, trueno_ctx *ctx, const uint8_t *p, size_t n,
                             trueno_error *err);

#endif
