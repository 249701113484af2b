/* SPDX-License-Identifier: MIT */
/* From a file's bytes to packed weights: all threads walk the list of items, each packs its own
 * rows (and so touches its own pages first).
 *
 * Rows are read into a small buffer that stays in the cache, from a mapped file too: its pages
 * would count as memory of the process until they are dropped, each costs a fault, and one past
 * the end of a file that was cut is a signal. */
#include "model/weights.h"

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "quant/quant.h"
#include "trueno/quantize.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

/* Rows that are read at once: few system calls, and room beside them in an L2 cache. */
#define READ_BYTES ((size_t)256 << 10)

struct fill_job {
    trueno_model *m;
    const struct tr_items *list;
    const trueno_gguf *g;
    bool check_finite;
    uint8_t *rows; /* per thread: block rows as they are read */
    size_t rows_bytes;
    float *floats; /* per thread: one decoded row */
    size_t n_floats;
    atomic_int status; /* the first failure; others stop when they see it */
    trueno_error error;
};

static void fail_job(struct fill_job *job, const trueno_error *err)
{
    int expected = TRUENO_OK;
    if (atomic_compare_exchange_strong(&job->status, &expected, (int)err->status))
        job->error = *err;
}

static bool all_finite(const float *x, size_t n)
{
    float sum = 0; /* x - x is 0 for finite x and NaN for the others */
    for (size_t i = 0; i < n; i++) sum += x[i] - x[i];
    return sum == 0;
}

static trueno_status check_rows(const uint8_t *rows, size_t n_rows, size_t row_bytes,
                                const struct tr_matrix *w, const char *name, size_t name_len,
                                float *scratch, size_t first_row, trueno_error *err)
{
    for (size_t r = 0; r < n_rows; r++) {
        tr_dequantize_row(scratch, rows + r * row_bytes, w->type, w->cols);
        if (!all_finite(scratch, w->cols))
            return tr_fail(err, TRUENO_ERR_NUMERIC, "tensor %.*s holds NaN or infinity in row %zu",
                           (int)name_len, name, first_row + r);
    }
    return TRUENO_OK;
}

/* Row groups that are read at once. */
static size_t groups_per_read(const struct tr_matrix *w)
{
    size_t n = READ_BYTES / (TR_ROWS * trueno_row_bytes(w->type, w->cols));
    return n > 0 ? n : 1;
}

/* Packs this thread's row groups of one matrix; those of a mapped one are at most checked. */
static trueno_status fill_matrix(struct fill_job *job, const struct tr_item *it, uint32_t tid,
                                 uint32_t n_threads, trueno_error *err)
{
    struct tr_matrix *w = it->matrix;
    size_t row_bytes = trueno_row_bytes(w->type, w->cols), step = groups_per_read(w);
    size_t n_groups = (w->rows + TR_ROWS - 1) / TR_ROWS, g0, g1;
    uint8_t *src = job->rows + (size_t)tid * job->rows_bytes;
    float *floats = job->floats + (size_t)tid * job->n_floats;
    trueno_gguf_tensor t;

    if (w->mapped && !job->check_finite) return TRUENO_OK;
    (void)trueno_gguf_tensor_at(job->g, it->tensor, &t);
    tr_split(&g0, &g1, n_groups, 1, tid, n_threads);
    for (size_t grp = g0; grp < g1; grp += step) {
        size_t end = g1 - grp < step ? g1 : grp + step, row = grp * TR_ROWS;
        size_t n = (end * TR_ROWS < w->rows ? end * TR_ROWS : w->rows) - row;
        uint64_t offset = it->src_offset_bytes + (uint64_t)row * row_bytes;
        trueno_status s =
            trueno_gguf_tensor_read(job->g, it->tensor, offset, src, n * row_bytes, err);
        if (s == TRUENO_OK && job->check_finite)
            s = check_rows(src, n, row_bytes, w, t.name.data, t.name.len, floats, row, err);
        if (s != TRUENO_OK) return s;
        if (!w->mapped) tr_matrix_pack_groups(w, src, grp, end);
    }
    return TRUENO_OK;
}

