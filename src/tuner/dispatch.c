/* SPDX-License-Identifier: MIT */
/* The table of contexts: lookup without a lock, learning, and the ring of observations. */
#include "base/clock.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "trueno/quantize.h"
#include "tuner/tuner_impl.h"

/* Columns that costs are for in the last bucket, which has no upper edge. */
enum { LAST_BUCKET = 2048 };

/* ---------------------------------------------------------------------- slots */

/* Where the search for a context begins: multilinear hashing (Carter, Wegman 1979). It takes a
 * quarter of the time of the context's number, and as the CPU guesses that the number will be the
 * slot's, what follows does not wait for it. */
static uint32_t start_of(const trueno_problem *p)
{
    uint64_t kind = (uint64_t)p->type << 32 | tr_m_bucket(p->n_cols);
    uint64_t how = (uint64_t)p->kind << 48 | (uint64_t)p->phase << 32 | p->threads;
    uint64_t h = (uint64_t)p->rows * UINT64_C(0xd1342543de82ef95) +
                 (uint64_t)p->cols * UINT64_C(0xaf251af3b0f025b5) +
                 kind * UINT64_C(0x9fb21c651e98df25) + how * UINT64_C(0xda942042e4dd58b5);
    return (uint32_t)(h >> 32) / (UINT32_MAX / TR_MAX_SLOTS + 1);
}

/* key: p's context, not 0. */
static struct tr_slot *find(const trueno_tuner *t, uint64_t key, const trueno_problem *p)
{
    for (uint32_t i = start_of(p), tries = 0; tries < TR_MAX_SLOTS; tries++) {
        struct tr_slot *s = &t->slots[(i + tries) % TR_MAX_SLOTS];
        uint64_t here = atomic_load_explicit(&s->key, memory_order_acquire);
        if (here == key) return s;
        if (here == 0) return NULL;
    }
    return NULL;
}

/* A policy of the slot's arms; false: no memory, and then nothing is learned here. */
static bool make_policy(struct tr_slot *s)
{
    trueno_bandit_options o = TRUENO_BANDIT_OPTIONS_INIT;
    o.policy = TRUENO_BANDIT_AUDIT;
    o.seed = s->t->seed;
    if (s->t->options.audit_share > 0) o.audit_share = s->t->options.audit_share;
    if (!s->policy) s->policy = tr_alloc(s->t->ctx, tr_policy_bytes(s->n_arms));
    if (s->policy) tr_policy_init(s->policy, &o, s->n_arms, 0, trueno_problem_context(&s->problem));
    return s->policy != NULL;
}

/* Fills an empty slot; under t->adding. */
static bool fill(trueno_tuner *t, struct tr_slot *s, const trueno_problem *p)
{
    s->t = t;
    s->problem = *p;
    if (!tr_slot_arms(s)) return false;
    if (s->n_arms > 1 && t->mode == TRUENO_TUNER_LEARN) make_policy(s);
    tr_slot_recall(s, true);
    if (s->policy) (void)tr_slot_next(s);
    return true;
}

/* What callers get from now on. */
static void show(struct tr_slot *slot, uint32_t order)
{
    bool pins = order >= TR_ORDER_PIN;
    uint32_t arm = pins ? order - TR_ORDER_PIN : 0;
    atomic_store(&slot->source, pins ? TRUENO_CHOICE_MEASURED : TRUENO_CHOICE_DEFAULT);
    atomic_store(&slot->pick, arm);
    atomic_store(&slot->next, arm);
}

/* By who has taken the slot. True: what was waited for does not count any more. */
static bool obey(struct tr_slot *slot)
{
    if (atomic_load_explicit(&slot->order, memory_order_relaxed) == 0) return false;
    uint32_t order = atomic_exchange(&slot->order, 0);
    if (slot->policy && order == TR_ORDER_BEGIN) make_policy(slot);
    if (slot->policy && order >= TR_ORDER_PIN) {
        tr_policy_pin(slot->policy, order - TR_ORDER_PIN);
        tr_policy_know(slot->policy, atomic_load(&slot->rival), atomic_load(&slot->gain));
    }
    show(slot, order);
    slot->waiting = false;
    return true;
}

bool tr_slot_hold(struct tr_slot *slot)
{
    if (atomic_exchange_explicit(&slot->taken, true, memory_order_acquire)) return false;
    (void)obey(slot);
    return true;
}

void tr_slot_order(struct tr_slot *slot, uint32_t order)
{
    show(slot, order);
    atomic_store(&slot->order, order); /* whoever takes it next obeys first */
}

