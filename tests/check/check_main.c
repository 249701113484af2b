/* SPDX-License-Identifier: MIT */
/* trueno-check: every kernel of the registry against the reference of its op. Exit status: 0 all
 * passed or skipped, 1 a kernel failed, 2 usage. */
#include "check.h"

#include "trueno/quantize.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_SEED 1

struct family {
    const char *op;
    check_fn check;
};

static const struct family families[TR_OP_COUNT] = {
    [TR_OP_GEMM] = {"gemm", check_gemm},
    [TR_OP_QUANTIZE] = {"quantize", check_quantize},
    [TR_OP_RMSNORM] = {"rmsnorm", check_rmsnorm},
    [TR_OP_SWIGLU] = {"swiglu", check_glu},
    [TR_OP_GEGLU] = {"geglu", check_glu},
    [TR_OP_ROPE_NORM] = {"rope_norm", check_rope},
    [TR_OP_ROPE_NEOX] = {"rope_neox", check_rope},
    [TR_OP_KV_STORE] = {"kv_store", check_kv_store},
    [TR_OP_ATTENTION] = {"attention", check_attention},
    [TR_OP_ATTN_MERGE] = {"attn_merge", check_attn_merge},
};

struct options {
    const char *kernel, *op; /* NULL: all */
    uint64_t seed;
    bool list, verbose;
};

struct counts {
    size_t passed, failed, skipped, cases;
};

static const char usage[] =
    "usage: trueno-check [options]\n"
    "Checks every kernel of the registry against the C reference of its op.\n"
    "  --list         name the kernels and exit\n"
    "  --kernel NAME  check this kernel only\n"
    "  --op OP        check the kernels of this op only\n"
    "  --seed N       seed of the random inputs\n"
    "  --verbose      a line per kernel, and all failures of each\n"
    "  --help         this text\n";

static bool selected(const struct options *o, const struct tr_kernel *k)
{
    if (o->kernel && strcmp(o->kernel, k->name)) return false;
    return !o->op || !strcmp(o->op, families[k->op].op);
}

static const struct tr_kernel *reference(const struct tr_kernel *k)
{
    const struct tr_kernel *r;
    for (size_t i = 0; (r = tr_kernel_at(i)); i++) {
        if (!r->cpu && !r->missing && r->op == k->op && r->dtype == k->dtype && r->act == k->act)
            return r;
    }
    return NULL;
}

/* Names of the features in `bits`. */
static const char *feature_names(uint32_t bits, char *text, size_t n)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t bit = 1; bit; bit <<= 1) {
        const char *name = bits & bit ? trueno_cpu_feature_name(bit) : NULL;
        if (name && used < n) {
            used += (size_t)snprintf(text + used, n - used, used ? " %s" : "%s", name);
        }
    }
    return text;
}

/* The same inputs for one op and type whatever else is checked in the run. */
static uint64_t kernel_seed(const struct options *o, const struct tr_kernel *k)
{
    return o->seed * 1000003U + (uint64_t)k->op * 1009U + (uint64_t)k->dtype * 31U +
           (uint64_t)k->act;
}

static void check_one(struct check *t, const struct options *o, const struct tr_kernel *k,
                      struct counts *c)
{
    char names[160];
    uint32_t missing = k->cpu & ~trueno_cpu_features();
    if (missing) {
        printf("skip %s: the CPU has no %s\n", k->name,
               feature_names(missing, names, sizeof names));
        c->skipped++;
        return;
    }
    const char *lacks = k->missing ? k->missing() : NULL;
    if (lacks) {
        printf("skip %s: %s\n", k->name, lacks);
        c->skipped++;
        return;
    }
    const struct tr_kernel *ref = reference(k);
    check_fn check = k->fits ? check_wide : families[k->op].check;
    t->kernel = k;
    t->rng = kernel_seed(o, k);
    t->n_cases = t->n_failures = 0;
    check_case(t, "begin");
    check_release(t);
    if (!ref) {
        check_fail(t, "the registry has no C reference of this op and type");
    } else if (!check) {
        check_fail(t, "the checker has no check of this op");
    } else {
        check_kernel(t, check, k, ref);
    }
    size_t cases = t->n_cases - 1;
    if (!cases && !t->n_failures) check_fail(t, "no case was run");
    if (t->n_failures) {
        printf("FAIL %s: %zu failures in %zu cases\n", k->name, t->n_failures, cases);
    } else if (o->verbose) {
        printf("ok   %s: %zu cases\n", k->name, cases);
    }
    fflush(stdout);
    c->cases += cases;
    if (t->n_failures)
        c->failed++;
    else
        c->passed++;
}

