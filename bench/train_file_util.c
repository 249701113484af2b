/* SPDX-License-Identifier: MIT */
/* Writes the file that src/tuner/pretrained.h describes. */
#include "train_util.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static void put_int(uint8_t **at, uint64_t v, int n_bytes)
{
    for (int i = 0; i < n_bytes; i++) *(*at)++ = (uint8_t)(v >> 8 * i);
}

static void put_f64(uint8_t **at, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_int(at, bits, 8);
}

static void put_header(uint8_t *p, size_t n, const struct corpus *c, double mape,
                       const trueno_importance importance[TRUENO_FEATURE_DIM])
{
    uint8_t *at = p + 8;
    memcpy(p, "TRUENOPT", 8);
    put_int(&at, 2, 4); /* version */
    put_int(&at, 0, 4); /* the checksum, below */
    put_int(&at, n, 8);
    put_int(&at, c->hash, 8);
    put_int(&at, c->n, 8);
    put_f64(&at, mape);
    memset(at, 0, TRUENO_MACHINE_ID_MAX);
    memcpy(at, c->machine, strlen(c->machine));
    at += TRUENO_MACHINE_ID_MAX;
    memset(at, 0, TRAIN_FILE_DATE);
    memcpy(at, c->last, strlen(c->last));
    at += TRAIN_FILE_DATE;
    for (int i = 0; i < TRUENO_FEATURE_DIM; i++) {
        put_f64(&at, importance[i].importance);
        put_f64(&at, importance[i].std_error);
    }
    at = p + 12;
    put_int(&at, crc32(crc32(0, NULL, 0), p + 16, (unsigned)(n - 16)), 4);
}

static int write_bytes(const char *path, const uint8_t *p, size_t n)
{
    FILE *file = fopen(path, "wb");
    if (!file) return cli_error("%s: %s", path, strerror(errno));
    bool good = fwrite(p, 1, n, file) == n;
    good &= fclose(file) == 0;
    return good ? CLI_OK : cli_error("%s: cannot write", path);
}

int train_write(const struct trainer *t, const char *path, const trueno_regressor *r, double mape,
                const trueno_importance importance[TRUENO_FEATURE_DIM])
{
    trueno_error err = {TRUENO_OK, ""};
    size_t len = 0;
    uint8_t *p = malloc(TRAIN_FILE_MAX);
    if (!p) return cli_error("no memory for the file");
    trueno_status st = trueno_regressor_export(r, p + TRAIN_FILE_HEADER,
                                               TRAIN_FILE_MAX - TRAIN_FILE_HEADER, &len, &err);
    int rc = st ? cli_failed("export", st, err.message) : CLI_OK;
    if (!rc) {
        put_header(p, TRAIN_FILE_HEADER + len, t->c, mape, importance);
        rc = write_bytes(path, p, TRAIN_FILE_HEADER + len);
    }
    free(p);
    return rc;
}
