/* SPDX-License-Identifier: MIT */
/* Tokens per second of prompt evaluation (ppN: N tokens at once, from an empty context) and of
 * generation (tgN: N tokens one by one), and how near that is to what the machine can do. One
 * warm-up run, then the median, minimum and maximum of some repetitions, with probes of memory and
 * arithmetic between them. Token ids are pseudo-random: speed does not depend on them. */
#include "bench_util.h"
#include "kv_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct settings {
    struct cli_list models;
    struct uint_list prompts, gens, threads;
    uint32_t n_batch, reps, depth;
    trueno_kv_type kv_type;
    bool mapped;
};

/* Weights that evaluating needs, in bytes as stored in the file and in products per token. */
struct weights {
    double layer_bytes, layer_macs;   /* all matrices of all layers */
    double output_bytes, output_macs; /* the output matrix: used where logits are asked for */
    double embedding_bytes;           /* one row */
};

/* ------------------------------------------------------------------- weights of a model */

static bool is_named(const trueno_gguf_tensor *t, const char *name)
{
    return t->name.len == strlen(name) && !memcmp(t->name.data, name, t->name.len);
}

/* Matrices are what has two dimensions; norms, biases and RoPE factors have one. */
static struct weights weights_of(const trueno_gguf *file, const trueno_model_info *info)
{
    struct weights w = {0};
    trueno_gguf_tensor t;
    for (size_t i = 0; !trueno_gguf_tensor_at(file, i, &t); i++) {
        if (t.n_dims < 2 || t.ne[1] < 2) continue;
        double macs = (double)t.ne[0] * (double)t.ne[1], bytes = (double)t.size_bytes;
        bool embedding = is_named(&t, "token_embd.weight");
        if (embedding) w.embedding_bytes = bytes / (double)t.ne[1];
        if (is_named(&t, "output.weight") || (embedding && info->tied_embeddings)) {
            w.output_bytes = bytes;
            w.output_macs = macs;
        } else if (!embedding) {
            w.layer_bytes += bytes;
            w.layer_macs += macs;
        }
    }
    return w;
}

/* What a test of `n` tokens reads and multiplies, over its seconds. Attention is not counted. */
static void set_rates(struct result *r, const struct weights *w, uint32_t n, bool one_by_one)
{
    double evals = one_by_one ? n : 1; /* each ends with one row of logits */
    double batches = one_by_one ? n : (n + r->n_batch - 1) / r->n_batch;
    double seconds = n / r->tps.median;
    double bytes =
        batches * w->layer_bytes + evals * w->output_bytes + (double)n * w->embedding_bytes;
    r->gbs = bytes / seconds * 1e-9;
    r->gmacs = (n * w->layer_macs + evals * w->output_macs) / seconds * 1e-9;
}

/* ------------------------------------------------------------------------- measurement */

/* One run of a test; it starts behind `depth` tokens that are there. @return tokens per second, < 0
 * after a message */
static double run_once(trueno_session *session, const trueno_token *ids, uint32_t depth, uint32_t n,
                       bool one_by_one)
{
    trueno_session_rewind(session, depth);
    double start = cli_now();
    uint32_t step = one_by_one ? 1 : n;
    for (uint32_t i = 0; i < n; i += step) {
        trueno_status st = trueno_session_eval(session, ids + i, step, TRUENO_LOGITS_LAST);
        if (!st) continue;
        cli_failed("cannot evaluate", st, trueno_session_last_error(session));
        return -1;
    }
    return n / (cli_now() - start);
}

/* Warm-up, then probe, run, probe, run, ..., probe. A probe sweeps the caches, so one token goes
 * before each run. */
