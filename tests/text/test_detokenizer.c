/* SPDX-License-Identifier: MIT */
/* Streaming detokeniser: complete characters only, replacement of broken bytes, the space before
 * the first word, and special tokens. Ids of bytes are those of tiny_spm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/tiny_vocab.h"

#define R "\xEF\xBF\xBD" /* U+FFFD */

static trueno_ctx *ctx;
static trueno_tokenizer *spm, *bpe;

static int setup(void **state)
{
    (void)state;
    struct tiny_vocab v;
    if (trueno_ctx_new(&ctx, NULL, NULL)) return 1;
    tiny_spm(&v);
    int bad = tiny_open(ctx, &v, NULL, &spm, NULL) != TRUENO_OK;
    tiny_free(&v);
    tiny_bpe(&v);
    bad |= tiny_open(ctx, &v, NULL, &bpe, NULL) != TRUENO_OK;
    tiny_free(&v);
    return bad;
}

static int teardown(void **state)
{
    (void)state;
    uint64_t now;
    trueno_tokenizer_free(spm);
    trueno_tokenizer_free(bpe);
    trueno_ctx_memory(ctx, &now, NULL);
    trueno_ctx_free(ctx);
    return now != 0;
}

static trueno_detokenizer *make(const trueno_tokenizer *t, bool special, bool keep, bool raw)
{
    trueno_detokenizer *d = NULL;
    trueno_detokenizer_options opt = TRUENO_DETOKENIZER_OPTIONS_INIT;
    opt.with_special = special;
    opt.keep_space_prefix = keep;
    opt.raw_bytes = raw;
    assert_int_equal(trueno_detokenizer_new(&d, t, &opt), TRUENO_OK);
    return d;
}

static void expect_push(trueno_detokenizer *d, trueno_token id, const char *want)
{
    const char *text;
    size_t len;
    assert_int_equal(trueno_detokenizer_push(d, id, &text, &len), TRUENO_OK);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
}

static void expect_flush(trueno_detokenizer *d, const char *want)
{
    const char *text;
    size_t len;
    assert_int_equal(trueno_detokenizer_flush(d, &text, &len), TRUENO_OK);
    assert_string_equal(text, want);
    assert_int_equal(len, strlen(want));
}

static trueno_token byte_id(unsigned char b)
{
    return TINY_SPM_BYTES + b;
}

static trueno_token find(const trueno_tokenizer *t, const char *text)
{
    trueno_token id = trueno_token_find(t, text, strlen(text));
    assert_int_not_equal(id, TRUENO_TOKEN_NONE);
    return id;
}

static void characters_come_when_complete(void **state)
{
    (void)state;
    static const char *const characters[] = {"A",
                                             "\xC3\xA9",
                                             "\xE2\x82\xAC",
                                             "\xF0\x9F\xA6\x99",
                                             "\xF4\x8F\xBF\xBF",
                                             "\xED\x9F\xBF",
                                             "\xE0\xA0\x80"};
    trueno_detokenizer *d = make(spm, false, false, false);
    for (size_t i = 0; i < sizeof characters / sizeof characters[0]; i++) {
        const char *c = characters[i];
        for (size_t k = 0; c[k]; k++)
            expect_push(d, byte_id((unsigned char)c[k]), c[k + 1] ? "" : c);
        expect_flush(d, "");
    }
    trueno_detokenizer_free(d);
}

/* All bytes, then flush; whatever comes out, joined. */
static void stream_bytes(trueno_detokenizer *d, const char *bytes, size_t n, char *out)
{
    const char *text;
    size_t len, total = 0;
    trueno_detokenizer_reset(d);
    for (size_t i = 0; i <= n; i++) {
        if (i < n)
            trueno_detokenizer_push(d, byte_id((unsigned char)bytes[i]), &text, &len);
        else
            trueno_detokenizer_flush(d, &text, &len);
        memcpy(out + total, text, len);
        total += len;
    }
    out[total] = 0;
}

