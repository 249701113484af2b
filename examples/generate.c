/* SPDX-License-Identifier: MIT */
/* trueno-generate: continues a text, or answers as a chat model. Also the example of how the
 * library is used from end to end: context, file, tokenizer, model, session, sampler, detokeniser.
 *
 * Text goes to stdout as it comes, everything else to stderr. */
#include "cli_util.h"
#include "kv_util.h"
#include "tuner_util.h"

#include "trueno.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What the command line says. */
struct settings {
    const char *model, *prompt, *prompt_file, *system, *template, *json, *kv, *tuner;
    uint32_t n_predict, n_threads, n_ctx, n_batch;
    bool chat, ignore_eos, no_echo, special, mapped, profile;
    trueno_kv_type kv_type;
    trueno_sampler_options sampling;
};

/* Everything that has to be freed, and what was measured. */
struct run {
    trueno_ctx *ctx;
    trueno_gguf *file;
    trueno_tokenizer *tokenizer;
    trueno_model *model;
    trueno_session *session;
    struct tuner_run tuner;
    trueno_sampler *sampler;
    trueno_detokenizer *detokenizer;
    char *text;           /* the prompt, template applied */
    trueno_token *tokens; /* [n_prompt + n_generated] */
    size_t n_prompt, n_generated, n_evals;
    uint32_t n_ctx; /* that the session holds */
    char *answer;   /* what was generated, for the JSON report */
    size_t answer_len, answer_cap;
    double load_s, prefill_s, decode_s;
    const char *stop; /* why it ended */
};

static void free_run(struct run *r)
{
    trueno_detokenizer_free(r->detokenizer);
    trueno_sampler_free(r->sampler);
    trueno_session_free(r->session);
    tuner_free(&r->tuner);
    trueno_model_free(r->model);
    trueno_tokenizer_free(r->tokenizer);
    trueno_gguf_free(r->file);
    trueno_ctx_free(r->ctx);
    free(r->text);
    free(r->tokens);
    free(r->answer);
}

/* -------------------------------------------------------------------------------- load */

static int load(struct run *r, const struct settings *s)
{
    trueno_error err = {TRUENO_OK, ""};
    double start = cli_now();
    r->ctx = cli_ctx_new();
    if (!r->ctx) return CLI_ERROR;
    trueno_status st = trueno_gguf_open(r->ctx, &r->file, s->model, NULL, &err);
    if (!st) st = trueno_tokenizer_new(&r->tokenizer, r->file, NULL, &err);
    if (!st) {
        trueno_model_options opt = TRUENO_MODEL_OPTIONS_INIT;
        opt.n_threads = s->n_threads;
        opt.weights = s->mapped ? TRUENO_WEIGHTS_MAPPED : TRUENO_WEIGHTS_PACKED;
        st = trueno_model_load(&r->model, r->file, &opt, &err);
    }
    if (st) return cli_failed(s->model, st, err.message);
    r->load_s = cli_now() - start;
    return CLI_OK;
}

/* ------------------------------------------------------------------------------ prompt */

/* Puts the question into the model's chat template. */
static int apply_template(struct run *r, const struct settings *s, const char *question)
{
    trueno_error err = {TRUENO_OK, ""};
    const char *name = s->template;
    if (!name) {
        trueno_status st = trueno_chat_detect_gguf(&name, r->file, &err);
        if (st) {
            cli_failed("no chat template in the model file", st, err.message);
            return cli_error("choose one with --template, or leave out --chat");
        }
    }
    trueno_chat_message turns[2];
    size_t n = 0, len;
    if (s->system) turns[n++] = (trueno_chat_message){"system", s->system};
    turns[n++] = (trueno_chat_message){"user", question};
    trueno_status st = trueno_chat_apply(NULL, 0, &len, name, turns, n, true, &err);
    if (!st) {
        r->text = malloc(len + 1);
        if (!r->text) return cli_error("no memory for the prompt");
        st = trueno_chat_apply(r->text, len + 1, &len, name, turns, n, true, &err);
    }
    return st ? cli_failed("cannot use the template", st, err.message) : CLI_OK;
}

static int encode(struct run *r, const struct settings *s)
{
    trueno_error err = {TRUENO_OK, ""};
    uint32_t flags = TRUENO_ENCODE_SPECIAL;
    if (s->chat || s->special) flags |= TRUENO_ENCODE_PARSE;
    size_t len = strlen(r->text);
    trueno_status st =
        trueno_encode(r->tokenizer, NULL, 0, &r->n_prompt, r->text, len, flags, &err);
    if (st) return cli_failed("prompt", st, err.message);
    if (r->n_prompt == 0) return cli_error("the prompt is empty, and this model has no BOS token");
    r->tokens = malloc(r->n_prompt * sizeof(*r->tokens));
    if (!r->tokens) return cli_error("no memory for the prompt");
    st = trueno_encode(r->tokenizer, r->tokens, r->n_prompt, &r->n_prompt, r->text, len, flags,
                       &err);
    return st ? cli_failed("prompt", st, err.message) : CLI_OK;
}

