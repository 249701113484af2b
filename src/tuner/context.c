/* SPDX-License-Identifier: MIT */
/* Problems, their contexts, and who may compute them. */
#include "tuner/context.h"

#include "base/ctx.h"
#include "base/error.h"
#include "simd/x16.h"
#include "tuner/features.h"
#include "tuner/kinds.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_THREADS = 1024 }; /* of a pool */

/* Upper edges of the buckets after 16. */
static const uint32_t edges[] = {24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024, UINT32_MAX};

uint32_t tr_m_bucket(uint32_t m)
{
    uint32_t b = 0;
    if (m <= 16) return m > 0 ? m - 1 : 0;
    while (m > edges[b]) b++;
    return 16 + b;
}

uint32_t tr_m_bucket_edge(uint32_t bucket)
{
    return bucket < 16 ? bucket + 1 : bucket < TR_M_BUCKETS ? edges[bucket - 16] : UINT32_MAX;
}

trueno_status tr_problem_check(const trueno_problem *p, trueno_error *err)
{
    if (!p) return tr_fail(err, TRUENO_ERR_ARGUMENT, "problem: NULL");
    if (!TR_STRUCT_OK(p))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "problem: struct_size is %zu; use TRUENO_PROBLEM_INIT", p->struct_size);
    const trueno_dtype_info *type = trueno_dtype_get_info(p->type);
    if (!type) return tr_fail(err, TRUENO_ERR_ARGUMENT, "problem: type %d is none", (int)p->type);
    if (p->n_cols == 0) return tr_fail(err, TRUENO_ERR_ARGUMENT, "problem: n_cols is 0");
    if (p->rows == 0) return tr_fail(err, TRUENO_ERR_ARGUMENT, "problem: rows is 0");
    if ((unsigned)p->kind > TRUENO_PROBLEM_PASS)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "problem: kind %d is none", (int)p->kind);
    if (p->cols == 0 || (p->cols % type->block != 0 && p->kind == TRUENO_PROBLEM_PRODUCT))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "problem: cols is %zu, not a multiple of the %zu weights in a block of %s",
                       p->cols, (size_t)type->block, type->name);
    if (p->threads == 0) return tr_fail(err, TRUENO_ERR_ARGUMENT, "problem: threads is 0");
    if (p->phase != TRUENO_PHASE_DECODE && p->phase != TRUENO_PHASE_PREFILL)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "problem: phase is neither decode nor prefill");
    return TRUENO_OK;
}

/* Mixes one more number in; the finaliser of splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t mix(uint64_t h, uint64_t x)
{
    uint64_t z = h ^ (x + UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t trueno_problem_context(const trueno_problem *p)
{
    if (tr_problem_check(p, NULL) != TRUENO_OK) return 0;
    uint64_t h = mix(0, (uint64_t)p->type << 32 | tr_m_bucket(p->n_cols));
    h = mix(mix(h, p->rows), p->cols);
    h = mix(h, (uint64_t)p->phase << 32 | p->threads);
    if (p->kind != TRUENO_PROBLEM_PRODUCT) h = mix(h, (uint64_t)p->kind);
    return h ? h : 1;
}

void tr_threads_name(char name[TR_THREADS_NAME], uint32_t threads)
{
    snprintf(name, TR_THREADS_NAME, "threads-%u", (unsigned)threads);
}

uint32_t tr_threads_named(const char *name)
{
    static const char prefix[] = "threads-";
    char back[TR_THREADS_NAME];
    if (strncmp(name, prefix, sizeof prefix - 1) != 0) return 0;
    unsigned long n = strtoul(name + sizeof prefix - 1, NULL, 10);
    if (n == 0 || n > MAX_THREADS) return 0;
    tr_threads_name(back, (uint32_t)n); /* no blanks, signs or zeros before it */
    return strcmp(back, name) == 0 ? (uint32_t)n : 0;
}

