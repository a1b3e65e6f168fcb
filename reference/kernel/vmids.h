/* SPDX-License-Identifier: GPL-2.0-only */
/* ops/vmid.c: the allocator of VMIDs and whom it serves. */
#ifndef S2FUZZ_VMIDS_H
#define S2FUZZ_VMIDS_H

/* Nobody has a VMID, and the allocator has not begun. */
void vmids_reset(void);

/* Between vmid_init and vmid_free. */
bool vmids_are_allocated(void);

/* What came of a CPU's getting to run under an MMU: the MMU's id, what the CPU has active, and the id that another CPU's
 * owner got in a window. */
struct vmid_turn {
	u64 id, active, meanwhile;
};

struct kvm_vmid;
struct vmid_turn vmids_update_mmu(u64 cpu, struct kvm_vmid *vmid);

/* The CPU runs nobody any more; what it then has active. */
u64 vmids_schedule_out(u64 cpu);

#endif
