/* SPDX-License-Identifier: MIT */
/* The one table of tensor types. A type that the library does not decode still has its size here,
 * so that a file which holds it can be listed and copied. */
#include "base/error.h"
#include "trueno/quantize.h"

enum { DECODE = 1, ENCODE = 2, RUN = 4, ALL = DECODE | ENCODE | RUN };

#define PLAIN(name, bytes, can)                                                                    \
    {                                                                                              \
        name, 1, bytes, false, !!((can)&DECODE), !!((can)&ENCODE), !!((can)&RUN)                   \
    }
#define BLOCK(name, block, bytes, can)                                                             \
    {                                                                                              \
        name, block, bytes, true, !!((can)&DECODE), !!((can)&ENCODE), !!((can)&RUN)                \
    }

/* Indexed by the number in files. Numbers that were removed from GGUF (4, 5, 31-33, 36-38) stay
 * NULL. Q8_1 and Q8_K are activation formats that no file should hold. */
static const trueno_dtype_info traits[TRUENO_TYPE_COUNT] = {
    [TRUENO_TYPE_F32] = PLAIN("F32", 4, ALL),
    [TRUENO_TYPE_F16] = PLAIN("F16", 2, ALL),
    [TRUENO_TYPE_Q4_0] = BLOCK("Q4_0", 32, 18, ALL),
    [TRUENO_TYPE_Q4_1] = BLOCK("Q4_1", 32, 20, ALL),
    [TRUENO_TYPE_Q5_0] = BLOCK("Q5_0", 32, 22, ALL),
    [TRUENO_TYPE_Q5_1] = BLOCK("Q5_1", 32, 24, ALL),
    [TRUENO_TYPE_Q8_0] = BLOCK("Q8_0", 32, 34, ALL),
    [9] = BLOCK("Q8_1", 32, 36, 0),
    [TRUENO_TYPE_Q2_K] = BLOCK("Q2_K", 256, 84, DECODE | RUN),
    [TRUENO_TYPE_Q3_K] = BLOCK("Q3_K", 256, 110, DECODE | RUN),
    [TRUENO_TYPE_Q4_K] = BLOCK("Q4_K", 256, 144, ALL),
    [TRUENO_TYPE_Q5_K] = BLOCK("Q5_K", 256, 176, ALL),
    [TRUENO_TYPE_Q6_K] = BLOCK("Q6_K", 256, 210, ALL),
    [15] = BLOCK("Q8_K", 256, 292, 0),
    [16] = BLOCK("IQ2_XXS", 256, 66, 0),
    [17] = BLOCK("IQ2_XS", 256, 74, 0),
    [18] = BLOCK("IQ3_XXS", 256, 98, 0),
    [19] = BLOCK("IQ1_S", 256, 50, 0),
    [20] = BLOCK("IQ4_NL", 32, 18, 0),
    [21] = BLOCK("IQ3_S", 256, 110, 0),
    [22] = BLOCK("IQ2_S", 256, 82, 0),
    [23] = BLOCK("IQ4_XS", 256, 136, 0),
    [TRUENO_TYPE_I8] = PLAIN("I8", 1, 0),
    [TRUENO_TYPE_I16] = PLAIN("I16", 2, 0),
    [TRUENO_TYPE_I32] = PLAIN("I32", 4, 0),
    [TRUENO_TYPE_I64] = PLAIN("I64", 8, 0),
    [TRUENO_TYPE_F64] = PLAIN("F64", 8, 0),
    [29] = BLOCK("IQ1_M", 256, 56, 0),
    [TRUENO_TYPE_BF16] = PLAIN("BF16", 2, ALL),
    [34] = BLOCK("TQ1_0", 256, 54, 0),
    [35] = BLOCK("TQ2_0", 256, 66, 0),
    [39] = BLOCK("MXFP4", 32, 17, 0),
    [40] = BLOCK("NVFP4", 64, 36, 0),
    [41] = BLOCK("Q1_0", 128, 18, 0),
    [42] = BLOCK("Q2_0", 64, 18, 0),
};

const trueno_dtype_info *trueno_dtype_get_info(trueno_dtype type)
{
    /* a number from a file may be any 32 bits, and the enum's signedness is the compiler's choice
     */
    uint64_t index = (uint64_t)type;
    if (index >= TRUENO_TYPE_COUNT || !traits[index].name) return NULL;
    return &traits[index];
}

/* ASCII only, whatever the locale says about the letter i. */
static bool same_name(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        int x = *a >= 'a' && *a <= 'z' ? *a - 32 : *a;
        int y = *b >= 'a' && *b <= 'z' ? *b - 32 : *b;
        if (x != y) return false;
    }
    return *a == *b;
}

trueno_status trueno_dtype_from_name(trueno_dtype *out, const char *name)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    *out = TRUENO_TYPE_F32;
    if (!name) return TRUENO_ERR_ARGUMENT;
    for (unsigned i = 0; i < TRUENO_TYPE_COUNT; i++) {
        if (traits[i].name && same_name(traits[i].name, name)) {
            *out = (trueno_dtype)i;
            return TRUENO_OK;
        }
    }
    return TRUENO_ERR_NOT_FOUND;
}

size_t trueno_row_bytes(trueno_dtype type, size_t n)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    uint64_t bytes;
    if (!info || n % info->block != 0) return 0;
    if (!tr_mul(&bytes, n / info->block, info->block_bytes) || bytes > SIZE_MAX) return 0;
    return (size_t)bytes;
}
