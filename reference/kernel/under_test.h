/* SPDX-License-Identifier: GPL-2.0-only */
/* under_test.c: the table under test, its MMU and its caches of pages. */
#ifndef S2FUZZ_UNDER_TEST_H
#define S2FUZZ_UNDER_TEST_H

#include "tree.h"

/* A stage-2 abort: the syndrome, as the op `fault` yields it, and the page of IPA. */
struct abort {
	u64 esr, ipa;
};

struct under_test {
	u64 number; /* in observations */
	struct kvm_pgtable pgt;
	struct kvm_s2_mmu mmu;
	/* Bytes of what was last asked for by zalloc_pages_exact(): that is init's, of the root. */
	u64 last_exact_size;
	/* That the vCPU keeps, of the last `fault`. */
	bool has_aborted;
	struct abort abort;
};

extern struct under_test under_test;
extern struct kvm_mmu_memory_cache memcache;
extern struct kvm_mmu_memory_cache *const split_cache;

/* There is no table yet, and the caches are empty. */
void under_test_reset(void);

bool is_hyp(void);

/* A tree of tables: where its root is, in how many pages, of which level, for how many bits of address (0: for those
 * below its level alone). */
struct root {
	u64 pa, pages;
	s64 level;
	u64 ia_bits;
};

/* Of the root that init made last, in bytes. */
u64 root_size(struct kvm_s2_mmu *mmu);

/* The root, if there is a table. */
bool under_test_root(struct root *root);

/* Fills a cache up to so many pages, or returns -ENOMEM. */
int top_up(struct kvm_mmu_memory_cache *cache, u64 pages);

/* `arg` is 0 for no memcache, else one more than the pages it is to hold (as user_mem_abort() tops it up first). */
int choose_memcache(u64 arg, struct kvm_mmu_memory_cache **cache);

#endif
