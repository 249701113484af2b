/* SPDX-License-Identifier: MIT */
/* Two stores into one, and what the entries of one are good for. */
#include <string.h>

#include "base/error.h"
#include "simd/kernel.h"
#include "tuner/context.h"
#include "tuner/samples.h"
#include "tuner/store_impl.h"

enum {
    N_BLOBS = TR_SECTION_END - TR_SECTION_FIRST,
    SAMPLES = TR_SECTION_LEDGER - TR_SECTION_FIRST
};

/* What dst will need; machine i of src is map[i] of dst, the new ones behind the old. */
struct join {
    uint32_t map[TR_STORE_MAX_MACHINES];
    size_t n_machines, n_entries; /* of dst, afterwards */
    struct tr_store_blob blobs[N_BLOBS];
    bool samples; /* the blob of samples is the joined one */
};

static void count(struct join *j, const struct tr_store *dst, const struct tr_store *src)
{
    j->n_machines = tr_store_n_machines(dst);
    j->n_entries = tr_store_n_entries(dst);
    for (size_t i = 0; i < tr_store_n_machines(src); i++)
        if (!tr_store_find_machine(dst, &j->map[i], tr_store_machine_at(src, i)->id))
            j->map[i] = (uint32_t)j->n_machines++;
    for (size_t i = 0; i < tr_store_n_entries(src); i++) {
        const struct tr_wisdom *w = tr_store_at(src, i);
        j->n_entries += !tr_store_holds(dst, j->map[w->machine], w->context);
    }
}

static bool are_samples(const struct tr_store_blob *b)
{
    return b->bytes && tr_samples_ok(b->bytes, b->n);
}

/* Collected samples are no versions of each other: both stores' count. What is none counts only
 * where both are not. False: no memory. */
static bool join_samples(struct join *j, trueno_ctx *ctx, const struct tr_store_blob *a,
                         const struct tr_store_blob *b)
{
    struct tr_store_blob *out = &j->blobs[SAMPLES];
    const bool older = are_samples(a) && a->generation > b->generation;
    out->bytes = tr_alloc(ctx, TR_SAMPLES_BYTES);
    if (!out->bytes) return false;
    out->n = tr_samples_join(out->bytes, a->bytes, a->n, b->bytes, b->n);
    out->generation = older ? a->generation : b->generation;
    j->samples = true;
    return true;
}

static bool copy_blobs(struct join *j, trueno_ctx *ctx, const struct tr_store *dst,
                       const struct tr_store *src)
{
    for (int i = 0; i < N_BLOBS; i++) {
        const struct tr_store_blob *b = &src->blobs[i];
        if (!b->bytes) continue;
        if (i == SAMPLES && are_samples(b)) {
            if (!join_samples(j, ctx, &dst->blobs[i], b)) return false;
            continue;
        }
        if (i == SAMPLES && are_samples(&dst->blobs[i])) continue;
        j->blobs[i] = (struct tr_store_blob){tr_alloc(ctx, b->n), b->n, b->generation};
        if (!j->blobs[i].bytes) return false;
        memcpy(j->blobs[i].bytes, b->bytes, b->n);
    }
    return true;
}

/* Cannot fail: there is room. */
static void join(struct tr_store *dst, const struct tr_store *src, const struct join *j,
                 struct tr_store_report *report)
{
    struct tr_store_report lost = {0};
    uint32_t index;
    for (size_t i = 0; i < tr_store_n_machines(src); i++)
        tr_store_join_machine(dst, &index, tr_store_machine_at(src, i), NULL, NULL);
    const size_t n = tr_store_n_entries(src), before = tr_store_n_entries(dst);
    for (size_t i = 0; i < n; i++) {
        struct tr_wisdom w = *tr_store_at(src, i);
        w.machine = j->map[w.machine];
        tr_store_join(dst, &w, &lost, NULL);
    }
    for (int i = 0; i < N_BLOBS; i++) {
        if (!j->blobs[i].bytes) continue;
        if (i == SAMPLES && j->samples) {
            tr_free(dst->ctx, dst->blobs[i].bytes);
            dst->blobs[i] = j->blobs[i];
        } else {
            tr_store_join_blob(dst, (enum tr_section)(TR_SECTION_FIRST + i), j->blobs[i]);
        }
    }
    if (!report) return;
    report->n_machines += (uint32_t)tr_store_n_machines(src);
    report->n_entries += (uint32_t)n;
    report->n_new += (uint32_t)(tr_store_n_entries(dst) - before);
    report->n_replaced += lost.n_replaced;
    report->duplicates += lost.duplicates;
}

trueno_status tr_store_merge(struct tr_store *dst, const struct tr_store *src,
                             struct tr_store_report *report, trueno_error *err)
{
    struct join j = {.n_machines = 0};
    count(&j, dst, src);
    if (j.n_machines > TR_STORE_MAX_MACHINES || j.n_entries > TR_STORE_MAX_ENTRIES)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE,
                       "merge: %zu machines and %zu entries in all, the limits are %d and %d",
                       j.n_machines, j.n_entries, TR_STORE_MAX_MACHINES, TR_STORE_MAX_ENTRIES);
    if (!copy_blobs(&j, dst->ctx, dst, src) || !tr_store_reserve(dst, j.n_machines, j.n_entries)) {
        for (int i = 0; i < N_BLOBS; i++) tr_free(dst->ctx, j.blobs[i].bytes);
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "merge: no memory for %zu entries", j.n_entries);
    }
    join(dst, src, &j, report);
    return TRUENO_OK;
}

/* ----------------------------------------------------------------------- use */

enum tr_wisdom_use tr_wisdom_use_of(const struct tr_wisdom *w, uint32_t machine, uint64_t version)
{
    if (w->state == TR_WISDOM_FORGOTTEN) return TR_WISDOM_NONE;
    if (w->machine != machine) return TR_WISDOM_FOREIGN;
    bool known = w->kind == TRUENO_PROBLEM_PASS
                     ? tr_threads_named(w->variant) > 0
                     : tr_kernel_named(w->variant, strlen(w->variant)) != NULL;
    if (!known) return TR_WISDOM_UNKNOWN_VARIANT;
    return w->version == version ? TR_WISDOM_USABLE : TR_WISDOM_STALE;
}

void tr_store_review(struct tr_store_report *report, const struct tr_store *s, uint32_t machine,
                     uint64_t version)
{
    for (size_t i = 0; i < tr_store_n_entries(s); i++) {
        switch (tr_wisdom_use_of(tr_store_at(s, i), machine, version)) {
        case TR_WISDOM_USABLE: report->usable++; break;
        case TR_WISDOM_STALE: report->stale++; break;
        case TR_WISDOM_UNKNOWN_VARIANT: report->unknown_variants++; break;
        case TR_WISDOM_FOREIGN: report->foreign++; break;
        case TR_WISDOM_NONE: report->forgotten++; break;
        }
    }
}
