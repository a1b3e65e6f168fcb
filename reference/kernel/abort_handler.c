// SPDX-License-Identifier: GPL-2.0-only
/* A stage-2 abort of the guest's, as KVM handles it: the page-table API is called as user_mem_abort() calls it. That function
 * itself cannot be hosted, with all of the host's memory management behind it; what it is told of the memory here is what the
 * program says.
 *
 * The memcache is topped up by one of three rules. By the fault's status, as Linux does: unless it is a permission fault, and
 * then too for a write while dirty pages are logged. By the fault's granule, as was proposed in the thread "KVM: arm64:
 * Distinguish cases of memcache allocations completely" (2021): only where what the faulting entry translates is more than
 * the mapping, so that a table is missing. And as that patch was posted, where the same is done too late. */
#define S2FUZZ_HOSTED_SIDE
#include <asm/esr.h>
#include <asm/kvm_pgtable.h>
#include <s2fuzz/locking.h>
#include "kernel.h"
#include "abort_handler.h"
#include "boundary.h"

#if S2FUZZ_HAS_handle
#define BACKING(name, number) BACKING_##name = number,
enum { S2FUZZ_BACKINGS(BACKING) };
#undef BACKING

#define BLOCK_LEVEL (KVM_PGTABLE_LAST_LEVEL - 1)

static bool is_fetch(const struct abort *abort)
{
	return ESR_ELx_EC(abort->esr) == ESR_ELx_EC_IABT_LOW;
}

static bool is_write(const struct abort *abort)
{
	return !is_fetch(abort) && (abort->esr & ESR_ELx_WNR);
}

static u64 fault_type(const struct abort *abort)
{
	return abort->esr & ESR_ELx_FSC_TYPE;
}

/* The MMU's lock: for readers, but for one writer in a tree whose walks are not shared. */
static void lock_mmu(int *held)
{
#if S2FUZZ_HAS_MAP_FLAGS
	s2fuzz_read_lock(held);
#else
	s2fuzz_lock(held, 1);
#endif
}

static void unlock_mmu(int *held)
{
#if S2FUZZ_HAS_MAP_FLAGS
	s2fuzz_read_unlock(held);
#else
	s2fuzz_unlock(held, 1);
#endif
}

/* User space may have mapped memory that is contiguous to it otherwise than the guest sees it. */
static bool lines_up(const struct args_handle *memory, u64 size)
{
	return !((memory->hva << PAGE_SHIFT) & (size - 1));
}

/* The largest level whose entries can map what backs the page. Where that is none but the last, `only_pages` says whether
 * it has to be. */
static int level_of_backing(const struct args_handle *memory, bool *only_pages)
{
	u64 backing = memory->logging ? BACKING_page : memory->backing;

	*only_pages = memory->logging;
	switch (backing) {
	case BACKING_gigabyte:
		if (kvm_level_supports_block_mapping(BLOCK_LEVEL - 1) &&
		    lines_up(memory, kvm_granule_size(BLOCK_LEVEL - 1)))
			return BLOCK_LEVEL - 1;
		fallthrough;
	case BACKING_cont_block:
	case BACKING_block:
		if (lines_up(memory, kvm_granule_size(BLOCK_LEVEL)))
			return BLOCK_LEVEL;
		fallthrough;
	case BACKING_cont_page:
		*only_pages = true;
	}
	return KVM_PGTABLE_LAST_LEVEL;
}

/* May sleep. */
static s64 top_up_memcache(struct handled *handled)
{
	int had = memcache.nobjs;
	s64 ret;

	s2fuzz_might_sleep();
	/* A walk needs a table at each level below the root's, at most. */
	ret = top_up(&memcache, KVM_PGTABLE_LAST_LEVEL - under_test->pgt->start_level);
	handled->topped_up = true;
	handled->added = memcache.nobjs - had;
	return ret;
}

