/* SPDX-License-Identifier: MIT */
/* Choosing a token: penalties, top-k, top-p, min-p, temperature, draw.
 *
 * Candidates are never sorted as a whole: a bounded heap selects the best k of the logits in one
 * scan, in falling order. Where top-k is off, k grows until a later stage cuts inside the selection
 * (a vocabulary of 262144 tokens rarely has more than some hundred that matter). Greedy is one
 * scan.
 */
#include "trueno/sampler.h"

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "text/sampler_pcg32.h"

#include <float.h>
#include <math.h>
#include <string.h>

enum {
    LAST_N_MAX = 65536,
    FIRST_SELECTION = 256, /* of a growing selection, */
    GROWTH = 8,            /* and how it grows */
    PCG_STREAM = 1         /* promised in the header */
};

struct trueno_sampler {
    trueno_ctx *ctx;
    trueno_sampler_options opt;
    uint32_t n_vocab;
    struct tr_pcg32 rng;

    /* The last penalty_last_n tokens as a ring, and how often each token is in it. Both NULL when
     * no penalty is on. */
    trueno_token *ring;
    uint32_t ring_len, ring_pos;
    uint32_t *seen; /* [n_vocab] */

    trueno_candidate *cand; /* [cand_cap] */
    uint32_t cand_cap;
};

/* ------------------------------------------------------------------------------- making */

static trueno_status check_options(const trueno_sampler_options *o, trueno_error *err)
{
    const struct {
        const char *name;
        float value;
    } fields[] = {{"temperature", o->temperature},
                  {"top_p", o->top_p},
                  {"min_p", o->min_p},
                  {"repeat_penalty", o->repeat_penalty},
                  {"frequency_penalty", o->frequency_penalty},
                  {"presence_penalty", o->presence_penalty}};
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (!isfinite(fields[i].value))
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "sampler option %s is %g: must be finite",
                           fields[i].name, (double)fields[i].value);
    }
    if (o->repeat_penalty <= 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "sampler option repeat_penalty is %g: must be above 0 (1 is off)",
                       (double)o->repeat_penalty);
    if (o->penalty_last_n < 0 || o->penalty_last_n > LAST_N_MAX)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "sampler option penalty_last_n is %d: must be 0 to %d", o->penalty_last_n,
                       LAST_N_MAX);
    return TRUENO_OK;
}

static bool has_penalty(const trueno_sampler_options *o)
{
    return o->penalty_last_n > 0 &&
           (o->repeat_penalty != 1 || o->frequency_penalty != 0 || o->presence_penalty != 0);
}

static bool is_greedy(const trueno_sampler_options *o)
{
    return o->temperature <= 0;
}

/* An empty sampler with all memory; options are checked already. */
static trueno_sampler *make(trueno_ctx *ctx, uint32_t n_vocab, const trueno_sampler_options *o)
{
    trueno_sampler *s = tr_calloc(ctx, 1, sizeof(*s));
    if (!s) return NULL;
    tr_ctx_ref(ctx);
    s->ctx = ctx;
    s->opt = *o;
    s->n_vocab = n_vocab;
    s->cand_cap = n_vocab;
    if (is_greedy(o))
        s->cand_cap = 1;
    else if (o->top_k > 0 && (uint32_t)o->top_k < n_vocab)
        s->cand_cap = (uint32_t)o->top_k;
    s->cand = tr_calloc(ctx, s->cand_cap, sizeof(*s->cand));
    bool complete = s->cand != NULL;
    if (has_penalty(o)) {
        s->ring = tr_calloc(ctx, (size_t)o->penalty_last_n, sizeof(*s->ring));
        s->seen = tr_calloc(ctx, n_vocab, sizeof(*s->seen));
        complete = complete && s->ring && s->seen;
    }
    if (!complete) {
        trueno_sampler_free(s);
        return NULL;
    }
    tr_pcg32_seed(&s->rng, o->seed, PCG_STREAM);
    return s;
}

