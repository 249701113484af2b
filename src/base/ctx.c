/* SPDX-License-Identifier: MIT */
/* Contexts: creation from options, references, callbacks. */
#include "base/ctx.h"

#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/ctx_impl.h"
#include "base/error.h"

static trueno_status check_options(const trueno_ctx_options *opt, trueno_error *err)
{
    if (!TR_STRUCT_OK(opt))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "trueno_ctx_options.struct_size is %zu, must be %zu: use "
                       "TRUENO_CTX_OPTIONS_INIT",
                       opt->struct_size, sizeof *opt);
    const trueno_allocator *a = &opt->allocator;
    const int hooks = (a->alloc != NULL) + (a->realloc != NULL) + (a->free != NULL);
    if (hooks != 0 && hooks != 3)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "%d of the 3 allocator hooks are set; set all or none", hooks);
    if ((unsigned)opt->log_level > TRUENO_LOG_ERROR)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "log level %d is not one of 0..%d",
                       (int)opt->log_level, TRUENO_LOG_ERROR);
    if ((unsigned)opt->numerics > TRUENO_NUMERICS_BOUNDED)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "numerics %d is not one of 0..%d",
                       (int)opt->numerics, TRUENO_NUMERICS_BOUNDED);
    return TRUENO_OK;
}

/* The features left by the level that the options or else the environment names. */
static trueno_status choose_features(uint32_t *features, const char *level, trueno_error *err)
{
    const char *source = "trueno_ctx_options.cpu";
    *features = trueno_cpu_features();
    if (!level) {
        source = "environment variable TRUENO_CPU";
        level = getenv("TRUENO_CPU");
        if (!level || !*level) return TRUENO_OK;
    }
    uint32_t mask;
    if (!tr_cpu_level_mask(level, &mask))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "%s: unknown level '%.80s'; known are the names that trueno_cpu_level gives",
                       source, level);
    *features &= mask;
    return TRUENO_OK;
}

trueno_status trueno_ctx_new(trueno_ctx **out, const trueno_ctx_options *opt, trueno_error *err)
{
    static const trueno_ctx_options defaults = TRUENO_CTX_OPTIONS_INIT;
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_ctx_new: out is NULL");
    *out = NULL;
    if (!opt) opt = &defaults;
    trueno_status status = check_options(opt, err);
    if (status) return status;
    uint32_t features;
    status = choose_features(&features, opt->cpu, err);
    if (status) return status;

    const trueno_allocator *a = &opt->allocator;
    const char *kernels = opt->kernels ? opt->kernels : getenv("TRUENO_KERNEL");
    const size_t name_bytes = kernels ? strlen(kernels) : 0,
                 size = sizeof(trueno_ctx) + name_bytes + 1;
    trueno_ctx *ctx = a->alloc ? a->alloc(a->user, size) : malloc(size);
    if (!ctx)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a context (%zu bytes)", size);
    memset(ctx, 0, size);
    if (kernels) memcpy(ctx->kernels, kernels, name_bytes);
    ctx->opt = *opt;
    ctx->opt.cpu = ctx->opt.kernels = NULL;
    ctx->cpu_features = features;
    atomic_init(&ctx->refs, 1);
    atomic_init(&ctx->now_bytes, 0);
    atomic_init(&ctx->peak_bytes, 0);
    *out = ctx;
    return TRUENO_OK;
}

void trueno_ctx_free(trueno_ctx *ctx)
{
    tr_ctx_unref(ctx);
}

void tr_ctx_ref(trueno_ctx *ctx)
{
    atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
}

void tr_ctx_unref(trueno_ctx *ctx)
{
    /* acq_rel: whoever frees must see what the others wrote before they let go */
    if (!ctx || atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1) return;
    const trueno_allocator a = ctx->opt.allocator;
    if (a.free)
        a.free(a.user, ctx);
    else
        free(ctx);
}

void trueno_ctx_memory(const trueno_ctx *ctx, uint64_t *now_bytes, uint64_t *peak_bytes)
{
    if (now_bytes)
        *now_bytes = ctx ? atomic_load_explicit(&ctx->now_bytes, memory_order_relaxed) : 0;
    if (peak_bytes)
        *peak_bytes = ctx ? atomic_load_explicit(&ctx->peak_bytes, memory_order_relaxed) : 0;
}

uint32_t trueno_ctx_cpu_features(const trueno_ctx *ctx)
{
    return ctx ? ctx->cpu_features : 0;
}

const char *trueno_ctx_cpu_level(const trueno_ctx *ctx)
{
    return tr_cpu_level_of(trueno_ctx_cpu_features(ctx));
}

const char *tr_ctx_kernels(const trueno_ctx *ctx)
{
    return ctx->kernels;
}

trueno_numerics tr_ctx_numerics(const trueno_ctx *ctx)
{
    return ctx->opt.numerics;
}

void tr_progress(trueno_ctx *ctx, const char *what, uint64_t done, uint64_t total)
{
    if (ctx->opt.progress) ctx->opt.progress(ctx->opt.progress_user, what, done, total);
}

bool tr_cancelled(trueno_ctx *ctx)
{
    return ctx->opt.cancel && ctx->opt.cancel(ctx->opt.cancel_user);
}
