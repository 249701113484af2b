/* SPDX-License-Identifier: MIT */
/* Builds GGUF files byte by byte. */
#include "gguf/builder.h"

#include <stdlib.h>
#include <string.h>

void gb_free(struct gb *b)
{
    free(b->data);
    *b = (struct gb){NULL, 0, 0};
}

static uint8_t *room(struct gb *b, size_t n)
{
    if (n > b->cap - b->n) {
        size_t cap = b->cap * 2 > b->n + n ? b->cap * 2 : b->n + n;
        uint8_t *data = realloc(b->data, cap);
        if (!data) abort(); /* a test without memory has nothing to say */
        b->data = data;
        b->cap = cap;
    }
    b->n += n;
    return b->data + b->n - n;
}

void gb_bytes(struct gb *b, const void *data, size_t n)
{
    if (n) memcpy(room(b, n), data, n);
}

void gb_fill(struct gb *b, uint8_t value, size_t n)
{
    if (n) memset(room(b, n), value, n);
}

static void number(struct gb *b, uint64_t x, size_t n)
{
    uint8_t *p = room(b, n);
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(x >> 8 * i);
}

void gb_u8(struct gb *b, uint8_t x)
{
    number(b, x, 1);
}

void gb_u16(struct gb *b, uint16_t x)
{
    number(b, x, 2);
}

void gb_u32(struct gb *b, uint32_t x)
{
    number(b, x, 4);
}

void gb_u64(struct gb *b, uint64_t x)
{
    number(b, x, 8);
}

void gb_f32(struct gb *b, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    gb_u32(b, bits);
}

void gb_f64(struct gb *b, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    gb_u64(b, bits);
}

void gb_strn(struct gb *b, const void *data, size_t len)
{
    gb_u64(b, len);
    gb_bytes(b, data, len);
}

void gb_str(struct gb *b, const char *text)
{
    gb_strn(b, text, strlen(text));
}

void gb_header(struct gb *b, uint64_t n_tensors, uint64_t n_kv)
{
    gb_bytes(b, "GGUF", 4);
    gb_u32(b, 3);
    gb_u64(b, n_tensors);
    gb_u64(b, n_kv);
}

void gb_key(struct gb *b, const char *key, uint32_t type)
{
    gb_str(b, key);
    gb_u32(b, type);
}

void gb_kv_u32(struct gb *b, const char *key, uint32_t value)
{
    gb_key(b, key, 4);
    gb_u32(b, value);
}

void gb_kv_str(struct gb *b, const char *key, const char *value)
{
    gb_key(b, key, 8);
    gb_str(b, value);
}

void gb_array(struct gb *b, const char *key, uint32_t elem, uint64_t count)
{
    gb_key(b, key, 9);
    gb_u32(b, elem);
    gb_u64(b, count);
}

void gb_tensor(struct gb *b, const char *name, uint32_t n_dims, const uint64_t *ne, uint32_t type,
               uint64_t offset)
{
    gb_str(b, name);
    gb_u32(b, n_dims);
    for (uint32_t i = 0; i < n_dims; i++) gb_u64(b, ne[i]);
    gb_u32(b, type);
    gb_u64(b, offset);
}

void gb_tensor1(struct gb *b, const char *name, uint64_t n, uint32_t type, uint64_t offset)
{
    gb_tensor(b, name, 1, &n, type, offset);
}

void gb_pad(struct gb *b, size_t align)
{
    gb_fill(b, 0, (align - b->n % align) % align);
}

void gb_poke(struct gb *b, size_t at, uint64_t x, size_t size)
{
    for (size_t i = 0; i < size; i++) b->data[at + i] = (uint8_t)(x >> 8 * i);
}

void gb_sample(struct gb *b)
{
    gb_header(b, 2, 5);
    gb_kv_str(b, "general.architecture", "llama");
    gb_kv_u32(b, "llama.block_count", 7);
    gb_key(b, "add_bos", 7);
    gb_u8(b, 1);
    gb_array(b, "tokens", 8, 3);
    gb_str(b, "a");
    gb_str(b, "");
    gb_str(b, "bcd");
    gb_array(b, "scores", 6, 2);
    gb_f32(b, 0.5f);
    gb_f32(b, -2.0f);
    const uint64_t ne[2] = {32, 2};
    gb_tensor(b, "token_embd.weight", 2, ne, 8, 0); /* Q8_0: 68 bytes */
    gb_tensor1(b, "output_norm.weight", 5, 0, 96);  /* F32: 20 bytes */
    gb_pad(b, 32);
    for (int i = 0; i < 96 + 20; i++) gb_u8(b, (uint8_t)(i * 7 + 1));
}
