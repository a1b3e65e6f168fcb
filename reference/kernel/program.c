// SPDX-License-Identifier: GPL-2.0-only
/* The reference's half of every operation: one function each, named op_NAME, with the arguments that harness/program/definition.py
 * defines (generated.h is made from it). It returns the result code; op_out() adds the out-values. */
#define S2FUZZ_HOSTED_SIDE
#include <asm/kvm_pgtable.h>
#include <s2fuzz/machine.h>
#include "kernel.h"
#include "boundary.h"

#define FIELD(name, initial) u64 name;
static struct {
	S2FUZZ_KNOBS(FIELD)
} config;

static struct kvm_pgtable pgt;
static struct kvm_s2_mmu mmu_under_test;
static struct kvm_s2_mmu *const mmu = &mmu_under_test;
#if !S2FUZZ_HAS_MMU_VTCR
static struct kvm_arch arch;
#endif
#if S2FUZZ_HAS_split
static struct kvm_mmu_memory_cache *const split_cache = &mmu_under_test.split_page_cache;
#else
static struct kvm_mmu_memory_cache no_split_cache;
static struct kvm_mmu_memory_cache *const split_cache = &no_split_cache;
#endif
static struct kvm_mmu_memory_cache memcache;
static void *memcache_objects[S2FUZZ_CACHE_CAPACITY], *split_cache_objects[S2FUZZ_SPLIT_CACHE_CAPACITY];

/* What create_unlinked made, by number; NULL where it failed, and once the table is freed. */
static struct unlinked {
	kvm_pte_t *table;
	s8 level;
} unlinked[S2FUZZ_MAX_UNLINKED];
static u64 unlinked_made;

static bool force_always(u64 addr, u64 end, enum kvm_pgtable_prot prot)
{
	return true;
}

/* Like pKVM's host_stage2_force_pte_cb(), for memory. */
static bool force_unless_rwx(u64 addr, u64 end, enum kvm_pgtable_prot prot)
{
	return prot != PKVM_HOST_MEM_PROT;
}

/* By the value of the knob `force_pte`. */
static const kvm_pgtable_force_pte_cb_t force_pte_cbs[] = { NULL, force_always, force_unless_rwx };

static bool is_hyp(void)
{
	return config.stage == 1;
}

static u64 root_pages(void)
{
	return is_hyp() ? 1 : root_size(mmu) / PAGE_SIZE;
}

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
	*vtcr_of(mmu) = kvm_get_vtcr(mmfr0, mmfr1, config.ia_bits);
	mmu->pgt = &pgt;
	flags = (config.nofwb ? KVM_PGTABLE_S2_NOFWB : 0) | (config.idmap ? KVM_PGTABLE_S2_IDMAP : 0);
	return __kvm_pgtable_stage2_init(&pgt, mmu, &mm_ops, flags, force_pte_cbs[config.force_pte]);
}

static s64 op_init(const struct args_init *args)
{
	int ret = is_hyp() ? kvm_pgtable_hyp_init(&pgt, config.va_bits, &mm_ops) : init_stage2();

	if (ret)
		return ret;
	mmu->pgd_phys = pool_to_phys((void *)pgt.pgd);
	op_out(*vtcr_of(mmu));
	op_out(pgt.ia_bits);
	op_out(pgt.start_level);
	op_out(root_pages());
	return 0;
}

/* Linux has had a cache's objects in it and apart from it (as the shim's headers do). */
static void cache_reset(struct kvm_mmu_memory_cache *cache, void **objects)
{
	memset(cache, 0, sizeof(*cache));
	if (__builtin_types_compatible_p(__typeof__(cache->objects), void **))
		memcpy(&cache->objects, &objects, sizeof(objects));
}

static int top_up(struct kvm_mmu_memory_cache *cache, u64 pages)
{
	while (cache->nobjs < pages) {
		u64 pa = pool_alloc();

		if (pa == NO_PAGE)
			return -ENOMEM;
		cache->objects[cache->nobjs++] = pool_to_virt(pa);
	}
	return 0;
}

/* `arg` is 0 for no memcache, else one more than the pages it is to hold (as user_mem_abort() tops it up first). */
static int choose_memcache(u64 arg, struct kvm_mmu_memory_cache **cache)
{
	*cache = arg ? &memcache : NULL;
	return arg ? top_up(&memcache, arg - 1) : 0;
}

