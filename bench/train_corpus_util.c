/* SPDX-License-Identifier: MIT */
/* Reads the lines that bench/corpus.py wrote. */
#include "train_util.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------------- columns */

enum kind { TEXT, RATE, KEPT, IGNORED, FEATURE, QUANT, PHASE };

enum { UTC = BY_COUNT, TEXT_COUNT }; /* a text that is no group */

struct column {
    const char *name;
    enum kind kind;
    size_t at; /* TEXT: which one; FEATURE: offset */
    bool optional;
};

#define FIELD(name)                                                                                \
    {                                                                                              \
#name, FEATURE, offsetof(trueno_features, name), false                                     \
    }
#define OPTIONAL_FIELD(name)                                                                       \
    {                                                                                              \
#name, FEATURE, offsetof(trueno_features, name), true                                      \
    }

static const struct column known[] = {
    {"session", TEXT, BY_SESSION, false},
    {"utc", TEXT, UTC, false},
    {"model", TEXT, BY_MODEL, false},
    {"type", TEXT, BY_TYPE, false},
    {"level", TEXT, BY_LEVEL, false},
    {"threads", TEXT, BY_THREADS, false},
    {"test", TEXT, BY_TEST, false},
    {"tps", RATE, 0, false},
    {"read_min", IGNORED, 0, true},
    {"read_max", IGNORED, 0, true},
    {"kept", KEPT, 0, false},
    {"quant", QUANT, 0, false},
    {"phase", PHASE, 0, false},
    FIELD(model_params_b),
    OPTIONAL_FIELD(hidden_dim),
    OPTIONAL_FIELD(num_layers),
    OPTIONAL_FIELD(num_heads),
    OPTIONAL_FIELD(intermediate_dim),
    OPTIONAL_FIELD(vocab_size),
    OPTIONAL_FIELD(kv_heads),
    OPTIONAL_FIELD(head_dim),
    OPTIONAL_FIELD(rope_theta),
    OPTIONAL_FIELD(tie_embeddings),
    OPTIONAL_FIELD(batch_size),
    OPTIONAL_FIELD(seq_len),
    OPTIONAL_FIELD(context_len),
    OPTIONAL_FIELD(kv_cache_tokens),
    OPTIONAL_FIELD(draft_tokens),
    OPTIONAL_FIELD(prompt_tokens),
    OPTIONAL_FIELD(generated_tokens),
    OPTIONAL_FIELD(temperature),
    OPTIONAL_FIELD(top_p),
    OPTIONAL_FIELD(top_k),
    OPTIONAL_FIELD(quant_group_size),
    OPTIONAL_FIELD(bits_per_weight),
    OPTIONAL_FIELD(quant_scheme_idx),
    OPTIONAL_FIELD(has_scales),
    FIELD(gpu_mem_bw_gbs),
    FIELD(gpu_compute_tflops),
    FIELD(sm_count),
    OPTIONAL_FIELD(tensor_cores),
    OPTIONAL_FIELD(cuda_graphs),
    OPTIONAL_FIELD(pcie_gen),
    FIELD(vram_gb),
    FIELD(cpu_threads),
    OPTIONAL_FIELD(numa_nodes),
    OPTIONAL_FIELD(system_ram_gb),
    OPTIONAL_FIELD(is_unified_memory),
    OPTIONAL_FIELD(power_limit),
    OPTIONAL_FIELD(weight_bytes_per_pass),
    OPTIONAL_FIELD(flops_per_token),
    OPTIONAL_FIELD(kv_bytes_per_token),
    OPTIONAL_FIELD(cache_bytes),
};

enum { KNOWN = sizeof known / sizeof known[0] };

/* One line, taken apart. */
struct line {
    size_t number;
    const char *texts[TEXT_COUNT];
    trueno_features f;
    double tps;
    bool kept;
};

/* The reader: which columns the file has, in which order. */
struct reader {
    struct corpus *c;
    trueno_regressor *prior; /* tells the roof */
    const struct column *columns[KNOWN];
    size_t n_columns;
};

/* The next field of a line, ended by a NUL; NULL, and so is *at, behind the last one. */
static char *next_field(char **at)
{
    char *field = *at;
    if (!field) return NULL;
    char *comma = strchr(field, ',');
    if (comma) *comma = 0;
    *at = comma ? comma + 1 : NULL;
    return field;
}

/* The next line, ended by a NUL; NULL at the end. */
static char *next_line(char **at)
{
    char *line = *at, *end = strchr(line, '\n');
    if (!*line) return NULL;
    *at = end ? end + 1 : line + strlen(line);
    if (end) *end = 0;
    size_t n = strlen(line);
    if (n > 0 && line[n - 1] == '\r') line[n - 1] = 0;
    return line;
}

