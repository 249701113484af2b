/* SPDX-License-Identifier: MIT */
/* trueno-tuner-usage: the tuner's calls, one function for each thing that it can do. Every number
 * printed is computed; the last function measures this machine, so its numbers differ. */
#include "cli_util.h"

#include "trueno/quantize.h"
#include "trueno/tuner.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A run as 42 numbers: what is not given takes a default. */
static int basic_features(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    float x[TRUENO_FEATURE_DIM];
    trueno_features f = TRUENO_FEATURES_INIT, all = TRUENO_FEATURES_INIT;
    (void)ctx;
    f.model_params_b = 1.5;
    f.batch_size = 4;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    trueno_status st = trueno_features_to_vector(x, &f, &err);
    if (!st) st = trueno_features_from_vector(&all, x, &err); /* raw values, defaults filled in */
    if (st) return cli_failed("features", st, err.message);

    printf("\n== basic_features\n");
    printf("%u features of a batch of %u; *: not given, a default\n", TRUENO_FEATURE_DIM,
           trueno_features_batch_size(&f));
    printf("      %-20s %10s %-12s %8s\n", "name", "raw", "unit", "vector");
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        trueno_feature_info info;
        double raw, given;
        st = trueno_feature_info_get(&info, (trueno_feature)i);
        if (!st) st = trueno_features_get(&raw, &all, (trueno_feature)i);
        if (!st) st = trueno_features_get(&given, &f, (trueno_feature)i);
        if (st) return cli_failed("feature", st, NULL);
        printf("%c %2d  %-20s %10.6g %-12s %8.6f\n", given < 0 ? '*' : ' ', i, info.name, raw,
               info.unit, (double)x[i]); /* given: TRUENO_UNSET is below 0 */
    }
    return CLI_OK;
}

static int predict_one(const trueno_regressor *r, const trueno_features *f, const char *what)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_status st = trueno_regressor_predict(r, &p, f, &err);
    if (st) return cli_failed("prediction", st, err.message);
    printf("%-26s roof %8.2f tok/s, predicted %8.2f (%.2f .. %.2f), %s-bound\n", what,
           p.roofline_tps, p.predicted_tps, p.lo, p.hi,
           p.bound == TRUENO_BOUND_MEMORY ? "memory" : "compute");
    return CLI_OK;
}

/* Tokens per second of a 7 B model on a device that reads 1000 GB/s. A pass reads all weights once,
 * 144 bytes for 256 of Q4_K: 1000e9 / (7e9 * 0.5625) = 253.97 tok/s is the roof. */
static int throughput_prediction(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_regressor *r;
    trueno_status st = trueno_regressor_new(ctx, &r, &err);
    if (st) return cli_failed("regressor", st, err.message);

    printf("\n== throughput_prediction\n");
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 7;
    f.batch_size = 1;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    f.kv_bytes_per_token = 0; /* weights alone, as in the formula above */
    int rc = predict_one(r, &f, "7 B Q4_K, 1000 GB/s");
    f.bits_per_weight = 4; /* if a weight took exactly half a byte */
    if (!rc) rc = predict_one(r, &f, "the same at 4 bits");
    f.bits_per_weight = TRUENO_UNSET;
    f.batch_size = 4;
    if (!rc) rc = predict_one(r, &f, "four sequences together");
    trueno_regressor_free(r);
    return rc;
}

/* Which family of kernels suits a run. Untrained, rules decide: up to three sequences the
 * vectorized kernels, from four on the batched ones. */
static int kernel_selection(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_classifier *classifier;
    trueno_status st = trueno_classifier_new(ctx, &classifier, &err);
    if (st) return cli_failed("classifier", st, err.message);

    printf("\n== kernel_selection\n");
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 1.5;
    f.quant = TRUENO_QUANT_Q4_K;
    for (uint32_t batch = 1; batch <= 8 && !st; batch++) {
        trueno_kernel_choice c = TRUENO_KERNEL_CHOICE_INIT;
        f.batch_size = batch;
        st = trueno_classifier_predict(classifier, &c, &f, &err);
        if (st) break;
        printf("batch %u: %s %.1f %%", batch, trueno_kernel_name(c.top_kernel), 100 * c.confidence);
        for (uint32_t i = 0; i < c.n_alternatives && i < 3; i++)
            printf(", or %s %.1f %%", trueno_kernel_name(c.alternatives[i].kernel),
                   100 * c.alternatives[i].confidence);
        printf("\n");
    }
    trueno_classifier_free(classifier);
    return st ? cli_failed("choice", st, err.message) : CLI_OK;
}

