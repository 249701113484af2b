/* SPDX-License-Identifier: MIT */
/* trueno-mkmodel: writes a GGUF model with random weights in the shape of a published model, or a
 * toy of a supported architecture: for tests against other programs and for benchmarks of models
 * that nobody wants to download. The same seed gives the same file.
 *
 * A tensor of more than POOL_UNITS * UNIT weights is put together from a pool of that many random
 * units of 256 weights, encoded once and written in random order. Its rows are all different and
 * its blocks are valid, which is all that speed depends on; and a model of a billion weights takes
 * seconds instead of minutes. */
#include "cli_util.h"
#include "shapes_util.h"

#include "trueno.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
    UNIT = 256,        /* weights: a multiple of every block */
    POOL_UNITS = 4096, /* units of a large tensor that differ */
    MAX_THREADS = 64
};

struct settings {
    const char *arch, *shape, *type, *vocab, *rope, *output;
    uint32_t n_layer, n_threads;
    int32_t window;
    uint64_t seed;
    bool tied, untied;
};

/* The file being made. */
struct maker {
    trueno_ctx *ctx;
    struct shape shape;
    trueno_dtype type;
    bool mix; /* Q4_K_M, Q5_K_M: some tensors get more bits */
    uint64_t seed;
    uint32_t n_threads;
    trueno_gguf *vocab;
    trueno_gguf_writer *writer;
    struct shape_tensor *tensors;
    size_t n_tensors;
    uint64_t done_bytes, total_bytes;
};

/* ------------------------------------------------------------------------------ random */

/* Counter-based, so that any thread can make any part: the finaliser of SplitMix64 (Steele, Lea,
 * Flood 2014) over key and counter. */
static uint64_t random_u64(uint64_t key, uint64_t counter)
{
    uint64_t x = key + (counter + 1) * UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

/* out[n] from N(mean, std), numbers `first`.. of the sequence `key`; n is even unless it is the end
 * of the sequence (Box and Muller 1958: two at a time). */
static void random_normal(float *out, size_t n, uint64_t key, uint64_t first, double mean,
                          double std)
{
    for (size_t i = 0; i < n; i += 2) {
        uint64_t bits = random_u64(key, (first + i) / 2);
        double u = ((double)(bits >> 32) + 1) * 0x1p-32, v = (double)(bits & 0xffffffff) * 0x1p-32;
        double radius = std * sqrt(-2 * log(u)), angle = 2 * 3.14159265358979323846 * v;
        out[i] = (float)(mean + radius * cos(angle));
        if (i + 1 < n) out[i + 1] = (float)(mean + radius * sin(angle));
    }
}

/* ---------------------------------------------------------------------------- matrices */

/* What one thread encodes: units [begin, end) of a tensor. */
struct job {
    pthread_t thread;
    bool started;
    char *out;
    trueno_dtype type;
    uint64_t key, n_weights, begin, end;
    double std;
    trueno_status status;
};

static void *encode_units(void *arg)
{
    struct job *j = arg;
    for (uint64_t u = j->begin; u < j->end && !j->status; u++) {
        float weights[UNIT];
        uint64_t first = u * UNIT;
        size_t n = j->n_weights - first < UNIT ? (size_t)(j->n_weights - first) : UNIT;
        random_normal(weights, n, j->key, first, 0, j->std);
        char *dst = j->out + u * trueno_row_bytes(j->type, UNIT);
        j->status = trueno_quantize(dst, weights, j->type, n);
    }
    return NULL;
}

/* Encodes n_weights random weights to `out`, on all threads. */
static trueno_status encode_parallel(const struct maker *m, char *out, trueno_dtype type,
                                     uint64_t key, uint64_t n_weights, double std)
{
    struct job jobs[MAX_THREADS] = {0};
    uint64_t units = (n_weights + UNIT - 1) / UNIT;
    for (uint32_t i = 0; i < m->n_threads; i++) {
        struct job *j = &jobs[i];
        *j = (struct job){.out = out, .type = type, .key = key, .n_weights = n_weights, .std = std};
        j->begin = units * i / m->n_threads;
        j->end = units * (i + 1) / m->n_threads;
        if (i > 0) j->started = pthread_create(&j->thread, NULL, encode_units, j) == 0;
    }
    trueno_status st = TRUENO_OK;
    for (uint32_t i = 0; i < m->n_threads; i++) {
        if (jobs[i].started)
            pthread_join(jobs[i].thread, NULL);
        else
            encode_units(&jobs[i]);
        if (jobs[i].status) st = jobs[i].status;
    }
    return st;
}

static int append(struct maker *m, const void *data, size_t size_bytes)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = trueno_gguf_writer_data(m->writer, data, size_bytes, &err);
    if (st) return cli_failed("cannot write", st, err.message);
    m->done_bytes += size_bytes;
    cli_progress(NULL, "write", m->done_bytes, m->total_bytes);
    return cli_interrupted(NULL) ? cli_error("interrupted") : CLI_OK;
}

