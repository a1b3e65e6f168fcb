// SPDX-License-Identifier: GPL-2.0-only
/* Our own walk of the table under test, by the Arm ARM (DDI 0487): what an access may do is known before the hardware makes
 * it, and what the hardware finds afresh is known from what a TLB still held. It shares nothing with the hosted files. */
#include "walker.h"

#define BITS(value, high, low) (((value) >> (low)) & ((2ul << ((high) - (low))) - 1))
#define MASK(high, low) (((2ul << ((high) - (low))) - 1) << (low))
#define LAST_LEVEL 3

#define DESC_VALID 1ul
#define DESC_TABLE 2ul /* at level 3: a page */
#define DESC_AF (1ul << 10)
#define S2AP_READ (1ul << 6)
#define S2AP_WRITE (1ul << 7)
#define XN(descriptor) BITS(descriptor, 54, 53) /* FEAT_XNX */
#define XN_NEVER_AT_EL1(xn) ((xn) == 1 || (xn) == 2)

/* VTCR_EL2 */
#define VTCR_T0SZ(vtcr) BITS(vtcr, 5, 0)
#define VTCR_SL0(vtcr) BITS(vtcr, 7, 6)
#define VTCR_TG0(vtcr) BITS(vtcr, 15, 14)
#define VTCR_PS(vtcr) BITS(vtcr, 18, 16)
#define VTCR_HA (1ul << 21)
#define VTCR_DS (1ul << 32)
#define VTCR_SL2 (1ul << 33)

#define MOST_CONCATENATED 4 /* bits of address: 16 tables at the start level */

static const u64 page_shifts[] = { 12, 16, 14 }; /* by TG0 */
static const u64 address_bits[] = { 32, 36, 40, 42, 44, 48, 52 }; /* by PS */

static u64 stride(const struct regime *regime)
{
	return regime->page_shift - 3;
}

/* How many bits of address an entry of that level covers. */
static u64 level_shift(const struct regime *regime, s64 level)
{
	return regime->page_shift + stride(regime) * (LAST_LEVEL - level);
}

static bool has_52_bits(const struct regime *regime)
{
	return regime->ds || regime->page_shift == 16;
}

static bool set_sizes(struct regime *regime, u64 input_bits, u64 parange)
{
	if (parange >= sizeof(address_bits) / sizeof(*address_bits) || (parange == 6 && !has_52_bits(regime)))
		return false;
	regime->input_bits = input_bits;
	regime->output_bits = address_bits[parange];
	return input_bits <= (has_52_bits(regime) ? 52 : 48) && (regime->stage1 || input_bits <= regime->output_bits);
}

/* The start level that SL0 and SL2 say; below -1 where they say none. One of 0 with 16K pages, which 52 bits of address take,
 * is not looked at: QEMU 7.2 refuses it. */
static s64 start_level(const struct regime *regime, u64 vtcr)
{
	s64 sl0 = VTCR_SL0(vtcr);

	if (regime->page_shift != 12)
		return sl0 == 3 ? -2 : 3 - sl0;
	if (regime->ds && vtcr & VTCR_SL2)
		return sl0 ? -2 : -1;
	return sl0 == 3 ? LAST_LEVEL : 2 - sl0;
}

bool regime_of_vtcr(struct regime *regime, u64 vtcr, u64 root)
{
	u64 levels, least;

	*regime = (struct regime){ .root = root, .sets_access_flag = vtcr & VTCR_HA, .ds = vtcr & VTCR_DS };
	if (VTCR_TG0(vtcr) == 3)
		return false;
	regime->page_shift = page_shifts[VTCR_TG0(vtcr)];
	if (regime->page_shift != S2FUZZ_PAGE_SHIFT || (regime->ds && regime->page_shift == 16))
		return false;
	regime->start_level = start_level(regime, vtcr);
	if (regime->start_level < -1 || !set_sizes(regime, 64 - VTCR_T0SZ(vtcr), VTCR_PS(vtcr)))
		return false;
	/* The start level must resolve at least one bit, and at most as many as 16 tables have entries. */
	levels = LAST_LEVEL - regime->start_level;
	least = levels * stride(regime) + regime->page_shift + 1;
	return regime->input_bits >= least &&
	       regime->input_bits <= least + stride(regime) - 1 + MOST_CONCATENATED;
}

