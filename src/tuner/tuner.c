/* SPDX-License-Identifier: MIT */
/* The tuner: its life, and its answers (trueno/tuner.h). */
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "simd/kernel.h"
#include "trueno/kernels.h"
#include "trueno/quantize.h"
#include "tuner/experiments.h"
#include "tuner/regressor.h"
#include "tuner/tuner_impl.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BASE_VERSION "1.0.0"

/* ----------------------------------------------------------------------- life */

void tr_tuner_name_version(trueno_tuner *t)
{
    uint64_t n = trueno_regressor_online_updates(t->regressor);
    if (n > 0)
        snprintf(t->version, sizeof t->version, "%s-online-%llu", BASE_VERSION,
                 (unsigned long long)n);
    else
        snprintf(t->version, sizeof t->version, "%s%s", BASE_VERSION,
                 tr_regressor_calibrated(t->regressor) ? "-calibrated"
                 : t->pretrained                       ? "-pretrained"
                                                       : "");
}

/* Where the store is: the path asked for, or the usual one; NULL: nowhere. */
static trueno_status set_path(trueno_tuner *t, const trueno_tuner_options *o, trueno_error *err)
{
    char usual[4096];
    const char *path = o->store_path;
    if (t->mode == TRUENO_TUNER_OFF || o->blob || (path && !*path)) return TRUENO_OK;
    if (!path) {
        t->store_status = trueno_tuner_cache_path(usual, sizeof usual);
        if (t->store_status != TRUENO_OK) return TRUENO_OK; /* in memory only */
        path = usual;
    }
    t->store_path = tr_strndup(t->ctx, path, strlen(path));
    return t->store_path ? TRUENO_OK
                         : tr_fail(err, TRUENO_ERR_NO_MEMORY, "tuner: no memory for a path");
}

/* How much of the store counts here. */
static void review_store(trueno_tuner *t, const struct tr_store_report *seen)
{
    tr_tuner_report(&t->stored, t, t->store, seen);
    tr_log(
        t->ctx, TRUENO_LOG_INFO,
        "tuner: %u stored choices count here; %u are of other machines, %u of other builds, %u of "
        "kernels that this build lacks; %u things could not be read",
        t->stored.usable, t->stored.foreign, t->stored.stale, t->stored.unknown, t->stored.dropped);
}

/* Reads the store. One that cannot be used leaves an empty one and a status. */
static trueno_status read_store(trueno_tuner *t, const trueno_tuner_options *o, trueno_error *err)
{
    trueno_error why = {TRUENO_OK, ""};
    struct tr_store_report seen = {0};
    struct tr_store *read = NULL;
    uint64_t digest = 0;
    trueno_status status = TRUENO_OK;

    if (o->blob && t->mode != TRUENO_TUNER_OFF)
        status = tr_store_read(t->ctx, &read, o->blob, o->blob_bytes, &seen, &why);
    else if (t->store_path)
        status = tr_store_load_file(t->ctx, &read, t->store_path, &seen, &why);
    if (status != TRUENO_OK) {
        tr_log(t->ctx, TRUENO_LOG_WARN, "tuner: the store is not used: %s", why.message);
        t->store_status = status;
    }
    if (read) {
        tr_store_free(t->store);
        t->store = read;
        review_store(t, &seen);
    }
    if (t->mode != TRUENO_TUNER_STRICT) return TRUENO_OK;
    if (status != TRUENO_OK) return tr_fail(err, status, "tuner, mode STRICT: %s", why.message);
    status = tr_store_digest(t->store, &digest, err);
    if (status == TRUENO_OK && o->expect_digest && digest != o->expect_digest)
        return tr_fail(err, TRUENO_ERR_STRICT_MISS,
                       "tuner, mode STRICT: the store's digest is %016llx, not %016llx",
                       (unsigned long long)digest, (unsigned long long)o->expect_digest);
    return status;
}

