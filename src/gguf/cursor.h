/* SPDX-License-Identifier: MIT */
/* The only way in which the reader moves over a file: a position that never passes the end, and the
 * words for what went wrong there. What is behind the position is in memory. */
#ifndef TR_CURSOR_H
#define TR_CURSOR_H

#include "gguf/source.h"

/* Returns from the caller when the call fails. */
#define TR_TRY(call)                                                                               \
    do {                                                                                           \
        trueno_status try_status_ = (call);                                                        \
        if (try_status_) return try_status_;                                                       \
    } while (0)

struct tr_cursor {
    struct tr_source *src;
    uint64_t pos, end; /* pos <= src->have, pos <= end = src->size */
    trueno_error *err;
    /* the record being read, for messages: "pair 3 'general.name'" */
    const char *record; /* "header", "pair", "tensor" */
    uint64_t index;
    uint64_t name, name_len; /* its name in the file; length 0: not read yet */
};

static inline uint64_t tr_cursor_left(const struct tr_cursor *c)
{
    return c->end - c->pos;
}

/* The next record, whose name is not known yet. */
static inline void tr_cursor_record(struct tr_cursor *c, const char *record, uint64_t index)
{
    c->record = record;
    c->index = index;
    c->name = c->name_len = 0;
}

/* Fails with a message that names file and record. */
trueno_status tr_cursor_fail(const struct tr_cursor *c, trueno_status status, const char *fmt, ...)
    TRUENO_PRINTF(3, 4);

/* TRUNCATED: `what` needs n bytes, fewer are left. */
trueno_status tr_cursor_short(const struct tr_cursor *c, uint64_t n, const char *what);

/* Moves over the next n bytes; *at is where they start. @return OK; ERR_TRUNCATED, or what fetching
 * them from the source returns */
static inline trueno_status tr_take(struct tr_cursor *c, uint64_t n, uint64_t *at, const char *what)
{
    if (n > tr_cursor_left(c)) return tr_cursor_short(c, n, what);
    if (n > c->src->have - c->pos) TR_TRY(tr_source_need(c->src, c->pos + n, c->err));
    *at = c->pos;
    c->pos += n;
    return TRUENO_OK;
}

static inline trueno_status tr_take_number(struct tr_cursor *c, size_t n, uint64_t *out,
                                           const char *what)
{
    uint64_t at = 0;
    TR_TRY(tr_take(c, n, &at, what));
    *out = tr_load_le(c->src->bytes + at, n);
    return TRUENO_OK;
}

/* A string: length, then bytes. Its length is at most what is left of the file, and max_len. */
trueno_status tr_take_name(struct tr_cursor *c, uint64_t max_len);

#endif
