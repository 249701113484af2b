/* SPDX-License-Identifier: MIT */
/* Reads the hyper-parameters of a file and refuses what contradicts itself. */
#include "model/hparams.h"

#include "base/error.h"
#include "base/mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const struct tr_arch archs[] = {
    /* name      id              neox   qknorm bias   fused  post   geglu  embd   part  swa */
    {"llama", TR_ARCH_LLAMA, false, false, false, false, false, false, false, false, 0},
    {"qwen2", TR_ARCH_QWEN2, true, false, true, false, false, false, false, false, 0},
    {"qwen3", TR_ARCH_QWEN3, true, true, false, false, false, false, false, false, 0},
    {"gemma3", TR_ARCH_GEMMA3, true, true, false, false, true, true, true, false, 6},
    {"phi3", TR_ARCH_PHI3, true, false, false, true, false, false, false, true, 1},
};

/* Caps on dimensions: far above any model, far below overflow of their products. */
enum {
    MAX_LAYER = 1024,
    MAX_HEAD = 4096,
    MAX_EMBD = 1 << 20,
    MAX_FF = 1 << 22,
    MAX_HEAD_DIM = 4096
};
enum { MAX_VOCAB = 1 << 21, MAX_CTX = 1 << 24 };

/* A reader of keys of one architecture. `ok` turns false at the first error, after which every call
 * does nothing: the sequence of reads below needs one check at the end of each group. */
struct reader {
    const trueno_gguf *g;
    trueno_error *err;
    const char *arch;
    trueno_status status;
    char key[128];
};

static const char *key_of(struct reader *r, const char *suffix)
{
    (void)snprintf(r->key, sizeof r->key, "%s.%s", r->arch, suffix);
    return r->key;
}

/* Takes a getter's result; `required` turns "not found" into an error. True if a value was read. */
static bool took(struct reader *r, trueno_status s, bool required)
{
    if (s == TRUENO_OK) return true;
    if (s == TRUENO_ERR_NOT_FOUND && !required) return false;
    r->status = s;
    if (s == TRUENO_ERR_NOT_FOUND) tr_fail(r->err, s, "key %s is missing", r->key);
    return false;
}

static uint32_t read_u32(struct reader *r, const char *suffix, uint32_t fallback, bool required,
                         uint32_t min, uint32_t max)
{
    uint64_t v = fallback;
    if (r->status != TRUENO_OK) return fallback;
    if (!took(r, trueno_gguf_get_u64(r->g, key_of(r, suffix), &v, r->err), required))
        return fallback;
    if (v >= min && v <= max) return (uint32_t)v;
    r->status =
        tr_fail(r->err, v > max ? TRUENO_ERR_TOO_LARGE : TRUENO_ERR_CORRUPT,
                "key %s is %llu, allowed are %u to %u", r->key, (unsigned long long)v, min, max);
    return fallback;
}

/* A float in [min, max]; NaN and infinity fail the comparison. */
static double read_f64(struct reader *r, const char *suffix, double fallback, bool required,
                       double min, double max)
{
    double v = fallback;
    if (r->status != TRUENO_OK) return fallback;
    if (!took(r, trueno_gguf_get_f64(r->g, key_of(r, suffix), &v, r->err), required))
        return fallback;
    if (v >= min && v <= max) return v;
    r->status = tr_fail(r->err, TRUENO_ERR_CORRUPT, "key %s is %g, allowed are %g to %g", r->key, v,
                        min, max);
    return fallback;
}

/* One number for all layers, or an array with one per layer, into field `at` of the layer structs.
 */
static void read_per_layer(struct reader *r, const char *suffix, struct tr_hparams *hp, size_t at,
                           bool required, uint32_t max)
{
    if (r->status != TRUENO_OK) return;
    trueno_gguf_kv kv;
    ptrdiff_t idx = trueno_gguf_find(r->g, key_of(r, suffix));
    if (idx < 0) {
        (void)took(r, TRUENO_ERR_NOT_FOUND, required);
        return;
    }
    (void)trueno_gguf_kv_at(r->g, (size_t)idx, &kv);
    bool array = kv.type == TRUENO_GGUF_ARRAY;
    if (array && kv.count != hp->n_layer) {
        r->status =
            tr_fail(r->err, TRUENO_ERR_CORRUPT, "key %s has %llu elements, the model has %u layers",
                    r->key, (unsigned long long)kv.count, hp->n_layer);
        return;
    }
    for (uint32_t l = 0; l < hp->n_layer; l++) {
        uint64_t v = 0;
        trueno_status s = trueno_gguf_elem_u64(r->g, (size_t)idx, array ? l : 0, &v);
        if (s != TRUENO_OK) {
            r->status = tr_fail(r->err, s, "key %s: element %u is no unsigned integer", r->key, l);
            return;
        }
        if (v == 0 || v > max) {
            r->status = tr_fail(r->err, v > max ? TRUENO_ERR_TOO_LARGE : TRUENO_ERR_CORRUPT,
                                "key %s is %llu for layer %u, allowed are 1 to %u", r->key,
                                (unsigned long long)v, l, max);
            return;
        }
        uint32_t v32 = (uint32_t)v;
        memcpy((char *)&hp->layers[l] + at, &v32, sizeof v32);
    }
}

