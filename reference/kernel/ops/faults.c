// SPDX-License-Identifier: GPL-2.0-only
/* What a program lets go wrong (faults.c). */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"

s64 op_fail_alloc(const struct args_fail_alloc *args)
{
	fault_fail_alloc(args->nth);
	return 0;
}

s64 op_plant(const struct args_plant *args)
{
	kvm_pte_t *ptep;

	return fault_locate(under_test->pgt, args->ipa, args->level, &ptep) ?: fault_plant(ptep, args->level, args->pte);
}

#if S2FUZZ_HAS_race
s64 op_race(const struct args_race *args)
{
	fault_race(args->nth, args->pte);
	return 0;
}
#endif
