/* SPDX-License-Identifier: MIT */
/* Regressors as bytes, and copies of them (trueno/predict.h). Little-endian:
 *
 *     8 bytes "TRUENORG", u32 version, u32 CRC32 of what follows, u64 bytes in all
 *     u32 may grow, u32 trees, u32 max_depth, u32 min_leaf, u32 mtry, u32 bootstrap, u64 seed
 *     u32 source, u32 bytes of the forest, f64 confidence, 2 x f64 f of a CPU where nothing was
 *         trained: decode, prefill
 *     35 x f32 smallest, 35 x f32 largest of the slots that were learned of
 *     ridge: 35 x f64 mean, 35 x f64 weight, f64 intercept
 *     what running added: u64 updates, f64 noise, 43 x f64 weights, 946 x f64 covariance (its lower
 *         triangle by rows)
 *     4 groups of scores: u32 n, f64 alpha, n x f64, oldest first
 *     u32 n, n x u8 hits, oldest first
 *     the forest (forest_bytes.c)
 *
 * Everything is there whatever the source, so that all but scores, hits and forest has one size. */
#include <math.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "tuner/little_endian.h"
#include "tuner/regressor.h"

enum {
    VERSION = 1,
    CRC_AT = 12,
    BODY_AT = 16,
    HEADER_BYTES = 24,
    TRIANGLE = TR_WEIGHTS * (TR_WEIGHTS + 1) / 2,
    FIXED_BYTES = HEADER_BYTES + 32 + 32 + 2 * 4 * TR_LEARNED + 8 * (2 * TR_LEARNED + 1) + 16 +
                  8 * (TR_WEIGHTS + TRIANGLE) + TR_GROUPS * 12 + 4,
    MAX_BYTES = 16 << 20 /* zlib counts in unsigned int */
};

static const char magic[8] = {'T', 'R', 'U', 'E', 'N', 'O', 'R', 'G'};

/* What running adds may not be more than this, nor the weights of a ridge: bytes that are wrong,
 * though their checksum is right, still give numbers. */
#define MAX_NUMBER 1e12

static uint32_t checksum(const uint8_t *p, size_t n)
{
    return (uint32_t)crc32(crc32(0, NULL, 0), p, (unsigned)n);
}

/* ----------------------------------------------------------------------- writing */

static size_t bytes_of(const trueno_regressor *r)
{
    size_t n = FIXED_BYTES + r->interval.n_hits;
    for (int g = 0; g < TR_GROUPS; g++) n += 8 * r->interval.groups[g].n;
    return n + (r->forest ? tr_forest_bytes(r->forest) : 0);
}

static void put_options(uint8_t **at, const trueno_regressor *r)
{
    tr_put_int(at, r->may_grow, 4);
    tr_put_int(at, r->n_trees, 4);
    tr_put_int(at, r->forest_options.max_depth, 4);
    tr_put_int(at, r->forest_options.min_leaf, 4);
    tr_put_int(at, r->forest_options.mtry, 4);
    tr_put_int(at, r->forest_options.bootstrap, 4);
    tr_put_int(at, r->forest_options.seed, 8);
}

static void put_trained(uint8_t **at, const trueno_regressor *r)
{
    tr_put_int(at, (uint64_t)r->source, 4);
    tr_put_int(at, r->forest ? tr_forest_bytes(r->forest) : 0, 4);
    tr_put_f64(at, r->confidence);
    for (size_t g = 0; g < 2; g++) tr_put_f64(at, r->cpu_f[g]);
    for (size_t k = 0; k < TR_LEARNED; k++) tr_put_f32(at, r->min[k]);
    for (size_t k = 0; k < TR_LEARNED; k++) tr_put_f32(at, r->max[k]);
    for (size_t k = 0; k < TR_LEARNED; k++) tr_put_f64(at, r->ridge.mean[k]);
    for (size_t k = 0; k < TR_LEARNED; k++) tr_put_f64(at, r->ridge.weight[k]);
    tr_put_f64(at, r->ridge.intercept);
}