/* Writes `size_bytes` bytes that are units of the pool in random order. */
static int append_from_pool(struct maker *m, const char *pool, size_t unit_bytes, uint64_t key,
                            uint64_t size_bytes)
{
    size_t cap = unit_bytes * POOL_UNITS;
    char *buffer = malloc(cap);
    if (!buffer) return cli_error("no memory for %zu bytes", cap);
    int rc = CLI_OK;
    uint64_t counter = 0;
    while (size_bytes > 0 && !rc) {
        for (size_t i = 0; i < POOL_UNITS; i++, counter++) {
            size_t pick = random_u64(~key, counter) % POOL_UNITS;
            memcpy(buffer + i * unit_bytes, pool + pick * unit_bytes, unit_bytes);
        }
        size_t n = size_bytes < cap ? (size_t)size_bytes : cap;
        rc = append(m, buffer, n);
        size_bytes -= n;
    }
    free(buffer);
    return rc;
}

static int write_matrix(struct maker *m, const struct shape_tensor *t, trueno_dtype type,
                        uint64_t key)
{
    const uint64_t pool_weights = (uint64_t)UNIT * POOL_UNITS;
    uint64_t n_weights = t->ne[0] * t->ne[1];
    uint64_t n_made = n_weights < pool_weights ? n_weights : pool_weights;
    size_t unit_bytes = trueno_row_bytes(type, UNIT);
    double std = m->shape.std > 0 ? m->shape.std : 1 / sqrt((double)t->ne[0]);
    char *made = malloc((n_made / UNIT + 1) * unit_bytes);
    if (!made) return cli_error("no memory for tensor %s", t->name);
    trueno_status st = encode_parallel(m, made, type, key, n_made, std);
    int rc;
    if (st)
        rc = cli_failed(t->name, st, NULL);
    else if (n_weights <= pool_weights)
        rc = append(m, made, trueno_row_bytes(type, n_weights));
    else
        rc = append_from_pool(m, made, unit_bytes, key, trueno_row_bytes(type, n_weights));
    free(made);
    return rc;
}

static int write_vector(struct maker *m, const struct shape_tensor *t, uint64_t key)
{
    size_t n = (size_t)t->ne[0];
    float *v = malloc((n + 1) * sizeof(*v));
    if (!v) return cli_error("no memory for tensor %s", t->name);
    if (t->fill == FILL_NORM)
        random_normal(v, n, key, 0, 1, 0.2);
    else if (t->fill == FILL_BIAS)
        random_normal(v, n, key, 0, 0, 0.1);
    else
        shape_rope_factors(&m->shape, t->fill, v);
    int rc = append(m, v, n * sizeof(*v));
    free(v);
    return rc;
}

/* ------------------------------------------------------------------------------- types */

/* The type that takes the place of one whose block does not divide the row. */
static trueno_dtype fallback(trueno_dtype type, uint64_t row)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    if (row % info->block == 0) return type;
    if (row % 32 != 0) return TRUENO_TYPE_F16;
    if (type == TRUENO_TYPE_Q5_K) return TRUENO_TYPE_Q5_1;
    return type == TRUENO_TYPE_Q6_K ? TRUENO_TYPE_Q8_0 : TRUENO_TYPE_Q5_0;
}

/* Type of a matrix. The mixes follow the usual rule of the _M files: more bits for the output, and
 * for attn_v and ffn_down in the first and last eighth of the layers and every third between. */
static trueno_dtype matrix_type(const struct maker *m, const struct shape_tensor *t)
{
    uint32_t i = t->layer, n = m->shape.n_layer;
    trueno_dtype type = m->type;
    if (m->mix) {
        bool more = i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
        if (t->role == ROLE_OUTPUT || (t->role == ROLE_VALUE_OR_DOWN && more))
            type = TRUENO_TYPE_Q6_K;
        else if (t->role == ROLE_QKV)
            type = m->type == TRUENO_TYPE_Q4_K ? TRUENO_TYPE_Q5_K : TRUENO_TYPE_Q6_K;
    }
    return fallback(type, t->ne[0]);
}