static int make_prompt(struct run *r, const struct settings *s)
{
    size_t len;
    char *text = s->prompt_file ? cli_read_file(s->prompt_file, &len) : strdup(s->prompt);
    if (!text) return CLI_ERROR;
    if (s->prompt_file && len > 0 && text[len - 1] == '\n') text[len - 1] = 0; /* the editor's */
    int rc = CLI_OK;
    if (s->chat) {
        rc = apply_template(r, s, text);
        free(text);
    } else {
        r->text = text;
    }
    return rc ? rc : encode(r, s);
}

/* --------------------------------------------------------------------------------- run */

/* Tokens of context: as asked for, or what prompt and -n need, within what the model knows. */
static uint32_t context_size(const struct run *r, const struct settings *s, uint32_t n_ctx_train)
{
    enum { NO_LIMIT = 4096 };
    size_t want = r->n_prompt + (s->n_predict ? s->n_predict : NO_LIMIT);
    if (s->n_ctx) return s->n_ctx;
    return want < n_ctx_train ? (uint32_t)want : n_ctx_train;
}

/* Asks the tuner of the answer that is to come. */
static int ask_tuner(struct run *r, const struct settings *s)
{
    size_t end = r->n_prompt + s->n_predict;
    uint32_t last = s->n_predict && end < r->n_ctx ? (uint32_t)end : r->n_ctx;
    const struct tuner_plan plan = {r->file, s->n_threads, r->n_ctx, last, s->kv_type};
    return tuner_begin(&r->tuner, s->tuner, r->ctx, &plan);
}

/* A session that holds the prompt and what is to come, and room for the ids. */
static int make_session(struct run *r, const struct settings *s)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_model_info info = TRUENO_MODEL_INFO_INIT;
    trueno_model_get_info(r->model, &info);
    trueno_session_options opt = TRUENO_SESSION_OPTIONS_INIT;
    opt.n_ctx = r->n_ctx = context_size(r, s, info.n_ctx_train);
    if (r->n_prompt > opt.n_ctx)
        return cli_error("the prompt has %zu tokens, the context holds %u", r->n_prompt, opt.n_ctx);
    opt.n_batch = s->n_batch;
    opt.n_threads = s->n_threads;
    opt.kv_type = s->kv_type;
    opt.profile = s->profile;
    int rc = ask_tuner(r, s);
    if (rc) return rc;
    opt.tuner = r->tuner.tuner;
    trueno_status st = trueno_session_new(&r->session, r->model, &opt, &err);
    if (!st) st = trueno_sampler_new(r->ctx, &r->sampler, info.n_vocab, &s->sampling, &err);
    if (st) return cli_failed("session", st, err.message);

    /* the text goes on after a prompt, but a chat's answer begins anew */
    trueno_detokenizer_options dopt = TRUENO_DETOKENIZER_OPTIONS_INIT;
    dopt.keep_space_prefix = !s->chat;
    st = trueno_detokenizer_new(&r->detokenizer, r->tokenizer, &dopt);
    if (st) return cli_failed("detokenizer", st, NULL);
    trueno_token *ids = realloc(r->tokens, (opt.n_ctx + 1UL) * sizeof(*ids));
    if (!ids) return cli_error("no memory for %u tokens", opt.n_ctx);
    r->tokens = ids;
    return CLI_OK;
}

/* Prints text at once, and keeps it if there will be a report. */
static int emit(struct run *r, const struct settings *s, const char *text, size_t len)
{
    if (fwrite(text, 1, len, stdout) != len || fflush(stdout) != 0)
        return cli_error("cannot write to stdout");
    if (!s->json) return CLI_OK;
    if (r->answer_cap - r->answer_len <= len) {
        size_t cap = (r->answer_cap + len) * 2 + 64;
        char *more = realloc(r->answer, cap);
        if (!more) return cli_error("no memory for the report");
        r->answer = more;
        r->answer_cap = cap;
    }
    memcpy(r->answer + r->answer_len, text, len);
    r->answer_len += len;
    r->answer[r->answer_len] = 0;
    return CLI_OK;
}

/* Evaluates the prompt. Its tokens count for the repetition penalties. */
static int prefill(struct run *r)
{
    double start = cli_now();
    for (size_t i = 0; i < r->n_prompt; i++) trueno_sampler_accept(r->sampler, r->tokens[i]);
    trueno_status st = trueno_session_eval(r->session, r->tokens, r->n_prompt, TRUENO_LOGITS_LAST);
    r->prefill_s = cli_now() - start;
    if (st == TRUENO_ERR_CANCELLED) r->stop = "interrupted";
    if (st && !r->stop)
        return cli_failed("cannot evaluate", st, trueno_session_last_error(r->session));
    return CLI_OK;
}

