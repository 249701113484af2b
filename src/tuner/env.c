/* SPDX-License-Identifier: MIT */
/* Features from the machine, what was measured on it, and a model file. */
#include "tuner/env.h"

#include <string.h>

#include "base/error.h"
#include "tuner/kinds.h"

enum { MAX_THREADS = 1024, MATRIX_UNIT = 2, DOT_PRODUCTS = 1 };

/* Slot 33: what multiplies 8-bit integers. */
static double tensor_level(uint32_t cpu)
{
    if (cpu & (TRUENO_CPU_AMX_INT8 | TRUENO_CPU_I8MM)) return MATRIX_UNIT;
    if (cpu & (TRUENO_CPU_AVX_VNNI | TRUENO_CPU_AVX512_VNNI | TRUENO_CPU_DOTPROD))
        return DOT_PRODUCTS;
    return 0;
}

static double known(double value)
{
    return value > 0 ? value : TRUENO_UNSET;
}

static void add_machine(trueno_features *f, const trueno_machine *m, uint32_t threads)
{
    f->vram_gb = 0;
    f->cuda_graphs = 0;
    f->pcie_gen = 0;
    f->is_unified_memory = 1;
    f->cpu_threads = threads;
    f->sm_count = known(m->usable_cores);
    f->tensor_cores = tensor_level(m->cpu_features);
    f->numa_nodes = known(m->numa_nodes < threads ? m->numa_nodes : threads);
    f->system_ram_gb = (double)m->ram_bytes / 0x1p30;
    f->power_limit = m->power_limit_w;
    if (m->llc_bytes > 0) f->cache_bytes = (double)m->llc_bytes;
}

/* ------------------------------------------------------------- what was measured */

static const trueno_machine_point *find_point(const trueno_machine_profile *p, uint32_t threads)
{
    for (uint32_t i = 0; p && i < p->n && i < TRUENO_MACHINE_POINTS; i++)
        if (p->points[i].threads == threads) return &p->points[i];
    return NULL;
}

/* Slots 30 and 31. Quantised weights are multiplied as 8-bit integers. */
static void add_point(trueno_features *f, const trueno_machine_point *at)
{
    const trueno_dtype type = tr_quant_traits_of(f->quant)->dtype;
    const bool int8 = trueno_dtype_get_info(type)->is_quantized;
    const double gmacs = int8 ? at->int8_gmacs : at->f32_gmacs;
    f->gpu_mem_bw_gbs = known(at->read_gbs);
    f->gpu_compute_tflops = known(2 * gmacs / 1000);
}

static trueno_status add_measured(trueno_ctx *ctx, trueno_features *f, const trueno_env_options *o,
                                  uint32_t threads, trueno_error *err)
{
    trueno_machine_profile fresh = TRUENO_MACHINE_PROFILE_INIT;
    const trueno_machine_point *at = find_point(o->profile, threads);
    if (!at && o->probe_ms > 0) {
        trueno_status status = trueno_machine_measure(ctx, &fresh, &threads, 1, o->probe_ms, err);
        if (status != TRUENO_OK) return status;
        at = find_point(&fresh, threads);
    }
    if (at) add_point(f, at);
    return TRUENO_OK;
}

/* ---------------------------------------------------------------------- the call */

/* All but what may stay unset: nobody measured. */
static trueno_status check_features(const trueno_features *f, trueno_error *err)
{
    trueno_features full = *f;
    double *const may_be_unset[] = {&full.gpu_mem_bw_gbs, &full.gpu_compute_tflops, &full.sm_count};
    full.struct_size = sizeof full;
    for (size_t i = 0; i < sizeof may_be_unset / sizeof may_be_unset[0]; i++)
        if (*may_be_unset[i] == TRUENO_UNSET) *may_be_unset[i] = 1;
    return trueno_features_validate(&full, err);
}

static trueno_status read_options(trueno_env_options *out, const trueno_env_options *opt,
                                  trueno_error *err)
{
    if (opt && !tr_struct_read(out, sizeof *out, opt, sizeof *out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "environment: struct_size is %zu; use TRUENO_ENV_OPTIONS_INIT",
                       opt->struct_size);
    if (out->profile && !TR_STRUCT_OK(out->profile))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "profile: struct_size is %zu; use TRUENO_MACHINE_PROFILE_INIT",
                       out->profile->struct_size);
    if (out->device != -1)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED,
                       "device %d: this library computes on the CPU, -1, alone", (int)out->device);
    if (out->threads > MAX_THREADS)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "%u threads asked for, the limit is %d",
                       (unsigned)out->threads, MAX_THREADS);
    return TRUENO_OK;
}

static trueno_status fill(trueno_ctx *ctx, trueno_features *f, const trueno_env_options *o,
                          trueno_error *err)
{
    trueno_machine m = TRUENO_MACHINE_INIT;
    trueno_status status = trueno_machine_get(ctx, &m, err);
    if (status != TRUENO_OK) return status;
    const uint32_t threads = o->threads ? o->threads : m.threads;
    add_machine(f, &m, threads);
    if (o->gguf) status = tr_env_model(f, o->gguf, err);
    if (status == TRUENO_OK) status = add_measured(ctx, f, o, threads, err);
    return status == TRUENO_OK ? check_features(f, err) : status;
}

trueno_status trueno_features_from_env(trueno_ctx *ctx, trueno_features *f,
                                       const trueno_env_options *opt, trueno_error *err)
{
    trueno_env_options o = TRUENO_ENV_OPTIONS_INIT;
    if (!f) return tr_fail(err, TRUENO_ERR_ARGUMENT, "features: f is NULL");
    if (!TR_STRUCT_OK(f))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "features: struct_size is %zu; use TRUENO_FEATURES_INIT", f->struct_size);
    trueno_features got = TRUENO_FEATURES_INIT;
    got.struct_size = f->struct_size;
    memcpy(f, &got, sizeof got);
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "environment: ctx is NULL");
    trueno_status status = read_options(&o, opt, err);
    if (status == TRUENO_OK) status = fill(ctx, &got, &o, err);
    if (status == TRUENO_OK) memcpy(f, &got, sizeof got);
    return status;
}
