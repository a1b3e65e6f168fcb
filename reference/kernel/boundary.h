/* SPDX-License-Identifier: GPL-2.0-only */
/* What boundary.c offers to those who include the tree's headers. */
#ifndef S2FUZZ_BOUNDARY_H
#define S2FUZZ_BOUNDARY_H

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

extern struct kvm_pgtable_mm_ops mm_ops;

/* VTCR_EL2's value is the MMU's own, or in some trees the VM's. */
static inline u64 *vtcr_of(struct kvm_s2_mmu *mmu)
{
#if S2FUZZ_HAS_MMU_VTCR
	return &mmu->vtcr;
#else
	return &mmu->arch->vtcr;
#endif
}

/* Bytes of the root that init made last. */
u64 root_size(struct kvm_s2_mmu *mmu);

/* Which of the optional callbacks mm_ops has. */
void boundary_offer(bool dcache, bool icache, bool page_count);

/* Counts against the budget, if it is of a kind that does, then records. */
void event(enum event kind, u64 a, u64 b);

/* faults.c: what a program lets go wrong. */
void faults_reset(void);
void fault_fail_alloc(u64 nth);
bool fault_fails_now(void);
bool fault_is_table(kvm_pte_t pte, s8 level);
s64 fault_locate(const struct kvm_pgtable *pgt, u64 ipa, s8 level, kvm_pte_t **ptep);
s64 fault_plant(kvm_pte_t *ptep, s8 level, kvm_pte_t pte);
void fault_race(const struct kvm_pgtable *pgt, u64 nth, kvm_pte_t pte);
void fault_before_cmpxchg(kvm_pte_t *ptep);
void fault_write(kvm_pte_t *ptep, kvm_pte_t pte);

/* context.c: what the TLB maintenance finds on the CPU. Numbers as in harness/program/machine.py. */
enum context_mode { NVHE, VHE, PKVM_GUEST, PKVM_HOST };
enum running { VCPU_NONE, VCPU_OWN, VCPU_FOREIGN };

/* The TLB functions of the tree, which find there an MMU of the same root and VTCR as the one under test. It is another
 * structure, for theirs and that of pgtable.c may be compiled from different headers. */
enum tlb_call { TLB_VMID, TLB_VMID_IPA, TLB_VMID_IPA_NSH, TLB_VMID_RANGE, TLB_CPU_CONTEXT, TLB_VM_CONTEXT };

void context_reset(enum context_mode mode, enum running running, u64 vmid, u64 vmid_bits);
void context_show(u64 pgd_phys, u64 vtcr);
void context_carry_out(enum tlb_call call, u64 a, u64 b);
bool context_is_vhe(void);
extern u64 s2fuzz_sysreg_hcr_el2;

#endif
