/* SPDX-License-Identifier: MIT */
/* What holds a run back (trueno/advice.h). */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "trueno/advice.h"
#include "tuner/roofline.h"

/* Thresholds of the rule. */
#define ATTENTION_SHARE 0.35
#define LAUNCH_SHARE    0.25
/* Standard deviation of ln t. */
#define SIGMA_PREDICTED 0.25
#define SIGMA_MEASURED  0.05

/* Seconds that the parts of a pass take. read, multiply: each alone. */
struct parts {
    bool known, gpu, graphs;
    double read, multiply, attention, launch, other;
};

/* Estimates, in seconds (advice.h). */
static double launch_time(const tr_raw_values raw, bool gpu)
{
    double layers = raw[TRUENO_FEATURE_NUM_LAYERS], threads = raw[TRUENO_FEATURE_CPU_THREADS];
    if (gpu) return 15 * layers * (raw[TRUENO_FEATURE_CUDA_GRAPHS] == 1 ? 0.5e-6 : 2e-6);
    return threads > 1 ? 5 * layers * (1e-6 + 0.2e-6 * (threads - 1)) : 0;
}

/* Features that pass the checks where a CPU was not measured: it has no defaults, and what is put
 * here counts for nothing else. False if bandwidth or peak was missing. */
static bool complete(trueno_features *f)
{
    bool known = f->gpu_mem_bw_gbs != TRUENO_UNSET && f->gpu_compute_tflops != TRUENO_UNSET;
    if (f->vram_gb != 0) return true;
    if (f->gpu_mem_bw_gbs == TRUENO_UNSET) f->gpu_mem_bw_gbs = 1;
    if (f->gpu_compute_tflops == TRUENO_UNSET) f->gpu_compute_tflops = 1;
    if (f->sm_count == TRUENO_UNSET) f->sm_count = 1;
    return known;
}

static void split_time(struct parts *p, const struct tr_roofline *roof, const tr_raw_values raw)
{
    struct tr_usual usual = tr_usual_of(raw);
    double bytes_s = raw[TRUENO_FEATURE_GPU_MEM_BW_GBS] * 1e9 * usual.mem;
    double ops_s = raw[TRUENO_FEATURE_GPU_COMPUTE_TFLOPS] * 1e12 * usual.cmp;
    p->read = roof->from_memory * roof->weight_bytes / bytes_s;
    p->multiply = roof->matmul_flops / ops_s;
    p->attention =
        tr_overlapped(roof->from_memory * roof->kv_bytes / bytes_s, roof->attention_flops / ops_s);
    p->launch = launch_time(raw, p->gpu);
}

/* Predicts the parts; known is false where nothing tells. */
static trueno_status predict_parts(struct parts *out, const trueno_features *f, trueno_error *err)
{
    struct tr_roofline roof;
    tr_raw_values raw;
    struct parts p = {0};
    trueno_features given;

    *out = p;
    if (!f) return tr_fail(err, TRUENO_ERR_ARGUMENT, "bottleneck: f is NULL");
    if (!TR_STRUCT_OK(f))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "bottleneck: struct_size of the features is %zu; use TRUENO_FEATURES_INIT",
                       f->struct_size);
    memcpy(&given, f, sizeof given);
    given.struct_size = sizeof given;
    p.known = complete(&given);
    trueno_status status = tr_features_resolve(raw, &given, err);
    if (status != TRUENO_OK) return status;
    p.gpu = raw[TRUENO_FEATURE_VRAM_GB] > 0;
    p.graphs = raw[TRUENO_FEATURE_CUDA_GRAPHS] == 1;
    p.known = p.known && raw[TRUENO_FEATURE_MODEL_PARAMS_B] != TRUENO_UNSET;
    if (p.known) status = tr_roofline_of(&roof, &given, err);
    if (status != TRUENO_OK) return status;
    if (p.known) split_time(&p, &roof, raw);
    *out = p;
    return TRUENO_OK;
}

