/* SPDX-License-Identifier: MIT */
/* What the C reference kernels of the quantised formats share: quants taken out of their vectors
 * (x16.h), activations out of their words (act.h), and the integer dot. */
#ifndef TR_GEMM_REF_H
#define TR_GEMM_REF_H

#include <math.h>

#include "act.h"
#include "quant/half.h"
#include "tables.h"
#include "x16.h"

/* Quants of 16 rows x 32 weights. */
typedef uint8_t tr_quants[TR_ROWS][32];

/* N4: low nibbles of vector h are step h, high nibbles step h + 4. */
static inline void tr_ref_n4(tr_quants q, const uint8_t *v)
{
    for (size_t h = 0; h < 4; h++) {
        for (size_t b = 0; b < 64; b++) {
            q[b / 4][4 * h + b % 4] = v[64 * h + b] & 15;
            q[b / 4][4 * (h + 4) + b % 4] = v[64 * h + b] >> 4;
        }
    }
}

/* H1: bit s of a byte is bit 4 of step s. */
static inline void tr_ref_h1(tr_quants q, const uint8_t *v)
{
    for (size_t s = 0; s < 8; s++)
        for (size_t b = 0; b < 64; b++) q[b / 4][4 * s + b % 4] |= (uint8_t)((v[b] >> s & 1) << 4);
}

/* H2: bits 2i, 2i + 1 of a byte of vector g are bits 4 and 5 of step 4g + i. */
static inline void tr_ref_h2(tr_quants q, const uint8_t *v)
{
    for (size_t s = 0; s < 8; s++)
        for (size_t b = 0; b < 64; b++)
            q[b / 4][4 * s + b % 4] |= (uint8_t)((v[64 * (s / 4) + b] >> 2 * (s % 4) & 3) << 4);
}

/* B8: vector s is step s. */
static inline void tr_ref_b8(tr_quants q, const uint8_t *v)
{
    for (size_t s = 0; s < 8; s++)
        for (size_t b = 0; b < 64; b++) q[b / 4][4 * s + b % 4] = v[64 * s + b];
}

/* 32 activations of one column; `words` points to its first word, words are nt apart. */
static inline void tr_ref_acts(int8_t a[32], const int32_t *words, size_t nt)
{
    for (size_t s = 0; s < 8; s++) memcpy(a + 4 * s, &words[s * nt], 4);
}

static inline int32_t tr_ref_dot(const uint8_t *q, const int8_t *a, size_t n)
{
    int32_t sum = 0;
    for (size_t i = 0; i < n; i++) sum += q[i] * a[i];
    return sum;
}

/* f16 number i of a section of scales. */
static inline float tr_ref_half(const uint8_t *section, size_t i)
{
    uint16_t bits;
    memcpy(&bits, section + 2 * i, 2);
    return tr_f16_to_f32(bits);
}

/* One tile's results before they are written. */
typedef float tr_tile_sums[TR_NT_MAX][TR_ROWS];

static inline void tr_ref_store(float *out, size_t ldo, tr_tile_sums y, uint32_t nt)
{
    for (size_t c = 0; c < nt; c++) memcpy(out + c * ldo, y[c], sizeof y[c]);
}

#endif
