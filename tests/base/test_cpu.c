/* SPDX-License-Identifier: MIT */
/* CPU features against the kernel's own list, levels, and the limits of control groups. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cgroup.h"
#include "base/cpu.h"

/* How /proc/cpuinfo names the line, and the features. Under an emulator it is the host's. */
#if defined(__aarch64__)
#define FLAGS_LINE "Features"
#else
#define FLAGS_LINE "flags"
#endif
static const struct {
    uint32_t bit;
    const char *flag;
} flags[] = {
    {TRUENO_CPU_AVX2, "avx2"},
    {TRUENO_CPU_FMA, "fma"},
    {TRUENO_CPU_F16C, "f16c"},
    {TRUENO_CPU_AVX_VNNI, "avx_vnni"},
    {TRUENO_CPU_AVX512F, "avx512f"},
    {TRUENO_CPU_AVX512BW, "avx512bw"},
    {TRUENO_CPU_AVX512VL, "avx512vl"},
    {TRUENO_CPU_AVX512DQ, "avx512dq"},
    {TRUENO_CPU_AVX512_VNNI, "avx512_vnni"},
    {TRUENO_CPU_AVX512_BF16, "avx512_bf16"},
    {TRUENO_CPU_AVX512_VBMI, "avx512vbmi"},
    {TRUENO_CPU_AMX_INT8, "amx_int8"},
    {TRUENO_CPU_AMX_BF16, "amx_bf16"},
    {TRUENO_CPU_NEON, "asimd"},
    {TRUENO_CPU_DOTPROD, "asimddp"},
    {TRUENO_CPU_I8MM, "i8mm"},
};

static void test_features_match_the_kernel(void **state)
{
    (void)state;
    FILE *f = fopen("/proc/cpuinfo", "r");
    char *line = NULL;
    size_t cap = 0;
    bool found = false;
    while (f && !found && getline(&line, &cap, f) > 0)
        found = !strncmp(line, FLAGS_LINE, strlen(FLAGS_LINE));
    if (f) fclose(f);
    if (!found) {
        free(line);
        print_message("skipped: /proc/cpuinfo has no line " FLAGS_LINE "\n");
        skip();
    }
    uint32_t expected = 0;
    for (char *word = strtok(line, " \t\n"); word; word = strtok(NULL, " \t\n"))
        for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++)
            if (!strcmp(word, flags[i].flag)) expected |= flags[i].bit;
    free(line);
    assert_int_equal(trueno_cpu_features(), expected);
    assert_int_equal(trueno_cpu_features(), expected); /* the second time from the table */
}

static void test_feature_names(void **state)
{
    (void)state;
    int known = 0;
    for (unsigned i = 0; i < 32; i++) known += trueno_cpu_feature_name(UINT32_C(1) << i) != NULL;
    assert_int_equal(known, 16);
    assert_string_equal(trueno_cpu_feature_name(TRUENO_CPU_AVX512_VNNI), "avx512_vnni");
    assert_string_equal(trueno_cpu_feature_name(TRUENO_CPU_I8MM), "i8mm");
    assert_null(trueno_cpu_feature_name(0));
    assert_null(trueno_cpu_feature_name(3));
    assert_null(trueno_cpu_feature_name(UINT32_MAX));
}

