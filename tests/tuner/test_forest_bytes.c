/* SPDX-License-Identifier: MIT */
/* Forests as bytes: written as their layout says, read back to the bit, and hostile bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hooks.h"
#include "tuner/forest.h"
#include "tuner/random.h"

enum { ROWS = 120, FEATURES = 4, CLASSES = 3 };

static trueno_ctx *ctx;

/* A forest of numbers, or of classes, that have little to do with the features. */
static struct tr_forest *grow(bool classes, uint32_t n_trees)
{
    static float x[ROWS][FEATURES];
    double y[ROWS];
    uint32_t labels[ROWS];
    struct tr_random random;
    struct tr_forest *f;
    trueno_error err = {TRUENO_OK, ""};
    tr_random_seed(&random, 7, 0);
    for (int i = 0; i < ROWS; i++) {
        for (int k = 0; k < FEATURES; k++) x[i][k] = (float)tr_random_unit(&random);
        y[i] = tr_random_unit(&random) + (double)x[i][1];
        labels[i] = y[i] > 0.7 ? 1 + (x[i][2] > 0.5F) : 0;
    }
    struct tr_forest_data d = {.x = x[0], .n = ROWS, .n_features = FEATURES};
    if (classes) d.labels = labels;
    if (!classes) d.y = y;
    d.n_classes = classes ? CLASSES : 0;
    struct tr_forest_options o = {.n_trees = n_trees,
                                  .max_depth = 12,
                                  .min_leaf = 2,
                                  .mtry = 2,
                                  .bootstrap = true,
                                  .seed = 3};
    if (tr_forest_train(&f, ctx, &d, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return f;
}

/* Bytes of a forest in a block of exactly their size, so that a sanitizer sees any beyond it. */
static uint8_t *bytes_of(const struct tr_forest *f, size_t *n)
{
    *n = tr_forest_bytes(f);
    uint8_t *p = malloc(*n);
    assert_non_null(p);
    tr_forest_write(f, p);
    return p;
}

/* What a forest says of 200 points. */
static void ask(const struct tr_forest *f, double out[200][CLASSES])
{
    struct tr_random random;
    tr_random_seed(&random, 8, 0);
    for (int i = 0; i < 200; i++) {
        float x[FEATURES];
        for (int k = 0; k < FEATURES; k++) x[k] = (float)tr_random_unit(&random);
        memset(out[i], 0, sizeof out[i]);
        if (tr_forest_classes(f)) tr_forest_classify(f, x, out[i]);
        if (!tr_forest_classes(f)) out[i][0] = tr_forest_predict(f, x, &out[i][1]);
    }
}

static void test_round_trip(void **state)
{
    (void)state;
    for (int classes = 0; classes < 2; classes++) {
        static double before[200][CLASSES], after[200][CLASSES];
        struct tr_forest *f = grow(classes, 20), *g;
        size_t n, n_again, n_oob, n_oob_after;
        uint8_t *p = bytes_of(f, &n);
        trueno_error err = {TRUENO_OK, ""};
        if (tr_forest_read(&g, ctx, p, n, &err) != TRUENO_OK) fail_msg("%s", err.message);
        assert_int_equal(tr_forest_features(g), FEATURES);
        assert_int_equal(tr_forest_classes(g), classes ? CLASSES : 0);
        ask(f, before);
        ask(g, after);
        assert_memory_equal(before, after, sizeof before);
        assert_true(before[0][0] != before[1][0] || before[0][0] != before[2][0]);
        double e = tr_forest_oob_error(f, &n_oob);
        assert_true(tr_forest_oob_error(g, &n_oob_after) == e && n_oob_after == n_oob && e > 0);
        uint8_t *again = bytes_of(g, &n_again);
        assert_int_equal(n_again, n);
        assert_memory_equal(p, again, n);
        free(p);
        free(again);
        tr_forest_free(f);
        tr_forest_free(g);
    }
}

/* A split of feature 1 at 11.5 and two leaves, spelt out. */
static const uint8_t step[] = {
    1, 0, 0,    0,    2, 0, 0,    0,    0, 0,
    0, 0, 3,    0,    0, 0, 0,    0,    0, 0, /* trees features classes nodes */
    0, 0, 0,    0,    0, 0, 0,    0,          /* no rows out of bag */
    0, 0, 0,    0,    0, 0, 0xf8, 0x7f,       /* NaN */
    0, 0, 0,    0,                            /* root */
    0, 0, 0x38, 0x41, 2, 0, 1,    0,          /* 11.5, right 2, feature 1 */
    0, 0, 0xc0, 0xbf, 0, 0, 0xff, 0xff,       /* -1.5 */
    0, 0, 0x10, 0x40, 0, 0, 0xff, 0xff};      /* 2.25 */

static void test_layout(void **state)
{
    float x[20][2];
    double y[20];
    struct tr_forest *f;
    size_t n;
    (void)state;
    for (int i = 0; i < 20; i++) {
        x[i][0] = 1;
        x[i][1] = (float)i;
        y[i] = i < 12 ? -1.5 : 2.25;
    }
    struct tr_forest_data d = {.x = x[0], .n = 20, .n_features = 2, .y = y};
    struct tr_forest_options o = {.n_trees = 1, .max_depth = 3, .min_leaf = 3, .mtry = 2};
    assert_int_equal(tr_forest_train(&f, ctx, &d, &o, NULL), TRUENO_OK);
    uint8_t *p = bytes_of(f, &n);
    assert_int_equal(n, sizeof step);
    memcpy(p + 28, step + 28, 8); /* a NaN has many forms */
    assert_memory_equal(p, step, n);
    tr_forest_free(f);
    free(p);

    assert_int_equal(tr_forest_read(&f, ctx, step, sizeof step, NULL), TRUENO_OK);
    const float low[2] = {0, 11.5F}, high[2] = {0, 11.75F};
    assert_true(tr_forest_predict(f, low, NULL) == -1.5);
    assert_true(tr_forest_predict(f, high, NULL) == 2.25);
    tr_forest_free(f);
}

static void expect_refused(const uint8_t *p, size_t n, trueno_status want, const char *part)
{
    struct hooks h = {0};
    trueno_ctx_options opt = hook_options(&h);
    trueno_error err = {TRUENO_OK, ""};
    struct tr_forest *f = (void *)&h;
    trueno_ctx *c;
    assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
    h.max_size = 4096; /* announced counts allocate nothing */
    assert_int_equal(tr_forest_read(&f, c, p, n, &err), want);
    assert_null(f);
    if (!strstr(err.message, part)) fail_msg("'%s' lacks '%s'", err.message, part);
    trueno_ctx_free(c);
    assert_int_equal(atomic_load(&h.blocks), 0);
}

/* The step with the bytes at `at` in another way. */
static void expect_bad(size_t at, const char *bytes, size_t n_bytes, trueno_status want,
                       const char *part)
{
    uint8_t p[sizeof step];
    memcpy(p, step, sizeof p);
    memcpy(p + at, bytes, n_bytes);
    expect_refused(p, sizeof p, want, part);
}

static void test_hostile(void **state)
{
    (void)state;
#define BAD(at, bytes, part) expect_bad(at, bytes, sizeof bytes - 1, TRUENO_ERR_CORRUPT, part)
    BAD(0, "\0", "count");                         /* no tree */
    BAD(0, "\xff\xff\xff\xff", "count");           /* 2^32 - 1 of them */
    BAD(4, "\0", "count");                         /* no feature */
    BAD(4, "\x41", "count");                       /* 65 */
    BAD(8, "\x41", "count");                       /* 65 classes */
    BAD(12, "\0", "count");                        /* fewer nodes than trees */
    BAD(12, "\xff\xff\xff\xff", "count");          /* 2^32 - 1 nodes */
    BAD(16, "\1", "count");                        /* leaves of no class */
    BAD(20, "\1", "out-of-bag");                   /* a row, and its error is NaN */
    BAD(20, "\1\0\0\0\1", "rows");                 /* 2^32 rows */
    BAD(28, "\0\0\0\0\0\0\xf0\x3f", "out-of-bag"); /* no row, and an error */
    BAD(36, "\1", "node 0");                       /* a node of no tree */
    BAD(44, "\0", "tree 0");                       /* right is the node itself */
    BAD(44, "\1", "tree 0");                       /* right is the left one */
    BAD(44, "\3", "tree 0");                       /* right is beyond the nodes */
    BAD(46, "\2", "tree 0");                       /* feature 2 of 2 */
    BAD(40, "\0\0\x80\x7f", "tree 0");             /* a split at infinity */
    BAD(48, "\0\0\xc0\x7f", "tree 0");             /* a leaf of NaN */
    BAD(48, "\0\0\0\x60", "tree 0");               /* of 2^65 */
    BAD(52, "\1", "tree 0");                       /* of a child */
    BAD(54, "\1\0", "tree 0");                     /* a split whose left child is its right */
    BAD(40, "\0\0\0\0\0\0\xff\xff", "tree 0");     /* the root is a leaf: nodes too many */
    expect_bad(12, "\4", 1, TRUENO_ERR_TRUNCATED, "announces 72"); /* four nodes: 36 + 4 + 32 */
    uint8_t longer[sizeof step + 1] = {0};
    memcpy(longer, step, sizeof step);
    expect_refused(longer, sizeof longer, TRUENO_ERR_CORRUPT, "bytes follow");
    expect_refused(NULL, 0, TRUENO_ERR_TRUNCATED, "0 bytes");
}

static void put32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> 8 * i);
}

