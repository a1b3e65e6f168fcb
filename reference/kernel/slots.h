/* SPDX-License-Identifier: GPL-2.0-only */
/* slots.c: MMUs by number, for memslots.c and Linux's functions behind it. */
#ifndef S2FUZZ_SLOTS_H
#define S2FUZZ_SLOTS_H

#include "kernel.h"

void slots_flush_vmid(u64 mmu);
void slots_flush_range(u64 mmu, u64 start, u64 size);
int slots_split(u64 addr, u64 size);
u64 slots_cache_level(void);
void slots_cache_drain(void);
int slots_cache_top_up(u64 capacity, u64 min);

#endif
