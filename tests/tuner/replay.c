/* SPDX-License-Identifier: MIT */
#include "tuner/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------------- traces */

/* Appends the numbers of a line; false if it is none. */
static bool read_line(struct trace *t, const char *line)
{
    size_t n = 0;
    char *end;
    for (double ns = strtod(line, &end); end != line; ns = strtod(line, &end), n++) {
        if (!(ns > 0) || n == TR_POLICY_ARMS || (t->n_rows > 0 && n >= t->n_arms)) return false;
        t->ns = realloc(t->ns, (t->n_rows * t->n_arms + n + 1) * sizeof *t->ns);
        if (!t->ns) return false;
        t->ns[t->n_rows * t->n_arms + n] = ns;
        line = end;
    }
    if (t->n_rows == 0) t->n_arms = n;
    if (n < 2 || n != t->n_arms || line[strspn(line, " \r\n")] != 0) return false;
    t->n_rows++;
    return true;
}

void trace_read(struct trace *t, const char *path)
{
    char line[4096];
    size_t number = 0;
    FILE *f = fopen(path, "r");
    *t = (struct trace){0};
    if (!f) fail_msg("cannot open %s", path);
    while (fgets(line, sizeof line, f)) {
        number++;
        if (line[0] == '#' || line[strspn(line, " \r\n")] == 0) continue;
        if (!read_line(t, line)) fail_msg("%s:%zu: not ns of as many arms as above", path, number);
    }
    fclose(f);
    if (t->n_rows < 64) fail_msg("%s: %zu lines, needs 64", path, t->n_rows);
}

void trace_free(struct trace *t)
{
    free(t->ns);
}

void bootstrap_source(double *ns, void *user, uint64_t call)
{
    struct bootstrap *b = user;
    if (call % 64 == 0)
        b->at = tr_random_below(&b->random, (uint32_t)b->trace->n_rows);
    else
        b->at = (b->at + 1) % b->trace->n_rows;
    memcpy(ns, b->trace->ns + b->at * b->trace->n_arms, b->trace->n_arms * sizeof *ns);
}

/* -------------------------------------------------------------------- machines */

/* Box and Muller. */
double draw_normal(struct tr_random *r)
{
    const double u = 1 - tr_random_unit(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * tr_random_unit(r));
}

void machine_source(double *ns, void *user, uint64_t call)
{
    struct machine *m = user;
    if (call >= m->spell_end) {
        m->slow_spell = !m->slow_spell;
        m->spell_end = call + 1 + (uint64_t)(-500 * log(1 - tr_random_unit(&m->random)));
    }
    for (uint32_t i = 0; i < m->n_arms; i++) {
        ns[i] = 1e5 * m->ratio[i] * exp(m->sigma * draw_normal(&m->random));
        if (m->slow_spell) ns[i] *= m->swing;
        if (tr_random_unit(&m->random) < m->disturbed) ns[i] *= 1 + tr_random_unit(&m->random);
    }
}

/* --------------------------------------------------------------------- replays */

void replay_begin(struct replay *r, struct tr_policy *p)
{
    r->policy = p;
    r->call = 0;
    replay_reset(r);
    for (uint32_t i = 0; i < r->n_arms; i++) r->slow[i] = 1;
    memset(r->good, 0, sizeof r->good);
}

static double true_time(const struct replay *r, uint32_t arm)
{
    return r->truth[arm] * r->slow[arm];
}

static void step(struct replay *r)
{
    double ns[TR_POLICY_ARMS];
    uint32_t best = 0, arm = tr_policy_select(r->policy);
    r->source(ns, r->user, r->call);
    for (uint32_t i = 1; i < r->n_arms; i++)
        if (true_time(r, i) < true_time(r, best)) best = i;
    r->ns += ns[arm] * r->slow[arm];
    r->picked += true_time(r, arm);
    r->best += true_time(r, best);
    r->good[r->call % 100] = true_time(r, arm) <= 1.03 * true_time(r, best);
    r->call++;
    tr_policy_observe(r->policy, arm, ns[arm] * r->slow[arm]);
}

void replay_run(struct replay *r, uint64_t n_calls)
{
    for (uint64_t i = 0; i < n_calls; i++) step(r);
}

uint64_t replay_converge(struct replay *r, uint64_t limit)
{
    memset(r->good, 0, sizeof r->good);
    for (uint64_t n = 1; n <= limit + 100; n++) {
        int good = 0;
        step(r);
        for (int i = 0; i < 100; i++) good += r->good[i];
        if (n >= 100 && good >= 95) return n - 100;
    }
    return limit;
}

void replay_reset(struct replay *r)
{
    r->ns = r->picked = r->best = 0;
}

double replay_regret(const struct replay *r)
{
    return r->picked / r->best - 1;
}

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double quantile(double *values, size_t n, double share)
{
    qsort(values, n, sizeof *values, compare_doubles);
    size_t at = (size_t)ceil(share * (double)n);
    return values[at > 0 ? at - 1 : 0];
}

struct tr_policy *new_policy(uint32_t n_arms, uint32_t default_arm, uint64_t seed)
{
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    struct tr_policy *p = malloc(tr_policy_bytes(n_arms));
    assert_non_null(p);
    o.policy = TRUENO_BANDIT_AUDIT;
    o.seed = seed;
    tr_policy_init(p, &o, n_arms, default_arm, 1);
    return p;
}
