/* SPDX-License-Identifier: MIT */
/** @file gguf.h
 *  Reading and writing GGUF files, versions 2 and 3, little-endian.
 *
 *  Everything a file says is checked before it is used: after a successful open every key, string,
 * array and tensor lies inside the file, tensors do not overlap, and all sizes fit. Opening costs
 * one pass over the metadata and never allocates more than a small multiple of the bytes already
 * seen.
 *
 *  A `trueno_gguf` is immutable and may be read from several threads. Pointers it returns live
 * until trueno_gguf_free. Source: GGUF specification (ggml docs/gguf.md).
 */
#ifndef TRUENO_GGUF_H
#define TRUENO_GGUF_H

#include "base.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Tensor types by their number in GGUF files. Frozen. Types without an entry here are in the
 * traits table (trueno_dtype_get_info) when their size is known. */
typedef enum trueno_dtype {
    TRUENO_TYPE_F32 = 0,
    TRUENO_TYPE_F16 = 1,
    TRUENO_TYPE_Q4_0 = 2,
    TRUENO_TYPE_Q4_1 = 3,
    TRUENO_TYPE_Q5_0 = 6,
    TRUENO_TYPE_Q5_1 = 7,
    TRUENO_TYPE_Q8_0 = 8,
    TRUENO_TYPE_Q2_K = 10,
    TRUENO_TYPE_Q3_K = 11,
    TRUENO_TYPE_Q4_K = 12,
    TRUENO_TYPE_Q5_K = 13,
    TRUENO_TYPE_Q6_K = 14,
    TRUENO_TYPE_I8 = 24,
    TRUENO_TYPE_I16 = 25,
    TRUENO_TYPE_I32 = 26,
    TRUENO_TYPE_I64 = 27,
    TRUENO_TYPE_F64 = 28,
    TRUENO_TYPE_BF16 = 30,
    TRUENO_TYPE_COUNT = 43 /**< one past the highest number that GGUF defines */
} trueno_dtype;

/** Types of metadata values, by their number in files. Frozen. */
typedef enum trueno_gguf_type {
    TRUENO_GGUF_U8 = 0,
    TRUENO_GGUF_I8 = 1,
    TRUENO_GGUF_U16 = 2,
    TRUENO_GGUF_I16 = 3,
    TRUENO_GGUF_U32 = 4,
    TRUENO_GGUF_I32 = 5,
    TRUENO_GGUF_F32 = 6,
    TRUENO_GGUF_BOOL = 7,
    TRUENO_GGUF_STRING = 8,
    TRUENO_GGUF_ARRAY = 9,
    TRUENO_GGUF_U64 = 10,
    TRUENO_GGUF_I64 = 11,
    TRUENO_GGUF_F64 = 12
} trueno_gguf_type;

/** A byte string inside the file: not NUL-terminated, any bytes. */
typedef struct trueno_str {
    const char *data; /**< may be NULL if len is 0 */
    size_t len;       /**< bytes */
} trueno_str;

/** An opened GGUF file (or set of split files seen as one). */
typedef struct trueno_gguf trueno_gguf;

/** Caps on what a file may ask for, and how to open it. Zero: the default in brackets. */
typedef struct trueno_gguf_options {
    size_t struct_size;
    bool metadata_only; /**< keys and tensor table; tensor data may be missing and is not checked */
    bool no_mmap; /**< read tensor data with read() on demand instead of mapping the file: safe when
                       another process may truncate it (a mapped page past the end is SIGBUS) */
    uint64_t max_keys;            /**< [65536] */
    uint64_t max_tensors;         /**< [65536] */
    uint64_t max_array_elements;  /**< [2^24] */
    uint64_t max_string_bytes;    /**< [16 MiB] of one string value */
    uint64_t max_tensor_elements; /**< [2^48] */
    uint64_t max_metadata_bytes;  /**< [1 GiB] from a callback source, where metadata must be copied
                                     to memory */
} trueno_gguf_options;

#define TRUENO_GGUF_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(trueno_gguf_options), false, false, 0, 0, 0, 0, 0, 0                                \
    }

/** Reads `size_bytes` bytes at `offset` into `dst`. Returns the bytes read: fewer means end or
 * error. */
