/* SPDX-License-Identifier: MIT */
/* Bricks: choosing the kernel that was asked for, running it, and what it took. */
#include "tuner/brick.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "simd/matrix_api.h"
#include "trueno/quantize.h"
#include "tuner/context.h"

enum { MAX_CANDIDATES = 64 };

/* ---------------------------------------------------------------- choosing */

/* "VectorizedQ4K (gemm_q4_k_ref_16x8), ..." for m columns, as far as there is room. */
static void list_candidates(char *text, size_t cap, const struct tr_kernel *const *list, size_t n,
                            uint32_t m)
{
    size_t used = 0;
    text[0] = 0;
    for (size_t i = 0; i < n && used < cap; i++)
        used += (size_t)snprintf(text + used, cap - used, "%s%s (%s)", i ? ", " : "",
                                 trueno_kernel_name(tr_family_of(list[i], m)), list[i]->name);
}

/* The variant alone says who is to compute. */
static bool is_any_family(const trueno_brick_config *c)
{
    return c->kernel == TRUENO_KERNEL_UNKNOWN && c->variant;
}

/* Is what the configuration asks for. */
static bool is_meant(const struct tr_kernel *k, const trueno_brick_config *c, uint32_t m)
{
    if (!is_any_family(c) && tr_family_of(k, m) != c->kernel) return false;
    return !c->variant || strcmp(k->name, c->variant) == 0;
}

/* The candidate for p that was asked for. */
static trueno_status choose(const struct tr_kernel **out, const trueno_ctx *ctx,
                            const trueno_brick_config *c, const trueno_problem *p,
                            trueno_error *err)
{
    const struct tr_kernel *list[MAX_CANDIDATES], *unused;
    const char *family = is_any_family(c) ? "" : trueno_kernel_name(c->kernel);
    char fits[320];

    if ((uint32_t)c->kernel >= trueno_kernel_count())
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: kernel %d is no family", (int)c->kernel);
    if (c->variant && !tr_kernel_named(c->variant, strlen(c->variant)))
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: this build has no variant '%.80s'",
                       c->variant);
    size_t n = tr_candidates(list, MAX_CANDIDATES, ctx, p);
    if (n == 0) { /* the choice of a context says why */
        trueno_status status = tr_kernel_choose(&unused, NULL, ctx, TR_OP_GEMM,
                                                tr_x16_type(p->type), TR_ACT_NONE, err);
        if (status != TRUENO_OK) return status;
    }
    if (n > MAX_CANDIDATES) n = MAX_CANDIDATES;
    for (size_t i = 0; i < n; i++) {
        if (!is_meant(list[i], c, p->n_cols)) continue;
        *out = list[i];
        return TRUENO_OK;
    }
    list_candidates(fits, sizeof fits, list, n, p->n_cols);
    return tr_fail(err, TRUENO_ERR_UNSUPPORTED,
                   "brick: %s%s%s does not compute %u columns of %s here; what does: %s",
                   c->variant ? c->variant : "", c->variant && family[0] ? ", " : "", family,
                   p->n_cols, trueno_dtype_get_info(p->type)->name, fits);
}

/* ------------------------------------------------------------ making, freeing */

static bool is_rate(double x)
{
    return x >= 0 && isfinite(x);
}

/* Makes the two budgets one, of microseconds per column; 0: none. */
static trueno_status read_budget(trueno_brick_config *c, trueno_error *err)
{
    double a = c->budget_us_per_token, b = c->budget_tok_per_sec;
    if (!is_rate(a) || !is_rate(b))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: budget_us_per_token %g or budget_tok_per_sec %g is no budget", a, b);
    if (a > 0 && b > 0 && !(fabs(a * b / 1e6 - 1) <= 0.01))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: budgets of %g us per token and %g tokens per second contradict", a,
                       b);
    if (a == 0 && b == 0 && c->enforce_budget)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: there is no budget to be enforced");
    if (b > 0) c->budget_us_per_token = a > 0 ? fmin(a, 1e6 / b) : 1e6 / b;
    return TRUENO_OK;
}

/* Checks the arguments of a brick; c: with problem and budget_us_per_token as they count. */
static trueno_status read_config(trueno_brick_config *c, trueno_ctx *ctx, trueno_brick **out,
                                 const trueno_brick_config *config, trueno_error *err)
{
    const trueno_brick_config defaults = TRUENO_BRICK_CONFIG_INIT;
    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: out is NULL");
    *out = NULL;
    if (!ctx || !config)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: %s is NULL", ctx ? "config" : "ctx");
    *c = defaults;
    if (!tr_struct_read(c, sizeof *c, config, sizeof *c))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: struct_size is %zu; use TRUENO_BRICK_CONFIG_INIT",
                       config->struct_size);
    if (c->batch_size) c->problem.n_cols = c->batch_size;
    if (c->threads) c->problem.threads = c->threads;
    trueno_status status = tr_problem_check(&c->problem, err);
    return status == TRUENO_OK ? read_budget(c, err) : status;
}

