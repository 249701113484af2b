/* SPDX-License-Identifier: MIT */
/** @file brick.h
 *  The compute brick: one kernel of the registry applied to one product, with a budget of time and
 *  assertions that are executed.
 *
 *  A brick computes with its variant and no other: what was asked for and cannot run is an error,
 *  never replaced, and what the weights' own choice would have been does not matter. Variants that
 *  compete for a problem give the same bits, which trueno_brick_verify can prove on real data.
 *
 *      trueno_brick_config config = TRUENO_BRICK_CONFIG_INIT;
 *      config.kernel = choice.top_kernel;
 *      config.variant = choice.variant;
 *      config.problem = choice.problem;
 *      trueno_brick_new(ctx, &b, &config, &err);
 *      trueno_brick_assert_equiv(b, NULL, 0, &err);
 *      trueno_brick_verify(b, &report, &io, &err);
 *      trueno_brick_run(b, &result, &io, &err);
 *
 *  A token is a column: a vector that went through the weights, however many calls it took. A brick
 *  is used by one thread at a time.
 */
#ifndef TRUENO_BRICK_H
#define TRUENO_BRICK_H

#include "base.h"
#include "choice.h"
#include "features.h"
#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---------------------------------------------------------------- making */

/** What a brick is made for. */
typedef struct trueno_brick_config {
    size_t struct_size;
    trueno_kernel kernel;   /**< family that is to compute; Unknown: that of `variant`, which is
                               needed then */
    const char *variant;    /**< registry entry that is to compute; NULL: the first candidate of the
                               family, which is the context's own choice if that is of the family */
    trueno_problem problem; /**< the product */
    uint32_t batch_size;    /**< most columns of a run; 0: problem.n_cols. Families differ by
                               it */
    uint32_t threads;       /**< that compute; 0: problem.threads. Runs bring a pool of that
                               size, as their times count for that number */
    double budget_us_per_token; /**< microseconds that a column may take; 0: see the next one */
    double budget_tok_per_sec;  /**< columns per second that are needed; 0: see the one before. If
                                   both are 0 there is no budget; if both are given they must agree
                                   within 1 %, and the stricter one counts */
    bool enforce_budget;        /**< a run over the budget is an error */
    uint64_t (*clock_fn)(void *user); /**< nanoseconds that never go back; NULL: the system's
                                         monotonic clock. Called before and after the work of each
                                         run, on the caller's thread */
    void *clock_user;                 /**< passed to clock_fn */
} trueno_brick_config;

#define TRUENO_BRICK_CONFIG_INIT                                                                   \
    {                                                                                              \
        sizeof(trueno_brick_config), TRUENO_KERNEL_UNKNOWN, NULL, TRUENO_PROBLEM_INIT, 0, 0, 0, 0, \
            false, NULL, NULL                                                                      \
    }

/** A kernel made ready for a product. */
typedef struct trueno_brick trueno_brick;

/** Makes a brick; the caller owns *out. It holds memory for the packed activations of batch_size
 * columns (at most 512 at once), so that runs allocate nothing. `config` is not kept.
 *  @return OK; ERR_ARGUMENT: NULL, struct_size, the problem, a family outside the enum, a variant
 * that no build has, budgets that are negative, not finite, contradictory or missing though
 * enforced; ERR_UNSUPPORTED: the family or variant does not compute this problem on this machine in
 * this context, the message names what does; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_brick_new(trueno_ctx *ctx, trueno_brick **out,
                                          const trueno_brick_config *config, trueno_error *err);

/** Frees it; NULL is fine. */
TRUENO_API void trueno_brick_free(trueno_brick *b);

/** Registry entry that runs. Static storage; NULL for NULL. */
TRUENO_API const char *trueno_brick_variant(const trueno_brick *b);

/** Family that runs: of a pair the second where batch_size is four or more. Unknown for NULL. */
TRUENO_API trueno_kernel trueno_brick_kernel(const trueno_brick *b);

