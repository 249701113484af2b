/* SPDX-License-Identifier: MIT */
/* Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0 products for NEON, with or without the dot product extension:
 * included once by the file of each. Integers are exact and the float steps are those of
 * gemm_legacy_ref.c, so the bits are the reference's. */
#ifndef TR_GEMM_LEGACY_NEON_H
#define TR_GEMM_LEGACY_NEON_H

#include "gemm_neon.h"

/* What distinguishes the formats; constant where it is used. */
struct legacy_format {
    bool high;          /* N4 is followed by H1 */
    bool bytes;         /* B8 instead of N4 */
    bool min;           /* m follows d */
    int zero_shift;     /* the quant that stands for 0 is 1 << zero_shift; 0: there is m instead */
    size_t block_bytes; /* of quants, per 16 x 32 weights */
};

/* One tile's activations from a block on. */
struct block_acts {
    const int32_t *q;
    const float *a;
    const int32_t *ns;
    const float *as;
};

/* 32 k in B8, whose top bit is turned back to a sign: t += quants . activations. */
ALWAYS_INLINE void dot_b8(int_tile t, const uint8_t *v, const int32_t *aq, int quads, int nt)
{
    UNROLL
    for (int s = 0; s < 8; s++) {
        struct step_words w = load_words(aq + s * nt, nt);
        UNROLL
        for (int q = 0; q < quads; q++) {
            uint8x16_t x = vld1q_u8(v + 64 * s + 16 * q);
            add_columns(t[q], veorq_u8(x, vdupq_n_u8(0x80)), w, nt);
        }
    }
}

/* `quads` quads of one block. d, m, v: of the first of them. */
ALWAYS_INLINE void legacy_block(float32x4_t (*y)[TR_NT_MAX], const uint8_t *d, const uint8_t *m,
                                const uint8_t *v, struct block_acts a, struct legacy_format f,
                                int quads, int nt)
{
    int_tile t;
    UNROLL
    for (int c = 0; c < nt; c++) {
        int32x4_t zero = vdupq_n_s32(f.zero_shift ? a.ns[c] * (1 << f.zero_shift) : 0);
        UNROLL
        for (int q = 0; q < quads; q++) t[q][c] = zero;
    }
    if (f.bytes)
        dot_b8(t, v, a.q, quads, nt);
    else
        dot_n4(t, v, a.q, f.high, quads, nt);
    UNROLL
    for (int q = 0; q < quads; q++) {
        float32x4_t scale = load_halves(d + 8 * q);
        UNROLL
        for (int c = 0; c < nt; c++) {
            float32x4_t da = vmulq_n_f32(scale, a.a[c]);
            y[q][c] = vfmaq_f32(y[q][c], da, vcvtq_f32_s32(t[q][c]));
        }
        if (!f.min) continue;
        float32x4_t min = load_halves(m + 8 * q);
        UNROLL
        for (int c = 0; c < nt; c++) y[q][c] = vfmaq_n_f32(y[q][c], min, a.as[c]);
    }
}

ALWAYS_INLINE void gemm_legacy(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                               const void *act, size_t k, struct legacy_format f, int nt)
{
    const struct tr_a8_32 view = tr_a8_32_view(act, k, (size_t)nt);
    const size_t n_blocks = k / 32;
    const int quads = QUADS_OF(nt);

    for (size_t g = 0; g < n_groups; g++) {
        struct block_acts a = {view.q, view.a, view.ns, view.as};
        float_tile y;
        clear_floats(y, nt);
        for (size_t first = 0; first < n_blocks; first += 8) {
            size_t nb = n_blocks - first < 8 ? n_blocks - first : 8;
            const uint8_t *d = w, *m = d + tr_x16_scale_bytes(nb);
            w = f.min ? m + tr_x16_scale_bytes(nb) : m;
            for (size_t b = 0; b < nb; b++, w += f.block_bytes, d += 32, m += 32) {
                for (int q = 0; q < QUADS; q += quads)
                    legacy_block(y + q, d + 8 * q, m + 8 * q, w + 16 * q, a, f, quads, nt);
                a.q += 8 * nt;
                a.a += nt;
                a.ns += nt;
                a.as += nt;
            }
        }
        store_floats(out + TR_ROWS * g, ldo, y, nt);
    }
}

#define LEGACY_CALL(n) gemm_legacy(out, ldo, w, n_groups, act, k, f, n)
#define LEGACY_KERNEL(name, ...)                                                                   \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        const struct legacy_format f = __VA_ARGS__;                                                \
        BY_COLUMNS(nt, LEGACY_CALL)                                                                \
    }

#define FORMAT_Q4_0                                                                                \
    {                                                                                              \
        .zero_shift = 3, .block_bytes = 256                                                        \
    }
#define FORMAT_Q4_1                                                                                \
    {                                                                                              \
        .min = true, .block_bytes = 256                                                            \
    }
#define FORMAT_Q5_0                                                                                \
    {                                                                                              \
        .high = true, .zero_shift = 4, .block_bytes = 320                                          \
    }
#define FORMAT_Q5_1                                                                                \
    {                                                                                              \
        .high = true, .min = true, .block_bytes = 320                                              \
    }
#define FORMAT_Q8_0                                                                                \
    {                                                                                              \
        .bytes = true, .block_bytes = 512                                                          \
    }

LEGACY_KERNEL(gemm_q4_0, FORMAT_Q4_0)
LEGACY_KERNEL(gemm_q4_1, FORMAT_Q4_1)
LEGACY_KERNEL(gemm_q5_0, FORMAT_Q5_0)
LEGACY_KERNEL(gemm_q5_1, FORMAT_Q5_1)
LEGACY_KERNEL(gemm_q8_0, FORMAT_Q8_0)

#endif
