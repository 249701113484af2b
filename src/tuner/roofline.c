/* SPDX-License-Identifier: MIT */
/* Bytes, operations and the time below which no pass goes (roofline.h). */
#include "tuner/roofline.h"

#include <string.h>

#include "base/error.h"

/* Products with weights of a pass of `tokens` tokens, of which n_out give logits: all weights count
 * for each token, but an embedding table of its own for none, and the output matrix for n_out. */
static double products_of(const tr_raw_values raw, double tokens, double n_out)
{
    double all = raw[TRUENO_FEATURE_MODEL_PARAMS_B] * 1e9;
    double table = raw[TRUENO_FEATURE_VOCAB_SIZE] * raw[TRUENO_FEATURE_HIDDEN_DIM];
    bool tied = raw[TRUENO_FEATURE_TIE_EMBEDDINGS] == 1;
    double layers = all - (tied ? table : 2 * table);
    if (layers <= 0) return tokens * all; /* sizes that do not fit: nobody knows better */
    return tokens * layers + n_out * table;
}

/* Sums over the new tokens of a sequence: the tokens that each attends to. */
static double attended(const tr_raw_values raw, double new_tokens)
{
    double seq = raw[TRUENO_FEATURE_SEQ_LEN];
    double first = seq > new_tokens ? seq - new_tokens + 1 : 1;
    return new_tokens * (first + seq) / 2;
}

trueno_status tr_roofline_of_raw(struct tr_roofline *out, const tr_raw_values raw,
                                 const trueno_features *f, trueno_error *err)
{
    struct tr_roofline r = {0};

    memset(out, 0, sizeof *out);
    if (raw[TRUENO_FEATURE_MODEL_PARAMS_B] == TRUENO_UNSET)
        return tr_fail(err, TRUENO_ERR_INVALID_FEATURE,
                       "model_params_b is not given, nor weight_bytes_per_pass");

    bool prefill = trueno_features_phase(f) == TRUENO_PHASE_PREFILL;
    double batch = raw[TRUENO_FEATURE_BATCH_SIZE];
    double new_tokens =
        prefill ? raw[TRUENO_FEATURE_PROMPT_TOKENS] : 1 + raw[TRUENO_FEATURE_DRAFT_TOKENS];
    if (new_tokens < 1) new_tokens = 1; /* a prefill by name, without a prompt */
    double layers = raw[TRUENO_FEATURE_NUM_LAYERS], dim = raw[TRUENO_FEATURE_HEAD_DIM];
    double kv_bytes = f->kv_bytes_per_token;
    if (kv_bytes == TRUENO_UNSET) kv_bytes = 2 * 2 * layers * raw[TRUENO_FEATURE_KV_HEADS] * dim;

    r.tokens = batch * new_tokens;
    r.weight_bytes = f->weight_bytes_per_pass;
    if (r.weight_bytes == TRUENO_UNSET)
        r.weight_bytes =
            raw[TRUENO_FEATURE_MODEL_PARAMS_B] * 1e9 * raw[TRUENO_FEATURE_BITS_PER_WEIGHT] / 8;
    r.kv_bytes = (raw[TRUENO_FEATURE_KV_CACHE_TOKENS] + r.tokens) * kv_bytes;
    if (f->flops_per_token != TRUENO_UNSET) {
        r.matmul_flops = r.tokens * f->flops_per_token;
    } else {
        r.matmul_flops = 2 * products_of(raw, r.tokens, prefill ? batch : r.tokens);
        r.attention_flops =
            4 * raw[TRUENO_FEATURE_NUM_HEADS] * dim * layers * batch * attended(raw, new_tokens);
    }
    double all = r.weight_bytes + r.kv_bytes, bytes = all;
    if (f->cache_bytes > 0) bytes = bytes > f->cache_bytes ? bytes - f->cache_bytes : 0;
    r.from_memory = all > 0 ? bytes / all : 0;
    r.t_mem = bytes / (raw[TRUENO_FEATURE_GPU_MEM_BW_GBS] * 1e9);
    r.t_cmp =
        (r.matmul_flops + r.attention_flops) / (raw[TRUENO_FEATURE_GPU_COMPUTE_TFLOPS] * 1e12);
    r.t_floor = r.t_mem > r.t_cmp ? r.t_mem : r.t_cmp;
    r.tps = r.t_floor > 0 ? r.tokens / r.t_floor : 0;
    *out = r;
    return TRUENO_OK;
}

struct tr_usual tr_usual_of_cpu(void)
{
    return (struct tr_usual){0.85, 0.60};
}

struct tr_usual tr_usual_of(const tr_raw_values raw)
{
    bool unified = raw[TRUENO_FEATURE_IS_UNIFIED_MEMORY] == 1;
    if (raw[TRUENO_FEATURE_VRAM_GB] == 0) return tr_usual_of_cpu();
    return (struct tr_usual){unified ? 0.73 : 0.75, 0.45};
}

trueno_status tr_roofline_of(struct tr_roofline *out, const trueno_features *f, trueno_error *err)
{
    tr_raw_values raw;
    memset(out, 0, sizeof *out);
    trueno_status status = tr_features_resolve(raw, f, err);
    return status == TRUENO_OK ? tr_roofline_of_raw(out, raw, f, err) : status;
}
