/* SPDX-License-Identifier: MIT */
/* Products of many columns with F32, F16 and BF16 weights by OpenBLAS: class R, its order of
 * additions is its own.
 *
 * The library is loaded when the first context asks for one of these kernels, not linked: OpenBLAS
 * starts threads as soon as it is in a process, which no host should get unasked. Its number of
 * threads is one setting for the whole process. Every thread of ours makes calls of its own, so
 * that setting must be 1; where it is not, the kernels cannot run, for to change it is the host's
 * business alone. */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <string.h>

#include "act.h"
#include "quant/half.h"
#include "tables.h"
#include "x16.h"

/* A block of weights, [BLOCK_K][BLOCK_ROWS], and one of activations, [BLOCK_K][columns]: both stay
 * in the L2 cache while OpenBLAS packs them once more. */
#define BLOCK_K       256
#define BLOCK_ROWS    256
#define BLOCK_TILES   64
#define BLOCK_COLUMNS (BLOCK_TILES * TR_NT_MAX)
#define SCRATCH_BYTES (sizeof(float) * BLOCK_K * (BLOCK_ROWS + BLOCK_COLUMNS))

/* With fewer columns the copies cost more than OpenBLAS gains. */
#define MIN_COLUMNS 128

/* Of the C interface of BLAS: values and arguments are fixed by it. */
enum { COLUMN_MAJOR = 102, AS_IS = 111, TRANSPOSED = 112 };
typedef void (*sgemm_fn)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha,
                         const float *a, int lda, const float *b, int ldb, float beta, float *c,
                         int ldc);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static sgemm_fn sgemm;
static int (*get_num_threads)(void);

static void load(void)
{
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_LOCAL);
    if (!lib) return;
    void *f = dlsym(lib, "cblas_sgemm"), *n = dlsym(lib, "openblas_get_num_threads");
    if (!f || !n) return;
    memcpy(&get_num_threads, &n, sizeof n); /* ISO C has no cast from object to function */
    memcpy(&sgemm, &f, sizeof f);
}

static const char *missing(void)
{
    pthread_once(&once, load);
    if (!sgemm) return "the library libopenblas.so.0 cannot be loaded";
    if (get_num_threads() != 1)
        return "OpenBLAS uses several threads in this process; OPENBLAS_NUM_THREADS=1 in the "
               "environment or openblas_set_num_threads(1) makes it one";
    return NULL;
}

static bool fits(const struct tr_gemm_shape *shape)
{
    return shape->n_cols >= MIN_COLUMNS && shape->ldo <= INT_MAX;
}

/* Element i of the 16 rows of a group. */
typedef void (*decode_fn)(float *dst, const uint8_t *group, size_t i);

static void decode_f32(float *dst, const uint8_t *group, size_t i)
{
    memcpy(dst, group + 64 * i, TR_ROWS * sizeof *dst);
}

static void decode_f16(float *dst, const uint8_t *group, size_t i)
{
    uint16_t bits[TR_ROWS];
    memcpy(bits, group + 32 * i, sizeof bits);
    for (size_t r = 0; r < TR_ROWS; r++) dst[r] = tr_f16_to_f32(bits[r]);
}

static void decode_bf16(float *dst, const uint8_t *group, size_t i)
{
    uint16_t bits[TR_ROWS][2];
    memcpy(bits, group + 64 * (i / 2), sizeof bits);
    for (size_t r = 0; r < TR_ROWS; r++) dst[r] = tr_bf16_to_f32(bits[r][i % 2]);
}

/* Rows [r0, r0 + 16 * n_groups), elements [k0, k0 + n_k). */
static void copy_weights(float *dst, const struct tr_gemm_wide *a, trueno_dtype type,
                         decode_fn decode, size_t r0, size_t n_groups, size_t k0, size_t n_k)
{
    size_t group_bytes = tr_x16_group_bytes(type, a->k);
    for (size_t g = 0; g < n_groups; g++) {
        const uint8_t *group = (const uint8_t *)a->w + (r0 / TR_ROWS + g) * group_bytes;
        for (size_t i = 0; i < n_k; i++) decode(dst + i * BLOCK_ROWS + g * TR_ROWS, group, k0 + i);
    }
}

