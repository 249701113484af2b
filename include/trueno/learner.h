/* SPDX-License-Identifier: MIT */
/** @file learner.h
 *  Learning while running.
 *
 *  A learner begins as a copy of a regressor (predict.h) and adds to its f a linear function of the
 * features, kept by recursive least squares: what was learned acts on the time above the floor, as
 * everything else does, so no prediction exceeds its roof. Old measurements fade by 0.1 % each;
 * one that is far off counts less. Learner and regressor predict on one scale: what was learned is
 * put into a regressor by trueno_regressor_apply_learner, and both then predict the same.
 *
 *     trueno_learner *l;
 *     trueno_learner_new(r, &l, &err);
 *     trueno_features_to_vector(x, &f, &err);
 *     trueno_learner_observe(l, x, 152.0, &err);
 *     trueno_regressor_apply_learner(r, l, &err);
 */
#ifndef TRUENO_LEARNER_H
#define TRUENO_LEARNER_H

#include "base.h"
#include "features.h"
#include "predict.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Learns from measurements. Predictions may be made from several threads at once, but not while it
 * observes. */
typedef struct trueno_learner trueno_learner;

/** A learner that predicts what r does now, with what was applied to r before. r may change or be
 * freed after it. The caller owns *out.
 *  @return OK; ERR_ARGUMENT: NULL; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_learner_new(const trueno_regressor *r, trueno_learner **out,
                                            trueno_error *err);

/** Frees it; NULL is fine. */
TRUENO_API void trueno_learner_free(trueno_learner *l);

/** Learns that a run with the vector x (trueno_features_to_vector) was measured at tps tokens per
 * second, all sequences together. What no vector holds (exact bytes and operations, a phase by
 * name) is taken as not given; trueno_learner_observe_run knows it. A rate at or above the roof is
 * no error, for a run cannot be asked again: it is counted (trueno_learner_num_above_roof) and
 * teaches nothing, because the bandwidth or the peak in x must be wrong. No allocation.
 *  @return OK; ERR_ARGUMENT: NULL, or a rate that is NaN, infinite, or not above 0;
 * ERR_INVALID_FEATURE as trueno_features_from_vector, or the size of the model is unknown */
TRUENO_API trueno_status trueno_learner_observe(trueno_learner *l,
                                                const float x[TRUENO_FEATURE_DIM], double tps,
                                                trueno_error *err);

/** The same from features.
 *  @return as trueno_learner_observe */
TRUENO_API trueno_status trueno_learner_observe_run(trueno_learner *l, const trueno_features *f,
                                                    double tps, trueno_error *err);

/** Measurements that this learner learned from; 0 for NULL. */
TRUENO_API uint64_t trueno_learner_num_updates(const trueno_learner *l);

/** Measurements that lay at or above their roof; 0 for NULL. */
TRUENO_API uint64_t trueno_learner_num_above_roof(const trueno_learner *l);

/** How far off predictions have been: an exponential mean (the newest counts 0.1, corrected for its
 * start) of |ln(predicted / measured)|, each predicted before it was learned. NaN without updates.
 */
TRUENO_API double trueno_learner_ema_loss(const trueno_learner *l);

/** Whether that is getting small: 10 updates or more, a loss of at most 0.15, and not above what it
 * was 10 updates ago. */
TRUENO_API bool trueno_learner_is_converging(const trueno_learner *l);

/** Predicts one run with what was learned, as trueno_regressor_predict.
 *  @return as trueno_regressor_predict */
TRUENO_API trueno_status trueno_learner_predict(const trueno_learner *l, trueno_prediction *out,
                                                const trueno_features *f, trueno_error *err);

/** Puts what l learned into r, in the place of what was applied before: twice is as good as once,
 * and r then predicts the rates that l predicts. r must have been trained as the regressor that l
 * was made from.
 *  @return OK; ERR_ARGUMENT: NULL, or r was trained to something else */
TRUENO_API trueno_status trueno_regressor_apply_learner(trueno_regressor *r,
                                                        const trueno_learner *l, trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
