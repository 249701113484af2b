/* SPDX-License-Identifier: MIT */
/* The sampler against published stage results (each given with the rule it shows), the published
 * output of PCG32, and chi-square for the draw. */
#include "text/sampler_pcg32.h"
#include "trueno/sampler.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_ELEMENTS(a) (sizeof(a) / sizeof((a)[0]))

/* Every stage off, temperature 1. */
static const trueno_sampler_options OFF = {
    sizeof(trueno_sampler_options), 1.0F, 0, 1.0F, 0.0F, 1.0F, 0.0F, 0.0F, 64, 0};

static trueno_ctx *ctx;

static int make_ctx(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK;
}

static int free_ctx(void **state)
{
    (void)state;
    uint64_t now = 1;
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    return now != 0; /* a test leaked */
}

static trueno_sampler *new_sampler(uint32_t n_vocab, const trueno_sampler_options *o)
{
    trueno_sampler *s;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_sampler_new(ctx, &s, n_vocab, o, &err)) fail_msg("%s", err.message);
    return s;
}

static void check_falling(const trueno_candidate *c, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        bool falls =
            c[i].logit < c[i - 1].logit || (c[i].logit == c[i - 1].logit && c[i].id > c[i - 1].id);
        if (!falls) fail_msg("candidates %zu and %zu are out of order", i - 1, i);
    }
}

/* Runs the stages on logits ln(p[n]) after the given history; want[id] is the expected probability,
 * 0 meaning "may be cut". */
static void check_stage(const char *what, const trueno_sampler_options *o, const float *p,
                        uint32_t n, const trueno_token *history, size_t n_history,
                        const double *want)
{
    float logits[16];
    double got[16] = {0}, sum = 0;
    for (uint32_t i = 0; i < n; i++) logits[i] = logf(p[i]);
    trueno_sampler *s = new_sampler(n, o);
    for (size_t i = 0; i < n_history; i++)
        assert_int_equal(trueno_sampler_accept(s, history[i]), TRUENO_OK);
    const trueno_candidate *c;
    size_t kept;
    assert_int_equal(trueno_sampler_distribution(s, &c, &kept, logits), TRUENO_OK);
    check_falling(c, kept);
    for (size_t i = 0; i < kept; i++) {
        got[c[i].id] = (double)c[i].p;
        sum += (double)c[i].p;
    }
    if (!(fabs(sum - 1) <= 1e-5)) fail_msg("%s: probabilities sum to %g", what, sum);
    for (uint32_t i = 0; i < n; i++) {
        if (!(fabs(got[i] - want[i]) <= 1e-5))
            fail_msg("%s: p[%u] is %g, expected %g", what, i, got[i], want[i]);
        bool cut = want[i] == 0 && n_history == 0; /* cut tokens are not listed at all */
        if (cut && got[i] != 0) fail_msg("%s: token %u should have been cut", what, i);
    }
    trueno_sampler_free(s);
}

static const float P4[4] = {0.1F, 0.2F, 0.3F, 0.4F};

static void test_temperature(void **state)
{
    (void)state;
    trueno_sampler_options o = OFF;
    check_stage("temp 1", &o, P4, 4, NULL, 0, (double[]){.1, .2, .3, .4});
    o.temperature = 0;
    check_stage("temp 0", &o, P4, 4, NULL, 0, (double[]){0, 0, 0, 1});
    o.temperature = -1;
    check_stage("temp -1", &o, P4, 4, NULL, 0, (double[]){0, 0, 0, 1});
    /* algebra: at temperature 1/2 the probabilities are the squares .01 .04 .09 .16, of sum .3 */
    o.temperature = 0.5F;
    check_stage("temp .5", &o, P4, 4, NULL, 0, (double[]){1. / 30, 4. / 30, 9. / 30, 16. / 30});
    /* and at 1e-30 all but the largest vanish, without NaN */
    o.temperature = 1e-30F;
    check_stage("temp 1e-30", &o, P4, 4, NULL, 0, (double[]){1e-30, 1e-30, 1e-30, 1});
}

