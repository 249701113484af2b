/* SPDX-License-Identifier: MIT */
/* Recommendations and choices in words. */
#include "base/error.h"
#include "trueno/quantize.h"
#include "tuner/tuner_impl.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Text that grows by snprintf's rule: `len` counts what there would be. */
struct text {
    char *buf;
    size_t cap, len;
};

static void put(struct text *t, const char *fmt, ...) TRUENO_PRINTF(2, 3);
static void put(struct text *t, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    size_t left = t->len < t->cap ? t->cap - t->len : 0;
    int n = vsnprintf(left ? t->buf + t->len : NULL, left, fmt, args);
    va_end(args);
    if (n > 0) t->len += (size_t)n;
}

enum { BAR = 40, COLUMNS = 80, INDENT = 15 };

/* Bytes of the start of s that fit into so many columns: all, or up to the last blank there; a word
 * that is longer is cut. UTF-8: bytes 10xxxxxx go on with a character. */
static size_t fitting(const char *s, size_t columns)
{
    size_t i = 0, blank = 0, used = 0;
    for (; s[i] && s[i] != '\n'; i++) {
        bool begins = ((unsigned char)s[i] & 0xc0) != 0x80;
        if (begins && used == columns) return s[i] == ' ' || blank == 0 ? i : blank;
        used += begins;
        if (s[i] == ' ') blank = i;
    }
    return i;
}

/* Puts lines; what does not fit into 80 columns goes on below, under where values begin. */
static void put_wrapped(struct text *t, const char *lines)
{
    size_t room = COLUMNS;
    while (*lines) {
        size_t n = fitting(lines, room);
        put(t, "%*s%.*s\n", (int)(COLUMNS - room), "", (int)n, lines);
        lines += n;
        bool ends = *lines == '\n';
        while (!ends && *lines == ' ') lines++;
        room = ends ? COLUMNS : COLUMNS - INDENT;
        lines += ends;
    }
}

struct number {
    char text[24];
};

/* Few digits for what is too large to be read with all of them. */
static struct number number(double x)
{
    struct number n;
    snprintf(n.text, sizeof n.text, fabs(x) < 1e9 ? "%.1f" : "%.4g", x);
    return n;
}

/* A bar of `share` of its width: certain up to lo, shaded from there; light up to hi. */
static void put_bar(struct text *t, double share, double lo, double hi)
{
    for (int i = 0; i < BAR; i++) {
        double at = (i + 0.5) / BAR;
        put(t, "%s", at <= share ? (at < lo ? "█" : "▓") : at <= hi ? "▒" : "░");
    }
}

static const char *phase_name(trueno_phase phase)
{
    return phase == TRUENO_PHASE_PREFILL ? "prefill" : "decode";
}

static const char *s_of(uint32_t n)
{
    return n == 1 ? "" : "s";
}

static const char *source_name(trueno_choice_source source)
{
    switch (source) {
    case TRUENO_CHOICE_RULES: return "by rule";
    case TRUENO_CHOICE_FOREST: return "by the trained forest";
    case TRUENO_CHOICE_MEASURED: return "measured on this machine";
    case TRUENO_CHOICE_EXPLORING: return "being tried";
    default: return "the default";
    }
}

static void put_throughput(struct text *t, const trueno_prediction *p)
{
    static const char *const sources[] = {"prior", "linear model", "random forest"};
    double roof = p->roofline_tps > 0 ? p->roofline_tps : 1;
    put(t, "  throughput   %10s tokens/s    %s .. %s", number(p->predicted_tps).text,
        number(p->lo).text, number(p->hi).text);
    if (p->level > 0)
        put(t, " (%.0f %%)\n", 100 * p->level);
    else
        put(t, " (factor 2, no data)\n");
    put(t, "  ");
    put_bar(t, p->predicted_tps / roof, p->lo / roof, p->hi / roof);
    put(t, " %.0f %% of the roof\n", 100 * p->efficiency);
    put(t, "  roofline     %10s tokens/s    %s-bound%s\n", number(p->roofline_tps).text,
        p->bound == TRUENO_BOUND_MEMORY ? "memory" : "compute",
        p->reference_hardware ? ", reference hardware" : "");
    put(t, "  model        %s", sources[(unsigned)p->source % 3]);
    if (p->confidence > 0) put(t, ", %.0f %% of held-out runs within 20 %%", 100 * p->confidence);
    put(t, "\n");
    for (uint32_t i = 0; i < p->n_top_features && i < TRUENO_TOP_FEATURES; i++)
        put(t, "%s%s %+.0f %%", i == 0 ? "  moved by     " : ", ",
            trueno_feature_name(p->top_features[i].feature),
            100 * (exp(p->top_features[i].effect) - 1));
    if (p->n_top_features > 0) put(t, "\n");
    if (p->ttft_ms > 0) put(t, "  first token  %10s ms\n", number(p->ttft_ms).text);
}

