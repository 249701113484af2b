/* SPDX-License-Identifier: MIT */
/* Matrix products with Q4_K, Q5_K and Q6_K weights for AVX-512 VNNI. Formulas: docs/numerics.md. */
#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile this file for AVX-512 VNNI"
#endif

#include "gemm_zmm.h"
#include "spread.h"

/* spread.h */
ALWAYS_INLINE __m512i spread(__m512i words, const tr_spread order)
{
    const __m128i o = _mm_load_si128((const __m128i *)(const void *)order);
    return _mm512_shuffle_epi8(words, _mm512_broadcast_i32x4(o));
}

/* Scales and minimums of a Q4_K or Q5_K panel. */
struct scales {
    __m512i sc[2];    /* dword r: four of row r, a byte each */
    __m512i pairs[4]; /* minimums 2i and 2i + 1, int16 */
};

/* From the scale words, six bits each (tr_q4k_scale_min, by vectors). */
ALWAYS_INLINE void unpack_scales(struct scales *s, const uint8_t *words)
{
    const __m512i six = _mm512_set1_epi8(63), top = _mm512_set1_epi8(0x30);
    __m512i z0 = load_vector(words), z1 = load_vector(words + 64), z2 = load_vector(words + 128);
    __m512i sc_top = _mm512_and_si512(_mm512_srli_epi16(z0, 2), top);
    __m512i m_top = _mm512_and_si512(_mm512_srli_epi16(z1, 2), top);
    __m512i m[2] = {_mm512_and_si512(z1, six), _mm512_or_si512(high_nibbles(z2), m_top)};
    s->sc[0] = _mm512_and_si512(z0, six);
    s->sc[1] = _mm512_or_si512(low_nibbles(z2), sc_top);
    UNROLL
    for (int i = 0; i < 4; i++) s->pairs[i] = spread(m[i / 2], tr_spread_pair[i % 2]);
}

/* J of one row group and column: pairs of minimums x pairs of activation sums. */
ALWAYS_INLINE __m512i dot_mins(const struct scales *s, const int32_t *bs, size_t c, int nt)
{
    __m512i j = _mm512_setzero_si512();
    UNROLL
    for (int i = 0; i < 4; i++)
        j = _mm512_dpwssd_epi32(j, s->pairs[i], _mm512_set1_epi32(bs[(size_t)(i * nt) + c]));
    return j;
}

/* I and J of a Q4_K panel, or Q5_K if `high`. w: the panel; aq, bs: its activations. J goes column
 * by column between the blocks of I, whose products leave room for it. */
ALWAYS_INLINE void sum_q45k(int_tile sum, __m512i mins[TR_NT_MAX][2], const struct scales s[2],
                            const uint8_t *w, size_t apart, const int32_t *aq, const int32_t *bs,
                            bool high, int nt)
{
    const size_t vectors = high ? 320 : 256;
    clear_ints(sum, nt);
#pragma GCC unroll 1
    for (size_t i = 0; i < 8; i++, aq += 8 * nt) {
        const uint8_t *v = w + 256 + vectors * i;
        struct dots dots;
        __m512i scale[2];
        prefetch_groups(v + AHEAD, apart, vectors, nt);
        clear_dots(&dots, nt);
        if (i < (size_t)nt) {
            UNROLL
            for (int g = 0; g < groups(nt); g++) mins[i][g] = dot_mins(&s[g], bs, i, nt);
        }
        dot_steps(&dots, v, apart, aq, high ? N4_H1 : N4, 0, 8, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++)
            scale[g] = spread(s[g].sc[i / 4], tr_spread_u32[i % 4]);
#define ADD(g, c, t)                                                                               \
    do {                                                                                           \
        sum[g][c] = _mm512_add_epi32(sum[g][c], _mm512_mullo_epi32(scale[g], t));                  \
        IN_ORDER(sum[g][c]);                                                                       \
    } while (0)
        FINISH(&dots, aq + 7 * nt, nt, ADD)
#undef ADD
    }
}

/* Row groups of Q4_K, or Q5_K if `high`. */
ALWAYS_INLINE void pass_q45k(struct pass pass, struct tr_a8_256 a, size_t n_panels, bool high,
                             int nt)
{
    const size_t panel_bytes = high ? 2816 : 2304;
    float_tile y;
    clear_floats(y, nt);
    for (size_t p = 0; p < n_panels; p++) {
        struct scales s[2];
        int_tile sum;
        __m512i mins[TR_NT_MAX][2];
        prefetch_groups(pass.w + AHEAD, pass.apart, 256, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            unpack_scales(&s[g], pass.w + (size_t)g * pass.apart + 64);
        }
        sum_q45k(sum, mins, s, pass.w, pass.apart, a.q, a.bs, high, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            const uint8_t *w = pass.w + (size_t)g * pass.apart;
            __m512 d = load_halves(w), dmin = load_halves(w + 32);
            UNROLL
            for (int c = 0; c < nt; c++) {
                __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum[g][c]));
                v = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(mins[c][g]), v);
                y[g][c] = _mm512_fmadd_ps(_mm512_set1_ps(a.a[c]), v, y[g][c]);
            }
        }
        pass.w += panel_bytes;
        a.q += 64 * nt;
        a.a += nt;
        a.bs += 4 * nt;
    }
    store_floats(&pass, y, nt);
}

