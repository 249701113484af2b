/* SPDX-License-Identifier: MIT */
/* Cache store and attention kernels: the reference's bits over head sizes, numbers of queries,
 * visible ranges and inputs. The keys' buffer ends with the last panel that a query sees and the
 * values' with the last row, each at an unmapped page. */
#include "check.h"

#include "quant/half.h"

#include <math.h>
#include <string.h>

#define MAX_DIM  256
#define MAX_CELL (512 * 256) /* elements of a cache */

enum { SLOT_K, SLOT_V, SLOT_Q, SLOT_OUT = SLOT_Q + TR_ATTN_QUERIES };

static size_t width(const struct tr_kernel *k)
{
    return k->dtype == TRUENO_TYPE_F16 ? 2 : 4;
}

/* ------------------------------------------------------------ cache store */

struct store_call {
    tr_kv_store_fn fn;
    void *k_cache, *v_cache;
    const float *k, *v;
    size_t pos, head_dim;
};

static void call_store(void *arg)
{
    struct store_call *s = arg;
    s->fn(s->k_cache, s->v_cache, s->k, s->v, s->pos, s->head_dim);
}

static void check_store(struct check *t, const struct tr_kernel *ref, size_t head_dim, size_t pos,
                        enum check_pattern pattern)
{
    static uint8_t k_want[48 * 256 * 4], v_want[48 * 256 * 4];
    size_t bytes = 48 * head_dim * width(ref);
    struct store_call s = {t->kernel->fn.kv_store, NULL, NULL, NULL, NULL, pos, head_dim};

    check_case(t, "head_dim=%zu pos=%zu pattern=%s", head_dim, pos, check_pattern_name(pattern));
    s.k_cache = check_buffer(t, SLOT_K, "k cache", bytes, CHECK_END, 0);
    s.v_cache = check_buffer(t, SLOT_V, "v cache", bytes, CHECK_START, width(ref));
    float *k = check_buffer(t, SLOT_Q, "k", head_dim * 4, CHECK_END, 0);
    float *v = check_buffer(t, SLOT_Q + 1, "v", head_dim * 4, CHECK_START, 4);
    check_fill(t, k, head_dim, pattern);
    check_fill(t, v, head_dim, pattern);
    check_readonly(t, SLOT_Q);
    check_readonly(t, SLOT_Q + 1);
    s.k = k;
    s.v = v;
    memcpy(k_want, s.k_cache, bytes);
    memcpy(v_want, s.v_cache, bytes);
    ref->fn.kv_store(k_want, v_want, k, v, pos, head_dim);
    if (!check_call(t, call_store, &s)) return;
    check_bytes(t, "k cache", s.k_cache, k_want, bytes);
    check_bytes(t, "v cache", s.v_cache, v_want, bytes);
}

void check_kv_store(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    static const size_t dims[] = {8, 24, 64, 80, 128, 256};
    (void)k;
    for (size_t i = 0; i < 48 * CHECK_PATTERNS; i++) {
        size_t dim = dims[i % (sizeof dims / sizeof *dims)];
        check_store(t, ref, dim, (7 * i) % 48, (enum check_pattern)(i % CHECK_PATTERNS));
    }
}

/* -------------------------------------------------------------- attention */

struct attn_call {
    tr_attn_fn fn;
    struct tr_attn_args a;
};

static void call_attention(void *arg)
{
    struct attn_call *c = arg;
    c->fn(&c->a);
}

enum mask { FULL, CAUSAL, WINDOW, RANDOM, EMPTY_AND_FULL, MASKS };

static void set_ranges(struct check *t, struct tr_attn_args *a, enum mask mask, uint32_t chunk)
{
    uint32_t n = TR_ATTN_CHUNK, first = (uint32_t)check_below(t, n - TR_ATTN_QUERIES);
    for (uint32_t i = 0; i < a->n_q; i++) {
        uint32_t lo = 0, hi = n;
        if (mask == CAUSAL || mask == WINDOW) hi = first + i + 1;
        if (mask == WINDOW) lo = hi > 60 ? hi - 60 : 0;
        if (mask == RANDOM) {
            lo = (uint32_t)check_below(t, n + 1);
            hi = (uint32_t)check_below(t, n + 1);
        }
        if (mask == EMPTY_AND_FULL && i % 3 != 1) lo = hi = 17 * i;
        a->lo[i] = chunk + lo;
        a->hi[i] = chunk + hi;
    }
}

/* One past the last position that any query sees. */
static size_t positions(const struct tr_attn_args *a)
{
    size_t n = 0;
    for (uint32_t i = 0; i < a->n_q; i++) {
        if (a->lo[i] < a->hi[i] && a->hi[i] > n) n = a->hi[i];
    }
    return n;
}

