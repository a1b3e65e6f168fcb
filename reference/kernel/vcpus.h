/* SPDX-License-Identifier: GPL-2.0-only */
/* ops/vcpu.c: which vCPU each CPU has loaded, and under which MMU. */
#ifndef S2FUZZ_VCPUS_H
#define S2FUZZ_VCPUS_H

#include "under_test.h"

/* No CPU has any. */
void vcpus_reset(void);

/* Whether any CPU has one; one under that MMU; and one of that VM. */
bool vcpus_are_loaded(void);
bool vcpu_is_loaded_under(const struct under_test *mmu);
bool vcpu_is_loaded_of(u64 vm);

/* Which one the CPU that runs has under the MMU in use. 0 or -errno. */
s64 vcpu_running(u64 *vcpu);

#endif
