/* SPDX-License-Identifier: MIT */
/** @file tuner.h
 *  The tuner: predicts how fast a run will be, chooses kernels and threads, and learns from what
 * was measured. Its parts have headers of their own, and this one includes them all:
 *
 *  | header       | what                                                              |
 *  |--------------|-------------------------------------------------------------------|
 *  | features.h   | 42 numbers that describe a run                                    |
 *  | machine.h    | what this machine is and can do; features from the environment    |
 *  | predict.h    | throughput with interval, below the roofline                      |
 *  | choice.h     | problems, contexts, kernel choices                                |
 *  | classifier.h | family of kernels by rules or by a trained forest                 |
 *  | advice.h     | bottlenecks and experiments                                       |
 *  | learner.h    | learning while running                                            |
 *  | bandit.h     | trying kernels with bounded loss                                  |
 *  | brick.h      | one kernel with assertions and a budget                           |
 *  | calibrate.h  | measuring now                                                     |
 *  | retrain.h    | collecting runs and feedback, and new models from them            |
 *  | store.h      | what was learned, in a file or as bytes                           |
 *
 *     trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
 *     o.mode = TRUENO_TUNER_LEARN;
 *     trueno_tuner_new(ctx, &tuner, &o, &err);
 *     trueno_tuner_recommend(tuner, &rec, &features, &err);
 *     ... run rec.kernel.variant on n_cols columns, measure ns ...
 *     trueno_tuner_observe(tuner, rec.kernel.ticket, ns, n_cols);
 *     trueno_tuner_save(tuner, &err);
 *
 *  Kernels compete only with kernels that give the same bits, so no choice changes a result. What
 *  runs if nobody chooses (kernels.h) is always among them, and leaves only when paired
 * measurements on this machine and build prove another one faster.
 *
 *  plan, recommend, predict, explain, observe and stats may be called from several threads at once.
 *  The other calls are made by one thread at a time; while one of them runs, another one of them
 *  returns ERR_BUSY. There are no hidden threads: nothing is measured, digested or written but in
 *  the calls that say so.
 */
#ifndef TRUENO_TUNER_H
#define TRUENO_TUNER_H

#include "advice.h"
#include "bandit.h"
#include "base.h"
#include "brick.h"
#include "calibrate.h"
#include "choice.h"
#include "classifier.h"
#include "features.h"
#include "learner.h"
#include "machine.h"
#include "predict.h"
#include "retrain.h"
#include "store.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ life */

/** What a tuner may do. Values are frozen. */
typedef enum trueno_tuner_mode {
    TRUENO_TUNER_OFF = 0,    /**< the static default always; no file is read, nothing is learned */
    TRUENO_TUNER_FROZEN = 1, /**< uses what is stored and what it was given; measures nothing */
    TRUENO_TUNER_STRICT = 2, /**< as FROZEN, but a context without a stored choice is
                                ERR_STRICT_MISS: for runs that must be repeatable in speed too */
    TRUENO_TUNER_LEARN = 3   /**< observations change later choices */
} trueno_tuner_mode;

/** Options of a tuner. Zero: the default in brackets. Whether kernels compete that change the order
 * of sums is a matter of the context (trueno_ctx_options.numerics). */
typedef struct trueno_tuner_options {
    size_t struct_size;
    trueno_tuner_mode mode; /**< [FROZEN by TRUENO_TUNER_OPTIONS_INIT] */
    const char *store_path; /**< file of what was learned [trueno_tuner_cache_path]; "": none */
    const void *blob;       /**< instead of a file: bytes of trueno_tuner_export, read once */
    size_t blob_bytes;      /**< of blob */
    uint64_t expect_digest; /**< STRICT: trueno_tuner_digest that the store must have [any] */
    uint64_t seed;          /**< of exploration [1] */
    trueno_effort effort;   /**< of calibrations that have no options [RAPID; NORMAL by the INIT];
                               PATIENT lets sessions try kernels that are expected to be far behind */
    double audit_share;     /**< of the time that may be lost by comparing the choice with others
                               once it is made, at most 0.1 [0.006] */
    uint64_t max_scratch_bytes; /**< of the weights that a calibration measures with; below twice
                                   the last cache they are read from it [twice the last cache, at
                                   most 512 MiB] */
    uint64_t (*clock_fn)(void *user); /**< nanoseconds that never go back, by which sessions and
                                         calibrations measure, each on its own threads [the
                                         system's monotonic clock] */
    void *clock_user;                 /**< passed to clock_fn */
} trueno_tuner_options;

