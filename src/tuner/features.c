/* SPDX-License-Identifier: MIT */
/* Features: the table of slots, defaults, checks, and the way to the vector and back. */
#include "tuner/features.h"
#include "tuner/kinds.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#include "base/error.h"

/* ------------------------------------------------------------------ the table */

#define NO_FIELD SIZE_MAX

struct slot {
    trueno_feature_info info;
    size_t field; /* offset of the double; NO_FIELD: the quant tells */
};

#define AT(f) offsetof(trueno_features, f)
/* Largest value of an encoder: where x is 1. */
#define TOP(bits) ((double)((uint64_t)1 << (bits)) - 1)
/* log2(1 + v) / bits, from `low` to the end of the range or `high`. */
#define COUNT(f, unit, bits, low, high, whole, inert)                                              \
    {                                                                                              \
        {#f, unit, TRUENO_ENCODER_LOG, 1, bits, low, high, whole, inert}, AT(f)                    \
    }
#define FLAG(f)                                                                                    \
    {                                                                                              \
        {#f, "", TRUENO_ENCODER_FLAG, 1, 0, 0, 1, true, false}, AT(f)                              \
    }
#define QUANT(name)                                                                                \
    {                                                                                              \
        {name, "", TRUENO_ENCODER_FLAG, 1, 0, 0, 1, true, false}, NO_FIELD                         \
    }
#define LINEAR(f, unit, scale, low, high, whole, inert)                                            \
    {                                                                                              \
        {#f, unit, TRUENO_ENCODER_LINEAR, scale, 0, low, high, whole, inert}, AT(f)                \
    }
/* Above 0, but how near is not said: the smallest number that a float vector tells from 0. */
#define ABOVE_0 1e-6

static const struct slot slots[TRUENO_FEATURE_DIM] = {
    {{"model_params_b", "10^9 weights", TRUENO_ENCODER_LOG, 0x1p-10, 24, 1e-4, 16383, false, false},
     AT(model_params_b)},
    COUNT(hidden_dim, "elements", 18, 1, TOP(18), true, false),
    COUNT(num_layers, "", 12, 1, TOP(12), true, false),
    COUNT(num_heads, "", 12, 0, TOP(12), true, false),
    COUNT(intermediate_dim, "elements", 20, 0, TOP(20), true, false),
    COUNT(vocab_size, "tokens", 24, 1, TOP(24), true, false),
    COUNT(kv_heads, "", 12, 0, TOP(12), true, false),
    COUNT(head_dim, "elements", 12, 1, TOP(12), true, false),
    COUNT(rope_theta, "", 40, 0, TOP(40), false, true),
    FLAG(tie_embeddings),
    COUNT(batch_size, "sequences", 16, 1, TOP(16), true, false),
    COUNT(seq_len, "tokens", 24, 1, TOP(24), true, false),
    COUNT(context_len, "tokens", 24, 1, TOP(24), true, false),
    COUNT(kv_cache_tokens, "tokens", 36, 0, TOP(36), true, false),
    COUNT(draft_tokens, "tokens", 8, 0, TOP(8), true, false),
    COUNT(prompt_tokens, "tokens", 24, 0, TOP(24), true, false),
    COUNT(generated_tokens, "tokens", 24, 0, TOP(24), true, false),
    COUNT(temperature, "", 8, 0, TOP(8), false, true),
    LINEAR(top_p, "", 1, 0, 1, false, true),
    COUNT(top_k, "", 24, 0, TOP(24), true, true),
    QUANT("quant_q4_k"),
    QUANT("quant_q5_k"),
    QUANT("quant_q6_k"),
    QUANT("quant_q8_0"),
    QUANT("quant_f16"),
    QUANT("quant_f32"),
    COUNT(quant_group_size, "weights", 10, 1, TOP(10), true, false),
    LINEAR(bits_per_weight, "bits", 64, 0.5, 64, false, false),
    LINEAR(quant_scheme_idx, "", 15, 0, 15, true, false),
    FLAG(has_scales),
    COUNT(gpu_mem_bw_gbs, "10^9 B/s", 16, ABOVE_0, TOP(16), false, false),
    {{"gpu_compute_tflops", "10^12 op/s", TRUENO_ENCODER_LOG, 0x1p-6, 22, ABOVE_0, 0x1p-6 * TOP(22),
      false, false},
     AT(gpu_compute_tflops)},
    COUNT(sm_count, "", 12, 1, TOP(12), true, false),
    LINEAR(tensor_cores, "", 4, 0, 4, true, false),
    FLAG(cuda_graphs),
    LINEAR(pcie_gen, "", 16, 0, 16, true, false),
    COUNT(vram_gb, "GiB", 16, 0, TOP(16), false, false),
    COUNT(cpu_threads, "", 16, 1, TOP(16), true, false),
    COUNT(numa_nodes, "", 8, 1, TOP(8), true, false),
    COUNT(system_ram_gb, "GiB", 20, 0, TOP(20), false, false),
    FLAG(is_unified_memory),
    COUNT(power_limit, "W", 16, 0, TOP(16), false, false),
};

static bool is_slot(trueno_feature id)
{
    return (unsigned)id < TRUENO_FEATURE_DIM;
}

const char *trueno_feature_name(trueno_feature id)
{
    return is_slot(id) ? slots[id].info.name : NULL;
}

trueno_status trueno_feature_info_get(trueno_feature_info *out, trueno_feature id)
{
    if (!out || !is_slot(id)) return TRUENO_ERR_ARGUMENT;
    *out = slots[id].info;
    return TRUENO_OK;
}

static double field(const trueno_features *f, size_t i)
{
    double raw;
    memcpy(&raw, (const char *)f + slots[i].field, sizeof raw);
    return raw;
}

static void set_field(trueno_features *f, size_t i, double raw)
{
    memcpy((char *)f + slots[i].field, &raw, sizeof raw);
}

/* ------------------------------------------------------------------- one value */

static trueno_status invalid(trueno_error *err, size_t i, double raw, const char *why)
{
    const trueno_feature_info *s = &slots[i].info;
    return tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "%s is %.17g, %s (valid: %.17g to %.17g)",
                   s->name, raw, why, s->min, s->max);
}

/* A value that is set. */
static trueno_status check_range(size_t i, double raw, trueno_error *err)
{
    const trueno_feature_info *s = &slots[i].info;
    if (!isfinite(raw)) return invalid(err, i, raw, "not a number");
    if (!(raw >= s->min && raw <= s->max)) return invalid(err, i, raw, "out of range");
    if (s->whole && raw != floor(raw)) return invalid(err, i, raw, "not a whole number");
    return TRUENO_OK;
}

static double encode(size_t i, double raw)
{
    const trueno_feature_info *s = &slots[i].info;
    return s->encoder == TRUENO_ENCODER_LOG ? log1p(raw / s->scale) / (s->bits * M_LN2)
                                            : raw / s->scale;
}

static double decode(size_t i, double x)
{
    const trueno_feature_info *s = &slots[i].info;
    double raw =
        s->encoder == TRUENO_ENCODER_LOG ? s->scale * expm1(x * s->bits * M_LN2) : x * s->scale;
    if (s->whole) raw = round(raw);
    return raw < s->min ? s->min : raw > s->max ? s->max : raw; /* what rounding to float moved */
}

/* -------------------------------------------------------------------- defaults */

/* Real models: what a model of about so many weights looks like. */
static const struct geometry {
    double params_b, hidden, layers, heads, kv_heads, head_dim, ffn, vocab;
} geometries[] = {
    {0.135, 576, 30, 9, 3, 64, 1536, 49152},       {0.5, 896, 24, 14, 2, 64, 4864, 151936},
    {1.1, 2048, 22, 32, 4, 64, 5632, 32000},       {1.5, 1536, 28, 12, 2, 128, 8960, 151936},
    {3.2, 3072, 28, 24, 8, 128, 8192, 128256},     {7, 4096, 32, 32, 32, 128, 11008, 32000},
    {8, 4096, 32, 32, 8, 128, 14336, 128256},      {13, 5120, 40, 40, 40, 128, 13824, 32000},
    {32, 5120, 64, 40, 8, 128, 27648, 152064},     {70, 8192, 80, 64, 8, 128, 28672, 128256},
    {405, 16384, 126, 128, 8, 128, 53248, 128256},
};

/* How many times the larger is the smaller; both above 0. */
static double times_apart(double a, double b)
{
    return a > b ? a / b : b / a;
}

static const struct geometry *nearest_geometry(double params_b)
{
    const struct geometry *best = &geometries[0];
    for (size_t i = 1; i < sizeof geometries / sizeof *geometries; i++) {
        const struct geometry *g = &geometries[i];
        if (times_apart(g->params_b, params_b) < times_apart(best->params_b, params_b)) best = g;
    }
    return best;
}

static void fill(tr_raw_values raw, trueno_feature id, double value)
{
    if (raw[id] == TRUENO_UNSET) raw[id] = value;
}

static void fill_model(tr_raw_values raw, const trueno_features *f)
{
    if (f->weight_bytes_per_pass > 0)
        fill(raw, TRUENO_FEATURE_MODEL_PARAMS_B,
             f->weight_bytes_per_pass * 8 / raw[TRUENO_FEATURE_BITS_PER_WEIGHT] / 1e9);
    fill(raw, TRUENO_FEATURE_ROPE_THETA, 10000);
    fill(raw, TRUENO_FEATURE_TIE_EMBEDDINGS, 0);
    if (!(raw[TRUENO_FEATURE_MODEL_PARAMS_B] > 0)) return; /* the check says so, or it is unknown */
    const struct geometry *g = nearest_geometry(raw[TRUENO_FEATURE_MODEL_PARAMS_B]);
    fill(raw, TRUENO_FEATURE_HIDDEN_DIM, g->hidden);
    fill(raw, TRUENO_FEATURE_NUM_LAYERS, g->layers);
    fill(raw, TRUENO_FEATURE_NUM_HEADS, g->heads);
    fill(raw, TRUENO_FEATURE_INTERMEDIATE_DIM, g->ffn);
    fill(raw, TRUENO_FEATURE_VOCAB_SIZE, g->vocab);
    double heads = raw[TRUENO_FEATURE_NUM_HEADS];
    fill(raw, TRUENO_FEATURE_KV_HEADS,
         fmod(heads, g->kv_heads) == 0 ? fmin(heads, g->kv_heads) : heads);
    fill(raw, TRUENO_FEATURE_HEAD_DIM, g->head_dim);
}

static void fill_run(tr_raw_values raw, const trueno_features *f)
{
    fill(raw, TRUENO_FEATURE_BATCH_SIZE, 1);
    fill(raw, TRUENO_FEATURE_DRAFT_TOKENS, 0);
    fill(raw, TRUENO_FEATURE_PROMPT_TOKENS, 0);
    fill(raw, TRUENO_FEATURE_GENERATED_TOKENS, 0);
    fill(raw, TRUENO_FEATURE_TEMPERATURE, 0);
    fill(raw, TRUENO_FEATURE_TOP_P, 1);
    fill(raw, TRUENO_FEATURE_TOP_K, 0);
    double batch = raw[TRUENO_FEATURE_BATCH_SIZE], kv = raw[TRUENO_FEATURE_KV_CACHE_TOKENS];
    double tokens = raw[TRUENO_FEATURE_PROMPT_TOKENS] + raw[TRUENO_FEATURE_GENERATED_TOKENS];
    double resident = kv == TRUENO_UNSET ? 0 : ceil(kv / fmax(1, batch));
    fill(raw, TRUENO_FEATURE_SEQ_LEN, fmax(1, fmax(tokens, resident)));
    fill(raw, TRUENO_FEATURE_CONTEXT_LEN, raw[TRUENO_FEATURE_SEQ_LEN]);
    bool prefill = trueno_features_phase(f) == TRUENO_PHASE_PREFILL;
    fill(raw, TRUENO_FEATURE_KV_CACHE_TOKENS, prefill ? 0 : batch * raw[TRUENO_FEATURE_SEQ_LEN]);
}

static void fill_quant(tr_raw_values raw, const struct tr_quant_traits *q)
{
    for (trueno_feature id = TRUENO_FEATURE_QUANT_Q4_K; id <= TRUENO_FEATURE_QUANT_F32; id++)
        raw[id] = id == q->slot;
    fill(raw, TRUENO_FEATURE_QUANT_GROUP_SIZE, q->group);
    fill(raw, TRUENO_FEATURE_BITS_PER_WEIGHT, q->bits);
    fill(raw, TRUENO_FEATURE_QUANT_SCHEME_IDX, q->scheme);
    fill(raw, TRUENO_FEATURE_HAS_SCALES, q->scheme != 0);
}

/* A fixed reference device; on a CPU nothing stands in for a measurement. */
static void fill_hardware(tr_raw_values raw)
{
    fill(raw, TRUENO_FEATURE_VRAM_GB, 24);
    bool cpu = raw[TRUENO_FEATURE_VRAM_GB] == 0;
    if (!cpu) {
        fill(raw, TRUENO_FEATURE_GPU_MEM_BW_GBS, 1000);
        fill(raw, TRUENO_FEATURE_GPU_COMPUTE_TFLOPS, 100);
        fill(raw, TRUENO_FEATURE_SM_COUNT, 128);
    }
    fill(raw, TRUENO_FEATURE_TENSOR_CORES, cpu ? 0 : 3);
    fill(raw, TRUENO_FEATURE_CUDA_GRAPHS, 0);
    fill(raw, TRUENO_FEATURE_PCIE_GEN, cpu ? 0 : 4);
    fill(raw, TRUENO_FEATURE_CPU_THREADS, 1);
    fill(raw, TRUENO_FEATURE_NUMA_NODES, 1);
    fill(raw, TRUENO_FEATURE_SYSTEM_RAM_GB, 0);
    fill(raw, TRUENO_FEATURE_IS_UNIFIED_MEMORY, cpu);
    fill(raw, TRUENO_FEATURE_POWER_LIMIT, 0);
}

/* ---------------------------------------------------------------------- checks */

/* Slots 1 to 7 may stay without a value, if nothing tells the size of the model. */
static bool may_be_unknown(size_t i)
{
    return i <= TRUENO_FEATURE_HEAD_DIM;
}

static trueno_status check_quant(const tr_raw_values raw, const struct tr_quant_traits *q,
                                 trueno_error *err)
{
    const struct {
        trueno_feature id;
        double want;
    } same[] = {{TRUENO_FEATURE_QUANT_GROUP_SIZE, q->group},
                {TRUENO_FEATURE_QUANT_SCHEME_IDX, q->scheme},
                {TRUENO_FEATURE_HAS_SCALES, q->scheme != 0}};
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        if (raw[same[i].id] != same[i].want)
            return tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "%s is %g, but %g for %s",
                           slots[same[i].id].info.name, raw[same[i].id], same[i].want,
                           trueno_dtype_get_info(q->dtype)->name);
    double bits = raw[TRUENO_FEATURE_BITS_PER_WEIGHT];
    if (bits >= 0.8 * q->bits && bits <= 1.6 * q->bits) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_INVALID_FEATURE,
                   "bits_per_weight is %g, must be %g to %g where most bytes are %s", bits,
                   0.8 * q->bits, 1.6 * q->bits, trueno_dtype_get_info(q->dtype)->name);
}

