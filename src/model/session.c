/* SPDX-License-Identifier: MIT */
/* Sessions: memory plan, life, and evaluation in batches. */
#include "model/session.h"

#include "base/cpu.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "model/rope.h"
#include "trueno/quantize.h"

#include <stddef.h>
#include <string.h>

enum { DEFAULT_CTX = 4096, DEFAULT_BATCH = 512, MAX_SESSION_CTX = 1 << 24, MAX_BATCH = 1 << 16 };

/* ----------------------------------------------------------------------- plan */

/* The cache's format, by trueno_kv_type. */
static const trueno_dtype kv_types[] = {
    [TRUENO_KV_F16] = TRUENO_TYPE_F16,
    [TRUENO_KV_F32] = TRUENO_TYPE_F32,
    [TRUENO_KV_BF16] = TRUENO_TYPE_BF16,
    [TRUENO_KV_Q8_0] = TRUENO_TYPE_Q8_0,
};

static uint32_t at_most(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* What the caller asks for; the fields after max_memory_bytes came later. */
static trueno_status read_options(trueno_session_options *out, const trueno_session_options *opt,
                                  trueno_error *err)
{
    *out = (trueno_session_options)TRUENO_SESSION_OPTIONS_INIT;
    if (opt == NULL ||
        tr_struct_read(out, sizeof *out, opt, offsetof(trueno_session_options, tuner)))
        return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_ARGUMENT, "session options: struct_size is %zu, expected %zu",
                   opt->struct_size, sizeof *opt);
}

trueno_status tr_session_shape_of(struct tr_session_shape *shape, const trueno_model *m,
                                  const trueno_session_options *opt, trueno_error *err)
{
    trueno_session_options given;
    trueno_status status = read_options(&given, opt, err);
    if (status != TRUENO_OK) return status;
    opt = &given;
    if ((size_t)opt->kv_type >= sizeof kv_types / sizeof kv_types[0])
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "session options: kv_type %d is unknown",
                       (int)opt->kv_type);
    shape->kv_type = kv_types[opt->kv_type];
    if (m->hp.head_dim % trueno_dtype_get_info(shape->kv_type)->block != 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "session options: kv_type Q8_0 needs heads of a multiple of 32 elements, "
                       "the model's have %u",
                       m->hp.head_dim);
    if (opt->n_ctx > MAX_SESSION_CTX || opt->n_batch > MAX_BATCH || opt->n_logits > MAX_BATCH ||
        opt->n_threads > 1024)
        return tr_fail(
            err, TRUENO_ERR_ARGUMENT,
            "session options: n_ctx %u, n_batch %u, n_logits %u or n_threads %u is above "
            "%d, %d, %d, 1024",
            opt->n_ctx, opt->n_batch, opt->n_logits, opt->n_threads, MAX_SESSION_CTX, MAX_BATCH,
            MAX_BATCH);
    shape->n_ctx = opt->n_ctx ? opt->n_ctx : at_most(m->hp.n_ctx_train, DEFAULT_CTX);
    shape->ctx_pad = (shape->n_ctx + 15) / 16 * 16;
    shape->n_batch = at_most(opt->n_batch ? opt->n_batch : DEFAULT_BATCH, shape->n_ctx);
    shape->n_logits = at_most(opt->n_logits ? opt->n_logits : 1, shape->n_ctx);
    shape->n_threads = opt->n_threads ? opt->n_threads : at_most(trueno_cpu_count(), 1024);
    return TRUENO_OK;
}

/* Hands out pieces of the arena; with base NULL only the sizes count. */
struct carver {
    uint8_t *base;
    uint64_t used;
    bool ok;
};

static void *carve(struct carver *c, uint64_t n, uint64_t rows, uint64_t elem_bytes)
{
    uint64_t bytes, at = c->used;
    c->ok = c->ok && tr_mul(&bytes, n, rows) && tr_mul(&bytes, bytes, elem_bytes) &&
            tr_align_up(&bytes, bytes, 64) && tr_add(&c->used, c->used, bytes) &&
            c->used <= SIZE_MAX / 2;
    return c->base != NULL && c->ok ? c->base + at : NULL;
}

/* The most that any matrix of the model needs. */
struct needs {
    uint64_t act_bytes[TR_ACT_COUNT]; /* of a packed column, by kind; 0: nothing reads it */
    uint64_t ff_act_bytes;            /* of a packed column of the down projections */
    uint64_t scratch_bytes;           /* of a thread */
};

static void need(uint64_t *most, uint64_t bytes)
{
    if (bytes > *most) *most = bytes;
}