static void test_top_k(void **state)
{
    (void)state;
    static const struct {
        int32_t k;
        double want[4];
    } rows[] = {{1, {0, 0, 0, 1}},       {3, {0, .22222, .33333, .44444}}, {4, {.1, .2, .3, .4}},
                {0, {.1, .2, .3, .4}},   {2, {0, 0, 3. / 7, 4. / 7}},      {-1, {.1, .2, .3, .4}},
                {1000, {.1, .2, .3, .4}}};
    for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
        trueno_sampler_options o = OFF;
        o.top_k = rows[i].k;
        check_stage("top-k", &o, P4, 4, NULL, 0, rows[i].want);
    }
}

static void test_top_p(void **state)
{
    (void)state;
    static const struct {
        float p;
        double want[4];
    } rows[] = {{0, {0, 0, 0, 1}},
                {.7F, {0, 0, .428571, .571429}},
                {.8F, {0, .22222, .33333, .44444}},
                {1, {.1, .2, .3, .4}},
                {-3, {0, 0, 0, 1}},
                {2, {.1, .2, .3, .4}}};
    for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
        trueno_sampler_options o = OFF;
        o.top_p = rows[i].p;
        check_stage("top-p", &o, P4, 4, NULL, 0, rows[i].want);
        o.top_k = 4; /* the other way of selecting: same result */
        check_stage("top-p of top-k 4", &o, P4, 4, NULL, 0, rows[i].want);
    }
}

static void test_min_p(void **state)
{
    (void)state;
    static const struct {
        float p;
        double want[4];
    } rows[] = {{0, {.1, .2, .3, .4}},
                {.24F, {.1, .2, .3, .4}},
                {.26F, {0, .22222, .33333, .44444}},
                {.49F, {0, .22222, .33333, .44444}},
                {.51F, {0, 0, .428571, .571429}},
                {.74F, {0, 0, .428571, .571429}},
                {.76F, {0, 0, 0, 1}},
                {1, {0, 0, 0, 1}},
                {1.05F, {0, 0, 0, 1}}};
    for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
        trueno_sampler_options o = OFF;
        o.min_p = rows[i].p;
        check_stage("min-p", &o, P4, 4, NULL, 0, rows[i].want);
        o.top_k = 4;
        check_stage("min-p of top-k 4", &o, P4, 4, NULL, 0, rows[i].want);
    }
}

static void test_penalties(void **state)
{
    (void)state;
    static const trueno_token history[] = {0, 1, 2, 0, 0};
    static const struct {
        bool repeat;
        size_t n_history;
        double want[5];
    } rows[] = {{true, 1, {0, .25, .25, .25, .25}},
                {true, 3, {0, 0, 0, .5, .5}},
                {true, 5, {0, 0, 0, .5, .5}},
                {false, 1, {.000011, .249997, .249997, .249997, .249997}},
                {false, 3, {.000023, .000023, .000023, .499966, .499966}},
                {false, 5, {.000000, .000023, .000023, .499977, .499977}}};
    static const float p5[5] = {.2F, .2F, .2F, .2F, .2F};
    for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
        trueno_sampler_options o = OFF;
        if (rows[i].repeat)
            o.repeat_penalty = 50;
        else
            o.frequency_penalty = o.presence_penalty = 5;
        check_stage(rows[i].repeat ? "repeat" : "frequency and presence", &o, p5, 5, history,
                    rows[i].n_history, rows[i].want);
        o.penalty_last_n = 0;
        check_stage("last_n 0", &o, p5, 5, history, rows[i].n_history,
                    (double[]){.2, .2, .2, .2, .2});
    }
}

/* A positive logit is divided by the repetition penalty, a negative one multiplied. */
static void test_penalty_sign(void **state)
{
    (void)state;
    trueno_sampler_options o = OFF;
    o.repeat_penalty = 2;
    trueno_sampler *s = new_sampler(3, &o);
    trueno_sampler_accept(s, 0);
    trueno_sampler_accept(s, 1);
    const float logits[3] = {4, -4, 0};
    const trueno_candidate *c;
    size_t n;
    assert_int_equal(trueno_sampler_distribution(s, &c, &n, logits), TRUENO_OK);
    assert_int_equal(n, 3);
    assert_int_equal(c[0].id, 0);
    assert_true(c[0].logit == 2.0F);
    assert_int_equal(c[2].id, 1);
    assert_true(c[2].logit == -8.0F);
    trueno_sampler_free(s);
}