static trueno_status check_together(const tr_raw_values raw, trueno_error *err)
{
    double heads = raw[TRUENO_FEATURE_NUM_HEADS], kv_heads = raw[TRUENO_FEATURE_KV_HEADS];
    double seq = raw[TRUENO_FEATURE_SEQ_LEN], context = raw[TRUENO_FEATURE_CONTEXT_LEN];
    double batch = raw[TRUENO_FEATURE_BATCH_SIZE], kv = raw[TRUENO_FEATURE_KV_CACHE_TOKENS];
    bool known = heads != TRUENO_UNSET && kv_heads != TRUENO_UNSET;
    const char *why = NULL;

    if (known && heads == 0 && kv_heads != 0)
        why = "kv_heads must be 0 where num_heads is";
    else if (known && heads > 0 && (kv_heads == 0 || fmod(heads, kv_heads) != 0))
        why = "kv_heads must divide num_heads";
    else if (seq > context)
        why = "seq_len is larger than context_len";
    else if (kv > batch * context)
        why = "kv_cache_tokens is larger than batch_size x context_len";
    else if (raw[TRUENO_FEATURE_VRAM_GB] == 0 && raw[TRUENO_FEATURE_CUDA_GRAPHS] == 1)
        why = "cuda_graphs is 1 on a CPU (vram_gb is 0)";
    return why ? tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "%s", why) : TRUENO_OK;
}

