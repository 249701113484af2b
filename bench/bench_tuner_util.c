/* SPDX-License-Identifier: MIT */
/* "trueno-bench tuner": what the tuner's own calls take.
 *
 * Calls of some ns are shorter than reading the clock, and its steps: 16 of them are timed
 * together, the median of empty timings is taken off, and the mean of the 16 is one sample.
 * Percentiles are of many samples, so a single slow call among the 16 counts for a sixteenth. */
#include "bench_util.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    BATCH = 16,       /* calls of one sample; also the problems that they ask for in turn */
    SAMPLES = 100000, /* of calls of ns */
    RECOMMENDATIONS = 4000,
    COLD = 60,        /* predictions with cold caches */
    TREES_ROWS = 700, /* runs that the forest learns from */
    ENTRIES = 1000,   /* contexts of the store */
    STORES = 20       /* times that it is saved and read */
};

/* Figures of the result, in the order in which they are printed. */
enum figure {
    CACHED_P50,
    CACHED_P99,
    LEARNING_P50,
    OBSERVE_P50,
    UNCACHED_P50,
    UNCACHED_FOREST_P50,
    PREDICT_P50,
    FOREST_COLD,
    SAVE,
    LOAD,
    N_FIGURES
};

static const struct {
    const char *name, *unit, *what;
} FIGURES[N_FIGURES] = {
    {"cached_p50_ns", "ns", "trueno_tuner_plan, context known, mode frozen"},
    {"cached_p99_ns", "ns", "the same"},
    {"learning_p50_ns", "ns", "trueno_tuner_plan, context known, mode learn"},
    {"observe_p50_ns", "ns", "trueno_tuner_observe"},
    {"uncached_p50_ns", "ns", "trueno_tuner_recommend, nothing trained"},
    {"forest100_p50_ns", "ns", "trueno_tuner_recommend, forest of 100 trees"},
    {"forest100_predict_p50_ns", "ns", "trueno_tuner_predict, forest of 100 trees"},
    {"forest100_cold_us", "us", "the same, caches evicted before, median"},
    {"save_ms", "ms", "trueno_tuner_save, as many contexts as it holds"},
    {"load_ms", "ms", "trueno_tuner_new with that file, less without"},
};

struct track {
    trueno_ctx *ctx;
    trueno_tuner *tuner; /* mode learn, without a file */
    trueno_tuner *frozen;
    double *samples; /* [SAMPLES] */
    double clock_ns; /* of an empty timing */
    trueno_problem problems[BATCH];
    uint64_t tickets[BATCH];
    size_t n_entries;
    double figures[N_FIGURES];
};

/* ------------------------------------------------------------------------------ timing */

static double now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Sorts. */
static double percentile(double *values, size_t n, double share)
{
    qsort(values, n, sizeof(*values), compare);
    return values[(size_t)(share * (double)(n - 1) + 0.5)];
}

static void time_the_clock(struct track *t)
{
    for (size_t i = 0; i < SAMPLES; i++) {
        double start = now_ns();
        t->samples[i] = now_ns() - start;
    }
    t->clock_ns = percentile(t->samples, SAMPLES, 0.5);
}

/* A sample: what one of n calls took since `start`. Not below 0, where the clock is coarse. */
static double per_call(const struct track *t, double start, double n)
{
    return fmax(0, (now_ns() - start - t->clock_ns) / n);
}

/* -------------------------------------------------------------------------- calls of ns */

static void make_problems(struct track *t)
{
    for (size_t i = 0; i < BATCH; i++) {
        t->problems[i] = (trueno_problem)TRUENO_PROBLEM_INIT;
        t->problems[i].type = i % 2 ? TRUENO_TYPE_Q6_K : TRUENO_TYPE_Q4_K;
        t->problems[i].rows = 2048 + 256 * i;
        t->problems[i].cols = 2048;
        t->problems[i].threads = 2;
    }
}

/* Each call waits for the one before, as if it asked for what that one named: else the CPU would
 * work on several at once, and what is measured would not be how long one takes. */
static trueno_status plan_batch(struct track *t, trueno_tuner *tuner)
{
    static volatile uintptr_t no_bits; /* 0, which the compiler does not know */
    const uintptr_t mask = no_bits;
    size_t after = 0;
    trueno_status st = TRUENO_OK;
    for (size_t k = 0; k < BATCH && !st; k++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        st = trueno_tuner_plan(tuner, &pick, &t->problems[k + after]);
        after = (uintptr_t)pick.variant & mask;
        t->tickets[k] = pick.ticket;
    }
    return st;
}

