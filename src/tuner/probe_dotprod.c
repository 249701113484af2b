/* SPDX-License-Identifier: MIT */
/* Peak loop of the ARM dot products: four sums of four products. */
#if !defined(__ARM_FEATURE_DOTPROD)
#error "compile this file with -march=armv8.2-a+dotprod"
#endif

#include "tuner/probe.h"

#include <arm_neon.h>

enum { CHAINS = 16 };

static void run_sdot(uint64_t n)
{
    int32x4_t sum[CHAINS];
    int8x16_t w = vdupq_n_s8(37), a = vdupq_n_s8(-91);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_s32(0);
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_KEEP(w);
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = vdotq_s32(sum[i], w, a);
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static const struct tr_probe_loop loops[] = {
    {run_sdot, "sdot", 16 * CHAINS, TRUENO_CPU_NEON | TRUENO_CPU_DOTPROD, TRUENO_PROBE_INT8},
};

const struct tr_probe_loops tr_probe_loops_dotprod = {loops, sizeof(loops) / sizeof(loops[0])};
