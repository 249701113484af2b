/* SPDX-License-Identifier: MIT */
/* Classifiers as bytes (trueno/classifier.h), little-endian, no padding:
 *
 *     "TRKC", u16 version, u16 zero, u32 bytes in all, u32 CRC-32 of all bytes but these four
 *     u32 trees, u32 depth, u32 rows in a leaf, u32 features tried, u32 bootstrap, u64 seed
 *     u32 classes (0: not trained, nothing follows), classes x u8 family
 *     u32 groups, groups x {f64 least share, f64 confidence}
 *     the forest (forest_bytes.c) */
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "tuner/classifier_impl.h"
#include "tuner/little_endian.h"

enum { VERSION = 1, CRC_AT = 12, HEADER_BYTES = 16, OPTION_BYTES = 28 };

static const char magic[4] = {'T', 'R', 'K', 'C'};

static size_t bytes_of(const trueno_classifier *c)
{
    size_t n = HEADER_BYTES + OPTION_BYTES + 4;
    if (c->forest) n += c->n_classes + 4 + c->confidence.n * 16 + tr_forest_bytes(c->forest);
    return n;
}

static uint32_t checksum(const uint8_t *p, size_t n)
{
    uLong crc = crc32_z(0, p, CRC_AT);
    return (uint32_t)crc32_z(crc, p + HEADER_BYTES, n - HEADER_BYTES);
}

static void write_trained(const trueno_classifier *c, uint8_t *at)
{
    memcpy(at, c->kernel_of, c->n_classes);
    at += c->n_classes;
    tr_put_int(&at, c->confidence.n, 4);
    for (uint32_t g = 0; g < c->confidence.n; g++) {
        tr_put_f64(&at, c->confidence.share[g]);
        tr_put_f64(&at, c->confidence.value[g]);
    }
    tr_forest_write(c->forest, at);
}

trueno_status trueno_classifier_export(const trueno_classifier *c, void *buf, size_t cap,
                                       size_t *len, trueno_error *err)
{
    if (len) *len = 0;
    if (!c || !len) return tr_fail(err, TRUENO_ERR_ARGUMENT, "export: %s is NULL", c ? "len" : "c");
    size_t n = *len = bytes_of(c);
    if (!buf) return TRUENO_OK;
    if (cap < n)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "export: cap is %zu, needs %zu bytes", cap, n);
    uint8_t *at = buf, *crc = at + CRC_AT;
    memcpy(at, magic, sizeof magic);
    at += sizeof magic;
    tr_put_int(&at, VERSION, 2);
    tr_put_int(&at, 0, 2);
    tr_put_int(&at, n, 4); /* a forest is below 2^24 bytes */
    tr_put_int(&at, 0, 4);
    tr_put_int(&at, c->n_trees, 4);
    tr_put_int(&at, c->options.max_depth, 4);
    tr_put_int(&at, c->options.min_leaf, 4);
    tr_put_int(&at, c->options.mtry, 4);
    tr_put_int(&at, c->options.bootstrap, 4);
    tr_put_int(&at, c->options.seed, 8);
    tr_put_int(&at, c->forest ? c->n_classes : 0, 4);
    if (c->forest) write_trained(c, at);
    tr_put_int(&crc, checksum(buf, n), 4);
    return TRUENO_OK;
}

/* -------------------------------------------------------------------- reading */

static trueno_status corrupt(trueno_error *err, const char *what)
{
    return tr_fail(err, TRUENO_ERR_CORRUPT, "classifier: %s", what);
}

static trueno_status check_header(const uint8_t *p, size_t n, trueno_error *err)
{
    const uint8_t *at = p + sizeof magic;
    if (n < HEADER_BYTES)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "classifier: %zu bytes, its header has %d", n,
                       HEADER_BYTES);
    if (memcmp(p, magic, sizeof magic) != 0)
        return tr_fail(err, TRUENO_ERR_FORMAT, "classifier: these bytes are none");
    unsigned version = (unsigned)tr_get_int(&at, 2);
    if (version != VERSION)
        return tr_fail(err, TRUENO_ERR_VERSION, "classifier: version %u, this library has %d",
                       version, VERSION);
    if (tr_get_int(&at, 2) != 0) return corrupt(err, "a field that must be 0 is not");
    uint64_t announced = tr_get_int(&at, 4);
    if (announced > n)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "classifier: %zu bytes, announces %llu", n,
                       (unsigned long long)announced);
    if (announced < n) return corrupt(err, "bytes follow");
    if (tr_get_int(&at, 4) != checksum(p, n)) return corrupt(err, "wrong checksum");
    return n >= HEADER_BYTES + OPTION_BYTES + 4 ? TRUENO_OK : corrupt(err, "too short");
}

