/* SPDX-License-Identifier: MIT */
/** @file retrain.h
 *  What a tuner (tuner.h) collects while it is used, and training from it.
 *
 *  In mode LEARN every run that trueno_tuner_observe_run tells is kept, with what had been
 * predicted for it, and so is what trueno_tuner_feedback says of kernels: the newest 512 of both,
 * in the store too, where those of several processes and machines come together. While running, a
 * tuner only adds a correction to the models it has (learner.h). Retraining grows new ones, and
 * uses them only where they are better:
 *
 *  - The regressor, from 20 runs of 3 models or more. Each model's runs are predicted by a forest
 *    that was grown without them; the mean error of these predictions must be at least 3 % smaller
 *    than that of the predictions that were made at the time. Of every phase, on CPU and GPU, that
 *    the present one was trained on there must be ten runs, so that nothing is forgotten.
 *  - The classifier, from 10 rows of feedback or more. Trees that have not seen a row must name its
 *    kernel more often than the present classifier does.
 *
 *     trueno_tuner_feedback(tuner, &f, TRUENO_KERNEL_BATCHED_Q4K, &err);
 *     if (trueno_tuner_wants_retraining(tuner)) trueno_tuner_retrain(tuner, &r, &err);
 */
#ifndef TRUENO_RETRAIN_H
#define TRUENO_RETRAIN_H

#include "base.h"
#include "features.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trueno_tuner trueno_tuner; /**< tuner.h */

/** Most runs and rows of feedback that are kept. */
#define TRUENO_MAX_COLLECTED 512

/** Says that a kernel family was the best one for runs with these features, as the application
 * found: by its own measurements, or because it knows what its users prefer. In other modes than
 * LEARN nothing is kept.
 *  @return OK; ERR_ARGUMENT: NULL, no such family, Unknown; ERR_INVALID_FEATURE; ERR_BUSY;
 * ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_tuner_feedback(trueno_tuner *t, const trueno_features *f,
                                               uint32_t kernel, trueno_error *err);

/** Whether 32 runs or rows of feedback have come since the last retraining, here or in the
 * processes before; false for NULL, and while a call that changes t runs. */
TRUENO_API bool trueno_tuner_wants_retraining(trueno_tuner *t);

/** What retraining found. Shares and errors are NaN where there was too little data. */
typedef struct trueno_retraining {
    size_t struct_size;
    size_t n_runs;      /**< collected */
    size_t n_models;    /**< different ones among them, by size, width, layers and weight type */
    size_t n_feedback;  /**< rows of feedback */
    double mape_before; /**< mean of |predicted / measured - 1|, as predicted at the time */
    double mape_after;  /**< the same by forests that had not seen the run's model */
    double accuracy_before; /**< share of the feedback that the present classifier names */
    double accuracy_after;  /**< the same by trees that had not seen the row */
    bool regressor;         /**< a new one is in use */
    bool classifier;        /**< a new one is in use */
} trueno_retraining;

#define TRUENO_RETRAINING_INIT                                                                     \
    {                                                                                              \
        sizeof(trueno_retraining), 0, 0, 0, 0, 0, 0, 0, false, false                               \
    }

/** Grows new models from what was collected, and uses those that are better. Takes some seconds at
 * most; polls cancel, and then nothing changes. out may be NULL; on failure it is empty.
 *  @return OK, also if nothing was better; ERR_ARGUMENT; ERR_INSUFFICIENT_DATA: too little for
 * either model; ERR_CANCELLED; ERR_NO_MEMORY; ERR_BUSY; ERR_READ_ONLY (modes OFF and STRICT) */
TRUENO_API trueno_status trueno_tuner_retrain(trueno_tuner *t, trueno_retraining *out,
                                              trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