/* c: as read. */
static trueno_status make(trueno_brick **out, trueno_ctx *ctx, const trueno_brick_config *c,
                          const struct tr_kernel *kernel, trueno_error *err)
{
    const trueno_brick_profile nothing = TRUENO_BRICK_PROFILE_INIT;
    const trueno_problem *p = &c->problem;
    uint64_t n = p->n_cols < TR_MATMUL_COLS ? p->n_cols : TR_MATMUL_COLS, bytes;

    trueno_brick *b = tr_calloc(ctx, 1, sizeof *b);
    if (b && p->cols <= SIZE_MAX / 16 &&
        tr_mul(&bytes, n, tr_act_col_bytes(kernel->act, p->cols)) && bytes <= SIZE_MAX)
        b->acts = tr_alloc(ctx, (size_t)bytes);
    if (!b || !b->acts) {
        tr_free(ctx, b);
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "brick: no memory for %zu columns of %zu",
                       (size_t)n, p->cols);
    }
    b->ctx = ctx;
    b->kernel = kernel;
    b->problem = *p;
    b->budget_us = c->budget_us_per_token;
    b->enforce_budget = c->enforce_budget;
    b->clock = (struct tr_clock){c->clock_fn, c->clock_user};
    b->profile = nothing;
    tr_ctx_ref(ctx);
    *out = b;
    return TRUENO_OK;
}

trueno_status tr_brick_new_with(trueno_ctx *ctx, trueno_brick **out,
                                const trueno_brick_config *config, const struct tr_kernel *kernel,
                                trueno_error *err)
{
    trueno_brick_config c;
    trueno_status status = read_config(&c, ctx, out, config, err);
    return status == TRUENO_OK ? make(out, ctx, &c, kernel, err) : status;
}

trueno_status trueno_brick_new(trueno_ctx *ctx, trueno_brick **out,
                               const trueno_brick_config *config, trueno_error *err)
{
    const struct tr_kernel *kernel = NULL;
    trueno_brick_config c;
    trueno_status status = read_config(&c, ctx, out, config, err);
    if (status == TRUENO_OK) status = choose(&kernel, ctx, &c, &c.problem, err);
    return status == TRUENO_OK ? make(out, ctx, &c, kernel, err) : status;
}

void trueno_brick_free(trueno_brick *b)
{
    if (!b) return;
    trueno_ctx *ctx = b->ctx;
    tr_free(ctx, b->acts);
    tr_free(ctx, b);
    tr_ctx_unref(ctx);
}

const char *trueno_brick_variant(const trueno_brick *b)
{
    return b ? b->kernel->name : NULL;
}

trueno_kernel trueno_brick_kernel(const trueno_brick *b)
{
    return b ? tr_family_of(b->kernel, b->problem.n_cols) : TRUENO_KERNEL_UNKNOWN;
}

/* ----------------------------------------------------------------- running */

static trueno_status check_weights(const trueno_brick *b, const struct tr_matrix *m,
                                   trueno_error *err)
{
    const trueno_problem *p = &b->problem;
    if (m->type != p->type || m->rows != p->rows || m->cols != p->cols)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: weights of %zu rows of %zu %s are not the %zu rows of %zu %s of the "
                       "problem",
                       m->rows, m->cols, trueno_dtype_get_info(m->type)->name, p->rows, p->cols,
                       trueno_dtype_get_info(p->type)->name);
    if (m->gemm->act != b->kernel->act)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: %s reads other activations than %s, which the weights are for",
                       b->kernel->name, m->gemm->name);
    return TRUENO_OK;
}

trueno_status tr_brick_check(size_t *n_cols, const trueno_brick *b, const trueno_brick_io *io,
                             trueno_error *err)
{
    const trueno_problem *p = &b->problem;
    if (!io) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: io is NULL");
    if (!TR_STRUCT_OK(io))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: struct_size of io is %zu; use TRUENO_BRICK_IO_INIT",
                       io->struct_size);
    if (!io->weights || !io->x)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: %s is NULL", io->x ? "weights" : "x");
    trueno_status status = check_weights(b, tr_matrix_of(io->weights), err);
    if (status != TRUENO_OK) return status;
    if (io->ldx < p->cols)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: ldx %zu is less than %zu columns", io->ldx,
                       p->cols);
    if (io->n_cols > p->n_cols)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: %zu vectors are more than batch_size %u",
                       io->n_cols, p->n_cols);
    uint32_t threads = io->pool ? trueno_pool_size(io->pool) : 1;
    if (threads != p->threads)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: the pool has %u threads, not %u", threads,
                       p->threads);
    *n_cols = io->n_cols ? io->n_cols : p->n_cols;
    return TRUENO_OK;
}

