/* SPDX-License-Identifier: MIT */
/* Reads checked metadata values: lookup by key, conversions between number types, elements of
 * arrays. */
#include <string.h>

#include "base/error.h"
#include "gguf/gguf_file.h"

trueno_str tr_kv_key(const struct tr_shard *s, const struct tr_kv *kv)
{
    return (trueno_str){(const char *)s->src.bytes + kv->key, kv->key_len};
}

ptrdiff_t tr_shard_find(const struct tr_shard *s, const char *key)
{
    return tr_names_find(&s->keys, key, strlen(key));
}

/* An integer of any type: its 64 bits, and whether they are a negative number. */
struct integer {
    uint64_t bits;
    bool negative;
};

static bool is_signed(uint8_t type)
{
    return type == TRUENO_GGUF_I8 || type == TRUENO_GGUF_I16 || type == TRUENO_GGUF_I32 ||
           type == TRUENO_GGUF_I64;
}

static bool is_integer(uint8_t type)
{
    return is_signed(type) || type == TRUENO_GGUF_U8 || type == TRUENO_GGUF_U16 ||
           type == TRUENO_GGUF_U32 || type == TRUENO_GGUF_U64;
}

/* Where element `elem` of fixed size starts. */
static const uint8_t *element(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem)
{
    return s->src.bytes + kv->value + elem * tr_gguf_type_bytes(kv->elem_type);
}

static bool load_integer(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem,
                         struct integer *out)
{
    if (!is_integer(kv->elem_type)) return false;
    size_t n = tr_gguf_type_bytes(kv->elem_type);
    uint64_t bits = tr_load_le(element(s, kv, elem), n);
    uint64_t sign = (uint64_t)1 << (8 * n - 1);
    out->negative = is_signed(kv->elem_type) && (bits & sign);
    out->bits = out->negative ? bits | ~(sign - 1) : bits;
    return true;
}

static trueno_status load_u64(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem,
                              uint64_t *out)
{
    struct integer x;
    if (!load_integer(s, kv, elem, &x) || x.negative) return TRUENO_ERR_CORRUPT;
    *out = x.bits;
    return TRUENO_OK;
}

static trueno_status load_i64(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem,
                              int64_t *out)
{
    struct integer x;
    if (!load_integer(s, kv, elem, &x)) return TRUENO_ERR_CORRUPT;
    if (!x.negative && x.bits > INT64_MAX) return TRUENO_ERR_CORRUPT;
    memcpy(out, &x.bits, sizeof *out);
    return TRUENO_OK;
}

static trueno_status load_f64(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem,
                              double *out)
{
    const uint8_t *p = element(s, kv, elem);
    if (kv->elem_type == TRUENO_GGUF_F64) {
        uint64_t bits = tr_load_le(p, 8);
        memcpy(out, &bits, sizeof *out);
        return TRUENO_OK;
    }
    if (kv->elem_type != TRUENO_GGUF_F32) return TRUENO_ERR_CORRUPT;
    uint32_t bits = (uint32_t)tr_load_le(p, 4);
    float f;
    memcpy(&f, &bits, sizeof f);
    *out = (double)f;
    return TRUENO_OK;
}

static trueno_status load_bool(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem,
                               bool *out)
{
    if (kv->elem_type != TRUENO_GGUF_BOOL) return TRUENO_ERR_CORRUPT;
    *out = *element(s, kv, elem) != 0;
    return TRUENO_OK;
}

static trueno_status load_str(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem,
                              trueno_str *out)
{
    if (kv->elem_type != TRUENO_GGUF_STRING) return TRUENO_ERR_CORRUPT;
    const uint64_t *starts = (const uint64_t *)s->strings.data + kv->strings + elem;
    *out =
        (trueno_str){(const char *)s->src.bytes + starts[0], (size_t)(starts[1] - 8 - starts[0])};
    return TRUENO_OK;
}

/* ------------------------------------------------------- one way for all types */

enum want { WANT_U64, WANT_I64, WANT_F64, WANT_BOOL, WANT_STR };

static const struct {
    size_t bytes; /* of what the caller gave for the result */
    const char *words;
} wanted[] = {
    {sizeof(uint64_t), "an integer >= 0"}, {sizeof(int64_t), "an integer below 2^63"},
    {sizeof(double), "f32 or f64"},        {sizeof(bool), "bool"},
    {sizeof(trueno_str), "string"},
};

static trueno_status load(const struct tr_shard *s, const struct tr_kv *kv, uint64_t elem,
                          enum want want, void *out)
{
    switch (want) {
    case WANT_U64: return load_u64(s, kv, elem, out);
    case WANT_I64: return load_i64(s, kv, elem, out);
    case WANT_F64: return load_f64(s, kv, elem, out);
    case WANT_BOOL: return load_bool(s, kv, elem, out);
    case WANT_STR: return load_str(s, kv, elem, out);
    }
    return TRUENO_ERR_ARGUMENT;
}

