/* SPDX-License-Identifier: MIT */
/* "trueno-bench kernels": times single matrix products through the public interface, each kernel
 * only after a check against double precision. */
#include "bench_util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNIT = 256,       /* weights: a multiple of every block */
    POOL_UNITS = 256, /* units that differ: encoding all weights of a matrix takes seconds */
    CHECK_ROWS = 32,
    MAX_COPIES = 4096,
    USUAL_CACHE = 32 << 20, /* bytes, where nobody knows them: copies are to be larger */
    MAX_CALLS = 10000       /* of one sample */
};

struct kernel_settings {
    const char *forced; /* NULL: what the library picks */
    struct uint_list rows, cols, vectors, threads;
    trueno_dtype types[BENCH_MAX_LIST];
    size_t n_types;
    uint32_t samples;
    bool all, hot, cold;
    json_t *json; /* NULL: markdown */
    size_t n_failed;
};

/* One shape with one kernel. */
struct bed {
    struct kernel_settings *settings;
    struct roofs *roofs;
    trueno_pool *pool;
    trueno_dtype type;
    size_t rows, cols, n;   /* n: vectors at once */
    trueno_matrix **copies; /* of one matrix */
    size_t n_copies, next;  /* next: whose turn it is */
    const char *blocks;     /* the weights as in a file */
    float *x, *y;
    bool cold;
};

/* -------------------------------------------------------------------------------- data */

/* Uniform on [-1, 1). */
static float random_float(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)((double)(*state >> 40) / 0x1p23 - 1);
}

/* rows * cols random weights, encoded, to be freed; NULL after a message. */
static char *random_blocks(trueno_dtype type, size_t n_weights)
{
    float *weights = malloc(UNIT * POOL_UNITS * sizeof(*weights));
    size_t unit_bytes = trueno_row_bytes(type, UNIT);
    char *pool = malloc(unit_bytes * POOL_UNITS);
    char *out = malloc(trueno_row_bytes(type, n_weights));
    uint64_t state = 1;
    for (size_t i = 0; i < UNIT * POOL_UNITS && weights; i++) weights[i] = random_float(&state);
    trueno_status st = TRUENO_ERR_NO_MEMORY;
    if (weights && pool && out) st = trueno_quantize(pool, weights, type, UNIT * POOL_UNITS);
    for (size_t at = 0; at < n_weights && !st; at += UNIT) {
        size_t n = n_weights - at < UNIT ? n_weights - at : UNIT;
        random_float(&state);
        const char *unit = pool + (state >> 33) % POOL_UNITS * unit_bytes;
        memcpy(out + trueno_row_bytes(type, at), unit, trueno_row_bytes(type, n));
    }
    free(weights);
    free(pool);
    if (!st) return out;
    free(out);
    cli_failed("random weights", st, NULL);
    return NULL;
}

/* ------------------------------------------------------------------------------- check */

/* Squared error of y against sums in double over the decoded weights, relative to the squared sums;
 * some rows, all vectors. NaN if something is NaN or there is no memory. */
static double relative_error(const struct bed *b)
{
    float *row = malloc(b->cols * sizeof(*row));
    double diff = row ? 0 : NAN, norm = 0;
    size_t row_bytes = trueno_row_bytes(b->type, b->cols);
    for (size_t i = 0; i < CHECK_ROWS && row; i++) {
        size_t r = b->rows * i / CHECK_ROWS;
        if (trueno_dequantize(row, b->blocks + r * row_bytes, b->type, b->cols)) diff = NAN;
        for (size_t m = 0; m < b->n; m++) {
            const float *x = b->x + m * b->cols;
            double exact = 0;
            for (size_t k = 0; k < b->cols; k++) exact += (double)row[k] * x[k];
            double e = b->y[m * b->rows + r] - exact;
            diff += e * e;
            norm += exact * exact;
        }
    }
    free(row);
    return diff / norm;
}

/* Activations as int8 cost 2e-5 on such numbers, float sums 1e-12 (docs/numerics.md). */
static bool is_right(const struct bed *b, const char *kernel)
{
    double bound = op_of_type(b->type) == TRUENO_PROBE_INT8 ? 1e-4 : 1e-10,
           error = relative_error(b);
    if (error <= bound) return true;
    cli_error("%s, %zu x %zu times %zu vectors, is WRONG: squared error %.2e, not timed", kernel,
              b->rows, b->cols, b->n, error);
    return false;
}

/* -------------------------------------------------------------------------------- time */

