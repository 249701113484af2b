/* SPDX-License-Identifier: MIT */
/* trueno-ml-tuner-evolution: how a tuner gets better. What it knows untrained, what calibrating on
 * this machine adds (--calibrate), learning from measured runs, trying kernels with bounded loss,
 * and keeping what was learned in a file. */
#include "cli_util.h"

#include "trueno/tuner.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* The run that is learned about: four sequences of a 7 B model, on a device of 1000 GB/s. */
static trueno_features example_run(void)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = 7;
    f.batch_size = 4;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    return f;
}

/* -------------------------------------------------------------------- pretrained weights */

/* The regressor that comes with the library: how good it was on models that its training had not
 * seen, and what it goes by. */
static int show_pretrained(trueno_ctx *ctx)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    trueno_accuracy of = TRUENO_ACCURACY_INIT;
    trueno_tuner *t;
    double mape;
    opt.store_path = ""; /* no file */
    trueno_status st = trueno_tuner_with_pretrained(ctx, &t, &opt, &err);
    if (st) return cli_failed("pretrained tuner", st, err.message);
    printf("== pretrained\nversion %s\n", trueno_tuner_version(t));
    st = trueno_tuner_throughput_mape(t, &mape, &of);
    if (!st)
        printf("mean error of predictions: %.1f %% on %zu runs, %s, measured on: %s, until %s\n",
               100 * mape, of.n, of.split, of.machine, of.date);
    const trueno_importance *rows;
    size_t n = trueno_pretrained_feature_importance(&rows);
    for (size_t i = 0; !st && i < n && i < 5; i++)
        printf("  %s: %.1f %%\n", rows[i].name, 100 * rows[i].importance);
    trueno_tuner_free(t);
    return st ? cli_failed("accuracy", st, NULL) : CLI_OK;
}

/* ------------------------------------------------------------------- what it begins with */

static int show_start(trueno_tuner *t)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_features f = example_run();
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_status st = trueno_tuner_predict(t, &p, &f, &err);
    if (st) return cli_failed("prediction", st, err.message);
    printf("\n== start\nversion %s: predictions begin with the roofline and the usual losses\n",
           trueno_tuner_version(t));
    printf("7 B Q4_K, batch 4: %.1f tok/s (%.1f .. %.1f) below a roof of %.1f\n", p.predicted_tps,
           p.lo, p.hi, p.roofline_tps);
    double mape;
    st = trueno_tuner_throughput_mape(t, &mape, NULL);
    if (st == TRUENO_OK)
        printf("mean error of predictions: %.1f %%\n", 100 * mape);
    else if (st == TRUENO_ERR_NOT_MEASURED)
        printf("mean error of predictions: not measured\n");
    else
        return cli_failed("accuracy", st, NULL);
    return CLI_OK;
}

/* --------------------------------------------------------------------------- calibration */

/* Measures this machine and races kernels, two seconds. The context's progress callback draws the
 * bar, its cancel callback ends it early. */
static int calibrate(trueno_tuner *t)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    trueno_calibrate_options opt = TRUENO_CALIBRATE_OPTIONS_INIT;
    opt.effort = TRUENO_EFFORT_RAPID;
    trueno_status st = trueno_tuner_calibrate(t, &c, &opt, &err);
    cli_progress(NULL, "calibrate", 1, 1); /* wipes the bar */
    if (st) return cli_failed("calibration", st, err.message);
    printf("\n== calibration\ncalibrated to: %s\n", c.hardware_id);
    printf("read bandwidth %.1f GB/s, 8-bit products %.1f GMAC/s\n", c.read_gbs, c.int8_gmacs);
    printf("%u contexts measured, %" PRIu64 " kernel runs, %.0f ms%s%s\n", c.n_contexts,
           c.n_measurements, c.duration_ms, c.partial ? "; not all contexts, the time was up" : "",
           c.noisy ? "; too unsteady to choose kernels" : "");
    printf(
        "%u contexts run another kernel than the default; differences from %.2f %% can be told\n",
        c.n_changed, c.mde_pct);
    if (isnan(c.local_mape))
        printf("local error: too few contexts to judge\n");
    else
        printf("local error: %.1f %%, was %.1f %%: improvement %.1f %%, %s\n", 100 * c.local_mape,
               100 * c.mape_before, c.improvement_pct, c.applied ? "applied" : "not applied");
    printf("version %s\n", trueno_tuner_version(t));
    return CLI_OK;
}

/* ----------------------------------------------------------------------- online learning */

static int report_learner(const trueno_learner *l, trueno_tuner *t, const trueno_features *f)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_status st = trueno_tuner_predict(t, &p, f, &err);
    if (st) return cli_failed("prediction", st, err.message);
    printf("updates: %" PRIu64 "\nEMA loss: %.4f\n", trueno_learner_num_updates(l),
           trueno_learner_ema_loss(l));
    printf("converging: %s\n",
           trueno_learner_is_converging(l) ? "yes" : "no (needs 10 updates and a small loss)");
    printf("the tuner after applying: version %s, %.2f tok/s\n", trueno_tuner_version(t),
           p.predicted_tps);
    return CLI_OK;
}

