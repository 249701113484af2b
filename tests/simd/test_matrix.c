/* SPDX-License-Identifier: MIT */
/* Packed matrices: products against double precision, and the promise that no cut of the work (by
 * threads, by batches, by instruction set) changes a bit. */
#include "simd_test.h"

#include <math.h>
#include <string.h>

#include "quant/quant.h"
#include "simd/matrix.h"

#define CANARY 12345.0F

static trueno_ctx *new_ctx(const char *cpu)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx;
    opt.cpu = cpu;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    return ctx;
}

/* y of n_cols columns, rows + 3 floats apart; what lies between columns must stay. */
static float *multiply(trueno_ctx *ctx, trueno_dtype t, size_t rows, size_t cols,
                       const uint8_t *data, const float *x, size_t n_cols, uint32_t n_threads,
                       size_t batch)
{
    trueno_pool *pool = NULL;
    trueno_matrix *w;
    size_t ldy = rows + 3;
    float *y = test_alloc(n_cols * ldy * sizeof *y);
    for (size_t i = 0; i < n_cols * ldy; i++) y[i] = CANARY;
    if (n_threads) assert_int_equal(trueno_pool_new(ctx, &pool, n_threads, NULL), TRUENO_OK);
    assert_int_equal(trueno_matrix_new(ctx, &w, t, rows, cols, data, pool, NULL), TRUENO_OK);
    for (size_t c = 0; c < n_cols; c += batch) {
        size_t n = n_cols - c < batch ? n_cols - c : batch;
        assert_int_equal(
            trueno_matmul(w, y + c * ldy, ldy, x + c * (cols + 1), cols + 1, n, pool, NULL),
            TRUENO_OK);
    }
    for (size_t c = 0; c < n_cols; c++)
        for (size_t r = rows; r < ldy; r++) assert_true(y[c * ldy + r] == CANARY);
    trueno_matrix_free(w);
    trueno_pool_free(pool);
    return y;
}

static void check_against_double(trueno_dtype t, size_t rows, size_t cols, const uint8_t *data,
                                 const float *x, size_t n_cols, const float *y)
{
    size_t row_bytes = trueno_row_bytes(t, cols);
    double *want = test_alloc(n_cols * rows * sizeof *want);
    float *got = test_alloc(n_cols * rows * sizeof *got);
    float *weights = test_alloc(cols * sizeof *weights);
    for (size_t r = 0; r < rows; r++) {
        tr_dequantize_row(weights, data + r * row_bytes, t, cols);
        for (size_t c = 0; c < n_cols; c++) {
            double dot = 0;
            for (size_t i = 0; i < cols; i++) dot += weights[i] * (double)x[c * (cols + 1) + i];
            want[c * rows + r] = dot;
            got[c * rows + r] = y[c * (rows + 3) + r];
        }
    }
    double error = nmse(want, got, n_cols * rows);
    if (!(error <= 1e-4)) fail_msg("%s: L4 %.2e", trueno_dtype_get_info(t)->name, error);
    free(want);
    free(got);
    free(weights);
}

/* Every shape of edge: rows around 16, columns around a tile, short panels, all types. */
static void test_shapes(void **state)
{
    static const size_t row_counts[] = {1, 15, 16, 17, 33}, col_counts[] = {1, 2, 7, 8, 9, 33};
    trueno_ctx *ctx = new_ctx(NULL);
    (void)state;
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        trueno_dtype t = test_types[i];
        size_t cols = 5 * (size_t)trueno_dtype_get_info(t)->block;
        for (size_t j = 0; j < 5; j++) {
            uint8_t *data = random_weights(t, row_counts[j], cols, i);
            float *x = test_alloc(33 * (cols + 1) * sizeof *x);
            fill_uniform(x, 33 * (cols + 1), j);
            for (size_t m = 0; m < 6; m++) {
                size_t n = col_counts[m];
                float *y = multiply(ctx, t, row_counts[j], cols, data, x, n, 0, n);
                if (row_counts[j] > 1) check_against_double(t, row_counts[j], cols, data, x, n, y);
                free(y);
            }
            free(data);
            free(x);
        }
    }
    trueno_ctx_free(ctx);
}

