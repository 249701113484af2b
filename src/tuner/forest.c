/* SPDX-License-Identifier: MIT */
/* Growing random forests (forest.h). */
#include "tuner/forest.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/forest_impl.h"
#include "tuner/random.h"

enum { MAX_BINS = 255, LEAF = TR_FOREST_LEAF, MAX_DEPTH = TR_FOREST_MAX_DEPTH };

/* ------------------------------------------------------------------------ bins */

/* Features as bins. A row is in bin b of a feature if b of its cuts are below the value. */
struct bins {
    uint8_t *of; /* [n_features][n] */
    float cuts[TR_FOREST_MAX_FEATURES][MAX_BINS];
    uint32_t n_cuts[TR_FOREST_MAX_FEATURES];
};

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Where low < high are cut: a float that is low or more, and less than high. */
static float between(float low, float high)
{
    float middle = low + (high - low) / 2;
    return middle >= low && middle < high ? middle : low;
}

/* Cuts of one feature from its sorted values: between all different ones, or, if there are more
 * than MAX_BINS, where the next quantile begins. */
static uint32_t cut_values(float *cuts, const float *sorted, size_t n)
{
    size_t n_different = 1;
    uint32_t n_cuts = 0;
    for (size_t i = 1; i < n; i++) n_different += sorted[i] != sorted[i - 1];
    for (size_t i = 1; i < n && n_cuts < MAX_BINS - 1; i++) {
        if (sorted[i] == sorted[i - 1]) continue;
        if (n_different > MAX_BINS && i * MAX_BINS < (size_t)(n_cuts + 1) * n) continue;
        cuts[n_cuts++] = between(sorted[i - 1], sorted[i]);
    }
    return n_cuts;
}

static uint8_t bin_of(float v, const float *cuts, uint32_t n_cuts)
{
    uint32_t low = 0, high = n_cuts; /* the number of cuts below v */
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (cuts[middle] < v)
            low = middle + 1;
        else
            high = middle;
    }
    return (uint8_t)low;
}

/* column: room for n floats. */
static void make_bins(struct bins *b, float *column, const struct tr_forest_data *d)
{
    for (size_t f = 0; f < d->n_features; f++) {
        for (size_t i = 0; i < d->n; i++) column[i] = d->x[i * d->n_features + f];
        qsort(column, d->n, sizeof *column, compare_floats);
        b->n_cuts[f] = cut_values(b->cuts[f], column, d->n);
        for (size_t i = 0; i < d->n; i++)
            b->of[f * d->n + i] = bin_of(d->x[i * d->n_features + f], b->cuts[f], b->n_cuts[f]);
    }
}

/* ----------------------------------------------------------------------- splits */

/* What a set of rows adds up to: rows, and their targets or classes. */
struct sums {
    uint32_t n;
    int64_t y;
    uint32_t classes[TR_FOREST_MAX_CLASSES];
};

/* Everything that growing needs. */
struct grower {
    struct tr_forest *f;
    const struct tr_forest_data *d;
    const struct tr_forest_options *opt;
    struct bins *bins;
    int64_t *y;     /* regression: targets in 2^-20 */
    uint32_t *rows; /* [n] of the tree; a node's rows stand together */
    uint8_t *seen;  /* [n] whether the tree has the row */
    double *votes;  /* [n][1 or n_classes] of trees that have not */
    uint32_t *n_votes;
    struct sums by_bin[MAX_BINS];
    struct tr_random random;
    trueno_error *err;
};

static void add_row(struct sums *s, const struct grower *g, uint32_t row)
{
    s->n++;
    if (g->f->n_classes)
        s->classes[g->d->labels[row]]++;
    else
        s->y += g->y[row];
}

static void add_sums(struct sums *a, const struct sums *b, uint32_t n_classes)
{
    a->n += b->n;
    a->y += b->y;
    for (uint32_t c = 0; c < n_classes; c++) a->classes[c] += b->classes[c];
}

static void clear_sums(struct sums *s, uint32_t n_classes)
{
    s->n = 0;
    s->y = 0;
    memset(s->classes, 0, n_classes * sizeof s->classes[0]);
}

/* Larger is purer: the squared sums over the number of rows. Both criteria are a constant less
 * this. */
