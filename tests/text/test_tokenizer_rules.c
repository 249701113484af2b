/* SPDX-License-Identifier: MIT */
/* Rules of encode and decode on small vocabularies: which special tokens are recognised, BOS and
 * EOS, the space before the text, what ends generation, what a token's kind changes. */
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

static int teardown(void **state)
{
    (void)state;
    uint64_t now;
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    return now != 0;
}

static trueno_tokenizer *open_tiny(struct tiny_vocab *v)
{
    trueno_tokenizer *t;
    trueno_error err;
    if (tiny_open(ctx, v, NULL, &t, &err)) fail_msg("%s", err.message);
    tiny_free(v);
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

static void expect_round_trip(const trueno_tokenizer *t, const char *text, uint32_t flags)
{
    trueno_token ids[128];
    char back[128];
    size_t n, len = strlen(text), len2;
    assert_int_equal(trueno_encode(t, ids, 128, &n, text, len, flags, NULL), TRUENO_OK);
    assert_int_equal(
        trueno_decode(t, back, 128, &len2, ids, n, (flags & TRUENO_ENCODE_PARSE) != 0, NULL),
        TRUENO_OK);
    assert_int_equal(len, len2);
    assert_memory_equal(text, back, len);
}

static trueno_token find(const trueno_tokenizer *t, const char *text)
{
    trueno_token id = trueno_token_find(t, text, strlen(text));
    assert_int_not_equal(id, TRUENO_TOKEN_NONE);
    return id;
}

struct keys {
    struct {
        const char *key;
        int kind; /* 0: u32, 1: bool, 2: string */
        uint32_t value;
        const char *text;
    } key[6];
};

static void write_keys(trueno_gguf_writer *w, void *arg)
{
    const struct keys *k = arg;
    for (size_t i = 0; i < 6 && k->key[i].key; i++) {
        trueno_status s;
        if (k->key[i].kind == 0)
            s = trueno_gguf_writer_u32(w, k->key[i].key, k->key[i].value);
        else if (k->key[i].kind == 1)
            s = trueno_gguf_writer_bool(w, k->key[i].key, k->key[i].value != 0);
        else
            s = trueno_gguf_writer_str(w, k->key[i].key, k->key[i].text, strlen(k->key[i].text));
        assert_int_equal(s, TRUENO_OK);
    }
}

static void control_tokens_are_parsed_only_on_request(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_bpe(&v);
    trueno_tokenizer *t = open_tiny(&v);
    trueno_token start = find(t, "<|im_start|>"), user = find(t, "<user>");
    EXPECT_IDS(t, "<|im_start|>", TRUENO_ENCODE_PARSE, start);
    EXPECT_IDS(t, "<|im_start|>", 0, '<', '|', 'i', 'm', '_', 's', 't', 'a', 'r', 't', '|', '>');
    EXPECT_IDS(t, "q<user>q", 0, 'q', user, 'q');
    EXPECT_IDS(t, "<<user>>", TRUENO_ENCODE_PARSE, '<', user, '>');
    EXPECT_IDS(t, "<|im_end|><|im_start|>", TRUENO_ENCODE_PARSE, find(t, "<|im_end|>"), start);
    trueno_tokenizer_free(t);
}

/* "leftmost" before "longest", and "longest" among those that begin at the same byte. */
static void the_leftmost_then_the_longest_special_token_wins(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_bpe(&v);
    trueno_token ab = (trueno_token)v.n;
    tiny_str(&v, "+a", 0, 4);
    tiny_str(&v, "+abc", 0, 4);
    tiny_str(&v, "bcdefgh", 0, 4);
    tiny_str(&v, "c", 0, 4);
    tiny_str(&v, "+ab", 0, 3); /* control: not there without PARSE */
    trueno_tokenizer *t = open_tiny(&v);
    EXPECT_IDS(t, "+abcdefgh", 0, ab + 1, 'd', 'e', 'f', 'g', 'h');
    EXPECT_IDS(t, "+abdefgh", 0, ab, 'b', 'd', 'e', 'f', 'g', 'h');
    EXPECT_IDS(t, "+abdefgh", TRUENO_ENCODE_PARSE, ab + 4, 'd', 'e', 'f', 'g', 'h');
    EXPECT_IDS(t, "bcdefgq", 0, 'b', ab + 3, 'd', 'e', 'f', 'g', 'q');
    EXPECT_IDS(t, "abcdefgh", 0, 'a', ab + 2);
    EXPECT_IDS(t, "++a+", 0, '+', ab, '+');
    trueno_tokenizer_free(t);
}

static void spm_puts_a_space_first_and_after_special_tokens(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_spm(&v);
    trueno_tokenizer *t = open_tiny(&v);
    trueno_token hello = find(t, "\xE2\x96\x81hello"), user = find(t, "<user>"),
                 bare = find(t, "hello");
    trueno_token space2 = find(t, "\xE2\x96\x81\xE2\x96\x81");
    EXPECT_IDS(t, "hello", 0, hello);
    EXPECT_IDS(t, "hello", TRUENO_ENCODE_SPECIAL, 1, hello);
    EXPECT_IDS(t, "<user>hello", 0, user, hello);
    EXPECT_IDS(t, "hello<user>", 0, hello, user);
    EXPECT_IDS(t, " <user> hello", 0, space2, user, TINY_SPM_SPACE, hello);
    EXPECT_IDS(t, "<s>hello</s>", TRUENO_ENCODE_PARSE, 1, hello, 2);
    expect_ids(t, "", 0, NULL, 0);
    EXPECT_IDS(t, "", TRUENO_ENCODE_SPECIAL, 1);
    static const char *const texts[] = {
        "",           " ", "  ", "<user>", " <user>  <user> x", "<s> a </s>", "<unk>hello<unk> ",
        "\xC3\xA9 \n"};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        expect_round_trip(t, texts[i], 0);
        expect_round_trip(t, texts[i], TRUENO_ENCODE_PARSE);
    }
    trueno_tokenizer_free(t);
    tiny_spm(&v);
    struct keys off = {{{"tokenizer.ggml.add_space_prefix", 1, 0, NULL}}};
    v.extra = write_keys;
    v.arg = &off;
    t = open_tiny(&v);
    EXPECT_IDS(t, "hello", 0, bare);
    EXPECT_IDS(t, "<user>hello", 0, user, bare);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        expect_round_trip(t, texts[i], TRUENO_ENCODE_PARSE);
    trueno_tokenizer_free(t);
}

