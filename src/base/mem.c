/* SPDX-License-Identifier: MIT */
/* Memory through the hooks of a context, with its size counted. Every plain block has a small
 * header in front that keeps its size, so that a free needs none. */
#include "base/mem.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/ctx_impl.h"
#include "base/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define TR_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define TR_ASAN 1
#endif
#endif
#ifdef TR_ASAN
#include <sanitizer/asan_interface.h>
#define POISON(ptr, size_bytes)   __asan_poison_memory_region(ptr, size_bytes)
#define UNPOISON(ptr, size_bytes) __asan_unpoison_memory_region(ptr, size_bytes)
#define RED_ZONE                  16
#define ASAN_MAX                  ((size_t)1 << 39) /* it stops the program at 2^40 */
#else
#define TR_ASAN                   0
#define POISON(ptr, size_bytes)   ((void)(ptr), (void)(size_bytes))
#define UNPOISON(ptr, size_bytes) ((void)(ptr), (void)(size_bytes))
#define RED_ZONE                  0
#define ASAN_MAX                  SIZE_MAX
#endif

/* What stands in front of a plain block; keeps the alignment that malloc gives. */
struct header {
    _Alignas(16) size_t total_bytes; /* header included: what was asked of the allocator */
};

enum { BIG_ALIGN = 64, BIG_PAGE = 4096, HUGE_PAGE = 2 << 20 };

