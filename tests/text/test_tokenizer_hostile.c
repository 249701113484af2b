/* SPDX-License-Identifier: MIT */
/* Malformed vocabularies, by the numbers of the list of malformed cases (68 to 78), and arguments
 * of the text functions (86). Each case gives its status and a message that names the key. */
#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/tiny_vocab.h"

static trueno_ctx *ctx;

static int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK;
}

/* Nothing that failed may have kept memory. */
static int teardown(void **state)
{
    (void)state;
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    return now != 0;
}

/* Opens a vocabulary that must fail, and frees its description. `word` must be in the message. */
static void expect_bad(struct tiny_vocab *v, trueno_status status, const char *word)
{
    trueno_error err = {0};
    trueno_tokenizer *t = (trueno_tokenizer *)v;
    trueno_status got = tiny_open(ctx, v, NULL, &t, &err);
    tiny_free(v);
    if (got != status)
        fail_msg("status %s, must be %s: %s", trueno_status_str(got), trueno_status_str(status),
                 err.message);
    assert_null(t);
    assert_int_equal(err.status, status);
    if (!strstr(err.message, word)) fail_msg("\"%s\" does not name %s", err.message, word);
}

/* Opens a vocabulary that must load, and frees its description. */
static trueno_tokenizer *expect_good(struct tiny_vocab *v)
{
    trueno_error err = {0};
    trueno_tokenizer *t = NULL;
    trueno_status got = tiny_open(ctx, v, NULL, &t, &err);
    tiny_free(v);
    if (got) fail_msg("%s: %s", trueno_status_str(got), err.message);
    return t;
}

static void expect_ids(const trueno_tokenizer *t, const char *text, uint32_t flags,
                       const trueno_token *want, size_t n_want)
{
    trueno_token ids[64];
    size_t n;
    assert_int_equal(trueno_encode(t, ids, 64, &n, text, strlen(text), flags, NULL), TRUENO_OK);
    assert_int_equal(n, n_want);
    assert_memory_equal(ids, want, n * sizeof *ids);
}

#define EXPECT_IDS(t, text, flags, ...)                                                            \
    expect_ids(t, text, flags, (const trueno_token[]){__VA_ARGS__},                                \
               sizeof((const trueno_token[]){__VA_ARGS__}) / sizeof(trueno_token))

static void expect_round_trip(const trueno_tokenizer *t, const char *text, size_t len)
{
    trueno_token ids[256];
    char back[256];
    size_t n, len2;
    assert_int_equal(trueno_encode(t, ids, 256, &n, text, len, 0, NULL), TRUENO_OK);
    assert_true(n <= 256);
    assert_int_equal(trueno_decode(t, back, 256, &len2, ids, n, false, NULL), TRUENO_OK);
    assert_int_equal(len, len2);
    assert_memory_equal(text, back, len);
}

static void base(struct tiny_vocab *v, bool spm)
{
    if (spm)
        tiny_spm(v);
    else
        tiny_bpe(v);
}

static void the_untouched_vocabularies_load(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct tiny_vocab v;
        base(&v, spm);
        trueno_tokenizer *t = expect_good(&v);
        expect_round_trip(t, " hello  world\xF0\x9F\xA6\x99\xFF <user> x", 26);
        trueno_tokenizer_free(t);
    }
}

static void case_68_tokens_missing_not_strings_none(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct tiny_vocab v;
        base(&v, spm);
        v.tokens.absent = true;
        expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.tokens");
        base(&v, spm);
        v.tokens.retype = true;
        v.tokens.type = TRUENO_GGUF_I32;
        expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.tokens");
        base(&v, spm);
        v.tokens.delta = -(int)v.n;
        expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.tokens");
    }
}

static void spoil_numbers(bool scores, int delta, bool retype, trueno_gguf_type type)
{
    struct tiny_vocab v;
    tiny_spm(&v);
    struct tiny_array *a = scores ? &v.scores : &v.types;
    a->delta = delta;
    a->retype = retype;
    a->type = type;
    expect_bad(&v, TRUENO_ERR_CORRUPT,
               scores ? "tokenizer.ggml.scores" : "tokenizer.ggml.token_type");
}

