/* SPDX-License-Identifier: MIT */
/* Inside of the quant layer that other layers use: unchecked row conversion, packed scales. */
#ifndef TR_QUANT_H
#define TR_QUANT_H

#include "quant/blocks.h"
#include "quant/half.h"
#include "trueno/quantize.h"

/* Decodes n weights; no checks. The type has can_dequantize and n is a multiple of its block. */
void tr_dequantize_row(float *dst, const void *src, trueno_dtype type, size_t n);

/* Encodes n finite floats; no checks. The type has can_quantize and n is a multiple of its block.
 * False if a scale overflowed f16: `dst` is then unspecified. */
bool tr_quantize_row(void *dst, const float *src, trueno_dtype type, size_t n);

/* Scale and minimum (6 bits each) of the 32 weights j = 0..7 of a Q4_K or Q5_K block. */
static inline void tr_q4k_scale_min(int j, const uint8_t scales[12], uint8_t *sc, uint8_t *m)
{
    if (j < 4) {
        *sc = scales[j] & 63;
        *m = scales[j + 4] & 63;
    } else {
        *sc = (uint8_t)((scales[j + 4] & 15) | (scales[j - 4] >> 6) << 4);
        *m = (uint8_t)((scales[j + 4] >> 4) | (scales[j] >> 6) << 4);
    }
}

/* Scale of the 16 weights b = 0..15 of a Q3_K block, -32..31. */
static inline int tr_q3k_scale(int b, const uint8_t scales[12])
{
    int low = b < 8 ? scales[b] & 15 : scales[b - 8] >> 4;
    int high = scales[8 + b % 4] >> 2 * (b / 4) & 3;
    return (low | high << 4) - 32;
}

#endif
