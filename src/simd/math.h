/* SPDX-License-Identifier: MIT */
/* Scalar float functions that every kernel agrees on, bit for bit. SIMD kernels repeat the same
 * operations in lanes. fmaf is one rounding everywhere; -ffp-contract=off keeps the rest apart. */
#ifndef TR_MATH_H
#define TR_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* exp(x), <= 1 ulp where the result is normal. x < -87.33654: 0 (results below the smallest normal
 * are flushed, in every kernel alike); x > 88.72283: +inf; NaN: NaN. Limits: vec_math.h.
 * x = n ln2 + r with n = rint(x / ln2), |r| <= ln2 / 2; ln2 in two parts (Cody & Waite 1980). */
float tr_expf(float x);

/* silu(x) = x / (1 + exp(-x)); gelu_tanh(x) = x / (1 + exp(-2u)), u = sqrt(2/pi) (x + 0.044715 x^3)
 * since 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2u)). -2u = x * fma(x * x, C3, C1). Of -inf: NaN. */
float tr_siluf(float x);
float tr_geluf(float x);

/* cap * tanh(x / cap), tanh(y) = 1 - 2 / (exp(2y) + 1). */
float tr_softcapf(float x, float cap);

#endif
