/* SPDX-License-Identifier: MIT */
/* Prints docs/tuner-accuracy.md. */
#include "train_util.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { FOLDS = 5, TOP = 15, RANDOM = BY_COUNT, SPLITS };

static const struct {
    int split; /* enum train_by, or RANDOM */
    const char *name;
} splits[] = {
    {BY_MODEL, "one model"}, {BY_TYPE, "one type"},       {BY_THREADS, "one number of threads"},
    {BY_LEVEL, "one level"}, {BY_SESSION, "one session"}, {RANDOM, "random fifths"},
};

static const char *const predictors[PREDICTOR_COUNT] = {"roofline", "ridge", "forest"};

static const char intro[] = "Every row of a corpus of runs is predicted by a regressor that was "
                            "trained without the rows of\n"
                            "its group: of its model, its type of weights and so on. Random fifths "
                            "stand there for contrast\n"
                            "only: rows like the ones that are held out stay, and so errors look "
                            "small. \"roofline\" is what\n"
                            "an untrained regressor says. Intervals come from models that were "
                            "held out among the rows that\n"
                            "were trained on, as those of the regressor in the library do.\n\n";

static const char legend[] =
    "MAPE, median and p90 are of |predicted / measured - 1|; bias is the mean of ln(predicted /\n"
    "measured). Pairs: share of the pairs of one held-out group, measured more than 3 % apart, "
    "that\n"
    "are predicted in the right order. Coverage: share of rows inside the 90 % interval; width: "
    "of\n"
    "that interval, over the predicted rate.\n";

static void print_head(const struct trainer *t)
{
    const struct corpus *c = t->c;
    printf("# Accuracy of throughput predictions\n\n%s", intro);
    printf("- Generator: `trueno-tuner-train %s --eval --trees %u --seed %" PRIu64 "`\n", c->path,
           t->n_trees, t->seed);
    printf("- Date of the measurements: %s to %s, sessions: %u\n", c->first, c->last,
           c->by[BY_SESSION].n);
    printf("- Machine: %s\n", c->machine);
    printf("- Rows: %zu of %u configurations, %u models, %u types\n", c->n, c->n_configs,
           c->by[BY_MODEL].n, c->by[BY_TYPE].n);
    printf("- Left out: %zu measured while the machine was unsteady, %zu at or above their roof\n",
           c->n_unkept, c->n_above);
    printf("- Data hash: %016" PRIx64 "\n", c->hash);
    printf("- Forest: %u trees, at least %u rows in a leaf\n", t->n_trees, t->min_leaf);
}

static void percent(const char *sep, double share)
{
    if (isfinite(share))
        printf(" %.1f %% %s", 100 * share, sep);
    else
        printf(" - %s", sep);
}

static void print_row(const char *split, const char *predictor, const struct figures *f)
{
    printf("| %s | %s | %zu | %zu |", split, predictor, f->n, f->n_configs);
    percent("|", f->mape);
    percent("|", f->median);
    percent("|", f->p90);
    printf(" %+.3f |", f->bias);
    percent("|", f->pairs);
    percent("|", f->coverage);
    percent("|", f->width);
    putchar('\n');
}

/* What was predicted in each split, by each predictor. */
struct results {
    struct judged *j[SPLITS][PREDICTOR_COUNT]; /* NULL: the split has one group */
    uint32_t *random;                          /* groups of RANDOM */
};

static const uint32_t *groups_of(const struct trainer *t, const struct results *r, int split)
{
    return split == RANDOM ? r->random : t->c->by[split].of;
}

static int judge_all(const struct trainer *t, struct results *r)
{
    uint64_t random = t->seed;
    size_t n = t->c->n, *order = malloc(n * sizeof *order);
    r->random = malloc(n * sizeof *r->random);
    int rc = order && r->random ? CLI_OK : cli_error("no memory for %zu rows", n);
    if (!rc) train_shuffle(order, n, &random);
    for (size_t i = 0; i < n && !rc; i++) r->random[order[i]] = (uint32_t)(i % FOLDS);
    free(order);
    for (int i = 0; i < SPLITS * PREDICTOR_COUNT && !rc; i++) {
        int split = i / PREDICTOR_COUNT, kind = i % PREDICTOR_COUNT;
        uint32_t n_groups = split == RANDOM ? FOLDS : t->c->by[split].n;
        if (split == BY_TEST || n_groups < 2) continue;
        struct judged *j = r->j[split][kind] = calloc(n, sizeof *j);
        rc = j ? CLI_OK : cli_error("no memory for %zu rows", n);
        if (!rc) rc = train_judge(t, j, (enum predictor)kind, groups_of(t, r, split), n_groups);
        cli_progress(NULL, "splits", (uint64_t)i + 1, SPLITS * PREDICTOR_COUNT);
    }
    return rc;
}

static int print_phase(const struct trainer *t, const struct results *r, trueno_phase phase)
{
    int rc = CLI_OK;
    printf("\n## %s\n\n| held out | predictor | rows | configurations | MAPE | median | p90 | bias "
           "| pairs | coverage | width |\n"
           "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n",
           phase == TRUENO_PHASE_DECODE ? "Decode" : "Prefill");
    for (size_t s = 0; s < sizeof splits / sizeof *splits; s++) {
        int split = splits[s].split;
        for (int kind = 0; kind < PREDICTOR_COUNT && !rc; kind++) {
            struct figures f;
            const struct judged *j = r->j[split][kind];
            if (!j) continue;
            rc = figures_of(&f, t->c, j, groups_of(t, r, split), phase);
            if (!rc && f.n > 0) print_row(splits[s].name, predictors[kind], &f);
        }
    }
    return rc;
}

/* The number of slots that are more important, or as important and before it. */
static int rank_of(const trueno_importance *importance, int slot)
{
    int rank = 0;
    for (int k = 0; k < TRUENO_FEATURE_DIM; k++)
        rank += importance[k].importance > importance[slot].importance ||
                (importance[k].importance == importance[slot].importance && k < slot);
    return rank;
}

static void print_importance(const trueno_importance *importance)
{
    printf(
        "\n## Importance of features\n\n"
        "Share of what exchanging a feature's values between rows adds to the error of the forest\n"
        "on models that were held out; mean and standard error of ten exchanges. How weights are\n"
        "stored (slots 20 to 29) counts as one, under bits_per_weight. A feature that is the same\n"
        "in all rows is not identified.\n\n"
        "| slot | feature | importance | standard error |\n| ---: | --- | ---: | ---: |\n");
    for (int rank = 0; rank < TOP; rank++) {
        for (int slot = 0; slot < TRUENO_FEATURE_DIM; slot++) {
            const trueno_importance *row = &importance[slot];
            if (rank_of(importance, slot) != rank || isnan(row->std_error)) continue;
            printf("| %u | %s | %.4f | %.4f |\n", row->idx, row->name, row->importance,
                   row->std_error);
        }
    }
}

int train_report(const struct trainer *t, const trueno_importance *importance)
{
    struct results r = {0};
    int rc = judge_all(t, &r);
    if (!rc) {
        print_head(t);
        rc = print_phase(t, &r, TRUENO_PHASE_DECODE);
    }
    if (!rc) rc = print_phase(t, &r, TRUENO_PHASE_PREFILL);
    if (!rc) {
        printf("\n%s", legend);
        print_importance(importance);
    }
    for (int i = 0; i < SPLITS * PREDICTOR_COUNT; i++)
        free(r.j[i / PREDICTOR_COUNT][i % PREDICTOR_COUNT]);
    free(r.random);
    return rc;
}
