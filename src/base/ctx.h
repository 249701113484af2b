/* SPDX-License-Identifier: MIT */
/* Inside of a context: reference count, callbacks, CPU choice. */
#ifndef TR_CTX_H
#define TR_CTX_H

#include "trueno/base.h"

void tr_ctx_ref(trueno_ctx *ctx);   /* every object that keeps a context takes a reference */
void tr_ctx_unref(trueno_ctx *ctx); /* NULL is fine; the last one frees it */

/* One line to the log callback, if there is one and the level is enabled. No newline at the end. */
void tr_log(trueno_ctx *ctx, trueno_log_level level, const char *fmt, ...) TRUENO_PRINTF(3, 4);

/* Calls the progress callback, if any. */
void tr_progress(trueno_ctx *ctx, const char *what, uint64_t done, uint64_t total);

/* True if the cancel callback asks to stop. */
bool tr_cancelled(trueno_ctx *ctx);

#endif
