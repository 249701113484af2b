/* SPDX-License-Identifier: MIT */
/* Sessions that a tuner serves: its choice is what runs, what it costs is told, and no choice
 * changes a bit of the logits. */
#include "model/toy.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/session.h"
#include "tuner/tuner_impl.h"

enum { N_PROMPT = 40, N_TOKENS = 120 };

static struct toy a_toy(trueno_dtype type)
{
    struct toy t = toy_default("llama");
    t.type = type;
    t.n_embd = 256;
    t.head_dim = 64;
    t.n_ff = 512;
    return t;
}

static trueno_tuner *tuner(trueno_ctx *ctx, trueno_tuner_mode mode)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner *t;
    o.mode = mode;
    o.store_path = "";
    assert_int_equal(trueno_tuner_new(ctx, &t, &o, NULL), TRUENO_OK);
    return t;
}

static trueno_session *session(const trueno_model *m, trueno_tuner *t, uint32_t n_threads)
{
    trueno_session_options o = TRUENO_SESSION_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_session *s;
    o.n_ctx = N_TOKENS;
    o.n_threads = n_threads;
    o.tuner = t;
    o.profile = true;
    if (trueno_session_new(&s, m, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return s;
}

/* Logits after a prompt and after every further token. */
static float *run(trueno_session *s, const trueno_token *tokens, size_t n_vocab)
{
    float *out = malloc((N_TOKENS - N_PROMPT + 1) * n_vocab * sizeof *out), *at = out;
    assert_int_equal(trueno_session_eval(s, tokens, N_PROMPT, TRUENO_LOGITS_LAST), TRUENO_OK);
    for (size_t i = N_PROMPT;; i++, at += n_vocab) {
        memcpy(at, trueno_session_logits(s, -1), n_vocab * sizeof *at);
        if (i == N_TOKENS) return out;
        assert_int_equal(trueno_session_eval(s, tokens + i, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    }
}

/* OFF, FROZEN and LEARN, one thread and three: the bits of a session without a tuner. */
static void test_same_logits(void **state)
{
    static const trueno_dtype types[] = {TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q6_K, TRUENO_TYPE_Q8_0};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct toy toy = a_toy(types[i]);
        trueno_token tokens[N_TOKENS];
        trueno_ctx *ctx;
        size_t bytes = (N_TOKENS - N_PROMPT + 1) * toy.n_vocab * sizeof(float);
        assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
        toy_tokens(tokens, N_TOKENS, toy.n_vocab, 3);
        trueno_model *m = toy_load(ctx, &toy);
        trueno_session *s = session(m, NULL, 1);
        float *want = run(s, tokens, toy.n_vocab);
        trueno_session_free(s);
        for (int mode = TRUENO_TUNER_OFF; mode <= TRUENO_TUNER_LEARN; mode++) {
            if (mode == TRUENO_TUNER_STRICT) continue; /* it needs a store */
            trueno_tuner *t = tuner(ctx, (trueno_tuner_mode)mode);
            trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
            s = session(m, t, 1 + 2 * (uint32_t)(mode % 2));
            float *got = run(s, tokens, toy.n_vocab);
            assert_memory_equal(got, want, bytes);
            assert_int_equal(trueno_tuner_get_stats(t, &stats), TRUENO_OK);
            if (mode == TRUENO_TUNER_LEARN && tr_tuner_slot(t, &s->plan.kinds[0])->n_arms > 1) {
                assert_true(stats.observations > 0);
                assert_true(stats.explored > 0);
            } else if (mode != TRUENO_TUNER_LEARN) {
                assert_int_equal(stats.observations, 0);
            }
            free(got);
            trueno_session_free(s);
            trueno_tuner_free(t);
        }
        free(want);
        trueno_model_free(m);
        trueno_ctx_free(ctx);
    }
}

/* A toy model with a tuner and a session. */
struct world {
    struct toy toy;
    trueno_ctx *ctx;
    trueno_model *m;
    trueno_tuner *t;
    trueno_session *s;
    trueno_token tokens[N_TOKENS];
};

static void begin_toy(struct world *w, struct toy toy, trueno_tuner_mode mode)
{
    w->toy = toy;
    assert_int_equal(trueno_ctx_new(&w->ctx, NULL, NULL), TRUENO_OK);
    toy_tokens(w->tokens, N_TOKENS, toy.n_vocab, 3);
    w->m = toy_load(w->ctx, &toy);
    w->t = tuner(w->ctx, mode);
    w->s = session(w->m, w->t, 1);
}

static void begin(struct world *w, trueno_tuner_mode mode)
{
    begin_toy(w, a_toy(TRUENO_TYPE_Q4_K), mode);
}

static void end(struct world *w)
{
    trueno_session_free(w->s);
    trueno_tuner_free(w->t);
    trueno_model_free(w->m);
    trueno_ctx_free(w->ctx);
}

/* The context of the down projection of one token. */
static struct tr_slot *down_slot(const struct world *w)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.type = TRUENO_TYPE_Q4_K;
    p.rows = w->toy.n_embd;
    p.cols = w->toy.n_ff;
    return tr_tuner_slot(w->t, &p);
}

/* A kernel that counts its calls and then does what the default does. */
static tr_gemm_fn counted;
static atomic_int n_calls;
static void count_calls(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                        size_t k, uint32_t nt)
{
    atomic_fetch_add(&n_calls, 1);
    counted(out, ldo, w, n_groups, act, k, nt);
}

/* The function that runs is the one of the pick: of the down projection alone, then of none. */
static void test_pick_is_what_runs(void **state)
{
    struct world w;
    (void)state;
    begin(&w, TRUENO_TUNER_FROZEN);
    struct tr_slot *slot = down_slot(&w);
    struct tr_kernel fake = *slot->arms[0];
    counted = fake.fn.gemm;
    fake.fn.gemm = count_calls;
    slot->arms[1] = &fake;
    slot->n_arms = 2;
    free(run(w.s, w.tokens, w.toy.n_vocab));
    assert_int_equal(atomic_load(&n_calls), 0);
    atomic_store(&slot->pick, 1);
    assert_int_equal(trueno_session_rewind(w.s, 0), TRUENO_OK);
    assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    assert_true(atomic_load(&n_calls) >= (int)w.toy.n_layer); /* units of each layer's product */
    assert_int_equal(atomic_load(&n_calls) % (int)w.toy.n_layer, 0);
    int before = atomic_load(&n_calls);
    assert_int_equal(trueno_session_eval(w.s, w.tokens, 5, TRUENO_LOGITS_LAST), TRUENO_OK);
    assert_int_equal(atomic_load(&n_calls), before); /* five tokens are another context */
    end(&w);
}

/* A kernel that is always slower is tried and left; the faster one of two takes over. Times are
 * made by kernels that wait. */
static atomic_int slow;
static void wait_a_little(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    for (int i = 0; i < atomic_load(&slow); i++) atomic_fetch_add(&n_calls, 1);
    counted(out, ldo, w, n_groups, act, k, nt);
}

static void test_learns_in_passes(void **state)
{
    struct world w;
    (void)state;
    begin(&w, TRUENO_TUNER_LEARN);
    struct tr_slot *slot = down_slot(&w);
    if (slot->n_arms < 2) {
        print_message("skipped: this machine has one kernel for Q4_K\n");
        end(&w);
        skip();
    }
    /* the default waits: any other one is faster by far */
    struct tr_kernel waiting = *slot->arms[0];
    counted = waiting.fn.gemm;
    waiting.fn.gemm = wait_a_little;
    atomic_store(&slow, 20000);
    slot->arms[0] = &waiting;
    for (int i = 0; i < 4 && tr_slot_pick(slot) == 0; i++) {
        assert_int_equal(trueno_session_rewind(w.s, 0), TRUENO_OK);
        free(run(w.s, w.tokens, w.toy.n_vocab));
    }
    assert_int_not_equal(tr_slot_pick(slot), 0);
    /* the session is alive, and what it found can be saved */
    size_t len;
    static char json[1 << 16];
    assert_int_equal(trueno_tuner_export(w.t, json, sizeof json - 1, &len, TRUENO_STORE_JSON, NULL),
                     TRUENO_OK);
    json[len] = 0;
    assert_non_null(strstr(json, slot->arms[tr_slot_pick(slot)]->name));
    int before = atomic_load(&n_calls);
    trueno_tuner_pause(w.t, true);
    assert_int_equal(trueno_session_rewind(w.s, 0), TRUENO_OK);
    free(run(w.s, w.tokens, w.toy.n_vocab));
    assert_int_equal(atomic_load(&n_calls), before); /* the slow one is not asked any more */
    end(&w);
}

/* A clock that goes on by a microsecond and, for each thread of the session's passes, another one,
 * every time that it is read. */
struct slow_threads {
    const trueno_session *s;
    uint64_t now;
};
static uint64_t read_slow_threads(void *user)
{
    struct slow_threads *c = user;
    return c->now += 1000 + 1000 * (uint64_t)(c->s ? c->s->plan.pass.threads : 0);
}

/* Counts the calls that come from other threads than the test's. */
static pthread_t main_thread;
static void count_foreign(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    if (!pthread_equal(pthread_self(), main_thread)) atomic_fetch_add(&n_calls, 1);
    counted(out, ldo, w, n_groups, act, k, nt);
}

/* Lets a product of a session with so many threads count where it is computed. */
static void count_where(struct world *w, struct tr_kernel *fake, uint32_t threads)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.type = TRUENO_TYPE_Q4_K;
    p.rows = w->toy.n_embd;
    p.cols = w->toy.n_ff;
    p.threads = threads;
    struct tr_slot *slot = tr_tuner_slot(w->t, &p);
    *fake = *slot->arms[tr_slot_pick(slot)];
    counted = fake->fn.gemm;
    fake->fn.gemm = count_foreign;
    slot->arms[tr_slot_pick(slot)] = fake;
}

/* Passes are compared with others on fewer threads, the faster number takes over, and it is on that
 * many threads that passes are computed; with the same bits, and in other sessions too, as stored.
 */
static void test_threads_of_passes(void **state)
{
    static uint8_t blob[1 << 20];
    struct world w;
    struct tr_kernel fakes[2];
    struct slow_threads clock = {NULL, 0};
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    size_t len;
    (void)state;
    begin(&w, TRUENO_TUNER_OFF);
    float *want = run(w.s, w.tokens, w.toy.n_vocab);
    size_t bytes = (N_TOKENS - N_PROMPT + 1) * w.toy.n_vocab * sizeof(float);
    trueno_session_free(w.s);
    trueno_tuner_free(w.t);

    o.mode = TRUENO_TUNER_LEARN;
    o.store_path = "";
    o.clock_fn = read_slow_threads;
    o.clock_user = &clock;
    assert_int_equal(trueno_tuner_new(w.ctx, &w.t, &o, NULL), TRUENO_OK);
    w.s = session(w.m, w.t, 2);
    clock.s = w.s;
    /* kernels come first, and while passes are compared they are not */
    bool rivals = tr_tuner_slot(w.t, &w.s->plan.kinds[0])->n_arms > 1;
    uint32_t n_compared = 0;
    for (int i = 0; i < 300; i++) {
        trueno_tuner_stats before = TRUENO_TUNER_STATS_INIT, after = TRUENO_TUNER_STATS_INIT;
        assert_int_equal(trueno_tuner_get_stats(w.t, &before), TRUENO_OK);
        assert_int_equal(trueno_session_rewind(w.s, 0), TRUENO_OK);
        assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
        assert_int_equal(trueno_tuner_get_stats(w.t, &after), TRUENO_OK);
        n_compared += w.s->plan.pass.compares;
        if (i == 0 && rivals) assert_true(w.s->plan.undecided && n_compared == 0);
        if (w.s->plan.pass.compares) assert_int_equal(after.observations, before.observations + 1);
    }
    assert_true(n_compared >= 8);
    for (int i = 0; i < 6; i++) {
        assert_int_equal(trueno_session_rewind(w.s, 0), TRUENO_OK);
        float *got = run(w.s, w.tokens, w.toy.n_vocab);
        assert_memory_equal(got, want, bytes);
        free(got);
    }
    assert_int_equal(w.s->plan.pass.threads, 1);
    assert_int_equal(w.s->plan.pass.source, TRUENO_CHOICE_MEASURED);
    assert_int_equal(trueno_tuner_export(w.t, blob, sizeof blob, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    clock.s = NULL;
    trueno_session_free(w.s);
    trueno_tuner_free(w.t);

    w.t = tuner(w.ctx, TRUENO_TUNER_FROZEN);
    assert_int_equal(trueno_tuner_import(w.t, NULL, blob, len, NULL), TRUENO_OK);
    w.s = session(w.m, w.t, 2);
    count_where(&w, &fakes[0], 1);
    main_thread = pthread_self();
    atomic_store(&n_calls, 0);
    assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    assert_int_equal(w.s->plan.pass.threads, 1);
    assert_int_equal(atomic_load(&n_calls), 0);
    for (uint32_t i = 0; i < w.s->plan.n_kinds; i++)
        assert_int_equal(w.s->plan.slots[i]->problem.threads, 1);

    /* the features of the same model ask for the same passes */
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_recommendation rec;
    trueno_recommendation_init(&rec);
    f.model_params_b = 0.001;
    f.hidden_dim = w.toy.n_embd;
    f.num_layers = w.toy.n_layer;
    f.intermediate_dim = w.toy.n_ff;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 40;
    f.gpu_compute_tflops = 1;
    f.sm_count = f.cpu_threads = 2;
    assert_int_equal(trueno_tuner_recommend(w.t, &rec, &f, NULL), TRUENO_OK);
    assert_true(rec.plan.decode_threads == 1 && rec.plan.prefill_threads == 2);

    /* without the choice both threads compute again */
    assert_int_equal(trueno_tuner_forget(w.t, NULL, NULL), TRUENO_OK);
    count_where(&w, &fakes[1], 2);
    for (int i = 0; i < 50; i++)
        assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    assert_int_equal(w.s->plan.pass.threads, 2);
    assert_true(atomic_load(&n_calls) > 0);
    for (uint32_t i = 0; i < w.s->plan.n_kinds; i++)
        assert_int_equal(w.s->plan.slots[i]->problem.threads, 2);
    free(want);
    end(&w);
}

/* Once everything is decided, passes are measured only where a comparison is due; those comparisons
 * go on. */
static void test_most_passes_are_not_measured(void **state)
{
    struct world w;
    trueno_tuner_stats before = TRUENO_TUNER_STATS_INIT, after = TRUENO_TUNER_STATS_INIT;
    (void)state;
    begin(&w, TRUENO_TUNER_LEARN);
    if (tr_tuner_slot(w.t, &w.s->plan.kinds[0])->n_arms < 2) {
        print_message("skipped: this machine has one kernel for Q4_K\n");
        end(&w);
        skip();
    }
    enum { PASSES = 4000 };
    uint64_t calls = 0;
    for (uint32_t i = 0; i < w.s->plan.n_kinds; i++) calls += w.s->plan.calls[i];
    assert_int_equal(calls, 4 * w.toy.n_layer + 1); /* products that are known by a matrix */
    for (int i = 0; i < PASSES; i++) {
        if (i == 400) assert_int_equal(trueno_tuner_get_stats(w.t, &before), TRUENO_OK);
        assert_int_equal(trueno_session_rewind(w.s, 0), TRUENO_OK);
        assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    }
    assert_int_equal(trueno_tuner_get_stats(w.t, &after), TRUENO_OK);
    uint64_t measured = after.observations - before.observations;
    assert_true(measured < calls * (PASSES - 400) / 3);
    assert_true(after.audits > before.audits);
    end(&w);
}

/* The profile counts layers and tokens; its times are those of the passes. */
static void test_profile(void **state)
{
    struct toy toy = a_toy(TRUENO_TYPE_Q8_0);
    trueno_token tokens[N_TOKENS];
    trueno_ctx *ctx;
    trueno_profile p = TRUENO_PROFILE_INIT;
    (void)state;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    toy_tokens(tokens, N_TOKENS, toy.n_vocab, 3);
    trueno_model *m = toy_load(ctx, &toy);
    trueno_session *s = session(m, NULL, 2);
    free(run(s, tokens, toy.n_vocab));
    assert_int_equal(trueno_session_profile(s, &p), TRUENO_OK);
    assert_int_equal(p.passes, 1 + N_TOKENS - N_PROMPT);
    assert_int_equal(p.tokens, N_TOKENS);
    assert_int_equal(p.decoded_tokens, N_TOKENS - N_PROMPT);
    uint64_t sum = 0;
    for (int i = 0; i < TRUENO_STAGE_COUNT; i++) {
        bool last = i == TRUENO_STAGE_COUNT - 1;
        assert_non_null(p.stages[i].name);
        assert_int_equal(p.stages[i].calls, p.passes * (last ? 1 : toy.n_layer));
        assert_true(p.stages[i].ns > 0);
        sum += p.stages[i].ns;
    }
    assert_string_equal(p.stages[TR_STAGE_DOWN].name, "down");
    assert_true(p.decode_ns > 0);
    double tps = 1e9 * (double)p.decoded_tokens / (double)p.decode_ns;
    assert_true(p.decode_tps > tps * 0.999999 && p.decode_tps < tps * 1.000001);
    trueno_session_free(s);

    trueno_session_options o = TRUENO_SESSION_OPTIONS_INIT;
    assert_int_equal(trueno_session_new(&s, m, &o, NULL), TRUENO_OK);
    assert_int_equal(trueno_session_profile(s, &p), TRUENO_ERR_NOT_MEASURED);
    assert_int_equal(p.passes, 0);
    assert_int_equal(trueno_session_profile(NULL, &p), TRUENO_ERR_ARGUMENT);
    trueno_session_free(s);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
}

/* STRICT evaluates with what is stored and with nothing else; a miss leaves the session as it was.
 */
static void test_strict(void **state)
{
    static uint8_t blob[1 << 20];
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    struct world w;
    size_t len;
    (void)state;
    begin(&w, TRUENO_TUNER_LEARN);
    bool rivals = tr_tuner_slot(w.t, &w.s->plan.kinds[0])->n_arms > 1;
    for (int i = 0; i < 400; i++) { /* one token alone, until all races are over */
        assert_int_equal(trueno_session_rewind(w.s, 0), TRUENO_OK);
        assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    }
    assert_int_equal(trueno_tuner_export(w.t, blob, sizeof blob, &len, TRUENO_STORE_BINARY, NULL),
                     TRUENO_OK);
    trueno_session_free(w.s);
    trueno_tuner_free(w.t);

    o.mode = TRUENO_TUNER_STRICT;
    o.blob = blob;
    o.blob_bytes = len;
    assert_int_equal(trueno_tuner_new(w.ctx, &w.t, &o, NULL), TRUENO_OK);
    uint64_t digest = trueno_tuner_digest(w.t);
    w.s = session(w.m, w.t, 1);
    assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    trueno_status status = trueno_session_eval(w.s, w.tokens, 5, TRUENO_LOGITS_LAST);
    assert_int_equal(status, rivals ? TRUENO_ERR_STRICT_MISS : TRUENO_OK);
    assert_int_equal(trueno_session_n_past(w.s), rivals ? 1 : 6);
    if (rivals) assert_non_null(strstr(trueno_session_last_error(w.s), "STRICT"));
    assert_int_equal(trueno_session_eval(w.s, w.tokens, 1, TRUENO_LOGITS_LAST), TRUENO_OK);
    assert_true(trueno_tuner_digest(w.t) == digest);
    end(&w);
}

/* A vocabulary of as many tokens as a layer has rows: the output matrix is a kind of its own, and
 * looked up by its own number of columns. */
static void test_output_kind(void **state)
{
    struct toy toy = a_toy(TRUENO_TYPE_Q8_0);
    struct world w;
    (void)state;
    toy.n_vocab = toy.n_embd;
    toy.n_head = toy.n_embd / toy.head_dim; /* q is as large as the output too */
    begin_toy(&w, toy, TRUENO_TUNER_FROZEN);
    const struct tr_plan *plan = &w.s->plan;
    for (uint32_t i = 0; i < toy.n_layer * TR_STAGE_COUNT; i++)
        assert_int_equal(plan->kind_of[i] == plan->output, i == TR_STAGE_OUTPUT);
    assert_int_equal(plan->kinds[plan->output].rows, toy.n_vocab);
    assert_int_equal(trueno_session_eval(w.s, w.tokens, 20, TRUENO_LOGITS_LAST), TRUENO_OK);
    assert_int_equal(plan->slots[plan->output]->problem.n_cols, 1);
    assert_int_equal(plan->slots[plan->kind_of[TR_STAGE_QKV]]->problem.n_cols, 20);
    end(&w);
}

/* A tuner of another context is refused: its kernels may not be allowed here. */
static void test_foreign_tuner(void **state)
{
    struct toy toy = a_toy(TRUENO_TYPE_Q8_0);
    trueno_session_options o = TRUENO_SESSION_OPTIONS_INIT;
    trueno_ctx *ctx, *other;
    trueno_session *s;
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    assert_int_equal(trueno_ctx_new(&other, NULL, NULL), TRUENO_OK);
    trueno_model *m = toy_load(ctx, &toy);
    o.tuner = tuner(other, TRUENO_TUNER_OFF);
    assert_int_equal(trueno_session_new(&s, m, &o, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "another context"));
    assert_null(s);
    o.struct_size = offsetof(trueno_session_options, tuner); /* of an older header */
    assert_int_equal(trueno_session_new(&s, m, &o, &err), TRUENO_OK);
    trueno_session_free(s);
    trueno_tuner_free(o.tuner);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
    trueno_ctx_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_logits),
        cmocka_unit_test(test_pick_is_what_runs),
        cmocka_unit_test(test_learns_in_passes),
        cmocka_unit_test(test_profile),
        cmocka_unit_test(test_foreign_tuner),
        cmocka_unit_test(test_strict),
        cmocka_unit_test(test_output_kind),
        cmocka_unit_test(test_threads_of_passes),
        cmocka_unit_test(test_most_passes_are_not_measured),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
