/* SPDX-License-Identifier: MIT */
/* The machine: what the system says elsewhere is what we say, what it does not say is 0, and the id
 * changes with what counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tuner/machine.h"

static trueno_ctx *ctx;

static trueno_machine get(const trueno_ctx *of)
{
    trueno_machine m = TRUENO_MACHINE_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_machine_get((trueno_ctx *)of, &m, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return m;
}

static trueno_ctx *new_ctx(const char *cpu)
{
    trueno_ctx_options opt = TRUENO_CTX_OPTIONS_INIT;
    trueno_ctx *made;
    opt.cpu = cpu;
    assert_int_equal(trueno_ctx_new(&made, &opt, NULL), TRUENO_OK);
    return made;
}

/* ------------------------------------------------------------ against the system */

#if defined(__x86_64__)
/* The rest of the first line "NAME<spaces>: REST" of /proc/cpuinfo. */
static void cpuinfo_line(char *out, size_t cap, const char *name)
{
    char line[4096];
    FILE *f = fopen("/proc/cpuinfo", "r");
    assert_non_null(f);
    out[0] = '\0';
    while (!out[0] && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        const size_t n = strlen(name);
        if (!colon || strncmp(line, name, n) != 0 || (line[n] != '\t' && line[n] != ' ')) continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(out, cap, "%s", colon[1] ? colon + 2 : "");
    }
    fclose(f);
}

static void test_cpu(void **state)
{
    char text[4096];
    const trueno_machine m = get(ctx);
    (void)state;
    cpuinfo_line(text, sizeof text, "vendor_id");
    if (!text[0]) skip(); /* an emulator's file */
    assert_string_equal(m.cpu_vendor, text);
    cpuinfo_line(text, sizeof text, "cpu family");
    assert_int_equal(m.cpu_family, atoi(text));
    cpuinfo_line(text, sizeof text, "stepping");
    if (strcmp(text, "unknown") != 0) assert_int_equal(m.cpu_stepping, atoi(text));
    cpuinfo_line(text, sizeof text, "flags");
    assert_int_equal(m.hypervisor, strstr(text, " hypervisor") != NULL);
    /* "model" is also the beginning of "model name" */
    FILE *f = fopen("/proc/cpuinfo", "r");
    int model = -1;
    assert_non_null(f);
    while (model < 0 && fgets(text, sizeof text, f)) sscanf(text, "model : %d", &model);
    fclose(f);
    assert_int_equal(m.cpu_model, model);
    cpuinfo_line(text, sizeof text, "model name");
    assert_string_equal(m.cpu_name, text);
}
#else
static void test_cpu(void **state)
{
    (void)state;
    skip();
}
#endif

static void test_system(void **state)
{
    const trueno_machine m = get(ctx), again = get(ctx);
    const uint64_t ram = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    cpu_set_t set;
    (void)state;
    assert_memory_equal(&m, &again, sizeof m);
    assert_int_equal(sched_getaffinity(0, sizeof set, &set), 0);
    assert_int_equal(m.cpus, CPU_COUNT(&set));
    assert_int_equal(m.threads, trueno_cpu_count());
    assert_true(m.quota_cpus == 0 || m.threads <= m.quota_cpus);
    assert_true(m.cores <= m.cpus && m.usable_cores <= m.cores);
    assert_true(m.usable_cores == m.cores || m.usable_cores == m.quota_cpus);
    assert_true(m.ram_bytes > 0 && m.ram_bytes <= ram);
    assert_int_equal(m.cpu_features, trueno_ctx_cpu_features(ctx));
    assert_true(m.llc_bytes >= m.l1d_bytes && m.power_limit_w >= 0);
    assert_true(strlen(m.id) > 12 && strlen(m.id) < 64);
}

