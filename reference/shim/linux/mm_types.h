/* SPDX-License-Identifier: GPL-2.0-only */
/* tlbflush.h names these in the host's own TLB helpers, which nothing here calls. */
#ifndef S2FUZZ_LINUX_MM_TYPES_H
#define S2FUZZ_LINUX_MM_TYPES_H

#include <linux/types.h>

struct mm_struct {
	unsigned long context;
};

struct vm_area_struct {
	struct mm_struct *vm_mm;
};

struct arch_tlbflush_unmap_batch;

#endif
