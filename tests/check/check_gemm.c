/* SPDX-License-Identifier: MIT */
/* Gemm kernels: bit-equal to the reference, near the f64 dot of what weights and activations stand
 * for, and silent outside their operands. Kernels of many columns are in check_wide.c. */
#include "check.h"
#include "check_weights.h"

#include "quant/quant.h"
#include "simd/act.h"
#include "simd/x16.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_K      1280
#define MAX_GROUPS 5
#define MAX_ROWS   (MAX_GROUPS * TR_ROWS)
#define MAX_OUT    (TR_NT_MAX * (MAX_ROWS + 64))

enum { SLOT_W, SLOT_ACT, SLOT_OUT };

/* Bounds on sum (a-b)^2 / sum a^2 against double precision. */
#define NMSE_RANDOM      1e-12
#define NMSE_ADVERSARIAL 1e-10
/* On one output, relative to |row| |column| (Cauchy-Schwarz), so that small rows count too. */
#define ERR_ONE 1e-5

struct shape {
    size_t k, n_groups, ldo;
    uint32_t nt;
};

/* Everything of one case; w, act and out lie in guarded buffers. */
struct gemm {
    const struct tr_kernel *kernel;
    struct shape s;
    size_t n_rows; /* rows that are there; the rest of the last group is padding */
    bool adversarial;
    void *w, *act;
    float *out;
    uint8_t rows[MAX_ROWS * MAX_K * 4];
    float x[TR_NT_MAX * MAX_K];
    float want[MAX_OUT], row[MAX_K];
    double column[TR_NT_MAX][MAX_K]; /* activations as the kernel sees them */
};

static void call(void *arg)
{
    struct gemm *g = arg;
    g->kernel->fn.gemm(g->out, g->s.ldo, g->w, g->s.n_groups, g->act, g->s.k, g->s.nt);
}

/* -------------------------------------------------------------- operands */

static void make_weights(struct check *t, struct gemm *g, enum check_weights p,
                         enum check_place place)
{
    trueno_dtype type = g->kernel->dtype;
    size_t row_bytes = trueno_row_bytes(type, g->s.k);
    size_t group_bytes = tr_x16_group_bytes(type, g->s.k);

    for (size_t r = 0; r < g->n_rows; r++) {
        check_weight_row(t, g->rows + r * row_bytes, type, g->s.k, p, r);
    }
    g->w = check_buffer(t, SLOT_W, "weights", g->s.n_groups * group_bytes, place, 0);
    for (size_t i = 0; i < g->s.n_groups; i++) {
        size_t left = g->n_rows - i * TR_ROWS;
        tr_x16_pack((uint8_t *)g->w + i * group_bytes, g->rows + i * TR_ROWS * row_bytes, row_bytes,
                    left < TR_ROWS ? left : TR_ROWS, type, g->s.k);
    }
    check_readonly(t, SLOT_W);
}

static const struct tr_kernel *reference_packer(enum tr_act act)
{
    const struct tr_kernel *k;
    for (size_t i = 0; (k = tr_kernel_at(i)); i++) {
        if (k->op == TR_OP_QUANTIZE && k->act == act && !k->cpu) return k;
    }
    return NULL;
}

/* What the packed tile says, in double precision. */
static void read_columns(struct gemm *g)
{
    size_t k = g->s.k, nt = g->s.nt;
    bool wide = g->kernel->act == TR_ACT_A8_256;
    size_t group = wide ? 256 : 32;
    const int8_t *q = g->act;
    const float *f = g->act;
    const float *a = wide ? tr_a8_256_view(g->act, k, nt).a : tr_a8_32_view(g->act, k, nt).a;

    for (size_t c = 0; c < nt; c++) {
        for (size_t i = 0; i < k; i++) {
            if (g->kernel->act == TR_ACT_F32) {
                g->column[c][i] = (double)f[i * nt + c];
            } else {
                g->column[c][i] =
                    (double)a[i / group * nt + c] * (double)q[(i / 4 * nt + c) * 4 + i % 4];
            }
        }
    }
}