/* Threads 1, 2, 3, 7, batches of 1, 7, 16, 40: the bits of the C reference, which is right. 181
 * rows of 4096 are several blocks of row groups for one thread in every type. */
static void test_same_bits(void **state)
{
    static const uint32_t threads[] = {1, 2, 3, 7};
    static const size_t batches[] = {1, 7, 16, 40};
    size_t rows = 181, cols = 4096, n = 40, bytes = n * (rows + 3) * sizeof(float);
    trueno_ctx *ref = new_ctx("ref"), *ctx = new_ctx(NULL);
    float *x = test_alloc(n * (cols + 1) * sizeof *x);
    (void)state;
    fill_uniform(x, n * (cols + 1), 5);
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        trueno_dtype t = test_types[i];
        uint8_t *data = random_weights(t, rows, cols, i);
        float *want = multiply(ref, t, rows, cols, data, x, n, 0, n);
        check_against_double(t, rows, cols, data, x, n, want);
        for (size_t j = 0; j < 4; j++) {
            float *got = multiply(ctx, t, rows, cols, data, x, n, threads[j], batches[j]);
            if (memcmp(want, got, bytes) != 0)
                fail_msg("%s: %u threads, batches of %zu", trueno_dtype_get_info(t)->name,
                         threads[j], batches[j]);
            free(got);
        }
        free(data);
        free(want);
    }
    free(x);
    trueno_ctx_free(ref);
    trueno_ctx_free(ctx);
}

/* Rows left where they are, at an odd address: the bits of packed ones, for whole blocks of row
 * groups and a short group at the end. */
static void test_mapped(void **state)
{
    size_t rows = 501, cols = 2048, m = 11;
    trueno_ctx *ctx = new_ctx(NULL);
    float *x = test_alloc(m * (cols + 1) * sizeof *x);
    (void)state;
    fill_uniform(x, m * (cols + 1), 7);
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        trueno_dtype t = test_types[i];
        size_t bytes = rows * trueno_row_bytes(t, cols), ldy = rows + 3;
        uint8_t *data = random_weights(t, rows, cols, i), *odd = test_alloc(bytes + 1);
        float *want = multiply(ctx, t, rows, cols, data, x, m, 1, m);
        float *got = test_alloc(m * ldy * sizeof *got), *row = test_alloc(cols * sizeof *row);
        struct tr_matrix w;
        memcpy(odd + 1, data, bytes);
        assert_int_equal(tr_matrix_init(&w, NULL, t, rows, cols, ctx, NULL), TRUENO_OK);
        tr_matrix_set_mapped(&w, odd + 1);
        void *acts = aligned_alloc(64, m * tr_act_col_bytes(w.gemm->act, cols) / 64 * 64 + 64);
        void *scratch = aligned_alloc(64, tr_matmul_scratch_bytes(&w));
        assert_true(acts && scratch && tr_matmul_scratch_bytes(&w) % 64 == 0);
        for (size_t c = 0; c < m * ldy; c++) got[c] = CANARY;
        tr_act_pack_part(acts, &w, x, cols + 1, m, 0, 1);
        for (uint32_t tid = 0; tid < 3; tid++)
            tr_matmul_part(&w, tr_matrix_kernel(&w, m, ldy), got, ldy, acts, m, scratch, NULL, tid,
                           3);
        assert_memory_equal(want, got, m * ldy * sizeof *got);
        tr_dequantize_row(got, data + 17 * trueno_row_bytes(t, cols), t, cols);
        tr_matrix_row(row, &w, 17, NULL);
        assert_memory_equal(got, row, cols * sizeof *row);
        free(data);
        free(odd);
        free(want);
        free(got);
        free(row);
        free(acts);
        free(scratch);
    }
    free(x);
    trueno_ctx_free(ctx);
}

/* The units of a cut cover every row group and every tile once, and keep to the columns that they
 * may have. */
