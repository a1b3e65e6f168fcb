// SPDX-License-Identifier: GPL-2.0-only
/* A walk whose visitor records each visit, and at one of them, or at all, does something. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"

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
s64 op_walk(const struct args_walk *args)
{
	struct visitor visitor = {
		.action = args->visitor & ((1 << S2FUZZ_VISITOR_BITS) - 1),
		.nth = args->visitor >> S2FUZZ_VISITOR_BITS,
	};
	struct kvm_pgtable_walker walker = { .cb = visit, .flags = args->flags, .arg = &visitor };

	return kvm_pgtable_walk(under_test->pgt, args->ipa, args->size, &walker);
}
#endif
