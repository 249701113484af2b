/* SPDX-License-Identifier: MIT */
/* What the tests of attention share: a cache with queries that ask it. */
#ifndef ATTN_SCENE_H
#define ATTN_SCENE_H

#include "simd_test.h"

#include "simd/kernel.h"

#define N_CTX   512
#define MAX_DIM 256
#define N_Q     TR_ATTN_QUERIES

/* A cache of N_CTX positions of one type, the queries that ask it, and their answers. */
struct scene {
    const struct tr_kernel *kernel;
    trueno_dtype type;
    size_t head_dim;
    uint8_t *k, *v; /* memory of exactly the cache's size */
    float q[N_Q][MAX_DIM], out[N_Q][MAX_DIM];
    struct tr_attn_args a;
};

/* Element d of the key or value of position p, as the cache's type stores it. */
void scene_put_key(const struct scene *s, size_t p, size_t d, float x);
void scene_put_value(const struct scene *s, size_t p, size_t d, float x);
double scene_key(const struct scene *s, size_t p, size_t d);
double scene_value(const struct scene *s, size_t p, size_t d);
/* All elements of a position alike. */
void scene_fill(const struct scene *s, size_t p, float k, float v);
/* The score of query i for position p, in double precision. */
double scene_score(const struct scene *s, size_t i, size_t p);
/* Runs the kernel into poisoned results. */
void scene_run(struct scene *s);
/* The results of query i of x and query j of y have the same bits. */
void scene_assert_same(const struct scene *x, size_t i, const struct scene *y, size_t j);
/* With caches of its own; scene_free frees it. */
struct scene *scene_copy(const struct scene *s);
void scene_free(struct scene *s);
/* Calls f with a fresh scene of each kernel that this CPU runs and each head dimension: keys and
 * values uniform in [-1, 1), queries in [-2, 2), all of which see [0, 256). */
void scene_for_all(void (*f)(struct scene *s));
/* The same but for Q8_0: for what needs single elements of any size. */
void scene_for_plain_types(void (*f)(struct scene *s));

#endif
