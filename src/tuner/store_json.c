/* SPDX-License-Identifier: MIT */
/* A store as JSON. Numbers of 64 bits that are no counts are hexadecimal text, as not every reader
 * keeps them otherwise.
 *
 *   { "format": "trueno-tuner-store", "version": [1, 0],
 *     "machines": [ {"id", "hard", "quota", "utc", "generation",
 *                    "points": [ [threads, read_gbs, peak_dot, peak_fma] ]} ],
 *     "wisdom": [ {"machine": its id, "context": "0x...", "type", "n_cols", "rows", "cols",
 *                  "threads", "phase", "kind" (a product without it), "variant", "reference",
 *                  "version": "0x...", "log_ratio", "half_width", "mde", "blocks", "effort",
 *                  "state", "utc", "generation"} ],
 *     "sections": [ {"section": its name, "generation", "hex"} ] }
 *
 * Keys that are not listed are passed over. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gguf/cursor.h"
#include "trueno/quantize.h"
#include "tuner/store_impl.h"

enum { MAJOR = 1, MINOR = 0, MAX_DEPTH = 16, MAX_VALUES = 24 * TR_STORE_MAX_ENTRIES + 65536 };

static const char format_name[] = "trueno-tuner-store";
static const char *const phases[] = {NULL, "decode", "prefill"};
static const char *const kinds[] = {"product", "pass"};
static const char *const efforts[] = {"rapid", "normal", "patient"};
static const char *const states[] = {"provisional", "verified", "forgotten"};
static const char *const sections[] = {"roof", "posteriors", "conformal", "forest", "ledger"};
#define COUNT(names) (sizeof(names) / sizeof *(names))

/* --------------------------------------------------------------------- writing */

static json_t *pack_machine(const struct tr_store_machine *m)
{
    json_t *points = json_array();
    for (uint32_t i = 0; points && i < m->n_points; i++) {
        const struct tr_store_point *p = &m->points[i];
        json_array_append_new(points, json_pack("[Ifff]", (json_int_t)p->threads, p->read_gbs,
                                                p->peak_dot, p->peak_fma));
    }
    if (points && json_array_size(points) < m->n_points) { /* no memory for one of them */
        json_decref(points);
        points = NULL;
    }
    return json_pack("{ss ss sf sI sI so}", "id", m->id, "hard", m->hard, "quota", m->quota, "utc",
                     (json_int_t)m->utc, "generation", (json_int_t)m->generation, "points", points);
}

static json_t *pack_entry(const struct tr_store *s, const struct tr_wisdom *w)
{
    char context[24], version[24];
    snprintf(context, sizeof context, "0x%016llx", (unsigned long long)w->context);
    snprintf(version, sizeof version, "0x%016llx", (unsigned long long)w->version);
    return json_pack(
        "{ss ss ss sI sI sI sI ss ss ss ss ss sf sf sf sI ss ss sI sI}",       //
        "machine", tr_store_machine_at(s, w->machine)->id, "context", context, //
        "type", trueno_dtype_get_info(w->type)->name, "n_cols", (json_int_t)w->n_cols, "rows",
        (json_int_t)w->rows, "cols", (json_int_t)w->cols, "threads", (json_int_t)w->threads,
        "phase", phases[w->phase], "kind", kinds[w->kind], "variant", w->variant, "reference",
        w->reference, "version", version, "log_ratio", w->log_ratio, "half_width", w->half_width,
        "mde", w->mde, "blocks", (json_int_t)w->blocks, "effort", efforts[w->effort], "state",
        states[w->state], "utc", (json_int_t)w->utc, "generation", (json_int_t)w->generation);
}

static json_t *pack_section(trueno_ctx *ctx, const struct tr_store_blob *b, const char *name)
{
    static const char digits[] = "0123456789abcdef";
    char *hex = tr_alloc(ctx, 2 * b->n + 1);
    if (!hex) return NULL;
    for (size_t i = 0; i < b->n; i++) {
        hex[2 * i] = digits[((const uint8_t *)b->bytes)[i] >> 4];
        hex[2 * i + 1] = digits[((const uint8_t *)b->bytes)[i] & 15];
    }
    hex[2 * b->n] = '\0';
    json_t *o = json_pack("{ss sI ss}", "section", name, "generation", (json_int_t)b->generation,
                          "hex", hex);
    tr_free(ctx, hex);
    return o;
}

/* Takes `item` over. False: no memory. */
static bool append(json_t *array, json_t *item)
{
    return json_array_append_new(array, item) == 0;
}

