/* SPDX-License-Identifier: MIT */
/* Visits everything that an open GGUF file shows and condenses it into one number, so that two ways
 * of opening can be compared. Aborts when the file contradicts itself. Shared with the fuzz target.
 */
#ifndef GGUF_WALK_H
#define GGUF_WALK_H

#include <stdlib.h>
#include <string.h>

#include "trueno/gguf.h"

static inline void walk_require(bool ok)
{
    if (!ok) abort();
}

/* FNV-1a */
static inline uint64_t walk_add(uint64_t h, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)data)[i]) * 0x100000001b3u;
    return h;
}

static inline uint64_t walk_number(uint64_t h, uint64_t x)
{
    return walk_add(h, &x, sizeof x);
}

/* Every conversion of one element. */
static inline uint64_t walk_elem(const trueno_gguf *g, size_t kv, uint64_t i, uint64_t h)
{
    uint64_t u;
    int64_t s;
    double f;
    bool b;
    trueno_str t;
    h = walk_number(h, (uint64_t)trueno_gguf_elem_u64(g, kv, i, &u));
    h = walk_number(h, u);
    h = walk_number(h, (uint64_t)trueno_gguf_elem_i64(g, kv, i, &s));
    h = walk_number(h, (uint64_t)s);
    h = walk_number(h, (uint64_t)trueno_gguf_elem_f64(g, kv, i, &f));
    h = walk_add(h, &f, sizeof f);
    h = walk_number(h, (uint64_t)trueno_gguf_elem_bool(g, kv, i, &b));
    h = walk_number(h, b);
    h = walk_number(h, (uint64_t)trueno_gguf_elem_str(g, kv, i, &t));
    return walk_add(walk_number(h, t.len), t.data, t.len);
}

static inline uint64_t walk_kv(const trueno_gguf *g, size_t i, uint64_t h)
{
    trueno_gguf_kv kv;
    walk_require(trueno_gguf_kv_at(g, i, &kv) == TRUENO_OK);
    char *key = malloc(kv.key.len + 1);
    walk_require(key != NULL);
    memcpy(key, kv.key.data, kv.key.len);
    key[kv.key.len] = 0;
    walk_require(trueno_gguf_find(g, key) == (ptrdiff_t)i);
    free(key);
    h = walk_add(h, kv.key.data, kv.key.len);
    h = walk_number(h, (uint64_t)kv.type * 16 + (uint64_t)kv.elem_type);
    h = walk_number(h, kv.count);
    for (uint64_t e = 0; e < kv.count; e++) h = walk_elem(g, i, e, h);
    uint64_t u;
    walk_require(trueno_gguf_elem_u64(g, i, kv.count, &u) == TRUENO_ERR_ARGUMENT);
    return walk_number(h, trueno_gguf_kv_data(g, i) != NULL);
}

/* With data: all bytes are read too. */
static inline uint64_t walk_tensor(const trueno_gguf *g, size_t i, bool with_data, uint64_t h)
{
    trueno_gguf_tensor t;
    char name[65] = "";
    uint8_t piece[4096];
    walk_require(trueno_gguf_tensor_at(g, i, &t) == TRUENO_OK);
    walk_require(t.name.len >= 1 && t.name.len <= 64);
    memcpy(name, t.name.data, t.name.len);
    walk_require(trueno_gguf_find_tensor(g, name) == (ptrdiff_t)i);
    h = walk_add(h, name, t.name.len);
    h = walk_number(h, (uint64_t)t.type * 8 + t.n_dims);
    h = walk_add(h, t.ne, sizeof t.ne);
    h = walk_number(walk_number(walk_number(h, t.size_bytes), t.file_offset), t.shard);
    const uint8_t *data = trueno_gguf_tensor_data(g, i);
    for (uint64_t at = 0; with_data && at < t.size_bytes;) {
        uint64_t left = t.size_bytes - at;
        size_t n = left < sizeof piece ? (size_t)left : sizeof piece;
        walk_require(trueno_gguf_tensor_read(g, i, at, piece, n, NULL) == TRUENO_OK);
        walk_require(!data || memcmp(data + at, piece, n) == 0);
        h = walk_add(h, piece, n);
        at += n;
    }
    return h;
}

static inline uint64_t walk_gguf(const trueno_gguf *g, bool with_data)
{
    uint64_t h = 0xcbf29ce484222325u;
    trueno_gguf_kv kv;
    trueno_gguf_tensor t;
    h = walk_number(h, trueno_gguf_version(g));
    h = walk_number(h, trueno_gguf_alignment(g));
    h = walk_number(h, trueno_gguf_size_bytes(g));
    h = walk_number(h, trueno_gguf_n_shards(g));
    for (size_t i = 0; i < trueno_gguf_n_kv(g); i++) h = walk_kv(g, i, h);
    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++) h = walk_tensor(g, i, with_data, h);
    walk_require(trueno_gguf_kv_at(g, trueno_gguf_n_kv(g), &kv) == TRUENO_ERR_ARGUMENT);
    walk_require(trueno_gguf_tensor_at(g, trueno_gguf_n_tensors(g), &t) == TRUENO_ERR_ARGUMENT);
    /* names that no file may have: a control byte, 65 bytes */
    walk_require(trueno_gguf_find(g, "\x01") == -1);
    walk_require(trueno_gguf_find_tensor(g, "0123456789abcdef0123456789abcdef"
                                            "0123456789abcdef0123456789abcdef-") == -1);
    return h;
}

#endif
