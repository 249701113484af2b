/* SPDX-License-Identifier: MIT */
/* The two inner products of attention as register tiles, for one instruction set. attn_avx2.c,
 * attn_avx512.c and attn_neon.c include this after they have defined
 *
 *   vec, LANES             vector of LANES floats (4, 8 or 16)
 *   MAX_NQ                 most queries of one tile (4 or 8)
 *   PANELS(nq), ROWS(nq)   panels of keys, at most 4, and vectors of a value row, a power of two
 *                          up to 8, that fit the registers beside nq queries
 *   vec_zero() vec_set1(x) vec_mul(a, b) vec_add(a, b) vec_fma(a, b, c) exp_lanes(x)
 *   vec_load(p, n) vec_store(p, v, n)    n floats: LANES, or 8
 *   vec_f16(p, n) vec_bf16(p, n)         n halves, widened
 *   vec_i8(p) vec_scales(p) vec_scale(p) LANES int8; LANES f16; one f16 in all lanes
 *
 * nq, np, nv, n and type are constants wherever a tile is used: each combination becomes its own
 * straight code. A chain over d or over positions is never cut, so that the tiling leaves no trace
 * in the bits. */
#ifndef TR_ATTN_TILE_H
#define TR_ATTN_TILE_H

#include <math.h>
#include <string.h>

#include "attn_run.h"
#include "kv_q8_0.h"

#define INLINE inline __attribute__((always_inline))
/* Before loops of constant length: arrays of vectors become registers once no index is left. */
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 8")
#endif

/* Vectors of one panel of 16 positions. */
#define PANEL_VECS (16 / LANES)

/* Up to MAX_NQ queries of one call. */
struct tile {
    const struct tr_attn_args *a;
    uint32_t n_q;
    const float *q[MAX_NQ];
    float *e; /* [n_q][TR_ATTN_CHUNK]: scores, later their exponentials */
    float *out[MAX_NQ];
    bool stairs; /* mix: query i sees i positions more than the run has */
};

/* n elements from i of a cache without blocks. */
static INLINE vec plain(const void *cache, size_t i, trueno_dtype type, unsigned n)
{
    if (type == TRUENO_TYPE_F16) return vec_f16((const uint16_t *)cache + i, n);
    if (type == TRUENO_TYPE_BF16) return vec_bf16((const uint16_t *)cache + i, n);
    return vec_load((const float *)cache + i, n);
}

/* Bytes of one element of 16 positions: a column of a panel of keys; of values about as many. */
static INLINE size_t column_bytes(trueno_dtype type)
{
    return type == TRUENO_TYPE_Q8_0 ? KEY_BLOCK_BYTES / 32 : type == TRUENO_TYPE_F32 ? 64 : 32;
}

/* Where the caller says that keys and values come from memory, tiles ask for what comes next: for
 * the values while the scores before them are computed, for the keys of the next chunk with this
 * one's values. NULL: nowhere. */
static INLINE const char *next_of(const struct tr_attn_args *a, const void *cache, size_t panel,
                                  trueno_dtype type)
{
    return a->cold ? (const char *)cache + panel * a->head_dim * column_bytes(type) : NULL;
}

/* The lines of n bytes. A few at each step of a tile: many at once would hold up its loads. */
static INLINE void fetch(const char *p, size_t n)
{
    UNROLL
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch(p + i, 0, 2);
}

