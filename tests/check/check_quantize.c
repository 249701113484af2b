/* SPDX-License-Identifier: MIT */
/* Quantize kernels: tiles equal to the reference's, and obeying the rules of act.h computed here
 * afresh, one group at a time. */
#include "check.h"

#include "simd/act.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_K    1280
#define MAX_GAP  33
#define MAX_TILE (TR_NT_MAX * MAX_K * 4)

enum { SLOT_TILE, SLOT_X };

struct quantize {
    const struct tr_kernel *kernel;
    size_t k, ldx;
    uint32_t nt;
    const float *x;
    void *tile;
    uint32_t want[MAX_TILE / 4];
};

static void call(void *arg)
{
    struct quantize *q = arg;
    q->kernel->fn.quantize(q->tile, q->x, q->ldx, q->k, q->nt);
}

/* ------------------------------------------------------------------ rules */

/* One group of one column: scale, quants, and where the rule says NaN. */
struct group {
    const float *x;
    size_t n;
    float a;
    int q[256];
};

static bool all_finite(const struct group *g)
{
    for (size_t i = 0; i < g->n; i++) {
        if (!isfinite(g->x[i])) return false;
    }
    return true;
}

/* First element of largest magnitude. */
static float largest(const struct group *g)
{
    float max = 0;
    for (size_t i = 0; i < g->n; i++) {
        if (fabsf(g->x[i]) > fabsf(max)) max = g->x[i];
    }
    return max;
}

static long sum_of(const int *q, size_t n)
{
    long sum = 0;
    for (size_t i = 0; i < n; i++) sum += q[i];
    return sum;
}

/* Multiplier and scale by the rule of the pack. */
static void expected_scale(const struct group *g, enum tr_act act, float *mul, float *a)
{
    float m = largest(g);
    if (act == TR_ACT_A8_256) {
        *mul = -127.0F / m;
        *a = 1.0F / *mul;
    } else {
        *mul = 127.0F / fabsf(m);
        *a = fabsf(m) / 127.0F;
    }
}

static bool quants_are(const struct group *g, float mul)
{
    for (size_t i = 0; i < g->n; i++) {
        float r = rintf(mul * g->x[i]);
        if (g->q[i] != (int)(r > 127.0F ? 127.0F : r)) return false;
    }
    return true;
}

/* Far from the edges of float the value comes back to within half a step. */
static bool near_enough(const struct group *g)
{
    for (size_t i = 0; i < g->n; i++) {
        double err = fabs((double)g->x[i] - (double)g->a * g->q[i]);
        if (!(err <= 0.50001 * fabs((double)g->a))) return false;
    }
    return true;
}

static void check_group(struct check *t, const struct group *g, enum tr_act act, const char *where)
{
    float mul, a;
    expected_scale(g, act, &mul, &a);
    /* all zero, or so small that its multiplier overflows */
    bool zero = all_finite(g) && !isfinite(mul);

    if (zero || !all_finite(g)) {
        if (zero ? !(g->a == 0.0F) : !isnan(g->a)) {
            check_fail(t, "%s: scale %g instead of %s", where, (double)g->a, zero ? "0" : "NaN");
        }
        for (size_t i = 0; i < g->n; i++) {
            if (!g->q[i]) continue;
            check_fail(t, "%s: quant %zu is %d instead of 0", where, i, g->q[i]);
            return;
        }
        return;
    }
    if (!(g->a == a)) check_fail(t, "%s: scale %g instead of %g", where, (double)g->a, (double)a);
    if (!quants_are(g, mul)) check_fail(t, "%s: quants are not the rounded products", where);
    if (fabsf(a) > 1e-30F && !near_enough(g)) check_fail(t, "%s: more than half a step off", where);
}

/* Sums of A8_256 that belong to the group. */
static bool sums_256(const struct quantize *z, const struct group *g, size_t i, size_t c)
{
    struct tr_a8_256 v = tr_a8_256_view(z->tile, z->k, z->nt);
    for (size_t j = 0; j < 4; j++) {
        uint32_t pair = (uint32_t)v.bs[(4 * i + j) * z->nt + c];
        if ((int16_t)(pair & 0xffff) != sum_of(g->q + 64 * j, 32)) return false;
        if ((int16_t)(pair >> 16) != sum_of(g->q + 64 * j + 32, 32)) return false;
    }
    for (size_t j = 0; j < 16; j++) {
        if (v.z16[(16 * i + j) * z->nt + c] != -32 * sum_of(g->q + 16 * j, 16)) return false;
    }
    return true;
}

static bool sums_32(const struct quantize *z, const struct group *g, size_t i, size_t c)
{
    struct tr_a8_32 v = tr_a8_32_view(z->tile, z->k, z->nt);
    long sum = sum_of(g->q, 32);
    float as = v.as[i * z->nt + c], want = g->a * (float)sum;
    if (v.ns[i * z->nt + c] != -sum) return false;
    return isnan(want) ? isnan(as) : as == want;
}

