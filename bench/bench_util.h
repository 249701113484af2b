/* SPDX-License-Identifier: MIT */
/* What the parts of trueno-bench share. */
#ifndef BENCH_UTIL_H
#define BENCH_UTIL_H

#include "cli_util.h"

#include "trueno.h"
#include "trueno/machine.h"

enum { BENCH_MAX_LIST = 32 };

/* Median and extremes. Half of a list is not slower than the median: one disturbed run in three
 * does not move it. */
struct spread {
    double median, min, max;
};

/* Sorts `values[n]`, n >= 1. */
struct spread spread_of(double *values, size_t n);

/* Option values such as "1,2,4". */
struct uint_list {
    uint32_t items[BENCH_MAX_LIST];
    size_t n;
};

bool read_uint_list(const char *text, uint32_t max, struct uint_list *out);

/* "93.1 %", or "-" if there is no whole. */
void percent_text(char *out, size_t cap, double part, double whole);

/* What the machine could do, probed before and after each repetition of a test. */
struct roofs {
    trueno_probe *probe;
    trueno_probe_op op;
    double *read, *peak; /* [cap], GB/s and GMAC/s */
    size_t n, cap;
};

/* For up to `cap` probes. @return CLI_OK, or CLI_ERROR after a message; free in any case */
int roofs_new(struct roofs *r, trueno_ctx *ctx, uint32_t n_threads, size_t cap);
void roofs_free(struct roofs *r);
/* Probes both roofs and keeps the figures: 0 where one failed. */
void roofs_probe(struct roofs *r);

/* Formats of quantised weights multiply integers, the others floats. */
trueno_probe_op op_of_type(trueno_dtype type);

/* ------------------------------------------------------------------------- model tests */

/* One line of the result. Rates are of the whole test, attention and all; the roofs are medians. */
struct result {
    const char *path, *cpu;
    trueno_model_info info;
    uint32_t n_threads, n_batch, reps;
    char test[32];
    uint32_t depth;           /* tokens before the test */
    struct spread tps;        /* tokens per second */
    double gbs;               /* bytes of weights per second, in 10^9, each matrix once per batch */
    double gmacs;             /* products with weights per second, in 10^9 */
    double peak_gmacs;        /* 0: unknown */
    struct spread read;       /* bandwidth of the probes before and after, GB/s */
    trueno_features features; /* of the run, for the tuner */
};

/* A format: what is printed for each result, and in the end for all of them. */
struct format {
    const char *name;
    void (*begin)(void);
    void (*row)(const struct result *r);
    int (*end)(const struct result *r, size_t n);
};

/* NULL if there is no such format. */
const struct format *format_find(const char *name);

/* ------------------------------------------------------------------------ the programs */

int bench_models(int argc, char **argv);
int bench_kernels(int argc, char **argv);
int bench_probe(int argc, char **argv);
int bench_traces(int argc, char **argv);
int bench_tuner(int argc, char **argv);

#endif