static void test_levels(void **state)
{
    (void)state;
    uint32_t below = 0, mask = 1;
    size_t n = 0;
    for (; trueno_cpu_level(n); n++) {
        assert_true(tr_cpu_level_mask(trueno_cpu_level(n), &mask));
        assert_int_equal(below & ~mask, 0); /* a higher level allows all that a lower one does */
        if (n) assert_int_not_equal(mask, below);
        below = mask;
    }
    assert_true(n >= 1);
    assert_null(trueno_cpu_level(SIZE_MAX));
    assert_string_equal(trueno_cpu_level(0), "ref");
    assert_true(tr_cpu_level_mask("ref", &mask) && mask == 0);
    assert_false(tr_cpu_level_mask("AVX2", &mask));
    assert_string_equal(tr_cpu_level_of(0), "ref");
#if defined(__x86_64__)
    /* CPUs by what their makers document */
    const uint32_t haswell = TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C;
    const uint32_t alder_lake = haswell | TRUENO_CPU_AVX_VNNI;
    const uint32_t skylake_x = haswell | TRUENO_CPU_AVX512F | TRUENO_CPU_AVX512BW |
                               TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ;
    const uint32_t cascade_lake = skylake_x | TRUENO_CPU_AVX512_VNNI;
    const uint32_t zen4 = cascade_lake | TRUENO_CPU_AVX512_BF16 | TRUENO_CPU_AVX512_VBMI;
    const uint32_t zen5 = zen4 | TRUENO_CPU_AVX_VNNI;
    const uint32_t sapphire = zen5 | TRUENO_CPU_AMX_INT8 | TRUENO_CPU_AMX_BF16;
    assert_int_equal(n, 5);
    assert_string_equal(tr_cpu_level_of(TRUENO_CPU_AVX2 | TRUENO_CPU_FMA), "ref");
    assert_string_equal(tr_cpu_level_of(haswell), "avx2");
    assert_string_equal(tr_cpu_level_of(alder_lake), "avxvnni");
    assert_string_equal(tr_cpu_level_of(skylake_x), "avx2");
    assert_string_equal(tr_cpu_level_of(cascade_lake), "avx512");
    assert_string_equal(tr_cpu_level_of(zen4), "avx512");
    assert_string_equal(tr_cpu_level_of(zen5), "avx512");
    assert_string_equal(tr_cpu_level_of(sapphire), "amx");
    assert_true(tr_cpu_level_mask("avx512", &mask));
    assert_string_equal(tr_cpu_level_of(sapphire & mask), "avx512");
    assert_int_equal(sapphire & mask, zen5);
    assert_true(tr_cpu_level_mask("avxvnni", &mask));
    assert_int_equal(sapphire & mask, alder_lake);
    assert_true(tr_cpu_level_mask("avx2", &mask));
    assert_int_equal(sapphire & mask, haswell);
#elif defined(__aarch64__)
    const uint32_t cortex_a72 = TRUENO_CPU_NEON;
    const uint32_t neoverse_n1 = cortex_a72 | TRUENO_CPU_DOTPROD;
    const uint32_t neoverse_v1 = neoverse_n1 | TRUENO_CPU_I8MM;
    assert_int_equal(n, 4);
    assert_string_equal(tr_cpu_level_of(cortex_a72), "neon");
    assert_string_equal(tr_cpu_level_of(neoverse_n1), "dotprod");
    assert_string_equal(tr_cpu_level_of(neoverse_v1), "i8mm");
    assert_string_equal(tr_cpu_level_of(TRUENO_CPU_DOTPROD), "ref");
    assert_string_equal(tr_cpu_level_of(cortex_a72 | TRUENO_CPU_I8MM), "neon");
    assert_true(tr_cpu_level_mask("dotprod", &mask));
    assert_int_equal(neoverse_v1 & mask, neoverse_n1);
    assert_true(tr_cpu_level_mask("neon", &mask));
    assert_int_equal(neoverse_v1 & mask, cortex_a72);
#endif
}

static void expect_level(const char *option, const char *env, uint32_t features)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *ctx;
    opt.cpu = option;
    if (env)
        setenv("TRUENO_CPU", env, 1);
    else
        unsetenv("TRUENO_CPU");
    assert_int_equal(trueno_ctx_new(&ctx, &opt, NULL), TRUENO_OK);
    assert_int_equal(trueno_ctx_cpu_features(ctx), features);
    assert_string_equal(trueno_ctx_cpu_level(ctx), tr_cpu_level_of(features));
    trueno_ctx_free(ctx);
    unsetenv("TRUENO_CPU");
}

