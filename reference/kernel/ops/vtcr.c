// SPDX-License-Identifier: GPL-2.0-only
/* The shape of a stage 2: VTCR_EL2 and the size of its root. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"

#if S2FUZZ_HAS_get_vtcr
s64 op_get_vtcr(const struct args_get_vtcr *args)
{
	op_out(kvm_get_vtcr(args->mmfr0, args->mmfr1, args->phys_shift));
	return 0;
}
#endif

#if S2FUZZ_HAS_pgd_size
/* What C does not say is not asked: shifts by 64 and more. */
s64 op_pgd_size(const struct args_pgd_size *args)
{
	s8 start_level = VTCR_EL2_TGRAN_SL0_BASE - FIELD_GET(VTCR_EL2_SL0_MASK, args->vtcr);

	if (VTCR_EL2_IPA(args->vtcr) == 64 || kvm_granule_shift(start_level - 1) >= 64)
		return -EINVAL;
	op_out(kvm_pgtable_stage2_pgd_size(args->vtcr));
	return 0;
}
#endif
