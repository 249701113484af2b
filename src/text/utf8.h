/* SPDX-License-Identifier: MIT */
/* Strict UTF-8, byte by byte: what is a character, what may still become one, and what never will.
 * Source: The Unicode Standard, table 3-7 (well-formed sequences) and "maximal subpart" of section
 * 3.9. */
#ifndef TR_UTF8_H
#define TR_UTF8_H

#include <stddef.h>
#include <stdint.h>

enum tr_utf8 {
    TR_UTF8_CHAR, /* a whole, well-formed character */
    TR_UTF8_CUT,  /* a correct beginning; the text ends before the character does */
    TR_UTF8_BAD   /* cannot be part of a character, whatever follows */
};

/* Longest encoded character, and what can be left of one when its last byte is missing. */
enum { TR_UTF8_MAX = 4, TR_UTF8_HELD_MAX = 3 };

/* Continuation bytes that follow a lead byte (0 for ASCII), with the range that the first of them
 * must lie in; -1 for a byte that leads nothing. */
static inline int tr_utf8_lead(uint8_t lead, uint8_t *low, uint8_t *high)
{
    *low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    *high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (lead < 0x80) return 0;
    if (lead < 0xC2 || lead > 0xF4) return -1;
    return lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
}

/* What begins at text[0]; n >= 1 bytes are there. Returns its length: of the character, of the
 * beginning (all n bytes), or of the longest bad part (at least 1). */
static inline size_t tr_utf8_next(const char *text, size_t n, enum tr_utf8 *what)
{
    const uint8_t *p = (const uint8_t *)text;
    uint8_t low, high;
    int follow = tr_utf8_lead(p[0], &low, &high);
    *what = TR_UTF8_BAD;
    if (follow < 0) return 1;
    for (size_t i = 1; i <= (size_t)follow; i++) {
        if (i == n) {
            *what = TR_UTF8_CUT;
            return n;
        }
        if (p[i] < low || p[i] > high) return i;
        low = 0x80;
        high = 0xBF;
    }
    *what = TR_UTF8_CHAR;
    return (size_t)follow + 1;
}

/* Length of the well-formed character at text[0], 0 if there is none. n >= 1. */
static inline size_t tr_utf8_char(const char *text, size_t n)
{
    enum tr_utf8 what;
    size_t len = tr_utf8_next(text, n, &what);
    return what == TR_UTF8_CHAR ? len : 0;
}

#endif
