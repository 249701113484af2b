/* SPDX-License-Identifier: MIT */
/* Random runs and a law that they follow, for tests of what learns. Include cmocka before it. */
#ifndef TEST_RUNS_H
#define TEST_RUNS_H

#include <math.h>
#include <stdlib.h>

#include "trueno/predict.h"
#include "tuner/random.h"

static trueno_ctx *ctx;

static inline trueno_regressor *new_regressor(void)
{
    trueno_regressor *r;
    assert_int_equal(trueno_regressor_new(ctx, &r, NULL), TRUENO_OK);
    return r;
}

static inline trueno_prediction predict(const trueno_regressor *r, const trueno_features *f)
{
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_regressor_predict(r, &p, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return p;
}

static inline trueno_features random_run(struct tr_random *random)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = exp2(tr_random_unit(random) * 10 - 4);
    f.batch_size = 1 + tr_random_below(random, 32);
    f.quant = (trueno_quant)tr_random_below(random, TRUENO_QUANT_COUNT);
    f.gpu_mem_bw_gbs = exp2(3 + tr_random_unit(random) * 9);
    f.gpu_compute_tflops = exp2(tr_random_unit(random) * 10);
    f.cpu_threads = 1 + tr_random_below(random, 16);
    f.temperature = 3 * tr_random_unit(random);
    f.vram_gb = tr_random_below(random, 2) ? 80 : 0;
    f.sm_count = 1 + tr_random_below(random, 132);
    if (tr_random_below(random, 3) == 0) f.prompt_tokens = 1 + tr_random_below(random, 2048);
    return f;
}

/* What lies above the roof's time shrinks with the threads and for batches above 8. */
static inline double true_rate(const trueno_regressor *prior, const trueno_features *f,
                               struct tr_random *random, double noise)
{
    trueno_prediction p = predict(prior, f);
    double g = -0.8 + 0.1 * f->cpu_threads + (f->batch_size > 8 ? 0.7 : 0);
    double above = 1 / p.predicted_tps - 1 / p.roofline_tps, e = 0;
    for (int i = 0; i < 12; i++) e += tr_random_unit(random) - 0.5; /* variance 1 */
    return 1 / (1 / p.roofline_tps + above * exp(noise * e - g));
}

struct rows {
    trueno_features *f;
    double *tps;
    size_t n;
};

static inline struct rows random_rows(size_t n, uint64_t seed, double noise)
{
    struct rows r = {malloc(n * sizeof(trueno_features)), malloc(n * sizeof(double)), n};
    trueno_regressor *prior = new_regressor();
    struct tr_random random;
    assert_true(r.f && r.tps);
    tr_random_seed(&random, seed, 0);
    for (size_t i = 0; i < n; i++) {
        r.f[i] = random_run(&random);
        r.tps[i] = true_rate(prior, &r.f[i], &random, noise);
    }
    trueno_regressor_free(prior);
    return r;
}

static inline void free_rows(struct rows *r)
{
    free(r->f);
    free(r->tps);
}

static inline int setup(void **state)
{
    (void)state;
    return trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK;
}

static inline int teardown(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

#endif
