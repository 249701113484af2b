/* SPDX-License-Identifier: MIT */
/* First-run calibration: the machine's roofs, races of the kernels of the contexts that matter, and
 * the losses that are usual here (trueno/calibrate.h).
 *
 * Every race is run by the policy that also learns inside an application (policy.h): interleaved
 * calls, differences within turns, the default leaves only when another one is proven faster. */
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "trueno/quantize.h"
#include "tuner/bed.h"
#include "tuner/regressor.h"
#include "tuner/tuner_impl.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GATE_BLOCKS = 12, MAX_CONTEXTS = 256, MAX_CALLS = 2000 };

/* Differences above this cannot be told from noise: then nothing is chosen. */
#define MDE_LIMIT 0.015
/* Share of the budget that the roofs may take. */
#define ROOF_SHARE 0.3
/* Copies of the weights are this many times the last cache, and at most this large. */
#define RING_CACHES 2
#define RING_MAX    ((uint64_t)512 << 20)
/* Below so many caches they are hot. */
#define COLD_CACHES 1.5

/* One context, and what its default takes. */
struct context {
    trueno_problem problem;
    double seconds; /* of a call of the default; 0: not measured */
};

struct run {
    trueno_tuner *t;
    trueno_calibration *out;
    uint64_t began, until, ring_bytes;
    trueno_machine_point roof;
    uint8_t effort;
    bool gated; /* what can be told apart is known */
    trueno_pool *pool;
    size_t n_contexts;
    struct context contexts[MAX_CONTEXTS];
};

static bool over(const struct run *r)
{
    return tr_clock_ns(&r->t->clock) >= r->until || tr_cancelled(r->t->ctx);
}

static void show_progress(const struct run *r)
{
    uint64_t total = (r->until - r->began) / 1000000,
             done = (tr_clock_ns(&r->t->clock) - r->began) / 1000000;
    tr_progress(r->t->ctx, "calibrate", done < total ? done : total, total);
}

/* ------------------------------------------------------------------------- races */

static uint64_t time_call(struct run *r, struct tr_bed *bed, const struct tr_kernel *k)
{
    uint64_t ns = tr_bed_time(bed, k, &r->t->clock);
    atomic_fetch_add(&r->t->n.kernel_runs, 1);
    r->out->n_measurements++;
    return r->t->tamper ? r->t->tamper(k, ns) : ns;
}

/* The least difference that can be told: one kernel in the place of two, in turns A B B A; half of
 * the 95 % interval of the mean of ln(B / A). */