/* Scores -1 - index: "he" merges before "ll", and so on; equal scores merge leftmost. */
static void spm_merges_by_score_then_leftmost(void **state)
{
    (void)state;
    struct tiny_vocab v = {.model = "llama"};
    struct keys off = {{{"tokenizer.ggml.add_space_prefix", 1, 0, NULL}}};
    tiny_str(&v, "<unk>", 0, 2);
    for (char c = 'a'; c <= 'd'; c++) tiny_add(&v, &c, 1, -10, 1); /* 1 to 4 */
    tiny_str(&v, "aa", -2, 1);
    tiny_str(&v, "ab", -2, 1);
    tiny_str(&v, "bc", -1, 1);
    tiny_str(&v, "\xC3\xA9\xC3\xA9", -1, 1); /* its halves are no tokens */
    v.extra = write_keys;
    v.arg = &off;
    trueno_tokenizer *t = open_tiny(&v);
    EXPECT_IDS(t, "aaa", 0, 5, 1);
    EXPECT_IDS(t, "aab", 0, 5, 2);
    EXPECT_IDS(t, "abc", 0, 1, 7);
    EXPECT_IDS(t, "dabd", 0, 4, 6, 4);
    EXPECT_IDS(t, "\xC3\xA9\xC3\xA9\xC3\xA9", 0, 8, 0);
    EXPECT_IDS(t, "xyz", 0, 0, 0, 0);
    trueno_tokenizer_free(t);
}

