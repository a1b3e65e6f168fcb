/* SPDX-License-Identifier: GPL-2.0-only */
/* Hosted files want the architecture's descriptors and TLBI encodings from here, not the host's own tables. */
#ifndef S2FUZZ_LINUX_PGTABLE_H
#define S2FUZZ_LINUX_PGTABLE_H

#include <linux/types.h>
#include <linux/limits.h>
#include <linux/math.h>
#include <linux/minmax.h>
#include <linux/align.h>
#include <linux/errno.h>
#include <linux/err.h>
#include <linux/container_of.h>
#include <asm/cpufeature.h>
#include <asm/pgtable-hwdef.h>
#include <asm/pgtable-prot.h>
#include <asm/tlbflush.h>

/* How TTBRs and VTTBR hold a table's address: bits 51:48 in 5:2 where there are 52 (Arm ARM, VTTBR_EL2.BADDR). */
#define phys_to_ttbr(addr) ({							\
	u64 __addr = (addr);							\
	s2fuzz_machine.pa_bits_52 || s2fuzz_machine.lpa2 ?			\
		(__addr | __addr >> 46) & GENMASK_ULL(47, 2) : __addr;		\
})

#define PTRS_PER_PTE (1 << (PAGE_SHIFT - 3))
#define PAGE_ALIGN(addr) ALIGN(addr, PAGE_SIZE) /* linux/mm.h has it, with everything else */

#endif