static int repeat(trueno_session *session, const trueno_token *ids, uint32_t n, bool one_by_one,
                  struct roofs *roofs, double *rates, const struct result *r)
{
    const uint32_t depth = r->depth;
    if (depth > 0 && run_once(session, ids, 0, depth, false) < 0) return CLI_ERROR;
    if (run_once(session, ids, depth, n, one_by_one) < 0) return CLI_ERROR;
    roofs->n = 0;
    roofs_probe(roofs);
    for (uint32_t i = 0; i < r->reps; i++) {
        cli_progress(NULL, r->test, i + 1U, r->reps + 1U);
        if (run_once(session, ids, depth, 1, true) < 0) return CLI_ERROR;
        rates[i] = run_once(session, ids, depth, n, one_by_one);
        if (rates[i] < 0) return CLI_ERROR;
        roofs_probe(roofs);
    }
    cli_progress(NULL, r->test, 1, 1);
    return CLI_OK;
}

/* Bytes of 32 numbers of a cache. */
static size_t kv_row_bytes(trueno_kv_type type)
{
    static const trueno_dtype types[] = {
        [TRUENO_KV_F16] = TRUENO_TYPE_F16,
        [TRUENO_KV_F32] = TRUENO_TYPE_F32,
        [TRUENO_KV_BF16] = TRUENO_TYPE_BF16,
        [TRUENO_KV_Q8_0] = TRUENO_TYPE_Q8_0,
    };
    return trueno_row_bytes(types[type], 32);
}

/* A model being measured. */
struct subject {
    const trueno_model *model;
    const trueno_gguf *file;
    struct weights weights;
    double kv_scale; /* bytes of the cache over those of F16 */
    trueno_ctx *ctx;
    trueno_probe_op op;
    trueno_token *ids; /* [longest()] */
};

/* What the tuner would be told of this run. */
static int describe(const struct subject *subject, struct result *r, uint32_t n, bool one_by_one)
{
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
    trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
    trueno_features *f = &r->features;
    *f = (trueno_features)TRUENO_FEATURES_INIT;
    trueno_error err = {TRUENO_OK, ""};
    profile.n = 1;
    profile.points[0] =
        (trueno_machine_point){r->n_threads, r->read.median, r->peak_gmacs, r->peak_gmacs};
    opt.gguf = subject->file;
    opt.profile = &profile;
    opt.threads = r->n_threads;
    trueno_status st = trueno_features_from_env(subject->ctx, f, &opt, &err);
    if (st) return cli_failed("features", st, err.message);
    f->kv_bytes_per_token *= subject->kv_scale;
    f->kv_cache_tokens = one_by_one ? r->depth + n / 2 : r->depth; /* in the mean */
    f->seq_len = one_by_one ? f->kv_cache_tokens + 1 : r->depth + n;
    *(one_by_one ? &f->generated_tokens : &f->prompt_tokens) = n;
    f->phase = one_by_one ? TRUENO_PHASE_DECODE : TRUENO_PHASE_PREFILL;
    return CLI_OK;
}

static int measure(trueno_session *session, const struct subject *subject, uint32_t n,
                   bool one_by_one, struct roofs *roofs, struct result *r)
{
    int used = snprintf(r->test, sizeof(r->test), "%s%u", one_by_one ? "tg" : "pp", n);
    if (r->depth > 0) snprintf(r->test + used, sizeof(r->test) - (size_t)used, " @ d%u", r->depth);
    double *rates = calloc(r->reps, sizeof(*rates));
    if (!rates) return cli_error("no memory for %u repetitions", r->reps);
    int rc = repeat(session, subject->ids, n, one_by_one, roofs, rates, r);
    if (!rc) {
        r->tps = spread_of(rates, r->reps);
        r->read = spread_of(roofs->read, roofs->n);
        r->peak_gmacs = spread_of(roofs->peak, roofs->n).median;
        set_rates(r, &subject->weights, n, one_by_one);
        rc = describe(subject, r, n, one_by_one);
    }
    free(rates);
    return rc;
}

/* All results so far. */
struct table {
    const struct format *format;
    struct result *rows;
    size_t n, cap;
};

static int add_row(struct table *t, const struct result *r)
{
    if (t->n == t->cap) {
        size_t cap = t->cap ? t->cap * 2 : 16;
        struct result *more = realloc(t->rows, cap * sizeof(*more));
        if (!more) return cli_error("no memory for the results");
        t->rows = more;
        t->cap = cap;
    }
    t->rows[t->n++] = *r;
    t->format->row(r);
    return CLI_OK;
}

