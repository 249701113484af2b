/* SPDX-License-Identifier: MIT */
/* Families of kernels by rules or by a forest (trueno/classifier.h). */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/classifier_impl.h"
#include "tuner/columns.h"
#include "tuner/context.h"
#include "tuner/features.h"

enum { DEFAULT_TREES = 50, DEFAULT_MTRY = 6, MAX_CANDIDATES = 64, FAMILIES = 64 };

/* ------------------------------------------------------------------- the rows */

static size_t pick_slots(float out[TR_CLASSIFIER_FEATURES], uint8_t slot_of[TR_CLASSIFIER_FEATURES],
                         const float x[TRUENO_FEATURE_DIM])
{
    size_t n = 0;
    for (int i = 0; i < TRUENO_FEATURE_DIM && n < TR_CLASSIFIER_FEATURES; i++) {
        trueno_feature_info info;
        trueno_feature_info_get(&info, (trueno_feature)i);
        if (info.inert) continue;
        if (slot_of) slot_of[n] = (uint8_t)i;
        out[n++] = x[i];
    }
    return n;
}

/* What training holds. */
struct table {
    size_t n;
    float *x;         /* [n][TR_CLASSIFIER_FEATURES] */
    uint32_t *labels; /* [n] classes */
    double *oob;      /* [n][n_classes] */
    struct tr_vote *votes;
    struct tr_row *order;
    uint32_t n_classes;
    uint8_t kernel_of[TR_FOREST_MAX_CLASSES];
};

/* Numbers the families among the labels. */
static trueno_status read_labels(struct table *t, const uint32_t *labels, trueno_error *err)
{
    uint8_t class_of[FAMILIES];
    bool used[FAMILIES] = {false};
    for (size_t i = 0; i < t->n; i++) {
        if (labels[i] >= trueno_kernel_count() || labels[i] == TRUENO_KERNEL_UNKNOWN)
            return tr_fail(err, TRUENO_ERR_ARGUMENT,
                           "training: label %u of row %zu is no kernel family", labels[i], i);
        used[labels[i]] = true;
    }
    for (uint32_t k = 0; k < FAMILIES; k++) {
        class_of[k] = (uint8_t)t->n_classes;
        if (used[k]) t->kernel_of[t->n_classes++] = (uint8_t)k;
    }
    for (size_t i = 0; i < t->n; i++) t->labels[i] = class_of[labels[i]];
    return TRUENO_OK;
}

static trueno_status read_rows(struct table *t, const trueno_features *rows, trueno_error *err)
{
    for (size_t i = 0; i < t->n; i++) {
        float x[TRUENO_FEATURE_DIM];
        trueno_error why = {TRUENO_OK, ""};
        trueno_status status = trueno_features_to_vector(x, &rows[i], &why);
        if (status != TRUENO_OK)
            return tr_fail(err, status, "training: row %zu: %s", i, why.message);
        pick_slots(t->x + i * TR_CLASSIFIER_FEATURES, NULL, x);
    }
    return TRUENO_OK;
}

static bool table_alloc(struct table *t, struct tr_arena *arena, size_t n)
{
    t->n = n;
    if (n > SIZE_MAX / (TR_CLASSIFIER_FEATURES * sizeof *t->x)) return false;
    t->x = tr_arena_alloc(arena, n * TR_CLASSIFIER_FEATURES * sizeof *t->x);
    t->labels = tr_arena_alloc(arena, n * sizeof *t->labels);
    t->votes = tr_arena_alloc(arena, n * sizeof *t->votes);
    t->order = tr_arena_alloc(arena, n * sizeof *t->order);
    return t->x && t->labels && t->votes && t->order;
}

static bool alloc_oob(struct table *t, struct tr_arena *arena)
{
    uint64_t bytes;
    if (!tr_mul(&bytes, t->n, t->n_classes * sizeof *t->oob) || bytes > SIZE_MAX) return false;
    t->oob = tr_arena_alloc(arena, (size_t)bytes);
    return t->oob != NULL;
}

/* ------------------------------------------------------------------- training */

static uint32_t largest(const double *p, uint32_t n)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < n; i++)
        if (p[i] > p[best]) best = i;
    return best;
}

static void fit_confidence(struct tr_confidence *out, struct table *t)
{
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++) {
        const double *p = t->oob + i * t->n_classes;
        uint32_t top = largest(p, t->n_classes);
        if (!isnan(p[0])) t->votes[n++] = (struct tr_vote){p[top], top == t->labels[i]};
    }
    tr_confidence_fit(out, t->votes, n);
}

static trueno_status grow(struct tr_forest **out, const trueno_classifier *c, struct table *t,
                          trueno_error *err)
{
    const trueno_forest_options *o = &c->options;
    struct tr_forest_options options = {.n_trees = c->n_trees,
                                        .max_depth = o->max_depth,
                                        .min_leaf = o->min_leaf,
                                        .mtry = o->mtry ? o->mtry : DEFAULT_MTRY,
                                        .bootstrap = o->bootstrap,
                                        .seed = o->seed};
    struct tr_forest_data data = {.x = t->x,
                                  .n = t->n,
                                  .n_features = TR_CLASSIFIER_FEATURES,
                                  .labels = t->labels,
                                  .n_classes = t->n_classes,
                                  .oob = t->oob};
    return tr_forest_train(out, c->ctx, &data, &options, err);
}

