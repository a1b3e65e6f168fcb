// SPDX-License-Identifier: GPL-2.0-only
/* The boundary between the hosted files and us: memory callbacks, TLB calls, barriers and recorded PTE stores, each an
 * event (events.c). */
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include <asm/kvm_arm.h>
#include <s2fuzz/machine.h>
#include <s2fuzz/boundary.h>
#include <s2fuzz/locking.h>
#include "kernel.h"
#include "boundary.h"
#include "context.h"
#include "faults.h"
#include "guest.h"
#include "under_test.h"

struct s2fuzz_machine s2fuzz_machine;
bool empty_cache_allocates;
u64 allocated_when_empty;
/* Set while a function of the tree's tlb.c runs: its instructions belong to the call that was recorded before them. */
static u64 in_call;

/* What hosted code wrote to VTTBR_EL2 last, which is followed and not carried out; NOT_WRITTEN: it holds what it is called
 * with. */
#define VTTBR_ADDRESS 0xfffffffffffeul
#define NOT_WRITTEN (~0ul)
static u64 vttbr;

/* The code of a WARN is the CRC-32 of its function's name, so that the model can say the same. */
void s2fuzz_warn(const char *function, const void *pc)
{
	op_complain(COMPLAINT_WARN, crc32(0, function, strlen(function)), 0, pc);
}

/* In a kernel's own build RCU is either calls of these two, or nothing that could be seen. */
#if !defined(S2FUZZ_MADE) || defined(CONFIG_PREEMPT_RCU)
void __rcu_read_lock(void)
{
	event(event_rcu_read_lock, 0, 0);
	s2fuzz_rcu_depth++;
}

void __rcu_read_unlock(void)
{
	event(event_rcu_read_unlock, 0, 0);
	if (s2fuzz_rcu_depth)
		s2fuzz_rcu_depth--;
	else
		s2fuzz_broken(S2FUZZ_UNBALANCED_UNLOCK, CALL_SITE);
}
#endif

void s2fuzz_bug(void)
{
	panic_at("BUG", CALL_SITE);
}

void s2fuzz_pte_store(const volatile void *ptep, u64 value, enum s2fuzz_store kind)
{
	static const enum event kinds[] = {
		[S2FUZZ_STORE_PLAIN] = event_store_plain,
		[S2FUZZ_STORE_RELEASE] = event_store_release,
		[S2FUZZ_STORE_CMPXCHG] = event_store_cmpxchg,
	};

	/* Linux uses the same macros for what is no entry: a variable, a list. */
	if (!pool_holds((const void *)ptep))
		return;
	event(kinds[kind], pool_to_phys((const void *)ptep), value);
	if (kind == S2FUZZ_STORE_CMPXCHG)
		fault_before_cmpxchg((kvm_pte_t *)ptep);
}

/* Whether TLBIs hit the guest that the hardware looks at: its VMID and root are in VTTBR_EL2. */
static bool is_guests_vttbr(void)
{
	u64 vmids = GENMASK(context.vmid_bits - 1, 0);

	if (vttbr == NOT_WRITTEN)
		return context_begins_in_guest() && (!running || running == under_test);
	/* Also of a table that was destroyed: TLBs hold what it said, and another one may come to lie there. */
	return (vttbr >> 48 & vmids) == (context.vmid & vmids) &&
	       (vttbr & VTTBR_ADDRESS) == under_test->mmu.pgd_phys;
}

static bool hits_guest(enum tlbi_reach reach)
{
	switch (reach) {
	case TLBI_EVERY_VMID:
		return true;
	case TLBI_ITS_VMID:
		return is_guests_vttbr();
	case TLBI_ITS_REGIME: /* with E2H and TGE it is EL2&0's */
		return is_guests_vttbr() && !(context_is_vhe() && s2fuzz_sysreg_hcr_el2 & HCR_TGE);
	default:
		return false;
	}
}

/* What the hardware is to see of it, once it looks at the table: an instruction that would have hit something else is left
 * out, for that is not here. */
static void carry_out_instruction(enum event kind, u64 number, u64 operand)
{
	switch (kind) {
	case event_tlbi:
		if (hits_guest(guest_tlbi_reach(number)))
			guest_tlbi(number, operand);
		break;
	case event_dsb:
		guest_dsb(number);
		break;
	case event_isb:
		guest_isb();
		break;
	default:
		break;
	}
}

