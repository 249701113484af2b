/* SPDX-License-Identifier: MIT */
/* Builds GGUF files: collects pairs and tensors. The file itself is written in writer_file.c. */
#include "gguf/writer.h"

#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "gguf/gguf_file.h"

static trueno_str key_at(const void *list, uint32_t index)
{
    const trueno_gguf_writer *w = list;
    const struct tr_out_key *k = (const struct tr_out_key *)w->keys.data + index;
    return (trueno_str){(const char *)w->pairs.data + k->at, k->len};
}

static trueno_str tensor_at(const void *list, uint32_t index)
{
    const trueno_gguf_writer *w = list;
    const struct tr_out_tensor *t = tr_out_tensor_at(w, index);
    return (trueno_str){(const char *)w->text.data + t->name, t->name_len};
}

trueno_status trueno_gguf_writer_new(trueno_ctx *ctx, trueno_gguf_writer **out)
{
    if (out) *out = NULL;
    if (!ctx || !out) return TRUENO_ERR_ARGUMENT;
    trueno_gguf_writer *w = tr_calloc(ctx, 1, sizeof *w);
    if (!w) return TRUENO_ERR_NO_MEMORY;
    w->ctx = ctx;
    tr_ctx_ref(ctx);
    w->alignment = TR_GGUF_ALIGN_DEFAULT;
    w->file.fd = -1;
    tr_names_init(&w->key_set, ctx, w, key_at);
    tr_names_init(&w->tensor_set, ctx, w, tensor_at);
    *out = w;
    return TRUENO_OK;
}

void trueno_gguf_writer_free(trueno_gguf_writer *w)
{
    if (!w) return;
    trueno_ctx *ctx = w->ctx;
    tr_outfile_abort(&w->file);
    tr_vec_free(ctx, &w->pairs);
    tr_vec_free(ctx, &w->keys);
    tr_vec_free(ctx, &w->tensors);
    tr_vec_free(ctx, &w->text);
    tr_vec_free(ctx, &w->image);
    tr_names_free(&w->key_set);
    tr_names_free(&w->tensor_set);
    tr_free(ctx, w);
    tr_ctx_unref(ctx);
}

/* ------------------------------------------------------------------ pairs */

/* Room was reserved before: these cannot fail. */
static void put_number(struct tr_vec *v, uint64_t x, size_t n)
{
    tr_store_le((uint8_t *)v->data + v->n, x, n);
    v->n += n;
}

static void put_bytes(struct tr_vec *v, const void *data, size_t n)
{
    if (n) memcpy((uint8_t *)v->data + v->n, data, n);
    v->n += n;
}

/* Encodes the key and the type, with room for value_bytes after them. On failure nothing is
 * changed. */
static trueno_status put_key(trueno_gguf_writer *w, trueno_str key, uint64_t type,
                             uint64_t value_bytes)
{
    const uint64_t at = w->pairs.n + 8;
    const struct tr_out_key entry = {at, (uint32_t)key.len};
    uint64_t more;
    if (!tr_add(&more, value_bytes, 12 + key.len)) return TRUENO_ERR_NO_MEMORY;
    if (!tr_vec_reserve(w->ctx, &w->pairs, more, 1) ||
        !tr_vec_reserve(w->ctx, &w->keys, 1, sizeof entry))
        return TRUENO_ERR_NO_MEMORY;
    /* the set looks at the list, so the key must stand there first */
    const uint64_t before = w->pairs.n;
    put_number(&w->pairs, key.len, 8);
    put_bytes(&w->pairs, key.data, key.len);
    ((struct tr_out_key *)w->keys.data)[w->keys.n] = entry;
    const trueno_status status = tr_names_add(&w->key_set, (uint32_t)w->keys.n);
    if (status) {
        w->pairs.n = before;
        return status == TRUENO_ERR_CORRUPT ? TRUENO_ERR_ARGUMENT : status;
    }
    w->keys.n++;
    put_number(&w->pairs, type, 4);
    return TRUENO_OK;
}

/* Begins a pair: checks the state and the key. */
static trueno_status begin_pair(trueno_gguf_writer *w, const char *key, uint64_t type,
                                uint64_t value_bytes)
{
    if (!w || !key || w->state != TR_WRITER_ADDING) return TRUENO_ERR_ARGUMENT;
    const trueno_str name = {key, strlen(key)};
    if (tr_gguf_bad_key(key, name.len)) return TRUENO_ERR_ARGUMENT;
    return put_key(w, name, type, value_bytes);
}

