/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree's own, but for the barriers that are recorded. Here, so that its inline functions are caught as well: those
 * of tlbflush.h synchronise hyp's TLB invalidations. */
#ifndef S2FUZZ_ASM_BARRIER_H
#define S2FUZZ_ASM_BARRIER_H

#include_next <asm/barrier.h>

#ifndef __ASSEMBLY__
void s2fuzz_dsb(const char *domain);
void s2fuzz_isb(void);

#undef dsb
#define dsb(domain) s2fuzz_dsb(#domain)

#undef isb
#define isb() s2fuzz_isb()
#endif

#endif
