/* SPDX-License-Identifier: MIT */
/* Parts of trueno_machine_get, with what they read from as an argument (trueno/machine.h). */
#ifndef TR_MACHINE_H
#define TR_MACHINE_H

#include "trueno/machine.h"

enum { TR_CPUS_MAX = 16384 }; /* twice the most that Linux knows */

/* A set of logical CPUs. */
struct tr_cpus {
    uint64_t bits[TR_CPUS_MAX / 64];
};

static inline bool tr_cpus_has(const struct tr_cpus *s, uint32_t cpu)
{
    return cpu < TR_CPUS_MAX && (s->bits[cpu / 64] >> cpu % 64 & 1);
}

/* The lowest one; TR_CPUS_MAX if there is none. */
uint32_t tr_cpus_first(const struct tr_cpus *s);
uint32_t tr_cpus_count(const struct tr_cpus *s);

/* The affinity mask of the calling thread; empty if the system does not say. */
void tr_cpus_affinity(struct tr_cpus *out);

/* What a set of CPUs belongs to; 0: unknown. */
struct tr_topology {
    uint32_t cores, numa_nodes;
    uint64_t l1d_bytes, l2_bytes, llc_bytes; /* that the first CPU of the set sees */
};

/* From `root` (/sys). Source: Linux Documentation/ABI, sysfs-devices-system-cpu and
 * stable/sysfs-devices-node. */
void tr_topology_sysfs(struct tr_topology *out, const char *root, const struct tr_cpus *cpus);

/* The caches of tr_topology_sysfs alone. */
void tr_caches_sysfs(struct tr_topology *out, const char *root, uint32_t cpu);

/* Sum of the packages' long-term limits in W; 0: unknown. Source: Linux
 * Documentation/power/powercap.
 */
double tr_power_sysfs(const char *root);

/* Who made the CPU, its numbers and its name: by CPUID on x86-64, else from the file. */
void tr_machine_cpu(trueno_machine *m, const char *cpuinfo);

/* The same from a /proc/cpuinfo of ARM. Source: Arm Architecture Reference Manual, MIDR_EL1. */
void tr_machine_cpuinfo(trueno_machine *m, const char *cpuinfo);

/* Writes m->id from the other fields. */
void tr_machine_id(trueno_machine *m);

/* The first `cap` - 1 bytes of a text file, with a NUL after them; *whole (may be NULL) tells
 * whether there are no more. False, and "", if there are none. */
bool tr_read_text(char *text, size_t cap, bool *whole, const char *path);

#endif
