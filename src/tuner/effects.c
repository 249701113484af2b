/* SPDX-License-Identifier: MIT */
/* Exchanges one feature of a run after the other with the reference run's (effects.h). How weights
 * are stored is ten slots and one feature. Exact bytes and operations, which stand for features,
 * change as these do. */
#include "tuner/effects.h"

#include <math.h>
#include <string.h>

#define SMALLEST 0.005

enum {
    QUANT_BEGIN = TRUENO_FEATURE_QUANT_Q4_K,
    QUANT_END = TRUENO_FEATURE_HAS_SCALES + 1,
    BITS = TRUENO_FEATURE_BITS_PER_WEIGHT,
    GROUPS = TRUENO_FEATURE_DIM, /* numbered by their slot */
    MAX_TREES = 32 /* that are asked: the ways of all of 100 are much more memory than a prediction
                      visits */
};

/* Slots 0 to 29 of the reference run; of hardware for a CPU and a GPU. */
static const double model_and_use[30] = {
    1.1, 2048, 22,  32,  5632, 32000, 4,   64,  10000, 0, /* TinyLlama */
    1,   512,  512, 512, 0,    0,     128, 0,   1,     0, /* one sequence, decoding */
    1,   0,    0,   0,   0,    0,     32,  4.5, 4,     1, /* Q4_K */
};
static const double hardware[2][12] = {
    {50, 2, 4, 1, 0, 0, 0, 4, 1, 16, 1, 0},
    {1000, 100, 128, 3, 0, 4, 24, 1, 1, 0, 0, 0},
};

static uint8_t group_of_slot(size_t slot)
{
    return slot >= QUANT_BEGIN && slot < QUANT_END ? BITS : (uint8_t)slot;
}

static void reference_of(tr_raw_values ref, const struct tr_run *run)
{
    bool gpu = run->raw[TRUENO_FEATURE_VRAM_GB] > 0;
    memcpy(ref, model_and_use, sizeof model_and_use);
    memcpy(ref + 30, hardware[gpu], sizeof hardware[gpu]);
    if (run->times.group % 2 == 0) return;
    ref[TRUENO_FEATURE_PROMPT_TOKENS] = 512; /* a prefill */
    ref[TRUENO_FEATURE_KV_CACHE_TOKENS] = 0;
    ref[TRUENO_FEATURE_GENERATED_TOKENS] = 0;
}

/* f of the run with one feature exchanged, by slot. */
static void exchanged_f(double out[GROUPS], const trueno_regressor *r, const struct tr_run *run,
                        const tr_raw_values ref)
{
    float vector[TRUENO_FEATURE_DIM], other[TR_LEARNED];
    uint8_t group[TR_LEARNED];
    double spread, f = tr_regressor_trained_f(r, run, &spread);
    tr_features_vector_of_raw(vector, ref);
    for (size_t k = 0; k < TR_LEARNED; k++) {
        float x = vector[tr_learned_slots[k]];
        other[k] = x < r->min[k] ? r->min[k] : x > r->max[k] ? r->max[k] : x;
        group[k] = group_of_slot(tr_learned_slots[k]);
    }
    for (size_t g = 0; g < GROUPS; g++) out[g] = 0;
    if (r->source == TRUENO_SOURCE_FOREST)
        tr_forest_exchange(r->forest, out, GROUPS, MAX_TREES, run->x, other, group);
    for (size_t k = 0; k < TR_LEARNED && r->source == TRUENO_SOURCE_RIDGE; k++)
        out[group[k]] += r->ridge.weight[k] * ((double)other[k] - (double)run->x[k]);
    for (size_t g = 0; g < GROUPS; g++) out[g] += f;
}

/* Scales what was given exactly by how the feature changed; what was not stays so. */
static void scale(double *field, double to, double from)
{
    if (*field != TRUENO_UNSET && from > 0) *field *= to / from;
}

/* Raw values and side fields with one feature exchanged. */
static void exchange(tr_raw_values raw, trueno_features *f, size_t slot, const tr_raw_values ref)
{
    double to = ref[slot], from = raw[slot];
    if (slot == BITS)
        memcpy(raw + QUANT_BEGIN, ref + QUANT_BEGIN, (QUANT_END - QUANT_BEGIN) * sizeof *raw);
    raw[slot] = to;
    switch ((trueno_feature)slot) {
    case TRUENO_FEATURE_MODEL_PARAMS_B: scale(&f->flops_per_token, to, from); /* fall through */
    case TRUENO_FEATURE_BITS_PER_WEIGHT: scale(&f->weight_bytes_per_pass, to, from); break;
    case TRUENO_FEATURE_NUM_LAYERS:
    case TRUENO_FEATURE_KV_HEADS:
    case TRUENO_FEATURE_HEAD_DIM: scale(&f->kv_bytes_per_token, to, from); break;
    default: break;
    }
}

static void keep_largest(trueno_prediction *p, trueno_feature_effect e)
{
    uint32_t i = p->n_top_features;
    if (i < TRUENO_TOP_FEATURES)
        p->n_top_features++;
    else if (fabs(p->top_features[--i].effect) >= fabs(e.effect))
        return;
    for (; i > 0 && fabs(p->top_features[i - 1].effect) < fabs(e.effect); i--)
        p->top_features[i] = p->top_features[i - 1];
    p->top_features[i] = e;
}

void tr_effects_of(trueno_prediction *p, const trueno_regressor *r, const struct tr_run *run,
                   const trueno_features *f, double added)
{
    tr_raw_values ref;
    double exchanged[GROUPS];
    reference_of(ref, run);
    exchanged_f(exchanged, r, run, ref);
    for (size_t slot = 0; slot < TRUENO_FEATURE_DIM; slot++) {
        trueno_feature_effect e = {(trueno_feature)slot, 0};
        struct tr_times times;
        tr_raw_values raw;
        trueno_features changed = *f;
        if (group_of_slot(slot) != slot) continue;
        memcpy(raw, run->raw, sizeof raw);
        exchange(raw, &changed, slot, ref);
        if (tr_times_of_raw(&times, raw, &changed, NULL) != TRUENO_OK) continue;
        e.effect = log(p->predicted_tps / tr_tps_of(&times, exchanged[slot] + added));
        if (fabs(e.effect) >= SMALLEST) keep_largest(p, e);
    }
}