static trueno_status find_arch(const struct tr_arch **out, const trueno_gguf *g, trueno_error *err)
{
    trueno_str name = {NULL, 0};
    trueno_status s = trueno_gguf_get_str(g, "general.architecture", &name, err);
    if (s == TRUENO_ERR_NOT_FOUND) return tr_fail(err, s, "key general.architecture is missing");
    if (s != TRUENO_OK) return s;
    for (size_t i = 0; i < sizeof archs / sizeof archs[0]; i++) {
        if (strlen(archs[i].name) != name.len || memcmp(archs[i].name, name.data, name.len) != 0)
            continue;
        *out = &archs[i];
        return TRUENO_OK;
    }
    return tr_fail(err, TRUENO_ERR_UNSUPPORTED,
                   "architecture \"%.*s\" is not supported; supported are llama, qwen2, qwen3, "
                   "gemma3, phi3",
                   TR_STR_ARGS(name));
}

/* The number of tokens: of the vocabulary if the file has one, else A.vocab_size. */
static void read_vocab_size(struct reader *r, struct tr_hparams *hp)
{
    if (r->status != TRUENO_OK) return;
    ptrdiff_t idx = trueno_gguf_find(r->g, "tokenizer.ggml.tokens");
    trueno_gguf_kv kv;
    if (idx < 0) {
        hp->n_vocab = read_u32(r, "vocab_size", 0, true, 1, MAX_VOCAB);
        return;
    }
    (void)trueno_gguf_kv_at(r->g, (size_t)idx, &kv);
    if (kv.type == TRUENO_GGUF_ARRAY && kv.elem_type == TRUENO_GGUF_STRING && kv.count >= 1 &&
        kv.count <= MAX_VOCAB)
        hp->n_vocab = (uint32_t)kv.count;
    else
        r->status = tr_fail(r->err, TRUENO_ERR_CORRUPT,
                            "key tokenizer.ggml.tokens is no array of 1 to %d strings", MAX_VOCAB);
}

static void read_rope(struct reader *r, struct tr_hparams *hp)
{
    const double huge = 1e12;
    trueno_str type = {"linear", 6};
    static const char *const names[] = {"none", "linear", "yarn", "longrope"};

    hp->rope_base = read_f64(r, "rope.freq_base", 10000.0, false, 1e-6, huge);
    hp->rope_base_local =
        read_f64(r, "rope.freq_base_swa", hp->arch->id == TR_ARCH_GEMMA3 ? 10000.0 : hp->rope_base,
                 false, 1e-6, huge);
    hp->rope_factor = read_f64(r, "rope.scale_linear", 1.0, false, 1e-6, 1e6);
    hp->rope_factor = read_f64(r, "rope.scaling.factor", hp->rope_factor, false, 1e-6, 1e6);
    hp->rope_attn_factor = read_f64(r, "rope.scaling.attn_factor", 1.0, false, 1e-6, 1e6);
    hp->rope_orig_ctx =
        read_u32(r, "rope.scaling.original_context_length", hp->n_ctx_train, false, 1, MAX_CTX);
    hp->yarn_ext = read_f64(r, "rope.scaling.yarn_ext_factor", 1.0, false, 0, 1e6);
    hp->yarn_attn = read_f64(r, "rope.scaling.yarn_attn_factor", 1.0, false, 1e-6, 1e6);
    hp->yarn_beta_fast = read_f64(r, "rope.scaling.yarn_beta_fast", 32.0, false, 1e-6, 1e6);
    hp->yarn_beta_slow = read_f64(r, "rope.scaling.yarn_beta_slow", 1.0, false, 1e-6, 1e6);
    if (r->status != TRUENO_OK) return;
    if (!took(r, trueno_gguf_get_str(r->g, key_of(r, "rope.scaling.type"), &type, r->err), false) &&
        r->status != TRUENO_OK)
        return;
    for (uint32_t i = 0; i < 4; i++)
        if (type.len == strlen(names[i]) && memcmp(type.data, names[i], type.len) == 0) {
            hp->rope_scaling = (enum tr_rope_scaling)i;
            return;
        }
    r->status = tr_fail(r->err, TRUENO_ERR_UNSUPPORTED,
                        "key %s.rope.scaling.type is \"%.*s\", known are none, linear, yarn, "
                        "longrope",
                        r->arch, TR_STR_ARGS(type));
}

