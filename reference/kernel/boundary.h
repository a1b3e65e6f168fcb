/* SPDX-License-Identifier: GPL-2.0-only */
/* What boundary.c offers to those who include the tree's headers. */
#ifndef S2FUZZ_BOUNDARY_H
#define S2FUZZ_BOUNDARY_H

extern struct kvm_pgtable_mm_ops mm_ops;

#endif
