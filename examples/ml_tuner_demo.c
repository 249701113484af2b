/* SPDX-License-Identifier: MIT */
/* trueno-ml-tuner-demo: what the tuner says of a 1.5 B model, as a panel for one run and a table of
 * batches 1 to 8. By default roofline and rules alone; --forest trains on sample data and shows
 * before and after. Nothing is measured here, so the output is the same on every machine. */
#include "cli_util.h"

#include "trueno/tuner.h"

#include <math.h>
#include <stdio.h>

enum { MAX_BATCH = 8, PANEL_BATCH = 4, N_ROWS = 100 };

/* What the tuner says of batches 1 to 8. */
struct answers {
    trueno_recommendation of[MAX_BATCH];
};

/* A run of a 1.5 B model in Q4_K on a device that reads 1000 GB/s. */
static trueno_features run_of(uint32_t batch)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 1.5;
    f.batch_size = batch;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    f.cuda_graphs = batch == 1;
    return f;
}

/* The sample data: tokens per second of all sequences together that a batch is said to reach, and
 * the family that is said to be best. An application has measurements instead. */
static double sample_tps(uint32_t batch)
{
    return 200 + 80.0 * batch;
}

static trueno_kernel sample_kernel(uint32_t batch)
{
    return batch >= 4 ? TRUENO_KERNEL_BATCHED_Q4K : TRUENO_KERNEL_VECTORIZED_Q4K;
}

static int ask(struct answers *a, trueno_tuner *tuner)
{
    trueno_error err = {TRUENO_OK, ""};
    for (uint32_t i = 0; i < MAX_BATCH; i++) {
        trueno_features f = run_of(i + 1);
        trueno_recommendation_init(&a->of[i]);
        trueno_status st = trueno_tuner_recommend(tuner, &a->of[i], &f, &err);
        if (st) return cli_failed("recommendation", st, err.message);
    }
    return CLI_OK;
}

/* ---------------------------------------------------------------------------- printing */

/* A bar of `width` cells; `share` of them, 0 to 1, are full. */
static void print_bar(double share, int width)
{
    for (int i = 0; i < width; i++) fputs((i + 0.5) / width <= share ? "█" : "░", stdout);
}

static int print_panel(const trueno_recommendation *rec)
{
    char text[4096];
    size_t len = trueno_recommendation_format(text, sizeof(text), rec);
    if (len >= sizeof(text)) return cli_error("the panel has %zu bytes", len);
    fputs(text, stdout);
    return CLI_OK;
}

/* The bars are shares of the largest prediction. */
static void print_table(const struct answers *a)
{
    double most = 0;
    for (int i = 0; i < MAX_BATCH; i++) most = fmax(most, a->of[i].throughput.predicted_tps);
    printf("\nbatch   tokens/s                           of the roof   kernel\n");
    for (int i = 0; i < MAX_BATCH; i++) {
        const trueno_recommendation *r = &a->of[i];
        printf("%5d %10.1f  ", i + 1, r->throughput.predicted_tps);
        print_bar(r->throughput.predicted_tps / most, 24);
        printf("  %8.1f %%   %s %.0f %%\n", 100 * r->throughput.efficiency,
               trueno_kernel_name(r->kernel.top_kernel), 100 * r->kernel.confidence);
    }
}

/* What the sample data says beside the predictions without and with it. */
static void print_comparison(const struct answers *before, const struct answers *after)
{
    double error[2] = {0, 0};
    printf("\nbatch     sample     before    error      after    error   kernel before -> after\n");
    for (int i = 0; i < MAX_BATCH; i++) {
        const trueno_recommendation *b = &before->of[i], *a = &after->of[i];
        double truth = sample_tps((uint32_t)i + 1);
        double off_b = b->throughput.predicted_tps / truth - 1;
        double off_a = a->throughput.predicted_tps / truth - 1;
        error[0] += fabs(off_b) / MAX_BATCH;
        error[1] += fabs(off_a) / MAX_BATCH;
        printf("%5d %10.1f %10.1f %+6.1f %% %10.1f %+6.1f %%   %s -> %s\n", i + 1, truth,
               b->throughput.predicted_tps, 100 * off_b, a->throughput.predicted_tps, 100 * off_a,
               trueno_kernel_name(b->kernel.top_kernel), trueno_kernel_name(a->kernel.top_kernel));
    }
    printf("mean |error| on these batches: %.1f %% before, %.1f %% after\n", 100 * error[0],
           100 * error[1]);
}