static trueno_status multiply(struct bed *b)
{
    const trueno_matrix *w = b->copies[b->next++ % b->n_copies];
    return trueno_matmul(w, b->y, b->rows, b->x, b->cols, b->n, b->pool, NULL);
}

/* Mean nanoseconds of `calls` products. */
static double time_calls(struct bed *b, size_t calls)
{
    double start = cli_now();
    for (size_t i = 0; i < calls; i++) multiply(b);
    return (cli_now() - start) * 1e9 / (double)calls;
}

/* Samples of at least a millisecond between two probes. */
static int take_samples(struct bed *b, struct spread *ns)
{
    double *samples = calloc(b->settings->samples, sizeof(*samples));
    if (!samples) return cli_error("no memory for %u samples", b->settings->samples);
    b->roofs->n = 0;
    roofs_probe(b->roofs);
    multiply(b); /* brings buffers, and a hot matrix, back into the caches */
    double calls = ceil(1e6 / time_calls(b, 1));
    for (uint32_t i = 0; i < b->settings->samples; i++)
        samples[i] = time_calls(b, calls < MAX_CALLS ? (size_t)calls : MAX_CALLS);
    roofs_probe(b->roofs);
    *ns = spread_of(samples, b->settings->samples);
    free(samples);
    return CLI_OK;
}

/* ------------------------------------------------------------------------------ report */

static void print_header(void)
{
    puts("| kernel                           | type |     N |     K |    M | threads | cache |   "
         "median us |  min us |  GB/s | % of read |  GMAC/s | % of peak |\n"
         "| -------------------------------- | ---- | ----: | ----: | ---: | ------: | ----- | "
         "----------: | ------: | ----: | --------: | ------: | --------: |");
}

static int report(const struct bed *b, const char *kernel, struct spread ns)
{
    double gbs = (double)(b->rows * trueno_row_bytes(b->type, b->cols)) / ns.median;
    double gmacs = (double)b->rows * (double)b->cols * (double)b->n / ns.median;
    double read = spread_of(b->roofs->read, b->roofs->n).median;
    double peak = spread_of(b->roofs->peak, b->roofs->n).median;
    const char *type = trueno_dtype_get_info(b->type)->name, *cache = b->cold ? "cold" : "hot";
    int threads = (int)trueno_pool_size(b->pool);
    if (!b->settings->json) {
        char of_read[16], of_peak[16];
        percent_text(of_read, sizeof(of_read), gbs, read);
        percent_text(of_peak, sizeof(of_peak), gmacs, peak);
        printf("| %-32s | %-4s | %5zu | %5zu | %4zu | %7d | %-5s | %11.2f | %7.2f | %5.1f | %9s | "
               "%7.1f | %9s |\n",
               kernel, type, b->rows, b->cols, b->n, threads, cache, ns.median / 1e3, ns.min / 1e3,
               gbs, of_read, gmacs, of_peak);
        fflush(stdout);
        return CLI_OK;
    }
    json_t *row =
        json_pack("{s:s, s:s, s:I, s:I, s:I, s:i, s:s, s:f, s:f, s:f, s:f, s:f, s:f, "
                  "s:f}",
                  "kernel", kernel, "type", type, "m", (json_int_t)b->n, "n", (json_int_t)b->rows,
                  "k", (json_int_t)b->cols, "threads", threads, "cache", cache, "gmacs", gmacs,
                  "gbs", gbs, "peak_gmacs", peak, "read_gbs", read, "ns_median", ns.median,
                  "ns_min", ns.min, "ns_max", ns.max);
    if (json_array_append_new(b->settings->json, row) == 0) return CLI_OK;
    return cli_error("no memory for the results");
}

/* ------------------------------------------------------------------------------- loops */

/* Every number of vectors, with matrices that are there. */
static int bench_vectors(struct bed *b)
{
    const struct uint_list *vectors = &b->settings->vectors;
    int rc = CLI_OK;
    for (size_t i = 0; i < vectors->n && !rc && !cli_interrupted(NULL); i++) {
        b->n = vectors->items[i];
        const char *kernel = trueno_matrix_kernel(b->copies[0], b->n);
        trueno_status st = multiply(b);
        if (st) return cli_failed(kernel, st, NULL);
        if (!is_right(b, kernel)) {
            b->settings->n_failed++;
            continue;
        }
        struct spread ns;
        rc = take_samples(b, &ns);
        if (!rc) rc = report(b, kernel, ns);
    }
    return rc;
}