static void case_69_scores_and_token_type_of_wrong_length_or_type(void **state)
{
    (void)state;
    for (int scores = 0; scores < 2; scores++) {
        spoil_numbers(scores, -1, false, 0);
        spoil_numbers(scores, 1, false, 0);
        spoil_numbers(scores, -300, false, 0);
        spoil_numbers(scores, 0, true, TRUENO_GGUF_U8);
        spoil_numbers(scores, 0, true, TRUENO_GGUF_F64);
        spoil_numbers(scores, 0, true, scores ? TRUENO_GGUF_I32 : TRUENO_GGUF_F32);
    }
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (size_t i = 0; i < 3; i++) {
        struct tiny_vocab v;
        tiny_spm(&v);
        v.score[300 - 10] = bad[i];
        expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.scores");
    }
    struct tiny_vocab v;
    tiny_spm(&v);
    v.scores.absent = true;
    expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.scores");
}

static void case_70_merges_absent_or_malformed(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_bpe(&v);
    v.merges.absent = true;
    expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.merges");
    static const char *const no_split[] = {"", "h", "he", " he", " ", "he\xC4\xA0x"};
    for (size_t i = 0; i < sizeof no_split / sizeof no_split[0]; i++) {
        tiny_bpe(&v);
        tiny_merge(&v, no_split[i]);
        expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.merges");
    }
    tiny_bpe(&v);
    v.merges.retype = true;
    v.merges.type = TRUENO_GGUF_U8;
    expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.merges");
}

/* Lines about texts that are no tokens cannot apply: the rest of the vocabulary works. */
static void case_70_merges_with_unknown_halves_do_nothing(void **state)
{
    (void)state;
    static const char *const lines[] = {"q  z",  " q z", "q z",          "nothing at_all",
                                        "x y z", "h ",   "<|im_end|> h", "<|im_ end|>"};
    struct tiny_vocab v;
    tiny_bpe(&v);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) tiny_merge(&v, lines[i]);
    trueno_tokenizer *t = expect_good(&v);
    /* qz stays apart; "hello" is one token (id 259 = 256 + 3), from merges before the bad lines */
    EXPECT_IDS(t, "qz", 0, 'q', 'z');
    EXPECT_IDS(t, "hello", 0, 259);
    trueno_tokenizer_free(t);
}

static void case_70_a_million_merges_load(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_bpe(&v);
    size_t n = 1000000;
    v.merge = realloc(v.merge, (v.n_merges + n) * sizeof *v.merge);
    assert_non_null(v.merge);
    for (size_t i = 0; i < n; i++) {
        char line[32];
        int len = snprintf(line, sizeof line, i & 1 ? "h e%zu" : "l l", i);
        v.merge[v.n_merges++] = tiny_copy(line, (size_t)len);
    }
    trueno_tokenizer *t = expect_good(&v);
    EXPECT_IDS(t, "hello", 0, 259);
    trueno_tokenizer_free(t);
}

static void case_71_duplicate_text_first_wins(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct tiny_vocab v;
        base(&v, spm);
        tiny_str(&v, "hello", -1000, 1);
        tiny_str(&v, "<user>", 0, 4);
        trueno_token last = (trueno_token)v.n - 1;
        trueno_tokenizer *t = expect_good(&v);
        trueno_token first = trueno_token_find(t, "hello", 5);
        assert_in_range(first, 0, last - 3);
        assert_int_equal(trueno_token_find(t, "<user>", 6), last - 2);
        EXPECT_IDS(t, "<user>", 0, last - 2);
        trueno_str text = trueno_token_text(t, last - 1);
        assert_int_equal(text.len, 5);
        assert_memory_equal(text.data, "hello", 5);
        trueno_tokenizer_free(t);
    }
}

static void case_71_empty_text_never_matches(void **state)
{
    (void)state;
    for (int spm = 0; spm < 2; spm++) {
        struct tiny_vocab v;
        base(&v, spm);
        for (int type = 0; type < 5; type++) tiny_str(&v, "", 1000, type);
        size_t n = v.n;
        trueno_tokenizer *t = expect_good(&v);
        assert_int_equal(trueno_token_find(t, "", 0), TRUENO_TOKEN_NONE);
        assert_int_equal(trueno_token_text(t, (trueno_token)n - 1).len, 0);
        expect_round_trip(t, "hello \n", 7);
        trueno_tokenizer_free(t);
    }
}

