/* SPDX-License-Identifier: MIT */
/* A store in a file that several processes write. */
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/file.h"
#include "gguf/cursor.h"
#include "tuner/store_impl.h"

enum { REASON_BYTES = 128, LOCK_STEP_MS = 5, HEADER_SEEN = 64 };

/* "store: cannot WHAT 'PATH': reason"; what only the rights forbid has its own status. */
static trueno_status fail_io(trueno_error *err, const char *what, const char *path, int code)
{
    char reason[REASON_BYTES];
    const bool rights = code == EACCES || code == EPERM || code == EROFS;
    return tr_fail(err, rights ? TRUENO_ERR_READ_ONLY : TRUENO_ERR_IO,
                   "store: cannot %s '%.300s': %s", what, path,
                   strerror_r(code, reason, sizeof reason));
}

trueno_status tr_store_path(char *buf, size_t cap, size_t *len, trueno_error *err)
{
    static const char name[] = "/trueno/tuner.trw";
    const char *cache = secure_getenv("XDG_CACHE_HOME"), *home = secure_getenv("HOME");
    const char *middle = "";
    *len = 0;
    if (!cache || cache[0] != '/') {
        if (!home || home[0] != '/')
            return tr_fail(err, TRUENO_ERR_NOT_FOUND,
                           "store: neither XDG_CACHE_HOME nor HOME is an absolute path");
        cache = home;
        middle = "/.cache";
    }
    const size_t n = strlen(cache), m = strlen(middle);
    *len = n + m + sizeof name - 1;
    if (*len >= cap) return TRUENO_OK;
    memcpy(buf, cache, n);
    memcpy(buf + n, middle, m);
    memcpy(buf + n + m, name, sizeof name);
    return TRUENO_OK;
}

/* --------------------------------------------------------------------- reading */

static bool is_missing(const char *path)
{
    struct stat st;
    return stat(path, &st) != 0 && (errno == ENOENT || errno == ENOTDIR);
}

static trueno_status read_open(trueno_ctx *ctx, struct tr_store **out, const struct tr_file *f,
                               struct tr_store_report *report, trueno_error *err)
{
    /* of what is too large in any form, the beginning tells whether it is of a newer version */
    const bool large = f->size > TR_STORE_MAX_JSON;
    const size_t n = large ? HEADER_SEEN : (size_t)f->size;
    uint8_t *bytes = tr_alloc(ctx, n);
    if (!bytes) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory for %zu bytes", n);
    trueno_status status = tr_file_read(f, bytes, 0, n, err);
    if (status == TRUENO_OK) status = tr_store_read(ctx, out, bytes, n, report, err);
    tr_free(ctx, bytes);
    if (!large || status == TRUENO_ERR_VERSION || status == TRUENO_ERR_NO_MEMORY) return status;
    return tr_fail(err, TRUENO_ERR_TOO_LARGE, "store: a file of %llu bytes, the limit is %d",
                   (unsigned long long)f->size, TR_STORE_MAX_BYTES);
}

trueno_status tr_store_load_file(trueno_ctx *ctx, struct tr_store **out, const char *path,
                                 struct tr_store_report *report, trueno_error *err)
{
    struct tr_file f;
    *out = NULL;
    if (!path || !*path) return tr_fail(err, TRUENO_ERR_ARGUMENT, "store: no path");
    if (is_missing(path)) return tr_store_new(out, ctx, err);
    TR_TRY(tr_file_open(&f, path, false, err));
    trueno_status status = read_open(ctx, out, &f, report, err);
    tr_file_close(&f);
    return status;
}

/* --------------------------------------------------------------------- writing */

/* A copy of the path with `suffix`. */
static char *with_suffix(trueno_ctx *ctx, const char *path, const char *suffix)
{
    const size_t n = strlen(path), m = strlen(suffix);
    char *out = tr_alloc(ctx, n + m + 1);
    if (!out) return NULL;
    memcpy(out, path, n);
    memcpy(out + n, suffix, m + 1);
    return out;
}

/* Makes one directory; errno, or 0 if it is there afterwards. */
static int make_directory(const char *path)
{
    return mkdir(path, 0700) && errno != EEXIST ? errno : 0;
}

/* Makes the last two directories of the path, where they are missing: errno of what failed, or 0.
 * Says nothing of whether files can be made there. */
static int make_directories(char *path)
{
    int code = 0;
    char *last = strrchr(path, '/');
    if (!last || last == path) return 0;
    *last = '\0';
    char *before = strrchr(path, '/');
    if (before && before != path) {
        *before = '\0';
        code = make_directory(path);
        *before = '/';
    }
    if (!code) code = make_directory(path);
    *last = '/';
    return code;
}

/* Waits for the lock for wait_ms at most; false: not had. */
static bool take_lock(int fd, uint32_t wait_ms)
{
    const uint64_t start = tr_now_ns();
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR) return false; /* no locks on this file system */
        if (tr_now_ns() - start >= UINT64_C(1000000) * wait_ms) return false;
        nanosleep(&(struct timespec){0, LOCK_STEP_MS * 1000000L}, NULL);
    }
    return true;
}

