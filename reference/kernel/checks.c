// SPDX-License-Identifier: GPL-2.0-only
/* What the shim headers must not get wrong. Most mistakes there still compile; these would not. */
#define S2FUZZ_HOSTED_SIDE
#include <linux/build_bug.h>
#include <asm/kvm_pgtable.h>
#include "kernel.h"
#include "declared.h"

static_assert(sizeof(phys_addr_t) == 8, "CONFIG_PHYS_ADDR_T_64BIT is missing");
static_assert(sizeof(kvm_pte_t) == 8 && sizeof(long) == 8 && sizeof(size_t) == 8, "LP64 with 64-bit PTEs");
static_assert(PAGE_SHIFT == S2FUZZ_PAGE_SHIFT, "the granule the build asked for");
static_assert(PAGE_SIZE == 1ul << S2FUZZ_PAGE_SHIFT && PTRS_PER_PTE == PAGE_SIZE / 8, "one page is one table");
static_assert(S2FUZZ_PAGE_SHIFT == 12 || S2FUZZ_PAGE_SHIFT == 14 || S2FUZZ_PAGE_SHIFT == 16, "there are three granules");
static_assert(IS_ENABLED(CONFIG_ARM64_4K_PAGES) == (S2FUZZ_PAGE_SHIFT == 12) &&
	      IS_ENABLED(CONFIG_ARM64_16K_PAGES) == (S2FUZZ_PAGE_SHIFT == 14) &&
	      IS_ENABLED(CONFIG_ARM64_64K_PAGES) == (S2FUZZ_PAGE_SHIFT == 16), "granule and configuration agree");
#ifndef S2FUZZ_MADE /* not compiled with the configuration of a kernel's own build */
static_assert(!__builtin_constant_p(IS_ENABLED(CONFIG_ARM64_PA_BITS_52)), "the program's machine says it");
static_assert(IS_ENABLED(CONFIG_ARM64_HW_AFDBM), "hw_af decides about VTCR_EL2.HA");
#endif
static_assert(ARM64_HW_PGTABLE_LEVEL_SHIFT(3) == PAGE_SHIFT, "levels count towards 3");
static_assert(sizeof(struct kvm_pgtable_mm_ops) == (10 + S2FUZZ_HAS_FREE_UNLINKED_TABLE) * sizeof(void *),
	      "boundary.c fills in every callback");
static_assert(KVM_PTE_VALID == 1 && KVM_PTE_ADDR_MASK == GENMASK(47, PAGE_SHIFT), "entries are as Arm has them");
#ifdef KVM_PTE_LEAF_ATTR_HI_SW
static_assert(KVM_PTE_LEAF_ATTR_HI_SW == GENMASK(58, 55), "attributes sit where Arm puts them");
#endif
static_assert(POOL_PAGE_SIZE == PAGE_SIZE, "the pool's pages are table pages");
#define SAME(name, bit) static_assert((u64)(name) == (bit), "flags are those of harness/program/kinds/flags.py");
S2FUZZ_FLAGS_HERE(SAME)
