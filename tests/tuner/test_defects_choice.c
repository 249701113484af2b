/* SPDX-License-Identifier: MIT */
/* More of what must not happen (test_defects.c): learners that converge on nothing, bandits that
 * nobody listens to, features that tell the label, kernels that are not the ones chosen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "brick_test.h"
#include "tuner/tuner_test.h"

static trueno_features rows[100];
static double tps[100];

/* A fresh learner is not converging, ten good runs are; its loss is a ratio, whatever the scale. */
static void test_learner_reports(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    double losses[2];
    (void)state;
    for (int i = 0; i < 2; i++) {
        trueno_features f = i ? gpu_run(70, 1) : gpu_run(0.5, 64);
        trueno_learner *l;
        double rate = 0.5 * predict_by(t, &f).predicted_tps;
        assert_int_equal(trueno_tuner_online_learner(t, &l, NULL), TRUENO_OK);
        assert_false(trueno_learner_is_converging(l));
        assert_true(isnan(trueno_learner_ema_loss(l)));
        assert_int_equal(trueno_learner_observe_run(l, &f, rate, NULL), TRUENO_OK);
        losses[i] = trueno_learner_ema_loss(l);
        assert_true(fabs(losses[i] - log(2)) < 1e-9);
        for (int k = 0; k < 60; k++)
            assert_int_equal(trueno_learner_observe_run(l, &f, rate, NULL), TRUENO_OK);
        assert_true(trueno_learner_is_converging(l));
        assert_int_equal(trueno_tuner_apply_online_updates(t, l, NULL), TRUENO_OK);
        double once = predict_by(t, &f).predicted_tps;
        assert_int_equal(trueno_tuner_apply_online_updates(t, l, NULL), TRUENO_OK);
        assert_true(predict_by(t, &f).predicted_tps == once);
        trueno_learner_free(l);
        trueno_tuner_free(t);
        t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    }
    trueno_tuner_free(t);
}

static trueno_bandit *bandit(trueno_tuner *t, trueno_bandit_policy policy, uint64_t seed)
{
    static const trueno_kernel arms[] = {TRUENO_KERNEL_VECTORIZED_Q4K, TRUENO_KERNEL_BATCHED_Q4K};
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    trueno_bandit *b;
    o.policy = policy;
    o.seed = seed;
    assert_int_equal(trueno_tuner_kernel_bandit(t, &b, &o, NULL), TRUENO_OK);
    assert_int_equal(trueno_bandit_set_arms(b, 0, arms, 2, NULL), TRUENO_OK);
    return b;
}

/* How often Thompson takes an arm is the probability that its mean is the larger one: with fifty
 * rewards each, those of nearly normal posteriors. */
static void test_thompson(void **state)
{
    enum { N = 20000, REWARDS = 50 };
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_bandit *b[3] = {bandit(t, TRUENO_BANDIT_THOMPSON, 1),
                           bandit(t, TRUENO_BANDIT_THOMPSON, 1),
                           bandit(t, TRUENO_BANDIT_THOMPSON, 2)};
    const double mean = 0.5, sd = 0.1, gain = 0.02;
    int taken = 0, differ = 0, same = 0;
    (void)state;
    for (int i = 0; i < REWARDS; i++) {
        double d = i % 2 ? sd : -sd;
        for (int k = 0; k < 3; k++) {
            assert_int_equal(trueno_bandit_update(b[k], 0, 2, mean + d, NULL), TRUENO_OK);
            assert_int_equal(trueno_bandit_update(b[k], 0, 3, mean + gain + d, NULL), TRUENO_OK);
        }
    }
    for (int i = 0; i < N; i++) {
        trueno_kernel k[3];
        for (int j = 0; j < 3; j++)
            assert_int_equal(trueno_bandit_select(b[j], &k[j], 0, NULL), TRUENO_OK);
        taken += k[0] == 3;
        same += k[0] == k[1];
        differ += k[0] != k[2];
    }
    /* prior: 2 rewards of 0.5, variance 0.25^2 with alpha 2 */
    double n = REWARDS, beta = 0.0625 + n * sd * sd / 2, alpha = 2 + n / 2, kappa = 2 + n;
    double shift = gain * n / kappa, spread = sqrt(2 * beta / (alpha * kappa));
    double want = 0.5 * erfc(-shift / spread / sqrt(2));
    assert_true(fabs((double)taken / N - want) < 0.02);
    assert_int_equal(same, N);
    assert_in_range(differ, N / 20, N - N / 20);
    for (int k = 0; k < 3; k++) trueno_bandit_free(b[k]);
    trueno_tuner_free(t);
}

