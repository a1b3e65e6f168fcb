// SPDX-License-Identifier: GPL-2.0-only
/* EL2's own stage 1: identity, 4K pages, 39 bits of address, only what is used. Text is read-only and the rest not
 * executable, so that a wild access of a hosted file is an abort, not silence. */
#include "kernel.h"

#define DESC_VALID_TABLE 3ul
#define DESC_PAGE 3ul
#define DESC_BLOCK 1ul
#define BLOCK_SIZE (2ul << 20)
#define DESC_AF (1ul << 10)
#define DESC_INNER_SHAREABLE (3ul << 8)
#define DESC_READ_ONLY (1ul << 7)
#define DESC_AP1 (1ul << 6) /* RES1 in a translation regime with one privilege level */
#define DESC_XN (1ul << 54)
#define DESC_DEVICE (1ul << 2) /* MAIR index 1; index 0 is Normal */

#define NORMAL (DESC_AF | DESC_INNER_SHAREABLE | DESC_AP1)
#define PERM_TEXT (NORMAL | DESC_READ_ONLY)
#define PERM_RODATA (NORMAL | DESC_READ_ONLY | DESC_XN)
#define PERM_DATA (NORMAL | DESC_XN)
#define PERM_DEVICE (DESC_AF | DESC_AP1 | DESC_XN | DESC_DEVICE)

#define MAIR 0x00fful /* 0: Normal write-back; 1: Device-nGnRnE */
#define TCR_T0SZ_39_BITS 25ul
#define TCR_RGN_WRITE_BACK ((1ul << 8) | (1ul << 10))
#define TCR_SHARED_INNER (3ul << 12)
#define TCR_PS_40_BITS (2ul << 16)
#define TCR_RES1 ((1ul << 31) | (1ul << 23))
#define SCTLR_M_C_I ((1ul << 0) | (1ul << 2) | (1ul << 12))
#define SCTLR_A (1ul << 1)
#define SCTLR_SA (1ul << 3)
#define SCTLR_WXN (1ul << 19)
#define SCTLR_RES1 0x30c50830ul

extern char text_start[], text_end[], rodata_start[], rodata_end[], data_start[], data_end[];
extern char alternatives_start[], alternatives_end[];
extern char stack_start[], stack_end[], emergency_stack_start[], emergency_stack_end[];

#define TABLES 64
static u64 tables[TABLES][512] __attribute__((aligned(4096)));
static int tables_used = 1; /* tables[0] is the root */

static u64 *next_level(u64 *entry)
{
	if (!*entry) {
		if (tables_used == TABLES)
			for (;;)
				; /* too early to say anything: the host sees that no greeting comes */
		*entry = (u64)tables[tables_used++] | DESC_VALID_TABLE;
	}
	return (u64 *)(*entry & ~0xffful);
}

static void map_above(u64 offset, u64 start, u64 end, u64 permissions)
{
	for (u64 at = start; at < end; at += 4096) {
		u64 *level2 = next_level(&tables[0][((at + offset) >> 30) & 511]);
		u64 *level3 = next_level(&level2[((at + offset) >> 21) & 511]);

		level3[(at >> 12) & 511] = at | permissions | DESC_PAGE;
	}
}

static void map(u64 start, u64 end, u64 permissions)
{
	map_above(0, start, end, permissions);
}

/* Of whole blocks, which take a thousandth of the tables. */
static void map_blocks(u64 start, u64 size, u64 permissions)
{
	for (u64 at = start; at < start + size; at += BLOCK_SIZE)
		next_level(&tables[0][(at >> 30) & 511])[(at >> 21) & 511] = at | permissions | DESC_BLOCK;
}

void mmu_enable(void)
{
	bool patched = alternatives_start != alternatives_end;
	/* The kernel's own build makes unaligned accesses; ours does not, so one is a mistake. */
	u64 alignment = patched ? 0 : SCTLR_A;

	map((u64)text_start, (u64)text_end, PERM_TEXT);
	if (patched)
		map_above(TEXT_ALIAS, (u64)text_start, (u64)text_end, PERM_DATA);
	map((u64)rodata_start, (u64)rodata_end, PERM_RODATA);
	map((u64)data_start, (u64)data_end, PERM_DATA);
	map((u64)stack_start, (u64)stack_end, PERM_DATA);
	map((u64)emergency_stack_start, (u64)emergency_stack_end, PERM_DATA);
	map_blocks(MAILBOX_REQUEST, MAILBOX_REQUEST_SIZE, PERM_DATA);
	map_blocks(MAILBOX_REPLY, MAILBOX_REPLY_SIZE, PERM_DATA);
	map_blocks(EVENT_MEMORY, EVENT_MEMORY_SIZE, PERM_DATA);
	map_blocks(OUT_MEMORY, OUT_MEMORY_SIZE, PERM_DATA);
	map_blocks(GUEST_WINDOW, GUEST_WINDOW_SIZE, PERM_DATA);
	map(GUEST_STUB, GUEST_STUB + GUEST_STUB_SIZE, PERM_DATA);
	map(0x08000000, 0x08001000, PERM_DEVICE); /* GIC distributor */
	map(0x08010000, 0x08011000, PERM_DEVICE); /* GIC CPU interface */
	map(0x09000000, 0x09001000, PERM_DEVICE); /* PL011 */

	asm volatile("msr mair_el2, %0\n\t"
		     "msr tcr_el2, %1\n\t"
		     "msr ttbr0_el2, %2\n\t"
		     "dsb ish\n\t"
		     "tlbi alle2\n\t"
		     "dsb ish\n\t"
		     "isb\n\t"
		     "msr sctlr_el2, %3\n\t"
		     "isb"
		     :
		     : "r"(MAIR),
		       "r"(TCR_T0SZ_39_BITS | TCR_RGN_WRITE_BACK | TCR_SHARED_INNER | TCR_PS_40_BITS | TCR_RES1),
		       "r"(tables[0]), "r"(SCTLR_RES1 | SCTLR_M_C_I | alignment | SCTLR_SA | SCTLR_WXN)
		     : "memory");
}

/* Maps just the first `pages` pages of the pool: an access beyond what the program's machine has is an abort. */
void pool_window(u64 pages)
{
	static u64 mapped = POOL_MEMORY;
	u64 end = POOL_MEMORY + pages * POOL_PAGE_SIZE;
	u64 stop = end > mapped ? end : mapped;

	for (u64 at = end < mapped ? end : mapped; at < stop; at += 4096) {
		u64 *level2 = next_level(&tables[0][(at >> 30) & 511]);
		u64 *level3 = next_level(&level2[(at >> 21) & 511]);

		level3[(at >> 12) & 511] = at < end ? at | PERM_DATA | DESC_PAGE : 0;
	}
	mapped = end;
	asm volatile("dsb ishst\n\ttlbi alle2\n\tdsb ish\n\tisb" ::: "memory");
}