static void put_online(uint8_t **at, const struct tr_residual *o)
{
    tr_put_int(at, o->n, 8);
    tr_put_f64(at, o->noise);
    for (size_t i = 0; i < TR_WEIGHTS; i++) tr_put_f64(at, o->mean[i]);
    for (size_t i = 0; i < TR_WEIGHTS; i++)
        for (size_t k = 0; k <= i; k++) tr_put_f64(at, o->covariance[i][k]);
}

static void put_interval(uint8_t **at, const struct tr_interval *v)
{
    for (int g = 0; g < TR_GROUPS; g++) {
        const struct tr_scores *s = &v->groups[g];
        uint32_t first = s->n < TR_SCORES ? 0 : s->next;
        tr_put_int(at, s->n, 4);
        tr_put_f64(at, s->alpha);
        for (uint32_t i = 0; i < s->n; i++) tr_put_f64(at, s->score[(first + i) % TR_SCORES]);
    }
    uint32_t first = v->n_hits < TR_SCORES ? 0 : v->next_hit;
    tr_put_int(at, v->n_hits, 4);
    for (uint32_t i = 0; i < v->n_hits; i++) tr_put_int(at, v->hit[(first + i) % TR_SCORES], 1);
}

trueno_status trueno_regressor_export(const trueno_regressor *r, void *buf, size_t cap, size_t *len,
                                      trueno_error *err)
{
    if (len) *len = 0;
    if (!r || !len)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "regressor: %s is NULL", r ? "len" : "r");
    size_t n = *len = bytes_of(r);
    if (!buf) return TRUENO_OK;
    if (n > cap)
        return tr_fail(err, TRUENO_ERR_TOO_LARGE, "regressor: %zu bytes, there is room for %zu", n,
                       cap);
    uint8_t *begin = buf, *at = begin;
    memcpy(at, magic, sizeof magic);
    at += sizeof magic;
    tr_put_int(&at, VERSION, 4);
    tr_put_int(&at, 0, 4); /* the checksum, below */
    tr_put_int(&at, n, 8);
    put_options(&at, r);
    put_trained(&at, r);
    put_online(&at, &r->online);
    put_interval(&at, &r->interval);
    if (r->forest) tr_forest_write(r->forest, at);
    at = begin + CRC_AT;
    tr_put_int(&at, checksum(begin + BODY_AT, n - BODY_AT), 4);
    return TRUENO_OK;
}

/* ----------------------------------------------------------------------- reading */

/* Where the reader is; bad: a value was met that cannot be. */
struct reader {
    const uint8_t *at, *end;
    bool bad;
};

static bool has(struct reader *in, uint64_t n)
{
    if (n > (uint64_t)(in->end - in->at)) in->bad = true;
    return !in->bad;
}

static uint64_t get_int(struct reader *in, int n_bytes, uint64_t max)
{
    uint64_t v = tr_get_int(&in->at, n_bytes);
    in->bad |= v > max;
    return v;
}

static double get_number(struct reader *in, double min, double max)
{
    double v = tr_get_f64(&in->at);
    in->bad |= !(v >= min && v <= max);
    return v;
}

static void get_options(struct reader *in, trueno_regressor *r)
{
    r->may_grow = get_int(in, 4, 1) != 0;
    r->n_trees = (uint32_t)get_int(in, 4, UINT32_MAX); /* training checks the options */
    r->forest_options = (trueno_forest_options)TRUENO_FOREST_OPTIONS_INIT;
    r->forest_options.max_depth = (uint32_t)get_int(in, 4, UINT32_MAX);
    r->forest_options.min_leaf = (uint32_t)get_int(in, 4, UINT32_MAX);
    r->forest_options.mtry = (uint32_t)get_int(in, 4, UINT32_MAX);
    r->forest_options.bootstrap = get_int(in, 4, 1) != 0;
    r->forest_options.seed = get_int(in, 8, UINT64_MAX);
}

