/* SPDX-License-Identifier: MIT */
/* The option --kv of the programs that make sessions. */
#ifndef KV_UTIL_H
#define KV_UTIL_H

#include "trueno/model.h"

#define KV_HELP "of the KV cache: f16, bf16, f32 or q8_0 [f16]"

/* The cache type of this name; NULL: f16. @return CLI_OK; CLI_USAGE after a message */
int kv_type(trueno_kv_type *out, const char *name);

#endif
