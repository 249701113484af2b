/* SPDX-License-Identifier: MIT */
/* Changes that a regressor expects to pay (trueno/advice.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "tuner/experiments.h"
#include "tuner/regressor.h"

enum { KINDS = TRUENO_EXPERIMENT_CONTEXT + 1 };

/* Drafts that the guess of their acceptance counts for. */
#define PRIOR_DRAFTS 2.0
/* All drafts accepted for ever: kept() divides by what is missing to 1. */
#define MAX_ACCEPTANCE 0.999
/* A gain below this is not told from none. */
#define WORTH 1.015
/* Of the errors of two predictions for one machine. */
#define CORRELATION 0.9

/* The present state, and the best change of each kind so far; gain 0: none. */
struct search {
    const trueno_regressor *r;
    const trueno_features *f;
    const struct tr_acceptance *acceptance;
    double best_draft;
    tr_raw_values raw;
    bool gpu, decode;
    trueno_prediction now;
    trueno_experiment best[KINDS];
};

/* Tokens that a pass with `drafts` keeps, each accepted with probability p, over those it computes.
 */
static double kept(double drafts, double p)
{
    return (1 - pow(p, drafts + 1)) / (1 - p) / (1 + drafts);
}

/* How gains change with drafts, where each is accepted with one probability. */
static double draft_factor(double from, double to, double p)
{
    return kept(to, p) / kept(from, p);
}

static bool gain_of(trueno_experiment *e, const struct search *s, const trueno_features *f)
{
    trueno_prediction then = TRUENO_PREDICTION_INIT;
    struct tr_run run;
    if (tr_regressor_predict(s->r, &then, &run, f, NULL) != TRUENO_OK) return false;
    double w1 = log(s->now.predicted_tps / s->now.lo), w2 = log(then.predicted_tps / then.lo);
    if (!isfinite(w1) || !isfinite(w2)) return false; /* an interval that begins at 0 */
    double w = sqrt(fmax(w1 * w1 + w2 * w2 - 2 * CORRELATION * w1 * w2, 0));
    double ratio = then.predicted_tps / s->now.predicted_tps, factor = 1, low = 1, high = 1;
    if (e->kind == TRUENO_EXPERIMENT_DRAFT) {
        double a = draft_factor(e->from, e->to, s->acceptance->lo);
        double b = draft_factor(e->from, e->to, s->acceptance->hi);
        factor = draft_factor(e->from, e->to, s->acceptance->p);
        low = fmin(a, b);
        high = fmax(a, b);
    }
    e->gain = ratio * factor;
    e->gain_lo = ratio * low * exp(-w);
    e->gain_hi = ratio * high * exp(w);
    return e->gain_lo > WORTH;
}

/* Tries `to` in the place of `from`, with the features f, and keeps it if it is the best. The gain,
 * sure or not. */
static double consider(struct search *s, trueno_experiment_kind kind, double from, double to,
                       const trueno_features *f)
{
    trueno_experiment e = TRUENO_EXPERIMENT_INIT;
    e.kind = kind;
    e.from = from;
    e.to = to;
    e.gain = 1;
    if (to != from && gain_of(&e, s, f) && e.gain_lo > s->best[kind].gain_lo) s->best[kind] = e;
    return e.gain;
}

/* ------------------------------------------------------------------- the kinds */

/* Weights and the keys and values of all sequences, in bytes, are within the memory that is known.
 */
static bool fits(const struct search *s, const trueno_features *f)
{
    struct tr_roofline roof;
    tr_raw_values raw;
    double gib = s->gpu ? s->raw[TRUENO_FEATURE_VRAM_GB] : s->raw[TRUENO_FEATURE_SYSTEM_RAM_GB];
    if (gib == 0) return true;
    if (tr_roofline_of(&roof, f, NULL) != TRUENO_OK || tr_features_resolve(raw, f, NULL))
        return false;
    double tokens = raw[TRUENO_FEATURE_KV_CACHE_TOKENS] + roof.tokens; /* that kv_bytes are of */
    double room = raw[TRUENO_FEATURE_BATCH_SIZE] * raw[TRUENO_FEATURE_CONTEXT_LEN];
    return roof.weight_bytes + roof.kv_bytes / tokens * fmax(tokens, room) <= gib * 0x1p30;
}