/* Memory of everything but the models. */
static trueno_status allocate(trueno_tuner *t, trueno_error *err)
{
    t->slots = tr_calloc(t->ctx, TR_MAX_SLOTS, sizeof *t->slots);
    t->ring = tr_calloc(t->ctx, TR_RING, sizeof *t->ring);
    if (!t->slots || !t->ring) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "tuner: no memory");
    tr_slots_init(t);
    return tr_store_new(&t->store, t->ctx, err);
}

/* Who predicts all the time must not keep out who learns: glibc lets readers go first otherwise. */
static void init_models_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attr;
    pthread_rwlockattr_init(&attr);
#ifdef __GLIBC__
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    pthread_rwlock_init(lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}

/* o: as read, and checked. */
static trueno_status make(trueno_ctx *ctx, trueno_tuner **out, const trueno_tuner_options *o,
                          trueno_error *err)
{
    trueno_machine machine = TRUENO_MACHINE_INIT;
    trueno_tuner *t = tr_calloc(ctx, 1, sizeof *t);
    *out = t;
    if (!t) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "tuner: no memory");
    t->ctx = ctx;
    tr_ctx_ref(ctx);
    t->mode = o->mode;
    t->options = *o;
    t->clock = (struct tr_clock){o->clock_fn, o->clock_user};
    atomic_init(&t->patient, o->effort == TRUENO_EFFORT_PATIENT);
    t->seed = o->seed;
    tr_random_seed(&t->random, o->seed, 0);
    t->stored = (trueno_store_report)TRUENO_STORE_REPORT_INIT;
    t->mape = NAN;
    t->accuracy = (trueno_accuracy)TRUENO_ACCURACY_INIT;
    atomic_flag_clear(&t->busy);
    pthread_mutex_init(&t->adding, NULL);
    init_models_lock(&t->models);
    const trueno_kernel_info *first = trueno_registry_at(0);
    t->kernels_version = first ? first->version : 0;
    trueno_status status = trueno_machine_get(ctx, &machine, err);
    if (status != TRUENO_OK) return status;
    snprintf(t->machine_id, sizeof t->machine_id, "%s", machine.id);
    t->cpus = machine.threads;
    return allocate(t, err);
}

static trueno_status check_options(const trueno_tuner_options *o, trueno_error *err)
{
    if ((int)o->mode < TRUENO_TUNER_OFF || o->mode > TRUENO_TUNER_LEARN)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: mode %d is none", (int)o->mode);
    if (o->blob_bytes > 0 && !o->blob)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: blob is NULL");
    if ((unsigned)o->effort > TRUENO_EFFORT_PATIENT)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: effort %d is none", (int)o->effort);
    if (!(o->audit_share >= 0 && o->audit_share <= TR_MAX_AUDIT_SHARE))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: audit_share is %g, must be 0 to %g",
                       o->audit_share, TR_MAX_AUDIT_SHARE);
    return TRUENO_OK;
}

trueno_status trueno_tuner_new(trueno_ctx *ctx, trueno_tuner **out, const trueno_tuner_options *opt,
                               trueno_error *err)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: out is NULL");
    *out = NULL;
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner: ctx is NULL");
    if (opt && !tr_struct_read(&o, sizeof o, opt, sizeof o))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "tuner: struct_size is %zu; use TRUENO_TUNER_OPTIONS_INIT",
                       opt->struct_size);
    trueno_tuner *t = NULL;
    trueno_status status = check_options(&o, err);
    if (status != TRUENO_OK) return status;
    if (o.seed == 0) o.seed = 1;
    status = make(ctx, &t, &o, err);
    if (status == TRUENO_OK)
        status = trueno_regressor_with_random_forest(ctx, &t->regressor, 100, NULL, err);
    if (status == TRUENO_OK)
        status = trueno_classifier_with_random_forest(ctx, &t->classifier, 50, NULL, err);
    if (status == TRUENO_OK) status = set_path(t, &o, err);
    if (status == TRUENO_OK) status = read_store(t, &o, err);
    if (status == TRUENO_OK) status = tr_tuner_recall_samples(t, err);
    if (status == TRUENO_OK) t->recalled = t->stored.models = tr_tuner_recall_models(t);
    if (status == TRUENO_OK) {
        tr_tuner_name_version(t);
        *out = t;
    } else {
        trueno_tuner_free(t);
    }
    return status;
}