trueno_status tr_problem_of(trueno_problem *out, const trueno_features *f, trueno_error *err)
{
    tr_raw_values raw;
    trueno_problem p = TRUENO_PROBLEM_INIT;
    double new_tokens;

    *out = p;
    trueno_status status = tr_features_resolve(raw, f, err);
    if (status != TRUENO_OK) return status;
    if (raw[TRUENO_FEATURE_HIDDEN_DIM] == TRUENO_UNSET)
        return tr_fail(err, TRUENO_ERR_INVALID_FEATURE,
                       "neither model_params_b nor hidden_dim is given");
    p.phase = trueno_features_phase(f);
    new_tokens = p.phase == TRUENO_PHASE_PREFILL ? raw[TRUENO_FEATURE_PROMPT_TOKENS]
                                                 : 1 + raw[TRUENO_FEATURE_DRAFT_TOKENS];
    if (new_tokens < 1) new_tokens = 1;
    double columns = raw[TRUENO_FEATURE_BATCH_SIZE] * new_tokens;
    p.n_cols = columns < UINT32_MAX ? (uint32_t)columns : UINT32_MAX;
    p.type = tr_quant_traits_of(f->quant)->dtype;
    p.rows = (size_t)raw[TRUENO_FEATURE_INTERMEDIATE_DIM];
    if (p.rows == 0) p.rows = (size_t)raw[TRUENO_FEATURE_HIDDEN_DIM]; /* no feed-forward */
    size_t block = trueno_dtype_get_info(p.type)->block;
    p.cols = ((size_t)raw[TRUENO_FEATURE_HIDDEN_DIM] + block - 1) / block * block;
    p.threads = (uint32_t)raw[TRUENO_FEATURE_CPU_THREADS];
    *out = p;
    return TRUENO_OK;
}

trueno_status trueno_problem_of_pass(trueno_problem *out, const trueno_features *f,
                                     uint32_t n_tokens, trueno_error *err)
{
    tr_raw_values raw;
    trueno_problem p = TRUENO_PROBLEM_INIT;
    if (!out || !f || !TR_STRUCT_OK(out) || n_tokens == 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "pass: %s",
                       !out || !f           ? "an argument is NULL"
                       : !TR_STRUCT_OK(out) ? "struct_size is wrong; use TRUENO_PROBLEM_INIT"
                                            : "no tokens");
    p.struct_size = out->struct_size;
    memcpy(out, &p, sizeof p);
    trueno_status status = tr_features_resolve(raw, f, err);
    if (status != TRUENO_OK) return status;
    double layers = raw[TRUENO_FEATURE_NUM_LAYERS], width = raw[TRUENO_FEATURE_HIDDEN_DIM];
    if (layers == TRUENO_UNSET || width == TRUENO_UNSET)
        return tr_fail(err, TRUENO_ERR_INVALID_FEATURE,
                       "neither model_params_b nor the geometry is given");
    p.kind = TRUENO_PROBLEM_PASS;
    p.type = tr_quant_traits_of(f->quant)->dtype;
    p.n_cols = n_tokens;
    p.rows = (size_t)(layers * fmax(raw[TRUENO_FEATURE_INTERMEDIATE_DIM], 1));
    p.cols = (size_t)width;
    p.threads = (uint32_t)raw[TRUENO_FEATURE_CPU_THREADS];
    p.phase = tr_phase_of(n_tokens);
    memcpy(out, &p, sizeof p);
    return TRUENO_OK;
}

/* May stand in for `first`: reads what that one reads, for any number of columns that it takes, and
 * gives its bits. */
static bool competes(const struct tr_kernel *k, const struct tr_kernel *first,
                     const trueno_ctx *ctx)
{
    if (k == first || k->fits || k->numerics != first->numerics || k->act != first->act)
        return false;
    if (k->nt_max < first->nt_max || (k->cpu & ~trueno_ctx_cpu_features(ctx))) return false;
    return tr_kernel_serves(k, TR_OP_GEMM, first->dtype, TR_ACT_NONE) &&
           (!k->missing || !k->missing());
}

size_t tr_candidates(const struct tr_kernel **out, size_t cap, const trueno_ctx *ctx,
                     const trueno_problem *p)
{
    const struct tr_kernel *first, *k;
    size_t n = 0;

    if (tr_problem_check(p, NULL) != TRUENO_OK || p->kind != TRUENO_PROBLEM_PRODUCT) return 0;
    trueno_dtype run = tr_x16_type(p->type);
    if (tr_kernel_choose(&first, NULL, ctx, TR_OP_GEMM, run, TR_ACT_NONE, NULL) != TRUENO_OK)
        return 0;
    if (n++ < cap) out[0] = first;
    if (tr_kernel_is_named(ctx, first)) return n; /* the user's word is the last one */
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++)
        if (competes(k, first, ctx) && n++ < cap) out[n - 1] = k;
    return n;
}

trueno_kernel tr_family_of(const struct tr_kernel *k, uint32_t m)
{
    bool pair = k->family == TR_FAMILY_Q4_K ||
                (k->family >= TR_FAMILY_Q5_K && k->family < TR_FAMILY_DEQUANT_BLAS);
    return (trueno_kernel)((int)k->family + (pair && m >= 4));
}