static struct needs needs_of(const trueno_model *m)
{
    struct needs n = {.scratch_bytes = sizeof(float) * m->hp.n_embd}; /* a row of the widest type */
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        const struct tr_layer *y = &m->layers[l];
        const struct tr_matrix *const all[] = {&y->q,    &y->k,  &y->v,    &y->o,
                                               &y->gate, &y->up, &y->down, &m->output};
        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
            enum tr_act act = all[i]->pack->act;
            need(&n.act_bytes[act], tr_act_col_bytes(act, all[i]->cols));
            need(&n.scratch_bytes, tr_matmul_scratch_bytes(all[i]));
        }
        need(&n.ff_act_bytes, tr_act_col_bytes(y->down.pack->act, y->down.cols));
    }
    return n;
}

static void carve_worker(struct tr_worker *w, struct carver *c, const struct tr_hparams *hp,
                         const struct needs *n, uint32_t n_batch)
{
    uint64_t f = sizeof(float), d = hp->head_dim, columns = at_most(TR_NT_MAX, n_batch);
    uint64_t ff_cols = at_most(TR_FF_COLS, n_batch);
    w->x = carve(c, hp->n_embd, columns, f);
    w->h = carve(c, hp->n_embd, columns, f);
    w->row = carve(c, hp->n_embd, 1, f);
    w->attn = carve(c, 2 * TR_ATTN_QUERIES, d, f);
    w->gate = carve(c, TR_FF_ROWS, ff_cols, f);
    w->up = carve(c, TR_FF_ROWS, ff_cols, f);
    w->tile = carve(c, TR_FF_ROWS, columns, f); /* floats are the largest kind */
    for (size_t i = 0; i < TR_ACT_COUNT; i++) w->acts[i] = carve(c, n->act_bytes[i], columns, 1);
    w->scratch = carve(c, n->scratch_bytes, 1, 1);
}

/* K (or V) of one head. */
static uint64_t kv_head_bytes(const trueno_model *m, const struct tr_session_shape *shape)
{
    return shape->ctx_pad * (uint64_t)trueno_row_bytes(shape->kv_type, m->hp.head_dim);
}

static uint64_t kv_heads(const trueno_model *m)
{
    uint64_t heads = 0;
    for (uint32_t l = 0; l < m->hp.n_layer; l++) heads += m->hp.layers[l].n_head_kv;
    return heads;
}

bool tr_session_layout(struct tr_buffers *b, const trueno_model *m,
                       const struct tr_session_shape *shape, void *base)
{
    const struct tr_hparams *hp = &m->hp;
    struct carver c = {base, 0, true};
    const struct needs n = needs_of(m);
    uint64_t t = shape->n_batch, f = sizeof(float), d = hp->head_dim, pairs = hp->n_rot / 2;
    uint64_t columns = at_most(TR_NT_MAX, shape->n_batch);
    uint64_t chunks = shape->n_ctx / TR_ATTN_CHUNK + 1;

    memset(b, 0, sizeof *b);
    b->kv = carve(&c, 2 * kv_heads(m), 1, kv_head_bytes(m, shape));
    b->kv_bytes = (size_t)c.used;
    b->x = carve(&c, hp->n_embd, t, f);
    b->h = carve(&c, hp->n_embd, t, f);
    b->branch = carve(&c, hp->n_embd, t, f);
    b->q = carve(&c, hp->max_head * d, t, f);
    b->k = carve(&c, hp->max_head_kv * d, t, f);
    b->v = carve(&c, hp->max_head_kv * d, t, f);
    b->att = carve(&c, hp->max_head * d, t, f);
    b->parts = carve(&c, hp->max_head * (d + 2), chunks, f);
    b->chunks_done = carve(&c, hp->max_head, 1, sizeof *b->chunks_done);
    b->ff = carve(&c, hp->max_ff, columns, f);
    for (size_t i = 0; i < TR_ACT_COUNT; i++) b->acts[i] = carve(&c, n.act_bytes[i], t, 1);
    b->ff_acts = carve(&c, n.ff_act_bytes, t, 1);
    for (size_t r = 0; r < 2; r++) {
        b->cos[r] = carve(&c, pairs, t, f);
        b->sin[r] = carve(&c, pairs, t, f);
        b->freq[r] = carve(&c, pairs, 1, sizeof(double));
    }
    b->logits = carve(&c, hp->n_vocab, shape->n_logits, f);
    b->workers = carve(&c, shape->n_threads, 1, sizeof *b->workers);
    for (uint32_t i = 0; i < shape->n_threads; i++) {
        struct tr_worker plan;
        carve_worker(b->workers != NULL ? &b->workers[i] : &plan, &c, hp, &n, shape->n_batch);
        (void)carve(&c, 1, 1, 64); /* no line of two threads next to one another */
    }
    b->total_bytes = (size_t)c.used;
    return c.ok;
}

