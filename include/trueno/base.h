/* SPDX-License-Identifier: MIT */
/** @file base.h
 *  Context, status codes, errors, CPU features: what every other header rests on.
 *
 *  Conventions of the whole API
 *  - Every call that can fail returns a `trueno_status`. Results come by out-parameter, which is
 * set to NULL or 0 on failure. Where there is something to say, an optional `trueno_error *err`
 * (NULL is fine) receives the status and a sentence that names the file, key, tensor or argument,
 * the value found and the limit. On success `err` is not touched.
 *  - Handles are opaque. `..._free(NULL)` does nothing. Who owns what is written above each
 * function.
 *  - Option and result structs begin with `size_t struct_size`; initialise them with the `..._INIT`
 * macro. Fields are only ever appended, so a program built against an older header keeps working.
 *  - Sizes count elements; sizes in bytes end in `_bytes`. Text is UTF-8 with an explicit length
 * unless said.
 *  - The library never aborts, exits, raises a signal, prints, or changes locale, environment,
 * signal handlers or floating-point mode. It has no mutable global state beyond three tables that
 * are filled once: what the CPU has, the list of kernels, and what was found in OpenBLAS, which is
 * loaded only where a context asks for its kernels. (A pool's own threads remember which they are.)
 *
 *  Threads: a `trueno_ctx` may be used from any thread at the same time. Its callbacks may be
 * called from any thread that is inside a call of the library.
 */
#ifndef TRUENO_BASE_H
#define TRUENO_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define TRUENO_API
#elif defined(__GNUC__)
#define TRUENO_API __attribute__((visibility("default")))
#else
#define TRUENO_API
#endif

#if defined(__GNUC__)
#define TRUENO_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define TRUENO_PRINTF(fmt, args)
#endif

#define TRUENO_VERSION_MAJOR 0       /**< version of this header: major */
#define TRUENO_VERSION_MINOR 1       /**< minor */
#define TRUENO_VERSION_PATCH 0       /**< patch */
#define TRUENO_VERSION       "0.1.0" /**< all of it; compare with trueno_version() */

/** Version of the library that is linked, as "major.minor.patch". Static storage. */
TRUENO_API const char *trueno_version(void);

/* ---------------------------------------------------------------- status */

/** Result of every call that can fail. Values are frozen: they are part of the ABI. */
typedef enum trueno_status {
    TRUENO_OK = 0,              /**< success */
    TRUENO_ERR_ARGUMENT = 1,    /**< a wrong argument: NULL, out of range, wrong struct_size */
    TRUENO_ERR_IO = 2,          /**< open, read, write, sync or rename failed */
    TRUENO_ERR_TRUNCATED = 3,   /**< the input ends before what it announces */
    TRUENO_ERR_CORRUPT = 4,     /**< the input contradicts its format */
    TRUENO_ERR_UNSUPPORTED = 5, /**< valid, known, and not done by this library or this build */
    TRUENO_ERR_TOO_LARGE = 6,   /**< above a cap; the message names the option that raises it */
    TRUENO_ERR_NO_MEMORY = 7,   /**< the allocator returned NULL */
    TRUENO_ERR_CANCELLED = 8,   /**< the cancel callback said so; objects are as before the call */
    TRUENO_ERR_BUSY = 9,        /**< the object is in use by another call */
    TRUENO_ERR_DEVICE = 10,     /**< a GPU or its driver failed */
    TRUENO_ERR_NOT_FOUND = 11,  /**< no key, tensor, kernel or template of that name */
    TRUENO_ERR_NUMERIC = 12,    /**< NaN or infinity where a number is needed, as in logits */
    TRUENO_ERR_INVALID_FEATURE = 13,   /**< features of the tuner out of range or contradictory */
    TRUENO_ERR_INSUFFICIENT_DATA = 14, /**< too few rows to learn from */
    TRUENO_ERR_TRAINING = 15,     /**< nothing can be learned from these rows: the fit failed */
    TRUENO_ERR_PREDICTION = 16,   /**< the features do not suffice for a prediction */
    TRUENO_ERR_NOT_MEASURED = 17, /**< a figure that only a measurement gives was never measured */
    TRUENO_ERR_READ_ONLY = 18,    /**< a file cannot be written: no permission, or the file system
                                     is read-only */
    TRUENO_ERR_FORMAT = 19,       /**< the input is of another format: wrong magic or syntax */
    TRUENO_ERR_VERSION = 20,      /**< the input is of a newer major version */
    TRUENO_ERR_STRICT_MISS = 21,  /**< a strict tuner knows nothing of that problem */
    TRUENO_ERR_NOISY = 22,        /**< the machine is too unsteady to measure differences */
    TRUENO_ERR_BUDGET_EXCEEDED = 23, /**< a run took longer than the budget that is enforced */
    TRUENO_ERR_ASSERTION = 24        /**< an assertion of a brick failed */
} trueno_status;