static int read_header(struct reader *r, char *line)
{
    const char *path = r->c->path;
    for (char *name; (name = next_field(&line));) {
        const struct column *column = NULL;
        for (size_t k = 0; k < KNOWN; k++)
            if (!strcmp(known[k].name, name)) column = &known[k];
        if (!column) return cli_error("%s:1: unknown column '%s'", path, name);
        for (size_t k = 0; k < r->n_columns; k++)
            if (r->columns[k] == column) return cli_error("%s:1: two columns '%s'", path, name);
        r->columns[r->n_columns++] = column;
    }
    for (size_t k = 0; k < KNOWN; k++) {
        bool found = known[k].optional;
        for (size_t i = 0; i < r->n_columns; i++) found |= r->columns[i] == &known[k];
        if (!found) return cli_error("%s:1: no column '%s'", path, known[k].name);
    }
    return CLI_OK;
}

/* --------------------------------------------------------------------------- lines */

static bool read_number(double *out, const char *text)
{
    char *end;
    *out = strtod(text, &end);
    return *text && !*end && isfinite(*out);
}

static bool read_quant(trueno_quant *out, const char *text)
{
    for (int q = 0; q < TRUENO_QUANT_COUNT; q++) {
        *out = (trueno_quant)q;
        if (!strcmp(trueno_quant_name(*out), text)) return true;
    }
    return false;
}

/* False: the text is not of the column's kind. */
static bool read_field(struct line *line, const struct column *column, const char *text)
{
    double number;
    switch (column->kind) {
    case TEXT: line->texts[column->at] = text; return *text != 0;
    case RATE: return read_number(&line->tps, text) && line->tps > 0;
    case KEPT: line->kept = *text == '1'; return (*text == '0' || *text == '1') && !text[1];
    case IGNORED: return true;
    case QUANT: return read_quant(&line->f.quant, text);
    case PHASE:
        line->f.phase = !strcmp(text, "prefill") ? TRUENO_PHASE_PREFILL : TRUENO_PHASE_DECODE;
        return line->f.phase == TRUENO_PHASE_PREFILL || !strcmp(text, "decode");
    case FEATURE:
        if (!*text) return true; /* unset */
        if (!read_number(&number, text)) return false;
        memcpy((char *)&line->f + column->at, &number, sizeof number);
        return true;
    }
    return false;
}

static int read_line(const struct reader *r, struct line *line, char *text)
{
    const char *path = r->c->path;
    size_t k = 0;
    line->f = (trueno_features)TRUENO_FEATURES_INIT;
    for (; k < r->n_columns && text; k++) {
        const char *field = next_field(&text);
        if (!read_field(line, r->columns[k], field))
            return cli_error("%s:%zu: column '%s' is '%s'", path, line->number, r->columns[k]->name,
                             field);
    }
    if (k != r->n_columns || text)
        return cli_error("%s:%zu: %s than %zu fields", path, line->number,
                         k < r->n_columns ? "fewer" : "more", r->n_columns);
    return CLI_OK;
}

/* ---------------------------------------------------------------------------- rows */

static void intern(struct train_ids *ids, size_t row, const char *text)
{
    uint32_t k = 0;
    while (k < ids->n && strcmp(ids->names[k], text) != 0) k++;
    if (k == ids->n) ids->names[ids->n++] = text;
    ids->of[row] = k;
}

const char *corpus_text(const struct corpus *c, enum train_by by, size_t i)
{
    return c->by[by].names[c->by[by].of[i]];
}

/* Numbers the configurations; first: [n] the first row of each. */
static void intern_config(struct corpus *c, size_t *first)
{
    uint32_t k = 0;
    for (; k < c->n_configs; k++) {
        bool same = true;
        for (int by = 0; by < BY_SESSION; by++)
            same &= c->by[by].of[first[k]] == c->by[by].of[c->n];
        if (same) break;
    }
    if (k == c->n_configs) first[c->n_configs++] = c->n;
    c->config[c->n] = k;
}

static void take_day(struct corpus *c, const char *utc)
{
    char day[11];
    snprintf(day, sizeof day, "%s", utc);
    if (!c->first[0] || strcmp(day, c->first) < 0) memcpy(c->first, day, sizeof day);
    if (strcmp(day, c->last) > 0) memcpy(c->last, day, sizeof day);
}

