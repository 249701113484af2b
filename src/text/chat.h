/* SPDX-License-Identifier: MIT */
/* Built-in chat formats as data: what stands around the messages of each role. */
#ifndef TR_CHAT_H
#define TR_CHAT_H

#include <stddef.h>

enum tr_chat_role { TR_CHAT_SYSTEM, TR_CHAT_USER, TR_CHAT_ASSISTANT, TR_CHAT_ROLES };

/* Roles whose messages lose white space at both ends. */
enum {
    TR_TRIM_NONE = 0,
    TR_TRIM_ASSISTANT = 1 << TR_CHAT_ASSISTANT,
    TR_TRIM_ALL = (1 << TR_CHAT_ROLES) - 1
};

/* A conversation is: head; then for every message before + content + after of its role; then, if
 * asked for, prompt.
 *
 * Formats with `open` put system and user text into one turn: the first of them opens it (`open`;
 * `open_first` at the start of the conversation if that differs), the user's message ends it. A
 * turn that has no user message is ended by the user's `after`. */
struct tr_chat_format {
    const char *name;
    const char *head;
    struct {
        const char *before, *after;
    } role[TR_CHAT_ROLES];
    const char *prompt;
    const char *open, *open_first;
    unsigned trim;
};

/* By index from 0, NULL past the end; by name, NULL if there is none. */
const struct tr_chat_format *tr_chat_format_at(size_t index);
const struct tr_chat_format *tr_chat_format_find(const char *name, size_t len);

#endif
