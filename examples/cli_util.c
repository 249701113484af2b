/* SPDX-License-Identifier: MIT */
/* What the programs share: command line, messages, progress, Ctrl-C, clock, JSON. */
#include "cli_util.h"

#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* ---------------------------------------------------------------------------- messages */

static void message(const char *fmt, va_list args)
{
    fprintf(stderr, "%s: ", program_invocation_short_name);
    vfprintf(stderr, fmt, args);
    fputc('\n', stderr);
}

int cli_error(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    message(fmt, args);
    va_end(args);
    return CLI_ERROR;
}

int cli_usage(const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    message(fmt, args);
    va_end(args);
    fprintf(stderr, "Try '%s --help'.\n", program_invocation_short_name);
    return CLI_USAGE;
}

int cli_failed(const char *doing, trueno_status status, const char *text)
{
    if (!text || !*text) text = trueno_status_str(status);
    return cli_error("%s: %s", doing, text);
}

/* ------------------------------------------------------------------------ command line */

static void print_help(const struct cli_program *p)
{
    printf("Usage: %s %s\n\n%s\n\nOptions:\n", program_invocation_short_name, p->usage, p->purpose);
    for (size_t i = 0; i < p->n_options; i++) {
        const struct cli_option *o = &p->options[i];
        char left[64];
        snprintf(left, sizeof(left), "%s%s%s%s%s", o->name, o->alias ? ", " : "",
                 o->alias ? o->alias : "", o->value ? " " : "", o->value ? o->value : "");
        printf("  %-26s %s\n", left, o->help);
    }
    printf("  %-26s %s\n", "-h, --help", "this text");
}

static bool parse_u64(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    errno = 0;
    if (*text < '0' || *text > '9') return false; /* strtoull takes signs and spaces */
    unsigned long long v = strtoull(text, &end, 10);
    if (errno || *end || v > max) return false;
    *out = v;
    return true;
}

static bool parse_int(const char *text, int32_t *out)
{
    bool negative = *text == '-';
    uint64_t v;
    if (!parse_u64(text + negative, INT32_MAX, &v)) return false;
    *out = negative ? -(int32_t)v : (int32_t)v;
    return true;
}

static bool parse_float(const char *text, float *out)
{
    char *end;
    float v = strtof(text, &end);
    if (end == text || *end || !isfinite(v)) return false;
    *out = v;
    return true;
}

/* Stores an option's value; false if the text is not of its kind. */
static bool store(const struct cli_option *o, const char *text)
{
    uint64_t v;
    switch (o->kind) {
    case CLI_FLAG: *(bool *)o->target = true; return true;
    case CLI_TEXT: *(const char **)o->target = text; return true;
    case CLI_INT: return parse_int(text, o->target);
    case CLI_SEED: return parse_u64(text, UINT64_MAX, o->target);
    case CLI_FLOAT: return parse_float(text, o->target);
    case CLI_UINT:
        if (!parse_u64(text, UINT32_MAX, &v)) return false;
        *(uint32_t *)o->target = (uint32_t)v;
        return true;
    case CLI_LIST: {
        struct cli_list *list = o->target;
        if (list->n == sizeof(list->items) / sizeof(list->items[0])) return false;
        list->items[list->n++] = text;
        return true;
    }
    }
    return false;
}

static const struct cli_option *find_option(const struct cli_program *p, const char *name)
{
    for (size_t i = 0; i < p->n_options; i++) {
        const struct cli_option *o = &p->options[i];
        if (!strcmp(name, o->name) || (o->alias && !strcmp(name, o->alias))) return o;
    }
    return NULL;
}

int cli_parse(const struct cli_program *p, int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-h") || !strcmp(argv[i], "--help")) {
            print_help(p);
            return CLI_OK;
        }
        const struct cli_option *o = find_option(p, argv[i]);
        if (!o) return cli_usage("unknown option '%s'", argv[i]);
        const char *value = NULL;
        if (o->kind != CLI_FLAG) {
            if (i + 1 == argc) return cli_usage("option '%s' needs a value: %s", argv[i], o->value);
            value = argv[++i];
        }
        if (!store(o, value)) return cli_usage("option '%s': bad value '%s'", o->name, value);
    }
    return CLI_GO_ON;
}

