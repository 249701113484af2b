/* SPDX-License-Identifier: MIT */
/* Matrix products with Q4_K, Q5_K and Q6_K weights, C reference: the specification that the SIMD
 * kernels meet bit for bit. Formulas: docs/numerics.md. */
#include "gemm_ref.h"
#include "quant/quant.h"

/* Integer sums of one panel: I and J of docs/numerics.md, by column and row. */
struct sums {
    int32_t i[TR_NT_MAX][TR_ROWS];
    int32_t j[TR_NT_MAX][TR_ROWS];
};

/* Sum of 32 activations, number n of 8 in a group of 256; pairs of int16 share a word. */
static int32_t sum32(const struct tr_a8_256 *a, size_t n, size_t c, size_t nt)
{
    int16_t pair[2];
    memcpy(pair, &a->bs[n / 2 * nt + c], sizeof pair);
    return pair[n % 2];
}

/* Byte i of row r of a section of scale words. */
static uint8_t scale_byte(const uint8_t *words, size_t i, size_t r)
{
    return words[64 * (i / 4) + 4 * r + i % 4];
}

/* Scale and minimum j of row r from the scale words of a Q4_K or Q5_K panel. */
static void scale_min(uint8_t *sc, uint8_t *m, const uint8_t *words, size_t j, size_t r)
{
    uint8_t packed[12];
    for (size_t i = 0; i < 12; i++) packed[i] = scale_byte(words, i, r);
    tr_q4k_scale_min((int)j, packed, sc, m);
}

/* Panel p of a Q4_K (high = false) or Q5_K group. */
static void panel_q45k(struct sums *s, const uint8_t *panel, bool high, const struct tr_a8_256 *a,
                       size_t p, size_t nt)
{
    size_t vectors = high ? 320 : 256;
    memset(s, 0, sizeof *s);
    for (size_t j = 0; j < 8; j++) {
        tr_quants q;
        tr_ref_n4(q, panel + 256 + j * vectors);
        if (high) tr_ref_h1(q, panel + 256 + j * vectors + 256);
        for (size_t c = 0; c < nt; c++) {
            int8_t x[32];
            int32_t bsum = sum32(a, 8 * p + j, c, nt);
            tr_ref_acts(x, a->q + 8 * (8 * p + j) * nt + c, nt);
            for (size_t r = 0; r < TR_ROWS; r++) {
                uint8_t sc, m;
                scale_min(&sc, &m, panel + 64, j, r);
                s->i[c][r] += sc * tr_ref_dot(q[r], x, 32);
                s->j[c][r] += m * bsum;
            }
        }
    }
}

static void gemm_q45k(float *out, size_t ldo, const uint8_t *w, size_t n_groups, const void *act,
                      size_t k, uint32_t nt, bool high)
{
    struct tr_a8_256 a = tr_a8_256_view(act, k, nt);
    struct sums s;
    for (size_t g = 0; g < n_groups; g++) {
        tr_tile_sums y = {{0}};
        for (size_t p = 0; p < k / 256; p++, w += high ? 2816 : 2304) {
            panel_q45k(&s, w, high, &a, p, nt);
            for (size_t c = 0; c < nt; c++) {
                for (size_t r = 0; r < TR_ROWS; r++) {
                    float d = tr_ref_half(w, r), dmin = tr_ref_half(w + 32, r);
                    float v = fmaf(-dmin, (float)s.j[c][r], d * (float)s.i[c][r]);
                    y[c][r] = fmaf(a.a[p * nt + c], v, y[c][r]);
                }
            }
        }
        tr_ref_store(out + TR_ROWS * g, ldo, y, nt);
    }
}

static void gemm_q4_k_ref(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    gemm_q45k(out, ldo, w, n_groups, act, k, nt, false);
}

static void gemm_q5_k_ref(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    gemm_q45k(out, ldo, w, n_groups, act, k, nt, true);
}

static void panel_q6k(struct sums *s, const uint8_t *panel, const struct tr_a8_256 *a, size_t p,
                      size_t nt)
{
    memset(s, 0, sizeof *s);
    for (size_t j = 0; j < 8; j++) {
        tr_quants q;
        tr_ref_n4(q, panel + 256 + 384 * j);
        tr_ref_h2(q, panel + 256 + 384 * j + 256);
        for (size_t c = 0; c < nt; c++) {
            int8_t x[32];
            const int32_t *z16 = a->z16 + (16 * p + 2 * j) * nt + c;
            tr_ref_acts(x, a->q + 8 * (8 * p + j) * nt + c, nt);
            for (size_t r = 0; r < TR_ROWS; r++) {
                int8_t even = (int8_t)scale_byte(panel, 2 * j, r);
                int8_t odd = (int8_t)scale_byte(panel, 2 * j + 1, r);
                s->i[c][r] += even * (tr_ref_dot(q[r], x, 16) + z16[0]);
                s->i[c][r] += odd * (tr_ref_dot(q[r] + 16, x + 16, 16) + z16[nt]);
            }
        }
    }
}

static void gemm_q6_k_ref(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                          size_t k, uint32_t nt)
{
    struct tr_a8_256 a = tr_a8_256_view(act, k, nt);
    const uint8_t *group = w;
    struct sums s;
    for (size_t g = 0; g < n_groups; g++, group += tr_x16_group_bytes(TRUENO_TYPE_Q6_K, k)) {
        const uint8_t *panels = group + tr_x16_scale_bytes(k / 256);
        tr_tile_sums y = {{0}};
        for (size_t p = 0; p < k / 256; p++) {
            panel_q6k(&s, panels + 3328 * p, &a, p, nt);
            for (size_t c = 0; c < nt; c++) {
                for (size_t r = 0; r < TR_ROWS; r++) {
                    float d = tr_ref_half(group, 16 * p + r);
                    y[c][r] = fmaf(a.a[p * nt + c], d * (float)s.i[c][r], y[c][r]);
                }
            }
        }
        tr_ref_store(out + TR_ROWS * g, ldo, y, nt);
    }
}

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_k_ref_16x8", Q4_K, A8_256, TR_ROWS, 0, 0, gemm_q4_k_ref),
    TR_GEMM_ROW("gemm_q5_k_ref_16x8", Q5_K, A8_256, TR_ROWS, 0, 0, gemm_q5_k_ref),
    TR_GEMM_ROW("gemm_q6_k_ref_16x8", Q6_K, A8_256, TR_ROWS, 0, 0, gemm_q6_k_ref),
};
const struct tr_kernel_table tr_table_gemm_kquant_ref = {kernels, sizeof kernels / sizeof *kernels};