trueno_status trueno_sampler_new(trueno_ctx *ctx, trueno_sampler **out, uint32_t n_vocab,
                                 const trueno_sampler_options *opt, trueno_error *err)
{
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "sampler: out is NULL");
    *out = NULL;
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "sampler: ctx is NULL");
    if (n_vocab == 0 || n_vocab > INT32_MAX)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "sampler: n_vocab is %u: must be 1 to %d", n_vocab,
                       INT32_MAX);
    trueno_sampler_options o = TRUENO_SAMPLER_OPTIONS_INIT;
    if (opt) {
        if (!TR_STRUCT_OK(opt))
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "sampler options: struct_size is %zu",
                           opt->struct_size);
        o = *opt;
    }
    trueno_status st = check_options(&o, err);
    if (st) return st;
    *out = make(ctx, n_vocab, &o);
    if (!*out)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "sampler: no memory for %u candidates", n_vocab);
    return TRUENO_OK;
}

void trueno_sampler_free(trueno_sampler *s)
{
    if (!s) return;
    trueno_ctx *ctx = s->ctx;
    tr_free(ctx, s->cand);
    tr_free(ctx, s->ring);
    tr_free(ctx, s->seen);
    tr_free(ctx, s);
    tr_ctx_unref(ctx);
}

trueno_status trueno_sampler_clone(const trueno_sampler *s, trueno_sampler **out)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    *out = NULL;
    if (!s) return TRUENO_ERR_ARGUMENT;
    trueno_sampler *c = make(s->ctx, s->n_vocab, &s->opt);
    if (!c) return TRUENO_ERR_NO_MEMORY;
    c->rng = s->rng;
    if (s->ring) {
        c->ring_len = s->ring_len;
        c->ring_pos = s->ring_pos;
        memcpy(c->ring, s->ring, (size_t)s->opt.penalty_last_n * sizeof(*s->ring));
        memcpy(c->seen, s->seen, s->n_vocab * sizeof(*s->seen));
    }
    *out = c;
    return TRUENO_OK;
}

void trueno_sampler_reset(trueno_sampler *s)
{
    if (!s) return;
    tr_pcg32_seed(&s->rng, s->opt.seed, PCG_STREAM);
    s->ring_len = s->ring_pos = 0;
    if (s->seen) memset(s->seen, 0, s->n_vocab * sizeof(*s->seen));
}

/* ------------------------------------------------------------------------------ history */

static void remember(trueno_sampler *s, trueno_token id)
{
    if (!s->ring) return;
    if (s->ring_len == (uint32_t)s->opt.penalty_last_n)
        s->seen[s->ring[s->ring_pos]]--;
    else
        s->ring_len++;
    s->ring[s->ring_pos] = id;
    s->seen[id]++;
    s->ring_pos = (s->ring_pos + 1) % (uint32_t)s->opt.penalty_last_n;
}

trueno_status trueno_sampler_accept(trueno_sampler *s, trueno_token id)
{
    if (!s || id < 0 || (uint32_t)id >= s->n_vocab) return TRUENO_ERR_ARGUMENT;
    remember(s, id);
    return TRUENO_OK;
}

/* The logit after the penalties. Kept finite, so that no penalty makes a valid logit invalid. */
static float penalise(const trueno_sampler_options *o, float logit, uint32_t seen)
{
    double r = o->repeat_penalty;
    double x = logit > 0 ? logit / r : logit * r;
    x -= seen * (double)o->frequency_penalty + o->presence_penalty;
    return (float)fmax(-(double)FLT_MAX, fmin((double)FLT_MAX, x));
}

/* Logit of token i as the stages see it: NaN and infinities pass through. */
static inline float logit_at(const trueno_sampler *s, const float *logits, uint32_t i)
{
    float x = logits[i];
    if (s->seen && s->seen[i] && isfinite(x)) x = penalise(&s->opt, x, s->seen[i]);
    return x;
}

/* ---------------------------------------------------------------------------- selection */