static void count_add(trueno_ctx *ctx, size_t size_bytes)
{
    const size_t now =
        atomic_fetch_add_explicit(&ctx->now_bytes, size_bytes, memory_order_relaxed) + size_bytes;
    size_t peak = atomic_load_explicit(&ctx->peak_bytes, memory_order_relaxed);
    while (now > peak &&
           !atomic_compare_exchange_weak_explicit(&ctx->peak_bytes, &peak, now,
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

static void count_sub(trueno_ctx *ctx, size_t size_bytes)
{
    atomic_fetch_sub_explicit(&ctx->now_bytes, size_bytes, memory_order_relaxed);
}

static void *raw_alloc(trueno_ctx *ctx, size_t size_bytes)
{
    const trueno_allocator *a = &ctx->opt.allocator;
    return a->alloc ? a->alloc(a->user, size_bytes) : malloc(size_bytes);
}

static void raw_free(trueno_ctx *ctx, void *ptr)
{
    const trueno_allocator *a = &ctx->opt.allocator;
    if (a->free)
        a->free(a->user, ptr);
    else
        free(ptr);
}

void *tr_alloc(trueno_ctx *ctx, size_t size_bytes)
{
    return tr_realloc(ctx, NULL, size_bytes);
}

void *tr_calloc(trueno_ctx *ctx, size_t n, size_t size_bytes)
{
    size_t total;
    if (__builtin_mul_overflow(n, size_bytes, &total)) return NULL;
    void *ptr = tr_alloc(ctx, total);
    if (ptr) memset(ptr, 0, total);
    return ptr;
}

void *tr_realloc(trueno_ctx *ctx, void *ptr, size_t size_bytes)
{
    const trueno_allocator *a = &ctx->opt.allocator;
    struct header *old = ptr ? (struct header *)ptr - 1 : NULL;
    const size_t old_bytes = old ? old->total_bytes : 0;
    size_t total;
    if (__builtin_add_overflow(size_bytes, sizeof *old, &total)) return NULL;
    struct header *h;
    if (!old)
        h = raw_alloc(ctx, total);
    else
        h = a->realloc ? a->realloc(a->user, old, total) : realloc(old, total);
    if (!h) return NULL;
    h->total_bytes = total;
    if (total > old_bytes)
        count_add(ctx, total - old_bytes);
    else
        count_sub(ctx, old_bytes - total);
    return h + 1;
}

void tr_free(trueno_ctx *ctx, void *ptr)
{
    if (!ptr) return;
    struct header *h = (struct header *)ptr - 1;
    count_sub(ctx, h->total_bytes);
    raw_free(ctx, h);
}

uint64_t tr_alloc_bytes(size_t size_bytes)
{
    return (uint64_t)size_bytes + sizeof(struct header);
}

char *tr_strndup(trueno_ctx *ctx, const char *data, size_t len)
{
    if (len == SIZE_MAX) return NULL;
    char *copy = tr_alloc(ctx, len + 1);
    if (!copy) return NULL;
    if (len) memcpy(copy, data, len);
    copy[len] = '\0';
    return copy;
}

/* ------------------------------------------------------------ large arrays */

/* One formula for mappings and hooks, so that a plan need not know which it will be: room to align
 * what a hook returns, whole pages for a mapping. 0: does not fit. */
uint64_t tr_big_bytes(size_t size_bytes)
{
    uint64_t total;
    if (!tr_add(&total, size_bytes, BIG_ALIGN) || !tr_align_up(&total, total, BIG_PAGE)) return 0;
    return total <= SIZE_MAX ? total : 0;
}

/* A zeroed mapping of exactly total_bytes, aligned to huge pages when it is that large. */
static void *map_alloc(size_t total_bytes)
{
    const size_t slack = total_bytes >= HUGE_PAGE ? HUGE_PAGE : 0;
    size_t len;
    if (__builtin_add_overflow(total_bytes, slack, &len)) return NULL;
    char *base = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return NULL;
    if (!slack) return base;
    const size_t head = (size_t)(-(uintptr_t)base & (HUGE_PAGE - 1));
    if (head) munmap(base, head);
    if (slack > head) munmap(base + head + total_bytes, slack - head);
#ifdef MADV_HUGEPAGE
    madvise(base + head, total_bytes, MADV_HUGEPAGE); /* only advice: failure changes nothing */
#endif
    return base + head;
}

/* Aligned inside a block from the hook; the pointer to free stands right in front of it. */
static void *hook_alloc(trueno_ctx *ctx, size_t total_bytes)
{
    char *base = raw_alloc(ctx, total_bytes);
    if (!base) return NULL;
    char *ptr = base + BIG_ALIGN - ((uintptr_t)base & (BIG_ALIGN - 1));
    memset(base, 0, total_bytes);
    memcpy(ptr - sizeof base, &base, sizeof base);
    return ptr;
}

void *tr_big_alloc(trueno_ctx *ctx, size_t size_bytes)
{
    const size_t total = (size_t)tr_big_bytes(size_bytes);
    if (!total) return NULL;
    void *ptr = NULL;
    if (ctx->opt.allocator.alloc) {
        ptr = hook_alloc(ctx, total);
    } else if (TR_ASAN) { /* exact size, so that the sanitizer sees the first byte too many */
        if (size_bytes >= ASAN_MAX || posix_memalign(&ptr, BIG_ALIGN, size_bytes ? size_bytes : 1))
            return NULL;
        memset(ptr, 0, size_bytes);
    } else {
        ptr = map_alloc(total);
    }
    if (ptr) count_add(ctx, total);
    return ptr;
}

void tr_big_free(trueno_ctx *ctx, void *ptr, size_t size_bytes)
{
    if (!ptr) return;
    const size_t total = (size_t)tr_big_bytes(size_bytes);
    count_sub(ctx, total);
    if (ctx->opt.allocator.alloc) {
        void *base;
        memcpy(&base, (char *)ptr - sizeof base, sizeof base);
        raw_free(ctx, base);
    } else if (TR_ASAN) {
        free(ptr);
    } else {
        munmap(ptr, total);
    }
}

/* Whether transparent huge pages can be had where they are asked for. */
static bool huge_pages_on(void)
{
#ifdef MADV_HUGEPAGE
    char modes[64]; /* "always [madvise] never": the one in brackets holds */
    if (prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) > 0) return false;
    const int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    const ssize_t n = read(fd, modes, sizeof modes - 1);
    close(fd);
    modes[n > 0 ? n : 0] = '\0';
    return !strstr(modes, "[never]");
#else
    return false;
#endif
}

bool tr_big_pages_are_small(const trueno_ctx *ctx, size_t size_bytes)
{
    return !ctx->opt.allocator.alloc && !TR_ASAN && size_bytes >= HUGE_PAGE && !huge_pages_on();
}

/* ------------------------------------------------------------------- arena */

struct tr_arena_chunk {
    _Alignas(16) struct tr_arena_chunk *next;
    size_t size_bytes; /* of what follows */
};

enum { CHUNK_MIN = 4096 - 64, CHUNK_MAX = 1 << 20 };

/* Puts a chunk with room for need_bytes in front. */
static bool arena_grow(struct tr_arena *a, size_t need_bytes)
{
    size_t size = a->cap < CHUNK_MIN / 2 ? CHUNK_MIN : a->cap * 2;
    if (size > CHUNK_MAX) size = CHUNK_MAX;
    if (size < need_bytes) size = need_bytes;
    size_t total;
    if (__builtin_add_overflow(size, sizeof(struct tr_arena_chunk), &total)) return false;
    struct tr_arena_chunk *chunk = tr_alloc(a->ctx, total);
    if (!chunk) return false;
    chunk->next = a->head;
    chunk->size_bytes = size;
    POISON(chunk + 1, size);
    a->head = chunk;
    a->used = 0;
    a->cap = size;
    return true;
}

void *tr_arena_alloc(struct tr_arena *a, size_t size_bytes)
{
    uint64_t need;
    if (!tr_add(&need, size_bytes ? size_bytes : 1, RED_ZONE) || !tr_align_up(&need, need, 16))
        return NULL;
    if (need > SIZE_MAX) return NULL;
    if (need > a->cap - a->used && !arena_grow(a, (size_t)need)) return NULL;
    char *ptr = (char *)(a->head + 1) + a->used;
    a->used += (size_t)need;
    UNPOISON(ptr, size_bytes);
    return ptr;
}

void tr_arena_free(struct tr_arena *a)
{
    while (a->head) {
        struct tr_arena_chunk *chunk = a->head;
        a->head = chunk->next;
        UNPOISON(chunk + 1, chunk->size_bytes);
        tr_free(a->ctx, chunk);
    }
    a->used = a->cap = 0;
}
