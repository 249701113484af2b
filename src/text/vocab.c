/* SPDX-License-Identifier: MIT */
/* Vocabularies: from the keys of a GGUF file to an immutable tokenizer, and what can be asked of
 * it. Everything the file says is checked here once; encode and decode rely on it. */
#include "text/vocab.h"

#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"

static trueno_status no_memory(trueno_error *err)
{
    return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the vocabulary");
}

trueno_status tr_vocab_array(const trueno_gguf *g, const char *key, trueno_gguf_type type,
                             uint64_t want, ptrdiff_t *kv, uint64_t *count, trueno_error *err)
{
    trueno_gguf_kv info;
    *count = 0;
    *kv = trueno_gguf_find(g, key);
    if (*kv < 0) return TRUENO_OK;
    trueno_status status = trueno_gguf_kv_at(g, (size_t)*kv, &info);
    if (status) return tr_fail(err, status, "%s: cannot be read", key);
    if (info.type != TRUENO_GGUF_ARRAY || info.elem_type != type)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: element type %d, must be an array of type %d",
                       key, (int)(info.type == TRUENO_GGUF_ARRAY ? info.elem_type : info.type),
                       (int)type);
    if (want != UINT64_MAX && info.count != want)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: %llu elements, must be %llu as tokens", key,
                       (unsigned long long)info.count, (unsigned long long)want);
    *count = info.count;
    return TRUENO_OK;
}

/* Number of tokens and offsets of their texts. */
static trueno_status measure_texts(trueno_tokenizer *t, const trueno_gguf *g, ptrdiff_t kv,
                                   uint64_t count, trueno_error *err)
{
    static const char key[] = "tokenizer.ggml.tokens";
    if (kv < 0) return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: missing", key);
    if (count == 0) return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: no tokens", key);
    if (count > TR_VOCAB_TOKENS_MAX)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "%s: %llu tokens, at most %d", key,
                       (unsigned long long)count, TR_VOCAB_TOKENS_MAX);
    t->n_vocab = (uint32_t)count;
    t->offset = tr_alloc(t->ctx, (count + 1) * sizeof *t->offset);
    if (!t->offset) return no_memory(err);
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; i++) {
        trueno_str text;
        trueno_status status = trueno_gguf_elem_str(g, (size_t)kv, i, &text);
        if (status) return tr_fail(err, status, "%s: element %llu", key, (unsigned long long)i);
        if (text.len > TR_VOCAB_TEXT_MAX)
            return tr_fail(err, TRUENO_ERR_TOO_LARGE, "%s: token %llu has %zu bytes, at most %d",
                           key, (unsigned long long)i, text.len, TR_VOCAB_TEXT_MAX);
        t->offset[i] = (uint32_t)total;
        if (text.len > t->longest) t->longest = (uint32_t)text.len;
        total += text.len;
        if (total > UINT32_MAX)
            return tr_fail(err, TRUENO_ERR_TOO_LARGE, "%s: more than 4 GiB of text", key);
    }
    t->offset[count] = (uint32_t)total;
    return TRUENO_OK;
}

static trueno_status load_texts(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    ptrdiff_t kv;
    uint64_t count;
    trueno_status status = tr_vocab_array(g, "tokenizer.ggml.tokens", TRUENO_GGUF_STRING,
                                          UINT64_MAX, &kv, &count, err);
    if (!status) status = measure_texts(t, g, kv, count, err);
    if (status) return status;
    t->text = tr_alloc(t->ctx, t->offset[count]);
    if (!t->text || !tr_lookup_init(&t->by_text, t->ctx, t->text, t->offset, t->n_vocab))
        return no_memory(err);
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        trueno_str text;
        status = trueno_gguf_elem_str(g, (size_t)kv, i, &text);
        size_t len = t->offset[i + 1] - t->offset[i];
        if (status || text.len != len)
            return tr_fail(err, TRUENO_ERR_CORRUPT, "tokenizer.ggml.tokens: element %u changed", i);
        if (len == 0) continue;
        memcpy(t->text + t->offset[i], text.data, len);
        tr_lookup_add(&t->by_text, (trueno_token)i);
    }
    return TRUENO_OK;
}

/* Kind as used here: kinds that GGUF does not define are normal. */
static uint8_t known_kind(int64_t kind)
{
    return kind >= TRUENO_TOKEN_NORMAL && kind <= TRUENO_TOKEN_BYTE ? (uint8_t)kind
                                                                    : TRUENO_TOKEN_NORMAL;
}

/* What follows from a token's kind. User-defined tokens are cut out before merging, so merging
 * gives them only where the cut text is not what the pieces would print. */
