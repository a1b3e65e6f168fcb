// SPDX-License-Identifier: GPL-2.0-only
/* A VM's MMUs. All of it is ours: what Linux's own functions in mmu.c and nested.c do to an MMU's fields, with our lists of
 * MMUs in place of theirs. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"
#include "../context.h"

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

static u64 ia_bits_of(struct under_test *mmu)
{
	return VTCR_EL2_IPA(*vtcr_of(&mmu->mmu));
}

/* Its table goes unless another MMU shares it. */
static void free_mmu(struct under_test *mmu)
{
	if (under_test == mmu)
		boundary_use(mmu_numbered(0));
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

s64 op_mmu_init(const struct args_mmu_init *args)
{
	u64 number = handles_begun(HANDLE_MMU), of_vm = ia_bits_of(mmu_numbered(0)), ia_bits = args->ia_bits ?: of_vm;
	struct under_test *before = under_test, *made;
	s64 ret = refusal(number, args->vmid);

	if (ret)
		return ret;
	if (ia_bits < MIN_IA_BITS || ia_bits > of_vm || (!S2FUZZ_HAS_MMU_VTCR && ia_bits != of_vm))
		return -EINVAL;
	made = mmu_make(number, args->vmid, NULL);
	boundary_use(made);
	ret = make_table(ia_bits);
	boundary_use(before);
	if (ret)
		free_mmu(made);
	else
		yield_made(made);
	return ret;
}

s64 op_mmu_share(const struct args_mmu_share *args)
{
	u64 number = handles_begun(HANDLE_MMU);
	s64 ret = refusal(number, args->vmid);

	if (ret)
		return ret;
	if (!under_test->pgt->pgd)
		return -ENOENT;
	yield_made(mmu_make(number, args->vmid, under_test));
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
	use(mmu_numbered(0));
	return 0;
}

/* As kvm_init_stage2_mmu() has it of an MMU that has a table. One that has none any more may have left something in TLBs,
 * under the VMID that it keeps. */
s64 op_mmu_again(const struct args_mmu_again *args)
{
	if (under_test->pgt->pgd)
		return S2FUZZ_HAS_NESTED_MMU && under_test->number ? 0 : -EINVAL;
	__kvm_tlb_flush_vmid(&under_test->mmu);
	return make_table(ia_bits_of(under_test));
}

s64 op_mmu_free(const struct args_mmu_free *args)
{
	if (under_test->number == args->mmu + 1)
		kept_abort.is_there = false;
	handle_ends(HANDLE_MMU, args->mmu);
	free_mmu(mmu_numbered(args->mmu + 1));
	op_out(args->mmu);
	return 0;
}
