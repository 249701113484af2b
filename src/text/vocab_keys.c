/* SPDX-License-Identifier: MIT */
/* The single-valued keys of a vocabulary: special ids, switches, and the set of tokens that end
 * generation. */
#include "text/vocab.h"

#include <string.h>

#include "base/ctx.h"
#include "base/error.h"

/* Texts of tokens that end a turn or a document whatever the keys say. */
static const char *const end_texts[] = {
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eom_id|>",
    "<EOT>",
    "<|return|>",
    "<|call|>",
    "<\xEF\xBD\x9C"
    "end"
    "\xE2\x96\x81"
    "of"
    "\xE2\x96\x81"
    "sentence\xEF\xBD\x9C>",
};

/* Id under tokenizer.ggml.NAME. `fallback` stands for an absent key, if the vocabulary has it. */
static trueno_status read_id(const trueno_tokenizer *t, const trueno_gguf *g, const char *key,
                             trueno_token fallback, trueno_token *out, trueno_error *err)
{
    int64_t id;
    *out = tr_token_valid(t, fallback) ? fallback : TRUENO_TOKEN_NONE;
    trueno_status status = trueno_gguf_get_i64(g, key, &id, err);
    if (status == TRUENO_ERR_NOT_FOUND) return TRUENO_OK;
    if (status) return status;
    if (id < 0 || id >= (int64_t)t->n_vocab)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s is %lld: must be below %u tokens", key,
                       (long long)id, t->n_vocab);
    *out = (trueno_token)id;
    return TRUENO_OK;
}

/* Switch by key; absent: the value that is there. */
static trueno_status read_switch(const trueno_gguf *g, const char *key, bool *out,
                                 trueno_error *err)
{
    trueno_status status = trueno_gguf_get_bool(g, key, out, err);
    return status == TRUENO_ERR_NOT_FOUND ? TRUENO_OK : status;
}

/* SPM's unknown token when no key names it: the first token, if it looks like one. */
static trueno_token spm_unknown(const trueno_tokenizer *t)
{
    trueno_str first = tr_token_str(t, 0);
    bool is_unk = t->kind[0] == TRUENO_TOKEN_UNKNOWN ||
                  (first.len == 5 && memcmp(first.data, "<unk>", 5) == 0);
    return is_unk ? 0 : TRUENO_TOKEN_NONE;
}

static trueno_status load_ids(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    bool spm = t->type == TR_VOCAB_SPM;
    const struct {
        const char *key;
        trueno_token fallback;
        trueno_token *out; /* NULL: only ends generation */
        bool ends;
    } ids[] = {
        {"tokenizer.ggml.bos_token_id", spm ? 1 : 11, &t->bos, false},
        {"tokenizer.ggml.eos_token_id", spm ? 2 : 11, &t->eos, true},
        {"tokenizer.ggml.eot_token_id", TRUENO_TOKEN_NONE, &t->eot, true},
        {"tokenizer.ggml.eom_token_id", TRUENO_TOKEN_NONE, NULL, true},
        {"tokenizer.ggml.fim_pad_token_id", TRUENO_TOKEN_NONE, NULL, true},
        {"tokenizer.ggml.fim_rep_token_id", TRUENO_TOKEN_NONE, NULL, true},
        {"tokenizer.ggml.fim_sep_token_id", TRUENO_TOKEN_NONE, NULL, true},
        {"tokenizer.ggml.unknown_token_id", spm ? spm_unknown(t) : TRUENO_TOKEN_NONE, &t->unk,
         false},
        {"tokenizer.ggml.padding_token_id", TRUENO_TOKEN_NONE, &t->pad, false},
    };
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        trueno_token id;
        trueno_status status = read_id(t, g, ids[i].key, ids[i].fallback, &id, err);
        if (status) return status;
        if (ids[i].out) *ids[i].out = id;
        if (ids[i].ends && id != TRUENO_TOKEN_NONE) t->flags[id] |= TR_TOKEN_ENDS;
    }
    for (size_t i = 0; i < sizeof end_texts / sizeof end_texts[0]; i++) {
        trueno_token id = trueno_token_find(t, end_texts[i], strlen(end_texts[i]));
        if (id != TRUENO_TOKEN_NONE) t->flags[id] |= TR_TOKEN_ENDS;
    }
    return TRUENO_OK;
}

