/* SPDX-License-Identifier: MIT */
/* Naive transformer in double. Everything is recomputed from its definition. */
#include "model/oracle.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool is(const char *a, const char *b)
{
    return strcmp(a, b) == 0;
}

static double *zeros(size_t n)
{
    double *x = calloc(n, sizeof *x);
    assert_non_null(x);
    return x;
}

/* A tensor as doubles, or NULL. */
static double *tensor(const trueno_gguf *g, const char *name)
{
    trueno_gguf_tensor t;
    ptrdiff_t i = trueno_gguf_find_tensor(g, name);
    if (i < 0) return NULL;
    assert_int_equal(trueno_gguf_tensor_at(g, (size_t)i, &t), TRUENO_OK);
    size_t n = (size_t)(t.ne[0] * t.ne[1]);
    float *f = malloc(n * sizeof *f);
    double *d = zeros(n);
    assert_int_equal(trueno_dequantize(f, trueno_gguf_tensor_data(g, (size_t)i), t.type, n),
                     TRUENO_OK);
    for (size_t j = 0; j < n; j++) d[j] = (double)f[j];
    free(f);
    return d;
}

static double *layer(const trueno_gguf *g, uint32_t l, const char *part)
{
    char name[64];
    (void)snprintf(name, sizeof name, "blk.%u.%s", l, part);
    return tensor(g, name);
}

/* Elements that share an activation scale for weights of this type; 0: activations stay as they
 * are. */
static size_t act_group(trueno_dtype type)
{
    switch (type) {
    case TRUENO_TYPE_F32:
    case TRUENO_TYPE_F16:
    case TRUENO_TYPE_BF16: return 0;
    case TRUENO_TYPE_Q4_K:
    case TRUENO_TYPE_Q5_K:
    case TRUENO_TYPE_Q6_K: return 256;
    default: return 32;
    }
}

/* What int8 activations stand for: groups of 32 have scale amax / 127; groups of 256 a scale that
 * makes the first element of largest magnitude -127. */
static void round_activations(double *x, size_t n, size_t group)
{
    for (size_t g = 0; g + group <= n; g += group) {
        double top = 0;
        for (size_t i = 0; i < group; i++)
            if (fabs(x[g + i]) > fabs(top)) top = x[g + i];
        double inverse = group == 32 ? 127 / fabs(top) : -127 / top;
        for (size_t i = 0; i < group && top != 0; i++)
            x[g + i] = fmin(127, rint(x[g + i] * inverse)) / inverse;
    }
}

static void multiply(double *y, const double *w, const double *input, size_t rows, size_t cols,
                     trueno_dtype type)
{
    double *x = zeros(cols);
    memcpy(x, input, cols * sizeof *x);
    if (act_group(type) > 0) round_activations(x, cols, act_group(type));
    for (size_t r = 0; r < rows; r++) {
        y[r] = 0;
        for (size_t c = 0; c < cols; c++) y[r] += w[r * cols + c] * x[c];
    }
    free(x);
}

static void norm(double *y, const double *x, const double *w, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += x[i] * x[i];
    for (size_t i = 0; i < n; i++) y[i] = x[i] / sqrt(sum / (double)n + (double)1e-5F) * w[i];
}

static double activation(const struct toy *t, double x)
{
    if (is(t->arch, "gemma3"))
        return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    return x / (1 + exp(-x));
}

/* Is layer l of the kind that sees a window only? */
static bool is_local(const struct toy *t, uint32_t l)
{
    if (t->window == 0) return false;
    return is(t->arch, "phi3") || (is(t->arch, "gemma3") && (l + 1) % 6 != 0);
}

struct rope {
    double freq[256], magnitude;
};

static void rope_of(struct rope *r, const trueno_gguf *g, const struct toy *t, uint32_t l,
                    uint32_t n_ctx)
{
    double pi = 3.14159265358979323846, n = t->head_dim;
    bool gemma = is(t->arch, "gemma3"), local = is_local(t, l);
    double base = gemma && !local ? 1e6 : 10000;
    double *ff = tensor(g, "rope_freqs.weight");
    const char *rope = t->rope != NULL && !(gemma && local) ? t->rope : "";
    if (is(rope, "longrope"))
        ff = tensor(g, n_ctx > 64 ? "rope_factors_long.weight" : "rope_factors_short.weight");
    r->magnitude = is(rope, "longrope") ? (double)1.19F : is(rope, "yarn") ? 1 + 0.1 * log(4) : 1;
    double fast = n * log(64 / (32 * 2 * pi)) / (2 * log(base));
    double slow = n * log(64 / (1 * 2 * pi)) / (2 * log(base));
    double lo = fmax(0, floor(fast)), hi = fmin(n - 1, ceil(slow));
    for (size_t i = 0; i < t->head_dim / 2; i++) {
        double theta = pow(base, -2 * (double)i / n) / (ff != NULL ? ff[i] : 1);
        double keep = 1 - fmin(1, fmax(0, ((double)i - lo) / fmax(0.001, hi - lo)));
        if (is(rope, "linear")) theta /= 4;
        if (is(rope, "yarn")) theta = theta / 4 * (1 - keep) + theta * keep;
        r->freq[i] = theta;
    }
    free(ff);
}

