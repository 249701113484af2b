/* SPDX-License-Identifier: MIT */
/** @file advice.h
 *  What holds a run back, and what is worth trying.
 *
 *  The *bottleneck* is told from the shares of a pass's time: reading weights (memory), multiplying
 * with them (compute), attention (keys, values and their products), and waiting (launch: barriers
 * between threads on a CPU, kernel launches on a GPU). They are predicted from bytes and operations
 * at usual shares of bandwidth and peak (memory 0.75, unified memory 0.73, CPU 0.85; compute 0.45,
 * CPU 0.60; of two that overlap the smaller counts a fifth), or measured. The rule, in this order:
 *
 *     ATTENTION  if its share is above 0.35
 *     LAUNCH     if its share is above 0.25
 *     COMPUTE    if multiplying takes longer than reading the weights, else MEMORY
 *     UNKNOWN    without evidence: the model's size, or a CPU's bandwidth or peak, is not given
 *
 *  Waiting is an estimate unless it was measured. CPU: five barriers a layer, of 1 us + 0.2 us x
 * (threads - 1) each, nothing with one thread. GPU: 15 launches a layer of 2 us, with CUDA graphs
 * of 0.5 us.
 *
 *  *Experiments* are changes that a regressor (predict.h) expects to pay.
 */
#ifndef TRUENO_ADVICE_H
#define TRUENO_ADVICE_H

#include "base.h"
#include "features.h"
#include "predict.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------ bottleneck */

/** What takes most of a pass. Values are frozen. */
typedef enum trueno_bottleneck_class {
    TRUENO_BOTTLENECK_UNKNOWN = 0,   /**< nothing tells */
    TRUENO_BOTTLENECK_MEMORY = 1,    /**< reading weights */
    TRUENO_BOTTLENECK_COMPUTE = 2,   /**< multiplying with them */
    TRUENO_BOTTLENECK_ATTENTION = 3, /**< keys and values */
    TRUENO_BOTTLENECK_LAUNCH = 4     /**< barriers between threads, or launches of kernels */
} trueno_bottleneck_class;

/** Name of a class, e.g. "memory"; "unknown" for a number that is none. Static storage. */
TRUENO_API const char *trueno_bottleneck_name(trueno_bottleneck_class kind);

/** What holds a run back. The shares add up to 1, or are all 0 if nothing tells. */
typedef struct trueno_bottleneck {
    size_t struct_size;
    trueno_bottleneck_class kind; /**< by the rule above */
    double memory;                /**< share of the pass's time that reads weights */
    double compute;               /**< that multiplies with them */
    double attention;             /**< that reads and multiplies keys and values */
    double launch;                /**< that waits */
    double other;                 /**< the rest of a measured time; 0 if predicted */
    double confidence;     /**< probability that the rule says the same of the true times, if the
                              logarithms of their ratios are off by normal errors of standard
                              deviation 0.25 sqrt 2, or 0.05 sqrt 2 where times were measured;
                              at most 0.99; 0 for UNKNOWN */
    bool measured;         /**< the shares come from measured times */
    char explanation[256]; /**< a sentence with the shares */
    char action[160];      /**< what helps on such a device; "" if there is nothing to say */
} trueno_bottleneck;

#define TRUENO_BOTTLENECK_INIT                                                                     \
    {                                                                                              \
        sizeof(trueno_bottleneck), TRUENO_BOTTLENECK_UNKNOWN, 0, 0, 0, 0, 0, 0, false, "", ""      \
    }

/** Predicts it. Where nothing tells, the status is OK and the class UNKNOWN. On failure *out is as
 * TRUENO_BOTTLENECK_INIT. No allocation.
 *  @return OK; ERR_ARGUMENT; ERR_INVALID_FEATURE: as trueno_features_validate, but that bandwidth,
 * peak and cores of a CPU may be unset */
TRUENO_API trueno_status trueno_bottleneck_of(trueno_bottleneck *out, const trueno_features *f,
                                              trueno_error *err);

/** Seconds of a pass, measured. */
typedef struct trueno_stage_times {
    size_t struct_size;
    double matmul;    /**< products with weights */
    double attention; /**< attention, and storing keys and values */
    double launch;    /**< barriers, or launches that nothing hides */
    double total;     /**< the pass; not less than the sum of the others */
} trueno_stage_times;

#define TRUENO_STAGE_TIMES_INIT                                                                    \
    {                                                                                              \
        sizeof(trueno_stage_times), 0, 0, 0, 0                                                     \
    }

