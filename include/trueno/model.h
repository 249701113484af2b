/* SPDX-License-Identifier: MIT */
/** @file model.h
 *  Models and sessions: load a GGUF file, evaluate tokens, read logits.
 *
 *  A `trueno_model` is immutable and may be shared by threads. A `trueno_session` holds a KV cache,
 * scratch memory and a thread pool; it belongs to one thread at a time, and two sessions of one
 * model may run at the same time. The model must outlive its sessions.
 *
 *  Logits depend on the tokens alone: the same bits for any number of threads, any split of the
 * prompt into calls and batches, and any kernel of the machine (docs/numerics.md).
 *
 *  Architectures: llama (Llama 1-3.x, Mistral, TinyLlama, SmolLM2), qwen2, qwen3, gemma3, phi3.
 */
#ifndef TRUENO_MODEL_H
#define TRUENO_MODEL_H

#include "base.h"
#include "gguf.h"
#include "tokenizer.h"
#include "tuner.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Weights of a model, bound and packed. */
typedef struct trueno_model trueno_model;
/** One sequence of tokens being evaluated: KV cache, scratch and threads. */
typedef struct trueno_session trueno_session;

/* ----------------------------------------------------------------- model */

/** Where a model's matrices are. Not a matter of results: logits have the same bits. */
typedef enum trueno_weights_mode {
    TRUENO_WEIGHTS_PACKED = 0, /**< copied into memory in the order in which the kernels read them:
                                  fastest; takes about as much memory as the file is large */
    TRUENO_WEIGHTS_MAPPED = 1  /**< left in the mapped file, packed piece by piece in every product
                                  that needs them: for machines whose memory is short, or that run
                                  the same file in several processes, which share its pages. Slower,
                                  mostly in generation; each thread of a session takes a few hundred
                                  KiB more. Needs a file that was opened with mapping, or a buffer,
                                  else ERR_ARGUMENT. The model keeps the file open, and a buffer
                                  must stay until the model is freed; the file must not be cut while
                                  the model lives: reading past its end is SIGBUS */
} trueno_weights_mode;

/** Options of trueno_model_load. Zero: the default in brackets. */
typedef struct trueno_model_options {
    size_t struct_size;
    uint32_t n_threads; /**< threads that pack weights [trueno_cpu_count()] */
    bool
        check_tensors; /**< search all weights for NaN and infinity: ERR_NUMERIC names the tensor */
    uint64_t
        max_memory_bytes; /**< refuse (ERR_TOO_LARGE) a model that needs more [physical memory] */
    trueno_weights_mode weights; /**< [TRUENO_WEIGHTS_PACKED] */
} trueno_model_options;

#define TRUENO_MODEL_OPTIONS_INIT                                                                  \
    {                                                                                              \
        sizeof(trueno_model_options), 0, false, 0, TRUENO_WEIGHTS_PACKED                           \
    }

/** Loads the weights of an open file into memory, packed for this machine (see
 * trueno_weights_mode). `g` may be freed afterwards. Reports progress "load" in bytes and polls
 * cancel. `opt` NULL: defaults. On success the caller owns `*out`.
 *  @return OK; ERR_ARGUMENT; ERR_IO; ERR_TRUNCATED; ERR_CORRUPT (a key or tensor contradicts the
 * architecture); ERR_NOT_FOUND (a key or tensor is missing); ERR_UNSUPPORTED (architecture, type,
 * feature); ERR_TOO_LARGE; ERR_NO_MEMORY; ERR_CANCELLED; ERR_NUMERIC */
TRUENO_API trueno_status trueno_model_load(trueno_model **out, const trueno_gguf *g,
                                           const trueno_model_options *opt, trueno_error *err);
TRUENO_API void trueno_model_free(trueno_model *m);

