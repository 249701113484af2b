/* SPDX-License-Identifier: MIT */
/* Orders of vpshufb that take bytes out of the dwords of scale words (x16.h). */
#ifndef TR_SPREAD_H
#define TR_SPREAD_H

#include <stdint.h>

/* In each dword its bytes a, b, c and d; zero for -1. */
#define SPREAD_BYTE(x, dword) ((x) < 0 ? -1 : (x) + 4 * (dword))
#define SPREAD_DWORD(a, b, c, d, i)                                                                \
    SPREAD_BYTE(a, i), SPREAD_BYTE(b, i), SPREAD_BYTE(c, i), SPREAD_BYTE(d, i)
#define SPREAD(a, b, c, d)                                                                         \
    {                                                                                              \
        SPREAD_DWORD(a, b, c, d, 0), SPREAD_DWORD(a, b, c, d, 1), SPREAD_DWORD(a, b, c, d, 2),     \
            SPREAD_DWORD(a, b, c, d, 3)                                                            \
    }

typedef int8_t tr_spread[16];

/* Byte i as a 32-bit number; as its top byte, to be shifted down with its sign. */
static const _Alignas(16) tr_spread tr_spread_u32[4] = {
    SPREAD(0, -1, -1, -1), SPREAD(1, -1, -1, -1), SPREAD(2, -1, -1, -1), SPREAD(3, -1, -1, -1)};
static const _Alignas(16) tr_spread tr_spread_top32[4] = {
    SPREAD(-1, -1, -1, 0), SPREAD(-1, -1, -1, 1), SPREAD(-1, -1, -1, 2), SPREAD(-1, -1, -1, 3)};
/* The same, twice, as 16-bit numbers. */
static const _Alignas(16) tr_spread tr_spread_u16[4] = {SPREAD(0, -1, 0, -1), SPREAD(1, -1, 1, -1),
                                                        SPREAD(2, -1, 2, -1), SPREAD(3, -1, 3, -1)};
static const _Alignas(16) tr_spread tr_spread_top16[4] = {
    SPREAD(-1, 0, -1, 0), SPREAD(-1, 1, -1, 1), SPREAD(-1, 2, -1, 2), SPREAD(-1, 3, -1, 3)};
/* Bytes 2i and 2i + 1 as two 16-bit numbers; as their top bytes. */
static const _Alignas(16) tr_spread tr_spread_pair[2] = {SPREAD(0, -1, 1, -1),
                                                         SPREAD(2, -1, 3, -1)};
static const _Alignas(16) tr_spread tr_spread_top_pair[2] = {SPREAD(-1, 0, -1, 1),
                                                             SPREAD(-1, 2, -1, 3)};

#endif
