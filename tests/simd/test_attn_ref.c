/* SPDX-License-Identifier: MIT */
/* Attention kernels, the reference and every other that this CPU runs: against double precision
 * over the cache as it is stored, and by algebra. */
#include "simd_test.h"

#include <math.h>
#include <string.h>

#include "quant/half.h"
#include "simd/kernel.h"
#include "simd/math.h"
#include "trueno/quantize.h"

#define N_CTX   512
#define MAX_DIM 256
#define N_Q     TR_ATTN_QUERIES

static const size_t head_dims[] = {8, 24, 64, 80, 96, 128, 256};
#define N_DIMS (sizeof head_dims / sizeof *head_dims)

/* A cache of N_CTX positions of one type, the queries that ask it, and their answers. */
struct scene {
    const struct tr_kernel *kernel;
    trueno_dtype type;
    size_t head_dim;
    uint8_t *k, *v; /* memory of exactly the cache's size */
    float q[N_Q][MAX_DIM], out[N_Q][MAX_DIM];
    struct tr_attn_args a;
};

/* An element in a cache, and in Q8_0 its scale; layout of kernel.h. */
struct place {
    uint8_t *at, *scale;
};

static struct place key_place(const struct scene *s, size_t p, size_t d)
{
    size_t size = s->type == TRUENO_TYPE_F32 ? 4 : 2, panel = p / 16, lane = p % 16;
    if (s->type != TRUENO_TYPE_Q8_0)
        return (struct place){s->k + ((panel * s->head_dim + d) * 16 + lane) * size, NULL};
    uint8_t *block = s->k + (panel * (s->head_dim / 32) + d / 32) * 544;
    return (struct place){block + 32 + d % 32 * 16 + lane, block + 2 * lane};
}

static struct place value_place(const struct scene *s, size_t p, size_t d)
{
    size_t size = s->type == TRUENO_TYPE_F32 ? 4 : 2, n_blocks = s->head_dim / 32;
    if (s->type != TRUENO_TYPE_Q8_0)
        return (struct place){s->v + (p * s->head_dim + d) * size, NULL};
    uint8_t *row = s->v + p * n_blocks * 34;
    return (struct place){row + 2 * n_blocks + d, row + d / 32 * 2};
}

static void put_half(uint8_t *at, uint16_t half)
{
    memcpy(at, &half, sizeof half);
}

static uint16_t get_half(const uint8_t *at)
{
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return half;
}

/* Q8_0: rounded to the block's scale; what is not finite makes the scale NaN. */
static void put(const struct scene *s, struct place to, float x)
{
    switch (s->type) {
    case TRUENO_TYPE_F16: put_half(to.at, tr_f32_to_f16(x)); break;
    case TRUENO_TYPE_BF16: put_half(to.at, tr_f32_to_bf16(x)); break;
    case TRUENO_TYPE_Q8_0:
        if (isfinite(x)) {
            float q = rintf(x / tr_f16_to_f32(get_half(to.scale)));
            *(int8_t *)to.at = (int8_t)fmaxf(-127.0F, fminf(127.0F, q));
        } else {
            put_half(to.scale, 0x7e00);
        }
        break;
    default: memcpy(to.at, &x, sizeof x);
    }
}

static double get(const struct scene *s, struct place from)
{
    float x;
    switch (s->type) {
    case TRUENO_TYPE_F16: return (double)tr_f16_to_f32(get_half(from.at));
    case TRUENO_TYPE_BF16: return (double)tr_bf16_to_f32(get_half(from.at));
    case TRUENO_TYPE_Q8_0:
        return (double)tr_f16_to_f32(get_half(from.scale)) * *(const int8_t *)from.at;
    default: memcpy(&x, from.at, sizeof x); return (double)x;
    }
}

static void put_key(const struct scene *s, size_t p, size_t d, float x)
{
    put(s, key_place(s, p, d), x);
}

static void put_value(const struct scene *s, size_t p, size_t d, float x)
{
    put(s, value_place(s, p, d), x);
}

static double key_of(const struct scene *s, size_t p, size_t d)
{
    return get(s, key_place(s, p, d));
}

static double value_of(const struct scene *s, size_t p, size_t d)
{
    return get(s, value_place(s, p, d));
}

static size_t cache_bytes(const struct scene *s)
{
    return N_CTX * trueno_row_bytes(s->type, s->head_dim);
}

/* Scales of Q8_0, from 1/64 up, unlike their neighbours'. */
static void set_scales(const struct scene *s)
{
    for (size_t p = 0; s->type == TRUENO_TYPE_Q8_0 && p < N_CTX; p++) {
        for (size_t d = 0; d < s->head_dim; d += 32) {
            float scale = 0x1p-6F + 0x1p-9F * (float)((p % 16 + 3 * d / 32) % 5);
            put_half(key_place(s, p, d).scale, tr_f32_to_f16(scale));
            put_half(value_place(s, p, d).scale, tr_f32_to_f16(scale));
        }
    }
}

static void caches_new(struct scene *s)
{
    s->k = test_alloc(cache_bytes(s));
    s->v = test_alloc(cache_bytes(s));
    s->a.k_cache = s->k;
    s->a.v_cache = s->v;
}

static void fill_position(const struct scene *s, size_t p, float k, float v)
{
    for (size_t d = 0; d < s->head_dim; d++) {
        put_key(s, p, d, k);
        put_value(s, p, d, v);
    }
}

/* Keys and values uniform in [-1, 1), queries in [-2, 2); every query sees [0, 256). */
static struct scene *scene_new(const struct tr_kernel *kernel, size_t head_dim)
{
    struct scene *s = test_alloc(sizeof *s);
    uint64_t rng = head_dim;

