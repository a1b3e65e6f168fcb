/* SPDX-License-Identifier: GPL-2.0-only */
/* under_test.c: the MMUs of all VMs, of which one is in use, with the table under test; and caches of pages. */
#ifndef S2FUZZ_UNDER_TEST_H
#define S2FUZZ_UNDER_TEST_H

#include "tree.h"

/* A stage-2 abort: the syndrome, as the op `fault` yields it, and the page of IPA. */
struct abort {
	u64 esr, ipa;
};

/* That the vCPU keeps, of the last `fault`. */
struct kept_abort {
	bool is_there;
	struct abort abort;
};

struct table {
	struct kvm_pgtable pgt;
	u64 number; /* of the MMU whose it was first */
	u64 sharers; /* MMUs that have it */
	/* Bytes of what was last asked for by zalloc_pages_exact(): that is init's, of the root. */
	u64 last_exact_size;
};

/* One of the MMUs. */
struct under_test {
	u64 number; /* in observations; 0 is that of the MMU which there is from the start */
	u64 vm; /* the number of the first MMU of its VM */
	bool was_made, lives;
	u64 vmid, own_vmid; /* what it has, and what it began with */
	s64 last_vcpu_ran[S2FUZZ_MOST_CPUS]; /* under it, by CPU; -1 where none did */
	struct table *table;
	struct kvm_pgtable *pgt; /* the table's */
	struct kvm_s2_mmu mmu;
#if !S2FUZZ_HAS_split
	struct kvm_mmu_memory_cache no_split_cache;
#endif
};

/* The one in use. */
extern struct under_test *under_test;
/* That under which the CPU that runs has a vCPU loaded, which TLB functions find running; NULL where they find what the
 * context says. */
extern struct under_test *running;
extern struct kept_abort kept_abort;
extern struct kvm_mmu_memory_cache memcache;

/* There is one MMU without a table, and the caches are empty. */
void under_test_reset(u64 vmid);

/* Another MMU, of a number that there was none of yet, and of that VM (its own number: it is the first of one): with a
 * table that is still to be initialised, or that of another MMU. VMIDs are taken for good. */
struct under_test *mmu_make(u64 number, u64 vm, u64 vmid, const struct under_test *shares);
/* It lives no more. Whether nobody has its table now. */
bool mmu_end(struct under_test *mmu);
bool vmid_is_taken(u64 vmid);

struct under_test *mmu_numbered(u64 number);
/* The first MMU of the VM in use. */
struct under_test *mmu_first(void);
/* Steps through those that live, by number; start with NULL. */
struct under_test *mmu_next(const struct under_test *mmu);
struct under_test *mmu_of(struct kvm_s2_mmu *mmu);

/* The tables that a split may take. The visitor of a split finds the MMU by where that is, so that no other will do. */
static inline struct kvm_mmu_memory_cache *split_cache_of(struct under_test *mmu)
{
#if S2FUZZ_HAS_split
	return &mmu->mmu.split_page_cache;
#else
	return &mmu->no_split_cache;
#endif
}

bool is_hyp(void);

/* A tree of tables: where its root is, in how many pages, of which level, for how many bits of address (0: for those
 * below its level alone). */
struct root {
	u64 pa, pages;
	s64 level;
	u64 ia_bits;
};

/* Of the root that init made last, in bytes. */
u64 root_size(const struct under_test *mmu);

/* The root, if there is a table: of an MMU, and of the one in use. */
bool root_of(const struct under_test *mmu, struct root *root);
bool under_test_root(struct root *root);

/* Gives a cache's pages back. */
void drain(struct kvm_mmu_memory_cache *cache);

/* Fills a cache up to so many pages, or returns -ENOMEM. */
int top_up(struct kvm_mmu_memory_cache *cache, u64 pages);

/* `arg` is 0 for no memcache, else one more than the pages it is to hold (as user_mem_abort() tops it up first). */
int choose_memcache(u64 arg, struct kvm_mmu_memory_cache **cache);

#endif
