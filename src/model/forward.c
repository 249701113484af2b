/* SPDX-License-Identifier: MIT */
/* The forward pass of a batch of tokens, top to bottom.
 *
 * All threads run forward() together and meet at barriers; each stage is split by its outputs (rows
 * of a matrix, tokens, heads), so that who computes a number never changes its bits.
 *
 * Shapes: T tokens, E = n_embd, H heads, KV key-value heads, D = head_dim, F = n_ff, V = n_vocab.
 * Llama: Touvron et al. 2023; GQA: Ainslie et al. 2023; online softmax: Milakov & Gimelshein 2018.
 */
#include "model/rope.h"
#include "model/session.h"

#include "base/ctx.h"
#include "simd/math.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

struct pass {
    trueno_session *s;
    const trueno_model *m;
    const struct tr_buffers *b;
    const trueno_token *tokens;
    uint32_t n, pos, n_out, logits_row;
    atomic_bool stop; /* cancelled: set by thread 0 before a barrier, read by all after it */
};

/* ------------------------------------------------------------ small pieces */

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

/* Packs columns [c0, c0 + nt) of x [T][k] for every kind of kernel among the n readers. */
static void pack_tile(const struct tr_buffers *b, const float *x, size_t k, size_t c0, uint32_t nt,
                      const struct tr_matrix *const *readers, size_t n)
{
    uint32_t done = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tr_kernel *pack = readers[i]->pack;
        if (done & 1U << pack->act) continue;
        done |= 1U << pack->act;
        uint8_t *tile = b->acts[pack->act] + c0 * tr_act_col_bytes(pack->act, k);
        pack->fn.quantize(tile, x + c0 * k, k, k, nt);
    }
}

/* The tiles of n columns that this thread owns. */
static size_t own_tiles(size_t *t0, size_t *t1, size_t n, uint32_t tid, uint32_t n_threads)
{
    size_t n_tiles = tr_n_tiles(n);
    tr_split(t0, t1, n_tiles, 1, tid, n_threads);
    return n_tiles;
}

static void matmul(const struct pass *p, const struct tr_matrix *w, float *y, size_t n,
                   uint32_t tid, uint32_t n_threads)
{
    tr_matmul_part(w, y, w->rows, p->b->acts[w->pack->act], n,
                   p->b->scratch + tid * p->b->scratch_bytes, tid, n_threads);
}

/* ---------------------------------------------------------------- embedding */

/* x = embd[token] * scale, and the rotations of the batch's positions. By tokens. */
static void embed(const struct pass *p, uint32_t tid, uint32_t n_threads)
{
    const struct tr_hparams *hp = &p->m->hp;
    const struct tr_buffers *b = p->b;
    size_t n_pairs = hp->n_rot / 2, t0, t1;
    bool local = false;

    for (uint32_t l = 0; l < hp->n_layer; l++) local |= hp->layers[l].local;
    tr_split(&t0, &t1, p->n, 1, tid, n_threads);
    for (size_t t = t0; t < t1; t++) {
        float *x = b->x + t * hp->n_embd;
        tr_matrix_row(x, &p->m->embd, (size_t)p->tokens[t], b->scratch + tid * b->scratch_bytes);
        for (size_t i = 0; hp->arch->embd_scale && i < hp->n_embd; i++) x[i] *= hp->embd_scale;
        for (size_t r = 0; r < (local ? 2U : 1U); r++)
            tr_rope_angles(b->cos[r] + t * n_pairs, b->sin[r] + t * n_pairs, b->freq[r],
                           p->s->rope_magnitude[r], n_pairs, p->pos + (uint32_t)t);
    }
}

/* ------------------------------------------------------------------ a branch */

/* Adds what the branch before left to the residual stream: x += post_norm(branch + bias). */
static void add_branch(const struct pass *p, size_t t, const float *bias, const float *post_norm)
{
    size_t e = p->m->hp.n_embd;
    float *x = p->b->x + t * e, *y = p->b->branch + t * e;
    if (bias != NULL) add(y, bias, e);
    if (post_norm != NULL) p->s->rmsnorm(y, y, post_norm, e, p->m->hp.eps);
    add(x, y, e);
}