/* ------------------------------------------------------------------- the rule */

/* Phi of a logarithm over the standard deviation of a difference of two. */
static double probability(double log_ratio, double sigma)
{
    return 0.5 * erfc(-log_ratio / (sigma * sqrt(2)) / sqrt(2));
}

/* P(share > limit), where ln(share / rest) is off. */
static double above(double share, double limit, double sigma)
{
    if (share <= 0) return 0;
    if (share >= 1) return 1;
    return probability(log(share / (1 - share)) - log(limit / (1 - limit)), sigma);
}

static double ratio_log(double a, double b)
{
    return a > 0 && b > 0 ? log(a / b) : a > 0 ? INFINITY : b > 0 ? -INFINITY : 0;
}

static void classify(trueno_bottleneck *b, const struct parts *p)
{
    double sigma = b->measured ? SIGMA_MEASURED : SIGMA_PREDICTED;
    double attention = above(b->attention, ATTENTION_SHARE, sigma);
    double launch = above(b->launch, LAUNCH_SHARE, sigma);
    double compute = probability(ratio_log(p->multiply, p->read), sigma), confidence;

    if (b->attention > ATTENTION_SHARE) {
        b->kind = TRUENO_BOTTLENECK_ATTENTION;
        confidence = attention;
    } else if (b->launch > LAUNCH_SHARE) {
        b->kind = TRUENO_BOTTLENECK_LAUNCH;
        confidence = (1 - attention) * launch;
    } else if (!p->known) {
        b->kind = TRUENO_BOTTLENECK_UNKNOWN;
        confidence = 0;
    } else {
        bool computes = p->multiply > p->read;
        b->kind = computes ? TRUENO_BOTTLENECK_COMPUTE : TRUENO_BOTTLENECK_MEMORY;
        confidence = (1 - attention) * (1 - launch) * (computes ? compute : 1 - compute);
    }
    b->confidence = fmin(confidence, 0.99);
}

/* ----------------------------------------------------------------------- words */

static const char *const names[] = {"unknown", "memory", "compute", "attention", "launch"};

const char *trueno_bottleneck_name(trueno_bottleneck_class kind)
{
    return names[(unsigned)kind < sizeof names / sizeof *names ? kind : TRUENO_BOTTLENECK_UNKNOWN];
}

static const char *action_of(trueno_bottleneck_class kind, bool gpu, bool graphs)
{
    switch (kind) {
    case TRUENO_BOTTLENECK_MEMORY:
        return "Weights of fewer bits, or more sequences at once: one reading serves them all.";
    case TRUENO_BOTTLENECK_COMPUTE:
        return gpu ? "Kernels that use the tensor cores; more sequences at once gain nothing."
                   : "More cores, or a wider instruction set; more sequences at once gain nothing.";
    case TRUENO_BOTTLENECK_ATTENTION:
        return "A shorter context, fewer sequences at once, or keys and values of fewer bits.";
    case TRUENO_BOTTLENECK_LAUNCH:
        if (!gpu) return "Fewer threads, or fused operations: threads then wait less often.";
        return graphs ? "Fused kernels, or more sequences at once."
                      : "CUDA graphs, fused kernels, or more sequences at once.";
    default: return "";
    }
}