static uint8_t kind_flags(const trueno_tokenizer *t, trueno_token_kind kind, trueno_str text)
{
    bool plain = true;
    switch (kind) {
    case TRUENO_TOKEN_CONTROL:
    case TRUENO_TOKEN_UNKNOWN: return TR_TOKEN_CUTS;
    case TRUENO_TOKEN_USER_DEFINED:
        for (size_t i = 0; i < text.len; i++) plain &= text.data[i] > 32 && text.data[i] < 127;
        return plain && t->type == TR_VOCAB_BPE ? TR_TOKEN_CUTS | TR_TOKEN_MERGES : TR_TOKEN_CUTS;
    case TRUENO_TOKEN_BYTE: return tr_byte_token_value(text) < 0 ? TR_TOKEN_MERGES : 0;
    default: return TR_TOKEN_MERGES;
    }
}

/* Kinds and flags. Without token_type every token is normal, except that SPM's "<0xNN>" are bytes.
 */
static trueno_status load_kinds(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    ptrdiff_t kv;
    uint64_t count;
    trueno_status status = tr_vocab_array(g, "tokenizer.ggml.token_type", TRUENO_GGUF_I32,
                                          t->n_vocab, &kv, &count, err);
    if (status) return status;
    t->kind = tr_alloc(t->ctx, t->n_vocab);
    t->flags = tr_alloc(t->ctx, t->n_vocab);
    if (!t->kind || !t->flags) return no_memory(err);
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        trueno_str text = tr_token_str(t, (trueno_token)i);
        int64_t kind = TRUENO_TOKEN_NORMAL;
        if (kv >= 0 && trueno_gguf_elem_i64(g, (size_t)kv, i, &kind) != TRUENO_OK)
            return tr_fail(err, TRUENO_ERR_CORRUPT, "tokenizer.ggml.token_type: element %u", i);
        if (kv < 0 && t->type == TR_VOCAB_SPM && tr_byte_token_value(text) >= 0)
            kind = TRUENO_TOKEN_BYTE;
        t->kind[i] = known_kind(kind);
        t->flags[i] = kind_flags(t, (trueno_token_kind)t->kind[i], text);
    }
    return TRUENO_OK;
}

/* The text that a special token is looked for by. SPM files write the spaces of user-defined tokens
 * either as spaces or as U+2581; `buffer` has room for the longest token. */
static trueno_str special_text(const trueno_tokenizer *t, uint32_t id, char *buffer)
{
    trueno_str text = tr_token_str(t, (trueno_token)id);
    if (t->type != TR_VOCAB_SPM || t->kind[id] != TRUENO_TOKEN_USER_DEFINED) return text;
    struct tr_text_sink sink = {buffer, t->longest, 0};
    struct tr_decode decode = {false, false};
    tr_decode_token(t, &decode, (trueno_token)id, &sink);
    return (trueno_str){buffer, sink.n};
}

static trueno_status load_special(trueno_tokenizer *t, trueno_error *err)
{
    trueno_status status = TRUENO_OK;
    t->special.ctx = t->special.edges.ctx = t->ctx;
    t->special.edges.seed = t->by_text.key[0];
    char *buffer = tr_alloc(t->ctx, t->longest);
    if (!buffer) return no_memory(err);
    for (uint32_t i = 0; i < t->n_vocab && !status; i++) {
        bool always = t->kind[i] == TRUENO_TOKEN_USER_DEFINED;
        if (t->flags[i] & TR_TOKEN_CUTS)
            status = tr_special_add(&t->special, special_text(t, i, buffer), (trueno_token)i,
                                    always, err);
    }
    tr_free(t->ctx, buffer);
    return status ? status : tr_special_finish(&t->special, err);
}

/* Type of vocabulary by tokenizer.ggml.model. */
static trueno_status load_type(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    static const char key[] = "tokenizer.ggml.model";
    trueno_str model;
    trueno_status status = trueno_gguf_get_str(g, key, &model, err);
    if (status == TRUENO_ERR_NOT_FOUND)
        return tr_fail(err, status, "%s: missing, so the file has no vocabulary", key);
    if (status) return status;
    if (model.len == 5 && memcmp(model.data, "llama", 5) == 0) {
        t->type = TR_VOCAB_SPM;
    } else if (model.len == 4 && memcmp(model.data, "gpt2", 4) == 0) {
        t->type = TR_VOCAB_BPE;
    } else if (model.len == 8 && memcmp(model.data, "no_vocab", 8) == 0) {
        return tr_fail(err, TRUENO_ERR_NOT_FOUND, "%s is no_vocab: the file has no vocabulary",
                       key);
    } else {
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "%s is \"%.*s\": only llama and gpt2 are known",
                       key, TR_STR_ARGS(model));
    }
    return TRUENO_OK;
}

