/* SPDX-License-Identifier: MIT */
/* Products with cold weights, timed one by one (bed.h). */
#include "tuner/bed.h"

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "simd/matrix.h"
#include "trueno/quantize.h"
#include "tuner/random.h"

#include <string.h>

enum { MAX_COPIES = 256 };

struct tr_bed {
    trueno_ctx *ctx;
    trueno_pool *pool;
    struct tr_matrix w; /* its data is that of the copy in turn */
    uint32_t m;
    uint64_t copy_bytes, n_copies, next, ring_bytes, acts_bytes, scratch_bytes;
    uint8_t *ring;    /* [n_copies] packed matrices */
    uint8_t *row;     /* the file's form of a row; all rows are the same */
    float *x, *y;     /* [cols], [m][rows] */
    uint8_t *acts;    /* m packed columns */
    uint8_t *scratch; /* of each thread */
    const struct tr_kernel *by;
};

/* A row of weights, encoded. Speed does not depend on their values. */
static trueno_status make_row(struct tr_bed *b, const trueno_problem *p, trueno_error *err)
{
    struct tr_random random;
    tr_random_seed(&random, 1, 0);
    for (size_t i = 0; i < p->cols; i++) b->x[i] = (float)tr_random_unit(&random) - 0.5F;
    trueno_status status = trueno_quantize(b->row, b->x, p->type, p->cols);
    if (status == TRUENO_ERR_UNSUPPORTED && trueno_dtype_get_info(p->type)->can_run) {
        memset(b->row, 0, trueno_row_bytes(p->type, p->cols)); /* zeros are weights of any type */
        return TRUENO_OK;
    }
    if (status == TRUENO_OK) return status;
    return tr_fail(err, status, "test bed: weights of type %d cannot be made", (int)p->type);
}

static void pack_part(void *arg, uint32_t tid, uint32_t n_threads)
{
    struct tr_bed *b = arg;
    const struct tr_matrix *w = &b->w;
    size_t n_groups = (w->rows + TR_ROWS - 1) / TR_ROWS, g0, g1;
    tr_split(&g0, &g1, n_groups, 1, tid, n_threads);
    for (uint64_t c = 0; c < b->n_copies; c++) {
        for (size_t g = g0; g < g1; g++) {
            size_t left = w->rows - TR_ROWS * g;
            tr_x16_pack(b->ring + c * b->copy_bytes + g * w->group_bytes, b->row, 0,
                        left < TR_ROWS ? left : TR_ROWS, w->type, w->cols);
        }
    }
}

/* All sizes; false if they do not fit. */
static bool sizes(struct tr_bed *b, const trueno_problem *p, uint64_t ring_bytes)
{
    uint64_t y;
    uint32_t threads = b->pool ? trueno_pool_size(b->pool) : 1;
    if (!tr_matrix_bytes(&b->copy_bytes, p->type, p->rows, p->cols) || b->copy_bytes == 0)
        return false;
    b->n_copies = ring_bytes / b->copy_bytes;
    if (b->n_copies == 0) b->n_copies = 1;
    if (b->n_copies > MAX_COPIES) b->n_copies = MAX_COPIES;
    b->scratch_bytes = tr_matmul_scratch_bytes(&b->w);
    return tr_mul(&b->ring_bytes, b->copy_bytes, b->n_copies) && b->ring_bytes <= SIZE_MAX / 2 &&
           tr_mul(&b->acts_bytes, b->m, tr_act_col_bytes(b->w.pack->act, p->cols)) &&
           b->acts_bytes <= SIZE_MAX / 2 && tr_mul(&b->scratch_bytes, b->scratch_bytes, threads) &&
           tr_mul(&y, p->rows, b->m) && y <= SIZE_MAX / 8 && p->cols <= SIZE_MAX / 8;
}

static trueno_status build(struct tr_bed *b, const trueno_problem *p, uint64_t ring_bytes,
                           trueno_error *err)
{
    trueno_status status = tr_matrix_init(&b->w, NULL, p->type, p->rows, p->cols, b->ctx, err);
    if (status != TRUENO_OK) return status;
    b->m = p->n_cols;
    if (!sizes(b, p, ring_bytes))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "test bed: a product of this size does not fit");
    b->ring = tr_big_alloc(b->ctx, (size_t)b->ring_bytes);
    b->acts = tr_big_alloc(b->ctx, (size_t)b->acts_bytes);
    b->scratch = b->scratch_bytes ? tr_big_alloc(b->ctx, (size_t)b->scratch_bytes) : NULL;
    b->row = tr_alloc(b->ctx, trueno_row_bytes(p->type, p->cols));
    b->x = tr_alloc(b->ctx, p->cols * sizeof *b->x);
    b->y = tr_alloc(b->ctx, p->rows * b->m * sizeof *b->y);
    if (!b->ring || !b->acts || !b->row || !b->x || !b->y || (b->scratch_bytes && !b->scratch))
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "test bed: no memory for %llu bytes of weights",
                       (unsigned long long)b->ring_bytes);
    status = make_row(b, p, err);
    if (status != TRUENO_OK) return status;
    tr_pool_run(b->pool, pack_part, b);
    tr_act_pack_part(b->acts, &b->w, b->x, 0, b->m, 0, 1);
    return TRUENO_OK;
}

trueno_status tr_bed_new(struct tr_bed **out, trueno_ctx *ctx, const trueno_problem *p,
                         trueno_pool *pool, uint64_t ring_bytes, trueno_error *err)
{
    struct tr_bed *b = tr_calloc(ctx, 1, sizeof *b);
    *out = NULL;
    if (!b) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "test bed: no memory");
    b->ctx = ctx;
    b->pool = pool;
    trueno_status status = build(b, p, ring_bytes, err);
    if (status == TRUENO_OK)
        *out = b;
    else
        tr_bed_free(b);
    return status;
}

void tr_bed_free(struct tr_bed *b)
{
    if (!b) return;
    tr_big_free(b->ctx, b->ring, (size_t)b->ring_bytes);
    tr_big_free(b->ctx, b->acts, (size_t)b->acts_bytes);
    tr_big_free(b->ctx, b->scratch, (size_t)b->scratch_bytes);
    tr_free(b->ctx, b->row);
    tr_free(b->ctx, b->x);
    tr_free(b->ctx, b->y);
    tr_free(b->ctx, b);
}

static void multiply_part(void *arg, uint32_t tid, uint32_t n_threads)
{
    struct tr_bed *b = arg;
    uint8_t *scratch = b->scratch ? b->scratch + tid * tr_matmul_scratch_bytes(&b->w) : NULL;
    tr_matmul_part(&b->w, b->by, b->y, b->w.rows, b->acts, b->m, scratch, b->pool, tid, n_threads);
}

uint64_t tr_bed_time(struct tr_bed *b, const struct tr_kernel *k, const struct tr_clock *clock)
{
    b->by = k;
    b->w.data = b->ring + b->next * b->copy_bytes;
    b->next = (b->next + 1) % b->n_copies;
    uint64_t before = tr_clock_ns(clock);
    tr_pool_run(b->pool, multiply_part, b);
    uint64_t ns = tr_clock_ns(clock) - before;
    return ns > 0 ? ns : 1;
}

uint64_t tr_bed_bytes(const struct tr_bed *b)
{
    return b->copy_bytes;
}

uint64_t tr_bed_ring_bytes(const struct tr_bed *b)
{
    return b->ring_bytes;
}
