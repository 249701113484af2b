/* SPDX-License-Identifier: MIT */
/* X16: the packed layout of weights. 16 rows are interleaved so that each row has a lane of its
 * own: no horizontal sums, exact integers, and the bytes per weight of the GGUF format.
 *
 * A row group is 16 rows; missing rows of the last group have zero scales and zero quants. A panel
 * is 16 rows x 256 k; the panels of a group follow one another along k, the groups one another
 * along rows. Rows of the 32-block formats may end in a short panel of nb < 8 blocks. All sections
 * are multiples of 64 bytes (headers of short panels are rounded up).
 *
 * Step s is elements 4s .. 4s+3 of a 32-block. A vector is 64 bytes = 16 rows x 4 bytes: dword r
 * belongs to row r. Per 32 k there are steps 0..7:
 *   N4  4 vectors; vector h: low nibbles = step h, high nibbles = step h + 4
 *   H1  1 vector; bit s of a byte = bit 4 of step s's element
 *   H2  2 vectors; vector g, bits 2i, 2i+1 of a byte = bits 4-5 of step 4g + i
 *   B8  8 vectors; vector s = step s, stored as w + 128
 *
 *   Q4_K  d f16[16], dmin f16[16], 3 vectors of scale words (dword r of vector i = scales[4i ..
 *         4i+3] of row r, still packed in 6 bits), 8 x N4
 *   Q5_K  the same with 8 x (N4, H1)
 *   Q6_K  group: d f16[k/256][16], padded to 64 bytes; panel: 4 vectors of scale words (four int8
 *         a row), 8 x (N4, H2)
 *   Q4_0  d f16[nb][16], padded to 64; nb x N4          Q5_0: nb x (N4, H1)
 *   Q4_1  d f16[nb][16], m f16[nb][16], each padded to 64; nb x N4   Q5_1: nb x (N4, H1)
 *   Q8_0  d f16[nb][16], padded to 64; nb x B8
 *   F32 [k][16], F16 [k][16] (k padded to even, zeros), BF16 [k/2][16][2] (k padded to even, zeros)
 * Q2_K and Q3_K have no kernels of their own: they are expanded to F32 when packed. */
#ifndef TR_X16_H
#define TR_X16_H

#include "trueno/gguf.h"

#define TR_ROWS 16

/* Bytes of f16 [n][16], padded to 64: a section of scales. */
static inline size_t tr_x16_scale_bytes(size_t n)
{
    return (2 * TR_ROWS * n + 63) / 64 * 64;
}

/* The type whose kernels run a weight of type t: t, or F32 for Q2_K and Q3_K. */
trueno_dtype tr_x16_type(trueno_dtype t);

/* Bytes of a row group of k columns, a multiple of 64. k is a multiple of the block of t. */
size_t tr_x16_group_bytes(trueno_dtype t, size_t k);

/* Packs n_rows <= 16 GGUF block rows, row_bytes apart, into one group. */
void tr_x16_pack(void *group, const void *rows, size_t row_bytes, size_t n_rows, trueno_dtype t,
                 size_t k);

/* Takes row r of a group out again: GGUF block row of tr_x16_type(t), byte-equal to what was packed
 * (of F32 for Q2_K and Q3_K). */
void tr_x16_unpack_row(void *row, const void *group, size_t r, trueno_dtype t, size_t k);

#endif
