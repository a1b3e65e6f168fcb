// SPDX-License-Identifier: GPL-2.0-only
/* What clang calls from hosted files built with -fsanitize=undefined. Each report is a WARN-class event, as
 * harness/observation/layout.py numbers it. */
#include "kernel.h"

#define HANDLER(name, number)					\
	void __ubsan_handle_##name(void);			\
	void __ubsan_handle_##name(void)			\
	{							\
		op_complain(COMPLAINT_UBSAN, number, 0, CALL_SITE); \
	}
S2FUZZ_UBSAN_HANDLERS(HANDLER)

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
