/* SPDX-License-Identifier: MIT */
/* What shares of votes are worth, and what columns tell, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "tuner/columns.h"
#include "tuner/confidence.h"

static void test_groups(void **state)
{
    struct tr_vote votes[80];
    struct tr_confidence c;
    (void)state;
    /* 16 rows a share, 0.5 to 0.9; right are 9, 10, 6, 14, 16 of them: the first three pool */
    static const int right[] = {9, 10, 6, 14, 16};
    for (int i = 0; i < 80; i++) /* not in order */
        votes[i] = (struct tr_vote){0.5 + 0.1 * (i % 5), i / 5 < right[i % 5]};
    tr_confidence_fit(&c, votes, 80);
    assert_int_equal(c.n, 3);
    assert_true(tr_confidence_of(&c, 0.1) == c.value[0]);
    assert_true(fabs(tr_confidence_of(&c, 0.55) - 26.0 / 50) <= 1e-12); /* 9 + 10 + 6 of 48 */
    assert_true(fabs(tr_confidence_of(&c, 0.75) - 26.0 / 50) <= 1e-12);
    assert_true(fabs(tr_confidence_of(&c, 0.85) - 15.0 / 18) <= 1e-12);
    assert_true(fabs(tr_confidence_of(&c, 1.0) - 17.0 / 18) <= 1e-12);
}

/* Equal shares are one group, however many rows. */
static void test_equal(void **state)
{
    struct tr_vote votes[100];
    struct tr_confidence c;
    (void)state;
    for (int i = 0; i < 100; i++) votes[i] = (struct tr_vote){1, i % 4 != 0};
    tr_confidence_fit(&c, votes, 100);
    assert_int_equal(c.n, 1);
    assert_true(fabs(tr_confidence_of(&c, 1) - 76.0 / 102) <= 1e-12);
}

static void test_few(void **state)
{
    struct tr_vote votes[20];
    struct tr_confidence c;
    (void)state;
    for (int i = 0; i < 20; i++) votes[i] = (struct tr_vote){0.6, false};
    tr_confidence_fit(&c, votes, 19);
    assert_true(tr_confidence_of(&c, 0.6) == 0.6);
    tr_confidence_fit(&c, votes, 20);
    assert_true(fabs(tr_confidence_of(&c, 0.6) - 1.0 / 22) <= 1e-12);
}

static void test_columns(void **state)
{
    static const uint8_t slots[] = {3, 10, 13, 20, 41};
    float x[6][5];
    uint64_t constant, collinear;
    struct tr_row order[6];
    struct tr_columns t = {x[0], 6, 5, slots};
    (void)state;
    for (int i = 0; i < 6; i++) {
        x[i][0] = 0.25F;
        x[i][1] = (float)(i % 3);
        x[i][2] = 1 - 0.001F * (float)(i % 3); /* falls as the one before rises */
        x[i][3] = (float)(i == 1);
        x[i][4] = (float)(i % 3) + (i == 5 ? 2 : 0); /* r = 0.89 with slot 10 */
    }
    tr_columns_look(&constant, &collinear, &t);
    assert_true(constant == UINT64_C(1) << 3);
    assert_true(collinear == UINT64_C(1) << 13);
    /* rows 0 and 3 are equal; 1 and 4 differ in slot 20, 2 and 5 in slot 41 */
    assert_int_equal(tr_columns_distinct(&t, order), 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_equal),
        cmocka_unit_test(test_few),
        cmocka_unit_test(test_columns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