/* Columns of tiles [t0, t1), `width` in all, elements [k0, k0 + n_k). */
static void copy_columns(float *dst, const struct tr_gemm_wide *a, size_t t0, size_t t1,
                         size_t width, size_t k0, size_t n_k)
{
    const size_t n_tiles = tr_n_tiles(a->n_cols, a->tile_width),
                 first = tr_tile(t0, a->n_cols, n_tiles);
    for (size_t t = t0; t < t1; t++) {
        size_t c0 = tr_tile(t, a->n_cols, n_tiles), nt = tr_tile(t + 1, a->n_cols, n_tiles) - c0;
        const float *tile = (const float *)a->acts + c0 * a->k + k0 * nt;
        for (size_t i = 0; i < n_k; i++, tile += nt)
            memcpy(dst + i * width + (c0 - first), tile, nt * sizeof *dst);
    }
}

/* Adds elements [k0, k0 + n_k) for the columns of tiles [t0, t1); the first ones replace what is in
 * `out`. */
static void add_elements(const struct tr_gemm_wide *a, trueno_dtype type, decode_fn decode,
                         size_t t0, size_t t1, size_t k0, size_t n_k)
{
    const size_t n_tiles = tr_n_tiles(a->n_cols, a->tile_width),
                 first = tr_tile(t0, a->n_cols, n_tiles);
    const size_t width = tr_tile(t1, a->n_cols, n_tiles) - first;
    float *weights = a->scratch, *columns = weights + BLOCK_K * BLOCK_ROWS;

    copy_columns(columns, a, t0, t1, width, k0, n_k);
    for (size_t r0 = 0; r0 < a->n_rows; r0 += BLOCK_ROWS) {
        size_t n = a->n_rows - r0 < BLOCK_ROWS ? a->n_rows - r0 : BLOCK_ROWS;
        copy_weights(weights, a, type, decode, r0, (n + TR_ROWS - 1) / TR_ROWS, k0, n_k);
        sgemm(COLUMN_MAJOR, AS_IS, TRANSPOSED, (int)n, (int)width, (int)n_k, 1, weights, BLOCK_ROWS,
              columns, (int)width, k0 > 0 ? 1 : 0, a->out + first * a->ldo + r0, (int)a->ldo);
    }
}

static void multiply(const struct tr_gemm_wide *a, trueno_dtype type, decode_fn decode)
{
    const size_t n_tiles = tr_n_tiles(a->n_cols, a->tile_width);
    for (size_t t0 = 0; t0 < n_tiles; t0 += BLOCK_TILES) {
        size_t t1 = n_tiles - t0 < BLOCK_TILES ? n_tiles : t0 + BLOCK_TILES;
        for (size_t k0 = 0; k0 < a->k; k0 += BLOCK_K)
            add_elements(a, type, decode, t0, t1, k0, a->k - k0 < BLOCK_K ? a->k - k0 : BLOCK_K);
    }
}

static void gemm_f32(const struct tr_gemm_wide *a)
{
    multiply(a, TRUENO_TYPE_F32, decode_f32);
}

static void gemm_f16(const struct tr_gemm_wide *a)
{
    multiply(a, TRUENO_TYPE_F16, decode_f16);
}

static void gemm_bf16(const struct tr_gemm_wide *a)
{
    multiply(a, TRUENO_TYPE_BF16, decode_bf16);
}

#define BLAS_ROW(kernel, type, function)                                                           \
    {                                                                                              \
        .name = kernel, .op = TR_OP_GEMM, .dtype = TRUENO_TYPE_##type, .act = TR_ACT_F32,          \
        .numerics = TR_REORDERED, .family = TR_FAMILY_DEQUANT_BLAS, .tile_rows = BLOCK_ROWS,       \
        .scratch_bytes = SCRATCH_BYTES, .fits = fits, .missing = missing, .fn = {                  \
            .gemm_wide = function                                                                  \
        }                                                                                          \
    }

static const struct tr_kernel kernels[] = {
    BLAS_ROW("gemm_f32_openblas", F32, gemm_f32),
    BLAS_ROW("gemm_f16_openblas", F16, gemm_f16),
    BLAS_ROW("gemm_bf16_openblas", BF16, gemm_bf16),
};
const struct tr_kernel_table tr_table_gemm_openblas = {kernels, sizeof kernels / sizeof *kernels};