/* Input of a branch: h = norm(x), packed for the readers of h; before that, the branch before is
 * added if it is pending. By tiles of tokens. */
static void branch_input(const struct pass *p, bool pending, const float *bias,
                         const float *post_norm, const float *norm,
                         const struct tr_matrix *const *readers, size_t n, uint32_t tid,
                         uint32_t n_threads)
{
    const struct tr_hparams *hp = &p->m->hp;
    const struct tr_buffers *b = p->b;
    size_t e = hp->n_embd, t0, t1, n_tiles = own_tiles(&t0, &t1, p->n, tid, n_threads);

    for (size_t tile = t0; tile < t1; tile++) {
        size_t c0 = tr_tile(tile, p->n, n_tiles), c1 = tr_tile(tile + 1, p->n, n_tiles);
        for (size_t t = c0; t < c1; t++) {
            if (pending) add_branch(p, t, bias, post_norm);
            p->s->rmsnorm(b->h + t * e, b->x + t * e, norm, e, hp->eps);
        }
        pack_tile(b, b->h, e, c0, (uint32_t)(c1 - c0), readers, n);
    }
}

/* ----------------------------------------------------------------- attention */

/* One head of q or k at one token: bias, norm, rotation. */
static void finish_head(const struct pass *p, float *x, const float *bias, const float *norm,
                        size_t t, bool local)
{
    const struct tr_hparams *hp = &p->m->hp;
    size_t n_pairs = hp->n_rot / 2;
    if (bias != NULL) add(x, bias, hp->head_dim);
    if (norm != NULL) p->s->rmsnorm(x, x, norm, hp->head_dim, hp->eps);
    p->s->rope(x, p->b->cos[local] + t * n_pairs, p->b->sin[local] + t * n_pairs, n_pairs);
}

/* q [T][H][D], k [T][KV][D]: bias, norm, RoPE; k and v into the cache. By (token, head). */
static void rotate_and_store(const struct pass *p, uint32_t l, uint32_t tid, uint32_t n_threads)
{
    const struct tr_layer_hparams *lh = &p->m->hp.layers[l];
    const struct tr_layer *y = &p->m->layers[l];
    size_t d = p->m->hp.head_dim, n_heads = lh->n_head + lh->n_head_kv, u0, u1;
    trueno_session *s = p->s;

    tr_split(&u0, &u1, p->n * n_heads, 1, tid, n_threads);
    for (size_t u = u0; u < u1; u++) {
        size_t t = u / n_heads, head = u % n_heads;
        if (head < lh->n_head) {
            float *q = p->b->q + (t * lh->n_head + head) * d;
            finish_head(p, q, y->q_bias ? y->q_bias + head * d : NULL, y->q_norm, t, lh->local);
            continue;
        }
        head -= lh->n_head;
        float *k = p->b->k + (t * lh->n_head_kv + head) * d;
        float *v = p->b->v + (t * lh->n_head_kv + head) * d;
        finish_head(p, k, y->k_bias ? y->k_bias + head * d : NULL, y->k_norm, t, lh->local);
        if (y->v_bias != NULL) add(v, y->v_bias + head * d, d);
        s->kv_store(s->k_cache[l] + head * s->kv_head_bytes,
                    s->v_cache[l] + head * s->kv_head_bytes, k, v, p->pos + t, d);
    }
}

/* Running softmax of one query: merges the next chunk's (max, sum, out) in. Chunks come in
 * ascending order; the sums are rescaled only when the maximum grows. */
static void merge_chunk(float *max, float *sum, float *acc, float c_max, float c_sum,
                        const float *c_out, size_t d)
{
    if (*sum == 0) {
        *max = c_max;
        *sum = c_sum;
        memcpy(acc, c_out, d * sizeof *acc);
    } else if (c_max > *max) {
        float r = tr_expf(*max - c_max);
        *max = c_max;
        *sum = *sum * r + c_sum;
        for (size_t i = 0; i < d; i++) acc[i] = acc[i] * r + c_out[i];
    } else {
        float r = tr_expf(c_max - *max);
        *sum = *sum + c_sum * r;
        for (size_t i = 0; i < d; i++) acc[i] = acc[i] + c_out[i] * r;
    }
}