static void case_71_token_text_of_16_MiB(void **state)
{
    (void)state;
    size_t len = 16 << 20;
    char *text = malloc(len);
    assert_non_null(text);
    memset(text, 'a', len);
    struct tiny_vocab v;
    tiny_spm(&v);
    tiny_add(&v, text, len, 0, 1);
    expect_bad(&v, TRUENO_ERR_TOO_LARGE, "tokenizer.ggml.tokens");
    /* 64 KiB is the limit, as text and as special token */
    for (int type = 1; type <= 4; type++) {
        tiny_spm(&v);
        tiny_add(&v, text, 64 << 10, 0, type);
        trueno_tokenizer_free(expect_good(&v));
        tiny_spm(&v);
        tiny_add(&v, text, (64 << 10) + 1, 0, type);
        expect_bad(&v, TRUENO_ERR_TOO_LARGE, "tokenizer.ggml.tokens");
    }
    free(text);
}

static void case_71_special_tokens_of_more_than_16_MiB(void **state)
{
    (void)state;
    struct tiny_vocab v;
    char text[64 << 10];
    tiny_spm(&v);
    for (size_t i = 0; i < 257; i++) {
        memset(text, (int)i, sizeof text);
        memset(text, 'x', i % 128 + 1);
        tiny_add(&v, text, sizeof text, 0, 3);
    }
    expect_bad(&v, TRUENO_ERR_TOO_LARGE, "tokenizer.ggml.tokens");
}

struct key_value {
    const char *key;
    uint32_t value;
    bool is_bool;
};

static void write_key(trueno_gguf_writer *w, void *arg)
{
    const struct key_value *kv = arg;
    if (kv->is_bool)
        assert_int_equal(trueno_gguf_writer_bool(w, kv->key, kv->value), TRUENO_OK);
    else
        assert_int_equal(trueno_gguf_writer_u32(w, kv->key, kv->value), TRUENO_OK);
}

static void case_72_special_ids_outside_the_vocabulary(void **state)
{
    (void)state;
    static const char *const names[] = {"bos", "eos", "eot", "eom", "unknown", "padding"};
    for (size_t i = 0; i < sizeof names / sizeof names[0] * 4; i++) {
        struct tiny_vocab v;
        base(&v, i & 1);
        char key[64];
        snprintf(key, sizeof key, "tokenizer.ggml.%s_token_id", names[i / 4]);
        struct key_value kv = {key, i & 2 ? UINT32_MAX : (uint32_t)v.n, false};
        v.extra = write_key;
        v.arg = &kv;
        expect_bad(&v, TRUENO_ERR_CORRUPT, key);
    }
    struct tiny_vocab v;
    tiny_spm(&v);
    v.extra = write_key;
    v.arg = &(struct key_value){"tokenizer.ggml.add_bos_token", 1, false};
    expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.add_bos_token");
    tiny_spm(&v);
    v.extra = write_key;
    v.arg = &(struct key_value){"tokenizer.ggml.eos_token_id", 1, true};
    expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.eos_token_id");
}

/* The defaults (SPM 1, 2, 0; BPE 11) are only used where the vocabulary is that large. */
static void case_72_default_ids_outside_the_vocabulary(void **state)
{
    (void)state;
    struct tiny_vocab v = {.model = "llama"};
    tiny_str(&v, "<unk>", 0, 2);
    trueno_tokenizer *t = expect_good(&v);
    trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
    assert_int_equal(trueno_tokenizer_get_info(t, &info), TRUENO_OK);
    assert_int_equal(info.bos, TRUENO_TOKEN_NONE);
    assert_int_equal(info.eos, TRUENO_TOKEN_NONE);
    assert_int_equal(info.unk, 0);
    assert_false(info.add_bos);
    EXPECT_IDS(t, "ab", TRUENO_ENCODE_SPECIAL, 0, 0, 0); /* the space before, a, b */
    trueno_tokenizer_free(t);
    /* the file demands a BOS that is not there */
    for (int eos = 0; eos < 2; eos++) {
        struct key_value kv = {
            eos ? "tokenizer.ggml.add_eos_token" : "tokenizer.ggml.add_bos_token", 1, true};
        v = (struct tiny_vocab){.model = "llama", .extra = write_key, .arg = &kv};
        tiny_str(&v, "<unk>", 0, 2);
        expect_bad(&v, TRUENO_ERR_CORRUPT, kv.key);
    }
    /* 11 tokens of BPE: ids 0 to 10 */
    v = (struct tiny_vocab){.model = "gpt2", .pre = "llama-bpe"};
    tiny_str(&v, "<unk>", 0, 2);
    for (char c = 'a'; c < 'k'; c++) tiny_add(&v, &c, 1, 0, 1);
    tiny_merge(&v, "a b");
    v.extra = write_key;
    v.arg = &(struct key_value){"tokenizer.ggml.unknown_token_id", 0, false};
    t = expect_good(&v);
    assert_int_equal(trueno_tokenizer_get_info(t, &info), TRUENO_OK);
    assert_int_equal(info.bos, TRUENO_TOKEN_NONE);
    assert_false(info.add_bos);
    EXPECT_IDS(t, "a\xFF", TRUENO_ENCODE_SPECIAL, 1, 0);
    trueno_tokenizer_free(t);
}