static void rotate(double *x, const struct rope *r, const struct toy *t, size_t pos)
{
    size_t half = t->head_dim / 2;
    for (size_t i = 0; i < half; i++) {
        size_t ia = is(t->arch, "llama") ? 2 * i : i,
               ib = is(t->arch, "llama") ? 2 * i + 1 : i + half;
        double c = cos((double)pos * r->freq[i]) * r->magnitude;
        double s = sin((double)pos * r->freq[i]) * r->magnitude;
        double a = x[ia], b = x[ib];
        x[ia] = a * c - b * s;
        x[ib] = a * s + b * c;
    }
}

static double capped(double x, double cap)
{
    return cap > 0 ? cap * tanh(x / cap) : x;
}

/* q, k, v [n][...] of normed inputs h, rotated. */
static void project(double *q, double *k, double *v, const double *h, const trueno_gguf *g,
                    const struct toy *t, uint32_t l, size_t n, const struct rope *r)
{
    size_t e = t->n_embd, d = t->head_dim, nq = t->n_head * d, nkv = t->n_head_kv * d;
    double *wq = layer(g, l, "attn_q.weight"), *wk = layer(g, l, "attn_k.weight");
    double *wv = layer(g, l, "attn_v.weight"), *all = layer(g, l, "attn_qkv.weight");
    double *bq = layer(g, l, "attn_q.bias"), *bk = layer(g, l, "attn_k.bias");
    double *bv = layer(g, l, "attn_v.bias");
    double *qn = layer(g, l, "attn_q_norm.weight"), *kn = layer(g, l, "attn_k_norm.weight");
    for (size_t i = 0; i < n; i++) {
        double *qi = q + i * nq, *ki = k + i * nkv, *vi = v + i * nkv;
        multiply(qi, all ? all : wq, h + i * e, nq, e, t->type);
        multiply(ki, all ? all + nq * e : wk, h + i * e, nkv, e, t->type);
        multiply(vi, all ? all + (nq + nkv) * e : wv, h + i * e, nkv, e, t->type);
        for (size_t j = 0; bq && j < nq; j++) qi[j] += bq[j];
        for (size_t j = 0; bk && j < nkv; j++) ki[j] += bk[j];
        for (size_t j = 0; bv && j < nkv; j++) vi[j] += bv[j];
        for (size_t x = 0; x < t->n_head; x++) {
            if (qn) norm(qi + x * d, qi + x * d, qn, d);
            rotate(qi + x * d, r, t, i);
        }
        for (size_t x = 0; x < t->n_head_kv; x++) {
            if (kn) norm(ki + x * d, ki + x * d, kn, d);
            rotate(ki + x * d, r, t, i);
        }
    }
    double *all_of[] = {wq, wk, wv, all, bq, bk, bv, qn, kn};
    for (size_t i = 0; i < sizeof all_of / sizeof all_of[0]; i++) free(all_of[i]);
}

/* One query head: out [d] = softmax(q k^T / sqrt(d)) v over the visible positions. */
static void attend(double *out, const double *q, const double *k, const double *v,
                   const struct toy *t, uint32_t l, size_t pos)
{
    size_t d = t->head_dim, stride = t->n_head_kv * d;
    size_t first = is_local(t, l) && pos + 1 > t->window ? pos + 1 - t->window : 0;
    double total = 0;
    memset(out, 0, d * sizeof *out);
    for (size_t j = first; j <= pos; j++) {
        double s = 0;
        for (size_t i = 0; i < d; i++) s += q[i] * k[j * stride + i];
        double p = exp(capped(s / sqrt((double)d), (double)t->attn_cap));
        total += p;
        for (size_t i = 0; i < d; i++) out[i] += p * v[j * stride + i];
    }
    for (size_t i = 0; i < d; i++) out[i] /= total;
}

