/* SPDX-License-Identifier: MIT */
/* Status names, the version, and error messages. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

const char *trueno_version(void)
{
    return TRUENO_VERSION;
}

const char *trueno_status_str(trueno_status status)
{
    static const char *const names[] = {
        [TRUENO_OK] = "ok",
        [TRUENO_ERR_ARGUMENT] = "argument",
        [TRUENO_ERR_IO] = "io",
        [TRUENO_ERR_TRUNCATED] = "truncated",
        [TRUENO_ERR_CORRUPT] = "corrupt",
        [TRUENO_ERR_UNSUPPORTED] = "unsupported",
        [TRUENO_ERR_TOO_LARGE] = "too large",
        [TRUENO_ERR_NO_MEMORY] = "no memory",
        [TRUENO_ERR_CANCELLED] = "cancelled",
        [TRUENO_ERR_BUSY] = "busy",
        [TRUENO_ERR_DEVICE] = "device",
        [TRUENO_ERR_NOT_FOUND] = "not found",
        [TRUENO_ERR_NUMERIC] = "numeric",
        [TRUENO_ERR_INVALID_FEATURE] = "invalid feature",
        [TRUENO_ERR_INSUFFICIENT_DATA] = "insufficient data",
        [TRUENO_ERR_TRAINING] = "training",
        [TRUENO_ERR_PREDICTION] = "prediction",
        [TRUENO_ERR_NOT_MEASURED] = "not measured",
        [TRUENO_ERR_READ_ONLY] = "read only",
        [TRUENO_ERR_FORMAT] = "format",
        [TRUENO_ERR_VERSION] = "version",
        [TRUENO_ERR_STRICT_MISS] = "strict miss",
        [TRUENO_ERR_NOISY] = "noisy",
        [TRUENO_ERR_BUDGET_EXCEEDED] = "budget exceeded",
        [TRUENO_ERR_ASSERTION] = "assertion",
    };
    /* A caller in another language may pass any integer. */
    const unsigned value = (unsigned)status;
    return value < sizeof names / sizeof names[0] ? names[value] : "unknown status";
}

void tr_escape(char *dst, size_t cap, const char *src)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;
    for (; *src; src++) {
        const unsigned char c = (unsigned char)*src;
        const bool plain = c >= 0x20 && c <= 0x7e;
        if (cap - n <= (plain ? 1u : 4u)) break;
        if (plain) {
            dst[n++] = (char)c;
        } else {
            dst[n++] = '\\';
            dst[n++] = 'x';
            dst[n++] = hex[c >> 4];
            dst[n++] = hex[c & 15];
        }
    }
    dst[n] = '\0';
}

trueno_status tr_fail(trueno_error *err, trueno_status status, const char *fmt, ...)
{
    if (!err) return status;
    char raw[TRUENO_ERROR_MAX] = "";
    va_list args;
    va_start(args, fmt);
    vsnprintf(raw, sizeof raw, fmt, args);
    va_end(args);
    err->status = status;
    tr_escape(err->message, sizeof err->message, raw);
    return status;
}