/* Samples, prints and evaluates one token after another. */
static int decode(struct run *r, const struct settings *s)
{
    trueno_token *out = r->tokens + r->n_prompt;
    const char *text;
    size_t len;
    trueno_status st = TRUENO_OK;
    double start = cli_now();
    int rc = CLI_OK;
    while (!rc && !r->stop) {
        trueno_token id;
        st = trueno_sampler_sample(r->sampler, &id, trueno_session_logits(r->session, -1));
        if (st) return cli_failed("sampler", st, NULL);
        out[r->n_generated++] = id;
        if (trueno_token_is_end(r->tokenizer, id) && !s->ignore_eos) {
            r->stop = "end of text";
            break;
        }
        st = trueno_detokenizer_push(r->detokenizer, id, &text, &len);
        if (st) return cli_failed("detokenizer", st, NULL);
        rc = emit(r, s, text, len);
        if (s->n_predict && r->n_generated == s->n_predict)
            r->stop = "length";
        else if (trueno_session_n_past(r->session) == trueno_session_n_ctx(r->session))
            r->stop = "context full";
        else if (cli_interrupted(NULL))
            r->stop = "interrupted";
        if (rc || r->stop) break;
        st = trueno_session_eval(r->session, &id, 1, TRUENO_LOGITS_LAST);
        if (st == TRUENO_ERR_CANCELLED)
            r->stop = "interrupted";
        else if (st)
            return cli_failed("cannot evaluate", st, trueno_session_last_error(r->session));
        else
            r->n_evals++;
    }
    r->decode_s = cli_now() - start;
    if (!rc && !trueno_detokenizer_flush(r->detokenizer, &text, &len)) rc = emit(r, s, text, len);
    return rc;
}

/* ------------------------------------------------------------------------------ report */

static double per_second(size_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0;
}

static void print_statistics(const struct run *r)
{
    uint64_t peak;
    trueno_ctx_memory(r->ctx, NULL, &peak);
    fprintf(stderr, "\nload    %8.2f s\n", r->load_s);
    fprintf(stderr, "prompt  %8.2f s  %6zu tokens  %8.2f tokens/s\n", r->prefill_s, r->n_prompt,
            per_second(r->n_prompt, r->prefill_s));
    fprintf(stderr, "decode  %8.2f s  %6zu tokens  %8.2f tokens/s\n", r->decode_s, r->n_evals,
            per_second(r->n_evals, r->decode_s));
    fprintf(stderr, "memory  %8.1f MiB at most\nstopped: %s\n", (double)peak / 0x1p20, r->stop);
}

static json_t *token_array(const trueno_token *ids, size_t n)
{
    json_t *array = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(array, json_integer(ids[i]));
    return array;
}

static int write_report(const struct run *r, const struct settings *s)
{
    trueno_model_info info = TRUENO_MODEL_INFO_INIT;
    trueno_model_get_info(r->model, &info);
    uint64_t peak;
    trueno_ctx_memory(r->ctx, NULL, &peak);
    const trueno_sampler_options *o = &s->sampling;
    json_t *settings = json_pack(
        "{s:f, s:i, s:f, s:f, s:f, s:I, s:i, s:i, s:b}", "temperature", (double)o->temperature,
        "top_k", o->top_k, "top_p", (double)o->top_p, "min_p", (double)o->min_p, "repeat_penalty",
        (double)o->repeat_penalty, "seed", (json_int_t)o->seed, "n_threads", (int)s->n_threads,
        "n_ctx", (int)r->n_ctx, "chat", s->chat);
    json_t *report = json_pack(
        "{s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:s, s:f, s:f, s:f, s:f, s:f, s:I, s:o}", "model",
        cli_json_text(s->model), "name", cli_json_text(info.name), "architecture",
        info.architecture, "type", info.type, "prompt", cli_json_text(r->text), "prompt_tokens",
        token_array(r->tokens, r->n_prompt), "tokens",
        token_array(r->tokens + r->n_prompt, r->n_generated), "text",
        cli_json_text(r->answer ? r->answer : ""), "stopped", r->stop, "load_s", r->load_s,
        "prompt_s", r->prefill_s, "decode_s", r->decode_s, "prompt_tps",
        per_second(r->n_prompt, r->prefill_s), "decode_tps", per_second(r->n_evals, r->decode_s),
        "peak_memory_bytes", (json_int_t)peak, "settings", settings);
    if (report && s->tuner && json_object_set_new(report, "tuner", tuner_json(&r->tuner))) {
        json_decref(report);
        report = NULL;
    }
    return cli_json_write(report, s->json);
}

