/* SPDX-License-Identifier: MIT */
/* The attention stage: which queries meet which chunks of the cache, and how chunks are merged.
 *
 * A chunk is 256 positions, aligned to absolute positions; chunks are merged in ascending order
 * (online softmax: Milakov & Gimelshein 2018). So neither the split of a prompt nor the number of
 * threads changes a bit. For a single token the chunks of one head are shared among threads, and
 * merged by the one that finishes last; in a prompt one thread takes a head and a few tokens
 * through all. */
#include "model/pass.h"

/* Visible positions [lo, hi) of token t. */
static void visible(const struct tr_pass *p, uint32_t l, size_t t, uint32_t *lo, uint32_t *hi)
{
    uint32_t at = p->pos + (uint32_t)t, window = p->m->hp.layers[l].local ? p->m->hp.window : 0;
    *hi = at + 1;
    *lo = window > 0 && at + 1 > window ? at + 1 - window : 0;
}

static struct tr_attn_args args_of(const struct tr_pass *p, uint32_t l, size_t kv_head)
{
    const trueno_session *s = p->s;
    struct tr_attn_args a = {.k_cache = s->k_cache[l] + kv_head * s->kv_head_bytes,
                             .v_cache = s->v_cache[l] + kv_head * s->kv_head_bytes,
                             .head_dim = p->m->hp.head_dim,
                             .scale = p->m->hp.attn_scale,
                             .cap = p->m->hp.attn_cap};
    return a;
}

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* ------------------------------------------------------------------ a prompt */

/* Tokens [t0, t1), at most TR_ATTN_QUERIES, of one head: all their chunks. */
static void attend_head(const struct tr_thread *t, uint32_t l, size_t head, size_t t0, size_t t1)
{
    const struct tr_pass *p = t->p;
    const struct tr_layer_hparams *lh = &p->m->hp.layers[l];
    size_t d = p->m->hp.head_dim;
    struct tr_attn_args a = args_of(p, l, head / (lh->n_head / lh->n_head_kv));
    uint32_t lo[TR_ATTN_QUERIES] = {0}, hi[TR_ATTN_QUERIES] = {0};
    float max[TR_ATTN_QUERIES], sum[TR_ATTN_QUERIES];
    float *part = t->w.attn, *acc = part + TR_ATTN_QUERIES * d;

    for (size_t i = t0; i < t1; i++) {
        visible(p, l, i, &lo[a.n_q], &hi[a.n_q]);
        a.q[a.n_q] = p->b->q + (i * lh->n_head + head) * d;
        a.out[a.n_q] = part + a.n_q * d;
        max[a.n_q] = sum[a.n_q] = 0;
        a.n_q++;
    }
    /* lo and hi ascend with the tokens */
    for (uint32_t c0 = lo[0] / TR_ATTN_CHUNK * TR_ATTN_CHUNK; c0 < hi[a.n_q - 1];
         c0 += TR_ATTN_CHUNK) {
        for (uint32_t i = 0; i < a.n_q; i++) {
            a.lo[i] = max_u32(lo[i], c0);
            a.hi[i] = min_u32(hi[i], c0 + TR_ATTN_CHUNK);
        }
        p->s->attention(&a);
        p->s->attn_merge(max, sum, acc, &a);
    }
    for (uint32_t i = 0; i < a.n_q; i++) {
        float *out = p->b->att + ((t0 + i) * lh->n_head + head) * d, inv = 1.0F / sum[i];
        for (size_t j = 0; j < d; j++) out[j] = acc[i * d + j] * inv;
    }
}

/* A unit is a head and a few tokens. Heads cost the same; their tokens do not, as later ones see
 * more: dearest first. */
static void attend_prompt(const struct tr_thread *t, uint32_t l)
{
    const struct tr_pass *p = t->p;
    size_t n_tiles = (p->n + TR_ATTN_QUERIES - 1) / TR_ATTN_QUERIES;
    size_t units = n_tiles * p->m->hp.layers[l].n_head, u;
    struct tr_share share = tr_share_of(p->s->pool, units, t->tid, t->n_threads);
    while (tr_share_next(&share, &u)) {
        size_t tile = n_tiles - 1 - u % n_tiles;
        attend_head(t, l, u / n_tiles, tr_tile(tile, p->n, n_tiles),
                    tr_tile(tile + 1, p->n, n_tiles));
    }
}

/* --------------------------------------------------------------- a single token */

/* Chunks [first, end) that the token sees. */
static void chunks_of(const struct tr_pass *p, uint32_t l, uint32_t *first, uint32_t *end)
{
    uint32_t lo, hi;
    visible(p, l, 0, &lo, &hi);
    *first = lo / TR_ATTN_CHUNK;
    *end = (hi - 1) / TR_ATTN_CHUNK + 1;
}

