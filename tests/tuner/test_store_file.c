/* SPDX-License-Identifier: MIT */
/* The store's file: where it is, several writers, writers that die, places that cannot be written,
 * files that cannot be read. */
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
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/hooks.h"
#include "store_samples.h"

enum { WAIT_MS = 60000 }; /* longer than any test waits */

static trueno_ctx *ctx;
static char dir[64], path[128], lock[140], bad[140];

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "/tmp/trueno-store-XXXXXX");
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/tuner.trw", dir);
    snprintf(lock, sizeof lock, "%s.lock", path);
    snprintf(bad, sizeof bad, "%s.bad", path);
    return trueno_ctx_new(&ctx, NULL, NULL) == TRUENO_OK ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    char command[192];
    snprintf(command, sizeof command, "chmod -R u+rwx %s; rm -rf %s", dir, dir);
    return system(command) || now != 0;
}

/* A store of n entries of one machine, from entry `first` on. */
static struct tr_store *store_of(uint32_t first, uint32_t n)
{
    struct tr_store *s;
    uint32_t index;
    const struct tr_store_machine m = sample_machine("here");
    if (tr_store_new(&s, ctx, NULL) != TRUENO_OK) abort();
    if (tr_store_put_machine(s, &index, &m, NULL) != TRUENO_OK) abort();
    for (uint32_t i = first; i < first + n; i++) {
        const struct tr_wisdom w = sample_wisdom(index, i);
        if (tr_store_put(s, &w, NULL) != TRUENO_OK) abort();
    }
    return s;
}

static uint64_t digest_of(const struct tr_store *s)
{
    uint64_t digest;
    assert_int_equal(tr_store_digest(s, &digest, NULL), TRUENO_OK);
    return digest;
}