static int generate(struct run *r, const struct settings *s)
{
    int rc = load(r, s);
    if (!rc) rc = make_prompt(r, s);
    if (!rc) rc = make_session(r, s);
    if (rc) return rc;
    if (!s->chat && !s->no_echo) {
        fputs(r->text, stdout);
        fflush(stdout);
    }
    rc = prefill(r);
    if (!rc) rc = decode(r, s);
    fputs("\n", stdout);
    if (rc) return rc;
    print_statistics(r);
    if (s->profile) profile_print(r->session);
    trueno_session_free(r->session); /* gives back what it learned from */
    r->session = NULL;
    tuner_end(&r->tuner, r->n_evals, r->decode_s);
    if (s->json) rc = write_report(r, s);
    return rc ? rc : cli_interrupted(NULL) ? CLI_ERROR : CLI_OK;
}

int main(int argc, char **argv)
{
    struct settings s = {.n_predict = 128, .sampling = TRUENO_SAMPLER_OPTIONS_INIT};
    trueno_sampler_options *o = &s.sampling;
    const struct cli_option options[] = {
        {"-m", "--model", CLI_TEXT, &s.model, "FILE", "GGUF file (needed)"},
        {"-p", "--prompt", CLI_TEXT, &s.prompt, "TEXT", "text to continue, or the question"},
        {"-f", "--file", CLI_TEXT, &s.prompt_file, "FILE",
         "read the prompt from a file (-: stdin)"},
        {"-n", "--predict", CLI_UINT, &s.n_predict, "N", "tokens to make [128]; 0: no limit"},
        {"--chat", NULL, CLI_FLAG, &s.chat, NULL, "ask as a user, in the model's chat template"},
        {"--system", NULL, CLI_TEXT, &s.system, "TEXT", "system message (with --chat)"},
        {"--template", NULL, CLI_TEXT, &s.template, "NAME", "chat template instead of the model's"},
        {"--temp", NULL, CLI_FLOAT, &o->temperature, "T", "temperature [0.8]; 0: greedy"},
        {"--top-k", NULL, CLI_INT, &o->top_k, "K", "keep the K likeliest tokens [40]; 0: off"},
        {"--top-p", NULL, CLI_FLOAT, &o->top_p, "P", "keep tokens up to probability P [0.95]"},
        {"--min-p", NULL, CLI_FLOAT, &o->min_p, "P", "drop tokens below P of the best [0.05]"},
        {"--repeat-penalty", NULL, CLI_FLOAT, &o->repeat_penalty, "R", "[1: off]"},
        {"--seed", "-s", CLI_SEED, &o->seed, "S", "of the random numbers [0]"},
        {"-t", "--threads", CLI_UINT, &s.n_threads, "N", "[all CPUs]"},
        {"-c", "--ctx", CLI_UINT, &s.n_ctx, "N", "tokens of context [what prompt and -n need]"},
        {"-b", "--batch", CLI_UINT, &s.n_batch, "N", "prompt tokens evaluated together [512]"},
        {"--mapped", NULL, CLI_FLAG, &s.mapped, NULL,
         "leave the weights in the file: less memory, slower"},
        {"--kv", NULL, CLI_TEXT, &s.kv, "TYPE", KV_HELP},
        {"--tuner", NULL, CLI_TEXT, &s.tuner, "MODE", TUNER_HELP},
        {"--profile", NULL, CLI_FLAG, &s.profile, NULL, PROFILE_HELP},
        {"--special", NULL, CLI_FLAG, &s.special, NULL,
         "control tokens in the prompt's text count"},
        {"--ignore-eos", NULL, CLI_FLAG, &s.ignore_eos, NULL, "go on after the end of the text"},
        {"--no-echo", NULL, CLI_FLAG, &s.no_echo, NULL, "do not print the prompt first"},
        {"--json", NULL, CLI_TEXT, &s.json, "FILE", "write a report with ids, times and settings"},
    };
    const struct cli_program program = {
        "-m FILE -p TEXT [options]",
        "Continues a text with a language model, or answers a question (--chat).\n"
        "The text goes to stdout, statistics to stderr. Ctrl-C stops.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (!s.model) return cli_usage("no model: give one with -m");
    if (!s.prompt == !s.prompt_file) return cli_usage("give a prompt, with either -p or -f");
    if (!s.chat && (s.system || s.template))
        return cli_usage("--system and --template need --chat");
    rc = kv_type(&s.kv_type, s.kv);
    if (rc == CLI_OK) rc = tuner_check(s.tuner);
    if (rc != CLI_OK) return rc;

    struct run r = {.stop = NULL};
    rc = generate(&r, &s);
    free_run(&r);
    return rc;
}
