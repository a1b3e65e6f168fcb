/* SPDX-License-Identifier: GPL-2.0-only */
/* boundary.c: what the table under test is given of us. */
#ifndef S2FUZZ_BOUNDARY_H
#define S2FUZZ_BOUNDARY_H

#include <asm/kvm_pgtable.h>

extern struct kvm_pgtable_mm_ops mm_ops;

/* Which of the optional callbacks mm_ops has. No function of a TLB's is under way. */
void boundary_reset(bool dcache, bool icache, bool page_count);

#endif
