/* SPDX-License-Identifier: MIT */
/* Grows a forest from the standard input and prints what it predicts, for compare_forest.py, which
 * compares that with another implementation. Numbers, separated by blanks:
 *
 *     n_classes (0: regression)  rows  features  test rows
 *     n_trees  max_depth  min_leaf  mtry  bootstrap (0, 1)  seed
 *     rows x (features, target or class)
 *     test rows x (features)
 *
 * Prints "oob ERROR ROWS", then for every test row the prediction or the share of every class. */
#include "tuner/forest.h"

#include <stdio.h>
#include <stdlib.h>

enum { MAX_ROWS = 1 << 20 };

struct input {
    uint32_t n_classes, rows, features, n_test;
    struct tr_forest_options options;
    float *x, *test;
    double *y;
    uint32_t *labels;
};

static bool read_head(struct input *in)
{
    unsigned classes, rows, features, n_test, trees, depth, leaf, mtry, bootstrap;
    unsigned long long seed;
    if (scanf("%u %u %u %u %u %u %u %u %u %llu", &classes, &rows, &features, &n_test, &trees,
              &depth, &leaf, &mtry, &bootstrap, &seed) != 10)
        return false;
    in->n_classes = classes;
    in->rows = rows;
    in->features = features;
    in->n_test = n_test;
    in->options = (struct tr_forest_options){trees, depth, leaf, mtry, bootstrap != 0, seed};
    return rows > 0 && rows <= MAX_ROWS && n_test <= MAX_ROWS && features > 0 &&
           features <= TR_FOREST_MAX_FEATURES && classes <= TR_FOREST_MAX_CLASSES;
}

static bool read_floats(float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (scanf("%f", &out[i]) != 1) return false;
    return true;
}

static bool read_rows(struct input *in)
{
    in->x = calloc((size_t)in->rows * in->features, sizeof *in->x);
    in->test = calloc((size_t)in->n_test * in->features + 1, sizeof *in->test);
    in->y = calloc(in->rows, sizeof *in->y);
    in->labels = calloc(in->rows, sizeof *in->labels);
    if (!in->x || !in->test || !in->y || !in->labels) return false;
    for (uint32_t i = 0; i < in->rows; i++) {
        if (!read_floats(in->x + (size_t)i * in->features, in->features)) return false;
        if (scanf("%lf", &in->y[i]) != 1) return false;
        in->labels[i] = (uint32_t)in->y[i];
    }
    return read_floats(in->test, (size_t)in->n_test * in->features);
}

static void print_row(const struct tr_forest *f, const float *x)
{
    double p[TR_FOREST_MAX_CLASSES];
    uint32_t n = tr_forest_classes(f);
    if (n == 0) printf("%.9g\n", tr_forest_predict(f, x, NULL));
    if (n > 0) tr_forest_classify(f, x, p);
    for (uint32_t c = 0; c < n; c++) printf(c + 1 < n ? "%.9g " : "%.9g\n", p[c]);
}

int main(void)
{
    struct input in = {0};
    struct tr_forest *f = NULL;
    trueno_error err = {TRUENO_OK, ""};
    trueno_ctx *ctx = NULL;
    size_t n;
    int rc = EXIT_FAILURE;
    if (!read_head(&in) || !read_rows(&in)) {
        fprintf(stderr, "oracle_forest: the input is none\n");
    } else if (trueno_ctx_new(&ctx, NULL, &err) == TRUENO_OK) {
        struct tr_forest_data d = {.x = in.x, .n = in.rows, .n_features = in.features};
        d.n_classes = in.n_classes;
        if (in.n_classes)
            d.labels = in.labels;
        else
            d.y = in.y;
        if (tr_forest_train(&f, ctx, &d, &in.options, &err) == TRUENO_OK) {
            double error = tr_forest_oob_error(f, &n);
            printf("oob %.9g %zu\n", error, n);
            for (uint32_t i = 0; i < in.n_test; i++)
                print_row(f, in.test + (size_t)i * in.features);
            rc = EXIT_SUCCESS;
        } else {
            fprintf(stderr, "oracle_forest: %s\n", err.message);
        }
    }
    tr_forest_free(f);
    trueno_ctx_free(ctx);
    free(in.x);
    free(in.test);
    free(in.y);
    free(in.labels);
    return rc;
}
