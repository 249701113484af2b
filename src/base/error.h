/* SPDX-License-Identifier: MIT */
/* Errors in words, and the checked arithmetic that finds them. */
#ifndef TR_ERROR_H
#define TR_ERROR_H

#include <string.h>

#include "trueno/base.h"

/* Puts status and message into `err` (which may be NULL) and returns the status, so that a failing
 * function ends with `return tr_fail(err, TRUENO_ERR_CORRUPT, "...", ...)`. The message is cut to
 * fit; every byte outside printable ASCII becomes an escape such as \x1b, so text from a file
 * cannot carry terminal codes. */
trueno_status tr_fail(trueno_error *err, trueno_status status, const char *fmt, ...)
    TRUENO_PRINTF(3, 4);

/* Copies the string `src` with those escapes, cut to `cap` bytes with the NUL. */
void tr_escape(char *dst, size_t cap, const char *src);

/* printf arguments for a trueno_str of any length: "%.*s", TR_STR_ARGS(s). Shows at most 80 bytes.
 */
#define TR_STR_ARGS(s) (int)((s).len < 80 ? (s).len : 80), (s).data

/* out = a * b, a + b, or a rounded up to a multiple of the power of two `align`. False if the
 * result does not fit. */
static inline bool tr_mul(uint64_t *out, uint64_t a, uint64_t b)
{
    return !__builtin_mul_overflow(a, b, out);
}

static inline bool tr_add(uint64_t *out, uint64_t a, uint64_t b)
{
    return !__builtin_add_overflow(a, b, out);
}

static inline bool tr_align_up(uint64_t *out, uint64_t a, uint64_t align)
{
    if (!tr_add(out, a, align - 1)) return false;
    *out &= ~(align - 1);
    return true;
}

/* Copies options that a caller filled into `dst`, which holds the defaults: as many bytes as
 * both know. Both begin with `size_t struct_size`; `first_bytes` is the size of the struct's first
 * version. False: the caller's struct_size is smaller than that, or garbage. */
static inline bool tr_struct_read(void *dst, size_t dst_bytes, const void *src, size_t first_bytes)
{
    size_t given;
    memcpy(&given, src, sizeof given);
    if (given < first_bytes || given > dst_bytes + 4096) return false;
    memcpy(dst, src, given < dst_bytes ? given : dst_bytes);
    return true;
}

/* struct_size of a struct that a caller filled: not smaller than the struct, and not garbage.
 * Larger ones, of newer headers, are accepted: their tail is unknown to us and not read. When a
 * struct first grows, its users need the size of the first version here, and defaults for what is
 * missing: tr_struct_read. */
#define TR_STRUCT_OK(p)                                                                            \
    ((p)->struct_size >= sizeof(*(p)) && (p)->struct_size <= sizeof(*(p)) + 4096)

#endif