/* Returns the bytes of the forest. */
static uint32_t get_trained(struct reader *in, trueno_regressor *r)
{
    r->source = (trueno_source)get_int(in, 4, TRUENO_SOURCE_FOREST);
    uint32_t forest_bytes = (uint32_t)get_int(in, 4, UINT32_MAX);
    r->confidence = get_number(in, 0, 1);
    for (size_t g = 0; g < 2; g++) r->cpu_f[g] = get_number(in, -MAX_NUMBER, MAX_NUMBER);
    for (size_t k = 0; k < TR_LEARNED; k++) r->min[k] = tr_get_f32(&in->at);
    for (size_t k = 0; k < TR_LEARNED; k++) r->max[k] = tr_get_f32(&in->at);
    for (size_t k = 0; k < TR_LEARNED; k++)
        in->bad |= !(r->min[k] >= 0 && r->max[k] >= r->min[k] && r->max[k] <= 1);
    r->ridge.n_features = r->source == TRUENO_SOURCE_RIDGE ? TR_LEARNED : 0;
    for (size_t k = 0; k < TR_LEARNED; k++) r->ridge.mean[k] = get_number(in, 0, 1);
    for (size_t k = 0; k < TR_LEARNED; k++)
        r->ridge.weight[k] = get_number(in, -MAX_NUMBER, MAX_NUMBER);
    r->ridge.intercept = get_number(in, -MAX_NUMBER, MAX_NUMBER);
    in->bad |= (r->source == TRUENO_SOURCE_FOREST) != (forest_bytes > 0);
    return forest_bytes;
}

static void get_online(struct reader *in, struct tr_residual *o)
{
    o->n = get_int(in, 8, UINT64_MAX);
    o->noise = get_number(in, 0, 1);
    in->bad |= o->noise == 0;
    for (size_t i = 0; i < TR_WEIGHTS; i++) {
        double max = tr_residual_prior(i) > 0 ? MAX_NUMBER : 0;
        o->mean[i] = get_number(in, -max, max);
    }
    for (size_t i = 0; i < TR_WEIGHTS; i++) {
        for (size_t k = 0; k <= i; k++) {
            double max = sqrt(tr_residual_prior(i) * tr_residual_prior(k)) * (1 + 1e-9);
            o->covariance[i][k] = o->covariance[k][i] = get_number(in, -max, max);
        }
    }
    in->bad |= !tr_residual_sound(o);
}

static void get_interval(struct reader *in, struct tr_interval *v)
{
    for (uint32_t g = 0; g < TR_GROUPS; g++) {
        if (!has(in, 12)) return;
        uint64_t n = get_int(in, 4, TR_SCORES);
        v->groups[g].alpha = get_number(in, -MAX_NUMBER, MAX_NUMBER);
        if (!has(in, 8 * n)) return;
        for (uint64_t i = 0; i < n; i++) tr_interval_add(v, g, get_number(in, 0, MAX_NUMBER));
        tr_interval_settle(v, g);
    }
    if (!has(in, 4)) return;
    v->n_hits = (uint32_t)get_int(in, 4, TR_SCORES);
    if (!has(in, v->n_hits)) return;
    for (uint32_t i = 0; i < v->n_hits; i++) v->hit[i] = (uint8_t)get_int(in, 1, 1);
    v->next_hit = v->n_hits % TR_SCORES;
}

static trueno_status check_header(const uint8_t *p, size_t len, trueno_error *err)
{
    const uint8_t *at = p + sizeof magic;
    if (len < sizeof magic || memcmp(p, magic, sizeof magic) != 0)
        return tr_fail(err, len < sizeof magic ? TRUENO_ERR_TRUNCATED : TRUENO_ERR_FORMAT,
                       "regressor: %zu bytes are none", len);
    if (len < FIXED_BYTES)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "regressor: %zu bytes, needs %d", len,
                       FIXED_BYTES);
    uint64_t version = tr_get_int(&at, 4), crc = tr_get_int(&at, 4), bytes = tr_get_int(&at, 8);
    if (version != VERSION)
        return tr_fail(err, TRUENO_ERR_VERSION, "regressor: version %u, this library reads %d",
                       (unsigned)version, VERSION);
    if (len < bytes)
        return tr_fail(err, TRUENO_ERR_TRUNCATED, "regressor: %zu bytes, announces %llu", len,
                       (unsigned long long)bytes);
    if (len > bytes || len > MAX_BYTES)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "regressor: %zu bytes, announces %llu, at most %d",
                       len, (unsigned long long)bytes, MAX_BYTES);
    if (crc != checksum(p + BODY_AT, len - BODY_AT))
        return tr_fail(err, TRUENO_ERR_CORRUPT, "regressor: wrong checksum");
    return TRUENO_OK;
}

