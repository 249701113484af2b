/* SPDX-License-Identifier: MIT */
/* The forward pass of a batch of tokens, top to bottom.
 *
 * All threads run forward() together and meet at barriers; each stage is split by its outputs (rows
 * of a matrix, tokens, heads), so that who computes a number never changes its bits. What follows a
 * product is done where its results are still in the cache: rotation and the KV cache after q, k
 * and v; activation and packing after gate and up.
 *
 * Shapes: T tokens, E = n_embd, H heads, KV key-value heads, D = head_dim, F = n_ff, V = n_vocab.
 * Llama: Touvron et al. 2023; GQA: Ainslie et al. 2023.
 */
#include "model/pass.h"
#include "model/rope.h"

#include "base/ctx.h"
#include "simd/math.h"

#include <string.h>

/* ------------------------------------------------------------ small pieces */

static void add(float *y, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

/* All meet, unless each thread works on what is its own. */
static void meet(const struct tr_thread *t)
{
    if (!t->p->alone) tr_pool_barrier(t->p->s->pool);
}

static size_t n_tiles_of(const struct tr_pass *p, size_t n)
{
    return tr_n_tiles(n, p->m->output.tile_width);
}

/* The tiles of n columns whose inputs this thread prepares. */
static void own_tiles(const struct tr_thread *t, size_t n, size_t *t0, size_t *t1)
{
    *t0 = 0;
    *t1 = n_tiles_of(t->p, n);
    if (*t1 > 1) tr_split(t0, t1, *t1, 1, t->tid, t->n_threads);
}

/* Packs columns [c0, c1) of x, k floats each, for every kind of kernel among the n readers. */
static void pack_columns(const struct tr_thread *t, const float *x, size_t k, size_t c0, size_t c1,
                         const struct tr_matrix *const *readers, size_t n)
{
    uint32_t done = 0;
    for (size_t i = 0; i < n; i++) {
        const struct tr_kernel *pack = readers[i]->pack;
        if (done & 1U << pack->act) continue;
        done |= 1U << pack->act;
        pack->fn.quantize(t->acts[pack->act] + c0 * tr_act_col_bytes(pack->act, k), x + c0 * k, k,
                          k, (uint32_t)(c1 - c0));
    }
}

/* Packs x [T][w->cols] for w. */
static void pack_for(const struct tr_thread *t, const float *x, const struct tr_matrix *w)
{
    size_t t0, t1, n = t->p->n, n_tiles = n_tiles_of(t->p, n);
    own_tiles(t, n, &t0, &t1);
    for (size_t i = t0; i < t1; i++)
        pack_columns(t, x, w->cols, tr_tile(i, n, n_tiles), tr_tile(i + 1, n, n_tiles), &w, 1);
}

/* Who multiplies m columns with w, ldy floats apart: the stage's kernel if it can, else w's own. */
static const struct tr_kernel *kernel_for(const struct tr_thread *t, enum tr_stage stage,
                                          const struct tr_matrix *w, size_t m, size_t ldy)
{
    const struct tr_kernel *own = tr_matrix_kernel(w, m, ldy), *by = t->p->by[stage];
    return by != NULL && !own->fits && tr_kernel_stands_in(by, w) ? by : own;
}

/* y [n][w->rows] = w x acts, this thread's share. */
static void product(const struct tr_thread *t, enum tr_stage stage, float *y,
                    const struct tr_matrix *w, const uint8_t *acts)
{
    size_t n = t->p->n;
    tr_matmul_part(w, kernel_for(t, stage, w, n, w->rows), y, w->rows, acts, n, t->w.scratch,
                   t->p->s->pool, t->tid, t->n_threads);
}

/* The barrier between two stages: thread 0 says before it who multiplies in the next one, and after
 * it what the last one took. */
static void next_stage(const struct tr_thread *t, enum tr_stage done, uint32_t l,
                       enum tr_stage next, uint32_t next_l)
{
    if (t->tid == 0) t->p->by[next] = tr_plan_kernel(&t->p->s->plan, next, next_l);
    tr_pool_barrier(t->p->s->pool);
    if (t->tid == 0 && t->p->timed) tr_plan_clock(&t->p->s->plan, t->p, done, l);
}

/* ---------------------------------------------------------------- embedding */

/* x = embd[token] * scale, and the rotations of the batch's positions, by tokens. */
static void embed(const struct tr_thread *t)
{
    const struct tr_pass *p = t->p;
    const struct tr_hparams *hp = &p->m->hp;
    const struct tr_buffers *b = p->b;
    size_t n_pairs = hp->n_rot / 2, t0, t1;
    bool local = false;

    for (uint32_t l = 0; l < hp->n_layer; l++) local |= hp->layers[l].local;
    tr_split(&t0, &t1, p->n, 1, t->tid, t->n_threads);
    for (size_t i = t0; i < t1; i++)
        for (size_t r = 0; r < (local ? 2U : 1U); r++)
            tr_rope_angles(b->cos[r] + i * n_pairs, b->sin[r] + i * n_pairs, b->freq[r],
                           p->s->rope_magnitude[r], n_pairs, p->pos + (uint32_t)i);
    for (size_t i = p->alone ? 0 : t0; i < (p->alone ? p->n : t1); i++) {
        float *x = t->x + i * hp->n_embd;
        tr_matrix_row(x, &p->m->embd, (size_t)p->tokens[i], t->w.scratch);
        for (size_t j = 0; hp->arch->embd_scale && j < hp->n_embd; j++) x[j] *= hp->embd_scale;
    }
}

/* ------------------------------------------------------------------ a branch */

/* What a branch left in b->branch, and how it joins the residual stream. */
struct joint {
    bool pending;           /* there is one */
    const float *bias;      /* [E] or NULL */
    const float *post_norm; /* [E] or NULL */
};

/* x += post_norm(branch + bias) of token i; h: room for [E]. */
static void join(const struct tr_thread *t, size_t i, float *x, float *h, const struct joint *j)
{
    size_t e = t->p->m->hp.n_embd;
    const float *branch = t->p->b->branch + i * e;
    if (!j->pending) return;
    if (j->bias == NULL && j->post_norm == NULL) {
        add(x, branch, e);
        return;
    }
    memcpy(h, branch, e * sizeof *h);
    if (j->bias != NULL) add(h, j->bias, e);
    if (j->post_norm != NULL) t->p->s->rmsnorm(h, h, j->post_norm, e, t->p->m->hp.eps);
    add(x, h, e);
}

/* Input of a branch: the branch before joins x; h = norm(x), packed for the readers of h. */
static void branch_input(const struct tr_thread *t, const struct joint *before, const float *norm,
                         const struct tr_matrix *const *readers, size_t n_readers)
{
    const struct tr_pass *p = t->p;
    size_t e = p->m->hp.n_embd, t0, t1, n_tiles = n_tiles_of(p, p->n);

    own_tiles(t, p->n, &t0, &t1);
    for (size_t tile = t0; tile < t1; tile++) {
        size_t c0 = tr_tile(tile, p->n, n_tiles), c1 = tr_tile(tile + 1, p->n, n_tiles);
        for (size_t i = c0; i < c1; i++) {
            join(t, i, t->x + i * e, t->h + i * e, before);
            p->s->rmsnorm(t->h + i * e, t->x + i * e, norm, e, p->m->hp.eps);
        }
        pack_columns(t, t->h, e, c0, c1, readers, n_readers);
    }
}

/* ----------------------------------------------------------------- q, k and v */

/* One head of q or k at token i: bias, norm, rotation. */
static void finish_head(const struct tr_pass *p, float *x, const float *bias, const float *norm,
                        size_t i, bool local)
{
    const struct tr_hparams *hp = &p->m->hp;
    size_t n_pairs = hp->n_rot / 2;
    if (bias != NULL) add(x, bias, hp->head_dim);
    if (norm != NULL) p->s->rmsnorm(x, x, norm, hp->head_dim, hp->eps);
    p->s->rope(x, p->b->cos[local] + i * n_pairs, p->b->sin[local] + i * n_pairs, n_pairs);
}

/* The heads whose rows are in a block, for tokens [c0, c1). */
static void finish_queries(const struct tr_pass *p, uint32_t l, size_t h0, size_t h1, size_t c0,
                           size_t c1)
{
    const struct tr_layer_hparams *lh = &p->m->hp.layers[l];
    const struct tr_layer *y = &p->m->layers[l];
    size_t d = p->m->hp.head_dim;
    for (size_t i = c0; i < c1; i++)
        for (size_t h = h0; h < h1; h++)
            finish_head(p, p->b->q + (i * lh->n_head + h) * d, y->q_bias ? y->q_bias + h * d : NULL,
                        y->q_norm, i, lh->local);
}

/* Keys and values into the cache. */
static void finish_keys(const struct tr_pass *p, uint32_t l, size_t h0, size_t h1, size_t c0,
                        size_t c1)
{
    const struct tr_layer_hparams *lh = &p->m->hp.layers[l];
    const struct tr_layer *y = &p->m->layers[l];
    trueno_session *s = p->s;
    size_t d = p->m->hp.head_dim;

    for (size_t i = c0; i < c1; i++) {
        for (size_t h = h0; h < h1; h++) {
            float *k = p->b->k + (i * lh->n_head_kv + h) * d;
            float *v = p->b->v + (i * lh->n_head_kv + h) * d;
            finish_head(p, k, y->k_bias ? y->k_bias + h * d : NULL, y->k_norm, i, lh->local);
            if (y->v_bias != NULL) add(v, y->v_bias + h * d, d);
            s->kv_store(s->k_cache[l] + h * s->kv_head_bytes, s->v_cache[l] + h * s->kv_head_bytes,
                        k, v, p->pos + i, d);
        }
    }
}

/* Rows of w in a block of the columns, into y [T][w->rows]. */
static void product_block(const struct tr_thread *t, float *y, const struct tr_matrix *w,
                          const struct tr_block *b)
{
    tr_matmul_block(w, kernel_for(t, TR_STAGE_QKV, w, b->m, w->rows),
                    y + tr_block_col(b, b->t0) * w->rows + TR_ROWS * b->g0, w->rows,
                    t->acts[w->pack->act], b, t->w.scratch);
}

/* q [T][H][D] rotated, k and v rotated and stored, in one pass over units of a head (two, if a head
 * is not made of whole row groups) and some tokens. A key's unit does its value too: it comes first
 * so that no thread is left with it. */
static void queries_keys_values(const struct tr_thread *t, uint32_t l)
{
    const struct tr_pass *p = t->p;
    const struct tr_layer *y = &p->m->layers[l];
    size_t d = p->m->hp.head_dim, heads = d % TR_ROWS ? 2 : 1, groups = heads * d / TR_ROWS;
    struct tr_cut keys = tr_cut_of(&y->k, groups, p->n, tr_block_cols(&y->k));
    struct tr_cut queries = tr_cut_of(&y->q, groups, p->n, tr_block_cols(&y->q));
    struct tr_share share =
        tr_share_of(p->s->pool, keys.n_units + queries.n_units, t->tid, t->n_threads);

    for (size_t u; tr_share_next(&share, &u);) {
        bool key = u < keys.n_units;
        struct tr_block b =
            key ? tr_cut_block(&keys, u, p->n) : tr_cut_block(&queries, u - keys.n_units, p->n);
        size_t c0 = tr_block_col(&b, b.t0), c1 = tr_block_col(&b, b.t1);
        size_t h0 = b.g0 * TR_ROWS / d, n_heads = (key ? y->k.rows : y->q.rows) / d;
        size_t h1 = h0 + heads < n_heads ? h0 + heads : n_heads;
        if (key) {
            product_block(t, p->b->k, &y->k, &b);
            product_block(t, p->b->v, &y->v, &b);
            finish_keys(p, l, h0, h1, c0, c1);
        } else {
            product_block(t, p->b->q, &y->q, &b);
            finish_queries(p, l, h0, h1, c0, c1);
        }
    }
}

/* -------------------------------------------------------------- feed-forward */

/* One tile: rows [r0, r0 + n) of f(gate) * up, packed where the down projection reads them. */
static void pack_rows(const struct tr_thread *t, const struct tr_matrix *down, const float *rows,
                      size_t r0, size_t n, size_t c0, size_t c1)
{
    enum tr_act act = down->pack->act;
    uint8_t *tile = t->p->b->ff_acts + c0 * tr_act_col_bytes(act, down->cols);
    uint32_t nt = (uint32_t)(c1 - c0);
    down->pack->fn.quantize(t->w.tile, rows, TR_FF_ROWS, n, nt);
    tr_act_put(act, tile, down->cols, r0, t->w.tile, n, nt);
}

/* f(gate h) * (up h): in a prompt packed for the down projection, else ff [T][F]. A unit is some
 * rows and some tokens; its gate and up never leave the cache. */
static void gate_and_up(const struct tr_thread *t, uint32_t l)
{
    const struct tr_pass *p = t->p;
    const struct tr_layer *y = &p->m->layers[l];
    size_t f = y->gate.rows, rows = p->alone ? TR_FF_ROWS_ALONE : TR_FF_ROWS;
    struct tr_cut cut = tr_cut_of(&y->gate, rows / TR_ROWS, p->n, TR_FF_COLS);
    struct tr_share share = tr_share_of(p->s->pool, cut.n_units, t->tid, t->n_threads);
    const struct tr_kernel *by_gate = kernel_for(t, TR_STAGE_GATE_UP, &y->gate, p->n, TR_FF_ROWS);
    const struct tr_kernel *by_up = kernel_for(t, TR_STAGE_GATE_UP, &y->up, p->n, TR_FF_ROWS);

    for (size_t u; tr_share_next(&share, &u);) {
        struct tr_block b = tr_cut_block(&cut, u, p->n);
        size_t first = tr_block_col(&b, b.t0), r0 = TR_ROWS * b.g0;
        size_t n = f - r0 < rows ? f - r0 : rows;
        tr_matmul_block(&y->gate, by_gate, t->w.gate, TR_FF_ROWS, t->acts[y->gate.pack->act], &b,
                        t->w.scratch);
        tr_matmul_block(&y->up, by_up, t->w.up, TR_FF_ROWS, t->acts[y->up.pack->act], &b,
                        t->w.scratch);
        for (size_t tile = b.t0; tile < b.t1; tile++) {
            size_t c0 = tr_block_col(&b, tile), c1 = tr_block_col(&b, tile + 1);
            float *gate = t->w.gate + (c0 - first) * TR_FF_ROWS;
            const float *up = t->w.up + (c0 - first) * TR_FF_ROWS;
            for (size_t i = 0; i < c1 - c0; i++)
                p->s->glu(p->alone ? p->b->ff + i * f + r0 : gate + i * TR_FF_ROWS,
                          gate + i * TR_FF_ROWS, up + i * TR_FF_ROWS, n);
            if (!p->alone) pack_rows(t, &y->down, gate, r0, n, c0, c1);
        }
    }
}

/* --------------------------------------------------------------------- output */

/* The last n_out tokens: h = norm(x + branch), packed for the output matrix as columns
 * 0 .. n_out - 1. x stays as it is: if there are few tokens, every thread reads all of them. */
static void output_input(const struct tr_thread *t, const struct joint *before, bool own)
{
    const struct tr_pass *p = t->p;
    const struct tr_matrix *out = &p->m->output;
    size_t e = p->m->hp.n_embd, first = p->n - p->n_out, t0, t1, n_tiles = n_tiles_of(p, p->n_out);
    uint8_t *acts = own ? t->w.acts[out->pack->act] : p->b->acts[out->pack->act];
    float *h = own ? t->w.h : p->b->h;

    own_tiles(t, p->n_out, &t0, &t1);
    for (size_t tile = t0; tile < t1; tile++) {
        size_t c0 = tr_tile(tile, p->n_out, n_tiles), c1 = tr_tile(tile + 1, p->n_out, n_tiles);
        for (size_t c = c0; c < c1; c++) {
            float *x = t->w.row;
            memcpy(x, t->x + (first + c) * e, e * sizeof *x);
            join(t, first + c, x, h + c * e, before);
            p->s->rmsnorm(h + c * e, x, p->m->output_norm, e, p->m->hp.eps);
        }
        out->pack->fn.quantize(acts + c0 * tr_act_col_bytes(out->pack->act, e), h + c0 * e, e, e,
                               (uint32_t)(c1 - c0));
    }
}

/* logits [n_out][V]: product, bias, soft cap. By parts of the vocabulary. */
static void output(const struct tr_thread *t, float *logits, const uint8_t *acts)
{
    const struct tr_pass *p = t->p;
    const struct tr_hparams *hp = &p->m->hp;
    const struct tr_matrix *w = &p->m->output;
    const struct tr_kernel *by = kernel_for(t, TR_STAGE_OUTPUT, w, p->n_out, hp->n_vocab);
    struct tr_cut cut = tr_matmul_cut(w, by, p->n_out);
    struct tr_share share = tr_share_of(p->s->pool, cut.n_units, t->tid, t->n_threads);

    for (size_t u; tr_share_next(&share, &u);) {
        struct tr_block b = tr_cut_block(&cut, u, p->n_out);
        size_t c0 = tr_block_col(&b, b.t0), c1 = tr_block_col(&b, b.t1);
        size_t v0 = TR_ROWS * b.g0, v1 = TR_ROWS * b.g1 < w->rows ? TR_ROWS * b.g1 : w->rows;
        tr_matmul_block(w, by, logits + c0 * w->rows + v0, w->rows, acts, &b, t->w.scratch);
        for (size_t c = c0; c < c1; c++) {
            float *row = logits + c * w->rows;
            if (p->m->output_bias != NULL) add(row + v0, p->m->output_bias + v0, v1 - v0);
            for (size_t i = v0; hp->final_cap > 0 && i < v1; i++)
                row[i] = tr_softcapf(row[i], hp->final_cap);
        }
    }
}

/* ------------------------------------------------------------------- the pass */

/* One transformer block. False if the pass was cancelled. */
static bool block(const struct tr_thread *t, uint32_t l)
{
    struct tr_pass *p = t->p;
    const struct tr_layer *y = &p->m->layers[l];
    const struct tr_buffers *b = p->b;
    const bool last = l + 1 == p->m->hp.n_layer;
    const struct tr_matrix *const qkv[] = {&y->q, &y->k, &y->v};
    const struct tr_matrix *const gate_up[] = {&y->gate, &y->up};
    const struct joint before = {l > 0, NULL, l > 0 ? y[-1].post_ffn_norm : NULL};
    const struct joint attended = {true, y->o_bias, y->post_attn_norm};

    /* attention: x [T][E] -> q, k, v -> att [T][H][D] -> branch [T][E] */
    branch_input(t, &before, y->attn_norm, qkv, 3);
    if (t->tid == 0 && tr_cancelled(p->s->ctx)) atomic_store(&p->stop, true);
    meet(t);
    queries_keys_values(t, l);
    next_stage(t, TR_STAGE_QKV, l, TR_STAGE_ATTEND, l);
    if (atomic_load(&p->stop)) return false;
    tr_attend(t, l);
    next_stage(t, TR_STAGE_ATTEND, l, TR_STAGE_O, l);
    pack_for(t, b->att, &y->o);
    meet(t);
    product(t, TR_STAGE_O, b->branch, &y->o, t->acts[y->o.pack->act]);
    next_stage(t, TR_STAGE_O, l, TR_STAGE_GATE_UP, l);

    /* feed-forward: down(f(gate(h)) * up(h)), F wide inside -> branch [T][E] */
    branch_input(t, &attended, y->ffn_norm, gate_up, 2);
    meet(t);
    gate_and_up(t, l);
    next_stage(t, TR_STAGE_GATE_UP, l, TR_STAGE_DOWN, l);
    if (p->alone) pack_for(t, b->ff, &y->down);
    product(t, TR_STAGE_DOWN, b->branch, &y->down,
            p->alone ? t->acts[y->down.pack->act] : b->ff_acts);
    next_stage(t, TR_STAGE_DOWN, l, last ? TR_STAGE_OUTPUT : TR_STAGE_QKV, last ? 0 : l + 1);
    return true;
}

static void forward(void *arg, uint32_t tid, uint32_t n_threads)
{
    struct tr_pass *p = arg;
    const struct tr_buffers *b = p->b;
    struct tr_thread t = {.p = p, .tid = tid, .n_threads = n_threads, .w = b->workers[tid]};
    uint32_t n_layer = p->m->hp.n_layer;
    bool own = p->n_out <= TR_NT_MAX;

    t.x = p->alone ? t.w.x : b->x;
    t.h = p->alone ? t.w.h : b->h;
    t.acts = p->alone ? t.w.acts : b->acts;
    embed(&t);
    if (tid == 0) tr_plan_begin(&p->s->plan, p);
    tr_pool_barrier(p->s->pool);
    for (uint32_t l = 0; l < n_layer; l++)
        if (!block(&t, l)) return;
    if (p->n_out == 0) return;

    const struct joint before = {true, NULL, p->m->layers[n_layer - 1].post_ffn_norm};
    enum tr_act act = p->m->output.pack->act;
    output_input(&t, &before, own);
    if (!own) tr_pool_barrier(p->s->pool);
    output(&t, b->logits + (size_t)p->logits_row * p->m->hp.n_vocab,
           own ? t.w.acts[act] : b->acts[act]);
    if (!p->timed) return; /* the run's own end is meeting enough */
    tr_pool_barrier(p->s->pool);
    if (tid == 0) tr_plan_clock(&p->s->plan, p, TR_STAGE_OUTPUT, 0);
}

bool tr_forward(trueno_session *s, const trueno_token *tokens, uint32_t n, uint32_t pos,
                uint32_t n_out, uint32_t logits_row)
{
    struct tr_pass p = {.s = s,
                        .m = s->m,
                        .b = &s->buf,
                        .tokens = tokens,
                        .n = n,
                        .pos = pos,
                        .n_out = n_out,
                        .logits_row = logits_row,
                        .alone = n <= TR_NT_MAX,
                        .began_ns = s->plan.profile ? tr_plan_now(&s->plan) : 0};
    atomic_init(&p.stop, false);
    tr_pool_run_on(s->pool, s->plan.pass.threads, forward, &p);
    bool whole = !atomic_load(&p.stop);
    tr_plan_end(&s->plan, &p, whole);
    return whole;
}
