/* SPDX-License-Identifier: MIT */
/* trueno_quantize_gguf: one GGUF file into another with its matrices encoded anew.
 *
 * A row of a matrix is a multiple of the blocks on both sides, so a tensor can be cut anywhere at
 * multiples of 256 weights: it streams through two buffers of fixed size, and threads share each
 * filling by weights. The result does not depend on the number of threads. */
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/thread.h"
#include "quant/quant.h"
#include "trueno/quantize.h"

#include <stdatomic.h>

enum {
    CHUNK = 1 << 20,         /* weights that are read, converted and written at a time */
    PIECE = 4096,            /* weights that a thread has as floats */
    CHUNK_BYTES = 4 * CHUNK, /* no format that is decoded is wider than F32 */
};

struct job {
    const trueno_gguf *in;
    trueno_ctx *ctx;
    trueno_gguf_writer *writer;
    trueno_pool *pool;
    trueno_dtype type;
    bool pure, allow_requantize;
    uint8_t *raw, *encoded;     /* CHUNK_BYTES each */
    uint64_t done, total_bytes; /* of the input's tensors */
    trueno_error *err;
};

static bool str_is(trueno_str s, const char *text)
{
    return s.len == strlen(text) && memcmp(s.data, text, s.len) == 0;
}

/* --------------------------------------------------------- what becomes what */

/* The type asked for, or what a row of ne0 weights can have in its place. */
static trueno_dtype fallback(trueno_dtype type, uint64_t ne0)
{
    if (ne0 % trueno_dtype_get_info(type)->block == 0) return type;
    if (ne0 % TR_QK != 0) return TRUENO_TYPE_F16;
    switch (type) {
    case TRUENO_TYPE_Q4_K: return TRUENO_TYPE_Q5_0;
    case TRUENO_TYPE_Q5_K: return TRUENO_TYPE_Q5_1;
    default: return TRUENO_TYPE_Q8_0;
    }
}

/* Type of a tensor in the output. Messages name what the caller can do about it. */
static trueno_status choose_type(const struct job *j, const trueno_gguf_tensor *t,
                                 trueno_dtype *out)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(t->type);
    *out = t->type;
    if (t->n_dims != 2 || t->ne[1] < 2) return TRUENO_OK;
    if (!info->is_quantized && !info->can_dequantize) return TRUENO_OK; /* integers, F64 */

    trueno_dtype want = j->type;
    bool is_end = str_is(t->name, "output.weight") || str_is(t->name, "token_embd.weight");
    if (is_end && !j->pure && trueno_dtype_get_info(want)->block == TR_QKK) {
        want = TRUENO_TYPE_Q6_K;
    }
    want = fallback(want, t->ne[0]);
    if (want == t->type) return TRUENO_OK;
    if (!info->can_dequantize) {
        return tr_fail(j->err, TRUENO_ERR_UNSUPPORTED,
                       "tensor '%.*s' is %s, which this library cannot decode",
                       TR_STR_ARGS(t->name), info->name);
    }
    if (info->is_quantized && !j->allow_requantize) {
        return tr_fail(j->err, TRUENO_ERR_ARGUMENT,
                       "tensor '%.*s' is quantised already (%s); set allow_requantize to encode it "
                       "again at a loss",
                       TR_STR_ARGS(t->name), info->name);
    }
    *out = want;
    return TRUENO_OK;
}

/* general.file_type: ggml's number for a file that is mostly of one type. */
static uint32_t file_type(trueno_dtype type)
{
    switch (type) {
    case TRUENO_TYPE_F16: return 1;
    case TRUENO_TYPE_Q4_0: return 2;
    case TRUENO_TYPE_Q4_1: return 3;
    case TRUENO_TYPE_Q8_0: return 7;
    case TRUENO_TYPE_Q5_0: return 8;
    case TRUENO_TYPE_Q5_1: return 9;
    case TRUENO_TYPE_Q4_K: return 14; /* "small": no mix of types by layer */
    case TRUENO_TYPE_Q5_K: return 16;
    case TRUENO_TYPE_Q6_K: return 18;
    case TRUENO_TYPE_BF16: return 32;
    default: return 0; /* F32 */
    }
}

/* ------------------------------------------------------- metadata of the output */

/* Keys that describe the file as it was: its layout, its shards, its types. The writer itself adds
 * general.quantization_version where it is due. */
static bool is_stale(trueno_str key)
{
    static const char *const names[] = {
        "general.alignment", "general.file_type", "general.quantization_version",
        "split.no",          "split.count",       "split.tensors.count"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (str_is(key, names[i])) return true;
    }
    return false;
}

