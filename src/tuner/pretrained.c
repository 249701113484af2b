/* SPDX-License-Identifier: MIT */
/* The pretrained regressor, which is part of the library (trueno/tuner.h, pretrained.h). */
#include "tuner/pretrained.h"
#include "tuner/regressor.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "tuner/little_endian.h"
#include "tuner/tuner_impl.h"

/* TR_PRETRAINED_FILE: its path, from CMake. */
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        ".globl tr_pretrained_file\n"
        ".hidden tr_pretrained_file\n"
        "tr_pretrained_file:\n"
        ".incbin \"" TR_PRETRAINED_FILE "\"\n"
        "tr_pretrained_file_end:\n"
        ".balign 8\n"
        ".globl tr_pretrained_file_bytes\n"
        ".hidden tr_pretrained_file_bytes\n"
        "tr_pretrained_file_bytes:\n"
        ".quad tr_pretrained_file_end - tr_pretrained_file\n"
        ".popsection\n");

enum {
    VERSION = 2,
    BODY_AT = 16,
    DATE_BYTES = 16,
    HEADER_BYTES = 48 + TRUENO_MACHINE_ID_MAX + DATE_BYTES + 16 * TRUENO_FEATURE_DIM,
    MAX_BYTES = 300 << 10
};

static const char magic[8] = {'T', 'R', 'U', 'E', 'N', 'O', 'P', 'T'};

/* ----------------------------------------------------------------------- reading */

static trueno_status check_header(const uint8_t *p, size_t n, trueno_error *err)
{
    const uint8_t *at = p + sizeof magic;
    if (n < sizeof magic || memcmp(p, magic, sizeof magic) != 0)
        return tr_fail(err, n < sizeof magic ? TRUENO_ERR_TRUNCATED : TRUENO_ERR_FORMAT,
                       "pretrained regressor: %zu bytes are none", n);
    if (n < HEADER_BYTES)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "pretrained regressor: %zu bytes, needs %d", n,
                       HEADER_BYTES);
    uint64_t version = tr_get_int(&at, 4), crc = tr_get_int(&at, 4), bytes = tr_get_int(&at, 8);
    if (version != VERSION)
        return tr_fail(err, TRUENO_ERR_VERSION,
                       "pretrained regressor: version %u, this library reads %d", (unsigned)version,
                       VERSION);
    if (n < bytes)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "pretrained regressor: %zu bytes, announces %llu",
                       n, (unsigned long long)bytes);
    if (n > bytes || n > MAX_BYTES)
        return tr_fail(err, TRUENO_ERR_CORRUPT,
                       "pretrained regressor: %zu bytes, announces %llu, at most %d", n,
                       (unsigned long long)bytes, MAX_BYTES);
    if (crc != crc32(crc32(0, NULL, 0), p + BODY_AT, (unsigned)(n - BODY_AT)))
        return tr_fail(err, TRUENO_ERR_CORRUPT, "pretrained regressor: wrong checksum");
    return TRUENO_OK;
}

/* Keeps rows [n] in descending order: puts `row` behind those that are not less important. */
static void insert(trueno_importance *rows, size_t n, trueno_importance row)
{
    for (; n > 0 && rows[n - 1].importance < row.importance; n--) rows[n] = rows[n - 1];
    rows[n] = row;
}

/* False: one of them cannot be. */
static bool read_importance(trueno_importance rows[TRUENO_FEATURE_DIM], const uint8_t **at)
{
    for (uint32_t i = 0; i < TRUENO_FEATURE_DIM; i++) {
        trueno_importance row = {.idx = i, .name = trueno_feature_name((trueno_feature)i)};
        row.importance = tr_get_f64(at);
        row.std_error = tr_get_f64(at);
        if (!(row.importance >= 0 && row.importance <= 1)) return false;
        if (!isnan(row.std_error) && !(row.std_error >= 0 && isfinite(row.std_error))) return false;
        insert(rows, i, row);
    }
    return true;
}

trueno_status tr_pretrained_read(struct tr_pretrained *out, const uint8_t *p, size_t n,
                                 trueno_error *err)
{
    struct tr_pretrained r = {0};
    memset(out, 0, sizeof *out);
    trueno_status status = check_header(p, n, err);
    if (status != TRUENO_OK) return status;
    const uint8_t *at = p + BODY_AT + 8;
    r.data_hash = tr_get_int(&at, 8);
    r.n_held_out = tr_get_int(&at, 8);
    r.mape = tr_get_f64(&at);
    memcpy(r.machine, at, sizeof r.machine);
    at += sizeof r.machine;
    memcpy(r.date, at, sizeof r.date);
    at += DATE_BYTES;
    if (!read_importance(r.importance, &at) || !(r.mape >= 0 && isfinite(r.mape)) ||
        r.n_held_out == 0 || r.n_held_out > SIZE_MAX || r.machine[sizeof r.machine - 1] != 0 ||
        r.date[sizeof r.date - 1] != 0)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "pretrained regressor: a value of it cannot be");
    r.regressor = at;
    r.regressor_bytes = n - HEADER_BYTES;
    *out = r;
    return TRUENO_OK;
}

/* ------------------------------------------------------------------------- using */

trueno_status tr_tuner_use_pretrained(trueno_tuner *t, const uint8_t *p, size_t n,
                                      trueno_error *err)
{
    struct tr_pretrained file;
    trueno_regressor *r;
    trueno_status status = tr_pretrained_read(&file, p, n, err);
    if (status == TRUENO_OK)
        status = trueno_regressor_import(t->ctx, &r, file.regressor, file.regressor_bytes, err);
    if (status != TRUENO_OK) return status;
    trueno_regressor_free(t->regressor);
    t->regressor = r;
    t->pretrained = true;
    t->mape = file.mape;
    t->accuracy.n = (size_t)file.n_held_out;
    t->accuracy.split = "leave one model out";
    t->accuracy.data_hash = file.data_hash;
    memcpy(t->accuracy.machine, file.machine, sizeof t->accuracy.machine);
    memcpy(t->accuracy.date, file.date, sizeof t->accuracy.date);
    tr_tuner_name_version(t);
    return TRUENO_OK;
}

trueno_status trueno_tuner_with_pretrained(trueno_ctx *ctx, trueno_tuner **out,
                                           const trueno_tuner_options *opt, trueno_error *err)
{
    trueno_status status = trueno_tuner_new(ctx, out, opt, err);
    if (status != TRUENO_OK) return status;
    /* trained ones that were learned here know more; what was learned without a model does not */
    if ((*out)->recalled && (*out)->regressor->source != TRUENO_SOURCE_PRIOR) return status;
    status =
        tr_tuner_use_pretrained(*out, tr_pretrained_file, (size_t)tr_pretrained_file_bytes, err);
    if (status == TRUENO_OK) return status;
    trueno_tuner_free(*out);
    *out = NULL;
    return status;
}

/* -------------------------------------------------------------------- importance */

static struct tr_pretrained shipped;
static size_t n_shipped;
static pthread_once_t shipped_once = PTHREAD_ONCE_INIT;

static void read_shipped(void)
{
    if (tr_pretrained_read(&shipped, tr_pretrained_file, (size_t)tr_pretrained_file_bytes, NULL) ==
        TRUENO_OK)
        n_shipped = TRUENO_FEATURE_DIM;
}

size_t trueno_pretrained_feature_importance(const trueno_importance **rows)
{
    if (!rows) return 0;
    pthread_once(&shipped_once, read_shipped);
    *rows = n_shipped > 0 ? shipped.importance : NULL;
    return n_shipped;
}
