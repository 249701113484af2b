/* SPDX-License-Identifier: MIT */
/* Statistics, lists, roofs; and "trueno-bench probe", which prints the roofs alone. */
#include "bench_util.h"

#include <errno.h>
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

enum probe_op op_of_type(trueno_dtype type)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    return info && info->is_quantized ? PROBE_INT8 : PROBE_F32;
}

/* ------------------------------------------------------------------------------- roofs */

int roofs_new(struct roofs *r, uint32_t n_threads, uint32_t cpu_features, size_t cap)
{
    *r = (struct roofs){.cap = cap};
    r->read = calloc(cap, sizeof(*r->read));
    r->peak = calloc(cap, sizeof(*r->peak));
    r->probe = probe_new(n_threads, cpu_features);
    if (r->read && r->peak && r->probe) return CLI_OK;
    return cli_error("no bandwidth probe with %u threads: %s", n_threads, strerror(errno));
}

void roofs_free(struct roofs *r)
{
    probe_free(r->probe);
    free(r->read);
    free(r->peak);
}

void roofs_probe(struct roofs *r)
{
    if (r->n == r->cap) return;
    r->peak[r->n] = probe_peak_gmacs(r->probe, r->op);
    r->read[r->n++] = probe_read_gbs(r->probe);
}

/* --------------------------------------------------------------------- "trueno-bench probe" */

static json_t *probe_json(const struct probe *p, uint32_t n_threads, const char *cpu, double read,
                          double int8, double f32)
{
    return json_pack("{s:s, s:i, s:f, s:f, s:s, s:f, s:s}", "cpu", cpu, "threads", (int)n_threads,
                     "read_gbs", read, "int8_gmacs", int8, "int8_instruction",
                     probe_instruction(p, PROBE_INT8), "f32_gmacs", f32, "f32_instruction",
                     probe_instruction(p, PROBE_F32));
}

/* One number of threads: a row of markdown, or an object added to `all`. */
static int probe_threads(const trueno_ctx *ctx, uint32_t n_threads, json_t *all)
{
    struct probe *p = probe_new(n_threads, trueno_ctx_cpu_features(ctx));
    if (!p) return cli_error("no probe with %u threads: %s", n_threads, strerror(errno));
    double read = probe_read_gbs(p);
    double int8 = probe_peak_gmacs(p, PROBE_INT8), f32 = probe_peak_gmacs(p, PROBE_F32);
    const char *cpu = trueno_ctx_cpu_level(ctx);
    int rc = CLI_OK;
    if (!all)
        printf("| %-8s | %7u | %9.1f | %11.1f | %-14s | %10.1f | %-12s |\n", cpu, n_threads, read,
               int8, probe_instruction(p, PROBE_INT8), f32, probe_instruction(p, PROBE_F32));
    else if (json_array_append_new(all, probe_json(p, n_threads, cpu, read, int8, f32)))
        rc = cli_error("no memory for the results");
    probe_free(p);
    return rc;
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
