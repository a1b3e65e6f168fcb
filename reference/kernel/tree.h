/* SPDX-License-Identifier: GPL-2.0-only */
/* What trees have in different forms, in one. */
#ifndef S2FUZZ_TREE_H
#define S2FUZZ_TREE_H

#include <asm/kvm_pgtable.h>
#include "declared.h"

/* What pgtable.c keeps to itself in some trees. */
#ifndef KVM_PGTABLE_LAST_LEVEL
#define KVM_PGTABLE_LAST_LEVEL 3
#endif
#ifndef KVM_INVALID_PTE_LOCKED
#define KVM_INVALID_PTE_LOCKED BIT(10)
#endif
#if !S2FUZZ_HAS_PHYS_TO_PTE
static inline kvm_pte_t kvm_phys_to_pte(u64 pa)
{
	kvm_pte_t high = PAGE_SHIFT == 16 ? FIELD_PREP(KVM_PTE_ADDR_51_48, pa >> 48) : 0;

	return (pa & KVM_PTE_ADDR_MASK) | high;
}
#endif

/* VTCR_EL2's value is the MMU's own, or in some trees the VM's. */
static inline u64 *vtcr_of(struct kvm_s2_mmu *mmu)
{
#if S2FUZZ_HAS_MMU_VTCR
	return &mmu->vtcr;
#else
	return &mmu->arch->vtcr;
#endif
}

#endif