static double purity(const struct sums *s, uint32_t n_classes)
{
    double sum = 0;
    if (n_classes == 0) return (double)s->y * (double)s->y / s->n;
    for (uint32_t c = 0; c < n_classes; c++) sum += (double)s->classes[c] * s->classes[c];
    return sum / s->n;
}

struct split {
    double purity;
    uint32_t feature, bin; /* bins up to this one go left */
};

/* Improves `best` by splits of one feature. False if all rows are in one bin. */
static bool try_feature(struct split *best, struct grower *g, const uint32_t *rows, uint32_t n,
                        const struct sums *all, uint32_t feature)
{
    const uint8_t *bin = g->bins->of + feature * g->d->n;
    const uint32_t n_classes = g->f->n_classes, n_bins = g->bins->n_cuts[feature] + 1;
    struct sums left, right;

    for (uint32_t b = 0; b < n_bins; b++) clear_sums(&g->by_bin[b], n_classes);
    for (uint32_t i = 0; i < n; i++) add_row(&g->by_bin[bin[rows[i]]], g, rows[i]);
    if (g->by_bin[bin[rows[0]]].n == n) return false;
    clear_sums(&left, n_classes);
    for (uint32_t b = 0; b + 1 < n_bins; b++) {
        if (g->by_bin[b].n == 0) continue;
        add_sums(&left, &g->by_bin[b], n_classes);
        if (left.n < g->opt->min_leaf) continue;
        if (n - left.n < g->opt->min_leaf) break;
        right = *all;
        right.n -= left.n;
        right.y -= left.y;
        for (uint32_t c = 0; c < n_classes; c++) right.classes[c] -= left.classes[c];
        double p = purity(&left, n_classes) + purity(&right, n_classes);
        bool equal = p == best->purity && best->feature != LEAF;
        bool wins = p > best->purity || (equal && feature < best->feature);
        if (wins) *best = (struct split){p, feature, b};
    }
    return true;
}

/* The best split of the rows over mtry features that differ; no feature if none helps. */
static struct split best_split(struct grower *g, const uint32_t *rows, uint32_t n,
                               const struct sums *all)
{
    uint32_t order[TR_FOREST_MAX_FEATURES], n_features = (uint32_t)g->d->n_features, tried = 0;
    struct split best = {purity(all, g->f->n_classes), LEAF, 0};

    for (uint32_t i = 0; i < n_features; i++) order[i] = i;
    for (uint32_t i = 0; i < n_features && tried < g->opt->mtry; i++) {
        uint32_t k = i + tr_random_below(&g->random, n_features - i), feature = order[k];
        order[k] = order[i];
        tried += try_feature(&best, g, rows, n, all, feature);
    }
    return best;
}

/* ------------------------------------------------------------------------ trees */

static bool is_pure(const struct grower *g, const struct sums *all, const uint32_t *rows)
{
    if (g->f->n_classes) return all->classes[g->d->labels[rows[0]]] == all->n;
    for (uint32_t i = 1; i < all->n; i++)
        if (g->y[rows[i]] != g->y[rows[0]]) return false;
    return true;
}

static trueno_status too_large(const struct grower *g)
{
    return tr_fail(g->err, TRUENO_ERR_TOO_LARGE,
                   "forest: more than %d nodes; fewer trees, a smaller max_depth or a larger "
                   "min_leaf help",
                   TR_FOREST_MAX_NODES);
}

static void make_leaf(struct grower *g, struct tr_forest_node *node, const struct sums *all)
{
    struct tr_forest *f = g->f;
    node->feature = LEAF;
    node->right = 0;
    if (f->n_classes == 0) {
        node->value = (float)((double)all->y / all->n * 0x1p-20);
        return;
    }
    float *shares = f->shares + (size_t)f->n_leaves * f->n_classes;
    for (uint32_t c = 0; c < f->n_classes; c++)
        shares[c] = (float)((double)all->classes[c] / all->n);
    node->value = (float)f->n_leaves++; /* below 2^24, so exact */
}

/* Rows of the left side to the front; returns how many. Keeps their order, so that it is the same
 * everywhere. `spare`: room for n. */