static trueno_status check_sides(const trueno_features *f, trueno_error *err)
{
    const struct {
        const char *name;
        double raw;
    } sides[] = {{"weight_bytes_per_pass", f->weight_bytes_per_pass},
                 {"flops_per_token", f->flops_per_token},
                 {"kv_bytes_per_token", f->kv_bytes_per_token},
                 {"cache_bytes", f->cache_bytes}};
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        if (sides[i].raw != TRUENO_UNSET && !(isfinite(sides[i].raw) && sides[i].raw >= 0))
            return tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "%s is %g, must be 0 or more",
                           sides[i].name, sides[i].raw);
    if ((unsigned)f->phase > TRUENO_PHASE_PREFILL)
        return tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "phase is %d, must be 0 to 2",
                       (int)f->phase);
    return TRUENO_OK;
}

trueno_status tr_features_resolve(tr_raw_values raw, const trueno_features *f, trueno_error *err)
{
    if (!f) return tr_fail(err, TRUENO_ERR_ARGUMENT, "features: NULL");
    if (!TR_STRUCT_OK(f))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "features: struct_size is %zu; use TRUENO_FEATURES_INIT", f->struct_size);
    const struct tr_quant_traits *q = tr_quant_traits_of(f->quant);
    if (!q)
        return tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "quant is %d, must be 0 to %d",
                       (int)f->quant, TRUENO_QUANT_COUNT - 1);
    trueno_status status = check_sides(f, err);
    for (size_t i = 0; i < TRUENO_FEATURE_DIM && status == TRUENO_OK; i++) {
        raw[i] = slots[i].field == NO_FIELD ? TRUENO_UNSET : field(f, i);
        if (raw[i] != TRUENO_UNSET) status = check_range(i, raw[i], err);
    }
    if (status != TRUENO_OK) return status;

    fill_quant(raw, q);
    fill_model(raw, f);
    fill_run(raw, f);
    fill_hardware(raw);
    for (size_t i = 0; i < TRUENO_FEATURE_DIM && status == TRUENO_OK; i++) {
        if (raw[i] == TRUENO_UNSET && !may_be_unknown(i))
            return tr_fail(err, TRUENO_ERR_INVALID_FEATURE,
                           "%s is not given, and a CPU (vram_gb is 0) has no default for it",
                           slots[i].info.name);
        if (raw[i] != TRUENO_UNSET) status = check_range(i, raw[i], err); /* derived ones too */
    }
    if (status == TRUENO_OK) status = check_quant(raw, q, err);
    return status == TRUENO_OK ? check_together(raw, err) : status;
}