static struct tr_slot *add(trueno_tuner *t, uint64_t key, const trueno_problem *p)
{
    pthread_mutex_lock(&t->adding);
    struct tr_slot *s = find(t, key, p);
    if (s == NULL && t->n_slots < TR_MAX_SLOTS) {
        uint32_t i = start_of(p);
        while (atomic_load(&t->slots[i].key) != 0) i = (i + 1) % TR_MAX_SLOTS;
        if (fill(t, &t->slots[i], p)) {
            s = &t->slots[i];
            t->n_slots++;
            atomic_store_explicit(&s->key, key, memory_order_release);
        }
    } else if (s == NULL) {
        atomic_fetch_add(&t->n.full, 1);
    }
    pthread_mutex_unlock(&t->adding);
    return s;
}

struct tr_slot *tr_tuner_slot(trueno_tuner *t, const trueno_problem *p)
{
    uint64_t key = trueno_problem_context(p);
    if (key == 0) return NULL;
    struct tr_slot *s = find(t, key, p);
    return s ? s : add(t, key, p);
}

void tr_slots_init(trueno_tuner *t)
{
    atomic_store(&t->ring_head, 0);
    atomic_store(&t->ring_tail, 0);
    for (uint64_t i = 0; i < TR_RING; i++) atomic_store(&t->ring[i].turn, i);
}

void tr_slots_free(trueno_tuner *t)
{
    for (size_t i = 0; t->slots && i < TR_MAX_SLOTS; i++) tr_free(t->ctx, t->slots[i].policy);
}

void tr_slots_recall(trueno_tuner *t)
{
    pthread_mutex_lock(&t->adding);
    for (size_t i = 0; i < TR_MAX_SLOTS; i++)
        if (atomic_load(&t->slots[i].key) != 0) tr_slot_recall(&t->slots[i], false);
    pthread_mutex_unlock(&t->adding);
}

const trueno_ctx *tr_tuner_ctx(const trueno_tuner *t)
{
    return t->ctx;
}

bool tr_tuner_learns(const trueno_tuner *t)
{
    return t->mode == TRUENO_TUNER_LEARN && !atomic_load_explicit(&t->paused, memory_order_relaxed);
}

uint32_t tr_slot_pick(const struct tr_slot *slot)
{
    return atomic_load_explicit(&slot->pick, memory_order_relaxed);
}

const struct tr_kernel *tr_slot_kernel(const struct tr_slot *slot, uint32_t arm)
{
    return slot->arms[arm < slot->n_arms ? arm : 0];
}

const char *tr_slot_arm_name(const struct tr_slot *slot, uint32_t arm, char name[TR_THREADS_NAME])
{
    if (slot->problem.kind == TRUENO_PROBLEM_PRODUCT) return slot->arms[arm]->name;
    tr_threads_name(name, slot->threads[arm]);
    return name;
}

uint64_t tr_tuner_now(const trueno_tuner *t)
{
    return tr_clock_ns(&t->clock);
}

uint64_t tr_slot_cost(const struct tr_slot *slot, uint64_t ns, uint64_t columns)
{
    uint32_t edge = tr_m_bucket_edge(tr_m_bucket(slot->problem.n_cols));
    if (edge == UINT32_MAX) edge = LAST_BUCKET;
    if (columns == 0 || columns == edge) return ns;
    double cost = (double)ns * edge / (double)columns;
    return cost < 1 ? 1 : cost < 1e18 ? (uint64_t)cost : (uint64_t)1e18;
}

bool tr_slot_serve(struct tr_slot *slot, uint64_t n)
{
    return atomic_load_explicit(&slot->order, memory_order_relaxed) == 0 &&
           tr_policy_serve(slot->policy, n);
}

bool tr_slot_races(const struct tr_slot *slot)
{
    return slot->policy->phase == TR_POLICY_RACE;
}

bool tr_slot_misses(const struct tr_slot *slot)
{
    return slot->problem.kind == TRUENO_PROBLEM_PRODUCT && slot->t->mode == TRUENO_TUNER_STRICT &&
           slot->n_arms > 1 &&
           atomic_load_explicit(&slot->source, memory_order_relaxed) != TRUENO_CHOICE_MEASURED;
}

/* ------------------------------------------------------------------- learning */

bool tr_slot_take(struct tr_slot *slot)
{
    return slot->policy && tr_tuner_learns(slot->t) && tr_slot_hold(slot);
}

