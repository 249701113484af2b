/* SPDX-License-Identifier: MIT */
/* What the gemm files for AVX-512 VNNI share. A vector of 16 rows (x16.h) is one register, so every
 * row has its own lane from the first load to the store; activations are broadcast by the
 * instruction that uses them.
 *
 * Kernels are always-inline functions of a constant number of columns; BY_COLUMNS makes the eight
 * copies. Loops over columns are unrolled so that their arrays become registers. */
#ifndef TR_GEMM_ZMM_H
#define TR_GEMM_ZMM_H

#include <immintrin.h>

#include "act.h"
#include "tables.h"
#include "x16.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

#define CPU_AVX512                                                                                 \
    (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX512F |                     \
     TRUENO_CPU_AVX512BW | TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ | TRUENO_CPU_AVX512_VNNI)

/* Row of a table: with eight columns two row groups share a pass. */
#define ROW(name, type, act, fn)                                                                   \
    TR_GEMM_ROW("gemm_" name "_avx512_16x8", type, act, 2 * TR_ROWS, AHEAD, CPU_AVX512, fn)

/* call(n) with the constant n = nt, 1..8. */
#define BY_COLUMNS(nt, call)                                                                       \
    switch (nt) {                                                                                  \
    case 1: call(1); break;                                                                        \
    case 2: call(2); break;                                                                        \
    case 3: call(3); break;                                                                        \
    case 4: call(4); break;                                                                        \
    case 5: call(5); break;                                                                        \
    case 6: call(6); break;                                                                        \
    case 7: call(7); break;                                                                        \
    default: call(8); break;                                                                       \
    }

ALWAYS_INLINE __m512i load_vector(const uint8_t *p)
{
    return _mm512_load_si512((const void *)p);
}

ALWAYS_INLINE __m128i load_plane(const uint8_t *p)
{
    return _mm_load_si128((const __m128i *)(const void *)p);
}

/* 16 f16 as float. */
ALWAYS_INLINE __m512 load_halves(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_load_si256((const __m256i *)(const void *)p));
}

ALWAYS_INLINE __m512i low_nibbles(__m512i v)
{
    return _mm512_and_si512(v, _mm512_set1_epi8(15));
}

ALWAYS_INLINE __m512i high_nibbles(__m512i v)
{
    return low_nibbles(_mm512_srli_epi16(v, 4));
}

/* v | (bits & mask of bytes) */
ALWAYS_INLINE __m512i or_masked(__m512i v, __m512i bits, char mask)
{
    return _mm512_ternarylogic_epi32(v, bits, _mm512_set1_epi8(mask), 0xf8);
}

/* Shifts bit s of every byte to bit 4; the caller masks what crosses bytes. Shift counts must be
 * literals where nothing is optimised. */
ALWAYS_INLINE __m512i high_bit(__m512i h1, int s)
{
    switch (s) {
    case 0: return _mm512_slli_epi16(h1, 4);
    case 1: return _mm512_slli_epi16(h1, 3);
    case 2: return _mm512_slli_epi16(h1, 2);
    case 3: return _mm512_slli_epi16(h1, 1);
    case 4: return h1;
    case 5: return _mm512_srli_epi16(h1, 1);
    case 6: return _mm512_srli_epi16(h1, 2);
    default: return _mm512_srli_epi16(h1, 3);
    }
}

/* Shifts bits 2i, 2i + 1 of every byte to bits 4 and 5. */
ALWAYS_INLINE __m512i high_bits(__m512i h2, int i)
{
    switch (i) {
    case 0: return _mm512_slli_epi16(h2, 4);
    case 1: return _mm512_slli_epi16(h2, 2);
    case 2: return h2;
    default: return _mm512_srli_epi16(h2, 2);
    }
}

/* Hides where v comes from, so that the compiler holds the register instead of loading it again for
 * each use or regrouping sums so that all their parts stay alive. */
#define IN_REGISTER(v) __asm__("" : "+v"(v))

/* Row groups at once: from five columns on two share each broadcast, which spares load ports. */
ALWAYS_INLINE int groups(int nt)
{
    return nt > 4 ? 2 : 1;
}

/* Chains per output within 32 weights: two, where few columns do not hide the latency of one. */
ALWAYS_INLINE int chains(int nt)
{
    return nt > 4 ? 1 : 2;
}