trueno_status trueno_features_validate(const trueno_features *f, trueno_error *err)
{
    tr_raw_values raw;
    return tr_features_resolve(raw, f, err);
}

/* ------------------------------------------------------------------- the calls */

void trueno_features_init(trueno_features *f)
{
    const trueno_features unset = TRUENO_FEATURES_INIT;
    if (f) *f = unset;
}

void tr_features_vector_of_raw(float x[TRUENO_FEATURE_DIM], const tr_raw_values raw)
{
    for (size_t i = 0; i < TRUENO_FEATURE_DIM; i++)
        x[i] = raw[i] == TRUENO_UNSET ? 0 : (float)encode(i, raw[i]);
}

trueno_status trueno_features_to_vector(float x[TRUENO_FEATURE_DIM], const trueno_features *f,
                                        trueno_error *err)
{
    tr_raw_values raw;
    if (!x) return tr_fail(err, TRUENO_ERR_ARGUMENT, "features: x is NULL");
    memset(x, 0, TRUENO_FEATURE_DIM * sizeof *x);
    trueno_status status = tr_features_resolve(raw, f, err);
    if (status == TRUENO_OK) tr_features_vector_of_raw(x, raw);
    return status;
}

/* The type whose slot is set; without one, that of the scheme and group with the nearest bits. */
static trueno_quant quant_of(const tr_raw_values raw)
{
    trueno_quant best = TRUENO_QUANT_UNSET;
    double best_gap = INFINITY, flags = 0;
    for (size_t i = TRUENO_FEATURE_QUANT_Q4_K; i <= TRUENO_FEATURE_QUANT_F32; i++) flags += raw[i];
    for (int i = 0; i < TRUENO_QUANT_COUNT; i++) {
        const struct tr_quant_traits *q = tr_quant_traits_of((trueno_quant)i);
        double gap = fabs(log(raw[TRUENO_FEATURE_BITS_PER_WEIGHT] / q->bits));
        if (flags > 0 ? q->slot == 0 || raw[q->slot] != 1 : q->slot != 0) continue;
        if (raw[TRUENO_FEATURE_QUANT_SCHEME_IDX] != q->scheme) continue;
        if (raw[TRUENO_FEATURE_QUANT_GROUP_SIZE] != q->group || gap >= best_gap) continue;
        best = (trueno_quant)i;
        best_gap = gap;
    }
    return flags <= 1 ? best : TRUENO_QUANT_UNSET;
}

