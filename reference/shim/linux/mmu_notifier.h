/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef S2FUZZ_LINUX_MMU_NOTIFIER_H
#define S2FUZZ_LINUX_MMU_NOTIFIER_H

struct mm_struct;

/* tlbflush.h tells secondary MMUs of the host's own flushes; there are none. */
static inline void mmu_notifier_arch_invalidate_secondary_tlbs(struct mm_struct *mm, unsigned long start,
							       unsigned long end)
{
}

#endif