/* What a session holds besides its arena. */
static uint64_t fixed_bytes(const trueno_model *m, const struct tr_session_shape *shape)
{
    return tr_alloc_bytes(sizeof(trueno_session)) +
           2 * tr_alloc_bytes(m->hp.n_layer * sizeof(uint8_t *)) + tr_plan_bytes(m) +
           tr_pool_bytes(shape->n_threads);
}

trueno_status tr_session_estimate(trueno_estimate *out, const trueno_model *m,
                                  const trueno_session_options *opt, trueno_error *err)
{
    struct tr_session_shape shape;
    struct tr_buffers b;
    trueno_status s = tr_session_shape_of(&shape, m, opt, err);
    if (s != TRUENO_OK) return s;
    if (!tr_session_layout(&b, m, &shape, NULL))
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "a session of %u tokens does not fit in memory",
                       shape.n_ctx);
    out->kv_bytes = b.kv_bytes;
    out->compute_bytes = tr_big_bytes(b.total_bytes) - b.kv_bytes + fixed_bytes(m, &shape);
    return TRUENO_OK;
}

/* ----------------------------------------------------------------------- life */

/* The kernels of everything but the matrices, which have theirs. */
static trueno_status choose_kernels(trueno_session *s, trueno_error *err)
{
    const struct tr_arch *arch = s->m->hp.arch;
    trueno_dtype kv = s->shape.kv_type;
    const struct {
        enum tr_op op;
        trueno_dtype type;
    } want[] = {{TR_OP_RMSNORM, TR_TYPE_NONE},
                {arch->geglu ? TR_OP_GEGLU : TR_OP_SWIGLU, TR_TYPE_NONE},
                {arch->rope_neox ? TR_OP_ROPE_NEOX : TR_OP_ROPE_NORM, TR_TYPE_NONE},
                {TR_OP_KV_STORE, kv},
                {TR_OP_ATTENTION, kv},
                {TR_OP_ATTN_MERGE, TR_TYPE_NONE}};
    const struct tr_kernel *got[sizeof want / sizeof want[0]];

    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        trueno_status st =
            tr_kernel_choose(&got[i], NULL, s->ctx, want[i].op, want[i].type, TR_ACT_NONE, err);
        if (st != TRUENO_OK) return st;
    }
    s->rmsnorm = got[0]->fn.rmsnorm;
    s->glu = got[1]->fn.glu;
    s->rope = got[2]->fn.rope;
    s->kv_store = got[3]->fn.kv_store;
    s->attention = got[4]->fn.attention;
    s->attn_merge = got[5]->fn.attn_merge;
    return TRUENO_OK;
}

static void place_caches(trueno_session *s)
{
    uint8_t *at = s->buf.kv;
    s->kv_head_bytes = (size_t)kv_head_bytes(s->m, &s->shape);
    for (uint32_t l = 0; l < s->m->hp.n_layer; l++) {
        size_t bytes = s->m->hp.layers[l].n_head_kv * s->kv_head_bytes;
        s->k_cache[l] = at;
        s->v_cache[l] = at + bytes;
        at += 2 * bytes;
    }
}

