/* SPDX-License-Identifier: MIT */
/* Set of names: open addressing over indices, keyed hash. */
#include "gguf/names.h"

#include <string.h>
#include <time.h>
#if defined(__linux__)
#include <sys/random.h>
#endif

#include "base/mem.h"
#include "gguf/bytes.h"

struct sip_state {
    uint64_t v0, v1, v2, v3;
};

static uint64_t rotate(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static void sip_round(struct sip_state *s)
{
    s->v0 += s->v1;
    s->v2 += s->v3;
    s->v1 = rotate(s->v1, 13) ^ s->v0;
    s->v3 = rotate(s->v3, 16) ^ s->v2;
    s->v0 = rotate(s->v0, 32);
    s->v2 += s->v1;
    s->v0 += s->v3;
    s->v1 = rotate(s->v1, 17) ^ s->v2;
    s->v3 = rotate(s->v3, 21) ^ s->v0;
    s->v2 = rotate(s->v2, 32);
}

static void sip_word(struct sip_state *s, uint64_t word)
{
    s->v3 ^= word;
    sip_round(s);
    s->v0 ^= word;
}

uint64_t tr_siphash13(const uint64_t key[2], const void *data, size_t len)
{
    /* the constants are the ASCII text "somepseudorandomlygeneratedbytes" */
    struct sip_state s = {key[0] ^ 0x736f6d6570736575u, key[1] ^ 0x646f72616e646f6du,
                          key[0] ^ 0x6c7967656e657261u, key[1] ^ 0x7465646279746573u};
    const uint8_t *p = data;
    size_t whole = len - len % 8;
    for (size_t i = 0; i < whole; i += 8) sip_word(&s, tr_load_le(p + i, 8));
    uint64_t tail = len % 8 ? tr_load_le(p + whole, len % 8) : 0;
    sip_word(&s, tail | (uint64_t)(len & 255) << 56);
    s.v2 ^= 255;
    for (int i = 0; i < 3; i++) sip_round(&s);
    return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

/* Without an entropy source the key falls back to what an author of a file does not know: the time
 * and an address. */
void tr_random_key(uint64_t key[2])
{
    struct timespec now = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &now);
    key[0] = (uint64_t)now.tv_nsec * 0x9e3779b97f4a7c15u ^ (uint64_t)now.tv_sec;
    key[1] = (uint64_t)(uintptr_t)key;
#if defined(__linux__)
    uint64_t bits[2];
    if (getrandom(bits, sizeof bits, GRND_NONBLOCK) == (ssize_t)sizeof bits)
        memcpy(key, bits, sizeof bits);
#endif
}

void tr_names_init(struct tr_names *s, trueno_ctx *ctx, const void *list, tr_name_at name_at)
{
    *s = (struct tr_names){.ctx = ctx, .list = list, .name_at = name_at};
    tr_random_key(s->key);
}

void tr_names_free(struct tr_names *s)
{
    if (s->slots) tr_free(s->ctx, s->slots);
    s->slots = NULL;
    s->n_slots = s->n_used = 0;
}

/* The slot that holds this name, or the empty one where it belongs. There always is an empty one.
 */
static uint32_t *find_slot(const struct tr_names *s, const char *name, size_t len)
{
    uint32_t mask = s->n_slots - 1;
    uint32_t i = (uint32_t)tr_siphash13(s->key, name, len) & mask;
    for (; s->slots[i]; i = (i + 1) & mask) {
        trueno_str other = s->name_at(s->list, s->slots[i] - 1);
        if (other.len == len && memcmp(other.data, name, len) == 0) break;
    }
    return &s->slots[i];
}

bool tr_names_reserve(struct tr_names *s, uint32_t n)
{
    uint32_t n_slots = 16;
    if (n >= (uint32_t)1 << 30) return false;
    while (n_slots < 2 * n) n_slots *= 2;
    if (n_slots <= s->n_slots) return true;
    uint32_t *old = s->slots;
    uint32_t n_old = s->n_slots;
    uint32_t *slots = tr_calloc(s->ctx, n_slots, sizeof *slots);
    if (!slots) return false;
    s->slots = slots;
    s->n_slots = n_slots;
    for (uint32_t i = 0; i < n_old; i++) {
        if (!old[i]) continue;
        trueno_str name = s->name_at(s->list, old[i] - 1);
        *find_slot(s, name.data, name.len) = old[i];
    }
    if (old) tr_free(s->ctx, old);
    return true;
}

trueno_status tr_names_add(struct tr_names *s, uint32_t index)
{
    if (!tr_names_reserve(s, s->n_used + 1)) return TRUENO_ERR_NO_MEMORY;
    trueno_str name = s->name_at(s->list, index);
    uint32_t *slot = find_slot(s, name.data, name.len);
    if (*slot) return TRUENO_ERR_CORRUPT;
    *slot = index + 1;
    s->n_used++;
    return TRUENO_OK;
}

ptrdiff_t tr_names_find(const struct tr_names *s, const char *name, size_t len)
{
    if (!s->slots) return -1;
    return (ptrdiff_t)*find_slot(s, name, len) - 1;
}
