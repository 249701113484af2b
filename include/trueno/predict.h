/* SPDX-License-Identifier: MIT */
/** @file predict.h
 *  Predicting how fast a run is.
 *
 *  A prediction starts from the roofline (Williams, Waterman, Patterson 2009): no pass takes less
 * time than its bytes over the memory bandwidth, nor than its operations over the peak. A model
 * says how much longer it takes: T = T_floor + excess * exp(-f), where excess is what a run of such
 * a device usually loses and f is learned. So no prediction exceeds the roof, whatever was learned,
 * and more bandwidth, more compute or fewer bits never predict less. f does not see bits, bandwidth
 * and compute, which act through the floor, nor the four features that cannot change the time of a
 * kernel.
 *
 *  What a prediction owes to single features is told against a *reference run* on a device of its
 * kind: TinyLlama's shape (1.1 B weights) in Q4_K, one sequence of 512 tokens, decoding behind them
 * or evaluating all of them as a prompt; a GPU of 1000 GB/s, 100 TFLOPS and 128 SMs, or a CPU of 50
 * GB/s, 2 TFLOPS and 4 threads. Where the reference is outside of what a model was trained on, the
 * nearest value inside takes its place, so what never varied has no effect.
 *
 *     trueno_regressor *r;
 *     trueno_regressor_with_random_forest(ctx, &r, 100, NULL, &err);
 *     trueno_regressor_train_random_forest(r, &report, features, tps, n, &err);
 *     trueno_regressor_predict(r, &prediction, &f, &err);
 */
#ifndef TRUENO_PREDICT_H
#define TRUENO_PREDICT_H

#include "base.h"
#include "features.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Where a prediction comes from. Values are frozen. */
typedef enum trueno_source {
    TRUENO_SOURCE_PRIOR = 0, /**< roofline and usual losses; nothing was learned */
    TRUENO_SOURCE_RIDGE = 1, /**< a linear model */
    TRUENO_SOURCE_FOREST = 2 /**< a random forest */
} trueno_source;

/** What limits a run at its roof. */
typedef enum trueno_bound {
    TRUENO_BOUND_MEMORY = 0, /**< bytes over bandwidth */
    TRUENO_BOUND_COMPUTE = 1 /**< operations over peak */
} trueno_bound;

/** Most features that a prediction lists. */
#define TRUENO_TOP_FEATURES 5

/** What one feature does to a prediction. */
typedef struct trueno_feature_effect {
    trueno_feature
        feature;   /**< bits_per_weight stands for how weights are stored, slots 20 to 29 */
    double effect; /**< ln(tokens/s as predicted / tokens/s if this feature alone were that of the
                      reference run); what a forest thinks of that, by its first 32 trees */
} trueno_feature_effect;

/** Throughput of one run. */
typedef struct trueno_prediction {
    size_t struct_size;
    double predicted_tps; /**< tokens per second, all sequences together; at most roofline_tps */
    double lo;            /**< lower end of the interval; may be 0 */
    double hi;            /**< upper end, at most roofline_tps */
    double level; /**< share of runs that the interval is to hold, 0.9; 0: a factor of two both
                     ways, from fewer than 20 measurements of such runs */
    double roofline_tps;     /**< no run is faster */
    double efficiency;       /**< predicted_tps / roofline_tps */
    double confidence;       /**< share of held-out rows that were predicted within 20 %; 0: none */
    double ttft_ms;          /**< milliseconds to the first token of a prefill; 0 for decode */
    trueno_source source;    /**< what predicted */
    trueno_bound bound;      /**< at the roof */
    bool reference_hardware; /**< bandwidth, compute or cores are those of the reference device */
    uint32_t n_top_features; /**< of them */
    trueno_feature_effect top_features[TRUENO_TOP_FEATURES]; /**< features with an effect of 0.005
                                                                or more, the largest first; what
                                                                running added is in no feature */
} trueno_prediction;

