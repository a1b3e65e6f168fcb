// SPDX-License-Identifier: GPL-2.0-only
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include "kernel.h"
#include "under_test.h"

struct under_test *under_test, *running;
struct kept_abort kept_abort;
struct kvm_mmu_memory_cache memcache;
static struct under_test mmus[S2FUZZ_MAX_MMUS];
static struct table tables[S2FUZZ_MAX_MMUS];
static u64 mmus_made; /* numbers below that were ever those of MMUs, in this program */
#if !S2FUZZ_HAS_MMU_VTCR
static struct kvm_arch archs[S2FUZZ_MAX_MMUS]; /* by VM */
#endif

static void *memcache_objects[S2FUZZ_CACHE_CAPACITY];
static void *split_cache_objects[S2FUZZ_MAX_MMUS][S2FUZZ_SPLIT_CACHE_CAPACITY];

/* Linux has had a cache's objects in it and apart from it (as the shim's headers do). */
static void cache_reset(struct kvm_mmu_memory_cache *cache, void **objects)
{
	memset(cache, 0, sizeof(*cache));
	if (__builtin_types_compatible_p(__typeof__(cache->objects), void **))
		memcpy(&cache->objects, &objects, sizeof(objects));
}

void under_test_reset(u64 vmid)
{
	for (u64 number = 0; number < mmus_made; number++)
		mmus[number].was_made = mmus[number].lives = false;
	mmus_made = 0;
	cache_reset(&memcache, memcache_objects);
	memset(&kept_abort, 0, sizeof(kept_abort));
	running = NULL;
	under_test = mmu_make(0, 0, vmid, NULL);
}

struct under_test *mmu_make(u64 number, u64 vm, u64 vmid, const struct under_test *shares)
{
	struct under_test *made = &mmus[number];

	memset(made, 0, sizeof(*made));
#if !S2FUZZ_HAS_MMU_VTCR
	made->mmu.arch = &archs[vm];
	if (vm == number)
		archs[vm].vtcr = 0;
#endif
	if (shares) {
		made->table = shares->table;
		made->mmu.pgd_phys = shares->mmu.pgd_phys;
		*vtcr_of(&made->mmu) = *vtcr_of((struct kvm_s2_mmu *)&shares->mmu);
	} else {
		made->table = &tables[number];
		memset(made->table, 0, sizeof(*made->table));
		made->table->number = number;
	}
	made->table->sharers++;
	made->number = number;
	made->vm = vm;
	made->was_made = made->lives = true;
	made->vmid = made->own_vmid = vmid;
	memset(made->last_vcpu_ran, 0xff, sizeof(made->last_vcpu_ran));
	made->pgt = made->mmu.pgt = &made->table->pgt;
	cache_reset(split_cache_of(made), split_cache_objects[number]);
	if (mmus_made <= number)
		mmus_made = number + 1;
	return made;
}

bool mmu_end(struct under_test *mmu)
{
	mmu->lives = false;
	return !--mmu->table->sharers;
}

bool vmid_is_taken(u64 vmid)
{
	u64 bits = GENMASK(vmid_bits() - 1, 0);

	if (config.vcpu == vcpu_foreign && !(((config.vmid + 1) ^ vmid) & bits))
		return true; /* the other VM's, of which a vCPU runs */
	for (u64 number = 0; number < mmus_made; number++)
		if (mmus[number].was_made &&
		    (!((mmus[number].vmid ^ vmid) & bits) || !((mmus[number].own_vmid ^ vmid) & bits)))
			return true;
	return false;
}

struct under_test *mmu_numbered(u64 number)
{
	return &mmus[number];
}

struct under_test *mmu_first(void)
{
	return &mmus[under_test->vm];
}

struct under_test *mmu_next(const struct under_test *mmu)
{
	for (u64 number = mmu ? mmu->number + 1 : 0; number < mmus_made; number++)
		if (mmus[number].lives)
			return &mmus[number];
	return NULL;
}

struct under_test *mmu_of(struct kvm_s2_mmu *mmu)
{
	struct under_test *found = container_of(mmu, struct under_test, mmu);

	/* What a KUnit reproducer calls for is an MMU of its own, and no other is there. */
	return found >= mmus && found < mmus + ARRAY_SIZE(mmus) ? found : under_test;
}

bool is_hyp(void)
{
	return config.stage == 1;
}

u64 root_size(const struct under_test *mmu)
{
#if S2FUZZ_HAS_PGD_SIZE
	return kvm_pgtable_stage2_pgd_size(*vtcr_of((struct kvm_s2_mmu *)&mmu->mmu));
#else
	return mmu->table->last_exact_size;
#endif
}

bool root_of(const struct under_test *mmu, struct root *root)
{
	const struct kvm_pgtable *pgt = mmu->pgt;

	if (!pgt->pgd)
		return false;
	*root = (struct root){
		.pa = pool_to_phys((void *)pgt->pgd),
		.pages = is_hyp() ? 1 : root_size(mmu) / PAGE_SIZE,
		.level = pgt->start_level,
		.ia_bits = pgt->ia_bits,
	};
	return true;
}

bool under_test_root(struct root *root)
{
	return root_of(under_test, root);
}

void drain(struct kvm_mmu_memory_cache *cache)
{
	while (cache->nobjs)
		pool_put(pool_to_phys(cache->objects[--cache->nobjs]));
}

int top_up(struct kvm_mmu_memory_cache *cache, u64 pages)
{
	while (cache->nobjs < pages) {
		u64 pa = pool_alloc(under_test->table->number);

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
