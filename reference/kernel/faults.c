// SPDX-License-Identifier: GPL-2.0-only
/* What a program lets go wrong: allocations that fail, and entries that somebody else has written. Its twins are
 * harness/model/boundary.py, and PageTable.locate() in pgtable/table.py. */
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include "kernel.h"
#include "faults.h"
#include "under_test.h"

static u64 allocs_to_failure; /* counted from the next one; 0: none fails */

/* What somebody else does to an entry before a cmpxchg of it, counted as above. */
static struct {
	u64 nth;
	kvm_pte_t pte;
} race;

void faults_reset(void)
{
	allocs_to_failure = 0;
	race.nth = 0;
}

void fault_fail_alloc(u64 nth)
{
	allocs_to_failure = nth;
}

bool fault_fails_now(void)
{
	return allocs_to_failure && !--allocs_to_failure;
}

static bool is_table(kvm_pte_t pte, s8 level)
{
	return level < KVM_PGTABLE_LAST_LEVEL && (pte & 3) == 3;
}

static u64 index_at(u64 ipa, s8 level)
{
	return (ipa >> kvm_granule_shift(level)) & (PTRS_PER_PTE - 1);
}

/* Where the entry of that level is that translates `ipa`. -EINVAL where no such entry can be; -ENOENT where the walk of
 * `ipa` ends above that level, or leads out of the pool (as only a bug of a hosted file can make it). */
s64 fault_locate(const struct kvm_pgtable *pgt, u64 ipa, s8 level, kvm_pte_t **ptep)
{
	kvm_pte_t *table = (kvm_pte_t *)pgt->pgd;

	if (!table || ipa >= BIT(pgt->ia_bits) || level < pgt->start_level)
		return -EINVAL;
	table += (ipa >> kvm_granule_shift(pgt->start_level - 1)) * PTRS_PER_PTE;
	for (s8 at = pgt->start_level; at < level; at++) {
		kvm_pte_t pte = table[index_at(ipa, at)];

		if (!is_table(pte, at) || !pool_has(kvm_pte_to_phys(pte)))
			return -ENOENT;
		table = pool_to_virt(kvm_pte_to_phys(pte));
	}
	*ptep = &table[index_at(ipa, level)];
	return 0;
}

/* Writes an entry, and keeps the references of its page by the rule for counted entries. */
void fault_write(kvm_pte_t *ptep, kvm_pte_t pte)
{
	u64 pa = pool_to_phys(ptep);

	event(event_planted, pa, pte);
	if (*ptep && !pte)
		pool_put(pa);
	else if (!*ptep && pte)
		pool_get(pa);
	*(volatile kvm_pte_t *)ptep = pte;
}

/* Writes an entry. A table must have no address: it gets a fresh page's, for any other could make the hosted file read
 * what is no table. */
s64 fault_plant(kvm_pte_t *ptep, s8 level, kvm_pte_t pte)
{
	u64 child;

	if (is_table(pte, level)) {
		if (kvm_pte_to_phys(pte))
			return -EFAULT;
		count_boundary();
		child = pool_alloc(under_test->table->number);
		op_event(event_zalloc_page, child, 0);
		if (child == NO_PAGE)
			return -ENOMEM;
		pte |= kvm_phys_to_pte(child);
	}
	fault_write(ptep, pte);
	return 0;
}

void fault_race(u64 nth, kvm_pte_t pte)
{
	race.nth = nth;
	race.pte = pte;
}

#define NO_LEVEL ((s8)(KVM_PGTABLE_LAST_LEVEL + 1))

/* The level of the entry at `ptep`, which is somewhere below a run of table pages; it is all that a cmpxchg knows. */
static s8 level_below(const kvm_pte_t *table, u64 entries, s8 level, const kvm_pte_t *ptep)
{
	s8 found = NO_LEVEL;

	if (ptep >= table && ptep < table + entries)
		return level;
	for (u64 i = 0; i < entries && found == NO_LEVEL; i++)
		if (is_table(table[i], level) && pool_has(kvm_pte_to_phys(table[i])))
			found = level_below(pool_to_virt(kvm_pte_to_phys(table[i])), PTRS_PER_PTE, level + 1, ptep);
	return found;
}

void fault_before_cmpxchg(kvm_pte_t *ptep)
{
	const struct kvm_pgtable *pgt = under_test->pgt;
	u64 root_entries;
	s8 level;

	if (!race.nth || --race.nth)
		return;
	root_entries = root_size(under_test) / sizeof(*ptep);
	level = level_below((kvm_pte_t *)pgt->pgd, root_entries, pgt->start_level, ptep);
	if (level != NO_LEVEL)
		fault_plant(ptep, level, race.pte);
}
