/* SPDX-License-Identifier: MIT */
/* Formatting of conversations by the table of chat formats. */
#include "text/chat.h"

#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "trueno/tokenizer.h"

enum { CHAT_TEXT_MAX = 16 << 20 };

/* Text being built: `n` counts what `cap` cuts off, too. */
struct chat_text {
    char *text;
    size_t cap, n;
};

static void put(struct chat_text *out, const char *data, size_t len)
{
    if (out->n < out->cap)
        memcpy(out->text + out->n, data, len < out->cap - out->n ? len : out->cap - out->n);
    out->n += len;
}

static void put_str(struct chat_text *out, const char *s)
{
    if (s) put(out, s, strlen(s));
}

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

static void put_content(struct chat_text *out, const char *content, bool trim)
{
    size_t len = strlen(content);
    while (trim && len && is_space(content[len - 1])) len--;
    while (trim && len && is_space(*content)) content++, len--;
    put(out, content, len);
}

/* Role by name; TR_CHAT_ROLES if there is none. */
static enum tr_chat_role find_role(const char *role)
{
    static const char *const names[] = {"system", "user", "assistant"};
    int i = 0;
    while (i < TR_CHAT_ROLES && strcmp(role, names[i]) != 0) i++;
    return (enum tr_chat_role)i;
}

/* One message. `in_turn`: a turn is open that waits for its user message. */
static void put_message(struct chat_text *out, const struct tr_chat_format *f, bool first,
                        enum tr_chat_role role, const char *content, bool *in_turn)
{
    if (f->open && role != TR_CHAT_ASSISTANT && !*in_turn)
        put_str(out, first && f->open_first ? f->open_first : f->open);
    if (role == TR_CHAT_ASSISTANT && *in_turn) put_str(out, f->role[TR_CHAT_USER].after);
    put_str(out, f->role[role].before);
    put_content(out, content, f->trim >> role & 1);
    put_str(out, f->role[role].after);
    *in_turn = f->open && role == TR_CHAT_SYSTEM;
}

static trueno_status put_messages(struct chat_text *out, const struct tr_chat_format *f,
                                  const trueno_chat_message *messages, size_t n_messages,
                                  trueno_error *err)
{
    bool in_turn = false;
    for (size_t i = 0; i < n_messages; i++) {
        const trueno_chat_message *m = &messages[i];
        if (!m->role || !m->content)
            return tr_fail(err, TRUENO_ERR_ARGUMENT, "chat: role or content of message %zu is NULL",
                           i);
        enum tr_chat_role role = find_role(m->role);
        if (role == TR_CHAT_ROLES)
            return tr_fail(err, TRUENO_ERR_ARGUMENT,
                           "chat: role \"%.80s\" of message %zu, must be system, user or assistant",
                           m->role, i);
        put_message(out, f, i == 0, role, m->content, &in_turn);
        if (out->n > CHAT_TEXT_MAX) return TRUENO_OK; /* the caller refuses it */
    }
    if (in_turn) put_str(out, f->role[TR_CHAT_USER].after);
    return TRUENO_OK;
}

static trueno_status apply(struct chat_text *out, const char *name,
                           const trueno_chat_message *messages, size_t n_messages, bool add_prompt,
                           trueno_error *err)
{
    const struct tr_chat_format *f = tr_chat_format_find(name, strlen(name));
    if (!f) return tr_fail(err, TRUENO_ERR_NOT_FOUND, "chat: no built-in template \"%.80s\"", name);
    put_str(out, f->head);
    trueno_status status = put_messages(out, f, messages, n_messages, err);
    if (status) return status;
    if (add_prompt) put_str(out, f->prompt);
    if (out->n > CHAT_TEXT_MAX)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "chat: more than %d bytes of text",
                       CHAT_TEXT_MAX);
    return TRUENO_OK;
}

trueno_status trueno_chat_apply(char *text, size_t cap, size_t *len, const char *name,
                                const trueno_chat_message *messages, size_t n_messages,
                                bool add_prompt, trueno_error *err)
{
    if (!len) return tr_fail(err, TRUENO_ERR_ARGUMENT, "chat: len is NULL");
    *len = 0;
    if (!text && cap) return tr_fail(err, TRUENO_ERR_ARGUMENT, "chat: text is NULL, cap %zu", cap);
    if (cap) text[0] = '\0';
    if (!name) return tr_fail(err, TRUENO_ERR_ARGUMENT, "chat: name is NULL");
    if (!messages && n_messages)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "chat: messages is NULL, n_messages %zu",
                       n_messages);
    struct chat_text out = {text, cap ? cap - 1 : 0, 0};
    trueno_status status = apply(&out, name, messages, n_messages, add_prompt, err);
    if (cap) text[status ? 0 : out.n < cap ? out.n : cap - 1] = '\0';
    if (!status) *len = out.n;
    return status;
}

const char *trueno_chat_template_name(size_t index)
{
    const struct tr_chat_format *f = tr_chat_format_at(index);
    return f ? f->name : NULL;
}
