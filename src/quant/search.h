/* SPDX-License-Identifier: MIT */
/* Search for the scale of a group of weights: the heart of every encoder.
 *
 * Groups hold a multiple of 16 and at most 256 numbers, scaled so that the largest of their block
 * has magnitude 2..4 (tr_normalise): no product or square here can overflow. Errors are weighted
 * squares, sum of w * (x - decoded)^2. */
#ifndef TR_SEARCH_H
#define TR_SEARCH_H

#include <stdbool.h>
#include <stddef.h>

/* To nearest, ties to even, for |v| < 2^22. Needs the default rounding mode, as all float code. */
static inline float tr_round(float v)
{
    return (v + 0x1.8p23F) - 0x1.8p23F;
}

static inline float tr_clamp(float v, float low, float high)
{
    v = v < low ? low : v;
    return v > high ? high : v;
}

/* dst = src / factor with a power of two as factor, so that the largest magnitude is in [2, 4).
 * Returns the factor; 0 for a block whose every weight is below 2^-60, which all formats (least
 * scale 2^-24) store as zero. */
float tr_normalise(float *dst, const float *src, size_t n);

/* Scale s (of either sign, 0 if all x are 0) for x = s * q, q an integer in -n_max .. n_max - 1. */
float tr_search_symmetric(const float *x, const float *w, size_t n, int n_max);

/* What tr_search_affine tries: inverse steps (n_max + first + 0.1 i) / (max - min), i = 0..last. */
struct tr_affine_search {
    int n_max; /* q is 0..n_max */
    float first;
    int last;
    bool free_min; /* false: the minimum is at most 0, as K-quants store its magnitude */
};

/* Scale s >= 0 and minimum m for x = s * q + m. */
void tr_search_affine(float *scale, float *min, const float *x, const float *w, size_t n,
                      const struct tr_affine_search *how);

/* Weighted squared error of x stored as scale * q + min, every q the best in low..high. */
float tr_code_error(const float *x, const float *w, size_t n, float scale, float min, float low,
                    float high);

#endif
