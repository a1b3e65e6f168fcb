/* SPDX-License-Identifier: GPL-2.0-only */
/* Included by kvm_mmu.h; hosted files use nothing of it. */
#ifndef S2FUZZ_ASM_PGALLOC_H
#define S2FUZZ_ASM_PGALLOC_H
#endif
