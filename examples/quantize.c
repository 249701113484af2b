/* SPDX-License-Identifier: MIT */
/* trueno-quantize: writes a GGUF file anew with its matrices in another format. */
#include "cli_util.h"

#include "trueno.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct settings {
    const char *in, *out, *type_name;
    trueno_dtype type;
    uint32_t n_threads;
    bool pure, allow_requantize;
};

/* What a file holds. */
struct summary {
    double mb; /* 10^6 bytes */
    double bits_per_weight;
    size_t tensors[TRUENO_TYPE_COUNT];
};

static void summarise(struct summary *s, const trueno_gguf *file)
{
    double weights = 0, bytes = 0;
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < trueno_gguf_n_tensors(file); i++) {
        trueno_gguf_tensor t;
        if (trueno_gguf_tensor_at(file, i, &t)) continue;
        const trueno_dtype_info *info = trueno_dtype_get_info(t.type);
        weights += (double)t.size_bytes / info->block_bytes * info->block;
        bytes += (double)t.size_bytes;
        s->tensors[t.type]++;
    }
    s->mb = (double)trueno_gguf_size_bytes(file) / 1e6;
    s->bits_per_weight = weights > 0 ? 8 * bytes / weights : 0;
}

static void print_summary(const char *path, const struct summary *s)
{
    const char *comma = "";
    printf("%s: %.1f MB, %.2f bits per weight, tensors", path, s->mb, s->bits_per_weight);
    for (unsigned i = 0; i < TRUENO_TYPE_COUNT; i++) {
        if (s->tensors[i] == 0) continue;
        printf("%s %zu %s", comma, s->tensors[i], trueno_dtype_get_info((trueno_dtype)i)->name);
        comma = ",";
    }
    putchar('\n');
}

/* ------------------------------------------------------------------------- command line */

static int wrong_type(const char *name)
{
    char list[256] = "";
    for (unsigned i = 0; i < TRUENO_TYPE_COUNT; i++) {
        const trueno_dtype_info *info = trueno_dtype_get_info((trueno_dtype)i);
        if (!info || !info->can_quantize) continue;
        size_t used = strlen(list);
        snprintf(list + used, sizeof(list) - used, " %s", info->name);
    }
    return cli_usage("TYPE is '%s': must be one of%s", name, list);
}

/* Takes the three words that are no options out of argv, which keeps the rest. */
static int take_words(struct settings *s, int *argc, char **argv)
{
    const char **const words[] = {&s->in, &s->out, &s->type_name};
    size_t n = 0;
    int kept = 1;
    for (int i = 1; i < *argc; i++) {
        bool is_value =
            kept > 1 && (!strcmp(argv[i - 1], "-t") || !strcmp(argv[i - 1], "--threads"));
        if (argv[i][0] == '-' || is_value) {
            argv[kept++] = argv[i];
            continue;
        }
        if (n == sizeof(words) / sizeof(words[0])) return cli_usage("'%s' is too much", argv[i]);
        *words[n++] = argv[i];
    }
    *argc = kept;
    return CLI_GO_ON;
}

static int parse(struct settings *s, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"--pure", NULL, CLI_FLAG, &s->pure, NULL,
         "also output and embedding in TYPE, not in Q6_K"},
        {"--allow-requantize", NULL, CLI_FLAG, &s->allow_requantize, NULL,
         "encode matrices that are quantised already: errors add up"},
        {"-t", "--threads", CLI_UINT, &s->n_threads, "N", "[all CPUs]"},
    };
    const struct cli_program program = {
        "IN OUT TYPE [options]",
        "Writes the GGUF file IN to OUT with its matrices encoded as TYPE: F32, F16, BF16, Q8_0,\n"
        "Q6_K, Q5_K, Q5_0, Q5_1, Q4_K, Q4_0 or Q4_1. Rows that are no multiple of 256 weights\n"
        "get Q5_0, Q5_1 or Q8_0 in place of Q4_K, Q5_K or Q6_K.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = take_words(s, &argc, argv);
    if (rc == CLI_GO_ON) rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (!s->type_name) return cli_usage("IN, OUT and TYPE are needed");
    trueno_status st = trueno_dtype_from_name(&s->type, s->type_name);
    if (st || !trueno_dtype_get_info(s->type)->can_quantize) return wrong_type(s->type_name);
    return CLI_GO_ON;
}

/* --------------------------------------------------------------------------------- work */

static bool same_file(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int run(const struct settings *s, trueno_ctx *ctx, trueno_gguf **in, trueno_gguf **out)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_quantize_options opt = TRUENO_QUANTIZE_OPTIONS_INIT;
    opt.n_threads = s->n_threads;
    opt.pure = s->pure;
    opt.allow_requantize = s->allow_requantize;

    double start = cli_now();
    trueno_status st = trueno_gguf_open(ctx, in, s->in, NULL, &err);
    if (st) return cli_failed(s->in, st, err.message);
    st = trueno_quantize_gguf(*in, s->out, s->type, &opt, &err);
    cli_progress(NULL, "", 1, 1); /* wipes the bar of a call that stopped half-way */
    if (st) return cli_failed(s->in, st, err.message);
    double seconds = cli_now() - start;

    /* what was written is read back as any reader would */
    st = trueno_gguf_open(ctx, out, s->out, NULL, &err);
    if (st) return cli_failed(s->out, st, err.message);
    struct summary before, after;
    summarise(&before, *in);
    summarise(&after, *out);
    print_summary(s->in, &before);
    print_summary(s->out, &after);
    printf("%.1f s, %.0f %% of the size\n", seconds, 100 * after.mb / before.mb);
    return CLI_OK;
}

int main(int argc, char **argv)
{
    struct settings s = {0};
    int rc = parse(&s, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (same_file(s.in, s.out)) return cli_error("IN and OUT are the same file: %s", s.in);

    trueno_gguf *in = NULL, *out = NULL;
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    rc = run(&s, ctx, &in, &out);
    trueno_gguf_free(out);
    trueno_gguf_free(in);
    trueno_ctx_free(ctx);
    if (fflush(stdout) != 0) return CLI_ERROR;
    return rc;
}