/* ---------------------------------------------------------------------------- training */

enum { N_ROWS = 100 };

/* Run i of the sample data: batches 1 to 8 in turn. */
static trueno_features sample_run(uint32_t i)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 1.5;
    f.batch_size = 1 + i % 8;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    f.cuda_graphs = f.batch_size == 1;
    return f;
}

/* A forest of 100 trees learns throughput from measured runs. */
static int train_regressor(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_features rows[N_ROWS];
    double tps[N_ROWS];
    for (uint32_t i = 0; i < N_ROWS; i++) {
        rows[i] = sample_run(i);
        tps[i] = 200 + 80 * rows[i].batch_size; /* your measurements go here */
    }
    trueno_regressor *r;
    trueno_train_report report = TRUENO_TRAIN_REPORT_INIT;
    trueno_status st = trueno_regressor_with_random_forest(ctx, &r, 100, NULL, &err);
    if (!st) st = trueno_regressor_train_random_forest(r, &report, rows, tps, N_ROWS, &err);
    if (!st) {
        printf("\n== train_regressor\n");
        printf("learned from %zu rows, %zu of them different; error on %zu held-out rows %.2f %%\n",
               report.n_used, report.n_distinct, report.n_held_out, 100 * report.mape);
    }
    for (uint32_t i = 0; i < 8 && !st; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        st = trueno_regressor_predict(r, &p, &rows[i], &err);
        if (!st)
            printf("batch %u: measured %.1f, predicted %.1f tok/s\n", i + 1, tps[i],
                   p.predicted_tps);
    }
    trueno_regressor_free(r);
    return st ? cli_failed("training", st, err.message) : CLI_OK;
}

/* A forest of 50 trees learns which family was best. */
static int train_classifier(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_features rows[N_ROWS];
    uint32_t labels[N_ROWS];
    for (uint32_t i = 0; i < N_ROWS; i++) {
        rows[i] = sample_run(i);
        labels[i] =
            rows[i].batch_size >= 4 ? TRUENO_KERNEL_BATCHED_Q4K : TRUENO_KERNEL_VECTORIZED_Q4K;
    }
    trueno_classifier *c;
    trueno_class_report report = TRUENO_CLASS_REPORT_INIT;
    trueno_status st = trueno_classifier_with_random_forest(ctx, &c, 50, NULL, &err);
    if (!st) st = trueno_classifier_train(c, &report, rows, labels, N_ROWS, &err);
    if (!st) {
        printf("\n== train_classifier\n");
        printf("learned from %zu rows; right in %.1f %% of %zu held-out rows\n", report.n_rows,
               100 * report.accuracy, report.n_held_out);
    }
    for (uint32_t i = 0; i < 8 && !st; i++) {
        trueno_kernel_choice choice = TRUENO_KERNEL_CHOICE_INIT;
        st = trueno_classifier_predict(c, &choice, &rows[i], &err);
        if (!st)
            printf("batch %u: %s, %.1f %%\n", i + 1, trueno_kernel_name(choice.top_kernel),
                   100 * choice.confidence);
    }
    trueno_classifier_free(c);
    return st ? cli_failed("training", st, err.message) : CLI_OK;
}

/* A tuner that keeps no file. store_path NULL instead of "" is the user's cache. */
static trueno_tuner *new_tuner(trueno_ctx *ctx, trueno_tuner_mode mode)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *tuner;
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    opt.mode = mode;
    opt.store_path = "";
    trueno_status st = trueno_tuner_new(ctx, &tuner, &opt, &err);
    if (st) cli_failed("tuner", st, err.message);
    return st ? NULL : tuner;
}