static int bench_shape(trueno_ctx *ctx, struct bed *b)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = TRUENO_OK;
    size_t bytes = b->rows * trueno_row_bytes(b->type, b->cols);
    size_t cache = trueno_cache_bytes();
    if (cache == 0) cache = USUAL_CACHE;
    size_t want = b->cold ? 4 * cache / bytes + 2 : 1;
    if (want > MAX_COPIES) want = MAX_COPIES;
    b->copies = calloc(want, sizeof(*b->copies));
    if (!b->copies) return cli_error("no memory for %zu matrices", want);
    for (b->n_copies = 0; b->n_copies < want && !st; b->n_copies += !st)
        st = trueno_matrix_new(ctx, &b->copies[b->n_copies], b->type, b->rows, b->cols, b->blocks,
                               b->pool, &err);
    int rc = st ? cli_failed("matrix", st, err.message) : bench_vectors(b);
    for (size_t i = 0; i < b->n_copies; i++) trueno_matrix_free(b->copies[i]);
    free(b->copies);
    return rc;
}

/* One type, one shape, one kernel (NULL: the library's choice): hot, cold or both. */
static int bench_kernel(struct bed *b, const char *kernel)
{
    if (kernel && setenv("TRUENO_KERNEL", kernel, 1) != 0) return cli_error("setenv failed");
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    int rc = CLI_OK;
    for (int cold = 0; cold < 2 && !rc; cold++) {
        b->cold = cold;
        if (cold ? b->settings->cold : b->settings->hot) rc = bench_shape(ctx, b);
    }
    trueno_ctx_free(ctx);
    return rc;
}

/* One type and shape with all kernels that are asked for. */
static int bench_kernels_of(struct bed *b, uint32_t features)
{
    const struct kernel_settings *s = b->settings;
    if (!s->all) return bench_kernel(b, s->forced);
    const char *type = trueno_dtype_get_info(b->type)->name;
    int rc = CLI_OK;
    for (size_t i = 0; i < trueno_registry_count() && !rc; i++) {
        const trueno_kernel_info *k = trueno_registry_at(i);
        if (!strcmp(k->op, "gemm") && !strcmp(k->type, type) && !(k->cpu_features & ~features))
            rc = bench_kernel(b, k->name);
    }
    return rc;
}

static int bench_matrix(struct bed *b, uint32_t features)
{
    if (trueno_row_bytes(b->type, b->cols) == 0) {
        const trueno_dtype_info *info = trueno_dtype_get_info(b->type);
        return cli_error("--cols %zu is not a multiple of %u (%s)", b->cols, info->block,
                         info->name);
    }
    size_t most = 1;
    for (size_t i = 0; i < b->settings->vectors.n; i++)
        if (b->settings->vectors.items[i] > most) most = b->settings->vectors.items[i];
    char *blocks = random_blocks(b->type, b->rows * b->cols);
    b->blocks = blocks;
    b->x = malloc(most * b->cols * sizeof(*b->x));
    b->y = malloc(most * b->rows * sizeof(*b->y));
    int rc = CLI_ERROR;
    uint64_t state = 2;
    for (size_t i = 0; i < most * b->cols && b->x; i++) b->x[i] = random_float(&state);
    if (blocks && b->x && b->y)
        rc = bench_kernels_of(b, features);
    else
        cli_error("no memory for %zu x %zu weights and %zu vectors", b->rows, b->cols, most);
    free(blocks);
    free(b->x);
    free(b->y);
    return rc;
}

/* All types and shapes with one number of threads. */
static int bench_all(trueno_ctx *ctx, struct kernel_settings *s, uint32_t n_threads)
{
    trueno_error err = {TRUENO_OK, ""};
    const uint32_t features = trueno_ctx_cpu_features(ctx);
    struct roofs roofs;
    struct bed b = {.settings = s, .roofs = &roofs};
    trueno_status st = trueno_pool_new(ctx, &b.pool, n_threads, &err);
    if (st) return cli_failed("threads", st, err.message);
    int rc = roofs_new(&roofs, ctx, trueno_pool_size(b.pool), 2);
    const size_t n_shapes = s->rows.n * s->cols.n;
    for (size_t i = 0; i < s->n_types * n_shapes && !rc; i++) {
        b.type = s->types[i / n_shapes];
        b.rows = s->rows.items[i % n_shapes / s->cols.n];
        b.cols = s->cols.items[i % s->cols.n];
        roofs.op = op_of_type(b.type);
        rc = bench_matrix(&b, features);
    }
    roofs_free(&roofs);
    trueno_pool_free(b.pool);
    return rc;
}

/* ----------------------------------------------------------------------------- options */

