/* SPDX-License-Identifier: MIT */
/* Reads the limits of control groups. Files and formats: Linux Documentation/admin-guide, cgroup-v2
 * and cgroup-v1. Anything that cannot be read or understood counts as "no limit". */
#include "base/cgroup.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Long enough for a dozen controllers with the paths of a container platform. */
enum { MEMBERSHIP_MAX = 8192, PATH_BYTES = 4096, VALUE_MAX = 64 };

/* Limits per group: each returns UINT64_MAX for none. `dir` is a directory of the hierarchy. */
typedef uint64_t (*limit_fn)(const char *dir);

/* Reads a small file as a string; false if there is none. */
static bool read_text(char *text, size_t cap, const char *path)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    size_t len = 0;
    ssize_t got;
    while (len < cap - 1 && (got = read(fd, text + len, cap - 1 - len)) > 0) len += (size_t)got;
    close(fd);
    text[len] = '\0';
    return len > 0;
}

/* A decimal number at *pos, which moves past it; false if there is none or it does not fit. */
static bool parse_u64(uint64_t *value, const char **pos)
{
    const char *p = *pos;
    uint64_t v = 0;
    if (*p < '0' || *p > '9') return false;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    *pos = p;
    *value = v;
    return true;
}

static bool read_value(char text[VALUE_MAX], const char *dir, const char *name)
{
    char path[PATH_BYTES];
    const int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    return n > 0 && (size_t)n < sizeof path && read_text(text, VALUE_MAX, path);
}

static uint64_t whole_cpus(uint64_t quota_us, uint64_t period_us)
{
    if (!quota_us || !period_us) return UINT64_MAX;
    return quota_us / period_us + (quota_us % period_us != 0);
}

/* "max 100000" or "150000 100000" */
static uint64_t cpus_v2(const char *dir)
{
    char text[VALUE_MAX];
    uint64_t quota, period;
    if (!read_value(text, dir, "cpu.max")) return UINT64_MAX;
    const char *pos = text;
    if (!parse_u64(&quota, &pos) || *pos++ != ' ' || !parse_u64(&period, &pos)) return UINT64_MAX;
    return whole_cpus(quota, period);
}

/* quota -1: none */
static uint64_t cpus_v1(const char *dir)
{
    char quota_text[VALUE_MAX], period_text[VALUE_MAX];
    if (!read_value(quota_text, dir, "cpu.cfs_quota_us")) return UINT64_MAX;
    if (!read_value(period_text, dir, "cpu.cfs_period_us")) return UINT64_MAX;
    const char *quota_pos = quota_text, *period_pos = period_text;
    uint64_t quota, period;
    if (!parse_u64(&quota, &quota_pos) || !parse_u64(&period, &period_pos)) return UINT64_MAX;
    return whole_cpus(quota, period);
}

static uint64_t memory_from(const char *dir, const char *name)
{
    char text[VALUE_MAX];
    uint64_t value;
    if (!read_value(text, dir, name)) return UINT64_MAX;
    const char *pos = text;
    return parse_u64(&value, &pos) ? value : UINT64_MAX;
}

static uint64_t memory_v2(const char *dir)
{
    return memory_from(dir, "memory.max");
}

static uint64_t memory_v1(const char *dir)
{
    return memory_from(dir, "memory.limit_in_bytes");
}

/* The smallest limit on the way from `mount``group` up to `mount`. In a container the group named
 * may not be visible; its own limits are then those of the mount itself. */
static uint64_t walk_up(const char *mount, const char *group, limit_fn limit)
{
    char dir[PATH_BYTES];
    const size_t base = strlen(mount);
    const int n = snprintf(dir, sizeof dir, "%s%s", mount, group);
    if (n < 0 || (size_t)n >= sizeof dir) return UINT64_MAX;
    uint64_t least = UINT64_MAX;
    for (;;) {
        const uint64_t value = limit(dir);
        if (value < least) least = value;
        char *slash = strrchr(dir, '/');
        if (!slash || slash < dir + base) return least;
        *slash = '\0';
    }
}

/* True if the comma-separated `list` of `len` bytes has the word. */
static bool has_word(const char *list, size_t len, const char *word)
{
    const size_t n = strlen(word);
    for (const char *end = list + len; list < end;) {
        const char *comma = memchr(list, ',', (size_t)(end - list));
        const size_t item = (size_t)((comma ? comma : end) - list);
        if (item == n && !memcmp(list, word, n)) return true;
        list += item + 1;
    }
    return false;
}

struct query {
    const char *root, *controller;
    limit_fn v1, v2;
};

/* Limit from one line "number:controllers:/path"; version 2 has no controllers. */
static uint64_t line_limit(const struct query *q, char *line)
{
    char *list = strchr(line, ':');
    char *group = list ? strchr(list + 1, ':') : NULL;
    if (!group) return UINT64_MAX;
    list++;
    const size_t list_len = (size_t)(group++ - list);
    if (list_len == 0) return walk_up(q->root, group, q->v2);
    if (!has_word(list, list_len, q->controller)) return UINT64_MAX;
    char mount[PATH_BYTES];
    const int n = snprintf(mount, sizeof mount, "%s/%s", q->root, q->controller);
    if (n < 0 || (size_t)n >= sizeof mount) return UINT64_MAX;
    return walk_up(mount, group, q->v1);
}

static uint64_t find_limit(const struct query *q, const char *membership)
{
    char text[MEMBERSHIP_MAX];
    uint64_t least = UINT64_MAX;
    if (!read_text(text, sizeof text, membership)) return least;
    for (char *line = text; line;) {
        char *end = strchr(line, '\n');
        if (end) *end++ = '\0';
        const uint64_t value = line_limit(q, line);
        if (value < least) least = value;
        line = end;
    }
    return least;
}

uint32_t tr_cgroup_cpus(const char *membership, const char *root)
{
    const struct query q = {root, "cpu", cpus_v1, cpus_v2};
    const uint64_t cpus = find_limit(&q, membership);
    return cpus <= UINT32_MAX ? (uint32_t)cpus : 0;
}

uint64_t tr_cgroup_memory(const char *membership, const char *root)
{
    const struct query q = {root, "memory", memory_v1, memory_v2};
    const uint64_t bytes = find_limit(&q, membership);
    return bytes < UINT64_MAX ? bytes : 0;
}