void s2fuzz_record_instruction(u64 what, u64 operand)
{
	enum event kind = what >> 16;
	u64 number = what & 0xffff;

	event(kind | in_call, number, operand);
	if (kind == event_msr && number == S2FUZZ_HCR_EL2)
		s2fuzz_sysreg_hcr_el2 = operand;
	else if (kind == event_msr && number == S2FUZZ_VTTBR_EL2)
		vttbr = operand;
	else if (guest_is_looked_at())
		carry_out_instruction(kind, number, operand);
}

/* The TLB functions are recorded where they are called, and carried out by the tree's own, in the way that the machine's
 * KVM runs: as host code of a VHE kernel, where kvm_call_hyp() has an ISB follow, or as nVHE hyp code. */
static void carry_out(const struct under_test *mmu, enum tlb_call call, u64 a, u64 b)
{
#ifndef S2FUZZ_CALLS_ONLY
	context_show(under_test->mmu.pgd_phys, *vtcr_of(&under_test->mmu));
	if (running && running != under_test)
		context_show_running(running->mmu.pgd_phys, *vtcr_of(&running->mmu), running->vmid);
	if (mmu != under_test && mmu == running)
		context_call_for_running();
	else if (mmu != under_test)
		context_call_for(mmu->mmu.pgd_phys, *vtcr_of((struct kvm_s2_mmu *)&mmu->mmu), mmu->vmid);
	in_call = S2FUZZ_IN_CALL;
	context_carry_out(call, a, b);
	if (context_is_vhe())
		event(event_isb | in_call, 0, 0);
	in_call = 0;
#else
	if (guest_is_looked_at())
		guest_invalidate();
#endif
}

static void call_for(const struct under_test *mmu, enum event kind, enum tlb_call call, u64 a, u64 b)
{
	if (mmu != under_test)
		op_event(event_for_mmu, mmu->number, 0);
	event(kind, a, b);
	carry_out(mmu, call, a, b);
}

/* What changes in a table that several MMUs share, TLBs hold under the VMID of each. */
static void call_for_sharers(struct kvm_s2_mmu *s2_mmu, enum event kind, enum tlb_call call, u64 a, u64 b)
{
	const struct under_test *called = mmu_of(s2_mmu), *mmu = NULL;

	if (called->table->sharers == 1) {
		call_for(called, kind, call, a, b);
		return;
	}
	while ((mmu = mmu_next(mmu)))
		if (mmu->table == called->table)
			call_for(mmu, kind, call, a, b);
}

void __kvm_tlb_flush_vmid(struct kvm_s2_mmu *mmu)
{
	call_for_sharers(mmu, event_tlbi_vmid, TLB_VMID, 0, 0);
}

void __kvm_tlb_flush_vmid_ipa(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level)
{
	call_for_sharers(mmu, event_tlbi_vmid_ipa, TLB_VMID_IPA, ipa, level);
}

#if S2FUZZ_HAS_TLB_NSH
void __kvm_tlb_flush_vmid_ipa_nsh(struct kvm_s2_mmu *mmu, phys_addr_t ipa, int level)
{
	call_for_sharers(mmu, event_tlbi_vmid_ipa_nsh, TLB_VMID_IPA_NSH, ipa, level);
}
#endif

#if S2FUZZ_HAS_TLB_RANGE
void __kvm_tlb_flush_vmid_range(struct kvm_s2_mmu *mmu, phys_addr_t start, unsigned long pages)
{
	call_for_sharers(mmu, event_tlbi_vmid_range, TLB_VMID_RANGE, start, pages);
}
#endif

void __kvm_flush_cpu_context(struct kvm_s2_mmu *mmu)
{
	call_for(mmu_of(mmu), event_flush_cpu_context, TLB_CPU_CONTEXT, 0, 0);
}

void __kvm_flush_vm_context(void)
{
	call_for(under_test, event_flush_vm_context, TLB_VM_CONTEXT, 0, 0);
}

void boundary_use(struct under_test *mmu)
{
	under_test = mmu;
	mmu->pgt->mmu = &mmu->mmu;
	context.vmid = mmu->vmid;
	context_enter();
	vttbr = NOT_WRITTEN;
}

void boundary_run(struct under_test *mmu, bool runs)
{
	running = runs ? mmu : NULL;
	context.vcpu = runs ? vcpu_own : vcpu_none;
	boundary_use(under_test);
}

