/* SPDX-License-Identifier: MIT */
/* Chat formats: the published layout of each for one conversation, detection from template texts,
 * and the one BOS that the tokenizer adds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "text/tiny_vocab.h"

/* The spaces round the answer show which formats trim. */
static const trueno_chat_message conversation[] = {
    {"system", "S"}, {"user", "U"}, {"assistant", " A "}, {"user", "V"}};

#define EOS_DS "<｜end▁of▁sentence｜>"

/* clang-format off */
static const struct {
    const char *name, *text;
} expected[] = {
    {"chatml", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
               "<|im_start|>assistant\n A <|im_end|>\n<|im_start|>user\nV<|im_end|>\n"
               "<|im_start|>assistant\n"},
    {"phi4", "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>U<|im_end|>"
             "<|im_start|>assistant<|im_sep|> A <|im_end|><|im_start|>user<|im_sep|>V<|im_end|>"
             "<|im_start|>assistant<|im_sep|>"},
    {"llama2", "[INST] S\nU [/INST] A </s>[INST] V [/INST]"},
    {"llama2-sys", "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s>[INST] V [/INST]"},
    {"llama2-sys-bos", "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST] A </s><s>[INST] V [/INST]"},
    {"llama2-sys-strip", "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]A</s>[INST] V [/INST]"},
    {"llama3", "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|>"
               "<|start_header_id|>user<|end_header_id|>\n\nU<|eot_id|>"
               "<|start_header_id|>assistant<|end_header_id|>\n\nA<|eot_id|>"
               "<|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>"
               "<|start_header_id|>assistant<|end_header_id|>\n\n"},
    {"llama4", "<|header_start|>system<|header_end|>\n\nS<|eot|>"
               "<|header_start|>user<|header_end|>\n\nU<|eot|>"
               "<|header_start|>assistant<|header_end|>\n\nA<|eot|>"
               "<|header_start|>user<|header_end|>\n\nV<|eot|>"
               "<|header_start|>assistant<|header_end|>\n\n"},
    {"mistral-v1", " [INST] S\n\nU [/INST]  A </s> [INST] V [/INST]"},
    {"mistral-v3", "[INST] S\n\nU[/INST] A</s>[INST] V[/INST]"},
    {"mistral-v3-tekken", "[INST]S\n\nU[/INST] A </s>[INST]V[/INST]"},
    {"mistral-v7", "[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] U[/INST]  A </s>[INST] V[/INST]"},
    {"mistral-v7-tekken", "[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]U[/INST] A </s>[INST]V[/INST]"},
    {"gemma", "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
              "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n"},
    {"phi3", "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\n A <|end|>\n"
             "<|user|>\nV<|end|>\n<|assistant|>\n"},
    {"zephyr", "<|system|>\nS<|endoftext|>\n<|user|>\nU<|endoftext|>\n"
               "<|assistant|>\n A <|endoftext|>\n<|user|>\nV<|endoftext|>\n<|assistant|>\n"},
    {"zephyr-eos", "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\n A </s>\n"
                   "<|user|>\nV</s>\n<|assistant|>\n"},
    {"falcon3", "<|system|>\nS\n<|user|>\nU\n<|assistant|>\n A \n<|user|>\nV\n<|assistant|>\n"},
    {"vicuna", "S\n\nUSER: U\nASSISTANT:  A </s>\nUSER: V\nASSISTANT:"},
    {"vicuna-orca", "SYSTEM: S\nUSER: U\nASSISTANT:  A </s>\nUSER: V\nASSISTANT:"},
    {"openchat", "S<|end_of_turn|>GPT4 Correct User: U<|end_of_turn|>"
                 "GPT4 Correct Assistant:  A <|end_of_turn|>"
                 "GPT4 Correct User: V<|end_of_turn|>GPT4 Correct Assistant:"},
    {"deepseek", "S### Instruction:\nU\n### Response:\n A \n<|EOT|>\n"
                 "### Instruction:\nV\n### Response:\n"},
    {"deepseek2", "S\n\nUser: U\n\nAssistant:  A " EOS_DS "User: V\n\nAssistant:"},
    {"deepseek3", "S\n\n<｜User｜>U<｜Assistant｜> A " EOS_DS "<｜User｜>V<｜Assistant｜>"},
    {"command-r", "<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>S<|END_OF_TURN_TOKEN|>"
                  "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>U<|END_OF_TURN_TOKEN|>"
                  "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>A<|END_OF_TURN_TOKEN|>"
                  "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>V<|END_OF_TURN_TOKEN|>"
                  "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>"},
    {"granite", "<|start_of_role|>system<|end_of_role|>S<|end_of_text|>\n"
                "<|start_of_role|>user<|end_of_role|>U<|end_of_text|>\n"
                "<|start_of_role|>assistant<|end_of_role|> A <|end_of_text|>\n"
                "<|start_of_role|>user<|end_of_role|>V<|end_of_text|>\n"
                "<|start_of_role|>assistant<|end_of_role|>"},
    {"chatglm3", "[gMASK]sop<|system|>\n S<|user|>\n U<|assistant|>\n  A <|user|>\n V"
                 "<|assistant|>"},
    {"chatglm4", "[gMASK]<sop><|system|>\nS<|user|>\nU<|assistant|>\n A <|user|>\nV"
                 "<|assistant|>\n"},
    {"glmedge", "<|system|>\nS<|user|>\nU<|assistant|>\n A <|user|>\nV<|assistant|>"},
    {"exaone3", "[|system|]S[|endofturn|]\n[|user|]U\n[|assistant|]A[|endofturn|]\n"
                "[|user|]V\n[|assistant|]"},
};

