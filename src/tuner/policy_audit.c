/* SPDX-License-Identifier: MIT */
/* Race and audit: paired comparisons first, then few of them, that cost a bounded share of the
 * time (trueno/bandit.h).
 *
 * A block runs the arms that are compared in some order and then back. Of an arm's two calls the
 * quicker one counts: what disturbs a call only slows it, and hits both of one arm seldom; a swing
 * of the whole machine leaves all arms a call before it or after it. Differences are of ln cost.
 * Medians over blocks decide, with intervals between order statistics, which hold for any
 * distribution: of n blocks the median is between the k-th from either end with probability
 * 1 - 2 P(Binomial(n, 1/2) < k). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tuner/policy.h"

#define EPS        0.015F /* arms within this gain are equal */
#define HYSTERESIS 10000  /* for as many rewards after a change twice the gain is asked for */
/* Of the time that audits may lose whatever happens (audit_share), what those of the runner-up are
 * planned to, and those of all other arms. */
#define AUDIT_PART  0.5
#define OTHER_PART  (1.0 / 6)
#define MIN_SPACING 160   /* rewards between two audits of an arm */
#define OTHER_RARER 4     /* of others than the runner-up */
#define RETRY       32    /* rewards until an audit that lacked credit is asked for again */
#define MAX_CREDIT  64    /* incumbent's costs */
#define FAR         0.69F /* ln 2: others than the runner-up that are so much slower: no audits */
#define TOO_FAR     1.39F /* ln 4: not raced again */
#define KNOWN_LOSS  -0.5F /* what is believed of a gain that another process measured: */
#define KNOWN_GAIN  0.015F
#define SLACK       0.05 /* what an audit may lose beyond the gain that is known, in ln cost */
/* Page's test (1954) of an arm's gain over audits: gains above the tolerance add up. The threshold
 * grows with the variance of an audit, so that a sum of noise alone exceeds it with probability
 * exp(-12) per excursion. */
#define DRIFT_DELTA     0.02F
#define DRIFT_CLIP      0.30F
#define DRIFT_THRESHOLD 0.30F

/* What many audits together are to prove. */
#define PROOF_GAIN 0.003
enum { PROOF_AUDITS = 6 };

/* An arm leaves the race when each of its first blocks says that it is that much slower. */
static const struct {
    uint32_t n_blocks;
    float loss; /* ln of 8, 1.3, 1.1, 1.05 */
} early[] = {{1, 2.08F}, {2, 0.262F}, {4, 0.0953F}, {6, 0.0488F}};

/* A challenger leaves it when the median of its blocks says that it is that much slower. It may be
 * no slower in truth, but then nothing is lost without it; the incumbent leaves only when that is
 * proven. */
static const struct {
    uint32_t n_blocks;
    float loss;
} behind[] = {{6, 0.03F}, {9, 0.02F}, {12, 0.015F}};

/* Looks at the race: the k-th block from either end, from 0, holds the median with 99.8 %; at the
 * end a k for 95 %. */
static const struct {
    uint32_t n_blocks, k;
} looks[] = {{10, 0}, {15, 1}, {TR_RACE_BLOCKS, 4}};
enum { LAST_K = 7 };

/* ------------------------------------------------------------------ comparisons */

