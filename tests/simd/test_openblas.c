/* SPDX-License-Identifier: MIT */
/* OpenBLAS as a kernel: the host's number of threads survives, whatever it is; where it is not 1
 * the kernels are refused; products differ from ours by rounding errors alone. */
#include "simd_test.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "quant/quant.h"
#include "simd/kernel.h"
#include "trueno/kernels.h"

#define NAMES "gemm_f32_openblas,gemm_f16_openblas,gemm_bf16_openblas"

enum { ROWS = 301, COLS = 520, N = 530 };

/* The host's own view of the library. */
static void (*set_threads)(int);
static int (*get_threads)(void);

static int find_openblas(void **state)
{
    (void)state;
    void *lib = dlopen("libopenblas.so.0", RTLD_NOW);
    if (!lib) return 0;
    void *set = dlsym(lib, "openblas_set_num_threads"),
         *get = dlsym(lib, "openblas_get_num_threads");
    memcpy(&set_threads, &set, sizeof set);
    memcpy(&get_threads, &get, sizeof get);
    return 0;
}

/* False, with a message, where there is nothing to test. */
static bool have_openblas(void)
{
#if defined(TR_OPENBLAS)
    if (set_threads && get_threads) return true;
    print_message("skipped: no libopenblas.so.0\n");
#else
    print_message("skipped: built without OpenBLAS\n");
#endif
    return false;
}

static trueno_ctx *ctx_with(const char *kernels, trueno_numerics numerics)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx;
    opt.kernels = kernels;
    opt.numerics = numerics;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    return ctx;
}

static void test_other_settings_are_refused(void **state)
{
    (void)state;
    if (!have_openblas()) return;
    trueno_ctx *ctx = ctx_with(NAMES, TRUENO_NUMERICS_EXACT);
    trueno_error err = {TRUENO_OK, ""};
    const struct tr_kernel *k, *wide;
    set_threads(2);
    if (get_threads() == 2) {
        assert_int_equal(
            tr_kernel_choose(&k, &wide, ctx, TR_OP_GEMM, TRUENO_TYPE_F32, TR_ACT_NONE, &err),
            TRUENO_ERR_ARGUMENT);
        assert_non_null(strstr(err.message, "several threads"));
        assert_int_equal(get_threads(), 2);
    } else {
        print_message("skipped: this OpenBLAS has one thread only\n");
    }
    trueno_ctx_free(ctx);
}

/* One type: y of N columns against the exact kernels. */
static void check_type(trueno_dtype t, uint32_t n_threads)
{
    uint8_t *data = random_weights(t, ROWS, COLS, 3);
    float *x = test_alloc((size_t)N * COLS * sizeof *x);
    float *y[2];
    double *want = test_alloc((size_t)N * ROWS * sizeof *want);
    const char *names[] = {"", NAMES};
    fill_uniform(x, (size_t)N * COLS, 9);
    for (int i = 0; i < 2; i++) {
        trueno_ctx *ctx = ctx_with(names[i], TRUENO_NUMERICS_EXACT);
        trueno_pool *pool;
        trueno_matrix *w;
        y[i] = test_alloc((size_t)N * ROWS * sizeof *y[i]);
        assert_int_equal(trueno_pool_new(ctx, &pool, n_threads, NULL), TRUENO_OK);
        assert_int_equal(trueno_matrix_new(ctx, &w, t, ROWS, COLS, data, pool, NULL), TRUENO_OK);
        assert_int_equal(strstr(trueno_matrix_kernel(w, N), "openblas") != NULL, i);
        assert_null(strstr(trueno_matrix_kernel(w, 8), "openblas"));
        assert_int_equal(trueno_matmul(w, y[i], ROWS, x, COLS, N, pool, NULL), TRUENO_OK);
        trueno_matrix_free(w);
        trueno_pool_free(pool);
        trueno_ctx_free(ctx);
    }
    for (size_t i = 0; i < (size_t)N * ROWS; i++) want[i] = (double)y[0][i];
    double error = nmse(want, y[1], (size_t)N * ROWS);
    if (!(error <= 1e-11)) fail_msg("%s: NMSE %g", trueno_dtype_get_info(t)->name, error);
    free(data);
    free(x);
    free(y[0]);
    free(y[1]);
    free(want);
}

static void test_products(void **state)
{
    (void)state;
    if (!have_openblas()) return;
    set_threads(1);
    for (uint32_t n = 1; n <= 3; n++) {
        check_type(TRUENO_TYPE_F32, n);
        check_type(TRUENO_TYPE_F16, n);
        check_type(TRUENO_TYPE_BF16, n);
    }
    assert_int_equal(get_threads(), 1);
}

/* Bounded numerics admit it where nothing faster is; a kernel that was named does all of it. */
static void test_bounded(void **state)
{
    const struct tr_kernel *k, *wide;
    (void)state;
    if (!have_openblas()) return;
    set_threads(1);
    setenv("TRUENO_CPU", "ref", 1);
    trueno_ctx *ctx = ctx_with(NULL, TRUENO_NUMERICS_BOUNDED);
    assert_int_equal(
        tr_kernel_choose(&k, &wide, ctx, TR_OP_GEMM, TRUENO_TYPE_F32, TR_ACT_NONE, NULL),
        TRUENO_OK);
    assert_string_equal(wide->name, "gemm_f32_openblas");
    assert_string_equal(k->name, "gemm_f32_ref_16x8");
    trueno_ctx_free(ctx);
    ctx = ctx_with("gemm_f32_ref_16x8", TRUENO_NUMERICS_BOUNDED);
    unsetenv("TRUENO_CPU");
    assert_int_equal(
        tr_kernel_choose(&k, &wide, ctx, TR_OP_GEMM, TRUENO_TYPE_F32, TR_ACT_NONE, NULL),
        TRUENO_OK);
    assert_null(wide);
    trueno_ctx_free(ctx);
}

int main(void)
{
    unsetenv("TRUENO_KERNEL");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_settings_are_refused),
        cmocka_unit_test(test_products),
        cmocka_unit_test(test_bounded),
    };
    return cmocka_run_group_tests(tests, find_openblas, NULL);
}