/* Scores of both signs, and both zeros, which are equal. */
static void spm_orders_scores_as_numbers(void **state)
{
    (void)state;
    static const float scores[] = {3e38f, 2, 1, 1e-40f, 0, -1e-40f, -1, -3e38f};
    enum { N = sizeof scores / sizeof scores[0] };
    for (size_t hi = 0; hi < N; hi++) {
        for (size_t lo = hi + 1; lo < N; lo++) {
            struct tiny_vocab v = {.model = "llama"};
            tiny_str(&v, "<unk>", 0, 2);
            for (char c = 'a'; c <= 'c'; c++) tiny_add(&v, &c, 1, 0, 1);
            tiny_str(&v, "ab", scores[lo], 1);
            tiny_str(&v, "bc", scores[hi], 1);
            trueno_tokenizer *t = open_tiny(&v);
            EXPECT_IDS(t, "abc", 0, 0, 1, 5); /* the space before the text is unknown */
            trueno_tokenizer_free(t);
        }
    }
    struct tiny_vocab v = {.model = "llama"};
    tiny_str(&v, "<unk>", 0, 2);
    for (char c = 'a'; c <= 'c'; c++) tiny_add(&v, &c, 1, 0, 1);
    tiny_str(&v, "ab", -0.0f, 1);
    tiny_str(&v, "bc", 0.0f, 1);
    trueno_tokenizer *t = open_tiny(&v);
    EXPECT_IDS(t, "abc", 0, 0, 4, 3);
    trueno_tokenizer_free(t);
}

/* Tokens with a space inside: words must not be cut where one of them reaches over. */
static void spm_tokens_may_reach_over_spaces(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_spm(&v);
    trueno_token id = (trueno_token)v.n;
    tiny_str(&v, "k\xE2\x96\x81", -3, 1);
    tiny_str(&v, "k\xE2\x96\x81j", -2, 1);
    trueno_tokenizer *t = open_tiny(&v);
    trueno_token a = find(t, "a"), j = find(t, "j"), k = find(t, "k");
    EXPECT_IDS(t, "ak ja j", 0, TINY_SPM_SPACE, a, id + 1, a, TINY_SPM_SPACE, j);
    EXPECT_IDS(t, "k k ", 0, TINY_SPM_SPACE, id, id);
    EXPECT_IDS(t, "jk", 0, TINY_SPM_SPACE, j, k);
    trueno_tokenizer_free(t);
}

static void user_defined_spaces_match_in_both_spellings(void **state)
{
    (void)state;
    for (int escaped = 0; escaped < 2; escaped++) {
        struct tiny_vocab v;
        struct keys off = {{{"tokenizer.ggml.add_space_prefix", 1, 0, NULL}}};
        tiny_spm(&v);
        trueno_token id = (trueno_token)v.n;
        tiny_str(&v, escaped ? "\xE2\x96\x81\xE2\x96\x81\xE2\x96\x81" : "   ", 0, 4);
        v.extra = write_keys;
        v.arg = &off;
        trueno_tokenizer *t = open_tiny(&v);
        EXPECT_IDS(t, "    hello", 0, id, find(t, "\xE2\x96\x81hello"));
        expect_round_trip(t, "a     b   ", 0);
        trueno_tokenizer_free(t);
    }
}

static void bpe_merges_by_rank(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_bpe(&v);
    trueno_tokenizer *t = open_tiny(&v);
    EXPECT_IDS(t, "hello", 0, find(t, "hello"));
    EXPECT_IDS(t, " hello", 0, find(t, "\xC4\xA0hello"));
    EXPECT_IDS(t, "the", 0, 't', find(t, "he")); /* "h e" has a lower rank than "t h" */
    EXPECT_IDS(t, "\xC3\xA9", 0, find(t, "\xC3\x83\xC2\xA9"));
    EXPECT_IDS(t, "\xFF", 0, 0xFF);
    trueno_tokenizer_free(t);
    /* where merges are ignored for whole pieces, "the" is the token */
    tiny_bpe(&v);
    v.pre = "llama-bpe";
    t = open_tiny(&v);
    EXPECT_IDS(t, "the", 0, find(t, "the"));
    EXPECT_IDS(t, "thex", 0, 't', find(t, "he"), 'x');
    trueno_tokenizer_free(t);
}

