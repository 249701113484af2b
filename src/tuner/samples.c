/* SPDX-License-Identifier: MIT */
/* Collected samples as bytes (samples.h). */
#include "tuner/samples.h"

#include <math.h>
#include <string.h>

#include "tuner/little_endian.h"

enum { VERSION = 1, COUNT_AT = 4, TRAINED_AT = 8 };

/* ------------------------------------------------------------------------- one */

/* Fields that are no slots, in the order of the file. */
static double *side_field(trueno_features *f, int i)
{
    switch (i) {
    case 0: return &f->weight_bytes_per_pass;
    case 1: return &f->flops_per_token;
    case 2: return &f->kv_bytes_per_token;
    default: return &f->cache_bytes;
    }
}
enum { N_SIDE = 4 };

/* Slots that the quant stands for. */
static bool is_one_hot(int slot)
{
    return slot >= TRUENO_FEATURE_QUANT_Q4_K && slot <= TRUENO_FEATURE_QUANT_F32;
}

void tr_sample_encode(uint8_t *out, const struct tr_sample *s)
{
    uint8_t *at = out;
    trueno_features f = s->f;
    tr_put_int(&at, (uint64_t)s->utc, 8);
    tr_put_f64(&at, s->tps);
    tr_put_f64(&at, s->predicted);
    tr_put_int(&at, s->label, 4);
    tr_put_int(&at, (uint64_t)(f.quant + 1), 2);
    tr_put_int(&at, (uint64_t)f.phase, 2);
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        double raw = 0;
        if (!is_one_hot(i)) (void)trueno_features_get(&raw, &f, (trueno_feature)i);
        tr_put_f64(&at, raw);
    }
    for (int i = 0; i < N_SIDE; i++) tr_put_f64(&at, *side_field(&f, i));
}

bool tr_sample_decode(struct tr_sample *s, const uint8_t *in)
{
    const uint8_t *at = in;
    trueno_features f = TRUENO_FEATURES_INIT;
    s->utc = (int64_t)tr_get_int(&at, 8);
    s->tps = tr_get_f64(&at);
    s->predicted = tr_get_f64(&at);
    s->label = (uint32_t)tr_get_int(&at, 4);
    uint32_t quant = (uint32_t)tr_get_int(&at, 2), phase = (uint32_t)tr_get_int(&at, 2);
    if (quant > TRUENO_QUANT_COUNT || phase > TRUENO_PHASE_PREFILL) return false;
    f.quant = (trueno_quant)((int)quant - 1);
    f.phase = (trueno_phase)phase;
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        double raw = tr_get_f64(&at);
        if (is_one_hot(i) || raw == TRUENO_UNSET) continue;
        if (trueno_features_set(&f, (trueno_feature)i, raw, NULL) != TRUENO_OK) return false;
    }
    for (int i = 0; i < N_SIDE; i++) *side_field(&f, i) = tr_get_f64(&at);
    s->f = f;
    bool run = isfinite(s->tps) && s->tps > 0 && isfinite(s->predicted) && s->predicted > 0 &&
               s->label == TRUENO_KERNEL_UNKNOWN;
    bool feedback =
        s->tps == 0 && s->label < trueno_kernel_count() && s->label != TRUENO_KERNEL_UNKNOWN;
    return (run || feedback) && trueno_features_validate(&f, NULL) == TRUENO_OK;
}

int64_t tr_sample_utc(const uint8_t *sample)
{
    return (int64_t)tr_get_int(&sample, 8);
}

/* --------------------------------------------------------------------- sections */

size_t tr_samples_count(const void *bytes)
{
    const uint8_t *at = (const uint8_t *)bytes + COUNT_AT;
    return (size_t)tr_get_int(&at, 4);
}

const uint8_t *tr_samples_at(const void *bytes, size_t i)
{
    return (const uint8_t *)bytes + TR_SAMPLES_HEADER + i * TR_SAMPLE_BYTES;
}

