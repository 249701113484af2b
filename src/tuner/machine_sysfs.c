/* SPDX-License-Identifier: MIT */
/* Cores, caches, memory nodes and power limits as Linux tells them in /sys. */
#include "tuner/machine.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CPU_DIR    "%s/devices/system/cpu/cpu%u"
#define CACHE_DIR  CPU_DIR "/cache/index%u"
#define POWER_FILE "%s/class/powercap/intel-rapl:%u/constraint_0_power_limit_uw"

enum { PATH_BYTES = 512, LIST_BYTES = 8192, VALUE_BYTES = 64, MAX_CACHES = 16, MAX_PACKAGES = 64 };

/* The whole text of the file that `fmt` names; false if it is not there, or does not fit. */
static bool TRUENO_PRINTF(3, 4) read_file(char *text, size_t cap, const char *fmt, ...)
{
    char path[PATH_BYTES];
    bool whole;
    va_list args;
    va_start(args, fmt);
    const int n = vsnprintf(path, sizeof path, fmt, args);
    va_end(args);
    return n > 0 && (size_t)n < sizeof path && tr_read_text(text, cap, &whole, path) && whole;
}

/* ----------------------------------------------------------------------- numbers */

/* A decimal number at *pos, which moves past it. */
static bool parse_number(uint64_t *out, const char **pos)
{
    const char *p = *pos;
    uint64_t v = 0;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    *pos = p;
    *out = v;
    return true;
}

/* "0-3,8" and a newline. */
static bool parse_list(struct tr_cpus *out, const char *text)
{
    memset(out, 0, sizeof *out);
    for (const char *p = text; *p && *p != '\n'; p += *p == ',') {
        uint64_t first, last;
        if (!parse_number(&first, &p)) return false;
        last = first;
        if (*p == '-') {
            p++;
            if (!parse_number(&last, &p)) return false;
        }
        if (last < first || last >= TR_CPUS_MAX || (*p && *p != ',' && *p != '\n')) return false;
        for (; first <= last; first++) out->bits[first / 64] |= UINT64_C(1) << first % 64;
    }
    return true;
}

/* "32768K" or "4M"; 0 if it is none. */
static uint64_t parse_size(const char *text)
{
    uint64_t v;
    if (!parse_number(&v, &text) || v > UINT64_MAX >> 30) return 0;
    return v << (*text == 'G' ? 30 : *text == 'M' ? 20 : *text == 'K' ? 10 : 0);
}

/* ------------------------------------------------------------------------- cores */

/* CPUs of the set that no lower one shares a core with. */
static uint32_t count_cores(const char *root, const struct tr_cpus *cpus)
{
    char text[LIST_BYTES];
    struct tr_cpus core;
    uint32_t n = 0;

    for (uint32_t cpu = tr_cpus_first(cpus); cpu < TR_CPUS_MAX; cpu++) {
        if (!tr_cpus_has(cpus, cpu)) continue;
        /* the second name is that of kernels before 5.4 */
        if (!read_file(text, sizeof text, CPU_DIR "/topology/core_cpus_list", root, cpu) &&
            !read_file(text, sizeof text, CPU_DIR "/topology/thread_siblings_list", root, cpu))
            return 0;
        if (!parse_list(&core, text)) return 0;
        for (size_t i = 0; i < TR_CPUS_MAX / 64; i++) core.bits[i] &= cpus->bits[i];
        n += tr_cpus_first(&core) == cpu;
    }
    return n;
}

static uint32_t count_nodes(const char *root, const struct tr_cpus *cpus)
{
    char text[LIST_BYTES];
    struct tr_cpus online, node;
    uint32_t n = 0;

    if (!read_file(text, sizeof text, "%s/devices/system/node/online", root) ||
        !parse_list(&online, text))
        return 0;
    for (uint32_t id = tr_cpus_first(&online); id < TR_CPUS_MAX; id++) {
        uint64_t common = 0;
        if (!tr_cpus_has(&online, id)) continue;
        if (!read_file(text, sizeof text, "%s/devices/system/node/node%u/cpulist", root, id) ||
            !parse_list(&node, text))
            return 0;
        for (size_t i = 0; i < TR_CPUS_MAX / 64; i++) common |= node.bits[i] & cpus->bits[i];
        n += common != 0;
    }
    return n;
}

/* ------------------------------------------------------------------------ caches */

void tr_caches_sysfs(struct tr_topology *out, const char *root, uint32_t cpu)
{
    char level[VALUE_BYTES], type[VALUE_BYTES], size[VALUE_BYTES];
    char last_level = '0';

    out->l1d_bytes = out->l2_bytes = out->llc_bytes = 0;
    for (uint32_t i = 0; i < MAX_CACHES; i++) {
        if (!read_file(level, sizeof level, CACHE_DIR "/level", root, cpu, i)) return;
        if (!read_file(type, sizeof type, CACHE_DIR "/type", root, cpu, i) || type[0] == 'I')
            continue;
        if (!read_file(size, sizeof size, CACHE_DIR "/size", root, cpu, i)) continue;
        const uint64_t bytes = parse_size(size);
        if (level[0] == '1') out->l1d_bytes = bytes;
        if (level[0] == '2') out->l2_bytes = bytes;
        if (level[0] <= last_level) continue;
        last_level = level[0];
        out->llc_bytes = bytes;
    }
}

void tr_topology_sysfs(struct tr_topology *out, const char *root, const struct tr_cpus *cpus)
{
    memset(out, 0, sizeof *out);
    out->cores = count_cores(root, cpus);
    out->numa_nodes = count_nodes(root, cpus);
    tr_caches_sysfs(out, root, tr_cpus_first(cpus));
}

/* ------------------------------------------------------------------------- power */

double tr_power_sysfs(const char *root)
{
    char text[VALUE_BYTES];
    double watts = 0;
    for (uint32_t i = 0; i < MAX_PACKAGES; i++) {
        const char *pos = text;
        uint64_t microwatts;
        if (!read_file(text, sizeof text, POWER_FILE, root, i) || !parse_number(&microwatts, &pos))
            break;
        watts += (double)microwatts * 1e-6;
    }
    return watts;
}
