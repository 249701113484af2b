/* SPDX-License-Identifier: MIT */
/* The JSON form of a store: what is refused, and what is dropped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

#include "store_image.h"

static void expect_text(const char *text, trueno_status status)
{
    const struct image im = {(uint8_t *)(uintptr_t)text, strlen(text)};
    expect(&im, status);
}

#define HEAD "{\"format\":\"trueno-tuner-store\",\"version\":[1,0],"

static void test_json_refusals(void **state)
{
    (void)state;
    expect_text(HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[]}", TRUENO_OK);
    expect_text(" \r\n\t" HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[],\"new\":1}",
                TRUENO_OK);
    expect_text("{", TRUENO_ERR_FORMAT);
    expect_text("{}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[]} x", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"machines\":[],\"wisdom\":[],\"sections\":[]}",
                TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":{},\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[1],\"wisdom\":[],\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[[]],\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text(HEAD "\"machines\":[],\"wisdom\":[NaN],\"sections\":[]}", TRUENO_ERR_FORMAT);
    expect_text("{\"format\":\"another\",\"version\":[1,0],\"machines\":[],\"wisdom\":[],"
                "\"sections\":[]}",
                TRUENO_ERR_FORMAT);
    expect_text("{\"format\":\"trueno-tuner-store\",\"version\":[2,0]}", TRUENO_ERR_VERSION);
    expect_text("{\"format\":\"trueno-tuner-store\",\"version\":2}", TRUENO_ERR_FORMAT);
    expect_text("\xef\xbb\xbf" HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[]}",
                TRUENO_ERR_FORMAT);

    /* 16 levels, 17, and a million of them */
    for (size_t deep = 14; deep < 18; deep++) {
        char text[200] = HEAD "\"machines\":[],\"wisdom\":[],\"sections\":[],\"x\":";
        for (size_t i = 0; i < deep; i++) strcat(text, "[");
        for (size_t i = 0; i < deep; i++) strcat(text, "]");
        strcat(text, "}");
        expect_text(text, deep < 16 ? TRUENO_OK : TRUENO_ERR_FORMAT);
    }
    struct image im = {malloc(4000000), 4000000};
    memset(im.bytes, '[', im.n);
    im.bytes[0] = '{';
    expect(&im, TRUENO_ERR_FORMAT);
    memset(im.bytes, ',', im.n); /* more values than a store can have */
    im.bytes[0] = '{';
    expect(&im, TRUENO_ERR_TOO_LARGE);
    free(im.bytes);
    /* brackets in a text are no levels */
    expect_text(HEAD
                "\"machines\":[],\"wisdom\":[],\"sections\":[],\"x\":\"[[[[[[[[[[[[[[[[[\\\"[\"}",
                TRUENO_OK);
}

