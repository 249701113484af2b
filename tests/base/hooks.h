/* SPDX-License-Identifier: MIT */
/* Allocator hooks for tests: they count what is held, and fail when told to. */
#ifndef TEST_HOOKS_H
#define TEST_HOOKS_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/base.h"

#if defined(__SANITIZE_ADDRESS__)
#define TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TEST_ASAN 1
#endif
#endif
#ifndef TEST_ASAN
#define TEST_ASAN 0
#endif

struct hooks {
    atomic_size_t now_bytes, blocks, calls;
    size_t fail_at;  /* the call (from 1) that returns NULL, and all after it; 0: none */
    size_t max_size; /* larger requests return NULL; 0: no limit */
};

/* In front of every block; 16 bytes, so that blocks are aligned to 16 and often to no more. */
struct hook_block {
    _Alignas(16) size_t size_bytes;
};

static inline bool hook_refuses(struct hooks *h, size_t size_bytes)
{
    const size_t call = atomic_fetch_add(&h->calls, 1) + 1;
    if (h->fail_at && call >= h->fail_at) return true;
    return (h->max_size && size_bytes > h->max_size) || size_bytes > SIZE_MAX - 16;
}

static inline void *hook_realloc(void *user, void *ptr, size_t size_bytes)
{
    struct hooks *h = user;
    struct hook_block *old = ptr ? (struct hook_block *)ptr - 1 : NULL;
    if (hook_refuses(h, size_bytes)) return NULL;
    const size_t old_bytes = old ? old->size_bytes : 0;
    struct hook_block *block = realloc(old, size_bytes + sizeof *block);
    if (!block) return NULL;
    if (!old) {
        atomic_fetch_add(&h->blocks, 1);
        memset(block + 1, 0xa5, size_bytes); /* nobody may count on zeros */
    }
    block->size_bytes = size_bytes;
    atomic_fetch_add(&h->now_bytes, size_bytes);
    atomic_fetch_sub(&h->now_bytes, old_bytes);
    return block + 1;
}

static inline void *hook_alloc(void *user, size_t size_bytes)
{
    return hook_realloc(user, NULL, size_bytes);
}

static inline void hook_free(void *user, void *ptr)
{
    struct hooks *h = user;
    if (!ptr) return;
    struct hook_block *block = (struct hook_block *)ptr - 1;
    atomic_fetch_sub(&h->now_bytes, block->size_bytes);
    atomic_fetch_sub(&h->blocks, 1);
    free(block);
}

static inline trueno_ctx_options hook_options(struct hooks *h)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    opt.allocator = (trueno_allocator){hook_alloc, hook_realloc, hook_free, h};
    return opt;
}

#endif