static void bos_and_eos_follow_type_name_and_keys(void **state)
{
    (void)state;
    static const struct {
        const char *pre;      /* NULL: SPM */
        int add_bos, add_eos; /* -1: no key */
        bool bos, eos;
    } cases[] = {
        {NULL, -1, -1, true, false},        {NULL, 0, 1, false, true},
        {"gpt-2", -1, -1, false, false},    {"gpt-2", 1, 1, true, true},
        {"llama-bpe", -1, -1, true, false}, {"llama-bpe", 0, -1, false, false},
        {"tekken", -1, -1, true, false},    {"qwen2", -1, -1, false, false},
        {"dbrx", -1, -1, false, false},     {"falcon3", -1, 1, true, true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tiny_vocab v;
        struct keys k = {{{NULL, 0, 0, NULL}}};
        size_t n = 0;
        if (cases[i].add_bos >= 0) {
            k.key[n].key = "tokenizer.ggml.add_bos_token", k.key[n].kind = 1;
            k.key[n++].value = (uint32_t)cases[i].add_bos;
        }
        if (cases[i].add_eos >= 0) {
            k.key[n].key = "tokenizer.ggml.add_eos_token", k.key[n].kind = 1;
            k.key[n++].value = (uint32_t)cases[i].add_eos;
        }
        if (cases[i].pre)
            tiny_bpe(&v);
        else
            tiny_spm(&v);
        if (cases[i].pre) v.pre = cases[i].pre;
        v.extra = write_keys;
        v.arg = &k;
        trueno_tokenizer *t = open_tiny(&v);
        trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
        assert_int_equal(trueno_tokenizer_get_info(t, &info), TRUENO_OK);
        assert_int_equal(info.add_bos, cases[i].bos);
        assert_int_equal(info.add_eos, cases[i].eos);
        trueno_token ids[8];
        size_t m;
        trueno_encode(t, ids, 8, &m, "q", 1, TRUENO_ENCODE_SPECIAL, NULL);
        assert_int_equal(ids[0] == info.bos, cases[i].bos);
        assert_int_equal(ids[m - 1] == info.eos, cases[i].eos);
        trueno_encode(t, ids, 8, &m, "q", 1, 0, NULL);
        assert_int_not_equal(ids[0], info.bos);
        trueno_tokenizer_free(t);
    }
}

static void facts_are_those_of_the_file(void **state)
{
    (void)state;
    struct tiny_vocab v;
    struct keys k = {{{"tokenizer.ggml.bos_token_id", 0, 5, NULL},
                      {"tokenizer.ggml.eot_token_id", 0, 6, NULL},
                      {"tokenizer.ggml.padding_token_id", 0, 7, NULL}}};
    tiny_spm(&v);
    uint32_t n = (uint32_t)v.n;
    v.extra = write_keys;
    v.arg = &k;
    trueno_tokenizer *t = open_tiny(&v);
    trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
    assert_int_equal(trueno_tokenizer_get_info(t, &info), TRUENO_OK);
    assert_string_equal(info.model, "spm");
    assert_string_equal(info.pre, "default");
    assert_int_equal(info.n_vocab, n);
    assert_int_equal(info.bos, 5);
    assert_int_equal(info.eos, 2);
    assert_int_equal(info.eot, 6);
    assert_int_equal(info.unk, 0);
    assert_int_equal(info.pad, 7);
    assert_true(info.add_space_prefix);
    static const int kinds[] = {2, 3, 3, 6};
    for (int i = 0; i < 4; i++) assert_int_equal(trueno_token_get_kind(t, i), kinds[i]);
    trueno_tokenizer_free(t);
}

static void the_end_of_generation_is_a_set(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "<|eot_id|>",           "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>",
        "<|end_of_text|>",      "<|eom_id|>", "<EOT>",   "<|return|>",    "<|call|>",
        "<｜end▁of▁sentence｜>"};
    struct tiny_vocab v;
    struct keys k = {{{"tokenizer.ggml.eos_token_id", 0, 10, NULL},
                      {"tokenizer.ggml.eot_token_id", 0, 11, NULL},
                      {"tokenizer.ggml.eom_token_id", 0, 12, NULL},
                      {"tokenizer.ggml.fim_pad_token_id", 0, 13, NULL},
                      {"tokenizer.ggml.fim_rep_token_id", 0, 14, NULL},
                      {"tokenizer.ggml.fim_sep_token_id", 0, 15, NULL}}};
    tiny_spm(&v);
    trueno_token first = (trueno_token)v.n;
    for (size_t i = 0; i < 11; i++) tiny_str(&v, texts[i], 0, 3);
    tiny_str(&v, "<|im_start|>", 0, 3);
    v.extra = write_keys;
    v.arg = &k;
    trueno_tokenizer *t = open_tiny(&v);
    for (trueno_token id = 0; id < first + 12; id++) {
        bool ends = (id >= 10 && id <= 15) || (id >= first && id < first + 11);
        assert_int_equal(trueno_token_is_end(t, id), ends);
    }
    trueno_tokenizer_free(t);
    /* defaults: SPM ends at 2, BPE at 11 */
    tiny_spm(&v);
    t = open_tiny(&v);
    assert_true(trueno_token_is_end(t, 2));
    assert_false(trueno_token_is_end(t, 1));
    trueno_tokenizer_free(t);
    tiny_bpe(&v);
    t = open_tiny(&v);
    assert_true(trueno_token_is_end(t, 11));
    assert_true(trueno_token_is_end(t, find(t, "<|im_end|>")));
    assert_false(trueno_token_is_end(t, find(t, "<|im_start|>")));
    trueno_tokenizer_free(t);
}

