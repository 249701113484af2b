/* SPDX-License-Identifier: MIT */
/* Attention over one chunk for AVX-512: attn_ref.c with 16 positions (scores) or 16 elements
 * (values) in the lanes and up to 8 queries to a load; the same bits. */
#if !defined(__AVX512F__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "this file must be compiled for AVX-512"
#endif

#include <string.h>

#include "tables.h"
#include "vec_avx512.h"

typedef __m512 vec;
#define LANES      16
#define MAX_NQ     8
#define PANELS(nq) ((nq) <= 2 ? 4U : 2U)
#define ROWS(nq)   ((nq) <= 2 ? 8U : (nq) <= 6 ? 4U : 2U)

static inline vec vec_zero(void)
{
    return _mm512_setzero_ps();
}

static inline vec vec_set1(float x)
{
    return _mm512_set1_ps(x);
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

static inline vec vec_cache(const void *base, size_t i, bool f16, unsigned n)
{
    const uint16_t *h = (const uint16_t *)base + i;
    if (!f16) return vec_load((const float *)base + i, n);
    if (n == 8) return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(0xff, h));
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)h));
}

#include "attn_tile.h"

/* Those of the lanes at..at+15 that lie in [begin, end). */
static inline __mmask16 visible(uint32_t at, uint32_t begin, uint32_t end)
{
    uint32_t from = begin > at ? begin - at : 0;
    uint32_t to = end - at < 16 ? end - at : 16;
    return first_lanes(to) & (__mmask16)~first_lanes(from);
}

/* Raw products to exponentials of query i, in place; max[i] and sum[i]. */
static void softmax(struct tr_attn_args *a, uint32_t i, float e[TR_ATTN_CHUNK])
{
    uint32_t begin = a->lo[i] % TR_ATTN_CHUNK, end = begin + (a->hi[i] - a->lo[i]);
    __m512 scale = _mm512_set1_ps(a->scale), cap = _mm512_set1_ps(a->cap);
    __m512 max = _mm512_set1_ps(-INFINITY);
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};

    a->max[i] = -INFINITY;
    a->sum[i] = 0.0F;
    if (a->lo[i] >= a->hi[i]) return;
    for (uint32_t at = begin / 16 * 16; at < end; at += 16) {
        __m512 s = _mm512_mul_ps(_mm512_loadu_ps(e + at), scale);
        if (a->cap > 0.0F) s = softcap_lanes(s, cap);
        _mm512_storeu_ps(e + at, s);
        /* s > max ? s : max, so a NaN leaves max alone */
        max = _mm512_mask_max_ps(max, visible(at, begin, end), s, max);
    }
    a->max[i] = _mm512_reduce_max_ps(max) + 0.0F; /* -0 to +0 */
    max = _mm512_set1_ps(a->max[i]);
    for (uint32_t at = begin / 16 * 16; at < end; at += 16) {
        __m512 x = exp_lanes(_mm512_sub_ps(_mm512_loadu_ps(e + at), max));
        __m512 *part = &sum[at / 16 % 2];
        _mm512_storeu_ps(e + at, x);
        *part = _mm512_mask_add_ps(*part, visible(at, begin, end), *part, x);
    }
    a->sum[i] = r32_sum(sum[0], sum[1]);
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

static void attention_f16_avx512(struct tr_attn_args *a)
{
    attention(a, true);
}

static void attention_f32_avx512(struct tr_attn_args *a)
{
    attention(a, false);
}

#define CPU                                                                                        \
    (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX512F |                     \
     TRUENO_CPU_AVX512BW | TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ)

static const struct tr_kernel kernels[] = {
    TR_KERNEL_ROW("attention_f16_avx512", ATTENTION, TRUENO_TYPE_F16, ATTENTION, CPU, attention,
                  attention_f16_avx512),
    TR_KERNEL_ROW("attention_f32_avx512", ATTENTION, TRUENO_TYPE_F32, ATTENTION, CPU, attention,
                  attention_f32_avx512),
};
const struct tr_kernel_table tr_table_attn_avx512 = {kernels, sizeof kernels / sizeof *kernels};