static void report_rows(trueno_class_report *report, const struct table *t,
                        const struct tr_forest *forest)
{
    uint8_t slot_of[TR_CLASSIFIER_FEATURES];
    float unused[TR_CLASSIFIER_FEATURES], zeros[TRUENO_FEATURE_DIM] = {0};
    struct tr_columns columns = {t->x, t->n, TR_CLASSIFIER_FEATURES, slot_of};
    pick_slots(unused, slot_of, zeros);
    tr_columns_look(&report->constant, &report->collinear, &columns);
    report->n_rows = t->n;
    report->n_distinct = tr_columns_distinct(&columns, t->order);
    report->accuracy = 1 - tr_forest_oob_error(forest, &report->n_held_out);
}

static trueno_status learn(trueno_classifier *c, trueno_class_report *report,
                           const trueno_features *rows, const uint32_t *labels, size_t n,
                           trueno_error *err)
{
    struct tr_arena arena = {.ctx = c->ctx};
    struct table t = {0};
    struct tr_forest *forest = NULL;
    trueno_status status = TRUENO_OK;

    bool memory = table_alloc(&t, &arena, n);
    if (memory) status = read_labels(&t, labels, err);
    if (memory && status == TRUENO_OK) status = read_rows(&t, rows, err);
    if (memory && status == TRUENO_OK) memory = alloc_oob(&t, &arena);
    if (!memory) status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "training: no memory for %zu rows", n);
    if (status == TRUENO_OK) status = grow(&forest, c, &t, err);
    if (status == TRUENO_OK) {
        tr_forest_free(c->forest);
        c->forest = forest;
        c->n_classes = t.n_classes;
        memcpy(c->kernel_of, t.kernel_of, sizeof c->kernel_of);
        fit_confidence(&c->confidence, &t);
        if (report) report_rows(report, &t, forest);
    }
    tr_arena_free(&arena);
    return status;
}

trueno_status trueno_classifier_train(trueno_classifier *c, trueno_class_report *report,
                                      const trueno_features *rows, const uint32_t *labels, size_t n,
                                      trueno_error *err)
{
    if (report && !TR_STRUCT_OK(report))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "training: struct_size of the report is %zu; use TRUENO_CLASS_REPORT_INIT",
                       report->struct_size);
    if (report) {
        trueno_class_report empty = TRUENO_CLASS_REPORT_INIT;
        empty.struct_size = report->struct_size;
        *report = empty;
    }
    if (!c || !rows || !labels)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "training: %s is NULL",
                       !c      ? "c"
                       : !rows ? "rows"
                               : "labels");
    if (n < TR_FOREST_MIN_ROWS)
        return tr_fail(err, TRUENO_ERR_INSUFFICIENT_DATA, "training: %zu rows, needs %d", n,
                       TR_FOREST_MIN_ROWS);
    return learn(c, report, rows, labels, n, err);
}

/* ------------------------------------------------------------------- choosing */

/* What can be run: on the CPU the families of the registry's rows for the problem. */
struct runnable {
    bool any; /* a GPU: not looked up */
    size_t n;
    const struct tr_kernel *rows[MAX_CANDIDATES];
    trueno_problem problem;
};

static void find_runnable(struct runnable *r, const trueno_ctx *ctx, const trueno_problem *p,
                          bool gpu)
{
    r->any = gpu;
    r->problem = *p;
    r->n = gpu ? 0 : tr_candidates(r->rows, MAX_CANDIDATES, ctx, p);
    if (r->n > MAX_CANDIDATES) r->n = MAX_CANDIDATES;
}

/* The row that would run for a family; NULL: none. */
static const char *variant_of(const struct runnable *r, trueno_kernel family)
{
    for (size_t i = 0; i < r->n; i++)
        if (tr_family_of(r->rows[i], r->problem.n_cols) == family) return r->rows[i]->name;
    return NULL;
}

static bool may_run(const struct runnable *r, trueno_kernel family)
{
    if (!tr_family_takes(family, r->problem.type)) return false;
    return r->any || variant_of(r, family) != NULL;
}

static void add_alternative(trueno_kernel_choice *out, const struct runnable *r,
                            trueno_kernel family, double confidence)
{
    const uint32_t room = sizeof out->alternatives / sizeof *out->alternatives;
    if (out->n_alternatives == room) return;
    out->alternatives[out->n_alternatives++] =
        (trueno_alternative){family, variant_of(r, family), confidence};
}