/* Phi-3 files of early converters lack the window that the models were trained with. */
static uint32_t default_window(const struct tr_hparams *hp)
{
    if (hp->arch->id != TR_ARCH_PHI3 || (hp->n_layer != 32 && hp->n_layer != 40)) return 0;
    if (hp->n_ctx_train == 4096) return 2047;
    if (hp->n_ctx_train == 131072) return hp->n_layer == 32 ? 262144 : 131072;
    return 0;
}

static void read_window(struct reader *r, struct tr_hparams *hp)
{
    bool required = hp->arch->id == TR_ARCH_GEMMA3;
    uint32_t pattern = 0;
    hp->window =
        read_u32(r, "attention.sliding_window", default_window(hp), required, 0, INT32_MAX);
    pattern =
        read_u32(r, "attention.sliding_window_pattern", hp->arch->swa_pattern, false, 1, MAX_LAYER);
    if (hp->arch->swa_pattern == 0) hp->window = 0;
    for (uint32_t l = 0; l < hp->n_layer && r->status == TRUENO_OK; l++)
        hp->layers[l].local = hp->window > 0 && (pattern == 1 || (l + 1) % pattern != 0);
}

static void read_attention(struct reader *r, struct tr_hparams *hp)
{
    uint32_t head0 = hp->layers[0].n_head;
    uint32_t fallback = hp->n_embd / head0; /* a zero or odd value is refused below */
    hp->head_dim = read_u32(r, "attention.key_length", fallback, false, 1, MAX_HEAD_DIM);
    uint32_t value_len = read_u32(r, "attention.value_length", fallback, false, 1, MAX_HEAD_DIM);
    bool explicit_len = trueno_gguf_find(r->g, key_of(r, "attention.key_length")) >= 0;
    hp->n_rot = read_u32(r, "rope.dimension_count", hp->head_dim, false, 2, MAX_HEAD_DIM);
    if (r->status != TRUENO_OK) return;
    if (!explicit_len && hp->n_embd % head0 != 0)
        r->status = tr_fail(r->err, TRUENO_ERR_CORRUPT,
                            "key %s.embedding_length is %u, no multiple of the %u heads", r->arch,
                            hp->n_embd, head0);
    else if (value_len != hp->head_dim)
        r->status = tr_fail(r->err, TRUENO_ERR_UNSUPPORTED,
                            "key %s.attention.value_length is %u, key_length is %u: different "
                            "lengths are not supported",
                            r->arch, value_len, hp->head_dim);
    else if (hp->head_dim % 8 != 0)
        r->status = tr_fail(r->err, hp->head_dim % 2 ? TRUENO_ERR_CORRUPT : TRUENO_ERR_UNSUPPORTED,
                            "head size %u (%s.attention.key_length) is no multiple of 8",
                            hp->head_dim, r->arch);
    else if (hp->n_rot % 2 != 0 || hp->n_rot > hp->head_dim)
        r->status = tr_fail(r->err, TRUENO_ERR_CORRUPT,
                            "key %s.rope.dimension_count is %u: it must be even and at most the "
                            "head size %u",
                            r->arch, hp->n_rot, hp->head_dim);
    else if (hp->n_rot != hp->head_dim && !hp->arch->partial_rope)
        r->status = tr_fail(r->err, TRUENO_ERR_UNSUPPORTED,
                            "key %s.rope.dimension_count is %u, head size is %u: partial rotation "
                            "is not supported for this architecture",
                            r->arch, hp->n_rot, hp->head_dim);
}

static void check_heads(struct reader *r, struct tr_hparams *hp)
{
    for (uint32_t l = 0; l < hp->n_layer && r->status == TRUENO_OK; l++) {
        const struct tr_layer_hparams *y = &hp->layers[l];
        if (y->n_head % y->n_head_kv != 0)
            r->status = tr_fail(r->err, TRUENO_ERR_CORRUPT,
                                "key %s.attention.head_count_kv is %u in layer %u, no divisor of "
                                "head_count %u",
                                r->arch, y->n_head_kv, l, y->n_head);
        if (y->n_head > hp->max_head) hp->max_head = y->n_head;
        if (y->n_head_kv > hp->max_head_kv) hp->max_head_kv = y->n_head_kv;
        if (y->n_ff > hp->max_ff) hp->max_ff = y->n_ff;
    }
}