/* A product of up to TR_MATMUL_COLS columns. */
struct part {
    struct tr_matrix m;
    float *y;
    const float *x;
    size_t ldy, ldx, n_cols;
    void *acts;
    trueno_pool *pool;
};

static void compute_part(void *arg, uint32_t tid, uint32_t n_threads)
{
    const struct part *p = arg;
    tr_act_pack_part(p->acts, &p->m, p->x, p->ldx, p->n_cols, tid, n_threads);
    tr_pool_barrier(p->pool);
    /* no scratch: the rows are packed and no wide kernel takes part */
    tr_matmul_part(&p->m, p->m.gemm, p->y, p->ldy, p->acts, p->n_cols, NULL, p->pool, tid,
                   n_threads);
}

void tr_brick_compute(const trueno_brick *b, float *y, size_t ldy, const trueno_brick_io *io,
                      size_t n_cols, const struct tr_kernel *gemm, const struct tr_kernel *pack)
{
    struct part part = {.m = *tr_matrix_of(io->weights),
                        .ldy = ldy,
                        .ldx = io->ldx,
                        .acts = b->acts,
                        .pool = io->pool};
    part.m.gemm = gemm;
    part.m.wide = NULL;
    if (pack) part.m.pack = pack;
    for (size_t c = 0; c < n_cols; c += part.n_cols) {
        part.n_cols = n_cols - c < TR_MATMUL_COLS ? n_cols - c : TR_MATMUL_COLS;
        part.x = io->x + c * io->ldx;
        part.y = y + c * ldy;
        tr_pool_run(io->pool, compute_part, &part);
    }
}

/* Adds a run to the sums. */
static void record(trueno_brick_profile *p, const trueno_brick_io *io, uint64_t ns, uint64_t tokens)
{
    const struct tr_matrix *m = tr_matrix_of(io->weights);
    uint64_t groups = (m->rows + TR_ROWS - 1) / TR_ROWS;
    uint64_t passes = (tokens + TR_MATMUL_COLS - 1) / TR_MATMUL_COLS;
    if (p->runs == 0 || ns < p->min_ns) p->min_ns = ns;
    if (ns > p->max_ns) p->max_ns = ns;
    p->runs++;
    p->tokens += tokens;
    p->total_ns += ns;
    p->weight_bytes += groups * m->group_bytes * passes;
}

trueno_status trueno_brick_run(trueno_brick *b, trueno_brick_result *out, const trueno_brick_io *io,
                               trueno_error *err)
{
    trueno_brick_result r = TRUENO_BRICK_RESULT_INIT;
    size_t n;

    if (!b || !out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: %s is NULL", b ? "out" : "b");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: struct_size of the result is %zu; use TRUENO_BRICK_RESULT_INIT",
                       out->struct_size);
    r.struct_size = out->struct_size;
    memcpy(out, &r, sizeof r);
    trueno_status status = tr_brick_check(&n, b, io, err);
    if (status != TRUENO_OK) return status;
    if (!io->y) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: y is NULL");
    if (io->ldy < b->problem.rows)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: ldy %zu is less than %zu rows", io->ldy,
                       b->problem.rows);

    uint64_t start = tr_clock_ns(&b->clock);
    tr_brick_compute(b, io->y, io->ldy, io, n, b->kernel, NULL);
    uint64_t end = tr_clock_ns(&b->clock);
    r.ns = end > start ? end - start : 0;
    r.tokens = n;
    r.us_per_token = (double)r.ns / 1e3 / (double)n;
    r.tokens_per_sec = r.ns ? (double)n / (double)r.ns * 1e9 : 0;
    r.budget_met = b->budget_us == 0 || r.us_per_token <= b->budget_us;
    r.budget_utilization = b->budget_us > 0 ? r.us_per_token / b->budget_us : 0;
    record(&b->profile, io, r.ns, n);
    memcpy(out, &r, sizeof r);
    if (r.budget_met || !b->enforce_budget) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_BUDGET_EXCEEDED,
                   "brick: %s took %g us per token; the budget is %g us", b->kernel->name,
                   r.us_per_token, b->budget_us);
}

trueno_status trueno_brick_stats(const trueno_brick *b, trueno_brick_profile *out,
                                 trueno_error *err)
{
    trueno_brick_profile p = TRUENO_BRICK_PROFILE_INIT;

    if (!out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: out is NULL");
    if (!TR_STRUCT_OK(out))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "brick: struct_size of the sums is %zu; use TRUENO_BRICK_PROFILE_INIT",
                       out->struct_size);
    if (b) p = b->profile;
    p.struct_size = out->struct_size;
    if (p.total_ns > 0) {
        p.tokens_per_sec = (double)p.tokens / (double)p.total_ns * 1e9;
        p.gb_per_sec = (double)p.weight_bytes / (double)p.total_ns;
    }
    memcpy(out, &p, sizeof p);
    return b ? TRUENO_OK : tr_fail(err, TRUENO_ERR_ARGUMENT, "brick: b is NULL");
}
