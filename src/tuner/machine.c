/* SPDX-License-Identifier: MIT */
/* The machine as this process may use it, and its name. */
#include "tuner/machine.h"

#include <ctype.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/cgroup.h"
#include "base/cpu.h"
#include "base/error.h"

bool tr_read_text(char *text, size_t cap, bool *whole, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    size_t len = 0;
    ssize_t got;

    text[0] = '\0';
    if (fd < 0) return false;
    while (len < cap && (got = read(fd, text + len, cap - len)) > 0) len += (size_t)got;
    close(fd);
    if (whole) *whole = len < cap;
    text[len < cap ? len : cap - 1] = '\0';
    return len > 0;
}

/* ------------------------------------------------------------------ sets of CPUs */

uint32_t tr_cpus_first(const struct tr_cpus *s)
{
    for (uint32_t i = 0; i < TR_CPUS_MAX / 64; i++)
        if (s->bits[i]) return 64 * i + (uint32_t)__builtin_ctzll(s->bits[i]);
    return TR_CPUS_MAX;
}

uint32_t tr_cpus_count(const struct tr_cpus *s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < TR_CPUS_MAX / 64; i++) n += (uint32_t)__builtin_popcountll(s->bits[i]);
    return n;
}

void tr_cpus_affinity(struct tr_cpus *out)
{
    unsigned long set[TR_CPUS_MAX / (8 * sizeof(unsigned long))];
    const size_t word_bits = 8 * sizeof set[0];

    memset(out, 0, sizeof *out);
    memset(set, 0, sizeof set);
    if (sched_getaffinity(0, sizeof set, (cpu_set_t *)set)) return;
    for (size_t cpu = 0; cpu < TR_CPUS_MAX; cpu++)
        if (set[cpu / word_bits] >> cpu % word_bits & 1)
            out->bits[cpu / 64] |= UINT64_C(1) << cpu % 64;
}

/* ---------------------------------------------------------------------- the name */

enum { SLUG_MAX = 24 }; /* so that an id with the largest numbers is shorter than 64 bytes */

/* Lower-case letters and digits; one hyphen for each run of other characters. */
static void slug_of(char out[SLUG_MAX + 1], const char *text)
{
    size_t n = 0;
    for (; *text && n < SLUG_MAX; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c < 128 && isalnum(c))
            out[n++] = (char)tolower(c);
        else if (n > 0 && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n > 0 && out[n - 1] == '-') n--;
    out[n] = '\0';
}

void tr_machine_id(trueno_machine *m)
{
    char slug[SLUG_MAX + 1], hard[256];
    const int len =
        snprintf(hard, sizeof hard, "%s|%u|%u|%u|%x|%d|%u|%u|%u|%llu|%llu|%llu", m->cpu_vendor,
                 m->cpu_family, m->cpu_model, m->cpu_stepping, m->cpu_features, m->hypervisor,
                 m->cpus, m->cores, m->numa_nodes, (unsigned long long)m->l1d_bytes,
                 (unsigned long long)m->l2_bytes, (unsigned long long)m->llc_bytes);
    const uint32_t crc = (uint32_t)crc32(0, (const unsigned char *)hard, (unsigned)len);

    slug_of(slug, m->cpu_name[0] ? m->cpu_name : m->cpu_vendor);
    snprintf(m->id, sizeof m->id, "%s-%u.%u.%u-%uc-%s-%08x", slug[0] ? slug : "cpu", m->cpu_family,
             m->cpu_model, m->cpu_stepping, m->cores, tr_cpu_level_of(m->cpu_features), crc);
}

/* --------------------------------------------------------------------- the calls */

static uint32_t cut(uint32_t n, uint32_t limit)
{
    return limit > 0 && n > limit ? limit : n;
}

static void fill(trueno_machine *m, const trueno_ctx *ctx)
{
    struct tr_cpus cpus;
    struct tr_topology t;
    char type[32];

    tr_machine_cpu(m, "/proc/cpuinfo");
    m->cpu_features = trueno_ctx_cpu_features(ctx);
    if (tr_read_text(type, sizeof type, NULL, "/sys/hypervisor/type")) m->hypervisor = true;
    tr_cpus_affinity(&cpus);
    tr_topology_sysfs(&t, "/sys", &cpus);
    m->cpus = tr_cpus_count(&cpus);
    m->cores = t.cores;
    m->numa_nodes = t.numa_nodes;
    m->l1d_bytes = t.l1d_bytes;
    m->l2_bytes = t.l2_bytes;
    m->llc_bytes = t.llc_bytes;
    m->quota_cpus = tr_cgroup_cpus("/proc/self/cgroup", "/sys/fs/cgroup");
    m->threads = trueno_cpu_count();
    m->usable_cores = cut(m->cores, m->quota_cpus);
    m->ram_bytes = tr_memory_limit();
    m->power_limit_w = tr_power_sysfs("/sys");
    tr_machine_id(m);
}

trueno_status trueno_machine_get(trueno_ctx *ctx, trueno_machine *out, trueno_error *err)
{
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "machine: out is NULL");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "machine: struct_size is %zu; use TRUENO_MACHINE_INIT", out->struct_size);
    trueno_machine m = TRUENO_MACHINE_INIT;
    m.struct_size = out->struct_size;
    memcpy(out, &m, sizeof m);
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "machine: ctx is NULL");
    fill(&m, ctx);
    memcpy(out, &m, sizeof m);
    return TRUENO_OK;
}

size_t trueno_cache_bytes(void)
{
    struct tr_cpus cpus;
    struct tr_topology t = {0};
    tr_cpus_affinity(&cpus);
    tr_caches_sysfs(&t, "/sys", tr_cpus_first(&cpus));
    /* glibc asks CPUID, and may name what the whole package has */
    const long last = t.llc_bytes ? 0 : sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (last > 0) return (size_t)last;
    return t.llc_bytes <= SIZE_MAX ? (size_t)t.llc_bytes : 0;
}
