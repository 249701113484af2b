/* SPDX-License-Identifier: MIT */
/* Cache store, attention and merge kernels: the reference's bits over head sizes, numbers of
 * queries, visible ranges and inputs. The keys' buffer ends with the last panel that a query sees
 * and the values' with the last row, each at an unmapped page. */
#include "check.h"

#include "quant/half.h"
#include "trueno/quantize.h"

#include <math.h>
#include <string.h>

#define MAX_DIM  256
#define MAX_CELL (512 * 256) /* elements of a cache */

enum { SLOT_K, SLOT_V, SLOT_Q, SLOT_OUT = SLOT_Q + TR_ATTN_QUERIES };

/* Bytes of n positions of K, or of V. */
static size_t cache_bytes(const struct tr_kernel *k, size_t n, size_t head_dim)
{
    return n * trueno_row_bytes(k->dtype, head_dim);
}

/* Bytes that caches are aligned to at least. */
static size_t width(const struct tr_kernel *k)
{
    return k->dtype == TRUENO_TYPE_F32 ? 4 : 2;
}

static bool fits(const struct tr_kernel *k, size_t head_dim)
{
    return k->dtype != TRUENO_TYPE_Q8_0 || head_dim % 32 == 0;
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
    size_t bytes = cache_bytes(ref, 48, head_dim);
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
    static const size_t dims[] = {8, 24, 64, 80, 96, 128, 256};
    for (size_t i = 0; i < 56 * CHECK_PATTERNS; i++) {
        size_t dim = dims[i % (sizeof dims / sizeof *dims)];
        if (!fits(k, dim)) continue;
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

/* Halves whose pattern is that of floats. */
static void fill_halves(struct check *t, uint8_t *to, size_t n, enum check_pattern pattern)
{
    static float x[MAX_CELL];
    check_fill(t, x, n, pattern);
    for (size_t i = 0; i < n; i++) {
        bool bf16 = t->kernel->dtype == TRUENO_TYPE_BF16;
        uint16_t h = bf16 ? tr_f32_to_bf16(x[i]) : tr_f32_to_f16(x[i]);
        memcpy(to + 2 * i, &h, 2);
    }
}

/* Any int8, scales of the pattern: n_scales of them begin each of the parts. */
static void fill_q8_0(struct check *t, uint8_t *to, size_t bytes, size_t n_scales,
                      enum check_pattern pattern)
{
    size_t part = n_scales * 34;
    check_random_bytes(t, to, bytes);
    for (size_t at = 0; at < bytes; at += part) fill_halves(t, to + at, n_scales, pattern);
}

static void fill_cache(struct check *t, void *cache, size_t n, size_t head_dim, bool keys,
                       enum check_pattern pattern)
{
    if (!n) return;
    switch (t->kernel->dtype) {
    case TRUENO_TYPE_F32: check_fill(t, cache, n * head_dim, pattern); break;
    case TRUENO_TYPE_Q8_0:
        fill_q8_0(t, cache, cache_bytes(t->kernel, n, head_dim), keys ? 16 : head_dim / 32,
                  pattern);
        break;
    default: fill_halves(t, cache, n * head_dim, pattern);
    }
}

/* Buffers of the call: caches up to n positions, queries and outputs of the head size. */
static void set_buffers(struct check *t, struct tr_attn_args *a, size_t n,
                        enum check_pattern q_pattern, enum check_pattern kv_pattern)
{
    size_t n_k = (n + 15) / 16 * 16, row = a->head_dim * 4;
    size_t k_size = cache_bytes(t->kernel, n_k, a->head_dim);
    size_t v_size = cache_bytes(t->kernel, n, a->head_dim);
    void *k = check_buffer(t, SLOT_K, "k cache", k_size, CHECK_END, 0);
    void *v = check_buffer(t, SLOT_V, "v cache", v_size, CHECK_END, 0);

    fill_cache(t, k, n_k, a->head_dim, true, kv_pattern);
    fill_cache(t, v, n, a->head_dim, false, kv_pattern);
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
    if (!fits(t->kernel, head_dim)) return;
    /* every query count meets every mask, pattern and cap in turn */
    for (size_t i = 0; i < n_cases; i++) {
        enum mask mask = (enum mask)(i % MASKS);
        enum check_pattern q = (enum check_pattern)(i / 2 % CHECK_PATTERNS);
        enum check_pattern kv = i % 4 == 3 ? q : CHECK_NORMAL;
        struct attn_call c = {.a = {.head_dim = head_dim,
                                    .scale = i % 7 == 6 ? -3.0F : 1.0F / sqrtf((float)head_dim),
                                    .cap = i % 3 == 2 ? 5.0F : 0.0F,
                                    .cold = i % 2 == 1,
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
    check_head_dim(t, ref, 160, 16);
    check_head_dim(t, ref, 256, 16);
}

/* ------------------------------------------------------------------ merge */

struct merge_call {
    tr_attn_merge_fn fn;
    float *max, *sum, *acc;
    struct tr_attn_args a;
};

static void call_merge(void *arg)
{
    struct merge_call *m = arg;
    m->fn(m->max, m->sum, m->acc, &m->a);
}

/* Maxima and sums as chunks leave them, rare ones included. */
static void fill_states(struct check *t, float *max, float *sum, uint32_t n)
{
    static const float rare[] = {-INFINITY, INFINITY, 0.0F, -1e30F, 1e30F};
    for (uint32_t i = 0; i < n; i++) {
        size_t kind = check_below(t, 16);
        max[i] = kind < 5 ? rare[kind] : 20.0F * check_normal(t);
        sum[i] = check_below(t, 8) ? check_uniform(t, 1.0F, 256.0F) : 0.0F;
        if (!check_below(t, 16)) sum[i] = NAN;
    }
}

static void check_merge(struct check *t, const struct tr_kernel *ref, size_t head_dim, uint32_t n_q)
{
    static float acc[TR_ATTN_QUERIES * MAX_DIM], out[TR_ATTN_QUERIES][MAX_DIM];
    struct merge_call m = {.fn = t->kernel->fn.attn_merge, .a = {.head_dim = head_dim, .n_q = n_q}};
    float max[TR_ATTN_QUERIES], sum[TR_ATTN_QUERIES];
    size_t n = n_q * head_dim;
    enum check_pattern pattern = (enum check_pattern)check_below(t, CHECK_PATTERNS);

    check_case(t, "head_dim=%zu n_q=%u out=%s", head_dim, n_q, check_pattern_name(pattern));
    m.max = check_buffer(t, SLOT_K, "max", n_q * 4, CHECK_END, 0);
    m.sum = check_buffer(t, SLOT_V, "sum", n_q * 4, CHECK_START, 4);
    m.acc = check_buffer(t, SLOT_Q, "acc", n * 4, CHECK_END, 0);
    fill_states(t, max, sum, n_q);
    fill_states(t, m.a.max, m.a.sum, n_q);
    check_fill(t, acc, n, CHECK_NORMAL);
    for (uint32_t i = 0; i < n_q; i++) {
        m.a.lo[i] = check_below(t, 5) ? 0 : 256;
        m.a.hi[i] = 256;
        m.a.out[i] = check_buffer(t, SLOT_OUT + i, "out", head_dim * 4, CHECK_END, 0);
        check_fill(t, out[i], head_dim, pattern);
        memcpy(m.a.out[i], out[i], head_dim * 4);
        check_readonly(t, SLOT_OUT + i);
    }
    memcpy(m.max, max, n_q * 4);
    memcpy(m.sum, sum, n_q * 4);
    memcpy(m.acc, acc, n * 4);
    ref->fn.attn_merge(max, sum, acc, &m.a);
    if (check_call(t, call_merge, &m)) {
        check_floats(t, "max", m.max, max, n_q);
        check_floats(t, "sum", m.sum, sum, n_q);
        check_floats(t, "acc", m.acc, acc, n);
    }
    check_release(t);
}

void check_attn_merge(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    (void)k;
    for (uint32_t i = 0; i < 400; i++)
        check_merge(t, ref, 8 * (1 + i * 7 % (MAX_DIM / 8)), 1 + i % TR_ATTN_QUERIES);
}
