/* SPDX-License-Identifier: MIT */
/** @file classifier.h
 *  Choosing the family of kernels that suits a run.
 *
 *  A classifier that was not trained follows rules: of the pair of families of the weight type, the
 * first (Vectorized...) for up to three columns in a pass, the second (Batched...) from four on.
 * Columns are sequences x (1 + drafts) when decoding and sequences x prompt tokens in a prefill;
 * Q2_K and Q3_K weights run as F32. A trained one follows its forest, rules or not: the mean of the
 * trees' leaf distributions. It never names a family that cannot compute weights of the type, nor,
 * on the CPU, one that no kernel of this build and machine belongs to for that many columns: their
 * shares are dropped, the others take their place, and if none is left the rules answer. A run on a
 * GPU (vram_gb above 0, or no hardware given) is not looked up in the registry: its variants are
 * NULL.
 *
 *  Confidence. Of a forest: its share of the trees' votes, corrected by what rows out of bag showed
 * such shares to be worth (up to eight groups of rows by share, merged until more votes never mean
 * less confidence; (right + 1) / (rows + 2) of each); the share itself if fewer than 20 rows were
 * out of bag. The rest of 1 is divided among the alternatives by their shares. Of rules: the
 * probability that the family takes at most 2 % longer than the other one of its pair, from a cost
 * model. With B the seconds to read the weights of the problem at 0.75 (unified memory 0.73, CPU
 * 0.85) of the bandwidth and C those to compute one column at 0.45 (CPU 0.60) of the peak,
 *
 *     Vectorized: memory = ceil(M / 3) B, compute = M C
 *     Batched:    memory = B,             compute = max(M, 4) C
 *     t          = max(memory, compute) + 0.2 min(memory, compute)
 *     confidence = Phi((ln 1.02 + ln(t_other / t_family)) / (0.25 sqrt 2)), within 0.01 .. 0.99
 *
 * where 0.25 is the standard deviation of ln t that such a model has, each family for itself. The
 * shares of bandwidth and peak, 0.2 and 0.25 are guesses of the design, not measurements.
 *
 *     trueno_classifier *c;
 *     trueno_classifier_with_random_forest(ctx, &c, 50, NULL, &err);
 *     trueno_classifier_train(c, &report, features, labels, n, &err);
 *     trueno_classifier_predict(c, &choice, &f, &err);
 */
#ifndef TRUENO_CLASSIFIER_H
#define TRUENO_CLASSIFIER_H

#include "base.h"
#include "choice.h"
#include "features.h"
#include "predict.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Chooses kernel families. Predictions may be made from several threads at once, but not while it
 * is trained. */
typedef struct trueno_classifier trueno_classifier;

/** What training a classifier found. */
typedef struct trueno_class_report {
    size_t struct_size;
    size_t n_rows;      /**< given */
    size_t n_distinct;  /**< different feature vectors among them; where rows repeat, rows out of
                           bag have twins that were learned, and accuracy flatters */
    size_t n_held_out;  /**< rows behind accuracy: out of bag of some tree */
    double accuracy;    /**< share of them whose label those trees named; NaN: there were none */
    uint64_t constant;  /**< bit i: slot i is the same in all rows, so nothing was learned of it */
    uint64_t collinear; /**< bit i: slot i follows another one before it (|r| > 0.98) */
} trueno_class_report;

#define TRUENO_CLASS_REPORT_INIT                                                                   \
    {                                                                                              \
        sizeof(trueno_class_report), 0, 0, 0, 0, 0, 0                                              \
    }

/** A classifier that follows the rules until it is trained; it grows 50 trees then. The caller owns
 * *out.
 *  @return OK; ERR_ARGUMENT; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_classifier_new(trueno_ctx *ctx, trueno_classifier **out,
                                               trueno_error *err);

/** The same with a forest of n_trees (1..1000); opt NULL: defaults; mtry 0: 6 here. Out of range,
 * training refuses them.
 *  @return as trueno_classifier_new */
TRUENO_API trueno_status trueno_classifier_with_random_forest(trueno_ctx *ctx,
                                                              trueno_classifier **out,
                                                              uint32_t n_trees,
                                                              const trueno_forest_options *opt,
                                                              trueno_error *err);

/** Frees it; NULL is fine. */
TRUENO_API void trueno_classifier_free(trueno_classifier *c);

/** Learns that labels[i], a trueno_kernel but not Unknown, was best for rows[i]; n rows, 10 or
 * more. Replaces what was learned before; on failure that stays. The four features that cannot
 * change the time of a kernel are not looked at. report may be NULL; on failure it is reset.
 *  @return OK; ERR_ARGUMENT (NULL, a label that is none, options of the forest, struct_size);
 * ERR_INVALID_FEATURE, the message names the row; ERR_INSUFFICIENT_DATA: fewer than 10 rows;
 * ERR_TOO_LARGE: more nodes than a forest may have; ERR_CANCELLED; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_classifier_train(trueno_classifier *c, trueno_class_report *report,
                                                 const trueno_features *rows,
                                                 const uint32_t *labels, size_t n,
                                                 trueno_error *err);

/** Chooses for the product that takes most of a run's time, that of the feed-forward, which
 * out->problem tells. Variants are the first entry of the registry that would run. No ticket. No
 * allocation. On failure *out is as TRUENO_KERNEL_CHOICE_INIT.
 *  @return OK; ERR_ARGUMENT; ERR_INVALID_FEATURE: as trueno_features_validate, or the size of the
 * model is unknown */
TRUENO_API trueno_status trueno_classifier_predict(const trueno_classifier *c,
                                                   trueno_kernel_choice *out,
                                                   const trueno_features *f, trueno_error *err);

/** Writes the classifier, trained or not, as bytes: the same on every machine, with a checksum.
 * *len receives how many there are. buf NULL: nothing is written, cap does not matter.
 *  @return OK; ERR_ARGUMENT: NULL, or cap is less than *len: nothing is written then */
TRUENO_API trueno_status trueno_classifier_export(const trueno_classifier *c, void *buf, size_t cap,
                                                  size_t *len, trueno_error *err);

/** A classifier from such bytes; it predicts what the exported one did, to the bit. Any bytes may
 * be there. The caller owns *out.
 *  @return OK; ERR_ARGUMENT; ERR_TRUNCATED; ERR_FORMAT: not a classifier; ERR_VERSION: of another
 * version; ERR_CORRUPT: wrong checksum, bytes follow, or what it holds is none; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_classifier_import(trueno_ctx *ctx, trueno_classifier **out,
                                                  const void *buf, size_t len, trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
