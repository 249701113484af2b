/* SPDX-License-Identifier: MIT */
/* trueno-logits: evaluates token ids and writes the logits of every position, to compare with other
 * programs. The file is float32, little-endian, row-major [n_tokens][n_vocab], without a header. */
#include "cli_util.h"
#include "kv_util.h"

#include "trueno.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the output is defined as little-endian"
#endif

struct settings {
    const char *model, *tokens, *kv, *output;
    uint32_t n_threads, n_batch, n_ctx;
    trueno_kv_type kv_type;
};

/* The ids of "1,2,3" or of a file "@NAME". NULL after a message. */
static trueno_token *read_tokens(const char *text, size_t *n)
{
    size_t len;
    char *content = text[0] == '@' ? cli_read_file(text + 1, &len) : strdup(text);
    if (!content) return NULL;
    uint32_t *ids = NULL;
    *n = cli_uint_list(content, INT32_MAX, NULL, 0);
    if (*n == 0) {
        cli_error("--tokens: a list of token ids such as 1,2,3 is needed");
    } else {
        ids = malloc(*n * sizeof(*ids));
        if (ids) cli_uint_list(content, INT32_MAX, ids, *n);
    }
    free(content);
    return (trueno_token *)ids;
}

/* Evaluates the tokens in slices of n_batch and writes their logits. */
static int write_logits(trueno_session *session, const trueno_token *ids, size_t n, size_t n_batch,
                        size_t n_vocab, FILE *f, const char *path)
{
    for (size_t done = 0; done < n;) {
        size_t slice = n - done < n_batch ? n - done : n_batch;
        trueno_status st = trueno_session_eval(session, ids + done, slice, TRUENO_LOGITS_ALL);
        if (st) return cli_failed("cannot evaluate", st, trueno_session_last_error(session));
        for (size_t i = 0; i < slice; i++) {
            const float *row = trueno_session_logits(session, (ptrdiff_t)i);
            if (fwrite(row, sizeof(*row), n_vocab, f) != n_vocab)
                return cli_error("cannot write %s: %s", path, strerror(errno));
        }
        done += slice;
        cli_progress(NULL, "eval", done, n);
    }
    return CLI_OK;
}

static int evaluate(const trueno_model *model, const struct settings *s, const trueno_token *ids,
                    size_t n)
{
    trueno_model_info info = TRUENO_MODEL_INFO_INIT;
    trueno_model_get_info(model, &info);
    trueno_session_options opt = TRUENO_SESSION_OPTIONS_INIT;
    opt.n_ctx = s->n_ctx ? s->n_ctx : (uint32_t)n;
    opt.n_batch = n < s->n_batch ? (uint32_t)n : s->n_batch;
    opt.n_logits = opt.n_batch;
    opt.n_threads = s->n_threads;
    opt.kv_type = s->kv_type;
    trueno_error err = {TRUENO_OK, ""};
    trueno_session *session;
    trueno_status st = trueno_session_new(&session, model, &opt, &err);
    if (st) return cli_failed("session", st, err.message);

    int rc;
    FILE *f = fopen(s->output, "wb");
    if (!f) {
        rc = cli_error("cannot write %s: %s", s->output, strerror(errno));
    } else {
        rc = write_logits(session, ids, n, opt.n_batch, info.n_vocab, f, s->output);
        if (fclose(f) != 0 && !rc)
            rc = cli_error("cannot write %s: %s", s->output, strerror(errno));
        if (rc) remove(s->output); /* half a file would look like a result */
    }
    if (!rc) fprintf(stderr, "%s: %zu x %u logits\n", s->output, n, info.n_vocab);
    trueno_session_free(session);
    return rc;
}

static int run(const struct settings *s, const trueno_token *ids, size_t n)
{
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    trueno_error err = {TRUENO_OK, ""};
    trueno_gguf *file = NULL;
    trueno_model *model = NULL;
    trueno_status st = trueno_gguf_open(ctx, &file, s->model, NULL, &err);
    if (!st) {
        trueno_model_options opt = TRUENO_MODEL_OPTIONS_INIT;
        opt.n_threads = s->n_threads;
        st = trueno_model_load(&model, file, &opt, &err);
    }
    int rc = st ? cli_failed(s->model, st, err.message) : evaluate(model, s, ids, n);
    trueno_model_free(model);
    trueno_gguf_free(file);
    trueno_ctx_free(ctx);
    return rc;
}

int main(int argc, char **argv)
{
    struct settings s = {.n_batch = 512};
    const struct cli_option options[] = {
        {"-m", "--model", CLI_TEXT, &s.model, "FILE", "GGUF file (needed)"},
        {"--tokens", NULL, CLI_TEXT, &s.tokens, "IDS", "1,2,3 or @FILE with such a list (needed)"},
        {"-o", "--output", CLI_TEXT, &s.output, "FILE", "where to write (needed)"},
        {"-t", "--threads", CLI_UINT, &s.n_threads, "N", "[all CPUs]"},
        {"-b", "--batch", CLI_UINT, &s.n_batch, "N", "tokens evaluated together [512]"},
        {"-c", "--ctx", CLI_UINT, &s.n_ctx, "N", "tokens of context [as many as there are ids]"},
        {"--kv", NULL, CLI_TEXT, &s.kv, "TYPE", KV_HELP},
    };
    const struct cli_program program = {
        "-m FILE --tokens IDS -o FILE [options]",
        "Writes the logits of every token: float32, little-endian, [n_tokens][n_vocab].", options,
        sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (!s.model || !s.tokens || !s.output) return cli_usage("-m, --tokens and -o are needed");
    rc = kv_type(&s.kv_type, s.kv);
    if (rc != CLI_OK) return rc;
    if (s.n_batch == 0) return cli_usage("--batch is 0");

    size_t n;
    trueno_token *ids = read_tokens(s.tokens, &n);
    rc = ids ? run(&s, ids, n) : CLI_ERROR;
    free(ids);
    return rc;
}