trueno_status trueno_features_from_vector(trueno_features *f, const float x[TRUENO_FEATURE_DIM],
                                          trueno_error *err)
{
    tr_raw_values raw;
    if (!f || !x) return tr_fail(err, TRUENO_ERR_ARGUMENT, "features: %s is NULL", f ? "x" : "f");
    trueno_features_init(f);
    for (size_t i = 0; i < TRUENO_FEATURE_DIM; i++) {
        if (!(x[i] >= 0 && x[i] <= 1))
            return tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "%s is %g in the vector, not in [0, 1]",
                           slots[i].info.name, (double)x[i]);
        raw[i] = decode(i, (double)x[i]);
    }
    trueno_quant quant = quant_of(raw);
    if (quant == TRUENO_QUANT_UNSET)
        return tr_fail(err, TRUENO_ERR_INVALID_FEATURE,
                       "slots 20 to 29 of the vector fit no type: scheme %g, group %g, %g bits",
                       raw[TRUENO_FEATURE_QUANT_SCHEME_IDX], raw[TRUENO_FEATURE_QUANT_GROUP_SIZE],
                       raw[TRUENO_FEATURE_BITS_PER_WEIGHT]);
    trueno_features got = TRUENO_FEATURES_INIT;
    got.quant = quant;
    bool unknown = x[TRUENO_FEATURE_MODEL_PARAMS_B] == 0;
    for (size_t i = 0; i < TRUENO_FEATURE_DIM; i++) {
        if (slots[i].field == NO_FIELD) continue;
        if (may_be_unknown(i) && x[i] == 0 && (unknown || slots[i].info.min > 0)) continue;
        set_field(&got, i, raw[i]);
    }
    trueno_status status = trueno_features_validate(&got, err);
    if (status == TRUENO_OK) *f = got;
    return status;
}