static trueno_status time_plans(struct track *t, trueno_tuner *tuner)
{
    trueno_status st = plan_batch(t, tuner); /* adds the contexts */
    for (size_t i = 0; i < SAMPLES && !st; i++) {
        double start = now_ns();
        st = plan_batch(t, tuner);
        t->samples[i] = per_call(t, start, BATCH);
    }
    return st;
}

/* After plans in mode learn, whose tickets they are. */
static trueno_status time_observations(struct track *t)
{
    enum { ROOM = 4096 / BATCH }; /* batches that the ring holds */
    trueno_status st = TRUENO_OK;
    for (size_t i = 0; i < SAMPLES && !st; i++) {
        if (i % ROOM == 0) st = trueno_tuner_tick(t->tuner, 0);
        double start = now_ns();
        for (size_t k = 0; k < BATCH && !st; k++)
            st = trueno_tuner_observe(t->tuner, t->tickets[k], 100000 + i % 7, 0);
        t->samples[i] = per_call(t, start, BATCH);
    }
    return st;
}

static int time_short_calls(struct track *t)
{
    trueno_status st = time_plans(t, t->frozen);
    t->figures[CACHED_P50] = percentile(t->samples, SAMPLES, 0.5);
    t->figures[CACHED_P99] = percentile(t->samples, SAMPLES, 0.99);
    if (!st) st = time_plans(t, t->tuner);
    t->figures[LEARNING_P50] = percentile(t->samples, SAMPLES, 0.5);
    if (!st) st = time_observations(t);
    t->figures[OBSERVE_P50] = percentile(t->samples, SAMPLES, 0.5);
    return st ? cli_failed("plan", st, NULL) : CLI_OK;
}

/* ---------------------------------------------------------------------- recommendations */

static double next_unit(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(*state >> 11) * 0x1p-53;
}

/* A run on a CPU as the features of a file and a machine give it; sizes at random. */
static trueno_features random_run(uint64_t *random)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = exp2(next_unit(random) * 8 - 3);
    trueno_features_set_quant(&f, (trueno_quant)(next_unit(random) * 4));
    f.batch_size = floor(1 + next_unit(random) * 16);
    f.seq_len = floor(16 + next_unit(random) * 2000);
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 10 + next_unit(random) * 90;
    f.gpu_compute_tflops = 0.5 + next_unit(random) * 4;
    f.cpu_threads = floor(1 + next_unit(random) * 16);
    f.sm_count = 16;
    f.system_ram_gb = 256;
    f.phase = TRUENO_PHASE_DECODE;
    return f;
}

/* Recommendations of runs that differ, one by one: each is much longer than reading the clock. */
static trueno_status time_recommendations(struct track *t, enum figure figure)
{
    uint64_t random = 1;
    trueno_status st = TRUENO_OK;
    trueno_recommendation rec;
    trueno_features runs[BATCH];
    for (size_t i = 0; i < BATCH; i++) runs[i] = random_run(&random);
    for (size_t i = 0; i < RECOMMENDATIONS && !st; i++) {
        trueno_recommendation_init(&rec);
        double start = now_ns();
        st = trueno_tuner_recommend(t->frozen, &rec, &runs[i % BATCH], NULL);
        t->samples[i] = per_call(t, start, 1);
    }
    t->figures[figure] = percentile(t->samples, RECOMMENDATIONS, 0.5);
    return st;
}

static trueno_status time_predictions(struct track *t)
{
    uint64_t random = 1;
    trueno_status st = TRUENO_OK;
    trueno_features runs[BATCH];
    for (size_t i = 0; i < BATCH; i++) runs[i] = random_run(&random);
    for (size_t i = 0; i < RECOMMENDATIONS && !st; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        double start = now_ns();
        st = trueno_tuner_predict(t->frozen, &p, &runs[i % BATCH], NULL);
        t->samples[i] = per_call(t, start, 1);
    }
    t->figures[PREDICT_P50] = percentile(t->samples, RECOMMENDATIONS, 0.5);
    return st;
}

