/* SPDX-License-Identifier: MIT */
/* Memory through a context's hooks, counted. Every size is in bytes; NULL means "no memory". */
#ifndef TR_MEM_H
#define TR_MEM_H

#include "trueno/base.h"

/* Plain memory, aligned for any C type. tr_alloc(ctx, 0) gives a pointer that may be freed. */
void *tr_alloc(trueno_ctx *ctx, size_t size_bytes);
void *tr_calloc(trueno_ctx *ctx, size_t n,
                size_t size_bytes); /* zeroed; NULL if the product wraps */
void *tr_realloc(trueno_ctx *ctx, void *ptr, size_t size_bytes);
void tr_free(trueno_ctx *ctx, void *ptr); /* NULL is fine */

/* What tr_alloc(size) adds to the context's counter, for plans. */
uint64_t tr_alloc_bytes(size_t size_bytes);

/* A copy of `len` bytes with a NUL after them. */
char *tr_strndup(trueno_ctx *ctx, const char *data, size_t len);

/* Large arrays that live long (weights, KV cache, activations): 64-byte aligned, zeroed, on 2 MiB
 * pages where the system gives them and the size is worth it. Without allocator hooks they come
 * from an anonymous mapping, whose pages are touched first by the thread that writes them.
 * tr_big_bytes() is what tr_big_alloc(size) adds to the context's counter: plans add these up. */
void *tr_big_alloc(trueno_ctx *ctx, size_t size_bytes);
void tr_big_free(trueno_ctx *ctx, void *ptr, size_t size_bytes); /* size as allocated */
uint64_t tr_big_bytes(size_t size_bytes);

/* True if an array of that size is worth huge pages, but the system or the process has them off. */
bool tr_big_pages_are_small(const trueno_ctx *ctx, size_t size_bytes);

/* Arena: many small things that die together. Grows by chunks; nothing is freed alone.
 * Zero-initialise, set ctx. */
struct tr_arena_chunk;
struct tr_arena {
    trueno_ctx *ctx;
    struct tr_arena_chunk *head;
    size_t used, cap;
};
void *tr_arena_alloc(struct tr_arena *a, size_t size_bytes); /* 16-byte aligned, not zeroed */
void tr_arena_free(struct tr_arena *a);

#endif