static bool pack_lists(json_t *root, const struct tr_store *s, const struct tr_store_order *order)
{
    json_t *machines = json_object_get(root, "machines"), *wisdom = json_object_get(root, "wisdom"),
           *blobs = json_object_get(root, "sections");
    for (size_t i = 0; i < tr_store_n_machines(s); i++)
        if (!append(machines, pack_machine(order->machines[i]))) return false;
    for (size_t i = 0; i < tr_store_n_entries(s); i++)
        if (!append(wisdom, pack_entry(s, order->rows[i].w))) return false;
    for (size_t i = 0; i < COUNT(sections); i++)
        if (s->blobs[i].bytes && !append(blobs, pack_section(s->ctx, &s->blobs[i], sections[i])))
            return false;
    return true;
}

trueno_status tr_store_to_json(const struct tr_store *s, char *buf, size_t cap, size_t *len,
                               trueno_error *err)
{
    const size_t flags = JSON_INDENT(1) | JSON_PRESERVE_ORDER;
    struct tr_arena arena = {.ctx = s->ctx};
    struct tr_store_order order;
    *len = 0;
    json_t *root =
        json_pack("{ss s[II] s[] s[] s[]}", "format", format_name, "version", (json_int_t)MAJOR,
                  (json_int_t)MINOR, "machines", "wisdom", "sections");
    const bool made = root && tr_store_sort(&order, &arena, s) && pack_lists(root, s, &order);
    const size_t n = made ? json_dumpb(root, NULL, 0, flags) : 0;
    trueno_status status = TRUENO_OK;
    if (n == 0)
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory for JSON of %zu entries",
                         tr_store_n_entries(s));
    else if (n > TR_STORE_MAX_JSON)
        status = tr_fail(err, TRUENO_ERR_TOO_LARGE, "store: JSON of %zu bytes, the limit is %d", n,
                         TR_STORE_MAX_JSON);
    else
        *len = n;
    if (status == TRUENO_OK && n <= cap) json_dumpb(root, buf, cap, flags);
    json_decref(root);
    tr_arena_free(&arena);
    return status;
}

/* --------------------------------------------------------------------- reading */

/* Deepest nesting and a bound of the number of values, before anything is built: jansson spends
 * some hundred bytes on a value of two. */
static void measure(const char *text, size_t len, size_t *depth, size_t *values)
{
    size_t now = 0;
    bool inside = false;
    *depth = *values = 0;
    for (size_t i = 0; i < len; i++) {
        const char c = text[i];
        if (inside && c == '\\') i++;
        if (c == '"') inside = !inside;
        if (inside) continue;
        if (c == '[' || c == '{') now++;
        if ((c == ']' || c == '}') && now > 0) now--;
        if (c == '[' || c == '{' || c == ',') ++*values;
        if (now > *depth) *depth = now;
    }
}

/* An object being read. What is wrong with it is collected: of a wrong shape, too long, or out of
 * range. */
struct object {
    const json_t *o;
    bool misshapen, too_long, outside;
};

static const char *take_text(struct object *r, const char *key)
{
    const char *text = json_string_value(json_object_get(r->o, key));
    if (!text) r->misshapen = true;
    return text ? text : "";
}

static void take_name(char *to, struct object *r, const char *key, size_t cap)
{
    const char *text = take_text(r, key);
    const size_t n = strlen(text);
    if (n >= cap)
        r->too_long = true;
    else
        memcpy(to, text, n + 1);
}

static double take_real(struct object *r, const char *key)
{
    const json_t *value = json_object_get(r->o, key);
    if (!json_is_number(value)) r->misshapen = true;
    return json_number_value(value);
}

static int64_t integer_of(struct object *r, const json_t *value, int64_t max)
{
    if (!json_is_integer(value)) r->misshapen = true;
    const json_int_t x = json_integer_value(value);
    if (x >= 0 && x <= max) return x;
    r->outside = true;
    return 0;
}

static int64_t take_integer(struct object *r, const char *key, int64_t max)
{
    return integer_of(r, json_object_get(r->o, key), max);
}

static uint32_t take_u32(struct object *r, const char *key)
{
    return (uint32_t)take_integer(r, key, UINT32_MAX);
}

/* Index of the word in a list. */
static uint32_t take_word(struct object *r, const char *key, const char *const *words, size_t n)
{
    const char *text = take_text(r, key);
    for (size_t i = 0; i < n; i++)
        if (words[i] && strcmp(words[i], text) == 0) return (uint32_t)i;
    r->outside = true;
    return 0;
}

/* Value of a hexadecimal digit; -1: none. */
static int digit_of(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found = c ? strchr(digits, c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c) : NULL;
    return found ? (int)(found - digits) : -1;
}

static uint64_t take_hex(struct object *r, const char *key)
{
    const char *text = take_text(r, key);
    uint64_t x = 0;
    bool good = strlen(text) == 18 && text[0] == '0' && text[1] == 'x';
    for (size_t i = 2; good && i < 18; i++) {
        const int d = digit_of(text[i]);
        if (d < 0) good = false;
        x = x << 4 | (uint64_t)(d & 15);
    }
    if (!good) r->misshapen = true;
    return x;
}

