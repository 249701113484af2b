/* SPDX-License-Identifier: MIT */
/* Pieces of every pre-tokenizer. The table was made with the Python module regex (2026.11.15) from
 * the published expressions, pass by pass; '#' stands between pieces. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/pretokenize.h"

enum { N_TEXTS = 5 };

/* clang-format off */
static const char *const texts[N_TEXTS] = {
    "Hello  world's 12345 DON'T\n\n  x",
    "f(a)=>{b`c`+$3.50};\r\n\tend  ",
    "Füße 素早い茶色 한국어ab 😀!! éx",
    "a \342\200\203b\343\200\200c\n \n d",
    "HTTPServer x2²½ ＡＢ，〜。“q” ",
};

static const struct {
    const char *name;
    const char *pieces[N_TEXTS];
} schemes[] = {
    {"gpt-2",
     {
         "Hello# # world#'s# 12345# DON#'#T#\n\n # x",
         "f#(#a#)=>{#b#`#c#`+$#3#.#50#};#\r\n#\t#end#  ",
         "Füße# 素早い茶色# 한국어ab# 😀!!# éx",
         "a# #\342\200\203#b#\343\200\200#c#\n \n# d",
         "HTTPServer# x#2²½# ＡＢ#，〜。“#q#”# ",
     }},
    {"starcoder",
     {
         "Hello# # world#'s# #1#2#3#4#5# DON#'#T#\n\n # x",
         "f#(#a#)=>{#b#`#c#`+$#3#.#5#0#};#\r\n#\t#end#  ",
         "Füße# 素早い茶色# 한국어ab# 😀!!# éx",
         "a# #\342\200\203#b#\343\200\200#c#\n \n# d",
         "HTTPServer# x#2#²#½# ＡＢ#，〜。“#q#”# ",
     }},
    {"llama-bpe",
     {
         "Hello# # world#'s# #123#45# DON#'T#\n\n# # x",
         "f#(a#)=>{#b#`c#`+$#3#.#50#};\r\n#\tend#  ",
         "Füße# 素早い茶色# 한국어ab# 😀!!# éx",
         "a# #\342\200\203b#\343\200\200c#\n \n# d",
         "HTTPServer# x#2²½# ＡＢ#，〜。“#q#”# ",
     }},
    {"qwen2",
     {
         "Hello# # world#'s# #1#2#3#4#5# DON#'T#\n\n# # x",
         "f#(a#)=>{#b#`c#`+$#3#.#5#0#};\r\n#\tend#  ",
         "Füße# 素早い茶色# 한국어ab# 😀!!# éx",
         "a# #\342\200\203b#\343\200\200c#\n \n# d",
         "HTTPServer# x#2#²#½# ＡＢ#，〜。“#q#”# ",
     }},
    {"falcon",
     {
         "Hello# # world#'#s# #123#45# DON#'#T#\n\n # x",
         "f#(#a#)=>{#b#`#c#`+$#3#.#50#};#\r\n#\t#end#  ",
         "Füße# 素早い茶色# 한국어ab# 😀#!!# éx",
         "a# #\342\200\203#b#\343\200\200#c#\n \n# d",
         "HTTPServer# x#2²½# ＡＢ#，〜。“#q#”# ",
     }},
    {"default",
     {
         "Hello# # world#'#s# #123#45# DON#'#T#\n\n # x",
         "f#(#a#)=>{#b#`#c#`#+$#3#.#50#};#\r\n#\t#end#  ",
         "Füße# 素早い茶色# 한국어ab# 😀#!!# éx",
         "a# #\342\200\203#b#\343\200\200#c#\n \n# d",
         "HTTPServer# x#2²½# ＡＢ#，〜。“#q#”# ",
     }},
    {"deepseek-coder",
     {
         "Hello# # world#'#s# #1#2#3#4#5# DON#'#T#\n#\n# # x",
         "f#(#a#)#=>#{#b#`#c#`+$#3#.#5#0#};#\r#\n#\tend#  ",
         "Füße# #素早い茶色# #한국어#ab# 😀#!!# éx",
         "a# #\342\200\203#b#\343\200\200#c#\n# #\n# d",
         "HTTPServer# x#2#²#½# ＡＢ#，#〜。“#q#”# ",
     }},
    {"deepseek-llm",
     {
         "Hello# # world#'#s# #12345# DON#'#T#\n#\n# # x",
         "f#(#a#)=>{#b#`#c#`+$#3#.#50#};#\r#\n#\tend#  ",
         "F#üß#e# #素早い茶色# #한국어#ab# 😀#!!# é#x",
         "a# #\342\200\203#b#\343\200\200#c#\n# #\n# d",
         "HTTPServer# x#2²½# ＡＢ#，#〜#。“#q#”# ",
     }},
    {"deepseek-v3",
     {
         "Hello# # world#'s# #123#45# DON#'T#\n\n# # x",
         "f#(a#)=>{#b#`c#`+$#3#.#50#};\r\n#\tend#  ",
         "Füße# #素早い茶色# 한국어ab# 😀!!# éx",
         "a# #\342\200\203b#\343\200\200c#\n \n# d",
         "HTTPServer# x#2²½# ＡＢ#，〜。“#q#”# ",
     }},
    {"tekken",
     {
         "Hello# # world#'s# #1#2#3#4#5# DON#'T#\n\n# # x",
         "f#(a#)=>{#b#`c#`+$#3#.#5#0#};\r\n#\tend#  ",
         "Füße# 素早い茶色# 한국어ab# 😀!!# éx",
         "a# #\342\200\203b#\343\200\200c#\n \n# d",
         "HTTPServer# x#2#²#½# ＡＢ#，〜。“#q#”# ",
     }},
};
/* clang-format on */

