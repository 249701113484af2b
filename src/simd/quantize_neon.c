/* SPDX-License-Identifier: MIT */
/* Activation packing for NEON: the rules of act.h, one column at a time, 16 elements to a vector of
 * bytes. Same bits as quantize_ref.c.
 *
 * Magnitudes are compared as integers: the bits of |x| grow with |x|, infinity and NaN above all.
 */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include <arm_neon.h>
#include <math.h>

#include "act.h"
#include "quant/half.h"
#include "tables.h"

#define INFINITY_BITS 0x7f800000U

static inline uint32x4_t magnitude_bits(const float *x)
{
    return vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(x)));
}

/* Bits of the largest |x| of n elements, n a multiple of 32. */
static inline uint32_t largest_bits(const float *x, size_t n)
{
    uint32x4_t a = vdupq_n_u32(0), b = a;
    for (size_t i = 0; i < n; i += 8) {
        a = vmaxq_u32(a, magnitude_bits(x + i));
        b = vmaxq_u32(b, magnitude_bits(x + i + 4));
    }
    return vmaxvq_u32(vmaxq_u32(a, b));
}

/* The first of 256 elements whose magnitude has these bits. */
static float first_with(const float *x, uint32_t bits)
{
    const uint32x4_t wanted = vdupq_n_u32(bits);
    for (size_t i = 0; i < 256; i += 4) {
        uint32x4_t equal = vceqq_u32(magnitude_bits(x + i), wanted);
        if (!vmaxvq_u32(equal)) continue;
        while (tr_bits_from_float(fabsf(x[i])) != bits) i++;
        return x[i];
    }
    return NAN;
}

/* rint(scale * x) of 16 elements as bytes. Products do not exceed 127 by a half. */
static inline int8x16_t round_16(const float *x, float scale)
{
    int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x), scale));
    int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 4), scale));
    int32x4_t c = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 8), scale));
    int32x4_t d = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(x + 12), scale));
    int16x8_t low = vqmovn_high_s32(vqmovn_s32(a), b), high = vqmovn_high_s32(vqmovn_s32(c), d);
    return vqmovn_high_s16(vqmovn_s16(low), high);
}

/* Four words, nt apart. */
static inline void put_words(int32_t *dst, size_t nt, int32x4_t words)
{
    if (nt == 1) {
        vst1q_s32(dst, words);
        return;
    }
    vst1q_lane_s32(dst, words, 0);
    vst1q_lane_s32(dst + nt, words, 1);
    vst1q_lane_s32(dst + 2 * nt, words, 2);
    vst1q_lane_s32(dst + 3 * nt, words, 3);
}

/* ---------------------------------------------------------------- A8_256 */

/* Multiplier, and the scale that belongs to it. */
static float multiplier_256(float *scale, const float *x)
{
    uint32_t bits = largest_bits(x, 256);
    *scale = bits >= INFINITY_BITS ? NAN : 0.0F;
    if (bits >= INFINITY_BITS || bits == 0) return 0.0F;
    float inverse = -127.0F / first_with(x, bits);
    if (!isfinite(inverse)) return 0.0F;
    *scale = 1.0F / inverse;
    return inverse;
}

static void quantize_a8_256_neon(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_256 v = tr_a8_256_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_bs = (int32_t *)v.bs, *out_z16 = (int32_t *)v.z16;
    float *out_a = (float *)v.a;

    for (size_t c = 0; c < nt; c++) {
        for (size_t b = 0; b < k / 256; b++) {
            const float *group = x + c * ldx + 256 * b;
            float multiplier = multiplier_256(&out_a[b * nt + c], group);
            int32_t s[16]; /* sums of 16 */
            for (size_t i = 0; i < 16; i++) {
                int8x16_t q =
                    multiplier != 0 ? round_16(group + 16 * i, multiplier) : vdupq_n_s8(0);
                put_words(out_q + (64 * b + 4 * i) * nt + c, nt, vreinterpretq_s32_s8(q));
                s[i] = vaddlvq_s8(q);
                out_z16[(16 * b + i) * nt + c] = -32 * s[i];
            }
            for (size_t i = 0; i < 4; i++) {
                uint32_t low = (uint32_t)(s[4 * i] + s[4 * i + 1]) & 0xffffU;
                uint32_t high = (uint32_t)(s[4 * i + 2] + s[4 * i + 3]) << 16;
                out_bs[(4 * b + i) * nt + c] = (int32_t)(high | low);
            }
        }
    }
}

/* ----------------------------------------------------------------- A8_32 */

static void quantize_a8_32_neon(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_32 v = tr_a8_32_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_ns = (int32_t *)v.ns;
    float *out_a = (float *)v.a, *out_as = (float *)v.as;

    for (size_t c = 0; c < nt; c++) {
        for (size_t b = 0; b < k / 32; b++) {
            const float *group = x + c * ldx + 32 * b;
            uint32_t bits = largest_bits(group, 32);
            float max = tr_float_from_bits(bits), multiplier = 127.0F / max;
            bool usable = bits < INFINITY_BITS && isfinite(multiplier);
            int8x16_t low = usable ? round_16(group, multiplier) : vdupq_n_s8(0);
            int8x16_t high = usable ? round_16(group + 16, multiplier) : vdupq_n_s8(0);
            float a = usable ? max / 127.0F : bits < INFINITY_BITS ? 0.0F : NAN;
            int32_t sum = vaddlvq_s8(low) + vaddlvq_s8(high);

            put_words(out_q + 8 * b * nt + c, nt, vreinterpretq_s32_s8(low));
            put_words(out_q + (8 * b + 4) * nt + c, nt, vreinterpretq_s32_s8(high));
            out_a[b * nt + c] = a;
            out_ns[b * nt + c] = -sum;
            out_as[b * nt + c] = a * (float)sum;
        }
    }
}

/* ------------------------------------------------------------------- F32 */

/* NaN for infinity, as in the reference. */
static inline float32x4_t finite_or_nan(float32x4_t x)
{
    uint32x4_t finite = vcltq_u32(vreinterpretq_u32_f32(vabsq_f32(x)), vdupq_n_u32(INFINITY_BITS));
    return vbslq_f32(finite, x, vdupq_n_f32(NAN));
}

static void quantize_f32_neon(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    for (size_t c = 0; c < nt; c++) {
        const float *column = x + c * ldx;
        float *out = (float *)tile + c;
        size_t i = 0;
        for (; i + 4 <= k; i += 4) {
            float32x4_t v = finite_or_nan(vld1q_f32(column + i));
            put_words((int32_t *)(void *)(out + i * nt), nt, vreinterpretq_s32_f32(v));
        }
        for (; i < k; i++) out[i * nt] = isfinite(column[i]) ? column[i] : NAN;
    }
}

static const struct tr_kernel kernels[] = {
    TR_QUANTIZE_ROW("quantize_f32_neon", F32, TR_NT_MAX, TRUENO_CPU_NEON, quantize_f32_neon),
    TR_QUANTIZE_ROW("quantize_a8_256_neon", A8_256, TR_NT_MAX, TRUENO_CPU_NEON,
                    quantize_a8_256_neon),
    TR_QUANTIZE_ROW("quantize_a8_32_neon", A8_32, TR_NT_MAX, TRUENO_CPU_NEON, quantize_a8_32_neon),
};
const struct tr_kernel_table tr_table_quantize_neon = {kernels, sizeof kernels / sizeof *kernels};
