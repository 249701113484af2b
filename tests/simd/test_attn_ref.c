/* SPDX-License-Identifier: MIT */
/* Attention kernels, the reference and every other that this CPU runs: against double precision
 * over the cache as it is stored, and by algebra. */
#include "simd_test.h"

#include <math.h>
#include <string.h>

#include "quant/half.h"
#include "simd/kernel.h"
#include "simd/math.h"

#define N_CTX   512
#define MAX_DIM 256
#define N_Q     TR_ATTN_QUERIES

static const size_t head_dims[] = {8, 24, 64, 80, 96, 128, 256};
#define N_DIMS (sizeof head_dims / sizeof *head_dims)

/* A cache of N_CTX positions of one type, the queries that ask it, and their answers. */
struct scene {
    const struct tr_kernel *kernel;
    bool f16;
    size_t head_dim;
    void *k, *v; /* memory of exactly the cache's size */
    float q[N_Q][MAX_DIM], out[N_Q][MAX_DIM];
    struct tr_attn_args a;
};

static void *cache_new(size_t head_dim, bool f16)
{
    size_t bytes = N_CTX * head_dim * (f16 ? 2 : 4);
    void *p = test_alloc(bytes);
    memset(p, 0, bytes);
    return p;
}

/* Layout of kernel.h. */
static size_t k_index(const struct scene *s, size_t p, size_t d)
{
    return (p / 16 * s->head_dim + d) * 16 + p % 16;
}

static size_t v_index(const struct scene *s, size_t p, size_t d)
{
    return p * s->head_dim + d;
}

static void put(const struct scene *s, void *cache, size_t i, float x)
{
    if (s->f16)
        ((uint16_t *)cache)[i] = tr_f32_to_f16(x);
    else
        ((float *)cache)[i] = x;
}

static double get(const struct scene *s, const void *cache, size_t i)
{
    return s->f16 ? (double)tr_f16_to_f32(((const uint16_t *)cache)[i])
                  : (double)((const float *)cache)[i];
}

static void fill_position(const struct scene *s, size_t p, float k, float v)
{
    for (size_t d = 0; d < s->head_dim; d++) {
        put(s, s->k, k_index(s, p, d), k);
        put(s, s->v, v_index(s, p, d), v);
    }
}

/* Keys and values uniform in [-1, 1), queries in [-2, 2); every query sees [0, 256). */
static struct scene *scene_new(const struct tr_kernel *kernel, size_t head_dim)
{
    struct scene *s = test_alloc(sizeof *s);
    uint64_t rng = head_dim;

    memset(s, 0, sizeof *s);
    s->kernel = kernel;
    s->f16 = kernel->dtype == TRUENO_TYPE_F16;
    s->head_dim = head_dim;
    s->k = cache_new(head_dim, s->f16);
    s->v = cache_new(head_dim, s->f16);
    for (size_t i = 0; i < N_CTX * head_dim; i++) {
        put(s, s->k, i, random_uniform(&rng));
        put(s, s->v, i, random_uniform(&rng));
    }
    s->a = (struct tr_attn_args){.k_cache = s->k,
                                 .v_cache = s->v,
                                 .head_dim = head_dim,
                                 .scale = 1.0F / sqrtf((float)head_dim),
                                 .n_q = N_Q};
    for (size_t i = 0; i < N_Q; i++) {
        for (size_t d = 0; d < head_dim; d++) s->q[i][d] = 2.0F * random_uniform(&rng);
        s->a.q[i] = s->q[i];
        s->a.out[i] = s->out[i];
        s->a.hi[i] = TR_ATTN_CHUNK;
    }
    return s;
}

static void scene_free(struct scene *s)
{
    free(s->k);
    free(s->v);
    free(s);
}

static void run(struct scene *s)
{
    memset(s->out, 0x77, sizeof s->out);
    memset(s->a.max, 0x77, sizeof s->a.max);
    memset(s->a.sum, 0x77, sizeof s->a.sum);
    s->kernel->fn.attention(&s->a);
}

