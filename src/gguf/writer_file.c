/* SPDX-License-Identifier: MIT */
/* Writes the GGUF file that a writer has collected: head, tensor data with padding, end. */
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "gguf/gguf_file.h"
#include "gguf/writer.h"
#include "trueno/quantize.h"

/* ------------------------------------------------------------------- head */

static const char quant_key[] = "general.quantization_version";
enum {
    QUANT_VERSION = 2,
    QUANT_KEY_LEN = sizeof quant_key - 1,
    QUANT_PAIR = 8 + QUANT_KEY_LEN + 8
};

/* Readers expect this key as soon as a tensor is quantised. */
static bool needs_quant_version(const trueno_gguf_writer *w)
{
    if (tr_names_find(&w->key_set, quant_key, QUANT_KEY_LEN) >= 0) return false;
    for (uint64_t i = 0; i < w->tensors.n; i++) {
        const trueno_dtype_info *info =
            trueno_dtype_get_info((trueno_dtype)tr_out_tensor_at(w, i)->type);
        if (info && info->is_quantized) return true;
    }
    return false;
}

static bool lay_out(trueno_gguf_writer *w, uint64_t *data_bytes)
{
    *data_bytes = 0;
    for (uint64_t i = 0; i < w->tensors.n; i++) {
        struct tr_out_tensor *t = tr_out_tensor_at(w, i);
        t->offset = *data_bytes;
        if (!tr_add(data_bytes, *data_bytes, t->size_bytes) ||
            !tr_align_up(data_bytes, *data_bytes, w->alignment))
            return false;
    }
    return true;
}

static uint64_t table_bytes(const trueno_gguf_writer *w)
{
    uint64_t n = w->text.n;
    for (uint64_t i = 0; i < w->tensors.n; i++)
        n += TR_GGUF_TENSOR_MIN + 8 * (uint64_t)tr_out_tensor_at(w, i)->n_dims;
    return n;
}

/* Writes into memory that is large enough; returns where it ends. */
static uint8_t *put(uint8_t *to, uint64_t x, size_t n)
{
    tr_store_le(to, x, n);
    return to + n;
}

static uint8_t *put_text(uint8_t *to, const void *text, uint64_t n)
{
    to = put(to, n, 8);
    memcpy(to, text, (size_t)n);
    return to + n;
}

static uint8_t *put_table(uint8_t *to, const trueno_gguf_writer *w)
{
    for (uint64_t i = 0; i < w->tensors.n; i++) {
        const struct tr_out_tensor *t = tr_out_tensor_at(w, i);
        to = put_text(to, (const char *)w->text.data + t->name, t->name_len);
        to = put(to, t->n_dims, 4);
        for (uint32_t d = 0; d < t->n_dims; d++) to = put(to, t->ne[d], 8);
        to = put(to, t->type, 4);
        to = put(to, t->offset, 8);
    }
    return to;
}

trueno_status tr_writer_head(trueno_gguf_writer *w, struct tr_vec *head, uint64_t *data_bytes,
                             trueno_error *err)
{
    const bool quant = needs_quant_version(w);
    uint64_t used, padded;
    if (!lay_out(w, data_bytes))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "the sizes of the tensors do not fit 64 bits");
    used = 24 + w->pairs.n + (quant ? QUANT_PAIR : 0) + table_bytes(w);
    if (!tr_align_up(&padded, used, w->alignment) || !tr_vec_reserve(w->ctx, head, padded, 1))
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for %llu bytes of metadata",
                       (unsigned long long)used);
    uint8_t *to = head->data;
    memcpy(to, "GGUF", 4);
    to = put(to + 4, 3, 4);
    to = put(to, w->tensors.n, 8);
    to = put(to, w->keys.n + quant, 8);
    if (w->pairs.n) memcpy(to, w->pairs.data, (size_t)w->pairs.n);
    to += w->pairs.n;
    if (quant) {
        to = put_text(to, quant_key, QUANT_KEY_LEN);
        to = put(put(to, TRUENO_GGUF_U32, 4), QUANT_VERSION, 4);
    }
    to = put_table(to, w);
    memset(to, 0, (size_t)(padded - used));
    head->n = padded;
    return TRUENO_OK;
}

/* ------------------------------------------------------------------ output */

/* Appends to the file or to the image, for which begin has reserved all memory. */
static trueno_status append(trueno_gguf_writer *w, const void *data, size_t n, trueno_error *err)
{
    if (n == 0) return TRUENO_OK;
    if (!w->in_memory) return tr_outfile_write(&w->file, data, n, err);
    memcpy((uint8_t *)w->image.data + w->image.n, data, n);
    w->image.n += n;
    return TRUENO_OK;
}

