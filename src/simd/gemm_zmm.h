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
#define UNROLL        _Pragma("GCC unroll 8")

#define CPU_AVX512                                                                                 \
    (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C | TRUENO_CPU_AVX512F |                     \
     TRUENO_CPU_AVX512BW | TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ | TRUENO_CPU_AVX512_VNNI)

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

/* t[c] += step of weights x step of activations, whose word stands at aq[c]. */
ALWAYS_INLINE void dot_step(__m512i *t, __m512i step, const int32_t *aq, int nt)
{
    UNROLL
    for (int c = 0; c < nt; c++) t[c] = _mm512_dpbusd_epi32(t[c], step, _mm512_set1_epi32(aq[c]));
}

/* Brings `bytes` bytes at p to the cache, a multiple of 64. Nothing faults past the end. */
ALWAYS_INLINE void prefetch(const uint8_t *p, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + i, _MM_HINT_T0);
}

#endif