/* s[i][j] += q[i][d] k[j] for n elements d from d0 on. */
static INLINE void dot_block(vec s[][4 * PANEL_VECS], const struct tile *t, size_t panel, size_t d0,
                             size_t n, unsigned nq, unsigned np, trueno_dtype type)
{
    bool q8 = type == TRUENO_TYPE_Q8_0;
    size_t dim = t->a->head_dim, q8_stride = dim / 32 * KEY_BLOCK_BYTES;
    const uint8_t *q8_block =
        (const uint8_t *)t->a->k_cache + panel * q8_stride + d0 / 32 * KEY_BLOCK_BYTES;
    vec key[4 * PANEL_VECS], scale[4 * PANEL_VECS];
    const size_t step = np * column_bytes(type);
    const char *next = next_of(t->a, t->a->v_cache, panel, type);

    if (next) next += d0 * step;
    if (q8) {
        UNROLL
        for (unsigned j = 0; j < np * PANEL_VECS; j++)
            scale[j] =
                vec_scales(q8_block + j / PANEL_VECS * q8_stride + j % PANEL_VECS * LANES * 2);
    }
    for (size_t d = 0; d < n; d++) {
        if (next) fetch(next + d * step, step);
        UNROLL
        for (unsigned j = 0; j < np * PANEL_VECS; j++) {
            size_t lane = 16 * d + j % PANEL_VECS * LANES;
            size_t at = (panel + j / PANEL_VECS) * dim * 16 + 16 * d0 + lane;
            const uint8_t *q = q8_block + j / PANEL_VECS * q8_stride + 2 * 16 + lane;
            key[j] = q8 ? vec_mul(vec_i8(q), scale[j]) : plain(t->a->k_cache, at, type, LANES);
        }
        UNROLL
        for (unsigned i = 0; i < nq; i++) {
            vec x = vec_set1(t->q[i][d0 + d]);
            UNROLL
            for (unsigned j = 0; j < np * PANEL_VECS; j++) s[i][j] = vec_fma(key[j], x, s[i][j]);
        }
    }
}

/* e[i][p] = q[i] . k[p] for np panels from `panel` on. */
static INLINE void dot_panels(const struct tile *t, size_t panel, unsigned nq, unsigned np,
                              trueno_dtype type)
{
    size_t dim = t->a->head_dim, n = type == TRUENO_TYPE_Q8_0 ? 32 : dim;
    vec s[MAX_NQ][4 * PANEL_VECS];

    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        UNROLL
        for (unsigned j = 0; j < np * PANEL_VECS; j++) s[i][j] = vec_zero();
    }
    for (size_t d = 0; d < dim; d += n) dot_block(s, t, panel, d, n, nq, np, type);
    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        float *e = t->e + i * TR_ATTN_CHUNK + 16 * panel % TR_ATTN_CHUNK;
        UNROLL
        for (unsigned j = 0; j < np * PANEL_VECS; j++) vec_store(e + LANES * j, s[i][j], LANES);
    }
}

/* Tiles of PANELS(nq); what is left in twos and ones, and four as two and two. */
static INLINE void dot_run(const struct tile *t, const struct run *r, unsigned nq,
                           trueno_dtype type)
{
    const unsigned most = PANELS(nq);
    size_t p = r->begin, end = r->end;

    for (; end - p >= most && !(most == 3 && end - p == 4); p += most)
        dot_panels(t, p, nq, most, type);
    if (most > 2)
        for (; end - p >= 2; p += 2) dot_panels(t, p, nq, 2, type);
    for (; p < end; p++) dot_panels(t, p, nq, 1, type);
}

/* n elements from d on of the value of position p; j vectors after one that begins a block of the
 * tile's. */
static INLINE vec value_at(const struct tr_attn_args *a, size_t p, size_t d, unsigned j,
                           trueno_dtype type, unsigned n)
{
    size_t dim = a->head_dim;
    const uint8_t *row = (const uint8_t *)a->v_cache + p * (dim / 32 * VALUE_BLOCK_BYTES);
    const uint8_t *q = row + dim / 32 * 2 + d + LANES * j;

    if (type != TRUENO_TYPE_Q8_0) return plain(a->v_cache, p * dim + d + LANES * j, type, n);
    /* tiles wider than a block of 32 begin with one, others lie in one */
    return vec_mul(vec_i8(q), vec_scale(row + 2 * (d / 32 + LANES * j / 32)));
}

