// SPDX-License-Identifier: GPL-2.0-only
/* For a hosted object that the kernel's own build made (reference/build/alternatives.py makes the tables; they are empty for
 * objects of ours). Its alternatives are applied by the program's capabilities. Its stores to PTEs, barriers and WARNs
 * are instructions, not calls: the first two were replaced by BRKs, and are recorded and carried out here. */
#define S2FUZZ_HOSTED_SIDE
#include <s2fuzz/machine.h>
#include <s2fuzz/boundary.h>
#include <s2fuzz/cpus.h>
#include "kernel.h"
#undef __builtin_return_address /* 6.1's asm/compiler.h strips pointer authentication with what is not included here */

struct alternative {
	u64 at;
	u32 original, replacement;
	u64 capability;
};

struct site {
	u64 at;
	u64 instruction;
};

struct bug {
	u64 at;
	const char *function;
	u64 flags;
};

extern const struct alternative alternatives_start[], alternatives_end[];
extern const struct site sites_start[], sites_end[];
extern const struct bug bugs_start[], bugs_end[];
extern u8 percpu_start[], percpu_room_end[];

#define BUGFLAG_WARNING 1
#define BUGFLAG_ONCE 2
#define MAX_BUGS 512
static bool once_done[MAX_BUGS];

/* Which recorded instructions ever ran: the host looks at it. */
u8 sites_hit[0x1000];

/* What the kernel's code finds in its task's structure, through SP_EL0: the canary of its stack frames. */
u8 stack_guard[8192] __attribute__((aligned(16)));

noreturn void __stack_chk_fail(void);
noreturn void __stack_chk_fail(void)
{
	panic_at("stack smashed", CALL_SITE);
}

/* Capabilities that are not a program's to choose. */
static bool has_capability(u64 capability)
{
	switch (capability) {
#ifdef ARM64_ALWAYS_BOOT
	case ARM64_ALWAYS_BOOT:
	case ARM64_ALWAYS_SYSTEM:
#endif
	case ARM64_HAS_VIRT_HOST_EXTN: /* the host runs at EL2, so its calls of hyp functions are calls */
	case ARM64_HAS_LSE_ATOMICS: /* one instruction is one event */
		return true;
	default:
		return s2fuzz_has_cap(capability);
	}
}

/* Where 6.1 looks until the alternatives are applied, under its own name for it. */
u64 s2fuzz_cpu_hwcaps[(ARM64_NCAPS + 63) / 64] asm("cpu_hwcaps");

static void fill_cpu_hwcaps(void)
{
	memset(s2fuzz_cpu_hwcaps, 0, sizeof(s2fuzz_cpu_hwcaps));
	for (u64 i = 0; i < ARM64_NCAPS; i++)
		s2fuzz_cpu_hwcaps[i / 64] |= (u64)has_capability(i) << i % 64;
}

static void write_text(u64 at, u32 instruction)
{
	*(volatile u32 *)(at + TEXT_ALIAS) = instruction;
	asm volatile("dc cvau, %0\n\tdsb ish\n\tic ivau, %1\n\tdsb ish\n\tisb" :: "r"(at + TEXT_ALIAS), "r"(at) : "memory");
}

/* While another CPU comes in, the compare-and-exchange that it comes in before is itself again: exceptions have one stack,
 * and it comes in once. */
static struct {
	u64 at;
	u32 brk;
} window;

static void window_close(void)
{
	if (window.at)
		write_text(window.at, window.brk);
	window.at = 0;
}

static void window_open(const struct site *site)
{
	window.at = site->at;
	window.brk = *(volatile u32 *)site->at;
	write_text(site->at, site->instruction);
	s2fuzz_window();
	window_close();
}

/* Before every program. */
void alternatives_reset(void)
{
	static struct s2fuzz_machine applied;
	static bool any;

	if (alternatives_start == alternatives_end)
		return;
	window_close(); /* of a program that came to its end in one */
	memset(once_done, 0, sizeof(once_done));
	if (any && !memcmp(&applied, &s2fuzz_machine, sizeof(applied)))
		return;
	for (const struct alternative *one = alternatives_start; one < alternatives_end; one++) {
		u32 wanted = has_capability(one->capability) ? one->replacement : one->original;

		if (*(volatile u32 *)one->at != wanted)
			write_text(one->at, wanted);
	}
	fill_cpu_hwcaps();
	applied = s2fuzz_machine;
	any = true;
}