/* True if a stands before b in falling order of logits; equal logits: the lower id first. */
static inline bool before(const trueno_candidate *a, const trueno_candidate *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static inline void swap(trueno_candidate *a, trueno_candidate *b)
{
    trueno_candidate t = *a;
    *a = *b;
    *b = t;
}

/* Restores the heap c[n], whose root is the last in falling order, below position i. */
static void sift_down(trueno_candidate *c, size_t n, size_t i)
{
    for (;;) {
        size_t last = i, left = 2 * i + 1, right = left + 1;
        if (left < n && before(&c[last], &c[left])) last = left;
        if (right < n && before(&c[last], &c[right])) last = right;
        if (last == i) return;
        swap(&c[i], &c[last]);
        i = last;
    }
}

/* The k largest finite logits to s->cand in falling order; fewer if there are not that many. False
 * if a logit is NaN or +infinity. */
static bool select_top(trueno_sampler *s, const float *logits, size_t k, size_t *n_out)
{
    trueno_candidate *c = s->cand;
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float x = logit_at(s, logits, i);
        if (!(x < INFINITY)) return false;
        /* ids rise, so one that only equals the root comes after it */
        if (n == k ? x <= c[0].logit : x == -INFINITY) continue;
        trueno_candidate found = {(trueno_token)i, x, 0};
        if (n < k) {
            c[n++] = found;
            if (n == k)
                for (size_t j = k / 2; j-- > 0;) sift_down(c, k, j);
        } else {
            c[0] = found;
            sift_down(c, k, 0);
        }
    }
    if (n < k)
        for (size_t j = n / 2; j-- > 0;) sift_down(c, n, j);
    for (size_t m = n; m > 1; m--) {
        swap(&c[0], &c[m - 1]);
        sift_down(c, m - 1, 0);
    }
    *n_out = n;
    return true;
}

/* Greedy: the largest logit alone. */
static bool select_max(trueno_sampler *s, const float *logits, size_t *n_out)
{
    trueno_candidate best = {TRUENO_TOKEN_NONE, -INFINITY, 1};
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        float x = logit_at(s, logits, i);
        if (!(x < INFINITY)) return false;
        if (x > best.logit) {
            best.id = (trueno_token)i;
            best.logit = x;
        }
    }
    s->cand[0] = best;
    *n_out = best.id >= 0;
    return true;
}

/* ------------------------------------------------------------------------------- stages */

/* Candidates that top-p and then min-p leave of the first n. `total` is the sum of exp(logit - max)
 * over the set that top-p looks at, of which these n may be only the front. The sum reaches p when
 * it does within the rounding of a float: 0.4 + 0.3 reaches 0.7. */
static size_t truncate(const trueno_sampler *s, size_t n, double total)
{
    const trueno_candidate *c = s->cand;
    double min_p = s->opt.min_p, sum = 0;
    double enough = s->opt.top_p < 1 ? s->opt.top_p * total * (1 - FLT_EPSILON) : INFINITY;
    size_t kept = 0;
    while (kept < n) {
        double e = exp((double)c[kept].logit - c[0].logit);
        if (kept > 0 && sum >= enough) break;
        if (kept > 0 && min_p > 0 && e < min_p) break;
        sum += e;
        kept++;
    }
    return kept;
}

static double sum_selected(const trueno_sampler *s, size_t n)
{
    double total = 0;
    for (size_t i = 0; i < n; i++) total += exp((double)s->cand[i].logit - s->cand[0].logit);
    return total;
}

/* Sum of exp((logit - max) / temperature) over the vocabulary. */
static double sum_all(const trueno_sampler *s, const float *logits, float max, double temperature)
{
    double total = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        total += exp(((double)logit_at(s, logits, i) - max) / temperature);
    return total;
}

/* The next, larger size of a growing selection. */
static size_t grow(const trueno_sampler *s, size_t k)
{
    return k < s->n_vocab / GROWTH ? k * GROWTH : s->n_vocab;
}

static bool truncates(const trueno_sampler_options *o)
{
    return o->top_k > 0 || o->top_p < 1 || o->min_p > 0;
}

