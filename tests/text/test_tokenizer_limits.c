/* SPDX-License-Identifier: MIT */
/* What must hold under stress: memory that runs out at every point, texts that are long and nasty,
 * NUL bytes, and many threads on one tokenizer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <cmocka.h>
#include <pthread.h>

#include "text/tiny_vocab.h"

/* --------------------------------------------------------------- failing memory */

struct faults {
    size_t calls, fail_at; /* the fail_at-th call from now on returns NULL; 0: never */
};

static bool fails(struct faults *f)
{
    f->calls++;
    return f->fail_at && f->calls == f->fail_at;
}

static void *fault_alloc(void *user, size_t size_bytes)
{
    return fails(user) ? NULL : malloc(size_bytes ? size_bytes : 1);
}

static void *fault_realloc(void *user, void *ptr, size_t size_bytes)
{
    return fails(user) ? NULL : realloc(ptr, size_bytes ? size_bytes : 1);
}

static void fault_free(void *user, void *ptr)
{
    (void)user;
    free(ptr);
}

static trueno_ctx *fault_ctx(struct faults *f)
{
    trueno_ctx *ctx;
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    opt.allocator = (trueno_allocator){fault_alloc, fault_realloc, fault_free, f};
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    return ctx;
}

static uint64_t held(trueno_ctx *ctx)
{
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    return now;
}

static const char sample[] = "hello  world <user>\xFF\xF0\x9F\xA6\x99 the <|im_end|> 1212 \xC3\xA9";

/* Encodes and streams with memory failing at call `fail_at`; true if nothing failed. */
static bool use_tokenizer(const trueno_tokenizer *t, trueno_ctx *ctx, struct faults *f,
                          size_t fail_at)
{
    uint64_t before = held(ctx);
    trueno_token ids[128];
    size_t n = 7, len;
    const char *text;
    f->calls = 0;
    f->fail_at = fail_at;
    trueno_status status = trueno_encode(t, ids, 128, &n, sample, sizeof sample - 1,
                                         TRUENO_ENCODE_SPECIAL | TRUENO_ENCODE_PARSE, NULL);
    if (status) {
        assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
        assert_int_equal(n, 0);
        assert_int_equal(held(ctx), before);
        return false;
    }
    assert_int_equal(held(ctx), before);
    trueno_detokenizer *d;
    status = trueno_detokenizer_new(&d, t, NULL);
    if (status) {
        assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
        assert_null(d);
        return false;
    }
    bool ok = true;
    for (size_t i = 0; i < n && ok; i++) {
        status = trueno_detokenizer_push(d, ids[i], &text, &len);
        ok = status == TRUENO_OK;
        if (!ok) assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
    }
    f->fail_at = 0;
    trueno_detokenizer_free(d);
    return ok;
}

static void check_faults(const struct tiny_vocab *v)
{
    struct faults f = {0};
    trueno_ctx *ctx = fault_ctx(&f);
    trueno_gguf *g;
    size_t size_bytes, n_faults = 0;
    void *image = tiny_image(ctx, v, &size_bytes);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &g, image, size_bytes, NULL, NULL), TRUENO_OK);
    uint64_t before = held(ctx);
    trueno_tokenizer *t = NULL;
    for (size_t fail_at = 1; !t; fail_at++) {
        f.calls = 0;
        f.fail_at = fail_at;
        trueno_error err;
        trueno_status status = trueno_tokenizer_new(&t, g, NULL, &err);
        f.fail_at = 0;
        if (status == TRUENO_OK && f.calls >= fail_at) {
            /* the call that failed was not needed: the executable memory's bookkeeping */
            trueno_tokenizer_free(t);
            t = NULL;
            continue;
        }
        if (status == TRUENO_OK) break;
        assert_int_equal(status, TRUENO_ERR_NO_MEMORY);
        assert_int_equal(err.status, TRUENO_ERR_NO_MEMORY);
        assert_null(t);
        assert_int_equal(held(ctx), before);
        n_faults++;
    }
    assert_in_range(n_faults, 8, 10000);
    for (size_t fail_at = 1; !use_tokenizer(t, ctx, &f, fail_at); fail_at++) n_faults++;
    assert_in_range(n_faults, 12, 10000);
    trueno_gguf_free(g);
    trueno_tokenizer_free(t);
    assert_int_equal(held(ctx), 0);
    trueno_ctx_free(ctx);
    free(image);
}

