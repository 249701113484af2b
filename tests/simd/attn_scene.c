/* SPDX-License-Identifier: MIT */
/* Scenes of attention (attn_scene.h). */
#include "attn_scene.h"

#include <math.h>
#include <string.h>

#include "quant/half.h"
#include "trueno/quantize.h"

static const size_t head_dims[] = {8, 24, 64, 80, 96, 128, 256};
#define N_DIMS (sizeof head_dims / sizeof *head_dims)

/* An element in a cache, and in Q8_0 its scale; layout of kernel.h. */
struct place {
    uint8_t *at, *scale;
};

static struct place key_place(const struct scene *s, size_t p, size_t d)
{
    size_t size = s->type == TRUENO_TYPE_F32 ? 4 : 2, panel = p / 16, lane = p % 16;
    if (s->type != TRUENO_TYPE_Q8_0)
        return (struct place){s->k + ((panel * s->head_dim + d) * 16 + lane) * size, NULL};
    uint8_t *block = s->k + (panel * (s->head_dim / 32) + d / 32) * 544;
    return (struct place){block + 32 + d % 32 * 16 + lane, block + 2 * lane};
}

static struct place value_place(const struct scene *s, size_t p, size_t d)
{
    size_t size = s->type == TRUENO_TYPE_F32 ? 4 : 2, n_blocks = s->head_dim / 32;
    if (s->type != TRUENO_TYPE_Q8_0)
        return (struct place){s->v + (p * s->head_dim + d) * size, NULL};
    uint8_t *row = s->v + p * n_blocks * 34;
    return (struct place){row + 2 * n_blocks + d, row + d / 32 * 2};
}

static void put_half(uint8_t *at, uint16_t half)
{
    memcpy(at, &half, sizeof half);
}

static uint16_t get_half(const uint8_t *at)
{
    uint16_t half;
    memcpy(&half, at, sizeof half);
    return half;
}

/* Q8_0: rounded to the block's scale; what is not finite makes the scale NaN. */
static void put(const struct scene *s, struct place to, float x)
{
    switch (s->type) {
    case TRUENO_TYPE_F16: put_half(to.at, tr_f32_to_f16(x)); break;
    case TRUENO_TYPE_BF16: put_half(to.at, tr_f32_to_bf16(x)); break;
    case TRUENO_TYPE_Q8_0:
        if (isfinite(x)) {
            float q = rintf(x / tr_f16_to_f32(get_half(to.scale)));
            *(int8_t *)to.at = (int8_t)fmaxf(-127.0F, fminf(127.0F, q));
        } else {
            put_half(to.scale, 0x7e00);
        }
        break;
    default: memcpy(to.at, &x, sizeof x);
    }
}

static double get(const struct scene *s, struct place from)
{
    float x;
    switch (s->type) {
    case TRUENO_TYPE_F16: return (double)tr_f16_to_f32(get_half(from.at));
    case TRUENO_TYPE_BF16: return (double)tr_bf16_to_f32(get_half(from.at));
    case TRUENO_TYPE_Q8_0:
        return (double)tr_f16_to_f32(get_half(from.scale)) * *(const int8_t *)from.at;
    default: memcpy(&x, from.at, sizeof x); return (double)x;
    }
}

void scene_put_key(const struct scene *s, size_t p, size_t d, float x)
{
    put(s, key_place(s, p, d), x);
}

void scene_put_value(const struct scene *s, size_t p, size_t d, float x)
{
    put(s, value_place(s, p, d), x);
}

double scene_key(const struct scene *s, size_t p, size_t d)
{
    return get(s, key_place(s, p, d));
}

double scene_value(const struct scene *s, size_t p, size_t d)
{
    return get(s, value_place(s, p, d));
}

static size_t cache_bytes(const struct scene *s)
{
    return N_CTX * trueno_row_bytes(s->type, s->head_dim);
}

/* Scales of Q8_0, from 1/64 up, unlike their neighbours'. */
static void set_scales(const struct scene *s)
{
    for (size_t p = 0; s->type == TRUENO_TYPE_Q8_0 && p < N_CTX; p++) {
        for (size_t d = 0; d < s->head_dim; d += 32) {
            float scale = 0x1p-6F + 0x1p-9F * (float)((p % 16 + 3 * d / 32) % 5);
            put_half(key_place(s, p, d).scale, tr_f32_to_f16(scale));
            put_half(value_place(s, p, d).scale, tr_f32_to_f16(scale));
        }
    }
}