/* Throughput, kernel and what is worth trying, in one call. */
static int recommendation(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *tuner = new_tuner(ctx, TRUENO_TUNER_FROZEN);
    if (!tuner) return CLI_ERROR;

    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 1.5;
    f.batch_size = 4;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    f.cuda_graphs = 1;
    trueno_recommendation rec;
    trueno_recommendation_init(&rec);
    trueno_status st = trueno_tuner_recommend(tuner, &rec, &f, &err);
    trueno_tuner_free(tuner);
    if (st) return cli_failed("recommendation", st, err.message);

    printf("\n== recommendation\n");
    printf("Throughput: %.1f tok/s\n", rec.throughput.predicted_tps);
    printf("Best kernel: %s\n", trueno_kernel_name(rec.kernel.top_kernel));
    printf("Experiments to try:\n");
    for (size_t i = 0; i < rec.n_experiments; i++) {
        char line[256];
        trueno_experiment_format(line, sizeof(line), &rec.experiments[i]);
        printf("  - %s\n", line);
    }
    return CLI_OK;
}

/* ------------------------------------------------------------------------------- brick */

/* A product y = w x on this machine, what the tuner said of it, and the brick that computes it. */
struct product {
    trueno_recommendation rec;
    trueno_pool *pool;
    trueno_matrix *w;
    float *x, *y;
    void *blocks;
    trueno_brick *brick;
    trueno_brick_io io;
};

/* Weights: one row of numbers in the problem's format, again and again. The time of a kernel does
 * not depend on the values. */
static int make_product(trueno_ctx *ctx, struct product *p)
{
    trueno_error err = {TRUENO_OK, ""};
    const trueno_problem *q = &p->rec.kernel.problem;
    size_t row_bytes = trueno_row_bytes(q->type, q->cols), n = q->n_cols * q->cols;
    p->x = calloc(n, sizeof(float));
    p->y = calloc(q->n_cols * q->rows, sizeof(float));
    p->blocks = calloc(q->rows, row_bytes);
    if (!p->x || !p->y || !p->blocks) return cli_error("no memory for the product");
    for (size_t i = 0; i < n; i++) p->x[i] = (float)(i * 37 % 101) / 50 - 1; /* -1 to 1 */
    trueno_status st = trueno_quantize(p->blocks, p->x, q->type, q->cols);
    for (size_t r = 1; r < q->rows; r++)
        memcpy((char *)p->blocks + r * row_bytes, p->blocks, row_bytes);
    if (!st) st = trueno_pool_new(ctx, &p->pool, q->threads, &err);
    if (!st)
        st = trueno_matrix_new(ctx, &p->w, q->type, q->rows, q->cols, p->blocks, p->pool, &err);
    p->io =
        (trueno_brick_io){sizeof(p->io), p->w, p->x, q->cols, p->y, q->rows, q->n_cols, p->pool};
    return st ? cli_failed("product", st, err.message) : CLI_OK;
}

/* Makes the brick compute with this kernel of the registry. */
static trueno_status use_variant(trueno_ctx *ctx, struct product *p, const char *variant,
                                 trueno_error *err)
{
    if (p->brick && !strcmp(trueno_brick_variant(p->brick), variant)) return TRUENO_OK;
    trueno_brick_config config = TRUENO_BRICK_CONFIG_INIT;
    config.kernel = p->rec.kernel.top_kernel;
    config.variant = variant;
    config.problem = p->rec.kernel.problem;
    trueno_brick_free(p->brick);
    return trueno_brick_new(ctx, &p->brick, &config, err);
}

/* Executes assertions: the kernel gives the bits of the C reference, and no NaN. */
static int verify(struct product *p)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_brick_report report = TRUENO_BRICK_REPORT_INIT;
    trueno_status st = trueno_brick_assert_equiv(p->brick, NULL, 0, &err);
    if (!st) st = trueno_brick_assert_finite(p->brick, &err);
    if (!st) st = trueno_brick_verify(p->brick, &report, &p->io, &err);
    if (st) return cli_failed("brick", st, report.message[0] ? report.message : err.message);
    printf("%s, run by %s: %u assertions hold\n", trueno_kernel_name(p->rec.kernel.top_kernel),
           trueno_brick_variant(p->brick), report.n_assertions);
    return CLI_OK;
}

/* The application's loop: asks what to run, runs it, tells what it took. In LEARN mode the tuner
 * compares kernels that give the same bits, and changes its choice only on proof. */