/* o[i][j] += sum over n_p positions of a panel from p on of e[i][p] * v[p]. */
static INLINE void mix_positions(vec o[][8], const struct tr_attn_args *a, const float *e, size_t p,
                                 size_t n_p, size_t d, unsigned nq, unsigned nv, trueno_dtype type,
                                 unsigned n)
{
    const float *const end = e + n_p;
    const size_t step = nv * LANES * column_bytes(type) / 16; /* of the next keys, at a position */
    const char *next = next_of(a, a->k_cache, (p + TR_ATTN_CHUNK) / 16, type);

    if (next) next += d * column_bytes(type) + p % 16 * step;
    for (; e < end; e++, p++) {
        vec value[8];
        if (next) {
            fetch(next, step);
            next += step;
        }
        UNROLL
        for (unsigned j = 0; j < nv; j++) value[j] = value_at(a, p, d, j, type, n);
        UNROLL
        for (unsigned i = 0; i < nq; i++) {
            vec x = vec_set1(e[i * TR_ATTN_CHUNK]);
            UNROLL
            for (unsigned j = 0; j < nv; j++) o[i][j] = vec_fma(x, value[j], o[i][j]);
        }
    }
}

/* o[i][j] += e[i][p] * v[p] for the queries from number `first` on. */
static INLINE void mix_step(vec o[][8], const struct tr_attn_args *a, const float *e, size_t p,
                            size_t d, unsigned first, unsigned nq, unsigned nv, trueno_dtype type,
                            unsigned n)
{
    vec value[8];
    UNROLL
    for (unsigned j = 0; j < nv; j++) value[j] = value_at(a, p, d, j, type, n);
    UNROLL
    for (unsigned i = 1; i < nq; i++) {
        if (i < first) continue;
        vec x = vec_set1(e[i * TR_ATTN_CHUNK]);
        UNROLL
        for (unsigned j = 0; j < nv; j++) o[i][j] = vec_fma(x, value[j], o[i][j]);
    }
}

/* out[i] += sum over the run of e[i][p] * v[p], for nv vectors of n elements from d on. */
static INLINE void mix_rows(const struct tile *t, const struct run *r, size_t d, unsigned nq,
                            unsigned nv, trueno_dtype type, unsigned n)
{
    const float *e = t->e + r->begin % TR_ATTN_CHUNK;
    vec o[MAX_NQ][8];

    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        UNROLL
        for (unsigned j = 0; j < nv; j++) o[i][j] = vec_load(t->out[i] + d + LANES * j, n);
    }
    for (size_t p = r->begin, n_p; p < r->end; p += n_p, e += n_p) {
        n_p = 16 - p % 16 < r->end - p ? 16 - p % 16 : r->end - p;
        mix_positions(o, t->a, e, p, n_p, d, nq, nv, type, n);
    }
    for (unsigned step = 1; t->stairs && step < nq; step++, e++)
        mix_step(o, t->a, e, r->end + step - 1, d, step, nq, nv, type, n);
    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        UNROLL
        for (unsigned j = 0; j < nv; j++) vec_store(t->out[i] + d + LANES * j, o[i][j], n);
    }
}

/* As many blocks of nv vectors as fit the rest of the row; returns where they end. */
static INLINE size_t mix_blocks(const struct tile *t, const struct run *r, size_t d, unsigned nq,
                                unsigned nv, trueno_dtype type)
{
    if (nv > ROWS(nq)) return d;
    for (; d + LANES * nv <= t->a->head_dim; d += LANES * nv)
        mix_rows(t, r, d, nq, nv, type, LANES);
    return d;
}

static INLINE void mix_run(const struct tile *t, const struct run *r, unsigned nq,
                           trueno_dtype type)
{
    size_t d = mix_blocks(t, r, 0, nq, 8, type);
    d = mix_blocks(t, r, d, nq, 4, type);
    d = mix_blocks(t, r, d, nq, 2, type);
    d = mix_blocks(t, r, d, nq, 1, type);
    if (type != TRUENO_TYPE_Q8_0 && d < t->a->head_dim) mix_rows(t, r, d, nq, 1, type, 8);
}

static INLINE void dot_or_mix(const struct tile *t, const struct run *r, bool mix, unsigned nq,
                              trueno_dtype type)
{
    if (mix)
        mix_run(t, r, nq, type);
    else
        dot_run(t, r, nq, type);
}