static void check_rules(struct check *t, const struct quantize *z)
{
    enum tr_act act = z->kernel->act;
    size_t n = act == TR_ACT_A8_256 ? 256 : 32;
    const int8_t *q = z->tile;
    const float *a = act == TR_ACT_A8_256 ? tr_a8_256_view(z->tile, z->k, z->nt).a
                                          : tr_a8_32_view(z->tile, z->k, z->nt).a;
    struct group g = {NULL, n, 0, {0}};
    char where[64];

    for (size_t c = 0; c < z->nt; c++) {
        for (size_t i = 0; i < z->k / n; i++) {
            g.x = z->x + c * z->ldx + i * n;
            g.a = a[i * z->nt + c];
            for (size_t j = 0; j < n; j++) {
                size_t e = i * n + j;
                g.q[j] = q[(e / 4 * z->nt + c) * 4 + e % 4];
            }
            snprintf(where, sizeof where, "column %zu group %zu", c, i);
            check_group(t, &g, act, where);
            bool ok = act == TR_ACT_A8_256 ? sums_256(z, &g, i, c) : sums_32(z, &g, i, c);
            if (!ok) check_fail(t, "%s: sums are not those of the quants", where);
        }
    }
}

/* F32 tiles are the columns, interleaved, with NaN for infinity. */
static void check_copy(struct check *t, const struct quantize *z)
{
    const float *f = z->tile;
    for (size_t c = 0; c < z->nt; c++) {
        for (size_t i = 0; i < z->k; i++) {
            const float *got = &f[i * z->nt + c], *x = &z->x[c * z->ldx + i];
            if (isfinite(*x) ? !memcmp(got, x, sizeof *x) : isnan(*got)) continue;
            check_fail(t, "column %zu element %zu: %g from %g", c, i, (double)*got, (double)*x);
            return;
        }
    }
}

/* ------------------------------------------------------------------ cases */

/* Sections one by one: scales may be any NaN, all else is compared by its bits. */
static bool same_as_reference(struct check *t, const struct quantize *z)
{
    size_t k = z->k, nt = z->nt;
    if (z->kernel->act == TR_ACT_A8_256) {
        struct tr_a8_256 v = tr_a8_256_view(z->tile, k, nt), w = tr_a8_256_view(z->want, k, nt);
        return check_bytes(t, "q", v.q, w.q, k * nt) &&
               check_floats(t, "a", v.a, w.a, k / 256 * nt) &&
               check_bytes(t, "bs", v.bs, w.bs, k / 64 * nt * 4) &&
               check_bytes(t, "z16", v.z16, w.z16, k / 16 * nt * 4);
    }
    if (z->kernel->act == TR_ACT_A8_32) {
        struct tr_a8_32 v = tr_a8_32_view(z->tile, k, nt), w = tr_a8_32_view(z->want, k, nt);
        return check_bytes(t, "q", v.q, w.q, k * nt) &&
               check_floats(t, "a", v.a, w.a, k / 32 * nt) &&
               check_bytes(t, "ns", v.ns, w.ns, k / 32 * nt * 4) &&
               check_floats(t, "as", v.as, w.as, k / 32 * nt);
    }
    return check_floats(t, "f", z->tile, (const float *)(const void *)z->want, k * nt);
}

static void one_case(struct check *t, struct quantize *z, const struct tr_kernel *ref,
                     enum check_pattern p)
{
    enum check_place place = check_u64(t) & 1 ? CHECK_END : CHECK_START;
    size_t tile_bytes = z->nt * tr_act_col_bytes(z->kernel->act, z->k);

    z->ldx = z->k + (check_u64(t) & 1 ? check_below(t, MAX_GAP) : 0);
    check_case(t, "k=%zu nt=%u ldx=%zu x=%s %s", z->k, z->nt, z->ldx, check_pattern_name(p),
               place == CHECK_END ? "end" : "start");
    check_release(t);
    size_t n_x = (z->nt - 1) * z->ldx + z->k;
    float *x =
        check_buffer(t, SLOT_X, "x", n_x * sizeof(float), place, 4 * check_below(t, 2) * place);
    for (uint32_t i = 0; i < n_x; i++) x[i] = NAN; /* gaps */
    for (uint32_t c = 0; c < z->nt; c++) check_fill(t, x + c * z->ldx, z->k, p);
    check_readonly(t, SLOT_X);
    z->x = x;

    z->tile = check_buffer(t, SLOT_TILE, "tile", tile_bytes, place, 4 * check_below(t, 16));
    ref->fn.quantize(z->want, z->x, z->ldx, z->k, z->nt);
    if (!check_call(t, call, z) || !same_as_reference(t, z)) return;
    if (z->kernel->act == TR_ACT_F32)
        check_copy(t, z);
    else
        check_rules(t, z);
}

static const size_t k_float[] = {1, 2, 3, 5, 8, 9, 16, 31, 33, 64, 257};
static const size_t k_32[] = {32, 64, 96, 224, 256, 288, 1056};
static const size_t k_256[] = {256, 512, 768, 1280};

static size_t row_lengths(enum tr_act act, const size_t **list)
{
    if (act == TR_ACT_A8_256) return *list = k_256, sizeof k_256 / sizeof *k_256;
    if (act == TR_ACT_A8_32) return *list = k_32, sizeof k_32 / sizeof *k_32;
    return *list = k_float, sizeof k_float / sizeof *k_float;
}

void check_quantize(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    struct quantize *z = calloc(1, sizeof *z);
    if (!z) return;
    const size_t *lengths;
    size_t n_lengths = row_lengths(k->act, &lengths);
    z->kernel = k;
    for (int p = 0; p < CHECK_PATTERNS; p++) {
        for (size_t i = 0; i < n_lengths; i++) {
            for (z->nt = 1; z->nt <= TR_NT_MAX; z->nt++) {
                z->k = lengths[i];
                one_case(t, z, ref, (enum check_pattern)p);
            }
        }
    }
    check_release(t);
    free(z);
}
