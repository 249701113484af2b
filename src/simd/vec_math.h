/* SPDX-License-Identifier: MIT */
/* Constants of the float functions of math.h: math.c and the lanes of vec_avx2.h and vec_avx512.h
 * evaluate the same operations in the same order, hence the same bits. */
#ifndef TR_VEC_MATH_H
#define TR_VEC_MATH_H

/* exp is a finite normal number exactly for LO <= x <= HI: below LO it is < 2^-126, above HI it is
 * >= 2^128. */
#define TR_EXP_LO (-0x1.5d589ep+6F)
#define TR_EXP_HI 0x1.62e42ep+6F

/* ln 2 = HI + LO; n * LN2_HI is a multiple of 2^-24, so x - n * LN2_HI is exact by fma. */
#define TR_EXP_LOG2E  0x1.715476p+0F
#define TR_EXP_LN2_HI 0x1.62e430p-1F
#define TR_EXP_LN2_LO (-0x1.05c610p-29F)

/* exp(r) = 1 + r + C2 r^2 + ... + C6 r^6, relative error < 5e-9 for |r| <= ln2 / 2 (minimax, the
 * coefficients rounded to float one after the other). */
#define TR_EXP_C2 0x1.000000p-1F
#define TR_EXP_C3 0x1.555466p-3F
#define TR_EXP_C4 0x1.5552fep-5F
#define TR_EXP_C5 0x1.12585ep-7F
#define TR_EXP_C6 0x1.6ffd6ep-10F

/* -2u = x (C3 x^2 + C1): C1 = -2 sqrt(2/pi), C3 = 0.044715 C1 */
#define TR_GELU_C1 (-0x1.988454p+0F)
#define TR_GELU_C3 (-0x1.2444f2p-4F)

#endif
