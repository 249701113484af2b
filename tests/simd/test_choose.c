/* SPDX-License-Identifier: MIT */
/* Which kernel a context uses: the registry's order, names that force another, numerics. */
#include "simd_test.h"

#include <stdlib.h>
#include <string.h>

#include "simd/kernel.h"
#include "simd/matrix.h"
#include "trueno/kernels.h"

static trueno_ctx *ctx_with(const char *cpu, const char *kernels, trueno_numerics numerics)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx = NULL;
    opt.cpu = cpu;
    opt.kernels = kernels;
    opt.numerics = numerics;
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    return ctx;
}

/* A matrix of 24 x 512 in this context, or the refusal. */
static trueno_status new_matrix(trueno_matrix **w, trueno_ctx *ctx, trueno_dtype t,
                                trueno_error *err)
{
    uint8_t *data = random_weights(t, 24, 512, 1);
    trueno_status status = trueno_matrix_new(ctx, w, t, 24, 512, data, NULL, err);
    free(data);
    return status;
}

static void expect_kernel(trueno_ctx *ctx, trueno_dtype t, const char *name)
{
    trueno_matrix *w;
    trueno_error err = {TRUENO_OK, ""};
    if (new_matrix(&w, ctx, t, &err) != TRUENO_OK) fail_msg("%s", err.message);
    assert_string_equal(trueno_matrix_kernel(w, 1), name);
    trueno_matrix_free(w);
}

static void expect_refused(const char *cpu, const char *kernels, const char *part)
{
    trueno_ctx *ctx = ctx_with(cpu, kernels, TRUENO_NUMERICS_EXACT);
    trueno_matrix *w = (void *)ctx;
    trueno_error err = {TRUENO_OK, ""};
    assert_int_equal(new_matrix(&w, ctx, TRUENO_TYPE_F32, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(err.status, TRUENO_ERR_ARGUMENT);
    assert_null(w);
    if (!strstr(err.message, part)) fail_msg("'%s' lacks '%s'", err.message, part);
    trueno_ctx_free(ctx);
}

/* Every kernel that this machine can run is the one that runs where it is named. */
static void test_each_can_be_forced(void **state)
{
    const struct tr_kernel *k, *got, *wide;
    (void)state;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if ((k->cpu & ~trueno_cpu_features()) != 0 || (k->missing && k->missing())) {
            print_message("skipped: %s cannot run here\n", k->name);
            continue;
        }
        trueno_ctx *ctx = ctx_with(NULL, k->name, TRUENO_NUMERICS_EXACT);
        assert_int_equal(tr_kernel_choose(&got, &wide, ctx, k->op, k->dtype, k->act, NULL),
                         TRUENO_OK);
        assert_ptr_equal(k->fits ? wide : got, k);
        if (k->op == TR_OP_GEMM && !k->fits) expect_kernel(ctx, k->dtype, k->name);
        trueno_ctx_free(ctx);
    }
}

/* A name counts for its type alone; in a list each counts. */
static void test_names_do_not_disturb_others(void **state)
{
    const char *list = "gemm_q4_k_ref_16x8,rmsnorm_ref,gemm_f16_ref_16x8";
    trueno_ctx *ctx = ctx_with(NULL, list, TRUENO_NUMERICS_EXACT);
    const struct tr_kernel *best =
        tr_kernel_find(trueno_ctx_cpu_features(ctx), TR_OP_GEMM, TRUENO_TYPE_Q8_0, TR_ACT_NONE);
    (void)state;
    expect_kernel(ctx, TRUENO_TYPE_Q4_K, "gemm_q4_k_ref_16x8");
    expect_kernel(ctx, TRUENO_TYPE_F16, "gemm_f16_ref_16x8");
    expect_kernel(ctx, TRUENO_TYPE_Q8_0, best->name);
    expect_kernel(
        ctx, TRUENO_TYPE_Q2_K,
        tr_kernel_find(trueno_ctx_cpu_features(ctx), TR_OP_GEMM, TRUENO_TYPE_F32, TR_ACT_NONE)
            ->name);
    trueno_ctx_free(ctx);
}

static void test_bad_names(void **state)
{
    (void)state;
    expect_refused(NULL, "gemm_q4_k", "'gemm_q4_k'");
    expect_refused(NULL, "gemm_f32_ref_16x8,nonsense", "'nonsense'");
    expect_refused(NULL, "gemm_f32_ref_16x8 ", "trueno-kernels --list");
    expect_refused(NULL, ",", "''");
    expect_refused(NULL, "bad\nname", "bad\\x0aname");
#if defined(__x86_64__)
    expect_refused("ref", "gemm_q4_k_avx2_16x8", "needs avx2");
    expect_refused("ref", "gemm_q4_k_avx2_16x8", "level ref lacks");
#endif
}

/* The variable of the environment; an option comes before it, an empty one is none. */
static void test_environment(void **state)
{
    (void)state;
    setenv("TRUENO_KERNEL", "gemm_q5_0_ref_16x8", 1);
    trueno_ctx *ctx = ctx_with(NULL, NULL, TRUENO_NUMERICS_EXACT);
    setenv("TRUENO_KERNEL", "nonsense", 1); /* the context has its copy */
    expect_kernel(ctx, TRUENO_TYPE_Q5_0, "gemm_q5_0_ref_16x8");
    trueno_ctx_free(ctx);
    expect_refused(NULL, NULL, "'nonsense'");
    ctx = ctx_with("ref", "", TRUENO_NUMERICS_EXACT);
    expect_kernel(ctx, TRUENO_TYPE_Q5_0, "gemm_q5_0_ref_16x8");
    trueno_ctx_free(ctx);
    unsetenv("TRUENO_KERNEL");
}

/* Unless asked for, only exact kernels are chosen, whatever the level: at "ref" the reordered ones
 * stand behind the reference. */
static void check_numerics(const char *level)
{
    const struct tr_kernel *k, *got, *wide;
    trueno_ctx *exact = ctx_with(level, NULL, TRUENO_NUMERICS_EXACT);
    trueno_ctx *bounded = ctx_with(level, NULL, TRUENO_NUMERICS_BOUNDED);
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        assert_int_equal(tr_kernel_choose(&got, &wide, exact, k->op, k->dtype, k->act, NULL),
                         TRUENO_OK);
        assert_int_equal(got->numerics, TR_EXACT);
        assert_true(!wide || wide->numerics == TR_EXACT);
        assert_ptr_equal(got,
                         tr_kernel_find(trueno_ctx_cpu_features(exact), k->op, k->dtype, k->act));
        assert_int_equal(tr_kernel_choose(&got, &wide, bounded, k->op, k->dtype, k->act, NULL),
                         TRUENO_OK);
        assert_non_null(got);
    }
    trueno_ctx_free(exact);
    trueno_ctx_free(bounded);
}