static void test_cuts(void **state)
{
    static const size_t rows[] = {1, 16, 17, 500, 4096}, ms[] = {1, 8, 9, 100, 512};
    static const size_t groups[] = {1, 4, 6, 1000}, max_cols[] = {1, 8, 64, SIZE_MAX};
    (void)state;
    for (size_t i = 0; i < 5 * 5 * 4 * 4 * 2; i++) {
        const uint32_t width = i % 2 ? 8 : 6;
        size_t n_rows = rows[i / 2 % 5], m = ms[i / 10 % 5], most = max_cols[i / 200];
        struct tr_matrix w = {.rows = n_rows, .tile_width = width};
        struct tr_cut cut = tr_cut_of(&w, groups[i / 50 % 4], m, most);
        size_t n_tiles = m <= 8 ? 1 : (m + width - 1) / width;
        unsigned char done[256][96] = {0};
        for (size_t u = 0; u < cut.n_units; u++) {
            struct tr_block b = tr_cut_block(&cut, u, m);
            assert_true(b.g0 < b.g1 && b.t0 < b.t1);
            assert_true(b.t1 - b.t0 == 1 ||
                        tr_block_col(&b, b.t1) - tr_block_col(&b, b.t0) <= most);
            for (size_t g = b.g0; g < b.g1; g++)
                for (size_t t = b.t0; t < b.t1; t++) done[g][t]++;
        }
        for (size_t g = 0; g < 256; g++)
            for (size_t t = 0; t < 96; t++)
                assert_int_equal(done[g][t], g < (n_rows + 15) / 16 && t < n_tiles);
    }
}

/* The embedding look-up gives the decoder's numbers. */
static void test_row(void **state)
{
    size_t rows = 21, cols = 768;
    trueno_ctx *ctx = new_ctx("ref");
    (void)state;
    for (size_t i = 0; i < TEST_N_TYPES; i++) {
        trueno_dtype t = test_types[i];
        struct tr_matrix w;
        uint64_t bytes;
        uint8_t *data = random_weights(t, rows, cols, i);
        float *got = test_alloc(cols * sizeof *got), *want = test_alloc(cols * sizeof *want);
        void *scratch = test_alloc(trueno_row_bytes(tr_x16_type(t), cols));
        assert_true(tr_matrix_bytes(&bytes, t, rows, cols));
        void *packed = aligned_alloc(64, bytes);
        assert_non_null(packed);
        assert_int_equal(tr_matrix_init(&w, packed, t, rows, cols, ctx, NULL), TRUENO_OK);
        tr_matrix_pack_groups(&w, data, 0, 2);
        for (size_t r = 0; r < rows; r++) {
            tr_matrix_row(got, &w, r, scratch);
            tr_dequantize_row(want, data + r * trueno_row_bytes(t, cols), t, cols);
            assert_memory_equal(got, want, cols * sizeof *got);
        }
        free(data);
        free(got);
        free(want);
        free(scratch);
        free(packed);
    }
    trueno_ctx_free(ctx);
}

static void test_sizes(void **state)
{
    uint64_t bytes = 1;
    (void)state;
    assert_true(tr_matrix_bytes(&bytes, TRUENO_TYPE_Q4_K, 17, 512));
    assert_int_equal(bytes, 2 * 2 * 2304);
    assert_true(tr_matrix_bytes(&bytes, TRUENO_TYPE_F32, 16, 1));
    assert_int_equal(bytes, 64);
    assert_false(tr_matrix_bytes(&bytes, TRUENO_TYPE_Q4_K, 16, 128));
    assert_false(tr_matrix_bytes(&bytes, TRUENO_TYPE_I32, 16, 128));
    assert_false(tr_matrix_bytes(&bytes, (trueno_dtype)4, 16, 128));
    assert_false(tr_matrix_bytes(&bytes, TRUENO_TYPE_F32, UINT64_MAX, 1));
    assert_false(tr_matrix_bytes(&bytes, TRUENO_TYPE_F32, 1, UINT64_MAX));
    assert_false(tr_matrix_bytes(&bytes, TRUENO_TYPE_F32, (uint64_t)1 << 40, (uint64_t)1 << 40));
    assert_false(tr_matrix_bytes(&bytes, TRUENO_TYPE_Q8_0, (uint64_t)1 << 60, 1024));
}