static u64 *base_register(u32 instruction, u64 *registers)
{
	return &registers[(instruction >> 5) & 31]; /* 31 is SP, which is what is kept there */
}

static u64 value_of(u32 number, const u64 *registers)
{
	return number == 31 ? 0 : registers[number];
}

static u64 store_offset(u32 store, const u64 *registers)
{
	if ((store & 0xffc00000) == 0xf9000000) /* STR (immediate), unsigned offset */
		return (store >> 10 & 0xfff) * 8;
	if ((store & 0xffe00c00) == 0xf8000000) /* STUR */
		return (u64)((s64)((u64)store << 43) >> 55);
	/* STR (register), LSL */
	return value_of(store >> 16 & 31, registers) << (store >> 12 & 1 ? 3 : 0);
}

/* The instructions are those that reference/build/alternatives.py chooses. */
static void carry_out(const struct site *site, u64 *registers)
{
	u32 instruction = site->instruction;

	if ((instruction & 0xfffff0ff) == 0xd503309f) { /* DSB */
		s2fuzz_record_instruction((u64)event_dsb << 16 | (instruction >> 8 & 15), 0);
	} else if ((instruction & 0xfffff0ff) == 0xd50330df) { /* ISB */
		s2fuzz_record_instruction((u64)event_isb << 16, 0);
	} else if ((instruction & 0xfff8f000) == 0xd5088000) { /* TLBI: op1, CRn, CRm and op2 are its number */
		s2fuzz_record_instruction((u64)event_tlbi << 16 | (instruction >> 5 & 0x3fff),
					  value_of(instruction & 31, registers));
	} else if ((instruction & 0xfffffc00) == 0xc89ffc00) { /* STLR */
		u64 *at = (u64 *)*base_register(instruction, registers);
		u64 value = value_of(instruction & 31, registers);

		s2fuzz_pte_store(at, value, S2FUZZ_STORE_RELEASE);
		__atomic_store_n(at, value, __ATOMIC_RELEASE);
	} else if ((instruction & 0xffa07c00) == 0xc8a07c00) { /* CAS, with or without acquire and release */
		u64 *at = (u64 *)*base_register(instruction, registers);
		u64 value = value_of(instruction & 31, registers);
		u32 compared = instruction >> 16 & 31;
		u64 expected = value_of(compared, registers);

		if ((u8 *)at >= percpu_start && (u8 *)at < percpu_room_end)
			window_open(site);
		else
			s2fuzz_pte_store(at, value, S2FUZZ_STORE_CMPXCHG);
		__atomic_compare_exchange_n(at, &expected, value, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		if (compared != 31)
			registers[compared] = expected;
	} else {
		u64 *at = (u64 *)(*base_register(instruction, registers) + store_offset(instruction, registers));
		u64 value = value_of(instruction & 31, registers);

		s2fuzz_pte_store(at, value, S2FUZZ_STORE_PLAIN);
		*(volatile u64 *)at = value;
	}
}

static enum brk warn_or_bug(u64 pc)
{
	for (const struct bug *bug = bugs_start; bug < bugs_end; bug++) {
		bool *done = &once_done[bug - bugs_start];

		if (bug->at != pc)
			continue;
		if (!(bug->flags & BUGFLAG_WARNING))
			return BRK_BUG;
		if (bug - bugs_start >= MAX_BUGS)
			panic("more WARNs than can be remembered");
		if (!(bug->flags & BUGFLAG_ONCE) || !*done)
			s2fuzz_warn(bug->function, (const void *)pc);
		*done = true;
		return BRK_CARRIED_OUT;
	}
	return BRK_UNKNOWN;
}

/* A BRK at `pc`, with the registers of then (and SP behind them), which it may change. */
enum brk alternatives_brk(u64 immediate, u64 pc, u64 *registers)
{
	const struct site *site = sites_start + (immediate - SITE_BRK);

	if (immediate == BUG_BRK)
		return warn_or_bug(pc);
	/* Each object counts its own: that of a second one is found by its place. */
	if (immediate < SITE_BRK || site >= sites_end || site->at != pc)
		for (site = sites_start; site < sites_end && site->at != pc; site++)
			;
	if (site == sites_end)
		return BRK_UNKNOWN;
	sites_hit[site - sites_start] = 1;
	carry_out(site, registers);
	return BRK_CARRIED_OUT;
}
