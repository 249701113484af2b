/* SPDX-License-Identifier: MIT */
/* trueno-kernels: the kernels without a model. Lists the registry, packs a random matrix,
 * multiplies it with some vectors, and compares with double precision. */
#include "cli_util.h"

#include "trueno/kernels.h"
#include "trueno/quantize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct settings {
    const char *type;
    uint32_t rows, cols, vectors, threads;
    bool list;
};

/* Every kernel of this build; a star marks those that this CPU can run. Tile: weight rows by
 * columns of one pass (*: any number); ahead: bytes that weights are fetched before their use. */
static void print_registry(const trueno_ctx *ctx)
{
    uint32_t have = trueno_ctx_cpu_features(ctx);
    printf("%zu kernels, version %016llx; CPU level %s\n", trueno_registry_count(),
           (unsigned long long)trueno_registry_at(0)->version, trueno_ctx_cpu_level(ctx));
    printf("  %-10s %-4s %-26s %-9s %-17s %7s %6s needs\n", "op", "type", "name", "numerics",
           "family", "tile", "ahead");
    for (size_t i = 0; i < trueno_registry_count(); i++) {
        const trueno_kernel_info *k = trueno_registry_at(i);
        char tile[32] = "", ahead[16] = "";
        if (k->tile_rows && k->tile_cols)
            snprintf(tile, sizeof(tile), "%ux%u", k->tile_rows, k->tile_cols);
        else if (k->tile_rows)
            snprintf(tile, sizeof(tile), "%ux*", k->tile_rows);
        if (k->prefetch_bytes) snprintf(ahead, sizeof(ahead), "%u", k->prefetch_bytes);
        printf("%c %-10s %-4s %-26s %-9s %-17s %7s %6s", (k->cpu_features & ~have) ? ' ' : '*',
               k->op, k->type, k->name, k->numerics, k->family, tile, ahead);
        for (uint32_t bit = 0; bit < 32; bit++)
            if (k->cpu_features & 1U << bit) printf(" %s", trueno_cpu_feature_name(1U << bit));
        putchar('\n');
    }
}

/* Uniform on [-1, 1). */
static float random_float(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (float)((double)(*state >> 40) / 0x1p23 - 1);
}

/* One demonstration: w is packed from `blocks`, whose exact values are `weights`. */
struct demo {
    size_t rows, cols, n;
    float *weights, *x, *y;
    void *blocks;
};

/* Normalised error of y against sums in double: sqrt(sum (y - exact)^2 / sum exact^2). */
static double error_of(const struct demo *d)
{
    double diff = 0, norm = 0;
    for (size_t m = 0; m < d->n; m++) {
        for (size_t r = 0; r < d->rows; r++) {
            const float *w = d->weights + r * d->cols, *x = d->x + m * d->cols;
            double exact = 0;
            for (size_t k = 0; k < d->cols; k++) exact += (double)w[k] * x[k];
            double e = d->y[m * d->rows + r] - exact;
            diff += e * e;
            norm += exact * exact;
        }
    }
    return sqrt(diff / norm);
}

static int multiply(trueno_ctx *ctx, const struct demo *d, trueno_dtype type, uint32_t n_threads)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_pool *pool = NULL;
    trueno_matrix *w = NULL;
    trueno_status st = trueno_pool_new(ctx, &pool, n_threads, &err);
    if (!st) st = trueno_matrix_new(ctx, &w, type, d->rows, d->cols, d->blocks, pool, &err);
    double best = INFINITY;
    for (int rep = 0; rep < 5 && !st; rep++) {
        double start = cli_now();
        st = trueno_matmul(w, d->y, d->rows, d->x, d->cols, d->n, pool, &err);
        best = fmin(best, cli_now() - start);
    }
    if (st) {
        cli_failed("matmul", st, err.message);
    } else {
        double products = (double)d->rows * (double)d->cols * (double)d->n;
        printf("\n%s [%zu x %zu] times %zu vectors, %u threads: %.3f ms, %.1f GFLOP/s\n",
               trueno_dtype_get_info(type)->name, d->rows, d->cols, d->n, trueno_pool_size(pool),
               best * 1e3, 2 * products / best * 1e-9);
        printf("relative error against double precision: %.2e\n", error_of(d));
    }
    trueno_matrix_free(w);
    trueno_pool_free(pool);
    return st ? CLI_ERROR : CLI_OK;
}

/* Random weights in the format, their exact values, and random vectors. */
static trueno_status fill(struct demo *d, trueno_dtype type)
{
    uint64_t state = 1;
    size_t n_weights = d->rows * d->cols;
    for (size_t i = 0; i < n_weights; i++) d->weights[i] = random_float(&state);
    for (size_t i = 0; i < d->n * d->cols; i++) d->x[i] = random_float(&state);
    trueno_status st = trueno_quantize(d->blocks, d->weights, type, n_weights);
    return st ? st : trueno_dequantize(d->weights, d->blocks, type, n_weights);
}

static int demonstrate(trueno_ctx *ctx, const struct settings *s)
{
    trueno_dtype type;
    if (trueno_dtype_from_name(&type, s->type)) return cli_usage("--type is '%s'", s->type);
    size_t row_bytes = trueno_row_bytes(type, s->cols);
    if (row_bytes == 0)
        return cli_usage("--cols is %u: must be a multiple of %u", s->cols,
                         trueno_dtype_get_info(type)->block);
    struct demo d = {.rows = s->rows, .cols = s->cols, .n = s->vectors};
    d.weights = calloc(d.rows * d.cols, sizeof(float));
    d.x = calloc(d.n * d.cols, sizeof(float));
    d.y = calloc(d.n * d.rows, sizeof(float));
    d.blocks = calloc(d.rows, row_bytes);
    int rc;
    if (!d.weights || !d.x || !d.y || !d.blocks) {
        rc = cli_error("no memory");
    } else {
        trueno_status st = fill(&d, type);
        rc = st ? cli_failed("quantize", st, NULL) : multiply(ctx, &d, type, s->threads);
    }
    free(d.weights);
    free(d.x);
    free(d.y);
    free(d.blocks);
    return rc;
}

int main(int argc, char **argv)
{
    struct settings s = {.type = "Q4_K", .rows = 2048, .cols = 2048, .vectors = 16};
    const struct cli_option options[] = {
        {"--type", NULL, CLI_TEXT, &s.type, "TYPE", "format of the weights [Q4_K]"},
        {"--rows", NULL, CLI_UINT, &s.rows, "N", "outputs [2048]"},
        {"--cols", NULL, CLI_UINT, &s.cols, "N", "inputs [2048]"},
        {"-n", "--vectors", CLI_UINT, &s.vectors, "N", "vectors at once [16]"},
        {"-t", "--threads", CLI_UINT, &s.threads, "N", "[all CPUs]"},
        {"--list", NULL, CLI_FLAG, &s.list, NULL, "list the kernels and stop"},
    };
    const struct cli_program program = {
        "[options]",
        "Lists the kernels (*: this CPU can run it), multiplies a random matrix with random\n"
        "vectors, and compares the result with double precision.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (s.rows == 0 || s.cols == 0 || s.vectors == 0 || s.rows > 65536 || s.cols > 65536 ||
        s.vectors > 65536)
        return cli_usage("--rows, --cols and --vectors must be 1 to 65536");
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    print_registry(ctx);
    if (!s.list) rc = demonstrate(ctx, &s);
    trueno_ctx_free(ctx);
    return s.list ? CLI_OK : rc;
}
