// SPDX-License-Identifier: GPL-2.0-only
/* What the functions that work on memory slots ask of the MMUs under test, which they know by number. The split cache is
 * that of the first MMU of the VM in use. */
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include "kernel.h"
#include "slots.h"
#include "under_test.h"

void slots_flush_vmid(u64 mmu)
{
	__kvm_tlb_flush_vmid(&mmu_numbered(mmu)->mmu);
}

void slots_flush_range(u64 mmu, u64 start, u64 size)
{
#if S2FUZZ_HAS_tlb_flush_vmid_range
	kvm_tlb_flush_vmid_range(&mmu_numbered(mmu)->mmu, start, size);
#else
	slots_flush_vmid(mmu);
#endif
}

int slots_split(u64 addr, u64 size)
{
#if S2FUZZ_HAS_split
	return kvm_pgtable_stage2_split(mmu_first()->pgt, addr, size, split_cache_of(mmu_first()));
#else
	return -EOPNOTSUPP;
#endif
}

u64 slots_cache_level(void)
{
	return split_cache_of(mmu_first())->nobjs;
}

void slots_cache_drain(void)
{
	drain(split_cache_of(mmu_first()));
}

int slots_cache_top_up(u64 capacity, u64 min)
{
	struct kvm_mmu_memory_cache *cache = split_cache_of(mmu_first());

	while (cache->nobjs < capacity) {
		u64 pa = pool_alloc(mmu_first()->table->number);

		if (pa == NO_PAGE)
			return cache->nobjs >= min ? 0 : -ENOMEM;
		cache->objects[cache->nobjs++] = pool_to_virt(pa);
	}
	return 0;
}
