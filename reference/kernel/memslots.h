/* SPDX-License-Identifier: GPL-2.0-only */
/* memslots.c: the memory slots of VMs and their logs, as user space changes them by ioctls. The functions of Linux's that do
 * the work in its tables have a VM of their own there, for their structures and those of other files may be compiled from
 * different headers. */
#ifndef S2FUZZ_KERNEL_MEMSLOTS_H
#define S2FUZZ_KERNEL_MEMSLOTS_H

#include "kernel.h"

struct kvm_pgtable;

#define SLOT_LOGGED 1ul
#define SLOT_READONLY 2ul

struct slot_region {
	u64 ipa, size, phys, flags, backing;
};

/* There is none of any VM. */
void memslots_reset(void);
/* What follows is about that VM, known by the number of its first MMU; none of its MMUs is shown. */
void memslots_use(u64 number);
/* An MMU of it with a table of its own; the first one before others. */
void memslots_show(u64 number, struct kvm_pgtable *pgt, u64 vtcr);
/* The VM has ended. */
void memslots_end(u64 number);

/* How logs work from now on: flags of KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2; and how much of a block is split at a time
 * (KVM_CAP_ARM_EAGER_SPLIT_CHUNK_SIZE). */
void memslots_log_by(u64 flags);
s64 memslots_split_by(u64 chunk);
bool memslots_are_there(void);

/* Of a slot that is there, what it is; false: it is not. */
bool memslots_get(u64 slot, struct slot_region *region);
/* KVM_SET_USER_MEMORY_REGION: a size of 0 removes the slot. */
s64 memslots_set(u64 slot, const struct slot_region *region);
s64 memslots_flush(u64 slot);
/* The host's MMU notifier, of a range of the guest's addresses that is not empty and does not wrap: the memory goes; its
 * access flags are cleared (`young`: whether any was set), with what TLBs hold or not; or only looked at. */
s64 memslots_unmap(u64 ipa, u64 size);
s64 memslots_age(u64 ipa, u64 size, bool flush, bool *young);
s64 memslots_test_age(u64 ipa, u64 size, bool *young);
/* KVM_GET_DIRTY_LOG, and KVM_CLEAR_DIRTY_LOG of what that has told last; `pages` is how many it was about. */
s64 memslots_log(u64 slot, u64 *pages);
s64 memslots_clear_log(u64 slot, u64 first, u64 count, u64 *pages);

/* The memory behind an address: by its own, or by that of the memory. */
struct slot_page {
	u64 slot, ipa, phys, backing;
	bool is_logging, is_readonly;
};
bool memslots_find(u64 ipa, struct slot_page *page);
/* Whether a block of that size around a page lies in its slot. */
bool memslots_fit(const struct slot_page *page, u64 size);
/* Whether it is logged that it was written. */
bool memslots_mark_dirty(const struct slot_page *page);

#endif