trueno_status trueno_features_set_quant(trueno_features *f, trueno_quant quant)
{
    const struct tr_quant_traits *q = tr_quant_traits_of(quant);
    if (!f || !q || quant == TRUENO_QUANT_UNSET) return TRUENO_ERR_ARGUMENT;
    f->quant = quant;
    f->quant_group_size = q->group;
    f->bits_per_weight = q->bits;
    f->quant_scheme_idx = q->scheme;
    f->has_scales = q->scheme != 0;
    return TRUENO_OK;
}

/* The type that owns a slot of 20 to 25. */
static trueno_quant owner(trueno_feature id)
{
    trueno_quant quant = TRUENO_QUANT_UNSET;
    for (int i = 0; i < TRUENO_QUANT_COUNT; i++)
        if (tr_quant_traits_of((trueno_quant)i)->slot == id) quant = (trueno_quant)i;
    return quant;
}

trueno_status trueno_features_set(trueno_features *f, trueno_feature id, double raw,
                                  trueno_error *err)
{
    if (!f || !is_slot(id))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "features: %s", f ? "no such slot" : "f is NULL");
    if (raw != TRUENO_UNSET) {
        trueno_status status = check_range(id, raw, err);
        if (status != TRUENO_OK) return status;
    }
    if (slots[id].field != NO_FIELD) {
        set_field(f, id, raw);
        return TRUENO_OK;
    }
    trueno_quant quant = owner(id);
    if (raw == 1) return trueno_features_set_quant(f, quant);
    if (raw == 0 && f->quant == quant)
        return tr_fail(err, TRUENO_ERR_INVALID_FEATURE, "%s is the quant; set another one to 1",
                       slots[id].info.name);
    return TRUENO_OK;
}

trueno_status trueno_features_get(double *raw, const trueno_features *f, trueno_feature id)
{
    if (!raw) return TRUENO_ERR_ARGUMENT;
    *raw = TRUENO_UNSET;
    if (!f || !is_slot(id)) return TRUENO_ERR_ARGUMENT;
    if (slots[id].field != NO_FIELD)
        *raw = field(f, id);
    else if (f->quant != TRUENO_QUANT_UNSET)
        *raw = f->quant == owner(id);
    return TRUENO_OK;
}

uint32_t trueno_features_batch_size(const trueno_features *f)
{
    if (!f || check_range(TRUENO_FEATURE_BATCH_SIZE, f->batch_size, NULL) != TRUENO_OK) return 1;
    return (uint32_t)f->batch_size;
}

trueno_phase trueno_features_phase(const trueno_features *f)
{
    if (!f) return TRUENO_PHASE_DECODE;
    if (f->phase == TRUENO_PHASE_DECODE || f->phase == TRUENO_PHASE_PREFILL) return f->phase;
    return f->prompt_tokens > 0 && !(f->generated_tokens > 0) ? TRUENO_PHASE_PREFILL
                                                              : TRUENO_PHASE_DECODE;
}
