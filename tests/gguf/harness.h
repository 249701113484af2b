/* SPDX-License-Identifier: MIT */
/* What the GGUF tests share: contexts whose memory is counted and can fail, sources of bytes, and
 * the opening of one file in every way there is. */
#ifndef GGUF_HARNESS_H
#define GGUF_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "gguf/builder.h"
#include "trueno/gguf.h"

/* Allocator on top of malloc. */
struct memory {
    uint64_t calls;   /* of alloc and realloc that ask for memory */
    uint64_t fail_at; /* this call returns NULL, counted from 1; 0: none */
    uint64_t live;    /* blocks that were not freed */
    size_t largest;   /* request, bytes */
};
trueno_ctx *memory_ctx(struct memory *m);

/* Bytes behind a callback. */
struct bytes {
    const uint8_t *data;
    uint64_t n;
    uint64_t calls;   /* so far */
    uint64_t total;   /* bytes asked for so far */
    uint64_t fail_at; /* this call gives `give` bytes only, counted from 1; 0: none */
    size_t give;
};
size_t bytes_read(void *user, void *dst, uint64_t offset, size_t size_bytes);

/* Upper bound of the memory that opening n bytes may take at its peak. */
uint64_t memory_bound(uint64_t n);

/* Opens the bytes from a buffer (a copy of exact size, so that sanitizers see a byte too many) and
 * through a callback, each in a fresh context. Both must give `status` and, on failure, one
 * message that contains `word`; memory stays below memory_bound and all of it comes back. On
 * success everything in the file is visited. */
void expect_open(const struct gb *b, const trueno_gguf_options *opt, trueno_status status,
                 const char *word);

/* The same with default options; frees b. With TRUENO_SEED_DIR set, files under 4 KiB are kept
 * there: seeds for the fuzzer, named after the test. */
void expect_case(const char *test, struct gb *b, trueno_status status, const char *word);
#define expect_fail(b, status, word) expect_case(__func__, b, status, word)
#define expect_ok(b)                 expect_case(__func__, b, TRUENO_OK, NULL)

/* Something that is done with a context and must fail cleanly when memory does. */
typedef trueno_status (*action)(trueno_ctx *ctx, void *arg, trueno_error *err);

/* Runs it with the first, second, ... request for memory failing, until none is left to fail, at
 * least at_least of them. Each failure must be NO_MEMORY, leak nothing, and leave a context that
 * works. */
void fail_each_request(action act, void *arg, size_t at_least);

/* Opens a buffer that must be good. */
trueno_gguf *open_good(trueno_ctx *ctx, const struct gb *b);

/* A new directory for files; remove_dir deletes it with the files in it. */
char *make_dir(void);
void remove_dir(char *dir);
/* DIR/NAME in malloced memory. */
char *path_in(const char *dir, const char *name);
void write_file(const char *path, const void *data, size_t n);
/* Whole content, malloced; NULL if there is no such file. */
uint8_t *read_whole(const char *path, size_t *n);
/* Number of entries in a directory. */
size_t count_files(const char *dir);

#endif
