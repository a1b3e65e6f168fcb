/* SPDX-License-Identifier: GPL-2.0-only */
/* boundary.c: what the table under test is given of us. */
#ifndef S2FUZZ_BOUNDARY_H
#define S2FUZZ_BOUNDARY_H

#include <asm/kvm_pgtable.h>
#include "under_test.h"

extern struct kvm_pgtable_mm_ops mm_ops;

/* Whether a memcache that is found empty is a WARN and a page of the pool's, as where a host handles an abort, and how many
 * pages that were. Else it is no page. */
extern bool empty_cache_allocates;
extern u64 allocated_when_empty;

/* Which of the optional callbacks mm_ops has. No function of a TLB's is under way. */
void boundary_reset(bool dcache, bool icache, bool page_count);

/* From now on ops work on that MMU, whose vCPU it is that runs, if any of this VM does. */
void boundary_use(struct under_test *mmu);

#endif
