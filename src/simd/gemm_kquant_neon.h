/* SPDX-License-Identifier: MIT */
/* Q4_K, Q5_K and Q6_K products for NEON, with or without the dot product extension: included once
 * by the file of each. Integers are exact and the float steps are those of gemm_kquant_ref.c, so
 * the bits are the reference's. */
#ifndef TR_GEMM_KQUANT_NEON_H
#define TR_GEMM_KQUANT_NEON_H

#include "gemm_neon.h"

/* sum += scale x t. */
ALWAYS_INLINE void add_scaled(int_tile sum, const int32x4_t *scale, int_tile t, int quads, int nt)
{
    UNROLL
    for (int q = 0; q < quads; q++) {
        UNROLL
        for (int c = 0; c < nt; c++) sum[q][c] = vmlaq_s32(sum[q][c], t[q][c], scale[q]);
    }
}

/* ---------------------------------------------------------- Q4_K and Q5_K */

/* Scales and minimums of a panel, one byte a row. */
struct q45k_scales {
    uint8_t sc[8][16], m[8][16];
};

/* From the scale words: six bits of the first eight bytes of a row, and four of the last four with
 * two on top from the first eight. */
ALWAYS_INLINE void unpack_q45k_scales(struct q45k_scales *s, const uint8_t *words)
{
    const uint8x16_t six = vdupq_n_u8(63), top = vdupq_n_u8(0x30);
    const uint8x16x4_t a = vld4q_u8(words), b = vld4q_u8(words + 64), c = vld4q_u8(words + 128);
    UNROLL
    for (int j = 0; j < 4; j++) {
        vst1q_u8(s->sc[j], vandq_u8(a.val[j], six));
        vst1q_u8(s->m[j], vandq_u8(b.val[j], six));
        vst1q_u8(s->sc[j + 4], vbslq_u8(top, vshrq_n_u8(a.val[j], 2), low_nibbles(c.val[j])));
        vst1q_u8(s->m[j + 4], vbslq_u8(top, vshrq_n_u8(b.val[j], 2), high_nibbles(c.val[j])));
    }
}

/* J: minimums x sums of 32 activations, of which a word holds two. */
ALWAYS_INLINE void dot_mins(int_tile sum, const struct q45k_scales *s, const int32_t *bs, int quad,
                            int quads, int nt)
{
    clear_ints(sum, quads, nt);
    for (int j = 0; j < 8; j++) {
        int16x4_t min[QUADS];
        UNROLL
        for (int q = 0; q < quads; q += 2) {
            int16x8_t m = vreinterpretq_s16_u16(vmovl_u8(vld1_u8(s->m[j] + 4 * (quad + q))));
            min[q] = vget_low_s16(m);
            min[q + 1] = vget_high_s16(m);
        }
        UNROLL
        for (int c = 0; c < nt; c++) {
            uint32_t pair = (uint32_t)bs[j / 2 * nt + c];
            int16_t sum32 = (int16_t)(j % 2 ? pair >> 16 : pair & 0xffffU);
            UNROLL
            for (int q = 0; q < quads; q++) sum[q][c] = vmlal_n_s16(sum[q][c], min[q], sum32);
        }
    }
}

/* `quads` quads of a panel from number `quad` on. */
ALWAYS_INLINE void q45k_rows(float32x4_t (*y)[TR_NT_MAX], const uint8_t *panel,
                             const struct q45k_scales *s, const struct tr_a8_256 *a, bool high,
                             int quad, int quads, int nt)
{
    const size_t block_bytes = high ? 320 : 256;
    int_tile sum, mins;

    clear_ints(sum, quads, nt);
    for (int j = 0; j < 8; j++) {
        int32x4_t scale[QUADS];
        int_tile t;
        clear_ints(t, quads, nt);
        dot_n4(t, panel + 256 + block_bytes * (size_t)j + 16 * quad, a->q + 8 * j * nt, high, quads,
               nt);
        widen_u8(scale, s->sc[j] + 4 * quad, quads);
        add_scaled(sum, scale, t, quads, nt);
    }
    dot_mins(mins, s, a->bs, quad, quads, nt);
    UNROLL
    for (int q = 0; q < quads; q++) {
        const uint8_t *at = panel + 8 * (quad + q);
        float32x4_t d = load_halves(at), dmin = load_halves(at + 32);
        UNROLL
        for (int c = 0; c < nt; c++) {
            float32x4_t v = vmulq_f32(d, vcvtq_f32_s32(sum[q][c]));
            v = vfmsq_f32(v, dmin, vcvtq_f32_s32(mins[q][c]));
            y[q][c] = vfmaq_n_f32(y[q][c], v, a->a[c]);
        }
    }
}

ALWAYS_INLINE void gemm_q45k(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                             const void *act, size_t k, bool high, int nt)
{
    const struct tr_a8_256 view = tr_a8_256_view(act, k, (size_t)nt);
    const size_t panel_bytes = high ? 2816 : 2304;
    const int quads = QUADS_OF(nt);

    for (size_t g = 0; g < n_groups; g++) {
        struct tr_a8_256 a = view;
        float_tile y;
        clear_floats(y, nt);
        for (size_t p = 0; p < k / 256; p++, w += panel_bytes) {
            struct q45k_scales s;
            unpack_q45k_scales(&s, w + 64);
            for (int q = 0; q < QUADS; q += quads) q45k_rows(y + q, w, &s, &a, high, q, quads, nt);
            a.q += 64 * nt;
            a.a += nt;
            a.bs += 4 * nt;
        }
        store_floats(out + TR_ROWS * g, ldo, y, nt);
    }
}