static void fill_cache(struct check *t, void *cache, size_t n, enum check_pattern pattern)
{
    static float x[MAX_CELL];
    if (!n) return;
    check_fill(t, x, n, pattern);
    if (width(t->kernel) == 4) {
        memcpy(cache, x, n * 4);
        return;
    }
    for (size_t i = 0; i < n; i++) ((uint16_t *)cache)[i] = tr_f32_to_f16(x[i]);
}

/* Buffers of the call: caches up to n positions, queries and outputs of the head size. */
static void set_buffers(struct check *t, struct tr_attn_args *a, size_t n,
                        enum check_pattern q_pattern, enum check_pattern kv_pattern)
{
    size_t k_size = (n + 15) / 16 * 16 * a->head_dim, v_size = n * a->head_dim;
    size_t w = width(t->kernel), row = a->head_dim * 4;
    void *k = check_buffer(t, SLOT_K, "k cache", k_size * w, CHECK_END, 0);
    void *v = check_buffer(t, SLOT_V, "v cache", v_size * w, CHECK_END, 0);

    fill_cache(t, k, k_size, kv_pattern);
    fill_cache(t, v, v_size, kv_pattern);
    check_readonly(t, SLOT_K);
    check_readonly(t, SLOT_V);
    a->k_cache = k;
    a->v_cache = v;
    for (unsigned i = 0; i < a->n_q; i++) {
        enum check_place place = i % 2 ? CHECK_START : CHECK_END;
        float *q = check_buffer(t, SLOT_Q + i, "q", row, place, i % 2 ? 4 : 0);
        check_fill(t, q, a->head_dim, q_pattern);
        check_readonly(t, SLOT_Q + i);
        a->q[i] = q;
        a->out[i] = check_buffer(t, SLOT_OUT + i, "out", row, place, i % 2 ? 4 : 0);
    }
}

static void check_one(struct check *t, const struct tr_kernel *ref, struct attn_call *c,
                      enum check_pattern q_pattern, enum check_pattern kv_pattern)
{
    static float want[TR_ATTN_QUERIES][MAX_DIM];
    struct tr_attn_args r;

    set_buffers(t, &c->a, positions(&c->a), q_pattern, kv_pattern);
    r = c->a;
    for (uint32_t i = 0; i < r.n_q; i++) r.out[i] = want[i];
    ref->fn.attention(&r);
    c->fn = t->kernel->fn.attention;
    if (check_call(t, call_attention, c)) {
        check_floats(t, "max", c->a.max, r.max, r.n_q);
        check_floats(t, "sum", c->a.sum, r.sum, r.n_q);
        for (uint32_t i = 0; i < r.n_q; i++)
            check_floats(t, "out", c->a.out[i], want[i], r.head_dim);
    }
    check_release(t); /* the next case may have fewer queries */
}

static void check_head_dim(struct check *t, const struct tr_kernel *ref, size_t head_dim,
                           size_t n_cases)
{
    /* every query count meets every mask, pattern and cap in turn */
    for (size_t i = 0; i < n_cases; i++) {
        enum mask mask = (enum mask)(i % MASKS);
        enum check_pattern q = (enum check_pattern)(i / 2 % CHECK_PATTERNS);
        enum check_pattern kv = i % 4 == 3 ? q : CHECK_NORMAL;
        struct attn_call c = {.a = {.head_dim = head_dim,
                                    .scale = i % 7 == 6 ? -3.0F : 1.0F / sqrtf((float)head_dim),
                                    .cap = i % 3 == 2 ? 5.0F : 0.0F,
                                    .n_q = (uint32_t)(i % TR_ATTN_QUERIES) + 1}};
        uint32_t chunk = head_dim <= 256 && i % 2 ? TR_ATTN_CHUNK : 0;
        set_ranges(t, &c.a, mask, chunk);
        check_case(t, "head_dim=%zu n_q=%u mask=%d chunk=%u q=%s kv=%s cap=%g scale=%g", head_dim,
                   c.a.n_q, mask, chunk, check_pattern_name(q), check_pattern_name(kv),
                   (double)c.a.cap, (double)c.a.scale);
        check_one(t, ref, &c, q, kv);
    }
}

void check_attention(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    (void)k;
    for (size_t d = 8; d <= 48; d += 8) check_head_dim(t, ref, d, 80);
    check_head_dim(t, ref, 64, 40);
    check_head_dim(t, ref, 72, 40);
    check_head_dim(t, ref, 80, 24);
    check_head_dim(t, ref, 96, 24);
    check_head_dim(t, ref, 120, 16);
    check_head_dim(t, ref, 128, 24);
    check_head_dim(t, ref, 256, 16);
}
