/* SPDX-License-Identifier: MIT */
/* Models that outlive the process: what a tuner's regressor and classifier learned, as a section of
 * its store. Little-endian:
 *
 *     u32 version, 64 bytes id of the machine
 *     u32 1: the regressor began as the pretrained one, u32 how its accuracy was measured
 *     f64 mape, u64 rows, u64 hash of the data, 64 bytes machine and 16 bytes date of the accuracy
 *     u64 bytes of the regressor, the regressor, the classifier
 *
 * one such record for each machine, the newest first, each behind a u64 of its bytes. Losses are
 * those of one machine, so what was learned on another one is not used, but kept for it. */
#include <math.h>
#include <string.h>

#include "base/ctx.h"
#include "base/error.h"
#include "base/mem.h"
#include "tuner/classifier_impl.h"
#include "tuner/little_endian.h"
#include "tuner/regressor.h"
#include "tuner/tuner_impl.h"

enum {
    VERSION = 2,
    MAX_RECORDS = 8,
    NAME_BYTES = 64,
    DATE_BYTES = 16,
    HEADER_BYTES = 4 + 2 * NAME_BYTES + 8 + 24 + DATE_BYTES + 8
};

/* Numbers are frozen: they stand in files. */
static const char *const splits[] = {NULL, "out of bag", "every second context of a calibration",
                                     "leave one model out"};
enum { N_SPLITS = sizeof splits / sizeof *splits };

static uint32_t split_number(const char *split)
{
    for (uint32_t i = 1; split && i < N_SPLITS; i++)
        if (strcmp(splits[i], split) == 0) return i;
    return 0;
}

/* Whether there is anything that a new tuner would not have. */
static bool knows(const trueno_tuner *t)
{
    const trueno_regressor *r = t->regressor;
    bool learned = r->online.n > 0 || r->interval.n_hits > 0;
    bool trained = r->source != TRUENO_SOURCE_PRIOR && !t->pretrained;
    return learned || trained || tr_regressor_calibrated(r) || t->classifier->forest;
}

static void put_name(uint8_t **at, const char *name, size_t bytes)
{
    memset(*at, 0, bytes);
    memcpy(*at, name, strnlen(name, bytes - 1));
    *at += bytes;
}

static trueno_status write(trueno_tuner *t, uint8_t *bytes, size_t regressor, size_t classifier,
                           trueno_error *err)
{
    uint8_t *at = bytes;
    size_t len;
    tr_put_int(&at, VERSION, 4);
    put_name(&at, t->machine_id, NAME_BYTES);
    tr_put_int(&at, t->pretrained, 4);
    tr_put_int(&at, split_number(t->accuracy.split), 4);
    tr_put_f64(&at, t->mape);
    tr_put_int(&at, t->accuracy.n, 8);
    tr_put_int(&at, t->accuracy.data_hash, 8);
    put_name(&at, t->accuracy.machine, NAME_BYTES);
    put_name(&at, t->accuracy.date, DATE_BYTES);
    tr_put_int(&at, regressor, 8);
    trueno_status status = trueno_regressor_export(t->regressor, at, regressor, &len, err);
    if (status != TRUENO_OK) return status;
    return trueno_classifier_export(t->classifier, at + regressor, classifier, &len, err);
}

/* The next record of a section; false: there is none, or it is cut off. */
static bool next_record(const uint8_t **record, size_t *bytes, const uint8_t **at,
                        const uint8_t *end)
{
    if (end - *at < 8) return false;
    uint64_t n = tr_get_int(at, 8);
    if (n > (uint64_t)(end - *at)) return false;
    *record = *at;
    *bytes = (size_t)n;
    *at += n;
    return true;
}

static bool is_of(const uint8_t *record, size_t bytes, const trueno_tuner *t)
{
    return bytes >= HEADER_BYTES && record[4 + NAME_BYTES - 1] == 0 &&
           strcmp((const char *)record + 4, t->machine_id) == 0;
}

/* The record of this machine in a section; false: there is none. */
static bool own_record(const uint8_t **record, size_t *bytes, const trueno_tuner *t)
{
    const void *section;
    size_t n;
    if (!tr_store_section(t->store, &section, &n, TR_SECTION_FOREST)) return false;
    const uint8_t *at = section, *end = at + n;
    while (next_record(record, bytes, &at, end))
        if (is_of(*record, *bytes, t)) return true;
    return false;
}

/* Copies the records of other machines; to NULL: counts their bytes. */
static size_t copy_others(uint8_t *to, const trueno_tuner *t)
{
    const void *section;
    const uint8_t *record;
    size_t n, bytes, sum = 0;
    if (!tr_store_section(t->store, &section, &n, TR_SECTION_FOREST)) return 0;
    const uint8_t *at = section, *end = at + n;
    for (int i = 1; i < MAX_RECORDS && next_record(&record, &bytes, &at, end); i++) {
        if (is_of(record, bytes, t)) continue;
        if (to) memcpy(to + sum, record - 8, 8 + bytes);
        sum += 8 + bytes;
    }
    return sum;
}