/* A forest of these bytes that fits a regressor. */
static trueno_status get_forest(trueno_regressor *r, const uint8_t *p, size_t n, trueno_error *err)
{
    trueno_status status = tr_forest_read(&r->forest, r->ctx, p, n, err);
    if (status == TRUENO_ERR_TRUNCATED) /* all bytes are here, so they contradict themselves */
        return tr_fail(err, TRUENO_ERR_CORRUPT, "regressor: its forest is cut off");
    if (status != TRUENO_OK) return status;
    if (tr_forest_features(r->forest) == TR_LEARNED && tr_forest_classes(r->forest) == 0)
        return TRUENO_OK;
    return tr_fail(err, TRUENO_ERR_CORRUPT, "regressor: its forest is of other features");
}

static trueno_status get_all(trueno_regressor *r, const uint8_t *p, size_t len, trueno_error *err)
{
    struct reader in = {p + HEADER_BYTES, p + len, false};
    get_options(&in, r);
    uint32_t forest_bytes = get_trained(&in, r);
    get_online(&in, &r->online);
    get_interval(&in, &r->interval);
    if (in.bad || (size_t)(in.end - in.at) != forest_bytes)
        return tr_fail(err, TRUENO_ERR_CORRUPT, "regressor: a value of it cannot be");
    return forest_bytes ? get_forest(r, in.at, forest_bytes, err) : TRUENO_OK;
}

trueno_status trueno_regressor_import(trueno_ctx *ctx, trueno_regressor **out, const void *buf,
                                      size_t len, trueno_error *err)
{
    trueno_regressor *r;
    if (out) *out = NULL;
    if (!ctx || !out || !buf)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "regressor: %s is NULL",
                       !ctx   ? "ctx"
                       : !out ? "out"
                              : "buf");
    trueno_status status = check_header(buf, len, err);
    if (status == TRUENO_OK) status = tr_regressor_make(ctx, &r, err);
    if (status != TRUENO_OK) return status;
    status = get_all(r, buf, len, err);
    if (status == TRUENO_OK)
        *out = r;
    else
        trueno_regressor_free(r);
    return status;
}

/* ----------------------------------------------------------------------- copying */

static trueno_status copy_forest(trueno_regressor *copy, const struct tr_forest *f,
                                 trueno_error *err)
{
    size_t n = tr_forest_bytes(f);
    uint8_t *bytes = tr_alloc(copy->ctx, n);
    if (!bytes) return tr_fail(err, TRUENO_ERR_NO_MEMORY, "regressor: no memory for %zu bytes", n);
    tr_forest_write(f, bytes);
    trueno_status status = tr_forest_read(&copy->forest, copy->ctx, bytes, n, err);
    tr_free(copy->ctx, bytes);
    return status;
}

trueno_status trueno_regressor_clone(const trueno_regressor *r, trueno_regressor **out,
                                     trueno_error *err)
{
    trueno_regressor *copy;
    if (out) *out = NULL;
    if (!r || !out)
        return tr_fail(err, TRUENO_ERR_ARGUMENT, "regressor: %s is NULL", r ? "out" : "r");
    trueno_status status = tr_regressor_make(r->ctx, &copy, err);
    if (status != TRUENO_OK) return status;
    *copy = *r;
    copy->forest = NULL;
    if (r->forest) status = copy_forest(copy, r->forest, err);
    if (status == TRUENO_OK)
        *out = copy;
    else
        trueno_regressor_free(copy);
    return status;
}

bool tr_regressor_same_trained(const trueno_regressor *a, const trueno_regressor *b)
{
    const void *p, *q;
    if (a->source != b->source) return false;
    if (a->source == TRUENO_SOURCE_RIDGE) return memcmp(&a->ridge, &b->ridge, sizeof a->ridge) == 0;
    if (a->source != TRUENO_SOURCE_FOREST) return memcmp(a->cpu_f, b->cpu_f, sizeof a->cpu_f) == 0;
    size_t n = tr_forest_nodes(a->forest, &p);
    return tr_forest_bytes(a->forest) == tr_forest_bytes(b->forest) &&
           n == tr_forest_nodes(b->forest, &q) && memcmp(p, q, n) == 0;
}
