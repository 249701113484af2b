/* SPDX-License-Identifier: MIT */
/* Problems, the contexts they fall into, and the kernels that compete for them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "trueno/kernels.h"
#include "tuner/context.h"

static trueno_problem problem(void)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.rows = 5632;
    p.cols = 2048;
    p.threads = 2;
    return p;
}

static void test_buckets(void **state)
{
    /* from the text of choice.h */
    static const uint32_t edges[] = {24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024};
    (void)state;
    for (uint32_t m = 1; m <= 16; m++) {
        assert_int_equal(tr_m_bucket(m), m - 1);
        assert_int_equal(tr_m_bucket_edge(m - 1), m);
    }
    for (uint32_t i = 0; i < 11; i++) {
        assert_int_equal(tr_m_bucket(edges[i]), 16 + i);
        assert_int_equal(tr_m_bucket(edges[i] + 1), 17 + i);
        assert_int_equal(tr_m_bucket_edge(16 + i), edges[i]);
    }
    assert_int_equal(tr_m_bucket(UINT32_MAX), TR_M_BUCKETS - 1);
    assert_true(tr_m_bucket_edge(TR_M_BUCKETS - 1) == UINT32_MAX);
}

/* Every field makes another context, but columns only by bucket. */
static void test_contexts(void **state)
{
    trueno_problem p = problem(), q[7];
    uint64_t key = trueno_problem_context(&p);
    (void)state;
    assert_true(key != 0);
    for (int i = 0; i < 7; i++) q[i] = p;
    q[0].type = TRUENO_TYPE_Q6_K;
    q[1].n_cols = 2;
    q[2].rows++;
    q[3].cols += 256;
    q[4].threads = 1;
    q[5].phase = TRUENO_PHASE_PREFILL;
    q[6].rows = p.cols;
    q[6].cols = 5632;
    for (int i = 0; i < 7; i++) {
        assert_true(trueno_problem_context(&q[i]) != key);
        for (int j = 0; j < i; j++)
            assert_true(trueno_problem_context(&q[i]) != trueno_problem_context(&q[j]));
    }
    q[0] = q[1] = p;
    q[0].n_cols = 257;
    q[1].n_cols = 384;
    assert_true(trueno_problem_context(&q[0]) == trueno_problem_context(&q[1]));
}

/* Store files hold these numbers. */
static void test_frozen_context(void **state)
{
    trueno_problem p = problem();
    (void)state;
    /* by an independent script: splitmix64's finaliser over the fields */
    assert_true(trueno_problem_context(&p) == UINT64_C(0x1ad06df57da14d35));
}

static void test_refused(void **state)
{
    trueno_problem p = problem();
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    assert_int_equal(trueno_problem_context(NULL), 0);
    p.cols = 100;
    assert_int_equal(trueno_problem_context(&p), 0);
    assert_int_equal(tr_problem_check(&p, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "cols is 100"));
    p = problem();
    p.n_cols = 0;
    assert_int_equal(trueno_problem_context(&p), 0);
    p = problem();
    p.rows = 0;
    assert_int_equal(trueno_problem_context(&p), 0);
    p = problem();
    p.threads = 0;
    assert_int_equal(trueno_problem_context(&p), 0);
    p = problem();
    p.phase = TRUENO_PHASE_AUTO;
    assert_int_equal(trueno_problem_context(&p), 0);
    p = problem();
    p.type = TRUENO_TYPE_COUNT;
    assert_int_equal(trueno_problem_context(&p), 0);
    p = problem();
    p.struct_size = 1;
    assert_int_equal(trueno_problem_context(&p), 0);
}