/* A learner sees four measured runs; what it learned is put into a copy of the tuner. */
static int learn_online(trueno_tuner *t)
{
    static const double measured[] = {150, 155, 152, 158};
    enum { N = sizeof(measured) / sizeof(measured[0]) };
    trueno_error err = {TRUENO_OK, ""};
    trueno_features f = example_run();
    float x[TRUENO_FEATURE_DIM];
    trueno_learner *l = NULL;
    trueno_tuner *updated = NULL;
    trueno_status st = trueno_tuner_online_learner(t, &l, &err);
    if (!st) st = trueno_features_to_vector(x, &f, &err);
    if (!st) printf("\n== online learning\n");
    for (int i = 0; i < N && !st; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        st = trueno_learner_predict(l, &p, &f, &err);
        if (!st) st = trueno_learner_observe(l, x, measured[i], &err);
        if (!st) printf("predicted %8.2f tok/s, measured %.0f\n", p.predicted_tps, measured[i]);
    }
    if (!st) st = trueno_tuner_clone(t, &updated, &err);
    if (!st) st = trueno_tuner_apply_online_updates(updated, l, &err);
    int rc = st ? cli_failed("learner", st, err.message) : report_learner(l, updated, &f);
    trueno_tuner_free(updated);
    trueno_learner_free(l);
    return rc;
}

/* ------------------------------------------------------------------------------- bandits */

/* The simulated machine. Its runs reach these rates, times 1 + noise, noise uniform on -8 % to
 * 8 %. The rule's choice for four sequences, BatchedQ4K, is made the slower one: a bandit has to
 * find that out. */
static double simulated_tps(trueno_kernel kernel, uint64_t *state)
{
    double tps = kernel == TRUENO_KERNEL_VECTORIZED_Q4K ? 160
                 : kernel == TRUENO_KERNEL_BATCHED_Q4K  ? 140
                                                        : 80;
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    double unit = (double)(*state >> 11) * 0x1p-53;
    return tps * (1 + 0.08 * (2 * unit - 1));
}

/* Runs of one family and the sum of their rewards. */
struct tally {
    int n;
    double sum;
};

static void report_bandit(const char *name, const trueno_bandit *b, uint64_t context,
                          const struct tally *tally)
{
    double upper, regret = trueno_bandit_estimated_regret(b, context, &upper);
    printf("%s\n", name);
    for (uint32_t k = 0; k < trueno_kernel_count(); k++)
        if (tally[k].n > 0)
            printf("  ran %s %d times, mean reward %.4f\n", trueno_kernel_name((trueno_kernel)k),
                   tally[k].n, tally[k].sum / tally[k].n);
    printf("  best kernel: %s\n", trueno_kernel_name(trueno_bandit_best_kernel(b, context)));
    printf("  exploration rate: %.2f\n", trueno_bandit_exploration_rate(b, context));
    if (isnan(regret))
        printf("  cumulative regret: unknown, one kernel alone was tried\n");
    else if (isinf(upper))
        printf("  cumulative regret: %.2f, without bound: a kernel ran once\n", regret);
    else
        printf("  cumulative regret: %.2f, with 95 %% confidence not above %.2f\n", regret, upper);
}

/* 100 rounds: with probability `explore` what the bandit wants to try, else what it knows to be
 * best. The reward is a share of 200 tok/s. */
static int run_bandit(trueno_tuner *t, const char *name, trueno_bandit_policy policy,
                      double explore)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_features f = example_run();
    trueno_bandit_options opt = TRUENO_BANDIT_OPTIONS_INIT;
    trueno_bandit *b = NULL;
    trueno_kernel_choice choice = TRUENO_KERNEL_CHOICE_INIT;
    uint64_t noise = 1;
    struct tally *tally = calloc(trueno_kernel_count(), sizeof(*tally));
    if (!tally) return cli_error("no memory");
    opt.policy = policy;
    trueno_status st = trueno_tuner_kernel_bandit(t, &b, &opt, &err);
    for (int round = 0; round < 100 && !st; round++) {
        st = trueno_tuner_recommend_kernel_with_exploration(t, &choice, &f, b, explore, &err);
        if (st) break;
        double reward = fmin(simulated_tps(choice.top_kernel, &noise) / 200, 1);
        st = trueno_bandit_update(b, choice.context, choice.top_kernel, reward, &err);
        tally[choice.top_kernel].n++;
        tally[choice.top_kernel].sum += reward;
    }
    if (!st) report_bandit(name, b, choice.context, tally);
    trueno_bandit_free(b);
    free(tally);
    return st ? cli_failed(name, st, err.message) : CLI_OK;
}

