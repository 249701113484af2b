/* SPDX-License-Identifier: MIT */
/* Choices that outlive the process: between the table of contexts and the store. */
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "trueno/kernels.h"
#include "tuner/tuner_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { LOCK_WAIT_MS = 2000 };

/* The arm of this name; n_arms: none. */
static uint32_t arm_named(const struct tr_slot *slot, const char *name)
{
    char own[TR_THREADS_NAME];
    uint32_t i = 0;
    while (i < slot->n_arms && strcmp(tr_slot_arm_name(slot, i, own), name) != 0) i++;
    return i;
}

/* The machine's row in the store; false: it has none. */
static bool machine_of(const trueno_tuner *t, uint32_t *index)
{
    return tr_store_find_machine(t->store, index, t->machine_id);
}

void tr_slot_recall(struct tr_slot *slot, bool first)
{
    trueno_tuner *t = slot->t;
    uint32_t machine, arm = slot->n_arms;
    const struct tr_wisdom *w = NULL;
    if (t->mode == TRUENO_TUNER_OFF) return;
    if (machine_of(t, &machine))
        w = tr_store_find(t->store, machine, trueno_problem_context(&slot->problem));
    if (w && tr_wisdom_use_of(w, machine, t->kernels_version) == TR_WISDOM_USABLE)
        arm = arm_named(slot, w->variant);
    if (arm < slot->n_arms) {
        if (first) atomic_fetch_add(&t->n.stored_used, 1);
        atomic_store(&slot->rival, arm_named(slot, w->reference));
        atomic_store(&slot->gain, (float)w->log_ratio);
        tr_slot_order(slot, TR_ORDER_PIN + arm);
    } else if (w) {
        if (first) atomic_fetch_add(&t->n.stored_stale, 1);
        if (tr_slot_pick(slot) != 0) tr_slot_order(slot, TR_ORDER_BEGIN);
    } /* else the store does not know better than the slot */
}

/* The arm that the pick was compared with: the default, or the one that came closest to it; n_arms:
 * none was. */
static uint32_t rival_of(const struct tr_slot *slot, uint32_t pick)
{
    const struct tr_policy *p = slot->policy;
    uint32_t best = slot->n_arms;
    if (pick != 0) return p->arms[0].raced > 0 ? 0 : slot->n_arms;
    for (uint32_t i = 1; i < slot->n_arms; i++)
        if (p->arms[i].raced > 0 && (best == slot->n_arms || p->arms[i].gain > p->arms[best].gain))
            best = i;
    return best;
}

/* Largest magnitude of a ratio's logarithm that a store takes: times from outside may be anything.
 */
#define MAX_RATIO 20

/* What the slot's policy has found, as an entry. False: nothing that is worth keeping. */
static bool wisdom_of(struct tr_wisdom *w, const struct tr_slot *slot, uint32_t machine)
{
    const struct tr_policy *p = slot->policy;
    char name[TR_THREADS_NAME];
    uint32_t pick = tr_slot_pick(slot);
    memset(w, 0, sizeof *w);
    if (p->phase == TR_POLICY_RACE) return false;
    uint32_t rival = rival_of(slot, pick);
    if (rival == slot->n_arms) return false;
    if (tr_wisdom_set_problem(w, &slot->problem, NULL) != TRUENO_OK) return false;
    w->machine = machine;
    snprintf(w->variant, sizeof w->variant, "%s", tr_slot_arm_name(slot, pick, name));
    snprintf(w->reference, sizeof w->reference, "%s", tr_slot_arm_name(slot, rival, name));
    w->version = slot->t->kernels_version;
    /* ln(pick / rival) */
    w->log_ratio = fmax(-MAX_RATIO, fmin((double)p->arms[rival].gain, MAX_RATIO));
    w->half_width = fmin((double)p->arms[rival].width, MAX_RATIO);
    w->mde = (double)p->eps;
    w->blocks = p->arms[rival].raced;
    w->effort = slot->on_bed ? slot->effort : TR_EFFORT_NORMAL;
    /* confirmed where it was measured inside the application's own work */
    w->state = slot->on_bed ? TR_WISDOM_PROVISIONAL : TR_WISDOM_VERIFIED;
    w->utc = (int64_t)time(NULL);
    return true;
}

/* Keeps an entry unless the store knows the same choice by as much evidence. */
static trueno_status keep(trueno_tuner *t, const struct tr_wisdom *w, trueno_error *err)
{
    const struct tr_wisdom *old = tr_store_find(t->store, w->machine, w->context);
    if (old && old->version == w->version && old->blocks >= w->blocks &&
        strcmp(old->variant, w->variant) == 0)
        return TRUENO_OK;
    pthread_mutex_lock(&t->adding);
    trueno_status status = tr_store_put(t->store, w, err);
    pthread_mutex_unlock(&t->adding);
    return status;
}

