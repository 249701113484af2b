/* SPDX-License-Identifier: MIT */
/* Q4_K, Q5_K and Q6_K products with the int8 matrix multiply extension. Formulas: docs/numerics.md.
 */
#if !defined(__ARM_FEATURE_MATMUL_INT8) || !defined(__ARM_FEATURE_DOTPROD)
#error "compile this file with -march=armv8.2-a+dotprod+i8mm"
#endif

#include "gemm_i8mm.h"
#include "gemm_kquant_neon.h"

/* Integer scales, as bytes twice each, to [r0 r0 r1 r1] for four row pairs. */
ALWAYS_INLINE void widen_pairs(int32x4_t *out, int8x16_t twice)
{
    int16x8_t low = vmovl_s8(vget_low_s8(twice)), high = vmovl_high_s8(twice);
    out[0] = vmovl_s16(vget_low_s16(low));
    out[1] = vmovl_high_s16(low);
    out[2] = vmovl_s16(vget_low_s16(high));
    out[3] = vmovl_high_s16(high);
}

/* sum += scale x t. plane: int8 scales of the first row. */
ALWAYS_INLINE void add_scaled_pairs(int32x4_t (*sum)[COL_PAIRS], const uint8_t *plane, int_pairs t,
                                    int n_rows, int np)
{
    int32x4_t scale[ROW_PAIRS];
    UNROLL
    for (int r = 0; r < n_rows; r += 4) {
        int8x8_t sc = vreinterpret_s8_u8(vld1_u8(plane + 2 * r));
        widen_pairs(scale + r, vcombine_s8(vzip1_s8(sc, sc), vzip2_s8(sc, sc)));
    }
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int p = 0; p < np; p++) sum[r][p] = vmlaq_s32(sum[r][p], t[r][p], scale[r]);
    }
}

/* ---------------------------------------------------------- Q4_K and Q5_K */

/* Sums of 32 of two columns, cut into bytes: |sum| <= 4064, so high is in [-32, 32]. */
ALWAYS_INLINE void pair_sums(struct pair_acts *x, const int32_t *bs, int nt)
{
    for (int p = 0; p < (nt + 1) / 2; p++) {
        int8x8_t low[2], high[2];
        for (int i = 0; i < 2; i++) {
            int c = 2 * p + i < nt ? 2 * p + i : 2 * p;
            int32_t words[4] = {bs[c], bs[nt + c], bs[2 * nt + c], bs[3 * nt + c]};
            int16x8_t sums = vreinterpretq_s16_s32(vld1q_s32(words));
            int16x8_t top = vrshrq_n_s16(sums, 7);
            high[i] = vmovn_s16(top);
            low[i] = vmovn_s16(vsubq_s16(sums, vshlq_n_s16(top, 7)));
        }
        x->bs_low[p] = vcombine_s8(low[0], low[1]);
        x->bs_high[p] = vcombine_s8(high[0], high[1]);
    }
}

/* Eight minimums of each row, two rows a register. */
ALWAYS_INLINE void pair_mins(uint8x16_t out[ROW_PAIRS], uint8_t m[8][16])
{
    uint16x8_t two[4][2]; /* minimums 2i and 2i + 1 of 8 rows */
    for (int i = 0; i < 4; i++) {
        uint8x16_t x = vld1q_u8(m[2 * i]), y = vld1q_u8(m[2 * i + 1]);
        two[i][0] = vreinterpretq_u16_u8(vzip1q_u8(x, y));
        two[i][1] = vreinterpretq_u16_u8(vzip2q_u8(x, y));
    }
    for (int half = 0; half < 2; half++) {
        uint32x4_t four[2][2]; /* minimums 4i to 4i + 3 of 4 rows */
        for (int i = 0; i < 2; i++) {
            uint16x8_t x = two[2 * i][half], y = two[2 * i + 1][half];
            four[i][0] = vreinterpretq_u32_u16(vzip1q_u16(x, y));
            four[i][1] = vreinterpretq_u32_u16(vzip2q_u16(x, y));
        }
        for (int i = 0; i < 2; i++) {
            uint8x16_t *o = out + 4 * half + 2 * i;
            o[0] = vreinterpretq_u8_u32(vzip1q_u32(four[0][i], four[1][i]));
            o[1] = vreinterpretq_u8_u32(vzip2q_u32(four[0][i], four[1][i]));
        }
    }
}

/* Scales of a panel. */
struct pair_scales {
    struct q45k_scales bytes;
    uint8x16_t mins[ROW_PAIRS];
};

