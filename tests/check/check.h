/* SPDX-License-Identifier: MIT */
/* The kernel checker's framework: guarded buffers, caught signals, reproducible inputs, comparison
 * and counting. check_main.c walks the registry and calls one function per op (check_fn), which
 * runs its kernel over shapes, alignments and inputs and compares with the reference.
 *
 * A case goes like this:
 *
 *     check_case(t, "n=%zu pattern=%s", n, check_pattern_name(p));
 *     float *x = check_buffer(t, 0, "x", n * 4, CHECK_END, 0);    ends at an unmapped page
 *     float *y = check_buffer(t, 1, "y", n * 4, CHECK_START, 4);  begins 4 bytes past one
 *     check_fill(t, x, n, p);
 *     check_readonly(t, 0);
 *     if (check_call(t, call_it, &args)) check_floats(t, "y", y, want, n);
 *
 * A failed check is printed and counted against the kernel; the function may go on with its next
 * case. Everything here is for one thread. */
#ifndef TR_CHECK_H
#define TR_CHECK_H

#include "simd/kernel.h"

/* Guarded buffers that may be in use at once, and the most bytes of each. */
#define CHECK_SLOTS      32
#define CHECK_SLOT_BYTES ((size_t)16 << 20)
/* Bytes next to a buffer that are watched for stray writes. */
#define CHECK_CANARY_BYTES 256

enum check_place {
    CHECK_END,  /* the last byte lies `shift` bytes before an unmapped page */
    CHECK_START /* the first byte lies `shift` bytes after an unmapped page */
};

struct check_slot {
    const char *name;
    uint8_t *base; /* CHECK_SLOT_BYTES of memory between two unmapped pages; NULL: not mapped yet */
    uint8_t *data; /* the buffer */
    size_t size;
    bool readonly;
};

/* State of a run; families only pass it on, and read `kernel`. */
struct check {
    const struct tr_kernel *kernel; /* the one being checked */
    uint64_t rng;
    bool verbose;
    size_t n_cases, n_failures; /* of the kernel */
    char what[256];             /* the case */
    struct check_slot slots[CHECK_SLOTS];
};

/* Checks one kernel. `ref` is the reference of its op, dtype and act (cpu == 0); it may be k
 * itself, which then is only checked against double precision and for stray accesses. */
typedef void (*check_fn)(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);

/* Runs a check with signals caught. One that is raised outside of check_call ends the check and is
 * a failure of the kernel. */
void check_kernel(struct check *t, check_fn check, const struct tr_kernel *k,
                  const struct tr_kernel *ref);

/* One per op family. */
void check_gemm(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_wide(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_quantize(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_rmsnorm(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_glu(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_rope(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_kv_store(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_attention(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);
void check_attn_merge(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref);

/* Begins a case: its description is printed with every failure. */
void check_case(struct check *t, const char *fmt, ...) TRUENO_PRINTF(2, 3);

/* Reports a failure of the kernel in this case. The first few of a kernel are printed. */
void check_fail(struct check *t, const char *fmt, ...) TRUENO_PRINTF(2, 3);

/* Buffer `slot` anew: writable, filled with the canary byte, as are the bytes around it. Its
 * address is what place, shift and size make it: CHECK_END with shift 0 aligns to size mod 64. */
void *check_buffer(struct check *t, unsigned slot, const char *name, size_t size,
                   enum check_place place, size_t shift);

/* From here on a write to the pages of the buffer is a caught SIGSEGV. */
void check_readonly(struct check *t, unsigned slot);

/* Forgets all buffers: their canaries are watched no longer. */
void check_release(struct check *t);

/* Calls fn(arg). False, and a failure, if it raised a signal, wrote next to a buffer in use, or
 * left another rounding mode or FTZ/DAZ behind. */
bool check_call(struct check *t, void (*fn)(void *), void *arg);

/* Equal bytes; equal bits or both NaN. False, and a failure that names the first difference. */
bool check_bytes(struct check *t, const char *name, const void *got, const void *want, size_t n);
bool check_floats(struct check *t, const char *name, const float *got, const float *want, size_t n);

/* ---------------------------------------------------------------- inputs */

uint64_t check_u64(struct check *t);                      /* uniform bits */
size_t check_below(struct check *t, size_t n);            /* uniform in [0, n) */
float check_uniform(struct check *t, float lo, float hi); /* uniform in [lo, hi) */
float check_normal(struct check *t);                      /* mean 0, variance 1 */
void check_random_bytes(struct check *t, void *p, size_t n);

enum check_pattern {
    CHECK_NORMAL,   /* Gaussian */
    CHECK_OUTLIERS, /* Gaussian, one in 64 a hundred times larger */
    CHECK_ZERO,
    CHECK_NEG_ZERO, /* -0.0 and +0.0 mixed */
    CHECK_MAX,      /* all 127 */
    CHECK_MIN,      /* all -127 */
    CHECK_SIGNS,    /* 127 or -127 at random */
    CHECK_TIES,     /* multiples of one half up to 127: rounding ties */
    CHECK_HUGE,     /* up to 1e30 in magnitude */
    CHECK_TINY,     /* denormals */
    CHECK_MIXED,    /* exponents from denormal to 1e30 */
    CHECK_NAN,      /* Gaussian with a few NaN */
    CHECK_INF,      /* Gaussian with a few infinities of either sign */
    CHECK_PATTERNS
};
const char *check_pattern_name(enum check_pattern p);
void check_fill(struct check *t, float *x, size_t n, enum check_pattern p);

/* True if every value of the pattern is finite. */
bool check_pattern_finite(enum check_pattern p);

#endif
