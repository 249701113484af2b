/* SPDX-License-Identifier: MIT */
/* Weight formats on any bytes. Byte 0 is the type, byte 1 says what to do with the rest and where
 * it starts in memory: decode it, encode it as floats, or both in turn. Buffers are exactly as
 * large as promised, so that a sanitizer sees one byte too much. */
#include "trueno/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool truth)
{
    if (!truth) abort();
}

static void *allocate(size_t size)
{
    void *p = malloc(size ? size : 1);
    require(p != NULL);
    return p;
}

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) return false;
    }
    return true;
}

/* Bytes that an encoder made decode to finite numbers, and it makes the same ones again. */
static void encode(const float *x, size_t n, trueno_dtype type, size_t shift)
{
    size_t bytes = trueno_row_bytes(type, n);
    uint8_t *a = allocate(bytes + shift), *b = allocate(bytes);
    float *y = allocate(n * sizeof *y);
    trueno_status status = trueno_quantize(a + shift, x, type, n);
    require(status == TRUENO_OK || status == TRUENO_ERR_NUMERIC);
    if (status == TRUENO_OK) {
        require(trueno_quantize(b, x, type, n) == TRUENO_OK);
        require(memcmp(a + shift, b, bytes) == 0);
        require(trueno_dequantize(y, b, type, n) == TRUENO_OK);
        require(all_finite(x, n) && all_finite(y, n));
    }
    free(a);
    free(b);
    free(y);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) return 0;
    trueno_dtype type = (trueno_dtype)data[0];
    unsigned mode = data[1] & 3U;
    size_t shift = data[1] >> 2 & 7U;
    data += 2;
    size -= 2;

    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    if (!info) {
        float y;
        require(trueno_dequantize(&y, data, type, 1) == TRUENO_ERR_ARGUMENT);
        return 0;
    }
    bool is_encoding = mode == 1;
    size_t unit = is_encoding ? info->block * sizeof(float) : info->block_bytes;
    size_t n = size / unit * info->block;
    float *x = allocate(n * sizeof *x);
    if (is_encoding) {
        memcpy(x, data, n * sizeof *x);
    } else {
        size_t bytes = trueno_row_bytes(type, n);
        uint8_t *src = allocate(bytes + shift);
        memcpy(src + shift, data, bytes);
        trueno_status status = trueno_dequantize(x, src + shift, type, n);
        require((status == TRUENO_OK) == info->can_dequantize);
        free(src);
        if (status != TRUENO_OK) memset(x, 0, n * sizeof *x);
    }
    if (mode != 0 && info->can_quantize) encode(x, n, type, shift);
    free(x);
    return 0;
}
