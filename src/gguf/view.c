/* SPDX-License-Identifier: MIT */
/* What an open file shows of itself: counts, pairs, tensors and their data. */
#include <string.h>

#include "base/error.h"
#include "gguf/gguf_file.h"

trueno_ctx *trueno_gguf_ctx(const trueno_gguf *g)
{
    return g ? g->ctx : NULL;
}

uint32_t trueno_gguf_version(const trueno_gguf *g)
{
    return g ? g->shards[0]->version : 0;
}

uint64_t trueno_gguf_alignment(const trueno_gguf *g)
{
    return g ? g->shards[0]->alignment : 0;
}

uint64_t trueno_gguf_size_bytes(const trueno_gguf *g)
{
    return g ? g->size_bytes : 0;
}

size_t trueno_gguf_n_shards(const trueno_gguf *g)
{
    return g ? g->n_shards : 0;
}

size_t trueno_gguf_n_kv(const trueno_gguf *g)
{
    return g ? (size_t)g->shards[0]->kv.n : 0;
}

trueno_status trueno_gguf_kv_at(const trueno_gguf *g, size_t index, trueno_gguf_kv *out)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    memset(out, 0, sizeof *out);
    if (index >= trueno_gguf_n_kv(g)) return TRUENO_ERR_ARGUMENT;
    const struct tr_kv *kv = tr_shard_kv(g->shards[0], index);
    out->key = tr_kv_key(g->shards[0], kv);
    out->type = (trueno_gguf_type)kv->type;
    out->elem_type = (trueno_gguf_type)kv->elem_type;
    out->count = kv->count;
    return TRUENO_OK;
}

ptrdiff_t trueno_gguf_find(const trueno_gguf *g, const char *key)
{
    return g && key ? tr_shard_find(g->shards[0], key) : -1;
}

size_t trueno_gguf_n_tensors(const trueno_gguf *g)
{
    return g ? (size_t)g->tensors.n : 0;
}

trueno_status trueno_gguf_tensor_at(const trueno_gguf *g, size_t index, trueno_gguf_tensor *out)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    memset(out, 0, sizeof *out);
    if (index >= trueno_gguf_n_tensors(g)) return TRUENO_ERR_ARGUMENT;
    const struct tr_tensor *t = tr_gguf_tensor(g, index);
    const struct tr_shard *s = g->shards[t->shard];
    out->name = (trueno_str){(const char *)s->src.bytes + t->name, t->name_len};
    out->type = (trueno_dtype)t->type;
    out->n_dims = t->n_dims;
    memcpy(out->ne, t->ne, sizeof out->ne);
    out->size_bytes = t->size_bytes;
    out->file_offset = t->offset;
    out->shard = t->shard;
    return TRUENO_OK;
}

ptrdiff_t trueno_gguf_find_tensor(const trueno_gguf *g, const char *name)
{
    return g && name ? tr_names_find(&g->names, name, strlen(name)) : -1;
}

const void *trueno_gguf_tensor_data(const trueno_gguf *g, size_t index)
{
    if (index >= trueno_gguf_n_tensors(g) || g->metadata_only) return NULL;
    const struct tr_tensor *t = tr_gguf_tensor(g, index);
    const struct tr_source *src = &g->shards[t->shard]->src;
    return src->all_in_memory ? src->bytes + t->offset : NULL;
}

trueno_status trueno_gguf_tensor_read(const trueno_gguf *g, size_t index, uint64_t offset,
                                      void *dst, size_t size_bytes, trueno_error *err)
{
    if (!g || (!dst && size_bytes))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "%s is NULL", g ? "dst" : "gguf");
    if (index >= trueno_gguf_n_tensors(g))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tensor %zu of %zu", index,
                       trueno_gguf_n_tensors(g));
    const struct tr_tensor *t = tr_gguf_tensor(g, index);
    const struct tr_source *src = &g->shards[t->shard]->src;
    if (offset > t->size_bytes || size_bytes > t->size_bytes - offset)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "%s: %zu bytes at offset %llu of tensor %zu, which has %llu bytes",
                       src->label, size_bytes, (unsigned long long)offset, index,
                       (unsigned long long)t->size_bytes);
    return tr_source_read(src, dst, t->offset + offset, size_bytes, err);
}