/* Keys of network parts that none of these architectures has: running without them would give
 * silently wrong text. */
static void refuse_unknown_parts(struct reader *r)
{
    static const char *const parts[] = {"expert_count", "expert_used_count",
                                        "expert_feed_forward_length", "ssm.conv_kernel",
                                        "attention.kv_lora_rank"};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0] && r->status == TRUENO_OK; i++) {
        uint64_t v = 0;
        if (trueno_gguf_get_u64(r->g, key_of(r, parts[i]), &v, NULL) == TRUENO_OK && v > 0)
            r->status = tr_fail(r->err, TRUENO_ERR_UNSUPPORTED,
                                "key %s is %llu: not supported for this architecture", r->key,
                                (unsigned long long)v);
    }
}

static void read_all(struct reader *r, struct tr_hparams *hp, trueno_ctx *ctx)
{
    hp->n_layer = read_u32(r, "block_count", 0, true, 1, MAX_LAYER);
    hp->n_embd = read_u32(r, "embedding_length", 0, true, 1, MAX_EMBD);
    hp->n_ctx_train = read_u32(r, "context_length", 0, true, 1, MAX_CTX);
    read_vocab_size(r, hp);
    if (r->status != TRUENO_OK) return;
    hp->layers = tr_calloc(ctx, hp->n_layer, sizeof *hp->layers);
    if (hp->layers == NULL) {
        r->status = tr_fail(r->err, TRUENO_ERR_NO_MEMORY, "no memory for %u layers", hp->n_layer);
        return;
    }
    read_per_layer(r, "attention.head_count", hp, offsetof(struct tr_layer_hparams, n_head), true,
                   MAX_HEAD);
    for (uint32_t l = 0; l < hp->n_layer; l++) hp->layers[l].n_head_kv = hp->layers[l].n_head;
    read_per_layer(r, "attention.head_count_kv", hp, offsetof(struct tr_layer_hparams, n_head_kv),
                   false, MAX_HEAD);
    read_per_layer(r, "feed_forward_length", hp, offsetof(struct tr_layer_hparams, n_ff), true,
                   MAX_FF);
    if (r->status != TRUENO_OK) return;
    check_heads(r, hp);
    read_attention(r, hp);
    hp->eps = (float)read_f64(r, "attention.layer_norm_rms_epsilon", 0, true, 1e-30, 1.0);
    read_rope(r, hp);
    read_window(r, hp);
    hp->attn_cap = (float)read_f64(r, "attn_logit_softcapping", 0, false, 0, 1e6);
    hp->final_cap = (float)read_f64(r, "final_logit_softcapping", 0, false, 0, 1e6);
    hp->attn_scale = (float)read_f64(r, "attention.scale", 0, false, 0, 1e6);
    refuse_unknown_parts(r);
    if (r->status != TRUENO_OK) return;
    double scale_dim = hp->head_dim;
    /* Gemma 3 27B divides by the width of a head that its 62 layers do not have */
    if (hp->arch->id == TR_ARCH_GEMMA3 && hp->n_layer == 62)
        scale_dim = (double)hp->n_embd / hp->layers[0].n_head;
    if (!(hp->attn_scale > 0)) hp->attn_scale = (float)(1.0 / sqrt(scale_dim));
    hp->embd_scale = hp->arch->embd_scale ? (float)sqrt((double)hp->n_embd) : 1.0F;
}

trueno_status tr_hparams_read(struct tr_hparams *hp, const trueno_gguf *g, trueno_error *err)
{
    memset(hp, 0, sizeof *hp);
    trueno_status s = find_arch(&hp->arch, g, err);
    if (s != TRUENO_OK) return s;
    struct reader r = {g, err, hp->arch->name, TRUENO_OK, {0}};
    read_all(&r, hp, trueno_gguf_ctx(g));
    if (r.status != TRUENO_OK) tr_hparams_free(hp, trueno_gguf_ctx(g));
    return r.status;
}

void tr_hparams_free(struct tr_hparams *hp, trueno_ctx *ctx)
{
    tr_free(ctx, hp->layers);
    memset(hp, 0, sizeof *hp);
}