/* A thread that may run on one CPU only has one core and one thread, and is another machine. */
static void test_affinity(void **state)
{
    const trueno_machine all = get(ctx);
    cpu_set_t before, one;
    size_t cpu = 0;
    (void)state;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    while (!CPU_ISSET(cpu, &before)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    const trueno_machine m = get(ctx);
    assert_int_equal(sched_setaffinity(0, sizeof before, &before), 0);
    assert_int_equal(m.cpus, 1);
    assert_int_equal(m.threads, 1);
    assert_true(m.cores <= 1 && m.numa_nodes <= 1);
    assert_true(m.cores == 1 || all.cores == 0);
    assert_true(all.cpus == 1 || strcmp(all.id, m.id) != 0);
}

/* What a context may not use does not count. */
static void test_level(void **state)
{
    trueno_ctx *ref = new_ctx("ref");
    const trueno_machine full = get(ctx), capped = get(ref);
    (void)state;
    assert_int_equal(capped.cpu_features, 0);
    assert_non_null(strstr(capped.id, "-ref-"));
    if (full.cpu_features) assert_string_not_equal(full.id, capped.id);
    trueno_ctx_free(ref);
}

/* What is told of the machine is what its /sys says. */
static void test_topology(void **state)
{
    struct tr_cpus cpus;
    struct tr_topology t;
    (void)state;
    tr_cpus_affinity(&cpus);
    tr_topology_sysfs(&t, "/sys", &cpus);
    const trueno_machine m = get(ctx);
    assert_int_equal(m.cores, t.cores);
    assert_int_equal(m.numa_nodes, t.numa_nodes);
    assert_int_equal(m.l1d_bytes, t.l1d_bytes);
    assert_int_equal(m.l2_bytes, t.l2_bytes);
    assert_int_equal(m.llc_bytes, t.llc_bytes);
}

static void test_no_cpus(void **state)
{
    const struct tr_cpus none = {{0}};
    struct tr_topology t;
    (void)state;
    assert_int_equal(tr_cpus_first(&none), TR_CPUS_MAX);
    assert_int_equal(tr_cpus_count(&none), 0);
    tr_topology_sysfs(&t, "/sys", &none);
    assert_int_equal(t.cores, 0);
    assert_int_equal(t.numa_nodes, 0);
    assert_int_equal(t.llc_bytes, 0);
}

/* ------------------------------------------------------------------- a fake /sys */

static char root[] = "/tmp/trueno-sys-XXXXXX";

static int make_root(void **state)
{
    (void)state;
    memcpy(root + strlen(root) - 6, "XXXXXX", 6);
    return mkdtemp(root) ? 0 : -1;
}

static int drop_root(void **state)
{
    char command[256];
    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", root);
    return system(command);
}

/* Writes a file below the root, with its folders. */
static void put(const char *path, const char *text)
{
    char full[512];
    snprintf(full, sizeof full, "%s/%s", root, path);
    for (char *c = full + strlen(root) + 1; *c; c++) {
        if (*c != '/') continue;
        *c = '\0';
        mkdir(full, 0700);
        *c = '/';
    }
    FILE *f = fopen(full, "w");
    if (!f) fail_msg("%s", full);
    fputs(text, f);
    fclose(f);
}

static void put_cache(uint32_t cpu, uint32_t index, const char *level, const char *type,
                      const char *size)
{
    char path[128];
    const char *names[] = {"level", "type", "size"}, *texts[] = {level, type, size};
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "devices/system/cpu/cpu%u/cache/index%u/%s", cpu, index,
                 names[i]);
        if (texts[i]) put(path, texts[i]);
    }
}

/* Two packages, each a memory node, of two cores with two threads: CPU i and i + 4 share one. A
 * third node has memory alone. */
static void put_machine(void)
{
    char path[128], text[32];
    for (uint32_t cpu = 0; cpu < 8; cpu++) {
        snprintf(path, sizeof path, "devices/system/cpu/cpu%u/topology/core_cpus_list", cpu);
        snprintf(text, sizeof text, "%u,%u\n", cpu % 4, cpu % 4 + 4);
        put(path, text);
        put_cache(cpu, 0, "1\n", "Data\n", "48K\n");
        put_cache(cpu, 1, "1\n", "Instruction\n", "32K\n");
        put_cache(cpu, 2, "2\n", "Unified\n", "1024K\n");
        put_cache(cpu, 3, "3\n", "Unified\n", cpu % 4 < 2 ? "32768K\n" : "96M\n");
    }
    put("devices/system/node/online", "0-2\n");
    put("devices/system/node/node0/cpulist", "0-1,4-5\n");
    put("devices/system/node/node1/cpulist", "2-3,6-7\n");
    put("devices/system/node/node2/cpulist", "\n");
}

static void check_topology(uint64_t cpus, uint32_t cores, uint32_t nodes, uint64_t llc)
{
    struct tr_cpus set = {{cpus}};
    struct tr_topology t;
    tr_topology_sysfs(&t, root, &set);
    assert_int_equal(t.cores, cores);
    assert_int_equal(t.numa_nodes, nodes);
    assert_int_equal(t.l1d_bytes, 48 << 10);
    assert_int_equal(t.l2_bytes, 1 << 20);
    assert_int_equal(t.llc_bytes, llc);
}

static void test_sysfs(void **state)
{
    (void)state;
    put_machine();
    check_topology(0xff, 4, 2, 32 << 20);
    check_topology(0x0f, 4, 2, 32 << 20); /* one thread of each core */
    check_topology(0xf0, 4, 2, 32 << 20); /* the other one */
    check_topology(0x11, 1, 1, 32 << 20); /* both of one core */
    check_topology(0x13, 2, 1, 32 << 20);
    check_topology(0x08, 1, 1, 96 << 20);
    check_topology(0x48, 2, 1, 96 << 20);
}

