/* SPDX-License-Identifier: MIT */
/* "trueno-bench traces": what every kernel that competes for a product takes, call by call, side by
 * side: traces on which ways to choose a kernel are tried (tests/tuner/replay.h). */
#include "bench_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNIT = 256, POOL_UNITS = 256, MAX_ARMS = 16, WARM_UP = 8 };

struct settings {
    trueno_dtype type;
    uint32_t rows, cols, vectors, n_threads, lines;
    uint64_t seed;
};

/* A kernel with matrices of its own: a matrix is packed for its context. Those of all arms together
 * are more than the caches hold. */
struct arm {
    char name[64];
    trueno_ctx *ctx;
    trueno_matrix **copies;
    size_t n_copies, next;
};

struct track {
    const struct settings *settings;
    trueno_pool *pool;
    char *blocks; /* the weights as in a file */
    float *x, *y;
    struct arm arms[MAX_ARMS];
    size_t n_arms;
    uint64_t random;
};

static uint32_t next_random(uint64_t *state)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(*state >> 33);
}

/* Uniform on [-1, 1). */
static float random_float(uint64_t *state)
{
    return (float)((double)next_random(state) / 0x1p30 - 1);
}

/* ------------------------------------------------------------------------------- setup */

/* Random weights: encoding all of them would take long, so some units are repeated at random. */
static int make_weights(struct track *t)
{
    const struct settings *s = t->settings;
    size_t n = (size_t)s->rows * s->cols, unit_bytes = trueno_row_bytes(s->type, UNIT);
    float *weights = malloc(UNIT * POOL_UNITS * sizeof(*weights));
    char *units = malloc(unit_bytes * POOL_UNITS);
    trueno_status st = TRUENO_ERR_NO_MEMORY;
    t->blocks = malloc(trueno_row_bytes(s->type, n));
    for (size_t i = 0; i < UNIT * POOL_UNITS && weights; i++) weights[i] = random_float(&t->random);
    if (weights && units && t->blocks)
        st = trueno_quantize(units, weights, s->type, UNIT * POOL_UNITS);
    for (size_t at = 0; at < n && !st; at += UNIT) {
        const char *unit = units + next_random(&t->random) % POOL_UNITS * unit_bytes;
        size_t left = n - at < UNIT ? n - at : UNIT;
        memcpy(t->blocks + trueno_row_bytes(s->type, at), unit, trueno_row_bytes(s->type, left));
    }
    free(weights);
    free(units);
    return st ? cli_failed("random weights", st, NULL) : CLI_OK;
}

static int make_vectors(struct track *t)
{
    const struct settings *s = t->settings;
    size_t n = (size_t)s->vectors * s->cols;
    t->x = malloc(n * sizeof(*t->x));
    t->y = malloc((size_t)s->vectors * s->rows * sizeof(*t->y));
    if (!t->x || !t->y) return cli_error("no memory for %u vectors", s->vectors);
    for (size_t i = 0; i < n; i++) t->x[i] = random_float(&t->random);
    return CLI_OK;
}

/* One more arm. name NULL: what the library picks. */
static int add_arm(struct track *t, const char *name, const trueno_ctx_options *base)
{
    trueno_error err = {TRUENO_OK, ""};
    const struct settings *s = t->settings;
    struct arm *a = &t->arms[t->n_arms];
    trueno_matrix *w = NULL;
    trueno_ctx_options opt = *base;
    opt.kernels = name;
    trueno_status st = trueno_ctx_new(&a->ctx, &opt, &err);
    if (st) return cli_failed("context", st, err.message);
    t->n_arms++;
    st = trueno_matrix_new(a->ctx, &w, s->type, s->rows, s->cols, t->blocks, t->pool, &err);
    if (st) return cli_failed(name ? name : "matrix", st, err.message);
    snprintf(a->name, sizeof(a->name), "%s", trueno_matrix_kernel(w, s->vectors));
    a->copies = calloc(1, sizeof(*a->copies));
    if (!a->copies) {
        trueno_matrix_free(w);
        return cli_error("no memory for matrices");
    }
    a->copies[a->n_copies++] = w;
    return CLI_OK;
}

