/* SPDX-License-Identifier: MIT */
/* Inside of a classifier, for choosing (classifier.c), rules (rules.c) and files
 * (classifier_bytes.c). */
#ifndef TR_CLASSIFIER_IMPL_H
#define TR_CLASSIFIER_IMPL_H

#include "trueno/classifier.h"
#include "tuner/confidence.h"
#include "tuner/forest.h"

/* Slots that a classifier looks at: all but the four inert ones. */
enum { TR_CLASSIFIER_FEATURES = TRUENO_FEATURE_DIM - 4 };

struct trueno_classifier {
    trueno_ctx *ctx;
    uint32_t n_trees;
    trueno_forest_options options;

    struct tr_forest *forest; /* NULL: rules */
    uint32_t n_classes;
    uint8_t kernel_of[TR_FOREST_MAX_CLASSES]; /* families of the classes, ascending */
    struct tr_confidence confidence;
};

/* An untrained one; ERR_NO_MEMORY. */
trueno_status tr_classifier_make(trueno_classifier **out, trueno_ctx *ctx, trueno_error *err);

/* The first family of the pair that computes weights of a type; Unknown if there is none. The
 * second is one more. */
trueno_kernel tr_pair_of(trueno_dtype type);

/* False if the family computes other weights than those of a type. */
bool tr_family_takes(trueno_kernel kernel, trueno_dtype type);

/* The rule's choice for a problem of these features (classifier.h): its family, the probability
 * that it is as good as the best of the pair, and the same of the other family. */
struct tr_rule {
    trueno_kernel family, other;
    double confidence, other_confidence;
};
trueno_status tr_rule_of(struct tr_rule *out, const trueno_features *f, const trueno_problem *p,
                         trueno_error *err);

#endif