static void test_numerics(void **state)
{
    (void)state;
    for (size_t i = 0; trueno_cpu_level(i) != NULL; i++) check_numerics(trueno_cpu_level(i));
}

static uint32_t width_in(const char *cpu, const char *kernels)
{
    trueno_ctx *ctx = ctx_with(cpu, kernels, TRUENO_NUMERICS_EXACT);
    uint32_t width = tr_tile_width(ctx);
    trueno_ctx_free(ctx);
    return width;
}

/* Tiles are as wide as the narrowest of the packing kernels wants them. */
static void test_tile_width(void **state)
{
    (void)state;
    assert_int_equal(width_in("ref", NULL), 8);
    if (!(trueno_cpu_features() & TRUENO_CPU_AVX512_VNNI)) return;
    assert_int_equal(width_in("avx512", NULL), 6);
    assert_int_equal(width_in("avx2", NULL), 8);
    assert_int_equal(width_in("avx512", "quantize_a8_256_ref"), 6);
    assert_int_equal(
        width_in("avx512", "quantize_a8_256_ref,quantize_a8_32_avx2,quantize_f32_avx2"), 8);
}

int main(void)
{
    unsetenv("TRUENO_KERNEL");
    setenv("OPENBLAS_NUM_THREADS", "1", 1); /* else its kernels cannot run */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_can_be_forced),
        cmocka_unit_test(test_names_do_not_disturb_others),
        cmocka_unit_test(test_bad_names),
        cmocka_unit_test(test_environment),
        cmocka_unit_test(test_numerics),
        cmocka_unit_test(test_tile_width),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
