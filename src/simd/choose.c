/* SPDX-License-Identifier: MIT */
/* Which kernel a context uses: the names that the user gave come first, then the registry's order.
 */
#include <stdio.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "kernel.h"

/* What is to be done. */
struct job {
    enum tr_op op;
    trueno_dtype type;
    enum tr_act act;
};

/* The next name of a list: its length, and `*list` moves past it. NULL at the end. */
static const char *next_name(const char **list, size_t *len)
{
    const char *name = *list;
    if (!name || !*name) return NULL;
    *len = strcspn(name, ",");
    *list = name + *len + (name[*len] == ',');
    return name;
}

bool tr_kernel_is_named(const trueno_ctx *ctx, const struct tr_kernel *k)
{
    const char *list = tr_ctx_kernels(ctx), *name;
    size_t len;
    while ((name = next_name(&list, &len)) != NULL)
        if (tr_kernel_named(name, len) == k) return true;
    return false;
}

/* Names of the features in `bits`, separated by blanks. */
static void feature_names(char *text, size_t cap, uint32_t bits)
{
    size_t used = 0;
    text[0] = 0;
    for (uint32_t bit = 1; bit != 0 && used < cap; bit <<= 1) {
        const char *name = bits & bit ? trueno_cpu_feature_name(bit) : NULL;
        if (name) used += (size_t)snprintf(text + used, cap - used, used ? " %s" : "%s", name);
    }
}

static trueno_status check_names(const trueno_ctx *ctx, trueno_error *err)
{
    const char *list = tr_ctx_kernels(ctx), *name;
    size_t len;
    while ((name = next_name(&list, &len)) != NULL) {
        const struct tr_kernel *k = tr_kernel_named(name, len);
        int shown = len < 80 ? (int)len : 80;
        if (!k)
            return tr_fail(err, TRUENO_ERR_ARGUMENT,
                           "TRUENO_KERNEL or option kernels: this build has no kernel '%.*s'; "
                           "trueno-kernels --list names those it has",
                           shown, name);
        uint32_t lacks = k->cpu & ~trueno_ctx_cpu_features(ctx);
        char features[160];
        feature_names(features, sizeof features, lacks);
        if (lacks)
            return tr_fail(err, TRUENO_ERR_ARGUMENT,
                           "TRUENO_KERNEL or option kernels: %s needs %s, which the CPU or the "
                           "level %s lacks",
                           k->name, features, trueno_ctx_cpu_level(ctx));
        const char *missing = k->missing ? k->missing() : NULL;
        if (missing)
            return tr_fail(err, TRUENO_ERR_ARGUMENT,
                           "TRUENO_KERNEL or option kernels: %s cannot run: %s", k->name, missing);
    }
    return TRUENO_OK;
}

/* May be chosen without having been named. */
static bool is_candidate(const trueno_ctx *ctx, const struct tr_kernel *k)
{
    if (k->cpu & ~trueno_ctx_cpu_features(ctx)) return false;
    if (k->numerics != TR_EXACT && tr_ctx_numerics(ctx) != TRUENO_NUMERICS_BOUNDED) return false;
    return !k->missing || !k->missing();
}

static size_t count_kernels(void)
{
    size_t n = 0;
    while (tr_kernel_at(n)) n++;
    return n;
}

/* Fills the empty ones of the two slots from the last kernel to the first. A kernel for any shape
 * ends the search: what stands before it is slower. */
static void search(const struct tr_kernel **any, const struct tr_kernel **wide,
                   const trueno_ctx *ctx, const struct job *job, bool named)
{
    for (size_t i = count_kernels(); i-- > 0 && !(*any && !named);) {
        const struct tr_kernel *k = tr_kernel_at(i);
        const struct tr_kernel **slot = k->fits ? wide : any;
        if (*slot || !tr_kernel_serves(k, job->op, job->type, job->act)) continue;
        if (named ? tr_kernel_is_named(ctx, k) : is_candidate(ctx, k)) *slot = k;
    }
}

trueno_status tr_kernel_choose(const struct tr_kernel **out, const struct tr_kernel **wide,
                               const trueno_ctx *ctx, enum tr_op op, trueno_dtype type,
                               enum tr_act act, trueno_error *err)
{
    const struct tr_kernel *unused = NULL;
    const struct job job = {op, type, act};
    if (!wide) wide = &unused;
    *out = *wide = NULL;
    trueno_status status = check_names(ctx, err);
    if (status != TRUENO_OK) return status;
    search(out, wide, ctx, &job, true);
    search(out, wide, ctx, &job, false);
    if (*out) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "this build has no kernel for the operation");
}

uint32_t tr_tile_width(const trueno_ctx *ctx)
{
    uint32_t width = TR_NT_MAX;
    for (enum tr_act act = TR_ACT_F32; act < TR_ACT_COUNT; act++) {
        const struct tr_kernel *pack;
        trueno_status status =
            tr_kernel_choose(&pack, NULL, ctx, TR_OP_QUANTIZE, TR_TYPE_NONE, act, NULL);
        if (status == TRUENO_OK && pack->nt_best < width) width = pack->nt_best;
    }
    return width;
}
