/* SPDX-License-Identifier: MIT */
/* Norm, gate and rotation kernels: the reference's bits, in place and not, at every tail length,
 * and near double precision. */
#include "check.h"

#include <math.h>
#include <string.h>

#define MAX_N 4100 /* elements or pairs */

enum { SLOT_X, SLOT_W, SLOT_S, SLOT_Y };

static const size_t long_sizes[] = {255, 256, 257, 576, 1000, 2048, 4096, 4097};

/* One call of any of the ops; unused members are NULL. */
struct vec_call {
    const struct tr_kernel *kernel;
    float *y;
    const float *x, *w, *s; /* s: sines */
    size_t n;
    float eps;
};

static void call(void *arg)
{
    struct vec_call *v = arg;
    switch (v->kernel->op) {
    case TR_OP_RMSNORM: v->kernel->fn.rmsnorm(v->y, v->x, v->w, v->n, v->eps); break;
    case TR_OP_SWIGLU:
    case TR_OP_GEGLU: v->kernel->fn.glu(v->y, v->x, v->w, v->n); break;
    default: v->kernel->fn.rope(v->y, v->w, v->s, v->n);
    }
}

/* What y may share its memory with. */
enum overlap { NONE, WITH_X, WITH_W };

struct shape {
    size_t n, n_x; /* length of the call, and of x and y in floats */
    enum check_pattern pattern;
    enum check_place place;
    enum overlap overlap;
    float eps;
};

static bool near_double(const struct vec_call *v, const float *got)
{
    double squares = 0;
    for (size_t i = 0; i < v->n; i++) squares += (double)v->x[i] * (double)v->x[i];
    double inv = 1.0 / sqrt(squares / (double)v->n + (double)v->eps);
    for (size_t i = 0; i < v->n; i++) {
        double x = v->x[i], w = v->w[i], u = x * 0.79788456080286536 * (1 + 0.044715 * x * x);
        double want = v->kernel->op == TR_OP_RMSNORM  ? x * inv * w
                      : v->kernel->op == TR_OP_SWIGLU ? x / (1 + exp(-x)) * w
                                                      : x / (1 + exp(-2 * u)) * w;
        if (!(fabs(got[i] - want) <= 4e-6 * fabs(want))) return false;
    }
    return true;
}

/* Inputs in guarded buffers and, for the reference, in plain ones. */
static void check_shape(struct check *t, const struct tr_kernel *ref, const struct shape *s)
{
    static float x[2 * MAX_N], w[MAX_N], sine[MAX_N], want[2 * MAX_N];
    bool rope = t->kernel->op == TR_OP_ROPE_NORM || t->kernel->op == TR_OP_ROPE_NEOX;
    struct vec_call r = {ref, want, x, w, sine, s->n, s->eps}, v = r;
    size_t shift = s->place == CHECK_START ? 4 : 0;

    check_case(t, "n=%zu pattern=%s %s overlap=%d eps=%g", s->n, check_pattern_name(s->pattern),
               s->place == CHECK_START ? "start" : "end", s->overlap, (double)s->eps);
    float *gx = check_buffer(t, SLOT_X, "x", s->n_x * 4, s->place, shift);
    float *gw = check_buffer(t, SLOT_W, "w", s->n * 4, s->place, 2 * shift);
    float *gs = check_buffer(t, SLOT_S, "s", s->n * 4, s->place, shift);
    float *gy = check_buffer(t, SLOT_Y, "y", s->n_x * 4, s->place, shift);
    check_fill(t, x, s->n_x, s->pattern);
    check_fill(t, w, s->n, s->pattern);
    check_fill(t, sine, s->n, CHECK_NORMAL);
    memcpy(gx, x, s->n_x * 4);
    memcpy(gw, w, s->n * 4);
    memcpy(gs, sine, s->n * 4);
    memcpy(want, x, s->n_x * 4); /* rotations work in place */

    v = (struct vec_call){t->kernel, gy, gx, gw, gs, s->n, s->eps};
    if (rope || s->overlap == WITH_X) v.y = gx;
    if (s->overlap == WITH_W) v.y = gw;
    if (v.y != gx) check_readonly(t, SLOT_X);
    if (v.y != gw) check_readonly(t, SLOT_W);
    check_readonly(t, SLOT_S);
    call(&r);
    if (!check_call(t, call, &v)) return;
    check_floats(t, "y", v.y, want, s->n_x);
    r.kernel = t->kernel;
    if (!rope && s->n && s->pattern == CHECK_NORMAL && s->eps > 0 && !near_double(&r, v.y))
        check_fail(t, "more than 4e-6 from double precision");
}