static trueno_status fill_vector(struct fill_job *job, const struct tr_item *it, trueno_error *err)
{
    float *dst = (float *)(void *)((uint8_t *)job->m->arena + it->dst_offset_bytes);
    trueno_gguf_tensor t;
    trueno_status s = trueno_gguf_tensor_read(job->g, it->tensor, 0, dst, it->n * sizeof *dst, err);
    if (s != TRUENO_OK || !job->check_finite || all_finite(dst, it->n)) return s;
    (void)trueno_gguf_tensor_at(job->g, it->tensor, &t);
    return tr_fail(err, TRUENO_ERR_NUMERIC, "tensor %.*s holds NaN or infinity",
                   TR_STR_ARGS(t.name));
}

static void fill_work(void *arg, uint32_t tid, uint32_t n_threads)
{
    struct fill_job *job = arg;
    trueno_ctx *ctx = job->m->ctx;
    trueno_error err;

    for (size_t i = 0; i < job->list->count; i++) {
        const struct tr_item *it = &job->list->items[i];
        trueno_status s = TRUENO_OK;
        if (atomic_load_explicit(&job->status, memory_order_relaxed) != TRUENO_OK) return;
        if (it->matrix != NULL)
            s = fill_matrix(job, it, tid, n_threads, &err);
        else if (tid == 0)
            s = fill_vector(job, it, &err);
        if (s == TRUENO_OK && tid == 0) {
            uint64_t done =
                i + 1 < job->list->count ? it[1].dst_offset_bytes : job->list->arena_bytes;
            tr_progress(ctx, "load", done, job->list->arena_bytes);
            if (tr_cancelled(ctx)) s = tr_fail(&err, TRUENO_ERR_CANCELLED, "loading cancelled");
        }
        if (s != TRUENO_OK) {
            fail_job(job, &err);
            return;
        }
    }
}

/* Where everything will be: sets the pointers that bind left open. */
static trueno_status place(trueno_model *m, const struct tr_items *list, const trueno_gguf *g,
                           trueno_error *err)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct tr_item *it = &list->items[i];
        uint8_t *at = (uint8_t *)m->arena + it->dst_offset_bytes;
        if (it->matrix != NULL && m->mapped) {
            const uint8_t *data = trueno_gguf_tensor_data(g, it->tensor);
            if (data == NULL)
                return tr_fail(err, TRUENO_ERR_ARGUMENT,
                               "model options: weights that stay mapped need a file that is mapped "
                               "(not no_mmap, metadata_only or a callback) or a buffer");
            it->matrix->file = data + it->src_offset_bytes;
        } else if (it->matrix != NULL)
            it->matrix->data = at;
        else
            *it->vector = (const float *)(const void *)at;
    }
    if (m->info.tied_embeddings) m->output = m->embd;
    return TRUENO_OK;
}

trueno_status tr_weights_fill(trueno_model *m, const struct tr_items *list, const trueno_gguf *g,
                              trueno_pool *pool, bool check_finite, trueno_error *err)
{
    struct fill_job job = {.m = m, .list = list, .g = g, .check_finite = check_finite};
    uint32_t n_threads = trueno_pool_size(pool);
    for (size_t i = 0; i < list->count; i++) {
        const struct tr_matrix *w = list->items[i].matrix;
        if (w == NULL) continue;
        size_t bytes = groups_per_read(w) * TR_ROWS * trueno_row_bytes(w->type, w->cols);
        if (bytes > job.rows_bytes) job.rows_bytes = bytes;
        if (w->cols > job.n_floats) job.n_floats = w->cols;
    }
    trueno_status s = place(m, list, g, err);
    if (s != TRUENO_OK) return s;
    job.rows = tr_calloc(m->ctx, n_threads, job.rows_bytes);
    job.floats = tr_calloc(m->ctx, n_threads, job.n_floats * sizeof(float));
    if (job.rows != NULL && job.floats != NULL)
        tr_pool_run(pool, fill_work, &job);
    else
        (void)fail_job(&job, &(trueno_error){TRUENO_ERR_NO_MEMORY, "no memory to read weights"});
    tr_free(m->ctx, job.rows);
    tr_free(m->ctx, job.floats);
    s = (trueno_status)atomic_load(&job.status);
    if (s != TRUENO_OK && err != NULL) *err = job.error;
    return s;
}