/* A comb of splits: every left child is a leaf, and the last right one. */
static size_t comb(uint8_t *p, uint32_t depth)
{
    memcpy(p, step, 40);
    put32(p + 12, 2 * depth + 1);
    uint8_t *at = p + 40;
    for (uint32_t i = 0; i < depth; i++, at += 16) {
        put32(at, 0);
        put32(at + 4, 2 * i + 2); /* right; feature 0 */
        put32(at + 8, 0);
        put32(at + 12, 0xffff0000);
    }
    put32(at, 0);
    put32(at + 4, 0xffff0000);
    return 40 + 8 * (2 * (size_t)depth + 1);
}

/* The same with leaves on the right: left children deep down, whose right siblings all wait. */
static size_t left_comb(uint8_t *p, uint32_t depth)
{
    memcpy(p, step, 40);
    put32(p + 12, 2 * depth + 1);
    uint8_t *at = p + 40;
    for (uint32_t i = 0; i < depth; i++, at += 8) {
        put32(at, 0);
        put32(at + 4, 2 * depth - i);
    }
    for (uint32_t i = 0; i <= depth; i++, at += 8) {
        put32(at, 0);
        put32(at + 4, 0xffff0000);
    }
    return 40 + 8 * (2 * (size_t)depth + 1);
}

