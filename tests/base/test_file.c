/* SPDX-License-Identifier: MIT */
/* Files: what is refused, interrupted and short calls, and replacement that is all or nothing. The
 * calls into the C library that the tests disturb are defined here, in front of the real ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hooks.h"

/* ------------------------------------------------------------ disturbed calls */

static struct {
    bool on;
    size_t max_bytes; /* of one read or write; 0: no limit */
    int interrupts;   /* this many calls say EINTR first, before each success */
    int left;         /* of them */
    int fail_write;   /* errno of every write after `writes_ok` */
    int writes_ok;
    int fail_fsync, fail_rename, fail_pread; /* errno; 0: works */
    int calls;
} disturb;

ssize_t pread(int fd, void *buf, size_t n, off_t offset);
ssize_t pread64(int fd, void *buf, size_t n, off64_t offset);

static bool interrupted(void)
{
    if (!disturb.on) return false;
    disturb.calls++;
    if (disturb.left-- > 0) {
        errno = EINTR;
        return true;
    }
    disturb.left = disturb.interrupts;
    return false;
}

static bool failing(int code)
{
    if (!disturb.on || !code) return false;
    errno = code;
    return true;
}

ssize_t pread64(int fd, void *buf, size_t n, off64_t offset)
{
    if (interrupted() || failing(disturb.fail_pread)) return -1;
    if (disturb.on && disturb.max_bytes && n > disturb.max_bytes) n = disturb.max_bytes;
    return syscall(SYS_pread64, fd, buf, n, offset);
}

ssize_t pread(int fd, void *buf, size_t n, off_t offset)
{
    return pread64(fd, buf, n, offset);
}

ssize_t write(int fd, const void *buf, size_t n)
{
    if (interrupted()) return -1;
    if (disturb.on && disturb.fail_write && disturb.writes_ok-- <= 0)
        return failing(disturb.fail_write) ? -1 : 0;
    if (disturb.on && disturb.max_bytes && n > disturb.max_bytes) n = disturb.max_bytes;
    return syscall(SYS_write, fd, buf, n);
}

int fsync(int fd)
{
    if (interrupted() || failing(disturb.fail_fsync)) return -1;
    return (int)syscall(SYS_fsync, fd);
}

int rename(const char *from, const char *to)
{
    if (failing(disturb.fail_rename)) return -1;
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

/* ------------------------------------------------------------------ the place */

static char dir[64], path[128];
static trueno_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    memset(&disturb, 0, sizeof disturb);
    snprintf(dir, sizeof dir, "/tmp/trueno-file-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/data", dir);
    return trueno_ctx_new(&ctx, NULL, NULL) == TRUENO_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    memset(&disturb, 0, sizeof disturb);
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    char command[192];
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", dir, dir);
    return system(command) || now != 0;
}

static void put(const char *name, const void *data, size_t size_bytes)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size_bytes, f), size_bytes);
    fclose(f);
}

static void expect_content(const char *name, const char *text)
{
    char got[256] = "";
    FILE *f = fopen(name, "rb");
    assert_non_null(f);
    const size_t n = fread(got, 1, sizeof got - 1, f);
    fclose(f);
    assert_int_equal(n, strlen(text));
    assert_string_equal(got, text);
}