/* CORRUPT, with what the value is and what it should be. */
static trueno_status wrong_type(const struct tr_shard *s, const struct tr_kv *kv, enum want want,
                                trueno_error *err)
{
    const trueno_str key = tr_kv_key(s, kv);
    const char *type = tr_gguf_type_name(kv->type), *words = wanted[want].words;
    struct integer x;
    if (kv->type == TRUENO_GGUF_ARRAY || !load_integer(s, kv, 0, &x))
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: key '%.*s' is of type %s, %s is expected",
                       s->src.label, TR_STR_ARGS(key), type, words);
    if (x.negative)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: key '%.*s' is %s %lld, %s is expected",
                       s->src.label, TR_STR_ARGS(key), type, -(long long)~x.bits - 1, words);
    return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: key '%.*s' is %s %llu, %s is expected",
                   s->src.label, TR_STR_ARGS(key), type, (unsigned long long)x.bits, words);
}

static trueno_status get(const struct tr_shard *s, const char *key, enum want want, void *out,
                         trueno_error *err)
{
    ptrdiff_t i = tr_shard_find(s, key);
    if (i < 0) return tr_fail(err, TRUENO_ERR_NOT_FOUND, "%s: no key '%.80s'", s->src.label, key);
    const struct tr_kv *kv = tr_shard_kv(s, (uint64_t)i);
    memset(out, 0, wanted[want].bytes);
    if (kv->type != TRUENO_GGUF_ARRAY && load(s, kv, 0, want, out) == TRUENO_OK) return TRUENO_OK;
    return wrong_type(s, kv, want, err);
}

static trueno_status get_checked(const trueno_gguf *g, const char *key, enum want want, void *out,
                                 trueno_error *err)
{
    if (g && key && out) return get(g->shards[0], key, want, out, err);
    return tr_fail(err, TRUENO_ERR_ARGUMENT, "%s is NULL", !g ? "gguf" : !key ? "key" : "out");
}

static trueno_status get_element(const trueno_gguf *g, size_t kv, uint64_t elem, enum want want,
                                 void *out)
{
    if (!out) return TRUENO_ERR_ARGUMENT;
    memset(out, 0, wanted[want].bytes);
    if (!g || kv >= g->shards[0]->kv.n) return TRUENO_ERR_ARGUMENT;
    const struct tr_kv *pair = tr_shard_kv(g->shards[0], kv);
    if (elem >= pair->count) return TRUENO_ERR_ARGUMENT;
    return load(g->shards[0], pair, elem, want, out);
}

/* ------------------------------------------------------------------ by key */

trueno_status tr_shard_get_u64(const struct tr_shard *s, const char *key, uint64_t *out,
                               trueno_error *err)
{
    return get(s, key, WANT_U64, out, err);
}

trueno_status trueno_gguf_get_u64(const trueno_gguf *g, const char *key, uint64_t *out,
                                  trueno_error *err)
{
    return get_checked(g, key, WANT_U64, out, err);
}

trueno_status trueno_gguf_get_i64(const trueno_gguf *g, const char *key, int64_t *out,
                                  trueno_error *err)
{
    return get_checked(g, key, WANT_I64, out, err);
}

trueno_status trueno_gguf_get_f64(const trueno_gguf *g, const char *key, double *out,
                                  trueno_error *err)
{
    return get_checked(g, key, WANT_F64, out, err);
}

trueno_status trueno_gguf_get_bool(const trueno_gguf *g, const char *key, bool *out,
                                   trueno_error *err)
{
    return get_checked(g, key, WANT_BOOL, out, err);
}

trueno_status trueno_gguf_get_str(const trueno_gguf *g, const char *key, trueno_str *out,
                                  trueno_error *err)
{
    return get_checked(g, key, WANT_STR, out, err);
}

/* ---------------------------------------------------------------- by index */

trueno_status trueno_gguf_elem_u64(const trueno_gguf *g, size_t kv, uint64_t elem, uint64_t *out)
{
    return get_element(g, kv, elem, WANT_U64, out);
}

trueno_status trueno_gguf_elem_i64(const trueno_gguf *g, size_t kv, uint64_t elem, int64_t *out)
{
    return get_element(g, kv, elem, WANT_I64, out);
}

trueno_status trueno_gguf_elem_f64(const trueno_gguf *g, size_t kv, uint64_t elem, double *out)
{
    return get_element(g, kv, elem, WANT_F64, out);
}

trueno_status trueno_gguf_elem_bool(const trueno_gguf *g, size_t kv, uint64_t elem, bool *out)
{
    return get_element(g, kv, elem, WANT_BOOL, out);
}

trueno_status trueno_gguf_elem_str(const trueno_gguf *g, size_t kv, uint64_t elem, trueno_str *out)
{
    return get_element(g, kv, elem, WANT_STR, out);
}

const void *trueno_gguf_kv_data(const trueno_gguf *g, size_t kv)
{
    if (!g || kv >= g->shards[0]->kv.n) return NULL;
    const struct tr_kv *pair = tr_shard_kv(g->shards[0], kv);
    if (pair->elem_type == TRUENO_GGUF_STRING) return NULL;
    return g->shards[0]->src.bytes + pair->value;
}