/* Equal arms share the pulls, and UCB1 is mean + sqrt(2 ln n / n_i). */
static void test_shares(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    (void)state;
    for (int policy = 0; policy < 2; policy++) {
        trueno_bandit *b = bandit(t, policy ? TRUENO_BANDIT_THOMPSON : TRUENO_BANDIT_UCB1, 4);
        int n[2] = {0};
        for (int i = 0; i < 2000; i++) {
            trueno_kernel k;
            assert_int_equal(trueno_bandit_select(b, &k, 0, NULL), TRUENO_OK);
            n[k - 2]++;
            assert_int_equal(trueno_bandit_update(b, 0, k, 0.5 + 0.01 * (i % 3), NULL), TRUENO_OK);
        }
        assert_in_range(n[0], 600, 1400);
        trueno_bandit_free(b);
    }
    trueno_bandit *b = bandit(t, TRUENO_BANDIT_UCB1, 1);
    double sum[2] = {0}, n[2] = {0};
    for (int i = 0; i < 500; i++) {
        trueno_kernel k;
        assert_int_equal(trueno_bandit_select(b, &k, 0, NULL), TRUENO_OK);
        if (i > 1) {
            double bound[2];
            for (int a = 0; a < 2; a++) bound[a] = sum[a] / n[a] + sqrt(2 * log(i) / n[a]);
            if (fabs(bound[0] - bound[1]) > 1e-9) assert_int_equal(k, bound[0] > bound[1] ? 2 : 3);
        }
        double reward = k == 2 ? 0.3 : 0.55;
        sum[k - 2] += reward;
        n[k - 2]++;
        assert_int_equal(trueno_bandit_update(b, 0, k, reward, NULL), TRUENO_OK);
    }
    trueno_bandit_free(b);
    trueno_tuner_free(t);
}

/* Exploiting is what the bandit learned; arms can stand in for each other; every family can be an
 * arm, and what is none cannot. */
static void test_bandit_decides(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features f = gpu_run(7, 4);
    trueno_kernel_choice k = TRUENO_KERNEL_CHOICE_INIT;
    trueno_bandit *b;
    (void)state;
    assert_int_equal(trueno_tuner_kernel_bandit(t, &b, NULL, NULL), TRUENO_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(trueno_tuner_recommend_kernel_with_exploration(t, &k, &f, b, 0, NULL),
                         TRUENO_OK);
        assert_int_equal(k.top_kernel, i ? 2 : 3);
        assert_int_equal(trueno_bandit_update(b, k.context, 3, 0.1, NULL), TRUENO_OK);
        assert_int_equal(trueno_bandit_update(b, k.context, 2, 0.8, NULL), TRUENO_OK);
    }
    assert_int_equal(trueno_bandit_update(b, k.context, TRUENO_KERNEL_RMS_NORM, 1, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_kernel_count(), 47);
    for (uint32_t family = 0; family < 47; family++) {
        bool none = family == TRUENO_KERNEL_UNKNOWN;
        assert_int_equal(trueno_bandit_update(b, 1 + family, (trueno_kernel)family, 1, NULL),
                         none ? TRUENO_ERR_ARGUMENT : TRUENO_OK);
        assert_int_equal(trueno_bandit_best_kernel(b, 1 + family), family);
    }
    assert_int_equal(trueno_bandit_update(b, 5, (trueno_kernel)47, 1, NULL), TRUENO_ERR_ARGUMENT);
    trueno_bandit_free(b);
    trueno_tuner_free(t);
}

/* No slot comes from the label; slots that cannot matter do not, even where they told the label. */
static void test_inert_slots(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    trueno_features told[100];
    double rate[100];
    (void)state;
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        const char *name = trueno_feature_name((trueno_feature)i);
        assert_null(strstr(name, "tps"));
        assert_null(strstr(name, "throughput"));
        assert_null(strstr(name, "latency"));
    }
    for (int i = 0; i < 100; i++) {
        told[i] = rows[0];
        told[i].temperature = i % 2;
        told[i].top_k = i % 2 ? 40 : 0;
        told[i].top_p = i % 2 ? 0.5 : 1;
        rate[i] = i % 2 ? 300 : 150;
    }
    assert_int_equal(trueno_tuner_train(t, NULL, told, rate, 100, NULL), TRUENO_OK);
    assert_true(predict_by(t, &told[0]).predicted_tps == predict_by(t, &told[1]).predicted_tps);
    trueno_tuner_free(t);
}

