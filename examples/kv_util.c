/* SPDX-License-Identifier: MIT */
/* Names of KV cache types. */
#include "kv_util.h"

#include "cli_util.h"

#include <string.h>

int kv_type(trueno_kv_type *out, const char *name)
{
    static const char *const names[] = {[TRUENO_KV_F16] = "f16",
                                        [TRUENO_KV_F32] = "f32",
                                        [TRUENO_KV_BF16] = "bf16",
                                        [TRUENO_KV_Q8_0] = "q8_0"};
    *out = TRUENO_KV_F16;
    if (name == NULL) return CLI_OK;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        *out = (trueno_kv_type)i;
        if (!strcmp(name, names[i])) return CLI_OK;
    }
    return cli_usage("--kv is '%s': must be f16, bf16, f32 or q8_0", name);
}