/** Facts about a loaded model. */
typedef struct trueno_model_info {
    size_t struct_size;
    char architecture[16];   /**< "llama", "qwen2", ... */
    char name[128];          /**< general.name, cut; "" if absent */
    char type[32];           /**< the format that holds most bytes, e.g. "Q4_K" */
    uint64_t n_params;       /**< weights in all tensors */
    uint64_t weight_bytes;   /**< bytes of all tensors in the file */
    uint64_t memory_bytes;   /**< bytes that the model holds */
    uint32_t n_vocab;        /**< tokens of the vocabulary: length of a row of logits */
    uint32_t n_ctx_train;    /**< context it was trained with */
    uint32_t n_embd;         /**< width of the residual stream */
    uint32_t n_layer;        /**< blocks */
    uint32_t n_head;         /**< query heads */
    uint32_t n_head_kv;      /**< key and value heads */
    uint32_t n_ff;           /**< width of the feed-forward layer */
    uint32_t head_dim;       /**< width of a head */
    uint32_t sliding_window; /**< 0: none */
    bool tied_embeddings;    /**< the output matrix is the embedding table */
} trueno_model_info;

#define TRUENO_MODEL_INFO_INIT                                                                     \
    {                                                                                              \
        sizeof(trueno_model_info), {0}, {0}, {0}, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, false        \
    }

/** @return OK; ERR_ARGUMENT */
TRUENO_API trueno_status trueno_model_get_info(const trueno_model *m, trueno_model_info *out);

/* --------------------------------------------------------------- session */

/** Type of the KV cache's numbers, as keys and values are rounded when they are stored. A property
 * of the session: it changes the logits slightly. A position takes, in all layers and heads
 * together, 2 * n_layer * n_head_kv * head_dim numbers of this size. */
typedef enum trueno_kv_type {
    TRUENO_KV_F16 = 0,  /**< 2 bytes, relative rounding error up to 2^-11, range to 65504 */
    TRUENO_KV_F32 = 1,  /**< 4 bytes, exact */
    TRUENO_KV_BF16 = 2, /**< 2 bytes, relative rounding error up to 2^-8, range of float */
    TRUENO_KV_Q8_0 = 3 /**< 34 bytes for 32: each 32 share a scale, error up to 1/254 of the largest
                          of them; heads of a multiple of 32 elements only (else ERR_ARGUMENT) */
} trueno_kv_type;

/** Options of trueno_session_new. Zero: the default in brackets. */
typedef struct trueno_session_options {
    size_t struct_size;
    uint32_t n_ctx; /**< most tokens the session holds [the smaller of the model's training context
                       and 4096] */
    uint32_t n_batch;   /**< prompt tokens evaluated together [512]; changes speed and memory, not
                           logits */
    uint32_t n_threads; /**< [trueno_cpu_count()] */
    uint32_t n_logits; /**< most logits rows that one eval may ask for [1]; see TRUENO_LOGITS_ALL */
    trueno_kv_type kv_type; /**< [TRUENO_KV_F16] */
    uint64_t
        max_memory_bytes; /**< refuse (ERR_TOO_LARGE) a session that needs more [physical memory] */
    trueno_tuner *tuner;  /**< chooses the kernels of products, and in mode LEARN is told what they
                             take; of the model's context, and outlives the session; several sessions
                             may share it; changes speed, not logits; in mode STRICT an eval that
                            needs a choice which the store lacks is ERR_STRICT_MISS [each product's
                            default] */
    bool profile;         /**< keep the times of stages for trueno_session_profile [false] */
} trueno_session_options;

#define TRUENO_SESSION_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(trueno_session_options), 0, 0, 0, 0, TRUENO_KV_F16, 0, NULL, false                  \
    }

/** Makes a session. All its memory is allocated here; evaluating allocates nothing.
 *  @return OK; ERR_ARGUMENT; ERR_TOO_LARGE; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_session_new(trueno_session **out, const trueno_model *m,
                                            const trueno_session_options *opt, trueno_error *err);
TRUENO_API void trueno_session_free(trueno_session *s);

/** Which positions of an eval get logits. */
typedef enum trueno_logits_mode {
    TRUENO_LOGITS_LAST = 0, /**< the last token's */
    TRUENO_LOGITS_NONE = 1, /**< nobody's: cheaper for the front part of a long prompt */
    TRUENO_LOGITS_ALL = 2   /**< every token's: n_tokens is then at most the session's n_logits */
} trueno_logits_mode;

/** Evaluates `n_tokens` tokens after those already in the session. On any failure the session is as
 * before the call, except that the logits of earlier calls are gone.
 *  @return OK; ERR_ARGUMENT (id outside the vocabulary, n_tokens 0 or beyond the context, ALL above
 * n_batch); ERR_CANCELLED; ERR_BUSY (from a callback of this very session); ERR_STRICT_MISS (option
 * tuner) */
