/* SPDX-License-Identifier: MIT */
/* The order in which attention kernels add, by algebra, and the merge of two chunks. */
#include "attn_scene.h"

#include <math.h>
#include <string.h>

#include "quant/half.h"
#include "simd/math.h"

/* --------------------------------------------------------------- algebra */

/* Only element 0 of keys and queries is not 0: score p is s[p], exactly (a bfloat16 of a size that
 * f16 holds). */
static void set_scores(struct scene *s, const float *score)
{
    for (size_t p = 0; p < 256; p++) {
        for (size_t d = 0; d < s->head_dim; d++) scene_put_key(s, p, d, 0.0F);
        scene_put_key(s, p, 0, score[p]);
    }
    memset(s->q, 0, sizeof s->q);
    for (size_t i = 0; i < N_Q; i++) s->q[i][0] = 1.0F;
    s->a.scale = 1.0F;
}

/* R32 order as kernel.h has it, written another way: position p belongs to leaf p mod 32 of a
 * binary tree whose halves are the even and the odd leaves' sums, and so on. */
static float tree(const float *leaf, size_t first, size_t stride)
{
    if (stride == 32) return leaf[first];
    return tree(leaf, first, 2 * stride) + tree(leaf, first + stride, 2 * stride);
}

static void check_sum_order(struct scene *s)
{
    float score[256], leaf[32] = {0}, sequential = 0;
    uint64_t rng = 7;
    for (size_t p = 0; p < 256; p++) {
        score[p] = tr_bf16_to_f32(tr_f32_to_bf16(8.0F * random_uniform(&rng)));
    }
    score[100] = 8.0F; /* the maximum */
    set_scores(s, score);
    s->a.lo[2] = 37;
    s->a.hi[2] = 201;
    scene_run(s);
    for (size_t p = 37; p < 201; p++) {
        float e = tr_expf(score[p] - 8.0F);
        leaf[p % 32] += e;
        sequential += e;
    }
    float want = tree(leaf, 0, 1);
    assert_true(want != sequential); /* else the order would not show */
    assert_true(s->a.max[2] == 8.0F);
    assert_memory_equal(&s->a.sum[2], &want, sizeof want);
}

static void test_sum_order(void **state)
{
    (void)state;
    scene_for_plain_types(check_sum_order);
}

/* The values' chain ascends: 2^24 first, then ones that it swallows one at a time; descending they
 * would add up to 100 before. With equal scores every e is 1. */
static void check_value_order(struct scene *s)
{
    float score[256];
    for (size_t p = 0; p < 256; p++) {
        score[p] = -3.0F;
        for (size_t d = 0; d < s->head_dim; d++)
            scene_put_value(s, p, d, p == 10 ? 32768.0F : p < 64 ? 0.0F : 0x1p-9F);
    }
    set_scores(s, score);
    scene_run(s); /* 2^15 + 2^-9 is a tie, to even: 2^15 */
    for (size_t i = 0; i < N_Q; i++) {
        assert_true(s->a.max[i] == -3.0F);
        assert_true(s->a.sum[i] == 256.0F);
        for (size_t d = 0; d < s->head_dim; d++) assert_true(s->out[i][d] == 32768.0F);
    }
}

static void test_value_order(void **state)
{
    (void)state;
    scene_for_plain_types(check_value_order);
}

/* The scores' chain ascends over d: 2^15 first swallows each 2^-9 that follows. */
static void check_score_order(struct scene *s)
{
    for (size_t d = 0; d < s->head_dim; d++) {
        for (size_t p = 0; p < 256; p++) scene_put_key(s, p, d, d ? 0x1p-9F : 32768.0F);
        for (size_t i = 0; i < N_Q; i++) s->q[i][d] = 1.0F;
    }
    s->a.scale = 1.0F;
    scene_run(s);
    for (size_t i = 0; i < N_Q; i++) assert_true(s->a.max[i] == 32768.0F);
}

static void test_score_order(void **state)
{
    (void)state;
    scene_for_plain_types(check_score_order);
}

/* One visible position: its value comes out unchanged, whatever the score. */
static void check_single_position(struct scene *s)
{
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = 256 + 35 * i;
        s->a.hi[i] = s->a.lo[i] + 1;
    }
    scene_run(s);
    for (size_t i = 0; i < N_Q; i++) {
        assert_true(s->a.sum[i] == 1.0F);
        for (size_t d = 0; d < s->head_dim; d++)
            assert_true((double)s->out[i][d] == scene_value(s, s->a.lo[i], d));
    }
}

static void test_single_position(void **state)
{
    (void)state;
    scene_for_all(check_single_position);
}

/* Zeros of either sign: the maximum is +0. */
static void check_zero_maximum(struct scene *s)
{
    float score[256];
    for (size_t p = 0; p < 256; p++) score[p] = p % 3 ? -1.0F : 0.0F;
    set_scores(s, score);
    s->a.scale = -1.0F; /* 0 becomes -0 */
    for (size_t p = 0; p < 256; p++) scene_put_key(s, p, 0, p % 3 ? 1.0F : 0.0F);
    scene_run(s);
    for (size_t i = 0; i < N_Q; i++) assert_int_equal(tr_bits_from_float(s->a.max[i]), 0);
}

static void test_zero_maximum(void **state)
{
    (void)state;
    scene_for_all(check_zero_maximum);
}

