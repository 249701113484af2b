/* SPDX-License-Identifier: MIT */
/* The registry: one list of all kernels. Dispatch, checker, benchmark and tuner read it; adding a
 * kernel is one function and one row of its file's table.
 *
 * Every ISA file (NAME_avx512.c, ...) holds only static functions and exports one const table of
 * struct tr_kernel; registry.c strings the tables together, slowest first. All kernels here are of
 * numerics class E: they give the bits of the C reference. */
#ifndef TR_KERNEL_H
#define TR_KERNEL_H

#include "trueno/gguf.h"

enum tr_op {
    TR_OP_GEMM,     /* packed weights x packed activations */
    TR_OP_QUANTIZE, /* float activations -> packed activations; dtype tells nothing, act does */
    TR_OP_RMSNORM,
    TR_OP_SWIGLU, /* silu(gate) * up */
    TR_OP_GEGLU,  /* gelu_tanh(gate) * up */
    TR_OP_ROPE_NORM,
    TR_OP_ROPE_NEOX,
    TR_OP_KV_STORE,   /* dtype F32, F16, BF16 or Q8_0: the cache's type */
    TR_OP_ATTENTION,  /* dtype as of KV_STORE */
    TR_OP_ATTN_MERGE, /* running softmax */
    TR_OP_COUNT
};

/* How a gemm kernel sees activations; see act.h. */
enum tr_act { TR_ACT_NONE, TR_ACT_F32, TR_ACT_A8_256, TR_ACT_A8_32, TR_ACT_COUNT };

/* dtype of kernels that have none. */
#define TR_TYPE_NONE TRUENO_TYPE_COUNT

/* Most columns of one tile. */
#define TR_NT_MAX 8
/* Most queries of one attention call. */
#define TR_ATTN_QUERIES 8
/* Most weights of a block. */
#define TR_BLOCK_BYTES_MAX ((size_t)384 << 10)
/* Positions per attention chunk; chunks are aligned to absolute positions. */
#define TR_ATTN_CHUNK 256

/* out[c * ldo + 16 * g + r] = dot of row r of row group g with column c, for g < n_groups, c < nt.
 * w: n_groups packed row groups (x16.h). act: one tile of nt <= 8 columns (act.h). k: row length.
 * Writes 16 * n_groups floats per column. */
typedef void (*tr_gemm_fn)(float *out, size_t ldo, const void *w, size_t n_groups, const void *act,
                           size_t k, uint32_t nt);

/* A product with many columns in one call: what kernels do that would rather not see tiles.
 * out[c * ldo + r] for r < n_rows, c < n_cols; no other float is written. w: the packed groups of
 * those rows. acts: all tiles of the columns, as the driver cuts them (act.h). scratch:
 * scratch_bytes of the kernel's row, one per thread. */
struct tr_gemm_wide {
    float *out;
    size_t ldo;
    const void *w;
    size_t n_rows;
    const void *acts;
    size_t k, n_cols;
    uint32_t tile_width;
    void *scratch;
};
typedef void (*tr_gemm_wide_fn)(const struct tr_gemm_wide *a);

/* Packs nt <= 8 columns of k floats, ldx floats apart, into one tile (act.h). */
typedef void (*tr_quantize_fn)(void *tile, const float *x, size_t ldx, size_t k, uint32_t nt);

/* y = (x * (1 / sqrt(mean(x^2) + eps))) * w over n elements. The sum of squares runs in R32 order:
 * element i is added by fma to partial i mod 32; then p[j] += p[j + h] for h = 16, 8, 4, 2, 1.
 * y may be x. */
typedef void (*tr_rmsnorm_fn)(float *y, const float *x, const float *w, size_t n, float eps);

/* y[i] = f(gate[i]) * up[i]; y may be gate or up. */
typedef void (*tr_glu_fn)(float *y, const float *gate, const float *up, size_t n);

/* Rotates n_pairs pairs in place: (a, b) -> (a*cos - b*sin, a*sin + b*cos), plain products and sums
 * without fma. NORM: pairs (2i, 2i+1); NEOX: pairs (i, i + n_pairs). */
typedef void (*tr_rope_fn)(float *x, const float *cos, const float *sin, size_t n_pairs);