trueno_status tr_tuner_keep_models(trueno_tuner *t, trueno_error *err)
{
    size_t regressor, classifier, n;
    const uint8_t *old;
    if (!knows(t)) return TRUENO_OK;
    trueno_status status = trueno_regressor_export(t->regressor, NULL, 0, &regressor, err);
    if (status == TRUENO_OK)
        status = trueno_classifier_export(t->classifier, NULL, 0, &classifier, err);
    if (status != TRUENO_OK) return status;
    size_t own = HEADER_BYTES + regressor + classifier, others = copy_others(NULL, t);
    uint8_t *buf = tr_alloc(t->ctx, 8 + own + others), *at = buf;
    if (!buf) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "tuner: no memory for its models");
    tr_put_int(&at, own, 8);
    status = write(t, at, regressor, classifier, err);
    copy_others(at + own, t);
    bool same = own_record(&old, &n, t) && n == own && memcmp(old, at, n) == 0;
    if (status == TRUENO_OK && !same) {
        pthread_mutex_lock(&t->adding);
        status = tr_store_put_section(t->store, TR_SECTION_FOREST, buf, 8 + own + others, err);
        pthread_mutex_unlock(&t->adding);
    }
    tr_free(t->ctx, buf);
    return status;
}

/* What stands in front of the models. */
struct header {
    bool pretrained;
    uint32_t split;
    double mape;
    trueno_accuracy accuracy;
    size_t regressor_bytes;
};

static bool read_header(struct header *h, const trueno_tuner *t, const uint8_t *p, size_t n)
{
    const uint8_t *at = p;
    char machine[NAME_BYTES];
    if (n < HEADER_BYTES || tr_get_int(&at, 4) != VERSION) return false;
    memcpy(machine, at, NAME_BYTES);
    at += NAME_BYTES;
    if (machine[NAME_BYTES - 1] != 0 || strcmp(machine, t->machine_id) != 0) return false;
    h->pretrained = tr_get_int(&at, 4) == 1;
    h->split = (uint32_t)tr_get_int(&at, 4);
    h->mape = tr_get_f64(&at);
    h->accuracy = (trueno_accuracy)TRUENO_ACCURACY_INIT;
    h->accuracy.n = (size_t)tr_get_int(&at, 8);
    h->accuracy.data_hash = tr_get_int(&at, 8);
    memcpy(h->accuracy.machine, at, NAME_BYTES);
    at += NAME_BYTES;
    memcpy(h->accuracy.date, at, sizeof h->accuracy.date);
    at += DATE_BYTES;
    uint64_t bytes = tr_get_int(&at, 8);
    if (h->split >= N_SPLITS || h->accuracy.machine[NAME_BYTES - 1] != 0 ||
        h->accuracy.date[sizeof h->accuracy.date - 1] != 0 || h->mape < 0 || isinf(h->mape) ||
        bytes > n - HEADER_BYTES)
        return false;
    h->accuracy.split = splits[h->split];
    h->regressor_bytes = (size_t)bytes;
    return true;
}

static void adopt(trueno_tuner *t, const struct header *h, trueno_regressor *r,
                  trueno_classifier *c)
{
    pthread_rwlock_wrlock(&t->models);
    trueno_regressor_free(t->regressor);
    trueno_classifier_free(t->classifier);
    trueno_learner_free(t->learner);
    t->regressor = r;
    t->classifier = c;
    t->learner = NULL;
    t->pretrained = h->pretrained;
    t->mape = h->mape;
    t->accuracy = h->accuracy;
    tr_tuner_name_version(t);
    pthread_rwlock_unlock(&t->models);
}

/* Reads the models of this machine. False: there are none, or they cannot be read. */
static bool read_models(struct header *h, trueno_regressor **r, trueno_classifier **c,
                        trueno_tuner *t)
{
    const uint8_t *p;
    size_t n;
    trueno_error err = {TRUENO_OK, ""};
    *r = NULL;
    *c = NULL;
    if (!own_record(&p, &n, t) || !read_header(h, t, p, n)) return false;
    p += HEADER_BYTES;
    n -= HEADER_BYTES + h->regressor_bytes;
    trueno_status status = trueno_regressor_import(t->ctx, r, p, h->regressor_bytes, &err);
    if (status == TRUENO_OK)
        status = trueno_classifier_import(t->ctx, c, p + h->regressor_bytes, n, &err);
    if (status == TRUENO_OK) return true;
    trueno_regressor_free(*r);
    tr_log(t->ctx, TRUENO_LOG_WARN, "tuner: the stored models are not used: %s", err.message);
    return false;
}

bool tr_tuner_recall_models(trueno_tuner *t)
{
    struct header h;
    trueno_regressor *r;
    trueno_classifier *c;
    if (t->mode == TRUENO_TUNER_OFF || !read_models(&h, &r, &c, t)) return false;
    adopt(t, &h, r, c);
    return true;
}

trueno_status tr_tuner_join_models(trueno_tuner *t, bool *used, trueno_error *err)
{
    struct header h;
    trueno_regressor *r;
    trueno_classifier *c;
    if (read_models(&h, &r, &c, t)) {
        /* those that learned from more runs stay */
        if (!knows(t) || r->online.n >= t->regressor->online.n) {
            adopt(t, &h, r, c);
            *used = true;
            return TRUENO_OK;
        }
        trueno_regressor_free(r);
        trueno_classifier_free(c);
    }
    return tr_tuner_keep_models(t, err);
}
