/* SPDX-License-Identifier: MIT */
/* Reproducible data for the tests of the quant layer. tests/compare_ggml.py makes the same numbers,
 * so a change here asks for new golden figures. */
#ifndef QUANT_TEST_H
#define QUANT_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "quant/blocks.h"
#include "quant/half.h"
#include "trueno/quantize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* splitmix64 (Steele, Lea, Flood 2014) */
static inline uint64_t next_u64(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

/* -2^23 .. 2^23 - 1 */
static inline int next_i24(uint64_t *state)
{
    return (int)(next_u64(state) >> 40) - (1 << 23);
}

enum distribution { COSINE, BELL, UNIFORM, HEAVY, DISTRIBUTIONS };

/* Number i of a distribution: 0.1 + 2 cos(i); the sum of four uniform numbers; one uniform number
 * in [-1, 1); the cube of one, whose tails are long. */
static inline float next_float(enum distribution kind, size_t i, uint64_t *state)
{
    float u;
    int sum;
    switch (kind) {
    case COSINE: return (float)(0.1 + 2.0 * cos((double)i));
    case BELL:
        sum = next_i24(state);
        sum += next_i24(state);
        sum += next_i24(state);
        sum += next_i24(state);
        return (float)sum * 0x1p-23F;
    case HEAVY: u = (float)next_i24(state) * 0x1p-23F; return u * u * u;
    default: return (float)next_i24(state) * 0x1p-23F;
    }
}

static inline void fill(float *x, size_t n, enum distribution kind, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) x[i] = next_float(kind, i, &seed);
}

/* Exactly `size` bytes on the heap, so that sanitizers see the byte after them. */
static inline void *buffer(size_t size)
{
    void *p = malloc(size ? size : 1);
    assert_non_null(p);
    return p;
}

/* Encodes and decodes; root of the mean squared error. */
static inline double rmse(const float *x, trueno_dtype type, size_t n)
{
    void *encoded = buffer(trueno_row_bytes(type, n));
    float *y = buffer(n * sizeof *y);
    double sum = 0;
    assert_int_equal(trueno_quantize(encoded, x, type, n), TRUENO_OK);
    assert_int_equal(trueno_dequantize(y, encoded, type, n), TRUENO_OK);
    for (size_t i = 0; i < n; i++) sum += pow((double)x[i] - (double)y[i], 2);
    free(encoded);
    free(y);
    return sqrt(sum / (double)n);
}

#endif