/* A few queries that share a KV head. */
struct queries {
    uint32_t n, lo[TR_ATTN_QUERIES], hi[TR_ATTN_QUERIES]; /* visible positions [lo, hi) */
    const float *q[TR_ATTN_QUERIES];
    float *out[TR_ATTN_QUERIES];
};

/* softmax(scale q K^T) V for these queries, chunk by chunk. scratch: 2 * TR_ATTN_QUERIES * D. */
static void attend(const struct pass *p, uint32_t l, size_t kv_head, const struct queries *qs,
                   float *scratch)
{
    const trueno_session *s = p->s;
    size_t d = p->m->hp.head_dim;
    float max[TR_ATTN_QUERIES], sum[TR_ATTN_QUERIES];
    float *acc = scratch, *part = scratch + TR_ATTN_QUERIES * d;
    uint32_t first = UINT32_MAX, last = 0;
    struct tr_attn_args a = {.k_cache = s->k_cache[l] + kv_head * s->kv_head_bytes,
                             .v_cache = s->v_cache[l] + kv_head * s->kv_head_bytes,
                             .head_dim = d,
                             .scale = p->m->hp.attn_scale,
                             .cap = p->m->hp.attn_cap,
                             .n_q = qs->n};

    for (uint32_t i = 0; i < qs->n; i++) {
        a.q[i] = qs->q[i];
        a.out[i] = part + i * d;
        max[i] = sum[i] = 0;
        if (qs->lo[i] < first) first = qs->lo[i];
        if (qs->hi[i] > last) last = qs->hi[i];
    }
    for (uint32_t c = first / TR_ATTN_CHUNK; c * TR_ATTN_CHUNK < last; c++) {
        uint32_t c0 = c * TR_ATTN_CHUNK, c1 = c0 + TR_ATTN_CHUNK;
        for (uint32_t i = 0; i < qs->n; i++) {
            a.lo[i] = qs->lo[i] > c0 ? qs->lo[i] : c0;
            a.hi[i] = qs->hi[i] < c1 ? qs->hi[i] : c1;
        }
        s->attention(&a);
        for (uint32_t i = 0; i < qs->n; i++)
            if (a.lo[i] < a.hi[i])
                merge_chunk(&max[i], &sum[i], acc + i * d, a.max[i], a.sum[i], a.out[i], d);
    }
    for (uint32_t i = 0; i < qs->n; i++) {
        float inv = 1.0F / sum[i];
        for (size_t j = 0; j < d; j++) qs->out[i][j] = acc[i * d + j] * inv;
    }
}

static void add_query(const struct pass *p, const struct tr_layer_hparams *lh, struct queries *qs,
                      size_t t, size_t head)
{
    size_t d = p->m->hp.head_dim;
    uint32_t at = p->pos + (uint32_t)t, window = lh->local ? p->m->hp.window : 0;
    qs->q[qs->n] = p->b->q + (t * lh->n_head + head) * d;
    qs->out[qs->n] = p->b->att + (t * lh->n_head + head) * d;
    qs->hi[qs->n] = at + 1;
    qs->lo[qs->n] = window > 0 && at + 1 > window ? at + 1 - window : 0;
    qs->n++;
}

/* att [T][H][D]. A unit of work is one head and up to 8 tokens in a prompt; for a single token,
 * some heads of one KV head. Units differ in cost (later tokens see more), so they are taken by
 * ticket. */