/* The reader takes the alignment from this key, so the writer does too. */
static bool is_alignment(const char *key, size_t len)
{
    static const char name[] = "general.alignment";
    return len == sizeof name - 1 && memcmp(key, name, len) == 0;
}

static bool alignment_ok(uint64_t type, uint64_t value)
{
    return type == TRUENO_GGUF_U32 && value && !(value & (value - 1)) && value <= TR_GGUF_ALIGN_MAX;
}

static trueno_status put_scalar(trueno_gguf_writer *w, const char *key, uint64_t type,
                                uint64_t bits)
{
    const size_t n = tr_gguf_type_bytes(type);
    const bool aligns = w && key && is_alignment(key, strlen(key));
    if (aligns && !alignment_ok(type, bits)) return TRUENO_ERR_ARGUMENT;
    TR_TRY(begin_pair(w, key, type, n));
    put_number(&w->pairs, bits, n);
    if (aligns) w->alignment = bits;
    return TRUENO_OK;
}

trueno_status trueno_gguf_writer_u32(trueno_gguf_writer *w, const char *key, uint32_t value)
{
    return put_scalar(w, key, TRUENO_GGUF_U32, value);
}

trueno_status trueno_gguf_writer_i32(trueno_gguf_writer *w, const char *key, int32_t value)
{
    return put_scalar(w, key, TRUENO_GGUF_I32, (uint32_t)value);
}

trueno_status trueno_gguf_writer_u64(trueno_gguf_writer *w, const char *key, uint64_t value)
{
    return put_scalar(w, key, TRUENO_GGUF_U64, value);
}

trueno_status trueno_gguf_writer_f32(trueno_gguf_writer *w, const char *key, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return put_scalar(w, key, TRUENO_GGUF_F32, bits);
}

trueno_status trueno_gguf_writer_bool(trueno_gguf_writer *w, const char *key, bool value)
{
    return put_scalar(w, key, TRUENO_GGUF_BOOL, value);
}

trueno_status trueno_gguf_writer_str(trueno_gguf_writer *w, const char *key, const char *data,
                                     size_t len)
{
    uint64_t bytes;
    if ((!data && len) || (key && is_alignment(key, strlen(key)))) return TRUENO_ERR_ARGUMENT;
    if (!tr_add(&bytes, len, 8)) return TRUENO_ERR_NO_MEMORY;
    TR_TRY(begin_pair(w, key, TRUENO_GGUF_STRING, bytes));
    put_number(&w->pairs, len, 8);
    put_bytes(&w->pairs, data, len);
    return TRUENO_OK;
}

/* Element i of a native array, as its bits. */
static uint64_t native_bits(const void *data, uint64_t i, size_t n)
{
    const uint8_t *p = (const uint8_t *)data + i * n;
    uint16_t x2;
    uint32_t x4;
    uint64_t x8;
    switch (n) {
    case 2: memcpy(&x2, p, 2); return x2;
    case 4: memcpy(&x4, p, 4); return x4;
    case 8: memcpy(&x8, p, 8); return x8;
    default: return *p;
    }
}

static bool bools_ok(const uint8_t *data, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++)
        if (data[i] > 1) return false;
    return true;
}

trueno_status trueno_gguf_writer_array(trueno_gguf_writer *w, const char *key,
                                       trueno_gguf_type elem, const void *data, uint64_t count)
{
    const size_t n = tr_gguf_type_bytes((uint64_t)elem);
    uint64_t bytes, total;
    if (n == 0 || (!data && count) || (key && is_alignment(key, strlen(key))))
        return TRUENO_ERR_ARGUMENT;
    if (!tr_mul(&bytes, count, n) || !tr_add(&total, bytes, 12)) return TRUENO_ERR_NO_MEMORY;
    if (elem == TRUENO_GGUF_BOOL && !bools_ok(data, count)) return TRUENO_ERR_ARGUMENT;
    TR_TRY(begin_pair(w, key, TRUENO_GGUF_ARRAY, total));
    put_number(&w->pairs, elem, 4);
    put_number(&w->pairs, count, 8);
    for (uint64_t i = 0; i < count; i++) put_number(&w->pairs, native_bits(data, i, n), n);
    return TRUENO_OK;
}