    memset(s, 0, sizeof *s);
    s->kernel = kernel;
    s->type = kernel->dtype;
    s->head_dim = head_dim;
    s->a = (struct tr_attn_args){
        .head_dim = head_dim, .scale = 1.0F / sqrtf((float)head_dim), .n_q = N_Q};
    caches_new(s);
    set_scales(s);
    for (size_t p = 0; p < N_CTX; p++) {
        for (size_t d = 0; d < head_dim; d++) {
            put_key(s, p, d, random_uniform(&rng));
            put_value(s, p, d, random_uniform(&rng));
        }
    }
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

    memcpy(c, s, sizeof *c);
    caches_new(c);
    memcpy(c->k, s->k, cache_bytes(s));
    memcpy(c->v, s->v, cache_bytes(s));
    for (size_t i = 0; i < N_Q; i++) {
        c->a.q[i] = c->q[i];
        c->a.out[i] = c->out[i];
    }
    return c;
}

/* Calls f with each kernel and each head dimension; `blocks`: Q8_0 too. */
static void for_types(void (*f)(struct scene *s), bool blocks)
{
    const struct tr_kernel *k;
    size_t n = 0;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if (k->op != TR_OP_ATTENTION || (k->cpu & ~trueno_cpu_features()) != 0) continue;
        for (size_t h = 0; h < N_DIMS; h++) {
            bool q8 = k->dtype == TRUENO_TYPE_Q8_0;
            if (q8 && (!blocks || head_dims[h] % 32 != 0)) continue;
            struct scene *s = scene_new(k, head_dims[h]);
            f(s);
            scene_free(s);
            n++;
        }
    }
    assert_true(n >= 3 * N_DIMS + (blocks ? 4 : 0));
}

static void for_all(void (*f)(struct scene *s))
{
    for_types(f, true);
}

/* For what needs single elements of any size. */
static void for_plain_types(void (*f)(struct scene *s))
{
    for_types(f, false);
}

/* --------------------------------------------------------- double precision */

static double score_of(const struct scene *s, size_t i, size_t p)
{
    double dot = 0;
    for (size_t d = 0; d < s->head_dim; d++) dot += key_of(s, p, d) * (double)s->q[i][d];
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
        for (size_t d = 0; d < s->head_dim; d++) out[d] += e * value_of(s, p, d);
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
        put_key(s, 77, d, s->q[0][d]);
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
        assert_true((double)s->out[0][d] == value_of(s, 77, d));
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
            put_key(alone, p + 256, d, (float)key_of(s, p, d));
            put_value(alone, p + 256, d, (float)value_of(s, p, d));
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

/* Only element 0 of keys and queries is not 0: score p is s[p], exactly (a bfloat16 of a size that
 * f16 holds). */
static void set_scores(struct scene *s, const float *score)
{
    for (size_t p = 0; p < 256; p++) {
        for (size_t d = 0; d < s->head_dim; d++) put_key(s, p, d, 0.0F);
        put_key(s, p, 0, score[p]);
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
    for_plain_types(check_sum_order);
}

/* The values' chain ascends: 2^24 first, then ones that it swallows one at a time; descending they
 * would add up to 100 before. With equal scores every e is 1. */
static void check_value_order(struct scene *s)
{
    float score[256];
    for (size_t p = 0; p < 256; p++) {
        score[p] = -3.0F;
        for (size_t d = 0; d < s->head_dim; d++)
            put_value(s, p, d, p == 10 ? 32768.0F : p < 64 ? 0.0F : 0x1p-9F);
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
    for_plain_types(check_value_order);
}

/* The scores' chain ascends over d: 2^15 first swallows each 2^-9 that follows. */
static void check_score_order(struct scene *s)
{
    for (size_t d = 0; d < s->head_dim; d++) {
        for (size_t p = 0; p < 256; p++) put_key(s, p, d, d ? 0x1p-9F : 32768.0F);
        for (size_t i = 0; i < N_Q; i++) s->q[i][d] = 1.0F;
    }
    s->a.scale = 1.0F;
    run(s);
    for (size_t i = 0; i < N_Q; i++) assert_true(s->a.max[i] == 32768.0F);
}

static void test_score_order(void **state)
{
    (void)state;
    for_plain_types(check_score_order);
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
            assert_true((double)s->out[i][d] == value_of(s, s->a.lo[i], d));
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
    for (size_t p = 0; p < 256; p++) put_key(s, p, 0, p % 3 ? 1.0F : 0.0F);
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
        put_value(s, 5, d, 0.0F);
        put_value(s, 6, d, 32768.0F);
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
    for_plain_types(check_smallest_weight);
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
            double score = score_of(s, q, p);
            if (pass == 0) max = fmax(max, score);
            if (pass == 0) continue;
            sum += exp(score - max);
            for (size_t d = 0; d < s->head_dim; d++) out[d] += exp(score - max) * value_of(s, p, d);
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
            run(s);
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
    for_all(check_merge);
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
        cmocka_unit_test(test_matches_double),  cmocka_unit_test(test_softcap),
        cmocka_unit_test(test_causal),          cmocka_unit_test(test_huge_scores),
        cmocka_unit_test(test_nothing_visible), cmocka_unit_test(test_invisible_positions),
        cmocka_unit_test(test_nan_query),       cmocka_unit_test(test_company),
        cmocka_unit_test(test_sum_order),       cmocka_unit_test(test_value_order),
        cmocka_unit_test(test_score_order),     cmocka_unit_test(test_single_position),
        cmocka_unit_test(test_zero_maximum),    cmocka_unit_test(test_smallest_weight),
        cmocka_unit_test(test_merge),           cmocka_unit_test(test_merge_rule),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
