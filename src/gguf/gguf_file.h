/* SPDX-License-Identifier: MIT */
/* What an open GGUF file is made of. Everything in these structs was checked against the bytes of
 * its shard; the header in the file is never read again. */
#ifndef TR_GGUF_FILE_H
#define TR_GGUF_FILE_H

#include <stdatomic.h>

#include "gguf/cursor.h"
#include "gguf/names.h"
#include "trueno/gguf.h"

/* Limits of the format, which no option raises. */
enum {
    TR_GGUF_KEY_MAX = 65535,
    TR_GGUF_NAME_MAX = 64, /* of a tensor, bytes */
    TR_GGUF_DIMS_MAX = 4,
    TR_GGUF_ALIGN_DEFAULT = 32,
    TR_GGUF_ALIGN_MAX = 1 << 20,
    TR_GGUF_SHARDS_MAX = 1024,
    TR_GGUF_PAIR_MIN = 13,  /* bytes of the smallest record in a file */
    TR_GGUF_TENSOR_MIN = 24 /* the same */
};

/* One pair. Offsets count from the start of the shard. */
struct tr_kv {
    uint64_t key,
        value;    /* first byte of the key; of the value or, in arrays, of the first element */
    uint64_t end; /* one past the value */
    uint64_t count;
    uint64_t strings; /* of a string or strings: count + 1 entries of tr_shard.strings from here on:
                         where the text of each starts. A text ends 8 bytes, the length field of the
                         next, before the next one starts */
    uint16_t key_len;
    uint8_t type, elem_type; /* trueno_gguf_type */
};

struct tr_tensor {
    uint64_t name; /* offset in its shard */
    uint64_t ne[TR_GGUF_DIMS_MAX];
    uint64_t size_bytes;
    uint64_t offset; /* of the data; while a shard is read, from the start of its data section,
                        after that from the start of the shard */
    uint32_t type;
    uint16_t shard;
    uint8_t n_dims, name_len;
};

struct tr_shard {
    struct tr_source src;
    uint32_t version;
    uint64_t alignment;
    uint64_t data_start;
    struct tr_vec kv;      /* struct tr_kv */
    struct tr_vec strings; /* uint64_t */
    struct tr_names keys;
    size_t first_tensor, n_tensors; /* in trueno_gguf.tensors */
};

struct trueno_gguf {
    trueno_ctx *ctx;
    atomic_uint refs;
    bool metadata_only;
    struct tr_shard **shards; /* single blocks: sets of names point into them */
    size_t n_shards;
    uint64_t size_bytes;
    struct tr_vec tensors; /* struct tr_tensor */
    struct tr_names names;
};

static inline const struct tr_kv *tr_shard_kv(const struct tr_shard *s, uint64_t i)
{
    return (const struct tr_kv *)s->kv.data + i;
}

static inline struct tr_tensor *tr_gguf_tensor(const trueno_gguf *g, uint64_t i)
{
    return (struct tr_tensor *)g->tensors.data + i;
}

/* One more owner, who calls trueno_gguf_free on what this returns, which is g: until the last owner
 * did, the object, its mapping and its metadata stay. */
trueno_gguf *tr_gguf_ref(const trueno_gguf *g);

/* Bytes of one value; 0 for strings, arrays and numbers that are no type. */
size_t tr_gguf_type_bytes(uint64_t type);
const char *tr_gguf_type_name(uint64_t type);

/* Whether these bytes may be a key: 1..65535 of printable ASCII. NULL: yes; else why not. */
const char *tr_gguf_bad_key(const char *key, uint64_t len);

/* The options with defaults filled in. @return OK; ERR_ARGUMENT */
trueno_status tr_gguf_limits(trueno_gguf_options *out, const trueno_gguf_options *opt,
                             trueno_error *err);

/* Makes the source behind shard `s`, whose src is set, into a checked shard: reads the header, n
 * pairs (kv.c), n tensor infos (tensors.c), and appends its tensors to g.  */
trueno_status tr_shard_read(trueno_gguf *g, struct tr_shard *s, const trueno_gguf_options *lim,
                            trueno_error *err);
trueno_status tr_read_pairs(struct tr_shard *s, struct tr_cursor *c, uint64_t n,
                            const trueno_gguf_options *lim);
trueno_status tr_read_tensors(trueno_gguf *g, struct tr_shard *s, struct tr_cursor *c, uint64_t n,
                              const trueno_gguf_options *lim);

/* Bytes of a tensor's data. NULL: *bytes is set; else what is wrong, and *status. */
const char *tr_tensor_bytes(uint64_t *bytes, trueno_status *status, uint64_t type, uint32_t n_dims,
                            const uint64_t *ne, uint64_t max_elements);

/* An empty shard at the end of g->shards, or NULL: no memory. */
struct tr_shard *tr_gguf_add_shard(trueno_gguf *g);

/* With the first shard read: opens and reads those that belong to it, checks that they do, and ends
 * the opening. `path` of the first: siblings are sought beside it. `paths`: they are here. Both
 * NULL: there must be none. */
trueno_status tr_gguf_open_rest(trueno_gguf *g, const char *path, const char *const *paths,
                                size_t n_paths, const trueno_gguf_options *lim, trueno_error *err);

/* Reading of checked pairs (value.c). */
trueno_str tr_kv_key(const struct tr_shard *s, const struct tr_kv *kv);
ptrdiff_t tr_shard_find(const struct tr_shard *s, const char *key);
trueno_status tr_shard_get_u64(const struct tr_shard *s, const char *key, uint64_t *out,
                               trueno_error *err);

#endif