/* Phi-3 was trained without white space after its control tokens; only the name says so. */
static void phi3_skips_white_space_after_control_tokens(void **state)
{
    (void)state;
    static const char *const names[] = {"Phi3", "Phi 3", "microsoft_Phi-3-mini", "PHI-", "phi"};
    for (size_t i = 0; i < 5; i++) {
        struct tiny_vocab v;
        struct keys k = {{{"general.name", 2, 0, names[i]}}};
        tiny_spm(&v);
        trueno_token end = (trueno_token)v.n;
        tiny_str(&v, "<|end|>", 0, 3);
        v.extra = write_keys;
        v.arg = &k;
        trueno_tokenizer *t = open_tiny(&v);
        trueno_token hello = find(t, "\xE2\x96\x81hello"), s = TINY_SPM_SPACE;
        if (i == 0 || i == 2)
            EXPECT_IDS(t, "<|end|>\n hello", TRUENO_ENCODE_PARSE, end, hello);
        else
            EXPECT_IDS(t, "<|end|>\n hello", TRUENO_ENCODE_PARSE, end, s, TINY_SPM_BYTES + '\n',
                       hello);
        EXPECT_IDS(t, "<s>\n", TRUENO_ENCODE_PARSE, 1, s, TINY_SPM_BYTES + '\n');
        expect_round_trip(t, "<|end|> \n hello", 0);
        trueno_tokenizer_free(t);
    }
}

static void decode_prints_special_tokens_on_request(void **state)
{
    (void)state;
    struct tiny_vocab v;
    tiny_spm(&v);
    trueno_tokenizer *t = open_tiny(&v);
    const trueno_token ids[] = {1, find(t, "\xE2\x96\x81hello"), 2, find(t, "<user>")};
    char text[64];
    size_t len;
    assert_int_equal(trueno_decode(t, text, 64, &len, ids, 4, false, NULL), TRUENO_OK);
    assert_int_equal(len, 11);
    assert_memory_equal(text, "hello<user>", 11);
    assert_int_equal(trueno_decode(t, text, 64, &len, ids, 4, true, NULL), TRUENO_OK);
    assert_int_equal(len, 18);
    assert_memory_equal(text, "<s>hello</s><user>", 18);
    trueno_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(control_tokens_are_parsed_only_on_request),
        cmocka_unit_test(the_leftmost_then_the_longest_special_token_wins),
        cmocka_unit_test(spm_puts_a_space_first_and_after_special_tokens),
        cmocka_unit_test(spm_merges_by_score_then_leftmost),
        cmocka_unit_test(spm_orders_scores_as_numbers),
        cmocka_unit_test(spm_tokens_may_reach_over_spaces),
        cmocka_unit_test(user_defined_spaces_match_in_both_spellings),
        cmocka_unit_test(bpe_merges_by_rank),
        cmocka_unit_test(bos_and_eos_follow_type_name_and_keys),
        cmocka_unit_test(facts_are_those_of_the_file),
        cmocka_unit_test(the_end_of_generation_is_a_set),
        cmocka_unit_test(phi3_skips_white_space_after_control_tokens),
        cmocka_unit_test(decode_prints_special_tokens_on_request),
    };
    return cmocka_run_group_tests_name("tokenizer_rules", tests, setup, teardown);
}