/* Takes a row over unless it is left out. */
static int take_line(const struct reader *r, const struct line *line, size_t *first)
{
    struct corpus *c = r->c;
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_regressor_predict(r->prior, &p, &line->f, &err))
        return cli_error("%s:%zu: %s", c->path, line->number, err.message);
    c->n_unkept += !line->kept;
    if (!line->kept) return CLI_OK;
    bool below = p.roofline_tps / line->tps - 1 > 1e-9;
    c->n_above += !below;
    if (!below) return CLI_OK;
    c->f[c->n] = line->f;
    c->tps[c->n] = line->tps;
    for (int by = 0; by < BY_COUNT; by++) intern(&c->by[by], c->n, line->texts[by]);
    intern_config(c, first);
    take_day(c, line->texts[UTC]);
    c->n++;
    return CLI_OK;
}

static bool ids_new(struct train_ids *ids, size_t rows)
{
    ids->names = calloc(rows + 1, sizeof *ids->names);
    ids->of = calloc(rows + 1, sizeof *ids->of);
    return ids->names && ids->of;
}

static int allocate(struct corpus *c, size_t **first, size_t rows)
{
    c->f = calloc(rows + 1, sizeof *c->f);
    c->tps = calloc(rows + 1, sizeof *c->tps);
    c->config = calloc(rows + 1, sizeof *c->config);
    *first = calloc(rows + 1, sizeof **first);
    bool ok = c->f && c->tps && c->config && *first;
    for (int by = 0; by < BY_COUNT; by++) ok &= ids_new(&c->by[by], rows);
    return ok ? CLI_OK : cli_error("no memory for %zu rows", rows);
}

/* ----------------------------------------------------------------------- the whole */

/* FNV-1a of vectors and rates, as trueno_tuner_train does it. */
static uint64_t hash_of(const struct corpus *c)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (size_t i = 0; i < c->n; i++) {
        float x[TRUENO_FEATURE_DIM] = {0};
        uint8_t bytes[sizeof x + sizeof *c->tps];
        trueno_features_to_vector(x, &c->f[i], NULL);
        memcpy(bytes, x, sizeof x);
        memcpy(bytes + sizeof x, &c->tps[i], sizeof *c->tps);
        for (size_t k = 0; k < sizeof bytes; k++) h = (h ^ bytes[k]) * UINT64_C(0x100000001b3);
    }
    return h;
}

/* Cores, levels, bandwidth; cut to its room. */
static void name_machine(struct corpus *c)
{
    double cores = 0, gbs = 0;
    int n = 0;
    for (size_t i = 0; i < c->n; i++) {
        cores = fmax(cores, c->f[i].sm_count);
        gbs = fmax(gbs, c->f[i].gpu_mem_bw_gbs);
    }
    char levels[TRUENO_MACHINE_ID_MAX] = "";
    for (uint32_t k = 0; k < c->by[BY_LEVEL].n && (size_t)n < sizeof levels; k++)
        n += snprintf(levels + n, sizeof levels - (size_t)n, "%s%s", k ? "/" : "",
                      c->by[BY_LEVEL].names[k]);
    n = snprintf(c->machine, sizeof c->machine, "%.0f cores, %.0f GB/s, ", cores, gbs);
    snprintf(c->machine + n, sizeof c->machine - (size_t)n, "%.*s", (int)sizeof c->machine - n - 1,
             levels);
}

int corpus_read(struct corpus *c, trueno_ctx *ctx, const char *path)
{
    trueno_error err = {TRUENO_OK, ""};
    struct reader r = {.c = c};
    size_t len, lines = 1, *first = NULL;
    *c = (struct corpus){.path = path};
    char *at = c->text = cli_read_file(path, &len);
    if (!c->text) return CLI_ERROR;
    if (strlen(c->text) != len) return cli_error("%s: a NUL inside", path);
    char *text = next_line(&at);
    if (!text) return cli_error("%s: empty", path);
    for (size_t i = 0; i < len; i++) lines += c->text[i] == '\n';
    trueno_status st = trueno_regressor_new(ctx, &r.prior, &err);
    int rc = st ? cli_failed("regressor", st, err.message) : read_header(&r, text);
    if (!rc) rc = allocate(c, &first, lines);
    struct line line = {.number = 1};
    while (!rc && (text = next_line(&at))) {
        line.number++;
        rc = read_line(&r, &line, text);
        if (!rc) rc = take_line(&r, &line, first);
    }
    if (!rc && c->n == 0) rc = cli_error("%s: no rows that can be used", path);
    trueno_regressor_free(r.prior);
    free(first);
    c->hash = rc ? 0 : hash_of(c);
    if (!rc) name_machine(c);
    return rc;
}

void corpus_free(struct corpus *c)
{
    for (int by = 0; by < BY_COUNT; by++) {
        free(c->by[by].names);
        free(c->by[by].of);
    }
    free(c->config);
    free(c->f);
    free(c->tps);
    free(c->text);
}
