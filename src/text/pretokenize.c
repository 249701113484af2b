/* SPDX-License-Identifier: MIT */
/* Pre-tokenizer expressions and their execution.
 *
 * The expressions are those that the vocabularies were trained with. \s is written out, because the
 * field means Unicode's White_Space by it, while PCRE2 adds U+180E. The text is checked for UTF-8
 * once; a check by every match would make the work quadratic. */
#include "text/pretokenize.h"

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "text/utf8.h"

enum {
    MATCH_LIMIT = 10 * 1000 * 1000, /* backtracking steps of one match */
    HEAP_LIMIT_KIB = 256 * 1024     /* memory of one match without JIT */
};

/* White space: the inside of a class. */
#define WS                                                                                         \
    "\\x09-\\x0D\\x20\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"        \
    "\\x{205F}\\x{3000}"
#define TRAILING_WS "[" WS "]+(?![^" WS "])"

/* GPT-2: contractions, words and numbers with one space before them, the rest. */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" WS "\\p{L}\\p{N}]+|" TRAILING_WS

/* Llama 3 and Qwen 2: the same idea, with line ends apart; `digits` is what a number is cut into.
 */
#define LLAMA3(digits)                                                                             \
    "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+"      \
    "|" digits "| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n]*|[" WS "]*[\\r\\n]+|" TRAILING_WS "|[" WS "]+"

#define TEKKEN                                                                                     \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+|"   \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*|"   \
    "\\p{N}| ?[^" WS "\\p{L}\\p{N}]+[\\r\\n/]*|[" WS "]*[\\r\\n]+|" TRAILING_WS "|[" WS "]+"

#define DEEPSEEK3                                                                                  \
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|"                                       \
    "[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\\r\\n]*|[" WS                  \
    "]*[\\r\\n]+|" TRAILING_WS "|[" WS "]+"

/* Han, Hangul and what lies between, as DeepSeek's first models cut them out. */
#define CJK "[\\x{4E00}-\\x{9FA5}\\x{800}-\\x{4E00}\\x{AC00}-\\x{D7FF}]+"

#define DEEPSEEK_PUNCTUATION                                                                       \
    "[" WS "]?[!-/:-~\\x{FF01}-\\x{FF0F}\\x{FF1A}-\\x{FF5E}\\x{2018}-\\x{201F}"                    \
    "\\x{3000}-\\x{3002}]+"

/* Space at the very end. The look-behind spares a try at every position of a run that does not
 * reach the end, which would be quadratic. */
#define FINAL_WS "(?<![" WS "])[" WS "]++$"

enum scheme {
    SCHEME_GPT2,
    SCHEME_STARCODER,
    SCHEME_LLAMA3,
    SCHEME_QWEN2,
    SCHEME_FALCON,
    SCHEME_DEFAULT,
    SCHEME_DEEPSEEK_CODER,
    SCHEME_DEEPSEEK_LLM,
    SCHEME_DEEPSEEK3,
    SCHEME_TEKKEN
};

