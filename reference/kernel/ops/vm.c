// SPDX-License-Identifier: GPL-2.0-only
/* VMs and their MMUs. All of it is ours: what Linux's own functions in mmu.c and nested.c do to an MMU's fields, with our
 * lists of MMUs in place of theirs. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"
#include "../context.h"
#include "../memslots.h"
#include "../vcpus.h"

#define MIN_IA_BITS 32

/* What a new one is refused for. The host's own stage 2 is no VM's. */
static s64 refusal(u64 number, u64 vmid)
{
	if (config.kvm_mode == kvm_mode_pkvm_host)
		return -EOPNOTSUPP;
	if (number >= S2FUZZ_MAX_MMUS)
		return -ENOSPC;
	return vmid_is_taken(vmid) ? -EBUSY : 0;
}

/* The most bits of address that a VM may have: those of physical address (kvm_ipa_limit). */
static u64 ipa_limit(void)
{
	static const u8 bits[] = { 32, 36, 40, 42, 44, 48, 52 };
	u64 most = config.lpa2 || (config.pa_bits_52 && PAGE_SHIFT == 16) ? 52 : 48;

	return config.parange < ARRAY_SIZE(bits) && bits[config.parange] < most ? bits[config.parange] : most;
}

static u64 ia_bits_of(struct under_test *mmu)
{
	return VTCR_EL2_IPA(*vtcr_of(&mmu->mmu));
}

/* Its table goes unless another MMU shares it. */
static void free_mmu(struct under_test *mmu)
{
	if (under_test == mmu)
		boundary_use(mmu_first());
	if (mmu_end(mmu) && mmu->pgt->pgd) {
#if S2FUZZ_HAS_destroy
		kvm_pgtable_stage2_destroy(mmu->pgt);
#endif
	}
	drain(split_cache_of(mmu));
}

/* A program that is over leaves its MMUs as they are: a budget may have cut an op that was changing a table. */
static void leave_mmu(u64 number)
{
}

static void yield_made(const struct under_test *mmu)
{
	op_out(handle_made(HANDLE_MMU, leave_mmu));
	op_out(mmu->vmid & GENMASK(vmid_bits() - 1, 0));
}

/* Gives a new MMU its table; the one in use stays. */
static s64 init_made(struct under_test *made, u64 ia_bits)
{
	struct under_test *before = under_test;
	s64 ret;

	boundary_use(made);
	ret = make_table(ia_bits);
	boundary_use(before);
	if (ret)
		free_mmu(made);
	else
		yield_made(made);
	return ret;
}

s64 op_mmu_init(const struct args_mmu_init *args)
{
	u64 number = handles_begun(HANDLE_MMU), of_vm = ia_bits_of(mmu_first()), ia_bits = args->ia_bits ?: of_vm;
	s64 ret = refusal(number, args->vmid);

	if (ret)
		return ret;
	if (ia_bits < MIN_IA_BITS || ia_bits > of_vm || (!S2FUZZ_HAS_MMU_VTCR && ia_bits != of_vm))
		return -EINVAL;
	return init_made(mmu_make(number, under_test->vm, args->vmid, NULL), ia_bits);
}

s64 op_vm_create(const struct args_vm_create *args)
{
	u64 number = handles_begun(HANDLE_MMU), ia_bits = args->ia_bits ?: ia_bits_of(mmu_numbered(0));
	s64 ret = refusal(number, args->vmid);

	if (ret)
		return ret;
	if (args->ia_bits && (args->ia_bits < MIN_IA_BITS || args->ia_bits > ipa_limit()))
		return -EINVAL;
	return init_made(mmu_make(number, number, args->vmid, NULL), ia_bits);
}

s64 op_mmu_share(const struct args_mmu_share *args)
{
	u64 number = handles_begun(HANDLE_MMU);
	s64 ret = refusal(number, args->vmid);

	if (ret)
		return ret;
	if (!under_test->pgt->pgd)
		return -ENOENT;
	yield_made(mmu_make(number, under_test->vm, args->vmid, under_test));
	return 0;
}

static void use(struct under_test *mmu)
{
	kept_abort.is_there = false;
	boundary_use(mmu);
}

s64 op_mmu_use(const struct args_mmu_use *args)
{
	use(mmu_numbered(args->mmu + 1));
	op_out(args->mmu);
	return 0;
}

s64 op_mmu_first(const struct args_mmu_first *args)
{
	use(mmu_first());
	return 0;
}

/* As kvm_init_stage2_mmu() has it of an MMU that has a table. One that has none any more may have left something in TLBs,
 * under the VMID that it keeps. */
s64 op_mmu_again(const struct args_mmu_again *args)
{
	if (under_test->pgt->pgd)
		return S2FUZZ_HAS_NESTED_MMU && under_test != mmu_first() ? 0 : -EINVAL;
	__kvm_tlb_flush_vmid(&under_test->mmu);
	return make_table(ia_bits_of(under_test));
}

s64 op_mmu_free(const struct args_mmu_free *args)
{
	if (mmu_numbered(args->mmu + 1)->vm == args->mmu + 1)
		return -EINVAL;
	if (vcpu_is_loaded_under(mmu_numbered(args->mmu + 1)))
		return -EBUSY;
	if (under_test->number == args->mmu + 1)
		kept_abort.is_there = false;
	handle_ends(HANDLE_MMU, args->mmu);
	free_mmu(mmu_numbered(args->mmu + 1));
	op_out(args->mmu);
	return 0;
}

/* As kvm_destroy_vm() comes to it: every MMU goes, its table with its last sharer. TLBs are left alone. */
s64 op_vm_end(const struct args_vm_end *args)
{
	u64 vm = mmu_numbered(args->mmu + 1)->vm;
	struct under_test *mmu = NULL;

	if (!vm || vcpu_is_loaded_of(vm))
		return -EBUSY;
	if (under_test->vm == vm)
		use(mmu_numbered(0));
	while ((mmu = mmu_next(mmu)))
		if (mmu->vm == vm) {
			handle_ends(HANDLE_MMU, mmu->number - 1);
			free_mmu(mmu);
		}
	memslots_end(vm);
	op_out(args->mmu);
	return 0;
}
