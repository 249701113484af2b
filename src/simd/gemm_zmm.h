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
#define UNROLL _Pragma("GCC unroll 16")
#endif

#define CPU_AVX512                                                                                 \
    (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX512F |                     \
     TRUENO_CPU_AVX512BW | TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ | TRUENO_CPU_AVX512_VNNI)

/* Row of a table: from five columns on two row groups share a pass. */
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

/* Hides where v comes from, so that the compiler holds the register instead of loading it again for
 * each use or regrouping sums so that all their parts stay alive. */
#define IN_REGISTER(v) __asm__("" : "+v"(v))
/* The same, and keeps its place among others of its kind. */
#define IN_ORDER(v) __asm__ volatile("" : "+v"(v))

ALWAYS_INLINE __m512i load_vector(const uint8_t *p)
{
    return _mm512_load_si512((const void *)p);
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

/* The dots of 32 weights, all but their last step: that one goes column by column, each followed by
 * what becomes of the column's dot (FINISH), so that the multiplications there do not come in one
 * bunch after all products. With few columns a dot is two chains, t and u. */
struct dots {
    int_tile t, u;
    __m512i last[2]; /* weights of the last step */
};

ALWAYS_INLINE void clear_dots(struct dots *d, int nt)
{
    clear_ints(d->t, nt);
    if (chains(nt) == 2) clear_ints(d->u, nt);
}

/* Column c of row group g; aq: words of the last step. */
ALWAYS_INLINE __m512i last_step(const struct dots *d, const int32_t *aq, int g, int c, int nt)
{
    const __m512i a = _mm512_set1_epi32(aq[c]);
    if (chains(nt) == 1) return _mm512_dpbusd_epi32(d->t[g][c], d->last[g], a);
    return _mm512_add_epi32(d->t[g][c], _mm512_dpbusd_epi32(d->u[g][c], d->last[g], a));
}

/* Columns between a dot's last step and its use. */
#define LAG 1

/* The last steps, and use(g, c, dot) for each dot. */
#define FINISH(d, aq, nt, use)                                                                     \
    UNROLL                                                                                         \
    for (int c = 0; c < (nt) + LAG; c++) {                                                         \
        UNROLL                                                                                     \
        for (int g = 0; g < groups(nt); g++) {                                                     \
            if (c >= (nt)) continue;                                                               \
            (d)->t[g][c] = last_step(d, aq, g, c, nt);                                             \
            IN_ORDER((d)->t[g][c]);                                                                \
        }                                                                                          \
        UNROLL                                                                                     \
        for (int g = 0; g < groups(nt); g++)                                                       \
            if (c >= LAG) use(g, c - LAG, (d)->t[g][c - LAG]);                                     \
    }

/* What stands for 32 weights of 16 rows (x16.h). */
enum vectors { N4, N4_H1, N4_H2, B8 };

/* Step s of both row groups. high: their H1, or the H2 vector of the step. */
ALWAYS_INLINE void unpack_step(__m512i step[2], const uint8_t *v, size_t apart, enum vectors kind,
                               const __m512i high[2], int s, int nt)
{
    UNROLL
    for (int g = 0; g < groups(nt); g++, v += apart) {
        __m512i x = load_vector(v + 64 * (kind == B8 ? s : s % 4));
        if (kind != B8) x = s < 4 ? low_nibbles(x) : high_nibbles(x);
        if (kind == N4_H1) x = or_masked(x, high_bit(high[g], s), 0x10);
        if (kind == N4_H2) x = or_masked(x, high_bits(high[g], s % 4), 0x30);
        IN_ORDER(x);
        step[g] = x;
    }
}

/* Which step comes i-th: both nibbles of a vector one after the other, but a scale of Q6_K ends
 * with step 3. */
ALWAYS_INLINE int nth_step(enum vectors kind, int i)
{
    return kind == N4 || kind == N4_H1 ? i / 2 + i % 2 * 4 : i;
}

/* Begins the dots of n steps from the i0-th on: all products but those of the last. The second row
 * group is `apart` bytes on. aq: words of the 32 activations. */
ALWAYS_INLINE void dot_steps(struct dots *d, const uint8_t *v, size_t apart, const int32_t *aq,
                             enum vectors kind, int i0, int n, int nt)
{
    __m512i high[2];
    UNROLL
    for (int g = 0; g < groups(nt); g++) {
        if (kind != N4_H1 && kind != N4_H2) continue;
        high[g] = load_vector(v + (size_t)g * apart + 256 + 64 * (i0 / 4));
        IN_REGISTER(high[g]);
    }
    UNROLL
    for (int i = i0; i < i0 + n; i++) {
        unpack_step(d->last, v, apart, kind, high, nth_step(kind, i), nt);
        if (i < i0 + n - 1)
            dot_step(chains(nt) == 2 && i % 2 ? d->u : d->t, d->last, aq + nth_step(kind, i) * nt,
                     nt);
    }
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
