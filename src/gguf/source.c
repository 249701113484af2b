/* SPDX-License-Identifier: MIT */
/* Where the bytes of one GGUF file come from. */
#include "gguf/source.h"

#include <string.h>

#include "base/error.h"

enum { FIRST_CHUNK = 64 << 10 };

/* The end of a long path says more than its start. */
static void set_label(struct tr_source *s, const char *name)
{
    size_t len = strlen(name), room = sizeof s->label - 1;
    if (len <= room) {
        memcpy(s->label, name, len + 1);
        return;
    }
    memcpy(s->label, "...", 3);
    memcpy(s->label + 3, name + len - (room - 3), room - 3 + 1);
}

trueno_status tr_source_open_path(struct tr_source *s, trueno_ctx *ctx, const char *path,
                                  const trueno_gguf_options *lim, trueno_error *err)
{
    *s = (struct tr_source){.ctx = ctx, .max_have = lim->max_metadata_bytes};
    s->file.fd = -1;
    set_label(s, path);
    trueno_status status = tr_file_open(&s->file, path, !lim->no_mmap, err);
    if (status) return status;
    s->size = s->file.size;
    if (lim->no_mmap) return TRUENO_OK;
    s->bytes = s->file.data;
    s->have = s->size;
    s->all_in_memory = true;
    return TRUENO_OK;
}

void tr_source_open_buffer(struct tr_source *s, trueno_ctx *ctx, const void *data, size_t size)
{
    *s = (struct tr_source){.ctx = ctx, .size = size, .have = size, .bytes = data};
    s->file.fd = -1;
    s->all_in_memory = true;
    set_label(s, "buffer");
}

void tr_source_open_reader(struct tr_source *s, trueno_ctx *ctx, trueno_read_fn read, void *user,
                           uint64_t size, const trueno_gguf_options *lim)
{
    *s = (struct tr_source){.ctx = ctx, .size = size, .read = read, .user = user};
    s->file.fd = -1;
    s->max_have = lim->max_metadata_bytes;
    set_label(s, "reader");
}

void tr_source_close(struct tr_source *s)
{
    if (!s->ctx) return; /* never opened */
    tr_vec_free(s->ctx, &s->copy);
    tr_file_close(&s->file);
    *s = (struct tr_source){.ctx = NULL};
}

static trueno_status read_file(const struct tr_source *s, void *dst, uint64_t offset, size_t n,
                               trueno_error *err)
{
    trueno_error why;
    trueno_status status = tr_file_read(&s->file, dst, offset, n, &why);
    if (status) tr_fail(err, status, "%s: %s", s->label, why.message);
    return status;
}

static trueno_status read_callback(const struct tr_source *s, void *dst, uint64_t offset, size_t n,
                                   trueno_error *err)
{
    size_t got = s->read(s->user, dst, offset, n);
    if (got == n) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_IO, "%s: the callback gave %zu of %zu bytes at offset %llu",
                   s->label, got, n, (unsigned long long)offset);
}

/* A mapped file is read through its descriptor: if it has shrunk, that is a status, where touching
 * the mapping would be a signal. */
trueno_status tr_source_read(const struct tr_source *s, void *dst, uint64_t offset,
                             size_t size_bytes, trueno_error *err)
{
    if (offset > s->size || size_bytes > s->size - offset)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "%s: %zu bytes at offset %llu of %llu", s->label,
                       size_bytes, (unsigned long long)offset, (unsigned long long)s->size);
    if (size_bytes == 0) return TRUENO_OK;
    if (s->read) return read_callback(s, dst, offset, size_bytes, err);
    if (s->file.fd >= 0) return read_file(s, dst, offset, size_bytes, err);
    memcpy(dst, s->bytes + offset, size_bytes);
    return TRUENO_OK;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

trueno_status tr_source_need(struct tr_source *s, uint64_t upto, trueno_error *err)
{
    if (upto > s->have && upto > s->max_have)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE,
                       "%s: metadata of more than %llu bytes (option max_metadata_bytes)", s->label,
                       (unsigned long long)s->max_have);
    while (s->have < upto) {
        uint64_t target = s->have ? 2 * s->have : FIRST_CHUNK;
        target = min_u64(target, min_u64(s->size, s->max_have));
        uint64_t more = target - s->have;
        if (!tr_vec_reserve(s->ctx, &s->copy, more, 1))
            return tr_fail(err, TRUENO_ERR_NO_MEMORY, "%s: no memory for %llu bytes of metadata",
                           s->label, (unsigned long long)target);
        s->bytes = s->copy.data;
        uint8_t *dst = (uint8_t *)s->copy.data + s->have;
        trueno_status status = tr_source_read(s, dst, s->have, (size_t)more, err);
        if (status) return status;
        s->have = s->copy.n = target;
    }
    return TRUENO_OK;
}

void tr_source_trim(struct tr_source *s, uint64_t upto)
{
    if (s->all_in_memory || upto >= s->have) return;
    s->have = s->copy.n = upto;
    tr_vec_shrink(s->ctx, &s->copy, 1);
    s->bytes = s->copy.data;
}