/* Passes in order: each splits every piece of the one before. */
static const char *const scheme_passes[][TR_PRE_PASSES_MAX] = {
    [SCHEME_GPT2] = {GPT2},
    [SCHEME_STARCODER] = {"\\p{N}", GPT2},
    [SCHEME_LLAMA3] = {LLAMA3("\\p{N}{1,3}")},
    [SCHEME_QWEN2] = {LLAMA3("\\p{N}")},
    [SCHEME_FALCON] = {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"},
    [SCHEME_DEFAULT] = {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"},
    [SCHEME_DEEPSEEK_CODER] = {"[\\r\\n]", "[" WS "]?\\p{L}+", "[" WS "]?\\p{P}+", CJK, "\\p{N}"},
    [SCHEME_DEEPSEEK_LLM] = {"[\\r\\n]", "[" WS "]?\\p{L&}+", DEEPSEEK_PUNCTUATION, FINAL_WS, CJK,
                             "\\p{N}+"},
    [SCHEME_DEEPSEEK3] = {"\\p{N}{1,3}",
                          "[\\x{4E00}-\\x{9FA5}\\x{3040}-\\x{309F}\\x{30A0}-\\x{30FF}]+",
                          DEEPSEEK3},
    [SCHEME_TEKKEN] = {TEKKEN},
};

/* Names in files; one that ends in '-' stands for all that begin so. */
static const struct pre_name {
    const char *name;
    enum scheme scheme;
    bool ignore_merges, add_bos;
} pre_names[] = {
    {"gpt-2", SCHEME_GPT2, false, false},
    {"phi-2", SCHEME_GPT2, false, false},
    {"mpt", SCHEME_GPT2, false, false},
    {"olmo", SCHEME_GPT2, false, false},
    {"jais", SCHEME_GPT2, false, false},
    {"jina-", SCHEME_GPT2, false, false},
    {"smollm", SCHEME_STARCODER, false, false},
    {"starcoder", SCHEME_STARCODER, false, false},
    {"refact", SCHEME_STARCODER, false, false},
    {"command-r", SCHEME_STARCODER, false, false},
    {"codeshell", SCHEME_STARCODER, false, false},
    {"exaone", SCHEME_STARCODER, false, false},
    {"minerva-7b", SCHEME_STARCODER, false, false},
    {"llama-bpe", SCHEME_LLAMA3, true, true},
    {"llama3", SCHEME_LLAMA3, true, true},
    {"llama-v3", SCHEME_LLAMA3, true, true},
    {"falcon3", SCHEME_LLAMA3, true, true},
    {"dbrx", SCHEME_LLAMA3, false, false},
    {"smaug-bpe", SCHEME_LLAMA3, false, false},
    {"chatglm-bpe", SCHEME_LLAMA3, false, false},
    {"qwen2", SCHEME_QWEN2, false, false},
    {"deepseek-r1-qwen", SCHEME_QWEN2, false, false},
    {"stablelm2", SCHEME_QWEN2, false, false},
    {"megrez", SCHEME_QWEN2, false, false},
    {"falcon", SCHEME_FALCON, false, false},
    {"default", SCHEME_DEFAULT, false, false},
    {"deepseek-coder", SCHEME_DEEPSEEK_CODER, false, false},
    {"deepseek-llm", SCHEME_DEEPSEEK_LLM, false, false},
    {"deepseek-v3", SCHEME_DEEPSEEK3, false, false},
    {"tekken", SCHEME_TEKKEN, true, true},
};

static const struct pre_name *find_name(trueno_str name)
{
    for (size_t i = 0; i < sizeof pre_names / sizeof pre_names[0]; i++) {
        const char *known = pre_names[i].name;
        size_t len = strlen(known);
        bool family = known[len - 1] == '-';
        if ((family ? name.len >= len : name.len == len) && memcmp(name.data, known, len) == 0)
            return &pre_names[i];
    }
    return NULL;
}

bool tr_pre_known(trueno_str name, bool *add_bos)
{
    const struct pre_name *entry = find_name(name);
    *add_bos = entry && entry->add_bos;
    return entry != NULL;
}

static void *pcre_alloc(size_t size_bytes, void *ctx)
{
    return tr_alloc(ctx, size_bytes);
}

static void pcre_free(void *ptr, void *ctx)
{
    tr_free(ctx, ptr);
}

static trueno_status no_memory(trueno_error *err)
{
    return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the pre-tokenizer");
}

static trueno_status compile_pass(struct tr_pre *pre, pcre2_compile_context *compile,
                                  const char *expression, bool jit, trueno_error *err)
{
    int code;
    PCRE2_SIZE where;
    pcre2_code *re =
        pcre2_compile((PCRE2_SPTR)expression, PCRE2_ZERO_TERMINATED,
                      PCRE2_UTF | PCRE2_UCP | PCRE2_DOLLAR_ENDONLY, &code, &where, compile);
    if (!re && code == PCRE2_ERROR_HEAP_FAILED) return no_memory(err);
    if (!re)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED,
                       "this PCRE2 does not compile the pre-tokenizer: error %d at byte %zu", code,
                       where);
    pre->pass[pre->n_passes++] = re;
    /* without executable memory the interpreter does the work: slower, same result */
    if (jit) (void)pcre2_jit_compile(re, PCRE2_JIT_COMPLETE);
    return TRUENO_OK;
}

trueno_status tr_pre_init(struct tr_pre *pre, trueno_ctx *ctx, trueno_str name, trueno_error *err)
{
    const struct pre_name *entry = find_name(name);
    enum scheme scheme = entry ? entry->scheme : SCHEME_DEFAULT;
    uint32_t jit = 0;
    pcre2_config(PCRE2_CONFIG_JIT, &jit);
    pre->ignore_merges = entry && entry->ignore_merges;
    pre->memory = pcre2_general_context_create(pcre_alloc, pcre_free, ctx);
    if (!pre->memory) return no_memory(err);
    pre->limits = pcre2_match_context_create(pre->memory);
    if (!pre->limits) return no_memory(err);
    pcre2_set_match_limit(pre->limits, MATCH_LIMIT);
    pcre2_set_heap_limit(pre->limits, HEAP_LIMIT_KIB);

    pcre2_compile_context *compile = pcre2_compile_context_create(pre->memory);
    if (!compile) return no_memory(err);
    trueno_status status = TRUENO_OK;
    for (size_t i = 0; i < TR_PRE_PASSES_MAX && scheme_passes[scheme][i] && !status; i++)
        status = compile_pass(pre, compile, scheme_passes[scheme][i], jit != 0, err);
    pcre2_compile_context_free(compile);
    return status;
}

void tr_pre_free(struct tr_pre *pre)
{
    for (uint32_t i = 0; i < pre->n_passes; i++) pcre2_code_free(pre->pass[i]);
    pcre2_match_context_free(pre->limits);
    pcre2_general_context_free(pre->memory);
    *pre = (struct tr_pre){0};
}

pcre2_match_data *tr_pre_match_data(const struct tr_pre *pre)
{
    return pcre2_match_data_create(1, pre->memory);
}

/* One call of tr_pre_split. */
struct split {
    const struct tr_pre *pre;
    pcre2_match_data *match;
    tr_piece_fn fn;
    void *arg;
    trueno_error *err;
};

/* Next match of a pass in text[from..len). False and OK: there is none. */
static trueno_status next_match(const struct split *s, const pcre2_code *re, const char *text,
                                size_t len, size_t from, bool *found)
{
    const uint32_t options = PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY;
    PCRE2_SPTR subject = (PCRE2_SPTR)text;
    int rc = pcre2_match(re, subject, len, from, options, s->match, s->pre->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(re, subject, len, from, options | PCRE2_NO_JIT, s->match, s->pre->limits);
    *found = rc >= 0;
    if (rc >= 0 || rc == PCRE2_ERROR_NOMATCH) return TRUENO_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return no_memory(s->err);
    return tr_fail(s->err, TRUENO_ERR_TOO_LARGE,
                   "pre-tokenizer: a match of the text exceeds the limit of %d steps (PCRE2 %d)",
                   MATCH_LIMIT, rc);
}

/* Splits valid UTF-8 by the passes from `pass` on. Nesting is at most TR_PRE_PASSES_MAX. */
static trueno_status split_from(const struct split *s, uint32_t pass, const char *text, size_t len)
{
    if (len == 0) return TRUENO_OK;
    if (pass == s->pre->n_passes) return s->fn(s->arg, text, len, s->err);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(s->match);
    for (size_t pos = 0; pos < len;) {
        bool found;
        trueno_status status = next_match(s, s->pre->pass[pass], text, len, pos, &found);
        size_t begin = found ? span[0] : len, end = found ? span[1] : len;
        if (!status) status = split_from(s, pass + 1, text + pos, begin - pos);
        if (!status) status = split_from(s, pass + 1, text + begin, end - begin);
        if (status) return status;
        pos = end;
    }
    return TRUENO_OK;
}

trueno_status tr_pre_split(const struct tr_pre *pre, pcre2_match_data *match, const char *text,
                           size_t len, tr_piece_fn fn, void *arg, trueno_error *err)
{
    const struct split s = {pre, match, fn, arg, err};
    trueno_status status = TRUENO_OK;
    for (size_t pos = 0; pos < len && !status;) {
        size_t good = pos, n;
        while (good < len && (n = tr_utf8_char(text + good, len - good)) > 0) good += n;
        status = split_from(&s, 0, text + pos, good - pos);
        if (!status && good < len) status = fn(arg, text + good++, 1, err);
        pos = good;
    }
    return status;
}
