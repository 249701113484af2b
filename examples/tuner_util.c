/* SPDX-License-Identifier: MIT */
/* A tuner beside a generating session (tuner_util.h). */
#include "tuner_util.h"

#include "cli_util.h"

#include <stdio.h>
#include <string.h>

/* Fewer tokens than this tell more of the clock and of cold caches than of a run. */
enum { MIN_TOKENS = 8, MEASURE_MS = 300 };

static const char *const MODES[] = {
    [TRUENO_TUNER_OFF] = "off", [TRUENO_TUNER_FROZEN] = "frozen", [TRUENO_TUNER_LEARN] = "learn"};

static const char *source_name(trueno_choice_source source)
{
    static const char *const names[] = {[TRUENO_CHOICE_DEFAULT] = "default",
                                        [TRUENO_CHOICE_RULES] = "rules",
                                        [TRUENO_CHOICE_FOREST] = "forest",
                                        [TRUENO_CHOICE_MEASURED] = "measured",
                                        [TRUENO_CHOICE_EXPLORING] = "exploring"};
    return (size_t)source < sizeof(names) / sizeof(names[0]) ? names[source] : "unknown";
}

/* Something did not work that nobody needs for the text. */
static void note(const char *doing, trueno_status status, const char *message)
{
    fprintf(stderr, "note: tuner: %s: %s\n", doing, *message ? message : trueno_status_str(status));
}

/* ------------------------------------------------------------------------------ before */

static bool mode_named(trueno_tuner_mode *out, const char *name)
{
    for (size_t i = 0; i < sizeof(MODES) / sizeof(MODES[0]); i++) {
        if (!MODES[i] || strcmp(name, MODES[i])) continue;
        *out = (trueno_tuner_mode)i;
        return true;
    }
    return false;
}

int tuner_check(const char *mode)
{
    trueno_tuner_mode found;
    if (!mode || mode_named(&found, mode)) return CLI_OK;
    return cli_usage("--tuner is '%s': must be off, frozen or learn", mode);
}

static bool has_point(const trueno_machine_profile *profile, uint32_t threads)
{
    for (uint32_t i = 0; i < profile->n; i++)
        if (profile->points[i].threads == threads) return true;
    return false;
}

/* What the machine can do with so many threads: as the tuner knows it, or measured now. In a
 * context of its own, whose memory does not count as the model's. */
static bool get_profile(struct tuner_run *t, trueno_machine_profile *profile, uint32_t threads)
{
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = trueno_tuner_profile(t->tuner, profile, &err);
    if (st && st != TRUENO_ERR_NOT_MEASURED) note("its profile", st, err.message);
    if (has_point(profile, threads)) return true;
    trueno_ctx *ctx = cli_ctx_new();
    st = ctx ? trueno_machine_measure(ctx, profile, &threads, 1, MEASURE_MS, &err)
             : TRUENO_ERR_NO_MEMORY;
    trueno_ctx_free(ctx);
    if (st) {
        note("measuring this machine", st, err.message);
        return false;
    }
    if (trueno_tuner_get_mode(t->tuner) != TRUENO_TUNER_LEARN) return true;
    st = trueno_tuner_remember_profile(t->tuner, profile, &err);
    if (st) note("remembering this machine", st, err.message);
    return true;
}

/* Bytes of a cache's number over those of F16, which features_from_env supposes. */
static double kv_factor(trueno_kv_type type)
{
    switch (type) {
    case TRUENO_KV_F32: return 2;
    case TRUENO_KV_Q8_0: return 34.0 / 64;
    default: return 1;
    }
}