static void test_depth(void **state)
{
    uint8_t p[1024];
    struct tr_forest *f;
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    if (tr_forest_read(&f, ctx, p, comb(p, 31), &err) != TRUENO_OK) fail_msg("%s", err.message);
    tr_forest_free(f);
    expect_refused(p, comb(p, 32), TRUENO_ERR_CORRUPT, "tree 0");
    if (tr_forest_read(&f, ctx, p, left_comb(p, 31), &err) != TRUENO_OK)
        fail_msg("%s", err.message);
    tr_forest_free(f);
    expect_refused(p, left_comb(p, 32), TRUENO_ERR_CORRUPT, "tree 0");
}

/* Right children that are behind their parents and in the tree, but of another node. */
static void test_crossed(void **state)
{
    uint8_t p[256];
    (void)state;
    size_t n = comb(p, 3);
    p[44] = 4; /* the root's right child is its right child's */
    expect_refused(p, n, TRUENO_ERR_CORRUPT, "tree 0");
    n = left_comb(p, 3);
    p[44] = 5;
    p[52] = 6;
    expect_refused(p, n, TRUENO_ERR_CORRUPT, "tree 0");
}

/* A leaf of two classes, its shares changed. */
static void test_shares(void **state)
{
    uint8_t p[40 + 8 + 8];
    struct tr_forest *f;
    double shares[2];
    const float x[2] = {0, 0};
    (void)state;
    memcpy(p, step, 40);
    p[8] = 2;
    p[12] = 1;
    p[16] = 1;
    put32(p + 40, 0);
    put32(p + 44, 0xffff0000);
    put32(p + 48, 0x3e800000); /* 0.25 */
    put32(p + 52, 0x3f400000); /* 0.75 */
    assert_int_equal(tr_forest_read(&f, ctx, p, sizeof p, NULL), TRUENO_OK);
    tr_forest_classify(f, x, shares);
    assert_true(shares[0] == 0.25 && shares[1] == 0.75);
    tr_forest_free(f);
    put32(p + 52, 0x3f000000); /* 0.5 */
    expect_refused(p, sizeof p, TRUENO_ERR_CORRUPT, "shares of leaf 0");
    put32(p + 52, 0x7fc00000); /* NaN */
    expect_refused(p, sizeof p, TRUENO_ERR_CORRUPT, "shares of leaf 0");
    put32(p + 48, 0xbe800000); /* -0.25 and 1.25 */
    put32(p + 52, 0x3fa00000);
    expect_refused(p, sizeof p, TRUENO_ERR_CORRUPT, "shares of leaf 0");
    put32(p + 48, 0x3e800000);
    put32(p + 52, 0x3f400000);
    put32(p + 40, 0x3f800000); /* distribution 1 of 1 */
    expect_refused(p, sizeof p, TRUENO_ERR_CORRUPT, "tree 0");
}

static void test_truncated(void **state)
{
    (void)state;
    for (int classes = 0; classes < 2; classes++) {
        struct tr_forest *f = grow(classes, 2), *g;
        size_t n;
        uint8_t *p = bytes_of(f, &n);
        for (size_t i = 0; i < n; i++) {
            uint8_t *cut = malloc(i ? i : 1);
            assert_non_null(cut);
            memcpy(cut, p, i);
            assert_int_equal(tr_forest_read(&g, ctx, cut, i, NULL), TRUENO_ERR_TRUNCATED);
            assert_null(g);
            free(cut);
        }
        free(p);
        tr_forest_free(f);
    }
}