/* Survivors of stages in our order on logits ln(i), i = 0..9999 (so the logit of 0 is -infinity).
 */
static void test_queue(void **state)
{
    (void)state;
    static const struct {
        int32_t k;
        float p, m;
        size_t want;
    } rows[] = {{100, 1, 0, 100},
                {0, .8F, 0, 5528},
                {0, 1, .1F, 9000},
                {0, .0002F, 0, 1},
                {0, 1, (float)(9997.9 / 9999), 2},
                {1, 1, 0, 1},
                {0, 0, 0, 1},
                {100, .8F, 0, 80},
                {100, 1, .1F, 100},
                {0, .8F, .1F, 5528},
                {100, .8F, .1F, 80},
                {10000, .8F, .1F, 5528},
                {0, 1, 0, 9999} /* all that can be chosen */};
    enum { N = 10000 };
    float *logits = malloc(N * sizeof(*logits));
    assert_non_null(logits);
    for (int i = 0; i < N; i++) logits[i] = logf((float)i);
    for (size_t i = 0; i < N_ELEMENTS(rows); i++) {
        trueno_sampler_options o = OFF;
        o.top_k = rows[i].k;
        o.top_p = rows[i].p;
        o.min_p = rows[i].m;
        trueno_sampler *s = new_sampler(N, &o);
        const trueno_candidate *c;
        size_t n;
        assert_int_equal(trueno_sampler_distribution(s, &c, &n, logits), TRUENO_OK);
        if (n != rows[i].want) fail_msg("row %zu: %zu survive, expected %zu", i, n, rows[i].want);
        for (size_t j = 0; j < n; j++) assert_int_equal(c[j].id, N - 1 - (int)j);
        trueno_sampler_free(s);
    }
    free(logits);
}

static int falling(const void *a, const void *b)
{
    const trueno_candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit < y->logit ? 1 : -1;
    return x->id - y->id;
}

/* The selection against a full sort by the C library, on shuffled logits with many ties. */
static void test_selection(void **state)
{
    (void)state;
    enum { N = 5000 };
    float logits[N];
    static trueno_candidate sorted[N];
    struct tr_pcg32 rng;
    tr_pcg32_seed(&rng, 7, 7);
    for (int i = 0; i < N; i++) {
        logits[i] = (float)(tr_pcg32_next(&rng) % 700) * 0.01F;
        sorted[i] = (trueno_candidate){i, logits[i], 0};
    }
    qsort(sorted, N, sizeof(sorted[0]), falling);
    static const int32_t ks[] = {1, 2, 3, 40, 255, 256, 257, 2048, 4999, 5000, 0};
    for (size_t i = 0; i < N_ELEMENTS(ks); i++) {
        trueno_sampler_options o = OFF;
        o.top_k = ks[i];
        trueno_sampler *s = new_sampler(N, &o);
        const trueno_candidate *c;
        size_t n;
        assert_int_equal(trueno_sampler_distribution(s, &c, &n, logits), TRUENO_OK);
        assert_int_equal(n, ks[i] ? ks[i] : N);
        for (size_t j = 0; j < n; j++) assert_int_equal(c[j].id, sorted[j].id);
        trueno_sampler_free(s);
    }
}

/* First output of the pcg32-demo program of the reference implementation (seed 42, stream 54). */
static void test_pcg32(void **state)
{
    (void)state;
    static const uint32_t want[] = {0xa15c02b7, 0x7b47f409, 0xba1d3330,
                                    0x83d2f293, 0xbfa4784b, 0xcbed606e};
    struct tr_pcg32 g;
    tr_pcg32_seed(&g, 42, 54);
    for (size_t i = 0; i < N_ELEMENTS(want); i++) assert_int_equal(tr_pcg32_next(&g), want[i]);
}

