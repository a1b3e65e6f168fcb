/* SPDX-License-Identifier: GPL-2.0-only */
/* What functions in kvm_mmu.h that nothing here calls are made of. */
#ifndef S2FUZZ_ASM_CACHEFLUSH_H
#define S2FUZZ_ASM_CACHEFLUSH_H

void dcache_clean_inval_poc(unsigned long start, unsigned long end);
void icache_inval_pou(unsigned long start, unsigned long end);
void icache_inval_all_pou(void);
int icache_is_aliasing(void);

#endif