static void try_batches(struct search *s)
{
    static const double factors[] = {0.5, 2, 4};
    double from = s->raw[TRUENO_FEATURE_BATCH_SIZE];
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++) {
        trueno_features f = *s->f;
        f.batch_size = floor(from * factors[i]);
        if (f.kv_cache_tokens != TRUENO_UNSET)
            f.kv_cache_tokens = floor(f.kv_cache_tokens * f.batch_size / from);
        if (f.batch_size >= 1 && (f.batch_size < from || fits(s, &f)))
            consider(s, TRUENO_EXPERIMENT_BATCH, from, f.batch_size, &f);
    }
}

static void try_graphs(struct search *s)
{
    trueno_features f = *s->f;
    f.cuda_graphs = 1;
    if (s->gpu)
        consider(s, TRUENO_EXPERIMENT_CUDA_GRAPHS, s->raw[TRUENO_FEATURE_CUDA_GRAPHS], 1, &f);
}

static void try_threads(struct search *s)
{
    double from = s->raw[TRUENO_FEATURE_CPU_THREADS], cores = s->raw[TRUENO_FEATURE_SM_COUNT];
    const double to[] = {1, floor(from / 2), 2 * from, cores};
    for (size_t i = 0; i < sizeof to / sizeof *to && !s->gpu; i++) {
        trueno_features f = *s->f;
        f.cpu_threads = to[i];
        if (to[i] >= 1 && (to[i] < from || to[i] <= cores))
            consider(s, TRUENO_EXPERIMENT_THREADS, from, to[i], &f);
    }
}

static void try_drafts(struct search *s)
{
    static const double to[] = {0, 1, 2, 4, 8};
    double from = s->raw[TRUENO_FEATURE_DRAFT_TOKENS], best = 1;
    s->best_draft = from;
    for (size_t i = 0; i < sizeof to / sizeof *to && s->decode; i++) {
        trueno_features f = *s->f;
        f.draft_tokens = to[i];
        double gain = consider(s, TRUENO_EXPERIMENT_DRAFT, from, to[i], &f);
        if (gain <= best) continue;
        best = gain;
        s->best_draft = to[i];
    }
}

static void try_context(struct search *s)
{
    double from = s->raw[TRUENO_FEATURE_SEQ_LEN], to = floor(from / 2);
    trueno_features f = *s->f;
    if (!s->decode || to < 1) return;
    f.seq_len = to;
    if (f.kv_cache_tokens != TRUENO_UNSET) f.kv_cache_tokens = floor(f.kv_cache_tokens / 2);
    consider(s, TRUENO_EXPERIMENT_CONTEXT, from, to, &f);
}

/* ----------------------------------------------------------------------- words */

static void put_text(trueno_experiment *e)
{
    const char *form = NULL;
    switch (e->kind) {
    case TRUENO_EXPERIMENT_BATCH: form = "advance %.0f sequences at once instead of %.0f"; break;
    case TRUENO_EXPERIMENT_THREADS: form = "compute with %.0f threads instead of %.0f"; break;
    case TRUENO_EXPERIMENT_DRAFT: form = "draft %.0f tokens a pass instead of %.0f"; break;
    case TRUENO_EXPERIMENT_CONTEXT: form = "attend to %.0f tokens instead of %.0f"; break;
    default: break;
    }
    if (e->kind == TRUENO_EXPERIMENT_CUDA_GRAPHS)
        snprintf(e->text, sizeof e->text, "launch kernels by CUDA graphs");
    else if (form)
        snprintf(e->text, sizeof e->text, form, e->to, e->from);
}

