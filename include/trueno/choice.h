/* SPDX-License-Identifier: MIT */
/** @file choice.h
 *  What is chosen: a product to be computed and the kernel that is to compute it, or a pass over a
 * whole model and the number of threads that are to.
 *
 *  A *family* (trueno_kernel) says what kind of kernel it is; a *variant* is an entry of the
 *  registry (kernels.h) and is what runs. Variants that compete for a problem give the same bits.
 */
#ifndef TRUENO_CHOICE_H
#define TRUENO_CHOICE_H

#include "base.h"
#include "features.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What a problem is. Values are frozen. */
typedef enum trueno_problem_kind {
    TRUENO_PROBLEM_PRODUCT = 0, /**< one matrix product: a kernel is chosen */
    TRUENO_PROBLEM_PASS = 1     /**< all layers of a model once: a number of threads is chosen */
} trueno_problem_kind;

/** A product of packed weights [rows, cols] with n_cols vectors of `cols` floats; or a pass. */
typedef struct trueno_problem {
    size_t struct_size;
    trueno_dtype type;  /**< of the weights, as in the file; of a pass: that holds most bytes */
    uint32_t n_cols;    /**< vectors at once, M; 1 or more; of a pass: tokens */
    size_t rows;        /**< of the weights: outputs, N; of a pass: layers x width of the widest
                           feed-forward */
    size_t cols;        /**< of the weights: inputs, K; of a pass: width of the model */
    uint32_t threads;   /**< that compute together; 1 or more; of a pass: that may at most */
    trueno_phase phase; /**< decode or prefill */
    trueno_problem_kind kind; /**< product or pass */
} trueno_problem;

#define TRUENO_PROBLEM_INIT                                                                        \
    {                                                                                              \
        sizeof(trueno_problem), TRUENO_TYPE_Q4_K, 1, 0, 0, 1, TRUENO_PHASE_DECODE,                 \
            TRUENO_PROBLEM_PRODUCT                                                                 \
    }

/** A pass of n_tokens tokens over a model as its features say, with up to cpu_threads threads: what
 * trueno_tuner_begin_pass is asked with. The phase is decode up to 8 tokens, else prefill.
 *  @return OK; ERR_ARGUMENT: NULL, no tokens; ERR_INVALID_FEATURE: as trueno_features_validate, or
 * the geometry is unknown */
TRUENO_API trueno_status trueno_problem_of_pass(trueno_problem *out, const trueno_features *f,
                                                uint32_t n_tokens, trueno_error *err);

/** Number of the context that a problem belongs to: problems of one context share what was
 * measured. All fields count; n_cols by buckets (1 to 16 each for itself, then up to 24, 32, 48,
 * 64, 96, 128, 192, 256, 384, 512, 1024, and more). The same in every build and on every machine;
 * never 0. @return 0 if p is NULL or a field is out of range */
TRUENO_API uint64_t trueno_problem_context(const trueno_problem *p);

/** Who made a choice. Values are frozen. */
typedef enum trueno_choice_source {
    TRUENO_CHOICE_DEFAULT = 0,  /**< the static rule: nothing better is proven */
    TRUENO_CHOICE_RULES = 1,    /**< the classifier's rules by weight type and batch */
    TRUENO_CHOICE_FOREST = 2,   /**< a trained classifier */
    TRUENO_CHOICE_MEASURED = 3, /**< paired measurements on this machine and build */
    TRUENO_CHOICE_EXPLORING = 4 /**< a bandit that tries what it knows too little of */
} trueno_choice_source;

/** One kernel of several. */
typedef struct trueno_alternative {
    trueno_kernel kernel; /**< family */
    const char *variant;  /**< registry entry of that family that would run; static storage; NULL if
                             this build or machine has none */
    double confidence;    /**< probability that it is the best, or as good */
} trueno_alternative;

/** The kernel chosen for a problem. */
typedef struct trueno_kernel_choice {
    size_t struct_size;
    trueno_kernel top_kernel;    /**< family */
    const char *variant;         /**< registry entry; static storage; NULL: none on this machine */
    double confidence;           /**< probability that the family is the best, or as good; 0..1 */
    trueno_choice_source source; /**< who chose it */
    uint32_t n_alternatives;     /**< of them */
    trueno_alternative alternatives[4]; /**< other families, most probable first */
    trueno_problem problem;             /**< what it was chosen for */
    uint64_t context;                   /**< trueno_problem_context(&problem) */
    uint64_t ticket;                    /**< for trueno_tuner_observe; 0: nobody wants to know */
} trueno_kernel_choice;

#define TRUENO_KERNEL_CHOICE_INIT                                                                  \
    {                                                                                              \
        sizeof(trueno_kernel_choice), TRUENO_KERNEL_UNKNOWN, NULL, 0, TRUENO_CHOICE_DEFAULT, 0,    \
            {{TRUENO_KERNEL_UNKNOWN, NULL, 0}}, TRUENO_PROBLEM_INIT, 0, 0                          \
    }

#ifdef __cplusplus
}
#endif
#endif