trueno_status trueno_tuner_clone(trueno_tuner *t, trueno_tuner **out, trueno_error *err)
{
    trueno_tuner *copy = NULL;
    if (out) *out = NULL;
    if (!t || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tuner clone: %s is NULL", t ? "out" : "t");
    trueno_status status = tr_tuner_enter(t, err);
    if (status != TRUENO_OK) return status;
    status = tr_tuner_remember(t, err);
    if (status == TRUENO_OK) status = make(t->ctx, &copy, &t->options, err);
    if (status == TRUENO_OK) status = trueno_regressor_clone(t->regressor, &copy->regressor, err);
    if (status == TRUENO_OK)
        status = tr_classifier_clone(t->ctx, &copy->classifier, t->classifier, err);
    if (status == TRUENO_OK) status = tr_store_merge(copy->store, t->store, NULL, err);
    if (status == TRUENO_OK) status = tr_tuner_recall_samples(copy, err);
    if (status == TRUENO_OK) {
        copy->pretrained = t->pretrained;
        copy->mape = t->mape;
        copy->accuracy = t->accuracy;
        tr_tuner_name_version(copy);
        *out = copy;
    } else {
        trueno_tuner_free(copy);
    }
    tr_tuner_leave(t);
    return status;
}

void trueno_tuner_free(trueno_tuner *t)
{
    if (!t) return;
    trueno_ctx *ctx = t->ctx;
    tr_slots_free(t);
    tr_free(ctx, t->slots);
    tr_free(ctx, t->ring);
    tr_free(ctx, t->samples);
    tr_store_free(t->store);
    trueno_learner_free(t->learner);
    trueno_regressor_free(t->regressor);
    trueno_classifier_free(t->classifier);
    tr_free(ctx, t->store_path);
    pthread_mutex_destroy(&t->adding);
    pthread_rwlock_destroy(&t->models);
    tr_free(ctx, t);
    tr_ctx_unref(ctx);
}

trueno_tuner_mode trueno_tuner_get_mode(const trueno_tuner *t)
{
    return t ? t->mode : TRUENO_TUNER_OFF;
}

const char *trueno_tuner_version(const trueno_tuner *t)
{
    return t ? t->version : "";
}

static void add_coverage(trueno_tuner_stats *s, const trueno_tuner *t)
{
    size_t n;
    pthread_rwlock_t *models = (pthread_rwlock_t *)&t->models; /* what a lock changes is not t */
    pthread_rwlock_rdlock(models);
    trueno_regressor_coverage(t->regressor, &s->coverage, &n);
    pthread_rwlock_unlock(models);
}

/* Sums over the contexts that nobody is learning from right now. */
static void add_ledger(trueno_tuner_stats *s, const trueno_tuner *t)
{
    double credit = 0, lost = 0, calls = 0;
    for (size_t i = 0; i < TR_MAX_SLOTS; i++) {
        struct tr_slot *slot = &t->slots[i];
        double upper;
        if (atomic_load_explicit(&slot->key, memory_order_acquire) == 0 || !slot->policy ||
            !tr_slot_hold(slot))
            continue;
        credit += slot->policy->credit;
        if (!isnan(tr_policy_regret(slot->policy, &upper)) && isfinite(upper)) {
            lost += fmax(upper, 0);
            calls += (double)slot->policy->n;
        }
        tr_slot_give(slot);
    }
    s->ledger_credit_ns = (int64_t)fmax(-9e18, fmin(credit, 9e18));
    s->regret_upper = calls > 0 ? lost / calls : (double)NAN;
}

trueno_status trueno_tuner_get_stats(const trueno_tuner *t, trueno_tuner_stats *out)
{
    if (!t || !out || !TR_STRUCT_OK(out)) return TRUENO_ERR_ARGUMENT;
    trueno_tuner_stats s = TRUENO_TUNER_STATS_INIT;
    s.struct_size = out->struct_size;
    for (size_t i = 0; i < TR_MAX_SLOTS; i++) s.contexts += atomic_load(&t->slots[i].key) != 0;
    s.full = atomic_load(&t->n.full);
    s.stored_used = atomic_load(&t->n.stored_used);
    s.stored_stale = atomic_load(&t->n.stored_stale);
    s.observations = atomic_load(&t->n.observations);
    s.dropped = atomic_load(&t->n.dropped);
    s.explored = atomic_load(&t->n.explored);
    s.pins = atomic_load(&t->n.pins);
    s.unpins = atomic_load(&t->n.unpins);
    s.runs = atomic_load(&t->n.runs);
    s.kernel_runs = atomic_load(&t->n.kernel_runs);
    s.audits = atomic_load(&t->n.audits);
    s.audit_excess_ns = atomic_load(&t->n.audit_excess_ns);
    s.retunes = atomic_load(&t->n.retunes);
    s.races = atomic_load(&t->n.races);
    s.inconclusive = atomic_load(&t->n.inconclusive);
    s.noisy = atomic_load(&t->n.noisy);
    s.drafts_checked = atomic_load(&t->n.drafts_checked);
    s.drafts_accepted = atomic_load(&t->n.drafts_accepted);
    s.store = t->stored;
    add_coverage(&s, t);
    add_ledger(&s, t);
    memcpy(out, &s, sizeof s);
    return TRUENO_OK;
}

/* -------------------------------------------------------------------- answers */

trueno_status trueno_tuner_predict(trueno_tuner *t, trueno_prediction *out,
                                   const trueno_features *f, trueno_error *err)
{
    if (!t) return tr_fail(err, TRUENO_ERR_ARGUMENT, "prediction: t is NULL");
    pthread_rwlock_rdlock(&t->models);
    trueno_status status = trueno_regressor_predict(t->regressor, out, f, err);
    pthread_rwlock_unlock(&t->models);
    return status;
}

/* What was measured of the problem outranks what the classifier says of its kind: the variant is
 * that of the table, which is what a session would run, unless the features are of a GPU. */
static trueno_status choose(trueno_tuner *t, trueno_kernel_choice *choice, const trueno_features *f,
                            trueno_error *err)
{
    trueno_pick pick = TRUENO_PICK_INIT;
    pthread_rwlock_rdlock(&t->models);
    trueno_status status = trueno_classifier_predict(t->classifier, choice, f, err);
    pthread_rwlock_unlock(&t->models);
    if (status != TRUENO_OK || !choice->variant) return status;
    status = trueno_tuner_plan(t, &pick, &choice->problem);
    if (status == TRUENO_ERR_STRICT_MISS)
        return tr_fail(err, status, "tuner, mode STRICT: no stored choice for %s [%zu, %zu] x %u",
                       trueno_dtype_get_info(choice->problem.type)->name, choice->problem.rows,
                       choice->problem.cols, choice->problem.n_cols);
    if (status != TRUENO_OK) return TRUENO_OK; /* the classifier's own word */
    choice->ticket = pick.ticket;
    choice->variant = pick.variant;
    if (pick.source == TRUENO_CHOICE_MEASURED || pick.source == TRUENO_CHOICE_EXPLORING)
        choice->source = pick.source;
    return TRUENO_OK;
}

/* Threads of a pass of so many tokens: the table's. */
static uint32_t threads_of(trueno_tuner *t, const trueno_features *f, double tokens)
{
    trueno_problem p = TRUENO_PROBLEM_INIT;
    uint32_t threads = f->cpu_threads > 0 ? (uint32_t)f->cpu_threads : 1;
    uint32_t n = tokens < 1 ? 1 : tokens < UINT32_MAX ? (uint32_t)tokens : UINT32_MAX;
    if (f->vram_gb != 0 || trueno_problem_of_pass(&p, f, n, NULL) != TRUENO_OK) return threads;
    return tr_tuner_threads(t, &p);
}

static void plan_of(trueno_run_plan *plan, trueno_tuner *t, const trueno_features *f)
{
    const double usual_prompt = 512;
    double batch = fmax(f->batch_size, 1), drafts = fmax(f->draft_tokens, 0);
    double prompt = f->prompt_tokens > 0 ? f->prompt_tokens : usual_prompt;
    plan->decode_threads = threads_of(t, f, batch * (1 + drafts));
    plan->prefill_threads = threads_of(t, f, batch * prompt);
    plan->draft = (uint32_t)drafts;
}

static uint32_t tile_of(const char *variant)
{
    const struct tr_kernel *k = variant ? tr_kernel_named(variant, strlen(variant)) : NULL;
    return k ? k->nt_max : 0;
}

void trueno_recommendation_init(trueno_recommendation *rec)
{
    if (!rec) return;
    memset(rec, 0, sizeof *rec);
    rec->struct_size = sizeof *rec;
    rec->throughput = (trueno_prediction)TRUENO_PREDICTION_INIT;
    rec->kernel = (trueno_kernel_choice)TRUENO_KERNEL_CHOICE_INIT;
    rec->bottleneck = (trueno_bottleneck)TRUENO_BOTTLENECK_INIT;
    for (size_t i = 0; i < sizeof rec->experiments / sizeof *rec->experiments; i++)
        rec->experiments[i] = (trueno_experiment)TRUENO_EXPERIMENT_INIT;
}

static trueno_status fill(trueno_tuner *t, trueno_recommendation *r, const trueno_features *f,
                          trueno_error *err)
{
    trueno_status status = trueno_tuner_predict(t, &r->throughput, f, err);
    if (status == TRUENO_OK) status = choose(t, &r->kernel, f, err);
    if (status == TRUENO_OK) status = trueno_bottleneck_of(&r->bottleneck, f, err);
    if (status != TRUENO_OK) return status;
    uint64_t checked = atomic_load(&t->n.drafts_checked);
    struct tr_acceptance drafts = tr_acceptance_of(checked, atomic_load(&t->n.drafts_accepted));
    uint32_t best_draft;
    plan_of(&r->plan, t, f);
    pthread_rwlock_rdlock(&t->models);
    status = tr_experiments_of(r->experiments, 8, &r->n_experiments, &best_draft, t->regressor, f,
                               &drafts, err);
    snprintf(r->model_version, sizeof r->model_version, "%s", t->version);
    pthread_rwlock_unlock(&t->models);
    r->plan.batch_tile = tile_of(r->kernel.variant);
    if (checked > 0 && status == TRUENO_OK) r->plan.draft = best_draft;
    r->confidence_overall = r->kernel.confidence;
    if (r->throughput.level > 0)
        r->confidence_overall = fmin(r->confidence_overall, r->throughput.confidence);
    return status;
}

trueno_status trueno_tuner_recommend(trueno_tuner *t, trueno_recommendation *rec,
                                     const trueno_features *f, trueno_error *err)
{
    trueno_recommendation r;
    if (rec && TR_STRUCT_OK(rec)) { /* empty on failure */
        size_t size = rec->struct_size;
        trueno_recommendation_init(rec);
        rec->struct_size = size;
    }
    if (!t || !rec || !f)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "recommendation: %s is NULL",
                       !t     ? "t"
                       : !rec ? "rec"
                              : "f");
    if (!TR_STRUCT_OK(rec))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "recommendation: struct_size is %zu; use trueno_recommendation_init",
                       rec->struct_size);
    trueno_recommendation_init(&r);
    r.struct_size = rec->struct_size;
    trueno_status status = fill(t, &r, f, err);
    if (status == TRUENO_OK) memcpy(rec, &r, sizeof r);
    return status;
}
