/* SPDX-License-Identifier: GPL-2.0-only */
/* Included by kvm_mmu.h; hosted files use nothing of it. */
#ifndef S2FUZZ_ASM_MMU_CONTEXT_H
#define S2FUZZ_ASM_MMU_CONTEXT_H
#endif
