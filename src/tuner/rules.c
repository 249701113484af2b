/* SPDX-License-Identifier: MIT */
/* The rules of a classifier that was not trained, and how sure they are (classifier.h). */
#include <math.h>

#include "base/error.h"
#include "simd/x16.h"
#include "tuner/classifier_impl.h"
#include "tuner/roofline.h"

/* Columns that one reading of the weights serves: at most, by the first family of a pair; at least,
 * by the second, which computes that many even if there are fewer. */
enum { FEW = 3, MANY = 4 };

/* Guesses of the design: ln t of a family has this standard deviation, and a family as good as the
 * best may take this much longer. */
#define SIGMA   0.25
#define AS_GOOD 1.02

trueno_kernel tr_pair_of(trueno_dtype type)
{
    switch (tr_x16_type(type)) {
    case TRUENO_TYPE_Q4_K: return TRUENO_KERNEL_VECTORIZED_Q4K;
    case TRUENO_TYPE_Q5_K: return TRUENO_KERNEL_VECTORIZED_Q5K;
    case TRUENO_TYPE_Q6_K: return TRUENO_KERNEL_VECTORIZED_Q6K;
    case TRUENO_TYPE_Q8_0: return TRUENO_KERNEL_VECTORIZED_Q8_0;
    case TRUENO_TYPE_Q4_0: return TRUENO_KERNEL_VECTORIZED_Q4_0;
    case TRUENO_TYPE_Q4_1: return TRUENO_KERNEL_VECTORIZED_Q4_1;
    case TRUENO_TYPE_Q5_0: return TRUENO_KERNEL_VECTORIZED_Q5_0;
    case TRUENO_TYPE_Q5_1: return TRUENO_KERNEL_VECTORIZED_Q5_1;
    case TRUENO_TYPE_F16: return TRUENO_KERNEL_VECTORIZED_F16;
    case TRUENO_TYPE_BF16: return TRUENO_KERNEL_VECTORIZED_BF16;
    case TRUENO_TYPE_F32: return TRUENO_KERNEL_VECTORIZED_F32;
    default: return TRUENO_KERNEL_UNKNOWN;
    }
}

bool tr_family_takes(trueno_kernel kernel, trueno_dtype type)
{
    trueno_kernel pair = tr_pair_of(type);
    switch (kernel) {
    case TRUENO_KERNEL_TILED_Q4K:
    case TRUENO_KERNEL_COALESCED_Q4K:
    case TRUENO_KERNEL_VECTORIZED_Q4K:
    case TRUENO_KERNEL_BATCHED_Q4K:
    case TRUENO_KERNEL_DP4A_Q4K:
    case TRUENO_KERNEL_FUSED_RMS_NORM_Q4K:
    case TRUENO_KERNEL_FUSED_QKV_HW_DP4A_Q4K_GEMV: return pair == TRUENO_KERNEL_VECTORIZED_Q4K;
    case TRUENO_KERNEL_COALESCED_Q6K: return pair == TRUENO_KERNEL_VECTORIZED_Q6K;
    default: break;
    }
    if (kernel < TRUENO_KERNEL_VECTORIZED_Q5K || kernel > TRUENO_KERNEL_BATCHED_F32) return true;
    return kernel == pair || (int)kernel == (int)pair + 1;
}

/* P(t_a <= AS_GOOD x t_b), where ln t_a and ln t_b are normal and independent. */
static double as_good(double t_a, double t_b)
{
    double z = (log(AS_GOOD) + log(t_b / t_a)) / (SIGMA * sqrt(2));
    return fmin(fmax(0.5 * erfc(-z / sqrt(2)), 0.01), 0.99);
}

trueno_status tr_rule_of(struct tr_rule *out, const trueno_features *f, const trueno_problem *p,
                         trueno_error *err)
{
    tr_raw_values raw;
    trueno_status status = tr_features_resolve(raw, f, err);
    if (status != TRUENO_OK) return status;

    struct tr_usual usual = tr_usual_of(raw);
    double weights = (double)p->rows * (double)p->cols, m = p->n_cols;
    double bytes = weights * raw[TRUENO_FEATURE_BITS_PER_WEIGHT] / 8;
    double read = bytes / (raw[TRUENO_FEATURE_GPU_MEM_BW_GBS] * 1e9 * usual.mem);
    double column = 2 * weights / (raw[TRUENO_FEATURE_GPU_COMPUTE_TFLOPS] * 1e12 * usual.cmp);
    double few = tr_overlapped(ceil(m / FEW) * read, m * column);
    double many = tr_overlapped(read, fmax(m, MANY) * column);

    trueno_kernel pair = tr_pair_of(p->type);
    trueno_kernel second = pair == TRUENO_KERNEL_UNKNOWN ? pair : (trueno_kernel)((int)pair + 1);
    if (p->n_cols <= FEW)
        *out = (struct tr_rule){pair, second, as_good(few, many), as_good(many, few)};
    else
        *out = (struct tr_rule){second, pair, as_good(many, few), as_good(few, many)};
    return TRUENO_OK;
}
