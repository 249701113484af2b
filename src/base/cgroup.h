/* SPDX-License-Identifier: MIT */
/* Limits that Linux control groups, version 1 or 2, put on this process. */
#ifndef TR_CGROUP_H
#define TR_CGROUP_H

#include "trueno/base.h"

/* CPU quota in whole CPUs, rounded up; 0: none. `membership` is the file that names the groups of
 * the process (/proc/self/cgroup), `root` where they are mounted (/sys/fs/cgroup). The tightest
 * limit of a group and its parents counts. */
uint32_t tr_cgroup_cpus(const char *membership, const char *root);

/* Memory limit in bytes; 0: none. */
uint64_t tr_cgroup_memory(const char *membership, const char *root);

#endif
