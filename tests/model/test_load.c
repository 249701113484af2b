/* SPDX-License-Identifier: MIT */
/* What loading costs: memory of about the file's size at its peak, on huge pages where there are
 * any, and one warning where there are none. */
#include "model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <cmocka.h>

#include "model/weights.h"

/* With a sanitizer arrays are on its heap, and so are the pages of what it keeps. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

struct warnings {
    int n;
    char last[200];
};

static void count_warning(void *user, trueno_log_level level, const char *message)
{
    struct warnings *w = user;
    if (level < TRUENO_LOG_WARN) return;
    w->n++;
    (void)snprintf(w->last, sizeof w->last, "%s", message);
}

static trueno_ctx *new_ctx(struct warnings *w)
{
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx;
    co.log = count_warning;
    co.log_user = w;
    assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
    return ctx;
}

/* Some 21 MB of weights. */
static struct toy large_toy(void)
{
    struct toy t = toy_default("llama");
    t.n_layer = 14;
    return t;
}

/* A number of KiB behind `key` in a file of /proc; in smaps, of the mapping at `address`. -1: not
 * found. */
static long proc_kib(const char *path, const char *key, const void *address)
{
    FILE *f = fopen(path, "r");
    char line[512];
    bool inside = address == NULL;
    long kib = -1;
    while (f != NULL && kib < 0 && fgets(line, sizeof line, f) != NULL) {
        unsigned long from, to;
        if (address != NULL && sscanf(line, "%lx-%lx ", &from, &to) == 2)
            inside = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (inside && strncmp(line, key, strlen(key)) == 0)
            kib = strtol(line + strlen(key), NULL, 10);
    }
    if (f != NULL) (void)fclose(f);
    return kib;
}

static long huge_kib(const trueno_model *m)
{
    return proc_kib("/proc/self/smaps", "AnonHugePages:", m->arena);
}

static void weights_on_huge_pages(void **state)
{
    struct warnings w = {0, ""};
    struct toy t = large_toy();
    trueno_ctx *ctx = new_ctx(&w);
    trueno_model *m = toy_load(ctx, &t);
    (void)state;
    if (SANITIZED || w.n > 0 || huge_kib(m) <= 0)
        print_message("skipped: no huge pages here (%s)\n", w.last);
    else
        assert_true(huge_kib(m) * 1024L > (long)m->arena_bytes / 2);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
}

static void one_warning_without_huge_pages(void **state)
{
    struct warnings w = {0, ""};
    struct toy t = large_toy(), small = toy_default("llama");
    trueno_ctx *ctx = new_ctx(&w);
    (void)state;
    if (SANITIZED || prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) != 0) {
        print_message("skipped: huge pages cannot be turned off here\n");
        trueno_ctx_free(ctx);
        return;
    }
    trueno_model *m = toy_load(ctx, &t);
    assert_true(huge_kib(m) <= 0);
    assert_int_equal(w.n, 1);
    assert_non_null(strstr(w.last, "huge pages"));
    trueno_model_free(m);
    small.n_layer = 1; /* not worth a huge page, hence no warning */
    small.type = TRUENO_TYPE_Q4_0;
    trueno_model_free(toy_load(ctx, &small));
    assert_int_equal(w.n, 1);
    assert_int_equal(prctl(PR_SET_THP_DISABLE, 0, 0, 0, 0), 0);
    trueno_ctx_free(ctx);
}

/* Peak of resident memory, pages of mapped files included, while a file is opened and loaded. */
static void peak_is_the_files_size(void **state)
{
    struct warnings w = {0, ""};
    struct toy t = large_toy();
    trueno_ctx *ctx = new_ctx(&w);
    trueno_gguf_writer *writer = toy_build(ctx, &t);
    size_t size;
    const void *data = trueno_gguf_writer_buffer(writer, &size);
    char path[] = "/tmp/trueno-load-XXXXXX";
    trueno_gguf *g;
    trueno_model *m;
    (void)state;
    FILE *f = fdopen(mkstemp(path), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, size, f), size);
    assert_int_equal(fclose(f), 0);
    trueno_gguf_writer_free(writer);

    FILE *reset = fopen("/proc/self/clear_refs", "w"); /* 5: the peak is what there is now */
    bool known = reset != NULL && fputs("5", reset) >= 0;
    if (reset != NULL) known = fclose(reset) == 0 && known;
    long before = proc_kib("/proc/self/status", "VmRSS:", NULL);
    assert_int_equal(trueno_gguf_open(ctx, &g, path, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_model_load(&m, g, NULL, NULL), TRUENO_OK);
    long peak = proc_kib("/proc/self/status", "VmHWM:", NULL) - before;
    print_message("file %zu KiB, peak %ld KiB above what there was\n", size / 1024, peak);
    if (SANITIZED || !known)
        print_message("skipped: the peak cannot be measured here\n");
    else /* buffers, stacks and half a huge page at the end are not worth a percentage here */
        assert_true((double)peak <= 1.15 * (double)size / 1024 + 2048);
    trueno_model_free(m);
    trueno_gguf_free(g);
    assert_int_equal(unlink(path), 0);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(weights_on_huge_pages),
        cmocka_unit_test(one_warning_without_huge_pages),
        cmocka_unit_test(peak_is_the_files_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
