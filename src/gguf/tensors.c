/* SPDX-License-Identifier: MIT */
/* Reads the tensor table of a file and proves that all data lies inside the file and that no two
 * tensors share a byte. */
#include "base/error.h"
#include "base/mem.h"
#include "gguf/gguf_file.h"
#include "trueno/quantize.h"

/* ------------------------------------------------------------------ sizes */

/* Numbers that ik_llama.cpp gives to formats of its own. */
static bool is_private_type(uint64_t type)
{
    return (type >= 97 && type <= 99) || (type >= 133 && type <= 158) ||
           (type >= 202 && type <= 399);
}

static const trueno_dtype_info *type_info(uint64_t type)
{
    return type < TRUENO_TYPE_COUNT ? trueno_dtype_get_info((trueno_dtype)type) : NULL;
}

const char *tr_tensor_bytes(uint64_t *bytes, trueno_status *status, uint64_t type, uint32_t n_dims,
                            const uint64_t *ne, uint64_t max_elements)
{
    uint64_t n = 1;
    const trueno_dtype_info *info = type_info(type);
    *status = is_private_type(type) ? TRUENO_ERR_UNSUPPORTED : TRUENO_ERR_CORRUPT;
    if (!info)
        return is_private_type(type)      ? "a type that only ik_llama.cpp defines"
               : type < TRUENO_TYPE_COUNT ? "a type that was removed from GGUF"
                                          : "a type that GGUF does not define";
    for (uint32_t i = 0; i < n_dims; i++) {
        if (ne[i] > INT64_MAX) return "a dimension of 2^63 or more";
        if (!tr_mul(&n, n, ne[i])) return "the product of the dimensions does not fit 64 bits";
    }
    if ((n_dims ? ne[0] : 1) % info->block)
        return "the first dimension is not a multiple of the block";
    if (!tr_mul(bytes, n / info->block, info->block_bytes)) return "its size does not fit 64 bits";
    *status = TRUENO_ERR_TOO_LARGE;
    return n > max_elements ? "more elements than option max_tensor_elements allows" : NULL;
}

/* ------------------------------------------------------------------ infos */

static trueno_status read_name(struct tr_cursor *c, struct tr_tensor *t)
{
    TR_TRY(tr_take_name(c, TR_GGUF_NAME_MAX));
    for (uint64_t i = 0; i < c->name_len; i++)
        if (c->src->bytes[c->name + i] == 0)
            return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "a zero byte in the name");
    t->name = c->name;
    t->name_len = (uint8_t)c->name_len;
    return TRUENO_OK;
}

static trueno_status measure(struct tr_cursor *c, struct tr_tensor *t, uint64_t max_elements)
{
    trueno_status status;
    const char *why =
        tr_tensor_bytes(&t->size_bytes, &status, t->type, t->n_dims, t->ne, max_elements);
    if (!why) return TRUENO_OK;
    const trueno_dtype_info *info = type_info(t->type);
    return tr_cursor_fail(c, status, "%s: type %u (%s, blocks of %u), %llu x %llu x %llu x %llu",
                          why, t->type, info ? info->name : "unknown", info ? info->block : 0,
                          (unsigned long long)t->ne[0], (unsigned long long)t->ne[1],
                          (unsigned long long)t->ne[2], (unsigned long long)t->ne[3]);
}

static trueno_status read_shape(struct tr_cursor *c, struct tr_tensor *t, uint64_t max_elements)
{
    uint64_t n_dims = 0, type = 0;
    TR_TRY(tr_take_number(c, 4, &n_dims, "the number of dimensions"));
    if (n_dims > TR_GGUF_DIMS_MAX)
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "%llu dimensions, the limit is %d",
                              (unsigned long long)n_dims, TR_GGUF_DIMS_MAX);
    for (uint32_t i = 0; i < TR_GGUF_DIMS_MAX; i++) {
        t->ne[i] = 1;
        if (i < n_dims) TR_TRY(tr_take_number(c, 8, &t->ne[i], "a dimension"));
    }
    TR_TRY(tr_take_number(c, 4, &type, "the type"));
    t->n_dims = (uint8_t)n_dims;
    t->type = (uint32_t)type;
    return measure(c, t, max_elements);
}

static trueno_status read_tensor(struct tr_cursor *c, struct tr_tensor *t, const struct tr_shard *s,
                                 uint64_t max_elements)
{
    TR_TRY(read_name(c, t));
    TR_TRY(read_shape(c, t, max_elements));
    TR_TRY(tr_take_number(c, 8, &t->offset, "the offset"));
    if (t->offset % s->alignment)
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT,
                              "offset %llu is not a multiple of the alignment %llu",
                              (unsigned long long)t->offset, (unsigned long long)s->alignment);
    return TRUENO_OK;
}

/* ----------------------------------------------------------------- layout */

static void name_tensor(struct tr_cursor *c, const struct tr_tensor *t, uint64_t index)
{
    tr_cursor_record(c, "tensor", index);
    c->name = t->name;
    c->name_len = t->name_len;
}

/* Makes the offset count from the start of the shard. Sizes of files are not compared when only
 * metadata is wanted, but no sum may wrap. */
static trueno_status place_tensor(struct tr_cursor *c, struct tr_tensor *t,
                                  const struct tr_shard *s, bool metadata_only)
{
    uint64_t room = (metadata_only ? UINT64_MAX : s->src.size) - s->data_start;
    if (t->offset > room || t->size_bytes > room - t->offset)
        return tr_cursor_fail(c, metadata_only ? TRUENO_ERR_CORRUPT : TRUENO_ERR_TRUNCATED,
                              "%llu bytes of data at offset %llu of %llu bytes",
                              (unsigned long long)t->size_bytes, (unsigned long long)t->offset,
                              (unsigned long long)room);
    t->offset += s->data_start;
    return TRUENO_OK;
}