size_t trueno_experiment_format(char *buf, size_t cap, const trueno_experiment *e)
{
    if (cap > 0 && buf) buf[0] = 0;
    if (!e || !TR_STRUCT_OK(e)) return 0;
    int n = snprintf(cap ? buf : NULL, buf ? cap : 0,
                     "%.*s: %+.0f %% tokens/s (%+.0f %% to %+.0f %%)", (int)sizeof e->text - 1,
                     e->text, 100 * (e->gain - 1), 100 * (e->gain_lo - 1), 100 * (e->gain_hi - 1));
    return n > 0 ? (size_t)n : 0;
}

/* ------------------------------------------------------------------------ calls */

static trueno_status check_call(const trueno_experiment *out, size_t cap, const trueno_regressor *r,
                                const trueno_features *f, trueno_error *err)
{
    if (!r || !f || (!out && cap > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "experiments: %s is NULL",
                       !r   ? "r"
                       : !f ? "f"
                            : "out");
    if (cap > 0 && !TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "experiments: struct_size is %zu; use TRUENO_EXPERIMENT_INIT",
                       out->struct_size);
    return TRUENO_OK;
}

/* The best of all kinds, the largest gain first, into an array of elements of any later size. */
static size_t list(trueno_experiment *out, size_t cap, struct search *s)
{
    const size_t size = cap ? out->struct_size : 0;
    size_t n = 0;
    while (n < cap) {
        trueno_experiment *top = &s->best[0];
        for (size_t k = 1; k < KINDS; k++)
            if (s->best[k].gain > top->gain) top = &s->best[k];
        if (!(top->gain > 0)) break;
        put_text(top);
        top->struct_size = size;
        memcpy((char *)out + n++ * size, top, sizeof *top);
        top->gain = 0;
    }
    return n;
}

struct tr_acceptance tr_acceptance_of(uint64_t checked, uint64_t accepted)
{
    if (checked == 0) return (struct tr_acceptance){0.7, 0.5, 0.85};
    /* the mean and the normal approximation of the beta distribution */
    double a = 0.7 * PRIOR_DRAFTS + (double)accepted, n = PRIOR_DRAFTS + (double)checked;
    double p = a / n, off = 1.645 * sqrt(p * (1 - p) / (n + 1));
    return (struct tr_acceptance){p, fmax(p - off, 0), fmin(p + off, MAX_ACCEPTANCE)};
}

trueno_status tr_experiments_of(trueno_experiment *out, size_t cap, size_t *n, uint32_t *draft,
                                const trueno_regressor *r, const trueno_features *f,
                                const struct tr_acceptance *acceptance, trueno_error *err)
{
    struct tr_run run;
    struct search s = {.r = r, .f = f, .now = TRUENO_PREDICTION_INIT, .acceptance = acceptance};

    if (!n) return tr_fail(err, TRUENO_ERR_ARGUMENT, "experiments: n is NULL");
    *n = 0;
    trueno_status status = check_call(out, cap, r, f, err);
    if (status == TRUENO_OK) status = tr_regressor_predict(r, &s.now, &run, f, err);
    if (status != TRUENO_OK) return status;
    memcpy(s.raw, run.raw, sizeof s.raw);
    s.gpu = s.raw[TRUENO_FEATURE_VRAM_GB] > 0;
    s.decode = trueno_features_phase(f) == TRUENO_PHASE_DECODE;
    try_batches(&s);
    try_graphs(&s);
    try_threads(&s);
    try_drafts(&s);
    try_context(&s);
    *n = list(out, cap, &s);
    *draft = (uint32_t)s.best_draft; /* as the features say where nothing is drafted */
    return TRUENO_OK;
}

trueno_status trueno_experiments_of(trueno_experiment *out, size_t cap, size_t *n,
                                    const trueno_regressor *r, const trueno_features *f,
                                    trueno_error *err)
{
    const struct tr_acceptance guess = tr_acceptance_of(0, 0);
    uint32_t draft;
    return tr_experiments_of(out, cap, n, &draft, r, f, &guess, err);
}