/* ---------------------------------------------------------------------------- training */

static void print_names(const char *what, uint64_t slots)
{
    printf("%s", what);
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++)
        if (slots >> i & 1) printf(" %s", trueno_feature_name((trueno_feature)i));
    printf("\n");
}

static void print_reports(const trueno_train_report *r, const trueno_class_report *c)
{
    printf("\nthroughput: %zu of %zu rows used, %zu of them different\n", r->n_used, r->n_rows,
           r->n_distinct);
    printf(
        "  held-out error: mean %.2f %%, median %.2f %%, bias %+.2f %%, on %zu rows out of bag\n",
        100 * r->mape, 100 * r->median_ape, 100 * (exp(r->bias) - 1), r->n_held_out);
    printf("kernels: %.1f %% of %zu rows out of bag named right\n", 100 * c->accuracy,
           c->n_held_out);
    if (r->n_distinct < r->n_used)
        printf("note: rows repeat, so a row that is held out was seen as another one; such an "
               "error\n      says little of runs that are not in the data\n");
    if (r->collinear) print_names("note: cannot be told from others:", r->collinear);
    unsigned constant = 0;
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) constant += (unsigned)(r->constant >> i & 1);
    printf("note: %u features are the same in all rows; nothing is learned of them\n", constant);
}

/* Trains both models of the tuner on 100 rows of the sample data. */
static int train(trueno_ctx *ctx, trueno_tuner *tuner)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_features rows[N_ROWS];
    double tps[N_ROWS];
    uint32_t labels[N_ROWS];
    for (uint32_t i = 0; i < N_ROWS; i++) {
        uint32_t batch = 1 + i % MAX_BATCH;
        rows[i] = run_of(batch);
        tps[i] = sample_tps(batch);
        labels[i] = (uint32_t)sample_kernel(batch);
    }
    trueno_train_report report = TRUENO_TRAIN_REPORT_INIT;
    trueno_class_report classes = TRUENO_CLASS_REPORT_INIT;
    trueno_classifier *c = NULL;
    trueno_status st = trueno_tuner_train(tuner, &report, rows, tps, N_ROWS, &err);
    if (!st) st = trueno_classifier_with_random_forest(ctx, &c, 50, NULL, &err);
    if (!st) st = trueno_classifier_train(c, &classes, rows, labels, N_ROWS, &err);
    if (!st) st = trueno_tuner_set_models(tuner, NULL, c, &err);
    trueno_classifier_free(c);
    if (st) return cli_failed("training", st, err.message);
    print_reports(&report, &classes);
    return CLI_OK;
}

static int demonstrate(trueno_ctx *ctx, trueno_tuner *tuner, bool forest)
{
    struct answers before, after;
    int rc = ask(&before, tuner);
    if (rc) return rc;
    printf("1.5 B weights in Q4_K, a device of 1000 GB/s, %u sequences together, %s:\n\n",
           PANEL_BATCH, forest ? "before training" : "no training");
    rc = print_panel(&before.of[PANEL_BATCH - 1]);
    if (!rc) print_table(&before);
    if (rc || !forest) return rc;

    printf("\nTraining 100 trees on %d rows of sample data: 200 + 80 x batch tokens/s ...\n",
           N_ROWS);
    rc = train(ctx, tuner);
    if (!rc) rc = ask(&after, tuner);
    if (rc) return rc;
    printf("\n");
    rc = print_panel(&after.of[PANEL_BATCH - 1]);
    if (!rc) print_table(&after);
    if (!rc) print_comparison(&before, &after);
    return rc;
}

int main(int argc, char **argv)
{
    bool forest = false;
    const struct cli_option options[] = {
        {"--forest", NULL, CLI_FLAG, &forest, NULL,
         "train random forests on sample data, compare before and after"},
    };
    const struct cli_program program = {
        "[options]",
        "Shows what the tuner predicts, chooses and advises for batches 1 to 8 of a 1.5 B model.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    opt.store_path = ""; /* answers that do not depend on what this machine has stored */
    trueno_tuner *tuner;
    trueno_status st = trueno_tuner_new(ctx, &tuner, &opt, &err);
    rc = st ? cli_failed("tuner", st, err.message) : demonstrate(ctx, tuner, forest);
    trueno_tuner_free(tuner);
    trueno_ctx_free(ctx);
    return rc;
}
