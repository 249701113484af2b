/* SPDX-License-Identifier: MIT */
/* Scale search. Each candidate step rounds the group once; the best scale for those integers is
 * then a least-squares solution, and the candidate with the smallest error wins. Sums run in LANES
 * partial sums so that compilers vectorise them without reordering. */
#include "quant/search.h"

#include "quant/half.h"

#define LANES 8

struct sums {
    float w, x, q, xq, qq; /* weighted sums of 1, x, q, x*q, q*q */
};

static float fold(const float *lane)
{
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) +
           ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

float tr_normalise(float *dst, const float *src, size_t n)
{
    uint32_t max = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t magnitude = tr_bits_from_float(src[i]) & 0x7fffffffU;
        max = magnitude > max ? magnitude : max;
    }
    uint32_t exponent = max >> 23; /* biased by 127 */
    if (exponent < 127 - 60) return 0.0F;

    float inverse = tr_float_from_bits((255U - exponent) << 23); /* 2^(128 - exponent) */
    for (size_t i = 0; i < n; i++) dst[i] = src[i] * inverse;
    return tr_float_from_bits((exponent - 1U) << 23);
}

/* Rounds (x - origin) * inverse into low..high and gathers the sums of that choice. */
static struct sums try_step(const float *x, const float *w, size_t n, float origin, float inverse,
                            float low, float high)
{
    float sw[LANES] = {0}, sx[LANES] = {0}, sq[LANES] = {0}, sxq[LANES] = {0}, sqq[LANES] = {0};
    for (size_t i = 0; i < n; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            float q = tr_round(tr_clamp((x[i + k] - origin) * inverse, low, high));
            float wx = w[i + k] * x[i + k];
            float wq = w[i + k] * q;
            sw[k] += w[i + k];
            sx[k] += wx;
            sq[k] += wq;
            sxq[k] += wx * q;
            sqq[k] += wq * q;
        }
    }
    return (struct sums){fold(sw), fold(sx), fold(sq), fold(sxq), fold(sqq)};
}

float tr_search_symmetric(const float *x, const float *w, size_t n, int n_max)
{
    float peak = 0.0F;
    for (size_t i = 0; i < n; i++) {
        float a = x[i] < 0.0F ? -x[i] : x[i];
        float b = peak < 0.0F ? -peak : peak;
        if (a > b) peak = x[i];
    }
    if (peak == 0.0F) return 0.0F;

    float scale = -peak / (float)n_max;
    float best = -1.0F; /* the part of sum w x^2 that the integers explain */
    for (int i = -9; i <= 9; i++) {
        float inverse = -((float)n_max + 0.1F * (float)i) / peak;
        struct sums s = try_step(x, w, n, 0.0F, inverse, (float)-n_max, (float)(n_max - 1));
        if (s.qq > 0.0F && s.xq * s.xq > best * s.qq) {
            best = s.xq * s.xq / s.qq;
            scale = s.xq / s.qq;
        }
    }
    return scale;
}

/* Least squares for x = scale * q + min; false if the integers do not determine it. */
static bool solve(float *scale, float *min, const struct sums *s, bool free_min)
{
    float det = s->w * s->qq - s->q * s->q;
    if (!(det > 0.0F)) return false;
    *scale = (s->w * s->xq - s->x * s->q) / det;
    *min = (s->qq * s->x - s->q * s->xq) / det;
    if (!free_min && *min > 0.0F) {
        *min = 0.0F;
        *scale = s->xq / s->qq;
    }
    return *scale > 0.0F;
}

float tr_code_error(const float *x, const float *w, size_t n, float scale, float min, float low,
                    float high)
{
    float sum[LANES] = {0};
    float inverse = scale != 0.0F ? 1.0F / scale : 0.0F;
    for (size_t i = 0; i < n; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            float q = tr_round(tr_clamp((x[i + k] - min) * inverse, low, high));
            float diff = scale * q + min - x[i + k];
            sum[k] += w[i + k] * diff * diff;
        }
    }
    return fold(sum);
}

void tr_search_affine(float *scale, float *min, const float *x, const float *w, size_t n,
                      const struct tr_affine_search *how)
{
    float low = x[0], high = x[0];
    for (size_t i = 1; i < n; i++) {
        low = x[i] < low ? x[i] : low;
        high = x[i] > high ? x[i] : high;
    }
    if (!how->free_min && low > 0.0F) low = 0.0F;
    *min = low;
    *scale = 0.0F;
    if (!(high > low)) return;

    float n_max = (float)how->n_max;
    *scale = (high - low) / n_max;
    float best = tr_code_error(x, w, n, *scale, low, 0.0F, n_max);
    for (int i = 0; i <= how->last; i++) {
        float inverse = (n_max + how->first + 0.1F * (float)i) / (high - *min);
        struct sums s = try_step(x, w, n, *min, inverse, 0.0F, n_max);
        float try_scale, try_min;
        if (!solve(&try_scale, &try_min, &s, how->free_min)) continue;
        float error = tr_code_error(x, w, n, try_scale, try_min, 0.0F, n_max);
        if (error < best) {
            best = error;
            *scale = try_scale;
            *min = try_min;
        }
    }
}