/* Tokens of a brick are columns, however many calls of kernels they take. */
static void test_tokens_are_columns(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 64, 256, 5, 1);
    trueno_brick_config c = TRUENO_BRICK_CONFIG_INIT;
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    trueno_brick *b;
    (void)state;
    c.problem = d.problem;
    c.kernel = TRUENO_KERNEL_BATCHED_Q4K;
    b = brick_new(ctx, &c);
    assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
    assert_int_equal(r.tokens, 5);
    trueno_brick_free(b);
    brick_data_free(&d);
}

static void gemm_wrong(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                       size_t k, uint32_t nt)
{
    brick_reference_gemm(out, ldo, w, n_groups, act, k, nt);
    out[0] += 1;
}

/* Verifying finds a kernel that is wrong, and passes the right one. */
static void test_verify_finds_it(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 32, 512, 3, 1);
    (void)state;
    for (int wrong = 0; wrong < 2; wrong++) {
        const struct tr_kernel k = brick_kernel(wrong ? gemm_wrong : brick_reference_gemm, "k");
        trueno_brick_report report = TRUENO_BRICK_REPORT_INIT;
        trueno_brick *b = brick_of(ctx, &d, &k);
        assert_int_equal(trueno_brick_assert_equiv(b, NULL, 0, NULL), TRUENO_OK);
        assert_int_equal(trueno_brick_verify(b, &report, &d.io, NULL),
                         wrong ? TRUENO_ERR_ASSERTION : TRUENO_OK);
        assert_int_equal(report.n_failed, wrong);
        trueno_brick_free(b);
    }
    brick_data_free(&d);
}

/* M = 1 to 3 is VectorizedQ4K, more is BatchedQ4K. */
static void test_rule_of_the_specification(void **state)
{
    trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_FROZEN);
    (void)state;
    for (int m = 1; m <= 32; m++) {
        trueno_features f = gpu_run(1.5, m), g = cpu_run(1.5, m);
        const char *name = m <= 3 ? "VectorizedQ4K" : "BatchedQ4K";
        assert_string_equal(trueno_kernel_name(recommend(t, &f).kernel.top_kernel), name);
        assert_string_equal(trueno_kernel_name(recommend(t, &g).kernel.top_kernel), name);
    }
    trueno_tuner_free(t);
}

/* From the environment to a kernel that runs; another pick is another kernel, with the same bits.
 */
static void test_the_pick_runs(void **state)
{
    struct brick_data d = brick_data_new(ctx, TRUENO_TYPE_Q4_K, 64, 256, 1, 1);
    trueno_features f = TRUENO_FEATURES_INIT;
    float *want = brick_reference(&d, 1);
    const char *kernels[8];
    size_t n = kernels_tried(ctx, kernels, &d.problem);
    (void)state;
    assert_int_equal(trueno_features_from_env(ctx, &f, NULL, NULL), TRUENO_OK);
    assert_true(f.vram_gb == 0 && f.cpu_threads >= 1);
    for (size_t i = 0; i < n; i++) {
        trueno_tuner *t = make_tuner(ctx, TRUENO_TUNER_LEARN);
        trueno_brick_config c = TRUENO_BRICK_CONFIG_INIT;
        trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
        trueno_pick pick = TRUENO_PICK_INIT;
        play(t, &d.problem, kernels[i], 600);
        trueno_tuner_pause(t, true); /* no audit now */
        assert_int_equal(trueno_tuner_plan(t, &pick, &d.problem), TRUENO_OK);
        assert_string_equal(pick.variant, kernels[i]);
        c.problem = d.problem;
        c.variant = pick.variant;
        trueno_brick *b = brick_new(ctx, &c);
        assert_string_equal(trueno_brick_variant(b), kernels[i]);
        assert_int_equal(trueno_brick_run(b, &r, &d.io, NULL), TRUENO_OK);
        assert_memory_equal(d.y, want, 64 * sizeof *want);
        trueno_brick_free(b);
        trueno_tuner_free(t);
    }
    free(want);
    brick_data_free(&d);
}

static int set_up(void **state)
{
    sample_rows(rows, tps);
    return make_shared(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learner_reports), cmocka_unit_test(test_thompson),
        cmocka_unit_test(test_shares),          cmocka_unit_test(test_bandit_decides),
        cmocka_unit_test(test_inert_slots),     cmocka_unit_test(test_tokens_are_columns),
        cmocka_unit_test(test_verify_finds_it), cmocka_unit_test(test_rule_of_the_specification),
        cmocka_unit_test(test_the_pick_runs),
    };
    return cmocka_run_group_tests(tests, set_up, free_shared);
}
