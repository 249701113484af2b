/* SPDX-License-Identifier: MIT */
/* Where a position lies in a Q8_0 cache (layout: kernel.h), and the scale of a block. */
#ifndef TR_KV_Q8_0_H
#define TR_KV_Q8_0_H

#include "quant/half.h"

#include <stdbool.h>
#include <stddef.h>

/* Bytes of one block: 32 elements of 16 keys, or of one value. */
#define KEY_BLOCK_BYTES   (16 * (2 + 32))
#define VALUE_BLOCK_BYTES (2 + 32)

struct q8_0_position {
    uint8_t *k_panel; /* of its panel */
    uint8_t *v_row;
    size_t lane, n_blocks;
};

static inline struct q8_0_position q8_0_position(void *k_cache, void *v_cache, size_t pos,
                                                 size_t head_dim)
{
    struct q8_0_position at = {.lane = pos % 16, .n_blocks = head_dim / 32};
    at.k_panel = (uint8_t *)k_cache + pos / 16 * at.n_blocks * KEY_BLOCK_BYTES;
    at.v_row = (uint8_t *)v_cache + pos * at.n_blocks * VALUE_BLOCK_BYTES;
    return at;
}

static inline void q8_0_put_key(const struct q8_0_position *at, size_t block, const int8_t q[32],
                                uint16_t scale)
{
    uint8_t *to = at->k_panel + block * KEY_BLOCK_BYTES;
    memcpy(to + 2 * at->lane, &scale, sizeof scale);
    for (size_t i = 0; i < 32; i++) to[2 * 16 + 16 * i + at->lane] = (uint8_t)q[i];
}

static inline void q8_0_put_value(const struct q8_0_position *at, size_t block, const int8_t q[32],
                                  uint16_t scale)
{
    memcpy(at->v_row + 2 * block, &scale, sizeof scale);
    memcpy(at->v_row + 2 * at->n_blocks + 32 * block, q, 32);
}

/* Scale of a block by its largest magnitude, infinity if one of its elements is not finite; and
 * what to multiply its elements with, 0 if all become 0. */
static inline uint16_t q8_0_scale(float max, float *inverse)
{
    uint16_t half = tr_f32_to_f16(max / 127.0F);
    float scale = tr_f16_to_f32(half);
    bool finite = half < 0x7c00;
    *inverse = finite && half > 0 ? 1.0F / scale : 0.0F;
    return finite ? half : 0x7e00; /* NaN */
}

#endif