/* One draw a token, stream 1, through the candidates in falling order: the header's promise that a
 * seed gives the same text everywhere, computed here from the rule. `truncated`: top-k keeps all,
 * so that the stages run; without it nothing is cut and only the front is put in order. */
static void check_draws(uint32_t n_vocab, float step, bool truncated)
{
    float *logits = malloc(n_vocab * sizeof(*logits));
    double *cum = malloc(n_vocab * sizeof(*cum)), total = 0;
    assert_true(logits && cum);
    for (uint32_t i = 0; i < n_vocab; i++) logits[i] = (float)i * step;
    for (uint32_t i = 0; i < n_vocab; i++) /* rank i is id n_vocab-1-i */
        cum[i] = total += exp((double)logits[n_vocab - 1 - i] - (double)logits[n_vocab - 1]);
    trueno_sampler_options o = OFF;
    o.seed = 123456789012345ULL;
    o.top_k = truncated ? INT32_MAX : 0;
    trueno_sampler *s = new_sampler(n_vocab, &o);
    struct tr_pcg32 g;
    tr_pcg32_seed(&g, o.seed, 1);
    uint32_t deepest = 0;
    for (int i = 0; i < 1000; i++) {
        double target = tr_pcg32_next(&g) / 4294967296.0 * total;
        uint32_t rank = 0;
        while (rank + 1 < n_vocab && target >= cum[rank]) rank++;
        bool near = fabs(target - cum[rank]) < 1e-6 * total ||
                    (rank > 0 && fabs(target - cum[rank - 1]) < 1e-6 * total);
        trueno_token got;
        assert_int_equal(trueno_sampler_sample(s, &got, logits), TRUENO_OK);
        if (!near) assert_int_equal(got, n_vocab - 1 - rank);
        if (rank > deepest) deepest = rank;
    }
    assert_true(deepest >= n_vocab * 3 / 4); /* the whole range was drawn from */
    trueno_sampler_free(s);
    free(logits);
    free(cum);
}

static void test_draw_rule(void **state)
{
    (void)state;
    for (int truncated = 0; truncated < 2; truncated++) {
        check_draws(4, 0.5F, truncated);
        check_draws(256, 0.01F, truncated);
        check_draws(3000, 0.001F, truncated);
    }
}

static void test_chi_square(void **state)
{
    (void)state;
    enum { N = 200000 };
    trueno_sampler_options o = OFF;
    o.seed = 2024;
    o.temperature = 0.5F;
    trueno_sampler *s = new_sampler(4, &o);
    float logits[4];
    int count[4] = {0};
    for (int i = 0; i < 4; i++) logits[i] = logf(P4[i]);
    for (int i = 0; i < N; i++) {
        trueno_token id;
        assert_int_equal(trueno_sampler_sample(s, &id, logits), TRUENO_OK);
        count[id]++;
    }
    double chi2 = 0;
    for (int i = 0; i < 4; i++) {
        double expect = N * (i + 1.0) * (i + 1.0) / 30;
        chi2 += (count[i] - expect) * (count[i] - expect) / expect;
    }
    /* 3 degrees of freedom: 0.1 % lies above 16.27, and 0.1 % below 0.0243 */
    if (!(chi2 < 16.27 && chi2 > 0.0243)) fail_msg("chi-square %g", chi2);
    trueno_sampler_free(s);
}

static void test_ties(void **state)
{
    (void)state;
    float logits[300];
    for (int i = 0; i < 300; i++) logits[i] = i == 17 || i == 203 || i == 204 ? 2.0F : 1.0F;
    trueno_sampler_options o = OFF;
    o.temperature = 0;
    trueno_sampler *greedy = new_sampler(300, &o);
    trueno_token id;
    assert_int_equal(trueno_sampler_sample(greedy, &id, logits), TRUENO_OK);
    assert_int_equal(id, 17);
    o.temperature = 1;
    o.top_k = 5;
    trueno_sampler *top = new_sampler(300, &o);
    const trueno_candidate *c;
    size_t n;
    assert_int_equal(trueno_sampler_distribution(top, &c, &n, logits), TRUENO_OK);
    static const trueno_token want[] = {17, 203, 204, 0, 1};
    assert_int_equal(n, 5);
    for (size_t i = 0; i < 5; i++) assert_int_equal(c[i].id, want[i]);
    trueno_sampler_free(greedy);
    trueno_sampler_free(top);
}