/* The default first, then the other exact kernels of the type, as the registry has them. */
static int find_arms(struct track *t)
{
    const char *type = trueno_dtype_get_info(t->settings->type)->name;
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    int rc = add_arm(t, NULL, &opt);
    for (size_t i = 0; i < trueno_registry_count() && !rc && t->n_arms < MAX_ARMS; i++) {
        const trueno_kernel_info *k = trueno_registry_at(i);
        if (strcmp(k->op, "gemm") || strcmp(k->type, type) || strcmp(k->numerics, "exact") ||
            (k->cpu_features & ~trueno_ctx_cpu_features(t->arms[0].ctx)) ||
            k->cpu_features == 0 || /* the C reference: nobody tries it */
            !strcmp(k->name, t->arms[0].name))
            continue;
        rc = add_arm(t, k->name, &opt);
    }
    if (!rc && t->n_arms < 2) return cli_error("%s has one kernel here: nothing to compare", type);
    return rc;
}

/* Copies, so that each matrix has left the caches when its turn comes again. */
static int copy_matrices(struct track *t)
{
    const struct settings *s = t->settings;
    size_t bytes = s->rows * trueno_row_bytes(s->type, s->cols);
    size_t each = 2 * trueno_cache_bytes() / bytes / t->n_arms + 2;
    for (size_t i = 0; i < t->n_arms * each; i++) {
        struct arm *a = &t->arms[i % t->n_arms];
        trueno_error err = {TRUENO_OK, ""};
        trueno_matrix *w, **more;
        cli_progress(NULL, "pack", i + 1, t->n_arms * each);
        if (a->n_copies == each) continue;
        if (cli_interrupted(NULL)) return cli_error("interrupted");
        trueno_status st =
            trueno_matrix_new(a->ctx, &w, s->type, s->rows, s->cols, t->blocks, t->pool, &err);
        if (st) return cli_failed("matrix", st, err.message);
        more = realloc(a->copies, (a->n_copies + 1) * sizeof(*more));
        if (!more) {
            trueno_matrix_free(w);
            return cli_error("no memory for matrices");
        }
        a->copies = more;
        a->copies[a->n_copies++] = w;
    }
    return CLI_OK;
}

static void free_track(struct track *t)
{
    for (size_t i = 0; i < t->n_arms; i++) {
        struct arm *a = &t->arms[i];
        for (size_t c = 0; c < a->n_copies; c++) trueno_matrix_free(a->copies[c]);
        free(a->copies);
        trueno_ctx_free(a->ctx);
    }
    trueno_pool_free(t->pool);
    free(t->blocks);
    free(t->x);
    free(t->y);
}

/* ------------------------------------------------------------------------------ record */

