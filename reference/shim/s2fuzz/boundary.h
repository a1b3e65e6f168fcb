/* SPDX-License-Identifier: GPL-2.0-only */
/* What hosted code does that is neither a call of mm_ops nor of another file of Linux: boundary.c counts and records it. */
#ifndef S2FUZZ_HOSTED_BOUNDARY_H
#define S2FUZZ_HOSTED_BOUNDARY_H

#include <linux/types.h>

enum s2fuzz_store { S2FUZZ_STORE_PLAIN, S2FUZZ_STORE_RELEASE, S2FUZZ_STORE_CMPXCHG };

void s2fuzz_pte_store(const volatile void *ptep, u64 value, enum s2fuzz_store kind);

/* An instruction's kind (of event) and number, and its register: see kernel/instructions.inc. */
void s2fuzz_record_instruction(u64 what, u64 operand);

void s2fuzz_warn(const char *function, const void *pc);
void __attribute__((noreturn)) s2fuzz_bug(void);

#endif
