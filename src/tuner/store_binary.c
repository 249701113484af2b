/* SPDX-License-Identifier: MIT */
/* A store as bytes: records, and the writer (tuner/store_format.h). */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "gguf/cursor.h"
#include "tuner/store_format.h"

/* --------------------------------------------------------------------- records */

static void put32(uint8_t *at, uint32_t x)
{
    tr_store_le(at, x, 4);
}

static void put64(uint8_t *at, uint64_t x)
{
    tr_store_le(at, x, 8);
}

static void put_double(uint8_t *at, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    put64(at, bits);
}

void tr_wisdom_encode(uint8_t out[TR_WISDOM_BYTES], const struct tr_wisdom *w, uint32_t machine,
                      uint32_t variant, uint32_t reference)
{
    memset(out, 0, TR_WISDOM_BYTES);
    put32(out, machine);
    put32(out + 4, variant);
    put32(out + 8, reference);
    put32(out + 12, (uint32_t)w->type);
    put64(out + 16, w->context);
    put64(out + 24, w->rows);
    put64(out + 32, w->cols);
    put32(out + 40, w->n_cols);
    put32(out + 44, w->threads);
    put64(out + 48, w->version);
    put_double(out + 56, w->log_ratio);
    put_double(out + 64, w->half_width);
    put_double(out + 72, w->mde);
    put64(out + 80, (uint64_t)w->utc);
    put32(out + 88, w->blocks);
    put32(out + 92, w->generation);
    out[96] = (uint8_t)w->phase;
    out[97] = w->effort;
    out[98] = w->state;
    out[99] = (uint8_t)w->kind;
}

void tr_machine_encode(uint8_t out[TR_MACHINE_BYTES], const struct tr_store_machine *m)
{
    memset(out, 0, TR_MACHINE_BYTES);
    memcpy(out, m->id, strnlen(m->id, sizeof m->id));
    memcpy(out + 64, m->hard, strnlen(m->hard, sizeof m->hard));
    put_double(out + 320, m->quota);
    put64(out + 328, (uint64_t)m->utc);
    put32(out + 336, m->generation);
    put32(out + 340, m->n_points);
    for (uint32_t i = 0; i < m->n_points; i++) {
        uint8_t *at = out + 344 + 32 * i;
        put32(at, m->points[i].threads);
        put_double(at + 8, m->points[i].read_gbs);
        put_double(at + 16, m->points[i].peak_dot);
        put_double(at + 24, m->points[i].peak_fma);
    }
}

/* --------------------------------------------------------------------- writing */

static int compare_machines(const void *a, const void *b)
{
    return strcmp((*(const struct tr_store_machine *const *)a)->id,
                  (*(const struct tr_store_machine *const *)b)->id);
}

static int compare_rows(const void *a, const void *b)
{
    const struct tr_store_row *p = a, *q = b;
    if (p->machine != q->machine) return p->machine < q->machine ? -1 : 1;
    return (p->w->context > q->w->context) - (p->w->context < q->w->context);
}