/* --------------------------------------------------------------- running */

/** What a run reads and writes: y[c][r] = sum over k of w[r][k] * x[c][k]. Nothing of it is kept.
 */
typedef struct trueno_brick_io {
    size_t struct_size;
    const trueno_matrix *weights; /**< of the problem's type, rows and cols */
    const float *x;               /**< n_cols vectors of `cols` floats */
    size_t ldx;                   /**< floats from one vector of x to the next; cols or more */
    float *y;                     /**< n_cols vectors of `rows` floats; not used by verify */
    size_t ldy;                   /**< floats from one vector of y to the next; rows or more */
    size_t n_cols;                /**< vectors, at most batch_size; 0: batch_size */
    trueno_pool *pool;            /**< of `threads` threads; NULL: the caller's alone */
} trueno_brick_io;

#define TRUENO_BRICK_IO_INIT                                                                       \
    {                                                                                              \
        sizeof(trueno_brick_io), NULL, NULL, 0, NULL, 0, 0, NULL                                   \
    }

/** What a run took. */
typedef struct trueno_brick_result {
    size_t struct_size;
    uint64_t ns;               /**< nanoseconds, packing of the activations included */
    uint64_t tokens;           /**< columns computed */
    double us_per_token;       /**< microseconds per column */
    double tokens_per_sec;     /**< columns per second; 0 if the clock did not move */
    bool budget_met;           /**< us_per_token is within the budget, or there is none */
    double budget_utilization; /**< us_per_token / budget: above 1 it is exceeded; 0: no budget */
} trueno_brick_result;

#define TRUENO_BRICK_RESULT_INIT                                                                   \
    {                                                                                              \
        sizeof(trueno_brick_result), 0, 0, 0, 0, false, 0                                          \
    }

/** Computes y and times it. The bits are those of trueno_matmul if the context is an exact one.
 *  `out` is reset on failure, but for ERR_BUDGET_EXCEEDED: then it is filled and y is written.
 *  @return OK; ERR_ARGUMENT: NULL, struct_size, weights of another type or shape, ldx, ldy, too
 * many columns, a pool of another size; ERR_BUDGET_EXCEEDED: only if the budget is enforced */
TRUENO_API trueno_status trueno_brick_run(trueno_brick *b, trueno_brick_result *out,
                                          const trueno_brick_io *io, trueno_error *err);

/** Sums over all runs since the brick was made, those over the budget included; verifying does not
 * count. */
typedef struct trueno_brick_profile {
    size_t struct_size;
    uint64_t runs;         /**< measured so far */
    uint64_t tokens;       /**< columns computed */
    uint64_t total_ns;     /**< nanoseconds of all runs */
    uint64_t min_ns;       /**< of the fastest run; 0: none */
    uint64_t max_ns;       /**< of the slowest run */
    double tokens_per_sec; /**< columns per second, not calls; 0 if the clock did not move */
    uint64_t weight_bytes; /**< bytes of packed weights read: all of them once for each run, or for
                              each 512 columns of a run */
    double gb_per_sec;     /**< 10^9 bytes of weights per second; 0 if the clock did not move */
} trueno_brick_profile;

#define TRUENO_BRICK_PROFILE_INIT                                                                  \
    {                                                                                              \
        sizeof(trueno_brick_profile), 0, 0, 0, 0, 0, 0, 0, 0                                       \
    }

/** Reads the sums. @return OK; ERR_ARGUMENT (NULL, struct_size) */
TRUENO_API trueno_status trueno_brick_stats(const trueno_brick *b, trueno_brick_profile *out,
                                            trueno_error *err);

/* -------------------------------------------------------------- asserting */

#define TRUENO_BRICK_MAX_ASSERTIONS 16  /**< of one brick */
#define TRUENO_BRICK_MESSAGE_MAX    256 /**< bytes of a report's message with its NUL */

