/* SPDX-License-Identifier: MIT */
/* Activation packing for AVX2: the rules of act.h, one column at a time, 32 elements to a vector of
 * bytes. Same bits as quantize_ref.c.
 *
 * Magnitudes are compared as integers: the bits of |x| grow with |x|, infinity and NaN above all.
 */
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "compile this file with -mavx2 -mfma -mf16c"
#endif

#include <immintrin.h>
#include <math.h>

#include "act.h"
#include "quant/half.h"
#include "tables.h"

#define INFINITY_BITS 0x7f800000U

static inline __m256i magnitude_bits(const float *x)
{
    return _mm256_and_si256(_mm256_castps_si256(_mm256_loadu_ps(x)), _mm256_set1_epi32(0x7fffffff));
}

/* Bits of the largest |x| of n elements, n a multiple of 32. */
static inline uint32_t largest_bits(const float *x, size_t n)
{
    __m256i a = _mm256_setzero_si256(), b = a;
    for (size_t i = 0; i < n; i += 16) {
        a = _mm256_max_epi32(a, magnitude_bits(x + i));
        b = _mm256_max_epi32(b, magnitude_bits(x + i + 8));
    }
    a = _mm256_max_epi32(a, b);
    __m128i m = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
    m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1));
    return (uint32_t)_mm_cvtsi128_si32(m);
}

/* The first of 256 elements whose magnitude has these bits. */
static float first_with(const float *x, uint32_t bits)
{
    const __m256i wanted = _mm256_set1_epi32((int32_t)bits);
    for (size_t i = 0; i < 256; i += 8) {
        __m256i equal = _mm256_cmpeq_epi32(magnitude_bits(x + i), wanted);
        unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(equal));
        if (mask) return x[i + (size_t)__builtin_ctz(mask)];
    }
    return NAN;
}