bool tr_store_sort(struct tr_store_order *out, struct tr_arena *arena, const struct tr_store *s)
{
    uint32_t rank[TR_STORE_MAX_MACHINES];
    const size_t n_machines = tr_store_n_machines(s), n = tr_store_n_entries(s);
    const struct tr_store_machine *first = tr_store_machine_at(s, 0);
    out->machines = tr_arena_alloc(arena, (n_machines + 1) * sizeof(void *));
    out->rows = tr_arena_alloc(arena, (n + 1) * sizeof *out->rows);
    if (!out->machines || !out->rows) return false;
    for (size_t i = 0; i < n_machines; i++) out->machines[i] = first + i;
    qsort(out->machines, n_machines, sizeof(void *), compare_machines);
    for (size_t i = 0; i < n_machines; i++) rank[out->machines[i] - first] = (uint32_t)i;
    for (size_t i = 0; i < n; i++)
        out->rows[i] = (struct tr_store_row){rank[tr_store_at(s, i)->machine], tr_store_at(s, i)};
    qsort(out->rows, n, sizeof *out->rows, compare_rows);
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The different names of all entries, sorted. */
struct name_list {
    const char **names;
    size_t n, bytes; /* bytes of the section */
};

static bool collect_names(struct name_list *list, struct tr_arena *arena, const struct tr_store *s)
{
    const size_t n = tr_store_n_entries(s);
    size_t kept = 0;
    list->bytes = 0;
    list->names = tr_arena_alloc(arena, (2 * n + 1) * sizeof *list->names);
    if (!list->names) return false;
    for (size_t i = 0; i < n; i++) {
        list->names[2 * i] = tr_store_at(s, i)->variant;
        list->names[2 * i + 1] = tr_store_at(s, i)->reference;
    }
    qsort(list->names, 2 * n, sizeof *list->names, compare_names);
    for (size_t i = 0; i < 2 * n; i++) {
        if (kept > 0 && strcmp(list->names[i], list->names[kept - 1]) == 0) continue;
        list->names[kept++] = list->names[i];
        list->bytes += 1 + strlen(list->names[i]);
    }
    list->n = kept;
    return true;
}

static uint32_t number_of(const struct name_list *list, const char *name)
{
    const char **found = bsearch(&name, list->names, list->n, sizeof *list->names, compare_names);
    return (uint32_t)(found - list->names);
}

struct layout {
    struct tr_store_order order;
    struct name_list names;
    uint32_t n_sections;
    size_t bytes[TR_TRW_ID_END]; /* of each section by id; 0: not there */
    size_t total;
};

static bool lay_out(struct layout *l, struct tr_arena *arena, const struct tr_store *s)
{
    if (!tr_store_sort(&l->order, arena, s) || !collect_names(&l->names, arena, s)) return false;
    l->n_sections = TR_TRW_N_CORE;
    l->bytes[TR_TRW_ID_META] = TR_TRW_META;
    l->bytes[TR_TRW_ID_MACHINES] = tr_store_n_machines(s) * TR_MACHINE_BYTES;
    l->bytes[TR_TRW_ID_NAMES] = l->names.bytes;
    l->bytes[TR_TRW_ID_WISDOM] = tr_store_n_entries(s) * TR_WISDOM_BYTES;
    for (int id = TR_SECTION_FIRST; id < TR_SECTION_END; id++) {
        const struct tr_store_blob *b = &s->blobs[id - TR_SECTION_FIRST];
        if (b->bytes) l->n_sections++;
        if (b->bytes) l->bytes[id] = TR_TRW_BLOB_HEAD + b->n;
    }
    l->total = TR_TRW_HEADER + TR_TRW_SECTION * l->n_sections;
    for (int id = 1; id < TR_TRW_ID_END; id++) l->total += l->bytes[id];
    return true;
}

static void write_names(uint8_t *at, const struct layout *l)
{
    for (size_t i = 0; i < l->names.n; i++) {
        const size_t n = strlen(l->names.names[i]);
        *at++ = (uint8_t)n;
        memcpy(at, l->names.names[i], n);
        at += n;
    }
}

/* The payload of section `id`. */
static void write_section(uint8_t *at, const struct tr_store *s, const struct layout *l, int id)
{
    const size_t n_machines = tr_store_n_machines(s), n = tr_store_n_entries(s);
    if (id == TR_TRW_ID_META) {
        memset(at, 0, TR_TRW_META);
        put32(at, (uint32_t)n_machines);
        put32(at + 4, TR_MACHINE_BYTES);
        put32(at + 8, (uint32_t)n);
        put32(at + 12, TR_WISDOM_BYTES);
        put32(at + 16, (uint32_t)l->names.n);
    } else if (id == TR_TRW_ID_MACHINES) {
        for (size_t i = 0; i < n_machines; i++, at += TR_MACHINE_BYTES)
            tr_machine_encode(at, l->order.machines[i]);
    } else if (id == TR_TRW_ID_NAMES) {
        write_names(at, l);
    } else if (id == TR_TRW_ID_WISDOM) {
        for (size_t i = 0; i < n; i++, at += TR_WISDOM_BYTES) {
            const struct tr_store_row *row = &l->order.rows[i];
            tr_wisdom_encode(at, row->w, row->machine, number_of(&l->names, row->w->variant),
                             number_of(&l->names, row->w->reference));
        }
    } else {
        const struct tr_store_blob *b = &s->blobs[id - TR_SECTION_FIRST];
        put64(at, b->generation);
        memcpy(at + TR_TRW_BLOB_HEAD, b->bytes, b->n);
    }
}

static void write_all(uint8_t *out, const struct tr_store *s, const struct layout *l)
{
    const size_t head = TR_TRW_HEADER + TR_TRW_SECTION * (size_t)l->n_sections;
    size_t offset = head;
    uint8_t *row = out + TR_TRW_HEADER;
    memset(out, 0, head);
    for (int id = 1; id < TR_TRW_ID_END; id++) {
        if (id > TR_TRW_N_CORE && l->bytes[id] == 0) continue;
        write_section(out + offset, s, l, id);
        put32(row, (uint32_t)id);
        put32(row + 4, id <= TR_TRW_N_CORE ? TR_TRW_REQUIRED : 0);
        put64(row + 8, offset);
        put64(row + 16, l->bytes[id]);
        put32(row + 24, tr_trw_crc(0, out + offset, l->bytes[id]));
        row += TR_TRW_SECTION;
        offset += l->bytes[id];
    }
    memcpy(out, TR_TRW_MAGIC, 8);
    tr_store_le(out + 8, TR_TRW_MAJOR, 2);
    tr_store_le(out + 10, TR_TRW_MINOR, 2);
    put32(out + 12, (uint32_t)head);
    put64(out + 16, l->total);
    put32(out + 24, l->n_sections);
    put32(out + TR_TRW_CRC_AT, tr_trw_header_crc(out, head));
}

trueno_status tr_store_encode(const struct tr_store *s, void *buf, size_t cap, size_t *len,
                              trueno_error *err)
{
    struct tr_arena arena = {.ctx = s->ctx};
    struct layout l = {.total = 0};
    trueno_status status = TRUENO_OK;
    *len = 0;
    if (!lay_out(&l, &arena, s))
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory to write %zu entries",
                         tr_store_n_entries(s));
    else if (l.total > TR_STORE_MAX_BYTES)
        status = tr_fail(err, TRUENO_ERR_TOO_LARGE, "store: %zu bytes, the limit is %d", l.total,
                         TR_STORE_MAX_BYTES);
    if (status == TRUENO_OK) {
        *len = l.total;
        if (l.total <= cap) write_all(buf, s, &l);
    }
    tr_arena_free(&arena);
    return status;
}

trueno_status tr_store_digest(const struct tr_store *s, uint64_t *digest, trueno_error *err)
{
    size_t len, cap;
    *digest = 0;
    TR_TRY(tr_store_encode(s, NULL, 0, &cap, err));
    uint8_t *bytes = tr_alloc(s->ctx, cap);
    if (!bytes) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "digest: no memory for %zu bytes", cap);
    trueno_status status = tr_store_encode(s, bytes, cap, &len, err);
    if (status == TRUENO_OK) {
        uint64_t h = UINT64_C(0xcbf29ce484222325);
        for (size_t i = 0; i < len; i++) h = (h ^ bytes[i]) * UINT64_C(0x100000001b3);
        *digest = h;
    }
    tr_free(s->ctx, bytes);
    return status;
}
