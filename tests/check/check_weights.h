/* SPDX-License-Identifier: MIT */
/* Weight rows for the gemm checks: GGUF blocks written byte by byte, so that integers, scales and
 * their special values reach their bounds, which encoded floats never do. */
#ifndef TR_CHECK_WEIGHTS_H
#define TR_CHECK_WEIGHTS_H

#include "check.h"

enum check_weights {
    WEIGHTS_RANDOM,   /* random quants and scales, d of either sign */
    WEIGHTS_MAX,      /* largest quants and scales, largest d */
    WEIGHTS_MIN,      /* smallest quants, scales of largest magnitude (Q6_K: -128) */
    WEIGHTS_EXTREMES, /* each byte of quants at one of its bounds, scales at theirs */
    WEIGHTS_HOLES,    /* random, every third block all zero bytes */
    WEIGHTS_NEGATIVE, /* random, d < 0 */
    WEIGHTS_TINY,     /* random, d an f16 subnormal */
    WEIGHTS_SPECIAL,  /* rows 0, 1, 2, 3 mod 7: one d is NaN, Inf, -Inf, subnormal; others random */
    WEIGHTS_PATTERNS
};
const char *check_weights_name(enum check_weights p);

/* Writes GGUF block row r: k weights, trueno_row_bytes(type, k) bytes. */
void check_weight_row(struct check *t, void *row, trueno_dtype type, size_t k, enum check_weights p,
                      size_t r);

#endif