/* Whatever is accepted answers with numbers that are within its range. */
static void test_mutations(void **state)
{
    static double out[200][CLASSES];
    struct tr_random random;
    uint32_t accepted = 0, refused = 0;
    (void)state;
    tr_random_seed(&random, 9, 0);
    for (int classes = 0; classes < 2; classes++) {
        struct tr_forest *f = grow(classes, 3), *g;
        size_t n;
        uint8_t *p = bytes_of(f, &n);
        for (int trial = 0; trial < 10000; trial++) {
            size_t at[3];
            uint8_t old[3];
            uint32_t n_changes = 1 + tr_random_below(&random, 3);
            for (uint32_t k = 0; k < n_changes; k++) {
                at[k] = tr_random_below(&random, (uint32_t)n);
                old[k] = p[at[k]];
                p[at[k]] = (uint8_t)tr_random_next(&random);
            }
            trueno_status st = tr_forest_read(&g, ctx, p, n, NULL);
            for (uint32_t k = n_changes; k-- > 0;) p[at[k]] = old[k];
            refused += st != TRUENO_OK;
            assert_true((st == TRUENO_OK) == (g != NULL));
            if (st != TRUENO_OK) continue;
            accepted++;
            if (tr_forest_features(g) <= FEATURES && tr_forest_classes(g) <= CLASSES) ask(g, out);
            for (int i = 0; i < 200; i++)
                assert_true(fabs(out[i][0]) <= (classes ? 1 : TR_FOREST_MAX_TARGET));
            tr_forest_free(g);
        }
        free(p);
        tr_forest_free(f);
    }
    assert_true(accepted > 100 && refused > 1000);
}

static void test_no_memory(void **state)
{
    int succeeded = 0;
    (void)state;
    for (int classes = 0; classes < 2; classes++) {
        struct tr_forest *f = grow(classes, 3), *g;
        size_t n;
        uint8_t *p = bytes_of(f, &n);
        for (size_t call = 1; call < 8; call++) {
            struct hooks h = {0};
            trueno_ctx_options opt = hook_options(&h);
            trueno_ctx *c;
            assert_int_equal(trueno_ctx_new(&c, &opt, NULL), TRUENO_OK);
            h.fail_at = atomic_load(&h.calls) + call;
            trueno_status st = tr_forest_read(&g, c, p, n, NULL);
            assert_true(st == TRUENO_OK ? g != NULL : st == TRUENO_ERR_NO_MEMORY && g == NULL);
            succeeded += st == TRUENO_OK;
            tr_forest_free(g);
            trueno_ctx_free(c);
            assert_int_equal(atomic_load(&h.blocks), 0);
        }
        free(p);
        tr_forest_free(f);
    }
    assert_true(succeeded > 0 && succeeded < 14);
}

/* Out-of-bag shares: those of the trees that have not seen a row, which together give the error. */
static void test_oob_shares(void **state)
{
    float x[ROWS][1];
    uint32_t labels[ROWS];
    double oob[ROWS][2];
    struct tr_forest *f;
    size_t n, wrong = 0;
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        x[i][0] = (float)i;
        labels[i] = i >= 60;
        oob[i][0] = oob[i][1] = -7;
    }
    struct tr_forest_data d = {
        .x = x[0], .n = ROWS, .n_features = 1, .labels = labels, .n_classes = 2, .oob = oob[0]};
    struct tr_forest_options o = {
        .n_trees = 40, .max_depth = 12, .min_leaf = 3, .mtry = 1, .bootstrap = true, .seed = 1};
    assert_int_equal(tr_forest_train(&f, ctx, &d, &o, NULL), TRUENO_OK);
    for (int i = 0; i < ROWS; i++) {
        assert_true(fabs(oob[i][0] + oob[i][1] - 1) <= 1e-6);
        wrong += (oob[i][1] > oob[i][0]) != labels[i];
    }
    assert_true(fabs(tr_forest_oob_error(f, &n) - (double)wrong / ROWS) <= 1e-12 && n == ROWS);
    assert_true(oob[0][0] == 1 && oob[119][1] == 1);
    tr_forest_free(f);
}

static int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL);
}

static int teardown(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_layout),
        cmocka_unit_test(test_hostile),    cmocka_unit_test(test_depth),
        cmocka_unit_test(test_crossed),    cmocka_unit_test(test_shares),
        cmocka_unit_test(test_truncated),  cmocka_unit_test(test_mutations),
        cmocka_unit_test(test_no_memory),  cmocka_unit_test(test_oob_shares),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
