/* SPDX-License-Identifier: MIT */
/* What other layers need of the public matrices. */
#ifndef TR_MATRIX_API_H
#define TR_MATRIX_API_H

#include "matrix.h"

/* Columns whose activations are packed at once: bounds the memory of a call. */
#define TR_MATMUL_COLS 512

/* The inside of a public matrix. It is a value: a copy with another `gemm` (and `wide` NULL)
 * multiplies the same weights with that kernel, which must read the same activations. */
const struct tr_matrix *tr_matrix_of(const trueno_matrix *w);

#endif