#define TRUENO_TUNER_OPTIONS_INIT                                                                  \
    {                                                                                              \
        sizeof(trueno_tuner_options), TRUENO_TUNER_FROZEN, NULL, NULL, 0, 0, 1,                    \
            TRUENO_EFFORT_NORMAL, 0, 0, NULL, NULL                                                 \
    }

/** A tuner. */
typedef struct trueno_tuner trueno_tuner;

/** Makes a tuner and reads the store unless the mode is OFF. Its regressor and classifier are those
 * that the store holds of this machine, else untrained ones. A store that cannot be used is no
 * failure (trueno_tuner_store_status tells), but in STRICT. opt NULL: defaults. The caller owns
 * *out.
 *  @return OK; ERR_ARGUMENT; ERR_NO_MEMORY; in STRICT also what the store says, or ERR_STRICT_MISS
 * if its digest is not the expected one */
TRUENO_API trueno_status trueno_tuner_new(trueno_ctx *ctx, trueno_tuner **out,
                                          const trueno_tuner_options *opt, trueno_error *err);

/** The same, but where the store holds no models, with the regressor that is part of the library,
 * trained on runs of many models on one machine (docs/tuner-accuracy.md tells how good it is).
 * trueno_tuner_throughput_mape says what was measured of it on models that were held out; its
 * intervals are of such models too. The classifier is untrained.
 *  @return as trueno_tuner_new */
TRUENO_API trueno_status trueno_tuner_with_pretrained(trueno_ctx *ctx, trueno_tuner **out,
                                                      const trueno_tuner_options *opt,
                                                      trueno_error *err);

/** How much the pretrained regressor goes by a feature: the error in |ln(predicted / measured)|
 * that exchanging the feature's values between runs adds, on models that were held out, as a share
 * of all features' (Breiman 2001). */
typedef struct trueno_importance {
    uint32_t idx;      /**< slot of the vector */
    const char *name;  /**< trueno_feature_name of it; static storage */
    double importance; /**< 0..1; together 1 */
    double std_error;  /**< of importance, over ten exchanges; NaN: not identified, because the
                          feature was the same in all runs, or never changes alone: how weights are
                          stored (slots 20 to 29) counts as one, under bits_per_weight */
} trueno_importance;

/** Features of the pretrained regressor by importance, largest first, equal ones by slot. *rows is
 * static storage. @return TRUENO_FEATURE_DIM; 0 if rows is NULL */
TRUENO_API size_t trueno_pretrained_feature_importance(const trueno_importance **rows);

/** A second tuner with the same models, choices and mode, that shares nothing with the first one
 * and has no file of its own (store_path ""). @return OK; ERR_ARGUMENT; ERR_NO_MEMORY; ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_clone(trueno_tuner *t, trueno_tuner **out, trueno_error *err);

/** Frees it; nothing is saved. NULL is fine. Sessions that use it must have been freed. */
TRUENO_API void trueno_tuner_free(trueno_tuner *t);

/** Mode it was made with. */
TRUENO_API trueno_tuner_mode trueno_tuner_get_mode(const trueno_tuner *t);

/** "1.0.0"; with a suffix once it knows more: "-pretrained", "-calibrated", "-online-N" after N
 * observed runs were applied. Owned by t, valid until the next call that changes it. */
TRUENO_API const char *trueno_tuner_version(const trueno_tuner *t);

/* --------------------------------------------------------------- answers */

/** How to run. A pass has one number of threads for all that it does, attention included. */
typedef struct trueno_run_plan {
    uint32_t prefill_threads; /**< that compute a pass of prompt_tokens tokens (512 if the features
                                 say none): the measured choice, else cpu_threads */
    uint32_t decode_threads; /**< the same for a pass of one token and the drafts of a sequence, all
                                sequences together */
    uint32_t batch_tile;     /**< columns of one tile of the kernel that was chosen; 0: none was */
    uint32_t draft; /**< speculative tokens a pass: as asked for until trueno_tuner_observe_drafts
                       told how many are accepted, then the fastest of what was asked for, 0, 1, 2,
                       4 and 8 by prediction */
} trueno_run_plan;