static s64 map_memory(u64 ipa, u64 size, u64 phys, enum kvm_pgtable_prot prot, struct handled *handled)
{
	int had = memcache.nobjs;
	s64 ret;

	empty_cache_allocates = config.empty_cache == empty_cache_atomic;
	allocated_when_empty = 0;
#if S2FUZZ_HAS_MAP_FLAGS
	ret = kvm_pgtable_stage2_map(under_test->pgt, ipa, size, phys, prot, &memcache,
				     KVM_PGTABLE_WALK_HANDLE_FAULT | KVM_PGTABLE_WALK_SHARED);
#else
	ret = kvm_pgtable_stage2_map(under_test->pgt, ipa, size, phys, prot, &memcache);
#endif
	empty_cache_allocates = false;
	handled->used = had - memcache.nobjs + allocated_when_empty;
	return ret;
}

static s64 user_mem_abort(const struct abort *abort, const struct args_handle *memory, struct handled *handled)
{
	bool is_permission = fault_type(abort) == ESR_ELx_FSC_PERM;
	u64 fault_granule = kvm_granule_size(abort->esr & ESR_ELx_FSC_LEVEL);
	bool writable = !memory->readonly && (memory->device || !memory->logging || is_write(abort));
	enum kvm_pgtable_prot prot = KVM_PGTABLE_PROT_R;
	int mmu_lock = 0;
	u64 ipa = abort->ipa, size;
	bool only_pages;
	s64 ret;
	int level;

	if (is_permission && !is_write(abort) && !is_fetch(abort))
		return -EFAULT;
	if (config.topup_rule == topup_rule_fault_status &&
	    (!is_permission || (memory->logging && is_write(abort)))) {
		ret = top_up_memcache(handled);
		if (ret)
			return ret;
	}

	level = level_of_backing(memory, &only_pages);
	size = kvm_granule_size(level);
	ipa &= -size;
	if (memory->phys >> (config.lpa2 || (config.pa_bits_52 && PAGE_SHIFT == 16) ? 52 : 48))
		return -EFAULT;
	if (is_fetch(abort) && memory->device)
		return -ENOEXEC;
	/* KVM looks for a huge page when it holds the lock already; nothing changes here in between. */
	if (level == KVM_PGTABLE_LAST_LEVEL && !only_pages && !memory->device) {
		if (is_permission && fault_granule > PAGE_SIZE) {
			size = fault_granule;
		} else if (memory->thp && lines_up(memory, kvm_granule_size(BLOCK_LEVEL))) {
			size = kvm_granule_size(BLOCK_LEVEL);
			ipa &= -size;
		}
	}
	handled->size = size;
	if (config.topup_rule == topup_rule_fault_granule && fault_granule > size) {
		ret = top_up_memcache(handled);
		if (ret)
			return ret;
	}

	lock_mmu(&mmu_lock);
	if (config.topup_rule == topup_rule_posted && fault_granule > size) {
		ret = top_up_memcache(handled);
		if (ret)
			return ret; /* so it was posted: the lock is not dropped */
	}
	if (writable)
		prot |= KVM_PGTABLE_PROT_W;
	if (is_fetch(abort))
		prot |= KVM_PGTABLE_PROT_X;
	if (memory->device)
		prot |= KVM_PGTABLE_PROT_DEVICE;
	if (is_permission && fault_granule == size)
		ret = kvm_pgtable_stage2_relax_perms(under_test->pgt, ipa, prot);
	else
		ret = map_memory(ipa, size, memory->phys & -size, prot, handled);
	unlock_mmu(&mmu_lock);
	handled->is_writable = writable && !ret;
	return ret == -EAGAIN ? 0 : ret;
}

s64 handle_abort(const struct abort *abort, const struct args_handle *memory, struct handled *handled)
{
	int mmu_lock = 0;

	*handled = (struct handled){ 0 };
	switch (fault_type(abort)) {
	case ESR_ELx_FSC_FAULT:
	case ESR_ELx_FSC_ACCESS:
	case ESR_ELx_FSC_PERM:
		break;
	default:
		return -EFAULT;
	}
	if (abort->ipa >> under_test->pgt->ia_bits)
		return -ERANGE; /* the guest gets an abort of its own */
	if (memory->readonly && is_write(abort))
		return -EFAULT; /* user space is asked, as for a device that it emulates */
	if (fault_type(abort) == ESR_ELx_FSC_ACCESS) {
		lock_mmu(&mmu_lock);
		kvm_pgtable_stage2_mkyoung(under_test->pgt, abort->ipa);
		unlock_mmu(&mmu_lock);
		return 0;
	}
	return user_mem_abort(abort, memory, handled);
}
#endif