/* n_rows row pairs of a panel from number `first` on. */
ALWAYS_INLINE void q45k_pairs(float32x4_t (*y)[COL_PAIRS], const uint8_t *panel,
                              const struct pair_scales *s, const struct pair_acts *x, bool high,
                              int first, int n_rows, int np)
{
    const size_t block_bytes = high ? 320 : 256;
    float32x4_t d[ROW_PAIRS], dmin[ROW_PAIRS];
    int_pairs sum;

    start_pairs(sum, NULL, n_rows, np);
    for (int j = 0; j < 8; j++) {
        int_pairs t;
        start_pairs(t, NULL, n_rows, np);
        pairs_n4(t, panel + 256 + block_bytes * (size_t)j + 8 * first, x->q + 4 * j, high, n_rows,
                 np);
        add_scaled_pairs(sum, s->bytes.sc[j] + 2 * first, t, n_rows, np);
    }
    pair_halves(d, panel + 4 * first, n_rows);
    pair_halves(dmin, panel + 32 + 4 * first, n_rows);
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            int32x4_t mins = vusmmlaq_s32(vdupq_n_s32(0), s->mins[first + r], x->bs_high[p]);
            mins = vusmmlaq_s32(vshlq_n_s32(mins, 7), s->mins[first + r], x->bs_low[p]);
            float32x4_t v = vmulq_f32(d[r], vcvtq_f32_s32(sum[r][p]));
            v = vfmsq_f32(v, dmin[r], vcvtq_f32_s32(mins));
            y[r][p] = vfmaq_f32(y[r][p], x->a[0][p], v);
        }
    }
}

ALWAYS_INLINE void q45k_panel(float_pairs y, const uint8_t *panel, const struct pair_acts *x,
                              bool high, int np)
{
    const int n_rows = ROW_PAIRS_OF(np);
    struct pair_scales s;
    unpack_q45k_scales(&s.bytes, panel + 64);
    pair_mins(s.mins, s.bytes.m);
    for (int r = 0; r < ROW_PAIRS; r += n_rows)
        q45k_pairs(y + r, panel, &s, x, high, r, n_rows, np);
}

/* ------------------------------------------------------------------- Q6_K */

/* As add_half_q6k. acts: of the 16 weights. */
ALWAYS_INLINE void add_half_pairs(int_pairs sum, const uint8_t *plane, const uint8_t *v,
                                  const int8x16_t (*acts)[COL_PAIRS], const int32x4_t *start,
                                  int half, int n_rows, int np)
{
    int_pairs t;
    start_pairs(t, start, n_rows, np);
    UNROLL
    for (int h = 0; h < 4; h += 2) {
        UNROLL
        for (int r = 0; r < n_rows; r++) {
            const uint8_t *at = v + 64 * h + 16 * (r / 2);
            const uint8_t *bits_at = v + 256 + 64 * half + 16 * (r / 2);
            uint8x16_t q = pair_rows(at, at + 64).rows[r % 2];
            uint8x16_t bits = pair_bits(bits_at, 2).rows[r % 2];
            q = half ? high_nibbles(q) : low_nibbles(q);
            add_pairs(t[r], with_high_bits(q, bits, 4 - 2 * h, 0x30), acts[h / 2], np);
        }
    }
    add_scaled_pairs(sum, plane, t, n_rows, np);
}

/* d: scales of the first row pair. */
ALWAYS_INLINE void q6k_pairs(float32x4_t (*y)[COL_PAIRS], const uint8_t *panel, q6k_planes planes,
                             const uint8_t *d, const struct pair_acts *x, int first, int n_rows,
                             int np)
{
    float32x4_t scale[ROW_PAIRS];
    int_pairs sum;

    start_pairs(sum, NULL, n_rows, np);
    for (int j = 0; j < 8; j++) {
        const uint8_t *plane = planes[2 * j] + 2 * first, *v = panel + 256 + 384 * j + 8 * first;
        add_half_pairs(sum, plane, v, x->q + 4 * j, x->start[2 * j], 0, n_rows, np);
        add_half_pairs(sum, plane + 16, v, x->q + 4 * j + 2, x->start[2 * j + 1], 1, n_rows, np);
    }
    pair_halves(scale, d, n_rows);
    UNROLL
    for (int r = 0; r < n_rows; r++) {
        UNROLL
        for (int p = 0; p < np; p++) {
            float32x4_t v = vmulq_f32(scale[r], vcvtq_f32_s32(sum[r][p]));
            y[r][p] = vfmaq_f32(y[r][p], x->a[0][p], v);
        }
    }
}