static trueno_dtype tensor_type(const struct maker *m, const struct shape_tensor *t)
{
    return t->fill == FILL_MATRIX ? matrix_type(m, t) : TRUENO_TYPE_F32;
}

static int parse_type(struct maker *m, const char *name)
{
    char plain[16];
    size_t len = strlen(name);
    m->mix = !strcasecmp(name, "Q4_K_M") || !strcasecmp(name, "Q5_K_M");
    snprintf(plain, sizeof(plain), "%.*s", (int)(m->mix ? len - 2 : len), name);
    if (trueno_dtype_from_name(&m->type, plain) || !trueno_dtype_get_info(m->type)->can_quantize)
        return cli_usage("--type is '%s': must be F32, F16, BF16, Q8_0, Q4_0, ..., Q4_K, Q6_K, "
                         "Q4_K_M or Q5_K_M",
                         name);
    return CLI_OK;
}

/* -------------------------------------------------------------------------------- keys */

/* Adds "ARCH.name". The first failure is kept; the calls after it do nothing. */
struct keys {
    trueno_gguf_writer *w;
    const char *arch;
    trueno_status status;
};

static void key_u32(struct keys *k, const char *name, uint32_t value)
{
    char key[80];
    snprintf(key, sizeof(key), "%s.%s", k->arch, name);
    if (!k->status) k->status = trueno_gguf_writer_u32(k->w, key, value);
}

static void key_f32(struct keys *k, const char *name, float value)
{
    char key[80];
    snprintf(key, sizeof(key), "%s.%s", k->arch, name);
    if (!k->status) k->status = trueno_gguf_writer_f32(k->w, key, value);
}

static void key_text(struct keys *k, const char *key, const char *value)
{
    if (!k->status) k->status = trueno_gguf_writer_str(k->w, key, value, strlen(value));
}

static void rope_keys(struct keys *k, const struct shape *s)
{
    static const char *const names[] = {
        [ROPE_LINEAR] = "linear", [ROPE_YARN] = "yarn", [ROPE_LONGROPE] = "longrope"};
    key_u32(k, "rope.dimension_count", s->head_dim);
    key_f32(k, "rope.freq_base", s->rope_base);
    if (s->rope == ROPE_PLAIN || s->rope == ROPE_LLAMA3) return; /* Llama 3: only its tensor */
    char key[80];
    snprintf(key, sizeof(key), "%s.rope.scaling.type", s->arch);
    key_text(k, key, names[s->rope]);
    key_u32(k, "rope.scaling.original_context_length", s->n_ctx_orig);
    if (s->rope == ROPE_LONGROPE) {
        double stretch = (double)s->n_ctx / s->n_ctx_orig;
        key_f32(k, "rope.scaling.attn_factor",
                (float)sqrt(1 + log(stretch) / log((double)s->n_ctx_orig)));
    } else {
        key_f32(k, "rope.scaling.factor", s->rope_factor);
    }
}

static void shape_keys(struct keys *k, const struct shape *s)
{
    key_u32(k, "context_length", s->n_ctx);
    key_u32(k, "embedding_length", s->n_embd);
    key_u32(k, "block_count", s->n_layer);
    key_u32(k, "feed_forward_length", s->n_ff);
    key_u32(k, "attention.head_count", s->n_head);
    key_u32(k, "attention.head_count_kv", s->n_head_kv);
    key_u32(k, "attention.key_length", s->head_dim);
    key_u32(k, "attention.value_length", s->head_dim);
    key_f32(k, "attention.layer_norm_rms_epsilon", s->eps);
    if (s->window) key_u32(k, "attention.sliding_window", s->window);
    key_u32(k, "vocab_size", s->n_vocab);
    rope_keys(k, s);
}

/* The vocabulary: that of another file, or none. */
static void vocab_keys(struct keys *k, const struct maker *m)
{
    if (!m->vocab) {
        key_text(k, "tokenizer.ggml.model", "no_vocab");
        return;
    }
    trueno_gguf_kv kv;
    for (size_t i = 0; !k->status && !trueno_gguf_kv_at(m->vocab, i, &kv); i++)
        if (kv.key.len > 10 && !memcmp(kv.key.data, "tokenizer.", 10))
            k->status = trueno_gguf_writer_copy_kv(k->w, m->vocab, i);
}

