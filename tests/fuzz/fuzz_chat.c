/* SPDX-License-Identifier: MIT */
/* Fuzz target: the input as a template text that is searched for a known format, and as a
 * conversation (role byte, text up to NUL) that every format prints. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_MESSAGES = 16 };

static size_t read_messages(char *text, size_t size, trueno_chat_message *messages)
{
    static const char *const roles[] = {"system", "user", "assistant", "tool"};
    size_t n = 0, pos = 0;
    while (n < MAX_MESSAGES && pos < size) {
        messages[n].role = roles[text[pos] & 3];
        messages[n++].content = text + pos + 1; /* there is a NUL behind the end */
        pos += 2 + strlen(text + pos + 1);
    }
    return n;
}

static void apply(const char *name, const trueno_chat_message *messages, size_t n, bool prompt,
                  size_t cap)
{
    trueno_error err;
    size_t len, len2;
    trueno_status s = trueno_chat_apply(NULL, 0, &len, name, messages, n, prompt, &err);
    char *text = malloc(cap + len + 2);
    if (!text) return;
    if (trueno_chat_apply(text, len + 1, &len2, name, messages, n, prompt, &err) != s) abort();
    if (len2 != len || (s == TRUENO_OK && strlen(text) != len)) abort();
    if (trueno_chat_apply(text, cap, &len2, name, messages, n, prompt, &err) != s || len2 != len)
        abort();
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *found, *name;
    trueno_status s = trueno_chat_detect(&found, (const char *)data, size);
    if (s != TRUENO_OK && s != TRUENO_ERR_NOT_FOUND) abort();
    if ((s == TRUENO_OK) != (found != NULL)) abort();

    trueno_chat_message messages[MAX_MESSAGES];
    char *text = malloc(size + 2);
    if (!text || size > 1 << 16) {
        free(text);
        return 0;
    }
    if (size) memcpy(text, data, size);
    text[size] = text[size + 1] = 0;
    size_t n = read_messages(text, size, messages);
    for (size_t i = 0; (name = trueno_chat_template_name(i)) != NULL; i++)
        apply(name, messages, n, size & 1, size % 61);
    apply(text, messages, n, true, 7); /* the input as a name */
    free(text);
    return 0;
}
