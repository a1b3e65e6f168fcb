// SPDX-License-Identifier: GPL-2.0-only
/* What a guest's hardware makes of the table: the hardware asks, and makes accesses, by guest.c. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"
#include <s2fuzz/machine.h>
#include "../abort_handler.h"
#include "../context.h"
#include "../guest.h"
#include "../vcpus.h"

#define CODE_OR_DATA(ipa) ((ipa) & ~(GUEST_PIECE - 1))

#define ACCESS(name, number) static_assert(ACCESS_##name == (number), "as programs have it");
S2FUZZ_ACCESSES(ACCESS)

#define NO_VCPU (~0ul)

#define VTCR_HA (1ul << 21)
#define VTCR_HD (1ul << 22)

/* TCR_EL2, which has another form with HCR_EL2.E2H: that of TCR_EL1, here with EPD1. */
#define HYP_TCR_WRITE_BACK_INNER_SHAREABLE (1ul << 8 | 1ul << 10 | 3ul << 12)
#define HYP_TCR_TG0 ((PAGE_SHIFT == 12 ? 0ul : PAGE_SHIFT == 14 ? 2ul : 1ul) << 14)
#define HYP_TCR_RES1 (1ul << 31 | 1ul << 23)
#define HYP_TCR_DS (1ul << 32)
#define HYP_TCR_E2H_TG1 ((PAGE_SHIFT == 12 ? 2ul : PAGE_SHIFT == 14 ? 1ul : 3ul) << 30)
#define HYP_TCR_E2H_EPD1 (1ul << 23)
#define HYP_TCR_E2H_DS (1ul << 59)
#define HYP_HCR_E2H (1ul << 34)
#define HYP_MAIR 0x040044fffful /* of MT_DEVICE_nGnRE, MT_DEVICE_nGnRnE, MT_NORMAL_NC, MT_NORMAL_TAGGED, MT_NORMAL */
#define HYP_SCTLR 0x30c51835ul

/* Whether there is a table under test, and where its entries say. */
static bool lies_as_it_says(struct root *root)
{
	return config.pool_base == POOL_MEMORY && under_test_root(root);
}

/* The one place that decides whether the hardware can walk a stage 2: where it lies as its entries say, by registers that
 * the architecture defines. */
static bool walkable(struct regime *regime, struct guest_registers *registers)
{
	u64 vmids = GENMASK(vmid_bits() - 1, 0);
	struct root root;

	if (is_hyp() || !lies_as_it_says(&root))
		return false;
	*registers = (struct guest_registers){
		.vttbr = root.pa | (under_test->vmid & vmids) << 48,
		.vtcr = *vtcr_of(&under_test->mmu) & ~VTCR_HD & ~(config.ha ? 0 : VTCR_HA),
		.forces_write_back = config.fwb && !config.nofwb,
	};
	return regime_of_vtcr(regime, registers->vtcr, root.pa);
}

