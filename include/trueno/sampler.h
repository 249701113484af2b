/* SPDX-License-Identifier: MIT */
/** @file sampler.h
 *  Choosing the next token from logits.
 *
 *  Fixed order of stages: repetition, frequency and presence penalty, top-k, top-p, min-p,
 * temperature, draw. A stage at its "off" value is skipped. temperature 0 is greedy: the largest
 * logit, ties to the lower id; the penalties still apply. A seed gives the same tokens everywhere:
 * the generator is PCG32 (O'Neill 2014, XSH-RR, stream 1) and exactly one draw is made per sampled
 * token when temperature > 0. Sums are taken in double in a fixed order; the draw goes through the
 * candidates in falling order of logits.
 *
 *  A sampler belongs to one thread at a time.
 */
#ifndef TRUENO_SAMPLER_H
#define TRUENO_SAMPLER_H

#include "base.h"
#include "tokenizer.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Options, generator state and history of one sequence. */
typedef struct trueno_sampler trueno_sampler;

/** Options of a sampler; every field has an "off" value. All floats must be finite, repeat_penalty
 * above 0. */
typedef struct trueno_sampler_options {
    size_t struct_size;
    float temperature; /**< logits / temperature; <= 0: greedy. [0.8] */
    int32_t top_k;     /**< keep the k largest; <= 0: off. [40] */
    float top_p;       /**< keep the fewest tokens whose probability reaches p; >= 1: off. [0.95] */
    float min_p;       /**< keep p_i >= min_p * p_max; <= 0: off. [0.05] */
    float repeat_penalty;    /**< logit > 0 ? logit/r : logit*r for tokens seen; 1: off. [1] */
    float frequency_penalty; /**< logit -= f * times seen; 0: off. [0] */
    float presence_penalty;  /**< logit -= p if seen; 0: off. [0] */
    int32_t penalty_last_n;  /**< how far back "seen" looks; 0: off, at most 65536. [64] */
    uint64_t seed;           /**< of the generator. [0] */
} trueno_sampler_options;

#define TRUENO_SAMPLER_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(trueno_sampler_options), 0.8F, 40, 0.95F, 0.05F, 1.0F, 0.0F, 0.0F, 64, 0            \
    }

/** One candidate: what sampling works on. `logit` is after the penalties and before the
 * temperature, `p` after all stages. */
typedef struct trueno_candidate {
    trueno_token id; /**< token */
    float logit;     /**< after the penalties */
    float p;         /**< probability */
} trueno_candidate;

/** `n_vocab`: logits per call, the same for the sampler's life. `opt` NULL: defaults. On success
 * the caller owns `*out`.
 *  @return OK; ERR_ARGUMENT (NaN, out of range: the message names the field); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_sampler_new(trueno_ctx *ctx, trueno_sampler **out, uint32_t n_vocab,
                                            const trueno_sampler_options *opt, trueno_error *err);
TRUENO_API void trueno_sampler_free(trueno_sampler *s);

/** Chooses a token from `logits[n_vocab]` (not changed) and takes it into the history (as
 * trueno_sampler_accept).
 *  @return OK; ERR_ARGUMENT; ERR_NUMERIC (NaN or +infinity among the logits, or all -infinity:
 * nothing changed) */
TRUENO_API trueno_status trueno_sampler_sample(trueno_sampler *s, trueno_token *out,
                                               const float *logits);

/** Runs the stages without a draw: the surviving candidates in falling order of probability (ties:
 * lower id first), `p` summing to 1. Greedy gives one. `*out` is owned by the sampler and valid
 * until the next call on it. */
TRUENO_API trueno_status trueno_sampler_distribution(trueno_sampler *s,
                                                     const trueno_candidate **out, size_t *n,
                                                     const float *logits);

/** Takes a token that was not sampled here (a prompt's) into the history. @return OK; ERR_ARGUMENT
 */
TRUENO_API trueno_status trueno_sampler_accept(trueno_sampler *s, trueno_token id);

/** Forgets the history and reseeds. */
TRUENO_API void trueno_sampler_reset(trueno_sampler *s);

/** A copy with history and generator state. @return OK; ERR_ARGUMENT; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_sampler_clone(const trueno_sampler *s, trueno_sampler **out);

#ifdef __cplusplus
}
#endif
#endif