/* -------------------------------------------------------------------------------- file */

static int announce(struct maker *m, const char *path)
{
    struct keys k = {m->writer, m->shape.arch, TRUENO_OK};
    char name[80];
    snprintf(name, sizeof(name), "%s (%s, random weights)", m->shape.name, m->shape.arch);
    key_text(&k, "general.architecture", m->shape.arch);
    key_text(&k, "general.name", name);
    shape_keys(&k, &m->shape);
    vocab_keys(&k, m);
    if (!k.status && trueno_dtype_get_info(m->type)->is_quantized)
        k.status = trueno_gguf_writer_u32(m->writer, "general.quantization_version", 2);
    for (size_t i = 0; i < m->n_tensors && !k.status; i++) {
        const struct shape_tensor *t = &m->tensors[i];
        trueno_dtype type = tensor_type(m, t);
        uint32_t n_dims = t->fill == FILL_MATRIX ? 2 : 1;
        k.status = trueno_gguf_writer_tensor(m->writer, t->name, type, n_dims, t->ne);
        m->total_bytes += trueno_row_bytes(type, t->ne[0]) * t->ne[1];
    }
    if (k.status) return cli_failed("cannot describe the model", k.status, NULL);
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = trueno_gguf_writer_begin(m->writer, path, &err);
    return st ? cli_failed(path, st, err.message) : CLI_OK;
}

static int write_file(struct maker *m, const char *path)
{
    trueno_error err = {TRUENO_OK, ""};
    m->tensors = shape_tensors(&m->shape, &m->n_tensors);
    if (!m->tensors) return cli_error("no memory for the list of tensors");
    trueno_status st = trueno_gguf_writer_new(m->ctx, &m->writer);
    if (st) return cli_failed("writer", st, NULL);
    double start = cli_now();
    int rc = announce(m, path);
    for (size_t i = 0; i < m->n_tensors && !rc; i++) {
        const struct shape_tensor *t = &m->tensors[i];
        uint64_t key = random_u64(m->seed, i);
        rc = t->fill == FILL_MATRIX ? write_matrix(m, t, tensor_type(m, t), key)
                                    : write_vector(m, t, key);
    }
    if (rc) return rc;
    st = trueno_gguf_writer_finish(m->writer, &err);
    if (st) return cli_failed(path, st, err.message);
    fprintf(stderr, "%s: %zu tensors, %.1f MiB, %.1f s\n", path, m->n_tensors,
            (double)m->total_bytes / 0x1p20, cli_now() - start);
    return CLI_OK;
}

/* ------------------------------------------------------------------------------- shape */

/* --rope: scaling that the published shape does not have. */
static int apply_rope(struct shape *s, const char *name)
{
    static const struct {
        const char *name;
        enum shape_rope rope;
        const char *archs; /* that know it */
    } kinds[] = {{"linear", ROPE_LINEAR, "llama qwen2 qwen3 gemma3"},
                 {"yarn", ROPE_YARN, "llama qwen2 qwen3"},
                 {"llama3", ROPE_LLAMA3, "llama"},
                 {"longrope", ROPE_LONGROPE, "phi3 llama"}};
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(name, kinds[i].name) != 0) continue;
        if (!strstr(kinds[i].archs, s->arch))
            return cli_usage("--rope %s is not for %s, only for %s", name, s->arch, kinds[i].archs);
        s->rope = kinds[i].rope;
        s->rope_factor = 4;
        s->n_ctx_orig = s->n_ctx / 4; /* so that a short text reaches the stretched part */
        return CLI_OK;
    }
    return cli_usage("--rope is '%s': must be linear, yarn, llama3 or longrope", name);
}

static int choose_shape(struct maker *m, const struct settings *s)
{
    const struct shape *found = shape_find(s->shape, s->arch);
    if (!found || (!s->arch && found->std > 0)) {
        cli_usage(found ? "--shape %s needs --arch" : "no shape '%s' of that architecture",
                  s->shape);
        for (size_t i = 0; shape_at(i); i++)
            fprintf(stderr, "  --arch %-6s --shape %s\n", shape_at(i)->arch, shape_at(i)->name);
        return CLI_USAGE;
    }
    m->shape = *found;
    if (s->tied) m->shape.tied = true;
    if (s->untied) m->shape.tied = false;
    if (s->n_layer) m->shape.n_layer = s->n_layer;
    if (s->window >= 0) m->shape.window = (uint32_t)s->window;
    return s->rope ? apply_rope(&m->shape, s->rope) : CLI_OK;
}

