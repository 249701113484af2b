/* SPDX-License-Identifier: MIT */
/* CPU features and levels, CPU count, memory limit. Bits of CPUID: Intel SDM volume 2, CPUID; those
 * of the register state in XCR0: volume 1, chapter 13. */
#include "base/cpu.h"

#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include "base/cgroup.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

static const struct {
    uint32_t bit;
    const char *name;
} feature_names[] = {
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
    {TRUENO_CPU_AVX512_VBMI, "avx512_vbmi"},
    {TRUENO_CPU_AMX_INT8, "amx_int8"},
    {TRUENO_CPU_AMX_BF16, "amx_bf16"},
    {TRUENO_CPU_NEON, "neon"},
    {TRUENO_CPU_DOTPROD, "dotprod"},
    {TRUENO_CPU_I8MM, "i8mm"},
};

/* Levels, lowest first. A CPU is of a level when it has all that is `required`; a context capped to
 * the level may use all that is `allowed`. */
struct level {
    const char *name;
    uint32_t required, allowed;
};

#if defined(__x86_64__)
#define BITS_AVX2 (TRUENO_CPU_AVX2 | TRUENO_CPU_FMA | TRUENO_CPU_F16C)
#define BITS_VNNI (BITS_AVX2 | TRUENO_CPU_AVX_VNNI)
#define BITS_AVX512                                                                                \
    (TRUENO_CPU_AVX512F | TRUENO_CPU_AVX512BW | TRUENO_CPU_AVX512VL | TRUENO_CPU_AVX512DQ |        \
     TRUENO_CPU_AVX512_VNNI)
#define BITS_MORE (TRUENO_CPU_AVX512_BF16 | TRUENO_CPU_AVX512_VBMI)
static const struct level levels[] = {
    {"ref", 0, 0},
    {"avx2", BITS_AVX2, BITS_AVX2},
    {"avxvnni", BITS_VNNI, BITS_VNNI},
    {"avx512", BITS_AVX2 | BITS_AVX512, BITS_VNNI | BITS_AVX512 | BITS_MORE},
    {"amx", BITS_AVX2 | BITS_AVX512 | TRUENO_CPU_AMX_INT8, UINT32_MAX},
};
#elif defined(__aarch64__)
static const struct level levels[] = {
    {"ref", 0, 0},
    {"neon", TRUENO_CPU_NEON, TRUENO_CPU_NEON},
    {"dotprod", TRUENO_CPU_NEON | TRUENO_CPU_DOTPROD, TRUENO_CPU_NEON | TRUENO_CPU_DOTPROD},
    {"i8mm", TRUENO_CPU_NEON | TRUENO_CPU_DOTPROD | TRUENO_CPU_I8MM, UINT32_MAX},
};
#else
static const struct level levels[] = {{"ref", 0, 0}};
#endif

enum { N_LEVELS = sizeof levels / sizeof levels[0] };

/* ----------------------------------------------------------------- detection */

#if defined(__x86_64__)
/* XCR0: which register state the operating system saves on a context switch. */
static uint64_t read_xcr0(void)
{
    uint32_t lo, hi;
    __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
    return (uint64_t)hi << 32 | lo;
}

static uint32_t pick(uint32_t reg, unsigned bit, uint32_t feature)
{
    return reg >> bit & 1 ? feature : 0;
}

