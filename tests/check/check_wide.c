/* SPDX-License-Identifier: MIT */
/* Gemm kernels of many columns: all tiles in one call, compared with the reference tile by tile.
 * They add in an order of their own, so the bound is on the NMSE; what is not finite stays in its
 * row or column. */
#include "check.h"
#include "check_weights.h"

#include "quant/quant.h"
#include "simd/matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_K    600
#define MAX_ROWS 300
#define MAX_COLS 530
/* sum (a - b)^2 / sum a^2 against the f32 reference. */
#define NMSE_REORDERED 1e-11

enum { SLOT_W, SLOT_ACT, SLOT_OUT, SLOT_SCRATCH };

struct wide {
    const struct tr_kernel *kernel;
    struct tr_gemm_wide a;
    size_t n_out; /* floats of `out` */
    float x[MAX_COLS * MAX_K], want[MAX_COLS * (MAX_ROWS + 64)];
    uint8_t rows[MAX_ROWS * MAX_K * 4];
};

static void call(void *arg)
{
    const struct wide *g = arg;
    g->kernel->fn.gemm_wide(&g->a);
}

static void make_operands(struct check *t, struct wide *g, enum check_weights wp,
                          enum check_pattern xp, enum check_place place)
{
    const struct tr_kernel *k = g->kernel;
    size_t row_bytes = trueno_row_bytes(k->dtype, g->a.k);
    size_t group_bytes = tr_x16_group_bytes(k->dtype, g->a.k);
    size_t n_groups = (g->a.n_rows + TR_ROWS - 1) / TR_ROWS;
    uint8_t *w = check_buffer(t, SLOT_W, "weights", n_groups * group_bytes, place, 0);

    for (size_t r = 0; r < g->a.n_rows; r++)
        check_weight_row(t, g->rows + r * row_bytes, k->dtype, g->a.k, wp, r);
    for (size_t i = 0; i < n_groups; i++) {
        size_t left = g->a.n_rows - i * TR_ROWS;
        tr_x16_pack(w + i * group_bytes, g->rows + i * TR_ROWS * row_bytes, row_bytes,
                    left < TR_ROWS ? left : TR_ROWS, k->dtype, g->a.k);
    }
    for (size_t c = 0; c < g->a.n_cols; c++)
        check_fill(t, g->x + c * g->a.k, g->a.k, c % 7 == 3 ? xp : CHECK_NORMAL);
    void *acts = check_buffer(t, SLOT_ACT, "activations",
                              g->a.n_cols * tr_act_col_bytes(k->act, g->a.k), place, 0);
    struct tr_matrix m = {.cols = g->a.k, .tile_width = check_u64(t) & 1 ? 6 : TR_NT_MAX};
    m.pack = tr_kernel_find(0, TR_OP_QUANTIZE, TR_TYPE_NONE, k->act);
    g->a.tile_width = m.tile_width;
    tr_act_pack_part(acts, &m, g->x, g->a.k, g->a.n_cols, 0, 1);
    check_readonly(t, SLOT_W);
    check_readonly(t, SLOT_ACT);
    g->a.w = w;
    g->a.acts = acts;
    g->a.out = check_buffer(t, SLOT_OUT, "out", g->n_out * sizeof(float), place, 0);
    g->a.scratch = check_buffer(t, SLOT_SCRATCH, "scratch", k->scratch_bytes, place, 0);
}

/* The reference writes whole groups, so it works on a buffer of its own. */
static void reference(struct wide *g, const struct tr_kernel *ref)
{
    float tile[TR_NT_MAX][TR_ROWS];
    size_t n_tiles = tr_n_tiles(g->a.n_cols, g->a.tile_width);
    size_t group_bytes = tr_x16_group_bytes(ref->dtype, g->a.k);
    for (size_t t = 0; t < n_tiles; t++) {
        size_t c0 = tr_tile(t, g->a.n_cols, n_tiles), c1 = tr_tile(t + 1, g->a.n_cols, n_tiles);
        const uint8_t *act = (const uint8_t *)g->a.acts + c0 * tr_act_col_bytes(ref->act, g->a.k);
        for (size_t r0 = 0; r0 < g->a.n_rows; r0 += TR_ROWS) {
            size_t n = g->a.n_rows - r0 < TR_ROWS ? g->a.n_rows - r0 : TR_ROWS;
            ref->fn.gemm(tile[0], TR_ROWS, (const uint8_t *)g->a.w + r0 / TR_ROWS * group_bytes, 1,
                         act, g->a.k, (uint32_t)(c1 - c0));
            for (size_t c = c0; c < c1; c++)
                memcpy(g->want + c * g->a.ldo + r0, tile[c - c0], n * sizeof(float));
        }
    }
}

static void compare(struct check *t, const struct wide *g)
{
    double err = 0, sum = 0;
    for (size_t i = 0; i < g->n_out; i++) {
        size_t r = i % g->a.ldo, c = i / g->a.ldo;
        double want = (double)g->want[i], got = (double)g->a.out[i];
        if (r >= g->a.n_rows) { /* between two columns: as it was */
            if (memcmp(&g->want[i], &g->a.out[i], sizeof(float)) != 0)
                check_fail(t, "wrote behind column %zu", c);
        } else if (!isfinite(want)) {
            if (isfinite(got)) check_fail(t, "row %zu column %zu: %g, not %g", r, c, got, want);
        } else {
            err += (got - want) * (got - want);
            sum += want * want;
        }
    }
    if (!(err <= NMSE_REORDERED * sum)) check_fail(t, "NMSE %.3g, limit 1e-11", err / sum);
}

static void one_case(struct check *t, struct wide *g, const struct tr_kernel *ref,
                     enum check_weights wp, enum check_pattern xp)
{
    enum check_place place = check_u64(t) & 1 ? CHECK_END : CHECK_START;
    g->a.ldo = g->a.n_rows + check_below(t, 48);
    g->n_out = (g->a.n_cols - 1) * g->a.ldo + g->a.n_rows;
    check_case(t, "k=%zu rows=%zu columns=%zu ldo=%zu weights=%s activations=%s", g->a.k,
               g->a.n_rows, g->a.n_cols, g->a.ldo, check_weights_name(wp), check_pattern_name(xp));
    const struct tr_gemm_shape shape = {g->a.n_cols, g->a.ldo};
    if (!g->kernel->fits(&shape)) {
        check_fail(t, "the kernel does not take the shape");
        return;
    }
    check_release(t);
    make_operands(t, g, wp, xp, place);
    memcpy(g->want, g->a.out, g->n_out * sizeof(float));
    reference(g, ref);
    if (check_call(t, call, g)) compare(t, g);
}

void check_wide(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    static const size_t lengths[] = {1, 2, 31, 256, 257, 600}, rows[] = {1, 15, 16, 100, 257, 300};
    static const size_t columns[] = {128, 129, 200, 512, 513, 530};
    static const enum check_pattern patterns[] = {CHECK_NORMAL, CHECK_ZERO, CHECK_NAN, CHECK_INF};
    struct wide *g = calloc(1, sizeof *g);
    for (size_t i = 0; g && i < 36; i++) {
        g->kernel = k;
        g->a.k = lengths[i % 6];
        g->a.n_rows = rows[(i + i / 6) % 6];
        g->a.n_cols = columns[(i + i / 3) % 6];
        one_case(t, g, ref, i % 5 == 4 ? WEIGHTS_SPECIAL : WEIGHTS_RANDOM, patterns[i % 4]);
    }
    if (!g) check_fail(t, "no memory");
    check_release(t);
    free(g);
}
