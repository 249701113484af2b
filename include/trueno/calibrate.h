/* SPDX-License-Identifier: MIT */
/** @file calibrate.h
 *  Measuring now, with a budget, what a tuner (tuner.h) would else learn while it runs: what this
 * machine can do, which kernels are fastest for the products that matter, and what runs usually
 * lose.
 *
 *     trueno_calibration found = TRUENO_CALIBRATION_INIT;
 *     trueno_tuner_calibrate(tuner, &found, NULL, &err);
 *     trueno_tuner_save(tuner, &err);
 */
#ifndef TRUENO_CALIBRATE_H
#define TRUENO_CALIBRATE_H

#include "base.h"
#include "choice.h"
#include "machine.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trueno_tuner trueno_tuner; /**< tuner.h */

/** How much is done to find out. Values are frozen. */
typedef enum trueno_effort {
    TRUENO_EFFORT_RAPID = 0,  /**< a calibration takes 2 s */
    TRUENO_EFFORT_NORMAL = 1, /**< 10 s */
    TRUENO_EFFORT_PATIENT = 2 /**< 60 s; kernels that are expected to be far behind are tried too */
} trueno_effort;

/** Options of trueno_tuner_calibrate. Zero: the default in brackets. */
typedef struct trueno_calibrate_options {
    size_t struct_size;
    trueno_effort effort;           /**< [RAPID; NORMAL by the INIT] */
    uint32_t budget_ms;             /**< [of the effort] */
    const trueno_problem *problems; /**< contexts that matter [typical shapes of 1.1 B models in
                                       Q4_K, Q6_K and Q8_0, decode and prefill] */
    size_t n_problems;              /**< how many; 0: the typical ones */
    uint32_t threads;               /**< of the default problems [all usable] */
} trueno_calibrate_options;

#define TRUENO_CALIBRATE_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(trueno_calibrate_options), TRUENO_EFFORT_NORMAL, 0, NULL, 0, 0                      \
    }

/** What a calibration found. */
typedef struct trueno_calibration {
    size_t struct_size;
    char hardware_id[96]; /**< trueno_machine.id */
    double read_gbs;      /**< measured read bandwidth, 10^9 B/s */
    double int8_gmacs;    /**< measured peak of 8-bit products, 10^9/s */
    double local_mape;    /**< mean error of predicted rates of products, as a fraction, on contexts
                             that were not fitted; NaN: too few */
    double mape_before;   /**< the same without what was fitted */
    double improvement_pct; /**< 100 x (1 - local_mape / mape_before); may be negative */
    bool applied;        /**< what was fitted is used: only if it helped beyond noise, and only by
                            a regressor that was not trained */
    uint32_t n_contexts; /**< measured */
    uint32_t n_changed;  /**< whose kernel is no longer the default */
    uint64_t n_measurements; /**< kernel runs that were timed */
    double mde_pct;     /**< smallest difference that could be told, by timing one kernel as two */
    double duration_ms; /**< of the whole call */
    bool noisy;         /**< the machine was too unsteady to choose (mde above 1.5 %) */
    bool partial; /**< the budget ended, or it was cancelled, before all contexts were measured */
    bool hot; /**< there was no memory, or not allowed, for weights that no cache holds: the choices
                 are those of weights in a cache */
} trueno_calibration;

#define TRUENO_CALIBRATION_INIT                                                                    \
    {                                                                                              \
        sizeof(trueno_calibration), {0}, 0, 0, 0, 0, 0, false, 0, 0, 0, 0, 0, false, false, false  \
    }

/** Measures this machine, with all threads and, as far as a third of the budget goes, with half of
 * them and with one; then the candidates of the given problems, interleaved and in pairs, on
 * weights that come from memory. Keeps to the budget. Reports progress "calibrate" in ms and polls
 * cancel, by the context's callbacks; what was measured until then counts. opt NULL: the tuner's
 * effort. Not in modes OFF and STRICT.
 *  @return OK; ERR_ARGUMENT; ERR_BUSY; ERR_NO_MEMORY; ERR_READ_ONLY (mode) */
TRUENO_API trueno_status trueno_tuner_calibrate(trueno_tuner *t, trueno_calibration *out,
                                                const trueno_calibrate_options *opt,
                                                trueno_error *err);

/** What the machine can do, as far as t knows it: from calibrations and from profiles that it was
 * given, now or in processes before. @return OK; ERR_ARGUMENT; ERR_BUSY; ERR_NOT_MEASURED (out is
 * empty) */
TRUENO_API trueno_status trueno_tuner_profile(trueno_tuner *t, trueno_machine_profile *out,
                                              trueno_error *err);

/** Keeps what trueno_machine_measure found, for later runs and for the store.
 *  @return OK; ERR_ARGUMENT; ERR_BUSY; ERR_READ_ONLY (modes OFF and STRICT); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_tuner_remember_profile(trueno_tuner *t,
                                                       const trueno_machine_profile *profile,
                                                       trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
