/* SPDX-License-Identifier: MIT */
/* What competes in a context: the kernels of a product, the numbers of threads of a pass. */
#include "trueno/quantize.h"
#include "tuner/tuner_impl.h"

#include <math.h>

/* Passes with fewer threads that should take more than this many times as long are not tried. */
#define WORTH_TRYING 1.5

/* Products per instruction, by what a kernel needs of the CPU: a prior of its speed. */
static uint32_t rate_of(const struct tr_kernel *k)
{
    static const struct {
        uint32_t feature, rate;
    } rates[] = {{TRUENO_CPU_AVX512_VNNI, 64}, {TRUENO_CPU_AVX512F, 32}, {TRUENO_CPU_AVX_VNNI, 32},
                 {TRUENO_CPU_AVX2, 16},        {TRUENO_CPU_I8MM, 32},    {TRUENO_CPU_DOTPROD, 16},
                 {TRUENO_CPU_NEON, 8}};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++)
        if (k->cpu & rates[i].feature) return rates[i].rate;
    return 1;
}

/* Not tried while an application runs: kernels that the prior expects to be far behind. With few
 * columns memory is the limit, and half the rate may do; with many it is the rate. Who is patient
 * tries all but the C reference, one call of which may take seconds. */
static bool worth_trying(const struct tr_kernel *k, const struct tr_kernel *first, uint32_t n_cols,
                         bool patient)
{
    uint32_t share = n_cols <= TR_NT_MAX ? 4 : 1;
    if (patient) return k->cpu != 0 || first->cpu == 0;
    return rate_of(k) * share >= rate_of(first);
}

/* Seconds of a pass for each of its weights, by what was measured of so many threads. */
static double seconds_of(const trueno_problem *p, const trueno_machine_point *at)
{
    const trueno_dtype_info *type = trueno_dtype_get_info(p->type);
    double bytes = (double)type->block_bytes / (double)type->block;
    double peak = type->is_quantized ? at->int8_gmacs : at->f32_gmacs;
    return fmax(bytes / at->read_gbs, (double)p->n_cols / peak);
}

/* A pass with fewer threads is not tried where what was measured rules it out, nor, without
 * measurements, but with half of them for decoding. */
static bool threads_worth_trying(const trueno_tuner *t, const trueno_problem *p, uint32_t threads)
{
    trueno_machine_point all, few;
    if (tr_tuner_point(t, &all, p->threads) && tr_tuner_point(t, &few, threads)) {
        double ratio = seconds_of(p, &few) / seconds_of(p, &all);
        if (isfinite(ratio)) return ratio <= WORTH_TRYING;
    }
    return p->phase == TRUENO_PHASE_DECODE && threads == (p->threads + 1) / 2;
}

/* Arms of a pass: all threads, half of them, one, and as many as can compute at once. */
static void fill_threads(struct tr_slot *s)
{
    const trueno_tuner *t = s->t;
    const trueno_problem *p = &s->problem;
    const uint32_t few[] = {(p->threads + 1) / 2, 1, t->cpus};
    s->threads[0] = p->threads;
    s->n_arms = 1;
    for (size_t i = 0; i < sizeof few / sizeof *few; i++) {
        bool known = few[i] == 0 || few[i] > p->threads;
        for (uint32_t k = 0; k < s->n_arms; k++) known |= s->threads[k] == few[i];
        if (!known && threads_worth_trying(t, p, few[i])) s->threads[s->n_arms++] = few[i];
    }
}

/* Arms of a product. False: nothing computes it. */
static bool fill_kernels(struct tr_slot *s)
{
    const trueno_problem *p = &s->problem;
    const struct tr_kernel *all[2 * TR_MAX_ARMS];
    size_t n = tr_candidates(all, 2 * TR_MAX_ARMS, s->t->ctx, p);
    if (n > 2 * TR_MAX_ARMS) n = 2 * TR_MAX_ARMS;
    bool patient = atomic_load(&s->t->patient);
    s->n_arms = 0;
    for (size_t i = 0; i < n && s->n_arms < TR_MAX_ARMS; i++)
        if (i == 0 || worth_trying(all[i], all[0], p->n_cols, patient))
            s->arms[s->n_arms++] = all[i];
    return n > 0;
}

bool tr_slot_arms(struct tr_slot *slot)
{
    if (slot->problem.kind == TRUENO_PROBLEM_PRODUCT) return fill_kernels(slot);
    fill_threads(slot);
    return true;
}
