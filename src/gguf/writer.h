/* SPDX-License-Identifier: MIT */
/* Inside of a GGUF writer. Pairs are encoded as they come; tensors are listed; begin lays the file
 * out; data follows. */
#ifndef TR_WRITER_H
#define TR_WRITER_H

#include "base/file.h"
#include "gguf/bytes.h"
#include "gguf/names.h"
#include "trueno/gguf.h"

struct tr_out_tensor {
    uint64_t name; /* in trueno_gguf_writer.text */
    uint64_t ne[4];
    uint64_t size_bytes;
    uint64_t offset; /* from the start of the data section, set by begin */
    uint32_t type, n_dims;
    uint8_t name_len;
};

/* Where the key of a written pair is, in trueno_gguf_writer.pairs. */
struct tr_out_key {
    uint64_t at;
    uint32_t len;
};

enum tr_writer_state {
    TR_WRITER_ADDING,  /* before begin */
    TR_WRITER_WRITING, /* between begin and finish */
    TR_WRITER_DONE,
    TR_WRITER_FAILED /* a write failed half-way: nothing can follow */
};

struct trueno_gguf_writer {
    trueno_ctx *ctx;
    enum tr_writer_state state;
    struct tr_vec pairs;   /* uint8_t: encoded pairs */
    struct tr_vec keys;    /* struct tr_out_key */
    struct tr_vec tensors; /* struct tr_out_tensor */
    struct tr_vec text;    /* char: names of tensors */
    struct tr_names key_set, tensor_set;
    uint64_t alignment;

    bool in_memory;
    struct tr_vec image;    /* uint8_t: the file, if it is built in memory */
    struct tr_outfile file; /* else */
    uint64_t current, done; /* tensor that is being written, and its bytes that are */
};

static inline struct tr_out_tensor *tr_out_tensor_at(const trueno_gguf_writer *w, uint64_t i)
{
    return (struct tr_out_tensor *)w->tensors.data + i;
}

/* Encodes header, pairs and tensor table, padded to where data starts, and sets the offsets of the
 * tensors. @return OK; ERR_ARGUMENT (sizes do not fit); ERR_NO_MEMORY */
trueno_status tr_writer_head(trueno_gguf_writer *w, struct tr_vec *head, uint64_t *data_bytes,
                             trueno_error *err);

#endif
