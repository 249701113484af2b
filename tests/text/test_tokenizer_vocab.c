/* SPDX-License-Identifier: MIT */
/* Tokenizers of published vocabularies: the ids that their own test suites demand, and properties
 * that hold for every text. Data: TRUENO_TEST_DATA/vocab, NAME.gguf with NAME.gguf.inp (cases) and
 * NAME.gguf.out (ids). */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "text/tiny_vocab.h"
#include "trueno/tokenizer.h"

enum { VOCABS_MAX = 32, PATH_LEN = 1024 };

static char vocab_path[VOCABS_MAX][PATH_LEN];
static size_t n_vocabs;
static trueno_ctx *ctx;

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int setup(void **state)
{
    (void)state;
    const char *root = getenv("TRUENO_TEST_DATA");
    char dir[PATH_LEN / 2];
    snprintf(dir, sizeof dir, "%s/vocab", root ? root : "../shared/data");
    DIR *d = opendir(dir);
    struct dirent *e;
    while (d && (e = readdir(d)) != NULL && n_vocabs < VOCABS_MAX) {
        size_t len = strlen(e->d_name);
        if (len > 5 && strcmp(e->d_name + len - 5, ".gguf") == 0)
            snprintf(vocab_path[n_vocabs++], PATH_LEN, "%s/%.400s", dir, e->d_name);
    }
    if (d) closedir(d);
    qsort(vocab_path, n_vocabs, PATH_LEN, by_name);
    return trueno_ctx_new(&ctx, NULL, NULL) != TRUENO_OK;
}

static int teardown(void **state)
{
    (void)state;
    trueno_ctx_free(ctx);
    return 0;
}

static void need_vocabs(void)
{
    if (n_vocabs) return;
    print_message("no vocabularies: set TRUENO_TEST_DATA to a folder with vocab/*.gguf\n");
    skip();
}

static trueno_tokenizer *open_vocab(size_t i)
{
    trueno_error err = {0};
    trueno_gguf *g = NULL;
    trueno_tokenizer *t = NULL;
    if (trueno_gguf_open(ctx, &g, vocab_path[i], NULL, &err) ||
        trueno_tokenizer_new(&t, g, NULL, &err))
        fail_msg("%s: %s", vocab_path[i], err.message);
    trueno_gguf_free(g);
    return t;
}

static bool is_spm(const trueno_tokenizer *t)
{
    trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
    assert_int_equal(trueno_tokenizer_get_info(t, &info), TRUENO_OK);
    return strcmp(info.model, "spm") == 0;
}

/* Some vocabularies have no token for bytes that valid UTF-8 seldom or never has (StarCoder: 0xF1
 * among them); such bytes become the unknown token and cannot survive. */
static void find_gaps(const trueno_tokenizer *t, bool gap[256])
{
    for (unsigned b = 0; b < 256; b++) {
        char text[4];
        tiny_alphabet(b, text);
        gap[b] = !is_spm(t) && trueno_token_find(t, text, strlen(text)) == TRUENO_TOKEN_NONE;
    }
}

static bool has_gap(const bool gap[256], const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (gap[(unsigned char)text[i]]) return true;
    return false;
}

/* Encodes; the caller frees the ids. */
static trueno_token *encode(const trueno_tokenizer *t, const char *text, size_t len, uint32_t flags,
                            size_t *n)
{
    trueno_error err;
    size_t counted;
    if (trueno_encode(t, NULL, 0, &counted, text, len, flags, &err)) fail_msg("%s", err.message);
    trueno_token *ids = malloc((counted + 1) * sizeof *ids);
    assert_non_null(ids);
    assert_int_equal(trueno_encode(t, ids, counted, n, text, len, flags, &err), TRUENO_OK);
    assert_int_equal(*n, counted);
    return ids;
}

/* Decodes; the caller frees the text. */
static char *decode(const trueno_tokenizer *t, const trueno_token *ids, size_t n, bool with_special,
                    size_t *len)
{
    trueno_error err;
    size_t counted;
    if (trueno_decode(t, NULL, 0, &counted, ids, n, with_special, &err))
        fail_msg("%s", err.message);
    char *text = malloc(counted + 1);
    assert_non_null(text);
    assert_int_equal(trueno_decode(t, text, counted, len, ids, n, with_special, &err), TRUENO_OK);
    assert_int_equal(*len, counted);
    return text;
}

static void check_round_trip(const trueno_tokenizer *t, const char *text, size_t len,
                             uint32_t flags, const char *what)
{
    size_t n, len2;
    trueno_token *ids = encode(t, text, len, flags, &n);
    char *text2 = decode(t, ids, n, (flags & TRUENO_ENCODE_PARSE) != 0, &len2);
    if (len != len2 || memcmp(text, text2, len) != 0)
        fail_msg("%s: \"%.*s\" came back as \"%.*s\"", what, (int)len, text, (int)len2, text2);
    free(ids);
    free(text2);
}

/* -------------------------------------------------------------------------- suites */

