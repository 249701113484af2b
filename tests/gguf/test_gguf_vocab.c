/* SPDX-License-Identifier: MIT */
/* Published vocabulary files: counts and texts as the reader of llama.cpp's gguf package (0.19,
 * Python) shows them. Skipped where the files are not there. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gguf/harness.h"
#include "gguf/walk.h"

struct strings {
    const char *key;
    uint64_t count, bytes;
    uint32_t crc; /* of all texts in a row */
    const char *last;
};

struct vocab {
    const char *file;
    size_t n_kv;
    bool has_scores;
    struct strings tokens, merges; /* merges.key NULL: none */
};

static const struct vocab vocabs[] = {
    {"ggml-vocab-gpt-2.gguf",
     16,
     false,
     {"tokenizer.ggml.tokens", 50257, 356735, 0xc3540d8b, "<|endoftext|>"},
     {"tokenizer.ggml.merges", 50000, 406304, 0xdca09c9a, "\304\240g azed"}},
    {"ggml-vocab-llama-spm.gguf",
     22,
     true,
     {"tokenizer.ggml.tokens", 32000, 210919, 0x1c02b3e0, "\347\273\231"},
     {NULL, 0, 0, 0, NULL}},
    {"ggml-vocab-phi-3.gguf",
     26,
     true,
     {"tokenizer.ggml.tokens", 32064, 211596, 0x97445cb3, "[PAD32063]"},
     {NULL, 0, 0, 0, NULL}},
    {"ggml-vocab-starcoder.gguf",
     19,
     false,
     {"tokenizer.ggml.tokens", 49152, 344855, 0xcd3485a3, "sdb"},
     {"tokenizer.ggml.merges", 48872, 392819, 0xdc0872d5, "s db"}},
};

/* CRC-32 of zlib, bit by bit. */
static uint32_t crc32_add(uint32_t crc, const char *data, size_t n)
{
    crc = ~crc;
    for (size_t i = 0; i < n; i++) {
        crc ^= (uint8_t)data[i];
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (0xedb88320u & (0 - (crc & 1)));
    }
    return ~crc;
}

static void check_strings(const trueno_gguf *g, const struct strings *want)
{
    uint64_t bytes = 0;
    uint32_t crc = 0;
    trueno_str s = {NULL, 0};
    trueno_gguf_kv kv;
    ptrdiff_t i = trueno_gguf_find(g, want->key);
    assert_true(i >= 0);
    assert_int_equal(trueno_gguf_kv_at(g, (size_t)i, &kv), TRUENO_OK);
    assert_int_equal(kv.elem_type, TRUENO_GGUF_STRING);
    assert_true(kv.count == want->count);
    for (uint64_t k = 0; k < kv.count; k++) {
        assert_int_equal(trueno_gguf_elem_str(g, (size_t)i, k, &s), TRUENO_OK);
        bytes += s.len;
        crc = crc32_add(crc, s.data, s.len);
    }
    assert_true(bytes == want->bytes);
    assert_int_equal(crc, want->crc);
    assert_int_equal(s.len, strlen(want->last));
    assert_memory_equal(s.data, want->last, s.len);
}

static void check_count(const trueno_gguf *g, const char *key, uint64_t count)
{
    trueno_gguf_kv kv;
    ptrdiff_t i = trueno_gguf_find(g, key);
    assert_true(i >= 0);
    assert_int_equal(trueno_gguf_kv_at(g, (size_t)i, &kv), TRUENO_OK);
    assert_true(kv.type == TRUENO_GGUF_ARRAY && kv.count == count);
}

static void check_vocab(const char *path, const struct vocab *want, bool no_mmap)
{
    struct memory m = {0};
    trueno_ctx *ctx = memory_ctx(&m);
    trueno_gguf *g = NULL;
    trueno_gguf_options opt = TRUENO_GGUF_OPTIONS_INIT;
    trueno_error err = {TRUENO_OK, ""};
    uint64_t peak;
    opt.no_mmap = no_mmap;
    if (trueno_gguf_open(ctx, &g, path, &opt, &err)) fail_msg("%s", err.message);
    trueno_ctx_memory(ctx, NULL, &peak);
    assert_true(peak <= 3 * trueno_gguf_size_bytes(g) + 8192);
    assert_int_equal(trueno_gguf_version(g), 3);
    assert_int_equal(trueno_gguf_n_kv(g), want->n_kv);
    assert_int_equal(trueno_gguf_n_tensors(g), 0);
    check_strings(g, &want->tokens);
    if (want->merges.key) check_strings(g, &want->merges);
    check_count(g, "tokenizer.ggml.token_type", want->tokens.count);
    if (want->has_scores) check_count(g, "tokenizer.ggml.scores", want->tokens.count);
    walk_gguf(g, true);
    trueno_gguf_free(g);
    trueno_ctx_free(ctx);
    assert_true(m.live == 0);
}

static void published_vocabularies(void **state)
{
    (void)state;
    const char *root = getenv("TRUENO_TEST_DATA");
    char *dir = path_in(root ? root : "../shared/data", "vocab");
    size_t found = 0, all = sizeof vocabs / sizeof vocabs[0];
    for (size_t i = 0; i < all; i++) {
        char *path = path_in(dir, vocabs[i].file);
        FILE *f = fopen(path, "rb");
        if (f) {
            fclose(f);
            check_vocab(path, &vocabs[i], false);
            check_vocab(path, &vocabs[i], true);
            found++;
        } else {
            print_message("skipped: no %s\n", path);
        }
        free(path);
    }
    free(dir);
    if (found == 0) skip();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_vocabularies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
