/* SPDX-License-Identifier: MIT */
/* Packed activations: what gemm kernels read beside the weights.
 *
 * Up to 8 columns are one tile. More are cut into tiles of at most tr_tile_width columns, whose
 * widths differ by at most one. A tile of nt columns is one block of memory; column c0 of the whole
 * pack starts its tile at byte c0 * tr_act_col_bytes(). Within a tile the sections below follow one
 * another, each [n][nt] with the column index fastest, so that a kernel broadcasts from consecutive
 * memory.
 *
 *   F32:     f float[k]
 *   A8_256:  q int32[k/4]     four int8 of consecutive k, first in the low byte
 *            a float[k/256]   scale of 256 elements
 *            bs int32[k/64]   two int16: sums of 32 q each, first in the low half
 *            z16 int32[k/16]  -32 * sum of 16 q
 *   A8_32:   q int32[k/4]
 *            a float[k/32]    scale of 32 elements
 *            ns int32[k/32]   -(sum of 32 q)
 *            as float[k/32]   a * (float)(sum of 32 q)
 *
 * Quantisation (kernels.md section 2). A8_256: x* = first element of largest |x|; is = -127 / x*;
 * q = min(127, rint(is * x)); a = 1 / is. All zero: a = 0, q = 0. A8_32: amax = largest |x|;
 * a = amax / 127; q = rint(x * (127 / amax)); amax = 0: a = 0, q = 0. rint rounds to nearest even.
 * A group that holds NaN or infinity gets a = NaN and q = 0; F32 turns infinity into NaN. A group
 * so small that 127 / x* overflows (|x*| < 3.8e-37) counts as all zero.
 */
#ifndef TR_ACT_H
#define TR_ACT_H

#include "kernel.h"

#include <string.h>

/* Bytes of one column; k a multiple of 256 for A8_256, of 32 for A8_32. */
static inline size_t tr_act_col_bytes(enum tr_act act, size_t k)
{
    switch (act) {
    case TR_ACT_A8_256: return k + 4 * (k / 256 + k / 64 + k / 16);
    case TR_ACT_A8_32: return k + 12 * (k / 32);
    default: return 4 * k;
    }
}

/* Sections of one tile of nt columns. */
struct tr_a8_256 {
    const int32_t *q;
    const float *a;
    const int32_t *bs, *z16;
};
struct tr_a8_32 {
    const int32_t *q;
    const float *a;
    const int32_t *ns;
    const float *as;
};

static inline struct tr_a8_256 tr_a8_256_view(const void *tile, size_t k, size_t nt)
{
    struct tr_a8_256 v;
    v.q = (const int32_t *)tile;
    v.a = (const float *)(const void *)(v.q + k / 4 * nt);
    v.bs = (const int32_t *)(const void *)(v.a + k / 256 * nt);
    v.z16 = v.bs + k / 64 * nt;
    return v;
}

static inline struct tr_a8_32 tr_a8_32_view(const void *tile, size_t k, size_t nt)
{
    struct tr_a8_32 v;
    v.q = (const int32_t *)tile;
    v.a = (const float *)(const void *)(v.q + k / 4 * nt);
    v.ns = (const int32_t *)(const void *)(v.a + k / 32 * nt);
    v.as = (const float *)(const void *)(v.ns + k / 32 * nt);
    return v;
}

/* Tiles that m columns are cut into; width: tr_tile_width. */
static inline size_t tr_n_tiles(size_t m, uint32_t width)
{
    if (m <= TR_NT_MAX) return m > 0;
    return m / width + (m % width != 0);
}

/* First column of tile t when m columns are cut into n_tiles; tile t is [tr_tile(t), tr_tile(t+1)).
 */
static inline size_t tr_tile(size_t t, size_t m, size_t n_tiles)
{
    return t * (m / n_tiles) + (t < m % n_tiles ? t : m % n_tiles);
}

/* Moves `part`, a packed tile of nt columns of k elements, to element k0 of `tile`, which has
 * k_tile elements; k and k0 are multiples of the group. */
static inline void tr_act_put(enum tr_act act, void *tile, size_t k_tile, size_t k0,
                              const void *part, size_t k, size_t nt)
{
    static const struct {
        size_t n, per_word[4]; /* sections, and elements that a word of each stands for */
    } sections[TR_ACT_COUNT] = {[TR_ACT_F32] = {1, {1}},
                                [TR_ACT_A8_256] = {4, {4, 256, 64, 16}},
                                [TR_ACT_A8_32] = {4, {4, 32, 32, 32}}};
    uint32_t *to = (uint32_t *)tile;
    const uint32_t *from = (const uint32_t *)part;
    for (size_t i = 0; i < sections[act].n; i++) {
        size_t per = sections[act].per_word[i];
        memcpy(to + k0 / per * nt, from, k / per * nt * sizeof *to);
        to += k_tile / per * nt;
        from += k / per * nt;
    }
}

#endif