static trueno_status build(trueno_session *s, const trueno_session_options *opt, trueno_error *err)
{
    uint32_t n_layer = s->m->hp.n_layer;
    trueno_session_options o;
    trueno_estimate e = TRUENO_ESTIMATE_INIT;
    trueno_status st = read_options(&o, opt, err);
    if (st == TRUENO_OK) st = tr_session_shape_of(&s->shape, s->m, &o, err);
    if (st == TRUENO_OK && o.tuner != NULL && tr_tuner_ctx(o.tuner) != s->ctx)
        st = tr_fail(err, TRUENO_ERR_ARGUMENT,
                     "session options: the tuner is of another context than the model");
    if (st == TRUENO_OK) st = tr_session_estimate(&e, s->m, opt, err);
    if (st != TRUENO_OK) return st;
    uint64_t limit = o.max_memory_bytes ? o.max_memory_bytes : tr_memory_limit();
    if (limit > 0 && e.kv_bytes + e.compute_bytes > limit)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE,
                       "a session of %u tokens needs %llu bytes, above the limit of %llu "
                       "(max_memory_bytes); ask for a smaller n_ctx or n_batch",
                       s->shape.n_ctx, (unsigned long long)(e.kv_bytes + e.compute_bytes),
                       (unsigned long long)limit);
    st = choose_kernels(s, err);
    if (st != TRUENO_OK) return st;
    s->k_cache = tr_calloc(s->ctx, n_layer, sizeof *s->k_cache);
    s->v_cache = tr_calloc(s->ctx, n_layer, sizeof *s->v_cache);
    (void)tr_session_layout(&s->buf, s->m, &s->shape, NULL);
    s->arena = tr_big_alloc(s->ctx, s->buf.total_bytes);
    if (s->k_cache == NULL || s->v_cache == NULL || s->arena == NULL)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a session of %llu bytes",
                       (unsigned long long)(e.kv_bytes + e.compute_bytes));
    (void)tr_session_layout(&s->buf, s->m, &s->shape, s->arena);
    for (uint32_t h = 0; h < s->m->hp.max_head; h++) atomic_init(&s->buf.chunks_done[h], 0);
    place_caches(s);
    for (size_t r = 0; r < 2; r++)
        tr_rope_init(s->buf.freq[r], &s->rope_magnitude[r], s->m, r == 1, s->shape.n_ctx);
    st = tr_plan_init(&s->plan, s->m, o.tuner, s->shape.n_threads, o.profile, err);
    return st == TRUENO_OK ? trueno_pool_new(s->ctx, &s->pool, s->shape.n_threads, err) : st;
}

trueno_status trueno_session_new(trueno_session **out, const trueno_model *m,
                                 const trueno_session_options *opt, trueno_error *err)
{
    if (out == NULL) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_session_new: out is NULL");
    *out = NULL;
    if (m == NULL) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_session_new: model is NULL");
    trueno_session *s = tr_calloc(m->ctx, 1, sizeof *s);
    if (s == NULL) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a session");
    s->ctx = m->ctx;
    s->m = m;
    tr_ctx_ref(s->ctx);
    trueno_status st = build(s, opt, err);
    if (st == TRUENO_OK)
        *out = s;
    else
        trueno_session_free(s);
    return st;
}

void trueno_session_free(trueno_session *s)
{
    if (s == NULL) return;
    trueno_ctx *ctx = s->ctx;
    trueno_pool_free(s->pool);
    tr_plan_free(&s->plan, ctx);
    if (s->arena != NULL) tr_big_free(ctx, s->arena, s->buf.total_bytes);
    tr_free(ctx, s->k_cache);
    tr_free(ctx, s->v_cache);
    tr_free(ctx, s);
    tr_ctx_unref(ctx);
}

/* ----------------------------------------------------------------------- eval */

static trueno_status check_eval(trueno_session *s, const trueno_token *tokens, size_t n,
                                trueno_logits_mode mode)
{
    trueno_error *e = &s->error;
    if (tokens == NULL || n == 0) return tr_fail(e, TRUENO_ERR_ARGUMENT, "eval: no tokens");
    if (n > s->shape.n_ctx - s->n_past)
        return tr_fail(e, TRUENO_ERR_ARGUMENT,
                       "eval: %zu tokens after %u exceed the context of %u (n_ctx)", n, s->n_past,
                       s->shape.n_ctx);
    if ((int)mode < TRUENO_LOGITS_LAST || mode > TRUENO_LOGITS_ALL)
        return tr_fail(e, TRUENO_ERR_ARGUMENT, "eval: logits mode %d is unknown", (int)mode);
    if (mode == TRUENO_LOGITS_ALL && n > s->shape.n_logits)
        return tr_fail(
            e, TRUENO_ERR_ARGUMENT,
            "eval: logits of %zu tokens asked for, the session has room for %u (n_logits)", n,
            s->shape.n_logits);
    for (size_t i = 0; i < n; i++)
        if (tokens[i] < 0 || (uint32_t)tokens[i] >= s->m->hp.n_vocab)
            return tr_fail(e, TRUENO_ERR_ARGUMENT,
                           "eval: token %zu is %d, the vocabulary has %u tokens", i, tokens[i],
                           s->m->hp.n_vocab);
    return TRUENO_OK;
}

