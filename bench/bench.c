/* SPDX-License-Identifier: MIT */
/* trueno-bench: tokens per second of prompt evaluation (ppN: N tokens at once, from an empty
 * context) and of generation (tgN: N tokens one by one). One warm-up run, then the median, minimum
 * and maximum of some repetitions. Token ids are pseudo-random: speed does not depend on them. */
#include "cli_util.h"

#include "trueno.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LIST = 32 };

struct settings {
    struct cli_list models;
    uint32_t prompts[MAX_LIST], gens[MAX_LIST], threads[MAX_LIST];
    size_t n_prompts, n_gens, n_threads;
    uint32_t n_batch, reps;
};

/* One line of the result. */
struct result {
    const char *path, *cpu;
    trueno_model_info info;
    uint32_t n_threads, n_batch, reps;
    char test[24];
    double median, min, max; /* tokens per second */
};

/* A format: what is printed for each result, and in the end for all of them. */
struct format {
    const char *name;
    void (*begin)(void);
    void (*row)(const struct result *r);
    int (*end)(const struct result *r, size_t n);
};

/* ----------------------------------------------------------------------------- formats */

/* The file's name without directory and ending, cut: names inside files are long or missing. */
static void label(char *out, size_t cap, const char *path)
{
    const char *slash = strrchr(path, '/');
    snprintf(out, cap, "%s", slash ? slash + 1 : path);
    char *dot = strrchr(out, '.');
    if (dot && dot > out) *dot = 0;
}

static void markdown_begin(void)
{
    printf("| %-36s | %10s | %9s | %-10s | %7s | %8s | %28s |\n", "model", "size", "params",
           "backend", "threads", "test", "t/s (min - max)");
    printf("| ------------------------------------ | ---------: | --------: | ---------- "
           "| ------: | -------: | ---------------------------: |\n");
}

static void markdown_row(const struct result *r)
{
    char name[256], model[40], backend[16], rate[64];
    label(name, sizeof(name), r->path);
    snprintf(model, sizeof(model), "%.25s %.10s", name, r->info.type);
    snprintf(backend, sizeof(backend), "CPU %s", r->cpu);
    snprintf(rate, sizeof(rate), "%.2f (%.2f - %.2f)", r->median, r->min, r->max);
    printf("| %-36s | %6.1f MiB | %7.2f M | %-10s | %7u | %8s | %28s |\n", model,
           (double)r->info.weight_bytes / 0x1p20, (double)r->info.n_params / 1e6, backend,
           r->n_threads, r->test, rate);
    fflush(stdout);
}

static void csv_begin(void)
{
    puts("model,name,type,weight_bytes,n_params,cpu,threads,n_batch,test,tps_median,tps_min,"
         "tps_max,reps");
}

/* A field in quotes; quotes inside are doubled. */
static void csv_text(const char *text)
{
    putchar('"');
    for (; *text; text++) {
        if (*text == '"') putchar('"');
        putchar(*text);
    }
    fputs("\",", stdout);
}

static void csv_row(const struct result *r)
{
    csv_text(r->path);
    csv_text(r->info.name);
    printf("%s,%llu,%llu,%s,%u,%u,%s,%.4f,%.4f,%.4f,%u\n", r->info.type,
           (unsigned long long)r->info.weight_bytes, (unsigned long long)r->info.n_params, r->cpu,
           r->n_threads, r->n_batch, r->test, r->median, r->min, r->max, r->reps);
    fflush(stdout);
}

static int json_end(const struct result *r, size_t n)
{
    json_t *all = json_array();
    for (; all && n > 0; n--, r++) {
        json_t *row = json_pack(
            "{s:o, s:o, s:s, s:s, s:I, s:I, s:s, s:i, s:i, s:s, s:f, s:f, s:f, s:i}", "model",
            cli_json_text(r->path), "name", cli_json_text(r->info.name), "architecture",
            r->info.architecture, "type", r->info.type, "weight_bytes",
            (json_int_t)r->info.weight_bytes, "n_params", (json_int_t)r->info.n_params, "cpu",
            r->cpu, "threads", (int)r->n_threads, "n_batch", (int)r->n_batch, "test", r->test,
            "tps_median", r->median, "tps_min", r->min, "tps_max", r->max, "reps", (int)r->reps);
        if (json_array_append_new(all, row) != 0) {
            json_decref(all);
            all = NULL;
        }
    }
    return cli_json_write(all, "-");
}

