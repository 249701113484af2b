/* SPDX-License-Identifier: MIT */
/* Matrix products with Q4_K, Q5_K and Q6_K weights for AVX-512 VNNI. Formulas: docs/numerics.md. */
#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile this file for AVX-512 VNNI"
#endif

#include "gemm_zmm.h"

/* Scales and minimums of a Q4_K or Q5_K panel, one byte a row. */
struct scales {
    _Alignas(64) uint8_t sc[8][16], m[8][16];
};

/* From 12 planes of packed 6-bit numbers: four planes a register (tr_q4k_scale_min, by vectors). */
ALWAYS_INLINE void unpack_scales(struct scales *s, const uint8_t *planes)
{
    const __m512i six = _mm512_set1_epi8(63), top = _mm512_set1_epi8(0x30);
    __m512i z0 = load_vector(planes), z1 = load_vector(planes + 64), z2 = load_vector(planes + 128);
    __m512i sc_top = _mm512_and_si512(_mm512_srli_epi16(z0, 2), top);
    __m512i m_top = _mm512_and_si512(_mm512_srli_epi16(z1, 2), top);
    _mm512_store_si512(s->sc[0], _mm512_and_si512(z0, six));
    _mm512_store_si512(s->sc[4], _mm512_or_si512(low_nibbles(z2), sc_top));
    _mm512_store_si512(s->m[0], _mm512_and_si512(z1, six));
    _mm512_store_si512(s->m[4], _mm512_or_si512(high_nibbles(z2), m_top));
}

/* sum[c] += scale of 32 x dot of 32. `v`: N4, and H1 if `high`. aq: words of the 32. */
ALWAYS_INLINE void add_run(__m512i *sum, __m512i scale, const uint8_t *v, const int32_t *aq,
                           bool high, int nt)
{
    __m512i t[TR_NT_MAX], u[TR_NT_MAX];
    __m512i h1 = high ? load_vector(v + 256) : _mm512_setzero_si512();
    bool split = nt <= 4; /* two chains, where few columns do not hide the latency */
    UNROLL
    for (int c = 0; c < nt; c++) t[c] = u[c] = _mm512_setzero_si512();
    UNROLL
    for (int h = 0; h < 4; h++) {
        __m512i x = load_vector(v + 64 * h), lo = low_nibbles(x), hi = high_nibbles(x);
        if (high) lo = or_masked(lo, high_bit(h1, h), 0x10);
        if (high) hi = or_masked(hi, high_bit(h1, h + 4), 0x10);
        dot_step(t, lo, aq + h * nt, nt);
        dot_step(split ? u : t, hi, aq + (h + 4) * nt, nt);
    }
    UNROLL
    for (int c = 0; c < nt; c++) {
        if (split) t[c] = _mm512_add_epi32(t[c], u[c]);
        sum[c] = _mm512_add_epi32(sum[c], _mm512_mullo_epi32(scale, t[c]));
    }
}

/* J of every column: pairs of minimums x pairs of activation sums. */
ALWAYS_INLINE void dot_mins(__m512i *j, const struct scales *s, const int32_t *bs, int nt)
{
    UNROLL
    for (int c = 0; c < nt; c++) j[c] = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i even = _mm512_cvtepu8_epi32(load_plane(s->m[2 * i]));
        __m512i odd = _mm512_cvtepu8_epi32(load_plane(s->m[2 * i + 1]));
        __m512i pair = _mm512_or_si512(even, _mm512_slli_epi32(odd, 16));
        UNROLL
        for (int c = 0; c < nt; c++)
            j[c] = _mm512_dpwssd_epi32(j[c], pair, _mm512_set1_epi32(bs[i * nt + c]));
    }
}

/* One row group of Q4_K, or Q5_K if `high`. */
ALWAYS_INLINE void group_q45k(float *out, size_t ldo, const uint8_t *w, const struct tr_a8_256 *act,
                              size_t n_panels, bool high, int nt)
{
    const size_t vectors = high ? 320 : 256;
    struct tr_a8_256 a = *act;
    __m512 y[TR_NT_MAX];
    UNROLL
    for (int c = 0; c < nt; c++) y[c] = _mm512_setzero_ps();
    for (size_t p = 0; p < n_panels; p++) {
        struct scales s;
        __m512i sum[TR_NT_MAX], j[TR_NT_MAX];
        if (nt <= 4) prefetch(w + 2 * (256 + 8 * vectors), 256 + 8 * vectors);
        unpack_scales(&s, w + 64);
        UNROLL
        for (int c = 0; c < nt; c++) sum[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
        for (int i = 0; i < 8; i++, a.q += 8 * nt)
            add_run(sum, _mm512_cvtepu8_epi32(load_plane(s.sc[i])), w + 256 + vectors * (size_t)i,
                    a.q, high, nt);
        dot_mins(j, &s, a.bs, nt);
        __m512 d = load_halves(w), dmin = load_halves(w + 32);
        UNROLL
        for (int c = 0; c < nt; c++) {
            __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum[c]));
            v = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(j[c]), v);
            y[c] = _mm512_fmadd_ps(_mm512_set1_ps(a.a[c]), v, y[c]);
        }
        w += 256 + 8 * vectors;
        a.a += nt;
        a.bs += 4 * nt;
    }
    UNROLL
    for (int c = 0; c < nt; c++) _mm512_storeu_ps(out + (size_t)c * ldo, y[c]);
}