static trueno_status eval_batches(trueno_session *s, const trueno_token *tokens, uint32_t n,
                                  trueno_logits_mode mode)
{
    for (uint32_t done = 0, part; done < n; done += part) {
        part = at_most(n - done, s->shape.n_batch);
        bool last = done + part == n;
        uint32_t n_out = mode == TRUENO_LOGITS_ALL ? part : mode == TRUENO_LOGITS_LAST && last;
        uint32_t row = mode == TRUENO_LOGITS_ALL ? done : 0;
        trueno_status status = tr_plan_enter(&s->plan, part, n_out, &s->error);
        if (status != TRUENO_OK) return status;
        bool whole = tr_forward(s, tokens + done, part, s->n_past + done, n_out, row);
        tr_plan_leave(&s->plan, whole);
        if (!whole) return tr_fail(&s->error, TRUENO_ERR_CANCELLED, "eval: cancelled");
    }
    return TRUENO_OK;
}

trueno_status trueno_session_eval(trueno_session *s, const trueno_token *tokens, size_t n_tokens,
                                  trueno_logits_mode mode)
{
    if (s == NULL) return TRUENO_ERR_ARGUMENT;
    if (s->busy) return TRUENO_ERR_BUSY; /* the running call owns the message */
    trueno_status st = check_eval(s, tokens, n_tokens, mode);
    if (st != TRUENO_OK) return st;
    s->busy = true;
    s->logits_count = 0;
    st = eval_batches(s, tokens, (uint32_t)n_tokens, mode);
    s->busy = false;
    if (st != TRUENO_OK) return st;
    s->n_past += (uint32_t)n_tokens;
    s->last_n = (uint32_t)n_tokens;
    s->logits_count = mode == TRUENO_LOGITS_ALL ? s->last_n : mode == TRUENO_LOGITS_LAST;
    s->logits_first = s->last_n - s->logits_count;
    return TRUENO_OK;
}

trueno_status trueno_session_profile(const trueno_session *s, trueno_profile *out)
{
    static const char *const names[TRUENO_STAGE_COUNT] = {"qkv",     "attention", "attn_out",
                                                          "gate_up", "down",      "output"};
    trueno_profile p = TRUENO_PROFILE_INIT;
    if (s == NULL || out == NULL || !TR_STRUCT_OK(out)) return TRUENO_ERR_ARGUMENT;
    p.struct_size = out->struct_size;
    for (int i = 0; i < TRUENO_STAGE_COUNT; i++) p.stages[i].name = names[i];
    if (s->plan.profile) {
        for (int i = 0; i < TRUENO_STAGE_COUNT; i++) {
            p.stages[i].calls = s->plan.times[i].calls;
            p.stages[i].ns = s->plan.times[i].ns;
        }
        p.passes = s->plan.passes;
        p.tokens = s->plan.tokens;
        p.decoded_tokens = s->plan.decoded;
        p.decode_ns = s->plan.decode_ns;
        if (p.decode_ns > 0) p.decode_tps = 1e9 * (double)p.decoded_tokens / (double)p.decode_ns;
    }
    memcpy(out, &p, sizeof p);
    return s->plan.profile ? TRUENO_OK : TRUENO_ERR_NOT_MEASURED;
}

const float *trueno_session_logits(const trueno_session *s, ptrdiff_t index)
{
    if (s == NULL || s->busy || s->logits_count == 0) return NULL;
    if (index == -1) index = (ptrdiff_t)s->last_n - 1;
    if (index < (ptrdiff_t)s->logits_first || index >= (ptrdiff_t)s->last_n) return NULL;
    return s->buf.logits + ((size_t)index - s->logits_first) * s->m->hp.n_vocab;
}

uint32_t trueno_session_n_past(const trueno_session *s)
{
    return s != NULL ? s->n_past : 0;
}

uint32_t trueno_session_n_ctx(const trueno_session *s)
{
    return s != NULL ? s->shape.n_ctx : 0;
}

trueno_status trueno_session_rewind(trueno_session *s, uint32_t n_past)
{
    if (s == NULL) return TRUENO_ERR_ARGUMENT;
    if (s->busy) return TRUENO_ERR_BUSY;
    if (n_past > s->n_past)
        return tr_fail(&s->error, TRUENO_ERR_ARGUMENT, "rewind to %u: the session holds %u tokens",
                       n_past, s->n_past);
    s->n_past = n_past;
    return TRUENO_OK;
}

const char *trueno_session_last_error(const trueno_session *s)
{
    return s != NULL ? s->error.message : "";
}

uint64_t trueno_session_memory_bytes(const trueno_session *s)
{
    return s != NULL ? tr_big_bytes(s->buf.total_bytes) + fixed_bytes(s->m, &s->shape) : 0;
}