TRUENO_API trueno_status trueno_session_eval(trueno_session *s, const trueno_token *tokens,
                                             size_t n_tokens, trueno_logits_mode mode);

/** Logits [n_vocab] of the last eval: `index` 0..n_tokens-1 in mode ALL, -1 (or n_tokens-1) for the
 * last token. NULL if they were not asked for. Owned by the session, valid until its next eval. */
TRUENO_API const float *trueno_session_logits(const trueno_session *s, ptrdiff_t index);

/** Tokens in the session now. */
TRUENO_API uint32_t trueno_session_n_past(const trueno_session *s);
/** The most tokens it can hold. */
TRUENO_API uint32_t trueno_session_n_ctx(const trueno_session *s);

/** Forgets all tokens from position `n_past` on (0: all). @return OK; ERR_ARGUMENT (beyond the
 * current position) */
TRUENO_API trueno_status trueno_session_rewind(trueno_session *s, uint32_t n_past);

/** Message of the last failed call on this session; "" if none. Owned by the session. */
TRUENO_API const char *trueno_session_last_error(const trueno_session *s);

/** Bytes that the session holds, thread stacks excepted. */
TRUENO_API uint64_t trueno_session_memory_bytes(const trueno_session *s);

/* --------------------------------------------------------------- profile */

/** One stage of the layers: what happens between two meetings of all threads. */
typedef struct trueno_stage_profile {
    const char *name; /**< "qkv", "attention", "attn_out", "gate_up", "down", "output" */
    uint64_t calls;   /**< layers passed (output: passes) */
    uint64_t ns;      /**< all of them together, waiting included */
} trueno_stage_profile;

/** Stages of a profile. */
#define TRUENO_STAGE_COUNT 6

/** Where the time of a session goes; in the order of a layer. */
typedef struct trueno_profile {
    size_t struct_size;
    uint64_t passes;         /**< of up to n_batch tokens */
    uint64_t tokens;         /**< evaluated in them, prompts included */
    uint64_t decoded_tokens; /**< of passes of one token */
    uint64_t decode_ns;      /**< that these passes took */
    double decode_tps;       /**< decoded tokens per second; 0: none */
    trueno_stage_profile
        stages[TRUENO_STAGE_COUNT]; /**< qkv, attention, attn_out, gate_up, down, output */
} trueno_profile;

#define TRUENO_PROFILE_INIT                                                                        \
    {                                                                                              \
        sizeof(trueno_profile), 0, 0, 0, 0, 0,                                                     \
        {                                                                                          \
            {                                                                                      \
                NULL, 0, 0                                                                         \
            }                                                                                      \
        }                                                                                          \
    }

/** What the session's evaluations took so far.
 *  @return OK; ERR_ARGUMENT; ERR_NOT_MEASURED (the session was made without `profile`) */
TRUENO_API trueno_status trueno_session_profile(const trueno_session *s, trueno_profile *out);

/* -------------------------------------------------------------- estimate */

/** Memory plan of a model and one session, in bytes; exactly what load and session_new then
 * allocate. */
typedef struct trueno_estimate {
    size_t struct_size;
    uint64_t weights_bytes; /**< trueno_model_info.memory_bytes */
    uint64_t kv_bytes;      /**< KV cache */
    uint64_t compute_bytes; /**< all else of the session: activations, logits, scratch */
    uint64_t total_bytes;   /**< sum of these */
} trueno_estimate;

#define TRUENO_ESTIMATE_INIT                                                                       \
    {                                                                                              \
        sizeof(trueno_estimate), 0, 0, 0, 0                                                        \
    }

/** Plans without reading or allocating weights: `g` may be opened metadata_only. `opt` NULL: a
 *  default session.
 *  @return as trueno_model_load and trueno_session_new, without their limits on memory */
TRUENO_API trueno_status trueno_model_estimate(trueno_estimate *out, const trueno_gguf *g,
                                               const trueno_session_options *opt,
                                               trueno_error *err);

/** The same for a model that will be loaded with the options `model_opt` (NULL: defaults), of which
 * only `weights` counts. */
TRUENO_API trueno_status trueno_model_estimate_with(trueno_estimate *out, const trueno_gguf *g,
                                                    const trueno_model_options *model_opt,
                                                    const trueno_session_options *opt,
                                                    trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
