/* SPDX-License-Identifier: MIT */
/* Statistics, lists, roofs; and "trueno-bench probe", which prints the roofs alone. */
#include "bench_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct spread spread_of(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare);
    return (struct spread){(values[(n - 1) / 2] + values[n / 2]) / 2, values[0], values[n - 1]};
}

bool read_uint_list(const char *text, uint32_t max, struct uint_list *out)
{
    out->n = cli_uint_list(text, max, out->items, BENCH_MAX_LIST);
    return out->n > 0;
}

void percent_text(char *out, size_t cap, double part, double whole)
{
    if (whole > 0)
        snprintf(out, cap, "%.1f %%", 100 * part / whole);
    else
        snprintf(out, cap, "-");
}

trueno_probe_op op_of_type(trueno_dtype type)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    return info && info->is_quantized ? TRUENO_PROBE_INT8 : TRUENO_PROBE_F32;
}

/* ------------------------------------------------------------------------------- roofs */

int roofs_new(struct roofs *r, trueno_ctx *ctx, uint32_t n_threads, size_t cap)
{
    trueno_error err = {TRUENO_OK, ""};
    *r = (struct roofs){.cap = cap};
    r->read = calloc(cap, sizeof(*r->read));
    r->peak = calloc(cap, sizeof(*r->peak));
    if (!r->read || !r->peak) return cli_error("no memory for %zu probes", cap);
    trueno_status st = trueno_probe_new(ctx, &r->probe, n_threads, &err);
    return st ? cli_failed("bandwidth probe", st, err.message) : CLI_OK;
}

void roofs_free(struct roofs *r)
{
    trueno_probe_free(r->probe);
    free(r->read);
    free(r->peak);
}

void roofs_probe(struct roofs *r)
{
    if (r->n == r->cap) return;
    trueno_probe_peak_gmacs(r->probe, r->op, &r->peak[r->n], NULL);
    trueno_probe_read_gbs(r->probe, &r->read[r->n++], NULL);
}

/* --------------------------------------------------------------------- "trueno-bench probe" */

/* What was found with one number of threads. */
struct probed {
    const char *cpu, *int8_by, *f32_by;
    trueno_machine_point at;
};

static json_t *probe_json(const struct probed *r)
{
    return json_pack("{s:s, s:i, s:f, s:f, s:s, s:f, s:s}", "cpu", r->cpu, "threads",
                     (int)r->at.threads, "read_gbs", r->at.read_gbs, "int8_gmacs", r->at.int8_gmacs,
                     "int8_instruction", r->int8_by, "f32_gmacs", r->at.f32_gmacs,
                     "f32_instruction", r->f32_by);
}

/* One number of threads: a row of markdown, or an object added to `all`. */
static int probe_threads(trueno_ctx *ctx, uint32_t n_threads, json_t *all)
{
    trueno_error err = {TRUENO_OK, ""};
    struct probed r = {.cpu = trueno_ctx_cpu_level(ctx), .at = {n_threads, 0, 0, 0}};
    trueno_probe *p;
    trueno_status st = trueno_probe_new(ctx, &p, n_threads, &err);
    if (!st) st = trueno_probe_read_gbs(p, &r.at.read_gbs, &err);
    if (!st) st = trueno_probe_peak_gmacs(p, TRUENO_PROBE_INT8, &r.at.int8_gmacs, &err);
    if (!st) st = trueno_probe_peak_gmacs(p, TRUENO_PROBE_F32, &r.at.f32_gmacs, &err);
    r.int8_by = trueno_probe_instruction(p, TRUENO_PROBE_INT8);
    r.f32_by = trueno_probe_instruction(p, TRUENO_PROBE_F32);
    trueno_probe_free(p);
    if (st) return cli_failed("probe", st, err.message);
    if (all && json_array_append_new(all, probe_json(&r)))
        return cli_error("no memory for the results");
    if (!all)
        printf("| %-8s | %7u | %9.1f | %11.1f | %-14s | %10.1f | %-12s |\n", r.cpu, n_threads,
               r.at.read_gbs, r.at.int8_gmacs, r.int8_by, r.at.f32_gmacs, r.f32_by);
    return CLI_OK;
}

int bench_probe(int argc, char **argv)
{
    char all_cpus[16];
    snprintf(all_cpus, sizeof(all_cpus), "%u", trueno_cpu_count());
    const char *threads = all_cpus, *output = "md";
    const struct cli_option options[] = {
        {"-t", "--threads", CLI_TEXT, &threads, "N,N", "[all CPUs]"},
        {"-o", "--output", CLI_TEXT, &output, "FORMAT", "md or json [md]"},
    };
    const struct cli_program program = {
        "probe [options]",
        "Measures what this machine can do now: GB/s read from memory, and GMAC/s of the best\n"
        "instruction for 8-bit integers and for float32.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    struct uint_list list;
    if (!read_uint_list(threads, 1024, &list)) return cli_usage("bad list '%s'", threads);
    bool json = !strcmp(output, "json");
    if (!json && strcmp(output, "md")) return cli_usage("--output is '%s': md or json", output);
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    json_t *all = json ? json_array() : NULL;
    if (!json)
        puts(
            "| cpu      | threads | read GB/s | int8 GMAC/s | by             | f32 GMAC/s | by     "
            "      |\n"
            "| -------- | ------: | --------: | ----------: | -------------- | ---------: | "
            "------------ |");
    rc = CLI_OK;
    for (size_t i = 0; i < list.n && !rc; i++)
        rc = probe_threads(ctx, list.items[i] ? list.items[i] : trueno_cpu_count(), all);
    trueno_ctx_free(ctx);
    if (json && !rc) return cli_json_write(all, "-");
    json_decref(all);
    return rc;
}