/* Features of decoding the last token of the answer, and what the tuner says of them. */
static trueno_status ask(struct tuner_run *t, trueno_ctx *ctx, const struct tuner_plan *p,
                         trueno_error *err)
{
    trueno_machine_profile profile = TRUENO_MACHINE_PROFILE_INIT;
    trueno_env_options opt = TRUENO_ENV_OPTIONS_INIT;
    opt.gguf = p->file;
    opt.threads = p->n_threads ? p->n_threads : trueno_cpu_count();
    if (!get_profile(t, &profile, opt.threads)) return TRUENO_OK; /* it said why */
    opt.profile = &profile;
    trueno_status st = trueno_features_from_env(ctx, &t->f, &opt, err);
    if (st) return st;
    t->f.phase = TRUENO_PHASE_DECODE;
    t->f.seq_len = p->seq_len;
    t->f.context_len = p->n_ctx;
    if (t->f.kv_bytes_per_token != TRUENO_UNSET) t->f.kv_bytes_per_token *= kv_factor(p->kv_type);
    st = trueno_tuner_recommend(t->tuner, &t->rec, &t->f, err);
    t->predicted = st == TRUENO_OK;
    return st;
}

static void print_answer(const struct tuner_run *t)
{
    const trueno_prediction *p = &t->rec.throughput;
    const trueno_kernel_choice *k = &t->rec.kernel;
    fprintf(stderr, "predicted  %.2f tokens/s (%.2f to %.2f%s), roof %.2f\n", p->predicted_tps,
            p->lo, p->hi, p->level > 0 ? ", 90 %" : ", a guess", p->roofline_tps);
    const trueno_run_plan *plan = &t->rec.plan;
    fprintf(stderr, "chosen     %s, %s (%s), %u threads", trueno_kernel_name(k->top_kernel),
            k->variant ? k->variant : "no kernel", source_name(k->source), plan->decode_threads);
    if (plan->prefill_threads != plan->decode_threads)
        fprintf(stderr, ", %u for prompts", plan->prefill_threads);
    fprintf(stderr, "\n");
}

int tuner_begin(struct tuner_run *t, const char *mode, trueno_ctx *ctx, const struct tuner_plan *p)
{
    trueno_tuner_options opt = TRUENO_TUNER_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    *t = (struct tuner_run){.mode = mode, .f = TRUENO_FEATURES_INIT};
    trueno_recommendation_init(&t->rec);
    if (!mode) return CLI_OK;
    if (!mode_named(&opt.mode, mode)) return tuner_check(mode);
    trueno_status st = trueno_tuner_with_pretrained(ctx, &t->tuner, &opt, &err);
    if (st) return cli_failed("tuner", st, err.message);
    st = ask(t, ctx, p, &err);
    if (st) note("nothing is predicted", st, err.message);
    if (t->predicted) print_answer(t);
    return CLI_OK;
}

/* ------------------------------------------------------------------------------- after */

static double deviation_pct(const struct tuner_run *t)
{
    return 100 * (t->tps / t->rec.throughput.predicted_tps - 1);
}

static bool within(const struct tuner_run *t)
{
    return t->rec.throughput.lo <= t->tps && t->tps <= t->rec.throughput.hi;
}

static void print_outcome(const struct tuner_run *t)
{
    if (t->tps > 0)
        fprintf(stderr, "outcome    %.2f tokens/s", t->tps);
    else
        fprintf(stderr, "outcome    fewer than %d tokens: no rate", MIN_TOKENS);
    if (t->tps > 0 && t->predicted)
        fprintf(stderr, ", %+.1f %%, %s the interval", deviation_pct(t),
                within(t) ? "within" : "outside");
    fprintf(stderr, ", %llu calls explored, %llu choices changed\n",
            (unsigned long long)t->stats.explored,
            (unsigned long long)(t->stats.pins + t->stats.unpins));
}

/* From time to time new models from the runs of all processes, where these are better. */
static void retrain(const struct tuner_run *t)
{
    trueno_retraining r = TRUENO_RETRAINING_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (!trueno_tuner_wants_retraining(t->tuner)) return;
    if (trueno_tuner_retrain(t->tuner, &r, &err) != TRUENO_OK || !r.regressor) return;
    fprintf(stderr, "retrained  on %zu runs of %zu models: mean error %.1f %%, was %.1f %%\n",
            r.n_runs, r.n_models, 100 * r.mape_after, 100 * r.mape_before);
}