static uint32_t detect(void)
{
    enum { STATE_AVX = 0x6, STATE_AVX512 = 0xe6, STATE_AMX = 0x60000 };
    uint32_t a, b, c, d, found;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1) || !(c >> 28 & 1)) return 0;
    const uint64_t xcr0 = read_xcr0();
    if ((xcr0 & STATE_AVX) != STATE_AVX) return 0;
    found = pick(c, 12, TRUENO_CPU_FMA) | pick(c, 29, TRUENO_CPU_F16C);

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return found;
    uint32_t a1 = 0, b1, c1, d1;
    if (a >= 1) __cpuid_count(7, 1, a1, b1, c1, d1);
    found |= pick(b, 5, TRUENO_CPU_AVX2) | pick(a1, 4, TRUENO_CPU_AVX_VNNI);
    if ((xcr0 & STATE_AVX512) == STATE_AVX512 && (b >> 16 & 1))
        found |= TRUENO_CPU_AVX512F | pick(b, 17, TRUENO_CPU_AVX512DQ) |
                 pick(b, 30, TRUENO_CPU_AVX512BW) | pick(b, 31, TRUENO_CPU_AVX512VL) |
                 pick(c, 1, TRUENO_CPU_AVX512_VBMI) | pick(c, 11, TRUENO_CPU_AVX512_VNNI) |
                 pick(a1, 5, TRUENO_CPU_AVX512_BF16);
    /* Linux grants the tile state to a process that asks for it; kernels that use it must ask. */
    if ((xcr0 & STATE_AMX) == STATE_AMX && (d >> 24 & 1))
        found |= pick(d, 22, TRUENO_CPU_AMX_BF16) | pick(d, 25, TRUENO_CPU_AMX_INT8);
    return found;
}
#elif defined(__aarch64__)
/* Bit numbers of the kernel's ABI; older C library headers lack the newer names. */
static uint32_t detect(void)
{
    const unsigned long cap = getauxval(AT_HWCAP), cap2 = getauxval(AT_HWCAP2);
    uint32_t found = 0;
    if (cap >> 1 & 1) found |= TRUENO_CPU_NEON;     /* ASIMD */
    if (cap >> 20 & 1) found |= TRUENO_CPU_DOTPROD; /* ASIMDDP */
    if (cap2 >> 13 & 1) found |= TRUENO_CPU_I8MM;
    return found;
}
#else
static uint32_t detect(void)
{
    return 0;
}
#endif

/* CPUID traps in virtual machines and costs microseconds there, so its answer is kept. Threads that
 * come first together write the same value. */
uint32_t trueno_cpu_features(void)
{
    static atomic_uint known;
    const uint32_t is_known = UINT32_C(1) << 31;
    uint32_t value = atomic_load_explicit(&known, memory_order_relaxed);
    if (!value) {
        value = detect() | is_known;
        atomic_store_explicit(&known, value, memory_order_relaxed);
    }
    return value & ~is_known;
}

/* ------------------------------------------------------------- names, levels */

const char *trueno_cpu_feature_name(uint32_t feature)
{
    for (size_t i = 0; i < sizeof feature_names / sizeof feature_names[0]; i++)
        if (feature_names[i].bit == feature) return feature_names[i].name;
    return NULL;
}

const char *trueno_cpu_level(size_t index)
{
    return index < N_LEVELS ? levels[index].name : NULL;
}

bool tr_cpu_level_mask(const char *level, uint32_t *mask)
{
    for (size_t i = 0; i < N_LEVELS; i++) {
        if (strcmp(levels[i].name, level)) continue;
        *mask = levels[i].allowed;
        return true;
    }
    return false;
}

const char *tr_cpu_level_of(uint32_t features)
{
    size_t i = N_LEVELS - 1;
    while (i && (features & levels[i].required) != levels[i].required) i--;
    return levels[i].name;
}

/* -------------------------------------------------------------------- limits */

static uint32_t affinity_count(void)
{
    unsigned long set[16384 / (8 * sizeof(unsigned long))]; /* twice the most that Linux knows */
    memset(set, 0, sizeof set);
    if (sched_getaffinity(0, sizeof set, (cpu_set_t *)set)) {
        const long online = sysconf(_SC_NPROCESSORS_ONLN);
        return online > 0 ? (uint32_t)online : 1;
    }
    uint32_t n = 0;
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++)
        n += (uint32_t)__builtin_popcountl(set[i]);
    return n ? n : 1;
}

uint32_t trueno_cpu_count(void)
{
    const uint32_t n = affinity_count();
    const uint32_t quota = tr_cgroup_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
    return quota && quota < n ? quota : n;
}

uint64_t tr_memory_limit(void)
{
    const long pages = sysconf(_SC_PHYS_PAGES), page_bytes = sysconf(_SC_PAGESIZE);
    const uint64_t physical =
        pages > 0 && page_bytes > 0 ? (uint64_t)pages * (uint64_t)page_bytes : 0;
    const uint64_t limit = tr_cgroup_memory("/proc/self/cgroup", "/sys/fs/cgroup");
    if (!physical) return limit;
    return limit && limit < physical ? limit : physical;
}
