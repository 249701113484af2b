/* SPDX-License-Identifier: MIT */
/* Runs and feedback that were collected (trueno/retrain.h), as bytes: a section of the store.
 *
 * Little-endian: u32 version, u32 number of samples, i64 utc of the last retraining; then samples
 * of 400 bytes in a total order, the newest first. Two sections are joined by the union of their
 * samples, of which the first TR_SAMPLES_MAX stay: commutative, associative, idempotent. */
#ifndef TR_SAMPLES_H
#define TR_SAMPLES_H

#include "trueno/retrain.h"

enum {
    TR_SAMPLES_MAX = TRUENO_MAX_COLLECTED,
    TR_SAMPLE_BYTES = 400,
    TR_SAMPLES_HEADER = 16,
    TR_SAMPLES_BYTES = TR_SAMPLES_HEADER + TR_SAMPLES_MAX * TR_SAMPLE_BYTES /* at most */
};

struct tr_sample {
    int64_t utc;      /* seconds since 1970 */
    double tps;       /* measured; 0: feedback */
    double predicted; /* at the time */
    uint32_t label;   /* trueno_kernel of feedback, else Unknown */
    trueno_features f;
};

/* out: TR_SAMPLE_BYTES. */
void tr_sample_encode(uint8_t *out, const struct tr_sample *s);
/* False: values that cannot be; bytes may be anything. */
bool tr_sample_decode(struct tr_sample *s, const uint8_t *in);

/* When an encoded sample was taken. */
int64_t tr_sample_utc(const uint8_t *sample);

/* Whether n bytes are such a section, its samples in order. What samples hold is not looked at. */
bool tr_samples_ok(const void *bytes, size_t n);
size_t tr_samples_count(const void *bytes);
/* The i-th sample of a section that is one. */
const uint8_t *tr_samples_at(const void *bytes, size_t i);
int64_t tr_samples_trained(const void *bytes);
void tr_samples_set_trained(void *bytes, int64_t utc);

/* An empty section of TR_SAMPLES_HEADER bytes. */
void tr_samples_init(void *bytes);

/* Adds a sample to a section in a buffer of TR_SAMPLES_BYTES. Returns its bytes then. */
size_t tr_samples_add(void *bytes, const struct tr_sample *s);

/* Joins two into out, of TR_SAMPLES_BYTES, which neither of them is. One that is no section counts
 * as empty. Returns the bytes. */
size_t tr_samples_join(void *out, const void *a, size_t n_a, const void *b, size_t n_b);

#endif