static void every_failing_allocation_is_a_status(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_spm(&v);
    check_faults(&v);
    tiny_free(&v);
    tiny_bpe(&v);
    check_faults(&v);
    tiny_free(&v);
    tiny_bpe(&v);
    v.pre = "tekken";
    check_faults(&v);
    tiny_free(&v);
}

/* ------------------------------------------------------------------- long texts */

static trueno_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK;
}

static int teardown(void **state)
{
    (void)state;
    uint64_t now = held(ctx);
    trueno_ctx_free(ctx);
    return now != 0;
}

static trueno_tokenizer *open_tiny(struct tiny_vocab *v)
{
    trueno_tokenizer *t;
    trueno_error err;
    if (tiny_open(ctx, v, NULL, &t, &err)) fail_msg("%s", err.message);
    tiny_free(v);
    return t;
}

/* `len` bytes of `unit` again and again, then `end`. */
static char *repeat(const char *unit, size_t len, const char *end)
{
    size_t n = strlen(unit), n_end = strlen(end);
    char *text = malloc(len + n_end + 1);
    assert_non_null(text);
    for (size_t i = 0; i < len; i++) text[i] = unit[i % n];
    memcpy(text + len, end, n_end + 1);
    return text;
}

/* Encodes, decodes, compares. Quadratic work on these lengths would take minutes; the limit of CPU
 * time is far above what sanitizers need. */
static void check_long(const trueno_tokenizer *t, const char *text, size_t len, const char *what)
{
    clock_t start = clock();
    size_t n, len2;
    trueno_error err;
    trueno_token *ids = malloc((len + 8) * sizeof *ids);
    char *back = malloc(len + 1);
    assert_true(ids && back);
    if (trueno_encode(t, ids, len + 8, &n, text, len, 0, &err))
        fail_msg("%s: %s", what, err.message);
    assert_true(n <= len + 8);
    assert_int_equal(trueno_decode(t, back, len, &len2, ids, n, false, &err), TRUENO_OK);
    assert_int_equal(len, len2);
    assert_memory_equal(text, back, len);
    double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    if (seconds > 20) fail_msg("%s: %g s for %zu bytes", what, seconds, len);
    free(ids);
    free(back);
}

/* Runs of every kind, each without and with something after it that makes the end of the run
 * matter. */
static const char *const runs[] = {
    "a",
    "A",
    "aA",
    "Aa",
    " ",
    "\n",
    "\r\n",
    "\t",
    "1",
    ".",
    "'s",
    "' ",
    "\xC3\xA9",
    "\xE4\xB8\x80",
    "\xCC\x81",
    "\xFF",
    "a ",
    " \n",
    "\xE3\x80\x80",
    "\xE2\x80\x80",
    "\xF0\x9F\xA6\x99",
    "<user",
    "<us",
    "\xE2\x96",
    "<|im_end|>",
    "hello",
    "ab1 ",
};

static void long_runs_take_linear_time(void **state)
{
    (void)state;
    static const char *const pres[] = {
        "gpt-2",          "starcoder",    "llama-bpe",   "qwen2",  "falcon", "default",
        "deepseek-coder", "deepseek-llm", "deepseek-v3", "tekken", NULL /* SPM */};
    for (size_t p = 0; p < sizeof pres / sizeof pres[0]; p++) {
        struct tiny_vocab v;
        if (pres[p])
            tiny_bpe(&v);
        else
            tiny_spm(&v);
        if (pres[p]) v.pre = pres[p];
        trueno_tokenizer *t = open_tiny(&v);
        for (size_t i = 0; i < sizeof runs / sizeof runs[0] * 2; i++) {
            char *text = repeat(runs[i / 2], 200000, i & 1 ? "1x" : "");
            char what[64];
            snprintf(what, sizeof what, "%s, run %zu", pres[p] ? pres[p] : "spm", i / 2);
            check_long(t, text, strlen(text), what);
            free(text);
        }
        char *spaces = repeat(" ", 1 << 20, "1x");
        check_long(t, spaces, strlen(spaces), "1 MiB of spaces");
        free(spaces);
        trueno_tokenizer_free(t);
    }
}

/* Merges that make one token out of ever longer runs: the heap is full all the time. */
static void merges_over_a_whole_run_take_linear_time(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct tiny_vocab v;
        char text[4097], line[2 * 4096 + 2];
        if (spm)
            tiny_spm(&v);
        else
            tiny_bpe(&v);
        memset(text, 'q', sizeof text);
        for (size_t n = 1; n <= 2048; n *= 2) {
            tiny_add(&v, text, 2 * n, -(float)n, 1);
            memset(line, 'q', sizeof line);
            line[n] = ' ';
            line[2 * n + 1] = 0;
            if (!spm) tiny_merge(&v, line);
        }
        trueno_tokenizer *t = open_tiny(&v);
        char *run = repeat("q", 1 << 20, "");
        check_long(t, run, 1 << 20, "q");
        size_t n;
        trueno_encode(t, NULL, 0, &n, run, 1 << 20, 0, NULL);
        assert_int_equal(n, (1 << 20) / 4096 + spm); /* SPM: and the space before the text */
        free(run);
        trueno_tokenizer_free(t);
    }
}