/* The smallest normal exponential counts, the next one does not: score 0 at position 5, the limit
 * of exp (math.h) at position 6, whose values make what is left of it visible. */
static void check_smallest_weight(struct scene *s)
{
    float limit = -0x1.5d589ep+6F, score[256] = {0};
    score[6] = 1.0F;
    set_scores(s, score);
    for (size_t d = 0; d < s->head_dim; d++) {
        scene_put_value(s, 5, d, 0.0F);
        scene_put_value(s, 6, d, 32768.0F);
    }
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = 5;
        s->a.hi[i] = 7;
    }
    s->a.scale = limit;
    scene_run(s);
    for (size_t d = 0; d < s->head_dim; d++)
        assert_true(fabs((double)s->out[1][d] / (exp((double)limit) * 32768.0) - 1.0) <= 2e-7);
    s->a.scale = nextafterf(limit, -100.0F);
    scene_run(s);
    for (size_t d = 0; d < s->head_dim; d++) assert_true(s->out[1][d] == 0.0F);
}

static void test_smallest_weight(void **state)
{
    (void)state;
    scene_for_plain_types(check_smallest_weight);
}

/* ------------------------------------------------------------------ merge */

/* Normalised attention of query q over what check_merge lets it see. */
static void exact_merged(const struct scene *s, size_t q, double *out)
{
    double sum = 0, max = -INFINITY;

    for (size_t pass = 0; pass < 2; pass++) {
        for (size_t d = 0; d < s->head_dim; d++) out[d] = 0;
        for (size_t p = 0; p < 512; p++) {
            bool hidden = p < 256 && q == N_Q - 1;
            if (hidden || p % 256 < 10 * q || p % 256 >= 256 - 20 * q) continue;
            double score = scene_score(s, q, p);
            if (pass == 0) max = fmax(max, score);
            if (pass == 0) continue;
            sum += exp(score - max);
            for (size_t d = 0; d < s->head_dim; d++)
                out[d] += exp(score - max) * scene_value(s, p, d);
        }
    }
    for (size_t d = 0; d < s->head_dim; d++) out[d] /= sum;
}

/* Attention over two chunks, merged, is attention over both: against double precision. */
static void check_merge(struct scene *s)
{
    float max[N_Q] = {0}, sum[N_Q] = {0}, acc[N_Q * MAX_DIM];
    double exact[MAX_DIM];
    const struct tr_kernel *k;

    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if (k->op != TR_OP_ATTN_MERGE || (k->cpu & ~trueno_cpu_features()) != 0) continue;
        memset(sum, 0, sizeof sum);
        memset(acc, 0x77, sizeof acc);
        for (uint32_t chunk = 0; chunk < 512; chunk += 256) {
            for (uint32_t q = 0; q < N_Q; q++) {
                s->a.lo[q] = chunk + 10 * q; /* the last query sees nothing of the first chunk */
                s->a.hi[q] = q == N_Q - 1 && chunk == 0 ? 0 : chunk + 256 - 20 * q;
            }
            scene_run(s);
            k->fn.attn_merge(max, sum, acc, &s->a);
        }
        for (size_t q = 0; q < N_Q; q++) {
            exact_merged(s, q, exact);
            for (size_t d = 0; d < s->head_dim; d++)
                s->out[q][d] = acc[q * s->head_dim + d] / sum[q];
            assert_true(nmse(exact, s->out[q], s->head_dim) <= 1e-12);
        }
    }
}

static void test_merge(void **state)
{
    (void)state;
    scene_for_all(check_merge);
}

/* The rule of kernel.h in numbers that come out exactly: equal maxima add, a first chunk is taken
 * as it is, one of nothing is passed over. */
static void test_merge_rule(void **state)
{
    const struct tr_kernel *k;
    (void)state;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if (k->op != TR_OP_ATTN_MERGE || (k->cpu & ~trueno_cpu_features()) != 0) continue;
        float out[8] = {1, 2, 3, 4, 5, 6, 7, 8}, acc[4 * 8], tail[8];
        float max[4] = {3, 3, 3, -200}, sum[4] = {2, 0, 2, 2};
        struct tr_attn_args a = {.head_dim = 8,
                                 .n_q = 4,
                                 .hi = {9, 9, 0, 9},
                                 .max = {3, -7, 9, 5},
                                 .sum = {4, 4, 4, 4},
                                 .out = {out, out, out, out}};
        for (size_t j = 0; j < 32; j++) acc[j] = 10;
        k->fn.attn_merge(max, sum, acc, &a);
        assert_true(max[0] == 3 && sum[0] == 6 && acc[0] == 11 && acc[7] == 18);
        assert_true(max[1] == -7 && sum[1] == 4 && acc[8] == 1 && acc[15] == 8);
        assert_true(max[2] == 3 && sum[2] == 2 && acc[16] == 10 && acc[23] == 10);
        /* exp(-205) is 0 */
        memcpy(tail, acc + 24, sizeof tail);
        assert_true(max[3] == 5 && sum[3] == 4);
        assert_memory_equal(tail, out, sizeof out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum_order),    cmocka_unit_test(test_value_order),
        cmocka_unit_test(test_score_order),  cmocka_unit_test(test_single_position),
        cmocka_unit_test(test_zero_maximum), cmocka_unit_test(test_smallest_weight),
        cmocka_unit_test(test_merge),        cmocka_unit_test(test_merge_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