/* Tokens of the longest test, with those before it. */
static uint32_t longest(const struct settings *s)
{
    uint32_t n = 1;
    for (size_t i = 0; i < s->prompts.n; i++) n = s->prompts.items[i] > n ? s->prompts.items[i] : n;
    for (size_t i = 0; i < s->gens.n; i++) n = s->gens.items[i] > n ? s->gens.items[i] : n;
    return n + s->depth;
}

/* All tests of one model with one number of threads. */
static int bench_threads(const struct subject *subject, const struct settings *s, struct result *r,
                         struct table *table)
{
    trueno_session_options opt = TRUENO_SESSION_OPTIONS_INIT;
    opt.n_ctx = longest(s);
    opt.n_batch = s->n_batch;
    opt.n_threads = r->n_threads;
    opt.kv_type = s->kv_type;
    trueno_error err = {TRUENO_OK, ""};
    trueno_session *session;
    trueno_status st = trueno_session_new(&session, subject->model, &opt, &err);
    if (st) return cli_failed("session", st, err.message);
    struct roofs roofs;
    int rc = roofs_new(&roofs, subject->ctx, r->n_threads, s->reps + (size_t)1);
    roofs.op = subject->op;
    for (size_t i = 0; i < s->prompts.n + s->gens.n && !rc; i++) {
        bool gen = i >= s->prompts.n;
        uint32_t n = gen ? s->gens.items[i - s->prompts.n] : s->prompts.items[i];
        if (n == 0) continue;
        rc = measure(session, subject, n, gen, &roofs, r);
        if (!rc) rc = add_row(table, r);
    }
    roofs_free(&roofs);
    trueno_session_free(session);
    return rc;
}

static trueno_token *random_ids(uint32_t n, uint32_t n_vocab)
{
    trueno_token *ids = malloc(n * sizeof(*ids));
    uint32_t state = 1;
    for (uint32_t i = 0; i < n && ids; i++) {
        state = state * 1664525 + 1013904223; /* Numerical Recipes' generator */
        ids[i] = (trueno_token)((uint64_t)state * n_vocab >> 32);
    }
    return ids;
}

static int bench_model(trueno_ctx *ctx, const char *path, const struct settings *s,
                       struct table *table)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_gguf *file = NULL;
    trueno_model *model = NULL;
    struct result r = {.path = path,
                       .cpu = trueno_ctx_cpu_level(ctx),
                       .info = TRUENO_MODEL_INFO_INIT,
                       .n_batch = s->n_batch,
                       .depth = s->depth,
                       .reps = s->reps};
    trueno_status st = trueno_gguf_open(ctx, &file, path, NULL, &err);
    trueno_model_options opt = TRUENO_MODEL_OPTIONS_INIT;
    opt.weights = s->mapped ? TRUENO_WEIGHTS_MAPPED : TRUENO_WEIGHTS_PACKED;
    if (!st) st = trueno_model_load(&model, file, &opt, &err);
    if (!st) st = trueno_model_get_info(model, &r.info);
    struct subject subject = {.model = model, .file = file, .ctx = ctx};
    subject.kv_scale = (double)kv_row_bytes(s->kv_type) / (double)kv_row_bytes(TRUENO_KV_F16);
    if (!st) subject.weights = weights_of(file, &r.info);
    if (st) {
        trueno_gguf_free(file);
        return cli_failed(path, st, err.message);
    }

    trueno_dtype type = TRUENO_TYPE_F32;
    trueno_dtype_from_name(&type, r.info.type);
    subject.op = op_of_type(type);
    subject.ids = random_ids(longest(s), r.info.n_vocab);
    int rc = subject.ids ? CLI_OK : cli_error("no memory for %u tokens", longest(s));
    for (size_t i = 0; i < s->threads.n && !rc; i++) {
        r.n_threads = s->threads.items[i];
        rc = bench_threads(&subject, s, &r, table);
    }
    free(subject.ids);
    trueno_model_free(model);
    trueno_gguf_free(file);
    return rc;
}