/* A forest that has something to learn: what exceeds the roof's time depends on the run. */
static trueno_status train(struct track *t, trueno_error *err)
{
    trueno_features *rows = malloc(TREES_ROWS * sizeof(*rows));
    double *tps = malloc(TREES_ROWS * sizeof(*tps));
    uint64_t random = 2;
    trueno_status st = rows && tps ? TRUENO_OK : TRUENO_ERR_NO_MEMORY;
    for (size_t i = 0; i < TREES_ROWS && !st; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        rows[i] = random_run(&random);
        st = trueno_tuner_predict(t->frozen, &p, &rows[i], err);
        tps[i] = p.roofline_tps * (0.3 + 0.02 * rows[i].cpu_threads + 0.3 * next_unit(&random));
    }
    if (!st) st = trueno_tuner_train(t->frozen, NULL, rows, tps, TREES_ROWS, err);
    free(rows);
    free(tps);
    return st;
}

/* Fills the caches with other memory. Not memset, which may write past them. */
static void evict(volatile unsigned char *other, size_t bytes)
{
    for (size_t i = 0; i < bytes; i += 64) other[i]++;
}

/* Predictions after other memory went through all caches, twice their size. */
static trueno_status time_cold(struct track *t)
{
    size_t bytes = 2 * trueno_cache_bytes();
    uint64_t random = 3;
    if (bytes < 1 << 26) bytes = 1 << 26;
    unsigned char *other = calloc(bytes, 1);
    trueno_status st = other ? TRUENO_OK : TRUENO_ERR_NO_MEMORY;
    for (size_t i = 0; i < COLD && !st; i++) {
        trueno_prediction p = TRUENO_PREDICTION_INIT;
        trueno_features f = random_run(&random);
        evict(other, bytes);
        double start = now_ns();
        st = trueno_tuner_predict(t->frozen, &p, &f, NULL);
        t->samples[i] = per_call(t, start, 1) / 1000;
    }
    free(other);
    t->figures[FOREST_COLD] = percentile(t->samples, COLD, 0.5);
    return st;
}

static int time_models(struct track *t)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = time_recommendations(t, UNCACHED_P50);
    if (!st) st = train(t, &err);
    if (!st) st = time_recommendations(t, UNCACHED_FOREST_P50);
    if (!st) st = time_predictions(t);
    if (!st) st = time_cold(t);
    return st ? cli_failed("recommendation", st, err.message) : CLI_OK;
}

/* -------------------------------------------------------------------------------- store */

static trueno_problem stored_problem(size_t i)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    p.rows = 64 + 64 * i;
    p.cols = 4096;
    return p;
}

/* Choices as a race finds them, from times that are made up. */
static trueno_status race_all(trueno_tuner *tuner)
{
    trueno_status st = TRUENO_OK;
    for (size_t i = 0; i < ENTRIES && !st; i++) {
        trueno_problem p = stored_problem(i);
        for (size_t call = 0; call < 600 && !st; call++) {
            trueno_pick pick = TRUENO_PICK_INIT;
            st = trueno_tuner_plan(tuner, &pick, &p);
            if (!st) st = trueno_tuner_observe(tuner, pick.ticket, 100000 + call % 5, 0);
            if (!st) st = trueno_tuner_tick(tuner, 0);
        }
    }
    return st;
}

/* ms of making a tuner on this file. */
static trueno_status open_ms(struct track *t, double *ms, const char *path, trueno_error *err)
{
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    trueno_status st = TRUENO_OK;
    opt.store_path = path;
    for (size_t i = 0; i < STORES && !st; i++) {
        trueno_tuner *tuner = NULL;
        double start = now_ns();
        st = trueno_tuner_new(t->ctx, &tuner, &opt, err);
        t->samples[i] = per_call(t, start, 1) / 1e6;
        trueno_tuner_free(tuner);
    }
    *ms = percentile(t->samples, STORES, 0.5);
    return st;
}

static trueno_status save_ms(struct track *t, const char *path, trueno_error *err)
{
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner *tuner = NULL;
    opt.mode = TRUENO_TUNER_LEARN;
    opt.store_path = path;
    trueno_status st = trueno_tuner_new(t->ctx, &tuner, &opt, err);
    if (!st) st = race_all(tuner);
    for (size_t i = 0; i < STORES && !st; i++) {
        double start = now_ns();
        st = trueno_tuner_save(tuner, err);
        t->samples[i] = per_call(t, start, 1) / 1e6;
    }
    t->figures[SAVE] = percentile(t->samples, STORES, 0.5);
    trueno_tuner_free(tuner);
    return st;
}