static struct tr_store *load(void)
{
    struct tr_store *s;
    trueno_error err = {TRUENO_OK, ""};
    if (tr_store_load_file(ctx, &s, path, NULL, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return s;
}

static void save(const struct tr_store *s)
{
    trueno_error err = {TRUENO_OK, ""};
    if (tr_store_save_file(s, path, WAIT_MS, NULL, &err) != TRUENO_OK) fail_msg("%s", err.message);
}

/* The file has entries 0 .. n - 1 and no others. */
static void expect_entries(uint32_t n)
{
    struct tr_store *s = load();
    assert_int_equal(tr_store_n_entries(s), n);
    for (uint32_t i = 0; i < n; i++)
        assert_non_null(tr_store_find(s, 0, sample_wisdom(0, i).context));
    tr_store_free(s);
}

static void put_file(const char *name, const void *bytes, size_t n)
{
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Up to cap bytes of a file; how many. */
static size_t get_file(const char *name, void *bytes, size_t cap)
{
    FILE *f = fopen(name, "rb");
    if (!f) return SIZE_MAX;
    const size_t n = fread(bytes, 1, cap, f);
    fclose(f);
    return n;
}

static size_t count_files(void)
{
    size_t n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    if (d) closedir(d);
    return n;
}

static mode_t mode_of(const char *name)
{
    struct stat st;
    return stat(name, &st) ? 0 : st.st_mode & 0777;
}

/* ------------------------------------------------------------------------ path */

static void expect_path(const char *cache, const char *home, const char *expected)
{
    char buf[200] = "as before";
    size_t n = 77;
    cache ? setenv("XDG_CACHE_HOME", cache, 1) : unsetenv("XDG_CACHE_HOME");
    home ? setenv("HOME", home, 1) : unsetenv("HOME");
    const trueno_status status = tr_store_path(buf, sizeof buf, &n, NULL);
    assert_int_equal(status, expected ? TRUENO_OK : TRUENO_ERR_NOT_FOUND);
    assert_int_equal(n, expected ? strlen(expected) : 0);
    assert_string_equal(buf, expected ? expected : "as before");
}

static void test_path(void **state)
{
    (void)state;
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char *keep[2] = {cache ? strdup(cache) : NULL, home ? strdup(home) : NULL};
    expect_path("/c", "/h", "/c/trueno/tuner.trw");
    expect_path("/c", NULL, "/c/trueno/tuner.trw");
    expect_path(NULL, "/h", "/h/.cache/trueno/tuner.trw");
    expect_path("", "/h", "/h/.cache/trueno/tuner.trw");
    expect_path("c", "/h", "/h/.cache/trueno/tuner.trw");
    expect_path("c", "h", NULL);
    expect_path(NULL, "", NULL);
    expect_path(NULL, NULL, NULL);
    setenv("HOME", "/h", 1);
    char buf[27] = "x";
    size_t n;
    assert_int_equal(tr_store_path(buf, 26, &n, NULL), TRUENO_OK); /* one byte too few */
    assert_int_equal(n, 26);
    assert_string_equal(buf, "x");
    assert_int_equal(tr_store_path(buf, 27, &n, NULL), TRUENO_OK);
    assert_int_equal(strlen(buf), 26);
    keep[0] ? setenv("XDG_CACHE_HOME", keep[0], 1) : unsetenv("XDG_CACHE_HOME");
    keep[1] ? setenv("HOME", keep[1], 1) : unsetenv("HOME");
    free(keep[0]);
    free(keep[1]);
}

/* ------------------------------------------------------------------ load and save */

static void test_save_and_load(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 5), *t = store_of(5, 3);
    expect_entries(0); /* no file */
    struct tr_store_report report = {0};
    assert_int_equal(tr_store_save_file(s, path, WAIT_MS, &report, NULL), TRUENO_OK);
    assert_int_equal(report.n_new, 5);
    assert_false(report.unlocked || report.set_aside);
    expect_entries(5);
    assert_int_equal(mode_of(path), 0600);
    assert_int_equal(mode_of(lock), 0600);
    assert_int_equal(count_files(), 2);
    /* the file's entries stay, and the store that is saved does not get them */
    chmod(path, 0644);
    const uint64_t before = digest_of(t);
    save(t);
    assert_true(digest_of(t) == before);
    expect_entries(8);
    assert_int_equal(mode_of(path), 0600);
    /* what was forgotten here is not brought back by the file */
    assert_int_equal(tr_store_forget(s, 0, sample_wisdom(0, 2).context, NULL), TRUENO_OK);
    save(s);
    save(t);
    struct tr_store *all = load();
    assert_null(tr_store_find(all, 0, sample_wisdom(0, 2).context));
    assert_non_null(tr_store_find(all, 0, sample_wisdom(0, 3).context));
    tr_store_free(all);
    assert_int_equal(count_files(), 2);
    tr_store_free(s);
    tr_store_free(t);
}

/* JSON at the path is read too. */
static void test_json_file(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 4), *t = store_of(4, 1);
    char text[8000];
    size_t n;
    assert_int_equal(tr_store_to_json(s, text, sizeof text, &n, NULL), TRUENO_OK);
    assert_true(n < sizeof text);
    put_file(path, text, n);
    expect_entries(4);
    save(t);
    expect_entries(5);
    tr_store_free(s);
    tr_store_free(t);
}

static void test_directories(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 1), *t;
    char name[160], above[100];
    snprintf(above, sizeof above, "%s/one", dir);
    snprintf(name, sizeof name, "%s/two/tuner.trw", above);
    assert_int_equal(tr_store_save_file(s, name, WAIT_MS, NULL, NULL), TRUENO_OK);
    assert_int_equal(tr_store_load_file(ctx, &t, name, NULL, NULL), TRUENO_OK);
    assert_int_equal(tr_store_n_entries(t), 1);
    assert_int_equal(mode_of(above), 0700);
    tr_store_free(t);
    /* not three of them: a home that is not there is not made */
    snprintf(name, sizeof name, "%s/no/home/trueno/tuner.trw", dir);
    assert_int_equal(tr_store_save_file(s, name, WAIT_MS, NULL, NULL), TRUENO_ERR_IO);
    snprintf(above, sizeof above, "%s/no", dir);
    assert_int_equal(access(above, F_OK), -1);
    /* no directory in the path: the current one */
    char *here = getcwd(NULL, 0);
    assert_int_equal(chdir(dir), 0);
    assert_int_equal(tr_store_save_file(s, "plain.trw", WAIT_MS, NULL, NULL), TRUENO_OK);
    assert_int_equal(access("plain.trw", R_OK), 0);
    assert_int_equal(chdir(here), 0);
    free(here);