/* No file, no number; a broken one, no number. */
static void test_sysfs_unknown(void **state)
{
    struct tr_cpus set = {{0xff}};
    struct tr_topology t = {1, 1, 1, 1, 1}, zero = {0};
    (void)state;
    tr_topology_sysfs(&t, root, &set);
    assert_memory_equal(&t, &zero, sizeof t);
    assert_true(tr_power_sysfs(root) == 0);

    put_machine();
    set.bits[0] = 0x1ff; /* CPU 8 has no files */
    tr_topology_sysfs(&t, root, &set);
    assert_int_equal(t.cores, 0);
    assert_int_equal(t.numa_nodes, 2);
    set.bits[0] = 0xff;
    const char *broken[] = {"x\n", "1-\n", "3-1\n", "99999999999999999999\n", "0-16384\n", "1;2\n"};
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
        put("devices/system/cpu/cpu3/topology/core_cpus_list", broken[i]);
        put("devices/system/node/node1/cpulist", broken[i]);
        tr_topology_sysfs(&t, root, &set);
        assert_int_equal(t.cores, 0);
        assert_int_equal(t.numa_nodes, 0);
    }
    put_cache(0, 3, "3\n", "Unified\n", "big\n");
    tr_topology_sysfs(&t, root, &set);
    assert_int_equal(t.l2_bytes, 1 << 20);
    assert_int_equal(t.llc_bytes, 0); /* not that of level 2: there is one, unknown */
}

/* Kernels before 5.4 name the file otherwise. */
static void test_sysfs_old(void **state)
{
    struct tr_cpus set = {{0x3}};
    struct tr_topology t;
    (void)state;
    put("devices/system/cpu/cpu0/topology/thread_siblings_list", "0-1\n");
    put("devices/system/cpu/cpu1/topology/thread_siblings_list", "0-1\n");
    tr_topology_sysfs(&t, root, &set);
    assert_int_equal(t.cores, 1);
}

static void test_power(void **state)
{
    (void)state;
    put("class/powercap/intel-rapl:0/constraint_0_power_limit_uw", "125000000\n");
    assert_true(fabs(tr_power_sysfs(root) - 125) < 1e-9);
    put("class/powercap/intel-rapl:1/constraint_0_power_limit_uw", "80500000\n");
    assert_true(fabs(tr_power_sysfs(root) - 205.5) < 1e-9);
    put("class/powercap/intel-rapl:1/constraint_0_power_limit_uw", "\n");
    assert_true(fabs(tr_power_sysfs(root) - 125) < 1e-9);
}

/* A Neoverse N1 r3p1. */
static void test_cpuinfo(void **state)
{
    trueno_machine m = TRUENO_MACHINE_INIT;
    char path[64];
    (void)state;
    snprintf(path, sizeof path, "%s/cpuinfo", root);
    tr_machine_cpuinfo(&m, path); /* not there */
    assert_string_equal(m.cpu_vendor, "");
    put("cpuinfo", "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\n"
                   "CPU architecture: 8\nCPU variant\t: 0x3\nCPU part\t: 0xd0c\n"
                   "CPU revision\t: 1\n\nprocessor\t: 1\nCPU implementer\t: 0x61\n");
    tr_machine_cpuinfo(&m, path);
    assert_string_equal(m.cpu_vendor, "0x41");
    assert_int_equal(m.cpu_family, 8);
    assert_int_equal(m.cpu_model, 0xd0c);
    assert_int_equal(m.cpu_stepping, 0x31);
    trueno_machine other = TRUENO_MACHINE_INIT, unset = TRUENO_MACHINE_INIT;
    put("cpuinfo", "CPU implementer\t: 0x12345\nCPU part\t: 0xd0c\n");
    tr_machine_cpuinfo(&other, path);
    put("cpuinfo", "model name\t: something\n");
    tr_machine_cpuinfo(&other, path);
    assert_memory_equal(&other, &unset, sizeof unset);
}

/* --------------------------------------------------------------------------- ids */

