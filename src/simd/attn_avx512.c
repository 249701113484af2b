/* SPDX-License-Identifier: MIT */
/* Attention over one chunk for AVX-512: attn_ref.c with 16 positions (scores) or 16 elements
 * (values) in the lanes and up to 8 queries to a load; the same bits. */
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "this file must be compiled for AVX-512"
#endif

#include "tables.h"
#include "vec_avx512.h"

typedef __m512 vec;
#define LANES      16
#define MAX_NQ     8
#define PANELS(nq) ((nq) <= 2 ? 4U : 3U)
#define ROWS(nq)   ((nq) <= 2 ? 8U : (nq) <= 6 ? 4U : 2U)

static inline vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

static inline vec vec_set1(float x)
{
    return _mm512_set1_ps(x);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm512_mul_ps(a, b);
}

static inline vec vec_add(vec a, vec b)
{
    return _mm512_add_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm512_fmadd_ps(a, b, c);
}

static inline vec vec_load(const float *p, unsigned n)
{
    return n == 16 ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(0xff, p);
}

static inline void vec_store(float *p, vec v, unsigned n)
{
    if (n == 16)
        _mm512_storeu_ps(p, v);
    else
        _mm512_mask_storeu_ps(p, 0xff, v);
}

static inline __m256i load_halves(const uint16_t *p, unsigned n)
{
    if (n == 8) return _mm256_maskz_loadu_epi16(0xff, p);
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

static inline vec vec_f16(const uint16_t *p, unsigned n)
{
    return _mm512_cvtph_ps(load_halves(p, n));
}

static inline vec vec_bf16(const uint16_t *p, unsigned n)
{
    __m512i wide = _mm512_cvtepu16_epi32(load_halves(p, n));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

static inline vec vec_i8(const uint8_t *p)
{
    __m128i q = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(q));
}

static inline vec vec_scales(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}

static inline vec vec_scale(const uint8_t *p)
{
    uint16_t half;
    __builtin_memcpy(&half, p, sizeof half);
    return _mm512_cvtph_ps(_mm256_set1_epi16((short)half));
}

#include "attn_tile.h"

/* Those of the lanes at..at+15 that lie in [begin, end). */
static inline __mmask16 visible(uint32_t at, uint32_t begin, uint32_t end)
{
    uint32_t from = begin > at ? begin - at : 0;
    uint32_t to = end > at ? end - at : 0;
    return first_lanes(to < 16 ? to : 16) & (__mmask16)~first_lanes(from < 16 ? from : 16);
}

/* Raw products of 32 positions to scores, and the largest of those that are seen. */
static INLINE void scores_32(float e[32], const struct tr_attn_args *a, __mmask16 seen0,
                             __mmask16 seen1, __m512 max[2])
{
    UNROLL
    for (unsigned j = 0; j < 2; j++) {
        __mmask16 seen = j ? seen1 : seen0;
        __m512 s = _mm512_maskz_loadu_ps(seen, e + 16 * j);
        s = _mm512_mul_ps(s, _mm512_set1_ps(a->scale));
        if (a->cap > 0.0F) s = softcap_lanes(s, _mm512_set1_ps(a->cap));
        _mm512_storeu_ps(e + 16 * j, s);
        /* s > max ? s : max, so a NaN leaves max alone */
        max[j] = _mm512_mask_max_ps(max[j], seen, s, max[j]);
    }
}

/* Scores of 32 positions to exponentials, and the sum of those that are seen. */
static INLINE void exponentials_32(float e[32], __m512 max, __mmask16 seen0, __mmask16 seen1,
                                   __m512 sum[2])
{
    UNROLL
    for (unsigned j = 0; j < 2; j++) {
        __m512 x = exp_low_lanes(_mm512_sub_ps(_mm512_loadu_ps(e + 16 * j), max));
        _mm512_storeu_ps(e + 16 * j, x);
        sum[j] = _mm512_mask_add_ps(sum[j], j ? seen1 : seen0, sum[j], x);
    }
}

static INLINE float scores(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], uint32_t begin,
                           uint32_t end)
{
    __m512 max[2] = {_mm512_set1_ps(-INFINITY), _mm512_set1_ps(-INFINITY)};
    for (uint32_t at = begin / 32 * 32; at < end; at += 32) {
        if (begin <= at && at + 32 <= end)
            scores_32(e + at, a, 0xffff, 0xffff, max);
        else
            scores_32(e + at, a, visible(at, begin, end), visible(at + 16, begin, end), max);
    }
    return _mm512_reduce_max_ps(_mm512_max_ps(max[0], max[1]));
}

static INLINE float exponentials(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], float max,
                                 uint32_t begin, uint32_t end)
{
    __m512 top = _mm512_set1_ps(max), sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    (void)a;
    for (uint32_t at = begin / 32 * 32; at < end; at += 32) {
        if (begin <= at && at + 32 <= end)
            exponentials_32(e + at, top, 0xffff, 0xffff, sum);
        else
            exponentials_32(e + at, top, visible(at, begin, end), visible(at + 16, begin, end),
                            sum);
    }
    return r32_sum(sum[0], sum[1]);
}

#define CPU                                                                                        \
    (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX512F |                     \
     TRUENO_CPU_AVX512BW | TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ)

static const struct tr_kernel kernels[] = {TR_ATTN_ROWS("avx512", CPU)};
const struct tr_kernel_table tr_table_attn_avx512 = {kernels, sizeof kernels / sizeof *kernels};