typedef size_t (*trueno_read_fn)(void *user, void *dst, uint64_t offset, size_t size_bytes);

/** Opens a file. A first shard `NAME-00001-of-0000N.gguf` opens its siblings in the same directory
 * too. `path` is UTF-8. On success the caller owns `*out`.
 *  @return OK; ERR_ARGUMENT; ERR_IO; ERR_TRUNCATED; ERR_CORRUPT; ERR_UNSUPPORTED (other versions,
 * big-endian, old magics, arrays of arrays, tensor types of other forks, an alignment above 2^20,
 * more than 1024 shards); ERR_TOO_LARGE (a cap); ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_gguf_open(trueno_ctx *ctx, trueno_gguf **out, const char *path,
                                          const trueno_gguf_options *opt, trueno_error *err);

/** Opens an explicit list of shards, in order. */
TRUENO_API trueno_status trueno_gguf_open_split(trueno_ctx *ctx, trueno_gguf **out,
                                                const char *const *paths, size_t n_paths,
                                                const trueno_gguf_options *opt, trueno_error *err);

/** Opens a file image in memory. The bytes are borrowed: they must stay unchanged until
 * trueno_gguf_free. */
TRUENO_API trueno_status trueno_gguf_open_buffer(trueno_ctx *ctx, trueno_gguf **out,
                                                 const void *data, size_t size_bytes,
                                                 const trueno_gguf_options *opt, trueno_error *err);

/** Opens a file through a callback. Metadata is read and kept; tensor data is read on demand.
 * `read` and `user` must stay valid until trueno_gguf_free, and `read` may be called from several
 * threads. */
TRUENO_API trueno_status trueno_gguf_open_reader(trueno_ctx *ctx, trueno_gguf **out,
                                                 trueno_read_fn read, void *user,
                                                 uint64_t size_bytes,
                                                 const trueno_gguf_options *opt, trueno_error *err);

/** Closes. */
TRUENO_API void trueno_gguf_free(trueno_gguf *g);

/** The context that the file was opened with. Borrowed. */
TRUENO_API trueno_ctx *trueno_gguf_ctx(const trueno_gguf *g);

/** Format version: 2 or 3. */
TRUENO_API uint32_t trueno_gguf_version(const trueno_gguf *g);
/** Alignment of tensor data in bytes. */
TRUENO_API uint64_t trueno_gguf_alignment(const trueno_gguf *g);
/** Size of all shards in bytes. */
TRUENO_API uint64_t trueno_gguf_size_bytes(const trueno_gguf *g);
/** Number of shards; 1 unless split. */
TRUENO_API size_t trueno_gguf_n_shards(const trueno_gguf *g);

/* ------------------------------------------------------------------ keys */

/** One metadata pair. */
typedef struct trueno_gguf_kv {
    trueno_str key;             /**< name */
    trueno_gguf_type type;      /**< of the value */
    trueno_gguf_type elem_type; /**< of the elements if type is ARRAY, else = type */
    uint64_t count;             /**< elements of an array, 1 for a scalar */
} trueno_gguf_kv;

/** Number of pairs. */
TRUENO_API size_t trueno_gguf_n_kv(const trueno_gguf *g);
/** The pair at `index`, in file order. @return OK; ERR_ARGUMENT */
TRUENO_API trueno_status trueno_gguf_kv_at(const trueno_gguf *g, size_t index, trueno_gguf_kv *out);

/** Index of a key by exact name, or -1. O(1). */
TRUENO_API ptrdiff_t trueno_gguf_find(const trueno_gguf *g, const char *key);

/** Scalar by key. Integers of any width and sign are accepted when the value fits; floats only as
 * floats; bools only as bools. @return OK; ERR_NOT_FOUND (`*out` unchanged, so a default may be put
 * there first); ERR_CORRUPT (another type, or a value that does not fit: `*out` is 0 and `err`
 * names the key). NaN and infinities are handed on as they are. */
TRUENO_API trueno_status trueno_gguf_get_u64(const trueno_gguf *g, const char *key, uint64_t *out,
                                             trueno_error *err);
