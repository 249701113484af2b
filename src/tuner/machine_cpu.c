/* SPDX-License-Identifier: MIT */
/* Who made the CPU, its numbers and its name. Leaves of CPUID: Intel SDM volume 2, and AMD's
 * programmer's manual volume 3, appendix E. */
#include "tuner/machine.h"

#include <stdlib.h>
#include <string.h>

/* Number of the first line "NAME<tab>: NUMBER" (decimal, or hexadecimal with 0x); false if there is
 * none. */
static bool line_number(unsigned long *out, const char *text, const char *name)
{
    const size_t n = strlen(name);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        if (*line == '\n') line++;
        if (strncmp(line, name, n) != 0) continue;
        const char *at = line + n + strspn(line + n, " \t");
        char *end;
        if (*at++ != ':') continue;
        *out = strtoul(at, &end, 0);
        return end != at;
    }
    return false;
}

void tr_machine_cpuinfo(trueno_machine *m, const char *cpuinfo)
{
    char text[16384]; /* CPUs after those that fit are like them, or do not count */
    unsigned long implementer, family, part, variant, revision;
    const char digits[] = "0123456789abcdef";

    if (!tr_read_text(text, sizeof text, NULL, cpuinfo)) return;
    if (!line_number(&implementer, text, "CPU implementer") || implementer > 0xff) return;
    m->cpu_vendor[0] = '0';
    m->cpu_vendor[1] = 'x';
    m->cpu_vendor[2] = digits[implementer >> 4];
    m->cpu_vendor[3] = digits[implementer & 15];
    m->cpu_vendor[4] = '\0';
    if (line_number(&family, text, "CPU architecture") && family < 256)
        m->cpu_family = (uint32_t)family;
    if (line_number(&part, text, "CPU part") && part < 4096) m->cpu_model = (uint32_t)part;
    if (line_number(&variant, text, "CPU variant") && variant < 16 &&
        line_number(&revision, text, "CPU revision") && revision < 16)
        m->cpu_stepping = (uint32_t)(variant << 4 | revision);
}

#if defined(__x86_64__)
#include <cpuid.h>

static void copy_reg(char *dst, uint32_t reg)
{
    memcpy(dst, &reg, sizeof reg);
}

/* The name may have spaces around it, and must not carry anything else. */
static void tidy(char *name)
{
    const size_t lead = strspn(name, " ");
    memmove(name, name + lead, strlen(name + lead) + 1);
    for (char *c = name; *c; c++)
        if (*c < ' ' || *c > '~') *c = ' ';
    for (size_t n = strlen(name); n > 0 && name[n - 1] == ' '; n--) name[n - 1] = '\0';
}

static void read_name(char name[64])
{
    uint32_t r[4];
    for (uint32_t leaf = 0; leaf < 3; leaf++) {
        if (!__get_cpuid(0x80000002 + leaf, &r[0], &r[1], &r[2], &r[3])) return;
        for (size_t i = 0; i < 4; i++) copy_reg(name + 16 * leaf + 4 * i, r[i]);
    }
    name[48] = '\0';
    tidy(name);
}

void tr_machine_cpu(trueno_machine *m, const char *cpuinfo)
{
    uint32_t a, b, c, d;
    (void)cpuinfo;
    if (!__get_cpuid(0, &a, &b, &c, &d)) return;
    copy_reg(m->cpu_vendor, b);
    copy_reg(m->cpu_vendor + 4, d);
    copy_reg(m->cpu_vendor + 8, c);
    m->cpu_vendor[12] = '\0';
    tidy(m->cpu_vendor);
    if (!__get_cpuid(1, &a, &b, &c, &d)) return;
    m->cpu_stepping = a & 15;
    m->cpu_model = a >> 4 & 15;
    m->cpu_family = a >> 8 & 15;
    if (m->cpu_family == 6 || m->cpu_family == 15) m->cpu_model |= (a >> 16 & 15) << 4;
    if (m->cpu_family == 15) m->cpu_family += a >> 20 & 255;
    m->hypervisor = c >> 31 & 1;
    read_name(m->cpu_name);
}
#else
void tr_machine_cpu(trueno_machine *m, const char *cpuinfo)
{
    tr_machine_cpuinfo(m, cpuinfo);
}
#endif