/* A checksum proves no good will: everything is checked, and `end` never passed. */
static trueno_status read_classes(trueno_classifier *c, const uint8_t **at, const uint8_t *end,
                                  trueno_error *err)
{
    if ((size_t)(end - *at) < c->n_classes) return corrupt(err, "its classes end too early");
    for (uint32_t i = 0; i < c->n_classes; i++) {
        c->kernel_of[i] = (uint8_t)tr_get_int(at, 1);
        if (c->kernel_of[i] >= trueno_kernel_count() || c->kernel_of[i] == TRUENO_KERNEL_UNKNOWN ||
            (i > 0 && c->kernel_of[i] <= c->kernel_of[i - 1]))
            return corrupt(err, "a class is no kernel family, or out of order");
    }
    return TRUENO_OK;
}

static trueno_status read_confidence(struct tr_confidence *c, const uint8_t **at,
                                     const uint8_t *end, trueno_error *err)
{
    if (end - *at < 4) return corrupt(err, "its confidence ends too early");
    c->n = (uint32_t)tr_get_int(at, 4);
    if (c->n > TR_CONFIDENCE_GROUPS || (size_t)(end - *at) / 16 < c->n)
        return corrupt(err, "its confidence has too many groups");
    for (uint32_t g = 0; g < c->n; g++) {
        double share = c->share[g] = tr_get_f64(at), value = c->value[g] = tr_get_f64(at);
        bool ordered = g == 0 || (share > c->share[g - 1] && value >= c->value[g - 1]);
        if (!(share >= 0 && share <= 1.0001 && value > 0 && value < 1) || !ordered)
            return corrupt(err, "a group of its confidence is none");
    }
    return TRUENO_OK;
}

static trueno_status read_trained(trueno_classifier *c, const uint8_t *at, const uint8_t *end,
                                  trueno_error *err)
{
    trueno_status status = read_classes(c, &at, end, err);
    if (status == TRUENO_OK) status = read_confidence(&c->confidence, &at, end, err);
    if (status == TRUENO_OK)
        status = tr_forest_read(&c->forest, c->ctx, at, (size_t)(end - at), err);
    if (status == TRUENO_ERR_TRUNCATED) return corrupt(err, "its forest ends too early");
    if (status != TRUENO_OK) return status;
    if (tr_forest_features(c->forest) != TR_CLASSIFIER_FEATURES ||
        tr_forest_classes(c->forest) != c->n_classes)
        return corrupt(err, "its forest has other features or classes");
    return TRUENO_OK;
}

static trueno_status read_body(trueno_classifier *c, const uint8_t *p, size_t n, trueno_error *err)
{
    const uint8_t *at = p + HEADER_BYTES, *end = p + n;
    c->n_trees = (uint32_t)tr_get_int(&at, 4);
    c->options.max_depth = (uint32_t)tr_get_int(&at, 4);
    c->options.min_leaf = (uint32_t)tr_get_int(&at, 4);
    c->options.mtry = (uint32_t)tr_get_int(&at, 4);
    uint64_t bootstrap = tr_get_int(&at, 4);
    c->options.bootstrap = bootstrap == 1;
    c->options.seed = tr_get_int(&at, 8);
    c->n_classes = (uint32_t)tr_get_int(&at, 4);
    if (bootstrap > 1) return corrupt(err, "bootstrap is neither 0 nor 1");
    if (c->n_classes > TR_FOREST_MAX_CLASSES) return corrupt(err, "too many classes");
    if (c->n_classes > 0) return read_trained(c, at, end, err);
    return at == end ? TRUENO_OK : corrupt(err, "bytes follow");
}

trueno_status trueno_classifier_import(trueno_ctx *ctx, trueno_classifier **out, const void *buf,
                                       size_t len, trueno_error *err)
{
    if (out) *out = NULL;
    if (!ctx || !out || !buf)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "import: %s is NULL",
                       !ctx   ? "ctx"
                       : !out ? "out"
                              : "buf");
    trueno_status status = check_header(buf, len, err);
    trueno_classifier *c = NULL;
    if (status == TRUENO_OK) status = tr_classifier_make(&c, ctx, err);
    if (status == TRUENO_OK) status = read_body(c, buf, len, err);
    if (status == TRUENO_OK)
        *out = c;
    else
        trueno_classifier_free(c);
    return status;
}
