/* SPDX-License-Identifier: MIT */
/* The roofline of a run (Williams, Waterman, Patterson 2009): no pass is faster than its bytes over
 * the memory bandwidth, nor than its operations over the peak. */
#ifndef TR_ROOFLINE_H
#define TR_ROOFLINE_H

#include "tuner/features.h"

struct tr_roofline {
    double tokens; /* that one pass puts out: decode batch x (1 + draft), prefill batch x prompt */
    double weight_bytes, kv_bytes;        /* that it reads; what a cache holds need not be moved */
    double matmul_flops, attention_flops; /* a multiply-add is two */
    double from_memory;                   /* share of these bytes that the cache does not hold */
    double t_mem, t_cmp;                  /* seconds that each side needs alone */
    double t_floor;                       /* the larger: seconds of a pass, at least */
    double tps;                           /* tokens / t_floor */
};

/* Shares of bandwidth and of peak that runs on a device usually reach. Medians over published runs
 * of other engines for GPUs (GDDR 0.75, unified memory 0.73); guesses for CPUs (0.85) and for
 * compute (CPU 0.60, GPU 0.45). */
struct tr_usual {
    double mem, cmp;
};
struct tr_usual tr_usual_of(const tr_raw_values raw);
struct tr_usual tr_usual_of_cpu(void);

/* Of two that overlap the smaller one counts this much: a guess. */
#define TR_OVERLAP 0.2

/* Seconds of two things that are done together. */
static inline double tr_overlapped(double a, double b)
{
    return a > b ? a + TR_OVERLAP * b : b + TR_OVERLAP * a;
}

/* Exact side fields of f count where they are given; else bytes and operations follow from size and
 * geometry, with keys and values in F16. Bandwidth and peak are slots 30 and 31.
 * ERR_INVALID_FEATURE as trueno_features_validate, and where the size of the model is unknown. */
trueno_status tr_roofline_of(struct tr_roofline *out, const trueno_features *f, trueno_error *err);

/* The same from values that were resolved from f. */
trueno_status tr_roofline_of_raw(struct tr_roofline *out, const tr_raw_values raw,
                                 const trueno_features *f, trueno_error *err);

#endif