static void take_points(struct tr_store_machine *m, struct object *r)
{
    const json_t *list = json_object_get(r->o, "points");
    const size_t n = json_array_size(list);
    if (!json_is_array(list)) r->misshapen = true;
    if (n > TR_STORE_POINTS) r->too_long = true;
    for (size_t i = 0; i < n && i < TR_STORE_POINTS; i++) {
        const json_t *row = json_array_get(list, i);
        double x[3];
        for (size_t k = 0; k < 3; k++) {
            if (!json_is_number(json_array_get(row, k + 1))) r->misshapen = true;
            x[k] = json_number_value(json_array_get(row, k + 1));
        }
        const int64_t threads = integer_of(r, json_array_get(row, 0), UINT32_MAX);
        m->points[i] = (struct tr_store_point){(uint32_t)threads, x[0], x[1], x[2]};
        m->n_points = (uint32_t)i + 1;
    }
}

struct reading {
    struct tr_store *s;
    struct tr_store_report *report;
    trueno_error *err;
};

static trueno_status no_object(const struct reading *r, const char *what, size_t index)
{
    return tr_fail(r->err, TRUENO_ERR_FORMAT,
                   "store: %s %zu lacks a field, or one is of a wrong type", what, index);
}

static trueno_status too_long(const struct reading *r, const char *what, size_t index)
{
    return tr_fail(r->err, TRUENO_ERR_TOO_LARGE, "store: %s %zu has a text or list above the limit",
                   what, index);
}

static trueno_status read_machine(struct reading *r, const json_t *o, size_t index)
{
    struct object from = {.o = o};
    struct tr_store_machine m = {.n_points = 0};
    uint32_t where;
    take_name(m.id, &from, "id", sizeof m.id);
    take_name(m.hard, &from, "hard", sizeof m.hard);
    m.quota = take_real(&from, "quota");
    m.utc = take_integer(&from, "utc", INT64_MAX);
    m.generation = take_u32(&from, "generation");
    take_points(&m, &from);
    r->report->n_machines++;
    if (from.misshapen) return no_object(r, "machine", index);
    if (from.too_long) return too_long(r, "machine", index);
    if (!from.outside && m.generation > 0 && !tr_machine_problem(&m))
        return tr_store_join_machine(r->s, &where, &m, r->report, r->err);
    r->report->bad_machines++;
    return TRUENO_OK;
}

static trueno_status read_entry(struct reading *r, const json_t *o, size_t index)
{
    struct object from = {.o = o};
    struct tr_wisdom w = {.rows = (uint64_t)take_integer(&from, "rows", INT64_MAX)};
    if (!tr_store_find_machine(r->s, &w.machine, take_text(&from, "machine"))) from.outside = true;
    w.context = take_hex(&from, "context");
    if (trueno_dtype_from_name(&w.type, take_text(&from, "type")) != TRUENO_OK) from.outside = true;
    w.n_cols = take_u32(&from, "n_cols");
    w.cols = (uint64_t)take_integer(&from, "cols", INT64_MAX);
    w.threads = take_u32(&from, "threads");
    w.phase = (trueno_phase)take_word(&from, "phase", phases, COUNT(phases));
    if (json_object_get(o, "kind"))
        w.kind = (trueno_problem_kind)take_word(&from, "kind", kinds, COUNT(kinds));
    take_name(w.variant, &from, "variant", sizeof w.variant);
    take_name(w.reference, &from, "reference", sizeof w.reference);
    w.version = take_hex(&from, "version");
    w.log_ratio = take_real(&from, "log_ratio");
    w.half_width = take_real(&from, "half_width");
    w.mde = take_real(&from, "mde");
    w.blocks = take_u32(&from, "blocks");
    w.effort = (uint8_t)take_word(&from, "effort", efforts, COUNT(efforts));
    w.state = (uint8_t)take_word(&from, "state", states, COUNT(states));
    w.utc = take_integer(&from, "utc", INT64_MAX);
    w.generation = take_u32(&from, "generation");
    r->report->n_entries++;
    if (from.misshapen) return no_object(r, "wisdom", index);
    if (from.too_long) return too_long(r, "wisdom", index);
    if (!from.outside && w.generation > 0 && !tr_wisdom_problem(&w))
        return tr_store_join(r->s, &w, r->report, r->err);
    r->report->bad_entries++;
    return TRUENO_OK;
}

