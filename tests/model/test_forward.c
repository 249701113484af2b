/* SPDX-License-Identifier: MIT */
/* Logits of toy models of every architecture against the double-precision model in oracle.c. */
#include "model/oracle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N = 60 };

/* NMSE of all logits of N tokens, evaluated in batches of 13, against the oracle; `each` (or NULL):
 * of every token. */
static double compare(const struct toy *t, trueno_kv_type kv, uint32_t n_ctx, double each[N])
{
    trueno_ctx *ctx;
    trueno_gguf_writer *w;
    trueno_error err = {TRUENO_OK, ""};
    trueno_model *m = NULL;
    trueno_session *s = NULL;
    trueno_session_options so = TRUENO_SESSION_OPTIONS_INIT;
    trueno_token tokens[N];

    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    trueno_gguf *g = toy_open(ctx, t, &w);
    if (trueno_model_load(&m, g, NULL, &err) != TRUENO_OK) fail_msg("%s", err.message);
    so.n_ctx = n_ctx;
    so.n_batch = 13;
    so.n_logits = N;
    so.n_threads = 2;
    so.kv_type = kv;
    if (trueno_session_new(&s, m, &so, &err) != TRUENO_OK) fail_msg("%s", err.message);
    toy_tokens(tokens, N, t->n_vocab, 7);
    if (trueno_session_eval(s, tokens, N, TRUENO_LOGITS_ALL) != TRUENO_OK)
        fail_msg("%s", trueno_session_last_error(s));
    double *expected = oracle_logits(g, t, tokens, N, n_ctx);
    double nmse = toy_nmse(trueno_session_logits(s, 0), expected, (size_t)N * t->n_vocab);
    for (size_t i = 0; each != NULL && i < N; i++)
        each[i] =
            toy_nmse(trueno_session_logits(s, (ptrdiff_t)i), expected + i * t->n_vocab, t->n_vocab);
    free(expected);
    trueno_session_free(s);
    trueno_model_free(m);
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
    return nmse;
}

static const char *const kv_names[] = {"F16", "F32", "BF16", "Q8_0"}; /* by trueno_kv_type */

static void expect(const struct toy *t, trueno_kv_type kv, uint32_t n_ctx, double limit)
{
    double nmse = compare(t, kv, n_ctx, NULL);
    print_message("%-7s rope %-9s tied %d window %2u kv %s: NMSE %.2e (limit %.0e)\n", t->arch,
                  t->rope ? t->rope : "-", t->tied, t->window, kv_names[kv], nmse, limit);
    if (!(nmse <= limit)) fail_msg("NMSE %.3e is above %.0e", nmse, limit);
}

static void every_architecture_in_f32(void **state)
{
    (void)state;
    for (size_t i = 0; toy_arch(i) != NULL; i++) {
        struct toy t = toy_default(toy_arch(i));
        expect(&t, TRUENO_KV_F32, 512, 1e-10);
        expect(&t, TRUENO_KV_F16, 512, 1e-6);
        t.tied = !t.tied;
        expect(&t, TRUENO_KV_F32, 512, 1e-10);
    }
}

/* What rounding keys and values costs, in squared error over squared size, for numbers without a
 * preferred mantissa: a float of b bits is off by up to u = 2^-b of its leading power of two, u^2/3
 * on average, and its square is 2.2 times the square of that power: 4e-8 for F16 (b = 11), 2e-6 for
 * BF16 (b = 8). In Q8_0 a step is 1/127 of the largest of 32, which for Gaussian numbers is 2.4
 * times their deviation, and the error 1/12 of its square: 3e-5.
 * Rounded values are averaged as values are, so they bring just that to a branch's output. Rounded
 * keys shift a score by that share of its size, so the output by that times the scores' variance,
 * up to 3 here. The branch is added to a residual stream no smaller than it, and layers' errors add
 * up: 3 layers times (1 + 3). (gemma3 has 13, but windows of 16 and a larger residual stream.)
 */
static void rounded_caches(void **state)
{
    static const struct {
        trueno_kv_type kv;
        double rounding;
    } types[] = {{TRUENO_KV_F16, 4e-8}, {TRUENO_KV_BF16, 2e-6}, {TRUENO_KV_Q8_0, 3e-5}};
    (void)state;
    for (size_t i = 0; toy_arch(i) != NULL; i++) {
        struct toy t = toy_default(toy_arch(i));
        t.head_dim = 64;
        for (size_t k = 0; k < 3; k++) expect(&t, types[k].kv, 512, 12 * types[k].rounding);
    }
}

static void every_rope_scaling(void **state)
{
    static const char *const kinds[] = {"linear", "yarn", "llama3", "longrope"};
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        struct toy t = toy_default(i == 3 ? "phi3" : "llama");
        t.rope = kinds[i];
        expect(&t, TRUENO_KV_F32, 512, 1e-10);
        if (i == 3) expect(&t, TRUENO_KV_F32, 64, 1e-10); /* short factors */
    }
    struct toy t = toy_default("gemma3");
    t.rope = "linear"; /* global layers only */
    expect(&t, TRUENO_KV_F32, 512, 1e-10);
}

static void windows_caps_and_biases(void **state)
{
    (void)state;
    struct toy t = toy_default("phi3");
    t.window = 0;
    expect(&t, TRUENO_KV_F32, 512, 1e-10);
    t = toy_default("gemma3");
    t.attn_cap = 5;
    t.final_cap = 3;
    expect(&t, TRUENO_KV_F32, 512, 1e-10);
    t = toy_default("llama");
    t.attn_bias = true;
    t.head_array = true;
    expect(&t, TRUENO_KV_F32, 512, 1e-10);
    t = toy_default("qwen3");
    t.n_head_kv = 1;
    expect(&t, TRUENO_KV_F32, 512, 1e-10);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Quantised weights: the oracle sees the same dequantised weights and rounds activations to the
 * same int8 grid. Where float rounding moves an activation across an edge between two steps of that
 * grid, a token differs visibly; most tokens have no such activation in one layer, so the median
 * token tells whether the arithmetic is right. */
static void quantised_weights(void **state)
{
    static const trueno_dtype types[] = {
        TRUENO_TYPE_F16,  TRUENO_TYPE_BF16, TRUENO_TYPE_Q8_0, TRUENO_TYPE_Q4_0, TRUENO_TYPE_Q4_1,
        TRUENO_TYPE_Q5_0, TRUENO_TYPE_Q5_1, TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q5_K, TRUENO_TYPE_Q6_K};
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct toy t = toy_default("llama");
        t.type = types[i];
        t.n_embd = 256;
        t.head_dim = 64;
        t.n_ff = 512;
        t.n_layer = 1;
        double nmse[N];
        (void)compare(&t, TRUENO_KV_F32, 512, nmse);
        qsort(nmse, N, sizeof nmse[0], by_value);
        print_message("%s: NMSE of a token: median %.2e, worst %.2e\n",
                      trueno_dtype_get_info(types[i])->name, nmse[N / 2], nmse[N - 1]);
        assert_true(nmse[N / 2] <= 1e-10);
        assert_true(nmse[N - 1] <= 1e-3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_architecture_in_f32), cmocka_unit_test(rounded_caches),
        cmocka_unit_test(every_rope_scaling),        cmocka_unit_test(windows_caps_and_biases),
        cmocka_unit_test(quantised_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