static INLINE void any_tile(const struct tile *t, const struct run *r, bool mix, trueno_dtype type)
{
    switch (t->n_q) {
    case 1: dot_or_mix(t, r, mix, 1, type); break;
    case 2: dot_or_mix(t, r, mix, 2, type); break;
    case 3: dot_or_mix(t, r, mix, 3, type); break;
    case 4: dot_or_mix(t, r, mix, 4, type); break;
#if MAX_NQ == 8
    case 5: dot_or_mix(t, r, mix, 5, type); break;
    case 6: dot_or_mix(t, r, mix, 6, type); break;
    case 7: dot_or_mix(t, r, mix, 7, type); break;
    case 8: dot_or_mix(t, r, mix, 8, type); break;
#endif
    }
}

/* How many of the run's queries from the first-th on are neighbours. */
static INLINE uint32_t neighbours(const struct run *r, uint32_t first)
{
    uint32_t n = 1;
    while (first + n < r->n_q && r->q[first + n] == r->q[first] + n) n++;
    return n;
}

/* Whether each query sees one position more than the one before it: the end of what the tokens of a
 * prompt see. As runs these would be one for each position. */
static INLINE bool are_stairs(const struct tr_attn_args *a)
{
    bool stairs = a->n_q > 1 && a->lo[0] < a->hi[0];
    for (uint32_t i = 1; i < a->n_q; i++)
        stairs = stairs && a->lo[i] == a->lo[0] && a->hi[i] == a->hi[0] + i;
    return stairs;
}

/* Queries [i, i + n) of the call, over a run. */
static INLINE void one_tile(const struct tr_attn_args *a, float e[][TR_ATTN_CHUNK], uint32_t i,
                            uint32_t n, const struct run *r, bool mix, bool stairs,
                            trueno_dtype type)
{
    struct tile t = {.a = a, .n_q = n, .e = e[i], .stairs = stairs};
    for (uint32_t k = 0; k < n; k++) {
        t.q[k] = a->q[i + k];
        t.out[k] = a->out[i + k];
    }
    any_tile(&t, r, mix, type);
}

/* All runs, each by its queries in tiles of nearly equal size. The queries of a tile are
 * neighbours, so that one address leads to all their scores. */
static INLINE void all_runs(const struct tr_attn_args *a, float e[][TR_ATTN_CHUNK], bool mix,
                            trueno_dtype type)
{
    struct ranges s = ranges_of(a, mix ? 1 : 16);
    struct run r = {0};

    if (mix && are_stairs(a)) {
        uint32_t n_tiles = (a->n_q + MAX_NQ - 1) / MAX_NQ, n = (a->n_q + n_tiles - 1) / n_tiles;
        for (uint32_t i = 0; i < a->n_q; i += n) {
            r.begin = a->lo[0];
            r.end = a->hi[i];
            one_tile(a, e, i, a->n_q - i < n ? a->n_q - i : n, &r, true, true, type);
        }
        return;
    }
    while (next_run(&r, &s, r.end)) {
        for (uint32_t i = 0, n; i < r.n_q; i += n) {
            uint32_t left = neighbours(&r, i), n_tiles = (left + MAX_NQ - 1) / MAX_NQ;
            n = (left + n_tiles - 1) / n_tiles;
            one_tile(a, e, r.q[i], n, &r, mix, false, type);
        }
    }
}

/* tr_attn_merge_fn. r = exp(-|M - m|), whichever is larger. */
static INLINE void merge(float *max, float *sum, float *acc, const struct tr_attn_args *a)
{
    float ratio[TR_ATTN_QUERIES] = {0};

    for (uint32_t i = 0; i < a->n_q; i++) ratio[i] = -fabsf(max[i] - a->max[i]);
    for (size_t i = 0; i < TR_ATTN_QUERIES; i += LANES < 8 ? LANES : 8)
        vec_store(ratio + i, exp_lanes(vec_load(ratio + i, 8)), 8);
    for (uint32_t i = 0; i < a->n_q; i++) {
        bool first = sum[i] == 0.0F, grows = a->max[i] > max[i];
        float *to = acc + i * a->head_dim;
        vec old = vec_set1(grows ? ratio[i] : 1.0F), new = vec_set1(grows ? 1.0F : ratio[i]);

        if (a->lo[i] >= a->hi[i]) continue;
        sum[i] = first   ? a->sum[i]
                 : grows ? sum[i] * ratio[i] + a->sum[i]
                         : sum[i] + a->sum[i] * ratio[i];
        if (first || grows) max[i] = a->max[i];
        if (first) memcpy(to, a->out[i], a->head_dim * sizeof *to);
        for (size_t d = 0, n; !first && d < a->head_dim; d += n) {
            n = a->head_dim - d < LANES ? 8 : LANES;
            vec x = vec_mul(vec_load(to + d, (unsigned)n), old);
            vec y = vec_mul(vec_load(a->out[i] + d, (unsigned)n), new);
            vec_store(to + d, vec_add(x, y), (unsigned)n);
        }
    }
}