static void remember(struct tuner_run *t)
{
    char path[4096];
    trueno_error err = {TRUENO_OK, ""};
    trueno_status st = TRUENO_OK;
    if (t->predicted && t->tps > 0) st = trueno_tuner_observe_run(t->tuner, &t->f, t->tps, &err);
    if (st) note("the run is not learned", st, err.message);
    retrain(t);
    st = trueno_tuner_save(t->tuner, &err);
    if (st) note("nothing is stored", st, err.message);
    t->saved = st == TRUENO_OK && trueno_tuner_cache_path(path, sizeof(path)) == TRUENO_OK;
}

void tuner_end(struct tuner_run *t, size_t n, double seconds)
{
    t->stats = (trueno_tuner_stats)TRUENO_TUNER_STATS_INIT;
    if (!t->tuner) return;
    t->tps = n >= MIN_TOKENS && seconds > 0 ? (double)n / seconds : 0;
    if (trueno_tuner_get_mode(t->tuner) == TRUENO_TUNER_LEARN) remember(t);
    trueno_tuner_get_stats(t->tuner, &t->stats);
    print_outcome(t);
}

json_t *tuner_json(const struct tuner_run *t)
{
    const trueno_prediction *p = &t->rec.throughput;
    const trueno_kernel_choice *k = &t->rec.kernel;
    const trueno_tuner_stats *n = &t->stats;
    if (!t->tuner) return NULL;
    json_t *said = !t->predicted ? json_null()
                                 : json_pack("{s:f, s:f, s:f, s:f, s:f, s:s, s:s?, s:s, s:i}",
                                             "tps", p->predicted_tps, "lo", p->lo, "hi", p->hi,
                                             "level", p->level, "roofline_tps", p->roofline_tps,
                                             "kernel", trueno_kernel_name(k->top_kernel), "variant",
                                             k->variant, "source", source_name(k->source),
                                             "threads", (int)t->rec.plan.decode_threads);
    bool judged = t->predicted && t->tps > 0;
    return json_pack(
        "{s:s, s:s, s:o, s:f, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:b}", "mode", t->mode, "version",
        trueno_tuner_version(t->tuner), "predicted", said, "measured_tps", t->tps, "deviation_pct",
        judged ? json_real(deviation_pct(t)) : json_null(), "within",
        judged ? json_boolean(within(t)) : json_null(), "observations", (json_int_t)n->observations,
        "explored", (json_int_t)n->explored, "changed", (json_int_t)(n->pins + n->unpins),
        "stored_used", (json_int_t)n->stored_used, "runs", (json_int_t)n->runs, "saved", t->saved);
}

void tuner_free(struct tuner_run *t)
{
    trueno_tuner_free(t->tuner);
    t->tuner = NULL;
}

/* ----------------------------------------------------------------------------- profile */

void profile_print(const trueno_session *s)
{
    trueno_profile p = TRUENO_PROFILE_INIT;
    uint64_t all = 0;
    trueno_status st = trueno_session_profile(s, &p);
    if (st) {
        fprintf(stderr, "note: no profile: %s\n", trueno_status_str(st));
        return;
    }
    for (size_t i = 0; i < TRUENO_STAGE_COUNT; i++) all += p.stages[i].ns;
    double whole = all ? (double)all : 1;
    fprintf(stderr, "%-10s %10s %12s %8s\n", "stage", "calls", "ms", "share");
    for (size_t i = 0; i < TRUENO_STAGE_COUNT; i++)
        fprintf(stderr, "%-10s %10llu %12.2f %6.1f %%\n", p.stages[i].name,
                (unsigned long long)p.stages[i].calls, (double)p.stages[i].ns / 1e6,
                100 * (double)p.stages[i].ns / whole);
    fprintf(stderr, "%-10s %10llu %12.2f %6.1f %%\n", "all", (unsigned long long)p.passes,
            (double)all / 1e6, 100 * (double)all / whole);
}
