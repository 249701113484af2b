/* SPDX-License-Identifier: MIT */
/* Scalar float functions: what the lanes of the SIMD kernels compute, written to be read. */
#include "math.h"

#include "quant/half.h"
#include "vec_math.h"

float tr_expf(float x)
{
    float n, r, p;

    if (x != x) return x + x; /* quiet, with its sign and payload, as the lanes give it */
    if (x < TR_EXP_LO) return 0.0F;
    if (x > TR_EXP_HI) return INFINITY;
    n = rintf(x * TR_EXP_LOG2E);
    r = fmaf(-n, TR_EXP_LN2_HI, x);
    r = fmaf(-n, TR_EXP_LN2_LO, r);
    p = fmaf(TR_EXP_C6, r, TR_EXP_C5);
    p = fmaf(p, r, TR_EXP_C4);
    p = fmaf(p, r, TR_EXP_C3);
    p = fmaf(p, r, TR_EXP_C2);
    p = fmaf(p, r, 1.0F);
    p = fmaf(p, r, 1.0F);
    /* p * 2^n, n in [-126, 128]: the result is normal, so adding to the exponent is exact */
    return tr_float_from_bits(tr_bits_from_float(p) + ((uint32_t)(int32_t)n << 23));
}

float tr_siluf(float x)
{
    return x / (1.0F + tr_expf(-x));
}

float tr_geluf(float x)
{
    float minus_2u = x * fmaf(x * x, TR_GELU_C3, TR_GELU_C1);
    return x / (1.0F + tr_expf(minus_2u));
}

float tr_softcapf(float x, float cap)
{
    float y = x / cap;
    float t = 1.0F - 2.0F / (tr_expf(y + y) + 1.0F);
    return cap * t;
}
