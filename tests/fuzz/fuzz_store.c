/* SPDX-License-Identifier: MIT */
/* Fuzz target: a tuner store from the input, in either form. The first byte says how: bit 0 sets
 * the checksums of the rest right before it is read. What is read obeys the rules: it is written
 * and read again without a loss, in both forms, and joining it with itself changes nothing. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "tuner/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t number(const uint8_t *at, size_t n)
{
    uint64_t x = 0;
    while (n > 0) x = x << 8 | at[--n];
    return x;
}

static void put_crc(uint8_t *at, const uint8_t *bytes, size_t n)
{
    const uint32_t crc = (uint32_t)crc32(0, bytes, (uInt)n);
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(crc >> 8 * i);
}

static void seal(uint8_t *bytes, size_t n)
{
    if (n < 32) return;
    const uint64_t head = number(bytes + 12, 4), rows = number(bytes + 24, 4);
    for (uint64_t i = 0; i < rows && 64 + 32 * i <= n; i++) {
        uint8_t *row = bytes + 32 + 32 * i;
        const uint64_t at = number(row + 8, 8), size = number(row + 16, 8);
        if (size <= n && at <= n - size) put_crc(row + 24, bytes + at, (size_t)size);
    }
    if (head < 32 || head > n) return;
    memset(bytes + 28, 0, 4);
    put_crc(bytes + 28, bytes, (size_t)head);
}

static void expect_digest(const struct tr_store *s, uint64_t digest)
{
    uint64_t got;
    if (tr_store_digest(s, &got, NULL) || got != digest) abort();
}

static void round_trip(trueno_ctx *ctx, const struct tr_store *s, uint64_t digest, bool json)
{
    struct tr_store_report report = {0};
    struct tr_store *t;
    size_t n, m;
    if (json ? tr_store_to_json(s, NULL, 0, &n, NULL) : tr_store_encode(s, NULL, 0, &n, NULL))
        abort();
    char *buf = malloc(n);
    if (!buf) abort();
    if (json ? tr_store_to_json(s, buf, n, &m, NULL) : tr_store_encode(s, buf, n, &m, NULL))
        abort();
    if (m != n || tr_store_read(ctx, &t, buf, n, &report, NULL)) abort();
    if (report.bad_entries || report.bad_machines || report.bad_sections) abort();
    expect_digest(t, digest);
    if (tr_store_merge(t, s, NULL, NULL)) abort();
    expect_digest(t, digest);
    tr_store_free(t);
    free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    trueno_ctx *ctx;
    struct tr_store *s;
    struct tr_store_report report = {0};
    uint64_t digest, now;
    if (size < 1 || trueno_ctx_new(&ctx, NULL, NULL)) return 0;
    uint8_t *bytes = malloc(size);
    if (!bytes) abort();
    memcpy(bytes, data + 1, size - 1);
    if (data[0] & 1) seal(bytes, size - 1);
    if (tr_store_read(ctx, &s, bytes, size - 1, &report, NULL) == TRUENO_OK) {
        if (tr_store_digest(s, &digest, NULL)) abort();
        round_trip(ctx, s, digest, false);
        round_trip(ctx, s, digest, true);
        tr_store_review(&report, s, 0, 0);
        for (size_t i = 0; i < tr_store_n_entries(s); i++) {
            const struct tr_wisdom *w = tr_store_at(s, i);
            if (tr_store_find(s, w->machine, w->context) != (w->state == 2 ? NULL : w)) abort();
        }
        tr_store_free(s);
    } else if (s) {
        abort();
    }
    free(bytes);
    trueno_ctx_memory(ctx, &now, NULL);
    if (now) abort();
    trueno_ctx_free(ctx);
    return 0;
}