static int open_vocab(struct maker *m, const char *path)
{
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.metadata_only = true;
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = trueno_gguf_open(m->ctx, &m->vocab, path, &opt, &err);
    if (st) return cli_failed(path, st, err.message);
    trueno_gguf_kv kv;
    ptrdiff_t i = trueno_gguf_find(m->vocab, "tokenizer.ggml.tokens");
    if (i < 0 || trueno_gguf_kv_at(m->vocab, (size_t)i, &kv) || kv.count == 0 ||
        kv.count > INT32_MAX)
        return cli_error("%s has no tokenizer.ggml.tokens", path);
    m->shape.n_vocab = (uint32_t)kv.count;
    return CLI_OK;
}

static int make_model(struct maker *m, const struct settings *s)
{
    int rc = choose_shape(m, s);
    if (!rc) rc = parse_type(m, s->type);
    if (rc) return rc;
    m->ctx = cli_ctx_new();
    if (!m->ctx) return CLI_ERROR;
    m->seed = s->seed;
    m->n_threads = s->n_threads ? s->n_threads : trueno_cpu_count();
    if (m->n_threads > MAX_THREADS) m->n_threads = MAX_THREADS;
    if (s->vocab) rc = open_vocab(m, s->vocab);
    return rc ? rc : write_file(m, s->output);
}

int main(int argc, char **argv)
{
    struct settings s = {.type = "Q4_K_M", .window = -1};
    const struct cli_option options[] = {
        {"--arch", NULL, CLI_TEXT, &s.arch, "NAME",
         "llama, qwen2, qwen3, gemma3 or phi3 (for toys)"},
        {"--shape", NULL, CLI_TEXT, &s.shape, "NAME", "see above (needed)"},
        {"--type", NULL, CLI_TEXT, &s.type, "TYPE", "F32, F16, BF16, Q8_0, Q4_K, ... [Q4_K_M]"},
        {"--vocab", NULL, CLI_TEXT, &s.vocab, "FILE", "take the vocabulary of this GGUF file"},
        {"--seed", NULL, CLI_SEED, &s.seed, "S", "of the weights [0]"},
        {"--tied", NULL, CLI_FLAG, &s.tied, NULL, "the output uses the embedding"},
        {"--untied", NULL, CLI_FLAG, &s.untied, NULL, "it has a matrix of its own"},
        {"--rope", NULL, CLI_TEXT, &s.rope, "KIND", "linear, yarn, llama3 or longrope, factor 4"},
        {"--window", NULL, CLI_INT, &s.window, "N", "sliding window of attention; 0: none"},
        {"--layers", NULL, CLI_UINT, &s.n_layer, "N", "instead of the shape's"},
        {"-t", "--threads", CLI_UINT, &s.n_threads, "N", "[all CPUs]"},
        {"-o", "--output", CLI_TEXT, &s.output, "FILE", "GGUF file to write (needed)"},
    };
    const struct cli_program program = {
        "--shape NAME [--arch NAME] -o FILE [options]",
        "Writes a model with random weights. Shapes: smollm2-135m, -360m, -1.7b; tinyllama-1.1b;\n"
        "llama-2-7b, -13b; llama-3.2-1b, -3b; llama-8b; mistral-7b; qwen2.5-0.5b, -1.5b, -7b,\n"
        "-32b; qwen3-0.6b, -1.7b, -8b; gemma3-270m, -1b, -4b; phi3-mini; phi4-14b; with --arch\n"
        "also toy and toy-256 (rows fit for K-quants). Without --vocab the model has ids only, no\n"
        "text.",
        options, sizeof(options) / sizeof(options[0])};
    int rc = cli_parse(&program, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    if (!s.shape || !s.output) return cli_usage("--shape and -o are needed");
    if (s.tied && s.untied) return cli_usage("--tied and --untied exclude each other");

    struct maker m = {.ctx = NULL};
    rc = make_model(&m, &s);
    trueno_gguf_writer_free(m.writer);
    trueno_gguf_free(m.vocab);
    trueno_ctx_free(m.ctx);
    free(m.tensors);
    return rc;
}