static void test_errors(void **state)
{
    trueno_ctx *ctx = new_ctx(NULL);
    trueno_matrix *w = (void *)ctx;
    trueno_error err;
    float data[64] = {0}, y[2];
    (void)state;
    assert_int_equal(trueno_matrix_new(ctx, NULL, TRUENO_TYPE_F32, 2, 32, data, NULL, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matrix_new(NULL, &w, TRUENO_TYPE_F32, 2, 32, data, NULL, NULL),
                     TRUENO_ERR_ARGUMENT);
    assert_null(w);
    assert_int_equal(trueno_matrix_new(ctx, &w, TRUENO_TYPE_F32, 2, 32, NULL, NULL, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matrix_new(ctx, &w, TRUENO_TYPE_Q4_0, 2, 33, data, NULL, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "33"));
    assert_int_equal(trueno_matrix_new(ctx, &w, TRUENO_TYPE_F32, 0, 32, data, NULL, &err),
                     TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matrix_new(ctx, &w, TRUENO_TYPE_I32, 2, 32, data, NULL, &err),
                     TRUENO_ERR_UNSUPPORTED);
    assert_int_equal(trueno_matrix_new(ctx, &w, (trueno_dtype)77, 2, 32, data, NULL, &err),
                     TRUENO_ERR_UNSUPPORTED);
    assert_int_equal(
        trueno_matrix_new(ctx, &w, TRUENO_TYPE_F32, SIZE_MAX, SIZE_MAX, data, NULL, &err),
        TRUENO_ERR_ARGUMENT);
    assert_null(w);

    assert_int_equal(trueno_matrix_new(ctx, &w, TRUENO_TYPE_F32, 2, 32, data, NULL, &err),
                     TRUENO_OK);
    assert_int_equal(trueno_matmul(NULL, y, 2, data, 32, 1, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matmul(w, NULL, 2, data, 32, 1, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matmul(w, y, 2, NULL, 32, 1, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matmul(w, y, 1, data, 32, 1, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matmul(w, y, 2, data, 31, 1, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_matmul(w, y, 2, data, 32, 0, NULL, &err), TRUENO_OK);
    trueno_matrix_free(w);
    trueno_matrix_free(NULL);
    trueno_ctx_free(ctx);
}

/* Each failing allocation is reported and leaves nothing behind. */
struct limited {
    size_t left;
};

static void *limited_alloc(void *user, size_t bytes)
{
    struct limited *l = user;
    return l->left ? l->left--, malloc(bytes) : NULL;
}

static void *limited_realloc(void *user, void *ptr, size_t bytes)
{
    struct limited *l = user;
    return l->left ? l->left--, realloc(ptr, bytes) : NULL;
}

static void limited_free(void *user, void *ptr)
{
    (void)user;
    free(ptr);
}

static void test_no_memory(void **state)
{
    struct limited l = {SIZE_MAX};
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_allocator hooks = {limited_alloc, limited_realloc, limited_free, &l};
    trueno_ctx *ctx;
    float data[64] = {0}, y[2];
    uint64_t before, after;
    (void)state;
    opt.allocator = hooks;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    trueno_ctx_memory(ctx, &before, NULL);
    for (size_t n = 0; n < 4; n++) {
        trueno_matrix *w;
        l.left = n;
        trueno_status made = trueno_matrix_new(ctx, &w, TRUENO_TYPE_F32, 2, 32, data, NULL, NULL);
        assert_int_equal(made, n < 2 ? TRUENO_ERR_NO_MEMORY : TRUENO_OK);
        if (made == TRUENO_OK)
            assert_int_equal(trueno_matmul(w, y, 2, data, 32, 1, NULL, NULL),
                             n < 3 ? TRUENO_ERR_NO_MEMORY : TRUENO_OK);
        trueno_matrix_free(w);
        trueno_ctx_memory(ctx, &after, NULL);
        assert_int_equal(before, after);
    }
    trueno_ctx_free(ctx);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_shapes), cmocka_unit_test(test_same_bits),
        cmocka_unit_test(test_mapped), cmocka_unit_test(test_cuts),
        cmocka_unit_test(test_row),    cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_errors), cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
