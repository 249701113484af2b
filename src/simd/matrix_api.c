/* SPDX-License-Identifier: MIT */
/* The public matrices: arguments checked once, then the inside of matrix.h. */
#include "matrix_api.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "trueno/quantize.h"

struct trueno_matrix {
    trueno_ctx *ctx;
    size_t bytes; /* of m.data */
    struct tr_matrix m;
};

static trueno_status check_shape(uint64_t *bytes, trueno_dtype type, size_t rows, size_t cols,
                                 trueno_error *err)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    if (!info)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "matrix: type %u is unknown", (unsigned)type);
    if (!info->can_run)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "matrix: no kernel for type %s", info->name);
    if (rows == 0 || cols == 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "matrix: %zu rows of %zu columns is empty", rows,
                       cols);
    if (cols % info->block != 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "matrix: %zu columns is not a multiple of %u (%s)",
                       cols, info->block, info->name);
    if (!tr_matrix_bytes(bytes, type, rows, cols))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "matrix: %zu rows of %zu columns (%s) exceed the address space", rows, cols,
                       info->name);
    return TRUENO_OK;
}

struct pack_job {
    struct tr_matrix *m;
    const uint8_t *rows;
    size_t row_bytes;
};

static void pack_part(void *arg, uint32_t tid, uint32_t n_threads)
{
    const struct pack_job *job = arg;
    size_t begin, end;
    tr_split(&begin, &end, (job->m->rows + TR_ROWS - 1) / TR_ROWS, 1, tid, n_threads);
    if (begin < end)
        tr_matrix_pack_groups(job->m, job->rows + begin * TR_ROWS * job->row_bytes, begin, end);
}

trueno_status trueno_matrix_new(trueno_ctx *ctx, trueno_matrix **out, trueno_dtype type,
                                size_t rows, size_t cols, const void *data, trueno_pool *pool,
                                trueno_error *err)
{
    uint64_t bytes;
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "matrix: out is NULL");
    *out = NULL;
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "matrix: ctx is NULL");
    if (!data) return tr_fail(err, TRUENO_ERR_ARGUMENT, "matrix: data is NULL");
    trueno_status status = check_shape(&bytes, type, rows, cols, err);
    if (status != TRUENO_OK) return status;

    trueno_matrix *w = tr_calloc(ctx, 1, sizeof *w);
    void *packed = tr_big_alloc(ctx, (size_t)bytes);
    if (!w || !packed) {
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "matrix: no memory for %zu rows of %zu columns",
                         rows, cols);
        goto fail;
    }
    status = tr_matrix_init(&w->m, packed, type, rows, cols, ctx, err);
    if (status != TRUENO_OK) goto fail;
    w->ctx = ctx;
    w->bytes = (size_t)bytes;
    tr_ctx_ref(ctx);
    struct pack_job job = {&w->m, data, trueno_row_bytes(type, cols)};
    tr_pool_run(pool, pack_part, &job);
    *out = w;
    return TRUENO_OK;

fail:
    tr_big_free(ctx, packed, (size_t)bytes);
    tr_free(ctx, w);
    return status;
}

void trueno_matrix_free(trueno_matrix *w)
{
    if (!w) return;
    trueno_ctx *ctx = w->ctx;
    tr_big_free(ctx, w->m.data, w->bytes);
    tr_free(ctx, w);
    tr_ctx_unref(ctx);
}

const struct tr_matrix *tr_matrix_of(const trueno_matrix *w)
{
    return &w->m;
}

const char *trueno_matrix_kernel(const trueno_matrix *w, size_t n_cols)
{
    return w ? tr_matrix_kernel(&w->m, n_cols, w->m.rows)->name : NULL;
}

struct matmul_job {
    const struct tr_matrix *m;
    float *y;
    const float *x;
    size_t ldy, ldx, n_cols;
    void *acts;
    uint8_t *scratch; /* n_threads of them */
    trueno_pool *pool;
};

static void matmul_part(void *arg, uint32_t tid, uint32_t n_threads)
{
    const struct matmul_job *job = arg;
    tr_act_pack_part(job->acts, job->m, job->x, job->ldx, job->n_cols, tid, n_threads);
    tr_pool_barrier(job->pool);
    tr_matmul_part(job->m, tr_matrix_kernel(job->m, job->n_cols, job->ldy), job->y, job->ldy,
                   job->acts, job->n_cols, job->scratch + tid * tr_matmul_scratch_bytes(job->m),
                   job->pool, tid, n_threads);
}

trueno_status trueno_matmul(const trueno_matrix *w, float *y, size_t ldy, const float *x,
                            size_t ldx, size_t n_cols, trueno_pool *pool, trueno_error *err)
{
    uint64_t bytes;
    if (!w || !y || !x)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "matmul: %s is NULL", !w ? "w" : !y ? "y" : "x");
    if (ldx < w->m.cols)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "matmul: ldx %zu is less than %zu columns", ldx,
                       w->m.cols);
    if (ldy < w->m.rows)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "matmul: ldy %zu is less than %zu rows", ldy,
                       w->m.rows);
    size_t most = n_cols < TR_MATMUL_COLS ? n_cols : TR_MATMUL_COLS;
    uint64_t scratch = pool ? trueno_pool_size(pool) : 1;
    uint8_t *acts = NULL;
    if (tr_mul(&bytes, most, tr_act_col_bytes(w->m.gemm->act, w->m.cols)) &&
        tr_mul(&scratch, scratch, tr_matmul_scratch_bytes(&w->m)) &&
        tr_align_up(&scratch, scratch, 64) && tr_add(&bytes, bytes, scratch) && bytes <= SIZE_MAX)
        acts = tr_alloc(w->ctx, (size_t)bytes);
    if (!acts)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "matmul: no memory for %zu columns of %zu", most,
                       w->m.cols);
    for (size_t c = 0; c < n_cols; c += most) {
        size_t n = n_cols - c < most ? n_cols - c : most;
        struct matmul_job job = {.m = &w->m,
                                 .y = y + c * ldy,
                                 .x = x + c * ldx,
                                 .ldy = ldy,
                                 .ldx = ldx,
                                 .n_cols = n,
                                 .acts = acts + scratch,
                                 .scratch = acts,
                                 .pool = pool};
        tr_pool_run(pool, matmul_part, &job);
    }
    tr_free(w->ctx, acts);
    return TRUENO_OK;
}