/** Everything the tuner says of one run. */
typedef struct trueno_recommendation {
    size_t struct_size;
    trueno_prediction throughput;     /**< how fast it will be */
    trueno_kernel_choice kernel;      /**< of the product that takes most of the time */
    trueno_bottleneck bottleneck;     /**< what holds it back */
    trueno_run_plan plan;             /**< how to run */
    trueno_experiment experiments[8]; /**< by gain, largest first */
    size_t n_experiments;             /**< how many of these there are */
    double confidence_overall; /**< the smaller of the two confidences, of prediction and kernel;
                                  the kernel's alone if no run was ever measured */
    char model_version[40];    /**< trueno_tuner_version at the time */
} trueno_recommendation;

/** Fills in `rec` with empty values and its size. */
TRUENO_API void trueno_recommendation_init(trueno_recommendation *rec);

/** Predicts, chooses and advises. rec: initialised by trueno_recommendation_init; empty on failure.
 *  @return OK; ERR_ARGUMENT; ERR_INVALID_FEATURE; ERR_STRICT_MISS */
TRUENO_API trueno_status trueno_tuner_recommend(trueno_tuner *t, trueno_recommendation *rec,
                                                const trueno_features *f, trueno_error *err);

/** Writes the recommendation as a panel of text, lines of at most 80 columns, UTF-8.
 *  @return bytes needed without the NUL; buf holds at most cap - 1 of them (cap 0: buf may be NULL)
 */
TRUENO_API size_t trueno_recommendation_format(char *buf, size_t cap,
                                               const trueno_recommendation *rec);

/** The prediction alone. @return as trueno_regressor_predict */
TRUENO_API trueno_status trueno_tuner_predict(trueno_tuner *t, trueno_prediction *out,
                                              const trueno_features *f, trueno_error *err);

/** What is chosen for one problem, and the ticket of its measurement. */
typedef struct trueno_pick {
    size_t struct_size;
    const char *variant;         /**< registry entry; static storage; NULL for a pass */
    uint32_t threads;            /**< that compute: of a pass the choice, else the problem's */
    trueno_choice_source source; /**< who chose it */
    uint64_t ticket;             /**< for trueno_tuner_observe; 0 if the mode learns nothing */
} trueno_pick;

#define TRUENO_PICK_INIT                                                                           \
    {                                                                                              \
        sizeof(trueno_pick), NULL, 0, TRUENO_CHOICE_DEFAULT, 0                                     \
    }

/** The choice for a problem: a read of a table, without lock or allocation once the context is
 * known (the first call of a context adds it; the table holds 1024, later ones get the default).
 *  @return OK; ERR_ARGUMENT; ERR_UNSUPPORTED (no kernel computes it); ERR_STRICT_MISS: a product
 * whose choice is not stored; passes get the default */
TRUENO_API trueno_status trueno_tuner_plan(trueno_tuner *t, trueno_pick *out,
                                           const trueno_problem *p);

/** Tells in words why the kernel of a problem is what it is: candidates, measurements, reason.
 * Writes at most cap bytes with the NUL; *len: bytes needed without it. buf may be NULL with cap 0.
 *  @return OK; ERR_ARGUMENT; ERR_UNSUPPORTED */
TRUENO_API trueno_status trueno_tuner_explain(trueno_tuner *t, char *buf, size_t cap, size_t *len,
                                              const trueno_problem *p, trueno_error *err);

/* -------------------------------------------------------------- learning */

/** What a call of the kernel with this ticket took, for so many columns (0: as many as the
 * context's bucket goes up to, see trueno_problem_context). Lock-free: it goes to a ring of 4096
 * entries that trueno_tuner_tick empties; if that is full it is dropped and counted. Ticket 0:
 * nothing.
 *  @return OK; ERR_ARGUMENT (a ticket that is none, ns 0) */
TRUENO_API trueno_status trueno_tuner_observe(trueno_tuner *t, uint64_t ticket, uint64_t ns,
                                              uint64_t columns);