bool guest_runs(void)
{
	struct guest_registers registers;
	struct regime regime;

	return config.guest && walkable(&regime, &registers);
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

static u64 hyp_tcr(u64 va_bits, u64 parange)
{
	u64 size = 64 - va_bits, common = HYP_TCR_WRITE_BACK_INNER_SHAREABLE | HYP_TCR_TG0 | size;

	if (config.hvhe)
		return common | HYP_TCR_E2H_TG1 | HYP_TCR_E2H_EPD1 | size << 16 | parange << 32 |
		       (config.lpa2 ? HYP_TCR_E2H_DS : 0);
	return common | HYP_TCR_RES1 | parange << 16 | (config.lpa2 ? HYP_TCR_DS : 0);
}

/* The same of hyp's stage 1. Registers are as Linux has them at EL2; that AT S1E2R heeds HCR_EL2.E2H, a test shows
 * (tests/reference/test_at_e2h.py). */
static bool walkable_hyp(struct regime *regime, struct hyp_registers *registers)
{
	u64 most = PAGE_SHIFT == 16 ? config.pa_bits_52 : config.lpa2;
	u64 parange = config.parange == 6 && !most ? 5 : config.parange;
	struct root root;

	if ((config.lpa2 && PAGE_SHIFT == 16) || !lies_as_it_says(&root))
		return false;
	*registers = (struct hyp_registers){
		.ttbr0 = root.pa,
		.tcr = hyp_tcr(root.ia_bits, parange),
		.mair = HYP_MAIR,
		.sctlr = HYP_SCTLR,
		.hcr = config.hvhe ? HYP_HCR_E2H : 0,
	};
	return regime_of_hyp(regime, root.ia_bits, parange, config.lpa2, root.pa);
}

static s64 probe_hyp(u64 va)
{
	struct hyp_registers registers;
	struct regime regime;
	u64 read, write;

	if (!walkable_hyp(&regime, &registers))
		return -ENODEV;
	if (walk(&regime, va, ACCESS_READ).end == WALK_OUTSIDE)
		return -ENXIO;
	if (!hyp_translate(&registers, va, false, &read) || !hyp_translate(&registers, va, true, &write))
		return -ENODEV;
	op_out(read);
	op_out(write);
	return 0;
}

s64 op_probe(const struct args_probe *args)
{
	struct guest_registers registers;
	struct regime regime;
	struct walk before;

	if (is_hyp())
		return probe_hyp(args->ipa);
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
 * is too large. So it is asked first, and is let there only if it sees the same fault: AT knows nothing of instructions. */
static bool sees_more(const struct walk *walk, u64 address)
{
	u64 par, status = walk->end == WALK_TRANSLATION ? PAR_STATUS_TRANSLATION : PAR_STATUS_ADDRESS_SIZE;

	if ((walk->end != WALK_TRANSLATION && walk->end != WALK_ADDRESS_SIZE) || !(walk->entry & 1))
		return false;
	par = guest_translate(address, false);
	return !(par & PAR_FAULT) || PAR_STATUS_CLASS(par) != status;
}

/* Whether an access would, or might, reach other memory than that. */
static bool leads_elsewhere(const struct walk *walk, u64 address, u64 from, u64 size)
{
	return walk->end == WALK_PA ? walk->pa - from >= size : sees_more(walk, address);
}

/* The op's outs, unless it is -ENODEV or -ENXIO. `vcpu` has a stage 1, unless it is NO_VCPU. */
static s64 make_access(enum access access, u64 ipa, u64 value, u64 vcpu, struct outcome *outcome)
{
	u64 address = CODE_OR_DATA(ipa) + (access == ACCESS_EXEC ? 0 : GUEST_DATA), seen_at = address;
	struct guest_registers registers;
	struct walk stub, target;
	struct regime regime;

	if (!config.guest || !walkable(&regime, &registers))
		return -ENODEV;
	stub = walk(&regime, GUEST_STUB, ACCESS_EXEC);
	target = walk(&regime, address, access);
	if (stub.end == WALK_OUTSIDE || target.end == WALK_OUTSIDE)
		return -ENXIO;
	if (vcpu != NO_VCPU) {
		struct walk table = walk(&regime, GUEST_STUB, ACCESS_READ); /* by whoever walks stage 1, before all else */

		registers.has_stage1 = true;
		registers.vcpu = vcpu;
		seen_at ^= vcpu << 30;
		if (table.end != WALK_PA)
			stub = table;
		else if (table.pa - GUEST_STUB >= GUEST_PIECE)
			return -ENXIO;
	}
	guest_look(&registers);
	if (leads_elsewhere(&stub, guest_code(), GUEST_STUB, GUEST_PIECE) ||
	    leads_elsewhere(&target, seen_at, GUEST_WINDOW, GUEST_WINDOW_SIZE))
		return -ENXIO;
	*outcome = guest_access(access, seen_at, value, &stub, &target);
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

	return make_access(ACCESS_READ, args->ipa, 0, NO_VCPU, &outcome);
}

s64 op_write(const struct args_write *args)
{
	struct outcome outcome;

	return make_access(ACCESS_WRITE, args->ipa, args->value, NO_VCPU, &outcome);
}

s64 op_exec(const struct args_exec *args)
{
	struct outcome outcome;

	return make_access(ACCESS_EXEC, args->ipa, 0, NO_VCPU, &outcome);
}

#if S2FUZZ_HAS_vcpu_read
s64 op_vcpu_read(const struct args_vcpu_read *args)
{
	struct outcome outcome;
	u64 vcpu;
	s64 ret = vcpu_running(&vcpu);

	if (ret)
		return ret;
	if (args->ipa >= GUEST_VCPU_REACH)
		return -ENXIO;
	return make_access(ACCESS_READ, args->ipa, 0, vcpu, &outcome);
}
#endif

/* A write of it leaves the word 0. */
s64 op_fault(const struct args_fault *args)
{
	struct outcome outcome;
	s64 ret = make_access(args->access, args->ipa, 0, NO_VCPU, &outcome);

	kept_abort.is_there = ret == -EFAULT && outcome.by_stage2;
	if (kept_abort.is_there)
		kept_abort.abort = (struct abort){ outcome.esr, CODE_OR_DATA(outcome.address) };
	return ret;
}

#if S2FUZZ_HAS_handle
s64 op_handle(const struct args_handle *args)
{
	struct handled handled;
	s64 ret;

	if (!guest_runs())
		return -ENODEV;
	if (!kept_abort.is_there)
		return -ENOENT;
	ret = handle_abort(&kept_abort.abort, args, &handled);
	op_out(handled.size);
	op_out(handled.topped_up);
	op_out(handled.added);
	op_out(handled.used);
	return ret;
}
#endif