    static const char *const none[] = {NULL, ""};
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(tr_store_save_file(s, none[i], 0, NULL, NULL), TRUENO_ERR_ARGUMENT);
        assert_int_equal(tr_store_load_file(ctx, &t, none[i], NULL, NULL), TRUENO_ERR_ARGUMENT);
        assert_null(t);
    }
    tr_store_free(s);
}

/* --------------------------------------------------------------- several writers */

static int exit_code(pid_t pid)
{
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) continue;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_writers_lose_nothing(void **state)
{
    (void)state;
    enum { WRITERS = 4, EACH = 5 };
    pid_t pids[WRITERS];
    for (uint32_t k = 0; k < WRITERS; k++) {
        pids[k] = fork();
        assert_true(pids[k] >= 0);
        if (pids[k] > 0) continue;
        int failed = 0;
        for (uint32_t i = 0; i < EACH; i++) {
            struct tr_store *s = store_of(k * EACH + i, 1);
            struct tr_store_report report = {0};
            failed |= tr_store_save_file(s, path, WAIT_MS, &report, NULL) != TRUENO_OK;
            failed |= report.unlocked;
            tr_store_free(s);
        }
        _exit(failed);
    }
    for (uint32_t k = 0; k < WRITERS; k++) assert_int_equal(exit_code(pids[k]), 0);
    expect_entries(WRITERS * EACH);
}

/* Somebody who holds the lock for good does not stop a save, only its protection. */
static void test_lock_is_held(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 2);
    const int fd = open(lock, O_RDWR | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    struct tr_store_report report = {0};
    assert_int_equal(tr_store_save_file(s, path, 20, &report, NULL), TRUENO_OK);
    assert_true(report.unlocked);
    expect_entries(2);

    /* and who gives it back is waited for */
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        usleep(30000);
        flock(fd, LOCK_UN);
        _exit(0);
    }
    assert_int_equal(tr_store_save_file(s, path, WAIT_MS, &report, NULL), TRUENO_OK);
    assert_false(report.unlocked);
    assert_int_equal(exit_code(pid), 0);
    close(fd);

    /* a lock that is no file */
    unlink(lock);
    assert_int_equal(mkdir(lock, 0700), 0);
    assert_int_equal(tr_store_save_file(s, path, 0, &report, NULL), TRUENO_OK);
    assert_true(report.unlocked);
    rmdir(lock);
    assert_int_equal(mkfifo(lock, 0600), 0);
    assert_int_equal(tr_store_save_file(s, path, 0, &report, NULL), TRUENO_OK);
    tr_store_free(s);
}

/* Whenever a writer is killed, the file is whole. */
static void test_killed_writers(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 50);
    save(s);
    for (long round = 0; round < 40; round++) {
        const pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            for (uint32_t i = 0;; i++) {
                struct tr_store *t = store_of(50 + i % 50, 1);
                if (tr_store_save_file(t, path, WAIT_MS, NULL, NULL) != TRUENO_OK) _exit(1);
                tr_store_free(t);
            }
        nanosleep(&(struct timespec){0, 1000000 + round * 137000}, NULL);
        kill(pid, SIGKILL);
        assert_int_equal(exit_code(pid), -1);
        struct tr_store *t = load();
        for (uint32_t i = 0; i < 50; i++)
            assert_non_null(tr_store_find(t, 0, sample_wisdom(0, i).context));
        tr_store_free(t);
    }
    save(s); /* the lock of the dead is free */
    tr_store_free(s);
}

/* ------------------------------------------------------- what cannot be written */

