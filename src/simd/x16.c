/* SPDX-License-Identifier: MIT */
/* Packing block rows into the X16 layout (x16.h) and taking them out again.
 *
 * Both directions go through eight words per row and 32 weights: word s holds the four quants of
 * step s, one a byte. That is where the element order of a GGUF block and that of a panel meet. */
#include "x16.h"

#include <string.h>

#include "quant/quant.h"

static uint32_t load32(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

static void store32(uint8_t *p, uint32_t w)
{
    memcpy(p, &w, sizeof w);
}

/* Bit i of n (i < 4) to bit 0 of byte i, and back. The shifted copies do not overlap. */
static uint32_t spread4(uint32_t n)
{
    return (n & 15U) * 0x00204081U & 0x01010101U;
}

static uint32_t gather4(uint32_t w)
{
    return (w & 0x01010101U) * 0x01020408U >> 24 & 15U;
}

/* ---------------------------------------------- quants of a block, in GGUF order */

static void read_nibbles(uint32_t w[8], const uint8_t *qs)
{
    for (size_t s = 0; s < 4; s++) {
        uint32_t x = load32(qs + 4 * s);
        w[s] = x & 0x0f0f0f0fU;
        w[s + 4] = x >> 4 & 0x0f0f0f0fU;
    }
}

static void write_nibbles(uint8_t *qs, const uint32_t w[8])
{
    for (size_t s = 0; s < 4; s++)
        store32(qs + 4 * s, (w[s] & 0x0f0f0f0fU) | (w[s + 4] & 0x0f0f0f0fU) << 4);
}

static void read_qh(uint32_t w[8], const uint8_t *qh)
{
    uint32_t bits = load32(qh);
    for (size_t s = 0; s < 8; s++) w[s] |= spread4(bits >> 4 * s) << 4;
}

static void write_qh(uint8_t *qh, const uint32_t w[8])
{
    uint32_t bits = 0;
    for (size_t s = 0; s < 8; s++) bits |= gather4(w[s] >> 4) << 4 * s;
    store32(qh, bits);
}

/* A run of 32 bytes that hold `mask` << `shift` of 32 weights: those bits become bits
 * `to`, `to` + 1, ... of the quants. */
static void read_bits(uint32_t w[8], const uint8_t *p, uint32_t mask, size_t shift, size_t to)
{
    for (size_t s = 0; s < 8; s++) w[s] |= (load32(p + 4 * s) >> shift & mask) << to;
}

/* Adds the bits to bytes that begin as zero. */
static void write_bits(uint8_t *p, const uint32_t w[8], uint32_t mask, size_t shift, size_t to)
{
    for (size_t s = 0; s < 8; s++)
        store32(p + 4 * s, load32(p + 4 * s) | (w[s] >> to & mask) << shift);
}

#define BIT1 0x01010101U
#define BIT2 0x03030303U
#define BIT4 0x0f0f0f0fU

/* The 32 weights j of a block, j = 0 in the 32-formats, 0..7 in the K-quants. */
static void read_quants(uint32_t w[8], const uint8_t *block, trueno_dtype t, size_t j)
{
    memset(w, 0, 8 * sizeof *w);
    switch (t) {
    case TRUENO_TYPE_Q4_0: read_nibbles(w, block + 2); break;
    case TRUENO_TYPE_Q4_1: read_nibbles(w, block + 4); break;
    case TRUENO_TYPE_Q5_0:
        read_nibbles(w, block + 6);
        read_qh(w, block + 2);
        break;
    case TRUENO_TYPE_Q5_1:
        read_nibbles(w, block + 8);
        read_qh(w, block + 4);
        break;
    case TRUENO_TYPE_Q8_0:
        for (size_t s = 0; s < 8; s++) w[s] = load32(block + 2 + 4 * s) ^ 0x80808080U;
        break;
    case TRUENO_TYPE_Q4_K: read_bits(w, block + 16 + 32 * (j / 2), BIT4, 4 * (j & 1), 0); break;
    case TRUENO_TYPE_Q5_K:
        read_bits(w, block + 48 + 32 * (j / 2), BIT4, 4 * (j & 1), 0);
        read_bits(w, block + 16, BIT1, j, 4);
        break;
    case TRUENO_TYPE_Q6_K:
        read_bits(w, block + 64 * (j / 4) + 32 * (j & 1), BIT4, 4 * (j / 2 & 1), 0);
        read_bits(w, block + 128 + 32 * (j / 4), BIT2, 2 * (j & 3), 4);
        break;
    default: break;
    }
}

/* The block's quants begin as zero bytes. */
static void write_quants(uint8_t *block, const uint32_t w[8], trueno_dtype t, size_t j)
{
    switch (t) {
    case TRUENO_TYPE_Q4_0: write_nibbles(block + 2, w); break;
    case TRUENO_TYPE_Q4_1: write_nibbles(block + 4, w); break;
    case TRUENO_TYPE_Q5_0:
        write_nibbles(block + 6, w);
        write_qh(block + 2, w);
        break;
    case TRUENO_TYPE_Q5_1:
        write_nibbles(block + 8, w);
        write_qh(block + 4, w);
        break;
    case TRUENO_TYPE_Q8_0:
        for (size_t s = 0; s < 8; s++) store32(block + 2 + 4 * s, w[s] ^ 0x80808080U);
        break;
    case TRUENO_TYPE_Q4_K: write_bits(block + 16 + 32 * (j / 2), w, BIT4, 4 * (j & 1), 0); break;
    case TRUENO_TYPE_Q5_K:
        write_bits(block + 48 + 32 * (j / 2), w, BIT4, 4 * (j & 1), 0);
        write_bits(block + 16, w, BIT1, j, 4);
        break;
    case TRUENO_TYPE_Q6_K:
        write_bits(block + 64 * (j / 4) + 32 * (j & 1), w, BIT4, 4 * (j / 2 & 1), 0);
        write_bits(block + 128 + 32 * (j / 4), w, BIT2, 2 * (j & 3), 4);
        break;
    default: break;
    }
}

/* ---------------------------------------------- quants of a lane, in vectors of 16 rows */

/* What follows N4: nothing, H1 or H2; or B8 instead of N4. */
enum quant_vectors { N4, N4_H1, N4_H2, B8 };

static enum quant_vectors vectors_of(trueno_dtype t)
{
    switch (t) {
    case TRUENO_TYPE_Q8_0: return B8;
    case TRUENO_TYPE_Q5_0:
    case TRUENO_TYPE_Q5_1:
    case TRUENO_TYPE_Q5_K: return N4_H1;
    case TRUENO_TYPE_Q6_K: return N4_H2;
    default: return N4;
    }
}

/* Bytes per 16 rows x 32 weights. */
static size_t vector_bytes(trueno_dtype t)
{
    static const uint8_t count[] = {[N4] = 4, [N4_H1] = 5, [N4_H2] = 6, [B8] = 8};
    return (size_t)64 * count[vectors_of(t)];
}

/* Writes one row's 32 quants into its lane; v points to the lane's dword of the first vector. */
static void put_lane(uint8_t *v, const uint32_t w[8], trueno_dtype t)
{
    enum quant_vectors kind = vectors_of(t);
    if (kind == B8) {
        for (size_t s = 0; s < 8; s++) store32(v + 64 * s, w[s]);
        return;
    }
    for (size_t h = 0; h < 4; h++) store32(v + 64 * h, (w[h] & BIT4) | (w[h + 4] & BIT4) << 4);
    if (kind == N4_H1) {
        uint32_t bits = 0;
        for (size_t s = 0; s < 8; s++) bits |= (w[s] >> 4 & BIT1) << s;
        store32(v + 256, bits);
    } else if (kind == N4_H2) {
        for (size_t g = 0; g < 2; g++) {
            uint32_t bits = 0;
            for (size_t i = 0; i < 4; i++) bits |= (w[4 * g + i] >> 4 & BIT2) << 2 * i;
            store32(v + 256 + 64 * g, bits);
        }
    }
}

static void get_lane(uint32_t w[8], const uint8_t *v, trueno_dtype t)
{
    enum quant_vectors kind = vectors_of(t);
    if (kind == B8) {
        for (size_t s = 0; s < 8; s++) w[s] = load32(v + 64 * s);
        return;
    }
    for (size_t h = 0; h < 4; h++) {
        uint32_t x = load32(v + 64 * h);
        w[h] = x & BIT4;
        w[h + 4] = x >> 4 & BIT4;
    }
    if (kind == N4_H1) {
        for (size_t s = 0; s < 8; s++) w[s] |= (load32(v + 256) >> s & BIT1) << 4;
    } else if (kind == N4_H2) {
        for (size_t s = 0; s < 8; s++)
            w[s] |= (load32(v + 256 + 64 * (s / 4)) >> 2 * (s % 4) & BIT2) << 4;
    }
}

/* ---------------------------------------------- scales and panels */

/* Where a block keeps its scales, in bytes from its start. */
struct fields {
    uint8_t d, m;             /* f16 */
    uint8_t planes, n_planes; /* one byte each */
};

static struct fields fields_of(trueno_dtype t)
{
    switch (t) {
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K: return (struct fields){0, 2, 4, 12};
    case TRUENO_TYPE_Q6_K: return (struct fields){208, 0, 192, 16};
    default: return (struct fields){0, 2, 0, 0};
    }
}

/* Sections of a panel. */
struct panel {
    uint8_t *d, *m; /* f16 [block][16]; m NULL if the format has none */
    uint8_t *planes;
    uint8_t *quants;
};

/* Header and quants of a panel of nb 32-blocks, in bytes. */
static size_t header_bytes(trueno_dtype t, size_t nb)
{
    switch (t) {
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K:
    case TRUENO_TYPE_Q6_K: return 256;
    case TRUENO_TYPE_Q4_1:
    case TRUENO_TYPE_Q5_1: return 2 * tr_x16_scale_bytes(nb);
    default: return tr_x16_scale_bytes(nb);
    }
}

static size_t panel_bytes(trueno_dtype t, size_t nb)
{
    return header_bytes(t, nb) + nb * vector_bytes(t);
}

/* Panel p, of nb 32-blocks, in a group of k columns. */
static struct panel panel_at(uint8_t *group, trueno_dtype t, size_t k, size_t p, size_t nb)
{
    uint8_t *base = group + p * panel_bytes(t, 8);
    struct panel v = {base, NULL, NULL, NULL};

    if (t == TRUENO_TYPE_Q6_K) {
        base += tr_x16_scale_bytes(k / 256);
        v.d = group + 32 * p;
        v.planes = base;
    } else if (t == TRUENO_TYPE_Q4_K || t == TRUENO_TYPE_Q5_K) {
        v.m = base + 32;
        v.planes = base + 64;
    } else if (t == TRUENO_TYPE_Q4_1 || t == TRUENO_TYPE_Q5_1) {
        v.m = base + tr_x16_scale_bytes(nb);
    }
    v.quants = base + header_bytes(t, nb);
    return v;
}

/* ---------------------------------------------- rows of blocks */

static void pack_block(const struct panel *v, size_t b, size_t r, const uint8_t *block,
                       trueno_dtype t)
{
    struct fields f = fields_of(t);
    size_t n_runs = f.n_planes ? 8 : 1;
    uint32_t w[8];

    memcpy(v->d + 32 * b + 2 * r, block + f.d, 2);
    if (v->m) memcpy(v->m + 32 * b + 2 * r, block + f.m, 2);
    for (size_t i = 0; i < f.n_planes; i++) v->planes[16 * i + r] = block[f.planes + i];
    for (size_t j = 0; j < n_runs; j++) {
        read_quants(w, block, t, j);
        put_lane(v->quants + (b + j) * vector_bytes(t) + 4 * r, w, t);
    }
}

static void unpack_block(uint8_t *block, const struct panel *v, size_t b, size_t r, trueno_dtype t)
{
    struct fields f = fields_of(t);
    size_t n_runs = f.n_planes ? 8 : 1;
    uint32_t w[8];

    memset(block, 0, trueno_dtype_get_info(t)->block_bytes);
    memcpy(block + f.d, v->d + 32 * b + 2 * r, 2);
    if (v->m) memcpy(block + f.m, v->m + 32 * b + 2 * r, 2);
    for (size_t i = 0; i < f.n_planes; i++) block[f.planes + i] = v->planes[16 * i + r];
    for (size_t j = 0; j < n_runs; j++) {
        get_lane(w, v->quants + (b + j) * vector_bytes(t) + 4 * r, t);
        write_quants(block, w, t, j);
    }
}

static size_t blocks_of_panel(trueno_dtype t, size_t nb)
{
    return fields_of(t).n_planes ? 1 : nb;
}

static size_t panel_blocks(size_t k, size_t p)
{
    size_t left = (k - 256 * p) / 32;
    return left < 8 ? left : 8;
}

static void pack_blocks(uint8_t *group, const uint8_t *rows, size_t row_bytes, size_t n_rows,
                        trueno_dtype t, size_t k)
{
    size_t block_bytes = trueno_dtype_get_info(t)->block_bytes;
    size_t offset = 0;
    for (size_t p = 0; 256 * p < k; p++) {
        size_t nb = panel_blocks(k, p);
        size_t n = blocks_of_panel(t, nb);
        struct panel v = panel_at(group, t, k, p, nb);
        for (size_t r = 0; r < n_rows; r++) {
            const uint8_t *block = rows + r * row_bytes + offset;
            for (size_t b = 0; b < n; b++) pack_block(&v, b, r, block + b * block_bytes, t);
        }
        offset += n * block_bytes;
    }
}

static void unpack_blocks(uint8_t *row, const uint8_t *group, size_t r, trueno_dtype t, size_t k)
{
    size_t block_bytes = trueno_dtype_get_info(t)->block_bytes;
    for (size_t p = 0; 256 * p < k; p++) {
        size_t nb = panel_blocks(k, p);
        /* read only: the cast serves the one description of a panel */
        struct panel v = panel_at((uint8_t *)group, t, k, p, nb);
        for (size_t b = 0; b < blocks_of_panel(t, nb); b++, row += block_bytes)
            unpack_block(row, &v, b, r, t);
    }
}

/* ---------------------------------------------- plain numbers */

static void pack_f32(uint8_t *group, const uint8_t *row, size_t r, size_t k)
{
    for (size_t i = 0; i < k; i++) store32(group + 64 * i + 4 * r, load32(row + 4 * i));
}

/* Q2_K and Q3_K. */
static void pack_decoded(uint8_t *group, const uint8_t *row, size_t r, trueno_dtype t, size_t k)
{
    float x[TR_QKK];
    size_t block_bytes = trueno_dtype_get_info(t)->block_bytes;
    for (size_t i = 0; i < k; i += TR_QKK, row += block_bytes) {
        tr_dequantize_row(x, row, t, TR_QKK);
        pack_f32(group + 64 * i, (const uint8_t *)x, r, TR_QKK);
    }
}

/* Place of element i of row r in a group of 16-bit numbers. */
static size_t half_place(trueno_dtype t, size_t i, size_t r)
{
    if (t == TRUENO_TYPE_F16) return 32 * i + 2 * r;
    return 64 * (i / 2) + 4 * r + 2 * (i % 2);
}

static void pack_halves(uint8_t *group, const uint8_t *row, size_t r, trueno_dtype t, size_t k)
{
    for (size_t i = 0; i < k; i++) memcpy(group + half_place(t, i, r), row + 2 * i, 2);
}

/* ---------------------------------------------- the calls */

trueno_dtype tr_x16_type(trueno_dtype t)
{
    return t == TRUENO_TYPE_Q2_K || t == TRUENO_TYPE_Q3_K ? TRUENO_TYPE_F32 : t;
}

size_t tr_x16_group_bytes(trueno_dtype t, size_t k)
{
    switch (tr_x16_type(t)) {
    case TRUENO_TYPE_F32: return 64 * k;
    case TRUENO_TYPE_F16:
    case TRUENO_TYPE_BF16: return 32 * (k + k % 2);
    case TRUENO_TYPE_Q6_K: return tr_x16_scale_bytes(k / 256) + k / 256 * panel_bytes(t, 8);
    default: return k / 256 * panel_bytes(t, 8) + panel_bytes(t, k % 256 / 32) * (k % 256 != 0);
    }
}

void tr_x16_pack(void *group, const void *rows, size_t row_bytes, size_t n_rows, trueno_dtype t,
                 size_t k)
{
    uint8_t *out = group;
    const uint8_t *in = rows;

    memset(group, 0, tr_x16_group_bytes(t, k));
    switch (t) {
    case TRUENO_TYPE_F32:
        for (size_t r = 0; r < n_rows; r++) pack_f32(out, in + r * row_bytes, r, k);
        break;
    case TRUENO_TYPE_F16:
    case TRUENO_TYPE_BF16:
        for (size_t r = 0; r < n_rows; r++) pack_halves(out, in + r * row_bytes, r, t, k);
        break;
    case TRUENO_TYPE_Q2_K:
    case TRUENO_TYPE_Q3_K:
        for (size_t r = 0; r < n_rows; r++) pack_decoded(out, in + r * row_bytes, r, t, k);
        break;
    default: pack_blocks(out, in, row_bytes, n_rows, t, k); break;
    }
}

void tr_x16_unpack_row(void *row, const void *group, size_t r, trueno_dtype t, size_t k)
{
    uint8_t *out = row;
    const uint8_t *in = group;
    t = tr_x16_type(t);
    if (t == TRUENO_TYPE_F32) {
        for (size_t i = 0; i < k; i++) store32(out + 4 * i, load32(in + 64 * i + 4 * r));
    } else if (t == TRUENO_TYPE_F16 || t == TRUENO_TYPE_BF16) {
        for (size_t i = 0; i < k; i++) memcpy(out + 2 * i, in + half_place(t, i, r), 2);
    } else {
        unpack_blocks(out, in, r, t, k);
    }
}
