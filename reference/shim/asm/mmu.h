/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef S2FUZZ_ASM_MMU_H
#define S2FUZZ_ASM_MMU_H

/* No EL0 runs here, so kernel/user address-space isolation is off. */
#define USER_ASID_FLAG (1UL << 48)
#define ASID(mm) ((mm)->context & 0xffff)

static inline _Bool arm64_kernel_unmapped_at_el0(void)
{
	return 0;
}

#endif