/* Bad logits give a status and change nothing: the next token is that of an undisturbed sampler. */
static void test_bad_logits(void **state)
{
    (void)state;
    static const float bad[] = {NAN, -NAN, INFINITY};
    for (int mode = 0; mode < 4; mode++) {
        trueno_sampler_options o = OFF;
        o.repeat_penalty = 1.5F;
        o.temperature = mode == 0 ? 0 : 1;
        o.top_k = mode == 1 ? 2 : 0;
        o.top_p = mode == 2 ? 0.9F : 1;
        trueno_sampler *s = new_sampler(4, &o), *clean = new_sampler(4, &o);
        const trueno_candidate *c;
        size_t n;
        trueno_token id, other;
        float logits[4] = {0, .5F, .25F, .5F};
        trueno_sampler_accept(s, 3);
        trueno_sampler_accept(clean, 3);
        for (size_t b = 0; b < N_ELEMENTS(bad); b++) {
            for (int at = 0; at < 4; at++) {
                float keep = logits[at];
                logits[at] = bad[b];
                assert_int_equal(trueno_sampler_sample(s, &id, logits), TRUENO_ERR_NUMERIC);
                assert_int_equal(id, TRUENO_TOKEN_NONE);
                assert_int_equal(trueno_sampler_distribution(s, &c, &n, logits),
                                 TRUENO_ERR_NUMERIC);
                assert_null(c);
                assert_int_equal(n, 0);
                logits[at] = keep;
            }
        }
        const float none[4] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        assert_int_equal(trueno_sampler_sample(s, &id, none), TRUENO_ERR_NUMERIC);
        for (int i = 0; i < 50; i++) {
            assert_int_equal(trueno_sampler_sample(s, &id, logits), TRUENO_OK);
            assert_int_equal(trueno_sampler_sample(clean, &other, logits), TRUENO_OK);
            assert_int_equal(id, other);
        }
        trueno_sampler_free(s);
        trueno_sampler_free(clean);
    }
}

/* A token with logit -infinity is never chosen, and huge logits are harmless. */
static void test_extreme_logits(void **state)
{
    (void)state;
    for (int32_t k = 0; k < 4; k++) {
        trueno_sampler_options o = OFF;
        o.top_k = k;
        o.repeat_penalty = 1e-30F; /* would overflow a float */
        trueno_sampler *s = new_sampler(4, &o);
        const float logits[4] = {-INFINITY, 3e38F, -INFINITY, -3e38F};
        for (int i = 0; i < 20; i++) {
            trueno_token id;
            assert_int_equal(trueno_sampler_sample(s, &id, logits), TRUENO_OK);
            assert_int_equal(id, 1);
        }
        const float banned[4] = {-INFINITY, -INFINITY, 1, -INFINITY};
        const trueno_candidate *c;
        size_t n;
        assert_int_equal(trueno_sampler_distribution(s, &c, &n, banned), TRUENO_OK);
        assert_int_equal(n, 1);
        assert_int_equal(c[0].id, 2);
        assert_true(c[0].p == 1.0F);
        trueno_sampler_free(s);
    }
}

