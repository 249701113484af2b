/* SPDX-License-Identifier: MIT */
/* Files split into shards: finds the siblings of the first one and proves that all of them belong
 * together. The first shard has the metadata of the model; each has its own tensors. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "gguf/gguf_file.h"

/* A name ends in -00001-of-00003.gguf. */
enum { SUFFIX_LEN = 20 };

static void shard_suffix(char suffix[64], uint64_t no, uint64_t count)
{
    snprintf(suffix, 64, "-%05llu-of-%05llu.gguf", (unsigned long long)no + 1,
             (unsigned long long)count);
}

/* ------------------------------------------------------------------- keys */

/* A key of the split; `fallback` when it is not there. */
static trueno_status get_split(const struct tr_shard *s, const char *key, uint64_t fallback,
                               uint64_t *out, trueno_error *err)
{
    *out = fallback;
    return tr_shard_find(s, key) < 0 ? TRUENO_OK : tr_shard_get_u64(s, key, out, err);
}

static trueno_status check_key(const struct tr_shard *s, const char *key, uint64_t expected,
                               trueno_error *err)
{
    uint64_t value = 0;
    if (tr_shard_find(s, key) < 0)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: no key '%s', so it is no shard", s->src.label,
                       key);
    TR_TRY(tr_shard_get_u64(s, key, &value, err));
    if (value == expected) return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: key '%s' is %llu, it must be %llu", s->src.label,
                   key, (unsigned long long)value, (unsigned long long)expected);
}

static bool is_of_shard(trueno_str key)
{
    static const char *const own[] = {"split.no", "general.alignment"};
    for (size_t i = 0; i < 2; i++)
        if (key.len == strlen(own[i]) && memcmp(key.data, own[i], key.len) == 0) return true;
    return false;
}

static bool same_value(const struct tr_shard *s, const struct tr_kv *a, const struct tr_shard *t,
                       const struct tr_kv *b)
{
    return a->type == b->type && a->elem_type == b->elem_type && a->count == b->count &&
           a->end - a->value == b->end - b->value &&
           memcmp(s->src.bytes + a->value, t->src.bytes + b->value, (size_t)(a->end - a->value)) ==
               0;
}

/* Whatever a shard says of the model, the first one must say too: else it is from another model. */
static trueno_status check_metadata(const struct tr_shard *first, const struct tr_shard *s,
                                    trueno_error *err)
{
    for (uint64_t i = 0; i < s->kv.n; i++) {
        const struct tr_kv *kv = tr_shard_kv(s, i);
        trueno_str key = tr_kv_key(s, kv);
        ptrdiff_t other = tr_names_find(&first->keys, key.data, key.len);
        if (is_of_shard(key) || other < 0) continue;
        if (!same_value(s, kv, first, tr_shard_kv(first, (uint64_t)other)))
            return tr_fail(err, TRUENO_ERR_CORRUPT,
                           "%s: key '%.*s' has another value than in %s: a shard of another model",
                           s->src.label, TR_STR_ARGS(key), first->src.label);
    }
    return TRUENO_OK;
}

/* ----------------------------------------------------------------- shards */

static trueno_status open_shard(trueno_gguf *g, const char *path, uint64_t no, uint64_t count,
                                const trueno_gguf_options *lim, trueno_error *err)
{
    struct tr_shard *s = tr_gguf_add_shard(g);
    if (!s)
        return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for shard %llu",
                       (unsigned long long)no);
    TR_TRY(tr_source_open_path(&s->src, g->ctx, path, lim, err));
    TR_TRY(tr_shard_read(g, s, lim, err));
    TR_TRY(check_key(s, "split.no", no, err));
    TR_TRY(check_key(s, "split.count", count, err));
    return check_metadata(g->shards[0], s, err);
}

