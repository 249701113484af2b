/* SPDX-License-Identifier: MIT */
/* Packing block rows into the X16 layout (x16.h).
 *
 * Four rows at a time: their 4-byte words are transposed, so that a 16-byte vector holds the same
 * word of four rows, a quarter of a vector of the layout. What is left is the same for each byte of
 * such a vector: fields of bits that change places between words. A block's words hold bit fields
 * of different runs of 32 weights, the layout's vectors those of different steps: both are small
 * matrices of fields, one the transpose of the other. Vectors of the compiler, so that one text
 * serves every machine: reading the source and the first touch of memory cost more than this. */
#include <string.h>

#include "quant/quant.h"
#include "x16_panel.h"

typedef uint32_t v4 __attribute__((vector_size(16))); /* a word of each of four rows */
typedef uint8_t v16 __attribute__((vector_size(16)));

#ifdef __clang__
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

/* Four rows at some place of theirs. A row that is missing reads zeros and never moves. */
struct quad {
    const uint8_t *p[4];
    size_t moves[4]; /* all ones, or zero */
};

static const uint8_t zeros[4 * TR_QKK]; /* the most that is read between two moves */

static struct quad quad_at(const uint8_t *rows, size_t row_bytes, size_t n_rows, size_t quarter)
{
    struct quad q;
    for (size_t i = 0, r = 4 * quarter; i < 4; i++, r++) {
        q.p[i] = r < n_rows ? rows + r * row_bytes : zeros;
        q.moves[i] = r < n_rows ? SIZE_MAX : 0;
    }
    return q;
}

static void move(struct quad *q, size_t bytes)
{
    for (size_t i = 0; i < 4; i++) q->p[i] += bytes & q->moves[i];
}