void tr_slot_begin_race(struct tr_slot *slot, uint8_t effort)
{
    uint32_t pick = tr_slot_pick(slot);
    if (slot->n_arms < 2 || !make_policy(slot)) return;
    if (pick != 0) { /* it stays until another one is proven faster */
        tr_policy_pin(slot->policy, pick);
        tr_policy_race(slot->policy);
    }
    slot->waiting = false;
    slot->on_bed = true;
    slot->effort = effort;
}

void tr_slot_give(struct tr_slot *slot)
{
    atomic_store_explicit(&slot->taken, false, memory_order_release);
}

uint32_t tr_slot_next(struct tr_slot *slot)
{
    (void)obey(slot);
    if (!slot->waiting) {
        atomic_store_explicit(&slot->next, tr_policy_select(slot->policy), memory_order_relaxed);
        slot->waiting = true;
    }
    return atomic_load_explicit(&slot->next, memory_order_relaxed);
}

void tr_slot_pin(struct tr_slot *slot, uint32_t arm, trueno_choice_source source)
{
    uint32_t before = atomic_exchange(&slot->pick, arm);
    atomic_store(&slot->source, (uint32_t)source);
    char now[TR_THREADS_NAME], was[TR_THREADS_NAME];
    if (arm == before) return;
    atomic_fetch_add(arm == 0 ? &slot->t->n.unpins : &slot->t->n.pins, 1);
    tr_log(slot->t->ctx, TRUENO_LOG_INFO, "tuner: %s for %s%s [%zu, %zu] x %u: was %s",
           tr_slot_arm_name(slot, arm, now),
           slot->problem.kind == TRUENO_PROBLEM_PASS ? "a pass over " : "",
           trueno_dtype_get_info(slot->problem.type)->name, slot->problem.rows, slot->problem.cols,
           slot->problem.n_cols, tr_slot_arm_name(slot, before, was));
}

void tr_slot_measured(struct tr_slot *slot, uint32_t arm, uint64_t cost)
{
    if (obey(slot) || !slot->waiting ||
        arm != atomic_load_explicit(&slot->next, memory_order_relaxed))
        return;
    slot->waiting = false;
    struct tr_policy *p = slot->policy;
    uint64_t audits = p->n_audits, races = p->n_races, decided = p->n_decided;
    uint64_t unsure = p->n_inconclusive;
    double excess = p->audit_excess;
    tr_policy_observe(p, arm, (double)cost);
    if (p->n_decided > decided) atomic_fetch_add(&slot->t->n.races, 1);
    if (p->n_inconclusive > unsure) atomic_fetch_add(&slot->t->n.inconclusive, 1);
    if (p->n_audits > audits) atomic_fetch_add(&slot->t->n.audits, 1);
    if (p->n_races > races && races > 0) {
        atomic_fetch_add(&slot->t->n.retunes, 1);
        slot->on_bed = false;
    }
    if (p->audit_excess > excess)
        atomic_fetch_add(&slot->t->n.audit_excess_ns, (uint64_t)(p->audit_excess - excess));
    int incumbent = tr_policy_best(p);
    uint32_t pick = tr_slot_pick(slot), best = incumbent < 0 ? pick : (uint32_t)incumbent;
    atomic_fetch_add_explicit(&slot->t->n.observations, 1, memory_order_relaxed);
    if (arm != pick) atomic_fetch_add_explicit(&slot->t->n.explored, 1, memory_order_relaxed);
    if (best != pick)
        tr_slot_pin(slot, best, best == 0 ? TRUENO_CHOICE_DEFAULT : TRUENO_CHOICE_MEASURED);
    (void)tr_slot_next(slot); /* what the next caller is given */
}

/* ----------------------------------------------------------------- public calls */

/* Tickets: number of the slot, arm, and a mark by which others are told from garbage. */
#define TICKET_MARK UINT64_C(0x7475000000000000)

static uint64_t ticket_of(const struct tr_slot *s, uint32_t arm)
{
    return TICKET_MARK | (uint64_t)(s - s->t->slots) << 8 | arm;
}

static struct tr_slot *slot_of(const trueno_tuner *t, uint64_t ticket, uint32_t *arm)
{
    uint64_t i = (ticket & ~TICKET_MARK) >> 8;
    *arm = (uint32_t)(ticket & 0xff);
    if ((ticket & UINT64_C(0xffff000000000000)) != TICKET_MARK || i >= TR_MAX_SLOTS) return NULL;
    struct tr_slot *s = &t->slots[i];
    bool known = atomic_load_explicit(&s->key, memory_order_acquire) != 0;
    return known && *arm < s->n_arms ? s : NULL;
}

