// SPDX-License-Identifier: GPL-2.0-only
/* Memory slots: what virt/kvm/kvm_main.c has of them, for one address space and a few slots of each VM, around Linux's
 * own functions of arch/arm64/kvm/mmu.c and nested.c that do the work in the tables. Where a tree has no MMUs but the first
 * one, what it would owe the others is done here. */
#define S2FUZZ_HOSTED_SIDE
#include <s2fuzz/memslots.h>
#include "memslots.h"
#include "slots.h"
#include "declared.h"

#if !S2FUZZ_HAS_memslot_add
void memslots_reset(void)
{
}

void memslots_end(u64 number)
{
}
#else
#define WORD 64

/* By the number of the VM's first MMU. */
static struct vm {
	struct kvm kvm;
	u64 logs[S2FUZZ_MAX_SLOTS][S2FUZZ_MAX_LOGGED / WORD];
	u64 told[S2FUZZ_MAX_SLOTS][S2FUZZ_MAX_LOGGED / WORD]; /* user space's copy */
	bool is_used; /* since the last reset */
} vms[S2FUZZ_MAX_MMUS];
static struct vm *in_use = vms;
static struct kvm *vm = &vms[0].kvm;
static struct slots_mmu others[S2FUZZ_MAX_MMUS];

static bool is_multiple(u64 value, u64 unit)
{
	return !(value & (unit - 1));
}

void memslots_reset(void)
{
	for (u64 number = 0; number < S2FUZZ_MAX_MMUS; number++)
		memslots_end(number);
}

void memslots_end(u64 number)
{
	if (vms[number].is_used)
		memset(&vms[number].kvm, 0, sizeof(vms[number].kvm));
	vms[number].is_used = false;
}

void memslots_use(u64 number)
{
	in_use = &vms[number];
	in_use->is_used = true;
	vm = &in_use->kvm;
	vm->arch.nested_mmus_size = 0;
	vm->arch.mmu.pgt = NULL;
}

void memslots_show(u64 number, struct kvm_pgtable *pgt, u64 vtcr)
{
	bool is_first = number == (u64)(in_use - vms);
	struct slots_mmu *mmu = is_first ? &vm->arch.mmu : &others[number];

	mmu->number = number;
	mmu->pgt = pgt;
	mmu->vtcr = vtcr;
	mmu->arch = &vm->arch;
	if (is_first)
		vm->arch.vtcr = vtcr;
	else
		vm->arch.nested_mmus[vm->arch.nested_mmus_size++] = mmu;
}

void memslots_log_by(u64 flags)
{
	vm->manual_dirty_log_protect = flags;
}

bool memslots_are_there(void)
{
	for (u64 slot = 0; slot < S2FUZZ_MAX_SLOTS; slot++)
		if (vm->slots.of[slot].npages)
			return true;
	return false;
}

s64 memslots_split_by(u64 chunk)
{
	if (memslots_are_there() || (chunk && !S2FUZZ_HAS_split))
		return -EINVAL;
	vm->arch.mmu.split_page_chunk_size = chunk;
	return 0;
}

bool memslots_get(u64 slot, struct slot_region *region)
{
	const struct kvm_memory_slot *one = id_to_memslot(&vm->slots, slot);

	if (!one)
		return false;
	*region = (struct slot_region){
		.ipa = one->base_gfn << PAGE_SHIFT,
		.size = one->npages << PAGE_SHIFT,
		.phys = one->userspace_addr,
		.flags = one->flags,
		.backing = one->backing,
	};
	return true;
}

#if !S2FUZZ_HAS_NESTED_MMU
/* Of such a tree, every MMU but the first is of our design: all that it maps goes, or is protected, as Linux has it since
 * there are such MMUs. Then what was protected is invalidated under each VMID. */
static void in_others(int (*fn)(struct kvm_pgtable *, u64, u64))
{
	for (int i = 0; i < vm->arch.nested_mmus_size; i++)
		fn(vm->arch.nested_mmus[i]->pgt, 0, 1ul << VTCR_EL2_IPA(vm->arch.nested_mmus[i]->vtcr));
}

static void flush_others(void)
{
	for (int i = 0; i < vm->arch.nested_mmus_size; i++)
		slots_flush_vmid(vm->arch.nested_mmus[i]->number);
}