/* Contexts for which the file has a choice. */
static trueno_status count_entries(struct track *t, const char *path, trueno_error *err)
{
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    trueno_tuner_stats stats = TRUENO_TUNER_STATS_INIT;
    trueno_tuner *tuner = NULL;
    opt.store_path = path;
    trueno_status st = trueno_tuner_new(t->ctx, &tuner, &opt, err);
    for (size_t i = 0; i < ENTRIES && !st; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        trueno_problem p = stored_problem(i);
        st = trueno_tuner_plan(tuner, &pick, &p);
    }
    if (!st) st = trueno_tuner_get_stats(tuner, &stats);
    t->n_entries = (size_t)stats.stored_used;
    trueno_tuner_free(tuner);
    return st;
}

/* A folder for the file and its lock, gone afterwards. */
static int time_store(struct track *t)
{
    const char *base = getenv("TMPDIR");
    char folder[4000], path[4096], lock[4104];
    trueno_error err = {TRUENO_OK, ""};
    double full = 0, empty = 0;
    snprintf(folder, sizeof(folder), "%s/trueno-bench-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(folder)) return cli_error("cannot make %s", folder);
    snprintf(path, sizeof(path), "%s/store", folder);
    snprintf(lock, sizeof(lock), "%s.lock", path);
    trueno_status st = save_ms(t, path, &err);
    if (!st) st = open_ms(t, &full, path, &err);
    if (!st) st = open_ms(t, &empty, "", &err);
    if (!st) st = count_entries(t, path, &err);
    t->figures[LOAD] = fmax(0, full - empty);
    unlink(path);
    unlink(lock);
    rmdir(folder);
    return st ? cli_failed("store", st, err.message) : CLI_OK;
}

/* ------------------------------------------------------------------------------- result */

static int print_json(const struct track *t)
{
    json_t *all = json_pack("{s:s, s:f, s:i}", "cpu", trueno_ctx_cpu_level(t->ctx), "clock_ns",
                            t->clock_ns, "store_entries", (int)t->n_entries);
    for (size_t i = 0; i < N_FIGURES && all; i++)
        json_object_set_new(all, FIGURES[i].name, json_real(t->figures[i]));
    return cli_json_write(all, "-");
}

static int print_markdown(const struct track *t)
{
    printf("| %-24s | %10s | %-46s |\n", "figure", "value", "of");
    puts("| ------------------------ | ---------: | ---------------------------------------------- "
         "|");
    for (size_t i = 0; i < N_FIGURES; i++)
        printf("| %-24s | %7.2f %s | %-46s |\n", FIGURES[i].name, t->figures[i], FIGURES[i].unit,
               FIGURES[i].what);
    return CLI_OK;
}

static int make_track(struct track *t)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    opt.store_path = "";
    t->ctx = cli_ctx_new();
    t->samples = calloc(SAMPLES, sizeof(*t->samples));
    if (!t->ctx || !t->samples) return cli_error("no memory");
    trueno_status st = trueno_tuner_new(t->ctx, &t->frozen, &opt, &err);
    opt.mode = TRUENO_TUNER_LEARN;
    if (!st) st = trueno_tuner_new(t->ctx, &t->tuner, &opt, &err);
    if (st) return cli_failed("tuner", st, err.message);
    make_problems(t);
    time_the_clock(t);
    return CLI_OK;
}

int bench_tuner(int argc, char **argv)
{
    const char *output = "md";
    const struct cli_option options[] = {
        {"-o", "--output", CLI_TEXT, &output, "FORMAT", "md or json [md]"},
    };
    const struct cli_program program = {
        "tuner [options]",
        "Measures what the tuner's own calls take. Calls of some ns are timed 16 at once, without\n"
        "what reading the clock takes; p50 and p99 are of the means of such batches. The store is\n"
        "made in TMPDIR [/tmp], from times that are made up.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    bool json = !strcmp(output, "json");
    if (!json && strcmp(output, "md")) return cli_usage("--output is '%s': md or json", output);
    struct track t = {.ctx = NULL};
    rc = make_track(&t);
    if (!rc) rc = time_short_calls(&t);
    if (!rc) rc = time_models(&t);
    if (!rc) rc = time_store(&t);
    if (!rc) rc = json ? print_json(&t) : print_markdown(&t);
    trueno_tuner_free(t.tuner);
    trueno_tuner_free(t.frozen);
    trueno_ctx_free(t.ctx);
    free(t.samples);
    return rc;
}