static void case_73_spm_without_bytes_and_unknown(void **state)
{
    (void)state;
    struct tiny_vocab v = {.model = "llama"};
    tiny_str(&v, "a", 0, 1);
    tiny_str(&v, "<s>", 0, 3);
    tiny_str(&v, "</s>", 0, 3);
    expect_bad(&v, TRUENO_ERR_CORRUPT, "tokenizer.ggml.tokens");
    /* 255 bytes are not all bytes */
    tiny_spm(&v);
    v.type[TINY_SPM_BYTES + 77] = 1;
    v.type[0] = 1;
    memcpy((char *)(uintptr_t)v.token[0].data, "<abc>", 5);
    expect_bad(&v, TRUENO_ERR_CORRUPT, "255 of 256");
}

static void case_73_gpt2_without_a_byte(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_bpe(&v);
    v.type[0x0A] = 3; /* a control token is no byte */
    expect_bad(&v, TRUENO_ERR_CORRUPT, "0x0A");
    tiny_bpe(&v);
    v.type[0x0A] = 3;
    v.extra = write_key;
    v.arg = &(struct key_value){"tokenizer.ggml.unknown_token_id", 5, false};
    trueno_tokenizer *t = expect_good(&v);
    EXPECT_IDS(t, "\n", 0, 5);
    trueno_tokenizer_free(t);
}

static void case_73_byte_tokens_of_wrong_form(void **state)
{
    (void)state;
    static const char *const bad[] = {"<0x-1>", "<0xZZ>", "<0x100>", "ab", "a",      "<0x1>",
                                      "<0x 1>", "<0x+1>", "<0X41>",  "",   "<0x410", "0x41"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tiny_vocab v;
        tiny_spm(&v);
        tiny_str(&v, bad[i], 0, 6);
        expect_bad(&v, TRUENO_ERR_CORRUPT, "is a byte");
    }
    /* the same texts are harmless where the token is not a byte */
    struct tiny_vocab v;
    tiny_spm(&v);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) tiny_str(&v, bad[i], -1000, 1);
    trueno_tokenizer *t = expect_good(&v);
    expect_round_trip(t, "<0x-1><0x41>ab", 14);
    trueno_tokenizer_free(t);
}

static void case_74_unknown_token_types_are_normal(void **state)
{
    (void)state;
    static const int32_t types[] = {0, 7, -1, INT32_MAX, INT32_MIN};
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        struct tiny_vocab v;
        tiny_spm(&v);
        trueno_token id = (trueno_token)v.n;
        tiny_str(&v, "zq", 0, types[i]);
        trueno_tokenizer *t = expect_good(&v);
        assert_int_equal(trueno_token_get_kind(t, id), TRUENO_TOKEN_NORMAL);
        EXPECT_IDS(t, "zq", 0, TINY_SPM_SPACE, id);
        trueno_tokenizer_free(t);
    }
}

static void count_warning(void *user, trueno_log_level level, const char *message)
{
    if (level == TRUENO_LOG_WARN && strstr(message, "tokenizer.ggml.pre")) ++*(int *)user;
}

