/* SPDX-License-Identifier: MIT */
/* Errors of the cursor, and names of records. */
#include "gguf/cursor.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"

enum { DETAIL_MAX = 256, NAME_SHOWN = 80 };

trueno_status tr_cursor_fail(const struct tr_cursor *c, trueno_status status, const char *fmt, ...)
{
    char detail[DETAIL_MAX], place[NAME_SHOWN + 64] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(detail, sizeof detail, fmt, args);
    va_end(args);
    if (c->name_len) {
        trueno_str name = {(const char *)c->src->bytes + c->name, (size_t)c->name_len};
        snprintf(place, sizeof place, "%s %llu '%.*s'", c->record, (unsigned long long)c->index,
                 TR_STR_ARGS(name));
    } else if (c->index != UINT64_MAX) {
        snprintf(place, sizeof place, "%s %llu", c->record, (unsigned long long)c->index);
    } else {
        snprintf(place, sizeof place, "%s", c->record);
    }
    return tr_fail(c->err, status, "%s: %s: %s", c->src->label, place, detail);
}

trueno_status tr_cursor_short(const struct tr_cursor *c, uint64_t n, const char *what)
{
    return tr_cursor_fail(
        c, TRUENO_ERR_TRUNCATED, "%s needs %llu bytes at offset %llu, but %llu are left", what,
        (unsigned long long)n, (unsigned long long)c->pos, (unsigned long long)tr_cursor_left(c));
}

trueno_status tr_take_name(struct tr_cursor *c, uint64_t max_len)
{
    uint64_t len = 0, at = 0;
    TR_TRY(tr_take_number(c, 8, &len, "the length of the name"));
    if (len > tr_cursor_left(c)) return tr_cursor_short(c, len, "the name");
    if (len > max_len)
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "a name of %llu bytes, the limit is %llu",
                              (unsigned long long)len, (unsigned long long)max_len);
    if (len == 0) return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "the name is empty");
    TR_TRY(tr_take(c, len, &at, "the name"));
    c->name = at;
    c->name_len = len;
    return TRUENO_OK;
}
