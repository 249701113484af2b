/* SPDX-License-Identifier: MIT */
/* The store: what was measured, on which machine, and the blobs of what was learned. A table in
 * memory; a binary file and JSON of the same content; a join of two stores.
 *
 * Of each key (machine, context) there is one entry, of each machine one row, of each section one
 * blob. Two versions of one thing are joined by a total order that begins with the generation: the
 * greater one stays. So merging is commutative, associative and idempotent, and no key is ever
 * lost; what is forgotten stays as an entry of a higher generation that says so.
 *
 * Whatever a store says is a hint. It can only choose among kernels that the running build offers,
 * so a hostile store costs at most speed. Nothing here is locked: one thread at a time. */
#ifndef TR_STORE_H
#define TR_STORE_H

#include "trueno/choice.h"

enum {
    TR_STORE_MAX_BYTES = 16 << 20, /* of the binary form */
    TR_STORE_MAX_JSON = 64 << 20,  /* of JSON: the same content takes up to four times as many */
    TR_STORE_MAX_ENTRIES = 65536,
    TR_STORE_MAX_MACHINES = 256,
    TR_STORE_MAX_GENERATION = 1 << 30,
    TR_STORE_NAME_BYTES = 64,  /* of a variant or a machine's id, with its NUL */
    TR_STORE_HARD_BYTES = 256, /* of a fingerprint's text, with its NUL */
    TR_STORE_POINTS = 16
};

/* Frozen: they stand in files. */
enum tr_wisdom_state {
    TR_WISDOM_PROVISIONAL = 0, /* raced */
    TR_WISDOM_VERIFIED = 1,    /* and confirmed inside real passes */
    TR_WISDOM_FORGOTTEN = 2    /* a tombstone: nothing is known of this key */
};

enum tr_effort { TR_EFFORT_RAPID = 0, TR_EFFORT_NORMAL = 1, TR_EFFORT_PATIENT = 2 };

/* What is known of one context on one machine. */
struct tr_wisdom {
    uint32_t machine; /* index in its store */
    uint64_t context; /* trueno_problem_context of the next seven */
    trueno_dtype type;
    uint32_t n_cols; /* upper edge of the bucket (tuner/context.h) */
    uint64_t rows, cols;
    uint32_t threads;
    trueno_phase phase;
    trueno_problem_kind kind;
    char variant[TR_STORE_NAME_BYTES];   /* arm that was found best: a registry entry, or threads */
    char reference[TR_STORE_NAME_BYTES]; /* and the one that it was measured against */
    uint64_t version;                    /* hash of the build's kernels (kernels.h) */
    double log_ratio;    /* median of ln(time of variant / time of reference): below 0 is faster */
    double half_width;   /* of its interval */
    double mde;          /* least difference that could have been seen, in the same unit */
    uint32_t blocks;     /* of the measurement */
    uint8_t effort;      /* enum tr_effort */
    uint8_t state;       /* enum tr_wisdom_state */
    int64_t utc;         /* seconds since 1970 */
    uint32_t generation; /* 1 and up */
};

/* Fills the context and the seven fields it is made of. @return OK; ERR_ARGUMENT if p is no problem
 */
trueno_status tr_wisdom_set_problem(struct tr_wisdom *w, const trueno_problem *p,
                                    trueno_error *err);

/* What a machine does with some number of threads; 0: not measured. */
struct tr_store_point {
    uint32_t threads;
    double read_gbs; /* 1e9 bytes/s from memory */
    double peak_dot; /* 1e12 operations/s: 8-bit dot products */
    double peak_fma; /* 1e12 operations/s: float multiply-add */
};

/* A machine. What must be equal for wisdom to be its own is text; the numbers may drift. */
struct tr_store_machine {
    char id[TR_STORE_NAME_BYTES];   /* hardware id: readable, with a checksum of `hard` */
    char hard[TR_STORE_HARD_BYTES]; /* the fingerprint, in words; "": not told */
    double quota;                   /* CPUs that may be used; 0: unknown */
    int64_t utc;                    /* when the numbers were measured */
    uint32_t generation;
    uint32_t n_points;
    struct tr_store_point points[TR_STORE_POINTS]; /* by rising threads */
};

/* Blobs that others write and read. Frozen: they stand in files, after the four sections of the
 * tables. */