/** A pass over a model whose threads the tuner chooses. A session with a tuner does this itself. */
typedef struct trueno_pass {
    size_t struct_size;
    trueno_problem problem; /**< in: trueno_problem_of_pass, with the most threads that may
                               compute */
    uint32_t threads;       /**< out: that are to compute this pass */
    bool compares;          /**< out: it is one of a comparison; kernels should stay the same */
    trueno_choice_source source; /**< out: who chose */
    uint64_t ticket;             /**< out: of trueno_tuner_end_pass; 0: nothing is to be told */
} trueno_pass;

#define TRUENO_PASS_INIT                                                                           \
    {                                                                                              \
        sizeof(trueno_pass), TRUENO_PROBLEM_INIT, 0, false, TRUENO_CHOICE_DEFAULT, 0               \
    }

/** Says with how many threads to compute the pass. Compared are all threads, half of them, one, and
 * the CPUs that the control group allows, where the machine's measured bandwidth and peak do not
 * rule them out (more than 1.5 times as slow); where nothing was measured, half of them for
 * decoding. No results depend on it. In mode LEARN the context is the caller's until
 * trueno_tuner_end_pass; others get its choice meanwhile, and are not asked to measure.
 *  @return OK; ERR_ARGUMENT (the problem is no pass) */
TRUENO_API trueno_status trueno_tuner_begin_pass(trueno_tuner *t, trueno_pass *pass);

/** Tells what the pass took, for so many tokens (0: the problem's n_cols). ns 0: it was not whole,
 * and teaches nothing. The ticket is used up. @return OK; ERR_ARGUMENT: t or pass is NULL, or a
 * ticket that is none, or was used before */
TRUENO_API trueno_status trueno_tuner_end_pass(trueno_tuner *t, trueno_pass *pass, uint64_t ns,
                                               uint64_t tokens);

/** Tells how many of the `checked` drafts that were looked at (up to the first that was rejected,
 * that included) were accepted. In LEARN, plan.draft and experiments go by all that was told.
 *  @return OK; ERR_ARGUMENT (accepted above checked) */
TRUENO_API trueno_status trueno_tuner_observe_drafts(trueno_tuner *t, uint64_t checked,
                                                     uint64_t accepted);

/** What a whole run reached, in tokens per second of all sequences together. In LEARN the regressor
 * learns from it at once, and a run on the CPU that was faster than its roof raises the bandwidth
 * that trueno_tuner_profile tells; in other modes it is counted alone. @return OK; ERR_ARGUMENT;
 * ERR_INVALID_FEATURE; ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_observe_run(trueno_tuner *t, const trueno_features *f,
                                                  double tps, trueno_error *err);

/** Digests observations, oldest first, for at most budget_us microseconds (0: all).
 *  @return OK; ERR_ARGUMENT; ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_tick(trueno_tuner *t, uint64_t budget_us);

/** While paused nothing is tried or learned: for spans whose latency matters. */
TRUENO_API void trueno_tuner_pause(trueno_tuner *t, bool paused);

/** A learner that begins with what t predicts. The caller owns *out.
 *  @return as trueno_learner_new */
TRUENO_API trueno_status trueno_tuner_online_learner(trueno_tuner *t, trueno_learner **out,
                                                     trueno_error *err);

/** Takes over what a learner learned; twice is the same as once.
 *  @return OK; ERR_ARGUMENT (the learner began with another regressor); ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_apply_online_updates(trueno_tuner *t,
                                                           const trueno_learner *learner,
                                                           trueno_error *err);

/** A bandit over families of kernels (bandit.h; NULL options: UCB1). The caller owns *out. */
TRUENO_API trueno_status trueno_tuner_kernel_bandit(const trueno_tuner *t, trueno_bandit **out,
                                                    const trueno_bandit_options *opt,
                                                    trueno_error *err);

/** Chooses a family by the bandit: with probability `explore` what its policy wants to try, else
 * what it knows to be best; the classifier's only while the bandit has no data of the context. Its
 * arms are the families that can compute the features' problem here. Then
 * trueno_bandit_update(bandit, out->context, out->top_kernel, reward).
 *  @return OK; ERR_ARGUMENT (explore outside [0, 1]); ERR_INVALID_FEATURE */
