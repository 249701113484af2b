/* SPDX-License-Identifier: MIT */
/* The table of chat formats. Each is the layout that the model of that name was trained with, as
 * its published template prints it, without BOS. */
#include "text/chat.h"

#include <string.h>

#define DEEPSEEK_END                                                                               \
    "<\xEF\xBD\x9C"                                                                                \
    "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>"
#define DEEPSEEK_USER "<\xEF\xBD\x9CUser\xEF\xBD\x9C>"
#define DEEPSEEK_ASSISTANT                                                                         \
    "<\xEF\xBD\x9C"                                                                                \
    "Assistant\xEF\xBD\x9C>"
#define COMMAND_R(who) "<|START_OF_TURN_TOKEN|><|" who "_TOKEN|>"
#define GRANITE(who)   "<|start_of_role|>" who "<|end_of_role|>"
#define LLAMA3(who)    "<|start_header_id|>" who "<|end_header_id|>\n\n"
#define LLAMA4(who)    "<|header_start|>" who "<|header_end|>\n\n"

static const struct tr_chat_format formats[] = {
    {.name = "chatml",
     .role = {{"<|im_start|>system\n", "<|im_end|>\n"},
              {"<|im_start|>user\n", "<|im_end|>\n"},
              {"<|im_start|>assistant\n", "<|im_end|>\n"}},
     .prompt = "<|im_start|>assistant\n"},
    {.name = "phi4",
     .role = {{"<|im_start|>system<|im_sep|>", "<|im_end|>"},
              {"<|im_start|>user<|im_sep|>", "<|im_end|>"},
              {"<|im_start|>assistant<|im_sep|>", "<|im_end|>"}},
     .prompt = "<|im_start|>assistant<|im_sep|>"},
    {.name = "llama2", .role = {{"", "\n"}, {"", " [/INST]"}, {"", "</s>"}}, .open = "[INST] "},
    {.name = "llama2-sys",
     .role = {{"<<SYS>>\n", "\n<</SYS>>\n\n"}, {"", " [/INST]"}, {"", "</s>"}},
     .open = "[INST] "},
    {.name = "llama2-sys-bos",
     .role = {{"<<SYS>>\n", "\n<</SYS>>\n\n"}, {"", " [/INST]"}, {"", "</s>"}},
     .open = "<s>[INST] ",
     .open_first = "[INST] "},
    {.name = "llama2-sys-strip",
     .role = {{"<<SYS>>\n", "\n<</SYS>>\n\n"}, {"", " [/INST]"}, {"", "</s>"}},
     .open = "[INST] ",
     .trim = TR_TRIM_ALL},
    {.name = "llama3",
     .role = {{LLAMA3("system"), "<|eot_id|>"},
              {LLAMA3("user"), "<|eot_id|>"},
              {LLAMA3("assistant"), "<|eot_id|>"}},
     .prompt = LLAMA3("assistant"),
     .trim = TR_TRIM_ALL},
    {.name = "llama4",
     .role = {{LLAMA4("system"), "<|eot|>"},
              {LLAMA4("user"), "<|eot|>"},
              {LLAMA4("assistant"), "<|eot|>"}},
     .prompt = LLAMA4("assistant"),
     .trim = TR_TRIM_ALL},
    {.name = "mistral-v1",
     .role = {{"", "\n\n"}, {"", " [/INST]"}, {" ", "</s>"}},
     .open = " [INST] "},
    {.name = "mistral-v3",
     .role = {{"", "\n\n"}, {"", "[/INST]"}, {" ", "</s>"}},
     .open = "[INST] ",
     .trim = TR_TRIM_ASSISTANT},
    {.name = "mistral-v3-tekken",
     .role = {{"", "\n\n"}, {"", "[/INST]"}, {"", "</s>"}},
     .open = "[INST]"},
    {.name = "mistral-v7",
     .role = {{"[SYSTEM_PROMPT] ", "[/SYSTEM_PROMPT]"}, {"[INST] ", "[/INST]"}, {" ", "</s>"}}},
    {.name = "mistral-v7-tekken",
     .role = {{"[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"}, {"[INST]", "[/INST]"}, {"", "</s>"}}},
    {.name = "gemma",
     .role = {{"", "\n\n"}, {"", "<end_of_turn>\n"}, {"<start_of_turn>model\n", "<end_of_turn>\n"}},
     .prompt = "<start_of_turn>model\n",
     .open = "<start_of_turn>user\n",
     .trim = TR_TRIM_ALL},
    {.name = "phi3",
     .role = {{"<|system|>\n", "<|end|>\n"},
              {"<|user|>\n", "<|end|>\n"},
              {"<|assistant|>\n", "<|end|>\n"}},
     .prompt = "<|assistant|>\n"},
    {.name = "zephyr",
     .role = {{"<|system|>\n", "<|endoftext|>\n"},
              {"<|user|>\n", "<|endoftext|>\n"},
              {"<|assistant|>\n", "<|endoftext|>\n"}},
     .prompt = "<|assistant|>\n"},
    {.name = "zephyr-eos",
     .role = {{"<|system|>\n", "</s>\n"}, {"<|user|>\n", "</s>\n"}, {"<|assistant|>\n", "</s>\n"}},
     .prompt = "<|assistant|>\n"},
    {.name = "falcon3",
     .role = {{"<|system|>\n", "\n"}, {"<|user|>\n", "\n"}, {"<|assistant|>\n", "\n"}},
     .prompt = "<|assistant|>\n"},
    {.name = "vicuna",
     .role = {{"", "\n\n"}, {"USER: ", "\n"}, {"ASSISTANT: ", "</s>\n"}},
     .prompt = "ASSISTANT:"},
    {.name = "vicuna-orca",
     .role = {{"SYSTEM: ", "\n"}, {"USER: ", "\n"}, {"ASSISTANT: ", "</s>\n"}},
     .prompt = "ASSISTANT:"},
    {.name = "openchat",
     .role = {{"", "<|end_of_turn|>"},
              {"GPT4 Correct User: ", "<|end_of_turn|>"},
              {"GPT4 Correct Assistant: ", "<|end_of_turn|>"}},
     .prompt = "GPT4 Correct Assistant:"},
    {.name = "deepseek",
     .role = {{"", ""}, {"### Instruction:\n", "\n"}, {"### Response:\n", "\n<|EOT|>\n"}},
     .prompt = "### Response:\n"},
    {.name = "deepseek2",
     .role = {{"", "\n\n"}, {"User: ", "\n\n"}, {"Assistant: ", DEEPSEEK_END}},
     .prompt = "Assistant:"},
    {.name = "deepseek3",
     .role = {{"", "\n\n"}, {DEEPSEEK_USER, ""}, {DEEPSEEK_ASSISTANT, DEEPSEEK_END}},
     .prompt = DEEPSEEK_ASSISTANT},
    {.name = "command-r",
     .role = {{COMMAND_R("SYSTEM"), "<|END_OF_TURN_TOKEN|>"},
              {COMMAND_R("USER"), "<|END_OF_TURN_TOKEN|>"},
              {COMMAND_R("CHATBOT"), "<|END_OF_TURN_TOKEN|>"}},
     .prompt = COMMAND_R("CHATBOT"),
     .trim = TR_TRIM_ALL},
    {.name = "granite",
     .role = {{GRANITE("system"), "<|end_of_text|>\n"},
              {GRANITE("user"), "<|end_of_text|>\n"},
              {GRANITE("assistant"), "<|end_of_text|>\n"}},
     .prompt = GRANITE("assistant")},
    {.name = "chatglm3",
     .head = "[gMASK]sop",
     .role = {{"<|system|>\n ", ""}, {"<|user|>\n ", ""}, {"<|assistant|>\n ", ""}},
     .prompt = "<|assistant|>"},
    {.name = "chatglm4",
     .head = "[gMASK]<sop>",
     .role = {{"<|system|>\n", ""}, {"<|user|>\n", ""}, {"<|assistant|>\n", ""}},
     .prompt = "<|assistant|>\n"},
    {.name = "glmedge",
     .role = {{"<|system|>\n", ""}, {"<|user|>\n", ""}, {"<|assistant|>\n", ""}},
     .prompt = "<|assistant|>"},
    {.name = "exaone3",
     .role = {{"[|system|]", "[|endofturn|]\n"},
              {"[|user|]", "\n"},
              {"[|assistant|]", "[|endofturn|]\n"}},
     .prompt = "[|assistant|]",
     .trim = TR_TRIM_ALL},
};

const struct tr_chat_format *tr_chat_format_at(size_t index)
{
    return index < sizeof formats / sizeof formats[0] ? &formats[index] : NULL;
}

const struct tr_chat_format *tr_chat_format_find(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++)
        if (strlen(formats[i].name) == len && memcmp(formats[i].name, name, len) == 0)
            return &formats[i];
    return NULL;
}