/* What the including file defines, for the positions [begin, end) of a chunk that a query sees: raw
 * products e to scores, in place, and the largest; then to exponentials, and their sum. What stands
 * beside these positions in the same vectors may become anything. */
static INLINE float scores(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], uint32_t begin,
                           uint32_t end);
static INLINE float exponentials(const struct tr_attn_args *a, float e[TR_ATTN_CHUNK], float max,
                                 uint32_t begin, uint32_t end);

/* Each step for all queries before the next: a query's steps wait for one another, those of
 * different queries do not. */
static INLINE void softmax(struct tr_attn_args *a, float e[][TR_ATTN_CHUNK])
{
    uint32_t begin[TR_ATTN_QUERIES], end[TR_ATTN_QUERIES];
    for (uint32_t i = 0; i < a->n_q; i++) {
        bool sees = a->lo[i] < a->hi[i];
        begin[i] = sees ? a->lo[i] % TR_ATTN_CHUNK : 0;
        end[i] = sees ? begin[i] + (a->hi[i] - a->lo[i]) : 0;
        a->max[i] = sees ? scores(a, e[i], begin[i], end[i]) + 0.0F : -INFINITY; /* -0 to +0 */
    }
    for (uint32_t i = 0; i < a->n_q; i++)
        a->sum[i] = end[i] > 0 ? exponentials(a, e[i], a->max[i], begin[i], end[i]) : 0.0F;
}

/* tr_attn_fn */
static INLINE void attend(struct tr_attn_args *a, trueno_dtype type)
{
    _Alignas(64) float e[TR_ATTN_QUERIES][TR_ATTN_CHUNK];

    all_runs(a, e, false, type);
    softmax(a, e);
    for (uint32_t i = 0; i < a->n_q; i++) memset(a->out[i], 0, a->head_dim * sizeof(float));
    all_runs(a, e, true, type);
}

static void attention_f32(struct tr_attn_args *a)
{
    attend(a, TRUENO_TYPE_F32);
}

static void attention_f16(struct tr_attn_args *a)
{
    attend(a, TRUENO_TYPE_F16);
}

static void attention_bf16(struct tr_attn_args *a)
{
    attend(a, TRUENO_TYPE_BF16);
}

static void attention_q8_0(struct tr_attn_args *a)
{
    attend(a, TRUENO_TYPE_Q8_0);
}

static void attn_merge(float *max, float *sum, float *acc, const struct tr_attn_args *a)
{
    merge(max, sum, acc, a);
}

/* Rows of the file's table. */
#define TR_ATTN_ROW(name, type, cpu, function)                                                     \
    TR_KERNEL_ROW("attention_" name, ATTENTION, type, ATTENTION, cpu, attention, function)
#define TR_ATTN_ROWS(isa, cpu)                                                                     \
    TR_ATTN_ROW("f32_" isa, TRUENO_TYPE_F32, cpu, attention_f32),                                  \
        TR_ATTN_ROW("f16_" isa, TRUENO_TYPE_F16, cpu, attention_f16),                              \
        TR_ATTN_ROW("bf16_" isa, TRUENO_TYPE_BF16, cpu, attention_bf16),                           \
        TR_ATTN_ROW("q8_0_" isa, TRUENO_TYPE_Q8_0, cpu, attention_q8_0),                           \
        TR_KERNEL_ROW("attn_merge_" isa, ATTN_MERGE, TR_TYPE_NONE, ATTENTION, cpu, attn_merge,     \
                      attn_merge)

#endif