/* One accumulator for each row group and column. */
typedef __m512i int_tile[2][TR_NT_MAX];
typedef __m512 float_tile[2][TR_NT_MAX];

ALWAYS_INLINE void clear_ints(int_tile t, int nt)
{
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        UNROLL
        for (int c = 0; c < nt; c++) t[g][c] = _mm512_setzero_si512();
    }
}

ALWAYS_INLINE void clear_floats(float_tile y, int nt)
{
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        UNROLL
        for (int c = 0; c < nt; c++) y[g][c] = _mm512_setzero_ps();
    }
}

/* t += a step of weights x a step of activations; the word of column c stands at aq[c]. */
ALWAYS_INLINE void dot_step(int_tile t, const __m512i *step, const int32_t *aq, int nt)
{
    UNROLL
    for (int c = 0; c < nt; c++) {
        __m512i a = _mm512_set1_epi32(aq[c]);
        UNROLL
        for (int g = 0; g < groups(nt); g++) t[g][c] = _mm512_dpbusd_epi32(t[g][c], step[g], a);
    }
}

ALWAYS_INLINE void join_chains(int_tile t, int_tile u, int nt)
{
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        UNROLL
        for (int c = 0; c < nt; c++) t[g][c] = _mm512_add_epi32(t[g][c], u[g][c]);
    }
}

/* How far ahead of their use weights are fetched, in bytes: measured on Zen 5, where 5 KB and 9 KB
 * lose up to a tenth of the memory's bandwidth. */
#define AHEAD 7168

/* Brings `bytes` bytes, a multiple of 64, to the cache; nothing faults past the end of the weights.
 * Kernels ask for a few lines with every run of 32: a whole panel in one go crowds the load ports.
 */
ALWAYS_INLINE void prefetch(const uint8_t *p, size_t bytes)
{
    UNROLL
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + i, _MM_HINT_T0);
}

/* The same for all row groups of a pass. */
ALWAYS_INLINE void prefetch_groups(const uint8_t *p, size_t apart, size_t bytes, int nt)
{
    UNROLL
    for (int g = 0; g < groups(nt); g++) prefetch(p + (size_t)g * apart, bytes);
}

/* t += dots of 32 weights. v: N4, and H1 if `high`; the second row group is `apart` bytes on.
 * aq: words of the 32 activations. */
ALWAYS_INLINE void dot_n4(int_tile t, const uint8_t *v, size_t apart, const int32_t *aq, bool high,
                          int nt)
{
    int_tile u;
    __m512i h1[2];
    clear_ints(u, nt);
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        if (!high) continue;
        h1[g] = load_vector(v + (size_t)g * apart + 256);
        IN_REGISTER(h1[g]);
    }
    UNROLL
    for (int h = 0; h < 4; h++) {
        __m512i lo[2], hi[2];
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            const uint8_t *vg = v + (size_t)g * apart;
            __m512i x = load_vector(vg + 64 * h);
            lo[g] = low_nibbles(x);
            hi[g] = high_nibbles(x);
            if (high) lo[g] = or_masked(lo[g], high_bit(h1[g], h), 0x10);
            if (high) hi[g] = or_masked(hi[g], high_bit(h1[g], h + 4), 0x10);
        }
        dot_step(t, lo, aq + h * nt, nt);
        dot_step(chains(nt) == 2 ? u : t, hi, aq + (h + 4) * nt, nt);
    }
    if (chains(nt) == 2) join_chains(t, u, nt);
}

/* Where the row groups of a pass and their results stand. An odd last group is its own partner:
 * both distances are 0, and it is computed and stored twice. */
struct pass {
    float *out;
    size_t ldo, out_apart; /* floats */
    const uint8_t *w;
    size_t apart; /* bytes */
};

ALWAYS_INLINE struct pass pass_at(size_t g, float *out, size_t ldo, const uint8_t *w,
                                  size_t n_groups, size_t group_bytes)
{
    bool two = g + 1 < n_groups;
    struct pass p = {out + TR_ROWS * g, ldo, two ? TR_ROWS : 0, w + g * group_bytes,
                     two ? group_bytes : 0};
    return p;
}

ALWAYS_INLINE void store_floats(const struct pass *p, float_tile y, int nt)
{
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        UNROLL
        for (int c = 0; c < nt; c++)
            _mm512_storeu_ps(p->out + (size_t)c * p->ldo + (size_t)g * p->out_apart, y[g][c]);
    }
}

#endif
