/* SPDX-License-Identifier: MIT */
/** @file machine.h
 *  What machine this is, what it can do at most, and features taken from both.
 *
 *  trueno_machine_get asks the operating system and the CPU; it measures nothing. A
 * `trueno_probe` measures: bytes read from memory per second, and products per second of the best
 * instruction. Rooflines, shares of the peak and comparisons between runs rest on these two
 * figures. trueno_features_from_env puts both together with the exact sizes of a model file.
 *
 *  What cannot be found out is 0 or TRUENO_UNSET; no constant stands in for it.
 *
 *     trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
 *     trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
 *     trueno_features f = TRUENO_FEATURES_INIT;
 *     trueno_machine_measure(ctx, &profile, NULL, 0, 500, &err);
 *     opt.gguf = file;
 *     opt.profile = &(profile);
 *     trueno_features_from_env(ctx, &f, &opt, &err);
 */
#ifndef TRUENO_MACHINE_H
#define TRUENO_MACHINE_H

#include "base.h"
#include "features.h"
#include "gguf.h"

#ifdef __cplusplus
extern "C" {
#endif

/* --------------------------------------------------------------- the machine */

/** Room for trueno_machine.id with its NUL. */
#define TRUENO_MACHINE_ID_MAX 64

/** The machine as this process and this context may use it. "" and 0: unknown. Measurements made on
 * one machine count on another only if their ids are the same; of the *soft* fields, which are not
 * in the id, they only have to be checked again. */
typedef struct trueno_machine {
    size_t struct_size;
    char id[TRUENO_MACHINE_ID_MAX]; /**< name of the CPU, its numbers, cores, level, and a CRC-32 of
                                       all fields that are not soft; has no serial number, host or
                                       user name: "amd-epyc-26.2.1-2c-avx512-1a2b3c4d" */
    char cpu_vendor[16];            /**< x86: "AuthenticAMD"; ARM: implementer, "0x41" */
    char cpu_name[64];              /**< as the CPU calls itself (soft) */
    uint32_t cpu_family;            /**< x86: family; ARM: architecture */
    uint32_t cpu_model;             /**< x86: model; ARM: part */
    uint32_t cpu_stepping;          /**< x86: stepping; ARM: variant x 16 + revision */
    uint32_t cpu_features;          /**< trueno_ctx_cpu_features of the context */
    bool hypervisor;                /**< a virtual machine, as far as it admits that */
    uint32_t cpus;                  /**< logical CPUs in the affinity mask of the calling thread */
    uint32_t cores;                 /**< physical cores that these belong to */
    uint32_t numa_nodes;            /**< memory nodes that these belong to */
    uint64_t l1d_bytes;             /**< first-level data cache that one of these sees */
    uint64_t l2_bytes;              /**< second level */
    uint64_t llc_bytes;             /**< last level */
    uint32_t quota_cpus;            /**< CPUs' worth of time that the control group allows, rounded
                                       up; 0: as much as there is (soft) */
    uint32_t threads;               /**< that can compute at once: cpus, cut to the quota (soft) */
    uint32_t usable_cores;          /**< cores, cut to the quota (soft) */
    uint64_t ram_bytes;             /**< memory, cut to the limit of the control group (soft) */
    double power_limit_w;           /**< long-term limit of all CPU packages, W, where the system
                                       lets us read it (RAPL) (soft) */
} trueno_machine;

#define TRUENO_MACHINE_INIT                                                                        \
    {                                                                                              \
        sizeof(trueno_machine), "", "", "", 0, 0, 0, 0, false, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0     \
    }

/** Finds out, from the CPU, /proc and /sys. Nothing is kept between calls: affinity and quota may
 * have changed. On failure *out is as TRUENO_MACHINE_INIT.
 *  @return OK; ERR_ARGUMENT (NULL, wrong struct_size) */
TRUENO_API trueno_status trueno_machine_get(trueno_ctx *ctx, trueno_machine *out,
                                            trueno_error *err);

/** Bytes of the last-level cache that the calling thread's CPU sees; 0: unknown. */
TRUENO_API size_t trueno_cache_bytes(void);

/* --------------------------------------------------------------------- probes */

/** What a peak is of. Values are frozen. */
typedef enum trueno_probe_op {
    TRUENO_PROBE_INT8 = 0, /**< products of 8-bit integers, summed: quantised weights */
    TRUENO_PROBE_F32 = 1   /**< fused multiply-adds of float32: F32, F16 and BF16 weights */
} trueno_probe_op;

/** Threads, a buffer, and the fastest way to read it. Memory on shared machines changes its speed
 * within minutes, so a probe is meant to be repeated just before and after what it judges. One
 * thread at a time may use a probe. */
typedef struct trueno_probe trueno_probe;

/** Starts n_threads - 1 threads (0: trueno_cpu_count() in all; they sleep between probes), fills a
 * buffer of 8 times the last cache (64 MiB to 1 GiB, but at most a quarter of the memory that may
 * be used), and tries the ways to read it: 0.2 to 0.5 s, more on machines with large caches. The
 * caller owns *out.
 *  @return OK; ERR_ARGUMENT (more than 1024 threads); ERR_NO_MEMORY (also where the system refuses
 * a thread); ERR_CANCELLED */
TRUENO_API trueno_status trueno_probe_new(trueno_ctx *ctx, trueno_probe **out, uint32_t n_threads,
                                          trueno_error *err);

/** Ends its threads; NULL is fine. */
TRUENO_API void trueno_probe_free(trueno_probe *p);

/** Read bandwidth in GB/s (10^9): median of five passes of all threads over the buffer, which
 * leaves none of the caller's data in the caches. 0.02 to 0.1 s. *gbs is 0 on failure.
 *  @return OK; ERR_ARGUMENT; ERR_CANCELLED */
TRUENO_API trueno_status trueno_probe_read_gbs(trueno_probe *p, double *gbs, trueno_error *err);

/** Products per second of all threads at once, in 10^9 (GMAC/s): median of nine passes in
 * registers, 0.02 s. 0 if the context has no such instruction, and on failure.
 *  @return OK; ERR_ARGUMENT; ERR_CANCELLED */
TRUENO_API trueno_status trueno_probe_peak_gmacs(trueno_probe *p, trueno_probe_op op, double *gmacs,
                                                 trueno_error *err);

/** Instruction behind that peak, e.g. "vpdpbusd zmm"; "" if there is none. Static storage. */
TRUENO_API const char *trueno_probe_instruction(const trueno_probe *p, trueno_probe_op op);

/* -------------------------------------------------------------------- profiles */

/** Thread counts that a profile can hold. */
#define TRUENO_MACHINE_POINTS 16

/** What was measured with one number of threads, all of them at once. */
typedef struct trueno_machine_point {
    uint32_t threads;  /**< that measured */
    double read_gbs;   /**< 10^9 B/s read from memory */
    double int8_gmacs; /**< 10^9 products of 8-bit integers per second; 0: no such instruction */
    double f32_gmacs;  /**< 10^9 multiply-adds of float32 per second; 0: no such instruction */
} trueno_machine_point;

/** Measurements of a machine. Plain data: it may be kept and used again on the same machine. */
typedef struct trueno_machine_profile {
    size_t struct_size;
    uint32_t n;        /**< points in use */
    uint32_t spent_ms; /**< that measuring took */
    /** n of them */
    trueno_machine_point points[TRUENO_MACHINE_POINTS];
} trueno_machine_profile;

#define TRUENO_MACHINE_PROFILE_INIT                                                                \
    {                                                                                              \
        sizeof(trueno_machine_profile), 0, 0,                                                      \
        {                                                                                          \
            {                                                                                      \
                0, 0, 0, 0                                                                         \
            }                                                                                      \
        }                                                                                          \
    }

/** Measures with each of n numbers of threads (0 in the list, or n = 0: trueno_cpu_count()), in
 * that order. After budget_ms no further pass is begun: a number of threads that was not begun by
 * then is left out, and one that was has fewer passes behind it. The first is always measured, with
 * at least one pass each, which takes as long as filling and reading the buffer of a probe once. On
 * failure *out is as TRUENO_MACHINE_PROFILE_INIT.
 *  @return OK (out->n may be smaller than n); ERR_ARGUMENT (NULL, more than TRUENO_MACHINE_POINTS
 * numbers, budget_ms is 0); as trueno_probe_new */
TRUENO_API trueno_status trueno_machine_measure(trueno_ctx *ctx, trueno_machine_profile *out,
                                                const uint32_t *threads, size_t n,
                                                uint32_t budget_ms, trueno_error *err);

/* -------------------------------------------------------------------- features */

/** What features are taken from. */
typedef struct trueno_env_options {
    size_t struct_size;
    const trueno_gguf *gguf; /**< the model; metadata is enough; NULL: the machine alone */
    const trueno_machine_profile *profile; /**< what was measured before, on this machine; NULL:
                                              nothing */
    int32_t device;    /**< where the weights are computed with: -1 is the CPU, and there is no
                          other yet */
    uint32_t threads;  /**< that are to compute; 0: trueno_cpu_count() */
    uint32_t probe_ms; /**< budget to measure that number of threads if the profile lacks it; 0:
                          nothing is timed */
} trueno_env_options;

#define TRUENO_ENV_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(trueno_env_options), NULL, NULL, -1, 0, 0                                           \
    }

