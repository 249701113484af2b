/* SPDX-License-Identifier: MIT */
/* Assertions of bricks: adding them, and executing each on a fresh product. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "tuner/brick.h"

/* ------------------------------------------------------------------ adding */

/* Appends a copy of a. */
static trueno_status add(trueno_brick *b, const struct tr_assertion *a, trueno_error *err)
{
    if (b->n_assertions == TRUENO_BRICK_MAX_ASSERTIONS)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "brick: there are %d assertions already",
                       TRUENO_BRICK_MAX_ASSERTIONS);
    b->assertions[b->n_assertions++] = *a;
    return TRUENO_OK;
}

/* Multiplies the same packed weights with the same packed activations, here. */
static bool compares(const struct tr_kernel *k, const trueno_brick *b)
{
    if (!tr_kernel_serves(k, TR_OP_GEMM, b->kernel->dtype, TR_ACT_NONE)) return false;
    if (k->fits || k->act != b->kernel->act || k->nt_max < TR_NT_MAX) return false;
    return !(k->cpu & ~trueno_ctx_cpu_features(b->ctx)) && (!k->missing || !k->missing());
}

trueno_status trueno_brick_assert_equiv(trueno_brick *b, const char *baseline_variant, double tol,
                                        trueno_error *err)
{
    struct tr_assertion a = {.kind = TR_ASSERT_EQUIV, .tol = tol};
    if (!b) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: b is NULL");
    if (!(tol >= 0) || !isfinite(tol))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: tol is %g", tol);
    a.baseline = baseline_variant ? tr_kernel_named(baseline_variant, strlen(baseline_variant))
                                  : tr_kernel_find(0, TR_OP_GEMM, b->kernel->dtype, TR_ACT_NONE);
    if (!a.baseline)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: this build has no variant '%.80s'",
                       baseline_variant ? baseline_variant : "of the C reference");
    if (!compares(a.baseline, b))
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED,
                       "brick: %s cannot run here on the weights and activations of %s",
                       a.baseline->name, b->kernel->name);
    return add(b, &a, err);
}

trueno_status trueno_brick_assert_bounds(trueno_brick *b, double lo, double hi, trueno_error *err)
{
    const struct tr_assertion a = {.kind = TR_ASSERT_BOUNDS, .lo = lo, .hi = hi};
    if (!b) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: b is NULL");
    if (!(lo <= hi))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: nothing is within [%g, %g]", lo, hi);
    return add(b, &a, err);
}

trueno_status trueno_brick_assert_finite(trueno_brick *b, trueno_error *err)
{
    const struct tr_assertion a = {.kind = TR_ASSERT_FINITE};
    return b ? add(b, &a, err) : tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: b is NULL");
}

trueno_status trueno_brick_assert_custom(trueno_brick *b, const char *name,
                                         trueno_brick_check_fn fn, void *user, trueno_error *err)
{
    struct tr_assertion a = {.kind = TR_ASSERT_CUSTOM, .fn = fn, .user = user};
    if (!b || !name || !fn)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: %s is NULL",
                       !b      ? "b"
                       : !name ? "name"
                               : "fn");
    size_t len = strnlen(name, sizeof a.name);
    if (len == 0 || len == sizeof a.name)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: the name of an assertion has 1 to %zu bytes", sizeof a.name - 1);
    memcpy(a.name, name, len);
    return add(b, &a, err);
}

/* --------------------------------------------------------------- executing */

/* What assertions look at: n_cols columns of `rows` floats without gaps, n in all. */
struct product {
    const trueno_brick *b;
    const trueno_brick_io *io;
    size_t n_cols, n;
    float *y, *want; /* of the brick; of the baseline, NULL if there is none */
};

/* Two patterns of NaN: what a kernel leaves unwritten fails, and is not even equal to what another
 * one leaves unwritten. */
enum { POISON_Y = 0x7fc0dead, POISON_WANT = 0x7fc0beef };

static void poison(float *y, size_t n, uint32_t bits)
{
    for (size_t i = 0; i < n; i++) memcpy(y + i, &bits, sizeof bits);
}

static void compute_baseline(const struct product *p, const struct tr_kernel *baseline)
{
    const struct tr_kernel *pack = tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, baseline->act);
    poison(p->want, p->n, POISON_WANT);
    tr_brick_compute(p->b, p->want, p->b->problem.rows, p->io, p->n_cols, baseline, pack);
}

/* First element at fault, in the order of memory; n if there is none, or more if none is named. */
static size_t find_different(const float *y, const float *want, size_t n, double tol)
{
    double most = 0;
    size_t i;
    if (tol == 0) {
        for (i = 0; i < n && memcmp(y + i, want + i, sizeof *y) == 0;) i++;
        return i;
    }
    for (i = 0; i < n; i++)
        if (fabs((double)want[i]) > most) most = fabs((double)want[i]);
    /* one that is infinite would allow everything */
    for (i = 0; i < n; i++)
        if (!isfinite(want[i]) || !(fabs((double)y[i] - (double)want[i]) <= tol * most)) break;
    return i;
}

static size_t find_outside(const float *y, size_t n, double lo, double hi)
{
    size_t i = 0;
    while (i < n && (double)y[i] >= lo && (double)y[i] <= hi) i++;
    return i;
}

static size_t find_infinite(const float *y, size_t n)
{
    size_t i = 0;
    while (i < n && isfinite(y[i])) i++;
    return i;
}

