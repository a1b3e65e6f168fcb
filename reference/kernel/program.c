// SPDX-License-Identifier: GPL-2.0-only
/* Runs a program, from a machine that remembers nothing of the last one to what its observation says of the end. */
#define S2FUZZ_HOSTED_SIDE
#include "ops/ops.h"
#include <s2fuzz/machine.h>
#include "context.h"
#include "guest.h"
#include "memslots.h"
#include "vcpus.h"
#include "vmids.h"

static s64 carry_out(u64 number, const u64 *args)
{
	switch (number) {
#define CASE(number, name, count, stages) case number: return op_##name((const void *)args);
	S2FUZZ_OPS_HERE(CASE)
	}
	return -ENOSYS;
}

/* What an op makes is counted before anything else can fail; with a handle that is not live, it is not entered. */
static s64 run_op(u64 number, const u64 *args)
{
#define MAKE(op, kind)								\
	if (number == op && !handle_begin(HANDLE_##kind)) /* in the shell */	\
		return -ENFILE;
	S2FUZZ_HANDLE_MAKERS(MAKE)
#define USE(op, index, kind)							\
	if (number == op && !handle_is_live(HANDLE_##kind, args[index]))	\
		return -EBADF;
	S2FUZZ_HANDLE_USERS(USE)
	return carry_out(number, args);
}

bool table_has(u64 number)
{
	switch (number) {
#define HAS(number, name, count, stages) case number:
	S2FUZZ_OPS_HERE(HAS)
		return true;
	}
	return false;
}

static bool read_args(struct reader *reader, u64 number, u64 *args)
{
	u64 expected, allowed;

	switch (number) {
#define COUNT(number, name, count, stages) case number: expected = count; allowed = stages; break;
	S2FUZZ_OPS_HERE(COUNT)
	default:
		return false;
	}
	if (!(allowed & BIT(config.stage)))
		return false;
	for (u64 i = 0; i < expected; i++)
		args[i] = read_scaled(reader);
	return !reader->bad;
}

/* Runs one op. False: the program ends here, for its budget is spent or there is no table to work on. */
static bool observe_op(u64 number, const u64 *args)
{
	s64 ret;

	op_begin(number);
	empty_cache_allocates = false; /* the last op may have been left inside a handler, in the shell */
	if (op_enter(&op_exit)) {
		op_end(true, 0);
		return false;
	}
	ret = run_op(number, args);
	services_op_ends();
	op_end(false, ret);
	return number != S2FUZZ_OP_INIT || !ret;
}

static void observe_root(struct root root, u64 holders)
{
	observe_word(root.pa);
	observe_word(root.pages);
	observe_word(root.level);
	observe_word(root.ia_bits);
	observe_word(holders);
}

static void observe_holder(enum holder holder, u64 number)
{
	observe_word(holder);
	observe_word(number);
}

/* The first of the MMUs that share a table. */
static struct under_test *first_sharer(const struct under_test *mmu)
{
	struct under_test *first = NULL;

	do
		first = mmu_next(first);
	while (first->table != mmu->table);
	return first;
}

static u64 count_mmu_roots(void)
{
	struct under_test *mmu = NULL;
	struct root root;
	u64 count = 0;

	while ((mmu = mmu_next(mmu)))
		count += first_sharer(mmu) == mmu && root_of(mmu, &root);
	return count;
}

/* Each tree once, with all the MMUs that have it. */
static void observe_mmu_roots(void)
{
	struct under_test *mmu = NULL, *sharer;
	struct root root;

	while ((mmu = mmu_next(mmu))) {
		if (first_sharer(mmu) != mmu || !root_of(mmu, &root))
			continue;
		observe_root(root, mmu->table->sharers);
		for (sharer = mmu; sharer; sharer = mmu_next(sharer))
			if (sharer->table == mmu->table)
				observe_holder(HOLDER_UNDER_TEST, sharer->number);
	}
}

static void observe_roots(void)
{
	u64 number = NO_HANDLE;

	observe_word(count_mmu_roots() + handles_live(HANDLE_UNLINKED_TABLE));
	observe_mmu_roots();
	while (handle_next_live(HANDLE_UNLINKED_TABLE, &number)) {
		observe_root(unlinked_root(number), 1);
		observe_holder(HOLDER_UNLINKED_TABLE, number);
	}
}

static void observe_cache(enum cache kind, u64 number, const struct kvm_mmu_memory_cache *cache)
{
	observe_word(kind);
	observe_word(number);
	observe_word(cache->nobjs);
	for (int i = 0; i < cache->nobjs; i++)
		observe_word(pool_to_phys(cache->objects[i]));
}

static void observe_caches(void)
{
	struct under_test *mmu = NULL;
	u64 mmus = 0;

	while ((mmu = mmu_next(mmu)))
		mmus++;
	observe_word(1 + mmus);
	observe_cache(CACHE_MEMCACHE, 0, &memcache);
	while ((mmu = mmu_next(mmu)))
		observe_cache(CACHE_SPLIT_CACHE, mmu->number, split_cache_of(mmu));
}

static void observe_pages(void)
{
	struct pool_page page = { .index = NO_PAGE };
	bool stays = !handles_any_live(); /* what still lives is ended next, and its pages with it */

	observe_word(pool_in_use());
	while (pool_next_used(&page)) {
		observe_word(page.pa);
		observe_word(page.refcount);
		observe_word(page.table);
		if (stays)
			observe_in_place(page.words, WORDS_PER_PAGE);
		else
			observe_words(page.words, WORDS_PER_PAGE);
	}
}

static void observe_state(void)
{
	observe_word(0);
	pool_check_poison();
	observe_complaints();
	observe_roots();
	observe_word(pool_allocs());
	observe_word(pool_frees());
	observe_caches();
	observe_pages();
}

/* The program is over: what still lives is ended, under a budget of its own, and nothing of that is kept. */
static void end_handles(void)
{
	observe_no_more();
	budget_reset(config.budget);
	op_begin(0);
	if (!op_enter(&op_exit))
		handles_end_all();
}

/* Nothing survives a program: hosted data, ours, capabilities and the pool start afresh. */
static void reset(void)
{
	guest_end();
	hosted_restore();
	cpus_reset(config.cpus);
	vmids_reset();
	vcpus_reset();
	under_test_reset(config.vmid);
	memslots_reset();
	context = (struct context){ config.kvm_mode, config.vcpu, config.vmid, vmid_bits() };
	context_enter();
	handles_reset();
#define TELL(name) s2fuzz_machine.name = config.name;
	S2FUZZ_MACHINE(TELL)
	alternatives_reset();
	pool_reset(config.pool_base, config.pool_pages);
	budget_reset(config.budget);
	services_reset();
	boundary_reset(config.cmos == cmos_both || config.cmos == cmos_dcache,
		       config.cmos == cmos_both || config.cmos == cmos_icache, config.page_count || !is_hyp());
	faults_reset();
}

/* `s2fuzz debug` stops here: gdb sets the variable to go on. */
volatile u64 debugger_released;

static noinline void wait_for_debugger(void)
{
	while (!debugger_released)
		asm volatile("yield" ::: "memory");
	debugger_released = 0;
}

bool program_run(struct reader *reader, bool in_full, u64 stop_before)
{
	u64 args[S2FUZZ_MAX_ARGS], number = S2FUZZ_OP_INIT;

	if (!config_read(reader))
		return false;
	reset();
	observe_begin(in_full);
	for (u64 record = 0;; record++) {
		if (record == stop_before)
			wait_for_debugger();
		if (!observe_op(number, args) || reader->at == reader->end)
			break;
		number = read_varint(reader);
		if (!read_args(reader, number, args))
			return false;
	}
	observe_state();
	end_handles();
	return true;
}

void table_reset(const u64 *knobs)
{
	memcpy(&config, knobs, sizeof(config));
	reset();
}

bool table_op(u64 number, const u64 *args)
{
	budget_reset(config.budget);
	return observe_op(number, args);
}

u64 table_stage(void)
{
	return config.stage;
}

void table_observe(void)
{
	observe_state();
}
