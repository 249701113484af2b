/* SPDX-License-Identifier: MIT */
/* Opens GGUF files: options, header, and the order in which the parts of a file are read. */
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "gguf/gguf_file.h"

/* ---------------------------------------------------------------- options */

static void set_default(uint64_t *field, uint64_t value, uint64_t most)
{
    if (*field == 0) *field = value;
    if (*field > most) *field = most;
}

trueno_status tr_gguf_limits(trueno_gguf_options *out, const trueno_gguf_options *opt,
                             trueno_error *err)
{
    const uint64_t most_indexed = ((uint64_t)1 << 30) - 1; /* of a set of names */
    *out = (trueno_gguf_options)TRUENO_GGUF_OPTIONS_INIT;
    if (opt && !TR_STRUCT_OK(opt))
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "struct_size of the options is %zu, it must be %zu", opt->struct_size,
                       sizeof *opt);
    if (opt) *out = *opt;
    set_default(&out->max_keys, 65536, most_indexed);
    set_default(&out->max_tensors, 65536, most_indexed);
    set_default(&out->max_array_elements, 1 << 24, UINT64_MAX);
    set_default(&out->max_string_bytes, 16 << 20, UINT64_MAX);
    set_default(&out->max_tensor_elements, (uint64_t)1 << 48, UINT64_MAX);
    set_default(&out->max_metadata_bytes, 1 << 30, PTRDIFF_MAX);
    return TRUENO_OK;
}

/* ----------------------------------------------------------------- header */

/* Magics of the formats before GGUF: four letters, written as a little-endian number. */
static bool is_old_magic(const uint8_t *magic)
{
    static const char old[][5] = {"ggml", "ggmf", "ggjt", "ggla", "ggsn"};
    for (size_t i = 0; i < sizeof old / sizeof old[0]; i++) {
        const char reversed[4] = {old[i][3], old[i][2], old[i][1], old[i][0]};
        if (memcmp(magic, old[i], 4) == 0 || memcmp(magic, reversed, 4) == 0) return true;
    }
    return false;
}

static trueno_status read_magic(struct tr_cursor *c)
{
    uint64_t at = 0;
    TR_TRY(tr_take(c, 4, &at, "the magic"));
    const uint8_t *magic = c->src->bytes + at;
    if (memcmp(magic, "GGUF", 4) == 0) return TRUENO_OK;
    if (is_old_magic(magic))
        return tr_cursor_fail(c, TRUENO_ERR_UNSUPPORTED,
                              "an old format from before GGUF (magic %02x%02x%02x%02x)", magic[0],
                              magic[1], magic[2], magic[3]);
    return tr_cursor_fail(c, TRUENO_ERR_CORRUPT,
                          "not a GGUF file: the magic is %02x%02x%02x%02x, not 47475546", magic[0],
                          magic[1], magic[2], magic[3]);
}

static trueno_status read_version(struct tr_cursor *c, struct tr_shard *s)
{
    uint64_t version = 0;
    TR_TRY(tr_take_number(c, 4, &version, "the version"));
    s->version = (uint32_t)version;
    if (version == 2 || version == 3) return TRUENO_OK;
    if (version == 0) return tr_cursor_fail(c, TRUENO_ERR_CORRUPT, "version 0");
    if (version == 0x01000000 || version == 0x02000000 || version == 0x03000000)
        return tr_cursor_fail(c, TRUENO_ERR_UNSUPPORTED,
                              "a big-endian file, only little-endian files are read");
    return tr_cursor_fail(c, TRUENO_ERR_UNSUPPORTED, "version %llu, versions 2 and 3 are read",
                          (unsigned long long)version);
}

/* A count of records. Those that cannot fit into the rest of the file are refused first. */
static trueno_status check_count(const struct tr_cursor *c, uint64_t n, const char *what,
                                 uint64_t smallest, uint64_t most, const char *option)
{
    if (n > tr_cursor_left(c) / smallest)
        return tr_cursor_fail(c, TRUENO_ERR_TRUNCATED, "%llu %s, but %llu bytes are left",
                              (unsigned long long)n, what, (unsigned long long)tr_cursor_left(c));
    if (n > most)
        return tr_cursor_fail(c, TRUENO_ERR_TOO_LARGE, "%llu %s, the limit is %llu (option %s)",
                              (unsigned long long)n, what, (unsigned long long)most, option);
    return TRUENO_OK;
}

