/* SPDX-License-Identifier: MIT */
/* Matrix products with weights in blocks of 32 (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0) for AVX-512 VNNI.
 * Formulas: docs/numerics.md. */
#if !defined(__AVX512VNNI__) || !defined(__AVX512BW__) || !defined(__AVX512VL__)
#error "compile this file for AVX-512 VNNI"
#endif

#include "gemm_zmm.h"

/* What distinguishes the formats; constants to the compiler. */
struct format {
    bool high, bytes, min; /* H1 follows N4; B8 instead of N4; m follows d */
    unsigned zero_log2;    /* the quant of weight 0 is 1 << zero_log2, where there is no m */
    size_t vectors;        /* bytes of quants per 16 x 32 weights */
};

/* t[c] = dot of one block less its zero point. */
ALWAYS_INLINE void dot_block(__m512i *t, const uint8_t *v, const int32_t *aq, const int32_t *ns,
                             struct format f, int nt)
{
    __m512i u[TR_NT_MAX], h1 = f.high ? load_vector(v + 256) : _mm512_setzero_si512();
    bool split = nt <= 4; /* two chains, where few columns do not hide the latency */
    UNROLL
    for (int c = 0; c < nt; c++) {
        t[c] = u[c] = _mm512_setzero_si512();
        if (!f.min) t[c] = _mm512_slli_epi32(_mm512_set1_epi32(ns[c]), f.zero_log2);
    }
    UNROLL
    for (int h = 0; h < 4; h++) {
        __m512i x = load_vector(v + 64 * h), lo, hi;
        if (f.bytes) {
            lo = x;
            hi = load_vector(v + 64 * (h + 4));
        } else {
            lo = low_nibbles(x);
            hi = high_nibbles(x);
        }
        if (f.high) lo = or_masked(lo, high_bit(h1, h), 0x10);
        if (f.high) hi = or_masked(hi, high_bit(h1, h + 4), 0x10);
        dot_step(t, lo, aq + h * nt, nt);
        dot_step(split ? u : t, hi, aq + (h + 4) * nt, nt);
    }
    if (!split) return;
    UNROLL
    for (int c = 0; c < nt; c++) t[c] = _mm512_add_epi32(t[c], u[c]);
}

ALWAYS_INLINE const uint8_t *group_legacy(float *out, size_t ldo, const uint8_t *w,
                                          const struct tr_a8_32 *act, size_t n_blocks,
                                          struct format f, int nt)
{
    struct tr_a8_32 a = *act;
    __m512 y[TR_NT_MAX];
    UNROLL
    for (int c = 0; c < nt; c++) y[c] = _mm512_setzero_ps();
    for (size_t first = 0; first < n_blocks; first += 8) {
        size_t nb = n_blocks - first < 8 ? n_blocks - first : 8;
        const uint8_t *ds = w, *ms = w + tr_x16_scale_bytes(nb);
        w = f.min ? ms + tr_x16_scale_bytes(nb) : ms;
        for (size_t b = 0; b < nb; b++) {
            __m512i t[TR_NT_MAX];
            __m512 d = load_halves(ds + 32 * b), m = f.min ? load_halves(ms + 32 * b) : d;
            if (nt <= 4) prefetch(w + 4096, f.vectors);
            dot_block(t, w, a.q, a.ns, f, nt);
            UNROLL
            for (int c = 0; c < nt; c++) {
                __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(a.a[c]));
                y[c] = _mm512_fmadd_ps(scale, _mm512_cvtepi32_ps(t[c]), y[c]);
                if (f.min) y[c] = _mm512_fmadd_ps(m, _mm512_set1_ps(a.as[c]), y[c]);
            }
            w += f.vectors;
            a.q += 8 * nt;
            a.a += nt;
            a.ns += nt;
            a.as += nt;
        }
    }
    UNROLL
    for (int c = 0; c < nt; c++) _mm512_storeu_ps(out + (size_t)c * ldo, y[c]);
    return w;
}

ALWAYS_INLINE void gemm(float *out, size_t ldo, const uint8_t *w, size_t n_groups, const void *act,
                        size_t k, struct format f, int nt)
{
    struct tr_a8_32 a = tr_a8_32_view(act, k, (size_t)nt);
    for (size_t g = 0; g < n_groups; g++) w = group_legacy(out + 16 * g, ldo, w, &a, k / 32, f, nt);
}

#define KERNEL(name, ...)                                                                          \
    static void name(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,      \
                     size_t k, uint32_t nt)                                                        \
    {                                                                                              \
        const struct format f = __VA_ARGS__;                                                       \
        BY_COLUMNS(nt, CALL)                                                                       \
    }
#define CALL(n) gemm(out, ldo, w, n_groups, act, k, f, n)

KERNEL(gemm_q4_0_avx512, {.zero_log2 = 3, .vectors = 256})
KERNEL(gemm_q4_1_avx512, {.min = true, .vectors = 256})
KERNEL(gemm_q5_0_avx512, {.high = true, .zero_log2 = 4, .vectors = 320})
KERNEL(gemm_q5_1_avx512, {.high = true, .min = true, .vectors = 320})
KERNEL(gemm_q8_0_avx512, {.bytes = true, .zero_log2 = 7, .vectors = 512})

static const struct tr_kernel kernels[] = {
    {"gemm_q4_0_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q4_0,
     TR_ACT_A8_32,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q4_0_avx512}},
    {"gemm_q4_1_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q4_1,
     TR_ACT_A8_32,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q4_1_avx512}},
    {"gemm_q5_0_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q5_0,
     TR_ACT_A8_32,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q5_0_avx512}},
    {"gemm_q5_1_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q5_1,
     TR_ACT_A8_32,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q5_1_avx512}},
    {"gemm_q8_0_avx512_16x8",
     TR_OP_GEMM,
     TRUENO_TYPE_Q8_0,
     TR_ACT_A8_32,
     TR_NT_MAX,
     CPU_AVX512,
     {.gemm = gemm_q8_0_avx512}},
};
const struct tr_kernel_table tr_table_gemm_legacy_avx512 = {kernels,
                                                            sizeof kernels / sizeof *kernels};