/* The results of query i of x and query j of y have the same bits. */
static void assert_same(const struct scene *x, size_t i, const struct scene *y, size_t j)
{
    assert_memory_equal(x->out[i], y->out[j], x->head_dim * sizeof(float));
    assert_memory_equal(&x->a.max[i], &y->a.max[j], sizeof(float));
    assert_memory_equal(&x->a.sum[i], &y->a.sum[j], sizeof(float));
}

static struct scene *scene_copy(const struct scene *s)
{
    struct scene *c = test_alloc(sizeof *c);
    size_t bytes = N_CTX * s->head_dim * (s->f16 ? 2 : 4);

    memcpy(c, s, sizeof *c);
    c->k = cache_new(s->head_dim, s->f16);
    c->v = cache_new(s->head_dim, s->f16);
    memcpy(c->k, s->k, bytes);
    memcpy(c->v, s->v, bytes);
    c->a.k_cache = c->k;
    c->a.v_cache = c->v;
    for (size_t i = 0; i < N_Q; i++) {
        c->a.q[i] = c->q[i];
        c->a.out[i] = c->out[i];
    }
    return c;
}

/* Calls f with each kernel of either type and each head dimension. */
static void for_all(void (*f)(struct scene *s))
{
    const struct tr_kernel *k;
    size_t n = 0;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if (k->op != TR_OP_ATTENTION || (k->cpu & ~trueno_cpu_features()) != 0) continue;
        for (size_t h = 0; h < N_DIMS; h++) {
            struct scene *s = scene_new(k, head_dims[h]);
            f(s);
            scene_free(s);
            n++;
        }
    }
    assert_true(n >= 2 * N_DIMS);
}

/* --------------------------------------------------------- double precision */

static double score_of(const struct scene *s, size_t i, size_t p)
{
    double dot = 0;
    for (size_t d = 0; d < s->head_dim; d++)
        dot += get(s, s->k, k_index(s, p, d)) * (double)s->q[i][d];
    dot *= (double)s->a.scale;
    return s->a.cap > 0 ? (double)s->a.cap * tanh(dot / (double)s->a.cap) : dot;
}

/* Normalised attention of query i. */
static void exact_attention(const struct scene *s, size_t i, double *out)
{
    double max = -INFINITY, sum = 0;

    for (size_t d = 0; d < s->head_dim; d++) out[d] = 0;
    for (size_t p = s->a.lo[i]; p < s->a.hi[i]; p++) max = fmax(max, score_of(s, i, p));
    for (size_t p = s->a.lo[i]; p < s->a.hi[i]; p++) {
        double e = exp(score_of(s, i, p) - max);
        sum += e;
        for (size_t d = 0; d < s->head_dim; d++) out[d] += e * get(s, s->v, v_index(s, p, d));
    }
    for (size_t d = 0; d < s->head_dim; d++) out[d] /= sum;
    assert_true(fabs((double)s->a.max[i] - max) <= 4e-6 * fmax(1.0, fabs(max)));
    assert_true(fabs((double)s->a.sum[i] - sum) <= 4e-6 * sum * fmax(1.0, fabs(max)));
}

static void check_against_double(struct scene *s, double bound)
{
    double exact[MAX_DIM];

    run(s);
    for (size_t i = 0; i < s->a.n_q; i++) {
        exact_attention(s, i, exact);
        for (size_t d = 0; d < s->head_dim; d++) s->out[i][d] /= s->a.sum[i];
        double err = nmse(exact, s->out[i], s->head_dim);
        if (!(err <= bound))
            fail_msg("%s, head_dim %zu, query %zu: NMSE %g", s->kernel->name, s->head_dim, i, err);
    }
}

static void check_ranges(struct scene *s)
{
    static const uint32_t ranges[2][N_Q][2] = {
        {{0, 256}, {0, 1}, {255, 256}, {5, 6}, {15, 17}, {16, 32}, {31, 250}, {1, 255}},
        {{0, 128}, {128, 256}, {44, 77}, {144, 256}, {7, 239}, {0, 17}, {33, 34}, {0, 255}},
    };
    for (uint32_t n = 0; n < 4; n++) {
        uint32_t chunk = n / 2 * TR_ATTN_CHUNK;
        for (size_t i = 0; i < N_Q; i++) {
            s->a.lo[i] = chunk + ranges[n % 2][i][0];
            s->a.hi[i] = chunk + ranges[n % 2][i][1];
        }
        check_against_double(s, 1e-12);
    }
}