#if S2FUZZ_HAS_map
static s64 op_map(const struct args_map *args)
{
	struct kvm_mmu_memory_cache *cache;

	return choose_memcache(args->mc, &cache) ?:
#if S2FUZZ_HAS_MAP_FLAGS
	       kvm_pgtable_stage2_map(&pgt, args->ipa, args->size, args->phys, args->prot, cache, args->flags);
#else
	       kvm_pgtable_stage2_map(&pgt, args->ipa, args->size, args->phys, args->prot, cache);
#endif
}
#endif

#if S2FUZZ_HAS_unmap
static s64 op_unmap(const struct args_unmap *args)
{
	return kvm_pgtable_stage2_unmap(&pgt, args->ipa, args->size);
}
#endif

#if S2FUZZ_HAS_set_owner
static s64 op_set_owner(const struct args_set_owner *args)
{
	struct kvm_mmu_memory_cache *cache;

	return choose_memcache(args->mc, &cache) ?:
	       kvm_pgtable_stage2_set_owner(&pgt, args->ipa, args->size, cache, args->owner);
}
#endif

#if S2FUZZ_HAS_get_leaf
static s64 op_get_leaf(const struct args_get_leaf *args)
{
	kvm_pte_t pte;
#if S2FUZZ_HAS_SIGNED_LEVELS
	s8 level;
#else
	u32 level;
#endif
	int ret = kvm_pgtable_get_leaf(&pgt, args->ipa, &pte, &level);

	if (ret)
		return ret;
	op_out(pte);
	op_out(level);
	return 0;
}
#endif

#define VISITOR(name, number) visitor_##name = number,
enum visitor_action { S2FUZZ_VISITORS(VISITOR) };

struct visitor {
	enum visitor_action action;
	u64 nth, visits;
};

/* What a walk's visitor does besides recording the visit. */
static int act(kvm_pte_t *ptep, s8 level, enum visitor_action action)
{
	switch (action) {
	case visitor_clear:
		fault_plant(ptep, level, 0);
		break;
	case visitor_lock:
		fault_plant(ptep, level, KVM_INVALID_PTE_LOCKED);
		break;
	case visitor_table:
		if (level != KVM_PGTABLE_LAST_LEVEL)
			fault_plant(ptep, level, 3);
		break;
	case visitor_eagain:
		return -EAGAIN;
	case visitor_enomem:
		return -ENOMEM;
	case visitor_einval:
		return -EINVAL;
	case visitor_e2big:
		return -E2BIG;
	case visitor_look:
		break;
	}
	return 0;
}

static int record_visit(struct visitor *visitor, u64 visit, s8 level, u64 addr, kvm_pte_t *ptep, kvm_pte_t pte)
{
	count_boundary();
	op_out(visit);
	op_out(level);
	op_out(addr);
	op_out(pte);
	visitor->visits++;
	return visitor->nth && visitor->nth != visitor->visits ? 0 : act(ptep, level, visitor->action);
}

#if S2FUZZ_HAS_VISIT_CTX
static int visit(const struct kvm_pgtable_visit_ctx *ctx, enum kvm_pgtable_walk_flags flag)
{
	return record_visit(ctx->arg, flag, ctx->level, ctx->addr, ctx->ptep, ctx->old);
}
#else
static int visit(u64 addr, u64 end, u32 level, kvm_pte_t *ptep, enum kvm_pgtable_walk_flags flag, void *const arg)
{
	return record_visit(arg, flag, level, addr, ptep, *ptep);
}
#endif

#if S2FUZZ_HAS_walk
static s64 op_walk(const struct args_walk *args)
{
	struct visitor visitor = {
		.action = args->visitor & ((1 << S2FUZZ_VISITOR_BITS) - 1),
		.nth = args->visitor >> S2FUZZ_VISITOR_BITS,
	};
	struct kvm_pgtable_walker walker = { .cb = visit, .flags = args->flags, .arg = &visitor };

	return kvm_pgtable_walk(&pgt, args->ipa, args->size, &walker);
}
#endif

#if S2FUZZ_HAS_destroy
static s64 op_destroy(const struct args_destroy *args)
{
	if (is_hyp())
		kvm_pgtable_hyp_destroy(&pgt);
	else
		kvm_pgtable_stage2_destroy(&pgt);
	return 0;
}
#endif