static u64 phys_or_no_page(void *addr)
{
	return addr ? pool_to_phys(addr) : NO_PAGE;
}

static void *page_or_null(u64 pa)
{
	return pa == NO_PAGE ? NULL : pool_to_virt(pa);
}

static void *take_from(struct kvm_mmu_memory_cache *cache)
{
	void *page;

	if (cache->nobjs)
		return cache->objects[--cache->nobjs];
	if (!empty_cache_allocates)
		return NULL;
	s2fuzz_warn("kvm_mmu_memory_cache_alloc", CALL_SITE); /* where Linux does both */
	page = page_or_null(pool_alloc(under_test->table->number));
	allocated_when_empty += !!page;
	return page;
}

static void *mm_zalloc_page(void *arg)
{
	struct kvm_mmu_memory_cache *cache = arg;
	void *page;

	count_boundary();
	if (fault_fails_now())
		page = NULL;
	else if (!cache)
		page = page_or_null(pool_alloc(under_test->table->number));
	else
		page = take_from(cache);
	op_event(event_zalloc_page, phys_or_no_page(page), 0);
	return page;
}

static void *mm_zalloc_pages_exact(size_t size)
{
	u64 pa;

	count_boundary();
	s2fuzz_might_sleep(); /* as GFP_KERNEL does */
	under_test->table->last_exact_size = size;
	pa = fault_fails_now() ? NO_PAGE : pool_alloc_exact(size, under_test->table->number);
	op_event(event_zalloc_pages_exact, pa, size);
	return page_or_null(pa);
}

static void mm_free_pages_exact(void *addr, size_t size)
{
	event(event_free_pages_exact, phys_or_no_page(addr), size);
	if (addr)
		pool_free_exact(pool_to_phys(addr), size);
	else
		op_complain(COMPLAINT_POOL, MISUSE_BAD_FREE, 0, NULL);
}

#if S2FUZZ_HAS_FREE_UNLINKED_TABLE
static void mm_free_unlinked_table(void *addr, s8 level)
{
	event(event_free_unlinked_table, pool_to_phys(addr), level);
	kvm_pgtable_stage2_free_unlinked(&mm_ops, addr, level);
}
#endif

static void mm_get_page(void *addr)
{
	u64 pa = pool_to_phys(addr);

	event(event_get_page, pa, 0);
	pool_get(pa);
}

static void mm_put_page(void *addr)
{
	u64 pa = phys_or_no_page(addr);

	event(event_put_page, pa, 0);
	pool_put(pa);
}

static int mm_page_count(void *addr)
{
	bound_uncounted();
	return pool_count(pool_to_phys(addr));
}

static void *mm_phys_to_virt(phys_addr_t phys)
{
	bound_uncounted();
	return pool_to_virt(phys);
}

static phys_addr_t mm_virt_to_phys(void *addr)
{
	return pool_to_phys(addr);
}

static void mm_dcache_clean_inval_poc(void *addr, size_t size)
{
	event(event_dcache_clean_inval_poc, pool_to_phys(addr), size);
}

static void mm_icache_inval_pou(void *addr, size_t size)
{
	event(event_icache_inval_pou, pool_to_phys(addr), size);
}

struct kvm_pgtable_mm_ops mm_ops = {
	.zalloc_page = mm_zalloc_page,
	.zalloc_pages_exact = mm_zalloc_pages_exact,
	.free_pages_exact = mm_free_pages_exact,
#if S2FUZZ_HAS_FREE_UNLINKED_TABLE
	.free_unlinked_table = mm_free_unlinked_table,
#endif
	.get_page = mm_get_page,
	.put_page = mm_put_page,
	.page_count = mm_page_count,
	.phys_to_virt = mm_phys_to_virt,
	.virt_to_phys = mm_virt_to_phys,
	.dcache_clean_inval_poc = mm_dcache_clean_inval_poc,
	.icache_inval_pou = mm_icache_inval_pou,
};

void boundary_reset(bool dcache, bool icache, bool page_count)
{
	in_call = 0;
	vttbr = NOT_WRITTEN;
	mm_ops.page_count = page_count ? mm_page_count : NULL;
	mm_ops.dcache_clean_inval_poc = dcache ? mm_dcache_clean_inval_poc : NULL;
	mm_ops.icache_inval_pou = icache ? mm_icache_inval_pou : NULL;
}