static void test_of_features(void **state)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_problem p;
    (void)state;
    assert_int_equal(tr_problem_of(&p, &f, NULL), TRUENO_ERR_INVALID_FEATURE);
    f.model_params_b = 1.1; /* the geometry of TinyLlama */
    f.batch_size = 4;
    f.cpu_threads = 3;
    assert_int_equal(tr_problem_of(&p, &f, NULL), TRUENO_OK);
    assert_int_equal(p.type, TRUENO_TYPE_Q4_K);
    assert_int_equal(p.n_cols, 4);
    assert_int_equal(p.rows, 5632);
    assert_int_equal(p.cols, 2048);
    assert_int_equal(p.threads, 3);
    assert_int_equal(p.phase, TRUENO_PHASE_DECODE);
    f.draft_tokens = 2;
    assert_int_equal(tr_problem_of(&p, &f, NULL), TRUENO_OK);
    assert_int_equal(p.n_cols, 12);
    f.draft_tokens = TRUENO_UNSET;
    f.prompt_tokens = 100;
    f.quant = TRUENO_QUANT_Q8_0;
    assert_int_equal(tr_problem_of(&p, &f, NULL), TRUENO_OK);
    assert_int_equal(p.n_cols, 400);
    assert_int_equal(p.type, TRUENO_TYPE_Q8_0);
    assert_int_equal(p.phase, TRUENO_PHASE_PREFILL);
}

/* All candidates run here, read the same activations and keep the bits; the default is the
 * context's own choice. */
static void test_candidates(void **state)
{
    static const trueno_dtype types[] = {TRUENO_TYPE_Q4_0, TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q5_K,
                                         TRUENO_TYPE_Q6_K, TRUENO_TYPE_Q8_0, TRUENO_TYPE_F16};
    const struct tr_kernel *list[16];
    trueno_ctx *ctx;
    (void)state;
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        trueno_problem p = problem();
        const struct tr_kernel *chosen;
        p.type = types[i];
        size_t n = tr_candidates(list, 16, ctx, &p);
        assert_in_range(n, 1, 16);
        assert_int_equal(
            tr_kernel_choose(&chosen, NULL, ctx, TR_OP_GEMM, p.type, TR_ACT_NONE, NULL), TRUENO_OK);
        assert_ptr_equal(list[0], chosen);
        for (size_t j = 0; j < n; j++) {
            assert_int_equal(list[j]->op, TR_OP_GEMM);
            assert_int_equal(list[j]->dtype, p.type);
            assert_int_equal(list[j]->act, list[0]->act);
            assert_int_equal(list[j]->numerics, TR_EXACT);
            assert_int_equal(list[j]->cpu & ~trueno_ctx_cpu_features(ctx), 0);
            for (size_t l = 0; l < j; l++) assert_ptr_not_equal(list[l], list[j]);
        }
        assert_int_equal(tr_candidates(list, 0, ctx, &p), n);
    }
    trueno_ctx_free(ctx);
}

/* A kernel that the user named has no rivals. */
static void test_named(void **state)
{
    trueno_ctx_options options = TRUENO_CTX_OPTIONS_INIT;
    const struct tr_kernel *list[16];
    trueno_problem p = problem();
    trueno_ctx *ctx;
    (void)state;
    options.kernels = "gemm_q4_k_ref_16x8";
    assert_int_equal(trueno_ctx_new(&ctx, &options, NULL), TRUENO_OK);
    assert_int_equal(tr_candidates(list, 16, ctx, &p), 1);
    assert_string_equal(list[0]->name, options.kernels);
    trueno_ctx_free(ctx);
}

static void test_families(void **state)
{
    const struct tr_kernel *k;
    (void)state;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if (k->op != TR_OP_GEMM || k->dtype != TRUENO_TYPE_Q4_K) continue;
        assert_int_equal(tr_family_of(k, 1), TRUENO_KERNEL_VECTORIZED_Q4K);
        assert_int_equal(tr_family_of(k, 3), TRUENO_KERNEL_VECTORIZED_Q4K);
        assert_int_equal(tr_family_of(k, 4), TRUENO_KERNEL_BATCHED_Q4K);
    }
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++)
        if (k->op == TR_OP_RMSNORM) assert_int_equal(tr_family_of(k, 8), (int)k->family);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_buckets),        cmocka_unit_test(test_contexts),
        cmocka_unit_test(test_frozen_context), cmocka_unit_test(test_refused),
        cmocka_unit_test(test_of_features),    cmocka_unit_test(test_candidates),
        cmocka_unit_test(test_named),          cmocka_unit_test(test_families),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
