/* SPDX-License-Identifier: MIT */
/* What the tests of the matrix kernels share: the list of weight types, random data from a fixed
 * seed, and the double-precision comparison. */
#ifndef SIMD_TEST_H
#define SIMD_TEST_H

/* cmocka wants these four before it */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "trueno/gguf.h"

/* Every type that can be packed. */
#define TEST_N_TYPES 13
extern const trueno_dtype test_types[TEST_N_TYPES];

/* Memory of exactly that size, for the address sanitizer; ends the test if there is none. */
void *test_alloc(size_t bytes);

/* splitmix64: the next of a sequence that depends on nothing but its seed. */
uint64_t random_bits(uint64_t *state);
/* Uniform in [-1, 1). */
float random_uniform(uint64_t *state);

void fill_random(void *dst, size_t bytes, uint64_t seed);
void fill_uniform(float *dst, size_t n, uint64_t seed);

/* n_rows rows of k weights with random quants and scales of ordinary size, one after the other:
 * what a quantised matrix looks like. The caller frees it. */
uint8_t *random_weights(trueno_dtype t, size_t n_rows, size_t k, uint64_t seed);

/* sum (a - b)^2 / sum a^2; NaN if either holds one. */
double nmse(const double *a, const float *b, size_t n);

#endif