static void gemm_q4_k(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                      size_t k, uint32_t nt)
{
#define CALL(n) gemm_q45k(out, ldo, w, n_groups, act, k, false, n)
    BY_COLUMNS(nt, CALL)
#undef CALL
}

static void gemm_q5_k(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                      size_t k, uint32_t nt)
{
#define CALL(n) gemm_q45k(out, ldo, w, n_groups, act, k, true, n)
    BY_COLUMNS(nt, CALL)
#undef CALL
}

/* ------------------------------------------------------------------- Q6_K */

#define Q6K_PANEL ((size_t)3328) /* bytes */

/* Int8 scales of a panel, one byte a row. */
typedef uint8_t q6k_planes[16][16];

ALWAYS_INLINE void unpack_q6k_scales(q6k_planes planes, const uint8_t *words)
{
    UNROLL
    for (int i = 0; i < 4; i++) {
        const uint8x16x4_t x = vld4q_u8(words + 64 * i);
        UNROLL
        for (int j = 0; j < 4; j++) vst1q_u8(planes[4 * i + j], x.val[j]);
    }
}

/* sum += scale x dots of 16 weights, whose zero point is in where the dots start (act.h). half 0:
 * steps 0..3, 1: steps 4..7. v: N4, H2 of the first quad; aq: words of the 16. */
ALWAYS_INLINE void add_half_q6k(int_tile sum, const uint8_t *plane, const uint8_t *v,
                                const int32_t *aq, const int32_t *z16, int half, int quads, int nt)
{
    int32x4_t scale[QUADS];
    int_tile t;

    UNROLL
    for (int c = 0; c < nt; c++) {
        int32x4_t zero = vdupq_n_s32(z16[c]);
        UNROLL
        for (int q = 0; q < quads; q++) t[q][c] = zero;
    }
    UNROLL
    for (int h = 0; h < 4; h++) {
        struct step_words w = load_words(aq + h * nt, nt);
        UNROLL
        for (int q = 0; q < quads; q++) {
            uint8x16_t x = vld1q_u8(v + 64 * h + 16 * q);
            uint8x16_t bits = vld1q_u8(v + 256 + 64 * half + 16 * q);
            x = half ? high_nibbles(x) : low_nibbles(x);
            add_columns(t[q], with_high_bits(x, bits, 4 - 2 * h, 0x30), w, nt);
        }
    }
    widen_s8(scale, plane, quads);
    add_scaled(sum, scale, t, quads, nt);
}

ALWAYS_INLINE void q6k_rows(float32x4_t (*y)[TR_NT_MAX], const uint8_t *panel, q6k_planes planes,
                            const uint8_t *d, const struct tr_a8_256 *a, int quad, int quads,
                            int nt)
{
    int_tile sum;

    clear_ints(sum, quads, nt);
    for (int j = 0; j < 8; j++) {
        const uint8_t *plane = planes[2 * j] + 4 * quad, *v = panel + 256 + 384 * j + 16 * quad;
        const int32_t *aq = a->q + 8 * j * nt, *z16 = a->z16 + 2 * j * nt;
        add_half_q6k(sum, plane, v, aq, z16, 0, quads, nt);
        add_half_q6k(sum, plane + 16, v, aq + 4 * nt, z16 + nt, 1, quads, nt);
    }
    UNROLL
    for (int q = 0; q < quads; q++) {
        float32x4_t scale = load_halves(d + 8 * (quad + q));
        UNROLL
        for (int c = 0; c < nt; c++) {
            float32x4_t v = vmulq_f32(scale, vcvtq_f32_s32(sum[q][c]));
            y[q][c] = vfmaq_n_f32(y[q][c], v, a->a[c]);
        }
    }
}

ALWAYS_INLINE void gemm_q6k(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                            const void *act, size_t k, int nt)
{
    const struct tr_a8_256 view = tr_a8_256_view(act, k, (size_t)nt);
    const size_t n_panels = k / 256;
    const int quads = QUADS_OF(nt);

    for (size_t g = 0; g < n_groups; g++) {
        const uint8_t *d = w;
        struct tr_a8_256 a = view;
        float_tile y;
        clear_floats(y, nt);
        w += tr_x16_scale_bytes(n_panels);
        for (size_t p = 0; p < n_panels; p++, w += Q6K_PANEL, d += 32) {
            q6k_planes planes;
            unpack_q6k_scales(planes, w);
            for (int q = 0; q < QUADS; q += quads) q6k_rows(y + q, w, planes, d, &a, q, quads, nt);
            a.q += 64 * nt;
            a.a += nt;
            a.z16 += 16 * nt;
        }
        store_floats(out + TR_ROWS * g, ldo, y, nt);
    }
}

static void gemm_q6_k(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                      size_t k, uint32_t nt)
{
#define CALL(n) gemm_q6k(out, ldo, w, n_groups, act, k, n)
    BY_COLUMNS(nt, CALL)
#undef CALL
}

#endif
