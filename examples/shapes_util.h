/* SPDX-License-Identifier: MIT */
/* Shapes of published models and of toys: every number that a GGUF file of that model states, and
 * the list of its tensors. The source of each number is the model's published configuration. */
#ifndef SHAPES_UTIL_H
#define SHAPES_UTIL_H

#include "trueno/gguf.h"

enum shape_rope { ROPE_PLAIN, ROPE_LINEAR, ROPE_YARN, ROPE_LLAMA3, ROPE_LONGROPE };

struct shape {
    const char *name, *arch;
    uint32_t n_vocab, n_embd, n_ff, n_layer, n_head, n_head_kv, head_dim;
    uint32_t n_ctx, n_ctx_orig; /* n_ctx_orig: before the context was stretched by rope scaling */
    uint32_t window;            /* sliding window; 0: none */
    float eps, rope_base;
    float rope_factor; /* of the scaling, where the shape or --rope has one */
    enum shape_rope rope;
    bool tied;
    float std; /* of the weights; 0: 1/sqrt(inputs of the matrix) */
};

/* The i-th shape; NULL past the end. */
const struct shape *shape_at(size_t index);

/* A shape by name and, where a name is shared (the toys), architecture; `arch` NULL: the first one.
 * NULL if there is none. */
const struct shape *shape_find(const char *name, const char *arch);

/* What a tensor is filled with. */
enum tensor_fill {
    FILL_MATRIX, /* N(0, std) in the file's type */
    FILL_NORM,   /* 1 + N(0, 0.2), F32 */
    FILL_BIAS,   /* N(0, 0.1), F32 */
    FILL_ROPE,   /* rope_freqs: frequency factors of Llama 3, F32 */
    FILL_SHORT,  /* factors of longrope within the original context, F32 */
    FILL_LONG    /* and beyond it */
};

/* What the mixes of types (Q4_K_M) treat apart. */
enum tensor_role { ROLE_OTHER, ROLE_OUTPUT, ROLE_VALUE_OR_DOWN, ROLE_QKV };

struct shape_tensor {
    char name[48];
    enum tensor_fill fill;
    enum tensor_role role;
    uint32_t layer;
    uint64_t ne[2]; /* ne[0] is the input dimension; ne[1] is 1 for vectors */
};

/* All tensors in the order of the file, to be freed; NULL if there is no memory. */
struct shape_tensor *shape_tensors(const struct shape *s, size_t *n);

/* The n_rot/2 factors of FILL_ROPE, FILL_SHORT and FILL_LONG. */
void shape_rope_factors(const struct shape *s, enum tensor_fill fill, float *out);

#endif