static void attention(const struct pass *p, uint32_t l, uint32_t tid, uint32_t n_threads)
{
    const struct tr_layer_hparams *lh = &p->m->hp.layers[l];
    float *scratch = (float *)(void *)(p->b->scratch + tid * p->b->scratch_bytes);
    size_t group = lh->n_head / lh->n_head_kv, u;

    if (p->n > 1) {
        size_t n_tiles = (p->n + TR_ATTN_QUERIES - 1) / TR_ATTN_QUERIES;
        size_t units = n_tiles * lh->n_head;
        while ((u = tr_pool_ticket(p->s->pool, units)) < units) {
            size_t head = u / n_tiles, tile = n_tiles - 1 - u % n_tiles; /* dearest first */
            struct queries qs = {.n = 0};
            for (size_t t = tr_tile(tile, p->n, n_tiles); t < tr_tile(tile + 1, p->n, n_tiles); t++)
                add_query(p, lh, &qs, t, head);
            attend(p, l, head / group, &qs, scratch);
        }
        return;
    }
    size_t parts = (n_threads + lh->n_head_kv - 1) / lh->n_head_kv; /* of each group of heads */
    size_t least = (group + TR_ATTN_QUERIES - 1) / TR_ATTN_QUERIES;
    parts = parts > group ? group : parts < least ? least : parts;
    size_t units = parts * lh->n_head_kv;
    while ((u = tr_pool_ticket(p->s->pool, units)) < units) {
        size_t kv_head = u / parts, part = u % parts;
        struct queries qs = {.n = 0};
        for (size_t i = tr_tile(part, group, parts); i < tr_tile(part + 1, group, parts); i++)
            add_query(p, lh, &qs, 0, kv_head * group + i);
        attend(p, l, kv_head, &qs, scratch);
    }
}

/* -------------------------------------------------------------- feed-forward */

/* gate = f(gate) * up, packed for the down projection. By tiles. */
static void gate_and_pack(const struct pass *p, uint32_t l, uint32_t tid, uint32_t n_threads)
{
    const struct tr_matrix *down = &p->m->layers[l].down;
    size_t f = down->cols, t0, t1, n_tiles = own_tiles(&t0, &t1, p->n, tid, n_threads);
    for (size_t tile = t0; tile < t1; tile++) {
        size_t c0 = tr_tile(tile, p->n, n_tiles), c1 = tr_tile(tile + 1, p->n, n_tiles);
        float *gate = p->b->gate + c0 * f;
        p->s->glu(gate, gate, p->b->up + c0 * f, (c1 - c0) * f);
        pack_tile(p->b, p->b->gate, f, c0, (uint32_t)(c1 - c0), &down, 1);
    }
}

/* --------------------------------------------------------------------- output */

/* The last n_out tokens: x += branch, h = norm(x), packed for the output matrix. The packed columns
 * are 0 .. n_out-1. By tiles. */
static void output_input(const struct pass *p, uint32_t tid, uint32_t n_threads)
{
    const struct tr_hparams *hp = &p->m->hp;
    const struct tr_matrix *out = &p->m->output;
    const float *post_norm = p->m->layers[hp->n_layer - 1].post_ffn_norm;
    size_t e = hp->n_embd, first = p->n - p->n_out, t0, t1;
    size_t n_tiles = own_tiles(&t0, &t1, p->n_out, tid, n_threads);

    for (size_t tile = t0; tile < t1; tile++) {
        size_t c0 = tr_tile(tile, p->n_out, n_tiles), c1 = tr_tile(tile + 1, p->n_out, n_tiles);
        for (size_t c = c0; c < c1; c++) {
            add_branch(p, first + c, NULL, post_norm);
            p->s->rmsnorm(p->b->h + c * e, p->b->x + (first + c) * e, p->m->output_norm, e,
                          hp->eps);
        }
        pack_tile(p->b, p->b->h, e, c0, (uint32_t)(c1 - c0), &out, 1);
    }
}

/* logits [n_out][V]: bias and soft cap. By parts of the vocabulary. */
static void finish_logits(const struct pass *p, float *logits, uint32_t tid, uint32_t n_threads)
{
    const struct tr_hparams *hp = &p->m->hp;
    size_t v0, v1;
    if (p->m->output_bias == NULL && !(hp->final_cap > 0)) return;
    tr_split(&v0, &v1, hp->n_vocab, 16, tid, n_threads);
    for (size_t c = 0; c < p->n_out; c++) {
        float *row = logits + c * hp->n_vocab;
        if (p->m->output_bias != NULL) add(row + v0, p->m->output_bias + v0, v1 - v0);
        for (size_t i = v0; hp->final_cap > 0 && i < v1; i++)
            row[i] = tr_softcapf(row[i], hp->final_cap);
    }
}

