/* SPDX-License-Identifier: GPL-2.0-only */
/* What the functions of KVM's mmu.c and nested.c that work on memory slots take of a kernel (reference/build/hosted.py has
 * their names): slots, the VM as those see it, and what kernel/memslots.c does for them. */
#ifndef S2FUZZ_MEMSLOTS_H
#define S2FUZZ_MEMSLOTS_H

#include <linux/kvm_host.h>
#include <asm/kvm_mmu.h>
#include <asm/kvm_pgtable.h>
#include "generated.h"

#define KVM_MEM_LOG_DIRTY_PAGES (1UL << 0)
#define KVM_MEM_READONLY (1UL << 1)
#define KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE (1 << 0)
#define KVM_DIRTY_LOG_INITIALLY_SET (1 << 1)

typedef u64 gfn_t;
typedef unsigned long hva_t;

enum kvm_mr_change { KVM_MR_CREATE, KVM_MR_DELETE, KVM_MR_MOVE, KVM_MR_FLAGS_ONLY };

struct kvm_memory_slot {
	gfn_t base_gfn;
	unsigned long npages; /* 0: there is no such slot */
	unsigned long *dirty_bitmap;
	unsigned long userspace_addr;
	u32 flags;
	short id;
	u64 backing; /* as programs say it */
};

/* What the MMU notifier names of a slot. */
struct kvm_gfn_range {
	struct kvm_memory_slot *slot;
	gfn_t start;
	gfn_t end;
	bool may_block;
};

struct kvm_memslots {
	struct kvm_memory_slot of[S2FUZZ_MAX_SLOTS];
};

/* The MMUs of the VM, each as its number, table and VTCR_EL2 alone; the split cache is the first one's own. */
struct slots_mmu {
	u64 number;
	struct kvm_pgtable *pgt;
	u64 vtcr;
	u64 tlb_vttbr;
	u64 split_page_chunk_size;
	struct kvm_mmu_memory_cache split_page_cache;
	struct slots_arch *arch;
};

struct slots_arch {
	struct slots_mmu mmu;
	u64 vtcr;
	struct slots_mmu *nested_mmus[S2FUZZ_MAX_MMUS];
	int nested_mmus_size;
};

struct slots_kvm {
	struct slots_arch arch;
	struct kvm_memslots slots;
	struct mutex slots_lock;
	rwlock_t mmu_lock;
	u64 manual_dirty_log_protect;
	struct {
		struct {
			u64 remote_tlb_flush_requests;
		} generic;
	} stat;
};

/* Linux's own names, for what its functions say. */
#define kvm slots_kvm
#define kvm_s2_mmu slots_mmu

/* kvm_mmu.h declares these, of its own MMUs. */
#define kvm_stage2_unmap_range slots_unmap_range
#define kvm_stage2_flush_range slots_clean_range
#define kvm_stage2_wp_range slots_protect_range

#undef kvm_call_hyp
#define kvm_call_hyp(function, mmu) slots_##function(mmu)
#define kvm_tlb_flush_vmid_range(mmu, addr, size) slots_flush_range((mmu)->number, addr, size)
#define kvm_pgtable_stage2_split(pgt, addr, size, cache) ((void)(pgt), (void)(cache), slots_split(addr, size))
#define kvm_s2_mmu_to_kvm(mmu) container_of((mmu)->arch, struct slots_kvm, arch)
#define kvm_s2_mmu_valid(mmu) ((mmu)->pgt != NULL)
#define kvm_flush_remote_tlbs_memslot(kvm, slot) slots_flush_remote_tlbs(kvm, slot)
#define kvm_memslots(kvm) (&(kvm)->slots)
#define id_to_memslot(slots, id) ((slots)->of[id].npages ? &(slots)->of[id] : NULL)
#define kvm_dirty_log_manual_protect_and_init_set(kvm) \
	(!!((kvm)->manual_dirty_log_protect & KVM_DIRTY_LOG_INITIALLY_SET))

