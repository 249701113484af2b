/* SPDX-License-Identifier: MIT */
/* Kernels of a session's stages, and their times (plan.h). */
#include "model/plan.h"

#include "base/clock.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "model/pass.h"
#include "trueno/quantize.h"

#include <string.h>

/* ------------------------------------------------------------------------ kinds */

/* The matrix that a stage is known by; NULL: it multiplies with none. */
static const struct tr_matrix *matrix_of(const trueno_model *m, uint32_t l, enum tr_stage stage)
{
    const struct tr_layer *y = &m->layers[l];
    switch (stage) {
    case TR_STAGE_QKV: return &y->q;
    case TR_STAGE_O: return &y->o;
    case TR_STAGE_GATE_UP: return &y->gate;
    case TR_STAGE_DOWN: return &y->down;
    case TR_STAGE_OUTPUT: return l == 0 ? &m->output : NULL;
    default: return NULL;
    }
}

/* What passes over the model are known by: as trueno_problem_of_pass says it of its features. */
static trueno_problem pass_of(const trueno_model *m, uint32_t n_threads)
{
    uint64_t bytes[TRUENO_TYPE_COUNT] = {0};
    trueno_problem p = TRUENO_PROBLEM_INIT;
    size_t widest = 1;
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        const struct tr_layer *y = &m->layers[l];
        const struct tr_matrix *const all[] = {&y->q,  &y->k,    &y->v,   &y->o,
                                               &y->up, &y->gate, &y->down};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            bytes[all[i]->type] += all[i]->rows * trueno_row_bytes(all[i]->type, all[i]->cols);
        if (m->hp.layers[l].n_ff > widest) widest = m->hp.layers[l].n_ff;
    }
    bytes[m->output.type] += m->output.rows * trueno_row_bytes(m->output.type, m->output.cols);
    p.kind = TRUENO_PROBLEM_PASS;
    p.type = TRUENO_TYPE_F32;
    for (int type = 0; type < TRUENO_TYPE_COUNT; type++)
        if (bytes[type] > bytes[p.type]) p.type = (trueno_dtype)type;
    p.rows = m->hp.n_layer * widest;
    p.cols = m->hp.n_embd;
    p.threads = n_threads;
    return p;
}

/* Number of the kind of w, a new one if need be. The output matrix is of none but its own: it may
 * see another number of columns. */
static uint8_t kind_of(struct tr_plan *plan, const struct tr_matrix *w, bool output,
                       uint32_t n_threads)
{
    trueno_problem *k = plan->kinds;
    uint8_t i = output ? (uint8_t)plan->n_kinds : 0;
    if (w == NULL) return TR_PLAN_KINDS;
    while (i < plan->n_kinds &&
           (i == plan->output ||
            !(k[i].type == w->type && k[i].rows == w->rows && k[i].cols == w->cols)))
        i++;
    if (i < plan->n_kinds || i == TR_PLAN_KINDS) return i;
    k[i] = (trueno_problem)TRUENO_PROBLEM_INIT;
    k[i].type = w->type;
    k[i].rows = w->rows;
    k[i].cols = w->cols;
    k[i].threads = n_threads;
    if (output) plan->output = i;
    plan->n_kinds++;
    return i;
}

static size_t kind_of_bytes(const trueno_model *m)
{
    return (size_t)m->hp.n_layer * TR_STAGE_COUNT;
}

uint64_t tr_plan_bytes(const trueno_model *m)
{
    return tr_alloc_bytes(kind_of_bytes(m));
}

trueno_status tr_plan_init(struct tr_plan *plan, const trueno_model *m, trueno_tuner *tuner,
                           uint32_t n_threads, bool profile, trueno_error *err)
{
    memset(plan, 0, sizeof *plan);
    plan->tuner = tuner;
    plan->output = TR_PLAN_KINDS;
    plan->profile = profile;
    plan->undecided = true;
    plan->pass = (trueno_pass)TRUENO_PASS_INIT;
    plan->pass.problem = pass_of(m, n_threads);
    plan->pass.threads = n_threads;
    plan->kind_of = tr_alloc(m->ctx, kind_of_bytes(m));
    if (plan->kind_of == NULL)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "session: no memory for its plan");
    for (uint32_t l = 0; l < m->hp.n_layer; l++) {
        for (int stage = 0; stage < TR_STAGE_COUNT; stage++) {
            uint8_t kind = kind_of(plan, matrix_of(m, l, (enum tr_stage)stage),
                                   stage == TR_STAGE_OUTPUT, n_threads);
            plan->kind_of[l * TR_STAGE_COUNT + (uint32_t)stage] = kind;
            if (kind < TR_PLAN_KINDS) plan->calls[kind]++;
        }
    }
    return TRUENO_OK;
}

void tr_plan_free(struct tr_plan *plan, trueno_ctx *ctx)
{
    tr_free(ctx, plan->kind_of);
    plan->kind_of = NULL;
}

/* ------------------------------------------------------------------------- a pass */

