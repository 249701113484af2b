/* SPDX-License-Identifier: MIT */
/* Profiles: probes with some numbers of threads, within a budget. */
#include "tuner/probe.h"

#include <string.h>

#include "base/clock.h"
#include "base/error.h"

static trueno_status measure_point(trueno_ctx *ctx, trueno_machine_point *out, uint32_t threads,
                                   uint64_t deadline, trueno_error *err)
{
    trueno_probe *p;
    trueno_machine_point at = {.threads = threads};
    trueno_status status = tr_probe_new_until(ctx, &p, threads, deadline, err);
    if (status == TRUENO_OK) status = trueno_probe_read_gbs(p, &at.read_gbs, err);
    if (status == TRUENO_OK)
        status = trueno_probe_peak_gmacs(p, TRUENO_PROBE_INT8, &at.int8_gmacs, err);
    if (status == TRUENO_OK)
        status = trueno_probe_peak_gmacs(p, TRUENO_PROBE_F32, &at.f32_gmacs, err);
    trueno_probe_free(p);
    if (status == TRUENO_OK) *out = at;
    return status;
}

static trueno_status check(const trueno_ctx *ctx, trueno_machine_profile *out,
                           const uint32_t *threads, size_t n, uint32_t budget_ms, trueno_error *err)
{
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "profile: out is NULL");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "profile: struct_size is %zu; use TRUENO_MACHINE_PROFILE_INIT",
                       out->struct_size);
    trueno_machine_profile empty = TRUENO_MACHINE_PROFILE_INIT;
    empty.struct_size = out->struct_size;
    memcpy(out, &empty, sizeof empty);
    if (!ctx) return tr_fail(err, TRUENO_ERR_ARGUMENT, "profile: ctx is NULL");
    if (n > 0 && !threads) return tr_fail(err, TRUENO_ERR_ARGUMENT, "profile: threads is NULL");
    if (n > TRUENO_MACHINE_POINTS)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "profile: %zu numbers of threads, at most %d", n,
                       TRUENO_MACHINE_POINTS);
    if (budget_ms == 0) return tr_fail(err, TRUENO_ERR_ARGUMENT, "profile: budget_ms is 0");
    return TRUENO_OK;
}

trueno_status trueno_machine_measure(trueno_ctx *ctx, trueno_machine_profile *out,
                                     const uint32_t *threads, size_t n, uint32_t budget_ms,
                                     trueno_error *err)
{
    static const uint32_t all[1] = {0};
    const uint64_t start = tr_now_ns();
    const uint64_t deadline = start + (uint64_t)budget_ms * 1000000;
    trueno_status status = check(ctx, out, threads, n, budget_ms, err);
    if (status != TRUENO_OK) return status;

    trueno_machine_profile p = *out;
    if (n == 0) threads = all;
    if (n == 0) n = 1;
    for (size_t i = 0; i < n && status == TRUENO_OK; i++) {
        const uint32_t count = threads[i] ? threads[i] : trueno_cpu_count();
        if (i > 0 && tr_now_ns() >= deadline) break;
        status = measure_point(ctx, &p.points[p.n++], count, deadline, err);
    }
    if (status != TRUENO_OK) return status;
    const uint64_t spent_ms = (tr_now_ns() - start) / 1000000;
    p.spent_ms = spent_ms < UINT32_MAX ? (uint32_t)spent_ms : UINT32_MAX;
    memcpy(out, &p, sizeof p);
    return TRUENO_OK;
}
