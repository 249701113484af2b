/* SPDX-License-Identifier: MIT */
/* The two inner products of attention as register tiles, for one instruction set. attn_avx2.c and
 * attn_avx512.c include this after they have defined
 *
 *   vec, LANES             vector of LANES floats (8 or 16)
 *   MAX_NQ                 most queries of one tile (4 or 8)
 *   PANELS(nq), ROWS(nq)   panels of keys, and vectors of a value row, that fit the registers
 *                          beside nq queries; powers of two, at most 4 and 8
 *   vec_zero() vec_set1(x) vec_fma(a, b, c)
 *   vec_load(p, n) vec_store(p, v, n)    n floats: LANES, or 8
 *   vec_cache(base, i, f16, n)           n elements from i of a cache of halves or floats
 *
 * nq, np, nv, n and f16 are constants wherever a tile is used: each combination becomes its own
 * straight code. A chain over d or over positions is never cut, so that the tiling leaves no trace
 * in the bits. */
#ifndef TR_ATTN_TILE_H
#define TR_ATTN_TILE_H

#include "act.h"
#include "attn_run.h"

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
    float *e[MAX_NQ]; /* [TR_ATTN_CHUNK] each: scores, later their exponentials */
    float *out[MAX_NQ];
};

/* e[i][p] = q[i] . k[p] for np panels from `panel` on. */
static INLINE void dot_panels(const struct tile *t, size_t panel, unsigned nq, unsigned np,
                              bool f16)
{
    size_t panel_size = 16 * t->a->head_dim;
    vec s[MAX_NQ][4 * PANEL_VECS], key[4 * PANEL_VECS];

    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        UNROLL
        for (unsigned j = 0; j < np * PANEL_VECS; j++) s[i][j] = vec_zero();
    }
    for (size_t d = 0; d < t->a->head_dim; d++) {
        UNROLL
        for (unsigned j = 0; j < np * PANEL_VECS; j++) {
            size_t at = (panel + j / PANEL_VECS) * panel_size + 16 * d + j % PANEL_VECS * LANES;
            key[j] = vec_cache(t->a->k_cache, at, f16, LANES);
        }
        UNROLL
        for (unsigned i = 0; i < nq; i++) {
            vec x = vec_set1(t->q[i][d]);
            UNROLL
            for (unsigned j = 0; j < np * PANEL_VECS; j++) s[i][j] = vec_fma(key[j], x, s[i][j]);
        }
    }
    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        float *e = t->e[i] + 16 * panel % TR_ATTN_CHUNK;
        UNROLL
        for (unsigned j = 0; j < np * PANEL_VECS; j++) vec_store(e + LANES * j, s[i][j], LANES);
    }
}

static INLINE void dot_run(const struct tile *t, const struct run *r, unsigned nq, bool f16)
{
    size_t p = r->begin;

    for (; p + PANELS(nq) <= r->end; p += PANELS(nq)) dot_panels(t, p, nq, PANELS(nq), f16);
    for (; p < r->end; p++) dot_panels(t, p, nq, 1, f16);
}

/* out[i] += sum over the run of e[i][p] * v[p], for nv vectors of n elements from d on. */
static INLINE void mix_rows(const struct tile *t, const struct run *r, size_t d, unsigned nq,
                            unsigned nv, bool f16, unsigned n)
{
    size_t head_dim = t->a->head_dim;
    vec o[MAX_NQ][8], value[8];

    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        UNROLL
        for (unsigned j = 0; j < nv; j++) o[i][j] = vec_load(t->out[i] + d + LANES * j, n);
    }
    for (size_t p = r->begin; p < r->end; p++) {
        UNROLL
        for (unsigned j = 0; j < nv; j++) {
            value[j] = vec_cache(t->a->v_cache, p * head_dim + d + LANES * j, f16, n);
        }
        UNROLL
        for (unsigned i = 0; i < nq; i++) {
            vec x = vec_set1(t->e[i][p % TR_ATTN_CHUNK]);
            UNROLL
            for (unsigned j = 0; j < nv; j++) o[i][j] = vec_fma(x, value[j], o[i][j]);
        }
    }
    UNROLL
    for (unsigned i = 0; i < nq; i++) {
        UNROLL
        for (unsigned j = 0; j < nv; j++) vec_store(t->out[i] + d + LANES * j, o[i][j], n);
    }
}

/* As many blocks of nv vectors as fit the rest of the row; returns where they end. */
static INLINE size_t mix_blocks(const struct tile *t, const struct run *r, size_t d, unsigned nq,
                                unsigned nv, bool f16)
{
    if (nv > ROWS(nq)) return d;
    for (; d + LANES * nv <= t->a->head_dim; d += LANES * nv) mix_rows(t, r, d, nq, nv, f16, LANES);
    return d;
}

static INLINE void mix_run(const struct tile *t, const struct run *r, unsigned nq, bool f16)
{
    size_t d = mix_blocks(t, r, 0, nq, 8, f16);
    d = mix_blocks(t, r, d, nq, 4, f16);
    d = mix_blocks(t, r, d, nq, 2, f16);
    d = mix_blocks(t, r, d, nq, 1, f16);
    if (d < t->a->head_dim) mix_rows(t, r, d, nq, 1, f16, 8);
}

static INLINE void dot_or_mix(const struct tile *t, const struct run *r, bool mix, unsigned nq,
                              bool f16)
{
    if (mix)
        mix_run(t, r, nq, f16);
    else
        dot_run(t, r, nq, f16);
}

/* All runs, each by its queries in tiles of nearly equal size. */
static INLINE void all_runs(const struct tr_attn_args *a, float e[][TR_ATTN_CHUNK], bool mix,
                            bool f16)
{
    struct ranges s = ranges_of(a, mix ? 1 : 16);
    struct run r = {0};

    while (next_run(&r, &s, r.end)) {
        size_t n_tiles = (r.n_q + MAX_NQ - 1) / MAX_NQ;
        for (size_t k = 0; k < n_tiles; k++) {
            size_t first = tr_tile(k, r.n_q, n_tiles);
            struct tile t = {.a = a, .n_q = (uint32_t)(tr_tile(k + 1, r.n_q, n_tiles) - first)};
            for (size_t i = 0; i < t.n_q; i++) {
                uint8_t query = r.q[first + i];
                t.q[i] = a->q[query];
                t.e[i] = e[query];
                t.out[i] = a->out[query];
            }
            switch (t.n_q) {
            case 1: dot_or_mix(&t, &r, mix, 1, f16); break;
            case 2: dot_or_mix(&t, &r, mix, 2, f16); break;
            case 3: dot_or_mix(&t, &r, mix, 3, f16); break;
            case 4: dot_or_mix(&t, &r, mix, 4, f16); break;
#if MAX_NQ == 8
            case 5: dot_or_mix(&t, &r, mix, 5, f16); break;
            case 6: dot_or_mix(&t, &r, mix, 6, f16); break;
            case 7: dot_or_mix(&t, &r, mix, 7, f16); break;
            case 8: dot_or_mix(&t, &r, mix, 8, f16); break;
#endif
            }
        }
    }
}

#endif
