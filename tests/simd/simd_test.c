/* SPDX-License-Identifier: MIT */
/* Shared parts of the tests of the matrix kernels (simd_test.h). */
#include "simd_test.h"

#include <string.h>

#include "quant/quant.h"

const trueno_dtype test_types[TEST_N_TYPES] = {
    TRUENO_TYPE_Q4_0, TRUENO_TYPE_Q4_1, TRUENO_TYPE_Q5_0, TRUENO_TYPE_Q5_1, TRUENO_TYPE_Q8_0,
    TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q5_K, TRUENO_TYPE_Q6_K, TRUENO_TYPE_F32,  TRUENO_TYPE_F16,
    TRUENO_TYPE_BF16, TRUENO_TYPE_Q2_K, TRUENO_TYPE_Q3_K,
};

void *test_alloc(size_t bytes)
{
    void *p = malloc(bytes);
    assert_non_null(p);
    return p;
}

uint64_t random_bits(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15U;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

float random_uniform(uint64_t *state)
{
    return (float)((double)(random_bits(state) >> 40) * 0x1p-23 - 1.0);
}

void fill_random(void *dst, size_t bytes, uint64_t seed)
{
    uint8_t *p = dst;
    for (size_t i = 0; i < bytes; i++) p[i] = (uint8_t)random_bits(&seed);
}

void fill_uniform(float *dst, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) dst[i] = random_uniform(&seed);
}

static void put_half(uint8_t *dst, float value)
{
    uint16_t h = tr_f32_to_f16(value);
    memcpy(dst, &h, 2);
}

/* Scales of a block: random, and small enough that products of 4096 terms stay ordinary. */
static void put_scales(uint8_t *block, trueno_dtype t, uint64_t *seed)
{
    float d = random_uniform(seed) * 0.02F, m = random_uniform(seed) * 0.02F;
    switch (t) {
    case TRUENO_TYPE_Q6_K: put_half(block + 208, d * 0.1F); break;
    case TRUENO_TYPE_Q3_K: put_half(block + 108, d); break;
    case TRUENO_TYPE_Q2_K:
        put_half(block + 80, d);
        put_half(block + 82, m);
        break;
    case TRUENO_TYPE_Q4_1:
    case TRUENO_TYPE_Q5_1:
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K:
        put_half(block, d);
        put_half(block + 2, m);
        break;
    default: put_half(block, d); break;
    }
}

static void put_plain(uint8_t *dst, trueno_dtype t, uint64_t *seed)
{
    float x = random_uniform(seed);
    uint16_t h = t == TRUENO_TYPE_F16 ? tr_f32_to_f16(x) : tr_f32_to_bf16(x);
    if (t == TRUENO_TYPE_F32)
        memcpy(dst, &x, 4);
    else
        memcpy(dst, &h, 2);
}

uint8_t *random_weights(trueno_dtype t, size_t n_rows, size_t k, uint64_t seed)
{
    const trueno_dtype_info *info = trueno_dtype_get_info(t);
    size_t n_blocks = n_rows * (k / info->block);
    uint8_t *rows = test_alloc(n_blocks * info->block_bytes);

    fill_random(rows, n_blocks * info->block_bytes, seed);
    for (size_t b = 0; b < n_blocks; b++) {
        uint8_t *block = rows + b * info->block_bytes;
        if (info->is_quantized)
            put_scales(block, t, &seed);
        else
            put_plain(block, t, &seed);
    }
    return rows;
}

double nmse(const double *a, const float *b, size_t n)
{
    double error = 0, size = 0;
    for (size_t i = 0; i < n; i++) {
        double e = a[i] - (double)b[i];
        error += e * e;
        size += a[i] * a[i];
    }
    return error / size;
}
