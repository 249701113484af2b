/* SPDX-License-Identifier: MIT */
/* Where the parts of a packed panel and of a GGUF block are: shared by packing (x16_pack.c) and
 * taking out (x16.c), which share nothing else. */
#ifndef TR_X16_PANEL_H
#define TR_X16_PANEL_H

#include "x16.h"

/* What follows N4: nothing, H1 or H2; or B8 instead of N4. */
enum tr_quant_vectors { TR_N4, TR_N4_H1, TR_N4_H2, TR_B8 };

static inline enum tr_quant_vectors tr_vectors_of(trueno_dtype t)
{
    switch (t) {
    case TRUENO_TYPE_Q8_0: return TR_B8;
    case TRUENO_TYPE_Q5_0:
    case TRUENO_TYPE_Q5_1:
    case TRUENO_TYPE_Q5_K: return TR_N4_H1;
    case TRUENO_TYPE_Q6_K: return TR_N4_H2;
    default: return TR_N4;
    }
}

/* Bytes per 16 rows x 32 weights. */
static inline size_t tr_vector_bytes(trueno_dtype t)
{
    static const uint8_t count[] = {[TR_N4] = 4, [TR_N4_H1] = 5, [TR_N4_H2] = 6, [TR_B8] = 8};
    return (size_t)64 * count[tr_vectors_of(t)];
}

/* Where a block keeps its scales, in bytes from its start. */
struct tr_fields {
    uint8_t d, m;           /* f16 */
    uint8_t words, n_words; /* scales, in words of four bytes */
};

static inline struct tr_fields tr_fields_of(trueno_dtype t)
{
    switch (t) {
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K: return (struct tr_fields){0, 2, 4, 3};
    case TRUENO_TYPE_Q6_K: return (struct tr_fields){208, 0, 192, 4};
    default: return (struct tr_fields){0, 2, 0, 0};
    }
}

/* Sections of a panel. */
struct tr_panel {
    uint8_t *d, *m; /* f16 [block][16]; m NULL if the format has none */
    uint8_t *words; /* [word][row]; NULL if the format has none */
    uint8_t *quants;
};

/* Header and quants of a panel of nb 32-blocks, in bytes. */
static inline size_t tr_header_bytes(trueno_dtype t, size_t nb)
{
    switch (t) {
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K:
    case TRUENO_TYPE_Q6_K: return 256;
    case TRUENO_TYPE_Q4_1:
    case TRUENO_TYPE_Q5_1: return 2 * tr_x16_scale_bytes(nb);
    default: return tr_x16_scale_bytes(nb);
    }
}

static inline size_t tr_panel_bytes(trueno_dtype t, size_t nb)
{
    return tr_header_bytes(t, nb) + nb * tr_vector_bytes(t);
}

/* 32-blocks of panel p in a row of k columns. */
static inline size_t tr_panel_blocks(size_t k, size_t p)
{
    size_t left = (k - 256 * p) / 32;
    return left < 8 ? left : 8;
}

/* Panel p, of nb 32-blocks, in a group of k columns. */
static inline struct tr_panel tr_panel_at(uint8_t *group, trueno_dtype t, size_t k, size_t p,
                                          size_t nb)
{
    uint8_t *base = group + p * tr_panel_bytes(t, 8);
    struct tr_panel v = {base, NULL, NULL, NULL};

    if (t == TRUENO_TYPE_Q6_K) {
        base += tr_x16_scale_bytes(k / 256);
        v.d = group + 32 * p;
        v.words = base;
    } else if (t == TRUENO_TYPE_Q4_K || t == TRUENO_TYPE_Q5_K) {
        v.m = base + 32;
        v.words = base + 64;
    } else if (t == TRUENO_TYPE_Q4_1 || t == TRUENO_TYPE_Q5_1) {
        v.m = base + tr_x16_scale_bytes(nb);
    }
    v.quants = base + tr_header_bytes(t, nb);
    return v;
}

#endif
