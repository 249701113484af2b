/* SPDX-License-Identifier: MIT */
/* The encoders, one per format. n is a multiple of the block and all floats are finite; false if a
 * value or a scale does not fit its stored type, and then `dst` is unspecified. */
#ifndef TR_ENCODE_H
#define TR_ENCODE_H

#include "quant/quant.h"

bool tr_encode_f32(void *dst, const float *src, size_t n);
bool tr_encode_f16(void *dst, const float *src, size_t n);
bool tr_encode_bf16(void *dst, const float *src, size_t n);
bool tr_encode_q4_0(void *dst, const float *src, size_t n);
bool tr_encode_q4_1(void *dst, const float *src, size_t n);
bool tr_encode_q5_0(void *dst, const float *src, size_t n);
bool tr_encode_q5_1(void *dst, const float *src, size_t n);
bool tr_encode_q8_0(void *dst, const float *src, size_t n);
bool tr_encode_q4_k(void *dst, const float *src, size_t n);
bool tr_encode_q5_k(void *dst, const float *src, size_t n);
bool tr_encode_q6_k(void *dst, const float *src, size_t n);

/* The f16 nearest to a number; false if that is an infinity or NaN. */
static inline bool tr_store_f16(uint16_t *out, float value)
{
    *out = tr_f32_to_f16(value);
    return (*out & 0x7c00U) != 0x7c00U;
}

#endif
