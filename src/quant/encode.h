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

/* The f16 for a scale, which integers multiply. Where f16 has few bits left (below 2^-14) it is
 * rounded away from zero: a scale that is too small cuts off the largest weights, down to all of
 * them when it vanishes, and one that is too large only coarsens the steps. */
static inline bool tr_store_scale(uint16_t *out, float value)
{
    float magnitude = value < 0.0F ? -value : value;
    if (!tr_store_f16(out, value)) return false;
    if (magnitude < 0x1p-14F && tr_f16_to_f32(*out & 0x7fffU) < magnitude) (*out)++;
    return true;
}

#endif