static void put_choice(struct text *t, const trueno_kernel_choice *c)
{
    put(t, "  kernel       %s, %.0f %%, %s\n", trueno_kernel_name(c->top_kernel),
        100 * c->confidence, source_name(c->source));
    if (c->variant) put(t, "  variant      %s\n", c->variant);
    for (uint32_t i = 0; i < c->n_alternatives && i < 4; i++)
        put(t, "   or          %s, %.0f %%\n", trueno_kernel_name(c->alternatives[i].kernel),
            100 * c->alternatives[i].confidence);
    if (c->problem.rows > 0)
        put(t, "   for         %s [%zu, %zu] x %u, %u thread%s, %s\n",
            trueno_dtype_get_info(c->problem.type)->name, c->problem.rows, c->problem.cols,
            c->problem.n_cols, c->problem.threads, s_of(c->problem.threads),
            phase_name(c->problem.phase));
}

/* The panel in lines of any length. */
static void put_panel(struct text *t, const trueno_recommendation *rec)
{
    char line[512];
    put(t, "-- tuner %s ", rec->model_version);
    for (size_t i = 10 + strlen(rec->model_version); i < 78; i++) put(t, "-");
    put(t, "\n");
    put_throughput(t, &rec->throughput);
    put_choice(t, &rec->kernel);
    put(t, "  run          %u thread%s", rec->plan.decode_threads, s_of(rec->plan.decode_threads));
    if (rec->plan.prefill_threads != rec->plan.decode_threads)
        put(t, " to decode, %u for prompts", rec->plan.prefill_threads);
    if (rec->plan.batch_tile) put(t, ", tiles of %u columns", rec->plan.batch_tile);
    if (rec->plan.draft) put(t, ", %u drafts", rec->plan.draft);
    put(t, "\n  bottleneck   %s\n", rec->bottleneck.explanation);
    if (rec->bottleneck.action[0]) put(t, "   advice      %s\n", rec->bottleneck.action);
    for (size_t i = 0; i < rec->n_experiments && i < 8; i++) {
        trueno_experiment_format(line, sizeof line, &rec->experiments[i]);
        put(t, "%s%s\n", i == 0 ? "  experiments  " : "               ", line);
    }
    if (rec->n_experiments == 0) put(t, "  experiments  none that should gain anything\n");
    put(t, "  confidence   %.0f %%\n", 100 * rec->confidence_overall);
}

size_t trueno_recommendation_format(char *buf, size_t cap, const trueno_recommendation *rec)
{
    char lines[8192]; /* several times what the largest panel takes */
    struct text t = {buf, buf ? cap : 0, 0}, panel = {lines, sizeof lines, 0};
    if (t.cap > 0) buf[0] = 0;
    if (!rec || !TR_STRUCT_OK(rec)) return 0;
    put_panel(&panel, rec);
    put_wrapped(&t, lines);
    return t.len;
}

/* ------------------------------------------------------------------------ explain */

static void explain_arms(struct text *t, struct tr_slot *s, uint32_t pick)
{
    const struct tr_policy *policy = s->policy;
    bool mine = policy && tr_slot_hold(s);
    char name[TR_THREADS_NAME];
    for (uint32_t i = 0; i < s->n_arms; i++) {
        put(t, "  %c %s%s", i == pick ? '*' : ' ', tr_slot_arm_name(s, i, name),
            i == 0 ? " (default)" : "");
        if (mine) {
            const struct tr_arm *a = &policy->arms[i];
            put(t, ": %llu calls", (unsigned long long)a->n);
            if (i != pick && a->raced > 0)
                put(t, ", %+.1f +- %.1f %% of time against what is in use, in %d turns",
                    100 * (exp(-(double)a->gain) - 1), 100 * (double)a->width, a->raced);
        }
        put(t, "\n");
    }
    if (mine) {
        put(t, "%llu calls, %llu of them to compare; smallest difference that counts: %.1f %%\n",
            (unsigned long long)policy->n, (unsigned long long)policy->n_explored,
            100 * (double)policy->eps);
        put(t, "%s\n",
            policy->phase == TR_POLICY_RACE ? "the race is not over" : "the race is over");
        tr_slot_give(s);
    } else if (policy) {
        put(t, "being learned from at this moment\n");
    }
}

trueno_status trueno_tuner_explain(trueno_tuner *t, char *buf, size_t cap, size_t *len,
                                   const trueno_problem *p, trueno_error *err)
{
    struct text text = {buf, buf ? cap : 0, 0};
    if (len) *len = 0;
    if (text.cap > 0) buf[0] = 0;
    if (!t || !len || (!buf && cap > 0))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "explain: %s is NULL",
                       !t     ? "t"
                       : !len ? "len"
                              : "buf");
    trueno_status status = tr_problem_check(p, err);
    if (status != TRUENO_OK) return status;
    struct tr_slot *s = tr_tuner_slot(t, p);
    if (!s) return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "explain: no kernel, or the table is full");
    uint32_t pick = tr_slot_pick(s);
    char name[TR_THREADS_NAME];
    put(&text, "%s%s [%zu, %zu] x %u, %u thread%s, %s\n",
        p->kind == TRUENO_PROBLEM_PASS ? "pass over " : "", trueno_dtype_get_info(p->type)->name,
        p->rows, p->cols, p->n_cols, p->threads, s_of(p->threads), phase_name(p->phase));
    put(&text, "%s: %s\n", tr_slot_arm_name(s, pick, name),
        source_name((trueno_choice_source)atomic_load(&s->source)));
    explain_arms(&text, s, pick);
    *len = text.len;
    return TRUENO_OK;
}
