/* SPDX-License-Identifier: MIT */
/* Matrix products with weights in blocks of 32 (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0) for AVX-512 VNNI.
 * Formulas: docs/numerics.md. */
#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile this file for AVX-512 VNNI"
#endif

#include "gemm_zmm.h"

/* What distinguishes the formats; constants to the compiler. */
struct format {
    enum vectors kind;
    bool min;           /* m follows d */
    unsigned zero_log2; /* the quant of weight 0 is 1 << zero_log2, where there is no m */
    size_t vectors;     /* bytes of quants per 16 x 32 weights */
};

/* Begins dots of one block, less their zero point. */
ALWAYS_INLINE void dot_block(struct dots *d, const uint8_t *v, size_t apart, const int32_t *aq,
                             const int32_t *ns, struct format f, int nt)
{
    clear_dots(d, nt);
    UNROLL
    for (int c = 0; c < nt; c++) {
        if (f.min) continue;
        __m512i z = _mm512_slli_epi32(_mm512_set1_epi32(ns[c]), f.zero_log2);
        UNROLL
        for (int g = 0; g < groups(nt); g++) d->t[g][c] = z;
    }
    dot_steps(d, v, apart, aq, f.kind, 0, 8, nt);
}

/* Panel of nb blocks; moves on the activations. */
ALWAYS_INLINE void add_panel(float_tile y, const uint8_t *w, size_t apart, struct tr_a8_32 *a,
                             size_t nb, struct format f, int nt)
{
    const size_t scale_bytes = tr_x16_scale_bytes(nb);
    const uint8_t *v = w + (f.min ? 2 : 1) * scale_bytes;
    prefetch_groups(w + AHEAD, apart, (f.min ? 512 : 256), nt);
    for (size_t b = 0; b < nb; b++, v += f.vectors) {
        struct dots dots;
        __m512 d[2], m[2];
        prefetch_groups(v + AHEAD, apart, f.vectors, nt);
        dot_block(&dots, v, apart, a->q, a->ns, f, nt);
        UNROLL
        for (int g = 0; g < groups(nt); g++) {
            const uint8_t *ds = w + (size_t)g * apart + 32 * b;
            d[g] = load_halves(ds);
            if (f.min) m[g] = load_halves(ds + scale_bytes);
        }
#define ADD(g, c, t)                                                                               \
    do {                                                                                           \
        __m512 scale = _mm512_mul_ps(d[g], _mm512_set1_ps(a->a[c]));                               \
        y[g][c] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(t), y[g][c]);                          \
        if (f.min) y[g][c] = _mm512_fmadd_ps(m[g], _mm512_set1_ps(a->as[c]), y[g][c]);             \
        IN_ORDER(y[g][c]);                                                                         \
    } while (0)
        FINISH(&dots, a->q + 7 * nt, nt, ADD)
#undef ADD
        a->q += 8 * nt;
        a->a += nt;
        a->ns += nt;
        a->as += nt;
    }
}

ALWAYS_INLINE size_t panel_bytes(size_t nb, struct format f)
{
    return tr_x16_scale_bytes(nb) * (f.min ? 2 : 1) + nb * f.vectors;
}

ALWAYS_INLINE void gemm(float *out, size_t ldo, const uint8_t *w, size_t n_groups, const void *act,
                        size_t k, struct format f, int nt)
{
    const struct tr_a8_32 tile = tr_a8_32_view(act, k, (size_t)nt);
    size_t full = panel_bytes(8, f), rest = k % 256 / 32;
    size_t group_bytes = k / 256 * full + (rest ? panel_bytes(rest, f) : 0);
    for (size_t g = 0; g < n_groups; g += (size_t)groups(nt)) {
        struct pass pass = pass_at(g, out, ldo, w, n_groups, group_bytes);
        struct tr_a8_32 a = tile;
        float_tile y;
        clear_floats(y, nt);
        for (size_t i = 0; i < k; i += 256, pass.w += full)
            add_panel(y, pass.w, pass.apart, &a, k - i < 256 ? rest : 8, f, nt);
        store_floats(&pass, y, nt);
    }
}

#define KERNEL(name, ...)                                                                          \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        const struct format f = __VA_ARGS__;                                                       \
        BY_COLUMNS(nt, CALL)                                                                       \
    }
#define CALL(n) gemm(out, ldo, w, n_groups, act, k, f, n)

KERNEL(gemm_q4_0_avx512, {.kind = N4, .zero_log2 = 3, .vectors = 256})
KERNEL(gemm_q4_1_avx512, {.kind = N4, .min = true, .vectors = 256})
KERNEL(gemm_q5_0_avx512, {.kind = N4_H1, .zero_log2 = 4, .vectors = 320})
KERNEL(gemm_q5_1_avx512, {.kind = N4_H1, .min = true, .vectors = 320})
KERNEL(gemm_q8_0_avx512, {.kind = B8, .zero_log2 = 7, .vectors = 512})

static const struct tr_kernel kernels[] = {
    ROW("q4_0", Q4_0, A8_32, gemm_q4_0_avx512), ROW("q4_1", Q4_1, A8_32, gemm_q4_1_avx512),
    ROW("q5_0", Q5_0, A8_32, gemm_q5_0_avx512), ROW("q5_1", Q5_1, A8_32, gemm_q5_1_avx512),
    ROW("q8_0", Q8_0, A8_32, gemm_q8_0_avx512),
};
const struct tr_kernel_table tr_table_gemm_legacy_avx512 = {kernels,
                                                            sizeof kernels / sizeof *kernels};
