/* SPDX-License-Identifier: MIT */
/* Little-endian numbers at any address, and arrays that grow. */
#ifndef TR_BYTES_H
#define TR_BYTES_H

#include "trueno/base.h"

/* `n` bytes (1..8) as an unsigned number. */
static inline uint64_t tr_load_le(const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    uint64_t x = 0;
    for (size_t i = 0; i < n; i++) x |= (uint64_t)p[i] << (8 * i);
    return x;
}

static inline void tr_store_le(void *bytes, uint64_t x, size_t n)
{
    uint8_t *p = bytes;
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(x >> (8 * i));
}

/* A growing array of bytes, or of anything with a fixed size. Zeroed: empty. */
struct tr_vec {
    void *data;
    uint64_t n, cap; /* elements */
};

/* Makes room for `more` elements of elem_bytes behind the n that are there: at least doubles, so
 * that n additions cost O(n) and memory stays below a small multiple of what was added. False: no
 * memory; the array is as before. */
bool tr_vec_reserve(trueno_ctx *ctx, struct tr_vec *v, uint64_t more, size_t elem_bytes);

/* Gives back room that is not used. */
void tr_vec_shrink(trueno_ctx *ctx, struct tr_vec *v, size_t elem_bytes);

void tr_vec_free(trueno_ctx *ctx, struct tr_vec *v);

#endif
