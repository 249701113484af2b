/* SPDX-License-Identifier: MIT */
/* Sessions: same bits for any split and any number of threads, memory exactly as planned, and every
 * wrong call answered without a change. */
#include "model/toy.h"

#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Tokens of the long runs: across two chunks of attention. ThreadSanitizer is some 30 times slower
 * and looks for races, which need no length. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SLOW 1
#endif
#endif
#if defined(SLOW) || defined(__SANITIZE_THREAD__)
enum { N = 70, N_KV = 4 /* types of the cache */ };
#else
enum { N = 600, N_KV = 4 };
#endif

static trueno_ctx *new_ctx(void)
{
    trueno_ctx *ctx;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    return ctx;
}

static trueno_session *new_session_kv(const trueno_model *m, uint32_t n_threads, uint32_t n_batch,
                                      trueno_kv_type kv)
{
    trueno_session_options so = TRUENO_SESSION_OPTIONS_INIT;
    trueno_session *s = NULL;
    trueno_error err = {TRUENO_OK, ""};
    so.n_ctx = N + 8;
    so.n_threads = n_threads;
    so.n_batch = n_batch;
    so.n_logits = N;
    so.kv_type = kv;
    if (trueno_session_new(&s, m, &so, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return s;
}

static trueno_session *new_session(const trueno_model *m, uint32_t n_threads, uint32_t n_batch)
{
    return new_session_kv(m, n_threads, n_batch, TRUENO_KV_F16);
}

static void eval(trueno_session *s, const trueno_token *tokens, size_t n, trueno_logits_mode mode)
{
    if (trueno_session_eval(s, tokens, n, mode) != TRUENO_OK)
        fail_msg("%s", trueno_session_last_error(s));
}

/* All logits of the tokens with these settings, in fresh memory. */
static float *all_logits(const trueno_model *m, const trueno_token *tokens, uint32_t n_threads,
                         uint32_t n_batch, uint32_t n_vocab, trueno_kv_type kv)
{
    trueno_session *s = new_session_kv(m, n_threads, n_batch, kv);
    float *copy = malloc((size_t)N * n_vocab * sizeof *copy);
    assert_non_null(copy);
    eval(s, tokens, N, TRUENO_LOGITS_ALL);
    memcpy(copy, trueno_session_logits(s, 0), (size_t)N * n_vocab * sizeof *copy);
    trueno_session_free(s);
    return copy;
}

/* The toy with heads that a cache of this type can hold. */
static struct toy toy_for(const char *arch, trueno_kv_type kv)
{
    struct toy t = toy_default(arch);
    t.n_ctx = 1024;
    if (kv == TRUENO_KV_Q8_0 && t.head_dim % 32 != 0) t.head_dim = 64;
    return t;
}

static void same_bits_for_any_split(void **state)
{
    static const uint32_t threads[] = {1, 2, 3, 7}, batches[] = {1, 7, 64, 512};
    trueno_token tokens[N];
    (void)state;
    for (size_t run = 0; toy_arch(run / N_KV) != NULL; run++) {
        size_t a = run / N_KV;
        trueno_kv_type kv = (trueno_kv_type)(run % N_KV);
        struct toy t = toy_for(toy_arch(a), kv);
        t.type = a == 0 ? TRUENO_TYPE_Q8_0 : a == 1 ? TRUENO_TYPE_Q4_1 : TRUENO_TYPE_F16;
        trueno_ctx *ctx = new_ctx();
        trueno_model *m = toy_load(ctx, &t);
        toy_tokens(tokens, N, t.n_vocab, 3);
        float *first = all_logits(m, tokens, 1, 512, t.n_vocab, kv);
        for (size_t i = 0; i < 4; i++) {
            /* not the whole square: each value of both settings once, in changing company */
            float *other = all_logits(m, tokens, threads[i], batches[(i + run) % 4], t.n_vocab, kv);
            assert_memory_equal(first, other, (size_t)N * t.n_vocab * sizeof *first);
            free(other);
        }
        for (size_t i = 0; i < (size_t)N * t.n_vocab; i++) assert_true(isfinite(first[i]));
        free(first);
        trueno_model_free(m);
        trueno_ctx_free(ctx);
    }
}

/* The levels of this machine give the same bits as the C reference. */
static void same_bits_on_every_instruction_set(void **state)
{
    struct toy t = toy_default("gemma3");
    trueno_token tokens[N];
    float *first[N_KV] = {NULL};
    (void)state;
    t.type = TRUENO_TYPE_Q5_0;
    t.n_ctx = 1024;
    toy_tokens(tokens, N, t.n_vocab, 5);
    for (size_t i = 0; trueno_cpu_level(i) != NULL; i++) {
        trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
        trueno_ctx *ctx;
        co.cpu = trueno_cpu_level(i);
        assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
        print_message("level %s runs as %s\n", co.cpu, trueno_ctx_cpu_level(ctx));
        trueno_model *m = toy_load(ctx, &t);
        for (int kv = 0; kv < N_KV; kv++) {
            float *logits = all_logits(m, tokens, 2, 64, t.n_vocab, (trueno_kv_type)kv);
            if (i == 0) first[kv] = logits;
            assert_memory_equal(first[kv], logits, (size_t)N * t.n_vocab * sizeof *logits);
            if (i > 0) free(logits);
        }
        trueno_model_free(m);
        trueno_ctx_free(ctx);
    }
    for (int kv = 0; kv < N_KV; kv++) free(first[kv]);
}

static void check_modes_and_rewind(trueno_kv_type kv)
{
    struct toy t = toy_for("phi3", kv);
    trueno_ctx *ctx = new_ctx();
    trueno_model *m = toy_load(ctx, &t);
    trueno_session *s = new_session_kv(m, 2, 64, kv);
    trueno_token tokens[40];
    size_t row = t.n_vocab * sizeof(float);
    float *last = malloc(row);
    toy_tokens(tokens, 40, t.n_vocab, 9);
    assert_null(trueno_session_logits(s, -1));
    eval(s, tokens, 40, TRUENO_LOGITS_LAST);
    assert_int_equal(trueno_session_n_past(s), 40);
    memcpy(last, trueno_session_logits(s, -1), row);
    assert_memory_equal(last, trueno_session_logits(s, 39), row);
    assert_null(trueno_session_logits(s, 38));
    assert_null(trueno_session_logits(s, 40));
    assert_null(trueno_session_logits(s, -2));

    /* a detour, then back: as if it had not happened */
    eval(s, tokens, 17, TRUENO_LOGITS_NONE);
    assert_null(trueno_session_logits(s, -1));
    assert_int_equal(trueno_session_rewind(s, 58), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_session_rewind(s, 39), TRUENO_OK);
    eval(s, tokens + 39, 1, TRUENO_LOGITS_LAST);
    assert_memory_equal(last, trueno_session_logits(s, -1), row);

    assert_int_equal(trueno_session_rewind(s, 0), TRUENO_OK);
    eval(s, tokens, 20, TRUENO_LOGITS_NONE);
    eval(s, tokens + 20, 20, TRUENO_LOGITS_ALL);
    assert_memory_equal(last, trueno_session_logits(s, 19), row);
    free(last);
    trueno_session_free(s);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
}

/* With a sliding window of 16. */
static void modes_and_rewind(void **state)
{
    (void)state;
    for (int kv = 0; kv < N_KV; kv++) check_modes_and_rewind((trueno_kv_type)kv);
}

static void wrong_calls_change_nothing(void **state)
{
    struct toy t = toy_default("qwen2");
    trueno_ctx *ctx = new_ctx();
    trueno_model *m = toy_load(ctx, &t);
    trueno_session_options so = TRUENO_SESSION_OPTIONS_INIT;
    trueno_session *s = NULL;
    trueno_token tokens[40];
    (void)state;
    so.n_ctx = 32;
    so.n_logits = 4;
    assert_int_equal(trueno_session_new(&s, m, &so, NULL), TRUENO_OK);
    toy_tokens(tokens, 40, t.n_vocab, 9);
    eval(s, tokens, 3, TRUENO_LOGITS_ALL);
    float before = trueno_session_logits(s, 1)[5];
    const trueno_token bad[][2] = {
        {1, -1}, {(trueno_token)t.n_vocab, 1}, {INT32_MIN, 0}, {0, INT32_MAX}};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(trueno_session_eval(s, bad[i], 2, TRUENO_LOGITS_LAST),
                         TRUENO_ERR_ARGUMENT);
        assert_non_null(strstr(trueno_session_last_error(s), "token"));
    }
    assert_int_equal(trueno_session_eval(s, tokens, 30, TRUENO_LOGITS_LAST), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(trueno_session_last_error(s), "n_ctx"));
    assert_int_equal(trueno_session_eval(s, tokens, SIZE_MAX, TRUENO_LOGITS_LAST),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_session_eval(s, tokens, 0, TRUENO_LOGITS_LAST), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_session_eval(s, NULL, 1, TRUENO_LOGITS_LAST), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_session_eval(s, tokens, 5, TRUENO_LOGITS_ALL), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(trueno_session_last_error(s), "n_logits"));
    assert_int_equal(trueno_session_eval(s, tokens, 1, (trueno_logits_mode)7), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_session_eval(NULL, tokens, 1, TRUENO_LOGITS_LAST), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_session_n_past(s), 3);
    assert_true(trueno_session_logits(s, 1)[5] == before);
    trueno_session_free(s);

    trueno_error err;
    const trueno_session_options good = TRUENO_SESSION_OPTIONS_INIT;
    trueno_session_options o = good;
    assert_int_equal(trueno_session_new(NULL, m, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_session_new(&s, NULL, NULL, &err), TRUENO_ERR_ARGUMENT);
    static const size_t sizes[] = {0, 4, SIZE_MAX};
    for (size_t i = 0; i < 3; i++) {
        o.struct_size = sizes[i];
        assert_int_equal(trueno_session_new(&s, m, &o, &err), TRUENO_ERR_ARGUMENT);
        assert_null(s);
    }
    o = good;
    o.kv_type = (trueno_kv_type)9;
    assert_int_equal(trueno_session_new(&s, m, &o, &err), TRUENO_ERR_ARGUMENT);
    o = good;
    o.kv_type = TRUENO_KV_Q8_0; /* heads of 48 */
    assert_int_equal(trueno_session_new(&s, m, &o, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "multiple of 32"));
    o = good;
    o.n_ctx = UINT32_MAX;
    assert_int_equal(trueno_session_new(&s, m, &o, &err), TRUENO_ERR_ARGUMENT);
    o = good;
    o.max_memory_bytes = 1000;
    assert_int_equal(trueno_session_new(&s, m, &o, &err), TRUENO_ERR_TOO_LARGE);
    assert_non_null(strstr(err.message, "max_memory_bytes"));
    trueno_session_free(NULL);
    trueno_model_free(NULL);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
}

/* ---------------------------------------------------------------------- memory */

struct counted {
    atomic_size_t live, calls, fail_at; /* fail_at 0: never */
    atomic_bool realloc_failed;
};

static void *count_alloc(void *user, size_t size)
{
    struct counted *c = user;
    size_t call = atomic_fetch_add(&c->calls, 1) + 1;
    if (call == atomic_load(&c->fail_at)) return NULL;
    void *p = malloc(size);
    if (p != NULL) atomic_fetch_add(&c->live, 1);
    return p;
}

static void *count_realloc(void *user, void *ptr, size_t size)
{
    struct counted *c = user;
    if (ptr == NULL) return count_alloc(user, size);
    size_t call = atomic_fetch_add(&c->calls, 1) + 1;
    if (call != atomic_load(&c->fail_at)) return realloc(ptr, size);
    atomic_store(&c->realloc_failed, true);
    return NULL;
}

static void count_free(void *user, void *ptr)
{
    struct counted *c = user;
    if (ptr != NULL) atomic_fetch_sub(&c->live, 1);
    free(ptr);
}

/* What load and session_new add to the context's counter is exactly what was estimated. */
static void estimate_is_exact(void **state)
{
    (void)state;
    /* of a head of 64: K or V of one position */
    static const uint64_t head_bytes[N_KV] = {[TRUENO_KV_F16] = 128,
                                              [TRUENO_KV_F32] = 256,
                                              [TRUENO_KV_BF16] = 128,
                                              [TRUENO_KV_Q8_0] = 68};
    for (size_t a = 0; toy_arch(a) != NULL; a++) {
        struct toy t = toy_default(toy_arch(a));
        t.type = TRUENO_TYPE_Q4_0;
        t.head_dim = 64;
        trueno_ctx *ctx = new_ctx();
        trueno_gguf_writer *w;
        trueno_gguf *g = toy_open(ctx, &t, &w);
        trueno_estimate e = TRUENO_ESTIMATE_INIT;
        trueno_session_options so = TRUENO_SESSION_OPTIONS_INIT;
        trueno_model_info info = TRUENO_MODEL_INFO_INIT;
        trueno_model *m;
        trueno_session *s;
        uint64_t before, loaded, running, after_eval;
        trueno_token tokens[100];
        so.n_ctx = (uint32_t)(100 + 37 * a);
        so.n_threads = (uint32_t)(1 + a % 3);
        so.n_logits = 3;
        so.kv_type = (trueno_kv_type)(a % N_KV);
        assert_int_equal(trueno_model_estimate(&e, g, &so, NULL), TRUENO_OK);
        trueno_ctx_memory(ctx, &before, NULL);
        assert_int_equal(trueno_model_load(&m, g, NULL, NULL), TRUENO_OK);
        trueno_ctx_memory(ctx, &loaded, NULL);
        assert_int_equal(trueno_session_new(&s, m, &so, NULL), TRUENO_OK);
        trueno_ctx_memory(ctx, &running, NULL);
        toy_tokens(tokens, 100, t.n_vocab, 1);
        eval(s, tokens, 100, TRUENO_LOGITS_LAST);
        trueno_ctx_memory(ctx, &after_eval, NULL);
        assert_int_equal(loaded - before, e.weights_bytes);
        assert_int_equal(running - loaded, e.kv_bytes + e.compute_bytes);
        assert_int_equal(after_eval, running);
        assert_int_equal(trueno_session_memory_bytes(s), running - loaded);
        assert_int_equal(e.total_bytes, e.weights_bytes + e.kv_bytes + e.compute_bytes);
        assert_int_equal(trueno_model_get_info(m, &info), TRUENO_OK);
        assert_int_equal(info.memory_bytes, e.weights_bytes);
        /* positions in panels of 16 */
        uint64_t per_pos = 2ULL * t.n_layer * t.n_head_kv * head_bytes[a % N_KV];
        assert_int_equal(e.kv_bytes, per_pos * ((so.n_ctx + 15) / 16 * 16));
        trueno_session_free(s);
        trueno_model_free(m);
        trueno_gguf_free(g);
        trueno_gguf_writer_free(w);
        trueno_ctx_memory(ctx, &after_eval, NULL);
        trueno_ctx_free(ctx);
    }
}

/* The N-th allocation fails, for every N: "no memory", nothing left behind, and then it works. */
static void every_allocation_may_fail(void **state)
{
    struct toy t = toy_default("gemma3");
    trueno_ctx *plain = new_ctx();
    trueno_gguf_writer *w = toy_build(plain, &t);
    size_t size, n_failures = 0;
    const void *data = trueno_gguf_writer_buffer(w, &size);
    (void)state;
    for (size_t fail_at = 1;; fail_at++) {
        struct counted c;
        trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
        trueno_ctx *ctx = NULL;
        trueno_gguf *g = NULL;
        trueno_model *m = NULL;
        trueno_session *s = NULL;
        atomic_init(&c.live, 0);
        atomic_init(&c.calls, 0);
        atomic_init(&c.fail_at, fail_at);
        atomic_init(&c.realloc_failed, false);
        co.allocator.alloc = count_alloc;
        co.allocator.realloc = count_realloc;
        co.allocator.free = count_free;
        co.allocator.user = &c;
        trueno_status st = trueno_ctx_new(&ctx, &co, NULL);
        if (st == TRUENO_OK) st = trueno_gguf_open_buffer(ctx, &g, data, size, NULL, NULL);
        if (st == TRUENO_OK) st = trueno_model_load(&m, g, NULL, NULL);
        if (st == TRUENO_OK) st = trueno_session_new(&s, m, NULL, NULL);
        bool failed = atomic_load(&c.calls) >= fail_at;
        /* a block that could not be shrunk is still a good block */
        if (!(st == TRUENO_OK && atomic_load(&c.realloc_failed)))
            assert_int_equal(st, failed ? TRUENO_ERR_NO_MEMORY : TRUENO_OK);
        trueno_session_free(s);
        trueno_model_free(m);
        trueno_gguf_free(g);
        trueno_ctx_free(ctx);
        assert_int_equal(atomic_load(&c.live), 0);
        if (!failed) break;
        n_failures++;
    }
    print_message("%zu allocations failed one after the other\n", n_failures);
    assert_true(n_failures > 10);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(plain);
}

/* --------------------------------------------------------------------- callbacks */

struct canceller {
    int polls, cancel_at;
    trueno_session *s;
    trueno_status nested;
};

static bool cancel_later(void *user)
{
    struct canceller *c = user;
    static const trueno_token one[] = {1};
    if (c->s != NULL) c->nested = trueno_session_eval(c->s, one, 1, TRUENO_LOGITS_LAST);
    return ++c->polls == c->cancel_at;
}

static void cancelled_eval_leaves_the_session_as_it_was(void **state)
{
    struct toy t = toy_default("llama");
    struct canceller c = {0, 0, NULL, TRUENO_OK};
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx;
    trueno_token tokens[30];
    (void)state;
    co.cancel = cancel_later;
    co.cancel_user = &c;
    assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
    trueno_model *m = toy_load(ctx, &t);
    trueno_session *s = new_session(m, 2, 10), *fresh = new_session(m, 2, 10);
    toy_tokens(tokens, 30, t.n_vocab, 4);
    eval(s, tokens, 5, TRUENO_LOGITS_LAST);
    for (int at = 1; at <= 9; at++) { /* three batches of three layers */
        c = (struct canceller){0, at, NULL, TRUENO_OK};
        assert_int_equal(trueno_session_eval(s, tokens + 5, 25, TRUENO_LOGITS_LAST),
                         TRUENO_ERR_CANCELLED);
        assert_int_equal(trueno_session_n_past(s), 5);
    }
    c = (struct canceller){0, 0, s, TRUENO_OK};
    eval(s, tokens + 5, 25, TRUENO_LOGITS_LAST);
    assert_int_equal(c.nested, TRUENO_ERR_BUSY);
    assert_int_equal(c.polls, 9);
    c.s = NULL;
    eval(fresh, tokens, 30, TRUENO_LOGITS_LAST);
    assert_memory_equal(trueno_session_logits(s, -1), trueno_session_logits(fresh, -1),
                        t.n_vocab * sizeof(float));
    trueno_session_free(s);
    trueno_session_free(fresh);

    c = (struct canceller){0, 3, NULL, TRUENO_OK};
    trueno_gguf_writer *w;
    trueno_gguf *g = toy_open(ctx, &t, &w);
    trueno_model *none = m;
    assert_int_equal(trueno_model_load(&none, g, NULL, NULL), TRUENO_ERR_CANCELLED);
    assert_null(none);
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
}

static void progress_rises_to_the_total(void *user, const char *what, uint64_t done, uint64_t total)
{
    uint64_t *last = user;
    assert_string_equal(what, "load");
    assert_true(done >= *last && done <= total);
    *last = done == total ? UINT64_MAX : done;
}

static void load_reports_progress(void **state)
{
    struct toy t = toy_default("phi3");
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx;
    uint64_t last = 0;
    (void)state;
    co.progress = progress_rises_to_the_total;
    co.progress_user = &last;
    assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
    trueno_model_free(toy_load(ctx, &t));
    assert_true(last == UINT64_MAX);
    trueno_ctx_free(ctx);
}

/* ----------------------------------------------------------------------- sharing */

struct sharer {
    const trueno_model *m;
    uint32_t n_vocab, seed;
    float *logits;
};

static void *run_session(void *arg)
{
    struct sharer *sh = arg;
    trueno_token tokens[48];
    trueno_session *s = new_session(sh->m, 4, 16);
    toy_tokens(tokens, 48, sh->n_vocab, sh->seed);
    eval(s, tokens, 40, TRUENO_LOGITS_NONE);
    for (size_t i = 40; i < 48; i++) eval(s, tokens + i, 1, TRUENO_LOGITS_LAST);
    memcpy(sh->logits, trueno_session_logits(s, -1), sh->n_vocab * sizeof(float));
    trueno_session_free(s);
    return NULL;
}

/* Two sessions of four threads each on one model at the same time, as alone. */
static void sessions_share_a_model(void **state)
{
    struct toy t = toy_default("qwen3");
    trueno_ctx *ctx = new_ctx();
    trueno_model *m = toy_load(ctx, &t);
    struct sharer alone[2], together[2];
    pthread_t threads[2];
    (void)state;
    for (uint32_t i = 0; i < 2; i++) {
        alone[i] = (struct sharer){m, t.n_vocab, 10 + i, calloc(t.n_vocab, sizeof(float))};
        together[i] = (struct sharer){m, t.n_vocab, 10 + i, calloc(t.n_vocab, sizeof(float))};
        (void)run_session(&alone[i]);
    }
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, run_session, &together[i]), 0);
    for (size_t i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_memory_equal(alone[i].logits, together[i].logits, t.n_vocab * sizeof(float));
        free(alone[i].logits);
        free(together[i].logits);
    }
    trueno_model_free(m);
    trueno_ctx_free(ctx);
}

static void a_hundred_loads_leave_nothing(void **state)
{
    struct toy t = toy_default("llama");
    trueno_ctx *ctx = new_ctx();
    trueno_token tokens[4] = {1, 2, 3, 4};
    uint64_t before, now;
    (void)state;
    trueno_ctx_memory(ctx, &before, NULL);
    for (int i = 0; i < 100; i++) {
        trueno_model *m = toy_load(ctx, &t);
        trueno_session *s = new_session(m, 2, 4);
        eval(s, tokens, 4, TRUENO_LOGITS_LAST);
        trueno_session_free(s);
        trueno_model_free(m);
        trueno_ctx_memory(ctx, &now, NULL);
        assert_int_equal(now, before);
    }
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_bits_for_any_split),
        cmocka_unit_test(same_bits_on_every_instruction_set),
        cmocka_unit_test(modes_and_rewind),
        cmocka_unit_test(wrong_calls_change_nothing),
        cmocka_unit_test(estimate_is_exact),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(cancelled_eval_leaves_the_session_as_it_was),
        cmocka_unit_test(load_reports_progress),
        cmocka_unit_test(sessions_share_a_model),
        cmocka_unit_test(a_hundred_loads_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
