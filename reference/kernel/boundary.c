// SPDX-License-Identifier: GPL-2.0-only
/* The boundary between the hosted files and us: memory callbacks, TLB calls, barriers and recorded PTE stores. Each
 * counts against the program's budget before it is carried out; when the budget is spent, the op is left at once. */
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include "kernel.h"
#include "boundary.h"

struct s2fuzz_machine s2fuzz_machine;
int s2fuzz_rcu_depth;
struct op_exit op_exit;

static u64 budget_left;

void boundary_reset(u64 budget)
{
	budget_left = budget;
	s2fuzz_rcu_depth = 0;
}

void boundary(void)
{
	if (!budget_left)
		op_leave(&op_exit);
	budget_left--;
}

/* The code of a WARN is the CRC-32 of its function's name, so that the model can say the same. */
void s2fuzz_warn(const char *function, const void *pc)
{
	op_complain(COMPLAINT_WARN, crc32(0, function, strlen(function)), 0, pc);
}

void s2fuzz_bug(void)
{
	panic_at("BUG", CALL_SITE);
}

void s2fuzz_pte_store(const volatile void *ptep, u64 value, enum s2fuzz_store kind)
{
	boundary();
}

void s2fuzz_dsb(const char *domain)
{
	boundary();
}

void __kvm_tlb_flush_vmid(struct kvm_s2_mmu *mmu)
{
	boundary();
}

void __kvm_tlb_flush_vmid_ipa(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level)
{
	boundary();
}

void __kvm_tlb_flush_vmid_ipa_nsh(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level)
{
	boundary();
}

void __kvm_tlb_flush_vmid_range(struct kvm_s2_mmu *mmu, phys_addr_t start, unsigned long pages)
{
	boundary();
}

static void *page_or_null(u64 pa)
{
	return pa == NO_PAGE ? NULL : pool_to_virt(pa);
}

static void *zalloc_page(void *arg)
{
	struct kvm_mmu_memory_cache *cache = arg;

	boundary();
	if (!cache)
		return page_or_null(pool_alloc());
	return cache->nobjs ? cache->objects[--cache->nobjs] : NULL;
}

static void *zalloc_pages_exact(size_t size)
{
	boundary();
	return page_or_null(pool_alloc_exact(size));
}

static void free_pages_exact(void *addr, size_t size)
{
	boundary();
	if (addr)
		pool_free_exact(pool_to_phys(addr), size);
	else
		op_complain(COMPLAINT_POOL, MISUSE_BAD_FREE, 0, NULL);
}

static void free_unlinked_table(void *addr, s8 level)
{
	boundary();
	kvm_pgtable_stage2_free_unlinked(&mm_ops, addr, level);
}

static void get_page(void *addr)
{
	boundary();
	pool_get(pool_to_phys(addr));
}

static void put_page(void *addr)
{
	boundary();
	pool_put(pool_to_phys(addr));
}

static int page_count(void *addr)
{
	boundary();
	return pool_count(pool_to_phys(addr));
}

static void *pool_phys_to_virt(phys_addr_t phys)
{
	boundary();
	return pool_to_virt(phys);
}

static phys_addr_t pool_virt_to_phys(void *addr)
{
	return pool_to_phys(addr);
}

static void dcache_clean_inval_poc(void *addr, size_t size)
{
	boundary();
}

static void icache_inval_pou(void *addr, size_t size)
{
	boundary();
}

struct kvm_pgtable_mm_ops mm_ops = {
	.zalloc_page = zalloc_page,
	.zalloc_pages_exact = zalloc_pages_exact,
	.free_pages_exact = free_pages_exact,
	.free_unlinked_table = free_unlinked_table,
	.get_page = get_page,
	.put_page = put_page,
	.page_count = page_count,
	.phys_to_virt = pool_phys_to_virt,
	.virt_to_phys = pool_virt_to_phys,
	.dcache_clean_inval_poc = dcache_clean_inval_poc,
	.icache_inval_pou = icache_inval_pou,
};