#define TRUENO_PREDICTION_INIT                                                                     \
    {                                                                                              \
        sizeof(trueno_prediction), 0, 0, 0, 0, 0, 0, 0, 0, TRUENO_SOURCE_PRIOR,                    \
            TRUENO_BOUND_MEMORY, false, 0,                                                         \
        {                                                                                          \
            {                                                                                      \
                TRUENO_FEATURE_MODEL_PARAMS_B, 0                                                   \
            }                                                                                      \
        }                                                                                          \
    }

/** How a forest grows. */
typedef struct trueno_forest_options {
    size_t struct_size;
    uint32_t max_depth; /**< splits from root to leaf, at most 31 */
    uint32_t min_leaf;  /**< rows in a leaf, at least 1 */
    uint32_t mtry;      /**< features tried at a node; 0: 14 */
    bool bootstrap;     /**< each tree on a sample; false: there is no held-out error */
    uint64_t seed;      /**< same seed, same model */
} trueno_forest_options;

#define TRUENO_FOREST_OPTIONS_INIT                                                                 \
    {                                                                                              \
        sizeof(trueno_forest_options), 12, 3, 0, true, 1                                           \
    }

/** What training found. Errors are on rows that the predicting model had not seen. */
typedef struct trueno_train_report {
    size_t struct_size;
    size_t n_rows;      /**< given */
    size_t n_used;      /**< without those at or above their roof, whose features must be wrong */
    size_t n_distinct;  /**< different feature vectors among those used */
    size_t n_held_out;  /**< rows behind the next three figures: out of bag (forest), or of five
                           folds by feature vector (ridge); 0 and NaN: there were none */
    double mape;        /**< mean of |predicted / measured - 1| */
    double median_ape;  /**< median of the same */
    double bias;        /**< mean of ln(predicted / measured) */
    uint64_t constant;  /**< bit i: slot i is the same in all rows, so nothing was learned of it */
    uint64_t collinear; /**< bit i: slot i follows another one before it (|r| > 0.98), so what was
                           learned of the two cannot be told apart */
} trueno_train_report;

#define TRUENO_TRAIN_REPORT_INIT                                                                   \
    {                                                                                              \
        sizeof(trueno_train_report), 0, 0, 0, 0, 0, 0, 0, 0, 0                                     \
    }

/** Predicts throughput. Predictions may be made from several threads at once, but not while it is
 * trained or observes. */
typedef struct trueno_regressor trueno_regressor;

/** A regressor that knows nothing but the prior. The caller owns *out.
 *  @return OK; ERR_ARGUMENT; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_regressor_new(trueno_ctx *ctx, trueno_regressor **out,
                                              trueno_error *err);

/** One that can be trained with a forest of n_trees (1..1000); opt NULL: defaults. Until then it
 * predicts the prior.
 *  @return as trueno_regressor_new */
TRUENO_API trueno_status trueno_regressor_with_random_forest(trueno_ctx *ctx,
                                                             trueno_regressor **out,
                                                             uint32_t n_trees,
                                                             const trueno_forest_options *opt,
                                                             trueno_error *err);

/** Frees it; NULL is fine. */
TRUENO_API void trueno_regressor_free(trueno_regressor *r);

/** Fits a linear model (ridge, closed form; the penalty by five folds) to n measured rows: tps[i]
 * tokens per second, all sequences of rows[i] together. Replaces what was learned before,
 * trueno_regressor_observe and learners (learner.h) included; on failure that stays. report may be
 * NULL.
 *  @return OK; ERR_ARGUMENT (NULL, a rate that is not above 0, struct_size); ERR_INVALID_FEATURE,
 * the message names the row; ERR_INSUFFICIENT_DATA: fewer than 10 rows can be used; ERR_NO_MEMORY
 */
TRUENO_API trueno_status trueno_regressor_train(trueno_regressor *r, trueno_train_report *report,
                                                const trueno_features *rows, const double *tps,
                                                size_t n, trueno_error *err);

/** The same with a random forest.
 *  @return as trueno_regressor_train; ERR_ARGUMENT if r was made without a forest or its options
 * are out of range; ERR_TOO_LARGE; ERR_CANCELLED */
