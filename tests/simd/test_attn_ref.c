/* SPDX-License-Identifier: MIT */
/* Attention kernels, the reference and every other that this CPU runs: against double precision
 * over the cache as it is stored, and what they must not see. */
#include "attn_scene.h"

#include <math.h>
#include <string.h>

/* --------------------------------------------------------- double precision */

/* Normalised attention of query i. */
static void exact_attention(const struct scene *s, size_t i, double *out)
{
    double max = -INFINITY, sum = 0;

    for (size_t d = 0; d < s->head_dim; d++) out[d] = 0;
    for (size_t p = s->a.lo[i]; p < s->a.hi[i]; p++) max = fmax(max, scene_score(s, i, p));
    for (size_t p = s->a.lo[i]; p < s->a.hi[i]; p++) {
        double e = exp(scene_score(s, i, p) - max);
        sum += e;
        for (size_t d = 0; d < s->head_dim; d++) out[d] += e * scene_value(s, p, d);
    }
    for (size_t d = 0; d < s->head_dim; d++) out[d] /= sum;
    assert_true(fabs((double)s->a.max[i] - max) <= 4e-6 * fmax(1.0, fabs(max)));
    assert_true(fabs((double)s->a.sum[i] - sum) <= 4e-6 * sum * fmax(1.0, fabs(max)));
}

static void check_against_double(struct scene *s, double bound)
{
    double exact[MAX_DIM];

    scene_run(s);
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
    scene_for_all(check_ranges);
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
    scene_for_all(check_softcap);
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
    scene_for_all(check_causal);
}

/* Scores of +-10000 and more: without the maximum taken off, exp would overflow. */
static void check_huge_scores(struct scene *s)
{
    for (size_t d = 0; d < s->head_dim; d++) { /* position 77 is query 0's own */
        scene_put_key(s, 77, d, s->q[0][d]);
    }
    s->a.scale = 1e4F;
    scene_run(s);
    for (size_t i = 0; i < N_Q; i++) {
        assert_true(isfinite(s->a.max[i]) && s->a.max[i] > 1e3F);
        assert_true(s->a.sum[i] >= 1.0F && s->a.sum[i] <= 256.0F);
        for (size_t d = 0; d < s->head_dim; d++) assert_true(fabsf(s->out[i][d]) <= 256.0F);
    }
    /* |q|^2 beats every other score by far: all others vanish */
    assert_true(s->a.sum[0] == 1.0F);
    for (size_t d = 0; d < s->head_dim; d++)
        assert_true((double)s->out[0][d] == scene_value(s, 77, d));
}

static void test_huge_scores(void **state)
{
    (void)state;
    scene_for_all(check_huge_scores);
}

/* ------------------------------------------------------------------ masks */

static void check_nothing_visible(struct scene *s)
{
    struct scene *all = scene_copy(s);
    scene_run(all);
    s->a.lo[0] = s->a.hi[0] = 0;
    s->a.lo[1] = s->a.hi[1] = 100;
    s->a.lo[2] = 200;
    s->a.hi[2] = 100;
    s->a.lo[3] = s->a.hi[3] = 256;
    scene_run(s);
    for (size_t i = 0; i < 4; i++) {
        assert_true(s->a.max[i] == -INFINITY);
        assert_true(s->a.sum[i] == 0.0F);
        for (size_t d = 0; d < s->head_dim; d++) assert_true(s->out[i][d] == 0.0F);
    }
    for (size_t i = 4; i < N_Q; i++) scene_assert_same(s, i, all, i);
    s->a.n_q = 4; /* no query sees anything */
    scene_run(s);
    for (size_t i = 0; i < 4; i++) assert_true(s->a.sum[i] == 0.0F);
    s->a.n_q = 0;
    scene_run(s);
    scene_free(all);
}

static void test_nothing_visible(void **state)
{
    (void)state;
    scene_for_all(check_nothing_visible);
}

/* Positions that a query does not see may hold anything, and other queries may see them. */
static void check_invisible_positions(struct scene *s)
{
    struct scene *bad = scene_copy(s);
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = bad->a.lo[i] = 40 + 3 * i;
        s->a.hi[i] = bad->a.hi[i] = 171 + 5 * i;
    }
    scene_run(s);
    bad->a.lo[7] = 39; /* one query sees what the others do not */
    for (size_t p = 0; p < 256; p++) {
        if (p < 40 || p >= 206) scene_fill(bad, p, NAN, INFINITY);
    }
    scene_run(bad);
    for (size_t i = 0; i < N_Q - 1; i++) scene_assert_same(s, i, bad, i);
    assert_true(isnan(bad->a.sum[7]) && isnan(bad->out[7][0]));
    scene_free(bad);
}

static void test_invisible_positions(void **state)
{
    (void)state;
    scene_for_all(check_invisible_positions);
}

/* NaN in a query stays in its query. */
static void check_nan_query(struct scene *s)
{
    struct scene *bad = scene_copy(s);
    scene_run(s);
    bad->q[3][s->head_dim - 1] = NAN;
    scene_run(bad);
    for (size_t i = 0; i < N_Q; i++) {
        if (i != 3) scene_assert_same(s, i, bad, i);
    }
    assert_true(isnan(bad->a.sum[3]));
    for (size_t d = 0; d < s->head_dim; d++) assert_true(isnan(bad->out[3][d]));
    scene_free(bad);
}

static void test_nan_query(void **state)
{
    (void)state;
    scene_for_all(check_nan_query);
}

/* A query gets the same bits alone, in any company, and in any chunk. */
static void check_company(struct scene *s)
{
    struct scene *alone = scene_copy(s);
    for (uint32_t i = 0; i < N_Q; i++) {
        s->a.lo[i] = 9 * i;
        s->a.hi[i] = 256 - 17 * ((i + 3) % N_Q);
    }
    scene_run(s);
    for (size_t p = 0; p < 256; p++) {
        for (size_t d = 0; d < s->head_dim; d++) {
            scene_put_key(alone, p + 256, d, (float)scene_key(s, p, d));
            scene_put_value(alone, p + 256, d, (float)scene_value(s, p, d));
        }
        scene_fill(alone, p, NAN, NAN);
    }
    for (size_t n = 1; n <= N_Q; n++) {
        for (size_t i = 0; i < n; i++) {
            size_t query = (i + n) % N_Q;
            alone->a.q[i] = s->q[query];
            alone->a.lo[i] = 256 + s->a.lo[query];
            alone->a.hi[i] = 256 + s->a.hi[query];
        }
        alone->a.n_q = (uint32_t)n;
        scene_run(alone);
        for (size_t i = 0; i < n; i++) scene_assert_same(s, (i + n) % N_Q, alone, i);
    }
    scene_free(alone);
}

static void test_company(void **state)
{
    (void)state;
    scene_for_all(check_company);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_matches_double),  cmocka_unit_test(test_softcap),
        cmocka_unit_test(test_causal),          cmocka_unit_test(test_huge_scores),
        cmocka_unit_test(test_nothing_visible), cmocka_unit_test(test_invisible_positions),
        cmocka_unit_test(test_nan_query),       cmocka_unit_test(test_company),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
