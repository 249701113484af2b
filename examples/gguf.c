/* SPDX-License-Identifier: MIT */
/* trueno-gguf: shows what a GGUF file holds, as text or as JSON. Bytes of the file reach the
 * terminal only as printable text: whatever else is in a string is escaped. */
#include "cli_util.h"

#include "trueno.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is shown of long values without --full. */
enum { CUT_BYTES = 60, CUT_ELEMENTS = 6 };

struct settings {
    const char *path;
    bool json, full, metadata_only;
};

/* Tensors of one type together. */
struct total {
    uint64_t tensors, weights, bytes;
};

static const char *const type_names[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};

/* --------------------------------------------------------------------------- escaping */

/* Length of the UTF-8 sequence at `s`, 0 if there is none: overlong forms, surrogates and what is
 * above U+10FFFF are none. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
    size_t len = s[0] < 0x80 ? 1 : s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    if (s[0] < 0x80) return 1;
    if (s[0] < 0xc2 || s[0] > 0xf4 || len > n) return 0;
    for (size_t i = 1; i < len; i++)
        if ((s[i] & 0xc0) != 0x80) return 0;
    if (s[0] == 0xe0 && s[1] < 0xa0) return 0;
    if (s[0] == 0xed && s[1] > 0x9f) return 0;
    if (s[0] == 0xf0 && s[1] < 0x90) return 0;
    if (s[0] == 0xf4 && s[1] > 0x8f) return 0;
    return len;
}

/* U+0080 to U+009F are control codes too. */
static bool is_control(const unsigned char *s, size_t len)
{
    return (len == 1 && (s[0] < 0x20 || s[0] == 0x7f)) || (len == 2 && s[0] == 0xc2 && s[1] < 0xa0);
}

static void print_escaped(const unsigned char *s, size_t len)
{
    if (len == 1 && s[0] == '\n')
        fputs("\\n", stdout);
    else if (len == 1 && s[0] == '\t')
        fputs("\\t", stdout);
    else
        for (size_t i = 0; i < len; i++) printf("\\x%02x", s[i]);
}

static void print_string(trueno_str text, bool full)
{
    const unsigned char *s = (const unsigned char *)text.data;
    size_t i = 0;
    putchar('"');
    while (i < text.len && (full || i < CUT_BYTES)) {
        size_t len = utf8_len(s + i, text.len - i);
        if (len == 0 || is_control(s + i, len)) {
            print_escaped(s + i, len ? len : 1);
        } else {
            if (s[i] == '"' || s[i] == '\\') putchar('\\');
            fwrite(s + i, 1, len, stdout);
        }
        i += len ? len : 1;
    }
    putchar('"');
    if (i < text.len) printf("... (%zu bytes)", text.len);
}

/* ------------------------------------------------------------------------------- text */

static bool is_signed(trueno_gguf_type type)
{
    return type == TRUENO_GGUF_I8 || type == TRUENO_GGUF_I16 || type == TRUENO_GGUF_I32 ||
           type == TRUENO_GGUF_I64;
}

static void print_element(const trueno_gguf *g, size_t kv, uint64_t i, trueno_gguf_type type,
                          bool full)
{
    uint64_t u = 0;
    int64_t s = 0;
    double f = 0;
    bool b = false;
    trueno_str text = {"", 0};
    if (type == TRUENO_GGUF_STRING) {
        trueno_gguf_elem_str(g, kv, i, &text);
        print_string(text, full);
    } else if (type == TRUENO_GGUF_BOOL) {
        trueno_gguf_elem_bool(g, kv, i, &b);
        fputs(b ? "true" : "false", stdout);
    } else if (type == TRUENO_GGUF_F32 || type == TRUENO_GGUF_F64) {
        trueno_gguf_elem_f64(g, kv, i, &f);
        printf("%.*g", type == TRUENO_GGUF_F32 ? 9 : 17, f);
    } else if (is_signed(type)) {
        trueno_gguf_elem_i64(g, kv, i, &s);
        printf("%" PRId64, s);
    } else {
        trueno_gguf_elem_u64(g, kv, i, &u);
        printf("%" PRIu64, u);
    }
}