enum tr_section {
    TR_SECTION_ROOF = 5,
    TR_SECTION_POSTERIORS = 6,
    TR_SECTION_CONFORMAL = 7,
    TR_SECTION_FOREST = 8,
    TR_SECTION_LEDGER = 9
};
#define TR_SECTION_FIRST TR_SECTION_ROOF
#define TR_SECTION_END   (TR_SECTION_LEDGER + 1)

/* What came of reading, merging, saving or reviewing. Zero it first; calls add to it. May be NULL
 * wherever it is asked for, except by tr_store_review. */
struct tr_store_report {
    uint32_t n_machines, n_entries; /* read, or offered to a merge */
    uint32_t n_new, n_replaced;     /* of a merge: new keys; entries that won over an old one */
    /* dropped by a reader */
    uint32_t bad_machines, bad_entries; /* a number that is none or out of range, a wrong name */
    uint32_t duplicates;                /* entries and machines with the key of another */
    uint32_t bad_sections;              /* optional, with a wrong checksum or shape */
    uint32_t unknown_sections;          /* optional, of an unknown number */
    /* of a review: each entry counts once */
    uint32_t usable, forgotten, foreign, unknown_variants, stale;
    /* of a save */
    bool set_aside; /* what stood at the path could not be read and was renamed to PATH.bad */
    bool unlocked;  /* the lock could not be had in time, or does not exist here */
};

struct tr_store;

/* ------------------------------------------------------------------ in memory */

/* An empty store. @return OK; ERR_NO_MEMORY */
trueno_status tr_store_new(struct tr_store **out, trueno_ctx *ctx, trueno_error *err);
void tr_store_free(struct tr_store *s);

/* Adds a machine or a new version of the one with this id; *index is where it is from now on (of
 * this store alone). Generation 0: later than whatever is there; else the greater one stays.
 * @return OK; ERR_ARGUMENT naming the field; ERR_TOO_LARGE; ERR_NO_MEMORY. On failure the store is
 * as it was and *index 0 */
trueno_status tr_store_put_machine(struct tr_store *s, uint32_t *index,
                                   const struct tr_store_machine *m, trueno_error *err);
size_t tr_store_n_machines(const struct tr_store *s);
/* NULL past the end. Valid until the store is changed. */
const struct tr_store_machine *tr_store_machine_at(const struct tr_store *s, size_t index);
bool tr_store_find_machine(const struct tr_store *s, uint32_t *index, const char *id);

/* Adds an entry or a new version of the one with its key. Generation 0: later than whatever is
 * there, a tombstone too; else the greater one stays. @return as above */
trueno_status tr_store_put(struct tr_store *s, const struct tr_wisdom *w, trueno_error *err);
/* NULL: nothing is known, or it was forgotten. Valid until the store is changed. */
const struct tr_wisdom *tr_store_find(const struct tr_store *s, uint32_t machine, uint64_t context);
/* All entries, tombstones too, in no special order. NULL past the end. */
size_t tr_store_n_entries(const struct tr_store *s);
const struct tr_wisdom *tr_store_at(const struct tr_store *s, size_t index);

/* Leaves a tombstone, which at the last generation is for good. @return OK; ERR_NOT_FOUND: there is
 * no such entry, or it is one already */
trueno_status tr_store_forget(struct tr_store *s, uint32_t machine, uint64_t context,
                              trueno_error *err);

/* Replaces a section by a copy of n bytes, one generation later. @return OK; ERR_ARGUMENT;
 * ERR_TOO_LARGE; ERR_NO_MEMORY; on failure the section is as it was */
trueno_status tr_store_put_section(struct tr_store *s, enum tr_section id, const void *bytes,
                                   size_t n, trueno_error *err);
/* False: there is none. Valid until the store is changed. */
bool tr_store_section(const struct tr_store *s, const void **bytes, size_t *n, enum tr_section id);

/* Joins src into dst, which keeps all that it knew or has something greater in its place. dst may
 * be src. @return OK; ERR_TOO_LARGE (a limit), ERR_NO_MEMORY: dst is as it was */
trueno_status tr_store_merge(struct tr_store *dst, const struct tr_store *src,
                             struct tr_store_report *report, trueno_error *err);