static void test_matches_double(void **state)
{
    (void)state;
    for_all(check_ranges);
}

/* tr_softcapf is off by up to 3e-7 cap (test_math.c): by that relative error are the exponentials
 * off, and its square is added to what is left without a cap. */
static void check_softcap(struct scene *s)
{
    static const float caps[] = {1.5F, 10.0F, 50.0F}; /* scores go to about 10 */
    s->a.scale = 1.0F;
    for (size_t c = 0; c < sizeof caps / sizeof *caps; c++) {
        double off = 3e-7 * (double)caps[c];
        s->a.cap = caps[c];
        check_against_double(s, 1e-12 + off * off);
    }
}

static void test_softcap(void **state)
{
    (void)state;
    for_all(check_softcap);
}

/* Causal rows: query i sees one position more than query i - 1. */
static void check_causal(struct scene *s)
{
    for (uint32_t first = 0; first < 256 - N_Q; first += 27) {
        for (uint32_t i = 0; i < N_Q; i++) {
            s->a.lo[i] = 0;
            s->a.hi[i] = first + i + 1;
        }
        check_against_double(s, 1e-12);
    }
}

static void test_causal(void **state)
{
    (void)state;
    for_all(check_causal);
}

/* Scores of +-10000 and more: without the maximum taken off, exp would overflow. */
static void check_huge_scores(struct scene *s)
{
    for (size_t d = 0; d < s->head_dim; d++) { /* position 77 is query 0's own */
        put(s, s->k, k_index(s, 77, d), s->q[0][d]);
    }
    s->a.scale = 1e4F;
    run(s);
    for (size_t i = 0; i < N_Q; i++) {
        assert_true(isfinite(s->a.max[i]) && s->a.max[i] > 1e3F);
        assert_true(s->a.sum[i] >= 1.0F && s->a.sum[i] <= 256.0F);
        for (size_t d = 0; d < s->head_dim; d++) assert_true(fabsf(s->out[i][d]) <= 256.0F);
    }
    /* |q|^2 beats every other score by far: all others vanish */
    assert_true(s->a.sum[0] == 1.0F);
    for (size_t d = 0; d < s->head_dim; d++)
        assert_true((double)s->out[0][d] == get(s, s->v, v_index(s, 77, d)));
}

static void test_huge_scores(void **state)
{
    (void)state;
    for_all(check_huge_scores);
}

/* ------------------------------------------------------------------ masks */

static void check_nothing_visible(struct scene *s)
{
    struct scene *all = scene_copy(s);
    run(all);
    s->a.lo[0] = s->a.hi[0] = 0;
    s->a.lo[1] = s->a.hi[1] = 100;
    s->a.lo[2] = 200;
    s->a.hi[2] = 100;
    s->a.lo[3] = s->a.hi[3] = 256;
    run(s);
    for (size_t i = 0; i < 4; i++) {
        assert_true(s->a.max[i] == -INFINITY);
        assert_true(s->a.sum[i] == 0.0F);
        for (size_t d = 0; d < s->head_dim; d++) assert_true(s->out[i][d] == 0.0F);
    }
    for (size_t i = 4; i < N_Q; i++) assert_same(s, i, all, i);
    s->a.n_q = 4; /* no query sees anything */
    run(s);
    for (size_t i = 0; i < 4; i++) assert_true(s->a.sum[i] == 0.0F);
    s->a.n_q = 0;
    run(s);
    scene_free(all);
}

static void test_nothing_visible(void **state)
{
    (void)state;
    for_all(check_nothing_visible);
}

