/* SPDX-License-Identifier: MIT */
/* Runs, and what a tuner says of them. Include cmocka before it. */
#ifndef TUNER_RUNS_H
#define TUNER_RUNS_H

#include "trueno/tuner.h"

static inline trueno_tuner_stats stats_of(const trueno_tuner *t)
{
    trueno_tuner_stats s = TRUENO_TUNER_STATS_INIT;
    assert_int_equal(trueno_tuner_get_stats(t, &s), TRUENO_OK);
    return s;
}

/* The specification's device: 1000 GB/s. */
static inline trueno_features gpu_run(double params_b, double batch)
{
    trueno_features f = TRUENO_FEATURES_INIT;
    f.model_params_b = params_b;
    f.batch_size = batch;
    f.quant = TRUENO_QUANT_Q4_K;
    f.gpu_mem_bw_gbs = 1000;
    return f;
}

static inline trueno_features cpu_run(double params_b, double batch)
{
    trueno_features f = gpu_run(params_b, batch);
    f.vram_gb = 0;
    f.gpu_mem_bw_gbs = 40;
    f.gpu_compute_tflops = 1;
    f.sm_count = 2;
    f.cpu_threads = 2;
    return f;
}

/* The specification's sample: batches 1 to 8, 200 + 80 x batch tokens/s. */
static inline void sample_rows(trueno_features rows[100], double tps[100])
{
    for (int i = 0; i < 100; i++) {
        rows[i] = gpu_run(1.5, 1 + i % 8);
        rows[i].cuda_graphs = i % 8 == 0;
        tps[i] = 200 + 80 * rows[i].batch_size;
    }
}

static inline trueno_prediction predict_by(trueno_tuner *t, const trueno_features *f)
{
    trueno_prediction p = TRUENO_PREDICTION_INIT;
    trueno_error err = {TRUENO_OK, ""};
    if (trueno_tuner_predict(t, &p, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return p;
}

static inline trueno_recommendation recommend(trueno_tuner *t, const trueno_features *f)
{
    trueno_recommendation rec;
    trueno_error err = {TRUENO_OK, ""};
    trueno_recommendation_init(&rec);
    if (trueno_tuner_recommend(t, &rec, f, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return rec;
}

#endif