/* CRC-32 of ISO 3309, bit by bit. */
static uint32_t crc_of(const char *text)
{
    uint32_t crc = ~0u;
    for (; *text; text++) {
        crc ^= (unsigned char)*text;
        for (int i = 0; i < 8; i++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static trueno_machine fake(void)
{
    trueno_machine m = TRUENO_MACHINE_INIT;
    strcpy(m.cpu_vendor, "GenuineIntel");
    strcpy(m.cpu_name, "Intel(R) Core(TM) i7 @ 3GHz");
    m.cpu_family = 6;
    m.cpu_model = 158;
    m.cpu_stepping = 10;
    m.cpus = 8;
    m.cores = 4;
    m.numa_nodes = 1;
    m.l1d_bytes = 32 << 10;
    m.l2_bytes = 256 << 10;
    m.llc_bytes = 8 << 20;
    tr_machine_id(&m);
    return m;
}

static void test_id(void **state)
{
    const trueno_machine m = fake();
    char want[128];
    (void)state;
    snprintf(want, sizeof want, "intel-r-core-tm-i7-3ghz-6.158.10-4c-ref-%08x",
             crc_of("GenuineIntel|6|158|10|0|0|8|4|1|32768|262144|8388608"));
    assert_string_equal(m.id, want);
    assert_int_equal(crc_of("123456789"), 0xcbf43926); /* the published check value */

    trueno_machine unknown = TRUENO_MACHINE_INIT, large = m;
    tr_machine_id(&unknown);
    assert_memory_equal(unknown.id, "cpu-0.0.0-0c-ref-", 17);
    memset(large.cpu_name, 'X', sizeof large.cpu_name - 1);
    large.cpu_family = 270;
    large.cpu_model = large.cores = 4095;
    large.cpu_stepping = 255;
    large.cpu_features = UINT32_MAX;
    tr_machine_id(&large);
    assert_true(strlen(large.id) < 64);
}

/* Two machines that differ in anything hard have two ids; what may change from run to run, or has
 * to be measured again only, does not count. */
static void test_id_fields(void **state)
{
    const trueno_machine m = fake();
    (void)state;
    for (int i = 0; i < 17; i++) {
        trueno_machine o = m;
        switch (i) {
        case 0: o.cpu_vendor[0] = 'g'; break;
        case 1: o.cpu_family++; break;
        case 2: o.cpu_model++; break;
        case 3: o.cpu_stepping++; break;
        case 4: o.cpu_features = TRUENO_CPU_FMA; break; /* of the same level */
        case 5: o.hypervisor = true; break;
        case 6: o.cpus++; break;
        case 7: o.cores++; break;
        case 8: o.numa_nodes++; break;
        case 9: o.l1d_bytes++; break;
        case 10: o.l2_bytes++; break;
        case 11: o.llc_bytes++; break;
        case 12: o.quota_cpus++; break;
        case 13: o.threads++; break;
        case 14: o.usable_cores++; break;
        case 15: o.ram_bytes++; break;
        case 16: o.power_limit_w++; break;
        }
        tr_machine_id(&o);
        if (i < 12)
            assert_string_not_equal(o.id, m.id);
        else
            assert_string_equal(o.id, m.id);
    }
}

static void test_get_arguments(void **state)
{
    trueno_machine m = get(ctx), unset = TRUENO_MACHINE_INIT;
    trueno_error err = {TRUENO_OK, ""};
    (void)state;
    assert_int_equal(trueno_machine_get(ctx, NULL, &err), TRUENO_ERR_ARGUMENT);
    assert_int_equal(trueno_machine_get(NULL, &m, &err), TRUENO_ERR_ARGUMENT);
    assert_memory_equal(&m, &unset, sizeof m);
    m.struct_size = sizeof m - 1;
    assert_int_equal(trueno_machine_get(ctx, &m, &err), TRUENO_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "struct_size"));
    m.struct_size = sizeof m + 8; /* of a newer header */
    assert_int_equal(trueno_machine_get(ctx, &m, NULL), TRUENO_OK);
    assert_int_equal(m.struct_size, sizeof m + 8);
}

static void test_cache(void **state)
{
    struct tr_topology t = {0};
    struct tr_cpus cpus;
    (void)state;
    tr_cpus_affinity(&cpus);
    tr_caches_sysfs(&t, "/sys", tr_cpus_first(&cpus));
    const size_t bytes = trueno_cache_bytes();
    if (t.llc_bytes) assert_int_equal(bytes, t.llc_bytes);
    assert_true(bytes < (size_t)1 << 32);
}

int main(void)
{
    if (trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_system),
        cmocka_unit_test(test_affinity),
        cmocka_unit_test(test_level),
        cmocka_unit_test(test_topology),
        cmocka_unit_test(test_no_cpus),
        cmocka_unit_test_setup_teardown(test_sysfs, make_root, drop_root),
        cmocka_unit_test_setup_teardown(test_sysfs_unknown, make_root, drop_root),
        cmocka_unit_test_setup_teardown(test_sysfs_old, make_root, drop_root),
        cmocka_unit_test_setup_teardown(test_power, make_root, drop_root),
        cmocka_unit_test_setup_teardown(test_cpuinfo, make_root, drop_root),
        cmocka_unit_test(test_id),
        cmocka_unit_test(test_id_fields),
        cmocka_unit_test(test_get_arguments),
        cmocka_unit_test(test_cache),
    };
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    trueno_ctx_free(ctx);
    return rc;
}