void slots_flush_remote_tlbs(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	kvm_flush_remote_tlbs(kvm);
}

static void flush_remote_tlbs(void)
{
	kvm_flush_remote_tlbs(vm);
}
#else
static void in_others(int (*fn)(struct kvm_pgtable *, u64, u64))
{
}

static void flush_others(void)
{
}

void slots_flush_remote_tlbs(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	kvm_arch_flush_remote_tlbs_range(kvm, slot->base_gfn, slot->npages);
}

static void flush_remote_tlbs(void)
{
	kvm_arch_flush_remote_tlbs(vm);
}
#endif

static bool overlaps(u64 slot, u64 base, u64 npages)
{
	for (u64 other = 0; other < S2FUZZ_MAX_SLOTS; other++) {
		const struct kvm_memory_slot *one = &vm->slots.of[other];

		if (other != slot && one->npages && one->base_gfn < base + npages && base < one->base_gfn + one->npages)
			return true;
	}
	return false;
}

static void flush_shadow(struct kvm_memory_slot *slot)
{
	kvm_arch_flush_shadow_memslot(vm, slot);
	in_others(kvm_pgtable_stage2_unmap);
}

static s64 make_log(struct kvm_memory_slot *new)
{
	u64 words = DIV_ROUND_UP(new->npages, WORD), *log = in_use->logs[new->id];

	if (new->npages > S2FUZZ_MAX_LOGGED)
		return -ENOMEM;
	memset(log, 0, words * sizeof(*log));
	memset(in_use->told[new->id], 0, words * sizeof(*log));
	if (kvm_dirty_log_manual_protect_and_init_set(vm))
		for (u64 page = 0; page < new->npages; page++)
			log[page / WORD] |= 1ul << page % WORD;
	new->dirty_bitmap = log;
	return 0;
}

static s64 prepare(const struct kvm_memory_slot *old, struct kvm_memory_slot *new, enum kvm_mr_change change)
{
	s64 ret = 0;

	if (!(new->flags & KVM_MEM_LOG_DIRTY_PAGES))
		new->dirty_bitmap = NULL;
	else if (!new->dirty_bitmap)
		ret = make_log(new);
	return ret ?: kvm_arch_prepare_memory_region(vm, old, new, change);
}

/* As kvm_set_memslot() does: what goes, or moves, is unmapped before anything else is asked. */
static s64 change_slot(struct kvm_memory_slot *slot, struct kvm_memory_slot *new, enum kvm_mr_change change)
{
	struct kvm_memory_slot old = *slot;
	s64 ret;

	if (change == KVM_MR_DELETE || change == KVM_MR_MOVE)
		flush_shadow(&old);
	if (change == KVM_MR_DELETE) {
		ret = kvm_arch_prepare_memory_region(vm, &old, NULL, change);
		if (ret)
			return ret;
		slot->npages = 0;
		kvm_arch_commit_memory_region(vm, &old, NULL, change);
		return 0;
	}
	ret = prepare(change == KVM_MR_CREATE ? NULL : &old, new, change);
	if (ret)
		return ret;
	*slot = *new;
	kvm_arch_commit_memory_region(vm, change == KVM_MR_CREATE ? NULL : &old, slot, change);
	if (slot->dirty_bitmap && !kvm_dirty_log_manual_protect_and_init_set(vm)) {
		in_others(kvm_pgtable_stage2_wrprotect);
		flush_others();
	}
	return 0;
}

static bool wraps(u64 start, u64 size)
{
	return start + size < start;
}