/* Bytes of the strings with their length fields. */
static trueno_status strings_bytes(const trueno_str *items, uint64_t count, uint64_t *bytes)
{
    if (!tr_mul(bytes, count, 8)) return TRUENO_ERR_NO_MEMORY;
    for (uint64_t i = 0; i < count; i++) {
        if (!items[i].data && items[i].len) return TRUENO_ERR_ARGUMENT;
        if (!tr_add(bytes, *bytes, items[i].len)) return TRUENO_ERR_NO_MEMORY;
    }
    return TRUENO_OK;
}

trueno_status trueno_gguf_writer_str_array(trueno_gguf_writer *w, const char *key,
                                           const trueno_str *items, uint64_t count)
{
    uint64_t bytes, total;
    if ((!items && count) || (key && is_alignment(key, strlen(key)))) return TRUENO_ERR_ARGUMENT;
    TR_TRY(strings_bytes(items, count, &bytes));
    if (!tr_add(&total, bytes, 12)) return TRUENO_ERR_NO_MEMORY;
    TR_TRY(begin_pair(w, key, TRUENO_GGUF_ARRAY, total));
    put_number(&w->pairs, TRUENO_GGUF_STRING, 4);
    put_number(&w->pairs, count, 8);
    for (uint64_t i = 0; i < count; i++) {
        put_number(&w->pairs, items[i].len, 8);
        put_bytes(&w->pairs, items[i].data, items[i].len);
    }
    return TRUENO_OK;
}

trueno_status trueno_gguf_writer_copy_kv(trueno_gguf_writer *w, const trueno_gguf *src, size_t kv)
{
    if (!w || !src || w->state != TR_WRITER_ADDING || kv >= trueno_gguf_n_kv(src))
        return TRUENO_ERR_ARGUMENT;
    const struct tr_shard *s = src->shards[0];
    const struct tr_kv *pair = tr_shard_kv(s, kv);
    const trueno_str key = tr_kv_key(s, pair);
    const size_t bytes = (size_t)(pair->end - pair->value);
    TR_TRY(put_key(w, key, pair->type, 12 + (uint64_t)bytes));
    if (pair->type == TRUENO_GGUF_ARRAY) {
        put_number(&w->pairs, pair->elem_type, 4);
        put_number(&w->pairs, pair->count, 8);
    }
    put_bytes(&w->pairs, s->src.bytes + pair->value, bytes);
    if (is_alignment(key.data, key.len)) w->alignment = s->alignment;
    return TRUENO_OK;
}

/* ---------------------------------------------------------------- tensors */

trueno_status trueno_gguf_writer_tensor(trueno_gguf_writer *w, const char *name, trueno_dtype type,
                                        uint32_t n_dims, const uint64_t *ne)
{
    struct tr_out_tensor t = {.type = (uint32_t)type, .n_dims = n_dims};
    trueno_status status;
    if (!w || !name || !ne || w->state != TR_WRITER_ADDING) return TRUENO_ERR_ARGUMENT;
    const size_t len = strlen(name);
    if (len == 0 || len > TR_GGUF_NAME_MAX || n_dims == 0 || n_dims > TR_GGUF_DIMS_MAX)
        return TRUENO_ERR_ARGUMENT;
    if (tr_tensor_bytes(&t.size_bytes, &status, t.type, n_dims, ne, UINT64_MAX))
        return TRUENO_ERR_ARGUMENT;
    for (uint32_t i = 0; i < n_dims; i++) t.ne[i] = ne[i];
    t.name = w->text.n;
    t.name_len = (uint8_t)len;
    if (!tr_vec_reserve(w->ctx, &w->text, len, 1) ||
        !tr_vec_reserve(w->ctx, &w->tensors, 1, sizeof t))
        return TRUENO_ERR_NO_MEMORY;
    put_bytes(&w->text, name, len);
    *tr_out_tensor_at(w, w->tensors.n) = t;
    status = tr_names_add(&w->tensor_set, (uint32_t)w->tensors.n);
    if (status) {
        w->text.n -= len;
        return status == TRUENO_ERR_CORRUPT ? TRUENO_ERR_ARGUMENT : status;
    }
    w->tensors.n++;
    return TRUENO_OK;
}