/* Positions that a query does not see may hold anything, and other queries may see them. */
static void check_invisible_positions(struct scene *s)
{
    struct scene *bad = scene_copy(s);
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = bad->a.lo[i] = 40 + 3 * i;
        s->a.hi[i] = bad->a.hi[i] = 171 + 5 * i;
    }
    run(s);
    bad->a.lo[7] = 39; /* one query sees what the others do not */
    for (size_t p = 0; p < 256; p++) {
        if (p < 40 || p >= 206) fill_position(bad, p, NAN, INFINITY);
    }
    run(bad);
    for (size_t i = 0; i < N_Q - 1; i++) assert_same(s, i, bad, i);
    assert_true(isnan(bad->a.sum[7]) && isnan(bad->out[7][0]));
    scene_free(bad);
}

static void test_invisible_positions(void **state)
{
    (void)state;
    for_all(check_invisible_positions);
}

/* NaN in a query stays in its query. */
static void check_nan_query(struct scene *s)
{
    struct scene *bad = scene_copy(s);
    run(s);
    bad->q[3][s->head_dim - 1] = NAN;
    run(bad);
    for (size_t i = 0; i < N_Q; i++) {
        if (i != 3) assert_same(s, i, bad, i);
    }
    assert_true(isnan(bad->a.sum[3]));
    for (size_t d = 0; d < s->head_dim; d++) assert_true(isnan(bad->out[3][d]));
    scene_free(bad);
}

static void test_nan_query(void **state)
{
    (void)state;
    for_all(check_nan_query);
}

/* A query gets the same bits alone, in any company, and in any chunk. */
static void check_company(struct scene *s)
{
    struct scene *alone = scene_copy(s);
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = 9 * i;
        s->a.hi[i] = 256 - 17 * ((i + 3) % N_Q);
    }
    run(s);
    for (size_t p = 0; p < 256; p++) {
        for (size_t d = 0; d < s->head_dim; d++) {
            put(alone, alone->k, k_index(s, p + 256, d), (float)get(s, s->k, k_index(s, p, d)));
            put(alone, alone->v, v_index(s, p + 256, d), (float)get(s, s->v, v_index(s, p, d)));
        }
        fill_position(alone, p, NAN, NAN);
    }
    for (size_t n = 1; n <= N_Q; n++) {
        for (size_t i = 0; i < n; i++) {
            size_t query = (i + n) % N_Q;
            alone->a.q[i] = s->q[query];
            alone->a.lo[i] = 256 + s->a.lo[query];
            alone->a.hi[i] = 256 + s->a.hi[query];
        }
        alone->a.n_q = (uint32_t)n;
        run(alone);
        for (size_t i = 0; i < n; i++) assert_same(s, (i + n) % N_Q, alone, i);
    }
    scene_free(alone);
}

static void test_company(void **state)
{
    (void)state;
    for_all(check_company);
}

/* --------------------------------------------------------------- algebra */

/* Only element 0 of keys and queries is not 0: score p is s[p], exactly (a half). */
static void set_scores(struct scene *s, const float *score)
{
    for (size_t p = 0; p < 256; p++) {
        for (size_t d = 0; d < s->head_dim; d++) put(s, s->k, k_index(s, p, d), 0.0F);
        put(s, s->k, k_index(s, p, 0), score[p]);
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
        score[p] = tr_f16_to_f32(tr_f32_to_f16(8.0F * random_uniform(&rng)));
    }
    score[100] = 8.0F; /* the maximum */
    set_scores(s, score);
    s->a.lo[2] = 37;
    s->a.hi[2] = 201;
    run(s);
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
    for_all(check_sum_order);
}

/* The values' chain ascends: 2^24 first, then ones that it swallows one at a time; descending they
 * would add up to 100 before. With equal scores every e is 1. */
static void check_value_order(struct scene *s)
{
    float score[256];
    for (size_t p = 0; p < 256; p++) {
        score[p] = -3.0F;
        for (size_t d = 0; d < s->head_dim; d++)
            put(s, s->v, v_index(s, p, d), p == 10 ? 32768.0F : p < 64 ? 0.0F : 0x1p-9F);
    }
    set_scores(s, score);
    run(s); /* 2^15 + 2^-9 is a tie, to even: 2^15 */
    for (size_t i = 0; i < N_Q; i++) {
        assert_true(s->a.max[i] == -3.0F);
        assert_true(s->a.sum[i] == 256.0F);
        for (size_t d = 0; d < s->head_dim; d++) assert_true(s->out[i][d] == 32768.0F);
    }
}

