/* SPDX-License-Identifier: MIT */
/* How results of model tests are printed: markdown and CSV line by line, JSON in the end. */
#include "bench_util.h"

#include <stdio.h>
#include <string.h>

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
    printf("| %-36s | %10s | %9s | %-10s | %7s | %8s | %28s | %9s | %9s |\n", "model", "size",
           "params", "backend", "threads", "test", "t/s (min - max)", "% of read", "% of peak");
    printf("| ------------------------------------ | ---------: | --------: | ---------- "
           "| ------: | -------: | ---------------------------: | --------: | --------: |\n");
}

static void markdown_row(const struct result *r)
{
    char name[256], model[40], backend[16], rate[64], of_read[16], of_peak[16];
    label(name, sizeof(name), r->path);
    snprintf(model, sizeof(model), "%.25s %.10s", name, r->info.type);
    snprintf(backend, sizeof(backend), "CPU %s", r->cpu);
    snprintf(rate, sizeof(rate), "%.2f (%.2f - %.2f)", r->tps.median, r->tps.min, r->tps.max);
    percent_text(of_read, sizeof(of_read), r->gbs, r->read.median);
    percent_text(of_peak, sizeof(of_peak), r->gmacs, r->peak_gmacs);
    printf("| %-36s | %6.1f MiB | %7.2f M | %-10s | %7u | %8s | %28s | %9s | %9s |\n", model,
           (double)r->info.weight_bytes / 0x1p20, (double)r->info.n_params / 1e6, backend,
           r->n_threads, r->test, rate, of_read, of_peak);
    fflush(stdout);
}

static void csv_begin(void)
{
    puts("model,name,type,weight_bytes,n_params,cpu,threads,n_batch,test,tps_median,tps_min,"
         "tps_max,gbs,read_gbs,read_gbs_min,read_gbs_max,gmacs,peak_gmacs,reps");
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
    printf("%s,%llu,%llu,%s,%u,%u,%s,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%.4f,%u\n",
           r->info.type, (unsigned long long)r->info.weight_bytes,
           (unsigned long long)r->info.n_params, r->cpu, r->n_threads, r->n_batch, r->test,
           r->tps.median, r->tps.min, r->tps.max, r->gbs, r->read.median, r->read.min, r->read.max,
           r->gmacs, r->peak_gmacs, r->reps);
    fflush(stdout);
}

/* The fields that are set, by name. */
static json_t *json_features(const trueno_features *f)
{
    json_t *out = json_object();
    for (int i = 0; out && i < TRUENO_FEATURE_DIM; i++) {
        bool quant = i >= TRUENO_FEATURE_QUANT_Q4_K && i < TRUENO_FEATURE_QUANT_GROUP_SIZE;
        double raw;
        if (quant || trueno_features_get(&raw, f, (trueno_feature)i) || raw == TRUENO_UNSET)
            continue;
        json_object_set_new(out, trueno_feature_name((trueno_feature)i), json_real(raw));
    }
    bool prefill = f->phase == TRUENO_PHASE_PREFILL;
    json_t *rest = json_pack("{s:s, s:f, s:f, s:f, s:s}", "quant", trueno_quant_name(f->quant),
                             "weight_bytes_per_pass", f->weight_bytes_per_pass,
                             "kv_bytes_per_token", f->kv_bytes_per_token, "cache_bytes",
                             f->cache_bytes, "phase", prefill ? "prefill" : "decode");
    if (out && rest) json_object_update(out, rest);
    json_decref(rest);
    return out;
}

static json_t *json_row(const struct result *r)
{
    return json_pack("{s:o, s:o, s:s, s:s, s:I, s:I, s:s, s:i, s:i, s:s, s:f, s:f, s:f, s:f, s:f, "
                     "s:f, s:f, s:f, s:f, s:i, s:o}",
                     "model", cli_json_text(r->path), "name", cli_json_text(r->info.name),
                     "architecture", r->info.architecture, "type", r->info.type, "weight_bytes",
                     (json_int_t)r->info.weight_bytes, "n_params", (json_int_t)r->info.n_params,
                     "cpu", r->cpu, "threads", (int)r->n_threads, "n_batch", (int)r->n_batch,
                     "test", r->test, "tps_median", r->tps.median, "tps_min", r->tps.min, "tps_max",
                     r->tps.max, "gbs", r->gbs, "read_gbs", r->read.median, "read_gbs_min",
                     r->read.min, "read_gbs_max", r->read.max, "gmacs", r->gmacs, "peak_gmacs",
                     r->peak_gmacs, "reps", (int)r->reps, "features", json_features(&r->features));
}

static int json_end(const struct result *r, size_t n)
{
    json_t *all = json_array();
    for (; all && n > 0; n--, r++) {
        if (json_array_append_new(all, json_row(r)) != 0) {
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

const struct format *format_find(const char *name)
{
    for (size_t i = 0; i < sizeof(FORMATS) / sizeof(FORMATS[0]); i++)
        if (!strcmp(name, FORMATS[i].name)) return &FORMATS[i];
    return NULL;
}