/** Fills *f anew from the machine and a model file; how the model is used (batch, tokens, phase) is
 * left unset for the caller. opt NULL: defaults.
 *
 *  Machine: slots 32 to 41 for a run on the CPU, and cache_bytes. gpu_mem_bw_gbs and
 * gpu_compute_tflops (two operations a product; int8 products for quantised weights, else float32)
 * are those measured with that number of threads; without a measurement they stay TRUENO_UNSET, and
 * predictions from such features are refused.
 *
 *  File: model_params_b counts all tensors. `quant` is the type with most bytes among the matrices
 * that a pass multiplies with (the token table only where it is the output matrix too);
 * bits_per_weight is their true mean, or that of the type if the mean is outside what
 * trueno_features_validate takes. weight_bytes_per_pass is of the same matrices; of experts the
 * share that one token uses. flops_per_token (two a weight, attention not included) is set for
 * models with experts alone: those of dense ones follow from the geometry. kv_bytes_per_token is
 * that of an F16 cache. Geometry comes from the keys; where layers differ from the layer with most
 * heads, and the widest feed-forward. A key that is not there leaves its field unset.
 *
 *  On failure *f is as TRUENO_FEATURES_INIT.
 *  @return OK; ERR_ARGUMENT (NULL, wrong struct_size, more than 1024 threads); ERR_UNSUPPORTED (a
 * device; weights of a type that trueno_quant lacks); ERR_NOT_FOUND: a file without matrices;
 * ERR_CORRUPT: a key of another type; ERR_INVALID_FEATURE: a number outside a field's range, as for
 * a model below 10^5 weights; as trueno_machine_measure */
TRUENO_API trueno_status trueno_features_from_env(trueno_ctx *ctx, trueno_features *f,
                                                  const trueno_env_options *opt, trueno_error *err);

#ifdef __cplusplus
}
#endif
#endif