/* ns of one call of every arm, in random order. */
static int record_line(struct track *t, double ns[MAX_ARMS])
{
    const struct settings *s = t->settings;
    size_t order[MAX_ARMS] = {0};
    for (size_t i = 0; i < t->n_arms; i++) {
        size_t j = next_random(&t->random) % (i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (size_t i = 0; i < t->n_arms; i++) {
        struct arm *a = &t->arms[order[i]];
        const trueno_matrix *w = a->copies[a->next++ % a->n_copies];
        double start = cli_now();
        trueno_status st =
            trueno_matmul(w, t->y, s->rows, t->x, s->cols, s->vectors, t->pool, NULL);
        ns[order[i]] = (cli_now() - start) * 1e9;
        if (st) return cli_failed(a->name, st, NULL);
    }
    return CLI_OK;
}

static void print_head(const struct track *t)
{
    const struct settings *s = t->settings;
    printf("# ns of one call of each kernel, weights from memory; the first is the default\n"
           "# %s, %u x %u, %u vectors, %u threads, CPU level %s, seed %llu\n#",
           trueno_dtype_get_info(s->type)->name, s->rows, s->cols, s->vectors,
           trueno_pool_size(t->pool), trueno_ctx_cpu_level(t->arms[0].ctx),
           (unsigned long long)s->seed);
    for (size_t i = 0; i < t->n_arms; i++) printf(" %s", t->arms[i].name);
    putchar('\n');
}

static int record(struct track *t)
{
    const struct settings *s = t->settings;
    double ns[MAX_ARMS];
    int rc = CLI_OK;
    print_head(t);
    for (uint32_t i = 0; i < WARM_UP && !rc; i++) rc = record_line(t, ns);
    for (uint32_t line = 0; line < s->lines && !rc && !cli_interrupted(NULL); line++) {
        rc = record_line(t, ns);
        for (size_t i = 0; i < t->n_arms && !rc; i++) printf(i ? " %.0f" : "%.0f", ns[i]);
        putchar('\n');
        cli_progress(NULL, "record", line + 1, s->lines);
    }
    return rc;
}

static int make_track(struct track *t)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_ctx *ctx = cli_ctx_new(); /* Ctrl-C is asked for from here on */
    if (!ctx) return CLI_ERROR;
    trueno_status st = trueno_pool_new(ctx, &t->pool, t->settings->n_threads, &err);
    trueno_ctx_free(ctx);
    if (st) return cli_failed("threads", st, err.message);
    int rc = make_weights(t);
    if (!rc) rc = make_vectors(t);
    if (!rc) rc = find_arms(t);
    return rc ? rc : copy_matrices(t);
}

int bench_traces(int argc, char **argv)
{
    struct settings s = {.rows = 4096, .cols = 4096, .vectors = 1, .lines = 2000, .seed = 1};
    const char *type = "Q4_K";
    const struct cli_option options[] = {
        {"--type", NULL, CLI_TEXT, &type, "T", "format of the weights [Q4_K]"},
        {"--rows", NULL, CLI_UINT, &s.rows, "N", "outputs [4096]"},
        {"--cols", NULL, CLI_UINT, &s.cols, "K", "inputs [4096]"},
        {"-n", "--vectors", CLI_UINT, &s.vectors, "M", "vectors at once [1]"},
        {"-t", "--threads", CLI_UINT, &s.n_threads, "N", "[all CPUs]"},
        {"--lines", NULL, CLI_UINT, &s.lines, "N", "calls of each kernel [2000]"},
        {"--seed", NULL, CLI_SEED, &s.seed, "S", "of weights, vectors and order [1]"},
    };
    const struct cli_program program = {
        "traces [options]",
        "Records what one product of a matrix [N x K] with M vectors takes, call by call, with\n"
        "each kernel that gives the same bits. A line holds one call of each, in random order,\n"
        "nanoseconds, so it shows them in one state of the machine. Weights come from memory.\n"
        "Ways to choose a kernel are tried on such traces.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (trueno_dtype_from_name(&s.type, type) || !trueno_dtype_get_info(s.type)->can_quantize)
        return cli_usage("--type: no random weights of type '%s'", type);
    if (s.rows == 0 || s.rows > 65536 || s.cols == 0 || s.cols > 65536)
        return cli_usage("--rows and --cols must be 1 to 65536");
    if (trueno_row_bytes(s.type, s.cols) == 0)
        return cli_usage("--cols %u is not a multiple of %u (%s)", s.cols,
                         trueno_dtype_get_info(s.type)->block, type);
    if (s.vectors == 0 || s.vectors > 65536) return cli_usage("--vectors must be 1 to 65536");
    if (s.n_threads > 1024) return cli_usage("--threads must be at most 1024");
    if (s.lines == 0) return cli_usage("--lines is 0");
    struct track t = {.settings = &s, .random = s.seed};
    rc = make_track(&t);
    if (!rc) rc = record(&t);
    free_track(&t);
    return rc;
}