#if S2FUZZ_HAS_hyp_map
static s64 op_hyp_map(const struct args_hyp_map *args)
{
	return kvm_pgtable_hyp_map(&pgt, args->va, args->size, args->phys, args->prot);
}
#endif

#if S2FUZZ_HAS_hyp_unmap
static s64 op_hyp_unmap(const struct args_hyp_unmap *args)
{
	op_out(kvm_pgtable_hyp_unmap(&pgt, args->va, args->size));
	return 0;
}
#endif

#if S2FUZZ_HAS_hyp_pte_prot
static s64 op_hyp_pte_prot(const struct args_hyp_pte_prot *args)
{
	op_out(kvm_pgtable_hyp_pte_prot(args->pte));
	return 0;
}
#endif

#if S2FUZZ_HAS_wrprotect
static s64 op_wrprotect(const struct args_wrprotect *args)
{
	return kvm_pgtable_stage2_wrprotect(&pgt, args->ipa, args->size);
}
#endif

#if S2FUZZ_HAS_mkyoung
static s64 op_mkyoung(const struct args_mkyoung *args)
{
	op_out(kvm_pgtable_stage2_mkyoung(&pgt, args->ipa));
	return 0;
}
#endif

#if S2FUZZ_HAS_test_clear_young
static s64 op_test_clear_young(const struct args_test_clear_young *args)
{
	op_out(kvm_pgtable_stage2_test_clear_young(&pgt, args->ipa, args->size, args->mkold));
	return 0;
}
#endif

#if S2FUZZ_HAS_mkold
static s64 op_mkold(const struct args_mkold *args)
{
	op_out(kvm_pgtable_stage2_mkold(&pgt, args->ipa));
	return 0;
}
#endif

#if S2FUZZ_HAS_is_young
static s64 op_is_young(const struct args_is_young *args)
{
	op_out(kvm_pgtable_stage2_is_young(&pgt, args->ipa));
	return 0;
}
#endif

#if S2FUZZ_HAS_relax_perms
static s64 op_relax_perms(const struct args_relax_perms *args)
{
	return kvm_pgtable_stage2_relax_perms(&pgt, args->ipa, args->prot);
}
#endif

#if S2FUZZ_HAS_flush
static s64 op_flush(const struct args_flush *args)
{
	return kvm_pgtable_stage2_flush(&pgt, args->ipa, args->size);
}
#endif

#if S2FUZZ_HAS_tlb_flush_vmid_range
static s64 op_tlb_flush_vmid_range(const struct args_tlb_flush_vmid_range *args)
{
	kvm_tlb_flush_vmid_range(mmu, args->ipa, args->size);
	return 0;
}
#endif

#if S2FUZZ_HAS_flush_cpu_context
static s64 op_flush_cpu_context(const struct args_flush_cpu_context *args)
{
	__kvm_flush_cpu_context(mmu);
	return 0;
}
#endif

#if S2FUZZ_HAS_flush_vm_context
static s64 op_flush_vm_context(const struct args_flush_vm_context *args)
{
	__kvm_flush_vm_context();
	return 0;
}
#endif

#if S2FUZZ_HAS_pte_prot
static s64 op_pte_prot(const struct args_pte_prot *args)
{
	op_out(kvm_pgtable_stage2_pte_prot(args->pte));
	return 0;
}
#endif

#if S2FUZZ_HAS_split
/* The visitor finds the MMU by where its cache is, so that no other will do. */
static s64 op_split(const struct args_split *args)
{
	return top_up(split_cache, args->mc) ?:
	       kvm_pgtable_stage2_split(&pgt, args->ipa, args->size, split_cache);
}
#endif

#if S2FUZZ_HAS_create_unlinked
static s64 op_create_unlinked(const struct args_create_unlinked *args)
{
	struct kvm_mmu_memory_cache *cache;
	struct unlinked *made;
	kvm_pte_t *table;
	int ret;

	if (unlinked_made == S2FUZZ_MAX_UNLINKED) /* by hand, in the shell */
		return -ENFILE;
	made = &unlinked[unlinked_made++];
	made->table = NULL;
	ret = choose_memcache(args->mc, &cache);
	if (ret)
		return ret;
	table = kvm_pgtable_stage2_create_unlinked(&pgt, args->phys, args->level, args->prot, cache, args->force_pte);
	if (IS_ERR(table))
		return PTR_ERR(table);
	made->table = table;
	made->level = args->level;
	op_out(made - unlinked);
	return 0;
}
#endif

