/* SPDX-License-Identifier: MIT */
/* The monotonic clock, and clocks of callers. */
#ifndef TR_CLOCK_H
#define TR_CLOCK_H

#include <stdint.h>
#include <time.h>

/* Nanoseconds since some moment in the past. Some 20 ns. */
static inline uint64_t tr_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

/* A clock that may be the caller's: fn NULL is the monotonic one. */
struct tr_clock {
    uint64_t (*fn)(void *user);
    void *user;
};

static inline uint64_t tr_clock_ns(const struct tr_clock *c)
{
    return c->fn ? c->fn(c->user) : tr_now_ns();
}

#endif
