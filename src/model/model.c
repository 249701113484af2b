/* SPDX-License-Identifier: MIT */
/* Models: load, facts, and the memory plan made by the same code that loads. */
#include "model/session.h"

#include "base/cpu.h"
#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "gguf/gguf_file.h"

#include <stddef.h>
#include <string.h>

/* Everything a model holds: counted here, planned here. */
static uint64_t model_bytes(const trueno_model *m, uint64_t arena_bytes)
{
    return tr_alloc_bytes(sizeof *m) + tr_alloc_bytes(m->hp.n_layer * sizeof *m->layers) +
           tr_alloc_bytes(m->hp.n_layer * sizeof *m->hp.layers) + tr_big_bytes((size_t)arena_bytes);
}

/* A model without weights: hyper-parameters read, tensors found, sizes known. */
static trueno_status skeleton(trueno_model **out, struct tr_items *list, const trueno_gguf *g,
                              const trueno_model_options *opt, trueno_error *err)
{
    trueno_ctx *ctx = trueno_gguf_ctx(g);
    trueno_model *m = tr_calloc(ctx, 1, sizeof *m);
    if (m == NULL) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for a model");
    *out = m;
    m->ctx = ctx;
    tr_ctx_ref(ctx);
    m->info.struct_size = sizeof m->info;
    m->mapped = opt->weights == TRUENO_WEIGHTS_MAPPED;
    trueno_status s = tr_hparams_read(&m->hp, g, err);
    if (s != TRUENO_OK) return s;
    m->layers = tr_calloc(ctx, m->hp.n_layer, sizeof *m->layers);
    if (m->layers == NULL)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for %u layers", m->hp.n_layer);
    s = tr_weights_bind(m, list, g, err);
    if (s == TRUENO_OK) m->info.memory_bytes = model_bytes(m, list->arena_bytes);
    return s;
}

static trueno_status load(trueno_model *m, const struct tr_items *list, const trueno_gguf *g,
                          const trueno_model_options *opt, trueno_error *err)
{
    uint64_t limit = opt->max_memory_bytes ? opt->max_memory_bytes : tr_memory_limit();
    trueno_pool *pool = NULL;
    if (limit > 0 && m->info.memory_bytes > limit)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE,
                       "the model needs %llu bytes, above the limit of %llu (max_memory_bytes)",
                       (unsigned long long)m->info.memory_bytes, (unsigned long long)limit);
    m->arena_bytes = (size_t)list->arena_bytes;
    m->arena = tr_big_alloc(m->ctx, m->arena_bytes);
    if (m->arena == NULL)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for %zu bytes of weights",
                       m->arena_bytes);
    if (tr_big_pages_are_small(m->ctx, m->arena_bytes))
        tr_log(m->ctx, TRUENO_LOG_WARN,
               "transparent huge pages are off: weights are read up to a fifth slower");
    trueno_status s = trueno_pool_new(m->ctx, &pool, opt->n_threads, err);
    if (s == TRUENO_OK) s = tr_weights_fill(m, list, g, pool, opt->check_tensors, err);
    trueno_pool_free(pool);
    if (s == TRUENO_OK && m->mapped) m->file = tr_gguf_ref(g);
    return s;
}

/* The caller's options, which may be of an older header; NULL: the defaults. */
static trueno_status read_options(trueno_model_options *out, const trueno_model_options *opt,
                                  trueno_error *err)
{
    const size_t first = offsetof(trueno_model_options, weights);
    *out = (trueno_model_options)TRUENO_MODEL_OPTIONS_INIT;
    if (opt != NULL && !tr_struct_read(out, sizeof *out, opt, first))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "model options: struct_size is %zu, expected %zu",
                       opt->struct_size, sizeof *out);
    if ((unsigned)out->weights > TRUENO_WEIGHTS_MAPPED)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "model options: weights %d is unknown",
                       (int)out->weights);
    return TRUENO_OK;
}

trueno_status trueno_model_load(trueno_model **out, const trueno_gguf *g,
                                const trueno_model_options *opt, trueno_error *err)
{
    trueno_model_options o;
    struct tr_items list = {NULL, 0, 0, 0};
    trueno_model *m = NULL;

    if (out == NULL) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_model_load: out is NULL");
    *out = NULL;
    if (g == NULL) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_model_load: gguf is NULL");
    trueno_status s = read_options(&o, opt, err);
    if (s != TRUENO_OK) return s;
    s = skeleton(&m, &list, g, &o, err);
    if (s == TRUENO_OK) s = load(m, &list, g, &o, err);
    tr_free(trueno_gguf_ctx(g), list.items);
    if (s == TRUENO_OK)
        *out = m;
    else
        trueno_model_free(m);
    return s;
}

void trueno_model_free(trueno_model *m)
{
    if (m == NULL) return;
    trueno_ctx *ctx = m->ctx;
    trueno_gguf_free(m->file);
    if (m->arena != NULL) tr_big_free(ctx, m->arena, m->arena_bytes);
    tr_free(ctx, m->layers);
    tr_hparams_free(&m->hp, ctx);
    tr_free(ctx, m);
    tr_ctx_unref(ctx);
}

trueno_status trueno_model_get_info(const trueno_model *m, trueno_model_info *out)
{
    if (m == NULL || out == NULL || !TR_STRUCT_OK(out)) return TRUENO_ERR_ARGUMENT;
    size_t size = out->struct_size;
    *out = m->info;
    out->struct_size = size;
    return TRUENO_OK;
}

trueno_status trueno_model_estimate(trueno_estimate *out, const trueno_gguf *g,
                                    const trueno_session_options *opt, trueno_error *err)
{
    return trueno_model_estimate_with(out, g, NULL, opt, err);
}

trueno_status trueno_model_estimate_with(trueno_estimate *out, const trueno_gguf *g,
                                         const trueno_model_options *model_opt,
                                         const trueno_session_options *opt, trueno_error *err)
{
    trueno_model_options o;
    struct tr_items list = {NULL, 0, 0, 0};
    trueno_model *m = NULL;

    if (out == NULL || !TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "trueno_model_estimate: out is NULL or has a wrong "
                       "struct_size");
    out->weights_bytes = out->kv_bytes = out->compute_bytes = out->total_bytes = 0;
    if (g == NULL) return tr_fail(err, TRUENO_ERR_ARGUMENT, "trueno_model_estimate: gguf is NULL");
    trueno_status s = read_options(&o, model_opt, err);
    if (s != TRUENO_OK) return s;
    s = skeleton(&m, &list, g, &o, err);
    if (s == TRUENO_OK) s = tr_session_estimate(out, m, opt, err);
    if (s == TRUENO_OK) {
        out->weights_bytes = m->info.memory_bytes;
        out->total_bytes = out->weights_bytes + out->kv_bytes + out->compute_bytes;
    }
    tr_free(trueno_gguf_ctx(g), list.items);
    trueno_model_free(m);
    return s;
}
