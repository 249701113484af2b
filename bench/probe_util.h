/* SPDX-License-Identifier: MIT */
/* What the machine can do at most, for a number of threads: bytes read from memory per second, and
 * products per second of the best dot-product and multiply-add instructions. Rooflines, shares of
 * the peak and comparisons between runs rest on these two figures.
 *
 * Memory on shared machines changes its speed within minutes, so a probe is meant to be repeated
 * just before and after what it judges: threads, buffer and way of reading are kept between calls.
 * One thread at a time may use a probe. */
#ifndef PROBE_UTIL_H
#define PROBE_UTIL_H

#include <stddef.h>
#include <stdint.h>

enum probe_op {
    PROBE_INT8, /* products of 8-bit integers, summed: quantised weights */
    PROBE_F32   /* fused multiply-adds of float32: F32, F16 and BF16 weights */
};

/* Threads, a buffer, and the fastest way to read it. */
struct probe;

/* Starts n_threads - 1 threads (at least 1 in all; they sleep between probes), fills a buffer of 8
 * times the last cache on huge pages, and tries the ways to read it. `cpu_features`: bits of
 * trueno_cpu_feature that may be used. NULL with a reason in errno. Takes 0.2 to 0.5 s. */
struct probe *probe_new(uint32_t n_threads, uint32_t cpu_features);
void probe_free(struct probe *p);

/* Read bandwidth in GB/s (10^9): median of some passes of all threads over the buffer, which leaves
 * none of the caller's data in the caches. 0.02 to 0.1 s. */
double probe_read_gbs(struct probe *p);

/* Products per second of all threads, in 10^9 (GMAC/s); 0 if the features have no such instruction.
 * Runs in registers: 0.02 s. */
double probe_peak_gmacs(struct probe *p, enum probe_op op);

/* Instruction behind that peak, e.g. "vpdpbusd zmm"; "" if there is none. Static storage. */
const char *probe_instruction(const struct probe *p, enum probe_op op);

/* Bytes of the last-level cache that one CPU sees. */
size_t probe_cache_bytes(void);

/* ------------------------------------------------------------------ of the loops' files */

/* Runs `n` turns of a loop in registers. */
typedef void (*probe_loop_fn)(uint64_t n);

/* The best loop of one instruction set. */
struct probe_loop {
    probe_loop_fn run;
    const char *instruction;
    uint32_t macs;         /* products per turn */
    uint32_t cpu_features; /* every bit that it needs */
    enum probe_op op;
};

struct probe_loops {
    const struct probe_loop *loops;
    size_t count;
};

/* Makes the compiler forget what it knows of a register, and so keep the instruction. */
#if defined(__x86_64__)
#define PROBE_KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__aarch64__)
#define PROBE_KEEP(v) __asm__ volatile("" : "+w"(v))
#endif

/* Before a loop over the chains: its array becomes registers. */
#if defined(__clang__)
#define PROBE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PROBE_UNROLL _Pragma("GCC unroll 16")
#endif

extern const struct probe_loops probe_loops_avx2, probe_loops_avxvnni, probe_loops_avx512;
extern const struct probe_loops probe_loops_neon, probe_loops_dotprod, probe_loops_i8mm;

#endif
