/* SPDX-License-Identifier: MIT */
/* Peak loops of plain NEON: 8-bit products widened to 16 bits, and float32 multiply-adds. */
#if !defined(__aarch64__)
#error "compile this file for AArch64"
#endif

#include "tuner/probe.h"

#include <arm_neon.h>

enum { CHAINS = 16 };

static void run_mlal(uint64_t n)
{
    int16x8_t sum[CHAINS];
    int8x8_t w = vdup_n_s8(15), a = vdup_n_s8(-91);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_s16(0);
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_KEEP(w);
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = vmlal_s8(sum[i], w, a);
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static void run_fma(uint64_t n)
{
    float32x4_t sum[CHAINS], w = vdupq_n_f32(0.37F), a = vdupq_n_f32(-0.91F);
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) {
        sum[i] = vdupq_n_f32(0);
        TR_PROBE_KEEP(sum[i]); /* else all chains are one */
    }
    for (; n > 0; n--) {
        TR_PROBE_KEEP(w);
        TR_PROBE_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = vfmaq_f32(sum[i], w, a);
    }
    TR_PROBE_UNROLL
    for (int i = 0; i < CHAINS; i++) TR_PROBE_KEEP(sum[i]);
}

static const struct tr_probe_loop loops[] = {
    {run_mlal, "smlal", 8 * CHAINS, TRUENO_CPU_NEON, TRUENO_PROBE_INT8},
    {run_fma, "fmla", 4 * CHAINS, TRUENO_CPU_NEON, TRUENO_PROBE_F32},
};

const struct tr_probe_loops tr_probe_loops_neon = {loops, sizeof(loops) / sizeof(loops[0])};