/* The slots of the products of a pass. */
static trueno_status look_up(struct tr_plan *plan, uint32_t n, uint32_t n_out, trueno_error *err)
{
    const uint32_t n_threads = plan->pass.threads;
    if (plan->n == n && plan->n_out == n_out && plan->n_threads == n_threads) return TRUENO_OK;
    plan->n = n;
    plan->n_out = n_out;
    plan->n_threads = n_threads;
    for (uint8_t i = 0; i < plan->n_kinds; i++) {
        trueno_problem p = plan->kinds[i];
        p.n_cols = i == plan->output ? n_out : n;
        p.phase = tr_phase_of(p.n_cols);
        p.threads = n_threads;
        plan->slots[i] = p.n_cols > 0 ? tr_tuner_slot(plan->tuner, &p) : NULL;
        if (plan->slots[i] == NULL || !tr_slot_misses(plan->slots[i])) continue;
        plan->n = 0; /* to be looked up again */
        return tr_fail(
            err, TRUENO_ERR_STRICT_MISS,
            "the tuner's mode is STRICT, and its store has no choice for %s [%zu, %zu] x "
            "%u with %u threads",
            trueno_dtype_get_info(p.type)->name, p.rows, p.cols, p.n_cols, p.threads);
    }
    return TRUENO_OK;
}

trueno_status tr_plan_enter(struct tr_plan *plan, uint32_t n, uint32_t n_out, trueno_error *err)
{
    trueno_pass *pass = &plan->pass;
    if (plan->tuner == NULL) return TRUENO_OK;
    pass->problem.n_cols = n;
    pass->problem.phase = tr_phase_of(n);
    if (plan->undecided) { /* kernels come first */
        pass->threads = tr_tuner_threads(plan->tuner, &pass->problem);
        pass->compares = false;
    } else {
        (void)trueno_tuner_begin_pass(plan->tuner, pass);
    }
    trueno_status status = look_up(plan, n, n_out, err);
    if (status == TRUENO_OK && pass->ticket) plan->began_ns = tr_tuner_now(plan->tuner);
    if (status != TRUENO_OK) tr_plan_leave(plan, false);
    return status;
}

void tr_plan_leave(struct tr_plan *plan, bool whole)
{
    if (plan->tuner == NULL || plan->pass.ticket == 0) return;
    /* logits of many tokens are work that other passes of the context have not */
    bool counts = whole && plan->n_out <= 1;
    uint64_t ns = counts ? tr_tuner_now(plan->tuner) - plan->began_ns : 0;
    (void)trueno_tuner_end_pass(plan->tuner, &plan->pass, ns, plan->n);
}

uint64_t tr_plan_now(const struct tr_plan *plan)
{
    return plan->tuner != NULL ? tr_tuner_now(plan->tuner) : tr_now_ns();
}

/* Takes the slots to learn from. Those that nothing is due for serve the pass unmeasured: reading
 * the clock and telling what it said costs more than most passes are worth. */
static bool take_slots(struct tr_plan *plan)
{
    bool learning = false;
    plan->undecided = false;
    for (uint32_t i = 0; i < plan->n_kinds; i++) {
        struct tr_slot *slot = plan->slots[i];
        if (slot == NULL || !tr_slot_take(slot)) continue;
        plan->undecided |= tr_slot_races(slot);
        plan->taken[i] = !tr_slot_serve(slot, plan->calls[i]);
        if (!plan->taken[i]) tr_slot_give(slot);
        learning |= plan->taken[i];
    }
    return learning;
}

void tr_plan_begin(struct tr_plan *plan, struct tr_pass *p)
{
    bool learns = plan->tuner != NULL && !plan->pass.compares && tr_tuner_learns(plan->tuner);
    bool learning = learns && take_slots(plan);
    p->timed = plan->profile || learning;
    p->by[TR_STAGE_QKV] = tr_plan_kernel(plan, TR_STAGE_QKV, 0);
    if (p->timed) p->since_ns = tr_plan_now(plan);
}

void tr_plan_end(struct tr_plan *plan, const struct tr_pass *p, bool whole)
{
    for (uint32_t i = 0; i < plan->n_kinds; i++) {
        if (plan->taken[i]) tr_slot_give(plan->slots[i]);
        plan->taken[i] = false;
    }
    if (!plan->profile || !whole) return;
    plan->passes++;
    plan->tokens += p->n;
    if (p->n != 1) return;
    plan->decoded++;
    plan->decode_ns += tr_plan_now(plan) - p->began_ns;
}

const struct tr_kernel *tr_plan_kernel(struct tr_plan *plan, enum tr_stage stage, uint32_t l)
{
    uint8_t kind = plan->kind_of[l * TR_STAGE_COUNT + (uint32_t)stage];
    struct tr_slot *slot = kind < TR_PLAN_KINDS ? plan->slots[kind] : NULL;
    if (slot == NULL) return NULL;
    plan->arms[stage] = plan->taken[kind] ? tr_slot_next(slot) : tr_slot_pick(slot);
    return tr_slot_kernel(slot, plan->arms[stage]);
}

void tr_plan_clock(struct tr_plan *plan, struct tr_pass *p, enum tr_stage stage, uint32_t l)
{
    uint8_t kind = plan->kind_of[l * TR_STAGE_COUNT + (uint32_t)stage];
    uint64_t now = tr_plan_now(plan), ns = now - p->since_ns;
    p->since_ns = now;
    plan->times[stage].calls++;
    plan->times[stage].ns += ns;
    if (kind < TR_PLAN_KINDS && plan->taken[kind] && ns > 0)
        tr_slot_measured(
            plan->slots[kind], plan->arms[stage],
            tr_slot_cost(plan->slots[kind], ns, stage == TR_STAGE_OUTPUT ? p->n_out : p->n));
}