/* "Q4_K,Q8_0". */
static int read_types(struct kernel_settings *s, const char *text)
{
    while (*text) {
        char name[16];
        size_t len = strcspn(text, ",");
        snprintf(name, sizeof(name), "%.*s", (int)(len < 15 ? len : 15), text);
        if (s->n_types == BENCH_MAX_LIST || trueno_dtype_from_name(&s->types[s->n_types], name) ||
            !trueno_dtype_get_info(s->types[s->n_types])->can_quantize)
            return cli_usage("--type: no random weights of type '%s'", name);
        s->n_types++;
        text += len + (text[len] == ',');
    }
    return s->n_types ? CLI_OK : cli_usage("--type is empty");
}

/* A forced kernel decides the type. */
static int read_kernel(struct kernel_settings *s)
{
    for (size_t i = 0; i < trueno_registry_count(); i++) {
        const trueno_kernel_info *k = trueno_registry_at(i);
        if (!strcmp(k->name, s->forced) && !strcmp(k->op, "gemm")) return read_types(s, k->type);
    }
    return cli_usage("no matrix kernel '%s': trueno-kernels --list names them", s->forced);
}

static bool read_sizes(const char *text, struct uint_list *out)
{
    if (!read_uint_list(text, 65536, out)) return false;
    for (size_t i = 0; i < out->n; i++)
        if (out->items[i] == 0) return false;
    return true;
}

static int run_all(struct kernel_settings *s, bool json)
{
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    int rc = CLI_OK;
    s->json = json ? json_array() : NULL;
    if (!json) print_header();
    for (size_t i = 0; i < s->threads.n && !rc; i++) rc = bench_all(ctx, s, s->threads.items[i]);
    trueno_ctx_free(ctx);
    if (json && !rc)
        rc = cli_json_write(s->json, "-");
    else
        json_decref(s->json);
    return rc ? rc : s->n_failed ? CLI_ERROR : CLI_OK;
}

int bench_kernels(int argc, char **argv)
{
    struct kernel_settings s = {.samples = 11};
    const char *types = "Q4_K", *rows = "2048", *cols = "2048", *vectors = "1,8,64,512";
    const char *threads = "0", *output = "md";
    const struct cli_option options[] = {
        {"--type", NULL, CLI_TEXT, &types, "T,T", "formats of the weights [Q4_K]"},
        {"--rows", NULL, CLI_TEXT, &rows, "N,N", "outputs [2048]"},
        {"--cols", NULL, CLI_TEXT, &cols, "K,K", "inputs [2048]"},
        {"-n", "--vectors", CLI_TEXT, &vectors, "M,M", "vectors at once [1,8,64,512]"},
        {"-t", "--threads", CLI_TEXT, &threads, "N,N", "[all CPUs]"},
        {"--hot", NULL, CLI_FLAG, &s.hot, NULL, "the same weights again and again [yes]"},
        {"--cold", NULL, CLI_FLAG, &s.cold, NULL, "weights from memory, each time others"},
        {"--kernel", NULL, CLI_TEXT, &s.forced, "NAME", "of the registry [the library picks]"},
        {"--all", NULL, CLI_FLAG, &s.all, NULL, "every kernel that this CPU can run"},
        {"-r", "--reps", CLI_UINT, &s.samples, "N", "samples of a millisecond or more [11]"},
        {"-o", "--output", CLI_TEXT, &output, "FORMAT", "md or json [md]"},
    };
    const struct cli_program program = {
        "kernels [options]",
        "Times products of a matrix [N x K] with M vectors, activation packing included. A kernel\n"
        "that differs from double precision is named and not timed. Speed is given beside the\n"
        "read bandwidth and the peak of the CPU's dot products, measured before and after.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (!read_sizes(rows, &s.rows)) return cli_usage("bad list '%s'", rows);
    if (!read_sizes(cols, &s.cols)) return cli_usage("bad list '%s'", cols);
    if (!read_sizes(vectors, &s.vectors)) return cli_usage("bad list '%s'", vectors);
    if (!read_uint_list(threads, 1024, &s.threads)) return cli_usage("bad list '%s'", threads);
    if (s.samples == 0 || s.samples > 100000) return cli_usage("--reps must be 1 to 100000");
    if (s.forced && s.all) return cli_usage("--kernel and --all exclude each other");
    rc = s.forced ? read_kernel(&s) : read_types(&s, types);
    if (rc != CLI_OK) return rc;
    if (!s.cold) s.hot = true;
    bool json = !strcmp(output, "json");
    if (!json && strcmp(output, "md")) return cli_usage("--output is '%s': md or json", output);
    return run_all(&s, json);
}