/* What stands at the path, as a store; what it holds and cannot be read is set aside, so that
 * nothing of another make is lost. */
static trueno_status take_old(struct tr_store **out, trueno_ctx *ctx, const char *path,
                              struct tr_store_report *report, trueno_error *err)
{
    struct tr_store_report unseen = {0};
    trueno_status status = tr_store_load_file(ctx, out, path, &unseen, err);
    if (status != TRUENO_ERR_TRUNCATED && status != TRUENO_ERR_FORMAT &&
        status != TRUENO_ERR_CORRUPT && status != TRUENO_ERR_TOO_LARGE)
        return status;
    char *bad = with_suffix(ctx, path, ".bad");
    if (!bad) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory for a path");
    const int code = rename(path, bad) ? errno : 0;
    tr_free(ctx, bad);
    if (code) return fail_io(err, "set aside", path, code);
    report->set_aside = true;
    return tr_store_new(out, ctx, err);
}

static trueno_status write_file(trueno_ctx *ctx, const char *path, const void *bytes, size_t n,
                                trueno_error *err)
{
    struct tr_outfile f;
    TR_TRY(tr_outfile_open(&f, ctx, path, err));
    trueno_status status = TRUENO_OK;
    if (fchmod(f.fd, 0600)) status = fail_io(err, "protect", path, errno);
    if (status == TRUENO_OK) status = tr_outfile_write(&f, bytes, n, err);
    if (status == TRUENO_OK) status = tr_outfile_commit(&f, err);
    tr_outfile_abort(&f);
    return status;
}

static trueno_status write_store(const struct tr_store *s, const char *path, trueno_error *err)
{
    size_t n, cap;
    TR_TRY(tr_store_encode(s, NULL, 0, &cap, err));
    void *bytes = tr_alloc(s->ctx, cap);
    if (!bytes) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory for %zu bytes", cap);
    trueno_status status = tr_store_encode(s, bytes, cap, &n, err);
    if (status == TRUENO_OK) status = write_file(s->ctx, path, bytes, n, err);
    tr_free(s->ctx, bytes);
    return status;
}

/* With the lock, or without it if there is none to be had. */
static trueno_status replace(const struct tr_store *s, const char *path,
                             struct tr_store_report *report, trueno_error *err)
{
    struct tr_store *all = NULL;
    TR_TRY(take_old(&all, s->ctx, path, report, err));
    trueno_status status = tr_store_merge(all, s, report, err);
    if (status == TRUENO_OK) status = write_store(all, path, err);
    tr_store_free(all);
    return status;
}

/* Makes directories, and looks at what makes a save impossible, or was taken away to keep the file
 * as it is. Cuts `scratch`, a copy of the path. */
static trueno_status check_place(const char *path, char *scratch, trueno_error *err)
{
    const int made = make_directories(scratch);
    if (faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) && errno != ENOENT && errno != ENOTDIR)
        return fail_io(err, "write", path, errno);
    char *slash = strrchr(scratch, '/');
    if (slash) slash[slash == scratch] = '\0';
    const char *dir = slash ? scratch : ".";
    if (faccessat(AT_FDCWD, dir, W_OK | X_OK, AT_EACCESS))
        return fail_io(err, "write into", dir, made ? made : errno);
    return TRUENO_OK;
}

static trueno_status save_locked(const struct tr_store *s, const char *path, const char *lock,
                                 uint32_t wait_ms, struct tr_store_report *report,
                                 trueno_error *err)
{
    /* O_NONBLOCK: a FIFO of that name must not hold us up */
    const int fd =
        open(lock, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
    report->unlocked = fd < 0 || !take_lock(fd, wait_ms);
    trueno_status status = replace(s, path, report, err);
    if (fd >= 0) close(fd); /* and with it the lock */
    return status;
}

trueno_status tr_store_save_file(const struct tr_store *s, const char *path, uint32_t wait_ms,
                                 struct tr_store_report *report, trueno_error *err)
{
    static const struct tr_store_report none;
    struct tr_store_report counts = report ? *report : none;
    if (!path || !*path) return tr_fail(err, TRUENO_ERR_ARGUMENT, "store: no path");
    char *scratch = with_suffix(s->ctx, path, ""), *lock = with_suffix(s->ctx, path, ".lock");
    trueno_status status = TRUENO_OK;
    if (!scratch || !lock)
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory for a path");
    if (status == TRUENO_OK) status = check_place(path, scratch, err);
    if (status == TRUENO_OK) status = save_locked(s, path, lock, wait_ms, &counts, err);
    if (status == TRUENO_OK && report) *report = counts;
    tr_free(s->ctx, scratch);
    tr_free(s->ctx, lock);
    return status;
}