/* FEAT_TTST lets T0SZ be up to 48, or 47 with 64K pages. */
bool regime_of_hyp(struct regime *regime, u64 va_bits, u64 parange, bool ds, u64 root)
{
	*regime = (struct regime){ .root = root, .page_shift = S2FUZZ_PAGE_SHIFT, .ds = ds, .stage1 = true };
	regime->start_level = LAST_LEVEL + 1 - ((s64)va_bits - 4) / (s64)stride(regime);
	return va_bits >= (S2FUZZ_PAGE_SHIFT == 16 ? 17 : 16) && set_sizes(regime, va_bits, parange);
}

static u64 output_address(const struct regime *regime, u64 descriptor)
{
	u64 page_mask = ~((1ul << regime->page_shift) - 1);

	if (regime->ds)
		return (descriptor & MASK(49, 0) & page_mask) | BITS(descriptor, 9, 8) << 50;
	if (regime->page_shift == 16)
		return (descriptor & MASK(47, 0) & page_mask) | BITS(descriptor, 15, 12) << 48;
	return descriptor & MASK(47, 0) & page_mask;
}

static bool may_be_block(const struct regime *regime, s64 level)
{
	s64 highest = regime->page_shift == 12 ? 1 : 2;

	return level >= highest - has_52_bits(regime);
}

static bool permits(u64 descriptor, enum access access)
{
	switch (access) {
	case ACCESS_READ:
		return descriptor & S2AP_READ;
	case ACCESS_WRITE:
		return descriptor & S2AP_WRITE;
	default:
		return !XN_NEVER_AT_EL1(XN(descriptor));
	}
}

/* At an entry that translates. */
static void end_at_leaf(const struct regime *regime, struct walk *walk, s64 level, u64 address, enum access access)
{
	u64 offset = (1ul << level_shift(regime, level)) - 1;

	walk->pa = (output_address(regime, walk->entry) & ~offset) | (address & offset);
	if (walk->pa >> regime->output_bits) {
		walk->end = WALK_ADDRESS_SIZE;
		return;
	}
	walk->is_young = !(walk->entry & DESC_AF);
	if (walk->is_young && !regime->sets_access_flag)
		walk->end = WALK_ACCESS_FLAG;
	else
		walk->end = permits(walk->entry, access) ? WALK_PA : WALK_PERMISSION;
}

u64 walk_entry(const struct walk *walk)
{
	return *(const volatile u64 *)pool_to_virt(walk->entry_pa);
}

void walk_restore(const struct walk *walk)
{
	if (walk->is_young)
		*(volatile u64 *)pool_to_virt(walk->entry_pa) = walk->entry;
}

struct walk walk(const struct regime *regime, u64 address, enum access access)
{
	struct walk walk = { .end = WALK_TRANSLATION };
	u64 table = regime->root, index;

	if (address >> regime->input_bits)
		return walk;
	index = address >> level_shift(regime, regime->start_level); /* beyond one table where several stand in a row */
	for (s64 level = regime->start_level;; level++) {
		bool is_table;

		walk.entry_pa = table + 8 * index;
		if (!pool_has(walk.entry_pa)) {
			walk.end = WALK_OUTSIDE;
			return walk;
		}
		walk.entry = walk_entry(&walk);
		is_table = level < LAST_LEVEL && walk.entry & DESC_TABLE;
		if (!(walk.entry & DESC_VALID) || (level == LAST_LEVEL && !(walk.entry & DESC_TABLE)) ||
		    (level < LAST_LEVEL && !is_table && !may_be_block(regime, level)))
			return walk;
		if (!is_table) {
			end_at_leaf(regime, &walk, level, address, access);
			return walk;
		}
		table = output_address(regime, walk.entry);
		if (table >> regime->output_bits) {
			walk.end = WALK_ADDRESS_SIZE;
			return walk;
		}
		index = BITS(address, level_shift(regime, level) - 1, level_shift(regime, level + 1));
	}
}