static s64 set_slot(u64 slot, const struct slot_region *region)
{
	struct kvm_memory_slot *old = &vm->slots.of[slot], new = {
		.base_gfn = region->ipa >> PAGE_SHIFT,
		.npages = region->size >> PAGE_SHIFT,
		.userspace_addr = region->phys,
		.flags = region->flags,
		.id = slot,
		.backing = region->backing,
	};
	enum kvm_mr_change change = KVM_MR_CREATE;

	if (!is_multiple(region->size | region->ipa | region->phys, PAGE_SIZE) || new.npages > S2FUZZ_MAX_SLOT_PAGES ||
	    wraps(region->ipa, region->size) || wraps(region->phys, region->size))
		return -EINVAL;
	if (!region->size)
		return old->npages ? change_slot(old, NULL, KVM_MR_DELETE) : -EINVAL;
	if (old->npages) {
		if (new.userspace_addr != old->userspace_addr || new.npages != old->npages ||
		    ((new.flags ^ old->flags) & KVM_MEM_READONLY))
			return -EINVAL;
		if (new.base_gfn != old->base_gfn)
			change = KVM_MR_MOVE;
		else if (new.flags != old->flags)
			change = KVM_MR_FLAGS_ONLY;
		else
			return 0;
		new.dirty_bitmap = old->dirty_bitmap;
	}
	if (change != KVM_MR_FLAGS_ONLY && overlaps(slot, new.base_gfn, new.npages))
		return -EEXIST;
	return change_slot(old, &new, change);
}

s64 memslots_set(u64 slot, const struct slot_region *region)
{
	s64 ret;

	mutex_lock(&vm->slots_lock);
	ret = set_slot(slot, region);
	mutex_unlock(&vm->slots_lock);
	return ret;
}

s64 memslots_flush(u64 slot)
{
	struct kvm_memory_slot *one = id_to_memslot(&vm->slots, slot);

	if (!one)
		return -EINVAL;
	flush_shadow(one);
	return 0;
}

#if S2FUZZ_HAS_memslot_unmap || S2FUZZ_HAS_memslot_age || S2FUZZ_HAS_memslot_test_age
typedef bool (*notified)(struct kvm *, struct kvm_gfn_range *);

/* As kvm_handle_hva_range() goes through slots, by the guest's addresses, with the lock held: each is told of the pages
 * that it has of [start, end). */
static bool notify(u64 start, u64 end, notified handler)
{
	bool ret = false;

	for (u64 slot = 0; slot < S2FUZZ_MAX_SLOTS; slot++) {
		struct kvm_memory_slot *one = &vm->slots.of[slot];
		u64 first = one->base_gfn << PAGE_SHIFT;
		u64 from = max(start, first), to = min(end, first + (one->npages << PAGE_SHIFT));

		if (from < to)
			ret |= handler(vm, &(struct kvm_gfn_range){
						    .slot = one,
						    .start = from >> PAGE_SHIFT,
						    .end = DIV_ROUND_UP(to, PAGE_SIZE),
						    .may_block = true,
					    });
	}
	return ret;
}
#endif

#if S2FUZZ_HAS_memslot_unmap
static bool unmap_everywhere(struct kvm *kvm, struct kvm_gfn_range *range)
{
	bool ret = kvm_unmap_gfn_range(kvm, range);

	in_others(kvm_pgtable_stage2_unmap);
	return ret;
}

s64 memslots_unmap(u64 ipa, u64 size)
{
	if (ipa + size <= ipa)
		return -EINVAL;
	write_lock(&vm->mmu_lock);
	if (notify(ipa, ipa + size, unmap_everywhere))
		flush_remote_tlbs();
	write_unlock(&vm->mmu_lock);
	return 0;
}
#endif

#if S2FUZZ_HAS_memslot_age
/* Other tables keep their access flags, in Linux, too. */
s64 memslots_age(u64 ipa, u64 size, bool flush, bool *young)
{
	if (ipa + size <= ipa)
		return -EINVAL;
	write_lock(&vm->mmu_lock);
	*young = notify(ipa, ipa + size, kvm_age_gfn);
	if (*young && flush)
		flush_remote_tlbs();
	write_unlock(&vm->mmu_lock);
	return 0;
}
#endif

#if S2FUZZ_HAS_memslot_test_age
s64 memslots_test_age(u64 ipa, u64 size, bool *young)
{
	if (ipa + size <= ipa)
		return -EINVAL;
	write_lock(&vm->mmu_lock);
	*young = notify(ipa, ipa + size, kvm_test_age_gfn);
	write_unlock(&vm->mmu_lock);
	return 0;
}
#endif

static u64 tell(enum event kind, const struct kvm_memory_slot *slot, u64 word, u64 mask)
{
	u64 pages = 0;

	for (u64 bit = 0; bit < WORD; bit++) {
		if (!(mask & 1ul << bit))
			continue;
		event(kind, (slot->base_gfn + word * WORD + bit) << PAGE_SHIFT, 0);
		pages++;
	}
	return pages;
}