static uint32_t partition(uint32_t *rows, uint32_t n, const uint8_t *bin, uint32_t last_left,
                          uint32_t *spare)
{
    uint32_t n_left = 0, n_right = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (bin[rows[i]] <= last_left)
            rows[n_left++] = rows[i];
        else
            spare[n_right++] = rows[i];
    }
    memcpy(rows + n_left, spare, n_right * sizeof *rows);
    return n_left;
}

/* Rows that wait for a node. */
struct task {
    uint32_t begin, n, depth, parent; /* parent: whose right child it is; UINT32_MAX: none */
};

/* A tree of the first n entries of g->rows; left children follow their parents. */
static trueno_status grow_tree(struct grower *g, uint32_t n, uint32_t *spare)
{
    struct task stack[MAX_DEPTH + 2];
    uint32_t n_tasks = 0;

    stack[n_tasks++] = (struct task){0, n, 0, UINT32_MAX};
    while (n_tasks > 0) {
        struct task t = stack[--n_tasks];
        uint32_t *rows = g->rows + t.begin, at = g->f->n_nodes;
        struct sums all;
        if (at >= TR_FOREST_MAX_NODES) return too_large(g);
        g->f->n_nodes++;
        if (t.parent != UINT32_MAX) g->f->nodes[t.parent].right = (uint16_t)at;
        clear_sums(&all, g->f->n_classes);
        for (uint32_t i = 0; i < t.n; i++) add_row(&all, g, rows[i]);
        bool final = t.depth >= g->opt->max_depth || t.n < 2 * g->opt->min_leaf;
        struct split s = {0, LEAF, 0};
        if (!final && !is_pure(g, &all, rows)) s = best_split(g, rows, t.n, &all);
        if (s.feature == LEAF) {
            make_leaf(g, &g->f->nodes[at], &all);
            continue;
        }
        g->f->nodes[at] =
            (struct tr_forest_node){g->bins->cuts[s.feature][s.bin], 0, (uint16_t)s.feature};
        uint32_t left = partition(rows, t.n, g->bins->of + s.feature * g->d->n, s.bin, spare);
        stack[n_tasks++] = (struct task){t.begin + left, t.n - left, t.depth + 1, at};
        stack[n_tasks++] = (struct task){t.begin, left, t.depth + 1, UINT32_MAX};
    }
    return TRUENO_OK;
}

static const struct tr_forest_node *leaf_of(const struct tr_forest *f, uint32_t tree,
                                            const float *x)
{
    const struct tr_forest_node *node = f->nodes + f->roots[tree];
    while (node->feature != LEAF)
        node = x[node->feature] <= node->value ? node + 1 : f->nodes + node->right;
    return node;
}

/* ------------------------------------------------------------------- out of bag */

static void vote(struct grower *g, uint32_t tree)
{
    const uint32_t n_classes = g->f->n_classes, width = n_classes ? n_classes : 1;
    for (size_t i = 0; i < g->d->n; i++) {
        if (g->seen[i]) continue;
        const struct tr_forest_node *leaf = leaf_of(g->f, tree, g->d->x + i * g->d->n_features);
        double *votes = g->votes + i * width;
        g->n_votes[i]++;
        if (n_classes == 0) votes[0] += (double)leaf->value;
        for (uint32_t c = 0; c < n_classes; c++)
            votes[c] += (double)g->f->shares[(size_t)leaf->value * n_classes + c];
    }
}

static uint32_t largest(const double *p, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t c = 1; c < n; c++)
        if (p[c] > p[best]) best = c;
    return best;
}

static void count_oob(struct grower *g)
{
    const uint32_t n_classes = g->f->n_classes, width = n_classes ? n_classes : 1;
    double sum = 0;
    for (size_t i = 0; i < g->d->n; i++) {
        const double *votes = g->votes + i * width;
        for (uint32_t c = 0; c < width && g->d->oob; c++)
            g->d->oob[i * width + c] = g->n_votes[i] ? votes[c] / g->n_votes[i] : NAN;
        if (g->n_votes[i] == 0) continue;
        g->f->n_oob++;
        double e = n_classes ? largest(votes, n_classes) != g->d->labels[i]
                             : votes[0] / g->n_votes[i] - g->d->y[i];
        sum += e * e;
    }
    g->f->oob_error = g->f->n_oob ? sum / (double)g->f->n_oob : NAN;
}

