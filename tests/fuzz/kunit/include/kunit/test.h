/* SPDX-License-Identifier: GPL-2.0-only */
/* As much of KUnit as a reproducer uses: expectations are counted, and so are those that fail. */
#ifndef S2FUZZ_TEST_KUNIT_H
#define S2FUZZ_TEST_KUNIT_H

#include <linux/types.h>

struct kunit {
	u64 expectations, failures;
};

struct kunit_case {
	void (*run_case)(struct kunit *test);
	const char *name;
};

struct kunit_suite {
	const char name[256];
	struct kunit_case *test_cases;
};

#define KUNIT_CASE(test_name) { .run_case = test_name, .name = #test_name }

#define KUNIT_EXPECT(test, left, op, right) do {	\
	__typeof__(left) __left = (left);		\
	__typeof__(right) __right = (right);		\
	(test)->expectations++;				\
	(test)->failures += !(__left op __right);	\
} while (0)

#define KUNIT_EXPECT_EQ(test, left, right) KUNIT_EXPECT(test, left, ==, right)
#define KUNIT_EXPECT_GT(test, left, right) KUNIT_EXPECT(test, left, >, right)

#define kunit_test_suite(suite) struct kunit_suite *kunit_suite_under_test = &(suite)

#endif