/* Clears bits that are set, and has those pages write-protected. */
static void clear_word(struct kvm_memory_slot *slot, u64 word, u64 mask)
{
	slot->dirty_bitmap[word] &= ~mask;
	tell(event_log_cleared, slot, word, mask);
	kvm_arch_mmu_enable_log_dirty_pt_masked(vm, slot, word * WORD, mask);
	in_others(kvm_pgtable_stage2_wrprotect);
}

static void flush_slot(struct kvm_memory_slot *slot)
{
	slots_flush_remote_tlbs(vm, slot);
	flush_others();
}

static struct kvm_memory_slot *logged_slot(u64 slot)
{
	struct kvm_memory_slot *one = id_to_memslot(&vm->slots, slot);

	return one && one->dirty_bitmap ? one : NULL;
}

s64 memslots_log(u64 slot, u64 *pages)
{
	struct kvm_memory_slot *one = logged_slot(slot);
	u64 *told = in_use->told[slot];
	bool flush = false;
	u64 words;

	if (!one)
		return -ENOENT;
	words = DIV_ROUND_UP(one->npages, WORD);
	memcpy(told, one->dirty_bitmap, words * sizeof(u64));
	if (!vm->manual_dirty_log_protect) {
		write_lock(&vm->mmu_lock);
		for (u64 word = 0; word < words; word++) {
			if (!told[word])
				continue;
			flush = true;
			clear_word(one, word, told[word]);
		}
		write_unlock(&vm->mmu_lock);
	}
	if (flush)
		flush_slot(one);
	for (u64 word = 0; word < words; word++)
		*pages += tell(event_log_told, one, word, told[word]);
	return 0;
}

s64 memslots_clear_log(u64 slot, u64 first, u64 count, u64 *pages)
{
	struct kvm_memory_slot *one;
	bool flush = false;

	if (!is_multiple(first, WORD))
		return -EINVAL;
	one = logged_slot(slot);
	if (!one)
		return -ENOENT;
	if (first > one->npages)
		return -EINVAL;
	count = count ?: one->npages - first;
	if (count > one->npages - first || (count < one->npages - first && !is_multiple(count, WORD)))
		return -EINVAL;
	write_lock(&vm->mmu_lock);
	for (u64 word = first / WORD; word < DIV_ROUND_UP(first + count, WORD); word++) {
		u64 mask = in_use->told[slot][word] & one->dirty_bitmap[word];

		if (!mask)
			continue;
		flush = true;
		*pages += __builtin_popcountl(mask);
		clear_word(one, word, mask);
	}
	write_unlock(&vm->mmu_lock);
	if (flush)
		flush_slot(one);
	return 0;
}

bool memslots_find(u64 ipa, struct slot_page *page)
{
	u64 gfn = ipa >> PAGE_SHIFT;

	for (u64 slot = 0; slot < S2FUZZ_MAX_SLOTS; slot++) {
		const struct kvm_memory_slot *one = &vm->slots.of[slot];

		if (gfn - one->base_gfn >= one->npages)
			continue;
		*page = (struct slot_page){
			.slot = slot,
			.ipa = gfn << PAGE_SHIFT,
			.phys = one->userspace_addr + ((gfn - one->base_gfn) << PAGE_SHIFT),
			.backing = one->backing,
			.is_logging = one->dirty_bitmap && !(one->flags & KVM_MEM_READONLY),
			.is_readonly = one->flags & KVM_MEM_READONLY,
		};
		return true;
	}
	return false;
}

bool memslots_fit(const struct slot_page *page, u64 size)
{
	const struct kvm_memory_slot *one = &vm->slots.of[page->slot];
	u64 start = page->ipa & -size, base = one->base_gfn << PAGE_SHIFT;

	return start >= base && start + size <= base + (one->npages << PAGE_SHIFT);
}

bool memslots_mark_dirty(const struct slot_page *page)
{
	struct kvm_memory_slot *one = &vm->slots.of[page->slot];
	u64 bit = (page->ipa >> PAGE_SHIFT) - one->base_gfn;

	if (!one->dirty_bitmap)
		return false;
	one->dirty_bitmap[bit / WORD] |= 1ul << bit % WORD;
	return true;
}
#endif