ALWAYS_INLINE void gemm_q45k(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                             const void *act, size_t k, bool high, int nt)
{
    struct tr_a8_256 a = tr_a8_256_view(act, k, (size_t)nt);
    size_t group_bytes = k / 256 * (high ? 2816 : 2304);
    for (size_t g = 0; g < n_groups; g += (size_t)groups(nt))
        pass_q45k(pass_at(g, out, ldo, w, n_groups, group_bytes), a, k / 256, high, nt);
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

/* sum += scale x dots of 16 weights, whose zero point is in where the dots start (act.h). half 0:
 * steps 0..3, 1: steps 4..7. v: N4, H2; aq: words of the 32 that they are part of; words: their
 * scale is byte number `at` of each dword. */
ALWAYS_INLINE
    void add_half_q6k(int_tile sum, const uint8_t *v, const uint8_t *words, size_t at, size_t apart,
                      const int32_t *aq, const int32_t *z16, int half, int nt)
{
    struct dots dots;
    __m512i scale[2];
    clear_dots(&dots, nt);
    UNROLL
    for (int c = 0; c < nt; c++) {
        __m512i z = _mm512_set1_epi32(z16[c]);
        UNROLL
        for (int g = 0; g < groups(nt); g++) dots.t[g][c] = z;
    }
    dot_steps(&dots, v, apart, aq, N4_H2, 4 * half, 4, nt);
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        scale[g] = spread(load_vector(words + (size_t)g * apart), tr_spread_top32[at]);
        IN_ORDER(scale[g]);
        scale[g] = _mm512_srai_epi32(scale[g], 24);
    }
#define ADD(g, c, t)                                                                               \
    do {                                                                                           \
        sum[g][c] = _mm512_add_epi32(sum[g][c], _mm512_mullo_epi32(scale[g], t));                  \
        IN_ORDER(sum[g][c]);                                                                       \
    } while (0)
    FINISH(&dots, aq + (4 * half + 3) * nt, nt, ADD)
#undef ADD
}

#define Q6K_PANEL ((size_t)3328) /* bytes */

/* I of a Q6_K panel. */
ALWAYS_INLINE void sum_q6k(int_tile sum, const uint8_t *w, size_t apart, const int32_t *aq,
                           const int32_t *z16, int nt)
{
    clear_ints(sum, nt);
#pragma GCC unroll 1
    for (size_t i = 0; i < 8; i++, aq += 8 * nt) {
        UNROLL
        for (int half = 0; half < 2; half++, z16 += nt) {
            const uint8_t *v = w + 256 + 384 * i;
            prefetch_groups(v + AHEAD + 192 * half, apart, 192, nt);
            add_half_q6k(sum, v, w + 64 * (i / 2), i % 2 * 2 + (size_t)half, apart, aq, z16, half,
                         nt);
        }
    }
}

ALWAYS_INLINE void pass_q6k(struct pass pass, struct tr_a8_256 a, size_t n_panels, int nt)
{
    const uint8_t *w = pass.w + tr_x16_scale_bytes(n_panels);
    float_tile y;
    clear_floats(y, nt);
    for (size_t p = 0; p < n_panels; p++) {
        int_tile sum;
        prefetch_groups(w + AHEAD, pass.apart, 256, nt);
        sum_q6k(sum, w, pass.apart, a.q, a.z16, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            __m512 d = load_halves(pass.w + (size_t)g * pass.apart + 32 * p);
            UNROLL
            for (int c = 0; c < nt; c++) {
                __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum[g][c]));
                y[g][c] = _mm512_fmadd_ps(_mm512_set1_ps(a.a[c]), v, y[g][c]);
            }
        }
        w += Q6K_PANEL;
        a.q += 64 * nt;
        a.a += nt;
        a.z16 += 16 * nt;
    }
    store_floats(&pass, y, nt);
}

ALWAYS_INLINE void gemm_q6k(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                            const void *act, size_t k, int nt)
{
    struct tr_a8_256 a = tr_a8_256_view(act, k, (size_t)nt);
    size_t group_bytes = tr_x16_scale_bytes(k / 256) + k / 256 * Q6K_PANEL;
    for (size_t g = 0; g < n_groups; g += (size_t)groups(nt))
        pass_q6k(pass_at(g, out, ldo, w, n_groups, group_bytes), a, k / 256, nt);
}

static void gemm_q6_k_avx512(float *out, size_t ldo, const void *w, size_t n_groups,
                             const void *act, size_t k, uint32_t nt)
{
#define CALL(n) gemm_q6k(out, ldo, w, n_groups, act, k, n)
    BY_COLUMNS(nt, CALL)
#undef CALL
}

/* Larger units of work: fewer of them to share, longer runs through memory. */
#define BIG_UNITS(name, type, fn)                                                                  \
    TR_GEMM_SPLIT_ROW("gemm_" name "_avx512_16x8_u256k", type, A8_256, 2 * TR_ROWS, AHEAD,         \
                      256U << 10, TR_BLOCK_BYTES, CPU_AVX512, fn)

static const struct tr_kernel kernels[] = {
    BIG_UNITS("q4_k", Q4_K, gemm_q4_k_avx512),   BIG_UNITS("q5_k", Q5_K, gemm_q5_k_avx512),
    BIG_UNITS("q6_k", Q6_K, gemm_q6_k_avx512),   ROW("q4_k", Q4_K, A8_256, gemm_q4_k_avx512),
    ROW("q5_k", Q5_K, A8_256, gemm_q5_k_avx512), ROW("q6_k", Q6_K, A8_256, gemm_q6_k_avx512),
};
const struct tr_kernel_table tr_table_gemm_kquant_avx512 = {kernels,
                                                            sizeof kernels / sizeof *kernels};
