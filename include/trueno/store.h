/* SPDX-License-Identifier: MIT */
/** @file store.h
 *  What a tuner (tuner.h) knows, outside of it: a file, bytes that the application keeps, or JSON.
 *
 *  Entries name their machine and the build of the kernels; those of others are kept and not
 * followed. Joining two stores never loses a context, gives the same whatever the order, and twice
 * is once. Whatever a store says, it can only choose among kernels that this build offers.
 */
#ifndef TRUENO_STORE_H
#define TRUENO_STORE_H

#include "base.h"
#include "choice.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct trueno_tuner trueno_tuner; /**< tuner.h */

/** File of the tuner when no path is given: $XDG_CACHE_HOME/trueno/tuner.trw if that is absolute,
 * else $HOME/.cache/trueno/tuner.trw. Ends with a NUL.
 *  @return OK; ERR_ARGUMENT (cap too small); ERR_NOT_FOUND (neither is set) */
TRUENO_API trueno_status trueno_tuner_cache_path(char *buf, size_t cap);

/** Merges with what the file holds by now and replaces it at once or not at all. Without a file:
 * OK, and nothing is written. @return OK; ERR_READ_ONLY; ERR_IO; ERR_VERSION (the file is of a
 * newer library, and stays); ERR_NO_MEMORY; ERR_BUSY. What t knows is not lost by a failure. */
TRUENO_API trueno_status trueno_tuner_save(trueno_tuner *t, trueno_error *err);

/** What reading the store at the start came to: OK also for no file. */
TRUENO_API trueno_status trueno_tuner_store_status(const trueno_tuner *t);

/** Formats of a store outside the tuner. */
typedef enum trueno_store_format {
    TRUENO_STORE_BINARY = 0,
    TRUENO_STORE_JSON = 1
} trueno_store_format;

/** All that t knows: of kernels, of the machine, and what its models learned. *len: bytes needed
 * (JSON: without a NUL, and none is written).
 *  @return OK; ERR_ARGUMENT (cap too small; *len is set); ERR_NO_MEMORY; ERR_BUSY */
TRUENO_API trueno_status trueno_tuner_export(trueno_tuner *t, void *buf, size_t cap, size_t *len,
                                             trueno_store_format format, trueno_error *err);

/** What a store held, or what became of joining one. Entries are choices, one for each context and
 * machine. */
typedef struct trueno_store_report {
    size_t struct_size;
    uint32_t entries;   /**< that could be read */
    uint32_t added;     /**< of contexts that were not known */
    uint32_t replaced;  /**< that won over what was known of their context */
    uint32_t dropped;   /**< entries, machines and optional sections that could not be read: a value
                           out of range, a wrong checksum, an unknown section, twice the same key */
    uint32_t usable;    /**< entries of this machine and build: they are followed */
    uint32_t foreign;   /**< of another machine: kept, not followed */
    uint32_t stale;     /**< of other kernels' code: kept, not followed */
    uint32_t unknown;   /**< that name a kernel which this build lacks: kept, not followed */
    uint32_t forgotten; /**< tombstones */
    bool models;        /**< the models that it held of this machine are in use now */
} trueno_store_report;

#define TRUENO_STORE_REPORT_INIT                                                                   \
    {                                                                                              \
        sizeof(trueno_store_report), 0, 0, 0, 0, 0, 0, 0, 0, 0, false                              \
    }

/** Joins an export of either format, all of it or nothing. report (may be NULL): of what was
 * imported; empty on failure.
 *  @return OK; ERR_TRUNCATED, ERR_FORMAT, ERR_VERSION, ERR_CORRUPT, ERR_TOO_LARGE (t is as before);
 * ERR_NO_MEMORY; ERR_BUSY; ERR_READ_ONLY (modes OFF and STRICT) */
TRUENO_API trueno_status trueno_tuner_import(trueno_tuner *t, trueno_store_report *report,
                                             const void *buf, size_t len, trueno_error *err);

/** Joins what another tuner knows. @return as trueno_tuner_import */
TRUENO_API trueno_status trueno_tuner_merge(trueno_tuner *t, trueno_store_report *report,
                                            trueno_tuner *other, trueno_error *err);

/** Forgets what was learned of a problem's context on this machine, or of all contexts (p NULL);
 * not what models learned of runs. The default runs again, and merging with an older store does not
 * bring it back. @return OK, also if nothing was known; ERR_ARGUMENT; ERR_BUSY; ERR_NO_MEMORY */
TRUENO_API trueno_status trueno_tuner_forget(trueno_tuner *t, const trueno_problem *p,
                                             trueno_error *err);

/** Number that two tuners share if they know the same; 0: another call was running, or there was no
 * memory. */
TRUENO_API uint64_t trueno_tuner_digest(trueno_tuner *t);

#ifdef __cplusplus
}
#endif
#endif
