/* SPDX-License-Identifier: MIT */
/* Log lines, through the callback of a context. */
#include <stdarg.h>
#include <stdio.h>

#include "base/ctx_impl.h"
#include "base/error.h"

enum { LINE_MAX_BYTES = 1024 };

void tr_log(trueno_ctx *ctx, trueno_log_level level, const char *fmt, ...)
{
    if (!ctx->opt.log || level < ctx->opt.log_level) return;
    char raw[LINE_MAX_BYTES] = "", line[LINE_MAX_BYTES];
    va_list args;
    va_start(args, fmt);
    vsnprintf(raw, sizeof raw, fmt, args);
    va_end(args);
    tr_escape(line, sizeof line, raw);
    ctx->opt.log(ctx->opt.log_user, level, line);
}
