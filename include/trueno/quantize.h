/* SPDX-License-Identifier: MIT */
/** @file quantize.h
 *  Weight formats: their table of traits, and the reference conversion to and from float32.
 *
 *  A *row* is the contiguous dimension of a tensor. It is stored as rows of blocks; a block of
 * `block` weights takes `block_bytes` bytes and a row length must be a multiple of `block`. Layouts
 * and formulas: GGUF specification and docs/formats.md. Decoding is exact: it gives the float32
 * that the format's formula gives, bit for bit the same as ggml's. Encoding searches the scales;
 * its error is on the level of ggml's own reference quantiser.
 */
#ifndef TRUENO_QUANTIZE_H
#define TRUENO_QUANTIZE_H

#include "base.h"
#include "gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/** What is known of one tensor type. Static storage. */
typedef struct trueno_dtype_info {
    const char *name;     /**< as in GGUF tables: "Q4_K", "F16" */
    uint32_t block;       /**< weights per block, 1 for plain types */
    uint32_t block_bytes; /**< bytes per block */
    bool is_quantized;    /**< blocks carry scales */
    bool can_dequantize;  /**< trueno_dequantize works */
    bool can_quantize;    /**< trueno_quantize works */
    bool can_run;         /**< the model layer accepts it as a weight */
} trueno_dtype_info;

/** Traits of a type; NULL for a number that GGUF does not define (removed ones included). */
TRUENO_API const trueno_dtype_info *trueno_dtype_get_info(trueno_dtype type);

/** Type by name, without regard to case ("q4_k"). @return OK or ERR_NOT_FOUND */
TRUENO_API trueno_status trueno_dtype_from_name(trueno_dtype *out, const char *name);

/** Bytes of a row of `n` weights; 0 if the type is unknown, n is not a multiple of the block, or
 * the product wraps. */
TRUENO_API size_t trueno_row_bytes(trueno_dtype type, size_t n);

/** Decodes `n` weights from `src` (trueno_row_bytes(type, n) bytes, any alignment) into `dst[n]`.
 *  @return OK; ERR_ARGUMENT (NULL, no such type, n not a multiple of the block); ERR_UNSUPPORTED
 * (the type's can_dequantize is false) */
TRUENO_API trueno_status trueno_dequantize(float *dst, const void *src, trueno_dtype type,
                                           size_t n);

/** Encodes `n` floats into `dst` (trueno_row_bytes(type, n) bytes, any alignment). Deterministic,
 * no allocation. NaN and infinities in the input, and numbers too large for the type (a block's
 * scale is an f16, at most 65504), give ERR_NUMERIC and leave `dst` unspecified.
 *  @return OK; ERR_ARGUMENT; ERR_UNSUPPORTED; ERR_NUMERIC */
TRUENO_API trueno_status trueno_quantize(void *dst, const float *src, trueno_dtype type, size_t n);

/** Options of trueno_quantize_gguf. */
typedef struct trueno_quantize_options {
    size_t struct_size;
    uint32_t n_threads; /**< 0: trueno_cpu_count() */
    bool pure; /**< every matrix in exactly the type asked for (where its row length allows); false:
                  output and embedding of K-quants get Q6_K, as users of other tools expect */
    bool allow_requantize; /**< encode matrices that are quantised already; their error adds up.
                              false: one in another type than it would get is ERR_ARGUMENT */
} trueno_quantize_options;

#define TRUENO_QUANTIZE_OPTIONS_INIT                                                               \
    {                                                                                              \
        sizeof(trueno_quantize_options), 0, false, false                                           \
    }

/** Writes `in` to `out_path` with its matrices (two dimensions, more than one row) encoded as
 * `type`; all else is copied. A row length that is no multiple of 256 falls back: Q4_K to Q5_0,
 * Q5_K to Q5_1, Q6_K to Q8_0; one that is no multiple of 32 becomes F16. Reports progress and polls
 * cancel on the context of `in`. The file appears under its name only when it is complete; it is
 * always one file, whatever the shards of `in`. Metadata is copied but for keys that describe the
 * old layout; general.file_type is set to ggml's number for `type`. ERR_NUMERIC names the tensor
 * whose weights are not finite or too large.
 *  @return OK; ERR_ARGUMENT; ERR_IO; ERR_UNSUPPORTED; ERR_NO_MEMORY; ERR_CANCELLED; ERR_NUMERIC */
TRUENO_API trueno_status trueno_quantize_gguf(const trueno_gguf *in, const char *out_path,
                                              trueno_dtype type, const trueno_quantize_options *opt,
                                              trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
