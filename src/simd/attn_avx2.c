/* SPDX-License-Identifier: MIT */
/* Attention over one chunk for AVX2: attn_ref.c with 8 positions (scores) or 8 elements (values)
 * in the lanes and up to 4 queries to a load; the same bits. */
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "this file must be compiled for AVX2, FMA and F16C"
#endif

#include "tables.h"
#include "vec_avx2.h"

typedef __m256 vec;
#define LANES      8
#define MAX_NQ     4
#define PANELS(nq) ((nq) <= 1 ? 4U : (nq) <= 2 ? 2U : 1U)
#define ROWS(nq)   ((nq) <= 1 ? 8U : (nq) <= 2 ? 4U : 2U)

static inline vec vec_zero(void)
{
    return _mm256_setzero_ps();
}

static inline vec vec_set1(float x)
{
    return _mm256_set1_ps(x);
}

static inline vec vec_mul(vec a, vec b)
{
    return _mm256_mul_ps(a, b);
}

static inline vec vec_add(vec a, vec b)
{
    return _mm256_add_ps(a, b);
}

static inline vec vec_fma(vec a, vec b, vec c)
{
    return _mm256_fmadd_ps(a, b, c);
}

static inline vec vec_load(const float *p, unsigned n)
{
    (void)n;
    return _mm256_loadu_ps(p);
}

static inline void vec_store(float *p, vec v, unsigned n)
{
    (void)n;
    _mm256_storeu_ps(p, v);
}

static inline __m128i load_halves(const void *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

static inline vec vec_f16(const uint16_t *p, unsigned n)
{
    (void)n;
    return _mm256_cvtph_ps(load_halves(p));
}

static inline vec vec_bf16(const uint16_t *p, unsigned n)
{
    (void)n;
    __m256i wide = _mm256_cvtepu16_epi32(load_halves(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}

static inline vec vec_i8(const uint8_t *p)
{
    __m128i q = _mm_loadl_epi64((const __m128i *)(const void *)p);
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q));
}

static inline vec vec_scales(const uint8_t *p)
{
    return _mm256_cvtph_ps(load_halves(p));
}

static inline vec vec_scale(const uint8_t *p)
{
    uint16_t half;
    __builtin_memcpy(&half, p, sizeof half);
    return _mm256_cvtph_ps(_mm_set1_epi16((short)half));
}

#include "attn_tile.h"

/* Mask of those of the lanes at..at+7 that lie in [begin, end). */
static inline __m256 visible(uint32_t at, uint32_t begin, uint32_t end)
{
    __m256i i =
        _mm256_add_epi32(_mm256_set1_epi32((int)at), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    __m256i before = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)begin), i);
    __m256i inside = _mm256_cmpgt_epi32(_mm256_set1_epi32((int)end), i);
    return _mm256_castsi256_ps(_mm256_andnot_si256(before, inside));
}

static inline float largest_lane(__m256 v)
{
    __m128 x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    x = _mm_max_ps(x, _mm_movehl_ps(x, x));
    x = _mm_max_ss(x, _mm_movehdup_ps(x));
    return _mm_cvtss_f32(x);
}

/* Which of 32 positions are seen: masks of 8 lanes each. */
struct seen {
    __m256 lanes[4];
};

static INLINE struct seen seen_of(uint32_t at, uint32_t begin, uint32_t end)
{
    bool whole = begin <= at && at + 32 <= end;
    struct seen s;
    UNROLL
    for (unsigned j = 0; j < 4; j++)
        s.lanes[j] =
            whole ? _mm256_castsi256_ps(_mm256_set1_epi32(-1)) : visible(at + 8 * j, begin, end);
    return s;
}

static INLINE float scores(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], uint32_t begin,
                           uint32_t end)
{
    __m256 scale = _mm256_set1_ps(a->scale), cap = _mm256_set1_ps(a->cap);
    __m256 low = _mm256_set1_ps(-INFINITY), max[4] = {low, low, low, low};

    for (uint32_t at = begin / 32 * 32; at < end; at += 32) {
        struct seen seen = seen_of(at, begin, end);
        UNROLL
        for (unsigned j = 0; j < 4; j++) {
            __m256 s = _mm256_and_ps(_mm256_loadu_ps(e + at + 8 * j), seen.lanes[j]);
            s = _mm256_mul_ps(s, scale);
            if (a->cap > 0.0F) s = softcap_lanes(s, cap);
            _mm256_storeu_ps(e + at + 8 * j, s);
            /* s > max ? s : max, so a NaN leaves max alone */
            max[j] = _mm256_max_ps(_mm256_blendv_ps(low, s, seen.lanes[j]), max[j]);
        }
    }
    max[0] = _mm256_max_ps(_mm256_max_ps(max[0], max[1]), _mm256_max_ps(max[2], max[3]));
    return largest_lane(max[0]);
}

static INLINE float exponentials(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], float max,
                                 uint32_t begin, uint32_t end)
{
    __m256 zero = _mm256_setzero_ps(), top = _mm256_set1_ps(max);
    __m256 sum[4] = {zero, zero, zero, zero};
    (void)a;

    for (uint32_t at = begin / 32 * 32; at < end; at += 32) {
        struct seen seen = seen_of(at, begin, end);
        UNROLL
        for (unsigned j = 0; j < 4; j++) {
            __m256 x = exp_lanes(_mm256_sub_ps(_mm256_loadu_ps(e + at + 8 * j), top));
            _mm256_storeu_ps(e + at + 8 * j, x);
            sum[j] = _mm256_add_ps(sum[j], _mm256_and_ps(x, seen.lanes[j]));
        }
    }
    return r32_sum(sum);
}

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

static const struct tr_kernel kernels[] = {TR_ATTN_ROWS("avx2", CPU)};
const struct tr_kernel_table tr_table_attn_avx2 = {kernels, sizeof kernels / sizeof *kernels};