ALWAYS_INLINE void gemm_q45k(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                             const void *act, size_t k, bool high, int nt)
{
    struct tr_a8_256 a = tr_a8_256_view(act, k, (size_t)nt);
    size_t group_bytes = k / 256 * (high ? 2816 : 2304);
    for (size_t g = 0; g < n_groups; g++)
        group_q45k(out + 16 * g, ldo, w + g * group_bytes, &a, k / 256, high, nt);
}

static void gemm_q4_k_avx512(float *out, size_t ldo, const void *w, size_t n_groups,
                             const void *act, size_t k, uint32_t nt)
{
#define CALL(n) gemm_q45k(out, ldo, w, n_groups, act, k, false, n)
    BY_COLUMNS(nt, CALL)
#undef CALL
}

static void gemm_q5_k_avx512(float *out, size_t ldo, const void *w, size_t n_groups,
                             const void *act, size_t k, uint32_t nt){
#define CALL(n) gemm_q45k(out, ldo, w, n_groups, act, k, true, n)
    BY_COLUMNS(nt, CALL)
#undef CALL
}

/* sum[c] += the two scales of 32 weights x dots of 16, whose zero point is in where they start. */
ALWAYS_INLINE void add_run_q6k(__m512i *sum, const uint8_t *planes, const uint8_t *v,
                               const int32_t *aq, const int32_t *z16, int nt)
{
    UNROLL
    for (int half = 0; half < 2; half++) {
        __m512i t[TR_NT_MAX], h2 = load_vector(v + 256 + 64 * half);
        __m512i scale = _mm512_cvtepi8_epi32(load_plane(planes + 16 * half));
        UNROLL
        for (int c = 0; c < nt; c++) t[c] = _mm512_set1_epi32(z16[half * nt + c]);
        UNROLL
        for (int h = 0; h < 4; h++) {
            __m512i x = load_vector(v + 64 * h);
            x = half ? high_nibbles(x) : low_nibbles(x);
            x = or_masked(x, high_bits(h2, h), 0x30);
            dot_step(t, x, aq + (4 * half + h) * nt, nt);
        }
        UNROLL
        for (int c = 0; c < nt; c++)
            sum[c] = _mm512_add_epi32(sum[c], _mm512_mullo_epi32(scale, t[c]));
    }
}

ALWAYS_INLINE void group_q6k(float *out, size_t ldo, const uint8_t *group,
                             const struct tr_a8_256 *act, size_t n_panels, int nt)
{
    const uint8_t *w = group + tr_x16_scale_bytes(n_panels);
    struct tr_a8_256 a = *act;
    __m512 y[TR_NT_MAX];
    UNROLL
    for (int c = 0; c < nt; c++) y[c] = _mm512_setzero_ps();
    for (size_t p = 0; p < n_panels; p++) {
        __m512i sum[TR_NT_MAX];
        if (nt <= 4) prefetch(w + 2 * 3328, 3328);
        UNROLL
        for (int c = 0; c < nt; c++) sum[c] = _mm512_setzero_si512();
#pragma GCC unroll 1
        for (int i = 0; i < 8; i++, a.q += 8 * nt, a.z16 += 2 * nt)
            add_run_q6k(sum, w + 32 * i, w + 256 + 384 * i, a.q, a.z16, nt);
        __m512 d = load_halves(group + 32 * p);
        UNROLL
        for (int c = 0; c < nt; c++) {
            __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum[c]));
            y[c] = _mm512_fmadd_ps(_mm512_set1_ps(a.a[c]), v, y[c]);
        }
        w += 3328;
        a.a += nt;
    }
    UNROLL
    for (int c = 0; c < nt; c++) _mm512_storeu_ps(out + (size_t)c * ldo, y[c]);
}

ALWAYS_INLINE void gemm_q6k(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                            const void *act, size_t k, int nt)
{
    struct tr_a8_256 a = tr_a8_256_view(act, k, (size_t)nt);
    size_t group_bytes = tr_x16_scale_bytes(k / 256) + k / 256 * 3328;
    for (size_t g = 0; g < n_groups; g++)
        group_q6k(out + 16 * g, ldo, w + g * group_bytes, &a, k / 256, nt);
}

static void gemm_q6_k_avx512(float *out, size_t ldo, const void *w, size_t n_groups,
                             const void *act, size_t k, uint32_t nt)
{
#define CALL(n) gemm_q6k(out, ldo, w, n_groups, act, k, n)
    BY_COLUMNS(nt, CALL)
#undef CALL
}

static const struct tr_kernel kernels[] = {
    {"gemm_q4_k_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q4_K,
     TR_ACT_A8_256,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q4_k_avx512}},
    {"gemm_q5_k_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q5_K,
     TR_ACT_A8_256,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q5_k_avx512}},
    {"gemm_q6_k_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q6_K,
     TR_ACT_A8_256,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q6_k_avx512}},
};
const struct tr_kernel_table tr_table_gemm_kquant_avx512 = {kernels,
                                                            sizeof kernels / sizeof *kernels};
