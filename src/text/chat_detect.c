/* SPDX-License-Identifier: MIT */
/* Which built-in format a file's chat template is. The template is a program in Jinja; it is only
 * searched for the marks that the formats leave in it, and never run. */
#include <string.h>

#include "base/error.h"
#include "text/chat.h"
#include "trueno/tokenizer.h"

static bool has(trueno_str s, const char *mark)
{
    return s.len && memmem(s.data, s.len, mark, strlen(mark)) != NULL;
}

/* The templates with [INST]: Mistral's versions and Llama 2 with its variants. */
static const char *detect_inst(trueno_str s)
{
    if (has(s, "[SYSTEM_PROMPT]"))
        return has(s, "[SYSTEM_PROMPT] ") ? "mistral-v7" : "mistral-v7-tekken";
    if (has(s, "' [INST] ' + system_message") || has(s, "[AVAILABLE_TOOLS]")) {
        if (has(s, " [INST]")) return "mistral-v1";
        return has(s, "\"[INST]\"") ? "mistral-v3-tekken" : "mistral-v3";
    }
    if (has(s, "content.strip()")) return "llama2-sys-strip";
    if (has(s, "bos_token + '[INST]")) return "llama2-sys-bos";
    return has(s, "<<SYS>>") ? "llama2-sys" : "llama2";
}

/* The templates that name both <|assistant|> and <|user|>. */
static const char *detect_assistant(trueno_str s)
{
    if (has(s, "message['content'] + eos_token")) return "zephyr-eos";
    return has(s, "</s>") ? "falcon3" : "glmedge";
}

/* Marks that stand for one format each; both must be there. In order. */
static const struct {
    const char *mark, *mark2, *name;
} plain[] = {
    {"<|user|>", "<|endoftext|>", "zephyr"},
    {"<start_of_turn>", "", "gemma"},
    {"GPT4 Correct ", "", "openchat"},
    {"USER: ", "ASSISTANT: ", "vicuna"},
    {"### Instruction:", "<|EOT|>", "deepseek"},
    {"<|START_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "command-r"},
    {"<|start_header_id|>", "", "llama3"},
    {"[gMASK]sop", "", "chatglm3"},
    {"[gMASK]<sop>", "", "chatglm4"},
    {"'Assistant: ' + message['content'] + eos_token", "", "deepseek2"},
    {"<\xEF\xBD\x9C"
     "Assistant\xEF\xBD\x9C>",
     "", "deepseek3"},
    {"[|endofturn|]", "", "exaone3"},
    {"<|start_of_role|>", "", "granite"},
    {"<|header_start|>", "", "llama4"},
};

static const char *detect(trueno_str s)
{
    if (has(s, "<|im_start|>")) return has(s, "<|im_sep|>") ? "phi4" : "chatml";
    if (has(s, "[INST]")) return detect_inst(s);
    if (has(s, "<|assistant|>") && has(s, "<|end|>")) return "phi3";
    if (has(s, "<|assistant|>") && has(s, "<|user|>")) return detect_assistant(s);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (!has(s, plain[i].mark) || !has(s, plain[i].mark2)) continue;
        bool orca = strcmp(plain[i].name, "vicuna") == 0 && has(s, "SYSTEM: ");
        return orca ? "vicuna-orca" : plain[i].name;
    }
    return NULL;
}

trueno_status trueno_chat_detect(const char **name, const char *jinja, size_t len)
{
    if (!name) return TRUENO_ERR_ARGUMENT;
    *name = NULL;
    if (!jinja && len) return TRUENO_ERR_ARGUMENT;
    const struct tr_chat_format *named = len ? tr_chat_format_find(jinja, len) : NULL;
    *name = named ? named->name : detect((trueno_str){jinja, len});
    return *name ? TRUENO_OK : TRUENO_ERR_NOT_FOUND;
}

trueno_status trueno_chat_detect_gguf(const char **name, const trueno_gguf *g, trueno_error *err)
{
    static const char key[] = "tokenizer.chat_template";
    trueno_str text;
    if (!name) return tr_fail(err, TRUENO_ERR_ARGUMENT, "chat detect: name is NULL");
    *name = NULL;
    if (!g) return tr_fail(err, TRUENO_ERR_ARGUMENT, "chat detect: the file is NULL");
    trueno_status status = trueno_gguf_get_str(g, key, &text, err);
    if (status == TRUENO_ERR_NOT_FOUND) return tr_fail(err, status, "%s: missing", key);
    if (status) return status;
    status = trueno_chat_detect(name, text.data, text.len);
    if (status) return tr_fail(err, status, "%s: %zu bytes, no built-in format", key, text.len);
    return TRUENO_OK;
}
