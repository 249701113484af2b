/* SPDX-License-Identifier: MIT */
/* Reproducible inputs of the kernel checker: random numbers and float patterns. */
#include "check.h"

#include <math.h>
#include <string.h>

/* SplitMix64 (Steele, Lea, Flood 2014). */
uint64_t check_u64(struct check *t)
{
    uint64_t z = t->rng += 0x9e3779b97f4a7c15U;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9U;
    z = (z ^ z >> 27) * 0x94d049bb133111ebU;
    return z ^ z >> 31;
}

size_t check_below(struct check *t, size_t n)
{
    return (size_t)(check_u64(t) >> 33) % n;
}

float check_uniform(struct check *t, float lo, float hi)
{
    float u = (float)(check_u64(t) >> 40) * 0x1p-24F;
    return lo + (hi - lo) * u;
}

/* Sum of uniforms: the tails beyond 6 sigma do not matter here. */
float check_normal(struct check *t)
{
    float sum = 0;
    for (int i = 0; i < 12; i++) sum += check_uniform(t, -0.5F, 0.5F);
    return sum;
}

void check_random_bytes(struct check *t, void *p, size_t n)
{
    uint8_t *bytes = p;
    for (; n >= 8; n -= 8, bytes += 8) {
        uint64_t u = check_u64(t);
        memcpy(bytes, &u, 8);
    }
    uint64_t u = check_u64(t);
    memcpy(bytes, &u, n);
}

static const char *const pattern_names[CHECK_PATTERNS] = {
    [CHECK_NORMAL] = "normal", [CHECK_OUTLIERS] = "outliers", [CHECK_ZERO] = "zero",
    [CHECK_NEG_ZERO] = "-0.0", [CHECK_MAX] = "max",           [CHECK_MIN] = "min",
    [CHECK_SIGNS] = "signs",   [CHECK_TIES] = "ties",         [CHECK_HUGE] = "huge",
    [CHECK_TINY] = "tiny",     [CHECK_MIXED] = "mixed",       [CHECK_NAN] = "nan",
    [CHECK_INF] = "inf",
};

const char *check_pattern_name(enum check_pattern p)
{
    return pattern_names[p];
}

bool check_pattern_finite(enum check_pattern p)
{
    return p != CHECK_NAN && p != CHECK_INF;
}

static float value(struct check *t, enum check_pattern p)
{
    bool negative = check_u64(t) & 1;
    switch (p) {
    case CHECK_NORMAL:
    case CHECK_NAN:
    case CHECK_INF: return check_normal(t);
    case CHECK_OUTLIERS: return check_normal(t) * (check_below(t, 64) ? 1.0F : 100.0F);
    case CHECK_NEG_ZERO: return negative ? -0.0F : 0.0F;
    case CHECK_MAX: return 127.0F;
    case CHECK_MIN: return -127.0F;
    case CHECK_SIGNS: return negative ? -127.0F : 127.0F;
    case CHECK_TIES: return ((float)check_below(t, 509) - 254.0F) * 0.5F;
    case CHECK_HUGE: return check_uniform(t, -1e30F, 1e30F);
    case CHECK_TINY: return ldexpf(check_uniform(t, -1.0F, 1.0F), -130);
    case CHECK_MIXED: return ldexpf(check_normal(t), (int)check_below(t, 240) - 145);
    default: return 0.0F;
    }
}

void check_fill(struct check *t, float *x, size_t n, enum check_pattern p)
{
    for (size_t i = 0; i < n; i++) x[i] = value(t, p);
    if (check_pattern_finite(p)) return;
    for (size_t i = 0; i < 1 + n / 700; i++) {
        float special = p == CHECK_NAN ? NAN : check_u64(t) & 1 ? INFINITY : -INFINITY;
        x[check_below(t, n)] = special;
    }
}
