/* SPDX-License-Identifier: MIT */
/* Permutation importance (Breiman 2001): what the error rises by when the values of a feature are
 * exchanged between rows. Each row is predicted by the regressor that has not seen its model; rows
 * whose features contradict each other after the exchange are left out, on both sides of the
 * difference. */
#include "train_util.h"

#include <math.h>
#include <stdlib.h>

enum { REPEATS = 10, QUANT_SLOT = TRUENO_FEATURE_BITS_PER_WEIGHT };

/* How weights are stored never changes in one field alone: slots 20 to 29 are exchanged together,
 * under bits_per_weight, which is what of it acts on speed most. */
static bool is_storage(int slot)
{
    return slot >= TRUENO_FEATURE_QUANT_Q4_K && slot <= TRUENO_FEATURE_HAS_SCALES;
}

static double *field(trueno_features *f, int slot)
{
    switch (slot) {
#define FIELD(id, name)                                                                            \
    case TRUENO_FEATURE_##id: return &f->name
        FIELD(MODEL_PARAMS_B, model_params_b);
        FIELD(HIDDEN_DIM, hidden_dim);
        FIELD(NUM_LAYERS, num_layers);
        FIELD(NUM_HEADS, num_heads);
        FIELD(INTERMEDIATE_DIM, intermediate_dim);
        FIELD(VOCAB_SIZE, vocab_size);
        FIELD(KV_HEADS, kv_heads);
        FIELD(HEAD_DIM, head_dim);
        FIELD(ROPE_THETA, rope_theta);
        FIELD(TIE_EMBEDDINGS, tie_embeddings);
        FIELD(BATCH_SIZE, batch_size);
        FIELD(SEQ_LEN, seq_len);
        FIELD(CONTEXT_LEN, context_len);
        FIELD(KV_CACHE_TOKENS, kv_cache_tokens);
        FIELD(DRAFT_TOKENS, draft_tokens);
        FIELD(PROMPT_TOKENS, prompt_tokens);
        FIELD(GENERATED_TOKENS, generated_tokens);
        FIELD(TEMPERATURE, temperature);
        FIELD(TOP_P, top_p);
        FIELD(TOP_K, top_k);
        FIELD(BITS_PER_WEIGHT, bits_per_weight);
        FIELD(GPU_MEM_BW_GBS, gpu_mem_bw_gbs);
        FIELD(GPU_COMPUTE_TFLOPS, gpu_compute_tflops);
        FIELD(SM_COUNT, sm_count);
        FIELD(TENSOR_CORES, tensor_cores);
        FIELD(CUDA_GRAPHS, cuda_graphs);
        FIELD(PCIE_GEN, pcie_gen);
        FIELD(VRAM_GB, vram_gb);
        FIELD(CPU_THREADS, cpu_threads);
        FIELD(NUMA_NODES, numa_nodes);
        FIELD(SYSTEM_RAM_GB, system_ram_gb);
        FIELD(IS_UNIFIED_MEMORY, is_unified_memory);
        FIELD(POWER_LIMIT, power_limit);
#undef FIELD
    default: return NULL;
    }
}

/* Bytes follow what they are made of: those of weights size and bits, those of keys and values the
 * shape of attention. */
static void follow(trueno_features *f, int slot, double was, double is)
{
    bool weights = slot == TRUENO_FEATURE_MODEL_PARAMS_B || slot == QUANT_SLOT;
    bool kv = slot == TRUENO_FEATURE_NUM_LAYERS || slot == TRUENO_FEATURE_KV_HEADS ||
              slot == TRUENO_FEATURE_HEAD_DIM;
    if (!(was > 0 && is > 0)) return;
    if (weights && f->weight_bytes_per_pass > 0) f->weight_bytes_per_pass *= is / was;
    if (kv && f->kv_bytes_per_token > 0) f->kv_bytes_per_token *= is / was;
}