static void caches_new(struct scene *s)
{
    s->k = test_alloc(cache_bytes(s));
    s->v = test_alloc(cache_bytes(s));
    s->a.k_cache = s->k;
    s->a.v_cache = s->v;
}

void scene_fill(const struct scene *s, size_t p, float k, float v)
{
    for (size_t d = 0; d < s->head_dim; d++) {
        scene_put_key(s, p, d, k);
        scene_put_value(s, p, d, v);
    }
}

/* Keys and values uniform in [-1, 1), queries in [-2, 2); every query sees [0, 256). */
static struct scene *scene_new(const struct tr_kernel *kernel, size_t head_dim)
{
    struct scene *s = test_alloc(sizeof *s);
    uint64_t rng = head_dim;

    memset(s, 0, sizeof *s);
    s->kernel = kernel;
    s->type = kernel->dtype;
    s->head_dim = head_dim;
    s->a = (struct tr_attn_args){
        .head_dim = head_dim, .scale = 1.0F / sqrtf((float)head_dim), .n_q = N_Q};
    caches_new(s);
    set_scales(s);
    for (size_t p = 0; p < N_CTX; p++) {
        for (size_t d = 0; d < head_dim; d++) {
            scene_put_key(s, p, d, random_uniform(&rng));
            scene_put_value(s, p, d, random_uniform(&rng));
        }
    }
    for (size_t i = 0; i < N_Q; i++) {
        for (size_t d = 0; d < head_dim; d++) s->q[i][d] = 2.0F * random_uniform(&rng);
        s->a.q[i] = s->q[i];
        s->a.out[i] = s->out[i];
        s->a.hi[i] = TR_ATTN_CHUNK;
    }
    return s;
}

void scene_free(struct scene *s)
{
    free(s->k);
    free(s->v);
    free(s);
}

void scene_run(struct scene *s)
{
    memset(s->out, 0x77, sizeof s->out);
    memset(s->a.max, 0x77, sizeof s->a.max);
    memset(s->a.sum, 0x77, sizeof s->a.sum);
    s->kernel->fn.attention(&s->a);
}

/* The results of query i of x and query j of y have the same bits. */
void scene_assert_same(const struct scene *x, size_t i, const struct scene *y, size_t j)
{
    assert_memory_equal(x->out[i], y->out[j], x->head_dim * sizeof(float));
    assert_memory_equal(&x->a.max[i], &y->a.max[j], sizeof(float));
    assert_memory_equal(&x->a.sum[i], &y->a.sum[j], sizeof(float));
}

struct scene *scene_copy(const struct scene *s)
{
    struct scene *c = test_alloc(sizeof *c);

    memcpy(c, s, sizeof *c);
    caches_new(c);
    memcpy(c->k, s->k, cache_bytes(s));
    memcpy(c->v, s->v, cache_bytes(s));
    for (size_t i = 0; i < N_Q; i++) {
        c->a.q[i] = c->q[i];
        c->a.out[i] = c->out[i];
    }
    return c;
}

/* Calls f with each kernel and each head dimension; `blocks`: Q8_0 too. */
static void for_types(void (*f)(struct scene *s), bool blocks)
{
    const struct tr_kernel *k;
    size_t n = 0;
    for (size_t i = 0; (k = tr_kernel_at(i)) != NULL; i++) {
        if (k->op != TR_OP_ATTENTION || (k->cpu & ~trueno_cpu_features()) != 0) continue;
        for (size_t h = 0; h < N_DIMS; h++) {
            bool q8 = k->dtype == TRUENO_TYPE_Q8_0;
            if (q8 && (!blocks || head_dims[h] % 32 != 0)) continue;
            struct scene *s = scene_new(k, head_dims[h]);
            f(s);
            scene_free(s);
            n++;
        }
    }
    assert_true(n >= 3 * N_DIMS + (blocks ? 4 : 0));
}

void scene_for_all(void (*f)(struct scene *s))
{
    for_types(f, true);
}

/* For what needs single elements of any size. */
void scene_for_plain_types(void (*f)(struct scene *s))
{
    for_types(f, false);
}

double scene_score(const struct scene *s, size_t i, size_t p)
{
    double dot = 0;
    for (size_t d = 0; d < s->head_dim; d++) dot += scene_key(s, p, d) * (double)s->q[i][d];
    dot *= (double)s->a.scale;
    return s->a.cap > 0 ? (double)s->a.cap * tanh(dot / (double)s->a.cap) : dot;
}