/* Special tokens of 64 KiB that a text of one letter almost matches at every position. */
static void special_tokens_that_almost_match_take_linear_time(void **state)
{
    (void)state;
    static char text[64 << 10];
    struct tiny_vocab v;
    tiny_spm(&v);
    memset(text, 'q', sizeof text);
    text[sizeof text - 1] = '!';
    tiny_add(&v, text, sizeof text, 0, 4);
    text[sizeof text - 1] = 'q';
    text[0] = '?';
    tiny_add(&v, text, sizeof text, 0, 4);
    trueno_tokenizer *t = open_tiny(&v);
    char *run = repeat("q", 2 << 20, "");
    check_long(t, run, 2 << 20, "q");
    size_t n;
    assert_int_equal(trueno_encode(t, NULL, 0, &n, run, 2 << 20, TRUENO_ENCODE_PARSE, NULL),
                     TRUENO_OK);
    free(run);
    trueno_tokenizer_free(t);
}

static void NUL_is_a_byte_like_others(void **state)
{
    (void)state;
    static const char text[] = "a\0b\0\0 <\0user> \0";
    for (int spm = 0; spm < 2; spm++) {
        struct tiny_vocab v;
        if (spm)
            tiny_spm(&v);
        else
            tiny_bpe(&v);
        trueno_token special = (trueno_token)v.n;
        tiny_add(&v, "<\0>", 3, 0, 4);
        trueno_tokenizer *t = open_tiny(&v);
        check_long(t, text, sizeof text - 1, "NUL");
        trueno_token ids[4];
        size_t n;
        assert_int_equal(trueno_encode(t, ids, 4, &n, "<\0>", 3, 0, NULL), TRUENO_OK);
        assert_int_equal(n, 1);
        assert_int_equal(ids[0], special);
        assert_int_equal(trueno_token_find(t, "<\0>", 3), special);
        trueno_tokenizer_free(t);
    }
}

/* ---------------------------------------------------------------------- threads */

struct job {
    const trueno_tokenizer *t;
    const trueno_token *want;
    size_t n_want;
    bool ok;
};

static void *encode_often(void *arg)
{
    struct job *j = arg;
    j->ok = true;
    for (int i = 0; i < 200; i++) {
        trueno_token ids[128];
        size_t n;
        char back[128];
        size_t len;
        j->ok &= trueno_encode(j->t, ids, 128, &n, sample, sizeof sample - 1, 0, NULL) == TRUENO_OK;
        j->ok &= n == j->n_want && memcmp(ids, j->want, n * sizeof *ids) == 0;
        j->ok &= trueno_decode(j->t, back, 128, &len, ids, n, false, NULL) == TRUENO_OK;
        j->ok &= len == sizeof sample - 1 && memcmp(back, sample, len) == 0;
    }
    return NULL;
}

static void threads_share_a_tokenizer(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct tiny_vocab v;
        if (spm)
            tiny_spm(&v);
        else
            tiny_bpe(&v);
        trueno_tokenizer *t = open_tiny(&v);
        trueno_token want[128];
        size_t n;
        assert_int_equal(trueno_encode(t, want, 128, &n, sample, sizeof sample - 1, 0, NULL),
                         TRUENO_OK);
        struct job jobs[4];
        pthread_t threads[4];
        for (int i = 0; i < 4; i++) {
            jobs[i] = (struct job){t, want, n, false};
            assert_int_equal(pthread_create(&threads[i], NULL, encode_often, &jobs[i]), 0);
        }
        for (int i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_true(jobs[i].ok);
        }
        trueno_tokenizer_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_failing_allocation_is_a_status),
        cmocka_unit_test(long_runs_take_linear_time),
        cmocka_unit_test(merges_over_a_whole_run_take_linear_time),
        cmocka_unit_test(special_tokens_that_almost_match_take_linear_time),
        cmocka_unit_test(NUL_is_a_byte_like_others),
        cmocka_unit_test(threads_share_a_tokenizer),
    };
    return cmocka_run_group_tests_name("tokenizer_limits", tests, setup, teardown);
}