static uint64_t shown_elements(const trueno_gguf_kv *kv, bool full)
{
    return full || kv->count < CUT_ELEMENTS ? kv->count : CUT_ELEMENTS;
}

static void print_pair(const trueno_gguf *g, size_t index, bool full)
{
    trueno_gguf_kv kv;
    char type[48];
    if (trueno_gguf_kv_at(g, index, &kv)) return;
    if (kv.type == TRUENO_GGUF_ARRAY)
        snprintf(type, sizeof(type), "%s[%" PRIu64 "]", type_names[kv.elem_type], kv.count);
    else
        snprintf(type, sizeof(type), "%s", type_names[kv.type]);
    /* keys are printable ASCII: the library has checked that */
    printf("  %-44.*s  %-16s ", (int)kv.key.len, kv.key.data, type);
    if (kv.type != TRUENO_GGUF_ARRAY) {
        print_element(g, index, 0, kv.type, full);
        putchar('\n');
        return;
    }
    uint64_t n = shown_elements(&kv, full);
    for (uint64_t i = 0; i < n; i++) {
        if (i) fputs(", ", stdout);
        print_element(g, index, i, kv.elem_type, full);
    }
    puts(n < kv.count ? ", ..." : "");
}

static void shape_text(char *out, size_t size, const trueno_gguf_tensor *t)
{
    size_t used = 0;
    snprintf(out, size, "1");
    for (uint32_t i = 0; i < t->n_dims && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%" PRIu64, i ? " x " : "", t->ne[i]);
}

static void print_tensor(const trueno_gguf *g, size_t index)
{
    trueno_gguf_tensor t;
    char shape[96];
    if (trueno_gguf_tensor_at(g, index, &t)) return;
    shape_text(shape, sizeof(shape), &t);
    printf("  %5zu  %-8s %-20s %12" PRIu64 " %14" PRIu64 "  ", index,
           trueno_dtype_get_info(t.type)->name, shape, t.size_bytes, t.file_offset);
    if (trueno_gguf_n_shards(g) > 1) printf("%5" PRIu32 "  ", t.shard);
    print_string(t.name, true);
    putchar('\n');
}

static void add_up(const trueno_gguf *g, struct total totals[TRUENO_TYPE_COUNT])
{
    memset(totals, 0, TRUENO_TYPE_COUNT * sizeof(*totals));
    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++) {
        trueno_gguf_tensor t;
        if (trueno_gguf_tensor_at(g, i, &t)) continue;
        const trueno_dtype_info *info = trueno_dtype_get_info(t.type);
        totals[t.type].tensors++;
        totals[t.type].weights += t.size_bytes / info->block_bytes * info->block;
        totals[t.type].bytes += t.size_bytes;
    }
}

static void print_totals(const trueno_gguf *g)
{
    struct total totals[TRUENO_TYPE_COUNT], sum = {0, 0, 0};
    add_up(g, totals);
    puts("\nTotals by type:\n  type      tensors        weights          bytes");
    for (int i = 0; i < TRUENO_TYPE_COUNT; i++) {
        if (totals[i].tensors == 0) continue;
        printf("  %-8s %8" PRIu64 " %14" PRIu64 " %14" PRIu64 "\n",
               trueno_dtype_get_info((trueno_dtype)i)->name, totals[i].tensors, totals[i].weights,
               totals[i].bytes);
        sum.tensors += totals[i].tensors;
        sum.weights += totals[i].weights;
        sum.bytes += totals[i].bytes;
    }
    printf("  %-8s %8" PRIu64 " %14" PRIu64 " %14" PRIu64, "all", sum.tensors, sum.weights,
           sum.bytes);
    if (sum.weights)
        printf("  (%.2f bits per weight)", 8.0 * (double)sum.bytes / (double)sum.weights);
    putchar('\n');
}