trueno_status trueno_tuner_plan(trueno_tuner *t, trueno_pick *out, const trueno_problem *p)
{
    if (!t || !out || !TR_STRUCT_OK(out)) return TRUENO_ERR_ARGUMENT;
    out->variant = NULL;
    out->threads = 0;
    out->source = TRUENO_CHOICE_DEFAULT;
    out->ticket = 0;
    uint64_t key = trueno_problem_context(p);
    if (key == 0) return TRUENO_ERR_ARGUMENT;
    struct tr_slot *s = find(t, key, p);
    if (!s) s = add(t, key, p);
    out->threads = p->threads;
    if (!s) { /* the table is full, or there is no kernel */
        const struct tr_kernel *k;
        if (p->kind == TRUENO_PROBLEM_PASS) return TRUENO_OK;
        if (tr_candidates(&k, 1, t->ctx, p) == 0) return TRUENO_ERR_UNSUPPORTED;
        if (t->mode == TRUENO_TUNER_STRICT) return TRUENO_ERR_STRICT_MISS;
        out->variant = k->name;
        return TRUENO_OK;
    }
    uint32_t arm = tr_slot_pick(s);
    if (s->policy && tr_tuner_learns(t)) {
        arm = atomic_load_explicit(&s->next, memory_order_relaxed);
        out->ticket = ticket_of(s, arm);
    }
    out->source = (trueno_choice_source)atomic_load_explicit(&s->source, memory_order_relaxed);
    if (tr_slot_misses(s)) {
        out->source = TRUENO_CHOICE_DEFAULT;
        return TRUENO_ERR_STRICT_MISS;
    }
    if (p->kind == TRUENO_PROBLEM_PRODUCT)
        out->variant = s->arms[arm]->name;
    else
        out->threads = s->threads[arm];
    if (arm != tr_slot_pick(s)) out->source = TRUENO_CHOICE_EXPLORING;
    return TRUENO_OK;
}

trueno_status trueno_tuner_observe(trueno_tuner *t, uint64_t ticket, uint64_t ns, uint64_t columns)
{
    uint32_t arm;
    if (!t) return TRUENO_ERR_ARGUMENT;
    if (ticket == 0) return TRUENO_OK;
    const struct tr_slot *slot = slot_of(t, ticket, &arm);
    if (!slot || ns == 0) return TRUENO_ERR_ARGUMENT;
    uint64_t at = atomic_load_explicit(&t->ring_tail, memory_order_relaxed);
    for (;;) {
        struct tr_observation *o = &t->ring[at % TR_RING];
        uint64_t turn = atomic_load_explicit(&o->turn, memory_order_acquire);
        if (turn < at) { /* not yet read since the last round */
            atomic_fetch_add(&t->n.dropped, 1);
            return TRUENO_OK;
        }
        if (turn == at && atomic_compare_exchange_weak(&t->ring_tail, &at, at + 1)) {
            o->ticket = ticket;
            o->cost = tr_slot_cost(slot, ns, columns);
            atomic_store_explicit(&o->turn, at + 1, memory_order_release);
            return TRUENO_OK;
        }
        if (turn > at) at = atomic_load_explicit(&t->ring_tail, memory_order_relaxed);
    }
}

static bool pop(trueno_tuner *t, uint64_t *ticket, uint64_t *cost)
{
    uint64_t at = atomic_load_explicit(&t->ring_head, memory_order_relaxed);
    struct tr_observation *o = &t->ring[at % TR_RING];
    if (atomic_load_explicit(&o->turn, memory_order_acquire) != at + 1) return false;
    *ticket = o->ticket;
    *cost = o->cost;
    atomic_store_explicit(&o->turn, at + TR_RING, memory_order_release);
    atomic_store_explicit(&t->ring_head, at + 1, memory_order_relaxed);
    return true;
}

trueno_status trueno_tuner_tick(trueno_tuner *t, uint64_t budget_us)
{
    if (!t) return TRUENO_ERR_ARGUMENT;
    trueno_status status = tr_tuner_enter(t, NULL);
    if (status != TRUENO_OK) return status;
    uint64_t ticket, cost, began = tr_now_ns(), end = atomic_load(&t->ring_tail);
    while (atomic_load(&t->ring_head) != end && /* others may go on observing */
           (budget_us == 0 || (tr_now_ns() - began) / 1000 < budget_us) && pop(t, &ticket, &cost)) {
        uint32_t arm;
        struct tr_slot *s = slot_of(t, ticket, &arm);
        if (!s || !tr_slot_take(s)) { /* a session learns from it, or nobody does */
            atomic_fetch_add(&t->n.dropped, 1);
            continue;
        }
        (void)tr_slot_next(s);
        tr_slot_measured(s, arm, cost);
        tr_slot_give(s);
    }
    tr_tuner_leave(t);
    return TRUENO_OK;
}