static char *read_file(const char *path, const char *suffix, size_t *len)
{
    char name[PATH_LEN + 8];
    snprintf(name, sizeof name, "%s%s", path, suffix);
    FILE *f = fopen(name, "rb");
    if (!f) return NULL;
    char *data = malloc(1 << 20);
    assert_non_null(data);
    *len = fread(data, 1, (1 << 20) - 1, f);
    data[*len] = 0;
    fclose(f);
    return data;
}

/* One line of ids against what the tokenizer gives for one case. */
static void check_case(const trueno_tokenizer *t, const char *path, size_t number, const char *text,
                       size_t len, const char *expected)
{
    size_t n;
    trueno_token *ids = encode(t, text, len, 0, &n);
    for (size_t i = 0; i < n; i++) {
        char *end;
        long want = strtol(expected, &end, 10);
        if (end == expected || want != ids[i])
            fail_msg("%s case %zu \"%.*s\": id %zu is %d, must be %ld", path, number, (int)len,
                     text, i, (int)ids[i], end == expected ? -1L : want);
        expected = end;
    }
    if (expected[strspn(expected, " ")])
        fail_msg("%s case %zu: ids are missing: %s", path, number, expected);
    free(ids);
}

static size_t check_suite(const trueno_tokenizer *t, const char *path)
{
    static const char mark[] = "\n__ggml_vocab_test__\n";
    size_t n_inp, n_out, number = 0;
    char *inp = read_file(path, ".inp", &n_inp), *out = read_file(path, ".out", &n_out);
    if (inp && out) {
        char *text = inp, *line = out;
        while (text) {
            char *next = strstr(text, mark), *line_end = strchr(line, '\n');
            size_t len = next ? (size_t)(next - text) : strlen(text);
            if (line_end) *line_end = 0;
            check_case(t, path, number++, text, len, line);
            line = line_end ? line_end + 1 : line + strlen(line);
            text = next ? next + sizeof mark - 1 : NULL;
        }
        assert_int_equal(*line, 0);
    }
    free(inp);
    free(out);
    return number;
}

static void suites_give_the_published_ids(void **state)
{
    (void)state;
    size_t n_suites = 0, n_cases = 0;
    need_vocabs();
    for (size_t i = 0; i < n_vocabs; i++) {
        trueno_tokenizer *t = open_vocab(i);
        size_t n = check_suite(t, vocab_path[i]);
        n_suites += n > 0;
        n_cases += n;
        trueno_tokenizer_free(t);
    }
    print_message("%zu suites, %zu cases\n", n_suites, n_cases);
    assert_true(n_suites > 0);
}

/* ---------------------------------------------------------------------- properties */

static void every_id_survives(void **state)
{
    (void)state;
    need_vocabs();
    for (size_t v = 0; v < n_vocabs; v++) {
        trueno_tokenizer *t = open_vocab(v);
        trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
        trueno_tokenizer_get_info(t, &info);
        for (trueno_token id = 0; id < (trueno_token)info.n_vocab; id++) {
            size_t len;
            char *text = decode(t, &id, 1, true, &len);
            check_round_trip(t, text, len, TRUENO_ENCODE_PARSE, vocab_path[v]);
            free(text);
        }
        trueno_tokenizer_free(t);
    }
}

static size_t put_utf8(char *out, uint32_t c)
{
    if (c < 0x80) return out[0] = (char)c, 1;
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n; --i > 0; c >>= 6) out[i] = (char)(0x80 | (c & 63));
    out[0] = (char)((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | c);
    return n;
}

static void every_code_point_survives(void **state)
{
    (void)state;
    need_vocabs();
    for (size_t v = 0; v < n_vocabs; v++) {
        trueno_tokenizer *t = open_vocab(v);
        bool spm = is_spm(t), gap[256];
        char text[64 * 4];
        size_t n = 0, n_skipped = 0;
        find_gaps(t, gap);
        for (uint32_t c = 0; c < 0x110000; c++) {
            if ((c >= 0xD800 && c < 0xE000) || (spm && c == 0x2581)) continue;
            size_t len = put_utf8(text + n, c);
            bool skipped = has_gap(gap, text + n, len);
            n_skipped += skipped;
            n += skipped ? 0 : len;
            if (n + 4 <= sizeof text && c != 0x10FFFF) continue;
            check_round_trip(t, text, n, 0, vocab_path[v]);
            n = 0;
        }
        if (n_skipped)
            print_message("%s: %zu code points without byte tokens\n", vocab_path[v], n_skipped);
        trueno_tokenizer_free(t);
    }
}

static uint32_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*s >> 33);
}

/* Text of many scripts with spaces, digits and, if asked for, bytes that are not UTF-8, but none
 * from `gap`. */
