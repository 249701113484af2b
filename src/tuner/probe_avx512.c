/* SPDX-License-Identifier: MIT */
/* Peak loops of AVX-512: 16 independent chains hide a latency of 4 at two instructions a cycle. */
#if !defined(__AVX512VNNI__)
#error "compile this file for AVX-512 VNNI"
#endif

#include "tuner/probe.h"

#include <immintrin.h>

enum { CHAINS = 16 };

static void run_dpbusd(uint64_t n)
{
    __m512i sum[CHAINS], w = _mm512_set1_epi8(37), a = _mm512_set1_epi8(-91);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm512_setzero_si512();
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_KEEP(w);
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbusd_epi32(sum[i], w, a);
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static void run_fma(uint64_t n)
{
    __m512 sum[CHAINS], w = _mm512_set1_ps(0.37F), a = _mm512_set1_ps(-0.91F);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm512_setzero_ps();
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_KEEP(w);
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_fmadd_ps(w, a, sum[i]);
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static const struct tr_probe_loop loops[] = {
    {run_dpbusd, "vpdpbusd zmm", 64 * CHAINS, TRUENO_CPU_AVX512F | TRUENO_CPU_AVX512_VNNI,
     TRUENO_PROBE_INT8},
    {run_fma, "vfmadd zmm", 16 * CHAINS, TRUENO_CPU_AVX512F, TRUENO_PROBE_F32},
};

const struct tr_probe_loops tr_probe_loops_avx512 = {loops, sizeof(loops) / sizeof(loops[0])};