static bool make_activations(struct check *t, struct gemm *g, enum check_pattern p,
                             enum check_place place)
{
    const struct tr_kernel *pack = reference_packer(g->kernel->act);
    size_t k = g->s.k, size = g->s.nt * tr_act_col_bytes(g->kernel->act, k);
    if (!pack) {
        check_fail(t, "the registry has no reference that packs its activations");
        return false;
    }
    /* one column has the pattern; the others show that it stays there */
    bool finite = check_pattern_finite(p);
    for (uint32_t c = 0; c < g->s.nt; c++) {
        check_fill(t, g->x + c * k, k, finite || c == g->s.nt / 2 ? p : CHECK_NORMAL);
    }
    g->act = check_buffer(t, SLOT_ACT, "activations", size, place, 4 * check_below(t, 16));
    pack->fn.quantize(g->act, g->x, k, k, g->s.nt);
    read_columns(g);
    check_readonly(t, SLOT_ACT);
    return true;
}

/* ------------------------------------------------------ double precision */

/* Sums of squares over n outputs: errors, results, and |row| |column|. */
struct error {
    double err, sum, scale;
    size_t n;
};

/* One output: finite where the double is, not finite where it is not. */
static void check_output(struct check *t, const struct gemm *g, struct error *e, size_t r, size_t c)
{
    double y = 0, row2 = 0, col2 = 0;
    double got = (double)g->out[c * g->s.ldo + r];
    for (size_t i = 0; i < g->s.k; i++) {
        double w = r < g->n_rows ? (double)g->row[i] : 0.0, a = g->column[c][i];
        y += w * a;
        row2 += w * w;
        col2 += a * a;
    }
    double scale = sqrt(row2) * sqrt(col2);
    if (!isfinite(y)) {
        if (isfinite(got)) check_fail(t, "row %zu column %zu: %g instead of %g", r, c, got, y);
    } else if (scale < (double)FLT_MAX / 256) { /* else float may overflow on the way */
        double err = fabs(got - y);
        if (!(err <= ERR_ONE * scale + 1e-36)) {
            check_fail(t, "row %zu column %zu: %.9g instead of %.17g (error / |row||column| %.3g)",
                       r, c, got, y, err / scale);
        }
        e->err += err * err;
        e->sum += y * y;
        e->scale += scale * scale;
        e->n += r < g->n_rows;
    }
}

static void check_double(struct check *t, struct gemm *g)
{
    size_t row_bytes = trueno_row_bytes(g->kernel->dtype, g->s.k);
    double bound = g->adversarial ? NMSE_ADVERSARIAL : NMSE_RANDOM;
    struct error e = {0, 0, 0, 0};

    for (size_t r = 0; r < g->s.n_groups * TR_ROWS; r++) {
        if (r < g->n_rows) {
            tr_dequantize_row(g->row, g->rows + r * row_bytes, g->kernel->dtype, g->s.k);
        }
        for (uint32_t c = 0; c < g->s.nt; c++) check_output(t, g, &e, r, c);
    }
    /* Results of random signs make sum = scale / k. Few or cancelled ones fall short of it by
     * chance; the bound on each output is enough for them. */
    double expected = fmax(e.sum, e.scale / (double)g->s.k);
    if (e.n >= TR_ROWS && !(e.err <= bound * expected + 1e-70)) {
        check_fail(t, "NMSE %.3g against double precision, limit %.0g", e.err / expected, bound);
    }
}

/* ----------------------------------------------------------------- cases */

static void one_case(struct check *t, struct gemm *g, const struct tr_kernel *ref,
                     enum check_weights wp, enum check_pattern xp)
{
    static const size_t gaps[] = {0, 1, 5, 48};
    enum check_place place = check_u64(t) & 1 ? CHECK_END : CHECK_START;
    size_t width = g->s.n_groups * TR_ROWS;