/* Marks that templates of the wild have, cut down to what matters. */
static const struct {
    const char *jinja, *name; /* NULL: none */
} templates[] = {
    {"{% for m in messages %}{{'<|im_start|>' + m['role'] + '\\n'}}{% endfor %}", "chatml"},
    {"{{ '<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>' }}", "phi4"},
    {"{{ '[SYSTEM_PROMPT] ' + system_message + '[/SYSTEM_PROMPT]' }}[INST]", "mistral-v7"},
    {"{{- \"[SYSTEM_PROMPT] \" + messages[0]['content'] + \"[/SYSTEM_PROMPT]\" }} \"[INST] \"",
     "mistral-v7"},
    /* Mistral Small 3.2, Devstral, Ministral: no space inside the literal */
    {"{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}{{ '[INST]' + x }}",
     "mistral-v7-tekken"},
    {"{{- bos_token + '[SYSTEM_PROMPT]' -}}{{ default_system_message }}[/SYSTEM_PROMPT] [INST]",
     "mistral-v7-tekken"},
    {"{% set s = ' [INST] ' + system_message + '\\n\\n' %}", "mistral-v1"},
    {"{{- \" [INST]\" + \"[AVAILABLE_TOOLS]\" }}", "mistral-v1"},
    {"{{- \"[AVAILABLE_TOOLS] [\" }}{{- \"[INST] \" + message }}", "mistral-v3"},
    {"{{- \"[AVAILABLE_TOOLS][\" }}{{- \"[INST]\" + message }}", "mistral-v3-tekken"},
    {"{{ '[INST] ' + message['content'] + ' [/INST]' }}", "llama2"},
    {"{{ '[INST] ' + '<<SYS>>\\n' + content + ' [/INST]' }}", "llama2-sys"},
    {"{{ '<<SYS>>' }}{{ bos_token + '[INST] ' + content + ' [/INST]' }}", "llama2-sys-bos"},
    {"{{ '<<SYS>>' }}{{ bos_token + '[INST] ' + content.strip() }}", "llama2-sys-strip"},
    {"{{'<|user|>' + '\\n' + message['content'] + '<|end|>' + '\\n' + '<|assistant|>'}}", "phi3"},
    /* Zephyr-beta: not GLM edge, though it has no </s> of its own */
    {"{{ '<|user|>\\n' + message['content'] + eos_token }}{{ '<|assistant|>\\n' }}", "zephyr-eos"},
    {"{{ '<|user|>\\n' + m['content'] + '\\n' }}{{ '<|assistant|>\\n' + '</s>' }}", "falcon3"},
    {"{{ '<|user|>\\n' + item['content'] }}<|assistant|>", "glmedge"},
    {"{{ '<|user|>' + m['content'] + '<|endoftext|>\\n' }}", "zephyr"},
    {"{{ '<start_of_turn>' + role + '\\n' + content + '<end_of_turn>\\n' }}", "gemma"},
    {"{{ 'GPT4 Correct ' + role + ': ' + content + '<|end_of_turn|>' }}", "openchat"},
    {"{{ 'USER: ' + content }}{{ 'ASSISTANT: ' + content + eos_token }}", "vicuna"},
    {"{{ 'SYSTEM: ' + content }}{{ 'USER: ' + content }}{{ 'ASSISTANT: ' }}", "vicuna-orca"},
    {"{{ '### Instruction:\\n' + content }}{{ '### Response:' + '<|EOT|>' }}", "deepseek"},
    {"<|START_OF_TURN_TOKEN|><|USER_TOKEN|>", "command-r"},
    {"<|start_header_id|>{{ role }}<|end_header_id|>", "llama3"},
    {"[gMASK]sop<|{{ role }}|>", "chatglm3"},
    {"[gMASK]<sop>{% for item in messages %}<|{{ role }}|>", "chatglm4"},
    {"{{ 'Assistant: ' + message['content'] + eos_token }}", "deepseek2"},
    {"{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}", "deepseek3"},
    {"{{ '[|' + role + '|]' + content + '[|endofturn|]\\n' }}", "exaone3"},
    {"<|start_of_role|>{{ role }}<|end_of_role|>", "granite"},
    {"{{ \"<|header_start|>\" + role + \"<|header_end|>\" }}", "llama4"},
    {"gemma", "gemma"},
    {"mistral-v3-tekken", "mistral-v3-tekken"},
    {"", NULL},
    {"{{ messages[0].content }}", NULL},
    {"mistral", NULL},
    {"gemma2", NULL},
    {"USER: only", NULL},
    {"### Instruction: without its end", NULL},
    {"<|user|> alone, <|end|> and <|assistan", NULL},
};
/* clang-format on */