/* ------------------------------------------------------------------- the pass */

/* One transformer block. False if the pass was cancelled. */
static bool block(struct pass *p, uint32_t l, uint32_t tid, uint32_t n_threads)
{
    const struct tr_layer *y = &p->m->layers[l];
    const struct tr_buffers *b = p->b;
    trueno_pool *pool = p->s->pool;
    const struct tr_matrix *const qkv[] = {&y->q, &y->k, &y->v};
    const struct tr_matrix *const gate_up[] = {&y->gate, &y->up};

    /* attention: x [T][E] -> q, k, v -> att [T][H][D] -> branch [T][E] */
    branch_input(p, l > 0, NULL, l > 0 ? y[-1].post_ffn_norm : NULL, y->attn_norm, qkv, 3, tid,
                 n_threads);
    if (tid == 0 && tr_cancelled(p->s->ctx)) atomic_store(&p->stop, true);
    tr_pool_barrier(pool);
    if (atomic_load(&p->stop)) return false;
    matmul(p, &y->q, b->q, p->n, tid, n_threads);
    matmul(p, &y->k, b->k, p->n, tid, n_threads);
    matmul(p, &y->v, b->v, p->n, tid, n_threads);
    tr_pool_barrier(pool);
    rotate_and_store(p, l, tid, n_threads);
    tr_pool_barrier(pool);
    attention(p, l, tid, n_threads);
    tr_pool_barrier(pool);
    tr_act_pack_part(b->acts[y->o.pack->act], y->o.pack, b->att, y->o.cols, y->o.cols, p->n, tid,
                     n_threads);
    tr_pool_barrier(pool);
    matmul(p, &y->o, b->branch, p->n, tid, n_threads);
    tr_pool_barrier(pool);

    /* feed-forward: x += branch; down(f(gate(h)) * up(h)), F wide inside */
    branch_input(p, true, y->o_bias, y->post_attn_norm, y->ffn_norm, gate_up, 2, tid, n_threads);
    tr_pool_barrier(pool);
    matmul(p, &y->gate, b->gate, p->n, tid, n_threads);
    matmul(p, &y->up, b->up, p->n, tid, n_threads);
    tr_pool_barrier(pool);
    gate_and_pack(p, l, tid, n_threads);
    tr_pool_barrier(pool);
    matmul(p, &y->down, b->branch, p->n, tid, n_threads);
    tr_pool_barrier(pool);
    return true;
}

static void forward(void *arg, uint32_t tid, uint32_t n_threads)
{
    struct pass *p = arg;
    float *logits = p->b->logits + (size_t)p->logits_row * p->m->hp.n_vocab;

    embed(p, tid, n_threads);
    tr_pool_barrier(p->s->pool);
    for (uint32_t l = 0; l < p->m->hp.n_layer; l++)
        if (!block(p, l, tid, n_threads)) return;
    if (p->n_out == 0) return;
    output_input(p, tid, n_threads);
    tr_pool_barrier(p->s->pool);
    matmul(p, &p->m->output, logits, p->n_out, tid, n_threads);
    tr_pool_barrier(p->s->pool);
    finish_logits(p, logits, tid, n_threads);
}

bool tr_forward(trueno_session *s, const trueno_token *tokens, uint32_t n, uint32_t pos,
                uint32_t n_out, uint32_t logits_row)
{
    struct pass p = {.s = s,
                     .m = s->m,
                     .b = &s->buf,
                     .tokens = tokens,
                     .n = n,
                     .pos = pos,
                     .n_out = n_out,
                     .logits_row = logits_row};
    atomic_init(&p.stop, false);
    tr_pool_run(s->pool, forward, &p);
    return !atomic_load(&p.stop);
}