/* Row f with the slot's value of another row. */
static trueno_features exchanged(trueno_features f, trueno_features other, int slot)
{
    double *to = field(&f, slot), was = *to;
    *to = *field(&other, slot);
    if (slot == QUANT_SLOT) {
        f.quant = other.quant;
        f.quant_group_size = other.quant_group_size;
        f.quant_scheme_idx = other.quant_scheme_idx;
        f.has_scales = other.has_scales;
    }
    follow(&f, slot, was, *to);
    return f;
}

static bool varies(const struct corpus *c, int slot)
{
    bool found = false;
    if (is_storage(slot) && slot != QUANT_SLOT) return false;
    for (size_t i = 1; i < c->n; i++) {
        found |= *field(&c->f[i], slot) != *field(&c->f[0], slot);
        if (slot == QUANT_SLOT) found |= c->f[i].quant != c->f[0].quant;
    }
    return found;
}

/* |ln(predicted / measured)|; NaN: no prediction. */
static double error_of(const struct trainer *t, const struct folds *folds, size_t row,
                       const trueno_features *f)
{
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    const trueno_regressor *r = folds->r[t->c->by[BY_MODEL].of[row]];
    if (trueno_regressor_predict(r, &p, f, NULL)) return NAN;
    return fabs(log(p.predicted_tps / t->c->tps[row]));
}

/* What one exchange adds to the error, on average over the rows that stay valid; 0 if none does.
 * plain: [rows] errors without it */
static double rise(const struct trainer *t, const struct folds *folds, int slot,
                   const size_t *order, const double *plain)
{
    double sum = 0;
    size_t n = 0;
    for (size_t i = 0; i < t->c->n; i++) {
        trueno_features f = exchanged(t->c->f[i], t->c->f[order[i]], slot);
        double error = error_of(t, folds, i, &f);
        if (isnan(error)) continue;
        sum += error - plain[i];
        n++;
    }
    return n ? sum / (double)n : 0;
}

static void one_slot(const struct trainer *t, trueno_importance *out, const struct folds *folds,
                     size_t *order, const double *plain)
{
    double sum = 0, squares = 0;
    int slot = (int)out->idx;
    uint64_t random = t->seed * 1000 + (uint64_t)slot;
    out->std_error = NAN;
    if (!varies(t->c, slot)) return;
    for (int k = 0; k < REPEATS; k++) {
        train_shuffle(order, t->c->n, &random);
        double by = rise(t, folds, slot, order, plain);
        sum += by;
        squares += by * by;
    }
    double mean = sum / REPEATS, variance = (squares - sum * mean) / (REPEATS - 1);
    out->importance = fmax(0, mean);
    out->std_error = sqrt(fmax(0, variance) / REPEATS);
}

int train_importance(const struct trainer *t, trueno_importance out[TRUENO_FEATURE_DIM],
                     const struct folds *by_model)
{
    size_t n = t->c->n, *order = malloc(n * sizeof *order);
    double *plain = malloc(n * sizeof *plain), sum = 0;
    int rc = order && plain ? CLI_OK : cli_error("no memory for %zu rows", n);
    for (size_t i = 0; i < n && !rc; i++) plain[i] = error_of(t, by_model, i, &t->c->f[i]);
    for (uint32_t slot = 0; slot < TRUENO_FEATURE_DIM; slot++) {
        out[slot] = (trueno_importance){slot, trueno_feature_name((trueno_feature)slot), 0, NAN};
        if (!rc) one_slot(t, &out[slot], by_model, order, plain);
        sum += out[slot].importance;
        cli_progress(NULL, "importance", slot + 1, TRUENO_FEATURE_DIM);
    }
    for (uint32_t slot = 0; slot < TRUENO_FEATURE_DIM && sum > 0; slot++) {
        out[slot].importance /= sum;
        out[slot].std_error /= sum;
    }
    free(order);
    free(plain);
    return rc;
}