static trueno_status add_keys(const struct job *j)
{
    size_t n = trueno_gguf_n_kv(j->in);
    for (size_t i = 0; i < n; i++) {
        trueno_gguf_kv kv;
        trueno_status status = trueno_gguf_kv_at(j->in, i, &kv);
        if (status == TRUENO_OK && !is_stale(kv.key)) {
            status = trueno_gguf_writer_copy_kv(j->writer, j->in, i);
        }
        if (status != TRUENO_OK) {
            return tr_fail(j->err, status, "key %zu cannot be copied: %s", i,
                           trueno_status_str(status));
        }
    }
    trueno_status status =
        trueno_gguf_writer_u32(j->writer, "general.file_type", file_type(j->type));
    if (status != TRUENO_OK) return tr_fail(j->err, status, "%s", trueno_status_str(status));
    return TRUENO_OK;
}

static trueno_status add_tensor(const struct job *j, const trueno_gguf_tensor *t, trueno_dtype to)
{
    char *name = tr_strndup(j->ctx, t->name.data, t->name.len);
    if (!name) return tr_fail(j->err, TRUENO_ERR_NO_MEMORY, "no memory for a tensor's name");
    trueno_status status = TRUENO_ERR_UNSUPPORTED;
    if (strlen(name) == t->name.len) {
        status =
            trueno_gguf_writer_tensor(j->writer, name, to, t->n_dims > 0 ? t->n_dims : 1, t->ne);
    }
    tr_free(j->ctx, name);
    if (status == TRUENO_OK) return TRUENO_OK;
    return tr_fail(j->err, status, "tensor '%.*s' cannot be announced in the output: %s",
                   TR_STR_ARGS(t->name), trueno_status_str(status));
}

/* Decides every type before anything is written, so that a refusal costs nothing. */
static trueno_status plan(struct job *j)
{
    size_t n = trueno_gguf_n_tensors(j->in);
    for (size_t i = 0; i < n; i++) {
        trueno_gguf_tensor t;
        trueno_dtype to;
        trueno_status status = trueno_gguf_tensor_at(j->in, i, &t);
        if (status != TRUENO_OK) return tr_fail(j->err, status, "tensor %zu", i);
        status = choose_type(j, &t, &to);
        if (status == TRUENO_OK) status = add_tensor(j, &t, to);
        if (status != TRUENO_OK) return status;
        j->total_bytes += t.size_bytes;
    }
    return add_keys(j);
}

/* ---------------------------------------------------------------- tensor data */

/* One filling of the buffers, shared by the threads. */
struct chunk {
    const uint8_t *src;
    uint8_t *dst;
    trueno_dtype from, to;
    size_t n; /* weights */
    atomic_int status;
};

static void convert_part(void *arg, uint32_t tid, uint32_t n_threads)
{
    struct chunk *c = arg;
    float x[PIECE];
    size_t at, end;
    tr_split(&at, &end, c->n, TR_QKK, tid, n_threads);
    while (at < end) {
        size_t n = end - at < PIECE ? end - at : PIECE;
        tr_dequantize_row(x, c->src + trueno_row_bytes(c->from, at), c->from, n);
        trueno_status status = trueno_quantize(c->dst + trueno_row_bytes(c->to, at), x, c->to, n);
        if (status != TRUENO_OK) {
            atomic_store(&c->status, (int)status);
            return;
        }
        at += n;
    }
}

/* Bytes [offset, offset + size) of tensor i: in the mapping, or read into the buffer. */
static trueno_status input_bytes(const struct job *j, const uint8_t **out, size_t i,
                                 uint64_t offset, size_t size_bytes)
{
    const uint8_t *mapped = trueno_gguf_tensor_data(j->in, i);
    *out = mapped ? mapped + offset : j->raw;
    if (mapped) return TRUENO_OK;
    return trueno_gguf_tensor_read(j->in, i, offset, j->raw, size_bytes, j->err);
}

/* Progress after size_bytes more of the input; a chance to stop. */
static trueno_status advance(struct job *j, uint64_t size_bytes)
{
    j->done += size_bytes;
    tr_progress(j->ctx, "quantize", j->done, j->total_bytes);
    if (!tr_cancelled(j->ctx)) return TRUENO_OK;
    return tr_fail(j->err, TRUENO_ERR_CANCELLED, "cancelled after %llu of %llu bytes",
                   (unsigned long long)j->done, (unsigned long long)j->total_bytes);
}

static trueno_status copy_tensor(struct job *j, size_t i, const trueno_gguf_tensor *t)
{
    for (uint64_t at = 0; at < t->size_bytes;) {
        uint64_t left = t->size_bytes - at;
        size_t size = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
        const uint8_t *src;
        trueno_status status = input_bytes(j, &src, i, at, size);
        if (status == TRUENO_OK) status = trueno_gguf_writer_data(j->writer, src, size, j->err);
        if (status == TRUENO_OK) status = advance(j, size);
        if (status != TRUENO_OK) return status;
        at += size;
    }
    return TRUENO_OK;
}

