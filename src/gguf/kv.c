/* SPDX-License-Identifier: MIT */
/* Reads the metadata pairs of a file: names, types, sizes and duplicates are checked here, and the
 * place of every string is noted. */
#include "gguf/gguf_file.h"

/* Sizes and names by type number. */
static const struct {
    uint8_t bytes;
    const char *name;
} types[] = {
    {1, "u8"},   {1, "i8"},     {2, "u16"},   {2, "i16"}, {4, "u32"}, {4, "i32"}, {4, "f32"},
    {1, "bool"}, {0, "string"}, {0, "array"}, {8, "u64"}, {8, "i64"}, {8, "f64"},
};
enum { N_TYPES = sizeof types / sizeof types[0] };

size_t tr_gguf_type_bytes(uint64_t type)
{
    return type < N_TYPES ? types[type].bytes : 0;
}

const char *tr_gguf_type_name(uint64_t type)
{
    return type < N_TYPES ? types[type].name : "unknown";
}

const char *tr_gguf_bad_key(const char *key, uint64_t len)
{
    if (len == 0) return "the key is empty";
    if (len > TR_GGUF_KEY_MAX) return "the key is longer than 65535 bytes";
    for (uint64_t i = 0; i < len; i++)
        if (key[i] < 0x20 || key[i] > 0x7e) return "the key has a byte that is not printable ASCII";
    return NULL;
}

/* Notes where the text of the next string starts. */
static trueno_status push_string(struct tr_shard *s, const struct tr_cursor *c, uint64_t at)
{
    if (!tr_vec_reserve(s->src.ctx, &s->strings, 1, sizeof at))
        return tr_cursor_fail(c, TRUENO_ERR_NO_MEMORY, "no memory for %llu strings",
                              (unsigned long long)s->strings.n);
    ((uint64_t *)s->strings.data)[s->strings.n++] = at;
    return TRUENO_OK;
}

static trueno_status read_strings(struct tr_shard *s, struct tr_cursor *c, uint64_t count,
                                  uint64_t max_len)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t len = 0, at = 0;
        TR_TRY(tr_take_number(c, 8, &len, "the length of a string"));
        if (len > tr_cursor_left(c)) return tr_cursor_short(c, len, "a string");
        if (len > max_len)
            return tr_cursor_fail(c, TRUENO_ERR_TOO_LARGE,
                                  "string %llu has %llu bytes, the limit is %llu (option "
                                  "max_string_bytes)",
                                  (unsigned long long)i, (unsigned long long)len,
                                  (unsigned long long)max_len);
        TR_TRY(tr_take(c, len, &at, "a string"));
        TR_TRY(push_string(s, c, at));
    }
    return push_string(s, c,
                       c->pos + 8); /* only a mark, so it does not matter if it passes the end */
}

static trueno_status read_fixed(struct tr_cursor *c, const struct tr_kv *kv)
{
    uint64_t at = 0;
    /* does not wrap: read_array_head has compared the count with the rest of the file */
    const uint64_t bytes = kv->count * tr_gguf_type_bytes(kv->elem_type);
    TR_TRY(tr_take(c, bytes, &at, "the value"));
    if (kv->elem_type != TRUENO_GGUF_BOOL) return TRUENO_OK;
    for (uint64_t i = 0; i < bytes; i++)
        if (c->src->bytes[at + i] > 1)
            return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "a bool of value %u, it must be 0 or 1",
                                  c->src->bytes[at + i]);
    return TRUENO_OK;
}