/** Tells it from measured times of a run with these features. How much of the products is memory
 * and how much compute is predicted; where nothing tells, they count as other, and the class is
 * ATTENTION, LAUNCH or UNKNOWN.
 *  @return OK; ERR_ARGUMENT: NULL, struct_size, or a time that is negative or not finite, a total
 * of 0, or stages that exceed it by more than 1 %; ERR_INVALID_FEATURE as trueno_bottleneck_of */
TRUENO_API trueno_status trueno_bottleneck_from_times(trueno_bottleneck *out,
                                                      const trueno_stage_times *times,
                                                      const trueno_features *f, trueno_error *err);

/* ----------------------------------------------------------- experiments */

/** What an experiment changes. Values are frozen. */
typedef enum trueno_experiment_kind {
    TRUENO_EXPERIMENT_BATCH = 0,       /**< batch_size */
    TRUENO_EXPERIMENT_CUDA_GRAPHS = 1, /**< cuda_graphs, 0 to 1 */
    TRUENO_EXPERIMENT_VARIANT = 2,     /**< the kernel: numbers of families (trueno_kernel) */
    TRUENO_EXPERIMENT_THREADS = 3,     /**< cpu_threads */
    TRUENO_EXPERIMENT_BATCH_TILE = 4,  /**< columns that are computed at once */
    TRUENO_EXPERIMENT_DRAFT = 5,       /**< draft_tokens */
    TRUENO_EXPERIMENT_CONTEXT = 6      /**< seq_len */
} trueno_experiment_kind;

/** A change, and what it is expected to do to the tokens per second of all sequences together. */
typedef struct trueno_experiment {
    size_t struct_size;
    trueno_experiment_kind kind; /**< what changes */
    double from;                 /**< as the features say */
    double to;                   /**< what to try */
    double gain;    /**< predicted rate over the present one's prediction; 1.25 is 25 % faster */
    double gain_lo; /**< lower end of the interval */
    double gain_hi; /**< upper end */
    char text[128]; /**< what to do, e.g. "advance 8 sequences at once instead of 4" */
} trueno_experiment;

#define TRUENO_EXPERIMENT_INIT                                                                     \
    {                                                                                              \
        sizeof(trueno_experiment), TRUENO_EXPERIMENT_BATCH, 0, 0, 0, 0, 0, ""                      \
    }

/** Lists what may pay, the largest gain first: of each kind the change whose lower end of gain is
 * highest, if that exceeds 1.015. Tried are batch_size (a half, 2 and 4 times; not beyond vram_gb
 * or system_ram_gb), cuda_graphs on a GPU, cpu_threads on a CPU (1, a half, twice, all cores), and
 * when decoding draft_tokens (0, 1, 2, 4, 8) and half of seq_len. Other kinds are no features and
 * are never listed here.
 *
 *  Assumptions. Two predictions of one model for one machine err alike: their errors of ln(tps),
 * which the interval of each prediction bounds by w = ln(predicted / lo), have correlation 0.9, so
 * the gain's interval is gain x exp(+-sqrt(w1^2 + w2^2 - 1.8 w1 w2)). Bandwidth and peak stay as
 * given when threads change. Drafts cost nothing to make, as by looking up the prompt, and each is
 * accepted with probability 0.7, 0.5 at the lower and 0.85 at the upper end; of L drafts a pass
 * keeps (1 - p^(L + 1)) / (1 - p) tokens (Leviathan, Kalman, Matias 2023). These are guesses of the
 * design, not measurements.
 *
 *  out: cap elements, their size in struct_size of the first (of all, as they are one array); NULL
 * if cap is 0. *n: how many were written. No allocation.
 *  @return OK; ERR_ARGUMENT; ERR_INVALID_FEATURE as trueno_regressor_predict; *n is then 0 */
TRUENO_API trueno_status trueno_experiments_of(trueno_experiment *out, size_t cap, size_t *n,
                                               const trueno_regressor *r, const trueno_features *f,
                                               trueno_error *err);

/** Writes "text: +25 % tokens/s (+10 % to +40 %)", cut to cap bytes with the NUL; buf may be NULL
 * if cap is 0. @return length of the whole without the NUL, as snprintf; 0 if e is NULL or its
 * struct_size is wrong */
TRUENO_API size_t trueno_experiment_format(char *buf, size_t cap, const trueno_experiment *e);

#ifdef __cplusplus
}
#endif
#endif
