/* SPDX-License-Identifier: MIT */
/* The tables of a store: look-up, and the join of versions. */
#include "tuner/store.h"

#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "gguf/names.h"
#include "tuner/context.h"
#include "tuner/store_impl.h"

/* The finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t z)
{
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

trueno_status tr_store_new(struct tr_store **out, trueno_ctx *ctx, trueno_error *err)
{
    *out = NULL;
    struct tr_store *s = tr_calloc(ctx, 1, sizeof *s);
    uint64_t key[2];
    if (!s) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory");
    tr_ctx_ref(ctx);
    s->ctx = ctx;
    tr_random_key(key);
    s->seed = key[0];
    *out = s;
    return TRUENO_OK;
}

void tr_store_free(struct tr_store *s)
{
    if (!s) return;
    trueno_ctx *ctx = s->ctx;
    tr_vec_free(ctx, &s->machines);
    tr_vec_free(ctx, &s->entries);
    tr_free(ctx, s->slots);
    for (int i = 0; i < TR_SECTION_END - TR_SECTION_FIRST; i++) tr_free(ctx, s->blobs[i].bytes);
    tr_free(ctx, s);
    tr_ctx_unref(ctx);
}

/* --------------------------------------------------------------------- records */

bool tr_store_name_ok(const char *name, size_t cap)
{
    const size_t n = strnlen(name, cap);
    for (size_t i = 0; i < n; i++)
        if (name[i] < 0x20 || name[i] > 0x7e) return false;
    return n > 0 && n < cap;
}

/* False for NaN. */
static bool within(double x, double lo, double hi)
{
    return x >= lo && x <= hi;
}

static bool time_ok(int64_t utc)
{
    return utc >= 0 && utc <= INT64_C(253402300799); /* the end of the year 9999 */
}

trueno_status tr_wisdom_set_problem(struct tr_wisdom *w, const trueno_problem *p, trueno_error *err)
{
    trueno_status status = tr_problem_check(p, err);
    if (status != TRUENO_OK) return status;
    w->context = trueno_problem_context(p);
    w->type = p->type;
    w->n_cols = tr_m_bucket_edge(tr_m_bucket(p->n_cols));
    w->rows = p->rows;
    w->cols = p->cols;
    w->threads = p->threads;
    w->phase = p->phase;
    w->kind = p->kind;
    return TRUENO_OK;
}

/* The key fields belong together, as tr_wisdom_set_problem makes them. */
static bool key_ok(const struct tr_wisdom *w)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    if (w->rows > SIZE_MAX || w->cols > SIZE_MAX || w->context == 0) return false;
    if (w->rows > INT64_MAX || w->cols > INT64_MAX) return false; /* what JSON can say */
    p.type = w->type;
    p.n_cols = w->n_cols;
    p.rows = (size_t)w->rows;
    p.cols = (size_t)w->cols;
    p.threads = w->threads;
    p.phase = w->phase;
    p.kind = w->kind;
    return trueno_problem_context(&p) == w->context &&
           tr_m_bucket_edge(tr_m_bucket(w->n_cols)) == w->n_cols;
}

const char *tr_wisdom_problem(const struct tr_wisdom *w)
{
    /* ratios beyond e^20 are no measurements */
    if (!key_ok(w)) return "the context is not that of the problem";
    if (!tr_store_name_ok(w->variant, sizeof w->variant)) return "the variant is no name";
    if (!tr_store_name_ok(w->reference, sizeof w->reference)) return "the reference is no name";
    if (!within(w->log_ratio, -20, 20)) return "log_ratio is not in -20..20";
    if (!within(w->half_width, 0, 20)) return "half_width is not in 0..20";
    if (!within(w->mde, 0, 20)) return "mde is not in 0..20";
    if (w->effort > TR_EFFORT_PATIENT) return "the effort is none";
    if (w->state > TR_WISDOM_FORGOTTEN) return "the state is none";
    if (!time_ok(w->utc)) return "the time is not in the years 1970..9999";
    if (w->generation > TR_STORE_MAX_GENERATION) return "the generation is above 2^30";
    return NULL;
}

