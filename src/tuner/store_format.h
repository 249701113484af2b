/* SPDX-License-Identifier: MIT */
/* The binary form of a store. Little-endian; offsets and sizes in bytes.
 *
 *   header    0 "TRUENOTW", 8 u16 major, 10 u16 minor, 12 u32 size of header and section table,
 *             16 u64 size of the file, 24 u32 sections, 28 u32 CRC-32 of header and section table,
 *             computed with 0 in this place
 *   section   0 u32 id, 4 u32 flags (1: required), 8 u64 offset, 16 u64 size, 24 u32 CRC-32, 28 0
 *   META      0 u32 machines, 4 u32 size of one, 8 u32 entries, 12 u32 size of one, 16 u32 names,
 * 20 0 MACHINES  0 id, 64 hard, 320 f64 quota, 328 i64 utc, 336 u32 generation, 340 u32 points, 344
 * 16 times: u32 threads, u32 0, f64 read_gbs, f64 peak_dot, f64 peak_fma NAMES     u8 length and as
 * many bytes, for each name WISDOM    0 u32 machine, 4 u32 variant, 8 u32 reference, 12 u32 type,
 * 16 u64 context, 24 u64 rows, 32 u64 cols, 40 u32 n_cols, 44 u32 threads, 48 u64 version, 56 f64
 * log_ratio, 64 f64 half_width, 72 f64 mde, 80 i64 utc, 88 u32 blocks, 92 u32 generation, 96 u8
 * phase, 97 u8 effort, 98 u8 state, 99 0 others    0 u32 generation, 4 u32 0, 8 the blob
 *
 * Newer minor versions may append to records and to META; readers skip what they do not know. */
#ifndef TR_STORE_FORMAT_H
#define TR_STORE_FORMAT_H

#include <string.h>
#include <zlib.h>

#include "tuner/store_impl.h"

enum {
    TR_TRW_MAJOR = 1,
    TR_TRW_MINOR = 0,
    TR_TRW_HEADER = 32,  /* bytes without the section table */
    TR_TRW_CRC_AT = 28,  /* of the header */
    TR_TRW_SECTION = 32, /* bytes of a row of the section table */
    TR_TRW_META = 24,
    TR_TRW_BLOB_HEAD = 8,
    TR_TRW_REQUIRED = 1
};

/* Sections by number; those of blobs follow (enum tr_section). */
enum {
    TR_TRW_ID_META = 1,
    TR_TRW_ID_MACHINES = 2,
    TR_TRW_ID_NAMES = 3,
    TR_TRW_ID_WISDOM = 4,
    TR_TRW_N_CORE = 4,
    TR_TRW_ID_END = TR_SECTION_END
};

#define TR_TRW_MAGIC "TRUENOTW"

static inline uint32_t tr_trw_get32(const uint8_t *at)
{
    return (uint32_t)tr_load_le(at, 4);
}

static inline uint64_t tr_trw_get64(const uint8_t *at)
{
    return tr_load_le(at, 8);
}

/* n is at most TR_STORE_MAX_BYTES. */
static inline uint32_t tr_trw_crc(uint32_t crc, const uint8_t *bytes, size_t n)
{
    return (uint32_t)crc32(crc, bytes, (uInt)n);
}

/* Of header and section table, n >= TR_TRW_HEADER bytes. */
static inline uint32_t tr_trw_header_crc(const uint8_t *bytes, size_t n)
{
    static const uint8_t zero[4];
    const uint32_t crc = tr_trw_crc(tr_trw_crc(0, bytes, TR_TRW_CRC_AT), zero, sizeof zero);
    return tr_trw_crc(crc, bytes + TR_TRW_HEADER, n - TR_TRW_HEADER);
}

#endif
