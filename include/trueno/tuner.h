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
 *
 *     trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
 *     o.mode = TRUENO_TUNER_LEARN;
 *     trueno_tuner_new(ctx, &tuner, &o, &err);
 *     trueno_tuner_recommend(tuner, &rec, &features, &err);
 *     ... run rec.kernel.variant, measure ns ...
 *     trueno_tuner_observe(tuner, rec.kernel.ticket, ns);
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
#include "choice.h"
#include "classifier.h"
#include "features.h"
#include "learner.h"
#include "machine.h"
#include "predict.h"

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

/** Options of a tuner. Zero: the default in brackets. */
typedef struct trueno_tuner_options {
    size_t struct_size;
    trueno_tuner_mode mode; /**< [FROZEN by TRUENO_TUNER_OPTIONS_INIT] */
    const char *store_path; /**< file of what was learned [trueno_tuner_cache_path]; "": none */
    const void *blob;       /**< instead of a file: bytes of trueno_tuner_export, read once */
    size_t blob_bytes;      /**< of blob */
    uint64_t expect_digest; /**< STRICT: trueno_tuner_digest that the store must have [any] */
    uint64_t seed;          /**< of exploration [1] */
} trueno_tuner_options;

#define TRUENO_TUNER_OPTIONS_INIT                                                                  \
    {                                                                                              \
        sizeof(trueno_tuner_options), TRUENO_TUNER_FROZEN, NULL, NULL, 0, 0, 1                     \
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

/** How to run. */
typedef struct trueno_run_plan {
    uint32_t threads; /**< that compute; cpu_threads of the features if nothing better is known */
    uint32_t batch_tile; /**< columns of one tile of the kernel that was chosen; 0: none was */
    uint32_t draft;      /**< speculative tokens, as asked for */
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

/** The kernel for one problem, and the ticket of its measurement. */
typedef struct trueno_pick {
    size_t struct_size;
    const char *variant;         /**< registry entry; static storage */
    trueno_choice_source source; /**< who chose it */
    uint64_t ticket;             /**< for trueno_tuner_observe; 0 if the mode learns nothing */
} trueno_pick;

#define TRUENO_PICK_INIT                                                                           \
    {                                                                                              \
        sizeof(trueno_pick), NULL, TRUENO_CHOICE_DEFAULT, 0                                        \
    }

/** The kernel for a problem: a read of a table, without lock or allocation once the context is
 * known (the first call of a context adds it; the table holds 1024, later ones get the default).
 *  @return OK; ERR_ARGUMENT; ERR_UNSUPPORTED (no kernel computes it); ERR_STRICT_MISS */
TRUENO_API trueno_status trueno_tuner_plan(trueno_tuner *t, trueno_pick *out,
                                           const trueno_problem *p);

/** Tells in words why the kernel of a problem is what it is: candidates, measurements, reason.
 * Writes at most cap bytes with the NUL; *len: bytes needed without it. buf may be NULL with cap 0.
 *  @return OK; ERR_ARGUMENT; ERR_UNSUPPORTED */
TRUENO_API trueno_status trueno_tuner_explain(trueno_tuner *t, char *buf, size_t cap, size_t *len,
                                              const trueno_problem *p, trueno_error *err);

/* -------------------------------------------------------------- learning */

/** What a call of the kernel with this ticket took. Lock-free: it goes to a ring of 4096 entries
 * that trueno_tuner_tick empties; if that is full it is dropped and counted. Ticket 0: nothing.
 *  @return OK; ERR_ARGUMENT (a ticket that is none, ns 0) */
TRUENO_API trueno_status trueno_tuner_observe(trueno_tuner *t, uint64_t ticket, uint64_t ns);

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
    uint64_t data_hash;                  /**< of features and rates */
} trueno_accuracy;

#define TRUENO_ACCURACY_INIT                                                                       \
    {                                                                                              \
        sizeof(trueno_accuracy), 0, NULL, {0}, 0                                                   \
    }

/** Mean absolute percentage error, as a fraction, of the last training or calibration on rows that
 * were held out. detail may be NULL. @return OK; ERR_ARGUMENT; ERR_NOT_MEASURED */
TRUENO_API trueno_status trueno_tuner_throughput_mape(const trueno_tuner *t, double *mape,
                                                      trueno_accuracy *detail);

/* ----------------------------------------------------------- calibration */

/** How much time a calibration takes if it is not told. Values are frozen. */
typedef enum trueno_effort {
    TRUENO_EFFORT_RAPID = 0,  /**< 2 s */
    TRUENO_EFFORT_NORMAL = 1, /**< 10 s */
    TRUENO_EFFORT_PATIENT = 2 /**< 60 s */
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
} trueno_calibration;

#define TRUENO_CALIBRATION_INIT                                                                    \
    {                                                                                              \
        sizeof(trueno_calibration), {0}, 0, 0, 0, 0, 0, false, 0, 0, 0, 0, 0, false, false         \
    }

/** Measures this machine and the candidates of the given problems, interleaved and in pairs, on
 * weights that come from memory, and keeps to the budget. Reports progress "calibrate" in ms and
 * polls cancel; what was measured until then counts. Not in modes OFF and STRICT.
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

/* ----------------------------------------------------------------- store */

/** File of the tuner when no path is given: $XDG_CACHE_HOME/trueno/tuner.trw if that is absolute,
 * else $HOME/.cache/trueno/tuner.trw. Ends with a NUL.
 *  @return OK; ERR_ARGUMENT (cap too small); ERR_NOT_FOUND (neither is set) */
TRUENO_API trueno_status trueno_tuner_cache_path(char *buf, size_t cap);

/** Merges with what the file holds by now and replaces it at once or not at all. Without a file:
 * OK, and nothing is written. @return OK; ERR_READ_ONLY; ERR_IO; ERR_VERSION (the file is of a
 * newer library, and stays); ERR_NO_MEMORY; ERR_BUSY. What t knows is not lost by a failure. */
TRUENO_API trueno_status trueno_tuner_save(trueno_tuner *t, trueno_error *err);

/** What reading the store at the start came to: OK also for no file. */
TRUENO_API trueno_status trueno_tuner_store_status(const trueno_tuner *t);

/** Formats of a store outside the tuner. */
typedef enum trueno_store_format {
    TRUENO_STORE_BINARY = 0,
    TRUENO_STORE_JSON = 1
} trueno_store_format;

/** All that t knows: of kernels, of the machine, and what its models learned. *len: bytes needed
 * (JSON: without a NUL, and none is written).
 *  @return OK; ERR_ARGUMENT (cap too small; *len is set); ERR_NO_MEMORY; ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_export(trueno_tuner *t, void *buf, size_t cap, size_t *len,
                                             trueno_store_format format, trueno_error *err);

/** Joins an export of either format, all of it or nothing.
 *  @return OK; ERR_TRUNCATED, ERR_FORMAT, ERR_VERSION, ERR_CORRUPT, ERR_TOO_LARGE (t is as before);
 * ERR_NO_MEMORY; ERR_BUSY; ERR_READ_ONLY (modes OFF and STRICT) */
TRUENO_API trueno_status trueno_tuner_import(trueno_tuner *t, const void *buf, size_t len,
                                             trueno_error *err);

/** Joins what another tuner knows. @return as trueno_tuner_import */
TRUENO_API trueno_status trueno_tuner_merge(trueno_tuner *t, trueno_tuner *other,
                                            trueno_error *err);

/** Forgets what was learned of kernels on this machine (not what models learned of runs); the
 * default runs again, and merging with an older store does not bring it back. @return OK; ERR_BUSY;
 * ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_tuner_forget(trueno_tuner *t, trueno_error *err);

/** Number that two tuners share if they know the same; 0: another call was running, or there was no
 * memory. */
TRUENO_API uint64_t trueno_tuner_digest(trueno_tuner *t);

/* ------------------------------------------------------------ statistics */

/** Counters since the tuner was made. */
typedef struct trueno_tuner_stats {
    size_t struct_size;
    uint64_t contexts;     /**< in the table */
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
} trueno_tuner_stats;

#define TRUENO_TUNER_STATS_INIT                                                                    \
    {                                                                                              \
        sizeof(trueno_tuner_stats), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                       \
    }

/** @return OK; ERR_ARGUMENT */
TRUENO_API trueno_status trueno_tuner_get_stats(const trueno_tuner *t, trueno_tuner_stats *out);

#ifdef __cplusplus
}
#endif
#endif