/* Saves in a child without the rights of the superuser, and with a limit of file size. */
static trueno_status save_in_child(const struct tr_store *s, const char *name, rlim_t limit)
{
    const pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit r = {limit, limit};
        signal(SIGXFSZ, SIG_IGN);
        if (limit && setrlimit(RLIMIT_FSIZE, &r)) _exit(100);
        if (!limit && geteuid() == 0 && (setgid(65534) || setuid(65534))) _exit(100);
        _exit((int)tr_store_save_file(s, name, 50, NULL, NULL));
    }
    return (trueno_status)exit_code(pid);
}

static void test_read_only(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 3), *t = store_of(3, 1);
    char deep[160];
    save(s);
    if (geteuid() == 0) {
        assert_int_equal(chown(dir, 65534, 65534), 0);
        assert_int_equal(chown(path, 65534, 65534), 0);
        assert_int_equal(chown(lock, 65534, 65534), 0);
    }
    snprintf(deep, sizeof deep, "%s/new/tuner.trw", dir);
    chmod(dir, 0500);
    assert_int_equal(save_in_child(t, path, 0), TRUENO_ERR_READ_ONLY);
    assert_int_equal(save_in_child(t, deep, 0), TRUENO_ERR_READ_ONLY);
    chmod(dir, 0700);
    expect_entries(3);
    chmod(path, 0400);
    assert_int_equal(save_in_child(t, path, 0), TRUENO_ERR_READ_ONLY);
    chmod(path, 0600);
    expect_entries(3);
    assert_int_equal(count_files(), 2);
    assert_int_equal(save_in_child(t, path, 0), TRUENO_OK); /* it was not the child */
    expect_entries(4);
    tr_store_free(s);
    tr_store_free(t);
}

static void test_full_disk(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 3), *t = store_of(3, 20);
    const uint64_t before = digest_of(t);
    save(s);
    assert_int_equal(save_in_child(t, path, 600), TRUENO_ERR_IO);
    expect_entries(3);
    assert_int_equal(count_files(), 2);
    assert_true(digest_of(t) == before);
    assert_int_equal(save_in_child(t, path, 1 << 20), TRUENO_OK);
    expect_entries(23);
    tr_store_free(s);
    tr_store_free(t);
}

/* --------------------------------------------------------- what cannot be read */

static void expect_set_aside(const void *bytes, size_t n, trueno_status on_load)
{
    struct tr_store *s = store_of(0, 2), *t;
    char kept[4096];
    struct tr_store_report report = {0};
    unlink(bad);
    put_file(path, bytes, n);
    assert_int_equal(tr_store_load_file(ctx, &t, path, NULL, NULL), on_load);
    assert_null(t);
    assert_int_equal(tr_store_save_file(s, path, WAIT_MS, &report, NULL), TRUENO_OK);
    assert_true(report.set_aside);
    expect_entries(2);
    assert_int_equal(get_file(bad, kept, sizeof kept), n < sizeof kept ? n : sizeof kept);
    assert_memory_equal(kept, bytes, n < sizeof kept ? n : sizeof kept);
    tr_store_free(s);
}

static void test_set_aside(void **state)
{
    (void)state;
    struct tr_store *s = store_of(2, 2);
    uint8_t bytes[4096];
    size_t n;
    assert_int_equal(tr_store_encode(s, bytes, sizeof bytes, &n, NULL), TRUENO_OK);
    assert_true(n < sizeof bytes);
    expect_set_aside("", 0, TRUENO_ERR_TRUNCATED);
    expect_set_aside(bytes, n - 1, TRUENO_ERR_TRUNCATED);
    expect_set_aside("{\"a\":", 5, TRUENO_ERR_FORMAT);
    expect_set_aside("a letter that has nothing to do with it", 39, TRUENO_ERR_FORMAT);
    bytes[n - 1] ^= 1;
    expect_set_aside(bytes, n, TRUENO_ERR_CORRUPT);
    char *large = calloc(1, TR_STORE_MAX_JSON + 1);
    memcpy(large, bytes, n);
    expect_set_aside(large, TR_STORE_MAX_BYTES + 1, TRUENO_ERR_TOO_LARGE);
    expect_set_aside(large, TR_STORE_MAX_JSON + 1, TRUENO_ERR_TOO_LARGE);
    free(large);
    tr_store_free(s);
}