/* Top-k off: selects more and more until top-p or min-p cuts inside the selection. */
static bool select_growing(trueno_sampler *s, const float *logits, size_t *n_out)
{
    double total = 0;
    size_t k = truncates(&s->opt) && s->n_vocab > FIRST_SELECTION ? FIRST_SELECTION : s->n_vocab;
    for (;; k = grow(s, k)) {
        size_t n;
        if (!select_top(s, logits, k, &n)) return false;
        if (n > 0 && total == 0 && s->opt.top_p < 1)
            total = sum_all(s, logits, s->cand[0].logit, 1);
        *n_out = truncate(s, n, total);
        if (*n_out < n || n < k || k == s->n_vocab) return true;
    }
}

/* Temperature and the final softmax over the n survivors. */
static void finish(trueno_sampler *s, size_t n)
{
    trueno_candidate *c = s->cand;
    double t = s->opt.temperature, max = c[0].logit, sum = 0;
    for (size_t i = 0; i < n; i++) sum += exp((c[i].logit - max) / t);
    for (size_t i = 0; i < n; i++) c[i].p = (float)(exp((c[i].logit - max) / t) / sum);
}

/* All stages but the draw; *n survivors in s->cand, at least one. */
static trueno_status run_stages(trueno_sampler *s, const float *logits, size_t *n)
{
    bool valid;
    *n = 0;
    if (is_greedy(&s->opt)) {
        valid = select_max(s, logits, n);
    } else if (s->opt.top_k > 0) {
        valid = select_top(s, logits, s->cand_cap, n);
        if (valid) *n = truncate(s, *n, sum_selected(s, *n));
    } else {
        valid = select_growing(s, logits, n);
    }
    if (!valid || *n == 0) return TRUENO_ERR_NUMERIC;
    if (!is_greedy(&s->opt)) finish(s, *n);
    return TRUENO_OK;
}

trueno_status trueno_sampler_distribution(trueno_sampler *s, const trueno_candidate **out,
                                          size_t *n, const float *logits)
{
    if (out) *out = NULL;
    if (n) *n = 0;
    if (!s || !out || !n || !logits) return TRUENO_ERR_ARGUMENT;
    size_t kept;
    trueno_status st = run_stages(s, logits, &kept);
    if (st) return st;
    *out = s->cand;
    *n = kept;
    return TRUENO_OK;
}

/* One draw from the n survivors. */
static trueno_token draw(trueno_sampler *s, size_t n)
{
    const trueno_candidate *c = s->cand;
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++) total += c[i].p;
    double target = tr_pcg32_unit(&s->rng) * total;
    for (size_t i = 0; i + 1 < n; i++) {
        sum += c[i].p;
        if (target < sum) return c[i].id;
    }
    return c[n - 1].id;
}

/* The same where all tokens survive: only as many are put in order as the draw goes through. */
static trueno_status draw_from_all(trueno_sampler *s, trueno_token *out, const float *logits)
{
    double t = s->opt.temperature, target = -1;
    size_t n, k = s->n_vocab < FIRST_SELECTION ? s->n_vocab : FIRST_SELECTION;
    for (;; k = grow(s, k)) {
        if (!select_top(s, logits, k, &n) || n == 0) return TRUENO_ERR_NUMERIC;
        const trueno_candidate *c = s->cand;
        if (target < 0) target = tr_pcg32_unit(&s->rng) * sum_all(s, logits, c[0].logit, t);
        double sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += exp(((double)c[i].logit - c[0].logit) / t);
            *out = c[i].id;
            if (target < sum) return TRUENO_OK;
        }
        if (n < k || k == s->n_vocab) return TRUENO_OK; /* rounding: the last one */
    }
}

trueno_status trueno_sampler_sample(trueno_sampler *s, trueno_token *out, const float *logits)
{
    if (out) *out = TRUENO_TOKEN_NONE;
    if (!s || !out || !logits) return TRUENO_ERR_ARGUMENT;
    trueno_status st;
    if (is_greedy(&s->opt) || truncates(&s->opt)) {
        size_t n;
        st = run_stages(s, logits, &n);
        if (!st) *out = is_greedy(&s->opt) ? s->cand[0].id : draw(s, n);
    } else {
        st = draw_from_all(s, out, logits);
    }
    if (!st) remember(s, *out);
    return st;
}