#if S2FUZZ_HAS_free_unlinked
static s64 op_free_unlinked(const struct args_free_unlinked *args)
{
	kvm_pte_t *table = args->table < unlinked_made ? unlinked[args->table].table : NULL;

	if (!table)
		return -EBADF;
	unlinked[args->table].table = NULL;
	kvm_pgtable_stage2_free_unlinked(&mm_ops, table, unlinked[args->table].level);
	return 0;
}
#endif

#if S2FUZZ_HAS_get_vtcr
static s64 op_get_vtcr(const struct args_get_vtcr *args)
{
	op_out(kvm_get_vtcr(args->mmfr0, args->mmfr1, args->phys_shift));
	return 0;
}
#endif

#if S2FUZZ_HAS_pgd_size
/* What C does not say is not asked: shifts by 64 and more. */
static s64 op_pgd_size(const struct args_pgd_size *args)
{
	s8 start_level = VTCR_EL2_TGRAN_SL0_BASE - FIELD_GET(VTCR_EL2_SL0_MASK, args->vtcr);

	if (VTCR_EL2_IPA(args->vtcr) == 64 || kvm_granule_shift(start_level - 1) >= 64)
		return -EINVAL;
	op_out(kvm_pgtable_stage2_pgd_size(args->vtcr));
	return 0;
}
#endif

static s64 op_fail_alloc(const struct args_fail_alloc *args)
{
	fault_fail_alloc(args->nth);
	return 0;
}

static s64 op_plant(const struct args_plant *args)
{
	kvm_pte_t *ptep;

	return fault_locate(&pgt, args->ipa, args->level, &ptep) ?: fault_plant(ptep, args->level, args->pte);
}

#if S2FUZZ_HAS_race
static s64 op_race(const struct args_race *args)
{
	fault_race(&pgt, args->nth, args->pte);
	return 0;
}
#endif

#if S2FUZZ_HAS_link
static s64 op_link(const struct args_link *args)
{
	struct unlinked *made = args->table < unlinked_made ? &unlinked[args->table] : NULL;
	kvm_pte_t *ptep;
	s64 ret;

	if (!made || !made->table)
		return -EBADF;
	ret = fault_locate(&pgt, args->ipa, made->level, &ptep);
	if (ret)
		return ret;
	fault_write(ptep, kvm_phys_to_pte(pool_to_phys(made->table)) | 3);
	made->table = NULL;
	return 0;
}
#endif

static s64 run_op(u64 number, const u64 *args)
{
	switch (number) {
#define CASE(number, name, count, stages) case number: return op_##name((const void *)args);
	S2FUZZ_OPS_HERE(CASE)
	}
	return -ENOSYS;
}

bool table_has(u64 number)
{
	switch (number) {
#define HAS(number, name, count, stages) case number:
	S2FUZZ_OPS_HERE(HAS)
		return true;
	}
	return false;
}

static bool read_args(struct reader *reader, u64 number, u64 *args)
{
	u64 expected, allowed;

	switch (number) {
#define COUNT(number, name, count, stages) case number: expected = count; allowed = stages; break;
	S2FUZZ_OPS_HERE(COUNT)
	default:
		return false;
	}
	if (!(allowed & BIT(config.stage)))
		return false;
	for (u64 i = 0; i < expected; i++)
		args[i] = read_scaled(reader);
	return !reader->bad;
}

/* Runs one op. False: the program ends here, for its budget is spent or there is no table to work on. */
static bool observe_op(u64 number, const u64 *args)
{
	s64 ret;

	op_begin(number);
	if (op_enter(&op_exit)) {
		op_end(true, 0);
		return false;
	}
	ret = run_op(number, args);
	services_op_ends();
	op_end(false, ret);
	return number != S2FUZZ_OP_INIT || !ret;
}

static void observe_cache(const struct kvm_mmu_memory_cache *cache)
{
	observe_word(cache->nobjs);
	for (int i = 0; i < cache->nobjs; i++)
		observe_word(pool_to_phys(cache->objects[i]));
}

