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

/* Names of kernels to use, separated by commas; "" if there are none. Not checked: this layer knows
 * no kernels. */
const char *tr_ctx_kernels(const trueno_ctx *ctx);

/* What the context may compute with. */
trueno_numerics tr_ctx_numerics(const trueno_ctx *ctx);

/* True if the cancel callback asks to stop. */
bool tr_cancelled(trueno_ctx *ctx);

#endif