/* KV cache of one layer and KV head, for n_ctx positions (a multiple of 16). n positions take
 * n * trueno_row_bytes(type, head_dim) bytes for K and as many for V. In F32, F16 and BF16
 *   K in panels of 16 positions: element d of position p at k[((p / 16) * head_dim + d) * 16 +
 * p%16] V in rows:                   element d of position p at v[p * head_dim + d] rounded to
 * nearest even. In Q8_0 (head_dim a multiple of 32) an element is scale * q, exactly; the 32
 * elements of a block b = d / 32 of a position share the scale, an f16: K panel: for every block:
 * f16 scale[16], int8 q[32][16] (544 bytes); last index: p % 16 V row:   f16 scale[head_dim / 32],
 * int8 q[head_dim] scale = f16(largest |x| / 127), q = rint(x * (1 / scale)) within +-127; 0 if
 * scale is 0. A block whose scale is not finite, NaN or infinity among its x included, has scale
 * NaN and q = 0. Stores key and value of position pos. */
typedef void (*tr_kv_store_fn)(void *k_cache, void *v_cache, const float *k, const float *v,
                               size_t pos, size_t head_dim);

/* Attention of up to TR_ATTN_QUERIES queries of one KV head over one chunk of positions.
 * For query i, visible positions are [lo[i], hi[i]), inside one aligned chunk of TR_ATTN_CHUNK;
 * none if lo[i] >= hi[i]: then max[i] = -inf, sum[i] = 0, out[i] = 0. Others are never read.
 *   s_p    = scale * (fma chain over d ascending of k[p][d] * q[i][d]), from +0
 *   s_p    = cap * tanh(s_p / cap) if cap > 0
 *   max[i] = largest s_p, NaN passed over, +0 if zero;  e_p = exp(s_p - max[i]) (tr_expf, math.h)
 *   sum[i] = sum of e_p in R32 order (index p mod 32; plain additions)
 *   out[i][d] = fma chain over ascending p of e_p * v[p][d], from +0
 * k[p][d] and v[p][d] are the cache's elements as float32. head_dim is a multiple of 8 (Q8_0: 32)
 * up to 4096. */
struct tr_attn_args {
    const void *k_cache, *v_cache; /* of the layer and KV head, from position 0 */
    size_t head_dim;
    float scale, cap;
    bool cold; /* keys and values are expected in memory, not in a cache: a hint */
    uint32_t n_q;
    const float *q[TR_ATTN_QUERIES]; /* [head_dim] each */
    uint32_t lo[TR_ATTN_QUERIES], hi[TR_ATTN_QUERIES];
    float max[TR_ATTN_QUERIES], sum[TR_ATTN_QUERIES]; /* results */
    float *out[TR_ATTN_QUERIES];                      /* [head_dim] each */
};
typedef void (*tr_attn_fn)(struct tr_attn_args *a);

/* Merges the results of one chunk into the running softmax of its queries: max[i], sum[i] and
 * acc + i * head_dim are those of query i over the chunks before. With (M, S, A) the running values
 * and (m, s, o) the chunk's, for queries that see something of it:
 *   S == 0: (m, s, o)
 *   m > M:  r = exp(M - m): (m, S * r + s, A * r + o)
 *   else:   r = exp(m - M): (M, S + s * r, A + o * r)
 * by plain products and sums. Chunks are merged in ascending order. acc does not overlap out. */
typedef void (*tr_attn_merge_fn)(float *max, float *sum, float *acc, const struct tr_attn_args *a);

union tr_fn {
    tr_gemm_fn gemm;
    tr_gemm_wide_fn gemm_wide; /* of rows that have `fits` */
    tr_quantize_fn quantize;
    tr_rmsnorm_fn rmsnorm;
    tr_glu_fn glu;
    tr_rope_fn rope;
    tr_kv_store_fn kv_store;
    tr_attn_fn attention;
    tr_attn_merge_fn attn_merge;
};

/* What a chooser may take for another: exact kernels give the bits of the C reference, reordered
 * ones add the same products in another, fixed order. */
enum tr_numerics { TR_EXACT, TR_REORDERED };

/* Labels of kernel families; numbers are frozen, a tuning file may hold them. A gemm kernel that
 * serves few and many columns carries the first number of its pair. */