static int compare_floats(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Gains of arm a over b in the blocks that both were in, ascending. */
struct gains {
    size_t n;
    float d[TR_RACE_BLOCKS];
};

static struct gains gains_of(const struct tr_policy *p, uint32_t a, uint32_t b)
{
    const struct tr_arm *x = &p->arms[a], *y = &p->arms[b];
    struct gains g = {.n = x->n_blocks < y->n_blocks ? x->n_blocks : y->n_blocks};
    for (size_t i = 0; i < g.n; i++) g.d[i] = y->block[i] - x->block[i];
    qsort(g.d, g.n, sizeof *g.d, compare_floats);
    return g;
}

static float median(const struct gains *g)
{
    return g->n ? (g->d[(g->n - 1) / 2] + g->d[g->n / 2]) / 2 : 0;
}

/* Half of the interval that holds the median with 95 %: between the k-th block from either end. */
static float half_width(const struct gains *g)
{
    size_t k = g->n >= 25 ? 7 : g->n >= 15 ? 3 : g->n >= 10 ? 1 : 0;
    return g->n > 1 ? (g->d[g->n - 1 - k] - g->d[k]) / 2 : 1;
}

/* Adds to the regret what the arm's blocks lost against the incumbent's: two calls each. */
static void account(struct tr_policy *p, uint32_t arm)
{
    struct gains g = gains_of(p, arm, p->incumbent);
    double sum = 0, squares = 0;
    for (size_t i = 0; i < g.n; i++) sum += (double)g.d[i];
    for (size_t i = 0; i < g.n; i++) {
        double off = (double)g.d[i] - sum / (double)g.n;
        squares += off * off;
    }
    p->explored -= 2 * sum;
    if (g.n > 1) p->explored_var += 4 * squares * (double)g.n / (double)(g.n - 1);
}

/* The arm other than the incumbent that costs least. */
static uint32_t runner_up(const struct tr_policy *p)
{
    uint32_t best = p->incumbent;
    for (uint32_t i = 0; i < p->n_arms; i++)
        if (i != p->incumbent && (best == p->incumbent || p->arms[i].gain > p->arms[best].gain))
            best = i;
    return best;
}

/* --------------------------------------------------------------------- blocks */

/* A new block in random order. */
static void next_block(struct tr_policy *p)
{
    p->n_compared = p->step = 0;
    for (uint32_t i = 0; i < p->n_arms; i++)
        if (p->arms[i].compared) p->order[p->n_compared++] = (uint8_t)i;
    for (uint32_t i = p->n_compared; i > 1; i--) {
        uint32_t j = tr_random_below(&p->random, i);
        uint8_t arm = p->order[i - 1];
        p->order[i - 1] = p->order[j];
        p->order[j] = arm;
    }
}

static void clear_blocks(struct tr_policy *p, enum tr_policy_phase phase)
{
    p->phase = phase;
    p->n_blocks = 0;
    for (uint32_t i = 0; i < p->n_arms; i++) {
        p->arms[i].compared = false;
        p->arms[i].n_blocks = 0;
    }
}

uint32_t tr_audit_select(const struct tr_policy *p)
{
    if (p->phase == TR_POLICY_SERVE) return p->incumbent;
    return p->order[p->step < p->n_compared ? p->step : 2 * p->n_compared - 1 - p->step];
}

/* ------------------------------------------------------------------- the ledger */

/* Upper bound of what an audit loses, in the incumbent's costs. */
static double audit_loss(const struct tr_arm *a)
{
    double loss = exp(SLACK - (double)a->gain) - 1;
    return loss > 0 ? 2 * TR_AUDIT_BLOCKS * loss : 0;
}

/* Rewards until the arm's next audit, so that on average audits lose their share. */
static void put_off(struct tr_policy *p, uint32_t arm)
{
    struct tr_arm *a = &p->arms[arm];
    double loss = 2 * TR_AUDIT_BLOCKS * (exp(-(double)a->gain) - 1);
    bool first = arm == runner_up(p);
    double part = first ? AUDIT_PART : OTHER_PART / (p->n_arms > 3 ? p->n_arms - 2 : 1);
    bool never =
        p->opt.audit_share <= 0 || audit_loss(a) > MAX_CREDIT || (!first && a->gain < -FAR);
    double spacing = fmax(first ? MIN_SPACING : OTHER_RARER * MIN_SPACING,
                          never ? 0 : loss / (part * p->opt.audit_share));
    if (spacing > 1e15) never = true;
    a->due = never ? UINT64_MAX : p->n + (uint64_t)spacing;
}

/* After a change of `due`. */
static void find_next(struct tr_policy *p)
{
    p->next_due = UINT64_MAX;
    for (uint32_t i = 0; i < p->n_arms; i++)
        if (i != p->incumbent && p->arms[i].due < p->next_due) p->next_due = p->arms[i].due;
}

static void serve(struct tr_policy *p)
{
    p->phase = TR_POLICY_SERVE;
    find_next(p);
}

/* Two calls of every arm are debited what the quicker one took longer than the incumbent's quicker
 * one; a hiccup would as well have hit the incumbent. What was faster is credit. */
static void debit_block(struct tr_policy *p)
{
    const struct tr_arm *in = &p->arms[p->incumbent];
    double excess = 0;
    if (!in->compared) return; /* too slow to lose anything against it */
    for (uint32_t i = 0; i < p->n_compared; i++) {
        const struct tr_arm *a = &p->arms[p->order[i]];
        excess += exp((double)a->block[p->n_blocks]) - exp((double)in->block[p->n_blocks]);
    }
    p->credit -= 2 * excess;
    if (p->phase == TR_POLICY_AUDIT) p->audit_excess += 2 * excess;
}

/* Ends an audit that cost more than it was expected to. */
static void abort_audit(struct tr_policy *p)
{
    struct tr_arm *a = &p->arms[p->challenger];
    struct gains g = gains_of(p, p->challenger, p->incumbent);
    a->gain = fminf(a->gain, fmaxf(median(&g), -FAR)); /* few blocks: it may have been bad luck */
    account(p, p->challenger);
    put_off(p, p->challenger);
    clear_blocks(p, TR_POLICY_SERVE);
    serve(p);
}

/* ------------------------------------------------------------------------ race */

void tr_policy_race(struct tr_policy *p)
{
    if (p->n_races > 0) {
        double missed = (double)p->arms[runner_up(p)].gain;
        p->explored += missed > 0 ? missed * (double)p->n_served : 0;
    }
    bool flipped = p->last_flip > 0 && p->n - p->last_flip < HYSTERESIS;
    p->eps = flipped ? 2 * EPS : EPS;
    p->n_races++;
    clear_blocks(p, TR_POLICY_RACE);
    for (uint32_t i = 0; i < p->n_arms; i++) p->arms[i].compared = p->arms[i].gain > -TOO_FAR;
    next_block(p);
}

void tr_policy_pin(struct tr_policy *p, uint32_t arm)
{
    float shift = p->arms[arm].gain; /* for those that were not compared now */
    if (arm != p->incumbent) p->last_flip = p->n;
    p->incumbent = arm;
    p->n_served = 0;
    for (uint32_t i = 0; i < p->n_arms; i++) {
        struct gains g = gains_of(p, i, arm);
        struct tr_arm *a = &p->arms[i];
        a->gain = g.n > 0 ? median(&g) : i == arm ? 0 : a->gain - shift;
        if (g.n > 0) {
            a->width = half_width(&g);
            a->raced = (uint8_t)g.n;
        }
        a->drift = a->sum = a->squares = 0;
        a->n_audits = 0;
        if (i != arm) account(p, i);
    }
    for (uint32_t i = 0; i < p->n_arms; i++) put_off(p, i);
    clear_blocks(p, TR_POLICY_SERVE);
    serve(p);
}

void tr_policy_know(struct tr_policy *p, uint32_t arm, float gain)
{
    gain = fmaxf(KNOWN_LOSS, fminf(gain, KNOWN_GAIN));
    if (arm >= p->n_arms || arm == p->incumbent) return;
    for (uint32_t i = 0; i < p->n_arms; i++)
        if (i == arm || (i != p->incumbent && p->incumbent == p->default_arm))
            p->arms[i].gain = gain;
    for (uint32_t i = 0; i < p->n_arms; i++) put_off(p, i);
    find_next(p);
}

/* The arm whose median is the best of those in the race. */
static uint32_t leader(const struct tr_policy *p)
{
    uint32_t first = p->incumbent, best;
    float highest = 0;
    for (uint32_t i = 0; !p->arms[first].compared; i++) first = i;
    best = first;
    for (uint32_t i = 0; i < p->n_arms; i++) {
        if (!p->arms[i].compared) continue;
        struct gains g = gains_of(p, i, first);
        if (median(&g) <= highest) continue;
        best = i;
        highest = median(&g);
    }
    return best;
}

/* The look that is due after n blocks; -1: none. */
static int look_at(uint32_t n)
{
    for (int i = 0; i < (int)(sizeof looks / sizeof looks[0]); i++)
        if (looks[i].n_blocks == n) return i;
    return -1;
}

/* True if arm a is out: its gain over the leader cannot be worth a change. Of equal arms the
 * incumbent wins, then the lowest number, so these must be proven slower. */
static bool is_out(const struct tr_policy *p, uint32_t a, uint32_t best)
{
    struct gains g = gains_of(p, a, best);
    for (size_t i = 0; i < sizeof early / sizeof early[0]; i++)
        if (early[i].n_blocks == g.n && g.d[g.n - 1] < -early[i].loss) return true;
    for (size_t i = 0; i < sizeof behind / sizeof behind[0] && a != p->incumbent; i++)
        if (behind[i].n_blocks == g.n && median(&g) < -behind[i].loss) return true;
    int look = look_at(p->n_blocks);
    if (look < 0) return false;
    bool preferred = a == p->incumbent || (best != p->incumbent && a < best);
    return g.d[g.n - 1 - looks[look].k] < (preferred ? -p->eps : p->eps);
}

/* All blocks are done: of what is left, the incumbent unless it is proven slower than the best, now
 * with 95 %, else the first that equals the best. */
static uint32_t winner(const struct tr_policy *p, uint32_t best)
{
    if (p->arms[p->incumbent].compared) {
        struct gains g = gains_of(p, p->incumbent, best);
        float bound = g.n ? g.d[g.n - 1 - LAST_K] : 0;
        if (bound >= -p->eps && (bound >= 0 || median(&g) >= -2 * p->eps)) return p->incumbent;
    }
    for (uint32_t i = 0; i < best; i++) {
        struct gains g = gains_of(p, i, best);
        if (p->arms[i].compared && i != p->incumbent && median(&g) > -p->eps) return i;
    }
    return best;
}

static void look_at_race(struct tr_policy *p)
{
    uint32_t best = leader(p), n = 0;
    for (uint32_t i = 0; i < p->n_arms; i++) {
        struct tr_arm *a = &p->arms[i];
        if (a->compared && i != best && is_out(p, i, best)) a->compared = false;
        n += a->compared;
    }
    if (n > 1 && p->n_blocks < TR_RACE_BLOCKS) {
        next_block(p);
        return;
    }
    p->n_decided++;
    p->n_inconclusive += n > 1;
    tr_policy_pin(p, n == 1 ? best : winner(p, best));
}

/* ----------------------------------------------------------------------- audits */

/* Whether the audits of an arm since the last choice prove that it is faster, by however little:
 * the mean of their results less three standard errors is above what a change should be worth.
 * Races ask for more, so that processes choose alike between arms that are nearly equal; who goes
 * on for thousands of calls should not go on losing. */
static bool is_proven(const struct tr_arm *a)
{
    if (a->n_audits < PROOF_AUDITS) return false;
    const double n = a->n_audits, mean = (double)a->sum / n;
    const double variance = fmax(0, (double)a->squares / n - mean * mean) * n / (n - 1);
    return mean - 3 * sqrt(variance / n) > PROOF_GAIN;
}

/* Audits the runner-up if its time has come, else another arm whose time has; not without credit
 * for what that may lose. */
static void try_audit(struct tr_policy *p)
{
    uint32_t best = runner_up(p), arm = best;
    for (uint32_t i = 0; i < p->n_arms && p->arms[arm].due > p->n; i++)
        if (i != p->incumbent && p->arms[i].due <= p->n) arm = i;
    if (p->credit < audit_loss(&p->arms[arm]) * p->reference) {
        p->arms[arm].due = p->n + RETRY;
        find_next(p);
        return;
    }
    p->challenger = arm;
    clear_blocks(p, TR_POLICY_AUDIT);
    p->arms[arm].compared = p->arms[p->incumbent].compared = true;
    next_block(p);
}

static void judge_audit(struct tr_policy *p)
{
    struct tr_arm *a = &p->arms[p->challenger];
    struct gains g = gains_of(p, p->challenger, p->incumbent);
    float gain = median(&g);
    /* of eight normal numbers the third and the sixth are 0.946 deviations apart, and their median
     * deviates by 0.43 */
    double deviation = 0.43 / 0.946 * (double)(g.d[5] - g.d[2]), square = deviation * deviation;
    p->audit_var += (square - p->audit_var) / (p->n_audits < 8 ? (double)p->n_audits + 1 : 8);
    p->n_audits++;
    a->gain += (gain - a->gain) / 4;
    a->sum += gain;
    a->squares += gain * gain;
    a->n_audits++;
    gain = fmaxf(fminf(gain, DRIFT_CLIP), -DRIFT_CLIP);
    a->drift = fmaxf(a->drift + gain - DRIFT_DELTA, 0);
    account(p, p->challenger);

    float threshold = fmaxf(DRIFT_THRESHOLD, 6 * (float)p->audit_var / DRIFT_DELTA);
    if (a->drift > threshold) {
        tr_policy_race(p);
        return;
    }
    if (is_proven(a)) {
        a->gain = a->sum / (float)a->n_audits;
        clear_blocks(p, TR_POLICY_SERVE); /* the audit is accounted for */
        tr_policy_pin(p, p->challenger);
        return;
    }
    put_off(p, p->challenger);
    if (a->drift > threshold / 3) a->due = p->n;
    clear_blocks(p, TR_POLICY_SERVE);
    serve(p);
}

static void end_block(struct tr_policy *p)
{
    /* what the first race costs is what learning anything costs */
    if (p->phase == TR_POLICY_AUDIT || p->n_races > 1) debit_block(p);
    p->n_blocks++;
    if (p->phase == TR_POLICY_RACE)
        look_at_race(p);
    else if (p->n_blocks == TR_AUDIT_BLOCKS)
        judge_audit(p);
    else if (p->credit < 0)
        abort_audit(p);
    else
        next_block(p);
}

/* A call of the block that runs. */
static void record(struct tr_policy *p, uint32_t arm, float log_cost)
{
    struct tr_arm *a = &p->arms[arm];
    if (p->step < p->n_compared)
        a->first = log_cost;
    else
        a->block[a->n_blocks++] = fminf(a->first, log_cost);
    if (++p->step == 2 * p->n_compared) end_block(p);
}

bool tr_policy_serve(struct tr_policy *p, uint64_t n)
{
    if (p->phase != TR_POLICY_SERVE || p->reference <= 0 || p->n + n >= p->next_due) return false;
    p->n += n;
    p->n_served += n;
    p->arms[p->incumbent].n += n;
    p->credit =
        fmin(p->credit + p->opt.audit_share * p->reference * (double)n, MAX_CREDIT * p->reference);
    return true;
}

void tr_audit_update(struct tr_policy *p, uint32_t arm, double reward)
{
    /* rewards of a public bandit may be anything; no real time is outside */
    double log_cost = fmax(fmin(-reward, 60), -60), cost = exp(log_cost);
    if (arm == p->incumbent) p->reference = cost;
    p->credit = fmin(p->credit + p->opt.audit_share * cost, MAX_CREDIT * p->reference);
    if (p->phase == TR_POLICY_SERVE) {
        p->n_served++;
        if (p->n >= p->next_due) try_audit(p);
        return;
    }
    if (arm != tr_audit_select(p)) return; /* not what was asked for */
    record(p, arm, (float)log_cost);
}

double tr_audit_regret(const struct tr_policy *p, double *upper95)
{
    double gain = (double)p->arms[runner_up(p)].gain, n = (double)p->n_served;
    double bound = gain + 1.645 * sqrt(p->audit_var);
    double sum = p->explored + (gain > 0 ? gain * n : 0);
    *upper95 = p->explored + 1.645 * sqrt(p->explored_var) + (bound > 0 ? bound * n : 0);
    return sum;
}
