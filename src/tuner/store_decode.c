/* SPDX-License-Identifier: MIT */
/* A store from bytes that nobody vouches for (tuner/store_format.h). */
#include <string.h>

#include "base/error.h"
#include "gguf/cursor.h"
#include "tuner/store_format.h"

enum {
    MAX_SECTIONS = 32,
    MAX_NAMES = 2 * TR_STORE_MAX_ENTRIES,
    MAX_RECORD = 4096,
    NONE = TR_STORE_MAX_MACHINES /* number of a machine that was dropped */
};

/* A section, inside the bytes. */
struct part {
    const uint8_t *at; /* NULL: not there */
    size_t n;
};

struct reading {
    trueno_ctx *ctx;
    struct tr_store *s;
    const uint8_t *bytes;
    size_t len, head; /* of all, and of header and section table */
    struct part parts[TR_TRW_ID_END];
    uint32_t n_machines, machine_bytes, n_entries, entry_bytes, n_names;
    uint32_t machines[TR_STORE_MAX_MACHINES]; /* of the file's: where they are in the store */
    const uint8_t **names;                    /* [n_names] length and bytes */
    struct tr_store_report *report;
    trueno_error *err;
};

static double get_double(const uint8_t *at)
{
    const uint64_t bits = tr_trw_get64(at);
    double x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* All but the names. */
static void decode_wisdom(struct tr_wisdom *w, const uint8_t *in)
{
    *w = (struct tr_wisdom){
        .machine = tr_trw_get32(in),
        .context = tr_trw_get64(in + 16),
        .type = (trueno_dtype)tr_trw_get32(in + 12),
        .n_cols = tr_trw_get32(in + 40),
        .rows = tr_trw_get64(in + 24),
        .cols = tr_trw_get64(in + 32),
        .threads = tr_trw_get32(in + 44),
        .phase = (trueno_phase)in[96],
        .kind = (trueno_problem_kind)in[99],
        .version = tr_trw_get64(in + 48),
        .log_ratio = get_double(in + 56),
        .half_width = get_double(in + 64),
        .mde = get_double(in + 72),
        .blocks = tr_trw_get32(in + 88),
        .effort = in[97],
        .state = in[98],
        .utc = (int64_t)tr_trw_get64(in + 80),
        .generation = tr_trw_get32(in + 92),
    };
}

static void decode_machine(struct tr_store_machine *m, const uint8_t *in)
{
    memset(m, 0, sizeof *m);
    memcpy(m->id, in, sizeof m->id);
    memcpy(m->hard, in + 64, sizeof m->hard);
    m->quota = get_double(in + 320);
    m->utc = (int64_t)tr_trw_get64(in + 328);
    m->generation = tr_trw_get32(in + 336);
    m->n_points = tr_trw_get32(in + 340);
    for (uint32_t i = 0; i < m->n_points && i < TR_STORE_POINTS; i++) {
        const uint8_t *at = in + 344 + 32 * i;
        m->points[i].threads = tr_trw_get32(at);
        m->points[i].read_gbs = get_double(at + 8);
        m->points[i].peak_dot = get_double(at + 16);
        m->points[i].peak_fma = get_double(at + 24);
    }
}

/* ------------------------------------------------------------ header and sections */

static trueno_status corrupt(const struct reading *r, const char *what)
{
    return tr_fail(r->err, TRUENO_ERR_CORRUPT, "store: %s", what);
}

static trueno_status too_large(const struct reading *r, uint64_t n, int limit, const char *what)
{
    return tr_fail(r->err, TRUENO_ERR_TOO_LARGE, "store: %llu %s, the limit is %d",
                   (unsigned long long)n, what, limit);
}

static trueno_status truncated(const struct reading *r, uint64_t n)
{
    return tr_fail(r->err, TRUENO_ERR_TRUNCATED, "store: %zu bytes, it should have %llu", r->len,
                   (unsigned long long)n);
}

static trueno_status check_header(struct reading *r)
{
    if (r->len < TR_TRW_HEADER) return truncated(r, TR_TRW_HEADER);
    if (memcmp(r->bytes, TR_TRW_MAGIC, 8) != 0)
        return tr_fail(r->err, TRUENO_ERR_FORMAT, "store: it does not begin with %s", TR_TRW_MAGIC);
    const unsigned major = (unsigned)tr_load_le(r->bytes + 8, 2);
    if (major > TR_TRW_MAJOR)
        return tr_fail(r->err, TRUENO_ERR_VERSION, "store: of version %u, this library reads %d",
                       major, TR_TRW_MAJOR);
    if (major == 0) return corrupt(r, "version 0");
    if (r->len > TR_STORE_MAX_BYTES) return too_large(r, r->len, TR_STORE_MAX_BYTES, "bytes");
    const uint32_t head = tr_trw_get32(r->bytes + 12);
    if (head < TR_TRW_HEADER) return corrupt(r, "the header is too short");
    if (head > r->len) return truncated(r, head);
    if (tr_trw_header_crc(r->bytes, head) != tr_trw_get32(r->bytes + TR_TRW_CRC_AT))
        return corrupt(r, "the header has a wrong checksum");
    const uint64_t all = tr_trw_get64(r->bytes + 16);
    if (all > r->len) return truncated(r, all);
    if (all < r->len) return corrupt(r, "there are bytes after its end");
    const uint32_t n = tr_trw_get32(r->bytes + 24);
    if (n > MAX_SECTIONS) return too_large(r, n, MAX_SECTIONS, "sections");
    if (head - TR_TRW_HEADER < n * TR_TRW_SECTION) return corrupt(r, "the header is too short");
    r->head = head;
    return TRUENO_OK;
}

/* One row of the table: its place is looked at, its number decides the rest. */
static trueno_status check_section(struct reading *r, const uint8_t *row)
{
    const uint32_t id = tr_trw_get32(row);
    const uint64_t offset = tr_trw_get64(row + 8), n = tr_trw_get64(row + 16);
    const bool known = id >= 1 && id < TR_TRW_ID_END;
    const bool required = id <= TR_TRW_N_CORE || (tr_trw_get32(row + 4) & TR_TRW_REQUIRED);
    if (n > r->len || offset > r->len - n || offset < r->head)
        return corrupt(r, "a section is outside");
    if (!known && (required || id == 0))
        return tr_fail(r->err, TRUENO_ERR_VERSION, "store: it needs section %u, which is unknown",
                       id);
    if (!known) {
        r->report->unknown_sections++;
        return TRUENO_OK;
    }
    if (r->parts[id].at) return corrupt(r, "a section is there twice");
    const uint8_t *at = r->bytes + offset;
    const bool sound = tr_trw_crc(0, at, (size_t)n) == tr_trw_get32(row + 24);
    if (!sound && required) return corrupt(r, "a required section has a wrong checksum");
    r->parts[id] = (struct part){at, (size_t)n};
    if (sound && (id <= TR_TRW_N_CORE || n >= TR_TRW_BLOB_HEAD)) return TRUENO_OK;
    r->report->bad_sections++;
    r->parts[id].n = 0; /* no section of blobs is that short */
    return TRUENO_OK;
}

static bool overlap(const uint8_t *a, const uint8_t *b)
{
    const uint64_t at_a = tr_trw_get64(a + 8), n_a = tr_trw_get64(a + 16);
    const uint64_t at_b = tr_trw_get64(b + 8), n_b = tr_trw_get64(b + 16);
    return n_a > 0 && n_b > 0 && at_a < at_b + n_b && at_b < at_a + n_a;
}

static trueno_status check_sections(struct reading *r)
{
    const uint32_t n = tr_trw_get32(r->bytes + 24);
    const uint8_t *rows = r->bytes + TR_TRW_HEADER;
    for (uint32_t i = 0; i < n; i++) {
        TR_TRY(check_section(r, rows + i * TR_TRW_SECTION));
        for (uint32_t j = 0; j < i; j++) /* both are inside: their ends do not wrap */
            if (overlap(rows + i * TR_TRW_SECTION, rows + j * TR_TRW_SECTION))
                return corrupt(r, "sections overlap");
    }
    for (int id = 1; id <= TR_TRW_N_CORE; id++)
        if (!r->parts[id].at) return corrupt(r, "a required section is missing");
    return TRUENO_OK;
}

/* The tables' sizes: all limits, before anything is allocated. */
static trueno_status check_meta(struct reading *r)
{
    const struct part *meta = &r->parts[TR_TRW_ID_META];
    if (meta->n < TR_TRW_META) return corrupt(r, "META is too short");
    r->n_machines = tr_trw_get32(meta->at);
    r->machine_bytes = tr_trw_get32(meta->at + 4);
    r->n_entries = tr_trw_get32(meta->at + 8);
    r->entry_bytes = tr_trw_get32(meta->at + 12);
    r->n_names = tr_trw_get32(meta->at + 16);
    if (r->n_machines > TR_STORE_MAX_MACHINES)
        return too_large(r, r->n_machines, TR_STORE_MAX_MACHINES, "machines");
    if (r->n_entries > TR_STORE_MAX_ENTRIES)
        return too_large(r, r->n_entries, TR_STORE_MAX_ENTRIES, "entries");
    if (r->n_names > MAX_NAMES) return too_large(r, r->n_names, MAX_NAMES, "names");
    if (r->machine_bytes < TR_MACHINE_BYTES || r->machine_bytes > MAX_RECORD ||
        r->entry_bytes < TR_WISDOM_BYTES || r->entry_bytes > MAX_RECORD)
        return corrupt(r, "records have a wrong size");
    if (r->parts[TR_TRW_ID_MACHINES].n != (size_t)r->n_machines * r->machine_bytes ||
        r->parts[TR_TRW_ID_WISDOM].n != (size_t)r->n_entries * r->entry_bytes ||
        r->parts[TR_TRW_ID_NAMES].n < r->n_names)
        return corrupt(r, "a section does not have the size of its records");
    return TRUENO_OK;
}

/* ------------------------------------------------------------------------ tables */

static trueno_status no_memory(const struct reading *r)
{
    return tr_fail(r->err, TRUENO_ERR_NO_MEMORY, "store: no memory for %u entries", r->n_entries);
}

static trueno_status read_machines(struct reading *r)
{
    const uint8_t *at = r->parts[TR_TRW_ID_MACHINES].at;
    for (uint32_t i = 0; i < r->n_machines; i++, at += r->machine_bytes) {
        struct tr_store_machine m;
        decode_machine(&m, at);
        r->machines[i] = NONE;
        r->report->n_machines++;
        if (m.generation == 0 || tr_machine_problem(&m))
            r->report->bad_machines++;
        else
            TR_TRY(tr_store_join_machine(r->s, &r->machines[i], &m, r->report, r->err));
    }
    return TRUENO_OK;
}

static trueno_status read_names(struct reading *r)
{
    const uint8_t *at = r->parts[TR_TRW_ID_NAMES].at;
    size_t left = r->parts[TR_TRW_ID_NAMES].n;
    for (uint32_t i = 0; i < r->n_names; i++) {
        if (left > 0 && at[0] >= TR_STORE_NAME_BYTES)
            return too_large(r, at[0], TR_STORE_NAME_BYTES - 1, "bytes in a name");
        if (left < 1 || at[0] > left - 1) return corrupt(r, "a name passes the end of NAMES");
        r->names[i] = at;
        left -= (size_t)at[0] + 1;
        at += (size_t)at[0] + 1;
    }
    return left ? corrupt(r, "there are bytes after the last name") : TRUENO_OK;
}

/* `to` is zeroed. An unknown number leaves it empty, which is no name. */
static void take_name(const struct reading *r, char to[TR_STORE_NAME_BYTES], uint32_t number)
{
    if (number >= r->n_names) return;
    const uint8_t *name = r->names[number];
    /* a NUL inside would cut the name short: leave it empty instead */
    if (!memchr(name + 1, 0, name[0])) memcpy(to, name + 1, name[0]);
}

static trueno_status read_entries(struct reading *r)
{
    const uint8_t *at = r->parts[TR_TRW_ID_WISDOM].at;
    for (uint32_t i = 0; i < r->n_entries; i++, at += r->entry_bytes) {
        struct tr_wisdom w;
        decode_wisdom(&w, at);
        r->report->n_entries++;
        take_name(r, w.variant, tr_trw_get32(at + 4));
        take_name(r, w.reference, tr_trw_get32(at + 8));
        w.machine = w.machine < r->n_machines ? r->machines[w.machine] : NONE;
        if (w.machine == NONE || w.generation == 0 || tr_wisdom_problem(&w))
            r->report->bad_entries++;
        else
            TR_TRY(tr_store_join(r->s, &w, r->report, r->err));
    }
    return TRUENO_OK;
}

static trueno_status read_blobs(struct reading *r)
{
    for (int id = TR_SECTION_FIRST; id < TR_SECTION_END; id++) {
        const struct part *part = &r->parts[id];
        if (part->n == 0) continue;
        const uint32_t generation = tr_trw_get32(part->at);
        if (generation == 0 || generation > TR_STORE_MAX_GENERATION) {
            r->report->bad_sections++;
            continue;
        }
        const size_t n = part->n - TR_TRW_BLOB_HEAD;
        void *bytes = tr_alloc(r->ctx, n);
        if (!bytes) return no_memory(r);
        memcpy(bytes, part->at + TR_TRW_BLOB_HEAD, n);
        tr_store_join_blob(r->s, (enum tr_section)id, (struct tr_store_blob){bytes, n, generation});
    }
    return TRUENO_OK;
}

static trueno_status read_tables(struct reading *r)
{
    if (!tr_store_reserve(r->s, r->n_machines, r->n_entries)) return no_memory(r);
    TR_TRY(read_machines(r));
    TR_TRY(read_names(r));
    TR_TRY(read_entries(r));
    return read_blobs(r);
}

trueno_status tr_store_decode(trueno_ctx *ctx, struct tr_store **out, const void *bytes, size_t len,
                              struct tr_store_report *report, trueno_error *err)
{
    static const struct tr_store_report none;
    struct tr_store_report counts = report ? *report : none;
    struct reading r = {.ctx = ctx, .bytes = bytes, .len = len, .report = &counts, .err = err};
    *out = NULL;
    TR_TRY(check_header(&r));
    TR_TRY(check_sections(&r));
    TR_TRY(check_meta(&r));
    r.names = tr_calloc(ctx, (size_t)r.n_names + 1, sizeof *r.names);
    if (!r.names) return no_memory(&r);
    trueno_status status = tr_store_new(&r.s, ctx, err);
    if (status == TRUENO_OK) status = read_tables(&r);
    tr_free(ctx, (void *)r.names);
    if (status != TRUENO_OK) {
        tr_store_free(r.s);
        return status;
    }
    if (report) *report = counts;
    *out = r.s;
    return TRUENO_OK;
}

trueno_status tr_store_read(trueno_ctx *ctx, struct tr_store **out, const void *bytes, size_t len,
                            struct tr_store_report *report, trueno_error *err)
{
    const char *text = bytes;
    size_t i = 0;
    while (i < len && (text[i] == ' ' || text[i] == '\t' || text[i] == '\r' || text[i] == '\n'))
        i++;
    if (i < len && text[i] == '{') return tr_store_from_json(ctx, out, text, len, report, err);
    return tr_store_decode(ctx, out, bytes, len, report, err);
}
