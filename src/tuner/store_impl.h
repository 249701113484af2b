/* SPDX-License-Identifier: MIT */
/* The tables of a store, for the files that make them. */
#ifndef TR_STORE_IMPL_H
#define TR_STORE_IMPL_H

#include "base/mem.h"
#include "gguf/bytes.h"
#include "tuner/store.h"

enum { TR_WISDOM_BYTES = 104, TR_MACHINE_BYTES = 856 }; /* of a record in the binary form */

struct tr_store_blob {
    void *bytes; /* NULL: none */
    size_t n;
    uint32_t generation;
};

struct tr_store {
    trueno_ctx *ctx;
    uint64_t seed;          /* of the hash, random: files cannot be made to collide */
    struct tr_vec machines; /* of struct tr_store_machine, in the order of arrival */
    struct tr_vec entries;  /* of struct tr_wisdom, likewise */
    uint32_t *slots;        /* open addressing; index of an entry + 1, 0: free */
    uint32_t n_slots;       /* a power of two, at least twice the entries; or 0 */
    struct tr_store_blob blobs[TR_SECTION_END - TR_SECTION_FIRST];
};

/* What is wrong with a record, in words; NULL: nothing. Lets generation 0 pass, as callers may give
 * it and files may not, and does not look at the machine's index. */
const char *tr_wisdom_problem(const struct tr_wisdom *w);
const char *tr_machine_problem(const struct tr_store_machine *m);

/* Printable ASCII, 1 to cap - 1 bytes and a NUL. */
bool tr_store_name_ok(const char *name, size_t cap);

/* Records that were checked, joined by the order; one with the key of another counts as a
 * duplicate. @return OK; ERR_TOO_LARGE; ERR_NO_MEMORY */
trueno_status tr_store_join(struct tr_store *s, const struct tr_wisdom *w,
                            struct tr_store_report *report, trueno_error *err);
trueno_status tr_store_join_machine(struct tr_store *s, uint32_t *index,
                                    const struct tr_store_machine *m,
                                    struct tr_store_report *report, trueno_error *err);
/* Takes `bytes`, from the store's context, over; it must not be NULL. */
void tr_store_join_blob(struct tr_store *s, enum tr_section id, struct tr_store_blob blob);

/* An entry or a tombstone. */
bool tr_store_holds(const struct tr_store *s, uint32_t machine, uint64_t context);

/* Room for so many entries and machines in all, so that joining them cannot fail for memory. */
bool tr_store_reserve(struct tr_store *s, size_t n_machines, size_t n_entries);

/* The records' bytes; names are given by number. The order of two records with one key ends with
 * these. */
void tr_wisdom_encode(uint8_t out[TR_WISDOM_BYTES], const struct tr_wisdom *w, uint32_t machine,
                      uint32_t variant, uint32_t reference);
void tr_machine_encode(uint8_t out[TR_MACHINE_BYTES], const struct tr_store_machine *m);

/* The order in which a store is written: machines by id, entries by machine and context. */
struct tr_store_row {
    uint32_t machine; /* in the written order */
    const struct tr_wisdom *w;
};
struct tr_store_order {
    const struct tr_store_machine **machines; /* [n_machines] */
    struct tr_store_row *rows;                /* [n_entries] */
};
bool tr_store_sort(struct tr_store_order *out, struct tr_arena *arena, const struct tr_store *s);

#endif