/* Where (max, sum, out[D]) of a head and the i-th visible chunk are. */
static float *part_of(const struct tr_pass *p, uint32_t l, size_t i, size_t head)
{
    return p->b->parts + (i * p->m->hp.layers[l].n_head + head) * (p->m->hp.head_dim + 2);
}

/* Heads [h0, h1) of one KV head, one chunk: the i-th visible. */
static void attend_chunk(const struct tr_pass *p, uint32_t l, size_t i, size_t h0, size_t h1)
{
    const struct tr_layer_hparams *lh = &p->m->hp.layers[l];
    size_t d = p->m->hp.head_dim;
    struct tr_attn_args a = args_of(p, l, h0 / (lh->n_head / lh->n_head_kv));
    uint32_t lo, hi, first, end, c0;

    a.cold = true;
    visible(p, l, 0, &lo, &hi);
    chunks_of(p, l, &first, &end);
    c0 = (first + (uint32_t)i) * TR_ATTN_CHUNK;
    for (size_t h = h0; h < h1; h++, a.n_q++) {
        a.q[a.n_q] = p->b->q + h * d;
        a.out[a.n_q] = part_of(p, l, i, h) + 2;
        a.lo[a.n_q] = max_u32(lo, c0);
        a.hi[a.n_q] = min_u32(hi, c0 + TR_ATTN_CHUNK);
    }
    p->s->attention(&a);
    for (size_t h = h0; h < h1; h++) {
        float *part = part_of(p, l, i, h);
        part[0] = a.max[h - h0];
        part[1] = a.sum[h - h0];
    }
}

/* att of heads [h0, h1) from their n_chunks parts, in ascending order. */
static void merge_chunks(const struct tr_pass *p, uint32_t l, size_t n_chunks, size_t h0, size_t h1)
{
    size_t d = p->m->hp.head_dim;
    struct tr_attn_args a = {.head_dim = d, .n_q = (uint32_t)(h1 - h0)};
    float max[TR_ATTN_QUERIES] = {0}, sum[TR_ATTN_QUERIES] = {0}, *out = p->b->att + h0 * d;

    for (size_t i = 0; i < n_chunks; i++) {
        for (size_t h = h0; h < h1; h++) {
            float *part = part_of(p, l, i, h);
            a.max[h - h0] = part[0];
            a.sum[h - h0] = part[1];
            a.out[h - h0] = part + 2;
            a.hi[h - h0] = 1; /* it sees something */
        }
        p->s->attn_merge(max, sum, out, &a);
    }
    for (size_t h = 0; h < h1 - h0; h++) {
        float inv = 1.0F / sum[h];
        for (size_t j = 0; j < d; j++) out[h * d + j] *= inv;
    }
}

/* A unit is one chunk and the heads of one KV head, or some of them if threads would be idle. Who
 * finishes the last chunk of some heads merges them: most of the parts are still in its cache. */
static void attend_token(const struct tr_thread *t, uint32_t l)
{
    const struct tr_pass *p = t->p;
    const struct tr_layer_hparams *lh = &p->m->hp.layers[l];
    size_t group = lh->n_head / lh->n_head_kv, n_chunks, n_parts, units, u;
    size_t least = (group + TR_ATTN_QUERIES - 1) / TR_ATTN_QUERIES;
    uint32_t first, end;

    chunks_of(p, l, &first, &end);
    n_chunks = end - first;
    n_parts = (t->n_threads + lh->n_head_kv * n_chunks - 1) / (lh->n_head_kv * n_chunks);
    n_parts = n_parts > group ? group : n_parts < least ? least : n_parts;
    units = lh->n_head_kv * n_chunks * n_parts;
    struct tr_share share = tr_share_of(p->s->pool, units, t->tid, t->n_threads);
    while (tr_share_next(&share, &u)) {
        size_t chunk = u % n_chunks, part = u / n_chunks % n_parts;
        size_t head = u / n_chunks / n_parts * group;
        size_t h0 = head + tr_tile(part, group, n_parts);
        size_t h1 = head + tr_tile(part + 1, group, n_parts);
        attend_chunk(p, l, chunk, h0, h1);
        if (atomic_fetch_add(&p->b->chunks_done[h0], 1) + 1 < n_chunks) continue;
        atomic_store(&p->b->chunks_done[h0], 0);
        merge_chunks(p, l, n_chunks, h0, h1);
    }
}

void tr_attend(const struct tr_thread *t, uint32_t l)
{
    if (t->p->n == 1)
        attend_token(t, l);
    else
        attend_prompt(t, l);
}
