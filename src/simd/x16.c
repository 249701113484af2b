/* SPDX-License-Identifier: MIT */
/* Taking rows out of the X16 layout (x16.h) again, and its sizes.
 *
 * The way goes through eight words per row and 32 weights: word s holds the four quants of step s,
 * one a byte. That is where the element order of a GGUF block and that of a panel meet. */
#include "x16_panel.h"

#include <string.h>

#include "quant/quant.h"

static uint32_t load32(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

static void store32(uint8_t *p, uint32_t w)
{
    memcpy(p, &w, sizeof w);
}

/* Bit 0 of byte i (i < 4) to bit i. */
static uint32_t gather4(uint32_t w)
{
    return (w & 0x01010101U) * 0x01020408U >> 24 & 15U;
}

/* ---------------------------------------------- quants of a block, in GGUF order */

static void write_nibbles(uint8_t *qs, const uint32_t w[8])
{
    for (size_t s = 0; s < 4; s++)
        store32(qs + 4 * s, (w[s] & 0x0f0f0f0fU) | (w[s + 4] & 0x0f0f0f0fU) << 4);
}

static void write_qh(uint8_t *qh, const uint32_t w[8])
{
    uint32_t bits = 0;
    for (size_t s = 0; s < 8; s++) bits |= gather4(w[s] >> 4) << 4 * s;
    store32(qh, bits);
}

/* Adds bits `to`, `to` + 1, ... of 32 weights to a run of 32 bytes that hold them as `mask` <<
 * `shift`; the bytes begin as zero. */
static void write_bits(uint8_t *p, const uint32_t w[8], uint32_t mask, size_t shift, size_t to)
{
    for (size_t s = 0; s < 8; s++)
        store32(p + 4 * s, load32(p + 4 * s) | (w[s] >> to & mask) << shift);
}

#define BIT1 0x01010101U
#define BIT2 0x03030303U
#define BIT4 0x0f0f0f0fU

/* The 32 weights j of a block, j = 0 in the 32-formats, 0..7 in the K-quants. The block's quants
 * begin as zero bytes. */
static void write_quants(uint8_t *block, const uint32_t w[8], trueno_dtype t, size_t j)
{
    switch (t) {
    case TRUENO_TYPE_Q4_0: write_nibbles(block + 2, w); break;
    case TRUENO_TYPE_Q4_1: write_nibbles(block + 4, w); break;
    case TRUENO_TYPE_Q5_0:
        write_nibbles(block + 6, w);
        write_qh(block + 2, w);
        break;
    case TRUENO_TYPE_Q5_1:
        write_nibbles(block + 8, w);
        write_qh(block + 4, w);
        break;
    case TRUENO_TYPE_Q8_0:
        for (size_t s = 0; s < 8; s++) store32(block + 2 + 4 * s, w[s] ^ 0x80808080U);
        break;
    case TRUENO_TYPE_Q4_K: write_bits(block + 16 + 32 * (j / 2), w, BIT4, 4 * (j & 1), 0); break;
    case TRUENO_TYPE_Q5_K:
        write_bits(block + 48 + 32 * (j / 2), w, BIT4, 4 * (j & 1), 0);
        write_bits(block + 16, w, BIT1, j, 4);
        break;
    case TRUENO_TYPE_Q6_K:
        write_bits(block + 64 * (j / 4) + 32 * (j & 1), w, BIT4, 4 * (j / 2 & 1), 0);
        write_bits(block + 128 + 32 * (j / 4), w, BIT2, 2 * (j & 3), 4);
        break;
    default: break;
    }
}

/* ---------------------------------------------- quants of a lane, in vectors of 16 rows */

static void get_lane(uint32_t w[8], const uint8_t *v, trueno_dtype t)
{
    enum tr_quant_vectors kind = tr_vectors_of(t);
    if (kind == TR_B8) {
        for (size_t s = 0; s < 8; s++) w[s] = load32(v + 64 * s);
        return;
    }
    for (size_t h = 0; h < 4; h++) {
        uint32_t x = load32(v + 64 * h);
        w[h] = x & BIT4;
        w[h + 4] = x >> 4 & BIT4;
    }
    if (kind == TR_N4_H1) {
        for (size_t s = 0; s < 8; s++) w[s] |= (load32(v + 256) >> s & BIT1) << 4;
    } else if (kind == TR_N4_H2) {
        for (size_t s = 0; s < 8; s++)
            w[s] |= (load32(v + 256 + 64 * (s / 4)) >> 2 * (s % 4) & BIT2) << 4;
    }
}

/* ---------------------------------------------- rows of blocks */

static void unpack_block(uint8_t *block, const struct tr_panel *v, size_t b, size_t r,
                         trueno_dtype t)
{
    struct tr_fields f = tr_fields_of(t);
    size_t n_runs = f.n_words ? 8 : 1;
    uint32_t w[8];

    memset(block, 0, trueno_dtype_get_info(t)->block_bytes);
    memcpy(block + f.d, v->d + 32 * b + 2 * r, 2);
    if (v->m) memcpy(block + f.m, v->m + 32 * b + 2 * r, 2);
    for (size_t i = 0; i < f.n_words; i++)
        store32(block + f.words + 4 * i, load32(v->words + 64 * i + 4 * r));
    for (size_t j = 0; j < n_runs; j++) {
        get_lane(w, v->quants + (b + j) * tr_vector_bytes(t) + 4 * r, t);
        write_quants(block, w, t, j);
    }
}

static void unpack_blocks(uint8_t *row, const uint8_t *group, size_t r, trueno_dtype t, size_t k)
{
    size_t block_bytes = trueno_dtype_get_info(t)->block_bytes;
    for (size_t p = 0; 256 * p < k; p++) {
        size_t nb = tr_panel_blocks(k, p), n = tr_fields_of(t).n_words ? 1 : nb;
        /* read only: the cast serves the one description of a panel */
        struct tr_panel v = tr_panel_at((uint8_t *)group, t, k, p, nb);
        for (size_t b = 0; b < n; b++, row += block_bytes) unpack_block(row, &v, b, r, t);
    }
}

/* ---------------------------------------------- plain numbers */

/* Place of element i of row r in a group of 16-bit numbers. */
static size_t half_place(trueno_dtype t, size_t i, size_t r)
{
    if (t == TRUENO_TYPE_F16) return 32 * i + 2 * r;
    return 64 * (i / 2) + 4 * r + 2 * (i % 2);
}

/* ---------------------------------------------- the calls */

trueno_dtype tr_x16_type(trueno_dtype t)
{
    return t == TRUENO_TYPE_Q2_K || t == TRUENO_TYPE_Q3_K ? TRUENO_TYPE_F32 : t;
}

size_t tr_x16_group_bytes(trueno_dtype t, size_t k)
{
    switch (tr_x16_type(t)) {
    case TRUENO_TYPE_F32: return 64 * k;
    case TRUENO_TYPE_F16:
    case TRUENO_TYPE_BF16: return 32 * (k + k % 2);
    case TRUENO_TYPE_Q6_K: return tr_x16_scale_bytes(k / 256) + k / 256 * tr_panel_bytes(t, 8);
    default:
        return k / 256 * tr_panel_bytes(t, 8) + tr_panel_bytes(t, k % 256 / 32) * (k % 256 != 0);
    }
}

void tr_x16_unpack_row(void *row, const void *group, size_t r, trueno_dtype t, size_t k)
{
    uint8_t *out = row;
    const uint8_t *in = group;
    t = tr_x16_type(t);
    if (t == TRUENO_TYPE_F32) {
        for (size_t i = 0; i < k; i++) store32(out + 4 * i, load32(in + 64 * i + 4 * r));
    } else if (t == TRUENO_TYPE_F16 || t == TRUENO_TYPE_BF16) {
        for (size_t i = 0; i < k; i++) memcpy(out + 2 * i, in + half_place(t, i, r), 2);
    } else {
        unpack_blocks(out, in, r, t, k);
    }
}
