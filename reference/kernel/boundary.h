/* SPDX-License-Identifier: GPL-2.0-only */
/* What boundary.c offers to those who include the tree's headers. */
#ifndef S2FUZZ_BOUNDARY_H
#define S2FUZZ_BOUNDARY_H

extern struct kvm_pgtable_mm_ops mm_ops;

/* What the last zalloc_pages_exact() was asked for: init's is the size of the root. */
extern u64 last_exact_size;

#endif
