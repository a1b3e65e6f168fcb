// SPDX-License-Identifier: GPL-2.0-only
/* A table: its making, its entries, its end. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"

static bool force_always(u64 addr, u64 end, enum kvm_pgtable_prot prot)
{
	return true;
}

/* Like pKVM's host_stage2_force_pte_cb(), for memory. */
static bool force_unless_rwx(u64 addr, u64 end, enum kvm_pgtable_prot prot)
{
	return prot != PKVM_HOST_MEM_PROT;
}

static const kvm_pgtable_force_pte_cb_t force_pte_cbs[] = {
	[force_pte_never] = NULL,
	[force_pte_always] = force_always,
	[force_pte_unless_rwx] = force_unless_rwx,
};

/* An ID register with another value in one of its fields. */
static u64 with_field(u64 id, int shift, u64 value)
{
	return (id & ~(0xful << shift)) | value << shift;
}

static int init_stage2(void)
{
	enum kvm_pgtable_stage2_flags flags;
	u64 mmfr0, mmfr1;

	/* The CPU's own, but for what the machine says. */
	asm volatile("mrs %0, id_aa64mmfr0_el1" : "=r"(mmfr0));
	asm volatile("mrs %0, id_aa64mmfr1_el1" : "=r"(mmfr1));
	mmfr0 = with_field(mmfr0, ID_AA64MMFR0_EL1_PARANGE_SHIFT, config.parange);
	mmfr1 = with_field(mmfr1, ID_AA64MMFR1_EL1_VMIDBits_SHIFT, config.vmid_bits ? 2 : 0);
	*vtcr_of(&under_test.mmu) = kvm_get_vtcr(mmfr0, mmfr1, config.ia_bits);
	under_test.mmu.pgt = &under_test.pgt;
	flags = (config.nofwb ? KVM_PGTABLE_S2_NOFWB : 0) | (config.idmap ? KVM_PGTABLE_S2_IDMAP : 0);
	return __kvm_pgtable_stage2_init(&under_test.pgt, &under_test.mmu, &mm_ops, flags,
					 force_pte_cbs[config.force_pte]);
}

/* The page of the guest's code, in an empty table: it takes a table of every level below the root's. A tree without map
 * has no guests. */
static int map_stub(void)
{
#if S2FUZZ_HAS_map
	return top_up(&memcache, KVM_PGTABLE_LAST_LEVEL - (s8)under_test.pgt.start_level) ?:
	       kvm_pgtable_stage2_map(&under_test.pgt, GUEST_STUB, PAGE_SIZE, GUEST_STUB,
				      KVM_PGTABLE_PROT_R | KVM_PGTABLE_PROT_X, &memcache
#if S2FUZZ_HAS_MAP_FLAGS
				      , 0
#endif
				      );
#else
	return -EOPNOTSUPP;
#endif
}

s64 op_init(const struct args_init *args)
{
	int ret = is_hyp() ? kvm_pgtable_hyp_init(&under_test.pgt, config.va_bits, &mm_ops) : init_stage2();
	struct root root;

	if (ret || !under_test_root(&root))
		return ret;
	under_test.mmu.pgd_phys = root.pa;
	if (config.guest && !is_hyp())
		ret = map_stub();
	if (ret)
		return ret;
	op_out(*vtcr_of(&under_test.mmu));
	op_out(root.ia_bits);
	op_out(root.level);
	op_out(root.pages);
	return 0;
}

#if S2FUZZ_HAS_map
s64 op_map(const struct args_map *args)
{
	struct kvm_mmu_memory_cache *cache;

	return choose_memcache(args->mc, &cache) ?:
#if S2FUZZ_HAS_MAP_FLAGS
	       kvm_pgtable_stage2_map(&under_test.pgt, args->ipa, args->size, args->phys, args->prot, cache, args->flags);
#else
	       kvm_pgtable_stage2_map(&under_test.pgt, args->ipa, args->size, args->phys, args->prot, cache);
#endif
}
#endif

#if S2FUZZ_HAS_unmap
s64 op_unmap(const struct args_unmap *args)
{
	return kvm_pgtable_stage2_unmap(&under_test.pgt, args->ipa, args->size);
}
#endif

#if S2FUZZ_HAS_set_owner
s64 op_set_owner(const struct args_set_owner *args)
{
	struct kvm_mmu_memory_cache *cache;

	return choose_memcache(args->mc, &cache) ?:
	       kvm_pgtable_stage2_set_owner(&under_test.pgt, args->ipa, args->size, cache, args->owner);
}
#endif

#if S2FUZZ_HAS_get_leaf
s64 op_get_leaf(const struct args_get_leaf *args)
{
	kvm_pte_t pte;
#if S2FUZZ_HAS_SIGNED_LEVELS
	s8 level;
#else
	u32 level;
#endif
	int ret = kvm_pgtable_get_leaf(&under_test.pgt, args->ipa, &pte, &level);

	if (ret)
		return ret;
	op_out(pte);
	op_out(level);
	return 0;
}
#endif

#if S2FUZZ_HAS_destroy
s64 op_destroy(const struct args_destroy *args)
{
	if (is_hyp())
		kvm_pgtable_hyp_destroy(&under_test.pgt);
	else
		kvm_pgtable_stage2_destroy(&under_test.pgt);
	return 0;
}
#endif

#if S2FUZZ_HAS_wrprotect
s64 op_wrprotect(const struct args_wrprotect *args)
{
	return kvm_pgtable_stage2_wrprotect(&under_test.pgt, args->ipa, args->size);
}
#endif

#if S2FUZZ_HAS_mkyoung
s64 op_mkyoung(const struct args_mkyoung *args)
{
	op_out(kvm_pgtable_stage2_mkyoung(&under_test.pgt, args->ipa));
	return 0;
}
#endif

#if S2FUZZ_HAS_test_clear_young
s64 op_test_clear_young(const struct args_test_clear_young *args)
{
	op_out(kvm_pgtable_stage2_test_clear_young(&under_test.pgt, args->ipa, args->size, args->mkold));
	return 0;
}
#endif

#if S2FUZZ_HAS_mkold
s64 op_mkold(const struct args_mkold *args)
{
	op_out(kvm_pgtable_stage2_mkold(&under_test.pgt, args->ipa));
	return 0;
}
#endif

#if S2FUZZ_HAS_is_young
s64 op_is_young(const struct args_is_young *args)
{
	op_out(kvm_pgtable_stage2_is_young(&under_test.pgt, args->ipa));
	return 0;
}
#endif

#if S2FUZZ_HAS_relax_perms
s64 op_relax_perms(const struct args_relax_perms *args)
{
	return kvm_pgtable_stage2_relax_perms(&under_test.pgt, args->ipa, args->prot);
}
#endif

#if S2FUZZ_HAS_flush
s64 op_flush(const struct args_flush *args)
{
	return kvm_pgtable_stage2_flush(&under_test.pgt, args->ipa, args->size);
}
#endif

#if S2FUZZ_HAS_pte_prot
s64 op_pte_prot(const struct args_pte_prot *args)
{
	op_out(kvm_pgtable_stage2_pte_prot(args->pte));
	return 0;
}
#endif

#if S2FUZZ_HAS_split
s64 op_split(const struct args_split *args)
{
	return top_up(split_cache, args->mc) ?:
	       kvm_pgtable_stage2_split(&under_test.pgt, args->ipa, args->size, split_cache);
}
#endif