/* Every length up to 100 with patterns and overlaps in turn, all patterns at some, and long ones.
 */
static void check_lengths(struct check *t, const struct tr_kernel *ref, size_t per_n,
                          int n_overlaps)
{
    struct shape s = {0, 0, CHECK_NORMAL, CHECK_END, NONE, 1e-5F};
    for (size_t i = 0; i <= 100 * CHECK_PATTERNS; i++) {
        s.n = i % 101;
        s.pattern = (enum check_pattern)(i % CHECK_PATTERNS);
        s.place = i / 2 % 2 ? CHECK_START : CHECK_END;
        s.overlap = (enum overlap)((int)(i / 3) % n_overlaps);
        s.eps = i % 5 ? 1e-5F : 0.0F;
        s.n_x = per_n * s.n;
        /* NaN and infinity need a place to stand */
        if (s.n || check_pattern_finite(s.pattern)) check_shape(t, ref, &s);
    }
    for (size_t i = 0; i < 4 * sizeof long_sizes / sizeof *long_sizes; i++) {
        s.n = long_sizes[i / 4];
        s.n_x = per_n * s.n;
        s.pattern = i % 4 == 0 ? CHECK_NORMAL : i % 4 == 1 ? CHECK_MIXED : CHECK_OUTLIERS;
        s.place = i % 2 ? CHECK_START : CHECK_END;
        s.overlap = (enum overlap)((int)i % n_overlaps);
        s.eps = 1e-6F;
        check_shape(t, ref, &s);
    }
}

void check_rmsnorm(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    (void)k;
    check_lengths(t, ref, 1, WITH_X + 1);
}

/* 64 consecutive gates from `from` on. */
static void check_gates(struct check *t, const struct tr_kernel *ref, float from)
{
    static float x[64], one[64], want[64];
    struct vec_call r = {ref, want, x, one, NULL, 64, 0};

    check_case(t, "64 gates from %a on", (double)from);
    float *gx = check_buffer(t, SLOT_X, "x", sizeof x, CHECK_END, 0);
    float *gw = check_buffer(t, SLOT_W, "w", sizeof one, CHECK_END, 0);
    float *gy = check_buffer(t, SLOT_Y, "y", sizeof want, CHECK_END, 0);
    for (size_t i = 0; i < 64; i++) {
        x[i] = gx[i] = from;
        one[i] = gw[i] = 1.0F;
        from = nextafterf(from, INFINITY);
    }
    struct vec_call v = {t->kernel, gy, gx, gw, NULL, 64, 0};
    call(&r);
    if (check_call(t, call, &v)) check_floats(t, "y", gy, want, 64);
}

/* Where exp goes from one power of two to the next, and where exp(-x) becomes infinite. */
static void check_switches(struct check *t, const struct tr_kernel *ref)
{
    for (int n = -130; n < 130; n++) {
        check_gates(t, ref, (float)((n + 0.5) * 0.69314718055994531));
    }
    check_gates(t, ref, -0x1.62e440p+6F); /* 9 floats below -88.72283 */
}

void check_glu(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    (void)k;
    check_lengths(t, ref, 1, WITH_W + 1);
    check_switches(t, ref);
}

void check_rope(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    (void)k;
    check_lengths(t, ref, 2, 1);
}