/* Each adds one assertion, which trueno_brick_verify executes. All of them return ERR_TOO_LARGE
 * when there are TRUENO_BRICK_MAX_ASSERTIONS already. */

/** The product is that of another variant, with activations packed by the C reference. tol 0: bit
 * by bit. Else for all elements |a - b| <= tol * max |b|, b being the other variant's and finite; a
 * NaN on either side fails. baseline_variant NULL: the C reference.
 *  @return OK; ERR_ARGUMENT: NULL, tol negative or not finite, no variant of that name;
 * ERR_UNSUPPORTED: the variant does not run here or not on these weights; ERR_TOO_LARGE */
TRUENO_API trueno_status trueno_brick_assert_equiv(trueno_brick *b, const char *baseline_variant,
                                                   double tol, trueno_error *err);

/** All elements are within [lo, hi]; NaN is not. The ends may be infinite.
 *  @return OK; ERR_ARGUMENT: NULL, NaN, lo > hi; ERR_TOO_LARGE */
TRUENO_API trueno_status trueno_brick_assert_bounds(trueno_brick *b, double lo, double hi,
                                                    trueno_error *err);

/** No element is NaN or infinite.
 *  @return OK; ERR_ARGUMENT; ERR_TOO_LARGE */
TRUENO_API trueno_status trueno_brick_assert_finite(trueno_brick *b, trueno_error *err);

/** What a custom assertion looks at; valid during the call only. */
typedef struct trueno_brick_output {
    size_t struct_size;
    const float *y; /**< n_cols vectors of `rows` floats, `ldy` floats apart */
    size_t ldy;     /**< floats from one vector of y to the next */
    size_t rows;    /**< of the weights: floats of a vector of y */
    const float *x; /**< n_cols vectors of `cols` floats, `ldx` floats apart */
    size_t ldx;     /**< floats from one vector of x to the next */
    size_t cols;    /**< of the weights: floats of a vector of x */
    size_t n_cols;  /**< vectors */
} trueno_brick_output;

/** Returns whether the assertion holds. *row and *column may be set to the element of y at fault,
 * for the message. */
typedef bool (*trueno_brick_check_fn)(void *user, const trueno_brick_output *out, size_t *row,
                                      size_t *column);

/** What the application says must hold. `name`, of 1 to 47 bytes, is copied; `user` is passed to
 * fn and must live as long as b is verified.
 *  @return OK; ERR_ARGUMENT: NULL, name; ERR_TOO_LARGE */
TRUENO_API trueno_status trueno_brick_assert_custom(trueno_brick *b, const char *name,
                                                    trueno_brick_check_fn fn, void *user,
                                                    trueno_error *err);

/** What was found. */
typedef struct trueno_brick_report {
    size_t struct_size;
    uint32_t n_assertions; /**< executed */
    uint32_t n_failed;     /**< assertions that do not hold */
    uint32_t first_failed; /**< number of the first that failed, in the order they were added, from
                              0; n_assertions: none */
    char message[TRUENO_BRICK_MESSAGE_MAX]; /**< of the first that failed: the assertion, row and
                                               column, values; "" if all hold */
} trueno_brick_report;

#define TRUENO_BRICK_REPORT_INIT                                                                   \
    {                                                                                              \
        sizeof(trueno_brick_report), 0, 0, 0, ""                                                   \
    }

/** Computes the product anew, into memory of its own that holds no earlier result, and executes all
 * assertions on it, whether others failed or not. Reads weights, x, ldx, n_cols and pool of `io`;
 * its y may be NULL and is not written. `out` is reset on failure, but for ERR_ASSERTION: then it
 * is filled.
 *  @return OK: all hold; ERR_ASSERTION: one does not; ERR_ARGUMENT: as trueno_brick_run, or there
 * is no assertion; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_brick_verify(trueno_brick *b, trueno_brick_report *out,
                                             const trueno_brick_io *io, trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