static trueno_status append_zeros(trueno_gguf_writer *w, uint64_t n, trueno_error *err)
{
    static const uint8_t zeros[4096];
    while (n) {
        size_t piece = n < sizeof zeros ? (size_t)n : sizeof zeros;
        TR_TRY(append(w, zeros, piece, err));
        n -= piece;
    }
    return TRUENO_OK;
}

/* While the current tensor is complete: pads it and goes on to the next. */
static trueno_status skip_complete(trueno_gguf_writer *w, trueno_error *err)
{
    while (w->current < w->tensors.n && w->done == tr_out_tensor_at(w, w->current)->size_bytes) {
        TR_TRY(append_zeros(w, (0 - w->done) & (w->alignment - 1), err));
        w->current++;
        w->done = 0;
    }
    return TRUENO_OK;
}

/* A file that was written in part is of no use: away with it. */
static trueno_status give_up(trueno_gguf_writer *w, trueno_status status)
{
    w->state = TR_WRITER_FAILED;
    tr_outfile_abort(&w->file);
    return status;
}

static trueno_status wrong_state(const trueno_gguf_writer *w, trueno_error *err)
{
    static const char *const words[] = {"has not begun", "is being written", "is finished",
                                        "failed before"};
    return tr_fail(err, TRUENO_ERR_ARGUMENT, "writer: the file %s",
                   w ? words[w->state] : "is NULL");
}

/* Puts the head where it belongs. On failure the writer is as it was. */
static trueno_status place_head(trueno_gguf_writer *w, const char *path, const struct tr_vec *head,
                                uint64_t data_bytes, trueno_error *err)
{
    uint64_t total;
    w->in_memory = !path;
    if (path) {
        TR_TRY(tr_outfile_open(&w->file, w->ctx, path, err));
    } else if (!tr_add(&total, head->n, data_bytes) ||
               !tr_vec_reserve(w->ctx, &w->image, total, 1)) {
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a file of %llu + %llu bytes",
                       (unsigned long long)head->n, (unsigned long long)data_bytes);
    }
    trueno_status status = append(w, head->data, (size_t)head->n, err);
    if (status) tr_outfile_abort(&w->file);
    return status;
}

trueno_status trueno_gguf_writer_begin(trueno_gguf_writer *w, const char *path, trueno_error *err)
{
    struct tr_vec head = {NULL, 0, 0};
    uint64_t data_bytes = 0;
    if (!w || w->state != TR_WRITER_ADDING) return wrong_state(w, err);
    trueno_status status = tr_writer_head(w, &head, &data_bytes, err);
    if (!status) status = place_head(w, path, &head, data_bytes, err);
    tr_vec_free(w->ctx, &head);
    if (status) return status;
    w->state = TR_WRITER_WRITING;
    status = skip_complete(w, err); /* tensors without data */
    return status ? give_up(w, status) : TRUENO_OK;
}

trueno_status trueno_gguf_writer_data(trueno_gguf_writer *w, const void *data, size_t size_bytes,
                                      trueno_error *err)
{
    if (!w || w->state != TR_WRITER_WRITING) return wrong_state(w, err);
    if (!data && size_bytes) return tr_fail(err, TRUENO_ERR_ARGUMENT, "data is NULL");
    if (size_bytes == 0) return TRUENO_OK;
    if (w->current == w->tensors.n)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "writer: %zu bytes after the last tensor",
                       size_bytes);
    const struct tr_out_tensor *t = tr_out_tensor_at(w, w->current);
    if (size_bytes > t->size_bytes - w->done)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "writer: %zu bytes for tensor '%.*s', which lacks %llu of %llu", size_bytes,
                       t->name_len, (const char *)w->text.data + t->name,
                       (unsigned long long)(t->size_bytes - w->done),
                       (unsigned long long)t->size_bytes);
    trueno_status status = append(w, data, size_bytes, err);
    if (status) return give_up(w, status);
    w->done += size_bytes;
    status = skip_complete(w, err);
    return status ? give_up(w, status) : TRUENO_OK;
}

trueno_status trueno_gguf_writer_finish(trueno_gguf_writer *w, trueno_error *err)
{
    if (!w || w->state != TR_WRITER_WRITING) return wrong_state(w, err);
    if (w->current < w->tensors.n)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "writer: tensor %llu of %llu lacks data",
                       (unsigned long long)w->current, (unsigned long long)w->tensors.n);
    if (!w->in_memory) {
        trueno_status status = tr_outfile_commit(&w->file, err);
        if (status) return give_up(w, status);
    }
    w->state = TR_WRITER_DONE;
    return TRUENO_OK;
}

const void *trueno_gguf_writer_buffer(const trueno_gguf_writer *w, size_t *size_bytes)
{
    const bool ready = w && w->in_memory && w->state == TR_WRITER_DONE;
    if (size_bytes) *size_bytes = ready ? (size_t)w->image.n : 0;
    return ready ? w->image.data : NULL;
}
