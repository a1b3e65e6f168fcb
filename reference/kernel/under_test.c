// SPDX-License-Identifier: GPL-2.0-only
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include "kernel.h"
#include "under_test.h"

struct under_test under_test;
struct kvm_mmu_memory_cache memcache;
#if S2FUZZ_HAS_split
/* The visitor of a split finds the MMU by where its cache is, so that no other will do. */
struct kvm_mmu_memory_cache *const split_cache = &under_test.mmu.split_page_cache;
#else
static struct kvm_mmu_memory_cache no_split_cache;
struct kvm_mmu_memory_cache *const split_cache = &no_split_cache;
#endif
#if !S2FUZZ_HAS_MMU_VTCR
static struct kvm_arch arch;
#endif

static void *memcache_objects[S2FUZZ_CACHE_CAPACITY], *split_cache_objects[S2FUZZ_SPLIT_CACHE_CAPACITY];

/* Linux has had a cache's objects in it and apart from it (as the shim's headers do). */
static void cache_reset(struct kvm_mmu_memory_cache *cache, void **objects)
{
	memset(cache, 0, sizeof(*cache));
	if (__builtin_types_compatible_p(__typeof__(cache->objects), void **))
		memcpy(&cache->objects, &objects, sizeof(objects));
}

void under_test_reset(void)
{
	memset(&under_test, 0, sizeof(under_test));
#if !S2FUZZ_HAS_MMU_VTCR
	arch.vtcr = 0;
	under_test.mmu.arch = &arch;
#endif
	cache_reset(&memcache, memcache_objects);
	cache_reset(split_cache, split_cache_objects);
}

bool is_hyp(void)
{
	return config.stage == 1;
}

u64 root_size(struct kvm_s2_mmu *mmu)
{
#if S2FUZZ_HAS_PGD_SIZE
	return kvm_pgtable_stage2_pgd_size(*vtcr_of(mmu));
#else
	return under_test.last_exact_size;
#endif
}

bool under_test_root(struct root *root)
{
	const struct kvm_pgtable *pgt = &under_test.pgt;

	if (!pgt->pgd)
		return false;
	*root = (struct root){
		.pa = pool_to_phys((void *)pgt->pgd),
		.pages = is_hyp() ? 1 : root_size(&under_test.mmu) / PAGE_SIZE,
		.level = pgt->start_level,
		.ia_bits = pgt->ia_bits,
	};
	return true;
}

int top_up(struct kvm_mmu_memory_cache *cache, u64 pages)
{
	while (cache->nobjs < pages) {
		u64 pa = pool_alloc(under_test.number);

		if (pa == NO_PAGE)
			return -ENOMEM;
		cache->objects[cache->nobjs++] = pool_to_virt(pa);
	}
	return 0;
}

int choose_memcache(u64 arg, struct kvm_mmu_memory_cache **cache)
{
	*cache = arg ? &memcache : NULL;
	return arg ? top_up(&memcache, arg - 1) : 0;
}