static void test_newer_version_stays(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 2), *t;
    char bytes[64] = "TRUENOTW\2\0\0\0", kept[65];
    static const char json[] = "{\"format\":\"trueno-tuner-store\",\"version\":[2,0]}";
    char *large = calloc(1, TR_STORE_MAX_JSON + 1);
    memcpy(large, bytes, sizeof bytes);
    const struct {
        const char *bytes;
        size_t n;
    } files[] = {{bytes, sizeof bytes}, {json, sizeof json - 1}, {large, TR_STORE_MAX_JSON + 1}};
    for (size_t i = 0; i < 3; i++) {
        put_file(path, files[i].bytes, files[i].n);
        assert_int_equal(tr_store_load_file(ctx, &t, path, NULL, NULL), TRUENO_ERR_VERSION);
        assert_null(t);
        assert_int_equal(tr_store_save_file(s, path, WAIT_MS, NULL, NULL), TRUENO_ERR_VERSION);
        const size_t n = get_file(path, kept, sizeof kept);
        assert_int_equal(n, files[i].n < sizeof kept ? files[i].n : sizeof kept);
        assert_memory_equal(kept, files[i].bytes, n);
        assert_int_equal(access(bad, F_OK), -1);
    }
    free(large);
    tr_store_free(s);
}

static void test_no_files(void **state)
{
    (void)state;
    struct tr_store *s = store_of(0, 1), *t;
    assert_int_equal(mkdir(path, 0700), 0);
    assert_int_equal(tr_store_load_file(ctx, &t, path, NULL, NULL), TRUENO_ERR_IO);
    assert_int_equal(tr_store_save_file(s, path, 0, NULL, NULL), TRUENO_ERR_IO);
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes: must not wait */
    assert_int_equal(tr_store_load_file(ctx, &t, path, NULL, NULL), TRUENO_ERR_IO);
    assert_int_equal(tr_store_save_file(s, path, 0, NULL, NULL), TRUENO_ERR_IO);
    assert_null(t);
    tr_store_free(s);
}

static void test_no_memory(void **state)
{
    (void)state;
    int saved = 0;
    struct tr_store *first = store_of(0, 3);
    uint8_t bytes[4096];
    size_t n;
    save(first);
    tr_store_free(first);
    n = get_file(path, bytes, sizeof bytes);
    for (size_t call = 1; call < 60; call++) {
        struct hooks h = {0};
        trueno_ctx_options opt = hook_options(&h);
        trueno_ctx *outer = ctx;
        assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
        struct tr_store *s = store_of(3, 1);
        put_file(path, bytes, n);
        h.fail_at = atomic_load(&h.calls) + call;
        const trueno_status status = tr_store_save_file(s, path, WAIT_MS, NULL, NULL);
        assert_true(status == TRUENO_OK || status == TRUENO_ERR_NO_MEMORY);
        saved += status == TRUENO_OK;
        tr_store_free(s);
        trueno_ctx_free(ctx);
        ctx = outer;
        assert_int_equal(atomic_load(&h.blocks), 0);
        expect_entries(status == TRUENO_OK ? 4 : 3);
        assert_int_equal(count_files(), 2);
    }
    assert_true(saved > 5 && saved < 55);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_path, setup, teardown),
        cmocka_unit_test_setup_teardown(test_save_and_load, setup, teardown),
        cmocka_unit_test_setup_teardown(test_json_file, setup, teardown),
        cmocka_unit_test_setup_teardown(test_directories, setup, teardown),
        cmocka_unit_test_setup_teardown(test_writers_lose_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lock_is_held, setup, teardown),
        cmocka_unit_test_setup_teardown(test_killed_writers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_read_only, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_newer_version_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_files, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_memory, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
