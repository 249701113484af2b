/* SPDX-License-Identifier: MIT */
/* The pretrained regressor as a file: what was measured of it, then its bytes. Little-endian:
 *
 *     8 bytes "TRUENOPT", u32 version, u32 CRC32 of what follows, u64 bytes in all
 *     u64 data hash, u64 rows held out, f64 mean absolute percentage error on them (a fraction)
 *     64 bytes: the machine in words, then zeros; 16 bytes: day of the last measurement, likewise
 *     42 x (f64 importance, f64 its standard error, NaN: not identified)
 *     trueno_regressor_export
 *
 * trueno-tuner-train writes it. */
#ifndef TR_PRETRAINED_H
#define TR_PRETRAINED_H

#include "trueno/tuner.h"

struct tr_pretrained {
    uint64_t data_hash, n_held_out;
    double mape;
    char machine[TRUENO_MACHINE_ID_MAX];
    char date[11];
    trueno_importance importance[TRUENO_FEATURE_DIM]; /* descending */
    const uint8_t *regressor;                         /* inside the bytes that were read */
    size_t regressor_bytes;
};

/* The file that is part of the library. */
extern const uint8_t tr_pretrained_file[] __attribute__((visibility("hidden")));
extern const uint64_t tr_pretrained_file_bytes __attribute__((visibility("hidden")));

/* Reads a file, but not its regressor. Any bytes may be there.
 * ERR_TRUNCATED; ERR_FORMAT; ERR_VERSION; ERR_CORRUPT: the checksum, or a value that cannot be */
trueno_status tr_pretrained_read(struct tr_pretrained *out, const uint8_t *p, size_t n,
                                 trueno_error *err);

/* Puts the regressor of such a file into a tuner that nobody else uses yet.
 * As tr_pretrained_read and trueno_regressor_import. */
trueno_status tr_tuner_use_pretrained(trueno_tuner *t, const uint8_t *p, size_t n,
                                      trueno_error *err);

#endif
