/* SPDX-License-Identifier: MIT */
/* Attention over one chunk for AVX2: attn_ref.c with 8 positions (scores) or 8 elements (values)
 * in the lanes and up to 4 queries to a load; the same bits. */
#if !defined(__AVX2__) || !defined(__FMA__) || !defined(__F16C__)
#error "this file must be compiled for AVX2, FMA and F16C"
#endif

#include <string.h>

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

static inline vec vec_cache(const void *base, size_t i, bool f16, unsigned n)
{
    const uint16_t *h = (const uint16_t *)base + i;
    if (!f16) return vec_load((const float *)base + i, n);
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)h));
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

/* Raw products to exponentials of query i, in place; max[i] and sum[i]. */
static void softmax(struct tr_attn_args *a, uint32_t i, float e[TR_ATTN_CHUNK])
{
    uint32_t begin = a->lo[i] % TR_ATTN_CHUNK, end = begin + (a->hi[i] - a->lo[i]);
    __m256 scale = _mm256_set1_ps(a->scale), cap = _mm256_set1_ps(a->cap);
    __m256 max = _mm256_set1_ps(-INFINITY);
    __m256 sum[4] = {_mm256_setzero_ps(), _mm256_setzero_ps(), _mm256_setzero_ps(),
                     _mm256_setzero_ps()};

    a->max[i] = -INFINITY;
    a->sum[i] = 0.0F;
    if (a->lo[i] >= a->hi[i]) return;
    for (uint32_t at = begin / 8 * 8; at < end; at += 8) {
        __m256 s = _mm256_mul_ps(_mm256_loadu_ps(e + at), scale);
        if (a->cap > 0.0F) s = softcap_lanes(s, cap);
        _mm256_storeu_ps(e + at, s);
        s = _mm256_blendv_ps(_mm256_set1_ps(-INFINITY), s, visible(at, begin, end));
        max = _mm256_max_ps(s, max); /* s > max ? s : max, so a NaN leaves max alone */
    }
    a->max[i] = largest_lane(max) + 0.0F; /* -0 to +0 */
    max = _mm256_set1_ps(a->max[i]);
    for (uint32_t at = begin / 8 * 8; at < end; at += 8) {
        __m256 x = exp_lanes(_mm256_sub_ps(_mm256_loadu_ps(e + at), max));
        __m256 *part = &sum[at / 8 % 4];
        _mm256_storeu_ps(e + at, x);
        *part = _mm256_add_ps(*part, _mm256_and_ps(x, visible(at, begin, end)));
    }
    a->sum[i] = r32_sum(sum);
}

static INLINE void attention(struct tr_attn_args *a, bool f16)
{
    _Alignas(64) float e[TR_ATTN_QUERIES][TR_ATTN_CHUNK];

    all_runs(a, e, false, f16);
    for (uint32_t i = 0; i < a->n_q; i++) {
        softmax(a, i, e[i]);
        memset(a->out[i], 0, a->head_dim * sizeof(float));
    }
    all_runs(a, e, true, f16);
}

static void attention_f16_avx2(struct tr_attn_args *a)
{
    attention(a, true);
}

static void attention_f32_avx2(struct tr_attn_args *a)
{
    attention(a, false);
}

#define CPU (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("attention_f16_avx2", ATTENTION, TRUENO_TYPE_F16, ATTENTION, CPU, attention,
                  attention_f16_avx2),
    TR_KERNEL_ROW("attention_f32_avx2", ATTENTION, TRUENO_TYPE_F32, ATTENTION, CPU, attention,
                  attention_f32_avx2),
};
const struct tr_kernel_table tr_table_attn_avx2 = {kernels, sizeof kernels / sizeof *kernels};
