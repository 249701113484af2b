/* SPDX-License-Identifier: MIT */
/* The list of kernels: rules that every entry keeps, and the choice among them. */
#include "simd_test.h"

#include <stdio.h>
#include <string.h>

#include "simd/kernel.h"
#include "trueno/kernels.h"
#include "trueno/quantize.h"

static void test_rows(void **state)
{
    const struct tr_kernel *k;
    size_t n = 0;
    (void)state;
    for (; (k = tr_kernel_at(n)) != NULL; n++) {
        const trueno_kernel_info *info = trueno_registry_at(n);
        assert_non_null(k->name);
        assert_true(k->op < TR_OP_COUNT);
        assert_non_null(k->fn.gemm);
        /* the driver cuts columns into tiles of TR_NT_MAX for every kernel alike */
        if (k->op == TR_OP_GEMM) assert_int_equal(k->nt_max, k->fits ? 0 : TR_NT_MAX);
        /* ... and packs activations once, for whoever multiplies */
        if (k->fits) assert_int_equal(tr_kernel_find(0, k->op, k->dtype, TR_ACT_NONE)->act, k->act);
        assert_true(k->fits || k->scratch_bytes == 0);
        assert_true((k->op == TR_OP_GEMM || k->op == TR_OP_QUANTIZE) == (k->act != TR_ACT_NONE));
        assert_true((strstr(k->name, "_ref") != NULL) == (k->cpu == 0 && !k->missing));
        for (size_t i = 0; i < n; i++) assert_string_not_equal(tr_kernel_at(i)->name, k->name);

        assert_non_null(info);
        assert_string_equal(info->name, k->name);
        assert_int_equal(info->cpu_features, k->cpu);
        assert_int_equal(strncmp(info->name, info->op, strlen(info->op)), 0);
        assert_string_equal(info->numerics, k->numerics == TR_EXACT ? "exact" : "reordered");
        assert_non_null(info->family);
        assert_int_equal(info->tile_rows, k->tile_rows);
        assert_int_equal(info->tile_cols, k->nt_max);
        assert_int_equal(info->prefetch_bytes, k->prefetch_bytes);
        assert_int_equal(info->unit_bytes, k->unit_bytes);
        assert_int_equal(info->block_bytes, k->block_bytes);
        if (k->op == TR_OP_GEMM && !k->fits) /* a split that the driver can use */
            assert_true(k->unit_bytes > 0 && k->unit_bytes <= k->block_bytes &&
                        k->block_bytes <= TR_BLOCK_BYTES_MAX);
        assert_int_equal(info->version, trueno_registry_at(0)->version);
        assert_int_equal(k->tile_rows != 0, k->op == TR_OP_GEMM);
        for (uint32_t bit = 1; bit != 0; bit <<= 1)
            if (info->cpu_features & bit) assert_non_null(trueno_cpu_feature_name(bit));
        if (k->dtype == TR_TYPE_NONE)
            assert_string_equal(info->type, "");
        else
            assert_string_equal(info->type, trueno_dtype_get_info(k->dtype)->name);
    }
    assert_int_equal(trueno_registry_count(), n);
    assert_null(trueno_registry_at(n));
    assert_null(trueno_registry_at(SIZE_MAX));
    assert_null(tr_kernel_at(SIZE_MAX));
}

/* The reference runs everything; more features never choose an earlier entry. */
static void test_choice(void **state)
{
    static const trueno_dtype types[] = {
        TRUENO_TYPE_Q4_0, TRUENO_TYPE_Q4_1, TRUENO_TYPE_Q5_0, TRUENO_TYPE_Q5_1,
        TRUENO_TYPE_Q8_0, TRUENO_TYPE_Q4_K, TRUENO_TYPE_Q5_K, TRUENO_TYPE_Q6_K,
        TRUENO_TYPE_F32,  TRUENO_TYPE_F16,  TRUENO_TYPE_BF16,
    };
    (void)state;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct tr_kernel *ref = tr_kernel_find(0, TR_OP_GEMM, types[i], TR_ACT_NONE);
        const struct tr_kernel *best =
            tr_kernel_find(UINT32_MAX, TR_OP_GEMM, types[i], TR_ACT_NONE);
        assert_non_null(ref);
        assert_int_equal(ref->cpu, 0);
        assert_int_equal(ref->dtype, types[i]);
        assert_int_equal(ref->act, best->act);
    }
    for (int act = TR_ACT_F32; act < TR_ACT_COUNT; act++) {
        const struct tr_kernel *ref =
            tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, (enum tr_act)act);
        assert_non_null(ref);
        assert_int_equal(ref->act, act);
    }
    assert_null(tr_kernel_find(UINT32_MAX, TR_OP_GEMM, TRUENO_TYPE_Q2_K, TR_ACT_NONE));
    assert_null(tr_kernel_find(UINT32_MAX, TR_OP_GEMM, TRUENO_TYPE_I32, TR_ACT_NONE));
#if defined(__x86_64__)
    const uint32_t avx2 = TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        const struct tr_kernel *k = tr_kernel_find(avx2, TR_OP_GEMM, types[i], TR_ACT_NONE);
        assert_non_null(strstr(k->name, "_avx2_"));
        k = tr_kernel_find(UINT32_MAX, TR_OP_GEMM, types[i], TR_ACT_NONE);
        assert_non_null(strstr(k->name, "_avx512_"));
        k = tr_kernel_find(TRUENO_CPU_AVX2, TR_OP_GEMM, types[i], TR_ACT_NONE);
        assert_int_equal(k->cpu & ~(uint32_t)TRUENO_CPU_AVX2, 0);
    }
#elif defined(__aarch64__)
    const uint32_t dotprod = TRUENO_CPU_NEON | TRUENO_CPU_DOTPROD;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        bool ints = types[i] != TRUENO_TYPE_F32 && types[i] != TRUENO_TYPE_F16 &&
                    types[i] != TRUENO_TYPE_BF16;
        const struct tr_kernel *k =
            tr_kernel_find(TRUENO_CPU_NEON, TR_OP_GEMM, types[i], TR_ACT_NONE);
        assert_non_null(strstr(k->name, "_neon_"));
        k = tr_kernel_find(dotprod, TR_OP_GEMM, types[i], TR_ACT_NONE);
        assert_non_null(strstr(k->name, ints ? "_dotprod_" : "_neon_"));
        k = tr_kernel_find(UINT32_MAX, TR_OP_GEMM, types[i], TR_ACT_NONE);
        assert_non_null(strstr(k->name, ints ? "_i8mm_" : "_neon_"));
    }
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_choice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