static void attention_branch(double *x, const trueno_gguf *g, const struct toy *t, uint32_t l,
                             size_t n, uint32_t n_ctx)
{
    size_t e = t->n_embd, d = t->head_dim, nq = t->n_head * d, nkv = t->n_head_kv * d;
    double *h = zeros(n * e), *q = zeros(n * nq), *k = zeros(n * nkv), *v = zeros(n * nkv);
    double *att = zeros(nq), *y = zeros(e);
    double *w_norm = layer(g, l, "attn_norm.weight"), *wo = layer(g, l, "attn_output.weight");
    double *bo = layer(g, l, "attn_output.bias"), *post = layer(g, l, "post_attention_norm.weight");
    struct rope r;
    rope_of(&r, g, t, l, n_ctx);
    for (size_t i = 0; i < n; i++) norm(h + i * e, x + i * e, w_norm, e);
    project(q, k, v, h, g, t, l, n, &r);
    for (size_t i = 0; i < n; i++) {
        for (size_t a = 0; a < t->n_head; a++)
            attend(att + a * d, q + i * nq + a * d, k + a / (t->n_head / t->n_head_kv) * d,
                   v + a / (t->n_head / t->n_head_kv) * d, t, l, i);
        multiply(y, wo, att, e, nq, t->type);
        for (size_t j = 0; bo && j < e; j++) y[j] += bo[j];
        if (post) norm(y, y, post, e);
        for (size_t j = 0; j < e; j++) x[i * e + j] += y[j];
    }
    double *all_of[] = {h, q, k, v, att, y, w_norm, wo, bo, post};
    for (size_t i = 0; i < sizeof all_of / sizeof all_of[0]; i++) free(all_of[i]);
}

static void ffn_branch(double *x, const trueno_gguf *g, const struct toy *t, uint32_t l, size_t n)
{
    size_t e = t->n_embd, f = t->n_ff;
    double *w_norm = layer(g, l, "ffn_norm.weight"), *gate = layer(g, l, "ffn_gate.weight");
    double *up = layer(g, l, "ffn_up.weight"), *down = layer(g, l, "ffn_down.weight");
    double *post = layer(g, l, "post_ffw_norm.weight");
    double *h = zeros(e), *a = zeros(f), *b = zeros(f), *y = zeros(e);
    for (size_t i = 0; i < n; i++) {
        norm(h, x + i * e, w_norm, e);
        multiply(a, gate ? gate : up, h, f, e, t->type);
        multiply(b, gate ? up : up + f * e, h, f, e, t->type);
        for (size_t j = 0; j < f; j++) a[j] = activation(t, a[j]) * b[j];
        multiply(y, down, a, e, f, t->type);
        if (post) norm(y, y, post, e);
        for (size_t j = 0; j < e; j++) x[i * e + j] += y[j];
    }
    double *all_of[] = {w_norm, gate, up, down, post, h, a, b, y};
    for (size_t i = 0; i < sizeof all_of / sizeof all_of[0]; i++) free(all_of[i]);
}

double *oracle_logits(const trueno_gguf *g, const struct toy *t, const trueno_token *tokens,
                      size_t n, uint32_t n_ctx)
{
    size_t e = t->n_embd;
    double *embd = tensor(g, "token_embd.weight"), *out = tensor(g, "output.weight");
    double *w_norm = tensor(g, "output_norm.weight");
    double *x = zeros(n * e), *logits = zeros(n * t->n_vocab), *h = zeros(e);
    double scale = is(t->arch, "gemma3") ? sqrt((double)e) : 1;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < e; j++) x[i * e + j] = embd[(size_t)tokens[i] * e + j] * scale;
    for (uint32_t l = 0; l < t->n_layer; l++) {
        attention_branch(x, g, t, l, n, n_ctx);
        ffn_branch(x, g, t, l, n);
    }
    for (size_t i = 0; i < n; i++) {
        double *row = logits + i * t->n_vocab;
        norm(h, x + i * e, w_norm, e);
        multiply(row, out ? out : embd, h, t->n_vocab, e, t->type);
        for (size_t j = 0; j < t->n_vocab; j++) row[j] = capped(row[j], (double)t->final_cap);
    }
    double *all_of[] = {embd, out, w_norm, x, h};
    for (size_t i = 0; i < sizeof all_of / sizeof all_of[0]; i++) free(all_of[i]);
    return logits;
}
