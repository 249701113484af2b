/* SPDX-License-Identifier: MIT */
/* Where the bytes of one GGUF file come from: a mapped file, a file that is read, a buffer of the
 * caller, or a callback. The first bytes are always in memory, all of them for mapping and buffer,
 * as many as were needed so far for the other two. */
#ifndef TR_SOURCE_H
#define TR_SOURCE_H

#include "base/file.h"
#include "gguf/bytes.h"
#include "trueno/gguf.h"

enum { TR_LABEL_MAX = 128 };

struct tr_source {
    trueno_ctx *ctx;
    char label[TR_LABEL_MAX]; /* for messages: the end of the path, or what it is */
    uint64_t size;            /* of the whole file */
    uint64_t have;            /* bytes in memory, from offset 0 on */
    uint64_t max_have;        /* cap on `have` where it costs memory, option max_metadata_bytes */
    const uint8_t *bytes;     /* `have` bytes; moves when more are fetched */
    bool all_in_memory;       /* mapped, or a buffer */
    struct tr_file file;      /* fd -1: not a file */
    trueno_read_fn read;      /* NULL: not a callback */
    void *user;
    struct tr_vec copy; /* what was fetched */
};

/* Sets up a source. After a failure tr_source_close may still be called. */
trueno_status tr_source_open_path(struct tr_source *s, trueno_ctx *ctx, const char *path,
                                  const trueno_gguf_options *lim, trueno_error *err);
void tr_source_open_buffer(struct tr_source *s, trueno_ctx *ctx, const void *data, size_t size);
void tr_source_open_reader(struct tr_source *s, trueno_ctx *ctx, trueno_read_fn read, void *user,
                           uint64_t size, const trueno_gguf_options *lim);
void tr_source_close(struct tr_source *s);

/* Makes the first `upto` bytes (<= size) available in memory. Fetches in chunks that double, so a
 * size that lies costs no more memory than twice what was really read.
 * @return OK; ERR_IO; ERR_TRUNCATED; ERR_TOO_LARGE; ERR_NO_MEMORY */
trueno_status tr_source_need(struct tr_source *s, uint64_t upto, trueno_error *err);

/* Forgets fetched bytes from `upto` on. */
void tr_source_trim(struct tr_source *s, uint64_t upto);

/* Copies size_bytes at offset into dst. @return OK; ERR_IO; ERR_TRUNCATED */
trueno_status tr_source_read(const struct tr_source *s, void *dst, uint64_t offset,
                             size_t size_bytes, trueno_error *err);

#endif
