/* SPDX-License-Identifier: MIT */
/* Peak loops of AVX2. Its 8-bit products are pairs summed to 16 bits (vpmaddubsw); a kernel may add
 * several such sums before it widens them, so that one 16-bit addition per product is the least
 * that any kernel pays. */
#if !defined(__AVX2__) || !defined(__FMA__)
#error "compile this file with -mavx2 -mfma"
#endif

#include "tuner/probe.h"

#include <immintrin.h>

enum { CHAINS = 12 };

static void run_maddubs(uint64_t n)
{
    __m256i sum[CHAINS], w = _mm256_set1_epi8(15), a = _mm256_set1_epi8(-91);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm256_setzero_si256();
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) {
            TR_PROBE_KEEP(w); /* each product is one of its own */
            sum[i] = _mm256_add_epi16(sum[i], _mm256_maddubs_epi16(w, a));
        }
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static void run_fma(uint64_t n)
{
    __m256 sum[CHAINS], w = _mm256_set1_ps(0.37F), a = _mm256_set1_ps(-0.91F);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm256_setzero_ps();
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_KEEP(w);
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_fmadd_ps(w, a, sum[i]);
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static const struct tr_probe_loop loops[] = {
    {run_maddubs, "vpmaddubsw ymm", 32 * CHAINS, TRUENO_CPU_AVX2, TRUENO_PROBE_INT8},
    {run_fma, "vfmadd ymm", 8 * CHAINS, TRUENO_CPU_AVX2 | TRUENO_CPU_FMA, TRUENO_PROBE_F32},
};

const struct tr_probe_loops tr_probe_loops_avx2 = {loops, sizeof(loops) / sizeof(loops[0])};