static void gate(struct run *r, struct tr_bed *bed, const struct tr_kernel *k)
{
    double mean = 0, m2 = 0;
    int n = 0;
    while (n < GATE_BLOCKS && !over(r)) {
        double a = (double)time_call(r, bed, k), b = (double)time_call(r, bed, k);
        b *= (double)time_call(r, bed, k);
        a *= (double)time_call(r, bed, k);
        double d = 0.5 * log(b / a), step = d - mean;
        mean += step / ++n;
        m2 += step * (d - mean);
    }
    if (n > 2) r->out->mde_pct = 100 * 1.96 * sqrt(m2 / (n - 1) / n);
    r->out->noisy = n <= 2 || r->out->mde_pct > 100 * MDE_LIMIT;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The slot's race on the bed, until its policy has decided. The median time of the default. */
static double race(struct run *r, struct tr_bed *bed, struct tr_slot *slot)
{
    double times[64];
    int n = 0;
    for (int i = 0; i < MAX_CALLS && !over(r); i++) {
        bool decided = !slot->policy || slot->policy->phase != TR_POLICY_RACE || r->out->noisy;
        if (decided && n >= 5) break;
        uint32_t arm = decided ? 0 : tr_slot_next(slot);
        uint64_t ns = time_call(r, bed, slot->arms[arm]);
        if (!decided) tr_slot_measured(slot, arm, ns);
        if (arm == 0 && n < 64) times[n++] = (double)ns * 1e-9;
    }
    if (n < 5) return 0;
    qsort(times, (size_t)n, sizeof *times, compare);
    return times[n / 2];
}

/* A context that no kernel computes, or whose slot a session has, is left out. */
static trueno_status measure_context(struct run *r, struct context *c, trueno_error *err)
{
    struct tr_bed *bed;
    struct tr_slot *slot = tr_tuner_slot(r->t, &c->problem);
    if (!slot || !tr_slot_hold(slot)) return TRUENO_OK;
    trueno_status status = tr_bed_new(&bed, r->t->ctx, &c->problem, r->pool, r->ring_bytes, err);
    if (status == TRUENO_OK) {
        double ring = (double)tr_bed_ring_bytes(bed);
        r->out->hot |= ring < COLD_CACHES * (double)trueno_cache_bytes();
        if (!r->gated) gate(r, bed, slot->arms[0]);
        r->gated = true;
        if (!r->out->noisy) tr_slot_begin_race(slot, r->effort);
        c->seconds = race(r, bed, slot);
        r->out->n_contexts += c->seconds > 0;
        r->out->n_changed += tr_slot_pick(slot) != 0;
    }
    tr_bed_free(bed);
    tr_slot_give(slot);
    return status;
}

/* ------------------------------------------------------------------------ losses */

/* A product as a run of one token: its roof and the losses that are usual on a CPU. */
static struct tr_times times_of(const struct run *r, const trueno_problem *p)
{
    struct tr_times t = {.roof.tokens = 1};
    double bytes = (double)p->rows * (double)trueno_row_bytes(p->type, p->cols);
    double macs = (double)p->rows * (double)p->cols * p->n_cols;
    bool floats =
        p->type == TRUENO_TYPE_F32 || p->type == TRUENO_TYPE_F16 || p->type == TRUENO_TYPE_BF16;
    t.roof.t_mem = bytes / (r->roof.read_gbs * 1e9);
    t.roof.t_cmp = macs / ((floats ? r->roof.f32_gmacs : r->roof.int8_gmacs) * 1e9);
    t.roof.t_floor = fmax(t.roof.t_mem, t.roof.t_cmp);
    t.roof.tps = 1 / t.roof.t_floor;
    t.excess = tr_usual_excess_cpu(&t.roof);
    t.group = p->phase == TRUENO_PHASE_PREFILL;
    return t;
}

/* Contexts of a phase that were measured below their roof, in order: the even ones are for fitting,
 * the odd ones for judging. */
struct sample {
    struct tr_times times;
    double f, tps;
};

static size_t samples_of(struct sample *out, const struct run *r, uint32_t group)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_contexts; i++) {
        struct sample s = {.times = times_of(r, &r->contexts[i].problem)};
        if (r->contexts[i].seconds <= 0 || s.times.group != group) continue;
        s.tps = 1 / r->contexts[i].seconds;
        if (tr_f_of(&s.f, &s.times, s.tps)) out[n++] = s;
    }
    return n;
}

/* Sum of |predicted / measured - 1| over the odd samples, each with f. */
static double error_of(const struct sample *s, size_t n, double f)
{
    double sum = 0;
    for (size_t i = 1; i < n; i += 2) sum += fabs(tr_tps_of(&s[i].times, f) / s[i].tps - 1);
    return sum;
}

/* Fits the losses of each phase on one half of its contexts, judges them on the other, and keeps
 * them if that is better beyond noise. */
