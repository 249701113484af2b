/* SPDX-License-Identifier: MIT */
/* Cores, caches and memory nodes by hwloc. */
#include "tuner/machine.h"

#include <string.h>

#if defined(TR_HWLOC)
#include <hwloc.h>

/* Only what is asked for is looked for. Its x86 part would move this thread over all CPUs to ask
 * each; objects without a use here can contradict one another on virtual machines, and hwloc then
 * complains on standard error. */
static bool load(hwloc_topology_t t)
{
    static const hwloc_obj_type_t wanted[] = {HWLOC_OBJ_CORE, HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE,
                                              HWLOC_OBJ_L3CACHE, HWLOC_OBJ_L4CACHE};
    hwloc_topology_set_components(t, HWLOC_TOPOLOGY_COMPONENTS_FLAG_BLACKLIST, "x86");
    hwloc_topology_set_all_types_filter(t, HWLOC_TYPE_FILTER_KEEP_NONE);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
        hwloc_topology_set_type_filter(t, wanted[i], HWLOC_TYPE_FILTER_KEEP_ALL);
    return hwloc_topology_load(t) == 0;
}

/* Cuts the topology to a set of CPUs. */
static bool restrict_to(hwloc_topology_t t, const struct tr_cpus *cpus)
{
    hwloc_bitmap_t set = hwloc_bitmap_alloc();
    bool ok = set != NULL;
    for (uint32_t cpu = 0; ok && cpu < TR_CPUS_MAX; cpu++)
        if (tr_cpus_has(cpus, cpu)) ok = hwloc_bitmap_set(set, cpu) == 0;
    ok = ok && hwloc_topology_restrict(t, set, HWLOC_RESTRICT_FLAG_REMOVE_CPULESS) == 0;
    hwloc_bitmap_free(set);
    return ok;
}

static uint32_t count(hwloc_topology_t t, hwloc_obj_type_t type)
{
    const int n = hwloc_get_nbobjs_by_type(t, type);
    return n > 0 ? (uint32_t)n : 0;
}

/* The caches above a CPU, from the inside out. */
static void read_caches(struct tr_topology *out, hwloc_topology_t t, uint32_t cpu)
{
    for (hwloc_obj_t o = hwloc_get_pu_obj_by_os_index(t, cpu); o; o = o->parent) {
        if (!hwloc_obj_type_is_dcache(o->type)) continue;
        if (o->type == HWLOC_OBJ_L1CACHE) out->l1d_bytes = o->attr->cache.size;
        if (o->type == HWLOC_OBJ_L2CACHE) out->l2_bytes = o->attr->cache.size;
        out->llc_bytes = o->attr->cache.size;
    }
}

bool tr_topology_hwloc(struct tr_topology *out, const struct tr_cpus *cpus)
{
    hwloc_topology_t t;
    memset(out, 0, sizeof *out);
    if (hwloc_topology_init(&t) != 0) return false;
    const bool ok = load(t) && restrict_to(t, cpus);
    if (ok) {
        out->cores = count(t, HWLOC_OBJ_CORE);
        out->numa_nodes = count(t, HWLOC_OBJ_NUMANODE);
        read_caches(out, t, tr_cpus_first(cpus));
    }
    hwloc_topology_destroy(t);
    return ok;
}
#else
bool tr_topology_hwloc(struct tr_topology *out, const struct tr_cpus *cpus)
{
    (void)cpus;
    memset(out, 0, sizeof *out);
    return false;
}
#endif