static int run_and_learn(trueno_ctx *ctx, trueno_tuner *tuner, struct product *p)
{
    enum { RUNS = 200 };
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    const trueno_problem *problem = &p->rec.kernel.problem;
    char why[2048];
    size_t len = 0;
    uint64_t ns = 0, tokens = 0;
    trueno_status st = TRUENO_OK;
    for (int i = 0; i < RUNS && !st; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        trueno_brick_result run = TRUENO_BRICK_RESULT_INIT;
        st = trueno_tuner_plan(tuner, &pick, problem);
        if (!st) st = use_variant(ctx, p, pick.variant, &err);
        if (!st) st = trueno_brick_run(p->brick, &run, &p->io, &err);
        if (!st) st = trueno_tuner_observe(tuner, pick.ticket, run.ns, run.tokens);
        if (!st) st = trueno_tuner_tick(tuner, 0); /* digests; may be rarer, where there is time */
        ns += run.ns;
        tokens += run.tokens;
    }
    if (!st) st = trueno_tuner_get_stats(tuner, &stats);
    if (!st) st = trueno_tuner_explain(tuner, why, sizeof(why), &len, problem, &err);
    if (st) return cli_failed("run", st, err.message);
    printf("%d runs, %.0f columns/s; %llu observations\n%s", RUNS,
           1e9 * (double)tokens / (double)ns, (unsigned long long)stats.observations, why);
    return CLI_OK;
}

/* From this machine to a kernel that runs: features, recommendation, brick, observations. */
static int brick_integration(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_features f = TRUENO_FEATURES_INIT;
    trueno_env_options env = TRUENO_ENV_OPTIONS_INIT;
    struct product p = {0};
    trueno_recommendation_init(&p.rec);
    trueno_tuner *tuner = new_tuner(ctx, TRUENO_TUNER_LEARN);
    if (!tuner) return CLI_ERROR;

    printf("\n== brick_integration\n");
    env.probe_ms = 200; /* measures bandwidth and peak; env.gguf would add a model's exact sizes */
    trueno_status st = trueno_features_from_env(ctx, &f, &env, &err);
    f.model_params_b = 1.5;
    f.quant = TRUENO_QUANT_Q4_K;
    f.batch_size = 4;
    if (!st) st = trueno_tuner_recommend(tuner, &p.rec, &f, &err);
    if (!st) st = use_variant(ctx, &p, p.rec.kernel.variant, &err);
    int rc = st ? cli_failed("this machine", st, err.message) : make_product(ctx, &p);
    if (!rc) {
        printf("this CPU, %u threads: %.1f GB/s, %.3f TFLOP/s; batch %u: %.1f tok/s predicted\n",
               p.rec.plan.decode_threads, f.gpu_mem_bw_gbs, f.gpu_compute_tflops,
               trueno_features_batch_size(&f), p.rec.throughput.predicted_tps);
        rc = verify(&p);
    }
    if (!rc) rc = run_and_learn(ctx, tuner, &p);
    trueno_brick_free(p.brick);
    trueno_matrix_free(p.w);
    trueno_pool_free(p.pool);
    free(p.blocks);
    free(p.y);
    free(p.x);
    trueno_tuner_free(tuner);
    return rc;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(trueno_ctx *ctx);
    } parts[] = {
        {"basic_features", basic_features},      {"throughput_prediction", throughput_prediction},
        {"kernel_selection", kernel_selection},  {"train_regressor", train_regressor},
        {"train_classifier", train_classifier},  {"recommendation", recommendation},
        {"brick_integration", brick_integration}};
    const char *only = NULL;
    const struct cli_option options[] = {
        {"--only", NULL, CLI_TEXT, &only, "NAME", "one part: a function's name [all of them]"},
    };
    const struct cli_program program = {"[options]",
                                        "Shows the tuner's calls: features, predictions, kernels, "
                                        "training, recommendations, and a\n"
                                        "kernel that runs as recommended on this machine.",
                                        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    bool any = false;
    rc = CLI_OK;
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]) && !rc; i++) {
        if (only && strcmp(only, parts[i].name)) continue;
        any = true;
        rc = parts[i].run(ctx);
    }
    trueno_ctx_free(ctx);
    if (!rc && !any) rc = cli_usage("--only is '%s'", only);
    return rc;
}