/* Power of two up to the largest that we support; the type is fixed by the format. */
static trueno_status read_alignment(struct tr_shard *s, trueno_error *err)
{
    static const char key[] = "general.alignment";
    s->alignment = TR_GGUF_ALIGN_DEFAULT;
    ptrdiff_t i = tr_shard_find(s, key);
    if (i < 0) return TRUENO_OK;
    uint8_t type = tr_shard_kv(s, (uint64_t)i)->type;
    if (type != TRUENO_GGUF_U32)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: key '%s' is of type %s, it must be u32",
                       s->src.label, key, tr_gguf_type_name(type));
    TR_TRY(tr_shard_get_u64(s, key, &s->alignment, err));
    if (s->alignment == 0 || (s->alignment & (s->alignment - 1)))
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: key '%s' is %llu, it must be a power of two",
                       s->src.label, key, (unsigned long long)s->alignment);
    if (s->alignment > TR_GGUF_ALIGN_MAX)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED, "%s: key '%s' is %llu, the limit is %d",
                       s->src.label, key, (unsigned long long)s->alignment, TR_GGUF_ALIGN_MAX);
    return TRUENO_OK;
}

trueno_status tr_shard_read(trueno_gguf *g, struct tr_shard *s, const trueno_gguf_options *lim,
                            trueno_error *err)
{
    uint64_t n_tensors = 0, n_kv = 0;
    struct tr_cursor cursor = {.src = &s->src, .end = s->src.size, .err = err}, *c = &cursor;
    tr_cursor_record(c, "header", UINT64_MAX);
    TR_TRY(read_magic(c));
    TR_TRY(read_version(c, s));
    TR_TRY(tr_take_number(c, 8, &n_tensors, "the number of tensors"));
    TR_TRY(tr_take_number(c, 8, &n_kv, "the number of pairs"));
    /* n_tensors may be up to max_tensors in all shards together */
    TR_TRY(check_count(c, n_tensors, "tensors", TR_GGUF_TENSOR_MIN, lim->max_tensors - g->tensors.n,
                       "max_tensors"));
    TR_TRY(check_count(c, n_kv, "pairs", TR_GGUF_PAIR_MIN, lim->max_keys, "max_keys"));
    TR_TRY(tr_read_pairs(s, c, n_kv, lim));
    TR_TRY(read_alignment(s, err));
    TR_TRY(tr_read_tensors(g, s, c, n_tensors, lim));
    tr_source_trim(&s->src, c->pos);
    return TRUENO_OK;
}

/* ------------------------------------------------------------------- open */

struct tr_shard *tr_gguf_add_shard(trueno_gguf *g)
{
    struct tr_shard **shards =
        tr_realloc(g->ctx, g->shards, (g->n_shards + 1) * sizeof(struct tr_shard *));
    if (!shards) return NULL;
    g->shards = shards;
    struct tr_shard *s = tr_calloc(g->ctx, 1, sizeof *s);
    if (s) g->shards[g->n_shards++] = s;
    return s;
}

static trueno_str tensor_name_at(const void *list, uint32_t index)
{
    const trueno_gguf *g = list;
    const struct tr_tensor *t = tr_gguf_tensor(g, index);
    return (trueno_str){(const char *)g->shards[t->shard]->src.bytes + t->name, t->name_len};
}

/* A file with one shard that has no source yet. */
static trueno_gguf *new_gguf(trueno_ctx *ctx, const trueno_gguf_options *lim)
{
    trueno_gguf *g = tr_calloc(ctx, 1, sizeof *g);
    if (!g) return NULL;
    g->ctx = ctx;
    atomic_init(&g->refs, 1);
    tr_ctx_ref(ctx);
    g->metadata_only = lim->metadata_only;
    tr_names_init(&g->names, ctx, g, tensor_name_at);
    if (tr_gguf_add_shard(g)) return g;
    trueno_gguf_free(g);
    return NULL;
}

/* Checks what all ways of opening have in common and makes the empty object. */
static trueno_status begin_open(trueno_ctx *ctx, trueno_gguf **out, trueno_gguf **g,
                                trueno_gguf_options *lim, const trueno_gguf_options *opt,
                                trueno_error *err)
{
    if (out) *out = NULL;
    if (!ctx || !out) return tr_fail(err, TRUENO_ERR_ARGUMENT, "%s is NULL", ctx ? "out" : "ctx");
    TR_TRY(tr_gguf_limits(lim, opt, err));
    *g = new_gguf(ctx, lim);
    return *g ? TRUENO_OK : tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory to open a file");
}

