/* SPDX-License-Identifier: GPL-2.0-only */
/* May be included; nothing but what pgtable.h has of it is provided. Page-table code allocates through its mm_ops. */
#ifndef S2FUZZ_LINUX_SLAB_H
#define S2FUZZ_LINUX_SLAB_H
#include <linux/pgtable.h>
#endif