/* Opens NAME-0000k-of-0000N.gguf for k = 2..N, in the directory of the first. */
static trueno_status open_siblings(trueno_gguf *g, const char *path, uint64_t count,
                                   const trueno_gguf_options *lim, trueno_error *err)
{
    char suffix[64];
    size_t len = strlen(path);
    shard_suffix(suffix, 0, count);
    if (len < SUFFIX_LEN || strcmp(path + len - SUFFIX_LEN, suffix) != 0)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "%s: the first of %llu shards must be named NAME%s to find the others; else "
                       "open them with trueno_gguf_open_split",
                       g->shards[0]->src.label, (unsigned long long)count, suffix);
    char *sibling = tr_strndup(g->ctx, path, len);
    if (!sibling) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "no memory for the name of a shard");
    trueno_status status = TRUENO_OK;
    for (uint64_t no = 1; no < count && !status; no++) {
        shard_suffix(suffix, no, count);
        memcpy(sibling + len - SUFFIX_LEN, suffix, SUFFIX_LEN);
        status = open_shard(g, sibling, no, count, lim, err);
    }
    tr_free(g->ctx, sibling);
    return status;
}

static trueno_status open_listed(trueno_gguf *g, const char *const *paths, size_t n_paths,
                                 uint64_t count, const trueno_gguf_options *lim, trueno_error *err)
{
    if (count != n_paths)
        return tr_fail(err, TRUENO_ERR_ARGUMENT,
                       "%s: key 'split.count' is %llu, %zu paths are given",
                       g->shards[0]->src.label, (unsigned long long)count, n_paths);
    for (size_t no = 1; no < n_paths; no++) TR_TRY(open_shard(g, paths[no], no, count, lim, err));
    return TRUENO_OK;
}

static trueno_status check_first(const struct tr_shard *first, uint64_t no, uint64_t count,
                                 trueno_error *err)
{
    const char *label = first->src.label;
    if (no >= count)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "%s: key 'split.no' is %llu, 'split.count' is %llu",
                       label, (unsigned long long)no, (unsigned long long)count);
    if (no > 0)
        return tr_fail(
            err, TRUENO_ERR_ARGUMENT,
            "%s: this is shard %llu of %llu (key 'split.no' is %llu), open the first one", label,
            (unsigned long long)no + 1, (unsigned long long)count, (unsigned long long)no);
    if (count > TR_GGUF_SHARDS_MAX)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED,
                       "%s: key 'split.count' is %llu, the limit is %d", label,
                       (unsigned long long)count, TR_GGUF_SHARDS_MAX);
    return TRUENO_OK;
}

static trueno_status add_sizes(trueno_gguf *g, trueno_error *err)
{
    for (size_t i = 0; i < g->n_shards; i++)
        if (!tr_add(&g->size_bytes, g->size_bytes, g->shards[i]->src.size))
            return tr_fail(err, TRUENO_ERR_CORRUPT, "the sizes of the shards do not fit 64 bits");
    return TRUENO_OK;
}

trueno_status tr_gguf_open_rest(trueno_gguf *g, const char *path, const char *const *paths,
                                size_t n_paths, const trueno_gguf_options *lim, trueno_error *err)
{
    uint64_t no, count, n_tensors;
    const struct tr_shard *first = g->shards[0];
    TR_TRY(get_split(first, "split.no", 0, &no, err));
    TR_TRY(get_split(first, "split.count", 1, &count, err));
    TR_TRY(check_first(first, no, count, err));
    if (paths)
        TR_TRY(open_listed(g, paths, n_paths, count, lim, err));
    else if (path && count > 1)
        TR_TRY(open_siblings(g, path, count, lim, err));
    else if (count > 1)
        return tr_fail(err, TRUENO_ERR_UNSUPPORTED,
                       "%s: the first of %llu shards; the others are found only when files are "
                       "opened by path",
                       first->src.label, (unsigned long long)count);
    TR_TRY(get_split(first, "split.tensors.count", g->tensors.n, &n_tensors, err));
    if (n_tensors != g->tensors.n)
        return tr_fail(
            err, TRUENO_ERR_CORRUPT, "%s: key 'split.tensors.count' is %llu, the shards have %llu",
            first->src.label, (unsigned long long)n_tensors, (unsigned long long)g->tensors.n);
    return add_sizes(g, err);
}
