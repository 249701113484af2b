/* SPDX-License-Identifier: MIT */
/* Peak loop of AVX-VNNI: the dot product of AVX-512 VNNI on 256 bits. */
#if !defined(__AVXVNNI__)
#error "compile this file with -mavx2 -mavxvnni"
#endif

#include "tuner/probe.h"

#include <immintrin.h>

enum { CHAINS = 12 };

static void run_dpbusd(uint64_t n)
{
    __m256i sum[CHAINS], w = _mm256_set1_epi8(37), a = _mm256_set1_epi8(-91);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = _mm256_setzero_si256();
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_KEEP(w);
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm256_dpbusd_avx_epi32(sum[i], w, a);
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static const struct tr_probe_loop loops[] = {
    {run_dpbusd, "vpdpbusd ymm", 32 * CHAINS, TRUENO_CPU_AVX2 | TRUENO_CPU_AVX_VNNI,
     TRUENO_PROBE_INT8},
};

const struct tr_probe_loops tr_probe_loops_avxvnni = {loops, sizeof(loops) / sizeof(loops[0])};