/** Name of a status, e.g. "corrupt". Never NULL; static storage; unknown values give "unknown
 * status". */
TRUENO_API const char *trueno_status_str(trueno_status status);

/** Length of an error message with its terminating NUL. */
#define TRUENO_ERROR_MAX 512

/** What went wrong, in words. Plain data owned by the caller; needs no initialisation. */
typedef struct trueno_error {
    trueno_status status;           /**< the status that the failed call returned */
    char message[TRUENO_ERROR_MAX]; /**< NUL-terminated sentence; bytes from files are escaped to
                                       printable ASCII */
} trueno_error;

/* --------------------------------------------------------------- context */

/** Hooks for memory. All three or none. They must be safe to call from several threads at once.
 *  `alloc` and `realloc` return memory aligned for any C type, or NULL. `realloc(user, NULL, n)` is
 * `alloc`. `free(user, NULL)` does nothing. Every byte the library holds comes from here (threads'
 * stacks and file mappings excepted); without hooks malloc is used, and large arrays come from
 * anonymous mappings with huge pages. */
typedef struct trueno_allocator {
    void *(*alloc)(void *user, size_t size_bytes);              /**< as malloc */
    void *(*realloc)(void *user, void *ptr, size_t size_bytes); /**< as realloc */
    void (*free)(void *user, void *ptr);                        /**< as free */
    void *user;                                                 /**< passed to all three */
} trueno_allocator;

/** Severity of a log line. */
typedef enum trueno_log_level {
    TRUENO_LOG_DEBUG = 0,
    TRUENO_LOG_INFO = 1,
    TRUENO_LOG_WARN = 2,
    TRUENO_LOG_ERROR = 3
} trueno_log_level;

/** Receives one log line, NUL-terminated and without a newline. Valid during the call only. */
typedef void (*trueno_log_fn)(void *user, trueno_log_level level, const char *message);

/** Progress of a long call. `what` names the phase ("load", "quantize"), `done` runs from 0 to
 * `total` (bytes). */
typedef void (*trueno_progress_fn)(void *user, const char *what, uint64_t done, uint64_t total);

/** Return true to make the running call stop with TRUENO_ERR_CANCELLED. Polled at least once per
 * layer. */
typedef bool (*trueno_cancel_fn)(void *user);

/** What a context may compute with. Values are frozen. */
typedef enum trueno_numerics {
    TRUENO_NUMERICS_EXACT = 0,  /**< kernels that give the bits of the C reference, and no others */
    TRUENO_NUMERICS_BOUNDED = 1 /**< also kernels that add in another, fixed order: results depend
                                   on the machine and on batch sizes within rounding errors */
} trueno_numerics;

/** How a context is made. Zero is the default of every field. */
typedef struct trueno_ctx_options {
    size_t struct_size;
    trueno_allocator allocator;  /**< all NULL: the C library */
    trueno_log_fn log;           /**< NULL: silent */
    void *log_user;              /**< passed to `log` */
    trueno_log_level log_level;  /**< lines below this level are not made */
    trueno_progress_fn progress; /**< NULL: none */
    void *progress_user;         /**< passed to `progress` */
    trueno_cancel_fn cancel;     /**< NULL: never */
    void *cancel_user;           /**< passed to `cancel` */
    const char *
        cpu; /**< cap on the instruction set, a name of trueno_cpu_level; NULL: environment variable
                  TRUENO_CPU if set, else what the CPU has. An unknown name is TRUENO_ERR_ARGUMENT;
                a level above the machine is lowered to what the CPU has. Copied. */
    const char *kernels; /**< names of kernels (kernels.h) to use where they apply, separated by
                            commas; NULL: environment variable TRUENO_KERNEL if set, else none. A
                            name counts for its operation and type alone. Matrices, models and
                            sessions are refused with TRUENO_ERR_ARGUMENT while the list holds a
                            name that is unknown or that this machine cannot run. Copied. */
    trueno_numerics numerics; /**< which kernels may be chosen; those in `kernels` always may */
} trueno_ctx_options;

