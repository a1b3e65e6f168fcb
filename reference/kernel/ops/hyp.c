// SPDX-License-Identifier: GPL-2.0-only
/* Hyp's own stage 1. */
#define S2FUZZ_HOSTED_SIDE
#include "ops.h"

#if S2FUZZ_HAS_hyp_map
s64 op_hyp_map(const struct args_hyp_map *args)
{
	return kvm_pgtable_hyp_map(under_test->pgt, args->va, args->size, args->phys, args->prot);
}
#endif

#if S2FUZZ_HAS_hyp_unmap
s64 op_hyp_unmap(const struct args_hyp_unmap *args)
{
	op_out(kvm_pgtable_hyp_unmap(under_test->pgt, args->va, args->size));
	return 0;
}
#endif

#if S2FUZZ_HAS_hyp_pte_prot
s64 op_hyp_pte_prot(const struct args_hyp_pte_prot *args)
{
	op_out(kvm_pgtable_hyp_pte_prot(args->pte));
	return 0;
}
#endif