/* The first shard has its source, or status says why not. */
static trueno_status end_open(trueno_gguf **out, trueno_gguf *g, trueno_status status,
                              const char *path, const char *const *paths, size_t n_paths,
                              const trueno_gguf_options *lim, trueno_error *err)
{
    if (!status) status = tr_shard_read(g, g->shards[0], lim, err);
    if (!status) status = tr_gguf_open_rest(g, path, paths, n_paths, lim, err);
    if (status)
        trueno_gguf_free(g);
    else
        *out = g;
    return status;
}

trueno_status trueno_gguf_open(trueno_ctx *ctx, trueno_gguf **out, const char *path,
                               const trueno_gguf_options *opt, trueno_error *err)
{
    trueno_gguf *g = NULL;
    trueno_gguf_options lim;
    if (out) *out = NULL;
    if (!path) return tr_fail(err, TRUENO_ERR_ARGUMENT, "path is NULL");
    TR_TRY(begin_open(ctx, out, &g, &lim, opt, err));
    trueno_status status = tr_source_open_path(&g->shards[0]->src, ctx, path, &lim, err);
    return end_open(out, g, status, path, NULL, 0, &lim, err);
}

trueno_status trueno_gguf_open_split(trueno_ctx *ctx, trueno_gguf **out, const char *const *paths,
                                     size_t n_paths, const trueno_gguf_options *opt,
                                     trueno_error *err)
{
    trueno_gguf *g = NULL;
    trueno_gguf_options lim;
    if (out) *out = NULL;
    if (!paths || n_paths == 0 || n_paths > TR_GGUF_SHARDS_MAX)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "%zu paths, they must be 1 to %d",
                       paths ? n_paths : 0, TR_GGUF_SHARDS_MAX);
    for (size_t i = 0; i < n_paths; i++)
        if (!paths[i]) return tr_fail(err, TRUENO_ERR_ARGUMENT, "path %zu is NULL", i);
    TR_TRY(begin_open(ctx, out, &g, &lim, opt, err));
    trueno_status status = tr_source_open_path(&g->shards[0]->src, ctx, paths[0], &lim, err);
    return end_open(out, g, status, NULL, paths, n_paths, &lim, err);
}

trueno_status trueno_gguf_open_buffer(trueno_ctx *ctx, trueno_gguf **out, const void *data,
                                      size_t size_bytes, const trueno_gguf_options *opt,
                                      trueno_error *err)
{
    trueno_gguf *g = NULL;
    trueno_gguf_options lim;
    if (out) *out = NULL;
    if (!data && size_bytes) return tr_fail(err, TRUENO_ERR_ARGUMENT, "data is NULL");
    TR_TRY(begin_open(ctx, out, &g, &lim, opt, err));
    tr_source_open_buffer(&g->shards[0]->src, ctx, data, size_bytes);
    return end_open(out, g, TRUENO_OK, NULL, NULL, 0, &lim, err);
}

trueno_status trueno_gguf_open_reader(trueno_ctx *ctx, trueno_gguf **out, trueno_read_fn read,
                                      void *user, uint64_t size_bytes,
                                      const trueno_gguf_options *opt, trueno_error *err)
{
    trueno_gguf *g = NULL;
    trueno_gguf_options lim;
    if (out) *out = NULL;
    if (!read) return tr_fail(err, TRUENO_ERR_ARGUMENT, "read is NULL");
    TR_TRY(begin_open(ctx, out, &g, &lim, opt, err));
    tr_source_open_reader(&g->shards[0]->src, ctx, read, user, size_bytes, &lim);
    return end_open(out, g, TRUENO_OK, NULL, NULL, 0, &lim, err);
}

trueno_gguf *tr_gguf_ref(const trueno_gguf *g)
{
    /* the count is not part of what a const file promises */
    trueno_gguf *counted = (trueno_gguf *)(uintptr_t)g;
    atomic_fetch_add_explicit(&counted->refs, 1, memory_order_relaxed);
    return counted;
}

void trueno_gguf_free(trueno_gguf *g)
{
    if (!g || atomic_fetch_sub_explicit(&g->refs, 1, memory_order_acq_rel) != 1) return;
    trueno_ctx *ctx = g->ctx;
    for (size_t i = 0; i < g->n_shards; i++) {
        struct tr_shard *s = g->shards[i];
        tr_names_free(&s->keys);
        tr_vec_free(ctx, &s->kv);
        tr_vec_free(ctx, &s->strings);
        tr_source_close(&s->src);
        tr_free(ctx, s);
    }
    tr_free(ctx, g->shards);
    tr_names_free(&g->names);
    tr_vec_free(ctx, &g->tensors);
    tr_free(ctx, g);
    tr_ctx_unref(ctx);
}
