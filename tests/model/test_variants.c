/* SPDX-License-Identifier: MIT */
/* Models on every kernel that this machine can run: exact ones give the same logits bit for bit,
 * whichever is forced; reordered ones stay within rounding errors. */
#include "model/toy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model/weights.h"

enum { N = 140 }; /* more than what kernels of many columns ask for */

/* Logits of all tokens; `kernel`, if not NULL, is forced. */
static float *logits_with(const struct toy *t, const char *kernel, const trueno_token *tokens)
{
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    trueno_session_options so = TRUENO_SESSION_OPTIONS_INIT;
    trueno_ctx *ctx;
    trueno_session *s = NULL;
    trueno_error err = {TRUENO_OK, ""};
    size_t bytes = (size_t)N * t->n_vocab * sizeof(float);
    float *copy = malloc(bytes);

    co.kernels = kernel;
    so.n_ctx = so.n_logits = N;
    so.n_threads = 2;
    /* rounding to F16 would make much of the little by which reordered kernels differ */
    so.kv_type = t->type == TRUENO_TYPE_Q8_0 ? TRUENO_KV_F16 : TRUENO_KV_F32;
    assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
    trueno_model *m = toy_load(ctx, t);
    if (trueno_session_new(&s, m, &so, &err) != TRUENO_OK) fail_msg("%s", err.message);
    if (trueno_session_eval(s, tokens, N, TRUENO_LOGITS_ALL) != TRUENO_OK)
        fail_msg("%s", trueno_session_last_error(s));
    memcpy(copy, trueno_session_logits(s, 0), bytes);
    if (kernel && strncmp(kernel, "gemm", 4) == 0) {
        const struct tr_matrix *w = &m->layers[0].q;
        assert_string_equal(tr_matrix_kernel(w, N, w->rows)->name, kernel);
    }
    trueno_session_free(s);
    trueno_model_free(m);
    trueno_ctx_free(ctx);
    return copy;
}

/* True if a model of this type and architecture runs the kernel. */
static bool concerns(const struct tr_kernel *k, const struct toy *t)
{
    if (k->op == TR_OP_GEMM) return k->dtype == t->type;
    if (k->op == TR_OP_QUANTIZE)
        return tr_kernel_find(0, TR_OP_GEMM, t->type, TR_ACT_NONE)->act == k->act;
    return t->type == TRUENO_TYPE_F32 || t->type == TRUENO_TYPE_Q8_0; /* once per cache */
}

static void check_type(const char *arch, trueno_dtype type)
{
    struct toy t = toy_default(arch);
    trueno_token tokens[N];
    const struct tr_kernel *k;
    size_t n = (size_t)N * t.n_vocab;

    t.type = type;
    t.n_embd = 256; /* a multiple of every block */
    t.head_dim = 64;
    t.n_ff = 512;
    toy_tokens(tokens, N, t.n_vocab, 7);
    float *first = logits_with(&t, NULL, tokens);
    double *want = malloc(n * sizeof *want);
    for (size_t i = 0; i < n; i++) want[i] = (double)first[i];
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if (!concerns(k, &t)) continue;
        if ((k->cpu & ~trueno_cpu_features()) != 0 || (k->missing && k->missing())) {
            print_message("skipped: %s cannot run here\n", k->name);
            continue;
        }
        float *other = logits_with(&t, k->name, tokens);
        if (k->numerics == TR_EXACT)
            assert_memory_equal(first, other, n * sizeof *first);
        else if (!(toy_nmse(other, want, n) <= 1e-9)) /* each product adds its own 1e-11 */
            fail_msg("%s: NMSE %g", k->name, toy_nmse(other, want, n));
        free(other);
    }
    free(first);
    free(want);
}

static void test_every_variant(void **state)
{
    static const trueno_dtype types[] = {
        TRUENO_TYPE_Q4_0, TRUENO_TYPE_Q4_1, TRUENO_TYPE_Q5_0, TRUENO_TYPE_Q5_1,
        TRUENO_TYPE_Q8_0, TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q5_K, TRUENO_TYPE_Q6_K,
        TRUENO_TYPE_F32,  TRUENO_TYPE_F16,  TRUENO_TYPE_BF16,
    };
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) check_type("llama", types[i]);
    check_type("gemma3", TRUENO_TYPE_F32); /* GELU, RoPE by halves */
}

/* A bad name is refused by whoever binds first, the model. */
static void test_refusal(void **state)
{
    trueno_ctx_options co = TRUENO_CTX_OPTIONS_INIT;
    struct toy t = toy_default("llama");
    trueno_ctx *ctx;
    trueno_gguf_writer *w;
    trueno_model *m = NULL;
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    co.kernels = "nonsense";
    assert_int_equal(trueno_ctx_new(&ctx, &co, NULL), TRUENO_OK);
    trueno_gguf *g = toy_open(ctx, &t, &w);
    assert_int_equal(trueno_model_load(&m, g, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_null(m);
    assert_non_null(strstr(err.message, "'nonsense'"));
    trueno_gguf_free(g);
    trueno_gguf_writer_free(w);
    trueno_ctx_free(ctx);
}

int main(void)
{
    unsetenv("TRUENO_KERNEL");
    setenv("OPENBLAS_NUM_THREADS", "1", 1); /* else its kernels cannot run */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant),
        cmocka_unit_test(test_refusal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
