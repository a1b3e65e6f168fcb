/* SPDX-License-Identifier: GPL-2.0-only */
/* context.c: what the TLB maintenance finds on the CPU. */
#ifndef S2FUZZ_CONTEXT_H
#define S2FUZZ_CONTEXT_H

/* How KVM runs, which vCPU does, and the VMID of the MMU under test: values of the knobs of these names, to begin with.
 * After a change, context_enter() makes them true. */
struct context {
	u64 kvm_mode, vcpu, vmid;
	u64 vmid_bits;
};

extern struct context context;

void context_enter(void);

/* The TLB functions of the tree, which find there an MMU of the same root and VTCR as the one under test. It is another
 * structure, for theirs and that of pgtable.c may be compiled from different headers. */
enum tlb_call { TLB_VMID, TLB_VMID_IPA, TLB_VMID_IPA_NSH, TLB_VMID_RANGE, TLB_CPU_CONTEXT, TLB_VM_CONTEXT };

void context_show(u64 pgd_phys, u64 vtcr);
/* The next one is called for another MMU, of this VMID. */
void context_call_for(u64 pgd_phys, u64 vtcr, u64 vmid);
void context_carry_out(enum tlb_call call, u64 a, u64 b);
bool context_is_vhe(void);

/* Whether VTTBR_EL2 holds what the MMU under test has, where they are called. */
bool context_begins_in_guest(void);

/* What VHE code reads back of HCR_EL2, which is not ours to change. */
extern u64 s2fuzz_sysreg_hcr_el2;

#endif