/* ------------------------------------------------------------------------ passes */

/* Tickets of passes: slot, arm, and the number of the hold, by which one that was used up is told
 * from one that is not. */
#define PASS_MARK UINT64_C(0x7500000000000000)
enum { HOLD_SHIFT = 24, SLOT_SHIFT = 8 };

static uint64_t pass_ticket_of(const struct tr_slot *s, uint32_t arm, uint32_t hold)
{
    return PASS_MARK | (uint64_t)hold << HOLD_SHIFT | (uint64_t)(s - s->t->slots) << SLOT_SHIFT |
           arm;
}

uint32_t tr_tuner_threads(trueno_tuner *t, const trueno_problem *pass)
{
    const struct tr_slot *s = tr_tuner_slot(t, pass);
    return s ? s->threads[tr_slot_pick(s)] : pass->threads;
}

trueno_status trueno_tuner_begin_pass(trueno_tuner *t, trueno_pass *pass)
{
    if (!t || !pass || !TR_STRUCT_OK(pass)) return TRUENO_ERR_ARGUMENT;
    const trueno_problem *p = &pass->problem;
    pass->threads = p->threads;
    pass->compares = false;
    pass->source = TRUENO_CHOICE_DEFAULT;
    pass->ticket = 0;
    if (p->kind != TRUENO_PROBLEM_PASS || tr_problem_check(p, NULL) != TRUENO_OK)
        return TRUENO_ERR_ARGUMENT;
    struct tr_slot *s = tr_tuner_slot(t, p);
    if (!s) return TRUENO_OK; /* the table is full */
    uint32_t arm = tr_slot_pick(s);
    pass->source = (trueno_choice_source)atomic_load_explicit(&s->source, memory_order_relaxed);
    if (tr_slot_take(s)) {
        arm = tr_slot_next(s);
        if (arm != tr_slot_pick(s)) pass->source = TRUENO_CHOICE_EXPLORING;
        pass->compares = s->policy->phase != TR_POLICY_SERVE;
        pass->ticket = pass_ticket_of(s, arm, atomic_fetch_add(&s->hold, 1) + 1);
    }
    pass->threads = s->threads[arm];
    return TRUENO_OK;
}

trueno_status trueno_tuner_end_pass(trueno_tuner *t, trueno_pass *pass, uint64_t ns,
                                    uint64_t tokens)
{
    if (!t || !pass || !TR_STRUCT_OK(pass)) return TRUENO_ERR_ARGUMENT;
    if (pass->ticket == 0) return TRUENO_OK;
    const uint64_t ticket = pass->ticket & ~PASS_MARK, arm = ticket & ((1U << SLOT_SHIFT) - 1);
    const uint64_t i = (ticket & ((1U << HOLD_SHIFT) - 1)) >> SLOT_SHIFT;
    uint32_t hold = (uint32_t)(ticket >> HOLD_SHIFT);
    if ((pass->ticket & UINT64_C(0xff00000000000000)) != PASS_MARK || i >= TR_MAX_SLOTS)
        return TRUENO_ERR_ARGUMENT;
    struct tr_slot *s = &t->slots[i];
    if (atomic_load_explicit(&s->key, memory_order_acquire) == 0 || arm >= s->n_arms ||
        !atomic_compare_exchange_strong(&s->hold, &hold, hold + 1))
        return TRUENO_ERR_ARGUMENT;
    pass->ticket = 0;
    if (ns > 0)
        tr_slot_measured(s, (uint32_t)arm,
                         tr_slot_cost(s, ns, tokens ? tokens : pass->problem.n_cols));
    tr_slot_give(s);
    return TRUENO_OK;
}

void trueno_tuner_pause(trueno_tuner *t, bool paused)
{
    if (t) atomic_store(&t->paused, paused);
}

trueno_status tr_tuner_enter(trueno_tuner *t, trueno_error *err)
{
    if (!atomic_flag_test_and_set_explicit(&t->busy, memory_order_acquire)) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_BUSY, "tuner: another call that changes it is running");
}

void tr_tuner_leave(trueno_tuner *t)
{
    atomic_flag_clear_explicit(&t->busy, memory_order_release);
}