#define TRUENO_CTX_OPTIONS_INIT                                                                    \
    {                                                                                              \
        sizeof(trueno_ctx_options), {NULL, NULL, NULL, NULL}, NULL, NULL, TRUENO_LOG_DEBUG, NULL,  \
            NULL, NULL, NULL, NULL, NULL, TRUENO_NUMERICS_EXACT                                    \
    }

/** A context: allocator, callbacks and CPU choice, shared by all objects made from it. */
typedef struct trueno_ctx trueno_ctx;

/** Makes a context. `opt` NULL: defaults. On success the caller owns `*out`; objects made from it
 * hold a reference, so trueno_ctx_free may be called before or after they are freed.
 *  @return OK, ERR_ARGUMENT, ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_ctx_new(trueno_ctx **out, const trueno_ctx_options *opt,
                                        trueno_error *err);

/** Gives up the caller's reference. */
TRUENO_API void trueno_ctx_free(trueno_ctx *ctx);

/** Bytes that objects of this context hold now, and the most they ever held; either pointer may be
 * NULL. Counts what was asked of the allocator, without its own overhead. */
TRUENO_API void trueno_ctx_memory(const trueno_ctx *ctx, uint64_t *now_bytes, uint64_t *peak_bytes);

/* ------------------------------------------------------------------- CPU */

/** Instruction-set extensions that kernels ask for. A kernel runs only when all of its bits are
 * there, the operating system saves their registers, and the context's level allows them. Values
 * are frozen. */
typedef enum trueno_cpu_feature {
    TRUENO_CPU_AVX2 = 1 << 0,
    TRUENO_CPU_FMA = 1 << 1,
    TRUENO_CPU_F16C = 1 << 2,
    TRUENO_CPU_AVX_VNNI = 1 << 3,
    TRUENO_CPU_AVX512F = 1 << 4,
    TRUENO_CPU_AVX512BW = 1 << 5,
    TRUENO_CPU_AVX512VL = 1 << 6,
    TRUENO_CPU_AVX512DQ = 1 << 7,
    TRUENO_CPU_AVX512_VNNI = 1 << 8,
    TRUENO_CPU_AVX512_BF16 = 1 << 9,
    TRUENO_CPU_AVX512_VBMI = 1 << 10,
    TRUENO_CPU_AMX_INT8 = 1 << 11,
    TRUENO_CPU_AMX_BF16 = 1 << 12,
    TRUENO_CPU_NEON = 1 << 16,
    TRUENO_CPU_DOTPROD = 1 << 17,
    TRUENO_CPU_I8MM = 1 << 18
} trueno_cpu_feature;

/** Features that this context may use: those of the CPU, cut to the level asked for. */
TRUENO_API uint32_t trueno_ctx_cpu_features(const trueno_ctx *ctx);

/** Features that the CPU and the operating system have, whatever a context allows. */
TRUENO_API uint32_t trueno_cpu_features(void);

/** Name of one feature bit, e.g. "avx512_vnni"; NULL for a value that is not exactly one known bit.
 */
TRUENO_API const char *trueno_cpu_feature_name(uint32_t feature);

/** Levels by index from 0, lowest first: "ref", then on x86-64 "avx2", "avxvnni", "avx512", "amx",
 * on ARM "neon", "dotprod", "i8mm". NULL past the end. "ref" allows no extension: the C reference
 * kernels run. */
TRUENO_API const char *trueno_cpu_level(size_t index);

/** The highest level of this list that the context's features satisfy. Static storage. */
TRUENO_API const char *trueno_ctx_cpu_level(const trueno_ctx *ctx);

/** Number of CPUs that this process may run on (affinity mask and cgroup quota), at least 1: the
 * default of every thread count. */
TRUENO_API uint32_t trueno_cpu_count(void);

#ifdef __cplusplus
}
#endif
#endif