static void fit_losses(struct run *r, struct sample *s)
{
    trueno_calibration *out = r->out;
    double f[2], before = 0, after = 0;
    size_t judged = 0;
    for (uint32_t group = 0; group < 2; group++) {
        size_t n = samples_of(s, r, group), fitted = (n + 1) / 2;
        double was = tr_regressor_prior(r->t->regressor, group);
        f[group] = n > 1 ? 0 : was;
        for (size_t i = 0; i < n && n > 1; i += 2) f[group] += s[i].f / (double)fitted;
        before += error_of(s, n, was);
        after += error_of(s, n, f[group]);
        judged += n / 2;
    }
    if (judged == 0) return;
    out->mape_before = before / (double)judged;
    out->local_mape = after / (double)judged;
    if (!(before > 0)) return;
    out->improvement_pct = 100 * (1 - after / before);
    if (100 * (out->mape_before - out->local_mape) <= out->mde_pct) return;
    pthread_rwlock_wrlock(&r->t->models);
    out->applied = tr_regressor_set_prior(r->t->regressor, f[0], f[1]);
    if (out->applied) {
        trueno_learner_free(r->t->learner); /* it went on from other losses */
        r->t->learner = NULL;
        r->t->mape = out->local_mape;
        r->t->accuracy = (trueno_accuracy)TRUENO_ACCURACY_INIT;
        r->t->accuracy.split = "every second context of a calibration";
        r->t->accuracy.n = judged;
        tr_accuracy_date(&r->t->accuracy);
        snprintf(r->t->accuracy.machine, sizeof r->t->accuracy.machine, "%s", r->t->machine_id);
        tr_tuner_name_version(r->t);
    }
    pthread_rwlock_unlock(&r->t->models);
}

/* ------------------------------------------------------------------------ the call */

/* Contexts of models of about 1.1 B weights: one token, and a batch of a prompt. */
static void usual_contexts(struct run *r, uint32_t threads)
{
    static const trueno_dtype types[] = {TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q6_K, TRUENO_TYPE_Q8_0};
    static const size_t shapes[][2] = {{2048, 2048}, {5632, 2048}, {2048, 5632}};
    for (int prefill = 0; prefill < 2; prefill++)
        for (size_t t = 0; t < 3; t++)
            for (size_t s = 0; s < 3; s++) {
                trueno_problem *p = &r->contexts[r->n_contexts++].problem;
                *p = (trueno_problem)TRUENO_PROBLEM_INIT;
                p->type = types[t];
                p->rows = shapes[s][0];
                p->cols = shapes[s][1];
                p->threads = threads;
                p->n_cols = prefill ? 512 : 1;
                p->phase = prefill ? TRUENO_PHASE_PREFILL : TRUENO_PHASE_DECODE;
            }
}

static trueno_status read_call(struct run *r, const trueno_calibrate_options *o, trueno_error *err)
{
    static const uint32_t budgets_ms[] = {2000, 10000, 60000};
    uint32_t budget = o->budget_ms, threads = o->threads ? o->threads : trueno_cpu_count();
    if ((unsigned)o->effort > TRUENO_EFFORT_PATIENT)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "calibration: effort %d is none", (int)o->effort);
    if (o->n_problems > MAX_CONTEXTS || (o->n_problems > 0 && !o->problems))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "calibration: problems is NULL or more than %d",
                       MAX_CONTEXTS);
    for (size_t i = 0; i < o->n_problems; i++) {
        trueno_status status = tr_problem_check(&o->problems[i], err);
        if (status != TRUENO_OK) return status;
        if (o->problems[i].kind != TRUENO_PROBLEM_PRODUCT)
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "calibration: problem %zu is no product", i);
        if (i > 0 && o->problems[i].threads != o->problems[0].threads)
            return tr_fail(err, TRUENO_ERR_ARGUMENT,
                           "calibration: problems of %u and of %u threads; one number at a time",
                           o->problems[0].threads, o->problems[i].threads);
        r->contexts[r->n_contexts++].problem = o->problems[i];
    }
    if (o->n_problems > 0) threads = o->problems[0].threads;
    if (o->n_problems == 0) usual_contexts(r, threads);
    r->began = tr_clock_ns(&r->t->clock);
    r->effort = (uint8_t)o->effort; /* the enums are the same */
    if (budget == 0) budget = budgets_ms[o->effort];
    r->until = r->began + (uint64_t)budget * 1000000;
    r->ring_bytes = RING_CACHES * (uint64_t)trueno_cache_bytes();
    if (r->ring_bytes > RING_MAX) r->ring_bytes = RING_MAX;
    const uint64_t most = r->t->options.max_scratch_bytes;
    if (most > 0 && r->ring_bytes > most) r->ring_bytes = most;
    return trueno_pool_new(r->t->ctx, &r->pool, threads, err);
}