static void test_caps(void **state)
{
    (void)state;
    const uint32_t all = trueno_cpu_features();
    expect_level(NULL, NULL, all);
    expect_level(NULL, "", all);
    expect_level(NULL, "ref", 0);
    expect_level("ref", NULL, 0);
    for (size_t i = 0; trueno_cpu_level(i); i++) {
        uint32_t mask;
        assert_true(tr_cpu_level_mask(trueno_cpu_level(i), &mask));
        expect_level(trueno_cpu_level(i), NULL, all & mask);
        expect_level(NULL, trueno_cpu_level(i), all & mask);
        expect_level(trueno_cpu_level(i), "ref", all & mask); /* the option wins */
        expect_level(trueno_cpu_level(i), "nonsense", all & mask);
    }
    trueno_ctx *ctx;
    trueno_error err;
    setenv("TRUENO_CPU", "nonsense", 1);
    assert_int_equal(trueno_ctx_new(&ctx, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_null(ctx);
    assert_non_null(strstr(err.message, "TRUENO_CPU"));
    assert_non_null(strstr(err.message, "'nonsense'"));
    unsetenv("TRUENO_CPU");
}

static void test_cpu_count_follows_affinity(void **state)
{
    (void)state;
    cpu_set_t before, one;
    if (sched_getaffinity(0, sizeof before, &before)) skip();
    assert_true(trueno_cpu_count() >= 1);
    assert_true(trueno_cpu_count() <= (uint32_t)CPU_COUNT(&before));
    size_t cpu = 0;
    while (!CPU_ISSET(cpu, &before)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    if (sched_setaffinity(0, sizeof one, &one)) skip();
    const uint32_t n = trueno_cpu_count();
    sched_setaffinity(0, sizeof before, &before);
    assert_int_equal(n, 1);
}

static void test_memory_limit(void **state)
{
    (void)state;
    FILE *f = fopen("/proc/meminfo", "r");
    unsigned long long kib = 0;
    if (!f || fscanf(f, "MemTotal: %llu kB", &kib) != 1) {
        if (f) fclose(f);
        skip();
    }
    fclose(f);
    assert_true(tr_memory_limit() > 0);
    assert_true(tr_memory_limit() <= kib * 1024);
}

/* ------------------------------------------- control groups, in a tree made up */

static char root[64];

static int make_root(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "/tmp/trueno-cgroup-XXXXXX");
    return mkdtemp(root) ? 0 : -1;
}

static int remove_root(void **state)
{
    (void)state;
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", root);
    return system(command);
}

/* Writes `text` to root/`name`, making the directories on the way. */
static const char *put(const char *name, const char *text)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", root, name);
    for (char *p = path + strlen(root) + 1; (p = strchr(p, '/')); p++) {
        *p = '\0';
        mkdir(path, 0777);
        *p = '/';
    }
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static void test_cgroup_v2(void **state)
{
    (void)state;
    char member[512];
    snprintf(member, sizeof member, "%s", put("member", "0::/a/b\n"));
    assert_int_equal(tr_cgroup_cpus(member, root), 0);
    assert_int_equal(tr_cgroup_memory(member, root), 0);
    put("a/b/cpu.max", "max 100000\n");
    put("a/b/memory.max", "max\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 0);
    assert_int_equal(tr_cgroup_memory(member, root), 0);
    put("a/b/cpu.max", "250000 100000\n");
    put("a/b/memory.max", "3000000000\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 3); /* 2.5 rounded up */
    assert_int_equal(tr_cgroup_memory(member, root), 3000000000u);
    put("a/cpu.max", "200000 100000\n"); /* a parent's limit is tighter */
    put("a/memory.max", "1000\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 2);
    assert_int_equal(tr_cgroup_memory(member, root), 1000);
    put("cpu.max", "1 100000\n"); /* of the root of the mount, as in a container */
    assert_int_equal(tr_cgroup_cpus(member, root), 1);
    put("member", "0::/\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 1);
    put("member", "0::/elsewhere/not/visible\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 1);
}

static void test_cgroup_v1(void **state)
{
    (void)state;
    char member[512];
    snprintf(member, sizeof member, "%s",
             put("member", "5:cpuset:/x\n4:memory:/m\n3:cpu,cpuacct:/c\n0::/\n"));
    put("cpu/c/cpu.cfs_quota_us", "-1\n");
    put("cpu/c/cpu.cfs_period_us", "100000\n");
    put("memory/m/memory.limit_in_bytes", "9223372036854771712\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 0);
    assert_int_equal(tr_cgroup_memory(member, root), UINT64_C(9223372036854771712));
    put("cpu/c/cpu.cfs_quota_us", "400000\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 4);
    put("cpu/cpu.cfs_quota_us", "150000\n");
    put("cpu/cpu.cfs_period_us", "100000\n");
    put("memory/memory.limit_in_bytes", "65536\n");
    assert_int_equal(tr_cgroup_cpus(member, root), 2);
    assert_int_equal(tr_cgroup_memory(member, root), 65536);
}

static void test_cgroup_nonsense(void **state)
{
    (void)state;
    static const char *const members[] = {"", "\n\n", "x", "1:cpu", "::", "0::", "0::///", ":::::"};
    static const char *const values[] = {
        "", "x", "-5 100000", "1", "100000 0", "0 100000", "99999999999999999999999 1", "1\t1"};
    char member[512];
    for (size_t m = 0; m < 8; m++) {
        snprintf(member, sizeof member, "%s", put("member", members[m]));
        assert_int_equal(tr_cgroup_cpus(member, root), 0);
    }
    put("member", "0::/a\n");
    for (size_t v = 0; v < 8; v++) {
        put("a/cpu.max", values[v]);
        assert_int_equal(tr_cgroup_cpus(member, root), 0);
    }
    assert_int_equal(tr_cgroup_cpus("/nonexistent", root), 0);
    static char line[9000]; /* longer than any buffer */
    memset(line, 'p', sizeof line - 1);
    memcpy(line, "0::/", 4);
    put("member", line);
    put("cpu.max", "100000 100000");
    (void)tr_cgroup_cpus(member, root);
    assert_int_equal(tr_cgroup_memory(member, root), 0);
}

int main(void)
{
    unsetenv("TRUENO_CPU");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_features_match_the_kernel),
        cmocka_unit_test(test_feature_names),
        cmocka_unit_test(test_levels),
        cmocka_unit_test(test_caps),
        cmocka_unit_test(test_cpu_count_follows_affinity),
        cmocka_unit_test(test_memory_limit),
        cmocka_unit_test_setup_teardown(test_cgroup_v2, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_cgroup_v1, make_root, remove_root),
        cmocka_unit_test_setup_teardown(test_cgroup_nonsense, make_root, remove_root),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
