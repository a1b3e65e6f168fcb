// SPDX-License-Identifier: GPL-2.0-only
/* clang's coverage counters lie where the host finds them (link.ld), so what would register them has nothing to do. */
#include "kernel.h"

void __sanitizer_cov_8bit_counters_init(u8 *start, u8 *stop);
void __sanitizer_cov_8bit_counters_init(u8 *start, u8 *stop)
{
}

void __sanitizer_cov_pcs_init(const u64 *start, const u64 *stop);
void __sanitizer_cov_pcs_init(const u64 *start, const u64 *stop)
{
}