static int bench(const struct settings *s, const struct format *format)
{
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    struct table table = {.format = format};
    format->begin();
    int rc = CLI_OK;
    for (size_t i = 0; i < s->models.n && !rc; i++)
        rc = bench_model(ctx, s->models.items[i], s, &table);
    if (!rc) rc = format->end(table.rows, table.n);
    free(table.rows);
    trueno_ctx_free(ctx);
    return rc;
}

/* -------------------------------------------------------------------------------- main */

int bench_models(int argc, char **argv)
{
    struct settings s = {.n_batch = 512, .reps = 3};
    char all_cpus[16];
    snprintf(all_cpus, sizeof(all_cpus), "%u", trueno_cpu_count());
    const char *prompts = "512", *gens = "64", *threads = all_cpus, *output = "md", *kv = NULL;
    const uint32_t max = 1U << 20;
    const struct cli_option options[] = {
        {"-m", "--model", CLI_LIST, &s.models, "FILE", "GGUF file; may be given several times"},
        {"-p", "--prompt", CLI_TEXT, &prompts, "N,N", "tokens of the prompt tests [512]; 0: none"},
        {"-n", "--gen", CLI_TEXT, &gens, "N,N", "tokens of the generation tests [64]; 0: none"},
        {"-t", "--threads", CLI_TEXT, &threads, "N,N", "[all CPUs]"},
        {"-d", "--depth", CLI_UINT, &s.depth, "N", "tokens that are there before each test [0]"},
        {"-b", "--batch", CLI_UINT, &s.n_batch, "N", "prompt tokens evaluated together [512]"},
        {"-r", "--reps", CLI_UINT, &s.reps, "N", "repetitions after one warm-up [3]"},
        {"--kv", NULL, CLI_TEXT, &kv, "TYPE", KV_HELP},
        {"--mapped", NULL, CLI_FLAG, &s.mapped, NULL,
         "weights stay in the file and are packed in each product"},
        {"-o", "--output", CLI_TEXT, &output, "FORMAT", "md, json or csv [md]"},
    };
    const struct cli_program program = {
        "-m FILE [options]\n"
        "       trueno-bench kernels [options]    single matrix products\n"
        "       trueno-bench probe [options]      the machine's read bandwidth and peak rates\n"
        "       trueno-bench traces [options]     kernels side by side, call by call\n"
        "       trueno-bench tuner [options]      the tuner's own calls",
        "Measures tokens per second of prompt evaluation (pp) and generation (tg): median, "
        "minimum\n"
        "and maximum; the weights' bytes per second over the read bandwidth (% of read), and the\n"
        "products per second over the peak of this CPU's dot products (% of peak), both measured\n"
        "beside the test with as many threads. docs/performance.md",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (s.models.n == 0) return cli_usage("no model: give one with -m");
    if (!read_uint_list(prompts, max, &s.prompts)) return cli_usage("bad list '%s'", prompts);
    if (!read_uint_list(gens, max, &s.gens)) return cli_usage("bad list '%s'", gens);
    if (!read_uint_list(threads, 1024, &s.threads)) return cli_usage("bad list '%s'", threads);
    for (size_t i = 0; i < s.threads.n; i++)
        if (s.threads.items[i] == 0) s.threads.items[i] = trueno_cpu_count();
    if (s.reps == 0 || s.reps > 10000) return cli_usage("--reps is %u: must be 1 to 10000", s.reps);
    if (s.n_batch == 0) return cli_usage("--batch is 0");
    if (s.depth > max) return cli_usage("--depth is %u: must be at most %u", s.depth, max);
    rc = kv_type(&s.kv_type, kv);
    if (rc != CLI_OK) return rc;
    const struct format *format = format_find(output);
    if (!format) return cli_usage("--output is '%s': must be md, json or csv", output);
    return bench(&s, format);
}