/* Asks the application. */
static size_t find_custom(const struct product *p, const struct tr_assertion *a)
{
    const trueno_problem *problem = &p->b->problem;
    const trueno_brick_output out = {.struct_size = sizeof out,
                                     .y = p->y,
                                     .ldy = problem->rows,
                                     .rows = problem->rows,
                                     .x = p->io->x,
                                     .ldx = p->io->ldx,
                                     .cols = problem->cols,
                                     .n_cols = p->n_cols};
    size_t row = SIZE_MAX, column = SIZE_MAX;
    if (a->fn(a->user, &out, &row, &column)) return p->n;
    return row < out.rows && column < out.n_cols ? column * out.rows + row : SIZE_MAX;
}

static size_t find_fault(const struct product *p, const struct tr_assertion *a)
{
    switch (a->kind) {
    case TR_ASSERT_EQUIV:
        compute_baseline(p, a->baseline);
        return find_different(p->y, p->want, p->n, a->tol);
    case TR_ASSERT_BOUNDS: return find_outside(p->y, p->n, a->lo, a->hi);
    case TR_ASSERT_FINITE: return find_infinite(p->y, p->n);
    default: return find_custom(p, a);
    }
}

/* What the assertion says. */
static int describe(char *text, size_t cap, const struct tr_assertion *a)
{
    switch (a->kind) {
    case TR_ASSERT_EQUIV:
        return snprintf(text, cap, "equiv with %s, tol %g", a->baseline->name, a->tol);
    case TR_ASSERT_BOUNDS: return snprintf(text, cap, "bounds [%g, %g]", a->lo, a->hi);
    case TR_ASSERT_FINITE: return snprintf(text, cap, "finite");
    default: return snprintf(text, cap, "%s", a->name);
    }
}

/* The message of assertion `index`, which failed at element i. */
static void explain(char message[TRUENO_BRICK_MESSAGE_MAX], const struct product *p, uint32_t index,
                    size_t i)
{
    const struct tr_assertion *a = &p->b->assertions[index];
    size_t rows = p->b->problem.rows;
    char what[128], where[128] = "", raw[TRUENO_BRICK_MESSAGE_MAX];

    describe(what, sizeof what, a);
    if (i < p->n && a->kind == TR_ASSERT_EQUIV)
        snprintf(where, sizeof where, ": row %zu, column %zu: %.9g, not %.9g", i % rows, i / rows,
                 (double)p->y[i], (double)p->want[i]);
    else if (i < p->n)
        snprintf(where, sizeof where, ": row %zu, column %zu: %.9g", i % rows, i / rows,
                 (double)p->y[i]);
    snprintf(raw, sizeof raw, "assertion %u, %s%s", index, what, where);
    tr_escape(message, TRUENO_BRICK_MESSAGE_MAX, raw);
}

static void execute(trueno_brick_report *r, const struct product *p)
{
    r->n_assertions = r->first_failed = p->b->n_assertions;
    for (uint32_t a = 0; a < p->b->n_assertions; a++) {
        size_t i = find_fault(p, &p->b->assertions[a]);
        if (i == p->n) continue;
        if (r->n_failed++ > 0) continue;
        r->first_failed = a;
        explain(r->message, p, a, i);
    }
}

static bool has_baseline(const trueno_brick *b)
{
    for (uint32_t a = 0; a < b->n_assertions; a++)
        if (b->assertions[a].kind == TR_ASSERT_EQUIV) return true;
    return false;
}

/* Memory for n_cols columns, twice if there is a baseline. */
static trueno_status allocate(struct product *p, trueno_error *err)
{
    const trueno_brick *b = p->b;
    uint64_t n, bytes;
    if (tr_mul(&n, p->n_cols, b->problem.rows) &&
        tr_mul(&bytes, n, (has_baseline(b) ? 2 : 1) * sizeof(float)) && bytes <= SIZE_MAX)
        p->y = tr_alloc(b->ctx, (size_t)bytes);
    if (!p->y)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY,
                       "brick: no memory to verify %zu columns of %zu rows", p->n_cols,
                       b->problem.rows);
    p->n = (size_t)n;
    p->want = has_baseline(b) ? p->y + p->n : NULL;
    return TRUENO_OK;
}

trueno_status trueno_brick_verify(trueno_brick *b, trueno_brick_report *out,
                                  const trueno_brick_io *io, trueno_error *err)
{
    trueno_brick_report r = TRUENO_BRICK_REPORT_INIT;
    struct product p = {.b = b, .io = io};

    if (!b || !out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: %s is NULL", b ? "out" : "b");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: struct_size of the report is %zu; use TRUENO_BRICK_REPORT_INIT",
                       out->struct_size);
    r.struct_size = out->struct_size;
    memcpy(out, &r, sizeof r);
    if (b->n_assertions == 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: there is no assertion to verify");
    trueno_status status = tr_brick_check(&p.n_cols, b, io, err);
    if (status == TRUENO_OK) status = allocate(&p, err);
    if (status != TRUENO_OK) return status;

    poison(p.y, p.n, POISON_Y);
    tr_brick_compute(b, p.y, b->problem.rows, io, p.n_cols, b->kernel, NULL);
    execute(&r, &p);
    tr_free(b->ctx, p.y);
    memcpy(out, &r, sizeof r);
    if (r.n_failed == 0) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_ASSERTION, "brick: %u of %u assertions of %s failed: %s",
                   r.n_failed, r.n_assertions, b->kernel->name, r.message);
}