/* ------------------------------------------------------------------------ checks */

static trueno_status check_options(const struct tr_forest_data *d,
                                   const struct tr_forest_options *o, trueno_error *err)
{
    const struct {
        const char *name;
        uint64_t value, min, max;
    } limits[] = {{"n_trees", o->n_trees, 1, TR_FOREST_MAX_TREES},
                  {"max_depth", o->max_depth, 0, MAX_DEPTH},
                  {"min_leaf", o->min_leaf, 1, UINT32_MAX / 2},
                  {"n_features", d->n_features, 1, TR_FOREST_MAX_FEATURES},
                  {"mtry", o->mtry, 1, d->n_features},
                  {"rows", d->n, TR_FOREST_MIN_ROWS, UINT32_MAX / 4}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i].value < limits[i].min || limits[i].value > limits[i].max)
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "forest: %s is %llu, must be %llu to %llu",
                           limits[i].name, (unsigned long long)limits[i].value,
                           (unsigned long long)limits[i].min, (unsigned long long)limits[i].max);
    if (!d->labels == !d->y || (d->labels && d->n_classes < 1) ||
        d->n_classes > TR_FOREST_MAX_CLASSES)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "forest: needs either targets or labels of 1 to %d classes",
                       TR_FOREST_MAX_CLASSES);
    return TRUENO_OK;
}

static trueno_status check_data(const struct tr_forest_data *d, trueno_error *err)
{
    for (size_t i = 0; i < d->n * d->n_features; i++)
        if (!isfinite(d->x[i]))
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "forest: feature %zu of row %zu is not finite",
                           i % d->n_features, i / d->n_features);
    for (size_t i = 0; i < d->n; i++) {
        if (d->y && !(fabs(d->y[i]) <= TR_FOREST_MAX_TARGET))
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "forest: target of row %zu is %g, beyond %g",
                           i, d->y[i], TR_FOREST_MAX_TARGET);
        if (d->labels && d->labels[i] >= d->n_classes)
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "forest: label of row %zu is %u of %u classes",
                           i, d->labels[i], d->n_classes);
    }
    return TRUENO_OK;
}

/* --------------------------------------------------------------------- training */

static trueno_status grow_all(struct grower *g, uint32_t *spare)
{
    const uint32_t n = (uint32_t)g->d->n;
    for (uint32_t tree = 0; tree < g->opt->n_trees; tree++) {
        if (tr_cancelled(g->f->ctx))
            return tr_fail(g->err, TRUENO_ERR_CANCELLED, "forest: cancelled after %u trees", tree);
        tr_random_seed(&g->random, g->opt->seed, tree);
        memset(g->seen, !g->opt->bootstrap, n);
        for (uint32_t i = 0; i < n; i++) {
            g->rows[i] = g->opt->bootstrap ? tr_random_below(&g->random, n) : i;
            g->seen[g->rows[i]] = 1;
        }
        g->f->roots[tree] = g->f->n_nodes;
        trueno_status status = grow_tree(g, n, spare);
        if (status != TRUENO_OK) return status;
        vote(g, tree);
    }
    count_oob(g);
    return TRUENO_OK;
}

/* Memory that growing needs; false if there is none. */
static bool grower_alloc(struct grower *g, struct tr_arena *arena, uint32_t **spare)
{
    const size_t n = g->d->n, width = g->f->n_classes ? g->f->n_classes : 1;
    uint64_t bytes;
    if (!tr_mul(&bytes, n, sizeof(double) * width) || bytes > SIZE_MAX) return false;
    g->bins = tr_arena_alloc(arena, sizeof *g->bins);
    uint8_t *bins = tr_arena_alloc(arena, n * g->d->n_features);
    g->y = tr_arena_alloc(arena, n * sizeof *g->y);
    g->rows = tr_arena_alloc(arena, n * sizeof *g->rows);
    *spare = tr_arena_alloc(arena, n * sizeof **spare);
    g->seen = tr_arena_alloc(arena, n);
    g->n_votes = tr_arena_alloc(arena, n * sizeof *g->n_votes);
    g->votes = tr_arena_alloc(arena, (size_t)bytes);
    if (!g->bins || !bins || !g->y || !g->rows || !*spare || !g->seen || !g->n_votes || !g->votes)
        return false;
    g->bins->of = bins;
    memset(g->n_votes, 0, n * sizeof *g->n_votes);
    memset(g->votes, 0, (size_t)bytes);
    for (size_t i = 0; i < n && g->d->y; i++) g->y[i] = llrint(ldexp(g->d->y[i], 20));
    return true;
}