trueno_status tr_tuner_remember(trueno_tuner *t, trueno_error *err)
{
    struct tr_wisdom w;
    uint32_t machine;
    trueno_status status = tr_tuner_machine(t, &machine, err);
    if (status == TRUENO_ERR_TOO_LARGE) { /* as many machines as a store may have */
        tr_log(t->ctx, TRUENO_LOG_WARN, "tuner: the store is full of machines; nothing is added");
        return TRUENO_OK;
    }
    for (size_t i = 0; status == TRUENO_OK && i < TR_MAX_SLOTS; i++) {
        struct tr_slot *s = &t->slots[i];
        if (atomic_load_explicit(&s->key, memory_order_acquire) == 0) continue;
        if (!s->policy || !tr_slot_hold(s))
            continue; /* nothing to tell, or somebody learns from it right now */
        bool found = wisdom_of(&w, s, machine);
        tr_slot_give(s);
        if (found) status = keep(t, &w, err);
        if (status == TRUENO_ERR_ARGUMENT || status == TRUENO_ERR_TOO_LARGE) {
            tr_log(t->ctx, TRUENO_LOG_WARN, "tuner: a choice for %s is not stored", w.variant);
            status = TRUENO_OK; /* the others are */
        }
    }
    if (status == TRUENO_OK) status = tr_tuner_keep_samples(t, err);
    return status == TRUENO_OK ? tr_tuner_keep_models(t, err) : status;
}

trueno_status tr_tuner_machine(trueno_tuner *t, uint32_t *index, trueno_error *err)
{
    struct tr_store_machine m = {.quota = 0};
    if (machine_of(t, index)) return TRUENO_OK;
    snprintf(m.id, sizeof m.id, "%s", t->machine_id);
    pthread_mutex_lock(&t->adding);
    trueno_status status = tr_store_put_machine(t->store, index, &m, err);
    pthread_mutex_unlock(&t->adding);
    return status;
}

static trueno_machine_point point_of(const struct tr_store_point *p)
{
    return (trueno_machine_point){p->threads, p->read_gbs, 500 * p->peak_dot, 500 * p->peak_fma};
}

bool tr_tuner_point(const trueno_tuner *t, trueno_machine_point *out, uint32_t threads)
{
    uint32_t index;
    const struct tr_store_machine *m =
        machine_of(t, &index) ? tr_store_machine_at(t->store, index) : NULL;
    for (uint32_t i = 0; m && i < m->n_points; i++) {
        if (m->points[i].threads != threads) continue;
        *out = point_of(&m->points[i]);
        return true;
    }
    return false;
}

trueno_status tr_tuner_put_point(trueno_tuner *t, const trueno_machine_point *p, trueno_error *err)
{
    uint32_t index, i = 0;
    trueno_status status = tr_tuner_machine(t, &index, err);
    if (status != TRUENO_OK) return status;
    struct tr_store_machine m = *tr_store_machine_at(t->store, index);
    while (i < m.n_points && m.points[i].threads < p->threads) i++;
    if (i == m.n_points || m.points[i].threads != p->threads) {
        if (m.n_points == TR_STORE_POINTS) return TRUENO_OK; /* enough thread counts are known */
        memmove(&m.points[i + 1], &m.points[i], (m.n_points - i) * sizeof m.points[0]);
        m.n_points++;
    }
    /* two operations a product */
    m.points[i] =
        (struct tr_store_point){p->threads, p->read_gbs, 2e-3 * p->int8_gmacs, 2e-3 * p->f32_gmacs};
    m.generation = 0; /* newer than what is there */
    m.utc = (int64_t)time(NULL);
    pthread_mutex_lock(&t->adding);
    status = tr_store_put_machine(t->store, &index, &m, err);
    pthread_mutex_unlock(&t->adding);
    return status;
}

/* ---------------------------------------------------------------- public calls */

static trueno_status begin(trueno_tuner *t, bool changes, trueno_error *err)
{
    if (!t) return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: NULL");
    if (changes && (t->mode == TRUENO_TUNER_OFF || t->mode == TRUENO_TUNER_STRICT))
        return tr_fail(err, TRUENO_ERR_READ_ONLY, "tuner: its mode is %s, which changes nothing",
                       t->mode == TRUENO_TUNER_OFF ? "OFF" : "STRICT");
    return tr_tuner_enter(t, err);
}