/* The rule's family, or what runs in its place: a context may be made to use another one. */
static trueno_status choose_by_rules(trueno_kernel_choice *out, const struct runnable *r,
                                     const trueno_features *f, trueno_error *err)
{
    struct tr_rule rule;
    trueno_status status = tr_rule_of(&rule, f, &r->problem, err);
    if (status != TRUENO_OK) return status;
    out->source = TRUENO_CHOICE_RULES;
    out->top_kernel = rule.family;
    out->confidence = rule.confidence;
    if (r->n > 0 && !may_run(r, rule.family))
        out->top_kernel = tr_family_of(r->rows[0], r->problem.n_cols);
    out->variant = variant_of(r, out->top_kernel);
    if (may_run(r, rule.other) && rule.other != out->top_kernel)
        add_alternative(out, r, rule.other, rule.other_confidence);
    return TRUENO_OK;
}

/* False if no family that the forest knows can run. */
static bool choose_by_forest(trueno_kernel_choice *out, const trueno_classifier *c,
                             const struct runnable *r, const float *x)
{
    double p[TR_FOREST_MAX_CLASSES], sum = 0;
    tr_forest_classify(c->forest, x, p);
    for (uint32_t i = 0; i < c->n_classes; i++) {
        if (!may_run(r, (trueno_kernel)c->kernel_of[i])) p[i] = 0;
        sum += p[i];
    }
    if (!(sum > 0)) return false;
    uint32_t top = largest(p, c->n_classes);
    out->source = TRUENO_CHOICE_FOREST;
    out->top_kernel = (trueno_kernel)c->kernel_of[top];
    out->variant = variant_of(r, out->top_kernel);
    out->confidence = tr_confidence_of(&c->confidence, p[top] / sum);
    p[top] = 0;
    double others = 0; /* not the difference: that may be 0 where a small share is left */
    for (uint32_t i = 0; i < c->n_classes; i++) others += p[i];
    for (uint32_t next; p[next = largest(p, c->n_classes)] > 0; p[next] = 0)
        add_alternative(out, r, (trueno_kernel)c->kernel_of[next],
                        (1 - out->confidence) * p[next] / others);
    return true;
}

trueno_status trueno_classifier_predict(const trueno_classifier *c, trueno_kernel_choice *out,
                                        const trueno_features *f, trueno_error *err)
{
    trueno_kernel_choice choice = TRUENO_KERNEL_CHOICE_INIT;
    struct runnable runnable;
    tr_raw_values raw;
    float all[TRUENO_FEATURE_DIM], x[TR_CLASSIFIER_FEATURES];

    if (!c || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "choice: %s is NULL", out ? "c" : "out");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "choice: struct_size is %zu; use TRUENO_KERNEL_CHOICE_INIT",
                       out->struct_size);
    choice.struct_size = out->struct_size;
    *out = choice;
    trueno_status status = tr_problem_of(&choice.problem, f, err);
    if (status == TRUENO_OK) status = tr_features_resolve(raw, f, err);
    if (status == TRUENO_OK) status = trueno_features_to_vector(all, f, err);
    if (status != TRUENO_OK) return status;
    pick_slots(x, NULL, all);
    choice.context = trueno_problem_context(&choice.problem);
    find_runnable(&runnable, c->ctx, &choice.problem, raw[TRUENO_FEATURE_VRAM_GB] > 0);
    if (!c->forest || !choose_by_forest(&choice, c, &runnable, x))
        status = choose_by_rules(&choice, &runnable, f, err);
    if (status == TRUENO_OK) *out = choice;
    return status;
}

/* ------------------------------------------------------------- making, freeing */

trueno_status tr_classifier_make(trueno_classifier **out, trueno_ctx *ctx, trueno_error *err)
{
    trueno_forest_options options = TRUENO_FOREST_OPTIONS_INIT;
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "classifier: out is NULL");
    *out = NULL;
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "classifier: ctx is NULL");
    trueno_classifier *c = tr_calloc(ctx, 1, sizeof *c);
    if (!c) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "classifier: no memory");
    c->ctx = ctx;
    c->n_trees = DEFAULT_TREES;
    c->options = options;
    tr_ctx_ref(ctx);
    *out = c;
    return TRUENO_OK;
}

trueno_status trueno_classifier_new(trueno_ctx *ctx, trueno_classifier **out, trueno_error *err)
{
    return tr_classifier_make(out, ctx, err);
}

trueno_status trueno_classifier_with_random_forest(trueno_ctx *ctx, trueno_classifier **out,
                                                   uint32_t n_trees,
                                                   const trueno_forest_options *opt,
                                                   trueno_error *err)
{
    trueno_forest_options options;
    if (out) *out = NULL;
    trueno_status status = tr_forest_options_read(&options, opt, "classifier", err);
    if (status == TRUENO_OK) status = tr_classifier_make(out, ctx, err);
    if (status != TRUENO_OK) return status;
    (*out)->n_trees = n_trees;
    (*out)->options = options;
    return TRUENO_OK;
}

void trueno_classifier_free(trueno_classifier *c)
{
    if (!c) return;
    trueno_ctx *ctx = c->ctx;
    tr_forest_free(c->forest);
    tr_free(ctx, c);
    tr_ctx_unref(ctx);
}