/* `text` with its first `from` replaced. */
static char *replaced(const char *text, const char *from, const char *to)
{
    const char *at = strstr(text, from);
    assert_non_null(at);
    char *out = malloc(strlen(text) + strlen(to) + 1);
    sprintf(out, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    return out;
}

static void test_json_fields(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        trueno_status status;
        uint32_t bad_machines, bad_entries;
    } rows[] = {
        {"\"log_ratio\": -0.125", "\"log_ratio\": 1e5", TRUENO_OK, 0, 1},
        {"\"log_ratio\": -0.125", "\"log_ratio\": 1e999", TRUENO_ERR_FORMAT, 0, 0},
        {"\"log_ratio\": -0.125", "\"log_ratio\": 0", TRUENO_OK, 0, 0},
        {"\"log_ratio\": -0.125", "\"log_ratio\": \"x\"", TRUENO_ERR_FORMAT, 0, 0},
        {"\"log_ratio\": -0.125,", "", TRUENO_ERR_FORMAT, 0, 0},
        {"\"threads\": 4", "\"threads\": 4294967297", TRUENO_OK, 0, 1},
        {"\"threads\": 4", "\"threads\": -1", TRUENO_OK, 0, 1},
        {"\"threads\": 4", "\"threads\": 4.0", TRUENO_ERR_FORMAT, 0, 0},
        {"\"threads\": 4", "\"threads\": 5", TRUENO_OK, 0, 1}, /* not what the context is of */
        {"\"effort\": \"normal\"", "\"effort\": \"great\"", TRUENO_OK, 0, 1},
        {"\"state\": \"verified\"", "\"state\": null", TRUENO_ERR_FORMAT, 0, 0},
        {"\"type\": \"Q4_K\"", "\"type\": \"Q9\"", TRUENO_OK, 0, 1},
        {"\"phase\": \"decode\"", "\"phase\": \"auto\"", TRUENO_OK, 0, 1},
        {"\"version\": \"0x", "\"version\": \"1x", TRUENO_ERR_FORMAT, 0, 0},
        {"\"context\": \"0x", "\"context\": \"0xg", TRUENO_ERR_FORMAT, 0, 0},
        {"\"machine\": \"machine 0\"", "\"machine\": \"who\"", TRUENO_OK, 0, 1},
        {"\"generation\": 1", "\"generation\": 0", TRUENO_OK, 1, 1},
        {"\"quota\": 1.5", "\"quota\": -1", TRUENO_OK, 1, 1},
        {"\"quota\": 1.5", "\"quota\": []", TRUENO_ERR_FORMAT, 0, 0},
        {"\"points\": [", "\"points\": [[1,2,3],", TRUENO_ERR_FORMAT, 0, 0},
        {"\"points\": [", "\"points\": [[3,1,1,1],", TRUENO_OK, 1, 1},
        {"\"id\": \"machine", "\"id\": \"machine\\u00e9", TRUENO_OK, 1, 1},
        {"\"id\": \"machine", "\"id\": \"machine\\u0000", TRUENO_ERR_FORMAT, 0, 0},
        {"\"id\": \"machine",
         "\"id\": \"0123456789012345678901234567890123456789012345678901234567890123",
         TRUENO_ERR_TOO_LARGE, 0, 0},
        {"\"hex\": \"6f", "\"hex\": \"6", TRUENO_ERR_FORMAT, 0, 0},
        {"\"hex\": \"6f", "\"hex\": \"6z", TRUENO_ERR_FORMAT, 0, 0},
    };
    struct tr_store *s = new_store();
    fill_sample(s, 1, 1, 1);
    assert_int_equal(tr_store_put_section(s, TR_SECTION_ROOF, "oak", 3, NULL), TRUENO_OK);
    char text[4000];
    size_t n;
    assert_int_equal(tr_store_to_json(s, text, sizeof text, &n, NULL), TRUENO_OK);
    assert_true(n < sizeof text);
    text[n] = '\0';
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *changed = replaced(text, rows[i].from, rows[i].to);
        struct tr_store_report report = {0};
        struct tr_store *t;
        trueno_status status = tr_store_from_json(ctx, &t, changed, strlen(changed), &report, NULL);
        if (status != rows[i].status) fail_msg("row %zu: %s", i, trueno_status_str(status));
        if (report.bad_machines != rows[i].bad_machines ||
            report.bad_entries != rows[i].bad_entries)
            fail_msg("row %zu: %u and %u dropped", i, report.bad_machines, report.bad_entries);
        tr_store_free(t);
        free(changed);
    }
    char *changed = replaced(text, "\"section\": \"roof\"", "\"section\": \"cellar\"");
    struct tr_store_report report = {0};
    struct tr_store *t;
    assert_int_equal(tr_store_from_json(ctx, &t, changed, strlen(changed), &report, NULL),
                     TRUENO_OK);
    assert_int_equal(report.unknown_sections, 1);
    tr_store_free(t);
    free(changed);
    /* cut anywhere */
    for (size_t i = 1; i < n; i++) {
        const struct image cut = {(uint8_t *)text, i};
        expect(&cut, TRUENO_ERR_FORMAT);
    }
    tr_store_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_refusals),
        cmocka_unit_test(test_json_fields),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
