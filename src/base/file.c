/* SPDX-License-Identifier: MIT */
/* Files: read-only access to regular files, and replacement of a file in one step. */
#define _FILE_OFFSET_BITS 64
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

enum { REASON_MAX = 128, TEMP_NAME_MAX = 40, TEMP_TRIES = 16 };

/* "cannot WHAT 'PATH': reason of errno" */
static trueno_status io_error(trueno_error *err, const char *what, const char *path, int code)
{
    char reason[REASON_MAX];
    return tr_fail(err, TRUENO_ERR_IO, "cannot %s '%.300s': %s", what, path,
                   strerror_r(code, reason, sizeof reason));
}

static int open_again(const char *path, int flags, mode_t mode)
{
    int fd;
    do fd = open(path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* Why a file of this mode is not read or replaced; NULL for a regular file. */
static const char *not_regular(mode_t mode)
{
    if (S_ISREG(mode)) return NULL;
    if (S_ISDIR(mode)) return "it is a directory";
    if (S_ISFIFO(mode)) return "it is a FIFO";
    return "it is not a regular file";
}

/* ------------------------------------------------------------------- reading */

static trueno_status map_file(struct tr_file *f, const char *path, trueno_error *err)
{
    if (f->size == 0) return TRUENO_OK;
    if (f->size > SIZE_MAX) return io_error(err, "map", path, EFBIG);
    /* MAP_PRIVATE: pages are shared with the page cache all the same while nobody writes, and it
     * works on file systems that refuse shared mappings. */
    void *data = mmap(NULL, (size_t)f->size, PROT_READ, MAP_PRIVATE, f->fd, 0);
    if (data == MAP_FAILED) return io_error(err, "map", path, errno);
    f->data = data;
    return TRUENO_OK;
}

static trueno_status examine(struct tr_file *f, const char *path, bool map, trueno_error *err)
{
    struct stat st;
    if (fstat(f->fd, &st)) return io_error(err, "examine", path, errno);
    const char *why = not_regular(st.st_mode);
    if (why) return tr_fail(err, TRUENO_ERR_IO, "cannot read '%.300s': %s", path, why);
    f->size = (uint64_t)st.st_size;
    return map ? map_file(f, path, err) : TRUENO_OK;
}

trueno_status tr_file_open(struct tr_file *f, const char *path, bool map, trueno_error *err)
{
    *f = (struct tr_file){-1, 0, NULL};
    if (!path) return tr_fail(err, TRUENO_ERR_ARGUMENT, "the path of a file to read is NULL");
    /* O_NONBLOCK: opening a FIFO must not wait for a writer; regular files ignore it */
    f->fd = open_again(path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (f->fd < 0) return io_error(err, "open", path, errno);
    const trueno_status status = examine(f, path, map, err);
    if (status) tr_file_close(f);
    return status;
}

void tr_file_close(struct tr_file *f)
{
    if (f->data) munmap((void *)(uintptr_t)f->data, (size_t)f->size);
    if (f->fd >= 0) close(f->fd);
    *f = (struct tr_file){-1, 0, NULL};
}

trueno_status tr_file_read(const struct tr_file *f, void *dst, uint64_t offset, size_t size_bytes,
                           trueno_error *err)
{
    if (offset > f->size || size_bytes > f->size - offset)
        return tr_fail(err, TRUENO_ERR_TRUNCATED,
                       "%zu bytes wanted at offset %llu of a file of %llu bytes", size_bytes,
                       (unsigned long long)offset, (unsigned long long)f->size);
    for (size_t done = 0; done < size_bytes;) {
        const ssize_t got =
            pread(f->fd, (char *)dst + done, size_bytes - done, (off_t)(offset + done));
        if (got > 0) {
            done += (size_t)got;
        } else if (got == 0) {
            return tr_fail(err, TRUENO_ERR_TRUNCATED,
                           "the file ends at offset %llu, it had %llu bytes when it was opened",
                           (unsigned long long)(offset + done), (unsigned long long)f->size);
        } else if (errno != EINTR) {
            char reason[REASON_MAX];
            return tr_fail(err, TRUENO_ERR_IO, "cannot read %zu bytes at offset %llu: %s",
                           size_bytes, (unsigned long long)offset,
                           strerror_r(errno, reason, sizeof reason));
        }
    }
    return TRUENO_OK;
}

/* ------------------------------------------------------------------- writing */

static uint64_t random_u64(void)
{
    uint64_t value;
    struct timespec t;
    if (getrandom(&value, sizeof value, GRND_NONBLOCK) == (ssize_t)sizeof value) return value;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_nsec << 32 ^ (uint64_t)t.tv_sec ^ (uint64_t)getpid() << 20;
}

/* Length of the directory part of a path with its last slash; 0 if it has none. */
static size_t dir_len(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

/* The name is short and does not build on the final one, which may be as long as the system allows.
 * O_EXCL: never somebody else's file, nor through a link that was put there. */
static trueno_status create_temp(struct tr_outfile *f, trueno_error *err)
{
    const size_t dir = dir_len(f->path);
    for (int i = 0; i < TEMP_TRIES; i++) {
        snprintf(f->temp + dir, TEMP_NAME_MAX, ".trueno-%016llx.tmp",
                 (unsigned long long)random_u64());
        f->fd = open_again(f->temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (f->fd >= 0) return TRUENO_OK;
        if (errno != EEXIST) break;
    }
    return io_error(err, "create a temporary file beside", f->path, errno);
}

trueno_status tr_outfile_open(struct tr_outfile *f, trueno_ctx *ctx, const char *path,
                              trueno_error *err)
{
    *f = (struct tr_outfile){ctx, -1, NULL, NULL};
    if (!path || !*path)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "the path of a file to write is %s",
                       path ? "empty" : "NULL");
    /* A rename would put the new file in place of a device or FIFO, which nobody wants. */
    struct stat st;
    const bool exists = stat(path, &st) == 0;
    const char *why = exists ? not_regular(st.st_mode) : NULL;
    if (why) return tr_fail(err, TRUENO_ERR_IO, "cannot write '%.300s': %s", path, why);

    const size_t len = strlen(path), dir = dir_len(path);
    f->path = tr_strndup(ctx, path, len);
    f->temp = tr_alloc(ctx, dir + TEMP_NAME_MAX);
    if (!f->path || !f->temp) {
        tr_outfile_abort(f);
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a path of %zu bytes", len);
    }
    memcpy(f->temp, path, dir);
    const trueno_status status = create_temp(f, err);
    if (status) {
        tr_outfile_abort(f);
        return status;
    }
    /* The replacement keeps the permissions; where that is refused it has the default ones. */
    if (exists && fchmod(f->fd, st.st_mode & 0777)) errno = 0;
    return TRUENO_OK;
}

trueno_status tr_outfile_write(struct tr_outfile *f, const void *data, size_t size_bytes,
                               trueno_error *err)
{
    if (f->fd < 0) return tr_fail(err, TRUENO_ERR_ARGUMENT, "write to a file that is not open");
    for (size_t done = 0; done < size_bytes;) {
        const ssize_t put = write(f->fd, (const char *)data + done, size_bytes - done);
        if (put > 0)
            done += (size_t)put;
        else if (put == 0)
            return io_error(err, "write", f->path, ENOSPC);
        else if (errno != EINTR)
            return io_error(err, "write", f->path, errno);
    }
    return TRUENO_OK;
}

static int sync_again(int fd)
{
    int rc;
    do rc = fsync(fd);
    while (rc && errno == EINTR);
    return rc;
}

/* Makes the rename durable. A failure is not reported: the new file is whole and in place, and some
 * file systems cannot sync a directory. */
static void sync_dir(char *temp)
{
    const size_t dir = dir_len(temp);
    temp[dir] = '\0';
    const int fd = open_again(dir ? temp : ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return;
    sync_again(fd);
    close(fd);
}

trueno_status tr_outfile_commit(struct tr_outfile *f, trueno_error *err)
{
    if (f->fd < 0) return tr_fail(err, TRUENO_ERR_ARGUMENT, "commit of a file that is not open");
    const char *what = NULL;
    int code = 0;
    if (sync_again(f->fd)) {
        what = "sync";
        code = errno;
    }
    /* Linux closes the descriptor even when it says EINTR. */
    if (close(f->fd) && errno != EINTR && !what) {
        what = "close";
        code = errno;
    }
    f->fd = -1;
    if (!what && rename(f->temp, f->path)) {
        what = "replace";
        code = errno;
    }
    trueno_status status = TRUENO_OK;
    if (what) {
        status = io_error(err, what, f->path, code);
        unlink(f->temp);
    } else {
        sync_dir(f->temp);
    }
    tr_free(f->ctx, f->temp);
    f->temp = NULL;
    tr_outfile_abort(f);
    return status;
}

void tr_outfile_abort(struct tr_outfile *f)
{
    if (f->fd >= 0) {
        close(f->fd);
        unlink(f->temp);
    }
    if (f->ctx) {
        tr_free(f->ctx, f->path);
        tr_free(f->ctx, f->temp);
    }
    *f = (struct tr_outfile){NULL, -1, NULL, NULL};
}
