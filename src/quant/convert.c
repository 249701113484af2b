/* SPDX-License-Identifier: MIT */
/* Checked conversion of rows: what trueno/quantize.h promises around the unchecked workers. */
#include "quant/encode.h"

trueno_status trueno_dequantize(float *dst, const void *src, trueno_dtype type, size_t n)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    if (!dst || !src || !info) return TRUENO_ERR_ARGUMENT;
    if (!info->can_dequantize) return TRUENO_ERR_UNSUPPORTED;
    if (n > SIZE_MAX / sizeof *dst || n % info->block != 0) return TRUENO_ERR_ARGUMENT;
    tr_dequantize_row(dst, src, type, n);
    return TRUENO_OK;
}

static bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        bad |= (tr_bits_from_float(x[i]) & 0x7f800000U) == 0x7f800000U;
    }
    return !bad;
}

trueno_status trueno_quantize(void *dst, const float *src, trueno_dtype type, size_t n)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    if (!dst || !src || !info) return TRUENO_ERR_ARGUMENT;
    if (!info->can_quantize) return TRUENO_ERR_UNSUPPORTED;
    if (n > SIZE_MAX / sizeof *src || n % info->block != 0) return TRUENO_ERR_ARGUMENT;
    if (!all_finite(src, n)) return TRUENO_ERR_NUMERIC;
    return tr_quantize_row(dst, src, type, n) ? TRUENO_OK : TRUENO_ERR_NUMERIC;
}

bool tr_quantize_row(void *dst, const float *src, trueno_dtype type, size_t n)
{
    switch (type) {
    case TRUENO_TYPE_F32: return tr_encode_f32(dst, src, n);
    case TRUENO_TYPE_F16: return tr_encode_f16(dst, src, n);
    case TRUENO_TYPE_BF16: return tr_encode_bf16(dst, src, n);
    case TRUENO_TYPE_Q4_0: return tr_encode_q4_0(dst, src, n);
    case TRUENO_TYPE_Q4_1: return tr_encode_q4_1(dst, src, n);
    case TRUENO_TYPE_Q5_0: return tr_encode_q5_0(dst, src, n);
    case TRUENO_TYPE_Q5_1: return tr_encode_q5_1(dst, src, n);
    case TRUENO_TYPE_Q8_0: return tr_encode_q8_0(dst, src, n);
    case TRUENO_TYPE_Q4_K: return tr_encode_q4_k(dst, src, n);
    case TRUENO_TYPE_Q5_K: return tr_encode_q5_k(dst, src, n);
    case TRUENO_TYPE_Q6_K: return tr_encode_q6_k(dst, src, n);
    default: return false; /* not reached: the caller checked can_quantize */
    }
}
