// SPDX-License-Identifier: GPL-2.0-only
/* Memory slots as user space changes them (memslots.c), and aborts that are handled with what lies in one. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"
#include "../abort_handler.h"
#include "../memslots.h"

#if S2FUZZ_HAS_memslot_add
#define BLOCK_LEVEL (KVM_PGTABLE_LAST_LEVEL - 1)

#define BACKING(name, number) BACKING_##name = number,
enum { S2FUZZ_BACKINGS(BACKING) };
#undef BACKING

/* Linux goes through all of another MMU's table by blocks of the largest size, of which few bits of address may have very
 * many: a step is a walk, and an op has to end. */
static bool takes_too_long(const struct under_test *mmu)
{
	u64 step = kvm_granule_size(KVM_PGTABLE_MIN_BLOCK_LEVEL);

	return S2FUZZ_HAS_NESTED_MMU && mmu != mmu_first() &&
	       1ul << VTCR_EL2_IPA(*vtcr_of((struct kvm_s2_mmu *)&mmu->mmu)) > S2FUZZ_MAX_STEPS * step;
}

/* Shows the MMUs of the VM in use that have a table, those apart that share one which is shown already. No VM without its
 * first. */
static s64 show_mmus(void)
{
	struct under_test *mmu = NULL, *earlier;

	if (config.kvm_mode == kvm_mode_pkvm_host)
		return -EOPNOTSUPP;
	memslots_use(under_test->vm);
	if (!mmu_first()->pgt->pgd)
		return -EINVAL;
	while ((mmu = mmu_next(mmu))) {
		if (mmu->vm != under_test->vm)
			continue;
		earlier = mmu_next(NULL);
		while (earlier->table != mmu->table)
			earlier = mmu_next(earlier);
		if (earlier != mmu || !mmu->pgt->pgd)
			continue;
		if (takes_too_long(mmu))
			return -EFBIG;
		if (!mmu_of(mmu->pgt->mmu)->lives) /* it was the last that used this table */
			mmu->pgt->mmu = &mmu->mmu;
		memslots_show(mmu->number, mmu->pgt, *vtcr_of(&mmu->mmu));
	}
	return 0;
}

s64 op_memslot_add(const struct args_memslot_add *args)
{
	struct slot_region region = {
		args->ipa, args->size, args->phys,
		(args->logging ? SLOT_LOGGED : 0) | (args->readonly ? SLOT_READONLY : 0), args->backing
	};

	return show_mmus() ?: memslots_set(args->slot, &region);
}

/* Changes one thing of a slot that is there. */
static s64 change(u64 slot, void (*edit)(struct slot_region *region, u64 value), u64 value)
{
	struct slot_region region;
	s64 ret = show_mmus();

	if (ret)
		return ret;
	if (!memslots_get(slot, &region))
		return -EINVAL;
	edit(&region, value);
	return memslots_set(slot, &region);
}

static void set_size(struct slot_region *region, u64 value)
{
	region->size = value;
}

static void set_ipa(struct slot_region *region, u64 value)
{
	region->ipa = value;
}

static void set_logging(struct slot_region *region, u64 value)
{
	region->flags = (region->flags & ~SLOT_LOGGED) | (value ? SLOT_LOGGED : 0);
}

s64 op_memslot_remove(const struct args_memslot_remove *args)
{
	return change(args->slot, set_size, 0);
}

s64 op_memslot_move(const struct args_memslot_move *args)
{
	return change(args->slot, set_ipa, args->ipa);
}

s64 op_memslot_log(const struct args_memslot_log *args)
{
	return change(args->slot, set_logging, args->logging);
}

s64 op_memslot_flush(const struct args_memslot_flush *args)
{
	return show_mmus() ?: memslots_flush(args->slot);
}

#if S2FUZZ_HAS_memslot_unmap
s64 op_memslot_unmap(const struct args_memslot_unmap *args)
{
	return show_mmus() ?: memslots_unmap(args->ipa, args->size);
}
#endif

#if S2FUZZ_HAS_memslot_age
s64 op_memslot_age(const struct args_memslot_age *args)
{
	bool young = false;
	s64 ret = show_mmus() ?: memslots_age(args->ipa, args->size, args->flush, &young);

	op_out(young);
	return ret;
}
#endif

#if S2FUZZ_HAS_memslot_test_age
s64 op_memslot_test_age(const struct args_memslot_test_age *args)
{
	bool young = false;
	s64 ret = show_mmus() ?: memslots_test_age(args->ipa, args->size, &young);

	op_out(young);
	return ret;
}
#endif

#define LOGGING(name, number) LOGGING_##name = number,
enum { S2FUZZ_LOGGINGS(LOGGING) };
#undef LOGGING

s64 op_memslot_mode(const struct args_memslot_mode *args)
{
	s64 ret = show_mmus();

	if (!ret && (args->split || !memslots_are_there()))
		ret = memslots_split_by(args->split ? kvm_granule_size(BLOCK_LEVEL) : 0);
	if (!ret)
		memslots_log_by(args->logging == LOGGING_at_once ? 0 : args->logging == LOGGING_manual ? 1 : 3);
	return ret;
}

s64 op_memslot_dirty(const struct args_memslot_dirty *args)
{
	u64 pages = 0;
	s64 ret = show_mmus() ?: memslots_log(args->slot, &pages);

	op_out(pages);
	return ret;
}

s64 op_memslot_clear(const struct args_memslot_clear *args)
{
	u64 pages = 0;
	s64 ret = show_mmus() ?: memslots_clear_log(args->slot, args->first, args->pages, &pages);

	op_out(pages);
	return ret;
}

#if S2FUZZ_HAS_memslot_handle
/* The largest backing of which the block that it makes lies in the slot. */
static u64 backing_in_slot(const struct slot_page *page)
{
	if (page->backing == BACKING_gigabyte && kvm_level_supports_block_mapping(BLOCK_LEVEL - 1) &&
	    memslots_fit(page, kvm_granule_size(BLOCK_LEVEL - 1)))
		return BACKING_gigabyte;
	if (page->backing >= BACKING_block && memslots_fit(page, kvm_granule_size(BLOCK_LEVEL)))
		return BACKING_block;
	return BACKING_page;
}

/* As kvm_handle_guest_abort() does with the slot's memory. In a table that is not the first MMU's, the slot's address is
 * what the guest hypervisor's table says, and pages are all that it maps. */
s64 op_memslot_handle(const struct args_memslot_handle *args)
{
	bool is_nested = under_test->table != mmu_first()->table;
	struct handled handled;
	struct slot_page page;
	bool dirty = false;
	s64 ret = show_mmus();

	if (ret)
		return ret;
	if (!guest_runs())
		return -ENODEV;
	if (!kept_abort.is_there)
		return -ENOENT;
	if (!memslots_find(is_nested ? args->l1 : kept_abort.abort.ipa, &page))
		return -EFAULT;
	ret = handle_abort(&kept_abort.abort,
			   &(struct args_handle){
				   .phys = page.phys,
				   .backing = is_nested ? BACKING_page : backing_in_slot(&page),
				   .hva = (page.phys - page.ipa) >> PAGE_SHIFT,
				   .logging = page.is_logging,
				   .readonly = page.is_readonly,
			   },
			   &handled);
	if (handled.is_writable)
		dirty = memslots_mark_dirty(&page);
	op_out(handled.size);
	op_out(handled.topped_up);
	op_out(handled.added);
	op_out(handled.used);
	op_out(dirty);
	return ret;
}
#endif
#endif