static void explain(trueno_bottleneck *b, const struct parts *p)
{
    const char *waits = p->gpu ? "launches kernels" : "waits at barriers";
    snprintf(b->action, sizeof b->action, "%s", action_of(b->kind, p->gpu, p->graphs));
    if (b->kind == TRUENO_BOTTLENECK_UNKNOWN && !b->measured) {
        snprintf(b->explanation, sizeof b->explanation,
                 "Nothing tells: the size of the model%s is not given.",
                 p->gpu ? "" : ", or bandwidth or peak of the CPU,");
        return;
    }
    int n = snprintf(b->explanation, sizeof b->explanation, "Of the %s time ",
                     b->measured ? "measured" : "predicted");
    if (p->known)
        n += snprintf(b->explanation + n, sizeof b->explanation - (size_t)n,
                      "%.0f %% reads weights, %.0f %% multiplies with them, ", 100 * b->memory,
                      100 * b->compute);
    n += snprintf(b->explanation + n, sizeof b->explanation - (size_t)n,
                  "%.0f %% is attention, %.0f %% %s", 100 * b->attention, 100 * b->launch, waits);
    if (b->other > 0)
        n += snprintf(b->explanation + n, sizeof b->explanation - (size_t)n, ", %.0f %% is other",
                      100 * b->other);
    snprintf(b->explanation + n, sizeof b->explanation - (size_t)n, ".");
}

/* --------------------------------------------------------------------- calls */

static trueno_status reset(trueno_bottleneck *out, trueno_error *err)
{
    trueno_bottleneck empty = TRUENO_BOTTLENECK_INIT;
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "bottleneck: out is NULL");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "bottleneck: struct_size is %zu; use TRUENO_BOTTLENECK_INIT",
                       out->struct_size);
    empty.struct_size = out->struct_size;
    memcpy(out, &empty, sizeof empty);
    return TRUENO_OK;
}

/* Products that take `matmul` seconds, and the rest, become shares. */
static void finish(trueno_bottleneck *out, const struct parts *p, double matmul)
{
    double both = tr_overlapped(p->read, p->multiply);
    double total = matmul + p->attention + p->launch + p->other;
    if (total > 0) {
        double memory = p->read >= p->multiply ? p->read : TR_OVERLAP * p->read;
        out->memory = both > 0 ? memory / both * matmul / total : 0;
        out->compute = both > 0 ? (both - memory) / both * matmul / total : 0;
        out->attention = p->attention / total;
        out->launch = p->launch / total;
        out->other = p->other / total;
    }
    classify(out, p);
    explain(out, p);
}

trueno_status trueno_bottleneck_of(trueno_bottleneck *out, const trueno_features *f,
                                   trueno_error *err)
{
    struct parts p;
    trueno_status status = reset(out, err);
    if (status == TRUENO_OK) status = predict_parts(&p, f, err);
    if (status == TRUENO_OK) finish(out, &p, tr_overlapped(p.read, p.multiply));
    return status;
}

static trueno_status check_times(const trueno_stage_times *t, trueno_error *err)
{
    if (!t) return tr_fail(err, TRUENO_ERR_ARGUMENT, "bottleneck: times is NULL");
    if (!TR_STRUCT_OK(t))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "bottleneck: struct_size of times is %zu; use TRUENO_STAGE_TIMES_INIT",
                       t->struct_size);
    const double sum = t->matmul + t->attention + t->launch;
    if (!(t->matmul >= 0 && t->attention >= 0 && t->launch >= 0 && t->total > 0 &&
          isfinite(t->total)))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "bottleneck: a time is negative or not finite, or the total is 0");
    if (!(sum <= 1.01 * t->total))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "bottleneck: stages take %g s of a total of %g s",
                       sum, t->total);
    return TRUENO_OK;
}

trueno_status trueno_bottleneck_from_times(trueno_bottleneck *out, const trueno_stage_times *times,
                                           const trueno_features *f, trueno_error *err)
{
    struct parts p;
    trueno_status status = reset(out, err);
    if (status == TRUENO_OK) status = check_times(times, err);
    if (status == TRUENO_OK) status = predict_parts(&p, f, err);
    if (status != TRUENO_OK) return status;
    out->measured = true;
    p.attention = times->attention;
    p.launch = times->launch;
    p.other = fmax(times->total - times->matmul - times->attention - times->launch, 0);
    if (!p.known) p.other += times->matmul;
    finish(out, &p, p.known ? times->matmul : 0);
    return TRUENO_OK;
}