static void test_value_order(void **state)
{
    (void)state;
    for_all(check_value_order);
}

/* The scores' chain ascends over d: 2^15 first swallows each 2^-9 that follows. */
static void check_score_order(struct scene *s)
{
    for (size_t d = 0; d < s->head_dim; d++) {
        for (size_t p = 0; p < 256; p++) put(s, s->k, k_index(s, p, d), d ? 0x1p-9F : 32768.0F);
        for (size_t i = 0; i < N_Q; i++) s->q[i][d] = 1.0F;
    }
    s->a.scale = 1.0F;
    run(s);
    for (size_t i = 0; i < N_Q; i++) assert_true(s->a.max[i] == 32768.0F);
}

static void test_score_order(void **state)
{
    (void)state;
    for_all(check_score_order);
}

/* One visible position: its value comes out unchanged, whatever the score. */
static void check_single_position(struct scene *s)
{
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = 256 + 35 * i;
        s->a.hi[i] = s->a.lo[i] + 1;
    }
    run(s);
    for (size_t i = 0; i < N_Q; i++) {
        assert_true(s->a.sum[i] == 1.0F);
        for (size_t d = 0; d < s->head_dim; d++)
            assert_true((double)s->out[i][d] == get(s, s->v, v_index(s, s->a.lo[i], d)));
    }
}

static void test_single_position(void **state)
{
    (void)state;
    for_all(check_single_position);
}

/* Zeros of either sign: the maximum is +0. */
static void check_zero_maximum(struct scene *s)
{
    float score[256];
    for (size_t p = 0; p < 256; p++) score[p] = p % 3 ? -1.0F : 0.0F;
    set_scores(s, score);
    s->a.scale = -1.0F; /* 0 becomes -0 */
    for (size_t p = 0; p < 256; p++) put(s, s->k, k_index(s, p, 0), p % 3 ? 1.0F : 0.0F);
    run(s);
    for (size_t i = 0; i < N_Q; i++) assert_int_equal(tr_bits_from_float(s->a.max[i]), 0);
}

static void test_zero_maximum(void **state)
{
    (void)state;
    for_all(check_zero_maximum);
}

/* The smallest normal exponential counts, the next one does not: score 0 at position 5, the limit
 * of exp (math.h) at position 6, whose values make what is left of it visible. */
static void check_smallest_weight(struct scene *s)
{
    float limit = -0x1.5d589ep+6F, score[256] = {0};
    score[6] = 1.0F;
    set_scores(s, score);
    for (size_t d = 0; d < s->head_dim; d++) {
        put(s, s->v, v_index(s, 5, d), 0.0F);
        put(s, s->v, v_index(s, 6, d), 32768.0F);
    }
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = 5;
        s->a.hi[i] = 7;
    }
    s->a.scale = limit;
    run(s);
    for (size_t d = 0; d < s->head_dim; d++)
        assert_true(fabs((double)s->out[1][d] / (exp((double)limit) * 32768.0) - 1.0) <= 2e-7);
    s->a.scale = nextafterf(limit, -100.0F);
    run(s);
    for (size_t d = 0; d < s->head_dim; d++) assert_true(s->out[1][d] == 0.0F);
}

static void test_smallest_weight(void **state)
{
    (void)state;
    for_all(check_smallest_weight);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_double),  cmocka_unit_test(test_softcap),
        cmocka_unit_test(test_causal),          cmocka_unit_test(test_huge_scores),
        cmocka_unit_test(test_nothing_visible), cmocka_unit_test(test_invisible_positions),
        cmocka_unit_test(test_nan_query),       cmocka_unit_test(test_company),
        cmocka_unit_test(test_sum_order),       cmocka_unit_test(test_value_order),
        cmocka_unit_test(test_score_order),     cmocka_unit_test(test_single_position),
        cmocka_unit_test(test_zero_maximum),    cmocka_unit_test(test_smallest_weight),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