/* A switch that adds a token needs the token. What the file demands is then an error; what is only
 * the default is switched off. */
static trueno_status need_token(const trueno_tokenizer *t, const trueno_gguf *g, const char *key,
                                trueno_token id, bool *add, trueno_error *err)
{
    if (!*add || id != TRUENO_TOKEN_NONE) return TRUENO_OK;
    if (trueno_gguf_find(g, key) >= 0)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s is true, but the vocabulary has no such token",
                       key);
    tr_log(t->ctx, TRUENO_LOG_WARN, "%s is true by default, but there is no such token: off", key);
    *add = false;
    return TRUENO_OK;
}

/* "phi-3" or "phi3" somewhere in a name, in letters of any case. */
static bool names_phi3(trueno_str name)
{
    for (size_t i = 0; i + 4 <= name.len; i++) {
        const char *p = name.data + i;
        size_t dash = p[3] == '-' ? 1 : 0;
        if ((p[0] | 32) == 'p' && (p[1] | 32) == 'h' && (p[2] | 32) == 'i' &&
            i + 3 + dash < name.len && p[3 + dash] == '3')
            return true;
    }
    return false;
}

/* Phi-3 was trained without the line ends that its chat format prints after control tokens. The
 * files do not say so; the model's name does. */
static void load_strips(trueno_tokenizer *t, const trueno_gguf *g)
{
    static const char *const keep[] = {"<s>", "<unk>", "<|endoftext|>"};
    trueno_str name;
    if (t->type != TR_VOCAB_SPM || trueno_gguf_get_str(g, "general.name", &name, NULL) ||
        !names_phi3(name))
        return;
    for (uint32_t i = 0; i < t->n_vocab; i++)
        if (t->kind[i] == TRUENO_TOKEN_CONTROL) t->flags[i] |= TR_TOKEN_STRIPS;
    for (size_t i = 0; i < sizeof keep / sizeof keep[0]; i++) {
        trueno_token id = trueno_token_find(t, keep[i], strlen(keep[i]));
        if (id != TRUENO_TOKEN_NONE) t->flags[id] &= (uint8_t)~TR_TOKEN_STRIPS;
    }
}

trueno_status tr_vocab_load_keys(trueno_tokenizer *t, const trueno_gguf *g, trueno_error *err)
{
    static const char key_bos[] = "tokenizer.ggml.add_bos_token";
    static const char key_eos[] = "tokenizer.ggml.add_eos_token";
    trueno_str pre = {"", 0};
    trueno_status status = trueno_gguf_get_str(g, "tokenizer.ggml.pre", &pre, err);
    if (status && status != TRUENO_ERR_NOT_FOUND) return status;
    memcpy(t->pre, pre.data, pre.len < sizeof t->pre ? pre.len : sizeof t->pre - 1);

    t->add_bos = t->add_space_prefix = t->type == TR_VOCAB_SPM;
    if (t->type == TR_VOCAB_BPE) (void)tr_pre_known(pre, &t->add_bos);
    status = load_ids(t, g, err);
    if (!status) status = read_switch(g, key_bos, &t->add_bos, err);
    if (!status) status = read_switch(g, key_eos, &t->add_eos, err);
    if (!status)
        status = read_switch(g, "tokenizer.ggml.add_space_prefix", &t->add_space_prefix, err);
    load_strips(t, g);
    if (!status) status = need_token(t, g, key_bos, t->bos, &t->add_bos, err);
    if (!status) status = need_token(t, g, key_eos, t->eos, &t->add_eos, err);
    if (t->type == TR_VOCAB_BPE) t->add_space_prefix = false; /* means nothing to BPE */
    return status;
}