static void case_75_unknown_model_or_pre(void **state)
{
    (void)state;
    struct tiny_vocab v;
    static const char *const models[] = {"t5", "bert", "rwkv", "", "llama2", "gpt2 ", "%s%n"};
    for (size_t i = 0; i < sizeof models / sizeof models[0]; i++) {
        tiny_spm(&v);
        v.model = models[i];
        expect_bad(&v, TRUENO_ERR_UNSUPPORTED, "tokenizer.ggml.model");
    }
    tiny_spm(&v);
    v.model = NULL;
    expect_bad(&v, TRUENO_ERR_NOT_FOUND, "tokenizer.ggml.model");
    tiny_spm(&v);
    v.model = "no_vocab";
    expect_bad(&v, TRUENO_ERR_NOT_FOUND, "no_vocab");

    static const char *const pres[] = {"gpt-2", "default", "no-such-pre", NULL, "", "jin"};
    for (size_t i = 0; i < sizeof pres / sizeof pres[0]; i++) {
        int n_warnings = 0;
        trueno_ctx *own;
        trueno_ctx_options copt = TRUENO_CTX_OPTIONS_INIT;
        copt.log = count_warning;
        copt.log_user = &n_warnings;
        assert_int_equal(trueno_ctx_new(&own, &copt, NULL), TRUENO_OK);
        trueno_tokenizer_options opt = TRUENO_TOKENIZER_OPTIONS_INIT;
        trueno_tokenizer *t;
        trueno_error err;
        tiny_bpe(&v);
        v.pre = pres[i];
        assert_int_equal(tiny_open(own, &v, &opt, &t, &err), TRUENO_OK);
        assert_int_equal(n_warnings, i >= 2);
        /* the default expressions cut numbers at three digits: no merge over the cut */
        if (i > 0) EXPECT_IDS(t, "3412", 0, '3', '4', '1', '2');
        trueno_tokenizer_free(t);
        opt.strict_pre = true;
        trueno_status want = i < 2 || i == 3 ? TRUENO_OK : TRUENO_ERR_UNSUPPORTED;
        assert_int_equal(tiny_open(own, &v, &opt, &t, &err), want);
        trueno_tokenizer_free(t);
        tiny_free(&v);
        trueno_ctx_free(own);
    }
}

static void case_76_tokens_of_invalid_utf8(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_spm(&v);
    trueno_token first = (trueno_token)v.n;
    tiny_str(&v, "\xFF", -1, 1);
    tiny_str(&v, "\xFF\xFF", -2, 1);
    tiny_str(&v, "\xC3\xA9\xE2", -3, 4);
    tiny_str(&v, "\xE2\x96", -4, 1);
    trueno_tokenizer *t = expect_good(&v);
    EXPECT_IDS(t, "\xFF\xFF\xFF", 0, TINY_SPM_SPACE, first + 1, first);
    EXPECT_IDS(t, "\xC3\xA9\xE2", 0, first + 2);
    expect_round_trip(t, "\xFF\xFF\xFF \xC3\xA9\xE2\x96", 8);
    trueno_tokenizer_free(t);
    tiny_bpe(&v);
    tiny_str(&v, "\xFF", 0, 1);
    tiny_str(&v, "\xFE\xFE", 0, 4);
    tiny_str(&v, "\xC4", 0, 3);
    t = expect_good(&v);
    expect_round_trip(t, "\xFF\xFE\xFE\xC4\xA0\xC4", 6);
    trueno_tokenizer_free(t);
}

static void write_charsmap(trueno_gguf_writer *w, void *arg)
{
    static const uint8_t bytes[] = {0xFF, 0xFF, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0};
    assert_int_equal(trueno_gguf_writer_array(w, "tokenizer.ggml.precompiled_charsmap",
                                              TRUENO_GGUF_U8, bytes, *(size_t *)arg),
                     TRUENO_OK);
}

/* Only Unigram vocabularies use the table, and those are unsupported: it is never read. */
static void case_77_precompiled_charsmap_is_not_read(void **state)
{
    (void)state;
    for (size_t n = 0; n <= 9; n++) {
        struct tiny_vocab v;
        tiny_spm(&v);
        v.extra = write_charsmap;
        v.arg = &n;
        trueno_tokenizer *t = expect_good(&v);
        expect_round_trip(t, "hello world", 11);
        trueno_tokenizer_free(t);
        tiny_spm(&v);
        v.model = "t5";
        v.extra = write_charsmap;
        v.arg = &n;
        expect_bad(&v, TRUENO_ERR_UNSUPPORTED, "tokenizer.ggml.model");
    }
}

