/* SPDX-License-Identifier: MIT */
/* Probes with a time limit, and the loops behind their peaks (trueno/machine.h). */
#ifndef TR_PROBE_H
#define TR_PROBE_H

#include "trueno/machine.h"

/* As trueno_probe_new. From `deadline` (as tr_now_ns, 0: never) on no pass is begun whose result
 * can be done without: fewer ways to read are tried, and later probes have fewer passes behind
 * them, at least one. */
trueno_status tr_probe_new_until(trueno_ctx *ctx, trueno_probe **out, uint32_t n_threads,
                                 uint64_t deadline, trueno_error *err);

/* ------------------------------------------------------------------ of the loops' files */

/* Runs `n` turns of a loop in registers. */
typedef void (*tr_probe_loop_fn)(uint64_t n);

/* The best loop of one instruction set. */
struct tr_probe_loop {
    tr_probe_loop_fn run;
    const char *instruction;
    uint32_t macs;         /* products per turn */
    uint32_t cpu_features; /* every bit that it needs */
    trueno_probe_op op;
};

struct tr_probe_loops {
    const struct tr_probe_loop *loops;
    size_t count;
};

/* Makes the compiler forget what it knows of a register, and so keep the instruction. */
#if defined(__x86_64__)
#define TR_PROBE_KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__aarch64__)
#define TR_PROBE_KEEP(v) __asm__ volatile("" : "+w"(v))
#endif

/* Before a loop over the chains: its array becomes registers. */
#if defined(__clang__)
#define TR_PROBE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define TR_PROBE_UNROLL _Pragma("GCC unroll 16")
#endif

extern const struct tr_probe_loops tr_probe_loops_avx2, tr_probe_loops_avxvnni,
    tr_probe_loops_avx512;
extern const struct tr_probe_loops tr_probe_loops_neon, tr_probe_loops_dotprod, tr_probe_loops_i8mm;

#endif