/* Files in the directory; temporary ones would be among them. */
static int count_files(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

/* -------------------------------------------------------------------- reading */

static void test_read_and_map(void **state)
{
    (void)state;
    struct tr_file f;
    char buf[6] = "";
    put(path, "hello\0world", 11);
    for (int map = 0; map < 2; map++) {
        assert_int_equal(tr_file_open(&f, path, map, NULL), TRUENO_OK);
        assert_int_equal(f.size, 11);
        assert_true((f.data != NULL) == map);
        if (map) assert_memory_equal(f.data, "hello\0world", 11);
        assert_int_equal(tr_file_read(&f, buf, 6, 5, NULL), TRUENO_OK);
        assert_string_equal(buf, "world");
        assert_int_equal(tr_file_read(&f, buf, 11, 0, NULL), TRUENO_OK);
        assert_int_equal(fcntl(f.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
        const int fd = f.fd;
        tr_file_close(&f);
        assert_int_equal(f.fd, -1);
        assert_int_equal(fcntl(fd, F_GETFD), -1);
        tr_file_close(&f);
    }
}

static void test_read_outside(void **state)
{
    (void)state;
    struct tr_file f;
    char buf[16];
    trueno_error err;
    put(path, "0123456789", 10);
    assert_int_equal(tr_file_open(&f, path, false, NULL), TRUENO_OK);
    static const struct {
        uint64_t offset;
        size_t size_bytes;
    } bad[] = {{0, 11}, {10, 1}, {11, 0}, {UINT64_MAX, 1}, {UINT64_MAX - 3, 8}, {5, SIZE_MAX}};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(tr_file_read(&f, buf, bad[i].offset, bad[i].size_bytes, &err),
                         TRUENO_ERR_TRUNCATED);
    assert_int_equal(truncate(path, 4), 0); /* behind our back */
    assert_int_equal(tr_file_read(&f, buf, 0, 10, &err), TRUENO_ERR_TRUNCATED);
    assert_non_null(strstr(err.message, "offset 4"));
    tr_file_close(&f);
}

static void test_interrupted_and_short_reads(void **state)
{
    (void)state;
    struct tr_file f;
    unsigned char data[1000], got[1000];
    for (int i = 0; i < 1000; i++) data[i] = (unsigned char)(i * 7);
    put(path, data, sizeof data);
    assert_int_equal(tr_file_open(&f, path, false, NULL), TRUENO_OK);
    disturb.on = true;
    disturb.max_bytes = 7;
    disturb.interrupts = disturb.left = 2;
    assert_int_equal(tr_file_read(&f, got, 100, 900, NULL), TRUENO_OK);
    disturb.on = false;
    assert_memory_equal(got, data + 100, 900);
    assert_true(disturb.calls > 900 / 7 * 3); /* the real calls went through here */
    disturb.on = true;
    disturb.fail_pread = EIO;
    trueno_error err;
    assert_int_equal(tr_file_read(&f, got, 100, 900, &err), TRUENO_ERR_IO);
    assert_non_null(strstr(err.message, "offset 100"));
    tr_file_close(&f);
}

static void test_empty_file(void **state)
{
    (void)state;
    struct tr_file f;
    put(path, "", 0);
    assert_int_equal(tr_file_open(&f, path, true, NULL), TRUENO_OK);
    assert_int_equal(f.size, 0);
    assert_null(f.data);
    assert_int_equal(tr_file_read(&f, NULL, 0, 0, NULL), TRUENO_OK);
    tr_file_close(&f);
}

static void expect_not_opened(const char *name, const char *word)
{
    trueno_error err;
    struct tr_file f;
    assert_int_equal(tr_file_open(&f, name, true, &err), TRUENO_ERR_IO);
    assert_int_equal(f.fd, -1);
    assert_null(f.data);
    assert_non_null(strstr(err.message, name));
    if (!strstr(err.message, word)) fail_msg("'%s' does not say '%s'", err.message, word);
}

static void test_what_is_not_opened(void **state)
{
    (void)state;
    struct tr_file f;
    alarm(20); /* opening a FIFO waits for ever if it is done wrong */
    expect_not_opened(path, "No such file");
    expect_not_opened(dir, "directory");
    assert_int_equal(mkfifo(path, 0600), 0);
    expect_not_opened(path, "FIFO");
    expect_not_opened("/dev/zero", "not a regular file");
    expect_not_opened("/dev/null", "not a regular file");
    alarm(0);
    assert_int_equal(tr_file_open(&f, NULL, true, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(f.fd, -1);
}

static int open_without_permission(void)
{
    struct tr_file f;
    trueno_error err;
    if (geteuid() == 0 && setresuid(54321, 54321, 54321)) return 2;
    if (tr_file_open(&f, path, true, &err) != TRUENO_ERR_IO) return 3;
    return strstr(err.message, "Permission denied") ? 0 : 4;
}

static int write_without_permission(void)
{
    struct tr_outfile f;
    if (geteuid() == 0 && setresuid(54321, 54321, 54321)) return 2;
    return tr_outfile_open(&f, ctx, path, NULL) == TRUENO_ERR_IO ? 0 : 3;
}

static int in_child(int (*test)(void))
{
    fflush(NULL);
    const pid_t pid = fork();
    if (pid == 0) _exit(test());
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100 + WTERMSIG(status);
}

static void test_no_permission(void **state)
{
    (void)state;
    put(path, "x", 1);
    chmod(path, 0000);
    chmod(dir, 0555);
    const int rc = in_child(open_without_permission);
    if (rc == 2) skip(); /* cannot stop being root */
    assert_int_equal(rc, 0);
    assert_int_equal(in_child(write_without_permission), 0);
    assert_int_equal(count_files(), 1);
}

/* -------------------------------------------------------------------- writing */

static trueno_status write_all(const char *name, const char *text, trueno_error *err)
{
    struct tr_outfile f;
    trueno_status status = tr_outfile_open(&f, ctx, name, err);
    if (!status) status = tr_outfile_write(&f, text, strlen(text), err);
    if (!status) status = tr_outfile_commit(&f, err);
    tr_outfile_abort(&f);
    return status;
}

static void test_replace(void **state)
{
    (void)state;
    struct stat st;
    assert_int_equal(write_all(path, "first", NULL), TRUENO_OK);
    expect_content(path, "first");
    chmod(path, 0640);
    assert_int_equal(write_all(path, "second, longer", NULL), TRUENO_OK);
    expect_content(path, "second, longer");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640);
    assert_int_equal(count_files(), 1);
}

static void test_relative_path_and_long_name(void **state)
{
    (void)state;
    char before[4096], name[256];
    assert_non_null(getcwd(before, sizeof before));
    assert_int_equal(chdir(dir), 0);
    memset(name, 'n', 255); /* NAME_MAX */
    name[255] = '\0';
    const trueno_status a = write_all("plain", "1", NULL), b = write_all(name, "2", NULL);
    const int files = count_files();
    assert_int_equal(chdir(before), 0);
    assert_int_equal(a, TRUENO_OK);
    assert_int_equal(b, TRUENO_OK);
    assert_int_equal(files, 2);
}

static void test_old_file_until_commit(void **state)
{
    (void)state;
    struct tr_outfile f, g;
    put(path, "old", 3);
    assert_int_equal(tr_outfile_open(&f, ctx, path, NULL), TRUENO_OK);
    assert_int_equal(tr_outfile_open(&g, ctx, path, NULL), TRUENO_OK); /* two writers at once */
    assert_int_equal(fcntl(f.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    assert_int_equal(tr_outfile_write(&f, "from f", 6, NULL), TRUENO_OK);
    assert_int_equal(tr_outfile_write(&g, "from g", 6, NULL), TRUENO_OK);
    assert_int_equal(count_files(), 3);
    expect_content(path, "old");
    assert_int_equal(tr_outfile_commit(&g, NULL), TRUENO_OK);
    expect_content(path, "from g");
    tr_outfile_abort(&f);
    expect_content(path, "from g");
    assert_int_equal(count_files(), 1);
    tr_outfile_abort(&f);
    struct tr_outfile zero = {NULL, -1, NULL, NULL};
    tr_outfile_abort(&zero);
    assert_int_equal(tr_outfile_write(&zero, "x", 1, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(tr_outfile_commit(&zero, NULL), TRUENO_ERR_ARGUMENT);
}

static void test_interrupted_and_short_writes(void **state)
{
    (void)state;
    disturb.on = true;
    disturb.max_bytes = 3;
    disturb.interrupts = disturb.left = 2;
    const trueno_status status = write_all(path, "a sentence in many pieces", NULL);
    disturb.on = false;
    assert_int_equal(status, TRUENO_OK);
    assert_true(disturb.calls > 24);
    expect_content(path, "a sentence in many pieces");
}

static void expect_failed_write(const char *word)
{
    trueno_error err;
    disturb.on = true;
    const trueno_status status = write_all(path, "new", &err);
    memset(&disturb, 0, sizeof disturb);
    assert_int_equal(status, TRUENO_ERR_IO);
    assert_non_null(strstr(err.message, path));
    if (!strstr(err.message, word)) fail_msg("'%s' does not say '%s'", err.message, word);
    expect_content(path, "old");
    assert_int_equal(count_files(), 1);
}

static void test_failures_leave_the_old_file(void **state)
{
    (void)state;
    put(path, "old", 3);
    disturb.fail_write = ENOSPC;
    expect_failed_write("No space");
    disturb.max_bytes = 1;
    disturb.fail_write = EIO;
    disturb.writes_ok = 2;
    expect_failed_write("Input/output error");
    disturb.fail_fsync = EIO;
    expect_failed_write("cannot sync");
    disturb.fail_rename = EACCES;
    expect_failed_write("cannot replace");
}

/* The write calls of a disk that is full, by the limit on the size of files. */
static int fill_the_disk(void)
{
    static char chunk[4096];
    const struct rlimit limit = {10000, 10000};
    struct tr_outfile f;
    trueno_error err;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit)) return 2;
    if (tr_outfile_open(&f, ctx, path, &err)) return 3;
    int written = 0;
    while (written < 10 && !tr_outfile_write(&f, chunk, sizeof chunk, &err)) written++;
    if (written != 2 || err.status != TRUENO_ERR_IO) return 4;
    if (!strstr(err.message, "File too large")) return 5;
    tr_outfile_abort(&f);
    return 0;
}

static void test_full_disk(void **state)
{
    (void)state;
    put(path, "old", 3);
    const int rc = in_child(fill_the_disk);
    if (rc == 2) skip();
    assert_int_equal(rc, 0);
    expect_content(path, "old");
    assert_int_equal(count_files(), 1);
}

/* Killed in the middle of a save: the old file is whole. */
static int die_while_writing(void)
{
    struct tr_outfile f;
    if (tr_outfile_open(&f, ctx, path, NULL)) return 3;
    if (tr_outfile_write(&f, "new", 3, NULL)) return 4;
    kill(getpid(), SIGKILL);
    return 5;
}

static void test_killed_while_writing(void **state)
{
    (void)state;
    put(path, "old", 3);
    assert_int_equal(in_child(die_while_writing), 100 + SIGKILL);
    expect_content(path, "old");
}

static void test_what_is_not_replaced(void **state)
{
    (void)state;
    trueno_error err;
    char name[300];
    assert_int_equal(write_all("/dev/null", "x", &err), TRUENO_ERR_IO);
    assert_int_equal(write_all(dir, "x", &err), TRUENO_ERR_IO);
    assert_non_null(strstr(err.message, "directory"));
    snprintf(name, sizeof name, "%s/missing/data", dir);
    assert_int_equal(write_all(name, "x", &err), TRUENO_ERR_IO);
    assert_non_null(strstr(err.message, name));
    assert_int_equal(write_all("", "x", &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(write_all(NULL, "x", &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_int_equal(write_all(path, "x", &err), TRUENO_ERR_IO);
    assert_int_equal(count_files(), 1);
}

static void test_no_memory(void **state)
{
    (void)state;
    for (size_t n = 2; n <= 4; n++) {
        struct hooks h = {.fail_at = n};
        const trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *poor;
        struct tr_outfile f;
        assert_int_equal(trueno_ctx_new(&poor, &opt, NULL), TRUENO_OK);
        assert_int_equal(tr_outfile_open(&f, poor, path, NULL),
                         n < 4 ? TRUENO_ERR_NO_MEMORY : TRUENO_OK);
        tr_outfile_abort(&f);
        trueno_ctx_free(poor);
        assert_int_equal(h.blocks, 0);
        assert_int_equal(count_files(), 0);
    }
}

int main(void)
{
#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_read_and_map),
        FILE_TEST(test_read_outside),
        FILE_TEST(test_interrupted_and_short_reads),
        FILE_TEST(test_empty_file),
        FILE_TEST(test_what_is_not_opened),
        FILE_TEST(test_no_permission),
        FILE_TEST(test_replace),
        FILE_TEST(test_relative_path_and_long_name),
        FILE_TEST(test_old_file_until_commit),
        FILE_TEST(test_interrupted_and_short_writes),
        FILE_TEST(test_failures_leave_the_old_file),
        FILE_TEST(test_full_disk),
        FILE_TEST(test_killed_while_writing),
        FILE_TEST(test_what_is_not_replaced),
        FILE_TEST(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