TRUENO_API trueno_status trueno_tuner_recommend_kernel_with_exploration(
    trueno_tuner *t, trueno_kernel_choice *out, const trueno_features *f, trueno_bandit *bandit,
    double explore, trueno_error *err);

/** Trains t's regressor with a forest of 100 trees on measured runs, as
 * trueno_regressor_train_random_forest. @return as that; ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_train(trueno_tuner *t, trueno_train_report *report,
                                            const trueno_features *rows, const double *tps,
                                            size_t n, trueno_error *err);

/** Puts copies of trained models into t; NULL leaves the one that is there.
 *  @return OK; ERR_NO_MEMORY; ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_set_models(trueno_tuner *t, const trueno_regressor *r,
                                                 const trueno_classifier *c, trueno_error *err);

/** Where the accuracy of t's predictions was measured. */
typedef struct trueno_accuracy {
    size_t struct_size;
    size_t n;                            /**< rows that the predicting model had not seen */
    const char *split;                   /**< how they were held out; static storage */
    char machine[TRUENO_MACHINE_ID_MAX]; /**< of the measurements, in words; "" if unknown */
    char date[11];                       /**< UTC, "2026-11-27": of the last of them, or of the
                                            training if it does not know; "" if unknown */
    uint64_t data_hash;                  /**< of features and rates */
} trueno_accuracy;

#define TRUENO_ACCURACY_INIT                                                                       \
    {                                                                                              \
        sizeof(trueno_accuracy), 0, NULL, {0}, {0}, 0                                              \
    }

/** Mean absolute percentage error, as a fraction, of the last training or calibration on rows that
 * were held out. detail may be NULL. @return OK; ERR_ARGUMENT; ERR_NOT_MEASURED */
TRUENO_API trueno_status trueno_tuner_throughput_mape(const trueno_tuner *t, double *mape,
                                                      trueno_accuracy *detail);

/* ------------------------------------------------------------ statistics */

/** Counters since the tuner was made. Problems that are found in the table are not counted, as
 * nothing is written then. */
typedef struct trueno_tuner_stats {
    size_t struct_size;
    uint64_t contexts;     /**< in the table: problems that were not found there, and added */
    uint64_t full;         /**< problems that found the table full */
    uint64_t stored_used;  /**< contexts that began with a stored choice */
    uint64_t stored_stale; /**< whose stored choice was of another build or machine, and unused */
    uint64_t observations; /**< digested */
    uint64_t dropped;      /**< the ring was full */
    uint64_t explored;     /**< calls of a kernel that was not the choice at the time */
    uint64_t pins;         /**< choices that changed from the default, or between others */
    uint64_t unpins;       /**< that went back to it */
    uint64_t runs;         /**< observed */
    uint64_t kernel_runs;  /**< measured by calibration; 0: it never measured */
    uint64_t audits;       /**< comparisons of the choice with another kernel after its race */
    uint64_t audit_excess_ns; /**< time that these took longer than the choice alone would have */
    uint64_t retunes;         /**< races that audits called for */
    int64_t ledger_credit_ns; /**< that audits may still lose, of all contexts */
    uint64_t races;           /**< that were decided */
    uint64_t inconclusive;    /**< of them, those whose winner is not proven to be faster or as fast
                                 as all others: the measurements ended first */
    uint64_t noisy;           /**< calibrations that could choose nothing */
    uint64_t drafts_checked;  /**< as told */
    uint64_t drafts_accepted; /**< as told */
    double coverage;     /**< share of the last runs (up to 500) within their interval; NaN: none */
    double regret_upper; /**< upper end of the 95 % interval of the time that was lost, in all
                            contexts, by calls of others than the best kernel, as a share of the
                            calls; NaN: nothing was compared */
    trueno_store_report store; /**< of the store that it began with */
} trueno_tuner_stats;

#define TRUENO_TUNER_STATS_INIT                                                                    \
    {                                                                                              \
        sizeof(trueno_tuner_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
            0, TRUENO_STORE_REPORT_INIT                                                            \
    }

/** @return OK; ERR_ARGUMENT */
TRUENO_API trueno_status trueno_tuner_get_stats(const trueno_tuner *t, trueno_tuner_stats *out);

#ifdef __cplusplus
}
#endif
#endif