static trueno_status load(trueno_tokenizer *t, const trueno_gguf *g,
                          const trueno_tokenizer_options *opt, trueno_error *err)
{
    trueno_status status = load_type(t, g, err);
    if (!status) status = load_texts(t, g, err);
    if (!status) status = load_kinds(t, g, err);
    if (!status) status = tr_vocab_load_keys(t, g, err);
    if (!status && t->type == TR_VOCAB_SPM) status = tr_spm_load(t, g, err);
    if (!status && t->type == TR_VOCAB_BPE) status = tr_bpe_load(t, g, opt->strict_pre, err);
    if (!status) status = load_special(t, err);
    return status;
}

trueno_status trueno_tokenizer_new(trueno_tokenizer **out, const trueno_gguf *g,
                                   const trueno_tokenizer_options *opt, trueno_error *err)
{
    static const trueno_tokenizer_options defaults = TRUENO_TOKENIZER_OPTIONS_INIT;
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "tokenizer: out is NULL");
    *out = NULL;
    if (!g) return tr_fail(err, TRUENO_ERR_ARGUMENT, "tokenizer: the file is NULL");
    if (opt && !TR_STRUCT_OK(opt))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "tokenizer options: struct_size %zu, must be %zu",
                       opt->struct_size, sizeof *opt);
    trueno_ctx *ctx = trueno_gguf_ctx(g);
    trueno_tokenizer *t = tr_calloc(ctx, 1, sizeof *t);
    if (!t) return no_memory(err);
    t->ctx = ctx;
    tr_ctx_ref(ctx);
    trueno_status status = load(t, g, opt ? opt : &defaults, err);
    if (status) {
        trueno_tokenizer_free(t);
        return status;
    }
    *out = t;
    return TRUENO_OK;
}

void trueno_tokenizer_free(trueno_tokenizer *t)
{
    if (!t) return;
    trueno_ctx *ctx = t->ctx;
    t->special.ctx = t->special.edges.ctx = t->merges.ctx = ctx;
    tr_pre_free(&t->split);
    tr_pairmap_free(&t->merges);
    tr_special_free(&t->special);
    tr_lookup_free(&t->by_text, ctx);
    tr_free(ctx, t->rank);
    tr_free(ctx, t->flags);
    tr_free(ctx, t->kind);
    tr_free(ctx, t->offset);
    tr_free(ctx, t->text);
    tr_free(ctx, t);
    tr_ctx_unref(ctx);
}

/* --------------------------------------------------------------------------- questions */

trueno_token tr_vocab_find_piece(const trueno_tokenizer *t, const char *text, size_t len)
{
    if (len > t->longest) return TRUENO_TOKEN_NONE;
    trueno_token id = tr_lookup_find(&t->by_text, text, len);
    return id >= 0 && t->flags[id] & TR_TOKEN_MERGES ? id : TRUENO_TOKEN_NONE;
}

trueno_str trueno_token_text(const trueno_tokenizer *t, trueno_token id)
{
    if (!t || !tr_token_valid(t, id)) return (trueno_str){NULL, 0};
    return tr_token_str(t, id);
}

trueno_token_kind trueno_token_get_kind(const trueno_tokenizer *t, trueno_token id)
{
    if (!t || !tr_token_valid(t, id)) return (trueno_token_kind)0;
    return (trueno_token_kind)t->kind[id];
}

trueno_token trueno_token_find(const trueno_tokenizer *t, const char *text, size_t len)
{
    if (!t || !text || len == 0 || len > t->longest) return TRUENO_TOKEN_NONE;
    return tr_lookup_find(&t->by_text, text, len);
}

bool trueno_token_is_end(const trueno_tokenizer *t, trueno_token id)
{
    return t && tr_token_valid(t, id) && t->flags[id] & TR_TOKEN_ENDS;
}

trueno_status trueno_tokenizer_get_info(const trueno_tokenizer *t, trueno_tokenizer_info *out)
{
    if (!t || !out || !TR_STRUCT_OK(out)) return TRUENO_ERR_ARGUMENT;
    out->model = t->type == TR_VOCAB_SPM ? "spm" : "bpe";
    memcpy(out->pre, t->pre, sizeof out->pre);
    out->n_vocab = t->n_vocab;
    out->bos = t->bos;
    out->eos = t->eos;
    out->eot = t->eot;
    out->unk = t->unk;
    out->pad = t->pad;
    out->add_bos = t->add_bos;
    out->add_eos = t->add_eos;
    out->add_space_prefix = t->add_space_prefix;
    return TRUENO_OK;
}
