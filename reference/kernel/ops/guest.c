// SPDX-License-Identifier: GPL-2.0-only
/* What a guest's hardware makes of the table: the hardware asks, and makes accesses, by guest.c. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"
#include <s2fuzz/machine.h>
#include "../context.h"
#include "../guest.h"

#define CODE_OR_DATA(ipa) ((ipa) & ~(GUEST_PIECE - 1))

#define ACCESS(name, number) static_assert(ACCESS_##name == (number), "as programs have it");
S2FUZZ_ACCESSES(ACCESS)

#define VTCR_PS(vtcr) ((vtcr) >> 16 & 7)
#define VTCR_HA (1ul << 21)
#define VTCR_HD (1ul << 22)

/* The one place that decides whether the hardware can walk the table under test: where it lies as its entries say, by
 * registers that the architecture defines. */
static bool walkable(struct regime *regime, struct guest_registers *registers)
{
	struct root root;
	u64 vmids = config.vmid_bits ? 0xffff : 0xff;

	if (config.pool_base != POOL_MEMORY || is_hyp() || !under_test_root(&root))
		return false;
	*registers = (struct guest_registers){
		.vttbr = root.pa | (config.vmid & vmids) << 48,
		.vtcr = *vtcr_of(&under_test.mmu) & ~VTCR_HD & ~(config.ha ? 0 : VTCR_HA),
		.forces_write_back = config.fwb && !config.nofwb,
	};
	return regime_of_vtcr(regime, registers->vtcr, root.pa);
}

/* After what the hardware did by itself: an entry that it has marked as accessed. False: it has not. */
static bool record_access_flag(const struct walk *walk)
{
	u64 entry;

	if (!walk->is_young)
		return false;
	entry = walk_entry(walk);
	if (entry == walk->entry)
		return false;
	op_event(event_walker_af, walk->entry_pa, entry);
	return true;
}

s64 op_probe(const struct args_probe *args)
{
	struct guest_registers registers;
	struct regime regime;
	struct walk before;

	if (!walkable(&regime, &registers))
		return -ENODEV;
	before = walk(&regime, args->ipa, ACCESS_READ);
	if (before.end == WALK_OUTSIDE)
		return -ENXIO;
	guest_look(&registers);
	op_out(guest_translate(args->ipa, false));
	op_out(guest_translate(args->ipa, true));
	record_access_flag(&before);
	return 0;
}

/* An emulator may see memory where the architecture sees a fault: behind a block of a level that has none, or an address that
 * is too large. Before it is let there, it is asked. */
static bool leads_elsewhere(const struct walk *walk, u64 address, u64 from, u64 size)
{
	u64 par;

	if (walk->end == WALK_PA)
		return walk->pa - from >= size;
	if (walk->end != WALK_ADDRESS_SIZE && walk->end != WALK_TRANSLATION)
		return false;
	par = guest_translate(address, false);
	if (par & PAR_FAULT)
		par = guest_translate(address, true);
	return !(par & PAR_FAULT) && PAR_PA(par) - from >= size;
}

/* The op's outs, unless it is -ENODEV or -ENXIO. */
static s64 make_access(enum access access, u64 ipa, u64 value, struct outcome *outcome)
{
	u64 address = CODE_OR_DATA(ipa) + (access == ACCESS_EXEC ? 0 : GUEST_DATA);
	struct guest_registers registers;
	struct walk stub, target;
	struct regime regime;

	if (!config.guest || !walkable(&regime, &registers))
		return -ENODEV;
	stub = walk(&regime, GUEST_STUB, ACCESS_EXEC);
	target = walk(&regime, address, access);
	if (stub.end == WALK_OUTSIDE || target.end == WALK_OUTSIDE)
		return -ENXIO;
	guest_look(&registers);
	if (leads_elsewhere(&stub, GUEST_STUB, GUEST_STUB, GUEST_PIECE) ||
	    leads_elsewhere(&target, address, GUEST_WINDOW, GUEST_WINDOW_SIZE))
		return -ENXIO;
	*outcome = guest_access(access, address, value, &stub, &target);
	if (!record_access_flag(&stub) || target.entry_pa != stub.entry_pa)
		record_access_flag(&target);
	op_out(outcome->esr);
	op_out(outcome->hpfar);
	op_out(outcome->value);
	return outcome->esr ? -EFAULT : 0;
}

s64 op_read(const struct args_read *args)
{
	struct outcome outcome;

	return make_access(ACCESS_READ, args->ipa, 0, &outcome);
}

s64 op_write(const struct args_write *args)
{
	struct outcome outcome;

	return make_access(ACCESS_WRITE, args->ipa, args->value, &outcome);
}

s64 op_exec(const struct args_exec *args)
{
	struct outcome outcome;

	return make_access(ACCESS_EXEC, args->ipa, 0, &outcome);
}

/* A write of it leaves the word 0. */
s64 op_fault(const struct args_fault *args)
{
	struct outcome outcome;
	s64 ret = make_access(args->access, args->ipa, 0, &outcome);

	under_test.has_aborted = ret == -EFAULT && outcome.by_stage2;
	if (under_test.has_aborted)
		under_test.abort = (struct abort){ outcome.esr, CODE_OR_DATA(outcome.address) };
	return ret;
}

s64 op_handle(const struct args_handle *args)
{
	return -ENOENT;
}
