// SPDX-License-Identifier: GPL-2.0-only
/* Stands in for kernel/program.c: whatever program comes, its machine is set up and the reproducer's cases are run. The
 * observation is two words: expectations, and those that failed. */
#define program_run program_run_of_the_harness
#include "program.c"
#undef program_run

#include S2FUZZ_REPRODUCER

static void run_cases(struct kunit *test)
{
	for (struct kunit_case *one = kunit_suite_under_test->test_cases; one->run_case; one++)
		one->run_case(test);
}

bool program_run(struct reader *reader, bool in_full, u64 stop_before)
{
	struct kunit test = { 0 };

	if (!config_read(reader))
		return false;
	reset();
	observe_begin(in_full);
	op_begin(S2FUZZ_OP_INIT);
	if (op_enter(&op_exit))
		return false;
	run_cases(&test);
	observe_word(test.expectations);
	observe_word(test.failures);
	return true;
}
