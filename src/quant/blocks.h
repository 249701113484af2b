/* SPDX-License-Identifier: MIT */
/* Blocks as they lie in GGUF files: packed, little-endian, at any alignment. Scales `d`, `m`, `s`
 * and `dmin` are the bits of f16 numbers unless said (half.h). Formulas: docs/formats.md.
 *
 * A pointer to one of these structs may come from any byte address; take no pointer to a field
 * that is wider than a byte. */
#ifndef TR_BLOCKS_H
#define TR_BLOCKS_H

#include <stdint.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "blocks are read as they lie in the file: little-endian hosts only"
#endif

#define TR_PACKED __attribute__((packed))

#define TR_QK  32  /* weights per block of Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q8_1 */
#define TR_QKK 256 /* weights per block of the K-quants */

/* Weight e < 16 is the low nibble of qs[e], weight e >= 16 the high nibble of qs[e - 16]. */
struct TR_PACKED tr_block_q4_0 { /* d * (q - 8) */
    uint16_t d;
    uint8_t qs[TR_QK / 2];
};

struct TR_PACKED tr_block_q4_1 { /* d * q + m */
    uint16_t d;
    uint16_t m;
    uint8_t qs[TR_QK / 2];
};

struct TR_PACKED tr_block_q5_0 { /* d * (q - 16) */
    uint16_t d;
    uint32_t qh; /* bit e is bit 4 of weight e */
    uint8_t qs[TR_QK / 2];
};

struct TR_PACKED tr_block_q5_1 { /* d * q + m */
    uint16_t d;
    uint16_t m;
    uint32_t qh;
    uint8_t qs[TR_QK / 2];
};

struct TR_PACKED tr_block_q8_0 { /* d * q */
    uint16_t d;
    int8_t qs[TR_QK];
};

struct TR_PACKED tr_block_q8_1 { /* d * q; activations only */
    uint16_t d;
    uint16_t s; /* d * sum of q */
    int8_t qs[TR_QK];
};

struct TR_PACKED tr_block_q2_k { /* d * (sc & 15) * q - dmin * (sc >> 4), sc = scales[e / 16] */
    uint8_t scales[TR_QKK / 16]; /* 4 bits of scale, 4 bits of minimum */
    uint8_t qs[TR_QKK / 4];      /* weight 128n + 32k + l: bits 2k, 2k+1 of qs[32n + l] */
    uint16_t d;
    uint16_t dmin;
};

struct TR_PACKED tr_block_q3_k { /* d * (sc - 32) * (q - 4), sc of 16 weights */
    uint8_t hmask[TR_QKK / 8];   /* weight 128n + 32k + l: bit 2 is bit 4n + k of hmask[l] */
    uint8_t qs[TR_QKK / 4];      /* bits 0 and 1, as in Q2_K */
    uint8_t scales[12];          /* sixteen of 6 bits: tr_q3k_scale */
    uint16_t d;
};

struct TR_PACKED tr_block_q4_k { /* (d * sc) * q - dmin * m, sc and m of 32 weights */
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];     /* eight pairs of 6 bits: tr_q4k_scale_min */
    uint8_t qs[TR_QKK / 2]; /* weight 64c + l: low nibble of qs[32c + l]; 64c + 32 + l: high */
};

struct TR_PACKED tr_block_q5_k { /* as Q4_K with 5 bits */
    uint16_t d;
    uint16_t dmin;
    uint8_t scales[12];
    uint8_t qh[TR_QKK / 8]; /* weight 32j + l: bit 4 is bit j of qh[l] */
    uint8_t qs[TR_QKK / 2];
};

struct TR_PACKED tr_block_q6_k { /* (d * sc) * (q - 32), sc = scales[e / 16] */
    uint8_t ql[TR_QKK / 2]; /* weight 128n + 32k + l: ql[64n + 32(k & 1) + l], k < 2 low nibble */
    uint8_t qh[TR_QKK / 4]; /* bits 4 and 5: bits 2k, 2k+1 of qh[32n + l] */
    int8_t scales[TR_QKK / 16];
    uint16_t d;
};

struct TR_PACKED tr_block_q8_k { /* d * q; activations only */
    float d;
    int8_t qs[TR_QKK];
    int16_t bsums[TR_QKK / 16]; /* sums of 16 q */
};

_Static_assert(sizeof(struct tr_block_q4_0) == 18, "Q4_0");
_Static_assert(sizeof(struct tr_block_q4_1) == 20, "Q4_1");
_Static_assert(sizeof(struct tr_block_q5_0) == 22, "Q5_0");
_Static_assert(sizeof(struct tr_block_q5_1) == 24, "Q5_1");
_Static_assert(sizeof(struct tr_block_q8_0) == 34, "Q8_0");
_Static_assert(sizeof(struct tr_block_q8_1) == 36, "Q8_1");
_Static_assert(sizeof(struct tr_block_q2_k) == 84, "Q2_K");
_Static_assert(sizeof(struct tr_block_q3_k) == 110, "Q3_K");
_Static_assert(sizeof(struct tr_block_q4_k) == 144, "Q4_K");
_Static_assert(sizeof(struct tr_block_q5_k) == 176, "Q5_K");
_Static_assert(sizeof(struct tr_block_q6_k) == 210, "Q6_K");
_Static_assert(sizeof(struct tr_block_q8_k) == 292, "Q8_K");

#endif
