/* SPDX-License-Identifier: GPL-2.0-only */
/* One CPU: nothing here takes a lock. */
#ifndef S2FUZZ_NVHE_SPINLOCK_H
#define S2FUZZ_NVHE_SPINLOCK_H

typedef struct hyp_spinlock {
	unsigned int unused;
} hyp_spinlock_t;

#endif
