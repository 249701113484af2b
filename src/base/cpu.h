/* SPDX-License-Identifier: MIT */
/* CPU features: detection (CPUID + XGETBV, or HWCAP), and levels that cap them. */
#ifndef TR_CPU_H
#define TR_CPU_H

#include "trueno/base.h"

/* Feature mask that a level allows; false if there is no level of that name on this architecture.
 */
bool tr_cpu_level_mask(const char *level, uint32_t *mask);

/* Name of the highest level whose required features are all in `features`. */
const char *tr_cpu_level_of(uint32_t features);

/* Bytes of physical memory that this process may use (cgroup limit included); 0 if unknown. */
uint64_t tr_memory_limit(void);

#endif
