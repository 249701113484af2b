/* SPDX-License-Identifier: MIT */
/* Numbers in files: little-endian whatever the machine, at any address. Each call moves the cursor
 * on; there must be room. */
#ifndef TR_LITTLE_ENDIAN_H
#define TR_LITTLE_ENDIAN_H

#include <stdint.h>
#include <string.h>

static inline void tr_put_int(uint8_t **at, uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) *(*at)++ = (uint8_t)(v >> 8 * i);
}

static inline uint64_t tr_get_int(const uint8_t **at, int n_bytes)
{
    uint64_t v = 0;
    for (int i = 0; i < n_bytes; i++) {
        uint64_t byte = *(*at)++;
        v |= byte << 8 * i;
    }
    return v;
}

static inline void tr_put_f32(uint8_t **at, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    tr_put_int(at, bits, 4);
}

static inline float tr_get_f32(const uint8_t **at)
{
    uint32_t bits = (uint32_t)tr_get_int(at, 4);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline void tr_put_f64(uint8_t **at, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    tr_put_int(at, bits, 8);
}

static inline double tr_get_f64(const uint8_t **at)
{
    uint64_t bits = tr_get_int(at, 8);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

#endif