static uint32_t load32(const uint8_t *p)
{
    uint32_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

static v4 load_word(const struct quad *q, size_t offset)
{
    return (v4){load32(q->p[0] + offset), load32(q->p[1] + offset), load32(q->p[2] + offset),
                load32(q->p[3] + offset)};
}

/* w[i]: word i of four rows, i < 4. */
static inline void load_4_words(v4 *w, const struct quad *q, size_t offset)
{
    v4 a[4], b[4];
    for (size_t i = 0; i < 4; i++) memcpy(&a[i], q->p[i] + offset, sizeof a[i]);
    for (size_t i = 0; i < 2; i++) {
        b[2 * i] = SHUFFLE(v4, a[2 * i], a[2 * i + 1], 0, 4, 1, 5);
        b[2 * i + 1] = SHUFFLE(v4, a[2 * i], a[2 * i + 1], 2, 6, 3, 7);
    }
    for (size_t i = 0; i < 2; i++) {
        w[2 * i] = SHUFFLE(v4, b[i], b[i + 2], 0, 1, 4, 5);
        w[2 * i + 1] = SHUFFLE(v4, b[i], b[i + 2], 2, 3, 6, 7);
    }
}

static inline void load_words(v4 *w, const struct quad *q, size_t offset, size_t n)
{
    for (size_t i = 0; i < n / 4 * 4; i += 4) load_4_words(w + i, q, offset + 4 * i);
    for (size_t i = n / 4 * 4; i < n; i++) w[i] = load_word(q, offset + 4 * i);
}

static inline void store(uint8_t *p, v4 x)
{
    memcpy(p, &x, sizeof x);
}

/* One f16 of each row. */
static inline void put_halves(uint8_t *out, const struct quad *q, size_t offset)
{
    for (size_t i = 0; i < 4; i++) memcpy(out + 2 * i, q->p[i] + offset, 2);
}

/* ---------------------------------------------- fields of bits */

/* In each byte: the upper `shift` bits of a pair (of 2 * shift bits) of `a` change places with the
 * lower ones of `b`. shift: 4, 2, 1. */
static inline void exchange(v4 *a, v4 *b, int shift)
{
    uint32_t low = shift == 4 ? 0x0f0f0f0fU : shift == 2 ? 0x33333333U : 0x55555555U;
    v4 x = (*a >> shift ^ *b) & low;
    *b ^= x;
    *a ^= x << shift;
}

/* n = 2, 4, 8 words of n fields of 8/n bits in each byte: field j of word i and field i of word j
 * change places. */
static inline void transpose_fields(v4 *w, size_t n)
{
    int shift = 4;
    for (size_t half = n / 2; half > 0; half /= 2, shift /= 2)
        for (size_t i = 0; i < n; i++)
            if (!(i & half)) exchange(&w[i], &w[i + half], shift);
}

/* Bit 4s + b of a word to bit 8b + s. Of the five bits of a place, s2 s1 s0 b1 b0 becomes b1 b0 s2
 * s1 s0 by four exchanges of two of them. */
static inline v4 bits_to_bytes(v4 x)
{
    static const struct {
        int shift;
        uint32_t low;
    } step[4] = {{14, 0x0000ccccU}, {7, 0x00aa00aaU}, {2, 0x0c0c0c0cU}, {1, 0x22222222U}};
    for (size_t i = 0; i < 4; i++) {
        v4 y = (x >> step[i].shift ^ x) & step[i].low;
        x ^= y ^ y << step[i].shift;
    }
    return x;
}

/* ---------------------------------------------- blocks of four rows */

/* out: this quarter of the first of n vectors. */
static inline void put_vectors(uint8_t *out, const v4 *w, size_t n)
{
    for (size_t i = 0; i < n; i++) store(out + 64 * i, w[i]);
}

/* 64 bytes of nibbles: the low ones are one run, the high ones another, at out and out + next. */
static inline void put_nibble_runs(uint8_t *out, size_t next, v4 w[8])
{
    for (size_t h = 0; h < 4; h++) exchange(&w[h], &w[h + 4], 4);
    put_vectors(out, w, 4);
    put_vectors(out + next, w + 4, 4);
}

static void pack_q4_k(uint8_t *out, uint8_t *words, const struct quad *q)
{
    v4 w[35]; /* scales, quants */
    load_words(w, q, 4, 35);
    put_vectors(words, w, 3);
    for (size_t c = 0; c < 4; c++) put_nibble_runs(out + 512 * c, 256, w + 3 + 8 * c);
}

static void pack_q5_k(uint8_t *out, uint8_t *words, const struct quad *q)
{
    v4 w[43]; /* scales, high bits: bit j of a byte is run j's; low bits */
    load_words(w, q, 4, 43);
    put_vectors(words, w, 3);
    transpose_fields(w + 3, 8);
    for (size_t j = 0; j < 8; j++) store(out + 320 * j + 256, w[3 + j]);
    for (size_t c = 0; c < 4; c++) put_nibble_runs(out + 640 * c, 320, w + 11 + 8 * c);
}

static void pack_q6_k(uint8_t *out, uint8_t *words, const struct quad *q)
{
    v4 w[52]; /* 2 x 2 x 8 words of low bits, 2 x 2 x 4 of high bits, scales */
    load_words(w, q, 0, 52);
    put_vectors(words, w + 48, 4);
    for (size_t n = 0; n < 2; n++) { /* 128 weights: runs 4n .. 4n + 3 */
        uint8_t *half = out + 4 * 384 * n;
        put_nibble_runs(half, 2 * 384, w + 16 * n);
        put_nibble_runs(half + 384, 2 * 384, w + 16 * n + 8);
        for (size_t g = 0; g < 2; g++) {
            v4 *h = w + 32 + 8 * n + 4 * g;
            transpose_fields(h, 4);
            for (size_t k = 0; k < 4; k++) store(half + 384 * k + 256 + 64 * g, h[k]);
        }
    }
}

static void pack_q4(uint8_t *out, const struct quad *q, size_t qs)
{
    v4 w[4];
    load_words(w, q, qs, 4);
    put_vectors(out, w, 4);
}

static void pack_q5(uint8_t *out, const struct quad *q, size_t qh, size_t qs)
{
    pack_q4(out, q, qs);
    store(out + 256, bits_to_bytes(load_word(q, qh)));
}

static void pack_q8_0(uint8_t *out, const struct quad *q)
{
    v4 w[8];
    load_words(w, q, 2, 8);
    for (size_t s = 0; s < 8; s++) store(out + 64 * s, w[s] ^ 0x80808080U);
}

/* One block of four rows: 16 bytes of each vector, quants to `out`, scales to `words`. */
static inline void pack_block(uint8_t *out, uint8_t *words, const struct quad *q, trueno_dtype t)
{
    switch (t) {
    case TRUENO_TYPE_Q4_0: pack_q4(out, q, 2); break;
    case TRUENO_TYPE_Q4_1: pack_q4(out, q, 4); break;
    case TRUENO_TYPE_Q5_0: pack_q5(out, q, 2, 6); break;
    case TRUENO_TYPE_Q5_1: pack_q5(out, q, 4, 8); break;
    case TRUENO_TYPE_Q8_0: pack_q8_0(out, q); break;
    case TRUENO_TYPE_Q4_K: pack_q4_k(out, words, q); break;
    case TRUENO_TYPE_Q5_K: pack_q5_k(out, words, q); break;
    case TRUENO_TYPE_Q6_K: pack_q6_k(out, words, q); break;
    default: break;
    }
}

/* ---------------------------------------------- panels of 16 rows */

static void pack_panel(const struct tr_panel *v, const uint8_t *rows, size_t row_bytes,
                       size_t n_rows, trueno_dtype t, size_t n_blocks)
{
    struct tr_fields f = tr_fields_of(t);
    size_t block_bytes = trueno_dtype_get_info(t)->block_bytes;
    size_t vector_bytes = tr_vector_bytes(t);
    for (size_t quarter = 0; quarter < 4; quarter++) {
        struct quad q = quad_at(rows, row_bytes, n_rows, quarter);
        for (size_t b = 0; b < n_blocks; b++, move(&q, block_bytes)) {
            put_halves(v->d + 32 * b + 8 * quarter, &q, f.d);
            if (v->m) put_halves(v->m + 32 * b + 8 * quarter, &q, f.m);
            pack_block(v->quants + b * vector_bytes + 16 * quarter,
                       v->words ? v->words + 16 * quarter : NULL, &q, t);
        }
    }
}

static void pack_blocks(uint8_t *group, const uint8_t *rows, size_t row_bytes, size_t n_rows,
                        trueno_dtype t, size_t k)
{
    size_t block_bytes = trueno_dtype_get_info(t)->block_bytes;
    for (size_t p = 0; 256 * p < k; p++) {
        size_t nb = tr_panel_blocks(k, p);
        size_t n_blocks = tr_fields_of(t).n_words ? 1 : nb;
        struct tr_panel v = tr_panel_at(group, t, k, p, nb);
        pack_panel(&v, rows, row_bytes, n_rows, t, n_blocks);
        rows += n_blocks * block_bytes;
    }
}

/* ---------------------------------------------- plain numbers */

/* n <= 256 floats of 16 rows. */
static void pack_f32(uint8_t *out, const uint8_t *rows, size_t row_bytes, size_t n_rows, size_t n)
{
    v4 w[4];
    for (size_t quarter = 0; quarter < 4; quarter++) {
        struct quad q = quad_at(rows, row_bytes, n_rows, quarter);
        for (size_t i = 0; i < n; i += 4) {
            size_t part = n - i < 4 ? n - i : 4;
            load_words(w, &q, 4 * i, part);
            for (size_t j = 0; j < part; j++) store(out + 64 * (i + j) + 16 * quarter, w[j]);
        }
    }
}

/* Two 16-bit numbers of four rows: side by side in BF16, in two rows of 16 in F16. */
static inline void put_pair(uint8_t *out, size_t quarter, v4 w, trueno_dtype t)
{
    uint16_t x[8];
    if (t == TRUENO_TYPE_BF16) {
        store(out + 16 * quarter, w);
        return;
    }
    memcpy(x, &w, sizeof x);
    for (size_t r = 0; r < 4; r++) {
        memcpy(out + 2 * (4 * quarter + r), &x[2 * r], 2);
        memcpy(out + 32 + 2 * (4 * quarter + r), &x[2 * r + 1], 2);
    }
}

/* n <= 256 numbers of 16 rows; an odd one at the end gets a zero beside it. */
static void pack_16bit(uint8_t *out, const uint8_t *rows, size_t row_bytes, size_t n_rows, size_t n,
                       trueno_dtype t)
{
    v4 w[4];
    for (size_t quarter = 0; quarter < 4; quarter++) {
        struct quad q = quad_at(rows, row_bytes, n_rows, quarter);
        size_t n_pairs = n / 2;
        for (size_t i = 0; i < n_pairs; i += 4) {
            size_t part = n_pairs - i < 4 ? n_pairs - i : 4;
            load_words(w, &q, 4 * i, part);
            for (size_t j = 0; j < part; j++) put_pair(out + 64 * (i + j), quarter, w[j], t);
        }
        if (n % 2 == 0) continue;
        uint16_t last[8] = {0};
        for (size_t r = 0; r < 4; r++) memcpy(&last[2 * r], q.p[r] + 2 * (n - 1), 2);
        memcpy(w, last, sizeof w[0]);
        put_pair(out + 64 * n_pairs, quarter, w[0], t);
    }
}

/* Q2_K and Q3_K: 256 weights of 16 rows. */
static void pack_decoded(uint8_t *out, const uint8_t *rows, size_t row_bytes, size_t n_rows,
                         trueno_dtype t)
{
    float x[TR_ROWS][TR_QKK];
    for (size_t r = 0; r < n_rows; r++) tr_dequantize_row(x[r], rows + r * row_bytes, t, TR_QKK);
    pack_f32(out, (const uint8_t *)x, sizeof x[0], n_rows, TR_QKK);
}

static void pack_plain(uint8_t *group, const uint8_t *rows, size_t row_bytes, size_t n_rows,
                       trueno_dtype t, size_t k)
{
    for (size_t i = 0; i < k; i += 256) { /* so that the lines being written stay near */
        size_t n = k - i < 256 ? k - i : 256;
        const uint8_t *in = rows + trueno_row_bytes(t, i);
        if (t == TRUENO_TYPE_F32)
            pack_f32(group + 64 * i, in, row_bytes, n_rows, n);
        else if (t == TRUENO_TYPE_F16 || t == TRUENO_TYPE_BF16)
            pack_16bit(group + 32 * i, in, row_bytes, n_rows, n, t);
        else
            pack_decoded(group + 64 * i, in, row_bytes, n_rows, t);
    }
}

/* ---------------------------------------------- the call */

/* Whether bytes between sections are nobody's: they are zeros. */
static bool has_gaps(trueno_dtype t, size_t k)
{
    return tr_fields_of(t).n_words ? k / 256 % 2 != 0 : k % 256 / 32 % 2 != 0;
}

void tr_x16_pack(void *group, const void *rows, size_t row_bytes, size_t n_rows, trueno_dtype t,
                 size_t k)
{
    if (has_gaps(t, k)) memset(group, 0, tr_x16_group_bytes(t, k));
    if (trueno_dtype_get_info(t)->block == 1 || tr_x16_type(t) != t)
        pack_plain(group, rows, row_bytes, n_rows, t, k);
    else
        pack_blocks(group, rows, row_bytes, n_rows, t, k);
}