static size_t random_text(uint64_t *seed, char *text, size_t cap, bool broken, const bool gap[256])
{
    static const uint32_t first[] = {0x20,   0x61,    0x30,  0x21,   0xE0,   0x410,
                                     0x5D0,  0x627,   0x905, 0xE01,  0x3042, 0x4E00,
                                     0xAC00, 0x1F600, 0x300, 0x2000, 0x0};
    size_t n = 0, want = next_random(seed) % (cap - 8);
    while (n < want) {
        uint32_t block = first[next_random(seed) % (sizeof first / sizeof first[0])];
        uint32_t run = 1 + next_random(seed) % 6;
        for (; run && n < want; run--) {
            uint32_t c = block + next_random(seed) % 26;
            if (broken && next_random(seed) % 8 == 0)
                text[n] = (char)(0x80 | next_random(seed)), n += !gap[(unsigned char)text[n]];
            else
                n += put_utf8(text + n, next_random(seed) % 5 ? c : ' ');
        }
    }
    return n;
}

static void random_texts_survive(void **state)
{
    (void)state;
    need_vocabs();
    for (size_t v = 0; v < n_vocabs; v++) {
        trueno_tokenizer *t = open_vocab(v);
        uint64_t seed = 1;
        bool gap[256];
        find_gaps(t, gap);
        for (int i = 0; i < 2000; i++) {
            char text[400];
            size_t len = random_text(&seed, text, sizeof text, i & 1, gap);
            check_round_trip(t, text, len, 0, vocab_path[v]);
        }
        trueno_tokenizer_free(t);
    }
}

/* Pushes ids one by one; returns the length of what can be printed before the flush. */
static size_t stream(trueno_detokenizer *d, const trueno_token *ids, size_t n, char *out)
{
    const char *piece;
    size_t len, total = 0;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(trueno_detokenizer_push(d, ids[i], &piece, &len), TRUENO_OK);
        assert_int_equal(piece[len], 0);
        memcpy(out + total, piece, len);
        total += len;
    }
    return total;
}

/* At every cut, what was printed and what flush gives are the whole decode of the ids so far; and
 * what is held back is at most 3 bytes. */
static void check_cuts(trueno_detokenizer *d, const trueno_tokenizer *t, const trueno_token *ids,
                       size_t n)
{
    static char streamed[8192];
    for (size_t cut = 0; cut <= n; cut++) {
        const char *piece;
        size_t len, whole_len;
        char *whole = decode(t, ids, cut, false, &whole_len);
        trueno_detokenizer_reset(d);
        size_t total = stream(d, ids, cut, streamed);
        assert_in_range(whole_len - total, 0, 3);
        assert_int_equal(trueno_detokenizer_flush(d, &piece, &len), TRUENO_OK);
        memcpy(streamed + total, piece, len);
        assert_int_equal(total + len, whole_len);
        assert_memory_equal(streamed, whole, whole_len);
        free(whole);
    }
}

static void streaming_equals_decoding_at_every_cut(void **state)
{
    (void)state;
    need_vocabs();
    for (size_t v = 0; v < n_vocabs; v++) {
        trueno_tokenizer *t = open_vocab(v);
        trueno_detokenizer *d = NULL;
        trueno_detokenizer_options opt = TRUENO_DETOKENIZER_OPTIONS_INIT;
        opt.raw_bytes = true;
        assert_int_equal(trueno_detokenizer_new(&d, t, &opt), TRUENO_OK);
        uint64_t seed = 7;
        bool gap[256];
        find_gaps(t, gap);
        for (int i = 0; i < 60; i++) {
            char text[200];
            size_t n, len = random_text(&seed, text, sizeof text, i & 1, gap);
            trueno_token *ids = encode(t, text, len, 0, &n);
            check_cuts(d, t, ids, n);
            free(ids);
        }
        trueno_detokenizer_free(d);
        trueno_tokenizer_free(t);
    }
}

static void special_text_stays_text_unless_asked(void **state)
{
    (void)state;
    need_vocabs();
    for (size_t v = 0; v < n_vocabs; v++) {
        trueno_tokenizer *t = open_vocab(v);
        trueno_tokenizer_info info = TRUENO_TOKENIZER_INFO_INIT;
        trueno_tokenizer_get_info(t, &info);
        for (trueno_token id = 0; id < (trueno_token)info.n_vocab; id++) {
            if (trueno_token_get_kind(t, id) != TRUENO_TOKEN_CONTROL) continue;
            trueno_str text = trueno_token_text(t, id);
            size_t n;
            trueno_token *ids = encode(t, text.data, text.len, 0, &n);
            for (size_t i = 0; i < n; i++)
                assert_int_not_equal(trueno_token_get_kind(t, ids[i]), TRUENO_TOKEN_CONTROL);
            free(ids);
            ids = encode(t, text.data, text.len, TRUENO_ENCODE_PARSE, &n);
            assert_int_equal(n, 1);
            assert_int_equal(ids[0], id);
            free(ids);
        }
        trueno_tokenizer_free(t);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(suites_give_the_published_ids),
        cmocka_unit_test(every_id_survives),
        cmocka_unit_test(every_code_point_survives),
        cmocka_unit_test(random_texts_survive),
        cmocka_unit_test(streaming_equals_decoding_at_every_cut),
        cmocka_unit_test(special_text_stays_text_unless_asked),
    };
    return cmocka_run_group_tests_name("tokenizer_vocab", tests, setup, teardown);
}