enum { N_EXPECTED = sizeof expected / sizeof expected[0] };

static void every_format_prints_its_published_layout(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_EXPECTED; i++) {
        char text[1024];
        size_t len;
        trueno_error err;
        if (trueno_chat_apply(text, sizeof text, &len, expected[i].name, conversation, 4, true,
                              &err))
            fail_msg("%s: %s", expected[i].name, err.message);
        assert_string_equal(text, expected[i].text);
        assert_int_equal(len, strlen(expected[i].text));
    }
}

static void the_names_are_those_of_the_table(void **state)
{
    (void)state;
    size_t n = 0;
    while (trueno_chat_template_name(n)) n++;
    assert_int_equal(n, N_EXPECTED);
    for (size_t i = 0; i < N_EXPECTED; i++) {
        size_t k = 0;
        while (k < n && strcmp(trueno_chat_template_name(k), expected[i].name) != 0) k++;
        assert_true(k < n);
    }
    assert_null(trueno_chat_template_name(SIZE_MAX));
}

static void templates_are_recognised(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof templates / sizeof templates[0]; i++) {
        const char *name = "?", *jinja = templates[i].jinja;
        trueno_status status = trueno_chat_detect(&name, jinja, strlen(jinja));
        if (!templates[i].name) {
            if (name) fail_msg("%s is taken for %s", jinja, name);
            assert_int_equal(status, TRUENO_ERR_NOT_FOUND);
            continue;
        }
        if (status) fail_msg("%s is not recognised", jinja);
        assert_string_equal(name, templates[i].name);
    }
    /* the length counts, not a NUL */
    const char *name;
    assert_int_equal(trueno_chat_detect(&name, "<|im_start|>", 11), TRUENO_ERR_NOT_FOUND);
    assert_int_equal(trueno_chat_detect(&name, "\0<|im_start|>", 13), TRUENO_OK);
}

