// SPDX-License-Identifier: GPL-2.0-only
/* Invalidations that KVM asks for without changing an entry. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"

#if S2FUZZ_HAS_tlb_flush_vmid_range
s64 op_tlb_flush_vmid_range(const struct args_tlb_flush_vmid_range *args)
{
	kvm_tlb_flush_vmid_range(&under_test->mmu, args->ipa, args->size);
	return 0;
}
#endif

#if S2FUZZ_HAS_flush_cpu_context
s64 op_flush_cpu_context(const struct args_flush_cpu_context *args)
{
	__kvm_flush_cpu_context(&under_test->mmu);
	return 0;
}
#endif

#if S2FUZZ_HAS_flush_vm_context
s64 op_flush_vm_context(const struct args_flush_vm_context *args)
{
	__kvm_flush_vm_context();
	return 0;
}
#endif

#if S2FUZZ_HAS_tlb_flush_vmid
s64 op_tlb_flush_vmid(const struct args_tlb_flush_vmid *args)
{
	__kvm_tlb_flush_vmid(&under_test->mmu);
	return 0;
}
#endif
