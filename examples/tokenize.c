/* SPDX-License-Identifier: MIT */
/* trueno-tokenize: text on standard input to token ids on one line, or ids to text. */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/tokenizer.h"

static const char usage[] =
    "usage: trueno-tokenize -m FILE [--no-special] [--bos] [--decode]\n"
    "\n"
    "Reads text from standard input and prints its token ids on one line, separated by spaces.\n"
    "\n"
    "  -m, --model FILE  GGUF file with the vocabulary\n"
    "      --bos         add BOS and EOS where the vocabulary's rules say so\n"
    "      --no-special  leave text such as <|im_end|> as text; with --decode: print no special\n"
    "                    tokens\n"
    "      --decode      the other way: ids from standard input, text to standard output\n"
    "  -h, --help        this text\n";

struct options {
    const char *model;
    bool no_special, bos, decode;
};

/* 0: go on; 1: done with success; 2: wrong usage. */
static int parse_options(int argc, char **argv, struct options *o)
{
    enum { NO_SPECIAL = 256, BOS, DECODE };
    static const struct option known[] = {
        {"model", required_argument, NULL, 'm'}, {"no-special", no_argument, NULL, NO_SPECIAL},
        {"bos", no_argument, NULL, BOS},         {"decode", no_argument, NULL, DECODE},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "m:h", known, NULL)) != -1) {
        switch (c) {
        case 'm': o->model = optarg; break;
        case NO_SPECIAL: o->no_special = true; break;
        case BOS: o->bos = true; break;
        case DECODE: o->decode = true; break;
        case 'h': fputs(usage, stdout); return 1;
        default: return 2;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "trueno-tokenize: unexpected argument \"%s\"\n", argv[optind]);
        return 2;
    }
    if (!o->model) {
        fputs("trueno-tokenize: option -m FILE is missing\n", stderr);
        return 2;
    }
    return 0;
}

/* All of standard input with a NUL after it; NULL on failure, with a message. */
static char *read_input(size_t *len)
{
    size_t cap = 1 << 16, n = 0, got;
    char *text = malloc(cap);
    while (text && (got = fread(text + n, 1, cap - 1 - n, stdin)) > 0) {
        n += got;
        if (n + 1 < cap) continue;
        char *more = realloc(text, cap *= 2);
        if (!more) free(text);
        text = more;
    }
    if (text && ferror(stdin)) {
        fprintf(stderr, "trueno-tokenize: reading standard input: %s\n", strerror(errno));
        free(text);
        return NULL;
    }
    if (!text) {
        fputs("trueno-tokenize: no memory for the input\n", stderr);
        return NULL;
    }
    text[n] = '\0';
    *len = n;
    return text;
}

static int fail(const trueno_error *err)
{
    fprintf(stderr, "trueno-tokenize: %s\n", err->message);
    return 1;
}

static int no_memory(void)
{
    fputs("trueno-tokenize: no memory\n", stderr);
    return 1;
}

static int encode(const trueno_tokenizer *t, const struct options *o, const char *text, size_t len)
{
    trueno_error err;
    size_t n = 0;
    uint32_t flags = (o->bos ? (uint32_t)TRUENO_ENCODE_SPECIAL : 0) |
                     (o->no_special ? 0 : (uint32_t)TRUENO_ENCODE_PARSE);
    if (trueno_encode(t, NULL, 0, &n, text, len, flags, &err)) return fail(&err);
    trueno_token *ids = malloc((n + 1) * sizeof *ids);
    if (!ids) return no_memory();
    trueno_status status = trueno_encode(t, ids, n, &n, text, len, flags, &err);
    for (size_t i = 0; i < n && status == TRUENO_OK; i++) printf(i ? " %ld" : "%ld", (long)ids[i]);
    if (status == TRUENO_OK) putchar('\n');
    free(ids);
    return status == TRUENO_OK ? 0 : fail(&err);
}

/* Ids separated by white space; returns their number, SIZE_MAX at something else. */
static size_t parse_ids(const char *text, trueno_token *ids)
{
    size_t n = 0;
    const char *p = text + strspn(text, " \t\r\n");
    while (*p) {
        char *end;
        errno = 0;
        long id = strtol(p, &end, 10);
        if (end == p || errno || id < INT32_MIN || id > INT32_MAX || !strchr(" \t\r\n", *end)) {
            size_t len = strcspn(p, " \t\r\n");
            fprintf(stderr, "trueno-tokenize: \"%.*s\" is not a token id\n",
                    len < 20 ? (int)len : 20, p);
            return SIZE_MAX;
        }
        ids[n++] = (trueno_token)id;
        p = end + strspn(end, " \t\r\n");
    }
    return n;
}

static int decode(const trueno_tokenizer *t, const struct options *o, const char *text, size_t len)
{
    trueno_error err;
    size_t n_text = 0;
    trueno_token *ids = malloc((len / 2 + 1) * sizeof *ids);
    if (!ids) return no_memory();
    size_t n = parse_ids(text, ids);
    char *out = NULL;
    int rc;
    if (n == SIZE_MAX) {
        rc = 1; /* parse_ids said why */
    } else if (trueno_decode(t, NULL, 0, &n_text, ids, n, !o->no_special, &err)) {
        rc = fail(&err);
    } else if (!(out = malloc(n_text + 1))) {
        rc = no_memory();
    } else {
        (void)trueno_decode(t, out, n_text, &n_text, ids, n, !o->no_special, NULL);
        rc = fwrite(out, 1, n_text, stdout) == n_text ? 0 : 1;
    }
    free(ids);
    free(out);
    return rc;
}

static int run(const struct options *o)
{
    trueno_error err;
    trueno_ctx *ctx = NULL;
    trueno_gguf *g = NULL;
    trueno_tokenizer *t = NULL;
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.metadata_only = true;
    int rc = 1;
    if (trueno_ctx_new(&ctx, NULL, &err) != TRUENO_OK ||
        trueno_gguf_open(ctx, &g, o->model, &opt, &err) != TRUENO_OK ||
        trueno_tokenizer_new(&t, g, NULL, &err) != TRUENO_OK) {
        fail(&err);
    } else {
        size_t len = 0;
        char *text = read_input(&len);
        if (text) rc = o->decode ? decode(t, o, text, len) : encode(t, o, text, len);
        free(text);
    }
    trueno_tokenizer_free(t);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    return rc;
}

int main(int argc, char **argv)
{
    struct options o = {0};
    switch (parse_options(argc, argv, &o)) {
    case 0: break;
    case 1: return 0;
    default: fputs("Try --help.\n", stderr); return 1;
    }
    int rc = run(&o);
    if (fflush(stdout) != 0 || ferror(stdout)) {
        fprintf(stderr, "trueno-tokenize: writing the output: %s\n", strerror(errno));
        return 1;
    }
    return rc;
}