static trueno_status measure_roof(struct run *r, trueno_error *err)
{
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
    const uint32_t all = trueno_pool_size(r->pool);
    const uint32_t threads[] = {all, (all + 1) / 2, 1}; /* as passes are tried with */
    const size_t n = all > 2 ? 3 : all;
    uint32_t budget = (uint32_t)(ROOF_SHARE * (double)(r->until - r->began) / 1e6);
    trueno_status status = TRUENO_OK;
    if (r->t->roof)
        profile.points[profile.n++] = *r->t->roof;
    else
        status = trueno_machine_measure(r->t->ctx, &profile, threads, n, budget ? budget : 1, err);
    if (status != TRUENO_OK) return status;
    r->roof = profile.points[0];
    r->out->read_gbs = r->roof.read_gbs;
    r->out->int8_gmacs = r->roof.int8_gmacs;
    for (uint32_t i = 0; i < profile.n && status == TRUENO_OK; i++)
        status = tr_tuner_put_point(r->t, &profile.points[i], err);
    return status;
}

static trueno_status calibrate(struct run *r, const trueno_calibrate_options *o, trueno_error *err)
{
    trueno_status status = read_call(r, o, err);
    if (status == TRUENO_OK) status = measure_roof(r, err);
    size_t i = 0;
    for (; status == TRUENO_OK && i < r->n_contexts && !over(r); i++) {
        show_progress(r);
        status = measure_context(r, &r->contexts[i], err);
    }
    if (status == TRUENO_ERR_CANCELLED) status = TRUENO_OK; /* what was measured counts */
    if (status != TRUENO_OK) return status;
    r->out->partial = r->out->n_contexts < r->n_contexts;
    if (!r->gated) r->out->noisy = true; /* nobody knows */
    struct sample *samples = tr_alloc(r->t->ctx, MAX_CONTEXTS * sizeof *samples);
    if (!samples) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "calibration: no memory");
    fit_losses(r, samples);
    tr_free(r->t->ctx, samples);
    r->out->duration_ms = (double)(tr_clock_ns(&r->t->clock) - r->began) / 1e6;
    if (r->out->noisy) atomic_fetch_add(&r->t->n.noisy, 1);
    return tr_tuner_remember(r->t, err);
}

trueno_status trueno_tuner_calibrate(trueno_tuner *t, trueno_calibration *out,
                                     const trueno_calibrate_options *opt, trueno_error *err)
{
    trueno_calibrate_options o = TRUENO_CALIBRATE_OPTIONS_INIT;
    trueno_calibration c = TRUENO_CALIBRATION_INIT;
    if (!t || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "calibration: %s is NULL", t ? "out" : "t");
    if (!TR_STRUCT_OK(out) || (opt && !tr_struct_read(&o, sizeof o, opt, sizeof o)))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "calibration: struct_size is wrong; use TRUENO_CALIBRATION_INIT and "
                       "TRUENO_CALIBRATE_OPTIONS_INIT");
    if (!opt) o.effort = t->options.effort;
    c.struct_size = out->struct_size;
    c.local_mape = c.mape_before = NAN;
    memcpy(out, &c, sizeof c);
    if (t->mode == TRUENO_TUNER_OFF || t->mode == TRUENO_TUNER_STRICT)
        return tr_fail(err, TRUENO_ERR_READ_ONLY, "calibration: the tuner's mode changes nothing");
    trueno_status status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    struct run *r = tr_calloc(t->ctx, 1, sizeof *r);
    if (r) {
        r->t = t;
        r->out = &c;
        snprintf(c.hardware_id, sizeof c.hardware_id, "%s", t->machine_id);
        atomic_store(&t->patient, t->options.effort == TRUENO_EFFORT_PATIENT ||
                                      o.effort == TRUENO_EFFORT_PATIENT);
        status = calibrate(r, &o, err);
        atomic_store(&t->patient, t->options.effort == TRUENO_EFFORT_PATIENT);
        trueno_pool_free(r->pool);
        tr_free(t->ctx, r);
    } else {
        status = tr_fail(err, TRUENO_ERR_NO_MEMORY, "calibration: no memory");
    }
    tr_tuner_leave(t);
    if (status == TRUENO_OK) memcpy(out, &c, sizeof c);
    return status;
}