static void nothing(void)
{
}

static void no_row(const struct result *r)
{
    (void)r;
}

static int no_end(const struct result *r, size_t n)
{
    (void)r;
    (void)n;
    return CLI_OK;
}

static const struct format FORMATS[] = {
    {"md", markdown_begin, markdown_row, no_end},
    {"csv", csv_begin, csv_row, no_end},
    {"json", nothing, no_row, json_end},
};

/* ------------------------------------------------------------------------- measurement */

/* One run of a test. Each starts from an empty context. @return tokens per second, < 0 after a
 * message */
static double run_once(trueno_session *session, const trueno_token *ids, uint32_t n,
                       bool one_by_one)
{
    trueno_session_rewind(session, 0);
    double start = cli_now();
    uint32_t step = one_by_one ? 1 : n;
    for (uint32_t i = 0; i < n; i += step) {
        trueno_status st = trueno_session_eval(session, ids + i, step, TRUENO_LOGITS_LAST);
        if (!st) continue;
        cli_failed("cannot evaluate", st, trueno_session_last_error(session));
        return -1;
    }
    return n / (cli_now() - start);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Warm-up and repetitions of one test; fills the rates of `r`. */
static int measure(trueno_session *session, const trueno_token *ids, uint32_t n, bool one_by_one,
                   struct result *r)
{
    snprintf(r->test, sizeof(r->test), "%s%u", one_by_one ? "tg" : "pp", n);
    double *rates = calloc(r->reps, sizeof(*rates));
    if (!rates) return cli_error("no memory for %u repetitions", r->reps);
    int rc = CLI_OK;
    for (uint32_t i = 0; i <= r->reps; i++) { /* the first one is the warm-up */
        cli_progress(NULL, r->test, i, r->reps + 1U);
        double rate = run_once(session, ids, n, one_by_one);
        if (rate < 0) {
            rc = CLI_ERROR;
            break;
        }
        if (i > 0) rates[i - 1] = rate;
    }
    cli_progress(NULL, r->test, 1, 1);
    qsort(rates, r->reps, sizeof(*rates), compare);
    r->min = rates[0];
    r->max = rates[r->reps - 1];
    r->median = (rates[(r->reps - 1) / 2] + rates[r->reps / 2]) / 2;
    free(rates);
    return rc;
}

/* All results so far. */
struct table {
    const struct format *format;
    struct result *rows;
    size_t n, cap;
};

static int add_row(struct table *t, const struct result *r)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct result *more = realloc(t->rows, cap * sizeof(*more));
        if (!more) return cli_error("no memory for the results");
        t->rows = more;
        t->cap = cap;
    }
    t->rows[t->n++] = *r;
    t->format->row(r);
    return CLI_OK;
}

static uint32_t longest(const struct settings *s)
{
    uint32_t n = 1;
    for (size_t i = 0; i < s->n_prompts; i++) n = s->prompts[i] > n ? s->prompts[i] : n;
    for (size_t i = 0; i < s->n_gens; i++) n = s->gens[i] > n ? s->gens[i] : n;
    return n;
}

/* All tests of one model with one number of threads. */
static int bench_threads(const trueno_model *model, const struct settings *s, struct result *r,
                         const trueno_token *ids, struct table *table)
{
    trueno_session_options opt = TRUENO_SESSION_OPTIONS_INIT;
    opt.n_ctx = longest(s);
    opt.n_batch = s->n_batch;
    opt.n_threads = r->n_threads;
    trueno_error err = {TRUENO_OK, ""};
    trueno_session *session;
    trueno_status st = trueno_session_new(&session, model, &opt, &err);
    if (st) return cli_failed("session", st, err.message);
    int rc = CLI_OK;
    for (size_t i = 0; i < s->n_prompts + s->n_gens && !rc; i++) {
        bool gen = i >= s->n_prompts;
        uint32_t n = gen ? s->gens[i - s->n_prompts] : s->prompts[i];
        if (n == 0) continue;
        rc = measure(session, ids, n, gen, r);
        if (!rc) rc = add_row(table, r);
    }
    trueno_session_free(session);
    return rc;
}

