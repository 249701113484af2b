/* SPDX-License-Identifier: MIT */
/* Builds GGUF files byte by byte, valid or not. Independent of the writer of the library. */
#ifndef GGUF_BUILDER_H
#define GGUF_BUILDER_H

#include <stddef.h>
#include <stdint.h>

/* A growing byte string. Zeroed: empty. */
struct gb {
    uint8_t *data;
    size_t n, cap;
};

void gb_free(struct gb *b);
void gb_bytes(struct gb *b, const void *data, size_t n);
void gb_fill(struct gb *b, uint8_t value, size_t n);
void gb_u8(struct gb *b, uint8_t x);
void gb_u16(struct gb *b, uint16_t x);
void gb_u32(struct gb *b, uint32_t x);
void gb_u64(struct gb *b, uint64_t x);
void gb_f32(struct gb *b, float x);
void gb_f64(struct gb *b, double x);
void gb_str(struct gb *b, const char *text);              /* length and bytes */
void gb_strn(struct gb *b, const void *data, size_t len); /* the same, any bytes */

/* "GGUF", version 3, counts. */
void gb_header(struct gb *b, uint64_t n_tensors, uint64_t n_kv);
/* Key and value type; the value is up to the caller. */
void gb_key(struct gb *b, const char *key, uint32_t type);
void gb_kv_u32(struct gb *b, const char *key, uint32_t value);
void gb_kv_str(struct gb *b, const char *key, const char *value);
/* Key, type array, element type, count; elements are up to the caller. */
void gb_array(struct gb *b, const char *key, uint32_t elem, uint64_t count);

/* A tensor info. */
void gb_tensor(struct gb *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type,
               uint64_t offset);
/* The same with one dimension. */
void gb_tensor1(struct gb *b, const char *name, uint64_t n, uint32_t type, uint64_t offset);
/* Zeros up to a multiple of align. */
void gb_pad(struct gb *b, size_t align);

/* Overwrites size bytes at `at` with the little-endian number x. */
void gb_poke(struct gb *b, size_t at, uint64_t x, size_t size);

/* A small valid file with every kind of part: scalars, strings, arrays, two tensors with data. */
void gb_sample(struct gb *b);

#endif
