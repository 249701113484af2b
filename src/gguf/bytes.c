/* SPDX-License-Identifier: MIT */
/* Arrays that grow. */
#include "gguf/bytes.h"

#include "base/error.h"
#include "base/mem.h"

bool tr_vec_reserve(trueno_ctx *ctx, struct tr_vec *v, uint64_t more, size_t elem_bytes)
{
    uint64_t need, bytes;
    if (!tr_add(&need, v->n, more)) return false;
    if (need <= v->cap) return true;
    uint64_t cap = v->cap ? v->cap : 8;
    if (!tr_mul(&cap, cap, 2) || cap < need) cap = need;
    if (!tr_mul(&bytes, cap, elem_bytes) || bytes > PTRDIFF_MAX) return false;
    void *data = tr_realloc(ctx, v->data, (size_t)bytes);
    if (!data) return false;
    v->data = data;
    v->cap = cap;
    return true;
}

void tr_vec_shrink(trueno_ctx *ctx, struct tr_vec *v, size_t elem_bytes)
{
    if (v->n == v->cap) return;
    void *data = tr_realloc(ctx, v->data, (size_t)v->n * elem_bytes);
    if (!data) return; /* keeps the larger block */
    v->data = data;
    v->cap = v->n;
}

void tr_vec_free(trueno_ctx *ctx, struct tr_vec *v)
{
    if (v->data) tr_free(ctx, v->data);
    *v = (struct tr_vec){NULL, 0, 0};
}