/** As trueno_gguf_get_u64, signed. */
TRUENO_API trueno_status trueno_gguf_get_i64(const trueno_gguf *g, const char *key, int64_t *out,
                                             trueno_error *err);
/** As trueno_gguf_get_u64, for F32 and F64. */
TRUENO_API trueno_status trueno_gguf_get_f64(const trueno_gguf *g, const char *key, double *out,
                                             trueno_error *err);
/** As trueno_gguf_get_u64, for BOOL. */
TRUENO_API trueno_status trueno_gguf_get_bool(const trueno_gguf *g, const char *key, bool *out,
                                              trueno_error *err);
/** As trueno_gguf_get_u64, for STRING. */
TRUENO_API trueno_status trueno_gguf_get_str(const trueno_gguf *g, const char *key, trueno_str *out,
                                             trueno_error *err);

/** Element `elem` of the array (or scalar, elem 0) at index `kv`, with the same conversions.
 *  String elements are found in O(1). @return OK; ERR_ARGUMENT (index); ERR_CORRUPT (another type)
 */
TRUENO_API trueno_status trueno_gguf_elem_u64(const trueno_gguf *g, size_t kv, uint64_t elem,
                                              uint64_t *out);
/** As trueno_gguf_elem_u64, signed. */
TRUENO_API trueno_status trueno_gguf_elem_i64(const trueno_gguf *g, size_t kv, uint64_t elem,
                                              int64_t *out);
/** As trueno_gguf_elem_u64, for F32 and F64. */
TRUENO_API trueno_status trueno_gguf_elem_f64(const trueno_gguf *g, size_t kv, uint64_t elem,
                                              double *out);
/** As trueno_gguf_elem_u64, for BOOL. */
TRUENO_API trueno_status trueno_gguf_elem_bool(const trueno_gguf *g, size_t kv, uint64_t elem,
                                               bool *out);
/** As trueno_gguf_elem_u64, for STRING. */
TRUENO_API trueno_status trueno_gguf_elem_str(const trueno_gguf *g, size_t kv, uint64_t elem,
                                              trueno_str *out);

/** The bytes of an array (or scalar) of fixed-size elements, as in the file: little-endian, any
 * alignment. NULL for strings and bad indices. */
TRUENO_API const void *trueno_gguf_kv_data(const trueno_gguf *g, size_t kv);

/* --------------------------------------------------------------- tensors */

/** One tensor. `ne[0]` is the contiguous dimension (inputs of a matrix), unused dimensions are 1.
 */
typedef struct trueno_gguf_tensor {
    trueno_str name;      /**< unique in the file */
    trueno_dtype type;    /**< always a type of known size; see trueno_dtype_get_info */
    uint32_t n_dims;      /**< 0..4 as written in the file */
    uint64_t ne[4];       /**< elements of each dimension */
    uint64_t size_bytes;  /**< of the data */
    uint64_t file_offset; /**< of the data, from the start of its shard */
    uint32_t shard;       /**< 0 unless split */
} trueno_gguf_tensor;

/** Number of tensors. */
TRUENO_API size_t trueno_gguf_n_tensors(const trueno_gguf *g);
/** The tensor at `index`, in file order. @return OK; ERR_ARGUMENT */
TRUENO_API trueno_status trueno_gguf_tensor_at(const trueno_gguf *g, size_t index,
                                               trueno_gguf_tensor *out);
/** Index of a tensor by exact name, or -1. O(1). */
TRUENO_API ptrdiff_t trueno_gguf_find_tensor(const trueno_gguf *g, const char *name);

/** The tensor's bytes in the mapped file or the caller's buffer; NULL when the source is a
 * callback, was opened with no_mmap or metadata_only, or the index is wrong. */
TRUENO_API const void *trueno_gguf_tensor_data(const trueno_gguf *g, size_t index);

/** Copies `size_bytes` bytes of the tensor from `offset` on into `dst`, whatever the source.
 * Thread-safe.
 *  @return OK; ERR_ARGUMENT (outside the tensor); ERR_IO; ERR_TRUNCATED (the source has shrunk) */
TRUENO_API trueno_status trueno_gguf_tensor_read(const trueno_gguf *g, size_t index,
                                                 uint64_t offset, void *dst, size_t size_bytes,
                                                 trueno_error *err);

