/* SPDX-License-Identifier: MIT */
/* Tuners, runs and panels for tests of the tuner as a whole. Include cmocka before it. */
#ifndef TUNER_TEST_H
#define TUNER_TEST_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "trueno/tuner.h"

static inline trueno_ctx *make_context(void)
{
    trueno_ctx *c;
    assert_int_equal(trueno_ctx_new(&c, NULL, NULL), TRUENO_OK);
    return c;
}

/* Without a file. */
static inline trueno_tuner *make_tuner(trueno_ctx *c, trueno_tuner_mode mode)
{
    trueno_tuner_options o = TRUENO_TUNER_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    trueno_tuner *t;
    o.mode = mode;
    o.store_path = "";
    if (trueno_tuner_new(c, &t, &o, &err) != TRUENO_OK) fail_msg("%s", err.message);
    return t;
}

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

static inline void same_prediction(const trueno_prediction *a, const trueno_prediction *b)
{
    assert_true(a->predicted_tps == b->predicted_tps && a->lo == b->lo && a->hi == b->hi);
    assert_true(a->level == b->level && a->roofline_tps == b->roofline_tps);
    assert_true(a->efficiency == b->efficiency && a->confidence == b->confidence);
    assert_true(a->ttft_ms == b->ttft_ms && a->source == b->source && a->bound == b->bound);
    assert_int_equal(a->reference_hardware, b->reference_hardware);
}

/* Kernels that the tuner would try for a problem, by what a learning one hands out; out[0] is the
 * default. Returns their number. */
static inline size_t kernels_tried(trueno_ctx *c, const char *out[8], const trueno_problem *p)
{
    trueno_tuner *t = make_tuner(c, TRUENO_TUNER_LEARN), *plain = make_tuner(c, TRUENO_TUNER_OFF);
    trueno_pick pick = TRUENO_PICK_INIT;
    size_t n = 1;
    assert_int_equal(trueno_tuner_plan(plain, &pick, p), TRUENO_OK);
    out[0] = pick.variant;
    for (int i = 0; i < 200; i++) {
        size_t k = 0;
        assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
        while (k < n && strcmp(out[k], pick.variant) != 0) k++;
        if (k == n && n < 8) out[n++] = pick.variant;
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, 100000), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
    trueno_tuner_free(plain);
    trueno_tuner_free(t);
    return n;
}

/* Plays n calls of a problem: 100 us with noise of 4 %, by the variant `fast` 80 us. */
static inline void play(trueno_tuner *t, const trueno_problem *p, const char *fast, int n)
{
    uint32_t noise = 1;
    for (int i = 0; i < n; i++) {
        trueno_pick pick = TRUENO_PICK_INIT;
        assert_int_equal(trueno_tuner_plan(t, &pick, p), TRUENO_OK);
        noise = noise * 1664525U + 1013904223U;
        uint64_t ns = (strcmp(pick.variant, fast) == 0 ? 80000 : 100000) + (noise >> 20);
        assert_int_equal(trueno_tuner_observe(t, pick.ticket, ns), TRUENO_OK);
        assert_int_equal(trueno_tuner_tick(t, 0), TRUENO_OK);
    }
}

#endif
