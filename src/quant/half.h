/* SPDX-License-Identifier: MIT */
/* Half-precision numbers as their 16 bits: IEEE 754 binary16 (f16) and bfloat16 (bf16).
 *
 * Widening is exact; narrowing rounds to nearest, ties to even, and overflows to infinity. Integer
 * arithmetic only, so neither the host's rounding mode nor flush-to-zero matters, and the bits are
 * those of the F16C and FCVT instructions: a NaN keeps its sign and the top of its payload and
 * becomes quiet. (Widening bf16 is a shift and leaves a signalling NaN as it is.) */
#ifndef TR_HALF_H
#define TR_HALF_H

#include <stdint.h>
#include <string.h>

static inline float tr_float_from_bits(uint32_t bits)
{
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static inline uint32_t tr_bits_from_float(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return bits;
}

static inline float tr_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000U) << 16;
    uint32_t exponent = (h >> 10) & 31U;
    uint32_t mantissa = h & 0x3ffU;

    if (exponent == 31) {
        uint32_t quiet = mantissa ? 0x400000U : 0U;
        return tr_float_from_bits(sign | 0x7f800000U | quiet | mantissa << 13);
    }
    if (exponent == 0) { /* zero or subnormal: mantissa * 2^-24 */
        float magnitude = (float)mantissa * 0x1p-24F;
        return tr_float_from_bits(sign | tr_bits_from_float(magnitude));
    }
    return tr_float_from_bits(sign | (exponent + 112U) << 23 | mantissa << 13);
}

static inline uint16_t tr_f32_to_f16(float f)
{
    uint32_t bits = tr_bits_from_float(f);
    uint32_t sign = bits >> 16 & 0x8000U;
    uint32_t abs = bits & 0x7fffffffU;
    uint32_t out;

    if (abs > 0x7f800000U) {
        out = 0x7e00U | (abs >> 13 & 0x3ffU);
    } else if (abs >= 0x477ff000U) { /* 65520, halfway between 65504 and 65536, and above */
        out = 0x7c00U;
    } else if (abs >= 0x38800000U) { /* 2^-14: normal */
        abs += 0xfffU + (abs >> 13 & 1U);
        out = (abs - 0x38000000U) >> 13;
    } else if (abs > 0x33000000U) { /* above 2^-25: subnormal, in units of 2^-24 */
        uint32_t shift = 126U - (abs >> 23);
        uint32_t mantissa = (abs & 0x7fffffU) | 0x800000U;
        uint32_t rest = mantissa & ((1U << shift) - 1U);
        uint32_t half = 1U << (shift - 1U);
        out = mantissa >> shift;
        out += rest > half || (rest == half && (out & 1U));
    } else {
        out = 0;
    }
    return (uint16_t)(sign | out);
}

static inline float tr_bf16_to_f32(uint16_t h)
{
    return tr_float_from_bits((uint32_t)h << 16);
}

static inline uint16_t tr_f32_to_bf16(float f)
{
    uint32_t bits = tr_bits_from_float(f);
    if ((bits & 0x7fffffffU) > 0x7f800000U) return (uint16_t)(bits >> 16 | 0x40U);
    return (uint16_t)((bits + 0x7fffU + (bits >> 16 & 1U)) >> 16);
}

#endif