/* Names that share the expressions of another. */
static const char *const same[][2] = {
    {"phi-2", "gpt-2"},
    {"mpt", "gpt-2"},
    {"olmo", "gpt-2"},
    {"jais", "gpt-2"},
    {"jina-v2-code", "gpt-2"},
    {"smollm", "starcoder"},
    {"refact", "starcoder"},
    {"command-r", "starcoder"},
    {"codeshell", "starcoder"},
    {"exaone", "starcoder"},
    {"minerva-7b", "starcoder"},
    {"llama3", "llama-bpe"},
    {"llama-v3", "llama-bpe"},
    {"falcon3", "llama-bpe"},
    {"dbrx", "llama-bpe"},
    {"smaug-bpe", "llama-bpe"},
    {"chatglm-bpe", "llama-bpe"},
    {"deepseek-r1-qwen", "qwen2"},
    {"stablelm2", "qwen2"},
    {"megrez", "qwen2"},
    {"unheard-of", "default"},
    {"jina", "default"},
    {"", "default"},
};

struct joined {
    char text[512];
    size_t n;
};

static trueno_status join_piece(void *arg, const char *piece, size_t len, trueno_error *err)
{
    struct joined *j = arg;
    (void)err;
    assert_true(len > 0 && j->n + len + 1 < sizeof j->text);
    if (j->n) j->text[j->n++] = '#';
    memcpy(j->text + j->n, piece, len);
    j->n += len;
    return TRUENO_OK;
}

static void check_pieces(const struct tr_pre *pre, const char *name, const char *text,
                         const char *expected)
{
    struct joined j = {.n = 0};
    trueno_error err;
    pcre2_match_data *match = tr_pre_match_data(pre);
    assert_int_equal(tr_pre_split(pre, match, text, strlen(text), join_piece, &j, &err), TRUENO_OK);
    pcre2_match_data_free(match);
    j.text[j.n] = 0;
    if (strcmp(j.text, expected) != 0) fail_msg("%s\n  has  %s\n  must %s", name, j.text, expected);
}

static void check_scheme(trueno_ctx *ctx, const char *name, const char *const *expected)
{
    struct tr_pre pre = {0};
    assert_int_equal(tr_pre_init(&pre, ctx, (trueno_str){name, strlen(name)}, NULL), TRUENO_OK);
    for (size_t i = 0; i < N_TEXTS; i++) check_pieces(&pre, name, texts[i], expected[i]);
    tr_pre_free(&pre);
}

static void pieces_are_those_of_the_published_expressions(void **state)
{
    trueno_ctx *ctx = *state;
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++)
        check_scheme(ctx, schemes[i].name, schemes[i].pieces);
}

static void names_of_one_family_split_alike(void **state)
{
    trueno_ctx *ctx = *state;
    for (size_t i = 0; i < sizeof same / sizeof same[0]; i++) {
        size_t k = 0;
        while (strcmp(schemes[k].name, same[i][1]) != 0) k++;
        check_scheme(ctx, same[i][0], schemes[k].pieces);
    }
}

/* llama-bpe and its three other names, and tekken, take whole pieces and begin with BOS. */
static void only_some_names_ignore_merges_and_add_bos(void **state)
{
    static const char *const those[] = {"llama-bpe", "llama3", "llama-v3", "falcon3", "tekken"};
    trueno_ctx *ctx = *state;
    size_t n = 0;
    for (size_t i = 0; i < sizeof same / sizeof same[0] + sizeof schemes / sizeof schemes[0]; i++) {
        size_t n_same = sizeof same / sizeof same[0];
        const char *name = i < n_same ? same[i][0] : schemes[i - n_same].name;
        trueno_str str = {name, strlen(name)};
        struct tr_pre pre = {0};
        bool add_bos, want = false;
        (void)tr_pre_known(str, &add_bos);
        for (size_t k = 0; k < 5; k++) want |= strcmp(those[k], name) == 0;
        assert_int_equal(tr_pre_init(&pre, ctx, str, NULL), TRUENO_OK);
        assert_int_equal(pre.ignore_merges, want);
        assert_int_equal(add_bos, want);
        tr_pre_free(&pre);
        n += want;
    }
    assert_int_equal(n, 5);
}

/* U+180E is not white space in the expressions (it is in PCRE2's \s); bytes that are not UTF-8 are
 * pieces of their own, and the text around them is split as if they ended it. */
static void odd_characters(void **state)
{
    trueno_ctx *ctx = *state;
    struct tr_pre pre = {0};
    assert_int_equal(tr_pre_init(&pre, ctx, (trueno_str){"gpt-2", 5}, NULL), TRUENO_OK);
    check_pieces(&pre, "U+180E", "a\341\240\216\341\240\216b !", "a#\341\240\216\341\240\216#b# !");
    check_pieces(&pre, "broken", "ab\377\377 c  \302", "ab#\377#\377# c#  #\302");
    check_pieces(&pre, "surrogate", "x\355\240\200y", "x#\355#\240#\200#y");
    check_pieces(&pre, "overlong", "\300\257\360\202\202\254", "\300#\257#\360#\202#\202#\254");
    tr_pre_free(&pre);
}

static int setup(void **state)
{
    trueno_ctx *ctx = NULL;
    int rc = trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK;
    *state = ctx;
    return rc;
}

static int teardown(void **state)
{
    uint64_t now;
    trueno_ctx_memory(*state, &now, NULL);
    trueno_ctx_free(*state);
    return now != 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pieces_are_those_of_the_published_expressions),
        cmocka_unit_test(names_of_one_family_split_alike),
        cmocka_unit_test(only_some_names_ignore_merges_and_add_bos),
        cmocka_unit_test(odd_characters),
    };
    return cmocka_run_group_tests_name("pretokenize", tests, setup, teardown);
}
