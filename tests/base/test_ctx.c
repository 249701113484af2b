/* SPDX-License-Identifier: MIT */
/* Contexts, statuses, error and log text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/hooks.h"
#include "base/mem.h"

static void test_version(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof text, "%d.%d.%d", TRUENO_VERSION_MAJOR, TRUENO_VERSION_MINOR,
             TRUENO_VERSION_PATCH);
    assert_string_equal(trueno_version(), text);
}

static void test_status_values_are_frozen(void **state)
{
    (void)state;
    static const char *const names[] = {
        "ok",          "argument",    "io",           "truncated",       "corrupt",
        "unsupported", "too large",   "no memory",    "cancelled",       "busy",
        "device",      "not found",   "numeric",      "invalid feature", "insufficient data",
        "training",    "prediction",  "not measured", "read only",       "format",
        "version",     "strict miss", "noisy",        "budget exceeded", "assertion"};
    for (int i = 0; i < 25; i++) assert_string_equal(trueno_status_str((trueno_status)i), names[i]);
    assert_int_equal(TRUENO_ERR_INSUFFICIENT_DATA, 14);
    assert_int_equal(TRUENO_ERR_ASSERTION, 24);
    static const int wrong[] = {25, -1, 1000, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(trueno_status_str((trueno_status)wrong[i]), "unknown status");
}

static void test_fail_escapes_what_is_not_printable(void **state)
{
    (void)state;
    trueno_error err;
    assert_int_equal(tr_fail(&err, TRUENO_ERR_CORRUPT, "key '%s' is %d", "a\x1b[2J\xc3\xa9\n~", 7),
                     TRUENO_ERR_CORRUPT);
    assert_int_equal(err.status, TRUENO_ERR_CORRUPT);
    assert_string_equal(err.message, "key 'a\\x1b[2J\\xc3\\xa9\\x0a~' is 7");
    assert_int_equal(tr_fail(NULL, TRUENO_ERR_IO, "nobody listens"), TRUENO_ERR_IO);
}

static void test_fail_cuts_long_messages(void **state)
{
    (void)state;
    trueno_error err;
    char text[2000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    tr_fail(&err, TRUENO_ERR_IO, "%s", text);
    assert_int_equal(strlen(err.message), TRUENO_ERROR_MAX - 1);
    /* Escapes are never cut in the middle: 127 of 4 bytes fit into 511. */
    memset(text, 0xff, sizeof text - 1);
    tr_fail(&err, TRUENO_ERR_IO, "%s", text);
    assert_int_equal(strlen(err.message), 127 * 4);
    assert_string_equal(err.message + 126 * 4, "\\xff");
}

static void test_checked_arithmetic(void **state)
{
    (void)state;
    uint64_t v = 0;
    assert_true(tr_mul(&v, UINT64_C(1) << 32, UINT64_C(1) << 31) && v == UINT64_C(1) << 63);
    assert_false(tr_mul(&v, UINT64_C(1) << 32, UINT64_C(1) << 32));
    assert_true(tr_add(&v, UINT64_MAX - 1, 1) && v == UINT64_MAX);
    assert_false(tr_add(&v, UINT64_MAX, 1));
    assert_true(tr_align_up(&v, 33, 32) && v == 64);
    assert_true(tr_align_up(&v, 0, 32) && v == 0);
    assert_true(tr_align_up(&v, UINT64_MAX - 31, 32) && v == UINT64_MAX - 31);
    assert_false(tr_align_up(&v, UINT64_MAX - 30, 32));
}

static void expect_refused(const trueno_ctx_options *opt, const char *word)
{
    trueno_error err = {0};
    trueno_ctx *ctx = (trueno_ctx *)&err;
    assert_int_equal(trueno_ctx_new(&ctx, opt, &err), TRUENO_ERR_ARGUMENT);
    assert_null(ctx);
    assert_int_equal(err.status, TRUENO_ERR_ARGUMENT);
    if (!strstr(err.message, word)) fail_msg("'%s' does not name '%s'", err.message, word);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    struct hooks h = {0};
    const trueno_ctx_options good = hook_options(&h);
    for (int mask = 1; mask < 7; mask++) {
        trueno_ctx_options opt = good;
        if (!(mask & 1)) opt.allocator.alloc = NULL;
        if (!(mask & 2)) opt.allocator.realloc = NULL;
        if (!(mask & 4)) opt.allocator.free = NULL;
        expect_refused(&opt, "hooks");
    }
    static const size_t sizes[] = {0, 4, sizeof good - 1, sizeof good + 5000, SIZE_MAX};
    for (size_t i = 0; i < 5; i++) {
        trueno_ctx_options opt = good;
        opt.struct_size = sizes[i];
        expect_refused(&opt, "struct_size");
    }
    trueno_ctx_options opt = good;
    opt.log_level = (trueno_log_level)4;
    expect_refused(&opt, "log level 4");
    opt.log_level = (trueno_log_level)-1;
    expect_refused(&opt, "log level -1");
    opt = good;
    opt.cpu = "pentium\n";
    expect_refused(&opt, "pentium\\x0a");
    opt.cpu = "";
    expect_refused(&opt, "unknown level");
    opt = good;
    opt.numerics = (trueno_numerics)2;
    expect_refused(&opt, "numerics 2");
    assert_int_equal(h.calls, 0);
    assert_int_equal(trueno_ctx_new(NULL, NULL, NULL), TRUENO_ERR_ARGUMENT);
}