static trueno_status convert_tensor(struct job *j, size_t i, const trueno_gguf_tensor *t,
                                    trueno_dtype to)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(t->type);
    uint64_t n_weights = t->size_bytes / info->block_bytes * info->block;
    uint64_t offset = 0;
    for (uint64_t at = 0; at < n_weights;) {
        struct chunk c = {.dst = j->encoded, .from = t->type, .to = to};
        c.n = n_weights - at < CHUNK ? (size_t)(n_weights - at) : CHUNK;
        atomic_init(&c.status, TRUENO_OK);
        size_t size = trueno_row_bytes(t->type, c.n);
        trueno_status status = input_bytes(j, &c.src, i, offset, size);
        if (status != TRUENO_OK) return status;
        tr_pool_run(j->pool, convert_part, &c);
        status = (trueno_status)atomic_load(&c.status);
        if (status != TRUENO_OK) {
            return tr_fail(j->err, status,
                           "tensor '%.*s' holds NaN, infinity or a value too large for %s",
                           TR_STR_ARGS(t->name), trueno_dtype_get_info(to)->name);
        }
        status = trueno_gguf_writer_data(j->writer, c.dst, trueno_row_bytes(to, c.n), j->err);
        if (status == TRUENO_OK) status = advance(j, size);
        if (status != TRUENO_OK) return status;
        at += c.n;
        offset += size;
    }
    return TRUENO_OK;
}

static trueno_status write_tensors(struct job *j)
{
    size_t n = trueno_gguf_n_tensors(j->in);
    for (size_t i = 0; i < n; i++) {
        trueno_gguf_tensor t;
        trueno_dtype to;
        trueno_status status = trueno_gguf_tensor_at(j->in, i, &t);
        if (status == TRUENO_OK) status = choose_type(j, &t, &to);
        if (status != TRUENO_OK) return status;
        tr_log(j->ctx, TRUENO_LOG_DEBUG, "%.*s: %s to %s", TR_STR_ARGS(t.name),
               trueno_dtype_get_info(t.type)->name, trueno_dtype_get_info(to)->name);
        status = to == t.type ? copy_tensor(j, i, &t) : convert_tensor(j, i, &t, to);
        if (status != TRUENO_OK) return status;
    }
    return TRUENO_OK;
}

/* ----------------------------------------------------------------- the call */

static trueno_status run(struct job *j, const char *out_path, uint32_t n_threads)
{
    trueno_status status = trueno_gguf_writer_new(j->ctx, &j->writer);
    if (status != TRUENO_OK) return tr_fail(j->err, status, "no memory for a writer");
    status = plan(j);
    if (status != TRUENO_OK) return status;
    status = trueno_pool_new(j->ctx, &j->pool, n_threads, j->err);
    if (status != TRUENO_OK) return status;
    j->raw = tr_alloc(j->ctx, CHUNK_BYTES);
    j->encoded = tr_alloc(j->ctx, CHUNK_BYTES);
    if (!j->raw || !j->encoded) {
        return tr_fail(j->err, TRUENO_ERR_NO_MEMORY, "no memory for two buffers of %d bytes",
                       CHUNK_BYTES);
    }
    status = trueno_gguf_writer_begin(j->writer, out_path, j->err);
    if (status == TRUENO_OK) status = write_tensors(j);
    if (status == TRUENO_OK) status = trueno_gguf_writer_finish(j->writer, j->err);
    return status;
}

trueno_status trueno_quantize_gguf(const trueno_gguf *in, const char *out_path, trueno_dtype type,
                                   const trueno_quantize_options *opt, trueno_error *err)
{
    static const trueno_quantize_options defaults = TRUENO_QUANTIZE_OPTIONS_INIT;
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    if (!opt) opt = &defaults;
    if (!in) return tr_fail(err, TRUENO_ERR_ARGUMENT, "the input file is NULL");
    if (!out_path || !*out_path) {
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "the output path is NULL or empty");
    }
    if (!TR_STRUCT_OK(opt)) {
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "struct_size of the options is %zu, not %zu",
                       opt->struct_size, sizeof *opt);
    }
    if (!info) return tr_fail(err, TRUENO_ERR_ARGUMENT, "there is no type %d", (int)type);
    if (!info->can_quantize) {
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "this library does not encode %s", info->name);
    }

    struct job j = {.in = in,
                    .ctx = trueno_gguf_ctx(in),
                    .type = type,
                    .pure = opt->pure,
                    .allow_requantize = opt->allow_requantize,
                    .err = err};
    trueno_status status = run(&j, out_path, opt->n_threads);
    tr_free(j.ctx, j.encoded);
    tr_free(j.ctx, j.raw);
    trueno_pool_free(j.pool);
    trueno_gguf_writer_free(j.writer);
    return status;
}
