/* SPDX-License-Identifier: MIT */
/* PCG32 (XSH-RR 64/32), the samplers' random numbers: 64 bits of state, and a stream number that
 * selects one of 2^63 sequences. Source: M. O'Neill, "PCG: A Family of Simple Fast Space-Efficient
 * Statistically Good Algorithms for Random Number Generation", HMC-CS-2014-0905. */
#ifndef TR_SAMPLER_PCG32_H
#define TR_SAMPLER_PCG32_H

#include <stdint.h>

struct tr_pcg32 {
    uint64_t state;
    uint64_t inc; /* odd: 2 * stream + 1 */
};

static inline uint32_t tr_pcg32_next(struct tr_pcg32 *g)
{
    uint64_t old = g->state;
    g->state = old * UINT64_C(6364136223846793005) + g->inc;
    uint32_t x = (uint32_t)(((old >> 18) ^ old) >> 27);
    uint32_t rot = (uint32_t)(old >> 59);
    return (x >> rot) | (x << ((32 - rot) & 31));
}

static inline void tr_pcg32_seed(struct tr_pcg32 *g, uint64_t seed, uint64_t stream)
{
    g->state = 0;
    g->inc = stream << 1 | 1;
    (void)tr_pcg32_next(g);
    g->state += seed;
    (void)tr_pcg32_next(g);
}

/* Uniform on [0, 1), a multiple of 2^-32. */
static inline double tr_pcg32_unit(struct tr_pcg32 *g)
{
    return tr_pcg32_next(g) * 0x1p-32;
}

#endif