/* ---------------------------------------------------------------- writer */

/** Builds a GGUF v3 file. Keys and tensors are written in the order they were added. Data is
 * aligned to key `general.alignment` (u32, a power of two up to 2^20) if that is added, else to 32
 * bytes. When a tensor is quantised and key `general.quantization_version` was not added, it is
 * written as 2 behind the other keys. */
typedef struct trueno_gguf_writer trueno_gguf_writer;

/** @return OK; ERR_ARGUMENT; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_gguf_writer_new(trueno_ctx *ctx, trueno_gguf_writer **out);
TRUENO_API void trueno_gguf_writer_free(trueno_gguf_writer *w);

/** Adds a pair. Strings are copied. A key twice is ERR_ARGUMENT; so is adding after the first
 * tensor was written.
 *  @return OK; ERR_ARGUMENT; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_gguf_writer_u32(trueno_gguf_writer *w, const char *key,
                                                uint32_t value);
/** As trueno_gguf_writer_u32. */
TRUENO_API trueno_status trueno_gguf_writer_i32(trueno_gguf_writer *w, const char *key,
                                                int32_t value);
/** As trueno_gguf_writer_u32. */
TRUENO_API trueno_status trueno_gguf_writer_u64(trueno_gguf_writer *w, const char *key,
                                                uint64_t value);
/** As trueno_gguf_writer_u32. */
TRUENO_API trueno_status trueno_gguf_writer_f32(trueno_gguf_writer *w, const char *key,
                                                float value);
/** As trueno_gguf_writer_u32. */
TRUENO_API trueno_status trueno_gguf_writer_bool(trueno_gguf_writer *w, const char *key,
                                                 bool value);
/** As trueno_gguf_writer_u32. */
TRUENO_API trueno_status trueno_gguf_writer_str(trueno_gguf_writer *w, const char *key,
                                                const char *data, size_t len);
/** Array of `count` fixed-size elements of type `elem`, given as native values. */
TRUENO_API trueno_status trueno_gguf_writer_array(trueno_gguf_writer *w, const char *key,
                                                  trueno_gguf_type elem, const void *data,
                                                  uint64_t count);
/** Array of `count` strings. */
TRUENO_API trueno_status trueno_gguf_writer_str_array(trueno_gguf_writer *w, const char *key,
                                                      const trueno_str *items, uint64_t count);
/** Copies pair `kv` of an open file as it is. */
TRUENO_API trueno_status trueno_gguf_writer_copy_kv(trueno_gguf_writer *w, const trueno_gguf *src,
                                                    size_t kv);

/** Announces a tensor: type, n_dims dimensions (1..4), ne[0] contiguous. Its data follows through
 *  trueno_gguf_writer_data in the same order. @return OK; ERR_ARGUMENT (name used, bad shape);
 * ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_gguf_writer_tensor(trueno_gguf_writer *w, const char *name,
                                                   trueno_dtype type, uint32_t n_dims,
                                                   const uint64_t *ne);

/** Begins the file: writes header, pairs and tensor table to a temporary file beside `path`. With
 * `path` NULL the file is built in memory. @return OK; ERR_ARGUMENT; ERR_IO; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_gguf_writer_begin(trueno_gguf_writer *w, const char *path,
                                                  trueno_error *err);

/** Appends data of the current tensor, in any number of pieces; padding between tensors is written
 * as zeros.
 *  @return OK; ERR_ARGUMENT (more than announced); ERR_IO; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_gguf_writer_data(trueno_gguf_writer *w, const void *data,
                                                 size_t size_bytes, trueno_error *err);

/** Ends the file: all announced data must be there. The temporary file is synced and renamed to
 * `path`; on failure it is removed and an older file of that name stays as it was. @return OK;
 * ERR_ARGUMENT; ERR_IO */
TRUENO_API trueno_status trueno_gguf_writer_finish(trueno_gguf_writer *w, trueno_error *err);

/** After finish of an in-memory file: its bytes, owned by the writer. */
TRUENO_API const void *trueno_gguf_writer_buffer(const trueno_gguf_writer *w, size_t *size_bytes);

#ifdef __cplusplus
}
#endif
#endif