ALWAYS_INLINE void q6k_panel(float_pairs y, const uint8_t *panel, const uint8_t *d,
                             const struct pair_acts *x, int np)
{
    const int n_rows = ROW_PAIRS_OF(np);
    q6k_planes planes;
    unpack_q6k_scales(planes, panel);
    for (int r = 0; r < ROW_PAIRS; r += n_rows)
        q6k_pairs(y + r, panel, planes, d + 4 * r, x, r, n_rows, np);
}

/* ---------------------------------------------------------------- driver */

/* Constant where it is used. */
struct kquant_format {
    bool high; /* Q5_K */
    bool q6;   /* Q6_K: d of all panels before the panels, a zero point, no minimums */
    size_t panel_bytes;
};

ALWAYS_INLINE void pair_panel(struct pair_acts *x, const struct tr_a8_256 *a, bool q6, int nt)
{
    pair_steps(x->q, a->q, 64, nt);
    for (int p = 0; p < (nt + 1) / 2; p++) {
        x->a[0][p] = pair_floats(a->a, p, nt);
        for (int i = 0; q6 && i < 16; i++) x->start[i][p] = pair_ints(a->z16 + i * nt, p, nt);
    }
    if (!q6) pair_sums(x, a->bs, nt);
}

/* n <= CHUNK row groups. */
ALWAYS_INLINE void kquant_chunk(float *out, size_t ldo, const uint8_t *w, size_t group_bytes,
                                size_t n, const void *act, size_t k, struct kquant_format f, int nt,
                                int np)
{
    const size_t n_panels = k / 256, header = f.q6 ? tr_x16_scale_bytes(n_panels) : 0;
    struct tr_a8_256 a = tr_a8_256_view(act, k, (size_t)nt);
    struct pair_acts x;
    float_pairs y[CHUNK];

    for (size_t g = 0; g < n; g++) clear_pairs(y[g]);
    for (size_t p = 0; p < n_panels; p++) {
        pair_panel(&x, &a, f.q6, nt);
        for (size_t g = 0; g < n; g++) {
            const uint8_t *group = w + g * group_bytes, *panel = group + header + p * f.panel_bytes;
            if (f.q6)
                q6k_panel(y[g], panel, group + 32 * p, &x, np);
            else
                q45k_panel(y[g], panel, &x, f.high, np);
        }
        a.q += 64 * nt;
        a.a += nt;
        a.bs += 4 * nt;
        a.z16 += 16 * nt;
    }
    for (size_t g = 0; g < n; g++) store_pairs(out + TR_ROWS * g, ldo, y[g], nt);
}

ALWAYS_INLINE void gemm_pairs(float *out, size_t ldo, const uint8_t *w, size_t n_groups,
                              const void *act, size_t k, struct kquant_format f, int nt, int np)
{
    const size_t group_bytes = (f.q6 ? tr_x16_scale_bytes(k / 256) : 0) + k / 256 * f.panel_bytes;
    for (size_t g = 0; g < n_groups; g += CHUNK) {
        size_t n = n_groups - g < CHUNK ? n_groups - g : CHUNK;
        kquant_chunk(out + TR_ROWS * g, ldo, w + g * group_bytes, group_bytes, n, act, k, f, nt,
                     np);
    }
}

#define PAIRS_CALL(n) gemm_pairs(out, ldo, w, n_groups, act, k, f, (int)nt, n)
#define PAIRS_KERNEL(name, min_columns, few, ...)                                                  \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        const struct kquant_format f = __VA_ARGS__;                                                \
        if (nt < (min_columns))                                                                    \
            few(out, ldo, w, n_groups, act, k, nt);                                                \
        else                                                                                       \
            BY_PAIRS(nt, PAIRS_CALL)                                                               \
    }

PAIRS_KERNEL(gemm_q4_k_i8mm, 4, gemm_q4_k, {.panel_bytes = 2304})
PAIRS_KERNEL(gemm_q5_k_i8mm, 4, gemm_q5_k, {.high = true, .panel_bytes = 2816})
PAIRS_KERNEL(gemm_q6_k_i8mm, 6, gemm_q6_k, {.q6 = true, .panel_bytes = Q6K_PANEL})

static const struct tr_kernel kernels[] = {
    TR_GEMM_ROW("gemm_q4_k_i8mm_16x8", Q4_K, A8_256, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q4_k_i8mm),
    TR_GEMM_ROW("gemm_q5_k_i8mm_16x8", Q5_K, A8_256, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q5_k_i8mm),
    TR_GEMM_ROW("gemm_q6_k_i8mm_16x8", Q6_K, A8_256, TR_ROWS *CHUNK, 0, CPU_I8MM, gemm_q6_k_i8mm),
};
const struct tr_kernel_table tr_table_gemm_kquant_i8mm = {kernels,
                                                          sizeof kernels / sizeof *kernels};