/* Those of one cache, whatever the pointer. */
#define kvm_mmu_memory_cache_nr_free_objects(cache) ((void)(cache), (int)slots_cache_level())
#define kvm_mmu_free_memory_cache(cache) ((void)(cache), slots_cache_drain())
#define __kvm_mmu_topup_memory_cache(cache, capacity, min) ((void)(cache), slots_cache_top_up(capacity, min))

#define slots___kvm_tlb_flush_vmid(mmu) slots_flush_vmid((mmu)->number)

#define __ffs(mask) ((unsigned long)__builtin_ctzl(mask))
#define __fls(mask) (63ul - __builtin_clzl(mask))
#define rwlock_needbreak(lock) ((void)(lock), 0)
#ifndef PMD_SIZE
#define PMD_SIZE (1ul << (2 * PAGE_SHIFT - 3))
#endif
#ifndef PUD_SIZE
#define PUD_SIZE (1ul << (3 * PAGE_SHIFT - 6))
#endif

/* 6.1 looks at an old entry as at one of the host's; the bits are in the same places. */
#define pte_t u64
#define __pte(entry) (entry)
#define pte_valid(entry) (!!((entry) & PTE_VALID))
#define pte_young(entry) (!!((entry) & PTE_AF))

/* No VMA is there to forbid anything. */
#define VM_PFNMAP 1
#define VM_SHARED 2
struct slots_vma {
	unsigned long vm_end, vm_flags;
};
#define vm_area_struct slots_vma
#define current ((struct { void *mm; } *)NULL)
#define mmap_read_lock(mm) s2fuzz_might_sleep()
#define mmap_read_unlock(mm) do { } while (0)
#define find_vma_intersection(mm, start, end) ((struct slots_vma *)NULL)
#define kvm_has_mte(kvm) 0
#define kvm_vma_mte_allowed(vma) 1

/* kernel/slots.h; not included, for that is no header of the shim's. */
void slots_flush_vmid(u64 mmu);
void slots_flush_range(u64 mmu, u64 start, u64 size);
int slots_split(u64 addr, u64 size);
u64 slots_cache_level(void);
void slots_cache_drain(void);
int slots_cache_top_up(u64 capacity, u64 min);
void slots_flush_remote_tlbs(struct kvm *kvm, struct kvm_memory_slot *slot);

/* Linux's. */
void kvm_stage2_unmap_range(struct kvm_s2_mmu *mmu, phys_addr_t start, u64 size, bool may_block);
void kvm_stage2_flush_range(struct kvm_s2_mmu *mmu, phys_addr_t addr, phys_addr_t end);
void kvm_stage2_wp_range(struct kvm_s2_mmu *mmu, phys_addr_t addr, phys_addr_t end);
int kvm_arch_prepare_memory_region(struct kvm *kvm, const struct kvm_memory_slot *old, struct kvm_memory_slot *new,
				   enum kvm_mr_change change);
void kvm_arch_commit_memory_region(struct kvm *kvm, struct kvm_memory_slot *old, const struct kvm_memory_slot *new,
				   enum kvm_mr_change change);
void kvm_arch_flush_shadow_memslot(struct kvm *kvm, struct kvm_memory_slot *slot);
void kvm_arch_mmu_enable_log_dirty_pt_masked(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn_offset,
					     unsigned long mask);
bool kvm_unmap_gfn_range(struct kvm *kvm, struct kvm_gfn_range *range);
bool kvm_age_gfn(struct kvm *kvm, struct kvm_gfn_range *range);
bool kvm_test_age_gfn(struct kvm *kvm, struct kvm_gfn_range *range);
void kvm_nested_s2_wp(struct kvm *kvm);
void kvm_nested_s2_unmap(struct kvm *kvm, bool may_block);
void kvm_nested_s2_flush(struct kvm *kvm);
int kvm_arch_flush_remote_tlbs(struct kvm *kvm);
int kvm_arch_flush_remote_tlbs_range(struct kvm *kvm, gfn_t gfn, u64 nr_pages);
void kvm_flush_remote_tlbs(struct kvm *kvm);

#endif