/* The formats of the models whose vocabularies are at hand, without a system message, without the
 * prompt, and with nothing at all. */
static void parts_of_a_conversation(void **state)
{
    (void)state;
    static const trueno_chat_message user = {"user", "U"}, system = {"system", " S "};
    static const struct {
        const char *name;
        const trueno_chat_message *message;
        bool prompt;
        const char *text;
    } cases[] = {
        {"gemma", NULL, true, "<start_of_turn>model\n"},
        {"gemma", &user, false, "<start_of_turn>user\nU<end_of_turn>\n"},
        {"gemma", &system, true, "<start_of_turn>user\nS\n\n<end_of_turn>\n<start_of_turn>model\n"},
        {"chatml", NULL, false, ""},
        {"chatml", &user, false, "<|im_start|>user\nU<|im_end|>\n"},
        {"llama2-sys", &user, true, "[INST] U [/INST]"},
        {"llama2-sys-bos", &user, true, "[INST] U [/INST]"},
        {"mistral-v3", &system, false, "[INST]  S \n\n[/INST]"},
        {"chatglm4", NULL, false, "[gMASK]<sop>"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[256];
        size_t len;
        assert_int_equal(trueno_chat_apply(text, sizeof text, &len, cases[i].name, cases[i].message,
                                           cases[i].message != NULL, cases[i].prompt, NULL),
                         TRUENO_OK);
        assert_string_equal(text, cases[i].text);
    }
}

/* A turn that was opened by a system message and has no user message is closed. */
static void a_system_message_before_an_answer_is_closed(void **state)
{
    (void)state;
    static const trueno_chat_message m[] = {{"system", "S"}, {"assistant", "A"}};
    char text[256];
    size_t len;
    assert_int_equal(trueno_chat_apply(text, sizeof text, &len, "gemma", m, 2, false, NULL),
                     TRUENO_OK);
    assert_string_equal(text, "<start_of_turn>user\nS\n\n<end_of_turn>\n"
                              "<start_of_turn>model\nA<end_of_turn>\n");
    assert_int_equal(trueno_chat_apply(text, sizeof text, &len, "llama2", m, 2, false, NULL),
                     TRUENO_OK);
    assert_string_equal(text, "[INST] S\n [/INST]A</s>");
}

static void text_that_does_not_fit_is_cut_and_counted(void **state)
{
    (void)state;
    const char *whole = expected[0].text;
    for (size_t cap = 0; cap <= strlen(whole) + 2; cap++) {
        char text[512];
        size_t len;
        memset(text, '#', sizeof text);
        assert_int_equal(
            trueno_chat_apply(cap ? text : NULL, cap, &len, "chatml", conversation, 4, true, NULL),
            TRUENO_OK);
        assert_int_equal(len, strlen(whole));
        size_t shown = cap == 0 ? 0 : len < cap ? len : cap - 1;
        assert_memory_equal(text, whole, shown);
        if (cap) assert_int_equal(text[shown], 0);
        assert_int_equal(text[cap ? shown + 1 : 0], '#');
    }
}

static void wrong_arguments_are_refused(void **state)
{
    (void)state;
    char text[64] = "#";
    size_t len = 7;
    const char *name;
    trueno_error err;
    trueno_chat_message m = {"user", "U"};
    const char *const roles[] = {"", "User", "tool", "system ", "%s"};
    for (size_t i = 0; i < 5; i++) {
        trueno_chat_message bad[] = {{"user", "U"}, {roles[i], "x"}};
        assert_int_equal(trueno_chat_apply(text, 64, &len, "chatml", bad, 2, true, &err),
                         TRUENO_ERR_ARGUMENT);
        assert_int_equal(len, 0);
        assert_int_equal(text[0], 0);
    }
    trueno_chat_message no_role = {NULL, "x"}, no_content = {"user", NULL};
    assert_int_equal(trueno_chat_apply(text, 64, &len, "chatml", &no_role, 1, true, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_apply(text, 64, &len, "chatml", &no_content, 1, true, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_apply(NULL, 64, &len, "chatml", &m, 1, true, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_apply(text, 64, NULL, "chatml", &m, 1, true, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_apply(text, 64, &len, NULL, &m, 1, true, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_apply(text, 64, &len, "chatml", NULL, 1, true, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_apply(text, 64, &len, "no such", &m, 1, true, &err),
                     TRUENO_ERR_NOT_FOUND);
    assert_non_null(strstr(err.message, "no such"));
    assert_int_equal(trueno_chat_detect(NULL, "x", 1), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_detect(&name, NULL, 1), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_detect_gguf(&name, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_chat_detect_gguf(NULL, NULL, &err), TRUENO_ERR_ARGUMENT);
}

static void text_above_16_MiB_is_refused(void **state)
{
    (void)state;
    size_t n = 9 << 20, len;
    char *content = malloc(n + 1);
    trueno_error err;
    assert_non_null(content);
    memset(content, 'x', n);
    content[n] = 0;
    trueno_chat_message m[2] = {{"user", content}, {"user", content}};
    assert_int_equal(trueno_chat_apply(NULL, 0, &len, "chatml", m, 1, true, &err), TRUENO_OK);
    assert_true(len > n);
    assert_int_equal(trueno_chat_apply(NULL, 0, &len, "chatml", m, 2, true, &err),
                     TRUENO_ERR_TOO_LARGE);
    assert_int_equal(len, 0);
    free(content);
}

static size_t count_ids(const trueno_token *ids, size_t n, trueno_token id)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += ids[i] == id;
    return count;
}

/* The formats print no BOS, the tokenizer adds it: exactly one, at the start. (The one format that
 * repeats BOS does so only before a second turn.) */
static void a_conversation_has_exactly_one_bos(void **state)
{
    (void)state;
    trueno_ctx *ctx;
    trueno_tokenizer *t;
    trueno_error err;
    struct tiny_vocab v;
    tiny_spm(&v);
    assert_int_equal(trueno_ctx_new(&ctx, NULL, NULL), TRUENO_OK);
    assert_int_equal(tiny_open(ctx, &v, NULL, &t, &err), TRUENO_OK);
    tiny_free(&v);
    trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
    trueno_tokenizer_get_info(t, &info);
    assert_int_equal(info.bos, 1);
    for (size_t i = 0; i < N_EXPECTED; i++) {
        char text[1024];
        trueno_token ids[1024];
        size_t len, n;
        trueno_chat_apply(text, sizeof text, &len, expected[i].name, conversation, 2, true, NULL);
        assert_int_equal(trueno_encode(t, ids, 1024, &n, text, len,
                                       TRUENO_ENCODE_SPECIAL | TRUENO_ENCODE_PARSE, &err),
                         TRUENO_OK);
        assert_in_range(n, 2, 1024);
        assert_int_equal(ids[0], info.bos);
        assert_int_equal(count_ids(ids, n, info.bos), 1);
    }
    trueno_tokenizer_free(t);
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_format_prints_its_published_layout),
        cmocka_unit_test(the_names_are_those_of_the_table),
        cmocka_unit_test(templates_are_recognised),
        cmocka_unit_test(parts_of_a_conversation),
        cmocka_unit_test(a_system_message_before_an_answer_is_closed),
        cmocka_unit_test(text_that_does_not_fit_is_cut_and_counted),
        cmocka_unit_test(wrong_arguments_are_refused),
        cmocka_unit_test(text_above_16_MiB_is_refused),
        cmocka_unit_test(a_conversation_has_exactly_one_bos),
    };
    return cmocka_run_group_tests_name("chat", tests, NULL, NULL);
}