/* Pairs of digits into bytes. */
static bool unhex(uint8_t *to, const char *hex, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const int high = digit_of(hex[2 * i]), low = digit_of(hex[2 * i + 1]);
        if (high < 0 || low < 0) return false;
        to[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}

static trueno_status read_section(struct reading *r, const json_t *o, size_t index)
{
    struct object from = {.o = o};
    const uint32_t id = take_word(&from, "section", sections, COUNT(sections));
    const bool unknown = from.outside;
    const uint32_t generation = take_u32(&from, "generation");
    const char *hex = take_text(&from, "hex");
    const size_t n = strlen(hex) / 2;
    if (from.misshapen || strlen(hex) % 2) return no_object(r, "section", index);
    if (unknown)
        r->report->unknown_sections++;
    else if (generation == 0 || generation > TR_STORE_MAX_GENERATION)
        r->report->bad_sections++;
    if (unknown || generation == 0 || generation > TR_STORE_MAX_GENERATION) return TRUENO_OK;
    if (n > TR_STORE_MAX_BYTES) return too_long(r, "section", index);
    void *bytes = tr_alloc(r->s->ctx, n);
    if (!bytes)
        return tr_fail(r->err, TRUENO_ERR_NO_MEMORY, "store: no memory for a section of %zu", n);
    if (!unhex(bytes, hex, n)) {
        tr_free(r->s->ctx, bytes);
        return no_object(r, "section", index);
    }
    tr_store_join_blob(r->s, (enum tr_section)(TR_SECTION_FIRST + (int)id),
                       (struct tr_store_blob){bytes, n, generation});
    return TRUENO_OK;
}

static trueno_status read_list(struct reading *r, const json_t *root, const char *key, size_t limit,
                               trueno_status (*read)(struct reading *, const json_t *, size_t))
{
    const json_t *list = json_object_get(root, key);
    const size_t n = json_array_size(list);
    if (!json_is_array(list))
        return tr_fail(r->err, TRUENO_ERR_FORMAT, "store: '%s' is not a list", key);
    if (n > limit)
        return tr_fail(r->err, TRUENO_ERR_TOO_LARGE,
                       "store: '%s' has %zu entries, the limit is %zu", key, n, limit);
    for (size_t i = 0; i < n; i++) TR_TRY(read(r, json_array_get(list, i), i));
    return TRUENO_OK;
}

static trueno_status read_root(struct reading *r, const json_t *root)
{
    const char *format = json_string_value(json_object_get(root, "format"));
    const json_t *major = json_array_get(json_object_get(root, "version"), 0);
    if (!format || strcmp(format, format_name) != 0 || !json_is_integer(major) ||
        json_integer_value(major) < 1)
        return tr_fail(r->err, TRUENO_ERR_FORMAT, "store: the JSON is not of format '%s'",
                       format_name);
    if (json_integer_value(major) > MAJOR)
        return tr_fail(r->err, TRUENO_ERR_VERSION, "store: of version %lld, this library reads %d",
                       (long long)json_integer_value(major), MAJOR);
    TR_TRY(read_list(r, root, "machines", TR_STORE_MAX_MACHINES, read_machine));
    TR_TRY(read_list(r, root, "wisdom", TR_STORE_MAX_ENTRIES, read_entry));
    return read_list(r, root, "sections", COUNT(sections) + 32, read_section);
}

static trueno_status parse(json_t **root, const char *text, size_t len, trueno_error *err)
{
    json_error_t why;
    size_t depth, values;
    *root = NULL;
    if (len > TR_STORE_MAX_JSON)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "store: JSON of %zu bytes, the limit is %d", len,
                       TR_STORE_MAX_JSON);
    measure(text, len, &depth, &values);
    if (depth > MAX_DEPTH)
        return tr_fail(err, TRUENO_ERR_FORMAT, "store: JSON %zu deep, the limit is %d", depth,
                       MAX_DEPTH);
    if (values > MAX_VALUES)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "store: JSON of %zu values, the limit is %d",
                       values, MAX_VALUES);
    *root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &why);
    if (*root) return TRUENO_OK;
    const bool memory = json_error_code(&why) == json_error_out_of_memory;
    return tr_fail(err, memory ? TRUENO_ERR_NO_MEMORY : TRUENO_ERR_FORMAT,
                   "store: JSON, line %d: %s", why.line, why.text);
}

trueno_status tr_store_from_json(trueno_ctx *ctx, struct tr_store **out, const char *text,
                                 size_t len, struct tr_store_report *report, trueno_error *err)
{
    static const struct tr_store_report none;
    struct tr_store_report counts = report ? *report : none;
    struct reading r = {NULL, &counts, err};
    json_t *root;
    *out = NULL;
    TR_TRY(parse(&root, text, len, err));
    trueno_status status = tr_store_new(&r.s, ctx, err);
    if (status == TRUENO_OK) status = read_root(&r, root);
    json_decref(root);
    if (status != TRUENO_OK) {
        tr_store_free(r.s);
        return status;
    }
    if (report) *report = counts;
    *out = r.s;
    return TRUENO_OK;
}