/* "Seen" looks back exactly penalty_last_n tokens, prompt tokens included. */
static void test_window(void **state)
{
    (void)state;
    trueno_sampler_options o = OFF;
    o.presence_penalty = 1;
    o.penalty_last_n = 3;
    o.temperature = 0;
    trueno_sampler *s = new_sampler(10, &o);
    float logits[10] = {0};
    /* presence 1 on equal logits: greedy takes the lowest id outside the last three */
    static const trueno_token want[] = {0, 1, 2, 3, 0, 1, 2, 3, 0};
    for (size_t i = 0; i < N_ELEMENTS(want); i++) {
        trueno_token id;
        assert_int_equal(trueno_sampler_sample(s, &id, logits), TRUENO_OK);
        assert_int_equal(id, want[i]);
    }
    for (int i = 0; i < 3; i++) assert_int_equal(trueno_sampler_accept(s, 9), TRUENO_OK);
    trueno_token id;
    assert_int_equal(trueno_sampler_sample(s, &id, logits), TRUENO_OK);
    assert_int_equal(id, 0);
    assert_int_equal(trueno_sampler_accept(s, -1), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_accept(s, 10), TRUENO_ERR_ARGUMENT);
    trueno_sampler_free(s);
}

static void run(trueno_sampler *s, trueno_token *ids, size_t n)
{
    const float logits[6] = {.1F, .5F, .9F, .3F, .2F, 0};
    for (size_t i = 0; i < n; i++)
        assert_int_equal(trueno_sampler_sample(s, &ids[i], logits), TRUENO_OK);
}

static void test_clone_and_reset(void **state)
{
    (void)state;
    enum { N = 200 };
    trueno_sampler_options o = OFF;
    o.frequency_penalty = .2F;
    o.seed = 99;
    trueno_sampler *s = new_sampler(6, &o), *c;
    trueno_token first[N], second[N], copy[N], again[N];
    run(s, first, N);
    assert_int_equal(trueno_sampler_clone(s, &c), TRUENO_OK);
    run(s, second, N);
    run(c, copy, N);
    assert_memory_equal(second, copy, sizeof(copy));
    assert_memory_not_equal(first, second, sizeof(first));
    trueno_sampler_reset(s);
    run(s, again, N);
    assert_memory_equal(first, again, sizeof(first));
    trueno_sampler_free(s);
    run(c, copy, N); /* outlives its original */
    trueno_sampler_free(c);
    o.seed = 100;
    s = new_sampler(6, &o);
    run(s, again, N);
    assert_memory_not_equal(first, again, sizeof(first));
    trueno_sampler_free(s);
}

static void check_refused(const trueno_sampler_options *o, const char *field)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_sampler *s = (trueno_sampler *)&err;
    assert_int_equal(trueno_sampler_new(ctx, &s, 10, o, &err), TRUENO_ERR_ARGUMENT);
    assert_null(s);
    assert_int_equal(err.status, TRUENO_ERR_ARGUMENT);
    if (!strstr(err.message, field)) fail_msg("\"%s\" does not name %s", err.message, field);
    assert_int_equal(trueno_sampler_new(ctx, &s, 10, o, NULL), TRUENO_ERR_ARGUMENT);
}

static void test_options(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t offset;
    } floats[] = {
        {"temperature", offsetof(trueno_sampler_options, temperature)},
        {"top_p", offsetof(trueno_sampler_options, top_p)},
        {"min_p", offsetof(trueno_sampler_options, min_p)},
        {"repeat_penalty", offsetof(trueno_sampler_options, repeat_penalty)},
        {"frequency_penalty", offsetof(trueno_sampler_options, frequency_penalty)},
        {"presence_penalty", offsetof(trueno_sampler_options, presence_penalty)},
    };
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < N_ELEMENTS(floats); i++) {
        for (size_t j = 0; j < N_ELEMENTS(bad); j++) {
            trueno_sampler_options o = OFF;
            memcpy((char *)&o + floats[i].offset, &bad[j], sizeof(float));
            check_refused(&o, floats[i].name);
        }
    }
    trueno_sampler_options o = OFF;
    o.repeat_penalty = 0;
    check_refused(&o, "repeat_penalty");
    o = OFF;
    o.penalty_last_n = -1;
    check_refused(&o, "penalty_last_n");
    o.penalty_last_n = 65537;
    check_refused(&o, "65536");
    o = OFF;
    o.struct_size = 8;
    check_refused(&o, "struct_size");
}