static trueno_status read_array_head(struct tr_cursor *c, struct tr_kv *kv, uint64_t max_elements)
{
    uint64_t elem = 0, count = 0;
    TR_TRY(tr_take_number(c, 4, &elem, "the type of the elements"));
    TR_TRY(tr_take_number(c, 8, &count, "the length of the array"));
    if (elem == TRUENO_GGUF_ARRAY)
        return tr_cursor_fail(c, TRUENO_ERR_UNSUPPORTED, "an array of arrays");
    if (elem >= N_TYPES)
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "elements of type %llu, the last type is %d",
                              (unsigned long long)elem, N_TYPES - 1);
    uint64_t smallest = elem == TRUENO_GGUF_STRING ? 8 : tr_gguf_type_bytes(elem);
    if (count > tr_cursor_left(c) / smallest)
        return tr_cursor_fail(c, TRUENO_ERR_TRUNCATED,
                              "an array of %llu elements of %s, but %llu bytes are left",
                              (unsigned long long)count, tr_gguf_type_name(elem),
                              (unsigned long long)tr_cursor_left(c));
    if (count > max_elements)
        return tr_cursor_fail(c, TRUENO_ERR_TOO_LARGE,
                              "an array of %llu elements, the limit is %llu (option "
                              "max_array_elements)",
                              (unsigned long long)count, (unsigned long long)max_elements);
    kv->elem_type = (uint8_t)elem;
    kv->count = count;
    return TRUENO_OK;
}

static trueno_status read_key(struct tr_cursor *c, struct tr_kv *kv)
{
    TR_TRY(tr_take_name(c, TR_GGUF_KEY_MAX));
    const char *why = tr_gguf_bad_key((const char *)c->src->bytes + c->name, c->name_len);
    if (why) return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "%s", why);
    kv->key = c->name;
    kv->key_len = (uint16_t)c->name_len;
    return TRUENO_OK;
}

static trueno_status read_pair(struct tr_shard *s, struct tr_cursor *c, struct tr_kv *kv,
                               const trueno_gguf_options *lim)
{
    uint64_t type = 0;
    TR_TRY(read_key(c, kv));
    TR_TRY(tr_take_number(c, 4, &type, "the type of the value"));
    if (type >= N_TYPES)
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "a value of type %llu, the last type is %d",
                              (unsigned long long)type, N_TYPES - 1);
    kv->type = kv->elem_type = (uint8_t)type;
    kv->count = 1;
    if (type == TRUENO_GGUF_ARRAY) TR_TRY(read_array_head(c, kv, lim->max_array_elements));
    kv->value = c->pos;
    kv->strings = s->strings.n;
    if (kv->elem_type == TRUENO_GGUF_STRING)
        TR_TRY(read_strings(s, c, kv->count, lim->max_string_bytes));
    else
        TR_TRY(read_fixed(c, kv));
    kv->end = c->pos;
    return TRUENO_OK;
}

static trueno_str key_at(const void *list, uint32_t index)
{
    const struct tr_shard *s = list;
    return tr_kv_key(s, tr_shard_kv(s, index));
}

/* All at once and after reading: the room for n names is asked for only when n were seen. */
static trueno_status index_keys(struct tr_shard *s, struct tr_cursor *c)
{
    tr_names_init(&s->keys, s->src.ctx, s, key_at);
    if (!tr_names_reserve(&s->keys, (uint32_t)s->kv.n)) {
        tr_cursor_record(c, "pairs", UINT64_MAX);
        return tr_cursor_fail(c, TRUENO_ERR_NO_MEMORY, "no memory to index %llu keys",
                              (unsigned long long)s->kv.n);
    }
    for (uint64_t i = 0; i < s->kv.n; i++) {
        if (tr_names_add(&s->keys, (uint32_t)i) == TRUENO_OK) continue;
        tr_cursor_record(c, "pair", i);
        c->name = tr_shard_kv(s, i)->key;
        c->name_len = tr_shard_kv(s, i)->key_len;
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "the key is there twice");
    }
    return TRUENO_OK;
}

trueno_status tr_read_pairs(struct tr_shard *s, struct tr_cursor *c, uint64_t n,
                            const trueno_gguf_options *lim)
{
    for (uint64_t i = 0; i < n; i++) {
        struct tr_kv kv = {0};
        tr_cursor_record(c, "pair", i);
        TR_TRY(read_pair(s, c, &kv, lim));
        if (!tr_vec_reserve(s->src.ctx, &s->kv, 1, sizeof kv))
            return tr_cursor_fail(c, TRUENO_ERR_NO_MEMORY, "no memory for the table of pairs");
        ((struct tr_kv *)s->kv.data)[s->kv.n++] = kv;
    }
    tr_vec_shrink(s->src.ctx, &s->kv, sizeof(struct tr_kv));
    tr_vec_shrink(s->src.ctx, &s->strings, sizeof(uint64_t));
    return index_keys(s, c);
}
