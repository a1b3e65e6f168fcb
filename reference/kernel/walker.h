/* SPDX-License-Identifier: GPL-2.0-only */
/* walker.c: a table as the architecture has it walked (Arm ARM, D8.2 to D8.5). */
#ifndef S2FUZZ_WALKER_H
#define S2FUZZ_WALKER_H

#include "kernel.h"

/* What a stage of translation goes by. */
struct regime {
	u64 root;
	u64 input_bits, output_bits;
	s64 start_level;
	u64 page_shift;
	bool ds; /* 52-bit descriptors of 4K and 16K pages */
	bool sets_access_flag;
	bool stage1;
};

/* From VTCR_EL2. False: the architecture does not define such a stage 2, or QEMU does not have it; guests have more addresses
 * than the machine has physical ones, which KVM refuses; or its pages are not of this kernel's granule. */
bool regime_of_vtcr(struct regime *regime, u64 vtcr, u64 root);

/* Hyp's stage 1, for so many bits of virtual address; `parange` as TCR_EL2.PS has it. */
bool regime_of_hyp(struct regime *regime, u64 va_bits, u64 parange, bool ds, u64 root);

enum access { ACCESS_READ, ACCESS_WRITE, ACCESS_EXEC };

/* WALK_OUTSIDE: a table is not in the pool, so that nobody may walk it. */
enum walk_end { WALK_PA, WALK_TRANSLATION, WALK_ADDRESS_SIZE, WALK_ACCESS_FLAG, WALK_PERMISSION, WALK_OUTSIDE };

struct walk {
	enum walk_end end;
	u64 pa;	      /* of WALK_PA */
	bool is_young; /* it met an entry that translates, whose access flag is 0 */
	u64 entry, entry_pa; /* the last entry that it met, and where that is */
};

/* As EL1 reads, writes or executes there. Of stage 1, whose permissions are others, only WALK_OUTSIDE counts. */
struct walk walk(const struct regime *regime, u64 address, enum access access);

/* What the entry holds now. */
u64 walk_entry(const struct walk *walk);

/* Take back what the hardware has done to the entry since. */
void walk_restore(const struct walk *walk);

#endif
