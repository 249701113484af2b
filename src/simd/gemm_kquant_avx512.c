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

/* sum += scale x t. */
ALWAYS_INLINE void add_scaled(int_tile sum, const __m512i *scale, int_tile t, int nt)
{
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        UNROLL
        for (int c = 0; c < nt; c++)
            sum[g][c] = _mm512_add_epi32(sum[g][c], _mm512_mullo_epi32(scale[g], t[g][c]));
    }
}

/* I of a Q4_K panel, or Q5_K if `high`. w: the panel; aq: its activations. */
ALWAYS_INLINE void sum_q45k(int_tile sum, const struct scales s[2], const uint8_t *w, size_t apart,
                            const int32_t *aq, bool high, int nt)
{
    const size_t vectors = high ? 320 : 256;
    clear_ints(sum, nt);
#pragma GCC unroll 1
    for (size_t i = 0; i < 8; i++, aq += 8 * nt) {
        const uint8_t *v = w + 256 + vectors * i;
        int_tile t;
        __m512i scale[2];
        prefetch_groups(v + AHEAD, apart, vectors, nt);
        clear_ints(t, nt);
        dot_n4(t, v, apart, aq, high, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++)
            scale[g] = _mm512_cvtepu8_epi32(load_plane(s[g].sc[i]));
        add_scaled(sum, scale, t, nt);
    }
}

/* J of one row group: pairs of minimums x pairs of activation sums. */
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
        int_tile j;
        prefetch_groups(pass.w + AHEAD, pass.apart, 256, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            unpack_scales(&s[g], pass.w + (size_t)g * pass.apart + 64);
            dot_mins(j[g], &s[g], a.bs, nt);
        }
        sum_q45k(sum, s, pass.w, pass.apart, a.q, high, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            const uint8_t *w = pass.w + (size_t)g * pass.apart;
            __m512 d = load_halves(w), dmin = load_halves(w + 32);
            UNROLL
            for (int c = 0; c < nt; c++) {
                __m512 v = _mm512_mul_ps(d, _mm512_cvtepi32_ps(sum[g][c]));
                v = _mm512_fnmadd_ps(dmin, _mm512_cvtepi32_ps(j[g][c]), v);
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

/* sum += scale x dots of 16 weights, whose zero point is in where the dots start (act.h). `half`
 * 0: steps 0..3, 1: steps 4..7. v: N4, H2; aq: words of the 16. Steps first, then column by column:
 * so only two dots are alive beside the sums, and everything fits the 32 registers. */
ALWAYS_INLINE void add_half_q6k(int_tile sum, const __m512i *scale, const uint8_t *v, size_t apart,
                                const int32_t *aq, const int32_t *z16, int half, int nt)
{
    __m512i step[2][4];
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        const uint8_t *vg = v + (size_t)g * apart;
        __m512i h2 = load_vector(vg + 256 + 64 * half);
        IN_REGISTER(h2);
        UNROLL
        for (int h = 0; h < 4; h++) {
            __m512i x = load_vector(vg + 64 * h);
            x = half ? high_nibbles(x) : low_nibbles(x);
            step[g][h] = or_masked(x, high_bits(h2, h), 0x30);
        }
    }
    UNROLL
    for (int c = 0; c < nt; c++) {
        __m512i t[2];
        t[0] = t[1] = _mm512_set1_epi32(z16[c]);
        UNROLL
        for (int h = 0; h < 4; h++) {
            __m512i a = _mm512_set1_epi32(aq[h * nt + c]);
            UNROLL
            for (int g = 0; g < groups(nt); g++) t[g] = _mm512_dpbusd_epi32(t[g], step[g][h], a);
        }
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            sum[g][c] = _mm512_add_epi32(sum[g][c], _mm512_mullo_epi32(scale[g], t[g]));
            IN_REGISTER(sum[g][c]);
        }
    }
}

#define Q6K_PANEL ((size_t)3328) /* bytes */

/* I of a Q6_K panel. */
ALWAYS_INLINE void sum_q6k(int_tile sum, const uint8_t *w, size_t apart, const int32_t *aq,
                           const int32_t *z16, int nt)
{
    clear_ints(sum, nt);
#pragma GCC unroll 1
    for (size_t i = 0; i < 8; i++) {
        UNROLL
        for (int half = 0; half < 2; half++, aq += 4 * nt, z16 += nt) {
            const uint8_t *v = w + 256 + 384 * i, *plane = w + 32 * i + 16 * half;
            __m512i scale[2];
            prefetch_groups(v + AHEAD + 192 * half, apart, 192, nt);
            UNROLL
            for (int g = 0; g < groups(nt); g++)
                scale[g] = _mm512_cvtepi8_epi32(load_plane(plane + (size_t)g * apart));
            add_half_q6k(sum, scale, v, apart, aq, z16, half, nt);
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

static const struct tr_kernel kernels[] = {
    ROW("q4_k", Q4_K, A8_256, gemm_q4_k_avx512),
    ROW("q5_k", Q5_K, A8_256, gemm_q5_k_avx512),
    ROW("q6_k", Q6_K, A8_256, gemm_q6_k_avx512),
};
const struct tr_kernel_table tr_table_gemm_kquant_avx512 = {kernels,
                                                            sizeof kernels / sizeof *kernels};