static struct counts check_op(struct check *t, const struct options *o, enum tr_op op)
{
    struct counts c = {0, 0, 0, 0};
    const struct tr_kernel *k;
    for (size_t i = 0; (k = tr_kernel_at(i)); i++) {
        if (k->op == op && selected(o, k)) check_one(t, o, k, &c);
    }
    if (c.passed + c.failed + c.skipped) {
        printf("%-10s %3zu passed, %zu failed, %zu skipped (%zu cases)\n", families[op].op,
               c.passed, c.failed, c.skipped, c.cases);
    }
    return c;
}

static int check_all(const struct options *o)
{
    static struct check t;
    struct counts sum = {0, 0, 0, 0};
    t.verbose = o->verbose;
    printf("seed %llu\n", (unsigned long long)o->seed);
    for (int op = 0; op < TR_OP_COUNT; op++) {
        struct counts c = check_op(&t, o, (enum tr_op)op);
        sum.passed += c.passed;
        sum.failed += c.failed;
        sum.skipped += c.skipped;
    }
    printf("%zu passed, %zu failed, %zu skipped\n", sum.passed, sum.failed, sum.skipped);
    if (!(sum.passed + sum.failed + sum.skipped)) {
        fprintf(stderr, "trueno-check: no such kernel\n");
        return 2;
    }
    return sum.failed ? 1 : 0;
}

static int list(const struct options *o)
{
    const struct tr_kernel *k;
    for (size_t i = 0; (k = tr_kernel_at(i)); i++) {
        char names[160];
        const trueno_dtype_info *info =
            k->dtype == TR_TYPE_NONE ? NULL : trueno_dtype_get_info(k->dtype);
        if (!selected(o, k)) continue;
        printf("%-28s %-10s %-5s %-9s %s\n", k->name, families[k->op].op, info ? info->name : "-",
               k->numerics == TR_EXACT ? "exact" : "reordered",
               k->cpu       ? feature_names(k->cpu, names, sizeof names)
               : k->missing ? "(if it can be loaded)"
                            : "(reference)");
    }
    return 0;
}

static bool parse_options(struct options *o, int argc, char **argv)
{
    static const struct option longs[] = {
        {"list", no_argument, NULL, 'l'},
        {"kernel", required_argument, NULL, 'k'},
        {"op", required_argument, NULL, 'o'},
        {"seed", required_argument, NULL, 's'},
        {"verbose", no_argument, NULL, 'v'},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    int c;
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        char *end = NULL;
        switch (c) {
        case 'l': o->list = true; break;
        case 'k': o->kernel = optarg; break;
        case 'o': o->op = optarg; break;
        case 'v': o->verbose = true; break;
        case 'h': fputs(usage, stdout); exit(0);
        case 's':
            o->seed = strtoull(optarg, &end, 0);
            if (end == optarg || *end) return false;
            break;
        default: return false;
        }
    }
    return optind == argc;
}

int main(int argc, char **argv)
{
    struct options o = {NULL, NULL, DEFAULT_SEED, false, false};
    setenv("OPENBLAS_NUM_THREADS", "1", 1); /* else its kernels cannot run */
    if (!parse_options(&o, argc, argv)) {
        fputs(usage, stderr);
        return 2;
    }
    return o.list ? list(&o) : check_all(&o);
}