/* rint(scale * x) of 32 elements as bytes. Products do not exceed 127 by a half. */
static inline __m256i round_32(const float *x, float scale)
{
    const __m256 s = _mm256_set1_ps(scale);
    __m256i a = _mm256_cvtps_epi32(_mm256_mul_ps(s, _mm256_loadu_ps(x)));
    __m256i b = _mm256_cvtps_epi32(_mm256_mul_ps(s, _mm256_loadu_ps(x + 8)));
    __m256i c = _mm256_cvtps_epi32(_mm256_mul_ps(s, _mm256_loadu_ps(x + 16)));
    __m256i d = _mm256_cvtps_epi32(_mm256_mul_ps(s, _mm256_loadu_ps(x + 24)));
    __m256i q = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    /* the packs work within halves: dwords of elements 0 8 16 24 4 12 20 28 */
    return _mm256_permutevar8x32_epi32(q, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

/* Sums of 4 bytes each. */
static inline __m256i sums_of_4(__m256i q)
{
    __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), q);
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

/* Eight words, nt apart. */
static inline void put_words(int32_t *dst, size_t nt, __m256i words)
{
    int32_t w[8];
    if (nt == 1) {
        _mm256_storeu_si256((__m256i *)(void *)dst, words);
        return;
    }
    _mm256_storeu_si256((__m256i *)(void *)w, words);
    for (size_t i = 0; i < 8; i++) dst[i * nt] = w[i];
}

/* ---------------------------------------------------------------- A8_256 */

/* Sums of 16 of the bytes of four vectors, in order. */
static inline void sums_of_16(int32_t sums[8], const __m256i q[4])
{
    __m256i a = _mm256_hadd_epi32(sums_of_4(q[0]), sums_of_4(q[1]));
    __m256i b = _mm256_hadd_epi32(sums_of_4(q[2]), sums_of_4(q[3]));
    __m256i s = _mm256_hadd_epi32(a, b); /* 0 2 4 6 1 3 5 7 */
    s = _mm256_permutevar8x32_epi32(s, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    _mm256_storeu_si256((__m256i *)(void *)sums, s);
}

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

static void quantize_a8_256_avx2(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    struct tr_a8_256 v = tr_a8_256_view(tile, k, nt);
    int32_t *out_q = (int32_t *)v.q, *out_bs = (int32_t *)v.bs, *out_z16 = (int32_t *)v.z16;
    float *out_a = (float *)v.a;

    for (size_t c = 0; c < nt; c++) {
        for (size_t b = 0; b < k / 256; b++) {
            const float *group = x + c * ldx + 256 * b;
            float multiplier = multiplier_256(&out_a[b * nt + c], group);
            __m256i q[8] = {_mm256_setzero_si256()};
            int32_t s[16];
            for (size_t i = 0; multiplier != 0 && i < 8; i++) {
                q[i] = round_32(group + 32 * i, multiplier);
            }
            for (size_t i = 0; i < 8; i++) put_words(out_q + (64 * b + 8 * i) * nt + c, nt, q[i]);
            sums_of_16(s, q);
            sums_of_16(s + 8, q + 4);
            for (size_t i = 0; i < 16; i++) out_z16[(16 * b + i) * nt + c] = -32 * s[i];
            for (size_t i = 0; i < 4; i++) {
                uint32_t low = (uint32_t)(s[4 * i] + s[4 * i + 1]) & 0xffffU;
                uint32_t high = (uint32_t)(s[4 * i + 2] + s[4 * i + 3]) << 16;
                out_bs[(4 * b + i) * nt + c] = (int32_t)(high | low);
            }
        }
    }
}

/* ----------------------------------------------------------------- A8_32 */

static void quantize_a8_32_avx2(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
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
            __m256i q = usable ? round_32(group, multiplier) : _mm256_setzero_si256();
            float a = usable ? max / 127.0F : bits < INFINITY_BITS ? 0.0F : NAN;

            __m256i s8 = sums_of_4(q);
            __m128i s = _mm_add_epi32(_mm256_castsi256_si128(s8), _mm256_extracti128_si256(s8, 1));
            s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
            int32_t sum = _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));

            put_words(out_q + 8 * b * nt + c, nt, q);
            out_a[b * nt + c] = a;
            out_ns[b * nt + c] = -sum;
            out_as[b * nt + c] = a * (float)sum;
        }
    }
}

/* ------------------------------------------------------------------- F32 */

/* NaN for infinity, as in the reference: x - x is NaN unless x is finite. */
static inline __m256 finite_or_nan(__m256 x)
{
    __m256 zero = _mm256_sub_ps(x, x);
    return _mm256_blendv_ps(x, zero, _mm256_cmp_ps(zero, zero, _CMP_UNORD_Q));
}

static void quantize_f32_avx2(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt)
{
    for (size_t c = 0; c < nt; c++) {
        const float *column = x + c * ldx;
        float *out = (float *)tile + c;
        size_t i = 0;
        for (; i + 8 <= k; i += 8) {
            __m256 v = finite_or_nan(_mm256_loadu_ps(column + i));
            put_words((int32_t *)(void *)(out + i * nt), nt, _mm256_castps_si256(v));
        }
        for (; i < k; i++) out[i * nt] = isfinite(column[i]) ? column[i] : NAN;
    }
}

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

static const struct tr_kernel kernels[] = {
    TR_QUANTIZE_ROW("quantize_f32_avx2", F32, TR_NT_MAX, CPU, quantize_f32_avx2),
    TR_QUANTIZE_ROW("quantize_a8_256_avx2", A8_256, TR_NT_MAX, CPU, quantize_a8_256_avx2),
    TR_QUANTIZE_ROW("quantize_a8_32_avx2", A8_32, TR_NT_MAX, CPU, quantize_a8_32_avx2),
};
const struct tr_kernel_table tr_table_quantize_avx2 = {kernels, sizeof kernels / sizeof *kernels};
