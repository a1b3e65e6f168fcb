/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree's, but for alternatives that a callback computes at boot. Of these, kern_hyp_va() has its instructions here; the
 * others stand in functions that nothing here calls, and are empty. */
#include_next <asm/alternative-macros.h>

#ifndef __ASSEMBLY__
#include <linux/stringify.h>
#include <s2fuzz/hyp_va.h>

#undef ALTERNATIVE_CB
#define ALTERNATIVE_CB(oldinstr, feature, cb) S2FUZZ_SECOND_OF(S2FUZZ_ALTERNATIVE_##cb, "", "")
#define S2FUZZ_SECOND_OF(...) S2FUZZ_SECOND(__VA_ARGS__)
#define S2FUZZ_SECOND(first, second, ...) second

/* kern_hyp_va(): mask, then insert the tag, in one register. */
#define S2FUZZ_ALTERNATIVE_kvm_update_va_mask ,					\
	"and %0, %0, #" __stringify(S2FUZZ_HYP_VA_MASK) "\n"			\
	"orr %0, %0, #" __stringify(S2FUZZ_HYP_VA_TAG) "\n"
#endif