trueno_status trueno_tuner_cache_path(char *buf, size_t cap)
{
    size_t len = 0;
    if (!buf) return TRUENO_ERR_ARGUMENT;
    if (cap > 0) buf[0] = 0;
    trueno_status status = tr_store_path(buf, cap, &len, NULL);
    return status == TRUENO_OK && len >= cap ? TRUENO_ERR_ARGUMENT : status;
}

trueno_status trueno_tuner_profile(trueno_tuner *t, trueno_machine_profile *out, trueno_error *err)
{
    trueno_machine_profile p = TRUENO_MACHINE_PROFILE_INIT;
    uint32_t index;
    if (!out || !TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: out is NULL or of the wrong size");
    p.struct_size = out->struct_size;
    memcpy(out, &p, sizeof p);
    trueno_status status = begin(t, false, err);
    if (status != TRUENO_OK) return status;
    if (machine_of(t, &index)) {
        const struct tr_store_machine *m = tr_store_machine_at(t->store, index);
        for (; p.n < m->n_points && p.n < TRUENO_MACHINE_POINTS; p.n++)
            p.points[p.n] = point_of(&m->points[p.n]);
    }
    tr_tuner_leave(t);
    memcpy(out, &p, sizeof p);
    if (p.n > 0) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_NOT_MEASURED, "tuner: nothing was measured on this machine");
}

trueno_status trueno_tuner_remember_profile(trueno_tuner *t, const trueno_machine_profile *profile,
                                            trueno_error *err)
{
    if (!profile || !TR_STRUCT_OK(profile) || profile->n > TRUENO_MACHINE_POINTS)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: no profile");
    trueno_status status = begin(t, true, err);
    if (status != TRUENO_OK) return status;
    for (uint32_t i = 0; status == TRUENO_OK && i < profile->n; i++)
        status = tr_tuner_put_point(t, &profile->points[i], err);
    tr_tuner_leave(t);
    return status;
}

trueno_status trueno_tuner_store_status(const trueno_tuner *t)
{
    return t ? t->store_status : TRUENO_ERR_ARGUMENT;
}

trueno_status trueno_tuner_save(trueno_tuner *t, trueno_error *err)
{
    trueno_status status = begin(t, false, err);
    if (status != TRUENO_OK) return status;
    if (t->store_path && t->mode != TRUENO_TUNER_OFF && t->mode != TRUENO_TUNER_STRICT) {
        status = tr_tuner_remember(t, err);
        if (status == TRUENO_OK)
            status = tr_store_save_file(t->store, t->store_path, LOCK_WAIT_MS, NULL, err);
    }
    tr_tuner_leave(t);
    return status;
}

trueno_status trueno_tuner_export(trueno_tuner *t, void *buf, size_t cap, size_t *len,
                                  trueno_store_format format, trueno_error *err)
{
    if (!len || (!buf && cap > 0) || (format != TRUENO_STORE_BINARY && format != TRUENO_STORE_JSON))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "export: %s",
                       !len              ? "len is NULL"
                       : !buf && cap > 0 ? "buf is NULL"
                                         : "no such format");
    *len = 0;
    trueno_status status = begin(t, false, err);
    if (status != TRUENO_OK) return status;
    status = tr_tuner_remember(t, err);
    if (status == TRUENO_OK)
        status = format == TRUENO_STORE_JSON ? tr_store_to_json(t->store, buf, cap, len, err)
                                             : tr_store_encode(t->store, buf, cap, len, err);
    tr_tuner_leave(t);
    if (status == TRUENO_OK && *len > cap)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "export: %zu bytes are needed, buf has %zu", *len,
                       cap);
    return status;
}

void tr_tuner_report(trueno_store_report *out, const trueno_tuner *t, const struct tr_store *s,
                     const struct tr_store_report *seen)
{
    trueno_store_report r = TRUENO_STORE_REPORT_INIT;
    struct tr_store_report use = {0};
    uint32_t machine;
    if (!tr_store_find_machine(s, &machine, t->machine_id)) machine = UINT32_MAX;
    tr_store_review(&use, s, machine, t->kernels_version);
    r.struct_size = out->struct_size;
    r.entries = (uint32_t)tr_store_n_entries(s);
    r.dropped = seen->bad_machines + seen->bad_entries + seen->duplicates + seen->bad_sections +
                seen->unknown_sections;
    r.usable = use.usable;
    r.foreign = use.foreign;
    r.stale = use.stale;
    r.unknown = use.unknown_variants;
    r.forgotten = use.forgotten;
    memcpy(out, &r, sizeof r);
}