static struct tr_forest *forest_alloc(trueno_ctx *ctx, const struct tr_forest_data *d,
                                      uint32_t n_trees)
{
    const uint32_t n_classes = d->labels ? d->n_classes : 0;
    struct tr_forest *f = tr_calloc(ctx, 1, sizeof *f);
    if (!f) return NULL;
    f->ctx = ctx;
    f->n_features = (uint32_t)d->n_features;
    f->n_trees = n_trees;
    f->n_classes = n_classes;
    f->roots = tr_calloc(ctx, n_trees, sizeof *f->roots);
    f->nodes = tr_calloc(ctx, TR_FOREST_MAX_NODES, sizeof *f->nodes);
    if (n_classes) f->shares = tr_calloc(ctx, TR_FOREST_MAX_NODES, n_classes * sizeof(float));
    if (f->roots && f->nodes && (f->shares || !n_classes)) return f;
    tr_forest_free(f);
    return NULL;
}

/* Gives back what was not needed. */
static void shrink(struct tr_forest *f)
{
    struct tr_forest_node *nodes = tr_realloc(f->ctx, f->nodes, f->n_nodes * sizeof *nodes);
    if (nodes) f->nodes = nodes;
    if (!f->shares) return;
    float *shares =
        tr_realloc(f->ctx, f->shares, (size_t)f->n_leaves * f->n_classes * sizeof *shares);
    if (shares) f->shares = shares;
}

trueno_status tr_forest_train(struct tr_forest **out, trueno_ctx *ctx,
                              const struct tr_forest_data *data,
                              const struct tr_forest_options *opt, trueno_error *err)
{
    struct tr_arena arena = {.ctx = ctx};
    uint32_t *spare;

    *out = NULL;
    trueno_status status = check_options(data, opt, err);
    if (status == TRUENO_OK) status = check_data(data, err);
    if (status != TRUENO_OK) return status;
    struct grower *g = tr_calloc(ctx, 1, sizeof *g);
    struct tr_forest *f = g ? forest_alloc(ctx, data, opt->n_trees) : NULL;
    if (f) {
        g->f = f;
        g->d = data;
        g->opt = opt;
        g->err = err;
    }
    if (!f || !grower_alloc(g, &arena, &spare)) {
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "forest: no memory for %zu rows", data->n);
    } else {
        make_bins(g->bins, (float *)(void *)spare, data); /* n of 4 bytes, free until trees grow */
        status = grow_all(g, spare);
    }
    tr_arena_free(&arena);
    tr_free(ctx, g);
    if (status != TRUENO_OK) {
        tr_forest_free(f);
        return status;
    }
    shrink(f);
    *out = f;
    return TRUENO_OK;
}

void tr_forest_free(struct tr_forest *f)
{
    if (!f) return;
    tr_free(f->ctx, f->roots);
    tr_free(f->ctx, f->nodes);
    tr_free(f->ctx, f->shares);
    tr_free(f->ctx, f);
}

double tr_forest_oob_error(const struct tr_forest *f, size_t *n)
{
    *n = f->n_oob;
    return f->oob_error;
}

uint32_t tr_forest_features(const struct tr_forest *f)
{
    return f->n_features;
}

uint32_t tr_forest_classes(const struct tr_forest *f)
{
    return f->n_classes;
}

size_t tr_forest_nodes(const struct tr_forest *f, const void **bytes)
{
    *bytes = f->nodes;
    return f->n_nodes * sizeof *f->nodes;
}

trueno_status tr_forest_options_read(trueno_forest_options *out, const trueno_forest_options *opt,
                                     const char *who, trueno_error *err)
{
    *out = (trueno_forest_options)TRUENO_FOREST_OPTIONS_INIT;
    if (!opt || tr_struct_read(out, sizeof *out, opt, sizeof *out)) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_ARGUMENT,
                   "%s: struct_size is %zu; use TRUENO_FOREST_OPTIONS_INIT", who, opt->struct_size);
}