/* What an entry is good for, on that machine and build. */
enum tr_wisdom_use {
    TR_WISDOM_USABLE,
    TR_WISDOM_STALE,           /* of other kernels' code: to be verified before use */
    TR_WISDOM_UNKNOWN_VARIANT, /* names a kernel that this build lacks */
    TR_WISDOM_FOREIGN,         /* of another machine: a prior */
    TR_WISDOM_NONE             /* a tombstone */
};
enum tr_wisdom_use tr_wisdom_use_of(const struct tr_wisdom *w, uint32_t machine, uint64_t version);
/* Counts entries by use. */
void tr_store_review(struct tr_store_report *report, const struct tr_store *s, uint32_t machine,
                     uint64_t version);

/* ------------------------------------------------------------------ as bytes */

/* The binary form; stores of equal content give equal bytes. Writes it if it fits `cap` bytes, and
 * its length to *len in any case. @return OK, also if `cap` was too small; ERR_TOO_LARGE: above
 * TR_STORE_MAX_BYTES; ERR_NO_MEMORY */
trueno_status tr_store_encode(const struct tr_store *s, void *buf, size_t cap, size_t *len,
                              trueno_error *err);

/* A store from its binary form. @return OK (the report says what was dropped);
 *  ERR_TRUNCATED   shorter than the header or than it says
 *  ERR_FORMAT      another magic
 *  ERR_VERSION     of a newer major version, or with a required section that is unknown
 *  ERR_CORRUPT     a wrong checksum, sections that overlap, lie outside or are missing
 *  ERR_TOO_LARGE   above a limit
 *  ERR_NO_MEMORY */
trueno_status tr_store_decode(trueno_ctx *ctx, struct tr_store **out, const void *bytes, size_t len,
                              struct tr_store_report *report, trueno_error *err);

/* The same content as JSON, without a NUL; *len and cap as above. Jansson, which has one allocator
 * for the whole process, builds it: its memory does not come from the context. */
trueno_status tr_store_to_json(const struct tr_store *s, char *buf, size_t cap, size_t *len,
                               trueno_error *err);
/* All or nothing. @return as tr_store_decode; ERR_FORMAT: no JSON, a key twice, deeper than 16, or
 * a field that is missing or of another type */
trueno_status tr_store_from_json(trueno_ctx *ctx, struct tr_store **out, const char *text,
                                 size_t len, struct tr_store_report *report, trueno_error *err);

/* Either form: JSON begins with '{'. */
trueno_status tr_store_read(trueno_ctx *ctx, struct tr_store **out, const void *bytes, size_t len,
                            struct tr_store_report *report, trueno_error *err);

/* FNV-1a, 64 bits, of the binary form: tells accidents apart, not enemies. @return as
 * tr_store_encode */
trueno_status tr_store_digest(const struct tr_store *s, uint64_t *digest, trueno_error *err);

/* ------------------------------------------------------------------ as a file */

/* The usual path: $XDG_CACHE_HOME/trueno/tuner.trw if that is absolute, else
 * $HOME/.cache/trueno/tuner.trw; the environment of a program with raised rights counts for
 * nothing. Written if it fits `cap` bytes with its NUL; *len is its length without.
 * @return OK, also if `cap` was too small; ERR_NOT_FOUND: neither variable is set */
trueno_status tr_store_path(char *buf, size_t cap, size_t *len, trueno_error *err);

/* A store from a file of either form; none is an empty store. @return as tr_store_read; ERR_IO */
trueno_status tr_store_load_file(trueno_ctx *ctx, struct tr_store **out, const char *path,
                                 struct tr_store_report *report, trueno_error *err);

/* Joins the store with what the file holds by now, and replaces the file in one step: whoever reads
 * sees the old one or the new one, whole, and writers that wait for each other lose nothing. Makes
 * the directory and the one above it if they are missing. The lock is PATH.lock, which stays; after
 * wait_ms without it the save goes on, and the last of two writers wins. The store itself is not
 * changed. What cannot be read for what it holds is renamed to PATH.bad.
 * @return OK; ERR_VERSION: the file is of a newer major version and stays; ERR_READ_ONLY; ERR_IO;
 * ERR_TOO_LARGE; ERR_NO_MEMORY: the old file is untouched */
trueno_status tr_store_save_file(const struct tr_store *s, const char *path, uint32_t wait_ms,
                                 struct tr_store_report *report, trueno_error *err);

#endif