static int try_kernels(trueno_tuner *t)
{
    printf("\n== bandits, 100 rounds on a simulated machine\n");
    int rc = run_bandit(t, "UCB1, asked in 20 % of the rounds", TRUENO_BANDIT_UCB1, 0.2);
    /* Thompson sampling tries the less the more it knows, so it may be asked always. */
    return rc ? rc : run_bandit(t, "Thompson sampling, asked always", TRUENO_BANDIT_THOMPSON, 1);
}

/* --------------------------------------------------------------------------------- store */

/* What this machine can do: from the store, or measured now and remembered. */
static int know_machine(trueno_ctx *ctx, trueno_tuner *t)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
    const char *where = "known";
    trueno_status st = trueno_tuner_profile(t, &profile, &err);
    if (st == TRUENO_ERR_NOT_MEASURED) {
        where = "measured now";
        st = trueno_machine_measure(ctx, &profile, NULL, 0, 200, &err);
        if (!st) st = trueno_tuner_remember_profile(t, &profile, &err);
    }
    if (st) return cli_failed("profile", st, err.message);
    for (uint32_t i = 0; i < profile.n; i++)
        printf("%s: %u threads read %.3f GB/s\n", where, profile.points[i].threads,
               profile.points[i].read_gbs);
    return CLI_OK;
}

/* Saves to the user's cache. A disk that cannot be written costs what was learned, nothing else. */
static void save(trueno_tuner *t)
{
    trueno_error err = {TRUENO_OK, ""};
    char path[4096] = "nowhere";
    if (trueno_tuner_cache_path(path, sizeof(path)) != TRUENO_OK) {
        printf("not saved: neither XDG_CACHE_HOME nor HOME is set\n");
        return;
    }
    trueno_status st = trueno_tuner_save(t, &err);
    if (st)
        printf("not saved: %s\n", err.message[0] ? err.message : trueno_status_str(st));
    else
        printf("saved to %s\n", path);
}

/* Everything known of kernels and machines as text, into a tuner that knows nothing. */
static int round_trip(trueno_ctx *ctx, trueno_tuner *t)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    opt.store_path = ""; /* no file */
    trueno_tuner *other = NULL;
    char *text = NULL;
    size_t len = 0, cap = 0;
    trueno_status st = trueno_tuner_new(ctx, &other, &opt, &err);
    if (!st && trueno_tuner_export(t, NULL, 0, &cap, TRUENO_STORE_JSON, &err) != TRUENO_OK)
        err = (trueno_error){TRUENO_OK, ""}; /* cap is set all the same */
    if (!st && !(text = malloc(cap))) st = TRUENO_ERR_NO_MEMORY;
    if (!st) st = trueno_tuner_export(t, text, cap, &len, TRUENO_STORE_JSON, &err);
    uint64_t before = trueno_tuner_digest(other);
    trueno_store_report report = TRUENO_STORE_REPORT_INIT;
    if (!st) st = trueno_tuner_import(other, &report, text, len, &err);
    if (!st)
        printf("exported %zu bytes of JSON; an empty tuner that imports them: %" PRIu32
               " entries, %" PRIu32 " added, %" PRIu32 " usable here; digest %016" PRIx64
               " -> %016" PRIx64 ", %s\n",
               len, report.entries, report.added, report.usable, before, trueno_tuner_digest(other),
               trueno_tuner_digest(other) == trueno_tuner_digest(t) ? "that of this one"
                                                                    : "not that of this one");
    free(text);
    trueno_tuner_free(other);
    return st ? cli_failed("round trip", st, err.message) : CLI_OK;
}

static int evolve(trueno_ctx *ctx, bool with_calibration)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *t;
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    opt.mode = TRUENO_TUNER_LEARN; /* store_path NULL: the user's cache */
    trueno_status st = trueno_tuner_new(ctx, &t, &opt, &err);
    if (st) return cli_failed("tuner", st, err.message);
    int rc = show_pretrained(ctx);
    if (!rc) rc = show_start(t);
    if (!rc && with_calibration) rc = calibrate(t);
    if (!rc && !with_calibration) printf("\n== calibration\nskipped: --calibrate does it\n");
    if (!rc) rc = learn_online(t);
    if (!rc) rc = try_kernels(t);
    if (!rc) {
        printf("\n== store\nreading it: %s\n", trueno_status_str(trueno_tuner_store_status(t)));
        rc = know_machine(ctx, t);
    }
    if (!rc) save(t);
    if (!rc) rc = round_trip(ctx, t);
    trueno_tuner_free(t);
    return rc;
}

int main(int argc, char **argv)
{
    bool with_calibration = false;
    const struct cli_option options[] = {
        {"--calibrate", NULL, CLI_FLAG, &with_calibration, NULL,
         "measure this machine and race its kernels, 2 s"},
    };
    const struct cli_program program = {
        "[options]",
        "Shows how the tuner learns: calibration, measured runs, bandits. What it measures of "
        "this\n"
        "machine goes to the user's cache ($XDG_CACHE_HOME/trueno, else ~/.cache/trueno).",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    rc = evolve(ctx, with_calibration);
    trueno_ctx_free(ctx);
    return rc;
}