static void write_template(trueno_gguf_writer *w, void *arg)
{
    const trueno_str *text = arg;
    assert_int_equal(trueno_gguf_writer_str(w, "tokenizer.chat_template", text->data, text->len),
                     TRUENO_OK);
}

static trueno_status detect_in_file(trueno_str text, const char **name)
{
    struct tiny_vocab v;
    trueno_gguf *g = NULL;
    trueno_error err;
    size_t size_bytes;
    tiny_spm(&v);
    v.extra = write_template;
    v.arg = &text;
    void *image = tiny_image(ctx, &v, &size_bytes);
    assert_int_equal(trueno_gguf_open_buffer(ctx, &g, image, size_bytes, NULL, &err), TRUENO_OK);
    trueno_tokenizer *t = NULL;
    assert_int_equal(trueno_tokenizer_new(&t, g, NULL, &err), TRUENO_OK);
    trueno_status status = trueno_chat_detect_gguf(name, g, &err);
    trueno_tokenizer_free(t);
    trueno_gguf_free(g);
    free(image);
    tiny_free(&v);
    return status;
}

static void case_78_chat_templates_are_never_run(void **state)
{
    (void)state;
    const char *name;
    static const char *const programs[] = {
        "{% for i in range(10**9) %}x{% endfor %}",       "{{{{{{{{{{ {% if", "}}%}{{", "", "{%",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}", "%s%s%n",
    };
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        trueno_str text = {programs[i], strlen(programs[i])};
        assert_int_equal(detect_in_file(text, &name), TRUENO_ERR_NOT_FOUND);
        assert_null(name);
    }
    size_t len = 10 << 20;
    char *big = malloc(len);
    assert_non_null(big);
    memset(big, '<', len);
    assert_int_equal(detect_in_file((trueno_str){big, len}, &name), TRUENO_ERR_NOT_FOUND);
    memcpy(big + len - 12, "<|im_start|>", 12);
    assert_int_equal(detect_in_file((trueno_str){big, len}, &name), TRUENO_OK);
    assert_string_equal(name, "chatml");
    memset(big, 0, len);
    assert_int_equal(detect_in_file((trueno_str){big, len}, &name), TRUENO_ERR_NOT_FOUND);
    free(big);
}

