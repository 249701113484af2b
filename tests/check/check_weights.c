/* SPDX-License-Identifier: MIT */
/* Weight rows for the gemm checks (check_weights.h). */
#include "check_weights.h"

#include "quant/half.h"
#include "trueno/quantize.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Where a block keeps what is not quants. */
struct fields {
    uint8_t n_f16, f16_at[2];       /* d, then m or dmin */
    uint8_t scales_at, scales_size; /* integer scales */
    bool is_signed;                 /* quants are int8 */
};

static struct fields fields_of(trueno_dtype type)
{
    switch (type) {
    case TRUENO_TYPE_Q4_0:
    case TRUENO_TYPE_Q5_0: return (struct fields){1, {0, 0}, 0, 0, false};
    case TRUENO_TYPE_Q8_0: return (struct fields){1, {0, 0}, 0, 0, true};
    case TRUENO_TYPE_Q4_1:
    case TRUENO_TYPE_Q5_1: return (struct fields){2, {0, 2}, 0, 0, false};
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K: return (struct fields){2, {0, 2}, 4, 12, false};
    case TRUENO_TYPE_Q6_K: return (struct fields){1, {208, 0}, 192, 16, false};
    default: fprintf(stderr, "check_weights: type %d\n", (int)type); exit(2);
    }
}

static const char *const names[WEIGHTS_PATTERNS] = {
    [WEIGHTS_RANDOM] = "random",     [WEIGHTS_MAX] = "max",         [WEIGHTS_MIN] = "min",
    [WEIGHTS_EXTREMES] = "extremes", [WEIGHTS_HOLES] = "holes",     [WEIGHTS_NEGATIVE] = "negative",
    [WEIGHTS_TINY] = "tiny",         [WEIGHTS_SPECIAL] = "special",
};

const char *check_weights_name(enum check_weights p)
{
    return names[p];
}

static void put_f16(uint8_t *at, uint16_t bits)
{
    memcpy(at, &bits, sizeof bits);
}

/* Every byte one of two values. */
static void fill_two(struct check *t, uint8_t *p, size_t n, uint8_t a, uint8_t b)
{
    for (size_t i = 0; i < n; i++) p[i] = check_u64(t) & 1 ? a : b;
}

/* Integer scales of -128 and 127 (Q6_K), or six-bit ones of 0 and 63. */
static void put_quants(struct check *t, uint8_t *block, size_t size, const struct fields *f,
                       enum check_weights p)
{
    uint8_t largest = f->is_signed ? 0x7f : 0xff, smallest = f->is_signed ? 0x80 : 0;
    bool q6 = f->scales_size == 16;

    if (p == WEIGHTS_MAX) {
        memset(block, largest, size);
        memset(block + f->scales_at, q6 ? 0x7f : 0xff, f->scales_size);
    } else if (p == WEIGHTS_MIN) {
        memset(block, smallest, size);
        memset(block + f->scales_at, q6 ? 0x80 : 0xff, f->scales_size);
    } else if (p == WEIGHTS_EXTREMES) {
        fill_two(t, block, size, largest, smallest);
        if (q6)
            fill_two(t, block + f->scales_at, f->scales_size, 0x7f, 0x80);
        else if (f->scales_size)
            fill_two(t, block + f->scales_at, f->scales_size, 0xff, 0xc0);
    } else {
        check_random_bytes(t, block, size);
    }
}

static uint16_t scale_bits(struct check *t, enum check_weights p)
{
    float x = check_uniform(t, 0x1p-12F, 0x1p-5F);
    switch (p) {
    case WEIGHTS_MAX:
    case WEIGHTS_MIN:
    case WEIGHTS_EXTREMES: return 0x7bff; /* 65504 */
    case WEIGHTS_NEGATIVE: return tr_f32_to_f16(-x);
    case WEIGHTS_TINY: return (uint16_t)(1 + check_below(t, 0x3ff));
    default: return tr_f32_to_f16(check_u64(t) & 1 ? -x : x);
    }
}

static const uint16_t special_f16[] = {0x7e00, 0x7c00, 0xfc00, 0x0001};
#define N_SPECIAL (sizeof special_f16 / sizeof *special_f16)

static void quantized_row(struct check *t, uint8_t *row, trueno_dtype type, size_t k,
                          enum check_weights p, size_t r)
{
    struct fields f = fields_of(type);
    const trueno_dtype_info *info = trueno_dtype_get_info(type);
    size_t n = k / info->block, size = info->block_bytes;

    for (size_t i = 0; i < n; i++) {
        uint8_t *block = row + i * size;
        put_quants(t, block, size, &f, p);
        for (int j = 0; j < f.n_f16; j++) put_f16(block + f.f16_at[j], scale_bits(t, p));
        if (p == WEIGHTS_HOLES && (i + r) % 3 == 0) memset(block, 0, size);
    }
    if (p == WEIGHTS_SPECIAL && r % 7 < N_SPECIAL) {
        uint8_t *block = row + check_below(t, n) * size;
        put_f16(block + f.f16_at[check_below(t, f.n_f16)], special_f16[r % 7]);
    }
}

static float float_weight(struct check *t, trueno_dtype type, enum check_weights p, size_t i)
{
    float max = type == TRUENO_TYPE_F16 ? 65504.0F : 1e18F;
    float x = check_normal(t);
    switch (p) {
    case WEIGHTS_MAX: return max;
    case WEIGHTS_MIN: return -max;
    case WEIGHTS_EXTREMES: return x < 0 ? -max : max;
    case WEIGHTS_HOLES: return i / 32 % 3 ? x : 0.0F;
    case WEIGHTS_NEGATIVE: return -fabsf(x);
    case WEIGHTS_TINY: return ldexpf(x, type == TRUENO_TYPE_F16 ? -20 : -130);
    default: return x;
    }
}

static void put_float(uint8_t *row, trueno_dtype type, size_t i, float x)
{
    uint16_t half = type == TRUENO_TYPE_F16 ? tr_f32_to_f16(x) : tr_f32_to_bf16(x);
    if (type == TRUENO_TYPE_F32)
        memcpy(row + 4 * i, &x, 4);
    else
        memcpy(row + 2 * i, &half, 2);
}

static void float_row(struct check *t, uint8_t *row, trueno_dtype type, size_t k,
                      enum check_weights p, size_t r)
{
    const float special[N_SPECIAL] = {NAN, INFINITY, -INFINITY, 0x1p-24F};
    for (size_t i = 0; i < k; i++) put_float(row, type, i, float_weight(t, type, p, i));
    if (p == WEIGHTS_SPECIAL && r % 7 < N_SPECIAL) {
        put_float(row, type, check_below(t, k), special[r % 7]);
    }
}

void check_weight_row(struct check *t, void *row, trueno_dtype type, size_t k, enum check_weights p,
                      size_t r)
{
    bool is_float = type == TRUENO_TYPE_F32 || type == TRUENO_TYPE_F16 || type == TRUENO_TYPE_BF16;
    if (is_float)
        float_row(t, row, type, k, p, r);
    else
        quantized_row(t, row, type, k, p, r);
}
