/* SPDX-License-Identifier: MIT */
/* Features of runs whose bottlenecks and experiments are tested. */
#ifndef ADVICE_TEST_H
#define ADVICE_TEST_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/advice.h"

static trueno_ctx *ctx;

static inline void expect_near(double got, double want)
{
    if (!(fabs(got - want) <= 1e-9 * fabs(want) + 1e-15)) fail_msg("%.17g, not %.17g", got, want);
}

static inline trueno_features gpu(double params_b, uint32_t batch)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = params_b;
    f.batch_size = batch;
    f.vram_gb = 80;
    f.gpu_mem_bw_gbs = 1000;
    f.gpu_compute_tflops = 100;
    return f;
}

static inline trueno_features cpu(double params_b, uint32_t batch, uint32_t threads)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = params_b;
    f.batch_size = batch;
    f.cpu_threads = threads;
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 20;
    f.gpu_compute_tflops = 0.2;
    f.sm_count = 8;
    return f;
}

static inline int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL);
}

static inline int teardown(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

#endif