int64_t tr_samples_trained(const void *bytes)
{
    const uint8_t *at = (const uint8_t *)bytes + TRAINED_AT;
    return (int64_t)tr_get_int(&at, 8);
}

void tr_samples_set_trained(void *bytes, int64_t utc)
{
    uint8_t *at = (uint8_t *)bytes + TRAINED_AT;
    tr_put_int(&at, (uint64_t)utc, 8);
}

static void set_count(void *bytes, size_t n)
{
    uint8_t *at = (uint8_t *)bytes + COUNT_AT;
    tr_put_int(&at, n, 4);
}

static size_t bytes_of(size_t n)
{
    return TR_SAMPLES_HEADER + n * TR_SAMPLE_BYTES;
}

void tr_samples_init(void *bytes)
{
    uint8_t *at = bytes;
    memset(bytes, 0, TR_SAMPLES_HEADER);
    tr_put_int(&at, VERSION, 4);
}

/* Below 0: a is newer, or as new and its bytes are greater. */
static int order(const uint8_t *a, const uint8_t *b)
{
    int64_t x = tr_sample_utc(a), y = tr_sample_utc(b);
    if (x != y) return x > y ? -1 : 1;
    return memcmp(b, a, TR_SAMPLE_BYTES);
}

bool tr_samples_ok(const void *bytes, size_t n)
{
    const uint8_t *at = bytes;
    if (n < TR_SAMPLES_HEADER || tr_get_int(&at, 4) != VERSION) return false;
    size_t count = tr_samples_count(bytes);
    if (count > TR_SAMPLES_MAX || n != bytes_of(count)) return false;
    for (size_t i = 1; i < count; i++)
        if (order(tr_samples_at(bytes, i - 1), tr_samples_at(bytes, i)) >= 0) return false;
    return true;
}

size_t tr_samples_add(void *bytes, const struct tr_sample *s)
{
    uint8_t sample[TR_SAMPLE_BYTES];
    size_t n = tr_samples_count(bytes), i = 0;
    tr_sample_encode(sample, s);
    while (i < n && order(tr_samples_at(bytes, i), sample) < 0) i++;
    if (i == TR_SAMPLES_MAX || (i < n && order(tr_samples_at(bytes, i), sample) == 0))
        return bytes_of(n); /* older than all of them, or there already */
    if (n == TR_SAMPLES_MAX) n--;
    uint8_t *here = (uint8_t *)bytes + bytes_of(i);
    memmove(here + TR_SAMPLE_BYTES, here, (n - i) * TR_SAMPLE_BYTES);
    memcpy(here, sample, TR_SAMPLE_BYTES);
    set_count(bytes, n + 1);
    return bytes_of(n + 1);
}

size_t tr_samples_join(void *out, const void *a, size_t n_a, const void *b, size_t n_b)
{
    const bool has_a = a && tr_samples_ok(a, n_a), has_b = b && tr_samples_ok(b, n_b);
    const size_t in_a = has_a ? tr_samples_count(a) : 0, in_b = has_b ? tr_samples_count(b) : 0;
    int64_t trained_a = has_a ? tr_samples_trained(a) : 0;
    int64_t trained_b = has_b ? tr_samples_trained(b) : 0;
    size_t i = 0, k = 0, n = 0;
    tr_samples_init(out);
    while (n < TR_SAMPLES_MAX && (i < in_a || k < in_b)) {
        int which = i == in_a   ? 1
                    : k == in_b ? -1
                                : order(tr_samples_at(a, i), tr_samples_at(b, k));
        const uint8_t *from = which <= 0 ? tr_samples_at(a, i) : tr_samples_at(b, k);
        memcpy((uint8_t *)out + bytes_of(n++), from, TR_SAMPLE_BYTES);
        i += which <= 0;
        k += which >= 0;
    }
    set_count(out, n);
    tr_samples_set_trained(out, trained_a > trained_b ? trained_a : trained_b);
    return bytes_of(n);
}
