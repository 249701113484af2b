/* SPDX-License-Identifier: MIT */
/* trueno-tuner-train: trains the regressor that is part of the library on a corpus of runs, and
 * tells how good it is on runs that were held out. */
#include "train_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The command line. */
struct settings {
    const char *corpus, *output;
    bool eval;
};

/* Mean error of each row by the fold that has not seen its model. */
static int held_out_mape(const struct trainer *t, double *mape, const struct folds *by_model)
{
    struct judged *j = calloc(t->c->n, sizeof *j);
    trueno_status st = j ? TRUENO_OK : TRUENO_ERR_NO_MEMORY;
    for (size_t i = 0; i < t->c->n && !st; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        const trueno_regressor *r = by_model->r[t->c->by[BY_MODEL].of[i]];
        st = trueno_regressor_predict(r, &p, &t->c->f[i], NULL);
        j[i].predicted = p.predicted_tps;
    }
    if (!st) *mape = mape_of(t->c, j);
    free(j);
    return st ? cli_failed("prediction", st, NULL) : CLI_OK;
}

static int write_file(const struct trainer *t, const char *path, const size_t *all,
                      const struct folds *by_model, const trueno_importance *importance)
{
    trueno_regressor *r = NULL;
    double mape = 0;
    int rc = held_out_mape(t, &mape, by_model);
    if (!rc) rc = train_fit(t, &r, PREDICTOR_FOREST, all, t->c->n);
    if (!rc) rc = train_set_scores(t, r, by_model, all, t->c->n);
    if (!rc) rc = train_write(t, path, r, mape, importance);
    trueno_regressor_free(r);
    return rc;
}

static int train(struct trainer *t, const struct settings *s)
{
    const struct train_ids *models = &t->c->by[BY_MODEL];
    struct folds by_model = {0, NULL};
    trueno_importance importance[TRUENO_FEATURE_DIM];
    if (models->n < 2) return cli_error("%s: rows of one model; at least two", t->c->path);
    size_t n = t->c->n, *all = malloc(n * sizeof *all);
    if (!all) return cli_error("no memory for %zu rows", n);
    for (size_t i = 0; i < n; i++) all[i] = i;
    int rc = train_choose_leaf(t);
    if (!rc) rc = train_folds(t, &by_model, PREDICTOR_FOREST, all, n, models->of, models->n);
    if (!rc) rc = train_importance(t, importance, &by_model);
    if (!rc && s->output) rc = write_file(t, s->output, all, &by_model, importance);
    if (!rc && s->eval) rc = train_report(t, importance);
    folds_free(&by_model);
    free(all);
    return rc;
}

int main(int argc, char **argv)
{
    struct settings s = {0};
    struct corpus corpus;
    struct trainer t = {.c = &corpus, .n_trees = 100, .min_leaf = 3, .seed = 1};
    const struct cli_option options[] = {
        {"--eval", NULL, CLI_FLAG, &s.eval, NULL, "print how good predictions are, in markdown"},
        {"-o", "--output", CLI_TEXT, &s.output, "FILE", "write the trained regressor"},
        {"--trees", NULL, CLI_UINT, &t.n_trees, "N", "of the forest [100]"},
        {"--seed", NULL, CLI_SEED, &t.seed, "S", "same seed, same bytes [1]"},
    };
    const struct cli_program program = {"CORPUS.csv [options]",
                                        "Trains the tuner's regressor on runs that bench/corpus.py "
                                        "measured, and judges it on rows\n"
                                        "that were held out.",
                                        options, sizeof options / sizeof *options};
    if (argc > 1 && argv[1][0] != '-') {
        s.corpus = argv[1];
        argv[1] = argv[0];
        argc--;
        argv++;
    }
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (!s.corpus) return cli_usage("the corpus comes first");
    if (!s.eval && !s.output) return cli_usage("neither --eval nor --output");
    t.ctx = cli_ctx_new();
    if (!t.ctx) return CLI_ERROR;
    rc = corpus_read(&corpus, t.ctx, s.corpus);
    if (!rc)
        fprintf(stderr, "%zu rows; left out: %zu unsteady, %zu at or above their roof\n", corpus.n,
                corpus.n_unkept, corpus.n_above);
    if (!rc) rc = train(&t, &s);
    corpus_free(&corpus);
    trueno_ctx_free(t.ctx);
    return rc;
}