/* Tables 3-8 to 3-11 of the Unicode Standard, version 15: one U+FFFD for each maximal part. */
static void broken_bytes_are_replaced_as_unicode_shows(void **state)
{
    (void)state;

    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41", R R R R R R R R "A"},
        {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41", R R R R R R R R "A"},
        {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42", R R R R R "A" R R "B"},
        {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", R R R R "A"},
        {"\xC3", R},
        {"\xE2\x82", R},
        {"a\xF0\x9F\xA6", "a" R},
    };
    trueno_detokenizer *d = make(spm, false, false, false), *raw = make(spm, false, false, true);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[128];
        size_t n = strlen(cases[i].bytes);
        stream_bytes(d, cases[i].bytes, n, out);
        assert_string_equal(out, cases[i].text);
        stream_bytes(raw, cases[i].bytes, n, out);
        assert_string_equal(out, cases[i].bytes);
    }
    trueno_detokenizer_free(d);
    trueno_detokenizer_free(raw);
}

static void a_new_character_ends_a_broken_one(void **state)
{
    (void)state;
    trueno_detokenizer *d = make(spm, false, false, false);
    expect_push(d, byte_id(0xE2), "");
    expect_push(d, byte_id(0x82), "");
    expect_push(d, find(spm, "hello"), R "hello");
    expect_push(d, byte_id(0xF0), "");
    expect_push(d, byte_id(0xC3), R);
    expect_push(d, byte_id(0xA9), "\xC3\xA9");
    trueno_detokenizer_free(d);
}

static void the_space_before_the_first_word_goes(void **state)
{
    (void)state;
    trueno_token word = find(spm, "\xE2\x96\x81hello"), space = TINY_SPM_SPACE;
    trueno_detokenizer *d = make(spm, false, false, false), *keep = make(spm, false, true, false);
    for (int again = 0; again < 2; again++) {
        expect_push(d, 1, ""); /* BOS prints nothing */
        expect_push(d, word, "hello");
        expect_push(d, word, " hello");
        trueno_detokenizer_reset(d);
        expect_push(keep, word, " hello");
        expect_push(keep, word, " hello");
        trueno_detokenizer_reset(keep);
    }
    /* only one space */
    expect_push(d, space, "");
    expect_push(d, space, " ");
    trueno_detokenizer_reset(d);
    expect_push(d, find(spm, "\xE2\x96\x81\xE2\x96\x81"), " ");
    trueno_detokenizer_reset(d);
    expect_push(d, byte_id(' '), "");
    expect_push(d, byte_id(' '), " ");
    trueno_detokenizer_reset(d);
    expect_push(d, find(spm, "hello"), "hello");
    expect_push(d, word, " hello");
    trueno_detokenizer_free(d);
    trueno_detokenizer_free(keep);
    /* BPE puts none, and drops none */
    d = make(bpe, false, false, false);
    expect_push(d, find(bpe, "\xC4\xA0hello"), " hello");
    trueno_detokenizer_free(d);
}

static void special_tokens_print_on_request(void **state)
{
    (void)state;
    trueno_token start = find(bpe, "<|im_start|>"), user = find(bpe, "<user>");
    trueno_detokenizer *d = make(bpe, false, false, false), *all = make(bpe, true, false, false);
    expect_push(d, start, "");
    expect_push(all, start, "<|im_start|>");
    expect_push(d, user, "<user>");
    expect_push(all, user, "<user>");
    trueno_detokenizer_free(d);
    trueno_detokenizer_free(all);
    d = make(spm, false, false, false);
    all = make(spm, true, false, false);
    expect_push(d, 0, "");
    expect_push(all, 0, "<unk>");
    /* encode puts a space after a token that it cut out of text; decode takes it away */
    expect_push(all, find(spm, "\xE2\x96\x81hello"), "hello");
    expect_push(d, find(spm, "<user>"), "<user>");
    expect_push(d, find(spm, "\xE2\x96\x81hello"), "hello");
    trueno_detokenizer_free(d);
    trueno_detokenizer_free(all);
}

static void bad_ids_change_nothing(void **state)
{
    (void)state;
    static const trueno_token bad[] = {-1, INT32_MIN, INT32_MAX, 100000};
    trueno_detokenizer *d = make(spm, false, false, false);
    const char *text;
    size_t len;
    expect_push(d, byte_id(0xC3), "");
    for (size_t i = 0; i < 4; i++) {
        len = 9;
        assert_int_equal(trueno_detokenizer_push(d, bad[i], &text, &len), TRUENO_ERR_ARGUMENT);
        assert_string_equal(text, "");
        assert_int_equal(len, 0);
    }
    assert_int_equal(trueno_detokenizer_push(d, 5, NULL, &len), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_detokenizer_push(d, 5, &text, NULL), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_detokenizer_push(NULL, 5, &text, &len), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_detokenizer_flush(NULL, &text, &len), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_detokenizer_flush(d, NULL, &len), TRUENO_ERR_ARGUMENT);
    expect_push(d, byte_id(0xA9), "\xC3\xA9");
    trueno_detokenizer_free(d);
    trueno_detokenizer_free(NULL);
    trueno_detokenizer_reset(NULL);
    d = (trueno_detokenizer *)&len;
    assert_int_equal(trueno_detokenizer_new(&d, NULL, NULL), TRUENO_ERR_ARGUMENT);
    assert_null(d);
    assert_int_equal(trueno_detokenizer_new(NULL, spm, NULL), TRUENO_ERR_ARGUMENT);
    trueno_detokenizer_options opt = TRUENO_DETOKENIZER_OPTIONS_INIT;
    opt.struct_size = 4;
    assert_int_equal(trueno_detokenizer_new(&d, spm, &opt), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_detokenizer_new(&d, spm, NULL), TRUENO_OK);
    trueno_detokenizer_free(d);
}

static void a_NUL_is_a_character(void **state)
{
    (void)state;
    trueno_detokenizer *d = make(spm, false, false, false);
    const char *text;
    size_t len;
    assert_int_equal(trueno_detokenizer_push(d, byte_id(0), &text, &len), TRUENO_OK);
    assert_int_equal(len, 1);
    assert_memory_equal(text, "\0", 2);
    trueno_detokenizer_free(d);
}

static void the_longest_token_fits(void **state)
{
    (void)state;
    struct tiny_vocab v;
    trueno_tokenizer *t;
    static char text[64 << 10];
    memset(text, 0xFF, sizeof text);
    tiny_spm(&v);
    trueno_token id = (trueno_token)v.n;
    tiny_add(&v, text, sizeof text, 0, 1);
    assert_int_equal(tiny_open(ctx, &v, NULL, &t, NULL), TRUENO_OK);
    tiny_free(&v);
    trueno_detokenizer *d = make(t, false, false, false);
    const char *out;
    size_t len;
    expect_push(d, byte_id(0xE2), "");
    assert_int_equal(trueno_detokenizer_push(d, id, &out, &len), TRUENO_OK);
    assert_int_equal(len, 3 * (sizeof text + 1)); /* each byte is one U+FFFD, and the one held */
    trueno_detokenizer_free(d);
    trueno_tokenizer_free(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(characters_come_when_complete),
        cmocka_unit_test(broken_bytes_are_replaced_as_unicode_shows),
        cmocka_unit_test(a_new_character_ends_a_broken_one),
        cmocka_unit_test(the_space_before_the_first_word_goes),
        cmocka_unit_test(special_tokens_print_on_request),
        cmocka_unit_test(bad_ids_change_nothing),
        cmocka_unit_test(a_NUL_is_a_character),
        cmocka_unit_test(the_longest_token_fits),
    };
    return cmocka_run_group_tests_name("detokenizer", tests, setup, teardown);
}