static int print_text(const trueno_gguf *g, const struct settings *s)
{
    size_t n_kv = trueno_gguf_n_kv(g), n_tensors = trueno_gguf_n_tensors(g);
    size_t n_shards = trueno_gguf_n_shards(g);
    printf("GGUF version %" PRIu32 ", %" PRIu64 " bytes in %zu file%s, alignment %" PRIu64 "\n",
           trueno_gguf_version(g), trueno_gguf_size_bytes(g), n_shards, n_shards > 1 ? "s" : "",
           trueno_gguf_alignment(g));
    printf("\nMetadata, %zu pairs:\n", n_kv);
    for (size_t i = 0; i < n_kv; i++) print_pair(g, i, s->full);
    printf("\nTensors, %zu (innermost dimension first, offset in its file):\n", n_tensors);
    if (n_tensors)
        printf("      #  type     shape                       bytes         offset  %sname\n",
               n_shards > 1 ? "shard  " : "");
    for (size_t i = 0; i < n_tensors; i++) print_tensor(g, i);
    if (n_tensors) print_totals(g);
    if (fflush(stdout) || ferror(stdout)) return cli_error("cannot write to standard output");
    return CLI_OK;
}

/* ------------------------------------------------------------------------------- JSON */

/* Bytes that are not UTF-8 become \xNN, for JSON has no other way to hold them. */
static json_t *json_text(trueno_str text)
{
    const unsigned char *s = (const unsigned char *)text.data;
    if (text.len > (SIZE_MAX - 1) / 4) return NULL;
    char *out = malloc(4 * text.len + 1);
    size_t used = 0;
    if (!out) return NULL;
    for (size_t i = 0; i < text.len;) {
        size_t len = utf8_len(s + i, text.len - i);
        if (len == 0) used += (size_t)sprintf(out + used, "\\x%02x", s[i]);
        memcpy(out + used, s + i, len);
        used += len;
        i += len ? len : 1;
    }
    json_t *json = json_stringn(out, used);
    free(out);
    return json;
}

/* JSON numbers end at 2^63 - 1 in jansson, and know no NaN: such values become strings. */
static json_t *json_u64(uint64_t x)
{
    char text[24];
    if (x <= INT64_MAX) return json_integer((json_int_t)x);
    snprintf(text, sizeof(text), "%" PRIu64, x);
    return json_string(text);
}

static json_t *json_f64(double x)
{
    return isfinite(x) ? json_real(x) : json_string(isnan(x) ? "nan" : x > 0 ? "inf" : "-inf");
}

static json_t *json_element(const trueno_gguf *g, size_t kv, uint64_t i, trueno_gguf_type type)
{
    uint64_t u = 0;
    int64_t s = 0;
    double f = 0;
    bool b = false;
    trueno_str text = {"", 0};
    if (type == TRUENO_GGUF_STRING) {
        trueno_gguf_elem_str(g, kv, i, &text);
        return json_text(text);
    }
    if (type == TRUENO_GGUF_BOOL) {
        trueno_gguf_elem_bool(g, kv, i, &b);
        return json_boolean(b);
    }
    if (type == TRUENO_GGUF_F32 || type == TRUENO_GGUF_F64) {
        trueno_gguf_elem_f64(g, kv, i, &f);
        return json_f64(f);
    }
    if (is_signed(type)) {
        trueno_gguf_elem_i64(g, kv, i, &s);
        return json_integer(s);
    }
    trueno_gguf_elem_u64(g, kv, i, &u);
    return json_u64(u);
}

/* An array that lacks an element for want of memory becomes NULL, and so does what holds it. */
static void append(json_t **array, json_t *item)
{
    if (json_array_append_new(*array, item) == 0) return;
    json_decref(*array);
    *array = NULL;
}

static json_t *json_pair(const trueno_gguf *g, size_t index, bool full)
{
    trueno_gguf_kv kv;
    if (trueno_gguf_kv_at(g, index, &kv)) return NULL;
    json_t *value;
    if (kv.type == TRUENO_GGUF_ARRAY) {
        value = json_array();
        for (uint64_t i = 0; i < shown_elements(&kv, full); i++)
            append(&value, json_element(g, index, i, kv.elem_type));
    } else {
        value = json_element(g, index, 0, kv.type);
    }
    json_t *pair = json_pack("{s:o, s:s, s:o}", "key", json_text(kv.key), "type",
                             type_names[kv.type], "value", value);
    if (kv.type != TRUENO_GGUF_ARRAY) return pair;
    json_object_set_new(pair, "element_type", json_string(type_names[kv.elem_type]));
    json_object_set_new(pair, "count", json_u64(kv.count));
    json_object_set_new(pair, "complete", json_boolean(shown_elements(&kv, full) == kv.count));
    return pair;
}