static int bench_model(trueno_ctx *ctx, const char *path, const struct settings *s,
                       struct table *table)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_gguf *file = NULL;
    trueno_model *model = NULL;
    trueno_status st = trueno_gguf_open(ctx, &file, path, NULL, &err);
    if (!st) st = trueno_model_load(&model, file, NULL, &err);
    trueno_gguf_free(file);
    if (st) return cli_failed(path, st, err.message);

    struct result r = {.path = path,
                       .cpu = trueno_ctx_cpu_level(ctx),
                       .info = TRUENO_MODEL_INFO_INIT,
                       .n_batch = s->n_batch,
                       .reps = s->reps};
    trueno_model_get_info(model, &r.info);
    uint32_t n = longest(s), state = 1;
    trueno_token *ids = malloc(n * sizeof(*ids));
    int rc = ids ? CLI_OK : cli_error("no memory for %u tokens", n);
    for (uint32_t i = 0; i < n && ids; i++) {
        state = state * 1664525 + 1013904223; /* Numerical Recipes' generator */
        ids[i] = (trueno_token)((uint64_t)state * r.info.n_vocab >> 32);
    }
    for (size_t i = 0; i < s->n_threads && !rc; i++) {
        r.n_threads = s->threads[i];
        rc = bench_threads(model, s, &r, ids, table);
    }
    free(ids);
    trueno_model_free(model);
    return rc;
}

static int bench(const struct settings *s, const struct format *format)
{
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    struct table table = {.format = format};
    format->begin();
    int rc = CLI_OK;
    for (size_t i = 0; i < s->models.n && !rc; i++)
        rc = bench_model(ctx, s->models.items[i], s, &table);
    if (!rc) rc = format->end(table.rows, table.n);
    free(table.rows);
    trueno_ctx_free(ctx);
    return rc;
}

/* -------------------------------------------------------------------------------- main */

static bool read_list(const char *text, uint32_t *out, size_t *n)
{
    *n = cli_uint_list(text, 1U << 20, out, MAX_LIST);
    return *n > 0;
}

int main(int argc, char **argv)
{
    struct settings s = {.n_batch = 512, .reps = 3};
    char all_cpus[16];
    snprintf(all_cpus, sizeof(all_cpus), "%u", trueno_cpu_count());
    const char *prompts = "512", *gens = "64", *threads = all_cpus, *output = "md";
    const struct cli_option options[] = {
        {"-m", "--model", CLI_LIST, &s.models, "FILE", "GGUF file; may be given several times"},
        {"-p", "--prompt", CLI_TEXT, &prompts, "N,N", "tokens of the prompt tests [512]; 0: none"},
        {"-n", "--gen", CLI_TEXT, &gens, "N,N", "tokens of the generation tests [64]; 0: none"},
        {"-t", "--threads", CLI_TEXT, &threads, "N,N", "[all CPUs]"},
        {"-b", "--batch", CLI_UINT, &s.n_batch, "N", "prompt tokens evaluated together [512]"},
        {"-r", "--reps", CLI_UINT, &s.reps, "N", "repetitions after one warm-up [3]"},
        {"-o", "--output", CLI_TEXT, &output, "FORMAT", "md, json or csv [md]"},
    };
    const struct cli_program program = {"-m FILE [options]",
                                        "Measures tokens per second of prompt evaluation (pp) and "
                                        "generation (tg):\nmedian, minimum and maximum.",
                                        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (s.models.n == 0) return cli_usage("no model: give one with -m");
    if (!read_list(prompts, s.prompts, &s.n_prompts)) return cli_usage("bad list '%s'", prompts);
    if (!read_list(gens, s.gens, &s.n_gens)) return cli_usage("bad list '%s'", gens);
    if (!read_list(threads, s.threads, &s.n_threads)) return cli_usage("bad list '%s'", threads);
    if (s.reps == 0 || s.reps > 10000) return cli_usage("--reps is %u: must be 1 to 10000", s.reps);
    if (s.n_batch == 0) return cli_usage("--batch is 0");
    for (size_t i = 0; i < sizeof(FORMATS) / sizeof(FORMATS[0]); i++)
        if (!strcmp(output, FORMATS[i].name)) return bench(&s, &FORMATS[i]);
    return cli_usage("--output is '%s': must be md, json or csv", output);
}
