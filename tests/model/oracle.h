/* SPDX-License-Identifier: MIT */
/* A second implementation of the forward pass, in double, from the papers and the list of
 * architecture differences: no batches, no cache types, no kernels, no code of the library but the
 * reader and the dequantiser. */
#ifndef TR_ORACLE_H
#define TR_ORACLE_H

#include "model/toy.h"

/* logits [n][n_vocab] of n tokens from position 0; the caller frees. n_ctx chooses between long and
 * short factors. */
double *oracle_logits(const trueno_gguf *g, const struct toy *t, const trueno_token *tokens,
                      size_t n, uint32_t n_ctx);

#endif