static void case_86_arguments_of_encode_and_decode(void **state)
{
    (void)state;
    struct tiny_vocab v;
    trueno_error err;
    trueno_token id = 0, bad[] = {-1, INT32_MIN, INT32_MAX, 0};
    size_t n = 9;
    char text[8];
    tiny_bpe(&v);
    bad[3] = (trueno_token)v.n;
    trueno_tokenizer *t = expect_good(&v);
    assert_int_equal(trueno_encode(t, &id, 1, NULL, "a", 1, 0, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_encode(NULL, &id, 1, &n, "a", 1, 0, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(n, 0);
    assert_int_equal(trueno_encode(t, NULL, 1, &n, "a", 1, 0, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_encode(t, &id, 1, &n, NULL, 1, 0, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_encode(t, &id, 1, &n, "a", 1, 4, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_encode(t, &id, 1, &n, "a", SIZE_MAX, 0, &err), TRUENO_ERR_TOO_LARGE);
    assert_int_equal(trueno_encode(t, &id, 1, &n, "a", (64 << 20) + 1, 0, &err),
                     TRUENO_ERR_TOO_LARGE);
    assert_int_equal(trueno_encode(t, NULL, 0, &n, NULL, 0, 0, NULL), TRUENO_OK);
    assert_int_equal(n, 0);
    /* too little room: the count is right, nothing is written beyond it */
    trueno_token two[3] = {-7, -7, -7};
    assert_int_equal(trueno_encode(t, two, 2, &n, "qzq", 3, 0, &err), TRUENO_OK);
    assert_int_equal(n, 3);
    assert_int_equal(two[2], -7);
    for (size_t i = 0; i < 4; i++) {
        n = 9;
        assert_int_equal(trueno_decode(t, text, 8, &n, &bad[i], 1, true, &err),
                         TRUENO_ERR_ARGUMENT);
        assert_int_equal(n, 0);
        assert_null(trueno_token_text(t, bad[i]).data);
        assert_int_equal(trueno_token_get_kind(t, bad[i]), 0);
        assert_false(trueno_token_is_end(t, bad[i]));
    }
    assert_int_equal(trueno_decode(t, text, 8, NULL, &id, 1, true, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_decode(NULL, text, 8, &n, &id, 1, true, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_decode(t, NULL, 8, &n, &id, 1, true, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_decode(t, text, 8, &n, NULL, 1, true, &err), TRUENO_ERR_ARGUMENT);
    memset(text, '#', sizeof text);
    assert_int_equal(trueno_decode(t, text, 2, &n, (trueno_token[]){259}, 1, true, NULL),
                     TRUENO_OK);
    assert_int_equal(n, 5);
    assert_memory_equal(text, "he######", 8);
    trueno_tokenizer_free(t);
}

static void case_86_arguments_of_the_tokenizer(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 4, sizeof(trueno_tokenizer_options) - 1, SIZE_MAX};
    struct tiny_vocab v;
    trueno_error err;
    trueno_tokenizer *t = (trueno_tokenizer *)&v;
    tiny_bpe(&v);
    assert_int_equal(trueno_tokenizer_new(&t, NULL, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_null(t);
    for (size_t i = 0; i < 4; i++) {
        trueno_tokenizer_options opt = {sizes[i], false};
        assert_int_equal(tiny_open(ctx, &v, &opt, &t, &err), TRUENO_ERR_ARGUMENT);
        assert_null(t);
    }
    t = expect_good(&v);
    trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
    assert_int_equal(trueno_tokenizer_get_info(NULL, &info), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_tokenizer_get_info(t, NULL), TRUENO_ERR_ARGUMENT);
    info.struct_size = 4;
    assert_int_equal(trueno_tokenizer_get_info(t, &info), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_token_find(NULL, "a", 1), TRUENO_TOKEN_NONE);
    assert_int_equal(trueno_token_find(t, NULL, 1), TRUENO_TOKEN_NONE);
    assert_int_equal(trueno_token_find(t, "a", SIZE_MAX), TRUENO_TOKEN_NONE);
    assert_null(trueno_token_text(NULL, 0).data);
    assert_int_equal(trueno_token_get_kind(NULL, 0), 0);
    assert_false(trueno_token_is_end(NULL, 0));
    trueno_tokenizer_free(NULL);
    trueno_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_untouched_vocabularies_load),
        cmocka_unit_test(case_68_tokens_missing_not_strings_none),
        cmocka_unit_test(case_69_scores_and_token_type_of_wrong_length_or_type),
        cmocka_unit_test(case_70_merges_absent_or_malformed),
        cmocka_unit_test(case_70_merges_with_unknown_halves_do_nothing),
        cmocka_unit_test(case_70_a_million_merges_load),
        cmocka_unit_test(case_71_duplicate_text_first_wins),
        cmocka_unit_test(case_71_empty_text_never_matches),
        cmocka_unit_test(case_71_token_text_of_16_MiB),
        cmocka_unit_test(case_71_special_tokens_of_more_than_16_MiB),
        cmocka_unit_test(case_72_special_ids_outside_the_vocabulary),
        cmocka_unit_test(case_72_default_ids_outside_the_vocabulary),
        cmocka_unit_test(case_73_spm_without_bytes_and_unknown),
        cmocka_unit_test(case_73_gpt2_without_a_byte),
        cmocka_unit_test(case_73_byte_tokens_of_wrong_form),
        cmocka_unit_test(case_74_unknown_token_types_are_normal),
        cmocka_unit_test(case_75_unknown_model_or_pre),
        cmocka_unit_test(case_76_tokens_of_invalid_utf8),
        cmocka_unit_test(case_77_precompiled_charsmap_is_not_read),
        cmocka_unit_test(case_78_chat_templates_are_never_run),
        cmocka_unit_test(case_86_arguments_of_encode_and_decode),
        cmocka_unit_test(case_86_arguments_of_the_tokenizer),
    };
    return cmocka_run_group_tests_name("tokenizer_hostile", tests, setup, teardown);
}