    g->s.ldo = width + gaps[check_below(t, 4)];
    g->n_rows = width - (check_below(t, 3) ? 0 : check_below(t, TR_ROWS));
    g->adversarial = wp != WEIGHTS_RANDOM || xp != CHECK_NORMAL;
    check_case(t, "k=%zu groups=%zu rows=%zu nt=%u ldo=%zu weights=%s activations=%s %s", g->s.k,
               g->s.n_groups, g->n_rows, g->s.nt, g->s.ldo, check_weights_name(wp),
               check_pattern_name(xp), place == CHECK_END ? "end" : "start");
    check_release(t);
    make_weights(t, g, wp, place);
    if (!make_activations(t, g, xp, place)) return;

    size_t n_out = (g->s.nt - 1) * g->s.ldo + width, shift = 4 * check_below(t, 16);
    g->out = check_buffer(t, SLOT_OUT, "out", n_out * sizeof(float), place, shift);
    memcpy(g->want, g->out, n_out * sizeof(float)); /* gaps between columns stay as they are */
    ref->fn.gemm(g->want, g->s.ldo, g->w, g->s.n_groups, g->act, g->s.k, g->s.nt);
    if (!check_call(t, call, g)) return;
    if (check_floats(t, "out", g->out, g->want, n_out)) check_double(t, g);
}

static const size_t k_float[] = {1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 32, 33, 64, 100, 255, 512};
static const size_t k_32[] = {32, 64, 96, 128, 160, 192, 224, 256, 288, 480, 512, 736, 1056};
static const size_t k_256[] = {256, 512, 768, 1280};

static size_t row_lengths(const struct tr_kernel *k, const size_t **list)
{
    size_t block = trueno_dtype_get_info(k->dtype)->block;
    if (block == 256) return *list = k_256, sizeof k_256 / sizeof *k_256;
    if (block == 32) return *list = k_32, sizeof k_32 / sizeof *k_32;
    return *list = k_float, sizeof k_float / sizeof *k_float;
}

/* Every shape with plain inputs. */
static void all_shapes(struct check *t, struct gemm *g, const struct tr_kernel *ref)
{
    const size_t *lengths;
    size_t n_lengths = row_lengths(g->kernel, &lengths);
    for (size_t i = 0; i < n_lengths; i++) {
        for (uint32_t nt = 1; nt <= g->kernel->nt_max; nt++) {
            g->s.k = lengths[i];
            g->s.n_groups = 1 + (i + nt) % MAX_GROUPS;
            g->s.nt = nt;
            one_case(t, g, ref, WEIGHTS_RANDOM, CHECK_NORMAL);
        }
    }
}

/* Every pair of weights and activations, in random shapes and with one block. */
static void all_inputs(struct check *t, struct gemm *g, const struct tr_kernel *ref)
{
    const size_t *lengths;
    size_t n_lengths = row_lengths(g->kernel, &lengths);
    for (int i = 0; i < WEIGHTS_PATTERNS * CHECK_PATTERNS * 2; i++) {
        g->s.k = lengths[i & 1 ? 0 : check_below(t, n_lengths)];
        g->s.n_groups = 1 + check_below(t, MAX_GROUPS);
        g->s.nt = 1 + (uint32_t)check_below(t, g->kernel->nt_max);
        one_case(t, g, ref, (enum check_weights)(i / 2 % WEIGHTS_PATTERNS),
                 (enum check_pattern)(i / 2 / WEIGHTS_PATTERNS));
    }
}

void check_gemm(struct check *t, const struct tr_kernel *k, const struct tr_kernel *ref)
{
    struct gemm *g = calloc(1, sizeof *g);
    if (!g || k->nt_max < 1 || k->nt_max > TR_NT_MAX) {
        check_fail(t, "nt_max is %u, limit %d", k->nt_max, TR_NT_MAX);
    } else {
        g->kernel = k;
        all_shapes(t, g, ref);
        all_inputs(t, g, ref);
    }
    check_release(t);
    free(g);
}
