// SPDX-License-Identifier: GPL-2.0-only
/* What clang calls from hosted files built with -fsanitize=undefined. Each report is a WARN-class event; the numbers
 * are those of harness/observation/layout.py. */
#include "kernel.h"

#define HANDLER(number, name)					\
	void __ubsan_handle_##name(void);			\
	void __ubsan_handle_##name(void)			\
	{							\
		op_complain(COMPLAINT_UBSAN, number, 0, CALL_SITE); \
	}

HANDLER(1, add_overflow)
HANDLER(2, sub_overflow)
HANDLER(3, mul_overflow)
HANDLER(4, negate_overflow)
HANDLER(5, divrem_overflow)
HANDLER(6, shift_out_of_bounds)
HANDLER(7, out_of_bounds)
HANDLER(8, pointer_overflow)
HANDLER(9, type_mismatch_v1)
HANDLER(10, load_invalid_value)
HANDLER(11, alignment_assumption)
HANDLER(12, vla_bound_not_positive)
HANDLER(13, nonnull_arg)
HANDLER(14, nonnull_return_v1)
HANDLER(15, invalid_builtin)

void __ubsan_handle_builtin_unreachable(void);
void __ubsan_handle_builtin_unreachable(void)
{
	panic_at("UBSan: unreachable code was reached", CALL_SITE);
}

void __ubsan_handle_missing_return(void);
void __ubsan_handle_missing_return(void)
{
	panic_at("UBSan: a function ended without its return value", CALL_SITE);
}
