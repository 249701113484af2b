/* SPDX-License-Identifier: MIT */
/* xoshiro256**, the tuner's random numbers, seeded through splitmix64. Source: D. Blackman and
 * S. Vigna, "Scrambled linear pseudorandom number generators", ACM TOMS 47 (2021); the parameters
 * are theirs. */
#ifndef TR_RANDOM_H
#define TR_RANDOM_H

#include <stdint.h>

struct tr_random {
    uint64_t s[4];
};

/* Another sequence for every pair of numbers. */
static inline void tr_random_seed(struct tr_random *r, uint64_t seed, uint64_t stream)
{
    uint64_t x = seed ^ stream * UINT64_C(0xd1342543de82ef95);
    for (int i = 0; i < 4; i++) {
        uint64_t z = x += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        r->s[i] = z ^ z >> 31;
    }
}

static inline uint64_t tr_random_next(struct tr_random *r)
{
    uint64_t *s = r->s, x = s[1] * 5, t = s[1] << 17;
    x = (x << 7 | x >> 57) * 9;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return x;
}

/* Uniform on 0 .. n - 1, n > 0. */
static inline uint32_t tr_random_below(struct tr_random *r, uint32_t n)
{
    /* the first 32 bits times n; numbers that would make some results more likely are passed over
     */
    for (;;) {
        uint64_t m = (tr_random_next(r) >> 32) * n;
        if ((uint32_t)m >= (uint32_t)-n % n) return (uint32_t)(m >> 32);
    }
}

/* Uniform on [0, 1). */
static inline double tr_random_unit(struct tr_random *r)
{
    return (double)(tr_random_next(r) >> 11) * 0x1p-53;
}

#endif
