/* SPDX-License-Identifier: GPL-2.0-only */
/* The tree's own, but for the TLBI instruction, which is recorded with its operand. What the tree's inline functions
 * issue is not caught: of these hosted files call only __tlbi_sync_s1ish_hyp(), which issues none without the
 * workaround ARM64_WORKAROUND_REPEAT_TLBI. */
#ifndef S2FUZZ_ASM_TLBFLUSH_H
#define S2FUZZ_ASM_TLBFLUSH_H

#include_next <asm/tlbflush.h>

#ifndef __ASSEMBLY__
void s2fuzz_tlbi(const char *op, u64 operand);

#undef __tlbi
#define __tlbi(op, ...) S2FUZZ_TLBI(op, ##__VA_ARGS__, 0)
#define S2FUZZ_TLBI(op, operand, ...) s2fuzz_tlbi(#op, operand)
#endif

#endif