static json_t *json_tensor(const trueno_gguf *g, size_t index)
{
    trueno_gguf_tensor t;
    if (trueno_gguf_tensor_at(g, index, &t)) return NULL;
    json_t *shape = json_array();
    for (uint32_t i = 0; i < t.n_dims; i++) append(&shape, json_u64(t.ne[i]));
    return json_pack("{s:o, s:s, s:o, s:o, s:o, s:i}", "name", json_text(t.name), "type",
                     trueno_dtype_get_info(t.type)->name, "shape", shape, "bytes",
                     json_u64(t.size_bytes), "offset", json_u64(t.file_offset), "shard",
                     (int)t.shard);
}

static json_t *json_totals(const trueno_gguf *g)
{
    struct total totals[TRUENO_TYPE_COUNT];
    json_t *all = json_object();
    add_up(g, totals);
    for (int i = 0; i < TRUENO_TYPE_COUNT; i++)
        if (totals[i].tensors)
            json_object_set_new(all, trueno_dtype_get_info((trueno_dtype)i)->name,
                                json_pack("{s:o, s:o, s:o}", "tensors", json_u64(totals[i].tensors),
                                          "weights", json_u64(totals[i].weights), "bytes",
                                          json_u64(totals[i].bytes)));
    return all;
}

static int print_json(const trueno_gguf *g, const struct settings *s)
{
    json_t *pairs = json_array(), *tensors = json_array();
    for (size_t i = 0; i < trueno_gguf_n_kv(g); i++) append(&pairs, json_pair(g, i, s->full));
    for (size_t i = 0; i < trueno_gguf_n_tensors(g); i++) append(&tensors, json_tensor(g, i));
    json_t *root = json_pack(
        "{s:o, s:I, s:o, s:I, s:o, s:o, s:o, s:o}", "path", cli_json_text(s->path), "version",
        (json_int_t)trueno_gguf_version(g), "bytes", json_u64(trueno_gguf_size_bytes(g)), "shards",
        (json_int_t)trueno_gguf_n_shards(g), "alignment", json_u64(trueno_gguf_alignment(g)),
        "metadata", pairs, "tensors", tensors, "totals", json_totals(g));
    return cli_json_write(root, "-");
}

/* ----------------------------------------------------------------------- command line */

static int parse(struct settings *s, int argc, char **argv)
{
    const struct cli_option options[] = {
        {"--json", NULL, CLI_FLAG, &s->json, NULL, "as JSON"},
        {"--full", NULL, CLI_FLAG, &s->full, NULL, "all elements of arrays, whole strings"},
        {"--metadata", NULL, CLI_FLAG, &s->metadata_only, NULL,
         "do not ask for the tensors' data to be there"},
    };
    const struct cli_program program = {"FILE [OPTIONS]",
                                        "Shows what a GGUF file holds: version, metadata, tensors. "
                                        "The file is checked as a whole;\n"
                                        "of a split file, name the first part.",
                                        options, sizeof(options) / sizeof(options[0])};
    int kept = 1;
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] == '-')
            argv[kept++] = argv[i];
        else if (s->path)
            return cli_usage("'%s' is too much", argv[i]);
        else
            s->path = argv[i];
    }
    int rc = cli_parse(&program, kept, argv);
    if (rc == CLI_GO_ON && !s->path) return cli_usage("which FILE?");
    return rc;
}

int main(int argc, char **argv)
{
    struct settings s = {NULL, false, false, false};
    int rc = parse(&s, argc, argv);
    if (rc != CLI_GO_ON) return rc;
    trueno_ctx *ctx = cli_ctx_new();
    if (!ctx) return CLI_ERROR;
    trueno_gguf *g = NULL;
    trueno_error err = {TRUENO_OK, ""};
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    opt.metadata_only = s.metadata_only;
    trueno_status status = trueno_gguf_open(ctx, &g, s.path, &opt, &err);
    if (status)
        rc = cli_error("%s: %s", trueno_status_str(status), err.message);
    else
        rc = s.json ? print_json(g, &s) : print_text(g, &s);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    return rc;
}