const char *tr_machine_problem(const struct tr_store_machine *m)
{
    if (!tr_store_name_ok(m->id, sizeof m->id)) return "the id is no name";
    if (m->hard[0] && !tr_store_name_ok(m->hard, sizeof m->hard))
        return "the fingerprint is no text";
    if (!within(m->quota, 0, 65535)) return "the quota is not in 0..65535";
    if (!time_ok(m->utc)) return "the time is not in the years 1970..9999";
    if (m->generation > TR_STORE_MAX_GENERATION) return "the generation is above 2^30";
    if (m->n_points > TR_STORE_POINTS) return "there are more than 16 points";
    for (uint32_t i = 0; i < m->n_points; i++) {
        const struct tr_store_point *p = &m->points[i];
        if (p->threads < 1 || p->threads > 65535) return "threads are not in 1..65535";
        if (i > 0 && p->threads <= p[-1].threads) return "threads do not rise";
        if (!within(p->read_gbs, 0, 1e6) || !within(p->peak_dot, 0, 1e6) ||
            !within(p->peak_fma, 0, 1e6))
            return "a rate is not in 0..1e6";
    }
    return NULL;
}

static int sign(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

/* Of two entries with one key: above 0 if a stays. 0: they are the same. */
static int entry_order(const struct tr_wisdom *a, const struct tr_wisdom *b)
{
    /* forgetting outranks every effort, so that it also works at the last generation */
    const uint64_t effort_a = a->state == TR_WISDOM_FORGOTTEN ? 255 : a->effort;
    const uint64_t effort_b = b->state == TR_WISDOM_FORGOTTEN ? 255 : b->effort;
    uint8_t bytes_a[TR_WISDOM_BYTES], bytes_b[TR_WISDOM_BYTES];
    int order = sign(a->generation, b->generation);
    if (!order) order = sign(effort_a, effort_b);
    if (!order) order = sign(a->blocks, b->blocks);
    if (!order) order = sign((uint64_t)a->utc, (uint64_t)b->utc);
    if (order) return order;
    tr_wisdom_encode(bytes_a, a, 0, 0, 0);
    tr_wisdom_encode(bytes_b, b, 0, 0, 0);
    order = memcmp(bytes_a, bytes_b, sizeof bytes_a);
    if (!order) order = strcmp(a->variant, b->variant);
    return order ? order : strcmp(a->reference, b->reference);
}

static int machine_order(const struct tr_store_machine *a, const struct tr_store_machine *b)
{
    uint8_t bytes_a[TR_MACHINE_BYTES], bytes_b[TR_MACHINE_BYTES];
    int order = sign(a->generation, b->generation);
    if (!order) order = sign((uint64_t)a->utc, (uint64_t)b->utc);
    if (order) return order;
    tr_machine_encode(bytes_a, a);
    tr_machine_encode(bytes_b, b);
    return memcmp(bytes_a, bytes_b, sizeof bytes_a);
}

static int blob_order(const struct tr_store_blob *a, const struct tr_store_blob *b)
{
    if (!a->bytes || !b->bytes) return (a->bytes != NULL) - (b->bytes != NULL);
    int order = sign(a->generation, b->generation);
    if (!order) order = sign(a->n, b->n);
    return order ? order : memcmp(a->bytes, b->bytes, a->n);
}

static uint32_t next_generation(uint32_t generation)
{
    return generation < TR_STORE_MAX_GENERATION ? generation + 1 : TR_STORE_MAX_GENERATION;
}

/* -------------------------------------------------------------------- machines */

static struct tr_store_machine *machines(const struct tr_store *s)
{
    return s->machines.data;
}

size_t tr_store_n_machines(const struct tr_store *s)
{
    return (size_t)s->machines.n;
}

const struct tr_store_machine *tr_store_machine_at(const struct tr_store *s, size_t index)
{
    return index < s->machines.n ? &machines(s)[index] : NULL;
}

bool tr_store_find_machine(const struct tr_store *s, uint32_t *index, const char *id)
{
    for (*index = 0; *index < s->machines.n; ++*index)
        if (strcmp(machines(s)[*index].id, id) == 0) return true;
    *index = 0;
    return false;
}

static trueno_status too_many(trueno_error *err, size_t n, int limit, const char *what)
{
    return tr_fail(err, TRUENO_ERR_TOO_LARGE, "store: %zu %s, the limit is %d", n, what, limit);
}

static trueno_status no_memory(trueno_error *err, size_t n, const char *what)
{
    return tr_fail(err, TRUENO_ERR_NO_MEMORY, "store: no memory for %zu %s", n, what);
}

trueno_status tr_store_join_machine(struct tr_store *s, uint32_t *index,
                                    const struct tr_store_machine *m,
                                    struct tr_store_report *report, trueno_error *err)
{
    if (tr_store_find_machine(s, index, m->id)) {
        if (report) report->duplicates++;
        if (machine_order(m, &machines(s)[*index]) > 0) machines(s)[*index] = *m;
        return TRUENO_OK;
    }
    const size_t n = (size_t)s->machines.n + 1;
    if (n > TR_STORE_MAX_MACHINES) return too_many(err, n, TR_STORE_MAX_MACHINES, "machines");
    if (!tr_store_reserve(s, n, 0)) return no_memory(err, n, "machines");
    machines(s)[n - 1] = *m;
    s->machines.n = n;
    *index = (uint32_t)(n - 1);
    return TRUENO_OK;
}

trueno_status tr_store_put_machine(struct tr_store *s, uint32_t *index,
                                   const struct tr_store_machine *m, trueno_error *err)
{
    struct tr_store_machine later = *m;
    const char *wrong = tr_machine_problem(m);
    *index = 0;
    if (wrong) return tr_fail(err, TRUENO_ERR_ARGUMENT, "machine: %s", wrong);
    if (m->generation > 0) return tr_store_join_machine(s, index, m, NULL, err);
    if (tr_store_find_machine(s, index, m->id)) {
        later.generation = next_generation(machines(s)[*index].generation);
        machines(s)[*index] = later;
        return TRUENO_OK;
    }
    later.generation = 1;
    return tr_store_join_machine(s, index, &later, NULL, err);
}

/* --------------------------------------------------------------------- entries */

static struct tr_wisdom *entries(const struct tr_store *s)
{
    return s->entries.data;
}

size_t tr_store_n_entries(const struct tr_store *s)
{
    return (size_t)s->entries.n;
}

const struct tr_wisdom *tr_store_at(const struct tr_store *s, size_t index)
{
    return index < s->entries.n ? &entries(s)[index] : NULL;
}

/* The slot of a key: the one that holds it, or the free one where it would go. There are free ones.
 */
static uint32_t slot_of(const struct tr_store *s, uint32_t machine, uint64_t context)
{
    uint32_t i = (uint32_t)mix(mix(s->seed ^ context) + machine) & (s->n_slots - 1);
    while (s->slots[i]) {
        const struct tr_wisdom *w = &entries(s)[s->slots[i] - 1];
        if (w->context == context && w->machine == machine) break;
        i = (i + 1) & (s->n_slots - 1);
    }
    return i;
}

static struct tr_wisdom *look_up(const struct tr_store *s, uint32_t machine, uint64_t context)
{
    if (!s->n_slots) return NULL;
    const uint32_t held = s->slots[slot_of(s, machine, context)];
    return held ? &entries(s)[held - 1] : NULL;
}

bool tr_store_holds(const struct tr_store *s, uint32_t machine, uint64_t context)
{
    return look_up(s, machine, context) != NULL;
}

static bool reserve_slots(struct tr_store *s, size_t n_entries)
{
    uint32_t n = 16;
    while (n < 2 * n_entries) n *= 2;
    if (n <= s->n_slots) return true;
    uint32_t *slots = tr_calloc(s->ctx, n, sizeof *slots);
    if (!slots) return false;
    tr_free(s->ctx, s->slots);
    s->slots = slots;
    s->n_slots = n;
    for (uint32_t i = 0; i < s->entries.n; i++)
        slots[slot_of(s, entries(s)[i].machine, entries(s)[i].context)] = i + 1;
    return true;
}

bool tr_store_reserve(struct tr_store *s, size_t n_machines, size_t n_entries)
{
    if (n_machines > s->machines.n &&
        !tr_vec_reserve(s->ctx, &s->machines, n_machines - s->machines.n,
                        sizeof(struct tr_store_machine)))
        return false;
    if (n_entries > s->entries.n &&
        !tr_vec_reserve(s->ctx, &s->entries, n_entries - s->entries.n, sizeof(struct tr_wisdom)))
        return false;
    return n_entries == 0 || reserve_slots(s, n_entries);
}

static trueno_status add_entry(struct tr_store *s, const struct tr_wisdom *w, trueno_error *err)
{
    const size_t n = (size_t)s->entries.n + 1;
    if (n > TR_STORE_MAX_ENTRIES) return too_many(err, n, TR_STORE_MAX_ENTRIES, "entries");
    if (!tr_store_reserve(s, 0, n)) return no_memory(err, n, "entries");
    entries(s)[n - 1] = *w;
    s->slots[slot_of(s, w->machine, w->context)] = (uint32_t)n;
    s->entries.n = n;
    return TRUENO_OK;
}

trueno_status tr_store_join(struct tr_store *s, const struct tr_wisdom *w,
                            struct tr_store_report *report, trueno_error *err)
{
    struct tr_wisdom *held = look_up(s, w->machine, w->context);
    if (!held) return add_entry(s, w, err);
    const bool wins = entry_order(w, held) > 0;
    if (wins) *held = *w;
    if (report) report->duplicates++;
    if (report) report->n_replaced += wins;
    return TRUENO_OK;
}

trueno_status tr_store_put(struct tr_store *s, const struct tr_wisdom *w, trueno_error *err)
{
    const char *wrong = tr_wisdom_problem(w);
    struct tr_wisdom later = *w;
    if (!wrong && w->machine >= s->machines.n) wrong = "there is no such machine";
    if (wrong) return tr_fail(err, TRUENO_ERR_ARGUMENT, "wisdom: %s", wrong);
    if (w->generation > 0) return tr_store_join(s, w, NULL, err);
    struct tr_wisdom *held = look_up(s, w->machine, w->context);
    later.generation = held ? next_generation(held->generation) : 1;
    if (!held) return add_entry(s, &later, err);
    *held = later;
    return TRUENO_OK;
}

const struct tr_wisdom *tr_store_find(const struct tr_store *s, uint32_t machine, uint64_t context)
{
    const struct tr_wisdom *w = look_up(s, machine, context);
    return w && w->state != TR_WISDOM_FORGOTTEN ? w : NULL;
}

trueno_status tr_store_forget(struct tr_store *s, uint32_t machine, uint64_t context,
                              trueno_error *err)
{
    struct tr_wisdom *w = look_up(s, machine, context);
    if (!w || w->state == TR_WISDOM_FORGOTTEN)
        return tr_fail(err, TRUENO_ERR_NOT_FOUND, "store: nothing to forget of context %016llx",
                       (unsigned long long)context);
    w->state = TR_WISDOM_FORGOTTEN;
    w->generation = next_generation(w->generation);
    return TRUENO_OK;
}

/* -------------------------------------------------------------------- sections */

trueno_status tr_store_put_section(struct tr_store *s, enum tr_section id, const void *bytes,
                                   size_t n, trueno_error *err)
{
    if ((int)id < TR_SECTION_FIRST || (int)id >= TR_SECTION_END || (!bytes && n > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "store: section %d is none, or NULL", (int)id);
    if (n > TR_STORE_MAX_BYTES) return too_many(err, n, TR_STORE_MAX_BYTES, "bytes of a section");
    struct tr_store_blob *held = &s->blobs[id - TR_SECTION_FIRST];
    void *copy = tr_alloc(s->ctx, n);
    if (!copy) return no_memory(err, n, "bytes of a section");
    if (n > 0) memcpy(copy, bytes, n);
    const uint32_t generation = next_generation(held->generation);
    tr_free(s->ctx, held->bytes);
    *held = (struct tr_store_blob){copy, n, generation};
    return TRUENO_OK;
}

bool tr_store_section(const struct tr_store *s, const void **bytes, size_t *n, enum tr_section id)
{
    static const struct tr_store_blob none;
    const bool known = (int)id >= TR_SECTION_FIRST && (int)id < TR_SECTION_END;
    const struct tr_store_blob *held = known ? &s->blobs[id - TR_SECTION_FIRST] : &none;
    *bytes = held->bytes;
    *n = held->n;
    return held->bytes != NULL;
}

void tr_store_join_blob(struct tr_store *s, enum tr_section id, struct tr_store_blob blob)
{
    struct tr_store_blob *held = &s->blobs[id - TR_SECTION_FIRST];
    const bool wins = blob_order(&blob, held) > 0;
    tr_free(s->ctx, wins ? held->bytes : blob.bytes);
    if (wins) *held = blob;
}
