/* SPDX-License-Identifier: MIT */
/* Files: read-only mappings, positioned reads, and atomic replacement. Paths are UTF-8. */
#ifndef TR_FILE_H
#define TR_FILE_H

#include "trueno/base.h"

struct tr_file {
    int fd;           /* -1: closed */
    uint64_t size;    /* bytes at open */
    const void *data; /* the mapping, or NULL */
};

/* Opens a regular file for reading (a directory, FIFO or device is ERR_IO). `map`: also map it; an
 * empty file has no mapping. @return OK; ERR_IO (message with path and reason) */
trueno_status tr_file_open(struct tr_file *f, const char *path, bool map, trueno_error *err);
void tr_file_close(struct tr_file *f);

/* Reads exactly size_bytes at offset; restarts after EINTR and short reads. @return OK; ERR_IO;
 * ERR_TRUNCATED */
trueno_status tr_file_read(const struct tr_file *f, void *dst, uint64_t offset, size_t size_bytes,
                           trueno_error *err);

/* A file being written under a temporary name beside `path`. */
struct tr_outfile {
    trueno_ctx *ctx;
    int fd;     /* -1: not open */
    char *path; /* final name, and the temporary one */
    char *temp;
};
trueno_status tr_outfile_open(struct tr_outfile *f, trueno_ctx *ctx, const char *path,
                              trueno_error *err);
trueno_status tr_outfile_write(struct tr_outfile *f, const void *data, size_t size_bytes,
                               trueno_error *err);
/* Syncs and renames. On failure the temporary file is removed and an older `path` is untouched. */
trueno_status tr_outfile_commit(struct tr_outfile *f, trueno_error *err);
/* Removes the temporary file if commit did not happen. Safe on a zeroed struct with fd = -1. */
void tr_outfile_abort(struct tr_outfile *f);

#endif
