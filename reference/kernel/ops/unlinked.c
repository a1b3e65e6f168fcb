// SPDX-License-Identifier: GPL-2.0-only
/* Tables that no entry points to yet. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"

/* By handle. */
static struct unlinked {
	kvm_pte_t *table;
	s8 level; /* of the entry that it is for */
} unlinked[S2FUZZ_MAX_HANDLES];

struct root unlinked_root(u64 number)
{
	const struct unlinked *made = &unlinked[number];

	return (struct root){ .pa = pool_to_phys(made->table), .pages = 1, .level = made->level + 1 };
}

#if S2FUZZ_HAS_create_unlinked
static void end_unlinked(u64 number)
{
#if S2FUZZ_HAS_free_unlinked
	kvm_pgtable_stage2_free_unlinked(&mm_ops, unlinked[number].table, unlinked[number].level);
#endif
}

s64 op_create_unlinked(const struct args_create_unlinked *args)
{
	struct kvm_mmu_memory_cache *cache;
	kvm_pte_t *table;
	u64 number;
	int ret = choose_memcache(args->mc, &cache);

	if (ret)
		return ret;
	table = kvm_pgtable_stage2_create_unlinked(under_test->pgt, args->phys, args->level, args->prot, cache,
						   args->force_pte);
	if (IS_ERR(table))
		return PTR_ERR(table);
	number = handle_made(HANDLE_UNLINKED_TABLE, end_unlinked);
	unlinked[number] = (struct unlinked){ table, args->level };
	op_out(number);
	return 0;
}
#endif

#if S2FUZZ_HAS_free_unlinked
s64 op_free_unlinked(const struct args_free_unlinked *args)
{
	handle_ends(HANDLE_UNLINKED_TABLE, args->table);
	kvm_pgtable_stage2_free_unlinked(&mm_ops, unlinked[args->table].table, unlinked[args->table].level);
	return 0;
}
#endif

#if S2FUZZ_HAS_link
s64 op_link(const struct args_link *args)
{
	const struct unlinked *made = &unlinked[args->table];
	kvm_pte_t *ptep;
	s64 ret = fault_locate(under_test->pgt, args->ipa, made->level, &ptep);

	if (ret)
		return ret;
	fault_write(ptep, kvm_phys_to_pte(pool_to_phys(made->table)) | 3);
	handle_ends(HANDLE_UNLINKED_TABLE, args->table);
	return 0;
}
#endif