enum tr_family {
    TR_FAMILY_Q4_K = 2,
    TR_FAMILY_RMSNORM = 10,
    TR_FAMILY_VECTOR_RMSNORM = 11,
    TR_FAMILY_GENERIC = 14,
    TR_FAMILY_Q5_K = 16,
    TR_FAMILY_Q6_K = 18,
    TR_FAMILY_Q8_0 = 20,
    TR_FAMILY_Q4_0 = 22,
    TR_FAMILY_Q4_1 = 24,
    TR_FAMILY_Q5_0 = 26,
    TR_FAMILY_Q5_1 = 28,
    TR_FAMILY_F16 = 30,
    TR_FAMILY_BF16 = 32,
    TR_FAMILY_F32 = 34,
    TR_FAMILY_DEQUANT_BLAS = 36,
    TR_FAMILY_ATTENTION = 39,
    TR_FAMILY_COUNT
};

/* What a wide product is asked to do. */
struct tr_gemm_shape {
    size_t n_cols, ldo;
};

struct tr_kernel {
    const char *name; /* unique and stable: "gemm_q4_k_avx512_16x8" */
    enum tr_op op;
    trueno_dtype dtype; /* weight or cache format; TR_TYPE_NONE if the op has none */
    enum tr_act act;    /* gemm: what it reads; quantize: what it writes; else NONE */
    enum tr_numerics numerics;
    enum tr_family family;
    uint32_t nt_max;         /* gemm, quantize: most columns per call; 0: any number */
    uint32_t nt_best;        /* quantize: columns per call that suit products on such a CPU best */
    uint32_t tile_rows;      /* gemm: weight rows per pass over nt_max columns */
    uint32_t prefetch_bytes; /* gemm: how far ahead weights are fetched; 0: left to the CPU */
    uint32_t unit_bytes;  /* gemm: weights that a thread takes at a time where each is used once */
    uint32_t block_bytes; /* gemm: weights that stay in the L2 cache while all tiles of activations
                             pass; at most TR_BLOCK_BYTES_MAX */
    uint32_t cpu;         /* every trueno_cpu_feature bit it needs; 0 = C reference */
    size_t scratch_bytes; /* wide gemm: memory of each thread */
    bool (*fits)(const struct tr_gemm_shape *shape); /* wide gemm: false leaves it to tiles */
    const char *(*missing)(void); /* what it needs beside the CPU and has not; NULL: nothing */
    union tr_fn fn;
};

/* Table of one file. */
struct tr_kernel_table {
    const struct tr_kernel *kernels;
    size_t count;
};

/* All kernels of this build; NULL past the end. */
const struct tr_kernel *tr_kernel_at(size_t index);

/* The kernel whose name is the `len` bytes at `name`; NULL if this build has none. */
const struct tr_kernel *tr_kernel_named(const char *name, size_t len);

/* True for kernels of the op and type (and act, for QUANTIZE). */
bool tr_kernel_serves(const struct tr_kernel *k, enum tr_op op, trueno_dtype type, enum tr_act act);

/* The last exact kernel of the op and type (and act, for QUANTIZE) whose needs are in `features`;
 * NULL if there is none. */
const struct tr_kernel *tr_kernel_find(uint32_t features, enum tr_op op, trueno_dtype type,
                                       enum tr_act act);

/* What a context uses: the kernel that its list of names asks for, else the last one that its
 * features and its numerics allow. `wide`, NULL for ops other than gemm: the kernel that takes over
 * for the shapes that fit it, or NULL if there is none; it reads the same activations.
 * ERR_ARGUMENT if the list holds a name that is unknown or cannot run here; ERR_UNSUPPORTED if no
 * kernel does it. */
trueno_status tr_kernel_choose(const struct tr_kernel **out, const struct tr_kernel **wide,
                               const trueno_ctx *ctx, enum tr_op op, trueno_dtype type,
                               enum tr_act act, trueno_error *err);

/* True if the context's list of names asks for k. */
bool tr_kernel_is_named(const trueno_ctx *ctx, const struct tr_kernel *k);

/* Most columns of a tile where there are several (act.h): nt_best of the context's packing kernels,
 * the least of them, so that all products of a context cut alike. */
uint32_t tr_tile_width(const trueno_ctx *ctx);

#endif