TRUENO_API trueno_status trueno_regressor_train_random_forest(trueno_regressor *r,
                                                              trueno_train_report *report,
                                                              const trueno_features *rows,
                                                              const double *tps, size_t n,
                                                              trueno_error *err);

/** Predicts one run; on failure *out is as TRUENO_PREDICTION_INIT. No allocation.
 *  @return OK; ERR_ARGUMENT; ERR_INVALID_FEATURE: as trueno_features_validate, or the size of the
 * model is unknown */
TRUENO_API trueno_status trueno_regressor_predict(const trueno_regressor *r, trueno_prediction *out,
                                                  const trueno_features *f, trueno_error *err);

/** Tells it what a run was measured at: tps tokens per second, all sequences together. Changes the
 * interval alone, for runs of the same phase on the same kind of device (CPU or GPU): it is to hold
 * 90 % of the last measurements (adaptive conformal inference, Gibbs and Candes 2021), so each
 * measurement outside of it makes it wider, up to everything from 0 to the roof, and each inside a
 * little narrower. From 20 measurements, or rows that training held out, it has a level. A rate at
 * or above the roof counts as a miss in trueno_regressor_coverage, and teaches nothing.
 *  @return OK; ERR_ARGUMENT (NULL, a rate that is not above 0); ERR_INVALID_FEATURE as
 * trueno_regressor_predict */
TRUENO_API trueno_status trueno_regressor_observe(trueno_regressor *r, const trueno_features *f,
                                                  double tps, trueno_error *err);

/** Share of the last n (up to 500) observations that lay within the interval predicted for them;
 * those without a level do not count. NaN where n is 0.
 *  @return OK; ERR_ARGUMENT: NULL */
TRUENO_API trueno_status trueno_regressor_coverage(const trueno_regressor *r, double *share,
                                                   size_t *n);

/** Makes interval and confidence of r from rows [n] that others had not seen: others[i] predicts
 * rows[i], measured at tps[i], and r's next predictions are taken to be as far off. Training does
 * the like with rows that its trees or folds had not seen, but similar ones they had; where r is to
 * predict runs of models that it knows nothing of, others that were trained without the row's model
 * tell how good that is. others[i] may be r itself if that was not trained on the row. Replaces the
 * scores that r has and what observations did to its interval; rows at or above their roof do not
 * count. The rest of r stays; on failure all of it.
 *  @return OK; ERR_ARGUMENT (NULL, a rate that is not above 0); ERR_INVALID_FEATURE, the message
 * names the row; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_regressor_set_scores(trueno_regressor *r,
                                                     const trueno_regressor *const *others,
                                                     const trueno_features *rows, const double *tps,
                                                     size_t n, trueno_error *err);

/** Updates behind what a learner (learner.h) added to it; 0: nothing was added since it was
 * trained. */
TRUENO_API uint64_t trueno_regressor_online_updates(const trueno_regressor *r);

/** A copy with everything that was learned. The caller owns *out.
 *  @return OK; ERR_ARGUMENT; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_regressor_clone(const trueno_regressor *r, trueno_regressor **out,
                                                trueno_error *err);

/** Everything that it knows as bytes, little-endian, with a version and a checksum. *len is how
 * many that are; buf NULL: only that.
 *  @return OK; ERR_ARGUMENT; ERR_TOO_LARGE: more than cap, nothing was written */
TRUENO_API trueno_status trueno_regressor_export(const trueno_regressor *r, void *buf, size_t cap,
                                                 size_t *len, trueno_error *err);

/** A regressor from such bytes, which may be anything; it predicts the same bits. The caller owns
 * *out.
 *  @return OK; ERR_ARGUMENT; ERR_TRUNCATED: fewer bytes than they announce; ERR_FORMAT: not of a
 * regressor; ERR_VERSION; ERR_CORRUPT: the checksum, or values that cannot be; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_regressor_import(trueno_ctx *ctx, trueno_regressor **out,
                                                 const void *buf, size_t len, trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