/* Joins `other`, which was read as `seen` says, and lets it count. */
static trueno_status join(trueno_tuner *t, trueno_store_report *report,
                          const struct tr_store *other, const struct tr_store_report *seen,
                          trueno_error *err)
{
    struct tr_store_report merged = {0};
    bool models = false;
    trueno_status status = tr_tuner_remember(t, err);
    if (status != TRUENO_OK) return status;
    pthread_mutex_lock(&t->adding);
    status = tr_store_merge(t->store, other, &merged, err);
    pthread_mutex_unlock(&t->adding);
    if (status != TRUENO_OK) return status;
    tr_slots_recall(t);
    status = tr_tuner_recall_samples(t, err);
    if (status == TRUENO_OK) status = tr_tuner_join_models(t, &models, err);
    if (status != TRUENO_OK || !report) return status;
    tr_tuner_report(report, t, other, seen);
    report->added = merged.n_new;
    report->replaced = merged.n_replaced;
    report->models = models;
    return TRUENO_OK;
}

/* Before a join: the report is empty on failure. */
static trueno_status begin_join(trueno_tuner *t, trueno_store_report *report, trueno_error *err)
{
    trueno_store_report empty = TRUENO_STORE_REPORT_INIT;
    if (report && !TR_STRUCT_OK(report))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "tuner: struct_size of the report is %zu; use TRUENO_STORE_REPORT_INIT",
                       report->struct_size);
    if (report) {
        empty.struct_size = report->struct_size;
        memcpy(report, &empty, sizeof empty);
    }
    return begin(t, true, err);
}

trueno_status trueno_tuner_import(trueno_tuner *t, trueno_store_report *report, const void *buf,
                                  size_t len, trueno_error *err)
{
    struct tr_store_report seen = {0};
    struct tr_store *other = NULL;
    if (!buf) return tr_fail(err, TRUENO_ERR_ARGUMENT, "import: buf is NULL");
    trueno_status status = begin_join(t, report, err);
    if (status != TRUENO_OK) return status;
    status = tr_store_read(t->ctx, &other, buf, len, &seen, err);
    if (status == TRUENO_OK) status = join(t, report, other, &seen, err);
    tr_store_free(other);
    tr_tuner_leave(t);
    return status;
}

trueno_status trueno_tuner_merge(trueno_tuner *t, trueno_store_report *report, trueno_tuner *other,
                                 trueno_error *err)
{
    struct tr_store_report seen = {0};
    if (!other) return tr_fail(err, TRUENO_ERR_ARGUMENT, "merge: other is NULL");
    if (t == other) return TRUENO_OK;
    trueno_status status = begin_join(t, report, err);
    if (status != TRUENO_OK) return status;
    status = tr_tuner_enter(other, err);
    if (status == TRUENO_OK) {
        status = tr_tuner_remember(other, err);
        if (status == TRUENO_OK) status = join(t, report, other->store, &seen, err);
        tr_tuner_leave(other);
    }
    tr_tuner_leave(t);
    return status;
}

trueno_status trueno_tuner_forget(trueno_tuner *t, const trueno_problem *p, trueno_error *err)
{
    uint32_t machine;
    uint64_t only = trueno_problem_context(p); /* 0: all */
    trueno_status status = p ? tr_problem_check(p, err) : TRUENO_OK;
    if (status == TRUENO_OK) status = begin(t, false, err);
    if (status != TRUENO_OK) return status;
    bool known = machine_of(t, &machine);
    pthread_mutex_lock(&t->adding);
    for (size_t i = 0; known && status == TRUENO_OK && i < tr_store_n_entries(t->store); i++) {
        const struct tr_wisdom *w = tr_store_at(t->store, i);
        if (w->machine != machine || w->state == TR_WISDOM_FORGOTTEN) continue;
        if (only && w->context != only) continue;
        status = tr_store_forget(t->store, machine, w->context, err);
    }
    for (size_t i = 0; i < TR_MAX_SLOTS; i++) {
        uint64_t key = atomic_load(&t->slots[i].key);
        if (key != 0 && (!only || key == only)) tr_slot_order(&t->slots[i], TR_ORDER_BEGIN);
    }
    pthread_mutex_unlock(&t->adding);
    tr_tuner_leave(t);
    return status;
}

uint64_t trueno_tuner_digest(trueno_tuner *t)
{
    uint64_t digest = 0;
    if (begin(t, false, NULL) != TRUENO_OK) return 0;
    bool reads = t->mode == TRUENO_TUNER_OFF || t->mode == TRUENO_TUNER_STRICT;
    if (reads || tr_tuner_remember(t, NULL) == TRUENO_OK) tr_store_digest(t->store, &digest, NULL);
    tr_tuner_leave(t);
    return digest;
}
