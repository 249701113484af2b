/* SPDX-License-Identifier: MIT */
/* What the parts of trueno-tuner-train share: the corpus, fits with rows held out, figures of how
 * good they are, importances, and the file. */
#ifndef TRAIN_UTIL_H
#define TRAIN_UTIL_H

#include "cli_util.h"

#include "trueno/tuner.h"

/* ---------------------------------------------------------------------- the corpus */

/* Columns that say which rows belong together. All but the session are the configuration. */
enum train_by { BY_MODEL, BY_TYPE, BY_THREADS, BY_LEVEL, BY_TEST, BY_SESSION, BY_COUNT };

/* The different texts of a column, in the order in which they came, and which each row has. */
struct train_ids {
    uint32_t n;
    const char **names; /* [n] */
    uint32_t *of;       /* [rows] */
};

struct corpus {
    const char *path;
    char *text; /* the file; names point into it */
    size_t n;   /* rows that are used */
    trueno_features *f;
    double *tps;
    struct train_ids by[BY_COUNT];
    uint32_t *config; /* [n] which configuration, from 0 */
    uint32_t n_configs;
    size_t n_unkept, n_above; /* left out: kept is 0; at or above the roof */
    char first[11], last[11]; /* days of the measurements */
    uint64_t hash;            /* of features and rates, as in trueno_accuracy */
    char machine[TRUENO_MACHINE_ID_MAX];
};

/* Reads a file of bench/corpus.py. @return CLI_OK, or CLI_ERROR after a message; free in any case
 */
int corpus_read(struct corpus *c, trueno_ctx *ctx, const char *path);
void corpus_free(struct corpus *c);

/* The text of row i's column. */
const char *corpus_text(const struct corpus *c, enum train_by by, size_t i);

/* ---------------------------------------------------------------------------- fits */

enum predictor { PREDICTOR_PRIOR, PREDICTOR_RIDGE, PREDICTOR_FOREST, PREDICTOR_COUNT };

struct trainer {
    trueno_ctx *ctx;
    const struct corpus *c;
    uint32_t n_trees, min_leaf;
    uint64_t seed;
};

/* Regressors of a split: r[g] was made without the rows of group g. */
struct folds {
    uint32_t n;
    trueno_regressor **r;
};

/* What was predicted for a row by the regressor that had not seen it. */
struct judged {
    double predicted, lo, hi;
};

/* A regressor of rows[n] (numbers of rows of the corpus). @return CLI_OK or CLI_ERROR */
int train_fit(const struct trainer *t, trueno_regressor **out, enum predictor kind,
              const size_t *rows, size_t n);

/* One regressor for each of the n_groups values of group (by row of the corpus), from those of
 * rows[n] that have another one. */
int train_folds(const struct trainer *t, struct folds *out, enum predictor kind, const size_t *rows,
                size_t n, const uint32_t *group, uint32_t n_groups);
void folds_free(struct folds *f);

/* Makes the interval of r, which was fitted to rows[n], from folds by model. */
int train_set_scores(const struct trainer *t, trueno_regressor *r, const struct folds *by_model,
                     const size_t *rows, size_t n);

/* Judges a split: out [rows of the corpus]. Each regressor's interval comes from models that were
 * held out among the rows it was fitted to, as that of the file does. */
int train_judge(const struct trainer *t, struct judged *out, enum predictor kind,
                const uint32_t *group, uint32_t n_groups);

/* Chooses t->min_leaf: the smallest from 3 on with which a file of all rows is not too large. */
int train_choose_leaf(struct trainer *t);

/* ------------------------------------------------------------------------- figures */

struct figures {
    size_t n, n_configs;
    double mape, median, p90; /* of |predicted / measured - 1| */
    double bias;              /* mean of ln(predicted / measured) */
    double
        pairs; /* share of pairs of one group, measured more than 3 % apart, in the right order */
    double coverage, width; /* of the interval; width over the predicted rate */
};

/* Of the rows of one phase. @return CLI_OK or CLI_ERROR: no memory */
int figures_of(struct figures *out, const struct corpus *c, const struct judged *j,
               const uint32_t *group, trueno_phase phase);

/* Mean of |predicted / measured - 1| over all rows. */
double mape_of(const struct corpus *c, const struct judged *j);

/* Prints the report (docs/tuner-accuracy.md). */
int train_report(const struct trainer *t, const trueno_importance *importance);

/* --------------------------------------------------------------------- importances */

/* By exchange of values between rows, each predicted by the fold that has not seen its model; in
 * the order of slots. */
int train_importance(const struct trainer *t, trueno_importance out[TRUENO_FEATURE_DIM],
                     const struct folds *by_model);

/* ------------------------------------------------------------------------ the file */

enum { TRAIN_FILE_MAX = 300 << 10, TRAIN_FILE_DATE = 16, TRAIN_FILE_HEADER = 800 };

/* Writes the file that is built into the library (src/tuner/pretrained.h). */
int train_write(const struct trainer *t, const char *path, const trueno_regressor *r, double mape,
                const trueno_importance importance[TRUENO_FEATURE_DIM]);

/* ---------------------------------------------------------------------- small things */

/* Random numbers: splitmix64 (Steele, Lea, Flood 2014). */
static inline uint64_t train_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* Puts 0 .. n - 1 into a random order (Fisher and Yates). */
void train_shuffle(size_t *order, size_t n, uint64_t *state);

#endif