size_t cli_uint_list(const char *text, uint32_t max, uint32_t *out, size_t cap)
{
    size_t n = 0;
    for (;;) {
        uint64_t v = 0;
        const char *start = text;
        for (; *text >= '0' && *text <= '9'; text++) {
            v = v * 10 + (uint64_t)(*text - '0');
            if (v > max) return 0;
        }
        if (text == start || (out && n == cap)) return 0;
        if (out) out[n] = (uint32_t)v;
        n++;
        while (*text == ' ' || *text == '\n' || *text == '\r') text++;
        if (!*text) return n;
        if (*text++ != ',') return 0;
        while (*text == ' ' || *text == '\n' || *text == '\r') text++;
    }
}

/* --------------------------------------------------------------------------- run time */

static volatile sig_atomic_t interrupted; /* set by the signal handler */

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

bool cli_interrupted(void *user)
{
    (void)user;
    return interrupted != 0;
}

void cli_progress(void *user, const char *what, uint64_t done, uint64_t total)
{
    enum { WIDTH = 40 };
    (void)user;
    if (!isatty(STDERR_FILENO) || total == 0) return;
    if (done >= total) {
        fputs("\r\033[K", stderr);
        return;
    }
    int full = (int)((double)done / (double)total * WIDTH);
    fprintf(stderr, "\r%-9s [%.*s%*s] %3d %%", what, full,
            "########################################", WIDTH - full, "",
            (int)((double)done / (double)total * 100));
    fflush(stderr);
}

static void on_log(void *user, trueno_log_level level, const char *text)
{
    (void)user;
    (void)level;
    cli_error("%s", text);
}

trueno_ctx *cli_ctx_new(void)
{
    /* One Ctrl-C stops the running call cleanly; a second one kills the program. */
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &action, NULL);

    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    opt.progress = cli_progress;
    opt.cancel = cli_interrupted;
    opt.log = on_log;
    opt.log_level = TRUENO_LOG_WARN;
    trueno_ctx *ctx;
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = trueno_ctx_new(&ctx, &opt, &err);
    if (st) cli_failed("cannot start", st, err.message);
    return ctx;
}

double cli_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* All bytes of a stream and a NUL; NULL with errno on failure. */
static char *read_stream(FILE *f, size_t *len)
{
    size_t n = 0, cap = 0;
    char *text = NULL;
    for (;;) {
        if (cap - n < 4096) {
            cap = cap ? cap * 2 : 16384;
            char *more = realloc(text, cap);
            if (!more) break;
            text = more;
        }
        size_t got = fread(text + n, 1, cap - n - 1, f);
        n += got;
        if (got > 0) continue;
        if (ferror(f)) break;
        text[n] = 0;
        *len = n;
        return text;
    }
    free(text);
    return NULL;
}

char *cli_read_file(const char *path, size_t *len)
{
    bool standard = !strcmp(path, "-");
    FILE *f = standard ? stdin : fopen(path, "rb");
    char *text = f ? read_stream(f, len) : NULL;
    if (!text) cli_error("cannot read %s: %s", path, strerror(errno));
    if (f && !standard) fclose(f);
    return text;
}

/* ------------------------------------------------------------------------------- JSON */

json_t *cli_json_text(const char *text)
{
    json_t *s = json_string(text);
    if (s) return s;
    char *ascii = strdup(text);
    if (!ascii) return NULL;
    for (char *c = ascii; *c; c++)
        if ((unsigned char)*c >= 0x80) *c = '?';
    s = json_string(ascii);
    free(ascii);
    return s;
}

int cli_json_write(json_t *json, const char *path)
{
    if (!json) return cli_error("no memory for the JSON report");
    size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(9);
    FILE *f = strcmp(path, "-") ? fopen(path, "w") : stdout;
    bool ok = f && json_dumpf(json, f, flags) == 0 && fputc('\n', f) != EOF && fflush(f) == 0;
    if (!ok) cli_error("cannot write %s: %s", path, strerror(errno));
    if (f && f != stdout && fclose(f) != 0 && ok) {
        cli_error("cannot write %s: %s", path, strerror(errno));
        ok = false;
    }
    json_decref(json);
    return ok ? CLI_OK : CLI_ERROR;
}
