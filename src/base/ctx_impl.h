/* SPDX-License-Identifier: MIT */
/* The fields of a context. Only files of this layer include this header. */
#ifndef TR_CTX_IMPL_H
#define TR_CTX_IMPL_H

#include <stdatomic.h>

#include "base/ctx.h"

/* `opt` holds checked copies of the callbacks; its strings are not kept, only what they led to. */
struct trueno_ctx {
    trueno_ctx_options opt;
    uint32_t cpu_features;
    atomic_uint refs;
    atomic_size_t now_bytes, peak_bytes; /* the context itself is not counted */
    char kernels[];                      /* names separated by commas; "": none */
};

#endif