static void test_defaults(void **state)
{
    (void)state;
    trueno_ctx *ctx = NULL;
    trueno_error err = {TRUENO_ERR_BUSY, "as before"};
    assert_int_equal(trueno_ctx_new(&ctx, NULL, &err), TRUENO_OK);
    assert_int_equal(err.status, TRUENO_ERR_BUSY);
    assert_string_equal(err.message, "as before");
    tr_log(ctx, TRUENO_LOG_ERROR, "to nobody");
    tr_progress(ctx, "load", 1, 2);
    assert_false(tr_cancelled(ctx));
    uint64_t now = 1, peak = 1;
    trueno_ctx_memory(ctx, &now, &peak);
    assert_int_equal(now, 0);
    assert_int_equal(peak, 0);
    trueno_ctx_memory(ctx, NULL, NULL);
    trueno_ctx_free(ctx);
    trueno_ctx_free(NULL);
    assert_null(trueno_cpu_feature_name(0));
    assert_int_equal(trueno_ctx_cpu_features(NULL), 0);
}

static void test_larger_option_structs_of_newer_programs(void **state)
{
    (void)state;
    struct {
        trueno_ctx_options opt;
        char more[64];
    } newer = {TRUENO_CTX_OPTIONS_INIT, {1}};
    newer.opt.struct_size = sizeof newer;
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, &newer.opt, NULL), TRUENO_OK);
    trueno_ctx_free(ctx);
}

static void test_last_reference_frees(void **state)
{
    (void)state;
    struct hooks h = {0};
    const trueno_ctx_options opt = hook_options(&h);
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    assert_int_equal(h.blocks, 1);
    tr_ctx_ref(ctx);
    void *object = tr_alloc(ctx, 10);
    trueno_ctx_free(ctx);
    assert_int_equal(h.blocks, 2);
    tr_free(ctx, object);
    tr_ctx_unref(ctx);
    assert_int_equal(h.blocks, 0);
    assert_int_equal(h.now_bytes, 0);
    tr_ctx_unref(NULL);
}

static void test_no_memory_for_a_context(void **state)
{
    (void)state;
    struct hooks h = {.fail_at = 1};
    const trueno_ctx_options opt = hook_options(&h);
    trueno_ctx *ctx;
    trueno_error err;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, &err), TRUENO_ERR_NO_MEMORY);
    assert_null(ctx);
    assert_int_equal(err.status, TRUENO_ERR_NO_MEMORY);
    assert_int_equal(h.blocks, 0);
}

struct seen {
    int lines;
    trueno_log_level level;
    char line[2048];
    uint64_t done, total;
    bool stop;
};

static void on_log(void *user, trueno_log_level level, const char *message)
{
    struct seen *s = user;
    s->lines++;
    s->level = level;
    snprintf(s->line, sizeof s->line, "%s", message);
}

static void on_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    struct seen *s = user;
    assert_string_equal(what, "load");
    s->done = done;
    s->total = total;
}

static bool on_cancel(void *user)
{
    return ((struct seen *)user)->stop;
}

static void test_callbacks(void **state)
{
    (void)state;
    struct seen s = {0};
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    opt.log = on_log;
    opt.progress = on_progress;
    opt.cancel = on_cancel;
    opt.log_user = opt.progress_user = opt.cancel_user = &s;
    opt.log_level = TRUENO_LOG_WARN;
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    tr_log(ctx, TRUENO_LOG_DEBUG, "no");
    tr_log(ctx, TRUENO_LOG_INFO, "no");
    assert_int_equal(s.lines, 0);
    tr_log(ctx, TRUENO_LOG_WARN, "tensor '%s' has %d", "x\x7f", 3);
    assert_int_equal(s.lines, 1);
    assert_int_equal(s.level, TRUENO_LOG_WARN);
    assert_string_equal(s.line, "tensor 'x\\x7f' has 3");
    char text[3000];
    memset(text, 'y', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    tr_log(ctx, TRUENO_LOG_ERROR, "%s", text);
    assert_int_equal(strlen(s.line), 1023);
    tr_progress(ctx, "load", 5, 9);
    assert_int_equal(s.done, 5);
    assert_int_equal(s.total, 9);
    assert_false(tr_cancelled(ctx));
    s.stop = true;
    assert_true(tr_cancelled(ctx));
    trueno_ctx_free(ctx);
}

int main(void)
{
    unsetenv("TRUENO_CPU");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_status_values_are_frozen),
        cmocka_unit_test(test_fail_escapes_what_is_not_printable),
        cmocka_unit_test(test_fail_cuts_long_messages),
        cmocka_unit_test(test_checked_arithmetic),
        cmocka_unit_test(test_options_are_checked),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_larger_option_structs_of_newer_programs),
        cmocka_unit_test(test_last_reference_frees),
        cmocka_unit_test(test_no_memory_for_a_context),
        cmocka_unit_test(test_callbacks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