/* Order of data in the file; empty tensors before others at the same place. */
static bool is_before(const struct tr_tensor *t, uint32_t a, uint32_t b)
{
    if (t[a].offset != t[b].offset) return t[a].offset < t[b].offset;
    return t[a].size_bytes < t[b].size_bytes;
}

static void sift_down(uint32_t *heap, size_t root, size_t n, const struct tr_tensor *t)
{
    for (size_t child; (child = 2 * root + 1) < n; root = child) {
        if (child + 1 < n && is_before(t, heap[child], heap[child + 1])) child++;
        if (!is_before(t, heap[root], heap[child])) return;
        uint32_t swap = heap[root];
        heap[root] = heap[child];
        heap[child] = swap;
    }
}

/* Heapsort: no memory of its own and no bad case, neither of which qsort promises. */
static void sort_by_offset(uint32_t *order, size_t n, const struct tr_tensor *t)
{
    for (size_t i = n / 2; i-- > 0;) sift_down(order, i, n, t);
    for (size_t end = n; end-- > 1;) {
        uint32_t swap = order[0];
        order[0] = order[end];
        order[end] = swap;
        sift_down(order, 0, end, t);
    }
}

/* `order` has all tensors of the shard by offset; `t` is the first tensor of the shard. */
static trueno_status check_disjoint(struct tr_cursor *c, const struct tr_tensor *t,
                                    const uint32_t *order, size_t n)
{
    const struct tr_tensor *last = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct tr_tensor *next = &t[order[i]];
        if (next->size_bytes == 0) continue;
        if (last && next->offset - last->offset < last->size_bytes) {
            trueno_str other = {(const char *)c->src->bytes + last->name, last->name_len};
            name_tensor(c, next, order[i]);
            return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "its data overlaps that of '%.*s'",
                                  TR_STR_ARGS(other));
        }
        last = next;
    }
    return TRUENO_OK;
}

static trueno_status check_layout(trueno_gguf *g, struct tr_shard *s, struct tr_cursor *c)
{
    if (s->n_tensors == 0) return TRUENO_OK;
    struct tr_tensor *t = tr_gguf_tensor(g, s->first_tensor);
    if (!g->metadata_only && s->data_start > s->src.size) {
        tr_cursor_record(c, "data", UINT64_MAX);
        return tr_cursor_fail(c, TRUENO_ERR_TRUNCATED,
                              "it would start at %llu, the file has %llu bytes",
                              (unsigned long long)s->data_start, (unsigned long long)s->src.size);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        name_tensor(c, &t[i], i);
        TR_TRY(place_tensor(c, &t[i], s, g->metadata_only));
    }
    uint32_t *order = tr_alloc(g->ctx, s->n_tensors * sizeof *order);
    if (!order) return tr_cursor_fail(c, TRUENO_ERR_NO_MEMORY, "no memory to compare offsets");
    for (size_t i = 0; i < s->n_tensors; i++) order[i] = (uint32_t)i;
    sort_by_offset(order, s->n_tensors, t);
    trueno_status status = check_disjoint(c, t, order, s->n_tensors);
    tr_free(g->ctx, order);
    return status;
}

/* ------------------------------------------------------------------ names */

/* All shards share one set, so that a tensor in two shards is found too. */
static trueno_status index_names(trueno_gguf *g, const struct tr_shard *s, struct tr_cursor *c)
{
    if (!tr_names_reserve(&g->names, (uint32_t)g->tensors.n)) {
        tr_cursor_record(c, "tensors", UINT64_MAX);
        return tr_cursor_fail(c, TRUENO_ERR_NO_MEMORY, "no memory to index %llu names",
                              (unsigned long long)g->tensors.n);
    }
    for (size_t i = 0; i < s->n_tensors; i++) {
        size_t index = s->first_tensor + i;
        if (tr_names_add(&g->names, (uint32_t)index) == TRUENO_OK) continue;
        name_tensor(c, tr_gguf_tensor(g, index), i);
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "another tensor has this name");
    }
    return TRUENO_OK;
}

trueno_status tr_read_tensors(trueno_gguf *g, struct tr_shard *s, struct tr_cursor *c, uint64_t n,
                              const trueno_gguf_options *lim)
{
    s->first_tensor = (size_t)g->tensors.n;
    for (uint64_t i = 0; i < n; i++) {
        struct tr_tensor t = {.shard = (uint16_t)(g->n_shards - 1)};
        tr_cursor_record(c, "tensor", i);
        TR_TRY(read_tensor(c, &t, s, lim->max_tensor_elements));
        if (!tr_vec_reserve(g->ctx, &g->tensors, 1, sizeof t))
            return tr_cursor_fail(c, TRUENO_ERR_NO_MEMORY, "no memory for the table of tensors");
        *tr_gguf_tensor(g, g->tensors.n++) = t;
    }
    s->n_tensors = (size_t)(g->tensors.n - s->first_tensor);
    if (!tr_align_up(&s->data_start, c->pos, s->alignment)) {
        tr_cursor_record(c, "data", UINT64_MAX);
        return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "its start does not fit 64 bits");
    }
    TR_TRY(index_names(g, s, c));
    return check_layout(g, s, c);
}