static void observe_unlinked(void)
{
	u64 kept = 0;

	for (u64 i = 0; i < unlinked_made; i++)
		kept += unlinked[i].table != NULL;
	observe_word(kept);
	for (u64 i = 0; i < unlinked_made; i++) {
		if (!unlinked[i].table)
			continue;
		observe_word(i);
		observe_word(pool_to_phys(unlinked[i].table));
		observe_word(unlinked[i].level);
	}
}

static void observe_state(void)
{
	struct pool_page page = { .index = NO_PAGE };

	observe_word(0);
	pool_check_poison();
	observe_complaints();
	observe_word(pgt.pgd ? pool_to_phys((void *)pgt.pgd) : NO_PAGE);
	observe_word(pgt.pgd ? root_pages() : 0);
	observe_word(pool_allocs());
	observe_word(pool_frees());
	observe_cache(&memcache);
	observe_cache(split_cache);
	observe_unlinked();
	observe_word(pool_in_use());
	while (pool_next_used(&page)) {
		observe_word(page.pa);
		observe_word(page.refcount);
		observe_words(page.words, WORDS_PER_PAGE);
	}
}

/* Nothing survives a program: hosted data, ours, capabilities and the pool start afresh. */
static void reset(void)
{
	hosted_restore();
	memset(&pgt, 0, sizeof(pgt));
	memset(mmu, 0, sizeof(*mmu));
#if !S2FUZZ_HAS_MMU_VTCR
	arch.vtcr = 0;
	mmu->arch = &arch;
#endif
	context_reset(config.kvm_mode, config.vcpu, config.vmid, config.vmid_bits ? 16 : 8);
	cache_reset(&memcache, memcache_objects);
	cache_reset(split_cache, split_cache_objects);
	unlinked_made = 0;
	s2fuzz_machine.fwb = config.fwb;
	s2fuzz_machine.tlb_range = config.tlb_range;
	s2fuzz_machine.hw_af = config.hw_af;
	s2fuzz_machine.ac03_cpu_38 = config.ac03_cpu_38;
	s2fuzz_machine.ttl = config.ttl;
	s2fuzz_machine.cnp = config.cnp;
	s2fuzz_machine.repeat_tlbi = config.repeat_tlbi;
	s2fuzz_machine.lpa2 = config.lpa2;
	s2fuzz_machine.pa_bits_52 = config.pa_bits_52;
	s2fuzz_machine.bti = config.bti;
	s2fuzz_machine.hvhe = config.hvhe;
	alternatives_reset();
	pool_reset(config.pool_base, config.pool_pages);
	boundary_reset(config.budget);
	boundary_offer(config.cmos == 0 || config.cmos == 1, config.cmos == 0 || config.cmos == 2,
		       config.page_count || config.stage == 2);
	faults_reset();
}

static bool read_config(struct reader *reader)
{
	u64 given = read_varint(reader);

#define READ_KNOB(name, initial)					\
	config.name = given & 1 ? read_scaled(reader) : initial;	\
	given >>= 1;
	S2FUZZ_KNOBS(READ_KNOB)
	return !reader->bad && config.pool_pages <= POOL_MAX_PAGES && config.budget <= S2FUZZ_MAX_BUDGET &&
	       config.force_pte < sizeof(force_pte_cbs) / sizeof(force_pte_cbs[0]) &&
	       config.stage >= 1 && config.stage <= 2 && config.granule == S2FUZZ_GRANULE;
}

/* `s2fuzz debug` stops here: gdb sets the variable to go on. */
volatile u64 debugger_released;

static noinline void wait_for_debugger(void)
{
	while (!debugger_released)
		asm volatile("yield" ::: "memory");
	debugger_released = 0;
}

bool program_run(struct reader *reader, bool in_full, u64 stop_before)
{
	u64 args[S2FUZZ_MAX_ARGS], number = S2FUZZ_OP_INIT;

	if (!read_config(reader))
		return false;
	reset();
	observe_begin(in_full);
	for (u64 record = 0;; record++) {
		if (record == stop_before)
			wait_for_debugger();
		if (!observe_op(number, args) || reader->at == reader->end)
			break;
		number = read_varint(reader);
		if (!read_args(reader, number, args))
			return false;
	}
	observe_state();
	return true;
}

void table_reset(const u64 *knobs)
{
	memcpy(&config, knobs, sizeof(config));
	reset();
}

bool table_op(u64 number, const u64 *args)
{
	boundary_reset(config.budget);
	return observe_op(number, args);
}

u64 table_stage(void)
{
	return config.stage;
}