static void test_arguments(void **state)
{
    (void)state;
    trueno_sampler *s;
    trueno_token id;
    const trueno_candidate *c;
    size_t n;
    const float logits[2] = {0, 1};
    trueno_error err;
    assert_int_equal(trueno_sampler_new(NULL, &s, 2, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_new(ctx, NULL, 2, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_new(ctx, &s, 0, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_new(ctx, &s, 0x80000000U, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_new(ctx, &s, 2, NULL, &err), TRUENO_OK);
    assert_int_equal(trueno_sampler_sample(s, NULL, logits), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_sample(s, &id, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_sample(NULL, &id, logits), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_distribution(s, NULL, &n, logits), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_distribution(s, &c, NULL, logits), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_distribution(s, &c, &n, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_accept(NULL, 0), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_sampler_clone(s, NULL), TRUENO_ERR_ARGUMENT);
    trueno_sampler *copy = s;
    assert_int_equal(trueno_sampler_clone(NULL, &copy), TRUENO_ERR_ARGUMENT);
    assert_null(copy);
    trueno_sampler_reset(NULL);
    trueno_sampler_free(NULL);
    trueno_sampler_free(s);
}

/* An allocator that refuses its (n+1)-th call. */
struct failing {
    int allowed;
    int live;
};

static void *fail_alloc(void *user, size_t size)
{
    struct failing *f = user;
    if (f->allowed-- <= 0) return NULL;
    void *p = malloc(size);
    f->live += p != NULL;
    return p;
}

static void *fail_realloc(void *user, void *ptr, size_t size)
{
    if (!ptr) return fail_alloc(user, size);
    return ((struct failing *)user)->allowed-- <= 0 ? NULL : realloc(ptr, size);
}

static void fail_free(void *user, void *ptr)
{
    ((struct failing *)user)->live -= ptr != NULL;
    free(ptr);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct failing f = {1000, 0};
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    co.allocator = (trueno_allocator){fail_alloc, fail_realloc, fail_free, &f};
    trueno_ctx *c;
    assert_int_equal(trueno_ctx_new(&c, &co, NULL), TRUENO_OK);
    int base = f.live;
    trueno_sampler_options o = OFF;
    o.repeat_penalty = 2;
    int refused = 0;
    trueno_sampler *s = NULL, *copy = NULL;
    for (int n = 0;; n++, refused++) {
        trueno_error err = {TRUENO_OK, ""};
        f.allowed = n;
        trueno_status st = trueno_sampler_new(c, &s, 100, &o, &err);
        if (!st) break;
        assert_int_equal(st, TRUENO_ERR_NO_MEMORY);
        assert_int_equal(err.status, TRUENO_ERR_NO_MEMORY);
        assert_null(s);
        assert_int_equal(f.live, base);
    }
    assert_true(refused >= 4);
    int with_one = f.live;
    for (int n = 0; n < refused; n++) {
        f.allowed = n;
        assert_int_equal(trueno_sampler_clone(s, &copy), TRUENO_ERR_NO_MEMORY);
        assert_null(copy);
        assert_int_equal(f.live, with_one);
    }
    trueno_ctx_free(c); /* the sampler still holds it */
    f.allowed = 0;      /* and sampling allocates nothing */
    float logits[100] = {0};
    trueno_token id;
    assert_int_equal(trueno_sampler_sample(s, &id, logits), TRUENO_OK);
    trueno_sampler_free(s);
    assert_int_equal(f.live, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_temperature), cmocka_unit_test(test_top_k),
        cmocka_unit_test(test_top_p),       cmocka_unit_test(test_min_p),
        cmocka_unit_test(test_penalties),   cmocka_unit_test(test_penalty_sign),
        cmocka_unit_test(test_queue),       cmocka_unit_test(test_selection),
        cmocka_unit_test(test_pcg32),       cmocka_unit_test(test_draw_rule),
        cmocka_unit_test(test_chi_square),  cmocka_unit_test(test_ties),
        cmocka_unit_test(test_bad_logits),  cmocka_unit_test(test_extreme_logits),
        cmocka_unit_test(test_window),      cmocka_unit_test(test_clone_and_reset),
        cmocka_unit_test(test_options),     cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, make_ctx, free_ctx);
}
